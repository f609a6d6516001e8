use std::path::Path;

use super::*;
use crate::policy::NameEntry;

fn none() -> NameTable {
    NameTable::default()
}

fn table(yaml: &str) -> Arc<NameTable> {
    Arc::new(config::parse_names(yaml, Path::new("names.yaml"), &none(), None).unwrap())
}

fn open(config: &config::Directory) -> Directory {
    Directory::open(config, &Arc::default()).unwrap()
}

fn directory(yaml: &str) -> Directory {
    open(&config::Directory {
        names: table(yaml),
        ..config::Directory::default()
    })
}

const ACME: &str = "
orgs: [ { slug: acme, id: 1, aliases: [ D307G1NJ== ] }, { slug: beta, id: 2 } ]
apps: [ { name: web, id: 7, org: acme, aliases: [ QXBw ] }, { name: shop, id: 8, org: D307G1NJ== } ]
machines: [ { id: m1, app: web } ]
volumes: [ { id: v1, app: QXBw } ]
clusters: [ { name: pg, org: acme }, { name: both, org: acme }, { name: both, org: beta } ]
objects:
  - { kind: release, id: r1, app: web }
  - { kind: postgres, id: r1, org: beta }
";

#[test]
fn everything_is_found_by_its_name_its_alias_or_its_id() {
    let directory = directory(ACME);
    let none = none();
    let view = directory.view(&none);
    let web = AppIds { app: 7, org: 1 };
    assert_eq!(view.org("acme"), Found::Known(1));
    assert_eq!(view.org("D307G1NJ=="), Found::Known(1));
    assert_eq!(view.app("web"), Found::Known(web));
    assert_eq!(view.app("QXBw"), Found::Known(web));
    assert_eq!(view.app("shop"), Found::Known(AppIds { app: 8, org: 1 }));
    assert_eq!(view.machine("m1"), Found::Known(web));
    assert_eq!(view.volume("v1"), Found::Known(web));
    assert_eq!(view.cluster_org("pg"), Found::Known(1));
    assert_eq!(view.object("release", "r1"), Found::Known(Owner::App(web)));
    assert_eq!(view.object("postgres", "r1"), Found::Known(Owner::Org(2)));
}

#[test]
fn an_app_that_is_called_by_the_number_of_another_is_not_that_one() {
    let directory = directory(
        "orgs: [ { slug: acme, id: 1 }, { slug: beta, id: 2 } ]
apps: [ { name: web, id: 7, org: acme }, { name: 7, id: 8, org: beta } ]",
    );
    let none = none();
    let view = directory.view(&none);
    let web = AppIds { app: 7, org: 1 };
    let called = AppIds { app: 8, org: 2 };
    assert_eq!(view.app("7"), Found::Known(called));
    assert_eq!(view.app_numbered(7), Found::Known(web));
    assert_eq!(view.app("8"), Found::Absent);
    assert_eq!(view.app_numbered(8), Found::Known(called));
    assert_eq!(view.app_numbered(9), Found::Absent);
}

#[test]
fn what_is_of_another_kind_is_absent() {
    let directory = directory(ACME);
    let none = none();
    let view = directory.view(&none);
    assert_eq!(view.org("web"), Found::Absent);
    assert_eq!(view.app("acme"), Found::Absent);
    assert_eq!(view.machine("v1"), Found::Absent);
    assert_eq!(view.volume("m1"), Found::Absent);
    assert_eq!(view.object("build", "r1"), Found::Absent);
}

#[test]
fn a_cluster_name_in_two_organizations_has_no_owner() {
    let directory = directory(ACME);
    assert_eq!(directory.view(&none()).cluster_org("both"), Found::Absent);
    assert_eq!(directory.view(&none()).cluster_org("other"), Found::Absent);
}

#[test]
fn personal_is_nobodys() {
    let mut table = NameTable::default();
    let slug = PERSONAL.into();
    table.add(NameEntry::Org { slug, id: 1 }).unwrap();
    let directory = open(&config::Directory {
        names: Arc::new(table),
        ..config::Directory::default()
    });
    assert_eq!(directory.view(&none()).org(PERSONAL), Found::Absent);
}

#[test]
fn the_store_is_asked_where_the_configuration_has_nothing() {
    let stored = "
        orgs: [ { slug: acme, id: 99 }, { slug: gamma, id: 3 } ]
        apps: [ { name: web, id: 77, org: acme }, { name: api, id: 9, org: gamma } ]
        machines: [ { id: m9, app: api } ]
        clusters: [ { name: pg, org: gamma }, { name: only, org: gamma } ]";
    let stored = table(stored);
    let both = open(&config::Directory {
        names: table(ACME),
        store: true,
        ..config::Directory::default()
    });
    let view = both.view(&stored);
    assert_eq!(view.org("acme"), Found::Known(1), "the configuration's");
    assert_eq!(view.app("web"), Found::Known(AppIds { app: 7, org: 1 }));
    let api = AppIds { app: 9, org: 3 };
    assert_eq!(view.org("gamma"), Found::Known(3));
    assert_eq!(view.app("api"), Found::Known(api));
    assert_eq!(view.machine("m9"), Found::Known(api));
    assert_eq!(view.cluster_org("only"), Found::Known(3));
    assert_eq!(view.cluster_org("pg"), Found::Absent, "two have one");
    // Where the configuration does not want the store, nothing in it is a name.
    let fixed = directory(ACME);
    let view = fixed.view(&stored);
    assert_eq!(view.org("gamma"), Found::Absent);
    assert_eq!(view.machine("m9"), Found::Absent);
    assert_eq!(view.cluster_org("pg"), Found::Known(1));
}

#[test]
fn a_machine_in_the_store_follows_its_app_in_the_configuration() {
    let mut stored = NameTable::default();
    let (id, app) = ("m2".into(), 7);
    stored.add(NameEntry::Machine { id, app }).unwrap();
    let (id, app) = ("lost".into(), 70);
    stored.add(NameEntry::Machine { id, app }).unwrap();
    let directory = open(&config::Directory {
        names: table(ACME),
        store: true,
        ..config::Directory::default()
    });
    let view = directory.view(&stored);
    assert_eq!(view.machine("m2"), Found::Known(AppIds { app: 7, org: 1 }));
    assert_eq!(view.machine("lost"), Found::Absent);
}

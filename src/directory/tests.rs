use std::path::Path;

use super::*;
use crate::policy::NameEntry;

fn table(yaml: &str) -> Arc<NameTable> {
    let none = NameTable::default();
    Arc::new(config::parse_names(yaml, Path::new("names.yaml"), &none, None).unwrap())
}

fn directory(yaml: &str) -> Directory {
    Directory::open(&config::Directory {
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
    let view = directory.view();
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
fn what_is_of_another_kind_is_absent() {
    let directory = directory(ACME);
    let view = directory.view();
    assert_eq!(view.org("web"), Found::Absent);
    assert_eq!(view.app("acme"), Found::Absent);
    assert_eq!(view.machine("v1"), Found::Absent);
    assert_eq!(view.volume("m1"), Found::Absent);
    assert_eq!(view.object("build", "r1"), Found::Absent);
}

#[test]
fn a_cluster_name_in_two_organizations_has_no_owner() {
    let directory = directory(ACME);
    assert_eq!(directory.view().cluster_org("both"), Found::Absent);
    assert_eq!(directory.view().cluster_org("other"), Found::Absent);
}

#[test]
fn personal_is_nobodys() {
    let mut table = NameTable::default();
    let slug = PERSONAL.into();
    table.add(NameEntry::Org { slug, id: 1 }).unwrap();
    let directory = Directory {
        fixed: Arc::new(table),
    };
    assert_eq!(directory.view().org(PERSONAL), Found::Absent);
}

//! The static directory.

use std::collections::HashMap;

use super::{Node, Report, Section, items, read, scalar};
use crate::config::problem::Fault;
use crate::directory::Directory;
use crate::policy::{AppIds, Names as _, PERSONAL};

/// Compiles the section; problems are in the report.
pub(super) fn directory(node: Option<&Node>, report: &mut Report) -> Directory {
    let section = node.and_then(|n| Section::open(n, "`directory`", &KNOWN, &LATER, report));
    let Some(section) = section else {
        return Directory::default();
    };
    let public = section.read_or("public_names", false, report, scalar::boolean);
    let mut directory = Directory::new(public.unwrap_or_default());
    let mut slugs: HashMap<u64, String> = HashMap::new();
    for node in list(&section, "orgs", report) {
        add_org(node, &mut directory, &mut slugs, report);
    }
    let mut apps: HashMap<u64, String> = HashMap::new();
    for node in list(&section, "apps", report) {
        add_app(node, &mut directory, &slugs, &mut apps, report);
    }
    let app = |directory: &Directory, name: &str| directory.app(name).known();
    let part = |add: fn(&mut Directory, &str, AppIds) -> bool, noun| Part {
        key: "id",
        noun,
        parent: "app",
        parents: apps.values().cloned().collect(),
        resolve: app,
        add,
    };
    for node in list(&section, "machines", report) {
        part(Directory::add_machine, "a machine").add(node, &mut directory, report);
    }
    for node in list(&section, "volumes", report) {
        part(Directory::add_volume, "a volume").add(node, &mut directory, report);
    }
    let cluster = Part {
        key: "name",
        noun: "a cluster",
        parent: "org",
        parents: slugs.into_values().collect(),
        resolve: |directory: &Directory, slug: &str| directory.org(slug).known(),
        add: Directory::add_cluster,
    };
    for node in list(&section, "clusters", report) {
        cluster.add(node, &mut directory, report);
    }
    directory
}

const KNOWN: [&str; 6] = [
    "orgs",
    "apps",
    "machines",
    "volumes",
    "clusters",
    "public_names",
];

const LATER: [&str; 2] = ["http", "store"];

fn list<'d>(section: &Section<'d>, key: &str, report: &mut Report) -> &'d [Node] {
    let nodes = section
        .find(key)
        .and_then(|node| items(node, &format!("`{key}`"), report));
    nodes.unwrap_or_default()
}

fn add_org(
    node: &Node,
    directory: &mut Directory,
    slugs: &mut HashMap<u64, String>,
    report: &mut Report,
) {
    let Some(section) = Section::open(node, "an organization", &["slug", "id"], &[], report) else {
        return;
    };
    let slug = section.read("slug", report, |text| {
        if text == PERSONAL {
            let message = "`personal` means another organization for each user";
            return Err(Fault::new(message).hint("give the organization's own slug"));
        }
        scalar::id(text)
    });
    let id = numeric_id(&section, slugs, report);
    let (Some(slug), Some(id)) = (slug, id) else {
        return;
    };
    if directory.add_org(&slug, id) {
        slugs.insert(id, slug);
    } else {
        taken(&section, "slug", "the organization", &slug, report);
    }
}

fn add_app(
    node: &Node,
    directory: &mut Directory,
    slugs: &HashMap<u64, String>,
    apps: &mut HashMap<u64, String>,
    report: &mut Report,
) {
    let Some(section) = Section::open(node, "an app", &["name", "id", "org"], &[], report) else {
        return;
    };
    let name = section.read("name", report, scalar::id);
    let app = numeric_id(&section, apps, report);
    let known = || slugs.values().map(String::as_str);
    let org = section.read("org", report, |slug| {
        let org = directory.org(slug).known();
        org.ok_or_else(|| unknown("org", slug, known()))
    });
    let (Some(name), Some(app), Some(org)) = (name, app, org) else {
        return;
    };
    if directory.add_app(&name, AppIds { app, org }) {
        apps.insert(app, name);
    } else {
        taken(&section, "name", "the app", &name, report);
    }
}

/// Something that has one owner.
struct Part<R, T> {
    key: &'static str,
    noun: &'static str,
    parent: &'static str,
    parents: Vec<String>,
    resolve: R,
    add: fn(&mut Directory, &str, T) -> bool,
}

impl<R: Fn(&Directory, &str) -> Option<T>, T> Part<R, T> {
    fn add(&self, node: &Node, directory: &mut Directory, report: &mut Report) {
        let known = [self.key, self.parent];
        let Some(section) = Section::open(node, self.noun, &known, &[], report) else {
            return;
        };
        let id = section.read(self.key, report, scalar::id);
        let parents = || self.parents.iter().map(String::as_str);
        let parent = section.read(self.parent, report, |name| {
            (self.resolve)(directory, name).ok_or_else(|| unknown(self.parent, name, parents()))
        });
        let (Some(id), Some(parent)) = (id, parent) else {
            return;
        };
        if !(self.add)(directory, &id, parent) {
            taken(&section, self.key, self.noun, &id, report);
        }
    }
}

/// A numeric id that no other name has. 0 stands for collections.
fn numeric_id(
    section: &Section<'_>,
    taken: &HashMap<u64, String>,
    report: &mut Report,
) -> Option<u64> {
    let node = section.need("id", report)?;
    let id = read(node, report, scalar::numeric_id)?;
    if let Some(name) = taken.get(&id) {
        let fault = Fault::new(format!("`{name}` has the id {id} already"));
        report.error(node.id, fault);
        return None;
    }
    Some(id)
}

fn taken(section: &Section<'_>, key: &str, noun: &str, name: &str, report: &mut Report) {
    let at = section.find(key).map_or(section.id, |node| node.id);
    report.error(at, Fault::new(format!("{noun} `{name}` is given twice")));
}

fn unknown<'a>(key: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_unstable();
    // A directory may hold thousands; the list of all helps nobody.
    let fault = Fault::new(format!("the directory has no {key} `{name}`"));
    fault.suggest(name, known.into_iter().take(MAX_LISTED))
}

/// Names that are looked through for the one that was meant.
const MAX_LISTED: usize = 1000;

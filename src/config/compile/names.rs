//! Names with their ids, in the configuration and in documents to import.

use std::sync::Arc;

use super::{Compiler, Node, Report, Section, items, read, scalar};
use crate::config::Directory;
use crate::config::problem::Fault;
use crate::policy::{Holder, NameEntry, NameFault, NameTable, PERSONAL};

impl Compiler<'_> {
    /// Compiles the section `directory`.
    pub(super) fn directory(&mut self, node: Option<&Node>) -> Option<Directory> {
        let Some(node) = node else {
            return Some(Directory::default());
        };
        let known: Vec<&str> = LISTS.into_iter().chain(SETTINGS).collect();
        let section = Section::open(node, "`directory`", &known, &[], self.report)?;
        let public = section.read_or("public_names", false, self.report, scalar::boolean);
        let store = section.read_or("store", false, self.report, scalar::boolean);
        let http = match section.find("http") {
            Some(node) => self.http_directory(node).map(Some),
            None => Some(None),
        };
        let names = names(&section, &Others::default(), self.report);
        Some(Directory {
            public_names: public?,
            names: Arc::new(names),
            store: store?,
            http: http?,
        })
    }
}

/// Compiles a document of nothing but names; problems are in the report.
pub(super) fn document(root: &Node, others: &Others<'_>, report: &mut Report) -> NameTable {
    let section = Section::open(root, "a directory", &LISTS, &[], report);
    section.map_or_else(NameTable::default, |section| {
        names(&section, others, report)
    })
}

/// What there is besides the lists that are compiled.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::config) struct Others<'a> {
    /// The names of the configuration: they come first, so they must not be contradicted.
    pub(in crate::config) fixed: Option<&'a NameTable>,
    /// The names in the store.
    pub(in crate::config) stored: Option<&'a NameTable>,
}

impl<'a> Others<'a> {
    fn each(self) -> impl Iterator<Item = &'a NameTable> {
        self.stored.into_iter().chain(self.fixed)
    }
}

const LISTS: [&str; 6] = ["orgs", "apps", "machines", "volumes", "clusters", "objects"];

const SETTINGS: [&str; 3] = ["public_names", "store", "http"];

fn names(section: &Section<'_>, others: &Others<'_>, report: &mut Report) -> NameTable {
    let mut names = Names {
        table: NameTable::default(),
        others: *others,
        report,
    };
    names.each(section, "orgs", Names::org);
    names.each(section, "apps", Names::app);
    names.each(section, "machines", |names, node| {
        let entry = |id, app| NameEntry::Machine { id, app };
        names.part(node, "machine", NameTable::machine, entry);
    });
    names.each(section, "volumes", |names, node| {
        let entry = |id, app| NameEntry::Volume { id, app };
        names.part(node, "volume", NameTable::volume, entry);
    });
    names.each(section, "clusters", Names::cluster);
    names.each(section, "objects", Names::object);
    names.table
}

struct Names<'a> {
    table: NameTable,
    others: Others<'a>,
    report: &'a mut Report,
}

impl Names<'_> {
    fn each(&mut self, section: &Section<'_>, key: &str, read: impl Fn(&mut Self, &Node)) {
        let nodes = section
            .find(key)
            .and_then(|node| items(node, &format!("`{key}`"), self.report));
        for node in nodes.unwrap_or_default() {
            read(self, node);
        }
    }

    fn org(&mut self, node: &Node) {
        let known = ["slug", "id", "aliases"];
        let Some(section) = Section::open(node, "an organization", &known, &[], self.report) else {
            return;
        };
        let slug = section.read("slug", self.report, |text| {
            if text == PERSONAL {
                let message = "`personal` means another organization for each user";
                return Err(Fault::new(message).hint("give the organization's own slug"));
            }
            scalar::id(text)
        });
        let id = section.read("id", self.report, scalar::numeric_id);
        let aliases = self.aliases(&section);
        let (Some(slug), Some(id)) = (slug, id) else {
            return;
        };
        if let Some(fixed) = self.others.fixed {
            let same = fixed.org_name(id) == Some(&slug);
            let free = fixed.org(&slug).is_none() && fixed.org_name(id).is_none();
            if !same && !free {
                self.contradicts(&section, "slug", "organization", &slug);
                return;
            }
        }
        let entry = NameEntry::Org {
            slug: slug.as_str().into(),
            id,
        };
        if self.add(&section, "slug", "the organization", &slug, entry) {
            for (node, alias) in aliases {
                let entry = NameEntry::OrgAlias {
                    alias: alias.as_str().into(),
                    org: id,
                };
                let fixed = self.others.fixed.and_then(|fixed| fixed.org(&alias));
                self.add_alias(node, &alias, entry, fixed.is_some_and(|org| org != id));
            }
        }
    }

    fn app(&mut self, node: &Node) {
        let known = ["name", "id", "org", "aliases"];
        let Some(section) = Section::open(node, "an app", &known, &[], self.report) else {
            return;
        };
        let name = section.read("name", self.report, scalar::id);
        let id = section.read("id", self.report, scalar::numeric_id);
        let org = self.org_of(&section);
        let aliases = self.aliases(&section);
        let (Some(name), Some(id), Some(org)) = (name, id, org) else {
            return;
        };
        if let Some(fixed) = self.others.fixed {
            let same = fixed.app_name(id) == Some(&name) && fixed.app_org(id) == Some(org);
            let free = fixed.app(&name).is_none() && fixed.app_name(id).is_none();
            if !same && !free {
                self.contradicts(&section, "name", "app", &name);
                return;
            }
        }
        let entry = NameEntry::App {
            name: name.as_str().into(),
            id,
            org,
        };
        if self.add(&section, "name", "the app", &name, entry) {
            for (node, alias) in aliases {
                // Whatever looks for a name would find it, and might mean an app of that name.
                if alias.bytes().all(|byte| byte.is_ascii_digit()) {
                    let fault = Fault::new(format!("`{alias}` is no name but a number"));
                    let hint = "rules find an app by its `id` with `{ number: ... }`";
                    self.report.error(node.id, fault.hint(hint));
                    continue;
                }
                let entry = NameEntry::AppAlias {
                    alias: alias.as_str().into(),
                    app: id,
                };
                let fixed = self.others.fixed.and_then(|fixed| fixed.app(&alias));
                self.add_alias(node, &alias, entry, fixed.is_some_and(|ids| ids.app != id));
            }
        }
    }

    /// Something that belongs to one app.
    fn part(
        &mut self,
        node: &Node,
        noun: &str,
        known: fn(&NameTable, &str) -> Option<u64>,
        entry: impl Fn(Box<str>, u64) -> NameEntry,
    ) {
        let what = format!("a {noun}");
        let Some(section) = Section::open(node, &what, &["id", "app"], &[], self.report) else {
            return;
        };
        let id = section.read("id", self.report, scalar::id);
        let app = self.app_of(&section);
        let (Some(id), Some(app)) = (id, app) else {
            return;
        };
        let fixed = self.others.fixed.and_then(|fixed| known(fixed, &id));
        if fixed.is_some_and(|owner| owner != app) {
            self.contradicts(&section, "id", noun, &id);
        } else {
            let entry = entry(id.as_str().into(), app);
            self.add(&section, "id", &what, &id, entry);
        }
    }

    fn cluster(&mut self, node: &Node) {
        let noun = "a cluster";
        let Some(section) = Section::open(node, noun, &["name", "org"], &[], self.report) else {
            return;
        };
        let name = section.read("name", self.report, scalar::id);
        let org = self.org_of(&section);
        if let (Some(name), Some(org)) = (name, org) {
            let entry = NameEntry::Cluster {
                name: name.as_str().into(),
                org,
            };
            self.add(&section, "name", noun, &name, entry);
        }
    }

    fn object(&mut self, node: &Node) {
        let known = ["kind", "id", "app", "org"];
        let Some(section) = Section::open(node, "an object", &known, &[], self.report) else {
            return;
        };
        let kind = section.read("kind", self.report, scalar::name);
        let id = section.read("id", self.report, scalar::alias);
        let holder = match (section.find("app"), section.find("org")) {
            (Some(_), None) => self.app_of(&section).map(Holder::App),
            (None, Some(_)) => self.org_of(&section).map(Holder::Org),
            (Some(_), Some(_)) | (None, None) => {
                let message = "an object belongs either to an app or to an organization";
                let hint = "give one of `app` and `org`; an app tells its organization";
                self.report
                    .error(section.id, Fault::new(message).hint(hint));
                None
            }
        };
        let (Some(kind), Some(id), Some(holder)) = (kind, id, holder) else {
            return;
        };
        let fixed = self.others.fixed.and_then(|fixed| fixed.object(&kind, &id));
        if fixed.is_some_and(|owner| owner != holder) {
            self.contradicts(&section, "id", &kind, &id);
        } else {
            let noun = format!("the {kind}");
            let entry = NameEntry::Object {
                kind: kind.as_str().into(),
                id: id.as_str().into(),
                holder,
            };
            self.add(&section, "id", &noun, &id, entry);
        }
    }

    /// The organization that `org` names.
    fn org_of(&mut self, section: &Section<'_>) -> Option<u64> {
        let (table, others) = (&self.table, self.others);
        let tables = || std::iter::once(table).chain(others.each());
        section.read("org", self.report, |slug| {
            let known = tables().find_map(|table| table.org(slug));
            known.ok_or_else(|| {
                let slugs = tables().flat_map(NameTable::orgs);
                unknown("org", slug, slugs.map(|(slug, _)| slug))
            })
        })
    }

    /// The app that `app` names.
    fn app_of(&mut self, section: &Section<'_>) -> Option<u64> {
        let (table, others) = (&self.table, self.others);
        let tables = || std::iter::once(table).chain(others.each());
        section.read("app", self.report, |name| {
            let known = tables().find_map(|table| table.app(name));
            known.map(|ids| ids.app).ok_or_else(|| {
                let apps = tables().flat_map(NameTable::apps);
                unknown("app", name, apps.map(|(name, _)| name))
            })
        })
    }

    /// Other names, each with its place.
    fn aliases<'d>(&mut self, section: &Section<'d>) -> Vec<(&'d Node, String)> {
        let nodes = section
            .find("aliases")
            .and_then(|node| items(node, "`aliases`", self.report));
        let alias = |node| Some((node, read(node, self.report, scalar::alias)?));
        nodes.unwrap_or_default().iter().filter_map(alias).collect()
    }

    /// Whether the entry is taken in; if not, it is reported at `key`.
    fn add(
        &mut self,
        section: &Section<'_>,
        key: &str,
        noun: &str,
        name: &str,
        entry: NameEntry,
    ) -> bool {
        let at = |key| section.find(key).map_or(section.id, |node| node.id);
        match self.table.add(entry) {
            Ok(()) => return true,
            Err(NameFault::IdTaken(other)) => {
                let message = format!("`{other}` has that id already");
                self.report.error(at("id"), Fault::new(message));
            }
            Err(NameFault::NameTaken | NameFault::NoTarget) => {
                let message = format!("{noun} `{name}` is given twice");
                self.report.error(at(key), Fault::new(message));
            }
        }
        false
    }

    fn add_alias(&mut self, node: &Node, alias: &str, entry: NameEntry, taken: bool) {
        if taken || self.table.add(entry).is_err() {
            let message = format!("`{alias}` stands for something else already");
            self.report.error(node.id, Fault::new(message));
        }
    }

    fn contradicts(&mut self, section: &Section<'_>, key: &str, noun: &str, name: &str) {
        let at = section.find(key).map_or(section.id, |node| node.id);
        let message = format!("the configuration says something else about the {noun} `{name}`");
        let hint = "what is in the configuration comes first; change it there";
        self.report.error(at, Fault::new(message).hint(hint));
    }
}

fn unknown<'a>(key: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    // A directory may hold thousands; the list of all helps nobody.
    let fault = Fault::new(format!("the directory has no {key} `{name}`"));
    fault.suggest(name, known.into_iter().take(MAX_LISTED))
}

/// Names that are looked through for the one that was meant.
const MAX_LISTED: usize = 1000;

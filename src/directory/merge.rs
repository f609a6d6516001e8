//! A new document and the names that are there to one table, with what it changes.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use thiserror::Error;

use crate::policy::{Holder, NameEntry, NameTable};

/// How a document meets what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    /// What the document names replaces what is there under the same name or id; the rest stays.
    Merge,
    /// What the document does not name goes.
    Replace,
}

/// What an import changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<Key, Change>);

/// What happens to one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It stands for something else than before.
    Changed,
    /// It goes.
    Removed,
}

/// Why a document cannot be merged: names in the store would be left without their owner.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", Lines(.0))]
pub struct Orphans(Vec<String>);

/// Merges a document into the names of a store. `fixed` are those of the configuration, which
/// entries may belong to as well.
///
/// # Errors
///
/// When something that stays would belong to nothing.
pub fn merge(
    stored: &NameTable,
    document: &NameTable,
    import: Import,
    fixed: &NameTable,
) -> Result<(NameTable, Changes), Orphans> {
    let mut merged = document.clone();
    let stays = match import {
        Import::Merge => stored.entries(),
        Import::Replace => Vec::new(),
    };
    let mut orphans = Vec::new();
    for entry in stays {
        if !is_superseded(&entry, stored, document) && merged.add(entry.clone()).is_err() {
            orphans.push(format!("{} contradicts the document", Key::of(&entry)));
        }
    }
    let entries = merged.entries();
    orphans.extend(
        entries
            .iter()
            .filter_map(|entry| orphan(entry, &merged, fixed)),
    );
    if !orphans.is_empty() {
        return Err(Orphans(orphans));
    }
    let changes = Changes::between(stored, &merged);
    Ok((merged, changes))
}

/// Whether the document says something else, or the same, about what the entry is about. A name
/// with another id, or an id with another name, is the same thing, renumbered or renamed; and its
/// aliases are as the document says.
fn is_superseded(entry: &NameEntry, stored: &NameTable, document: &NameTable) -> bool {
    let org_is_named = |id: u64| {
        let slug = stored.org_name(id);
        document.org_name(id).is_some() || slug.is_some_and(|slug| document.org(slug).is_some())
    };
    let app_is_named = |id: u64| {
        let name = stored.app_name(id);
        document.app_name(id).is_some() || name.is_some_and(|name| document.app(name).is_some())
    };
    match entry {
        NameEntry::Org { id, .. } => org_is_named(*id),
        NameEntry::OrgAlias { alias, org } => org_is_named(*org) || document.org(alias).is_some(),
        NameEntry::App { id, .. } => app_is_named(*id),
        NameEntry::AppAlias { alias, app } => app_is_named(*app) || document.app(alias).is_some(),
        NameEntry::Machine { id, .. } => document.machine(id).is_some(),
        NameEntry::Volume { id, .. } => document.volume(id).is_some(),
        NameEntry::Cluster { name, .. } => !document.clusters(name).is_empty(),
        NameEntry::Object { kind, id, .. } => document.object(kind, id).is_some(),
    }
}

/// What is wrong where the owner of an entry is not known.
fn orphan(entry: &NameEntry, merged: &NameTable, fixed: &NameTable) -> Option<String> {
    let org = |id: u64| {
        let known = merged.org_name(id).or_else(|| fixed.org_name(id));
        known.is_none().then(|| format!("the organization {id}"))
    };
    let app = |id: u64| {
        let known = merged.app_org(id).or_else(|| fixed.app_org(id));
        known.is_none().then(|| format!("the app {id}"))
    };
    let missing = match entry {
        NameEntry::Org { .. } => None,
        NameEntry::OrgAlias { org: id, .. }
        | NameEntry::App { org: id, .. }
        | NameEntry::Cluster { org: id, .. }
        | NameEntry::Object {
            holder: Holder::Org(id),
            ..
        } => org(*id),
        NameEntry::AppAlias { app: id, .. }
        | NameEntry::Machine { app: id, .. }
        | NameEntry::Volume { app: id, .. }
        | NameEntry::Object {
            holder: Holder::App(id),
            ..
        } => app(*id),
    };
    let key = Key::of(entry);
    missing.map(|owner| format!("{key} would belong to {owner}, which is not there any more"))
}

impl Changes {
    fn between(before: &NameTable, after: &NameTable) -> Self {
        let (before, after) = (before.entries(), after.entries());
        let old: BTreeMap<Key, &NameEntry> = before.iter().map(|e| (Key::of(e), e)).collect();
        let new: BTreeMap<Key, &NameEntry> = after.iter().map(|e| (Key::of(e), e)).collect();
        let keys: HashSet<&Key> = old.keys().chain(new.keys()).collect();
        let change = |key: &Key| match (old.get(key), new.get(key)) {
            (None, Some(_)) => Some(Change::Added),
            (Some(_), None) => Some(Change::Removed),
            (Some(was), Some(is)) if was != is => Some(Change::Changed),
            (Some(_), Some(_)) | (None, None) => None,
        };
        let changes = keys.into_iter();
        Self(
            changes
                .filter_map(|key| change(key).map(|change| (key.clone(), change)))
                .collect(),
        )
    }

    /// Each name in words with what happens to it, in the order of kinds and names.
    pub fn iter(&self) -> impl Iterator<Item = (String, Change)> {
        self.0
            .iter()
            .map(|(key, change)| (key.to_string(), *change))
    }

    /// How many names are touched in this way.
    pub fn count(&self, change: Change) -> usize {
        self.0.values().filter(|known| **known == change).count()
    }
}

/// What an entry is about: its kind and its name. A cluster's name may be used by several, so
/// there its organization tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    rank: u8,
    noun: Box<str>,
    name: Box<str>,
    org: u64,
}

impl Key {
    fn of(entry: &NameEntry) -> Self {
        let (rank, noun, name, org) = match entry {
            NameEntry::Org { slug, .. } => (0, "organization", slug, 0),
            NameEntry::OrgAlias { alias, .. } => (1, "alias of an organization", alias, 0),
            NameEntry::App { name, .. } => (2, "app", name, 0),
            NameEntry::AppAlias { alias, .. } => (3, "alias of an app", alias, 0),
            NameEntry::Machine { id, .. } => (4, "machine", id, 0),
            NameEntry::Volume { id, .. } => (5, "volume", id, 0),
            NameEntry::Cluster { name, org } => (6, "cluster", name, *org),
            NameEntry::Object { kind, id, .. } => (7, &**kind, id, 0),
        };
        Self {
            rank,
            noun: noun.into(),
            name: name.clone(),
            org,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.noun, self.name)?;
        match self.org {
            0 => Ok(()),
            org => write!(f, " of the organization {org}"),
        }
    }
}

struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, &str, u64, u64)]) -> NameTable {
        let mut table = NameTable::default();
        for (kind, name, id, owner) in entries {
            let (name, id, owner): (Box<str>, u64, u64) = ((*name).into(), *id, *owner);
            let entry = match *kind {
                "org" => NameEntry::Org { slug: name, id },
                "org-alias" => NameEntry::OrgAlias {
                    alias: name,
                    org: id,
                },
                "app" => NameEntry::App {
                    name,
                    id,
                    org: owner,
                },
                "alias" => NameEntry::AppAlias {
                    alias: name,
                    app: id,
                },
                "machine" => NameEntry::Machine {
                    id: name,
                    app: owner,
                },
                "cluster" => NameEntry::Cluster { name, org: owner },
                other => panic!("{other}"),
            };
            table.add(entry).unwrap();
        }
        table
    }

    fn check(
        stored: &[(&str, &str, u64, u64)],
        document: &[(&str, &str, u64, u64)],
        import: Import,
        expected: &[(&str, Change)],
    ) -> NameTable {
        let (stored, document) = (table(stored), table(document));
        let merged = merge(&stored, &document, import, &NameTable::default());
        let (merged, changes) = merged.unwrap();
        let changes: Vec<_> = changes.iter().collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(what, change)| ((*what).to_owned(), *change))
            .collect();
        assert_eq!(changes, expected);
        merged
    }

    const BEFORE: [(&str, &str, u64, u64); 5] = [
        ("org", "acme", 1, 0),
        ("org-alias", "G1", 1, 0),
        ("app", "web", 7, 1),
        ("alias", "A1", 7, 0),
        ("machine", "m1", 0, 7),
    ];

    #[test]
    fn a_merge_keeps_what_the_document_does_not_name() {
        let document = [("org", "beta", 2, 0), ("app", "shop", 8, 2)];
        let added = [
            ("organization beta", Change::Added),
            ("app shop", Change::Added),
        ];
        let merged = check(&BEFORE, &document, Import::Merge, &added);
        assert_eq!(merged.entries().len(), 7);
        assert_eq!(merged.machine("m1"), Some(7));
    }

    #[test]
    fn an_app_that_moves_takes_its_machines_with_it_and_its_aliases_are_as_the_document_says() {
        let document = [
            ("org", "beta", 2, 0),
            ("app", "web", 7, 2),
            ("alias", "A2", 7, 0),
        ];
        let changes = [
            ("organization beta", Change::Added),
            ("app web", Change::Changed),
            ("alias of an app A1", Change::Removed),
            ("alias of an app A2", Change::Added),
        ];
        let merged = check(&BEFORE, &document, Import::Merge, &changes);
        assert_eq!(merged.app_org(7), Some(2));
        assert_eq!(merged.app("A1"), None);
        assert_eq!(merged.machine("m1"), Some(7));
        assert_eq!(merged.org("G1"), Some(1), "acme was not named");
    }

    #[test]
    fn an_id_under_another_name_is_a_rename() {
        let document = [("org", "acme", 1, 0), ("app", "web2", 7, 1)];
        let changes = [
            ("alias of an organization G1", Change::Removed),
            ("app web", Change::Removed),
            ("app web2", Change::Added),
            ("alias of an app A1", Change::Removed),
        ];
        let merged = check(&BEFORE, &document, Import::Merge, &changes);
        assert_eq!(merged.app("web"), None);
        assert_eq!(merged.machine("m1"), Some(7));
    }

    #[test]
    fn a_replacement_drops_what_the_document_does_not_name() {
        let document = [("org", "acme", 1, 0), ("app", "web", 7, 1)];
        let changes = [
            ("alias of an organization G1", Change::Removed),
            ("alias of an app A1", Change::Removed),
            ("machine m1", Change::Removed),
        ];
        let merged = check(&BEFORE, &document, Import::Replace, &changes);
        assert_eq!(merged.entries().len(), 2);
    }

    #[test]
    fn the_same_document_again_changes_nothing() {
        check(&BEFORE, &BEFORE, Import::Merge, &[]);
        check(&BEFORE, &BEFORE, Import::Replace, &[]);
        check(&BEFORE, &[], Import::Merge, &[]);
    }

    #[test]
    fn a_cluster_that_moves_has_one_owner() {
        let before = [
            ("org", "acme", 1, 0),
            ("org", "beta", 2, 0),
            ("cluster", "pg", 0, 1),
        ];
        let changes = [
            ("cluster pg of the organization 1", Change::Removed),
            ("cluster pg of the organization 2", Change::Added),
        ];
        let merged = check(&before, &[("cluster", "pg", 0, 2)], Import::Merge, &changes);
        assert_eq!(merged.clusters("pg"), [2]);
    }

    #[test]
    fn nothing_is_left_without_its_owner() {
        // The app gets another id; what stands in the store of the old one would hang in the air.
        let stored = table(&BEFORE);
        let document = table(&[("org", "acme", 1, 0), ("app", "web", 9, 1)]);
        let refused = merge(&stored, &document, Import::Merge, &NameTable::default());
        assert_eq!(
            refused.unwrap_err().to_string(),
            "machine m1 would belong to the app 7, which is not there any more"
        );
        // Unless the configuration has it.
        let fixed = table(&[("org", "acme", 1, 0), ("app", "old", 7, 1)]);
        assert!(merge(&stored, &document, Import::Merge, &fixed).is_ok());
    }
}

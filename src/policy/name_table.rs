//! Names with their ids: what one source of a directory knows.

use std::collections::hash_map::Entry;

use foldhash::HashMap;
use thiserror::Error;

use super::AppIds;

/// One name, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameEntry {
    /// An organization.
    Org {
        /// Its slug.
        slug: Box<str>,
        /// Its id.
        id: u64,
    },
    /// Another name of an organization, such as its global id in GraphQL.
    OrgAlias {
        /// The other name.
        alias: Box<str>,
        /// Id of the organization.
        org: u64,
    },
    /// An app.
    App {
        /// Its name.
        name: Box<str>,
        /// Its id.
        id: u64,
        /// Id of its organization.
        org: u64,
    },
    /// Another name of an app.
    AppAlias {
        /// The other name.
        alias: Box<str>,
        /// Id of the app.
        app: u64,
    },
    /// A machine.
    Machine {
        /// Its id.
        id: Box<str>,
        /// Id of its app.
        app: u64,
    },
    /// A volume.
    Volume {
        /// Its id.
        id: Box<str>,
        /// Id of its app.
        app: u64,
    },
    /// A cluster. Several organizations may have one of the same name.
    Cluster {
        /// Its name.
        name: Box<str>,
        /// Id of its organization.
        org: u64,
    },
    /// Something that requests name and caveats do not: a release, a certificate, an add-on.
    Object {
        /// Its kind, a word of the operator's.
        kind: Box<str>,
        /// Its id.
        id: Box<str>,
        /// Whose it is.
        holder: Holder,
    },
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// The app with this id, and with it the app's organization.
    App(u64),
    /// The organization with this id.
    Org(u64),
}

/// Why an entry is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameFault {
    /// Something of its kind has that name.
    #[error("the name is taken")]
    NameTaken,
    /// Something of its kind with this name has that id.
    #[error("the id is that of `{0}`")]
    IdTaken(Box<str>),
    /// An alias of something that is not there.
    #[error("nothing with that id is there")]
    NoTarget,
}

/// The names of one source, each given once.
#[derive(Clone, Debug, Default)]
pub struct NameTable {
    orgs: Named,
    apps: Named,
    /// Organizations by app.
    app_orgs: HashMap<u64, u64>,
    machines: HashMap<Box<str>, u64>,
    volumes: HashMap<Box<str>, u64>,
    clusters: HashMap<Box<str>, Vec<u64>>,
    /// By kind, then by id.
    objects: HashMap<Box<str>, HashMap<Box<str>, Holder>>,
}

impl NameTable {
    /// Takes an entry in. Aliases come after what they stand for.
    ///
    /// # Errors
    ///
    /// When it contradicts, or repeats, an entry that is there; the table is then unchanged.
    pub fn add(&mut self, entry: NameEntry) -> Result<(), NameFault> {
        match entry {
            NameEntry::Org { slug, id } => self.orgs.name(slug, id),
            NameEntry::OrgAlias { alias, org } => self.orgs.alias(alias, org),
            NameEntry::App { name, id, org } => {
                self.apps.name(name, id)?;
                self.app_orgs.insert(id, org);
                Ok(())
            }
            NameEntry::AppAlias { alias, app } => self.apps.alias(alias, app),
            NameEntry::Machine { id, app } => insert(&mut self.machines, id, app),
            NameEntry::Volume { id, app } => insert(&mut self.volumes, id, app),
            NameEntry::Cluster { name, org } => {
                let orgs = self.clusters.entry(name).or_default();
                if orgs.contains(&org) {
                    return Err(NameFault::NameTaken);
                }
                orgs.push(org);
                Ok(())
            }
            NameEntry::Object { kind, id, holder } => {
                insert(self.objects.entry(kind).or_default(), id, holder)
            }
        }
    }

    /// The organization of a slug or alias.
    pub fn org(&self, name: &str) -> Option<u64> {
        self.orgs.find(name)
    }

    /// The app of a name or alias.
    pub fn app(&self, name: &str) -> Option<AppIds> {
        let app = self.apps.find(name)?;
        let org = self.app_org(app)?;
        Some(AppIds { app, org })
    }

    /// The organization of an app.
    pub fn app_org(&self, app: u64) -> Option<u64> {
        self.app_orgs.get(&app).copied()
    }

    /// The app of a machine.
    pub fn machine(&self, id: &str) -> Option<u64> {
        self.machines.get(id).copied()
    }

    /// The app of a volume.
    pub fn volume(&self, id: &str) -> Option<u64> {
        self.volumes.get(id).copied()
    }

    /// The organizations that have a cluster of this name.
    pub fn clusters(&self, name: &str) -> &[u64] {
        self.clusters.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whose an object is.
    pub fn object(&self, kind: &str, id: &str) -> Option<Holder> {
        self.objects.get(kind)?.get(id).copied()
    }

    /// The slug of an organization.
    pub fn org_name(&self, id: u64) -> Option<&str> {
        self.orgs.by_id.get(&id).map(|slug| &**slug)
    }

    /// The name of an app.
    pub fn app_name(&self, id: u64) -> Option<&str> {
        self.apps.by_id.get(&id).map(|name| &**name)
    }

    /// All organizations by slug, in no order.
    pub fn orgs(&self) -> impl Iterator<Item = (&str, u64)> {
        self.orgs.all()
    }

    /// All apps by name, in no order.
    pub fn apps(&self) -> impl Iterator<Item = (&str, AppIds)> {
        let ids = |(name, app)| {
            let org = self.app_org(app)?;
            Some((name, AppIds { app, org }))
        };
        self.apps.all().filter_map(ids)
    }

    /// Everything in it, in an order in which [`add`](Self::add) takes it.
    pub fn entries(&self) -> Vec<NameEntry> {
        let orgs = self.orgs.ids.iter().map(|(slug, id)| NameEntry::Org {
            slug: slug.clone(),
            id: *id,
        });
        let org_aliases = self.orgs.aliases.iter();
        let org_aliases = org_aliases.map(|(alias, org)| NameEntry::OrgAlias {
            alias: alias.clone(),
            org: *org,
        });
        let apps = self.apps().map(|(name, ids)| NameEntry::App {
            name: name.into(),
            id: ids.app,
            org: ids.org,
        });
        let app_aliases = self.apps.aliases.iter();
        let app_aliases = app_aliases.map(|(alias, app)| NameEntry::AppAlias {
            alias: alias.clone(),
            app: *app,
        });
        let machines = self.machines.iter().map(|(id, app)| NameEntry::Machine {
            id: id.clone(),
            app: *app,
        });
        let volumes = self.volumes.iter().map(|(id, app)| NameEntry::Volume {
            id: id.clone(),
            app: *app,
        });
        let clusters = self.clusters.iter().flat_map(|(name, orgs)| {
            orgs.iter().map(|org| NameEntry::Cluster {
                name: name.clone(),
                org: *org,
            })
        });
        let objects = self.objects.iter().flat_map(|(kind, objects)| {
            objects.iter().map(|(id, holder)| NameEntry::Object {
                kind: kind.clone(),
                id: id.clone(),
                holder: *holder,
            })
        });
        let mut all: Vec<_> = orgs
            .chain(org_aliases)
            .chain(apps)
            .chain(app_aliases)
            .chain(machines)
            .chain(volumes)
            .chain(clusters)
            .chain(objects)
            .collect();
        all.sort_unstable();
        all
    }
}

/// Things with one name, one id, and any number of aliases.
#[derive(Clone, Debug, Default)]
struct Named {
    ids: HashMap<Box<str>, u64>,
    aliases: HashMap<Box<str>, u64>,
    by_id: HashMap<u64, Box<str>>,
}

impl Named {
    fn name(&mut self, name: Box<str>, id: u64) -> Result<(), NameFault> {
        self.check_free(&name)?;
        match self.by_id.entry(id) {
            Entry::Occupied(entry) => Err(NameFault::IdTaken(entry.get().clone())),
            Entry::Vacant(entry) => {
                entry.insert(name.clone());
                self.ids.insert(name, id);
                Ok(())
            }
        }
    }

    fn alias(&mut self, alias: Box<str>, id: u64) -> Result<(), NameFault> {
        self.check_free(&alias)?;
        if !self.by_id.contains_key(&id) {
            return Err(NameFault::NoTarget);
        }
        self.aliases.insert(alias, id);
        Ok(())
    }

    /// Names and aliases are looked up alike, so no name may be both.
    fn check_free(&self, name: &str) -> Result<(), NameFault> {
        if self.ids.contains_key(name) || self.aliases.contains_key(name) {
            return Err(NameFault::NameTaken);
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<u64> {
        self.ids
            .get(name)
            .or_else(|| self.aliases.get(name))
            .copied()
    }

    fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        self.ids.iter().map(|(name, id)| (&**name, *id))
    }
}

fn insert<V>(map: &mut HashMap<Box<str>, V>, name: Box<str>, value: V) -> Result<(), NameFault> {
    match map.entry(name) {
        Entry::Occupied(_) => Err(NameFault::NameTaken),
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(slug: &str, id: u64) -> NameEntry {
        let slug = slug.into();
        NameEntry::Org { slug, id }
    }

    fn app(name: &str, id: u64, org: u64) -> NameEntry {
        let name = name.into();
        NameEntry::App { name, id, org }
    }

    fn alias(alias: &str, app: u64) -> NameEntry {
        let alias = alias.into();
        NameEntry::AppAlias { alias, app }
    }

    #[test]
    fn names_ids_and_aliases_are_given_once() {
        let mut table = NameTable::default();
        for (entry, expected) in [
            (org("acme", 1), Ok(())),
            (org("acme", 2), Err(NameFault::NameTaken)),
            (org("beta", 1), Err(NameFault::IdTaken("acme".into()))),
            (app("web", 7, 1), Ok(())),
            (app("shop", 7, 1), Err(NameFault::IdTaken("web".into()))),
            (alias("A1", 7), Ok(())),
            (alias("A1", 7), Err(NameFault::NameTaken)),
            (alias("web", 7), Err(NameFault::NameTaken)),
            (alias("A2", 8), Err(NameFault::NoTarget)),
            (app("A1", 8, 1), Err(NameFault::NameTaken)),
        ] {
            assert_eq!(table.add(entry.clone()), expected, "{entry:?}");
        }
        assert_eq!(table.org("acme"), Some(1));
        assert_eq!(table.org("beta"), None);
        assert_eq!(table.app("A1"), Some(AppIds { app: 7, org: 1 }));
        assert_eq!(table.app("shop"), None);
        assert_eq!(table.app_name(7), Some("web"));
    }

    #[test]
    fn what_is_listed_makes_the_same_table() {
        let mut table = NameTable::default();
        let id: Box<str> = "x".into();
        for entry in [
            org("acme", 1),
            NameEntry::OrgAlias {
                alias: id.clone(),
                org: 1,
            },
            app("web", 7, 1),
            alias("x", 7),
            NameEntry::Machine {
                id: id.clone(),
                app: 7,
            },
            NameEntry::Volume {
                id: id.clone(),
                app: 7,
            },
            NameEntry::Cluster {
                name: id.clone(),
                org: 1,
            },
            NameEntry::Cluster {
                name: id.clone(),
                org: 2,
            },
            NameEntry::Object {
                kind: "release".into(),
                id: id.clone(),
                holder: Holder::App(7),
            },
            NameEntry::Object {
                kind: "addon".into(),
                id,
                holder: Holder::Org(1),
            },
        ] {
            assert_eq!(table.add(entry), Ok(()));
        }
        let mut again = NameTable::default();
        let entries = table.entries();
        assert_eq!(entries.len(), 10);
        for entry in entries {
            assert_eq!(again.add(entry), Ok(()));
        }
        assert_eq!(again.entries(), table.entries());
        assert_eq!(again.clusters("x").len(), 2);
        assert_eq!(again.object("release", "x"), Some(Holder::App(7)));
        assert_eq!(again.object("addon", "x"), Some(Holder::Org(1)));
        assert_eq!(again.object("x", "x"), None);
    }
}

//! The directory: names in requests to the ids that caveats hold.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::policy::{AppIds, Found, Names, Owner};

/// Names known from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    public_names: bool,
    orgs: HashMap<Box<str>, u64>,
    apps: HashMap<Box<str>, AppIds>,
    machines: HashMap<Box<str>, AppIds>,
    volumes: HashMap<Box<str>, AppIds>,
    /// Organizations by cluster name; several may use one name.
    clusters: HashMap<Box<str>, Vec<u64>>,
}

impl Directory {
    /// An empty directory. With `public_names` anyone with a usable token may learn that a name
    /// is not taken (404); without it, that is answered like a name of somebody else (403).
    pub fn new(public_names: bool) -> Self {
        Self {
            public_names,
            ..Self::default()
        }
    }

    /// Whether unknown names are no secret.
    pub fn public_names(&self) -> bool {
        self.public_names
    }

    /// Adds an organization, unless the slug is taken.
    #[must_use = "false says that the name is taken"]
    pub fn add_org(&mut self, slug: &str, id: u64) -> bool {
        insert(&mut self.orgs, slug, id)
    }

    /// Adds an app, unless the name is taken.
    #[must_use = "false says that the name is taken"]
    pub fn add_app(&mut self, name: &str, ids: AppIds) -> bool {
        insert(&mut self.apps, name, ids)
    }

    /// Adds a machine of this app, unless the machine is known.
    #[must_use = "false says that the machine is known"]
    pub fn add_machine(&mut self, machine: &str, app: AppIds) -> bool {
        insert(&mut self.machines, machine, app)
    }

    /// Adds a volume of this app, unless the volume is known.
    #[must_use = "false says that the volume is known"]
    pub fn add_volume(&mut self, volume: &str, app: AppIds) -> bool {
        insert(&mut self.volumes, volume, app)
    }

    /// Adds a cluster of the organization with this id, unless it has one of this name.
    #[must_use = "false says that the name is taken"]
    pub fn add_cluster(&mut self, cluster: &str, org: u64) -> bool {
        let orgs = self.clusters.entry(cluster.into()).or_default();
        let new = !orgs.contains(&org);
        if new {
            orgs.push(org);
        }
        new
    }

    /// All organizations by slug, in no order.
    pub fn orgs(&self) -> impl Iterator<Item = (&str, u64)> {
        self.orgs.iter().map(|(slug, id)| (&**slug, *id))
    }

    /// All apps by name, in no order.
    pub fn apps(&self) -> impl Iterator<Item = (&str, AppIds)> {
        self.apps.iter().map(|(name, ids)| (&**name, *ids))
    }
}

impl Names for Directory {
    fn org(&self, slug: &str) -> Found<u64> {
        self.orgs.get(slug).copied().into()
    }

    fn app(&self, name: &str) -> Found<AppIds> {
        self.apps.get(name).copied().into()
    }

    fn machine(&self, id: &str) -> Found<AppIds> {
        self.machines.get(id).copied().into()
    }

    fn volume(&self, id: &str) -> Found<AppIds> {
        self.volumes.get(id).copied().into()
    }

    /// A name that two organizations use does not tell whose it is.
    fn cluster_org(&self, cluster: &str) -> Found<u64> {
        match self.clusters.get(cluster).map(Vec::as_slice) {
            Some([org]) => Found::Known(*org),
            Some(_) | None => Found::Absent,
        }
    }

    fn object(&self, _kind: &str, _id: &str) -> Found<Owner> {
        Found::Absent
    }
}

fn insert<V>(map: &mut HashMap<Box<str>, V>, name: &str, value: V) -> bool {
    match map.entry(name.into()) {
        Entry::Occupied(_) => false,
        Entry::Vacant(entry) => {
            entry.insert(value);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once() {
        let mut directory = Directory::new(true);
        assert!(directory.add_org("acme", 1));
        assert!(!directory.add_org("acme", 2));
        assert_eq!(directory.org("acme"), Found::Known(1));
        let app = |app| AppIds { app, org: 1 };
        assert!(directory.add_machine("m1", app(7)));
        assert!(!directory.add_machine("m1", app(8)));
        assert_eq!(directory.machine("m1"), Found::Known(app(7)));
        assert_eq!(directory.volume("m1"), Found::Absent);
        assert!(directory.public_names());
    }

    #[test]
    fn a_cluster_name_in_two_organizations_has_no_owner() {
        let mut directory = Directory::new(false);
        assert!(directory.add_cluster("primary", 1));
        assert_eq!(directory.cluster_org("primary"), Found::Known(1));
        assert!(!directory.add_cluster("primary", 1));
        assert!(directory.add_cluster("primary", 2));
        assert_eq!(directory.cluster_org("primary"), Found::Absent);
        assert_eq!(directory.cluster_org("other"), Found::Absent);
    }
}

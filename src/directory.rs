//! The directory: names in requests to the ids that caveats hold.
//!
//! Its sources are asked in this order, and a name that one of them has is not looked for in the
//! next: the configuration, then the tables in the store.

mod merge;

use std::sync::Arc;

use crate::config;
use crate::policy::{AppIds, Found, Holder, Lookup, NameTable, Names, Owner, PERSONAL};

/// Nobody answered about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

pub use merge::{Change, Changes, Import, Orphans, merge};

/// The sources of one configuration, opened.
#[derive(Debug)]
pub struct Directory {
    fixed: Arc<NameTable>,
    store: bool,
}

impl Directory {
    /// Opens the sources.
    pub fn open(config: &config::Directory) -> Self {
        Self {
            fixed: Arc::clone(&config.names),
            store: config.store,
        }
    }

    /// Asks about a name; afterwards it is known or absent.
    ///
    /// # Errors
    ///
    /// When there is nobody to ask.
    pub async fn resolve(&self, _lookup: &Lookup) -> Result<(), Unanswered> {
        Err(Unanswered)
    }

    /// What is known at one moment, when these are the names in the store. Take it once for a
    /// request.
    pub fn view<'a>(&'a self, stored: &'a NameTable) -> View<'a> {
        View {
            fixed: &self.fixed,
            stored: self.store.then_some(stored),
        }
    }
}

/// The directory at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    fixed: &'a NameTable,
    stored: Option<&'a NameTable>,
}

impl<'a> View<'a> {
    /// All organizations that are known by slug, in no order.
    pub fn orgs(&self) -> impl Iterator<Item = (&'a str, u64)> {
        self.tables().flat_map(NameTable::orgs)
    }

    /// All apps that are known by name, in no order.
    pub fn apps(&self) -> impl Iterator<Item = (&'a str, AppIds)> {
        self.tables().flat_map(NameTable::apps)
    }

    /// The slug of an organization.
    pub fn org_name(&self, id: u64) -> Option<&'a str> {
        self.tables().find_map(|table| table.org_name(id))
    }

    /// The name of an app.
    pub fn app_name(&self, id: u64) -> Option<&'a str> {
        self.tables().find_map(|table| table.app_name(id))
    }

    fn tables(&self) -> impl Iterator<Item = &'a NameTable> {
        std::iter::once(self.fixed).chain(self.stored)
    }

    /// An app may stand in one source, and what belongs to it in another.
    fn app_of(&self, part: impl Fn(&NameTable) -> Option<u64>) -> Option<AppIds> {
        let app = self.tables().find_map(part)?;
        let org = self.tables().find_map(|table| table.app_org(app))?;
        Some(AppIds { app, org })
    }
}

impl Names for View<'_> {
    fn org(&self, slug: &str) -> Found<u64> {
        if slug == PERSONAL {
            return Found::Absent;
        }
        self.tables().find_map(|table| table.org(slug)).into()
    }

    fn app(&self, name: &str) -> Found<AppIds> {
        self.tables().find_map(|table| table.app(name)).into()
    }

    fn machine(&self, id: &str) -> Found<AppIds> {
        self.app_of(|table| table.machine(id)).into()
    }

    fn volume(&self, id: &str) -> Found<AppIds> {
        self.app_of(|table| table.volume(id)).into()
    }

    /// A name that two organizations use does not tell whose it is.
    fn cluster_org(&self, cluster: &str) -> Found<u64> {
        let mut orgs = self.tables().flat_map(|table| table.clusters(cluster));
        let Some(first) = orgs.next() else {
            return Found::Absent;
        };
        let same = orgs.all(|org| org == first);
        same.then_some(*first).into()
    }

    fn object(&self, kind: &str, id: &str) -> Found<Owner> {
        let holder = self.tables().find_map(|table| table.object(kind, id));
        let owner = match holder {
            Some(Holder::App(app)) => self.app_of(|_| Some(app)).map(Owner::App),
            Some(Holder::Org(org)) => Some(Owner::Org(org)),
            None => None,
        };
        owner.into()
    }
}

#[cfg(test)]
mod tests;

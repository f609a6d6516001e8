//! The directory: names in requests to the ids that caveats hold.
//!
//! Its sources are asked in this order, and a name that one of them has is not looked for in the
//! next: the configuration, the tables in the store, and another server over HTTP.

mod lookups;
mod merge;

use std::io;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

use self::lookups::Lookups;
use crate::config;
use crate::metrics::Metrics;
use crate::peer::PeerError;
use crate::policy::{AppIds, Found, Holder, Lookup, LookupKind, NameTable, Names, Owner, PERSONAL};

pub use lookups::Unanswered;
pub use merge::{Change, Changes, Import, Orphans, merge};

/// The sources of one configuration, opened.
#[derive(Debug)]
pub struct Directory {
    fixed: Arc<NameTable>,
    store: bool,
    lookups: Option<Lookups>,
}

impl Directory {
    /// Opens the sources: reads the credential and the roots, and starts the thread that asks.
    ///
    /// # Errors
    ///
    /// When these cannot be read, or the system gives no thread.
    pub fn open(
        config: &config::Directory,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, DirectoryError> {
        let lookups = config.http.as_ref();
        let lookups = lookups.map(|http| Lookups::start(http, metrics));
        Ok(Self {
            fixed: Arc::clone(&config.names),
            store: config.store,
            lookups: lookups.transpose()?,
        })
    }

    /// What is known at one moment, when these are the names in the store. Take it once for a
    /// request.
    pub fn view<'a>(&'a self, stored: &'a NameTable) -> View<'a> {
        View {
            fixed: &self.fixed,
            stored: self.store.then_some(stored),
            lookups: self.lookups.as_ref(),
        }
    }

    /// Asks about a name that is [unresolved](Found::Unresolved), in the turn of a token if it is
    /// for one. Looking again then finds it, or finds it absent.
    ///
    /// # Errors
    ///
    /// When there is no answer; the name is as unknown as before, and may be asked for again.
    pub async fn resolve(&self, lookup: &Lookup, token: Option<Uuid>) -> Result<(), Unanswered> {
        match &self.lookups {
            Some(lookups) => lookups.resolve(lookup, token).await,
            None => Err(Unanswered::Stopped),
        }
    }
}

/// Why the directory cannot be opened.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// What the configuration names cannot be had.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A host that is none.
    #[error("directory.http: {host} is not a host name or address")]
    Host {
        /// What the configuration says.
        host: String,
    },
    /// No thread, or no event queue.
    #[error("the system gives no thread or event queue")]
    Thread(#[source] io::Error),
}

/// The directory at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    fixed: &'a NameTable,
    stored: Option<&'a NameTable>,
    lookups: Option<&'a Lookups>,
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

    /// Finds a name, and waits for the answer if it has to be asked for. For those who have
    /// nothing else to do; it must not be called where tasks run.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub fn settle<T>(&self, find: impl Fn(&Self) -> Found<T>) -> Result<Option<T>, Unanswered> {
        let mut last = None;
        loop {
            match find(self) {
                Found::Known(value) => return Ok(Some(value)),
                Found::Absent => return Ok(None),
                // The answer was gone before it was looked at.
                Found::Unresolved(lookup) if last.as_ref() == Some(&lookup) => {
                    return Err(Unanswered::Late);
                }
                Found::Unresolved(lookup) => {
                    let lookups = self.lookups.ok_or(Unanswered::Stopped)?;
                    lookups.resolve_blocking(&lookup)?;
                    last = Some(lookup);
                }
            }
        }
    }

    fn tables(&self) -> impl Iterator<Item = &'a NameTable> {
        std::iter::once(self.fixed).chain(self.stored)
    }

    /// An app may stand in one source, and what belongs to it in another.
    fn app_ids(&self, app: u64) -> Option<AppIds> {
        let org = self.tables().find_map(|table| table.app_org(app))?;
        Some(AppIds { app, org })
    }

    /// Something that belongs to an app. If that has gone, it is not looked for elsewhere.
    fn part(
        &self,
        find: fn(&NameTable, &str) -> Option<u64>,
        kind: LookupKind,
        id: &str,
    ) -> Found<AppIds> {
        match self.tables().find_map(|table| find(table, id)) {
            Some(app) => self.app_ids(app).into(),
            None => self.or_asked(None, kind, id, app),
        }
    }

    /// What the tables have, else what another server says.
    fn or_asked<T>(
        &self,
        known: Option<T>,
        kind: LookupKind,
        name: &str,
        read: impl FnOnce(Owner) -> Option<T>,
    ) -> Found<T> {
        match (known, self.lookups) {
            (Some(known), _) => Found::Known(known),
            (None, None) => Found::Absent,
            (None, Some(lookups)) => match lookups.find(kind, name) {
                Found::Known(owner) => read(owner).into(),
                Found::Absent => Found::Absent,
                Found::Unresolved(lookup) => Found::Unresolved(lookup),
            },
        }
    }
}

impl Names for View<'_> {
    fn org(&self, slug: &str) -> Found<u64> {
        // It means another one for each user; whoever else is asked would tell usher's own.
        if slug == PERSONAL {
            return Found::Absent;
        }
        let known = self.tables().find_map(|table| table.org(slug));
        self.or_asked(known, LookupKind::Org, slug, org)
    }

    fn app(&self, name: &str) -> Found<AppIds> {
        let known = self.tables().find_map(|table| table.app(name));
        self.or_asked(known, LookupKind::App, name, app)
    }

    /// Found in the tables only: nobody else is asked by number.
    fn app_numbered(&self, id: u64) -> Found<AppIds> {
        self.app_ids(id).into()
    }

    fn machine(&self, id: &str) -> Found<AppIds> {
        self.part(NameTable::machine, LookupKind::Machine, id)
    }

    fn volume(&self, id: &str) -> Found<AppIds> {
        self.part(NameTable::volume, LookupKind::Volume, id)
    }

    /// A name that two organizations use does not tell whose it is.
    fn cluster_org(&self, cluster: &str) -> Found<u64> {
        let mut orgs = self.tables().flat_map(|table| table.clusters(cluster));
        let Some(first) = orgs.next() else {
            return self.or_asked(None, LookupKind::Cluster, cluster, org);
        };
        let same = orgs.all(|org| org == first);
        same.then_some(*first).into()
    }

    fn object(&self, kind: &str, id: &str) -> Found<Owner> {
        let holder = self.tables().find_map(|table| table.object(kind, id));
        let owner = match holder {
            Some(Holder::App(app)) => self.app_ids(app).map(Owner::App),
            Some(Holder::Org(org)) => Some(Owner::Org(org)),
            None => return self.or_asked(None, LookupKind::Object(kind.into()), id, Some),
        };
        owner.into()
    }
}

/// The owner, where only an organization can be one.
fn org(owner: Owner) -> Option<u64> {
    match owner {
        Owner::Org(org) => Some(org),
        Owner::App(_) => None,
    }
}

/// The owner, where only an app can be one.
fn app(owner: Owner) -> Option<AppIds> {
    match owner {
        Owner::App(ids) => Some(ids),
        Owner::Org(_) => None,
    }
}

#[cfg(test)]
mod tests;

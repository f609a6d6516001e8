//! Where names in requests come by the ids that caveats hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Credential, UpstreamUrl};
use crate::policy::{LookupKind, NameTable, Pointer};

/// The sources of the directory, in the order in which they are asked: a name that one of them
/// has is not looked for in the next.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Whether anyone with a usable token may learn that a name is not taken (404). If not, that
    /// is answered like a name of somebody else (403).
    pub public_names: bool,
    /// The names in the configuration itself.
    pub names: Arc<NameTable>,
    /// Whether the names in the store are used.
    pub store: bool,
    /// Who is asked about all others.
    pub http: Option<HttpDirectory>,
}

/// How names are looked up over HTTP.
#[derive(Clone, Debug)]
pub struct HttpDirectory {
    /// Sent with every look-up.
    pub credential: Option<Credential>,
    /// PEM roots for TLS instead of the system's.
    pub ca: Option<PathBuf>,
    /// The longest that an answer is used. An app that is moved or renamed goes on under its old
    /// organization or name for this long.
    pub ttl: Duration,
    /// From the question to its answer, waiting and connecting included.
    pub deadline: Duration,
    /// Look-ups at one time, and connections kept.
    pub concurrency: usize,
    /// What is asked for each kind of name; a kind without an entry is not asked for.
    pub kinds: Vec<(LookupKind, LookupTemplate)>,
}

/// One look-up: where the name goes, and where the ids stand in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupTemplate {
    /// The server.
    pub server: UpstreamUrl,
    /// Path and query up to the name.
    pub before: String,
    /// Path and query after the name.
    pub after: String,
    /// Where the answer repeats the name. If any are given, it has to stand at one of them.
    pub name: Vec<Pointer>,
    /// Where the ids stand.
    pub owner: OwnerAt,
}

/// Where an answer says who owns what was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerAt {
    /// The ids of an app and of its organization.
    App {
        /// Where the app's stands.
        app: Pointer,
        /// Where the organization's stands.
        org: Pointer,
    },
    /// The id of an organization.
    Org(Pointer),
}

impl HttpDirectory {
    /// Where the configuration says nothing. Short, since it bounds how long an app that moved to
    /// another organization still answers to the old one; long enough that a client which polls
    /// causes one look-up, not hundreds.
    pub const TTL: Duration = Duration::from_secs(10);
    /// The longest there may be, inclusive: ownership is not something to be wrong about for long.
    pub const MAX_TTL: Duration = Duration::from_secs(5 * 60);
    /// Where the configuration says nothing: a client waits for it.
    pub const DEADLINE: Duration = Duration::from_secs(2);
    /// The longest there may be, inclusive.
    pub const MAX_DEADLINE: Duration = Duration::from_secs(30);
    /// Where the configuration says nothing.
    pub const CONCURRENCY: usize = 16;
    /// The most there may be, inclusive.
    pub const MAX_CONCURRENCY: usize = 1024;
}

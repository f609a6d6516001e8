//! The decision: one request in, a [`Permit`] or a [`Denial`] out.

use http::{HeaderMap, Method};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::policy::Access;

/// Decides.
#[derive(Debug)]
pub struct Authorizer;

impl Authorizer {
    /// Decides about one request at `now`, in seconds of Unix time.
    pub fn authorize<'a>(&'a self, _head: &Head<'a>, _now: i64) -> Decision<'a> {
        Decision {
            route: None,
            accesses: SmallVec::new(),
            token: None,
            verdict: Err(Denial::Unavailable("the decision is not linked in")),
        }
    }
}

/// What the decision looks at, borrowed from the request exactly as it came.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a Method,
    /// The one host of the request, already checked for its form, as sent (with its port).
    pub host: &'a str,
    /// Path and query, raw bytes as sent.
    pub target: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// Everything that is worth saying about one decision, for the log, metrics and the answer.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Index of the matched route, even where the verdict is a denial.
    pub route: Option<usize>,
    /// What the route asked for, as far as it could be told.
    pub accesses: SmallVec<[Access<'a>; 1]>,
    /// The permission token that was decisive, or the first one presented.
    pub token: Option<TokenRef>,
    /// The outcome.
    pub verdict: Result<Permit, Denial>,
}

/// Names a token without giving it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRef {
    /// UUID of the nonce; the same for all tokens attenuated from one.
    pub uuid: Uuid,
    /// First 8 bytes of the SHA-256 of the last tail's digest: tells attenuations of one token apart.
    pub fingerprint: [u8; 8],
}

/// Leave to forward one request. Only this module makes one, and forwarding consumes it.
#[derive(Debug)]
pub struct Permit {
    route: usize,
    identity: Identity,
    not_after: Option<i64>,
}

/// What the upstream is told about the bearer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the decisive token.
    pub token: Option<Uuid>,
    /// Organization of the access.
    pub org: Option<u64>,
    /// App of the access.
    pub app: Option<u64>,
    /// User, from a trusted attestation.
    pub user: Option<u64>,
}

impl Permit {
    /// Leave without a decision, for tests of what comes after it.
    #[cfg(test)]
    pub(crate) fn for_test(route: usize, identity: Identity) -> Self {
        Self {
            route,
            identity,
            not_after: None,
        }
    }

    /// Index of the route in the configuration.
    pub fn route(&self) -> usize {
        self.route
    }

    /// For the identity headers.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Last second (Unix time) at which every window of the decisive tokens is open.
    pub fn not_after(&self) -> Option<i64> {
        self.not_after
    }
}

/// Why a request is refused, with what its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The target can be read two ways: 400, and the connection is closed.
    Ambiguous(&'static str),
    /// The query or a header that the access needs is missing, repeated or undeclared: 400.
    BadField(Box<str>),
    /// No usable token: 401.
    Unauthenticated(Unusable),
    /// Verified, but prohibited: 403, with the caveat and what would satisfy it.
    Prohibited(Box<str>),
    /// No such name: 404, or the same 403 as for one that is not the bearer's.
    UnknownName(Box<str>),
    /// No such route: 404.
    NoRoute,
    /// The path is routed, the method is not: 405, with the methods that are.
    NoMethod(Box<str>),
    /// A host that no route has: 421.
    Misdirected,
    /// The directory or the store cannot answer: 503.
    Unavailable(&'static str),
}

/// Why no token in the request is usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No credential at all.
    Missing,
    /// No token in the header decodes; what is wrong with it.
    Malformed(Box<str>),
    /// No key for the nonce.
    UnknownKey,
    /// The signature is wrong.
    BadSignature,
    /// The window has closed.
    Expired,
    /// The window has not opened yet.
    NotYetValid,
    /// Revoked.
    Revoked,
    /// A third party has to discharge first: its location, and the ticket, base64.
    Undischarged(Box<[(Box<str>, Box<str>)]>),
    /// A discharge is there but does not verify.
    BadDischarge(Box<str>),
}

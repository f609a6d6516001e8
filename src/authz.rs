//! The decision: one request in, a [`Permit`] or a [`Denial`] out.
//!
//! Steps 3 to 7 of a request's life, in their order. Each refusal leaves at once, so whatever is
//! not explicitly permitted is denied. Verifications are cached, decisions never are: revocation,
//! windows, names and caveats are looked at anew for every request.

mod bearer;
mod cache;
mod denial;
mod explain;
mod lease;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::authority::{Authority, Snapshot};
use crate::config::Config;
use crate::directory::Directory;
use crate::macaroon::Text;
use crate::metrics::Metrics;
use crate::policy::{Access, AccessError, Fields, Rule};
use crate::route::{RouteError, RouteMatch, Target};

pub use denial::{Denial, Unusable};
pub use lease::{Lease, LeaseEnd, Review};

use bearer::{Bearer, Candidate};
use cache::VerificationCache;

/// Decides. Shared by all threads.
#[derive(Debug)]
pub struct Authorizer {
    config: Arc<Config>,
    authority: Arc<Authority>,
    directory: Arc<Directory>,
    location: Text,
    cache: VerificationCache,
    metrics: Arc<Metrics>,
}

/// What the decision looks at, borrowed from the request exactly as it came.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a Method,
    /// The one host of the request, already checked for its form, as sent (with its port).
    pub host: &'a str,
    /// Path and query, raw bytes as sent.
    pub target: &'a str,
    /// All headers; `Authorization` is there at most once.
    pub headers: &'a HeaderMap,
}

/// Without the headers: there is a credential among them.
impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", self.method)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Everything that is worth saying about one decision, for the log, metrics and the answer.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Index of the matched route, even where the verdict is a denial.
    pub route: Option<usize>,
    /// What the route asked for, as far as it could be told.
    pub accesses: SmallVec<[Access<'a>; 1]>,
    /// The permission token that was decisive, or the first usable one.
    pub token: Option<TokenRef>,
    /// For the log, which may say more than the answer: what prohibits.
    pub reason: Option<Box<str>>,
    /// The outcome.
    pub verdict: Result<Permit, Denial>,
}

/// Names a token without giving it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRef {
    /// UUID of the nonce; the same for all tokens attenuated from one.
    pub uuid: Uuid,
    /// First 8 bytes of the last tail's digest: tells attenuations of one token apart.
    pub fingerprint: [u8; 8],
}

/// Leave to forward one request. Only this module makes one, and forwarding consumes it.
#[derive(Debug)]
pub struct Permit {
    route: usize,
    identity: Identity,
    lease: Option<Lease>,
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
            lease: None,
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

    /// What limits the permit in time; `None` for a public route, which asks for no token.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }
}

impl Authorizer {
    /// An authorizer for one configuration, with an empty cache.
    pub fn new(
        config: Arc<Config>,
        authority: Arc<Authority>,
        directory: Arc<Directory>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let location = authority.location().clone();
        let cache = VerificationCache::new(&config.cache);
        Self {
            config,
            authority,
            directory,
            location,
            cache,
            metrics,
        }
    }

    /// Decides about one request at `now`, in seconds of Unix time.
    pub fn authorize<'a>(&'a self, head: &Head<'a>, now: i64) -> Decision<'a> {
        let mut decision = Decision {
            route: None,
            accesses: SmallVec::new(),
            token: None,
            reason: None,
            verdict: Err(Denial::NoRoute),
        };
        decision.verdict = self.decide(head, now, &mut decision);
        if let (Err(denial), None) = (&decision.verdict, &decision.reason) {
            decision.reason = denial.detail().map(Into::into);
        }
        decision
    }

    /// Whether decisions can be made. While the store cannot be read a revocation may have been
    /// missed, and everything is denied.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.authority.fresh(Instant::now()) {
            Ok(())
        } else {
            Err("revocations cannot be read")
        }
    }

    fn decide<'a>(
        &'a self,
        head: &Head<'a>,
        now: i64,
        said: &mut Decision<'a>,
    ) -> Result<Permit, Denial> {
        let target = Target::parse(head.target)?;
        let matched = self.config.table.find(head.method, head.host, &target);
        if let Ok(RouteMatch { route, .. }) | Err(RouteError::Segment { route, .. }) = &matched {
            said.route = Some(*route);
        }
        if let Ok(RouteMatch { route, .. }) = &matched
            && let Some(Rule::Public) = self.config.routes.get(*route).map(|route| &route.rule)
        {
            self.check_query(*route, &target)?;
            let identity = Identity::default();
            return Ok(Permit {
                route: *route,
                identity,
                lease: None,
            });
        }
        self.ready().map_err(Denial::Unavailable)?;
        let snapshot = self.authority.snapshots().load();
        let bearer = self.bearer(head.headers, &snapshot, now)?;
        let usable = bearer.usable(&snapshot.revocations, now)?;
        said.token = usable.first().map(|candidate| candidate.token);
        // Only a bearer of a usable token learns which routes there are.
        let RouteMatch {
            route: index,
            captures,
        } = matched?;
        let route = self.config.routes.get(index).ok_or(Denial::NoRoute)?;
        self.check_query(index, &target)?;
        Self::check_form(&route.rule, head.headers)?;
        let fields = Fields {
            captures,
            query: target.query(),
            headers: head.headers,
        };
        match &route.rule {
            Rule::Public => return Err(Denial::NoRoute),
            Rule::Authenticated => {}
            rule @ Rule::Accesses(_) => {
                said.accesses = match rule.accesses(&fields, &self.directory.view()) {
                    Ok(accesses) => accesses,
                    Err(error) => return Err(self.no_access(error, said)),
                };
            }
        }
        let decisive = self.decisive(&usable, now, said)?;
        let first = decisive.first().ok_or(Denial::NoRoute)?;
        said.token = Some(first.token);
        let lease = Lease::new(&bearer, &decisive).ok_or(Denial::NoRoute)?;
        Ok(Permit {
            route: index,
            identity: Identity {
                token: Some(first.token.uuid),
                org: said.accesses.first().and_then(|access| access.org),
                app: said
                    .accesses
                    .first()
                    .and_then(|access| access.app)
                    .filter(|app| *app != 0),
                user: first.user,
            },
            lease: Some(lease),
        })
    }

    /// Every key of the query must be declared: the upstream might know one that usher does not.
    fn check_query(&self, route: usize, target: &Target<'_>) -> Result<(), Denial> {
        let route = self.config.routes.get(route).ok_or(Denial::NoRoute)?;
        Ok(route.query.check(&target.query())?)
    }

    /// Some servers merge the fields of a form with those of the query. Where the query was
    /// judged, such a body could say something else.
    fn check_form(rule: &Rule, headers: &HeaderMap) -> Result<(), Denial> {
        let form = headers
            .get_all(http::header::CONTENT_TYPE)
            .iter()
            .any(|value| {
                let text = value.as_bytes().to_ascii_lowercase();
                FORMS
                    .iter()
                    .any(|form| text.trim_ascii_start().starts_with(form))
            });
        if form && rule.reads_query() {
            return Err(Denial::BadField(FORM_BODY.into()));
        }
        Ok(())
    }

    /// The verified tokens of the request, from the cache if they were verified before.
    fn bearer(
        &self,
        headers: &HeaderMap,
        snapshot: &Snapshot,
        now: i64,
    ) -> Result<Arc<Bearer>, Unusable> {
        let header = headers
            .get(http::header::AUTHORIZATION)
            .ok_or(Unusable::Missing)?;
        if let Some(known) = self.cache.get(header.as_bytes(), snapshot.generation) {
            self.metrics.cache_hits.inc();
            return known;
        }
        self.metrics.cache_misses.inc();
        let value = header
            .to_str()
            .map_err(|_| Unusable::Malformed(NOT_ASCII.into()))?;
        let limits = &self.config.token_limits;
        let chains = |key: &[u8]| self.cache.chain(key, snapshot.generation);
        let verified = Bearer::verify(value, &self.location, snapshot, limits, &chains);
        self.cache
            .keep(header.as_bytes(), snapshot.generation, &verified, now);
        verified.map(|(bearer, _)| bearer)
    }

    /// For each access the first token that permits it; where the route asks for none, the first
    /// token whose caveats permit anything at all.
    fn decisive<'b>(
        &self,
        usable: &[&'b Candidate],
        now: i64,
        said: &mut Decision<'_>,
    ) -> Result<SmallVec<[&'b Candidate; 1]>, Denial> {
        let mut decisive = SmallVec::new();
        let accesses = said.accesses.iter().map(Some);
        let none = said.accesses.is_empty().then_some(None);
        for access in accesses.chain(none) {
            let permits = |token: &&&Candidate| token.clear(access, now).is_ok();
            match usable.iter().find(permits) {
                Some(token) => decisive.push(*token),
                None => {
                    let detail = explain::prohibited(usable, access, now);
                    let public = self.config.directory.public_names || !detail.hints_at_names;
                    let told = if public {
                        &detail.text
                    } else {
                        explain::NAMES_ARE_SECRET
                    };
                    let denial = Denial::Prohibited(told.into());
                    said.reason = Some(detail.text.into());
                    return Err(denial);
                }
            }
        }
        Ok(decisive)
    }

    /// A request that the directory and the route cannot turn into accesses.
    fn no_access(&self, error: AccessError, said: &mut Decision<'_>) -> Denial {
        let text = error.to_string();
        said.reason = Some(text.as_str().into());
        let public = self.config.directory.public_names;
        match error {
            AccessError::UnknownName(_) if public => Denial::UnknownName(text.into()),
            AccessError::Contradiction(_) if public => Denial::Prohibited(text.into()),
            AccessError::UnknownName(_) | AccessError::Contradiction(_) => {
                Denial::Prohibited(explain::NAMES_ARE_SECRET.into())
            }
            AccessError::Unresolved(_) => Denial::Unavailable(NOT_ASKED),
            AccessError::Nothing | AccessError::Invalid(_) => Denial::Prohibited(text.into()),
            AccessError::Missing(_)
            | AccessError::Empty(_)
            | AccessError::Repeated(_)
            | AccessError::NotAnId(_)
            | AccessError::NotBoolean(_)
            | AccessError::UndeclaredKey(_) => Denial::BadField(text.into()),
        }
    }
}

/// Bodies of forms, in lower case.
const FORMS: [&[u8]; 2] = [b"application/x-www-form-urlencoded", b"multipart/"];

const FORM_BODY: &str =
    "the route is judged by its query, which a form in the body could contradict; send JSON";

/// Names that the directory has to ask about are not there yet.
const NOT_ASKED: &str = "the directory has not answered";

const NOT_ASCII: &str = "the credential holds characters that no token has";

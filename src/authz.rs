//! The decision: one request in, a [`Permit`] or a [`Denial`] out.
//!
//! Steps 3 to 7 of a request's life, in their order. Each refusal leaves at once, so whatever is
//! not explicitly permitted is denied. Verifications are cached, decisions never are: revocation,
//! windows, names and caveats are looked at anew for every request.

mod basic;
mod bearer;
mod cache;
mod decisive;
mod denial;
mod explain;
mod lease;
mod media;
mod renew;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::authority::{Authority, Snapshot};
use crate::config::{Config, Denials};
use crate::directory::{Directory, Unanswered};
use crate::macaroon::Text;
use crate::metrics::Metrics;
use crate::policy::{AccessError, Asked, Body, Fields, Lookup, Rule};
use crate::route::{Endpoint, RouteError, RouteMatch, Target};

pub use basic::Basic;
pub use denial::{Denial, Unusable};
pub use lease::{Lease, LeaseEnd, Review};

use bearer::{Bearer, Candidate};
use cache::VerificationCache;
use decisive::{Decisive, Lacking};
use watch::ClockWatch;

/// Decides. Shared by all threads.
#[derive(Debug)]
pub struct Authorizer {
    config: Arc<Config>,
    authority: Arc<Authority>,
    directory: Arc<Directory>,
    location: Text,
    cache: Arc<VerificationCache>,
    clock: Arc<ClockWatch>,
    metrics: Arc<Metrics>,
}

/// What the decision looks at, borrowed from the request exactly as it came.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a Method,
    /// The one host of the request, already checked for its form, as sent (with its port).
    pub host: &'a str,
    /// Path and query, raw bytes as sent. CONNECT has none, and is matched as `/` of its host.
    pub target: &'a str,
    /// All headers; `Authorization` is there at most once.
    pub headers: &'a HeaderMap,
    /// The credential, where it is one of Basic authentication.
    pub basic: Option<&'a Basic>,
    /// The body, once it was asked for and has been read.
    pub body: Option<&'a Body>,
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

/// A decision that cannot be made yet: something has to be there first. Whoever can wait for it
/// does, and asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What is lacking.
    pub need: Need,
    /// Index of the matched route.
    pub route: Option<usize>,
    /// The first usable token.
    pub token: Option<TokenRef>,
}

/// What a decision lacks. The token has verified by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The body, to be read with [`Authorizer::read_body`].
    Body {
        /// Index of the route.
        route: usize,
        /// Bytes it may have, inclusive.
        limit: usize,
    },
    /// An answer of the directory.
    Name(Lookup),
}

/// Why there is no permit yet, or never.
enum Stop {
    Denied(Denial),
    Needs(Need),
}

impl<T: Into<Denial>> From<T> for Stop {
    fn from(denial: T) -> Self {
        Self::Denied(denial.into())
    }
}

/// Everything that is worth saying about one decision, for the log, metrics and the answer.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Index of the matched route, even where the verdict is a denial.
    pub route: Option<usize>,
    /// What the route asked for, as far as it could be told.
    pub accesses: SmallVec<[Asked<'a>; 1]>,
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
    endpoints: Box<[Endpoint]>,
}

/// What the upstream is told about the bearer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the decisive token.
    pub token: Option<Uuid>,
    /// Organization of the access; several only where the request is about all of the bearer's.
    pub orgs: SmallVec<[u64; 1]>,
    /// App of the access.
    pub app: Option<u64>,
    /// User, from a trusted attestation.
    pub user: Option<u64>,
    /// The cluster of the access, where only the token names it.
    pub cluster: Option<Box<str>>,
}

impl Permit {
    /// Leave without a decision, for tests of what comes after it.
    #[cfg(test)]
    pub(crate) fn for_test(route: usize, identity: Identity) -> Self {
        Self {
            route,
            identity,
            lease: None,
            endpoints: Box::default(),
        }
    }

    /// Index of the route in the configuration.
    pub fn route(&self) -> usize {
        self.route
    }

    /// Where the tunnel leads that this is leave for, made from what was judged. Several are tried
    /// in their order.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
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
        let cache = Arc::new(VerificationCache::new(&config.cache));
        Self {
            config,
            authority,
            directory,
            location,
            cache,
            clock: Arc::new(ClockWatch::new()),
            metrics,
        }
    }

    /// Decides about one request at `now`, in seconds of Unix time.
    ///
    /// # Errors
    ///
    /// What the decision has to wait for. It is neither a permit nor a denial.
    pub fn authorize<'a>(&'a self, head: &Head<'a>, now: i64) -> Result<Decision<'a>, Waiting> {
        self.watch_clock(now);
        let mut decision = Decision {
            route: None,
            accesses: SmallVec::new(),
            token: None,
            reason: None,
            verdict: Err(Denial::NoRoute),
        };
        decision.verdict = match self.decide(head, now, &mut decision) {
            Ok(permit) => Ok(permit),
            Err(Stop::Denied(denial)) => Err(denial),
            Err(Stop::Needs(need)) => {
                return Err(Waiting {
                    need,
                    route: decision.route,
                    token: decision.token,
                });
            }
        };
        if let (Err(denial), None) = (&decision.verdict, &decision.reason) {
            decision.reason = denial.detail().map(Into::into);
        }
        if let (Err(Denial::Prohibited(told)), Denials::Terse) =
            (&mut decision.verdict, self.config.denials)
        {
            *told = explain::TERSE.into();
        }
        Ok(decision)
    }

    /// Reads the body of a request of this route, which may be empty.
    ///
    /// # Errors
    ///
    /// What cannot be read in one way only, as the denial that it is answered with.
    pub fn read_body(
        &self,
        route: usize,
        headers: &HeaderMap,
        bytes: &[u8],
    ) -> Result<Body, Denial> {
        let route = self.config.routes.get(route).ok_or(Denial::NoRoute)?;
        let form = route.rule.body().ok_or(Denial::NoRoute)?;
        if !bytes.is_empty() {
            media::check(headers).map_err(Denial::Media)?;
        }
        Body::read(form, bytes).map_err(|fault| Denial::BadBody(fault.to_string().into()))
    }

    /// Whether what a route takes are GraphQL requests, so that its denials have their form.
    pub fn is_graphql(&self, route: usize) -> bool {
        let route = self.config.routes.get(route);
        route.is_some_and(|route| matches!(route.rule, Rule::GraphQl(_)))
    }

    /// Has the directory ask about a name, for the bearer of a token; the next decision knows the
    /// answer.
    ///
    /// # Errors
    ///
    /// When there is no answer in time: no answer is a denial, never a guess.
    pub async fn resolve(&self, lookup: &Lookup, token: Option<TokenRef>) -> Result<(), Denial> {
        let token = token.map(|token| token.uuid);
        let answer = self.directory.resolve(lookup, token).await;
        answer.map_err(|why| match why == Unanswered::TooMany {
            true => Denial::TokenBusy,
            false => Denial::Unavailable(NOT_ASKED),
        })
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
    ) -> Result<Permit, Stop> {
        let target = Target::parse(head.target)?;
        let matched = self.config.table.find(head.method, head.host, &target);
        if let Ok(RouteMatch { route, .. }) | Err(RouteError::Segment { route, .. }) = &matched {
            said.route = Some(*route);
        }
        let route = said.route.and_then(|index| self.config.routes.get(index));
        if let (Ok(matched), Some(Rule::Public)) = (&matched, route.map(|route| &route.rule)) {
            self.check_query(matched.route, &target)?;
            let identity = Identity::default();
            return Ok(Permit {
                route: matched.route,
                identity,
                lease: None,
                endpoints: Box::default(),
            });
        }
        self.ready().map_err(Denial::Unavailable)?;
        let snapshot = self.authority.snapshots().load();
        let basic = head.basic.filter(|_| route.is_some_and(|r| r.basic));
        let bearer = self.bearer(head.headers, basic, &snapshot, now)?;
        let usable = bearer.usable(&snapshot.revocations, now)?;
        said.token = usable.first().map(|candidate| candidate.token);
        // Only a bearer of a usable token learns which routes there are.
        let RouteMatch {
            route: index,
            captures,
            host,
        } = matched.map_err(|error| match error {
            RouteError::NoRoute | RouteError::NoHost if *head.method == Method::CONNECT => {
                Denial::NoTunnel
            }
            error @ (RouteError::NoRoute
            | RouteError::NoHost
            | RouteError::NoMethod { .. }
            | RouteError::Segment { .. }) => Denial::from(error),
        })?;
        let route = self.config.routes.get(index).ok_or(Denial::NoRoute)?;
        self.check_query(index, &target)?;
        Self::check_form(&route.rule, head.headers)?;
        if let (Some(_), None) = (route.rule.body(), head.body) {
            let limit = route.body_limit;
            return Err(Stop::Needs(Need::Body {
                route: index,
                limit,
            }));
        }
        let endpoints = match &route.tunnel {
            None => Box::default(),
            Some(tunnel) => tunnel.endpoints(&captures, &host),
        };
        let fields = Fields {
            captures,
            host,
            query: target.query(),
            headers: head.headers,
            basic_user: basic.map(Basic::user),
            json: head.body.and_then(Body::json),
            command: head.body.and_then(Body::command),
            roots: head.body.and_then(Body::roots),
            each: None,
        };
        said.accesses = match route
            .rule
            .accesses(&fields, &self.directory.view(&snapshot.names))
        {
            Ok(accesses) => accesses,
            Err(AccessError::Unresolved(lookup)) => return Err(Stop::Needs(Need::Name(lookup))),
            Err(error) => return Err(self.no_access(error, said).into()),
        };
        if let Rule::Public = route.rule {
            return Err(Denial::NoRoute.into());
        }
        let needs_user = route.rule.needs_user(&fields);
        let decisive = self.decisive(&usable, needs_user, now, said)?;
        let permit = Self::permit(index, &bearer, decisive, said);
        let permit = permit.ok_or(Denial::NoRoute)?;
        Ok(Permit {
            endpoints,
            ..permit
        })
    }

    /// The permit for what all decisive tokens together permit.
    fn permit(
        route: usize,
        bearer: &Arc<Bearer>,
        decisive: Decisive<'_>,
        said: &mut Decision<'_>,
    ) -> Option<Permit> {
        let first = decisive.tokens.first()?;
        said.token = Some(first.token);
        let app = said.accesses.first().and_then(|asked| asked.access.app);
        Some(Permit {
            route,
            identity: Identity {
                token: Some(first.token.uuid),
                orgs: decisive.orgs,
                app: app.filter(|app| *app != 0),
                user: first.user,
                cluster: decisive.cluster,
            },
            lease: Some(Lease::new(bearer, &decisive.tokens)?),
            endpoints: Box::default(),
        })
    }

    /// Every key of the query must be declared: the upstream might know one that usher does not.
    fn check_query(&self, route: usize, target: &Target<'_>) -> Result<(), Denial> {
        let route = self.config.routes.get(route).ok_or(Denial::NoRoute)?;
        Ok(route.query.check(&target.query())?)
    }

    /// Some servers merge the fields of a form, or of a JSON object, with those of the query. Where
    /// the query was judged and the body is not, such a body could say something else.
    fn check_form(rule: &Rule, headers: &HeaderMap) -> Result<(), Denial> {
        if !rule.reads_query() || rule.body().is_some() {
            return Ok(());
        }
        let form = headers
            .get_all(http::header::CONTENT_TYPE)
            .iter()
            .any(|value| {
                let text = value.as_bytes().to_ascii_lowercase();
                let text = text.trim_ascii_start();
                let media = text.split(|byte| matches!(byte, b';' | b' ' | b',')).next();
                FORMS.iter().any(|form| text.starts_with(form))
                    || media.is_some_and(|media| media.ends_with(b"json"))
            });
        match form {
            true => Err(Denial::BadField(FORM_BODY.into())),
            false => Ok(()),
        }
    }

    /// The verified tokens of the request, from the cache if they were verified before.
    fn bearer(
        &self,
        headers: &HeaderMap,
        basic: Option<&Basic>,
        snapshot: &Snapshot,
        now: i64,
    ) -> Result<Arc<Bearer>, Unusable> {
        let header = headers
            .get(http::header::AUTHORIZATION)
            .ok_or(Unusable::Missing)?;
        let value = basic.map_or(header.as_bytes(), |basic| basic.password().as_bytes());
        if let Some(known) = self.cache.get(value, snapshot.generation) {
            self.metrics.cache_hits.inc();
            return known;
        }
        self.metrics.cache_misses.inc();
        let text = std::str::from_utf8(value)
            .ok()
            .filter(|text| text.is_ascii())
            .ok_or_else(|| Unusable::Malformed(NOT_ASCII.into()))?;
        let limits = &self.config.token_limits;
        let chains = |key: &[u8]| self.cache.chain(key, snapshot.generation);
        let verified = Bearer::verify(text, &self.location, snapshot, limits, &chains);
        self.cache.keep(value, snapshot.generation, &verified, now);
        verified.map(|(bearer, _)| bearer)
    }

    /// The tokens that together permit what is asked.
    fn decisive<'b>(
        &self,
        usable: &[&'b Candidate],
        needs_user: bool,
        now: i64,
        said: &mut Decision<'_>,
    ) -> Result<Decisive<'b>, Denial> {
        let users: SmallVec<[&Candidate; 2]>;
        let usable = if needs_user {
            users = usable
                .iter()
                .filter(|t| t.user.is_some())
                .copied()
                .collect();
            if users.is_empty() {
                return Err(Denial::Prohibited(explain::NO_USER.into()));
            }
            &users[..]
        } else {
            usable
        };
        let lacking = match Decisive::of(usable, &said.accesses, now) {
            Ok(decisive) => return Ok(decisive),
            Err(Lacking::OneToken) => {
                return Err(Denial::Prohibited(explain::NOT_ONE_TOKEN.into()));
            }
            Err(Lacking::Access(index)) => said.accesses.get(index),
        };
        let detail = explain::prohibited(usable, lacking, now);
        let public = self.config.directory.public_names || !detail.hints_at_names;
        let told = if public {
            &detail.text
        } else {
            explain::NAMES_ARE_SECRET
        };
        let denial = Denial::Prohibited(told.into());
        said.reason = Some(detail.text.into());
        Err(denial)
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
            AccessError::Nothing
            | AccessError::Invalid(_)
            | AccessError::Denied
            | AccessError::NoRule(_)
            | AccessError::DeniedField(_)
            | AccessError::Guarded(_)
            | AccessError::NoPeer => Denial::Prohibited(text.into()),
            AccessError::Missing(_)
            | AccessError::Empty(_)
            | AccessError::Repeated(_)
            | AccessError::NotAnId(_)
            | AccessError::NotBoolean(_)
            | AccessError::NotText(_)
            | AccessError::NotAnImage(_)
            | AccessError::Disagree(..)
            | AccessError::NoCommand
            | AccessError::TooMany
            | AccessError::NotASubject(_)
            | AccessError::OtherSubject(..)
            | AccessError::UndeclaredKey(_) => Denial::BadField(text.into()),
        }
    }
}

/// Bodies of forms, in lower case. JSON has many names, which all end alike.
const FORMS: [&[u8]; 2] = [b"application/x-www-form-urlencoded", b"multipart/"];

const FORM_BODY: &str = "the route is judged by its query, which fields in the body could contradict; send the body \
     as application/octet-stream";

/// Names that the directory has to ask about are not there yet.
const NOT_ASKED: &str = "the directory has not answered";

const NOT_ASCII: &str = "the credential holds characters that no token has";

#[cfg(test)]
mod tests;

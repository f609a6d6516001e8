//! What one configuration says to all workers: secrets read, roots loaded, names resolved to
//! types. A reload makes another one, and nothing in one ever changes.

use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderName;

use super::assertion::Signer;
use super::budget::Budget;
use super::decide::Decider;
use super::tls::Reloader;
use super::upstream::{Secrets, UpstreamPlan};
use super::{Plan, StartError};
use crate::config::{ConnectionLimits, Network, Timeouts};
use crate::metrics::{Metrics, RouteMetrics};
use crate::peer;

/// What is served by, from one reload to the next.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) decider: Decider,
    pub(super) routes: Vec<RouteEntry>,
    pub(super) upstreams: Vec<Arc<UpstreamPlan>>,
    pub(super) limits: ConnectionLimits,
    pub(super) timeouts: Timeouts,
    /// Whose word about the client counts.
    pub(super) trusted_proxies: Arc<[Network]>,
    /// For what is held of bodies that are judged. What is held already counts in the next one.
    pub(super) judged: Budget,
    /// The number that the next new route gets.
    numbers: u64,
}

/// A route, as far as forwarding needs it.
#[derive(Clone, Debug)]
pub(super) struct RouteEntry {
    pub(super) name: Arc<str>,
    /// The same in two setups if what the one permitted stays permitted under the other.
    pub(super) number: u64,
    pub(super) upstream: usize,
    pub(super) stream: bool,
    /// Whether it asks for Basic authentication.
    pub(super) basic: bool,
    /// Whether its requests may become a `WebSocket`.
    pub(super) websocket: bool,
    /// Whether its requests become tunnels.
    pub(super) tunnel: bool,
    /// Whether they do with CONNECT.
    pub(super) connects: bool,
    /// Names that request trailers may not have: what the rule reads, and the credential.
    pub(super) late: Arc<[HeaderName]>,
    pub(super) metrics: RouteMetrics,
}

impl Setup {
    /// The first one of a server.
    pub(super) fn first(
        plan: &Plan<'_>,
        decider: Decider,
        certificates: &mut Reloader,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let nothing = Self {
            decider: decider.clone(),
            routes: Vec::new(),
            upstreams: Vec::new(),
            limits: plan.limits,
            timeouts: plan.timeouts,
            trusted_proxies: Arc::default(),
            judged: budget(plan, metrics),
            numbers: 0,
        };
        let standing = vec![None; plan.routes.len()];
        nothing.next(plan, &standing, decider, certificates, metrics)
    }

    /// The one after this. `standing` says for each route of the plan which one of this setup it
    /// is, if it is. An upstream that nothing changes for is taken over with its connections.
    pub(super) fn next(
        &self,
        plan: &Plan<'_>,
        standing: &[Option<usize>],
        decider: Decider,
        certificates: &mut Reloader,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let mut upstreams = Vec::new();
        for upstream in plan.upstreams {
            let credential = upstream.credential.as_ref().map(peer::credential);
            let sign = upstream.sign.as_ref();
            let signer = sign.map(|sign| Signer::new(sign, &upstream.name));
            let secrets = Secrets {
                credential: credential.transpose()?,
                signer: signer.transpose()?,
            };
            let same = self.upstreams.iter().filter(|_| self.limits == plan.limits);
            let mut same = same.filter(|before| before.is_made_of(upstream, &secrets));
            upstreams.push(match same.next() {
                Some(same) => Arc::clone(same),
                None => {
                    let tls = certificates.upstream(upstream)?;
                    Arc::new(UpstreamPlan::new(upstream, secrets, tls, metrics)?)
                }
            });
        }
        let mut numbers = self.numbers;
        let mut routes = Vec::new();
        let mut taken = HashSet::new();
        for (index, route) in plan.routes.iter().enumerate() {
            let name = Arc::from(route.name);
            let credential = plan.upstreams.get(route.upstream);
            let credential = credential.and_then(|upstream| upstream.credential.as_ref());
            let reads = route.reads.iter().cloned();
            let before = standing.get(index).copied().flatten();
            let before = before.and_then(|before| self.routes.get(before));
            let number = match before.filter(|before| taken.insert(before.number)) {
                Some(before) => before.number,
                None => {
                    numbers += 1;
                    numbers
                }
            };
            routes.push(RouteEntry {
                metrics: metrics.route(&name),
                name,
                number,
                upstream: route.upstream,
                stream: route.stream,
                basic: route.basic,
                websocket: route.websocket,
                tunnel: route.tunnel,
                connects: route.connects,
                late: reads
                    .chain(credential.map(|credential| credential.header.clone()))
                    .collect(),
            });
        }
        Ok(Self {
            decider,
            routes,
            upstreams,
            limits: plan.limits,
            timeouts: plan.timeouts,
            trusted_proxies: plan.trusted_proxies.into(),
            judged: budget(plan, metrics),
            numbers,
        })
    }
}

fn budget(plan: &Plan<'_>, metrics: &Metrics) -> Budget {
    Budget::new(plan.limits.judged_bodies, metrics.judged_body_bytes.clone())
}

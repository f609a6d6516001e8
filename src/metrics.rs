//! What is counted, and how it is read.
//!
//! Labels are bounded: routes and upstreams of the configuration, verdicts, codes, status classes.
//! What a permitted request counts is resolved once a route, so that it costs a few atomic adds.

mod durations;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use durations::Durations;

/// Every counter of the process, shared by all threads.
#[derive(Debug)]
pub struct Metrics {
    /// Requests whose tokens were verified before.
    pub cache_hits: Counter,
    /// Requests whose tokens had to be verified.
    pub cache_misses: Counter,
    /// From the request head to the verdict.
    pub decision: Durations,
    /// Open downstream connections.
    pub connections_open: Gauge,
    /// Bytes held of bodies that are judged.
    pub judged_body_bytes: Gauge,
    /// Accepted downstream connections.
    pub connections: Counter,
    /// TLS handshakes that failed or came too late.
    pub tls_failures: Counter,
    /// Connections that were cut at the end of a drain.
    pub drain_aborted: Counter,
    /// Steps back of the wall clock.
    pub clock_steps: Counter,
    /// 1 if the configuration on disk could not be put into use, and an older one is served.
    pub config_stale: Gauge,
    config_reloads: Family<Outcome, Counter>,
    refused: Family<Refused, Counter>,
    requests: Family<Request, Counter>,
    responses: Family<Response, Counter>,
    upstream_connections: Family<UpstreamConnection, Counter>,
    forward_failures: Family<ForwardFailure, Counter>,
    leases_ended: Family<LeaseEnded, Counter>,
    upstream_duration: Family<Upstream, Durations>,
    tls_reloads: Family<Outcome, Counter>,
    lookups: Family<Outcome, Counter>,
    lookup_duration: Durations,
    registry: Registry,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            decision: Durations::default(),
            connections_open: Gauge::default(),
            judged_body_bytes: Gauge::default(),
            connections: Counter::default(),
            tls_failures: Counter::default(),
            drain_aborted: Counter::default(),
            clock_steps: Counter::default(),
            config_stale: Gauge::default(),
            config_reloads: Family::default(),
            refused: Family::default(),
            requests: Family::default(),
            responses: Family::default(),
            upstream_connections: Family::default(),
            forward_failures: Family::default(),
            leases_ended: Family::default(),
            upstream_duration: Family::default(),
            tls_reloads: Family::default(),
            lookups: Family::default(),
            lookup_duration: Durations::default(),
            registry: Registry::with_prefix("usher"),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let to = &mut self.registry;
        to.register(
            "requests",
            "Requests by verdict and code",
            self.requests.clone(),
        );
        to.register(
            "responses",
            "Forwarded responses by class of status",
            self.responses.clone(),
        );
        to.register(
            "decision_seconds",
            "From the request head to the verdict",
            self.decision.clone(),
        );
        to.register(
            "verification_cache_hits",
            "Requests whose tokens were verified before",
            self.cache_hits.clone(),
        );
        to.register(
            "verification_cache_misses",
            "Requests whose tokens had to be verified",
            self.cache_misses.clone(),
        );
        to.register(
            "connections_open",
            "Open downstream connections",
            self.connections_open.clone(),
        );
        to.register(
            "judged_body_bytes",
            "Held of bodies that are judged, until their upstream has them",
            self.judged_body_bytes.clone(),
        );
        to.register(
            "connections",
            "Accepted downstream connections",
            self.connections.clone(),
        );
        to.register(
            "connections_refused",
            "Connections over a limit",
            self.refused.clone(),
        );
        to.register(
            "tls_failures",
            "TLS handshakes that failed or came too late",
            self.tls_failures.clone(),
        );
        to.register(
            "tls_reloads",
            "Certificates that changed on disk, by outcome",
            self.tls_reloads.clone(),
        );
        to.register(
            "config_reloads",
            "Readings of the configuration while running, by outcome",
            self.config_reloads.clone(),
        );
        to.register(
            "config_stale",
            "Whether the configuration on disk could not be put into use",
            self.config_stale.clone(),
        );
        to.register(
            "clock_steps",
            "Steps back of the wall clock by more than 30 seconds",
            self.clock_steps.clone(),
        );
        to.register(
            "upstream_connections",
            "Connections taken for a request, by origin",
            self.upstream_connections.clone(),
        );
        to.register(
            "forward_failures",
            "Permitted requests that usher had to answer itself, by code",
            self.forward_failures.clone(),
        );
        to.register(
            "leases_ended",
            "Permitted requests cut because their token ended, by code",
            self.leases_ended.clone(),
        );
        to.register(
            "upstream_seconds",
            "From the first byte sent to the response head",
            self.upstream_duration.clone(),
        );
        to.register(
            "directory_lookups",
            "Names asked for over HTTP, by outcome",
            self.lookups.clone(),
        );
        to.register(
            "directory_lookup_seconds",
            "From a question about a name to its answer",
            self.lookup_duration.clone(),
        );
        to.register(
            "drain_aborted",
            "Connections cut at the end of a drain",
            self.drain_aborted.clone(),
        );
    }

    /// The handles of one route.
    pub fn route(&self, name: &Arc<str>) -> RouteMetrics {
        let class = |class| {
            self.responses.get_or_create_owned(&Response {
                route: Arc::clone(name),
                class,
            })
        };
        RouteMetrics {
            permitted: self.requests.get_or_create_owned(&Request {
                route: Arc::clone(name),
                verdict: "permit",
                code: "permitted",
            }),
            classes: CLASSES.map(class),
        }
    }

    /// The handles of one upstream.
    pub fn upstream(&self, name: &Arc<str>) -> UpstreamMetrics {
        let taken = |origin| {
            self.upstream_connections
                .get_or_create_owned(&UpstreamConnection {
                    upstream: Arc::clone(name),
                    origin,
                })
        };
        UpstreamMetrics {
            connected: taken("new"),
            reused: taken("reused"),
            duration: self.upstream_duration.get_or_create_owned(&Upstream {
                upstream: Arc::clone(name),
            }),
        }
    }

    /// The handles of what looks after certificates; they show from then on.
    pub fn tls_reloads(&self) -> Reloads {
        Reloads::of(&self.tls_reloads)
    }

    /// The handles of what looks after the configuration; they show from then on.
    pub fn config_reloads(&self) -> Reloads {
        Reloads::of(&self.config_reloads)
    }

    /// Counts a denial; `route` is empty where none matched.
    pub fn denied(&self, route: &Arc<str>, code: &'static str) {
        self.requests
            .get_or_create(&Request {
                route: Arc::clone(route),
                verdict: "deny",
                code,
            })
            .inc();
    }

    /// Counts a permitted request that the upstream did not answer.
    pub fn forward_failed(&self, upstream: &Arc<str>, code: &'static str) {
        self.forward_failures
            .get_or_create(&ForwardFailure {
                upstream: Arc::clone(upstream),
                code,
            })
            .inc();
    }

    /// Counts a permitted request that outlived its token.
    pub fn lease_ended(&self, route: &Arc<str>, code: &'static str) {
        self.leases_ended
            .get_or_create(&LeaseEnded {
                route: Arc::clone(route),
                code,
            })
            .inc();
    }

    /// Counts a name that was asked for over HTTP, and how long that took, if it was.
    pub fn looked_up(&self, outcome: &'static str, took: Option<Duration>) {
        self.lookups.get_or_create(&Outcome { outcome }).inc();
        if let Some(took) = took {
            self.lookup_duration.observe(took);
        }
    }

    /// Counts a connection over the limit named.
    pub fn refused(&self, limit: &'static str) {
        self.refused.get_or_create(&Refused { limit }).inc();
    }

    /// Writes all metrics in the `OpenMetrics` text format.
    ///
    /// # Errors
    ///
    /// When the writer fails.
    pub fn write(&self, to: &mut String) -> Result<(), fmt::Error> {
        text::encode(to, &self.registry)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Files that were read again.
#[derive(Clone, Debug)]
pub struct Reloads {
    /// What is in them is in use.
    pub loaded: Counter,
    /// It cannot be used; the old still is.
    pub failed: Counter,
}

impl Reloads {
    fn of(family: &Family<Outcome, Counter>) -> Self {
        let outcome = |outcome| family.get_or_create_owned(&Outcome { outcome });
        Self {
            loaded: outcome("loaded"),
            failed: outcome("failed"),
        }
    }
}

/// What requests of one route count.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    /// Permitted requests.
    pub permitted: Counter,
    classes: [Counter; CLASSES.len()],
}

impl RouteMetrics {
    /// Counts a response with this status.
    pub fn responded(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(counter) = self.classes.get(class) {
            counter.inc();
        }
    }
}

/// What requests to one upstream count.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    /// Requests on a connection made for them.
    pub connected: Counter,
    /// Requests on a connection that was open already.
    pub reused: Counter,
    /// From the first byte sent to the response head.
    pub duration: Durations,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    route: Arc<str>,
    verdict: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Response {
    route: Arc<str>,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Upstream {
    upstream: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamConnection {
    upstream: Arc<str>,
    origin: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ForwardFailure {
    upstream: Arc<str>,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeaseEnded {
    route: Arc<str>,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refused {
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_under_its_route_verdict_and_code() {
        let metrics = Metrics::new();
        let name = Arc::from("machine-get");
        let route = metrics.route(&name);
        route.permitted.inc();
        route.responded(204);
        metrics.denied(&name, "prohibited");
        let mut out = String::new();
        metrics.write(&mut out).unwrap();
        for line in [
            r#"usher_requests_total{route="machine-get",verdict="permit",code="permitted"} 1"#,
            r#"usher_requests_total{route="machine-get",verdict="deny",code="prohibited"} 1"#,
            r#"usher_responses_total{route="machine-get",class="2xx"} 1"#,
        ] {
            assert!(out.lines().any(|l| l == line), "{line} not in {out}");
        }
    }

    #[test]
    fn a_status_outside_the_classes_is_not_counted() {
        let metrics = Metrics::new();
        let route = metrics.route(&Arc::from("r"));
        route.responded(0);
        route.responded(999);
        let mut out = String::new();
        metrics.write(&mut out).unwrap();
        assert!(
            out.lines()
                .filter(|l| l.starts_with("usher_responses_total"))
                .all(|l| l.ends_with(" 0")),
            "{out}"
        );
    }
}

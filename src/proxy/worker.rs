//! One thread that accepts, serves and forwards on its own.

use std::net;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use super::admission::Admission;
use super::budget::Budget;
use super::connection::Protocols;
use super::decide::Decider;
use super::decision::DecisionIds;
use super::lease::{self, Leases};
use super::listener;
use super::tls::Current;
use super::upstream::{Upstream, UpstreamPlan};
use crate::authz::Permit;
use crate::config::{ConnectionLimits, Network, Timeouts};
use crate::metrics::{Metrics, RouteMetrics};
use crate::shutdown::Shutdown;

/// What all workers share, read-only but for counters.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) decider: Decider,
    pub(super) metrics: Arc<Metrics>,
    pub(super) routes: Vec<RouteEntry>,
    pub(super) upstreams: Vec<UpstreamPlan>,
    pub(super) limits: ConnectionLimits,
    pub(super) timeouts: Timeouts,
    pub(super) admission: Admission,
    /// For what is held of bodies that are judged.
    pub(super) judged: Budget,
    /// Whose word about the client counts.
    pub(super) trusted_proxies: Vec<Network>,
    /// Random, so that decision ids of two runs differ.
    pub(super) process: u64,
}

/// A route, as far as forwarding needs it.
#[derive(Clone, Debug)]
pub(super) struct RouteEntry {
    pub(super) name: Arc<str>,
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

/// A socket that listens, and how connections on it begin.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: net::TcpListener,
    pub(super) tls: Option<Current<ServerConfig>>,
}

/// The state of one thread. Nothing in it is shared with another but through [`Shared`].
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) decider: Decider,
    pub(super) metrics: Arc<Metrics>,
    pub(super) routes: Vec<RouteEntry>,
    pub(super) upstreams: Vec<Upstream>,
    /// Whether there is a route that CONNECT can have.
    pub(super) connects: bool,
    pub(super) limits: ConnectionLimits,
    pub(super) timeouts: Timeouts,
    pub(super) protocols: Protocols,
    pub(super) ids: DecisionIds,
    /// Under which everything here goes on that goes on after its decision.
    pub(super) leases: Rc<Leases>,
    pub(super) drain: CancellationToken,
    pub(super) connections: TaskTracker,
    pub(super) shared: Arc<Shared>,
    /// The label of requests that match no route.
    pub(super) no_route: Arc<str>,
}

impl Worker {
    fn new(shared: Arc<Shared>, index: u16, drain: CancellationToken) -> Self {
        let upstream = |plan: &UpstreamPlan| Upstream::new(plan.clone(), &shared.limits);
        Self {
            decider: shared.decider.clone(),
            metrics: Arc::clone(&shared.metrics),
            routes: shared.routes.clone(),
            upstreams: shared.upstreams.iter().map(upstream).collect(),
            connects: shared.routes.iter().any(|route| route.connects),
            limits: shared.limits,
            timeouts: shared.timeouts,
            protocols: Protocols::new(&shared.limits),
            ids: DecisionIds::new(shared.process, index),
            leases: Leases::new(shared.decider.clone()),
            drain,
            connections: TaskTracker::new(),
            no_route: Arc::from(""),
            shared,
        }
    }
}

impl Worker {
    /// Whether a permit is leave for a tunnel.
    pub(super) fn opens_tunnel(&self, permit: &Permit) -> bool {
        let route = self.routes.get(permit.route());
        route.is_some_and(|route| route.tunnel)
    }
}

/// Runs one worker on the calling thread until it is drained; says how many connections were cut.
///
/// A runtime that stays on its thread takes tasks that are not `Send`: counters and pools are
/// plain cells, and a task is never moved or stolen, which a `LocalSet` on top of a runtime would
/// also give, at the price of a second queue.
pub(super) fn run(
    shared: Arc<Shared>,
    index: u16,
    listeners: Vec<Bound>,
    shutdown: &Shutdown,
) -> Result<usize, StartError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(StartError::Thread)?;
    // A child of its own, so that asking it takes a lock that no other thread wants.
    let worker = Worker::new(shared, index, shutdown.drain.child_token());
    runtime.block_on(serve(Rc::new(worker), listeners, &shutdown.cut))
}

async fn serve(
    worker: Rc<Worker>,
    listeners: Vec<Bound>,
    cut: &CancellationToken,
) -> Result<usize, StartError> {
    let mut standing = JoinSet::new();
    for bound in listeners {
        let listener = TcpListener::from_std(bound.socket).map_err(StartError::Thread)?;
        standing.spawn_local(listener::accept(Rc::clone(&worker), listener, bound.tls));
    }
    standing.spawn_local(sweep(Rc::clone(&worker)));
    // Apart from those that end with the drain: what is drained still goes on under its lease.
    let mut watching = JoinSet::new();
    watching.spawn_local(lease::look_after(Rc::clone(&worker.leases)));
    let worker = &worker;
    tokio::select! {
        () = worker.drain.cancelled() => {}
        Some(_) = watching.join_next() => return Err(StartError::Stopped),
        Some(_) = standing.join_next() => {
            // They end with the drain only; a worker that no longer accepts must not look alive.
            if !worker.drain.is_cancelled() {
                return Err(StartError::Stopped);
            }
        }
    }
    standing.shutdown().await;
    worker.connections.close();
    tokio::select! {
        () = worker.connections.wait() => {}
        // Nobody looks after the leases any more, so nothing may go on.
        Some(_) = watching.join_next() => {}
        () = sleep(worker.timeouts.drain) => {}
        () = cut.cancelled() => {}
    }
    let aborted = worker.connections.len();
    worker
        .metrics
        .drain_aborted
        .inc_by(u64::try_from(aborted).unwrap_or(u64::MAX));
    Ok(aborted)
}

/// Closes what is parked too long.
async fn sweep(worker: Rc<Worker>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    while let Some(now) = worker.drain.run_until_cancelled(ticks.tick()).await {
        let now: Instant = now;
        for upstream in &worker.upstreams {
            upstream.sweep(now);
        }
    }
}

/// How often parked connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

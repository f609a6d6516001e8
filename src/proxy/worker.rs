//! One thread that accepts, serves and forwards on its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
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
use super::lease::{self, Leases, Standing};
use super::listener;
use super::setup::{RouteEntry, Setup};
use super::tls::Current;
use super::upstream::Upstream;
use crate::authz::Permit;
use crate::config::{ConnectionLimits, Network, Timeouts};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// What all workers share from start to end, read-only but for counters.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) admission: Admission,
    /// Random, so that decision ids of two runs differ.
    pub(super) process: u64,
}

/// A socket that listens, and how connections on it begin.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: net::TcpListener,
    pub(super) tls: Option<Current<ServerConfig>>,
}

/// The place of a worker on its thread. A reload puts another one there, which takes over what
/// must not be lost.
#[derive(Debug)]
pub(super) struct Post {
    worker: RefCell<Rc<Worker>>,
    pub(super) drain: CancellationToken,
    pub(super) connections: TaskTracker,
    pub(super) shared: Arc<Shared>,
}

/// The state of one thread for as long as it serves by one setup. Nothing in it is shared with
/// another thread but through [`Shared`] and the setup.
///
/// A request takes the worker once and keeps it, so that it is served by one setup from its head
/// to the head of its response; what goes on for longer keeps only what it needs.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) decider: Decider,
    pub(super) metrics: Arc<Metrics>,
    pub(super) routes: Vec<RouteEntry>,
    /// One for each route.
    standings: Vec<Standing>,
    pub(super) upstreams: Vec<Rc<Upstream>>,
    /// Whether there is a route that CONNECT can have.
    pub(super) connects: bool,
    pub(super) limits: ConnectionLimits,
    pub(super) timeouts: Timeouts,
    /// Whose word about the client counts.
    pub(super) trusted_proxies: Arc<[Network]>,
    /// For what is held of bodies that are judged.
    pub(super) judged: Budget,
    pub(super) protocols: Protocols,
    pub(super) ids: Rc<DecisionIds>,
    /// Under which everything here goes on that goes on after its decision.
    pub(super) leases: Rc<Leases>,
    /// The label of requests that match no route.
    pub(super) no_route: Arc<str>,
}

impl Post {
    fn new(shared: Arc<Shared>, setup: &Setup, index: u16, drain: CancellationToken) -> Self {
        let ids = DecisionIds::new(shared.process, index);
        let nobody = Worker {
            decider: setup.decider.clone(),
            metrics: Arc::clone(&shared.metrics),
            routes: Vec::new(),
            standings: Vec::new(),
            upstreams: Vec::new(),
            connects: false,
            limits: setup.limits,
            timeouts: setup.timeouts,
            trusted_proxies: Arc::default(),
            judged: setup.judged.clone(),
            protocols: Protocols::new(&setup.limits),
            ids: Rc::new(ids),
            leases: Leases::new(setup.decider.clone(), Arc::clone(&shared.metrics)),
            no_route: Arc::from(""),
        };
        Self {
            worker: RefCell::new(Rc::new(nobody.next(setup))),
            drain,
            connections: TaskTracker::new(),
            shared,
        }
    }

    /// The worker that serves now. Take it once for a request.
    pub(super) fn worker(&self) -> Rc<Worker> {
        Rc::clone(&self.worker.borrow())
    }

    /// Asks about the deadlines as they are now.
    pub(super) fn timed<T>(&self, ask: impl FnOnce(&Timeouts) -> T) -> T {
        ask(&self.worker.borrow().timeouts)
    }

    /// Has requests served by another setup from now on, and ends what it may not permit any more.
    fn relieve(&self, setup: &Setup) {
        let before = self.worker();
        let worker = Rc::new(before.next(setup));
        *self.worker.borrow_mut() = Rc::clone(&worker);
        let kept: HashMap<_, _> = numbered(&worker.routes).collect();
        for (route, standing) in before.routes.iter().zip(&before.standings) {
            if !kept.contains_key(&route.number) {
                standing.withdraw();
            }
        }
        for upstream in &before.upstreams {
            if !worker
                .upstreams
                .iter()
                .any(|kept| Rc::ptr_eq(kept, upstream))
            {
                upstream.retire();
            }
        }
        worker.leases.decide_by(setup.decider.clone());
    }
}

impl Worker {
    /// The one that serves after this, by another setup.
    fn next(&self, setup: &Setup) -> Self {
        let here: HashMap<_, _> = numbered(&self.routes).collect();
        let standing = |route: &RouteEntry| {
            let standing = here
                .get(&route.number)
                .and_then(|at| self.standings.get(*at));
            standing.cloned().unwrap_or_else(Standing::new)
        };
        // What goes on holds the name, and no two threads are to count one reference.
        let own = |route: &RouteEntry| RouteEntry {
            name: Arc::from(&*route.name),
            ..route.clone()
        };
        let upstream = |plan| {
            let mut known = self.upstreams.iter();
            match known.find(|known| Arc::ptr_eq(&known.plan, plan)) {
                Some(known) => Rc::clone(known),
                None => Rc::new(Upstream::new(Arc::clone(plan), &setup.limits)),
            }
        };
        Self {
            decider: setup.decider.clone(),
            metrics: Arc::clone(&self.metrics),
            standings: setup.routes.iter().map(standing).collect(),
            routes: setup.routes.iter().map(own).collect(),
            upstreams: setup.upstreams.iter().map(upstream).collect(),
            connects: setup.routes.iter().any(|route| route.connects),
            limits: setup.limits,
            timeouts: setup.timeouts,
            trusted_proxies: Arc::clone(&setup.trusted_proxies),
            judged: setup.judged.clone(),
            protocols: Protocols::new(&setup.limits),
            ids: Rc::clone(&self.ids),
            leases: Rc::clone(&self.leases),
            no_route: Arc::clone(&self.no_route),
        }
    }

    /// What goes on under the rules of a route goes on for as long as this stands.
    pub(super) fn standing(&self, route: usize) -> Standing {
        self.standings.get(route).cloned().unwrap_or_else(|| {
            // Cannot be: the permit came by a route of this worker.
            let none = Standing::new();
            none.withdraw();
            none
        })
    }

    /// Whether a permit is leave for a tunnel.
    pub(super) fn opens_tunnel(&self, permit: &Permit) -> bool {
        let route = self.routes.get(permit.route());
        route.is_some_and(|route| route.tunnel)
    }
}

/// Places by the number of the route that has them.
fn numbered(routes: &[RouteEntry]) -> impl Iterator<Item = (u64, usize)> {
    let numbers = routes.iter().map(|route| route.number);
    numbers.enumerate().map(|(at, number)| (number, at))
}

/// Runs one worker on the calling thread until it is drained; says how many connections were cut.
///
/// A runtime that stays on its thread takes tasks that are not `Send`: counters and pools are
/// plain cells, and a task is never moved or stolen, which a `LocalSet` on top of a runtime would
/// also give, at the price of a second queue.
pub(super) fn run(
    shared: Arc<Shared>,
    setups: watch::Receiver<Arc<Setup>>,
    index: u16,
    listeners: Vec<Bound>,
    shutdown: &Shutdown,
) -> Result<usize, StartError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(StartError::Thread)?;
    let mut setups = setups;
    let first = Arc::clone(&setups.borrow_and_update());
    // A child of its own, so that asking it takes a lock that no other thread wants.
    let post = Post::new(shared, &first, index, shutdown.drain.child_token());
    runtime.block_on(serve(Rc::new(post), setups, listeners, &shutdown.cut))
}

async fn serve(
    post: Rc<Post>,
    setups: watch::Receiver<Arc<Setup>>,
    listeners: Vec<Bound>,
    cut: &CancellationToken,
) -> Result<usize, StartError> {
    let mut standing = JoinSet::new();
    for bound in listeners {
        let listener = TcpListener::from_std(bound.socket).map_err(StartError::Thread)?;
        standing.spawn_local(listener::accept(Rc::clone(&post), listener, bound.tls));
    }
    standing.spawn_local(sweep(Rc::clone(&post)));
    standing.spawn_local(follow(Rc::clone(&post), setups));
    // Apart from those that end with the drain: what is drained still goes on under its lease.
    let mut watching = JoinSet::new();
    watching.spawn_local(lease::look_after(Rc::clone(&post.worker().leases)));
    let post = &post;
    tokio::select! {
        () = post.drain.cancelled() => {}
        Some(_) = watching.join_next() => return Err(StartError::Stopped),
        Some(_) = standing.join_next() => {
            // They end with the drain only; a worker that no longer accepts must not look alive.
            if !post.drain.is_cancelled() {
                return Err(StartError::Stopped);
            }
        }
    }
    standing.shutdown().await;
    post.connections.close();
    tokio::select! {
        () = post.connections.wait() => {}
        // Nobody looks after the leases any more, so nothing may go on.
        Some(_) = watching.join_next() => {}
        () = sleep(post.timed(|timeouts| timeouts.drain)) => {}
        () = cut.cancelled() => {}
    }
    let aborted = post.connections.len();
    post.shared
        .metrics
        .drain_aborted
        .inc_by(u64::try_from(aborted).unwrap_or(u64::MAX));
    Ok(aborted)
}

/// Closes what is parked too long.
async fn sweep(post: Rc<Post>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    while let Some(now) = post.drain.run_until_cancelled(ticks.tick()).await {
        let now: Instant = now;
        for upstream in &post.worker().upstreams {
            upstream.sweep(now);
        }
    }
}

/// Takes over each setup as soon as it is there.
async fn follow(post: Rc<Post>, setups: watch::Receiver<Arc<Setup>>) {
    let mut setups = setups;
    while let Some(Ok(())) = post.drain.run_until_cancelled(setups.changed()).await {
        let setup = Arc::clone(&setups.borrow_and_update());
        post.relieve(&setup);
    }
    // Also where there is nobody to make another one.
    post.drain.cancelled().await;
}

/// How often parked connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

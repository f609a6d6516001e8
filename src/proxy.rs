//! The edge: accepts connections, has each request decided, forwards what is permitted.
//!
//! Every thread has its own sockets, connections and upstream pools and shares nothing with the
//! others but counters. A request stays on its thread, and, towards an HTTP/1.1 upstream, in one
//! task from its first byte to the last of its response.
//!
//! In the order of a request's life: `listener` accepts, `connection` shakes hands and watches
//! the clock, `gate` looks at the bytes before hyper does, `service` reads the head and asks for
//! the decision, `forward` takes the permit to an `upstream`, `body` carries the rest, under the
//! `lease` of the permit, `respond` says no.

mod admission;
mod assertion;
mod body;
mod budget;
mod chunked;
mod client;
mod connection;
mod deadline;
mod decide;
mod decision;
mod forward;
mod gate;
mod guard;
mod headers;
mod host;
mod http1;
mod lease;
mod listener;
mod marks;
mod meter;
mod preface;
mod pulse;
mod record;
mod reload;
mod respond;
mod service;
mod setup;
mod socket;
mod tail;
mod tenure;
mod tls;
mod tunnel;
mod turn;
mod upgrade;
mod upstream;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use http::header::HeaderName;
use thiserror::Error;
use tokio::sync::watch;

pub use gate::{Checked, Gate, Refusal};
pub use respond::Code;

use self::admission::Admission;
use self::decide::Decider;
use self::reload::{Following, Watch};
use self::setup::Setup;
use self::tls::Reloader;
use self::worker::{Bound, Shared};
use crate::admin::{Admin, Readiness};
use crate::authority::SecretError;
use crate::authz::Authorizer;
use crate::config::{
    Config, ConnectionLimits, Files, Listener, Network, Route, Timeouts, Upstream,
};
use crate::metrics::Metrics;
use crate::peer::PeerError;
use crate::route::RouteSpec;
use crate::shutdown::Shutdown;

/// Everything bound and loaded; nothing can fail any more but the system itself.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    /// What is served by; all workers take over the next one.
    setups: watch::Sender<Arc<Setup>>,
    workers: Vec<Vec<Bound>>,
    addresses: Vec<SocketAddr>,
    admin: Option<(TcpListener, SocketAddr)>,
    watch: Watch,
}

impl Server {
    /// Binds the listeners, and reads certificates and secrets. Connections wait until
    /// [`Server::start`].
    ///
    /// # Errors
    ///
    /// When an address cannot be bound, or a file or secret cannot be read.
    pub fn open(
        config: &Config,
        authorizer: Arc<Authorizer>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        Self::bind(&Plan::of(config), Decider::Authorizer(authorizer), metrics)
    }

    /// Has the server follow the file at `path` that its configuration was read from, and all of
    /// `files` with it: it reads them again when they change, and when it is told to
    /// ([`Shutdown::reload`]).
    #[must_use]
    pub fn following(mut self, path: PathBuf, files: Files) -> Self {
        let authorizer = self.setups.borrow().decider.authorizer();
        self.watch.configuration = authorizer.map(|authorizer| {
            let metrics = Arc::clone(&self.shared.metrics);
            Following::new(path, files, authorizer, self.setups.clone(), metrics)
        });
        self
    }

    fn bind(plan: &Plan<'_>, decider: Decider, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let threads = match plan.threads {
            Some(threads) => threads.get(),
            None => thread::available_parallelism().map_or(1, NonZeroUsize::get),
        };
        let mut workers: Vec<Vec<Bound>> = (0..threads).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        let mut certificates = Reloader::new(&metrics);
        for listener in plan.listeners {
            let tls = certificates.listener(listener)?;
            let bind = |source| StartError::Bind {
                address: listener.address,
                source,
            };
            let sockets = listener::bind(listener.address, threads).map_err(bind)?;
            if let Some(first) = sockets.first() {
                addresses.push(first.local_addr().map_err(bind)?);
            }
            for (socket, worker) in sockets.into_iter().zip(&mut workers) {
                let tls = tls.clone();
                worker.push(Bound { socket, tls });
            }
        }
        let admin = plan.admin.map(bind_admin).transpose()?;
        let setup = Setup::first(plan, decider, &mut certificates, &metrics)?;
        let shared = Shared {
            metrics,
            admission: Admission::default(),
            process: getrandom::u64()?,
        };
        Ok(Self {
            shared: Arc::new(shared),
            setups: watch::Sender::new(Arc::new(setup)),
            workers,
            addresses,
            admin,
            watch: Watch {
                certificates,
                configuration: None,
            },
        })
    }

    /// Where the listeners listen, in the order of the configuration, ports as chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin listener listens.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// Starts a thread for each worker, one for the admin listener, and one that looks after what
    /// changes on disk.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(self, shutdown: impl Into<Shutdown>) -> Result<Running, StartError> {
        let shutdown = shutdown.into();
        let admin = match self.admin {
            Some((socket, _)) => {
                let metrics = Arc::clone(&self.shared.metrics);
                let setups = self.setups.subscribe();
                let readiness: Readiness = Arc::new(move || setups.borrow().decider.ready());
                let admin = Admin::start(socket, metrics, readiness, shutdown.drain.clone());
                Some(admin.map_err(StartError::Thread)?)
            }
            None => None,
        };
        let watch = self.watch.start(&shutdown).map_err(StartError::Thread)?;
        let mut workers = Vec::new();
        for (index, listeners) in (0..).zip(self.workers) {
            let (shared, steps) = (Arc::clone(&self.shared), shutdown.clone());
            let setups = self.setups.subscribe();
            let run = move || {
                // However this thread ends, the others end with it: the kernel would go on
                // giving a part of the connections to nobody.
                let _together = steps.drain.clone().drop_guard();
                worker::run(shared, setups, index, listeners, &steps)
            };
            let thread = thread::Builder::new()
                .name(format!("usher-{index}"))
                .spawn(run)
                .map_err(StartError::Thread);
            match thread {
                Ok(thread) => workers.push(thread),
                Err(error) => {
                    shutdown.drain.cancel();
                    return Err(error);
                }
            }
        }
        Ok(Running {
            workers,
            admin,
            watch,
        })
    }

    /// Serves until the shutdown is complete.
    ///
    /// # Errors
    ///
    /// When the system gives no thread, or one of them stops early.
    pub fn run(self, shutdown: impl Into<Shutdown>) -> Result<(), StartError> {
        self.start(shutdown)?.join()
    }
}

/// A server at work.
#[derive(Debug)]
pub struct Running {
    workers: Vec<JoinHandle<Result<usize, StartError>>>,
    admin: Option<Admin>,
    watch: Option<JoinHandle<()>>,
}

impl Running {
    /// Waits for the end of the drain. The admin listener answers until then.
    ///
    /// # Errors
    ///
    /// When a worker stopped before the drain.
    pub fn join(self) -> Result<(), StartError> {
        let mut outcome = Ok(());
        let mut aborted = 0;
        for worker in self.workers {
            match worker.join() {
                Ok(Ok(cut)) => aborted += cut,
                Ok(Err(error)) => outcome = Err(error),
                Err(_panic) => outcome = Err(StartError::Stopped),
            }
        }
        if self.watch.is_some_and(|thread| thread.join().is_err()) {
            outcome = Err(StartError::Stopped);
        }
        tracing::info!(aborted, "drained");
        drop(self.admin);
        outcome
    }
}

/// The part of a configuration that concerns the edge.
struct Plan<'a> {
    listeners: &'a [Listener],
    admin: Option<SocketAddr>,
    upstreams: &'a [Upstream],
    routes: Vec<RoutePlan<'a>>,
    limits: ConnectionLimits,
    trusted_proxies: &'a [Network],
    timeouts: Timeouts,
    threads: Option<NonZeroUsize>,
}

/// A route, as far as the edge needs it.
struct RoutePlan<'a> {
    name: &'a str,
    /// Index of the upstream.
    upstream: usize,
    stream: bool,
    basic: bool,
    websocket: bool,
    tunnel: bool,
    connects: bool,
    /// Headers that its rule reads.
    reads: Vec<HeaderName>,
}

impl<'a> Plan<'a> {
    fn of(config: &'a Config) -> Self {
        let routes = config.routes.iter().zip(config.table.routes());
        let route = |(route, spec): (&'a Route, &RouteSpec)| RoutePlan {
            name: &route.name,
            upstream: route.upstream,
            stream: route.stream,
            basic: route.basic,
            websocket: route.websocket,
            tunnel: route.tunnel.is_some(),
            connects: spec.methods.contains(&http::Method::CONNECT),
            reads: route.rule.headers().cloned().collect(),
        };
        Self {
            listeners: &config.listeners,
            admin: config.admin,
            upstreams: &config.upstreams,
            routes: routes.map(route).collect(),
            limits: config.limits,
            trusted_proxies: &config.trusted_proxies,
            timeouts: config.timeouts,
            threads: config.threads,
        }
    }
}

fn bind_admin(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bind = |source| StartError::Bind { address, source };
    let socket = TcpListener::bind(address).map_err(bind)?;
    socket.set_nonblocking(true).map_err(bind)?;
    let address = socket.local_addr().map_err(bind)?;
    Ok((socket, address))
}

impl StartError {
    /// Whether the configuration, or a file or variable it names, is what must be mended.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Peer(_) | Self::Tls(_) | Self::UpstreamHost { .. } | Self::SigningKey { .. } => {
                true
            }
            Self::Bind { .. } | Self::Thread(_) | Self::Random(_) | Self::Stopped => false,
        }
    }
}

/// Why a server cannot start, or stopped by itself.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address is in use, or is not one of this machine.
    #[error("cannot listen on {address}; is it in use?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A certificate, key or credential that the configuration names cannot be had.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The TLS library cannot do what it should.
    #[error("TLS cannot be used as configured")]
    Tls(#[from] rustls::Error),
    /// An upstream's host is no host.
    #[error("upstream {upstream}: {host} is not a host name or address")]
    UpstreamHost {
        /// Name of the upstream.
        upstream: String,
        /// What it says.
        host: String,
    },
    /// No key to sign with.
    #[error("upstream {upstream}: {cause}")]
    SigningKey {
        /// Name of the upstream.
        upstream: String,
        /// Why not.
        cause: SecretError,
    },
    /// No thread, or no event queue.
    #[error("the system gives no thread or event queue")]
    Thread(#[source] io::Error),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// A worker ended before the drain.
    #[error("a worker thread stopped by itself; the log says why")]
    Stopped,
}

#[cfg(test)]
mod tests;

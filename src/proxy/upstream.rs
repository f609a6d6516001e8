//! Where permitted requests go: the servers of an upstream and the connections to them.
//!
//! Each worker thread has its own, so that nothing here is shared or locked.

mod connect;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::client::conn::http2;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::Instant;

pub(super) use connect::{ConnectError, LocalExecutor};

use super::StartError;
use super::assertion::Signer;
use super::body::{Link, RequestBody};
use super::deadline::Deadline;
use super::forward::ForwardError;
use super::http1::{Http1, Sending};
use super::marks::Marks;
use super::tenure::Tenure;
use super::tls::Current;
use super::turn;
use crate::config::{self, ConnectionLimits, Protocol, Timeouts, UpstreamUrl};
use crate::metrics::{Metrics, UpstreamMetrics};

/// An upstream as all workers see it: secrets read, roots loaded, names resolved to types.
#[derive(Clone, Debug)]
pub(super) struct UpstreamPlan {
    made_of: config::Upstream,
    pub(super) name: Arc<str>,
    pub(super) secrets: Secrets,
    servers: Vec<ServerPlan>,
    protocol: Protocol,
    metrics: UpstreamMetrics,
}

/// What usher shows to an upstream in the head of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Secrets {
    pub(super) credential: Option<(HeaderName, HeaderValue)>,
    pub(super) signer: Option<Signer>,
}

#[derive(Clone, Debug)]
struct ServerPlan {
    url: UpstreamUrl,
    authority: Authority,
    host: HeaderValue,
    tls: Option<(Current<ClientConfig>, ServerName<'static>)>,
}

impl UpstreamPlan {
    pub(super) fn new(
        upstream: &config::Upstream,
        secrets: Secrets,
        tls: Option<Current<ClientConfig>>,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let name = Arc::from(upstream.name.as_str());
        let server = |url: &UpstreamUrl| ServerPlan::new(url, tls.as_ref(), &upstream.name);
        Ok(Self {
            secrets,
            servers: upstream
                .urls
                .iter()
                .map(server)
                .collect::<Result<_, StartError>>()?,
            protocol: upstream.protocol,
            metrics: metrics.upstream(&name),
            name,
            made_of: upstream.clone(),
        })
    }

    /// Whether these would make another one like it. What is in its certificate files is looked
    /// after elsewhere.
    pub(super) fn is_made_of(&self, upstream: &config::Upstream, secrets: &Secrets) -> bool {
        self.made_of == *upstream && self.secrets == *secrets
    }
}

impl UpstreamPlan {
    /// Makes a response point back here where it names one of the upstream's own servers, as
    /// registries do with the place of an upload: a client that went there would go around usher.
    ///
    /// The reference becomes relative (RFC 9110 10.2.2), so the client stays on the name that it
    /// came by. One to another place is the upstream's business.
    pub(super) fn keep_here(&self, headers: &mut HeaderMap) {
        let here = headers
            .get(header::LOCATION)
            .and_then(|location| self.relative(location.to_str().ok()?));
        if let Some(here) = here {
            headers.insert(header::LOCATION, here);
        }
    }

    /// Path and query of an address on one of the servers.
    fn relative(&self, location: &str) -> Option<HeaderValue> {
        let (tls, rest) = match location.strip_prefix("http://") {
            Some(rest) => (false, rest),
            None => (true, location.strip_prefix("https://")?),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, place) = rest.split_at_checked(end)?;
        let is_own = |server: &ServerPlan| {
            let named = server.authority.as_str();
            server.url.tls == tls && named.eq_ignore_ascii_case(authority)
        };
        if !self.servers.iter().any(is_own) {
            return None;
        }
        // `//` would begin another authority.
        match place {
            "" => Some(HeaderValue::from_static("/")),
            place if place.starts_with('/') && !place.starts_with("//") => {
                HeaderValue::from_str(place).ok()
            }
            _ => None,
        }
    }
}

impl ServerPlan {
    fn new(
        url: &UpstreamUrl,
        tls: Option<&Current<ClientConfig>>,
        upstream: &str,
    ) -> Result<Self, StartError> {
        let bad = || StartError::UpstreamHost {
            upstream: upstream.to_owned(),
            host: url.host.clone(),
        };
        let host = match url.host.contains(':') {
            true => format!("[{}]", url.host),
            false => url.host.clone(),
        };
        let default_port = if url.tls { 443 } else { 80 };
        let authority = match url.port == default_port {
            true => host,
            false => format!("{host}:{}", url.port),
        };
        Ok(Self {
            host: HeaderValue::from_str(&authority).map_err(|_| bad())?,
            authority: Authority::try_from(authority).map_err(|_| bad())?,
            tls: match tls.filter(|_| url.tls) {
                Some(config) => {
                    let name = ServerName::try_from(url.host.clone()).map_err(|_| bad())?;
                    Some((config.clone(), name))
                }
                None => None,
            },
            url: url.clone(),
        })
    }
}

/// An upstream of one worker.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) plan: Arc<UpstreamPlan>,
    servers: Vec<Rc<Server>>,
    turn: Cell<usize>,
}

/// A response, and what carries the rest of it.
pub(super) type Carried = (Response<()>, Link);

impl Upstream {
    pub(super) fn new(plan: Arc<UpstreamPlan>, limits: &ConnectionLimits) -> Self {
        let server = |plan: &ServerPlan| {
            Rc::new(Server {
                plan: plan.clone(),
                capacity: Cell::new(limits.idle_upstream),
                most: limits.upstream_connections,
                open: Rc::default(),
                idle: RefCell::default(),
                shared: RefCell::default(),
                connecting: tokio::sync::Mutex::new(()),
                rests_until: Cell::new(None),
            })
        };
        Self {
            servers: plan.servers.iter().map(server).collect(),
            plan,
            turn: Cell::new(0),
        }
    }

    /// Sends a request to the next server in turn, or, as long as no byte of it was written, to
    /// the one after that. One that `switches` asks for another protocol on its connection.
    pub(super) async fn send(
        &self,
        request: Box<Request<RequestBody>>,
        marks: &Marks,
        switches: bool,
        timeouts: &Timeouts,
        tenure: Option<&Tenure>,
    ) -> Result<Carried, ForwardError> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let mut request = request;
        let mut error = ForwardError::NoneAlive;
        if self.plan.protocol == Protocol::Http2 {
            marks.pour(request.headers_mut());
        }
        for step in 0..self.servers.len() {
            let index = turn.wrapping_add(step) % self.servers.len();
            let Some(server) = self.servers.get(index) else {
                continue;
            };
            if server.rests() {
                continue;
            }
            let since = turn::now();
            let outcome = match self.plan.protocol {
                Protocol::Http1 => {
                    let sending =
                        self.send_http1(server, request, marks, switches, timeouts, tenure);
                    sending.await
                }
                Protocol::Http2 => {
                    server.address(&mut request);
                    self.send_http2(server, request, timeouts, tenure).await
                }
            };
            match outcome {
                Ok(carried) => return Ok(carried),
                Err(Unsent::Failed(failed)) => return Err(failed),
                // Busy is not broken: the next request may find a connection free.
                Err(Unsent::Connect(back, ConnectError::Busy)) => {
                    error = ForwardError::Busy;
                    request = back;
                }
                Err(Unsent::Connect(back, why)) => {
                    tracing::warn!(
                        upstream = &*self.plan.name,
                        server = server.plan.authority.as_str(),
                        error = %why,
                        "upstream not reached"
                    );
                    server.pass_over(since);
                    error = ForwardError::Connect(why);
                    request = back;
                }
            }
        }
        Err(error)
    }

    async fn send_http1(
        &self,
        server: &Rc<Server>,
        request: Box<Request<RequestBody>>,
        marks: &Marks,
        switches: bool,
        timeouts: &Timeouts,
        tenure: Option<&Tenure>,
    ) -> Result<Carried, Unsent> {
        let mut request = request;
        // A parked connection may have died; it says so before a byte is written, which makes
        // it safe to take another, for any method.
        loop {
            // What may become another protocol begins on a connection of its own.
            let parked = if switches { None } else { server.take() };
            let fresh = parked.is_none();
            let mut connection = match parked {
                Some(parked) => parked,
                // Seldom, and large: on the heap, so that it does not make every request large.
                None => match Box::pin(server.open_http1(timeouts.connect)).await {
                    Ok(opened) => opened,
                    Err(why) => return Err(Unsent::Connect(request, why)),
                },
            };
            let sent = turn::now();
            let host = &server.plan.host;
            let sending = connection.send(request, host, marks, sent, timeouts, tenure);
            match sending.await {
                Sending::Answered(response) => {
                    self.answered(fresh, sent);
                    return Ok((response, Link::Http1(connection, Rc::clone(server))));
                }
                Sending::Unsent(back) if fresh => {
                    return Err(Unsent::Connect(back, ConnectError::Closed));
                }
                Sending::Unsent(back) => request = back,
                Sending::Failed(error) => return Err(Unsent::Failed(error)),
            }
        }
    }

    async fn send_http2(
        &self,
        server: &Rc<Server>,
        request: Box<Request<RequestBody>>,
        timeouts: &Timeouts,
        tenure: Option<&Tenure>,
    ) -> Result<Carried, Unsent> {
        let mut request = request;
        for attempt in 0..2 {
            let shared = match server.shared_http2() {
                Some(open) => Ok((open, false)),
                None => Box::pin(server.share_http2(timeouts.connect)).await,
            };
            let (mut sender, fresh) = match shared {
                Ok(shared) => shared,
                Err(why) => return Err(Unsent::Connect(request, why)),
            };
            let sent = turn::now();
            match connect::send_http2(&mut sender, request, sent, timeouts, tenure).await {
                Sending::Answered(response) => {
                    self.answered(fresh, sent);
                    let (head, incoming) = response.into_parts();
                    let link = Link::Http2(incoming, Deadline::default());
                    return Ok((Response::from_parts(head, ()), link));
                }
                Sending::Unsent(back) if attempt == 0 && !fresh => {
                    server.shared.borrow_mut().take();
                    request = back;
                }
                Sending::Unsent(back) => {
                    return Err(Unsent::Connect(back, ConnectError::Closed));
                }
                Sending::Failed(error) => return Err(Unsent::Failed(error)),
            }
        }
        Err(Unsent::Connect(request, ConnectError::Closed))
    }

    fn answered(&self, fresh: bool, sent: Instant) {
        let metrics = &self.plan.metrics;
        if fresh {
            metrics.connected.inc();
        } else {
            metrics.reused.inc();
        }
        metrics.duration.observe(turn::now().duration_since(sent));
    }

    /// Gets no requests any more: parked connections are closed, and so are those that are in use,
    /// after that.
    pub(super) fn retire(&self) {
        for server in &self.servers {
            server.capacity.set(0);
            server.idle.borrow_mut().clear();
            server.shared.borrow_mut().take();
        }
    }

    /// Closes parked connections that are too old or that the server has closed.
    pub(super) fn sweep(&self, now: Instant) {
        for server in &self.servers {
            server.sweep(now);
        }
    }
}

/// Why a server did not answer.
enum Unsent {
    /// No byte was written; the request can go to another server.
    Connect(Box<Request<RequestBody>>, ConnectError),
    /// It may have been read.
    Failed(ForwardError),
}

/// The HTTP/2 connection of a worker, and what its TLS was begun with.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    begun: Option<Arc<ClientConfig>>,
}

/// One server of an upstream, and the connections of one worker to it.
#[derive(Debug)]
pub(super) struct Server {
    plan: ServerPlan,
    /// How many connections may be parked.
    capacity: Cell<usize>,
    /// How many HTTP/1.1 connections there may be, parked ones included.
    most: usize,
    /// Every one of them holds a reference.
    open: Rc<()>,
    /// Parked connections, the last used last: it is taken first, so that the others can grow
    /// old and go.
    idle: RefCell<Vec<(Instant, Box<Http1>)>>,
    shared: RefCell<Option<Shared>>,
    connecting: tokio::sync::Mutex<()>,
    rests_until: Cell<Option<Instant>>,
}

impl Server {
    /// Keeps a connection for the next request, if it is fit and there is room.
    pub(super) fn park(&self, connection: Box<Http1>) {
        let mut connection = connection;
        let mut idle = self.idle.borrow_mut();
        let current = self.is_current(connection.begun());
        if current && idle.len() < self.capacity.get() && connection.rest() {
            idle.push((turn::now(), connection));
        }
    }

    fn take(&self) -> Option<Box<Http1>> {
        let (since, connection) = self.idle.borrow_mut().pop()?;
        // The others are older still; the sweep closes them.
        let fit =
            turn::now().duration_since(since) < IDLE_EXPIRY && self.is_current(connection.begun());
        fit.then_some(connection)
    }

    /// Whether a connection was begun with the certificates that new ones begin with. One that was
    /// not finishes what it does, and gets nothing more to do.
    fn is_current(&self, begun: Option<&Arc<ClientConfig>>) -> bool {
        let current = self.plan.tls.as_ref().map(|(current, _)| current);
        current
            .zip(begun)
            .is_none_or(|(current, begun)| current.is(begun))
    }

    fn sweep(&self, now: Instant) {
        let fit = |(since, connection): &mut (Instant, Box<Http1>)| {
            now.duration_since(*since) < IDLE_EXPIRY
                && self.is_current(connection.begun())
                && connection.is_silent()
        };
        self.idle.borrow_mut().retain_mut(fit);
    }

    /// Lets it rest after an attempt that began at `since` and failed.
    fn pass_over(&self, since: Instant) {
        let now = turn::now();
        let rest = rest_after(now.duration_since(since));
        self.rests_until.set(Some(now + rest));
    }

    fn rests(&self) -> bool {
        let until = self.rests_until.get();
        until.is_some_and(|until| turn::now() < until)
    }

    /// Writes the server's name where the client's was; the path stays, byte for byte.
    fn address(&self, request: &mut Request<RequestBody>) {
        *request.version_mut() = Version::HTTP_2;
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = Some(self.plan.authority.clone());
        parts.scheme = Some(match self.plan.url.tls {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        });
        // All three parts are there, which is all that can be asked of them.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// How long a parked connection is kept. Below the keep-alive of common servers (nginx 75 s,
/// Apache and Go differ), since a request that meets a closing connection cannot be repeated.
const IDLE_EXPIRY: Duration = Duration::from_secs(30);

/// How long a server is passed over that failed within `took`: as long again, so that at most half
/// of the time is spent on one that does not answer.
fn rest_after(took: Duration) -> Duration {
    took.clamp(LEAST_REST, MOST_REST)
}

/// One that refuses at once costs nothing to ask. It is asked again before clients give up: flyctl
/// repeats a request three times within some 350 ms, and at most 700.
const LEAST_REST: Duration = Duration::from_millis(50);

/// What `Retry-After` says.
const MOST_REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

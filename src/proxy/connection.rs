//! One downstream connection: its handshake, its requests, its end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::body::RequestBody;
use super::client::Client;
use super::deadline::Deadline;
use super::guard::Guard;
use super::meter::Meter;
use super::preface::{self, Ahead, Version};
use super::pulse::{Downstream, Lapse, Pulse};
use super::service;
use super::socket::Socket;
use super::tls;
use super::tunnel::{self, Switch};
use super::turn::{self, turn};
use super::upstream::LocalExecutor;
use super::worker::Post;
use crate::config::{ConnectionLimits, Network};

/// What all requests of one connection have in common.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) post: Rc<Post>,
    pub(super) pulse: Rc<Pulse>,
    /// For `X-Forwarded-For` and `X-Forwarded-Proto`.
    pub(super) client: Client,
    /// Whose word about the client counts on this connection.
    pub(super) trusted: Arc<[Network]>,
    /// What the connection becomes after the response that is about to be written.
    switch: RefCell<Option<Box<Switch>>>,
}

impl Connection {
    /// Has the connection go on as something else. The response to the request says so, with 101,
    /// or with success to CONNECT.
    pub(super) fn switch_to(&self, switch: Switch) {
        *self.switch.borrow_mut() = Some(Box::new(switch));
    }
}

/// Serves a connection until it ends, from either side.
pub(super) async fn serve(
    post: Rc<Post>,
    tcp: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
) {
    let encrypted = tls.is_some();
    let Some((socket, version, ahead)) = begin(&post, tcp, tls).await else {
        return;
    };
    let pulse = Pulse::new(Instant::now());
    let worker = post.worker();
    let trusted = &worker.trusted_proxies;
    let connection = Rc::new(Connection {
        post: Rc::clone(&post),
        pulse: Rc::clone(&pulse),
        client: Client::new(peer.ip(), encrypted, trusted),
        trusted: Arc::clone(trusted),
        switch: RefCell::default(),
    });
    let switching = Rc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let begun = turn::read();
        let connection = Rc::clone(&connection);
        // On the heap from here on: it is moved often, and is more than a quarter kilobyte.
        let version = request.version();
        let request = Box::new(request.map(|body| RequestBody::new(body, version, begun)));
        async move { Ok::<_, Infallible>(service::serve(connection, request, begun).await) }
    });
    let guard = match version {
        Version::Http1 => Some(Guard::new(Rc::clone(&post))),
        Version::Http2 => None,
    };
    let mut downstream = Downstream::new(socket, ahead, guard, Rc::clone(&pulse));
    if version == Version::Http2 {
        downstream = downstream.metered(Meter::new(&worker.limits, turn::now()));
    }
    let io = TokioIo::new(downstream);
    match version {
        Version::Http1 => {
            let mut http = worker.protocols.http1.serve_connection(io, service);
            drop(worker);
            if drive(&post, &pulse, Pin::new(&mut http)).await == End::Own {
                let parts = http.into_parts();
                finish(&switching, parts.io.into_inner(), parts.read_buf).await;
            }
        }
        Version::Http2 => {
            let http = pin!(worker.protocols.http2.serve_connection(io, service));
            drop(worker);
            drive(&post, &pulse, http).await;
            if let Some(excess) = pulse.excess() {
                let limit = excess.limit();
                post.shared.metrics.refused(limit);
                tracing::info!(peer = %peer.ip(), limit, "connection over a limit closed");
            }
        }
    }
}

/// What comes after HTTP/1.1: another protocol, or the end. `read` is what came behind the last
/// request.
async fn finish(connection: &Connection, downstream: Downstream, read: Bytes) {
    let mut downstream = downstream;
    let post = &connection.post;
    // Where hyper could not write all of the response, nobody can say what the client would read.
    let switch = connection.switch.take();
    if let Some(switch) = switch.filter(|_| !downstream.is_blocked()) {
        tunnel::run(*switch, downstream, read, post).await;
        return;
    }
    // hyper leaves a connection open on which a switch of protocols was once asked for; a second
    // shutdown of the others does nothing.
    let closed = poll_fn(|cx| Pin::new(&mut downstream).poll_shutdown(cx));
    if let Ok(Err(error)) = timeout(post.worker().timeouts.idle, closed).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// The TLS handshake, if any, and the HTTP version: that which ALPN settled, or, on cleartext,
/// that which the client begins with.
async fn begin(
    post: &Post,
    tcp: TcpStream,
    tls: Option<Arc<ServerConfig>>,
) -> Option<(Socket, Version, Ahead)> {
    let timeouts = post.worker().timeouts;
    let Some(config) = tls else {
        let mut tcp = tcp;
        let sniffed = timeout(timeouts.request_head, preface::sniff(&mut tcp));
        return match post.drain.run_until_cancelled(sniffed).await? {
            Ok(Ok((version, ahead))) => Some((Socket::Plain(tcp), version, ahead)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "connection ended");
                None
            }
            Err(_elapsed) => {
                tracing::debug!(lapse = ?Lapse::NoRequest, "connection closed");
                None
            }
        };
    };
    let accepted = timeout(
        timeouts.tls_handshake,
        TlsAcceptor::from(config).accept(tcp),
    );
    match post.drain.run_until_cancelled(accepted).await? {
        Ok(Ok(stream)) => {
            let version = match stream.get_ref().1.alpn_protocol() {
                Some(name) if name == tls::H2 => Version::Http2,
                Some(_) | None => Version::Http1,
            };
            let socket = Socket::Tls(Box::new(stream.into()));
            Some((socket, version, Ahead::default()))
        }
        Ok(Err(error)) => {
            post.shared.metrics.tls_failures.inc();
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_elapsed) => {
            post.shared.metrics.tls_failures.inc();
            tracing::debug!("TLS handshake came too late");
            None
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By itself: the last response is written, or a side has closed.
    Own,
    /// It was cut.
    Cut,
}

/// Polls a connection to its end, which may be asked for (drain), or forced (silence).
async fn drive(post: &Post, pulse: &Pulse, mut http: Pin<&mut impl Graceful>) -> End {
    let mut drained = pin!(post.drain.cancelled());
    let mut watch = Deadline::default();
    let (mut registered, mut closing) = (false, false);
    let mut advance = |cx: &mut Context<'_>| {
        if http.as_mut().poll_to_end(cx).is_ready() {
            return Poll::Ready(End::Own);
        }
        // The waker of a task never changes, so one registration is enough; afterwards the
        // cheap question will do.
        let draining = !registered || post.drain.is_cancelled();
        if !closing && draining && drained.as_mut().poll(cx).is_ready() {
            closing = true;
            http.as_mut().finish();
            if http.as_mut().poll_to_end(cx).is_ready() {
                return Poll::Ready(End::Own);
            }
        }
        registered = true;
        loop {
            let (due, lapse) = post.timed(|timeouts| pulse.due(turn::now(), timeouts));
            if watch.poll(cx, due).is_pending() {
                return Poll::Pending;
            }
            if let Some(lapse) = lapse {
                if lapse == Lapse::NoRequest {
                    // One more poll, so that an HTTP/2 client reads GOAWAY before the end.
                    http.as_mut().finish();
                    let _last = http.as_mut().poll_to_end(cx);
                }
                tracing::debug!(?lapse, "connection closed");
                return Poll::Ready(End::Cut);
            }
        }
    };
    poll_fn(|cx| turn(|| advance(cx))).await
}

/// A connection of either version that can be asked to finish.
trait Graceful {
    fn poll_to_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
    fn finish(self: Pin<&mut Self>);
}

impl<S, B> Graceful for http1::Connection<TokioIo<Downstream>, S>
where
    S: Service<Request<Incoming>, Response = http::Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    fn poll_to_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx).map(note)
    }

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B> Graceful for http2::Connection<TokioIo<Downstream>, S, LocalExecutor>
where
    S: Service<Request<Incoming>, Response = http::Response<B>, Error = Infallible>,
    S::Future: 'static,
    B: Body + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync,
{
    fn poll_to_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx).map(note)
    }

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn note(outcome: Result<(), hyper::Error>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}

/// hyper's settings for both versions.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<LocalExecutor>,
}

impl Protocols {
    pub(super) fn new(limits: &ConnectionLimits) -> Self {
        let mut http1 = http1::Builder::new();
        // hyper counts the head by the size of its read buffer. Its own limit of 100 headers is
        // on the stack, another one is on the heap, so a lower limit is checked later.
        http1
            .header_read_timeout(None)
            .max_buf_size(limits.head_bytes.max(SMALLEST_BUFFER));
        if limits.headers > HYPER_HEADERS {
            http1.max_headers(limits.headers);
        }
        let list = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(list)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        Self { http1, http2 }
    }
}

/// The smallest read buffer that hyper accepts.
const SMALLEST_BUFFER: usize = 8192;
/// Headers that hyper parses without allocating.
const HYPER_HEADERS: usize = 100;
/// Bytes of a request body that a client may send ahead: of one stream, and of all together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams a client may get reset by its own errors before the connection ends (`MadeYouReset`).
const LOCAL_RESETS: usize = 100;
/// How often a client with open streams is asked for a sign of life, and how long it may take.
const PING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(20);
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

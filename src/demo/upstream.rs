//! The demo's upstream: an HTTP/1.1 server on this machine, in a thread of its own.

pub(super) mod log;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::platform::{self, Answer, Asked};
use crate::clock;

use log::LogBody;

/// A server that has its address and does not answer yet.
#[derive(Debug)]
pub(super) struct Upstream {
    listener: StdListener,
    address: SocketAddr,
}

/// A server at work. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Takes a free port of this machine.
    pub(super) fn bind() -> io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to answer. Logs that are followed end when `drain` is cancelled: the proxy in front
    /// would otherwise wait for them.
    pub(super) fn start(self, drain: CancellationToken) -> io::Result<Running> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(self.listener)?
        };
        let end = CancellationToken::new();
        let until = end.clone();
        let thread = thread::Builder::new()
            .name("usher-demo".to_owned())
            .spawn(move || {
                runtime.block_on(until.run_until_cancelled(accept(listener, drain)));
            })?;
        Ok(Running {
            end,
            thread: Some(thread),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the upstream of the demo had failed");
        }
    }
}

/// Connections end with this future.
async fn accept(listener: TcpListener, drain: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    connections.spawn(connection(tcp, drain.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the upstream of the demo cannot accept connections");
                    sleep(PAUSE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connection(tcp: TcpStream, drain: CancellationToken) {
    let service = service_fn(|request| {
        let drain = drain.clone();
        async move { respond(request, drain).await }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(tcp), service);
    if let Err(error) = http.await {
        tracing::debug!(%error, "connection to the upstream of the demo ended");
    }
}

async fn respond(
    request: Request<Incoming>,
    drain: CancellationToken,
) -> Result<Response<Either<Full<Bytes>, LogBody>>, hyper::Error> {
    let (head, mut body) = request.into_parts();
    // All of the body is read, so that the connection can be used again; little of it is looked at.
    let (mut begun, mut length) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            length = length.saturating_add(data.len());
            let room = LOOKED_AT.saturating_sub(begun.len());
            begun.extend(data.iter().take(room));
        }
    }
    let target = head.uri.to_string();
    let asked = Asked {
        method: &head.method,
        target: &target,
        headers: &head.headers,
        body: &begun,
        length,
    };
    let (status, kind, body) = match platform::answer(&asked, clock::unix_now()) {
        Answer::Document(status, document) => {
            let text = format!("{document:#}\n");
            (status, "application/json", Either::Left(Full::from(text)))
        }
        Answer::Log(app) => {
            let body = Either::Right(LogBody::new(app, drain));
            (http::StatusCode::OK, "application/x-ndjson", body)
        }
        Answer::Other(response) => {
            return Ok(response.map(|body| Either::Left(Full::from(body))));
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// Bytes of a body.
const LOOKED_AT: usize = 64 * 1024;
/// After an accept error.
const PAUSE: Duration = Duration::from_millis(100);

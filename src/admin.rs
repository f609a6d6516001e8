//! The admin listener: `/metrics`, `/healthz` and `/readyz`, on a thread of its own.
//!
//! It answers while the workers are busy or draining, which is when it is asked.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Says why decisions cannot be made, if they cannot. Asked whenever `/readyz` is.
pub(crate) type Readiness = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// The running admin listener. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Admin {
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    pub(crate) fn start(
        socket: StdListener,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        drain: CancellationToken,
    ) -> io::Result<Self> {
        let end = CancellationToken::new();
        let state = State {
            metrics,
            readiness,
            drain,
            end: end.clone(),
        };
        let thread = thread::Builder::new()
            .name("usher-admin".to_owned())
            .spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default());
                if let Err(error) = runtime.and_then(|runtime| state.serve(&runtime, socket)) {
                    tracing::error!(%error, "the admin listener ended");
                }
            })?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin listener panicked");
        }
    }
}

#[derive(Clone)]
struct State {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    drain: CancellationToken,
    end: CancellationToken,
}

impl State {
    fn serve(self, runtime: &LocalRuntime, socket: StdListener) -> io::Result<()> {
        runtime.block_on(async {
            let listener = TcpListener::from_std(socket)?;
            let room = Arc::new(Semaphore::new(CONNECTIONS));
            let end = self.end.clone();
            end.run_until_cancelled(self.accept(listener, room)).await;
            Ok(())
        })
    }

    async fn accept(self, listener: TcpListener, room: Arc<Semaphore>) {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((tcp, _)) => {
                    let state = self.clone();
                    tokio::task::spawn_local(async move {
                        let _until_the_end = permit;
                        state.connection(tcp).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept admin connections");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, tcp: TcpStream) {
        let service = service_fn(|request| {
            let response = self.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let http = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(DEADLINE)
            .max_buf_size(SMALLEST_BUFFER)
            .serve_connection(TokioIo::new(tcp), service);
        match timeout(LIFETIME, pin!(http)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "admin connection ended"),
            Err(_elapsed) => tracing::debug!("admin connection ended by age"),
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let allow = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allow);
            return response;
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "alive\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz or /readyz\n"),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        if self.drain.is_cancelled() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        match (self.readiness)() {
            Ok(()) => text(StatusCode::OK, "serving\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut out = String::new();
        if self.metrics.write(&mut out).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "cannot write metrics\n");
        }
        let mut response = text(StatusCode::OK, out);
        let openmetrics =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, openmetrics);
        response
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Open admin connections; the next one waits.
const CONNECTIONS: usize = 64;
/// For the head of a request, and between two of them.
const DEADLINE: Duration = Duration::from_secs(10);
/// For a whole connection, so that a reader that stops cannot keep its place.
const LIFETIME: Duration = Duration::from_mins(10);
/// After an accept error.
const PAUSE: Duration = Duration::from_millis(100);
/// The smallest read buffer that hyper accepts.
const SMALLEST_BUFFER: usize = 8192;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn state() -> State {
        State {
            metrics: Arc::default(),
            readiness: Arc::new(|| Ok(())),
            drain: CancellationToken::new(),
            end: CancellationToken::new(),
        }
    }

    fn ask(state: &State, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap();
        let response = state.answer(&request);
        let status = response.status().as_u16();
        let body = Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(response.into_body().collect())
            .unwrap();
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    #[test]
    fn ready_until_stale_or_draining() {
        let mut state = state();
        assert_eq!(ask(&state, "GET", "/readyz"), (200, "serving\n".into()));
        state.readiness = Arc::new(|| Err("revocations cannot be read"));
        assert_eq!(
            ask(&state, "GET", "/readyz"),
            (503, "revocations cannot be read\n".into())
        );
        state.readiness = Arc::new(|| Ok(()));
        assert_eq!(ask(&state, "GET", "/readyz").0, 200);
        state.drain.cancel();
        assert_eq!(ask(&state, "GET", "/readyz"), (503, "draining\n".into()));
        assert_eq!(ask(&state, "GET", "/healthz").0, 200);
    }

    #[test]
    fn metrics_are_openmetrics() {
        let state = state();
        state.metrics.cache_hits.inc();
        let (status, body) = ask(&state, "GET", "/metrics");
        assert_eq!(status, 200);
        assert!(body.contains("usher_verification_cache_hits_total 1\n"));
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[test]
    fn nothing_else_is_answered() {
        assert_eq!(ask(&state(), "POST", "/metrics").0, 405);
        assert_eq!(ask(&state(), "GET", "/").0, 404);
    }
}

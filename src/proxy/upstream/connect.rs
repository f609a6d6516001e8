//! Opening connections to a server, and requests on a shared one.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::{Server, Shared};
use crate::config::Timeouts;
use crate::proxy::body::RequestBody;
use crate::proxy::deadline::Deadline;
use crate::proxy::forward::ForwardError;
use crate::proxy::http1::{Http1, Sending, failure, poll_head_limits};
use crate::proxy::socket::Socket;
use crate::proxy::tenure::Tenure;
use crate::proxy::tls;

/// Why no connection could be used. Nothing of the request was sent.
#[derive(Debug, Error)]
pub(in crate::proxy) enum ConnectError {
    /// The name does not resolve, or the server does not accept.
    #[error("cannot connect")]
    Tcp(#[source] io::Error),
    /// The certificate or the handshake is not acceptable.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The server does not speak HTTP/2 over TLS.
    #[error("the server did not choose HTTP/2; set the upstream's protocol to http1")]
    NotHttp2,
    /// The HTTP/2 handshake failed.
    #[error("the HTTP handshake failed")]
    Http(#[source] hyper::Error),
    /// It took longer than `timeouts.connect`.
    #[error("the connection was not made in time")]
    Late,
    /// There are as many as there may be.
    #[error("all connections to the server are in use; see `limits.upstream_connections`")]
    Busy,
    /// The server closed it at once.
    #[error("the server closed the connection before the request")]
    Closed,
}

impl Server {
    /// A new connection for one request at a time.
    pub(super) async fn open_http1(&self, limit: Duration) -> Result<Box<Http1>, ConnectError> {
        let counted = Rc::clone(&self.open);
        // One reference is the server's own.
        if Rc::strong_count(&counted) > self.most.saturating_add(1) {
            return Err(ConnectError::Busy);
        }
        let connected = timeout(limit, self.connect()).await;
        let (socket, begun) = connected.map_err(|_| ConnectError::Late)??;
        Ok(Box::new(Http1::new(socket, begun, counted)))
    }

    /// Makes the connection that all requests of this worker share, unless another request has
    /// just made it; says whether it is a new one.
    pub(super) async fn share_http2(
        &self,
        limit: Duration,
    ) -> Result<(http2::SendRequest<RequestBody>, bool), ConnectError> {
        let open = async {
            // Whoever comes while one request connects waits for its connection.
            let _turn = self.connecting.lock().await;
            if let Some(open) = self.shared_http2() {
                return Ok((open, false));
            }
            let (socket, begun) = self.connect().await?;
            let (sender, connection) = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .handshake(TokioIo::new(socket))
                .await
                .map_err(ConnectError::Http)?;
            LocalExecutor.execute(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "upstream connection ended");
                }
            });
            *self.shared.borrow_mut() = Some(Shared {
                sender: sender.clone(),
                begun,
            });
            Ok((sender, true))
        };
        timeout(limit, open).await.map_err(|_| ConnectError::Late)?
    }

    pub(super) fn shared_http2(&self) -> Option<http2::SendRequest<RequestBody>> {
        let shared = self.shared.borrow();
        let fit = |open: &&Shared| !open.sender.is_closed() && self.is_current(open.begun.as_ref());
        shared.as_ref().filter(fit).map(|open| open.sender.clone())
    }

    /// A socket, and what TLS on it was begun with.
    async fn connect(&self) -> Result<(Socket, Option<Arc<ClientConfig>>), ConnectError> {
        let url = &self.plan.url;
        let tcp = TcpStream::connect((url.host.as_str(), url.port))
            .await
            .map_err(ConnectError::Tcp)?;
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        let Some((config, name)) = &self.plan.tls else {
            return Ok((Socket::Plain(tcp), None));
        };
        let config = config.now();
        let stream = TlsConnector::from(config.clone())
            .connect(name.clone(), tcp)
            .await
            .map_err(ConnectError::Tls)?;
        let wanted = config.alpn_protocols.iter().any(|name| name == tls::H2);
        if wanted && stream.get_ref().1.alpn_protocol() != Some(tls::H2) {
            return Err(ConnectError::NotHttp2);
        }
        Ok((Socket::Tls(Box::new(stream.into())), Some(config)))
    }
}

/// Sends a request on a shared connection and waits for the head of its response.
pub(super) async fn send_http2(
    sender: &mut http2::SendRequest<RequestBody>,
    request: Box<Request<RequestBody>>,
    sent: Instant,
    timeouts: &Timeouts,
    tenure: Option<&Tenure>,
) -> Sending<Incoming> {
    let upload = request.body().upload();
    let mut deadline = Deadline::default();
    let mut head = pin!(sender.try_send_request(*request));
    let outcome = poll_fn(|cx| {
        if let Some(end) = tenure.and_then(Tenure::ended) {
            return Poll::Ready(Err(ForwardError::LeaseEnded(end)));
        }
        match head.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
            Poll::Pending => {
                let upload = upload.as_ref();
                poll_head_limits(&mut deadline, upload, sent, timeouts, tenure, cx).map(Err)
            }
        }
    })
    .await;
    match outcome {
        Ok(Ok(response)) => Sending::Answered(response),
        Ok(Err(mut error)) => match error.take_message() {
            Some(request) => Sending::Unsent(Box::new(request)),
            None => Sending::Failed(failure(error.into_error(), upload.as_ref())),
        },
        Err(late) => Sending::Failed(late),
    }
}

/// Spawns on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// How often a busy shared connection is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the sign may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

//! A server that is asked, and the connections to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Unanswered;
use crate::config::UpstreamUrl;
use crate::directory::DirectoryError;

/// One server. Its connections speak HTTP/1.1, one question at a time each.
pub(super) struct Server {
    url: UpstreamUrl,
    host: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Connections that wait for the next question, the last used last.
    idle: Mutex<Vec<(Instant, Sender)>>,
    most_idle: usize,
}

pub(super) type Sender = SendRequest<Empty<Bytes>>;

impl Server {
    pub(super) fn new(
        url: &UpstreamUrl,
        tls: Option<&Arc<ClientConfig>>,
        most_idle: usize,
    ) -> Result<Self, DirectoryError> {
        let bad = || DirectoryError::Host {
            host: url.host.clone(),
        };
        let host = match url.host.contains(':') {
            true => format!("[{}]", url.host),
            false => url.host.clone(),
        };
        let host = match (url.tls, url.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        };
        let tls = match tls.filter(|_| url.tls) {
            Some(config) => {
                let name = ServerName::try_from(url.host.clone()).map_err(|_| bad())?;
                Some((TlsConnector::from(Arc::clone(config)), name))
            }
            None => None,
        };
        Ok(Self {
            url: url.clone(),
            host: HeaderValue::try_from(host).map_err(|_| bad())?,
            tls,
            idle: Mutex::default(),
            most_idle,
        })
    }

    /// What the server is called in requests.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Sends a request that can be repeated, and waits for the head of its response. The second
    /// part of the answer is to be [kept](Self::keep) once the body has been read.
    pub(super) async fn send(
        &self,
        request: impl Fn() -> Request<Empty<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), Unanswered> {
        // A connection that has waited may have been closed, which shows when it is used.
        while let Some(mut sender) = self.take() {
            if sender.ready().await.is_ok()
                && let Ok(response) = sender.send_request(request()).await
            {
                return Ok((response, sender));
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(request()).await;
        Ok((response.map_err(|_| Unanswered::Broken)?, sender))
    }

    /// Keeps a connection for the next question.
    pub(super) fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, sender)| since.elapsed() < IDLE_EXPIRY && !sender.is_closed());
        if !sender.is_closed() && idle.len() < self.most_idle {
            idle.push((Instant::now(), sender));
        }
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, sender) = idle.pop()?;
        // The others are older still.
        (since.elapsed() < IDLE_EXPIRY).then_some(sender)
    }

    async fn connect(&self) -> Result<Sender, Unanswered> {
        let address = (self.url.host.as_str(), self.url.port);
        let tcp = TcpStream::connect(address).await;
        let tcp = tcp.map_err(|_| Unanswered::Connect)?;
        tcp.set_nodelay(true).map_err(|_| Unanswered::Connect)?;
        match &self.tls {
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await;
                open(tls.map_err(|_| Unanswered::Connect)?).await
            }
            None => open(tcp).await,
        }
    }
}

async fn open(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Sender, Unanswered> {
    let opened = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(socket))
        .await;
    let (sender, connection) = opened.map_err(|_| Unanswered::Connect)?;
    // It ends with its sender, or with the runtime.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the directory ended");
        }
    });
    Ok(sender)
}

/// How long a connection is kept without a question. Below the keep-alive of common servers.
const IDLE_EXPIRY: Duration = Duration::from_secs(30);

/// Bytes of the head of an answer.
const MAX_HEAD: usize = 16 * 1024;

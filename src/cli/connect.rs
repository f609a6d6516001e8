//! `usher connect`: standard input and output, through a tunnel of a running usher.
//!
//! Made for the `ProxyCommand` of ssh. What is written to standard output is the tunnel's and
//! nothing else; whatever goes wrong is a sentence on standard error.

mod address;
mod pump;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use self::address::Address;
pub use self::address::AddressError;
use super::credential::token;
use super::{CliError, Connect, Console};
use crate::peer::{self, PeerError};

pub(super) fn run(args: &Connect, console: &mut Console<'_>) -> Result<(), CliError> {
    let address = Address::parse(&args.url, args.proxy.as_deref()).map_err(ConnectError::from)?;
    if args.source.token.as_ref().is_some_and(|t| t.is_stdin()) {
        return Err(ConnectError::StdinIsTaken.into());
    }
    let token = token(&args.source, console)?;
    let mut token = HeaderValue::from_str(token.trim()).map_err(|_| ConnectError::TokenBytes)?;
    token.set_sensitive(true);
    let tls = match address.tls {
        true => {
            let config = peer::tls(args.ca.as_deref(), None, HTTP11).map_err(ConnectError::Peer)?;
            Some(TlsConnector::from(config))
        }
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ConnectError::Runtime)?;
    let outcome = runtime.block_on(async {
        let through = open(&address, token, tls).await?;
        match address.connect {
            Some(_) => pump::bytes(through).await,
            None => pump::messages(through).await,
        }
    });
    // A read of standard input may go on for ever; nobody waits for it.
    runtime.shutdown_background();
    Ok(outcome?)
}

/// What a tunnel goes through.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Asks for the tunnel, and gives its bytes once it is granted.
async fn open(
    address: &Address,
    token: HeaderValue,
    tls: Option<TlsConnector>,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, ConnectError> {
    let wire = timeout(PATIENCE, reach(address, tls));
    let wire = wire.await.map_err(|_| ConnectError::Late)??;
    let (mut sender, connection) = http1::handshake(TokioIo::new(wire))
        .await
        .map_err(ConnectError::Http)?;
    tokio::spawn(connection.with_upgrades());
    let key = generate_key();
    let request = request(address, token, &key).map_err(ConnectError::Request)?;
    let response = timeout(PATIENCE, sender.send_request(request));
    let response = response.await.map_err(|_| ConnectError::Late)?;
    let response = response.map_err(ConnectError::Http)?;
    let granted = match address.connect {
        Some(_) => response.status().is_success(),
        None => response.status() == StatusCode::SWITCHING_PROTOCOLS,
    };
    if !granted {
        return Err(refused(response).await);
    }
    if address.connect.is_none() && !answers(response.headers(), &key) {
        return Err(ConnectError::NotWebSocket);
    }
    let upgraded = hyper::upgrade::on(response).await;
    Ok(TokioIo::new(upgraded.map_err(ConnectError::Http)?))
}

/// A connection to usher itself.
async fn reach(
    address: &Address,
    tls: Option<TlsConnector>,
) -> Result<Box<dyn Wire>, ConnectError> {
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await;
    let tcp = tcp.map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    let Some(tls) = tls else {
        return Ok(Box::new(tcp));
    };
    let name = ServerName::try_from(address.host.clone());
    let name = name.map_err(|_| ConnectError::Name(address.host.clone()))?;
    let wire = tls.connect(name, tcp).await.map_err(ConnectError::Tls)?;
    Ok(Box::new(wire))
}

fn request(
    address: &Address,
    token: HeaderValue,
    key: &str,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let request = Request::builder().header(header::AUTHORIZATION, token);
    let request = match &address.connect {
        Some(target) => request
            .method(Method::CONNECT)
            .uri(target)
            .header(header::HOST, target),
        None => request
            .uri(&address.path)
            .header(header::HOST, &address.authority)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, key),
    };
    request.body(Empty::new())
}

fn answers(headers: &HeaderMap, key: &str) -> bool {
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
    accept.is_some_and(|accept| accept.as_bytes() == derive_accept_key(key.as_bytes()).as_bytes())
}

/// What the answer says, in its own words where it has some.
async fn refused(response: Response<Incoming>) -> ConnectError {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_PROBLEM);
    let body = match timeout(PATIENCE, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    match serde_json::from_slice::<Problem>(&body) {
        Ok(Problem {
            detail,
            code,
            decision,
        }) => ConnectError::Refused {
            detail,
            code,
            decision,
        },
        Err(_not_of_usher) => ConnectError::Status(status),
    }
}

/// The parts of a problem document (RFC 9457) that say what went wrong.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    code: String,
    decision: String,
}

/// Why there is no tunnel, or none any more.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Where to go.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// `--token -`.
    #[error("standard input is the tunnel's; give the token with --token T or in USHER_TOKEN")]
    StdinIsTaken,
    /// The token cannot be sent.
    #[error("the token has bytes that no header may have; `usher token inspect` says more")]
    TokenBytes,
    /// No roots.
    #[error(transparent)]
    Peer(PeerError),
    /// No event queue.
    #[error("the system gives no event queue")]
    Runtime(#[source] io::Error),
    /// usher is not there.
    #[error("usher cannot be reached")]
    Tcp(#[source] io::Error),
    /// Its name is none.
    #[error("{0} is not a name that a certificate can have")]
    Name(String),
    /// Its certificate is not acceptable.
    #[error("the TLS handshake with usher failed")]
    Tls(#[source] io::Error),
    /// It takes too long.
    #[error("usher did not answer in time")]
    Late,
    /// The request cannot be written.
    #[error("the tunnel cannot be asked for")]
    Request(#[source] http::Error),
    /// The answer cannot be read.
    #[error("usher's answer cannot be read")]
    Http(#[source] hyper::Error),
    /// usher says no, and why.
    #[error("{detail} ({code}, decision {decision})")]
    Refused {
        /// Why.
        detail: String,
        /// The stable code.
        code: String,
        /// For its log.
        decision: String,
    },
    /// Something else says no.
    #[error("the server answers {0} and says no more; is there an usher at this address?")]
    Status(StatusCode),
    /// The server agrees to something else.
    #[error("the server does not understand the WebSocket handshake")]
    NotWebSocket,
    /// The tunnel ended with a reason.
    #[error("the tunnel was closed: {0}")]
    Closed(String),
    /// The tunnel broke.
    #[error("the tunnel broke off")]
    Broken(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl ConnectError {
    fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Broken(Arc::new(error))
    }
}

/// ALPN name of HTTP/1.1, which tunnels are opened over.
const HTTP11: &[u8] = b"http/1.1";
/// How long each step may take until the tunnel is open: longer than usher gives an upstream.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that is read for its reason.
const MAX_PROBLEM: usize = 64 * 1024;

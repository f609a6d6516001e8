//! HTTP/2 on either side, spoken by hyper.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::canary::{self, Place};
use super::{DEADLINE, Identity};

/// A body that the test feeds.
pub(crate) struct Fed(mpsc::Receiver<Frame<Bytes>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    /// Known to be empty once nobody can feed it: the head of such a request ends its stream.
    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

/// A body, and the end that feeds it; dropping that ends the body.
pub(crate) fn fed() -> (mpsc::Sender<Frame<Bytes>>, Fed) {
    let (feed, body) = mpsc::channel(8);
    (feed, Fed(body))
}

pub(crate) fn trailers(lines: &[(&'static str, &'static str)]) -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_static(value));
    }
    Frame::trailers(map)
}

/// What goes over one connection in clear: the data, and not the header blocks, in which Huffman's
/// code hides everything.
struct Watched<IO> {
    io: IO,
    watch: canary::Stream,
}

impl<IO> Watched<IO> {
    fn new(io: IO, place: Place) -> Self {
        let watch = canary::Stream::new(place);
        Self { io, watch }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = to.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, to);
        this.watch.look(&to.filled()[before..]);
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn look(place: Place, headers: &HeaderMap) {
    for (name, value) in headers {
        canary::look(place, name.as_str().as_bytes());
        canary::look(place, value.as_bytes());
    }
}

fn look_at(place: Place, shown: &impl ToString) {
    canary::look(place, shown.to_string().as_bytes());
}

/// Runs a test on this thread, until the deadline at most.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(DEADLINE, test).await.expect("the test is stuck") });
}

/// All data of a body, and its trailers.
pub(crate) async fn collect(body: Incoming) -> (Bytes, Option<HeaderMap>) {
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    look(Place::Answer, &trailers.clone().unwrap_or_default());
    (collected.to_bytes(), trailers)
}

/// One connection to usher.
pub(crate) struct H2Client {
    sender: SendRequest<Fed>,
    scheme: &'static str,
}

impl H2Client {
    /// By prior knowledge.
    pub(crate) async fn cleartext(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        Self::over(tcp, "http").await
    }

    /// By ALPN.
    pub(crate) async fn secured(address: SocketAddr, identity: &Identity) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(identity.client(&["h2"]));
        let tls = connector.connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        Self::over(tls, "https").await
    }

    async fn over(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        scheme: &'static str,
    ) -> Self {
        let io = Watched::new(io, Place::Answer);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { sender, scheme }
    }

    /// A request for `METHOD TARGET` with a credential and a body.
    pub(crate) fn request(
        &self,
        request: &str,
        credential: Option<&str>,
        lines: &[(&'static str, &str)],
        body: Fed,
    ) -> Request<Fed> {
        let (method, target) = request.split_once(' ').unwrap();
        let mut builder = Request::builder()
            .method(method)
            .uri(format!("{}://usher.test{target}", self.scheme));
        if let Some(credential) = credential {
            canary::hide_tokens(credential);
            builder = builder.header("authorization", credential);
        }
        for (name, value) in lines {
            builder = builder.header(*name, *value);
        }
        builder.body(body).unwrap()
    }

    pub(crate) async fn send(&mut self, request: Request<Fed>) -> Response<Incoming> {
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        look(Place::Answer, response.headers());
        response
    }

    /// A request without a body.
    pub(crate) async fn ask(
        &mut self,
        request: &str,
        credential: Option<&str>,
        lines: &[(&'static str, &str)],
    ) -> Response<Incoming> {
        let request = self.request(request, credential, lines, fed().1);
        self.send(request).await
    }
}

/// An upstream that keeps the head of every request, and echoes body and trailers frame by frame.
pub(crate) struct H2Upstream {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<Parts>>>,
}

impl H2Upstream {
    pub(crate) async fn cleartext() -> Self {
        Self::start(None).await
    }

    pub(crate) async fn secured(identity: &Identity) -> Self {
        Self::start(Some(TlsAcceptor::from(identity.server(&["h2"])))).await
    }

    /// One that answers without end, and reports of each request body that ends whether it was
    /// whole.
    pub(crate) async fn flooding() -> (Self, mpsc::UnboundedReceiver<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (report, reports) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tokio::spawn(flood(tcp, report.clone()));
            }
        });
        let heads = Arc::default();
        (Self { address, heads }, reports)
    }

    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (kept, tls) = (Arc::clone(&kept), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => echo(tcp, kept).await,
                        Some(tls) => echo(tls.accept(tcp).await.unwrap(), kept).await,
                    }
                });
            }
        });
        Self { address, heads }
    }

    pub(crate) fn heads(&self) -> Vec<Parts> {
        self.heads.lock().unwrap().clone()
    }
}

async fn flood(tcp: TcpStream, report: mpsc::UnboundedSender<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut upload = request.into_body();
        let report = report.clone();
        tokio::spawn(async move {
            let whole = loop {
                match upload.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            // The test may be over.
            let _told = report.send(whole);
        });
        let (feed, body) = fed();
        tokio::spawn(async move {
            let part = || Frame::data(Bytes::from_static(&[b'd'; 16 * 1024]));
            while feed.send(part()).await.is_ok() {}
        });
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let io = Watched::new(tcp, Place::Upstream);
    let io = Watched::new(io, Place::Upstream);
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), service);
    // usher closes it when it ends.
    let _ended = connection.await;
}

async fn echo(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    heads: Arc<Mutex<Vec<Parts>>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        look(Place::Upstream, &parts.headers);
        look_at(Place::Upstream, &parts.uri);
        heads.lock().unwrap().push(parts);
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), service);
    // usher closes it when it ends.
    let _ended = connection.await;
}

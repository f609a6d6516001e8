use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::support::*;

/// A body that the test feeds.
struct Fed(mpsc::Receiver<Frame<Bytes>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

fn fed() -> (mpsc::Sender<Frame<Bytes>>, Fed) {
    let (feed, body) = mpsc::channel(8);
    (feed, Fed(body))
}

fn empty() -> Fed {
    fed().1
}

fn trailers(lines: &[(&'static str, &'static str)]) -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.insert(*name, HeaderValue::from_static(value));
    }
    Frame::trailers(map)
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { timeout(Duration::from_secs(20), test).await.unwrap() });
}

/// Serves both versions; hands each request to the test, and answers with its own body.
async fn echo() -> (SocketAddr, mpsc::Receiver<http::request::Parts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, heads) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let seen = seen.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let seen = seen.clone();
                async move {
                    let (head, body) = request.into_parts();
                    seen.send(head).await.unwrap();
                    let trailer = HeaderValue::from_static("x-sum");
                    let mut response = Response::new(body);
                    response.headers_mut().insert("trailer", trailer);
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ended = builder.serve_connection(TokioIo::new(tcp), service).await;
            });
        }
    });
    (address, heads)
}

async fn connect(edge: &Edge) -> SendRequest<Fed> {
    let tcp = TcpStream::connect(edge.address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn post(edge: &Edge, path: &str, body: Fed) -> Request<Fed> {
    Request::post(format!("http://{}{path}", edge.address))
        .header("te", "trailers")
        .header("trailer", "x-sum")
        .header("x-usher-org", "1")
        .header("authorization", "Bearer fm2_x")
        .body(body)
        .unwrap()
}

#[test]
fn streams_pass_frame_by_frame_to_both_versions() {
    run(async {
        let (upstream, mut heads) = echo().await;
        let edge = Edge::before(upstream);
        let mut client = connect(&edge).await;
        for (path, version) in [
            ("/a?b=%20", Version::HTTP_11),
            ("/h2?b=%20", Version::HTTP_2),
        ] {
            let (feed, body) = fed();
            let sending = client.send_request(post(&edge, path, body));
            feed.send(Frame::data("one".into())).await.unwrap();
            let mut response = sending.await.unwrap();
            assert_eq!(response.status(), 200);

            let head = heads.recv().await.unwrap();
            assert_eq!(head.version, version);
            assert_eq!(head.uri.path_and_query().unwrap(), path);
            assert_eq!(head.headers["x-usher-org"], "2001");
            assert_eq!(head.headers["te"], "trailers");
            assert!(!head.headers.contains_key("authorization"));
            let host = head.uri.authority().map(|a| a.as_str().to_owned());
            let host = host.or_else(|| Some(head.headers.get("host")?.to_str().ok()?.to_owned()));
            assert_eq!(host, Some(upstream.to_string()));

            // Each part comes back before the next one is sent.
            for part in ["one", "two"] {
                let frame = response.body_mut().frame().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), part);
                if part == "one" {
                    feed.send(Frame::data("two".into())).await.unwrap();
                }
            }
            let last = trailers(&[("x-sum", "9"), ("authorization", "fm2_x")]);
            feed.send(last).await.unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            let received = frame.into_trailers().unwrap();
            assert_eq!(received["x-sum"], "9");
            assert_eq!(received.len(), 1);
            assert!(response.body_mut().frame().await.is_none());
            client = connect(&edge).await;
        }
    });
}

/// Tells what trailers each request has, and answers with one that does not pass.
async fn forbidden() -> (SocketAddr, mpsc::Receiver<Option<HeaderMap>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, ends) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let seen = seen.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let seen = seen.clone();
                async move {
                    let whole = request.into_body().collect().await.unwrap();
                    seen.send(whole.trailers().cloned()).await.unwrap();
                    let (feed, body) = fed();
                    feed.send(Frame::data("two".into())).await.unwrap();
                    feed.send(trailers(&[("host", "a")])).await.unwrap();
                    let mut response = Response::new(body);
                    let trailer = HeaderValue::from_static("host");
                    response.headers_mut().insert("trailer", trailer);
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ended = builder.serve_connection(TokioIo::new(tcp), service).await;
            });
        }
    });
    (address, ends)
}

#[test]
fn trailers_of_which_nothing_is_left_are_none() {
    run(async {
        let (upstream, mut ends) = forbidden().await;
        let edge = Edge::before(upstream);
        for path in ["/a", "/h2"] {
            let mut client = connect(&edge).await;
            let (feed, body) = fed();
            let sending = client.send_request(post(&edge, path, body));
            feed.send(Frame::data("one".into())).await.unwrap();
            feed.send(trailers(&[("host", "a"), ("x-usher-org", "1")]))
                .await
                .unwrap();
            let response = sending.await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(ends.recv().await.unwrap(), None, "{path}");
            let answer = response.into_body().collect().await.unwrap();
            assert_eq!(answer.trailers(), None, "{path}");
            assert_eq!(answer.to_bytes(), "two", "{path}");
        }
    });
}

#[test]
fn requests_share_one_upstream_connection() {
    run(async {
        let (upstream, _heads) = echo().await;
        let edge = Edge::before(upstream);
        let mut client = connect(&edge).await;
        let (held, body) = fed();
        held.send(Frame::data("one".into())).await.unwrap();
        let first = client.send_request(post(&edge, "/h2", body)).await.unwrap();
        for _ in 0..3 {
            let response = client.send_request(post(&edge, "/h2", empty()));
            let body = response.await.unwrap().into_body().collect().await.unwrap();
            assert!(body.to_bytes().is_empty());
        }
        drop(held);
        let body = first.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "one");
        let connections = r#"usher_upstream_connections_total{upstream="two",origin="#;
        assert_eq!(edge.metric(&format!("{connections}\"new\"}}")), 1);
        assert_eq!(edge.metric(&format!("{connections}\"reused\"}}")), 3);
    });
}

#[test]
fn a_denial_is_a_response_of_its_stream_only() {
    run(async {
        let (upstream, mut heads) = echo().await;
        let edge = Edge::before(upstream);
        let mut client = connect(&edge).await;
        let denied = client.send_request(post(&edge, "/denied", empty()));
        assert_eq!(denied.await.unwrap().status(), 403);
        assert!(heads.try_recv().is_err());
        let mut grpc = post(&edge, "/denied", empty());
        let kind = HeaderValue::from_static("application/grpc+proto");
        grpc.headers_mut().insert("content-type", kind);
        let denied = client.send_request(grpc).await.unwrap();
        assert_eq!(denied.status(), 200);
        assert_eq!(denied.headers()["grpc-status"], "7");
        let permitted = client.send_request(post(&edge, "/a", empty()));
        assert_eq!(permitted.await.unwrap().status(), 200);
    });
}

#[test]
fn a_stream_that_is_not_read_is_cut() {
    run(async {
        let (ended, mut end) = mpsc::channel(1);
        let upstream = Script::new(move |_, mut peer| {
            peer.head().unwrap();
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while peer.try_send(chunk.as_bytes()) {}
            ended.blocking_send(()).unwrap();
        });
        let mut timeouts = timeouts();
        timeouts.idle = Duration::from_millis(200);
        let edge = Edge::with(upstream.address, timeouts, limits());
        let mut client = connect(&edge).await;
        // The connection itself is read all the time; only this response is not.
        let response = client.send_request(post(&edge, "/a", empty())).await;
        end.recv().await.unwrap();
        drop(response);
    });
}

#[test]
fn a_cancelled_stream_cancels_its_request() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let edge = Edge::before(listener.local_addr().unwrap());
        let (seen, mut events) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let seen = seen.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let seen = seen.clone();
                    async move {
                        seen.send("begun").await.unwrap();
                        let broken = request.into_body().collect().await.is_err();
                        seen.send(if broken { "broken" } else { "whole" })
                            .await
                            .unwrap();
                        Ok::<_, Infallible>(Response::new(empty()))
                    }
                });
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ended = builder.serve_connection(TokioIo::new(tcp), service).await;
                });
            }
        });
        let mut client = connect(&edge).await;
        for path in ["/a", "/h2"] {
            let (_feed, body) = fed();
            let sending = client.send_request(post(&edge, path, body));
            assert_eq!(events.recv().await, Some("begun"), "{path}");
            drop(sending);
            assert_eq!(events.recv().await, Some("broken"), "{path}");
        }
    });
}

#[test]
fn a_panic_resets_its_own_stream_only() {
    run(async {
        let (upstream, mut heads) = echo().await;
        let edge = Edge::before(upstream);
        let mut client = connect(&edge).await;
        let (held, body) = fed();
        held.send(Frame::data("one".into())).await.unwrap();
        let other = client.send_request(post(&edge, "/a", body)).await.unwrap();
        assert!(heads.recv().await.is_some());
        let panicked = client.send_request(post(&edge, "/panic", empty()));
        assert!(panicked.await.is_err());
        assert!(heads.try_recv().is_err(), "it reached the upstream");
        drop(held);
        let body = other.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "one");
        let after = client.send_request(post(&edge, "/a", empty()));
        assert_eq!(after.await.unwrap().status(), 200);
    });
}

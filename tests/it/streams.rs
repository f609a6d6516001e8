//! Bodies that are on their way for a while.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use usher::authority::Kind;

use crate::support::{DEADLINE, H2Client, Recorder, World, run};

const ORG: Kind = Kind::Org { org: 2001 };
const READONLY: Kind = Kind::Readonly { org: 2001 };
const STREAM: &str = "GET /api/v1/apps/web/logs/stream";
const EVENTS: [&str; 3] = ["data: 1\n\n", ": still here\n\n", "id: 3\ndata: 3\n\n"];

/// The deadlines of the test about them.
const SILENCE: Duration = Duration::from_secs(1);

/// Bytes of a response that is more than all the buffers on its way hold, sockets included.
const LONG: usize = 128 * 1024 * 1024;

#[test]
fn a_log_stream_arrives_as_it_is_written() {
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let upstream = Recorder::script(move |exchange| {
        exchange.request().unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        exchange.peer.send(head);
        for line in ["first", "second", "third"] {
            exchange
                .peer
                .send(format!("{:x}\r\n{line}\r\n", line.len()));
            // The next line is written once the one before has been read at the other end.
            going.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
        exchange.peer.send("0\r\n\r\n");
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&READONLY);
    let mut peer = usher.connect();
    peer.send(format!(
        "GET /api/v1/apps/web/logs/stream HTTP/1.1\r\nhost: usher.test\r\n\
         authorization: {token}\r\n\r\n"
    ));
    let head = peer.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for line in ["first", "second", "third"] {
        let size = peer.until(b"\r\n").unwrap();
        assert_eq!(size, format!("{:x}", line.len()).into_bytes());
        assert_eq!(peer.exactly(line.len()), line.as_bytes());
        assert_eq!(peer.exactly(2), b"\r\n");
        go.send(()).unwrap();
    }
    assert_eq!(peer.chunked(), (Vec::new(), String::new()));
}

#[test]
fn an_event_stream_arrives_as_it_is_written_over_http2_too() {
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let upstream = Recorder::script(move |exchange| {
        exchange.request().unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        exchange.peer.send(head);
        for event in EVENTS {
            exchange
                .peer
                .send(format!("{:x}\r\n{event}\r\n", event.len()));
            // The next one is written once the one before has been read at the other end.
            going.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
        exchange.peer.send("0\r\n\r\n");
    });
    run(async {
        let usher = World::before(upstream.address).start();
        let token = usher.credential(&READONLY);
        let mut client = H2Client::cleartext(usher.address).await;
        let answer = client.ask(STREAM, Some(&token), &[]).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut body = answer.into_body();
        for event in EVENTS {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
            go.send(()).unwrap();
        }
        assert_eq!(body.collect().await.unwrap().to_bytes(), "");
    });
}

/// Lines that come before the deadline for silence, for longer than any deadline; then silence.
#[test]
fn a_stream_has_no_deadline_but_the_one_for_silence() {
    let upstream = Recorder::script(|exchange| {
        exchange.request().unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        exchange.peer.send(head);
        let until = Instant::now() + SILENCE * 3;
        while Instant::now() < until {
            exchange.peer.send("5\r\nline\n\r\n");
            // The pace of a log.
            thread::park_timeout(SILENCE / 20);
        }
        exchange.peer.send("5\r\nlast\n\r\n");
        assert_eq!(exchange.peer.rest(), b"");
    });
    let timeouts = format!(
        "timeouts: {{ request_head: {0}ms, connect: {0}ms, response_head: {0}ms, idle: {0}ms, stream_idle: {0}ms }}",
        SILENCE.as_millis()
    );
    let usher = World::before(upstream.address).and(timeouts).start();
    let token = usher.credential(&READONLY);
    let mut peer = usher.connect();
    peer.send(format!(
        "{STREAM} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
    ));
    assert!(peer.head().unwrap().starts_with("HTTP/1.1 200 "));
    let begun = Instant::now();
    assert!(peer.until(b"last\n\r\n").is_some());
    assert!(begun.elapsed() >= SILENCE * 2, "it outlived every deadline");
    // Cut, without a terminator.
    assert_eq!(peer.rest(), b"");
    assert_eq!(
        usher.metrics().matches("usher_leases_ended_total{").count(),
        0
    );
}

/// An upstream that sends [`LONG`] bytes, and reports how many it had sent when, for a moment, no
/// more were taken.
fn long() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (report, reports) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        read_head(&mut tcp);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n");
        tcp.write_all(head.as_bytes()).unwrap();
        tcp.set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let part = [b'x'; 64 * 1024];
        let (mut sent, mut stalled) = (0, false);
        while sent < LONG {
            match tcp.write(&part[..part.len().min(LONG - sent)]) {
                Ok(length) => sent += length,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if !std::mem::replace(&mut stalled, true) {
                        report.send(sent).unwrap();
                        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(stalled, "all of it was taken, and nobody read it");
        assert_eq!(tcp.read(&mut [0]).unwrap_or(0), 0);
    });
    (address, reports)
}

fn read_head(tcp: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}

#[test]
fn an_upstream_waits_for_a_client_that_does_not_read() {
    let (upstream, mut stalls) = long();
    let usher = World::before(upstream).start();
    let token = usher.credential(&READONLY);
    let mut peer = usher.connect();
    peer.send(format!(
        "{STREAM} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
    ));
    let sent = stalls.blocking_recv().unwrap();
    assert!(sent <= LONG / 2, "{sent} bytes are on the way");
    assert!(peer.head().unwrap().starts_with("HTTP/1.1 200 "));
    let mut read = 0;
    while read < LONG {
        read += peer.exactly(1024 * 1024).len();
    }
}

#[test]
fn an_upstream_waits_for_an_http2_client_that_does_not_read() {
    run(async {
        let (upstream, mut stalls) = long();
        let usher = World::before(upstream).start();
        let token = usher.credential(&READONLY);
        let mut client = H2Client::cleartext(usher.address).await;
        let mut body = client.ask(STREAM, Some(&token), &[]).await.into_body();
        let sent = stalls.recv().await.unwrap();
        assert!(sent <= LONG / 2, "{sent} bytes are on the way");
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(read, LONG);
    });
}

#[test]
fn a_readonly_token_streams_no_app_of_another_organization() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let answer = usher.ask(
        "GET /api/v1/apps/shop/logs/stream",
        Some(&usher.credential(&READONLY)),
    );
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));
}

#[test]
fn an_upload_is_asked_for_only_once_it_is_permitted() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let upload = |token: &str| {
        let mut peer = usher.connect();
        peer.send(format!(
            "POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
             expect: 100-continue\r\ncontent-length: 11\r\n\r\n"
        ));
        peer
    };
    let mut refused = upload(&usher.credential(&READONLY));
    let answer = refused.answer();
    upstream.saw_nothing();
    assert_eq!(answer.status, 403, "and no 100 before it");

    let mut permitted = upload(&usher.credential(&ORG));
    assert!(permitted.head().unwrap().starts_with("HTTP/1.1 100 "));
    permitted.send("hello");
    permitted.send(" world");
    assert_eq!(permitted.answer().status, 200);
    let seen = upstream.last();
    assert_eq!(seen.line("expect"), None);
    assert_eq!(seen.body, b"hello world");
}

#[test]
fn trailers_pass_both_ways_without_what_belongs_elsewhere() {
    let upstream = Recorder::answering(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
          2\r\nok\r\n0\r\nx-sum: 8\r\nset-cookie: a=b\r\nx-usher-org: 1\r\n\r\n"
            .to_vec()
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    let mut peer = usher.connect();
    peer.send(format!(
        "POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
         te: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         5\r\nhello\r\n0\r\nx-sum: 9\r\nauthorization: {token}\r\nx-usher-org: 1\r\n\r\n"
    ));
    let head = peer.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(peer.chunked(), (b"ok".to_vec(), "x-sum: 8\n".to_owned()));
    let seen = upstream.last();
    assert_eq!(
        (&*seen.body, &*seen.trailers),
        (&b"hello"[..], "x-sum: 9\n")
    );
}

#[test]
fn head_is_judged_as_get_and_answered_without_a_body() {
    let upstream = Recorder::answering(|received| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\netag: \"1\"\r\n\r\n";
        match received.head.starts_with("HEAD ") {
            true => head.to_vec(),
            false => [&head[..], b"ok"].concat(),
        }
    });
    let usher = World::before(upstream.address).start();
    let (org, beta) = (
        usher.credential(&READONLY),
        usher.credential(&Kind::Org { org: 2002 }),
    );
    let ask = |method: &str, token: &str| {
        format!(
            "{method} /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
        )
    };
    let mut peer = usher.connect();
    peer.send(ask("HEAD", &beta));
    let refused = peer.head().unwrap();
    upstream.saw_nothing();
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    // Were there a body, it would stand before the next head.
    peer.send(ask("HEAD", &org));
    let head = peer.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("content-length: 2"), "{head}");
    assert_eq!(upstream.last().request_line(), "HEAD /v1/apps/web HTTP/1.1");
    peer.send(ask("GET", &org));
    assert_eq!(peer.answer().text(), "ok");
}

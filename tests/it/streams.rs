//! Bodies that are on their way for a while.

use std::sync::{Mutex, mpsc};

use usher::authority::Kind;

use crate::support::{DEADLINE, Recorder, World};

const ORG: Kind = Kind::Org { org: 2001 };
const READONLY: Kind = Kind::Readonly { org: 2001 };

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

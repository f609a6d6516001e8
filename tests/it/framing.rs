//! Bytes that two readers of HTTP/1.1 could take for two different things.
//!
//! Each attack is followed by a request that a smuggler would want to get through.

use std::sync::mpsc;
use std::time::UNIX_EPOCH;

use usher::authority::Kind;
use usher::clock::unix_now;

use crate::support::{DEADLINE, Identity, Peer, Recorder, World, until};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// A request that is permitted, with these lines beside its own.
fn request(token: &str, line: &str, lines: &str) -> String {
    format!("{line}\r\nhost: usher.test\r\nauthorization: {token}\r\n{lines}\r\n")
}

fn get(token: &str) -> String {
    request(token, "GET /v1/apps/web HTTP/1.1", "")
}

const POST: &str = "POST /v1/apps/web/deploys HTTP/1.1";

/// Heads that must not pass, and what the client is told. `@` stands for the line of the token.
#[rustfmt::skip]
const HEADS: &[(&str, u16, &str)] = &[
    // Line ends.
    ("GET /v1/apps/web HTTP/1.1\nhost: usher.test\n@\n\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\r\n\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\rx: y\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\r\nx: a\r\n b\r\n\r\n", 400, "malformed"),
    ("\r\n\r\nGET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "malformed"),
    // Request lines.
    ("GET  /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1 \r\nhost: usher.test\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.0\r\nhost: usher.test\r\n@\r\n\r\n", 505, "http-version"),
    ("GET /v1/apps/web HTTP/2.0\r\nhost: usher.test\r\n@\r\n\r\n", 505, "http-version"),
    ("GET /v1/apps/web#x HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/w\u{e9}b HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web\\x HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web\0 HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "malformed"),
    ("GET http://other/v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET http://u@usher.test/v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET usher.test HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("OPTIONS * HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("TRACE /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 405, "method-not-allowed"),
    ("CONNECT usher.test:80 HTTP/1.1\r\nhost: usher.test\r\n@\r\n\r\n", 405, "method-not-allowed"),
    ("CONNECT usher.test:80 HTTP/1.1\r\nhost: usher.test\r\ncontent-length: 2\r\n@\r\n\r\nok", 400, "ambiguous"),
    // Hosts.
    ("GET /v1/apps/web HTTP/1.1\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost:\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nHost: usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test, other\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: u@usher.test\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test.\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test:x\r\n@\r\n\r\n", 400, "ambiguous"),
    // Headers.
    ("GET /v1/apps/web HTTP/1.1\r\nhost : usher.test\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\n host: usher.test\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n: x\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nx\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nx(y): z\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nx: a\0b\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nx: a\x7fb\r\n@\r\n\r\n", 400, "malformed"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nX_Usher_Org: 1\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nX.Usher.Org: 1\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n@\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\ncookie: a\r\ncookie: b\r\n@\r\n\r\n", 400, "ambiguous"),
    ("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nconnection: close, x-usher-org\r\n@\r\n\r\n", 400, "ambiguous"),
    // Framing.
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n@\r\n\r\n0\r\n\r\n", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n@\r\n\r\n0\r\n\r\n", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ncontent-length: 2\r\ncontent-length: 2\r\n@\r\n\r\nok", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ncontent-length: 2\r\ncontent-length: 60\r\n@\r\n\r\nok", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ncontent-length: 2, 2\r\n@\r\n\r\nok", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ncontent-length: +2\r\n@\r\n\r\nok", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ncontent-length: 0002\r\n@\r\n\r\nok", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ncontent-length: 99999999999999999999\r\n@\r\n\r\nok", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ntransfer-encoding: gzip, chunked\r\n@\r\n\r\n0\r\n\r\n", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ntransfer-encoding: chunked, chunked\r\n@\r\n\r\n0\r\n\r\n", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n@\r\n\r\n0\r\n\r\n", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n@\r\n\r\n0\r\n\r\n", 400, "ambiguous"),
    ("POST /v1/apps/web/deploys HTTP/1.0\r\nhost: usher.test\r\ntransfer-encoding: chunked\r\n@\r\n\r\n0\r\n\r\n", 505, "http-version"),
];

/// What comes back for an attack with a smuggled request behind it, up to the end.
#[track_caller]
fn refused(peer: &mut Peer, bytes: &[u8], expected: (u16, &str)) {
    let shown = bytes.escape_ascii();
    let answer = peer.answer();
    assert_eq!((answer.status, &*answer.code()), expected, "{shown}");
    assert_eq!(answer.line("connection"), Some("close"), "{shown}");
    assert_eq!(peer.rest(), b"", "{shown}: the connection goes on");
}

#[test]
fn a_head_with_two_readings_reaches_nothing() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for (head, status, code) in HEADS {
        let line = format!("authorization: {token}");
        let bytes = head.replace('@', &line) + &get(&token);
        let mut peer = usher.connect();
        peer.try_send(&bytes);
        let shown = bytes.replace(&token, "TOKEN");
        let answer = peer.answer();
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            (*status, *code),
            "{shown}"
        );
        assert_eq!(answer.line("connection"), Some("close"), "{shown}");
        let date = answer.line("date").unwrap();
        let told = httpdate::parse_http_date(date).unwrap();
        let told = told.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let now = u64::try_from(unix_now()).unwrap();
        assert!(now.abs_diff(told) < DEADLINE.as_secs(), "{shown}: {date}");
        assert_eq!(peer.rest(), b"", "{shown}: the connection goes on");
    }
}

#[test]
fn nor_does_one_that_comes_byte_by_byte() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    for (head, status, code) in HEADS {
        // A token is long, and changes nothing about how the rest is read.
        let bytes = head.replace('@', "x: y");
        if bytes.contains("x: y\r\nx: y") || !matches!(*code, "malformed" | "http-version") {
            continue;
        }
        let mut peer = usher.connect();
        // What comes after the refusal may find the connection gone.
        for byte in bytes.as_bytes().chunks(1) {
            peer.try_send(byte);
        }
        refused(&mut peer, bytes.as_bytes(), (*status, code));
        upstream.saw_nothing();
    }
}

#[test]
fn requests_before_it_are_answered_in_order() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for (count, (head, status, code)) in HEADS.iter().enumerate() {
        let line = format!("authorization: {token}");
        let bytes = get(&token).repeat(3) + &head.replace('@', &line) + &get(&token);
        let mut peer = usher.connect();
        peer.try_send(&bytes);
        for _ in 0..3 {
            assert_eq!(peer.answer().text(), "ok", "{head}");
        }
        refused(&mut peer, head.as_bytes(), (*status, code));
        assert_eq!(upstream.requests().len(), 3 * (count + 1), "{head}");
    }
}

#[test]
fn a_refusal_waits_for_a_slow_response_before_it() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Recorder::script(move |exchange| {
        exchange.request().unwrap();
        gone.lock().unwrap().recv().unwrap();
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate");
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let mut peer = usher.connect();
    peer.send(get(&token));
    peer.send("GET /a\n\n");
    // More than any buffer between here and there.
    peer.send("x".repeat(300_000));
    let refused_one = r#"usher_requests_total{route="",verdict="deny",code="malformed"} 1"#;
    until("the refusal", || {
        usher.metrics().contains(refused_one).then_some(())
    });
    go.send(()).unwrap();
    assert_eq!(peer.answer().text(), "late");
    refused(&mut peer, b"GET /a\n\n", (400, "malformed"));
    assert_eq!(upstream.requests().len(), 1);
}

/// Bodies that break their framing, behind a first chunk, and what is good of them.
const BODIES: [&str; 24] = [
    "5\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\n\r\n",
    "5;\nGET / HTTP/1.1\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    "00000000000000005\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "0\n\r\n",
    "0\r\n\n",
    "0\r\n\r\r\n",
    "0\r\nx: y\n\n",
    "0\r\nx: y\r\n\n",
    "0\r\n x: y\r\n\r\n",
    "0\r\nx : y\r\n\r\n",
    "0\r\nx_y: z\r\n\r\n",
    "0\r\nx\r\n\r\n",
    "0\r\nx: a\0\r\n\r\n",
];

#[test]
fn a_body_that_breaks_its_framing_is_not_completed() {
    let (seen, ends) = mpsc::channel();
    let upstream = Recorder::script(move |exchange| {
        exchange.peer.head().unwrap();
        let first = exchange.peer.exactly(8);
        seen.send(first).unwrap();
        seen.send(exchange.peer.rest()).unwrap();
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for body in BODIES {
        let mut peer = usher.connect();
        peer.send(request(&token, POST, "transfer-encoding: chunked\r\n"));
        peer.send("3\r\none\r\n");
        assert_eq!(ends.recv().unwrap(), b"3\r\none\r\n");
        peer.try_send(body.to_owned() + &get(&token));
        refused(&mut peer, body.as_bytes(), (400, "bad-body"));
        let end = ends.recv().unwrap();
        assert!(
            !end.ends_with(b"0\r\n\r\n"),
            "{body:?}: {}",
            end.escape_ascii()
        );
        assert!(!end.windows(3).any(|w| w == b"GET"), "{body:?}");
    }
    let metrics = usher.metrics();
    let counted = r#"usher_requests_total{route="",verdict="deny",code="bad-body"} 24"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn chunks_trailers_and_further_requests_share_a_connection() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let upload = request(
        &token,
        POST,
        "transfer-encoding: chunked\r\ntrailer: x-sum\r\n",
    );
    let bodies = [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "005\r\nhello\r\nA\r\n0123456789\r\n00\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-Sum: 9\r\nX-Usher-Org: 1\r\nAuthorization: Bearer x\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-Sum:\r\n\r\n",
    ];
    let mut all = String::new();
    for body in bodies {
        all += &upload;
        all += body;
        all += &get(&token);
    }
    let sized =
        request(&token, POST, "content-length: 21\r\n") + "GET / HTTP/1.1\r\nx: y\n" + &get(&token);
    all += &sized;
    for part in [all.len(), 1400, 7] {
        let before = upstream.requests().len();
        let mut peer = usher.connect();
        let answers = bodies.len() * 2 + 2;
        for part in all.as_bytes().chunks(part) {
            peer.send(part);
        }
        for _ in 0..answers {
            assert_eq!(peer.answer().text(), "ok", "{part}");
        }
        let seen = upstream.requests().split_off(before);
        assert_eq!(seen.len(), answers);
        let bodies: Vec<_> = seen
            .iter()
            .map(|r| String::from_utf8_lossy(&r.body))
            .collect();
        assert_eq!(
            bodies,
            [
                "",
                "",
                "hello",
                "",
                "hello0123456789",
                "",
                "hello",
                "",
                "hello",
                "",
                "GET / HTTP/1.1\r\nx: y\n",
                ""
            ]
        );
        assert_eq!(seen[6].trailers.to_ascii_lowercase(), "x-sum: 9\n");
    }
}

#[test]
fn two_oddities_can_be_dropped_instead() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address)
        .and("limits: { odd_header_names: drop, chunk_extensions: drop }")
        .start();
    let token = usher.credential(&DEPLOY);
    let lines = "transfer-encoding: chunked\r\nX_Usher_Org: 1\r\nX.Usher.App: 1\r\nx_y: z\r\n\
         x-usher_org: 1\r\naccept: a/b\r\n";
    let mut peer = usher.connect();
    peer.send(request(&token, POST, lines) + "5;a=b\r\nhello\r\n0;c\r\nx_usher_org: 1\r\n\r\n");
    assert_eq!(peer.answer().text(), "ok");
    let seen = upstream.last();
    assert_eq!((&*seen.body, &*seen.trailers), (&b"hello"[..], ""));
    assert!(!seen.head.contains(['_', '!']), "{}", seen.head);
    assert!(!seen.head.to_ascii_lowercase().contains("x.usher"));
    assert_eq!(seen.line("x-usher-org"), Some("2001"));
    assert_eq!(seen.line("accept"), Some("a/b"));
    let raw = upstream.bytes();
    assert!(!raw.contains(&b';'), "{}", raw.escape_ascii());
}

#[test]
fn what_legitimate_clients_do_still_works() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let mut peer = usher.connect();
    // 100-continue.
    let expecting = "content-length: 2\r\nexpect: 100-continue\r\n";
    peer.send(request(&token, POST, expecting));
    assert!(peer.head().unwrap().starts_with("HTTP/1.1 100 "));
    peer.send("ok");
    assert_eq!(peer.answer().text(), "ok");
    // An empty line that the length of the body left out, and the absolute form.
    peer.send("\r\n");
    let line = "GET http://usher.test/v1/apps/web HTTP/1.1";
    peer.send(request(&token, line, ""));
    assert_eq!(peer.answer().text(), "ok");
    // An upgrade that nobody takes up, and a request behind it.
    let upgrade = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n";
    peer.send(request(&token, "GET /v1/apps/web HTTP/1.1", upgrade) + &get(&token).repeat(2));
    for _ in 0..3 {
        assert_eq!(peer.answer().text(), "ok");
    }
    // A denial without a body keeps the connection.
    peer.send(request(&token, "GET /v1/apps/api HTTP/1.1", ""));
    assert_eq!(peer.answer().status, 403);
    peer.send(get(&token));
    assert_eq!(peer.answer().text(), "ok");
    assert_eq!(upstream.requests().len(), 6);
}

#[test]
fn what_follows_a_tunnel_that_is_refused_is_not_read() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let connect = request(&token, "CONNECT usher.test:22 HTTP/1.1", "");
    for early in ["SSH-2.0-x\r\n".to_owned(), get(&token), "\0\0".to_owned()] {
        let mut peer = usher.connect();
        peer.send(connect.clone() + &early);
        let answer = peer.answer();
        upstream.saw_nothing();
        assert_eq!((answer.status, peer.rest()), (405, Vec::new()), "{early:?}");
    }
}

/// Whatever a head's size, it is told by the same three limits.
#[test]
fn bounds_have_codes_of_their_own() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address)
        .and("limits: { head_bytes: 12KiB, target_bytes: 2KiB, headers: 20 }")
        .start();
    let token = usher.credential(&DEPLOY);
    let target = |length: usize| {
        let path = "/v1/apps/web/machines?region=";
        let line = format!("GET {path}{} HTTP/1.1", "a".repeat(length - path.len()));
        request(&token, &line, "")
    };
    let lines = |count: usize| {
        let lines = "x: y\r\n".repeat(count - 2);
        request(&token, "GET /v1/apps/web HTTP/1.1", &lines)
    };
    let head = |length: usize| {
        let room = length - request(&token, "GET /v1/apps/web HTTP/1.1", "x:\r\n").len();
        let line = format!("x:{}\r\n", "y".repeat(room));
        request(&token, "GET /v1/apps/web HTTP/1.1", &line)
    };
    for (bytes, status, code) in [
        (target(2 * 1024 + 1), 414, "target-too-long"),
        (target(50 * 1024), 414, "target-too-long"),
        (lines(21), 431, "head-too-large"),
        (lines(1500), 431, "head-too-large"),
        (head(12 * 1024 + 1), 431, "head-too-large"),
        (head(500 * 1024), 431, "head-too-large"),
        // Before its end has come.
        (
            target(50 * 1024).replace(" HTTP/1.1", ""),
            414,
            "target-too-long",
        ),
        (
            head(500 * 1024).replace("\r\n\r\n", ""),
            431,
            "head-too-large",
        ),
    ] {
        let mut peer = usher.connect();
        peer.try_send(&bytes);
        refused(&mut peer, &bytes.as_bytes()[..60], (status, code));
        upstream.saw_nothing();
    }
    for bytes in [target(2 * 1024), lines(20), head(12 * 1024)] {
        let mut peer = usher.connect();
        peer.send(bytes);
        assert_eq!(peer.answer().text(), "ok");
    }
}

#[test]
fn the_gate_stands_behind_tls_as_well() {
    let (upstream, identity) = (Recorder::ok(), Identity::new());
    let usher = World::before(upstream.address).secured(&identity).start();
    let token = usher.credential(&DEPLOY);
    for offered in [&[][..], &["http/1.1"][..]] {
        let (mut peer, _) = identity.connect(usher.address, offered);
        let line = "GET /v1/apps/web#x HTTP/1.1";
        peer.send(request(&token, line, "") + &get(&token));
        let answer = peer.answer();
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (400, "ambiguous"));
        assert_eq!(peer.rest(), b"");
    }
}

#[test]
fn the_preface_of_http2_over_tls_is_no_request_of_http1() {
    let (upstream, identity) = (Recorder::ok(), Identity::new());
    let usher = World::before(upstream.address).secured(&identity).start();
    let (mut peer, _) = identity.connect(usher.address, &["http/1.1"]);
    peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(peer.answer().status, 400);
    assert_eq!(peer.rest(), b"");
    upstream.saw_nothing();
}

#[test]
fn a_refusal_is_counted_and_has_a_decision() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let mut ids = Vec::new();
    for bytes in [
        "GET / HTTP/1.1\n\n",
        "GET /#a HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut peer = usher.connect();
        peer.send(bytes);
        let answer = peer.answer();
        upstream.saw_nothing();
        ids.push(answer.problem()["decision"].as_str().unwrap().to_owned());
        assert_eq!(answer.line("cache-control"), Some("no-store"));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let metrics = usher.metrics();
    for code in ["malformed", "ambiguous", "http-version"] {
        let counted = format!(r#"usher_requests_total{{route="",verdict="deny",code="{code}"}} 1"#);
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

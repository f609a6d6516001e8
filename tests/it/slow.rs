//! Clients that are slow, or do nothing, on purpose. Each wait is for usher to end it.

use usher::authority::Kind;

use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Fate, GOAWAY, HEADERS, WINDOW_UPDATE, Wire,
    block, frame,
};
use crate::support::{Identity, Peer, Recorder, Usher, World, until};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// Short enough to wait for, all of them.
const TIMEOUTS: &str =
    "timeouts: { tls_handshake: 200ms, request_head: 200ms, judged_body: 200ms, idle: 200ms }";

/// Nobody is left, and others are served.
fn assert_alone(usher: &Usher, token: &str) {
    let line = "usher_connections_open 0\n";
    until("the end of all", || {
        usher.metrics().contains(line).then_some(())
    });
    assert_eq!(usher.ask("GET /v1/apps/web", Some(token)).status, 200);
}

#[test]
fn a_connection_without_a_request_ends() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).and(TIMEOUTS).start();
    let token = usher.credential(&DEPLOY);
    for beginning in [
        "",
        "G",
        "PRI * HTTP/2.0\r\n",
        "GET /v1/apps/web HTTP/1.1\r\nhost: usher.te",
    ] {
        let mut peer = usher.connect();
        peer.send(beginning);
        assert_eq!(peer.rest(), b"", "{beginning:?}");
        upstream.saw_nothing();
    }
    assert_alone(&usher, &token);
    // One that was served, and then has nothing more to ask.
    let mut peer = usher.connect();
    let request =
        format!("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n");
    peer.send(&request);
    assert_eq!(peer.answer().status, 200);
    assert_eq!(peer.rest(), b"");
    assert_alone(&usher, &token);
}

#[test]
fn a_head_that_comes_in_drops_has_no_more_time() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).and(TIMEOUTS).start();
    let token = usher.credential(&DEPLOY);
    let mut peer = usher.connect();
    peer.send("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n");
    let mut sent = 0;
    // Without a pause; only that there is no end to it ends it.
    while peer.try_send("x") && sent < 60_000 {
        sent += 1;
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    assert!(sent < 2_000, "it went on for {sent} bytes");
    upstream.saw_nothing();
    assert_alone(&usher, &token);
}

#[test]
fn an_http2_connection_without_a_request_ends() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).and(TIMEOUTS).start();
    let token = usher.credential(&DEPLOY);
    let mut wire = Wire::connect(usher.address);
    let mut frames = std::iter::from_fn(|| wire.next());
    assert!(frames.any(|frame| frame.kind == GOAWAY), "it is told");
    assert!(frames.all(|frame| frame.kind != HEADERS), "and that is all");
    // A header block that does not end is no request yet.
    let mut wire = Wire::connect(usher.address);
    wire.send(&frame(HEADERS, 0, 1, &block(&[(b":method", b"GET")])));
    let fate = wire.fate(0);
    assert!(
        matches!(fate, Fate::Ended(code) if code != Some(ENHANCE_YOUR_CALM)),
        "{fate:?}"
    );
    upstream.saw_nothing();
    assert_alone(&usher, &token);
}

#[test]
fn a_handshake_that_does_not_go_on_ends() {
    let (upstream, identity) = (Recorder::ok(), Identity::new());
    let usher = World::before(upstream.address)
        .and(TIMEOUTS)
        .secured(&identity)
        .start();
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n"] {
        let mut peer = usher.connect();
        peer.send(beginning);
        peer.rest();
    }
    upstream.saw_nothing();
    let line = "usher_connections_open 0\n";
    until("the end of all", || {
        usher.metrics().contains(line).then_some(())
    });
}

#[test]
fn a_body_that_does_not_go_on_is_not_waited_for() {
    let upstream = Recorder::script(|exchange| {
        exchange.peer.rest();
    });
    let usher = World::before(upstream.address).and(TIMEOUTS).start();
    let token = usher.credential(&DEPLOY);
    let mut peer = usher.connect();
    peer.send(format!(
        "POST /v1/apps/web/machines HTTP/1.1\r\nhost: usher.test\r\n\
         authorization: {token}\r\ncontent-length: 100\r\n\r\nbegin"
    ));
    let answer = peer.answer();
    assert_eq!((answer.status, &*answer.code()), (408, "body-timeout"));
    assert!(peer.rest().is_empty());
    let line = "usher_connections_open 0\n";
    until("the end of all", || {
        usher.metrics().contains(line).then_some(())
    });

    let mut wire = Wire::connect(usher.address);
    let fields = block(&[
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"usher.test"),
        (b":path", b"/v1/apps/web/machines"),
        (b"authorization", token.as_bytes()),
    ]);
    wire.send(&frame(HEADERS, END_HEADERS, 1, &fields));
    assert_eq!(
        wire.fate(1).problem(),
        Some((408, "body-timeout".to_owned()))
    );
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let upstream = Recorder::script(|exchange| {
        exchange.request();
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while exchange.peer.try_send(&chunk) {}
    });
    let usher = World::before(upstream.address).and(TIMEOUTS).start();
    let token = usher.credential(&DEPLOY);
    let mut peer = usher.connect();
    peer.send(format!(
        "GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
    ));
    let line = "usher_connections_open 0\n";
    until("its end", || {
        usher
            .metrics()
            .contains("usher_connections_total 1")
            .then_some(())
    });
    until("its end", || usher.metrics().contains(line).then_some(()));
    let whole = peer.rest();
    assert!(!whole.ends_with(b"0\r\n\r\n"), "it does not look complete");
}

/// More than a client of HTTP/2 has room for in the beginning (65,535 bytes).
const LONG: usize = 100_000;

/// Answers the request that says it is the first, at length, and no other.
fn answering_once() -> Recorder {
    Recorder::script(|exchange| {
        let first = exchange
            .request()
            .is_some_and(|r| r.line("x-first").is_some());
        if first {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n");
            exchange.peer.send(head + &"x".repeat(LONG));
        }
        exchange.peer.rest();
    })
}

fn asking(token: &str, first: &[(&[u8], &[u8])]) -> Vec<u8> {
    let usual: [(&[u8], &[u8]); 5] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"usher.test"),
        (b":path", b"/v1/apps/web"),
        (b"authorization", token.as_bytes()),
    ];
    block(&[&usual, first].concat())
}

/// Sends the first request and takes as much of its answer as there is room for.
fn with_an_end_left(usher: &Usher, token: &str) -> Wire {
    let mut wire = Wire::connect(usher.address);
    let head = asking(token, &[(b"x-first", b"1")]);
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head));
    let mut taken = 0;
    while taken < 65_535 {
        let next = wire.next().unwrap();
        if next.kind == DATA {
            taken += next.payload.len();
        }
    }
    wire
}

#[test]
fn the_end_of_a_response_waits_for_its_client_like_the_rest() {
    let upstream = answering_once();
    let usher = World::before(upstream.address)
        .and("timeouts: { request_head: 200ms }")
        .start();
    let token = usher.credential(&DEPLOY);
    let mut wire = with_an_end_left(&usher, &token);
    // Who has nothing under way is gone by then.
    assert_eq!(usher.connect().rest(), b"");
    for stream in [0, 1] {
        wire.send(&frame(WINDOW_UPDATE, 0, stream, &100_000_u32.to_be_bytes()));
    }
    assert_eq!(wire.fate(1), Fate::Answered("x".repeat(LONG - 65_535)));
}

#[test]
fn who_does_not_take_the_end_of_a_response_is_cut_off_whatever_else_is_under_way() {
    let upstream = answering_once();
    let usher = World::before(upstream.address)
        .and("timeouts: { idle: 200ms }")
        .start();
    let token = usher.credential(&DEPLOY);
    let mut wire = with_an_end_left(&usher, &token);
    // There is room for other answers.
    wire.send(&frame(WINDOW_UPDATE, 0, 0, &100_000_u32.to_be_bytes()));
    let head = asking(&token, &[]);
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &head));
    assert_eq!(wire.fate(3), Fate::Ended(None));
}

#[test]
fn connections_over_a_limit_are_closed_at_once() {
    for (limits, limit) in [
        ("connections: 2", "total"),
        ("connections_per_address: 2", "address"),
    ] {
        let upstream = Recorder::ok();
        let usher = World::before(upstream.address)
            .and(format_args!("limits: {{ {limits} }}"))
            .start();
        let token = usher.credential(&DEPLOY);
        let request = format!(
            "GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
        );
        let mut held: Vec<Peer> = (0..2).map(|_| usher.connect()).collect();
        for peer in &mut held {
            peer.send(&request);
            assert_eq!(peer.answer().status, 200);
        }
        for _ in 0..3 {
            assert_eq!(usher.connect().rest(), b"", "{limits}");
        }
        let line = format!("usher_connections_refused_total{{limit=\"{limit}\"}} 3\n");
        assert!(usher.metrics().contains(&line));
        // Those within it are not disturbed, and one that ends makes room.
        for peer in &mut held {
            peer.send(&request);
            assert_eq!(peer.answer().status, 200);
        }
        held.pop();
        until("room", || {
            usher
                .metrics()
                .contains("usher_connections_open 1\n")
                .then_some(())
        });
        assert_eq!(usher.ask("GET /v1/apps/web", Some(&token)).status, 200);
    }
}

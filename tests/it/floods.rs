//! Clients of HTTP/2 that keep usher busy: each connection has its bounds, at once and over time,
//! and whoever crosses one is told to calm down and loses the connection.

use std::sync::mpsc;

use usher::authority::Kind;

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Fate, GOAWAY, HEADERS,
    PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, block, frame,
};
use crate::support::{DEADLINE, Recorder, Usher, World, until};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// What the settings allow in ten seconds, unless a test says otherwise.
const IDLE_FRAMES: usize = 1_000;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The header block of a request that the token permits.
fn request(method: &str, token: &str) -> Vec<u8> {
    block(&[
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", b"usher.test"),
        (b":path", b"/v1/apps/web/deploys"),
        (b"authorization", token.as_bytes()),
    ])
}

/// Others are served as before.
fn assert_served(usher: &Usher, token: &str) {
    let answer = usher.ask("GET /v1/apps/web", Some(token));
    assert_eq!((answer.status, answer.text()), (200, "ok"));
}

/// The connection that was closed is counted, once it has.
fn assert_counted(usher: &Usher, limit: &str) {
    let line = format!("usher_connections_refused_total{{limit=\"{limit}\"}} 1\n");
    until("the count", || {
        usher.metrics().contains(&line).then_some(())
    });
}

/// An upstream that never answers, and tells when a request has come and when its connection has
/// ended.
fn unanswering() -> (Recorder, mpsc::Receiver<&'static str>) {
    let (tell, told) = mpsc::channel();
    let recorder = Recorder::script(move |exchange| {
        exchange.request();
        // The test may be over.
        let _told = tell.send("came");
        exchange.peer.rest();
        let _told = tell.send("ended");
    });
    (recorder, told)
}

#[test]
fn streams_that_are_reset_are_counted_and_leave_nothing_behind() {
    const RESETS: usize = 30;
    let (upstream, told) = unanswering();
    let usher = World::before(upstream.address)
        .and(format_args!("limits: {{ resets: {RESETS}, streams: 2 }}"))
        .start();
    let token = usher.credential(&DEPLOY);
    let mut wire = Wire::connect(usher.address);
    let head = request("POST", &token);
    for _ in 0..=RESETS {
        let stream = wire.stream();
        wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        // One connection at a time: the reset takes that of its request along.
        assert_eq!(told.recv_timeout(DEADLINE), Ok("came"));
        wire.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        assert_eq!(told.recv_timeout(DEADLINE), Ok("ended"));
    }
    assert_eq!(wire.fate(0), Fate::Ended(Some(ENHANCE_YOUR_CALM)));
    assert_eq!(upstream.connections(), RESETS + 1);
    assert_counted(&usher, "resets");
}

#[test]
fn resets_without_a_pause_end_the_connection_early() {
    let (upstream, told) = unanswering();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let mut wire = Wire::connect(usher.address);
    let head = request("POST", &token);
    for _ in 0..10_000 {
        let stream = wire.stream();
        let mut pair = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
        pair.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        if !wire.try_send(&pair) {
            break;
        }
    }
    assert_eq!(wire.fate(0), Fate::Ended(Some(ENHANCE_YOUR_CALM)));
    // 200 by the setting, and whatever was on its way.
    assert!(upstream.connections() <= 202, "{}", upstream.connections());
    drop(told);
}

#[test]
fn a_connection_that_ends_takes_its_streams_along() {
    let (upstream, told) = unanswering();
    let usher = World::before(upstream.address)
        .and("limits: { idle_frames: 10 }")
        .start();
    let token = usher.credential(&DEPLOY);
    let mut wire = Wire::connect(usher.address);
    let head = request("POST", &token);
    for _ in 0..5 {
        let stream = wire.stream();
        wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        assert_eq!(told.recv_timeout(DEADLINE), Ok("came"));
    }
    wire.send(&frame(PING, 0, 0, &[0; 8]).repeat(100));
    assert_eq!(wire.fate(0), Fate::Ended(Some(ENHANCE_YOUR_CALM)));
    for _ in 0..5 {
        assert_eq!(told.recv_timeout(DEADLINE), Ok("ended"));
    }
}

/// Floods one connection, after a request whose body goes on, until usher has had enough.
fn flood(bytes: &[u8]) {
    let upstream = Recorder::script(|exchange| {
        let head = exchange.peer.head();
        if head.is_some_and(|head| head.starts_with("GET")) {
            exchange.peer.send(OK);
        }
        exchange.peer.rest();
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let mut wire = Wire::connect(usher.address);
    let stream = wire.stream();
    wire.send(&frame(
        HEADERS,
        END_HEADERS,
        stream,
        &request("POST", &token),
    ));
    // In order, and answered or not, no reason to end anything.
    wire.send(&bytes.repeat(IDLE_FRAMES / 4));
    wire.send(&frame(PING, 0, 0, b"are you?"));
    loop {
        let next = wire.next();
        let next = next.unwrap_or_else(|| panic!("the end after some {bytes:?}"));
        assert_ne!(next.kind, GOAWAY, "{next:?} after {bytes:?}");
        if next.payload == b"are you?" {
            break;
        }
    }
    let mut sent = 0;
    while wire.try_send(&bytes.repeat(100)) {
        sent += 100;
        assert!(sent < 1_000_000, "nothing bounds {bytes:?}");
    }
    assert_served(&usher, &token);
    assert_counted(&usher, "idle_frames");
}

#[test]
fn frames_that_carry_nothing_are_bounded() {
    for bytes in [
        frame(PING, 0, 0, &[7; 8]),
        frame(PING, ACK, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[]),
        // The table of headers, small and large in turn.
        [
            frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]),
            frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]),
        ]
        .concat(),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        frame(0xbe, 0, 0, &[]),
    ] {
        flood(&bytes);
    }
}

#[test]
fn data_frames_without_data_are_bounded() {
    const PADDED: u8 = 0x8;
    let upstream = Recorder::script(|exchange| {
        exchange.peer.rest();
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for empty in [frame(DATA, 0, 1, &[]), frame(DATA, PADDED, 1, &[1, 0])] {
        let mut wire = Wire::connect(usher.address);
        wire.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", &token)));
        let mut sent = 0;
        while wire.try_send(&empty) {
            sent += 1;
            assert!(sent < 1_000_000, "nothing bounds {empty:?}");
        }
    }
}

#[test]
fn a_flood_is_answered_with_a_reason() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address)
        .and("limits: { idle_frames: 10 }")
        .start();
    let mut wire = Wire::connect(usher.address);
    wire.send(&frame(PING, 0, 0, &[7; 8]).repeat(100));
    let mut frames = std::iter::from_fn(|| wire.next());
    let last = frames.find(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(last.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
    assert!(last.payload.ends_with(b"see limits.idle_frames"));
    assert!(frames.next().is_none(), "nothing comes after it");
    upstream.saw_nothing();
}

#[test]
fn a_header_block_has_an_end() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let head = request("GET", &token);
    let field = block(&[(b"x-more", &[b'x'; 1000])]);
    for part in [&[][..], &field] {
        let mut wire = Wire::connect(usher.address);
        wire.send(&frame(HEADERS, END_STREAM, 1, &head));
        let mut sent = 0;
        while wire.try_send(&frame(CONTINUATION, 0, 1, part)) {
            sent += 1;
            // What usher reads and forgets at the end of a connection counts too.
            assert!(sent < 1_000_000, "nothing bounds the block");
        }
        upstream.saw_nothing();
    }
    assert_served(&usher, &token);
}

#[test]
fn a_header_list_has_a_bound_however_small_it_comes() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address)
        .and("limits: { head_bytes: 8KiB }")
        .start();
    let token = usher.credential(&DEPLOY);
    // An entry of the dynamic table, and then only its number: two kilobytes a byte.
    let mut bomb = request("POST", &token);
    bomb.extend([0x40, 1, b'x', 0x7f, 0xd1, 0x0e]);
    bomb.extend([b'y'; 2000]);
    let defined = bomb.len();
    bomb.extend([0xbe; 8000]);
    let mut wire = Wire::connect(usher.address);
    assert!(bomb.len() < 16_384, "one frame holds it");
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb));
    let fate = wire.fate(1);
    upstream.saw_nothing();
    assert_ne!(fate, Fate::Answered("ok".to_owned()));
    // One reference is in order: it is the number that is not.
    let mut wire = Wire::connect(usher.address);
    wire.send(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &bomb[..=defined],
    ));
    assert_eq!(wire.fate(1), Fate::Answered("ok".to_owned()));
}

#[test]
fn errors_that_make_usher_reset_streams_are_bounded() {
    let (upstream, told) = unanswering();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let mut wire = Wire::connect(usher.address);
    let head = request("POST", &token);
    for _ in 0..1_000 {
        let stream = wire.stream();
        let mut made = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
        // More credit than there can be, which only a reset can answer.
        made.extend(frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]));
        if !wire.try_send(&made) {
            break;
        }
    }
    assert_eq!(wire.fate(0), Fate::Ended(Some(ENHANCE_YOUR_CALM)));
    assert!(upstream.connections() <= 101, "{}", upstream.connections());
    let mut open = 0;
    until("the end of all that came", || {
        for event in told.try_iter() {
            open += if event == "came" { 1 } else { -1 };
        }
        (open == 0).then_some(())
    });
}

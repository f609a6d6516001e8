//! What goes on after its decision goes on no longer than its token.

use std::fs;
use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use serde_json::Value;
use usher::authority::{Kind, Revocation, Window};
use usher::clock::unix_now;
use usher::macaroon::{Action, Caveat, Limits};

use crate::support::{
    DEADLINE, H2Client, H2Upstream, Peer, Process, Recorder, Usher, World, fed, header, hour, run,
    run_usher, window,
};

const ORG: Kind = Kind::Org { org: 2001 };
const READONLY: Kind = Kind::Readonly { org: 2001 };
const ACME: Caveat = Caveat::Organization {
    id: 2001,
    mask: Action::ALL,
};
const STREAM: &str = "GET /api/v1/apps/web/logs/stream";
const WAIT: &str = "GET /v1/apps/web/machines/148e1aaa000001/wait";
const NDJSON: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream; charset=utf-8";
const LINE: &str = "{\"message\":\"started\"}\n";
const EVENT: &str = "data: started\n\n";

/// An upstream that sends the beginning of a stream, and then nothing. The receiver is told when
/// usher has left it.
fn beginning(kind: &'static str, part: &'static str) -> (Recorder, mpsc::Receiver<()>) {
    let (left, told) = mpsc::channel();
    let left = Mutex::new(left);
    let upstream = Recorder::script(move |exchange| {
        exchange.request().unwrap();
        exchange.peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n{}",
            chunk(part)
        ));
        assert_eq!(exchange.peer.rest(), b"");
        // The test may be over already.
        let _told = left.lock().unwrap().send(());
    });
    (upstream, told)
}

/// As usher writes it, too.
fn chunk(part: &str) -> String {
    match part.len() {
        // That would be the end of it.
        0 => String::new(),
        length => format!("{length:X}\r\n{part}\r\n"),
    }
}

/// A token that has two seconds left and a part of the third, and its last second.
fn short(usher: &Usher) -> (String, i64) {
    let last = unix_now() + 2;
    (header(&[&usher.issue(&[ACME, window(-60, 2)])]), last)
}

/// The end came once that second was over, and not long after. Usually it is a quarter of a
/// second; this leaves a busy machine one more.
#[track_caller]
fn assert_ended_after(last: i64) {
    let now = unix_now();
    assert!((last + 1..=last + 2).contains(&now), "{now} after {last}");
}

/// Asks for a stream, and reads how it begins.
#[track_caller]
fn open(peer: &mut Peer, request: &str, credential: &str, part: &str) {
    peer.send(format!(
        "{request} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {credential}\r\n\r\n"
    ));
    let head = peer.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let part = chunk(part);
    assert_eq!(peer.exactly(part.len()), part.as_bytes());
}

/// What a last event says.
#[track_caller]
fn farewell(event: &[u8]) -> Value {
    let text = std::str::from_utf8(event).unwrap();
    let data = text.strip_prefix("event: usher\ndata: ").unwrap();
    serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap()
}

/// Counts of ended leases, as the admin listener shows them.
fn ended(usher: &Usher) -> Vec<String> {
    let metrics = usher.metrics();
    let counts = metrics.lines();
    counts
        .filter_map(|line| line.strip_prefix("usher_leases_ended_total"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_stream_is_cut_after_the_last_second_of_its_token() {
    let (upstream, left) = beginning(NDJSON, LINE);
    let usher = World::before(upstream.address).start();
    let (token, last) = short(&usher);
    let mut peer = usher.connect();
    open(&mut peer, STREAM, &token, LINE);
    assert!(unix_now() <= last, "it was open before");
    // Without a terminator: what was cut must not look whole.
    assert_eq!(peer.rest(), b"");
    assert_ended_after(last);
    left.recv_timeout(DEADLINE).unwrap();
    let expired = r#"{route="logs.stream",code="lease-expired"} 1"#;
    assert_eq!(ended(&usher), [expired]);
    let again = usher.ask(STREAM, Some(&token));
    assert_eq!((again.status, &*again.code()), (401, "token-expired"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn an_event_stream_is_told_why_it_ends() {
    let (upstream, left) = beginning(EVENTS, EVENT);
    let usher = World::before(upstream.address).start();
    let (token, last) = short(&usher);
    let mut peer = usher.connect();
    open(&mut peer, STREAM, &token, EVENT);
    let (event, trailers) = peer.chunked();
    assert_ended_after(last);
    assert_eq!(trailers, "");
    let said = farewell(&event);
    assert_eq!(said["code"], "lease-expired");
    assert!(said["detail"].as_str().unwrap().contains("expired"));
    let decision = upstream.last().line("x-usher-decision").unwrap().to_owned();
    assert_eq!(said["decision"], decision);
    left.recv_timeout(DEADLINE).unwrap();
    // The response is whole, so the connection goes on.
    peer.send("GET /healthz HTTP/1.1\r\nhost: usher.test\r\n\r\n");
    assert!(peer.head().unwrap().starts_with("HTTP/1.1 200 "));
}

#[test]
fn nothing_is_added_within_an_event() {
    let (upstream, _left) = beginning(EVENTS, "data: started\ndata: and");
    let usher = World::before(upstream.address).start();
    let token = usher.token(&READONLY, hour());
    let mut peer = usher.connect();
    open(
        &mut peer,
        STREAM,
        &header(&[&token]),
        "data: started\ndata: and",
    );
    revoke(&usher, Revocation::Lineage(token.uuid()));
    assert_eq!(peer.rest(), b"");
}

fn revoke(usher: &Usher, revocation: Revocation) {
    assert!(usher.authority.revoke(revocation, unix_now()).unwrap());
}

#[test]
fn revoking_an_attenuation_ends_its_streams_and_not_those_of_its_parent() {
    let (upstream, left) = beginning(EVENTS, EVENT);
    let usher = World::before(upstream.address).start();
    let parent = usher.token(&ORG, hour());
    let child = parent
        .attenuate(&[Caveat::Action(Action::READ)], &Limits::DEFAULT)
        .unwrap();
    let grandchild = child
        .attenuate(&[window(-60, 3600)], &Limits::DEFAULT)
        .unwrap();
    let [mut above, mut at, mut below] = [&parent, &child, &grandchild].map(|token| {
        let mut peer = usher.connect();
        open(&mut peer, STREAM, &header(&[token]), EVENT);
        peer
    });
    let digest = child.tail_digest().unwrap();
    revoke(&usher, Revocation::Tail(child.uuid(), digest));
    for ended in [&mut at, &mut below] {
        assert_eq!(farewell(&ended.chunked().0)["code"], "lease-revoked");
        left.recv_timeout(DEADLINE).unwrap();
    }
    // The others would have ended in the same breath; this one ends when its turn comes.
    assert!(left.try_recv().is_err(), "the parent's stream goes on");
    revoke(&usher, Revocation::Lineage(parent.uuid()));
    assert_eq!(farewell(&above.chunked().0)["code"], "lease-revoked");
    let revoked = r#"{route="logs.stream",code="lease-revoked"} 3"#;
    assert_eq!(ended(&usher), [revoked]);
}

#[test]
fn every_token_that_was_decisive_has_to_last() {
    let (upstream, _left) = beginning(EVENTS, EVENT);
    let usher = World::before(upstream.address)
        .with(
            "{ action: r, app: \"{app}\", machine: zero }, upstream: machines, stream: true",
            "[ { action: r, app: \"{app}\", machine: zero }, { action: r, org: { query: org } } ], upstream: machines, stream: true, query: [ org ]",
        )
        .start();
    let one = usher.token(&ORG, hour());
    let other = usher.token(&Kind::Org { org: 2002 }, hour());
    let unused = usher.token(&READONLY, hour());
    let mut peer = usher.connect();
    let all = header(&[&one, &unused, &other]);
    open(&mut peer, &format!("{STREAM}?org=beta"), &all, EVENT);
    revoke(&usher, Revocation::Lineage(unused.uuid()));
    let mut second = usher.connect();
    open(&mut second, &format!("{STREAM}?org=beta"), &all, EVENT);
    revoke(&usher, Revocation::Lineage(other.uuid()));
    for peer in [&mut peer, &mut second] {
        assert_eq!(farewell(&peer.chunked().0)["code"], "lease-revoked");
    }
    let revoked = r#"{route="logs.stream",code="lease-revoked"} 2"#;
    assert_eq!(ended(&usher), [revoked]);
}

#[test]
fn a_revocation_by_another_process_ends_streams() {
    let (upstream, left) = beginning(NDJSON, LINE);
    let world = World::before(upstream.address);
    let config = world.write();
    let mut server = Process::serve(&config);
    let usher = |arguments: &[&str]| {
        let ended = run_usher(&[arguments, &["--config", config.to_str().unwrap()]].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout.trim().to_owned()
    };
    let token = usher(&["token", "create", "readonly", "--org", "acme"]);
    let mut peer = server.connect();
    open(&mut peer, STREAM, &token, LINE);
    usher(&["token", "revoke", &token]);
    assert_eq!(peer.rest(), b"");
    left.recv_timeout(DEADLINE).unwrap();
    let event = server.event(|event| event["message"] == "lease ended");
    let decision = upstream.last().line("x-usher-decision").unwrap().to_owned();
    assert_eq!(event["decision"], decision);
    assert_eq!(event["route"], "logs.stream");
    assert_eq!(event["code"], "lease-revoked");
    server.signal("TERM");
    let (_, log) = server.wait();
    assert!(!log.contains(token.split(' ').next_back().unwrap()));
}

#[test]
fn a_store_that_is_lost_ends_every_stream() {
    let (upstream, left) = beginning(EVENTS, EVENT);
    let world = World::before(upstream.address);
    let store = world.folder().join("usher.db");
    let usher = world.start();
    let mut peer = usher.connect();
    open(&mut peer, STREAM, &usher.credential(&READONLY), EVENT);
    // Replaced by a copy: what is revoked there from now on is not seen here.
    fs::copy(&store, store.with_extension("copy")).unwrap();
    fs::rename(store.with_extension("copy"), &store).unwrap();
    assert_eq!(farewell(&peer.chunked().0)["code"], "lease-unavailable");
    left.recv_timeout(DEADLINE).unwrap();
    let answer = usher.ask(STREAM, Some("Bearer fm2_x"));
    assert_eq!((answer.status, &*answer.code()), (503, "unavailable"));
}

#[test]
fn a_public_route_has_no_lease() {
    let (upstream, left) = beginning(EVENTS, EVENT);
    let usher = World::before(upstream.address).start();
    let (token, _) = short(&usher);
    let (mut public, mut leased) = (usher.connect(), usher.connect());
    open(&mut public, "GET /healthz", &token, EVENT);
    open(&mut leased, STREAM, &token, EVENT);
    assert_eq!(farewell(&leased.chunked().0)["code"], "lease-expired");
    left.recv_timeout(DEADLINE).unwrap();
    assert!(left.try_recv().is_err(), "the public stream goes on");
    assert_eq!(ended(&usher).len(), 1);
}

#[test]
fn http2_streams_end_one_by_one() {
    run(async {
        let (upstream, left) = beginning(NDJSON, LINE);
        let usher = World::before(upstream.address).start();
        let mut client = H2Client::cleartext(usher.address).await;
        let lasting = usher.credential(&READONLY);
        let token = usher.token(&READONLY, hour());
        let mut goes_on = client.ask(STREAM, Some(&lasting), &[]).await.into_body();
        let mut ends = client
            .ask(STREAM, Some(&header(&[&token])), &[])
            .await
            .into_body();
        for body in [&mut goes_on, &mut ends] {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), LINE);
        }
        revoke(&usher, Revocation::Lineage(token.uuid()));
        let cut = ends.frame().await.unwrap().unwrap_err();
        let cause = std::error::Error::source(&cut).unwrap();
        let reason = cause.downcast_ref::<h2::Error>().unwrap().reason();
        assert_eq!(reason, Some(h2::Reason::CANCEL));
        left.recv_timeout(DEADLINE).unwrap();
        assert!(left.try_recv().is_err(), "the other stream goes on");
        // So does the connection.
        let answer = client.ask(STREAM, Some(&lasting), &[]).await;
        assert_eq!(answer.status(), 200);
    });
}

#[test]
fn an_upload_is_cut_with_its_token() {
    let (left, told) = mpsc::channel();
    let left = Mutex::new(left);
    let upstream = Recorder::script(move |exchange| {
        let head = exchange.peer.head().unwrap();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        // Without the terminator: what was cut must not look whole.
        assert_eq!(exchange.peer.rest(), b"5\r\nhello\r\n");
        left.lock().unwrap().send(()).unwrap();
    });
    let usher = World::before(upstream.address).start();
    let (token, last) = short(&usher);
    let mut peer = usher.connect();
    peer.send(format!(
        "POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    ));
    let answer = peer.answer();
    assert_ended_after(last);
    assert_eq!((answer.status, &*answer.code()), (401, "lease-expired"));
    assert_eq!(answer.line("connection"), Some("close"));
    told.recv_timeout(DEADLINE).unwrap();
    let expired = r#"{route="deploys.create",code="lease-expired"} 1"#;
    assert_eq!(ended(&usher), [expired]);
}

#[test]
fn a_client_that_does_not_read_cannot_go_on_sending() {
    run(async {
        let (upstream, mut uploads) = H2Upstream::flooding().await;
        let usher = World::before(upstream.address)
            .with("urls: [ ", "protocol: http2, urls: [ ")
            .start();
        let token = usher.token(&ORG, hour());
        let mut client = H2Client::cleartext(usher.address).await;
        let (feed, body) = fed();
        let credential = header(&[&token]);
        let request = client.request("POST /v1/apps/web/deploys", Some(&credential), &[], body);
        let unread = client.send(request).await;
        assert_eq!(unread.status(), 200);
        let part = || Frame::data(Bytes::from_static(&[b'u'; 16 * 1024]));
        // By then the response, of which nothing is taken, has come to a halt.
        for _ in 0..512 {
            feed.send(part()).await.unwrap();
        }
        revoke(&usher, Revocation::Lineage(token.uuid()));
        let whole = loop {
            tokio::select! {
                ended = uploads.recv() => break ended.unwrap(),
                // Whether the client has learnt of it does not matter.
                _ = feed.send(part()) => tokio::task::yield_now().await,
            }
        };
        assert!(!whole, "what was cut must not look whole");
        drop(unread);
    });
}

#[test]
fn a_request_that_waits_for_its_answer_ends_with_its_token() {
    let (left, told) = mpsc::channel();
    let left = Mutex::new(left);
    let upstream = Recorder::script(move |exchange| {
        exchange.request().unwrap();
        assert_eq!(exchange.peer.rest(), b"");
        left.lock().unwrap().send(()).unwrap();
    });
    let usher = World::before(upstream.address).start();
    let (token, last) = short(&usher);
    let answer = usher.ask(WAIT, Some(&token));
    assert_ended_after(last);
    assert_eq!((answer.status, &*answer.code()), (401, "lease-expired"));
    let challenge = answer.line("www-authenticate").unwrap();
    assert!(challenge.contains("invalid_token"), "{challenge}");
    told.recv_timeout(DEADLINE).unwrap();

    let token = usher.token(&READONLY, hour());
    let mut peer = usher.connect();
    peer.send(format!(
        "{WAIT} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {}\r\n\r\n",
        header(&[&token])
    ));
    crate::support::until("the upstream to be asked", || {
        (upstream.requests().len() == 2).then_some(())
    });
    revoke(&usher, Revocation::Lineage(token.uuid()));
    let answer = peer.answer();
    assert_eq!((answer.status, &*answer.code()), (401, "lease-revoked"));
    told.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn an_upstream_that_never_pauses_is_cut_as_well() {
    let upstream = Recorder::script(|exchange| {
        exchange.request().unwrap();
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let part = "x".repeat(64 * 1024);
        while exchange.peer.try_send(chunk(&part)) {}
    });
    let usher = World::before(upstream.address).start();
    let token = usher.token(&READONLY, hour());
    let mut peer = usher.connect();
    peer.send(format!(
        "{STREAM} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {}\r\n\r\n",
        header(&[&token])
    ));
    assert!(peer.head().unwrap().starts_with("HTTP/1.1 200 "));
    assert!(!peer.exactly(1024 * 1024).is_empty());
    revoke(&usher, Revocation::Lineage(token.uuid()));
    // It would never end otherwise.
    let rest = peer.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    let revoked = r#"{route="logs.stream",code="lease-revoked"} 1"#;
    assert_eq!(ended(&usher), [revoked]);
}

#[test]
fn a_client_that_does_not_read_keeps_nothing_for_long() {
    let (left, told) = mpsc::channel();
    let left = Mutex::new(left);
    let upstream = Recorder::script(move |exchange| {
        exchange.request().unwrap();
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let part = "x".repeat(64 * 1024);
        while exchange.peer.try_send(chunk(&part)) {}
        left.lock().unwrap().send(()).unwrap();
    });
    // By itself a stream may be silent for an hour.
    let usher = World::before(upstream.address).start();
    let token = usher.token(&READONLY, hour());
    let mut peer = usher.connect();
    peer.send(format!(
        "{STREAM} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {}\r\n\r\n",
        header(&[&token])
    ));
    assert!(peer.head().unwrap().starts_with("HTTP/1.1 200 "));
    revoke(&usher, Revocation::Lineage(token.uuid()));
    // Well before the upstream itself would have had enough.
    told.recv_timeout(DEADLINE / 2).unwrap();
    drop(peer);
}

#[test]
fn a_drain_takes_no_lease_away() {
    let (upstream, _left) = beginning(EVENTS, EVENT);
    let world = World::before(upstream.address).and("timeouts: { drain: 1m }");
    let config = world.write();
    let server = Process::serve(&config);
    let last = unix_now() + 2;
    let until = Window {
        not_before: last - 60,
        not_after: last,
    };
    let authority = world.authority();
    let caveats = READONLY.caveats(until);
    let request = usher::authority::Request {
        kind: "readonly",
        name: None,
        org: None,
        app: None,
        caveats: &caveats[0],
        issuer: None,
    };
    let token = authority.issue(&request, unix_now()).unwrap();
    let mut peer = server.connect();
    open(&mut peer, STREAM, &header(&[&token]), EVENT);
    server.signal("TERM");
    assert_eq!(farewell(&peer.chunked().0)["code"], "lease-expired");
    assert_ended_after(last);
    assert_eq!(server.wait().0, Some(0));
}

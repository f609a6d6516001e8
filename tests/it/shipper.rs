//! A log shipper with a readonly token: it polls an app's log for as long as it lives, and follows
//! the stream of it, across the ends that the platform makes, until its token is revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use usher::authority::{Kind, Revocation};
use usher::clock::unix_now;

use crate::support::{Answer, Peer, Received, Recorder, Usher, World, forever, header};

const READONLY: Kind = Kind::Readonly { org: 2001 };

/// How long both go on before the token is revoked.
fn length() -> Duration {
    match std::env::var("USHER_SOAK_MINUTES") {
        Err(_) => Duration::from_millis(1500),
        Ok(minutes) => {
            Duration::from_secs(60 * minutes.parse::<u64>().expect("a number of minutes"))
        }
    }
}

/// The shipper: Vector, which is configured with the token that it sends.
#[derive(Clone)]
struct Shipper {
    usher: std::net::SocketAddr,
    token: String,
}

impl Shipper {
    fn connect(&self) -> Peer {
        Peer::connect(self.usher)
    }

    fn request(&self, target: &str) -> String {
        let token = self.token.strip_prefix("FlyV1 ").unwrap();
        format!(
            "GET {target} HTTP/1.1\r\nauthorization: Bearer {token}\r\naccept: application/json\r\n\
             accept-encoding: identity\r\nuser-agent: {AGENT}\r\nhost: api.fly.io\r\n\r\n"
        )
    }
}

const AGENT: &str =
    "Vector/0.41.1 (x86_64-unknown-linux-musl 745babd 2024-09-11 14:55:36.802851761)";

/// What the upstream is told about each of its requests.
#[track_caller]
fn check(received: &Received, token: &str) {
    for (name, value) in [
        ("user-agent", AGENT),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("authorization", "Bearer of-web"),
        ("x-usher-org", "2001"),
        ("x-usher-app", "3001"),
        ("x-usher-token-id", token),
        ("x-forwarded-host", "api.fly.io"),
    ] {
        assert_eq!(received.line(name), Some(value), "{}", received.head);
    }
}

fn start(upstream: &Recorder) -> (Usher, Shipper, String) {
    let line = format!("{{ name: web, urls: [ \"http://{}\" ]", upstream.address);
    let credential = "credential: { header: Authorization, value: { file: web.key } }";
    let instead = line.replace("name: web, ", &format!("name: web, {credential}, "));
    let usher = World::fly(upstream.address)
        .with(&line, instead)
        .file("web.key", "Bearer of-web")
        .start();
    let token = usher.token(&READONLY, forever());
    let shipper = Shipper {
        usher: usher.address,
        token: header(&[&token]),
    };
    let uuid = token.uuid().to_string();
    (usher, shipper, uuid)
}

fn revoke(usher: &Usher, uuid: &str) {
    let lineage = Revocation::Lineage(uuid.parse().unwrap());
    usher.authority.revoke(lineage, unix_now()).unwrap();
}

/// The end of it for a client: it is told that its token is no use any more.
#[track_caller]
fn assert_ended(answer: &Answer) {
    assert_eq!((answer.status, &*answer.code()), (401, "token-revoked"));
}

/// A log that grows while it is read: pages of up to three lines from where a cursor is, now and
/// then an empty one.
fn page(received: &Received, asked: u64) -> Vec<u8> {
    let target = received.request_line().split(' ').nth(1).unwrap();
    let cursor = target
        .strip_prefix("/api/v1/apps/web/logs?next_token=")
        .unwrap();
    let from: u64 = cursor.parse().unwrap_or(0);
    let lines: Vec<_> = (from..from + asked % 4)
        .map(|line| json!({ "id": line.to_string(), "attributes": { "message": "a line" } }))
        .collect();
    let next = from + asked % 4;
    let body = json!({ "data": lines, "meta": { "next_token": next.to_string() } }).to_string();
    // Nothing new, for a moment.
    thread::park_timeout(Duration::from_millis(2));
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn a_log_is_polled_until_the_token_is_revoked() {
    let polls = AtomicU64::new(0);
    let upstream =
        Recorder::answering(move |received| page(received, polls.fetch_add(1, Ordering::Relaxed)));
    let (usher, shipper, uuid) = start(&upstream);
    let (mut cursor, mut shipped, mut polled) = (String::new(), 0, 0);
    let mut peer = shipper.connect();
    let target = |cursor: &str| format!("/api/v1/apps/web/logs?next_token={cursor}");
    let until = Instant::now() + length();
    while Instant::now() < until {
        peer.send(shipper.request(&target(&cursor)));
        let answer = peer.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        polled += 1;
        let page: Value = serde_json::from_slice(&answer.body).unwrap();
        for line in page["data"].as_array().unwrap() {
            assert_eq!(
                line["id"],
                shipped.to_string(),
                "a line is lost or repeated"
            );
            shipped += 1;
        }
        cursor = page["meta"]["next_token"].as_str().unwrap().to_owned();
    }
    assert!(
        polled > 20 && shipped > polled,
        "{polled} polls, {shipped} lines"
    );
    let requests = upstream.requests();
    assert_eq!(requests.len(), polled);
    requests.iter().for_each(|received| check(received, &uuid));

    revoke(&usher, &uuid);
    peer.send(shipper.request(&target(&cursor)));
    let answer = peer.answer();
    assert_eq!(upstream.requests().len(), polled, "it went upstream");
    assert_ended(&answer);
    println!("{polled} polls, {shipped} lines");
}

/// The lines of one stream, before the platform ends it.
const LINES: u64 = 40;

#[test]
fn a_log_stream_is_followed_across_its_ends_until_the_token_is_revoked() {
    let written = Arc::new(AtomicU64::new(0));
    let upstream = Recorder::script(move |exchange| {
        // The platform ends a stream in an orderly way, and the connection can be used again.
        while let Some(_request) = exchange.request() {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\
                        transfer-encoding: chunked\r\n\r\n";
            exchange.peer.send(head);
            for _ in 0..LINES {
                thread::park_timeout(Duration::from_millis(1));
                let line = format!("{{\"n\":{}}}\n", written.load(Ordering::Relaxed));
                let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                if !exchange.peer.try_send(chunk) {
                    return;
                }
                written.fetch_add(1, Ordering::Relaxed);
            }
            if !exchange.peer.try_send("0\r\n\r\n") {
                return;
            }
        }
    });
    let (usher, shipper, uuid) = start(&upstream);
    let end = Instant::now() + length();
    let (mut streams, mut lines, mut revoked) = (0, 0, false);
    let refused = loop {
        let mut peer = shipper.connect();
        peer.send(shipper.request("/api/v1/apps/web/logs/stream"));
        let head = peer.head().unwrap();
        if !head.starts_with("HTTP/1.1 200 ") {
            break peer.answer_from(head);
        }
        streams += 1;
        let whole = follow(&mut peer, |text| {
            for line in text.lines() {
                let expected = format!("{{\"n\":{lines}}}");
                assert_eq!(line, expected, "a line is lost or repeated");
                lines += 1;
            }
            if !revoked && Instant::now() >= end {
                revoked = true;
                revoke(&usher, &uuid);
            }
        });
        assert!(whole || revoked, "a stream broke off");
    };
    assert_ended(&refused);
    assert!(streams > 2, "it was followed across {streams} streams");
    let requests = upstream.requests();
    assert_eq!(requests.len(), streams, "the refused one went upstream");
    requests.iter().for_each(|received| check(received, &uuid));
    println!("{streams} streams, {lines} lines");
}

/// Reads a stream to its end, and passes on what has come each time; whether it was whole.
fn follow(peer: &mut Peer, mut read: impl FnMut(&str)) -> bool {
    loop {
        let Some(size) = peer.until(b"\r\n") else {
            return false;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap(), 16).unwrap();
        let chunk = peer.exactly(size);
        assert_eq!(peer.exactly(2), b"\r\n");
        if size == 0 {
            return true;
        }
        // Several lines may have become one chunk.
        read(std::str::from_utf8(&chunk).unwrap());
    }
}

//! Bodies that are judged are bounded all together, and what was held is given back.

use std::sync::{Mutex, mpsc};

use usher::authority::Kind;

use crate::support::{DEADLINE, Peer, Recorder, Usher, World, until};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

const ROUTE: &str = "routes:
  - { name: judged, method: POST, path: /judged, access: { action: w, app: { body: /app } }, upstream: machines }
";

fn world(upstream: &Recorder) -> World {
    World::before(upstream.address)
        .with("routes:\n", ROUTE)
        .and("limits: { judged_bodies: 1MiB }")
}

/// Bytes that are held, as the metrics have it.
fn held(usher: &Usher) -> usize {
    let metrics = usher.metrics();
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix("usher_judged_body_bytes "));
    line.unwrap().parse().unwrap()
}

fn is_busy(usher: &Usher) -> bool {
    usher.metrics().lines().any(|line| {
        line == "usher_requests_total{route=\"judged\",verdict=\"deny\",code=\"busy\"} 1"
    })
}

/// Sends the head of a request with a body, and all of that but `kept` bytes.
fn begin(usher: &Usher, token: &str, body: &str, kept: usize) -> Peer {
    let mut peer = usher.connect();
    let length = body.len();
    let sent = body.get(..length - kept).unwrap();
    peer.send(format!(
        "POST /judged HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{sent}"
    ));
    peer
}

/// As long as bodies may be by themselves.
fn long(app: &str) -> String {
    format!("{{\"app\":\"{app}\",\"pad\":\"{}\"}}", "x".repeat(60_000))
}

#[test]
fn bodies_that_are_on_their_way_are_bounded_together() {
    let upstream = Recorder::ok();
    let usher = world(&upstream).start();
    let token = usher.credential(&DEPLOY);
    let body = long("shop");
    let mut waiting = Vec::new();
    let mut refused = loop {
        assert!(waiting.len() < 20, "more than 1 MiB is held");
        let before = held(&usher);
        let peer = begin(&usher, &token, &body, 1);
        let busy = until("the body", || match is_busy(&usher) {
            true => Some(true),
            false => (held(&usher) >= before + body.len() - 1).then_some(false),
        });
        if busy {
            break peer;
        }
        waiting.push(peer);
    };
    let answer = refused.answer();
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (503, "busy"));
    assert_eq!(answer.line("retry-after"), Some("1"));
    assert!(waiting.len() >= 8, "{} fill it", waiting.len());

    // The others leave, and there is room to read the one that has come.
    let mut first = waiting.remove(0);
    drop(waiting);
    let room = body.len() * 3;
    until("room", || (held(&usher) < room).then_some(()));
    first.send("}");
    let denied = first.answer();
    upstream.saw_nothing();
    assert_eq!((denied.status, &*denied.code()), (403, "prohibited"));
    assert_eq!(held(&usher), 0);

    let mut peer = begin(&usher, &token, &long("web"), 0);
    assert_eq!(peer.answer().status, 200);
    assert_eq!(upstream.last().body, long("web").into_bytes());
    assert_eq!(held(&usher), 0, "the upstream has it");
}

#[test]
fn it_is_given_back_whatever_comes_of_it() {
    let upstream = Recorder::ok();
    let usher = world(&upstream)
        .and("timeouts: { judged_body: 200ms }")
        .start();
    let token = usher.credential(&DEPLOY);
    let too_long = long(&"x".repeat(10_000));
    let cases = [
        (long("shop"), 0, 403),
        (long("nobody"), 0, 404),
        (format!("{}]", long("web")), 0, 400),
        (too_long, 0, 413),
        // The rest never comes.
        (long("web"), 1, 408),
    ];
    for (body, kept, status) in cases {
        let mut peer = begin(&usher, &token, &body, kept);
        let answer = peer.answer();
        upstream.saw_nothing();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(held(&usher), 0, "{status}");
    }
    // Nobody is left to answer.
    let peer = begin(&usher, &token, &long("web"), 1);
    until("the body", || (held(&usher) > 0).then_some(()));
    drop(peer);
    until("its end", || (held(&usher) == 0).then_some(()));
    upstream.saw_nothing();
}

#[test]
fn what_is_made_of_a_body_counts_as_long_as_its_decision_waits() {
    let upstream = Recorder::ok();
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let directory = Recorder::answering(move |_| {
        going.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        let body = "{\"id\":3001,\"org\":2001}";
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    });
    let at = directory.address;
    let usher = world(&upstream)
        .with(
            "public_names: true",
            format_args!(
                "public_names: true
  http: {{ deadline: 10s, ttl: 1m, apps: {{ url: \"http://{at}/{{name}}\", id: /id, org: /org }} }}"
            ),
        )
        .start();
    let token = usher.credential(&DEPLOY);
    // 16 KB of text, and more than ten times as much once it has been read.
    let body = format!("{{\"app\":\"lift\",\"n\":[{}0]}}", "0,".repeat(8_000));
    let mut waiting = Vec::new();
    let mut refused = loop {
        assert!(waiting.len() < 10, "more than 1 MiB is held");
        let before = held(&usher);
        let peer = begin(&usher, &token, &body, 0);
        let busy = until("the body", || match is_busy(&usher) {
            true => Some(true),
            false => (held(&usher) >= before + 8_000 * 16).then_some(false),
        });
        if busy {
            break peer;
        }
        waiting.push(peer);
    };
    let answer = refused.answer();
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (503, "busy"));
    assert!(!waiting.is_empty());
    go.send(()).unwrap();
    for peer in &mut waiting {
        assert_eq!(peer.answer().status, 200);
    }
    assert_eq!(upstream.last().body, body.into_bytes());
    until("all to be given back", || (held(&usher) == 0).then_some(()));
}

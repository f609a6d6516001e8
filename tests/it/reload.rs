//! A configuration that changes while usher runs: whole, at once, or not at all.

use std::fs;
use std::sync::{Mutex, mpsc};

use serde_json::Value;
use usher::authority::Kind;

use crate::support::{DEADLINE, Peer, Process, Recorder, Usher, World, header, until};

const ORG: Kind = Kind::Org { org: 2001 };
const SHOW: &str = "GET /v1/apps/web";
/// How the route of [`SHOW`] begins, up to what it asks.
const SHOW_ROUTE: &str = r#"path: "/v1/apps/{app}", access: { action: r, app: "{app}" }"#;
const STREAM_ROUTE: &str = r#"logs/stream", access: { action: r, app: "{app}", machine: zero }"#;
const STREAM: &str = "GET /api/v1/apps/web/logs/stream";
const EVENT: &str = "data: started\n\n";

fn ask(peer: &mut Peer, request: &str, token: &str) -> (u16, String) {
    peer.send(format!(
        "{request} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
    ));
    let answer = peer.answer();
    let code = match answer.status {
        200 => String::new(),
        _ => answer.code(),
    };
    (answer.status, code)
}

/// An upstream that begins an event stream and leaves it open; it says when usher has left.
fn beginning() -> (Recorder, mpsc::Receiver<String>) {
    let (left, told) = mpsc::channel();
    let left = Mutex::new(left);
    let upstream = Recorder::script(move |exchange| {
        let request = exchange.request().unwrap();
        exchange.peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
             {:X}\r\n{EVENT}\r\n",
            EVENT.len()
        ));
        exchange.peer.rest();
        // The test may be over already.
        let _told = left.lock().unwrap().send(request.request_line().to_owned());
    });
    (upstream, told)
}

fn open(usher: &Usher, request: &str, token: &str) -> Peer {
    let mut peer = usher.connect();
    peer.send(format!(
        "{request} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
    ));
    assert!(peer.head().unwrap().starts_with("HTTP/1.1 200 "));
    let part = format!("{:X}\r\n{EVENT}\r\n", EVENT.len());
    assert_eq!(peer.exactly(part.len()), part.as_bytes());
    peer
}

/// The code that the rest of an event stream ends with.
#[track_caller]
fn farewell(peer: &mut Peer) -> String {
    let (rest, _) = peer.chunked();
    let rest = String::from_utf8(rest).unwrap();
    let data = rest.strip_prefix("event: usher\ndata: ").unwrap();
    let said: Value = serde_json::from_str(data.trim_end()).unwrap();
    said["code"].as_str().unwrap().to_owned()
}

#[track_caller]
fn has(usher: &Usher, line: &str) {
    let metrics = usher.metrics();
    assert!(
        metrics.lines().any(|l| l == line),
        "{line} not in {metrics}"
    );
}

#[test]
fn the_next_request_is_judged_by_the_new_rules_on_whatever_connection() {
    let upstream = Recorder::ok();
    let mut usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    let mut peer = usher.connect();
    assert_eq!(ask(&mut peer, SHOW, &token).0, 200);
    let denied = SHOW_ROUTE.replace("{ action: r, app: \"{app}\" }", "denied");
    assert!(usher.reload(SHOW_ROUTE, &denied));
    until("the new rules", || {
        (ask(&mut peer, SHOW, &token).1 == "prohibited").then_some(())
    });
    let seen = upstream.requests().len();
    assert_eq!(ask(&mut usher.connect(), SHOW, &token).0, 403);
    assert_eq!(upstream.requests().len(), seen);
    assert_eq!(
        upstream.connections(),
        1,
        "an upstream keeps its connections"
    );
    assert!(usher.reload(&denied, SHOW_ROUTE));
    until("the old rules", || {
        (ask(&mut peer, SHOW, &token).0 == 200).then_some(())
    });
}

#[test]
fn names_upstreams_and_credentials_change_with_it() {
    let (first, second) = (Recorder::ok(), Recorder::ok());
    let plain = "upstreams:\n  - { name: machines,";
    let mut usher = World::before(first.address)
        .with(
            plain,
            format_args!("{plain} credential: {{ header: x-key, value: {{ file: key }} }},"),
        )
        .file("key", "one")
        .start();
    let token = usher.credential(&ORG);
    assert_eq!(usher.ask(SHOW, Some(&token)).status, 200);
    assert_eq!(first.last().line("x-key"), Some("one"));

    // A secret is not watched, and is read with the rest.
    fs::write(usher.folder().join("key"), "two").unwrap();
    assert!(usher.reload("{ slug: acme", "{ slug: acme"));
    until("the new credential", || {
        assert_eq!(usher.ask(SHOW, Some(&token)).status, 200);
        (first.last().line("x-key") == Some("two")).then_some(())
    });

    assert!(usher.reload(first.address, second.address));
    until("the new upstream", || {
        assert_eq!(usher.ask(SHOW, Some(&token)).status, 200);
        (second.connections() > 0).then_some(())
    });
    let seen = first.requests().len();
    assert!(usher.reload(
        "{ name: web, id: 3001, org: acme }",
        "{ name: web, id: 3001, org: beta }\n    - { name: lift, id: 3009, org: acme }"
    ));
    until("the new names", || {
        (usher.ask("GET /v1/apps/lift", Some(&token)).status == 200).then_some(())
    });
    let requests = second.requests().len();
    let moved = usher.ask(SHOW, Some(&token));
    assert_eq!(second.requests().len(), requests);
    assert_eq!((moved.status, &*moved.code()), (403, "prohibited"));
    assert_eq!(first.requests().len(), seen);
}

#[test]
fn what_cannot_be_used_replaces_nothing_and_says_so() {
    let upstream = Recorder::ok();
    let mut usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    let serves = |usher: &Usher| {
        assert_eq!(usher.ask(SHOW, Some(&token)).status, 200);
        let mut admin = Peer::connect(usher.admin);
        admin.send("GET /readyz HTTP/1.1\r\nhost: admin\r\n\r\n");
        assert_eq!(admin.answer().status, 200);
    };
    has(&usher, "usher_config_stale 0");
    for (piece, wrong) in [
        ("access: public", "access: { action: x }"),
        ("routes:", "routes: ["),
        (
            "upstreams:",
            "upstreams:\n  - { name: other, urls: [ \"http://127.0.0.1:1\" ], credential: { header: x, value: { file: absent } } }",
        ),
        // Right, but only a start can put it into use.
        ("- address: 127.0.0.1:0", "- address: 127.0.0.1:1"),
        (
            "admin: { address: 127.0.0.1:0 }",
            "admin: { address: 127.0.0.1:1 }",
        ),
        ("sqlite:usher.db", "sqlite:other.db"),
        ("threads: 1", "threads: 2"),
    ] {
        assert!(!usher.reload(piece, wrong), "{wrong}");
        has(&usher, "usher_config_stale 1");
        serves(&usher);
        assert!(usher.reload(wrong, piece), "{piece}");
        has(&usher, "usher_config_stale 0");
        serves(&usher);
    }
    assert!(!usher.folder().join("other.db").exists());
    has(&usher, "usher_config_reloads_total{outcome=\"failed\"} 7");
    has(&usher, "usher_config_reloads_total{outcome=\"loaded\"} 7");
}

#[test]
fn streams_end_where_the_new_rules_may_deny_them_and_go_on_elsewhere() {
    let (upstream, left) = beginning();
    let mut usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    let [mut leased, mut public] =
        [STREAM, "GET /healthz"].map(|request| open(&usher, request, &token));
    // Other routes, names and upstreams are no business of theirs.
    let delete = "{ name: apps.delete, method: DELETE,";
    assert!(usher.reload(delete, delete.replace("DELETE", "PUT")));
    assert!(usher.reload(
        "{ name: vault, id: 3201, org: gamma }",
        "{ name: vault, id: 3202, org: gamma }"
    ));
    assert!(usher.reload(
        "  - { name: machines, urls",
        "  - { name: more, urls: [ \"http://127.0.0.1:1\" ] }\n  - { name: machines, urls"
    ));
    // A route of its own for one app: it might take what goes on.
    let own = "{ name: logs.stream, method: GET, path: \"/api/v1/apps/shop/logs/stream\"";
    assert!(!usher.reload(
        "  - { name: deploys.create",
        format_args!(
            "  - {own}, access: denied, upstream: machines }}\n  - {{ name: deploys.create"
        )
    ));
    assert!(usher.reload(
        "{ name: logs.stream, method: GET, path: \"/api/v1/apps/shop",
        "{ name: logs.shop, method: GET, path: \"/api/v1/apps/shop"
    ));
    assert_eq!(farewell(&mut leased), "lease-withdrawn");
    let ended = left.recv_timeout(DEADLINE).unwrap();
    assert_eq!(ended, format!("{STREAM} HTTP/1.1"));
    has(
        &usher,
        "usher_leases_ended_total{route=\"logs.stream\",code=\"lease-withdrawn\"} 1",
    );

    let mut again = open(&usher, STREAM, &token);
    assert!(usher.reload(STREAM_ROUTE, "logs/stream\", access: denied"));
    assert_eq!(farewell(&mut again), "lease-withdrawn");
    left.recv_timeout(DEADLINE).unwrap();
    assert!(left.try_recv().is_err(), "the public stream goes on");
    // It has no token that could end, and is no less permitted by rules.
    assert!(usher.reload(
        "path: /healthz, access: public",
        "path: /healthz, access: authenticated"
    ));
    assert_eq!(farewell(&mut public), "lease-withdrawn");
    assert_eq!(
        left.recv_timeout(DEADLINE).unwrap(),
        "GET /healthz HTTP/1.1"
    );
}

#[test]
fn a_request_that_waited_goes_on_by_the_rules_that_it_began_with_if_they_stand() {
    let upstream = Recorder::ok();
    let exec = r#"  - { name: exec, method: POST, path: /exec, access: { action: r, app: { body: /app } }, upstream: machines }"#;
    let keep = exec.replace("exec", "keep");
    let mut usher = World::before(upstream.address).and(exec).and(&keep).start();
    let token = usher.credential(&ORG);
    let wait = |path: &str| {
        let mut peer = usher.connect();
        peer.send(format!(
            "POST {path} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
             content-type: application/json\r\ncontent-length: 13\r\nexpect: 100-continue\r\n\r\n"
        ));
        // It is said once the body is waited for.
        assert!(peer.head().unwrap().starts_with("HTTP/1.1 100 "));
        peer
    };
    let (mut ends, mut stays) = (wait("/exec"), wait("/keep"));
    let denied = exec.replace("{ action: r, app: { body: /app } }", "denied");
    assert!(usher.reload(exec, denied));
    until("the new rules", || {
        let answer = usher.ask("POST /exec", Some(&token));
        (answer.code() == "prohibited").then_some(())
    });
    ends.send(r#"{"app":"web"}"#);
    let answer = ends.answer();
    assert_eq!(upstream.bytes(), b"");
    assert_eq!((answer.status, &*answer.code()), (403, "lease-withdrawn"));
    stays.send(r#"{"app":"web"}"#);
    assert_eq!(stays.answer().status, 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn verified_tokens_count_after_it_unless_the_limits_are_others() {
    let upstream = Recorder::ok();
    let mut usher = World::before(upstream.address).start();
    let token = usher.token(&ORG, crate::support::hour());
    let token = header(&[&token]);
    assert_eq!(usher.ask(SHOW, Some(&token)).status, 200);
    has(&usher, "usher_verification_cache_misses_total 1");
    assert!(usher.reload("{ name: vault, id: 3201", "{ name: vault, id: 3202"));
    assert_eq!(usher.ask(SHOW, Some(&token)).status, 200);
    has(&usher, "usher_verification_cache_misses_total 1");
    assert!(usher.reload(
        "threads: 1",
        "threads: 1\nlimits: { tokens: { caveats: 1 } }"
    ));
    until("the new limits", || {
        (usher.ask(SHOW, Some(&token)).status == 401).then_some(())
    });
}

/// A process, as people run it: signals, and files that are looked at.
#[test]
fn a_signal_and_a_changed_file_have_it_read_again() {
    let upstream = Recorder::answering(|_| {
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_vec()
    });
    let world = World::before(upstream.address)
        .file("rules.yaml", "queries:\n  app: denied\n")
        .and("  - { name: graphql, method: POST, path: /graphql, access: { graphql: rules.yaml }, upstream: machines }");
    let path = world.write();
    let mut server = Process::serve(&path);
    let reloaded = |event: &Value| event["message"] == "configuration reloaded";
    let refused =
        |event: &Value| event["message"] == "configuration not reloaded, the old one stays in use";

    // Nothing has changed, and it is told to: so it does.
    server.signal("HUP");
    server.event(reloaded);

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("access: public", "access: pulbic")).unwrap();
    server.signal("HUP");
    let event = server.event(refused);
    assert_eq!(event["level"], "ERROR");
    let line = 1 + text
        .lines()
        .position(|line| line.contains("access: public"))
        .unwrap();
    let place = format!("usher.yaml:{line}:");
    let problem = event["problem"].as_str().unwrap();
    assert!(
        problem.contains(&place) && problem.contains("pulbic"),
        "{problem}"
    );

    // Found without a signal, as is what it names.
    fs::write(&path, &text).unwrap();
    server.event(reloaded);
    let rules = path.with_file_name("rules.yaml");
    fs::write(&rules, "queries:\n  app: deneid\n").unwrap();
    let event = server.event(refused);
    let problem = event["problem"].as_str().unwrap();
    assert!(problem.contains("rules.yaml:2:8"), "{problem}");
    fs::write(&rules, "queries:\n  app: authenticated\n").unwrap();
    server.event(reloaded);
    fs::write(&path, text.replace("threads: 1", "threads: 2")).unwrap();
    let event = server.event(refused);
    let said = event["error"].as_str().unwrap();
    assert!(
        said.starts_with("threads: ") && said.contains("restart"),
        "{said}"
    );
    let mut peer = server.connect();
    peer.send("GET /healthz HTTP/1.1\r\nhost: usher.test\r\n\r\n");
    assert_eq!(peer.answer().status, 200);
    server.signal("TERM");
    assert_eq!(server.wait().0, Some(0));
}

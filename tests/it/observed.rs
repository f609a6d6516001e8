//! What an operator can see.

use std::collections::BTreeSet;
use std::path::Path;

use usher::authority::Kind;
use usher::macaroon::{Bundle, Limits};

use crate::support::{Process, Recorder, World, run_usher};

/// Lines of one metric, without the comments.
fn lines<'a>(metrics: &'a str, name: &str) -> BTreeSet<&'a str> {
    let starts = |line: &&str| line.starts_with(name);
    metrics.lines().filter(starts).collect()
}

/// What the command line makes for an app.
fn deploy_token(config: &Path) -> String {
    let made = run_usher(&[
        "token",
        "create",
        "deploy",
        "--app",
        "web",
        "--config",
        config.to_str().unwrap(),
    ]);
    made.stdout.trim().to_owned()
}

#[test]
fn every_request_is_counted_once_under_bounded_labels() {
    let upstream = Recorder::answering(|received| {
        let status = match received.head.starts_with("DELETE ") {
            true => "404 Not Found",
            false => "200 OK",
        };
        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&Kind::Deploy {
        org: 2001,
        app: 3001,
    });
    let good = Some(token.as_str());
    for (request, credential, status) in [
        ("GET /v1/apps/web", good, 200),
        ("GET /v1/apps/web", good, 200),
        ("GET /v1/apps/api", good, 403),
        ("GET /v1/apps/shop", good, 403),
        ("GET /v1/apps/made-up-1", good, 404),
        ("GET /v1/apps/made-up-2", good, 404),
        ("DELETE /v1/apps/web", good, 404),
        ("GET /made-up-3", good, 404),
        ("GET /made-up-4", None, 401),
        ("GET /v1/apps/web", None, 401),
        ("GET /v1/apps/web", Some("Bearer made-up-5"), 401),
        ("GET /v1/apps/web?made-up-6=1", good, 400),
        ("GET /v1/apps/../made-up-7", good, 400),
        ("MADEUP8 /v1/apps/web", good, 405),
        ("GET /healthz", None, 200),
    ] {
        assert_eq!(usher.ask(request, credential).status, status, "{request}");
    }
    let metrics = usher.metrics();
    let counted: BTreeSet<&str> = lines(&metrics, "usher_requests_total")
        .into_iter()
        .filter(|line| !line.ends_with(" 0"))
        .collect();
    assert_eq!(
        counted,
        BTreeSet::from([
            r#"usher_requests_total{route="",verdict="deny",code="ambiguous"} 1"#,
            r#"usher_requests_total{route="",verdict="deny",code="method-not-allowed"} 1"#,
            r#"usher_requests_total{route="",verdict="deny",code="no-route"} 1"#,
            r#"usher_requests_total{route="",verdict="deny",code="token-missing"} 1"#,
            r#"usher_requests_total{route="apps.delete",verdict="permit",code="permitted"} 1"#,
            r#"usher_requests_total{route="apps.show",verdict="deny",code="bad-field"} 1"#,
            r#"usher_requests_total{route="apps.show",verdict="deny",code="prohibited"} 2"#,
            r#"usher_requests_total{route="apps.show",verdict="deny",code="token-malformed"} 1"#,
            r#"usher_requests_total{route="apps.show",verdict="deny",code="token-missing"} 1"#,
            r#"usher_requests_total{route="apps.show",verdict="deny",code="unknown-name"} 2"#,
            r#"usher_requests_total{route="apps.show",verdict="permit",code="permitted"} 2"#,
            r#"usher_requests_total{route="health",verdict="permit",code="permitted"} 1"#,
        ])
    );
    for line in [
        r#"usher_responses_total{route="apps.show",class="2xx"} 2"#,
        r#"usher_responses_total{route="apps.delete",class="4xx"} 1"#,
        r#"usher_upstream_connections_total{upstream="machines",origin="new"} 1"#,
        r#"usher_upstream_connections_total{upstream="machines",origin="reused"} 3"#,
        // Two credentials were verified; the good one was asked for anew nine times.
        "usher_verification_cache_misses_total 2",
        "usher_verification_cache_hits_total 9",
        "usher_decision_seconds_count 15",
        "usher_connections_total 15",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} not in {metrics}"
        );
    }
    assert!(!metrics.to_lowercase().contains("made"), "{metrics}");
}

#[test]
fn terse_denials_read_alike_and_the_log_says_why() {
    let upstream = Recorder::ok();
    let world = World::before(upstream.address).and("denials: terse");
    let config = world.write();
    let mut usher = Process::serve(&config);
    let credential = deploy_token(&config);
    let mut peer = usher.connect();
    let mut ask = |target: &str| {
        peer.send(format!(
            "GET {target} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {credential}\r\n\r\n"
        ));
        peer.answer()
    };
    let denied = [
        ("/v1/apps/api", "app"),
        ("/v1/apps/shop", "organization"),
        ("/v1/apps/web/machines/148e1ccc000001", "machine"),
    ];
    for (target, why) in denied {
        let answer = ask(target);
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));
        assert_eq!(
            answer.detail(),
            "the tokens do not permit this; the proxy's decision log has the details",
            "{target}"
        );
        let decision = answer.problem()["decision"].clone();
        let event = usher.event(|event| event["decision"] == decision);
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains(why), "{target}: {reason}");
    }
    assert_eq!(ask("/v1/apps/web").status, 200, "the token is good");
}

#[test]
fn each_decision_is_one_event_with_all_that_it_was_about() {
    let upstream = Recorder::ok();
    let world = World::before(upstream.address);
    let config = world.write();
    let mut usher = Process::serve(&config);
    let credential = deploy_token(&config);
    let token = Bundle::parse(&credential, &Limits::DEFAULT)
        .unwrap()
        .tokens
        .remove(0);
    let mut peer = usher.connect();
    let mut ask = |request: &str, credential: &str| {
        peer.send(format!(
            "{request} HTTP/1.1\r\nhost: usher.test\r\n{credential}\r\n"
        ));
        peer.answer()
    };
    let credential = format!("authorization: {credential}\r\n");
    let decided = |event: &serde_json::Value| event["message"] == "request decided";

    let refused = ask("GET /v1/apps/api/machines/148e1bbb000001", &credential);
    upstream.saw_nothing();
    assert_eq!(refused.status, 403);
    let event = usher.event(decided);
    assert_eq!(event["route"], "machines.show");
    assert_eq!(
        event["access"],
        "r org=2001 app=3002 machine=148e1bbb000001"
    );
    assert_eq!(
        (&event["verdict"], &event["code"]),
        (&"deny".into(), &"prohibited".into())
    );
    assert_eq!(event["reason"], refused.detail());
    assert_eq!(event["token"], token.uuid().to_string());
    let digest = token.tail_digest().unwrap();
    let fingerprint: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(event["fingerprint"], fingerprint);
    assert_eq!(event["decision"], refused.problem()["decision"]);
    assert_eq!(event["method"], "GET");
    assert!(event["latency_us"].is_u64(), "{event}");

    assert_eq!(
        ask(
            "POST /v1/apps/web/machines",
            &format!("{credential}content-length: 0\r\n")
        )
        .status,
        200
    );
    let event = usher.event(decided);
    assert_eq!(
        (&event["verdict"], &event["code"]),
        (&"permit".into(), &"permitted".into())
    );
    assert_eq!(event["route"], "machines.create");
    assert_eq!(event["access"], "c org=2001 app=3001 machine=");
    assert_eq!(event["reason"], serde_json::Value::Null);
    let seen = upstream.last();
    assert_eq!(event["decision"].as_str(), seen.line("x-usher-decision"));
    assert_eq!(event["token"].as_str(), seen.line("x-usher-token-id"));

    assert_eq!(ask("GET /nowhere", "").status, 401);
    let event = usher.event(decided);
    assert_eq!(
        (&event["verdict"], &event["code"]),
        (&"deny".into(), &"token-missing".into())
    );
    assert_eq!(event["route"], serde_json::Value::Null);
    assert_eq!(event["token"], serde_json::Value::Null);
    usher.signal("TERM");
    assert_eq!(usher.wait().0, Some(0));
}

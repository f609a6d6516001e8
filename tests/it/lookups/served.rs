//! Names that a running usher asks for.

use std::sync::{Mutex, mpsc};

use usher::authority::Kind;
use usher::policy::AppIds;

use super::{Platform, app, ok, plain};
use crate::support::{DEADLINE, Peer, Received, Recorder, World, run_usher, until};

/// A world that asks `directory` about apps, with further settings of its own.
fn asking_world(upstream: &Recorder, directory: &Recorder, settings: &str) -> World {
    let at = directory.address;
    World::before(upstream.address).with(
        "public_names: true",
        format_args!(
            "public_names: true
  http:
    apps: {{ url: \"http://{at}/v1/apps/{{name}}\", id: /internal_numeric_id, org: /organization/internal_numeric_id, name: /name }}
{settings}"
        ),
    )
}

const LIFT: &str = "GET /v1/apps/lift";

#[test]
fn a_request_is_judged_by_what_the_platform_says() {
    let upstream = Recorder::ok();
    let directory = Platform::default().with("lift", 3004, 2004).serve();
    let usher = asking_world(&upstream, &directory, "").start();
    let acme = usher.credential(&Kind::Org { org: 2001 });
    let refused = usher.ask(LIFT, Some(&acme));
    upstream.saw_nothing();
    assert_eq!((refused.status, &*refused.code()), (403, "prohibited"));
    let unknown = usher.ask("GET /v1/apps/nope", Some(&acme));
    upstream.saw_nothing();
    assert_eq!((unknown.status, &*unknown.code()), (404, "unknown-name"));

    let delta = usher.credential(&Kind::Org { org: 2004 });
    assert_eq!(usher.ask(LIFT, Some(&delta)).status, 200);
    // The upstream can compare what was judged with what it is about to touch.
    assert_eq!(upstream.last().line("x-usher-app"), Some("3004"));
    assert_eq!(upstream.last().line("x-usher-org"), Some("2004"));
    // Known to the configuration: nobody is asked.
    assert_eq!(usher.ask("GET /v1/apps/web", Some(&acme)).status, 200);
    let asked: Vec<_> = directory.requests();
    let asked: Vec<_> = asked.iter().map(Received::request_line).collect();
    let lines = ["lift", "nope"].map(|name| format!("GET /v1/apps/{name} HTTP/1.1"));
    assert_eq!(asked, lines);
}

#[test]
fn without_public_names_a_missing_app_looks_like_one_of_somebody_else() {
    let upstream = Recorder::ok();
    let directory = Platform::default().with("lift", 3004, 2004).serve();
    let world = asking_world(&upstream, &directory, "");
    let usher = world
        .with("public_names: true", "public_names: false")
        .start();
    let acme = usher.credential(&Kind::Org { org: 2001 });
    let [other, missing] = [LIFT, "GET /v1/apps/nope"].map(|request| {
        let answer = usher.ask(request, Some(&acme));
        upstream.saw_nothing();
        let mut body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        body.as_object_mut().unwrap().remove("decision");
        (answer.status, body)
    });
    assert_eq!(other, missing);
    assert_eq!(other.0, 403);
}

#[test]
fn whoever_has_no_usable_token_has_nobody_asked() {
    let upstream = Recorder::ok();
    let directory = Platform::default().with("lift", 3004, 2004).serve();
    let usher = asking_world(&upstream, &directory, "").start();
    let delta = usher.credential(&Kind::Org { org: 2004 });
    let broken = format!("{delta}AAAA");
    for credential in [None, Some("FlyV1 fm2_garbage"), Some(broken.as_str())] {
        let refused = usher.ask(LIFT, credential);
        upstream.saw_nothing();
        directory.saw_nothing();
        assert_eq!(refused.status, 401, "{credential:?}");
    }
}

#[test]
fn no_clear_answer_is_a_503_and_the_upstream_sees_nothing() {
    let good = app(
        "lift",
        &AppIds {
            app: 3004,
            org: 2004,
        },
    );
    let other = app(
        "lifts",
        &AppIds {
            app: 3004,
            org: 2004,
        },
    );
    let moved = "HTTP/1.1 301 Moved\r\nlocation: /v1/apps/web\r\ncontent-length: 0\r\n\r\n";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("500", plain("500 Oops", &good)),
        ("403", plain("403 No", &good)),
        ("a redirect", moved.into()),
        ("garbage", b"\x00\x01garbage\r\n\r\n".to_vec()),
        ("no JSON", ok("lift")),
        (
            "another shape",
            ok("{\"name\":\"lift\",\"internal_numeric_id\":\"a\"}"),
        ),
        ("another app", ok(&other)),
        ("huge", ok(&" ".repeat(65 * 1024))),
        ("silence", Vec::new()),
    ];
    for (what, answer) in cases {
        let upstream = Recorder::ok();
        let directory = Recorder::script(move |exchange| {
            while exchange.request().is_some() && exchange.peer.try_send(&answer) {}
        });
        let usher = asking_world(&upstream, &directory, "    deadline: 300ms").start();
        let delta = usher.credential(&Kind::Org { org: 2004 });
        let refused = usher.ask(LIFT, Some(&delta));
        upstream.saw_nothing();
        assert_eq!(
            (refused.status, &*refused.code()),
            (503, "unavailable"),
            "{what}"
        );
        assert_eq!(refused.line("retry-after"), Some("1"), "{what}");
        // Everything else goes on, and usher is as ready as before.
        let acme = usher.credential(&Kind::Org { org: 2001 });
        assert_eq!(usher.ask("GET /v1/apps/web", Some(&acme)).status, 200);
        let mut admin = Peer::connect(usher.admin);
        admin.send("GET /readyz HTTP/1.1\r\nhost: admin\r\n\r\n");
        assert_eq!(admin.answer().status, 200, "{what}");
    }
}

#[test]
fn an_app_that_moves_away_stops_answering_to_its_old_organization() {
    let upstream = Recorder::ok();
    let platform = Platform::default().with("lift", 3004, 2004);
    let directory = platform.serve();
    let usher = asking_world(&upstream, &directory, "    ttl: 600ms\n    deadline: 300ms").start();
    let old = usher.credential(&Kind::Org { org: 2004 });
    let new = usher.credential(&Kind::Org { org: 2001 });
    assert_eq!(usher.ask(LIFT, Some(&old)).status, 200);
    let _platform = platform.with("lift", 3004, 2001);
    let refused = until("the move", || {
        let answer = usher.ask(LIFT, Some(&old));
        (answer.status != 200).then_some(answer)
    });
    let seen = upstream.requests().len();
    assert_eq!((refused.status, &*refused.code()), (403, "prohibited"));
    assert_eq!(usher.ask(LIFT, Some(&old)).status, 403);
    assert_eq!(upstream.requests().len(), seen);
    assert_eq!(usher.ask(LIFT, Some(&new)).status, 200);
}

#[test]
fn requests_that_come_together_cause_one_look_up() {
    const MANY: usize = 100;
    let upstream = Recorder::ok();
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let directory = Recorder::answering(move |_| {
        going.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        ok(&app(
            "lift",
            &AppIds {
                app: 3004,
                org: 2004,
            },
        ))
    });
    let usher = asking_world(&upstream, &directory, "    ttl: 1m\n    deadline: 20s").start();
    let delta = usher.credential(&Kind::Org { org: 2004 });
    let mut peers: Vec<_> = (0..MANY).map(|_| usher.connect()).collect();
    for peer in &mut peers {
        peer.send(format!(
            "{LIFT} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {delta}\r\n\r\n"
        ));
    }
    until("the look-up", || {
        (!directory.requests().is_empty()).then_some(())
    });
    upstream.saw_nothing();
    go.send(()).unwrap();
    for peer in &mut peers {
        assert_eq!(peer.answer().status, 200);
    }
    assert_eq!(directory.requests().len(), 1);
    let counted = "usher_directory_lookups_total{outcome=\"found\"} 1";
    assert!(usher.metrics().lines().any(|line| line == counted));
}

#[test]
fn who_makes_up_names_keeps_nobody_else_waiting() {
    const MANY: usize = 70;
    // As many as may wait for one token.
    const WAIT: usize = 64;
    let upstream = Recorder::ok();
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let platform = Platform::default()
        .with("lift", 3004, 2004)
        .with("crane", 3005, 2004);
    let directory = Recorder::answering(move |request| {
        let line = request.request_line();
        if line.contains("/made-up-") {
            // Until nobody holds them back any more.
            let _held_back = going.lock().unwrap().recv_timeout(DEADLINE);
        }
        platform.answer(line)
    });
    let settings = "    ttl: 1m\n    deadline: 20s\n    concurrency: 4";
    let usher = asking_world(&upstream, &directory, settings).start();
    let busy = usher.credential(&Kind::Org { org: 2001 });
    let other = usher.credential(&Kind::Org { org: 2004 });
    let ask = |name: &str, credential: &str| {
        let mut peer = usher.connect();
        peer.send(format!(
            "GET /v1/apps/{name} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {credential}\r\n\r\n"
        ));
        peer
    };
    let counted = |outcome: &str| {
        let start = format!("usher_directory_lookups_total{{outcome=\"{outcome}\"}} ");
        let metrics = usher.metrics();
        let count = metrics.lines().find_map(|line| line.strip_prefix(&start));
        count.map_or(0, |count| count.parse::<usize>().unwrap())
    };
    let mut peers = vec![ask("made-up-0", &busy)];
    until("the look-up", || {
        (!directory.requests().is_empty()).then_some(())
    });
    // The other one will need it as well.
    peers.push(ask("crane", &busy));
    peers.extend((2..MANY).map(|number| ask(&format!("made-up-{number}"), &busy)));
    until("the last ones to be refused", || {
        (counted("too-many") == MANY - WAIT).then_some(())
    });
    upstream.saw_nothing();

    for name in ["lift", "crane"] {
        assert_eq!(ask(name, &other).answer().status, 200, "{name}");
    }
    let made_up = |request: &Received| request.request_line().contains("/made-up-");
    let asked = directory.requests();
    assert_eq!(asked.iter().filter(|one| made_up(one)).count(), 1);

    let seen = upstream.requests().len();
    drop(go);
    let mut refused = 0;
    for peer in &mut peers {
        let answer = peer.answer();
        match answer.status {
            429 => {
                assert_eq!(answer.code(), "token-busy");
                assert_eq!(answer.line("retry-after"), Some("1"));
                refused += 1;
            }
            // Of somebody else, or of nobody.
            status => assert!(matches!(status, 403 | 404), "{status}"),
        }
    }
    assert_eq!(refused, MANY - WAIT);
    assert_eq!(upstream.requests().len(), seen);
    assert_eq!(ask("made-up-x", &busy).answer().status, 404);
}

#[test]
fn the_command_line_asks_as_well() {
    let upstream = Recorder::ok();
    let platform = Platform::default().with("lift", 3004, 2004);
    let directory = platform.serve();
    let world = asking_world(&upstream, &directory, "");
    let config = world.write();
    let create = |name: &str| {
        let config = config.to_str().unwrap();
        run_usher(&[
            "token", "create", "deploy", "--app", name, "--config", config,
        ])
    };
    let made = create("lift");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let usher = world.start();
    assert_eq!(usher.ask(LIFT, Some(made.stdout.trim())).status, 200);
    let missing = create("lifd");
    assert_eq!((missing.code, &*missing.stdout), (Some(1), ""));
    assert!(
        missing.stderr.contains("no app is called \"lifd\""),
        "{}",
        missing.stderr
    );
}

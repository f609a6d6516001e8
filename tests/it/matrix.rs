//! The acceptance matrix on the routes of `config/fly.yaml`: what a token of each kind gets for
//! each request, and which caveat says no.

mod credentials;
mod reason;
mod rows;

use serde_json::Value;

use crate::support::{Answer, Recorder, Usher, World, report, run_usher};

use rows::{Request, rows};

/// The kinds of the matrix, and what `usher token create` is told to make them.
const KINDS: [(&str, &[&str]); 8] = [
    (
        "auth",
        &["auth", "--org", "acme", "--org", "beta", "--admin", "acme"],
    ),
    ("org_deploy", &["org", "--org", "acme"]),
    ("app_deploy", &["deploy", "--org", "acme", "--app", "web"]),
    (
        "machine_exec",
        &[
            "machine-exec",
            "--org",
            "acme",
            "--app",
            "web",
            "--command",
            "uptime",
            "--command-prefix",
            "ls -l",
        ],
    ),
    ("readonly", &["readonly", "--org", "acme"]),
    (
        "litefs_cloud",
        &["litefs-cloud", "--org", "acme", "--cluster", "primary"],
    ),
    ("ssh", &["ssh", "--org", "acme", "--app", "web"]),
    ("wireguard", &["wireguard", "--org", "acme"]),
];

/// A running usher before an upstream, with a token of each kind.
struct Stage {
    upstream: Recorder,
    usher: Usher,
    tokens: Vec<(&'static str, String)>,
}

impl Stage {
    fn new() -> Self {
        let upstream = Recorder::ok();
        let world = World::fly(upstream.address);
        let config = world.write();
        let tokens = KINDS.map(|(kind, arguments)| {
            let config = config.to_str().unwrap();
            let create = [&["token", "create"], arguments, &["--config", config]].concat();
            let made = run_usher(&create);
            assert_eq!(made.code, Some(0), "{kind}: {}", made.stderr);
            (kind, made.stdout.trim().to_owned())
        });
        Self {
            upstream,
            usher: world.start(),
            tokens: tokens.into(),
        }
    }
}

#[test]
fn every_cell_has_its_status_and_its_caveat() {
    let stage = Stage::new();
    let (mut agreed, mut left_out) = (0, Vec::new());
    let all = rows();
    let mut sendable = Vec::new();
    for row in &all {
        match Request::of(row) {
            Some(request) => sendable.push((row, request)),
            None => left_out.push(row.id.as_str()),
        }
    }
    let nats = ["log-nats-app", "log-nats-all"];
    assert_eq!(left_out, nats, "NATS is not HTTP");
    // First all that is denied, so that the upstream has seen nothing yet.
    for (row, request) in &sendable {
        for (kind, token) in &stage.tokens {
            let expected = row.expect[*kind];
            if expected == 200 {
                continue;
            }
            let answer = request.send(&stage.usher, Some(token));
            stage.upstream.saw_nothing();
            let case = format!("{} with {kind}: {}", row.id, answer.text());
            assert_eq!(answer.status, expected, "{case}");
            if expected == 403 {
                reason::check(&row.reason[*kind], &denial(&answer).1, &case);
            }
            agreed += 1;
        }
    }
    for (row, request) in &sendable {
        for (kind, token) in stage
            .tokens
            .iter()
            .filter(|(kind, _)| row.expect[*kind] == 200)
        {
            let seen = stage.upstream.requests().len();
            let answer = request.send(&stage.usher, Some(token));
            assert_eq!(
                answer.status,
                200,
                "{} with {kind}: {}",
                row.id,
                answer.text()
            );
            request.check_forwarded(&stage.upstream, seen);
            agreed += 1;
        }
    }
    assert_eq!(agreed, sendable.len() * KINDS.len());
    report(format_args!(
        "matrix cells {agreed}/{}",
        sendable.len() * KINDS.len()
    ));
    report(format_args!("left out: {}", left_out.join(", ")));
}

/// The stable code of a denial and its sentence for people, whichever form its client reads.
#[track_caller]
fn denial(answer: &Answer) -> (String, String) {
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let Some(errors) = document["errors"].as_array() else {
        return (answer.code(), answer.detail());
    };
    let [error] = errors.as_slice() else {
        panic!("{document}");
    };
    assert_eq!(error["extensions"]["status"], answer.status, "{document}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&error["extensions"]["code"]), text(&error["message"]))
}

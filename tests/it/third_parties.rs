//! Tokens that a third party has to discharge, from the command that makes them to the request.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use usher::macaroon::{Bundle, Limits};

use crate::support::{Recorder, World, distinct, run_usher};

const AUTH: &str = "https://auth.example";
const OTHER: &str = "https://other.example";

const SHOW: &str = "GET /v1/apps/web";

/// The usual world with two third parties that share a key with it.
fn world(upstream: &Recorder) -> World {
    World::before(upstream.address)
        .file("auth.key", STANDARD.encode(distinct::<32>(7)))
        .file("other.key", STANDARD.encode(distinct::<32>(8)))
        .with(
            "seal_key: { file: seal.key }",
            format_args!(
                "seal_key: {{ file: seal.key }}\n  third_parties:\n    \
                 - {{ location: {AUTH}, key: {{ file: auth.key }} }}\n    \
                 - {{ location: {OTHER}, key: {{ file: other.key }} }}"
            ),
        )
}

/// What a command of usher prints.
#[track_caller]
fn usher(config: &Path, arguments: &[&str]) -> String {
    let arguments = [arguments, &["--config", config.to_str().unwrap()]].concat();
    let ended = run_usher(&arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    ended.stdout.trim().to_owned()
}

#[test]
fn a_401_has_all_that_a_client_needs_to_come_back() {
    let upstream = Recorder::ok();
    let world = world(&upstream);
    let config = world.write();
    let usher_running = world.start();
    let mut line = vec!["token", "create", "deploy", "--app", "web"];
    line.extend(["--third-party", AUTH, "--third-party", OTHER]);
    let mut credential = usher(&config, &line);

    let answer = usher_running.ask(SHOW, Some(&credential));
    upstream.saw_nothing();
    assert_eq!(
        (answer.status, &*answer.code()),
        (401, "token-undischarged")
    );
    let problem = answer.problem();
    let wanted = problem["discharges"].as_array().unwrap();
    let locations: Vec<_> = wanted.iter().map(|one| &one["location"]).collect();
    assert_eq!(locations, [AUTH, OTHER]);
    for (at, one) in wanted.iter().enumerate() {
        let (location, ticket) = (&one["location"], &one["ticket"]);
        let (location, ticket) = (location.as_str().unwrap(), ticket.as_str().unwrap());
        let line = ["token", "discharge", "--location", location, ticket];
        let discharge = usher(&config, &line);
        credential = format!("{credential},{discharge}");
        let answer = usher_running.ask(SHOW, Some(&credential));
        if at == 0 {
            upstream.saw_nothing();
            assert_eq!(answer.status, 401, "the other one is still missing");
        } else {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    assert_eq!(upstream.last().line("x-usher-user"), None);
}

#[test]
fn a_users_token_says_who_they_are() {
    let upstream = Recorder::ok();
    let world = world(&upstream);
    let config = world.write();
    let usher_running = world.start();
    let mut line = vec![
        "token", "create", "auth", "--org", "beta", "--admin", "acme",
    ];
    line.extend(["--user", "71", "--third-party", AUTH]);
    let credential = usher(&config, &line);
    let tokens = Bundle::parse(&credential, &Limits::DEFAULT).unwrap().tokens;
    assert_eq!(tokens.len(), 4);

    // Somebody else's discharge does not do, and nobody else gets one.
    let permission = Bundle {
        tokens: vec![tokens[0].clone()],
        ..Bundle::default()
    }
    .to_header();
    let answer = usher_running.ask("GET /v1/apps/shop", Some(&permission));
    upstream.saw_nothing();
    assert_eq!(answer.status, 401);
    let problem = answer.problem();
    let ticket = problem["discharges"][0]["ticket"].as_str().unwrap();
    for user in [&[][..], &["--user", "72"]] {
        let mut line = vec!["token", "discharge", "--location", AUTH, ticket];
        line.extend(user);
        line.extend(["--config", config.to_str().unwrap()]);
        let ended = run_usher(&line);
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
        assert!(ended.stderr.contains("for user 71"), "{}", ended.stderr);
    }

    for (request, status) in [
        ("GET /v1/apps/vault", 403),
        ("GET /v1/apps/web", 200),
        ("GET /v1/apps/shop", 200),
    ] {
        let answer = usher_running.ask(request, Some(&credential));
        if status == 403 {
            upstream.saw_nothing();
        } else {
            assert_eq!(upstream.last().line("x-usher-user"), Some("71"));
        }
        assert_eq!(answer.status, status, "{request}");
    }
}

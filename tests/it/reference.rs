//! Tokens that the reference implementation made, on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use usher::macaroon::{Bundle, Limits};

use crate::support::{Recorder, Usher, World};

const BENCH: &str = include_str!("../conformance/bench-tokens.json");
const VECTORS: &str = include_str!("../conformance/test_vectors.json");

/// The two caveats among the vectors that permit reading an app of organization 123.
const PERMITTING: [&str; 2] = ["IsMember", "Organization"];

/// Vectors that no permission token may be: bound to a parent, or proofs under a ticket.
const UNUSABLE: [(&str, &str); 4] = [
    ("BindToParentToken", "token-bad-discharge"),
    ("FlyioUserID", "token-unknown-key"),
    ("GitHubUserID", "token-unknown-key"),
    ("GoogleUserID", "token-unknown-key"),
];

fn bytes(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}

fn import(usher: &Usher, id: &Value, key: &Value) {
    usher.import(&bytes(id), bytes(key).try_into().unwrap());
}

/// A world with the organization, app and machine of the benchmark's accesses.
fn benchmark(upstream: &Recorder, file: &Value) -> World {
    let trusted = file["trusted_3ps"]["https://api.fly.io/aaa/v1"][0].as_str();
    World::before(upstream.address)
        .with("- { slug: acme,", "- { slug: bench, id: 4721 }\n    - { slug: acme,")
        .with("- { name: web,", "- { name: bench, id: 123, org: bench }\n    - { name: web,")
        .with("- { id: 148e1aaa000001,", "- { id: 3d8d9930, app: bench }\n    - { id: 148e1aaa000001,")
        .with(
            "  seal_key:",
            "  third_parties: [ { location: https://api.fly.io/aaa/v1, key: { file: third.key } } ]\n  seal_key:",
        )
        .file("third.key", trusted.unwrap())
}

#[test]
fn its_tokens_are_accepted_once_the_key_is_here() {
    let file: Value = serde_json::from_str(BENCH).unwrap();
    let upstream = Recorder::ok();
    let usher = benchmark(&upstream, &file).start();
    let request = "GET /v1/apps/bench/machines/3d8d9930";
    let tokens = file["tokens"].as_array().unwrap();
    for token in tokens {
        let answer = usher.ask(request, token["authorization"].as_str());
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (401, "token-unknown-key"));
    }
    let key = &file["keys"][0];
    import(&usher, &key["kid"], &key["key"]);
    for token in tokens {
        let answer = usher.ask(request, token["authorization"].as_str());
        assert_eq!(answer.status, 200, "{}: {}", token["name"], answer.text());
        let seen = upstream.last();
        assert_eq!(seen.request_line(), format!("{request} HTTP/1.1"));
        assert_eq!(seen.line("x-usher-org"), Some("4721"));
        assert_eq!(seen.line("x-usher-app"), Some("123"));
    }
    assert_eq!((tokens.len(), upstream.requests().len()), (4, 4));
}

#[test]
fn its_tokens_permit_no_more_than_they_say() {
    let file: Value = serde_json::from_str(BENCH).unwrap();
    let upstream = Recorder::ok();
    let usher = benchmark(&upstream, &file).start();
    let key = &file["keys"][0];
    import(&usher, &key["kid"], &key["key"]);
    for token in file["tokens"].as_array().unwrap() {
        // Another organization's app, and for the readonly token a change to its own.
        let mut refused = vec!["GET /v1/apps/web"];
        if token["name"] == "d-readonly-10" {
            refused.push("POST /v1/apps/bench/machines/3d8d9930/start");
        }
        for request in refused {
            let answer = usher.ask(request, token["authorization"].as_str());
            upstream.saw_nothing();
            assert_eq!(answer.status, 403, "{} {request}", token["name"]);
            assert_eq!(answer.code(), "prohibited");
        }
    }
}

#[test]
fn every_way_to_write_its_header_is_understood() {
    let file: Value = serde_json::from_str(BENCH).unwrap();
    let upstream = Recorder::ok();
    let usher = benchmark(&upstream, &file).start();
    let key = &file["keys"][0];
    import(&usher, &key["kid"], &key["key"]);
    let request = "GET /v1/apps/bench/machines/3d8d9930";
    let mut asked = 0;
    for token in file["tokens"].as_array().unwrap() {
        let list = token["authorization"].as_str().unwrap();
        let list = list.strip_prefix("FlyV1 ").unwrap();
        for written in [
            list.to_owned(),
            format!("FlyV1 {list}"),
            format!("Bearer {list}"),
            format!("bearer {list}"),
            format!("Bearer FlyV1 {list}"),
            format!("flyv1 {}", list.replace(',', ", ")),
            format!("FlyV1 garbage,{list}"),
            format!("FlyV1 {list},fm2_AAAA"),
            format!("Bearer fo1_an-oauth-token,{list}"),
            format!("FlyV1 {list},"),
        ] {
            let answer = usher.ask(request, Some(&written));
            assert_eq!(answer.status, 200, "{written}: {}", answer.text());
            asked += 1;
        }
    }
    assert_eq!(upstream.requests().len(), asked);
}

/// A world at the location of the vectors, with the organization that one of them names.
fn vectors(upstream: &Recorder, file: &Value) -> Usher {
    let location = file["location"].as_str().unwrap();
    let usher = World::before(upstream.address)
        .with(
            "location: https://api.fly.io/v1",
            format_args!("location: \"{location}\""),
        )
        .with("id: 2001", "id: 123")
        .start();
    import(&usher, &file["kid"], &file["key"]);
    usher
}

#[test]
fn its_vectors_are_usable_where_they_are_permission_tokens() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let upstream = Recorder::ok();
    let usher = vectors(&upstream, &file);
    let macaroons = file["macaroons"].as_object().unwrap();
    let request = "GET /v1/platform/regions";
    for (name, code) in UNUSABLE {
        let answer = usher.ask(request, macaroons[name].as_str());
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (401, code), "{name}");
    }
    // All others verify. On a route that asks for no access, those prohibit that no request
    // could satisfy.
    let mut statuses = [0, 0];
    for (name, header) in macaroons {
        if UNUSABLE.iter().all(|(unusable, _)| unusable != name) {
            let answer = usher.ask(request, header.as_str());
            let permits = ["IsMember", "Mutations", "Organization"].contains(&name.as_str());
            let expected = if permits { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{name}: {}", answer.text());
            statuses[usize::from(permits)] += 1;
        }
    }
    assert_eq!((statuses, upstream.requests().len()), ([14, 3], 3));
}

#[test]
fn its_vectors_prohibit_what_their_caveat_does_not_name() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let upstream = Recorder::ok();
    let usher = vectors(&upstream, &file);
    let macaroons = file["macaroons"].as_object().unwrap();
    let request = "GET /v1/apps/web";
    let others = macaroons.iter().filter(|(name, _)| {
        let name = name.as_str();
        !PERMITTING.contains(&name) && UNUSABLE.iter().all(|(unusable, _)| *unusable != name)
    });
    for (name, header) in others {
        let answer = usher.ask(request, header.as_str());
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            (403, "prohibited"),
            "{name}"
        );
        let detail = answer.detail();
        // Those that the reference registers for its own tests have no name here.
        let expected = match &**name {
            "ConfineGitHubOrg"
            | "ConfineGoogleHD"
            | "ConfineOrganization"
            | "ConfineUser"
            | "FlySrc"
            | "Mutations" => name.as_str(),
            _ => "not known here, so it permits nothing",
        };
        assert!(detail.contains("token 1, caveat 1, "), "{name}: {detail}");
        assert!(detail.contains(expected), "{name}: {detail}");
    }
    for name in PERMITTING {
        let answer = usher.ask(request, macaroons[name].as_str());
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
}

#[test]
fn its_undischarged_token_says_where_to_go() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let upstream = Recorder::ok();
    let usher = vectors(&upstream, &file);
    let header = file["with_tps"].as_str().unwrap();
    let bundle = Bundle::parse(header, &Limits::DEFAULT).unwrap();
    bundle.tokens.iter().for_each(crate::support::hide);
    let answer = usher.ask("GET /v1/apps/web", Some(header));
    upstream.saw_nothing();
    assert_eq!(
        (answer.status, &*answer.code()),
        (401, "token-undischarged")
    );
    let problem = answer.problem();
    let discharges = problem["discharges"].as_array().unwrap();
    assert_eq!(discharges.len(), 1, "the other one is in the header");
    assert_eq!(discharges[0]["location"], "undischarged");
    assert!(!bytes(&discharges[0]["ticket"]).is_empty());
}

use std::collections::HashSet;

use super::*;

fn id() -> DecisionId {
    DecisionId::of_test()
}

fn respond(denial: Denial) -> (Response<Bytes>, serde_json::Value) {
    let response = Answer::from(denial).into_response(Caller::Http, &id());
    let problem = serde_json::from_slice(response.body()).unwrap();
    (response, problem)
}

fn line<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|v| v.to_str().unwrap())
}

#[test]
fn codes_are_listed_once_and_in_kebab_case() {
    let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    for code in Code::ALL {
        let kebab = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        assert!(code.as_str().bytes().all(kebab), "{code:?}");
        assert!(code.meaning().ends_with('.'), "{code:?}");
        assert!(!code.status().is_success(), "{code:?}");
    }
}

#[test]
fn the_readme_lists_every_code_beside_its_status() {
    let readme = include_str!("../../../README.md");
    for code in Code::ALL {
        let status = code.status().as_u16().to_string();
        let name = format!("`{}`", code.as_str());
        let row = readme.lines().find(|line| line.contains(&name));
        let row = row.unwrap_or_else(|| panic!("the README does not list {name}"));
        let statuses = row.split('|').nth(1).unwrap();
        assert!(statuses.contains(&status), "{name} is a {status}: {row}");
    }
}

#[test]
fn only_what_never_reached_the_upstream_invites_a_repetition() {
    for code in Code::ALL {
        let repeated = matches!(code.status().as_u16(), 502 | 503);
        let unsent = matches!(
            code,
            Code::Unavailable | Code::Busy | Code::UpstreamUnavailable | Code::UpstreamConnect
        );
        assert_eq!(repeated, unsent, "{code:?}");
    }
}

#[test]
fn a_problem_has_code_status_and_decision() {
    let (response, problem) = respond(Denial::Prohibited("caveat 2 of token 1".into()));
    assert_eq!(response.status(), 403);
    assert_eq!(
        line(&response, "content-type"),
        Some("application/problem+json")
    );
    assert_eq!(
        problem,
        serde_json::json!({
            "type": "urn:usher:problem:prohibited",
            "title": "prohibited by a caveat",
            "status": 403,
            "detail": "caveat 2 of token 1",
            "code": "prohibited",
            "decision": id().as_str(),
        })
    );
}

#[test]
fn every_401_carries_a_challenge() {
    for (unusable, code) in [
        (Unusable::Missing, "token-missing"),
        (Unusable::Malformed("x".into()), "token-malformed"),
        (Unusable::UnknownKey, "token-unknown-key"),
        (Unusable::BadSignature, "token-bad-signature"),
        (Unusable::Expired, "token-expired"),
        (Unusable::NotYetValid, "token-not-yet-valid"),
        (Unusable::Revoked, "token-revoked"),
        (Unusable::Undischarged(Box::default()), "token-undischarged"),
        (Unusable::BadDischarge("x".into()), "token-bad-discharge"),
    ] {
        let missing = unusable == Unusable::Missing;
        let (response, problem) = respond(Denial::Unauthenticated(unusable));
        assert_eq!(response.status(), 401);
        assert_eq!(problem["code"], code);
        let challenge = line(&response, "www-authenticate").unwrap();
        assert!(
            challenge.starts_with(r#"Bearer realm="usher""#),
            "{challenge}"
        );
        assert_eq!(challenge.contains("invalid_token"), !missing, "{challenge}");
    }
}

#[test]
fn an_undischarged_token_lists_where_to_go() {
    let tickets = Box::from([("https://auth.example".into(), "dGlja2V0".into())]);
    let (_, problem) = respond(Denial::Unauthenticated(Unusable::Undischarged(tickets)));
    assert_eq!(
        problem["discharges"],
        serde_json::json!([{ "location": "https://auth.example", "ticket": "dGlja2V0" }])
    );
}

#[test]
fn each_status_has_its_header() {
    let (response, _) = respond(Denial::NoMethod("GET, HEAD".into()));
    assert_eq!(response.status(), 405);
    assert_eq!(line(&response, "allow"), Some("GET, HEAD"));
    let (response, _) = respond(Denial::Unavailable("the store does not answer"));
    assert_eq!(response.status(), 503);
    assert_eq!(line(&response, "retry-after"), Some("1"));
    let (response, _) = respond(Denial::Ambiguous("dot segment".into()));
    assert_eq!(response.status(), 400);
    assert_eq!(line(&response, "connection"), Some("close"));
}

#[test]
fn a_head_request_gets_the_length_without_the_body() {
    let whole = Answer::from(Denial::NoRoute).into_response(Caller::Http, &id());
    let head = Answer::from(Denial::NoRoute).into_response(Caller::Head, &id());
    assert!(head.body().is_empty());
    let length = whole.body().len().to_string();
    assert_eq!(line(&head, "content-length"), Some(length.as_str()));
}

#[test]
fn a_grpc_caller_gets_a_status_of_its_own() {
    for (denial, status) in [
        (Denial::Unauthenticated(Unusable::Missing), "16"),
        (Denial::Prohibited("100 % no".into()), "7"),
        (Denial::NoRoute, "5"),
        (Denial::BadField("x".into()), "3"),
        (Denial::Unavailable("x"), "14"),
    ] {
        let response = Answer::from(denial).into_response(Caller::Grpc, &id());
        assert_eq!(response.status(), 200);
        assert_eq!(line(&response, "grpc-status"), Some(status));
        let message = line(&response, "grpc-message").unwrap();
        assert!(!message.contains("100 % no"), "{message}");
        assert!(response.body().is_empty());
    }
    let late = Answer::from(&ForwardError::Late).into_response(Caller::Grpc, &id());
    assert_eq!(line(&late, "grpc-status"), Some("4"));
}

#[test]
fn a_graphql_caller_gets_an_error_that_it_prints() {
    for (accept, media) in [
        (None, "application/json"),
        (Some("*/*"), "application/json"),
        (
            Some("application/graphql-response+json, application/json;q=0.9"),
            "application/graphql-response+json",
        ),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        let caller = Caller::of(&Method::POST, &headers).of_graphql(&headers);
        let denial = Denial::Prohibited("caveat 2 of token 1".into());
        let response = Answer::from(denial).into_response(caller, &id());
        assert_eq!(response.status(), 403);
        assert_eq!(line(&response, "content-type"), Some(media));
        assert_eq!(line(&response, "cache-control"), Some("no-store"));
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "errors": [{
                    "message": "prohibited by a caveat: caveat 2 of token 1",
                    "extensions": {
                        "code": "prohibited",
                        "status": 403,
                        "decision": id().as_str(),
                    },
                }]
            })
        );
    }
}

#[test]
fn a_grpc_caller_stays_one_whatever_the_route() {
    let headers = HeaderMap::new();
    assert_eq!(Caller::Grpc.of_graphql(&headers), Caller::Grpc);
    assert_eq!(Caller::Head.of_graphql(&headers), Caller::Head);
}

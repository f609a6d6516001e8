//! GraphQL: each root field is judged, and only bytes that were judged are forwarded.

use serde_json::{Value, json};
use usher::authority::Kind;

use crate::support::{Answer, Recorder, Usher, World, header, hour};

/// All kinds of tokens, of acme and its app web; the session is an admin of acme.
fn kinds() -> [Kind; 8] {
    let (org, app) = (2001, 3001);
    [
        Kind::Auth {
            orgs: vec![(org, true), (2002, false)],
        },
        Kind::Org { org },
        Kind::Deploy { org, app },
        Kind::MachineExec {
            org,
            app,
            commands: Vec::new(),
        },
        Kind::Readonly { org },
        Kind::LitefsCloud {
            org,
            cluster: "primary".to_owned(),
        },
        Kind::Ssh { org, app },
        Kind::Wireguard { org },
    ]
}

/// A document, and whether each kind may send it: `+` or `-` in the order of [`kinds`].
const REQUESTS: &[(&str, &str)] = &[
    (r#"{organization(slug: "acme") {id}}"#, "+++++-++"),
    (r#"{app(name: "web") {id}}"#, "+++++-+-"),
    (r#"{app(name: "api") {id}}"#, "++--+---"),
    (r#"{app(name: "vault") {id}}"#, "--------"),
    (
        r#"mutation {setSecrets(input: {appId: "web"}) {x}}"#,
        "+++-----",
    ),
    (
        r#"mutation {issueCertificate(input: {organizationId: "acme", appNames: ["web"]}) {x}}"#,
        "+++---+-",
    ),
    (
        r#"mutation {issueCertificate(input: {organizationId: "acme", appNames: ["web", "api"]}) {x}}"#,
        "++------",
    ),
    (
        r#"mutation {issueCertificate(input: {organizationId: "acme", appNames: []}) {x}}"#,
        "++------",
    ),
    (
        r#"mutation {addWireGuardPeer(input: {organizationId: "acme"}) {x}}"#,
        "+++---++",
    ),
    (
        r#"mutation {removeWireGuardPeer(input: {organizationId: "acme"}) {x}}"#,
        "+++----+",
    ),
    (
        r#"mutation {validateWireGuardPeers(input: {peerIps: ["fdaa::1"]}) {x}}"#,
        "+++++-++",
    ),
    (
        r#"mutation {createLimitedAccessToken(input: {organizationId: "acme"}) {x}}"#,
        "++------",
    ),
    (
        r#"mutation {deleteOrganization(input: {organizationId: "acme"}) {x}}"#,
        "+-------",
    ),
    (
        r#"mutation {createAddOn(input: {organizationId: "acme"}) {x}}"#,
        "++------",
    ),
    // What is below a root field, where that is more than the field itself.
    (
        r#"{organization(slug: "acme") {apps {nodes {id}}}}"#,
        "++--+---",
    ),
    (
        r#"{organization(slug: "acme") {wireGuardPeers {nodes {id}}}}"#,
        "+++++-++",
    ),
    (
        r#"{app(name: "web") {limitedAccessTokens {nodes {token}}}}"#,
        "+++-----",
    ),
    // Two root fields: the one that the token does not permit decides.
    (
        r#"mutation {a: setSecrets(input: {appId: "web"}) {x} b: setSecrets(input: {appId: "api"}) {x}}"#,
        "++------",
    ),
];

fn world(upstream: &Recorder) -> World {
    let rules = include_str!("../../config/graphql.yaml");
    World::before(upstream.address)
        .file("graphql.yaml", rules)
        .with(
            "\nroutes:\n",
            "\nroutes:\n  - { name: graphql, method: POST, path: /graphql, \
             access: { graphql: graphql.yaml }, body_limit: 8KiB, upstream: machines }\n",
        )
}

fn start(upstream: &Recorder) -> Usher {
    world(upstream).start()
}

fn credential(usher: &Usher, kind: &Kind) -> String {
    let tokens: Vec<_> = kind
        .caveats(hour())
        .iter()
        .map(|caveats| usher.issue(caveats))
        .collect();
    header(&tokens.iter().collect::<Vec<_>>())
}

fn post(usher: &Usher, credential: &str, body: &str, lines: &str) -> Answer {
    post_to(usher, "/graphql", credential, body, lines)
}

fn post_to(usher: &Usher, target: &str, credential: &str, body: &str, lines: &str) -> Answer {
    let length = body.len();
    let mut peer = usher.connect();
    peer.send(format!(
        "POST {target} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {credential}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n{lines}\r\n{body}"
    ));
    peer.answer()
}

fn query(document: &str) -> String {
    json!({ "query": document }).to_string()
}

/// The code of a denial in the form that GraphQL clients read.
#[track_caller]
fn code(answer: &Answer) -> String {
    assert_eq!(answer.line("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let [error] = body["errors"].as_array().unwrap().as_slice() else {
        panic!("{body}");
    };
    assert_eq!(body.as_object().unwrap().len(), 1, "no data: {body}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    let extensions = &error["extensions"];
    assert_eq!(extensions["status"], answer.status);
    assert_eq!(extensions["decision"].as_str().unwrap().len(), 24);
    extensions["code"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_token_does_not_permit_is_not_forwarded() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let mut denied = 0;
    for kind in kinds() {
        let token = credential(&usher, &kind);
        let place = kinds().iter().position(|other| *other == kind).unwrap();
        for (document, verdicts) in REQUESTS {
            if verdicts.as_bytes()[place] == b'+' {
                continue;
            }
            let answer = post(&usher, &token, &query(document), "");
            upstream.saw_nothing();
            let case = format!("{document} with {}", kind.name());
            assert_eq!(answer.status, 403, "{case}: {}", answer.text());
            assert_eq!(code(&answer), "prohibited", "{case}");
            denied += 1;
        }
    }
    assert_eq!(denied, count('-'));
}

#[test]
fn what_a_token_permits_is_forwarded_byte_for_byte() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let mut permitted = 0;
    for kind in kinds() {
        let token = credential(&usher, &kind);
        let place = kinds().iter().position(|other| *other == kind).unwrap();
        for (document, verdicts) in REQUESTS {
            if verdicts.as_bytes()[place] == b'-' {
                continue;
            }
            // White space and an escape that any rewriting would change.
            let body = format!(
                " {{ \"query\" : {} ,\n\"variables\":{{\"\\u0061\":1.50}}}} ",
                json!(document)
            );
            let answer = post(&usher, &token, &body, "");
            let case = format!("{document} with {}", kind.name());
            assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            let received = upstream.last();
            assert_eq!(received.request_line(), "POST /graphql HTTP/1.1");
            assert_eq!(String::from_utf8(received.body).unwrap(), body, "{case}");
            permitted += 1;
        }
    }
    assert_eq!(permitted, count('+'));
    assert_eq!(upstream.requests().len(), permitted);
}

fn count(verdict: char) -> usize {
    let verdicts = REQUESTS.iter().flat_map(|(_, verdicts)| verdicts.chars());
    verdicts.filter(|v| *v == verdict).count()
}

/// Ways to have a mutation run that the token does not permit.
#[test]
fn no_spelling_hides_a_mutation() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let ssh = credential(&usher, &kinds()[6]);
    let certificate = r#"issueCertificate(input: {organizationId: "acme", appNames: ["web"]}) {x}"#;
    let delete = r#"deleteApp(input: {appId: "web"}) {x}"#;
    let two = format!("mutation Issue {{{certificate}}} mutation Delete {{{delete}}}");
    for (body, status, expected) in [
        (
            query(&format!("mutation {{issueCertificate: {delete}}}")),
            403,
            "prohibited",
        ),
        (
            query(&format!("mutation {{{certificate} x: {delete}}}")),
            403,
            "prohibited",
        ),
        (
            query(&format!("mutation issueCertificate {{{delete}}}")),
            403,
            "prohibited",
        ),
        (
            query(&format!(
                "mutation {{...F {certificate}}} fragment F on Mutation {{... {{{delete}}}}}"
            )),
            403,
            "prohibited",
        ),
        (
            query(&format!(
                "mutation {{{certificate} ... @include(if: false) {{{delete}}}}}"
            )),
            403,
            "prohibited",
        ),
        (
            json!({ "query": two, "operationName": "Delete" }).to_string(),
            403,
            "prohibited",
        ),
        (
            json!({ "query": two, "operationName": "Issue" }).to_string(),
            403,
            "prohibited",
        ),
        (json!({ "query": two }).to_string(), 400, "body-invalid"),
        (format!("[{}]", query(certificate)), 400, "body-invalid"),
        (
            json!({ "extensions": { "persistedQuery": { "sha256Hash": "00", "version": 1 } } })
                .to_string(),
            400,
            "body-invalid",
        ),
        (
            json!({ "query": "{viewer {id}}", "id": "x" }).to_string(),
            400,
            "body-invalid",
        ),
        (
            r#"{"query":"{viewer {id}}","query":"mutation {logOut {x}}"}"#.to_owned(),
            400,
            "body-invalid",
        ),
        (query("subscription {x}"), 400, "body-invalid"),
        (query("{viewer {id}"), 400, "body-invalid"),
        (query("mutation {notInSchema}"), 403, "prohibited"),
        (query(r#"{node(id: "x") {id}}"#), 403, "prohibited"),
        (query("mutation {registerMachine {x}}"), 403, "prohibited"),
        (
            query("mutation {createOrganization {x}}"),
            403,
            "prohibited",
        ),
        (query("{accessTokens {x}}"), 403, "prohibited"),
        (query("{setSecrets {x}}"), 403, "prohibited"),
    ] {
        let answer = post(&usher, &ssh, &body, "");
        upstream.saw_nothing();
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert_eq!(code(&answer), expected, "{body}");
    }
}

#[test]
fn a_field_without_a_rule_is_named() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let org = credential(&usher, &kinds()[1]);
    let answer = post(&usher, &org, &query("mutation {notInSchema}"), "");
    upstream.saw_nothing();
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("`notInSchema`"), "{}", answer.text());
}

#[test]
fn only_post_on_the_exact_path_without_a_query_is_graphql() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let org = credential(&usher, &kinds()[1]);
    let body = query("{viewer {id}}");
    for (target, status) in [
        ("/graphql?query=mutation%7BlogOut%7D", 400),
        ("/graphql/", 404),
        ("/GraphQL", 404),
        ("/graphql/batch", 404),
    ] {
        let answer = post_to(&usher, target, &org, &body, "");
        upstream.saw_nothing();
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
    }
    let answer = usher.ask("GET /graphql", Some(&org));
    upstream.saw_nothing();
    assert_eq!(answer.status, 405);
}

#[test]
fn a_body_beyond_its_bound_is_not_read() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let org = credential(&usher, &kinds()[1]);
    let body = query(&format!("{{viewer {{id}}}} #{}", "x".repeat(8 * 1024)));
    let answer = post(&usher, &org, &body, "");
    upstream.saw_nothing();
    assert_eq!(answer.status, 413, "{}", answer.text());
}

#[test]
fn whoever_has_no_usable_token_is_not_told_that_this_is_graphql() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let answer = post(&usher, "Bearer x", &query("{viewer {id}}"), "");
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (401, "token-malformed"));
}

#[test]
fn the_media_type_is_the_one_that_was_asked_for() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let org = credential(&usher, &kinds()[1]);
    let body = query(r#"{node(id: "x") {id}}"#);
    let accept = "accept: application/graphql-response+json\r\n";
    let answer = post(&usher, &org, &body, accept);
    upstream.saw_nothing();
    assert_eq!(answer.status, 403);
    let media = answer.line("content-type");
    assert_eq!(media, Some("application/graphql-response+json"));
}

#[test]
fn a_number_is_no_name_and_a_name_no_number() {
    let upstream = Recorder::ok();
    // Somebody else has called an app by the number of `web`.
    let usher = world(&upstream)
        .with(
            "    - { name: shop, id: 3101, org: beta }",
            "    - { name: shop, id: 3101, org: beta }\n    - { name: 3001, id: 3102, org: beta }",
        )
        .start();
    let [web, called, beta] = [
        Kind::Deploy {
            org: 2001,
            app: 3001,
        },
        Kind::Deploy {
            org: 2002,
            app: 3102,
        },
        Kind::Org { org: 2002 },
    ]
    .map(|kind| credential(&usher, &kind));
    let missing = (404, "unknown-name");
    let prohibited = (403, "prohibited");
    for (token, document, expected) in [
        (&called, r#"{app(internalId: "3001") {x}}"#, prohibited),
        (&beta, r#"{app(internalId: "3001") {x}}"#, prohibited),
        (&web, r#"{app(name: "3001") {x}}"#, prohibited),
        (&web, r#"{app(id: "3001") {x}}"#, prohibited),
        (&web, r#"{app(internalId: "3102") {x}}"#, prohibited),
        // Whatever is named has to be permitted.
        (
            &web,
            r#"{app(internalId: "3001", name: "shop") {x}}"#,
            prohibited,
        ),
        (
            &web,
            r#"{app(internalId: "3001", id: "3001") {x}}"#,
            prohibited,
        ),
        (
            &called,
            r#"{app(internalId: "3001", name: "3001") {x}}"#,
            prohibited,
        ),
        // What only looks like its number.
        (&web, r#"{app(internalId: "03001") {x}}"#, missing),
        (&web, r#"{app(internalId: "0") {x}}"#, missing),
        (&web, r#"{app(internalId: "web") {x}}"#, missing),
        (
            &web,
            r#"{app(internalId: "3102") {addOns {nodes {id}}}}"#,
            prohibited,
        ),
        (
            &called,
            r#"{app(internalId: "3001") {limitedAccessTokens {x}}}"#,
            prohibited,
        ),
    ] {
        let answer = post(&usher, token, &query(document), "");
        upstream.saw_nothing();
        assert_eq!((answer.status, &*code(&answer)), expected, "{document}");
    }
    for (token, document, app) in [
        (&web, r#"{app(internalId: "3001") {x}}"#, "3001"),
        (
            &web,
            r#"{app(internalId: "3001", name: "web") {x}}"#,
            "3001",
        ),
        (&web, r#"{app(internalId: "", name: "web") {x}}"#, "3001"),
        (&called, r#"{app(name: "3001") {x}}"#, "3102"),
        (
            &called,
            r#"{app(internalId: "3102", id: "3001") {x}}"#,
            "3102",
        ),
    ] {
        let answer = post(&usher, token, &query(document), "");
        assert_eq!(answer.status, 200, "{document}: {}", answer.text());
        assert_eq!(upstream.last().line("x-usher-app"), Some(app), "{document}");
    }
}

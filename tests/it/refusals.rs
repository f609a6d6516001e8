//! What is refused before any caveat is asked: without a token, without a route, or because it can
//! be read in two ways.

use usher::authority::Kind;

use crate::support::{H2Client, Recorder, World, header, hour, run};

const ORG: Kind = Kind::Org { org: 2001 };

#[test]
fn without_a_usable_token_every_path_looks_the_same() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let expired = usher.issue(&[crate::support::window(-10, -1)]);
    let expired = header(&[&expired]);
    for request in [
        "GET /v1/apps/web",
        "GET /v1/apps/no-such-app",
        "PATCH /v1/apps/web",
        "GET /no/such/route",
        "GET /",
        "GET /v1/apps/web/machines?undeclared=1",
        "GET /v1/apps?no_slug=1",
        "OPTIONS /v1/apps",
        "PUT /healthz",
    ] {
        for (credential, code) in [
            (None, "token-missing"),
            (Some("Bearer not-a-token"), "token-malformed"),
            (Some(expired.as_str()), "token-expired"),
        ] {
            let answer = usher.ask(request, credential);
            upstream.saw_nothing();
            assert_eq!((answer.status, &*answer.code()), (401, code), "{request}");
            let challenge = answer.line("www-authenticate").unwrap();
            assert!(
                challenge.starts_with("Bearer realm=\"usher\""),
                "{challenge}"
            );
            assert_eq!(answer.line("allow"), None, "{request}");
        }
    }
}

#[test]
fn with_one_the_table_of_routes_is_no_secret() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    for (request, status, code, allow) in [
        ("GET /no/such/route", 404, "no-route", None),
        ("GET /v1/apps/web/", 404, "no-route", None),
        ("GET /V1/apps/web", 404, "no-route", None),
        ("GET /v1/apps/web/machines.json", 404, "no-route", None),
        (
            "get /v1/apps/web",
            405,
            "method-not-allowed",
            Some("DELETE, GET, HEAD"),
        ),
        (
            "OPTIONS /v1/apps/web",
            405,
            "method-not-allowed",
            Some("DELETE, GET, HEAD"),
        ),
        (
            "PATCH /v1/apps/web",
            405,
            "method-not-allowed",
            Some("DELETE, GET, HEAD"),
        ),
        (
            "DELETE /v1/apps/web/machines",
            405,
            "method-not-allowed",
            Some("GET, HEAD, POST"),
        ),
    ] {
        let answer = usher.ask(request, Some(&token));
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            (status, code),
            "{request}"
        );
        assert_eq!(answer.line("allow"), allow, "{request}");
    }
}

#[test]
fn a_host_that_no_route_has_is_misdirected() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address)
        .with("method: GET, path", "method: GET, host: api.test, path")
        .with("    method: GET\n", "    method: GET\n    host: api.test\n")
        .with("method: POST, path", "method: POST, host: api.test, path")
        .with(
            "    method: POST\n",
            "    method: POST\n    host: api.test\n",
        )
        .with("method: PUT, path", "method: PUT, host: api.test, path")
        .with(
            "method: DELETE, path",
            "method: DELETE, host: api.test, path",
        )
        .start();
    let token = usher.credential(&ORG);
    for (credential, status, code) in [
        (None, 401, "token-missing"),
        (Some(token.as_str()), 421, "misdirected"),
    ] {
        let answer = usher.ask("GET /v1/apps/web", credential);
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (status, code));
    }
    let mut peer = usher.connect();
    peer.send(format!(
        "GET /v1/apps/web HTTP/1.1\r\nhost: API.test:8443\r\nauthorization: {token}\r\n\r\n"
    ));
    assert_eq!(peer.answer().status, 200);
    assert_eq!(
        upstream.last().line("x-forwarded-host"),
        Some("API.test:8443")
    );
}

/// Targets that two readers could take for two different things.
const AMBIGUOUS: [&[u8]; 24] = [
    b"/v1/apps/web/../api",
    b"/v1/apps/web/.",
    b"/v1/apps/./web",
    b"/v1/apps/web/..",
    b"/v1/apps/%2e%2e/web",
    b"/v1/apps/%2E/web",
    b"/v1/apps/.%2e/web",
    b"/v1/apps//web",
    b"//v1/apps/web",
    b"/v1/apps/web//",
    b"/v1/apps/web%2Fmachines",
    b"/v1/apps/web%2fmachines",
    b"/v1/apps/web%5cmachines",
    b"/v1/apps/web%252Fmachines",
    b"/v1/apps/w%65b",
    b"/v1/apps/web\\machines",
    b"/v1/apps/web%00",
    b"/v1/apps?org_slug=acme%00",
    b"/v1/apps/web;role=admin",
    b"/v1/apps/web%3brole=admin",
    b"/v1/apps/web%",
    b"/v1/apps/web%zz",
    b"/v1/apps/w\xc3\xa9b",
    b"/v1/apps/web\xff",
];

#[test]
fn a_target_that_can_be_read_two_ways_ends_the_connection() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    for target in AMBIGUOUS {
        let shown = String::from_utf8_lossy(target);
        for credential in [None, Some(token.as_str())] {
            let line =
                credential.map_or_else(String::new, |token| format!("authorization: {token}\r\n"));
            let mut peer = usher.connect();
            let end = format!(" HTTP/1.1\r\nhost: usher.test\r\n{line}\r\n");
            // A second request, which must not be read as one any more.
            let next = format!("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n{line}\r\n");
            peer.send([b"GET ", target, end.as_bytes(), next.as_bytes()].concat());
            let answer = peer.answer();
            let after = peer.rest();
            upstream.saw_nothing();
            assert_eq!(answer.status, 400, "{shown}");
            assert!(after.is_empty(), "{shown}: the connection goes on");
            // Beyond ASCII the parser refuses before anybody can explain.
            if target.is_ascii() {
                assert_eq!(answer.code(), "ambiguous", "{shown}");
            }
        }
    }
}

#[test]
fn http2_is_no_way_around() {
    run(async {
        let upstream = Recorder::ok();
        let usher = World::before(upstream.address).start();
        let token = usher.credential(&ORG);
        let mut client = H2Client::cleartext(usher.address).await;
        for target in AMBIGUOUS {
            // What hyper's client will not even send is tested over HTTP/1.1.
            let Ok(target) = std::str::from_utf8(target) else {
                continue;
            };
            if !target.is_ascii()
                || target.parse::<http::Uri>().is_err()
                || target.starts_with("//")
            {
                continue;
            }
            let answer = client
                .ask(&format!("GET {target}"), Some(&token), &[])
                .await;
            upstream.saw_nothing();
            assert_eq!(answer.status(), 400, "{target}");
        }
    });
}

#[test]
fn an_unknown_name_is_told_only_where_names_are_public() {
    for (public, status, code) in [("true", 404, "unknown-name"), ("false", 403, "prohibited")] {
        let upstream = Recorder::ok();
        let usher = World::before(upstream.address)
            .with("public_names: true", format_args!("public_names: {public}"))
            .start();
        let token = usher.credential(&ORG);
        let ask = |request: &str| {
            let answer = usher.ask(request, Some(&token));
            upstream.saw_nothing();
            (answer.status, answer.code(), answer.detail())
        };
        let unknown = ask("GET /v1/apps/no-such-app");
        assert_eq!((unknown.0, &*unknown.1), (status, code));
        let unknown_org = ask("GET /v1/apps?org_slug=nobody");
        assert_eq!((unknown_org.0, &*unknown_org.1), (status, code));
        // Somebody else's name is a 403 in both, and where names are secret, the very same one.
        let foreign = ask("GET /v1/apps/shop");
        assert_eq!((foreign.0, &*foreign.1), (403, "prohibited"));
        assert_eq!(foreign == unknown, public == "false");
        let contradiction = ask("GET /v1/apps/web/machines/148e1ccc000001");
        assert_eq!(contradiction == unknown, public == "false");
    }
}

#[test]
fn the_query_is_part_of_what_is_judged() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    for request in [
        "GET /v1/apps/web?undeclared=1",
        "GET /v1/apps/web?_method=DELETE",
        "GET /v1/apps/web/machines?Region=ams",
        "GET /v1/apps/web/machines?metadatax=1",
        "GET /v1/apps",
        "GET /v1/apps?",
        "GET /v1/apps?app_role=x",
        "GET /v1/apps?org_slug=",
        "GET /v1/apps?org_slug=acme&org_slug=acme",
        "GET /v1/apps?org_slug=acme&org_slug=beta",
        "GET /v1/apps?org_slug=acme&ORG_SLUG=beta",
        "GET /v1/apps/web/machines?include_leases=maybe",
        "GET /v1/apps/web/machines?include_leases=true&include_leases=false",
        "GET /v1/apps/web/machines/not%20an%20id",
        "GET /v1/apps/not~an~app",
    ] {
        let answer = usher.ask(request, Some(&token));
        upstream.saw_nothing();
        assert_eq!(answer.status, 400, "{request}");
        let expected = match request.contains('%') {
            true => "ambiguous",
            false => "bad-field",
        };
        assert_eq!(answer.code(), expected, "{request}");
    }
    let permitted = "GET /v1/apps/web/machines?region=ams&metadata.role=a%20b&region=fra";
    let answer = usher.ask(permitted, Some(&token));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        upstream.last().request_line(),
        format!("{permitted} HTTP/1.1")
    );
}

#[test]
fn each_of_several_accesses_must_be_permitted() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let web = usher.token(
        &Kind::Deploy {
            org: 2001,
            app: 3001,
        },
        hour(),
    );
    let api = usher.token(
        &Kind::Deploy {
            org: 2001,
            app: 3002,
        },
        hour(),
    );
    let readonly = usher.token(&Kind::Readonly { org: 2001 }, hour());
    let fork = "POST /v1/apps/web/volumes?from=api";
    let with_leases = "GET /v1/apps/web/machines?include_leases=true";
    for (request, tokens, decides) in [
        (
            fork,
            vec![&web],
            "3001 (rwcdC): the request is for another app",
        ),
        (
            fork,
            vec![&api],
            "3002 (rwcdC): the request is for another app",
        ),
        (fork, vec![&readonly], "c is not permitted"),
        (fork, vec![&api, &readonly], "c is not permitted"),
        (with_leases, vec![&readonly], "C is not permitted"),
    ] {
        let answer = usher.ask(request, Some(&header(&tokens)));
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));
        let detail = answer.detail();
        assert!(detail.contains(decides), "{request}: {detail}");
    }
    for (request, tokens) in [
        (fork, vec![&web, &api]),
        (fork, vec![&api, &web]),
        (fork, vec![&readonly, &web]),
        (with_leases, vec![&web]),
        (
            "GET /v1/apps/web/machines?include_leases=false",
            vec![&readonly],
        ),
    ] {
        let answer = usher.ask(request, Some(&header(&tokens)));
        assert_eq!(answer.status, 200, "{request}: {}", answer.text());
    }
    assert_eq!(upstream.requests().len(), 5);
}

#[test]
fn a_public_route_takes_no_token_and_tells_the_upstream_of_nobody() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    for credential in [None, Some("Bearer rubbish"), Some(token.as_str())] {
        let answer = usher.ask("GET /healthz", credential);
        assert_eq!(answer.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.line("authorization"), None);
        assert_eq!(seen.line("x-usher-token-id"), None);
        assert_eq!(seen.line("x-usher-org"), None);
    }
}

//! Routes that are judged by their body: what is judged is what is forwarded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use usher::authority::Kind;
use usher::macaroon::Command;

use crate::support::{Recorder, Usher, World};

const ROUTES: &str = r#"routes:
  - name: machines.exec
    method: POST
    path: "/v1/apps/{app}/machines/{machine}/exec"
    access:
      action: wC
      app: "{app}"
      machine: "{machine}"
      command: { body: /command, shell: /cmd, stdin: /stdin, keys: [ timeout ] }
    body_limit: 1KiB
    upstream: machines
  - { name: releases.create, method: POST, path: /api/v1/releases, access: { action: w, app: { body: /app_name } }, upstream: machines }
  - name: ip.assign
    method: POST
    path: "/v1/apps/{app}/ip_assignments"
    access:
      - { action: w, app: [ "{app}", { body: /app_name } ] }
      - { when: { body: /org_slug, other: org }, action: w, org: { body: /org_slug }, app: zero }
    upstream: machines
  - { name: tags, method: GET, path: "/v2/{app}/tags/list", basic: true, access: { action: r, app: "{app}", app_feature: images }, upstream: machines }
  - name: settings
    method: GET
    hosts: [ "{builder_app}.builder.test" ]
    path: /settings
    basic: true
    access:
      - { action: w, org: { owner: "{builder_app}" }, feature: builder }
      - { action: w, app: { basic: user } }
    upstream: machines
  - { name: pos, method: GET, path: /pos, access: { action: r, org: token, feature: litefs-cloud, cluster: { query: cluster, else: token } }, upstream: machines }
  - { name: orgs.list, method: GET, path: /api/v1/organizations, access: { action: r, org: tokens }, upstream: machines }
  - { name: me, method: GET, path: /me, access: user, upstream: machines }
  - { name: internal, method: GET, path: /internal, access: denied, upstream: machines }
  - { name: oidc, method: POST, path: /oidc, access: { action: r, org: source, app: source, machine: source, machine_feature: oidc }, upstream: machines }
"#;

fn start(upstream: &Recorder) -> Usher {
    World::before(upstream.address)
        .with("routes:\n", ROUTES)
        .start()
}

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// Posts a body, with further header lines.
#[track_caller]
fn post(usher: &Usher, target: &str, token: &str, lines: &str, body: &str) -> (u16, String) {
    let mut peer = usher.connect();
    let length = body.len();
    peer.send(format!(
        "POST {target} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
         content-length: {length}\r\n{lines}\r\n{body}"
    ));
    let answer = peer.answer();
    let code = match answer.status {
        200 => String::new(),
        _ => answer.code().to_owned(),
    };
    (answer.status, code)
}

const JSON: &str = "content-type: application/json\r\n";
const EXEC: &str = "/v1/apps/web/machines/148e1aaa000001/exec";

#[test]
fn the_command_that_was_judged_is_the_one_that_is_forwarded() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).into()).collect());
    let token = usher.credential(&Kind::MachineExec {
        org: 2001,
        app: 3001,
        commands: vec![
            Command {
                args: words(&["uptime"]),
                exact: true,
            },
            Command {
                args: words(&["ls", "-l"]),
                exact: false,
            },
        ],
    });
    for (body, expected) in [
        (r#"{"cmd":"uptime -p"}"#, (403, "prohibited")),
        (r#"{"cmd":"sh -c id"}"#, (403, "prohibited")),
        (r#"{"cmd":"uptime","stdin":"x"}"#, (403, "prohibited")),
        (
            r#"{"cmd":"uptime","command":["sh"]}"#,
            (400, "body-invalid"),
        ),
        (r#"{"cmd":"uptime","cmd":"sh"}"#, (400, "body-invalid")),
        (r#"{"cmd":"uptime","Cmd":"sh"}"#, (400, "body-invalid")),
        (r#"{"cmd":"ls -l 'x"}"#, (400, "body-invalid")),
        (r#"{"cmd":"uptime"} {"cmd":"sh"}"#, (400, "body-invalid")),
        (
            r#"{"cmd":"uptime","entrypoint":"sh"}"#,
            (400, "body-invalid"),
        ),
        (r#"[{"cmd":"uptime"}]"#, (400, "body-invalid")),
        ("", (400, "body-invalid")),
    ] {
        let (status, code) = post(&usher, EXEC, &token, JSON, body);
        upstream.saw_nothing();
        assert_eq!((status, code.as_str()), expected, "{body}");
    }
    for lines in [
        "",
        "content-type: text/plain\r\n",
        "content-type: application/json; charset=utf-16\r\n",
        "content-type: application/json\r\ncontent-encoding: gzip\r\n",
    ] {
        let (status, code) = post(&usher, EXEC, &token, lines, r#"{"cmd":"uptime"}"#);
        upstream.saw_nothing();
        assert_eq!((status, code.as_str()), (415, "body-media"), "{lines}");
    }
    let long = format!(r#"{{"cmd":"uptime","timeout":{}}}"#, "1".repeat(1_024));
    let (status, code) = post(&usher, EXEC, &token, JSON, &long);
    upstream.saw_nothing();
    assert_eq!((status, code.as_str()), (413, "body-too-large"));

    for (body, forwarded) in [
        (r#"{"cmd":"uptime"}"#, r#"{"command":["uptime"]}"#),
        (
            r#"{ "timeout": 5, "command": [ "ls", "-l", "/tmp" ] }"#,
            r#"{"command":["ls","-l","/tmp"],"timeout":5}"#,
        ),
    ] {
        assert_eq!(post(&usher, EXEC, &token, JSON, body).0, 200);
        let received = upstream.last();
        assert_eq!(String::from_utf8(received.body.clone()).unwrap(), forwarded);
        let length = received.line("content-length").unwrap();
        assert_eq!(length, forwarded.len().to_string());
    }
}

#[test]
fn a_body_in_chunks_is_judged_and_forwarded_as_a_whole() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let token = usher.credential(&DEPLOY);
    let ask = |chunks: &[&str]| {
        let mut peer = usher.connect();
        peer.send(format!(
            "POST /api/v1/releases HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
             expect: 100-continue\r\ntransfer-encoding: chunked\r\n{JSON}\r\n"
        ));
        for chunk in chunks {
            peer.send(format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        peer.send("0\r\n\r\n");
        let first = peer.answer();
        match first.status {
            100 => peer.answer().status,
            status => status,
        }
    };
    assert_eq!(ask(&[r#"{"app_na"#, r#"me":"shop"}"#]), 403);
    upstream.saw_nothing();
    assert_eq!(ask(&[r#"{"app_na"#, r#"me":"web", "x":1.0}"#]), 200);
    let received = upstream.last();
    assert_eq!(received.body, br#"{"app_name":"web", "x":1.0}"#);
    assert_eq!(received.line("expect"), None);
    assert_eq!(received.line("transfer-encoding"), None);
}

#[test]
fn the_body_is_not_read_before_the_token_has_verified() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let mut peer = usher.connect();
    // Never sent: an answer that waited for it would not come.
    peer.send(format!(
        "POST {EXEC} HTTP/1.1\r\nhost: usher.test\r\ncontent-length: 100\r\n{JSON}\r\n"
    ));
    let answer = peer.answer();
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (401, "token-missing"));
}

#[test]
fn what_path_and_body_name_must_agree() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let token = usher.credential(&DEPLOY);
    let target = "/v1/apps/web/ip_assignments";
    for (body, expected) in [
        (r#"{"app_name":"api"}"#, (400, "bad-field")),
        (r#"{"org_slug":"beta"}"#, (403, "prohibited")),
        (r#"{"org_slug":["beta"]}"#, (400, "bad-field")),
    ] {
        let (status, code) = post(&usher, target, &token, JSON, body);
        upstream.saw_nothing();
        assert_eq!((status, code.as_str()), expected, "{body}");
    }
    for body in [
        "",
        r#"{"type":"v6"}"#,
        r#"{"org_slug":"acme","app_name":"web"}"#,
    ] {
        let lines = if body.is_empty() { "" } else { JSON };
        assert_eq!(post(&usher, target, &token, lines, body).0, 200, "{body}");
        assert_eq!(upstream.last().body, body.as_bytes());
    }
}

#[test]
fn a_token_may_be_a_password_where_the_route_says_so() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let token = usher.credential(&DEPLOY);
    let basic = |user: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{token}")));
    let builder = |user: &str| {
        let mut peer = usher.connect();
        peer.send(format!(
            "GET /settings HTTP/1.1\r\nhost: api.builder.test\r\nauthorization: {}\r\n\r\n",
            basic(user)
        ));
        peer.answer()
    };
    let answer = usher.ask("GET /v1/apps/web", Some(&basic("x")));
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (401, "token-malformed"));
    let refused = usher.ask("GET /v2/web/tags/list", None);
    upstream.saw_nothing();
    assert_eq!(refused.status, 401);
    let challenge = refused.line("www-authenticate").unwrap();
    assert!(challenge.starts_with("Basic realm="), "{challenge}");
    let refused = builder("shop");
    upstream.saw_nothing();
    assert_eq!(refused.status, 403);

    assert_eq!(
        usher.ask("GET /v2/web/tags/list", Some(&basic("x"))).status,
        200
    );
    assert_eq!(upstream.last().line("authorization"), None);
    assert_eq!(usher.ask("GET /v2/web/tags/list", Some(&token)).status, 200);
    assert_eq!(builder("web").status, 200);
}

#[test]
fn what_the_request_leaves_out_is_the_tokens_own() {
    let upstream = Recorder::ok();
    let usher = start(&upstream);
    let cluster = usher.credential(&Kind::LitefsCloud {
        org: 2002,
        cluster: "primary".to_owned(),
    });
    let org = usher.credential(&Kind::Org { org: 2001 });
    for (request, token) in [
        ("GET /pos", &org),
        ("GET /pos?cluster=other", &cluster),
        ("GET /me", &org),
        ("GET /internal", &org),
        ("POST /oidc", &org),
    ] {
        let answer = usher.ask(request, Some(token));
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            (403, "prohibited"),
            "{request}"
        );
    }
    for request in ["GET /pos", "GET /pos?cluster=primary"] {
        assert_eq!(usher.ask(request, Some(&cluster)).status, 200, "{request}");
        assert_eq!(upstream.last().line("x-usher-org"), Some("2002"));
    }
    // Only where the request names none does usher say which one the token is for.
    assert_eq!(upstream.last().line("x-usher-cluster"), None);
    assert_eq!(usher.ask("GET /pos", Some(&cluster)).status, 200);
    assert_eq!(upstream.last().line("x-usher-cluster"), Some("primary"));
    assert_eq!(usher.ask("GET /pos?cluster=any", Some(&org)).status, 200);

    // A list is about every organization of the bearer that may be read.
    let both = format!("{org},{}", cluster.trim_start_matches("FlyV1 "));
    let beta = usher.credential(&Kind::Readonly { org: 2002 });
    let three = format!("{both},{}", beta.trim_start_matches("FlyV1 "));
    assert_eq!(
        usher.ask("GET /api/v1/organizations", Some(&three)).status,
        200
    );
    assert_eq!(upstream.last().line("x-usher-org"), Some("2001, 2002"));
}

#[test]
fn what_is_left_to_the_token_is_left_to_one() {
    let upstream = Recorder::ok();
    let routes = r#"routes:
  - name: clusters.delete
    method: DELETE
    path: /clusters
    access:
      - { action: d, org: token, feature: litefs-cloud, cluster: { query: cluster } }
      - { action: d, org: token, feature: litefs-cloud, cluster: zero }
    upstream: machines
"#;
    let world = World::before(upstream.address).with("routes:\n", routes);
    let usher = world.start();
    let cluster = |org, cluster: &str| {
        usher.credential(&Kind::LitefsCloud {
            org,
            cluster: cluster.to_owned(),
        })
    };
    // One may delete acme's cluster if it could delete all, the other all of beta's.
    let (one, all) = (cluster(2001, "prod"), cluster(2002, ""));
    let answer = usher.ask("DELETE /clusters?cluster=prod", Some(&one));
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));
    // Together they delete beta's, and the upstream is told so.
    let both = format!("{one},{}", all.trim_start_matches("FlyV1 "));
    let answer = usher.ask("DELETE /clusters?cluster=prod", Some(&both));
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.last().line("x-usher-org"), Some("2002"));
}

#[test]
fn a_users_token_that_was_narrowed_does_not_speak_for_the_user() {
    use usher::macaroon::{Action, Caveat, Limits};

    let upstream = Recorder::ok();
    let login = crate::support::ThirdParty {
        location: "https://login.test",
        shared: crate::support::distinct(5),
    };
    let usher = World::before(upstream.address)
        .with("routes:\n", ROUTES)
        .with(
            "  seal_key:",
            "  third_parties: [ { location: https://login.test, key: { file: login.key } } ]\n  seal_key:",
        )
        .file("login.key", STANDARD.encode(login.shared))
        .start();
    let everything = Caveat::Organization {
        id: 2001,
        mask: Action::ALL,
    };
    let token = login.restrict(&usher.issue(&[everything]), 1);
    let discharge = login.discharge(1, &[Caveat::FlyioUserId(71)]);
    let narrowed = |caveat| token.attenuate(&[caveat], &Limits::DEFAULT).unwrap();
    for caveat in [
        Caveat::Action(Action::READ),
        Caveat::Organization {
            id: 2001,
            mask: Action::READ,
        },
        Caveat::Mutations(Some(vec!["setSecrets".into()])),
        Caveat::Apps(usher::macaroon::Resources::new([(3001, Action::ALL)])),
    ] {
        let header = crate::support::header(&[&narrowed(caveat.clone()), &discharge]);
        let answer = usher.ask("GET /me", Some(&header));
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            (403, "prohibited"),
            "{caveat:?}"
        );
    }
    let whole = crate::support::header(&[&token, &discharge]);
    assert_eq!(usher.ask("GET /me", Some(&whole)).status, 200);
    assert_eq!(upstream.last().line("x-usher-user"), Some("71"));
}

#[test]
fn a_body_beside_a_judged_query_cannot_say_something_else() {
    let upstream = Recorder::ok();
    let routes = r#"routes:
  - { name: tx, method: POST, path: /db/tx, access: { action: w, org: token, feature: litefs-cloud, cluster: { query: cluster } }, upstream: machines }
"#;
    let world = World::before(upstream.address).with("routes:\n", routes);
    let usher = world.start();
    let token = usher.credential(&Kind::Org { org: 2001 });
    let target = "/db/tx?cluster=mine";
    for media in [
        "application/json",
        "application/json; charset=utf-8",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",
    ] {
        let line = format!("content-type: {media}\r\n");
        let (status, code) = post(&usher, target, &token, &line, r#"{"cluster":"theirs"}"#);
        upstream.saw_nothing();
        assert_eq!((status, &*code), (400, "bad-field"), "{media}");
    }
    let line = "content-type: application/octet-stream\r\n";
    assert_eq!(post(&usher, target, &token, line, "bytes").0, 200);
}

#[test]
fn nobody_borrows_the_credential_of_usher_on_a_public_route() {
    let upstream = Recorder::ok();
    let plain = format!("urls: [ \"http://{}\" ]", upstream.address);
    let credential = "credential: { header: x-service-key, value: { file: service.key } }";
    let usher = World::before(upstream.address)
        .with(&plain, format!("{plain}, {credential}"))
        .file("service.key", "s3rvice")
        .start();
    let token = usher.credential(&DEPLOY);
    assert_eq!(usher.ask("GET /healthz", None).status, 200);
    assert_eq!(upstream.last().line("x-service-key"), None);
    assert_eq!(usher.ask("GET /v1/apps/web", Some(&token)).status, 200);
    assert_eq!(upstream.last().line("x-service-key"), Some("s3rvice"));
}

/// On the platform's own routes: a deploy token of web, and things of other apps beside what it may.
#[test]
fn what_names_another_apps_things_is_judged_wherever_it_is_named() {
    let upstream = Recorder::ok();
    let usher = World::fly(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let send = |host: &str, request: &str, body: &str| {
        let lines = match body {
            "" => String::new(),
            body => format!("{JSON}content-length: {}\r\n", body.len()),
        };
        let mut peer = usher.connect();
        peer.send(format!(
            "{request} HTTP/1.1\r\nhost: {host}\r\nauthorization: {token}\r\n{lines}\r\n{body}"
        ));
        peer.answer().status
    };
    let machine = "POST /v1/apps/web/machines/148e1aaa000001";
    let image = |place: &str| place.replace('@', "registry.fly.io/vault:latest");
    for (host, request, body, status) in [
        ("api.machines.dev", machine, image(r#"{"config":{"image":"@"}}"#), 403),
        (
            "api.machines.dev",
            machine,
            image(r#"{"config":{"containers":[{"files":[{"image_config":"@"}]}]}}"#),
            403,
        ),
        (
            "api.fly.io",
            "POST /api/v1/releases",
            image(r#"{"app_name":"web","image":"@"}"#),
            403,
        ),
        ("registry.fly.io", "POST /v2/web/blobs/uploads/?mount=aa", String::new(), 400),
        ("registry.fly.io", "POST /v2/web/blobs/uploads/?mount=aa&from=api", String::new(), 403),
        (
            "api.fly.io",
            "POST /graphql",
            r#"{"query":"mutation {createVolume(input: {appId: \"web\", snapshotId: \"vs_x\"}) {x}}"}"#
                .to_owned(),
            404,
        ),
        (
            "api.fly.io",
            "POST /graphql",
            r#"{"query":"mutation {stopMachine(input: {appId: \"web\", id: \"148e9fff000009\"}) {x}}"}"#
                .to_owned(),
            404,
        ),
    ] {
        let got = send(host, request, &body);
        upstream.saw_nothing();
        assert_eq!(got, status, "{request} {body}");
    }
    let own = r#"{"config":{"image":"registry.fly.io/web:v1"}}"#;
    assert_eq!(send("api.machines.dev", machine, own), 200);
    let own = "POST /v2/web/blobs/uploads/?mount=aa&from=web";
    assert_eq!(send("registry.fly.io", own, ""), 200);
}

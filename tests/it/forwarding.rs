//! What crosses usher under a permit, and what does not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use usher::authority::Kind;
use usher::macaroon::{Action, Caveat};

use crate::support::{Received, Recorder, ThirdParty, World, distinct, header, hour};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// A third party whose attestations usher trusts.
const LOGIN: ThirdParty = ThirdParty {
    location: "https://login.test",
    shared: distinct(5),
};

fn names(received: &Received) -> Vec<String> {
    let lines = received.head.lines().skip(1);
    let mut names: Vec<String> = lines
        .map(|line| line.split_once(':').unwrap().0.to_ascii_lowercase())
        .collect();
    names.sort();
    names
}

#[test]
fn the_upstream_is_told_who_asks_and_nothing_that_the_client_made_up() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address)
        .with(
            "  seal_key:",
            "  third_parties: [ { location: https://login.test, key: { file: login.key } } ]\n  seal_key:",
        )
        .file("login.key", STANDARD.encode(LOGIN.shared))
        .start();
    let token = LOGIN.restrict(&usher.token(&DEPLOY, hour()), 1);
    let discharge = LOGIN.discharge(1, &[Caveat::FlyioUserId(77)]);
    let answer = usher.ask_with(
        "GET /v1/apps/web/machines?region=%61ms&metadata.a=%2F..%2F&region=",
        Some(&header(&[&token, &discharge])),
        "accept: a/b\r\nX-Usher-Org: 1\r\nx-usher-user: 1\r\nX-USHER-ANYTHING: 1\r\n\
         x-forwarded-for: 6.6.6.6\r\nX-Forwarded-Client-Cert: 6\r\nforwarded: for=6.6.6.6\r\n\
         x-real-ip: 6.6.6.6\r\nx-original-url: /other\r\nX-HTTP-Method-Override: DELETE\r\n\
         x-host: other.test\r\nconnection: keep-alive, te\r\n\
         te: gzip, trailers\r\nkeep-alive: timeout=6\r\nproxy-authorization: Bearer 6\r\n\
         traceparent: 00-1-2-3\r\n",
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = upstream.last();
    assert_eq!(
        seen.request_line(),
        "GET /v1/apps/web/machines?region=%61ms&metadata.a=%2F..%2F&region= HTTP/1.1"
    );
    assert_eq!(
        names(&seen),
        [
            "accept",
            "host",
            "te",
            "traceparent",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-usher-app",
            "x-usher-decision",
            "x-usher-org",
            "x-usher-token-id",
            "x-usher-user",
        ]
    );
    let uuid = token.uuid().to_string();
    let address = upstream.address.to_string();
    for (name, value) in [
        ("host", address.as_str()),
        ("te", "trailers"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "usher.test"),
        ("x-forwarded-proto", "http"),
        ("x-usher-app", "3001"),
        ("x-usher-org", "2001"),
        ("x-usher-token-id", uuid.as_str()),
        ("x-usher-user", "77"),
    ] {
        assert_eq!(seen.line(name), Some(value), "{name}");
    }
    let decision = seen.line("x-usher-decision").unwrap();
    assert!(decision.len() == 24 && decision.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn an_attestation_of_a_stranger_names_no_user() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = LOGIN.restrict(&usher.token(&DEPLOY, hour()), 1);
    let discharge = LOGIN.discharge(1, &[Caveat::FlyioUserId(77)]);
    let answer = usher.ask("GET /v1/apps/web", Some(&header(&[&token, &discharge])));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.last().line("x-usher-user"), None);
}

#[test]
fn only_a_trusted_peer_says_who_is_behind_it() {
    let claims = "x-forwarded-for: 6.6.6.6, 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\
         x-forwarded-host: other.test\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\n";
    for (trusted, address, scheme) in [
        ("", "127.0.0.1", "http"),
        ("trusted_proxies: []", "127.0.0.1", "http"),
        (
            "trusted_proxies: [ 10.0.0.0/8, fd00::/8 ]",
            "127.0.0.1",
            "http",
        ),
        ("trusted_proxies: [ 127.0.0.0/8 ]", "192.0.2.1", "https"),
        (
            "trusted_proxies: [ 127.0.0.1, 192.0.2.0/24 ]",
            "6.6.6.6",
            "https",
        ),
    ] {
        let upstream = Recorder::ok();
        let usher = World::before(upstream.address).and(trusted).start();
        let token = usher.credential(&DEPLOY);
        let answer = usher.ask_with("GET /v1/apps/web", Some(&token), claims);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = upstream.last();
        assert_eq!(seen.line("x-forwarded-for"), Some(address), "{trusted}");
        assert_eq!(seen.line("x-forwarded-proto"), Some(scheme), "{trusted}");
        // The host that was judged is the one that is told, whoever asks.
        assert_eq!(seen.line("x-forwarded-host"), Some("usher.test"));
        let once = |name: &str| names(&seen).iter().filter(|n| *n == name).count();
        assert_eq!((once("x-forwarded-for"), once("x-forwarded-proto")), (1, 1));
        assert_eq!((once("forwarded"), once("x-real-ip")), (0, 0), "{trusted}");
    }
}

#[test]
fn names_that_could_pass_for_ours_are_refused() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for line in [
        "X_Usher_Org: 2003",
        "X.Usher.Org: 2003",
        "X!Usher!Org: 2003",
        "x_forwarded_for: 6.6.6.6",
        "connection: x-usher-org",
        "Connection: keep-alive, X-Usher-Token-Id",
        "connection: authorization",
        "connection: close, x-forwarded-for",
    ] {
        let lines = format!("{line}\r\n");
        let answer = usher.ask_with("GET /v1/apps/web", Some(&token), &lines);
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "ambiguous"),
            "{line}"
        );
        assert_eq!(answer.line("connection"), Some("close"), "{line}");
    }
}

#[test]
fn a_second_credential_is_no_second_chance() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for lines in [
        format!("authorization: {token}\r\n"),
        "authorization: Bearer other\r\n".to_owned(),
        "Authorization:\r\n".to_owned(),
    ] {
        let answer = usher.ask_with("GET /v1/apps/web", Some(&token), &lines);
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "ambiguous"),
            "{lines}"
        );
    }
}

#[test]
fn the_upstream_gets_a_credential_of_its_own_instead() {
    for (header, value) in [
        ("Authorization", "Bearer of-the-upstream"),
        ("X-Api-Key", "of-the-upstream"),
    ] {
        let upstream = Recorder::ok();
        let usher = World::before(upstream.address)
            .with(
                "- { name: machines, ",
                format_args!(
                    "- {{ name: machines, credential: {{ header: {header}, value: {{ file: secret }} }}, "
                ),
            )
            .file("secret", format!("{value}\n"))
            .start();
        let token = usher.credential(&DEPLOY);
        let made_up = "x-api-key: of-the-client\r\n";
        let answer = usher.ask_with("GET /v1/apps/web", Some(&token), made_up);
        assert_eq!(answer.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.line(header), Some(value));
        let count = |name: &str| names(&seen).iter().filter(|n| *n == name).count();
        assert_eq!(
            count("authorization"),
            usize::from(header == "Authorization")
        );
        assert_eq!(count("x-api-key"), 1);
        assert!(!seen.head.contains("fm2_"), "{}", seen.head);
        // It does not come back.
        assert!(!answer.head.contains("of-the-upstream"), "{}", answer.head);
    }
}

#[test]
fn a_response_loses_what_concerned_the_upstream_connection() {
    let upstream = Recorder::answering(|_| {
        b"HTTP/1.1 207 Multi-Status\r\nconnection: keep-alive, X-Internal\r\n\
          keep-alive: timeout=5\r\nx-internal: 1\r\nproxy-authenticate: Basic\r\n\
          upgrade: h2c\r\nfly-request-id: r1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
          content-length: 2\r\n\r\nok"
            .to_vec()
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let answer = usher.ask("GET /v1/apps/web", Some(&token));
    assert_eq!(answer.status, 207);
    for gone in [
        "connection",
        "keep-alive",
        "x-internal",
        "proxy-authenticate",
        "upgrade",
    ] {
        assert_eq!(answer.line(gone), None, "{gone}: {}", answer.head);
    }
    assert_eq!(answer.line("fly-request-id"), Some("r1"));
    assert_eq!(answer.head.matches("set-cookie: ").count(), 2);
    assert_eq!(answer.text(), "ok");
}

#[test]
fn requests_of_different_bearers_on_one_connection_are_judged_apart() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let good = usher.credential(&DEPLOY);
    let other = usher.credential(&Kind::Deploy {
        org: 2001,
        app: 3002,
    });
    let ask = |credential: &str| {
        format!("GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n{credential}\r\n")
    };
    let mut peer = usher.connect();
    // All at once: what was permitted for one must not carry over to the next.
    peer.send(
        [
            ask(&format!("authorization: {other}\r\n")),
            ask(&format!("authorization: {good}\r\n")),
            ask(""),
            ask(&format!("authorization: {good}\r\n")),
            ask(&format!("authorization: {other}\r\n")),
        ]
        .concat(),
    );
    let statuses: Vec<u16> = (0..5).map(|_| peer.answer().status).collect();
    assert_eq!(statuses, [403, 200, 401, 200, 403]);
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 2));
}

#[test]
fn ten_megabytes_arrive_intact_both_ways() {
    // No two blocks are alike, so that a lost or repeated one shows.
    let body: Vec<u8> = (0_u32..10 * 1024 * 1024 / 4)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let upstream = Recorder::answering(|received| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            received.body.len()
        );
        [head.as_bytes(), &received.body].concat()
    });
    let usher = World::before(upstream.address).start();
    let token = header(&[&usher.issue(&[Caveat::Organization {
        id: 2001,
        mask: Action::ALL,
    }])]);
    let mut peer = usher.connect();
    peer.send(format!(
        "POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    ));
    peer.send(&body);
    let answer = peer.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "the body came back changed");
    assert!(upstream.last().body == body, "the body arrived changed");
    // The same in chunks, on the same connection.
    peer.send(format!(
        "POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    ));
    for chunk in body.chunks(1_000_000) {
        peer.send(format!("{:x}\r\n", chunk.len()));
        peer.send(chunk);
        peer.send("\r\n");
    }
    peer.send("0\r\n\r\n");
    assert!(
        peer.answer().body == body,
        "the chunked body came back changed"
    );
}

#[test]
fn a_location_on_the_upstream_leads_back_through_usher() {
    let upstream = Recorder::answering(|received| {
        let host = received.line("host").unwrap();
        format!(
            "HTTP/1.1 202 Accepted\r\nlocation: http://{host}/v2/web/blobs/uploads/1?_state=a\r\n\
             content-length: 0\r\n\r\n"
        )
        .into_bytes()
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&Kind::Org { org: 2001 });
    let answer = usher.ask("POST /v1/apps/web/deploys", Some(&token));
    assert_eq!(answer.status, 202);
    let expected = "/v2/web/blobs/uploads/1?_state=a";
    assert_eq!(answer.line("location"), Some(expected));
}

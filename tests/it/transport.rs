//! The same decisions over TLS and HTTP/2, towards either side.

use bytes::Bytes;
use http::{Method, Version};
use hyper::body::Frame;
use usher::authority::Kind;

use crate::support::{
    H2Client, H2Upstream, Identity, Recorder, Usher, World, collect, fed, run, trailers,
};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_client_over_tls_chooses_its_version_by_alpn() {
    let (upstream, identity) = (Recorder::ok(), Identity::new());
    let usher = World::before(upstream.address).secured(&identity).start();
    let token = usher.credential(&DEPLOY);
    for (offered, settled) in [
        (&[][..], None),
        (&["http/1.1"][..], Some("http/1.1")),
        (&["http/1.1", "h2"][..], Some("h2")),
        (&["h2"][..], Some("h2")),
    ] {
        let (mut peer, got) = identity.connect(usher.address, offered);
        assert_eq!(got.as_deref(), settled, "{offered:?}");
        if settled == Some("h2") {
            continue;
        }
        let ask = |app: &str| {
            format!(
                "GET /v1/apps/{app} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\r\n"
            )
        };
        let before = upstream.requests().len();
        peer.send(ask("api"));
        assert_eq!(peer.answer().status, 403);
        assert_eq!(upstream.requests().len(), before);
        peer.send(ask("web"));
        assert_eq!(peer.answer().text(), "ok");
        assert_eq!(upstream.last().line("x-forwarded-proto"), Some("https"));
    }
}

/// Asks for what is permitted and for what is not.
async fn exchange(mut client: H2Client, upstream: &Recorder, usher: &Usher) {
    let token = usher.credential(&DEPLOY);
    let before = upstream.requests().len();
    for (request, credential, status) in [
        ("GET /v1/apps/web", None, 401),
        ("GET /v1/apps/api", Some(token.as_str()), 403),
        ("PATCH /v1/apps/web", Some(token.as_str()), 405),
    ] {
        let answer = client.ask(request, credential, &[]).await;
        assert_eq!(upstream.requests().len(), before, "{request}");
        assert_eq!(answer.status(), status, "{request}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let target = "GET /v1/apps/web/machines?region=%61ms";
    let answer = client
        .ask(
            target,
            Some(&token),
            &[("x-usher-org", "1"), ("cookie", "a=1")],
        )
        .await;
    assert_eq!(answer.status(), 200);
    let (body, _) = collect(answer.into_body()).await;
    assert_eq!(body, "ok");
    let seen = upstream.last();
    assert_eq!(seen.request_line(), format!("{target} HTTP/1.1"));
    assert_eq!(seen.line("x-usher-org"), Some("2001"));
    assert_eq!(seen.line("x-forwarded-host"), Some("usher.test"));
    assert_eq!(seen.line("authorization"), None);
}

#[test]
fn http2_is_spoken_over_tls_and_by_prior_knowledge() {
    run(async {
        let (upstream, identity) = (Recorder::ok(), Identity::new());
        let plain = World::before(upstream.address).start();
        exchange(H2Client::cleartext(plain.address).await, &upstream, &plain).await;
        let secured = World::before(upstream.address).secured(&identity).start();
        let client = H2Client::secured(secured.address, &identity).await;
        exchange(client, &upstream, &secured).await;
        assert_eq!(upstream.last().line("x-forwarded-proto"), Some("https"));
    });
}

#[test]
fn an_upstream_over_tls_is_trusted_by_its_roots_only() {
    let (identity, stranger) = (Identity::new(), Identity::new());
    let upstream = Recorder::secured(&identity, |_| OK.to_vec());
    let port = upstream.address.port();
    let world = |ca: &Identity| {
        let instead = format!(
            "[ \"https://localhost:{port}\" ], ca: {}",
            ca.certificate.display()
        );
        let url = format!("[ \"http://{}\" ]", upstream.address);
        World::before(upstream.address).with(&url, instead)
    };
    let usher = world(&stranger).start();
    let answer = usher.ask("GET /v1/apps/web", Some(&usher.credential(&DEPLOY)));
    assert!(upstream.requests().is_empty(), "a stranger saw the request");
    assert_eq!((answer.status, &*answer.code()), (502, "upstream-connect"));

    let usher = world(&identity).start();
    let answer = usher.ask("GET /v1/apps/web", Some(&usher.credential(&DEPLOY)));
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    let host = format!("localhost:{port}");
    assert_eq!(upstream.last().line("host"), Some(&*host));
}

/// A world whose only upstream speaks HTTP/2.
fn http2_world(upstream: &H2Upstream, identity: Option<&Identity>) -> World {
    let url = format!("[ \"http://{}\" ]", upstream.address);
    let port = upstream.address.port();
    let instead = match identity {
        None => format!("{url}, protocol: http2"),
        Some(identity) => format!(
            "[ \"https://localhost:{port}\" ], ca: {}, protocol: http2",
            identity.certificate.display()
        ),
    };
    World::before(upstream.address).with(&url, instead)
}

#[test]
fn an_http2_upstream_gets_streams_frame_by_frame_with_their_trailers() {
    run(async {
        let identity = Identity::new();
        let upstreams = [
            (H2Upstream::cleartext().await, None),
            (H2Upstream::secured(&identity).await, Some(&identity)),
        ];
        for (upstream, identity) in upstreams {
            let usher = http2_world(&upstream, identity).start();
            let token = usher.credential(&DEPLOY);
            let mut client = H2Client::cleartext(usher.address).await;
            let refused = client
                .ask("POST /v1/apps/api/deploys", Some(&token), &[])
                .await;
            assert!(upstream.heads().is_empty());
            assert_eq!(refused.status(), 403);

            let (feed, body) = fed();
            let request = client.request("POST /v1/apps/web/deploys", Some(&token), &[], body);
            feed.send(Frame::data(Bytes::from("one"))).await.unwrap();
            let mut response = client.send(request).await;
            assert_eq!(response.status(), 200);
            // The echo of the first part is back before the second is sent.
            let frame = http_body_util::BodyExt::frame(response.body_mut()).await;
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "one");
            feed.send(Frame::data(Bytes::from("two"))).await.unwrap();
            feed.send(trailers(&[("x-sum", "9"), ("x-usher-org", "1")]))
                .await
                .unwrap();
            drop(feed);
            let (rest, last) = collect(response.into_body()).await;
            assert_eq!(rest, "two");
            let last = last.unwrap();
            assert_eq!((last.len(), &last["x-sum"]), (1, &"9".parse().unwrap()));

            let heads = upstream.heads();
            assert_eq!(heads.len(), 1);
            let head = &heads[0];
            assert_eq!(
                (head.version, &head.method),
                (Version::HTTP_2, &Method::POST)
            );
            assert_eq!(head.uri.path_and_query().unwrap(), "/v1/apps/web/deploys");
            assert_eq!(head.headers["x-usher-app"], "3001");
            assert!(!head.headers.contains_key("authorization"));
        }
    });
}

#[test]
fn an_http1_client_reaches_an_http2_upstream() {
    run(async {
        let upstream = H2Upstream::cleartext().await;
        let usher = http2_world(&upstream, None).start();
        let token = usher.credential(&DEPLOY);
        let asking = tokio::task::spawn_blocking(move || {
            let mut peer = usher.connect();
            peer.send(format!(
                "POST /v1/apps/web/deploys HTTP/1.1\r\nhost: usher.test\r\n\
                 authorization: {token}\r\ncontent-length: 5\r\n\r\nhello"
            ));
            peer.answer()
        });
        let answer = asking.await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "hello"));
        let heads = upstream.heads();
        assert_eq!(
            heads[0].uri.authority().unwrap(),
            &*upstream.address.to_string()
        );
        assert!(!heads[0].headers.contains_key("authorization"));
    });
}

#[test]
fn a_grpc_caller_is_refused_in_its_own_words() {
    run(async {
        let upstream = H2Upstream::cleartext().await;
        let usher = http2_world(&upstream, None).start();
        let token = usher.credential(&DEPLOY);
        let mut client = H2Client::cleartext(usher.address).await;
        for (target, credential, status, code) in [
            ("/v1/apps/web/deploys", None, "16", "token-missing"),
            (
                "/v1/apps/api/deploys",
                Some(token.as_str()),
                "7",
                "prohibited",
            ),
            (
                "/v1/apps/nobody/deploys",
                Some(token.as_str()),
                "5",
                "unknown-name",
            ),
            (
                "/no.such.Service/Call",
                Some(token.as_str()),
                "5",
                "no-route",
            ),
        ] {
            let request = format!("POST {target}");
            let kind = ("content-type", "application/grpc+proto");
            let answer = client
                .ask(&request, credential, &[kind, ("te", "trailers")])
                .await;
            assert!(upstream.heads().is_empty(), "the upstream was asked");
            assert_eq!(answer.status(), 200, "{target}");
            assert_eq!(answer.headers()["content-type"], "application/grpc");
            assert_eq!(answer.headers()["grpc-status"], status, "{target}");
            let message = answer.headers()["grpc-message"]
                .to_str()
                .unwrap()
                .to_owned();
            assert!(message.starts_with(code), "{message}");
            let (body, _) = collect(answer.into_body()).await;
            assert!(body.is_empty());
        }
    });
}

/// A header value of exactly this many bytes that has the token in it.
fn padded(token: &str, length: usize) -> String {
    let mut value = token.to_owned();
    while value.len() < length {
        let room = length - value.len();
        // Parts stay below the bound of a single token.
        value.push(',');
        value.push_str(&"A".repeat((room - 1).min(8_000)));
    }
    assert_eq!(value.len(), length);
    value
}

#[test]
fn a_credential_of_64_kib_is_read_and_a_longer_one_is_not() {
    const LIMIT: usize = 64 * 1024;
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address)
        .and("limits: { head_bytes: 72KiB }")
        .start();
    let token = usher.credential(&DEPLOY);
    let ask = |length| usher.ask("GET /v1/apps/web", Some(&padded(&token, length)));
    let answer = ask(LIMIT + 1);
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (401, "token-malformed"));

    // Past the bound of the head there is nobody who could read the rest.
    let answer = ask(2 * LIMIT);
    upstream.saw_nothing();
    assert_eq!(answer.status, 431);

    let answer = ask(LIMIT);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(upstream.bytes().len() < 1024, "the credential stays here");
}

#[test]
fn a_credential_of_64_kib_is_read_over_http2_as_well() {
    run(async {
        let upstream = Recorder::ok();
        let usher = World::before(upstream.address)
            .and("limits: { head_bytes: 72KiB }")
            .start();
        let token = usher.credential(&DEPLOY);
        let mut client = H2Client::cleartext(usher.address).await;
        let [long, longest] = [1, 0].map(|more| padded(&token, 64 * 1024 + more));
        let answer = client.ask("GET /v1/apps/web", Some(&long), &[]).await;
        upstream.saw_nothing();
        assert_eq!(answer.status(), 401);
        let answer = client.ask("GET /v1/apps/web", Some(&longest), &[]).await;
        assert_eq!(answer.status(), 200);
    });
}

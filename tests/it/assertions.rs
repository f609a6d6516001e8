//! What an upstream can check by itself: who sent a request, and that it is the one that was judged.
//!
//! The check is written here from RFC 7515, 7519 and 2104, with nothing but SHA-256 in common with
//! what signs.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use usher::authority::Kind;
use usher::clock::unix_now;
use usher::macaroon::Caveat;

use crate::support::{
    H2Client, Peer, Received, Recorder, ThirdParty, Usher, World, collect, header, hour, run,
    run_usher,
};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// Keys as an upstream has them, by their ids.
type Keys = [(&'static str, [u8; 32])];

const OLD: (&str, [u8; 32]) = ("k1", [0x11; 32]);
const NEW: (&str, [u8; 32]) = ("k2", [0x22; 32]);

fn signed(upstream: &Recorder, (id, key): (&str, [u8; 32])) -> World {
    World::before(upstream.address)
        .with(
            "{ name: machines, urls:",
            "{ name: machines, sign: @SIGN@, urls:",
        )
        .with(
            "@SIGN@",
            format_args!("{{ id: {id}, key: {{ file: sign.key }} }}"),
        )
        .file("sign.key", STANDARD.encode(key))
}

/// What an upstream looks at.
#[derive(Clone)]
struct Seen {
    name: &'static str,
    method: String,
    target: String,
    /// Every line whose name begins with `x-usher-`, and the host that was asked for.
    lines: Vec<(String, String)>,
    host: Option<String>,
}

impl Seen {
    fn of(received: &Received) -> Self {
        let mut words = received.request_line().split(' ').map(str::to_owned);
        let lines = received.head.lines().skip(1);
        let lines = lines.map(|line| line.split_once(": ").unwrap());
        let lines = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let ours = |(name, _): &(String, String)| name.starts_with("x-usher-");
        Self {
            name: "machines",
            method: words.next().unwrap(),
            target: words.next().unwrap(),
            host: received.line("x-forwarded-host").map(str::to_owned),
            lines: lines.filter(ours).collect(),
        }
    }

    fn line(&self, name: &str) -> &str {
        let mut found = self.lines.iter().filter(|(known, _)| known == name);
        let (Some((_, value)), None) = (found.next(), found.next()) else {
            panic!("{name} is there not exactly once: {:?}", self.lines);
        };
        value
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.lines.retain(|(known, _)| known != name);
        self.lines.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Checks the request, at a time: what it says of itself, or why it is refused.
    fn check(&self, keys: &Keys, now: i64) -> Result<Map<String, Value>, &'static str> {
        let parts: Vec<&str> = self.line("x-usher-assertion").split('.').collect();
        let [head, claims, mac] = parts[..] else {
            return Err("form");
        };
        let object = |part: &str| -> Option<Map<String, Value>> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let (jose, said) = object(head).zip(object(claims)).ok_or("form")?;
        if jose["alg"] != "HS256" {
            return Err("algorithm");
        }
        let key = keys.iter().find(|(id, _)| jose["kid"] == *id);
        let (_, key) = key.ok_or("key")?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| "form")?;
        if mac != hmac(key, format!("{head}.{claims}").as_bytes()) {
            return Err("signature");
        }
        let time = |claim: &str| said[claim].as_i64().unwrap();
        if now < time("iat") || time("exp") <= now {
            return Err("time");
        }
        if said["aud"] != self.name {
            return Err("audience");
        }
        if said["method"] != *self.method || said["target"] != *self.target {
            return Err("request");
        }
        if said.get("host").and_then(Value::as_str) != self.host.as_deref() {
            return Err("host");
        }
        for (claim, name) in [
            ("jti", "x-usher-decision"),
            ("token_id", "x-usher-token-id"),
            ("org", "x-usher-org"),
            ("app", "x-usher-app"),
            ("cluster", "x-usher-cluster"),
            ("user", "x-usher-user"),
        ] {
            let lines = self.lines.iter().filter(|(known, _)| known == name);
            let lines: Vec<&str> = lines.map(|(_, value)| value.as_str()).collect();
            let claims: Vec<&str> = said
                .get(claim)
                .and_then(Value::as_str)
                .into_iter()
                .collect();
            if lines != claims {
                return Err("identity");
            }
        }
        Ok(said)
    }
}

/// RFC 2104, for a key that is shorter than a block.
fn hmac(key: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| -> Vec<u8> {
        let key = key.iter().copied().chain(std::iter::repeat_n(0, 32));
        key.map(|k| k ^ byte).collect()
    };
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([&pad(0x5c)[..], &inner[..]].concat()).to_vec()
}

#[track_caller]
fn asked(usher: &Usher, upstream: &Recorder, request: &str, credential: Option<&str>) -> Seen {
    let before = unix_now();
    let answer = usher.ask(request, credential);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = Seen::of(&upstream.last());
    let said = seen.check(&[OLD], unix_now()).unwrap();
    // It is fresh, and good for a minute.
    let time = |claim: &str| said[claim].as_i64().unwrap();
    assert!(time("iat") >= before && time("exp") == time("iat") + 60);
    assert_eq!(said["iss"], "usher");
    seen
}

#[test]
fn an_upstream_can_check_what_was_judged_and_who_asked() {
    let upstream = Recorder::ok();
    let login = ThirdParty {
        location: "https://login.test",
        shared: [5; 32],
    };
    let usher = signed(&upstream, OLD)
        .with(
            "  seal_key:",
            "  third_parties: [ { location: https://login.test, key: { file: login.key } } ]\n  seal_key:",
        )
        .file("login.key", STANDARD.encode([5; 32]))
        .with(
            "routes:\n",
            "routes:\n  - { name: pos, method: GET, path: /pos, access: { action: r, org: token, feature: litefs-cloud, cluster: { query: cluster, else: token } }, upstream: machines }\n",
        )
        .start();
    let token = login.restrict(&usher.token(&DEPLOY, hour()), 1);
    let user = header(&[&token, &login.discharge(1, &[Caveat::FlyioUserId(77)])]);
    let target = "/v1/apps/web/machines?region=%61ms&metadata.a=%2F..%2F%22&region=";
    let seen = asked(&usher, &upstream, &format!("GET {target}"), Some(&user));
    let said = seen.check(&[OLD], unix_now()).unwrap();
    let uuid = token.uuid().to_string();
    for (claim, value) in [
        ("method", "GET"),
        ("target", target),
        ("host", "usher.test"),
        ("token_id", uuid.as_str()),
        ("org", "2001"),
        ("app", "3001"),
        ("user", "77"),
    ] {
        assert_eq!(said[claim], value, "{claim}");
    }
    assert_eq!(said.get("cluster"), None);

    let litefs = usher.credential(&Kind::LitefsCloud {
        org: 2001,
        cluster: "primary".to_owned(),
    });
    let seen = asked(&usher, &upstream, "GET /pos", Some(&litefs));
    let said = seen.check(&[OLD], unix_now()).unwrap();
    assert_eq!(
        (&said["cluster"], &said["org"]),
        (&"primary".into(), &"2001".into())
    );
    assert_eq!((said.get("app"), said.get("user")), (None, None));

    // Nobody has shown who asks: it came through usher, and says no more than that.
    let seen = asked(&usher, &upstream, "GET /healthz", None);
    let said = seen.check(&[OLD], unix_now()).unwrap();
    assert_eq!((said.get("token_id"), said.get("org")), (None, None));
}

#[test]
fn what_was_signed_is_good_for_nothing_else() {
    let upstream = Recorder::ok();
    let usher = signed(&upstream, OLD).start();
    let token = usher.credential(&DEPLOY);
    let seen = asked(&usher, &upstream, "GET /v1/apps/web?", Some(&token));
    let now = unix_now();
    let assertion = seen.line("x-usher-assertion").to_owned();
    let again = asked(&usher, &upstream, "GET /v1/apps/web?", Some(&token));
    assert_ne!(
        assertion,
        again.line("x-usher-assertion"),
        "each is one request's"
    );

    let [head, claims, mac] = assertion.split('.').collect::<Vec<_>>()[..] else {
        panic!("{assertion}");
    };
    let forge = |part: &str, from: &str, to: &str| {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert!(text.contains(from), "{text}");
        URL_SAFE_NO_PAD.encode(text.replace(from, to))
    };
    let other_key = {
        let signing = format!("{head}.{claims}");
        let mac = URL_SAFE_NO_PAD.encode(hmac(&NEW.1, signing.as_bytes()));
        format!("{signing}.{mac}")
    };
    let said = seen.check(&[OLD], now).unwrap();
    let time = |claim: &str| said[claim].as_i64().unwrap();
    let with = |value: &str| seen.clone().set("x-usher-assertion", value);
    let to = |method: &str, target: &str| Seen {
        method: method.to_owned(),
        target: target.to_owned(),
        ..seen.clone()
    };
    let forged = |part: &str| with(&format!("{head}.{part}.{mac}"));
    let later = format!("\"exp\":{}", time("exp") + 3600);
    let exp = format!("\"exp\":{}", time("exp"));
    for (what, seen, now, expected) in [
        (
            "another method",
            to("DELETE", "/v1/apps/web?"),
            now,
            "request",
        ),
        ("another path", to("GET", "/v1/apps/api?"), now, "request"),
        (
            "another query",
            to("GET", "/v1/apps/web?x=1"),
            now,
            "request",
        ),
        ("no query", to("GET", "/v1/apps/web"), now, "request"),
        (
            "another spelling",
            to("GET", "/v1/apps/%77eb?"),
            now,
            "request",
        ),
        (
            "another upstream",
            Seen {
                name: "logs",
                ..seen.clone()
            },
            now,
            "audience",
        ),
        (
            "another host",
            Seen {
                host: Some("other.test".to_owned()),
                ..seen.clone()
            },
            now,
            "host",
        ),
        ("a minute later", seen.clone(), time("exp"), "time"),
        ("before", seen.clone(), time("iat") - 1, "time"),
        (
            "another app",
            seen.clone().set("x-usher-app", "3002"),
            now,
            "identity",
        ),
        (
            "another org",
            seen.clone().set("x-usher-org", "2002"),
            now,
            "identity",
        ),
        (
            "a user",
            seen.clone().set("x-usher-user", "1"),
            now,
            "identity",
        ),
        (
            "another decision",
            seen.clone().set("x-usher-decision", "0"),
            now,
            "identity",
        ),
        (
            "a forged time",
            forged(&forge(claims, &exp, &later)),
            now,
            "signature",
        ),
        (
            "a forged app",
            forged(&forge(claims, "3001", "3002")),
            now,
            "signature",
        ),
        (
            "no signature",
            with(&format!("{}.{claims}.", forge(head, "HS256", "none"))),
            now,
            "algorithm",
        ),
        ("another key", with(&other_key), now, "signature"),
        (
            "another key's name",
            with(&format!("{}.{claims}.{mac}", forge(head, "k1", "k9"))),
            now,
            "key",
        ),
    ] {
        assert_eq!(seen.check(&[OLD], now), Err(expected), "{what}");
    }
}

#[test]
fn a_clients_own_copy_never_gets_through() {
    let (plain, checking) = (Recorder::ok(), Recorder::ok());
    let usher = World::before(plain.address).start();
    let token = usher.credential(&DEPLOY);
    let lines = "X-Usher-Assertion: made.up.one\r\nx-usher-assertion: made.up.two\r\n";
    assert_eq!(
        usher
            .ask_with("GET /v1/apps/web", Some(&token), lines)
            .status,
        200
    );
    assert_eq!(plain.last().line("x-usher-assertion"), None);

    let usher = signed(&checking, OLD).start();
    let token = usher.credential(&DEPLOY);
    assert_eq!(
        usher
            .ask_with("GET /v1/apps/web", Some(&token), lines)
            .status,
        200
    );
    let seen = Seen::of(&checking.last());
    assert!(seen.check(&[OLD], unix_now()).is_ok());
    assert!(
        !String::from_utf8(checking.bytes())
            .unwrap()
            .contains("made.up")
    );
}

#[test]
fn an_upstream_with_two_keys_sees_usher_change_from_one_to_the_other() {
    let upstream = Recorder::ok();
    for (key, other) in [(OLD, NEW), (NEW, OLD)] {
        let usher = signed(&upstream, key).start();
        let token = usher.credential(&DEPLOY);
        assert_eq!(usher.ask("GET /v1/apps/web", Some(&token)).status, 200);
        let seen = Seen::of(&upstream.last());
        assert!(seen.check(&[OLD, NEW], unix_now()).is_ok());
        assert_eq!(seen.check(&[other], unix_now()), Err("key"));
        // The name of a key is nothing without the key.
        assert_eq!(
            seen.check(&[(key.0, other.1)], unix_now()),
            Err("signature")
        );
    }
}

#[test]
fn requests_of_http2_and_websockets_are_signed_alike() {
    let upstream = Recorder::answering(|received| {
        let key = received.line("sec-websocket-key");
        let Some(key) = key else {
            return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
        };
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        )
        .into_bytes()
    });
    let usher = signed(&upstream, OLD)
        .with(
            "routes:\n",
            "routes:\n  - { name: attach, method: GET, path: \"/v1/apps/{app}/attach\", upgrade: [ websocket ], access: { action: w, app: \"{app}\" }, upstream: machines }\n",
        )
        .start();
    let token = usher.credential(&DEPLOY);
    run(async {
        let mut client = H2Client::cleartext(usher.address).await;
        let request = "GET /v1/apps/web/machines?region=%61ms";
        let response = client.ask(request, Some(&token), &[]).await;
        assert_eq!(response.status(), 200);
        collect(response.into_body()).await;
    });
    let seen = Seen::of(&upstream.last());
    assert_eq!(seen.target, "/v1/apps/web/machines?region=%61ms");
    assert!(seen.check(&[OLD], unix_now()).is_ok());

    let mut peer: Peer = usher.connect();
    peer.send(format!(
        "GET /v1/apps/web/attach HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(peer.answer().status, 101);
    let seen = Seen::of(&upstream.last());
    assert_eq!(seen.target, "/v1/apps/web/attach");
    assert!(seen.check(&[OLD], unix_now()).is_ok());
}

#[test]
fn usher_does_not_start_without_the_key_that_it_is_to_sign_with() {
    let upstream = Recorder::ok();
    let world = signed(&upstream, OLD).file("sign.key", "hunter2");
    let config = world.write();
    let refused = run_usher(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
    let told = "upstream machines: ";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
}

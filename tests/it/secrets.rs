//! What nobody may see: tokens, tickets and keys. Every test of this suite is watched for them
//! (`support::canary`); here it is tried on purpose to make them show, and to see what shows.

use std::collections::BTreeSet;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use usher::authority::Kind;
use usher::macaroon::{Action, Caveat, Limits, Token};

use crate::support::canary::{self, Place, Plant};
use crate::support::frames::{END_HEADERS, END_STREAM, HEADERS, Wire, block, frame};
use crate::support::keys::keys;
use crate::support::{
    H2Client, H2Upstream, Peer, Process, Recorder, ThirdParty, World, collect, distinct, header,
    hour, run, run_usher, window,
};

const ORG: Kind = Kind::Org { org: 2001 };

#[test]
fn no_part_of_a_token_shows_anywhere() {
    const CUSTOMER: ThirdParty = ThirdParty {
        location: "https://auth.customer.test",
        shared: distinct(7),
    };
    const SECRET: &str = "secret-of-the-upstream";
    let upstream = Recorder::ok();
    let world = World::before(upstream.address)
        .with(
            "- { name: machines, ",
            "- { name: machines, credential: { header: X-Api-Key, value: { file: secret } }, ",
        )
        .file("secret", SECRET);
    let config = world.write();

    // Made by this very store, so that usher takes them all the way.
    let usher = world.start();
    let org = usher.token(&ORG, hour());
    let narrowed = org
        .attenuate(&[Caveat::Action(Action::READ)], &Limits::DEFAULT)
        .unwrap();
    let expired = usher.issue(&[window(-10, -1)]);
    let restricted = CUSTOMER.restrict(&org, 1);
    let discharge = CUSTOMER.discharge(1, &[]);
    let revoked = usher.token(&ORG, hour());
    let lineage = usher::authority::Revocation::Lineage(revoked.uuid());
    usher.authority.revoke(lineage, 0).unwrap();
    let mut broken = org.bytes().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let broken = Token::decode(broken, &Limits::DEFAULT).unwrap();

    let mut process = Process::serve(&config);
    let whole = header(&[&org]);
    let (cut, _) = whole.split_at(whole.len() - 7);
    let credentials = [
        whole.clone(),
        header(&[&narrowed]),
        header(&[&expired]),
        header(&[&restricted, &discharge]),
        header(&[&restricted]),
        header(&[&revoked]),
        header(&[&broken]),
        cut.to_owned(),
        whole.replace("fm2_", "fm2_fm2_"),
        whole.replace("FlyV1 ", "Basic "),
    ];
    let mut answers = String::new();
    for credential in &credentials {
        for request in [
            "GET /v1/apps/web",
            "DELETE /v1/apps/web",
            "GET /v1/apps/shop",
            "GET /nowhere",
            "GET /v1/apps/web/..",
        ] {
            let mut peer = process.connect();
            peer.send(format!(
                "{request} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {credential}\r\n\r\n"
            ));
            answers += peer.answer().text();
        }
    }
    run(async {
        let mut client = H2Client::cleartext(process.address).await;
        for credential in &credentials {
            let answer = client.ask("GET /v1/apps/web", Some(credential), &[]).await;
            collect(answer.into_body()).await;
        }
    });
    let mut admin = Peer::connect(process.admin);
    admin.send("GET /metrics HTTP/1.1\r\nhost: admin\r\n\r\n");
    assert_eq!(admin.answer().status, 200);
    // One that breaks off, which only the lowest levels tell.
    let mut peer = process.connect();
    peer.send("GET /v1/apps/web HTTP/1.1\r\nhost: ");
    drop(peer);
    process.event(|event| event["level"] == "DEBUG");
    process.signal("TERM");
    // What it logged has been looked through by then, like all that went over any socket.
    let (code, log) = process.wait();
    assert_eq!(code, Some(0));
    assert_eq!(log.matches("request decided").count(), 60);
    // Its ticket is what a client has to take to the third party, so an answer does say that.
    assert!(answers.contains(&STANDARD.encode(CUSTOMER.ticket(1))));
    assert!(upstream.last().line("x-api-key") == Some(SECRET));
}

/// Requests that h2 complains of, word by word, at levels that nobody should have to fear.
#[test]
fn what_libraries_print_of_a_request_is_not_logged() {
    let upstream = Recorder::ok();
    let world = World::before(upstream.address);
    let process = Process::serve(&world.write());
    let secret = Plant::new();
    let text = secret.hexadecimal();
    let authority = format!("{text}@,:{text}");
    for (place, value) in [(1, &*authority), (3, &*text), (4, &*text)] {
        let mut fields = [
            (&b":method"[..], &b"GET"[..]),
            (b":authority", b"usher.test"),
            (b":scheme", b"http"),
            (b":path", b"/v1/apps/web"),
            (b"te", b"trailers"),
        ];
        fields[place].1 = value.as_bytes();
        let mut wire = Wire::connect(process.address);
        let stream = wire.stream();
        let flags = END_HEADERS | END_STREAM;
        wire.send(&frame(HEADERS, flags, stream, &block(&fields)));
        wire.fate(stream);
        upstream.saw_nothing();
    }
    process.signal("TERM");
    assert_eq!(process.wait().0, Some(0));
    assert_eq!(secret.found_in(), BTreeSet::new());
}

/// Mistakes that are easily made with a header value, and land in the log of a CI job.
#[test]
fn a_token_in_a_wrong_place_is_not_repeated() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&ORG);
    let (scheme, text) = token.split_once(' ').unwrap();
    for arguments in [
        &["token", text][..],
        &[text],
        &["token", "revoke", "--config", "usher.yaml", scheme, text],
        &[
            "token",
            "create",
            "org",
            "--config",
            "usher.yaml",
            "--expiry",
            text,
        ],
        &["token", "verify", "--token", "x", "--config", text],
        &["connect", text],
        &["check", "--config", text],
    ] {
        let ended = run_usher(arguments);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        let told = ended.stderr.contains("fm2_[redacted]");
        assert!(told, "the mistake is named all the same: {ended:?}");
    }
}

/// A part of a secret that is short enough for a name. It is given to a route, whose name is shown
/// in many places.
fn name_of(secret: &Plant) -> String {
    secret.hexadecimal().chars().take(48).collect()
}

/// A route of that name, and an upstream that says it as well.
fn shown(name: &str) -> (Recorder, World) {
    let said = name.to_owned();
    let upstream = Recorder::answering(move |_| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: 48\r\n\r\n{said}").into_bytes()
    });
    let world = World::before(upstream.address).and(format_args!(
        "  - {{ name: r-{name}, method: GET, path: \"/shown/{{what}}\", access: public, upstream: machines }}"
    ));
    (upstream, world)
}

/// A look-out that finds nothing proves nothing unless it finds what there is.
#[test]
fn whatever_usher_shows_is_found() {
    let secret = Plant::new();
    let name = name_of(&secret);
    let (_upstream, world) = shown(&name);
    let usher = world.start();
    assert_eq!(usher.ask(&format!("GET /shown/{name}"), None).status, 200);
    drop(usher);
    let places = [Place::Log, Place::Metrics, Place::Answer, Place::Upstream];
    assert_eq!(secret.found_in(), BTreeSet::from(places));
}

#[test]
fn whatever_a_process_shows_is_found() {
    let secret = Plant::new();
    let name = name_of(&secret);
    let (_upstream, world) = shown(&name);
    let process = Process::serve(&world.write());
    let mut peer = process.connect();
    peer.send(format!(
        "GET /shown/{name} HTTP/1.1\r\nhost: usher.test\r\n\r\n"
    ));
    assert_eq!(peer.answer().status, 200);
    process.signal("TERM");
    process.wait();
    let places = [Place::Log, Place::Answer, Place::Upstream];
    assert_eq!(secret.found_in(), BTreeSet::from(places));
}

#[test]
fn whatever_a_command_shows_is_found() {
    let secret = Plant::new();
    let name = name_of(&secret);
    let (_upstream, world) = shown(&name);
    let checked = run_usher(&["check", "--config", world.write().to_str().unwrap()]);
    assert!(checked.stdout.contains(&name), "{checked:?}");
    assert_eq!(secret.found_in(), BTreeSet::from([Place::Stdout]));
    let secret = Plant::new();
    assert_eq!(run_usher(&["token", &name_of(&secret)]).code, Some(2));
    assert_eq!(secret.found_in(), BTreeSet::from([Place::Stderr]));
}

#[test]
fn whatever_a_panic_says_is_found() {
    let secret = Plant::new();
    // What watches panics begins with the first usher of this process.
    drop(World::before(Recorder::ok().address).start());
    let raw = secret.raw;
    thread::spawn(move || panic!("{raw:?}")).join().unwrap_err();
    assert_eq!(secret.found_in(), BTreeSet::from([Place::Panic]));
}

#[test]
fn what_huffmans_code_hides_is_found() {
    run(async {
        let (asked, told) = (Plant::new(), Plant::new());
        let upstream = H2Upstream::cleartext().await;
        let usher = World::before(upstream.address)
            .with("urls: [ ", "protocol: http2, urls: [ ")
            .start();
        let mut client = H2Client::cleartext(usher.address).await;
        let value = asked.hexadecimal();
        let answer = client
            .ask("GET /healthz", None, &[("x-shown", &value)])
            .await;
        assert_eq!(answer.status(), 200);
        let places = BTreeSet::from([Place::Upstream]);
        assert_eq!(asked.found_in(), places);
        drop(usher);

        let shown = told.hexadecimal();
        let upstream = Recorder::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\nx-shown: {shown}\r\ncontent-length: 0\r\n\r\n").into_bytes()
        });
        let usher = World::before(upstream.address).start();
        let mut client = H2Client::cleartext(usher.address).await;
        assert_eq!(client.ask("GET /healthz", None, &[]).await.status(), 200);
        assert_eq!(told.found_in(), BTreeSet::from([Place::Answer]));
    });
}

#[test]
fn what_huffmans_code_hides_in_a_frame_is_found() {
    let secret = Plant::new();
    let shown = secret.hexadecimal();
    let upstream = Recorder::answering(move |_| {
        format!("HTTP/1.1 200 OK\r\nx-shown: {shown}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    });
    let usher = World::before(upstream.address).start();
    let mut wire = Wire::connect(usher.address);
    let fields = [
        (&b":method"[..], &b"GET"[..]),
        (b":authority", b"usher.test"),
        (b":scheme", b"http"),
        (b":path", b"/healthz"),
    ];
    let flags = END_HEADERS | END_STREAM;
    wire.send(&frame(HEADERS, flags, 1, &block(&fields)));
    wire.fate(1);
    assert_eq!(secret.found_in(), BTreeSet::from([Place::Answer]));
}

/// Whoever has made a key while usher runs: a test, or a command.
#[test]
fn keys_that_come_later_are_looked_for() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let mut known = 2;
    let mut all_are_looked_for = |more| {
        let keys = keys(usher.folder());
        known += more;
        assert_eq!(keys.len(), known);
        for key in keys {
            assert!(canary::would_be_found(Place::Log, &key));
        }
    };
    all_are_looked_for(0);
    usher.rotate();
    all_are_looked_for(1);
    usher.import(b"theirs", distinct(77));
    all_are_looked_for(1);
    let config = usher.folder().join("usher.yaml");
    let rotated = run_usher(&["key", "rotate", "--config", config.to_str().unwrap()]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    all_are_looked_for(1);
}

#[test]
fn a_secret_is_found_in_every_form() {
    type Form = fn(&[u8]) -> Vec<u8>;
    let forms: [(&str, Form); 11] = [
        ("as it is", <[u8]>::to_vec),
        ("half of it", |raw| raw[8..24].to_vec()),
        ("hexadecimal", |raw| {
            raw.iter()
                .flat_map(|b| format!("{b:02x}").into_bytes())
                .collect()
        }),
        ("capitals", |raw| {
            raw.iter()
                .flat_map(|b| format!("{b:02X}").into_bytes())
                .collect()
        }),
        ("base64", |raw| STANDARD.encode(raw).into_bytes()),
        ("base64 behind one byte", |raw| {
            STANDARD.encode([b":", raw].concat()).into_bytes()
        }),
        ("base64 behind two, for URLs", |raw| {
            URL_SAFE.encode([b"x:", raw, b"y"].concat()).into_bytes()
        }),
        ("numbers", |raw| format!("{raw:?}").into_bytes()),
        ("numbers on lines", |raw| format!("{raw:#?}").into_bytes()),
        ("escapes", |raw| {
            format!("{:?}", Bytes::copy_from_slice(raw)).into_bytes()
        }),
        ("escapes in JSON", |raw| {
            let shown = format!("{:?}", Bytes::copy_from_slice(raw));
            serde_json::to_vec(&shown).unwrap()
        }),
    ];
    for (name, form) in forms {
        // Wherever it begins, whole or in two parts; and whatever has an escape of its own.
        for before in 0..9 {
            let secret = Plant::around(&b"\\\"\n\\x"[..before.min(5)]);
            let text = [&b"a prefix "[..before], &form(&secret.raw), b" and more"].concat();
            canary::look(Place::Stdout, &text);
            assert_eq!(secret.found_in(), BTreeSet::from([Place::Stdout]), "{name}");
        }
    }
    for at in 1..64 {
        let secret = Plant::new();
        let text = secret.hexadecimal();
        let (one, other) = text.split_at(at);
        let mut stream = canary::Stream::new(Place::Stderr);
        stream.look(one.as_bytes());
        stream.look(other.as_bytes());
        assert_eq!(secret.found_in(), BTreeSet::from([Place::Stderr]), "{at}");
    }
    let secret = Plant::new();
    canary::look(Place::Stdout, &secret.raw[..15]);
    assert_eq!(secret.found_in(), BTreeSet::new(), "that could be chance");
}

#[test]
fn tokens_are_known_by_their_text_and_by_their_tails() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.token(&ORG, hour());
    let header = header(&[&token]);
    let tail = token.bytes().last_chunk::<32>().unwrap();
    for shown in [
        header.as_bytes(),
        &header.as_bytes()[90..106],
        tail,
        token.rnd(),
    ] {
        assert!(
            canary::would_be_found(Place::Log, shown),
            "{}",
            shown.escape_ascii()
        );
    }
    for shown in [token.uuid().to_string(), "fm2_".repeat(4)] {
        assert!(
            !canary::would_be_found(Place::Log, shown.as_bytes()),
            "{shown}"
        );
    }
    let password = format!("Basic {}", STANDARD.encode(format!("x:{header}")));
    canary::hide_tokens(&password);
    assert!(canary::would_be_found(Place::Answer, password.as_bytes()));
}

//! Requests of HTTP/2 that could be read in two ways, or would be two requests in HTTP/1.1.
//!
//! Some of them are refused by the reader of HTTP/2 and some by usher; both are held to it here,
//! since what goes to an upstream of HTTP/1.1 is written from what they let pass.

use std::sync::mpsc;

use usher::authority::Kind;

use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Fate, HEADERS, PROTOCOL_ERROR, RST_STREAM, Wire, block, frame,
};
use crate::support::{DEADLINE, Recorder, Usher, World, until};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// A field line; the token stands for itself.
type Field = (&'static [u8], &'static [u8]);

const METHOD: Field = (b":method", b"GET");
const SCHEME: Field = (b":scheme", b"http");
const AUTHORITY: Field = (b":authority", b"usher.test");
const PATH: Field = (b":path", b"/v1/apps/web");
const TOKEN: Field = (b"authorization", b"TOKEN");

/// Who refuses, and how.
#[derive(Clone, Copy, Debug)]
enum Refused {
    /// usher, with a status and a code.
    Here(u64, &'static str),
    /// The reader of HTTP/2, which resets the stream or ends the connection.
    Reader,
}

const AMBIGUOUS: Refused = Refused::Here(400, "ambiguous");

/// Sends a request on a connection of its own, and says what became of it.
fn send(usher: &Usher, token: &str, fields: &[Field], body: Option<&[u8]>) -> Fate {
    let fields: Vec<(&[u8], &[u8])> = fields
        .iter()
        .map(|(name, value)| match *value {
            b"TOKEN" => (*name, token.as_bytes()),
            value => (*name, value),
        })
        .collect();
    let mut wire = Wire::connect(usher.address);
    let stream = wire.stream();
    let end = if body.is_none() { END_STREAM } else { 0 };
    wire.send(&frame(HEADERS, END_HEADERS | end, stream, &block(&fields)));
    if let Some(body) = body {
        wire.send(&frame(DATA, END_STREAM, stream, body));
    }
    wire.fate(stream)
}

#[track_caller]
fn assert_refused(fate: &Fate, expected: Refused, shown: &str) {
    match expected {
        Refused::Here(status, code) => {
            assert_eq!(
                fate.problem(),
                Some((status, code.to_owned())),
                "{shown}: {fate:?}"
            );
        }
        Refused::Reader => assert!(
            matches!(
                fate,
                Fate::Reset(PROTOCOL_ERROR) | Fate::Ended(Some(PROTOCOL_ERROR))
            ),
            "{shown}: {fate:?}"
        ),
    }
}

fn shown(fields: &[Field]) -> String {
    let line = |(name, value): &Field| format!("{}={}", name.escape_ascii(), value.escape_ascii());
    fields.iter().map(line).collect::<Vec<_>>().join(" ")
}

/// Holds usher to a refusal of the usual request with one field in the place of another.
fn all_refused(place: usize, cases: &[(&'static [u8], Refused)]) {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for (value, expected) in cases {
        let mut fields = [METHOD, SCHEME, AUTHORITY, PATH, TOKEN];
        fields[place].1 = value;
        let fate = send(&usher, &token, &fields, None);
        upstream.saw_nothing();
        assert_refused(&fate, *expected, &shown(&fields));
    }
    let fate = send(
        &usher,
        &token,
        &[METHOD, SCHEME, AUTHORITY, PATH, TOKEN],
        None,
    );
    assert_eq!(fate, Fate::Answered("ok".to_owned()));
}

#[test]
fn a_path_is_a_path() {
    use Refused::Reader;
    all_refused(
        3,
        &[
            (b"", Reader),
            (b"*", AMBIGUOUS),
            (b"v1/apps/web", Reader),
            (b"?a=b", AMBIGUOUS),
            (b"http://usher.test/v1/apps/web", Reader),
            (b"http://other.test/v1/apps/web", Reader),
            (b"//usher.test/v1/apps/web", AMBIGUOUS),
            (b"/v1/apps/w\xc3\xa9b", AMBIGUOUS),
            (b"/v1/apps/\xff", Reader),
            (b"/v1/apps/../apps/web", AMBIGUOUS),
            (b"/v1/apps/web HTTP/1.1", Reader),
            (b"/v1/apps/web\r\nx: y", Reader),
            (b"/v1/apps/web\n", Reader),
            (b"/v1/apps/web\0", Reader),
            (b"/v1/apps/web\t", Reader),
            (b"/v1/apps\\web", AMBIGUOUS),
        ],
    );
}

/// The reader drops a fragment, which no client sends, before anything can judge it. So nobody sees
/// it: what is judged and what is forwarded are the same.
#[test]
fn a_fragment_is_nowhere() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let ask = |path: &'static [u8]| {
        let fields = [METHOD, SCHEME, AUTHORITY, (&b":path"[..], path), TOKEN];
        send(&usher, &token, &fields, None)
    };
    for path in [
        &b"/v1/apps/api#/../web"[..],
        b"/v1/apps/api?a=b#/v1/apps/web",
        b"#/v1/apps/web",
    ] {
        let fate = ask(path);
        upstream.saw_nothing();
        assert_ne!(fate, Fate::Answered("ok".to_owned()));
    }
    assert_eq!(
        ask(b"/v1/apps/web#/../api"),
        Fate::Answered("ok".to_owned())
    );
    let line = "GET /v1/apps/web HTTP/1.1";
    assert_eq!(upstream.last().request_line(), line);
}

#[test]
fn an_authority_is_a_host() {
    use Refused::Reader;
    all_refused(
        2,
        &[
            (b"", Reader),
            (b"usher.test/v1", Reader),
            (b"usher.test/../x", Reader),
            (b"user@usher.test", AMBIGUOUS),
            (b"user:secret@usher.test", AMBIGUOUS),
            (b"usher.test:", AMBIGUOUS),
            (b"usher.test:x", AMBIGUOUS),
            (b"usher.test?x", Reader),
            (b"usher.test#x", Reader),
            (b"usher.test,other.test", AMBIGUOUS),
            (b"usher.test other.test", Reader),
            (b"usher.test\r\nx: y", Reader),
            (b"usher.test\0", Reader),
            (b"\xff", Reader),
        ],
    );
}

#[test]
fn a_method_is_a_token() {
    use Refused::Reader;
    all_refused(
        0,
        &[
            (b"", Reader),
            (b"GET /v1/apps/web HTTP/1.1\r\nx: y\r\n\r\nGET", Reader),
            (b"GET\r\n", Reader),
            (b"GET\0", Reader),
            (b"G T", Reader),
            (b"TRACE", Refused::Here(405, "method-not-allowed")),
            (b"get", Refused::Here(405, "method-not-allowed")),
            // With a path and a scheme it is none (RFC 9113 8.5).
            (b"CONNECT", Reader),
        ],
    );
}

/// Holds usher to a refusal of whole lists of fields.
fn lists_refused(cases: &[(&[Field], Refused)]) {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for (fields, expected) in cases {
        let fate = send(&usher, &token, fields, None);
        upstream.saw_nothing();
        assert_refused(&fate, *expected, &shown(fields));
    }
}

#[test]
fn each_pseudo_header_comes_once_and_first() {
    use Refused::Reader;
    lists_refused(&[
        (&[SCHEME, AUTHORITY, PATH, TOKEN], Reader),
        (&[METHOD, AUTHORITY, PATH, TOKEN], Reader),
        (&[METHOD, SCHEME, AUTHORITY, TOKEN], Reader),
        (&[METHOD, SCHEME, PATH, TOKEN], AMBIGUOUS),
        (&[METHOD, METHOD, SCHEME, AUTHORITY, PATH, TOKEN], Reader),
        (&[METHOD, SCHEME, SCHEME, AUTHORITY, PATH, TOKEN], Reader),
        (&[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH, TOKEN], Reader),
        (&[METHOD, SCHEME, AUTHORITY, PATH, PATH, TOKEN], Reader),
        (
            &[
                METHOD,
                SCHEME,
                AUTHORITY,
                PATH,
                (b":path", b"/v1/apps/api"),
                TOKEN,
            ],
            Reader,
        ),
        (&[METHOD, SCHEME, AUTHORITY, TOKEN, PATH], Reader),
        (&[METHOD, SCHEME, PATH, TOKEN, AUTHORITY], Reader),
        (
            &[METHOD, SCHEME, AUTHORITY, PATH, (b":status", b"200"), TOKEN],
            Reader,
        ),
        (
            &[METHOD, SCHEME, AUTHORITY, PATH, (b":unknown", b"x"), TOKEN],
            Reader,
        ),
        (
            &[
                METHOD,
                SCHEME,
                AUTHORITY,
                PATH,
                (b":protocol", b"websocket"),
                TOKEN,
            ],
            Reader,
        ),
        (
            &[
                (b":method", b"CONNECT"),
                (b":protocol", b"websocket"),
                SCHEME,
                AUTHORITY,
                PATH,
                TOKEN,
            ],
            Reader,
        ),
        (
            &[METHOD, (b":scheme", b"ht tp"), AUTHORITY, PATH, TOKEN],
            Reader,
        ),
    ]);
}

#[test]
fn one_host_is_named() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let with = |host: &'static [u8]| {
        let fields = [METHOD, SCHEME, AUTHORITY, PATH, (&b"host"[..], host), TOKEN];
        send(&usher, &token, &fields, None)
    };
    for host in [
        &b"other.test"[..],
        b"usher.test:80",
        b"USHER.test",
        b"",
        b"usher.test, usher.test",
    ] {
        let fate = with(host);
        upstream.saw_nothing();
        assert_refused(&fate, AMBIGUOUS, &host.escape_ascii().to_string());
    }
    let twice = [
        METHOD,
        SCHEME,
        AUTHORITY,
        PATH,
        (&b"host"[..], &b"usher.test"[..]),
        (b"host", b"usher.test"),
        TOKEN,
    ];
    let fate = send(&usher, &token, &twice, None);
    upstream.saw_nothing();
    assert_refused(&fate, AMBIGUOUS, "the same twice");
    assert_eq!(with(b"usher.test"), Fate::Answered("ok".to_owned()));
    assert_eq!(upstream.last().line("x-forwarded-host"), Some("usher.test"));
}

/// haproxy and others name it in `host` alone where they were asked over HTTP/1.1 (RFC 7540
/// 8.1.2.3).
#[test]
fn a_host_without_an_authority_is_one() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    let with = |hosts: &[&'static [u8]]| {
        let mut fields = vec![METHOD, SCHEME, PATH, TOKEN];
        fields.extend(hosts.iter().map(|host| (&b"host"[..], *host)));
        send(&usher, &token, &fields, None)
    };
    for hosts in [
        &[][..],
        &[&b""[..]],
        &[b"u@usher.test"],
        &[b"usher.test/"],
        &[b"usher.test", b"usher.test"],
        &[b"usher.test", b"other.test"],
    ] {
        let fate = with(hosts);
        upstream.saw_nothing();
        assert_refused(&fate, AMBIGUOUS, &format!("{hosts:?}"));
    }
    assert_eq!(with(&[b"usher.test"]), Fate::Answered("ok".to_owned()));
    assert_eq!(upstream.last().line("x-forwarded-host"), Some("usher.test"));
}

#[test]
fn a_connect_without_a_tunnel_is_refused() {
    lists_refused(&[(
        &[(b":method", b"CONNECT"), AUTHORITY, TOKEN],
        Refused::Here(405, "method-not-allowed"),
    )]);
}

/// The usual request with one more field.
fn with(field: Field) -> [Field; 6] {
    [METHOD, SCHEME, AUTHORITY, PATH, TOKEN, field]
}

#[test]
fn no_field_could_begin_another_line_or_framing() {
    use Refused::Reader;
    lists_refused(&[
        (&with((b"x-a", b"b\r\nx-usher-org: 1")), Reader),
        (&with((b"x-a", b"b\nc")), Reader),
        (&with((b"x-a", b"b\rc")), Reader),
        (&with((b"x-a", b"b\0c")), Reader),
        (&with((b"x-a\r\nx-usher-org", b"1")), Reader),
        (&with((b"x-a: b\r\nx", b"c")), Reader),
        (&with((b"x a", b"b")), Reader),
        (&with((b"x\0", b"b")), Reader),
        (&with((b"", b"b")), Reader),
        (&with((b"X-A", b"b")), Reader),
        (&with((b"connection", b"x-usher-org")), Reader),
        (&with((b"keep-alive", b"5")), Reader),
        (&with((b"proxy-connection", b"close")), Reader),
        (&with((b"transfer-encoding", b"chunked")), Reader),
        (&with((b"transfer-encoding", b"identity")), Reader),
        (&with((b"upgrade", b"h2c")), Reader),
        (&with((b"te", b"gzip")), Reader),
        (&with((b"content-length", b"5")), Reader),
        (&with((b"content-length", b"x")), Reader),
        (&with((b"content-length", b"-1")), Reader),
        (&with((b"content-length", b"0, 0")), Reader),
    ]);
}

#[test]
fn names_and_credentials_are_judged_as_in_http1() {
    lists_refused(&[
        (&with((b"x_usher_org", b"1")), AMBIGUOUS),
        (&with((b"x.usher.org", b"1")), AMBIGUOUS),
        (&with((b"content_length", b"1")), AMBIGUOUS),
        (&with(TOKEN), AMBIGUOUS),
        (&with((b"authorization", b"")), AMBIGUOUS),
        (&with((b"authorization", b"Basic eDp5")), AMBIGUOUS),
    ]);
}

const POST: [Field; 4] = [
    (b":method", b"POST"),
    SCHEME,
    AUTHORITY,
    (b":path", b"/v1/apps/web/deploys"),
];

#[test]
fn a_body_is_as_long_as_it_says() {
    let upstream = Recorder::script(|exchange| {
        exchange.peer.rest();
    });
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for (length, body) in [(&b"3"[..], &b"hello"[..]), (b"3", b"he"), (b"3", b"")] {
        let fields = [&POST[..], &[TOKEN, (b"content-length", length)]].concat();
        let fate = send(&usher, &token, &fields, Some(body));
        assert_refused(&fate, Refused::Reader, &format!("{body:?}"));
    }
    drop(usher);
    let seen = upstream.bytes();
    assert!(
        !seen.windows(7).any(|part| part == b"\r\n\r\nhel"),
        "it was made complete"
    );
}

#[test]
fn a_body_that_is_reset_is_not_made_complete() {
    // Without an error, and because it is no longer wanted (RFC 9113 7).
    for reason in [0_u32, 8] {
        let (ended, end) = mpsc::channel();
        let upstream = Recorder::script(move |exchange| {
            exchange.peer.rest();
            ended.send(()).unwrap();
        });
        let usher = World::before(upstream.address).start();
        let token = usher.credential(&DEPLOY);
        let mut fields: Vec<(&[u8], &[u8])> = POST.to_vec();
        fields.push((b"authorization", token.as_bytes()));
        let mut wire = Wire::connect(usher.address);
        let stream = wire.stream();
        wire.send(&frame(HEADERS, END_HEADERS, stream, &block(&fields)));
        wire.send(&frame(DATA, 0, stream, b"half of the body"));
        until("the first half", || {
            let seen = upstream.bytes();
            let half = seen.windows(16).any(|part| part == b"half of the body");
            half.then_some(())
        });
        wire.send(&frame(RST_STREAM, 0, stream, &reason.to_be_bytes()));
        end.recv_timeout(DEADLINE).unwrap();
        let seen = upstream.bytes();
        assert!(
            !seen.windows(5).any(|part| part == b"0\r\n\r\n"),
            "{reason}: it was made complete"
        );
    }
}

#[test]
fn two_lengths_are_none() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher.credential(&DEPLOY);
    for (one, two, expected) in [
        (&b"5"[..], &b"6"[..], Refused::Reader),
        (b"5", b"5", AMBIGUOUS),
        (b"5", b"05", AMBIGUOUS),
    ] {
        let fields = [
            &POST[..],
            &[TOKEN, (b"content-length", one), (b"content-length", two)],
        ];
        let fate = send(&usher, &token, &fields.concat(), Some(b"hello"));
        upstream.saw_nothing();
        let shown = format!("{} {}", one.escape_ascii(), two.escape_ascii());
        assert_refused(&fate, expected, &shown);
    }
}

#[test]
fn a_list_of_fields_has_bounds() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address)
        .and("limits: { head_bytes: 8KiB, headers: 20, target_bytes: 1KiB }")
        .start();
    let token = usher.credential(&DEPLOY);
    let usual = [METHOD, SCHEME, AUTHORITY, PATH, TOKEN];

    let many = [&usual[..], &[(&b"x-a"[..], &b"b"[..]); 20]].concat();
    let fate = send(&usher, &token, &many, None);
    upstream.saw_nothing();
    assert_refused(&fate, Refused::Here(431, "head-too-large"), "many");

    let long: &'static [u8] = Vec::leak(vec![b'x'; 9_000]);
    let fate = send(
        &usher,
        &token,
        &[&usual[..], &[(b"x-a", long)]].concat(),
        None,
    );
    upstream.saw_nothing();
    assert_ne!(fate, Fate::Answered("ok".to_owned()));

    let target: &'static [u8] = Vec::leak([b"/v1/apps/".as_slice(), &[b'w'; 1_100]].concat());
    let fate = send(
        &usher,
        &token,
        &[METHOD, SCHEME, AUTHORITY, (b":path", target), TOKEN],
        None,
    );
    upstream.saw_nothing();
    assert_refused(&fate, Refused::Here(414, "target-too-long"), "target");
}

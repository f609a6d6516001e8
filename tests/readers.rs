//! Whatever passes the gate, hyper and a reader that has nothing in common with it take for the
//! same requests: the same number of them, with the same targets, lines, bodies and trailers.
//!
//! And so they do with whatever usher forwards, which is what was sent and what was permitted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

#[path = "readers/both.rs"]
mod both;
#[path = "support/canary.rs"]
mod canary;
#[path = "readers/edge.rs"]
mod edge;

use std::ops::Deref;
use std::sync::Once;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use usher::config::Oddity;

use self::both::{Read, check, hyper, kawa};
use self::canary::Place;
use self::edge::Edge;

/// Requests of all shapes, each with what it has for a body.
const REQUESTS: [&str; 12] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /v1/apps/web?a=%20b&c HTTP/1.1\r\nHost: api.test:8443\r\nAccept: */*\r\nAccept:a\r\n\r\n",
    "GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD https://[::1]:8 HTTP/1.1\r\nHost: [::1]:8\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 19\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\n0a\r\n0\r\n\r\nGET /\r\n3\r\n\r\n1\r\n000\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\n\n\r\n0\r\nX: 1\r\nY:  2 \r\n\r\n",
    "DELETE /a HTTP/1.1\r\nHost: a\r\nX-Long: \t a \u{e9}\tb\t \r\nX:\r\n\r\n",
    "\r\nPATCH /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n\r",
];

#[test]
fn good_requests_are_read_alike_by_all() {
    let all = REQUESTS.concat();
    let (read, fault) = check(all.as_bytes());
    assert_eq!((read.len(), fault), (REQUESTS.len(), None));
    assert_eq!(kawa(all.as_bytes()), (read, false));
    for (index, request) in REQUESTS.iter().enumerate() {
        let (read, fault) = check(request.as_bytes());
        assert_eq!((read.len(), fault), (1, None), "{index}");
    }
}

/// What one of the two takes, and the other does not or takes for something else.
const DISPUTED: [&str; 11] = [
    "GET /a HTTP/1.1\nHost: a\n\nGET /b HTTP/1.1\nHost: a\n\n",
    "GET /a HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
    "\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
];

#[test]
fn what_they_do_not_agree_on_does_not_pass() {
    for bytes in DISPUTED {
        let bytes = bytes.as_bytes();
        let shown = bytes.escape_ascii();
        assert_ne!(hyper(bytes), kawa(bytes), "{shown}");
        let (_, fault) = check(bytes);
        assert!(fault.is_some(), "{shown}");
    }
}

/// Method, target and body.
type Forwarded = (&'static str, &'static str, &'static str);

/// Requests to a usher at work, as they are sent and as they are forwarded, if they are. `@@`
/// stands for a token for the app `web`.
const REQUESTED: [(&str, Option<Forwarded>); 10] = [
    (
        "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        Some(("GET", "/healthz", "")),
    ),
    (
        "GET /v1/apps/web?metadata.a=%20 HTTP/1.1\r\nHost: a\r\nAuthorization: @@\r\nCookie: a=b; c=d\r\nAccept: */*\r\n\r\n",
        Some(("GET", "/v1/apps/web?metadata.a=%20", "")),
    ),
    (
        "HEAD http://a/v1/apps/web HTTP/1.1\r\nHost: a\r\nAuthorization: @@\r\nX-Usher-Org: 1\r\nTE: trailers\r\nConnection: te\r\n\r\n",
        Some(("HEAD", "/v1/apps/web", "")),
    ),
    (
        "POST /v1/apps/web/deploys HTTP/1.1\r\nHost: a\r\nAuthorization: @@\r\nContent-Length: 5\r\n\r\nhello",
        Some(("POST", "/v1/apps/web/deploys", "hello")),
    ),
    (
        "PUT /v1/apps/web/deploys HTTP/1.1\r\nHost: a\r\nAuthorization: @@\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n3\r\n0\r\n\r\n2\r\nab\r\n0\r\nX: 1\r\n\r\n",
        Some(("PUT", "/v1/apps/web/deploys", "0\r\nab")),
    ),
    (
        "POST /v1/apps/web/move HTTP/1.1\r\nHost: a\r\nAuthorization: @@\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"to\":\"web\"}",
        Some(("POST", "/v1/apps/web/move", "{\"to\":\"web\"}")),
    ),
    (
        "POST /v1/apps/web/move HTTP/1.1\r\nHost: a\r\nAuthorization: @@\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"to\":\"shop\"}",
        None,
    ),
    (
        "GET /v1/apps/shop HTTP/1.1\r\nHost: a\r\nAuthorization: @@\r\n\r\n",
        None,
    ),
    ("GET /v1/apps/web HTTP/1.1\r\nHost: a\r\n\r\n", None),
    (
        "GET /v1/apps/web HTTP/1.1\r\nHost: a\r\nAuthorization: @@\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        Some(("GET", "/v1/apps/web", "")),
    ),
];

#[test]
fn what_is_permitted_is_forwarded_as_it_was_sent() {
    let edge = Watched::start(Oddity::Refuse);
    let shown = |read: &Option<Read>| {
        let read = read.as_ref().expect("it is whole");
        let body = String::from_utf8(read.body.clone()).unwrap();
        (read.method.clone(), read.target.clone(), body)
    };
    let expected = |(method, target, body): (&str, &str, &str)| {
        (method.to_owned(), target.to_owned(), body.to_owned())
    };
    for (bytes, forwarded) in REQUESTED {
        let seen: Vec<_> = edge.check(bytes.as_bytes()).iter().map(shown).collect();
        let forwarded: Vec<_> = forwarded.into_iter().map(expected).collect();
        assert_eq!(seen, forwarded, "{bytes}");
    }
    let all: String = REQUESTED.iter().map(|(bytes, _)| *bytes).collect();
    let seen: Vec<_> = edge.check(all.as_bytes()).iter().map(shown).collect();
    let forwarded = REQUESTED.iter().filter_map(|(_, forwarded)| *forwarded);
    assert_eq!(seen, forwarded.map(expected).collect::<Vec<_>>());
}

#[test]
fn what_breaks_off_is_complete_to_no_reader() {
    let edge = Watched::start(Oddity::Refuse);
    for (bytes, _) in REQUESTED.iter().filter(|(bytes, _)| bytes.starts_with('P')) {
        let head = bytes.find("\r\n\r\n").unwrap() + 4;
        for end in head..bytes.len() {
            let seen = edge.check(&bytes.as_bytes()[..end]);
            assert!(seen.iter().all(Option::is_none), "{seen:?}");
        }
    }
}

/// An usher that must not have logged its credential by the end of a test.
struct Watched(Edge);

impl Watched {
    fn start(odd: Oddity) -> Self {
        static WATCHED: Once = Once::new();
        WATCHED.call_once(|| {
            usher::cli::log_to(|| canary::Lines(Place::Log), "trace", false);
            canary::watch_panics();
        });
        let edge = Edge::start(odd);
        canary::hide_tokens(&edge.credential);
        Self(edge)
    }
}

impl Deref for Watched {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        canary::assert_hidden();
    }
}

/// One way to change a connection.
#[derive(Clone, Debug)]
enum Change {
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Replace(Index, u8),
    Repeat(Index, usize),
    Swap(Index, Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Self::Insert(at, piece) => {
                let at = place(at, bytes);
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Delete(at, length) => {
                let from = place(at, bytes);
                let to = bytes.len().min(from + length);
                bytes.drain(from..to);
            }
            Self::Replace(at, byte) => {
                let at = place(at, bytes);
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            Self::Repeat(at, length) => {
                let from = place(at, bytes);
                let to = bytes.len().min(from + length);
                let piece = bytes[from..to].to_vec();
                bytes.splice(from..from, piece);
            }
            Self::Swap(one, other) => {
                let (one, other) = (place(one, bytes), place(other, bytes));
                if one.max(other) < bytes.len() {
                    bytes.swap(one, other);
                }
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let pieces = vec![
        "\r\n",
        "\n",
        "\r",
        "\r\n\r\n",
        "\n\n",
        " ",
        "\t",
        ":",
        ";",
        ",",
        "#",
        "\0",
        "\x7f",
        "0",
        "00",
        "-",
        "+",
        "0x",
        "_",
        ".",
        "/",
        "?",
        "\"",
        "\u{e9}",
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Host: b\r\n",
        "X: y\r\n",
        "GET / HTTP/1.1\r\n",
        "Upgrade: h2c\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        " HTTP/1.1",
        " HTTP/1.0\r\n",
    ];
    let piece = select(pieces).prop_map(|piece| piece.as_bytes().to_vec());
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), piece).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (at(), 1..4_usize).prop_map(|(at, length)| Change::Delete(at, length)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        1 => (at(), 1..40_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        1 => (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn what_passes_is_read_alike(
        requests in prop::collection::vec(select(&REQUESTS[..]), 1..5),
        changes in prop::collection::vec(change(), 0..4),
    ) {
        let mut bytes = requests.concat().into_bytes();
        for change in changes {
            change.apply(&mut bytes);
        }
        check(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_reaches_the_upstream_was_sent_and_permitted(
        connections in prop::collection::vec(
            (
                prop::collection::vec(select(&REQUESTED[..]), 1..5),
                prop::collection::vec(change(), 0..4),
            ),
            1..20,
        ),
        odd in select(vec![Oddity::Refuse, Oddity::Drop]),
    ) {
        let edge = Watched::start(odd);
        for (requests, changes) in connections {
            let requests = requests.iter().map(|(bytes, _)| *bytes);
            let mut bytes = requests.collect::<String>().into_bytes();
            for change in changes {
                change.apply(&mut bytes);
            }
            edge.check(&bytes);
        }
    }
}

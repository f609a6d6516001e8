//! Responses as this side reads them, against hyper's client: a second reader of the same bytes.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;

/// What a reader makes of a response.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: StatusCode,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

/// The lines of a map, but for those that this side does not hand out.
fn lines(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let passes = |(name, value): &(&HeaderName, &HeaderValue)| {
        *name != header::TRANSFER_ENCODING
            && !(*name == header::CONNECTION
                && value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
    };
    let lines = map.iter().filter(passes);
    let mut lines: Vec<_> = lines
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    // The same length twice goes on once.
    lines.dedup();
    lines
}

/// Reads pieces of so many bytes, and the end of the connection behind them. Gives also what is
/// left, and whether another request may follow.
fn read(bytes: &[u8], piece: usize, head_only: bool) -> Result<(Seen, Vec<u8>, bool), Fault> {
    let mut pieces = bytes.chunks(piece);
    let mut read = BytesMut::new();
    let mut searched = 0;
    let head = loop {
        match response::take(&mut read, &mut searched, head_only)? {
            Some(head) if head.is_interim() => {}
            Some(head) => break head,
            None => read.extend_from_slice(pieces.next().ok_or(Fault::Closed)?),
        }
    };
    let mut seen = Seen {
        status: head.response.status(),
        headers: lines(head.response.headers()),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let mut rest = head.rest;
    loop {
        match rest.next(&mut read)? {
            Next::Over => break,
            Next::Part(part) => match part.into_data() {
                Ok(data) => seen.body.extend_from_slice(&data),
                Err(part) => seen.trailers = lines(&part.into_trailers().unwrap()),
            },
            Next::Unread => match pieces.next() {
                Some(piece) => read.extend_from_slice(piece),
                None if rest.end() => {}
                None => return Err(Fault::Closed),
            },
        }
    }
    let keeps = head.keeps && read.is_empty();
    Ok((seen, read.to_vec(), keeps))
}

/// What hyper's client makes of the same bytes.
fn hypers(bytes: &[u8], head_only: bool) -> Result<Seen, hyper::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        let client = hyper::client::conn::http1::handshake(TokioIo::new(near));
        let (mut sender, connection) = client.await?;
        let connection = tokio::spawn(connection);
        let method = if head_only { Method::HEAD } else { Method::GET };
        let request = Request::builder().method(method).uri("/");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = async {
            let asked = far.read_buf(&mut BytesMut::with_capacity(1024)).await;
            assert!(asked.unwrap() > 0);
            far.write_all(bytes).await.unwrap();
            drop(far);
        };
        let (response, ()) = tokio::join!(sender.send_request(request), answer);
        let (head, body) = response?.into_parts();
        let body = body.collect().await?;
        connection.abort();
        Ok(Seen {
            status: head.status,
            headers: lines(&head.headers),
            trailers: body.trailers().map(lines).unwrap_or_default(),
            body: body.to_bytes().to_vec(),
        })
    })
}

const SIZED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-A: é b\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 201 Made\r\nTransfer-Encoding: Chunked\r\ntrailer: x-sum\r\n\r\n\
     5\r\nhello\r\n0A;a=b\r\n\r\n12345678\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n";
const OPEN: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end";

/// Responses that have an end, and how much of them is one.
const WHOLE: [&str; 11] = [
    SIZED,
    CHUNKED,
    OPEN,
    "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 500 \r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 1\r\n\r\n!",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5  \r\nhello\r\n0\t ;a\r\n\r\n",
];

#[test]
fn a_response_is_what_hyper_reads_however_it_comes() {
    for whole in WHOLE {
        let expected = hypers(whole.as_bytes(), false).unwrap();
        for piece in [1, 2, 3, 7, 1000] {
            let (seen, left, _) = read(whole.as_bytes(), piece, false).unwrap();
            assert_eq!(seen, expected, "{whole:?} by {piece}");
            assert!(left.is_empty());
        }
    }
}

#[test]
fn a_part_of_a_response_is_none() {
    for whole in WHOLE.into_iter().filter(|whole| *whole != OPEN) {
        for length in 0..whole.len() {
            let part = &whole.as_bytes()[..length];
            assert!(read(part, 1000, false).is_err(), "{length} of {whole:?}");
            assert!(read(part, 1, false).is_err(), "{length} of {whole:?}");
        }
    }
}

#[test]
fn a_connection_is_used_again_only_behind_the_end_of_what_was_asked_for() {
    let left = |bytes: &str| {
        let (_, left, keeps) = read(bytes.as_bytes(), 1000, false).unwrap();
        (String::from_utf8(left).unwrap(), keeps)
    };
    for whole in [SIZED, CHUNKED, WHOLE[4], WHOLE[5], WHOLE[6], WHOLE[7]] {
        assert_eq!(left(whole), (String::new(), true), "{whole:?}");
        let more = format!("{whole}HTTP/1.1");
        assert_eq!(left(&more), ("HTTP/1.1".to_owned(), false), "{whole:?}");
    }
    for closed in [
        OPEN,
        "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: keep-alive , Close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-length: 40\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(left(closed), (String::new(), false), "{closed:?}");
    }
}

#[test]
fn what_follows_a_head_that_was_asked_for_is_no_body() {
    for whole in [SIZED, CHUNKED] {
        let head = whole.find("\r\n\r\n").unwrap() + 4;
        let (seen, left, _) = read(whole.as_bytes(), 1000, true).unwrap();
        assert_eq!(left, &whole.as_bytes()[head..]);
        assert_eq!(seen, hypers(&whole.as_bytes()[..head], true).unwrap());
    }
}

#[test]
fn what_can_be_framed_in_two_ways_is_refused() {
    for (version, lines) in [
        ("1.1", "content-length: 5\r\ncontent-length: 0"),
        ("1.1", "content-length: 0, 0"),
        ("1.1", "content-length: 0 0"),
        ("1.1", "content-length: +0"),
        ("1.1", "content-length: "),
        ("1.1", "content-length: 18446744073709551616"),
        ("1.1", "content-length: 0\r\ntransfer-encoding: chunked"),
        (
            "1.1",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ),
        ("1.1", "transfer-encoding: identity"),
        ("1.1", "transfer-encoding: gzip, chunked"),
        ("1.0", "transfer-encoding: chunked"),
        ("1.1", "content-length : 0"),
        ("1.1", "x: y\r\n z"),
        ("1.1", "x: \0"),
    ] {
        let bytes = format!("HTTP/{version} 200 OK\r\n{lines}\r\n\r\n0\r\n\r\n");
        assert!(read(bytes.as_bytes(), 1000, false).is_err(), "{lines:?}");
    }
    for bytes in [
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\nx\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\nx\r\n\r\n",
    ] {
        let refused = read(bytes.as_bytes(), 1000, false).unwrap_err();
        assert!(
            refused.to_string().contains("CR LF"),
            "{bytes:?}: {refused}"
        );
    }
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "5 x\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "-5\r\n",
        "\r\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert!(read(bytes.as_bytes(), 1000, false).is_err(), "{chunks:?}");
    }
}

#[test]
fn a_head_has_a_bound() {
    let long = |length| format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(length));
    let refused = read(long(MOST_READ).as_bytes(), 1000, false).unwrap_err();
    assert!(matches!(refused, Fault::Head(_)), "{refused}");
    let waits = read(long(MOST_READ - 1000).as_bytes(), 1000, false).unwrap_err();
    assert!(matches!(waits, Fault::Closed), "{waits}");
    let many = format!("HTTP/1.1 204 N\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert!(read(many.as_bytes(), 1000, false).is_err());
    assert!(read(&many.as_bytes()[..many.len() - 8], 1000, false).is_err());
}

/// A response with some bytes changed for such that mean something.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(b"\r\n\t :;,0159afA-_\0\x7f\xff".to_vec());
    let change = (any::<prop::sample::Index>(), 0..3_u8, byte);
    let whole = prop::sample::select(WHOLE.to_vec());
    (whole, prop::collection::vec(change, 0..4), any::<bool>()).prop_map(
        |(whole, changes, twice)| {
            let mut bytes = whole.as_bytes().to_vec();
            if twice {
                bytes.extend_from_slice(WHOLE[0].as_bytes());
            }
            for (at, kind, byte) in changes {
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_accepted_is_what_hyper_reads(
        bytes in changed(),
        piece in 1..40_usize,
        head_only in any::<bool>(),
    ) {
        if let Ok((seen, _, _)) = read(&bytes, piece, head_only) {
            let expected = hypers(&bytes, head_only);
            prop_assert!(expected.is_ok(), "{expected:?}");
            prop_assert_eq!(seen, expected.unwrap());
        }
    }
}

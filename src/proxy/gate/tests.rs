use proptest::prelude::*;

use super::*;
use crate::proxy::tests::limits;

/// What has passed of a connection's bytes, and why no more, when they come in parts.
fn read_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (usize, Option<Refusal>, Gate) {
    read_with(&limits(), parts)
}

fn read_with<'a>(
    limits: &ConnectionLimits,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> (usize, Option<Refusal>, Gate) {
    let mut gate = Gate::new(limits);
    let (mut kept, mut passed) = (Vec::new(), 0);
    for part in parts {
        kept.extend_from_slice(part);
        let checked = gate.check(&kept);
        passed += checked.passed;
        kept.drain(..checked.passed);
        if checked.fault.is_some() {
            return (passed, checked.fault, gate);
        }
    }
    (passed, None, gate)
}

/// Reads bytes whole, one by one, and in two parts cut at every place; all must agree.
#[track_caller]
fn read(bytes: &[u8]) -> (usize, Option<Refusal>, u64) {
    let shown = bytes.escape_ascii();
    let (passed, fault, gate) = read_parts([bytes]);
    let whole = (passed, fault, gate.heads());
    let same = |(passed, fault, gate): (usize, Option<Refusal>, Gate), how: &str| {
        assert_eq!((passed, fault, gate.heads()), whole, "{how}: {shown}");
    };
    same(read_parts(bytes.chunks(1)), "one by one");
    for cut in 0..bytes.len() {
        let (one, two) = bytes.split_at(cut);
        same(read_parts([one, two]), &format!("cut at {cut}"));
    }
    whole
}

/// Whether a head is refused, without a byte of it passing.
#[track_caller]
fn refused(head: impl AsRef<[u8]>, expected: Refusal) {
    let head = head.as_ref();
    assert_eq!(
        read(head),
        (0, Some(expected), 0),
        "{}",
        head.escape_ascii()
    );
    // Behind a good request just the same.
    let good = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = [good, head].concat();
    assert_eq!(read(&both), (good.len(), Some(expected), 1));
}

#[track_caller]
fn passes(bytes: impl AsRef<[u8]>, heads: u64) {
    let bytes = bytes.as_ref();
    assert_eq!(
        read(bytes),
        (bytes.len(), None, heads),
        "{}",
        bytes.escape_ascii()
    );
}

/// A head with these lines.
fn with(lines: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn what_clients_send_passes() {
    passes("GET / HTTP/1.1\r\n\r\n", 1);
    passes(
        "GET /v1/apps?a=%20b HTTP/1.1\r\nHost: api:1\r\nA:\r\nB: \t x\ty \r\n\r\n",
        1,
    );
    passes(
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-Name: caf\xe9 \xc3\xa9 \"%=\r\n\r\n",
        1,
    );
    passes(
        with("Content-Length: 5\r\n") + "hello" + &with("content-length: 0\r\n"),
        2,
    );
    passes(
        with("CONTENT-LENGTH:  5 \r\n") + "GET /" + "\r\nGET /b HTTP/1.1\r\n\r\n",
        2,
    );
    passes(
        with("Transfer-Encoding: Chunked\r\n")
            + "5\r\nhello\r\n0000000000000Aa\r\n"
            + &"\r\n".repeat(85)
            + "\r\n0\r\n\r\n"
            + &with(""),
        2,
    );
    passes(
        with("transfer-encoding: chunked\r\n") + "0\r\nX-Sum: 1\t2\r\nY:\r\n\r\n" + &with(""),
        2,
    );
    passes("get http://a:80/b?c HTTP/1.1\r\nHost: a:80\r\n\r\n", 1);
    passes("GET https://[::1] HTTP/1.1\r\nHost: [::1]\r\n\r\n", 1);
    passes("CONNECT a.internal:22 HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    // RFC 9112 2.2: some clients end a body with a line that its length leaves out.
    passes(with("content-length: 1\r\n") + "x\r\n" + &with(""), 2);
}

#[test]
fn every_line_ends_with_both_of_its_characters() {
    for (head, expected) in [
        ("GET /a HTTP/1.1\nHost: a\n\n", Refusal::BareLf),
        ("GET /a HTTP/1.1\nHost: a\r\n\r\n", Refusal::BareLf),
        ("GET /a HTTP/1.1\r\nHost: a\n\r\n", Refusal::BareLf),
        ("GET /a HTTP/1.1\r\nHost: a\r\n\n", Refusal::BareLf),
        ("GET /a HTTP/1.1\r\nHost\n: a\r\n\r\n", Refusal::BareLf),
        ("\nGET /a HTTP/1.1\r\n\r\n", Refusal::BareLf),
        ("GET\n/a HTTP/1.1\r\n\r\n", Refusal::BareLf),
        ("GET /a\nHTTP/1.1\r\n\r\n", Refusal::BareLf),
        ("GET /a HTTP/1.1\rHost: a\r\n\r\n", Refusal::BareCr),
        ("GET /a HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Refusal::BareCr),
        ("GET /a HTTP/1.1\r\nHost: a\r\r\n\r\n", Refusal::BareCr),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n",
            Refusal::BareCr,
        ),
        ("GET /a HTTP/1.1\r\nHo\rst: a\r\n\r\n", Refusal::BareCr),
        ("\rGET /a HTTP/1.1\r\n\r\n", Refusal::BareCr),
        ("\r\n\r\nGET /a HTTP/1.1\r\n\r\n", Refusal::RequestLine),
    ] {
        refused(head, expected);
    }
}

#[test]
fn a_request_line_has_three_parts() {
    for head in [
        "GET /a\r\n",
        "GET  /a HTTP/1.1\r\n\r\n",
        "GET /a  HTTP/1.1\r\n\r\n",
        " GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1 \r\n\r\n",
        "GET /a HTTP/1.12\r\n\r\n",
        "GET /a HTTP/x.1\r\n\r\n",
        "GET /a http/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "G(T /a HTTP/1.1\r\n\r\n",
        "GET: /a HTTP/1.1\r\n\r\n",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ /a HTTP/1.1\r\n\r\n",
    ] {
        refused(head, Refusal::RequestLine);
    }
    for version in ["1.0", "1.2", "2.0", "0.9", "3", "11"] {
        refused(format!("GET /a HTTP/{version}\r\n\r\n"), Refusal::Version);
    }
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::TargetForm);
    refused(b"\x16\x03\x01\x02\x00\x01", Refusal::Control);
    refused("G\0T /a HTTP/1.1\r\n\r\n", Refusal::Control);
}

#[test]
fn a_target_is_made_of_what_nobody_cuts_off() {
    for (target, expected) in [
        ("/a#b", Refusal::Fragment),
        ("#", Refusal::Fragment),
        ("/a\\b", Refusal::TargetByte),
        ("/a;b", Refusal::TargetByte),
        ("/a\"b", Refusal::TargetByte),
        ("/a|b", Refusal::TargetByte),
        ("/{a}", Refusal::TargetByte),
        ("/caf\u{e9}", Refusal::TargetByte),
        ("/a\tb", Refusal::Control),
        ("/a\0b", Refusal::Control),
        ("/a\x7fb", Refusal::Control),
        ("*", Refusal::TargetForm),
        ("a", Refusal::TargetForm),
        ("a:80", Refusal::TargetForm),
        ("http:///a", Refusal::TargetForm),
        ("http://user@a/b", Refusal::TargetForm),
        ("http://a:x/b", Refusal::TargetForm),
        ("http://a,b/", Refusal::TargetForm),
        ("HTTP://a/b", Refusal::TargetForm),
        ("ftp://a/b", Refusal::TargetForm),
    ] {
        refused(
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
            expected,
        );
    }
    for target in ["a", "/a", "http://a:1/", "a:", "[::1]", ":1", "*"] {
        refused(
            format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
            Refusal::TargetForm,
        );
    }
}

#[test]
fn a_header_is_a_name_a_colon_and_a_value() {
    for (line, expected) in [
        (" X: a", Refusal::Fold),
        ("\tX: a", Refusal::Fold),
        ("A: b\r\n c", Refusal::Fold),
        ("X : a", Refusal::SpacedName),
        ("X\t: a", Refusal::SpacedName),
        ("X  \t: a", Refusal::SpacedName),
        ("X Y: a", Refusal::HeaderLine),
        (": a", Refusal::HeaderLine),
        ("X", Refusal::HeaderLine),
        ("X\u{e9}: a", Refusal::HeaderLine),
        ("X(Y): a", Refusal::HeaderLine),
        ("X/Y: a", Refusal::HeaderLine),
        ("X\0: a", Refusal::Control),
        ("X: a\0b", Refusal::Control),
        ("X: a\x0bb", Refusal::Control),
        ("X: a\x7f", Refusal::Control),
        ("X_Y: a", Refusal::HeaderName),
        ("X.Y: a", Refusal::HeaderName),
        ("X!Y: a", Refusal::HeaderName),
        ("_: a", Refusal::HeaderName),
    ] {
        refused(with(&format!("{line}\r\n")), expected);
    }
}

#[test]
fn the_length_of_a_body_is_said_once_and_in_one_way() {
    for (lines, expected) in [
        (
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            Refusal::RepeatedLength,
        ),
        (
            "Content-Length: 3\r\nContent-length: 4\r\n",
            Refusal::RepeatedLength,
        ),
        ("Content-Length: 3, 3\r\n", Refusal::Length),
        ("Content-Length: +3\r\n", Refusal::Length),
        ("Content-Length: -3\r\n", Refusal::Length),
        ("Content-Length: 03\r\n", Refusal::Length),
        ("Content-Length: 00\r\n", Refusal::Length),
        ("Content-Length: 0x3\r\n", Refusal::Length),
        ("Content-Length: 3 3\r\n", Refusal::Length),
        ("Content-Length:\r\n", Refusal::Length),
        ("Content-Length: 3.0\r\n", Refusal::Length),
        ("Content-Length: 18446744073709551619\r\n", Refusal::Length),
        ("Content-Length: 9999999999999999999\r\n", Refusal::Length),
        ("Transfer-Encoding: gzip, chunked\r\n", Refusal::Coding),
        ("Transfer-Encoding: chunked, chunked\r\n", Refusal::Coding),
        ("Transfer-Encoding: identity\r\n", Refusal::Coding),
        ("Transfer-Encoding: xchunked\r\n", Refusal::Coding),
        ("Transfer-Encoding: chunked;q=1\r\n", Refusal::Coding),
        ("Transfer-Encoding: \"chunked\"\r\n", Refusal::Coding),
        ("Transfer-Encoding:\r\n", Refusal::Coding),
        (
            "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            Refusal::Coding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            Refusal::TwoFramings,
        ),
        (
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            Refusal::TwoFramings,
        ),
    ] {
        refused(with(lines), expected);
    }
    let tunnel = |lines| format!("CONNECT a:1 HTTP/1.1\r\n{lines}\r\n");
    refused(tunnel("Content-Length: 3\r\n"), Refusal::ConnectBody);
    refused(tunnel("Content-Length: 0\r\n"), Refusal::ConnectBody);
    refused(
        tunnel("Transfer-Encoding: chunked\r\n"),
        Refusal::ConnectBody,
    );
}

#[test]
fn a_chunk_ends_where_it_says() {
    let head = with("Transfer-Encoding: chunked\r\n");
    for (good, bad, expected) in [
        ("", "\r\n", Refusal::ChunkSize),
        ("", "x\r\n", Refusal::ChunkSize),
        ("0", "x5\r\n", Refusal::ChunkSize),
        ("", "+5\r\n", Refusal::ChunkSize),
        ("", "-5\r\n", Refusal::ChunkSize),
        ("", " 5\r\n", Refusal::ChunkSize),
        ("5", " \r\n", Refusal::ChunkSize),
        ("5", "\t\r\n", Refusal::ChunkSize),
        ("5", "\n", Refusal::ChunkSize),
        ("5\r", "\r\n", Refusal::ChunkSize),
        ("5\r", "hello\r\n", Refusal::ChunkSize),
        ("5", ";a=b\r\n", Refusal::ChunkExtension),
        ("5", ";\nhello\r\n", Refusal::ChunkExtension),
        ("5", " ;a\r\n", Refusal::ChunkSize),
        ("0000000000000000", "0\r\n", Refusal::ChunkSize),
        ("fffffffffffffff5", "5\r\n", Refusal::ChunkSize),
        ("5\r\nhello", "5\r\n", Refusal::ChunkEnd),
        ("5\r\nhello", "\n5\r\n", Refusal::ChunkEnd),
        ("5\r\nhello", "o\r\n", Refusal::ChunkEnd),
        ("5\r\nhello\r", "x\r\n", Refusal::ChunkEnd),
        ("0\r\n", "\n", Refusal::Trailer),
        ("0\r\nX: a", "\n\nGET /b HTTP/1.1\r\n\r\n", Refusal::Trailer),
        (
            "0\r\nX: a\r\n",
            "\nGET /b HTTP/1.1\r\n\r\n",
            Refusal::Trailer,
        ),
        ("0\r\nX: a\r", "b\r\n", Refusal::Trailer),
        ("0\r\n", " X: a\r\n", Refusal::Trailer),
        ("0\r\nX", " : a\r\n", Refusal::Trailer),
        ("0\r\nX", "_Y: a\r\n", Refusal::Trailer),
        ("0\r\n", ": a\r\n", Refusal::Trailer),
        ("0\r\nX: a", "\0\r\n", Refusal::Trailer),
        ("0\r\n\r", "X\r\n", Refusal::Trailer),
    ] {
        let bytes = format!("{head}{good}{bad}");
        let passed = head.len() + good.len();
        assert_eq!(
            read(bytes.as_bytes()),
            (passed, Some(expected), 1),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_is_to_be_dropped_passes_and_no_more() {
    let mut limits = limits();
    limits.odd_header_names = Oddity::Drop;
    limits.chunk_extensions = Oddity::Drop;
    let check = |bytes: String, expected| {
        let bytes = bytes.as_bytes();
        let whole = read_with(&limits, [bytes]);
        let pieces = read_with(&limits, bytes.chunks(1));
        assert_eq!(whole.1, expected, "{}", bytes.escape_ascii());
        assert_eq!((whole.0, whole.1), (pieces.0, pieces.1));
    };
    check(with("X_Y: a\r\nX.Y!#: a\r\n"), None);
    check(with("X(Y): a\r\n"), Some(Refusal::HeaderLine));
    check(with("X_Y : a\r\n"), Some(Refusal::SpacedName));
    let body = |body: &str| with("Transfer-Encoding: chunked\r\n") + body;
    check(
        body("5;\r\nhello\r\n0;a=\"b\tc\"\r\nX_Y: z\r\n\r\n") + &with(""),
        None,
    );
    for (bad, expected) in [
        (";a\r\n", Refusal::ChunkSize),
        ("5 ;a\r\n", Refusal::ChunkSize),
        ("5;a\nhello\r\n", Refusal::ChunkExtension),
        ("5;a\0\r\n", Refusal::ChunkExtension),
        ("5;a\rb\r\n", Refusal::ChunkSize),
        ("0\r\nX(Y): z\r\n", Refusal::Trailer),
    ] {
        check(body(bad), Some(expected));
    }
    let long = |length| body(&format!("5;{}\r\nhello\r\n", "a".repeat(length)));
    check(long(8 * 1024 - 1), None);
    check(long(8 * 1024 + 1), Some(Refusal::ChunkExtension));
}

#[test]
fn trailers_are_bounded() {
    let body = with("Transfer-Encoding: chunked\r\n") + "0\r\n";
    let check = |trailers: String| {
        let bytes = format!("{body}{trailers}\r\n");
        let (_, fault, _) = read_parts([bytes.as_bytes()]);
        fault
    };
    assert_eq!(check("x: y\r\n".repeat(32)), None);
    assert_eq!(
        check("x: y\r\n".repeat(33)),
        Some(Refusal::TrailersTooLarge)
    );
    let long = |length: usize| format!("x:{}\r\n", "y".repeat(length - 4));
    assert_eq!(check(long(8 * 1024)), None);
    assert_eq!(check(long(8 * 1024 + 1)), Some(Refusal::TrailersTooLarge));
}

#[test]
fn bounds_of_a_head_are_inclusive() {
    let limits = limits();
    let check = |bytes: String| {
        let whole = read_parts([bytes.as_bytes()]);
        let pieces = read_parts(bytes.as_bytes().chunks(1));
        assert_eq!((whole.0, whole.1), (pieces.0, pieces.1));
        whole.1
    };
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(length - 1));
    assert_eq!(check(target(limits.target_bytes)), None);
    assert_eq!(
        check(target(limits.target_bytes + 1)),
        Some(Refusal::TargetTooLong)
    );
    let lines = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(check(lines(limits.headers)), None);
    assert_eq!(
        check(lines(limits.headers + 1)),
        Some(Refusal::TooManyHeaders)
    );
    let head = |length: usize| {
        let rest = "GET / HTTP/1.1\r\na:\r\n\r\n".len();
        format!("GET / HTTP/1.1\r\na:{}\r\n\r\n", "b".repeat(length - rest))
    };
    assert_eq!(check(head(limits.head_bytes)), None);
    assert_eq!(
        check(head(limits.head_bytes + 1)),
        Some(Refusal::HeadTooLarge)
    );
    // Before its end has come.
    let endless = "GET / HTTP/1.1\r\na: ".to_owned() + &"b".repeat(limits.head_bytes);
    assert_eq!(check(endless), Some(Refusal::HeadTooLarge));
}

#[test]
fn nothing_passes_behind_an_upgrade_until_it_is_answered() {
    let upgrade = with("Upgrade: websocket\r\nContent-Length: 2\r\n") + "ok";
    let next = "GET /b HTTP/1.1\r\n\r\n";
    let bytes = upgrade.clone() + next;
    let (passed, fault, mut gate) = read_parts([bytes.as_bytes()]);
    assert_eq!((passed, fault), (upgrade.len(), None));
    assert!(gate.is_held() && !gate.is_in_body());
    assert!(gate.resume() && !gate.is_held());
    assert_eq!(gate.check(next.as_bytes()).passed, next.len());
    assert_eq!(gate.heads(), 2);

    let (_, _, mut gate) = read_parts([bytes.as_bytes()]);
    gate.release();
    let noise = b"\0\n\xff";
    let everything = Checked {
        passed: 3,
        fault: None,
    };
    assert_eq!(gate.check(noise), everything);
}

#[test]
fn what_follows_a_refused_tunnel_is_no_request() {
    let bytes = b"CONNECT a:1 HTTP/1.1\r\nUpgrade: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
    let (passed, fault, mut gate) = read_parts([&bytes[..]]);
    assert_eq!((passed, fault), (bytes.len() - 19, None));
    assert!(gate.is_held() && !gate.resume() && gate.is_held());
}

#[test]
fn the_first_control_character_is_found_wherever_it_is() {
    for length in 0..100_usize {
        let mut bytes = vec![b'a'; length];
        assert_eq!(head::first_control(&bytes), None);
        for at in 0..length {
            for (byte, special) in [
                (0, true),
                (b'\t', true),
                (0x1f, true),
                (0x7f, true),
                (b' ', false),
                (0x7e, false),
                (0x80, false),
                (0xff, false),
            ] {
                bytes[at] = byte;
                assert_eq!(head::first_control(&bytes), special.then_some(at));
                if at + 1 < length {
                    bytes[at + 1] = b'\r';
                    let expected = if special { at } else { at + 1 };
                    assert_eq!(head::first_control(&bytes), Some(expected));
                    bytes[at + 1] = b'a';
                }
            }
            bytes[at] = b'a';
        }
    }
}

/// Requests out of the pieces that matter, in any order.
fn connection() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "GET /a HTTP/1.1\r\n", "POST /a?b=c HTTP/1.1\r\n", "Host: a\r\n", "\r\n", "\r\n\r\n",
            "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "X: y z\r\n", "abc",
            "3\r\nabc\r\n", "0\r\n", "0\r\n\r\n", "Upgrade: x\r\n", "CONNECT a:1 HTTP/1.1\r\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(vec![
            "\r", "\n", " ", "\t", ":", ";", "\0", "a", "_", "#", "HTTP/1.0", "0", "x",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn it_does_not_matter_how_bytes_arrive(bytes in connection()) {
        read(&bytes);
    }
}

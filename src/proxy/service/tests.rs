use bytes::Bytes;
use http::HeaderValue;
use http_body_util::Full;

use super::*;
use crate::proxy::tests::limits;

fn request(version: Version, target: &str, lines: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().version(version).uri(target);
    for (name, value) in lines {
        request = request.header(*name, HeaderValue::from_str(value).unwrap());
    }
    request.body(Full::default()).unwrap()
}

fn code(request: &Request<Full<Bytes>>) -> Result<(), &'static str> {
    read(request, &mut Sieve::default(), false, &limits())
        .map(drop)
        .map_err(|answer| answer.code.as_str())
}

const H1: Version = Version::HTTP_11;
const H2: Version = Version::HTTP_2;

#[test]
fn the_decision_sees_host_and_target_as_sent() {
    let one = request(H1, "/v1/apps/web?a=%20b", &[("host", "api.example:8443")]);
    let head = read(&one, &mut Sieve::default(), false, &limits()).unwrap();
    assert_eq!(
        (head.host, head.target),
        ("api.example:8443", "/v1/apps/web?a=%20b")
    );
    let two = request(H2, "https://api.example/v1", &[]);
    let head = read(&two, &mut Sieve::default(), false, &limits()).unwrap();
    assert_eq!((head.host, head.target), ("api.example", "/v1"));
}

#[test]
fn exactly_one_host_is_needed() {
    for (version, target, lines) in [
        (H1, "/", &[][..]),
        (H1, "/", &[("host", "")]),
        (H1, "/", &[("host", "a"), ("host", "a")]),
        (H1, "http://a/", &[]),
        (H1, "http://a/", &[("host", "b")]),
        (H1, "http://a/", &[("host", "A")]),
        (H2, "/", &[]),
        (H2, "/", &[("host", "")]),
        (H2, "/", &[("host", "a"), ("host", "a")]),
        (H2, "http://a/", &[("host", "b")]),
        (H2, "http://user@a/", &[]),
    ] {
        let request = request(version, target, lines);
        assert_eq!(code(&request), Err("ambiguous"), "{target} {lines:?}");
    }
    for (version, target, lines) in [
        (H1, "/", &[("host", "a")][..]),
        (H1, "http://a/", &[("host", "a")]),
        (H2, "http://a/", &[]),
        (H2, "/", &[("host", "a")]),
        (H2, "http://a/", &[("host", "a")]),
    ] {
        let request = request(version, target, lines);
        assert_eq!(code(&request), Ok(()), "{target} {lines:?}");
    }
}

#[test]
fn bounds_are_inclusive() {
    let limits = limits();
    let long = format!("/{}", "a".repeat(limits.target_bytes - 1));
    assert_eq!(code(&request(H1, &long, &[("host", "a")])), Ok(()));
    let longer = format!("{long}a");
    assert_eq!(
        code(&request(H1, &longer, &[("host", "a")])),
        Err("target-too-long")
    );
    let mut lines = vec![("accept", "*/*"); limits.headers - 1];
    lines.push(("host", "a"));
    assert_eq!(code(&request(H1, "/", &lines)), Ok(()));
    lines.push(("accept", "*/*"));
    assert_eq!(code(&request(H1, "/", &lines)), Err("head-too-large"));
}

#[test]
fn old_versions_tunnels_and_echoes_are_refused() {
    let host = [("host", "a")];
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_3] {
        assert_eq!(code(&request(version, "/", &host)), Err("http-version"));
    }
    for method in [Method::CONNECT, Method::TRACE] {
        let mut refused = request(H1, "/", &host);
        *refused.method_mut() = method;
        assert_eq!(code(&refused), Err("method-not-allowed"));
    }
    let star = request(H1, "*", &host);
    assert_eq!(code(&star), Err("ambiguous"));
}

#[test]
fn credentials_do_not_show_where_headers_are_printed() {
    let lines = [
        ("authorization", "Bearer fm2_one"),
        ("authorization", "Bearer fm2_two"),
        ("proxy-authorization", "Basic fm2_three"),
        ("accept", "text/plain"),
    ];
    let mut request = request(Version::HTTP_11, "/a", &lines);
    conceal(request.headers_mut());
    let printed = format!("{request:?}");
    assert!(!printed.contains("fm2_"), "{printed}");
    assert!(printed.contains("text/plain"), "{printed}");
    assert_eq!(request.headers()["authorization"], "Bearer fm2_one");
}

#[test]
fn a_body_where_none_belongs_is_refused() {
    for (method, expected) in [
        (Method::GET, Err("ambiguous")),
        (Method::HEAD, Err("ambiguous")),
        (Method::DELETE, Err("ambiguous")),
        (Method::POST, Ok(())),
    ] {
        let mut request = request(H1, "/", &[("host", "a")]);
        *request.method_mut() = method.clone();
        assert_eq!(code(&request), Ok(()), "{method} without a body");
        *request.body_mut() = Full::from("instance=m2");
        assert_eq!(code(&request), expected, "{method} with a body");
    }
}

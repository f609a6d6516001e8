//! Which header lines cross usher, in either direction.
//!
//! Everything usher owns is deleted first and set afterwards, so that no copy a client made up
//! can survive beside, or instead of, the true one.

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::config::{Oddity, is_owned};

/// Header lines of a request that must not reach the upstream, collected while it was judged.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    remove: SmallVec<[HeaderName; 8]>,
    trailers: bool,
    /// The lines that HTTP/2 may split a cookie into, as the one line that HTTP/1.1 demands.
    cookie: Option<HeaderValue>,
}

impl Sieve {
    /// Judges a request's header lines.
    ///
    /// # Errors
    ///
    /// The reason why they can be read in two ways.
    pub(super) fn judge(
        &mut self,
        headers: &HeaderMap,
        version: Version,
        odd: Oddity,
    ) -> Result<(), &'static str> {
        // A request is judged again when the decision had to wait for something.
        *self = Self::default();
        if headers.len() != headers.keys_len() {
            singletons(headers)?;
            self.cookie = joined_cookie(headers, version)?;
        }
        for name in headers.keys() {
            match Kind::of(name) {
                Kind::EndToEnd if *name == header::CONTENT_LENGTH => {
                    headers.get(name).map_or(Ok(()), content_length)?;
                }
                Kind::EndToEnd => {}
                Kind::Folded if odd == Oddity::Refuse => {
                    return Err("a header name is not made of letters, digits and hyphens");
                }
                Kind::HopByHop | Kind::Credential | Kind::Owned | Kind::Folded => {
                    self.remove.push(name.clone());
                }
            }
        }
        if self.remove.contains(&header::CONNECTION) {
            nominations(headers)?;
        }
        if self.remove.contains(&header::TRANSFER_ENCODING) {
            transfer_encoding(headers)?;
        }
        self.trailers = self.remove.contains(&header::TE) && accepts_trailers(headers);
        Ok(())
    }

    /// Removes what must not pass, and keeps `TE: trailers`, which gRPC insists on. Returns the
    /// `Host` line, which is removed with the rest.
    pub(super) fn apply(&mut self, headers: &mut HeaderMap) -> Option<HeaderValue> {
        let mut host = None;
        for name in &self.remove {
            let removed = headers.remove(name);
            if *name == header::HOST {
                host = removed;
            }
        }
        if let Some(cookie) = self.cookie.take() {
            headers.insert(header::COOKIE, cookie);
        }
        if self.trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        host
    }
}

/// Removes from a response what belongs to the upstream's connection.
///
/// # Errors
///
/// The reason why the end of its body can be read in two ways.
pub(super) fn clean_response(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut remove: SmallVec<[HeaderName; 4]> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name))
        .cloned()
        .collect();
    if remove.is_empty() {
        return Ok(());
    }
    if remove.contains(&header::TRANSFER_ENCODING) {
        // hyper frames by Transfer-Encoding alone and keeps the other; whoever reads the
        // connection differently sees another end of the body.
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Err("it has both Content-Length and Transfer-Encoding");
        }
        transfer_encoding(headers).map_err(|_| "its Transfer-Encoding is not chunked")?;
    }
    // By far the most frequent line nominates nothing that is not removed in any case.
    let usual = |line: &HeaderValue| line.as_bytes().eq_ignore_ascii_case(b"keep-alive");
    let lines = headers.get_all(header::CONNECTION);
    if remove.contains(&header::CONNECTION) && !lines.iter().all(usual) {
        let nominated = connection_options(headers)
            .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok());
        remove.extend(nominated);
    }
    for name in &remove {
        headers.remove(name);
    }
    Ok(())
}

/// Removes from a trailer section what may not be set so late, and what is in `refused`.
pub(super) fn clean_trailers(trailers: &mut HeaderMap, refused: &[HeaderName]) {
    let late: SmallVec<[HeaderName; 4]> = trailers
        .keys()
        .filter(|name| {
            Kind::of(name) != Kind::EndToEnd
                || NOT_IN_TRAILERS.contains(name)
                || refused.contains(name)
        })
        .cloned()
        .collect();
    for name in late {
        trailers.remove(name);
    }
}

/// What a header line is to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Passes unchanged.
    EndToEnd,
    /// Concerns one connection only (RFC 9110 7.6.1).
    HopByHop,
    /// Has done its work here.
    Credential,
    /// Upstreams trust it because only usher sets it.
    Owned,
    /// CGI-like upstreams read `X_Usher_Org`, `X.Usher.Org` and even `X!Usher!Org` as
    /// `X-Usher-Org`.
    Folded,
}

impl Kind {
    fn of(name: &HeaderName) -> Self {
        let text = name.as_str();
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Self::Folded;
        }
        // Names arrive in lower case; the first letter rules most of them out.
        match text.as_bytes().first() {
            Some(b'a') if *name == header::AUTHORIZATION => Self::Credential,
            Some(b'p') if *name == header::PROXY_AUTHORIZATION => Self::Credential,
            Some(b'h' | b'e') if PER_HOP_IN_REQUESTS.contains(name) => Self::HopByHop,
            Some(_) if is_owned(text) => Self::Owned,
            Some(_) if is_hop_by_hop(name) => Self::HopByHop,
            Some(_) | None => Self::EndToEnd,
        }
    }
}

/// Whether a line is about one connection. The first letter rules most names out.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str().as_bytes().first() {
        Some(b'c' | b'k' | b'p' | b't' | b'u' | b'h') => HOP_BY_HOP.contains(name),
        Some(_) | None => false,
    }
}

/// Refuses a repeated line where two readers may pick different ones.
fn singletons(headers: &HeaderMap) -> Result<(), &'static str> {
    let repeated = |name: &HeaderName| headers.get_all(name).iter().nth(1).is_some();
    if SINGLETONS.iter().any(repeated) {
        return Err("a header that may occur once is repeated");
    }
    Ok(())
}

/// RFC 9113 8.2.3: HTTP/2 may split a cookie, and a proxy joins it again. In HTTP/1.1 two lines
/// are two cookies, of which readers take the first, the last or both.
fn joined_cookie(
    headers: &HeaderMap,
    version: Version,
) -> Result<Option<HeaderValue>, &'static str> {
    let crumbs: SmallVec<[&[u8]; 8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() < 2 {
        return Ok(None);
    }
    if version != Version::HTTP_2 {
        return Err("the Cookie header is repeated");
    }
    HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
        .map(Some)
        .map_err(|_| "the Cookie header cannot be joined")
}

/// Refuses nominations that would make a header line vanish at a later hop.
fn nominations(headers: &HeaderMap) -> Result<(), &'static str> {
    let known = |option: &str| NOMINATIONS.iter().any(|n| option.eq_ignore_ascii_case(n));
    if !legible(headers, &header::CONNECTION) || !connection_options(headers).all(known) {
        return Err("the Connection header names a header that is not about the connection");
    }
    Ok(())
}

pub(super) fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|option| option.trim_matches([' ', '\t']))
        .filter(|option| !option.is_empty())
}

fn legible(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().all(|v| v.to_str().is_ok())
}

/// Accepts one line, one coding, `chunked`: the only framing that all readers agree on.
fn transfer_encoding(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) if line.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_) | None, Some(_) | None) => Err("the Transfer-Encoding is not exactly chunked"),
    }
}

/// Accepts digits without a leading zero: signs, zeros and lists are where parsers differ.
fn content_length(value: &HeaderValue) -> Result<(), &'static str> {
    match value.as_bytes() {
        [b'0'] => Ok(()),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err("the Content-Length is not a plain number"),
    }
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Lines about one connection, in both directions. `Trailer` stays: trailers pass through.
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Request lines that usher answers or writes itself: 100 Continue, and the upstream's host.
static PER_HOP_IN_REQUESTS: [HeaderName; 2] = [header::EXPECT, header::HOST];

/// What a client may nominate in `Connection`.
const NOMINATIONS: [&str; 6] = [
    "close",
    "keep-alive",
    "upgrade",
    "te",
    "trailers",
    "http2-settings",
];

/// Lines whose repetition is an attack on readers that take the first, the last or the list.
static SINGLETONS: [HeaderName; 14] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LOCATION,
    header::EXPECT,
    header::FROM,
    header::ORIGIN,
    header::REFERER,
    header::UPGRADE,
    header::USER_AGENT,
];

/// End-to-end lines that change how a message is read; RFC 9110 6.5.1 keeps them out of trailers.
static NOT_IN_TRAILERS: [HeaderName; 9] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::TRAILER,
    header::COOKIE,
    header::SET_COOKIE,
    header::CACHE_CONTROL,
    header::RANGE,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        map
    }

    fn forwarded(lines: &[(&str, &str)]) -> Result<Vec<String>, &'static str> {
        forwarded_from(Version::HTTP_11, Oddity::Refuse, lines)
    }

    fn forwarded_from(
        version: Version,
        odd: Oddity,
        lines: &[(&str, &str)],
    ) -> Result<Vec<String>, &'static str> {
        let mut headers = map(lines);
        let mut sieve = Sieve::default();
        sieve.judge(&headers, version, odd)?;
        sieve.apply(&mut headers);
        let mut out: Vec<_> = headers
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        out.sort();
        Ok(out)
    }

    #[test]
    fn end_to_end_lines_pass() {
        let lines = [
            ("accept", "*/*"),
            ("accept", "text/html"),
            ("content-length", "10"),
            ("content-type", "text/plain"),
            ("cookie", "a=b"),
            ("x-request-id", "1"),
            ("fly-force-instance-id", "2"),
            ("trailer", "x-sum"),
            ("via", "1.1 other"),
        ];
        assert_eq!(forwarded(&lines).unwrap().len(), lines.len());
    }

    #[test]
    fn credentials_connection_lines_and_owned_lines_do_not() {
        for name in [
            "authorization",
            "proxy-authorization",
            "host",
            "expect",
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "http2-settings",
            "X-Usher-Org",
            "x-usher-",
            "X-Forwarded-For",
            "x-forwarded-client-cert",
            "Forwarded",
            "x-real-ip",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "fly-src",
            "fly-src-signature",
            "fly-client-ip",
            "fly-forwarded-proto",
            "client-cert",
            "x-envoy-external-address",
            "x-accel-mapping",
            "x-host",
            "proxy",
        ] {
            let out = forwarded(&[("accept", "*/*"), (name, "v")]);
            assert_eq!(out, Ok(vec!["accept: */*".to_owned()]), "{name}");
        }
    }

    #[test]
    fn names_that_fold_into_others_are_refused_or_dropped() {
        for name in ["x_usher_org", "x.usher.org", "x!usher!org", "any_thing"] {
            assert!(forwarded(&[(name, "v")]).is_err(), "{name}");
            let lines = [("accept", "*/*"), (name, "v"), (name, "w")];
            let left = forwarded_from(Version::HTTP_11, Oddity::Drop, &lines);
            assert_eq!(left, Ok(vec!["accept: */*".to_owned()]), "{name}");
        }
    }

    #[test]
    fn repeated_singletons_are_refused_and_lists_are_not() {
        for name in &SINGLETONS {
            let lines = [(name.as_str(), "1"), (name.as_str(), "1")];
            assert!(forwarded(&lines).is_err(), "{name}");
        }
        assert!(forwarded(&[("accept", "a"), ("accept", "b")]).is_ok());
    }

    #[test]
    fn a_cookie_that_http2_split_is_one_line_again() {
        let lines = [("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2")];
        assert_eq!(
            forwarded_from(Version::HTTP_2, Oddity::Refuse, &lines).unwrap(),
            ["accept: */*", "cookie: a=1; b=2"]
        );
        assert!(forwarded(&lines).is_err());
    }

    #[test]
    fn a_connection_header_names_only_connection_options() {
        for value in ["close", "Keep-Alive, TE", "upgrade,http2-settings", "", ","] {
            assert_eq!(forwarded(&[("connection", value)]), Ok(vec![]), "{value}");
        }
        for value in ["x-usher-org", "close, authorization", "keep-alive;x"] {
            assert!(forwarded(&[("connection", value)]).is_err(), "{value}");
        }
    }

    #[test]
    fn only_te_trailers_is_kept() {
        let kept = Ok(vec!["te: trailers".to_owned()]);
        assert_eq!(forwarded(&[("te", "trailers")]), kept);
        assert_eq!(forwarded(&[("te", "gzip, Trailers")]), kept);
        assert_eq!(forwarded(&[("te", "gzip")]), Ok(vec![]));
    }

    #[test]
    fn framing_has_one_spelling() {
        for value in ["0", "7", "1000000"] {
            assert!(forwarded(&[("content-length", value)]).is_ok(), "{value}");
        }
        for value in ["007", "+7", "-1", "7, 7", "", "0x7"] {
            assert!(forwarded(&[("content-length", value)]).is_err(), "{value}");
        }
        assert_eq!(
            forwarded(&[("transfer-encoding", "Chunked")]),
            Ok(Vec::new())
        );
        for value in ["gzip, chunked", "identity", "x", "chunked, chunked"] {
            let lines = [("transfer-encoding", value)];
            assert!(forwarded(&lines).is_err(), "{value}");
        }
    }

    #[test]
    fn a_response_loses_what_concerns_the_connection() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-hop"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
            ("content-type", "text/plain"),
        ]);
        assert_eq!(clean_response(&mut headers), Ok(()));
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "trailer"]);
    }

    #[test]
    fn a_response_framed_in_two_ways_is_refused() {
        for lines in [
            [("transfer-encoding", "chunked"), ("content-length", "3")],
            [("transfer-encoding", "gzip, chunked"), ("x", "y")],
        ] {
            assert!(clean_response(&mut map(&lines)).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn trailers_cannot_bring_what_headers_may_not() {
        let mut trailers = map(&[
            ("x-checksum", "1"),
            ("x-api-key", "forged"),
            ("grpc-status", "0"),
            ("authorization", "Bearer x"),
            ("host", "other"),
            ("x-usher-org", "1"),
            ("x_usher_org", "1"),
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
        ]);
        let credential = HeaderName::from_static("x-api-key");
        clean_trailers(&mut trailers, &[credential]);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-checksum"]);
    }
}

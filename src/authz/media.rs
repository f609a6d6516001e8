//! Whether a body is in the one form that is judged.

use http::{HeaderMap, HeaderValue, header};

/// Takes JSON that is not encoded any further, said once. An upstream that goes by another media
/// type, charset or encoding could read other fields from the same bytes.
pub(super) fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err("this route is judged by its body; send it without Content-Encoding");
    }
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) if is_json(line) => Ok(()),
        _ => Err("this route is judged by its body; send it as Content-Type: application/json"),
    }
}

/// `application/json`, with no parameter but `charset=utf-8` (RFC 8259 11 has none; clients send
/// that one).
fn is_json(line: &HeaderValue) -> bool {
    let text = line.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let is_type = parts.next() == Some("application/json");
    let charset = parts.next();
    let is_utf8 = matches!(charset, None | Some("charset=utf-8" | "charset=\"utf-8\""));
    is_type && is_utf8 && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_json_is_judged() {
        let headers = |lines: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                let name = header::HeaderName::try_from(*name).unwrap();
                map.append(name, value.parse().unwrap());
            }
            map
        };
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert_eq!(check(&headers(&[("content-type", good)])), Ok(()), "{good}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; x=y",
            "application/json, text/plain",
            "application/jsonp",
            "",
        ] {
            assert!(check(&headers(&[("content-type", bad)])).is_err(), "{bad}");
        }
        let json = ("content-type", "application/json");
        assert!(check(&headers(&[])).is_err());
        assert!(check(&headers(&[json, json])).is_err());
        assert!(check(&headers(&[json, ("content-encoding", "gzip")])).is_err());
        assert!(check(&headers(&[json, ("content-encoding", "identity")])).is_err());
    }
}

//! The WebSocket handshake (RFC 6455 4): what a client asks for, and what an upstream agrees to.
//!
//! It is the only switch of protocols there is. `h2c` is never made: the requests behind it would
//! not be looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::headers::connection_options;

/// A client's wish to speak WebSocket.
#[derive(Debug)]
pub(super) struct Wish {
    /// What only a server can say that has understood it.
    accept: HeaderValue,
}

impl Wish {
    /// The wish of a request; `None` if it has none, or one for something else, which a server
    /// may ignore (RFC 9110 7.8) and this one does.
    ///
    /// # Errors
    ///
    /// What is wrong with a handshake that has begun.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Option<Self>, &'static str> {
        let headers = request.headers();
        let Some(protocol) = headers.get(header::UPGRADE) else {
            return Ok(None);
        };
        let asked = connection_options(headers).any(|o| o.eq_ignore_ascii_case("upgrade"));
        if request.version() != Version::HTTP_11
            || !protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET)
            || !asked
        {
            return Ok(None);
        }
        if request.method() != Method::GET {
            return Err("a WebSocket begins with GET");
        }
        if one(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err("the Sec-WebSocket-Version is not 13");
        }
        let key = one(headers, &header::SEC_WEBSOCKET_KEY)
            .filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16))
            .ok_or("the Sec-WebSocket-Key is not 16 bytes in base64")?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
        Ok(Some(Self {
            accept: accept.map_err(|_| "the Sec-WebSocket-Key cannot be answered")?,
        }))
    }

    /// The lines that an upstream is asked with; the others of the handshake are end-to-end.
    pub(super) fn ask(headers: &mut HeaderMap) {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }

    /// Whether a response with status 101 grants it.
    ///
    /// # Errors
    ///
    /// How the response shows that the upstream means something else.
    pub(super) fn granted(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let protocol = one(headers, &header::UPGRADE);
        if !protocol.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(WEBSOCKET)) {
            return Err("it switches to another protocol than websocket");
        }
        if !connection_options(headers).any(|o| o.eq_ignore_ascii_case("upgrade")) {
            return Err("it switches protocols without saying so in Connection");
        }
        let accept = one(headers, &header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept.as_bytes() != self.accept.as_bytes()) {
            return Err("its Sec-WebSocket-Accept does not answer the key");
        }
        Ok(())
    }

    /// The lines of a response that grants it.
    pub(super) fn grant(&self, headers: &mut HeaderMap) {
        Self::ask(headers);
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
    }
}

/// The text of a line that occurs once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok(),
        (Some(_) | None, _) => None,
    }
}

/// The name of the protocol, in lower case; it is compared without regard to case.
const WEBSOCKET: &[u8] = b"websocket";

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 1.3.
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    const VERSION: (&str, &str) = ("sec-websocket-version", "13");
    const UPGRADE: (&str, &str) = ("upgrade", "websocket");
    const CONNECTION: (&str, &str) = ("connection", "Upgrade");

    fn request(lines: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder();
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn wish(lines: &[(&str, &str)]) -> Result<bool, &'static str> {
        Wish::of(&request(lines)).map(|wish| wish.is_some())
    }

    #[test]
    fn a_handshake_is_a_wish() {
        assert_eq!(wish(&[UPGRADE, CONNECTION, VERSION, KEY]), Ok(true));
        let spelled = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, upgrade"),
        ];
        assert_eq!(wish(&[&spelled[..], &[VERSION, KEY]].concat()), Ok(true));
    }

    #[test]
    fn a_wish_for_something_else_is_none() {
        for lines in [
            &[][..],
            &[VERSION, KEY],
            &[UPGRADE, VERSION, KEY],
            &[UPGRADE, ("connection", "keep-alive"), VERSION, KEY],
            &[("upgrade", "h2c"), CONNECTION, VERSION, KEY],
            &[("upgrade", "websocket, h2c"), CONNECTION, VERSION, KEY],
            &[("upgrade", "h2c, websocket"), CONNECTION, VERSION, KEY],
            &[("upgrade", "websockets"), CONNECTION, VERSION, KEY],
        ] {
            assert_eq!(wish(lines), Ok(false), "{lines:?}");
        }
    }

    #[test]
    fn a_handshake_that_has_begun_is_complete() {
        for lines in [
            &[UPGRADE, CONNECTION, KEY][..],
            &[UPGRADE, CONNECTION, ("sec-websocket-version", "8"), KEY],
            &[UPGRADE, CONNECTION, VERSION, VERSION, KEY],
            &[UPGRADE, CONNECTION, VERSION],
            &[UPGRADE, CONNECTION, VERSION, KEY, KEY],
            &[UPGRADE, CONNECTION, VERSION, ("sec-websocket-key", "AAAA")],
            &[UPGRADE, CONNECTION, VERSION, ("sec-websocket-key", "*")],
        ] {
            assert!(wish(lines).is_err(), "{lines:?}");
        }
        let mut post = request(&[UPGRADE, CONNECTION, VERSION, KEY]);
        *post.method_mut() = Method::POST;
        assert!(Wish::of(&post).is_err());
    }

    #[test]
    fn it_is_granted_by_an_answer_to_its_own_key_only() {
        let wish = Wish::of(&request(&[UPGRADE, CONNECTION, VERSION, KEY]));
        let wish = wish.unwrap().unwrap();
        let granted = |lines: &[(&str, &str)]| wish.granted(request(lines).headers());
        assert_eq!(granted(&[UPGRADE, CONNECTION, ACCEPT]), Ok(()));
        for lines in [
            &[][..],
            &[CONNECTION, ACCEPT],
            &[UPGRADE, ACCEPT],
            &[UPGRADE, CONNECTION],
            &[("upgrade", "h2c"), CONNECTION, ACCEPT],
            &[UPGRADE, UPGRADE, CONNECTION, ACCEPT],
            &[UPGRADE, CONNECTION, ACCEPT, ACCEPT],
            &[UPGRADE, CONNECTION, ("sec-websocket-accept", "AAAA")],
        ] {
            assert!(granted(lines).is_err(), "{lines:?}");
        }
        let mut answer = HeaderMap::new();
        wish.grant(&mut answer);
        assert_eq!(wish.granted(&answer), Ok(()));
    }
}

//! Basic authentication: the password is the token (RFC 7617).
//!
//! Registries and remote builders are asked by clients that know no other scheme. The user name is
//! whatever the client puts there; a route may read it, as the name of an app.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use zeroize::Zeroizing;

/// User and password of a request.
pub struct Basic {
    /// Both, with a colon between them.
    pair: Zeroizing<String>,
    colon: usize,
}

impl Basic {
    /// The pair of a request whose credential is of this scheme, and readable.
    ///
    /// Anything else is no Basic authentication, and is refused as the malformed token that it
    /// is then.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let line = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, encoded) = line.split_at_checked(SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let pair = STANDARD.decode(encoded.trim_ascii()).ok()?;
        let pair = Zeroizing::new(String::from_utf8(pair).ok()?);
        let colon = pair.find(':')?;
        Some(Self { pair, colon })
    }

    /// The user name.
    pub fn user(&self) -> &str {
        self.pair.get(..self.colon).unwrap_or_default()
    }

    /// The password.
    pub fn password(&self) -> &str {
        let rest = self.pair.get(self.colon..).unwrap_or_default();
        rest.strip_prefix(':').unwrap_or_default()
    }
}

/// Without the password.
impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Basic([redacted])")
    }
}

const SCHEME: &[u8] = b"Basic ";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, line.parse().unwrap());
        let basic = Basic::read(&headers)?;
        assert_eq!(format!("{basic:?}"), "Basic([redacted])");
        Some((basic.user().to_owned(), basic.password().to_owned()))
    }

    #[test]
    fn the_password_is_what_follows_the_first_colon() {
        let pair = |text: &str| STANDARD.encode(text);
        let both = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(read(&format!("Basic {}", pair("x:a:b"))), both("x", "a:b"));
        assert_eq!(
            read(&format!("bAsIc  {} ", pair("web:t"))),
            both("web", "t")
        );
        assert_eq!(read(&format!("Basic {}", pair(":t"))), both("", "t"));
        for other in [
            format!("Basic {}", pair("no colon")),
            format!("Basic {}", STANDARD.encode([0xff, b':', 0xff])),
            "Basic".to_owned(),
            "Basic !!".to_owned(),
            format!("Basic\t{}", pair("x:t")),
            format!("Bearer {}", pair("x:t")),
            format!("Basic {} {}", pair("x:t"), pair("x:t")),
        ] {
            assert_eq!(read(&other), None, "{other}");
        }
    }
}

//! Where a tunnel begins and where it goes.

use http::Uri;
use http::uri::Authority;
use thiserror::Error;

/// An address as it is typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Whether usher speaks TLS.
    pub(super) tls: bool,
    /// usher's name or address, IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Both, as a `Host` line says them.
    pub(super) authority: String,
    /// What CONNECT names; `None` for a tunnel inside WebSocket messages.
    pub(super) connect: Option<String>,
    /// Where that begins.
    pub(super) path: String,
}

impl Address {
    /// Reads `http(s)://USHER/PATH`, a tunnel in WebSocket messages; `connect+http(s)://USHER/HOST:PORT`,
    /// one that CONNECT opens; or `HOST:PORT` beside the address of a proxy, which is the same.
    pub(super) fn parse(url: &str, proxy: Option<&str>) -> Result<Self, AddressError> {
        let bad = || AddressError::Url(url.to_owned());
        if let Some(proxy) = proxy {
            let usher = Self::parse(proxy, None)?;
            if usher.connect.is_some() || usher.path != "/" {
                return Err(AddressError::Proxy(proxy.to_owned()));
            }
            return usher.to(url).ok_or_else(bad);
        }
        let (plain, connects) = match url.strip_prefix("connect+") {
            Some(plain) => (plain, true),
            None => (url, false),
        };
        let uri: Uri = plain.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad());
        }
        let default = if tls { 443 } else { 80 };
        let path = match uri.query() {
            Some(query) => format!("{}?{query}", uri.path()),
            None => uri.path().to_owned(),
        };
        let usher = Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(default),
            authority: authority.to_string(),
            connect: None,
            path,
        };
        let target = uri.path().trim_start_matches('/');
        match connects {
            true => usher.to(target).ok_or_else(bad),
            false => Ok(usher),
        }
    }

    /// The same usher, and CONNECT to this host and port.
    fn to(self, target: &str) -> Option<Self> {
        let authority: Authority = target.parse().ok()?;
        authority.port_u16()?;
        (!target.contains('@')).then(|| Self {
            connect: Some(target.to_owned()),
            ..self
        })
    }
}

/// An address that is none.
#[derive(Debug, Error)]
pub enum AddressError {
    /// What to connect to.
    #[error(
        "`{0}` is no tunnel: write https://USHER/PATH for a route with a path, \
         connect+https://USHER/HOST:PORT for one with a host, or --proxy https://USHER HOST:PORT"
    )]
    Url(String),
    /// What to go through.
    #[error("`{0}` is no proxy: write https://USHER or http://USHER, with a port if it is another")]
    Proxy(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str, proxy: Option<&str>) -> Option<(bool, String, Option<String>, String)> {
        let address = Address::parse(url, proxy).ok()?;
        let host = format!("{} {}", address.host, address.port);
        Some((address.tls, host, address.connect, address.path))
    }

    #[test]
    fn addresses_say_where_usher_is_and_where_to_go() {
        let target = "148e.vm.web.internal:22";
        for (url, proxy, tls, host, connect, path) in [
            (
                "https://usher/v1/apps/web/ssh",
                None,
                true,
                "usher 443",
                None,
                "/v1/apps/web/ssh",
            ),
            (
                "http://[::1]:8080/ssh",
                None,
                false,
                "::1 8080",
                None,
                "/ssh",
            ),
            (
                "connect+http://usher:8080/148e.vm.web.internal:22",
                None,
                false,
                "usher 8080",
                Some(target),
                "/148e.vm.web.internal:22",
            ),
            (
                target,
                Some("https://usher:8443"),
                true,
                "usher 8443",
                Some(target),
                "/",
            ),
        ] {
            let connect = connect.map(str::to_owned);
            let expected = Some((tls, host.to_owned(), connect, path.to_owned()));
            assert_eq!(parsed(url, proxy), expected, "{url}");
        }
    }

    #[test]
    fn other_addresses_are_none() {
        for (url, proxy) in [
            ("", None),
            ("usher:8080", None),
            ("ftp://usher/", None),
            ("http://user@usher/", None),
            ("connect+http://usher:8080/", None),
            ("connect+http://usher:8080/web.internal", None),
            ("connect+http://usher:8080/a@web.internal:22", None),
            ("web.internal", Some("http://usher")),
            ("web.internal:22", Some("http://usher/path")),
            ("web.internal:22", Some("connect+http://usher/a:1")),
        ] {
            assert_eq!(parsed(url, proxy), None, "{url}");
        }
    }
}

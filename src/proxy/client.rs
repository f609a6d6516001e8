//! Who the upstream is told the client is, and how it came.
//!
//! The word of a peer counts only if the configuration trusts it: another proxy of the operator's
//! own, which puts the address of its peer at the end of `X-Forwarded-For`. Whatever else the
//! client wrote there stands further left, behind the first address that is not trusted, and is
//! not believed.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderValue};

use super::marks::{FORWARDED_FOR, FORWARDED_PROTO};
use crate::config::Network;

/// One downstream peer.
#[derive(Clone, Debug)]
pub(super) struct Client {
    address: IpAddr,
    /// Of the peer itself, for requests that say nothing else.
    line: HeaderValue,
    scheme: HeaderValue,
    trusted: bool,
}

impl Client {
    pub(super) fn new(address: IpAddr, tls: bool, trusted: &[Network]) -> Self {
        let address = address.to_canonical();
        Self {
            address,
            line: line(address),
            scheme: HeaderValue::from_static(if tls { "https" } else { "http" }),
            trusted: is_trusted(address, trusted),
        }
    }

    /// `X-Forwarded-For` and `X-Forwarded-Proto` for the upstream, given the lines of a request.
    pub(super) fn of(
        &self,
        headers: &HeaderMap,
        trusted: &[Network],
    ) -> (HeaderValue, HeaderValue) {
        if !self.trusted {
            return (self.line.clone(), self.scheme.clone());
        }
        let address = self.behind(headers, trusted);
        (line(address), self.scheme(headers))
    }

    /// The last address, seen from here, of which a trusted peer says that it is there.
    fn behind(&self, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
        let lines = headers.get_all(&FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let mut address = self.address;
        for hop in hops {
            let hop = std::str::from_utf8(hop.trim_ascii()).ok();
            match hop.and_then(|hop| hop.parse::<IpAddr>().ok()) {
                Some(hop) if is_trusted(address, trusted) => address = hop.to_canonical(),
                Some(_) | None => break,
            }
        }
        address
    }

    /// The scheme that the trusted peer was asked with, if it says one.
    fn scheme(&self, headers: &HeaderMap) -> HeaderValue {
        let mut lines = headers.get_all(&FORWARDED_PROTO).iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) if line == "http" || line == "https" => line.clone(),
            (Some(_) | None, Some(_) | None) => self.scheme.clone(),
        }
    }
}

fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// An address as a header value.
fn line(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, lines: &[&str], expected: &str) {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|n| Network::parse(n).unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                &FORWARDED_FOR,
                HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        let client = Client::new(peer.parse().unwrap(), false, &trusted);
        let (address, _) = client.of(&headers, &trusted);
        assert_eq!(address, expected, "{peer} {lines:?}");
    }

    #[test]
    fn a_stranger_is_whoever_connected() {
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &["6.6.6.6"], "192.0.2.1");
        check("192.0.2.1", &["10.0.0.1"], "192.0.2.1");
        check("::ffff:192.0.2.1", &["6.6.6.6"], "192.0.2.1");
    }

    #[test]
    fn a_trusted_peer_names_the_client_at_the_end_of_its_list() {
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        check("::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        check("fd00::1", &["6.6.6.6 , 2001:db8::1"], "2001:db8::1");
        check("10.0.0.1", &["6.6.6.6, 192.0.2.1,\t10.0.0.2"], "192.0.2.1");
        check(
            "10.0.0.1",
            &["6.6.6.6", "192.0.2.1", "10.0.0.2"],
            "192.0.2.1",
        );
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
    }

    #[test]
    fn what_is_no_address_ends_the_list() {
        for last in [
            "",
            "unknown",
            "192.0.2.1:80",
            "[::1]",
            "_hidden",
            "\u{e9}",
            "192.0.2.1 x",
        ] {
            check("10.0.0.1", &[&format!("6.6.6.6, {last}")], "10.0.0.1");
            check(
                "10.0.0.1",
                &[&format!("6.6.6.6, {last}, 10.0.0.2")],
                "10.0.0.2",
            );
        }
    }

    #[test]
    fn only_a_trusted_peer_says_how_the_client_came() {
        let trusted = [Network::parse("10.0.0.1").unwrap()];
        for (peer, tls, lines, expected) in [
            ("10.0.0.1", false, &["https"][..], "https"),
            ("10.0.0.1", true, &["http"], "http"),
            ("10.0.0.1", false, &[], "http"),
            ("10.0.0.1", false, &["https", "http"], "http"),
            ("10.0.0.1", false, &["https, http"], "http"),
            ("10.0.0.1", false, &["HTTPS"], "http"),
            ("10.0.0.2", false, &["https"], "http"),
            ("10.0.0.2", true, &["http"], "https"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(&FORWARDED_PROTO, HeaderValue::from_static(line));
            }
            let client = Client::new(peer.parse().unwrap(), tls, &trusted);
            assert_eq!(
                client.of(&headers, &trusted).1,
                expected,
                "{peer} {lines:?}"
            );
        }
    }
}

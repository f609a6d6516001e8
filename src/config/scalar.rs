//! Leaf values: text to a typed value, or what is wrong with it.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use http::Method;
use http::uri::{Authority, Scheme, Uri};

use super::problem::Fault;
use super::{Denials, Network, Oddity, UpstreamUrl};
use crate::route::Alphabet;

/// A duration with its unit: `500ms`, `30s`, `5m`, `1h`, `7d`. Not zero.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let millis = number.and_then(|n| n.checked_mul(factor)).unwrap_or(0);
    if millis == 0 {
        let fault = Fault::new(format!("`{text}` is no duration"));
        return Err(fault.hint("write a number and one of ms, s, m, h, d, as in `30s`"));
    }
    if millis > MAX_DURATION_MILLIS {
        return Err(Fault::new(format!("`{text}` is longer than a year")));
    }
    Ok(Duration::from_millis(millis))
}

/// A size with its unit, in bytes: `512B`, `64KiB`, `64MiB`, `1GiB`. A bare `0` needs no unit.
pub(super) fn size(text: &str) -> Result<u64, Fault> {
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "" if number == Some(0) => Some(1),
        _ => None,
    };
    let bytes = number.zip(factor).and_then(|(n, f)| n.checked_mul(f));
    bytes.ok_or_else(|| {
        Fault::new(format!("`{text}` is no size"))
            .hint("write a number and one of B, KiB, MiB, GiB, as in `64KiB`")
    })
}

/// A whole number in a range.
pub(super) fn number<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, Fault>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    move |text| {
        let number = text.parse().ok().filter(|n| (&min..=&max).contains(&n));
        number.ok_or_else(|| Fault::new(format!("`{text}` is no number from {min} to {max}")))
    }
}

/// An id in the directory. 0 stands for collections.
pub(super) fn numeric_id(text: &str) -> Result<u64, Fault> {
    let id = text.parse().ok().filter(|id| *id != 0);
    id.ok_or_else(|| Fault::new(format!("`{text}` is no id")).hint("a whole number from 1"))
}

/// A size in a range.
pub(super) fn size_within(min: u64, max: u64) -> impl Fn(&str) -> Result<usize, Fault> {
    move |text| {
        let bytes = size(text)?;
        let within = Some(bytes).filter(|b| (min..=max).contains(b));
        within.and_then(|b| usize::try_from(b).ok()).ok_or_else(|| {
            let (min, max) = (min / 1024, max / 1024);
            Fault::new(format!("`{text}` is not between {min}KiB and {max}KiB"))
        })
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, Fault> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Fault::new(format!("`{text}` is neither true nor false"))),
    }
}

/// An address with its port.
pub(super) fn address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        Fault::new(format!("`{text}` is no address with a port"))
            .hint("write `127.0.0.1:8080`, `[::1]:8080`, or `0.0.0.0:8080` for every interface")
    })
}

/// How much a denial tells.
pub(super) fn denials(text: &str) -> Result<Denials, Fault> {
    match text {
        "full" => Ok(Denials::Full),
        "terse" => Ok(Denials::Terse),
        _ => Err(Fault::new(format!(
            "`{text}` is neither `full` nor `terse`"
        ))),
    }
}

/// What becomes of a part that readers disagree about.
pub(super) fn oddity(text: &str) -> Result<Oddity, Fault> {
    match text {
        "refuse" => Ok(Oddity::Refuse),
        "drop" => Ok(Oddity::Drop),
        _ => Err(Fault::new(format!(
            "`{text}` is neither `refuse` nor `drop`"
        ))),
    }
}

/// The addresses of proxies that are trusted.
pub(super) fn network(text: &str) -> Result<Network, Fault> {
    match Network::parse(text) {
        Some(network) if network.is_everything() => Err(Fault::new(format!(
            "`{text}` would have every client trusted"
        ))
        .hint("name the proxies that connect to usher")),
        Some(network) => Ok(network),
        None => Err(Fault::new(format!("`{text}` is no address and no network"))
            .hint("write `192.0.2.7`, `10.0.0.0/8` or `fd00::/8`, with zeros behind the prefix")),
    }
}

/// Text that a person chose and that is safe in a label: a name of a route or of an upstream.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    if text.len() <= MAX_NAME && Alphabet::Name.accepts(text) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("`{text}` is no name"))
        .hint(format!("up to {MAX_NAME} {}", Alphabet::Name.describe())))
}

/// A name or id as it occurs in paths.
pub(super) fn id(text: &str) -> Result<String, Fault> {
    if Alphabet::Id.accepts(text) {
        return Ok(text.to_owned());
    }
    let message = format!("`{text}` can never occur in a request");
    Err(Fault::new(message).hint(format!("use {}", Alphabet::Id.describe())))
}

/// Another name for something, as it occurs in bodies: a global id of GraphQL may be base64.
pub(super) fn alias(text: &str) -> Result<String, Fault> {
    let visible = text.bytes().all(|b| b.is_ascii_graphic());
    if visible && (1..=MAX_ALIAS).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("`{text}` can never occur in a request"))
        .hint(format!("use up to {MAX_ALIAS} visible ASCII characters")))
}

/// A method that a route can have.
pub(super) fn method(text: &str) -> Result<Method, Fault> {
    let known = METHODS.iter().find(|method| method.as_str() == text);
    known.cloned().ok_or_else(|| {
        if text == "CONNECT" {
            let fault = Fault::new("CONNECT opens tunnels and nothing else");
            return fault.hint(
                "write `tunnel: ssh` or `tunnel: tcp`, a `host` with its port, and no method",
            );
        }
        Fault::new(format!("`{text}` is no method of a route"))
            .suggest(text, METHODS.iter().map(Method::as_str))
    })
}

/// A host name as requests name it, without port.
pub(super) fn host(text: &str) -> Result<Box<str>, Fault> {
    let labels = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let is_name = text.bytes().all(labels) && !text.starts_with('.') && !text.ends_with('.');
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let is_address = inner.is_some_and(|t| t.parse::<std::net::Ipv6Addr>().is_ok());
    if text.is_empty() || !(is_name || is_address) {
        return Err(Fault::new(format!("`{text}` is no host"))
            .hint("write it in lower case, without scheme, port or wildcard"));
    }
    Ok(text.into())
}

/// `http://host:port` or `https://host:port`.
pub(super) fn url(text: &str) -> Result<UpstreamUrl, Fault> {
    if text.contains('{') {
        return Err(Fault::new(
            "an upstream that depends on the path is not supported by this version",
        ));
    }
    let refuse = |why: &str| {
        Fault::new(format!("`{text}` {why}"))
            .hint("write `http://host:port` or `https://host:port`; the path is the request's own")
    };
    let uri: Uri = text.parse().map_err(|_| refuse("is no URL"))?;
    let tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(_) | None => return Err(refuse("is neither http nor https")),
    };
    let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || authority.contains('@') {
        return Err(refuse("needs a host and nothing else before the port"));
    }
    // With or without the slash at the end; http has no way to tell an empty path from `/`.
    if uri.path() != "/" || uri.query().is_some() {
        return Err(refuse("has a path"));
    }
    let has_port = authority.len() > host.len();
    let port = match (uri.port_u16(), has_port) {
        (Some(0), _) | (None, true) => return Err(refuse("has no valid port")),
        (Some(port), _) => port,
        (None, false) if tls => 443,
        (None, false) => 80,
    };
    Ok(UpstreamUrl {
        tls,
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
    })
}

/// CONNECT and TRACE are no requests for a resource.
pub(super) const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Bytes of a name, inclusive: it is a metric label.
const MAX_NAME: usize = 64;

/// Bytes of an alias, inclusive.
const MAX_ALIAS: usize = 256;

/// 366 days.
const MAX_DURATION_MILLIS: u64 = 366 * 86_400_000;

fn split_unit(text: &str) -> (Option<u64>, &str) {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(digits).and_then(|n| n.parse().ok());
    (number, digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_carry_their_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("2h").unwrap(), Duration::from_secs(7200));
        for bad in [
            "30",
            "0s",
            "",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "3w",
            "99999999999999999999s",
            "400d",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(size("64KiB").unwrap(), 65536);
        assert_eq!(size("0").unwrap(), 0);
        for bad in ["64", "64KB", "", "KiB", "1.5MiB", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn urls_name_a_server_and_nothing_else() {
        let good = |text, tls, host: &str, port| {
            let host = host.to_owned();
            assert_eq!(url(text).unwrap(), UpstreamUrl { tls, host, port });
        };
        good("http://10.0.0.7:4280", false, "10.0.0.7", 4280);
        good("http://a.example", false, "a.example", 80);
        good("https://a.example/", true, "a.example", 443);
        good("https://[fdaa::3]:8443", true, "fdaa::3", 8443);
        for bad in [
            "10.0.0.7:4280",
            "a.example",
            "ftp://a.example",
            "http://",
            "http://a/b",
            "http://a?b",
            "http://user@a",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "tcp://{app}.internal:22",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_written_as_they_are_compared() {
        for good in ["a.example", "localhost", "10.0.0.1", "[::1]", "x_y"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A.example",
            "a:80",
            "a.example.",
            "*.example",
            "http://a",
            "[x]",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}

//! What names a host.

/// Whether this is a registered name, an IPv4 address or a bracketed IPv6 address, with or
/// without a port: no user, no comma, no space, no final dot.
pub(super) fn is_host(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (name, port) = match (bytes.first(), text.rsplit_once(':')) {
        (Some(b'['), _) => match text.split_once(']') {
            Some((address, port)) => (
                address.as_bytes(),
                port.strip_prefix(':').or(
                    // Nothing after the bracket means no port.
                    port.is_empty().then_some("0"),
                ),
            ),
            None => return false,
        },
        (_, Some((name, port))) => (name.as_bytes(), Some(port)),
        (_, None) => (bytes, Some("0")),
    };
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_name = match name {
        [] | [.., b'.'] => false,
        [b'[', address @ ..] => {
            !address.is_empty()
                && address
                    .iter()
                    .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
        }
        name => name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')),
    };
    is_name && port.is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_address_with_an_optional_port() {
        for good in [
            "a",
            "api.example",
            "api.example:443",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8443",
            "my_app.internal",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "", ".", "a.", "a.:80", ":80", "a:", "a:x", "a:+8", "a:65536", "a:80:80", "a b", "a,b",
            "user@a", "a/b", "[::1", "[::1]x", "[]", "[a/b]", "::1", "é",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}

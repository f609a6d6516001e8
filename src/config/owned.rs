//! Header names that upstreams take from a proxy on trust, so that only usher may set them.

/// Whether usher removes a client's copy of this header, whatever it holds. `name` is in lower
/// case and made of letters, digits and hyphens: every other spelling is refused before, so that
/// no `X_Usher_Org` or `X.Usher.Org` can pass for an owned name where those are folded.
pub(crate) fn is_owned(name: &str) -> bool {
    // The first letter rules most names out.
    matches!(name.as_bytes().first(), Some(first) if FIRST.contains(first))
        && (OWNED.contains(&name) || OWNED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// Letters that an owned name begins with.
const FIRST: &[u8] = b"cfprstwx";

/// Single names: who the client is, how it came, and `Proxy`, which CGI makes into `HTTP_PROXY`.
/// `X-Sendfile-Type` has Rack serve a file by path.
const OWNED: [&str; 20] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "proxy",
    "proxy-client-ip",
    "remote-user",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-host",
    "x-host-override",
    "x-method-override",
    "x-override-url",
    "x-real-ip",
    "x-scheme",
    "x-sendfile-type",
];

/// Families. Frameworks route by `x-original-url` and `x-rewrite-url`, and some replace the method
/// by `x-http-method-override`. `client-cert` (RFC 9440) and what other proxies call it stand for a
/// TLS client that somebody else has checked. `x-remote-` is who the user is to a server that
/// believes whoever shows the right certificate, as Kubernetes does with its front proxy.
/// `Fly-Client-CI` and its like are not of Fly's proxy but of flyctl, which says where it runs.
const OWNED_PREFIXES: [&str; 20] = [
    "x-usher-",
    "x-forwarded-",
    "x-original-",
    "x-rewrite-",
    "x-http-method",
    "x-http-host",
    "x-envoy-",
    "x-accel-",
    "x-client-cert",
    "x-remote-",
    "x-amzn-mtls-",
    "x-arr-clientcert",
    "cf-client-cert",
    "x-ssl-",
    "ssl-client-",
    "client-cert",
    "fly-src",
    "fly-client-ip",
    "fly-forwarded-",
    "fly-replay-src",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_single_names_are_owned() {
        for name in [
            "x-usher-org",
            "x-forwarded-for",
            "x-forwarded",
            "fly-src-signature",
            "fly-client-ip",
            "fly-forwarded-proto",
            "forwarded",
            "proxy",
            "client-cert-chain",
            "x-forwarded-client-cert",
            "x-amzn-mtls-clientcert-subject",
            "x-remote-user",
            "x-remote-extra-scopes",
            "ssl-client-verify",
            "wl-proxy-client-ip",
        ] {
            assert!(is_owned(name), "{name}");
        }
        for name in [
            "x-request-id",
            "fly-client-ci",
            "fly-client-interactive",
            "fly-force-region",
            "fly-request-id",
            "user-agent",
            "x-usher",
            "proxy-status",
            "client-id",
        ] {
            assert!(!is_owned(name), "{name}");
        }
    }

    #[test]
    fn no_owned_name_is_ruled_out_by_its_first_letter() {
        for name in OWNED.into_iter().chain(OWNED_PREFIXES) {
            assert!(is_owned(name), "{name}");
        }
    }
}

//! Header names that upstreams take from a proxy on trust, so that only usher may set them.

/// Whether usher removes a client's copy of this header, whatever it holds. `name` is in lower
/// case.
pub(crate) fn is_owned(name: &str) -> bool {
    OWNED.contains(&name) || OWNED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Single names.
const OWNED: [&str; 11] = [
    "cf-connecting-ip",
    "fly-client-ip",
    "forwarded",
    "remote-user",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-method-override",
    "x-real-ip",
    "x-remote-user",
];

/// Families. Frameworks route by `x-original-url` and `x-rewrite-url`, and some replace the method
/// by `x-http-method-override`.
const OWNED_PREFIXES: [&str; 6] = [
    "x-usher-",
    "x-forwarded-",
    "x-original-",
    "x-rewrite-",
    "x-http-method",
    "fly-src",
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
            "forwarded",
        ] {
            assert!(is_owned(name), "{name}");
        }
        for name in ["x-request-id", "fly-force-region", "user-agent", "x-usher"] {
            assert!(!is_owned(name), "{name}");
        }
    }
}

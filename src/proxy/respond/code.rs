//! The stable codes of answers, one line of explanation each.

use http::StatusCode;

/// Why usher answered a request itself. Scripts depend on the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "`meaning` is the documentation, and is printed"
)]
pub enum Code {
    TokenMissing,
    TokenMalformed,
    TokenUnknownKey,
    TokenBadSignature,
    TokenExpired,
    TokenNotYetValid,
    TokenRevoked,
    TokenUndischarged,
    TokenBadDischarge,
    Prohibited,
    UnknownName,
    NoRoute,
    MethodNotAllowed,
    Misdirected,
    Malformed,
    Ambiguous,
    BadField,
    BodyMedia,
    BodyInvalid,
    BodyTooLarge,
    BadHandshake,
    UpgradeRequired,
    TunnelVersion,
    BadBody,
    BodyTimeout,
    LeaseExpired,
    LeaseRevoked,
    LeaseUnavailable,
    LeaseWithdrawn,
    TargetTooLong,
    HeadTooLarge,
    HttpVersion,
    TokenBusy,
    Unavailable,
    Busy,
    UpstreamUnavailable,
    UpstreamConnect,
    UpstreamTimeout,
    UpstreamFailed,
    UpstreamBadResponse,
}

impl Code {
    /// All codes, in the order of a request's life.
    pub const ALL: [Self; 40] = [
        Self::HttpVersion,
        Self::TunnelVersion,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::Malformed,
        Self::Ambiguous,
        Self::Misdirected,
        Self::NoRoute,
        Self::MethodNotAllowed,
        Self::TokenMissing,
        Self::TokenMalformed,
        Self::TokenUnknownKey,
        Self::TokenBadSignature,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenRevoked,
        Self::TokenUndischarged,
        Self::TokenBadDischarge,
        Self::BodyTooLarge,
        Self::BodyMedia,
        Self::BodyInvalid,
        Self::BadField,
        Self::UnknownName,
        Self::Prohibited,
        Self::TokenBusy,
        Self::Unavailable,
        Self::Busy,
        Self::BadHandshake,
        Self::UpgradeRequired,
        Self::UpstreamUnavailable,
        Self::UpstreamConnect,
        Self::BodyTimeout,
        Self::BadBody,
        Self::UpstreamTimeout,
        Self::UpstreamFailed,
        Self::UpstreamBadResponse,
        Self::LeaseExpired,
        Self::LeaseRevoked,
        Self::LeaseUnavailable,
        Self::LeaseWithdrawn,
    ];

    /// The name in answers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        self.entry().0
    }

    /// The status it is sent with.
    pub fn status(self) -> StatusCode {
        self.entry().1
    }

    /// A few words for people.
    pub fn title(self) -> &'static str {
        self.entry().2
    }

    /// What happened, and what to do about it.
    pub fn meaning(self) -> &'static str {
        self.entry().3
    }

    #[rustfmt::skip]
    fn entry(self) -> (&'static str, StatusCode, &'static str, &'static str) {
        match self {
            Self::TokenMissing => ("token-missing", StatusCode::UNAUTHORIZED, "no token",
                "The request has no token; send one in the Authorization header."),
            Self::TokenMalformed => ("token-malformed", StatusCode::UNAUTHORIZED, "token unreadable",
                "No token in the Authorization header can be decoded; usher token inspect says what is wrong with it."),
            Self::TokenUnknownKey => ("token-unknown-key", StatusCode::UNAUTHORIZED, "key unknown",
                "The token was signed with a key that is not, or no longer, in the store; ask for a new token."),
            Self::TokenBadSignature => ("token-bad-signature", StatusCode::UNAUTHORIZED, "signature wrong",
                "The token was cut, edited or made up; ask for a new one."),
            Self::TokenExpired => ("token-expired", StatusCode::UNAUTHORIZED, "token expired",
                "The validity window of the token has closed; ask for a new one."),
            Self::TokenNotYetValid => ("token-not-yet-valid", StatusCode::UNAUTHORIZED, "token not valid yet",
                "The validity window of the token has not opened; wait, or check the clocks."),
            Self::TokenRevoked => ("token-revoked", StatusCode::UNAUTHORIZED, "token revoked",
                "The token, or one that it was attenuated from, was revoked; ask for a new one."),
            Self::TokenUndischarged => ("token-undischarged", StatusCode::UNAUTHORIZED, "discharge missing",
                "A third party has to vouch first: fetch a discharge for each ticket from its location and send it with the token."),
            Self::TokenBadDischarge => ("token-bad-discharge", StatusCode::UNAUTHORIZED, "discharge unusable",
                "A discharge was sent but does not verify for this token; fetch a new one."),
            Self::Prohibited => ("prohibited", StatusCode::FORBIDDEN, "prohibited by a caveat",
                "The token is valid, but a caveat in it does not allow this; the detail names the caveat."),
            Self::UnknownName => ("unknown-name", StatusCode::NOT_FOUND, "no such name",
                "A name in the path or query is not in the directory; check its spelling."),
            Self::NoRoute => ("no-route", StatusCode::NOT_FOUND, "no such route",
                "No route has this host and path; usher check prints the routes."),
            Self::MethodNotAllowed => ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "method not allowed",
                "The path has routes, but none for this method; the Allow header lists those that it has."),
            Self::Misdirected => ("misdirected", StatusCode::MISDIRECTED_REQUEST, "wrong host",
                "No route has this host; check the name that the client connects to."),
            Self::Malformed => ("malformed", StatusCode::BAD_REQUEST, "request malformed",
                "The bytes of the request head are not those of HTTP/1.1 (RFC 9112), or not in the one spelling that all readers agree on; the detail says where."),
            Self::Ambiguous => ("ambiguous", StatusCode::BAD_REQUEST, "request ambiguous",
                "The request can be read in two ways, so that what is checked may not be what is served; the detail says where."),
            Self::BadField => ("bad-field", StatusCode::BAD_REQUEST, "field missing, repeated or undeclared",
                "A part of the request that decides about access is missing, repeated or not declared by the route."),
            Self::BodyMedia => ("body-media", StatusCode::UNSUPPORTED_MEDIA_TYPE, "body not plain JSON",
                "The route is judged by its body, which has to be JSON in UTF-8 without an encoding, with one Content-Type that says so."),
            Self::BodyInvalid => ("body-invalid", StatusCode::BAD_REQUEST, "body ambiguous",
                "The route is judged by its body, which is not JSON that everybody reads alike, or lacks what decides; the detail says where."),
            Self::BodyTooLarge => ("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "body too large",
                "The route is judged by its body, which is longer than the route's body_limit."),
            Self::BadHandshake => ("bad-handshake", StatusCode::BAD_REQUEST, "WebSocket handshake malformed",
                "The request asks for a WebSocket, but its key or version is missing, repeated or malformed."),
            Self::UpgradeRequired => ("upgrade-required", StatusCode::UPGRADE_REQUIRED, "WebSocket required",
                "The route is a tunnel; begin it with a WebSocket handshake over HTTP/1.1, or use usher connect."),
            Self::TunnelVersion => ("tunnel-version", StatusCode::NOT_IMPLEMENTED, "no tunnel over HTTP/2",
                "Tunnels are opened over HTTP/1.1 only; have the client use it for CONNECT."),
            Self::BadBody => ("bad-body", StatusCode::BAD_REQUEST, "request body broken",
                "The request body broke off or is not framed as HTTP demands."),
            Self::BodyTimeout => ("body-timeout", StatusCode::REQUEST_TIMEOUT, "request body too slow",
                "No part of the request body came for the time that timeouts.idle allows."),
            Self::LeaseExpired => ("lease-expired", StatusCode::UNAUTHORIZED, "token expired on the way",
                "The token expired while the request was under way. The upstream may have acted on it; ask for a new token."),
            Self::LeaseRevoked => ("lease-revoked", StatusCode::UNAUTHORIZED, "token revoked on the way",
                "The token was revoked while the request was under way. The upstream may have acted on it; ask for a new token."),
            Self::LeaseUnavailable => ("lease-unavailable", StatusCode::INTERNAL_SERVER_ERROR, "revocations unknown on the way",
                "The store could not be read any more while the request was under way, so that usher let nothing go on. The upstream may have acted on it."),
            Self::LeaseWithdrawn => ("lease-withdrawn", StatusCode::FORBIDDEN, "rules changed on the way",
                "The configuration changed while the request was under way, and may not permit it any more. The upstream may have acted on it."),
            Self::TargetTooLong => ("target-too-long", StatusCode::URI_TOO_LONG, "target too long",
                "Path and query are longer than limits.target_bytes."),
            Self::HeadTooLarge => ("head-too-large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head too large",
                "The request has more headers, or more bytes of them, than the limits allow."),
            Self::HttpVersion => ("http-version", StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP version not supported",
                "usher speaks HTTP/1.1 and HTTP/2; HTTP/1.0 frames its bodies in ways that can be misread."),
            Self::TokenBusy => ("token-busy", StatusCode::TOO_MANY_REQUESTS, "too many names at once",
                "As many names are being looked up for this token as may be for one. Nothing was sent; repeat the request later."),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "cannot decide now",
                "Something that the decision needs (the store, the directory) does not answer; usher does not guess. Repeat the request later."),
            Self::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE, "too much to judge at once",
                "The route is judged by its body, and as much is held of such bodies as limits.judged_bodies allows. Nothing was sent; repeat the request later."),
            Self::UpstreamUnavailable => ("upstream-unavailable", StatusCode::SERVICE_UNAVAILABLE, "upstream unavailable",
                "No server of the upstream could be reached a moment ago. Nothing was sent; repeat the request later."),
            Self::UpstreamConnect => ("upstream-connect", StatusCode::BAD_GATEWAY, "upstream not reached",
                "No connection to the upstream could be made in time. Nothing was sent; the request can be repeated."),
            Self::UpstreamTimeout => ("upstream-timeout", StatusCode::GATEWAY_TIMEOUT, "upstream too slow",
                "The upstream did not answer in time. It may have acted on the request."),
            Self::UpstreamFailed => ("upstream-failed", StatusCode::INTERNAL_SERVER_ERROR, "upstream broke off",
                "The connection to the upstream broke after the request was sent. It may have acted on the request."),
            Self::UpstreamBadResponse => ("upstream-bad-response", StatusCode::INTERNAL_SERVER_ERROR, "upstream response unusable",
                "The response of the upstream can be read in two ways, or is none. It may have acted on the request."),
        }
    }
}

//! What the client is told: the only table of status codes.

mod code;

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use httpdate::HttpDate;
use serde::Serialize;

pub use code::Code;

use super::budget::Full;
use super::decision::DecisionId;
use super::forward::ForwardError;
use crate::authz::{Denial, LeaseEnd, Unusable};

/// An answer that usher gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: Code,
    detail: Cow<'static, str>,
    allow: Option<Box<str>>,
    discharges: Box<[(Box<str>, Box<str>)]>,
    close: bool,
    basic: bool,
}

impl Answer {
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            allow: None,
            discharges: Box::default(),
            close: false,
            basic: false,
        }
    }

    /// Asks for Basic authentication where it asks for a token. Registry clients take any other
    /// challenge for the address of a token service.
    pub(super) fn asking_basic(mut self, basic: bool) -> Self {
        self.basic = basic;
        self
    }

    /// Ends the connection after it: what follows on it cannot be trusted to be a request.
    pub(super) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The response. A gRPC caller gets a status it understands (a response of trailers only).
    pub(super) fn into_response(self, caller: Caller, decision: &DecisionId) -> Response<Bytes> {
        let mut response = match caller {
            Caller::Grpc => self.grpc(decision),
            Caller::GraphQl(media) => self.graphql(media, decision),
            Caller::Http | Caller::Head => self.problem(decision),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if caller == Caller::Head {
            let length = std::mem::take(response.body_mut()).len();
            let length = HeaderValue::from(length);
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length);
        }
        response
    }

    /// The response to a request that never became one, as HTTP/1.1 writes it, at a time in
    /// seconds since the Unix epoch. Others get their `Date` from hyper.
    pub(super) fn into_bytes(self, decision: &DecisionId, now: i64) -> Bytes {
        let response = self.into_response(Caller::Http, decision);
        let (head, body) = response.into_parts();
        let since = u64::try_from(now).unwrap_or(0).min(LAST_SECOND);
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(since));
        let mut bytes = format!("HTTP/1.1 {}\r\ndate: {date}\r\n", head.status).into_bytes();
        for (name, value) in &head.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(&body);
        bytes.into()
    }

    fn problem(&self, decision: &DecisionId) -> Response<Bytes> {
        let status = self.code.status();
        let discharges = self.discharges.iter();
        let problem = Problem {
            kind: format_args!("urn:usher:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            decision: decision.as_str(),
            discharges: discharges
                .map(|(location, ticket)| Discharge { location, ticket })
                .collect(),
        };
        self.json(&problem, "application/problem+json")
    }

    /// An error without data, so that a GraphQL client prints what it is told.
    ///
    /// The status stays what it is: clients of both media types look at it first, and a 200 would
    /// tell everything between here and them that the request was permitted.
    fn graphql(&self, media: GraphQlMedia, decision: &DecisionId) -> Response<Bytes> {
        let title = self.code.title();
        let failed = Failed {
            errors: [GraphQlError {
                message: format!("{title}: {}", self.detail),
                extensions: Extensions {
                    code: self.code.as_str(),
                    status: self.code.status().as_u16(),
                    decision: decision.as_str(),
                },
            }],
        };
        self.json(&failed, media.as_str())
    }

    fn json(&self, body: &impl Serialize, media: &'static str) -> Response<Bytes> {
        let status = self.code.status();
        // Serializing strings and numbers into memory cannot fail; were it to, the status still
        // says no.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        self.status_headers(status, headers);
        response
    }

    /// Header lines that a status demands.
    fn status_headers(&self, status: StatusCode, headers: &mut HeaderMap) {
        match status {
            StatusCode::UNAUTHORIZED => {
                let challenge = match self.basic {
                    true => HeaderValue::from_static(r#"Basic realm="usher", charset="UTF-8""#),
                    false => challenge(self.code),
                };
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                let allow = self.allow.as_deref().unwrap_or_default();
                if let Ok(value) = HeaderValue::from_str(allow) {
                    headers.insert(header::ALLOW, value);
                }
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
    }

    fn grpc(&self, decision: &DecisionId) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert("grpc-status", grpc_status(self.code.status()).into());
        let text = format!(
            "{}: {} (decision {})",
            self.code.as_str(),
            self.detail,
            decision.as_str()
        );
        if let Ok(value) = HeaderValue::from_str(&percent_encoded(&text)) {
            headers.insert("grpc-message", value);
        }
        response
    }
}

/// How an answer has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Reads `application/problem+json`.
    Http,
    /// The same without the body.
    Head,
    /// Reads `grpc-status`.
    Grpc,
    /// Reads `errors` of a GraphQL response.
    GraphQl(GraphQlMedia),
}

/// The media types of a GraphQL response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GraphQlMedia {
    /// `application/json`, of the clients there have always been.
    Json,
    /// `application/graphql-response+json`, for those that ask for it.
    Response,
}

impl GraphQlMedia {
    fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Response => "application/graphql-response+json",
        }
    }
}

impl Caller {
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let grpc = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        match (grpc, *method == Method::HEAD) {
            (true, _) => Self::Grpc,
            (false, true) => Self::Head,
            (false, false) => Self::Http,
        }
    }

    /// The same caller, now that its request is known to be GraphQL.
    pub(super) fn of_graphql(self, headers: &HeaderMap) -> Self {
        match self {
            Self::Http | Self::GraphQl(_) => {
                let asked = headers.get_all(header::ACCEPT).iter().any(|value| {
                    let text = value.to_str().unwrap_or_default();
                    text.contains(GraphQlMedia::Response.as_str())
                });
                Self::GraphQl(if asked {
                    GraphQlMedia::Response
                } else {
                    GraphQlMedia::Json
                })
            }
            Self::Head => Self::Head,
            Self::Grpc => Self::Grpc,
        }
    }
}

impl From<Denial> for Answer {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Ambiguous(why) => Self::new(Code::Ambiguous, why).closing(),
            Denial::BadField(why) => Self::new(Code::BadField, String::from(why)),
            Denial::Media(why) => Self::new(Code::BodyMedia, why).closing(),
            Denial::BadBody(why) => Self::new(Code::BodyInvalid, String::from(why)),
            Denial::LargeBody(limit) => {
                let why = format!("the body is longer than the {limit} bytes that are judged");
                Self::new(Code::BodyTooLarge, why).closing()
            }
            Denial::Unauthenticated(unusable) => unusable.into(),
            Denial::Prohibited(why) => Self::new(Code::Prohibited, String::from(why)),
            Denial::UnknownName(why) => Self::new(Code::UnknownName, String::from(why)),
            Denial::NoRoute => Self::new(Code::NoRoute, "no route has this host and path"),
            Denial::NoMethod(allow) => Self {
                allow: Some(allow),
                ..Self::new(
                    Code::MethodNotAllowed,
                    "this path has routes for other methods only, see Allow",
                )
            },
            Denial::NoTunnel => Self::new(
                Code::MethodNotAllowed,
                "no tunnel leads to this host and port",
            ),
            Denial::Misdirected => Self::new(Code::Misdirected, "no route has this host"),
            Denial::TokenBusy => Self::new(
                Code::TokenBusy,
                "as many names are being looked up for the token as may be for one",
            ),
            Denial::Unavailable(why) => Self::new(Code::Unavailable, why),
        }
    }
}

impl From<Unusable> for Answer {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Missing => Self::new(
                Code::TokenMissing,
                "send a token: Authorization: Bearer fm2_...",
            ),
            Unusable::Malformed(why) => Self::new(Code::TokenMalformed, String::from(why)),
            Unusable::UnknownKey => Self::new(
                Code::TokenUnknownKey,
                "the key that signed the token is not known here; ask for a new token",
            ),
            Unusable::BadSignature => Self::new(
                Code::TokenBadSignature,
                "the signature does not fit the token; was it cut or edited?",
            ),
            Unusable::Expired => Self::new(
                Code::TokenExpired,
                "the token has expired; ask for a new one",
            ),
            Unusable::NotYetValid => Self::new(
                Code::TokenNotYetValid,
                "the token is not valid yet; is the clock of its issuer right?",
            ),
            Unusable::Revoked => Self::new(
                Code::TokenRevoked,
                "the token, or one that it was made from, is revoked; ask for a new one",
            ),
            Unusable::Undischarged(discharges) => Self {
                discharges,
                ..Self::new(
                    Code::TokenUndischarged,
                    "fetch a discharge for each ticket from its location, and send it with the token",
                )
            },
            Unusable::BadDischarge(why) => Self::new(Code::TokenBadDischarge, String::from(why)),
        }
    }
}

impl From<&ForwardError> for Answer {
    fn from(error: &ForwardError) -> Self {
        match error {
            ForwardError::NoneAlive => Self::new(
                Code::UpstreamUnavailable,
                "no server of the upstream could be reached a moment ago; nothing was sent",
            ),
            ForwardError::Busy => Self::new(
                Code::UpstreamUnavailable,
                "all connections to the upstream are in use; nothing was sent",
            ),
            ForwardError::Connect(_) => Self::new(
                Code::UpstreamConnect,
                "the upstream could not be reached; nothing was sent",
            ),
            ForwardError::Late => Self::new(
                Code::UpstreamTimeout,
                "the upstream did not answer in time; it may have acted on the request",
            ),
            ForwardError::Failed(_) => Self::new(
                Code::UpstreamFailed,
                "the upstream broke off; it may have acted on the request",
            ),
            ForwardError::Response(_) => Self::new(
                Code::UpstreamBadResponse,
                "the upstream's response cannot be passed on; it may have acted on the request",
            ),
            ForwardError::Handshake(why) => Self::new(Code::BadHandshake, *why),
            ForwardError::NoTarget => Self::new(
                Code::BadField,
                "what the request names is no port to connect to; nothing was sent",
            ),
            ForwardError::NotWebSocket => Self::new(
                Code::UpgradeRequired,
                "this is a tunnel; begin it with a WebSocket handshake over HTTP/1.1",
            ),
            ForwardError::BodyLate => Self::new(
                Code::BodyTimeout,
                "the rest of the request body did not come in time",
            )
            .closing(),
            ForwardError::BodyBroken => {
                Self::new(Code::BadBody, "the request body broke off or is malformed").closing()
            }
            // Some of the body may still be on its way.
            ForwardError::LeaseEnded(end) => {
                let code = match end {
                    LeaseEnd::Expired => Code::LeaseExpired,
                    LeaseEnd::Revoked => Code::LeaseRevoked,
                    LeaseEnd::Unavailable => Code::LeaseUnavailable,
                    LeaseEnd::Withdrawn => Code::LeaseWithdrawn,
                };
                Self::new(code, end.sentence()).closing()
            }
        }
    }
}

impl From<Full> for Answer {
    fn from(Full: Full) -> Self {
        Self::new(
            Code::Busy,
            "too many bodies are being judged at once; nothing was sent",
        )
    }
}

/// Of the year 9999, the last one that a date has digits for.
const LAST_SECOND: u64 = 253_402_300_799;

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: std::fmt::Arguments<'a>,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    decision: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    discharges: Vec<Discharge<'a>>,
}

#[derive(Serialize)]
struct Discharge<'a> {
    location: &'a str,
    ticket: &'a str,
}

#[derive(Serialize)]
struct Failed<'a> {
    errors: [GraphQlError<'a>; 1],
}

#[derive(Serialize)]
struct GraphQlError<'a> {
    message: String,
    extensions: Extensions<'a>,
}

#[derive(Serialize)]
struct Extensions<'a> {
    code: &'static str,
    status: u16,
    decision: &'a str,
}

/// RFC 6750 3: no error without a credential, else why it is refused.
fn challenge(code: Code) -> HeaderValue {
    if code == Code::TokenMissing {
        return HeaderValue::from_static(r#"Bearer realm="usher""#);
    }
    let text = format!(
        r#"Bearer realm="usher", error="invalid_token", error_description="{}""#,
        code.as_str()
    );
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
}

/// gRPC's own codes. UNAVAILABLE (14) is repeated by clients, so it is only for what never
/// reached the upstream; INTERNAL (13) is not repeated.
fn grpc_status(status: StatusCode) -> u16 {
    match status {
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::NOT_FOUND | StatusCode::MISDIRECTED_REQUEST => 5,
        StatusCode::METHOD_NOT_ALLOWED => 12,
        StatusCode::TOO_MANY_REQUESTS => 8,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => 4,
        status if status.is_client_error() => 3,
        _ => 13,
    }
}

/// The encoding of `grpc-message`: printable ASCII without `%` stays.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match byte {
                b'%' | 0..=0x1f | 0x7f.. => {
                    // Writing to a String cannot fail.
                    let _infallible = write!(out, "%{byte:02X}");
                }
                _ => out.push(char::from(byte)),
            }
            out
        })
}

#[cfg(test)]
mod tests;

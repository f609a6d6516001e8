//! Why a request is refused.

use std::borrow::Cow;

use crate::policy::AccessError;
use crate::route::{RouteError, TargetError};

/// Why a request is refused, with what its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request can be read two ways: 400, and the connection is closed.
    Ambiguous(Cow<'static, str>),
    /// The path, the query or a header is not what the route asks for: 400.
    BadField(Box<str>),
    /// A body that has to be judged is of another media type: 415.
    Media(&'static str),
    /// A body that has to be judged cannot be read in one way only: 400.
    BadBody(Box<str>),
    /// A body that has to be judged is longer than this many bytes: 413.
    LargeBody(usize),
    /// No usable token: 401.
    Unauthenticated(Unusable),
    /// Verified, but prohibited: 403, with the caveat and what would satisfy it.
    Prohibited(Box<str>),
    /// No such name: 404.
    UnknownName(Box<str>),
    /// No such route: 404.
    NoRoute,
    /// The path is routed, the method is not: 405, with the methods that are.
    NoMethod(Box<str>),
    /// CONNECT to a host and port that no tunnel leads to: 405.
    NoTunnel,
    /// A host that no route has: 421.
    Misdirected,
    /// Too many names are being looked up for this token: 429.
    TokenBusy,
    /// The directory or the store cannot answer: 503.
    Unavailable(&'static str),
}

/// Why no token in the request is usable, from the farthest to the nearest to being one.
///
/// Of several tokens the one that comes last here is told: it is what its bearer can mend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unusable {
    /// No credential at all.
    Missing,
    /// No token in the header decodes; what is wrong with it.
    Malformed(Box<str>),
    /// No key for the nonce.
    UnknownKey,
    /// The signature is wrong.
    BadSignature,
    /// A discharge is there but does not verify.
    BadDischarge(Box<str>),
    /// Revoked.
    Revoked,
    /// The window has closed.
    Expired,
    /// The window has not opened yet.
    NotYetValid,
    /// Third parties have to discharge first, or anew: of each its location, and the ticket in
    /// base64.
    Undischarged(Box<[(Box<str>, Box<str>)]>),
}

impl Denial {
    /// What it says beyond its kind.
    pub(super) fn detail(&self) -> Option<&str> {
        match self {
            Self::Ambiguous(text) => Some(text),
            Self::BadField(text)
            | Self::Prohibited(text)
            | Self::UnknownName(text)
            | Self::Unauthenticated(Unusable::Malformed(text) | Unusable::BadDischarge(text)) => {
                Some(text)
            }
            Self::BadBody(text) => Some(text),
            Self::Unavailable(text) | Self::Media(text) => Some(text),
            Self::Unauthenticated(
                Unusable::Missing
                | Unusable::UnknownKey
                | Unusable::BadSignature
                | Unusable::Revoked
                | Unusable::Expired
                | Unusable::NotYetValid
                | Unusable::Undischarged(_),
            )
            | Self::LargeBody(_)
            | Self::NoRoute
            | Self::NoMethod(_)
            | Self::NoTunnel
            | Self::TokenBusy
            | Self::Misdirected => None,
        }
    }
}

impl From<Unusable> for Denial {
    fn from(unusable: Unusable) -> Self {
        Self::Unauthenticated(unusable)
    }
}

impl From<TargetError> for Denial {
    fn from(error: TargetError) -> Self {
        Self::Ambiguous(error.to_string().into())
    }
}

impl From<RouteError> for Denial {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NoRoute => Self::NoRoute,
            RouteError::NoMethod { allow } => Self::NoMethod(allow),
            RouteError::NoHost => Self::Misdirected,
            RouteError::Segment { .. } => Self::BadField(error.to_string().into()),
        }
    }
}

/// An undeclared query key; everything else about fields is judged with the directory.
impl From<AccessError> for Denial {
    fn from(error: AccessError) -> Self {
        Self::BadField(error.to_string().into())
    }
}

//! The accidents that are told apart, and what to do about each.

use thiserror::Error;

use crate::cli::text::moment;
use crate::macaroon::{Text, WireError};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Finding {
    /// Place in the comma-separated list, from 1; `None` is the header as a whole.
    pub(in crate::cli) part: Option<usize>,
    pub(in crate::cli) complaint: Complaint,
}

/// A kind of accident. The message says what to do about it, and shows nothing of the token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(in crate::cli) enum Complaint {
    #[error("there is nothing here; is the variable empty, or the file?")]
    Nothing,
    #[error("the quotes around it belong to a shell or a file format; drop them")]
    Quoted,
    #[error("it begins with the name of the header; the value alone is the credential")]
    HeaderName,
    #[error("there are line breaks or spaces inside; join it into one line without spaces")]
    Wrapped,
    #[error("it is longer than the {limit} bytes that a proxy takes; send fewer tokens")]
    HeaderTooLong { limit: usize },
    #[error("there are more than {limit} tokens; send fewer")]
    TooManyTokens { limit: usize },
    #[error("there is nothing between two commas, or behind the last; drop the comma")]
    EmptyPart,
    #[error("the prefix fm2_ is there twice; drop one")]
    DoubledPrefix,
    #[error("another token follows without a comma; was it pasted twice?")]
    Joined,
    #[error("the prefix fm2_ is missing; put it in front")]
    NoPrefix,
    #[error("it does not begin with fm2_: this is no macaroon")]
    WrongPrefix,
    #[error("this is an OAuth token, which only its issuer can check; make a macaroon instead")]
    OAuth,
    #[error("it is in the URL-safe alphabet; replace - by + and _ by /")]
    UrlSafe,
    #[error("the = at the end is missing or doubled; the length must be a multiple of 4")]
    Padding,
    #[error("character {at} behind the prefix belongs to no base64; copy the token again")]
    BadCharacter { at: usize },
    #[error("it is cut off after {characters} characters; copy the whole token")]
    CutOff { characters: usize },
    #[error("it is not in canonical form, which no issuer writes: {0}")]
    NotCanonical(String),
    #[error("it is complete, but {extra} bytes follow; copy the token again")]
    Extra { extra: usize },
    #[error("it is over a limit: {0}")]
    OverLimit(WireError),
    #[error("it is no macaroon: {0}")]
    NotAMacaroon(WireError),
    #[error(
        "{location} must discharge it, and no discharge for it is here; fetch one and append it"
    )]
    MissingDischarge { location: Text },
    #[error("it answers no token of this header; send it with the token it was made for")]
    OrphanDischarge,
    #[error("it expired at {}; make or fetch a new one", moment(*at))]
    Expired { at: i64 },
    #[error("it is valid only from {} on; is the clock right?", moment(*at))]
    NotYetValid { at: i64 },
    #[error("only discharges are here; put the permission token in front of them")]
    NoPermissionToken,
}

impl Complaint {
    /// A stable word for scripts.
    pub(in crate::cli) fn code(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Quoted => "quoted",
            Self::HeaderName => "header_name",
            Self::Wrapped => "wrapped",
            Self::HeaderTooLong { .. } => "header_too_long",
            Self::TooManyTokens { .. } => "too_many_tokens",
            Self::EmptyPart => "empty_part",
            Self::DoubledPrefix => "doubled_prefix",
            Self::Joined => "joined",
            Self::NoPrefix => "no_prefix",
            Self::WrongPrefix => "wrong_prefix",
            Self::OAuth => "oauth",
            Self::UrlSafe => "url_safe",
            Self::Padding => "padding",
            Self::BadCharacter { .. } => "bad_character",
            Self::CutOff { .. } => "cut_off",
            Self::NotCanonical(_) => "not_canonical",
            Self::Extra { .. } => "extra_bytes",
            Self::OverLimit(_) => "over_limit",
            Self::NotAMacaroon(_) => "not_a_macaroon",
            Self::MissingDischarge { .. } => "missing_discharge",
            Self::OrphanDischarge => "orphan_discharge",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::NoPermissionToken => "no_permission_token",
        }
    }
}

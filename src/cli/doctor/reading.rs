//! Reading a header that may be broken: each accident is noted, undone where that can be done, and
//! passed, so that the ones behind it come to light too.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use super::{Complaint, Finding};
use crate::macaroon::{Limits, Token, WireError, without_scheme};

/// Reads a header, collecting what can be made out and what is wrong.
pub(super) struct Reading<'l> {
    limits: &'l Limits,
    /// What is wrong so far.
    pub(super) findings: Vec<Finding>,
    /// Tokens with their places in the list, from 1.
    pub(super) tokens: Vec<(usize, Token)>,
}

impl<'l> Reading<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            findings: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Notes a finding, once.
    pub(super) fn find(&mut self, part: impl Into<Option<usize>>, complaint: Complaint) {
        let finding = Finding {
            part: part.into(),
            complaint,
        };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// A whole header, or whatever was pasted as one.
    pub(super) fn header(&mut self, text: &str) {
        let mut text = text.trim();
        for quote in ['"', '\''] {
            let inner = text.strip_prefix(quote).map(|t| t.trim_end_matches(quote));
            if let Some(inner) = inner {
                self.find(None, Complaint::Quoted);
                text = inner.trim();
            }
        }
        let name = text.get(..HEADER_NAME.len()).unwrap_or_default();
        if name.eq_ignore_ascii_case(HEADER_NAME) {
            self.find(None, Complaint::HeaderName);
            text = text.trim_start_matches(name).trim();
        }
        text = self.without_scheme(text);
        if text.is_empty() {
            return self.find(None, Complaint::Nothing);
        }
        if text.len() > self.limits.header_bytes {
            let limit = self.limits.header_bytes;
            return self.find(None, Complaint::HeaderTooLong { limit });
        }
        for (index, part) in text.split(',').enumerate() {
            if index >= self.limits.tokens {
                let limit = self.limits.tokens;
                return self.find(None, Complaint::TooManyTokens { limit });
            }
            self.part(index + 1, part.trim());
        }
    }

    /// Drops schemes. Only a space separates one from what follows; a line break or a tab there
    /// has come from wrapping.
    fn without_scheme<'a>(&mut self, text: &'a str) -> &'a str {
        let mut rest = text;
        loop {
            let (word, after) = match rest.split_once(char::is_whitespace) {
                Some((word, after)) => (word, after),
                // A scheme alone has nothing behind it.
                None => (rest, ""),
            };
            if !word.eq_ignore_ascii_case("Bearer") && !word.eq_ignore_ascii_case("FlyV1") {
                return rest;
            }
            if !after.is_empty() && !rest.starts_with(&format!("{word} ")) {
                self.find(None, Complaint::Wrapped);
            }
            rest = after.trim();
        }
    }

    fn part(&mut self, part: usize, text: &str) {
        if text.is_empty() {
            return self.find(part, Complaint::EmptyPart);
        }
        let mut text = text;
        // A prefix in front of a whole header value.
        while let Some(rest) = text.strip_prefix(PREFIX)
            && without_scheme(rest).len() < rest.len()
        {
            self.find(part, Complaint::DoubledPrefix);
            text = without_scheme(rest);
        }
        let mut text = Cow::Borrowed(text);
        if text.contains(char::is_whitespace) {
            self.find(part, Complaint::Wrapped);
            text = text.split_whitespace().collect();
        }
        let Some((prefix, encoded)) = text.split_once('_') else {
            let bare =
                lenient(&text).is_some_and(|bytes| Token::decode(bytes, self.limits).is_ok());
            let complaint = if bare {
                Complaint::NoPrefix
            } else {
                Complaint::WrongPrefix
            };
            return self.find(part, complaint);
        };
        match prefix {
            "fm2" | "fm1r" | "fm1a" => self.token(part, encoded),
            "fo1" => self.find(part, Complaint::OAuth),
            _ => self.find(part, Complaint::WrongPrefix),
        }
    }

    /// What stands behind the prefix.
    fn token(&mut self, part: usize, encoded: &str) {
        let mut encoded = encoded;
        while let Some(rest) = encoded.strip_prefix(PREFIX) {
            self.find(part, Complaint::DoubledPrefix);
            encoded = rest;
        }
        // The second one is examined too, in case it is the one that is whole.
        if let Some((first, second)) = encoded.split_once(PREFIX) {
            self.find(part, Complaint::Joined);
            self.base64(part, first);
            return self.token(part, second);
        }
        self.base64(part, encoded);
    }

    fn base64(&mut self, part: usize, encoded: &str) {
        let mut encoded = Cow::Borrowed(encoded);
        if encoded.contains(['-', '_']) {
            self.find(part, Complaint::UrlSafe);
            encoded = encoded.replace('-', "+").replace('_', "/").into();
        }
        let body = encoded.trim_end_matches('=');
        let stray = |c: char| !(c.is_ascii_alphanumeric() || c == '+' || c == '/');
        if let Some((at, _)) = body.chars().enumerate().find(|(_, c)| stray(*c)) {
            return self.find(part, Complaint::BadCharacter { at: at + 1 });
        }
        let cut_off = Complaint::CutOff {
            characters: encoded.len(),
        };
        // One character over holds six bits, which is no byte: some must be missing.
        let Some(bytes) = lenient(body) else {
            return self.find(part, cut_off);
        };
        let decoded = match Token::decode(bytes, self.limits) {
            // Where the end is missing, so is its padding; that alone is not worth a word.
            Err(WireError::Truncated { .. }) => return self.find(part, cut_off),
            decoded => decoded,
        };
        match STANDARD.decode(encoded.as_bytes()) {
            Err(base64::DecodeError::InvalidPadding | base64::DecodeError::InvalidLength(_)) => {
                self.find(part, Complaint::Padding);
            }
            Err(base64::DecodeError::InvalidByte(..)) => self.find(part, Complaint::Padding),
            Err(base64::DecodeError::InvalidLastSymbol { .. }) => self.find(
                part,
                Complaint::NotCanonical("the last character carries bits that mean nothing".into()),
            ),
            Ok(_) => {}
        }
        let complaint = match decoded {
            Ok(token) => return self.tokens.push((part, token)),
            Err(error @ WireError::NotCanonical { .. }) => {
                Complaint::NotCanonical(error.to_string())
            }
            Err(WireError::Trailing { extra }) => Complaint::Extra { extra },
            Err(
                error @ (WireError::TooLong { .. }
                | WireError::TooManyCaveats { .. }
                | WireError::TooDeep { .. }),
            ) => Complaint::OverLimit(error),
            Err(error @ (WireError::Type { .. } | WireError::Truncated { .. })) => {
                Complaint::NotAMacaroon(error)
            }
        };
        self.find(part, complaint);
    }
}

/// Base64 without regard to padding and to bits left over.
fn lenient(text: &str) -> Option<Vec<u8>> {
    LENIENT.decode(text).ok()
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const PREFIX: &str = "fm2_";
const HEADER_NAME: &str = "Authorization:";

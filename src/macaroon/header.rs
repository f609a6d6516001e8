//! The credential header: scheme, token list, base64 (format chapters 12 and 12.1).
//!
//! The header is read token by token, as the reference's `bundle` package does: one foreign or
//! broken token beside a good one does no harm. What was wrong is kept, to be told to the bearer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::limits::Limits;
use super::token::Token;
use super::wire::WireError;

/// The tokens of one header, in order.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// Every token that decodes.
    pub tokens: Vec<Token>,
    /// Every part that does not, with its position.
    pub defects: Vec<Defect>,
}

/// A part of the header that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("token {} of the header: {problem}", position.saturating_add(1))]
pub struct Defect {
    /// Position in the comma-separated list, from 0.
    pub position: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Why a part of the header is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// Nothing between two commas.
    #[error("it is empty")]
    Empty,
    /// An OAuth token. It cannot be verified here, and is passed over.
    #[error("it is an OAuth token (fo1_), which cannot be verified here; send a macaroon (fm2_)")]
    OAuth,
    /// No known prefix.
    #[error("it does not begin with fm2_")]
    Prefix,
    /// Not standard base64 with padding.
    #[error(
        "it is not base64: the character at offset {at} does not belong there; the token may be cut off, wrapped or pasted twice"
    )]
    Base64 {
        /// Offset behind the prefix.
        at: usize,
    },
    /// Not a canonically encoded token.
    #[error("{0}")]
    Wire(#[from] WireError),
}

/// Why a header is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Longer than the limit.
    #[error("the credential is {bytes} bytes long, the limit is {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// [`Limits::header_bytes`].
        limit: usize,
    },
    /// More tokens than the limit.
    #[error("the credential has more than {limit} tokens")]
    TooManyTokens {
        /// [`Limits::tokens`].
        limit: usize,
    },
}

impl Bundle {
    /// Reads a header value, or a token list without a scheme.
    pub fn parse(value: &str, limits: &Limits) -> Result<Self, HeaderError> {
        if value.len() > limits.header_bytes {
            return Err(HeaderError::TooLong {
                bytes: value.len(),
                limit: limits.header_bytes,
            });
        }
        let list = without_scheme(value);
        let tokens = memchr::memchr_iter(b',', list.as_bytes())
            .count()
            .saturating_add(1);
        let mut bundle = Self::default();
        bundle.tokens.reserve_exact(tokens.min(limits.tokens));
        for (position, part) in parts(list).enumerate() {
            if position >= limits.tokens {
                return Err(HeaderError::TooManyTokens {
                    limit: limits.tokens,
                });
            }
            match token(part.trim(), limits) {
                Ok(token) => bundle.tokens.push(token),
                Err(problem) => bundle.defects.push(Defect { position, problem }),
            }
        }
        Ok(bundle)
    }

    /// The header value that carries these tokens.
    pub fn to_header(&self) -> String {
        let tokens: Vec<String> = self
            .tokens
            .iter()
            .map(|token| format!("fm2_{}", STANDARD.encode(token.bytes())))
            .collect();
        format!("FlyV1 {}", tokens.join(","))
    }
}

/// Drops `Bearer` and `FlyV1`, in any case and any number, and white space around them. Only a
/// real space separates a scheme from what follows.
pub fn without_scheme(value: &str) -> &str {
    let mut rest = value.trim();
    while let Some((word, after)) = split_once(rest, b' ') {
        let word = word.trim();
        if !word.eq_ignore_ascii_case("Bearer") && !word.eq_ignore_ascii_case("FlyV1") {
            break;
        }
        rest = after.trim();
    }
    rest
}

/// What `str::split(',')` yields. Headers are long and this is on the path of every new token, so
/// the search is left to the library that does it with vector instructions.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let (part, after) = split_once(list, b',').map_or((list, None), |(a, b)| (a, Some(b)));
        rest = after;
        Some(part)
    })
}

/// `str::split_once` for an ASCII character.
fn split_once(text: &str, at: u8) -> Option<(&str, &str)> {
    let (before, rest) = text.split_at_checked(memchr::memchr(at, text.as_bytes())?)?;
    Some((before, rest.get(1..)?))
}

fn token(part: &str, limits: &Limits) -> Result<Token, Problem> {
    if part.is_empty() {
        return Err(Problem::Empty);
    }
    let (prefix, encoded) = split_once(part, b'_').ok_or(Problem::Prefix)?;
    match prefix {
        // The three are treated alike; the location decides what a token is.
        "fm2" | "fm1r" | "fm1a" => {}
        "fo1" => return Err(Problem::OAuth),
        _ => return Err(Problem::Prefix),
    }
    // Checked on the text, so that nothing over the limit is ever decoded.
    let bytes = (encoded.len() / 4).saturating_mul(3);
    if bytes > limits.token_bytes.saturating_add(2) {
        return Err(WireError::TooLong {
            bytes,
            limit: limits.token_bytes,
        }
        .into());
    }
    // The place of an error is worth a second, slower look.
    let bytes = base64_simd::STANDARD
        .decode_to_vec(encoded)
        .map_err(|_| Problem::Base64 {
            at: STANDARD
                .decode(encoded)
                .map_or_else(|error| offset(&error, encoded), |_| encoded.len()),
        })?;
    if bytes.is_empty() {
        return Err(Problem::Empty);
    }
    Ok(Token::decode(bytes, limits)?)
}

fn offset(error: &base64::DecodeError, encoded: &str) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _)
        | base64::DecodeError::InvalidLastSymbol { offset: at, .. } => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
            encoded.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_dropped_in_any_case_and_number() {
        for value in [
            "fm2_x",
            "FlyV1 fm2_x",
            "bearer  FLYV1 fm2_x ",
            " Bearer Bearer fm2_x",
        ] {
            assert_eq!(without_scheme(value), "fm2_x", "{value:?}");
        }
        assert_eq!(without_scheme("FlyV1\tfm2_x"), "FlyV1\tfm2_x");
        assert_eq!(without_scheme("Basic fm2_x"), "Basic fm2_x");
    }

    #[test]
    fn each_bad_part_is_named_and_spoils_no_other() {
        let value = "FlyV1 fo1_a,,gho_b,fm2_!,fm2_AAAA,fm2_AA!A";
        let bundle = Bundle::parse(value, &Limits::DEFAULT).unwrap();
        let problems: Vec<_> = bundle
            .defects
            .iter()
            .map(|defect| (defect.position, defect.problem))
            .collect();
        assert_eq!(
            problems,
            [
                (0, Problem::OAuth),
                (1, Problem::Empty),
                (2, Problem::Prefix),
                (3, Problem::Base64 { at: 0 }),
                (
                    4,
                    Problem::Wire(WireError::Type {
                        at: 0,
                        expected: "an array"
                    })
                ),
                (5, Problem::Base64 { at: 2 }),
            ]
        );
    }

    #[test]
    fn a_token_over_the_limit_is_not_even_decoded() {
        let limits = Limits {
            token_bytes: 10,
            ..Limits::DEFAULT
        };
        let problem = |encoded: &str| {
            let bundle = Bundle::parse(&format!("fm2_{encoded}"), &limits).unwrap();
            bundle.defects[0].problem
        };
        let too_long = |bytes| Problem::Wire(WireError::TooLong { bytes, limit: 10 });
        // What is no Base64 shows that nobody has tried.
        assert_eq!(problem(&"!".repeat(20)), too_long(15));
        assert_eq!(problem("AAAAAAAAAAAAAAA="), too_long(11));
        // Ten bytes, which their padding makes look like twelve.
        let whole = Problem::Wire(WireError::Type {
            at: 0,
            expected: "an array",
        });
        assert_eq!(problem("AAAAAAAAAAAAAA=="), whole);
    }

    #[test]
    fn limits_hold_exactly() {
        let limits = Limits {
            header_bytes: 9,
            tokens: 3,
            ..Limits::DEFAULT
        };
        assert!(Bundle::parse("a,b,c", &limits).is_ok());
        assert_eq!(
            Bundle::parse("a,b,c,d", &limits).unwrap_err(),
            HeaderError::TooManyTokens { limit: 3 }
        );
        assert!(Bundle::parse("123456789", &limits).is_ok());
        assert_eq!(
            Bundle::parse("1234567890", &limits).unwrap_err(),
            HeaderError::TooLong {
                bytes: 10,
                limit: 9
            }
        );
    }
}

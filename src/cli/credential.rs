//! Where a command's token comes from.

use std::fmt;
use std::io::Read as _;

use zeroize::Zeroizing;

use super::{CliError, Console, TokenSource};

/// Text of an argument that may be a token, so that it is never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text, read from standard input if it is `-`.
    pub(super) fn resolve(&self, console: &mut Console<'_>) -> Result<Zeroizing<String>, CliError> {
        if self.is_stdin() {
            read_stdin(console)
        } else {
            Ok(self.0.clone())
        }
    }

    /// Whether standard input is meant.
    pub(super) fn is_stdin(&self) -> bool {
        self.0.as_str() == "-"
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The token of a command: the argument, standard input, or the environment, in this order. A
/// variable that is set but empty counts as not set.
pub(super) fn token(
    source: &TokenSource,
    console: &mut Console<'_>,
) -> Result<Zeroizing<String>, CliError> {
    if let Some(token) = &source.token {
        return token.resolve(console);
    }
    ["USHER_TOKEN", "FLY_API_TOKEN"]
        .into_iter()
        .filter_map(console.env)
        .find(|text| !text.is_empty())
        .map(Zeroizing::new)
        .ok_or(CliError::NoToken)
}

/// All of standard input.
pub(super) fn read_stdin(console: &mut Console<'_>) -> Result<Zeroizing<String>, CliError> {
    let mut text = Zeroizing::new(String::new());
    console
        .stdin
        .take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(|cause| CliError::Input {
            what: "standard input".to_owned(),
            cause,
        })?;
    Ok(text)
}

/// Bytes read at most. Any token or caveat set that could be used is far shorter; one that is cut
/// here is refused for its length.
const MAX_INPUT: u64 = 1 << 20;

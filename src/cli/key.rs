//! `usher key`.

use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use super::credential::read_stdin;
use super::ledger::is_active;
use super::text::{moment, table};
use super::{CliError, Console, KeyCommand, KeyImport};
use crate::authority::{Authority, AuthorityError, KeyId};

pub(super) fn run(
    command: &KeyCommand,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    match command {
        KeyCommand::List(_) => list(authority, console),
        KeyCommand::Rotate(_) => rotate(authority, console),
        KeyCommand::Import(args) => import(args, authority, console),
        KeyCommand::Retire(args) => retire(&args.key, authority, console),
    }
}

fn list(authority: &Authority, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut rows = vec![["KEY", "STATE", "CREATED"].map(str::to_owned)];
    for key in authority.keys()? {
        rows.push([
            KeyId::of(&key.id).to_string(),
            key.state.name().to_owned(),
            moment(key.created_at).to_string(),
        ]);
    }
    console.say(table(&rows).trim_end())
}

fn rotate(authority: &Authority, console: &mut Console<'_>) -> Result<(), CliError> {
    let id = authority.rotate(console.now)?;
    console.say(format_args!(
        "{id} signs new tokens from now on; tokens signed with an earlier key stay valid"
    ))
}

fn import(
    args: &KeyImport,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let (place, text) = if args.key == Path::new("-") {
        ("standard input".to_owned(), read_stdin(console)?)
    } else {
        let file = args.key.display().to_string();
        let text = std::fs::read_to_string(&args.key).map_err(|cause| CliError::Input {
            what: file.clone(),
            cause,
        })?;
        (file, Zeroizing::new(text))
    };
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
    let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) else {
        return Err(CliError::NotAKey(place));
    };
    let id = authority.import(&args.id.0, &Zeroizing::new(key), console.now)?;
    console.say(format_args!(
        "{id} is accepted from now on; no token is signed with it here"
    ))
}

/// The key is named as it is listed. Two ids can be listed alike, one of them text and the other
/// bytes; which one is meant is then not guessed.
fn retire(name: &str, authority: &Authority, console: &mut Console<'_>) -> Result<(), CliError> {
    let keys = authority.keys()?;
    let named = keys
        .iter()
        .filter(|key| KeyId::of(&key.id).to_string() == name);
    let [key] = named.collect::<Vec<_>>()[..] else {
        return Err(AuthorityError::UnknownKey(name.to_owned()).into());
    };
    // What is active now is what retiring the key can end.
    let (snapshot, now) = (authority.snapshot(), console.now);
    let tokens = authority.tokens()?;
    let active = tokens
        .iter()
        .filter(|token| is_active(token, &snapshot, now));
    let (known, unknown): (Vec<_>, Vec<_>) = active.partition(|token| token.key.is_some());
    let signed = known
        .iter()
        .filter(|token| token.key.as_deref() == Some(&key.id));
    let ends = signed.count();
    if !authority.retire(&key.id)? {
        return console.say(format_args!("{name} had been retired before"));
    }
    console.say(format_args!(
        "{name} is retired; this ends {ends} of the tokens made here"
    ))?;
    if !unknown.is_empty() {
        console.note(format_args!(
            "it may have signed some of {} tokens more, made before the ledger kept their keys",
            unknown.len()
        ))?;
    }
    Ok(())
}

/// The id of a key to be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKeyId(Vec<u8>);

impl FromStr for NewKeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let id = match text.strip_prefix("hex:") {
            None => text.as_bytes().to_vec(),
            Some(digits) => {
                let digit = |b: &u8| {
                    char::from(*b)
                        .to_digit(16)
                        .and_then(|d| u8::try_from(d).ok())
                };
                let digits = digits.as_bytes().iter().map(digit);
                let digits = digits.collect::<Option<Vec<u8>>>().ok_or(KeyIdError::Hex)?;
                let (pairs, []) = digits.as_chunks::<2>() else {
                    return Err(KeyIdError::Hex);
                };
                pairs.iter().map(|[high, low]| high << 4 | low).collect()
            }
        };
        if id.is_empty() {
            return Err(KeyIdError::Empty);
        }
        Ok(Self(id))
    }
}

/// Why text is no key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyIdError {
    /// Nothing.
    #[error("a key id is not empty")]
    Empty,
    /// Not hexadecimal.
    #[error("after hex: give pairs of hexadecimal digits, as in hex:00ff")]
    Hex,
}

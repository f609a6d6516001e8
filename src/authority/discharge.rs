//! Discharges for the third parties that usher itself stands for.

use thiserror::Error;

use super::kinds::Window;
use super::seal::{SealError, random};
use super::{Authority, AuthorityError};
use crate::macaroon::{Caveat, Limits, SigningKey, Text, ThirdPartyKeys, Ticket, Token, unseal};

/// What discharge is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Discharge<'a> {
    /// Who gives it.
    pub location: &'a str,
    /// What the third-party caveat holds for that location.
    pub ticket: &'a [u8],
    /// The user that has been identified, if one has; the discharge then says so.
    pub user: Option<u64>,
    /// When it may be used. Without it: from now on for [`DISCHARGE_LIFETIME`], or for as long as
    /// the ticket permits if that is less.
    pub window: Option<Window>,
}

impl Authority {
    /// Answers a ticket, after whatever it demands has been checked.
    pub fn discharge(&self, asked: &Discharge<'_>, now: i64) -> Result<Token, AuthorityError> {
        discharge(&self.snapshot().third_parties, asked, now)
    }
}

pub(super) fn discharge(
    keys: &ThirdPartyKeys,
    asked: &Discharge<'_>,
    now: i64,
) -> Result<Token, AuthorityError> {
    let ticket = open(keys, asked)?;
    let longest = permits(&ticket.caveats, asked.user)?;
    let window = asked.window.unwrap_or_else(|| Window {
        not_before: now,
        not_after: now.saturating_add(longest.map_or(DISCHARGE_LIFETIME, |longest| {
            longest.min(DISCHARGE_LIFETIME)
        })),
    });
    if let Some(longest) = longest
        && window.not_after.saturating_sub(now) > longest
    {
        return Err(TicketError::TooLong { seconds: longest }.into());
    }
    let mut caveats = vec![Caveat::ValidityWindow {
        not_before: window.not_before,
        not_after: window.not_after,
    }];
    caveats.extend(asked.user.map(Caveat::FlyioUserId));
    let rnd = random().map_err(SealError::from)?;
    let key = SigningKey::new(ticket.key);
    Ok(Token::discharge(
        asked.ticket,
        *rnd,
        asked.location,
        &key,
        &caveats,
    )?)
}

/// Unseals the ticket with a key of its location. One that does not open is looked at more
/// closely, to say why.
fn open(keys: &ThirdPartyKeys, asked: &Discharge<'_>) -> Result<Ticket, AuthorityError> {
    let opened = |location: &[u8]| {
        let mut keys = keys.of(location);
        keys.find_map(|key| unseal(key, asked.ticket).ok())
    };
    let location = asked.location.as_bytes();
    if keys.of(location).next().is_none() {
        return Err(AuthorityError::unknown_third_party(asked.location, keys));
    }
    let Some(plaintext) = opened(location) else {
        let mut others = keys.locations();
        return Err(
            match others.find(|other| opened(other.as_bytes()).is_some()) {
                Some(other) => TicketError::OtherLocation(other.clone()),
                None if asked.ticket.len() < SHORTEST => TicketError::Cut {
                    bytes: asked.ticket.len(),
                },
                None => TicketError::Foreign(asked.location.into()),
            }
            .into(),
        );
    };
    let ticket = Ticket::decode(&plaintext, &Limits::DEFAULT).map_err(|_| TicketError::NoTicket)?;
    Ok(ticket)
}

/// Checks what a ticket demands; returns the longest lifetime that it permits, in seconds.
/// Whatever cannot be checked here is a reason to refuse.
fn permits(caveats: &[Caveat], user: Option<u64>) -> Result<Option<i64>, TicketError> {
    let mut longest = None::<i64>;
    for caveat in caveats {
        // Only these two of all caveats can be checked with what is known here.
        if let Caveat::ConfineUser(id) = caveat {
            match user {
                Some(user) if user == *id => {}
                Some(user) => return Err(TicketError::OtherUser { id: *id, user }),
                None => return Err(TicketError::NoUser { id: *id }),
            }
        } else if let Caveat::MaxValidity(seconds) = caveat {
            let seconds = i64::try_from(*seconds).unwrap_or(i64::MAX);
            longest = Some(longest.map_or(seconds, |longest| longest.min(seconds)));
        } else {
            return Err(TicketError::Caveat(match caveat.name() {
                Some(name) => name.to_owned(),
                None => format!("type {}", caveat.kind()),
            }));
        }
    }
    Ok(longest)
}

impl AuthorityError {
    /// No key is shared with this location.
    pub(super) fn unknown_third_party(location: &str, keys: &ThirdPartyKeys) -> Self {
        let mut known: Vec<String> = keys.locations().map(ToString::to_string).collect();
        known.dedup();
        Self::UnknownThirdParty {
            location: location.to_owned(),
            known: match known.as_slice() {
                [] => "it has none; add `{ location, key }` there".to_owned(),
                known => format!("it has {}", known.join(", ")),
            },
        }
    }
}

/// Why a ticket is not answered. Every one says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TicketError {
    /// Too short to be sealed.
    #[error(
        "the ticket has only {bytes} bytes, so part of it is missing; copy all of `ticket` from the 401 answer"
    )]
    Cut {
        /// Its length.
        bytes: usize,
    },
    /// A ticket for another third party of the configuration.
    #[error("the ticket is for {0}; name that with --location")]
    OtherLocation(Text),
    /// No configured key opens it.
    #[error(
        "no key shared with {0} opens the ticket: it was changed on the way, or sealed by an issuer with another key; \
         copy it again from the 401 answer, and compare the key in authority.third_parties with the issuer's"
    )]
    Foreign(Text),
    /// It opens, but what is inside is no ticket.
    #[error("the ticket opens, but holds no ticket; its issuer is at fault, ask for a new token")]
    NoTicket,
    /// Only for a certain user, and none was named.
    #[error(
        "the ticket is for user {id} only; once they have proved who they are, add --user {id}"
    )]
    NoUser {
        /// User id.
        id: u64,
    },
    /// Only for another user.
    #[error(
        "the ticket is for user {id}, not for user {user}; that one needs a token of their own"
    )]
    OtherUser {
        /// User id in the ticket.
        id: u64,
        /// User id given.
        user: u64,
    },
    /// Longer than the ticket permits.
    #[error(
        "the ticket permits a discharge for {seconds} s at most; use --expiry {seconds}s or less"
    )]
    TooLong {
        /// The longest, in seconds.
        seconds: i64,
    },
    /// A demand that cannot be checked here.
    #[error(
        "the ticket demands {0}, which cannot be checked here, so it is not answered; \
         whoever made the token can make one without it"
    )]
    Caveat(String),
}

/// How long a discharge is good if nobody says otherwise, in seconds: long enough for a deploy,
/// short enough that whoever is no longer vouched for is soon out.
pub const DISCHARGE_LIFETIME: i64 = 3600;

/// The shortest ticket: nonce, tag, and the encoding of a ticket with an empty key.
const SHORTEST: usize = 12 + 16 + 4;

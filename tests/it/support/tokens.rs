//! Tokens of usher's own making, and a third party that discharges.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use usher::authority::Window;
use usher::clock::unix_now;
use usher::macaroon::{self, Bundle, Caveat, Limits, SigningKey, Token, seal};
use zeroize::Zeroizing;

use super::canary::{self, Place};

/// A header value with these tokens.
pub(crate) fn header(tokens: &[&Token]) -> String {
    tokens.iter().for_each(|token| hide(token));
    Bundle {
        tokens: tokens.iter().copied().cloned().collect(),
        ..Bundle::default()
    }
    .to_header()
}

/// Has everything of a token looked for that could be used, or by which it is recognized: its
/// text, its tail, and its nonce, of which the UUID alone may be told. Tickets are told to clients,
/// who have to take them to the third party.
pub(crate) fn hide(token: &Token) {
    for caveat in token.caveats() {
        if let Caveat::ThirdParty(third_party) = caveat {
            canary::hide_except(
                third_party.ticket.as_bytes(),
                &[Place::Answer, Place::Stdout],
            );
        }
    }
    canary::hide_tokens(&format!("fm2_{}", STANDARD.encode(token.bytes())));
    canary::hide(token.nonce());
    canary::hide(token.rnd());
}

/// A window around this moment.
pub(crate) fn hour() -> Window {
    let now = unix_now();
    Window {
        not_before: now - 3600,
        not_after: now + 3600,
    }
}

/// A window that has always been open, for tokens that outlive a restart.
pub(crate) fn forever() -> Window {
    Window {
        not_before: 0,
        not_after: unix_now() + 1_000_000,
    }
}

/// A caveat with a window of these bounds from now, in seconds.
pub(crate) fn window(from: i64, to: i64) -> Caveat {
    let now = unix_now();
    Caveat::ValidityWindow {
        not_before: now + from,
        not_after: now + to,
    }
}

/// A third party that shares a key with whoever appends its caveat, and not with usher unless a
/// test says so.
pub(crate) struct ThirdParty {
    pub(crate) location: &'static str,
    pub(crate) shared: [u8; 32],
}

impl ThirdParty {
    /// Appends its caveat to a token, as a bearer can. The ticket is made anew for each `number`.
    pub(crate) fn restrict(&self, token: &Token, number: u8) -> Token {
        canary::hide(&self.shared);
        canary::hide(&Self::key(number));
        let tail: &[u8; 32] = token.bytes().last_chunk().unwrap();
        let caveat = Caveat::ThirdParty(macaroon::ThirdParty {
            location: self.location.into(),
            verifier_key: seal(tail, [2; 12], &Self::key(number))
                .unwrap()
                .as_slice()
                .into(),
            ticket: self.ticket(number).as_slice().into(),
        });
        token.attenuate(&[caveat], &Limits::DEFAULT).unwrap()
    }

    /// Discharges the ticket of that number.
    pub(crate) fn discharge(&self, number: u8, caveats: &[Caveat]) -> Token {
        let key = SigningKey::new(Zeroizing::new(Self::key(number).to_vec()));
        Token::discharge(
            &self.ticket(number),
            distinct(number ^ 0x80),
            self.location,
            &key,
            caveats,
        )
        .unwrap()
    }

    /// The key of the discharge, and no caveats for the third party to look at, sealed.
    pub(crate) fn ticket(&self, number: u8) -> Vec<u8> {
        let key = Self::key(number);
        let content = [&[0x92, 0xc4, 32], key.as_slice(), &[0x90]].concat();
        seal(&self.shared, distinct(number), &content).unwrap()
    }

    fn key(number: u8) -> [u8; 32] {
        distinct(number)
    }
}

/// Stands in for randomness: no two bytes in a row are the same, in no two numbers.
pub(crate) const fn distinct<const N: usize>(number: u8) -> [u8; N] {
    let (mut bytes, mut byte, mut at) = ([0; N], number, 0);
    while at < N {
        byte = byte.wrapping_mul(181).wrapping_add(59);
        bytes[at] = byte;
        at += 1;
    }
    bytes
}

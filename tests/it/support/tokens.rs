//! Tokens of usher's own making, and a third party that discharges.

use usher::authority::Window;
use usher::clock::unix_now;
use usher::macaroon::{self, Bundle, Caveat, Limits, SigningKey, Token, seal};
use zeroize::Zeroizing;

/// A header value with these tokens.
pub(crate) fn header(tokens: &[&Token]) -> String {
    Bundle {
        tokens: tokens.iter().copied().cloned().collect(),
        ..Bundle::default()
    }
    .to_header()
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
fn distinct<const N: usize>(number: u8) -> [u8; N] {
    let mut byte = number;
    [(); N].map(|()| {
        byte = byte.wrapping_mul(181).wrapping_add(59);
        byte
    })
}

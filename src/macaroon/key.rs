//! Keys, tails and sealing: everything in the token core that touches a secret.

use std::fmt;

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit};
use hmac::digest::FixedOutput;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::chain::{self, Keyed};

/// A key that signs tokens: an organization's, or the one that a third-party caveat carries.
///
/// Any length is a valid HMAC key. The bytes are wiped on drop, and so is the keyed hash state
/// that is kept so that a token costs two compressions less.
#[derive(Clone)]
pub struct SigningKey {
    bytes: Zeroizing<Vec<u8>>,
    /// For keys of the usual length.
    keyed: Option<Keyed>,
}

impl SigningKey {
    /// Takes over the key's bytes.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        let words = bytes.as_slice().try_into().ok().map(chain::from_bytes);
        let keyed = words.as_ref().map(Keyed::new);
        Self { bytes, keyed }
    }

    /// The bytes, for sealing them into a store or a ticket.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// T0 of format chapter 6: the tail of a token without caveats.
    pub(super) fn tail_of_nonce(&self, nonce: &[u8]) -> Tail {
        match (&self.keyed, nonce) {
            (Some(keyed), [first, rest @ ..]) => Tail(keyed.mac(*first, rest)),
            _ => Tail::of(&self.bytes, nonce),
        }
    }

    /// Whether both are the same key, in constant time for keys of one length.
    pub(super) fn matches(&self, other: &[u8]) -> bool {
        self.bytes.ct_eq(other).into()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

/// An intermediate or last tail of a chain. Whoever holds one can attenuate from there, so it is
/// as secret as a token, and wiped on drop.
///
/// Kept as the words of the hash state, which is what the next step starts from.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Tail(chain::State);

/// SHA-256 of a [`Tail`]: names it for binding and revocation without giving it away.
pub type TailDigest = [u8; 32];

impl Tail {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length (RFC 2104)"
    )]
    fn of(key: &[u8], message: &[u8]) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        Self::from_bytes(&mac.chain_update(message).finalize_fixed().into())
    }

    /// The tail after one more caveat, given that caveat's type number and body.
    pub(super) fn after(&self, caveat: &[u8]) -> Self {
        // The input is the set of this one caveat: an array of two items.
        Self(chain::mac_once(&self.0, 0x92, caveat))
    }

    /// The tail of a proof, from which no further tail can be computed.
    pub(super) fn finalized(&self) -> Self {
        Self::of(b"proof-signature-finalization", &self.to_bytes())
    }

    /// Compares in constant time; another length never matches.
    pub(super) fn matches(&self, presented: &[u8]) -> bool {
        let Some(presented) = Self::from_presented(presented) else {
            return false;
        };
        // Word by word without a branch; the one that tells comes last.
        let pairs = self.0.iter().zip(&presented.0);
        let different = pairs.fold(0, |different, (a, b)| different | (a ^ b));
        different.ct_eq(&0_u32).into()
    }

    /// A tail as a token carries it; `None` when it is not 32 bytes long.
    pub(super) fn from_presented(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_bytes)
    }

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(chain::from_bytes(bytes))
    }

    pub(super) fn to_bytes(&self) -> [u8; 32] {
        chain::to_bytes(&self.0)
    }

    /// The public name of this tail.
    pub fn digest(&self) -> TailDigest {
        Sha256::digest(self.to_bytes()).into()
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tail([redacted])")
    }
}

/// Why sealed bytes could not be opened. Deliberately silent about the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("cannot be unsealed with this key")]
pub struct UnsealError;

/// Length of a sealing nonce.
pub const SEAL_NONCE_LEN: usize = 12;

/// Seals with ChaCha20-Poly1305: nonce, ciphertext, tag (format chapter 7). The nonce must be
/// fresh randomness; it is an argument because the core reads none.
pub fn seal(
    key: &[u8; 32],
    nonce: [u8; SEAL_NONCE_LEN],
    plaintext: &[u8],
) -> Result<Vec<u8>, UnsealError> {
    let ciphertext = ChaCha20Poly1305::new(key.into())
        .encrypt(&nonce.into(), plaintext)
        .map_err(|_| UnsealError)?;
    Ok([&nonce[..], &ciphertext].concat())
}

/// Opens what [`seal`] made. A key that is not 32 bytes long, or input too short, is an error.
pub fn unseal(key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
    let cipher = ChaCha20Poly1305::new_from_slice(key).map_err(|_| UnsealError)?;
    let (nonce, ciphertext) = sealed
        .split_first_chunk::<SEAL_NONCE_LEN>()
        .ok_or(UnsealError)?;
    cipher
        .decrypt(nonce.into(), ciphertext)
        .map(Zeroizing::new)
        .map_err(|_| UnsealError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_matches_no_other_whatever_the_differences_add_up_to() {
        let bytes: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let tail = Tail::from_bytes(&bytes);
        assert!(tail.matches(&bytes));
        assert!(!tail.matches(&bytes[..31]));
        for one in 0..32 {
            for two in one..32 {
                let mut other = bytes;
                other[one] ^= 0x80;
                if two > one {
                    // The same bit again: in all words together it cancels out.
                    other[two] ^= 0x80;
                }
                assert!(!tail.matches(&other), "{one} {two}");
            }
        }
    }
}

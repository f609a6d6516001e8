//! The seal key, which keeps the signing keys in the store unreadable.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::macaroon::{SEAL_NONCE_LEN, UnsealError, seal, unseal};

/// The key under which the store's signing keys are sealed.
pub(super) struct SealKey(Zeroizing<[u8; 32]>);

impl SealKey {
    pub(super) fn read(secret: &Secret) -> Result<Self, SecretError> {
        key_bytes(secret).map(Self)
    }

    /// Seals under a fresh nonce.
    pub(super) fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = random::<SEAL_NONCE_LEN>()?;
        seal(&self.0, *nonce, plaintext).map_err(|UnsealError| SealError::TooLong)
    }

    pub(super) fn unseal(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        unseal(&*self.0, sealed)
    }

    /// What a store keeps to tell a wrong seal key from a damaged entry.
    pub(super) fn check_value(&self) -> Result<Vec<u8>, SealError> {
        self.seal(CHECK)
    }

    /// Whether this is the key that made the check value.
    pub(super) fn made(&self, check_value: &[u8]) -> bool {
        self.unseal(check_value)
            .is_ok_and(|plaintext| plaintext.as_slice() == CHECK)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey([redacted])")
    }
}

/// Why nothing could be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Random(#[from] getrandom::Error),
    /// More than ChaCha20-Poly1305 seals at once.
    #[error("too long to be sealed")]
    TooLong,
}

/// Fresh randomness, wiped on drop.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes)?;
    Ok(bytes)
}

/// Why a 32-byte key cannot be had. It names where the key should be, never what is there.
#[derive(Debug, Error)]
pub enum SecretError {
    /// No such variable, or one that is not UTF-8.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// Something is there, but no key.
    #[error("{0} does not hold a key of 32 bytes in base64; `openssl rand -base64 32` makes one")]
    NotAKey(String),
}

/// Reads a key of 32 bytes, base64.
pub(crate) fn key_bytes(secret: &Secret) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    let (place, text) = match secret {
        Secret::Env(name) => {
            let text = std::env::var(name).map_err(|_| SecretError::Unset(name.clone()))?;
            (format!("the environment variable {name}"), text)
        }
        Secret::File(path) => {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|cause| SecretError::File {
                path: place.clone(),
                cause,
            })?;
            (place, text)
        }
    };
    let text = Zeroizing::new(text);
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(key) => Ok(Zeroizing::new(key)),
        Err(_) => Err(SecretError::NotAKey(place)),
    }
}

const CHECK: &[u8] = b"usher store, version 1";

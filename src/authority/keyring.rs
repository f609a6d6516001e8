//! Signing keys, opened and ready to use.

use std::fmt;

use foldhash::HashMap;
use thiserror::Error;

use super::seal::SealKey;
use super::store::{KeyRow, KeyState};
use crate::macaroon::SigningKey;

/// The keys that tokens are verified with, and the one that signs new tokens.
pub struct KeyRing {
    keys: HashMap<Box<[u8]>, SigningKey>,
    active: (Box<[u8]>, SigningKey),
    /// What the ring was made from, to tell whether a later reading differs.
    rows: Vec<KeyRow>,
}

impl KeyRing {
    /// Opens every key that is not retired.
    pub(super) fn unseal(rows: Vec<KeyRow>, seal: &SealKey) -> Result<Self, KeyRingError> {
        let mut keys = HashMap::default();
        let mut active = None;
        for row in rows.iter().filter(|row| row.state != KeyState::Retired) {
            let bytes = seal
                .unseal(&row.sealed)
                .map_err(|_| KeyRingError::Damaged(KeyId::of(&row.id)))?;
            let key = SigningKey::new(bytes);
            if row.state == KeyState::Active {
                active = Some((row.id.as_slice().into(), key.clone()));
            }
            keys.insert(row.id.as_slice().into(), key);
        }
        let active = active.ok_or(KeyRingError::NoneActive)?;
        Ok(Self { keys, active, rows })
    }

    /// The key with this id, unless it is retired.
    pub fn key(&self, id: &[u8]) -> Option<&SigningKey> {
        self.keys.get(id)
    }

    /// The id and the key that sign new tokens.
    pub fn active(&self) -> (&[u8], &SigningKey) {
        (&self.active.0, &self.active.1)
    }

    pub(super) fn is_made_from(&self, rows: &[KeyRow]) -> bool {
        self.rows == rows
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rows).finish()
    }
}

/// Why keys cannot be opened although the seal key is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyRingError {
    /// One does not unseal.
    #[error("the signing key {0} is damaged; restore the store from a backup")]
    Damaged(KeyId),
    /// None signs.
    #[error("the store has no active signing key; restore it from a backup")]
    NoneActive,
}

/// A key id as people see it: as it is when it is plain text, else in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyId(String);

impl KeyId {
    /// The printable form of an id.
    pub fn of(id: &[u8]) -> Self {
        Self(match std::str::from_utf8(id) {
            Ok(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) => {
                text.to_owned()
            }
            _ => id.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_are_printed_as_text_where_they_are_text() {
        assert_eq!(KeyId::of(b"k1").to_string(), "k1");
        assert_eq!(KeyId::of(b"").to_string(), "");
        assert_eq!(KeyId::of(b"a b").to_string(), "612062");
        assert_eq!(KeyId::of(&[0, 255]).to_string(), "00ff");
    }
}

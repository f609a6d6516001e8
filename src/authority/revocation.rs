//! Which tokens are revoked, in memory.

use std::collections::HashSet;

use foldhash::HashMap;
use uuid::Uuid;

use crate::macaroon::TailDigest;

/// Every revocation, by the UUID of the nonce.
///
/// A token is looked up on every request, cached or not, so the common answer (nothing is known
/// of this UUID) costs one look-up and no hashing of tails.
#[derive(Clone, Debug, Default)]
pub struct Revocations(HashMap<Uuid, Scope>);

/// How much of a lineage is revoked.
#[derive(Clone, Debug)]
enum Scope {
    /// All tokens with this nonce.
    Lineage,
    /// The tokens with one of these tails in their chain.
    Tails(HashSet<TailDigest>),
}

/// One revocation. Revoking is never undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The token with this UUID and all that are attenuated from it.
    Lineage(Uuid),
    /// The token with this UUID whose last tail has this digest, and all attenuated from it; its
    /// parents stay valid.
    Tail(Uuid, TailDigest),
}

impl Revocations {
    /// Whether a token is revoked. `tails` are the digests of every tail in its chain; they are
    /// asked for only where the answer hangs on them.
    pub fn revoked<T: AsRef<[TailDigest]>>(&self, uuid: &Uuid, tails: impl FnOnce() -> T) -> bool {
        match self.0.get(uuid) {
            None => false,
            Some(Scope::Lineage) => true,
            Some(Scope::Tails(revoked)) => {
                tails().as_ref().iter().any(|tail| revoked.contains(tail))
            }
        }
    }

    fn add(&mut self, revocation: Revocation) {
        match revocation {
            Revocation::Lineage(uuid) => {
                self.0.insert(uuid, Scope::Lineage);
            }
            Revocation::Tail(uuid, tail) => {
                let scope = self
                    .0
                    .entry(uuid)
                    .or_insert_with(|| Scope::Tails(HashSet::new()));
                if let Scope::Tails(tails) = scope {
                    tails.insert(tail);
                }
            }
        }
    }
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<I: IntoIterator<Item = Revocation>>(revocations: I) -> Self {
        let mut all = Self::default();
        revocations
            .into_iter()
            .for_each(|revocation| all.add(revocation));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    #[test]
    fn a_lineage_is_revoked_without_its_tails() {
        let revocations: Revocations = [
            Revocation::Tail(ONE, [7; 32]),
            Revocation::Lineage(ONE),
            Revocation::Tail(ONE, [8; 32]),
        ]
        .into_iter()
        .collect();
        let never = || -> [TailDigest; 0] { panic!("the tails do not matter") };
        assert!(revocations.revoked(&ONE, never));
        assert!(!revocations.revoked(&TWO, never));
    }

    #[test]
    fn a_tail_is_revoked_with_what_follows_and_not_what_precedes() {
        let revocations: Revocations = [Revocation::Tail(ONE, [2; 32])].into_iter().collect();
        assert!(!revocations.revoked(&ONE, || [[1; 32]]), "the parent");
        assert!(revocations.revoked(&ONE, || [[1; 32], [2; 32]]));
        assert!(revocations.revoked(&ONE, || [[1; 32], [2; 32], [3; 32]]));
        assert!(!revocations.revoked(&TWO, || [[2; 32]]), "another nonce");
    }
}

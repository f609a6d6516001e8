//! How long a permit lasts: until the first token that was decisive for it ends.
//!
//! Whatever goes on after the decision (a stream, an upload, a tunnel) goes on under a [`Lease`],
//! and ends with it. A lease asks what the decision asked: the same tokens, the same windows, the
//! same revocations and keys, as they are at the time.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::Authorizer;
use super::bearer::{Bearer, Candidate};
use crate::authority::Snapshot;

/// The tokens that a permit hangs on, and the moment at which the first of them closes.
///
/// It shares the verified tokens with the cache, so that making one allocates nothing.
#[derive(Clone)]
pub struct Lease {
    bearer: Arc<Bearer>,
    /// Positions of the decisive tokens in the header. More than two accesses that are permitted
    /// by different tokens are rare.
    decisive: SmallVec<[usize; 2]>,
    not_after: i64,
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEnd {
    /// A window has closed, of a token or of a discharge.
    Expired,
    /// A token is revoked, or the key that it was signed with has been retired.
    Revoked,
    /// The store cannot be read, so that a revocation may have been missed.
    Unavailable,
    /// The configuration has changed, and may not permit it any more.
    Withdrawn,
}

/// What leases are looked at with: taken once, for all of them.
#[derive(Clone, Debug)]
pub struct Review {
    snapshot: Arc<Snapshot>,
    fresh: bool,
    now: i64,
}

impl LeaseEnd {
    /// The stable name, in answers, last events, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "lease-expired",
            Self::Revoked => "lease-revoked",
            Self::Unavailable => "lease-unavailable",
            Self::Withdrawn => "lease-withdrawn",
        }
    }

    /// What happened, in one sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Expired => "the token expired while this was under way; ask for a new one",
            Self::Revoked => "the token was revoked while this was under way; ask for a new one",
            Self::Unavailable => {
                "revocations cannot be read any more, so nothing stays permitted; try again later"
            }
            Self::Withdrawn => {
                "the rules of this route changed while this was under way; try again"
            }
        }
    }
}

impl Lease {
    /// The lease of what these tokens of a bearer permit together. `None` if there are none:
    /// nothing is permitted by no token.
    pub(super) fn new(bearer: &Arc<Bearer>, decisive: &[&Candidate]) -> Option<Self> {
        let not_after = decisive.iter().map(|token| token.lease_end).min()?;
        let mut positions: SmallVec<_> = decisive.iter().map(|token| token.position).collect();
        positions.sort_unstable();
        positions.dedup();
        Some(Self {
            bearer: Arc::clone(bearer),
            decisive: positions,
            not_after,
        })
    }

    /// The last second (Unix time) of it: that second still belongs to it.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whether it still lasts: it stands, and no window of it has closed. A window that was open
    /// at the decision closes once, at its end.
    ///
    /// # Errors
    ///
    /// The reason why it does not.
    pub fn check(&self, review: &Review) -> Result<(), LeaseEnd> {
        self.stands(review)?;
        match review.now > self.not_after {
            true => Err(LeaseEnd::Expired),
            false => Ok(()),
        }
    }

    /// Whether no token of it has been withdrawn, as far as the store tells.
    ///
    /// # Errors
    ///
    /// The reason why not, which may be that the store tells nothing.
    pub fn stands(&self, review: &Review) -> Result<(), LeaseEnd> {
        let Review {
            snapshot, fresh, ..
        } = review;
        if !fresh {
            return Err(LeaseEnd::Unavailable);
        }
        let stands = |position: &usize| {
            self.bearer.at(*position).is_some_and(|token| {
                snapshot.keys.key(&token.key_id).is_some()
                    && !token.is_revoked(&snapshot.revocations)
            })
        };
        match self.decisive.iter().all(stands) {
            true => Ok(()),
            false => Err(LeaseEnd::Revoked),
        }
    }
}

/// Without the tokens.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Review {
    /// Whether a lease that stood at `before` may stand no more: something was published since,
    /// or the store was lost.
    pub fn differs(&self, before: &Self) -> bool {
        !self.fresh || !Arc::ptr_eq(&self.snapshot, &before.snapshot)
    }

    /// Unix time, in seconds.
    pub fn now(&self) -> i64 {
        self.now
    }
}

impl Authorizer {
    /// What leases are to be looked at with at `now`, in seconds of Unix time.
    pub fn review(&self, now: i64) -> Review {
        self.watch_clock(now);
        Review {
            fresh: self.authority.fresh(Instant::now()),
            snapshot: self.authority.snapshot(),
            now,
        }
    }
}

//! How much is held of bodies that are judged, of all connections together.
//!
//! Each body has a bound of its own, but whoever has a usable token can send as many as there can
//! be connections, and each is kept until its decision is made and the upstream has taken it. So
//! what is held is counted as it comes, and nothing is set aside for what only says that it will.

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;

/// What there may be. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    /// Bytes, inclusive.
    most: usize,
    /// Bytes that are held. What bounds them is what the metrics show.
    held: Gauge,
}

/// The part of one body, given back when it is dropped, on whatever way.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    bytes: usize,
}

/// As much is held as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Budget {
    pub(super) fn new(most: usize, held: Gauge) -> Self {
        Self { most, held }
    }

    /// Nothing of it yet.
    pub(super) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Share {
    /// Has it stand for so many bytes.
    ///
    /// # Errors
    ///
    /// When there is no room for more; it stands for as many as before then.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), Full> {
        let held = &self.budget.held;
        if let Some(more) = bytes.checked_sub(self.bytes) {
            // Two that come together may both find no room, and neither too much.
            let before = held.inc_by(count(more));
            if before.saturating_add(count(more)) > count(self.budget.most) {
                held.dec_by(count(more));
                return Err(Full);
            }
        } else {
            held.dec_by(count(self.bytes.saturating_sub(bytes)));
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The bytes that it stands for. It is given back with the last reference to them.
    pub(super) fn of(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Held {
            bytes,
            _share: self,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.dec_by(count(self.bytes));
    }
}

/// Bytes with the share that they are held under.
struct Held<B> {
    bytes: B,
    _share: Share,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

fn count(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_inclusive_and_what_is_refused_takes_nothing() {
        let held = Gauge::default();
        let budget = Budget::new(10, held.clone());
        let (mut one, mut two) = (budget.share(), budget.share());
        assert_eq!((one.resize(6), two.resize(4)), (Ok(()), Ok(())));
        assert_eq!(two.resize(5), Err(Full));
        assert_eq!(held.get(), 10, "it stands for as many as before");
        assert_eq!((one.resize(5), two.resize(5)), (Ok(()), Ok(())));
        drop(one);
        assert_eq!(held.get(), 5);
        assert_eq!(two.resize(11), Err(Full));
        assert_eq!(two.resize(10), Ok(()));
        drop(two);
        assert_eq!(held.get(), 0);
    }

    #[test]
    fn bytes_keep_their_share_as_long_as_anybody_has_them() {
        let held = Gauge::default();
        let mut share = Budget::new(10, held.clone()).share();
        assert_eq!(share.resize(5), Ok(()));
        let bytes = share.of(b"hello".to_vec());
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&*part, held.get()), (&b"el"[..], 5));
        drop(part);
        assert_eq!(held.get(), 0);
    }
}

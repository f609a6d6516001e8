//! The verification cache: what was verified, never what was decided.
//!
//! An entry is found by the whole header value (every token and discharge, in order) and counts
//! only under the key generation it was made with. Time and revocation are not part of it: they
//! are looked at on every request, hit or miss.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use moka::Expiry;
use moka::sync::Cache;

use super::bearer::{Bearer, Chains};
use super::denial::Unusable;
use crate::config;
use crate::macaroon::KnownChain;

pub(super) struct VerificationCache {
    /// `None` when the configuration switches the cache off.
    stores: Option<Stores>,
    ttl: Duration,
    failure_ttl: Duration,
}

struct Stores {
    bearers: Store<Bearer>,
    /// Apart from the rest, so that no flood of bad tokens displaces a good one.
    failures: Store<Unusable>,
    /// By nonce.
    chains: Store<KnownChain>,
}

type Key = Box<[u8]>;
type Store<T> = Cache<Key, Entry<T>, RandomState>;

struct Entry<T> {
    generation: u64,
    lifetime: Duration,
    weight: usize,
    value: Arc<T>,
}

/// Without its entries: their keys are whole credentials.
impl fmt::Debug for VerificationCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationCache")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl<T> Entry<T> {
    fn new(generation: u64, lifetime: Duration, weight: usize, value: &Arc<T>) -> Self {
        let value = Arc::clone(value);
        Self {
            generation,
            lifetime,
            weight,
            value,
        }
    }
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            ..*self
        }
    }
}

impl VerificationCache {
    pub(super) fn new(config: &config::Cache) -> Self {
        let stores = (config.bytes > 0).then(|| Stores {
            bearers: store(config.bytes),
            failures: store(config.failure_bytes),
            // Chains save a few hashes, entries whole verifications.
            chains: store(config.bytes / 4),
        });
        Self {
            stores,
            ttl: config.ttl,
            failure_ttl: config.failure_ttl,
        }
    }

    /// What verifying this header value gave, if it was verified under these keys.
    pub(super) fn get(
        &self,
        header: &[u8],
        generation: u64,
    ) -> Option<Result<Arc<Bearer>, Unusable>> {
        let stores = self.stores.as_ref()?;
        if let Some(entry) = stores.bearers.get(header) {
            return (entry.generation == generation).then_some(Ok(entry.value));
        }
        let failure = stores.failures.get(header)?;
        (failure.generation == generation).then(|| Err(Unusable::clone(&failure.value)))
    }

    /// The chain of a verified token with this nonce.
    pub(super) fn chain(&self, nonce: &[u8], generation: u64) -> Option<Arc<KnownChain>> {
        let entry = self.stores.as_ref()?.chains.get(nonce)?;
        (entry.generation == generation).then_some(entry.value)
    }

    /// Remembers the outcome of a verification at `now`.
    pub(super) fn keep(
        &self,
        header: &[u8],
        generation: u64,
        outcome: &Result<(Arc<Bearer>, Chains), Unusable>,
        now: i64,
    ) {
        let Some(stores) = &self.stores else { return };
        match outcome {
            Ok((bearer, chains)) => {
                let lifetime = self.lifetime(bearer, now);
                let entry = Entry::new(generation, lifetime, bearer.weight(), bearer);
                stores.bearers.insert(header.into(), entry);
                for (nonce, chain) in chains {
                    let entry = Entry::new(generation, lifetime, chain.weight(), chain);
                    stores.chains.insert(nonce.clone(), entry);
                }
            }
            // Finding these out again costs less than remembering them.
            Err(Unusable::Missing | Unusable::Malformed(_) | Unusable::UnknownKey) => {}
            Err(unusable) => {
                // Tickets, all that it can hold of any size, come from the header itself.
                let weight = header.len().saturating_add(256);
                let unusable = Arc::new(unusable.clone());
                let entry = Entry::new(generation, self.failure_ttl, weight, &unusable);
                stores.failures.insert(header.into(), entry);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        if let Some(stores) = &self.stores {
            stores.bearers.invalidate_all();
            stores.failures.invalidate_all();
            stores.chains.invalidate_all();
        }
    }

    /// At most the configured time, shortened by up to an eighth so that tokens verified together
    /// do not expire together; never past the moment the last token expires.
    fn lifetime(&self, bearer: &Bearer, now: i64) -> Duration {
        let ttl = self
            .ttl
            .saturating_sub(self.ttl / 8 * u32::from(bearer.jitter()) / 255);
        let left = bearer.not_after().saturating_sub(now).max(0).unsigned_abs();
        ttl.min(Duration::from_secs(left))
    }
}

fn store<T: Send + Sync + 'static>(bytes: u64) -> Store<T> {
    Cache::builder()
        .max_capacity(bytes)
        .weigher(|key, entry: &Entry<T>| {
            let key: &Key = key;
            u32::try_from(key.len().saturating_add(entry.weight)).unwrap_or(u32::MAX)
        })
        .expire_after(Lifetime)
        .build_with_hasher(RandomState::default())
}

/// Entries end after the lifetime they were given.
struct Lifetime;

impl<T> Expiry<Key, Entry<T>> for Lifetime {
    fn expire_after_create(&self, _: &Key, entry: &Entry<T>, _: Instant) -> Option<Duration> {
        Some(entry.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Entry<T>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.lifetime)
    }
}

#[cfg(test)]
mod tests;

//! The embedded authority: signing keys, the ledger of issued tokens, revocations, and the
//! directory's names that are not in the configuration.
//!
//! All of it lives in one SQLite file. A request never touches the file: it takes the current
//! [`Snapshot`], which is replaced whole when something changes. What this process changes is
//! published before the call returns; what another process changes is noticed by the feed of
//! [`Authority::follow`], at most [`POLL`] later.
//!
//! **Invariant**: no token is ever written to the file, and no key leaves it unsealed except into
//! a [`KeyRing`].

mod discharge;
mod grant;
mod keyring;
mod kinds;
mod revocation;
mod seal;
mod store;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::config;
use crate::macaroon::{AttenuateError, Caveat, Text, ThirdPartyKeys, Token, WireError};
use crate::policy::NameTable;

pub use discharge::{DISCHARGE_LIFETIME, Discharge, TicketError};
pub use grant::Grant;
pub use keyring::{KeyId, KeyRing, KeyRingError};
pub use kinds::{Kind, Plan, Window};
pub use revocation::{Revocation, Revocations};
pub(crate) use seal::key_bytes;
pub use seal::{SealError, SecretError};
pub use store::{Issued, KeyRow, KeyState, StoreError};

use seal::{SealKey, random};
use store::{Contents, Store};

/// The authority of one configuration, opened.
#[derive(Debug)]
pub struct Authority {
    shared: Arc<Shared>,
    location: Text,
    feed: Option<Feed>,
}

/// What tokens are judged with, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Differs between two snapshots of one process whenever their keys differ, so that what was
    /// verified under one is not taken as verified under the other.
    pub generation: u64,
    /// Signing keys.
    pub keys: Arc<KeyRing>,
    /// Revoked tokens.
    pub revocations: Revocations,
    /// The directory's names in the store.
    pub names: Arc<NameTable>,
    /// Differs whenever the names do.
    names_version: i64,
    /// Keys shared with third parties whose attestations are trusted.
    pub third_parties: Arc<ThirdPartyKeys>,
}

/// What a new token is to be.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its kind, for the ledger.
    pub kind: &'a str,
    /// A name for it, for the ledger.
    pub name: Option<&'a str>,
    /// Organization id, for the ledger.
    pub org: Option<u64>,
    /// App id, for the ledger.
    pub app: Option<u64>,
    /// Its caveats: all that it is restricted by.
    pub caveats: &'a [Caveat],
    /// The user of this host that asks for it, for the ledger.
    pub issuer: Option<&'a str>,
}

impl Authority {
    /// Opens the store. A file that is not there is created, with a first signing key; `now` is
    /// that key's birthday.
    pub fn open(config: &config::Authority, now: i64) -> Result<Self, AuthorityError> {
        let seal = SealKey::read(&config.seal_key).map_err(|cause| AuthorityError::Secret {
            setting: "authority.seal_key".to_owned(),
            cause,
        })?;
        let third_parties = third_party_keys(&config.third_parties)?;
        let mut store = Store::open(&config.store)?;
        let check = store.found(&seal.check_value()?, &new_key(&seal, now)?)?;
        if !seal.made(&check) {
            return Err(AuthorityError::WrongSealKey {
                store: config.store.display().to_string(),
            });
        }
        // In this order: a change between the two is then seen as one by the feed.
        store.changed()?;
        let contents = store.contents(None)?;
        let (names, names_version) = contents
            .names
            .map_or_else(Default::default, |stored| (stored.names, stored.version));
        let snapshot = Snapshot {
            generation: 0,
            keys: Arc::new(KeyRing::unseal(contents.keys, &seal)?),
            revocations: contents.revocations.into_iter().collect(),
            names: Arc::new(names),
            names_version,
            third_parties: Arc::new(third_parties),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                store: Mutex::new(store),
                seal,
                published: ArcSwap::from_pointee(snapshot),
                publications: watch::Sender::new(0),
                opened: Instant::now(),
                current_after: AtomicU64::new(0),
            }),
            location: config.location.as_str().into(),
            feed: None,
        })
    }

    /// Starts to follow what other processes write to the store, until this is dropped. Without
    /// it [`fresh`](Self::fresh) ends [`MAX_STALENESS`] after opening.
    pub fn follow(&mut self) -> Result<(), AuthorityError> {
        if self.feed.is_none() {
            self.feed = Some(Feed::start(Arc::clone(&self.shared))?);
        }
        Ok(())
    }

    /// The location of its permission tokens.
    pub fn location(&self) -> &Text {
        &self.location
    }

    /// The current snapshot; take it once for a request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.published.load_full()
    }

    /// Where the current snapshot is always found, for a reader that borrows it.
    pub fn snapshots(&self) -> &ArcSwap<Snapshot> {
        &self.shared.published
    }

    /// Counts published snapshots: wakes whoever must look at the current one again.
    pub fn publications(&self) -> watch::Receiver<u64> {
        self.shared.publications.subscribe()
    }

    /// Whether the snapshot is known to have been current no longer than [`MAX_STALENESS`] ago. If
    /// not, a revocation may have been missed, and nothing may be permitted.
    pub fn fresh(&self, now: Instant) -> bool {
        let current_after =
            Duration::from_millis(self.shared.current_after.load(Ordering::Relaxed));
        now.saturating_duration_since(self.shared.opened) <= current_after + MAX_STALENESS
    }

    /// Mints a token and enters it into the ledger; first the entry, then the token.
    pub fn issue(&self, request: &Request<'_>, now: i64) -> Result<Token, AuthorityError> {
        let token = self.mint(&self.snapshot(), request.caveats)?;
        let entry = Issued::of(&token, request, now)?;
        self.shared.store().record(&[entry])?;
        Ok(token)
    }

    /// Makes a new active key; tokens signed with the ones before stay valid. Returns its id.
    pub fn rotate(&self, now: i64) -> Result<KeyId, AuthorityError> {
        let key = new_key(&self.shared.seal, now)?;
        let mut store = self.shared.store();
        store.rotate(&key)?;
        self.shared.publish(&mut store)?;
        Ok(KeyId::of(&key.id))
    }

    /// Takes in a key that another issuer signs with: its tokens are accepted from now on, and
    /// nothing is signed with it here. Returns its id.
    ///
    /// # Errors
    ///
    /// Also when the store has a key with this id, even the same one.
    pub fn import(
        &self,
        id: &[u8],
        key: &Zeroizing<[u8; 32]>,
        now: i64,
    ) -> Result<KeyId, AuthorityError> {
        let row = KeyRow {
            id: id.to_vec(),
            sealed: self.shared.seal.seal(&**key)?,
            state: KeyState::Verifying,
            created_at: now,
        };
        let mut store = self.shared.store();
        if !store.add_key(&row)? {
            return Err(AuthorityError::KnownKey(KeyId::of(id)));
        }
        self.shared.publish(&mut store)?;
        Ok(KeyId::of(id))
    }

    /// Takes a key out of use: its tokens stop verifying. `false` if it was retired before.
    ///
    /// # Errors
    ///
    /// Also when the store has no such key, or it is the active one: there must be one that signs.
    pub fn retire(&self, id: &[u8]) -> Result<bool, AuthorityError> {
        let mut store = self.shared.store();
        let before = store.retire(id)?;
        self.shared.publish(&mut store)?;
        match before {
            Some(KeyState::Verifying) => Ok(true),
            Some(KeyState::Retired) => Ok(false),
            Some(KeyState::Active) => Err(AuthorityError::ActiveKey(KeyId::of(id))),
            None => Err(AuthorityError::UnknownKey(KeyId::of(id).to_string())),
        }
    }

    /// Revokes; the next request of this process already sees it. `false` if it was revoked
    /// before.
    pub fn revoke(&self, revocation: Revocation, now: i64) -> Result<bool, AuthorityError> {
        let mut store = self.shared.store();
        let new = store.revoke(revocation, now)?;
        self.shared.publish(&mut store)?;
        Ok(new)
    }

    /// Puts other names in the place of those in `before`, a snapshot of this authority; the next
    /// request of this process already sees them. `false` if somebody else has changed the names
    /// since, and nothing is done.
    pub fn replace_names(
        &self,
        before: &Snapshot,
        names: &NameTable,
    ) -> Result<bool, AuthorityError> {
        let mut store = self.shared.store();
        let done = store.replace_names(before.names_version, names)?;
        self.shared.publish(&mut store)?;
        Ok(done)
    }

    /// The ledger, oldest first.
    pub fn tokens(&self) -> Result<Vec<Issued>, AuthorityError> {
        Ok(self.shared.store().tokens()?)
    }

    /// All signing keys, oldest first, as they lie in the store.
    pub fn keys(&self) -> Result<Vec<KeyRow>, AuthorityError> {
        Ok(self.shared.store().keys()?)
    }
}

/// Why the authority cannot be opened, or cannot do what was asked.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key that the configuration names cannot be had.
    #[error("{setting}: {cause}")]
    Secret {
        /// Where in the configuration.
        setting: String,
        /// Why.
        cause: SecretError,
    },
    /// The store was sealed with another key.
    #[error(
        "the store {store} was sealed with another key; set authority.seal_key to the one it was created with"
    )]
    WrongSealKey {
        /// Its path.
        store: String,
    },
    /// The signing keys in the store.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// A key cannot be imported under an id that is taken.
    #[error("the store already has a key {0}; key ids are never used twice")]
    KnownKey(KeyId),
    /// The key that signs cannot be taken out of use.
    #[error("the key {0} signs new tokens; `usher key rotate` makes another one that does")]
    ActiveKey(KeyId),
    /// No key has this id.
    #[error("the store has no key {0}; `usher key list` shows those it has")]
    UnknownKey(String),
    /// A new key cannot be made.
    #[error("cannot make a new key")]
    Seal(#[from] SealError),
    /// A token with these caveats would be refused.
    #[error("a token with these caveats would be refused")]
    Caveats(#[from] WireError),
    /// These caveats cannot follow those of the kind.
    #[error(transparent)]
    Attenuate(#[from] AttenuateError),
    /// The configuration has no such third party.
    #[error("authority.third_parties has no {location}: {known}")]
    UnknownThirdParty {
        /// The location asked for.
        location: String,
        /// The locations there are, and what to do.
        known: String,
    },
    /// A ticket is not answered.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The new token has no tail to remember it by.
    #[error("the new token has no tail")]
    Tail,
    /// No thread for the feed.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What the feed and the callers share.
struct Shared {
    /// Whoever publishes holds it from reading to publishing, so that an older reading never
    /// replaces a newer one.
    store: Mutex<Store>,
    seal: SealKey,
    published: ArcSwap<Snapshot>,
    publications: watch::Sender<u64>,
    opened: Instant,
    /// Milliseconds after `opened` at which the snapshot was last known to be current.
    current_after: AtomicU64,
}

impl Shared {
    /// A panic in another holder leaves no half-done transaction behind: SQLite rolls it back.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether another process has written, and if so publishes what is there now.
    fn poll(&self) -> Result<(), AuthorityError> {
        let mut store = self.store();
        let at = self.opened.elapsed();
        if store.changed()? {
            self.publish(&mut store)?;
        }
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.current_after.store(millis, Ordering::Relaxed);
        Ok(())
    }

    /// Publishes what the store holds. Should that fail, the feed is made to try again: it does
    /// not see changes of its own connection.
    fn publish(&self, store: &mut Store) -> Result<(), AuthorityError> {
        let published = self.replace(store);
        if published.is_err() {
            store.forget_version();
        }
        published
    }

    fn replace(&self, store: &mut Store) -> Result<(), AuthorityError> {
        let before = self.published.load();
        let Contents {
            keys,
            revocations,
            names,
        } = store.contents(Some(before.names_version))?;
        let (names, names_version) = match names {
            Some(stored) => (Arc::new(stored.names), stored.version),
            None => (Arc::clone(&before.names), before.names_version),
        };
        let (generation, keys) = if before.keys.is_made_from(&keys) {
            (before.generation, Arc::clone(&before.keys))
        } else {
            let ring = KeyRing::unseal(keys, &self.seal)?;
            (before.generation.wrapping_add(1), Arc::new(ring))
        };
        self.published.store(Arc::new(Snapshot {
            generation,
            keys,
            revocations: revocations.into_iter().collect(),
            names,
            names_version,
            third_parties: Arc::clone(&before.third_parties),
        }));
        self.publications
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

/// The thread that follows the store. It ends when this is dropped.
#[derive(Debug)]
struct Feed {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    fn start(shared: Arc<Shared>) -> Result<Self, AuthorityError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let follow = move || {
            let mut failing = false;
            // Nothing is ever sent: the channel closes when the feed is dropped.
            while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                match shared.poll() {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        tracing::error!(%error, "cannot follow the store");
                    }
                    Err(_) => {}
                }
            }
        };
        let thread = thread::Builder::new()
            .name("usher-authority".to_owned())
            .spawn(follow)
            .map_err(AuthorityError::Thread)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A feed that panicked has been reported by the panic hook; it no longer polls, so
        // `fresh` has been false since.
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the feed of the store had failed");
        }
    }
}

fn third_party_keys(configured: &[config::ThirdParty]) -> Result<ThirdPartyKeys, AuthorityError> {
    let mut keys = ThirdPartyKeys::default();
    for (number, third_party) in configured.iter().enumerate() {
        let key = key_bytes(&third_party.key).map_err(|cause| AuthorityError::Secret {
            setting: format!("authority.third_parties[{number}].key"),
            cause,
        })?;
        keys.add(
            third_party.location.as_str().into(),
            Zeroizing::new(key.to_vec()),
        );
    }
    Ok(keys)
}

/// A key that signs from `now` on.
fn new_key(seal: &SealKey, now: i64) -> Result<KeyRow, SealError> {
    Ok(KeyRow {
        id: random::<16>()?.to_vec(),
        sealed: seal.seal(&*random::<32>()?)?,
        state: KeyState::Active,
        created_at: now,
    })
}

/// How often the feed looks for changes by other processes. A look costs one read of shared
/// memory, and a change is honoured within a second with room to spare.
pub const POLL: Duration = Duration::from_millis(200);

/// How long a snapshot may go unconfirmed before nothing is permitted any more.
pub const MAX_STALENESS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

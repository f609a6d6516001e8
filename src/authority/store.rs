//! The SQLite file: keys, ledger, revocations and names, and nothing that would let its reader sign.

mod names;
mod schema;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Row, ToSql, Transaction, TransactionBehavior, params};
use thiserror::Error;
use uuid::Uuid;

pub(super) use names::StoredNames;

use super::revocation::Revocation;
use crate::macaroon::TailDigest;

/// One connection. Everything this process reads or writes goes through it, so that
/// `PRAGMA data_version` tells exactly whether somebody else has written.
pub(super) struct Store {
    db: Connection,
    path: PathBuf,
    file: FileId,
    data_version: i64,
}

/// Everything that decisions rest on, read in one transaction.
pub(super) struct Contents {
    pub(super) keys: Vec<KeyRow>,
    pub(super) revocations: Vec<Revocation>,
    /// `None` if they still have the version that is known.
    pub(super) names: Option<StoredNames>,
}

/// A signing key as it lies in the store.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Key id: what the nonces of its tokens carry.
    pub id: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    /// What it is used for.
    pub state: KeyState,
    /// Unix seconds.
    pub created_at: i64,
}

impl std::fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", super::KeyId::of(&self.id), self.state.name())
    }
}

/// What a signing key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Signs new tokens, and verifies. There is exactly one.
    Active,
    /// Verifies the tokens it signed before it was rotated.
    Verifying,
    /// Used for nothing.
    Retired,
}

/// A token as the ledger remembers it: everything but the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// UUID of the nonce.
    pub uuid: Uuid,
    /// Digest of its last tail.
    pub tail: TailDigest,
    /// Id of the key that signed it; `None` for tokens made before the ledger kept it.
    pub key: Option<Vec<u8>>,
    /// Kind, as in `usher token create KIND`.
    pub kind: String,
    /// Given by whoever had it made.
    pub name: Option<String>,
    /// Organization id, where the kind has one.
    pub org: Option<u64>,
    /// App id, where the kind has one.
    pub app: Option<u64>,
    /// Its caveats, JSON.
    pub caveats: String,
    /// Unix seconds.
    pub issued_at: i64,
    /// Last second of its window, Unix seconds.
    pub expires_at: Option<i64>,
    /// The user that had it made, as the host knows them.
    pub issuer: Option<String>,
}

impl Store {
    /// Opens the file, creates it where there is none, and brings its schema up to date.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let io = |cause| StoreError::File {
            path: path.to_owned(),
            cause,
        };
        create_private(path).map_err(io)?;
        let file = FileId::of(path).map_err(io)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags)
            .map_err(|cause| StoreError::sql(path, cause))?;
        let mut store = Self {
            db: opened,
            path: path.to_owned(),
            file,
            // No connection ever reports this, so the first poll reads everything again.
            data_version: -1,
        };
        schema::prepare(&mut store.db, path)?;
        Ok(store)
    }

    /// Gives a fresh store its check value and its first key; any other is left as it is.
    /// Returns the check value that is there now.
    pub(super) fn found(&mut self, check: &[u8], key: &KeyRow) -> Result<Vec<u8>, StoreError> {
        self.write(|transaction| {
            let fresh = transaction.execute(
                "INSERT OR IGNORE INTO seal_check (only, value) VALUES (1, ?1)",
                [check],
            )?;
            if fresh == 1 {
                insert_key(transaction, key)?;
            }
            transaction.query_row("SELECT value FROM seal_check", [], |row| row.get(0))
        })
    }

    /// Makes `key` the active one; the one before only verifies from now on.
    pub(super) fn rotate(&mut self, key: &KeyRow) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE signing_key SET state = ?1 WHERE state = ?2",
                [KeyState::Verifying, KeyState::Active],
            )?;
            insert_key(transaction, key)
        })
    }

    /// Adds a key; whether its id is new. One that is there is never replaced.
    pub(super) fn add_key(&mut self, key: &KeyRow) -> Result<bool, StoreError> {
        self.write(|transaction| {
            if keys(transaction)?.iter().any(|known| known.id == key.id) {
                return Ok(false);
            }
            insert_key(transaction, key).map(|()| true)
        })
    }

    /// Takes a key that only verifies out of use; what it was before, if there is such a key. Any
    /// other stays as it is.
    pub(super) fn retire(&mut self, id: &[u8]) -> Result<Option<KeyState>, StoreError> {
        self.write(|transaction| {
            let before = keys(transaction)?.into_iter().find(|key| key.id == id);
            transaction.execute(
                "UPDATE signing_key SET state = ?1 WHERE id = ?2 AND state = ?3",
                params![KeyState::Retired, id, KeyState::Verifying],
            )?;
            Ok(before.map(|key| key.state))
        })
    }

    /// Enters tokens into the ledger, all or none.
    pub(super) fn record(&mut self, tokens: &[Issued]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut insert = transaction.prepare(
                "INSERT INTO token (uuid, tail, kind, name, org, app, caveats, issued_at, \
                 expires_at, issuer, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?;
            for token in tokens {
                insert.execute(params![
                    token.uuid.as_bytes(),
                    token.tail,
                    token.kind,
                    token.name,
                    token.org.map(u64::cast_signed),
                    token.app.map(u64::cast_signed),
                    token.caveats,
                    token.issued_at,
                    token.expires_at,
                    token.issuer,
                    token.key,
                ])?;
            }
            Ok(())
        })
    }

    /// Whether the revocation is new.
    pub(super) fn revoke(&mut self, revocation: Revocation, now: i64) -> Result<bool, StoreError> {
        let (uuid, tail) = match &revocation {
            Revocation::Lineage(uuid) => (uuid, &[][..]),
            Revocation::Tail(uuid, tail) => (uuid, &tail[..]),
        };
        self.write(|transaction| {
            let added = transaction.execute(
                "INSERT OR IGNORE INTO revocation (uuid, tail, revoked_at) VALUES (?1, ?2, ?3)",
                params![uuid.as_bytes(), tail, now],
            )?;
            Ok(added == 1)
        })
    }

    /// Whether somebody else has written since the last call; the first call always says so.
    pub(super) fn changed(&mut self) -> Result<bool, StoreError> {
        let on_disk = FileId::of(&self.path).map_err(|cause| StoreError::File {
            path: self.path.clone(),
            cause,
        })?;
        if on_disk != self.file {
            // This connection would go on reading the old file, and miss every revocation.
            return Err(StoreError::Replaced {
                path: self.path.clone(),
            });
        }
        let data_version = self
            .db
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(|cause| StoreError::sql(&self.path, cause))?;
        let changed = data_version != self.data_version;
        self.data_version = data_version;
        Ok(changed)
    }

    /// The next [`changed`](Self::changed) says so, whatever happened: what it announced last
    /// time could not be used.
    pub(super) fn forget_version(&mut self) {
        self.data_version = -1;
    }

    /// `known_names` is the version of the names that need not be read again.
    pub(super) fn contents(&mut self, known_names: Option<i64>) -> Result<Contents, StoreError> {
        self.read(|transaction| {
            Ok(Contents {
                names: names::names(transaction, known_names)?,
                keys: keys(transaction)?,
                revocations: all(
                    transaction,
                    "SELECT uuid, tail FROM revocation",
                    revocation_row,
                )?,
            })
        })
    }

    pub(super) fn keys(&mut self) -> Result<Vec<KeyRow>, StoreError> {
        self.read(keys)
    }

    /// The ledger, oldest first.
    pub(super) fn tokens(&mut self) -> Result<Vec<Issued>, StoreError> {
        self.read(|transaction| {
            all(
                transaction,
                "SELECT uuid, tail, kind, name, org, app, caveats, issued_at, expires_at, issuer, \
                 key FROM token ORDER BY number",
                issued_row,
            )
        })
    }

    fn read<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.transact(TransactionBehavior::Deferred, work)
    }

    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.transact(TransactionBehavior::Immediate, work)
    }

    fn transact<T>(
        &mut self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let done = Transaction::new(&mut self.db, behavior).and_then(|transaction| {
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        });
        done.map_err(|cause| StoreError::sql(&self.path, cause))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.path).finish()
    }
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file itself.
    #[error("cannot open the store {}: {cause}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// SQLite refuses.
    #[error("the store {} cannot be used: {cause}", path.display())]
    Sql {
        /// Its path.
        path: PathBuf,
        /// Why; boxed because it is large and rare.
        cause: Box<rusqlite::Error>,
    },
    /// Another program's file.
    #[error("{} is a database, but not a store of usher; name another file", path.display())]
    Foreign {
        /// Its path.
        path: PathBuf,
    },
    /// A later usher wrote it.
    #[error(
        "the store {} has schema version {found}, this usher knows up to {known}; use a newer usher",
        path.display()
    )]
    Newer {
        /// Its path.
        path: PathBuf,
        /// Version in the file.
        found: i64,
        /// Version known here.
        known: i64,
    },
    /// Another file has taken its place.
    #[error("another file has taken the place of the store {}; restart usher", path.display())]
    Replaced {
        /// Its path.
        path: PathBuf,
    },
}

impl StoreError {
    fn sql(path: &Path, cause: rusqlite::Error) -> Self {
        Self::Sql {
            path: path.to_owned(),
            cause: Box::new(cause),
        }
    }
}

/// Tells a file from another one that takes over its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// Makes an empty file that only its owner can read; SQLite gives its companions the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn insert_key(transaction: &Transaction<'_>, key: &KeyRow) -> rusqlite::Result<()> {
    transaction
        .execute(
            "INSERT INTO signing_key (id, sealed, state, created_at) VALUES (?1, ?2, ?3, ?4)",
            params![key.id, key.sealed, key.state, key.created_at],
        )
        .map(drop)
}

fn keys(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<KeyRow>> {
    all(
        transaction,
        "SELECT id, sealed, state, created_at FROM signing_key ORDER BY number",
        |row| {
            Ok(KeyRow {
                id: row.get(0)?,
                sealed: row.get(1)?,
                state: row.get(2)?,
                created_at: row.get(3)?,
            })
        },
    )
}

fn revocation_row(row: &Row<'_>) -> rusqlite::Result<Revocation> {
    let uuid = Uuid::from_bytes(row.get(0)?);
    Ok(match row.get_ref(1)?.as_blob()? {
        [] => Revocation::Lineage(uuid),
        _ => Revocation::Tail(uuid, row.get(1)?),
    })
}

fn issued_row(row: &Row<'_>) -> rusqlite::Result<Issued> {
    let id = |id: Option<i64>| id.map(i64::cast_unsigned);
    Ok(Issued {
        uuid: Uuid::from_bytes(row.get(0)?),
        tail: row.get(1)?,
        kind: row.get(2)?,
        name: row.get(3)?,
        org: id(row.get(4)?),
        app: id(row.get(5)?),
        caveats: row.get(6)?,
        issued_at: row.get(7)?,
        expires_at: row.get(8)?,
        issuer: row.get(9)?,
        key: row.get(10)?,
    })
}

fn all<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    transaction
        .prepare_cached(sql)?
        .query_map([], row)?
        .collect()
}

impl KeyState {
    /// The word for it, in the store and for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Verifying => "verifying",
            Self::Retired => "retired",
        }
    }
}

impl ToSql for KeyState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for KeyState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        [Self::Active, Self::Verifying, Self::Retired]
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or(FromSqlError::InvalidType)
    }
}

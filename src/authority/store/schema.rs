//! The tables, and how a file comes by them.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::StoreError;

/// Brings the file's schema up to date, and sets up the connection.
pub(super) fn prepare(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |cause| StoreError::sql(path, cause);
    db.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
    // Another file's schema must not be touched, so look before anything is written.
    let at = {
        let transaction = Transaction::new(db, TransactionBehavior::Deferred).map_err(sql)?;
        schema_version(&transaction, path)?
    };
    if at < SCHEMA.len() {
        write_ahead(db).map_err(sql)?;
        let transaction = Transaction::new(db, TransactionBehavior::Immediate).map_err(sql)?;
        // Another process may have been first while this one waited for the lock.
        let at = schema_version(&transaction, path)?;
        for step in SCHEMA.iter().skip(at) {
            transaction.execute_batch(step).map_err(sql)?;
        }
        transaction
            .pragma_update(None, "application_id", APPLICATION_ID)
            .and_then(|()| transaction.pragma_update(None, "user_version", SCHEMA_VERSION))
            .and_then(|()| transaction.commit())
            .map_err(sql)?;
    }
    // A revocation that was acknowledged survives a power failure.
    db.pragma_update(None, "synchronous", "FULL").map_err(sql)
}

/// How many steps of [`SCHEMA`] the file has been through. The transaction makes its readings fit
/// together while another process creates the store.
fn schema_version(db: &Transaction<'_>, path: &Path) -> Result<usize, StoreError> {
    let read = |pragma: &str| {
        db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|cause| StoreError::sql(path, cause))
    };
    let foreign = || StoreError::Foreign {
        path: path.to_owned(),
    };
    let found = read("user_version")?;
    let application = read("application_id")?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|cause| StoreError::sql(path, cause))?;
    if application != APPLICATION_ID && (tables > 0 || found != 0) {
        return Err(foreign());
    }
    match usize::try_from(found) {
        Ok(version) if version <= SCHEMA.len() => Ok(version),
        Ok(_) => Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: SCHEMA_VERSION,
        }),
        Err(_) => Err(foreign()),
    }
}

/// Switches to a write-ahead log, so that a writing process never blocks a reading one.
///
/// SQLite does not wait for the lock that this takes, whatever the busy timeout, so processes
/// that create one store at the same moment have to try again.
fn write_ahead(db: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match db.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// Steps from an empty file to the present schema; the file's `user_version` counts those taken.
/// A step that has been released is never edited: add another.
///
/// Ids are 64-bit without a sign in tokens and with one in SQLite; they are stored bit for bit.
const SCHEMA: [&str; 3] = [
    "
CREATE TABLE seal_check (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    value BLOB NOT NULL
) STRICT;
CREATE TABLE signing_key (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    sealed BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'verifying', 'retired')),
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_active_key ON signing_key (state) WHERE state = 'active';
CREATE TABLE token (
    number INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL CHECK (length(uuid) = 16),
    tail BLOB NOT NULL UNIQUE CHECK (length(tail) = 32),
    kind TEXT NOT NULL,
    name TEXT,
    org INTEGER,
    app INTEGER,
    caveats TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER,
    issuer TEXT
) STRICT;
CREATE INDEX token_by_uuid ON token (uuid);
-- An empty tail stands for the whole lineage.
CREATE TABLE revocation (
    uuid BLOB NOT NULL CHECK (length(uuid) = 16),
    tail BLOB NOT NULL CHECK (length(tail) IN (0, 32)),
    revoked_at INTEGER NOT NULL,
    PRIMARY KEY (uuid, tail)
) STRICT, WITHOUT ROWID;
",
    "
-- The id of the key that signed it; unknown for tokens made before this was kept.
ALTER TABLE token ADD COLUMN key BLOB;
",
    "
-- What an entry does not have is empty or 0, which is no id.
CREATE TABLE directory_entry (
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    name TEXT NOT NULL CHECK (name <> ''),
    app INTEGER NOT NULL,
    org INTEGER NOT NULL,
    CHECK (app <> 0 OR org <> 0),
    PRIMARY KEY (kind, object, name, org)
) STRICT, WITHOUT ROWID;
CREATE TABLE directory_version (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO directory_version (only, version) VALUES (1, 0);
",
];

/// The version after the last step.
const SCHEMA_VERSION: i64 = SCHEMA.len() as i64;

/// Marks the file as ours: the letters `ushr`.
const APPLICATION_ID: i64 = 0x7573_6872;

/// How long to wait for another process that is writing; its transactions take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_the_first_version_keeps_its_tokens() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA[0]).unwrap();
        db.execute_batch(
            "INSERT INTO token (uuid, tail, kind, caveats, issued_at)
             VALUES (zeroblob(16), zeroblob(32), 'org', '[]', 1);
             PRAGMA user_version = 1;",
        )
        .unwrap();
        db.pragma_update(None, "application_id", APPLICATION_ID)
            .unwrap();
        prepare(&mut db, Path::new("usher.db")).unwrap();
        let key = |row: &rusqlite::Row<'_>| row.get::<_, Option<Vec<u8>>>("key");
        let key = db.query_row("SELECT * FROM token", [], key).unwrap();
        assert_eq!(key, None);
    }
}

//! The directory's names in the store.
//!
//! They are few and change seldom, so they are read and written as a whole; a version tells
//! whether they must be read again.

use rusqlite::types::Type;
use rusqlite::{Row, Transaction, params};

use super::{Store, StoreError, all};
use crate::policy::{Holder, NameEntry, NameTable};

/// The names as they lie in the store.
pub(in crate::authority) struct StoredNames {
    pub(in crate::authority) version: i64,
    pub(in crate::authority) names: NameTable,
}

impl Store {
    /// Puts other names in the place of those that have this version. `false` if another process
    /// has been faster; nothing is then changed.
    pub(in crate::authority) fn replace_names(
        &mut self,
        version: i64,
        names: &NameTable,
    ) -> Result<bool, StoreError> {
        self.write(|transaction| {
            if self::version(transaction)? != version {
                return Ok(false);
            }
            transaction.execute("DELETE FROM directory_entry", [])?;
            let mut insert = transaction.prepare(
                "INSERT INTO directory_entry (kind, object, name, app, org) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for entry in names.entries() {
                let (kind, object, name, app, org) = columns(&entry);
                let (app, org) = (app.cast_signed(), org.cast_signed());
                insert.execute(params![kind, object, name, app, org])?;
            }
            transaction
                .execute("UPDATE directory_version SET version = version + 1", [])
                .map(|_| true)
        })
    }
}

/// The names, unless they still have the version that is known.
pub(super) fn names(
    transaction: &Transaction<'_>,
    known: Option<i64>,
) -> rusqlite::Result<Option<StoredNames>> {
    let version = version(transaction)?;
    if known == Some(version) {
        return Ok(None);
    }
    let entries = all(
        transaction,
        "SELECT kind, object, name, app, org FROM directory_entry",
        entry,
    )?;
    let mut entries: Vec<NameEntry> = entries;
    // What others stand for comes first.
    entries.sort_unstable();
    let mut names = NameTable::default();
    for entry in entries {
        names
            .add(entry)
            .map_err(|fault| unreadable(Box::new(fault)))?;
    }
    Ok(Some(StoredNames { version, names }))
}

fn version(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    transaction.query_row("SELECT version FROM directory_version", [], |row| {
        row.get(0)
    })
}

/// Kind, kind of object, name, app, organization. What an entry does not have is empty or 0,
/// which is no id.
fn columns(entry: &NameEntry) -> (&'static str, &str, &str, u64, u64) {
    match entry {
        NameEntry::Org { slug, id } => ("org", "", slug, 0, *id),
        NameEntry::OrgAlias { alias, org } => ("org alias", "", alias, 0, *org),
        NameEntry::App { name, id, org } => ("app", "", name, *id, *org),
        NameEntry::AppAlias { alias, app } => ("app alias", "", alias, *app, 0),
        NameEntry::Machine { id, app } => ("machine", "", id, *app, 0),
        NameEntry::Volume { id, app } => ("volume", "", id, *app, 0),
        NameEntry::Cluster { name, org } => ("cluster", "", name, 0, *org),
        NameEntry::Object { kind, id, holder } => {
            let (app, org) = match holder {
                Holder::App(app) => (*app, 0),
                Holder::Org(org) => (0, *org),
            };
            ("object", kind, id, app, org)
        }
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<NameEntry> {
    let kind: String = row.get(0)?;
    let object: Box<str> = row.get(1)?;
    let name: Box<str> = row.get(2)?;
    let app = row.get::<_, i64>(3)?.cast_unsigned();
    let org = row.get::<_, i64>(4)?.cast_unsigned();
    Ok(match (kind.as_str(), app, org) {
        ("org", 0, id) => NameEntry::Org { slug: name, id },
        ("org alias", 0, org) => NameEntry::OrgAlias { alias: name, org },
        ("app", id, org) => NameEntry::App { name, id, org },
        ("app alias", app, 0) => NameEntry::AppAlias { alias: name, app },
        ("machine", app, 0) => NameEntry::Machine { id: name, app },
        ("volume", app, 0) => NameEntry::Volume { id: name, app },
        ("cluster", 0, org) => NameEntry::Cluster { name, org },
        ("object", app, 0) => NameEntry::Object {
            kind: object,
            id: name,
            holder: Holder::App(app),
        },
        ("object", 0, org) => NameEntry::Object {
            kind: object,
            id: name,
            holder: Holder::Org(org),
        },
        _ => return Err(unreadable("no kind of name".into())),
    })
}

fn unreadable(why: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, why)
}

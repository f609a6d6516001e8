//! `usher token list`.

use serde_json::{Value, json};

use super::text::{moment, table};
use super::{CliError, Console, List, names};
use crate::authority::{Authority, Issued, Snapshot};
use crate::directory::View;

pub(super) fn run(
    args: &List,
    directory: &View<'_>,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let tokens = authority.tokens()?;
    let snapshot = authority.snapshot();
    let now = console.now;
    if args.json {
        let tokens: Vec<Value> = tokens
            .iter()
            .map(|token| in_json(token, directory, &snapshot, now))
            .collect();
        return console.say_json(&Value::Array(tokens));
    }
    if tokens.is_empty() {
        return console.note("no token has been made yet; `usher token create` makes one");
    }
    let heading = ["ID", "KIND", "STATE", "ORG", "APP", "EXPIRES", "NAME"];
    let mut rows = vec![heading.map(str::to_owned)];
    for token in &tokens {
        rows.push([
            token.uuid.to_string(),
            token.kind.clone(),
            state(token, &snapshot, now).to_owned(),
            owner(token.org, |id| names::org_name(directory, id)),
            owner(token.app, |id| names::app_name(directory, id)),
            token
                .expires_at
                .map_or_else(|| "never".to_owned(), |at| moment(at).to_string()),
            token.name.clone().unwrap_or_default(),
        ]);
    }
    console.say(table(&rows).trim_end())
}

fn owner(id: Option<u64>, name: impl Fn(u64) -> String) -> String {
    id.map_or_else(|| "-".to_owned(), name)
}

/// Whether a token of the ledger could be used.
pub(super) fn is_active(token: &Issued, snapshot: &Snapshot, now: i64) -> bool {
    state(token, snapshot, now) == ACTIVE
}

fn state(token: &Issued, snapshot: &Snapshot, now: i64) -> &'static str {
    if snapshot.revocations.revoked(&token.uuid, || [token.tail]) {
        "revoked"
    } else if token.expires_at.is_some_and(|end| end < now) {
        "expired"
    } else if token
        .key
        .as_deref()
        .is_some_and(|id| snapshot.keys.key(id).is_none())
    {
        "retired"
    } else {
        ACTIVE
    }
}

fn in_json(token: &Issued, directory: &View<'_>, snapshot: &Snapshot, now: i64) -> Value {
    json!({
        "id": token.uuid.to_string(),
        "kind": token.kind,
        "name": token.name,
        "state": state(token, snapshot, now),
        "org": token.org.map(|id| names::org_name(directory, id)),
        "app": token.app.map(|id| names::app_name(directory, id)),
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "issuer": token.issuer,
        // The ledger wrote it as JSON; what is not is shown as the text it is.
        "caveats": serde_json::from_str(&token.caveats)
            .unwrap_or_else(|_| Value::String(token.caveats.clone())),
    })
}

const ACTIVE: &str = "active";

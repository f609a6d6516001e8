//! `usher directory`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::text::table;
use super::{CliError, Console, ImportNames, List, names};
use crate::authority::Authority;
use crate::config::{self, Directory as Configured};
use crate::directory::{Change, Directory, Import, View, merge};
use crate::policy::{Holder, NameEntry};

/// Takes a document into the store.
pub(super) fn import(
    args: &ImportNames,
    configured: &Configured,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let (path, text) = read(&args.document, console)?;
    let before = authority.snapshot();
    let (import, stored) = match args.replace {
        true => (Import::Replace, None),
        false => (Import::Merge, Some(&*before.names)),
    };
    let fixed = &configured.names;
    let document = config::parse_names(&text, path, fixed, stored)?;
    let (merged, changes) = merge(&before.names, &document, import, fixed)?;
    let [added, changed, removed] =
        [Change::Added, Change::Changed, Change::Removed].map(|change| changes.count(change));
    if added + changed + removed > 0 && !authority.replace_names(&before, &merged)? {
        return Err(CliError::NamesChanged);
    }
    for (what, change) in changes.iter() {
        let word = match change {
            Change::Added => "added",
            Change::Changed => "changed",
            Change::Removed => "removed",
        };
        console.say(format_args!("{word} {what}"))?;
    }
    console.note(format_args!(
        "{added} added, {changed} changed, {removed} removed"
    ))?;
    if !configured.store {
        console.note("the configuration does not use them; set `directory: { store: true }`")?;
    }
    Ok(())
}

/// The text of a document, and a name for it in messages.
fn read<'p>(file: &'p Path, console: &mut Console<'_>) -> Result<(&'p Path, String), CliError> {
    let failed = |what: String| move |cause| CliError::Input { what, cause };
    if file != Path::new("-") {
        let text = std::fs::read_to_string(file).map_err(failed(file.display().to_string()))?;
        return Ok((file, text));
    }
    let what = "standard input";
    let mut text = String::new();
    console
        .stdin
        .read_to_string(&mut text)
        .map_err(failed(what.to_owned()))?;
    Ok((Path::new(what), text))
}

/// Lists what is in the store.
pub(super) fn list(
    args: &List,
    configured: &Configured,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let snapshot = authority.snapshot();
    let entries = snapshot.names.entries();
    // The names in the store may belong to what only the configuration names.
    let directory = Configured {
        store: true,
        http: None,
        ..configured.clone()
    };
    let directory = Directory::open(&directory, &Arc::default())?;
    let view = directory.view(&snapshot.names);
    if args.json {
        return console.say_json(&in_json(&entries, &view));
    }
    if entries.is_empty() {
        return console.note("the store has no names; `usher directory import` takes them in");
    }
    let mut rows = vec![["KIND", "NAME", "ID", "OF"].map(str::to_owned)];
    for entry in &entries {
        let org = |id: u64| names::org_name(&view, id);
        let app = |id: u64| names::app_name(&view, id);
        let none = String::new;
        let (kind, name, id, of) = match entry {
            NameEntry::Org { slug, id } => ("org", slug, id.to_string(), none()),
            NameEntry::OrgAlias { alias, org: id } => {
                ("org alias", alias, id.to_string(), org(*id))
            }
            NameEntry::App { name, id, org: of } => ("app", name, id.to_string(), org(*of)),
            NameEntry::AppAlias { alias, app: id } => {
                ("app alias", alias, id.to_string(), app(*id))
            }
            NameEntry::Machine { id, app: of } => ("machine", id, none(), app(*of)),
            NameEntry::Volume { id, app: of } => ("volume", id, none(), app(*of)),
            NameEntry::Cluster { name, org: of } => ("cluster", name, none(), org(*of)),
            NameEntry::Object { kind, id, holder } => (
                &**kind,
                id,
                none(),
                match holder {
                    Holder::App(of) => app(*of),
                    Holder::Org(of) => org(*of),
                },
            ),
        };
        rows.push([kind.to_owned(), name.to_string(), id, of]);
    }
    console.say(table(&rows).trim_end())
}

/// As `usher directory import` reads it.
fn in_json(entries: &[NameEntry], view: &View<'_>) -> Value {
    let org = |id: &u64| names::org_name(view, *id);
    let app = |id: &u64| names::app_name(view, *id);
    let mut org_aliases: HashMap<u64, Vec<&str>> = HashMap::new();
    let mut app_aliases: HashMap<u64, Vec<&str>> = HashMap::new();
    let (mut orgs, mut apps) = (Vec::new(), Vec::new());
    let [mut machines, mut volumes, mut clusters, mut objects] = [const { Vec::new() }; 4];
    for entry in entries {
        match entry {
            NameEntry::Org { slug, id } => orgs.push((&**slug, *id)),
            NameEntry::OrgAlias { alias, org } => org_aliases.entry(*org).or_default().push(alias),
            NameEntry::App { name, id, org } => apps.push((&**name, *id, org)),
            NameEntry::AppAlias { alias, app } => app_aliases.entry(*app).or_default().push(alias),
            NameEntry::Machine { id, app: of } => {
                machines.push(json!({ "id": id, "app": app(of) }))
            }
            NameEntry::Volume { id, app: of } => volumes.push(json!({ "id": id, "app": app(of) })),
            NameEntry::Cluster { name, org: of } => {
                clusters.push(json!({ "name": name, "org": org(of) }));
            }
            NameEntry::Object { kind, id, holder } => objects.push(match holder {
                Holder::App(of) => json!({ "kind": kind, "id": id, "app": app(of) }),
                Holder::Org(of) => json!({ "kind": kind, "id": id, "org": org(of) }),
            }),
        }
    }
    let org_in_json = |(slug, id): (&str, u64)| {
        let aliases = org_aliases.remove(&id).unwrap_or_default();
        json!({ "slug": slug, "id": id, "aliases": aliases })
    };
    let orgs: Vec<Value> = orgs.into_iter().map(org_in_json).collect();
    let app_in_json = |(name, id, of): (&str, u64, &u64)| {
        let aliases = app_aliases.remove(&id).unwrap_or_default();
        json!({ "name": name, "id": id, "org": org(of), "aliases": aliases })
    };
    let apps: Vec<Value> = apps.into_iter().map(app_in_json).collect();
    json!({
        "orgs": orgs,
        "apps": apps,
        "machines": machines,
        "volumes": volumes,
        "clusters": clusters,
        "objects": objects,
    })
}

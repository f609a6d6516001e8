//! `usher token create`.

mod kind;

use serde_json::{Value, json};

use super::text::{moment, printable, span};
use super::{CliError, Console, Create, names, usage};
use crate::authority::{Authority, Grant, Kind, Window};
use crate::directory::View;
use crate::macaroon::{Bundle, Caveat, Text, Token, caveats_to_json, describe};

pub(super) fn run(
    args: &Create,
    directory: &View<'_>,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let kind = kind::kind(args, directory)?;
    let third_parties = third_parties(args, authority)?;
    let third_parties: Vec<&str> = third_parties.iter().map(String::as_str).collect();
    let window = Window {
        not_before: console.now,
        not_after: args.expiry.end(console.now),
    };
    let issuer = (console.env)("USER").filter(|user| !user.is_empty());
    let grant = Grant {
        kind: &kind,
        window,
        name: args.name.as_deref(),
        issuer: issuer.as_deref(),
        third_parties: &third_parties,
        user: args.user,
    };
    let bundle = authority.grant(&grant, console.now)?;
    if args.json {
        return console.say_json(&in_json(args, &kind, window, &bundle, directory));
    }
    if console.attended {
        in_words(&kind, window, &bundle, console)?;
        if !third_parties.is_empty() && args.user.is_none() {
            console.note(format_args!(
                "it is usable once discharged by {}; `usher token discharge` can do it",
                third_parties.join(" and ")
            ))?;
        }
    }
    console.say(bundle.to_header())
}

/// The locations that have to discharge the token: those named, else for a user the only one that
/// could vouch for them.
fn third_parties(args: &Create, authority: &Authority) -> Result<Vec<String>, CliError> {
    if !args.third_party.is_empty() || args.user.is_none() {
        return Ok(args.third_party.clone());
    }
    let snapshot = authority.snapshot();
    let mut known: Vec<String> = snapshot
        .third_parties
        .locations()
        .map(Text::to_string)
        .collect();
    known.dedup();
    match known.as_slice() {
        [] => Err(usage(
            "a third party has to vouch for --user, and authority.third_parties has none; add `{ location, key }` there",
        )),
        [_] => Ok(known),
        several => Err(usage(format_args!(
            "which third party vouches for --user? add --third-party with one of {}",
            several.join(", ")
        ))),
    }
}

fn in_words(
    kind: &Kind,
    window: Window,
    bundle: &Bundle,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let until = moment(window.not_after);
    let left = span(window.not_after.saturating_sub(console.now));
    for token in &bundle.tokens {
        if token.is_proof() {
            let location = Text::from(token.location());
            console.note(format_args!("discharge {} by {location}", token.uuid()))?;
        } else {
            console.note(format_args!(
                "{} token {}, valid until {until} (for {left})",
                kind.name(),
                token.uuid()
            ))?;
        }
        for caveat in token.caveats() {
            console.note(format_args!("  {}", printable(&describe(caveat))))?;
        }
    }
    Ok(())
}

fn in_json(
    args: &Create,
    kind: &Kind,
    window: Window,
    bundle: &Bundle,
    directory: &View<'_>,
) -> Value {
    let (discharges, tokens): (Vec<_>, Vec<_>) = bundle.tokens.iter().partition(|t| t.is_proof());
    let mut orgs: Vec<String> = kind
        .plans(window)
        .iter()
        .map(|plan| names::org_name(directory, plan.org))
        .collect();
    let discharges: Vec<Value> = discharges
        .into_iter()
        .map(|token| {
            json!({
                "id": token.uuid().to_string(),
                "location": Text::from(token.location()).to_string(),
            })
        })
        .collect();
    let tokens: Vec<Value> = tokens.into_iter().map(token_in_json).collect();
    json!({
        "token": bundle.to_header(),
        "kind": kind.name(),
        "name": args.name,
        // Only auth tokens are for several.
        "org": if orgs.len() == 1 { orgs.pop() } else { None },
        "app": args.app,
        "user": args.user,
        "expires_at": window.not_after,
        "tokens": tokens,
        "discharges": discharges,
    })
}

fn token_in_json(token: &Token) -> Value {
    let waits = token.caveats().iter().filter_map(Caveat::third_party);
    let waits: Vec<String> = waits.map(|party| party.location.to_string()).collect();
    json!({
        "id": token.uuid().to_string(),
        "third_parties": waits,
        "caveats": caveats_to_json(token.caveats()),
    })
}

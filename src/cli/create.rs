//! `usher token create`.

use serde_json::json;

use super::text::{moment, printable, span};
use super::{CliError, Console, Create, TokenKind, names, usage};
use crate::authority::{Authority, Kind, Request, Window};
use crate::directory::Directory;
use crate::macaroon::{Bundle, Token, caveats_to_json, describe};

pub(super) fn run(
    args: &Create,
    directory: &Directory,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let kind = kind(args, directory)?;
    let window = Window {
        not_before: console.now,
        not_after: args.expiry.end(console.now),
    };
    let (org, app) = match kind {
        Kind::Org { org } | Kind::Readonly { org } => (org, None),
        Kind::Deploy { org, app } => (org, Some(app)),
        Kind::Auth { .. }
        | Kind::MachineExec { .. }
        | Kind::LitefsCloud { .. }
        | Kind::Ssh { .. }
        | Kind::Wireguard { .. } => return Err(usage("this kind cannot be made here")),
    };
    let issuer = (console.env)("USER").filter(|user| !user.is_empty());
    let mut tokens = Vec::new();
    for caveats in kind.caveats(window) {
        let request = Request {
            kind: kind.name(),
            name: args.name.as_deref(),
            org: Some(org),
            app,
            caveats: &caveats,
            issuer: issuer.as_deref(),
        };
        tokens.push(authority.issue(&request, console.now)?);
    }
    let bundle = Bundle {
        tokens,
        ..Bundle::default()
    };
    let header = bundle.to_header();
    if args.json {
        let tokens: Vec<_> = bundle.tokens.iter().map(in_json).collect();
        return console.say_json(&json!({
            "token": header,
            "kind": kind.name(),
            "name": args.name,
            "org": args.org_or_of_app(directory, org),
            "app": args.app,
            "expires_at": window.not_after,
            "tokens": tokens,
        }));
    }
    if console.attended {
        let until = moment(window.not_after);
        let left = span(window.not_after.saturating_sub(console.now));
        for token in &bundle.tokens {
            console.note(format_args!(
                "{} token {}, valid until {until} (for {left})",
                kind.name(),
                token.uuid()
            ))?;
            for caveat in token.caveats() {
                console.note(format_args!("  {}", printable(&describe(caveat))))?;
            }
        }
    }
    console.say(header)
}

/// The kind with its ids. An argument that the kind has no use for is refused: its absence from
/// the token would be noticed too late.
fn kind(args: &Create, directory: &Directory) -> Result<Kind, CliError> {
    match (args.kind, &args.org, &args.app) {
        (TokenKind::Org, Some(slug), None) => Ok(Kind::Org {
            org: names::org(directory, slug)?,
        }),
        (TokenKind::Readonly, Some(slug), None) => Ok(Kind::Readonly {
            org: names::org(directory, slug)?,
        }),
        (TokenKind::Deploy, slug, Some(name)) => {
            let ids = names::app(directory, name)?;
            if let Some(slug) = slug
                && names::org(directory, slug)? != ids.org
            {
                let owner = names::org_name(directory, ids.org);
                return Err(usage(format_args!(
                    "the app {name} belongs to {owner}, not to {slug}; leave --org out"
                )));
            }
            Ok(Kind::Deploy {
                org: ids.org,
                app: ids.app,
            })
        }
        (TokenKind::Org | TokenKind::Readonly, _, Some(_)) => Err(usage(
            "this kind of token is for a whole organization; leave --app out, or make a deploy token",
        )),
        // The parser asks for these; it is not asked to be trusted.
        (TokenKind::Org | TokenKind::Readonly, None, None) => Err(usage("--org is missing")),
        (TokenKind::Deploy, _, None) => Err(usage("--app is missing")),
    }
}

impl Create {
    fn org_or_of_app(&self, directory: &Directory, id: u64) -> String {
        match &self.org {
            Some(slug) => slug.clone(),
            None => names::org_name(directory, id),
        }
    }
}

fn in_json(token: &Token) -> serde_json::Value {
    json!({
        "id": token.uuid().to_string(),
        "caveats": caveats_to_json(token.caveats()),
    })
}

//! `usher token discharge`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::text::{moment, printable, span};
use super::{CliError, Console, Discharge};
use crate::authority::{self, Authority, Window};
use crate::macaroon::{Bundle, describe, without_scheme};

pub(super) fn run(
    args: &Discharge,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let text = args.ticket.resolve(console)?;
    let text = text.trim();
    let ticket = STANDARD.decode(text).map_err(|_| CliError::Ticket {
        // The two are side by side in the answer, and one is easily taken for the other.
        hint: if without_scheme(text).starts_with("fm") {
            "it is a token; the ticket is in the 401 answer to that token, under `discharges`"
        } else {
            "copy all of `ticket` from the 401 answer, and nothing else"
        },
    })?;
    let now = console.now;
    let asked = authority::Discharge {
        location: &args.location,
        ticket: &ticket,
        user: args.user,
        window: args.expiry.map(|expiry| Window {
            not_before: now,
            not_after: expiry.end(now),
        }),
    };
    let token = authority.discharge(&asked, now)?;
    let id = token.uuid();
    let window = Window::of(token.caveats());
    let caveats: Vec<String> = token.caveats().iter().map(describe).collect();
    let discharge = Bundle {
        tokens: vec![token],
        ..Bundle::default()
    }
    .to_header();
    // Without the scheme, so that it can stand behind the token it belongs to.
    let discharge = without_scheme(&discharge);
    if args.json {
        return console.say_json(&json!({
            "discharge": discharge,
            "id": id.to_string(),
            "location": args.location,
            "user": args.user,
            "expires_at": window.end(),
        }));
    }
    if console.attended {
        console.note(format_args!(
            "discharge {id}, valid until {} (for {}); send it behind the token, with a comma between them",
            moment(window.not_after),
            span(window.not_after.saturating_sub(now))
        ))?;
        for caveat in caveats {
            console.note(format_args!("  {}", printable(&caveat)))?;
        }
    }
    console.say(discharge)
}

//! `usher token verify`.

use serde_json::{Value, json};

use super::credential::token;
use super::text::{moment, printable, span};
use super::{Answer, CliError, Console, Verify};
use crate::authority::{Authority, Snapshot, Window};
use crate::macaroon::{
    Bundle, Caveat, Limits, SigningKey, TailDigest, Token, Verified, Verifier, VerifyError,
    caveats_to_json, describe,
};
use crate::policy::{Reason, window};

pub(super) fn run(
    args: &Verify,
    limits: &Limits,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<Answer, CliError> {
    let header = token(&args.source, console)?;
    let bundle = Bundle::parse(&header, limits).map_err(CliError::Header)?;
    let snapshot = authority.snapshot();
    let judge = Judge::new(authority, &snapshot, limits);
    let verdicts: Vec<(&Token, Verdict)> = judge
        .permission_tokens(&bundle)
        .map(|(position, token)| (token, judge.verdict(&bundle, position, token, console.now)))
        .collect();
    let usable = verdicts
        .iter()
        .any(|(_, verdict)| matches!(verdict, Verdict::Usable(_)));
    if args.json {
        let tokens: Vec<Value> = verdicts.iter().map(in_json).collect();
        let defects: Vec<String> = bundle.defects.iter().map(ToString::to_string).collect();
        console.say_json(&json!({"usable": usable, "tokens": tokens, "defects": defects}))?;
    } else {
        for defect in &bundle.defects {
            console.say(defect)?;
        }
        for (token, verdict) in &verdicts {
            in_words(token, verdict, console)?;
        }
        if verdicts.is_empty() {
            console.say(format_args!(
                "no permission token: none bears the location {}; `usher token inspect` says more",
                authority.location()
            ))?;
        }
    }
    Ok(if usable { Answer::Yes } else { Answer::No })
}

/// Judges tokens as the proxy does, all but the caveats that depend on the request.
pub(super) struct Judge<'a> {
    authority: &'a Authority,
    snapshot: &'a Snapshot,
    limits: &'a Limits,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        authority: &'a Authority,
        snapshot: &'a Snapshot,
        limits: &'a Limits,
    ) -> Self {
        Self {
            authority,
            snapshot,
            limits,
        }
    }

    /// The permission tokens of a bundle, with their positions.
    pub(super) fn permission_tokens<'b>(
        &self,
        bundle: &'b Bundle,
    ) -> impl Iterator<Item = (usize, &'b Token)> {
        let tokens = bundle.tokens.iter().enumerate();
        tokens.filter(|(_, token)| token.location() == self.authority.location().as_bytes())
    }

    pub(super) fn verify(
        &self,
        bundle: &Bundle,
        position: usize,
        token: &Token,
    ) -> Result<Verified, VerifyError> {
        let key = |id: &[u8]| -> Option<&SigningKey> { self.snapshot.keys.key(id) };
        Verifier::new(
            self.authority.location(),
            &key,
            &self.snapshot.third_parties,
            self.limits,
        )
        .verify(bundle, position, token)
    }

    fn verdict(&self, bundle: &Bundle, position: usize, token: &Token, now: i64) -> Verdict {
        let verified = match self.verify(bundle, position, token) {
            Ok(verified) => verified,
            Err(error) => return Verdict::Unverified(error),
        };
        let tails = || -> Vec<TailDigest> {
            let tails = verified.tails().iter();
            tails.map(crate::macaroon::Tail::digest).collect()
        };
        if self.snapshot.revocations.revoked(&token.uuid(), tails) {
            return Verdict::Revoked;
        }
        let open = Window::of(verified.caveats());
        match shut(verified.caveats(), now) {
            Some(Reason::NotYetValid) => Verdict::NotYetValid(open.not_before),
            Some(_) => Verdict::Expired(open.not_after),
            None => Verdict::Usable(verified),
        }
    }
}

/// Why the first window that is not open is shut; `None` where all are open.
pub(super) fn shut<'a>(caveats: impl IntoIterator<Item = &'a Caveat>, now: i64) -> Option<Reason> {
    caveats.into_iter().find_map(|caveat| {
        if let Caveat::ValidityWindow {
            not_before,
            not_after,
        } = caveat
        {
            window(*not_before, *not_after, now).err()
        } else {
            None
        }
    })
}

/// What becomes of one permission token.
enum Verdict {
    /// Verified, not revoked, and its windows are open.
    Usable(Verified),
    /// The signature or a discharge does not hold.
    Unverified(VerifyError),
    /// Revoked.
    Revoked,
    /// A window closed at this second.
    Expired(i64),
    /// A window opens at this second.
    NotYetValid(i64),
}

impl Verdict {
    fn code(&self) -> &'static str {
        match self {
            Self::Usable(_) => "usable",
            Self::Unverified(VerifyError::UnknownKey) => "unknown_key",
            Self::Unverified(VerifyError::Signature) => "bad_signature",
            Self::Unverified(VerifyError::Undischarged { .. }) => "undischarged",
            Self::Unverified(VerifyError::Discharge { .. } | VerifyError::VerifierKey { .. }) => {
                "bad_discharge"
            }
            Self::Unverified(VerifyError::Bound { .. } | VerifyError::Attestation { .. }) => {
                "misplaced_caveat"
            }
            Self::Revoked => "revoked",
            Self::Expired(_) => "expired",
            Self::NotYetValid(_) => "not_yet_valid",
        }
    }
}

fn in_words(token: &Token, verdict: &Verdict, console: &mut Console<'_>) -> Result<(), CliError> {
    let now = console.now;
    let id = token.uuid();
    match verdict {
        Verdict::Usable(verified) => {
            match Window::of(verified.caveats()).end() {
                Some(end) => console.say(format_args!(
                    "{id}: usable until {} (for {})",
                    moment(end),
                    span(end.saturating_sub(now))
                ))?,
                None => console.say(format_args!("{id}: usable, without an end"))?,
            }
            for caveat in verified.caveats() {
                console.say(format_args!("  {}", printable(&describe(caveat))))?;
            }
            Ok(())
        }
        Verdict::Unverified(error) => console.say(format_args!("{id}: not usable: {error}")),
        Verdict::Revoked => console.say(format_args!("{id}: not usable: revoked")),
        Verdict::Expired(end) => console.say(format_args!(
            "{id}: not usable: expired at {}",
            moment(*end)
        )),
        Verdict::NotYetValid(start) => console.say(format_args!(
            "{id}: not usable: valid from {} on",
            moment(*start)
        )),
    }
}

fn in_json((token, verdict): &(&Token, Verdict)) -> Value {
    let (detail, caveats) = match verdict {
        Verdict::Usable(verified) => (None, Some(verified.caveats().cloned().collect::<Vec<_>>())),
        Verdict::Unverified(error) => (Some(error.to_string()), None),
        Verdict::Revoked | Verdict::Expired(_) | Verdict::NotYetValid(_) => (None, None),
    };
    let window = Window::of(caveats.as_deref().unwrap_or_else(|| token.caveats()));
    json!({
        "id": token.uuid().to_string(),
        "state": verdict.code(),
        "detail": detail,
        "not_after": window.end(),
        "caveats": caveats.as_deref().map(caveats_to_json),
    })
}

//! `usher token revoke`.

use uuid::Uuid;

use super::verify::Judge;
use super::{CliError, Console, Revoke};
use crate::authority::{Authority, Revocation};
use crate::macaroon::{Bundle, Limits, Token, VerifyError};

pub(super) fn run(
    args: &Revoke,
    limits: &Limits,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let text = args.what.resolve(console)?;
    let text = text.trim();
    if let Ok(uuid) = Uuid::parse_str(text) {
        let known = authority.tokens()?.iter().any(|token| token.uuid == uuid);
        if !known {
            console.note(
                "the ledger has no token with this UUID; it is revoked all the same, in case one exists",
            )?;
        }
        return revoke(Revocation::Lineage(uuid), authority, console);
    }
    let bundle = Bundle::parse(text, limits).map_err(CliError::Header)?;
    if bundle.tokens.is_empty() && !text.contains('_') {
        return Err(CliError::NotRevocable);
    }
    // Passing over a broken part would leave its token in use.
    if let Some(defect) = bundle.defects.first() {
        return Err(CliError::Defect(*defect));
    }
    let snapshot = authority.snapshot();
    let judge = Judge::new(authority, &snapshot, limits);
    // All of them are looked at before any is revoked.
    let revocations: Vec<Revocation> = judge
        .permission_tokens(&bundle)
        .map(|(position, token)| signed_here(token, judge.verify(&bundle, position, token).err()))
        .collect::<Result<_, _>>()?;
    if revocations.is_empty() {
        return Err(CliError::NoPermissionToken);
    }
    for revocation in revocations {
        revoke(revocation, authority, console)?;
    }
    Ok(())
}

/// The revocation of a token that bears a signature of this authority. Any other has no tail that
/// could ever be presented, so revoking it would only look like a success.
fn signed_here(token: &Token, failure: Option<VerifyError>) -> Result<Revocation, CliError> {
    let uuid = token.uuid();
    let refused = |why: String| Err(CliError::NotOurs { uuid, why });
    if let Some(error @ (VerifyError::UnknownKey | VerifyError::Signature)) = failure {
        return refused(error.to_string());
    }
    match token.tail_digest() {
        Some(tail) if !token.is_proof() => Ok(Revocation::Tail(uuid, tail)),
        _ => refused("it is a finalized proof".to_owned()),
    }
}

fn revoke(
    revocation: Revocation,
    authority: &Authority,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let new = authority.revoke(revocation, console.now)?;
    let verb = if new { "revoked" } else { "already revoked" };
    match revocation {
        Revocation::Lineage(uuid) => console.say(format_args!(
            "{verb}: the lineage {uuid}, that is, the token and everything attenuated from it"
        )),
        Revocation::Tail(uuid, _) => console.say(format_args!(
            "{verb}: this token of the lineage {uuid} and everything attenuated from it; \
             tokens it was attenuated from stay valid"
        )),
    }
}

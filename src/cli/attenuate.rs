//! `usher token attenuate`.

use std::path::Path;

use zeroize::Zeroizing;

use super::credential::{read_stdin, token};
use super::doctor::{Role, roles};
use super::{Attenuate, CliError, Console, usage};
use crate::macaroon::{Bundle, Limits, Problem, caveats_from_json};

pub(super) fn run(args: &Attenuate, console: &mut Console<'_>) -> Result<(), CliError> {
    let from_stdin = args.caveats == Path::new("-");
    if from_stdin && args.source.token.as_ref().is_some_and(|t| t.is_stdin()) {
        return Err(usage(
            "token and caveats cannot both come from standard input; put one of them into a file or variable",
        ));
    }
    let header = token(&args.source, console)?;
    let (file, json) = if from_stdin {
        ("standard input".to_owned(), read_stdin(console)?)
    } else {
        let file = args.caveats.display().to_string();
        let json = std::fs::read_to_string(&args.caveats).map_err(|cause| CliError::Input {
            what: file.clone(),
            cause,
        })?;
        (file, Zeroizing::new(json))
    };
    let caveats = caveats_from_json(&json).map_err(|cause| CliError::Caveats { file, cause })?;
    let limits = Limits::DEFAULT;
    let mut bundle = Bundle::parse(&header, &limits).map_err(CliError::Header)?;
    for defect in &bundle.defects {
        if defect.problem != Problem::OAuth {
            return Err(CliError::Defect(*defect));
        }
        // It would go on to permit what the caveats are to take away.
        console.note(format_args!("{defect}; it is left out"))?;
    }
    let roles = roles(&bundle.tokens);
    if !roles.contains(&Role::Permission) {
        return Err(CliError::NoPermissionToken);
    }
    for (token, role) in bundle.tokens.iter_mut().zip(roles) {
        if role == Role::Permission {
            *token = token
                .attenuate(&caveats, &limits)
                .map_err(|cause| CliError::Attenuate {
                    uuid: token.uuid(),
                    cause,
                })?;
        }
    }
    console.say(bundle.to_header())
}

//! Arguments of `usher token create` to a kind of token with its ids.

use super::super::{CliError, Create, TokenKind, names, usage};
use crate::authority::Kind;
use crate::directory::View;
use crate::macaroon::{Command, Text};
use crate::policy::AppIds;

/// The kind with its ids. An argument that the kind has no use for is refused: its absence from
/// the token would be noticed too late.
pub(super) fn kind(args: &Create, directory: &View<'_>) -> Result<Kind, CliError> {
    refuse_unused(args)?;
    match args.kind {
        TokenKind::Auth => Ok(Kind::Auth {
            orgs: memberships(args, directory)?,
        }),
        TokenKind::Org => Ok(Kind::Org {
            org: only_org(args, directory)?,
        }),
        TokenKind::Readonly => Ok(Kind::Readonly {
            org: only_org(args, directory)?,
        }),
        TokenKind::Wireguard => Ok(Kind::Wireguard {
            org: only_org(args, directory)?,
        }),
        TokenKind::LitefsCloud => Ok(Kind::LitefsCloud {
            org: only_org(args, directory)?,
            cluster: args.cluster.clone().ok_or_else(|| {
                usage(
                    "which cluster is it for? add --cluster NAME, or --cluster '' for all of them",
                )
            })?,
        }),
        TokenKind::Deploy => {
            let AppIds { app, org } = app(args, directory)?;
            Ok(Kind::Deploy { org, app })
        }
        TokenKind::Ssh => {
            let AppIds { app, org } = app(args, directory)?;
            Ok(Kind::Ssh { org, app })
        }
        TokenKind::MachineExec => {
            let AppIds { app, org } = app(args, directory)?;
            let commands = commands(args)?;
            Ok(Kind::MachineExec { org, app, commands })
        }
    }
}

fn refuse_unused(args: &Create) -> Result<(), CliError> {
    let of_app = matches!(
        args.kind,
        TokenKind::Deploy | TokenKind::MachineExec | TokenKind::Ssh
    );
    let auth = args.kind == TokenKind::Auth;
    let commands = args.command.is_empty() && args.command_prefix.is_empty();
    for (unused, why) in [
        (
            args.app.is_some() && !of_app,
            "this kind of token is for a whole organization; leave --app out, or make a deploy token",
        ),
        (
            args.org.len() > 1 && !auth,
            "this kind of token is for one organization; give --org once, or make an auth token",
        ),
        (
            !args.admin.is_empty() && !auth,
            "only auth tokens tell an organization's admins from its members; leave --admin out",
        ),
        (
            args.user.is_some() && !auth,
            "only auth tokens are made for a user; leave --user out, and have a third party discharge the token",
        ),
        (
            args.cluster.is_some() && args.kind != TokenKind::LitefsCloud,
            "this kind of token knows no clusters; leave --cluster out, or make a litefs-cloud token",
        ),
        (
            !commands && args.kind != TokenKind::MachineExec,
            "this kind of token knows no commands; leave --command and --command-prefix out, or make a machine-exec token",
        ),
    ] {
        if unused {
            return Err(usage(why));
        }
    }
    Ok(())
}

/// The organizations of a user, each with whether they are its admin: in the order given, those
/// that are named by --admin alone behind the others.
fn memberships(args: &Create, directory: &View<'_>) -> Result<Vec<(u64, bool)>, CliError> {
    let members = distinct_orgs(&args.org, directory)?;
    let admins = distinct_orgs(&args.admin, directory)?;
    let only_admins = admins.iter().filter(|id| !members.contains(id));
    let all = members.iter().chain(only_admins);
    let orgs: Vec<(u64, bool)> = all.map(|id| (*id, admins.contains(id))).collect();
    if orgs.is_empty() {
        return Err(usage(
            "which organizations is the user in? add --org SLUG for each, --admin SLUG where they are an admin",
        ));
    }
    Ok(orgs)
}

fn distinct_orgs(slugs: &[String], directory: &View<'_>) -> Result<Vec<u64>, CliError> {
    let mut ids = Vec::new();
    for slug in slugs {
        let id = names::org(directory, slug)?;
        if ids.contains(&id) {
            return Err(usage(format_args!(
                "the organization {slug} is named twice; there is one token for each"
            )));
        }
        ids.push(id);
    }
    Ok(ids)
}

fn only_org(args: &Create, directory: &View<'_>) -> Result<u64, CliError> {
    match args.org.as_slice() {
        [slug] => Ok(names::org(directory, slug)?),
        _ => Err(usage("which organization is it for? add --org SLUG")),
    }
}

/// The app, which must belong to the organization where one is named.
fn app(args: &Create, directory: &View<'_>) -> Result<AppIds, CliError> {
    let Some(name) = &args.app else {
        return Err(usage("which app is it for? add --app NAME"));
    };
    let ids = names::app(directory, name)?;
    if let Some(slug) = args.org.first()
        && names::org(directory, slug)? != ids.org
    {
        let owner = names::org_name(directory, ids.org);
        return Err(usage(format_args!(
            "the app {name} belongs to {owner}, not to {slug}; leave --org out"
        )));
    }
    Ok(ids)
}

/// Exact commands first, then prefixes.
fn commands(args: &Create) -> Result<Vec<Command>, CliError> {
    let exact = args.command.iter().map(|text| ("--command", text, true));
    let prefixes = args.command_prefix.iter();
    let prefixes = prefixes.map(|text| ("--command-prefix", text, false));
    exact
        .chain(prefixes)
        .map(|(option, text, exact)| {
            let args =
                words(text).map_err(|why| usage(format_args!("{option} {text:?}: {why}")))?;
            Ok(Command {
                args: Some(args),
                exact,
            })
        })
        .collect()
}

/// The words that a POSIX shell would see.
///
/// What a shell does not take for words of one command is refused: a line break ends a command,
/// and a comment is dropped, so that the permitted command would be a shorter one.
fn words(text: &str) -> Result<Vec<Text>, &'static str> {
    if text.contains(['\n', '\r', '\0']) {
        return Err("a command is one line");
    }
    // A word that must come out last, unless a comment or an open quote swallows it.
    let split = shlex::split(&format!("{text} {LAST}"));
    match split.as_deref() {
        Some([words @ .., last]) if last == LAST => match words {
            [] => Err(
                "it has no words; to permit any command, leave --command and --command-prefix out",
            ),
            words => Ok(words.iter().map(|word| word.as_str().into()).collect()),
        },
        Some(_) => Err("it ends with a comment or a lone backslash; put that into quotes"),
        None => Err("a quote is not closed"),
    }
}

/// See [`words`].
const LAST: &str = "end";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_words_that_a_shell_sees() {
        for (text, expected) in [
            ("uptime", &["uptime"][..]),
            ("  ls   -l ", &["ls", "-l"]),
            (
                r#"sh -c "echo 'a b' \$HOME" "#,
                &["sh", "-c", "echo 'a b' $HOME"],
            ),
            ("a\\ b ''", &["a b", ""]),
            ("grep '#x' a#b", &["grep", "#x", "a#b"]),
        ] {
            let expected: Vec<Text> = expected.iter().map(|word| (*word).into()).collect();
            assert_eq!(words(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_one_whole_command_is_refused() {
        for (text, why) in [
            ("", "no words"),
            ("   ", "no words"),
            ("echo 'a", "not closed"),
            ("echo \"a", "not closed"),
            ("echo \\", "comment"),
            ("rm #x", "comment"),
            ("# all of it", "comment"),
            ("ls\nrm", "one line"),
            ("ls\0", "one line"),
        ] {
            let error = words(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}

//! The usher command: arguments in, exit code out.

use std::borrow::Cow;
use std::error::Error as _;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Parser as _;
use usher::authority::AuthorityError;
use usher::cli::{self, Answer, Cli, CliError, Command, Console};
use usher::directory::DirectoryError;
use usher::{clock, demo};

fn main() -> ExitCode {
    let (mut stdin, mut stdout, mut stderr) = (io::stdin(), io::stdout(), io::stderr());
    let attended = stderr.is_terminal();
    let mut console = Console {
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
        attended,
        env: &|name| std::env::var(name).ok(),
        now: clock::unix_now(),
    };
    let ended = Cli::try_parse()
        .map_err(CliError::from)
        .and_then(|cli| run(&cli.command, &mut console));
    match ended {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::FAILURE,
        Err(error) => {
            let code = exit_code(&error);
            report(&error, &mut console);
            code
        }
    }
}

fn run(command: &Command, console: &mut Console<'_>) -> Result<Answer, CliError> {
    match command {
        Command::Demo(args) => demo::run(args, console).map(|()| Answer::Yes),
        Command::Serve(args) => cli::serve(args, console).map(|()| Answer::Yes),
        Command::Check(args) => cli::check(args, console),
        Command::Connect(args) => cli::connect(args, console).map(|()| Answer::Yes),
        Command::Token(command) => cli::token(command, console),
        Command::Directory(command) => cli::directory(command, console).map(|()| Answer::Yes),
        Command::Key(command) => cli::key(command, console).map(|()| Answer::Yes),
    }
}

/// The only place that chooses an exit code. 78 is `EX_CONFIG` of sysexits.h; clap's own are 2
/// for an error and 0 for `--help`.
fn exit_code(error: &CliError) -> ExitCode {
    match error {
        CliError::Config(_)
        | CliError::Document(_)
        | CliError::Authority(AuthorityError::Secret { .. }) => ExitCode::from(78),
        CliError::Usage(error) => {
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        CliError::Start(error) if error.is_configuration() => ExitCode::from(78),
        CliError::Directory(DirectoryError::Peer(_) | DirectoryError::Host { .. }) => {
            ExitCode::from(78)
        }
        CliError::Output(_) if is_broken_pipe(error) => ExitCode::SUCCESS,
        CliError::Authority(_)
        | CliError::Directory(_)
        | CliError::Unanswered(_)
        | CliError::Name(_)
        | CliError::Orphans(_)
        | CliError::NamesChanged
        | CliError::Output(_)
        | CliError::Input { .. }
        | CliError::NoToken
        | CliError::Connect(_)
        | CliError::Header(_)
        | CliError::Defect(_)
        | CliError::NoPermissionToken
        | CliError::Caveats { .. }
        | CliError::Attenuate { .. }
        | CliError::NotRevocable
        | CliError::Ticket { .. }
        | CliError::NotAKey(_)
        | CliError::Start(_)
        | CliError::Signals(_)
        | CliError::Demo(_)
        | CliError::NotOurs { .. } => ExitCode::FAILURE,
    }
}

/// Says what went wrong, with what lies behind it, and no token that it might repeat. Nothing can be
/// done where even this cannot be written.
fn report(error: &CliError, console: &mut Console<'_>) {
    if is_broken_pipe(error) {
        return;
    }
    let written = if let CliError::Usage(error) = error {
        match cli::without_tokens(&error.render().to_string()) {
            Cow::Borrowed(_) => error.print().map_err(CliError::from),
            Cow::Owned(text) => console.note(text.trim_end()),
        }
    } else {
        let mut message = format!("usher: {error}");
        let mut cause = error.source();
        while let Some(source) = cause {
            message.push_str(": ");
            message.push_str(&source.to_string());
            cause = source.source();
        }
        console.note(cli::without_tokens(&message))
    };
    drop(written);
}

/// Whoever read the output has stopped reading, as `head` does.
fn is_broken_pipe(error: &CliError) -> bool {
    matches!(error, CliError::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
}

//! The command line: what can be typed, and what each command does.

mod attenuate;
mod check;
mod connect;
mod console;
mod create;
mod credential;
mod directory;
mod discharge;
mod doctor;
mod error;
mod inspect;
mod key;
mod ledger;
mod log;
mod names;
mod revoke;
mod serve;
mod summary;
mod text;
mod verify;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::authority::Authority;
use crate::config::{self, Config, Files};
use crate::directory::Directory;

pub use check::DocumentError;
pub use connect::{AddressError, ConnectError};
pub use console::Console;
pub use credential::Secret;
pub use error::CliError;
pub use key::NewKeyId;
pub use log::{log_to, log_to_stderr};
pub use names::UnknownName;
pub use text::{Lifetime, without_tokens};

pub(crate) use serve::open as open_server;
pub(crate) use text::moment;

/// An authorizing reverse proxy for APIs that are called with Fly.io macaroons.
///
/// usher verifies the tokens of every request, clears their caveats against what the request
/// does, and forwards what is permitted.
#[derive(Debug, Parser)]
#[command(name = "usher", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole system in one process: store, upstream, proxy, and tokens to try
    Demo(Demo),
    /// Run the proxy
    Serve(ConfigFile),
    /// Validate a configuration and print its routes, or compare them with an OpenAPI document
    ///
    /// Exits with 1 if an operation of the document has no route.
    Check(Check),
    /// Carry standard input and output through a tunnel of a running usher
    ///
    /// Made for the `ProxyCommand` of ssh: `usher connect connect+https://usher.example/%h:%p`
    Connect(Connect),
    /// Make, narrow, examine and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// List, rotate, import and retire signing keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Keep names with their ids in the store
    #[command(subcommand)]
    Directory(DirectoryCommand),
}

/// `usher demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Where the proxy listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where metrics and health are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
    /// Keep usher.yaml, the store and tokens.json here, instead of in a folder that is removed at
    /// the end
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// A command that needs nothing but the configuration.
#[derive(Args, Debug)]
pub struct ConfigFile {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `usher check`.
#[derive(Args, Debug)]
pub struct Check {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// An OpenAPI 3 document, JSON or YAML: say which of its operations have no route, which of
    /// their query keys are refused, and which routes it lacks
    #[arg(long, value_name = "SPEC")]
    pub openapi: Option<PathBuf>,
    /// The host that requests name, where it is not the one of the document's servers
    #[arg(long, value_name = "HOST", requires = "openapi")]
    pub host: Option<String>,
    /// Print a JSON object
    #[arg(long, requires = "openapi")]
    pub json: bool,
}

/// `usher connect`.
#[derive(Args, Debug)]
pub struct Connect {
    /// The token.
    #[command(flatten)]
    pub source: TokenSource,
    /// PEM roots to trust usher by, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// usher itself, where the other argument is only HOST:PORT
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// The tunnel: `https://USHER/PATH` for a route with a path (WebSocket), or
    /// `connect+https://USHER/HOST:PORT` for one with a host (CONNECT)
    pub url: String,
}

/// `usher token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, as the value of an Authorization header
    Create(Create),
    /// Add caveats to a token, offline; it can then do less, never more
    Attenuate(Attenuate),
    /// Show what a token says and what is wrong with it, offline
    ///
    /// Exits with 1 if no token in it can be usable.
    Inspect(Inspect),
    /// Check a token as the proxy would
    ///
    /// Exits with 1 if no token in it is usable.
    Verify(Verify),
    /// Revoke a token, and all that are attenuated from it
    Revoke(Revoke),
    /// List the tokens that were made here
    List(List),
    /// Answer a ticket as a third party of the configuration, and print the discharge
    ///
    /// It belongs behind the token that has the ticket, with a comma between them.
    Discharge(Discharge),
}

/// `usher token create`.
#[derive(Args, Debug)]
pub struct Create {
    /// What the token is for
    pub kind: TokenKind,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The organization; for an auth token each that the user is a member of
    #[arg(long, value_name = "SLUG")]
    pub org: Vec<String>,
    /// auth: an organization that the user is an admin of
    #[arg(long, value_name = "SLUG")]
    pub admin: Vec<String>,
    /// auth: the user, whom a third party vouches for; needs one in the configuration
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub user: Option<u64>,
    /// deploy, machine-exec and ssh: the app
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// machine-exec: a command that may be run, with exactly these words; without any, all may
    #[arg(long, value_name = "WORDS")]
    pub command: Vec<String>,
    /// machine-exec: the first words of commands that may be run
    #[arg(long, value_name = "WORDS")]
    pub command_prefix: Vec<String>,
    /// litefs-cloud: the cluster; the empty name means all of them
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// A third party of the configuration that has to discharge the token
    #[arg(long, value_name = "LOCATION")]
    pub third_party: Vec<String>,
    /// How long it is valid: a number with s, m, h, d, w or y (365 days)
    #[arg(long, value_name = "TIME", default_value = "1y")]
    pub expiry: Lifetime,
    /// A name to find it by in `usher token list`
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Kinds of token that can be made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenKind {
    /// A user's session: all that they may do in each of their organizations
    Auth,
    /// Everything in one organization that a member may do
    Org,
    /// Deploys one app
    Deploy,
    /// Reads one organization
    Readonly,
    /// Runs commands on the machines of one app, and reads it
    MachineExec,
    /// Uses one LiteFS Cloud cluster
    LitefsCloud,
    /// Opens SSH sessions on the machines of one app, and reads it
    Ssh,
    /// Manages the `WireGuard` peers of one organization
    Wireguard,
}

/// Where a command takes its token from.
#[derive(Args, Debug)]
pub struct TokenSource {
    /// The token; - reads it from standard input. Without this it is taken from `USHER_TOKEN`,
    /// else from `FLY_API_TOKEN`
    #[arg(long, value_name = "T|-")]
    pub token: Option<Secret>,
}

/// `usher token attenuate`.
#[derive(Args, Debug)]
pub struct Attenuate {
    /// The token.
    #[command(flatten)]
    pub source: TokenSource,
    /// The caveats to add, a JSON list of {"type": ..., "body": ...}; - reads standard input
    #[arg(long, value_name = "FILE|-")]
    pub caveats: PathBuf,
}

/// `usher token inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// The token.
    #[command(flatten)]
    pub source: TokenSource,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `usher token verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The token.
    #[command(flatten)]
    pub source: TokenSource,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `usher token revoke`.
#[derive(Args, Debug)]
pub struct Revoke {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// A UUID revokes every token that was attenuated from one; a token revokes itself and what
    /// is attenuated from it; - reads either from standard input
    #[arg(value_name = "ID|TOKEN")]
    pub what: Secret,
}

/// `usher token list`.
#[derive(Args, Debug)]
pub struct List {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print a JSON list
    #[arg(long)]
    pub json: bool,
}

/// `usher token discharge`.
#[derive(Args, Debug)]
pub struct Discharge {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The third party that answers, as in `authority.third_parties`
    #[arg(long, value_name = "URL")]
    pub location: String,
    /// The user who has proved who they are; the discharge says so
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub user: Option<u64>,
    /// How long it is valid: a number with s, m, h, d, w or y; 1h if the ticket permits that
    #[arg(long, value_name = "TIME")]
    pub expiry: Option<Lifetime>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// The ticket, as in `discharges` of a 401 answer; - reads standard input
    #[arg(value_name = "TICKET")]
    pub ticket: Secret,
}

/// `usher key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the signing keys; the keys themselves are never shown
    List(ConfigFile),
    /// Sign new tokens with a new key; tokens made before stay valid
    Rotate(ConfigFile),
    /// Accept the tokens of another issuer, too: take in the key that it signs with
    Import(KeyImport),
    /// Take a key out of use; its tokens stop working at once
    Retire(KeyRetire),
}

/// `usher key import`.
#[derive(Args, Debug)]
pub struct KeyImport {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The key's id, as the issuer's tokens carry it: text, or hex: and hexadecimal digits
    #[arg(long, value_name = "ID")]
    pub id: NewKeyId,
    /// The file with the key, 32 bytes in base64; - reads standard input
    #[arg(value_name = "FILE|-")]
    pub key: PathBuf,
}

/// `usher key retire`.
#[derive(Args, Debug)]
pub struct KeyRetire {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The key's id, as `usher key list` shows it
    #[arg(value_name = "KEY")]
    pub key: String,
}

/// `usher directory`.
#[derive(Debug, Subcommand)]
pub enum DirectoryCommand {
    /// Take a document of names into the store, all of it or nothing, and say what that changes
    ///
    /// The document is what `usher directory list --json` prints: the lists of the section
    /// `directory` in a configuration, as JSON or YAML. What it names replaces what is there
    /// under the same name or id; the rest stays. A running usher sees it within a second.
    Import(ImportNames),
    /// List the names in the store
    List(List),
}

/// `usher directory import`.
#[derive(Args, Debug)]
pub struct ImportNames {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Remove what the document does not name
    #[arg(long)]
    pub replace: bool,
    /// The document; - reads standard input
    #[arg(value_name = "FILE|-")]
    pub document: PathBuf,
}

/// How a command ended that did what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All is well.
    Yes,
    /// The command was a question, and the answer is no; it has been printed.
    No,
}

/// Runs `usher token`.
pub fn token(command: &TokenCommand, console: &mut Console<'_>) -> Result<Answer, CliError> {
    match command {
        TokenCommand::Create(args) => {
            let config = load(&args.config)?;
            let authority = open(&config, console)?;
            let directory = Directory::open(&config.directory, &Arc::default())?;
            create::run(
                args,
                &directory.view(&authority.snapshot().names),
                &authority,
                console,
            )?;
        }
        TokenCommand::Attenuate(args) => attenuate::run(args, console)?,
        TokenCommand::Inspect(args) => return inspect::run(args, console),
        TokenCommand::Verify(args) => {
            let config = load(&args.config)?;
            let authority = open(&config, console)?;
            return verify::run(args, &config.token_limits, &authority, console);
        }
        TokenCommand::Revoke(args) => {
            let config = load(&args.config)?;
            let authority = open(&config, console)?;
            revoke::run(args, &config.token_limits, &authority, console)?;
        }
        TokenCommand::List(args) => {
            let config = load(&args.config)?;
            let authority = open(&config, console)?;
            let directory = Directory::open(&config.directory, &Arc::default())?;
            ledger::run(
                args,
                &directory.view(&authority.snapshot().names),
                &authority,
                console,
            )?;
        }
        TokenCommand::Discharge(args) => {
            let config = load(&args.config)?;
            discharge::run(args, &open(&config, console)?, console)?;
        }
    }
    Ok(Answer::Yes)
}

/// Runs `usher key`.
pub fn key(command: &KeyCommand, console: &mut Console<'_>) -> Result<(), CliError> {
    let config = match command {
        KeyCommand::List(args) | KeyCommand::Rotate(args) => &args.config,
        KeyCommand::Import(args) => &args.config,
        KeyCommand::Retire(args) => &args.config,
    };
    let authority = open(&load(config)?, console)?;
    key::run(command, &authority, console)
}

/// Runs `usher directory`.
pub fn directory(command: &DirectoryCommand, console: &mut Console<'_>) -> Result<(), CliError> {
    let (DirectoryCommand::Import(ImportNames { config: path, .. })
    | DirectoryCommand::List(List { config: path, .. })) = command;
    let config = load(path)?;
    let authority = open(&config, console)?;
    match command {
        DirectoryCommand::Import(args) => {
            directory::import(args, &config.directory, &authority, console)
        }
        DirectoryCommand::List(args) => {
            directory::list(args, &config.directory, &authority, console)
        }
    }
}

/// `usher connect`.
pub fn connect(args: &Connect, console: &mut Console<'_>) -> Result<(), CliError> {
    connect::run(args, console)
}

/// Runs `usher check`.
pub fn check(args: &Check, console: &mut Console<'_>) -> Result<Answer, CliError> {
    check::run(args, console)
}

/// Runs `usher serve`.
pub fn serve(args: &ConfigFile, console: &mut Console<'_>) -> Result<(), CliError> {
    serve::run(args, console)
}

/// The first half of `usher serve`: reads the configuration, takes note of its files, prints its
/// warnings, opens the authority and starts to follow its store.
pub fn prepare(
    args: &ConfigFile,
    files: &mut Files,
    console: &mut Console<'_>,
) -> Result<(Config, Authority), CliError> {
    let (config, warnings) = config::load_noting(&args.config, files)?;
    for warning in &warnings {
        console.note(warning)?;
    }
    let mut authority = open(&config, console)?;
    authority.follow()?;
    Ok((config, authority))
}

fn load(path: &Path) -> Result<Config, CliError> {
    // Warnings are for `usher check` and `usher serve`; here they would only stand in the way.
    Ok(config::load(path).map(|(config, _warnings)| config)?)
}

fn open(config: &Config, console: &Console<'_>) -> Result<Authority, CliError> {
    Ok(Authority::open(&config.authority, console.now)?)
}

/// A usage error in clap's own form.
fn usage(message: impl std::fmt::Display) -> CliError {
    Cli::command()
        .error(clap::error::ErrorKind::ArgumentConflict, message)
        .into()
}

#[cfg(test)]
mod tests;

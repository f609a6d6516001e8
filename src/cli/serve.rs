//! `usher serve`.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use super::{CliError, ConfigFile, Console};
use crate::authority::Authority;
use crate::authz::Authorizer;
use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::proxy::Server;
use crate::shutdown::Shutdown;

/// Serves until a signal ends it; returns after the drain.
pub(super) fn run(args: &ConfigFile, console: &mut Console<'_>) -> Result<(), CliError> {
    let (server, _authority) = open(args, console)?;
    let shutdown = Shutdown::on_signals().map_err(CliError::Signals)?;
    log_to_stderr();
    for address in server.addresses() {
        tracing::info!(%address, "listening");
    }
    if let Some(address) = server.admin_address() {
        tracing::info!(%address, "admin listening");
    }
    Ok(server.run(shutdown)?)
}

/// From a configuration file to a server that only has to be run, and the authority whose tokens
/// it accepts.
pub(crate) fn open(
    args: &ConfigFile,
    console: &mut Console<'_>,
) -> Result<(Server, Arc<Authority>), CliError> {
    let (config, authority) = super::prepare(args, console)?;
    let (config, metrics) = (Arc::new(config), Arc::new(Metrics::new()));
    let authority = Arc::new(authority);
    let authorizer = Authorizer::new(
        Arc::clone(&config),
        Arc::clone(&authority),
        Arc::new(Directory::open(&config.directory, &metrics)?),
        Arc::clone(&metrics),
    );
    let server = Server::open(&config, Arc::new(authorizer), metrics)?;
    Ok((server, authority))
}

/// Text on a terminal, else a JSON object a line. `USHER_LOG` filters, in the syntax of
/// `tracing_subscriber::EnvFilter`; without it, `info`.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("USHER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A subscriber that is already there, as in tests, stays.
    let _already_set = if std::io::stderr().is_terminal() {
        subscriber.try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
}

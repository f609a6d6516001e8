//! `usher serve`.

use std::sync::Arc;

use super::log::log_to_stderr;
use super::{CliError, ConfigFile, Console};
use crate::authority::Authority;
use crate::authz::Authorizer;
use crate::config::Files;
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

/// From a configuration file to a server that only has to be run, and that follows the file, and
/// the authority whose tokens it accepts.
pub(crate) fn open(
    args: &ConfigFile,
    console: &mut Console<'_>,
) -> Result<(Server, Arc<Authority>), CliError> {
    let mut files = Files::default();
    let (config, authority) = super::prepare(args, &mut files, console)?;
    let (config, metrics) = (Arc::new(config), Arc::new(Metrics::new()));
    let authority = Arc::new(authority);
    let authorizer = Authorizer::new(
        Arc::clone(&config),
        Arc::clone(&authority),
        Arc::new(Directory::open(&config.directory, &metrics)?),
        Arc::clone(&metrics),
    );
    let server = Server::open(&config, Arc::new(authorizer), metrics)?;
    Ok((server.following(args.config.clone(), files), authority))
}

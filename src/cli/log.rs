//! What is logged, and how it looks.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Logs to standard error: text on a terminal, else a JSON object a line. `USHER_LOG` filters, in
/// the syntax of `tracing_subscriber::EnvFilter`; without it, `info`.
pub fn log_to_stderr() {
    let directives = std::env::var("USHER_LOG");
    let attended = io::stderr().is_terminal();
    log_to(
        io::stderr,
        directives.as_deref().unwrap_or("info"),
        attended,
    );
}

/// The same to somewhere else.
pub fn log_to<W>(writer: W, directives: &str, attended: bool)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(is_discreet));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    // A subscriber that is already there, as in tests, stays.
    let _already_set = if attended {
        registry.with(lines).try_init()
    } else {
        registry.with(lines.json().flatten_event(true)).try_init()
    };
}

/// Whether an event is known to hold no more of a request than usher itself would tell.
///
/// Libraries do not know what is a secret here: below `info`, h2 prints paths, authorities and
/// fields that it does not like, as they came. No filter opens that.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let own = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    own || *metadata.level() <= Level::INFO
}

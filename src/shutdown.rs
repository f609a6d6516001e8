//! From signals to an orderly end: first drain, then cut.

use std::io;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two steps of an end. Clones share them; both are levels, so a late listener misses neither.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Accept nothing more, finish what is open.
    pub drain: CancellationToken,
    /// Close what is still open.
    pub cut: CancellationToken,
}

impl Shutdown {
    /// Drains at the first SIGTERM or SIGINT, cuts at the second.
    ///
    /// # Errors
    ///
    /// When the signal handlers or their thread cannot be set up.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (mut terminate, mut interrupt) = {
            let _context = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            )
        };
        let steps = [shutdown.drain.clone(), shutdown.cut.clone()];
        thread::Builder::new()
            .name("usher-signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    for step in steps {
                        tokio::select! {
                            _ = terminate.recv() => {}
                            _ = interrupt.recv() => {}
                        }
                        step.cancel();
                    }
                });
            })?;
        Ok(shutdown)
    }
}

impl From<CancellationToken> for Shutdown {
    /// Drains when the token is cancelled; never cuts before the deadline of the drain.
    fn from(drain: CancellationToken) -> Self {
        Self {
            drain,
            cut: CancellationToken::new(),
        }
    }
}

//! What signals ask of a running server: to read its configuration again, and an orderly end, which
//! is first to drain, then to cut.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The two steps of an end, and what may come before it. Clones share them; the steps are levels, so
/// that a late listener misses neither.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Accept nothing more, finish what is open.
    pub drain: CancellationToken,
    /// Close what is still open.
    pub cut: CancellationToken,
    /// Read the configuration again; kept for the listener if there is none yet.
    pub reload: Arc<Notify>,
}

impl Shutdown {
    /// Drains at the first SIGTERM or SIGINT, cuts at the second. Reloads at every SIGHUP.
    ///
    /// # Errors
    ///
    /// When the signal handlers or their thread cannot be set up.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (mut terminate, mut interrupt, mut hangup) = {
            let _context = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        let steps = [shutdown.drain.clone(), shutdown.cut.clone()];
        let reload = Arc::clone(&shutdown.reload);
        thread::Builder::new()
            .name("usher-signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    for step in steps {
                        loop {
                            tokio::select! {
                                _ = terminate.recv() => break,
                                _ = interrupt.recv() => break,
                                _ = hangup.recv() => reload.notify_one(),
                            }
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
            reload: Arc::default(),
        }
    }
}

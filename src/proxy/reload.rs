//! What changes on disk while usher runs: its configuration, certificates, keys and roots.
//!
//! One thread looks at the files, and is also told to. A configuration is compiled whole, and what
//! it names is opened, before any worker hears of it; then each worker takes it over between two
//! requests.
//!
//! **Invariant**: what cannot be used replaces nothing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::interval;

use super::decide::Decider;
use super::setup::Setup;
use super::tls::Reloader;
use super::{Plan, StartError};
use crate::authz::Authorizer;
use crate::config::{self, Config, ConfigError, Files};
use crate::directory::DirectoryError;
use crate::metrics::{Metrics, Reloads};
use crate::shutdown::Shutdown;

/// Everything that is made of files, and what looks after it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) certificates: Reloader,
    pub(super) configuration: Option<Following>,
}

impl Watch {
    /// Starts the thread, if there is anything to look after.
    pub(super) fn start(self, shutdown: &Shutdown) -> io::Result<Option<JoinHandle<()>>> {
        let Self {
            mut certificates,
            mut configuration,
        } = self;
        if certificates.is_idle() && configuration.is_none() {
            return Ok(None);
        }
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let Shutdown { drain, reload, .. } = shutdown.clone();
        let look_after = async move {
            let mut ticks = interval(LOOK_INTERVAL);
            loop {
                let told = tokio::select! {
                    () = drain.cancelled() => return,
                    () = reload.notified() => true,
                    _ = ticks.tick() => false,
                };
                if let Some(configuration) = &mut configuration {
                    configuration.look(told, &mut certificates);
                }
                certificates.look();
            }
        };
        let run = move || runtime.block_on(look_after);
        let thread = thread::Builder::new().name("usher-reload".to_owned());
        thread.spawn(run).map(Some)
    }
}

/// The configuration that is served, and where the next one will be found.
#[derive(Debug)]
pub(super) struct Following {
    path: PathBuf,
    files: Files,
    authorizer: Arc<Authorizer>,
    /// Those before it, until the last request lets go of them. They end here, since the thread
    /// that asks for names ends with them, and whoever drops them waits for it.
    retired: Vec<Arc<Authorizer>>,
    setups: watch::Sender<Arc<Setup>>,
    metrics: Arc<Metrics>,
    reloads: Reloads,
}

impl Following {
    /// Follows the file that the configuration of `authorizer` was read from, with all of `files`.
    pub(super) fn new(
        path: PathBuf,
        files: Files,
        authorizer: Arc<Authorizer>,
        setups: watch::Sender<Arc<Setup>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            path,
            files,
            authorizer,
            retired: Vec::new(),
            setups,
            reloads: metrics.config_reloads(),
            metrics,
        }
    }

    fn look(&mut self, told: bool, certificates: &mut Reloader) {
        self.retired.retain(|before| Arc::strong_count(before) > 1);
        if !told && self.files.changed().is_none() {
            return;
        }
        let mut files = Files::default();
        let next = self.next(&mut files, certificates);
        // Also of one that cannot be used: it is looked at again when there is another.
        self.files = files;
        match next {
            Ok((authorizer, setup)) => {
                let before = std::mem::replace(&mut self.authorizer, authorizer);
                self.retired.push(before);
                self.setups.send_replace(Arc::new(setup));
                self.reloads.loaded.inc();
                self.metrics.config_stale.set(0);
                tracing::info!("configuration reloaded");
            }
            Err(error) => {
                self.reloads.failed.inc();
                self.metrics.config_stale.set(1);
                error.tell();
            }
        }
    }

    /// Compiles and opens what is there now. Workers hear of it only after all of that.
    fn next(
        &self,
        files: &mut Files,
        certificates: &mut Reloader,
    ) -> Result<(Arc<Authorizer>, Setup), ReloadError> {
        let (config, warnings) = config::load_noting(&self.path, files)?;
        let current = self.authorizer.config();
        let sections = current.needs_restart(&config);
        if !sections.is_empty() {
            return Err(ReloadError::Restart(sections.join(", ")));
        }
        let standing = current.standing_routes(&config);
        let config = Arc::new(config);
        let authorizer = Arc::new(self.authorizer.renewed(Arc::clone(&config))?);
        let setup = self.setup(&config, &standing, &authorizer, certificates)?;
        for problem in warnings {
            tracing::warn!(%problem, "configuration");
        }
        Ok((authorizer, setup))
    }

    fn setup(
        &self,
        config: &Config,
        standing: &[Option<usize>],
        authorizer: &Arc<Authorizer>,
        certificates: &mut Reloader,
    ) -> Result<Setup, StartError> {
        let before = Arc::clone(&self.setups.borrow());
        let decider = Decider::Authorizer(Arc::clone(authorizer));
        let plan = Plan::of(config);
        before.next(&plan, standing, decider, certificates, &self.metrics)
    }
}

/// Why a configuration is not put into use.
#[derive(Debug, Error)]
enum ReloadError {
    /// It cannot be read, or is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is right, and changes what only a start can change.
    #[error(
        "{0}: this is put into use by a start only; restart usher, or take the change back so that others can be reloaded"
    )]
    Restart(String),
    /// A source of the directory cannot be opened.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file or secret that it names cannot be had.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl ReloadError {
    /// One event for everything that somebody has to mend.
    fn tell(&self) {
        if let Self::Config(ConfigError::Invalid(problems)) = self {
            for problem in problems {
                tracing::error!(%problem, "{NOT_RELOADED}");
            }
        } else {
            let error: &(dyn std::error::Error + 'static) = self;
            tracing::error!(error, "{NOT_RELOADED}");
        }
    }
}

const NOT_RELOADED: &str = "configuration not reloaded, the old one stays in use";

/// How often the files are read. A change is used at the second look that finds it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

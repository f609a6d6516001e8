//! Certificates, keys and roots that change on disk while usher runs.
//!
//! One thread reads the files again and again and compares what is in them: a handful of small
//! files, so that nothing depends on how they are replaced. Times of modification lie after a
//! restored backup, and notifications follow the file rather than the name, where secrets are
//! mounted as links to links.
//!
//! **Invariant**: what cannot be used replaces nothing.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Builder;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Current, StartError, client, server};
use crate::config::{Listener, ListenerTls, Upstream};
use crate::metrics::{Metrics, TlsReloads};

/// Everything that is made of files, and what looks after it.
#[derive(Debug)]
pub(in crate::proxy) struct Reloader {
    watched: Vec<Watched>,
    reloads: TlsReloads,
}

impl Reloader {
    /// Nothing to look after yet.
    pub(in crate::proxy) fn new(metrics: &Metrics) -> Self {
        Self {
            watched: Vec::new(),
            reloads: metrics.tls_reloads(),
        }
    }

    /// Loads what a listener needs, and looks after it from then on; `None` is cleartext.
    pub(in crate::proxy) fn listener(
        &mut self,
        listener: &Listener,
    ) -> Result<Option<Current<ServerConfig>>, StartError> {
        let Some(tls) = &listener.tls else {
            return Ok(None);
        };
        let mut files = vec![tls.identity.certificate.clone(), tls.identity.key.clone()];
        files.extend(tls.clients.as_ref().map(|clients| clients.ca.clone()));
        // Looked at before it is loaded: what changes in between is loaded once more.
        let files = Files::new(files);
        let current = Current::new(server(tls)?);
        self.watched.push(Watched {
            name: format!("listener {}", listener.address),
            files,
            user: User::Listener(tls.clone(), current.clone()),
        });
        Ok(Some(current))
    }

    /// The same for an upstream; `None` if none of its servers speaks TLS.
    pub(in crate::proxy) fn upstream(
        &mut self,
        upstream: &Upstream,
    ) -> Result<Option<Current<ClientConfig>>, StartError> {
        if !upstream.urls.iter().any(|url| url.tls) {
            return Ok(None);
        }
        let identity = upstream.identity.iter();
        let identity = identity.flat_map(|own| [own.certificate.clone(), own.key.clone()]);
        let files = Files::new(upstream.ca.iter().cloned().chain(identity).collect());
        let current = Current::new(client(upstream)?);
        self.watched.push(Watched {
            name: format!("upstream {}", upstream.name),
            files,
            user: User::Upstream(Box::new(upstream.clone()), current.clone()),
        });
        Ok(Some(current))
    }

    /// Starts the thread, if there is anything to look after.
    pub(in crate::proxy) fn start(
        self,
        drain: CancellationToken,
    ) -> io::Result<Option<JoinHandle<()>>> {
        let Self {
            mut watched,
            reloads,
        } = self;
        watched.retain(|watched| !watched.files.paths.is_empty());
        if watched.is_empty() {
            return Ok(None);
        }
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let look_after = async move {
            let mut ticks = interval(LOOK_INTERVAL);
            while drain.run_until_cancelled(ticks.tick()).await.is_some() {
                for watched in &mut watched {
                    watched.look(&reloads);
                }
            }
        };
        let run = move || runtime.block_on(look_after);
        let thread = thread::Builder::new().name("usher-tls".to_owned());
        thread.spawn(run).map(Some)
    }
}

/// A listener or an upstream.
#[derive(Debug)]
struct Watched {
    /// For the log.
    name: String,
    files: Files,
    user: User,
}

/// Who uses the files.
#[derive(Debug)]
enum User {
    Listener(ListenerTls, Current<ServerConfig>),
    Upstream(Box<Upstream>, Current<ClientConfig>),
}

/// Loaded and not yet used.
enum Loaded<'a> {
    Listener(&'a Current<ServerConfig>, Arc<ServerConfig>),
    Upstream(&'a Current<ClientConfig>, Arc<ClientConfig>),
}

impl Watched {
    fn look(&mut self, reloads: &TlsReloads) {
        let Some(changed) = self.files.changed() else {
            return;
        };
        let loaded = self.user.load();
        if !self.files.settle(changed) {
            return;
        }
        match loaded {
            Ok(loaded) => {
                loaded.replace();
                reloads.loaded.inc();
                tracing::info!(of = self.name, "certificates reloaded");
            }
            Err(error) => {
                reloads.failed.inc();
                tracing::error!(
                    of = self.name,
                    error = &error as &(dyn std::error::Error + 'static),
                    "certificates not reloaded, the old ones stay in use"
                );
            }
        }
    }
}

impl User {
    fn load(&self) -> Result<Loaded<'_>, StartError> {
        Ok(match self {
            Self::Listener(tls, current) => Loaded::Listener(current, server(tls)?),
            Self::Upstream(upstream, current) => Loaded::Upstream(current, client(upstream)?),
        })
    }
}

impl Loaded<'_> {
    fn replace(self) {
        match self {
            Self::Listener(current, next) => current.replace(next),
            Self::Upstream(current, next) => current.replace(next),
        }
    }
}

/// Files that only make sense together.
#[derive(Debug)]
struct Files {
    paths: Vec<PathBuf>,
    /// What was in them when they were last loaded, with whatever success.
    known: Content,
    /// What was in them a look ago, if that was something else.
    seen: Option<Content>,
}

impl Files {
    fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            known: Content::of(&paths),
            paths,
            seen: None,
        }
    }

    /// What is in them, if it is neither known nor just being written: it was there at the last
    /// look as well. Certificate and key are rarely replaced in one step, and a certificate
    /// beside the other's key is nothing to complain about yet.
    fn changed(&mut self) -> Option<Content> {
        let content = Content::of(&self.paths);
        let seen = self.seen.replace(content);
        (content != self.known && seen == Some(content)).then_some(content)
    }

    /// Takes note that this was loaded, unless the files have changed meanwhile.
    fn settle(&mut self, loaded: Content) -> bool {
        let settled = Content::of(&self.paths) == loaded;
        if settled {
            self.known = loaded;
        }
        settled
    }
}

/// A digest of what is in some files, or of why that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content([u8; 32]);

impl Content {
    fn of(paths: &[PathBuf]) -> Self {
        let mut digest = Sha256::new();
        for path in paths {
            match fs::read(path).map(Zeroizing::new) {
                Ok(bytes) => {
                    digest.update(b"file");
                    digest.update(Sha256::digest(&*bytes));
                }
                Err(error) => digest.update(format!("none, {:?}.", error.kind())),
            }
        }
        Self(digest.finalize().into())
    }
}

/// How often the files are read. A change is loaded at the second look that finds it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files in a folder, as they are at the first look.
    fn two() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| folder.path().join(name));
        for path in &paths {
            fs::write(path, "first").unwrap();
        }
        let mut files = Files::new(paths.to_vec());
        assert_eq!(files.changed(), None);
        (folder, files)
    }

    #[test]
    fn a_change_counts_at_the_second_look_and_once() {
        let (_folder, mut files) = two();
        for next in ["second", "first"] {
            fs::write(&files.paths[1], next).unwrap();
            assert_eq!(files.changed(), None);
            let changed = files.changed().unwrap();
            assert!(files.settle(changed));
            assert_eq!(files.changed(), None);
        }
    }

    #[test]
    fn what_changes_while_it_is_loaded_is_loaded_again() {
        let (_folder, mut files) = two();
        fs::write(&files.paths[0], "second").unwrap();
        assert_eq!(files.changed(), None);
        let changed = files.changed().unwrap();
        fs::write(&files.paths[1], "second").unwrap();
        assert!(!files.settle(changed));
        assert_eq!(files.changed(), None);
        assert!(files.changed().is_some_and(|again| again != changed));
    }

    #[test]
    fn a_change_taken_back_is_none() {
        let (_folder, mut files) = two();
        fs::write(&files.paths[0], "second").unwrap();
        assert_eq!(files.changed(), None);
        fs::write(&files.paths[0], "first").unwrap();
        assert_eq!((files.changed(), files.changed()), (None, None));
    }

    #[test]
    fn files_are_told_apart_and_so_are_those_that_are_not_there() {
        let (folder, mut files) = two();
        let first = files.known;
        // The same bytes, divided in another way.
        fs::write(&files.paths[0], "firstfir").unwrap();
        fs::write(&files.paths[1], "st").unwrap();
        assert_ne!(Content::of(&files.paths), first);
        fs::remove_file(&files.paths[1]).unwrap();
        let missing = Content::of(&files.paths);
        fs::write(&files.paths[1], "").unwrap();
        assert_ne!(Content::of(&files.paths), missing);
        drop(folder);
        assert_eq!(files.changed(), None);
        assert!(files.changed().is_some());
    }
}

//! Certificates, keys and roots that change on disk while usher runs.
//!
//! **Invariant**: what cannot be used replaces nothing.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use super::{Current, StartError, client, server};
use crate::config::{Files, Listener, ListenerTls, Upstream};
use crate::metrics::{Metrics, Reloads};

/// Everything that is made of files, and what looks after it.
#[derive(Debug)]
pub(in crate::proxy) struct Reloader {
    watched: Vec<Watched>,
    reloads: Reloads,
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
        let files = Files::of(files);
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
        let files = Files::of(upstream.ca.iter().cloned().chain(identity));
        let current = Current::new(client(upstream)?);
        self.watched.push(Watched {
            name: format!("upstream {}", upstream.name),
            files,
            user: User::Upstream(Box::new(upstream.clone()), current.clone()),
        });
        Ok(Some(current))
    }

    /// Whether nothing is there that could change.
    pub(in crate::proxy) fn is_idle(&self) -> bool {
        self.watched.iter().all(|watched| watched.files.is_empty())
    }

    /// Looks at everything that somebody still uses.
    pub(in crate::proxy) fn look(&mut self) {
        self.watched.retain(|watched| watched.user.is_there());
        for watched in &mut self.watched {
            watched.look(&self.reloads);
        }
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
    fn look(&mut self, reloads: &Reloads) {
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
    /// Whether there is another one: a listener that listens, an upstream of some worker.
    fn is_there(&self) -> bool {
        match self {
            Self::Listener(_, current) => current.is_shared(),
            Self::Upstream(_, current) => current.is_shared(),
        }
    }

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

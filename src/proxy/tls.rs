//! TLS on both sides: rustls configurations from the compiled configuration.

mod reload;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};

use super::StartError;
use crate::config::{ListenerTls, Protocol, Upstream};
use crate::peer::{self, PeerError};

pub(super) use reload::Reloader;

/// What connections begin with from now on. Clones see the same; a connection keeps what it has
/// begun with.
#[derive(Clone, Debug)]
pub(super) struct Current<T>(Arc<ArcSwap<T>>);

impl<T> Current<T> {
    fn new(first: Arc<T>) -> Self {
        Self(Arc::new(ArcSwap::new(first)))
    }

    /// For one connection.
    pub(super) fn now(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Whether connections still begin with this.
    pub(super) fn is(&self, begun: &Arc<T>) -> bool {
        Arc::ptr_eq(&self.0.load(), begun)
    }

    /// Whether there is another clone.
    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn replace(&self, next: Arc<T>) {
        self.0.store(next);
    }
}

/// For a listener: HTTP/2 or HTTP/1.1 by ALPN, and client certificates as configured.
///
/// Sessions are resumed only where no client certificates are asked for. A resumed session is not
/// verified again, and would outlive the certificate, or the roots, that it was begun with.
fn server(tls: &ListenerTls) -> Result<Arc<ServerConfig>, StartError> {
    let config = ServerConfig::builder_with_provider(peer::provider())
        .with_protocol_versions(peer::TLS_VERSIONS)?;
    let config = match &tls.clients {
        None => config.with_no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(peer::roots(&clients.ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, peer::provider());
            let verifier = match clients.required {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|source| PeerError::Clients {
                path: clients.ca.clone(),
                source,
            })?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config.with_cert_resolver(Arc::new(peer::identity(&tls.identity)?));
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    if tls.clients.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = Ticketer::new()?;
    }
    Ok(Arc::new(config))
}

/// For an upstream: its own roots, else those of the system, and what it is shown.
fn client(upstream: &Upstream) -> Result<Arc<ClientConfig>, StartError> {
    let name = match upstream.protocol {
        Protocol::Http1 => HTTP11,
        Protocol::Http2 => H2,
    };
    let (ca, identity) = (upstream.ca.as_deref(), upstream.identity.as_ref());
    Ok(peer::tls(ca, identity, name)?)
}

/// ALPN name of HTTP/2.
pub(super) const H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1.
const HTTP11: &[u8] = b"http/1.1";

//! TLS on both sides: rustls configurations from the compiled configuration.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ServerConfig};

use super::StartError;
use crate::config::{Protocol, TlsIdentity};
use crate::peer::{self, PeerError};

/// For a listener: HTTP/2 or HTTP/1.1 by ALPN, no client certificates.
pub(super) fn server(identity: &TlsIdentity) -> Result<Arc<ServerConfig>, StartError> {
    let chain = peer::certificates(&identity.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|source| PeerError::Pem {
        path: identity.key.clone(),
        source,
    })?;
    let mut config = ServerConfig::builder_with_provider(peer::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// For an upstream: its own roots, else those of the system.
pub(super) fn client(
    ca: Option<&Path>,
    protocol: Protocol,
) -> Result<Arc<ClientConfig>, StartError> {
    let name = match protocol {
        Protocol::Http1 => HTTP11,
        Protocol::Http2 => H2,
    };
    Ok(peer::tls(ca, name)?)
}

/// ALPN name of HTTP/2.
pub(super) const H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1.
const HTTP11: &[u8] = b"http/1.1";

//! What it takes to be a client of another server: roots to trust it by, and a credential to be
//! trusted with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::config::{Credential, Secret};

/// TLS towards a server: its own roots, else those of the system, and the one protocol to choose
/// by ALPN.
pub(crate) fn tls(ca: Option<&Path>, protocol: &[u8]) -> Result<Arc<ClientConfig>, PeerError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(PeerError::NoRoots);
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PeerError> {
    let pem = |source| PeerError::Pem {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem)?;
    if chain.is_empty() {
        return Err(pem(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(chain)
}

/// Named, so that nothing depends on what the process installed as its default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads a credential, marked so that no log shows it.
pub(crate) fn credential(credential: &Credential) -> Result<(HeaderName, HeaderValue), PeerError> {
    let text = match &credential.value {
        Secret::Env(name) => {
            std::env::var(name).map_err(|_| PeerError::SecretEnv { name: name.clone() })?
        }
        Secret::File(path) => {
            std::fs::read_to_string(path).map_err(|source| PeerError::SecretFile {
                path: path.clone(),
                source,
            })?
        }
    };
    let mut value = HeaderValue::from_str(text.trim()).map_err(|_| PeerError::SecretBytes {
        header: credential.header.clone(),
    })?;
    value.set_sensitive(true);
    Ok((credential.header.clone(), value))
}

/// Why no server can be talked to. All of it is the configuration, or what that names.
#[derive(Debug, Error)]
pub enum PeerError {
    /// A certificate or key file cannot be read.
    #[error("{} is not a PEM file with the certificate or key that is needed", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate and its key do not fit, or a root is unusable.
    #[error("the TLS certificates cannot be used")]
    Tls(#[from] rustls::Error),
    /// An `https` server, and no roots to check it with.
    #[error("no trusted roots for https; set `ca` or install the system's certificates")]
    NoRoots,
    /// A secret's environment variable is missing or not text.
    #[error("the environment variable {name} is not set; it holds a credential")]
    SecretEnv {
        /// Its name.
        name: String,
    },
    /// A secret's file cannot be read.
    #[error("cannot read {}, which holds a credential", path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A secret cannot be sent in a header.
    #[error("the credential for the header {header} has bytes that no header may have")]
    SecretBytes {
        /// The header.
        header: HeaderName,
    },
}

//! What it takes to be a client of another server: roots to trust it by, and a credential to be
//! trusted with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::VerifierBuilderError;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use thiserror::Error;

use crate::config::{Credential, Secret, TlsIdentity};

/// TLS towards a server: its own roots, else those of the system; what is shown to it if it asks;
/// and the one protocol to choose by ALPN.
pub(crate) fn tls(
    ca: Option<&Path>,
    own: Option<&TlsIdentity>,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, PeerError> {
    let roots = match ca {
        Some(path) => roots(path)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if roots.is_empty() {
        return Err(PeerError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS_VERSIONS)?
        .with_root_certificates(roots);
    let mut config = match own {
        Some(own) => config.with_client_cert_resolver(Arc::new(identity(own)?)),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// What is spoken on both sides. rustls knows no older versions; that it may learn of newer ones
/// is no reason to speak them unseen.
pub(crate) const TLS_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Reads a certificate and its key, which belong together.
pub(crate) fn identity(identity: &TlsIdentity) -> Result<SingleCertAndKey, PeerError> {
    let chain = certificates(&identity.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|source| PeerError::Pem {
        path: identity.key.clone(),
        source,
    })?;
    let both = CertifiedKey::from_der(chain, key, &provider());
    let both = both.map_err(|source| PeerError::Identity {
        certificate: identity.certificate.clone(),
        key: identity.key.clone(),
        source,
    })?;
    Ok(SingleCertAndKey::from(both))
}

/// The roots of a PEM file, at least one.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, PeerError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| PeerError::Root {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

/// The certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PeerError> {
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
    /// A certificate and its key do not fit, or one of them is unusable.
    #[error("the certificate {} and the key {} cannot be used together", certificate.display(), key.display())]
    Identity {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// A root is unusable.
    #[error("a certificate in {} cannot be used as a root", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// No client certificate can be verified with the roots.
    #[error("client certificates cannot be verified with {}", path.display())]
    Clients {
        /// The file of the roots.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: VerifierBuilderError,
    },
    /// The TLS library cannot do what it should.
    #[error("TLS cannot be used as configured")]
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

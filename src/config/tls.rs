//! TLS, as far as it is configured: files, none of which is opened here.

use std::path::PathBuf;

/// How a listener speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// What usher shows to clients.
    pub identity: TlsIdentity,
    /// Whether clients show certificates as well; `None` does not ask for any.
    pub clients: Option<ClientCertificates>,
}

/// Certificates that clients of a listener show. They authenticate the hop and permit nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM roots that they are verified with; the system's are never used for this.
    pub ca: PathBuf,
    /// Whether a client without one is refused. One that does not verify always is.
    pub required: bool,
}

/// Paths of a PEM certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

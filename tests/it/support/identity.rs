//! Certificates: of servers, for `localhost`, and of clients.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, generate_simple_self_signed,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DEFAULT_VERSIONS, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};

use super::canary;
use super::peer::{self, Peer};

/// A certificate with its key, in memory and in files as a configuration names them.
pub(crate) struct Identity {
    _folder: tempfile::TempDir,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    der: CertificateDer<'static>,
    key_der: PrivateKeyDer<'static>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let names = vec!["localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        Self::of(&cert, &signing_key)
    }

    fn of(cert: &rcgen::Certificate, signing_key: &KeyPair) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("cert.pem");
        let key = folder.path().join("key.pem");
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        hide(&signing_key.serialize_der());
        Self {
            certificate,
            key,
            der: cert.der().clone(),
            key_der: PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
            _folder: folder,
        }
    }

    /// For a server that shows it.
    pub(crate) fn server(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], self.key_der.clone_key())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// For a server that shows it, and serves whom `ca` has given a certificate.
    pub(crate) fn demanding(&self, ca: &Ca) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.issuer.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![self.der.clone()], self.key_der.clone_key())
            .unwrap();
        Arc::new(config)
    }

    /// For a client that trusts nothing else.
    pub(crate) fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        self.client_as(None, DEFAULT_VERSIONS, alpn)
    }

    /// For a client that trusts nothing else, and shows a certificate of its own if it has one.
    pub(crate) fn client_as(
        &self,
        own: Option<&Self>,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some(own) => config
                .with_client_auth_cert(vec![own.der.clone()], own.key_der.clone_key())
                .unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Connects, and says what was settled by ALPN.
    pub(crate) fn connect(&self, address: SocketAddr, alpn: &[&str]) -> (Peer, Option<String>) {
        let mut tcp = peer::prepared(TcpStream::connect(address).unwrap());
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(self.client(alpn), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).unwrap();
        }
        let settled = tls
            .alpn_protocol()
            .map(|name| String::from_utf8(name.to_vec()).unwrap());
        (Peer::new(StreamOwned::new(tls, tcp)), settled)
    }
}

/// Has the scalar of a private key looked for: the rest of PKCS #8 is in every such key, or in the
/// certificate.
fn hide(pkcs8: &[u8]) {
    let at = pkcs8.windows(2).position(|mark| mark == [4, 32]).unwrap();
    canary::hide(&pkcs8[at + 2..at + 34]);
}

/// An authority that gives clients certificates.
pub(crate) struct Ca {
    _folder: tempfile::TempDir,
    pub(crate) certificate: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    /// Authorities of one name are still two.
    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("ca.pem");
        std::fs::write(&certificate, issuer.pem()).unwrap();
        Self {
            certificate,
            issuer,
            _folder: folder,
        }
    }

    pub(crate) fn client(&self) -> Identity {
        let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        Identity::of(&params.signed_by(&key, &self.issuer).unwrap(), &key)
    }
}

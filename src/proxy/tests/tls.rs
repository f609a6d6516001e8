use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::support::*;
use crate::config::{ListenerTls, TlsIdentity};

/// A certificate for `localhost`, in files as a configuration names them.
struct Identity {
    _dir: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
    der: CertificateDer<'static>,
    key_der: PrivateKeyDer<'static>,
}

impl Identity {
    fn new() -> Self {
        let names = vec!["localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        Self {
            certificate,
            key,
            der: cert.der().clone(),
            key_der: PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
            _dir: dir,
        }
    }

    fn listener(&self) -> ListenerTls {
        ListenerTls {
            identity: TlsIdentity {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            },
            clients: None,
        }
    }
}

/// Answers one request on each connection, inside TLS, and closes it.
fn upstream(identity: &Identity) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.der.clone()], identity.key_der.clone_key())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tcp = tcp.unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let mut head = [0; 4096];
            // A client that does not trust the certificate leaves here.
            if stream.read(&mut head).is_ok_and(|n| n > 0) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                stream.write_all(answer).unwrap();
            }
        }
    });
    address
}

/// Sends one request inside TLS, and returns what was settled by ALPN and what came back.
fn ask(edge: &Edge, identity: &Identity, alpn: &[&[u8]]) -> (Option<Vec<u8>>, String) {
    let mut roots = RootCertStore::empty();
    roots.add(identity.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tcp = TcpStream::connect(edge.address).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    stream
        .write_all(b"GET /a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut response = Vec::new();
    // The edge may end the connection without a close_notify; what came before counts.
    let _ended = stream.read_to_end(&mut response);
    let settled = tls.alpn_protocol().map(<[u8]>::to_vec);
    (settled, String::from_utf8_lossy(&response).into_owned())
}

fn edge(identity: &Identity, upstream: SocketAddr, host: &str) -> Edge {
    Edge::secured(
        identity.listener(),
        upstream,
        host,
        identity.certificate.clone(),
    )
}

#[test]
fn tls_is_spoken_on_both_sides() {
    let identity = Identity::new();
    let edge = edge(&identity, upstream(&identity), "localhost");
    for alpn in [&[][..], &[b"http/1.1".as_slice()]] {
        let (settled, response) = ask(&edge, &identity, alpn);
        assert_eq!(settled.as_deref(), alpn.first().copied());
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("ok"), "{response}");
    }
}

#[test]
fn http2_is_preferred_and_then_nothing_else_is_understood() {
    let identity = Identity::new();
    let edge = edge(&identity, upstream(&identity), "localhost");
    let (settled, response) = ask(&edge, &identity, &[b"http/1.1", b"h2"]);
    assert_eq!(settled.as_deref(), Some(b"h2".as_slice()));
    assert!(!response.contains("HTTP/1.1"), "{response}");
}

#[test]
fn an_upstream_with_another_name_is_not_trusted() {
    let identity = Identity::new();
    let edge = edge(&identity, upstream(&identity), "127.0.0.1");
    let (_, response) = ask(&edge, &identity, &[]);
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
}

#[test]
fn a_failed_handshake_is_counted_and_ends_nothing_else() {
    let identity = Identity::new();
    let edge = edge(&identity, upstream(&identity), "localhost");
    let mut stranger = edge.connect();
    stranger.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    stranger.rest();
    let (_, response) = ask(&edge, &identity, &[]);
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(edge.metric("usher_tls_failures_total"), 1);
}

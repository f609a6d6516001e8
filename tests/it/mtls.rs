//! Certificates of clients and of usher itself, and TLS versions.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, StreamOwned, SupportedProtocolVersion,
};
use usher::authority::Kind;

use crate::support::{Ca, Identity, Peer, Recorder, Usher, World};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A world whose listener has this identity and asks for certificates as `more` says.
fn listening(upstream: SocketAddr, certificate: &Path, key: &Path, more: &str) -> World {
    let (certificate, key) = (certificate.display(), key.display());
    let tls = format!("{{ certificate: {certificate}, key: {key}{more} }}");
    let listener = format!("- {{ address: 127.0.0.1:0, tls: {tls} }}");
    World::before(upstream).with("- address: 127.0.0.1:0", listener)
}

fn asking(upstream: SocketAddr, server: &Identity, ca: &Path, how: &str) -> World {
    let more = format!(", client_ca: {}{how}", ca.display());
    listening(upstream, &server.certificate, &server.key, &more)
}

fn client(
    server: &Identity,
    own: Option<&Identity>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    server.client_as(own, &[version], &["http/1.1"])
}

fn request(app: &str, token: &str, lines: &str) -> String {
    format!(
        "GET /v1/apps/{app} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n{lines}\r\n"
    )
}

/// Shakes hands and sends a request; the socket with it on its way, or why there is none.
///
/// In TLS 1.3 a client is done before the server has seen its certificate, so the first byte of
/// an answer is waited for.
fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    request: &str,
) -> Result<(Peer, bool), Error> {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(crate::support::DEADLINE))
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).map_err(refusal)?;
    }
    let resumed = tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let mut stream = StreamOwned::new(tls, tcp);
    // A server that has refused may not read it.
    let _sent = stream.write_all(request.as_bytes());
    while stream.conn.wants_read()
        && stream.conn.process_new_packets()?.plaintext_bytes_to_read() == 0
    {
        match stream.conn.read_tls(&mut stream.sock) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
    Ok((Peer::new(stream), resumed))
}

/// What TLS says of an error of the stream.
fn refusal(error: std::io::Error) -> Error {
    let refusal = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    refusal.cloned().unwrap_or_else(|| panic!("{error}"))
}

/// The status of a request on a connection of its own, or the alert that ended it.
fn ask(usher: &Usher, config: &Arc<ClientConfig>, request: &str) -> Result<u16, AlertDescription> {
    match connect(usher.address, config, request) {
        Ok((mut peer, _)) => Ok(peer.answer().status),
        Err(Error::AlertReceived(alert)) => Err(alert),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn only_who_shows_a_certificate_of_the_configured_roots_is_served_where_that_is_required() {
    let (server, ca) = (Identity::new(), Ca::named("ours"));
    let [own, foreign, posing] = [&ca, &Ca::named("theirs"), &Ca::named("ours")].map(Ca::client);
    for version in VERSIONS {
        let upstream = Recorder::ok();
        for how in ["", ", client_certificates: required"] {
            let usher = asking(upstream.address, &server, &ca.certificate, how).start();
            let token = usher.credential(&DEPLOY);
            let ask = |own: Option<&Identity>, app: &str, lines: &str| {
                let config = client(&server, own, version);
                ask(&usher, &config, &request(app, &token, lines))
            };
            let before = upstream.requests().len();
            let none = ask(None, "web", "");
            let other = ask(Some(&foreign), "web", "");
            let posing = ask(Some(&posing), "web", "");
            assert_eq!(upstream.requests().len(), before);
            assert_eq!(none, Err(AlertDescription::CertificateRequired));
            assert_eq!(other, Err(AlertDescription::UnknownCA));
            // The right name, signed with another key.
            assert_eq!(posing, Err(AlertDescription::DecryptError));
            assert!(usher.metrics().contains("usher_tls_failures_total 3\n"));

            // It opens the door and nothing else.
            let config = client(&server, Some(&own), version);
            let bare = "GET /v1/apps/web HTTP/1.1\r\nhost: usher.test\r\n\r\n";
            assert_eq!(self::ask(&usher, &config, bare), Ok(401));
            assert_eq!(ask(Some(&own), "api", ""), Ok(403));
            assert_eq!(upstream.requests().len(), before);
            let lines = "x-forwarded-client-cert: Hash=1\r\nclient-cert: :AA==:\r\n";
            assert_eq!(ask(Some(&own), "web", lines), Ok(200));
            let seen = upstream.last().head;
            assert!(!seen.contains("client-cert"), "{seen}");
        }
    }
}

#[test]
fn where_certificates_are_optional_none_will_do_and_a_foreign_one_will_not() {
    let (upstream, server, ca) = (Recorder::ok(), Identity::new(), Ca::named("ours"));
    let how = ", client_certificates: optional";
    let usher = asking(upstream.address, &server, &ca.certificate, how).start();
    let request = request("web", &usher.credential(&DEPLOY), "");
    let (own, foreign) = (ca.client(), Ca::named("theirs").client());
    for version in VERSIONS {
        let before = upstream.requests().len();
        let refused = ask(&usher, &client(&server, Some(&foreign), version), &request);
        assert_eq!(upstream.requests().len(), before);
        assert_eq!(refused, Err(AlertDescription::UnknownCA));
        for own in [None, Some(&own)] {
            let answer = ask(&usher, &client(&server, own, version), &request);
            assert_eq!(answer, Ok(200));
        }
    }
}

#[test]
fn sessions_are_resumed_only_where_nobody_is_asked_for_a_certificate() {
    let (upstream, server, ca) = (Recorder::ok(), Identity::new(), Ca::named("ours"));
    let own = ca.client();
    let plain = World::before(upstream.address).secured(&server).start();
    let asking = asking(upstream.address, &server, &ca.certificate, "").start();
    for version in VERSIONS {
        for (usher, own, resumes) in [(&plain, None, true), (&asking, Some(&own), false)] {
            // One configuration, so one memory of sessions.
            let config = client(&server, own, version);
            let request = request("web", &usher.credential(&DEPLOY), "");
            let again = [(); 2].map(|()| {
                let (mut peer, resumed) = connect(usher.address, &config, &request).unwrap();
                assert_eq!(peer.answer().status, 200);
                resumed
            });
            assert_eq!(again, [false, resumes], "{version:?}");
        }
    }
}

/// A `ClientHello` without `supported_versions`, as all were before TLS 1.3.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    // No session; the suites ECDHE-RSA and RSA with AES-128-CBC; no compression.
    body.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    // One extension: signatures with ECDSA, P-256 and SHA-256.
    body.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    record
}

#[test]
fn nothing_older_than_tls_1_2_is_spoken() {
    let (upstream, server) = (Recorder::ok(), Identity::new());
    let usher = World::before(upstream.address).secured(&server).start();
    let alert = |version| {
        let mut tcp = TcpStream::connect(usher.address).unwrap();
        tcp.set_read_timeout(Some(crate::support::DEADLINE))
            .unwrap();
        tcp.write_all(&hello(version)).unwrap();
        let mut record = [0; 7];
        tcp.read_exact(&mut record).unwrap();
        // A fatal alert, and why.
        assert_eq!((record[0], record[5]), (21, 2), "{record:?}");
        AlertDescription::from(record[6])
    };
    for old in [[3, 0], [3, 1], [3, 2]] {
        assert_eq!(alert(old), AlertDescription::ProtocolVersion, "{old:?}");
    }
    // The version is what is wrong with those: this one fails at something else.
    assert_ne!(alert([3, 3]), AlertDescription::ProtocolVersion);
    upstream.saw_nothing();
    for version in VERSIONS {
        let request = request("web", &usher.credential(&DEPLOY), "");
        let answer = ask(&usher, &client(&server, None, version), &request);
        assert_eq!(answer, Ok(200), "{version:?}");
    }
}

/// A world whose upstream is a TLS server on `port`, trusted by `ca`, shown what `identity` says.
fn before(port: u16, server: &Identity, identity: &str) -> World {
    let ca = server.certificate.display();
    let instead = format!("[ \"https://localhost:{port}\" ], ca: {ca}{identity}");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    World::before(address).with(&format!("[ \"http://{address}\" ]"), instead)
}

fn shown(certificate: &Path, key: &Path) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    format!(", identity: {{ certificate: {certificate}, key: {key} }}")
}

#[test]
fn an_upstream_that_demands_a_certificate_gets_the_one_configured() {
    let (server, ca) = (Identity::new(), Ca::named("ours"));
    let upstream = Recorder::over_tls(server.demanding(&ca), |_| OK.to_vec());
    let (own, foreign) = (ca.client(), Ca::named("theirs").client());
    for wrong in ["", &*shown(&foreign.certificate, &foreign.key)] {
        let usher = before(upstream.address.port(), &server, wrong).start();
        let answer = usher.ask("GET /v1/apps/web", Some(&usher.credential(&DEPLOY)));
        assert!(
            upstream.bytes().is_empty(),
            "a request without a certificate"
        );
        assert!(answer.status >= 500, "{}", answer.status);
    }
    let right = shown(&own.certificate, &own.key);
    let usher = before(upstream.address.port(), &server, &right).start();
    let answer = usher.ask("GET /v1/apps/web", Some(&usher.credential(&DEPLOY)));
    assert_eq!((answer.status, answer.text()), (200, "ok"));
}

//! Certificates of clients and of usher itself, TLS versions, and files that change.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, StreamOwned, SupportedProtocolVersion,
};
use usher::authority::Kind;

use crate::support::{Ca, Identity, Peer, Process, Recorder, Usher, World, until};

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
            // The alert comes before it is counted.
            let counted = "usher_tls_failures_total 3\n";
            until("the third refusal", || {
                usher.metrics().contains(counted).then_some(())
            });

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

/// Files as Kubernetes mounts them: links to a link to a folder, which is what is replaced.
struct Mounted {
    folder: tempfile::TempDir,
    versions: usize,
}

impl Mounted {
    fn new(identity: &Identity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mounted = Self {
            folder,
            versions: 0,
        };
        mounted.swap(identity);
        for name in ["cert.pem", "key.pem"] {
            let target = Path::new("..data").join(name);
            symlink(target, mounted.folder.path().join(name)).unwrap();
        }
        mounted
    }

    fn swap(&mut self, identity: &Identity) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        let (folder, link) = (
            self.folder.path().join(&version),
            self.folder.path().join("next"),
        );
        fs::create_dir(&folder).unwrap();
        copy(&identity.certificate, &folder.join("cert.pem"));
        copy(&identity.key, &folder.join("key.pem"));
        symlink(version, &link).unwrap();
        fs::rename(link, self.folder.path().join("..data")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

fn reloads(usher: &Usher) -> [u64; 2] {
    let metrics = usher.metrics();
    ["loaded", "failed"].map(|outcome| {
        let name = format!("usher_tls_reloads_total{{outcome=\"{outcome}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        value.expect("the metric is there").parse().unwrap()
    })
}

#[test]
fn a_certificate_that_changes_is_shown_to_new_connections_and_open_ones_go_on() {
    let upstream = Recorder::ok();
    let [first, second] = [(); 2].map(|()| Identity::new());
    let mut mounted = Mounted::new(&first);
    let (certificate, key) = (mounted.path("cert.pem"), mounted.path("key.pem"));
    let usher = listening(upstream.address, &certificate, &key, "").start();
    let request = request("web", &usher.credential(&DEPLOY), "");
    let (old, new) = (client(&first, None, &TLS13), client(&second, None, &TLS13));
    let (mut open, _) = connect(usher.address, &old, &request).unwrap();
    assert_eq!(open.answer().status, 200);
    assert!(connect(usher.address, &new, &request).is_err());
    assert_eq!(reloads(&usher), [0, 0]);

    mounted.swap(&second);
    until("the new certificate", || {
        let (mut peer, _) = connect(usher.address, &new, &request).ok()?;
        (peer.answer().status == 200).then_some(())
    });
    open.send(&request);
    assert_eq!(open.answer().status, 200);
    // A session of the old certificate is none of the new one.
    assert!(connect(usher.address, &old, &request).is_err());
    assert_eq!(reloads(&usher), [1, 0]);
}

#[test]
fn files_that_cannot_be_used_leave_the_old_ones_in_use_and_are_named() {
    let upstream = Recorder::ok();
    let [server, other] = [(); 2].map(|()| Identity::new());
    let world = listening(upstream.address, &server.certificate, &server.key, "");
    let config = client(&server, None, &TLS13);
    let request = "GET /healthz HTTP/1.1\r\nhost: usher.test\r\n\r\n";
    let mut process = Process::serve(&world.write());
    let good = fs::read(&server.certificate).unwrap();
    let broken: [(&dyn Fn(), &Path); 4] = [
        // The other's certificate does not fit the key.
        (
            &|| copy(&other.certificate, &server.certificate),
            &server.certificate,
        ),
        (
            &|| fs::write(&server.certificate, "garbage").unwrap(),
            &server.certificate,
        ),
        (
            &|| fs::write(&server.certificate, &good[..good.len() / 2]).unwrap(),
            &server.certificate,
        ),
        (
            &|| {
                fs::write(&server.certificate, &good).unwrap();
                fs::remove_file(&server.key).unwrap();
            },
            &server.key,
        ),
    ];
    for (breaks, file) in broken {
        breaks();
        let event = process.event(|event| event["level"] == "ERROR");
        let text = event.to_string();
        assert!(text.contains("certificates not reloaded"), "{text}");
        assert!(text.contains(file.to_str().unwrap()), "{text}");
        let (mut peer, _) = connect(process.address, &config, request).unwrap();
        assert_eq!(peer.answer().text(), "ok");
    }
    copy(&other.certificate, &server.certificate);
    copy(&other.key, &server.key);
    process.event(|event| event["message"] == "certificates reloaded");
    let config = client(&other, None, &TLS13);
    let (mut peer, _) = connect(process.address, &config, request).unwrap();
    assert_eq!(peer.answer().text(), "ok");

    let mut admin = Peer::connect(process.admin);
    admin.send("GET /metrics HTTP/1.1\r\nhost: admin\r\n\r\n");
    let metrics = admin.answer();
    for line in ["{outcome=\"failed\"} 4\n", "{outcome=\"loaded\"} 1\n"] {
        let line = format!("usher_tls_reloads_total{line}");
        assert!(metrics.text().contains(&line), "{}", metrics.text());
    }
}

#[test]
fn clients_of_roots_that_are_replaced_are_refused_from_then_on() {
    let (upstream, server) = (Recorder::ok(), Identity::new());
    let [old, new] = ["old", "new"].map(Ca::named);
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("clients.pem");
    copy(&old.certificate, &roots);
    let usher = asking(upstream.address, &server, &roots, "").start();
    let request = request("web", &usher.credential(&DEPLOY), "");
    let [before, after] =
        [&old, &new].map(|ca| VERSIONS.map(|version| client(&server, Some(&ca.client()), version)));
    let (mut open, _) = connect(usher.address, &before[0], &request).unwrap();
    assert_eq!(open.answer().status, 200);
    for config in &before {
        assert_eq!(ask(&usher, config, &request), Ok(200));
    }
    for config in &after {
        assert_eq!(
            ask(&usher, config, &request),
            Err(AlertDescription::UnknownCA)
        );
    }

    copy(&new.certificate, &roots);
    until("the new roots", || ask(&usher, &after[0], &request).ok());
    let seen = upstream.requests().len();
    for config in &before {
        assert_eq!(
            ask(&usher, config, &request),
            Err(AlertDescription::UnknownCA)
        );
    }
    assert_eq!(upstream.requests().len(), seen);
    for config in &after {
        assert_eq!(ask(&usher, config, &request), Ok(200));
    }
    open.send(&request);
    assert_eq!(open.answer().status, 200);
}

#[test]
fn what_an_upstream_is_shown_and_trusted_by_is_replaced_as_well() {
    let (server, ca) = (Identity::new(), Ca::named("ours"));
    let upstream = Recorder::over_tls(server.demanding(&ca), |_| OK.to_vec());
    let (own, foreign) = (ca.client(), Ca::named("theirs").client());
    let mut mounted = Mounted::new(&foreign);
    let identity = shown(&mounted.path("cert.pem"), &mounted.path("key.pem"));
    let usher = before(upstream.address.port(), &server, &identity).start();
    let token = usher.credential(&DEPLOY);
    let ask = || usher.ask("GET /v1/apps/web", Some(&token)).status;
    assert!(ask() >= 500);
    assert!(upstream.bytes().is_empty());
    mounted.swap(&own);
    until("the new identity", || (ask() == 200).then_some(()));
    assert_eq!(reloads(&usher), [1, 0]);

    // A connection that is kept is not used under another identity than it began with.
    let connections = upstream.connections();
    assert_eq!(ask(), 200);
    assert_eq!(upstream.connections(), connections);
    mounted.swap(&ca.client());
    until("the next identity", || {
        (reloads(&usher) == [2, 0]).then_some(())
    });
    assert_eq!(ask(), 200);
    assert_eq!(upstream.connections(), connections + 1);
}

//! Tunnels: to what was judged and to nothing else, once it accepts, and no longer than the token.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Mutex, mpsc};

use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{self, WebSocket};
use usher::authority::{Kind, Revocation};
use usher::clock::unix_now;
use usher::macaroon::{Action, Caveat, Token};

use crate::support::{
    Client, DEADLINE, H2Client, Identity, Peer, Process, Recorder, Sshd, Usher, World, fed, header,
    hour, run, run_usher, until, window,
};

const ORG: Kind = Kind::Org { org: 2001 };
const READONLY: Kind = Kind::Readonly { org: 2001 };
const SSH: Kind = Kind::Ssh {
    org: 2001,
    app: 3001,
};
const WEB: &str = "148e1aaa000001.vm.web.internal";
const API: &str = "148e1bbb000001.vm.api.internal";
const WEB_PATH: &str = "/v1/apps/web/machines/148e1aaa000001/ssh";
const API_PATH: &str = "/v1/apps/api/machines/148e1bbb000001/ssh";

/// What joining the private network takes is asked for a tunnel to any port; the port that is
/// dialled is the one of the request, whatever the host resolves to.
fn world(ssh: SocketAddr) -> World {
    let ssh = format!("tcp://{ssh}");
    let right = "action: wC, app: \"{app}\", mutation: issueCertificate";
    World::before(ssh.trim_start_matches("tcp://").parse().unwrap())
        .with(
            "upstreams:",
            format_args!("upstreams:\n  - {{ name: ssh, urls: [ \"{ssh}\" ] }}"),
        )
        .and(format_args!(
            r#"  - {{ name: ssh.machine, tunnel: ssh, host: "{{machine}}.vm.{{app}}.internal:22", access: {{ {right}, machine: "{{machine}}" }}, upstream: ssh }}
  - {{ name: ssh.app, tunnel: ssh, host: "{{app}}.internal:22", access: {{ {right}, machine: zero }}, upstream: "{ssh}" }}
  - {{ name: ssh.ws, tunnel: ssh, path: "/v1/apps/{{app}}/machines/{{machine}}/ssh", access: {{ {right}, machine: "{{machine}}" }}, upstream: ssh }}
  - {{ name: wg, tunnel: tcp, host: "{{app}}.internal:{{port}}", access: {{ action: c, org: {{ owner: "{{app}}" }}, feature: wg, mutation: addWireGuardPeer }}, upstream: "tcp://127.0.0.1:{{port}}" }}"#
        ))
}

fn usher(ssh: SocketAddr) -> Usher {
    world(ssh).start()
}

/// The tokens of a kind that has more than one, in one header.
fn tokens(usher: &Usher, kind: &Kind) -> Vec<Token> {
    let caveats = kind.caveats(hour());
    caveats.iter().map(|caveats| usher.issue(caveats)).collect()
}

fn all(tokens: &[Token]) -> String {
    header(&tokens.iter().collect::<Vec<_>>())
}

fn revoke(usher: &Usher, tokens: &[Token]) {
    for token in tokens {
        let lineage = Revocation::Lineage(token.uuid());
        assert!(usher.authority.revoke(lineage, unix_now()).unwrap());
    }
}

/// Asks for a tunnel on a raw connection, with what follows the request at once.
fn connect(usher: &Usher, target: &str, token: &str, behind: &str) -> Peer {
    let mut peer = usher.connect();
    peer.send(format!(
        "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nauthorization: {token}\r\n\r\n{behind}"
    ));
    peer
}

#[track_caller]
fn opened(peer: &mut Peer) {
    let head = peer.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for line in ["content-length", "transfer-encoding"] {
        assert!(!head.contains(line), "{head}");
    }
}

/// An upstream that answers everything with itself, in capitals, and goodbye at the end.
fn shouting() -> Recorder {
    Recorder::script(|exchange| {
        let mut part = [0; 1024];
        loop {
            let read = exchange.peer.read(&mut part).unwrap();
            if read == 0 {
                break;
            }
            part[..read].make_ascii_uppercase();
            exchange.peer.send(&part[..read]);
        }
        exchange.peer.send("goodbye");
    })
}

#[test]
fn bytes_flow_both_ways_and_each_way_ends_for_itself() {
    let upstream = shouting();
    let usher = usher(upstream.address);
    let token = all(&tokens(&usher, &SSH));
    let target = format!("{WEB}:22");
    // The client does not wait for the answer: what it sent ahead comes after the upstream's yes.
    let tcp = TcpStream::connect(usher.address).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut peer = Peer::new(tcp.try_clone().unwrap());
    peer.send(format!(
        "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nauthorization: {token}\r\n\r\nearly "
    ));
    opened(&mut peer);
    assert_eq!(peer.exactly(6), b"EARLY ");
    for length in [1, 1000, 500_000] {
        let text = "x".repeat(length);
        let sender = std::thread::spawn({
            let (mut tcp, text) = (tcp.try_clone().unwrap(), text.clone());
            move || std::io::Write::write_all(&mut tcp, text.as_bytes()).unwrap()
        });
        assert_eq!(peer.exactly(length), text.to_uppercase().as_bytes());
        sender.join().unwrap();
    }
    tcp.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.rest(), b"goodbye");
}

#[test]
fn what_a_token_does_not_permit_is_never_dialled() {
    let upstream = shouting();
    let usher = usher(upstream.address);
    let ssh = all(&tokens(&usher, &SSH));
    for (target, token) in [
        (format!("{API}:22"), &*ssh),
        ("api.internal:22".to_owned(), &ssh),
        // Reading is no right to join the network; an ssh token has it.
        (
            format!("web.internal:{}", upstream.address.port()),
            &usher.credential(&READONLY),
        ),
        (format!("{WEB}:22"), &usher.credential(&READONLY)),
        // The machine is another app's.
        ("148e1bbb000001.vm.web.internal:22".to_owned(), &ssh),
    ] {
        let mut peer = connect(&usher, &target, token, "SSH-2.0-client\r\n");
        let answer = peer.answer();
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            (403, "prohibited"),
            "{target}"
        );
        assert_eq!(peer.rest(), b"", "nothing is read as a request");
    }
}

#[test]
fn a_request_that_is_no_tunnel_is_refused_before_anything_is_dialled() {
    let upstream = shouting();
    let usher = usher(upstream.address);
    let token = all(&tokens(&usher, &SSH));
    let bearer = format!("authorization: {token}\r\n");
    let target = format!("{WEB}:22");
    for (request, lines, expected) in [
        (
            format!("CONNECT {target}"),
            format!("host: {target}\r\n"),
            (401, "token-missing"),
        ),
        (
            "CONNECT nowhere.example:22".to_owned(),
            format!("host: nowhere.example:22\r\n{bearer}"),
            (405, "method-not-allowed"),
        ),
        (
            format!("CONNECT {target}"),
            format!("host: other.internal:22\r\n{bearer}"),
            (400, "ambiguous"),
        ),
        (
            format!("CONNECT {target}"),
            format!("host: {target}\r\ncontent-length: 3\r\n{bearer}"),
            (400, "ambiguous"),
        ),
        (
            format!("GET {WEB_PATH}"),
            format!("host: usher.test\r\n{bearer}"),
            (426, "upgrade-required"),
        ),
        (
            format!("GET {WEB_PATH}"),
            format!("host: usher.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n{bearer}"),
            (400, "bad-handshake"),
        ),
        (
            format!("POST {WEB_PATH}"),
            format!("host: usher.test\r\n{bearer}"),
            (405, "method-not-allowed"),
        ),
    ] {
        let mut peer = usher.connect();
        peer.send(format!("{request} HTTP/1.1\r\n{lines}\r\n"));
        let answer = peer.answer();
        upstream.saw_nothing();
        assert_eq!(
            (answer.status, &*answer.code()),
            expected,
            "{request} {lines}"
        );
        // A proxy must not send another client's request behind it.
        let ends = answer.head.contains("connection: close");
        assert!(ends || !request.starts_with("CONNECT"), "{}", answer.head);
    }
}

#[test]
fn http2_opens_no_tunnel() {
    let upstream = shouting();
    let usher = usher(upstream.address);
    let token = all(&tokens(&usher, &SSH));
    run(async {
        let mut client = H2Client::cleartext(usher.address).await;
        let request = http::Request::builder()
            .method("CONNECT")
            .uri(format!("{WEB}:22"))
            .header("authorization", token)
            .body(fed().1)
            .unwrap();
        let response = client.send(request).await;
        assert_eq!(response.status(), 501);
    });
    upstream.saw_nothing();
}

#[test]
fn a_port_that_does_not_accept_is_a_502_and_the_next_is_tried() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let usher = usher(closed);
    let token = all(&tokens(&usher, &SSH));
    let mut peer = connect(&usher, &format!("{WEB}:22"), &token, "");
    let answer = peer.answer();
    assert_eq!((answer.status, &*answer.code()), (502, "upstream-connect"));
    let upstream = shouting();
    let both = format!("\"tcp://{closed}\", \"tcp://{}\"", upstream.address);
    let usher = World::before(closed)
        .with("upstreams:", format_args!("upstreams:\n  - {{ name: two, urls: [ {both} ] }}"))
        .and(r#"  - { name: ssh, tunnel: ssh, host: "{app}.internal:22", access: { action: w, app: "{app}" }, upstream: two }"#)
        .start();
    let mut peer = connect(&usher, "web.internal:22", &usher.credential(&ORG), "");
    opened(&mut peer);
    peer.send("hello");
    assert_eq!(peer.exactly(5), b"HELLO");
}

#[test]
fn the_port_that_was_judged_is_the_port_that_is_dialled() {
    let (one, two) = (shouting(), Recorder::ok());
    let usher = usher(two.address);
    let target = format!("web.internal:{}", one.address.port());
    let mut peer = connect(&usher, &target, &usher.credential(&ORG), "");
    opened(&mut peer);
    two.saw_nothing();
    peer.send("hello");
    assert_eq!(peer.exactly(5), b"HELLO");
}

#[test]
fn a_tunnel_is_cut_when_its_token_is_revoked() {
    let (left, told) = mpsc::channel();
    let left = Mutex::new(left);
    let upstream = Recorder::script(move |exchange| {
        exchange.peer.send("SSH-2.0-server\r\n");
        assert_eq!(exchange.peer.rest(), b"");
        // The test may be over already.
        let _told = left.lock().unwrap().send(());
    });
    let usher = usher(upstream.address);
    let ssh = tokens(&usher, &SSH);
    let mut peer = connect(&usher, &format!("{WEB}:22"), &all(&ssh), "");
    opened(&mut peer);
    assert_eq!(peer.exactly(16), b"SSH-2.0-server\r\n");
    revoke(&usher, &ssh);
    assert_eq!(peer.rest(), b"");
    told.recv_timeout(DEADLINE).unwrap();
    let ended = r#"usher_leases_ended_total{route="ssh.machine",code="lease-revoked"} 1"#;
    assert!(usher.metrics().contains(ended));
}

fn socket(usher: SocketAddr, token: &str, path: &str) -> WebSocket<TcpStream> {
    let tcp = TcpStream::connect(usher).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = http::Request::builder()
        .uri(format!("ws://usher.test{path}"))
        .header("host", "usher.test")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .header("authorization", token)
        .body(())
        .unwrap();
    tungstenite::client(request, tcp).unwrap().0
}

/// The close frame at the end, and what came before it.
fn to_the_end(socket: &mut WebSocket<TcpStream>) -> (u16, String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        match socket.read().unwrap() {
            Message::Binary(part) => bytes.extend_from_slice(&part),
            Message::Close(Some(frame)) => {
                return (frame.code.into(), frame.reason.to_string(), bytes);
            }
            other @ (Message::Text(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::Close(None)
            | Message::Frame(_)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn binary_messages_carry_the_bytes() {
    let upstream = shouting();
    let usher = usher(upstream.address);
    let token = all(&tokens(&usher, &SSH));
    let mut tunnel = socket(usher.address, &token, WEB_PATH);
    for text in ["one", "two"] {
        tunnel
            .send(Message::binary(text.as_bytes().to_vec()))
            .unwrap();
        let shouted = Message::binary(text.to_uppercase().into_bytes());
        assert_eq!(tunnel.read().unwrap(), shouted);
    }
    tunnel.send(Message::Ping("?".into())).unwrap();
    assert_eq!(tunnel.read().unwrap(), Message::Pong("?".into()));
    // A close frame is answered by one.
    tunnel.close(None).unwrap();
    assert!(matches!(tunnel.read(), Ok(Message::Close(_))));
    let end = tunnel.read();
    assert!(
        matches!(end, Err(tungstenite::Error::ConnectionClosed)),
        "{end:?}"
    );
    assert_eq!(upstream.bytes(), b"onetwo");
}

#[test]
fn the_end_of_the_upstream_comes_behind_all_that_it_sent() {
    let sent = "x".repeat(1_000_000);
    let expected = sent.clone();
    let upstream = Recorder::script(move |exchange| exchange.peer.send(&sent));
    let usher = usher(upstream.address);
    let mut tunnel = socket(usher.address, &all(&tokens(&usher, &SSH)), WEB_PATH);
    let (code, reason, bytes) = to_the_end(&mut tunnel);
    assert_eq!((code, &*reason), (1000, "done"));
    assert!(bytes == expected.as_bytes());
}

#[test]
fn text_is_no_part_of_a_tunnel() {
    let upstream = shouting();
    let usher = usher(upstream.address);
    let mut tunnel = socket(usher.address, &all(&tokens(&usher, &SSH)), WEB_PATH);
    tunnel.send(Message::text("text")).unwrap();
    let told = (1003, "protocol".to_owned(), Vec::new());
    assert_eq!(to_the_end(&mut tunnel), told);
    assert_eq!(upstream.bytes(), b"");
}

#[test]
fn the_close_frame_names_the_end_of_the_token() {
    let upstream = shouting();
    let usher = usher(upstream.address);
    let ssh = tokens(&usher, &SSH);
    let mut tunnel = socket(usher.address, &all(&ssh), WEB_PATH);
    revoke(&usher, &ssh);
    let told = (1008, "lease-revoked".to_owned(), Vec::new());
    assert_eq!(to_the_end(&mut tunnel), told);
    let org = Caveat::Organization {
        id: 2001,
        mask: Action::ALL,
    };
    let last = unix_now() + 2;
    let token = header(&[&usher.issue(&[org, window(-60, 2)])]);
    let mut tunnel = socket(usher.address, &token, WEB_PATH);
    let told = (1008, "lease-expired".to_owned(), Vec::new());
    assert_eq!(to_the_end(&mut tunnel), told);
    let now = unix_now();
    assert!((last + 1..=last + 2).contains(&now), "{now} after {last}");
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed() {
    let upstream = shouting();
    let usher = world(upstream.address)
        .and("timeouts: { stream_idle: 300ms }")
        .start();
    let token = all(&tokens(&usher, &SSH));
    let mut tunnel = socket(usher.address, &token, WEB_PATH);
    let told = (1001, "idle".to_owned(), Vec::new());
    assert_eq!(to_the_end(&mut tunnel), told);
    let mut peer = connect(&usher, &format!("{WEB}:22"), &token, "");
    opened(&mut peer);
    assert_eq!(peer.rest(), b"");
}

#[test]
fn a_drain_leaves_tunnels_their_time_and_then_says_so() {
    let upstream = shouting();
    let world = world(upstream.address).and("timeouts: { drain: 3s }");
    let config = world.write();
    let mut server = Process::serve(&config);
    let file = config.to_str().unwrap();
    let create = ["token", "create", "org", "--org", "acme", "--config", file];
    let made = run_usher(&create);
    let mut tunnel = socket(server.address, made.stdout.trim(), WEB_PATH);
    server.signal("TERM");
    // Nobody is let in any more, and what is open goes on.
    until("the end of the listener", || {
        TcpStream::connect(server.address).err()
    });
    tunnel
        .send(Message::binary(b"still here".to_vec()))
        .unwrap();
    let told = (1001, "drained".to_owned(), b"STILL HERE".to_vec());
    assert_eq!(to_the_end(&mut tunnel), told);
    let ended = server.event(|event| event["message"] == "tunnel ended");
    assert_eq!(ended["code"], "drained");
    assert_eq!(
        (&ended["sent"], &ended["received"]),
        (&10.into(), &10.into())
    );
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn ssh_goes_through_tls_to_an_usher_that_the_client_trusts() {
    let (sshd, identity) = (Sshd::start(), Identity::new());
    let usher = world(sshd.address).secured(&identity).start();
    let token = all(&tokens(&usher, &SSH));
    let (ca, port) = (identity.certificate.display(), usher.address.port());
    for url in [
        format!("connect+https://localhost:{port}/%h:%p"),
        format!("https://localhost:{port}{WEB_PATH}"),
    ] {
        let trusting = format!("--ca {ca} {url}");
        let output = Client::output(sshd.client(&token, &trusting, WEB, "echo hello"));
        assert_eq!(text(&output.stdout), "hello\n", "{url}");
        let output = Client::output(sshd.client(&token, &url, WEB, "echo hello"));
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains("the TLS handshake with usher failed"),
            "{stderr}"
        );
    }
    assert_eq!(sshd.connections(), 2);
}

/// Arguments of `usher connect` for each form, and the host that ssh is given.
fn forms(usher: &Usher, host: &'static str, path: &str) -> [(String, &'static str); 3] {
    let at = usher.address;
    [
        (format!("connect+http://{at}/%h:%p"), host),
        (format!("--proxy http://{at} %h:%p"), host),
        (format!("http://{at}{path}"), host),
    ]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn an_ssh_token_opens_a_shell_on_its_app() {
    let sshd = Sshd::start();
    let usher = usher(sshd.address);
    let token = all(&tokens(&usher, &SSH));
    for (arguments, host) in forms(&usher, WEB, WEB_PATH) {
        let client = sshd.client(&token, &arguments, host, "echo through the tunnel");
        let Output {
            status,
            stdout,
            stderr,
        } = Client::output(client);
        let told = (status.code(), text(&stdout), text(&stderr));
        let expected = (Some(0), "through the tunnel\n".to_owned(), String::new());
        assert_eq!(told, expected, "{arguments}");
    }
    assert_eq!(sshd.connections(), 3);
}

#[test]
fn other_tokens_and_other_apps_open_none() {
    let sshd = Sshd::start();
    let usher = usher(sshd.address);
    let (ssh, readonly) = (all(&tokens(&usher, &SSH)), usher.credential(&READONLY));
    for (token, host, path) in [(&ssh, API, API_PATH), (&readonly, WEB, WEB_PATH)] {
        for (arguments, host) in forms(&usher, host, path) {
            let client = sshd.client(token, &arguments, host, "echo never");
            let Output {
                status,
                stdout,
                stderr,
            } = Client::output(client);
            assert_eq!(sshd.connections(), 0);
            assert_eq!((status.code(), &*text(&stdout)), (Some(255), ""));
            let stderr = text(&stderr);
            let why = "(prohibited, decision ";
            assert!(
                stderr.contains("usher: ") && stderr.contains(why),
                "{stderr}"
            );
        }
    }
}

#[test]
fn revoking_the_token_ends_the_session() {
    let sshd = Sshd::start();
    let usher = usher(sshd.address);
    for form in 0..3 {
        let ssh = tokens(&usher, &SSH);
        let (arguments, host) = forms(&usher, WEB, WEB_PATH)[form].clone();
        // It reads until its input ends, which the test holds open.
        let mut client = sshd.client(&all(&ssh), &arguments, host, "echo ready; cat");
        let mut client = Client(client.spawn().unwrap());
        let mut lines = BufReader::new(client.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready", "{arguments}");
        revoke(&usher, &ssh);
        assert!(lines.next().is_none());
        assert_eq!(client.0.wait().unwrap().code(), Some(255), "{arguments}");
        let mut stderr = String::new();
        let mut pipe = client.0.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        if arguments.contains(WEB_PATH) {
            assert!(stderr.contains("lease-revoked"), "{stderr}");
        }
    }
}

#[test]
fn the_command_says_what_it_cannot_do() {
    for (arguments, complaint) in [
        (
            &["connect", "--token", "t", "usher:8080"][..],
            "is no tunnel: write https://USHER/PATH",
        ),
        (
            &["connect", "--token", "-", "http://127.0.0.1:1/ssh"],
            "standard input is the tunnel's",
        ),
        (&["connect", "http://127.0.0.1:1/ssh"], "no token given"),
        (
            &["connect", "--token", "t", "http://127.0.0.1:1/ssh"],
            "usher cannot be reached",
        ),
    ] {
        let ended = run_usher(arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(complaint), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

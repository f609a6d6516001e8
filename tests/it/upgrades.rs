//! WebSocket through ordinary routes: where a route says so, after both sides agree, and no longer
//! than its token.

use std::net::TcpStream;
use std::sync::{Mutex, mpsc};

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, WebSocket};
use usher::authority::{Kind, Revocation};
use usher::clock::unix_now;
use usher::macaroon::{Action, Caveat, Token};

use crate::support::{DEADLINE, Peer, Recorder, Usher, World, header, hour, window};

const ORG: Kind = Kind::Org { org: 2001 };
const READONLY: Kind = Kind::Readonly { org: 2001 };
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const HANDSHAKE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ROUTE: &str = r#"  - { name: attach, method: GET, path: "/v1/apps/{app}/attach", upgrade: [ websocket ], access: { action: w, app: "{app}" }, upstream: machines }"#;
const ATTACH: &str = "GET /v1/apps/web/attach";
const PLAIN: &str = "GET /v1/apps/web";

fn usher(upstream: &Recorder) -> Usher {
    World::before(upstream.address).and(ROUTE).start()
}

/// The lines of a response that grants the handshake of these tests.
fn granted() -> String {
    let accept = derive_accept_key(KEY.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )
}

/// A server of the library, which does the handshake by itself and answers every message with
/// itself.
fn echo() -> Recorder {
    Recorder::script(|exchange| {
        let request = exchange.request().unwrap();
        let accept = derive_accept_key(request.line("sec-websocket-key").unwrap().as_bytes());
        exchange
            .peer
            .send(granted().replace(&derive_accept_key(KEY.as_bytes()), &accept));
        let mut socket = WebSocket::from_raw_socket(&mut exchange.peer, Role::Server, None);
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).unwrap();
            }
        }
    })
}

/// Asks for a WebSocket with the library's own handshake.
fn client(usher: &Usher, token: &str) -> WebSocket<TcpStream> {
    let tcp = TcpStream::connect(usher.address).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = http::Request::builder()
        .uri("ws://usher.test/v1/apps/web/attach")
        .header("host", "usher.test")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header(
            "sec-websocket-key",
            tungstenite::handshake::client::generate_key(),
        )
        .header("authorization", token)
        .body(())
        .unwrap();
    tungstenite::client(request, tcp).unwrap().0
}

/// Sends a handshake on a raw connection, with whatever follows it.
fn raw(usher: &Usher, request: &str, token: &str, lines: &str, behind: &[u8]) -> Peer {
    let mut peer = usher.connect();
    let head =
        format!("{request} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {token}\r\n{lines}\r\n");
    peer.send([head.as_bytes(), behind].concat());
    peer
}

#[test]
fn messages_of_any_length_pass_both_ways() {
    let upstream = echo();
    let usher = usher(&upstream);
    let mut socket = client(&usher, &usher.credential(&ORG));
    for length in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let sent = Message::binary(vec![length as u8; length]);
        socket.send(sent.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), sent);
    }
    socket.send(Message::text("text as well")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("text as well"));
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    let seen = upstream.last();
    assert_eq!(seen.request_line(), "GET /v1/apps/web/attach HTTP/1.1");
    assert_eq!(seen.line("authorization"), None);
    assert_eq!(seen.line("upgrade"), Some("websocket"));
    assert_eq!(seen.line("connection"), Some("upgrade"));
    assert_eq!(seen.line("x-usher-app"), Some("3001"));
}

#[test]
fn a_denied_handshake_reaches_nobody() {
    let upstream = echo();
    let usher = usher(&upstream);
    let token = usher.credential(&READONLY);
    let mut peer = raw(&usher, ATTACH, &token, HANDSHAKE, b"\x81\x85masked");
    let answer = peer.answer();
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));
}

#[test]
fn elsewhere_the_wish_is_dropped_and_the_request_is_plain() {
    let upstream = Recorder::ok();
    let usher = usher(&upstream);
    let token = usher.credential(&ORG);
    for (request, lines) in [
        (PLAIN, HANDSHAKE),
        (
            ATTACH,
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n",
        ),
        (ATTACH, "upgrade: websocket\r\n"),
        (ATTACH, "connection: upgrade\r\nupgrade: websocket, h2c\r\n"),
        (ATTACH, ""),
    ] {
        let answer = usher.ask_with(request, Some(&token), lines);
        assert_eq!(answer.status, 200, "{lines}");
        let seen = upstream.last();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.line(name), None, "{lines}");
        }
    }
}

#[test]
fn a_handshake_with_a_body_or_without_its_key_is_refused() {
    let upstream = Recorder::ok();
    let usher = usher(&upstream);
    let token = usher.credential(&ORG);
    let cases = [
        (format!("{HANDSHAKE}content-length: 5\r\n"), "ambiguous"),
        (format!("{HANDSHAKE}content-length: 0\r\n"), "ambiguous"),
        (
            format!("{HANDSHAKE}transfer-encoding: chunked\r\n"),
            "ambiguous",
        ),
        (
            "connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n".to_owned(),
            "ambiguous",
        ),
        (
            "connection: upgrade\r\nupgrade: websocket\r\n".to_owned(),
            "bad-handshake",
        ),
        (HANDSHAKE.replace("13", "8"), "bad-handshake"),
        (HANDSHAKE.replace(KEY, "AAAA"), "bad-handshake"),
    ];
    for (lines, code) in cases {
        let answer = usher.ask_with(ATTACH, Some(&token), &lines);
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (400, code), "{lines}");
    }
}

#[test]
fn what_follows_a_refused_handshake_is_no_tunnel() {
    let upstream =
        Recorder::answering(|_| b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_vec());
    let usher = usher(&upstream);
    let token = usher.credential(&ORG);
    // What is smuggled would be a request of its own if it came to the upstream as it is.
    let behind = "DELETE /v1/apps/vault HTTP/1.1\r\nhost: usher.test\r\n\r\n";
    let mut peer = raw(&usher, ATTACH, &token, HANDSHAKE, behind.as_bytes());
    assert_eq!(peer.answer().status, 403);
    // It is judged like any other request, and has no token.
    let second = peer.answer();
    assert_eq!((second.status, &*second.code()), (401, "token-missing"));
    assert_eq!(upstream.requests().len(), 1);
    assert!(!String::from_utf8_lossy(&upstream.bytes()).contains("DELETE"));
}

#[test]
fn an_upstream_switches_to_what_was_asked_for_or_not_at_all() {
    let answers = [
        granted().replace("upgrade: websocket", "upgrade: h2c"),
        granted().replace("upgrade: websocket\r\n", ""),
        granted().replace("connection: upgrade\r\n", ""),
        granted().replace("accept: ", "accept: x"),
    ];
    for answer in answers {
        let upstream = {
            let answer = answer.clone();
            Recorder::script(move |exchange| {
                exchange.request().unwrap();
                exchange.peer.send(&answer);
                // Nothing that a client sent ahead arrives.
                assert_eq!(exchange.peer.rest(), b"");
            })
        };
        let usher = usher(&upstream);
        let token = usher.credential(&ORG);
        let mut peer = raw(&usher, ATTACH, &token, HANDSHAKE, b"");
        let refused = peer.answer();
        let told = (refused.status, &*refused.code());
        assert_eq!(told, (500, "upstream-bad-response"), "{answer}");
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_none() {
    let upstream = Recorder::answering(|_| granted().into_bytes());
    let usher = usher(&upstream);
    let token = usher.credential(&ORG);
    for (request, lines) in [(PLAIN, HANDSHAKE), (PLAIN, ""), (ATTACH, "")] {
        let answer = usher.ask_with(request, Some(&token), lines);
        let told = (answer.status, &*answer.code());
        assert_eq!(told, (500, "upstream-bad-response"));
    }
}

#[test]
fn bytes_that_come_with_the_switch_are_not_lost() {
    let upstream = Recorder::script(|exchange| {
        exchange.request().unwrap();
        exchange.peer.send(granted() + "first from the server");
        assert_eq!(exchange.peer.exactly(5), b"early");
        exchange.peer.send("done");
    });
    let usher = usher(&upstream);
    let token = usher.credential(&ORG);
    let mut peer = raw(&usher, ATTACH, &token, HANDSHAKE, b"early");
    let head = peer.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(peer.rest(), b"first from the serverdone");
}

fn revoke(usher: &Usher, token: &Token) {
    let lineage = Revocation::Lineage(token.uuid());
    assert!(usher.authority.revoke(lineage, unix_now()).unwrap());
}

/// The close frame that ends a socket whose other messages do not matter.
fn closed(socket: &mut WebSocket<TcpStream>) -> (u16, String) {
    loop {
        if let Message::Close(Some(frame)) = socket.read().unwrap() {
            return (frame.code.into(), frame.reason.to_string());
        }
    }
}

#[test]
fn a_revoked_token_ends_its_sockets_with_a_close_frame() {
    let upstream = echo();
    let usher = usher(&upstream);
    let token = usher.token(&ORG, hour());
    let mut socket = client(&usher, &header(&[&token]));
    socket.send(Message::text("once")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("once"));
    revoke(&usher, &token);
    let told = (1008, "lease-revoked".to_owned());
    assert_eq!(closed(&mut socket), told);
}

#[test]
fn a_socket_ends_with_the_window_of_its_token() {
    let upstream = echo();
    let usher = usher(&upstream);
    let org = Caveat::Organization {
        id: 2001,
        mask: Action::ALL,
    };
    let last = unix_now() + 2;
    let token = header(&[&usher.issue(&[org, window(-60, 2)])]);
    let mut socket = client(&usher, &token);
    assert_eq!(closed(&mut socket), (1008, "lease-expired".to_owned()));
    let now = unix_now();
    assert!((last + 1..=last + 2).contains(&now), "{now} after {last}");
}

#[test]
fn a_close_frame_waits_for_the_end_of_a_frame_that_has_begun() {
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let upstream = Recorder::script(move |exchange| {
        exchange.request().unwrap();
        exchange.peer.send(granted());
        // A text message of ten bytes, of which four come before the token ends.
        exchange.peer.send(b"\x81\x0ahalf");
        going.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        exchange.peer.send(b"a line\x81\x03not");
        assert_eq!(exchange.peer.rest(), b"");
    });
    let usher = usher(&upstream);
    let token = usher.token(&ORG, hour());
    let mut peer = raw(&usher, ATTACH, &header(&[&token]), HANDSHAKE, b"");
    peer.head().unwrap();
    assert_eq!(peer.exactly(6), b"\x81\x0ahalf");
    revoke(&usher, &token);
    crate::support::until("the end of the lease", || {
        usher
            .metrics()
            .contains("usher_leases_ended_total{")
            .then_some(())
    });
    go.send(()).unwrap();
    let mut end = b"a line\x88\x0f\x03\xf0".to_vec();
    end.extend_from_slice(b"lease-revoked");
    assert_eq!(peer.rest(), end);
}

#[test]
fn a_client_that_does_not_read_holds_the_server_back() {
    let upstream = Recorder::script(|exchange| {
        exchange.request().unwrap();
        exchange.peer.send(granted());
        let mut frame = vec![0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0];
        frame.resize(10 + 0x10_0000, 7);
        // More than all buffers on the way together; it stops when usher takes no more.
        let mut sent = 0;
        while sent < 256 && exchange.peer.try_send(&frame) {
            sent += 1;
        }
    });
    let usher = usher(&upstream);
    let config = WebSocketConfig::default().max_message_size(Some(2 << 20));
    let mut peer = raw(&usher, ATTACH, &usher.credential(&ORG), HANDSHAKE, b"");
    peer.head().unwrap();
    let mut socket = WebSocket::from_raw_socket(peer, Role::Client, Some(config));
    for _ in 0..256 {
        assert_eq!(socket.read().unwrap().len(), 0x10_0000);
    }
}

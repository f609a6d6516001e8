//! Kinds of routes, each with a request that one token is permitted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::{Peer, Usher};

/// What decides about a request, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Public,
    Authenticated,
    /// An app in the path.
    Path,
    /// An app in the body.
    Body,
    GraphQl,
    /// The token is a password.
    Basic,
    /// A response without end.
    Stream,
    WebSocket,
    Tunnel,
}

pub(super) const KINDS: [Kind; 9] = [
    Kind::Public,
    Kind::Authenticated,
    Kind::Path,
    Kind::Body,
    Kind::GraphQl,
    Kind::Basic,
    Kind::Stream,
    Kind::WebSocket,
    Kind::Tunnel,
];

/// Routes of the kinds that the usual world has none of.
pub(super) const ROUTES: &str = r#"
  - { name: exec, method: POST, path: /exec, access: { action: r, app: { body: /app } }, upstream: machines }
  - { name: graphql, method: POST, path: /graphql, access: { graphql: rules.yaml }, upstream: machines }
  - { name: tags, method: GET, path: "/v2/{app}/tags/list", basic: true, access: { action: r, app: "{app}", app_feature: images }, upstream: machines }
  - { name: attach, method: GET, path: "/v1/apps/{app}/attach", upgrade: [ websocket ], access: { action: w, app: "{app}" }, upstream: machines }
  - { name: tunnel, tunnel: tcp, host: "{app}.internal:{port}", access: { action: w, app: "{app}" }, upstream: "tcp://127.0.0.1:{port}" }"#;

pub(super) const RULES: &str = "queries:\n  app: { action: r, app: { arg: /name } }\n";

/// What came of a request.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: u16,
    /// Empty where usher gave none.
    pub(super) code: String,
}

impl Outcome {
    pub(super) fn is_served(&self, kind: Kind) -> bool {
        let status = match kind {
            Kind::WebSocket => 101,
            Kind::Public
            | Kind::Authenticated
            | Kind::Path
            | Kind::Body
            | Kind::GraphQl
            | Kind::Basic
            | Kind::Stream
            | Kind::Tunnel => 200,
        };
        self.status == status
    }
}

/// Asks on a connection of its own, about this app, with this token; a tunnel leads to `port`.
pub(super) fn ask(usher: &Usher, kind: Kind, app: &str, token: Option<&str>, port: u16) -> Outcome {
    let tunnel = format!("{app}.internal:{port}");
    let host = if kind == Kind::Tunnel {
        &tunnel
    } else {
        "usher.test"
    };
    let basic = |token| format!("Basic {}", STANDARD.encode(format!("x:{token}")));
    let credential = match (kind, token) {
        (_, None) => String::new(),
        (Kind::Basic, Some(token)) => format!("authorization: {}\r\n", basic(token)),
        (_, Some(token)) => format!("authorization: {token}\r\n"),
    };
    let json = |body: String| {
        let length = body.len();
        format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let end = "\r\n".to_owned();
    let (line, rest) = match kind {
        Kind::Public => ("GET /healthz".to_owned(), end),
        Kind::Authenticated => ("GET /v1/platform/regions".to_owned(), end),
        Kind::Path => (format!("GET /v1/apps/{app}"), end),
        Kind::Body => (
            "POST /exec".to_owned(),
            json(format!(r#"{{"app":"{app}"}}"#)),
        ),
        Kind::GraphQl => {
            let query = format!(r#"{{"query":"{{app(name: \"{app}\") {{id}}}}"}}"#);
            ("POST /graphql".to_owned(), json(query))
        }
        Kind::Basic => (format!("GET /v2/{app}/tags/list"), end),
        Kind::Stream => (format!("GET /api/v1/apps/{app}/logs/stream"), end),
        Kind::WebSocket => (
            format!("GET /v1/apps/{app}/attach"),
            format!("{HANDSHAKE}\r\n"),
        ),
        Kind::Tunnel => (format!("CONNECT {tunnel}"), end),
    };
    let mut peer = usher.connect();
    peer.send(format!(
        "{line} HTTP/1.1\r\nhost: {host}\r\n{credential}{rest}"
    ));
    outcome(&mut peer)
}

fn outcome(peer: &mut Peer) -> Outcome {
    let head = peer.head().expect("the connection ended without an answer");
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    // What is served may have no end.
    if status < 400 {
        let code = String::new();
        return Outcome { status, code };
    }
    let answer = peer.answer_from(head);
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    let told = said["errors"][0]["extensions"]["code"].as_str();
    let code = told.or_else(|| said["code"].as_str()).unwrap().to_owned();
    Outcome { status, code }
}

const HANDSHAKE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

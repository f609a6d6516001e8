//! The clients of a CI job: flyctl with its libraries, and the Docker client that pushes. What they
//! send is what they send to the platform itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::{Answer, Peer};

/// What a client talks to. Each has a name and a credential of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Service {
    Machines,
    GraphQl,
    Web,
    Registry,
    Builder,
}

impl Service {
    pub(super) fn host(self) -> &'static str {
        match self {
            Self::Machines => "api.machines.dev",
            Self::GraphQl | Self::Web => "api.fly.io",
            Self::Registry => "registry.fly.io",
            Self::Builder => "web-builder.fly.dev",
        }
    }

    /// The header value for a list of tokens.
    fn credential(self, tokens: &str, builds_for: &str) -> String {
        let basic = |user| format!("Basic {}", STANDARD.encode(format!("{user}:{tokens}")));
        match self {
            Self::Machines | Self::GraphQl => format!("FlyV1 {tokens}"),
            Self::Web => format!("Bearer {tokens}"),
            Self::Registry => basic("x"),
            Self::Builder => basic(builds_for),
        }
    }

    /// The lines of every request to it.
    fn lines(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Machines | Self::GraphQl | Self::Web => &[
                (
                    "User-Agent",
                    "flyctl/0.3.210 (interactive=false; parent=bash)",
                ),
                ("Fly-Client-Interactive", "false"),
                ("Fly-Client-Parent", "bash"),
                ("Fly-Client-CI", "true"),
                (
                    "Traceparent",
                    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                ),
                ("Accept-Encoding", "gzip"),
            ],
            Self::Registry => &[
                (
                    "User-Agent",
                    "docker/24.0.7 go/go1.20.10 os/linux arch/amd64 UpstreamClient(Go-http-client/1.1)",
                ),
                ("Accept-Encoding", "gzip"),
            ],
            Self::Builder => &[
                ("User-Agent", "Go-http-client/1.1"),
                ("X-Registry-Config", "e30="),
            ],
        }
    }
}

/// A request body in the way that it is sent.
#[derive(Clone, Debug, Default)]
pub(super) enum Payload {
    #[default]
    None,
    /// With its length.
    Sized(Vec<u8>),
    /// In pieces of as many bytes as Go copies at a time.
    Chunked(Vec<u8>),
    /// With its length, once it has been asked for.
    Expected(Vec<u8>),
}

impl Payload {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Sized(bytes) | Self::Chunked(bytes) | Self::Expected(bytes) => bytes,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) service: Service,
    pub(super) request: String,
    lines: Vec<(&'static str, String)>,
    pub(super) payload: Payload,
}

impl Call {
    /// `METHOD TARGET`.
    pub(super) fn new(service: Service, request: impl Into<String>) -> Self {
        Self {
            service,
            request: request.into(),
            lines: Vec::new(),
            payload: Payload::None,
        }
    }

    pub(super) fn line(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.lines.push((name, value.into()));
        self
    }

    /// As Go's encoder writes it, with a line end.
    pub(super) fn json(self, body: &Value) -> Self {
        let body = format!("{body}\n");
        self.line("Content-Type", "application/json")
            .payload(Payload::Sized(body.into_bytes()))
    }

    pub(super) fn payload(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    fn method(&self) -> &str {
        self.request.split(' ').next().unwrap()
    }
}

/// The job: its tokens, and a connection to each service that is kept.
pub(super) struct Runner {
    usher: SocketAddr,
    /// A list, without a scheme.
    tokens: String,
    peers: HashMap<Service, Peer>,
    cookie: Option<String>,
    /// The app that a builder is told.
    pub(super) builds_for: &'static str,
    /// The lines of the last request, without its framing and its host.
    pub(super) sent: Vec<(&'static str, String)>,
}

impl Runner {
    pub(super) fn new(usher: SocketAddr, header: &str) -> Self {
        Self {
            usher,
            tokens: header.strip_prefix("FlyV1 ").unwrap().to_owned(),
            peers: HashMap::new(),
            cookie: None,
            builds_for: "web",
            sent: Vec::new(),
        }
    }

    /// Sends a request once.
    #[track_caller]
    pub(super) fn call(&mut self, call: &Call) -> Answer {
        self.begin(call);
        self.end(call)
    }

    /// Sends a request as every one of the clients does: up to three times more while the answer
    /// is 502 or 503, whatever the method.
    #[track_caller]
    pub(super) fn persist(&mut self, call: &Call) -> Answer {
        let mut pauses = [50, 100, 200].map(Duration::from_millis).into_iter();
        loop {
            let answer = self.call(call);
            let pause = match answer.status {
                502 | 503 => pauses.next(),
                _ => None,
            };
            let Some(pause) = pause else {
                return answer;
            };
            thread::park_timeout(pause);
        }
    }

    /// Sends a request without waiting for its answer; a body that waits to be asked for is not
    /// sent yet.
    pub(super) fn begin(&mut self, call: &Call) {
        let service = call.service;
        let credential = service.credential(&self.tokens, self.builds_for);
        let mut lines = vec![("Authorization", credential)];
        let usual = service.lines().iter();
        lines.extend(usual.map(|(name, value)| (*name, (*value).to_owned())));
        lines.extend(call.lines.iter().cloned());
        let cookie = self.cookie.clone().filter(|_| service == Service::Machines);
        lines.extend(cookie.map(|cookie| ("Cookie", cookie)));
        let mut head = format!("{} HTTP/1.1\r\nHost: {}\r\n", call.request, service.host());
        for (name, value) in &lines {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.sent = lines;
        let length = call.payload.bytes().len();
        head.push_str(&match (&call.payload, call.method()) {
            (Payload::None, "GET" | "HEAD" | "DELETE") => "\r\n".to_owned(),
            (Payload::None | Payload::Sized(_), _) => format!("Content-Length: {length}\r\n\r\n"),
            (Payload::Chunked(_), _) => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            (Payload::Expected(_), _) => {
                format!("Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n")
            }
        });
        let address = self.usher;
        let peer = self
            .peers
            .entry(service)
            .or_insert_with(|| Peer::connect(address));
        peer.send(head);
        match &call.payload {
            Payload::None | Payload::Expected(_) => {}
            Payload::Sized(body) => peer.send(body),
            Payload::Chunked(body) => {
                for piece in body.chunks(32 * 1024) {
                    peer.send(format!("{:x}\r\n", piece.len()));
                    peer.send(piece);
                    peer.send("\r\n");
                }
                peer.send("0\r\n\r\n");
            }
        }
    }

    /// The answer to a request that was begun.
    #[track_caller]
    pub(super) fn end(&mut self, call: &Call) -> Answer {
        let peer = self.peers.get_mut(&call.service).unwrap();
        let mut answer = match call.method() {
            "HEAD" => peer.answer_to_head(),
            _ => peer.answer(),
        };
        if let (Payload::Expected(body), 100) = (&call.payload, answer.status) {
            peer.send(body);
            answer = peer.answer();
        }
        if answer.line("connection") == Some("close") {
            self.peers.remove(&call.service);
        }
        if let (Service::Machines, Some(cookie)) = (call.service, answer.line("set-cookie")) {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        answer
    }
}

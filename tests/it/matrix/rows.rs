//! The rows of the matrix, and the requests that they stand for.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Answer, Recorder, Usher};

/// One request, and what each kind of token gets for it.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) endpoint: String,
    pub(super) request: String,
    pub(super) expect: BTreeMap<String, u16>,
    pub(super) reason: BTreeMap<String, String>,
}

/// One credential, and what it gets.
#[derive(Debug, Deserialize)]
pub(super) struct CredentialRow {
    pub(super) id: String,
    pub(super) request: String,
    pub(super) expect: u16,
}

#[derive(Deserialize)]
struct Matrix {
    requests: Vec<Row>,
    credentials: Vec<CredentialRow>,
}

fn matrix() -> Matrix {
    serde_json::from_str(include_str!("../../surface/matrix.json")).unwrap()
}

pub(super) fn rows() -> Vec<Row> {
    let rows = matrix().requests;
    assert_eq!(rows.len(), 63);
    rows
}

pub(super) fn credential_rows() -> Vec<CredentialRow> {
    let rows = matrix().credentials;
    assert_eq!(rows.len(), 63);
    rows
}

/// A request as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: String,
    target: String,
    host: &'static str,
    body: Option<Value>,
    /// The token is the password of Basic.
    basic: bool,
}

impl Request {
    /// `None` where the row is not HTTP.
    pub(super) fn of(row: &Row) -> Option<Self> {
        if row.request.starts_with("NATS ") {
            return None;
        }
        let host = match row.endpoint.split('.').next().unwrap() {
            "logs" | "graphql" | "ssh" | "wg" | "releases" => "api.fly.io",
            "lfsc" => "litefs.fly.io",
            "reg" => "registry.fly.io",
            _ => "api.machines.dev",
        };
        Some(Self::parse(&row.request, host))
    }

    /// `METHOD TARGET`, perhaps with a body, a GraphQL operation or the word Basic behind it.
    pub(super) fn parse(text: &str, host: &'static str) -> Self {
        let (text, basic) = match text.strip_suffix(" (Basic x:token)") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let mut parts = text.splitn(3, ' ');
        let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
        let body = match (target, parts.next()) {
            ("/graphql", Some(operation)) => Some(graphql(operation)),
            (_, Some(text)) => Some(serde_json::from_str(text).unwrap()),
            // What clients send there.
            ("/v1/apps/web/machines" | "/v1/apps/web/machines/148e1aaa000001", None)
                if method == "POST" =>
            {
                Some(json!({ "config": { "image": "registry.fly.io/web:v1" }, "region": "ams" }))
            }
            ("/v1/apps/web/volumes", None) if method == "POST" => {
                Some(json!({ "name": "data", "size_gb": 1 }))
            }
            (_, None) => None,
        };
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host,
            body,
            basic,
        }
    }

    /// Sends it with a token in the way that its clients do.
    #[track_caller]
    pub(super) fn send(&self, usher: &Usher, token: Option<&str>) -> Answer {
        let credential = token.map(|token| match self.basic {
            true => {
                let list = token.trim_start_matches("FlyV1 ");
                format!("Basic {}", STANDARD.encode(format!("x:{list}")))
            }
            false => token.to_owned(),
        });
        self.send_raw(usher, credential.as_deref(), "")
    }

    /// Sends it with the value of an Authorization header, and further header lines.
    #[track_caller]
    pub(super) fn send_raw(&self, usher: &Usher, credential: Option<&str>, lines: &str) -> Answer {
        let mut peer = usher.connect();
        peer.send(self.bytes(credential, lines));
        peer.answer()
    }

    /// The request, whole.
    pub(super) fn bytes(&self, credential: Option<&str>, lines: &str) -> String {
        let Self {
            method,
            target,
            host,
            body,
            ..
        } = self;
        let host = if self.is_tunnel() { target } else { *host };
        let credential =
            credential.map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
        let body = body.as_ref().map_or_else(String::new, |body| {
            // A text stands for itself: what no JSON value could be.
            body.as_str()
                .map_or_else(|| body.to_string(), str::to_owned)
        });
        let framing = match (body.as_str(), method.as_str()) {
            ("", "GET" | "DELETE" | "CONNECT" | "TRACE") => String::new(),
            ("", _) => "content-length: 0\r\n".to_owned(),
            (body, _) => format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            ),
        };
        format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\n{credential}{lines}{framing}\r\n{body}"
        )
    }

    /// The same with these bytes as its body.
    pub(super) fn with_body(self, body: impl Into<Value>) -> Self {
        Self {
            body: Some(body.into()),
            ..self
        }
    }

    fn is_tunnel(&self) -> bool {
        self.method == "CONNECT"
    }

    /// That one request more has come to the upstream, as it was sent.
    #[track_caller]
    pub(super) fn check_forwarded(&self, upstream: &Recorder, seen: usize) {
        if self.is_tunnel() {
            return;
        }
        let requests = upstream.requests();
        assert_eq!(requests.len(), seen + 1, "{self:?}");
        let last = requests.last().unwrap();
        assert_eq!(
            last.request_line(),
            format!("{} {} HTTP/1.1", self.method, self.target)
        );
        assert_eq!(last.line("authorization"), None, "the token went upstream");
    }
}

/// The body that clients send for `query FIELD(ARGUMENTS)` or `mutation FIELD(ARGUMENTS)`.
fn graphql(operation: &str) -> Value {
    let (kind, field) = operation.split_once(' ').unwrap();
    let (name, arguments) = field.split_once('(').map_or((field, ""), |(name, rest)| {
        (name, rest.strip_suffix(')').unwrap())
    });
    match kind {
        "query" => json!({ "query": format!("query {{ {name}({arguments}) {{ id }} }}") }),
        "mutation" => {
            let input = match arguments {
                // The organization's id in GraphQL.
                "organizationId:acme" | "acme" => json!({ "organizationId": ORG }),
                r#"organizationId:acme, appNames:["web"]"# => {
                    json!({ "organizationId": ORG, "appNames": ["web"], "validHours": 1 })
                }
                "organizationId:acme, appNames:[]" => {
                    json!({ "organizationId": ORG, "appNames": [] })
                }
                r#"appId:"web""# => json!({ "appId": "web" }),
                "" => json!({ "peerIps": ["fdaa:0:1::3"] }),
                other => panic!("{other}"),
            };
            let (first, rest) = name.split_at(1);
            let upper = first.to_ascii_uppercase() + rest;
            let query = format!(
                "mutation($input: {upper}Input!) {{ {name}(input: $input) {{ clientMutationId }} }}"
            );
            json!({ "query": query, "variables": { "input": input } })
        }
        other => panic!("{other}"),
    }
}

const ORG: &str = "D307G1NJ1QjP9";

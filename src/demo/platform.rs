//! The platform that the demo's upstream plays: its objects, and its API's answers about them.

mod litefs;
mod machines;
mod registry;
mod shapes;
mod web;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Map, Value, json};

/// Organization acme.
pub(super) const ACME: u64 = 2001;
/// Organization beta.
pub(super) const BETA: u64 = 2002;
/// Acme's app web.
pub(super) const WEB: u64 = 3001;

/// A request, as it came from the proxy.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// The beginning of the body, or all of it.
    pub(super) body: &'a [u8],
    /// Bytes of the whole body.
    pub(super) length: usize,
}

/// One answer of the API.
#[derive(Debug)]
pub(super) enum Answer {
    /// A document.
    Document(StatusCode, Value),
    /// The log of an app, a line at a time, without end.
    Log(&'static App),
    /// Something else than JSON.
    Other(Response<Bytes>),
}

/// An app.
#[derive(Debug)]
pub(super) struct App {
    pub(super) id: u64,
    pub(super) name: &'static str,
    /// Slug and id of the organization.
    pub(super) org: (&'static str, u64),
    /// Ids.
    pub(super) machines: &'static [&'static str],
    /// Ids.
    pub(super) volumes: &'static [&'static str],
}

/// What the platform answers to a request, with what it saw of that request in every object.
pub(super) fn answer(asked: &Asked<'_>, now: i64) -> Answer {
    let (path, query) = asked.target.split_once('?').unwrap_or((asked.target, ""));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut answer = match segments.as_slice() {
        ["v1", rest @ ..] => machines::answer(asked, rest, query),
        ["api", "v1", rest @ ..] => web::answer(asked, rest, query, now),
        ["graphql"] => web::graphql(asked),
        ["prometheus", ..] => web::metrics(now),
        ["v2", rest @ ..] => registry::answer(asked, rest, query),
        _ => litefs::answer(asked, &segments, query).unwrap_or_else(done),
    };
    if let Answer::Document(_, document) = &mut answer {
        let received = received(asked);
        let objects = if let Value::Array(list) = document {
            list.as_mut_slice()
        } else {
            std::slice::from_mut(document)
        };
        for object in objects.iter_mut().filter_map(Value::as_object_mut) {
            object.insert("received".to_owned(), received.clone());
        }
    }
    answer
}

/// The request as it came here: the headers that usher sets, and whether the client's credential
/// is still there, which would be a fault.
fn received(asked: &Asked<'_>) -> Value {
    let mut received = Map::new();
    received.insert("method".to_owned(), asked.method.as_str().into());
    received.insert("target".to_owned(), asked.target.into());
    let credential = asked.headers.contains_key(http::header::AUTHORIZATION);
    received.insert("authorization".to_owned(), credential.into());
    for (name, value) in asked.headers {
        if name.as_str().starts_with("x-usher-") {
            let text = String::from_utf8_lossy(value.as_bytes());
            received.insert(name.as_str().to_owned(), text.into());
        }
    }
    Value::Object(received)
}

impl Asked<'_> {
    /// The body as JSON; `null` where it is none.
    fn json(&self) -> Value {
        serde_json::from_slice(self.body).unwrap_or_default()
    }
}

fn found(document: Value) -> Answer {
    Answer::Document(StatusCode::OK, document)
}

/// For whatever changes something: nothing here does change.
fn done() -> Answer {
    found(json!({ "ok": true }))
}

fn missing() -> Answer {
    Answer::Document(StatusCode::NOT_FOUND, json!({ "error": "not found" }))
}

fn by_name(name: &str) -> Option<&'static App> {
    APPS.iter().find(|app| app.name == name)
}

fn of_org(slug: &str) -> impl Iterator<Item = &'static App> {
    APPS.iter().filter(move |app| app.org.0 == slug)
}

/// The value of a query key, as it is written; empty where there is none.
fn parameter<'q>(query: &'q str, key: &str) -> &'q str {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(k, _)| *k == key).map(|(_, value)| value);
    value.unwrap_or_default()
}

/// All apps there are.
pub(super) static APPS: [App; 4] = [
    App {
        id: WEB,
        name: "web",
        org: ("acme", ACME),
        machines: &["148e1aaa000001", "148e1aaa000002"],
        volumes: &["vol_web1"],
    },
    App {
        id: 3002,
        name: "api",
        org: ("acme", ACME),
        machines: &["148e1bbb000001"],
        volumes: &["vol_api1"],
    },
    App {
        id: 3101,
        name: "shop",
        org: ("beta", 2002),
        machines: &["148e1ccc000001"],
        volumes: &[],
    },
    App {
        id: 3201,
        name: "vault",
        org: ("gamma", 2003),
        machines: &[],
        volumes: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, target: &str, body: &str) -> Answer {
        let asked = Asked {
            method: &method.parse().unwrap(),
            target,
            headers: &HeaderMap::new(),
            body: body.as_bytes(),
            length: body.len(),
        };
        answer(&asked, 1_764_000_000)
    }

    #[track_caller]
    fn document(method: &str, target: &str) -> (u16, Value) {
        document_of(method, target, "")
    }

    #[track_caller]
    fn document_of(method: &str, target: &str, body: &str) -> (u16, Value) {
        match ask(method, target, body) {
            Answer::Document(status, document) => (status.as_u16(), document),
            other @ (Answer::Log(_) | Answer::Other(_)) => panic!("{target}: {other:?}"),
        }
    }

    #[track_caller]
    fn other(method: &str, target: &str) -> Response<Bytes> {
        match ask(method, target, "body") {
            Answer::Other(response) => response,
            other @ (Answer::Log(_) | Answer::Document(..)) => panic!("{target}: {other:?}"),
        }
    }

    #[test]
    fn answers_have_the_shape_of_the_api() {
        let (_, app) = document("GET", "/v1/apps/web");
        assert_eq!(app["organization"]["internal_numeric_id"], ACME);
        assert_eq!(app["internal_numeric_id"], WEB);
        let (_, list) = document("GET", "/v1/apps?org_slug=acme");
        assert_eq!(list["total_apps"], 2);
        let (_, machines) = document("GET", "/v1/apps/web/machines");
        assert_eq!(machines.as_array().unwrap().len(), 2);
        assert_eq!(machines[1]["id"], "148e1aaa000002");
        let (_, machines) = document("GET", "/v1/orgs/acme/machines");
        assert_eq!(machines["machines"].as_array().unwrap().len(), 3);
        let (_, stopped) = document("POST", "/v1/apps/web/machines/148e1aaa000001/stop");
        assert_eq!(stopped["ok"], true);
        let (_, volume) = document("GET", "/v1/apps/web/volumes/vol_web1");
        assert_eq!(volume["app"], "web");
        for unknown in [
            "/v1/apps/nothing",
            "/v1/apps/web/machines/148e1bbb000001",
            "/v1/apps/web/machines/148e1bbb000001/wait",
            "/v1/apps/web/volumes/vol_api1",
            "/api/v1/organizations/nobody",
        ] {
            assert_eq!(document("GET", unknown).0, 404, "{unknown}");
        }
    }

    #[test]
    fn a_command_answers_with_the_words_that_arrived() {
        let target = "/v1/apps/web/machines/148e1aaa000001/exec";
        let (_, ran) = document_of("POST", target, r#"{"command":["ls","-l","/tmp"]}"#);
        assert_eq!(ran["exit_code"], 0);
        assert_eq!(ran["stdout"], "ls -l /tmp\n");
    }

    #[test]
    fn graphql_answers_under_the_name_that_was_asked_for() {
        for (query, pointer) in [
            (
                "query { organization(slug: \"acme\") { id } }",
                "/data/organization/slug",
            ),
            ("{ here: app(name: \"web\") { id } }", "/data/here/name"),
            (
                "mutation($input: X!) { setSecrets(input: $input) { app { name } } }",
                "/data/setSecrets/app",
            ),
        ] {
            let body = json!({ "query": query }).to_string();
            let (_, answer) = document_of("POST", "/graphql", &body);
            assert!(answer.pointer(pointer).is_some(), "{query}: {answer}");
        }
    }

    #[test]
    fn an_upload_goes_from_its_start_to_a_digest() {
        let start = other("POST", "/v2/web/blobs/uploads/");
        assert_eq!(start.status(), 202);
        let location = start.headers()["location"].to_str().unwrap();
        let chunk = other("PATCH", location);
        assert_eq!(
            (chunk.status().as_u16(), &chunk.headers()["range"]),
            (202, &"0-3".parse().unwrap())
        );
        let end = other("PUT", &format!("{location}?digest=sha256:ab"));
        assert_eq!(end.status(), 201);
        assert_eq!(end.headers()["location"], "/v2/web/blobs/sha256:ab");
        assert_eq!(other("GET", "/v2/web/blobs/sha256:ab").status(), 200);
        assert_eq!(other("GET", "/v2/nobodys/manifests/v1").status(), 404);
    }

    #[test]
    fn litefs_answers_positions_and_transactions() {
        let (_, clusters) = document("GET", "/clusters");
        assert_eq!(clusters["clusters"][0]["name"], "primary");
        let (_, positions) = document("GET", "/pos?cluster=primary");
        assert!(positions["main"]["txid"].is_string());
        assert!(
            other("POST", "/db/tx?db=main")
                .headers()
                .contains_key("litefs-hwm")
        );
    }

    #[test]
    fn every_object_tells_what_was_received() {
        let mut headers = HeaderMap::new();
        headers.insert("x-usher-org", "2001".parse().unwrap());
        headers.insert("authorization", "FlyV1 secret".parse().unwrap());
        let target = "/v1/apps/web/machines?state=started";
        let asked = Asked {
            method: &Method::GET,
            target,
            headers: &headers,
            body: b"",
            length: 0,
        };
        let answer = answer(&asked, 0);
        let Answer::Document(_, machines) = answer else {
            panic!("a document");
        };
        assert!(!machines.to_string().contains("secret"));
        for machine in machines.as_array().unwrap() {
            let expected = json!({
                "method": "GET",
                "target": target,
                "authorization": true,
                "x-usher-org": "2001",
            });
            assert_eq!(machine["received"], expected);
        }
    }
}

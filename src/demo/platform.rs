//! The platform that the demo's upstream plays: its objects, and its API's answers about them.

mod shapes;

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::upstream::log;

use shapes::{REGION, VERSION, app, image, machine, machines, release, volume, volumes};

/// Organization acme.
pub(super) const ACME: u64 = 2001;
/// Organization beta.
pub(super) const BETA: u64 = 2002;
/// Acme's app web.
pub(super) const WEB: u64 = 3001;

/// One answer of the API.
#[derive(Debug)]
pub(super) enum Answer {
    /// A document.
    Document(StatusCode, Value),
    /// The log of an app, a line at a time, without end.
    Log(&'static App),
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
pub(super) fn answer(method: &Method, target: &str, headers: &HeaderMap, now: i64) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut answer = about(method, path, query, now);
    if let Answer::Document(_, document) = &mut answer {
        let received = received(method, target, headers);
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
fn received(method: &Method, target: &str, headers: &HeaderMap) -> Value {
    let mut received = Map::new();
    received.insert("method".to_owned(), method.as_str().into());
    received.insert("target".to_owned(), target.into());
    let credential = headers.contains_key(http::header::AUTHORIZATION);
    received.insert("authorization".to_owned(), credential.into());
    for (name, value) in headers {
        if name.as_str().starts_with("x-usher-") {
            let text = String::from_utf8_lossy(value.as_bytes());
            received.insert(name.as_str().to_owned(), text.into());
        }
    }
    Value::Object(received)
}

fn about(method: &Method, path: &str, query: &str, now: i64) -> Answer {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["v1", "apps"] => {
            let apps: Vec<Value> = of_org(parameter(query, "org_slug")).map(app).collect();
            found(json!({ "total_apps": apps.len(), "apps": apps }))
        }
        ["v1", "apps", name, rest @ ..] => match by_name(name) {
            Some(app) => about_app(method, app, rest),
            None => missing(),
        },
        ["v1", "orgs", slug, "machines"] => {
            found(json!({ "machines": machines(of_org(slug)), "next_cursor": null }))
        }
        ["v1", "orgs", slug, "volumes"] => {
            found(json!({ "volumes": volumes(of_org(slug)), "next_cursor": null }))
        }
        ["v1", "platform", "regions"] => found(json!({
            "nearest": REGION,
            "regions": [{ "code": REGION, "name": "Amsterdam, Netherlands" }],
        })),
        ["api", "v1", "organizations", slug] => match of_org(slug).next() {
            Some(app) => found(json!({ "slug": slug, "internal_numeric_id": app.org.1 })),
            None => missing(),
        },
        ["api", "v1", "apps", name, rest @ ..] => match (by_name(name), rest) {
            (Some(app), ["logs"]) => {
                let after = parameter(query, "next_token").parse().ok();
                found(log::page(app, after, now))
            }
            (Some(app), ["logs", "stream"]) => Answer::Log(app),
            (Some(_), ["releases"]) => found(json!([release()])),
            (Some(_), ["releases", "current"]) => found(release()),
            (Some(_), _) => done(),
            (None, _) => missing(),
        },
        _ => done(),
    }
}

fn about_app(method: &Method, of: &'static App, rest: &[&str]) -> Answer {
    match (method.as_str(), rest) {
        ("GET", []) => found(app(of)),
        ("GET", ["machines"]) => found(machines([of].into_iter()).into()),
        ("POST", ["machines"]) => found(machine(of, "148e1fff000001")),
        (_, ["machines", id, ..]) if !of.machines.contains(id) => missing(),
        (_, ["volumes", id, ..]) if !of.volumes.contains(id) => missing(),
        ("GET" | "POST", ["machines", id]) => found(machine(of, id)),
        ("GET", ["machines", _, "events"]) => found(json!([
            { "type": "start", "status": "started", "source": "flyd" }
        ])),
        ("GET", ["machines", id, "versions"]) => {
            found(json!([{ "version": VERSION, "user_config": { "image": image(of) }, "id": id }]))
        }
        ("GET", ["machines", _, "ps"]) => found(json!([
            { "pid": 1, "command": "/bin/server", "stime": 0, "cpu": 0, "rss": 10_485_760 }
        ])),
        ("GET" | "POST", ["machines", id, "lease"]) => found(json!({
            "status": "success",
            "data": { "nonce": "0f1e2d3c4b5a", "version": VERSION, "owner": id },
        })),
        ("GET", ["machines", _, "metadata"]) => found(json!({ "fly_process_group": "app" })),
        ("GET", ["machines", _, "memory"]) => {
            found(json!({ "limit_mb": 256, "available_mb": 200 }))
        }
        ("GET", ["volumes"]) => found(volumes([of].into_iter()).into()),
        (_, ["volumes", id]) => found(volume(of, id)),
        ("GET", ["volumes", id, "snapshots"]) => {
            found(json!([{ "id": format!("vs_{id}"), "size": 1_048_576, "status": "created" }]))
        }
        ("GET", ["secrets"]) => found(json!({
            "secrets": [{ "name": "DATABASE_URL", "digest": "3b1a7c9d" }],
        })),
        ("GET", ["secrets", name]) => found(json!({ "name": name, "digest": "3b1a7c9d" })),
        ("GET", ["secretkeys"]) => found(json!({ "secret_keys": [] })),
        ("GET", ["certificates"]) => found(json!({ "certificates": [], "total_count": 0 })),
        ("GET", ["ip_assignments"]) => found(json!({
            "ips": [{ "ip": "2a09:8280:1::1", "region": "global", "shared": false }],
        })),
        _ => done(),
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

    #[track_caller]
    fn document(method: &str, target: &str) -> (u16, Value) {
        let method = method.parse().unwrap();
        match answer(&method, target, &HeaderMap::new(), 1_764_000_000) {
            Answer::Document(status, document) => (status.as_u16(), document),
            Answer::Log(_) => panic!("{target} is a stream"),
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
    fn every_object_tells_what_was_received() {
        let mut headers = HeaderMap::new();
        headers.insert("x-usher-org", "2001".parse().unwrap());
        headers.insert("authorization", "FlyV1 secret".parse().unwrap());
        let target = "/v1/apps/web/machines?state=started";
        let answer = answer(&Method::GET, target, &headers, 0);
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

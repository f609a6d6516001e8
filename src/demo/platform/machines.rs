//! The Machines API: apps, machines, volumes, secrets, and the platform itself.

use serde_json::{Value, json};

use super::shapes::{REGION, VERSION, app, image, machine, machines, volume, volumes};
use super::{Answer, App, Asked, by_name, done, found, missing, of_org, parameter};

/// What is asked for below `/v1/`.
pub(super) fn answer(asked: &Asked<'_>, path: &[&str], query: &str) -> Answer {
    match (asked.method.as_str(), path) {
        ("POST", ["apps"]) => found(json!({ "id": "new", "created_at": 0 })),
        (_, ["apps"]) => {
            let apps: Vec<Value> = of_org(parameter(query, "org_slug")).map(app).collect();
            found(json!({ "total_apps": apps.len(), "apps": apps }))
        }
        (_, ["apps", name, rest @ ..]) => match by_name(name) {
            Some(app) => about_app(asked, app, rest),
            None => missing(),
        },
        (_, ["orgs", slug, "machines"]) => {
            found(json!({ "machines": machines(of_org(slug)), "next_cursor": null }))
        }
        (_, ["orgs", slug, "volumes"]) => {
            found(json!({ "volumes": volumes(of_org(slug)), "next_cursor": null }))
        }
        (_, ["platform", "regions"]) => found(json!({
            "nearest": REGION,
            "regions": [{ "code": REGION, "name": "Amsterdam, Netherlands" }],
        })),
        (_, ["platform", "placements"]) => {
            found(json!({ "regions": [{ "region": REGION, "count": 1, "concurrency": 1 }] }))
        }
        (_, ["tokens", "current"]) => found(json!({ "tokens": [] })),
        (_, ["postgres"]) => found(json!({ "data": [] })),
        (_, ["postgres", id, ..]) => {
            found(json!({ "data": { "id": id, "region": REGION, "status": "ready" } }))
        }
        _ => done(),
    }
}

fn about_app(asked: &Asked<'_>, of: &'static App, rest: &[&str]) -> Answer {
    match (asked.method.as_str(), rest) {
        ("GET", []) => found(app(of)),
        ("POST", ["deploy_token"]) => found(json!({ "token": "FlyV1 demo" })),
        ("GET", ["machines"]) => found(machines([of].into_iter()).into()),
        ("POST", ["machines"]) => found(machine(of, "148e1fff000001")),
        (_, ["machines", id, ..]) if !of.machines.contains(id) => missing(),
        (_, ["volumes", id, ..]) if !of.volumes.contains(id) => missing(),
        ("GET" | "POST", ["machines", id]) => found(machine(of, id)),
        ("POST", ["machines", _, "exec"]) => found(ran(&asked.json())),
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
        ("POST", ["volumes"]) => found(volume(of, "vol_new1")),
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

/// Every command of the demo says its own words.
fn ran(body: &Value) -> Value {
    let words = body.get("command").and_then(Value::as_array);
    let words = words.into_iter().flatten().filter_map(Value::as_str);
    let line = words.collect::<Vec<_>>().join(" ");
    json!({ "exit_code": 0, "exit_signal": 0, "stdout": format!("{line}\n"), "stderr": "" })
}

//! The API's objects as it writes them, as far as the demo has anything to say about them.

use serde_json::{Value, json};

use super::App;

pub(super) fn app(app: &App) -> Value {
    let App { id, name, org, .. } = app;
    json!({
        "id": name,
        "internal_numeric_id": id,
        "name": name,
        "organization": { "slug": org.0, "name": org.0, "internal_numeric_id": org.1 },
        "status": "deployed",
        "machine_count": app.machines.len(),
        "volume_count": app.volumes.len(),
    })
}

pub(super) fn machine(of: &App, id: &str) -> Value {
    json!({
        "id": id,
        "name": format!("{}-{id}", of.name),
        "state": "started",
        "region": REGION,
        "instance_id": VERSION,
        "config": { "image": image(of), "guest": { "cpu_kind": "shared", "cpus": 1, "memory_mb": 256 } },
        "app": of.name,
    })
}

pub(super) fn volume(of: &App, id: &str) -> Value {
    json!({
        "id": id,
        "name": "data",
        "state": "created",
        "size_gb": 1,
        "region": REGION,
        "app": of.name,
    })
}

pub(super) fn machines<'a>(apps: impl Iterator<Item = &'a App>) -> Vec<Value> {
    let all = apps.flat_map(|app| app.machines.iter().map(move |id| machine(app, id)));
    all.collect()
}

pub(super) fn volumes<'a>(apps: impl Iterator<Item = &'a App>) -> Vec<Value> {
    let all = apps.flat_map(|app| app.volumes.iter().map(move |id| volume(app, id)));
    all.collect()
}

pub(super) fn release() -> Value {
    json!({ "id": "rel_1", "version": 1, "status": "succeeded", "stable": true })
}

pub(super) fn image(of: &App) -> String {
    format!("registry.fly.io/{}:latest", of.name)
}

/// Where everything runs.
pub(super) const REGION: &str = "ams";
/// Of every machine.
pub(super) const VERSION: &str = "01JD0000000000000000000000";

//! The web API: logs, releases, builds, organizations, GraphQL and metrics.

use serde_json::{Value, json};

use super::shapes::{app, release};
use super::{APPS, Answer, Asked, by_name, done, found, missing, of_org, parameter};
use crate::demo::upstream::log;

/// What is asked for below `/api/v1/`.
pub(super) fn answer(asked: &Asked<'_>, path: &[&str], query: &str, now: i64) -> Answer {
    match (asked.method.as_str(), path) {
        (_, ["organizations"]) => found(json!({ "organizations": [org("acme"), org("beta")] })),
        (_, ["organizations", slug, ..]) if of_org(slug).next().is_none() => missing(),
        ("GET", ["organizations", slug]) => found(org(slug)),
        ("POST", ["organizations", _, "builders"]) => {
            found(json!({ "app_name": "fly-builder", "machine_id": "148e1eee000001" }))
        }
        (_, ["organizations", _, _, ..]) => found(json!({ "data": [] })),
        (_, ["apps", name, rest @ ..]) => match (by_name(name), rest) {
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
        (_, ["logs", "subscribe"]) => {
            let name = parameter(query, "subject").split('.').nth(1);
            let named = name.and_then(by_name);
            named.or(APPS.first()).map_or_else(missing, Answer::Log)
        }
        (_, ["releases", "all_current"]) => found(json!([release()])),
        (_, ["releases", ..]) => found(release()),
        (_, ["builds", ..]) => found(json!({ "id": "build_1", "status": "completed" })),
        (_, ["cli_sessions", ..] | ["sessions"]) => {
            found(json!({ "id": "session_1", "auth_url": "https://fly.io/app/auth/cli/session_1" }))
        }
        _ => done(),
    }
}

/// One operation with one root field, which is what clients send.
pub(super) fn graphql(asked: &Asked<'_>) -> Answer {
    let body = asked.json();
    let query = body
        .get("query")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // Behind the first brace comes the field, perhaps under another name.
    let selection = query.split_once('{').map_or("", |(_, rest)| rest.trim());
    let word = |text: &str| -> String {
        let letters = text.trim_start().chars();
        letters
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    let key = word(selection);
    let field = match selection.split_at_checked(key.len()) {
        Some((_, rest)) if rest.trim_start().starts_with(':') => {
            word(rest.trim_start().trim_start_matches(':'))
        }
        _ => key.clone(),
    };
    let value = match field.as_str() {
        "organization" => org("acme"),
        "app" => APPS.first().map_or(Value::Null, app),
        "createRelease" | "updateRelease" => json!({ "release": release() }),
        _ => json!({ "app": { "name": "web" } }),
    };
    found(json!({ "data": { key: value } }))
}

/// What Prometheus says of nothing.
pub(super) fn metrics(now: i64) -> Answer {
    found(json!({
        "status": "success",
        "data": { "resultType": "vector", "result": [{ "metric": {}, "value": [now, "1"] }] },
    }))
}

fn org(slug: &str) -> Value {
    let id = of_org(slug).next().map(|app| app.org.1);
    json!({ "id": format!("org_{slug}"), "slug": slug, "internal_numeric_id": id })
}

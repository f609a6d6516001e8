use std::path::Path;

use super::*;
use crate::cli::check::openapi;
use crate::config;

const CONFIG: &str = r#"
listeners: [ { address: "127.0.0.1:0" } ]
authority: { location: "https://api.test/v1", store: "sqlite:t.db", seal_key: { env: KEY } }
upstreams: [ { name: api, urls: [ "http://127.0.0.1:1" ] } ]
routes:
  - { name: app, method: [ GET, PATCH ], path: "/v1/apps/{app}", host: api.test, access: authenticated, upstream: api, query: [ limit, "metadata.*" ] }
  - { name: special, method: GET, path: /v1/apps/1, host: api.test, access: authenticated, upstream: api }
  - { name: address, method: GET, path: "/v1/ips/{ip:ip}", access: authenticated, upstream: api }
  - { name: other, method: GET, path: /v1/other, host: other.test, access: authenticated, upstream: api }
"#;

const DOCUMENT: &str = r#"
openapi: 3.0.3
servers: [ { url: "https://api.test/v1" }, { url: "https://staging.test/v1" } ]
paths:
  /apps/{name}:
    get: { parameters: [ { in: query, name: limit }, { in: query, name: "metadata.{key}" }, { in: query, name: secret }, { in: query, name: "filter[a]" } ] }
    put: { operationId: replace }
  /ips/{address}.json: { get: {} }
  /nothing: { get: {} }
"#;

fn report(document: &str, host: Option<&str>) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("openapi.yaml");
    std::fs::write(&spec, document).unwrap();
    let (config, _) = config::parse(CONFIG, Path::new("usher.yaml")).unwrap();
    let operations = openapi::read(&spec).unwrap();
    let coverage = Coverage::of(&config, &operations, host);
    let report = coverage.in_json();
    let uncovered = report["uncovered"].as_array().unwrap();
    assert_eq!(coverage.is_complete(), uncovered.is_empty());
    report
}

/// `METHOD path` of each.
fn listed(report: &Value, section: &str) -> Vec<String> {
    let rows = report[section].as_array().unwrap().iter();
    rows.map(|row| match row["route"].as_str() {
        Some(route) => format!("{route} {} {}", row["keys"], row["methods"]),
        None => format!("{} {}: {}", row["method"], row["path"], row["reason"]).replace('"', ""),
    })
    .collect()
}

#[test]
fn operations_and_routes_that_do_not_meet_are_told() {
    let report = report(DOCUMENT, None);
    assert_eq!(report["operations"], 4);
    assert_eq!(
        listed(&report, "uncovered"),
        [
            "PUT /apps/{name}: the method is not allowed here; allowed: GET, HEAD, PATCH",
            "GET /ips/{address}.json: `ip` in the path is not made of hexadecimal digits, `.` and `:`",
            "GET /nothing: no such route",
        ]
    );
    assert_eq!(
        listed(&report, "refused_query_keys"),
        [r#"app ["secret","filter[a]"] null"#]
    );
    // Not the one that another host has; the literal is one of its own.
    assert_eq!(
        listed(&report, "undocumented_routes"),
        [
            r#"app null ["PATCH"]"#,
            r#"special null ["GET"]"#,
            r#"address null ["GET"]"#,
        ]
    );
}

#[test]
fn a_host_can_be_given() {
    let there = report(DOCUMENT, Some("other.test:8443"));
    assert!(listed(&there, "uncovered").contains(&"GET /apps/{name}: no such route".to_owned()));
    assert_eq!(
        listed(&there, "undocumented_routes"),
        [r#"address null ["GET"]"#, r#"other null ["GET"]"#]
    );
}

#[test]
fn a_document_without_hosts_is_compared_with_every_host() {
    let relative = DOCUMENT
        .replace("https://api.test", "")
        .replace("https://staging.test", "");
    let everywhere = report(&relative, None);
    assert_eq!(listed(&everywhere, "uncovered").len(), 3);
    assert_eq!(listed(&everywhere, "undocumented_routes").len(), 4);
}

#[test]
fn a_document_that_is_covered_says_so() {
    let document = "openapi: 3.0.0\npaths: { \"/v1/apps/{x}\": { get: {}, patch: {} }, /v1/other: { get: {} } }";
    let (config, _) = config::parse(CONFIG, Path::new("usher.yaml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("openapi.yaml");
    std::fs::write(&spec, document).unwrap();
    let operations = openapi::read(&spec).unwrap();
    let coverage = Coverage::of(&config, &operations, None);
    assert!(coverage.is_complete());
    let words = coverage.in_words();
    assert_eq!(
        words,
        "3 of 3 operations have a route\n\nroutes that are not in the document (2):\n  \
         GET  /v1/apps/1       special\n  GET  /v1/ips/{ip:ip}  address\n"
    );
}

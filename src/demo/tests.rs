//! The demo's configuration, and what its tokens may do under it.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};

use super::platform::APPS;
use super::samples::{Attempt, SampleToken};
use super::*;
use crate::authority::Authority;
use crate::authz::{Authorizer, Denial, Head};
use crate::config::{self, Config};
use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::policy::{AppIds, Found, NameTable, Names as _};

const NOW: i64 = 1_764_000_000;

fn compiled(text: &str, path: &Path) -> Config {
    let (config, warnings) = config::parse(text, path).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}

#[test]
fn every_address_goes_to_its_own_place() {
    // Each with what another of them has in the file.
    let (listen, admin) = ("[::1]:9090", "127.0.0.1:8081");
    let text = configuration(
        listen.parse().unwrap(),
        admin.parse().unwrap(),
        "127.0.0.1:8080".parse().unwrap(),
    );
    let config = compiled(&text, Path::new("usher.yaml"));
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), listen);
    assert_eq!(config.admin, Some(admin.parse().unwrap()));
    let ports: Vec<u16> = config.upstreams.iter().map(|u| u.urls[0].port).collect();
    assert_eq!(ports, [8080, 8080]);
    assert!(config.authority.store.ends_with(folder::STORE));
    let seal_key = config::Secret::File(folder::SEAL_KEY.into());
    assert_eq!(config.authority.seal_key, seal_key);
}

#[test]
fn the_directory_knows_what_the_upstream_plays() {
    let config = compiled(TEMPLATE, Path::new("demo.yaml"));
    assert!(config.directory.public_names);
    let directory = Directory::open(&config.directory, &Arc::default()).unwrap();
    let none = NameTable::default();
    let directory = directory.view(&none);
    assert_eq!(directory.apps().count(), APPS.len());
    for app in &APPS {
        let (slug, org) = app.org;
        assert_eq!(directory.org(slug), Found::Known(org));
        let ids = AppIds { app: app.id, org };
        assert_eq!(directory.app(app.name), Found::Known(ids));
        for id in app.machines {
            assert_eq!(directory.machine(id), Found::Known(ids));
        }
        for id in app.volumes {
            assert_eq!(directory.volume(id), Found::Known(ids));
        }
    }
}

/// The decisions that the API's acceptance matrix asks for, as far as they need no body.
#[test]
fn the_tokens_may_what_the_matrix_says() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(Some(dir.path())).unwrap();
    folder.provide_seal_key().unwrap();
    let config = Arc::new(compiled(TEMPLATE, &folder.path(CONFIG)));
    let authority = Arc::new(Authority::open(&config.authority, NOW).unwrap());
    let tokens = samples::issue(&authority, NOW).unwrap();
    let names: Vec<_> = tokens.iter().map(|t| t.sample.kind.name()).collect();
    let kinds = [
        "auth",
        "org",
        "deploy",
        "readonly",
        "machine-exec",
        "litefs-cloud",
        "ssh",
        "wireguard",
    ];
    assert_eq!(names, kinds);
    let directory = Arc::new(Directory::open(&config.directory, &Arc::default()).unwrap());
    let authorizer = Authorizer::new(config, authority, directory, Arc::new(Metrics::new()));
    let status = |method: &str, target: &str, header: &str| {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(header).unwrap();
        headers.insert(http::header::AUTHORIZATION, value);
        let head = Head {
            method: &method.parse::<Method>().unwrap(),
            host: "127.0.0.1:8080",
            target,
            headers: &headers,
            basic: None,
            body: None,
        };
        match authorizer.authorize(&head, NOW).unwrap().verdict {
            Ok(_) => 200,
            Err(Denial::Prohibited(_)) => 403,
            Err(Denial::UnknownName(_) | Denial::NoRoute) => 404,
            Err(other) => panic!("{method} {target}: {other:?}"),
        }
    };
    for (request, expected) in MATRIX {
        let (method, target) = request.split_once(' ').unwrap();
        let found: Vec<_> = tokens
            .iter()
            .filter(|token| IN_MATRIX.contains(&token.sample.kind.name()))
            .map(|token| status(method, target, &token.header))
            .collect();
        assert_eq!(found, expected, "{request}");
    }
    for SampleToken { sample, header } in &tokens {
        for (attempt, expected) in [(&sample.permitted, 200), (&sample.denied, 403)] {
            let Attempt { method, target, .. } = attempt;
            assert_eq!(status(method, target, header), expected, "{target}");
        }
    }
}

/// The kinds whose statuses stand in [`MATRIX`], in this order.
const IN_MATRIX: [&str; 3] = ["org", "deploy", "readonly"];

/// Requests, with the status for the org, the deploy and the readonly token.
const MATRIX: [(&str, [u16; 3]); 40] = [
    ("GET /v1/apps/web", [200, 200, 200]),
    ("GET /v1/apps/api", [200, 403, 200]),
    ("GET /v1/apps/shop", [403, 403, 403]),
    ("GET /v1/apps/vault", [403, 403, 403]),
    ("GET /v1/apps/nobodys", [404, 404, 404]),
    ("GET /v1/apps?org_slug=acme", [200, 403, 200]),
    ("GET /v1/apps?org_slug=gamma", [403, 403, 403]),
    ("DELETE /v1/apps/web", [200, 200, 403]),
    ("DELETE /v1/apps/api", [200, 403, 403]),
    ("POST /v1/apps/web/deploy_token", [200, 403, 403]),
    ("GET /v1/apps/web/machines", [200, 200, 200]),
    (
        "GET /v1/apps/web/machines?include_leases=true",
        [200, 200, 403],
    ),
    ("GET /v1/apps/web/machines/148e1aaa000001", [200, 200, 200]),
    ("GET /v1/apps/api/machines/148e1bbb000001", [200, 403, 200]),
    ("POST /v1/apps/web/machines", [200, 200, 403]),
    ("POST /v1/apps/web/machines/148e1aaa000001", [200, 200, 403]),
    (
        "POST /v1/apps/web/machines/148e1aaa000001/start",
        [200, 200, 403],
    ),
    (
        "POST /v1/apps/web/machines/148e1aaa000001/stop",
        [200, 200, 403],
    ),
    (
        "DELETE /v1/apps/web/machines/148e1aaa000001?kill=true",
        [200, 200, 403],
    ),
    (
        "GET /v1/apps/web/machines/148e1aaa000001/wait?state=started&timeout=60",
        [200, 200, 200],
    ),
    (
        "GET /v1/apps/web/machines/148e1aaa000001/lease",
        [200, 200, 403],
    ),
    (
        "POST /v1/apps/web/machines/148e1aaa000001/lease?ttl=13",
        [200, 200, 403],
    ),
    (
        "POST /v1/apps/web/machines/148e1aaa000001/metadata/k",
        [200, 200, 403],
    ),
    ("GET /v1/apps/web/volumes", [200, 200, 200]),
    ("PUT /v1/apps/web/volumes/vol_web1/extend", [200, 200, 403]),
    ("DELETE /v1/apps/web/volumes/vol_web1", [200, 200, 403]),
    ("GET /v1/apps/web/secrets", [200, 200, 200]),
    (
        "GET /v1/apps/web/secrets?show_secrets=true",
        [200, 200, 403],
    ),
    ("POST /v1/apps/web/secrets/DB_URL", [200, 200, 403]),
    ("GET /v1/apps/web/certificates", [200, 200, 200]),
    (
        "GET /v1/apps/web/certificates/*.example.com",
        [200, 200, 200],
    ),
    ("GET /v1/apps/web/ip_assignments", [200, 200, 200]),
    ("GET /v1/orgs/acme/machines", [200, 403, 200]),
    ("GET /v1/platform/regions", [200, 200, 200]),
    ("GET /api/v1/organizations/acme", [200, 200, 200]),
    ("GET /api/v1/apps/web/logs?next_token=", [200, 200, 200]),
    (
        "GET /api/v1/apps/web/logs?next_token=&instance=148e1aaa000001",
        [200, 200, 200],
    ),
    ("GET /api/v1/apps/api/logs?next_token=", [200, 403, 200]),
    ("GET /api/v1/apps/web/logs/stream", [200, 200, 200]),
    // What needs a body is not approximated.
    (
        "POST /v1/apps/web/machines/148e1aaa000001/exec",
        [404, 404, 404],
    ),
];

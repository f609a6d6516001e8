//! The demo's configuration.

use std::path::Path;
use std::sync::Arc;

use super::platform::APPS;
use super::*;
use crate::config::{self, Config};
use crate::directory::Directory;
use crate::policy::{AppIds, Found, NameTable, Names as _};

/// Compiles it where its other file is in this repository.
fn compiled(text: &str) -> Config {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/usher.yaml");
    let (config, warnings) = config::parse(text, &beside).unwrap();
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
    let config = compiled(&text);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), listen);
    assert_eq!(config.admin, Some(admin.parse().unwrap()));
    let urls = config.upstreams.iter().flat_map(|upstream| &upstream.urls);
    let ports: Vec<u16> = urls.map(|url| url.port).collect();
    assert_eq!(ports, [8080; 5]);
    assert!(config.authority.store.ends_with(folder::STORE));
    let config::Secret::File(seal_key) = &config.authority.seal_key else {
        panic!("the seal key is in a file");
    };
    assert!(seal_key.ends_with(folder::SEAL_KEY));
}

#[test]
fn the_directory_knows_what_the_upstream_plays() {
    let any = "127.0.0.1:1".parse().unwrap();
    let config = compiled(&configuration(any, any, any));
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

#[test]
fn the_routes_are_those_of_the_platform() {
    let any = "127.0.0.1:1".parse().unwrap();
    let demo = configuration(any, any, any);
    let fly = include_str!("../../config/fly.yaml");
    let (_, routes) = fly.split_once("\nroutes:\n").unwrap();
    assert!(demo.ends_with(routes));
    // With all hosts on one listener no two of them get in each other's way.
    assert_eq!(compiled(&demo).routes.len(), compiled(fly).routes.len());
}

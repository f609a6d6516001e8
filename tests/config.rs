//! Configurations that must compile, and what is said of those that must not.
//!
//! `UPDATE_GOLDEN=1 cargo test --test config` rewrites the expectations; review the diff.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use http::Method;
use usher::config::{self, Config, Denials, Oddity, Secret};
use usher::policy::{Holder, LookupKind, NameTable};
use usher::route::Target;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/configs").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

fn load(path: &str) -> (Config, String) {
    let (config, warnings) = config::load(Path::new(path)).unwrap_or_else(|e| panic!("{e}"));
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    (config, warnings.join("\n"))
}

fn check_golden(path: &Path, got: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, got).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == got,
        "{} differs; it is now:\n{got}",
        path.display()
    );
}

#[test]
fn bad_configurations_say_everything_that_is_wrong() {
    let files = files("bad");
    assert!(files.len() > 15, "the folder is found");
    for path in files {
        let Err(error) = config::load(&path) else {
            panic!("{} compiles", path.display());
        };
        let got = format!("{error}\n");
        assert!(got.contains(".yaml:"), "{got}");
        check_golden(&path.with_extension("stderr"), &got);
    }
}

#[test]
fn five_mistakes_are_five_problems_in_the_order_of_the_file() {
    let path = Path::new("tests/configs/bad/five-mistakes.yaml");
    let Err(config::ConfigError::Invalid(problems)) = config::load(path) else {
        panic!("it compiles");
    };
    let places: Vec<_> = problems.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(places, [(11, 35), (15, 12), (20, 49), (23, 13), (30, 5)]);
}

#[test]
fn no_secret_is_repeated() {
    for name in ["inline-secrets", "later-versions", "lookups"] {
        let path = PathBuf::from(format!("tests/configs/bad/{name}.yaml"));
        let error = config::load(&path).unwrap_err().to_string();
        for secret in ["hunter2", "c2VjcmV0"] {
            assert!(!error.contains(secret), "{error}");
        }
    }
}

#[test]
fn good_configurations_compile_and_are_described() {
    for path in files("good") {
        let (config, warnings) = load(path.to_str().unwrap());
        let got = format!("{}{warnings}\n", config::describe(&config));
        check_golden(&path.with_extension("stdout"), &got);
    }
}

#[test]
fn the_example_compiles_without_a_warning() {
    let (config, warnings) = load("config/usher.yaml");
    assert_eq!(warnings, "");
    let target = Target::parse("/v1/apps/web/machines/148e1aaa000001").unwrap();
    let found = config.table.find(&Method::GET, "localhost:8080", &target);
    assert_eq!(config.routes[found.unwrap().route].name, "machine-get");
}

#[test]
fn what_is_written_is_what_is_compiled() {
    let (config, _) = load("tests/configs/good/every-key.yaml");
    let base = Path::new("tests/configs/good");
    let tls = config.listeners[1].tls.as_ref().unwrap();
    assert_eq!(tls.identity.certificate, base.join("tls/cert.pem"));
    assert_eq!(tls.identity.key, Path::new("/abs/key.pem"));
    let clients = |listener: usize| config.listeners[listener].tls.as_ref()?.clients.as_ref();
    let required = |listener| clients(listener).map(|clients| clients.required);
    assert_eq!(
        [0, 1, 2, 3].map(required),
        [None, None, Some(true), Some(false)]
    );
    assert_eq!(clients(2).unwrap().ca, base.join("clients.pem"));
    let own = config.upstreams[0].identity.as_ref().unwrap();
    assert_eq!(own.certificate, base.join("own.pem"));
    assert_eq!(own.key, base.join("own.key"));
    let sign = config.upstreams[0].sign.as_ref().unwrap();
    assert_eq!(sign.id, "k1");
    assert_eq!(sign.key, Secret::File(base.join("api.sign")));
    assert_eq!(config.authority.store, base.join("state/usher.db"));
    assert_eq!(config.authority.seal_key, Secret::Env("SEAL".to_owned()));
    let key = &config.authority.third_parties[0].key;
    assert_eq!(*key, Secret::File(base.join("auth.key")));
    assert_eq!(config.upstreams[0].urls[1].host, "fdaa::3");
    assert_eq!(config.upstreams[0].urls[1].port, 8443);
    assert_eq!(config.token_limits.depth, 0);
    let proxies = &config.trusted_proxies;
    assert!(proxies.len() == 3 && proxies[1].contains("10.1.2.3".parse().unwrap()));
    assert_eq!(config.denials, Denials::Terse);
    assert_eq!(config.limits.headers, 64);
    assert_eq!(config.limits.judged_bodies, 2 * 1024 * 1024);
    assert_eq!(config.limits.odd_header_names, Oddity::Drop);
    assert_eq!(config.timeouts.connect.as_millis(), 300);
    assert_eq!(config.cache.bytes, 0);
    assert_eq!(config.threads.unwrap().get(), 2);
    assert!(config.directory.public_names);
    assert!(config.directory.store);
    let names = &config.directory.names;
    // Ids that YAML would take for numbers keep their characters.
    for machine in ["148e1000000001", "91857310000000"] {
        assert_eq!(names.machine(machine), Some(3001));
    }
    assert_eq!(names.clusters("pg1"), [2001]);
    assert_eq!(names.clusters("primary"), [2001, 2002]);
    assert_eq!(names.org("D307G1NJ=="), Some(2001));
    assert_eq!(names.app("QXBwOjMwMDE"), names.app("web"));
    assert_eq!(names.object("release", "rel_1"), Some(Holder::App(3001)));
    assert_eq!(names.object("postgres", "pg-1"), Some(Holder::Org(2002)));
    let http = config.directory.http.as_ref().unwrap();
    assert_eq!((http.ttl.as_secs(), http.deadline.as_millis()), (20, 500));
    assert_eq!((http.concurrency, http.kinds.len()), (4, 7));
    assert_eq!(http.ca.as_deref(), Some(&*base.join("platform.pem")));
    let (kind, apps) = &http.kinds[1];
    assert_eq!(*kind, LookupKind::App);
    assert_eq!(
        (&*apps.server.host, apps.server.port),
        ("api.example", 8443)
    );
    assert_eq!((&*apps.before, &*apps.after), ("/v1/apps/", ""));
    let (_, machines) = &http.kinds[2];
    assert_eq!((&*machines.before, &*machines.after), ("/m/", "/owner"));
    let list = config.routes.iter().find(|r| r.name == "machines.list");
    let names: Vec<_> = list.unwrap().query.names.iter().map(|n| &**n).collect();
    assert_eq!(names, ["metadata.*", "region", "include_leases"]);
}

#[test]
fn of_very_many_problems_the_first_are_told_and_the_rest_counted() {
    let line = "  - { slug: a/b, id: 1 }\n";
    let text = format!("orgs:\n{}", line.repeat(1000));
    let none = NameTable::default();
    let refused = config::parse_names(&text, Path::new("names"), &none, None);
    let Err(config::ConfigError::Invalid(problems)) = refused else {
        panic!("it compiles");
    };
    assert_eq!(problems.len(), 200);
    assert_eq!((problems[199].line, problems[199].column), (201, 13));
    let hint = problems[199].hint.as_deref();
    assert_eq!(hint, Some("and 800 problems more behind this one"));
    assert_ne!(problems[198].hint.as_deref(), hint);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = config::load(Path::new("tests/configs/none.yaml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the configuration tests/configs/none.yaml"
    );
}

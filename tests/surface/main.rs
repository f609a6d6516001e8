//! `config/fly.yaml` against the catalogue of the API: every endpoint has its route, and the route
//! asks for exactly what the catalogue says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect, and says what it has counted"
)]

mod catalogue;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use catalogue::{Endpoint, Fields as Wanted, Sample, endpoints};
use http::{HeaderMap, Method};
use usher::config::{self, Config};
use usher::macaroon::Action;
use usher::policy::{
    Access, AccessTemplate, App, AppIds, Asked, Body, Fields, Found, Names, Org, Owner, Root, Rule,
    Source, Value,
};
use usher::route::{Captures, RouteMatch, Target};

const FILE: &str = "config/fly.yaml";

fn fly() -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let (config, warnings) = config::load(&path).unwrap();
    assert!(warnings.is_empty(), "{warnings:#?}");
    config
}

#[test]
fn every_endpoint_of_the_catalogue_has_its_route() {
    let config = fly();
    let (mut routed, mut expected) = (0, 0);
    let mut used = BTreeSet::new();
    for endpoint in endpoints() {
        if let Some(reason) = endpoint.left_out() {
            report(format_args!("{}: {reason}", endpoint.id));
            continue;
        }
        expected += 1;
        for sample in endpoint.samples() {
            used.insert(check(&config, &endpoint, &sample));
        }
        routed += 1;
    }
    let unknown: Vec<_> = config
        .routes
        .iter()
        .map(|r| &r.name)
        .filter(|name| !used.contains(*name))
        .collect();
    assert!(unknown.is_empty(), "not in the catalogue: {unknown:?}");
    assert_eq!(routed, expected);
    report(format_args!("catalogue entries routed {routed}/{expected}"));
}

/// Past the harness, which captures what `println` prints.
fn report(text: std::fmt::Arguments<'_>) {
    std::io::stdout()
        .write_all(format!("{text}\n").as_bytes())
        .unwrap();
}

/// Routes one request and compares the accesses; the name of the route.
#[track_caller]
fn check(config: &Config, endpoint: &Endpoint, sample: &Sample) -> String {
    let Sample {
        method,
        host,
        target,
        ..
    } = sample;
    let about = format!("{}: {method} {host} {target} {}", endpoint.id, sample.body);
    let target = Target::parse(target).unwrap();
    let method: Method = method.parse().unwrap();
    let found = config.table.find(&method, host, &target);
    let found = found.unwrap_or_else(|error| panic!("{about}: {error}"));
    let route = &config.routes[found.route];
    assert_eq!(route.name, sample.route(endpoint), "{about}");
    assert_eq!(route.basic, endpoint.takes_basic(), "{about}");
    route
        .query
        .check(&target.query())
        .unwrap_or_else(|error| panic!("{about}: {error}"));
    for key in endpoint.query_keys() {
        let target = format!("/?{key}=1");
        let query = Target::parse(&target).unwrap().query();
        assert!(route.query.check(&query).is_ok(), "{about}: refuses {key}");
    }
    match (&route.rule, endpoint.access.is_null()) {
        (Rule::Public, true) => assert!(endpoint.is_public(), "{about} is public"),
        (Rule::Authenticated, true) => assert!(!endpoint.is_public(), "{about} is not public"),
        // What it asks for each field is held against `graphql.json` where its rules are compiled.
        (Rule::GraphQl(rules), false) if endpoint.judges_fields() => {
            assert_eq!(rules.len(Root::Mutation), 141);
        }
        (rule, false) if endpoint.is_for_machines() => check_source(rule, endpoint),
        (rule, false) => {
            let asked = accesses(rule, &found, &target, sample);
            assert_eq!(asked, endpoint.accesses(sample), "{about}");
        }
        (rule, true) => panic!("{about} has {rule:?}"),
    }
    route.name.clone()
}

/// For machines of the platform alone, which usher cannot recognize: there is no request for it, so
/// the template itself is looked at.
#[track_caller]
fn check_source(rule: &Rule, endpoint: &Endpoint) {
    let Rule::Accesses(accesses) = rule else {
        panic!("{}: {rule:?}", endpoint.id);
    };
    let [template] = accesses.templates() else {
        panic!("{}: more than one access", endpoint.id);
    };
    let source = Value::from(Source::Peer);
    let text = |name: &str| endpoint.access[name].as_str().unwrap();
    let expected = AccessTemplate {
        app: Some(App::Named(source.clone())),
        machine: Some(source),
        machine_feature: Some(Value::text(text("machine_feature"))),
        ..AccessTemplate::new(Action::from_config(text("action")).unwrap(), Org::Peer)
    };
    assert_eq!(*template, expected, "{}", endpoint.id);
}

/// What the route asks for, in the words of the catalogue.
fn accesses(
    rule: &Rule,
    found: &RouteMatch<'_>,
    target: &Target<'_>,
    sample: &Sample,
) -> Vec<Wanted> {
    let headers = HeaderMap::new();
    let body = rule
        .body()
        .map(|form| Body::read(form, sample.body.to_string().as_bytes()).unwrap());
    let values = |captures: &Captures<'_>| {
        (0..)
            .map_while(|at| captures.value(at).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let (path, host) = (values(&found.captures), values(&found.host));
    let captures = path.iter().map(String::as_str).collect();
    let mut fields = Fields::new(captures, target.query(), &headers);
    fields.host = host.iter().map(String::as_str).collect();
    fields.basic_user = sample.basic_user;
    fields.json = body.as_ref().and_then(Body::json);
    fields.roots = body.as_ref().and_then(Body::roots);
    fields.command = body.as_ref().and_then(Body::command);
    let asked = rule.accesses(&fields, &World);
    asked.unwrap().iter().map(in_words).collect()
}

fn in_words(asked: &Asked<'_>) -> Wanted {
    let Access {
        action,
        org,
        app,
        app_feature,
        feature,
        volume,
        machine,
        machine_feature,
        mutation,
        cluster,
        command,
        storage_object,
        source_machine,
        source_app,
        source_organization,
    } = &asked.access;
    let text = |value: &Option<&str>| value.map(str::to_owned);
    let org = match (asked.own_org, asked.every_org) {
        (false, false) => org.map(|id| id.to_string()),
        (true, false) => Some("token".to_owned()),
        (_, true) => Some("tokens".to_owned()),
    };
    let cluster = match asked.own_cluster {
        true => Some("token".to_owned()),
        false => text(cluster),
    };
    let fields = [
        ("action", Some(action.to_string())),
        ("org", org),
        ("app", app.map(|id| id.to_string())),
        ("machine", text(machine)),
        ("volume", text(volume)),
        ("cluster", cluster),
        ("feature", text(feature)),
        ("app_feature", text(app_feature)),
        ("machine_feature", text(machine_feature)),
        ("mutation", text(mutation)),
        ("command", command.map(|words| words.join("|"))),
        ("storage_object", text(storage_object)),
        ("source_machine", text(source_machine)),
        ("source_app", text(source_app)),
        ("source_organization", text(source_organization)),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// The platform's names, as the catalogue's samples use them.
struct World;

pub(crate) const WEB: AppIds = AppIds {
    app: 3001,
    org: 2001,
};
pub(crate) const API: AppIds = AppIds {
    app: 3002,
    org: 2001,
};
const BUILDER: AppIds = AppIds {
    app: 3009,
    org: 2001,
};

impl Names for World {
    fn org(&self, slug: &str) -> Found<u64> {
        match slug {
            "acme" | "D307G1NJ1QjP9" => Found::Known(2001),
            "beta" => Found::Known(2002),
            _ => Found::Absent,
        }
    }

    fn app(&self, name: &str) -> Found<AppIds> {
        match name {
            "web" => Found::Known(WEB),
            "api" => Found::Known(API),
            "web-builder" => Found::Known(BUILDER),
            _ => Found::Absent,
        }
    }

    fn app_numbered(&self, id: u64) -> Found<AppIds> {
        (id == WEB.app).then_some(WEB).into()
    }

    fn machine(&self, id: &str) -> Found<AppIds> {
        match id {
            "148e1aaa000001" => Found::Known(WEB),
            _ => Found::Absent,
        }
    }

    fn volume(&self, id: &str) -> Found<AppIds> {
        match id {
            "vol_web1" => Found::Known(WEB),
            "vol_api1" => Found::Known(API),
            _ => Found::Absent,
        }
    }

    fn cluster_org(&self, _: &str) -> Found<u64> {
        Found::Absent
    }

    fn object(&self, kind: &str, id: &str) -> Found<Owner> {
        match (kind, id) {
            ("postgres", "pg1") => Found::Known(Owner::Org(2001)),
            ("release", "rel1") => Found::Known(Owner::App(WEB)),
            ("snapshot", "vs_api1") => Found::Known(Owner::App(API)),
            _ => Found::Absent,
        }
    }
}

mod bodies;
mod names;
mod templates;

use http::HeaderMap;

use super::*;
use crate::macaroon::Action;
use crate::policy::{
    AppIds, Asks, GraphQlRules, Json, LookupKind, NamedRule, Owner, Pointer, Root,
};
use crate::route::{Captures, Target};

/// acme (2001) owns web (3001); beta (2002) owns shop (3101). Machine m1 and volume v1 are web's.
struct World;

const WEB: AppIds = AppIds {
    app: 3001,
    org: 2001,
};
const SHOP: AppIds = AppIds {
    app: 3101,
    org: 2002,
};

impl Names for World {
    fn org(&self, slug: &str) -> Found<u64> {
        match slug {
            "acme" | "personal" => Found::Known(2001),
            "beta" => Found::Known(2002),
            "slow" => unresolved(LookupKind::Org, slug),
            _ => Found::Absent,
        }
    }

    fn app(&self, name: &str) -> Found<AppIds> {
        match name {
            "web" => Found::Known(WEB),
            "shop" => Found::Known(SHOP),
            "slow" => unresolved(LookupKind::App, name),
            _ => Found::Absent,
        }
    }

    fn app_numbered(&self, id: u64) -> Found<AppIds> {
        (id == WEB.app).then_some(WEB).into()
    }

    fn machine(&self, id: &str) -> Found<AppIds> {
        match id {
            "m1" => Found::Known(WEB),
            "slow" => unresolved(LookupKind::Machine, id),
            _ => Found::Absent,
        }
    }

    fn volume(&self, id: &str) -> Found<AppIds> {
        (id == "v1").then_some(WEB).into()
    }

    fn cluster_org(&self, cluster: &str) -> Found<u64> {
        (cluster == "pg1").then_some(2002).into()
    }

    fn object(&self, kind: &str, id: &str) -> Found<Owner> {
        match (kind, id) {
            ("release", "r1") => Found::Known(Owner::App(WEB)),
            ("addon", "a1") => Found::Known(Owner::Org(2002)),
            _ => Found::Absent,
        }
    }
}

fn unresolved<T>(kind: LookupKind, name: &str) -> Found<T> {
    Found::Unresolved(Lookup {
        kind,
        name: name.into(),
    })
}

fn capture(index: usize) -> Value {
    Source::Capture {
        index,
        name: format!("c{index}").into(),
    }
    .into()
}

fn query(key: &str) -> Value {
    Source::Query(key.into()).into()
}

fn or_zero(value: Value) -> Value {
    Value {
        otherwise: Some(Fixed::Zero),
        ..value
    }
}

fn named(value: Value) -> Option<App> {
    Some(App::Named(value))
}

fn owner_of(kind: LookupKind, of: Value) -> Org {
    Org::OwnerOf(Owned { kind, of })
}

fn is_true(key: &str) -> Condition {
    Condition {
        is: Some(true),
        ..Condition::query(key)
    }
}

fn read(org: Org) -> AccessTemplate {
    AccessTemplate::new(Action::READ, org)
}

/// Evaluates templates on a request: captured values, target, headers.
fn check<T>(
    templates: Vec<AccessTemplate>,
    captures: &[&str],
    target: &str,
    headers: &[(&'static str, &'static str)],
    expected: Result<T, AccessError>,
) where
    T: AsRef<[Access<'static>]>,
{
    let rule = Rule::Accesses(Accesses::new(templates).unwrap());
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let query = Target::parse(target).unwrap().query();
    let fields = Fields::new(captures.iter().copied().collect(), query, &map);
    let got = rule.accesses(&fields, &World).map(|asked| {
        assert!(asked.iter().all(|asked| !asked.depends_on_token()));
        let accesses = asked.iter().map(|asked| asked.access.clone());
        accesses.collect::<Vec<_>>()
    });
    let got = got.as_deref().map_err(Clone::clone);
    assert_eq!(
        got,
        expected.as_ref().map(AsRef::as_ref).map_err(Clone::clone),
        "{target}"
    );
}

const NONE: Access<'static> = Access {
    action: Action::READ,
    org: None,
    app: None,
    app_feature: None,
    feature: None,
    volume: None,
    machine: None,
    machine_feature: None,
    mutation: None,
    source_machine: None,
    source_app: None,
    source_organization: None,
    cluster: None,
    storage_object: None,
    command: None,
};

type One = Result<[Access<'static>; 1], AccessError>;

/// Evaluates templates on a body.
fn judge(templates: Vec<AccessTemplate>, body: &str) -> Result<Vec<Access<'static>>, AccessError> {
    // Leaked so that what a test compares with can be written down as it is.
    let rule: &'static _ = Box::leak(Box::new(Accesses::new(templates).unwrap()));
    let json: &'static _ = Box::leak(Box::new(Json::parse(body.as_bytes(), 8).unwrap()));
    let headers: &'static _ = Box::leak(Box::default());
    let query = Target::parse("/").unwrap().query();
    let fields = Fields {
        json: Some(json),
        ..Fields::new(["web"].into_iter().collect(), query, headers)
    };
    let asked = rule.of(&fields, &World)?;
    Ok(asked.into_iter().map(|asked| asked.access).collect())
}

fn body(pointer: &str) -> Source {
    Source::Body(Pointer::parse(pointer).unwrap())
}

fn of_app(app: Value) -> AccessTemplate {
    AccessTemplate {
        app: named(app),
        ..read(Org::Owner)
    }
}

fn web() -> Access<'static> {
    Access {
        org: Some(2001),
        app: Some(3001),
        ..NONE
    }
}

#[test]
fn the_owner_of_the_app_is_the_organization() {
    let template = || {
        vec![AccessTemplate {
            app: named(capture(0)),
            machine: Some(capture(1)),
            ..read(Org::Owner)
        }]
    };
    let web = |machine| Access {
        org: Some(2001),
        app: Some(3001),
        machine: Some(machine),
        ..NONE
    };
    check(template(), &["web", "m1"], "/", &[], One::Ok([web("m1")]));
    // A machine that the directory does not know goes on under the app that is judged.
    check(template(), &["web", "m9"], "/", &[], One::Ok([web("m9")]));
    let denied = |captures: &[&str], error| check(template(), captures, "/", &[], One::Err(error));
    denied(&["shop", "m1"], AccessError::Contradiction(Noun::Machine));
    denied(&["nope", "m1"], AccessError::UnknownName(Noun::App));
    denied(&["web"], AccessError::Missing(Field::Path("c1".into())));
    denied(&["web", ""], AccessError::Empty(Field::Path("c1".into())));
    denied(
        &["web", "a.b"],
        AccessError::NotAnId(Field::Path("c1".into())),
    );
}

#[test]
fn a_named_organization_must_own_the_app() {
    let template = || {
        vec![AccessTemplate {
            app: named(capture(0)),
            volume: Some(or_zero(query("volume"))),
            ..read(Org::Slug(query("org_slug")))
        }]
    };
    let web = |volume| Access {
        org: Some(2001),
        app: Some(3001),
        volume: Some(volume),
        ..NONE
    };
    let ok = |target, access| check(template(), &["web"], target, &[], One::Ok([access]));
    ok("/?org_slug=acme", web(""));
    ok("/?org_slug=acme&volume=v2", web("v2"));
    let key = |key: &str| Field::Query(key.into());
    for (target, error) in [
        ("/?org_slug=beta", AccessError::Contradiction(Noun::App)),
        ("/?org_slug=nope", AccessError::UnknownName(Noun::Org)),
        ("/?org_slug=personal", AccessError::UnknownName(Noun::Org)),
        ("/", AccessError::Missing(key("org_slug"))),
        ("/?org_slug=", AccessError::Empty(key("org_slug"))),
        ("/?org_slug=ac%6de", AccessError::NotAnId(key("org_slug"))),
        (
            "/?org_slug=acme&org_slug=acme",
            AccessError::Repeated(key("org_slug")),
        ),
        (
            "/?org_slug=acme&ORG_SLUG=beta",
            AccessError::Repeated(key("org_slug")),
        ),
        // The default stands for an absent key only.
        ("/?org_slug=acme&volume=", AccessError::Empty(key("volume"))),
    ] {
        check(template(), &["web"], target, &[], One::Err(error));
    }
    check(
        template(),
        &["shop"],
        "/?org_slug=beta&volume=v1",
        &[],
        One::Err(AccessError::Contradiction(Noun::Volume)),
    );
}

#[test]
fn owners_can_be_named_without_being_part_of_the_access() {
    check(
        vec![read(owner_of(LookupKind::App, capture(0)))],
        &["shop"],
        "/",
        &[],
        One::Ok([Access {
            org: Some(2002),
            ..NONE
        }]),
    );
    let addon = || {
        vec![AccessTemplate {
            feature: Some(Value::text("addon")),
            ..read(owner_of(LookupKind::Cluster, capture(0)))
        }]
    };
    let expected = Access {
        org: Some(2002),
        feature: Some("addon"),
        ..NONE
    };
    check(addon(), &["pg1"], "/", &[], One::Ok([expected]));
    let unknown = AccessError::UnknownName(Noun::Cluster);
    check(addon(), &["pg2"], "/", &[], One::Err(unknown));
}

#[test]
fn collections_are_zero() {
    check(
        vec![AccessTemplate {
            app: named(Value::zero()),
            machine: Some(Value::zero()),
            ..read(Org::Slug(capture(0)))
        }],
        &["acme"],
        "/",
        &[],
        One::Ok([Access {
            org: Some(2001),
            app: Some(0),
            machine: Some(""),
            ..NONE
        }]),
    );
}

#[test]
fn headers_are_read_once() {
    let template = || {
        vec![AccessTemplate {
            app: named(capture(0)),
            machine: Some(Source::Header(http::HeaderName::from_static("x-machine")).into()),
            ..read(Org::Owner)
        }]
    };
    let field = || Field::Header(http::HeaderName::from_static("x-machine"));
    let ok = Access {
        org: Some(2001),
        app: Some(3001),
        machine: Some("m1"),
        ..NONE
    };
    check(
        template(),
        &["web"],
        "/",
        &[("x-machine", "m1")],
        One::Ok([ok]),
    );
    for (headers, error) in [
        (vec![], AccessError::Missing(field())),
        (vec![("x-machine", "")], AccessError::Empty(field())),
        (vec![("x-machine", "é")], AccessError::NotAnId(field())),
        (
            vec![("x-machine", "m1"), ("x-machine", "m1")],
            AccessError::Repeated(field()),
        ),
    ] {
        check(template(), &["web"], "/", &headers, One::Err(error));
    }
}

#[test]
fn conditional_accesses_are_added_to_the_first() {
    let app = |action, when| AccessTemplate {
        when,
        app: named(capture(0)),
        ..AccessTemplate::new(action, Org::Owner)
    };
    let templates = || {
        vec![
            app(Action::READ, None),
            app(Action::WRITE, Some(is_true("show_secrets"))),
            AccessTemplate {
                when: Some(Condition::query("from")),
                app: named(query("from")),
                ..read(Org::Owner)
            },
        ]
    };
    let web = |action| Access {
        action,
        org: Some(2001),
        app: Some(3001),
        ..NONE
    };
    let shop = Access {
        org: Some(2002),
        app: Some(3101),
        ..NONE
    };
    let (r, w) = (Action::READ, Action::WRITE);
    for (target, expected) in [
        ("/", vec![web(r)]),
        ("/?show_secrets=false", vec![web(r)]),
        ("/?show_secrets=true", vec![web(r), web(w)]),
        ("/?from=shop", vec![web(r), shop.clone()]),
        ("/?from=shop&show_secrets=true", vec![web(r), web(w), shop]),
    ] {
        check(templates(), &["web"], target, &[], Ok(expected));
    }
    let key = |key: &str| Field::Query(key.into());
    for (target, error) in [
        // What the upstream takes for true is not known, so anything else is refused.
        (
            "/?show_secrets=1",
            AccessError::NotBoolean(key("show_secrets")),
        ),
        (
            "/?show_secrets",
            AccessError::NotBoolean(key("show_secrets")),
        ),
        (
            "/?show_secrets=True",
            AccessError::NotBoolean(key("show_secrets")),
        ),
        (
            "/?Show_Secrets=true",
            AccessError::Repeated(key("show_secrets")),
        ),
        ("/?from=", AccessError::Empty(key("from"))),
        ("/?from=nope", AccessError::UnknownName(Noun::App)),
    ] {
        check(templates(), &["web"], target, &[], One::Err(error));
    }
}

#[test]
fn a_rule_that_asks_for_nothing_has_no_accesses() {
    let headers = HeaderMap::new();
    let query = Target::parse("/").unwrap().query();
    let fields = Fields::new(Captures::default(), query, &headers);
    for rule in &[Rule::Public, Rule::Authenticated] {
        assert_eq!(rule.accesses(&fields, &World).unwrap().len(), 0);
    }
}

#[test]
fn a_storage_object_is_part_of_the_access() {
    let object = AccessTemplate {
        storage_object: Some(query("key")),
        ..read(Org::Slug(Value::text("acme")))
    };
    let asked = Access {
        org: Some(2001),
        storage_object: Some("logs-2026"),
        ..NONE
    };
    check(vec![object], &[], "/?key=logs-2026", &[], One::Ok([asked]));
}

/// The user stays in the discharge however far a token is narrowed.
#[test]
fn what_a_users_token_is_asked_no_narrowed_one_permits() {
    let asked = Asked::of_user(Some("createApp"));
    assert_eq!(asked.access.action, Action::ALL);
    assert_eq!(asked.access.mutation, Some("createApp"));
    assert!(asked.depends_on_token() && !asked.every_org && !asked.own_cluster);
    let cluster = Asked {
        own_org: false,
        own_cluster: true,
        ..asked.clone()
    };
    assert!(cluster.depends_on_token());
    assert!(!Asked::from(asked.access).depends_on_token());
}

#[test]
fn a_request_without_an_organization_is_about_the_tokens_own() {
    let template = AccessTemplate {
        feature: Some(Value::text("litefs-cloud")),
        cluster: Some(query("cluster")),
        own_cluster: true,
        ..read(Org::Token)
    };
    let rule = Accesses::new(vec![template]).unwrap();
    let headers = HeaderMap::new();
    let ask = |target| {
        let query = Target::parse(target).unwrap().query();
        let fields = Fields::new(Captures::default(), query, &headers);
        rule.of(&fields, &World).unwrap().remove(0)
    };
    let own = Scope {
        org: Some(7),
        cluster: Some("primary"),
    };
    let access = |cluster| Access {
        org: Some(7),
        feature: Some("litefs-cloud"),
        cluster: Some(cluster),
        ..NONE
    };
    assert_eq!(ask("/?cluster=other").of(own), Some(access("other")));
    assert_eq!(ask("/").of(own), Some(access("primary")));
    let no_cluster = Scope {
        cluster: None,
        ..own
    };
    assert_eq!(ask("/").of(no_cluster), None);
    assert_eq!(ask("/?cluster=c").of(Scope::default()), None);
}

#[test]
fn nobody_vouches_for_the_source_of_a_request() {
    let template = AccessTemplate {
        app: named(Source::Peer.into()),
        machine: Some(Source::Peer.into()),
        ..read(Org::Peer)
    };
    assert_eq!(judge(vec![template], "{}"), Err(AccessError::NoPeer));
    let headers = HeaderMap::new();
    let query = Target::parse("/").unwrap().query();
    let fields = Fields::new(Captures::default(), query, &headers);
    let denied = Rule::Denied.accesses(&fields, &World).map(|_| ());
    assert_eq!(denied, Err(AccessError::Denied));
}

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
fn templates_that_can_never_make_a_valid_access_are_refused() {
    let refused = |templates, at, error| {
        let got = Accesses::new(templates).map(|_| ()).unwrap_err();
        assert_eq!(got, [(at, error)]);
    };
    let app = || AccessTemplate {
        app: named(capture(0)),
        ..read(Org::Owner)
    };
    refused(vec![], 0, TemplateError::Conditional);
    refused(
        vec![AccessTemplate {
            when: Some(Condition::query("x")),
            ..app()
        }],
        0,
        TemplateError::Conditional,
    );
    let second = |template| vec![app(), template];
    refused(
        second(AccessTemplate {
            action: Action::NONE,
            ..app()
        }),
        1,
        TemplateError::NoAction,
    );
    refused(second(read(Org::Owner)), 1, TemplateError::NoOrg);
    for value in [Value::zero(), or_zero(capture(0))] {
        refused(
            second(AccessTemplate {
                app: named(value),
                ..app()
            }),
            1,
            TemplateError::NoOrg,
        );
    }
    refused(
        second(read(Org::Slug(Value::zero()))),
        1,
        TemplateError::Zero("org"),
    );
    refused(
        second(AccessTemplate {
            app_feature: Some(or_zero(query("f"))),
            ..app()
        }),
        1,
        TemplateError::Zero("app_feature"),
    );
    refused(
        second(AccessTemplate {
            app: named(Value::text("a/b")),
            ..app()
        }),
        1,
        TemplateError::Text("app"),
    );
    let acme = || Org::Slug(Value::text("acme"));
    refused(
        second(AccessTemplate {
            machine: Some(capture(0)),
            ..read(acme())
        }),
        1,
        TemplateError::Invalid(InvalidAccess::NoApp),
    );
    refused(
        second(AccessTemplate {
            cluster: Some(capture(0)),
            feature: Some(query("feature")),
            ..read(acme())
        }),
        1,
        TemplateError::Invalid(InvalidAccess::NoClusterFeature),
    );
    let text = |text| Some(Value::text(text));
    for (template, error) in [
        (
            AccessTemplate {
                app_feature: text("images"),
                ..read(acme())
            },
            InvalidAccess::NoApp,
        ),
        (
            AccessTemplate {
                volume: text("v1"),
                app_feature: text("images"),
                ..app()
            },
            InvalidAccess::TwoParts,
        ),
        (
            AccessTemplate {
                machine_feature: text("exec"),
                ..app()
            },
            InvalidAccess::NoMachine,
        ),
        (
            AccessTemplate {
                storage_object: text("bucket"),
                ..app()
            },
            InvalidAccess::TwoObjects,
        ),
    ] {
        refused(second(template), 1, TemplateError::Invalid(error));
    }
    // Each of a list that may stand for all apps has no one owner.
    let each = |otherwise| AccessTemplate {
        each: Some(Each {
            items: Items::Names(Pointer::parse("/apps").unwrap()),
            otherwise,
        }),
        app: named(Source::Each.into()),
        ..read(Org::Owner)
    };
    refused(second(each(Some(Fixed::Zero))), 1, TemplateError::NoOrg);
    assert!(Accesses::new(second(each(None))).is_ok());
    let litefs = AccessTemplate {
        cluster: Some(or_zero(query("cluster"))),
        feature: Some(Value::text("litefs-cloud")),
        ..read(acme())
    };
    assert!(Accesses::new(vec![litefs]).is_ok());
}

/// What a request may leave out is no wrong field, and does not hide an unknown name.
#[test]
fn an_unknown_name_is_told_where_all_else_is_right() {
    let owned = |kind: &str, key: &str| Owned {
        kind: LookupKind::Object(kind.into()),
        of: query(key),
    };
    let first = vec![
        Org::OwnerOf(owned("addon", "addon")),
        Org::Slug(query("org")),
    ];
    let unless_named = AccessTemplate {
        when: Some(is_true("all")),
        app: named(query("app")),
        ..read(Org::Owner)
    };
    let litefs = AccessTemplate {
        feature: Some(Value::text("litefs-cloud")),
        cluster: Some(query("cluster")),
        own_cluster: true,
        ..read(Org::First(first))
    };
    let unknown = One::Err(AccessError::UnknownName(Noun::Org));
    let templates = vec![litefs.clone(), unless_named];
    check(templates, &[], "/?org=nope", &[], unknown);
    // A cluster that the token does not stand in for has to be there.
    let named = AccessTemplate {
        own_cluster: false,
        ..litefs
    };
    let missing = AccessError::Missing(Field::Query("cluster".into()));
    for org in ["nope", "acme"] {
        let target = format!("/?org={org}");
        check(
            vec![named.clone()],
            &[],
            &target,
            &[],
            One::Err(missing.clone()),
        );
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

/// No access at all is what a route for any token asks for, so a set must never end up so.
#[test]
fn a_set_of_accesses_is_never_empty_and_has_a_bound() {
    let none = Accesses {
        templates: Vec::new(),
        ..Accesses::new(vec![read(Org::Slug(Value::text("acme")))]).unwrap()
    };
    let headers = HeaderMap::new();
    let query = Target::parse("/").unwrap().query();
    let fields = Fields::new(Captures::default(), query, &headers);
    assert_eq!(none.of(&fields, &World), Err(AccessError::Nothing));

    let lists = |first: usize, second: usize| {
        let list = |pointer| AccessTemplate {
            each: Some(Each {
                items: Items::Names(Pointer::parse(pointer).unwrap()),
                otherwise: Some(Fixed::Zero),
            }),
            app: named(Source::Each.into()),
            ..read(Org::Slug(Value::text("acme")))
        };
        let names = |count| vec![r#""web""#; count].join(",");
        let text = format!(r#"{{"a":[{}],"b":[{}]}}"#, names(first), names(second));
        judge(vec![list("/a"), list("/b")], &text).map(|asked| asked.len())
    };
    assert_eq!(lists(64 - 1, 1), Ok(64));
    for (first, second) in [(64, 1), (64, 64), (65, 1), (66, 1)] {
        let many = Err(AccessError::TooMany);
        assert_eq!(lists(first, second), many, "{first} and {second}");
    }
}

/// The bound is that of the request: elements that would be asked for only once count as well.
#[test]
fn a_list_has_a_bound_of_its_own() {
    let images = |count: usize| {
        let images = Each {
            items: Items::Images {
                places: [Pointer::parse("/images/*/of").unwrap()].into(),
                registry: "registry.fly.io".into(),
            },
            otherwise: None,
        };
        let other = AccessTemplate {
            each: Some(images),
            ..of_app(Source::Each.into())
        };
        let image = r#"{"of":"registry.fly.io/web"}"#;
        let text = format!(r#"{{"images":[{}]}}"#, vec![image; count].join(","));
        judge(vec![of_app(capture(0)), other], &text)
    };
    assert_eq!(images(64), Ok(vec![web()]));
    for count in [65, 66, 100] {
        assert_eq!(images(count), Err(AccessError::TooMany), "{count}");
    }
}

#[test]
fn a_rule_tells_what_it_reads() {
    let rule = |value: Value| {
        let template = AccessTemplate {
            machine: Some(value),
            ..of_app(capture(0))
        };
        Rule::Accesses(Accesses::new(vec![template]).unwrap())
    };
    let name = http::HeaderName::from_static("x-machine");
    let header = rule(Source::Header(name.clone()).into());
    assert_eq!(header.headers().collect::<Vec<_>>(), [&name]);
    assert!(!header.reads_query());
    assert!(header.body().is_none());
    let key = rule(query("machine"));
    assert_eq!(key.headers().count(), 0);
    assert!(key.reads_query());
    let field = rule(body("/machine").into());
    assert!(matches!(field.body(), Some(BodyForm::Json)));
    assert!(!field.reads_query());
}

#[test]
fn rules_that_ask_for_the_same_are_alike() {
    let graphql = |asks| {
        let rule = NamedRule {
            root: Root::Query,
            field: "viewer".into(),
            below: None,
            asks,
        };
        Rule::GraphQl(GraphQlRules::new(vec![rule]).unwrap())
    };
    let rules = || {
        [
            Rule::Public,
            Rule::Authenticated,
            Rule::User,
            Rule::Denied,
            Rule::Accesses(Accesses::new(vec![of_app(capture(0))]).unwrap()),
            Rule::Accesses(Accesses::new(vec![of_app(query("app"))]).unwrap()),
            graphql(Asks::User),
            graphql(Asks::Denied),
        ]
    };
    for (at, one) in rules().iter().enumerate() {
        for (beside, two) in rules().iter().enumerate() {
            assert_eq!(one.asks_like(two), at == beside, "{at} and {beside}");
        }
    }
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
fn undeclared_query_keys_are_named() {
    let keys = QueryKeys {
        any: false,
        names: vec!["region".into(), "metadata.*".into()],
    };
    let check = |keys: &QueryKeys, target: &str| {
        let target = Target::parse(target).unwrap();
        keys.check(&target.query())
    };
    assert_eq!(check(&keys, "/"), Ok(()));
    assert_eq!(check(&keys, "/?region=x&region=y&metadata.a=1"), Ok(()));
    for key in ["state", "Region", "metadata.", "metadata", "regions"] {
        let expected = Err(AccessError::UndeclaredKey(key.into()));
        assert_eq!(check(&keys, &format!("/?region=a&{key}=1")), expected);
    }
    let any = QueryKeys {
        any: true,
        ..QueryKeys::default()
    };
    assert_eq!(check(&any, "/?x=1"), Ok(()));
}

/// Where names are secret, a wrong field must not tell an unknown name from a known one.
#[test]
fn a_wrong_field_is_answered_alike_for_known_and_unknown_names() {
    let templates = || {
        let machine = AccessTemplate {
            app: named(capture(0)),
            machine: Some(query("instance")),
            ..read(Org::Owner)
        };
        let leases = AccessTemplate {
            when: Some(is_true("leases")),
            ..machine.clone()
        };
        vec![machine, leases]
    };
    let key = |key: &str| Field::Query(key.into());
    for name in ["web", "nope"] {
        let from = AccessTemplate {
            when: Some(Condition::query("from")),
            ..templates()[0].clone()
        };
        let first = AccessTemplate {
            app: named(capture(0)),
            ..read(Org::Owner)
        };
        let missing = One::Err(AccessError::Missing(key("instance")));
        check(vec![first, from], &[name], "/?from=x", &[], missing);
        for (target, error) in [
            ("/", AccessError::Missing(key("instance"))),
            ("/?instance=.", AccessError::NotAnId(key("instance"))),
            (
                "/?instance=m&leases=1",
                AccessError::NotBoolean(key("leases")),
            ),
        ] {
            check(templates(), &[name], target, &[], One::Err(error));
        }
    }
}

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
fn a_field_of_the_body_names_an_app() {
    let judge = |text: &str| judge(vec![of_app(body("/input/appId").into())], text);
    let field = || Field::Body(Pointer::parse("/input/appId").unwrap());
    assert_eq!(judge(r#"{"input":{"appId":"web"}}"#), Ok(vec![web()]));
    for (text, error) in [
        ("{}", AccessError::Missing(field())),
        (r#"{"input":{"appId":null}}"#, AccessError::Missing(field())),
        (r#"{"input":{"appId":""}}"#, AccessError::Empty(field())),
        (
            r#"{"input":{"appId":"a/b"}}"#,
            AccessError::NotAnId(field()),
        ),
        (r#"{"input":{"appId":3001}}"#, AccessError::NotText(field())),
        (
            r#"{"input":{"appId":["web"]}}"#,
            AccessError::NotText(field()),
        ),
        (
            r#"{"input":{"appId":"nope"}}"#,
            AccessError::UnknownName(Noun::App),
        ),
    ] {
        assert_eq!(judge(text), Err(error), "{text}");
    }
}

#[test]
fn places_that_name_one_thing_must_agree() {
    let value = || Value {
        others: [body("/app_name")].into(),
        ..capture(0)
    };
    let judge = |text: &str| judge(vec![of_app(value())], text);
    assert_eq!(judge("{}"), Ok(vec![web()]));
    assert_eq!(judge(r#"{"app_name":"web"}"#), Ok(vec![web()]));
    let error = AccessError::Disagree(
        Field::Path("c0".into()),
        Field::Body(Pointer::parse("/app_name").unwrap()),
    );
    assert_eq!(judge(r#"{"app_name":"shop"}"#), Err(error));
}

#[test]
fn the_owner_of_an_object_is_the_app_or_the_organization() {
    let owned = |kind: &str| Owned {
        kind: LookupKind::Object(kind.into()),
        of: body("/id").into(),
    };
    let release = || AccessTemplate {
        app: Some(App::OwnerOf(owned("release"))),
        ..read(Org::Owner)
    };
    let addon = || AccessTemplate {
        feature: Some(Value::text("addon")),
        ..read(Org::OwnerOf(owned("addon")))
    };
    assert_eq!(judge(vec![release()], r#"{"id":"r1"}"#), Ok(vec![web()]));
    let beta = Access {
        org: Some(2002),
        feature: Some("addon"),
        ..NONE
    };
    assert_eq!(judge(vec![addon()], r#"{"id":"a1"}"#), Ok(vec![beta]));
    let unknown = AccessError::UnknownName(Noun::Object("release".into()));
    assert_eq!(judge(vec![release()], r#"{"id":"r2"}"#), Err(unknown));
    // An add-on has no app.
    let wrong = AccessTemplate {
        app: Some(App::OwnerOf(owned("addon"))),
        ..read(Org::Owner)
    };
    let error = AccessError::Contradiction(Noun::Object("addon".into()));
    assert_eq!(judge(vec![wrong], r#"{"id":"a1"}"#), Err(error));
}

#[test]
fn a_list_makes_an_access_for_each_element() {
    let each = |otherwise| AccessTemplate {
        each: Some(Each {
            items: Items::Names(Pointer::parse("/apps").unwrap()),
            otherwise,
        }),
        app: named(Source::Each.into()),
        ..read(Org::First(vec![Org::Slug(body("/org").into()), Org::Owner]))
    };
    let zero = || vec![each(Some(Fixed::Zero))];
    assert_eq!(
        judge(zero(), r#"{"apps":["web","web"]}"#),
        Ok(vec![web(), web()])
    );
    assert_eq!(
        judge(zero(), r#"{"org":"acme","apps":"web"}"#),
        Ok(vec![web()])
    );
    let all = Access {
        app: Some(0),
        ..web()
    };
    for text in [r#"{"org":"acme"}"#, r#"{"org":"acme","apps":[]}"#] {
        assert_eq!(judge(zero(), text), Ok(vec![all.clone()]), "{text}");
    }
    let field = || Field::Body(Pointer::parse("/apps").unwrap());
    let other = AccessError::Contradiction(Noun::Org);
    assert_eq!(
        judge(zero(), r#"{"org":"acme","apps":["shop"]}"#),
        Err(other)
    );
    let text = AccessError::NotText(field());
    assert_eq!(
        judge(zero(), r#"{"org":"acme","apps":[["web"]]}"#),
        Err(text)
    );
    let missing = AccessError::Missing(field());
    assert_eq!(judge(vec![each(None)], r#"{"org":"acme"}"#), Err(missing));
    for bad in ["a b", "", "../web", "*"] {
        let error = Err(AccessError::NotAnId(field()));
        let text = format!(r#"{{"org":"acme","apps":["web",{bad:?}]}}"#);
        assert_eq!(judge(zero(), &text), error, "{bad:?}");
    }
    let many = format!(r#"{{"apps":[{}]}}"#, [r#""web""#; 65].join(","));
    assert_eq!(judge(zero(), &many), Err(AccessError::TooMany));
}

#[test]
fn images_of_other_apps_are_asked_for() {
    let images = || AccessTemplate {
        each: Some(Each {
            items: Items::Images {
                places: [
                    Pointer::parse("/config/image").unwrap(),
                    Pointer::parse("/config/containers/*/image").unwrap(),
                ]
                .into(),
                registry: "registry.fly.io".into(),
            },
            otherwise: None,
        }),
        app_feature: Some(Value::text("images")),
        ..of_app(Source::Each.into())
    };
    let templates = || vec![of_app(capture(0)), images()];
    let shop = Access {
        org: Some(2002),
        app: Some(3101),
        app_feature: Some("images"),
        ..NONE
    };
    for (text, expected) in [
        ("{}", vec![web()]),
        (r#"{"config":{"image":"nginx"}}"#, vec![web()]),
        (
            r#"{"config":{"image":"registry.fly.io/web:v1"}}"#,
            vec![web()],
        ),
        (
            r#"{"config":{"image":"nginx","containers":[{},{"image":"registry.fly.io/shop@sha256:aa"}]}}"#,
            vec![web(), shop],
        ),
    ] {
        assert_eq!(judge(templates(), text), Ok(expected), "{text}");
    }
    let unknown = AccessError::UnknownName(Noun::App);
    let text = r#"{"config":{"image":"registry.fly.io/nope"}}"#;
    assert_eq!(judge(templates(), text), Err(unknown));
    assert!(matches!(
        judge(
            templates(),
            r#"{"config":{"image":"registry.fly.io:443/web"}}"#
        ),
        Err(AccessError::NotAnImage(_))
    ));
}

#[test]
fn what_is_the_same_as_the_first_access_is_not_asked_twice() {
    let other = |other| AccessTemplate {
        when: Some(Condition {
            place: Place::Body(Pointer::parse("/org_slug").unwrap()),
            is: None,
            other: Some(other),
        }),
        app: named(Value::zero()),
        ..AccessTemplate::new(Action::WRITE, Org::Slug(body("/org_slug").into()))
    };
    let templates = || vec![of_app(capture(0)), other(Other::Org)];
    let beta = Access {
        action: Action::WRITE,
        org: Some(2002),
        app: Some(0),
        ..NONE
    };
    for (text, expected) in [
        ("{}", vec![web()]),
        (r#"{"org_slug":""}"#, vec![web()]),
        (r#"{"org_slug":null}"#, vec![web()]),
        (r#"{"org_slug":"acme"}"#, vec![web()]),
        (r#"{"org_slug":"beta"}"#, vec![web(), beta]),
    ] {
        assert_eq!(judge(templates(), text), Ok(expected), "{text}");
    }
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

#[test]
fn a_name_that_has_to_be_asked_about_stops_the_request() {
    let lookup = |kind| {
        AccessError::Unresolved(Lookup {
            kind,
            name: "slow".into(),
        })
    };
    let app = || vec![of_app(capture(0))];
    check(
        app(),
        &["slow"],
        "/",
        &[],
        One::Err(lookup(LookupKind::App)),
    );
    let machine = vec![AccessTemplate {
        machine: Some(capture(1)),
        ..of_app(capture(0))
    }];
    let expected = One::Err(lookup(LookupKind::Machine));
    check(machine, &["web", "slow"], "/", &[], expected);
}

#[test]
fn a_word_of_a_subject_is_a_name_or_zero() {
    let word = |index| -> Value {
        let (key, first) = ("subject".into(), "logs".into());
        Source::Word { key, first, index }.into()
    };
    let mut template = read(Org::Owner);
    template.app = named(word(2));
    template.machine = Some(word(4));
    template.org = Org::Slug(Value::text("acme"));
    let accesses = Accesses::new(vec![template]).unwrap();
    let find = |query: &str| {
        let target = format!("/?{query}");
        let target = Target::parse(&target).unwrap();
        let headers = HeaderMap::new();
        let fields = Fields::new(Captures::default(), target.query(), &headers);
        let asked = accesses.of(&fields, &World)?;
        let access = &asked[0].access;
        Ok((access.app.unwrap(), access.machine.unwrap().to_owned()))
    };
    for (subject, app, machine) in [
        ("logs.web.ams.m1", 3001, "m1"),
        ("logs.web.*.m1", 3001, "m1"),
        ("logs.web.%2A.m1.more", 3001, "m1"),
        ("logs.web.ams.*", 3001, ""),
        ("logs.web.ams", 3001, ""),
        ("logs.web.%3E", 3001, ""),
        ("logs.web.%3e.m1", 3001, ""),
        ("logs.%3e.ams.m1", 0, ""),
        ("logs.*.ams", 0, ""),
        ("logs", 0, ""),
    ] {
        let found = find(&format!("subject={subject}"));
        assert_eq!(found, Ok((app, machine.to_owned())), "{subject}");
    }
    let field = || Field::Query("subject".into());
    for (query, error) in [
        ("", AccessError::Missing(field())),
        ("subject=", AccessError::NotASubject(field())),
        ("subject=logs..web", AccessError::NotASubject(field())),
        (
            "subject=logs.web%2Eams.m1",
            AccessError::NotASubject(field()),
        ),
        ("subject=logs.we*", AccessError::NotASubject(field())),
        (
            "subject=trace.web",
            AccessError::OtherSubject(field(), "logs".into()),
        ),
        (
            "subject=*.web",
            AccessError::OtherSubject(field(), "logs".into()),
        ),
        (
            "subject=%3E",
            AccessError::OtherSubject(field(), "logs".into()),
        ),
        ("subject=logs.nobody", AccessError::UnknownName(Noun::App)),
        (
            "subject=logs.web&subject=logs.web",
            AccessError::Repeated(field()),
        ),
    ] {
        assert_eq!(find(query), Err(error), "{query}");
    }
}

#[test]
fn a_number_is_written_in_one_way() {
    let template = || {
        vec![AccessTemplate {
            app: Some(App::Numbered(capture(0))),
            ..read(Org::Owner)
        }]
    };
    check(template(), &["3001"], "/", &[], One::Ok([web()]));
    for number in [
        "0",
        "00",
        "03001",
        "-3001",
        "3101",
        "web",
        "18446744073709551616",
    ] {
        let unknown = AccessError::UnknownName(Noun::App);
        check(template(), &[number], "/", &[], One::Err(unknown));
    }
}

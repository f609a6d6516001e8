//! What can be said of a rule before there is a request.

use super::*;

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

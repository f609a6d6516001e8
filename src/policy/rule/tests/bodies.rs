//! Accesses of what a body names.

use super::*;

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

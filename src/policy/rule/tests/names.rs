//! Names, words and numbers in a request, and what is known of them.

use super::*;

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

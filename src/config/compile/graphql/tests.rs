//! The shipped rules against the catalogue of the schema, field by field.

mod queries;

use std::path::Path;

use http::HeaderMap;
use serde_json::{Value as Json, json};

use super::*;
use crate::macaroon::Action;
use crate::policy::{
    Access, AccessError, AppIds, Asked, Body, BodyForm, Field, Fields, Found, Names, Noun, Owner,
    Pointer, Rule,
};
use crate::route::{Captures, Target};

/// Two organizations; every kind of thing in the first belongs to its app `web`.
struct World;

const ACME: u64 = 2001;
const WEB: AppIds = AppIds {
    app: 3001,
    org: ACME,
};
const API: AppIds = AppIds {
    app: 3002,
    org: ACME,
};
const SHOP: AppIds = AppIds {
    app: 3101,
    org: 2002,
};

fn one<T>(known: &[(&str, T)], name: &str) -> Found<T>
where
    T: Copy,
{
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).into()
}

impl Names for World {
    fn org(&self, slug: &str) -> Found<u64> {
        one(&[("acme", ACME), ("beta", 2002)], slug)
    }

    fn app(&self, name: &str) -> Found<AppIds> {
        one(&[("web", WEB), ("api", API), ("shop", SHOP)], name)
    }

    fn app_numbered(&self, id: u64) -> Found<AppIds> {
        let mut known = [WEB, API, SHOP].into_iter();
        known.find(|ids| ids.app == id).into()
    }

    fn machine(&self, id: &str) -> Found<AppIds> {
        one(&[("m1", WEB)], id)
    }

    fn volume(&self, id: &str) -> Found<AppIds> {
        one(&[("vol1", WEB), ("vol2", SHOP)], id)
    }

    fn cluster_org(&self, _: &str) -> Found<u64> {
        Found::Absent
    }

    fn object(&self, kind: &str, id: &str) -> Found<Owner> {
        let org = [
            ("addon", "add1"),
            ("check_job", "job1"),
            ("invitation", "inv1"),
            ("third_party_configuration", "tp1"),
            ("token", "m1"),
        ];
        let app = [
            ("build", "b1"),
            ("release", "r1"),
            ("certificate", "c1"),
            ("ip_address", "ip1"),
        ];
        match (org.contains(&(kind, id)), app.contains(&(kind, id))) {
            (true, _) => Found::Known(Owner::Org(ACME)),
            (_, true) => Found::Known(Owner::App(WEB)),
            (false, false) => Found::Absent,
        }
    }
}

/// Every argument that the catalogue names, with a value of its kind.
fn input() -> Json {
    json!({
        "appId": "web", "appName": "web", "postgresClusterAppId": "shop",
        "organizationId": "acme", "organizationSlug": "acme",
        "id": "m1", "allocId": "m1",
        "volumeId": "vol1", "targetVolumeId": "vol1", "sourceVolId": "vol2",
        "buildId": "b1", "releaseId": "r1", "checkJobId": "job1", "invitationId": "inv1",
        "thirdPartyConfigurationId": "tp1", "addOnId": "add1",
        "appNames": ["web", "api"],
    })
}

fn rule() -> Rule {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut report = Report::default();
    let text = std::fs::read_to_string(base.join("graphql.yaml")).unwrap();
    let rules = file(&text, &base.join("graphql.yaml"), &mut report);
    assert_eq!(report.elsewhere, []);
    Rule::GraphQl(rules.unwrap())
}

/// What a request asks for: its accesses, and whether a user.
#[derive(Debug, PartialEq)]
struct Demand<'a>(Vec<Asked<'a>>, bool);

fn with_demand<T>(
    rule: &Rule,
    query: &str,
    variables: &Json,
    check: impl FnOnce(Result<Demand<'_>, AccessError>) -> T,
) -> T {
    let request = json!({ "query": query, "variables": variables });
    let body = Body::read(BodyForm::GraphQl, request.to_string().as_bytes());
    let body = body.unwrap_or_else(|fault| panic!("{query}: {fault}"));
    let target = Target::parse("/graphql").unwrap();
    let headers = HeaderMap::new();
    let mut fields = Fields::new(Captures::default(), target.query(), &headers);
    fields.roots = body.roots();
    let accesses = rule.accesses(&fields, &World);
    check(accesses.map(|asked| Demand(asked.to_vec(), rule.needs_user(&fields))))
}

fn catalogue() -> Json {
    serde_json::from_str(include_str!("../../../../tests/surface/graphql.json")).unwrap()
}

/// What an access of the catalogue is for the values of `input`.
fn expected<'a>(access: &'a Json, input: &'a Json, mutation: Option<&'a str>) -> Vec<Asked<'a>> {
    let text = |key: &str| access[key].as_str();
    let org = text("org").unwrap();
    let apps: Vec<Option<u64>> = match text("app") {
        None => vec![None],
        Some("each of input.appNames, zero when empty") => vec![Some(3001), Some(3002)],
        Some(app) => vec![Some(app_of(app, input))],
    };
    let part = |key: &str| match text(key) {
        Some("zero") => Some(""),
        Some(place) => Some(value(place, input)),
        None => None,
    };
    let own_org = org == "token's own org";
    let accesses = apps.into_iter().map(|app| Asked {
        own_org,
        ..Asked::from(Access {
            action: Action::from_config(text("action").unwrap()).unwrap(),
            org: (!own_org).then(|| org_of(org, input)),
            app,
            machine: part("machine"),
            volume: part("volume"),
            feature: text("feature"),
            mutation,
            ..Access::default()
        })
    });
    accesses.collect()
}

/// `input.key`, to what stands there.
fn value<'a>(place: &str, input: &'a Json) -> &'a str {
    let key = place.strip_prefix("input.").unwrap_or(place);
    input[key].as_str().unwrap_or_else(|| panic!("{place}"))
}

fn app_of(place: &str, input: &Json) -> u64 {
    if place == "zero" {
        return 0;
    }
    let place = place.strip_prefix("app of ").unwrap_or(place);
    match value(place, input) {
        "shop" | "vol2" => SHOP.app,
        _ => WEB.app,
    }
}

fn org_of(place: &str, input: &Json) -> u64 {
    let inner = place
        .strip_prefix("owner(")
        .and_then(|p| p.strip_suffix(')'));
    match (place, inner) {
        // Where either may name it, both do, and agree.
        ("input.organizationId or owner(appId)", _)
        | ("input.organizationId or owner(appName)", _)
        | ("input.organizationId or owner(invitationId)", _)
        | ("input.organizationId, else user identity", _)
        | ("owner(add-on)" | "owner(token id)", _) => ACME,
        (_, Some(inner)) => match value(inner.strip_prefix("app of ").unwrap_or(inner), input) {
            "shop" | "vol2" => SHOP.org,
            _ => ACME,
        },
        (place, None) => World.org(value(place, input)).known().unwrap(),
    }
}

#[test]
fn every_mutation_of_the_catalogue_asks_for_what_it_says() {
    let (rule, catalogue, input) = (rule(), catalogue(), input());
    let mutations = catalogue["mutations"].as_array().unwrap();
    assert_eq!(mutations.len(), 141);
    for entry in mutations {
        let name = entry["name"].as_str().unwrap();
        let query = format!("mutation($input: I!) {{ alias: {name}(input: $input) {{ x }} }}");
        with_demand(&rule, &query, &json!({ "input": input }), |found| {
            let rule = entry["rule"].as_str().unwrap_or_default();
            let expected = if rule.starts_with("user identity") {
                Ok(Demand(vec![Asked::of_user(Some(name))], true))
            } else if rule.starts_with("any verified token") {
                Ok(Demand(Vec::new(), false))
            } else if rule.starts_with("platform-internal") || rule.starts_with("login bootstrap") {
                Err(AccessError::DeniedField(name.into()))
            } else {
                assert_eq!(rule, "", "{name}");
                let also = entry["also_requires"].as_array().into_iter().flatten();
                // What is asked where another organization is named has a test of its own.
                let always = also.filter(|also| also["when"].is_null());
                let accesses = [&entry["access"]].into_iter().chain(always);
                let accesses = accesses.flat_map(|access| expected(access, &input, Some(name)));
                Ok(Demand(accesses.collect(), false))
            };
            assert_eq!(found, expected, "{name}");
        });
    }
    let Rule::GraphQl(rules) = rule else {
        panic!("rules of a schema");
    };
    assert_eq!(rules.len(Root::Mutation), mutations.len());
}

fn read(access: Access<'_>) -> Asked<'_> {
    Asked::from(Access {
        action: Action::READ,
        ..access
    })
}

fn of_all_tokens(access: Access<'_>) -> Asked<'_> {
    Asked {
        own_org: true,
        every_org: true,
        ..read(access)
    }
}

#[test]
fn what_depends_on_the_arguments_does() {
    let rule = rule();
    let acme = Some(ACME);
    let check = |query: &str, expected: Result<Demand<'_>, AccessError>| {
        with_demand(&rule, query, &json!({}), |found| {
            assert_eq!(found, expected, "{query}")
        });
    };
    let reads = |accesses: Vec<Access<'static>>| {
        Ok(Demand(accesses.into_iter().map(read).collect(), false))
    };
    // Nobody is named: every organization of the bearer is meant.
    for (query, app, machine, feature) in [
        ("{apps {x}}", Some(0), None, None),
        ("{machines {x}}", Some(0), Some(""), None),
        ("{addOns {x}}", None, None, Some("addon")),
        ("{checkJobs {x}}", None, None, Some("checks")),
    ] {
        let access = Access {
            app,
            machine,
            feature,
            ..Access::default()
        };
        check(query, Ok(Demand(vec![of_all_tokens(access)], false)));
    }
    // Both apps of an attachment.
    let shop = Access {
        org: Some(SHOP.org),
        app: Some(SHOP.app),
        ..Access::default()
    };
    let web = Access {
        org: acme,
        app: Some(WEB.app),
        ..Access::default()
    };
    check(
        r#"{postgresAttachments(postgresAppName: "shop") {x}}"#,
        reads(vec![shop.clone()]),
    );
    check(
        r#"{postgresAttachments(appName: "web", postgresAppName: "shop") {x}}"#,
        reads(vec![shop, web.clone()]),
    );
    // An image of the platform's registry is its app's.
    let own = Asked {
        own_org: true,
        ..read(Access::default())
    };
    for (query, app) in [
        (r#"{latestImageTag(repository: "flyio/postgres")}"#, None),
        (
            r#"{latestImageTag(repository: "registry.fly.io/web")}"#,
            Some(WEB),
        ),
        (
            r#"{latestImageDetails(image: "registry.fly.io/shop:v1") {x}}"#,
            Some(SHOP),
        ),
    ] {
        let app = app.map(|ids| {
            read(Access {
                org: Some(ids.org),
                app: Some(ids.app),
                ..Access::default()
            })
        });
        let accesses = [own.clone()].into_iter().chain(app).collect();
        check(query, Ok(Demand(accesses, false)));
    }
    // Two places that do not agree.
    let disagree = with_demand(
        &rule,
        r#"{app(name: "web", id: "shop") {x}}"#,
        &json!({}),
        |found| matches!(found, Err(AccessError::Disagree(..))),
    );
    assert!(disagree);
    check(
        r#"mutation {createAddOn(input: {organizationId: "beta", appId: "web"}) {x}}"#,
        Err(AccessError::Contradiction(Noun::Org)),
    );
}

#[test]
fn mutations_look_at_what_is_there() {
    let rule = rule();
    let check = |mutation: &str, accesses: Vec<(&'static str, Access<'static>)>, user: bool| {
        let name = mutation.split('(').next().unwrap();
        let asked = accesses.into_iter().map(|(action, access)| {
            Asked::from(Access {
                action: Action::from_config(action).unwrap(),
                mutation: Some(name),
                ..access
            })
        });
        let user_asks = user.then(|| Asked::of_user(Some(name)));
        let expected = Ok(Demand(user_asks.into_iter().chain(asked).collect(), user));
        let query = format!("mutation {{ {mutation} {{ x }} }}");
        with_demand(&rule, &query, &json!({}), |found| {
            assert_eq!(found, expected, "{query}")
        });
    };
    let org = |org| Access {
        org: Some(org),
        ..Access::default()
    };
    let feature = |org, feature| Access {
        org: Some(org),
        feature: Some(feature),
        ..Access::default()
    };
    let app = |ids: AppIds| Access {
        org: Some(ids.org),
        app: Some(ids.app),
        ..Access::default()
    };
    check(
        r#"createAddOn(input: {appId: "shop"})"#,
        vec![("c", feature(2002, "addon"))],
        false,
    );
    check(
        r#"ensureMachineRemoteBuilder(input: {appName: "web"})"#,
        vec![("c", feature(ACME, "builder"))],
        false,
    );
    check(
        r#"deleteOrganizationInvitation(input: {invitationId: "inv1"})"#,
        vec![("d", feature(ACME, "membership"))],
        false,
    );
    check(
        r#"createExtensionTosAgreement(input: {addOnProviderName: "x"})"#,
        vec![],
        true,
    );
    // A certificate for no app in particular is for all of them.
    for none in ["", "appNames: []", "appNames: null"] {
        let mutation = format!(r#"issueCertificate(input: {{organizationId: "acme", {none}}})"#);
        check(
            &mutation,
            vec![(
                "wC",
                Access {
                    app: Some(0),
                    ..org(ACME)
                },
            )],
            false,
        );
    }
    check(
        r#"issueCertificate(input: {organizationId: "acme", appNames: "web"})"#,
        vec![("wC", app(WEB))],
        false,
    );
    // An address for another organization takes a right there too.
    check(
        r#"allocateIpAddress(input: {appId: "web", organizationId: "beta"})"#,
        vec![
            ("w", app(WEB)),
            (
                "w",
                Access {
                    app: Some(0),
                    ..org(2002)
                },
            ),
        ],
        false,
    );
    check(
        r#"moveApp(input: {appId: "web", organizationId: "beta"})"#,
        vec![
            ("d", app(WEB)),
            (
                "c",
                Access {
                    app: Some(0),
                    ..org(2002)
                },
            ),
        ],
        false,
    );
}

#[test]
fn fields_with_a_rule_below_another_are_denied_everywhere_else() {
    let rule = rule();
    for query in [
        r#"{app(name: "web") {organization {apps {nodes {id}}}}}"#,
        r#"{app(name: "web") {organization {limitedAccessTokens {nodes {id}}}}}"#,
        r#"{machine(machineId: "m1") {app {limitedAccessTokens {nodes {token}}}}}"#,
        r#"{viewer {personalOrganization {wireGuardPeers {nodes {id}}}}}"#,
        r#"{organizations {nodes {...F}}} fragment F on Organization {... {loggedCertificates {id}}}"#,
        r#"{viewer {limitedAccessTokens {id}}}"#,
        r#"mutation {setSecrets(input: {appId: "web"}) {app {organization {addOns {id}}}}}"#,
        r#"{organization(slug: "acme") {apps {nodes {limitedAccessTokens {token}}}}}"#,
    ] {
        let guarded = with_demand(&rule, query, &json!({}), |found| {
            matches!(found, Err(AccessError::Guarded(_)))
        });
        assert!(guarded, "{query}");
    }
}

#[test]
fn a_field_without_a_rule_is_denied_and_named() {
    let rule = rule();
    for (query, name) in [
        ("mutation {notInSchema}", "notInSchema"),
        ("mutation {viewer {id}}", "viewer"),
        ("mutation {__schema {x}}", "__schema"),
        ("{setSecrets(input: {appId: \"web\"}) {x}}", "setSecrets"),
        ("{Viewer {id}}", "Viewer"),
        ("{viewer {id} ... {__service {sdl}}}", "__service"),
    ] {
        with_demand(&rule, query, &json!({}), |found| {
            assert_eq!(found, Err(AccessError::NoRule(name.into())), "{query}");
        });
    }
    // `__typename` is a field of every type.
    with_demand(&rule, "mutation {__typename}", &json!({}), |found| {
        assert_eq!(found, Ok(Demand(Vec::new(), false)));
    });
}

#[test]
fn every_root_field_is_asked_for() {
    let rule = rule();
    let query = r#"mutation M {
        issueCertificate(input: {organizationId: "acme", appNames: ["web"]}) {x}
        harmless: deleteApp(input: {appId: "shop"}) @skip(if: true) {x}
    }"#;
    with_demand(&rule, query, &json!({}), |found| {
        let Demand(asked, _) = found.unwrap();
        let mutations: Vec<_> = asked.iter().map(|asked| asked.access.mutation).collect();
        assert_eq!(mutations, [Some("issueCertificate"), Some("deleteApp")]);
        assert_eq!(asked[1].access.app, Some(SHOP.app));
    });
    // One that is denied denies the whole, one that asks for a user asks it for the whole.
    with_demand(
        &rule,
        r#"{viewer {id} node(id: "x") {id}}"#,
        &json!({}),
        |found| {
            assert_eq!(found, Err(AccessError::DeniedField("node".into())));
        },
    );
    with_demand(
        &rule,
        r#"{app(name: "web") {id} accessTokens {id}}"#,
        &json!({}),
        |found| {
            assert!(found.unwrap().1);
        },
    );
}

#[test]
fn whether_a_name_exists_is_told_last() {
    let rule = rule();
    let check = |query: &str, expected: AccessError| {
        with_demand(&rule, query, &json!({}), |found| {
            assert_eq!(found, Err(expected), "{query}");
        });
    };
    check(
        r#"{app(name: "none") {id}}"#,
        AccessError::UnknownName(Noun::App),
    );
    let slug = Field::Body(Pointer::parse("/slug").unwrap());
    check(
        r#"{app(name: "none") {id} organization {id}}"#,
        AccessError::Missing(slug.clone()),
    );
    check(
        r#"{app(name: "none") {id} organization(slug: 1) {id}}"#,
        AccessError::NotText(slug.clone()),
    );
    check(
        r#"{app(name: "none") {id} organization(slug: "a/b") {id}}"#,
        AccessError::NotAnId(slug),
    );
    check(
        r#"{app(name: "none") {id} node(id: "x") {id}}"#,
        AccessError::DeniedField("node".into()),
    );
}

#[test]
fn one_request_asks_for_so_many_things_and_no_more() {
    let rule = rule();
    let names = |count| format!("[{}]", r#""web" "#.repeat(count));
    let certificate = |count| {
        let names = names(count);
        format!(r#"issueCertificate(input: {{organizationId: "acme", appNames: {names}}}) {{x}}"#)
    };
    let query = format!("mutation {{a: {} b: {}}}", certificate(32), certificate(32));
    with_demand(&rule, &query, &json!({}), |found| {
        assert_eq!(found.unwrap().0.len(), 64);
    });
    let query = format!("mutation {{a: {} b: {}}}", certificate(32), certificate(33));
    with_demand(&rule, &query, &json!({}), |found| {
        assert_eq!(found, Err(AccessError::TooMany));
    });
}

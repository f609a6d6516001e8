//! The queries of the catalogue, each in the documents that ask for it.

use serde_json::{Value as Json, json};

use super::{ACME, Demand, WEB, catalogue, read, rule, with_demand};
use crate::macaroon::Action;
use crate::policy::{Access, AccessError, Asked};

/// Fields of the catalogue, the documents that ask for them, and the arguments by their names in
/// the catalogue.
fn queries() -> Vec<(&'static str, Vec<&'static str>, Json)> {
    let app = json!({ "app": "web", "argument": "web", "argument of parent": "web" });
    let org = json!({ "argument": "acme", "argument of parent": "acme" });
    vec![
        (
            "app(name|id|internalId)",
            vec![
                r#"{app(name: "web") {x}}"#,
                r#"{app(id: "web") {x}}"#,
                r#"{app(internalId: "3001") {x}}"#,
            ],
            app.clone(),
        ),
        (
            "apps",
            vec![r#"{apps(organizationId: "acme") {x}}"#],
            org.clone(),
        ),
        (
            "appNameAvailable",
            vec![r#"{appNameAvailable(name: "new")}"#],
            org.clone(),
        ),
        (
            "organization(slug|id|name)",
            vec![
                r#"{organization(slug: "acme") {x}}"#,
                r#"{organization(id: "acme") {x}}"#,
                r#"{organization(name: "acme") {x}}"#,
            ],
            org.clone(),
        ),
        (
            "organization.wireGuardPeer(s), delegatedWireGuardTokens",
            vec![
                r#"{organization(slug: "acme") {wireGuardPeer(name: "p") {x}}}"#,
                r#"{organization(slug: "acme") {wireGuardPeers {x}}}"#,
                r#"{organization(slug: "acme") {delegatedWireGuardTokens {x}}}"#,
            ],
            org.clone(),
        ),
        (
            "organization.limitedAccessTokens",
            vec![r#"{organization(slug: "acme") {limitedAccessTokens {x}}}"#],
            org.clone(),
        ),
        (
            "app.limitedAccessTokens",
            vec![r#"{app(name: "web") {limitedAccessTokens {x}}}"#],
            app.clone(),
        ),
        (
            "organization.loggedCertificates",
            vec![r#"{organization(slug: "acme") {loggedCertificates {x}}}"#],
            org.clone(),
        ),
        (
            "organizations, personalOrganization",
            vec!["{organizations {nodes {x}}}", "{personalOrganization {x}}"],
            org.clone(),
        ),
        (
            "viewer, currentUser, userOnlyToken",
            vec!["{viewer {x}}", "{currentUser {x}}", "{userOnlyToken}"],
            org.clone(),
        ),
        (
            "machine(machineId)",
            vec![r#"{machine(machineId: "m1") {x}}"#],
            json!({ "argument": "m1" }),
        ),
        (
            "machines",
            vec![r#"{machines(appId: "web") {x}}"#],
            app.clone(),
        ),
        (
            "volume(id), volumeSnapshots, volumeAttachments",
            vec![
                r#"{volume(id: "vol1") {x}}"#,
                r#"{volumeSnapshots(volumeId: "vol1") {x}}"#,
                r#"{volumeAttachments(volumeId: "vol1") {x}}"#,
            ],
            json!({ "argument": "vol1" }),
        ),
        (
            "certificate(id)",
            vec![r#"{certificate(id: "c1") {x}}"#],
            app.clone(),
        ),
        (
            "ipAddress(id)",
            vec![r#"{ipAddress(id: "ip1") {x}}"#],
            app.clone(),
        ),
        (
            "addOn, addOns",
            vec![r#"{addOn(id: "add1") {x}}"#, r#"{addOn(name: "add1") {x}}"#],
            org.clone(),
        ),
        (
            "canPerformBluegreenDeployment, latestImageDetails, latestImageTag",
            vec![r#"{canPerformBluegreenDeployment(name: "web")}"#],
            app.clone(),
        ),
        (
            "node, nodes",
            vec![r#"{node(id: "x") {id}}"#, r#"{nodes(ids: ["x"]) {id}}"#],
            org.clone(),
        ),
        ("accessTokens", vec!["{accessTokens {x}}"], org.clone()),
        (
            "cliSession",
            vec![r#"{cliSession(id: "x") {id}}"#],
            org.clone(),
        ),
        (
            "platform, products, nearestRegion, addOnProvider(s), addOnPlans, checkLocations, \
             validateConfig, flapsAuthzCheck, __schema, __type, __typename",
            vec![
                "{platform {x}}",
                "{products {x}}",
                "{nearestRegion {x}}",
                "{addOnProvider {x}}",
                "{addOnProviders {x}}",
                "{addOnPlans {x}}",
                "{checkLocations {x}}",
                "{validateConfig(definition: {}) {x}}",
                "{flapsAuthzCheck}",
                "{__schema {x}}",
                "{__type(name: \"App\") {x}}",
                "{__typename}",
            ],
            org,
        ),
    ]
}

/// Fields whose access depends on more than one argument, tested one by one below.
const OTHERS: [&str; 2] = ["postgresAttachments", "checkJobs"];

#[test]
fn every_query_of_the_catalogue_asks_for_what_it_says() {
    let (rule, catalogue) = (rule(), catalogue());
    let entries = catalogue["queries"].as_array().unwrap();
    let table = queries();
    assert_eq!(entries.len(), table.len() + OTHERS.len());
    for entry in entries {
        let field = entry["field"].as_str().unwrap();
        if OTHERS.contains(&field) {
            continue;
        }
        let found = table.iter().find(|(name, ..)| *name == field);
        let (_, documents, arguments) = found.unwrap_or_else(|| panic!("{field} is not tested"));
        for document in documents {
            with_demand(&rule, document, &json!({}), |found| {
                let words = entry["rule"].as_str().unwrap_or_default();
                let expected = if entry["access"].is_object() {
                    let below = field.contains('.').then(|| parent(document));
                    let own = below.unwrap_or_default();
                    let asked = query_access(&entry["access"], arguments);
                    Ok(Demand(own.into_iter().chain([asked]).collect(), false))
                } else if words.starts_with("403") {
                    Err(AccessError::DeniedField(
                        field
                            .split(", ")
                            .find(|name| document.starts_with(&format!("{{{name}(")))
                            .unwrap()
                            .into(),
                    ))
                } else {
                    let user = words.starts_with("user identity");
                    let asked = user.then(|| Asked::of_user(None));
                    Ok(Demand(asked.into_iter().collect(), user))
                };
                assert_eq!(found, expected, "{document}");
            });
        }
    }
}

/// What the field above asks for by itself.
fn parent(document: &str) -> Vec<Asked<'static>> {
    let app = document.starts_with("{app(").then_some(WEB.app);
    vec![read(Access {
        org: Some(ACME),
        app,
        ..Access::default()
    })]
}

fn query_access<'a>(access: &'a Json, arguments: &'a Json) -> Asked<'a> {
    let text = |key: &str| access[key].as_str();
    let app = text("app").map(|app| if app == "zero" { 0 } else { WEB.app });
    let part = |key: &str| match text(key) {
        Some("zero") => Some(""),
        Some(_) => Some(arguments["argument"].as_str().unwrap()),
        None => None,
    };
    Asked::from(Access {
        action: Action::from_config(text("action").unwrap()).unwrap(),
        org: Some(ACME),
        app,
        machine: part("machine"),
        volume: part("volume"),
        feature: text("feature"),
        ..Access::default()
    })
}

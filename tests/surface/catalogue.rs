//! The catalogue: its entries, requests for them, and what its words mean for such a request.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{API, WEB};

/// The fields of one access.
pub(crate) type Fields = BTreeMap<String, String>;

/// One endpoint.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    method: String,
    path: String,
    host: String,
    #[serde(default)]
    query: BTreeMap<String, String>,
    auth: Option<String>,
    /// Null where no access is asked for.
    pub(crate) access: Value,
    #[serde(default)]
    also_requires: Vec<Also>,
}

/// A further access.
#[derive(Debug, Deserialize)]
struct Also {
    when: String,
    access: Value,
}

/// A request for an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) method: String,
    pub(crate) host: &'static str,
    pub(crate) target: String,
    pub(crate) body: Value,
    pub(crate) basic_user: Option<&'static str>,
    query: Vec<(&'static str, &'static str)>,
}

/// All endpoints.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let endpoints: Vec<Endpoint> = serde_json::from_str(include_str!("endpoints.json")).unwrap();
    assert_eq!(endpoints.len(), 184);
    endpoints
}

impl Endpoint {
    /// Why there is no route for it.
    pub(crate) fn left_out(&self) -> Option<&'static str> {
        match self.host.as_str() {
            "nats" => Some("not HTTP"),
            "gateway" => Some("opened to the gateway itself, not through the API"),
            _ => None,
        }
    }

    pub(crate) fn is_public(&self) -> bool {
        self.auth
            .as_deref()
            .is_some_and(|auth| auth.starts_with("none"))
    }

    /// Whether its access is about the machine that a request comes from.
    pub(crate) fn is_for_machines(&self) -> bool {
        self.access["machine"] == "source machine"
    }

    pub(crate) fn takes_basic(&self) -> bool {
        matches!(self.host.as_str(), "registry" | "builder")
    }

    /// The query keys that clients send; a part of a key that they choose is chosen.
    pub(crate) fn query_keys(&self) -> impl Iterator<Item = String> {
        self.query.keys().map(|key| key.replace("{key}", "k"))
    }

    /// Requests that differ in everything which the catalogue makes a difference of.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        if self.method == "CONNECT" {
            return self.tunnels();
        }
        let text = self.words();
        let has = |words: &str| text.contains(words);
        let mut queries: Vec<Vec<(&str, &str)>> = vec![vec![]];
        let mut each = |choices: &[&[(&'static str, &'static str)]]| {
            queries = queries
                .iter()
                .flat_map(|query| choices.iter().map(move |choice| [query, *choice].concat()))
                .collect();
        };
        if has("query.org_slug") {
            each(&[&[("org_slug", "acme")]]);
        }
        if has("query.instance") {
            each(&[&[], &[("instance", MACHINE)]]);
        }
        if has("query.cluster (required)") {
            each(&[&[("cluster", "primary")]]);
        }
        if has("query.cluster, else") {
            each(&[&[], &[("cluster", "primary")]]);
        }
        if has("subject token") {
            each(&[
                &[("subject", "logs.web.ams.148e1aaa000001")],
                &[("subject", "logs.web.*.148e1aaa000001")],
                &[("subject", "logs.web.%3E")],
                &[("subject", "logs.web")],
                &[("subject", "logs.*.ams")],
                &[("subject", "logs.%3e")],
            ]);
        }
        if has("include_leases=true") || self.query.contains_key("include_leases") {
            each(&[
                &[],
                &[("include_leases", "true")],
                &[("include_leases", "false")],
            ]);
        }
        if has("show_secrets=true") {
            each(&[
                &[],
                &[("show_secrets", "true")],
                &[("show_secrets", "false")],
            ]);
        }
        if has("query.from") {
            each(&[
                &[],
                &[("mount", "sha256%3Aab"), ("from", "api")],
                &[("from", "web")],
            ]);
        }
        let mut body = Map::new();
        for (key, value) in [
            ("org_slug", "acme"),
            ("app_name", "web"),
            ("cluster", "primary"),
        ] {
            if has(&format!("body.{key}")) && !has("body.org_slug present") {
                body.insert(key.to_owned(), value.into());
            }
        }
        if has("app named in path or body") && !self.path.contains("{app_name}") {
            body.insert("app_name".to_owned(), "web".into());
        }
        let body = Value::Object(body);
        let bodies = if has("body.command") {
            vec![
                json!({ "cmd": "ls -l '/a b'", "timeout": 5 }),
                json!({ "command": ["ls"] }),
            ]
        } else if has("body.org_slug present") {
            [
                json!({}),
                json!({ "org_slug": "acme" }),
                json!({ "org_slug": "beta" }),
            ]
            .to_vec()
        } else if has("body.source_volume_id") {
            [
                json!({}),
                json!({ "source_volume_id": "vol_api1" }),
                json!({ "snapshot_id": "vs_api1" }),
            ]
            .to_vec()
        } else if let Some((_, mutation)) = self.path.split_once(" (") {
            graphql(mutation.trim_end_matches(')'))
        } else if has("config.image") {
            let own = "registry.fly.io/web:deployment-1";
            let other = "registry.fly.io/api@sha256:ab";
            vec![
                json!({ "config": { "image": "nginx" } }),
                json!({ "config": { "image": own } }),
                json!({ "config": { "image": other } }),
                json!({ "config": { "image": own, "containers": [{ "image": "nginx" }, { "image": other }] } }),
            ]
        } else {
            vec![body]
        };
        let path = self.path.split(' ').next().unwrap();
        let paths = match path.contains("{pgver}") {
            true => vec![
                path.replace("{pgver}", "postgres"),
                path.replace("{pgver}", "postgresv2"),
            ],
            false => vec![path.to_owned()],
        };
        let mut samples = Vec::new();
        for path in &paths {
            for query in &queries {
                samples.extend(
                    bodies
                        .iter()
                        .map(|body| self.sample(path, query, body.clone())),
                );
            }
        }
        samples
    }

    /// What CONNECT is for is all in the host: a machine of an app, or any.
    fn tunnels(&self) -> Vec<Sample> {
        let hosts = match self.path.ends_with(":22") {
            true => ["148e1aaa000001.vm.web.internal:22", "web.internal:22"],
            false => ["148e1aaa000001.vm.web.internal:5432", "web.internal:5432"],
        };
        let sample = |host| Sample {
            method: self.method.clone(),
            host,
            target: "/".to_owned(),
            body: Value::Null,
            basic_user: None,
            query: Vec::new(),
        };
        hosts.map(sample).into()
    }

    fn sample(&self, path: &str, query: &[(&'static str, &'static str)], body: Value) -> Sample {
        let mut target = String::new();
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap();
            target = target + before + capture(name);
            rest = after;
        }
        target += rest;
        for (index, (key, value)) in query.iter().enumerate() {
            let mark = if index == 0 { '?' } else { '&' };
            target += &format!("{mark}{key}={value}");
        }
        let host = match self.host.as_str() {
            "machines" | "tunnel" => "api.machines.dev",
            "web" => "api.fly.io",
            "registry" => "registry.fly.io",
            "lfsc" => "litefs.fly.io",
            "builder" => "web-builder.fly.dev",
            other => panic!("{other}"),
        };
        let method = match self.method.as_str() {
            "ANY" => "POST",
            method => method,
        };
        Sample {
            method: method.to_owned(),
            host,
            target,
            body,
            basic_user: self.takes_basic().then_some("web"),
            query: query.to_vec(),
        }
    }

    /// Whether each root field of a request has a rule of its own.
    pub(crate) fn judges_fields(&self) -> bool {
        self.access["action"] == "per root field"
    }

    /// The accesses of a request, the conditional ones where their condition holds.
    pub(crate) fn accesses(&self, sample: &Sample) -> Vec<Fields> {
        let mut accesses = vec![meaning(&self.access, sample)];
        if self.access["app"] == EACH_APP {
            let names = sample.body.pointer("/variables/input/appNames").unwrap();
            let mut apps: Vec<_> = names.as_array().unwrap().iter().map(app_id).collect();
            if apps.is_empty() {
                apps.push(0);
            }
            let each = apps.iter().map(|app| {
                let mut access = accesses[0].clone();
                access.insert("app".to_owned(), app.to_string());
                access
            });
            accesses = each.collect();
        }
        if self
            .query
            .get("include_leases")
            .is_some_and(|text| text == "as in list")
            && sample.query("include_leases") == Some("true")
        {
            let mut access = meaning(&self.access, sample);
            access.insert("action".to_owned(), "rC".to_owned());
            accesses.push(access);
        }
        let also = self
            .also_requires
            .iter()
            .filter(|also| holds(&also.when, sample));
        accesses.extend(also.map(|also| meaning(&also.access, sample)));
        accesses
    }

    /// Everything that is said of its accesses.
    fn words(&self) -> String {
        let also = self
            .also_requires
            .iter()
            .map(|also| format!("{} {}", also.when, also.access));
        self.access.to_string() + &also.collect::<String>()
    }
}

impl Sample {
    /// The name of the route for it.
    pub(crate) fn route<'e>(&self, endpoint: &'e Endpoint) -> &'e str {
        let machine = self.host.contains(".vm.");
        match (self.target.as_str(), endpoint.id.as_str()) {
            ("/graphql", _) => "graphql",
            (_, "ssh.tunnel") if !machine => "ssh.tunnel_app",
            (_, "wg.tunnel") if machine => "wg.tunnel_machine",
            (_, id) => id,
        }
    }

    fn query(&self, key: &str) -> Option<&'static str> {
        let found = self.query.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| *value)
    }

    fn body(&self, pointer: &str) -> Option<&str> {
        self.body.pointer(pointer).and_then(Value::as_str)
    }

    /// The app of the platform's registry that an image belongs to, if not web.
    fn foreign_image(&self) -> bool {
        self.body.to_string().contains("registry.fly.io/api")
    }

    /// One part of the subject; `*`, `>` and what is not there stand for all.
    fn subject(&self, part: usize) -> Option<&'static str> {
        let found = self.query("subject").unwrap().split('.').nth(part - 1);
        found.filter(|part| !matches!(*part, "*" | "%3E" | "%3e"))
    }
}

/// Whether a condition of the catalogue holds.
fn holds(when: &str, sample: &Sample) -> bool {
    match when {
        "always" => true,
        "body.org_slug present and differs from owner(app_name)" => {
            sample.body("/org_slug").is_some_and(|slug| slug != "acme")
        }
        "config.image (or any container image) names the platform registry with another app's repository" => {
            sample.foreign_image()
        }
        "query.from names another repository" => {
            sample.query("from").is_some_and(|from| from != "web")
        }
        "query.include_leases=true" => sample.query("include_leases") == Some("true"),
        "query.show_secrets=true" => sample.query("show_secrets") == Some("true"),
        "body.source_volume_id or body.snapshot_id" => sample
            .body("/source_volume_id")
            .or(sample.body("/snapshot_id"))
            .is_some(),
        other => panic!("`{other}` is no condition that is known here"),
    }
}

/// An access of the catalogue for one request.
fn meaning(access: &Value, sample: &Sample) -> Fields {
    let fields = access.as_object().unwrap().iter();
    fields
        .map(|(name, text)| {
            let text = text.as_str().unwrap();
            let value = match name.as_str() {
                "action" | "feature" | "app_feature" | "machine_feature" | "mutation" => {
                    text.to_owned()
                }
                "org" => org(text, sample),
                "app" => app(text, sample),
                "machine" | "volume" | "cluster" => part(text, sample),
                "command" => command(text, sample),
                other => panic!("`{other}` is no field of an access"),
            };
            (name.clone(), value)
        })
        .collect()
}

fn org(text: &str, sample: &Sample) -> String {
    let slug = match text {
        "path.org_slug" => "acme",
        "query.org_slug" => sample.query("org_slug").unwrap(),
        "body.org_slug" => sample.body("/org_slug").unwrap(),
        "token's own org" => return "token".to_owned(),
        "each org of the token" => return "tokens".to_owned(),
        // Every app of the samples, and whatever else has an owner, is acme's.
        // The organization's id in GraphQL.
        "input.organizationId" => "acme",
        "owner(app_name)"
        | "owner(app)"
        | "owner(body.app_name)"
        | "owner(app of release)"
        | "owner(postgres_cluster_id)"
        | "owner(postgres cluster id)"
        | "owner(source volume)"
        | "owner(image app)"
        | "owner(from app)"
        | "owner(Basic user app)"
        | "org of the builder app"
        | "org of host" => "acme",
        other => panic!("`{other}` is no organization that is known here"),
    };
    match slug {
        "acme" => "2001",
        "beta" => "2002",
        other => panic!("{other}"),
    }
    .to_owned()
}

fn app(text: &str, sample: &Sample) -> String {
    let id = match text {
        // One for each, which `accesses` puts in.
        "zero" | EACH_APP => 0,
        "path.app_name"
        | "host app"
        | "Basic user app"
        | "app of release_id"
        | "app named in path or body" => WEB.app,
        "body.app_name" => {
            assert_eq!(sample.body("/app_name"), Some("web"));
            WEB.app
        }
        "from app" | "image app" | "app(source volume)" => API.app,
        "subject token 2, zero if wildcard" => sample.subject(2).map_or(0, |_| WEB.app),
        other => panic!("`{other}` is no app that is known here"),
    };
    id.to_string()
}

fn part(text: &str, sample: &Sample) -> String {
    match text {
        "zero" => "",
        "path.machine_id" => MACHINE,
        "path.volume_id" => "vol_web1",
        "host machine, or zero for the app-level name {app_name}.internal" => {
            if sample.host.contains(".vm.") {
                MACHINE
            } else {
                ""
            }
        }
        "query.instance or zero" => sample.query("instance").unwrap_or_default(),
        "subject token 4, zero if wildcard or absent" => sample.subject(4).unwrap_or_default(),
        // Nobody says which volume a snapshot is of: all of them are asked for.
        "source volume" => sample.body("/source_volume_id").unwrap_or_default(),
        "body.cluster" => sample.body("/cluster").unwrap(),
        "query.cluster (required)" => sample.query("cluster").unwrap(),
        "query.cluster, else the single cluster named by the token" => {
            sample.query("cluster").unwrap_or("token")
        }
        other => panic!("`{other}` is no part that is known here"),
    }
    .to_owned()
}

/// The words of a command, and a bar between them.
fn command(text: &str, sample: &Sample) -> String {
    assert_eq!(
        text,
        "body.command if it is an array, else shell-split(body.cmd)"
    );
    match sample.body("/cmd") {
        Some("ls -l '/a b'") => "ls|-l|/a b",
        None => "ls",
        other => panic!("{other:?}"),
    }
    .to_owned()
}

/// A value for a part of a path.
fn capture(name: &str) -> &'static str {
    match name {
        "app_name" => "web",
        "machine_id" => MACHINE,
        "volume_id" => "vol_web1",
        "org_slug" => "acme",
        "postgres_cluster_id" | "id" => "pg1",
        "release_id" => "rel1",
        "ip" => "2a09:8280:1::1",
        "hostname" => "*.example.com",
        "key" | "secret_name" => "DATABASE_URL.1",
        "username" | "database_name" | "database" | "extension_name" | "name" => "a_b-c.d",
        "reference" => "v1.0+build",
        "digest" => "sha256:ab",
        "uuid" => "6b3c1f2e-0000",
        "rest" => "api/v1/query_range",
        "docker_engine_api" => "v1.41/images/load",
        other => panic!("`{other}` is no capture that is known here"),
    }
}

const MACHINE: &str = "148e1aaa000001";

/// What clients send for a mutation.
fn graphql(mutation: &str) -> Vec<Value> {
    let (first, rest) = mutation.split_at(1);
    let upper = first.to_ascii_uppercase() + rest;
    let query = format!(
        "mutation($input: {upper}Input!) {{ {mutation}(input: $input) {{ clientMutationId }} }}"
    );
    let inputs = match mutation {
        "issueCertificate" => vec![
            json!({ "organizationId": "D307G1NJ1QjP9", "appNames": [] }),
            json!({ "organizationId": "D307G1NJ1QjP9", "appNames": ["web"], "validHours": 1 }),
            json!({ "organizationId": "D307G1NJ1QjP9", "appNames": ["web", "api"] }),
        ],
        "validateWireGuardPeers" => vec![json!({ "peerIps": ["fdaa:0:1::3"] })],
        _ => vec![json!({ "organizationId": "D307G1NJ1QjP9", "name": "peer" })],
    };
    let body = |input: &Value| json!({ "query": query, "variables": { "input": input } });
    inputs.iter().map(body).collect()
}

fn app_id(name: &Value) -> u64 {
    match name.as_str().unwrap() {
        "web" => WEB.app,
        "api" => API.app,
        other => panic!("{other}"),
    }
}

const EACH_APP: &str = "each of input.appNames, zero when the list is empty";

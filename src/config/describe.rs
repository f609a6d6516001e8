//! The route table in words, for a person.

use http::Method;

use super::{Config, Route, shadows};
use crate::policy::{
    AccessTemplate, App, Condition, Fixed, Items, LookupKind, Org, Other, Owned, Place, Root, Rule,
    Source, Value,
};
use crate::route::{HostPattern, RouteSpec};

/// Every route with what it asks for, one access a line, in the order of the file; then the
/// routes that take requests from others.
pub fn describe(config: &Config) -> String {
    let mut rows =
        vec![["METHOD", "HOST", "PATH", "ACCESS", "UPSTREAM", "ROUTE"].map(str::to_owned)];
    for (spec, route) in config.table.routes().iter().zip(&config.routes) {
        let upstream = config.upstreams.get(route.upstream);
        let upstream = upstream.map(|u| u.name.as_str()).unwrap_or_default();
        add_rows(&mut rows, spec, route, upstream);
    }
    let mut text = align(&rows);
    let name = |index: usize| config.routes.get(index).map_or("?", |r| r.name.as_str());
    for shadow in shadows(&config.table, &config.routes) {
        let (general, specific) = (name(shadow.general), name(shadow.specific));
        text += &format!(
            "warning: {general} never sees what {specific} takes, for example {}\n",
            shadow.witness
        );
    }
    text
}

type Row = [String; 6];

fn add_rows(rows: &mut Vec<Row>, spec: &RouteSpec, route: &Route, upstream: &str) {
    let methods: Vec<_> = spec.methods.iter().map(Method::as_str).collect();
    let hosts = match spec.hosts.as_slice() {
        [] => "any".to_owned(),
        hosts => hosts
            .iter()
            .map(HostPattern::as_str)
            .collect::<Vec<_>>()
            .join(","),
    };
    let mut accesses = match &route.rule {
        Rule::Public => vec!["public".to_owned()],
        Rule::Authenticated => vec!["any usable token".to_owned()],
        Rule::User => vec!["a user's token".to_owned()],
        Rule::Denied => vec!["denied".to_owned()],
        Rule::GraphQl(rules) => vec![format!(
            "GraphQL: {} fields of Query, {} of Mutation",
            rules.len(Root::Query),
            rules.len(Root::Mutation)
        )],
        Rule::Accesses(accesses) => accesses.templates().iter().map(access).collect(),
    }
    .into_iter();
    rows.push([
        methods.join(","),
        hosts,
        spec.pattern.to_string(),
        accesses.next().unwrap_or_default(),
        upstream.to_owned(),
        route.name.clone(),
    ]);
    for more in accesses {
        let blank = String::new;
        rows.push([
            blank(),
            blank(),
            blank(),
            format!("and {more}"),
            blank(),
            blank(),
        ]);
    }
}

/// `rC app={app} machine={machine} when include_leases=true`
fn access(template: &AccessTemplate) -> String {
    let mut text = template.action.to_string();
    if template.org != Org::Owner {
        text += &format!(" org={}", org(&template.org));
    }
    for (field, value) in template.values().filter(|(field, _)| *field != "org") {
        text += &match (&template.app, field) {
            (Some(App::OwnerOf(owned)), "app") => format!(" app={}", owner(owned)),
            (Some(App::Numbered(_)), "app") => format!(" app=number({})", words(value)),
            _ if field == "cluster" && template.own_cluster => {
                format!(" cluster={}|the token's", words(value))
            }
            _ => format!(" {field}={}", words(value)),
        };
    }
    if let Some(command) = &template.command {
        text += &format!(" command=body:/{}", command.words);
    }
    match template.each.as_ref().map(|each| &each.items) {
        Some(Items::Names(pointer)) => text += &format!(" for each body:{pointer}"),
        Some(Items::Images { registry, .. }) => text += &format!(" for each image of {registry}"),
        None => {}
    }
    match &template.when {
        None => text,
        Some(when) => text + &condition(when),
    }
}

fn condition(when: &Condition) -> String {
    let place = match &when.place {
        Place::Query(key) => key.to_string(),
        Place::Body(pointer) => format!("body:{pointer}"),
    };
    let is = match when.is {
        Some(value) => format!("={value}"),
        None => " is given".to_owned(),
    };
    let other = match when.other {
        Some(Other::Org) => " and is of another organization",
        Some(Other::App) => " and is another app",
        None => "",
    };
    format!(" when {place}{is}{other}")
}

fn org(org: &Org) -> String {
    match org {
        Org::Owner => "owner".to_owned(),
        Org::Slug(value) => words(value),
        Org::OwnerOf(owned) => owner(owned),
        Org::First(several) => several.iter().map(self::org).collect::<Vec<_>>().join("|"),
        Org::Token => "the token's".to_owned(),
        Org::EachToken => "each token's".to_owned(),
        Org::Peer => "the source's".to_owned(),
    }
}

fn owner(owned: &Owned) -> String {
    let kind = match &owned.kind {
        LookupKind::Org => "org",
        LookupKind::App => "app",
        LookupKind::Machine => "machine",
        LookupKind::Volume => "volume",
        LookupKind::Cluster => "cluster",
        LookupKind::Object(kind) => kind,
    };
    format!("owner({kind} {})", words(&owned.of))
}

fn words(value: &Value) -> String {
    let mut places: Vec<_> = value.sources().map(place).collect();
    places.extend(value.otherwise.as_ref().map(|f| fixed_words(f).to_owned()));
    places.join("|")
}

fn place(source: &Source) -> String {
    match source {
        Source::Fixed(fixed) => fixed_words(fixed).to_owned(),
        Source::Capture { name, .. } | Source::Host { name, .. } => format!("{{{name}}}"),
        Source::Query(key) => format!("?{key}"),
        Source::Word { key, index, .. } => format!("?{key}.{index}"),
        Source::Header(name) => format!("header:{name}"),
        Source::Body(pointer) => format!("body:{pointer}"),
        Source::BasicUser => "basic:user".to_owned(),
        Source::Each => "each".to_owned(),
        Source::Peer => "the source's".to_owned(),
    }
}

fn fixed_words(fixed: &Fixed) -> &str {
    match fixed {
        Fixed::Zero => "zero",
        Fixed::Text(text) => text,
    }
}

/// Columns as wide as their widest cell, two spaces apart.
fn align(rows: &[Row]) -> String {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}

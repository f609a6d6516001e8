//! The route table in words, for a person.

use http::Method;

use super::{Config, Route};
use crate::policy::{AccessTemplate, Condition, Fixed, Org, Rule, Source, Value};
use crate::route::RouteSpec;

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
    for shadow in config.table.shadows() {
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
        hosts => hosts.join(","),
    };
    let mut accesses = match &route.rule {
        Rule::Public => vec!["public".to_owned()],
        Rule::Authenticated => vec!["any usable token".to_owned()],
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
    let org_key = match &template.org {
        Org::Owner | Org::Slug(_) => "org",
        Org::OwnerOfApp(_) => "org of app",
        Org::OwnerOfCluster(_) => "org of cluster",
    };
    for (field, value) in template.values() {
        let field = if field == "org" { org_key } else { field };
        text += &format!(" {field}={}", words(value));
    }
    match &template.when {
        None => text,
        Some(Condition::Present(key)) => text + &format!(" when {key} is given"),
        Some(Condition::Is(key, value)) => text + &format!(" when {key}={value}"),
    }
}

fn words(value: &Value) -> String {
    let source = match &value.source {
        Source::Fixed(fixed) => fixed_words(fixed).to_owned(),
        Source::Capture { name, .. } => format!("{{{name}}}"),
        Source::Query(key) => format!("?{key}"),
        Source::Header(name) => format!("header:{name}"),
    };
    match &value.otherwise {
        Some(fixed) => format!("{source}|{}", fixed_words(fixed)),
        None => source,
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

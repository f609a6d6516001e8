//! A route table and the operations of a document, held against each other.
//!
//! Paths are compared by what the table does with them: the document's names for parameters mean
//! nothing to it. Each operation is tried with a value that is no literal of any route, so that it
//! can only be taken by captures.

use std::collections::BTreeSet;
use std::slice;

use http::Method;
use serde_json::{Value, json};

use super::openapi::{Operation, Server};
use crate::cli::text::table;
use crate::config::Config;
use crate::route::{HostPattern, RouteSpec, Segment, Target};

/// What the table and the document do not share.
#[derive(Debug, Default)]
pub(super) struct Coverage<'a> {
    operations: usize,
    uncovered: Vec<Uncovered<'a>>,
    undocumented: Vec<Undocumented<'a>>,
    refused_keys: Vec<RefusedKeys<'a>>,
}

/// An operation that no route takes.
#[derive(Debug)]
struct Uncovered<'a> {
    operation: &'a Operation,
    reason: String,
}

/// A route that takes no operation, for at least one of its methods.
#[derive(Debug)]
struct Undocumented<'a> {
    route: &'a str,
    methods: Vec<&'a Method>,
    path: &'a str,
}

/// An operation that is taken, without some of its query keys.
#[derive(Debug)]
struct RefusedKeys<'a> {
    operation: &'a Operation,
    route: &'a str,
    keys: Vec<&'a str>,
}

impl<'a> Coverage<'a> {
    /// Requests are taken to name `host`, or else the host of the document's servers. Where the
    /// document names none either, any host of any route will do.
    pub(super) fn of(config: &'a Config, operations: &'a [Operation], host: Option<&str>) -> Self {
        let stand_in = stand_in(config);
        let mut taken = BTreeSet::new();
        let mut hosts = BTreeSet::new();
        let mut coverage = Self {
            operations: operations.len(),
            ..Self::default()
        };
        for operation in operations {
            let mut reason = None;
            let mut covered = false;
            for server in &operation.servers {
                for host in hosts_of(config, server, host) {
                    let path = server.base.clone() + &operation.path.fill(&stand_in);
                    match find(config, &operation.method, host, &path) {
                        Ok(route) => {
                            taken.insert((route, operation.method.as_str()));
                            if !covered {
                                coverage.check_query(config, route, operation, &path, &stand_in);
                            }
                            covered = true;
                        }
                        Err(why) => reason = reason.or(Some(why)),
                    }
                    hosts.insert(host.to_owned());
                }
            }
            if let Some(reason) = reason.filter(|_| !covered) {
                let uncovered = Uncovered { operation, reason };
                coverage.uncovered.push(uncovered);
            }
        }
        coverage.undocumented = undocumented(config, &taken, &hosts, &stand_in);
        coverage
    }

    /// Whether every operation has a route.
    pub(super) fn is_complete(&self) -> bool {
        self.uncovered.is_empty()
    }

    fn check_query(
        &mut self,
        config: &'a Config,
        route: usize,
        operation: &'a Operation,
        path: &str,
        stand_in: &str,
    ) {
        let Some(route) = config.routes.get(route) else {
            return;
        };
        let refused = operation.query.iter().filter(|key| {
            let target = format!("{path}?{}={stand_in}", key.fill(stand_in));
            let passes = Target::parse(&target)
                .is_ok_and(|target| route.query.check(&target.query()).is_ok());
            !passes
        });
        let keys: Vec<_> = refused.map(|key| key.as_str()).collect();
        if !keys.is_empty() {
            self.refused_keys.push(RefusedKeys {
                operation,
                route: &route.name,
                keys,
            });
        }
    }

    /// For people.
    pub(super) fn in_words(&self) -> String {
        let missing = self.uncovered.len();
        let mut text = format!(
            "{} of {} operations have a route\n",
            self.operations.saturating_sub(missing),
            self.operations
        );
        section(
            &mut text,
            "no route for",
            self.uncovered.iter().map(|u| {
                let Operation { method, path, .. } = u.operation;
                let id = u.operation.id.clone().unwrap_or_default();
                [
                    method.to_string(),
                    path.as_str().to_owned(),
                    id,
                    u.reason.clone(),
                ]
            }),
        );
        section(
            &mut text,
            "query keys that are refused",
            self.refused_keys.iter().map(|r| {
                let Operation { method, path, .. } = r.operation;
                let keys = r.keys.join(", ");
                [
                    method.to_string(),
                    path.as_str().to_owned(),
                    r.route.to_owned(),
                    keys,
                ]
            }),
        );
        section(
            &mut text,
            "routes that are not in the document",
            self.undocumented.iter().map(|u| {
                let methods: Vec<_> = u.methods.iter().map(|method| method.as_str()).collect();
                [methods.join(","), u.path.to_owned(), u.route.to_owned()]
            }),
        );
        text
    }

    /// For scripts.
    pub(super) fn in_json(&self) -> Value {
        let uncovered = self.uncovered.iter().map(|u| {
            let Operation {
                method, path, id, ..
            } = u.operation;
            json!({
                "method": method.as_str(),
                "path": path.as_str(),
                "operation_id": id,
                "reason": u.reason,
            })
        });
        let refused = self.refused_keys.iter().map(|r| {
            let Operation {
                method, path, id, ..
            } = r.operation;
            json!({
                "method": method.as_str(),
                "path": path.as_str(),
                "operation_id": id,
                "route": r.route,
                "keys": r.keys,
            })
        });
        let undocumented = self.undocumented.iter().map(|u| {
            let methods: Vec<_> = u.methods.iter().map(|method| method.as_str()).collect();
            json!({ "route": u.route, "methods": methods, "path": u.path })
        });
        json!({
            "operations": self.operations,
            "uncovered": uncovered.collect::<Vec<_>>(),
            "refused_query_keys": refused.collect::<Vec<_>>(),
            "undocumented_routes": undocumented.collect::<Vec<_>>(),
        })
    }
}

fn section<const N: usize>(
    text: &mut String,
    title: &str,
    rows: impl ExactSizeIterator<Item = [String; N]>,
) {
    if rows.len() == 0 {
        return;
    }
    *text += &format!("\n{title} ({}):\n", rows.len());
    let rows: Vec<_> = rows.collect();
    for line in table(&rows).lines() {
        *text += &format!("  {line}\n");
    }
}

/// The route of a request, or why there is none.
fn find(config: &Config, method: &Method, host: &str, path: &str) -> Result<usize, String> {
    let target = Target::parse(path).map_err(|error| error.to_string())?;
    let found = config.table.find(method, host, &target);
    found
        .map(|found| found.route)
        .map_err(|error| error.to_string())
}

/// The hosts that a request to this server can name; the empty one is no route's own.
fn hosts_of<'h>(config: &'h Config, server: &'h Server, host: Option<&'h str>) -> Vec<&'h str> {
    if let Some(host) = host.or(server.host.as_deref()) {
        return vec![host];
    }
    let named = config.table.routes().iter().flat_map(|spec| &spec.hosts);
    // A host that captures is nobody's own name.
    let named: BTreeSet<_> = named
        .filter(|host| host.is_literal())
        .map(HostPattern::as_str)
        .collect();
    [""].into_iter().chain(named).collect()
}

/// The routes that answer on these hosts and take no operation for some method.
fn undocumented<'a>(
    config: &'a Config,
    taken: &BTreeSet<(usize, &str)>,
    hosts: &BTreeSet<String>,
    stand_in: &str,
) -> Vec<Undocumented<'a>> {
    let mut missing = Vec::new();
    for (index, (spec, route)) in config.table.routes().iter().zip(&config.routes).enumerate() {
        let path = sample(spec, stand_in);
        let methods = spec.methods.iter().filter(|method| {
            let answers = hosts
                .iter()
                .any(|host| find(config, method, host, &path) == Ok(index));
            answers && !taken.contains(&(index, method.as_str()))
        });
        let methods: Vec<_> = methods.collect();
        if !methods.is_empty() {
            missing.push(Undocumented {
                route: &route.name,
                methods,
                path: spec.pattern.as_str(),
            });
        }
    }
    missing
}

/// A path that only this route's shape takes.
fn sample(spec: &RouteSpec, stand_in: &str) -> String {
    let parts = spec.pattern.segments().iter().map(|segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        Segment::OneOf(choices) => format!("/{}", choices.first().map_or("", AsRef::as_ref)),
        Segment::Capture(_) | Segment::Tail(_) => format!("/{stand_in}"),
    });
    parts.collect()
}

/// A number: every alphabet admits digits. The first that no route has as a literal.
fn stand_in(config: &Config) -> String {
    let segments = config
        .table
        .routes()
        .iter()
        .flat_map(|spec| spec.pattern.segments());
    let literals: BTreeSet<&str> = segments
        .flat_map(|segment| match segment {
            Segment::Literal(text) => slice::from_ref(text),
            Segment::OneOf(choices) => choices,
            Segment::Capture(_) | Segment::Tail(_) => &[],
        })
        .map(AsRef::as_ref)
        .collect();
    let numbers = (1_u64..).map(|number| number.to_string());
    let mut free = numbers.filter(|number| !literals.contains(number.as_str()));
    free.next().unwrap_or_default()
}

#[cfg(test)]
mod tests;

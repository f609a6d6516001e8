//! The rules of a GraphQL schema, which have a file of their own.

use std::path::Path;

use super::access::{self, Site, pointer};
use super::{Node, Report, Section, Value, read, read_document};
use crate::config::files::Files;
use crate::config::problem::{ConfigError, Fault};
use crate::policy::{Asks, GraphQlRules, NamedRule, Root};

/// Compiles `{ graphql: FILE }`. What is wrong in that file is told with its own lines.
pub(super) fn rules(node: &Node, base: &Path, report: &mut Report) -> Option<GraphQlRules> {
    let section = Section::open(node, "an access by GraphQL", &["graphql"], &[], report)?;
    let node = section.need("graphql", report)?;
    let path = read(node, report, |name| Ok(base.join(name)))?;
    let text = report.files.read(&path).map_err(|error| {
        let fault = Fault::new(format!("cannot read {}: {error}", path.display()));
        fault.hint("the path is relative to the folder of this file")
    });
    let text = report.keep(node.id, text)?;
    file(&text, &path, report)
}

fn file(text: &str, path: &Path, report: &mut Report) -> Option<GraphQlRules> {
    match read_document(text, path, &mut Files::default(), root) {
        Ok((rules, _warnings)) => Some(rules),
        Err(ConfigError::Invalid(problems)) => {
            for problem in problems {
                // Two routes may have one file.
                if !report.elsewhere.contains(&problem) {
                    report.elsewhere.push(problem);
                }
            }
            None
        }
        // The text is here already.
        Err(ConfigError::Read { .. }) => None,
    }
}

fn root(node: &Node, report: &mut Report) -> Option<GraphQlRules> {
    let known = ["queries", "mutations"];
    let section = Section::open(node, "a file of rules", &known, &[], report)?;
    let mut rules = Vec::new();
    let mut places = Vec::new();
    for (key, root) in [("queries", Root::Query), ("mutations", Root::Mutation)] {
        let Some(node) = section.find(key) else {
            continue;
        };
        let Value::Map(entries) = &node.value else {
            let fault = Fault::new(format!("`{key}` is a mapping"));
            report.error(
                node.id,
                fault.hint("from a field to what it asks of the bearer"),
            );
            continue;
        };
        for entry in entries {
            let name = report.keep(entry.key_id, name(&entry.key));
            // A rule that is wrong still is one, for what is below its field.
            let asks = asks(&entry.node, report).unwrap_or(Asks::Denied);
            let Some((field, below)) = name else { continue };
            places.push(entry.key_id);
            rules.push(NamedRule {
                root,
                field,
                below,
                asks,
            });
        }
    }
    if places.is_empty() && report.errors.is_empty() {
        let fault = Fault::new("there is no rule, so every request would be denied");
        report.error(node.id, fault);
    }
    let made = GraphQlRules::new(rules);
    let errors = match made {
        Ok(rules) => return Some(rules),
        Err(errors) => errors,
    };
    for (index, error) in errors {
        if let Some(place) = places.get(index) {
            report.error(*place, Fault::new(error.to_string()));
        }
    }
    None
}

/// `field` or `parent.field`.
fn name(key: &str) -> Result<(Box<str>, Option<Box<str>>), Fault> {
    let (field, below) = match key.split_once('.') {
        Some((field, below)) => (field, Some(below)),
        None => (key, None),
    };
    if [Some(field), below].into_iter().flatten().all(is_name) {
        return Ok((field.into(), below.map(Into::into)));
    }
    let fault = Fault::new(format!("`{key}` can be no field of a schema"));
    Err(fault.hint("write the name of a root field, or `parent.field` for one directly below it"))
}

/// A name as GraphQL has them.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A word, a choice, or accesses.
fn asks(node: &Node, report: &mut Report) -> Option<Asks> {
    if let Value::Scalar { .. } = node.value {
        return read(node, report, |word| match word {
            "authenticated" => Ok(Asks::Authenticated),
            "user" => Ok(Asks::User),
            "denied" => Ok(Asks::Denied),
            _ => {
                let fault = Fault::new(format!("`{word}` is nothing that a field can ask for"));
                Err(fault.hint(
                    "write `{ action: ..., app: { arg: /input/appId } }`, `authenticated`, \
                     `user` or `denied`",
                ))
            }
        });
    }
    if let Value::Map(entries) = &node.value
        && entries.iter().any(|entry| entry.key == "if")
    {
        let known = ["if", "then", "else"];
        let section = Section::open(node, "a choice", &known, &[], report)?;
        let given = section.read("if", report, pointer);
        let then = section.need("then", report);
        let then = then.and_then(|node| asks(node, report));
        let otherwise = section.need("else", report);
        let otherwise = otherwise.and_then(|node| asks(node, report));
        return Some(Asks::If {
            given: given?,
            then: Box::new(then?),
            otherwise: Box::new(otherwise?),
        });
    }
    let site = Site {
        path: &[],
        host: &[],
        base: Path::new(""),
        graphql: true,
    };
    access::accesses(node, &site, report).map(Asks::Accesses)
}

#[cfg(test)]
mod tests;

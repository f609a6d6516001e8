//! What a route asks for: `public`, `authenticated`, or accesses.

use http::HeaderName;

use super::{Node, Report, Section, Value as Yaml, read, scalar, text};
use crate::config::is_owned;
use crate::config::problem::Fault;
use crate::config::section::{all, one_or_more};
use crate::macaroon::Action;
use crate::policy::{
    AccessTemplate, Accesses, Condition, Fixed, Org, Rule, Source, TemplateError, Value,
};
use crate::route::{Alphabet, Pattern};

/// Compiles `access` of a route with this path.
pub(super) fn rule(node: &Node, pattern: &Pattern, report: &mut Report) -> Option<Rule> {
    if let Yaml::Scalar { .. } = node.value {
        return read(node, report, |word| match word {
            "public" => Ok(Rule::Public),
            "authenticated" => Ok(Rule::Authenticated),
            _ => {
                let fault = Fault::new(format!("`{word}` is no access"));
                Err(fault.hint("write `{ action: ..., app: ... }`, `public` or `authenticated`"))
            }
        });
    }
    let nodes = one_or_more(node);
    let templates = all(nodes, |node| template(node, pattern, report))?;
    match Accesses::new(templates) {
        Ok(accesses) => Some(Rule::Accesses(accesses)),
        Err(errors) => {
            for (index, error) in errors {
                let at = nodes.get(index).map_or(node.id, |node| node.id);
                report.error(at, template_fault(error));
            }
            None
        }
    }
}

const KNOWN: [&str; 12] = [
    "when",
    "action",
    "org",
    "app",
    "machine",
    "volume",
    "cluster",
    "feature",
    "app_feature",
    "machine_feature",
    "mutation",
    "storage_object",
];

/// Fields that need a body, GraphQL, or the source of the connection.
const LATER: [&str; 5] = [
    "command",
    "graphql",
    "source_machine",
    "source_app",
    "source_organization",
];

fn template(node: &Node, pattern: &Pattern, report: &mut Report) -> Option<AccessTemplate> {
    let section = Section::open(node, "an access", &KNOWN, &LATER, report)?;
    if section.find("graphql").is_some() {
        return None;
    }
    let action = section.read("action", report, action);
    let when = match section.find("when") {
        Some(node) => condition(node, report).map(Some),
        None => Some(None),
    };
    let org = match section.find("org") {
        Some(node) => org(node, pattern, report),
        None => Some(Org::Owner),
    };
    let mut field = |key| match section.find(key) {
        Some(node) => value(node, pattern, report).map(Some),
        None => Some(None),
    };
    let app = field("app");
    let machine = field("machine");
    let volume = field("volume");
    let cluster = field("cluster");
    let feature = field("feature");
    let app_feature = field("app_feature");
    let machine_feature = field("machine_feature");
    let mutation = field("mutation");
    let storage_object = field("storage_object");
    Some(AccessTemplate {
        when: when?,
        action: action?,
        org: org?,
        app: app?,
        machine: machine?,
        volume: volume?,
        cluster: cluster?,
        feature: feature?,
        app_feature: app_feature?,
        machine_feature: machine_feature?,
        mutation: mutation?,
        storage_object: storage_object?,
    })
}

fn action(text: &str) -> Result<Action, Fault> {
    Action::from_config(text).ok_or_else(|| {
        let fault = match text {
            "" => Fault::new("the action is empty, and every token permits nothing"),
            _ => Fault::new(format!("`{text}` is no action")),
        };
        fault.hint("one or more of r (read), w (write), c (create), d (delete), C (control)")
    })
}

/// `{ query: key }` or `{ query: key, is: true }`.
fn condition(node: &Node, report: &mut Report) -> Option<Condition> {
    let section = Section::open(node, "`when`", &["query", "is"], &["body"], report)?;
    let key = section.read("query", report, query_key);
    match section.find("is") {
        None => Some(Condition::Present(key?)),
        Some(node) => {
            let is = read(node, report, |text| {
                scalar::boolean(text).map_err(|fault| {
                    fault.hint("leave `is` out for a key that is there with any value")
                })
            });
            Some(Condition::Is(key?, is?))
        }
    }
}

/// A slug like any value; or the word `owner`, or the owner of something that is named here.
fn org(node: &Node, pattern: &Pattern, report: &mut Report) -> Option<Org> {
    if text(node) == Some("owner") {
        return Some(Org::Owner);
    }
    let Yaml::Map(entries) = &node.value else {
        return value(node, pattern, report).map(Org::Slug);
    };
    let has = |key: &str| entries.iter().any(|entry| entry.key == key);
    if !has("owner") && !has("cluster") {
        return value(node, pattern, report).map(Org::Slug);
    }
    let section = Section::open(node, "`org`", &["owner", "cluster"], &[], report)?;
    match (section.find("owner"), section.find("cluster")) {
        (Some(node), None) => value(node, pattern, report).map(Org::OwnerOfApp),
        (None, Some(node)) => value(node, pattern, report).map(Org::OwnerOfCluster),
        (Some(_), Some(_)) | (None, None) => {
            let fault = Fault::new("`org` is the owner of one thing")
                .hint("write `{ owner: \"{app}\" }` or `{ cluster: \"{cluster}\" }`");
            report.error(node.id, fault);
            None
        }
    }
}

/// `"{capture}"`, `zero`, a text, or `{ query: key, else: zero }` and the like.
fn value(node: &Node, pattern: &Pattern, report: &mut Report) -> Option<Value> {
    if let Yaml::Map(_) = node.value {
        return source(node, report);
    }
    read(node, report, |text| {
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
        match inner {
            Some(name) => capture(name, pattern).map(Value::from),
            None if text.contains(['{', '}']) => {
                let fault = Fault::new(format!("`{text}` mixes a capture with text"));
                Err(fault.hint("a field is one whole capture, as in \"{app}\""))
            }
            None => Ok(Source::Fixed(fixed(text)).into()),
        }
    })
}

fn capture(name: &str, pattern: &Pattern) -> Result<Source, Fault> {
    let captures = pattern.captures();
    let Some(index) = captures.iter().position(|c| *c.name == *name) else {
        let fault = Fault::new(format!("the path does not capture `{name}`"));
        return Err(fault.suggest(name, captures.iter().map(|c| &*c.name)));
    };
    let exact = |c: &&crate::route::Capture| !c.tail && c.alphabet == Alphabet::Id;
    if captures.get(index).filter(exact).is_none() {
        let fault = Fault::new(format!("`{name}` in the path is no name or id"));
        return Err(fault.hint(format!(
            "an access names one thing exactly: capture it as `{{{name}}}`"
        )));
    }
    Ok(Source::Capture {
        index,
        name: name.into(),
    })
}

/// A mapping that says where to look.
fn source(node: &Node, report: &mut Report) -> Option<Value> {
    let known = ["query", "header", "else"];
    let later = ["body", "graphql", "token", "basic_user", "source"];
    let section = Section::open(node, "a field of an access", &known, &later, report)?;
    if later.iter().any(|key| section.find(key).is_some()) {
        return None;
    }
    let source = match (section.find("query"), section.find("header")) {
        (Some(node), None) => read(node, report, query_key).map(Source::Query),
        (None, Some(node)) => read(node, report, header).map(Source::Header),
        (Some(_), Some(_)) | (None, None) => {
            let fault = Fault::new("a field comes from one place")
                .hint("write `{ query: key }` or `{ header: name }`, with `else: zero` if it may be absent");
            report.error(node.id, fault);
            None
        }
    };
    let otherwise = match section.find("else") {
        Some(node) => read(node, report, |text| Ok(fixed(text))).map(Some),
        None => Some(None),
    };
    Some(Value {
        source: source?,
        otherwise: otherwise?,
    })
}

fn fixed(text: &str) -> Fixed {
    match text {
        "zero" => Fixed::Zero,
        text => Fixed::Text(text.into()),
    }
}

fn query_key(text: &str) -> Result<Box<str>, Fault> {
    if Alphabet::Name.accepts(text) {
        return Ok(text.into());
    }
    let fault = Fault::new(format!("`{text}` can never be a query key"));
    Err(fault.hint(format!("use {}", Alphabet::Name.describe())))
}

fn header(text: &str) -> Result<HeaderName, Fault> {
    let name = HeaderName::try_from(text);
    let name = name.map_err(|_| Fault::new(format!("`{text}` is no header name")))?;
    if [http::header::AUTHORIZATION, http::header::COOKIE].contains(&name) {
        let message = format!("`{name}` holds credentials and takes no part in an access");
        return Err(Fault::new(message));
    }
    // Such a line never reaches the upstream as the client sent it, so what was judged would not
    // be what is acted on.
    if is_owned(name.as_str()) || PER_HOP.contains(&name) {
        let fault = Fault::new(format!("`{name}` is removed or set by usher itself"));
        return Err(fault.hint("name a header that the client sends and the upstream reads"));
    }
    Ok(name)
}

/// Lines about one connection, or about the message itself.
const PER_HOP: [HeaderName; 12] = [
    http::header::CONNECTION,
    http::header::CONTENT_LENGTH,
    http::header::EXPECT,
    http::header::HOST,
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

fn template_fault(error: TemplateError) -> Fault {
    let fault = Fault::new(error.to_string());
    match error {
        TemplateError::Conditional => {
            fault.hint("put an access without `when` first; those with one are added to it")
        }
        TemplateError::NoOrg => fault.hint(
            "add `app`; or `org` as a slug, `{ owner: \"{app}\" }` or `{ cluster: \"{cluster}\" }`",
        ),
        TemplateError::NoAction | TemplateError::Text(_) => fault,
        TemplateError::Zero(_) => {
            fault.hint("zero stands for a collection of apps, machines, volumes or clusters")
        }
        TemplateError::Invalid(_) => fault.hint("no token could ever permit it"),
    }
}

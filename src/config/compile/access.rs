//! What a route asks for: a word, or accesses.

mod value;

use std::path::Path;

use super::{Node, Report, Section, Value as Yaml, graphql, read, scalar, text};
use crate::config::problem::Fault;
use crate::config::section::{all, items, one_or_more};
use crate::macaroon::Action;
use crate::policy::{
    AccessTemplate, Accesses, App, CommandKeys, Condition, Each, Fixed, Items, LookupKind, Org,
    Other, Owned, Place, Rule, TemplateError, Value,
};
use crate::route::Capture;

use value::{fixed, owned, pointers, query_key, value};

pub(super) use value::pointer;

/// Where an access stands, and so what its fields can be read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    /// What the path captures.
    pub(super) path: &'a [Capture],
    /// What the host captures.
    pub(super) host: &'a [Capture],
    /// Folder that paths of other files are relative to.
    pub(super) base: &'a Path,
    /// Fields of the body are the arguments of a GraphQL field.
    pub(super) graphql: bool,
}

impl Site<'_> {
    /// The keys of a mapping that says where to look.
    fn places(&self) -> &'static [&'static str] {
        match self.graphql {
            true => &["arg", "else"],
            false => &["query", "word", "first", "header", "body", "basic", "else"],
        }
    }

    fn body_key(&self) -> &'static str {
        match self.graphql {
            true => "arg",
            false => "body",
        }
    }

    fn known(&self) -> Vec<&'static str> {
        let http = ["command"].into_iter().filter(|_| !self.graphql);
        KNOWN.into_iter().chain(http).collect()
    }
}

/// Compiles `access` of a route.
pub(super) fn rule(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<Rule> {
    if let Yaml::Scalar { .. } = node.value {
        return read(node, report, |word| match word {
            "public" => Ok(Rule::Public),
            "authenticated" => Ok(Rule::Authenticated),
            "user" => Ok(Rule::User),
            "denied" => Ok(Rule::Denied),
            _ => {
                let fault = Fault::new(format!("`{word}` is no access"));
                Err(fault.hint(
                    "write `{ action: ..., app: ... }`, `public`, `authenticated`, `user` or \
                     `denied`",
                ))
            }
        });
    }
    if let Yaml::Map(entries) = &node.value
        && entries.iter().any(|entry| entry.key == "graphql")
    {
        return graphql::rules(node, site.base, report).map(Rule::GraphQl);
    }
    accesses(node, site, report).map(Rule::Accesses)
}

/// One access, or a list of them.
pub(super) fn accesses(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<Accesses> {
    let nodes = one_or_more(node);
    let templates = all(nodes, |node| template(node, site, report))?;
    match Accesses::new(templates) {
        Ok(accesses) => Some(accesses),
        Err(errors) => {
            for (index, error) in errors {
                let at = nodes.get(index).map_or(node.id, |node| node.id);
                report.error(at, template_fault(error));
            }
            None
        }
    }
}

const KNOWN: [&str; 14] = [
    "when",
    "each",
    "images",
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

/// Fields that need the source of the connection.
const LATER: [&str; 3] = ["source_machine", "source_app", "source_organization"];

fn template(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<AccessTemplate> {
    let section = Section::open(node, "an access", &site.known(), &LATER, report)?;
    let action = section.read("action", report, action);
    let when = match section.find("when") {
        Some(node) => condition(node, site, report).map(Some),
        None => Some(None),
    };
    let each = match (section.find("each"), section.find("images")) {
        (Some(node), None) => each(node, site, report).map(Some),
        (None, Some(node)) => images(node, site, report).map(Some),
        (None, None) => Some(None),
        (Some(node), Some(_)) => {
            let fault = Fault::new("an access is made for each of one list");
            report.error(node.id, fault.hint("write a second access for the images"));
            None
        }
    };
    let org = match section.find("org") {
        Some(node) => org(node, site, report),
        None => Some(Org::Owner),
    };
    let app = match section.find("app") {
        Some(node) => app(node, site, report).map(Some),
        None => Some(None),
    };
    let (cluster, own_cluster) = match section.find("cluster") {
        Some(node) => own_or_value(node, site, report),
        None => (Some(None), false),
    };
    let command = match section.find("command") {
        Some(node) => command(node, report).map(Some),
        None => Some(None),
    };
    let mut field = |key| match section.find(key) {
        Some(node) => value(node, site, report).map(Some),
        None => Some(None),
    };
    let machine = field("machine");
    let volume = field("volume");
    let feature = field("feature");
    let app_feature = field("app_feature");
    let machine_feature = field("machine_feature");
    let mutation = field("mutation");
    let storage_object = field("storage_object");
    Some(AccessTemplate {
        when: when?,
        each: each?,
        action: action?,
        org: org?,
        app: app?,
        machine: machine?,
        volume: volume?,
        cluster: cluster?,
        own_cluster,
        feature: feature?,
        app_feature: app_feature?,
        machine_feature: machine_feature?,
        mutation: mutation?,
        storage_object: storage_object?,
        command: command?,
        under_app: !site.graphql,
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

/// `{ query: key }`, `{ body: /key }`, with `is: true` or `other: org`.
fn condition(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<Condition> {
    let body = site.body_key();
    let section = Section::open(node, "`when`", &["query", body, "is", "other"], &[], report)?;
    let place = match (section.find("query"), section.find(body)) {
        (Some(node), None) => read(node, report, query_key).map(Place::Query),
        (None, Some(node)) => read(node, report, pointer).map(Place::Body),
        (Some(_), Some(_)) | (None, None) => {
            let fault = Fault::new("`when` looks at one part of the request");
            let hint = format!("write `{{ query: key }}` or `{{ {body}: /key }}`");
            report.error(node.id, fault.hint(hint));
            None
        }
    };
    let is = match section.find("is") {
        None => Some(None),
        Some(node) => read(node, report, |text| {
            scalar::boolean(text).map_err(|fault| {
                fault.hint("leave `is` out for a part that is there with any value")
            })
        })
        .map(Some),
    };
    let other = match section.find("other") {
        None => Some(None),
        Some(node) => read(node, report, |word| match word {
            "org" => Ok(Some(Other::Org)),
            "app" => Ok(Some(Other::App)),
            _ => Err(Fault::new("`other` is `org` or `app`")),
        }),
    };
    Some(Condition {
        place: place?,
        is: is?,
        other: other?,
    })
}

/// `{ body: /list }`, with `else: zero` for a list that may be empty.
fn each(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<Each> {
    let key = site.body_key();
    let section = Section::open(node, "`each`", &[key, "else"], &[], report)?;
    let items = section.read(key, report, pointer).map(Items::Names);
    let otherwise = match section.find("else") {
        Some(node) => read(node, report, |text| Ok(fixed(text))).map(Some),
        None => Some(None),
    };
    Some(Each {
        items: items?,
        otherwise: otherwise?,
    })
}

/// `{ body: [ /config/image ], registry: registry.example }`.
fn images(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<Each> {
    let key = site.body_key();
    let section = Section::open(node, "`images`", &[key, "registry"], &[], report)?;
    let places = section
        .need(key, report)
        .and_then(|node| pointers(node, report));
    let registry = section.read("registry", report, scalar::host);
    Some(Each {
        items: Items::Images {
            places: places?.into(),
            registry: registry?,
        },
        otherwise: None,
    })
}

/// `{ body: /command, shell: /cmd, stdin: /stdin, keys: [ timeout ] }`.
fn command(node: &Node, report: &mut Report) -> Option<CommandKeys> {
    let known = ["body", "shell", "stdin", "keys"];
    let section = Section::open(node, "`command`", &known, &[], report)?;
    let words = section.read("body", report, key);
    let mut optional = |name| match section.find(name) {
        Some(node) => read(node, report, key).map(Some),
        None => Some(None),
    };
    let line = optional("shell");
    let input = optional("stdin");
    let others = match section.find("keys") {
        None => Some(Vec::new()),
        Some(node) => {
            let nodes = items(node, "`keys`", report)?;
            all(nodes, |node| read(node, report, |text| Ok(text.into())))
        }
    };
    Some(CommandKeys {
        words: words?,
        line: line?,
        input: input?,
        others: others?,
    })
}

/// A place at the top of the body.
fn key(text: &str) -> Result<Box<str>, Fault> {
    let pointer = pointer(text)?;
    let mut keys = pointer.keys();
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key.into()),
        (_, _) => {
            let fault = Fault::new(format!("`{text}` is not at the top of the body"));
            Err(fault.hint("a command is one key of the body, as in /command"))
        }
    }
}

/// A slug like any value; the words `owner`, `token`, `tokens` and `source`; the owner of
/// something that is named here; or a list of these, of which the first that is there counts.
fn org(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<Org> {
    if let Yaml::List(nodes) = &node.value {
        if nodes.is_empty() {
            report.error(node.id, Fault::new("the list of places is empty"));
            return None;
        }
        return all(nodes, |node| org(node, site, report)).map(Org::First);
    }
    match text(node) {
        Some("owner") => return Some(Org::Owner),
        Some("token") => return Some(Org::Token),
        Some("tokens") => return Some(Org::EachToken),
        Some("source") => return Some(Org::Peer),
        Some(_) | None => {}
    }
    let Yaml::Map(entries) = &node.value else {
        return value(node, site, report).map(Org::Slug);
    };
    let has = |key: &str| entries.iter().any(|entry| entry.key == key);
    if !has("owner") && !has("cluster") {
        return value(node, site, report).map(Org::Slug);
    }
    let section = Section::open(node, "`org`", &["owner", "cluster"], &[], report)?;
    match (section.find("owner"), section.find("cluster")) {
        (Some(node), None) => owned(node, site, report).map(Org::OwnerOf),
        (None, Some(node)) => value(node, site, report).map(|of| {
            Org::OwnerOf(Owned {
                kind: LookupKind::Cluster,
                of,
            })
        }),
        (Some(_), Some(_)) | (None, None) => {
            let fault = Fault::new("`org` is the owner of one thing")
                .hint("write `{ owner: \"{app}\" }` or `{ cluster: \"{cluster}\" }`");
            report.error(node.id, fault);
            None
        }
    }
}

/// A name like any value, the number of an app, or the owner of something that is named here.
fn app(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<App> {
    if let Yaml::Map(entries) = &node.value
        && entries.iter().any(|entry| entry.key == "owner")
    {
        let section = Section::open(node, "`app`", &["owner"], &[], report)?;
        let node = section.need("owner", report)?;
        return owned(node, site, report).map(App::OwnerOf);
    }
    if let Yaml::Map(entries) = &node.value
        && entries.iter().any(|entry| entry.key == "number")
    {
        let section = Section::open(node, "`app`", &["number"], &[], report)?;
        let node = section.need("number", report)?;
        let number = value(node, site, report)?;
        // It is no collection that a request can leave out.
        if number.otherwise.is_some() {
            let fault = Fault::new("the number of an app has no default");
            report.error(node.id, fault);
            return None;
        }
        return Some(App::Numbered(number));
    }
    value(node, site, report).map(App::Named)
}

/// A value that may say `else: token`.
fn own_or_value(
    node: &Node,
    site: &Site<'_>,
    report: &mut Report,
) -> (Option<Option<Value>>, bool) {
    let compiled = value(node, site, report);
    let token = Fixed::Text("token".into());
    match compiled {
        Some(value) if value.otherwise.as_ref() == Some(&token) => {
            let value = Value {
                otherwise: None,
                ..value
            };
            (Some(Some(value)), true)
        }
        other => (other.map(Some), false),
    }
}

fn template_fault(error: TemplateError) -> Fault {
    let fault = Fault::new(error.to_string());
    match error {
        TemplateError::Conditional => {
            fault.hint("put an access without `when` first; those with one are added to it")
        }
        TemplateError::NoOrg => fault.hint(
            "add `app`; or `org` as a slug, `{ owner: \"{app}\" }` or `{ cluster: \"{cluster}\" }`",
        ),
        TemplateError::NoElement(_) => fault.hint("add `each: { body: /list }` to the access"),
        TemplateError::NoAction | TemplateError::Text(_) => fault,
        TemplateError::Zero(_) => {
            fault.hint("zero stands for a collection of apps, machines, volumes or clusters")
        }
        TemplateError::Invalid(_) => fault.hint("no token could ever permit it"),
    }
}

//! An OpenAPI 3 document, as far as it can be compared with routes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::{Method, Uri};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::config;

/// One operation of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// Its method.
    pub(super) method: Method,
    /// Its path as the document writes it, without the servers' part.
    pub(super) path: Template,
    /// Where it is served: alternatives, at least one.
    pub(super) servers: Vec<Server>,
    /// Its `operationId`.
    pub(super) id: Option<String>,
    /// The query keys it declares, those of its path included.
    pub(super) query: Vec<Template>,
}

/// Text in which `{name}` stands for what a client fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(String);

/// A server of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Its host name, without port; none where the URL is relative.
    pub(super) host: Option<String>,
    /// What comes before the paths; no slash at its end.
    pub(super) base: String,
}

impl Template {
    /// The braces must pair, so that no part of a name is taken for text.
    fn parse(text: &str) -> Result<Self, Fault> {
        let mut open = false;
        for character in text.chars() {
            match character {
                '{' if open => return Err(Fault::Braces(text.to_owned())),
                '}' if !open => return Err(Fault::Braces(text.to_owned())),
                '{' | '}' => open = !open,
                _ => {}
            }
        }
        if open {
            return Err(Fault::Braces(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// As written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// With the same value in place of every name.
    pub(super) fn fill(&self, value: &str) -> String {
        let mut parts = self.0.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.split_once('}').map_or("", |(_name, rest)| rest);
            filled.push_str(value);
            filled.push_str(rest);
        }
        filled
    }
}

/// Reads the operations of a document, JSON or YAML, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<Operation>, DocumentError> {
    let text = fs::read_to_string(path).map_err(|source| DocumentError::Read {
        path: path.to_owned(),
        source,
    })?;
    let root = parse(&text).map_err(|(line, column, message)| DocumentError::Malformed {
        path: path.to_owned(),
        line,
        column,
        message,
    })?;
    operations(&root).map_err(|(at, fault)| DocumentError::Invalid {
        path: path.to_owned(),
        at,
        fault,
    })
}

/// What is wrong with a document.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// The file cannot be read.
    #[error("cannot read the document {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither JSON nor YAML.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// Something else than an OpenAPI document.
    #[error("{}: {at}: {fault}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where in it, a JSON pointer in the form of a fragment.
        at: String,
        /// What is wrong there.
        fault: Fault,
    },
}

/// What is wrong at one place of a document.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Another kind of value.
    #[error("expected {0} here")]
    Expected(&'static str),
    /// Something that a document must have.
    #[error("there is no `{0}`")]
    Missing(&'static str),
    /// The document's own version.
    #[error("this is version {0} of OpenAPI; 3.0 and 3.1 are understood")]
    Version(String),
    /// The format before OpenAPI 3.
    #[error("this is a Swagger document; convert it to OpenAPI 3 first")]
    Swagger,
    /// A path that does not begin with a slash.
    #[error("`{0}` is no path: it does not begin with a slash")]
    NoPath(String),
    /// Braces that do not pair.
    #[error("the braces in `{0}` do not pair")]
    Braces(String),
    /// A server variable without a default.
    #[error("the server variable `{0}` has no default")]
    Variable(String),
    /// A server that is no URL.
    #[error("`{0}` is no URL")]
    Url(String),
    /// A reference to another file.
    #[error("`{0}` points out of the document; bundle it into one file first")]
    Remote(String),
    /// A reference to nothing.
    #[error("`{0}` points at nothing")]
    Dangling(String),
    /// References that lead back to themselves.
    #[error("`{0}` leads back to itself")]
    Circular(String),
}

/// A fault and the pointer to where it is.
type Faulty<T> = Result<T, (String, Fault)>;

fn parse(text: &str) -> Result<Value, (usize, usize, String)> {
    // YAML contains JSON, but the parser made for it is quicker and says more.
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|e| (e.line(), e.column(), e.to_string()))
    } else {
        config::yaml_to_json(text)
    }
}

fn operations(root: &Value) -> Faulty<Vec<Operation>> {
    let document = object(root, "#")?;
    if document.contains_key("swagger") {
        return Err(at("#/swagger", Fault::Swagger));
    }
    let Some(version) = document.get("openapi") else {
        return Err(at("#", Fault::Missing("openapi")));
    };
    // `openapi: 3.0` is a number in YAML.
    let version = version
        .as_str()
        .map_or_else(|| version.to_string(), str::to_owned);
    if !["3.0", "3.1"].iter().any(|known| {
        let rest = version.strip_prefix(known);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }) {
        return Err(at("#/openapi", Fault::Version(version)));
    }
    let Some(paths) = document.get("paths") else {
        return Err(at("#", Fault::Missing("paths")));
    };
    let servers = servers(document, "#")?.unwrap_or_else(|| {
        // What the specification says of a document without servers.
        let (host, base) = (None, String::new());
        vec![Server { host, base }]
    });
    let mut operations = Vec::new();
    for (text, item) in object(paths, "#/paths")? {
        if text.starts_with("x-") {
            continue;
        }
        let place = pointer("#/paths", text);
        if !text.starts_with('/') {
            return Err(at(&place, Fault::NoPath(text.clone())));
        }
        let path = Template::parse(text).map_err(|fault| (place.clone(), fault))?;
        path_item(root, item, &place, &path, &servers, &mut operations)?;
    }
    Ok(operations)
}

fn path_item(
    root: &Value,
    item: &Value,
    place: &str,
    path: &Template,
    inherited: &[Server],
    operations: &mut Vec<Operation>,
) -> Faulty<()> {
    // What stands beside a `$ref` belongs to the item as well.
    let own = object(item, place)?;
    let referred = object(resolve(root, item, place)?, place)?;
    let field = |name: &str| own.get(name).or_else(|| referred.get(name));
    let servers_here = match servers(own, place)? {
        Some(own) => Some(own),
        None => servers(referred, place)?,
    };
    let shared = match field("parameters") {
        Some(list) => query_keys(root, list, &pointer(place, "parameters"))?,
        None => Vec::new(),
    };
    for (word, method) in METHODS {
        let Some(operation) = field(word) else {
            continue;
        };
        let place = pointer(place, word);
        let operation = object(operation, &place)?;
        let mut query = shared.clone();
        if let Some(list) = operation.get("parameters") {
            for key in query_keys(root, list, &pointer(&place, "parameters"))? {
                if !query.contains(&key) {
                    query.push(key);
                }
            }
        }
        let servers = match servers(operation, &place)? {
            Some(own) => own,
            None => servers_here.clone().unwrap_or_else(|| inherited.to_vec()),
        };
        let id = operation.get("operationId").and_then(Value::as_str);
        operations.push(Operation {
            method,
            path: path.clone(),
            servers,
            id: id.map(str::to_owned),
            query,
        });
    }
    Ok(())
}

/// The keys of all parameters that are sent in the query.
fn query_keys(root: &Value, list: &Value, place: &str) -> Faulty<Vec<Template>> {
    let Some(list) = list.as_array() else {
        return Err(at(place, Fault::Expected("a list of parameters")));
    };
    let mut keys = Vec::new();
    for (index, parameter) in list.iter().enumerate() {
        let place = pointer(place, &index.to_string());
        let parameter = object(resolve(root, parameter, &place)?, &place)?;
        if parameter.get("in").and_then(Value::as_str) != Some("query") {
            continue;
        }
        let Some(name) = parameter.get("name").and_then(Value::as_str) else {
            return Err(at(&place, Fault::Missing("name")));
        };
        keys.push(Template::parse(name).map_err(|fault| (place, fault))?);
    }
    Ok(keys)
}

/// The servers that an object names itself. An empty list names none.
fn servers(of: &Map<String, Value>, place: &str) -> Faulty<Option<Vec<Server>>> {
    let Some(list) = of.get("servers") else {
        return Ok(None);
    };
    let place = pointer(place, "servers");
    let Some(list) = list.as_array() else {
        return Err(at(&place, Fault::Expected("a list of servers")));
    };
    let mut servers = Vec::new();
    for (index, server) in list.iter().enumerate() {
        let place = pointer(&place, &index.to_string());
        let server = self::server(object(server, &place)?).map_err(|fault| (place, fault))?;
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    Ok((!servers.is_empty()).then_some(servers))
}

fn server(server: &Map<String, Value>) -> Result<Server, Fault> {
    let Some(url) = server.get("url").and_then(Value::as_str) else {
        return Err(Fault::Missing("url"));
    };
    let url = with_defaults(url, server.get("variables"))?;
    let absolute = if url.starts_with("//") {
        format!("https:{url}")
    } else if url.contains("://") {
        url
    } else {
        // Relative to where the document is, which nobody knows here: taken for the root.
        let base = url.trim_start_matches("./").trim_matches('/');
        let base = match base {
            "" => String::new(),
            base => format!("/{base}"),
        };
        return Ok(Server { host: None, base });
    };
    let parsed: Uri = absolute.parse().map_err(|_| Fault::Url(absolute.clone()))?;
    Ok(Server {
        host: parsed.host().map(str::to_owned),
        base: parsed.path().trim_end_matches('/').to_owned(),
    })
}

fn with_defaults(url: &str, variables: Option<&Value>) -> Result<String, Fault> {
    let Template(mut url) = Template::parse(url)?;
    while let Some((before, rest)) = url.split_once('{') {
        let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
        let variable = variables.and_then(|all| all.get(name));
        let default = variable.and_then(|one| one.get("default"));
        let default = match default {
            Some(Value::String(text)) => text.clone(),
            Some(number @ Value::Number(_)) => number.to_string(),
            _ => return Err(Fault::Variable(name.to_owned())),
        };
        if default.contains(['{', '}']) {
            return Err(Fault::Braces(default));
        }
        url = format!("{before}{default}{after}");
    }
    Ok(url)
}

/// The value itself, or what it refers to, however many references lie between.
fn resolve<'v>(root: &'v Value, mut value: &'v Value, place: &str) -> Faulty<&'v Value> {
    let mut seen: Vec<&str> = Vec::new();
    while let Some(reference) = value.get("$ref") {
        let Some(reference) = reference.as_str() else {
            return Err(at(&pointer(place, "$ref"), Fault::Expected("a text")));
        };
        if seen.contains(&reference) {
            return Err(at(place, Fault::Circular(reference.to_owned())));
        }
        seen.push(reference);
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(at(place, Fault::Remote(reference.to_owned())));
        };
        // A fragment is percent-encoded; braces of a path are what is met in practice.
        let fragment = fragment.replace("%7B", "{").replace("%7D", "}");
        value = root
            .pointer(&fragment)
            .ok_or_else(|| at(place, Fault::Dangling(reference.to_owned())))?;
    }
    Ok(value)
}

fn object<'v>(value: &'v Value, place: &str) -> Faulty<&'v Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| at(place, Fault::Expected("an object")))
}

fn at(place: &str, fault: Fault) -> (String, Fault) {
    (place.to_owned(), fault)
}

/// The pointer to a member (RFC 6901).
fn pointer(place: &str, member: &str) -> String {
    format!("{place}/{}", member.replace('~', "~0").replace('/', "~1"))
}

/// The fixed fields of a path item that hold operations.
const METHODS: [(&str, Method); 8] = [
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("delete", Method::DELETE),
    ("options", Method::OPTIONS),
    ("head", Method::HEAD),
    ("patch", Method::PATCH),
    ("trace", Method::TRACE),
];

#[cfg(test)]
mod tests;

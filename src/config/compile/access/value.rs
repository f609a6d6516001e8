//! Values of fields: `"{capture}"`, a text, `{ query: key }` and the like.

use http::HeaderName;

use super::super::{Node, Report, Section, Value as Yaml, read, text};
use super::Site;
use crate::config::is_owned;
use crate::config::problem::Fault;
use crate::config::section::{all, items, one_or_more};
use crate::policy::{Fixed, LookupKind, Owned, Pointer, Source, Value};
use crate::route::{Alphabet, Capture};

/// One place, or a list of places that must hold the same where they are there.
pub(super) fn value(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<Value> {
    let nodes = one_or_more(node);
    if nodes.is_empty() {
        report.error(node.id, Fault::new("the list of places is empty"));
        return None;
    }
    let mut sources = Vec::new();
    let mut otherwise = None;
    let parts = all(nodes, |node| part(node, site, report))?;
    for (node, (found, default)) in nodes.iter().zip(parts) {
        sources.extend(found);
        if otherwise.is_some() && default.is_some() {
            report.error(node.id, Fault::new("`else` is given twice for one field"));
            return None;
        }
        otherwise = otherwise.or(default);
    }
    let mut sources = sources.into_iter();
    Some(Value {
        source: sources.next()?,
        others: sources.collect(),
        otherwise,
    })
}

/// The sources of one element, with what stands in for them.
fn part(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<(Vec<Source>, Option<Fixed>)> {
    if let Yaml::Map(_) = node.value {
        return source(node, site, report);
    }
    let source = read(node, report, |text| {
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
        match (inner, text) {
            (Some(name), _) => capture(name, site),
            (None, text) if text.contains(['{', '}']) => {
                let fault = Fault::new(format!("`{text}` mixes a capture with text"));
                Err(fault.hint("a field is one whole capture, as in \"{app}\""))
            }
            (None, "each" | "image") => Ok(Source::Each),
            (None, "source") => Ok(Source::Peer),
            (None, text) => Ok(Source::Fixed(fixed(text))),
        }
    })?;
    Some((vec![source], None))
}

fn capture(name: &str, site: &Site<'_>) -> Result<Source, Fault> {
    let find = |captures: &[Capture]| captures.iter().position(|c| *c.name == *name);
    let (captures, index, is_host) = match (find(site.path), find(site.host)) {
        (Some(index), _) => (site.path, index, false),
        (None, Some(index)) => (site.host, index, true),
        (None, None) => {
            let known = site.path.iter().chain(site.host).map(|c| &*c.name);
            let message = format!("neither the path nor the host captures `{name}`");
            return Err(Fault::new(message).suggest(name, known));
        }
    };
    let exact = |c: &&Capture| !c.tail && c.alphabet == Alphabet::Id;
    if captures.get(index).filter(exact).is_none() {
        let fault = Fault::new(format!("`{name}` in the path is no name or id"));
        return Err(fault.hint(format!(
            "an access names one thing exactly: capture it as `{{{name}}}`"
        )));
    }
    let name = name.into();
    Ok(match is_host {
        true => Source::Host { index, name },
        false => Source::Capture { index, name },
    })
}

/// A mapping that says where to look.
fn source(
    node: &Node,
    site: &Site<'_>,
    report: &mut Report,
) -> Option<(Vec<Source>, Option<Fixed>)> {
    let section = Section::open(node, "a field of an access", site.places(), &[], report)?;
    let mut found = Vec::new();
    if let Some(node) = section.find("query") {
        let key = read(node, report, query_key);
        found.push(match section.find("word") {
            None => key.map(|key| vec![Source::Query(key)]),
            Some(_) => word(key, &section, report).map(|word| vec![word]),
        });
    }
    if let Some(node) = section.find("header") {
        found.push(read(node, report, header).map(|name| vec![Source::Header(name)]));
    }
    if let Some(node) = section.find("basic") {
        let user = read(node, report, |word| match word {
            "user" => Ok(vec![Source::BasicUser]),
            _ => Err(Fault::new(
                "`basic` takes the word `user`; the password is the token",
            )),
        });
        found.push(user);
    }
    if let Some(node) = section.find(site.body_key()) {
        let pointers = pointers(node, report);
        found.push(pointers.map(|all| all.into_iter().map(Source::Body).collect()));
    }
    let is_word = section.find("query").and(section.find("word")).is_some();
    if let Some(node) = section.find("word").or(section.find("first"))
        && !is_word
    {
        let fault = Fault::new("`word` and `first` say which part of a query key is meant");
        let hint = "write `{ query: subject, word: 2, first: logs }`";
        report.error(node.id, fault.hint(hint));
        return None;
    }
    let otherwise = match section.find("else") {
        Some(node) => read(node, report, |text| Ok(fixed(text))).map(Some),
        None => Some(None),
    };
    let Ok([sources]) = <[_; 1]>::try_from(found) else {
        let places = match site.graphql {
            true => "`{ arg: /input/key }`",
            false => "`{ query: key }`, `{ header: name }` or `{ body: /key }`",
        };
        let fault = Fault::new("a field comes from one place").hint(format!(
            "write {places}, with `else: zero` if it may be absent; a list of places if it may be \
             in several"
        ));
        report.error(node.id, fault);
        return None;
    };
    Some((sources?, otherwise?))
}

/// `{ query: subject, word: 2, first: logs }`.
fn word(key: Option<Box<str>>, section: &Section<'_>, report: &mut Report) -> Option<Source> {
    let index = section.read("word", report, |text| match text.parse() {
        // The first one is given.
        Ok(index @ 2..=16) => Ok(index),
        Ok(_) | Err(_) => Err(Fault::new("`word` is a number from 2 to 16")),
    });
    let first = section.read("first", report, |text| match Alphabet::Id.accepts(text) {
        true => Ok(text.into()),
        false => Err(Fault::new(format!("`{text}` is no word of a subject"))),
    });
    Some(Source::Word {
        key: key?,
        first: first?,
        index: index?,
    })
}

/// Something that has an owner: `"{app}"` or another value for an app; `{ volume: "{id}" }`, or
/// another kind of thing that the directory knows.
pub(super) fn owned(node: &Node, site: &Site<'_>, report: &mut Report) -> Option<Owned> {
    if let Yaml::Map(entries) = &node.value
        && let [entry] = entries.as_slice()
        && !site.places().contains(&entry.key.as_str())
    {
        let kind = match entry.key.as_str() {
            "org" => LookupKind::Org,
            "app" => LookupKind::App,
            "machine" => LookupKind::Machine,
            "volume" => LookupKind::Volume,
            "cluster" => LookupKind::Cluster,
            kind if Alphabet::Id.accepts(kind) => LookupKind::Object(kind.into()),
            kind => {
                let message = format!("`{kind}` can be no kind of thing in the directory");
                report.error(entry.key_id, Fault::new(message));
                return None;
            }
        };
        let of = value(&entry.node, site, report)?;
        return Some(Owned { kind, of });
    }
    Some(Owned {
        kind: LookupKind::App,
        of: value(node, site, report)?,
    })
}

/// One place in the body, or several.
pub(super) fn pointers(node: &Node, report: &mut Report) -> Option<Vec<Pointer>> {
    let nodes = match text(node) {
        Some(_) => one_or_more(node),
        None => items(node, "a list of places in the body", report)?,
    };
    if nodes.is_empty() {
        report.error(node.id, Fault::new("the list of places is empty"));
        return None;
    }
    all(nodes, |node| read(node, report, pointer))
}

pub(in crate::config::compile) fn pointer(text: &str) -> Result<Pointer, Fault> {
    Pointer::parse(text).ok_or_else(|| {
        let fault = Fault::new(format!("`{text}` is no place in a body"));
        fault.hint("write the keys from the outermost, each after a slash: /input/appId")
    })
}

pub(super) fn fixed(text: &str) -> Fixed {
    match text {
        "zero" => Fixed::Zero,
        text => Fixed::Text(text.into()),
    }
}

pub(super) fn query_key(text: &str) -> Result<Box<str>, Fault> {
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

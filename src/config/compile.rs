//! The tree to a [`Config`]: pure, and past every problem to the next.

mod access;
mod bounds;
mod graphql;
mod lookups;
mod names;
mod routes;
mod tls;
mod tunnel;

use std::path::{Path, PathBuf};

use super::file::{Document, Node, NodeId, Value};
use super::files::Files;
use super::problem::{ConfigError, Fault, Problem};
use super::scalar;
use super::section::{Report, Section, all, items, read, text};
use crate::policy::NameTable;

pub(super) use names::Others;

use super::{
    Authority, Config, Credential, Denials, Listener, Network, Protocol, Secret, Signing,
    ThirdParty, Upstream, UpstreamUrl,
};
use crate::route::HostPattern;

/// Compiles the text of the file at `path`; the second part of the answer are warnings. Further
/// files that are read are added to `files`.
pub(super) fn compile(
    text: &str,
    path: &Path,
    files: &mut Files,
) -> Result<(Config, Vec<Problem>), ConfigError> {
    let base = path.parent().unwrap_or(Path::new(""));
    read_document(text, path, files, |root, report| {
        Compiler { base, report }.config(root)
    })
}

/// Compiles a document of names alone.
pub(super) fn compile_names(
    text: &str,
    path: &Path,
    others: &Others<'_>,
) -> Result<NameTable, ConfigError> {
    let read = |root: &Node, report: &mut Report| Some(names::document(root, others, report));
    read_document(text, path, &mut Files::default(), read).map(|(names, _warnings)| names)
}

/// Reads a text with `compile`; what that reports is located in the text.
fn read_document<T>(
    text: &str,
    path: &Path,
    files: &mut Files,
    compile: impl FnOnce(&Node, &mut Report) -> Option<T>,
) -> Result<(T, Vec<Problem>), ConfigError> {
    let document = Document::parse(text).map_err(|malformed| {
        ConfigError::Invalid(vec![Problem {
            file: path.to_owned(),
            line: malformed.line,
            column: malformed.column,
            message: malformed.message,
            hint: None,
        }])
    })?;
    let mut report = Report {
        files: std::mem::take(files),
        ..Report::default()
    };
    let compiled = compile(document.root(), &mut report);
    *files = report.files;
    let locate = |mut found: Vec<(NodeId, Fault)>| -> Vec<Problem> {
        found.sort_by_key(|(at, _)| *at);
        let more = found.split_off(found.len().min(MAX_PROBLEMS));
        if let (Some((_, fault)), false) = (found.last_mut(), more.is_empty()) {
            fault.hint = Some(format!("and {} problems more behind this one", more.len()));
        }
        let problem = |(at, fault): (NodeId, Fault)| {
            let (line, column) = document.locate(at);
            Problem {
                file: path.to_owned(),
                line,
                column,
                message: fault.message,
                hint: fault.hint,
            }
        };
        found.into_iter().map(problem).collect()
    };
    let mut problems = locate(report.errors);
    problems.extend(report.elsewhere);
    match compiled {
        Some(compiled) if problems.is_empty() => Ok((compiled, locate(report.warnings))),
        Some(_) | None => Err(ConfigError::Invalid(problems)),
    }
}

/// Problems that are told. Each costs a reading of the text, and a document that a program wrote
/// may have one in every line.
const MAX_PROBLEMS: usize = 200;

struct Compiler<'a> {
    base: &'a Path,
    report: &'a mut Report,
}

impl Compiler<'_> {
    /// Every part is compiled before the first that failed is looked at, so that one run tells
    /// everything. `None` comes with at least one error.
    fn config(mut self, root: &Node) -> Option<Config> {
        let section = Section::open(root, "the configuration", &SECTIONS, &[], self.report)?;
        let listeners = self.listeners(&section);
        let admin = self.admin(&section);
        let authority = self.authority(&section);
        let directory = self.directory(section.find("directory"));
        let (upstreams, names) = self.upstreams(&section);
        let routes = routes::routes(&section, &names, self.base, self.report);
        let limits = bounds::limits(&section, self.report);
        let timeouts = bounds::timeouts(&section, self.report);
        let cache = bounds::cache(&section, self.report);
        let threads = bounds::threads(&section, self.report);
        let trusted_proxies = self.trusted_proxies(&section);
        let denials = section.read_or("denials", Denials::Full, self.report, scalar::denials);
        if let (Some((_, routes, _)), Some((limits, _))) = (&routes, &limits) {
            bounds::check_judged_bodies(&section, limits, routes, self.report);
        }
        let (table, routes, own) = routes?;
        let (limits, token_limits) = limits?;
        Some(Config {
            listeners: listeners?,
            admin: admin?,
            authority: authority?,
            directory: directory?,
            upstreams: upstreams?.into_iter().chain(own).collect(),
            trusted_proxies: trusted_proxies?,
            denials: denials?,
            table,
            routes,
            token_limits,
            limits,
            timeouts: timeouts?,
            cache: cache?,
            threads: threads?,
        })
    }

    fn listeners(&mut self, root: &Section<'_>) -> Option<Vec<Listener>> {
        let node = root.need("listeners", self.report)?;
        let nodes = items(node, "`listeners`", self.report)?;
        if nodes.is_empty() {
            self.report
                .error(node.id, Fault::new("usher needs at least one listener"));
        }
        all(nodes, |node| self.listener(node))
    }

    fn listener(&mut self, node: &Node) -> Option<Listener> {
        let known = ["address", "tls"];
        let section = Section::open(node, "a listener", &known, &[], self.report)?;
        let address = section.read("address", self.report, scalar::address);
        let tls = match section.find("tls") {
            Some(node) => self.listener_tls(node).map(Some),
            None => Some(None),
        };
        Some(Listener {
            address: address?,
            tls: tls?,
        })
    }

    /// None by default: whoever connects is the client.
    fn trusted_proxies(&mut self, root: &Section<'_>) -> Option<Vec<Network>> {
        let Some(node) = root.find("trusted_proxies") else {
            return Some(Vec::new());
        };
        let nodes = items(node, "`trusted_proxies`", self.report)?;
        all(nodes, |node| read(node, self.report, scalar::network))
    }

    fn admin(&mut self, root: &Section<'_>) -> Option<Option<std::net::SocketAddr>> {
        let Some(node) = root.find("admin") else {
            return Some(None);
        };
        let section = Section::open(node, "`admin`", &["address"], &[], self.report)?;
        let node = section.need("address", self.report)?;
        let address = read(node, self.report, scalar::address)?;
        if !address.ip().is_loopback() {
            let message = "the admin listener can be reached from other machines";
            let hint = "it asks for no token; `127.0.0.1` keeps it to this one";
            self.report.warn(node.id, Fault::new(message).hint(hint));
        }
        Some(Some(address))
    }

    fn authority(&mut self, root: &Section<'_>) -> Option<Authority> {
        let node = root.need("authority", self.report)?;
        let known = ["location", "store", "seal_key", "third_parties"];
        let section = Section::open(node, "`authority`", &known, &["remote"], self.report)?;
        let base = self.base;
        let location = section.read("location", self.report, location);
        let store = section.read("store", self.report, |text| store(text, base));
        let seal_key = self.secret(&section, "seal_key");
        let third_parties = match section.find("third_parties") {
            Some(node) => items(node, "`third_parties`", self.report)
                .and_then(|nodes| all(nodes, |node| self.third_party(node))),
            None => Some(Vec::new()),
        };
        Some(Authority {
            location: location?,
            store: store?,
            seal_key: seal_key?,
            third_parties: third_parties?,
        })
    }

    fn third_party(&mut self, node: &Node) -> Option<ThirdParty> {
        let known = ["location", "key"];
        let section = Section::open(node, "a third party", &known, &[], self.report)?;
        let location = section.read("location", self.report, location);
        let key = self.secret(&section, "key");
        Some(ThirdParty {
            location: location?,
            key: key?,
        })
    }

    /// The upstreams, and what routes know of all, also of those that are wrong: a route may lead
    /// there.
    fn upstreams(&mut self, root: &Section<'_>) -> (Option<Vec<Upstream>>, Vec<Named>) {
        let nodes = root.need("upstreams", self.report).and_then(|node| {
            let nodes = items(node, "`upstreams`", self.report)?;
            if nodes.is_empty() {
                let fault = Fault::new("usher needs at least one upstream");
                self.report.error(node.id, fault);
            }
            Some(nodes)
        });
        let mut names = Vec::new();
        let mut upstreams = Some(Vec::new());
        for node in nodes.unwrap_or_default() {
            let (name, upstream) = self.upstream(node, &names);
            let sign = upstream.as_ref().and_then(|u| u.sign.clone());
            if let Some(other) = names.iter().find(|known| shares_key(known, sign.as_ref())) {
                let message = format!("`{name}` and `{}` are signed for with one key", other.name);
                let hint = "each of them can then pass for usher to the other; give each its own";
                self.report.warn(node.id, Fault::new(message).hint(hint));
            }
            names.push(Named {
                name,
                tcp: upstream.as_ref().map(|u| u.tcp.clone()).unwrap_or_default(),
                protocol: upstream.as_ref().map_or(Protocol::Http1, |u| u.protocol),
                sign,
            });
            upstreams = upstreams.zip(upstream).map(|(mut all, one)| {
                all.push(one);
                all
            });
        }
        (nodes.and(upstreams), names)
    }

    fn upstream(&mut self, node: &Node, taken: &[Named]) -> (String, Option<Upstream>) {
        let known = [
            "name",
            "urls",
            "credential",
            "sign",
            "ca",
            "identity",
            "protocol",
        ];
        let Some(section) = Section::open(node, "an upstream", &known, &[], self.report) else {
            return (String::new(), None);
        };
        let taken: Vec<_> = taken.iter().map(|known| known.name.clone()).collect();
        let name = self.unique_name(&section, "upstream", &taken);
        let urls = section
            .need("urls", self.report)
            .and_then(|node| self.urls(node, &section));
        let credential = match section.find("credential") {
            Some(node) => self.credential(node).map(Some),
            None => Some(None),
        };
        let sign = match section.find("sign") {
            Some(node) => self.signing(node).map(Some),
            None => Some(None),
        };
        let base = self.base;
        let ca = section
            .find("ca")
            .map(|node| read(node, self.report, path(base)));
        let identity = self.upstream_identity(&section, urls.as_ref().map(|(urls, _)| &**urls));
        let protocol = section.read_or("protocol", Protocol::Http1, self.report, protocol);
        let upstream = || {
            let (urls, tcp) = urls?;
            Some(Upstream {
                name: name.clone()?,
                urls,
                tcp,
                credential: credential?,
                sign: sign?,
                ca: ca.map_or(Some(None), |ca| ca.map(Some))?,
                identity: identity?,
                protocol: protocol?,
            })
        };
        let upstream = upstream();
        (name.unwrap_or_default(), upstream)
    }

    /// The URLs of an upstream: all for HTTP, or all for tunnels.
    fn urls(
        &mut self,
        node: &Node,
        section: &Section<'_>,
    ) -> Option<(Vec<UpstreamUrl>, Vec<HostPattern>)> {
        let nodes = items(node, "`urls`", self.report)?;
        if nodes.is_empty() {
            let message = "an upstream needs at least one URL";
            self.report.error(node.id, Fault::new(message));
        }
        let is_tcp = |node: &Node| text(node).is_some_and(|text| text.starts_with("tcp://"));
        if !nodes.iter().any(is_tcp) {
            let urls = all(nodes, |node| read(node, self.report, scalar::url))?;
            return Some((urls, Vec::new()));
        }
        for key in ["credential", "sign", "ca", "identity", "protocol"] {
            if let Some(node) = section.find(key) {
                let fault =
                    Fault::new(format!("`{key}` is about HTTP, which tunnels do not speak"));
                self.report.error(node.id, fault);
            }
        }
        let tcp = all(nodes, |node| read(node, self.report, tunnel::address))?;
        Some((Vec::new(), tcp))
    }

    fn credential(&mut self, node: &Node) -> Option<Credential> {
        let known = ["header", "value"];
        let section = Section::open(node, "a credential", &known, &[], self.report)?;
        let header = section.read("header", self.report, |text| {
            let name = http::HeaderName::try_from(text);
            name.map_err(|_| Fault::new(format!("`{text}` is no header name")))
        });
        let value = self.secret(&section, "value");
        Some(Credential {
            header: header?,
            value: value?,
        })
    }

    fn signing(&mut self, node: &Node) -> Option<Signing> {
        let section = Section::open(node, "`sign`", &["id", "key"], &[], self.report)?;
        let id = section.read("id", self.report, scalar::name);
        let key = self.secret(&section, "key");
        Some(Signing { id: id?, key: key? })
    }

    fn secret(&mut self, section: &Section<'_>, key: &str) -> Option<Secret> {
        let node = section.need(key, self.report)?;
        // What is written here may be the secret itself, so it is not repeated.
        if let Value::Scalar { .. } = node.value {
            let message = format!("`{key}` is a secret, and secrets are not written here");
            let hint = "write `{ env: NAME }` or `{ file: PATH }`; if it was real, change it";
            self.report.error(node.id, Fault::new(message).hint(hint));
            return None;
        }
        let section = Section::open(node, "a secret", &["env", "file"], &[], self.report)?;
        let base = self.base;
        match (section.find("env"), section.find("file")) {
            (Some(node), None) => read(node, self.report, |name| {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                if name.is_empty() || !name.bytes().all(allowed) {
                    let message = "this is no name of an environment variable";
                    return Err(Fault::new(message).hint("use letters, digits and `_`"));
                }
                Ok(Secret::Env(name.to_owned()))
            }),
            (None, Some(node)) => read(node, self.report, path(base)).map(Secret::File),
            (Some(_), Some(_)) | (None, None) => {
                let message = "a secret is either `{ env: NAME }` or `{ file: PATH }`";
                self.report.error(section.id, Fault::new(message));
                None
            }
        }
    }

    /// A name that no earlier thing of its kind has.
    fn unique_name(
        &mut self,
        section: &Section<'_>,
        what: &str,
        taken: &[String],
    ) -> Option<String> {
        let node = section.need("name", self.report)?;
        let name = read(node, self.report, scalar::name)?;
        if taken.contains(&name) {
            let fault = Fault::new(format!("another {what} is named `{name}` already"));
            self.report.error(node.id, fault);
        }
        Some(name)
    }
}

/// An upstream, as far as routes have to know it.
struct Named {
    name: String,
    /// Where tunnels lead; empty for one that speaks HTTP.
    tcp: Vec<HostPattern>,
    protocol: Protocol,
    sign: Option<Signing>,
}

/// Whether requests to both are signed with a key from one place.
fn shares_key(known: &Named, sign: Option<&Signing>) -> bool {
    let known = known.sign.as_ref().zip(sign);
    known.is_some_and(|(one, two)| one.key == two.key)
}

const SECTIONS: [&str; 13] = [
    "listeners",
    "admin",
    "authority",
    "directory",
    "hosts",
    "upstreams",
    "trusted_proxies",
    "denials",
    "routes",
    "limits",
    "timeouts",
    "cache",
    "threads",
];

/// A path, relative to the folder of the configuration.
fn path(base: &Path) -> impl Fn(&str) -> Result<PathBuf, Fault> {
    move |text| match text {
        "" => Err(Fault::new("a path is missing")),
        text => Ok(base.join(text)),
    }
}

fn store(text: &str, base: &Path) -> Result<PathBuf, Fault> {
    let hint = "write `sqlite:PATH`";
    if let Some(file) = text.strip_prefix("sqlite:") {
        return path(base)(file).map_err(|fault| fault.hint(hint));
    }
    let scheme = text.split_once(':').map_or(text, |(scheme, _)| scheme);
    let message = match scheme {
        "postgres" | "postgresql" => "PostgreSQL is not supported by this version".to_owned(),
        "remote" | "http" | "https" => {
            "a remote authority is not supported by this version".to_owned()
        }
        // A store may carry a password in its address, so it is not repeated.
        _ => "this is no store".to_owned(),
    };
    Err(Fault::new(message).hint(hint))
}

/// A location of tokens: any text that is not empty, compared byte for byte.
fn location(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::new("the location is empty"));
    }
    Ok(text.to_owned())
}

fn protocol(text: &str) -> Result<Protocol, Fault> {
    match text {
        "http1" => Ok(Protocol::Http1),
        "http2" => Ok(Protocol::Http2),
        _ => {
            let fault = Fault::new(format!("`{text}` is no protocol"));
            Err(fault.suggest(text, ["http1", "http2"]))
        }
    }
}

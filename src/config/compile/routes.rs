//! Routes: the table, and what each asks for.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::access::{self, Site};
use super::tunnel::{self, Led};
use super::{Named, Node, NodeId, Report, Section, Value, items, read, scalar, text};
use crate::config::problem::Fault;
use crate::config::section::{all, one_or_more};
use crate::config::{Protocol, Route, Upstream, shadows};
use crate::policy::{QueryKeys, Rule};
use crate::route::{Alphabet, HostPattern, Overlap, Pattern, RouteSpec, RouteTable, Shadow};

/// Compiles the section against all upstreams. The last part of the answer are upstreams that
/// routes name by their address; they come behind the others.
pub(super) fn routes(
    root: &Section<'_>,
    upstreams: &[Named],
    base: &Path,
    report: &mut Report,
) -> Option<(RouteTable, Vec<Route>, Vec<Upstream>)> {
    let node = root.need("routes", report)?;
    let nodes = items(node, "`routes`", report)?;
    if nodes.is_empty() {
        let fault = Fault::new("there is no route, so nothing could ever be forwarded");
        report.error(node.id, fault);
    }
    let named = named_hosts(root, report);
    let mut places: HashMap<String, NodeId> = HashMap::new();
    let mut compiled = Vec::new();
    for node in nodes {
        if let Some(route) = route(node, upstreams, &named, base, &mut places, report) {
            compiled.push(route);
        }
    }
    let mut own = Vec::new();
    for route in &mut compiled {
        if let Some(upstream) = route.own.take() {
            route.route.upstream = upstreams.len() + own.len();
            own.push(upstream);
        }
    }
    warn_unused(root, upstreams, &compiled, report);
    let complete = compiled.len() == nodes.len();
    let places: Vec<_> = compiled
        .iter()
        .map(|c| (c.at, c.route.name.clone()))
        .collect();
    let (specs, routes): (Vec<_>, Vec<_>) = compiled.into_iter().map(|c| (c.spec, c.route)).unzip();
    let table = match RouteTable::build(specs) {
        Ok(table) => table,
        Err(overlaps) => {
            for overlap in &overlaps {
                report_overlap(overlap, &places, report);
            }
            return None;
        }
    };
    for shadow in shadows(&table, &routes) {
        warn_shadow(&shadow, &places, report);
    }
    complete.then_some((table, routes, own))
}

struct Compiled {
    /// Of the path.
    at: NodeId,
    spec: RouteSpec,
    route: Route,
    /// What it leads to, where that is written in the route itself.
    own: Option<Upstream>,
}

const KNOWN: [&str; 13] = [
    "name",
    "method",
    "path",
    "host",
    "hosts",
    "access",
    "upstream",
    "stream",
    "query",
    "basic",
    "body_limit",
    "upgrade",
    "tunnel",
];

fn route(
    node: &Node,
    upstreams: &[Named],
    named: &HashMap<&str, Vec<HostPattern>>,
    base: &Path,
    places: &mut HashMap<String, NodeId>,
    report: &mut Report,
) -> Option<Compiled> {
    let section = Section::open(node, "a route", &KNOWN, &[], report)?;
    let name = section.read("name", report, scalar::name);
    if let Some(name) = &name
        && places.insert(name.clone(), node.id).is_some()
    {
        let at = section.find("name").map_or(node.id, |node| node.id);
        let fault = Fault::new(format!("another route is named `{name}` already"));
        report.error(at, fault);
    }
    let kind = tunnel::kind(&section, report);
    let is_tunnel = section.find("tunnel").is_some();
    let connects = is_tunnel && section.find("path").is_none();
    let (methods, pattern, hosts) = if connects {
        let (methods, pattern) = tunnel::connect().unzip();
        (methods, pattern, tunnel::hosts(&section, report))
    } else {
        let methods = match is_tunnel {
            true => Some(vec![http::Method::GET]),
            false => methods(&section, report),
        };
        let path = section.need("path", report);
        let pattern = path.and_then(|node| read(node, report, pattern));
        (methods, pattern, hosts(&section, named, report))
    };
    let hosts = hosts.and_then(|hosts| one_set_of_captures(node, hosts, report));
    let access = section.need("access", report);
    let rule = match (access, &pattern) {
        (Some(node), Some(pattern)) => {
            let host = hosts.as_deref().and_then(<[_]>::first);
            let site = Site {
                path: pattern.captures(),
                host: host.map_or(&[], HostPattern::captures),
                base,
                graphql: false,
            };
            access::rule(node, &site, report)
        }
        (Some(_), None) | (None, _) => None,
    };
    if let (true, Some(rule)) = (is_tunnel, &rule) {
        tunnel::check_rule(&section, rule, report);
    }
    let upstream = section.need("upstream", report);
    let led = match (upstream, &kind, &pattern, &hosts) {
        (Some(node), Some(kind), Some(pattern), Some(hosts)) if !upstreams.is_empty() => {
            let host = hosts.first().map_or(&[][..], HostPattern::captures);
            let captures = (pattern.captures(), host);
            let name = name.as_deref().unwrap_or_default();
            read(node, report, |text| {
                let index = |name: &str| upstream_index(name, upstreams);
                tunnel::lead(text, *kind, name, captures, upstreams, index)
            })
        }
        (Some(node), None, ..) | (Some(node), _, None, _) | (Some(node), _, _, None)
            if !is_tunnel && !upstreams.is_empty() =>
        {
            // Another part of the route is wrong; this one is checked as far as it can be.
            let known = read(node, report, |name| upstream_index(name, upstreams));
            known.map(|index| Led {
                upstream: Ok(index),
                tunnel: None,
            })
        }
        (Some(_) | None, ..) => None,
    };
    let stream = section.read_or("stream", false, report, scalar::boolean);
    let query = query(&section, rule.as_ref(), report);
    let basic = section.read_or("basic", false, report, scalar::boolean);
    let body_limit = section.read_or("body_limit", BODY_LIMIT, report, |text| {
        scalar::size_within(1024, MAX_BODY_LIMIT)(text)
    });
    if let (Some(node), Some(rule)) = (section.find("body_limit"), &rule)
        && rule.body().is_none()
    {
        let fault = Fault::new("`body_limit` bounds a body that is judged; this one is not");
        let hint = "leave it out: bodies that no access reads are passed on without a bound";
        report.warn(node.id, fault.hint(hint));
    }
    let upstream = led.as_ref().and_then(|led| led.upstream.as_ref().ok());
    let speaks = upstream.and_then(|index| Some(upstreams.get(*index)?.protocol));
    let websocket = upgrade(&section, methods.as_deref(), speaks, report);
    let led = led?;
    let (upstream, own) = match led.upstream {
        Ok(index) => (index, None),
        Err(own) => (upstreams.len(), Some(own)),
    };
    let at = section.find("path").or_else(|| section.find("hosts"));
    let at = at.or_else(|| section.find("host")).unwrap_or(node);
    Some(Compiled {
        at: at.id,
        own,
        spec: RouteSpec {
            methods: methods?,
            hosts: hosts?,
            pattern: pattern?,
        },
        route: Route {
            name: name?,
            rule: rule?,
            upstream,
            stream: stream?,
            query: query?,
            basic: basic?,
            body_limit: body_limit?,
            websocket: websocket?,
            tunnel: led.tunnel,
        },
    })
}

fn methods(section: &Section<'_>, report: &mut Report) -> Option<Vec<http::Method>> {
    let node = section.need("method", report)?;
    let nodes = one_or_more(node);
    if nodes.is_empty() {
        report.error(node.id, Fault::new("the list of methods is empty"));
        return None;
    }
    if text(node) == Some("any") {
        return Some(scalar::METHODS.to_vec());
    }
    all(nodes, |node| read(node, report, scalar::method))
}

/// Names for hosts, so that each is written once.
fn named_hosts<'d>(root: &Section<'d>, report: &mut Report) -> HashMap<&'d str, Vec<HostPattern>> {
    let mut named = HashMap::new();
    let Some(node) = root.find("hosts") else {
        return named;
    };
    let Value::Map(entries) = &node.value else {
        let fault = Fault::new("`hosts` is a mapping");
        let hint = "from a name to hosts: `api: [ api.example.com ]`, or `api: any`";
        report.error(node.id, fault.hint(hint));
        return named;
    };
    for entry in entries {
        if named.contains_key(entry.key.as_str()) {
            let message = format!("`{}` is given twice", entry.key);
            report.error(entry.key_id, Fault::new(message));
            continue;
        }
        let hosts = match text(&entry.node) {
            Some("any") => Some(Vec::new()),
            _ => host_list(&entry.node, report),
        };
        named.insert(entry.key.as_str(), hosts.unwrap_or_default());
    }
    named
}

fn host_list(node: &Node, report: &mut Report) -> Option<Vec<HostPattern>> {
    let nodes = one_or_more(node);
    if nodes.is_empty() {
        report.error(node.id, Fault::new("the list of hosts is empty"));
        return None;
    }
    let hosts = all(nodes, |node| read(node, report, host))?;
    one_set_of_captures(node, hosts, report)
}

/// The hosts of a route: names of `hosts`, or hosts themselves.
fn hosts(
    section: &Section<'_>,
    named: &HashMap<&str, Vec<HostPattern>>,
    report: &mut Report,
) -> Option<Vec<HostPattern>> {
    if let (Some(_), Some(node)) = (section.find("host"), section.find("hosts")) {
        let fault = Fault::new("a route has either `host` or `hosts`");
        report.error(node.id, fault);
    }
    let Some(node) = section.find("hosts").or_else(|| section.find("host")) else {
        return Some(Vec::new());
    };
    let nodes = one_or_more(node);
    if nodes.is_empty() {
        let fault = Fault::new("the list of hosts is empty");
        report.error(node.id, fault.hint("leave it out to answer on every host"));
        return None;
    }
    let mut any = false;
    let listed = all(nodes, |node| {
        if let Some(hosts) = text(node).and_then(|name| named.get(name)) {
            any |= hosts.is_empty();
            return Some(hosts.clone());
        }
        read(node, report, host).map(|host| vec![host])
    })?;
    if any {
        return Some(Vec::new());
    }
    one_set_of_captures(node, listed.concat(), report)
}

/// A field of an access has one meaning on all hosts of a route.
fn one_set_of_captures(
    node: &Node,
    hosts: Vec<HostPattern>,
    report: &mut Report,
) -> Option<Vec<HostPattern>> {
    let names =
        |host: &HostPattern| -> Vec<_> { host.captures().iter().map(|c| c.name.clone()).collect() };
    let first = hosts.first().map(names).unwrap_or_default();
    if hosts.iter().all(|host| names(host) == first) {
        return Some(hosts);
    }
    let fault = Fault::new("the hosts do not capture the same names");
    report.error(node.id, fault.hint("write a route for each"));
    None
}

fn host(text: &str) -> Result<HostPattern, Fault> {
    if !text.contains('{') {
        scalar::host(text)?;
    }
    HostPattern::parse(text).map_err(|error| Fault::new(error.to_string()))
}

fn pattern(text: &str) -> Result<Pattern, Fault> {
    Pattern::parse(text).map_err(|error| Fault::new(error.to_string()))
}

/// Not asked where there are no upstreams at all, which is one problem and not one for each route.
fn upstream_index(name: &str, upstreams: &[Named]) -> Result<usize, Fault> {
    let index = upstreams.iter().position(|known| known.name == name);
    index.ok_or_else(|| {
        if name.contains("://") {
            let fault = Fault::new("only a tunnel can name an address here");
            return fault.hint("name one of `upstreams`");
        }
        let known: BTreeSet<_> = upstreams.iter().map(|known| known.name.as_str()).collect();
        let known = known.into_iter().filter(|known| !known.is_empty());
        Fault::new(format!("there is no upstream `{name}`")).suggest(name, known)
    })
}

/// `upgrade: [ websocket ]`: whether requests may become a `WebSocket`.
fn upgrade(
    section: &Section<'_>,
    methods: Option<&[http::Method]>,
    upstream: Option<Protocol>,
    report: &mut Report,
) -> Option<bool> {
    let Some(node) = section.find("upgrade") else {
        return Some(false);
    };
    let protocols = all(one_or_more(node), |node| read(node, report, protocol))?;
    if methods.is_some_and(|methods| !methods.contains(&http::Method::GET)) {
        report.error(node.id, Fault::new("a WebSocket begins with GET"));
    }
    if upstream == Some(Protocol::Http2) {
        let fault = Fault::new("an upstream that speaks HTTP/2 has no WebSockets");
        report.error(
            node.id,
            fault.hint("set the upstream's `protocol` to http1"),
        );
    }
    Some(!protocols.is_empty())
}

/// A protocol that a connection may switch to.
fn protocol(text: &str) -> Result<(), Fault> {
    match text {
        "websocket" => Ok(()),
        "h2c" => {
            let fault = Fault::new("requests may never be upgraded to `h2c`");
            let hint = "what follows it would not be judged; clients begin with HTTP/2 instead";
            Err(fault.hint(hint))
        }
        _ => {
            let fault = Fault::new(format!("`{text}` is no protocol to upgrade to"));
            Err(fault.suggest(text, ["websocket"]))
        }
    }
}

/// The declared query keys and those that the rule reads.
fn query(section: &Section<'_>, rule: Option<&Rule>, report: &mut Report) -> Option<QueryKeys> {
    let mut keys = QueryKeys::default();
    match section.find("query") {
        None => {}
        Some(node) if text(node) == Some("any") => keys.any = true,
        Some(node) => {
            let nodes = items(node, "`query`, where it is not the word `any`,", report)?;
            keys.names = all(nodes, |node| read(node, report, query_key))?;
        }
    }
    if let Some(Rule::Accesses(accesses)) = rule {
        for key in accesses.templates().iter().flat_map(|t| t.query_keys()) {
            if !keys.names.iter().any(|known| **known == *key) {
                keys.names.push(key.into());
            }
        }
    }
    Some(keys)
}

/// A literal key, or all keys that begin with what is before a `*`.
fn query_key(text: &str) -> Result<Box<str>, Fault> {
    let literal = text.strip_suffix(".*").unwrap_or(text);
    if Alphabet::Name.accepts(literal) {
        return Ok(text.into());
    }
    let fault = Fault::new(format!("`{text}` can never be a query key"));
    Err(fault.hint(format!(
        "use {}; `metadata.*` stands for all keys that begin with `metadata.`",
        Alphabet::Name.describe()
    )))
}

fn report_overlap(overlap: &Overlap, places: &[(NodeId, String)], report: &mut Report) {
    let (Some((_, first)), Some((at, second))) =
        (places.get(overlap.first), places.get(overlap.second))
    else {
        return;
    };
    let message = format!("routes `{first}` and `{second}` overlap");
    let hint = format!("both would answer {}", overlap.witness);
    report.error(*at, Fault::new(message).hint(hint));
}

fn warn_shadow(shadow: &Shadow, places: &[(NodeId, String)], report: &mut Report) {
    let (Some((at, general)), Some((_, specific))) =
        (places.get(shadow.general), places.get(shadow.specific))
    else {
        return;
    };
    let message = format!("route `{general}` never sees what `{specific}` takes");
    let hint = format!("for example {}", shadow.witness);
    report.warn(*at, Fault::new(message).hint(hint));
}

fn warn_unused(root: &Section<'_>, upstreams: &[Named], routes: &[Compiled], report: &mut Report) {
    let Some(node) = root.find("upstreams") else {
        return;
    };
    for (index, Named { name, .. }) in upstreams.iter().enumerate() {
        if !name.is_empty() && !routes.iter().any(|c| c.route.upstream == index) {
            let at = one_or_more(node).get(index).map_or(node.id, |node| node.id);
            report.warn(at, Fault::new(format!("no route leads to `{name}`")));
        }
    }
}

/// Bytes of a body that is judged, where the route says nothing: a hundred times what clients
/// send, and little enough to hold for every request at once.
const BODY_LIMIT: usize = 64 * 1024;
/// Machine configurations embed files.
const MAX_BODY_LIMIT: u64 = 16 * 1024 * 1024;

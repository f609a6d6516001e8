//! The route table: host, method and path to one route.

mod shadow;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use http::Method;
use smallvec::SmallVec;
use thiserror::Error;

use super::host::HostPattern;
use super::pattern::{Alphabet, Pattern, Segment};
use super::target::{Target, split_at_byte};

pub use shadow::Shadow;

/// All routes, by segments.
///
/// A tree of segments rather than of bytes: a capture is a whole segment, so nothing is gained by
/// splitting below one, and every rule of precedence is a line of `search`:
///
/// * A route that names the host of the request comes before all that name none.
/// * A literal comes before a capture, a capture before a tail, from the left. The next best is
///   tried only where the better shape has no route for the method.
/// * A HEAD request is served as GET where the same path has no HEAD route.
/// * Once shape and method are found, a segment outside its alphabet is an error. It does not fall
///   through to a vaguer route: the upstream would serve the resource of the exact one.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<RouteSpec>,
    by_host: HashMap<Box<str>, Node, RandomState>,
    /// Hosts that capture, or that name a port; the more exact ones first.
    by_pattern: Vec<(HostPattern, Node)>,
    any_host: Node,
}

/// Where one route answers; its index is its position in the list the table is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// At least one. A closed set: there is no default, and OPTIONS is a method like any other.
    pub methods: Vec<Method>,
    /// None means every host. All of them capture the same names, in the same order.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub pattern: Pattern,
}

impl RouteSpec {
    /// Whether a request could be both of this route and of the other, as far as method and path
    /// tell. Alphabets and hosts are not looked at: it is about what could be, and a yes too many
    /// does no harm.
    pub fn meets(&self, other: &Self) -> bool {
        // A HEAD request may be served as GET.
        let like = |one: &Method, two: &Method| {
            let as_get = |method: &Method| matches!(*method, Method::GET | Method::HEAD);
            one == two || (as_get(one) && as_get(two))
        };
        let methods = |one| other.methods.iter().any(|two| like(one, two));
        self.methods.iter().any(methods) && self.pattern.meets(&other.pattern)
    }
}

/// The route of a request with what its path captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch<'a> {
    /// Index of the route.
    pub route: usize,
    /// Values, in the order of the pattern.
    pub captures: Captures<'a>,
    /// Values of the host, in the order of its pattern.
    pub host: Captures<'a>,
}

/// What a path captured, borrowed from the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures<'a>(Values<'a>);

impl<'a> Captures<'a> {
    /// The value of the capture at this place in the pattern.
    pub fn value(&self, index: usize) -> Option<&'a str> {
        self.0.get(index).copied()
    }
}

impl<'a> FromIterator<&'a str> for Captures<'a> {
    fn from_iter<I: IntoIterator<Item = &'a str>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Why a request has no route.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// No route has this path.
    #[error("no such route")]
    NoRoute,
    /// The path has routes, but none for the method.
    #[error("the method is not allowed here; allowed: {allow}")]
    NoMethod {
        /// The methods that have one, in the form of the `Allow` header.
        allow: Box<str>,
    },
    /// Every route names its hosts, and none names this one.
    #[error("no route answers on this host")]
    NoHost,
    /// A segment holds what its capture does not admit.
    #[error("`{name}` in the path is not made of {}", alphabet.describe())]
    Segment {
        /// Index of the route.
        route: usize,
        /// Name of the capture.
        name: Box<str>,
        /// What it admits.
        alphabet: Alphabet,
    },
}

/// Two routes that answer the same requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Index of the earlier route.
    pub first: usize,
    /// Index of the later route.
    pub second: usize,
    /// A request that both answer.
    pub witness: String,
}

impl RouteTable {
    /// Builds the table, or names every pair of routes that cannot be told apart.
    pub fn build(routes: impl IntoIterator<Item = RouteSpec>) -> Result<Self, Vec<Overlap>> {
        let mut table = Self {
            routes: routes.into_iter().collect(),
            by_host: HashMap::default(),
            by_pattern: Vec::new(),
            any_host: Node::default(),
        };
        let mut overlaps = Vec::new();
        for (index, route) in table.routes.iter().enumerate() {
            if route.hosts.is_empty() {
                insert(&mut table.any_host, index, route, None, &mut overlaps);
            }
            for host in &route.hosts {
                let tree = if host.is_literal() {
                    let name = host.as_str().to_ascii_lowercase();
                    Some(table.by_host.entry(name.into()).or_default())
                } else {
                    pattern_tree(&mut table.by_pattern, host)
                };
                if let Some(tree) = tree {
                    insert(tree, index, route, Some(host.as_str()), &mut overlaps);
                }
            }
        }
        if overlaps.is_empty() {
            Ok(table)
        } else {
            Err(overlaps)
        }
    }

    /// The routes, in the order they were given.
    pub fn routes(&self) -> &[RouteSpec] {
        &self.routes
    }

    /// Finds the route of a request. `host` may carry a port and any case.
    pub fn find<'a>(
        &'a self,
        method: &Method,
        host: &'a str,
        target: &Target<'a>,
    ) -> Result<RouteMatch<'a>, RouteError> {
        let path = target.path().strip_prefix('/').unwrap_or_default();
        let (named, captured) = self.tree_of(host);
        if named.is_none() && self.any_host.is_empty() {
            return Err(RouteError::NoHost);
        }
        let trees = || named.into_iter().chain([&self.any_host]);
        let mut values = Values::new();
        let route = trees()
            .find_map(|tree| search(tree, Some(path), &mut values, &mut |leaf| leaf.find(method)));
        if let Some(route) = route {
            self.check_captures(route, &values)?;
            return Ok(RouteMatch {
                route,
                captures: Captures(values),
                host: captured,
            });
        }
        let mut allow = BTreeSet::new();
        for tree in trees() {
            search(tree, Some(path), &mut values, &mut |leaf| -> Option<()> {
                leaf.add_methods(&mut allow);
                None
            });
        }
        if allow.is_empty() {
            return Err(RouteError::NoRoute);
        }
        let allow = allow.into_iter().collect::<Vec<_>>().join(", ").into();
        Err(RouteError::NoMethod { allow })
    }

    /// The routes of a host that is named, and what its name captures.
    fn tree_of<'a>(&'a self, host: &'a str) -> (Option<&'a Node>, Captures<'a>) {
        if !self.by_host.is_empty() {
            let name = without_port(host);
            let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
                Cow::Owned(name.to_ascii_lowercase())
            } else {
                Cow::Borrowed(name)
            };
            if let Some(tree) = self.by_host.get(name.as_ref()) {
                return (Some(tree), Captures::default());
            }
        }
        let matched = self
            .by_pattern
            .iter()
            .find_map(|(pattern, tree)| Some((tree, pattern.matches(host)?)));
        matched.map_or((None, Captures::default()), |(tree, captured)| {
            (Some(tree), captured)
        })
    }

    fn check_captures(&self, route: usize, values: &[&str]) -> Result<(), RouteError> {
        let captures = match self.routes.get(route) {
            Some(spec) => spec.pattern.captures(),
            None => &[],
        };
        let refused = captures.iter().zip(values).find(|(c, v)| !c.accepts(v));
        refused.map_or(Ok(()), |(capture, _)| {
            Err(RouteError::Segment {
                route,
                name: capture.name.clone(),
                alphabet: capture.alphabet,
            })
        })
    }
}

type Values<'a> = SmallVec<[&'a str; 8]>;

/// What may follow one path prefix.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Self, RandomState>,
    capture: Option<Box<Self>>,
    tail: Leaf,
    end: Leaf,
}

/// The routes of one shape, by method.
#[derive(Debug, Default)]
struct Leaf(Vec<(Method, usize)>);

impl Node {
    fn is_empty(&self) -> bool {
        let Self {
            literals,
            capture,
            tail,
            end,
        } = self;
        literals.is_empty() && capture.is_none() && tail.0.is_empty() && end.0.is_empty()
    }
}

impl Leaf {
    fn find(&self, method: &Method) -> Option<usize> {
        let exact = |wanted: &Method| self.0.iter().find(|(m, _)| m == wanted);
        exact(method)
            .or_else(|| exact(&Method::GET).filter(|_| *method == Method::HEAD))
            .map(|(_, route)| *route)
    }

    fn add_methods<'a>(&'a self, methods: &mut BTreeSet<&'a str>) {
        for (method, _) in &self.0 {
            methods.insert(method.as_str());
            if *method == Method::GET {
                methods.insert("HEAD");
            }
        }
    }
}

/// Tries the leaves that take the path, best first, until `accept` returns something; then
/// `values` holds what was captured on the way. Recursion is as deep as the longest pattern.
fn search<'a, T>(
    node: &'a Node,
    path: Option<&'a str>,
    values: &mut Values<'a>,
    accept: &mut impl FnMut(&'a Leaf) -> Option<T>,
) -> Option<T> {
    let Some(path) = path else {
        return accept(&node.end);
    };
    let (segment, rest) = match split_at_byte(path, b'/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    };
    if let Some(child) = node.literals.get(segment)
        && let Some(found) = search(child, rest, values, accept)
    {
        return Some(found);
    }
    // An empty segment is a trailing slash, which only a literal stands for.
    if segment.is_empty() {
        return None;
    }
    if let Some(child) = node.capture.as_deref() {
        values.push(segment);
        if let Some(found) = search(child, rest, values, accept) {
            return Some(found);
        }
        values.pop();
    }
    if !path.ends_with('/') {
        values.push(path);
        if let Some(found) = accept(&node.tail) {
            return Some(found);
        }
        values.pop();
    }
    None
}

/// The tree of a host pattern. Two patterns of one shape share it: they match the same hosts.
fn pattern_tree<'t>(
    trees: &'t mut Vec<(HostPattern, Node)>,
    host: &HostPattern,
) -> Option<&'t mut Node> {
    let place = |trees: &[(HostPattern, Node)], order| {
        let fits = |(known, _): &(HostPattern, Node)| known.compare(host) == Some(order);
        trees.iter().position(fits)
    };
    let index = match place(trees, Ordering::Equal) {
        Some(index) => index,
        None => {
            // Before the first one that is vaguer; those that match no host in common with it do
            // not count.
            let index = place(trees, Ordering::Less).unwrap_or(trees.len());
            trees.insert(index, (host.clone(), Node::default()));
            index
        }
    };
    trees.get_mut(index).map(|(_, tree)| tree)
}

fn insert(
    tree: &mut Node,
    index: usize,
    route: &RouteSpec,
    host: Option<&str>,
    overlaps: &mut Vec<Overlap>,
) {
    let mut path = String::new();
    leaves(
        tree,
        route.pattern.segments(),
        &mut path,
        &mut |leaf, path| {
            for method in &route.methods {
                match leaf.0.iter().find(|(known, _)| known == method) {
                    None => leaf.0.push((method.clone(), index)),
                    Some((_, first)) if *first == index => {}
                    Some((_, first)) => {
                        let known = overlaps
                            .iter()
                            .any(|o| o.first == *first && o.second == index);
                        if !known {
                            overlaps.push(Overlap {
                                first: *first,
                                second: index,
                                witness: format!("{method} {}{path}", host.unwrap_or_default()),
                            });
                        }
                    }
                }
            }
        },
    );
}

/// Visits every leaf of a pattern, each with a path that leads there; makes those that are not
/// there yet.
fn leaves(
    node: &mut Node,
    steps: &[Segment],
    path: &mut String,
    visit: &mut impl FnMut(&mut Leaf, &str),
) {
    let Some((step, rest)) = steps.split_first() else {
        visit(&mut node.end, path);
        return;
    };
    let length = path.len();
    path.push('/');
    match step {
        Segment::Literal(text) => {
            path.push_str(text);
            let child = node.literals.entry(text.clone()).or_default();
            leaves(child, rest, path, visit);
        }
        Segment::OneOf(choices) => {
            for text in choices {
                path.push_str(text);
                let child = node.literals.entry(text.clone()).or_default();
                leaves(child, rest, path, visit);
                path.truncate(length.saturating_add(1));
            }
        }
        Segment::Capture(alphabet) => {
            path.push_str(alphabet.sample());
            leaves(node.capture.get_or_insert_default(), rest, path, visit);
        }
        Segment::Tail(alphabet) => {
            path.push_str(alphabet.sample());
            visit(&mut node.tail, path);
        }
    }
    path.truncate(length);
}

/// The host without its port. IPv6 addresses are in brackets there, so that only the colon behind
/// them separates.
fn without_port(host: &str) -> &str {
    let port = host
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'));
    port.map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests;

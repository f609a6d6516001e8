//! Routes that take requests from more general ones.

use std::collections::BTreeSet;

use super::{Leaf, Node, Pattern, RouteTable, Segment};

/// A route that takes some of the requests of a more general one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Index of the route that answers.
    pub specific: usize,
    /// Index of the route that would answer without it.
    pub general: usize,
    /// A request that both match.
    pub witness: String,
}

impl RouteTable {
    /// Every pair of routes of which one takes requests from the other, for a warning.
    ///
    /// Walks the whole table once for each route: meant for start-up. A route that names a host
    /// is not compared with those that name none, since naming it says what is wanted.
    pub fn shadows(&self) -> Vec<Shadow> {
        let mut shadows: Vec<Shadow> = Vec::new();
        let patterns = self.by_pattern.iter().map(|(_, tree)| tree);
        for tree in self
            .by_host
            .values()
            .chain(patterns)
            .chain([&self.any_host])
        {
            let mut generals = BTreeSet::new();
            tree.collect_routes(&mut generals);
            for general in generals {
                let Some(route) = self.routes.get(general) else {
                    continue;
                };
                let steps = route.pattern.segments();
                overlapping(tree, steps, false, &mut Vec::new(), &mut |leaf, shape| {
                    for (method, specific) in &leaf.0 {
                        let known = shadows
                            .iter()
                            .any(|s| s.specific == *specific && s.general == general);
                        if *specific == general || known || !route.methods.contains(method) {
                            continue;
                        }
                        if let Some(path) = self.witness([general, *specific], shape) {
                            shadows.push(Shadow {
                                specific: *specific,
                                general,
                                witness: format!("{method} {path}"),
                            });
                        }
                    }
                });
            }
        }
        shadows.sort_by_key(|shadow| (shadow.general, shadow.specific));
        shadows
    }

    /// A path of this shape that both patterns take; `None` in the shape is any text.
    fn witness(&self, routes: [usize; 2], shape: &[Option<&str>]) -> Option<String> {
        SAMPLES.iter().find_map(|sample| {
            let path: Vec<_> = shape.iter().map(|part| part.unwrap_or(sample)).collect();
            routes
                .iter()
                .all(|r| {
                    self.routes
                        .get(*r)
                        .is_some_and(|r| takes(&r.pattern, &path))
                })
                .then(|| format!("/{}", path.join("/")))
        })
    }
}

impl Node {
    fn collect_routes(&self, routes: &mut BTreeSet<usize>) {
        routes.extend(self.tail.0.iter().chain(&self.end.0).map(|(_, r)| *r));
        for child in self.literals.values().chain(self.capture.as_deref()) {
            child.collect_routes(routes);
        }
    }
}

/// Visits every leaf that shares a path with `steps` and comes before it in the search. The shape
/// of the shared path has `None` where both capture.
fn overlapping<'a>(
    node: &'a Node,
    steps: &'a [Segment],
    precedes: bool,
    shape: &mut Vec<Option<&'a str>>,
    visit: &mut impl FnMut(&'a Leaf, &[Option<&'a str>]),
) {
    let Some((step, rest)) = steps.split_first() else {
        if precedes {
            visit(&node.end, shape);
        }
        return;
    };
    if precedes && !matches!(step, Segment::Tail(_)) {
        let depth = shape.len();
        shape.extend(steps.iter().map(|step| match step {
            Segment::Literal(text) => Some(&**text),
            Segment::OneOf(choices) => choices.first().map(|text| &**text),
            Segment::Capture(_) | Segment::Tail(_) => None,
        }));
        visit(&node.tail, shape);
        shape.truncate(depth);
    }
    let mut literal = |text: &'a str, shape: &mut Vec<Option<&'a str>>| {
        shape.push(Some(text));
        if let Some(child) = node.literals.get(text) {
            overlapping(child, rest, precedes, shape, visit);
        }
        if let Some(child) = node.capture.as_deref().filter(|_| precedes) {
            overlapping(child, rest, precedes, shape, visit);
        }
        shape.pop();
    };
    match step {
        Segment::Literal(text) => literal(text, shape),
        Segment::OneOf(choices) => choices.iter().for_each(|text| literal(text, shape)),
        Segment::Capture(_) => {
            for (text, child) in &node.literals {
                shape.push(Some(text));
                overlapping(child, rest, true, shape, visit);
                shape.pop();
            }
            if let Some(child) = node.capture.as_deref() {
                shape.push(None);
                overlapping(child, rest, precedes, shape, visit);
                shape.pop();
            }
        }
        Segment::Tail(_) => below(node, shape, visit),
    }
}

/// Visits every leaf below `node`: all of them come before a tail at `node`.
fn below<'a>(
    node: &'a Node,
    shape: &mut Vec<Option<&'a str>>,
    visit: &mut impl FnMut(&'a Leaf, &[Option<&'a str>]),
) {
    let literals = node.literals.iter().map(|(t, child)| (Some(&**t), child));
    let capture = node.capture.as_deref().map(|child| (None, child));
    for (part, child) in literals.chain(capture) {
        shape.push(part);
        visit(&child.end, shape);
        shape.push(None);
        visit(&child.tail, shape);
        shape.pop();
        below(child, shape, visit);
        shape.pop();
    }
}

/// Whether a pattern takes a path, alphabets included.
pub(super) fn takes(pattern: &Pattern, path: &[&str]) -> bool {
    let mut path = path;
    for step in pattern.segments() {
        let Some((segment, rest)) = path.split_first() else {
            return false;
        };
        let taken = match step {
            Segment::Literal(text) => **text == **segment,
            Segment::OneOf(choices) => choices.iter().any(|text| **text == **segment),
            Segment::Capture(alphabet) => alphabet.accepts(segment),
            Segment::Tail(alphabet) => return path.iter().all(|s| alphabet.accepts(s)),
        };
        if !taken {
            return false;
        }
        path = rest;
    }
    path.is_empty()
}

/// Segments to try for a capture; the second is in every alphabet.
const SAMPLES: [&str; 2] = ["x", "1"];

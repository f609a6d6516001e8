//! Reading the tree: mappings with known keys, leaves with a type, every problem kept.

use super::file::{Entry, Node, NodeId, Scalar, Value};
use super::files::Files;
use super::problem::{Fault, Problem, is_near};

/// Problems found so far, by node.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) errors: Vec<(NodeId, Fault)>,
    pub(super) warnings: Vec<(NodeId, Fault)>,
    /// Errors of other files, which are located there.
    pub(super) elsewhere: Vec<Problem>,
    /// Files that were read.
    pub(super) files: Files,
}

impl Report {
    pub(super) fn error(&mut self, at: NodeId, fault: Fault) {
        self.errors.push((at, fault));
    }

    pub(super) fn warn(&mut self, at: NodeId, fault: Fault) {
        self.warnings.push((at, fault));
    }

    /// The value, or `None` and one error more.
    pub(super) fn keep<T>(&mut self, at: NodeId, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.error(at, fault)).ok()
    }
}

/// A mapping whose keys are all known.
#[derive(Debug)]
pub(super) struct Section<'d> {
    pub(super) id: NodeId,
    entries: &'d [Entry],
    unknown: Vec<&'d str>,
}

impl<'d> Section<'d> {
    /// Opens a mapping. Keys that are neither `known` nor of a `later` version are errors, and so
    /// is every repetition.
    pub(super) fn open(
        node: &'d Node,
        what: &str,
        known: &[&str],
        later: &[&str],
        report: &mut Report,
    ) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let keys = known.join(", ");
            let fault = Fault::new(format!("{what} is a mapping")).hint(format!("with {keys}"));
            report.error(node.id, fault);
            return None;
        };
        let mut unknown = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let key = entry.key.as_str();
            if entries.iter().take(index).any(|other| other.key == key) {
                report.error(entry.key_id, Fault::new(format!("`{key}` is given twice")));
            } else if later.contains(&key) {
                let message = format!("`{key}` is not supported by this version");
                report.error(entry.key_id, Fault::new(message));
            } else if !known.contains(&key) {
                let fault = Fault::new(format!("unknown key `{key}` in {what}"));
                report.error(
                    entry.key_id,
                    match key {
                        "<<" => {
                            fault.hint("merge keys are not supported; repeat what they would merge")
                        }
                        _ => fault.suggest(key, known.iter().copied()),
                    },
                );
                unknown.push(key);
            }
        }
        Some(Self {
            id: node.id,
            entries,
            unknown,
        })
    }

    /// The value of a key; null is absent.
    pub(super) fn find(&self, key: &str) -> Option<&'d Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        match entry.node.value {
            Value::Null => None,
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => Some(&entry.node),
        }
    }

    /// The value of a key that must be there. Where it is there but misspelt, that has been said.
    pub(super) fn need(&self, key: &str, report: &mut Report) -> Option<&'d Node> {
        let node = self.find(key);
        if node.is_none() && !self.unknown.iter().any(|word| is_near(word, key)) {
            report.error(self.id, Fault::new(format!("`{key}` is missing")));
        }
        node
    }

    /// Reads a key that must be there.
    pub(super) fn read<T>(
        &self,
        key: &str,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        let node = self.need(key, report)?;
        read(node, report, parse)
    }

    /// Reads a key that has a default.
    pub(super) fn read_or<T>(
        &self,
        key: &str,
        default: T,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        match self.find(key) {
            Some(node) => read(node, report, parse),
            None => Some(default),
        }
    }
}

/// Reads a leaf.
pub(super) fn read<T>(
    node: &Node,
    report: &mut Report,
    parse: impl FnOnce(&str) -> Result<T, Fault>,
) -> Option<T> {
    let result = match &node.value {
        Value::Scalar { text, .. } => parse(text),
        Value::Null => Err(Fault::new("a value is missing")),
        Value::List(_) => Err(Fault::new("one value is wanted here, not a list")),
        Value::Map(_) => Err(Fault::new("one value is wanted here, not a mapping")),
    };
    report.keep(node.id, result)
}

/// The text of a leaf that YAML takes for text; a bare number or boolean is none.
pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar {
            text,
            kind: Scalar::Text,
        } => Some(text),
        Value::Scalar { .. } | Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// The items of a list.
pub(super) fn items<'d>(node: &'d Node, what: &str, report: &mut Report) -> Option<&'d [Node]> {
    if let Value::List(nodes) = &node.value {
        return Some(nodes);
    }
    report.error(node.id, Fault::new(format!("{what} is a list")));
    None
}

/// The items of a list, or the one item itself.
pub(super) fn one_or_more(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(nodes) => nodes,
        Value::Null | Value::Scalar { .. } | Value::Map(_) => std::slice::from_ref(node),
    }
}

/// Reads every node, also those behind one that fails.
pub(super) fn all<T>(nodes: &[Node], read: impl FnMut(&Node) -> Option<T>) -> Option<Vec<T>> {
    let read: Vec<_> = nodes.iter().map(read).collect();
    read.into_iter().collect()
}

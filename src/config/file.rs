//! The file as written: YAML to a tree whose every node can be located.
//!
//! `serde_yaml` stops at the first value that does not fit, and its values have no positions. So
//! the text is read into a tree that fits everything, [`compile`](super::compile) goes on past
//! every problem, and a position is found afterwards by reading the text once more with a visitor
//! that fails at that very node: the error carries the line and the column. Nodes are therefore
//! numbered in the order of the text. This costs one parse for each problem, and nothing where
//! there is none; a second parser for positions would be a second reading of the same file.
//!
//! Only this file names `serde_yaml`.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A parsed file.
#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    kinds: Vec<Kind>,
    root: Node,
}

/// A value and its number.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) value: Value,
}

/// Numbers a key or a value in the order of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(usize);

/// A value as written.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any scalar, in the characters of the file: `148e10` is as much a machine as a number.
    Scalar { text: String, kind: Scalar },
    /// A list.
    List(Vec<Node>),
    /// A mapping, with repeated keys.
    Map(Vec<Entry>),
}

/// What YAML takes a scalar for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Number,
    Text,
}

/// One line of a mapping.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_id: NodeId,
    pub(super) node: Node,
}

/// Why the file is not YAML.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
}

impl<'t> Document<'t> {
    /// Reads the text twice: once for the kind of each node, then for the characters of each
    /// scalar, which YAML's own typing would have changed.
    pub(super) fn parse(text: &'t str) -> Result<Self, Malformed> {
        let is_blank = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
        if text.lines().all(is_blank) {
            return Err(Malformed {
                line: 1,
                column: 1,
                message: "the file is empty".to_owned(),
            });
        }
        let kinds = RefCell::default();
        read(text, Survey { kinds: &kinds }).map_err(|error| malformed(&error))?;
        let kinds = kinds.into_inner();
        let next = Cell::new(0);
        let seed = Build {
            kinds: &kinds,
            next: &next,
            stop: None,
        };
        let root = read(text, seed).map_err(|error| malformed(&error))?;
        Ok(Self { text, kinds, root })
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// Line and column of a node, from 1.
    pub(super) fn locate(&self, id: NodeId) -> (usize, usize) {
        let seed = Build {
            kinds: &self.kinds,
            next: &Cell::new(0),
            stop: Some(id),
        };
        let location = read(self.text, seed)
            .err()
            .and_then(|error| error.location());
        location.map_or((1, 1), |at| (at.line(), at.column()))
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Null,
    Scalar(Scalar),
    Collection,
}

fn read<'t, S: DeserializeSeed<'t>>(text: &'t str, seed: S) -> Result<S::Value, serde_yaml::Error> {
    seed.deserialize(serde_yaml::Deserializer::from_str(text))
}

/// Another file than the configuration, as JSON would have it; or line, column and what is wrong.
pub(crate) fn to_json(text: &str) -> Result<serde_json::Value, (usize, usize, String)> {
    let read = serde_json::Value::deserialize(serde_yaml::Deserializer::from_str(text));
    read.map_err(|error| {
        let Malformed {
            line,
            column,
            message,
        } = malformed(&error);
        (line, column, message)
    })
}

fn malformed(error: &serde_yaml::Error) -> Malformed {
    let (line, column) = error
        .location()
        .map_or((1, 1), |at| (at.line(), at.column()));
    Malformed {
        line,
        column,
        message: error.to_string(),
    }
}

/// First reading: the kind of every node, in order.
#[derive(Clone, Copy)]
struct Survey<'s> {
    kinds: &'s RefCell<Vec<Kind>>,
}

impl Survey<'_> {
    fn note(self, kind: Kind) {
        self.kinds.borrow_mut().push(kind);
    }
}

impl<'de> DeserializeSeed<'de> for Survey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Survey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.note(Kind::Null);
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        self.note(Kind::Null);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.note(Kind::Scalar(Scalar::Bool));
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.note(Kind::Scalar(Scalar::Number));
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.note(Kind::Scalar(Scalar::Number));
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        self.note(Kind::Scalar(Scalar::Number));
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        self.note(Kind::Scalar(Scalar::Number));
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.note(Kind::Scalar(Scalar::Number));
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.note(Kind::Scalar(Scalar::Text));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.note(Kind::Collection);
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.note(Kind::Collection);
        while map.next_key_seed(Key)?.is_some() {
            self.note(Kind::Scalar(Scalar::Text));
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// A key of the first reading: any scalar.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key, which is plain text")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// Second reading: the tree; or, with `stop`, an error at that node.
#[derive(Clone, Copy)]
struct Build<'s> {
    kinds: &'s [Kind],
    next: &'s Cell<usize>,
    stop: Option<NodeId>,
}

impl Build<'_> {
    fn number<E: serde::de::Error>(self) -> Result<NodeId, E> {
        let id = NodeId(self.next.get());
        if self.stop == Some(id) {
            return Err(E::custom("here"));
        }
        self.next.set(id.0 + 1);
        Ok(id)
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        match self.kinds.get(self.next.get()) {
            Some(Kind::Scalar(_) | Kind::Null) => deserializer.deserialize_str(self),
            Some(Kind::Collection) => deserializer.deserialize_any(self),
            None => Err(D::Error::custom("the file changed while it was read")),
        }
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Node, E> {
        let id = self.number()?;
        let value = match self.kinds.get(id.0) {
            Some(Kind::Scalar(kind)) => Value::Scalar {
                text: text.to_owned(),
                kind: *kind,
            },
            Some(Kind::Null | Kind::Collection) | None => Value::Null,
        };
        Ok(Node { id, value })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(self)? {
            nodes.push(node);
        }
        let value = Value::List(nodes);
        Ok(Node { id, value })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(self)? {
            let Value::Scalar { text, .. } = key.value else {
                return Err(A::Error::custom("a key is plain text"));
            };
            entries.push(Entry {
                key: text,
                key_id: key.id,
                node: map.next_value_seed(self)?,
            });
        }
        let value = Value::Map(entries);
        Ok(Node { id, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(document: &Document<'_>, path: &[&str]) -> (usize, usize) {
        let mut node = document.root();
        for step in path {
            node = match &node.value {
                Value::Map(entries) => &entries.iter().find(|e| e.key == *step).unwrap().node,
                Value::List(nodes) => &nodes[step.parse::<usize>().unwrap()],
                Value::Null | Value::Scalar { .. } => panic!("{step} of {node:?}"),
            };
        }
        document.locate(node.id)
    }

    #[test]
    fn every_node_is_located() {
        let text =
            "a: 1\nlist:\n  - {b: 'x', c: [y, 148e10]}\n  -\n    d: e\nlast:\n  f: |\n    g\n";
        let document = Document::parse(text).unwrap();
        for (path, expected) in [
            (&["a"][..], (1, 4)),
            (&["list"], (3, 3)),
            (&["list", "0"], (3, 5)),
            (&["list", "0", "b"], (3, 9)),
            (&["list", "0", "c", "1"], (3, 21)),
            (&["list", "1", "d"], (5, 8)),
            (&["last", "f"], (7, 6)),
        ] {
            assert_eq!(place(&document, path), expected, "{path:?}");
        }
        let Value::Map(entries) = &document.root().value else {
            panic!("a mapping");
        };
        assert_eq!(document.locate(entries[1].key_id), (2, 1));
    }

    #[test]
    fn scalars_keep_their_characters() {
        let text = "[148e10, 010, 0x1f, 'true', true, ~, , 1.50, 91857310000000000000000]";
        let text = text.replace(", ,", ",");
        let document = Document::parse(&text).unwrap();
        let Value::List(nodes) = &document.root().value else {
            panic!("a list");
        };
        let read: Vec<_> = nodes
            .iter()
            .map(|node| match &node.value {
                Value::Scalar { text, kind } => (text.as_str(), Some(*kind)),
                Value::Null => ("", None),
                Value::List(_) | Value::Map(_) => panic!("{node:?}"),
            })
            .collect();
        assert_eq!(
            read,
            [
                ("148e10", Some(Scalar::Number)),
                ("010", Some(Scalar::Text)),
                ("0x1f", Some(Scalar::Number)),
                ("true", Some(Scalar::Text)),
                ("true", Some(Scalar::Bool)),
                ("", None),
                ("1.50", Some(Scalar::Number)),
                ("91857310000000000000000", Some(Scalar::Number)),
            ]
        );
    }

    #[test]
    fn aliases_are_followed_and_bounded() {
        let document = Document::parse("a: &x [1, 2]\nb: *x\nc: 3\n").unwrap();
        assert_eq!(place(&document, &["c"]), (3, 4));
        let mut bomb = "a0: &a0 [x, x]\n".to_owned();
        for i in 1..40 {
            bomb += &format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1);
        }
        assert!(Document::parse(&bomb).is_err());
    }

    #[test]
    fn what_is_not_yaml_is_located() {
        for (text, place) in [
            ("a: b\n c: d\n", (2, 3)),
            ("a: [1\n", (2, 1)),
            ("a: !tag b\n", (1, 4)),
            ("[1]: 2\n", (1, 1)),
        ] {
            let error = Document::parse(text).unwrap_err();
            assert_eq!(
                (error.line, error.column),
                place,
                "{text}: {}",
                error.message
            );
        }
    }
}

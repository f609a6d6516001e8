//! A GraphQL document, read from its text into what a decision needs of it.
//!
//! Only this file names the parser. It is one for editors too: it reads past mistakes, and its tree
//! may lack any part. So a document is taken only if the parser reports no mistake at all and every
//! part that the grammar demands is there.

use std::collections::HashMap;

use apollo_parser::cst::{self, CstNode as _};
use apollo_parser::{Parser, SyntaxKind, SyntaxNode};

use super::fault::{GraphQlFault, MAX_DEPTH, MAX_FRAGMENTS, MAX_NAME, MAX_TOKENS};
use super::shape::Shape;
use crate::policy::json::folded;

/// Operations and fragments.
#[derive(Debug)]
pub(super) struct Document {
    /// At least one.
    pub(super) operations: Vec<Operation>,
    /// Spreads name them by their place here.
    pub(super) fragments: Vec<Fragment>,
}

/// A query or a mutation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: Option<Box<str>>,
    pub(super) root: Root,
    /// Declared names, each once, with their defaults.
    pub(super) variables: HashMap<Box<str>, Option<Literal>>,
    pub(super) selections: Vec<Selection>,
    pub(super) shape: Shape,
}

/// The root types that have rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Fields that read.
    Query,
    /// Fields that change something.
    Mutation,
}

/// A named fragment. What type it is on is not looked at: it is taken to apply.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) selections: Vec<Selection>,
    pub(super) shape: Shape,
}

/// One part of a selection set.
#[derive(Debug)]
pub(super) enum Selection {
    Field(Field),
    /// A named fragment, by its place.
    Spread(usize),
    /// A fragment without a name.
    Inline(Vec<Self>),
}

/// A field with all that belongs to it.
#[derive(Debug)]
pub(super) struct Field {
    /// Its key in the response: the alias, else the name.
    pub(super) key: Box<str>,
    pub(super) name: Box<str>,
    pub(super) arguments: Vec<(Box<str>, Literal)>,
    pub(super) selections: Vec<Selection>,
}

/// A value as written.
#[derive(Debug)]
pub(super) enum Literal {
    Variable(Box<str>),
    Null,
    Bool(bool),
    Number(serde_json::Number),
    /// A string with its escapes resolved, or the name of an enum value.
    Text(String),
    List(Vec<Self>),
    Object(Vec<(Box<str>, Self)>),
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, GraphQlFault> {
        check_characters(text)?;
        let parser = Parser::new(text)
            .token_limit(MAX_TOKENS)
            .recursion_limit(MAX_DEPTH);
        let tree = parser.parse();
        if tree.token_limit().high > MAX_TOKENS {
            return Err(GraphQlFault::TooManyTokens);
        }
        if tree.recursion_limit().high > MAX_DEPTH {
            return Err(GraphQlFault::TooDeep);
        }
        if let Some(error) = tree.errors().next() {
            return Err(at(error.index()));
        }
        check_strings(tree.document().syntax())?;
        let definitions = tree.document().definitions();
        let (mut operations, mut fragments) = (Vec::new(), Vec::new());
        for definition in definitions {
            match definition {
                cst::Definition::OperationDefinition(operation) => operations.push(operation),
                cst::Definition::FragmentDefinition(fragment) => fragments.push(fragment),
                cst::Definition::DirectiveDefinition(_)
                | cst::Definition::SchemaDefinition(_)
                | cst::Definition::ScalarTypeDefinition(_)
                | cst::Definition::ObjectTypeDefinition(_)
                | cst::Definition::InterfaceTypeDefinition(_)
                | cst::Definition::UnionTypeDefinition(_)
                | cst::Definition::EnumTypeDefinition(_)
                | cst::Definition::InputObjectTypeDefinition(_)
                | cst::Definition::SchemaExtension(_)
                | cst::Definition::ScalarTypeExtension(_)
                | cst::Definition::ObjectTypeExtension(_)
                | cst::Definition::InterfaceTypeExtension(_)
                | cst::Definition::UnionTypeExtension(_)
                | cst::Definition::EnumTypeExtension(_)
                | cst::Definition::InputObjectTypeExtension(_) => {
                    return Err(GraphQlFault::NotExecutable);
                }
            }
        }
        if operations.is_empty() {
            return Err(GraphQlFault::NoOperation);
        }
        let reader = Reader::new(&fragments)?;
        Ok(Self {
            operations: collect(operations, |node| reader.operation(&node))?,
            fragments: collect(fragments, |node| reader.fragment(&node))?,
        })
    }
}

/// Characters that the specification allows and servers read differently.
///
/// A comment ends at a lone carriage return for some only, at U+2028 for those that match lines
/// with a regular expression, and a NUL ends the whole text for some.
fn check_characters(text: &str) -> Result<(), GraphQlFault> {
    let mut characters = text.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        let plain = match character {
            '\t' | '\n' => true,
            '\r' => characters.peek().is_some_and(|(_, next)| *next == '\n'),
            '\u{2028}' | '\u{2029}' | '\u{feff}' => false,
            other => !other.is_control(),
        };
        if !plain {
            return Err(GraphQlFault::Character { offset });
        }
    }
    Ok(())
}

/// Strings that are not one text to all servers.
///
/// The parser takes a line break that directly follows the opening quote. And three quotes inside a
/// block string are written with a backslash, which some servers leave in the text.
fn check_strings(document: &SyntaxNode) -> Result<(), GraphQlFault> {
    let disputed = |text: &str| {
        text.starts_with("\"\n") || (text.starts_with(BLOCK) && text.contains(ESCAPED))
    };
    let mut tokens = document.descendants_with_tokens();
    let found = tokens.find(|part| {
        let text = part.as_token().map_or("", |token| token.text());
        part.kind() == SyntaxKind::STRING && disputed(text)
    });
    found.map_or(Ok(()), |part| Err(at(part.text_range().start().into())))
}

const BLOCK: &str = "\"\"\"";
const ESCAPED: &str = "\\\"\"\"";

/// Reads the parser's tree. It knows the fragments, so that a spread of another is refused.
struct Reader {
    fragments: HashMap<Box<str>, usize>,
}

impl Reader {
    fn new(nodes: &[cst::FragmentDefinition]) -> Result<Self, GraphQlFault> {
        if nodes.len() > MAX_FRAGMENTS {
            return Err(GraphQlFault::TooManyFragments);
        }
        let mut fragments = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let name = fragment_name(node.fragment_name(), node)?;
            if fragments.insert(name, index).is_some() {
                return Err(GraphQlFault::RepeatedFragment);
            }
        }
        Ok(Self { fragments })
    }

    fn operation(&self, node: &cst::OperationDefinition) -> Result<Operation, GraphQlFault> {
        let root = match node.operation_type() {
            None => Root::Query,
            Some(kind) if kind.query_token().is_some() => Root::Query,
            Some(kind) if kind.mutation_token().is_some() => Root::Mutation,
            Some(kind) if kind.subscription_token().is_some() => {
                return Err(GraphQlFault::Subscription);
            }
            Some(kind) => return Err(broken(&kind)),
        };
        let mut variables = HashMap::new();
        if let Some(nodes) = node.variable_definitions() {
            for node in nodes.variable_definitions() {
                let variable = part(node.variable(), &node)?;
                let default = match node.default_value() {
                    Some(default) => Some(literal(&part(default.value(), &default)?)?),
                    None => None,
                };
                if variables
                    .insert(name(variable.name(), &variable)?, default)
                    .is_some()
                {
                    return Err(GraphQlFault::RepeatedVariable);
                }
            }
        }
        let mut shape = Shape::default();
        Ok(Operation {
            name: match node.name() {
                Some(node) => Some(name(Some(node.clone()), &node)?),
                None => None,
            },
            root,
            variables,
            selections: self.selections(&part(node.selection_set(), node)?, 1, &mut shape)?,
            shape,
        })
    }

    fn fragment(&self, node: &cst::FragmentDefinition) -> Result<Fragment, GraphQlFault> {
        let mut shape = Shape::default();
        Ok(Fragment {
            selections: self.selections(&part(node.selection_set(), node)?, 1, &mut shape)?,
            shape,
        })
    }

    /// A selection set at `depth`. Recurses as deep as the parser did, at most [`MAX_DEPTH`].
    fn selections(
        &self,
        node: &cst::SelectionSet,
        depth: usize,
        shape: &mut Shape,
    ) -> Result<Vec<Selection>, GraphQlFault> {
        shape.reaches(depth);
        let below = depth.saturating_add(1);
        collect(node.selections(), |node| match node {
            cst::Selection::Field(node) => {
                let field = self.field(&node, below, shape)?;
                Ok(Selection::Field(field))
            }
            cst::Selection::FragmentSpread(node) => {
                let name = fragment_name(node.fragment_name(), &node)?;
                let fragment = self.fragments.get(&name).copied();
                let fragment = fragment.ok_or(GraphQlFault::UnknownFragment)?;
                shape.spreads(fragment, depth);
                Ok(Selection::Spread(fragment))
            }
            cst::Selection::InlineFragment(node) => {
                let set = part(node.selection_set(), &node)?;
                Ok(Selection::Inline(self.selections(&set, below, shape)?))
            }
        })
    }

    fn field(
        &self,
        node: &cst::Field,
        below: usize,
        shape: &mut Shape,
    ) -> Result<Field, GraphQlFault> {
        let schema_name = name(node.name(), node)?;
        let arguments = match node.arguments() {
            Some(arguments) => collect(arguments.arguments(), |node| {
                let value = literal(&part(node.value(), &node)?)?;
                Ok((name(node.name(), &node)?, value))
            })?,
            None => Vec::new(),
        };
        check_keys(&arguments)?;
        Ok(Field {
            key: match node.alias() {
                Some(alias) => name(alias.name(), &alias)?,
                None => schema_name.clone(),
            },
            name: schema_name,
            arguments,
            selections: match node.selection_set() {
                Some(set) => self.selections(&set, below, shape)?,
                None => Vec::new(),
            },
        })
    }
}

/// Recurses as deep as the parser did, at most [`MAX_DEPTH`].
fn literal(node: &cst::Value) -> Result<Literal, GraphQlFault> {
    Ok(match node {
        cst::Value::Variable(node) => Literal::Variable(name(node.name(), node)?),
        cst::Value::StringValue(node) => Literal::Text(String::from(node)),
        cst::Value::FloatValue(node) => Literal::Number(number(node)?),
        cst::Value::IntValue(node) => Literal::Number(number(node)?),
        cst::Value::BooleanValue(node) => {
            match (node.true_token().is_some(), node.false_token().is_some()) {
                (true, false) => Literal::Bool(true),
                (false, true) => Literal::Bool(false),
                (true, true) | (false, false) => return Err(broken(node)),
            }
        }
        cst::Value::NullValue(_) => Literal::Null,
        cst::Value::EnumValue(node) => Literal::Text(enum_value(node)?.into()),
        cst::Value::ListValue(node) => {
            part(node.r_brack_token(), node)?;
            Literal::List(collect(node.values(), |node| literal(&node))?)
        }
        cst::Value::ObjectValue(node) => {
            let fields = collect(node.object_fields(), |node| {
                let value = literal(&part(node.value(), &node)?)?;
                Ok((name(node.name(), &node)?, value))
            })?;
            check_keys(&fields)?;
            Literal::Object(fields)
        }
    })
}

/// Some readers end a word where it could be another value: `[null_]` is one value to most, and two
/// to async-graphql.
fn enum_value(node: &cst::EnumValue) -> Result<Box<str>, GraphQlFault> {
    let text = name(node.name(), node)?;
    match VALUES.iter().any(|value| text.starts_with(value)) {
        true => Err(broken(node)),
        false => Ok(text),
    }
}

const VALUES: [&str; 3] = ["null", "true", "false"];

/// The same rule as for JSON: no two keys that anyone could take for one.
fn check_keys(entries: &[(Box<str>, Literal)]) -> Result<(), GraphQlFault> {
    let mut keys: Vec<_> = entries.iter().map(|(key, _)| folded(key)).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() == entries.len() {
        Ok(())
    } else {
        Err(GraphQlFault::RepeatedArgument)
    }
}

fn number(node: &impl cst::CstNode) -> Result<serde_json::Number, GraphQlFault> {
    let text = node.source_string();
    // White space and comments after a value are part of its node.
    let digits = text.split(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
    let number = digits.into_iter().next().and_then(|text| text.parse().ok());
    number.ok_or_else(|| broken(node))
}

fn fragment_name(
    node: Option<cst::FragmentName>,
    parent: &impl cst::CstNode,
) -> Result<Box<str>, GraphQlFault> {
    let node = part(node, parent)?;
    name(node.name(), &node)
}

fn name(node: Option<cst::Name>, parent: &impl cst::CstNode) -> Result<Box<str>, GraphQlFault> {
    let token = part(part(node, parent)?.ident_token(), parent)?;
    match token.text() {
        text if text.len() > MAX_NAME => Err(GraphQlFault::LongName),
        text => Ok(text.into()),
    }
}

/// A part that the grammar demands.
fn part<T>(node: Option<T>, parent: &impl cst::CstNode) -> Result<T, GraphQlFault> {
    node.ok_or_else(|| broken(parent))
}

fn broken(node: &impl cst::CstNode) -> GraphQlFault {
    at(node.syntax().text_range().start().into())
}

fn at(offset: usize) -> GraphQlFault {
    GraphQlFault::Syntax { offset }
}

fn collect<N, T>(
    nodes: impl IntoIterator<Item = N>,
    read: impl FnMut(N) -> Result<T, GraphQlFault>,
) -> Result<Vec<T>, GraphQlFault> {
    nodes.into_iter().map(read).collect()
}

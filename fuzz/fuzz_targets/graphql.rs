//! Any request: it is refused, or every root field that another parser finds in its document is
//! found, with the same arguments and the same fields below it.
//!
//! The other parser is an independent reading of the specification. Where it too takes the
//! document, fragments are expanded and variables put in their places in the plainest way there is.
#![no_main]

use std::collections::BTreeSet;

use async_graphql_parser::parse_query;
use async_graphql_parser::types::{
    DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql_value::{ConstValue, Value};
use libfuzzer_sys::fuzz_target;
use usher::policy::{GraphQlFault, Json, Root, RootField, root_fields};

// A document; behind a NUL, which no document has, the values of its variables.
fuzz_target!(|text: &str| {
    let (text, variables) = match text.split_once('\0') {
        Some((text, json)) => match Json::parse(json.as_bytes(), 32) {
            Ok(variables @ Json::Object(_)) => (text, Some(variables)),
            Ok(_) | Err(_) => return,
        },
        None => (text, None),
    };
    let request = |name: Option<&str>| {
        let mut entries = vec![("query".to_owned(), Json::Text(text.to_owned()))];
        entries.extend(name.map(|name| ("operationName".to_owned(), Json::Text(name.to_owned()))));
        entries.extend(variables.clone().map(|json| ("variables".to_owned(), json)));
        Json::Object(entries)
    };
    let other = parse_query(text).ok();
    let found = match (root_fields(&request(None)), &other) {
        (Err(GraphQlFault::Unselected), Some(document)) => {
            let mut names = document.operations.iter().filter_map(|(name, _)| name);
            root_fields(&request(names.next().map(|name| name.as_str())))
        }
        (found, _) => found,
    };
    let Ok(found) = found else { return };
    assert!(!found.is_empty());
    let Some(other) = other else { return };
    let found: BTreeSet<Found> = found.iter().map(Found::of).collect();
    assert_eq!(found, expected(&other, variables.as_ref()));
});

/// One root field, in a form that can be compared.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    mutation: bool,
    name: String,
    arguments: String,
    children: BTreeSet<String>,
    deeper: BTreeSet<String>,
}

impl Found {
    fn of(field: &RootField) -> Self {
        let names = |names: &[Box<str>]| names.iter().map(ToString::to_string).collect();
        Self {
            mutation: field.root == Root::Mutation,
            name: field.name.to_string(),
            arguments: shown(&field.arguments),
            children: names(&field.children),
            deeper: names(&field.deeper),
        }
    }
}

fn expected(document: &ExecutableDocument, variables: Option<&Json>) -> BTreeSet<Found> {
    let operations: Vec<_> = match &document.operations {
        DocumentOperations::Single(operation) => vec![operation],
        DocumentOperations::Multiple(operations) => operations.values().collect(),
    };
    let mut found = BTreeSet::new();
    for operation in operations {
        let operation = &operation.node;
        for field in level(document, &[&operation.selection_set.node]) {
            let below = level(document, &[&field.selection_set.node]);
            let mut deeper = BTreeSet::new();
            let mut open: Vec<_> = below.clone();
            let mut known: Vec<*const Field> = Vec::new();
            while let Some(field) = open.pop() {
                if known.contains(&std::ptr::from_ref(field)) {
                    continue;
                }
                known.push(field);
                let next = level(document, &[&field.selection_set.node]);
                deeper.extend(names(&next));
                open.extend(next);
            }
            let arguments = field.arguments.iter().filter_map(|(name, value)| {
                let value = resolved(&value.node, operation, variables)?;
                Some((name.node.to_string(), value))
            });
            found.insert(Found {
                mutation: operation.ty == OperationType::Mutation,
                name: field.name.node.to_string(),
                arguments: shown(&Json::Object(arguments.collect())),
                children: names(&below).collect(),
                deeper,
            });
        }
    }
    found
}

fn names<'f>(fields: &'f [&Field]) -> impl Iterator<Item = String> + 'f {
    fields.iter().map(|field| field.name.node.to_string())
}

/// The fields of these selection sets, fragments expanded, each fragment once.
fn level<'d>(document: &'d ExecutableDocument, sets: &[&'d SelectionSet]) -> Vec<&'d Field> {
    let mut open: Vec<&SelectionSet> = sets.to_vec();
    let (mut fields, mut spread) = (Vec::new(), BTreeSet::new());
    while let Some(set) = open.pop() {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => fields.push(&field.node),
                Selection::InlineFragment(fragment) => {
                    open.push(&fragment.node.selection_set.node);
                }
                Selection::FragmentSpread(found) => {
                    let name = &found.node.fragment_name.node;
                    if spread.insert(name.as_str()) {
                        open.push(&document.fragments[name].node.selection_set.node);
                    }
                }
            }
        }
    }
    fields
}

/// `None` for a variable without a value.
fn resolved(
    value: &Value,
    operation: &OperationDefinition,
    variables: Option<&Json>,
) -> Option<Json> {
    Some(match value {
        Value::Variable(name) => {
            let mut declared = operation.variable_definitions.iter();
            let declared = declared
                .find(|variable| variable.node.name.node == *name)
                .unwrap();
            let given = variables.and_then(|variables| variables.key(name)).cloned();
            let default = || {
                declared
                    .node
                    .default_value
                    .as_ref()
                    .map(|value| &value.node)
            };
            return given.or_else(|| default().map(constant));
        }
        Value::Null => Json::Null,
        Value::Number(number) => Json::Number(number.clone()),
        Value::String(text) => Json::Text(text.clone()),
        Value::Boolean(value) => Json::Bool(*value),
        Value::Enum(name) => Json::Text(name.to_string()),
        Value::List(items) => Json::List(
            items
                .iter()
                .map(|item| resolved(item, operation, variables).unwrap_or(Json::Null))
                .collect(),
        ),
        Value::Object(entries) => Json::Object(
            entries
                .iter()
                .filter_map(|(key, value)| {
                    Some((key.to_string(), resolved(value, operation, variables)?))
                })
                .collect(),
        ),
        Value::Binary(_) => unreachable!("no document holds bytes"),
    })
}

fn constant(value: &ConstValue) -> Json {
    match value {
        ConstValue::Null => Json::Null,
        ConstValue::Number(number) => Json::Number(number.clone()),
        ConstValue::String(text) => Json::Text(text.clone()),
        ConstValue::Boolean(value) => Json::Bool(*value),
        ConstValue::Enum(name) => Json::Text(name.to_string()),
        ConstValue::List(items) => Json::List(items.iter().map(constant).collect()),
        ConstValue::Object(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| (key.to_string(), constant(value)))
                .collect(),
        ),
        ConstValue::Binary(_) => unreachable!("no document holds bytes"),
    }
}

/// A value as text: numbers by what they are, since one of the parsers keeps no digits.
fn shown(value: &Json) -> String {
    match value {
        Json::Number(number) => format!("{:?}", number.as_f64()),
        Json::List(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(","))
        }
        Json::Object(entries) => {
            let show = |(key, value): &(String, Json)| format!("{key:?}:{}", shown(value));
            let entries: Vec<String> = entries.iter().map(show).collect();
            format!("{{{}}}", entries.join(","))
        }
        Json::Text(text) => {
            let lines: Vec<&str> = text.split('\n').map(indented).collect();
            format!("{:?}", lines.join("\n"))
        }
        Json::Null | Json::Bool(_) => format!("{value:?}"),
    }
}

/// A line of a text. In a block string, lines of nothing but spaces that are shorter than the others'
/// indent lose all of it by the specification, and none to the other parser. Nothing that is judged
/// has more than one line.
fn indented(line: &str) -> &str {
    match line.trim_matches([' ', '\t']) {
        "" => "",
        _ => line,
    }
}

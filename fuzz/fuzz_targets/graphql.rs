//! Any document: it is refused, or every root field that another parser finds in it is found.
//!
//! The other parser is an independent reading of the specification. Where it too takes the
//! document, its fragments are expanded in the plainest way there is.
#![no_main]

use std::collections::BTreeSet;

use async_graphql_parser::types::{
    DocumentOperations, ExecutableDocument, OperationType, Selection, SelectionSet,
};
use libfuzzer_sys::fuzz_target;
use usher::policy::{GraphQlFault, Json, Root, root_fields};

fuzz_target!(|text: &str| {
    let request = |name: Option<&str>| {
        let mut entries = vec![("query".to_owned(), Json::Text(text.to_owned()))];
        entries.extend(name.map(|name| ("operationName".to_owned(), Json::Text(name.to_owned()))));
        Json::Object(entries)
    };
    let other = async_graphql_parser::parse_query(text).ok();
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
    let found: BTreeSet<_> = found
        .iter()
        .map(|field| (field.root == Root::Mutation, field.name.to_string()))
        .collect();
    assert_eq!(found, expected(&other));
});

fn expected(document: &ExecutableDocument) -> BTreeSet<(bool, String)> {
    let operations: Vec<_> = match &document.operations {
        DocumentOperations::Single(operation) => vec![operation],
        DocumentOperations::Multiple(operations) => operations.values().collect(),
    };
    let mut fields = BTreeSet::new();
    for operation in operations {
        let mutation = operation.node.ty == OperationType::Mutation;
        let mut names = BTreeSet::new();
        expand(document, &operation.node.selection_set.node, &mut names);
        fields.extend(names.into_iter().map(|name| (mutation, name)));
    }
    fields
}

fn expand(document: &ExecutableDocument, set: &SelectionSet, names: &mut BTreeSet<String>) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => {
                names.insert(field.node.name.node.to_string());
            }
            Selection::InlineFragment(fragment) => {
                expand(document, &fragment.node.selection_set.node, names);
            }
            Selection::FragmentSpread(spread) => {
                let fragment = &document.fragments[&spread.node.fragment_name.node];
                expand(document, &fragment.node.selection_set.node, names);
            }
        }
    }
}

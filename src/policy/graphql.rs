//! GraphQL: what one request asks for, however it is written.
//!
//! A permit is asked for each *root field*: the fields of `Query` or `Mutation` themselves. They
//! are found by reading the document as the specification says, with every fragment expanded and
//! every alias seen through. Directives are not looked at: what `@skip` may leave out is judged as
//! if it were there. Where servers are known to differ in what they make of a document it is
//! refused, since the upstream could run another one than was judged.
//!
//! The way of a request: `document` reads the text, `shape` bounds what fragments make of it,
//! `expand` finds the fields, and `arguments` puts the values of variables in their places.

mod arguments;
mod document;
mod expand;
mod fault;
mod rules;
mod shape;

use std::collections::HashMap;

use super::json::Json;

pub use document::Root;
pub use fault::GraphQlFault;
pub use rules::{Asks, GraphQlRules, NamedRule, RulesError};

use arguments::{Budget, Scope};
use document::{Document, Operation};

/// One field of a root type, as often as the document asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootField {
    /// The root type.
    pub root: Root,
    /// The name in the schema; an alias is not looked at.
    pub name: Box<str>,
    /// Its arguments, an object. A variable without a value is absent, an enum value is a text.
    pub arguments: Json,
    /// Names of the fields selected directly below it, in order, each once.
    pub children: Vec<Box<str>>,
    /// Names of the fields anywhere below those, in no order, each once.
    pub deeper: Vec<Box<str>>,
}

impl RootField {
    /// Bytes it holds, roughly.
    pub(super) fn weight(&self) -> usize {
        let names = self.children.iter().chain(&self.deeper);
        let names = names.flat_map(|name| [size_of::<Box<str>>(), name.len()]);
        let own = [size_of::<Self>(), self.name.len(), self.arguments.weight()];
        names.chain(own).fold(0, usize::saturating_add)
    }
}

/// Every root field that the request could make the upstream resolve.
///
/// Where a document has several operations the request must select one; the fields of all of them
/// are given, so that nothing hangs on how the upstream selects.
pub fn root_fields(request: &Json) -> Result<Vec<RootField>, GraphQlFault> {
    let envelope = Envelope::read(request)?;
    let document = Document::parse(envelope.query)?;
    shape::check(&document)?;
    check_selection(&document.operations, envelope.operation)?;
    let mut found = Vec::new();
    let mut budget = Budget::of(envelope.variables);
    for operation in &document.operations {
        let mut scope = Scope::new(operation, envelope.variables, budget)?;
        found.extend(of_operation(&document, operation, &mut scope, found.len())?);
        budget = scope.left();
    }
    Ok(found)
}

/// What GraphQL over HTTP puts around a document.
struct Envelope<'a> {
    query: &'a str,
    variables: Option<&'a Json>,
    operation: Option<&'a str>,
}

impl<'a> Envelope<'a> {
    fn read(request: &'a Json) -> Result<Self, GraphQlFault> {
        let entries = match request {
            Json::Object(entries) => entries,
            Json::List(_) => return Err(GraphQlFault::Batch),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {
                return Err(GraphQlFault::NoRequest);
            }
        };
        let (mut query, mut variables, mut operation) = (None, None, None);
        for (key, value) in entries {
            match (&**key, value) {
                ("query", Json::Text(text)) => query = Some(&**text),
                ("query", _) => return Err(GraphQlFault::NoQuery),
                ("variables" | "operationName", Json::Null) => {}
                ("variables", Json::Object(_)) => variables = Some(value),
                ("variables", _) => return Err(GraphQlFault::Variables),
                ("operationName", Json::Text(text)) => operation = Some(&**text),
                ("operationName", _) => return Err(GraphQlFault::OperationName),
                // A persisted query is run under a hash or an id, in place of `query`.
                (_, _) => return Err(GraphQlFault::UnknownKey),
            }
        }
        Ok(Self {
            query: query.ok_or(GraphQlFault::NoQuery)?,
            variables,
            operation,
        })
    }
}

/// The operations are told apart by their names, and the request selects one that is there.
fn check_selection(operations: &[Operation], selected: Option<&str>) -> Result<(), GraphQlFault> {
    let mut names = Vec::new();
    for operation in operations {
        match &operation.name {
            None if operations.len() > 1 => return Err(GraphQlFault::Unnamed),
            Some(name) if names.contains(&name) => return Err(GraphQlFault::RepeatedOperation),
            Some(name) => names.push(name),
            None => {}
        }
    }
    match selected {
        None if operations.len() > 1 => Err(GraphQlFault::Unselected),
        Some(selected) if !names.iter().any(|name| ***name == *selected) => {
            Err(GraphQlFault::UnknownOperation)
        }
        Some(_) | None => Ok(()),
    }
}

fn of_operation(
    document: &Document,
    operation: &Operation,
    scope: &mut Scope<'_>,
    before: usize,
) -> Result<Vec<RootField>, GraphQlFault> {
    let fields = expand::level(document, &operation.selections);
    if fields.len().saturating_add(before) > fault::MAX_ROOTS {
        return Err(GraphQlFault::TooManyRoots);
    }
    let mut found: Vec<RootField> = Vec::with_capacity(fields.len());
    let mut places = HashMap::new();
    for field in fields {
        let arguments = scope.object(&field.arguments)?;
        // Fields with one key in the response are one field to the upstream, which may take the
        // arguments of the first and what is selected below the second.
        let place = *places.entry(&field.key).or_insert(found.len());
        if let Some(first) = found.get(place)
            && (first.name != field.name || first.arguments != arguments)
        {
            return Err(GraphQlFault::Conflict);
        }
        let below = expand::below(document, field);
        found.push(RootField {
            root: operation.root,
            name: field.name.clone(),
            arguments,
            children: below.children,
            deeper: below.deeper,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

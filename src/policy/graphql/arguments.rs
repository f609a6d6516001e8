//! The arguments of a field, with the values of variables in their places.

use std::collections::HashMap;

use super::document::{Literal, Operation};
use super::fault::GraphQlFault;
use crate::policy::json::Json;

/// Bytes of variables that may be copied whatever their size. Beyond it each variable may be used
/// [`MAX_USES`] times on average; otherwise a short document could make a long list of long values.
const FREE_COPIES: usize = 64 * 1024;
const MAX_USES: usize = 4;

/// Bytes that one request may still have copied, all of its operations together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget(usize);

impl Budget {
    /// That of a request with these variables.
    pub(super) fn of(variables: Option<&Json>) -> Self {
        let total = variables.map_or(0, weight);
        // Once more for the first operation's own copies.
        let uses = total.saturating_mul(MAX_USES).saturating_add(total);
        Self(uses.max(FREE_COPIES))
    }
}

/// The variables that one operation declares.
pub(super) struct Scope<'a> {
    variables: HashMap<&'a str, Variable>,
    /// Bytes that may still be copied.
    budget: usize,
}

struct Variable {
    /// `None` where the request gives none and there is no default.
    value: Option<Json>,
    weight: usize,
}

impl<'a> Scope<'a> {
    /// The values of the request, else the defaults. An explicit null is a value.
    pub(super) fn new(
        operation: &'a Operation,
        values: Option<&Json>,
        budget: Budget,
    ) -> Result<Self, GraphQlFault> {
        let mut given: HashMap<&str, &Json> = match values {
            Some(Json::Object(entries)) => entries.iter().map(|(k, v)| (&**k, v)).collect(),
            Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_))
            | None => HashMap::new(),
        };
        let mut variables = HashMap::new();
        let mut left = budget.0;
        for (name, default) in &operation.variables {
            let value = match (given.remove(&**name), default) {
                (Some(value), _) => Some(value.clone()),
                // The parser lets no variable into a default.
                (None, Some(default)) => constant(default)?,
                (None, None) => None,
            };
            let weight = value.as_ref().map_or(0, weight);
            left = left
                .checked_sub(weight)
                .ok_or(GraphQlFault::TooManyCopies)?;
            variables.insert(&**name, Variable { value, weight });
        }
        Ok(Self {
            variables,
            budget: left,
        })
    }

    /// What is left for the operations behind this one.
    pub(super) fn left(self) -> Budget {
        Budget(self.budget)
    }

    /// The value of arguments or of an input object.
    pub(super) fn object(&mut self, entries: &[(Box<str>, Literal)]) -> Result<Json, GraphQlFault> {
        let mut object = Vec::with_capacity(entries.len());
        for (key, literal) in entries {
            if let Some(value) = self.value(literal)? {
                object.push((key.to_string(), value));
            }
        }
        Ok(Json::Object(object))
    }

    /// `None` for a variable without a value. Recurses at most as deep as documents nest.
    fn value(&mut self, literal: &Literal) -> Result<Option<Json>, GraphQlFault> {
        Ok(Some(match literal {
            Literal::Variable(name) => return self.variable(name),
            Literal::Null => Json::Null,
            Literal::Bool(value) => Json::Bool(*value),
            Literal::Number(number) => Json::Number(number.clone()),
            Literal::Text(text) => Json::Text(text.clone()),
            Literal::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    // A place in a list cannot be left out: it is null.
                    list.push(self.value(item)?.unwrap_or(Json::Null));
                }
                Json::List(list)
            }
            Literal::Object(entries) => self.object(entries)?,
        }))
    }

    fn variable(&mut self, name: &str) -> Result<Option<Json>, GraphQlFault> {
        let variable = self.variables.get(name);
        let variable = variable.ok_or(GraphQlFault::UndeclaredVariable)?;
        let left = self.budget.checked_sub(variable.weight);
        self.budget = left.ok_or(GraphQlFault::TooManyCopies)?;
        Ok(variable.value.clone())
    }
}

/// A default value.
fn constant(literal: &Literal) -> Result<Option<Json>, GraphQlFault> {
    let mut none = Scope {
        variables: HashMap::new(),
        budget: 0,
    };
    none.value(literal)
}

/// About how many bytes a copy takes. Recurses as deep as the JSON that was read.
fn weight(value: &Json) -> usize {
    let inside = match value {
        Json::Null | Json::Bool(_) => 0,
        // Kept in its digits, of which there may be many.
        Json::Number(number) => number.as_str().len(),
        Json::Text(text) => text.len(),
        Json::List(items) => items.iter().map(weight).fold(0, usize::saturating_add),
        Json::Object(entries) => entries
            .iter()
            .map(|(key, value)| key.len().saturating_add(weight(value)))
            .fold(0, usize::saturating_add),
    };
    inside.saturating_add(size_of::<Json>())
}

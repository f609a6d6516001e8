//! Which fields a selection set selects, once its fragments are expanded.
//!
//! Fragments are never copied into each other: one that was walked through at a level adds nothing
//! to that level when it occurs again. So the work for one root field is at most that of reading
//! the document twice, whatever its fragments spread. Nothing here recurses.

use std::collections::HashSet;

use super::document::{Document, Field, Selection};

/// The names of what is selected below a field.
pub(super) struct Below {
    /// Directly.
    pub(super) children: Vec<Box<str>>,
    /// Anywhere below those.
    pub(super) deeper: Vec<Box<str>>,
}

/// The fields of one selection set in the order of the text, fragments expanded.
pub(super) fn level<'d>(document: &'d Document, selections: &'d [Selection]) -> Vec<&'d Field> {
    let mut fields = Vec::new();
    let mut spread = HashSet::new();
    let mut open = vec![selections.iter()];
    while let Some(innermost) = open.last_mut() {
        match innermost.next() {
            None => {
                open.pop();
            }
            Some(Selection::Field(field)) => fields.push(field),
            Some(Selection::Inline(selections)) => open.push(selections.iter()),
            Some(Selection::Spread(index)) => {
                if spread.insert(*index) {
                    open.extend(document.fragments.get(*index).map(|f| f.selections.iter()));
                }
            }
        }
    }
    fields
}

/// What is selected below a field, at every level.
pub(super) fn below(document: &Document, field: &Field) -> Below {
    let direct = level(document, &field.selections);
    let mut open: Vec<_> = direct.iter().map(|field| &field.selections).collect();
    let mut deeper = Vec::new();
    let mut spread = HashSet::new();
    while let Some(selections) = open.pop() {
        for selection in selections {
            match selection {
                Selection::Field(field) => {
                    deeper.push(&field.name);
                    open.push(&field.selections);
                }
                Selection::Inline(selections) => open.push(selections),
                Selection::Spread(index) => {
                    if spread.insert(*index) {
                        open.extend(document.fragments.get(*index).map(|f| &f.selections));
                    }
                }
            }
        }
    }
    Below {
        children: each_once(direct.into_iter().map(|field| &field.name)),
        deeper: each_once(deeper),
    }
}

fn each_once<'d>(names: impl IntoIterator<Item = &'d Box<str>>) -> Vec<Box<str>> {
    let mut seen = HashSet::new();
    let first = names.into_iter().filter(|name| seen.insert(*name));
    first.cloned().collect()
}

//! Policy: what a request asks for, and whether caveats permit it. Pure.
#![deny(clippy::arithmetic_side_effects, clippy::as_conversions)]

mod access;
mod body;
mod clear;
mod graphql;
mod json;
mod name_table;
mod names;
mod rule;
mod scope;

pub use access::{Access, InvalidAccess};
pub use body::{Body, BodyFault, BodyForm, CommandKeys, INPUT_WORD};
pub use clear::{Prohibition, Reason, clear, clear_presence, window};
pub use graphql::{
    Asks, GraphQlFault, GraphQlRules, NamedRule, Root, RootField, RulesError, root_fields,
};
pub use json::{Json, JsonFault, Pointer, TwoSpellings};
pub use name_table::{Holder, NameEntry, NameFault, NameTable};
pub use names::{AppIds, Found, Lookup, LookupKind, Names, Noun, Owner, PERSONAL};
pub use rule::{
    AccessError, AccessTemplate, Accesses, App, Asked, Condition, Each, Field, Fields, Fixed,
    Items, Org, Other, Owned, Place, QueryKeys, Rule, Source, TemplateError, Value,
};
pub use scope::Scope;

//! Policy: what a request asks for, and whether caveats permit it. Pure.
#![deny(clippy::arithmetic_side_effects, clippy::as_conversions)]

mod access;
mod clear;
mod rule;

pub use access::{Access, InvalidAccess};
pub use clear::{Prohibition, Reason, clear, clear_presence, window};
pub use rule::{
    AccessError, AccessTemplate, Accesses, AppIds, Condition, Field, Fields, Fixed, Names, Noun,
    Org, PERSONAL, QueryKeys, Rule, Source, TemplateError, Value,
};

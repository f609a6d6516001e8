//! Policy.
mod access;
mod rule;
pub use access::{Access, InvalidAccess};
pub use rule::{
    AccessError, AccessTemplate, Accesses, AppIds, Condition, Field, Fields, Fixed, Names, Noun,
    Org, PERSONAL, QueryKeys, Rule, Source, TemplateError, Value,
};

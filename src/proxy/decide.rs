//! Who decides. One implementation; the other exists in tests of what comes after the decision.

use std::sync::Arc;

use crate::authz::{Authorizer, Decision, Head, Review};

/// Asks for decisions.
#[derive(Clone, Debug)]
pub(super) enum Decider {
    /// The decision.
    Authorizer(Arc<Authorizer>),
    /// A fixed one.
    #[cfg(test)]
    Test(for<'a> fn(&Head<'a>) -> Decision<'a>),
}

impl Decider {
    pub(super) fn authorize<'a>(&'a self, head: &Head<'a>, now: i64) -> Decision<'a> {
        match self {
            Self::Authorizer(authorizer) => authorizer.authorize(head, now),
            #[cfg(test)]
            Self::Test(decide) => decide(head),
        }
    }

    /// What leases are to be looked at with; `None` where permits have no lease.
    pub(super) fn review(&self, now: i64) -> Option<Review> {
        match self {
            Self::Authorizer(authorizer) => Some(authorizer.review(now)),
            #[cfg(test)]
            Self::Test(_) => None,
        }
    }

    /// Whether decisions can be made; if not, why.
    pub(super) fn ready(&self) -> Result<(), &'static str> {
        match self {
            Self::Authorizer(authorizer) => authorizer.ready(),
            #[cfg(test)]
            Self::Test(_) => Ok(()),
        }
    }
}

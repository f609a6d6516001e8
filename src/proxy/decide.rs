//! Who decides. One implementation; the other exists in tests of what comes after the decision.

use std::sync::Arc;

use http::HeaderMap;

use crate::authz::{Authorizer, Decision, Denial, Head, Review, TokenRef, Waiting};
use crate::policy::{Body, Lookup};

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
    /// What decides, where that is more than a test.
    pub(super) fn authorizer(&self) -> Option<Arc<Authorizer>> {
        match self {
            Self::Authorizer(authorizer) => Some(Arc::clone(authorizer)),
            #[cfg(test)]
            Self::Test(_) => None,
        }
    }

    pub(super) fn authorize<'a>(
        &'a self,
        head: &Head<'a>,
        now: i64,
    ) -> Result<Decision<'a>, Waiting> {
        match self {
            Self::Authorizer(authorizer) => authorizer.authorize(head, now),
            #[cfg(test)]
            Self::Test(decide) => Ok(decide(head)),
        }
    }

    /// Reads a body that the decision asked for.
    pub(super) fn read_body(
        &self,
        route: usize,
        headers: &HeaderMap,
        bytes: &[u8],
    ) -> Result<Body, Denial> {
        match self {
            Self::Authorizer(authorizer) => authorizer.read_body(route, headers, bytes),
            #[cfg(test)]
            Self::Test(_) => Err(Denial::NoRoute),
        }
    }

    /// Whether what a route takes are GraphQL requests.
    pub(super) fn is_graphql(&self, route: usize) -> bool {
        match self {
            Self::Authorizer(authorizer) => authorizer.is_graphql(route),
            #[cfg(test)]
            Self::Test(_) => false,
        }
    }

    /// Has the directory ask about a name that the decision asked for.
    pub(super) async fn resolve(
        &self,
        lookup: &Lookup,
        token: Option<TokenRef>,
    ) -> Result<(), Denial> {
        match self {
            Self::Authorizer(authorizer) => authorizer.resolve(lookup, token).await,
            #[cfg(test)]
            Self::Test(_) => Err(Denial::NoRoute),
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

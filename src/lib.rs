//! usher: an authorizing reverse proxy for APIs whose bearers hold Fly.io-format macaroons.
//!
//! The life of a request, and where each step is:
//!
//! 1. accept a connection, within limits and deadlines: [`proxy`]
//! 2. refuse what can be read two ways: [`route::Target`]
//! 3. match host, method and path to one route: [`route::RouteTable`]
//! 4. read the credentials: [`macaroon::Bundle`]
//! 5. verify the tokens, or find them verified; drop what is revoked or out of its window:
//!    [`macaroon::Verifier`], [`authority`]
//! 6. turn the request into accesses, names into ids: [`policy::Rule`], [`directory`]
//! 7. clear every caveat against each access: [`policy::clear`], which gives an [`authz::Permit`]
//! 8. forward under the permit: [`proxy`]
//!
//! Every other way out is a denial. `ARCHITECTURE.md` has the map and the invariants.

// The pure core.
pub mod macaroon;
pub mod policy;
pub mod route;
// Shared state.
pub mod authority;
pub mod authz;
pub mod clock;
pub mod config;
pub mod directory;
pub mod metrics;
pub mod peer;
// The edge.
pub mod admin;
pub mod cli;
pub mod demo;
pub mod proxy;
pub mod shutdown;

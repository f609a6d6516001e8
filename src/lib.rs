//! usher: an authorizing reverse proxy.

pub mod admin;
pub mod authority;
pub mod authz;
pub mod cli;
pub mod clock;
pub mod config;
pub mod directory;
pub mod macaroon;
pub mod metrics;
pub mod policy;
pub mod proxy;
pub mod route;
pub mod shutdown;

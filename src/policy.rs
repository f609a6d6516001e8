//! Policy: what a request asks for, and whether caveats permit it. Pure.
#![deny(clippy::arithmetic_side_effects, clippy::as_conversions)]

mod access;
mod clear;

pub use access::{Access, InvalidAccess};
pub use clear::{Prohibition, Reason, clear, window};
/// Stub.
#[derive(Debug)]
pub enum Rule {
    /// No credential is asked for.
    Public,
}

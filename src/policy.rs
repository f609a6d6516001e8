//! Policy.
mod access;
pub use access::{Access, InvalidAccess};
/// Stub.
#[derive(Debug)]
pub enum Rule {
    /// No credential is asked for.
    Public,
}

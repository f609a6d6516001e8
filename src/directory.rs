//! directory
/// Stub.
#[derive(Debug)]
pub struct Directory;

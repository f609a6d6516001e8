//! route
/// Stub.
#[derive(Debug)]
pub struct RouteTable;

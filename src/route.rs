//! Routes: which one a request is for, decided from its raw bytes.
//!
//! [`Target`] is the only view of path and query in the crate. It refuses what two servers could
//! read in two ways, decodes nothing and rewrites nothing, so the bytes that were matched are the
//! bytes that are forwarded. [`RouteTable`] finds the route of a target in time that depends on
//! the length of the path, not on the number of routes.

mod destination;
mod host;
mod pattern;
mod table;
mod target;

pub use destination::{Destination, DestinationError, Endpoint};
pub use host::{HostPattern, HostPatternError};
pub use pattern::{Alphabet, Capture, Pattern, PatternError, Segment};
pub use table::{Captures, Overlap, RouteError, RouteMatch, RouteSpec, RouteTable, Shadow};
pub use target::{Query, QueryError, Target, TargetError, is_refused};

//! Where names in requests come by the ids that caveats hold.

use std::sync::Arc;

use crate::policy::NameTable;

/// The sources of the directory, in the order in which they are asked: a name that one of them
/// has is not looked for in the next.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Whether anyone with a usable token may learn that a name is not taken (404). If not, that
    /// is answered like a name of somebody else (403).
    pub public_names: bool,
    /// The names in the configuration itself.
    pub names: Arc<NameTable>,
    /// Whether the names in the store are used.
    pub store: bool,
}

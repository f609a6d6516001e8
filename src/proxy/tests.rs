//! The edge over real sockets, with a decision that is fixed by the path.

mod drain;
mod forward;
mod http2;
mod support;
mod tls;

pub(super) use support::{limits, timeouts};

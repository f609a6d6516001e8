//! usher as a whole, over real sockets: a token goes in, a decision is made, and an upstream that
//! records every byte shows what came of it.
//!
//! The first assertion about every denial is that the upstream saw nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops at what it does not expect, and says what it has counted"
)]

mod assertions;
mod bodies;
mod budget;
mod command;
mod credentials;
mod deploy;
mod directory;
mod failures;
mod faults;
mod fields;
mod floods;
mod forwarding;
mod framing;
mod graphql;
mod grpc;
mod leases;
mod lifecycle;
mod lookups;
mod matrix;
mod mtls;
mod observed;
mod reference;
mod refusals;
mod reload;
mod responses;
mod secrets;
mod shipper;
mod slow;
mod streams;
mod support;
mod third_parties;
mod transport;
mod tunnels;
mod upgrades;

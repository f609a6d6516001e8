//! Any connection to a usher at work: whatever reaches the upstream was sent, was permitted, and
//! is read alike by two readers.
#![no_main]

#[path = "../../tests/readers/both.rs"]
#[expect(
    dead_code,
    reason = "the check of what passes the gate is a target of its own"
)]
mod both;
#[path = "../../tests/readers/edge.rs"]
mod edge;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use usher::config::Oddity;

use self::edge::Edge;

static REFUSING: LazyLock<Edge> = LazyLock::new(|| Edge::start(Oddity::Refuse));
static DROPPING: LazyLock<Edge> = LazyLock::new(|| Edge::start(Oddity::Drop));

// The first byte says which of the two; `@@` stands for a token.
fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((b'-', rest)) => drop(DROPPING.check(rest)),
        Some((_, rest)) => drop(REFUSING.check(rest)),
        None => {}
    }
});

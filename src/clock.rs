//! The wall clock. Everything else takes `now` as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch; negative before it.
pub fn unix_now() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    let now = SystemTime::now();
    let seconds = |elapsed: std::time::Duration| i64::try_from(elapsed.as_secs());
    match now.duration_since(UNIX_EPOCH) {
        Ok(after) => seconds(after).unwrap_or(i64::MAX),
        Err(before) => seconds(before.duration()).map_or(i64::MIN, |s| -s),
    }
}

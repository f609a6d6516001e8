//! Steps of the wall clock.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Authorizer;

/// Remembers the latest second that was seen.
#[derive(Debug)]
pub(super) struct ClockWatch(AtomicI64);

impl ClockWatch {
    /// Nothing was seen yet.
    pub(super) fn new() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    /// By how many seconds the clock has gone back, where that is more than clocks are corrected
    /// by. Told once for a step, to one of those who ask; what was seen before is forgotten then.
    pub(super) fn stepped_back(&self, now: i64) -> Option<i64> {
        let latest = self.0.load(Ordering::Relaxed);
        if now >= latest {
            // Written once a second, read for every request.
            if now > latest {
                self.0.fetch_max(now, Ordering::Relaxed);
            }
            return None;
        }
        let back = latest.saturating_sub(now);
        if back <= MOST_BACK {
            return None;
        }
        let first = self
            .0
            .compare_exchange(latest, now, Ordering::Relaxed, Ordering::Relaxed);
        first.ok().map(|_| back)
    }
}

impl Authorizer {
    /// Forgets what was verified when the wall clock has gone back: until then every time was
    /// wrong, or every time is from now on, and somebody has to look.
    pub(super) fn watch_clock(&self, now: i64) {
        if let Some(seconds) = self.clock.stepped_back(now) {
            self.cache.clear();
            self.metrics.clock_steps.inc();
            tracing::error!(
                seconds,
                "the wall clock went back; verified tokens are forgotten, and their windows are judged by the new time"
            );
        }
    }
}

/// Seconds, inclusive, that the clock may go back without a word. Clocks that are kept in step are
/// slewed; one that was wrong by more has been wrong in every window that was looked at.
const MOST_BACK: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_told_once_and_from_its_first_second_too_many() {
        let watch = ClockWatch::new();
        for (now, told) in [
            (1_000, None),
            (1_005, None),
            (975, None),
            (974, Some(31)),
            (974, None),
            (1_004, None),
            (944, Some(60)),
            // Forwards, by any step, and back in small ones that add up.
            (5_000, None),
            (4_980, None),
            (4_969, Some(31)),
        ] {
            assert_eq!(watch.stepped_back(now), told, "{now}");
        }
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        let watch = ClockWatch::new();
        assert_eq!(watch.stepped_back(i64::MIN), None);
        assert_eq!(watch.stepped_back(i64::MAX), None);
        assert_eq!(watch.stepped_back(i64::MIN), Some(i64::MAX));
    }
}

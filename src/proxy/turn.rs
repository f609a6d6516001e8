//! One reading of the clock for all that a task does in one go.
//!
//! A reading costs as much as a header line, and a request asked for twenty. What deadlines and
//! idle times are measured from may be older by the time one poll of a task takes; what a poll
//! measures of itself (the latency of a decision) is read anew.

use std::cell::Cell;

use tokio::time::Instant;

/// Runs `work` as one turn: [`now`] stays the same in it until the clock is [`read`] again.
pub(super) fn turn<T>(work: impl FnOnce() -> T) -> T {
    let _end = End(TURN.replace(Turn::Begun));
    work()
}

/// The time as of this turn; outside of one, the time.
pub(super) fn now() -> Instant {
    match TURN.get() {
        Turn::Read(now) => now,
        Turn::Outside | Turn::Begun => read(),
    }
}

/// The time, which what follows in this turn takes for the present.
pub(super) fn read() -> Instant {
    let now = Instant::now();
    if TURN.get() != Turn::Outside {
        TURN.set(Turn::Read(now));
    }
    now
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Outside,
    Begun,
    Read(Instant),
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::Outside) };
}

/// Ends a turn however it is left, so that no later one can see its time.
struct End(Turn);

impl Drop for End {
    fn drop(&mut self) {
        TURN.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Spins until the clock has moved.
    fn pass() {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(10) {}
    }

    #[test]
    fn the_time_stands_still_in_a_turn_until_it_is_read_again() {
        turn(|| {
            let first = now();
            pass();
            assert_eq!(now(), first);
            let second = read();
            assert!(second > first);
            pass();
            assert_eq!(now(), second);
        });
    }

    #[test]
    fn no_turn_sees_the_time_of_an_earlier_one() {
        let first = turn(now);
        pass();
        let outside = now();
        assert!(outside > first);
        pass();
        assert!(now() > outside);
        assert!(turn(now) > outside);
        let caught = std::panic::catch_unwind(|| turn(|| -> Instant { panic!("{:?}", now()) }));
        assert!(caught.is_err());
        let after = now();
        pass();
        assert!(now() > after, "a panic ends the turn as well");
    }
}

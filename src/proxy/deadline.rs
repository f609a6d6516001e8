//! A deadline that moves often and is seldom reached.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is armed by the first wait and follows its deadline lazily.
///
/// A deadline that only moves away costs nothing: the timer fires at the old one, finds that it
/// is early, and is armed again. So a connection pays for its timer once a period, not once a request.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready once `due` has passed. Call it only when there is something to wait for.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if due <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn a_deadline_that_moved_away_is_waited_for() {
        run(async {
            let mut deadline = Deadline::default();
            let start = Instant::now();
            let (early, late) = (Duration::from_millis(5), Duration::from_millis(30));
            let armed = poll_fn(|cx| Poll::Ready(deadline.poll(cx, start + early))).await;
            assert!(armed.is_pending());
            poll_fn(|cx| deadline.poll(cx, start + late)).await;
            assert!(start.elapsed() >= late);
        });
    }

    #[test]
    fn a_deadline_that_moved_closer_is_kept() {
        run(async {
            let mut deadline = Deadline::default();
            let start = Instant::now();
            let far = start + Duration::from_hours(1);
            let armed = poll_fn(|cx| Poll::Ready(deadline.poll(cx, far))).await;
            assert!(armed.is_pending());
            poll_fn(|cx| deadline.poll(cx, start + Duration::from_millis(5))).await;
            assert!(start.elapsed() < Duration::from_mins(1));
        });
    }
}

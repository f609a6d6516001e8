//! The log of an app: a line each second when it is polled, two a second when it is followed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio::time::{Interval, interval};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::cli::moment;
use crate::clock;
use crate::demo::platform::App;

/// The lines after a cursor, in nanoseconds of Unix time; without one, the last few.
pub(in crate::demo) fn page(app: &App, after: Option<i64>, now: i64) -> Value {
    let oldest = now.saturating_sub(PAGE);
    let after = after.map_or(oldest, |nanos| (nanos / NANOS).clamp(oldest, now));
    let lines = (after..now).map(|second| second.saturating_add(1));
    let entries: Vec<Value> = lines
        .map(|second| {
            let id = second.saturating_mul(NANOS).to_string();
            json!({ "id": id, "type": "log", "attributes": line(app, second) })
        })
        .collect();
    let next = now.saturating_mul(NANOS).to_string();
    json!({ "data": entries, "meta": { "next_token": next } })
}

/// Lines without end, as they are written.
#[derive(Debug)]
pub(super) struct LogBody {
    app: &'static App,
    pace: Interval,
    drained: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl LogBody {
    /// Ends when `drain` is cancelled.
    pub(super) fn new(app: &'static App, drain: CancellationToken) -> Self {
        Self {
            app,
            pace: interval(PACE),
            drained: Box::pin(drain.cancelled_owned()),
        }
    }
}

impl Body for LogBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.pace.poll_tick(cx).map(|_| {
            let text = format!("{}\n", line(self.app, clock::unix_now()));
            Some(Ok(Frame::data(text.into())))
        })
    }
}

fn line(app: &App, second: i64) -> Value {
    let instance = app.machines.first();
    json!({
        "timestamp": moment(second).to_string(),
        "level": "info",
        "message": format!("{} is well", app.name),
        "instance": instance,
        "region": "ams",
        "meta": { "event": { "provider": "app" }, "instance": instance, "region": "ams" },
    })
}

/// Of a log that is followed.
const PACE: Duration = Duration::from_millis(500);
/// Lines on a page, and seconds that it reaches back.
const PAGE: i64 = 10;
const NANOS: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::platform::APPS;

    const NOW: i64 = 1_764_000_000;

    fn ids(after: Option<i64>) -> Vec<i64> {
        let page = page(&APPS[0], after, NOW);
        assert_eq!(page["meta"]["next_token"], format!("{NOW}000000000"));
        let ids = page["data"].as_array().unwrap().iter();
        ids.map(|line| line["id"].as_str().unwrap().parse::<i64>().unwrap() / NANOS)
            .collect()
    }

    #[test]
    fn pages_follow_one_another() {
        assert_eq!(ids(None), Vec::from_iter(NOW - 9..=NOW));
        assert_eq!(ids(Some((NOW - 2) * NANOS)), [NOW - 1, NOW]);
        for nothing_new in [NOW * NANOS, i64::MAX] {
            assert!(ids(Some(nothing_new)).is_empty());
        }
        assert_eq!(ids(Some(i64::MIN)).len(), 10);
    }
}

//! A permitted request that goes on under its lease, and how its end is told.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use serde::Serialize;

use super::decision::DecisionId;
use super::lease::LeaseWatch;
use super::pulse::Reader;
use super::worker::Worker;
use crate::authz::{LeaseEnd, Permit};

/// What a request is allowed to go on under, from the decision to the end of its response.
#[derive(Debug)]
pub(super) struct Tenure {
    watch: LeaseWatch,
    route: Arc<str>,
    decision: DecisionId,
}

impl Tenure {
    /// A permit without a lease, of a public route, is ended by other rules alone.
    pub(super) fn of(permit: &Permit, decision: &DecisionId, worker: &Worker) -> Self {
        let (lease, route) = (permit.lease(), permit.route());
        let name = worker.routes.get(route).map(|route| &route.name);
        Self {
            watch: worker.leases.watch(lease.cloned(), worker.standing(route)),
            route: Arc::clone(name.unwrap_or(&worker.no_route)),
            decision: *decision,
        }
    }

    /// Ready once the lease has ended.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<LeaseEnd> {
        self.watch.poll_ended(cx)
    }

    /// Why the lease has ended, if it has.
    pub(super) fn ended(&self) -> Option<LeaseEnd> {
        self.watch.ended()
    }

    /// Has the end hurry whoever reads the response.
    pub(super) fn hurries(&self, reader: Reader) {
        self.watch.hurries(reader);
    }

    /// Writes the end down.
    pub(super) fn close(&self, end: LeaseEnd) {
        self.watch.count(&self.route, end);
        tracing::info!(
            decision = self.decision.as_str(),
            route = &*self.route,
            code = end.code(),
            "lease ended"
        );
    }

    /// The last event of an event stream.
    pub(super) fn farewell(&self, end: LeaseEnd) -> Bytes {
        let farewell = Farewell {
            code: end.code(),
            detail: end.sentence(),
            decision: self.decision.as_str(),
        };
        // Serializing strings into memory cannot fail; were it to, the event still names its
        // sender.
        let data = serde_json::to_string(&farewell).unwrap_or_default();
        format!("event: usher\ndata: {data}\n\n").into()
    }
}

#[derive(Serialize)]
struct Farewell<'a> {
    code: &'static str,
    detail: &'static str,
    decision: &'a str,
}

/// Where the bytes of an event stream stand: a last event can be told only between two events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The last bytes that went out, of three the last.
    tail: [u8; 3],
    length: usize,
}

impl Events {
    /// Follows a response if it is an event stream that a last event can be added to: one whose
    /// length is not announced, and that is not compressed.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
        let (kind, rest) = kind.split_at_checked(EVENT_STREAM.len())?;
        let named = kind.eq_ignore_ascii_case(EVENT_STREAM)
            && matches!(rest.first(), None | Some(b';' | b' ' | b'\t'));
        let plain = !headers.contains_key(header::CONTENT_LENGTH)
            && !headers.contains_key(header::CONTENT_ENCODING);
        (named && plain).then(Self::default)
    }

    /// Takes note of bytes that go out.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.tail.len());
        self.tail.rotate_left(kept);
        let last = bytes.iter().rev();
        for (to, byte) in self.tail.iter_mut().rev().zip(last) {
            *to = *byte;
        }
        self.length = (self.length + kept).min(self.tail.len());
    }

    /// Whether no event has begun that is not complete: nothing went out yet, or an empty line
    /// did last. Lines end with CR LF, LF or CR.
    pub(super) fn are_whole(&self) -> bool {
        let tail = self.tail.get(self.tail.len() - self.length..);
        let before = match tail.unwrap_or_default() {
            [] => return true,
            [before @ .., b'\r', b'\n'] | [before @ .., b'\r' | b'\n'] => before,
            [..] => return false,
        };
        matches!(before, [] | [.., b'\r' | b'\n'])
    }
}

const EVENT_STREAM: &[u8] = b"text/event-stream";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn events(parts: &[&str]) -> Events {
        let mut events = Events::default();
        parts.iter().for_each(|part| events.pass(part.as_bytes()));
        events
    }

    #[test]
    fn an_event_is_whole_after_an_empty_line() {
        for whole in [
            &[][..],
            &[""],
            &["data: 1\n\n"],
            &["data: 1\r\n\r\n"],
            &["data: 1\r\r"],
            &["data: 1\n", "\n"],
            &["data: 1\r", "\n\r", "\n"],
            &["data: 1", "\n", "", "\n"],
            &["data: 1\r\n\r"],
            &["data: 1\n\r\n"],
            &["\n"],
            &["\r\n"],
            &[": hello\n\n", "data: 1\n\n"],
        ] {
            assert!(events(whole).are_whole(), "{whole:?}");
        }
    }

    #[test]
    fn an_event_that_has_begun_is_not_whole() {
        for part in [
            &["d"][..],
            &["data: 1"],
            &["data: 1\n"],
            &["data: 1\r\n"],
            &["data: 1\r", "\n"],
            &["data: 1\n\n", "d"],
            &["data: 1\n\n", "id: 2\n"],
            &["data: 1\n\n", "data: two\nda", "ta: three\r\n"],
        ] {
            assert!(!events(part).are_whole(), "{part:?}");
        }
    }

    #[test]
    fn only_a_plain_event_stream_of_unknown_length_takes_another_event() {
        let of = |lines: &[(&'static str, &'static str)]| {
            let lines = lines.iter().map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            Events::of(&lines.collect()).is_some()
        };
        assert!(of(&[("content-type", "text/event-stream")]));
        assert!(of(&[("content-type", "Text/Event-Stream;charset=utf-8")]));
        assert!(!of(&[]));
        assert!(!of(&[("content-type", "text/event-streams")]));
        assert!(!of(&[("content-type", "text/event")]));
        assert!(!of(&[("content-type", "application/x-ndjson")]));
        for (name, value) in [("content-length", "99"), ("content-encoding", "gzip")] {
            assert!(!of(&[("content-type", "text/event-stream"), (name, value)]));
        }
    }
}

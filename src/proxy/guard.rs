//! The gate at work: what it lets pass to hyper, what is kept back, and what becomes of the rest.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncWrite, ReadBuf};

use super::gate::{Checked, Gate, Refusal};
use super::pulse::{self, Pulse};
use super::respond::Answer;
use super::worker::Post;
use crate::clock;

/// Stands between the socket of one HTTP/1.1 connection and its reader.
#[derive(Debug)]
pub(super) struct Guard {
    post: Rc<Post>,
    gate: Gate,
    /// Bytes that have come and were not handed on yet.
    kept: Vec<u8>,
    /// So many of them may be.
    passed: usize,
    end: End,
}

/// Whether, and how, the connection ends before its client ends it.
#[derive(Debug)]
enum End {
    /// It goes on.
    Open,
    /// In the middle of a body. Whoever reads that learns that it broke off.
    InBody,
    /// Behind the responses that are under way, with an answer.
    Ahead { answer: Bytes, discarded: usize },
    /// The reader has learned of the end, and the rest of the answer is to be written.
    Answering(Bytes),
}

impl Guard {
    pub(super) fn new(post: Rc<Post>) -> Self {
        Self {
            gate: Gate::new(&post.worker().limits),
            post,
            kept: Vec::new(),
            passed: 0,
            end: End::Open,
        }
    }

    /// Reads from `source` what passes. Reading nothing is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
        pulse: &Pulse,
        mut source: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        loop {
            if self.passed > 0 {
                self.hand_on(to);
                return Poll::Ready(Ok(()));
            }
            let settled = pulse.is_settled(self.gate.heads());
            match &mut self.end {
                End::Open if self.gate.is_held() && settled => {
                    if !self.gate.resume() {
                        return Poll::Ready(Ok(()));
                    }
                    self.look_again(pulse);
                    continue;
                }
                End::Open => {}
                End::Ahead { answer, .. } if settled => {
                    self.end = End::Answering(std::mem::take(answer));
                    return Poll::Ready(Ok(()));
                }
                End::InBody | End::Answering(_) => return Poll::Ready(Ok(())),
                End::Ahead { .. } => {}
            }
            if self.is_full() {
                pulse.wake_when_settled(cx);
                return Poll::Pending;
            }
            match source(cx, to) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => {
                    if self.gate.is_held() || matches!(self.end, End::Ahead { .. }) {
                        pulse.wake_when_settled(cx);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
            let came = to.filled().get(before..).unwrap_or_default();
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = self.take(came, pulse);
            to.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Checks bytes that have come. So many of them may be read right away; the others are kept.
    fn take(&mut self, came: &[u8], pulse: &Pulse) -> usize {
        if let End::Ahead { discarded, .. } = &mut self.end {
            *discarded += came.len();
            return 0;
        }
        if !self.kept.is_empty() {
            self.kept.extend_from_slice(came);
            self.look_again(pulse);
            return 0;
        }
        let checked = self.gate.check(came);
        self.kept
            .extend_from_slice(came.get(checked.passed..).unwrap_or_default());
        if let Some(refusal) = checked.fault {
            self.refuse(refusal, pulse);
        }
        checked.passed
    }

    /// Checks what is kept.
    fn look_again(&mut self, pulse: &Pulse) {
        let Checked { passed, fault } = self.gate.check(&self.kept);
        self.passed = passed;
        if let Some(refusal) = fault {
            self.refuse(refusal, pulse);
        }
    }

    fn hand_on(&mut self, to: &mut ReadBuf<'_>) {
        let count = self.passed.min(to.remaining());
        to.put_slice(self.kept.get(..count).unwrap_or_default());
        self.passed -= count;
        self.kept.drain(..count);
        if self.kept.is_empty() {
            self.kept = Vec::new();
        }
    }

    /// Whether no more is read before something is handed on: the client of a tunnel, or one that
    /// was refused, would fill the memory.
    fn is_full(&self) -> bool {
        match &self.end {
            End::Ahead { discarded, .. } => *discarded >= DISCARDED_BYTES,
            End::Open => self.gate.is_held() && self.kept.len() >= HELD_BYTES,
            End::InBody | End::Answering(_) => false,
        }
    }

    /// Nothing passes any more. The refusal is recorded, and answered unless a request is under
    /// way whose own answer tells of it.
    fn refuse(&mut self, refusal: Refusal, pulse: &Pulse) {
        // Its client is likely to be still sending.
        pulse.answered_early();
        self.kept.truncate(self.passed);
        let code = refusal.code();
        let reason = refusal.to_string();
        let worker = self.post.worker();
        worker.metrics.denied(&worker.no_route, code.as_str());
        if self.gate.is_in_body() {
            tracing::info!(code = code.as_str(), reason, "request body refused");
            self.end = End::InBody;
            return;
        }
        let id = worker.ids.next();
        tracing::info!(
            verdict = "deny",
            code = code.as_str(),
            reason,
            decision = id.as_str(),
            "request decided"
        );
        let answer = Answer::new(code, reason).closing();
        let answer = answer.into_bytes(&id, clock::unix_now());
        self.end = End::Ahead {
            answer,
            discarded: 0,
        };
    }

    /// The connection speaks another protocol from here on: everything that came passes.
    pub(super) fn release(&mut self) {
        self.gate.release();
        self.passed = self.kept.len();
    }

    /// Writes the answer to what was refused, if the reader was told of the end because of it.
    pub(super) fn poll_answer<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if let End::Answering(answer) = &mut self.end {
            return pulse::write_all(answer, to, cx);
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes that are kept for a tunnel before it is open, or for after an upgrade that is refused.
const HELD_BYTES: usize = 64 * 1024;
/// Bytes that are read and forgotten behind a refusal, while responses before it are under way.
const DISCARDED_BYTES: usize = 4 * 1024 * 1024;

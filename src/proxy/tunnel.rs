//! Connections that have left HTTP: bytes in both directions, under the lease of their permit.
//!
//! A tunnel runs in the task of the connection that it began on, and ends with either side, with
//! its lease, after silence, or with the drain.

mod flow;
mod frames;
mod messages;
mod open;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

pub(super) use self::open::open;

use self::flow::Flow;
use self::frames::Frames;
use self::messages::Messages;
use super::deadline::Deadline;
use super::decision::DecisionId;
use super::pulse::Downstream;
use super::socket::Socket;
use super::tenure::Tenure;
use super::turn::{self, turn};
use super::worker::Post;
use crate::authz::LeaseEnd;

/// What a connection goes on as, once the response that says so is written.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) upstream: Socket,
    /// What the upstream sent right behind its response.
    pub(super) ahead: Bytes,
    pub(super) speech: Speech,
    pub(super) tenure: Option<Tenure>,
    pub(super) route: Arc<str>,
    pub(super) decision: DecisionId,
    /// Counts the connection to the upstream among those of its server.
    pub(super) counted: Option<Rc<()>>,
}

/// What is spoken with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// Whatever it is, it is passed on.
    Raw,
    /// WebSocket between client and upstream.
    Frames,
    /// WebSocket between client and usher; the upstream gets what is in the messages.
    Messages,
}

/// Why a tunnel ended.
#[derive(Debug, Error)]
enum End {
    /// Both sides have ended.
    #[error("both sides have ended")]
    Done,
    /// One side broke off.
    #[error("a side broke off")]
    Broken(#[source] io::Error),
    /// The client does not keep to the protocol.
    #[error("the client sent what is no binary message: {0}")]
    Protocol(&'static str),
    /// The token has ended, and the permit with it.
    #[error("{}", .0.sentence())]
    Lease(LeaseEnd),
    /// Nothing moved for as long as the idle deadline of streams.
    #[error("nothing moved in time")]
    Idle,
    /// The drain is almost over.
    #[error("usher is shutting down")]
    Drained,
}

impl End {
    /// The stable name, in the log and in close frames.
    fn code(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Broken(_) => "broken",
            Self::Protocol(_) => "protocol",
            Self::Lease(end) => end.code(),
            Self::Idle => "idle",
            Self::Drained => "drained",
        }
    }

    /// The code of a close frame (RFC 6455 7.4.1).
    fn close_code(&self) -> u16 {
        match self {
            Self::Done => 1000,
            Self::Idle | Self::Drained => 1001,
            Self::Protocol(_) => 1003,
            Self::Lease(_) => 1008,
            Self::Broken(_) => 1011,
        }
    }
}

/// Carries what a connection has become, to its end. `read` is what the client sent behind its
/// request.
pub(super) async fn run(switch: Switch, downstream: Downstream, read: Bytes, post: &Post) {
    let mut downstream = downstream;
    downstream.release();
    let Switch {
        upstream,
        ahead,
        speech,
        tenure,
        route,
        decision,
        counted,
    } = switch;
    let log = |end: &End, up: u64, down: u64| {
        if let (End::Lease(end), Some(tenure)) = (end, &tenure) {
            tenure.close(*end);
        }
        tracing::info!(
            decision = decision.as_str(),
            route = &*route,
            code = end.code(),
            error = std::error::Error::source(end),
            sent = up,
            received = down,
            "tunnel ended"
        );
    };
    let mut downstream = match speech {
        Speech::Raw | Speech::Frames => {
            let mut relay = Relay {
                up: Flow::new(&read),
                down: Flow::new(&ahead),
                frames: (speech == Speech::Frames).then(Frames::default),
                downstream,
                upstream,
            };
            let end = watch(&mut relay, tenure.as_ref(), post).await;
            log(&end, relay.up.bytes, relay.down.bytes);
            if !matches!(end, End::Done | End::Broken(_)) {
                relay.part(&end).await;
            }
            relay.downstream
        }
        Speech::Messages => {
            let mut messages = Messages::begin(downstream, &read, upstream).await;
            let end = watch(&mut messages, tenure.as_ref(), post).await;
            log(&end, messages.sent, messages.received);
            messages.part(&end).await
        }
    };
    drop(counted);
    if let Err(error) = downstream.end().await {
        tracing::debug!(%error, "connection ended");
    }
}

/// Bytes on their way in both directions.
trait Traffic {
    /// Moves what can be moved. Ready when there is nothing left to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End>;
    /// When something moved last.
    fn moved(&self) -> Instant;
}

/// Lets the traffic go on until its end, or until there is a reason to end it.
async fn watch(traffic: &mut impl Traffic, tenure: Option<&Tenure>, post: &Post) -> End {
    let mut drained = std::pin::pin!(post.drain.cancelled());
    let mut deadline = Deadline::default();
    let mut drain_by = None;
    let mut registered = false;
    let mut advance = |cx: &mut Context<'_>| {
        // Before anything moves: nothing does any more under a lease that has ended.
        if let Some(Poll::Ready(end)) = tenure.map(|tenure| tenure.poll_ended(cx)) {
            return Poll::Ready(End::Lease(end));
        }
        if let Poll::Ready(end) = traffic.poll(cx) {
            return Poll::Ready(end);
        }
        // The waker of a task never changes, so one registration is enough.
        if drain_by.is_none()
            && (post.drain.is_cancelled() || !registered)
            && drained.as_mut().poll(cx).is_ready()
        {
            let allowed = post
                .timed(|timeouts| timeouts.drain)
                .saturating_sub(PARTING);
            drain_by = Some(turn::now() + allowed);
        }
        registered = true;
        let idle_by = traffic.moved() + post.timed(|timeouts| timeouts.stream_idle);
        let due = drain_by.map_or(idle_by, |drain_by| idle_by.min(drain_by));
        deadline.poll(cx, due).map(|()| match due == idle_by {
            true => End::Idle,
            false => End::Drained,
        })
    };
    poll_fn(|cx| turn(|| advance(cx))).await
}

/// A tunnel that passes on what it does not look into.
struct Relay {
    downstream: Downstream,
    upstream: Socket,
    up: Flow,
    down: Flow,
    /// Of the upstream, where it speaks WebSocket.
    frames: Option<Frames>,
}

impl Traffic for Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self {
            downstream,
            upstream,
            up,
            down,
            frames,
        } = self;
        let sent = up.poll(cx, downstream, upstream, |_| {});
        let received = down.poll(cx, upstream, downstream, |bytes| {
            if let Some(frames) = frames {
                frames.pass(bytes);
            }
        });
        match (sent, received) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                Poll::Ready(End::Broken(error))
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Done),
            (Poll::Ready(Ok(())) | Poll::Pending, _) => Poll::Pending,
        }
    }

    fn moved(&self) -> Instant {
        self.up.moved.max(self.down.moved)
    }
}

impl Relay {
    /// Tells a WebSocket client why the tunnel ends, in a frame of its own: what the upstream has
    /// begun to say is passed on up to the end of its frame, if that comes soon.
    async fn part(&mut self, end: &End) {
        if self.frames.is_none() {
            return;
        }
        match timeout(PARTING, self.close(end)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "no close frame could be sent"),
            Err(_elapsed) => tracing::debug!("no close frame could be sent in time"),
        }
    }

    async fn close(&mut self, end: &End) -> io::Result<()> {
        let mut kept = self.down.take_kept();
        while let Some(frames) = &mut self.frames
            && !frames.are_whole()
        {
            if kept.is_empty() {
                let mut buffer = [0; 4096];
                let read = tokio::io::AsyncReadExt::read(&mut self.upstream, &mut buffer).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
            }
            let step = frames.rest_of(&kept);
            let part: Vec<u8> = kept.drain(..step).collect();
            self.downstream.write_all(&part).await?;
            frames.pass(&part);
        }
        if self
            .frames
            .as_ref()
            .is_some_and(|frames| !frames.are_closed())
        {
            let close = frames::close(end.close_code(), end.code());
            self.downstream.write_all(&close).await?;
        }
        self.downstream.flush().await
    }
}

/// How long the end of a tunnel may take to be told: with the half second that it takes to be
/// noticed, less than a second.
const PARTING: Duration = Duration::from_millis(400);

//! One HTTP/1.1 connection to an upstream, driven by the request that uses it.
//!
//! usher speaks this side itself, since a request crosses it once and nothing else does: no task of
//! its own, no channel, one buffer for each direction. Whatever ends the request (its client gone,
//! a deadline) ends the connection too. What an upstream says is read in one way or not at all: a
//! response whose end can be found in two places is none.

mod coding;
mod outgoing;
mod response;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::{Frame, SizeHint};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use self::coding::{Next, Rest};
use self::outgoing::Outgoing;
use super::body::{RequestBody, Stage, Upload, UploadError};
use super::deadline::Deadline;
use super::forward::{Broken, ForwardError};
use super::gate::Refusal;
use super::marks::Marks;
use super::socket::Socket;
use super::tenure::Tenure;
use crate::config::Timeouts;

/// A connection that serves one request at a time. Dropping it closes it.
pub(super) struct Http1 {
    socket: Socket,
    outgoing: Outgoing,
    /// What has been read and not been taken.
    read: BytesMut,
    /// What the next read has room for.
    room: usize,
    rest: Rest,
    /// The server keeps the connection open, and HTTP on it.
    keeps: bool,
    /// How much of it is known not to hold the end of a head.
    searched: usize,
    /// More was read at once than a parked connection keeps room for.
    large: bool,
    /// Heads that were not the last one of the response.
    interim: u8,
    /// Why the rest of a request could not be written. The response may be there all the same.
    unwritten: Option<io::Error>,
    deadline: Deadline,
    /// Counts the connection among those of its server.
    counted: Rc<()>,
    /// What TLS was begun with.
    begun: Option<Arc<ClientConfig>>,
}

/// A connection that speaks another protocol from here on.
#[derive(Debug)]
pub(super) struct Switched {
    pub(super) socket: Socket,
    /// What the server has sent in that protocol already.
    pub(super) ahead: Bytes,
    /// Still counts the connection among those of its server.
    pub(super) counted: Rc<()>,
}

/// What became of a request that was to be sent.
#[derive(Debug)]
pub(super) enum Sending<T> {
    /// Its response has begun.
    Answered(Response<T>),
    /// No byte of it was written: the connection had died before.
    Unsent(Box<Request<RequestBody>>),
    /// It may have been read.
    Failed(ForwardError),
}

/// Why an exchange on a connection cannot go on.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The server closed it.
    #[error("the server closed the connection before the end of its response")]
    Closed,
    /// Not the head of an HTTP/1 response.
    #[error("the response head cannot be read")]
    Syntax(#[source] httparse::Error),
    /// A head that two readers would read differently.
    #[error("the response head is malformed: {0}")]
    Head(&'static str),
    /// A body of chunks that is none.
    #[error("the response body is malformed: {0}")]
    Chunks(Refusal),
    /// The request body broke off.
    #[error("the request body broke off")]
    Upload(#[source] UploadError),
    /// The request body is not as long as its head says.
    #[error("the request body is not as long as its Content-Length")]
    Length,
}

impl Http1 {
    pub(super) fn new(socket: Socket, begun: Option<Arc<ClientConfig>>, counted: Rc<()>) -> Self {
        Self {
            socket,
            outgoing: Outgoing::default(),
            read: BytesMut::new(),
            room: LEAST_READ,
            rest: Rest::Over,
            keeps: true,
            searched: 0,
            large: false,
            interim: 0,
            unwritten: None,
            deadline: Deadline::default(),
            counted,
            begun,
        }
    }

    /// What TLS was begun with.
    pub(super) fn begun(&self) -> Option<&Arc<ClientConfig>> {
        self.begun.as_ref()
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        &mut self,
        request: Box<Request<RequestBody>>,
        host: &HeaderValue,
        marks: &Marks,
        sent: Instant,
        timeouts: &Timeouts,
        tenure: Option<&Tenure>,
    ) -> Sending<()> {
        // What has come before the request cannot be its answer.
        if !self.is_silent() {
            return Sending::Unsent(request);
        }
        let upload = request.body().upload();
        let head_only = *request.method() == Method::HEAD;
        if let Err(fault) = self.outgoing.begin(request, host, marks) {
            return Sending::Failed(failure(fault, upload.as_ref()));
        }
        self.keeps = false;
        self.searched = 0;
        self.interim = 0;
        let outcome = poll_fn(|cx| {
            if let Some(end) = tenure.and_then(Tenure::ended) {
                return Poll::Ready(Err(ForwardError::LeaseEnded(end)));
            }
            match self.poll_head(head_only, cx) {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                Poll::Pending => {
                    let upload = upload.as_ref();
                    let deadline = &mut self.deadline;
                    poll_head_limits(deadline, upload, sent, timeouts, tenure, cx).map(Err)
                }
            }
        })
        .await;
        match outcome {
            Ok(Ok(response)) => Sending::Answered(response),
            Ok(Err(fault)) => match self.outgoing.take_back() {
                Some(request) => Sending::Unsent(request),
                None => Sending::Failed(failure(fault, upload.as_ref())),
            },
            Err(late) => Sending::Failed(late),
        }
    }

    /// Writes what there is of the request, and reads until there is the head of a response.
    fn poll_head(
        &mut self,
        head_only: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, Fault>> {
        self.advance(cx)?;
        loop {
            while let Some(head) = response::take(&mut self.read, &mut self.searched, head_only)? {
                // Nothing but the last head is passed on: what the others are for, usher does by
                // itself (100) or without (RFC 9110 15.2).
                if head.is_interim() {
                    self.interim += 1;
                    if self.interim >= MOST_INTERIM {
                        return Poll::Ready(Err(Fault::Head("there is no end of interim ones")));
                    }
                    continue;
                }
                self.rest = head.rest;
                self.keeps = head.keeps;
                return Poll::Ready(Ok(head.response));
            }
            if ready!(self.poll_read(cx))? == 0 || !self.outgoing.is_begun() {
                return Poll::Ready(Err(self.closed()));
            }
        }
    }

    /// The next part of the response.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.advance(cx)?;
        loop {
            match self.rest.next(&mut self.read)? {
                Next::Part(part) => return Poll::Ready(Some(Ok(part))),
                Next::Over => return Poll::Ready(None),
                Next::Unread => {}
            }
            if ready!(self.poll_read(cx))? == 0 && !self.rest.end() {
                return Poll::Ready(Some(Err(self.closed())));
            }
        }
    }

    /// Whether nothing of the response is left.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.rest, Rest::Over)
    }

    /// How much of the response is left.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }

    /// What a connection is whose server has switched; `None` as long as HTTP goes on on it.
    pub(super) fn into_switched(self) -> Option<Switched> {
        let ended = self.outgoing.is_sent() && matches!(self.rest, Rest::Switched);
        ended.then(|| Switched {
            socket: self.socket,
            ahead: self.read.freeze(),
            counted: self.counted,
        })
    }

    /// The timer of this connection, armed by whoever waits on it.
    pub(super) fn deadline(&mut self) -> &mut Deadline {
        &mut self.deadline
    }

    /// Whether another request may use it: its request is sent, its response read, and nothing
    /// else has come with that.
    pub(super) fn rest(&mut self) -> bool {
        if !(self.keeps && self.is_over() && self.outgoing.is_sent() && self.read.is_empty()) {
            return false;
        }
        // Many may be parked.
        if self.large {
            self.large = false;
            self.room = LEAST_READ;
            self.read = BytesMut::new();
        }
        self.outgoing.rest();
        true
    }

    /// Whether nothing has come since, not even the end, as far as the runtime knows. To ask the
    /// kernel would cost a twentieth of a request and change little: what comes unasked a moment
    /// later, when the next request is under way, nobody can tell from its answer.
    pub(super) fn is_silent(&mut self) -> bool {
        let mut idle = Context::from_waker(Waker::noop());
        self.make_room();
        // `unconstrained`, since a task that has spent its budget would find silence everywhere.
        let read = pin!(unconstrained(self.socket.read_buf(&mut self.read)));
        read.poll(&mut idle).is_pending() && self.read.is_empty()
    }

    /// Writes what there is of the request. That it cannot be written is not the end: a server
    /// that has refused it may have said so before it closed.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if let Poll::Ready(Err(fault)) = self.outgoing.poll(&mut self.socket, cx) {
            let Fault::Io(error) = fault else {
                return Err(fault);
            };
            if !self.outgoing.is_begun() {
                return Err(Fault::Io(error));
            }
            self.outgoing.stop();
            self.unwritten = Some(error);
        }
        Ok(())
    }

    fn closed(&mut self) -> Fault {
        self.unwritten.take().map_or(Fault::Closed, Fault::Io)
    }

    /// Reads what there is; zero at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Fault>> {
        let room = self.make_room();
        let count = ready!(pin!(self.socket.read_buf(&mut self.read)).poll(cx));
        let count = count.map_err(|error| self.unwritten.take().unwrap_or(error));
        let count = count.map_err(Fault::Io)?;
        if count == room {
            self.room = self.room.saturating_mul(2).min(MOST_READ);
        }
        Poll::Ready(Ok(count))
    }

    /// Makes room for a read, mostly that of what was read before. Says how much there is.
    fn make_room(&mut self) -> usize {
        let room = |read: &BytesMut| read.capacity() - read.len();
        if room(&self.read) < self.room / 2 {
            self.read.reserve(self.room);
            self.large |= self.read.capacity() > 2 * LEAST_READ;
        }
        room(&self.read)
    }
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was read and what is to be written are a client's business.
        f.debug_struct("Http1")
            .field("rest", &self.rest)
            .field("keeps", &self.keeps)
            .finish_non_exhaustive()
    }
}

/// Ready with the reason when the head of a response comes too late.
///
/// While the request body is on its way its own progress counts, afterwards the upstream's
/// deadline; and the lease of the request all the time.
pub(super) fn poll_head_limits(
    deadline: &mut Deadline,
    upload: Option<&Rc<Upload>>,
    sent: Instant,
    timeouts: &Timeouts,
    tenure: Option<&Tenure>,
    cx: &mut Context<'_>,
) -> Poll<ForwardError> {
    if let Some(Poll::Ready(end)) = tenure.map(|tenure| tenure.poll_ended(cx)) {
        return Poll::Ready(ForwardError::LeaseEnded(end));
    }
    let (due, error) = match upload {
        None => (sent + timeouts.response_head, ForwardError::Late),
        Some(upload) => match upload.stage() {
            Stage::Ended => (upload.moved() + timeouts.response_head, ForwardError::Late),
            Stage::Sending => (upload.moved() + timeouts.idle, ForwardError::Late),
            Stage::Waiting => (upload.moved() + timeouts.idle, ForwardError::BodyLate),
            Stage::Broken => return Poll::Ready(ForwardError::BodyBroken),
            Stage::Withdrawn(end) => return Poll::Ready(ForwardError::LeaseEnded(end)),
        },
    };
    ready!(deadline.poll(cx, due));
    Poll::Ready(error)
}

/// Whose fault it is that no response came.
pub(super) fn failure(error: impl Into<Broken>, upload: Option<&Rc<Upload>>) -> ForwardError {
    match upload.map(|upload| upload.stage()) {
        Some(Stage::Broken) => ForwardError::BodyBroken,
        Some(Stage::Withdrawn(end)) => ForwardError::LeaseEnded(end),
        Some(Stage::Sending | Stage::Waiting | Stage::Ended) | None => {
            ForwardError::Failed(error.into())
        }
    }
}

/// Interim responses to one request. A server that reports progress sends one every few seconds.
const MOST_INTERIM: u8 = 100;

/// What one read has room for at first, and what a parked connection keeps.
const LEAST_READ: usize = 8 * 1024;

/// What is read ahead of a response while its client reads nothing, and a bound on its head, which
/// may be exceeded by one read. A client may have a thousand connections.
const MOST_READ: usize = 64 * 1024;

#[cfg(test)]
mod tests;

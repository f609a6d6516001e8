//! One HTTP/1.1 connection to an upstream, driven by the request that uses it.
//!
//! hyper expects a task of its own for each connection. Here the request's task polls the
//! connection before it polls what the connection produces: that saves two task switches a
//! request, and whatever ends the request (its client gone, a deadline) ends the connection too.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::body::{RequestBody, Stage, Upload};
use super::deadline::Deadline;
use super::forward::ForwardError;
use super::socket::Socket;
use super::tenure::Tenure;
use crate::config::Timeouts;

/// A connection that serves one request at a time. Dropping it closes it.
pub(super) struct Http1 {
    sender: SendRequest<RequestBody>,
    connection: Driven,
    deadline: Deadline,
    /// Counts the connection among those of its server.
    counted: Rc<()>,
    /// What TLS was begun with.
    begun: Option<Arc<ClientConfig>>,
}

/// What is polled.
struct Driven {
    /// The connection, until it has ended; or after that, where its socket goes on as another
    /// protocol.
    connection: Option<Box<Connection<TokioIo<Socket>, RequestBody>>>,
    /// It is kept after its end.
    keeps: bool,
    ended: bool,
    /// The last poll left no waker behind.
    silent: bool,
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
pub(super) enum Sending {
    /// Its response has begun.
    Answered(Response<Incoming>),
    /// No byte of it was written: the connection had died before.
    Unsent(Box<Request<RequestBody>>),
    /// It may have been read.
    Failed(ForwardError),
}

impl Http1 {
    pub(super) async fn new(
        socket: Socket,
        begun: Option<Arc<ClientConfig>>,
        counted: Rc<()>,
    ) -> Result<Self, hyper::Error> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BYTES)
            .handshake(TokioIo::new(socket))
            .await?;
        Ok(Self {
            sender,
            connection: Driven {
                connection: Some(Box::new(connection)),
                keeps: false,
                ended: false,
                silent: false,
            },
            deadline: Deadline::default(),
            counted,
            begun,
        })
    }

    /// What TLS was begun with.
    pub(super) fn begun(&self) -> Option<&Arc<ClientConfig>> {
        self.begun.as_ref()
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        &mut self,
        request: Box<Request<RequestBody>>,
        sent: Instant,
        timeouts: &Timeouts,
        tenure: Option<&Tenure>,
    ) -> Sending {
        let upload = request.body().upload();
        let mut head = pin!(unconstrained(self.sender.try_send_request(*request)));
        let (connection, deadline) = (&mut self.connection, &mut self.deadline);
        let mut written = false;
        let outcome = poll_fn(|cx| {
            if let Some(end) = tenure.and_then(Tenure::ended) {
                return Poll::Ready(Err(ForwardError::LeaseEnded(end)));
            }
            // `unconstrained` since a spent budget would want a waker.
            let poll_head = |idle: &mut Context<'_>| head.as_mut().poll(idle);
            // The first time there is only something to write, and nothing to read yet.
            let first = !std::mem::replace(&mut written, true);
            match poll_driven(connection, cx, first, poll_head) {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                Poll::Pending => {
                    let upload = upload.as_ref();
                    poll_head_limits(deadline, upload, sent, timeouts, tenure, cx).map(Err)
                }
            }
        })
        .await;
        match outcome {
            Ok(Ok(response)) => Sending::Answered(response),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => Sending::Unsent(Box::new(request)),
                None => Sending::Failed(failure(error.into_error(), upload.as_ref())),
            },
            Err(late) => Sending::Failed(late),
        }
    }

    /// Allows the server to switch to another protocol with its response to the next request.
    pub(super) fn may_switch(&mut self) {
        self.connection.keeps = true;
    }

    /// What a connection is whose server has switched; `None` if HTTP did not end with that.
    pub(super) fn into_switched(self) -> Option<Switched> {
        let Driven {
            connection, ended, ..
        } = self.connection;
        let parts = connection.filter(|_| ended)?.into_parts();
        Some(Switched {
            socket: parts.io.into_inner(),
            ahead: parts.read_buf,
            counted: self.counted,
        })
    }

    /// The next part of the response.
    pub(super) fn poll_body(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let idle = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(idle) {
            return Poll::Ready(frame);
        }
        let poll_frame = |idle: &mut Context<'_>| Pin::new(&mut *incoming).poll_frame(idle);
        poll_driven(&mut self.connection, cx, false, poll_frame)
    }

    /// The timer of this connection, armed by whoever waits on it.
    pub(super) fn deadline(&mut self) -> &mut Deadline {
        &mut self.deadline
    }

    /// Lets go of the task that used the connection, and says whether another may use it: its
    /// request is sent, its response read, and nothing else has come.
    pub(super) fn rest(&mut self) -> bool {
        self.connection.keeps = false;
        // A connection that wants another request has looked for more of the last response after
        // its end; most are that far once they have handed out the last part, and need no poll.
        // The next time they do: what comes meanwhile has to be noticed.
        if !std::mem::take(&mut self.connection.silent) || !self.sender.is_ready() {
            let idle = &mut Context::from_waker(Waker::noop());
            drive(&mut self.connection, idle);
        }
        self.connection.is_open() && self.sender.is_ready()
    }
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1")
            .field("open", &self.connection.is_open())
            .finish_non_exhaustive()
    }
}

/// Polls the connection, then what it produces.
///
/// Only the connection, polled just now, can complete that, so it needs no waker. Neither does
/// the connection as long as there is something to hand out: one that it kept would be woken
/// when that is taken, and have this task polled once more for nothing. `wait` says that there
/// can be nothing yet.
fn poll_driven<T>(
    driven: &mut Driven,
    cx: &mut Context<'_>,
    wait: bool,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let idle = &mut Context::from_waker(Waker::noop());
    if !wait {
        drive(driven, idle);
        if let Poll::Ready(output) = poll(idle) {
            driven.silent = true;
            return Poll::Ready(output);
        }
    }
    driven.silent = false;
    drive(driven, cx);
    let polled = poll(idle);
    if polled.is_pending() && driven.ended {
        // Nothing was switched, so it is dropped after all.
        driven.connection = None;
        return poll(idle);
    }
    polled
}

/// Polls the connection, and drops it when it is done: that hands out an unsent request and ends
/// a body that will not be completed.
fn drive(driven: &mut Driven, cx: &mut Context<'_>) {
    if let Some(connection) = driven.connection.as_mut().filter(|_| !driven.ended)
        && let Poll::Ready(outcome) = Pin::new(connection).poll(cx)
    {
        driven.ended = true;
        if !driven.keeps || outcome.is_err() {
            driven.connection = None;
        }
    }
}

impl Driven {
    fn is_open(&self) -> bool {
        self.connection.is_some() && !self.ended
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
pub(super) fn failure(error: hyper::Error, upload: Option<&Rc<Upload>>) -> ForwardError {
    match upload.map(|upload| upload.stage()) {
        Some(Stage::Broken) => ForwardError::BodyBroken,
        Some(Stage::Withdrawn(end)) => ForwardError::LeaseEnded(end),
        Some(Stage::Sending | Stage::Waiting | Stage::Ended) | None => ForwardError::Failed(error),
    }
}

/// What is read ahead of a response while its client reads nothing, and a bound on its head, which
/// may be exceeded by one read. hyper itself would read six times as much, and a client may have a
/// thousand connections.
const READ_BYTES: usize = 64 * 1024;

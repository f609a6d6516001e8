//! Bodies on their way through: streamed, cleaned of forbidden trailers, watched for silence,
//! and cut when the lease of their request ends.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use thiserror::Error;
use tokio::time::Instant;

use super::budget::{Full, Share};
use super::deadline::Deadline;
use super::forward::Broken;
use super::headers;
use super::http1::{Http1, Switched};
use super::lease::{LeaseWatch, Leases, Standing};
use super::pulse::InFlight;
use super::tail::Tail;
use super::tenure::{Events, Tenure};
use super::turn;
use super::upstream::Server;
use crate::authz::{Lease, LeaseEnd};

/// A request body between the client and the upstream's connection.
#[derive(Debug)]
pub(super) struct RequestBody {
    origin: Origin,
    upload: Option<Rc<Upload>>,
    /// Header names that were judged or set, so that trailers may not say them again.
    refused: Option<Arc<[HeaderName]>>,
    /// Of its own: once the response has begun, a client that does not read it must not be able
    /// to go on sending.
    lease: Option<LeaseWatch>,
}

#[derive(Debug)]
enum Origin {
    /// What the client sends, as it comes, over this version.
    Client(Incoming, Version),
    /// What was judged, as a whole.
    Judged(Bytes),
}

/// Why a body that has to be judged is not there as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreceived {
    /// It is longer than it may be.
    TooLarge,
    /// All of them together are.
    Full,
    /// The client broke off, or broke the framing.
    Broken,
}

impl From<Full> for Unreceived {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

/// How far a request body has come. Whoever waits for the response watches it, so that one timer
/// serves both directions.
#[derive(Debug)]
pub(super) struct Upload {
    moved: Cell<Instant>,
    stage: Cell<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The upstream has not taken the last part yet.
    Sending,
    /// The client has not sent the next part yet.
    Waiting,
    /// The client broke off, or broke the framing.
    Broken,
    /// The lease has ended.
    Withdrawn(LeaseEnd),
    /// All of it has been taken.
    Ended,
}

impl Upload {
    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// When the last part moved.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }

    fn moved_to(&self, stage: Stage) {
        self.moved.set(turn::now());
        self.stage.set(stage);
    }
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, version: Version, now: Instant) -> Self {
        let upload = (!incoming.is_end_stream()).then(|| {
            Rc::new(Upload {
                moved: Cell::new(now),
                stage: Cell::new(Stage::Sending),
            })
        });
        Self {
            origin: Origin::Client(incoming, version),
            upload,
            refused: None,
            lease: None,
        }
    }

    /// Has the body, if there is one, end with the lease.
    pub(super) fn end_with(
        &mut self,
        leases: &Rc<Leases>,
        lease: Option<&Lease>,
        standing: Standing,
    ) {
        let upload = self.upload.as_ref();
        self.lease = upload.map(|_| leases.watch(lease.cloned(), standing));
    }

    /// Takes in the whole body, up to `limit` bytes, and leaves an empty one. Trailers are
    /// dropped: nothing in them was judged. `share` is what it is held under.
    pub(super) async fn receive(
        &mut self,
        limit: usize,
        share: &mut Share,
    ) -> Result<BytesMut, Unreceived> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        if self.size_hint().lower() > limit {
            return Err(Unreceived::TooLarge);
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await {
            let frame = frame.map_err(|_| Unreceived::Broken)?;
            if let Ok(data) = frame.into_data() {
                let length = whole.len().saturating_add(data.len());
                if u64::try_from(length).unwrap_or(u64::MAX) > limit {
                    return Err(Unreceived::TooLarge);
                }
                whole.extend_from_slice(&data);
                // What it takes, not what is in it.
                share.resize(whole.capacity())?;
            }
        }
        self.replace(Bytes::new());
        Ok(whole)
    }

    /// Puts what was judged in the place of what came.
    pub(super) fn replace(&mut self, judged: Bytes) {
        self.origin = Origin::Judged(judged);
        self.upload = None;
    }

    /// Keeps these names out of the trailers.
    pub(super) fn refuse_trailers(&mut self, names: &Arc<[HeaderName]>) {
        self.refused = self.upload.as_ref().map(|_| Arc::clone(names));
    }

    /// `None` for a request without a body.
    pub(super) fn upload(&self) -> Option<Rc<Upload>> {
        self.upload.clone()
    }

    fn clean(&self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        cleaned(frame, self.refused.as_deref().unwrap_or_default())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if let Some(Poll::Ready(end)) = self.lease.as_ref().map(|lease| lease.poll_ended(cx)) {
            if let Some(upload) = &self.upload {
                upload.moved_to(Stage::Withdrawn(end));
            }
            return Poll::Ready(Some(Err(UploadError::LeaseEnded(end))));
        }
        let (incoming, version) = match &mut self.origin {
            Origin::Client(incoming, version) => (incoming, *version),
            Origin::Judged(bytes) => {
                let whole = std::mem::take(bytes);
                let frame = (!whole.is_empty()).then(|| Ok(Frame::data(whole)));
                return Poll::Ready(frame);
            }
        };
        let outcome = Pin::new(&mut *incoming)
            .poll_frame(cx)
            .map(|next| match next {
                // hyper takes a stream that is reset without an error for one that ends.
                None if version == Version::HTTP_2 && !incoming.is_end_stream() => {
                    Some(Err(UploadError::Reset))
                }
                next => next.map(|part| part.map_err(UploadError::Broken)),
            });
        let stage = match &outcome {
            // Whoever sends trailers on does not ask for more.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || incoming.is_end_stream() => {
                Stage::Ended
            }
            Poll::Ready(Some(Ok(_))) => Stage::Sending,
            Poll::Ready(Some(Err(_))) => Stage::Broken,
            Poll::Ready(None) => Stage::Ended,
            Poll::Pending => Stage::Waiting,
        };
        if let Some(upload) = &self.upload {
            match stage {
                Stage::Waiting => upload.stage.set(stage),
                Stage::Sending | Stage::Broken | Stage::Withdrawn(_) | Stage::Ended => {
                    upload.moved_to(stage);
                }
            }
        }
        outcome.map(|next| match next? {
            Ok(frame) => self.clean(frame).map(Ok),
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.origin {
            Origin::Client(incoming, _) => incoming.is_end_stream(),
            Origin::Judged(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.origin {
            Origin::Client(incoming, _) => incoming.size_hint(),
            Origin::Judged(bytes) => exactly(bytes),
        }
    }
}

/// Why a request body ends before its end. The upstream sees its connection or stream cut.
#[derive(Debug, Error)]
pub(super) enum UploadError {
    /// The client broke off, or broke the framing.
    #[error("the client broke off its request")]
    Broken(#[source] hyper::Error),
    /// The client reset the stream before its end.
    #[error("the client reset its request")]
    Reset,
    /// The token has ended.
    #[error("{}", .0.sentence())]
    LeaseEnded(LeaseEnd),
}

/// A response body on its way to the client.
#[derive(Debug)]
pub(super) struct ResponseBody {
    source: Source,
    in_flight: InFlight,
}

#[derive(Debug)]
enum Source {
    Empty,
    Own(Bytes),
    Upstream(UpstreamBody),
}

impl ResponseBody {
    /// An answer of usher's own, which the client has to take by `read_by`.
    pub(super) fn own(bytes: Bytes, read_by: Instant, in_flight: InFlight) -> Self {
        in_flight.handed_over(read_by);
        let source = if bytes.is_empty() {
            Source::Empty
        } else {
            Source::Own(bytes)
        };
        Self { source, in_flight }
    }

    /// What the upstream sends.
    pub(super) fn upstream(body: UpstreamBody, in_flight: InFlight) -> Self {
        let mut body = body;
        in_flight.handed_over(body.moved + body.idle);
        let source = if body.link.is_over() {
            body.link.finish();
            Source::Empty
        } else {
            if let Some(tenure) = &body.tenure {
                tenure.hurries(in_flight.reader());
            }
            Source::Upstream(body)
        };
        Self { source, in_flight }
    }
}

/// A response body of the upstream, with what it arrives on.
#[derive(Debug)]
pub(super) struct UpstreamBody {
    pub(super) link: Link,
    pub(super) upload: Option<Rc<Upload>>,
    /// Silence allowed in both directions together.
    pub(super) idle: Duration,
    /// When the last part came.
    pub(super) moved: Instant,
    /// What the response goes on under; `None` on a public route.
    pub(super) tenure: Option<Tenure>,
    /// Of an event stream, which can be told why it ends.
    pub(super) events: Option<Events>,
    /// The end of the last part, until there is room for it.
    pub(super) tail: Tail,
}

impl UpstreamBody {
    /// The body of a response that switches protocols: there is none, and nothing carries it.
    pub(super) fn none() -> Self {
        Self {
            link: Link::Over,
            upload: None,
            idle: Duration::ZERO,
            moved: turn::now(),
            tenure: None,
            events: None,
            tail: Tail::Never,
        }
    }
}

/// What carries a response.
#[derive(Debug)]
pub(super) enum Link {
    /// A connection of its own, driven by this body, parked when the body is complete. Dropping
    /// it closes the connection, so an unfinished exchange never leaves one behind.
    Http1(Box<Http1>, Rc<Server>),
    /// A stream of a shared connection, which a task of its own drives.
    Http2(Incoming, Deadline),
    /// Nothing any more: the response is complete.
    Over,
    /// Nothing any more: the response has no end.
    Cut,
}

impl Link {
    /// The response is complete.
    fn finish(&mut self) {
        match std::mem::replace(self, Self::Over) {
            Self::Http1(connection, home) => home.park(connection),
            Self::Http2(..) | Self::Over => {}
            // What has no end does not come to have one by being asked again.
            Self::Cut => *self = Self::Cut,
        }
    }

    fn fail(&mut self) {
        *self = Self::Cut;
    }

    /// What the connection has become, if its server has switched protocols.
    pub(super) fn into_switched(self) -> Option<Switched> {
        match self {
            Self::Http1(connection, _) => connection.into_switched(),
            Self::Http2(..) | Self::Over | Self::Cut => None,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Http1(connection, _) => connection.poll_body(cx).map_err(Broken::Http1),
            Self::Http2(incoming, _) => Pin::new(incoming).poll_frame(cx).map_err(Broken::Http2),
            Self::Over => Poll::Ready(None),
            Self::Cut => Poll::Ready(Some(Err(Broken::Cut))),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Http1(connection, _) => connection.is_over(),
            Self::Http2(incoming, _) => incoming.is_end_stream(),
            Self::Over => true,
            Self::Cut => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection, _) => connection.size_hint(),
            Self::Http2(incoming, _) => incoming.size_hint(),
            Self::Over => SizeHint::with_exact(0),
            Self::Cut => SizeHint::new(),
        }
    }
}

/// Why a response ends before its end. The client sees its connection or stream cut.
#[derive(Debug, Error)]
pub(super) enum StreamError {
    /// The upstream broke off.
    #[error("the upstream broke off its response")]
    Broken(#[source] Broken),
    /// Nothing moved for as long as the idle deadline.
    #[error("nothing moved in time")]
    Idle,
    /// The token has ended. hyper resets an HTTP/2 stream with the code that it finds here.
    #[error("{}", .0.sentence())]
    LeaseEnded(LeaseEnd, #[source] h2::Error),
}

type NextFrame = Poll<Option<Result<Frame<Bytes>, StreamError>>>;

impl UpstreamBody {
    /// The next part, as long as the lease lasts.
    fn poll_under_lease(&mut self, cx: &mut Context<'_>) -> Result<NextFrame, LeaseEnd> {
        let Some(tenure) = &self.tenure else {
            return Ok(self.poll_frame(cx));
        };
        // Before the upstream is asked, which may never have to be waited for; and to be woken
        // even then, because the client may not ask again.
        match tenure.poll_ended(cx) {
            Poll::Ready(end) => Err(end),
            Poll::Pending => Ok(self.poll_frame(cx)),
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> NextFrame {
        if let Some(end) = self.tail.take() {
            return Poll::Ready(Some(Ok(self.note(Frame::data(end)))));
        }
        match self.link.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.moved = turn::now();
                if self.link.is_over() {
                    self.link.finish();
                }
                match cleaned(frame, &[]) {
                    Some(frame) => {
                        let frame = self.tail.hold(frame);
                        Poll::Ready(Some(Ok(self.note(frame))))
                    }
                    None => {
                        self.link.finish();
                        Poll::Ready(None)
                    }
                }
            }
            Poll::Ready(Some(Err(error))) => {
                self.link.fail();
                Poll::Ready(Some(Err(StreamError::Broken(error))))
            }
            Poll::Ready(None) => {
                self.link.finish();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_idle(cx),
        }
    }

    /// Takes note of what goes on.
    fn note(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let (Some(events), Some(data)) = (&mut self.events, frame.data_ref()) {
            events.pass(data);
        }
        frame
    }

    /// What comes last when the lease ends: the reason where it can be told, else a cut. Nothing
    /// of the upstream may come after it.
    fn last(&mut self, end: LeaseEnd) -> Result<Frame<Bytes>, StreamError> {
        self.link.fail();
        if let Some(tenure) = &self.tenure {
            tenure.close(end);
            if self.events.as_ref().is_some_and(Events::are_whole) {
                return Ok(Frame::data(tenure.farewell(end)));
            }
        }
        Err(StreamError::LeaseEnded(end, h2::Reason::CANCEL.into()))
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> NextFrame {
        let upload = self.upload.as_ref().map(|upload| upload.moved());
        let due = upload.map_or(self.moved, |at| at.max(self.moved)) + self.idle;
        let deadline = match &mut self.link {
            Link::Http1(connection, _) => connection.deadline(),
            Link::Http2(_, deadline) => deadline,
            Link::Over | Link::Cut => return Poll::Pending,
        };
        deadline.poll(cx, due).map(|()| {
            self.link.fail();
            Some(Err(StreamError::Idle))
        })
    }
}

fn exactly(bytes: &[u8]) -> SizeHint {
    SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

/// The hint for what comes with these bytes before it.
fn longer(rest: &SizeHint, bytes: &[u8]) -> SizeHint {
    let more = exactly(bytes).lower();
    let mut hint = SizeHint::new();
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper.saturating_add(more));
    }
    hint.set_lower(rest.lower().saturating_add(more));
    hint
}

/// A part as it may go on. Trailers of which nothing is left are none: in HTTP/2 they would be a
/// header block without a field, which haproxy takes for an error.
fn cleaned(frame: Frame<Bytes>, refused: &[HeaderName]) -> Option<Frame<Bytes>> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::clean_trailers(&mut trailers, refused);
            (!trailers.is_empty()).then(|| Frame::trailers(trailers))
        }
        Err(frame) => Some(frame),
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Own(bytes) => {
                let whole = std::mem::take(bytes);
                self.source = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(whole))))
            }
            Source::Upstream(body) => {
                let polled = body.poll_under_lease(cx);
                let due = body.moved + body.idle;
                let polled = match polled {
                    Ok(polled) => polled,
                    Err(end) => {
                        let last = body.last(end);
                        self.source = Source::Empty;
                        Poll::Ready(Some(last))
                    }
                };
                match polled {
                    Poll::Ready(_) => self.in_flight.handed_over(due),
                    Poll::Pending => self.in_flight.waits_here(),
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Own(_) => false,
            Source::Upstream(body) => body.tail.held().is_empty() && body.link.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Own(bytes) => exactly(bytes),
            Source::Upstream(body) => longer(&body.link.size_hint(), body.tail.held()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_response_that_was_cut_never_ends() {
        let mut link = Link::Over;
        link.fail();
        link.finish();
        let polled = link.poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Some(Err(Broken::Cut)))));
        assert!(!link.is_over());
    }
}

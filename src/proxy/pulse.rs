//! Signs of life of one downstream connection, and what their absence means.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deadline::Deadline;
use super::guard::Guard;
use super::meter::{Excess, Meter};
use super::preface::Ahead;
use super::socket::Socket;
use super::turn;
use crate::config::Timeouts;

/// What the connection's one timer looks at.
///
/// hyper's own timer would be made and dropped once a request, and knows nothing of a client
/// that stops reading; these stamps cost a store each.
#[derive(Debug)]
pub(super) struct Pulse {
    in_flight: Cell<usize>,
    begun: Cell<u64>,
    responses: RefCell<Vec<Stage>>,
    idle_since: Cell<Instant>,
    blocked_since: Cell<Option<Instant>>,
    unread: Cell<bool>,
    excess: Cell<Option<Excess>>,
    /// Who waits for [`Pulse::is_settled`].
    unsettled: RefCell<Option<Waker>>,
}

/// What a response is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing; its place can be taken.
    Over,
    /// Something on this side: the decision, the upstream.
    Here,
    /// The client, which was handed a part, to ask for another by then.
    Client(Instant),
}

/// Why a connection ends before its client wants it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// No request, or only a part of its head, came in time.
    NoRequest,
    /// The client does not read what it is sent.
    NotReading,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            in_flight: Cell::new(0),
            begun: Cell::new(0),
            responses: RefCell::default(),
            idle_since: Cell::new(now),
            blocked_since: Cell::new(None),
            unread: Cell::new(false),
            excess: Cell::new(None),
            unsettled: RefCell::default(),
        })
    }

    /// A request has begun; it lasts until the guard is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.begun.set(self.begun.get().wrapping_add(1));
        let mut responses = self.responses.borrow_mut();
        let free = responses.iter().position(|stage| *stage == Stage::Over);
        let index = free.unwrap_or(responses.len());
        match responses.get_mut(index) {
            Some(place) => *place = Stage::Here,
            None => responses.push(Stage::Here),
        }
        InFlight {
            pulse: Rc::clone(self),
            index,
        }
    }

    fn stage(&self, index: usize, stage: Stage) {
        if let Some(place) = self.responses.borrow_mut().get_mut(index) {
            *place = stage;
        }
    }

    /// When the client has to take more of a response at the latest. In HTTP/2 a client can stop
    /// reading one stream, and no write to the socket ever has to wait.
    fn read_by(&self) -> Option<Instant> {
        let responses = self.responses.borrow();
        let dues = responses.iter().filter_map(|stage| match stage {
            Stage::Client(due) => Some(*due),
            Stage::Over | Stage::Here => None,
        });
        dues.min()
    }

    /// When a write that waits has to go on at the latest. As long as there is a response, it may
    /// be a stream, and its own allowance is in [`Pulse::read_by`].
    fn written_by(&self, timeouts: &Timeouts) -> Option<Instant> {
        let allowed = match self.in_flight.get() {
            0 => timeouts.idle,
            _ => timeouts.idle.max(timeouts.stream_idle),
        };
        self.blocked_since.get().map(|since| since + allowed)
    }

    /// A request was answered before the end of its body: the client may still be sending it.
    pub(super) fn answered_early(&self) {
        self.unread.set(true);
    }

    /// The client has sent too much of something, and is likely to be still sending.
    fn exceeded(&self, excess: Excess) {
        self.excess.set(Some(excess));
        self.unread.set(true);
    }

    /// What the client has sent too much of.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.excess.get()
    }

    /// Whether so many requests have begun, and all are answered to the last byte.
    pub(super) fn is_settled(&self, requests: u64) -> bool {
        self.begun.get() == requests
            && self.in_flight.get() == 0
            && self.blocked_since.get().is_none()
    }

    /// Has the task polled again when another response is over.
    pub(super) fn wake_when_settled(&self, cx: &Context<'_>) {
        *self.unsettled.borrow_mut() = Some(cx.waker().clone());
    }

    fn wake(&self) {
        if let Some(waker) = self.unsettled.take() {
            waker.wake();
        }
    }

    /// When to look next, and what it means if nothing has changed until then.
    pub(super) fn due(&self, now: Instant, timeouts: &Timeouts) -> (Instant, Option<Lapse>) {
        let written_by = self.written_by(timeouts);
        if let Some(due) = written_by.into_iter().chain(self.read_by()).min() {
            return (due, Some(Lapse::NotReading));
        }
        if self.in_flight.get() == 0 {
            let due = self.idle_since.get() + timeouts.request_head;
            return (due, Some(Lapse::NoRequest));
        }
        // A wait that begins from now on cannot be over earlier.
        (now + timeouts.idle.min(timeouts.request_head), None)
    }
}

/// A request between its head and the end of its response.
#[derive(Debug)]
pub(super) struct InFlight {
    pulse: Rc<Pulse>,
    index: usize,
}

impl InFlight {
    /// The client has been handed a part of the response, and has to ask for another by `due`.
    pub(super) fn handed_over(&self, due: Instant) {
        self.pulse.stage(self.index, Stage::Client(due));
    }

    /// The client has asked for more than there is.
    pub(super) fn waits_here(&self) {
        self.pulse.stage(self.index, Stage::Here);
    }

    /// Whoever reads the response, for somebody who may have to hurry it.
    pub(super) fn reader(&self) -> Reader {
        Reader {
            pulse: Rc::clone(&self.pulse),
            index: self.index,
        }
    }
}

/// The client as the reader of one response. Good for as long as that is under way.
#[derive(Debug)]
pub(super) struct Reader {
    pulse: Rc<Pulse>,
    index: usize,
}

impl Reader {
    /// A client that was handed a part has to ask for another by `due`, if not earlier.
    pub(super) fn hurry(&self, due: Instant) {
        let mut responses = self.pulse.responses.borrow_mut();
        if let Some(Stage::Client(at)) = responses.get_mut(self.index) {
            *at = due.min(*at);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.pulse.stage(self.index, Stage::Over);
        let left = self.pulse.in_flight.get().saturating_sub(1);
        self.pulse.in_flight.set(left);
        if left == 0 {
            self.pulse.idle_since.set(turn::now());
            self.pulse.wake();
        }
    }
}

/// The downstream side of a connection, which notes when a write has to wait, and lingers at
/// the end.
#[derive(Debug)]
pub(super) struct Downstream {
    socket: Socket,
    /// Read before, to find out the version.
    ahead: Ahead,
    /// `None` where the connection is not HTTP/1.1.
    guard: Option<Box<Guard>>,
    /// Of a connection in HTTP/2.
    meter: Option<Box<Meter>>,
    pulse: Rc<Pulse>,
    linger: Linger,
    /// The connection has left HTTP: either direction ends for itself, and nothing lingers.
    released: bool,
}

/// How far the end of a connection has come.
#[derive(Debug, Default)]
struct Linger {
    due: Option<Instant>,
    deadline: Deadline,
    discarded: usize,
}

impl Downstream {
    pub(super) fn new(
        socket: Socket,
        ahead: Ahead,
        guard: Option<Guard>,
        pulse: Rc<Pulse>,
    ) -> Self {
        Self {
            socket,
            ahead,
            guard: guard.map(Box::new),
            meter: None,
            pulse,
            linger: Linger::default(),
            released: false,
        }
    }

    /// Whether bytes that were written are still waiting for the client to read.
    pub(super) fn is_blocked(&self) -> bool {
        self.pulse.blocked_since.get().is_some()
    }

    /// The connection speaks another protocol from here on.
    pub(super) fn release(&mut self) {
        self.released = true;
        if let Some(guard) = &mut self.guard {
            guard.release();
        }
    }

    /// Ends a connection that was released, whatever its client is still sending.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.released = false;
        self.pulse.answered_early();
        poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await
    }

    /// Counts the frames of HTTP/2.
    pub(super) fn metered(mut self, meter: Meter) -> Self {
        self.meter = Some(Box::new(meter));
        self
    }

    /// Reads and forgets what the client is still sending, for a moment.
    ///
    /// A socket closed with bytes unread resets the connection, and the reset can overtake the
    /// answer: a client that was refused in the middle of an upload would never learn why.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        let due = *self
            .linger
            .due
            .get_or_insert_with(|| Instant::now() + LINGER);
        while self.linger.discarded < LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.linger.discarded += buffer.filled().len();
                }
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(()),
                // Nothing has come, and nothing is known to be on its way.
                Poll::Pending if self.linger.discarded == 0 && !self.pulse.unread.get() => {
                    return Poll::Ready(());
                }
                Poll::Pending => return self.linger.deadline.poll(cx, due),
            }
        }
        Poll::Ready(())
    }

    fn measure(&mut self, outcome: &Poll<io::Result<usize>>) {
        if let (Some(meter), Poll::Ready(Ok(written))) = (&mut self.meter, outcome) {
            meter.wrote(*written);
        }
    }

    fn note<T>(&self, outcome: Poll<T>) -> Poll<T> {
        let blocked = &self.pulse.blocked_since;
        match (&outcome, blocked.get()) {
            (Poll::Pending, None) => blocked.set(Some(turn::now())),
            (Poll::Ready(_), Some(_)) => {
                blocked.set(None);
                self.pulse.wake();
                // The time a slow client took for the last response is not taken from its next
                // request.
                self.pulse.idle_since.set(turn::now());
            }
            (Poll::Pending, Some(_)) | (Poll::Ready(_), None) => {}
        }
        outcome
    }
}

impl AsyncRead for Downstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            socket,
            ahead,
            guard,
            meter,
            pulse,
            ..
        } = &mut *self;
        let mut raw = |cx: &mut Context<'_>, to: &mut ReadBuf<'_>| {
            if ahead.is_empty() {
                return Pin::new(&mut *socket).poll_read(cx, to);
            }
            to.put_slice(ahead.take(to.remaining()));
            Poll::Ready(Ok(()))
        };
        if let Some(guard) = guard {
            return guard.poll_read(cx, to, pulse, raw);
        }
        let Some(meter) = meter else {
            return raw(cx, to);
        };
        if meter.is_over() {
            return Poll::Ready(Ok(()));
        }
        let before = to.filled().len();
        ready!(raw(cx, to))?;
        let came = to.filled().get(before..).unwrap_or_default();
        let passed = meter.read(came, turn::now());
        to.set_filled(before + passed);
        if let Some(excess) = meter.excess() {
            pulse.exceeded(excess);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(cx, from);
        self.measure(&outcome);
        self.note(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(cx, from);
        self.measure(&outcome);
        self.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_flush(cx);
        self.note(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            socket,
            guard,
            meter,
            ..
        } = &mut *self;
        if let Some(guard) = guard {
            let outcome = guard.poll_answer(cx, socket);
            ready!(self.note(outcome))?;
        } else if let Some(meter) = meter {
            // Behind the last frame: the reader has written all that it had.
            let outcome = write_all(meter.farewell(), socket, cx);
            ready!(self.note(outcome))?;
        }
        let outcome = Pin::new(&mut self.socket).poll_shutdown(cx);
        ready!(self.note(outcome))?;
        if self.released {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(cx).map(Ok)
    }
}

/// Writes bytes until none are left.
pub(super) fn write_all(
    bytes: &mut Bytes,
    to: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !bytes.is_empty() {
        let written = ready!(Pin::new(&mut *to).poll_write(cx, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        bytes.advance(written);
    }
    Poll::Ready(Ok(()))
}

/// How long, and how much, a client may go on sending after its answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tests::timeouts;

    #[test]
    fn a_connection_without_a_request_is_due_after_the_head_deadline() {
        let now = Instant::now();
        let timeouts = timeouts();
        let pulse = Pulse::new(now);
        let due = now + timeouts.request_head;
        assert_eq!(pulse.due(now, &timeouts), (due, Some(Lapse::NoRequest)));
        let request = pulse.begin();
        let (look, lapse) = pulse.due(now, &timeouts);
        assert!(look > now && lapse.is_none());
        drop(request);
        let (due, lapse) = pulse.due(now, &timeouts);
        assert!(due >= now + timeouts.request_head);
        assert_eq!(lapse, Some(Lapse::NoRequest));
    }

    #[test]
    fn the_response_that_waits_longest_for_its_reader_counts() {
        let now = Instant::now();
        let timeouts = timeouts();
        let pulse = Pulse::new(now);
        let [one, two, three] = [pulse.begin(), pulse.begin(), pulse.begin()];
        two.handed_over(now + Duration::from_secs(2));
        three.handed_over(now + Duration::from_secs(3));
        let due = |seconds| {
            let due = now + Duration::from_secs(seconds);
            (due, Some(Lapse::NotReading))
        };
        assert_eq!(pulse.due(now, &timeouts), due(2));
        two.waits_here();
        assert_eq!(pulse.due(now, &timeouts), due(3));
        three.reader().hurry(now + Duration::from_secs(4));
        two.reader().hurry(now);
        assert_eq!(pulse.due(now, &timeouts), due(3), "nobody got longer");
        three.reader().hurry(now + Duration::from_secs(1));
        assert_eq!(pulse.due(now, &timeouts), due(1));
        drop(three);
        assert_eq!(pulse.due(now, &timeouts).1, None);
        drop((one, two));
        assert_eq!(pulse.due(now, &timeouts).1, Some(Lapse::NoRequest));
        drop([pulse.begin(), pulse.begin()]);
        assert_eq!(pulse.responses.borrow().len(), 3, "places are reused");
    }

    #[test]
    fn a_client_that_does_not_read_is_due_even_during_a_request() {
        let now = Instant::now();
        let mut timeouts = timeouts();
        timeouts.stream_idle = timeouts.idle * 2;
        let pulse = Pulse::new(now);
        let request = pulse.begin();
        pulse.blocked_since.set(Some(now));
        let later = now + Duration::from_secs(1);
        let due = |allowed| (now + allowed, Some(Lapse::NotReading));
        assert_eq!(pulse.due(later, &timeouts), due(timeouts.stream_idle));
        request.handed_over(now + timeouts.idle);
        assert_eq!(pulse.due(later, &timeouts), due(timeouts.idle));
        drop(request);
        assert_eq!(pulse.due(later, &timeouts), due(timeouts.idle));
    }
}

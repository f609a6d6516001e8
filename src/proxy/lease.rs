//! What is under way on one thread, and the leases under which it goes on.
//!
//! A request that is answered at once enters its lease and takes it out again: a place in a
//! table, no timer and no task. One task for the whole thread looks at the table every
//! [`TICK`], and at the leases in it only when one of them can have ended: a second has passed
//! that is the last of one, or the store has changed, or can no longer be read. Other rules end at
//! once what was permitted by rules that do not stand any more.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::decide::Decider;
use super::pulse::Reader;
use crate::authz::{Lease, LeaseEnd, Review};
use crate::clock;
use crate::metrics::Metrics;

/// The leases of one thread.
#[derive(Debug)]
pub(super) struct Leases {
    decider: RefCell<Decider>,
    metrics: Arc<Metrics>,
    table: RefCell<Table>,
}

#[derive(Debug)]
struct Table {
    places: Vec<Place>,
    /// The first of the free places.
    free: Option<usize>,
    /// The earliest last second of all leases, or an earlier one.
    earliest: i64,
    /// What the leases were looked at with last, and lasted.
    last: Option<Review>,
}

#[derive(Debug)]
enum Place {
    /// Taken by nobody; the next of the free places.
    Free(Option<usize>),
    /// Lasts; with whom to tell of its end.
    Lasting(Held, Told),
    /// Has ended, and its watch has not been dropped yet.
    Ended(LeaseEnd),
}

/// What something goes on under.
#[derive(Debug)]
struct Held {
    /// `None` on a public route.
    lease: Option<Lease>,
    standing: Standing,
}

/// Whether the rules of a route stand. All its requests on one thread share it, from one reload to
/// the next, for as long as nothing changes for them.
#[derive(Clone, Debug)]
pub(super) struct Standing(Rc<Cell<bool>>);

/// Who is told of the end of a lease.
#[derive(Debug, Default)]
struct Told {
    /// Waits for it.
    waker: Option<Waker>,
    /// Is handed parts of a response, and may not ask for the next one.
    reader: Option<Reader>,
}

/// A lease in the table. It tells the end of the lease; dropping it takes the lease out.
#[derive(Debug)]
pub(super) struct LeaseWatch {
    leases: Rc<Leases>,
    place: usize,
}

impl Leases {
    pub(super) fn new(decider: Decider, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self {
            decider: RefCell::new(decider),
            metrics,
            table: RefCell::new(Table {
                places: Vec::new(),
                free: None,
                earliest: i64::MAX,
                last: None,
            }),
        })
    }

    /// Enters a lease. What was withdrawn between the decision and the last look is noticed here;
    /// a window that has closed since, at the next.
    pub(super) fn watch(self: &Rc<Self>, lease: Option<Lease>, standing: Standing) -> LeaseWatch {
        let held = Held { lease, standing };
        let stood = match &self.table.borrow().last {
            None => held.standing.check(),
            Some(last) => held.stands(last),
        };
        // The decision may be younger than the last look, and rest on a key that came between.
        let stands = stood.or_else(
            |end| match self.decider.borrow().review(clock::unix_now()) {
                None => Err(end),
                Some(now) => held.stands(&now),
            },
        );
        LeaseWatch {
            place: self.table.borrow_mut().enter(held, stands),
            leases: Rc::clone(self),
        }
    }

    /// Looks at everything again, after other rules have come into use.
    pub(super) fn decide_by(&self, decider: Decider) {
        *self.decider.borrow_mut() = decider;
        self.table.borrow_mut().last = None;
        self.review(clock::unix_now());
    }

    /// Looks for leases that have ended at `now`, and wakes whoever waits for them.
    fn review(&self, now: i64) {
        let review = self.decider.borrow().review(now);
        if let Some(review) = review {
            // Told after the table is free again: a waker is code of somebody else.
            let told = self.table.borrow_mut().review(review);
            for Told { waker, reader } in told {
                if let Some(reader) = reader {
                    reader.hurry(Instant::now() + GRACE);
                }
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}

impl Table {
    fn enter(&mut self, held: Held, stands: Result<(), LeaseEnd>) -> usize {
        let place = match stands {
            Ok(()) => {
                self.earliest = self.earliest.min(held.not_after());
                Place::Lasting(held, Told::default())
            }
            Err(end) => Place::Ended(end),
        };
        let Some(index) = self.free else {
            self.places.push(place);
            return self.places.len() - 1;
        };
        if let Some(free) = self.places.get_mut(index)
            && let Place::Free(next) = std::mem::replace(free, place)
        {
            self.free = next;
        }
        index
    }

    fn leave(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index) {
            *place = Place::Free(self.free);
            self.free = Some(index);
        }
    }

    /// Ends what has ended; returns who is to be told.
    fn review(&mut self, review: Review) -> Vec<Told> {
        let mut ended = Vec::new();
        let changed = self.last.as_ref().is_none_or(|last| review.differs(last));
        if changed || review.now() > self.earliest {
            self.earliest = i64::MAX;
            for place in &mut self.places {
                let Place::Lasting(held, told) = place else {
                    continue;
                };
                match held.check(&review) {
                    Ok(()) => self.earliest = self.earliest.min(held.not_after()),
                    Err(end) => {
                        ended.push(std::mem::take(told));
                        *place = Place::Ended(end);
                    }
                }
            }
        }
        self.last = Some(review);
        ended
    }
}

impl Held {
    /// Whether it still lasts.
    fn check(&self, review: &Review) -> Result<(), LeaseEnd> {
        self.standing.check()?;
        self.lease
            .as_ref()
            .map_or(Ok(()), |lease| lease.check(review))
    }

    /// Whether nothing of it has been withdrawn.
    fn stands(&self, review: &Review) -> Result<(), LeaseEnd> {
        self.standing.check()?;
        self.lease
            .as_ref()
            .map_or(Ok(()), |lease| lease.stands(review))
    }

    fn not_after(&self) -> i64 {
        self.lease.as_ref().map_or(i64::MAX, Lease::not_after)
    }
}

impl Standing {
    /// Of a route that came into use.
    pub(super) fn new() -> Self {
        Self(Rc::new(Cell::new(true)))
    }

    /// Ends what goes on under it, once the leases are looked at.
    pub(super) fn withdraw(&self) {
        self.0.set(false);
    }

    fn check(&self) -> Result<(), LeaseEnd> {
        match self.0.get() {
            true => Ok(()),
            false => Err(LeaseEnd::Withdrawn),
        }
    }
}

impl LeaseWatch {
    /// Ready once the lease has ended, and ever after.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<LeaseEnd> {
        match self.leases.table.borrow_mut().places.get_mut(self.place) {
            Some(Place::Lasting(_, told)) => {
                let kept = told.waker.as_ref();
                if !kept.is_some_and(|kept| kept.will_wake(cx.waker())) {
                    told.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Some(Place::Ended(end)) => Poll::Ready(*end),
            // Cannot be: the place is kept until this is dropped.
            Some(Place::Free(_)) | None => Poll::Ready(LeaseEnd::Unavailable),
        }
    }

    /// Why the lease has ended, if it has. Asking wakes nobody later.
    pub(super) fn ended(&self) -> Option<LeaseEnd> {
        match self.leases.table.borrow().places.get(self.place) {
            Some(Place::Lasting(_, _)) => None,
            Some(Place::Ended(end)) => Some(*end),
            Some(Place::Free(_)) | None => Some(LeaseEnd::Unavailable),
        }
    }

    /// Counts that a request of this route was ended.
    pub(super) fn count(&self, route: &Arc<str>, end: LeaseEnd) {
        self.leases.metrics.lease_ended(route, end.code());
    }

    /// Hurries this reader when the lease ends. A response is looked at between two parts, and a
    /// client that does not ask for the next could keep its connection for as long as a stream
    /// may be silent.
    pub(super) fn hurries(&self, reader: Reader) {
        if let Some(Place::Lasting(_, told)) =
            self.leases.table.borrow_mut().places.get_mut(self.place)
        {
            told.reader = Some(reader);
        }
    }
}

impl Drop for LeaseWatch {
    fn drop(&mut self) {
        self.leases.table.borrow_mut().leave(self.place);
    }
}

/// Looks after the leases until it is dropped: a drain takes none away.
pub(super) async fn look_after(leases: Rc<Leases>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        leases.review(clock::unix_now());
    }
}

/// How often the leases of a thread are looked at. A window closes at the end of its last second,
/// and a revocation is known at most 200 ms after it was written, so that either ends a lease
/// within half a second.
const TICK: Duration = Duration::from_millis(250);

/// How long a client may take to read on once the lease of its response has ended.
const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

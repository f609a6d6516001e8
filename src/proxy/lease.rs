//! What is under way on one thread, and the leases under which it goes on.
//!
//! A request that is answered at once enters its lease and takes it out again: a place in a
//! table, no timer and no task. One task for the whole thread looks at the table every
//! [`TICK`], and at the leases in it only when one of them can have ended: a second has passed
//! that is the last of one, or the store has changed, or can no longer be read.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::decide::Decider;
use super::pulse::Reader;
use crate::authz::{Lease, LeaseEnd, Review};
use crate::clock;

/// The leases of one thread.
#[derive(Debug)]
pub(super) struct Leases {
    decider: Decider,
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
    Lasting(Lease, Told),
    /// Has ended, and its watch has not been dropped yet.
    Ended(LeaseEnd),
}

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
    pub(super) fn new(decider: Decider) -> Rc<Self> {
        Rc::new(Self {
            decider,
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
    pub(super) fn watch(self: &Rc<Self>, lease: Lease) -> LeaseWatch {
        let stood = match &self.table.borrow().last {
            None => Ok(()),
            Some(last) => lease.stands(last),
        };
        // The decision may be younger than the last look, and rest on a key that came between.
        let stands = stood.or_else(|_| match self.decider.review(clock::unix_now()) {
            None => Ok(()),
            Some(now) => lease.stands(&now),
        });
        LeaseWatch {
            place: self.table.borrow_mut().enter(lease, stands),
            leases: Rc::clone(self),
        }
    }

    /// Looks for leases that have ended at `now`, and wakes whoever waits for them.
    fn review(&self, now: i64) {
        if let Some(review) = self.decider.review(now) {
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
    fn enter(&mut self, lease: Lease, stands: Result<(), LeaseEnd>) -> usize {
        let place = match stands {
            Ok(()) => {
                self.earliest = self.earliest.min(lease.not_after());
                Place::Lasting(lease, Told::default())
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
                let Place::Lasting(lease, told) = place else {
                    continue;
                };
                match lease.check(&review) {
                    Ok(()) => self.earliest = self.earliest.min(lease.not_after()),
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

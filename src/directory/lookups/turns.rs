//! Who may have a name looked up next.
//!
//! A token is given a part of what is asked at one time, and so many names that wait. Whoever
//! makes up names then waits for names of its own, and the others are answered in between. A name
//! that several tokens wait for is asked for in the turn of the first of them that has one, so
//! that nobody is held back by asking for what a busy one has asked for too.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Answered, MAX_WAITING, Unanswered};
use crate::policy::Lookup;

/// Names that are waited for.
pub(super) struct Turns {
    /// Look-ups at one time, inclusive.
    most: usize,
    names: HashMap<Lookup, Name>,
    /// Those that have had no turn yet, the oldest first.
    order: VecDeque<Lookup>,
    /// Those that are being asked for, each with whose turn it took.
    under_way: Vec<(Lookup, Asker)>,
}

/// The token that a question is for; `None` where the operator asks, who waits for nobody.
pub(super) type Asker = Option<Uuid>;

/// A name that is waited for.
struct Name {
    waiters: Vec<Answered>,
    /// Each once, the first that asked first.
    askers: SmallVec<[Asker; 1]>,
    /// Tells the task that looks it up to begin.
    turn: Option<oneshot::Sender<()>>,
}

/// What becomes of a question.
pub(super) enum Place {
    /// Somebody asked before.
    Joined,
    /// It is new: to be asked for once this says so.
    New(oneshot::Receiver<()>),
    /// It is not taken.
    Refused(Answered, Unanswered),
}

impl Turns {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            names: HashMap::new(),
            order: VecDeque::new(),
            under_way: Vec::new(),
        }
    }

    /// Whether somebody waits for the name already.
    pub(super) fn has(&self, lookup: &Lookup) -> bool {
        self.names.contains_key(lookup)
    }

    /// Takes a question in.
    pub(super) fn enter(&mut self, lookup: &Lookup, asker: Asker, answered: Answered) -> Place {
        if let Some(name) = self.names.get_mut(lookup) {
            name.waiters.push(answered);
            if !name.askers.contains(&asker) {
                name.askers.push(asker);
            }
            self.call();
            return Place::Joined;
        }
        if self.names.len() >= MAX_WAITING {
            return Place::Refused(answered, Unanswered::Busy);
        }
        let first = |name: &&Name| name.askers.first() == Some(&asker);
        if asker.is_some() && self.names.values().filter(first).count() >= MAX_WAITING_PER_TOKEN {
            return Place::Refused(answered, Unanswered::TooMany);
        }
        let (turn, begins) = oneshot::channel();
        let name = Name {
            waiters: vec![answered],
            askers: [asker].into(),
            turn: Some(turn),
        };
        self.names.insert(lookup.clone(), name);
        self.order.push_back(lookup.clone());
        self.call();
        Place::New(begins)
    }

    /// Takes out a name whose look-up has ended, in whatever way; who waits for it.
    pub(super) fn leave(&mut self, lookup: &Lookup) -> Vec<Answered> {
        self.order.retain(|waiting| waiting != lookup);
        self.under_way.retain(|(asked, _)| asked != lookup);
        let name = self.names.remove(lookup);
        self.call();
        name.map(|name| name.waiters).unwrap_or_default()
    }

    /// Gives a turn to every name that may have one.
    fn call(&mut self) {
        while self.under_way.len() < self.most {
            let next = self.order.iter().enumerate().find_map(|(place, lookup)| {
                let name = self.names.get(lookup)?;
                let asker = name.askers.iter().find(|asker| self.has_room(**asker))?;
                Some((place, *asker))
            });
            let Some((place, asker)) = next else { return };
            let Some(lookup) = self.order.remove(place) else {
                return;
            };
            let name = self.names.get_mut(&lookup);
            if let Some(turn) = name.and_then(|name| name.turn.take()) {
                // Its time may be over; then it is about to leave.
                let _gone = turn.send(()).is_err();
            }
            self.under_way.push((lookup, asker));
        }
    }

    fn has_room(&self, asker: Asker) -> bool {
        let own = self.under_way.iter().filter(|(_, other)| *other == asker);
        asker.is_none() || own.count() < (self.most / TOKENS_AT_ONCE).max(1)
    }
}

/// A token takes up to one of so many parts of what is asked at one time, and of one name at least.
const TOKENS_AT_ONCE: usize = 4;

/// Names that one token was the first to ask for. More than a client that begins has, and far less
/// than there may be.
const MAX_WAITING_PER_TOKEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::LookupKind;

    const ONE: Asker = Some(Uuid::from_u128(1));
    const TWO: Asker = Some(Uuid::from_u128(2));

    fn name(name: &str) -> Lookup {
        let name = name.into();
        let kind = LookupKind::App;
        Lookup { kind, name }
    }

    fn enter(turns: &mut Turns, lookup: &str, asker: Asker) -> Option<oneshot::Receiver<()>> {
        match turns.enter(&name(lookup), asker, oneshot::channel().0) {
            Place::New(turn) => Some(turn),
            Place::Joined => None,
            Place::Refused(_, why) => panic!("{why}"),
        }
    }

    fn has_begun(turn: &mut Option<oneshot::Receiver<()>>) -> bool {
        turn.as_mut().unwrap().try_recv().is_ok()
    }

    #[test]
    fn a_token_has_its_part_and_the_others_theirs() {
        let mut turns = Turns::new(8);
        let mut own = ["a", "b", "c", "d"].map(|name| enter(&mut turns, name, ONE));
        assert_eq!(own.each_mut().map(has_begun), [true, true, false, false]);
        assert!(has_begun(&mut enter(&mut turns, "e", TWO)));
        assert!(has_begun(&mut enter(&mut turns, "f", None)));
        // What ends makes room for the next of the same token.
        assert_eq!(turns.leave(&name("a")).len(), 1);
        let [_, _, c, d] = &mut own;
        assert_eq!((has_begun(c), has_begun(d)), (true, false));
        // One that gave up before its turn took none.
        turns.leave(&name("d"));
        turns.leave(&name("b"));
        assert!(has_begun(&mut enter(&mut turns, "g", ONE)));
        assert_eq!((turns.under_way.len(), turns.order.len()), (4, 0));
    }

    #[test]
    fn no_more_than_all_have_a_turn() {
        let mut turns = Turns::new(2);
        let mut all = ["a", "b", "c"].map(|name| enter(&mut turns, name, None));
        assert_eq!(all.each_mut().map(has_begun), [true, true, false]);
        turns.leave(&name("a"));
        assert!(has_begun(&mut all[2]));
    }

    #[test]
    fn who_asks_for_what_a_busy_one_has_asked_for_does_not_wait_for_it() {
        let mut turns = Turns::new(8);
        let mut own = ["a", "b", "c", "d"].map(|name| enter(&mut turns, name, ONE));
        assert!(
            enter(&mut turns, "d", TWO).is_none(),
            "one look-up for both"
        );
        let [_, _, c, d] = &mut own;
        assert_eq!((has_begun(c), has_begun(d)), (false, true));
        assert_eq!(turns.leave(&name("d")).len(), 2);
        assert!(!has_begun(c), "it took no turn of the first");
    }

    #[test]
    fn so_many_names_of_one_token_wait_and_no_more() {
        let mut turns = Turns::new(8);
        for number in 0..MAX_WAITING_PER_TOKEN {
            assert!(enter(&mut turns, &format!("n{number}"), ONE).is_some());
        }
        let answered = oneshot::channel().0;
        let refused = turns.enter(&name("more"), ONE, answered);
        assert!(matches!(refused, Place::Refused(_, Unanswered::TooMany)));
        assert!(enter(&mut turns, "n0", ONE).is_none(), "it joins");
        assert!(enter(&mut turns, "more", TWO).is_some());
        turns.leave(&name("n0"));
        assert!(enter(&mut turns, "last", ONE).is_some());
    }
}

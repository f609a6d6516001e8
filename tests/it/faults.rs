//! Fail closed: every part that usher depends on, at fault in every way, on every kind of route.
//!
//! A cell of the matrix is a request that is served before the fault, or after it, gets during it
//! exactly what the table says, and is served again once the fault has gone. Where the table says
//! that it is refused for want of something to judge it by, the upstream sees nothing of it.

mod broken;
mod kinds;

use std::collections::BTreeSet;
use std::thread;

use crate::support::report;

use broken::Broken;
use kinds::{KINDS, Kind};

/// What usher depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The file that keys and revocations lie in.
    Store,
    /// The server that knows the names.
    Directory,
    /// What lies in the store: signing keys, and the revocations that are followed.
    Authority,
    Upstream,
    /// The configuration on disk.
    Reload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Away.
    Down,
    /// There, and does not answer.
    Slow,
    /// Answers with what is no answer.
    Garbage,
    /// Answers with what was true once.
    Stale,
}

const PARTS: [Part; 5] = [
    Part::Store,
    Part::Directory,
    Part::Authority,
    Part::Upstream,
    Part::Reload,
];
const FAULTS: [Fault; 4] = [Fault::Down, Fault::Slow, Fault::Garbage, Fault::Stale];

/// What has to become of a request during a fault.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// It is served as if nothing were.
    Served,
    /// It cannot be judged, so it is refused and nobody sees it.
    Unjudged(u16, &'static str),
    /// It is permitted, and cannot be served; one of these.
    Unserved(&'static [(u16, &'static str)]),
}

/// The matrix.
fn expected(part: Part, fault: Fault, kind: Kind) -> Expected {
    use Expected::{Served, Unjudged, Unserved};
    let unavailable = Unjudged(503, "unavailable");
    match (part, fault, kind) {
        // Nobody's token is looked at.
        (Part::Store | Part::Authority, _, Kind::Public) => Served,
        // Revoked elsewhere: what is known here is stale, for less than a second.
        (Part::Authority, Fault::Stale, _) => Unjudged(401, "token-revoked"),
        (Part::Store | Part::Authority, _, _) => unavailable,
        // They name nothing.
        (Part::Directory, _, Kind::Public | Kind::Authenticated) => Served,
        (Part::Directory, _, _) => unavailable,
        // A tunnel is open once somebody accepts, and what comes through it is not looked at.
        (Part::Upstream, Fault::Slow | Fault::Garbage, Kind::Tunnel) => Served,
        // Nothing was sent, so clients may ask again.
        (Part::Upstream, Fault::Down, _) => {
            Unserved(&[(502, "upstream-connect"), (503, "upstream-unavailable")])
        }
        // It may have acted.
        (Part::Upstream, Fault::Slow, _) => Unserved(&[(504, "upstream-timeout")]),
        (Part::Upstream, Fault::Garbage, _) => Unserved(&[(500, "upstream-failed")]),
        // A connection that it has closed without a word is noticed, and another one made.
        (Part::Upstream, Fault::Stale, _) => Served,
        // What is served stays what it was.
        (Part::Reload, _, _) => Served,
    }
}

#[test]
fn every_part_at_fault_in_every_way_on_every_kind_of_route() {
    let cases = PARTS
        .iter()
        .flat_map(|part| FAULTS.map(|fault| (*part, fault)));
    // Most of them wait for ten seconds until a store that is not heard of counts as lost.
    let checked: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = cases
            .map(|(part, fault)| {
                let name = format!("{part:?} {fault:?}");
                let case = thread::Builder::new().name(name);
                case.spawn_scoped(scope, move || run(part, fault)).unwrap()
            })
            .collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended.filter_map(Result::ok).flatten().collect()
    });
    let cells: BTreeSet<_> = checked.iter().copied().collect();
    assert_eq!(cells.len(), checked.len(), "a cell was checked twice");
    let all = PARTS.len() * FAULTS.len() * KINDS.len();
    assert_eq!(cells.len(), all, "some cells have failed, or are missing");
    report(format_args!(
        "faults: {} parts x {} faults x {} kinds of route = {all} cells",
        PARTS.len(),
        FAULTS.len(),
        KINDS.len()
    ));
}

/// One part at fault in one way; the cells that were checked.
fn run(part: Part, fault: Fault) -> Vec<(Part, Fault, Kind)> {
    let mut broken = Broken::new(part, fault);
    if !broken.is_broken() {
        for kind in KINDS {
            served(&broken, kind);
        }
        broken.break_it();
    }
    let mut checked = Vec::new();
    for kind in KINDS {
        let what = format!("{part:?} {fault:?} {kind:?}");
        let (before, answer) = broken.during(kind);
        match expected(part, fault, kind) {
            Expected::Served => assert!(answer.is_served(kind), "{what}: {answer:?}"),
            Expected::Unjudged(status, code) => {
                assert_eq!(broken.seen(), before, "{what}: the upstream saw it");
                assert_eq!((answer.status, &*answer.code), (status, code), "{what}");
            }
            Expected::Unserved(codes) => {
                let said = (answer.status, &*answer.code);
                assert!(codes.contains(&said), "{what}: {answer:?}");
            }
        }
        // Whatever is at fault, nobody gets what they never could.
        let before = broken.seen();
        let answer = broken.ask_unpermitted(kind);
        if kind != Kind::Public {
            assert_eq!(broken.seen(), before, "{what}: the upstream saw a stranger");
            assert!(
                matches!(answer.status, 401 | 403 | 503),
                "{what}: {answer:?}"
            );
        }
        checked.push((part, fault, kind));
    }
    broken.mend();
    for kind in KINDS {
        served(&broken, kind);
    }
    checked
}

/// A request is served, and only who is permitted has it served.
#[track_caller]
fn served(broken: &Broken, kind: Kind) {
    let answer = broken.ask(kind);
    assert!(answer.is_served(kind), "{broken:?} {kind:?}: {answer:?}");
    if kind != Kind::Public {
        let before = broken.seen();
        let answer = broken.ask_unpermitted(kind);
        assert_eq!(
            broken.seen(),
            before,
            "{broken:?} {kind:?}: a stranger got through"
        );
        let expected = if kind == Kind::Authenticated {
            401
        } else {
            403
        };
        assert_eq!(answer.status, expected, "{broken:?} {kind:?}: {answer:?}");
    }
}

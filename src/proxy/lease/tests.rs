use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, header};
use tempfile::TempDir;

use super::*;
use crate::authority::{Authority, Request, Revocation};
use crate::authz::{Authorizer, Head};
use crate::config;
use crate::directory::Directory;
use crate::macaroon::{Action, Bundle, Caveat, Token};

const NOW: i64 = 1_764_000_000;

const CONFIG: &str = r#"
listeners: [ { address: 127.0.0.1:0 } ]
authority: { location: https://usher.test/v1, store: sqlite:usher.db, seal_key: { file: seal.key } }
directory: { orgs: [ { slug: acme, id: 1 } ] }
upstreams: [ { name: up, urls: [ "http://127.0.0.1:1" ] } ]
routes: [ { name: read, method: GET, path: /, access: { action: r, org: acme }, upstream: up } ]
"#;

/// An authority, what decides with it, and the leases of one thread.
struct Place {
    authority: Arc<Authority>,
    authorizer: Arc<Authorizer>,
    leases: Rc<Leases>,
    _folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("seal.key"), STANDARD.encode([9; 32])).unwrap();
        let (config, _) = config::parse(CONFIG, &folder.path().join("usher.yaml")).unwrap();
        let authority = Arc::new(Authority::open(&config.authority, NOW).unwrap());
        let metrics = Arc::new(Metrics::new());
        let directory = Directory::open(&config.directory, &metrics).unwrap();
        let authorizer = Arc::new(Authorizer::new(
            Arc::new(config),
            Arc::clone(&authority),
            Arc::new(directory),
            Arc::clone(&metrics),
        ));
        Self {
            leases: Leases::new(Decider::Authorizer(Arc::clone(&authorizer)), metrics),
            authority,
            authorizer,
            _folder: folder,
        }
    }

    fn token(&self, last: i64) -> Token {
        let org = Caveat::Organization {
            id: 1,
            mask: Action::ALL,
        };
        let window = Caveat::ValidityWindow {
            not_before: NOW,
            not_after: last,
        };
        let request = Request {
            kind: "test",
            name: None,
            org: None,
            app: None,
            caveats: &[org, window],
            issuer: None,
        };
        self.authority.issue(&request, NOW).unwrap()
    }

    /// The lease of what the token permits at [`NOW`].
    fn lease(&self, token: &Token) -> Lease {
        let bundle = Bundle {
            tokens: vec![token.clone()],
            ..Bundle::default()
        };
        let mut headers = HeaderMap::new();
        let credential = HeaderValue::from_str(&bundle.to_header()).unwrap();
        headers.insert(header::AUTHORIZATION, credential);
        let head = Head {
            method: &Method::GET,
            host: "usher.test",
            target: "/",
            headers: &headers,
            basic: None,
            body: None,
        };
        let permit = self
            .authorizer
            .authorize(&head, NOW)
            .unwrap()
            .verdict
            .unwrap();
        permit.lease().unwrap().clone()
    }

    fn watch(&self, last: i64) -> LeaseWatch {
        self.leases
            .watch(Some(self.lease(&self.token(last))), Standing::new())
    }

    fn revoke(&self, token: &Token) {
        let lineage = Revocation::Lineage(token.uuid());
        assert!(self.authority.revoke(lineage, NOW).unwrap());
    }

    fn places(&self) -> usize {
        self.leases.table.borrow().places.len()
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    /// Waits with it.
    fn poll(self: &Arc<Self>, watch: &LeaseWatch) -> Poll<LeaseEnd> {
        let waker = Waker::from(Arc::clone(self));
        watch.poll_ended(&mut Context::from_waker(&waker))
    }

    fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn the_last_second_belongs_to_a_lease() {
    let place = Place::new();
    let [one, other] = [place.watch(NOW + 5), place.watch(NOW + 7)];
    let [bell, second] = [Arc::<Bell>::default(), Arc::<Bell>::default()];
    place.leases.review(NOW);
    assert!(bell.poll(&one).is_pending());
    assert!(second.poll(&other).is_pending());
    place.leases.review(NOW + 5);
    assert_eq!((one.ended(), bell.rung()), (None, 0));
    place.leases.review(NOW + 6);
    assert_eq!((one.ended(), bell.rung()), (Some(LeaseEnd::Expired), 1));
    assert_eq!((other.ended(), second.rung()), (None, 0));
    place.leases.review(NOW + 8);
    assert_eq!(second.poll(&other), Poll::Ready(LeaseEnd::Expired));
    assert_eq!((bell.rung(), second.rung()), (1, 1), "each is woken once");
    // A clock that is set back brings nothing back.
    place.leases.review(NOW);
    assert_eq!(bell.poll(&one), Poll::Ready(LeaseEnd::Expired));
}

#[test]
fn a_clock_that_steps_ends_what_it_has_passed_and_nothing_else() {
    let place = Place::new();
    let [one, other] = [place.watch(NOW + 5), place.watch(NOW + 7200)];
    for now in [NOW, NOW - 3600, NOW + 1, NOW - 30, NOW + 5] {
        place.leases.review(now);
        assert_eq!((one.ended(), other.ended()), (None, None), "{now}");
    }
    // Forward over the end of one; and what has ended stays so when the step is taken back.
    for now in [NOW + 3600, NOW, NOW + 7200] {
        place.leases.review(now);
        let ends = (one.ended(), other.ended());
        assert_eq!(ends, (Some(LeaseEnd::Expired), None), "{now}");
    }
    place.leases.review(NOW + 7201);
    assert_eq!(other.ended(), Some(LeaseEnd::Expired));
}

#[test]
fn whoever_asked_last_is_woken() {
    let place = Place::new();
    let watch = place.watch(NOW);
    let [before, after] = [Arc::<Bell>::default(), Arc::<Bell>::default()];
    assert!(before.poll(&watch).is_pending());
    assert!(after.poll(&watch).is_pending());
    place.leases.review(NOW + 1);
    assert_eq!((before.rung(), after.rung()), (0, 1));
}

#[test]
fn a_revocation_ends_the_leases_of_its_token_alone() {
    let place = Place::new();
    let [revoked, kept] = [place.token(NOW + 60), place.token(NOW + 60)];
    let [ends, lasts] = [&revoked, &kept].map(|token| {
        place
            .leases
            .watch(Some(place.lease(token)), Standing::new())
    });
    place.leases.review(NOW);
    let bell = Arc::<Bell>::default();
    assert!(bell.poll(&ends).is_pending());
    place.revoke(&revoked);
    place.leases.review(NOW);
    assert_eq!((ends.ended(), bell.rung()), (Some(LeaseEnd::Revoked), 1));
    assert_eq!(lasts.ended(), None);
}

#[test]
fn a_revocation_between_decision_and_entry_is_not_missed() {
    let place = Place::new();
    let token = place.token(NOW + 60);
    let lease = place.lease(&token);
    place.revoke(&token);
    // The table has been looked at since, and nothing will change any more.
    place.leases.review(NOW);
    assert_eq!(
        place.leases.watch(Some(lease), Standing::new()).ended(),
        Some(LeaseEnd::Revoked)
    );
}

#[test]
fn a_decision_may_rest_on_a_key_that_the_last_look_did_not_see() {
    let place = Place::new();
    place.leases.review(NOW);
    place.authority.rotate(NOW).unwrap();
    let watch = place.watch(NOW + 60);
    assert_eq!(watch.ended(), None);
    place.leases.review(NOW);
    assert_eq!(watch.ended(), None);
}

#[test]
fn a_key_that_is_retired_ends_the_leases_of_its_tokens() {
    let place = Place::new();
    let token = place.token(NOW + 60);
    let old = place
        .leases
        .watch(Some(place.lease(&token)), Standing::new());
    place.authority.rotate(NOW).unwrap();
    let new = place.watch(NOW + 60);
    place.leases.review(NOW);
    assert_eq!((old.ended(), new.ended()), (None, None));
    assert!(place.authority.retire(token.key_id()).unwrap());
    place.leases.review(NOW);
    assert_eq!((old.ended(), new.ended()), (Some(LeaseEnd::Revoked), None));
}

#[test]
fn rules_that_do_not_stand_end_what_they_permitted_and_nothing_else() {
    let place = Place::new();
    let [gone, stands] = [Standing::new(), Standing::new()];
    let lease = || Some(place.lease(&place.token(NOW + 60)));
    let watch = |lease, standing: &Standing| place.leases.watch(lease, standing.clone());
    let ends = [watch(lease(), &gone), watch(None, &gone)];
    let lasts = [watch(lease(), &stands), watch(None, &stands)];
    place.leases.review(NOW);
    let [bell, other] = [Arc::<Bell>::default(), Arc::<Bell>::default()];
    assert!(ends.iter().all(|watch| bell.poll(watch).is_pending()));
    assert!(lasts.iter().all(|watch| other.poll(watch).is_pending()));
    gone.withdraw();
    // What was judged before and comes only now.
    assert_eq!(watch(lease(), &gone).ended(), Some(LeaseEnd::Withdrawn));
    let decider = Decider::Authorizer(Arc::clone(&place.authorizer));
    place.leases.decide_by(decider);
    assert_eq!(
        ends.map(|watch| watch.ended()),
        [Some(LeaseEnd::Withdrawn); 2]
    );
    assert_eq!(bell.rung(), 2);
    // By the clock of this machine the tokens may have ended; the public one has none.
    assert_eq!(lasts[1].ended(), None);
    assert_ne!(lasts[0].ended(), Some(LeaseEnd::Withdrawn));
}

#[test]
fn places_are_taken_again() {
    let place = Place::new();
    let lease = place.lease(&place.token(NOW + 60));
    let watch = |_| place.leases.watch(Some(lease.clone()), Standing::new());
    let mut held: Vec<_> = (0..8).map(watch).collect();
    assert_eq!(place.places(), 8);
    held.truncate(2);
    held.remove(0);
    for _ in 0..100 {
        held.extend((0..7).map(watch));
        assert_eq!(place.places(), 8);
        held.truncate(1);
    }
    // One that ends is as free as one that lasts.
    place.leases.review(NOW + 61);
    assert_eq!(held[0].ended(), Some(LeaseEnd::Expired));
    drop(held);
    let _again: Vec<_> = (0..8).map(watch).collect();
    assert_eq!(place.places(), 8);
}

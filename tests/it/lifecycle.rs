//! Tokens over time: issued, narrowed, expired, revoked; keys rotated; usher restarted.

use usher::authority::{Kind, Revocation};
use usher::clock::unix_now;
use usher::macaroon::{Action, Caveat, Limits};
use zeroize::Zeroizing;

use crate::support::{
    Answer, Peer, Recorder, World, distinct, forever, header, hour, until, window,
};

const ORG: Kind = Kind::Org { org: 2001 };
const ACME: Caveat = Caveat::Organization {
    id: 2001,
    mask: Action::ALL,
};
const REQUEST: &str = "GET /v1/apps/web";

/// Asks on a connection that is kept.
fn ask(peer: &mut Peer, credential: &str) -> Answer {
    peer.send(format!(
        "{REQUEST} HTTP/1.1\r\nhost: usher.test\r\nauthorization: {credential}\r\n\r\n"
    ));
    peer.answer()
}

#[test]
fn a_revocation_holds_from_the_next_request_on() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let parent = usher.token(&ORG, hour());
    let child = parent
        .attenuate(&[Caveat::Action(Action::READ)], &Limits::DEFAULT)
        .unwrap();
    let grandchild = child
        .attenuate(&[window(-60, 60)], &Limits::DEFAULT)
        .unwrap();
    let [parent_header, child_header, grandchild_header] =
        [&parent, &child, &grandchild].map(|token| header(&[token]));
    let other = usher.credential(&ORG);
    let mut peer = usher.connect();
    let mut statuses = || {
        [&parent_header, &child_header, &grandchild_header, &other].map(|credential| {
            let answer = ask(&mut peer, credential);
            if answer.status == 401 {
                assert_eq!(answer.code(), "token-revoked");
            }
            answer.status
        })
    };
    // Twice, so that what is revoked has been verified and is in the cache.
    assert_eq!(statuses(), [200, 200, 200, 200]);
    assert_eq!(statuses(), [200, 200, 200, 200]);
    let tail = Revocation::Tail(child.uuid(), child.tail_digest().unwrap());
    usher.authority.revoke(tail, unix_now()).unwrap();
    assert_eq!(statuses(), [200, 401, 401, 200]);
    let lineage = Revocation::Lineage(parent.uuid());
    usher.authority.revoke(lineage, unix_now()).unwrap();
    assert_eq!(statuses(), [401, 401, 401, 200]);
    assert_eq!(upstream.requests().len(), 8 + 2 + 1);
}

#[test]
fn a_revoked_token_beside_a_good_one_permits_nothing() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let powerful = usher.token(&ORG, hour());
    let weak = usher.token(&Kind::Readonly { org: 2001 }, hour());
    let lineage = Revocation::Lineage(powerful.uuid());
    usher.authority.revoke(lineage, unix_now()).unwrap();
    let both = header(&[&powerful, &weak]);
    let answer = usher.ask("DELETE /v1/apps/web", Some(&both));
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));
    assert_eq!(usher.ask(REQUEST, Some(&both)).status, 200);
    let uuid = weak.uuid().to_string();
    assert_eq!(upstream.last().line("x-usher-token-id"), Some(&*uuid));
}

#[test]
fn a_window_opens_and_closes_while_the_token_is_in_use() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    // Seconds are whole and this one has begun, so the first request has two of them.
    let token = header(&[&usher.issue(&[ACME, window(3, 4)])]);
    let mut peer = usher.connect();
    let first = ask(&mut peer, &token);
    upstream.saw_nothing();
    assert_eq!((first.status, &*first.code()), (401, "token-not-yet-valid"));
    until("the window to open", || {
        (ask(&mut peer, &token).status == 200).then_some(())
    });
    let last = until("the window to close", || {
        let answer = ask(&mut peer, &token);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((last.status, &*last.code()), (401, "token-expired"));
    // And stays closed, for the cache as well.
    let seen = upstream.requests().len();
    assert_eq!(ask(&mut peer, &token).code(), "token-expired");
    assert_eq!(upstream.requests().len(), seen);
}

#[test]
fn rotating_keeps_the_tokens_of_the_key_before() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let token = usher.token(&ORG, hour());
        tokens.push((token.key_id().to_vec(), header(&[&token])));
        usher.rotate();
        for (_, credential) in &tokens {
            assert_eq!(usher.ask(REQUEST, Some(credential)).status, 200);
        }
    }
    tokens.dedup_by(|one, two| one.0 == two.0);
    assert_eq!(tokens.len(), 3, "each has a key of its own");
}

#[test]
fn a_restart_forgets_nothing() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let (kept, revoked) = (usher.token(&ORG, forever()), usher.token(&ORG, forever()));
    let child = kept
        .attenuate(&[Caveat::Action(Action::READ)], &Limits::DEFAULT)
        .unwrap();
    usher.rotate();
    let second = usher.token(&ORG, forever());
    let key = distinct::<32>(6);
    usher.import(b"theirs", key);
    let theirs = usher::macaroon::Token::mint(
        b"theirs",
        [1; 16],
        "https://api.fly.io/v1",
        &usher::macaroon::SigningKey::new(Zeroizing::new(key.to_vec())),
        &[ACME],
    );
    for revocation in [
        Revocation::Lineage(revoked.uuid()),
        Revocation::Tail(child.uuid(), child.tail_digest().unwrap()),
    ] {
        usher.authority.revoke(revocation, unix_now()).unwrap();
    }
    let usher = usher.restart();
    for refused in [&revoked, &child] {
        let answer = usher.ask(REQUEST, Some(&header(&[refused])));
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (401, "token-revoked"));
    }
    for permitted in [&kept, &second, &theirs.unwrap()] {
        let answer = usher.ask(REQUEST, Some(&header(&[permitted])));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let ledger = usher.authority.tokens().unwrap();
    let uuids: Vec<_> = ledger.iter().map(|issued| issued.uuid).collect();
    assert_eq!(uuids, [kept.uuid(), revoked.uuid(), second.uuid()]);
}

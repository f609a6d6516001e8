//! Credentials that the acceptance matrix does not have.

use usher::authority::Kind;
use usher::macaroon::{Caveat, Limits, SigningKey, Token};
use zeroize::Zeroizing;

use crate::support::{Recorder, World, header, hour};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

const LIST: &str = "GET /v1/apps/web/machines";

#[test]
fn a_token_under_a_known_key_id_needs_its_key() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let known_id = usher.token(&DEPLOY, hour()).key_id().to_vec();
    let stranger = SigningKey::new(Zeroizing::new(vec![1; 32]));
    let location = "https://api.fly.io/v1";
    let made_up = Token::mint(&known_id, [1; 16], location, &stranger, &[]).unwrap();
    let answer = usher.ask(LIST, Some(&header(&[&made_up])));
    upstream.saw_nothing();
    assert_eq!(
        (answer.status, &*answer.code()),
        (401, "token-bad-signature")
    );
}

#[test]
fn a_source_that_the_client_claims_is_dropped() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher
        .token(&DEPLOY, hour())
        .attenuate(
            &[Caveat::FromMachineSource("148e1aaa000001".into())],
            &Limits::DEFAULT,
        )
        .unwrap();
    let claim = "fly-src: instance=148e1aaa000001;app=web;org=acme\r\n";
    let answer = usher.ask_with(LIST, Some(&header(&[&token])), claim);
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));

    let answer = usher.ask_with(LIST, Some(&usher.credential(&DEPLOY)), claim);
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.last().line("fly-src"), None);
}

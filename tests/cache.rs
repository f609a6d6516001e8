//! The cache changes no answer: with it and without it, any interleaving of tokens, requests,
//! revocations, rotations and steps of the clock gets the same ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

#[path = "support/canary.rs"]
mod canary;
#[path = "support/keys.rs"]
mod keys;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Once};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, header};
use proptest::prelude::*;
use usher::authority::{Authority, Request, Revocation};
use usher::authz::{Authorizer, Decision, Head, Lease, LeaseEnd, Permit};
use usher::config::{self, Config};
use usher::directory::Directory;
use usher::macaroon::{
    Action, Bundle, Caveat, Limits, Resources, SigningKey, ThirdParty, Token, seal,
};
use usher::metrics::Metrics;
use zeroize::Zeroizing;

use self::canary::{Place, Plant};

const START: i64 = 1_764_000_000;

const SEAL_KEY: [u8; 32] = *b"a seal key is of thirty-two byte";

/// What the third party and usher share, in base64 in the configuration.
const SHARED: [u8; 32] = *b"and so are the keys that others ";

const CACHE: &str = "{ bytes: 1MiB, ttl: 1h }";

/// By which the third party signs a discharge.
const DISCHARGE_KEY: [u8; 32] = *b"have, of tickets and discharges.";

fn configuration(folder: &Path, cache: &str) -> Config {
    let text = format!(
        r#"
listeners: [ {{ address: 127.0.0.1:0 }} ]
authority:
  location: https://usher.test/v1
  store: sqlite:usher.db
  seal_key: {{ file: seal.key }}
  third_parties: [ {{ location: https://third.test, key: {{ file: third.key }} }} ]
directory:
  public_names: true
  orgs: [ {{ slug: acme, id: 1 }}, {{ slug: beta, id: 2 }} ]
  apps: [ {{ name: web, id: 11, org: acme }}, {{ name: api, id: 12, org: acme }}, {{ name: shop, id: 21, org: beta }} ]
upstreams: [ {{ name: up, urls: [ "http://127.0.0.1:1" ] }} ]
routes:
  - {{ name: read, method: GET, path: "/apps/{{app}}", access: {{ action: r, app: "{{app}}" }}, upstream: up }}
  - {{ name: write, method: POST, path: "/apps/{{app}}", access: {{ action: w, app: "{{app}}" }}, upstream: up }}
  - name: both
    method: GET
    path: "/both/{{one}}/{{two}}"
    access: [ {{ action: r, app: "{{one}}" }}, {{ action: r, app: "{{two}}" }} ]
    upstream: up
  - {{ name: any, method: GET, path: /any, access: authenticated, upstream: up }}
  - {{ name: owned, method: GET, path: "/orgs/{{org}}/apps/{{app}}", access: {{ action: r, org: "{{org}}", app: "{{app}}" }}, upstream: up }}
  - name: own
    method: GET
    path: /clusters
    access: {{ action: r, org: token, feature: litefs-cloud, cluster: {{ query: cluster, else: token }} }}
    upstream: up
cache: {cache}
"#
    );
    config::parse(&text, &folder.join("usher.yaml")).unwrap().0
}

/// Two authorizers of one authority: one with a cache, one without. No secret may show in what they
/// say, log and count, nor in what `Debug` prints of it all.
struct Pair {
    authority: Arc<Authority>,
    cached: Authorizer,
    plain: Authorizer,
    metrics: Arc<Metrics>,
    folder: tempfile::TempDir,
}

impl Pair {
    fn open() -> Self {
        static WATCHED: Once = Once::new();
        WATCHED.call_once(|| {
            usher::cli::log_to(|| canary::Lines(Place::Log), "trace", false);
            canary::watch_panics();
            canary::hide(&SHARED);
            canary::hide(&DISCHARGE_KEY);
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("seal.key"), STANDARD.encode(SEAL_KEY)).unwrap();
        std::fs::write(folder.path().join("third.key"), STANDARD.encode(SHARED)).unwrap();
        let with = Arc::new(configuration(folder.path(), CACHE));
        let without = Arc::new(configuration(folder.path(), "{ bytes: 0B }"));
        let authority = Arc::new(Authority::open(&with.authority, START).unwrap());
        keys::hide_keys(folder.path());
        let metrics = Arc::new(Metrics::new());
        let authorizer = |config: Arc<Config>, metrics| {
            let directory = Directory::open(&config.directory, &metrics).unwrap();
            Authorizer::new(config, Arc::clone(&authority), Arc::new(directory), metrics)
        };
        Self {
            cached: authorizer(with, Arc::clone(&metrics)),
            plain: authorizer(without, Arc::new(Metrics::new())),
            authority,
            metrics,
            folder,
        }
    }

    /// Another key, which is looked for like those before it.
    fn rotate(&self, now: i64) {
        self.authority.rotate(now).unwrap();
        keys::hide_keys(self.folder.path());
    }

    /// Asks both, and demands one answer.
    fn ask(&self, header: Option<&str>, (method, target): &(Method, String), now: i64) -> String {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            canary::hide_tokens(header);
            headers.insert(
                header::AUTHORIZATION,
                HeaderValue::from_str(header).unwrap(),
            );
        }
        let head = Head {
            method,
            host: "usher.test",
            target,
            headers: &headers,
            basic: None,
            body: None,
        };
        let seen = |decision: Decision<'_>| {
            let Decision {
                route,
                accesses,
                token,
                reason,
                verdict,
            } = decision;
            let lease = verdict.as_ref().ok().and_then(Permit::lease);
            let until = lease.map(Lease::not_after);
            format!("until {until:?}: {route:?} {accesses:?} {token:?} {reason:?} {verdict:?}")
        };
        let ask = |of: &Authorizer| seen(of.authorize(&head, now).unwrap());
        let cached = ask(&self.cached);
        canary::look(Place::Answer, cached.as_bytes());
        assert_eq!(cached, ask(&self.plain), "{method} {target} at {now}");
        cached
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let mut metrics = String::new();
        self.metrics.write(&mut metrics).unwrap();
        canary::look(Place::Metrics, metrics.as_bytes());
        let printed = format!("{:?} {:?}", self.cached, self.plain);
        canary::look(Place::Log, printed.as_bytes());
        canary::assert_hidden();
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A new token of the authority.
    Issue(Vec<Caveat>),
    /// A token whose caveat a third party must discharge, with the discharge's own caveats.
    IssueThirdParty(Vec<Caveat>),
    /// Caveats appended to one of the headers so far.
    Attenuate(usize, Vec<Caveat>),
    /// One bit of the last token of a header.
    Damage(usize, usize),
    /// Two headers as one.
    Join(usize, usize),
    Request(usize, (Method, String)),
    RevokeLineage(usize),
    RevokeTail(usize),
    Rotate,
    Clock(i64),
}

fn caveats() -> impl Strategy<Value = Vec<Caveat>> {
    let mask = || prop_oneof![Just(Action::ALL), Just(Action::READ)];
    let caveat = prop_oneof![
        (1_u64..3, mask()).prop_map(|(id, mask)| Caveat::Organization { id, mask }),
        (11_u64..13, mask()).prop_map(|(id, mask)| Caveat::Apps(Resources::new([(id, mask)]))),
        (-20_i64..10, 0_i64..60).prop_map(|(from, long)| Caveat::ValidityWindow {
            not_before: START + from,
            not_after: START + from + long,
        }),
        mask().prop_map(Caveat::Action),
        Just(Caveat::IsUser(5)),
    ];
    prop::collection::vec(caveat, 0..6)
}

fn step() -> impl Strategy<Value = Step> {
    let at = || any::<prop::sample::Index>().prop_map(|index| index.index(1_000));
    let app =
        || prop_oneof![4 => Just("web"), 2 => Just("api"), 2 => Just("shop"), 1 => Just("none")];
    let request = prop_oneof![
        app().prop_map(|app| (Method::GET, format!("/apps/{app}"))),
        app().prop_map(|app| (Method::POST, format!("/apps/{app}"))),
        (app(), app()).prop_map(|(one, two)| (Method::GET, format!("/both/{one}/{two}"))),
        Just((Method::GET, "/any".to_owned())),
        Just((Method::GET, "/unknown".to_owned())),
        Just((Method::GET, "/any/../any".to_owned())),
    ];
    prop_oneof![
        2 => caveats().prop_map(Step::Issue),
        2 => caveats().prop_map(Step::IssueThirdParty),
        3 => (at(), caveats()).prop_map(|(at, caveats)| Step::Attenuate(at, caveats)),
        1 => (at(), at()).prop_map(|(at, bit)| Step::Damage(at, bit)),
        1 => (at(), at()).prop_map(|(one, two)| Step::Join(one, two)),
        20 => (at(), request).prop_map(|(at, request)| Step::Request(at, request)),
        1 => at().prop_map(Step::RevokeLineage),
        1 => at().prop_map(Step::RevokeTail),
        1 => Just(Step::Rotate),
        3 => (-40_i64..60).prop_map(Step::Clock),
    ]
}

fn parse(header: &str) -> Bundle {
    Bundle::parse(header, &Limits::DEFAULT).unwrap()
}

fn header_of(tokens: Vec<Token>) -> String {
    Bundle {
        tokens,
        defects: Vec::new(),
    }
    .to_header()
}

fn issue(pair: &Pair, caveats: &[Caveat]) -> Token {
    let request = Request {
        kind: "test",
        name: None,
        org: None,
        app: None,
        caveats,
        issuer: None,
    };
    let token = pair.authority.issue(&request, START).unwrap();
    canary::hide(token.rnd());
    token
}

/// A token with a third-party caveat, and the proof that discharges it.
fn issue_with_discharge(pair: &Pair, caveats: &[Caveat]) -> Vec<Token> {
    let base = issue(
        pair,
        &[Caveat::Organization {
            id: 1,
            mask: Action::ALL,
        }],
    );
    let tail = base.bytes().last_chunk::<32>().unwrap();
    // The ticket: the discharge's key, and no caveats for the third party.
    let ticket = seal(
        &SHARED,
        [1; 12],
        &[&[0x92, 0xc4, 32], DISCHARGE_KEY.as_slice(), &[0x90]].concat(),
    );
    let ticket = ticket.unwrap();
    // A client has to take it to the third party.
    canary::hide_except(&ticket, &[Place::Answer]);
    let caveat = Caveat::ThirdParty(ThirdParty {
        location: "https://third.test".into(),
        verifier_key: seal(tail, [2; 12], &DISCHARGE_KEY)
            .unwrap()
            .as_slice()
            .into(),
        ticket: ticket.as_slice().into(),
    });
    let key = SigningKey::new(Zeroizing::new(DISCHARGE_KEY.to_vec()));
    let attested = [&[Caveat::FlyioUserId(77)], caveats].concat();
    let rnd = *b"a nonce, sixteen";
    let discharge = Token::discharge(&ticket, rnd, "https://third.test", &key, &attested).unwrap();
    canary::hide(discharge.rnd());
    vec![
        base.attenuate(&[caveat], &Limits::DEFAULT).unwrap(),
        discharge,
    ]
}

fn run(pair: &Pair, steps: &[Step]) -> Vec<String> {
    let mut headers: Vec<String> = Vec::new();
    let mut now = START;
    let mut answers = Vec::new();
    for step in steps {
        let pick = |at: usize| headers.get(at % headers.len().max(1)).cloned();
        match step {
            Step::Issue(caveats) => headers.push(header_of(vec![issue(pair, caveats)])),
            Step::IssueThirdParty(caveats) => {
                headers.push(header_of(issue_with_discharge(pair, caveats)));
            }
            Step::Attenuate(at, caveats) => {
                let Some(header) = pick(*at) else { continue };
                let mut tokens = parse(&header).tokens;
                tokens[0] = tokens[0].attenuate(caveats, &Limits::DEFAULT).unwrap();
                headers.push(header_of(tokens));
            }
            Step::Damage(at, bit) => {
                let Some(header) = pick(*at) else { continue };
                let mut tokens = parse(&header).tokens;
                let mut bytes = tokens.pop().unwrap().bytes().to_vec();
                let last = bytes.len() - 1;
                bytes[last - bit % 32] ^= 1 << (bit % 8);
                tokens.push(Token::decode(bytes, &Limits::DEFAULT).unwrap());
                headers.push(header_of(tokens));
            }
            Step::Join(one, two) => {
                let (Some(one), Some(two)) = (pick(*one), pick(*two)) else {
                    continue;
                };
                let mut tokens = parse(&one).tokens;
                tokens.extend(parse(&two).tokens);
                tokens.truncate(8);
                headers.push(header_of(tokens));
            }
            Step::Request(at, request) => {
                answers.push(pair.ask(pick(*at).as_deref(), request, now));
            }
            Step::RevokeLineage(at) => {
                let Some(header) = pick(*at) else { continue };
                let revocation = Revocation::Lineage(parse(&header).tokens[0].uuid());
                pair.authority.revoke(revocation, now).unwrap();
            }
            Step::RevokeTail(at) => {
                let Some(header) = pick(*at) else { continue };
                let token = &parse(&header).tokens[0];
                let revocation = Revocation::Tail(token.uuid(), token.tail_digest().unwrap());
                pair.authority.revoke(revocation, now).unwrap();
            }
            Step::Rotate => {
                pair.rotate(now);
            }
            Step::Clock(seconds) => now += seconds,
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cache_on_is_cache_off(steps in prop::collection::vec(step(), 20..120)) {
        run(&Pair::open(), &steps);
    }
}

/// The property proves nothing unless hits, permits and every kind of refusal take part.
#[test]
fn a_warm_cache_forgets_nothing_that_matters() {
    let pair = Pair::open();
    let read = (Method::GET, "/apps/web".to_owned());
    let write = (Method::POST, "/apps/web".to_owned());
    let org = Caveat::Organization {
        id: 1,
        mask: Action::ALL,
    };
    let window = Caveat::ValidityWindow {
        not_before: START,
        not_after: START + 60,
    };
    let parent = issue(&pair, &[org, window]);
    let child = parent
        .attenuate(&[Caveat::Action(Action::READ)], &Limits::DEFAULT)
        .unwrap();
    let (parent_header, child_header) = (header_of(vec![parent]), header_of(vec![child.clone()]));
    let ask = |header: &str, request, now| pair.ask(Some(header), request, now);

    for _ in 0..3 {
        assert!(ask(&child_header, &read, START).contains("Ok(Permit"));
        assert!(ask(&parent_header, &write, START).contains("Ok(Permit"));
    }
    assert_eq!(
        (
            pair.metrics.cache_hits.get(),
            pair.metrics.cache_misses.get()
        ),
        (4, 2)
    );
    // Warm on one route, judged anew on another.
    assert!(ask(&child_header, &write, START).contains("Err(Prohibited"));
    // The clock passes the end of the window, and comes back.
    assert!(ask(&child_header, &read, START + 61).contains("Expired"));
    assert!(ask(&child_header, &read, START - 1).contains("NotYetValid"));
    assert!(ask(&child_header, &read, START + 60).contains("Ok(Permit"));
    // A rotation keeps what the old key signed.
    pair.rotate(START);
    assert!(ask(&child_header, &read, START).contains("Ok(Permit"));
    // Revoking the child leaves the parent; revoking the lineage leaves nothing.
    let tail = Revocation::Tail(child.uuid(), child.tail_digest().unwrap());
    pair.authority.revoke(tail, START).unwrap();
    assert!(ask(&child_header, &read, START).contains("Revoked"));
    assert!(ask(&parent_header, &read, START).contains("Ok(Permit"));
    pair.authority
        .revoke(Revocation::Lineage(child.uuid()), START)
        .unwrap();
    assert!(ask(&parent_header, &read, START).contains("Revoked"));
}

#[test]
fn a_clock_that_steps_back_empties_the_cache_and_is_told() {
    let pair = Pair::open();
    let request = (Method::GET, "/apps/web".to_owned());
    let caveats = [
        Caveat::Organization {
            id: 1,
            mask: Action::ALL,
        },
        // At all of these times.
        Caveat::ValidityWindow {
            not_before: START - 100,
            not_after: START + 1_000,
        },
    ];
    let good = header_of(vec![issue(&pair, &caveats)]);
    let tell = |now: i64| {
        let permitted = pair.ask(Some(&good), &request, now).contains("Ok(");
        assert!(permitted, "{now}");
        let mut text = String::new();
        pair.metrics.write(&mut text).unwrap();
        let told = text
            .lines()
            .find_map(|line| line.strip_prefix("usher_clock_steps_total "));
        (pair.metrics.cache_hits.get(), told.unwrap().to_owned())
    };
    let mut told = Vec::new();
    for now in [0, 100, 70, 69, 69, 99, 900, 500] {
        told.push(tell(START + now));
    }
    let told: Vec<_> = told.iter().map(|(hits, steps)| (*hits, &**steps)).collect();
    assert_eq!(
        told,
        [
            (0, "0"),
            (1, "0"),
            // 30 s are within what clocks are corrected by,
            (2, "0"),
            // and one more is not.
            (2, "1"),
            (3, "1"),
            (4, "1"),
            // Forwards nothing is forgotten: every window is looked at again anyway.
            (5, "1"),
            (5, "2"),
        ]
    );
}

/// The next configuration takes over what was verified within limits that it has as well.
#[test]
fn what_was_verified_within_other_limits_is_verified_anew() {
    let pair = Pair::open();
    let org = Caveat::Organization {
        id: 1,
        mask: Action::ALL,
    };
    let good = header_of(vec![issue(&pair, &[org.clone(), org])]);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, good.parse().unwrap());
    let head = Head {
        method: &Method::GET,
        host: "usher.test",
        target: "/apps/web",
        headers: &headers,
        basic: None,
        body: None,
    };
    let renewed = |cache: &str| {
        let config = configuration(pair.folder.path(), cache);
        pair.cached.renewed(Arc::new(config)).unwrap()
    };
    let ask = |of: &Authorizer| {
        let decision = of.authorize(&head, START).unwrap();
        (decision.verdict.is_ok(), pair.metrics.cache_hits.get())
    };
    assert_eq!(ask(&pair.cached), (true, 0));
    assert_eq!(ask(&renewed(CACHE)), (true, 1));
    // That of other limits had nothing yet.
    let longer = renewed("{ bytes: 1MiB, ttl: 2h }");
    assert_eq!([ask(&longer), ask(&longer)], [(true, 1), (true, 2)]);
    let narrow = renewed(&format!("{CACHE}\nlimits: {{ tokens: {{ caveats: 1 }} }}"));
    assert_eq!(ask(&narrow), (false, 2));
    assert_eq!(ask(&pair.cached), (true, 3));
}

#[test]
fn an_attestation_is_trusted_and_a_discharge_is_part_of_the_key() {
    let pair = Pair::open();
    let read = (Method::GET, "/apps/web".to_owned());
    let tokens = issue_with_discharge(&pair, &[]);
    let whole = header_of(tokens.clone());
    let alone = header_of(vec![tokens[0].clone()]);
    for _ in 0..2 {
        assert!(
            pair.ask(Some(&whole), &read, START)
                .contains("user: Some(77)")
        );
        assert!(
            pair.ask(Some(&alone), &read, START)
                .contains("Undischarged")
        );
    }
}

/// Whoever holds a token that lacks nothing but a fresh discharge is told where to get one.
#[test]
fn an_expired_discharge_can_be_renewed_and_an_expired_token_cannot() {
    let pair = Pair::open();
    let read = (Method::GET, "/apps/web".to_owned());
    let until = |second| Caveat::ValidityWindow {
        not_before: 0,
        not_after: second,
    };
    let tokens = issue_with_discharge(&pair, &[until(START)]);
    let ask = |tokens: Vec<Token>, now| pair.ask(Some(&header_of(tokens)), &read, now);
    assert!(ask(tokens.clone(), START).contains("Ok(Permit"));
    let answer = ask(tokens.clone(), START + 1);
    assert!(
        answer.contains("Unauthenticated(Undischarged([(\"https://third.test\", "),
        "{answer}"
    );
    let parent = tokens[0].attenuate(&[until(START)], &Limits::DEFAULT);
    let answer = ask(vec![parent.unwrap(), tokens[1].clone()], START + 1);
    assert!(answer.contains("Unauthenticated(Expired)"), "{answer}");
    // Past what the reference's clock can hold a window counts as closed.
    let endless = issue(&pair, &[until(i64::MAX)]);
    let answer = ask(vec![endless], START);
    assert!(answer.contains("Unauthenticated(Expired)"), "{answer}");
}

/// A route that asks for no access still asks for a token that permits something.
#[test]
fn caveats_that_nothing_satisfies_deny_on_every_route() {
    let pair = Pair::open();
    let any = (Method::GET, "/any".to_owned());
    let org = Caveat::Organization {
        id: 1,
        mask: Action::ALL,
    };
    let closed = Caveat::ValidityWindow {
        not_before: 0,
        not_after: START - 1,
    };
    let endless = Caveat::ValidityWindow {
        not_before: 0,
        not_after: i64::MAX,
    };
    let ifs = |caveat| Caveat::IfPresent {
        ifs: Some(vec![caveat]),
        otherwise: Action::ALL,
    };
    for hopeless in [
        Caveat::Unregistered {
            kind: 99,
            body: [0xc3].as_slice().into(),
        },
        Caveat::FromMachineSource("m1".into()),
        Caveat::ConfineUser(1),
        ifs(Caveat::ConfineUser(1)),
        ifs(closed),
        ifs(endless),
    ] {
        let header = header_of(vec![issue(&pair, &[org.clone(), hopeless.clone()])]);
        assert!(
            pair.ask(Some(&header), &any, START)
                .contains("Err(Prohibited"),
            "{hopeless:?}"
        );
    }
    // Caveats about what the route does not touch do not stand in its way.
    let narrow = [
        org,
        ifs(Caveat::Apps(Resources::new([]))),
        Caveat::Action(Action::NONE),
    ];
    let header = header_of(vec![issue(&pair, &narrow)]);
    assert!(pair.ask(Some(&header), &any, START).contains("Ok(Permit"));
}

#[test]
fn a_lease_ends_with_the_first_window_nested_ones_included() {
    let pair = Pair::open();
    let window = |seconds| Caveat::ValidityWindow {
        not_before: 0,
        not_after: START + seconds,
    };
    let nested = Caveat::IfPresent {
        ifs: Some(vec![window(30)]),
        otherwise: Action::ALL,
    };
    let org = Caveat::Organization {
        id: 1,
        mask: Action::ALL,
    };
    let header = header_of(vec![issue(&pair, &[org, window(60), nested])]);
    let read = (Method::GET, "/apps/web".to_owned());
    let end = format!("until Some({}): ", START + 30);
    assert!(pair.ask(Some(&header), &read, START).starts_with(&end));
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, header.parse().unwrap());
    let head = Head {
        method: &read.0,
        host: "usher.test",
        target: &read.1,
        headers: &headers,
        basic: None,
        body: None,
    };
    let permit = pair.plain.authorize(&head, START).unwrap().verdict.unwrap();
    let check = |now| permit.lease().unwrap().check(&pair.plain.review(now));
    assert_eq!(check(START + 30), Ok(()));
    assert_eq!(check(START + 31), Err(LeaseEnd::Expired));
}

#[test]
fn the_reason_of_a_denial_has_a_bound() {
    let pair = Pair::open();
    let names = (0..500).map(|at| (format!("machine-{at}").as_str().into(), Action::ALL));
    let caveats = [
        Caveat::Organization {
            id: 1,
            mask: Action::ALL,
        },
        Caveat::Machines(Resources::new(names)),
    ];
    let header = header_of(vec![issue(&pair, &caveats); 4]);
    let answer = pair.ask(Some(&header), &(Method::GET, "/apps/web".to_owned()), START);
    assert!(
        answer.contains("Err(Prohibited") && answer.contains("Machines: "),
        "{answer}"
    );
    assert!(answer.len() < 4_000, "{} bytes", answer.len());
}

#[test]
fn a_denial_names_the_caveat_of_every_token() {
    let pair = Pair::open();
    let write = (Method::POST, "/apps/web".to_owned());
    let read_only = Caveat::Action(Action::READ);
    let org = Caveat::Organization {
        id: 1,
        mask: Action::ALL,
    };
    let mut tokens = issue_with_discharge(&pair, std::slice::from_ref(&read_only));
    tokens.push(issue(&pair, &[org, read_only]));
    let answer = pair.ask(Some(&header_of(tokens)), &write, START);
    let (_, told) = answer.split_once("Some(\"").unwrap();
    let (told, _) = told.split_once("\")").unwrap();
    let places: Vec<_> = told
        .split("; ")
        .filter_map(|part| part.split_once(", Action").map(|(place, _)| place))
        .collect();
    let expected = ["token 2 (a discharge), caveat 2", "token 3, caveat 2"];
    assert_eq!(places, expected, "{answer}");
}

#[test]
fn a_header_without_a_token_says_what_is_wrong_with_it() {
    let pair = Pair::open();
    let read = (Method::GET, "/apps/web".to_owned());
    let tokens = issue_with_discharge(&pair, &[]);
    let discharge = header_of(vec![tokens[1].clone()]);
    for (header, told) in [
        ("FlyV1 fm2_!", "it is not base64"),
        ("FlyV1 gho_abc", "it does not begin with fm2_"),
        (&discharge, "none of the tokens is a permission token"),
    ] {
        let answer = pair.ask(Some(header), &read, START);
        let (before, malformed) = answer
            .split_once(" Err(Unauthenticated(Malformed(")
            .unwrap();
        let (text, _) = malformed.split_once(")))").unwrap();
        assert!(text.contains(told), "{header}: {answer}");
        // The log has it as well.
        assert!(before.ends_with(&format!(" Some({text})")), "{answer}");
    }
}

#[test]
fn what_the_token_leaves_open_is_what_is_asked_for() {
    let pair = Pair::open();
    let org = |id| Caveat::Organization {
        id,
        mask: Action::ALL,
    };
    let cluster = |name: &str| Caveat::Clusters(Resources::new([(name.into(), Action::ALL)]));
    let ask = |caveats: &[Caveat], target: &str| {
        let header = header_of(vec![issue(&pair, caveats)]);
        pair.ask(Some(&header), &(Method::GET, target.to_owned()), START)
    };
    let whole = [org(1), cluster("primary")];
    assert!(ask(&whole, "/clusters").contains("cluster: Some(\"primary\") }"));
    assert!(ask(&whole, "/clusters?cluster=primary").contains("cluster: None }"));
    let no_cluster = "neither does the token name exactly one; name the cluster";
    assert!(ask(&[org(1)], "/clusters").contains(no_cluster));
    assert!(ask(&[org(0), cluster("c")], "/clusters").contains("it takes a token for one org"));
    // The directory answers it before any caveat does.
    let other = ask(&[org(2)], "/orgs/beta/apps/web");
    assert!(
        other.contains("Err(Prohibited(\"the app does not belong to what else"),
        "{other}"
    );
}

/// The upstream is told one organization, unless the request is about all of the bearer's.
#[test]
fn the_organization_told_is_that_of_the_first_access() {
    let pair = Pair::open();
    let tokens = [1, 2].map(|id| {
        let org = Caveat::Organization {
            id,
            mask: Action::ALL,
        };
        issue(&pair, &[org])
    });
    let header = header_of(tokens.to_vec());
    for (target, orgs) in [
        ("/both/web/shop", "orgs: [1]"),
        ("/both/shop/web", "orgs: [2]"),
        ("/both/web/api", "orgs: [1]"),
    ] {
        let answer = pair.ask(Some(&header), &(Method::GET, target.to_owned()), START);
        assert!(
            answer.contains("Ok(Permit") && answer.contains(orgs),
            "{answer}"
        );
    }
}

#[test]
fn debug_output_of_an_authorizer_holds_no_credential() {
    let pair = Pair::open();
    let token = issue(
        &pair,
        &[Caveat::Organization {
            id: 1,
            mask: Action::ALL,
        }],
    );
    let header = header_of(vec![token]);
    pair.ask(Some(&header), &(Method::GET, "/any".to_owned()), START);
    let shown = format!("{:?}", pair.cached);
    assert!(shown.contains("Authorizer"), "{shown}");
    let bytes: Vec<String> = header.bytes().map(|byte| byte.to_string()).collect();
    assert!(
        !shown.contains(&header) && !shown.contains(&bytes.join(", ")),
        "the header is shown"
    );
}

/// A look-out that finds nothing proves nothing unless it finds what there is.
#[test]
fn tokens_and_keys_are_looked_for_in_all_that_is_said() {
    let pair = Pair::open();
    let tokens = issue_with_discharge(&pair, &[]);
    let header = header_of(tokens.clone());
    let plant = Plant::new();
    let named = [(plant.hexadecimal().as_str().into(), Action::ALL)];
    let caveats = [
        Caveat::Organization {
            id: 1,
            mask: Action::ALL,
        },
        Caveat::Machines(Resources::new(named)),
    ];
    let narrow = header_of(vec![issue(&pair, &caveats)]);
    let read = (Method::GET, "/apps/web".to_owned());
    assert!(pair.ask(Some(&header), &read, START).contains("Ok(Permit"));
    assert!(
        pair.ask(Some(&narrow), &read, START)
            .contains("Err(Prohibited")
    );
    assert_eq!(plant.found_in(), BTreeSet::from([Place::Answer]));
    pair.rotate(START);
    let keys = keys::keys(pair.folder.path());
    assert_eq!(keys.len(), 3, "the seal key, and two that sign");
    let mut secrets = vec![header.into_bytes(), SHARED.to_vec(), DISCHARGE_KEY.to_vec()];
    secrets.extend(keys);
    secrets.extend(tokens.iter().map(|token| token.rnd().to_vec()));
    for secret in secrets {
        for place in [Place::Answer, Place::Log, Place::Metrics, Place::Panic] {
            assert!(canary::would_be_found(place, &secret), "{secret:?}");
        }
    }
}

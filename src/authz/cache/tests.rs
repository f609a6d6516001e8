use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use zeroize::Zeroizing;

use super::*;
use crate::authority::{Authority, Request};
use crate::authz::bearer::Candidate;
use crate::config::Secret;
use crate::macaroon::{Action, Bundle, Caveat, Limits, SigningKey, Text, Token};

const NOW: i64 = 1_764_000_000;
const TTL: Duration = Duration::from_secs(3600);

const CONFIG: config::Cache = config::Cache {
    bytes: 1 << 20,
    failure_bytes: 1 << 20,
    ttl: TTL,
    failure_ttl: TTL,
};

/// An authority of its own, and what it issued as verified by it.
struct Place {
    authority: Authority,
    _folder: tempfile::TempDir,
}

impl Place {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seal = folder.path().join("seal.key");
        std::fs::write(&seal, STANDARD.encode([9; 32])).unwrap();
        let config = config::Authority {
            location: "https://usher.test/v1".to_owned(),
            store: folder.path().join("usher.db"),
            seal_key: Secret::File(seal),
            third_parties: Vec::new(),
        };
        Self {
            authority: Authority::open(&config, NOW).unwrap(),
            _folder: folder,
        }
    }

    fn issue(&self, caveats: &[Caveat]) -> Token {
        let request = Request {
            kind: "test",
            name: None,
            org: None,
            app: None,
            caveats,
            issuer: None,
        };
        self.authority.issue(&request, NOW).unwrap()
    }

    fn verify(&self, tokens: Vec<Token>) -> (Arc<Bearer>, Chains) {
        let bundle = Bundle {
            tokens,
            defects: Vec::new(),
        };
        let location: &Text = self.authority.location();
        let snapshot = self.authority.snapshot();
        let value = bundle.to_header();
        Bearer::verify(&value, location, &snapshot, &Limits::DEFAULT, &|_| None).unwrap()
    }
}

fn until(second: i64) -> Caveat {
    Caveat::ValidityWindow {
        not_before: 0,
        not_after: second,
    }
}

#[test]
fn what_was_found_under_other_keys_does_not_count() {
    let cache = VerificationCache::new(&CONFIG);
    let place = Place::open();
    let long: Vec<_> = (0..8).map(|at| until(NOW + 60 + at)).collect();
    let verified = place.verify(vec![place.issue(&long)]);
    let nonce = verified.1[0].0.clone();
    cache.keep(b"good", 7, &Ok(verified), NOW);
    cache.keep(b"bad", 7, &Err(Unusable::BadSignature), NOW);
    assert!(matches!(cache.get(b"good", 7), Some(Ok(_))));
    assert!(matches!(
        cache.get(b"bad", 7),
        Some(Err(Unusable::BadSignature))
    ));
    assert!(cache.chain(&nonce, 7).is_some());
    for other in [6, 8] {
        assert!(cache.get(b"good", other).is_none());
        assert!(cache.get(b"bad", other).is_none());
        assert!(cache.chain(&nonce, other).is_none());
    }
}

#[test]
fn nothing_is_kept_longer_than_it_may_be() {
    let short = config::Cache {
        failure_ttl: Duration::ZERO,
        ..CONFIG
    };
    let cache = VerificationCache::new(&short);
    let place = Place::open();
    // Anew in the place of what is still good, too.
    let one = place.verify(vec![place.issue(&[until(NOW + 60)])]);
    for _ in 0..2 {
        cache.keep(b"good", 1, &Ok(one.clone()), NOW);
        assert!(cache.get(b"good", 1).is_some());
    }
    let one = place.verify(vec![place.issue(&[until(NOW + 60)])]);
    cache.keep(b"good", 1, &Ok(one), NOW + 60);
    assert!(cache.get(b"good", 1).is_none());
    let over = place.verify(vec![place.issue(&[until(NOW)])]);
    cache.keep(b"over", 1, &Ok(over), NOW);
    assert!(cache.get(b"over", 1).is_none());
    cache.keep(b"bad", 1, &Err(Unusable::BadSignature), NOW);
    assert!(cache.get(b"bad", 1).is_none());
}

/// Tokens that came together would otherwise be verified anew together, hour after hour.
#[test]
fn what_is_verified_together_does_not_expire_together() {
    let cache = VerificationCache::new(&CONFIG);
    let place = Place::open();
    let lifetimes = (0..24).map(|at| {
        let (bearer, _) = place.verify(vec![place.issue(&[until(NOW + 86_400 + at)])]);
        assert_eq!(cache.lifetime(&bearer, NOW), cache.lifetime(&bearer, NOW));
        cache.lifetime(&bearer, NOW)
    });
    let lifetimes: std::collections::BTreeSet<_> = lifetimes.collect();
    let (first, last) = (lifetimes.first().unwrap(), lifetimes.last().unwrap());
    assert!(*first >= TTL / 8 * 7 && *last <= TTL, "{lifetimes:?}");
    // By chance alone, 24 of 256 places lie within a quarter of them less than once in 10^12 runs.
    assert!(*last - *first > TTL / 32, "{lifetimes:?}");
    let (bearer, _) = place.verify(vec![place.issue(&[until(NOW + 10)])]);
    assert_eq!(cache.lifetime(&bearer, NOW), Duration::from_secs(10));
}

#[test]
fn a_bearer_weighs_what_it_holds() {
    let place = Place::open();
    let token = place.issue(&[Caveat::Action(Action::READ)]);
    let (small, _) = place.verify(vec![token.clone()]);
    let beside = |bearer: &Bearer| {
        let candidate = bearer.at(0).unwrap();
        let held = candidate.verified.weight() + candidate.key_id.len() + size_of::<Candidate>();
        bearer.weight() - held
    };
    assert_eq!(beside(&small), 0);

    let named = Caveat::FromMachineSource("m".repeat(9_000).as_str().into());
    let large = token.attenuate(&[named], &Limits::DEFAULT).unwrap();
    let (large, _) = place.verify(vec![large]);
    let more = large.weight() - small.weight();
    assert!((9_000..10_000).contains(&more), "{more}");

    // A ticket is held twice: as it is, and as its bearer would be told it.
    let (third, ticket) = ("https://third.test", [5; 3_000]);
    let asked = token.await_discharge(third, &[3; 32], [1; 12], &ticket, &Limits::DEFAULT);
    let key = SigningKey::new(Zeroizing::new(vec![3; 32]));
    let discharge = Token::discharge(&ticket, [4; 16], third, &key, &[]);
    let (asked, _) = place.verify(vec![asked.unwrap(), discharge.unwrap()]);
    let more = asked.weight() - small.weight();
    assert!((7_000..8_000).contains(&more), "{more}");
    let told = third.len() + STANDARD.encode(ticket).len() + size_of::<(Box<str>, Box<str>)>();
    assert_eq!(beside(&asked), told);
}

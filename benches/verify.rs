//! Verify and clear the four tokens of `tests/conformance/bench-tokens.json`, beside the floor:
//! the SHA-256 compressions that their HMAC chains are made of.
//!
//! `cargo bench --bench verify`. Compare within one run only, as ratios.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops at what it does not expect; criterion's macros write no docs"
)]

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::Value;
use sha2::block_api::compress256;
use usher::macaroon::{
    Action, Bundle, Limits, SigningKey, Text, ThirdPartyKeys, Verified, Verifier,
};
use usher::policy::{Access, clear};
use zeroize::Zeroizing;

/// What the four tokens are verified with.
struct World {
    location: Text,
    kid: Vec<u8>,
    key: SigningKey,
    third_parties: ThirdPartyKeys,
    tokens: Vec<(String, String, usize)>,
}

impl World {
    fn load() -> Self {
        let file: Value =
            serde_json::from_str(include_str!("../tests/conformance/bench-tokens.json")).unwrap();
        let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let mut third_parties = ThirdPartyKeys::default();
        for (location, keys) in file["trusted_3ps"].as_object().unwrap() {
            third_parties.add(location.as_str().into(), Zeroizing::new(bytes(&keys[0])));
        }
        let token = |token: &Value| {
            let text = |name: &str| token[name].as_str().unwrap().to_owned();
            let caveats = usize::try_from(token["caveats"].as_u64().unwrap()).unwrap();
            (text("name"), text("authorization"), caveats)
        };
        Self {
            location: file["location"].as_str().unwrap().into(),
            kid: bytes(&file["keys"][0]["kid"]),
            key: SigningKey::new(Zeroizing::new(bytes(&file["keys"][0]["key"]))),
            third_parties,
            tokens: file["tokens"]
                .as_array()
                .unwrap()
                .iter()
                .map(token)
                .collect(),
        }
    }

    fn verify(&self, authorization: &str) -> Verified {
        let limits = Limits::DEFAULT;
        let signing_key = |id: &[u8]| (id == self.kid).then_some(&self.key);
        let verifier = Verifier::new(&self.location, &signing_key, &self.third_parties, &limits);
        let bundle = Bundle::parse(authorization, &limits).unwrap();
        verifier.verify(&bundle, 0, &bundle.tokens[0]).unwrap()
    }
}

const ACCESS: Access<'_> = Access {
    action: Action::READ,
    org: Some(4721),
    app: Some(123),
    machine: Some("3d8d9930"),
    app_feature: None,
    feature: None,
    volume: None,
    machine_feature: None,
    mutation: None,
    source_machine: None,
    source_app: None,
    source_organization: None,
    cluster: None,
    storage_object: None,
    command: None,
};

const NOW: i64 = 1_764_000_000;

fn benches(c: &mut Criterion) {
    let world = World::load();
    let mut group = c.benchmark_group("verify");
    for compressions in [20, 50] {
        let id = BenchmarkId::new("floor", format!("{compressions} compressions"));
        group.bench_function(id, |b| {
            let block = [0x5a; 64];
            b.iter(|| {
                let mut state = [0x6a09_e667; 8];
                for _ in 0..compressions {
                    compress256(&mut state, &[black_box(block)]);
                }
                state
            });
        });
    }
    for (name, authorization, _) in &world.tokens {
        let id = BenchmarkId::new("uncached, from header text", name);
        group.bench_function(id, |b| b.iter(|| world.verify(black_box(authorization))));
    }
    group.finish();

    let mut group = c.benchmark_group("clear");
    for (name, authorization, caveats) in &world.tokens {
        let verified = world.verify(authorization);
        // A silent change of the tokens cannot look like a change of speed.
        let cleared = verified.caveats().count() + usize::from(name == "c-deploy-3p") * 2;
        assert_eq!(cleared, *caveats);
        assert_eq!(clear(verified.caveats(), &ACCESS, NOW), Ok(()));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| clear(black_box(verified.caveats()), black_box(&ACCESS), NOW));
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);

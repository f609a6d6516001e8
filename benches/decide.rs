//! The decision: finding a route among 10, 1,000 and 10,000, and the whole of `authorize` with the
//! four tokens of `tests/conformance/bench-tokens.json`, with the verification cache and without.
//!
//! `cached` is little more than what the cache gives back, its windows and revocations looked at, and
//! each of its caveats cleared: a route of one segment whose rule asks for any usable token.
//!
//! `cargo bench --bench decide`. Compare within one run only, as ratios.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops at what it does not expect; criterion's macros write no docs"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, header};
use usher::authority::{Authority, Request};
use usher::authz::{Authorizer, Head};
use usher::config::{self, Config};
use usher::directory::Directory;
use usher::macaroon::{
    Action, Bundle, Caveat, Limits, Resources, SigningKey, ThirdParty, Token, seal,
};
use usher::metrics::Metrics;
use usher::route::Target;
use zeroize::Zeroizing;

const NOW: i64 = 1_764_000_000;
const KEEPS: &str = "{ bytes: 64MiB, ttl: 1h }";

/// A configuration with so many routes of the shapes that APIs have.
fn configuration(folder: &std::path::Path, routes: usize, cache: &str) -> Config {
    let mut text = format!(
        r#"
listeners: [ {{ address: 127.0.0.1:0 }} ]
authority:
  location: https://api.fly.io/v1
  store: sqlite:usher.db
  seal_key: {{ file: seal.key }}
  third_parties: [ {{ location: https://third.test, key: {{ file: seal.key }} }} ]
directory:
  orgs: [ {{ slug: acme, id: 4721 }} ]
  apps: [ {{ name: web, id: 123, org: acme }} ]
upstreams: [ {{ name: up, urls: [ "http://127.0.0.1:1" ] }} ]
cache: {cache}
routes:
"#
    );
    for at in 0..routes {
        let path = match at % 3 {
            0 => format!("/v1/family{at}/{{app}}"),
            1 => format!("/v1/apps/{{app}}/things{at}"),
            _ => format!("/v1/apps/{{app}}/machines/{{machine}}/verb{at}"),
        };
        let machine = if at % 3 == 2 {
            ", machine: \"{machine}\""
        } else {
            ""
        };
        writeln!(
            text,
            "  - {{ name: r{at}, method: GET, path: \"{path}\", access: {{ action: r, app: \"{{app}}\"{machine} }}, upstream: up }}"
        )
        .unwrap();
    }
    text.push_str(
        "  - { name: any, method: GET, path: /any, access: authenticated, upstream: up }\n",
    );
    config::parse(&text, &folder.join("usher.yaml")).unwrap().0
}

fn routes(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("route");
    for routes in [10, 1_000, 10_000] {
        let config = configuration(folder.path(), routes, "{ bytes: 0B }");
        assert_eq!(config.routes.len(), routes + 1);
        // The last route of the longest shape.
        let last = (0..routes).rev().find(|at| at % 3 == 2).unwrap();
        let raw = format!("/v1/apps/web/machines/3d8d9930/verb{last}");
        group.bench_function(BenchmarkId::from_parameter(routes), |b| {
            b.iter(|| {
                let target = Target::parse(black_box(&raw)).unwrap();
                let found = config
                    .table
                    .find(&Method::GET, "usher.test", &target)
                    .unwrap();
                assert_eq!(found.route, last);
            });
        });
    }
    group.finish();
}

/// Header values shaped like those of `bench-tokens.json`, signed by the authority's own key.
fn headers(authority: &Authority) -> Vec<(&'static str, String)> {
    let org = Caveat::Organization {
        id: 4721,
        mask: Action::ALL,
    };
    let window = Caveat::ValidityWindow {
        not_before: 1_700_000_000,
        not_after: 2_400_000_000,
    };
    let deploy = vec![
        org.clone(),
        Caveat::Apps(Resources::new([(123, Action::ALL)])),
        Caveat::IfPresent {
            ifs: Some(vec![Caveat::FeatureSet(Resources::new([
                ("builder".into(), Action::ALL),
                ("wg".into(), Action::ALL),
            ]))]),
            otherwise: Action::ALL,
        },
        window.clone(),
    ];
    let issue = |caveats: &[Caveat]| {
        let request = Request {
            kind: "bench",
            name: None,
            org: None,
            app: None,
            caveats,
            issuer: None,
        };
        authority.issue(&request, NOW).unwrap()
    };
    let header = |tokens: Vec<Token>| {
        Bundle {
            tokens,
            defects: Vec::new(),
        }
        .to_header()
    };

    let base = issue(&deploy);
    let tail = base.bytes().last_chunk::<32>().unwrap();
    let plain = [&[0x92, 0xc4, 32], [3; 32].as_slice(), &[0x90]].concat();
    let ticket = seal(&[9; 32], [1; 12], &plain).unwrap();
    let third_party = Caveat::ThirdParty(ThirdParty {
        location: "https://third.test".into(),
        verifier_key: seal(tail, [2; 12], &[3; 32]).unwrap().as_slice().into(),
        ticket: ticket.as_slice().into(),
    });
    let key = SigningKey::new(Zeroizing::new(vec![3; 32]));
    let attested = [window.clone(), Caveat::FlyioUserId(77)];
    let discharge = Token::discharge(&ticket, [4; 16], "https://third.test", &key, &attested);
    let bound = base.attenuate(&[third_party], &Limits::DEFAULT).unwrap();

    let long = [
        deploy.as_slice(),
        &[
            Caveat::Action(Action::READ),
            Caveat::IsUser(9),
            Caveat::IsMember,
        ],
        &[Caveat::Organization {
            id: 4721,
            mask: Action::READ,
        }],
        &[Caveat::ValidityWindow {
            not_before: 1_700_000_001,
            not_after: 2_300_000_000,
        }],
        &[Caveat::Machines(Resources::new([(
            "3d8d9930".into(),
            Action::ALL,
        )]))],
    ]
    .concat();
    vec![
        ("a-org", header(vec![issue(&[org])])),
        ("b-deploy", header(vec![base])),
        ("c-deploy-3p", header(vec![bound, discharge.unwrap()])),
        ("d-readonly-10", header(vec![issue(&long)])),
    ]
}

fn authorize(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("seal.key"), STANDARD.encode([9; 32])).unwrap();
    let mut group = c.benchmark_group("authorize");
    let judged = "/v1/apps/web/machines/3d8d9930/verb197";
    for (name, cache, target) in [
        ("hit", KEEPS, judged),
        ("cached", KEEPS, "/any"),
        ("miss", "{ bytes: 0B }", judged),
    ] {
        let config = Arc::new(configuration(folder.path(), 200, cache));
        let mut authority = Authority::open(&config.authority, NOW).unwrap();
        authority.follow().unwrap();
        let authority = Arc::new(authority);
        let metrics = Arc::new(Metrics::new());
        let directory = Arc::new(Directory::open(&config.directory, &metrics).unwrap());
        let authorizer = Authorizer::new(config, Arc::clone(&authority), directory, metrics);
        for (token, value) in headers(&authority) {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::AUTHORIZATION,
                HeaderValue::from_str(&value).unwrap(),
            );
            let head = Head {
                method: &Method::GET,
                host: "usher.test",
                target,
                headers: &headers,
                basic: None,
                body: None,
            };
            let decision = authorizer.authorize(&head, NOW).unwrap();
            assert!(decision.verdict.is_ok(), "{token}: {decision:?}");
            group.bench_function(BenchmarkId::new(name, token), |b| {
                b.iter(|| {
                    let outcome = authorizer.authorize(black_box(&head), NOW);
                    outcome.is_ok_and(|decision| decision.verdict.is_ok())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(all, routes, authorize);
criterion_main!(all);

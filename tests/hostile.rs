//! Tokens that someone cut, flipped, nested or inflated, and the promise that attenuating never
//! widens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;
use usher::macaroon::{
    Action, Bundle, Caveat, Command, DischargeError, KnownChain, Limits, Resources, SigningKey,
    Text, ThirdPartyKeys, Token, Verified, Verifier, VerifyError, WireError, decode_caveats,
    encode_caveats,
};
use usher::policy::{Access, clear};
use zeroize::Zeroizing;

/// The reference's test vectors and benchmark tokens, decoded from base64, with their keys.
struct Sample {
    location: Text,
    kid: Vec<u8>,
    key: SigningKey,
    tokens: Vec<Vec<u8>>,
}

fn samples() -> [Sample; 2] {
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let parts = |header: &Value| -> Vec<Vec<u8>> {
        let list = header.as_str().unwrap().strip_prefix("FlyV1 ").unwrap();
        list.split(',')
            .map(|part| STANDARD.decode(part.strip_prefix("fm2_").unwrap()).unwrap())
            .collect()
    };
    let vectors: Value =
        serde_json::from_str(include_str!("conformance/test_vectors.json")).unwrap();
    let bench: Value = serde_json::from_str(include_str!("conformance/bench-tokens.json")).unwrap();
    [
        Sample {
            location: vectors["location"].as_str().unwrap().into(),
            kid: bytes(&vectors["kid"]),
            key: SigningKey::new(Zeroizing::new(bytes(&vectors["key"]))),
            tokens: vectors["macaroons"]
                .as_object()
                .unwrap()
                .values()
                .flat_map(parts)
                .collect(),
        },
        Sample {
            location: bench["location"].as_str().unwrap().into(),
            kid: bytes(&bench["keys"][0]["kid"]),
            key: SigningKey::new(Zeroizing::new(bytes(&bench["keys"][0]["key"]))),
            tokens: bench["tokens"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|token| parts(&token["authorization"]))
                .collect(),
        },
    ]
}

impl Sample {
    fn verify(&self, bundle: &Bundle, token: &Token) -> Result<Verified, VerifyError> {
        let signing_key = |id: &[u8]| (id == self.kid).then_some(&self.key);
        let third_parties = ThirdPartyKeys::default();
        let verifier = Verifier::new(
            &self.location,
            &signing_key,
            &third_parties,
            &Limits::DEFAULT,
        );
        verifier.verify(bundle, 0, token)
    }
}

#[test]
fn every_truncation_is_refused() {
    let mut cuts = 0;
    for token in samples().iter().flat_map(|sample| &sample.tokens) {
        assert!(Token::decode(token.clone(), &Limits::DEFAULT).is_ok());
        for length in 0..token.len() {
            let error = Token::decode(token[..length].to_vec(), &Limits::DEFAULT).unwrap_err();
            assert!(
                matches!(error, WireError::Truncated { .. }),
                "cut to {length}: {error}"
            );
            cuts += 1;
        }
    }
    assert!(cuts > 3_000, "{cuts}");
}

#[test]
fn appended_bytes_are_refused() {
    for token in samples().iter().flat_map(|sample| &sample.tokens) {
        let longer = [token.as_slice(), &[0xc0]].concat();
        let error = Token::decode(longer, &Limits::DEFAULT).unwrap_err();
        assert_eq!(error, WireError::Trailing { extra: 1 });
    }
}

/// Every bit of every token, flipped. The location is not covered by the signature (format chapter
/// 14, item 1), so a flip there may still verify; nonce, caveats and tail may not.
#[test]
fn no_flipped_bit_is_verified_with_another_meaning() {
    let (mut flips, mut location_flips) = (0, 0);
    for sample in samples() {
        for token in &sample.tokens {
            let original = Token::decode(token.clone(), &Limits::DEFAULT).unwrap();
            for (at, bit) in (0..token.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut flipped = token.clone();
                flipped[at] ^= 1 << bit;
                flips += 1;
                let Ok(token) = Token::decode(flipped, &Limits::DEFAULT) else {
                    continue;
                };
                let same =
                    token.nonce() == original.nonce() && token.caveats() == original.caveats();
                let bundle = Bundle {
                    tokens: vec![token.clone()],
                    defects: Vec::new(),
                };
                match sample.verify(&bundle, &token) {
                    Ok(_) => {
                        assert!(same, "byte {at}, bit {bit}: verified with another meaning");
                        let relabelled = token.location() != original.location();
                        // A nil proof flag is rewritten to the false it means.
                        assert!(relabelled || token == original, "byte {at}, bit {bit}");
                        location_flips += 1;
                    }
                    Err(_) => continue,
                }
            }
        }
    }
    assert!(
        flips > 25_000 && location_flips > 100,
        "{flips} {location_flips}"
    );
}

/// A token around one caveat, with a tail that says nothing.
fn token_with(caveat: &[u8]) -> Vec<u8> {
    let head = [0x94, 0x93, 0xc4, 0, 0xc4, 0, 0xc2, 0xa1, b'x', 0x92];
    [&head, caveat, &[0xc4, 0]].concat()
}

#[test]
fn if_present_nests_to_the_limit_and_no_deeper() {
    let nested = |levels: usize| {
        let mut caveat = vec![0x1a, 0x01];
        for _ in 0..levels {
            caveat = [&[0x0d, 0x92, 0x92], caveat.as_slice(), &[0x01]].concat();
        }
        Token::decode(token_with(&caveat), &Limits::DEFAULT)
    };
    let limit = Limits::DEFAULT.depth;
    assert!(nested(limit).is_ok());
    for levels in [limit + 1, limit + 2, 3_000] {
        assert!(
            matches!(nested(levels), Err(WireError::TooDeep { .. })),
            "{levels} levels"
        );
    }
}

#[test]
fn unknown_bodies_nest_to_the_limit_and_no_deeper() {
    let limit = Limits::DEFAULT.depth;
    for (opening, levels, accepted) in [
        (&[0x91][..], limit, true),
        (&[0x91], limit + 1, false),
        (&[0x91], 16_000, false),
        (&[0x81, 0x01], limit, true),
        (&[0x81, 0x01], limit + 1, false),
        (&[0x81, 0x01], 8_000, false),
    ] {
        let body = [opening.repeat(levels).as_slice(), &[0x01]].concat();
        let token = token_with(&[&[0x63], body.as_slice()].concat());
        assert_eq!(
            Token::decode(token, &Limits::DEFAULT).is_ok(),
            accepted,
            "{levels} levels"
        );
    }
}

#[test]
fn declared_lengths_are_not_believed() {
    for huge in [
        &[0x03, 0x91, 0xdf, 0x7f, 0xff, 0xff, 0xff][..],
        &[0x02, 0x91, 0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0x06, 0x91, 0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x1b, 0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x0c, 0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0x0f, 0x91, 0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0x0d, 0x92, 0xdd, 0xff, 0xff, 0xff, 0xfe],
        &[0x63, 0xdf, 0xff, 0xff, 0xff, 0xff],
    ] {
        let error = Token::decode(token_with(huge), &Limits::DEFAULT).unwrap_err();
        assert!(
            matches!(error, WireError::Truncated { .. }),
            "{huge:02x?}: {error}"
        );
    }
}

#[test]
fn caveats_are_counted_to_the_limit_nested_ones_included() {
    let key = SigningKey::new(Zeroizing::new(vec![1; 32]));
    let decode = |caveats: &[Caveat]| {
        let token = Token::mint(b"k", [0; 16], "x", &key, caveats).unwrap();
        Token::decode(token.bytes().to_vec(), &Limits::DEFAULT)
    };
    let limit = Limits::DEFAULT.caveats;
    let flat = |n| vec![Caveat::Action(Action::READ); n];
    let nested = |n| {
        [Caveat::IfPresent {
            ifs: Some(flat(n)),
            otherwise: Action::READ,
        }]
    };
    let too_many = Some(WireError::TooManyCaveats { limit });
    assert!(decode(&flat(limit)).is_ok());
    assert_eq!(decode(&flat(limit + 1)).err(), too_many);
    assert!(decode(&nested(limit - 1)).is_ok());
    assert_eq!(decode(&nested(limit)).err(), too_many);
}

#[test]
fn a_token_may_have_as_many_bytes_as_the_limit() {
    let padded = |bytes: usize| {
        let name = Text::from("m".repeat(bytes).as_str());
        let key = SigningKey::new(Zeroizing::new(vec![1; 32]));
        let caveat = Caveat::FromMachineSource(name);
        Token::mint(b"k", [0; 16], "x", &key, &[caveat])
            .unwrap()
            .bytes()
            .to_vec()
    };
    let limit = Limits::DEFAULT.token_bytes;
    let overhead = padded(1_000).len() - 1_000;
    assert!(Token::decode(padded(limit - overhead), &Limits::DEFAULT).is_ok());
    let over = padded(limit - overhead + 1);
    let header = format!("fm2_{}", STANDARD.encode(&over));
    let refused = WireError::TooLong {
        bytes: limit + 1,
        limit,
    };
    assert_eq!(Token::decode(over, &Limits::DEFAULT).unwrap_err(), refused);
    let bundle = Bundle::parse(&header, &Limits::DEFAULT).unwrap();
    assert!(bundle.tokens.is_empty() && bundle.defects.len() == 1);
}

#[test]
fn only_so_many_discharges_are_tried_for_one_ticket() {
    let (key, third_party) = (SigningKey::new(Zeroizing::new(vec![1; 32])), [2; 32]);
    let ticket = usher::macaroon::seal(&third_party, [3; 12], b"ticket").unwrap();
    let base = Token::mint(b"k", [0; 16], "home", &key, &[]).unwrap();
    // The verifier key is sealed with the tail before the caveat, here that of the bare token.
    let tail: [u8; 32] = base.bytes()[base.bytes().len() - 32..].try_into().unwrap();
    let discharge_key = [4; 32];
    let verifier_key = usher::macaroon::seal(&tail, [5; 12], &discharge_key).unwrap();
    let caveat = Caveat::ThirdParty(usher::macaroon::ThirdParty {
        location: "away".into(),
        verifier_key: verifier_key.as_slice().into(),
        ticket: ticket.as_slice().into(),
    });
    let token = base.attenuate(&[caveat], &Limits::DEFAULT).unwrap();
    let discharge = |key: [u8; 32]| {
        let key = SigningKey::new(Zeroizing::new(key.to_vec()));
        Token::discharge(&ticket, [6; 16], "away", &key, &[]).unwrap()
    };
    let location = Text::from("home");
    let signing_key = |_: &[u8]| Some(&key);
    let third_parties = ThirdPartyKeys::default();
    let verifier = Verifier::new(&location, &signing_key, &third_parties, &Limits::DEFAULT);
    let limit = Limits::DEFAULT.discharges_per_ticket;
    for (bad, accepted) in [(0, true), (limit - 1, true), (limit, false)] {
        let mut tokens = vec![token.clone()];
        tokens.extend(std::iter::repeat_n(discharge([9; 32]), bad));
        tokens.push(discharge(discharge_key));
        let bundle = Bundle {
            tokens,
            defects: Vec::new(),
        };
        let verdict = verifier.verify(&bundle, 0, &bundle.tokens[0]);
        assert_eq!(
            verdict.is_ok(),
            accepted,
            "{bad} bad ones first: {verdict:?}"
        );
    }
}

/// A holder can append any number of third-party caveats, all for one ticket, to any number of
/// tokens. What they cost together is bounded for the whole header.
#[test]
fn a_header_tries_only_so_many_discharges() {
    let key = SigningKey::new(Zeroizing::new(vec![1; 32]));
    let limits = Limits::DEFAULT;
    let bad = SigningKey::new(Zeroizing::new(vec![9; 32]));
    let discharge = Token::discharge(b"ticket", [6; 16], "away", &bad, &[]).unwrap();
    let mut tokens = Vec::new();
    for rnd in 0..40 {
        let mut token = Token::mint(b"k", [rnd; 16], "home", &key, &[]).unwrap();
        // Each caveat's key is sealed with the tail before it, so that every one can be opened.
        let tail: [u8; 32] = token.bytes().last_chunk().copied().unwrap();
        let caveat = Caveat::ThirdParty(usher::macaroon::ThirdParty {
            location: "away".into(),
            verifier_key: usher::macaroon::seal(&tail, [5; 12], &[4; 32])
                .unwrap()
                .as_slice()
                .into(),
            ticket: b"ticket".as_slice().into(),
        });
        token = token.attenuate(&[caveat], &limits).unwrap();
        tokens.push(token);
    }
    tokens.extend(std::iter::repeat_n(discharge, 8));
    let location = Text::from("home");
    let signing_key = |_: &[u8]| Some(&key);
    let third_parties = ThirdPartyKeys::default();
    let verifier = Verifier::new(&location, &signing_key, &third_parties, &limits);
    let bundle = Bundle {
        tokens,
        defects: Vec::new(),
    };
    let errors: Vec<VerifyError> = verifier
        .verify_all(&bundle)
        .map(|(_, _, verified)| verified.unwrap_err())
        .collect();
    let cause = |error: &VerifyError| {
        let VerifyError::Discharge { cause, .. } = error else {
            panic!("{error}")
        };
        *cause
    };
    let tried = limits.discharges / 8;
    let budget = DischargeError::Budget {
        limit: limits.discharges,
    };
    assert!(
        errors[..tried]
            .iter()
            .all(|error| cause(error) == DischargeError::Signature)
    );
    assert!(errors[tried..].iter().all(|error| cause(error) == budget));
    assert_eq!(errors.len(), 40);
}

/// What a cache believes a token to weigh covers what the token keeps in memory, also where one
/// byte of it becomes dozens.
#[test]
fn the_weight_of_a_token_covers_what_it_holds() {
    let key = SigningKey::new(Zeroizing::new(vec![1; 32]));
    let weight = |caveat: Caveat| {
        let token = Token::mint(b"k", [0; 16], "home", &key, &[caveat]).unwrap();
        let location = Text::from("home");
        let signing_key = |_: &[u8]| Some(&key);
        let third_parties = ThirdPartyKeys::default();
        let verifier = Verifier::new(&location, &signing_key, &third_parties, &Limits::DEFAULT);
        let bundle = Bundle {
            tokens: vec![token],
            defects: Vec::new(),
        };
        let verified = verifier.verify(&bundle, 0, &bundle.tokens[0]).unwrap();
        let encoded = bundle.tokens[0].bytes().len();
        let chain = KnownChain::of(&bundle.tokens[0], &verified).weight();
        assert!(
            (encoded..encoded + 400).contains(&chain),
            "{chain} for {encoded}"
        );
        verified.weight()
    };
    let empty = Text::from("");
    let many = 5_000;
    assert!(weight(Caveat::Mutations(Some(vec![empty.clone(); many]))) >= many * size_of::<Text>());
    let commands = vec![
        Command {
            args: None,
            exact: false
        };
        many
    ];
    assert!(weight(Caveat::Commands(Some(commands))) >= many * size_of::<Command>());
    let apps = (0..5_000).map(|id| (id, Action::READ));
    assert!(weight(Caveat::Apps(Resources::new(apps))) >= many * size_of::<(u64, Action)>());
    let inner = vec![Caveat::Action(Action::READ); 100];
    let nested = Caveat::IfPresent {
        ifs: Some(inner),
        otherwise: Action::READ,
    };
    assert!(weight(nested) >= 100 * size_of::<Caveat>());
    let long = Caveat::FromMachineSource("m".repeat(9_000).as_str().into());
    assert!(weight(long) >= 9_000);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("a".to_owned()),
        Just("b".to_owned()),
        "[a-c]{2}"
    ]
}

fn mask() -> impl Strategy<Value = Action> {
    prop_oneof![4 => (0_u16..32).prop_map(Action::from_bits), 1 => any::<u16>().prop_map(Action::from_bits)]
}

fn texts() -> impl Strategy<Value = Resources<Text>> {
    let entries =
        prop::collection::vec((name().prop_map(|n| Text::from(n.as_str())), mask()), 0..3);
    prop_oneof![9 => entries.prop_map(Resources::new), 1 => Just(Resources::nil())]
}

fn caveat() -> impl Strategy<Value = Caveat> {
    let text = || name().prop_map(|n| Text::from(n.as_str()));
    let list = || prop::option::of(prop::collection::vec(text(), 0..3));
    let command = (list(), any::<bool>()).prop_map(|(args, exact)| Command { args, exact });
    let leaf = prop_oneof![
        (0_u64..3, mask()).prop_map(|(id, mask)| Caveat::Organization { id, mask }),
        prop::collection::vec((0_u64..3, mask()), 0..3)
            .prop_map(|e| Caveat::Apps(Resources::new(e))),
        texts().prop_map(Caveat::Volumes),
        texts().prop_map(Caveat::Machines),
        texts().prop_map(Caveat::FeatureSet),
        texts().prop_map(Caveat::MachineFeatureSet),
        texts().prop_map(Caveat::AppFeatureSet),
        texts().prop_map(Caveat::Clusters),
        texts().prop_map(Caveat::StorageObjects),
        (any::<i64>(), any::<i64>()).prop_map(|(not_before, not_after)| Caveat::ValidityWindow {
            not_before,
            not_after
        }),
        (-5_i64..5, -5_i64..5).prop_map(|(not_before, not_after)| Caveat::ValidityWindow {
            not_before,
            not_after
        }),
        list().prop_map(Caveat::Mutations),
        prop::option::of(prop::collection::vec(command, 0..3)).prop_map(Caveat::Commands),
        mask().prop_map(Caveat::Action),
        Just(Caveat::IsMember),
        any::<u64>().prop_map(Caveat::IsUser),
        prop_oneof![Just(u32::MAX), 0_u32..3].prop_map(Caveat::AllowedRoles),
        text().prop_map(Caveat::FromMachineSource),
        (text(), text(), text()).prop_map(|(organization, app, instance)| Caveat::FlySrc {
            organization,
            app,
            instance
        }),
        Just(Caveat::Unregistered {
            kind: 99,
            body: [0xc3].as_slice().into()
        }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        (prop::collection::vec(inner, 0..3), mask()).prop_map(|(ifs, otherwise)| {
            Caveat::IfPresent {
                ifs: Some(ifs),
                otherwise,
            }
        })
    })
}

/// The fields of an access, owned.
#[derive(Clone, Debug)]
struct Fields {
    action: Action,
    ids: (Option<u64>, Option<u64>),
    names: Vec<Option<String>>,
    command: Option<Vec<String>>,
}

impl Fields {
    fn access(&self) -> Access<'_> {
        let name = |at: usize| self.names[at].as_deref();
        Access {
            action: self.action,
            org: self.ids.0,
            app: self.ids.1,
            app_feature: name(0),
            feature: name(1),
            volume: name(2),
            machine: name(3),
            machine_feature: name(4),
            mutation: name(5),
            source_machine: name(6),
            source_app: name(7),
            source_organization: name(8),
            cluster: name(9),
            storage_object: name(10),
            command: self.command.as_deref(),
        }
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let id = || prop::option::weighted(0.8, 0_u64..3);
    let names = prop::collection::vec(prop::option::weighted(0.3, name()), 11);
    let command = prop::option::weighted(0.3, prop::collection::vec(name(), 0..3));
    ((0_u16..32), (id(), id()), names, command).prop_map(|(action, ids, names, command)| Fields {
        action: Action::from_bits(action),
        ids,
        names,
        command,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the caveats, the access and the time: what is permitted after attenuation was
    /// permitted before. Through the real token, so that encoding, chain and decoding take part.
    #[test]
    fn attenuating_never_widens(
        before in prop::collection::vec(caveat(), 0..4),
        added in prop::collection::vec(caveat(), 0..4),
        fields in prop::collection::vec(fields(), 8),
        now in -6_i64..6,
    ) {
        let key = SigningKey::new(Zeroizing::new(vec![7; 32]));
        let location = Text::from("home");
        let signing_key = |_: &[u8]| Some(&key);
let third_parties = ThirdPartyKeys::default();
let verifier = Verifier::new(&location, &signing_key, &third_parties, &Limits::DEFAULT);
        let verified = |token: Token| {
            let bundle = Bundle { tokens: vec![token], defects: Vec::new() };
            verifier.verify(&bundle, 0, &bundle.tokens[0]).unwrap()
        };
        let parent = Token::mint(b"k", [0; 16], "home", &key, &before).unwrap();
        let child = parent.attenuate(&added, &Limits::DEFAULT).unwrap();
        let (parent, child) = (verified(parent), verified(child));
        for fields in &fields {
            let access = fields.access();
            if clear(child.caveats(), &access, now).is_ok() {
                prop_assert_eq!(clear(parent.caveats(), &access, now), Ok(()), "{:?}", access);
            }
        }
    }

    /// A chain remembered from any relative gives the tails that hashing from the key gives.
    #[test]
    fn a_known_chain_changes_no_verdict(
        shared in prop::collection::vec(caveat(), 0..4),
        remembered in prop::collection::vec(caveat(), 0..3),
        own in prop::collection::vec(caveat(), 0..3),
        forged in any::<bool>(),
    ) {
        let key = SigningKey::new(Zeroizing::new(vec![7; 32]));
        let location = Text::from("home");
        let third_parties = ThirdPartyKeys::default();
        let verify = |token: &Token, known: Option<std::sync::Arc<usher::macaroon::KnownChain>>| {
            let signing_key = |_: &[u8]| Some(&key);
            let chain = |_: &Token| known.clone();
            let verifier =
                Verifier::new(&location, &signing_key, &third_parties, &Limits::DEFAULT).with_known(&chain);
            let bundle = Bundle { tokens: vec![token.clone()], defects: Vec::new() };
            verifier.verify(&bundle, 0, token)
        };
        let root = Token::mint(b"k", [0; 16], "home", &key, &shared).unwrap();
        let relative = root.attenuate(&remembered, &Limits::DEFAULT).unwrap();
        let chain = usher::macaroon::KnownChain::of(&relative, &verify(&relative, None).unwrap());
        let token = root.attenuate(&own, &Limits::DEFAULT).unwrap();
        let mut bytes = token.bytes().to_vec();
        if forged {
            *bytes.last_mut().unwrap() ^= 1;
        }
        let token = Token::decode(bytes, &Limits::DEFAULT).unwrap();
        let (plain, resumed) = (verify(&token, None), verify(&token, Some(chain.into())));
        prop_assert_eq!(plain.is_ok(), !forged);
        prop_assert_eq!(plain.is_ok(), resumed.is_ok());
        if let (Ok(plain), Ok(resumed)) = (plain, resumed) {
            let digests = |v: &Verified| v.tails().iter().map(|t| t.digest()).collect::<Vec<_>>();
            prop_assert_eq!(digests(&plain), digests(&resumed));
        }
    }

    /// Every caveat set has one encoding, and it is the one that is read back.
    #[test]
    fn caveats_survive_encoding(caveats in prop::collection::vec(caveat(), 0..5)) {
        let encoded = encode_caveats(&caveats);
        prop_assert_eq!(decode_caveats(&encoded, &Limits::DEFAULT).unwrap(), caveats);
    }

    /// Nothing that someone could send makes the reader panic, or reads back differently.
    #[test]
    fn arbitrary_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(caveats) = decode_caveats(&bytes, &Limits::DEFAULT) {
            prop_assert_eq!(encode_caveats(&caveats), bytes);
        }
    }
}

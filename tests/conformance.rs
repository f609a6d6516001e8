//! The reference implementation's verdicts, case by case. `tests/conformance/README.md` has the
//! rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use usher::macaroon::{
    Bundle, Limits, SigningKey, Text, ThirdPartyKeys, Verifier, caveats_from_json, caveats_to_json,
    decode_caveats, encode_caveats, undischarged,
};
use usher::policy::{Access, clear};
use zeroize::Zeroizing;

#[derive(Deserialize)]
struct Case {
    id: String,
    keys: Vec<Key>,
    location: String,
    trusted_3ps: HashMap<String, Vec<String>>,
    authorization: String,
    now: i64,
    access: Value,
    verdict: String,
    token_index: Option<usize>,
    verified: Vec<Option<String>>,
    bundle_verdict: String,
    #[serde(default)]
    noncanonical: bool,
    #[serde(default)]
    reference_panics: bool,
}

#[derive(Deserialize)]
struct Key {
    kid: String,
    key: String,
}

#[test]
fn every_case_of_the_corpus_gets_the_verdict_of_the_reference() {
    let path = std::env::var_os("USHER_CONFORMANCE")
        .map_or_else(|| data("corpus.jsonl.gz"), PathBuf::from);
    let (mut passed, mut stricter, mut failures) = (0, 0, Vec::new());
    for line in lines(&path) {
        let case: Case = serde_json::from_str(&line).unwrap();
        match judge(&case) {
            Ok(Judged::Equal) => passed += 1,
            Ok(Judged::Stricter) => stricter += 1,
            Err(problem) => failures.push(format!("{}: {problem}", case.id)),
        }
    }
    report(&format!(
        "{} passed, {} failed\n({stricter} of the passed are denied as not canonical)\n{}",
        passed + stricter,
        failures.len(),
        failures.join("\n")
    ));
    assert!(failures.is_empty(), "{} cases differ", failures.len());
    assert!(
        passed > stricter,
        "an empty or hollow corpus proves nothing"
    );
}

enum Judged {
    Equal,
    Stricter,
}

fn judge(case: &Case) -> Result<Judged, String> {
    let outcome = run(case);
    let expected = &case.bundle_verdict;
    let allowed = outcome.verdict == "allow";
    if allowed && (expected != "allow" || case.reference_panics) {
        return Err(format!("allowed, the reference says {expected}"));
    }
    if case.reference_panics {
        return Ok(Judged::Equal);
    }
    let same_verdict = outcome.verdict == expected;
    // The corpus lists digests and index for its strict parser; a header that one refuses has none.
    // A token that the reference decodes but never verifies may be undecodable here.
    let comparable = case.verdict == case.bundle_verdict;
    let same_tokens = !comparable
        || (outcome
            .verified
            .iter()
            .flatten()
            .eq(case.verified.iter().flatten())
            && (!allowed || outcome.token_index == case.token_index));
    match (same_verdict && same_tokens, case.noncanonical) {
        (true, _) => Ok(Judged::Equal),
        (false, true) if !allowed || same_verdict => Ok(Judged::Stricter),
        (false, true) => Err(format!("{} for {expected}", outcome.verdict)),
        (false, false) => Err(format!(
            "{} for {expected}, token {:?} for {:?}, verified {:?} for {:?}",
            outcome.verdict, outcome.token_index, case.token_index, outcome.verified, case.verified
        )),
    }
}

struct Outcome {
    verdict: &'static str,
    token_index: Option<usize>,
    verified: Vec<Option<String>>,
}

fn run(case: &Case) -> Outcome {
    let keys: HashMap<Vec<u8>, SigningKey> = case
        .keys
        .iter()
        .map(|key| (bytes(&key.kid), signing_key(&key.key)))
        .collect();
    let mut third_parties = ThirdPartyKeys::default();
    for (location, keys) in &case.trusted_3ps {
        for key in keys {
            third_parties.add(location.as_str().into(), Zeroizing::new(bytes(key)));
        }
    }
    let location = Text::from(case.location.as_str());
    // One family has a thousand caveats; the default is one of the limits an operator can set.
    let limits = Limits {
        caveats: 2048,
        ..Limits::DEFAULT
    };
    let signing_key = |id: &[u8]| keys.get(id);
    let verifier = Verifier::new(&location, &signing_key, &third_parties, &limits);
    let bundle = Bundle::parse(&case.authorization, &limits).unwrap_or_default();
    let verified: Vec<_> = bundle
        .tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| verifier.is_permission(token))
        .map(|(position, token)| verifier.verify(&bundle, position, token).ok())
        .collect();
    let digests = verified
        .iter()
        .map(|v| {
            v.as_ref()
                .map(|v| digest(&encode_caveats(&v.caveats().cloned().collect::<Vec<_>>())))
        })
        .collect();
    let with_access = |verdict, token_index| Outcome {
        verdict,
        token_index,
        verified: digests,
    };
    if verified.iter().all(Option::is_none) {
        return with_access("deny_verify", None);
    }
    let command: Option<Vec<String>> = strings(&case.access["command"]);
    let access = access(&case.access, command.as_deref());
    if access.validate().is_err() {
        return with_access("invalid_access", None);
    }
    let permits = |verified: &Option<usher::macaroon::Verified>| {
        verified
            .as_ref()
            .is_some_and(|v| clear(v.caveats(), &access, case.now).is_ok())
    };
    match verified.iter().position(permits) {
        Some(index) => with_access("allow", Some(index)),
        None => with_access("deny_caveat", None),
    }
}

fn access<'a>(json: &'a Value, command: Option<&'a [String]>) -> Access<'a> {
    let text = |name: &str| json[name].as_str();
    let number = |name: &str| json[name].as_u64();
    Access {
        action: usher::macaroon::Action::from_json(text("action").unwrap_or_default()),
        org: number("orgid"),
        app: number("appid"),
        app_feature: text("app_feature"),
        feature: text("feature"),
        volume: text("volume"),
        machine: text("machine"),
        machine_feature: text("machine_feature"),
        mutation: text("mutation"),
        source_machine: text("sourceMachine"),
        source_app: text("sourceApp"),
        source_organization: text("sourceOrganization"),
        cluster: text("cluster"),
        storage_object: text("storage_object"),
        command,
    }
}

fn strings(json: &Value) -> Option<Vec<String>> {
    let words = json.as_array()?;
    Some(
        words
            .iter()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect(),
    )
}

#[test]
fn every_caveat_is_encoded_and_decoded_as_by_the_reference() {
    let mut counts = [0; 3];
    for line in lines(&data("caveat-encoding.jsonl")) {
        let case: Value = serde_json::from_str(&line).unwrap();
        match case["kind"].as_str().unwrap() {
            "caveat" => {
                let encoded = bytes(case["msgpack_b64"].as_str().unwrap());
                let decoded = decode_caveats(&encoded, &Limits::DEFAULT).unwrap();
                assert_eq!(encode_caveats(&decoded), encoded, "{line}");
                assert_eq!(caveats_to_json(&decoded)[0], case["json"], "{line}");
                assert_eq!(
                    decoded[0].kind(),
                    case["type_number"].as_u64().unwrap(),
                    "{line}"
                );
                let exact = case["json_roundtrip_exact"].as_bool().unwrap();
                let read = caveats_from_json(&format!("[{}]", case["json"]));
                let same = read.is_ok_and(|read| encode_caveats(&read) == encoded);
                assert_eq!(same, exact, "{line}");
                counts[0] += 1;
            }
            "json-input" => {
                let read = caveats_from_json(&case["caveats_json"].to_string());
                match case["msgpack_b64"].as_str() {
                    Some(expected) => {
                        assert_eq!(encode_caveats(&read.unwrap()), bytes(expected), "{line}")
                    }
                    None => assert!(read.is_err(), "{line}"),
                }
                counts[1] += 1;
            }
            "attenuation" => {
                let mut bundle =
                    Bundle::parse(case["before"].as_str().unwrap(), &Limits::DEFAULT).unwrap();
                let attenuated = caveats_from_json(&case["caveats_json"].to_string())
                    .map_err(drop)
                    .and_then(|caveats| {
                        bundle.tokens[0]
                            .attenuate(&caveats, &Limits::DEFAULT)
                            .map_err(drop)
                    });
                match case["after"].as_str() {
                    Some(after) => {
                        bundle.tokens[0] = attenuated.unwrap();
                        assert_eq!(bundle.to_header(), after, "{line}");
                    }
                    None => assert!(attenuated.is_err(), "{line}"),
                }
                counts[2] += 1;
            }
            other => panic!("unknown kind {other}"),
        }
    }
    let [caveats, inputs, attenuations] = counts;
    report(&format!(
        "caveat encodings {caveats}, JSON inputs {inputs}, attenuations {attenuations}: all equal"
    ));
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}

#[test]
fn the_test_vectors_decode_verify_and_attenuate() {
    let vectors: Value =
        serde_json::from_reader(File::open(data("test_vectors.json")).unwrap()).unwrap();
    let location = Text::from(vectors["location"].as_str().unwrap());
    let key = signing_key(vectors["key"].as_str().unwrap());
    let mut third_parties = ThirdPartyKeys::default();
    third_parties.add(
        location.clone(),
        Zeroizing::new(bytes(vectors["tp_key"].as_str().unwrap())),
    );
    let kid = bytes(vectors["kid"].as_str().unwrap());
    let limits = Limits::DEFAULT;
    let signing_key = |id: &[u8]| (id == kid).then_some(&key);
    let verifier = Verifier::new(&location, &signing_key, &third_parties, &limits);
    let mut verified = 0;
    let mut refused = Vec::new();
    for (name, header) in vectors["macaroons"].as_object().unwrap() {
        let bundle = Bundle::parse(header.as_str().unwrap(), &limits).unwrap();
        assert!(bundle.defects.is_empty(), "{name}: {:?}", bundle.defects);
        let token = &bundle.tokens[0];
        assert_eq!(&bundle.to_header(), header.as_str().unwrap(), "{name}");
        match verifier.verify(&bundle, 0, token) {
            Ok(_) => verified += 1,
            Err(_) => refused.push(name.as_str()),
        }
    }
    let mut attenuated = 0;
    for (before, cases) in vectors["attenuation"].as_object().unwrap() {
        for (set, after) in cases.as_object().unwrap() {
            let caveats = decode_caveats(&bytes(set), &limits).unwrap();
            let mut bundle = Bundle::parse(before, &limits).unwrap();
            for token in &mut bundle.tokens {
                if verifier.is_permission(token) {
                    *token = token.attenuate(&caveats, &limits).unwrap();
                }
            }
            assert_eq!(&bundle.to_header(), after.as_str().unwrap(), "{set}");
            attenuated += 1;
        }
    }
    let with_third_parties = vectors["with_tps"].as_str().unwrap();
    let bundle = Bundle::parse(with_third_parties, &limits).unwrap();
    let waiting: Vec<String> = undischarged(&bundle, &bundle.tokens[0])
        .map(|third_party| third_party.location.to_string())
        .collect();
    assert_eq!(waiting, ["undischarged"]);
    report(&format!(
        "test vectors: {verified} verified, {attenuated} attenuated, refused as they must be: {refused:?}"
    ));
    assert_eq!(
        refused,
        [
            "BindToParentToken",
            "FlyioUserID",
            "GitHubUserID",
            "GoogleUserID"
        ]
    );
    assert!(verified > 15 && attenuated > 15);
}

#[test]
fn the_benchmark_tokens_are_permitted() {
    let file: Value =
        serde_json::from_reader(File::open(data("bench-tokens.json")).unwrap()).unwrap();
    let tokens = file["tokens"].as_array().unwrap();
    for token in tokens {
        let case: Case = serde_json::from_value(serde_json::json!({
            "id": token["name"], "keys": file["keys"], "location": file["location"],
            "trusted_3ps": file["trusted_3ps"], "authorization": token["authorization"],
            "now": 1_764_000_000, "access": token["access"], "verdict": "allow",
            "token_index": 0, "verified": [], "bundle_verdict": "allow",
        }))
        .unwrap();
        assert_eq!(run(&case).verdict, "allow", "{}", case.id);
    }
    assert_eq!(tokens.len(), 4);
}

fn report(text: &str) {
    // Past the test harness, which captures what `println` prints.
    std::io::stdout()
        .write_all(format!("{text}\n").as_bytes())
        .unwrap();
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/conformance")
        .join(name)
}

fn lines(path: &Path) -> impl Iterator<Item = String> {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut content = Vec::new();
    if path.extension().is_some_and(|ext| ext == "gz") {
        GzDecoder::new(file).read_to_end(&mut content).unwrap();
    } else {
        file.read_to_end(&mut content).unwrap();
    }
    BufReader::new(std::io::Cursor::new(content))
        .lines()
        .map(Result::unwrap)
}

fn bytes(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap()
}

fn signing_key(base64: &str) -> SigningKey {
    SigningKey::new(Zeroizing::new(bytes(base64)))
}

fn digest(encoded: &[u8]) -> String {
    Sha256::digest(encoded)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

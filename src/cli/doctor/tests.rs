use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::*;
use crate::macaroon::{Action, SigningKey};

const NOW: i64 = 1_764_000_000;
const AUTH: &str = "https://auth.example";
const TICKET: &[u8] = &[0xfb, 0xff, 0xfe];

fn key() -> SigningKey {
    SigningKey::new(Zeroizing::new(vec![1; 32]))
}

fn valid(not_before: i64, not_after: i64) -> Caveat {
    Caveat::ValidityWindow {
        not_before,
        not_after,
    }
}

fn mint(caveats: &[Caveat]) -> Token {
    let rnd = [0xfb; 16];
    Token::mint(b"k1", rnd, "https://api.fly.io/v1", &key(), caveats).unwrap()
}

fn sound() -> Token {
    mint(&[
        Caveat::Organization {
            id: 2001,
            mask: Action::ALL,
        },
        valid(NOW - 10, NOW + 10),
    ])
}

fn asking() -> Token {
    mint(&[Caveat::ThirdParty(ThirdParty {
        location: AUTH.into(),
        verifier_key: [7; 60][..].into(),
        ticket: TICKET.into(),
    })])
}

fn discharge(ticket: &[u8], caveats: &[Caveat]) -> Token {
    Token::discharge(ticket, [2; 16], AUTH, &key(), caveats).unwrap()
}

fn encoded(token: &Token) -> String {
    STANDARD.encode(token.bytes())
}

fn header(tokens: &[Token]) -> String {
    Bundle {
        tokens: tokens.to_vec(),
        ..Bundle::default()
    }
    .to_header()
}

/// The codes found, with their parts, and whether a token can be usable.
fn findings(text: &str) -> (Vec<(usize, &'static str)>, bool) {
    let report = examine(text, &Limits::DEFAULT, NOW);
    let codes = report
        .findings
        .iter()
        .map(|finding| (finding.part.unwrap_or(0), finding.complaint.code()))
        .collect();
    (codes, report.can_be_usable())
}

#[track_caller]
fn check(text: &str, expected: &[(usize, &'static str)], usable: bool) {
    assert_eq!(findings(text), (expected.to_vec(), usable));
}

#[test]
fn a_sound_header_has_no_findings() {
    let token = sound();
    check(&header(std::slice::from_ref(&token)), &[], true);
    check(
        &format!("Bearer {}\n", header(std::slice::from_ref(&token))),
        &[],
        true,
    );
    check(&format!("fm2_{}", encoded(&token)), &[], true);
    check(&format!("fm1r_{}", encoded(&token)), &[], true);
    check(&header(&[asking(), discharge(TICKET, &[])]), &[], true);
}

#[test]
fn a_token_that_is_cut_off_is_told_from_every_other_accident() {
    let whole = header(&[sound()]);
    let prefix = "FlyV1 fm2_".len();
    let body = whole.trim_end_matches('=').len();
    for len in prefix + 1..body {
        let cut = whole.get(..len).unwrap();
        check(cut, &[(1, "cut_off")], false);
    }
    let report = examine(whole.get(..prefix + 40).unwrap(), &Limits::DEFAULT, NOW);
    assert_eq!(
        report.findings[0].complaint,
        Complaint::CutOff { characters: 40 }
    );
}

#[test]
fn accidents_of_pasting_are_told_apart() {
    let token = sound();
    let good = encoded(&token);
    let (front, back) = good.split_at(30);
    let stray = format!("{front}!{back}");
    let extra = STANDARD.encode([token.bytes(), &[0, 0]].concat());
    for (text, code) in [
        (String::new(), (0, "nothing")),
        ("FlyV1 ".to_owned(), (0, "nothing")),
        (format!("\"FlyV1 fm2_{good}\""), (0, "quoted")),
        (format!("'fm2_{good}'"), (0, "quoted")),
        (
            format!("authorization: FlyV1 fm2_{good}"),
            (0, "header_name"),
        ),
        (format!("FlyV1\tfm2_{good}"), (0, "wrapped")),
        (format!("FlyV1 fm2_{front}\n{back}"), (1, "wrapped")),
        (format!("FlyV1 fm2_{front}  {back}"), (1, "wrapped")),
        (format!("FlyV1 fm2_fm2_{good}"), (1, "doubled_prefix")),
        (format!("fm2_FlyV1 fm2_{good}"), (1, "doubled_prefix")),
        (format!("FlyV1 {good}"), (1, "no_prefix")),
        (format!("FlyV1 FM2_{good}"), (1, "wrong_prefix")),
        (format!("FlyV1 gho_{good}"), (1, "wrong_prefix")),
        ("FlyV1 hello".to_owned(), (1, "wrong_prefix")),
        (format!("FlyV1 fo1_{good}"), (1, "oauth")),
        (format!("FlyV1 fm2_{stray}"), (1, "bad_character")),
        (format!("FlyV1 fm2_{extra}"), (1, "extra_bytes")),
        ("FlyV1 fm2_AAAA".to_owned(), (1, "not_a_macaroon")),
    ] {
        check(&text, &[code], false);
    }
}

#[test]
fn the_url_safe_alphabet_and_missing_padding_are_told_apart() {
    let token = sound();
    let bytes = token.bytes();
    let url_safe = URL_SAFE.encode(bytes);
    assert_ne!(url_safe, encoded(&token), "the alphabets differ here");
    check(&format!("fm2_{url_safe}"), &[(1, "url_safe")], false);
    // A longer location moves the end of the token, and with it the padding.
    let padded = (0..3)
        .map(|len| {
            let location = "l".repeat(len);
            Token::mint(b"k1", [0; 16], &location, &key(), &[]).unwrap()
        })
        .find(|token| encoded(token).ends_with('='))
        .unwrap();
    let unpadded = STANDARD_NO_PAD.encode(padded.bytes());
    check(&format!("fm2_{unpadded}"), &[(1, "padding")], false);
    let overpadded = format!("{}=", encoded(&padded));
    check(&format!("fm2_{overpadded}"), &[(1, "padding")], false);
}

#[test]
fn a_longer_encoding_is_not_canonical() {
    let token = sound();
    // The array header of the token, written with sixteen bits.
    let bytes = [&[0xdc, 0, 4], &token.bytes()[1..]].concat();
    let text = format!("fm2_{}", STANDARD.encode(bytes));
    check(&text, &[(1, "not_canonical")], false);
}

#[test]
fn several_accidents_come_to_light_together() {
    let url_safe = URL_SAFE.encode(mint(&[valid(NOW - 10, NOW - 1)]).bytes());
    let (front, back) = url_safe.split_at(30);
    check(
        &format!("\"FlyV1 fm2_fm2_{front}\r\n{back}\""),
        &[
            (0, "quoted"),
            (1, "wrapped"),
            (1, "doubled_prefix"),
            (1, "url_safe"),
            (1, "expired"),
        ],
        false,
    );
}

#[test]
fn one_broken_token_does_not_hide_a_sound_one() {
    let good = encoded(&sound());
    check(
        &format!("FlyV1 fm2_{good},,gho_x, fm2_{good}"),
        &[(2, "empty_part"), (3, "wrong_prefix")],
        true,
    );
    check(
        &format!("FlyV1 fm2_{good}fm2_{good}"),
        &[(1, "joined")],
        false,
    );
}

#[test]
fn windows_are_held_against_the_clock() {
    check(
        &header(&[mint(&[valid(0, NOW - 1)])]),
        &[(1, "expired")],
        false,
    );
    check(
        &header(&[mint(&[valid(NOW + 1, NOW + 9)])]),
        &[(1, "not_yet_valid")],
        false,
    );
    check(&header(&[mint(&[valid(NOW, NOW)])]), &[], true);
}

#[test]
fn discharges_are_matched_with_tickets() {
    check(&header(&[asking()]), &[(1, "missing_discharge")], false);
    check(
        &header(&[asking(), discharge(b"another", &[])]),
        &[(1, "missing_discharge"), (2, "orphan_discharge")],
        false,
    );
    check(
        &header(&[asking(), discharge(TICKET, &[valid(0, 1)])]),
        &[(2, "expired")],
        false,
    );
    check(
        &header(&[discharge(TICKET, &[])]),
        &[(0, "no_permission_token"), (1, "orphan_discharge")],
        false,
    );
}

#[test]
fn limits_are_findings() {
    let limits = Limits {
        header_bytes: 20,
        tokens: 2,
        ..Limits::DEFAULT
    };
    let code = |text: &str| examine(text, &limits, NOW).findings[0].complaint.code();
    assert_eq!(code(&"a".repeat(21)), "header_too_long");
    let report = examine("a,b,c", &limits, NOW);
    let last = report.findings.iter().find(|f| f.part.is_none()).unwrap();
    assert_eq!(last.complaint, Complaint::TooManyTokens { limit: 2 });
    let deep = Limits {
        caveats: 1,
        ..Limits::DEFAULT
    };
    let report = examine(&header(&[sound()]), &deep, NOW);
    assert_eq!(report.findings[0].complaint.code(), "over_limit");
}

/// Whatever is wrong, the report must be safe to show to anybody.
#[test]
fn no_message_holds_any_part_of_the_token() {
    let good = encoded(&sound());
    for text in [
        format!("fm2_{}", good.replace('A', "!")),
        format!("secretprefix_{good}"),
        format!("fm2_{}", good.get(..40).unwrap()),
    ] {
        for finding in examine(&text, &Limits::DEFAULT, NOW).findings {
            let message = finding.complaint.to_string();
            assert!(!message.contains(good.get(..8).unwrap()), "{message}");
            assert!(!message.contains("secretprefix"), "{message}");
        }
    }
}

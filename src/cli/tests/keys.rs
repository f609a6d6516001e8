//! `usher key`.

use super::*;
use crate::authority::{AuthorityError, KeyId};

#[test]
fn keys_are_listed_and_rotated() {
    let world = World::new();
    let before = world.create(&["org", "--org", "acme"]);
    let said = world.output(&["key", "rotate", "--config", "c"]);
    let listed = world.output(&["key", "list", "--config", "c"]);
    let rows: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["KEY", "STATE", "CREATED"]);
    assert_eq!(rows[1][1..], ["verifying", "2025-11-24T16:00:00Z"]);
    assert_eq!(rows[2][1..], ["active", "2025-11-24T16:00:00Z"]);
    assert!(said.starts_with(rows[2][0]));
    world.output(&[&VERIFY[..], &["--token", &before]].concat());
}

/// A token that another issuer signs with `key`.
fn foreign(world: &World, id: &[u8], key: u8) -> String {
    let key = SigningKey::new(Zeroizing::new(vec![key; 32]));
    let location = world.authority.location().to_string();
    let token = Token::mint(id, [1; 16], &location, &key, &[]).unwrap();
    Bundle {
        tokens: vec![token],
        ..Bundle::default()
    }
    .to_header()
}

fn usable(world: &World, header: &str) -> bool {
    let ran = world.run(&[&VERIFY[..], &["--token", header]].concat());
    ran.ended.unwrap() == Answer::Yes
}

#[test]
fn tokens_of_an_imported_key_are_accepted() {
    let mut world = World::new();
    let (text, bytes) = (foreign(&world, b"k1", 5), foreign(&world, &[0, 255], 6));
    assert!(!usable(&world, &text) && !usable(&world, &bytes));

    let file = world.write("issuer.key", &format!("{}\n", STANDARD.encode([5; 32])));
    let line = ["key", "import", "--config", "c", "--id"];
    let said = world.output(&[&line[..], &["k1", &file]].concat());
    assert!(said.starts_with("k1 is accepted from now on"), "{said}");
    world.stdin = STANDARD.encode([6; 32]);
    let said = world.output(&[&line[..], &["hex:00fF", "-"]].concat());
    assert!(said.starts_with("00ff is accepted from now on"), "{said}");
    assert!(usable(&world, &text) && usable(&world, &bytes));

    let error = world.error(&[&line[..], &["k1", &file]].concat());
    assert!(matches!(
        error,
        CliError::Authority(AuthorityError::KnownKey(_))
    ));
}

#[test]
fn what_is_no_key_is_not_imported_and_not_shown() {
    let mut world = World::new();
    let line = ["key", "import", "--config", "c", "--id"];
    for text in ["", "c2hvcnQ=", "secret-but-not-base64"] {
        world.stdin = text.to_owned();
        let error = world.error(&[&line[..], &["k1", "-"]].concat()).to_string();
        assert_eq!(
            error,
            "standard input does not hold a key of 32 bytes in base64"
        );
    }
    for id in ["", "hex:", "hex:0", "hex:0g", "hex:+1", "hex:é"] {
        let error = world.error(&[&line[..], &[id, "-"]].concat());
        assert!(matches!(error, CliError::Usage(_)), "{id}: {error}");
    }
    assert_eq!(world.authority.keys().unwrap().len(), 1);
}

#[test]
fn retiring_a_key_ends_its_tokens() {
    let world = World::new();
    let first = KeyId::of(&world.authority.keys().unwrap()[0].id).to_string();
    let retire = |key: &str| world.run(&["key", "retire", "--config", "c", key]);
    let [long, revoked, _short, ssh] = [
        &["org", "--org", "acme"][..],
        &["readonly", "--org", "acme"],
        &["deploy", "--app", "web", "--expiry", "1h"],
        &["ssh", "--app", "web"],
    ]
    .map(|kind| world.create(kind));
    world.output(&["token", "revoke", "--config", "c", &revoked]);

    let error = retire(&first).ended.unwrap_err();
    assert!(matches!(
        error,
        CliError::Authority(AuthorityError::ActiveKey(_))
    ));
    assert!(usable(&world, &long));
    world.output(&["key", "rotate", "--config", "c"]);
    let next = world.create(&["org", "--org", "acme"]);

    world.now.set(NOW + 3601);
    assert!(usable(&world, &long) && usable(&world, &ssh));
    let said = retire(&first).out;
    assert_eq!(
        said,
        format!("{first} is retired; this ends 2 of the tokens made here\n"),
        "neither the revoked one, nor the expired one, nor that of the next key"
    );
    assert!(!usable(&world, &long) && !usable(&world, &ssh));
    assert!(usable(&world, &next));
    assert_eq!(
        retire(&first).out,
        format!("{first} had been retired before\n")
    );
    let error = retire("k9").ended.unwrap_err().to_string();
    assert_eq!(
        error,
        "the store has no key k9; `usher key list` shows those it has"
    );
    let listed = world.output(&["key", "list", "--config", "c"]);
    assert!(listed.contains("retired"), "{listed}");
    let listed = world.output(&["token", "list", "--config", "c"]);
    let states = listed.lines().skip(1).map(|line| {
        let mut words = line.split_whitespace();
        words.nth(2).unwrap()
    });
    assert_eq!(
        states.collect::<Vec<_>>(),
        ["retired", "revoked", "expired", "retired", "active"]
    );
}

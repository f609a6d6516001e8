#[path = "../../tests/support/canary.rs"]
mod canary;
mod discharging;
mod keys;
mod minting;

use std::cell::Cell;
use std::fs;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser as _;
use serde_json::Value;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::config::Authority as AuthorityConfig;
use crate::directory::Directory;
use crate::macaroon::{Action, Bundle, Caveat, Limits, SigningKey, Token, unseal};
use crate::policy::NameTable;

const NOW: i64 = 1_764_000_000;

const SEAL_KEY: [u8; 32] = *b"a seal key is of thirty-two byte";

const AUTH: &str = "https://auth.example";
const OTHER: &str = "https://other.example";

/// What the two third parties share with the authority.
const AUTH_KEY: [u8; 32] = *b"what is shared with a third part";
const OTHER_KEY: [u8; 32] = *b"shared with yet another, also 32";

/// A store, a directory, and what a command reads and writes.
struct World {
    dir: TempDir,
    authority: Authority,
    directory: Directory,
    none: NameTable,
    env: Vec<(&'static str, String)>,
    stdin: String,
    now: Cell<i64>,
}

/// What a command wrote, and how it ended.
struct Ran {
    out: String,
    err: String,
    ended: Result<Answer, CliError>,
}

impl World {
    fn new() -> Self {
        Self::with_third_parties(&[])
    }

    /// Each with the key it shares with the authority.
    fn with_third_parties(third_parties: &[(&str, [u8; 32])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let seal_key = dir.path().join("seal.key");
        fs::write(&seal_key, STANDARD.encode(SEAL_KEY)).unwrap();
        canary::hide(&SEAL_KEY);
        let third_parties = third_parties
            .iter()
            .enumerate()
            .map(|(at, (location, key))| {
                let path = dir.path().join(format!("third-party-{at}.key"));
                fs::write(&path, STANDARD.encode(key)).unwrap();
                canary::hide(key);
                config::ThirdParty {
                    location: (*location).to_owned(),
                    key: config::Secret::File(path),
                }
            });
        let config = AuthorityConfig {
            location: "https://api.fly.io/v1".to_owned(),
            store: dir.path().join("usher.db"),
            seal_key: config::Secret::File(seal_key),
            third_parties: third_parties.collect(),
        };
        let names = "
            orgs: [ { slug: acme, id: 2001 }, { slug: beta, id: 2002 } ]
            apps: [ { name: web, id: 3001, org: acme } ]";
        let names = config::parse_names(names, Path::new("names"), &NameTable::default(), None);
        let directory = config::Directory {
            names: Arc::new(names.unwrap()),
            ..config::Directory::default()
        };
        let directory = Directory::open(&directory, &Arc::default()).unwrap();
        Self {
            authority: Authority::open(&config, NOW).unwrap(),
            dir,
            directory,
            none: NameTable::default(),
            env: vec![],
            stdin: String::new(),
            now: Cell::new(NOW),
        }
    }

    /// Runs a command on this world's store, whatever configuration it names.
    fn run(&self, line: &[&str]) -> Ran {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut stdin = self.stdin.as_bytes();
        let env = |name: &str| {
            let mut env = self.env.iter();
            env.find(|(known, _)| *known == name)
                .map(|(_, value)| value.clone())
        };
        let mut console = Console {
            stdin: &mut stdin,
            stdout: &mut out,
            stderr: &mut err,
            attended: true,
            env: &env,
            now: self.now.get(),
        };
        let ended = self.dispatch(line, &mut console);
        let ran = Ran {
            out: String::from_utf8(out).unwrap(),
            err: String::from_utf8(err).unwrap(),
            ended,
        };
        self.look_through(line, &ran);
        ran
    }

    /// Nothing that a command was given or has made shows where it does not belong.
    fn look_through(&self, line: &[&str], ran: &Ran) {
        let given = self.env.iter().map(|(_, value)| value.as_str());
        let given = given.chain(line.iter().copied()).chain([&*self.stdin]);
        given.for_each(canary::hide_tokens);
        self.hide_keys();
        canary::hide_tokens(&ran.out);
        if !canary::prints_tokens(line) {
            canary::look(canary::Place::Stdout, ran.out.as_bytes());
        }
        canary::look(canary::Place::Stderr, ran.err.as_bytes());
        if let Err(error) = &ran.ended {
            let told = error.to_string();
            canary::look(canary::Place::Stderr, without_tokens(&told).as_bytes());
        }
        canary::assert_hidden();
    }

    /// The signing keys, which lie in the store sealed.
    fn hide_keys(&self) {
        let store = rusqlite::Connection::open(self.dir.path().join("usher.db")).unwrap();
        let mut keys = store.prepare("SELECT sealed FROM signing_key").unwrap();
        let sealed = keys.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        for sealed in sealed {
            canary::hide(&unseal(&SEAL_KEY, &sealed.unwrap()).unwrap());
        }
    }

    fn dispatch(&self, line: &[&str], console: &mut Console<'_>) -> Result<Answer, CliError> {
        let cli = Cli::try_parse_from([&["usher"], line].concat())?;
        let (authority, directory) = (&self.authority, &self.directory.view(&self.none));
        let limits = &Limits::DEFAULT;
        match &cli.command {
            Command::Token(TokenCommand::Create(args)) => {
                create::run(args, directory, authority, console)?;
            }
            Command::Token(TokenCommand::Revoke(args)) => {
                revoke::run(args, limits, authority, console)?;
            }
            Command::Token(TokenCommand::List(args)) => {
                ledger::run(args, directory, authority, console)?;
            }
            Command::Token(TokenCommand::Verify(args)) => {
                return verify::run(args, limits, authority, console);
            }
            Command::Token(TokenCommand::Discharge(args)) => {
                discharge::run(args, authority, console)?;
            }
            Command::Token(offline) => return token(offline, console),
            Command::Key(command) => key::run(command, authority, console)?,
            Command::Directory(command) => {
                let configured = config::Directory {
                    store: true,
                    ..config::Directory::default()
                };
                match command {
                    DirectoryCommand::Import(args) => {
                        super::directory::import(args, &configured, authority, console)?;
                    }
                    DirectoryCommand::List(args) => {
                        super::directory::list(args, &configured, authority, console)?;
                    }
                }
            }
            other @ (Command::Demo(_)
            | Command::Serve(_)
            | Command::Check(_)
            | Command::Connect(_)) => {
                panic!("{other:?} needs more than a store")
            }
        }
        Ok(Answer::Yes)
    }

    /// The output of a command that is to succeed.
    #[track_caller]
    fn output(&self, line: &[&str]) -> String {
        let ran = self.run(line);
        match ran.ended {
            Ok(Answer::Yes) => ran.out,
            other => panic!("{line:?}: {other:?}\n{}{}", ran.out, ran.err),
        }
    }

    #[track_caller]
    fn error(&self, line: &[&str]) -> CliError {
        self.run(line).ended.expect_err("the command fails")
    }

    fn create(&self, kind: &[&str]) -> String {
        let line = [&["token", "create", "--config", "c"], kind].concat();
        self.output(&line).trim_end().to_owned()
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn only_token(header: &str) -> Token {
    let bundle = Bundle::parse(header, &Limits::DEFAULT).unwrap();
    assert_eq!((bundle.tokens.len(), bundle.defects.len()), (1, 0));
    bundle.tokens[0].clone()
}

const VERIFY: [&str; 4] = ["token", "verify", "--config", "c"];

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn the_token_is_taken_from_the_first_place_that_has_one() {
    let mut world = World::new();
    let [from_flag, from_stdin, from_usher, from_fly] =
        ["org", "readonly", "org", "readonly"].map(|kind| world.create(&[kind, "--org", "acme"]));
    let seen = |world: &World, line: &[&str]| {
        let json = world.output(&[&["token", "inspect", "--json"], line].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        json["tokens"][0]["id"].as_str().unwrap().to_owned()
    };
    let id = |header: &str| only_token(header).uuid().to_string();
    world.stdin = format!("{from_stdin}\n");
    world.env = vec![
        ("FLY_API_TOKEN", from_fly.clone()),
        ("USHER_TOKEN", from_usher.clone()),
    ];
    assert_eq!(seen(&world, &["--token", &from_flag]), id(&from_flag));
    assert_eq!(seen(&world, &["--token", "-"]), id(&from_stdin));
    assert_eq!(seen(&world, &[]), id(&from_usher));
    world.env[1].1.clear();
    assert_eq!(seen(&world, &[]), id(&from_fly));
    world.env.clear();
    let error = world.error(&["token", "inspect"]);
    assert!(matches!(error, CliError::NoToken), "{error}");
}

#[test]
fn attenuating_narrows_permission_tokens_and_keeps_discharges() {
    let world = World::new();
    let key = SigningKey::new(Zeroizing::new(vec![3; 32]));
    let third_party = Caveat::ThirdParty(crate::macaroon::ThirdParty {
        location: "https://auth.example".into(),
        verifier_key: [7; 60][..].into(),
        ticket: b"ticket"[..].into(),
    });
    let permission = Token::mint(b"k", [1; 16], "loc", &key, &[third_party]).unwrap();
    let discharge =
        Token::discharge(b"ticket", [2; 16], "https://auth.example", &key, &[]).unwrap();
    let header = Bundle {
        tokens: vec![permission.clone(), discharge.clone()],
        ..Bundle::default()
    }
    .to_header();
    let caveats = world.write("caveats.json", r#"[{"type": "Action", "body": "r"}]"#);
    let line = [
        "token",
        "attenuate",
        "--token",
        &header,
        "--caveats",
        &caveats,
    ];
    let narrowed = Bundle::parse(world.output(&line).trim_end(), &Limits::DEFAULT).unwrap();
    let read = [Caveat::Action(Action::READ)];
    let expected = permission.attenuate(&read, &Limits::DEFAULT).unwrap();
    assert_eq!(narrowed.tokens, [expected, discharge]);
}

#[test]
fn an_oauth_token_does_not_survive_attenuation() {
    let world = World::new();
    let header = world.create(&["org", "--org", "acme"]);
    let caveats = world.write("caveats.json", r#"[{"type": "Action", "body": "r"}]"#);
    let mixed = format!("{header},fo1_abc");
    let ran = world.run(&[
        "token",
        "attenuate",
        "--token",
        &mixed,
        "--caveats",
        &caveats,
    ]);
    assert!(ran.ended.is_ok() && !ran.out.contains("fo1_"));
    assert!(ran.err.contains("OAuth"), "{}", ran.err);
}

#[test]
fn attenuation_errors_name_their_place_and_no_token() {
    let mut world = World::new();
    let header = world.create(&["org", "--org", "acme"]);
    let bad = world.write("bad.json", "[{\"type\": \"Nonsense\", \"body\": 1}]");
    let missing = world.dir.path().join("missing").display().to_string();
    let cut = header.get(..60).unwrap();
    world.stdin = "[]".to_owned();
    for (token, caveats, expected) in [
        (
            header.as_str(),
            bad.as_str(),
            "bad.json: [0].type: unknown caveat type \"Nonsense\"",
        ),
        (&header, &missing, "missing: No such file"),
        (cut, "-", "token 1 of the header: "),
        ("-", "-", "cannot both come from standard input"),
    ] {
        let line = ["token", "attenuate", "--token", token, "--caveats", caveats];
        let error = world.error(&line).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(header.get(10..40).unwrap()), "{error}");
    }
}

#[test]
fn revoking_by_id_and_by_token_differ() {
    let world = World::new();
    let parent = world.create(&["org", "--org", "acme"]);
    let caveats = world.write("caveats.json", r#"[{"type": "Action", "body": "r"}]"#);
    let line = [
        "token",
        "attenuate",
        "--token",
        &parent,
        "--caveats",
        &caveats,
    ];
    let child = world.output(&line).trim_end().to_owned();
    let state = |header: &str| {
        let ran = world.run(&[&VERIFY[..], &["--json", "--token", header]].concat());
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        let usable = ran.ended.unwrap() == Answer::Yes;
        assert_eq!(json["usable"], usable);
        json["tokens"][0]["state"].as_str().unwrap().to_owned()
    };
    let revoke = |what: &str| world.output(&["token", "revoke", "--config", "c", what]);
    let id = only_token(&parent).uuid().to_string();

    let said = revoke(&child);
    assert!(said.starts_with(&format!("revoked: this token of the lineage {id}")));
    assert_eq!(
        (state(&parent).as_str(), state(&child).as_str()),
        ("usable", "revoked")
    );
    let said = revoke(&id);
    assert!(said.starts_with(&format!("revoked: the lineage {id}")));
    assert_eq!(state(&parent), "revoked");
    assert!(revoke(&id).starts_with("already revoked: "));
}

#[test]
fn only_what_exists_is_revoked() {
    let world = World::new();
    let revoke = |what: &str| world.run(&["token", "revoke", "--config", "c", what]);
    let forged = {
        let key = SigningKey::new(Zeroizing::new(vec![3; 32]));
        let snapshot = world.authority.snapshot();
        let (id, _) = snapshot.keys.active();
        let location = world.authority.location().to_string();
        let token = Token::mint(id, [1; 16], &location, &key, &[]).unwrap();
        Bundle {
            tokens: vec![token],
            ..Bundle::default()
        }
        .to_header()
    };
    let error = revoke(&forged).ended.unwrap_err();
    assert!(matches!(error, CliError::NotOurs { .. }), "{error}");
    let error = revoke("my-token").ended.unwrap_err();
    assert!(matches!(error, CliError::NotRevocable), "{error}");
    let error = revoke("fm2_AAAA").ended.unwrap_err();
    assert!(matches!(error, CliError::Defect(_)), "{error}");
    let header = world.create(&["org", "--org", "acme"]);
    let both = format!("{header},{}", forged.trim_start_matches("FlyV1 "));
    let error = revoke(&both).ended.unwrap_err();
    assert!(matches!(error, CliError::NotOurs { .. }), "{error}");
    let unused = "0b85b67a-e332-5811-ac50-2ef3899fe852";
    assert!(revoke(unused).err.contains("the ledger has no token"));
    let id = only_token(&header).uuid();
    let revocations = &world.authority.snapshot().revocations;
    assert!(!revocations.revoked(&id, || [only_token(&header).tail_digest().unwrap()]));
}

#[test]
fn verify_says_why_a_token_is_not_usable() {
    let world = World::new();
    let header = world.create(&["org", "--org", "acme", "--expiry", "1h"]);
    let id = only_token(&header).uuid();
    let verify = |header: &str| {
        let ran = world.run(&[&VERIFY[..], &["--token", header]].concat());
        assert_eq!(ran.ended.unwrap(), Answer::No);
        ran.out
    };
    world.now.set(NOW + 3601);
    assert_eq!(
        verify(&header),
        format!("{id}: not usable: expired at 2025-11-24T17:00:00Z\n")
    );
    world.now.set(NOW - 1);
    assert_eq!(
        verify(&header),
        format!("{id}: not usable: valid from 2025-11-24T16:00:00Z on\n")
    );
    world.now.set(NOW);
    let stranger = {
        let key = SigningKey::new(Zeroizing::new(vec![3; 32]));
        let location = world.authority.location().to_string();
        Token::mint(b"other", [1; 16], &location, &key, &[]).unwrap()
    };
    let header = Bundle {
        tokens: vec![stranger.clone()],
        ..Bundle::default()
    }
    .to_header();
    assert_eq!(
        verify(&header),
        format!(
            "{}: not usable: no key is known for this token\n",
            stranger.uuid()
        )
    );
    assert!(verify("FlyV1 fm2_").contains("no permission token"));
}

#[test]
fn the_ledger_is_listed_with_states() {
    let world = World::new();
    let none = world.run(&["token", "list", "--config", "c"]);
    assert_eq!(none.out, "");
    assert!(none.err.contains("usher token create"));

    let ids: Vec<String> = [
        &["org", "--org", "acme", "--name", "ci\u{1b}[2J"][..],
        &["deploy", "--app", "web", "--expiry", "1h"],
        &["readonly", "--org", "beta"],
    ]
    .iter()
    .map(|kind| only_token(&world.create(kind)).uuid().to_string())
    .collect();
    world.output(&["token", "revoke", "--config", "c", &ids[2]]);
    world.now.set(NOW + 3601);
    let expected = format!(
        "\
ID                                    KIND      STATE    ORG   APP  EXPIRES               NAME
{}  org       active   acme  -    2026-11-24T16:00:00Z  ci\\u{{1b}}[2J
{}  deploy    expired  acme  web  2025-11-24T17:00:00Z
{}  readonly  revoked  beta  -    2026-11-24T16:00:00Z
",
        ids[0], ids[1], ids[2]
    );
    assert_eq!(world.output(&["token", "list", "--config", "c"]), expected);

    let json = world.output(&["token", "list", "--config", "c", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["id"], ids[1]);
    assert_eq!(json[1]["state"], "expired");
    assert_eq!(json[1]["app"], "web");
    assert_eq!(json[2]["caveats"][1]["type"], "IsMember");
}

/// The worked example of the format, so that every line below is known in advance.
#[test]
fn inspect_puts_a_token_into_words() {
    let world = World::new();
    let token = "fm2_lJPEAmsxxBAQERITFBUWFxgZGhscHR4fwqNsb2OUAJLNEnEfGgHEIH0CphdvGgPcB/bXXXa1Gn5xd4+ngCCqMWF6+9WxPeK/";
    let shown = world.output(&["token", "inspect", "--token", token]);
    let head = "\
token 1: permission token of loc
  may read everything in organization 4721
  id     0b85b67a-e332-5811-ac50-2ef3899fe852
  key    k1
  valid  without an end
  - Organization 4721: ";
    assert!(shown.starts_with(head), "{shown}");
    assert_eq!(shown.lines().count(), 7, "{shown}");

    let doubled = token.replacen("fm2_", "fm2_fm2_", 1);
    let ran = world.run(&["token", "inspect", "--token", &doubled]);
    assert_eq!(ran.ended.unwrap(), Answer::No);
    assert_eq!(
        ran.out.lines().last().unwrap(),
        "problem with token 1: the prefix fm2_ is there twice; drop one"
    );

    let ran = world.run(&["token", "inspect", "--json", "--token", &doubled]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["usable"], false);
    assert_eq!(json["problems"][0]["code"], "doubled_prefix");
    assert_eq!(json["tokens"][0]["key"], "k1");
    assert_eq!(
        json["tokens"][0]["summary"],
        "may read everything in organization 4721"
    );
    assert_eq!(json["tokens"][0]["not_after"], Value::Null);
}

#[test]
fn inspect_tells_how_long_a_token_is_valid() {
    let world = World::new();
    let header = world.create(&["org", "--org", "acme", "--expiry", "2h"]);
    let validity = |now| {
        world.now.set(now);
        let ran = world.run(&["token", "inspect", "--token", &header]);
        let line = ran.out.lines().find(|l| l.contains("valid  ")).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(
        validity(NOW + 60),
        "valid  until 2025-11-24T18:00:00Z, for 1 h"
    );
    assert_eq!(
        validity(NOW + 7201 + 86_400),
        "valid  until 2025-11-24T18:00:00Z, 1 d ago"
    );
    assert_eq!(
        validity(NOW - 30),
        "valid  from 2025-11-24T16:00:00Z on, in 30 s"
    );
}

#[test]
fn parsed_arguments_do_not_show_tokens() {
    let line = ["usher", "token", "revoke", "--config", "c", "fm2_secret"];
    let cli = Cli::try_parse_from(line).unwrap();
    assert!(!format!("{cli:?}").contains("secret"));
    let line = ["usher", "token", "inspect", "--token", "fm2_secret"];
    let cli = Cli::try_parse_from(line).unwrap();
    assert!(!format!("{cli:?}").contains("secret"));
}

#[test]
fn a_reader_that_stops_reading_is_told_apart() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let world = World::new();
    let mut console = Console {
        stdin: &mut std::io::empty(),
        stdout: &mut Closed,
        stderr: &mut Vec::new(),
        attended: false,
        env: &|_| None,
        now: NOW,
    };
    let line = ["key", "list", "--config", "c"];
    let error = world.dispatch(&line, &mut console).unwrap_err();
    assert!(matches!(
        error,
        CliError::Output(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe
    ));
}

#[test]
fn names_are_imported_from_standard_input_and_listed() {
    let mut world = World::new();
    let import = ["directory", "import", "--config", "c", "-"];
    world.stdin = r#"{ "orgs": [ { "slug": "delta", "id": 18446744073709551615 } ] }"#.to_owned();
    let ran = world.run(&import);
    assert!(ran.ended.is_ok(), "{:?}", ran.ended);
    assert_eq!(ran.out, "added organization delta\n");
    // What an earlier document named can be referred to.
    world.stdin = "apps: [ { name: lift, id: 3004, org: delta, aliases: [ A== ] } ]".to_owned();
    let ran = world.run(&import);
    assert_eq!(ran.out, "added app lift\nadded alias of an app A==\n");
    let listed = world.run(&["directory", "list", "--config", "c", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    let id = u64::MAX;
    assert_eq!(
        listed["orgs"],
        serde_json::json!([ { "slug": "delta", "id": id, "aliases": [] } ])
    );
    assert_eq!(
        listed["apps"],
        serde_json::json!([ { "name": "lift", "id": 3004, "org": "delta", "aliases": ["A=="] } ])
    );
    // Alone in the store, the app would belong to nobody.
    world.stdin = "apps: [ { name: lift, id: 3004, org: delta } ]".to_owned();
    let replace = ["directory", "import", "--replace", "--config", "c", "-"];
    let refused = world.run(&replace).ended.unwrap_err().to_string();
    assert!(
        refused.starts_with("standard input:1:38: the directory has no org `delta`"),
        "{refused}"
    );
    // An organization that gets another id leaves its app behind.
    world.stdin = "orgs: [ { slug: delta, id: 5 } ]".to_owned();
    let refused = world.run(&import).ended.unwrap_err().to_string();
    assert_eq!(
        refused,
        format!("app lift would belong to the organization {id}, which is not there any more")
    );
}

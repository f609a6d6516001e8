//! `usher token create`.

use super::*;
use crate::authority::{Kind, Window};
use crate::macaroon;

#[test]
fn a_created_token_is_printed_alone_and_verifies() {
    let world = World::new();
    let ran = world.run(&["token", "create", "org", "--config", "c", "--org", "acme"]);
    let header = ran.out.strip_suffix('\n').unwrap();
    assert!(header.starts_with("FlyV1 fm2_") && !header.contains('\n'));
    let token = only_token(header);
    assert_eq!(
        token.caveats(),
        [
            Caveat::Organization {
                id: 2001,
                mask: Action::ALL
            },
            Caveat::IsMember,
            Caveat::ValidityWindow {
                not_before: NOW,
                not_after: NOW + 365 * 86_400
            },
        ]
    );
    let summary = ran.err.lines().next().unwrap();
    assert_eq!(
        summary,
        format!(
            "org token {}, valid until 2026-11-24T16:00:00Z (for 1 y)",
            token.uuid()
        )
    );
    assert!(!ran.err.contains("fm2_"), "the summary shows no token");
    let verified = world.output(&[&VERIFY[..], &["--token", header]].concat());
    assert!(verified.starts_with(&format!("{}: usable until", token.uuid())));
}

#[test]
fn each_kind_resolves_its_names() {
    let world = World::new();
    let deploy = only_token(&world.create(&["deploy", "--app", "web", "--expiry", "1h"]));
    assert_eq!(
        deploy.caveats().last(),
        Some(&Caveat::ValidityWindow {
            not_before: NOW,
            not_after: NOW + 3600
        })
    );
    let same = only_token(&world.create(&["deploy", "--app", "web", "--org", "acme"]));
    assert_eq!(same.caveats()[..2], deploy.caveats()[..2]);
    let readonly = only_token(&world.create(&["readonly", "--org", "beta"]));
    assert_eq!(
        readonly.caveats().last(),
        Some(&Caveat::Organization {
            id: 2002,
            mask: Action::READ
        })
    );
}

#[test]
fn create_prints_json() {
    let world = World::new();
    let line = [
        "token", "create", "deploy", "--config", "c", "--app", "web", "--name", "ci",
    ];
    let json: Value =
        serde_json::from_str(&world.output(&[&line[..], &["--json"]].concat())).unwrap();
    let token = only_token(json["token"].as_str().unwrap());
    assert_eq!(json["tokens"][0]["id"], token.uuid().to_string());
    assert_eq!(
        (&json["kind"], &json["name"], &json["org"], &json["app"]),
        (
            &"deploy".into(),
            &"ci".into(),
            &"acme".into(),
            &"web".into()
        )
    );
    assert_eq!(json["expires_at"], NOW + 365 * 86_400);
}

#[test]
fn arguments_that_do_not_fit_the_kind_are_refused() {
    let world = World::new();
    for kind in [
        &["org"][..],
        &["readonly"],
        &["deploy"],
        &["deploy", "--org", "acme"],
        &["org", "--org", "acme", "--app", "web"],
        &["org", "--org", "acme", "--org", "beta"],
        &["deploy", "--app", "web", "--org", "beta"],
        &["org", "--org", "acme", "--expiry", "1"],
        &["auth"],
        &["auth", "--org", "acme", "--org", "acme"],
        &["auth", "--org", "acme", "--app", "web"],
        &["auth", "--org", "acme", "--user", "0"],
        &["ssh"],
        &["ssh", "--app", "web", "--cluster", "primary"],
        &["wireguard", "--org", "acme", "--admin", "acme"],
        &["readonly", "--org", "acme", "--user", "1"],
        &["deploy", "--app", "web", "--command", "ls"],
        &["deploy", "--app", "web", "--command-prefix", "ls"],
        &["litefs-cloud", "--org", "acme"],
        &["litefs-cloud", "--cluster", "primary"],
        &["machine-exec", "--app", "web", "--command", "echo 'a"],
        &["machine-exec", "--app", "web", "--command-prefix", ""],
    ] {
        let line = [&["token", "create", "--config", "c"], kind].concat();
        let error = world.error(&line);
        assert!(matches!(error, CliError::Usage(_)), "{kind:?}: {error}");
    }
    assert_eq!(world.authority.tokens().unwrap(), [], "nothing was made");
    let error = world.error(&["token", "create", "org", "--config", "c", "--org", "acne"]);
    assert_eq!(
        error.to_string(),
        "no organization is called \"acne\"; did you mean acme?"
    );
}

#[test]
fn every_kind_is_made_as_it_is_defined() {
    let world = World::new();
    let exec = "machine-exec --app web --command uptime";
    for (line, caveats) in [
        ("org --org acme", Kind::Org { org: 2001 }),
        ("readonly --org acme", Kind::Readonly { org: 2001 }),
        ("wireguard --org acme", Kind::Wireguard { org: 2001 }),
        (
            "deploy --app web",
            Kind::Deploy {
                org: 2001,
                app: 3001,
            },
        ),
        (
            "ssh --app web --org acme",
            Kind::Ssh {
                org: 2001,
                app: 3001,
            },
        ),
        (exec, machine_exec(&[(&["uptime"], true)])),
        ("machine-exec --app web", machine_exec(&[])),
        (
            "litefs-cloud --org acme --cluster primary",
            litefs("primary"),
        ),
        ("litefs-cloud --org acme --cluster=", litefs("")),
        (
            "auth --org acme --org beta --admin acme",
            Kind::Auth {
                orgs: vec![(2001, true), (2002, false)],
            },
        ),
        (
            "auth --admin beta --org acme",
            Kind::Auth {
                orgs: vec![(2001, false), (2002, true)],
            },
        ),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let bundle = tokens(&world.create(&words));
        let made: Vec<&[Caveat]> = bundle.iter().map(Token::caveats).collect();
        let window = Window {
            not_before: NOW,
            not_after: NOW + 365 * 86_400,
        };
        assert_eq!(made, caveats.caveats(window), "{line}");
    }
}

#[test]
fn commands_are_split_and_ordered() {
    let world = World::new();
    let line = [
        "machine-exec",
        "--app",
        "web",
        "--command-prefix",
        "ls -l",
        "--command",
        "sh -c 'echo \"a b\"'",
        "--command",
        "uptime",
    ];
    let Kind::MachineExec { commands, .. } = machine_exec(&[
        (&["sh", "-c", "echo \"a b\""], true),
        (&["uptime"], true),
        (&["ls", "-l"], false),
    ]) else {
        unreachable!()
    };
    let token = only_token(&world.create(&line));
    assert_eq!(
        token.caveats().last(),
        Some(&Caveat::IfPresent {
            ifs: Some(vec![Caveat::Commands(Some(commands))]),
            otherwise: Action::READ
        })
    );
}

#[test]
fn an_ssh_token_is_two_of_one_lineage() {
    let world = World::new();
    let header = world.create(&["ssh", "--app", "web", "--name", "laptop"]);
    let [read, certify] = &tokens(&header)[..] else {
        panic!("not two tokens");
    };
    assert_eq!(read.uuid(), certify.uuid());
    let ledger = world.authority.tokens().unwrap();
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    assert_eq!((ledger[0].uuid, &*ledger[0].kind), (read.uuid(), "ssh"));
    // Revoking what they have in common is revoking both.
    let verify = |header: &str| {
        let ran = world.run(&[&VERIFY[..], &["--json", "--token", header]].concat());
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        let states = json["tokens"].as_array().unwrap().iter();
        states.map(|t| t["state"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(verify(&header), ["usable", "usable"]);
    world.output(&["token", "revoke", "--config", "c", &read.uuid().to_string()]);
    assert_eq!(verify(&header), ["revoked", "revoked"]);
}

#[test]
fn every_token_of_an_organization_waits_for_the_third_party() {
    let world = World::with_third_parties(&[(AUTH, AUTH_KEY), (OTHER, OTHER_KEY)]);
    let header = world.create(&[
        "auth",
        "--org",
        "acme",
        "--admin",
        "beta",
        "--third-party",
        AUTH,
        "--third-party",
        OTHER,
    ]);
    let tokens = tokens(&header);
    assert_eq!(tokens.len(), 2);
    for token in &tokens {
        let waits = token.caveats().iter().filter_map(Caveat::third_party);
        let waits: Vec<String> = waits.map(|party| party.location.to_string()).collect();
        assert_eq!(waits, [AUTH, OTHER]);
    }
    let ran = world.run(&[&VERIFY[..], &["--token", &header]].concat());
    assert_eq!(ran.ended.unwrap(), Answer::No);
    assert!(ran.out.contains("has not discharged it"), "{}", ran.out);
}

#[test]
fn an_auth_token_of_a_user_comes_discharged() {
    let world = World::with_third_parties(&[(AUTH, AUTH_KEY)]);
    let header = world.create(&[
        "auth", "--org", "beta", "--admin", "acme", "--user", "71", "--expiry", "1h",
    ]);
    let tokens = tokens(&header);
    let roles: Vec<bool> = tokens.iter().map(Token::is_proof).collect();
    assert_eq!(roles, [false, false, true, true], "discharges come last");
    for (permission, discharge) in tokens.iter().zip(&tokens[2..]) {
        let ticket = &permission.caveats().iter().find_map(Caveat::third_party);
        assert_eq!(ticket.unwrap().ticket.as_bytes(), discharge.key_id());
        assert_eq!(discharge.location(), AUTH.as_bytes());
        assert_eq!(
            discharge.caveats(),
            [
                Caveat::ValidityWindow {
                    not_before: NOW,
                    not_after: NOW + 3600
                },
                Caveat::FlyioUserId(71)
            ]
        );
    }
    // Trusted attestations are among the verified caveats.
    let verified = world.output(&[&VERIFY[..], &["--json", "--token", &header]].concat());
    let json: Value = serde_json::from_str(&verified).unwrap();
    for token in json["tokens"].as_array().unwrap() {
        let last = token["caveats"].as_array().unwrap().last().unwrap();
        assert_eq!(last["type"], "FlyioUserID");
        assert_eq!(last["body"], 71);
    }
}

#[test]
fn third_parties_that_are_not_there_are_named() {
    let none = World::new();
    let error = none.error(&[
        "token", "create", "auth", "--config", "c", "--org", "acme", "--user", "1",
    ]);
    assert!(
        error
            .to_string()
            .contains("authority.third_parties has none")
    );
    let world = World::with_third_parties(&[(AUTH, AUTH_KEY), (OTHER, OTHER_KEY)]);
    let line = ["token", "create", "org", "--config", "c", "--org", "acme"];
    let unknown = ["--third-party", "https://nobody.example"];
    let error = world.error(&[&line[..], &unknown].concat()).to_string();
    assert_eq!(
        error,
        format!("authority.third_parties has no https://nobody.example: it has {AUTH}, {OTHER}")
    );
    let twice = ["--third-party", AUTH, "--third-party", AUTH];
    let error = world.error(&[&line[..], &twice].concat()).to_string();
    assert!(
        error.contains("already has a third-party caveat"),
        "{error}"
    );
    let line = ["token", "create", "auth", "--config", "c", "--org", "acme"];
    let error = world.error(&[&line[..], &["--user", "1"]].concat());
    assert!(
        error
            .to_string()
            .contains(&format!("one of {AUTH}, {OTHER}"))
    );
    assert_eq!(world.authority.tokens().unwrap(), [], "nothing was made");
}

fn tokens(header: &str) -> Vec<Token> {
    let bundle = Bundle::parse(header, &Limits::DEFAULT).unwrap();
    assert_eq!(bundle.defects, []);
    bundle.tokens
}

fn litefs(cluster: &str) -> Kind {
    Kind::LitefsCloud {
        org: 2001,
        cluster: cluster.to_owned(),
    }
}

fn machine_exec(commands: &[(&[&str], bool)]) -> Kind {
    let commands = commands.iter().map(|(words, exact)| macaroon::Command {
        args: Some(words.iter().map(|word| (*word).into()).collect()),
        exact: *exact,
    });
    Kind::MachineExec {
        org: 2001,
        app: 3001,
        commands: commands.collect(),
    }
}

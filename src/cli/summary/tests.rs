use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::authority::Kind;
use crate::macaroon::{Action, Command, Resources, Text, caveats_from_json};
use crate::policy::{Access, clear};

const NOW: i64 = 1_764_000_000;

const WINDOW: Window = Window {
    not_before: NOW,
    not_after: NOW + 3600,
};

const UNTIL: &str = ", until 2025-11-24T17:00:00Z";

#[test]
fn each_kind_is_put_into_a_sentence() {
    let command = |words: &[&str], exact| Command {
        args: Some(words.iter().map(|word| (*word).into()).collect()),
        exact,
    };
    let (org, app) = (2001, 3001);
    let reads =
        "read app 3001, feature builder, feature wg and what belongs to no app and no feature";
    let exec = |commands| Kind::MachineExec { org, app, commands };
    let cluster = |cluster: &str| Kind::LitefsCloud {
        org,
        cluster: cluster.to_owned(),
    };
    for (kind, expected) in [
        (
            Kind::Auth {
                orgs: vec![(2001, true), (2002, false)],
            },
            vec![
                "do anything in organization 2001".to_owned(),
                "do anything in organization 2002 as a member".to_owned(),
            ],
        ),
        (
            Kind::Org { org },
            vec!["do anything in organization 2001 as a member".to_owned()],
        ),
        (
            Kind::Readonly { org },
            vec!["read everything in organization 2001 as a member".to_owned()],
        ),
        (
            Kind::Deploy { org, app },
            vec![
                "do anything with app 3001, feature builder and feature wg; \
                 read what belongs to no app and no feature; all in organization 2001"
                    .to_owned(),
            ],
        ),
        (
            exec(vec![
                command(&["uptime"], true),
                command(&["ls", "a b"], false),
            ]),
            vec![format!(
                "{reads}; run `uptime` on any machine of app 3001; \
                 run what begins with `ls 'a b'` on any machine of app 3001; \
                 all in organization 2001"
            )],
        ),
        (
            exec(vec![]),
            vec![format!(
                "{reads}; run any command on any machine of app 3001; all in organization 2001"
            )],
        ),
        (
            cluster("primary"),
            vec!["do anything with LiteFS cluster primary in organization 2001".to_owned()],
        ),
        (
            cluster(""),
            vec!["do anything with every LiteFS cluster in organization 2001".to_owned()],
        ),
        (
            Kind::Ssh { org, app },
            vec![
                format!("{reads} in organization 2001"),
                "call issueCertificate and addWireGuardPeer on app 3001, feature builder and \
                 feature wg in organization 2001"
                    .to_owned(),
            ],
        ),
        (
            Kind::Wireguard { org },
            vec![
                "do anything with feature wg; read what belongs to no app and no feature; \
                 all in organization 2001 as a member"
                    .to_owned(),
            ],
        ),
    ] {
        let made = kind.caveats(WINDOW);
        let sentences: Vec<String> = made
            .iter()
            .map(|caveats| permission(caveats, NOW))
            .collect();
        let expected: Vec<String> = expected
            .iter()
            .map(|text| format!("may {text}{UNTIL}"))
            .collect();
        assert_eq!(sentences, expected, "{}", kind.name());
    }
}

#[track_caller]
fn check(caveats: &[&str], expected: &str) {
    let caveats = caveats_from_json(&format!("[{}]", caveats.join(","))).unwrap();
    assert_eq!(permission(&caveats, NOW), expected);
}

#[test]
fn what_cannot_be_told_in_general_is_told_in_part_or_not_at_all() {
    let org = r#"{"type": "Organization", "body": {"id": 1, "mask": "rwcdC"}}"#;
    let read = r#"{"type": "Organization", "body": {"id": 1, "mask": "r"}}"#;
    let other = r#"{"type": "Organization", "body": {"id": 2, "mask": "r"}}"#;
    let app = r#"{"type": "Apps", "body": {"apps": {"7": "rw"}}}"#;
    let machine = r#"{"type": "Machines", "body": {"machines": {"m1": "rC"}}}"#;
    let uptime = r#"{"type": "Commands", "body": [{"args": ["uptime"], "exact": true}]}"#;
    let stored =
        r#"{"type": "StorageObjects", "body": {"storage_objects": {"a/": "rw", "a/b": "r"}}}"#;
    let unless = |ifs: &str, otherwise: &str| {
        format!(r#"{{"type": "IfPresent", "body": {{"ifs": [{ifs}], "else": "{otherwise}"}}}}"#)
    };
    check(&[], "may do anything in any organization");
    check(&[org, other], NOTHING);
    check(&[org, app], "may read and write app 7 in organization 1");
    check(
        &[org, machine],
        "may read and start and stop machine m1 of any app in organization 1",
    );
    check(
        &[org, app, machine],
        "may read machine m1 of app 7 in organization 1",
    );
    check(
        &[org, &unless(machine, "r")],
        "may read and start and stop machine m1 of any app; read every feature and \
         what belongs to no app and no feature; all in organization 1",
    );
    check(
        &[org, &unless(uptime, "rwcdC")],
        "may do anything except running commands; run `uptime` on any machine of any app; \
         all in organization 1",
    );
    check(
        &[org, stored],
        "may read what is stored under a/ and what is stored under a/b in organization 1",
    );
    check(
        &[read, r#"{"type": "BindToParentToken", "body": "AQID"}"#],
        "may read everything in organization 1; narrowed further by \
         BindToParentToken: 3 bytes of the parent's digest",
    );
}

#[test]
fn time_role_and_origin_stand_behind_the_rest() {
    let read = r#"{"type": "Organization", "body": {"id": 0, "mask": "r"}}"#;
    let window = |from: i64, to: i64| {
        let body = format!(r#"{{"not_before": {from}, "not_after": {to}}}"#);
        format!(r#"{{"type": "ValidityWindow", "body": {body}}}"#)
    };
    let all = "may read everything in any organization";
    check(
        &[read, &window(0, NOW), &window(NOW - 9, NOW + 9)],
        &format!("{all}, until 2025-11-24T16:00:00Z"),
    );
    check(
        &[read, &window(NOW + 1, NOW + 1)],
        &format!("{all}, from 2025-11-24T16:00:01Z, until 2025-11-24T16:00:01Z"),
    );
    check(&[read, &window(2, 1)], NOTHING);
    check(&[read, &window(0, 1), &window(2, 3)], NOTHING);
    // The reference's clock overflows there, and so it is past.
    check(&[read, &window(0, i64::MAX)], NOTHING);
    check(&[read, r#"{"type": "AllowedRoles", "body": 2}"#], NOTHING);
    check(
        &[read, r#"{"type": "AllowedRoles", "body": 3}"#],
        &format!("{all} as a member"),
    );
    check(
        &[read, r#"{"type": "AllowedRoles", "body": 4294967295}"#],
        all,
    );
    let source = r#"{"organization": "o", "app": "", "instance": "m"}"#;
    check(
        &[read, &format!(r#"{{"type": "FlySrc", "body": {source}}}"#)],
        &format!("{all}, from organization o only, from machine m only"),
    );
    let nested = format!(
        r#"{{"type": "IfPresent", "body": {{"ifs": [{}], "else": "r"}}}}"#,
        window(0, NOW)
    );
    check(
        &[read, &nested],
        &format!(
            "{all}; narrowed further by IfPresent: ValidityWindow: from 0 to {NOW} \
             (Unix seconds); else r"
        ),
    );
    check(
        &[read, r#"{"type": "ConfineUser", "body": {"id": 3}}"#],
        "may do nothing: ConfineUser: for user 3 only: the caveat has no place here",
    );
}

#[test]
fn a_sentence_names_some_of_many_and_says_so() {
    let apps: Vec<String> = (1..=100).map(|id| format!(r#""{id}": "r""#)).collect();
    let apps = apps.join(",");
    let apps = format!(r#"{{"type": "Apps", "body": {{"apps": {{{apps}}}}}}}"#);
    check(
        &[&apps],
        "may read app 1, app 2, app 3, app 4, app 5, app 6, app 7 and app 8 \
         in any organization; and more that its caveats list",
    );
}

const NOTHING: &str = "may do nothing that can be told from its caveats";

proptest! {
    /// Whatever a claim is about is permitted.
    #[test]
    fn no_claim_is_more_than_the_caveats_permit(
        caveats in prop::collection::vec(caveat(), 0..5),
        accesses in prop::collection::vec(access(), 64),
    ) {
        let references: Vec<&Caveat> = caveats.iter().collect();
        let (named, stranger) = Named::of(&references);
        let survey = Survey {
            caveats: &references,
            named: &named,
            stranger: &stranger,
            org: 1,
            now: NOW,
        };
        for claim in survey.claims() {
            for access in accesses.iter().map(Owned::access) {
                if claims(&claim, &access) {
                    let cleared = clear(&caveats, &access, NOW);
                    prop_assert!(cleared.is_ok(), "{claim:?} {access:?}: {cleared:?}");
                }
            }
        }
    }
}

/// Whether a claim is about an access.
fn claims(claim: &Claim, access: &Access<'_>) -> bool {
    let Claim {
        verbs,
        objects,
        except,
    } = claim;
    let about = objects.is_empty() || objects.iter().any(|object| is_about(object, access));
    if let Some(names) = verbs.strip_prefix("call ") {
        let names = names.strip_suffix(" on").unwrap();
        return about
            && access.command.is_none()
            && access
                .mutation
                .is_some_and(|m| names.split(" and ").any(|name| name == m));
    }
    if let Some(what) = verbs.strip_prefix("run ") {
        let runs = |command: &[String]| {
            let command = format!("`{}`", command.join(" "));
            let what = what.strip_suffix(" on").unwrap();
            match what.strip_prefix("what begins with ") {
                Some(begin) => command.starts_with(begin.strip_suffix('`').unwrap()),
                None => what == "any command" || what == command,
            }
        };
        return about && access.mutation.is_none() && access.command.is_some_and(runs);
    }
    let letters = [
        ("read", 1),
        ("write", 2),
        ("create", 4),
        ("delete", 8),
        ("start and stop", 16),
    ];
    let bits = match verbs.starts_with("do anything") {
        true => 31,
        false => letters
            .iter()
            .filter(|(word, _)| verbs.contains(word))
            .map(|(_, bit)| bit)
            .sum(),
    };
    let commands = match access.command {
        Some(_) => except.is_empty() && access.action.without(Action::READ) == access.action,
        None => true,
    };
    about && commands && access.action.is_within(Action::from_bits(bits))
}

fn is_about(object: &str, access: &Access<'_>) -> bool {
    let is = |field: Option<&str>, name: &str| field == Some(name);
    if let Some((part, app)) = object.split_once(" of ") {
        return is_about(app, access)
            && match part.rsplit_once(' ').unwrap() {
                ("any", "machine") => access.machine.is_some(),
                ("machine", id) => is(access.machine, id),
                ("volume", id) => is(access.volume, id),
                ("app feature", name) => is(access.app_feature, name),
                ("machine feature", name) => is(access.machine_feature, name),
                other => panic!("{other:?}"),
            };
    }
    match object.rsplit_once(' ').unwrap() {
        ("every" | "any", "app") => access.app.is_some(),
        ("every", "feature") => access.feature.is_some(),
        ("every LiteFS", "cluster") => access.cluster.is_some(),
        ("every stored", "object") => access.storage_object.is_some(),
        ("app", id) => access.app == id.parse().ok(),
        ("feature", name) => is(access.feature, name),
        ("LiteFS cluster", name) => is(access.cluster, name),
        ("what is stored under", prefix) => access
            .storage_object
            .is_some_and(|name| name.starts_with(prefix)),
        ("what belongs to no app and no", "feature") => {
            access.app.is_none() && access.feature.is_none()
        }
        ("what belongs to no app, feature or", "storage") => {
            access.app.is_none() && access.feature.is_none() && access.storage_object.is_none()
        }
        other => panic!("{other:?}"),
    }
}

fn mask() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::ALL), (0_u16..32).prop_map(Action::from_bits)]
}

/// Some of these names, each with a mask.
fn map(names: &'static [&'static str]) -> impl Strategy<Value = Resources<Text>> {
    let entry = (select(names), mask());
    let entries = prop::collection::vec(entry, 0..3);
    entries.prop_map(|entries| {
        Resources::new(entries.into_iter().map(|(name, mask)| (name.into(), mask)))
    })
}

fn caveat() -> impl Strategy<Value = Caveat> {
    let word = select(&["ls", "-l", "rm"][..]);
    let words = prop::collection::vec(word.prop_map(Text::from), 0..3);
    let command = (words, any::<bool>()).prop_map(|(words, exact)| Command {
        args: Some(words),
        exact,
    });
    let app = (select(&[0, 7, 8][..]), mask());
    let leaf = prop_oneof![
        (select(&[0, 1, 2][..]), mask()).prop_map(|(id, mask)| Caveat::Organization { id, mask }),
        prop::collection::vec(app, 0..3).prop_map(|apps| Caveat::Apps(Resources::new(apps))),
        map(&["", "m1", "m2"]).prop_map(Caveat::Machines),
        map(&["", "v1"]).prop_map(Caveat::Volumes),
        map(&["", "wg", "billing", "litefs-cloud", "own"]).prop_map(Caveat::FeatureSet),
        map(&["", "af"]).prop_map(Caveat::AppFeatureSet),
        map(&["", "mf"]).prop_map(Caveat::MachineFeatureSet),
        map(&["", "primary"]).prop_map(Caveat::Clusters),
        map(&["", "a", "a/b", "c"]).prop_map(Caveat::StorageObjects),
        prop::collection::vec(select(&["k1", "k2"][..]).prop_map(Text::from), 0..3)
            .prop_map(|names| Caveat::Mutations(Some(names))),
        prop::collection::vec(command, 0..3).prop_map(|commands| Caveat::Commands(Some(commands))),
        mask().prop_map(Caveat::Action),
        Just(Caveat::IsMember),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        (prop::collection::vec(inner, 0..4), mask()).prop_map(|(ifs, otherwise)| {
            Caveat::IfPresent {
                ifs: Some(ifs),
                otherwise,
            }
        })
    })
}

/// An access that owns its words.
#[derive(Clone, Debug)]
struct Owned {
    access: Access<'static>,
    command: Option<Vec<String>>,
}

impl Owned {
    fn access(&self) -> Access<'_> {
        Access {
            command: self.command.as_deref(),
            ..self.access.clone()
        }
    }
}

fn access() -> impl Strategy<Value = Owned> {
    let on = |access: Access<'static>| Owned {
        access,
        command: None,
    };
    let app = select(&[7, 8, 9][..]);
    let machine = (app.clone(), select(&["m1", "m2", "m3"][..]));
    let machine = machine.prop_map(|(app, machine)| Access {
        app: Some(app),
        machine: Some(machine),
        ..Access::default()
    });
    let words = prop::collection::vec(select(&["ls", "-l", "rm", "x"][..]), 0..4);
    let object = prop_oneof![
        Just(on(Access::default())),
        app.clone().prop_map(move |app| on(Access {
            app: Some(app),
            ..Access::default()
        })),
        machine.clone().prop_map(on),
        (machine.clone(), select(&["mf", "other"][..])).prop_map(move |(machine, feature)| on(
            Access {
                machine_feature: Some(feature),
                ..machine
            }
        )),
        (machine, words).prop_map(|(access, words)| Owned {
            access,
            command: Some(words.into_iter().map(str::to_owned).collect()),
        }),
        (app.clone(), select(&["v1", "v2"][..])).prop_map(move |(app, volume)| on(Access {
            app: Some(app),
            volume: Some(volume),
            ..Access::default()
        })),
        (app, select(&["af", "other"][..])).prop_map(move |(app, feature)| on(Access {
            app: Some(app),
            app_feature: Some(feature),
            ..Access::default()
        })),
        select(&["wg", "billing", "litefs-cloud", "own", "other"][..]).prop_map(move |feature| on(
            Access {
                feature: Some(feature),
                ..Access::default()
            }
        )),
        select(&["primary", "other"][..]).prop_map(move |cluster| on(Access {
            feature: Some("litefs-cloud"),
            cluster: Some(cluster),
            ..Access::default()
        })),
        select(&["a", "a/b", "a/b/c", "a/c", "c", "d"][..]).prop_map(move |object| on(Access {
            storage_object: Some(object),
            ..Access::default()
        })),
    ];
    let mutation = prop::option::weighted(0.3, select(&["k1", "k2", "k3"][..]));
    let action = (1_u16..32).prop_map(Action::from_bits);
    (object, mutation, action).prop_map(|(object, mutation, action)| {
        let access = Access {
            action,
            org: Some(1),
            mutation,
            ..object.access
        };
        assert_eq!(access.validate(), Ok(()));
        Owned { access, ..object }
    })
}

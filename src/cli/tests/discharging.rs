//! `usher token discharge`.

use super::*;
use crate::authority::{AuthorityError, TicketError};
use crate::macaroon::{Ticket, seal};

fn world() -> World {
    World::with_third_parties(&[(AUTH, AUTH_KEY), (OTHER, OTHER_KEY)])
}

/// A ticket as any issuer makes it that shares `key` with the third party.
fn ticket(key: &[u8; 32], caveats: &[Caveat]) -> String {
    let ticket = Ticket {
        key: Zeroizing::new(vec![3; 32]),
        caveats: caveats.to_vec(),
    };
    STANDARD.encode(seal(key, [1; 12], &ticket.encode()).unwrap())
}

fn line<'a>(location: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let line = [
        "token",
        "discharge",
        "--config",
        "c",
        "--location",
        location,
    ];
    [&line[..], more].concat()
}

/// The ticket of the only third-party caveat of a token.
fn ticket_of(token: &Token) -> String {
    let third_party = token.caveats().iter().find_map(Caveat::third_party);
    STANDARD.encode(third_party.unwrap().ticket.as_bytes())
}

#[test]
fn a_discharge_behind_its_token_makes_it_usable() {
    let mut world = world();
    let header = world.create(&["deploy", "--app", "web", "--third-party", AUTH]);
    let ticket = ticket_of(&only_token(&header));
    let verify = |world: &World, header: &str| {
        let line = [&VERIFY[..], &["--token", header]].concat();
        world.run(&line).ended.unwrap()
    };
    assert_eq!(verify(&world, &header), Answer::No);
    let ran = world.run(&line(AUTH, &[&ticket]));
    let discharge = ran.out.trim_end();
    assert!(discharge.starts_with("fm2_") && !discharge.contains('\n'));
    assert!(!ran.err.contains("fm2_") && ran.err.contains("valid until"));
    assert_eq!(
        verify(&world, &format!("{header},{discharge}")),
        Answer::Yes
    );
    world.stdin = format!("{ticket}\n");
    let again = world.output(&line(AUTH, &["-"]));
    let both = format!("{header},{}", again.trim_end());
    assert_eq!(verify(&world, &both), Answer::Yes);
    // It is good for an hour, the token for a year.
    world.now.set(NOW + 3601);
    assert_eq!(verify(&world, &both), Answer::No);
}

#[test]
fn a_discharge_says_who_has_been_identified() {
    let world = world();
    let ticket = ticket(&AUTH_KEY, &[Caveat::ConfineUser(71)]);
    let more = ["--user", "71", "--expiry", "5m", "--json", &ticket];
    let json: Value = serde_json::from_str(&world.output(&line(AUTH, &more))).unwrap();
    let discharge = only_token(json["discharge"].as_str().unwrap());
    assert_eq!(json["id"], discharge.uuid().to_string());
    assert_eq!(json["expires_at"], NOW + 300);
    assert!(discharge.is_proof());
    assert_eq!(
        discharge.caveats(),
        [
            Caveat::ValidityWindow {
                not_before: NOW,
                not_after: NOW + 300
            },
            Caveat::FlyioUserId(71)
        ]
    );
}

#[test]
fn a_ticket_bounds_how_long_its_discharge_lasts() {
    let world = world();
    let bounded = ticket(
        &AUTH_KEY,
        &[Caveat::MaxValidity(600), Caveat::MaxValidity(120)],
    );
    let lasts = |more: &[&str]| {
        let out = world.output(&line(AUTH, &[more, &["--json", &bounded]].concat()));
        let json: Value = serde_json::from_str(&out).unwrap();
        json["expires_at"].as_i64().unwrap() - NOW
    };
    assert_eq!(lasts(&[]), 120, "without --expiry, what the ticket permits");
    assert_eq!(lasts(&["--expiry", "120s"]), 120);
    assert_eq!(lasts(&["--expiry", "1m"]), 60);
    let error = world.error(&line(AUTH, &["--expiry", "121s", &bounded]));
    assert_eq!(told(error), TicketError::TooLong { seconds: 120 });
    let boundless = ticket(&AUTH_KEY, &[Caveat::MaxValidity(u64::MAX)]);
    let line = line(AUTH, &["--expiry", "100y", &boundless]);
    assert!(world.run(&line).ended.is_ok());
}

#[test]
fn each_fault_of_a_ticket_has_its_own_message() {
    let world = world();
    let good = ticket(&AUTH_KEY, &[]);
    let bytes = STANDARD.decode(&good).unwrap();
    let cut = |len: usize| STANDARD.encode(&bytes[..len]);
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let no_ticket = STANDARD.encode(seal(&AUTH_KEY, [1; 12], b"hello").unwrap());
    for (ticket, expected) in [
        (
            ticket(&OTHER_KEY, &[]),
            TicketError::OtherLocation(OTHER.into()),
        ),
        (ticket(&[9; 32], &[]), TicketError::Foreign(AUTH.into())),
        (STANDARD.encode(flipped), TicketError::Foreign(AUTH.into())),
        (cut(bytes.len() - 1), TicketError::Foreign(AUTH.into())),
        (cut(31), TicketError::Cut { bytes: 31 }),
        (String::new(), TicketError::Cut { bytes: 0 }),
        (no_ticket, TicketError::NoTicket),
    ] {
        let error = world.error(&line(AUTH, &[&ticket]));
        assert_eq!(told(error), expected, "{ticket}");
    }
    let unknown = world.error(&line("https://nobody.example", &[&good]));
    assert_eq!(
        unknown.to_string(),
        format!("authority.third_parties has no https://nobody.example: it has {AUTH}, {OTHER}")
    );
    let header = world.create(&["org", "--org", "acme", "--third-party", AUTH]);
    for (text, hint) in [(header.as_str(), "it is a token"), ("dGlja2V", "copy all")] {
        let error = world.error(&line(AUTH, &[text])).to_string();
        assert!(error.contains(hint), "{error}");
        assert!(!error.contains("fm2_") && !error.contains("dGlja2V"));
    }
}

#[test]
fn a_ticket_is_refused_whose_demands_are_not_met() {
    let world = world();
    let caveats = |caveats: &[Caveat]| ticket(&AUTH_KEY, caveats);
    let for_user = caveats(&[Caveat::ConfineUser(71)]);
    let unknown = Caveat::Unregistered {
        kind: 1 << 40,
        body: [1][..].into(),
    };
    let demands = |name: &str| TicketError::Caveat(name.to_owned());
    let nobody: &[&str] = &[];
    for (ticket, user, expected) in [
        (for_user.clone(), nobody, TicketError::NoUser { id: 71 }),
        (
            for_user,
            &["--user", "72"],
            TicketError::OtherUser { id: 71, user: 72 },
        ),
        (
            caveats(&[Caveat::ConfineUser(71), Caveat::ConfineUser(72)]),
            &["--user", "71"],
            TicketError::OtherUser { id: 72, user: 71 },
        ),
        (
            caveats(&[Caveat::MaxValidity(60), Caveat::ConfineOrganization(2001)]),
            &["--user", "71"],
            demands("ConfineOrganization"),
        ),
        (
            caveats(&[Caveat::ConfineGoogleHd("example".into())]),
            &["--user", "71"],
            demands("ConfineGoogleHD"),
        ),
        (
            caveats(&[Caveat::Action(Action::READ)]),
            nobody,
            demands("Action"),
        ),
        (caveats(&[unknown]), nobody, demands("type 1099511627776")),
    ] {
        let line = line(AUTH, &[user, &[&ticket]].concat());
        let error = world.error(&line);
        assert_eq!(told(error), expected);
    }
}

#[track_caller]
fn told(error: CliError) -> TicketError {
    if let CliError::Authority(AuthorityError::Ticket(error)) = error {
        return error;
    }
    panic!("{error:?}")
}

#[test]
fn inspect_says_what_a_token_can_do_with_its_discharges() {
    let world = world();
    let header = world.create(&["readonly", "--org", "acme", "--third-party", AUTH]);
    let inspect = |header: &str| {
        let line = ["token", "inspect", "--json", "--token", header];
        let json: Value = serde_json::from_str(&world.run(&line).out).unwrap();
        let tokens = json["tokens"].as_array().unwrap().iter();
        let summaries = tokens.map(|token| token["summary"].as_str().unwrap().to_owned());
        summaries.collect::<Vec<_>>()
    };
    let reads = "may read everything in organization 2001 as a member";
    assert_eq!(
        inspect(&header),
        [format!(
            "{reads}, until 2026-11-24T16:00:00Z, once {AUTH} has discharged it"
        )]
    );
    let ticket = ticket_of(&only_token(&header));
    let discharge = world.output(&line(AUTH, &["--user", "71", &ticket]));
    let answers = format!("answers for {AUTH}, until 2025-11-24T17:00:00Z");
    assert_eq!(
        inspect(&format!("{header},{}", discharge.trim_end())),
        [
            format!("{reads}, until 2025-11-24T17:00:00Z"),
            format!("{answers}; says FlyioUserID: discharged by user 71")
        ]
    );
    // What a discharge restricts restricts its token.
    let key = {
        let sealed = STANDARD.decode(&ticket).unwrap();
        let plaintext = crate::macaroon::unseal(&AUTH_KEY, &sealed).unwrap();
        SigningKey::new(Ticket::decode(&plaintext, &Limits::DEFAULT).unwrap().key)
    };
    let sealed = STANDARD.decode(&ticket).unwrap();
    let nothing = Caveat::Action(Action::WRITE);
    let narrow = Token::discharge(&sealed, [1; 16], AUTH, &key, &[nothing]).unwrap();
    let mut bundle = Bundle::parse(&header, &Limits::DEFAULT).unwrap();
    bundle.tokens.push(narrow);
    assert_eq!(
        inspect(&bundle.to_header()),
        [
            "may do nothing that can be told from its caveats".to_owned(),
            format!("answers for {AUTH}; narrows the token by Action: w")
        ]
    );
}

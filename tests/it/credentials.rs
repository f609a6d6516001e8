//! What each kind of credential gets, in a table: the request, the status and the stable code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use usher::authority::{Kind, Revocation};
use usher::clock::unix_now;
use usher::macaroon::{Action, Caveat, Limits, Resources, SigningKey, Text, Token, decode_caveats};
use zeroize::Zeroizing;

use crate::support::{Recorder, ThirdParty, Usher, World, header, hour, window};

const ORG: Kind = Kind::Org { org: 2001 };
const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};
const READONLY: Kind = Kind::Readonly { org: 2001 };

const LIST: &str = "GET /v1/apps/web/machines";

/// A third party that usher knows nothing of.
const CUSTOMER: ThirdParty = ThirdParty {
    location: "https://auth.customer.test",
    shared: [7; 32],
};

/// Name, credential, request, status, code.
type Row = (
    &'static str,
    Option<String>,
    &'static str,
    u16,
    &'static str,
);

#[test]
fn credentials_that_are_refused() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let rows = [
        unreadable(),
        unusable(&usher),
        undischarged(&usher),
        prohibited(&usher),
    ];
    for (name, credential, request, status, code) in rows.into_iter().flatten() {
        let answer = usher.ask(request, credential.as_deref());
        upstream.saw_nothing();
        assert_eq!((answer.status, &*answer.code()), (status, code), "{name}");
        assert_eq!(answer.line("www-authenticate").is_some(), status == 401);
    }
}

fn unreadable() -> Vec<Row> {
    let basic = format!("Basic {}", STANDARD.encode("x:fm2_AAAA"));
    vec![
        ("no-token", None, LIST, 401, "token-missing"),
        row401("empty-token", "FlyV1 ", "token-malformed"),
        row401("garbage", "Bearer not-a-token", "token-malformed"),
        row401("garbage-fm2", "FlyV1 fm2_AAAA", "token-malformed"),
        row401("oauth-only", "Bearer fo1_an-oauth-token", "token-malformed"),
        row401("basic-on-api", &basic, "token-malformed"),
        ("registry-challenge", None, "GET /v2/", 401, "token-missing"),
        (
            "unknown-app-no-token",
            None,
            "GET /v1/apps/no-such-app",
            401,
            "token-missing",
        ),
    ]
}

fn unusable(usher: &Usher) -> Vec<Row> {
    let deploy = usher.token(&DEPLOY, hour());
    let ended = |from, to| {
        let mut caveats = DEPLOY.caveats(hour()).remove(0);
        *caveats.last_mut().unwrap() = window(from, to);
        header(&[&usher.issue(&caveats)])
    };
    let stranger = SigningKey::new(Zeroizing::new(vec![1; 32]));
    let unknown = Token::mint(b"nobody", [1; 16], "https://api.fly.io/v1", &stranger, &[]);
    let known_id = Token::mint(
        deploy.key_id(),
        [1; 16],
        "https://api.fly.io/v1",
        &stranger,
        &[],
    );

    let mut flipped = deploy.bytes().to_vec();
    // The id of the organization, 2001, as MessagePack has it.
    let at = flipped.windows(3).position(|w| w == [0xcd, 0x07, 0xd1]);
    flipped[at.unwrap() + 2] ^= 1;
    let read = deploy
        .attenuate(&[Caveat::Action(Action::READ)], &Limits::DEFAULT)
        .unwrap();
    let (content, _) = deploy.bytes().split_last_chunk::<32>().unwrap();
    let (_, tail) = read.bytes().split_last_chunk::<32>().unwrap();
    let cut = [content, tail].concat();

    let revoked = usher.token(&ORG, hour());
    let child = revoked
        .attenuate(
            &[Caveat::Organization {
                id: 2001,
                mask: Action::READ,
            }],
            &Limits::DEFAULT,
        )
        .unwrap();
    let lineage = Revocation::Lineage(revoked.uuid());
    usher.authority.revoke(lineage, unix_now()).unwrap();
    let attested = usher.issue(&[org(2001, Action::ALL), Caveat::FlyioUserId(5)]);

    vec![
        row401(
            "unknown-key",
            &header(&[&unknown.unwrap()]),
            "token-unknown-key",
        ),
        row401(
            "made-up",
            &header(&[&known_id.unwrap()]),
            "token-bad-signature",
        ),
        row401("bit-flip", &encoded(flipped), "token-bad-signature"),
        row401("caveat-removed", &encoded(cut), "token-bad-signature"),
        row401("expired", &ended(-3600, -1), "token-expired"),
        row401("not-yet-valid", &ended(3600, 7200), "token-not-yet-valid"),
        row401("revoked", &header(&[&revoked]), "token-revoked"),
        row401(
            "revoked-parent-attenuated",
            &header(&[&child]),
            "token-revoked",
        ),
        row401(
            "attestation-in-permission",
            &header(&[&attested]),
            "token-bad-discharge",
        ),
    ]
}

fn undischarged(usher: &Usher) -> Vec<Row> {
    let token = CUSTOMER.restrict(&usher.token(&DEPLOY, hour()), 1);
    let expired = CUSTOMER.discharge(1, &[window(-3600, -1)]);
    let other = CUSTOMER.discharge(2, &[]);
    let code = "token-undischarged";
    vec![
        row401("missing-discharge", &header(&[&token]), code),
        row401("expired-discharge", &header(&[&token, &expired]), code),
        row401("discharge-for-other", &header(&[&token, &other]), code),
        row401(
            "discharge-only",
            &header(&[&CUSTOMER.discharge(1, &[])]),
            "token-malformed",
        ),
    ]
}

fn prohibited(usher: &Usher) -> Vec<Row> {
    let deploy = usher.credential(&DEPLOY);
    let org_token = usher.credential(&ORG);
    let restricted = |caveat: Caveat| {
        let token = usher.token(&DEPLOY, hour());
        Some(header(&[&token
            .attenuate(&[caveat], &Limits::DEFAULT)
            .unwrap()]))
    };
    let half = |caveat: Caveat| usher.issue(&[org(2001, Action::ALL), apps(3001), caveat]);
    let split = header(&[
        &half(Caveat::Action(Action::READ)),
        &half(Caveat::Mutations(Some(vec!["issueCertificate".into()]))),
    ]);
    let across = header(&[
        &usher.token(&Kind::Org { org: 2002 }, hour()),
        &usher.token(&READONLY, hour()),
    ]);
    let foreign = header(&[&usher.issue(&[org(2001, Action::ALL), apps(3101)])]);
    let machine = Caveat::FromMachineSource("148e1aaa000001".into());
    // An integer under a number that only the reference's tests register.
    let unknown = STANDARD.decode("ks8AAQAAAAAAAdCF").unwrap();
    let unknown = decode_caveats(&unknown, &Limits::DEFAULT)
        .unwrap()
        .remove(0);
    let stop = "POST /v1/apps/web/machines/148e1aaa000001/stop";
    let other_volume = "DELETE /v1/apps/web/volumes/vol_api1";
    let deploy = || Some(deploy.clone());
    let org_token = || Some(org_token.clone());
    let no = "prohibited";
    vec![
        ("two-split", Some(split), stop, 403, no),
        (
            "two-orgs-cross",
            Some(across),
            "POST /v1/apps/web/machines",
            403,
            no,
        ),
        (
            "app-id-of-other-org",
            Some(foreign),
            "GET /v1/apps/shop",
            403,
            no,
        ),
        (
            "machine-under-wrong-app",
            deploy(),
            "GET /v1/apps/web/machines/148e1bbb000001",
            403,
            no,
        ),
        ("volume-under-wrong-app", deploy(), other_volume, 403, no),
        (
            "machines-caveat-list",
            restricted(machines()),
            LIST,
            403,
            no,
        ),
        ("from-machine", restricted(machine), LIST, 403, no),
        ("unknown-caveat", restricted(unknown), LIST, 403, no),
        (
            "unknown-app",
            org_token(),
            "GET /v1/apps/no-such-app",
            404,
            "unknown-name",
        ),
        (
            "unknown-route",
            org_token(),
            "GET /v1/apps/web/machines/../../api",
            400,
            "ambiguous",
        ),
        (
            "encoded-slash",
            deploy(),
            "GET /v1/apps/web%2F..%2Fapi/machines",
            400,
            "ambiguous",
        ),
        (
            "double-slash",
            deploy(),
            "GET /v1/apps//api/machines",
            400,
            "ambiguous",
        ),
        (
            "unlisted-method",
            org_token(),
            "TRACE /v1/apps/web",
            405,
            "method-not-allowed",
        ),
    ]
}

#[test]
fn a_source_that_the_client_claims_is_dropped() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let token = usher
        .token(&DEPLOY, hour())
        .attenuate(
            &[Caveat::FromMachineSource("148e1aaa000001".into())],
            &Limits::DEFAULT,
        )
        .unwrap();
    let claim = "fly-src: instance=148e1aaa000001;app=web;org=acme\r\n";
    let answer = usher.ask_with(LIST, Some(&header(&[&token])), claim);
    upstream.saw_nothing();
    assert_eq!((answer.status, &*answer.code()), (403, "prohibited"));

    let answer = usher.ask_with(LIST, Some(&usher.credential(&DEPLOY)), claim);
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.last().line("fly-src"), None);
}

#[test]
fn credentials_that_are_accepted() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let deploy = usher.token(&DEPLOY, hour());
    let deploy_api = usher.token(
        &Kind::Deploy {
            org: 2001,
            app: 3002,
        },
        hour(),
    );
    let readonly = usher.token(&READONLY, hour());
    let beta = usher.token(&Kind::Readonly { org: 2002 }, hour());
    let expired = usher.issue(&[org(2001, Action::ALL), window(-3600, -1)]);
    let bare = header(&[&deploy])
        .strip_prefix("FlyV1 ")
        .unwrap()
        .to_owned();
    let discharged = CUSTOMER.restrict(&deploy, 1);
    let one_machine = deploy.attenuate(&[machines()], &Limits::DEFAULT).unwrap();
    let logs = "GET /api/v1/apps/web/logs?next_token=";
    let rows: Vec<(&str, String, String, &Token)> = vec![
        (
            "own-3p-location",
            header(&[&discharged, &CUSTOMER.discharge(1, &[])]),
            LIST.to_owned(),
            &discharged,
        ),
        (
            "two-second-allows",
            header(&[&beta, &deploy]),
            "POST /v1/apps/web/machines".to_owned(),
            &deploy,
        ),
        (
            "two-first-garbage",
            format!("FlyV1 garbage,{bare}"),
            LIST.to_owned(),
            &deploy,
        ),
        (
            "two-first-expired",
            header(&[&expired, &readonly]),
            LIST.to_owned(),
            &readonly,
        ),
        (
            "multi-extra-access-split",
            header(&[&deploy, &deploy_api]),
            "POST /v1/apps/web/volumes?from=api".to_owned(),
            &deploy,
        ),
        (
            "scheme-bearer",
            format!("Bearer {bare}"),
            LIST.to_owned(),
            &deploy,
        ),
        (
            "scheme-double",
            format!("Bearer FlyV1 {bare}"),
            LIST.to_owned(),
            &deploy,
        ),
        ("scheme-none", bare.clone(), logs.to_owned(), &deploy),
        (
            "oauth-mixed",
            format!("FlyV1 {bare},fo1_oauth"),
            LIST.to_owned(),
            &deploy,
        ),
        (
            "machines-caveat-one",
            header(&[&one_machine]),
            format!("{LIST}/148e1aaa000001"),
            &one_machine,
        ),
        (
            "machines-caveat-log",
            header(&[&one_machine]),
            format!("{logs}&instance=148e1aaa000001"),
            &one_machine,
        ),
    ];
    let count = rows.len();
    for (name, credential, request, decisive) in rows {
        let answer = usher.ask(&request, Some(&credential));
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let seen = upstream.last();
        assert_eq!(seen.request_line(), format!("{request} HTTP/1.1"), "{name}");
        let uuid = decisive.uuid().to_string();
        assert_eq!(seen.line("x-usher-token-id"), Some(&*uuid), "{name}");
    }
    assert_eq!(upstream.requests().len(), count);
}

fn row401(name: &'static str, credential: &str, code: &'static str) -> Row {
    (name, Some(credential.to_owned()), LIST, 401, code)
}

fn encoded(bytes: Vec<u8>) -> String {
    format!("FlyV1 fm2_{}", STANDARD.encode(bytes))
}

fn org(id: u64, mask: Action) -> Caveat {
    Caveat::Organization { id, mask }
}

fn apps(id: u64) -> Caveat {
    Caveat::Apps(Resources::new([(id, Action::ALL)]))
}

fn machines() -> Caveat {
    Caveat::Machines(Resources::new([(
        Text::from("148e1aaa000001"),
        Action::ALL,
    )]))
}

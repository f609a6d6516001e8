//! The matrix's rows of single credentials: what is made for each, what it gets, and the stable
//! code or the token that decides.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use usher::authority::{Kind, Revocation, Window};
use usher::clock::unix_now;
use usher::macaroon::{
    Action, Caveat, Command, Limits, Resources, SigningKey, Text, Token, decode_caveats,
};
use zeroize::Zeroizing;

use super::denial;
use super::rows::{CredentialRow, Request, credential_rows};
use crate::support::{Recorder, ThirdParty, Usher, World, distinct, header, hour, report, window};

const ORG: Kind = Kind::Org { org: 2001 };
const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};
const READONLY: Kind = Kind::Readonly { org: 2001 };
const SSH: Kind = Kind::Ssh {
    org: 2001,
    app: 3001,
};

/// A third party that usher knows nothing of.
const CUSTOMER: ThirdParty = ThirdParty {
    location: "https://auth.customer.test",
    shared: distinct(7),
};

/// What is sent for a row.
struct Case {
    credential: Option<String>,
    lines: &'static str,
    ending: Ending,
}

/// How it is answered beyond its status.
enum Ending {
    /// With this stable code.
    Code(&'static str),
    /// By the upstream, on the strength of a token.
    Forwarded(Option<String>),
    /// By the upstream, until the token ends.
    Streams,
}

#[test]
fn every_credential_gets_what_the_matrix_says() {
    let upstream = Recorder::ok();
    let usher = World::fly(upstream.address).start();
    let rows = credential_rows();
    let cases: Vec<_> = rows
        .iter()
        .map(|row| (row, case(&row.id, &usher)))
        .collect();
    let mut agreed = 0;
    // First all that is denied, so that the upstream has seen nothing yet.
    for (row, case) in cases.iter().filter(|(row, _)| row.expect != 200) {
        let answer = request(row).send_raw(&usher, case.credential.as_deref(), case.lines);
        upstream.saw_nothing();
        let Ending::Code(code) = case.ending else {
            panic!("{} is denied", row.id);
        };
        let found = (answer.status, &*denial(&answer).0);
        assert_eq!(found, (row.expect, code), "{}: {}", row.id, answer.text());
        assert_eq!(
            answer.line("www-authenticate").is_some(),
            row.expect == 401,
            "{}",
            row.id
        );
        agreed += 1;
    }
    for (row, case) in cases.iter().filter(|(row, _)| row.expect == 200) {
        match &case.ending {
            Ending::Code(code) => panic!("{} is permitted, not {code}", row.id),
            Ending::Forwarded(uuid) => {
                let request = request(row);
                let seen = upstream.requests().len();
                let answer = request.send_raw(&usher, case.credential.as_deref(), case.lines);
                assert_eq!(answer.status, 200, "{}: {}", row.id, answer.text());
                request.check_forwarded(&upstream, seen);
                let decisive = upstream.last();
                assert_eq!(
                    decisive.line("x-usher-token-id"),
                    uuid.as_deref(),
                    "{}",
                    row.id
                );
            }
            Ending::Streams => stream(row),
        }
        agreed += 1;
    }
    assert_eq!(agreed, rows.len());
    report(format_args!("credential rows {agreed}/{}", rows.len()));
}

/// A stream opens, and goes on until its token expires or is revoked.
fn stream(row: &CredentialRow) {
    let upstream = Recorder::script(|exchange| {
        exchange.request().unwrap();
        exchange.peer.send(format!("{STREAM}3\r\n{{}}\n\r\n"));
        // Until usher leaves.
        exchange.peer.rest();
    });
    let usher = World::fly(upstream.address).start();
    let now = unix_now();
    let left = if row.id == "stream-expiry" { 2 } else { 3600 };
    let window = Window {
        not_before: now - 60,
        not_after: now + left,
    };
    let token = usher.token(&READONLY, window);
    let mut peer = usher.connect();
    peer.send(request(row).bytes(Some(&header(&[&token])), ""));
    let head = peer.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{}: {head}", row.id);
    assert_eq!(peer.exactly(8), b"3\r\n{}\n\r\n", "{}", row.id);
    if row.id == "stream-revoked" {
        let lineage = Revocation::Lineage(token.uuid());
        usher.authority.revoke(lineage, now).unwrap();
    }
    peer.rest();
    let ended = unix_now();
    match row.id.as_str() {
        "stream-expiry" => assert!(ended > window.not_after, "before its time"),
        _ => assert!(ended < window.not_after, "it was not the revocation"),
    }
}

/// The request of a row, on the host of its endpoint.
fn request(row: &CredentialRow) -> Request {
    let (_, target) = row.request.split_once(' ').unwrap();
    let host = match target {
        web if web.starts_with("/graphql") || web.starts_with("/api/") => "api.fly.io",
        registry if registry.starts_with("/v2/") => "registry.fly.io",
        litefs if litefs.starts_with("/pos") => "litefs.fly.io",
        _ => "api.machines.dev",
    };
    let graphql = |body: Value| Request::parse("POST /graphql", host).with_body(body);
    let exec = |body: &str| {
        let target = "POST /v1/apps/web/machines/148e1aaa000001/exec";
        Request::parse(target, host).with_body(body)
    };
    let delete = r#"deleteApp(appId: "web") { organization { id } }"#;
    match row.id.as_str() {
        // Not JSON values, or not in a way that a JSON value can have.
        "exec-dup-key" => exec(r#"{"cmd":"uptime","cmd":"sh"}"#),
        "exec-unbalanced" => exec(r#"{"cmd":"ls -l 'x"}"#),
        "mutation-alias" => graphql(json!({
            "query": format!("mutation {{ issueCertificate: {delete} }}"),
        })),
        "mutation-opname" => graphql(json!({
            "query": format!(
                "mutation A {{ issueCertificate(input: {{ organizationId: \"D307G1NJ1QjP9\", \
                 appNames: [\"web\"] }}) {{ certificate }} }} mutation B {{ {delete} }}"
            ),
            "operationName": "B",
        })),
        "mutation-batch" => {
            let one = json!({ "query": "{ viewer { id } }" });
            graphql(json!([one, one]))
        }
        "mutation-unknown" => graphql(json!({ "query": "mutation { notInSchema { id } }" })),
        _ => Request::parse(&row.request, host),
    }
}

/// The credential of a row.
fn case(id: &str, usher: &Usher) -> Case {
    let deploy = usher.token(&DEPLOY, hour());
    let bare = header(&[&deploy]).trim_start_matches("FlyV1 ").to_owned();
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("x:{password}")));
    let attenuated = |caveat: Caveat| deploy.attenuate(&[caveat], &Limits::DEFAULT).unwrap();
    let one_machine = || {
        attenuated(Caveat::Machines(Resources::new([(
            Text::from("148e1aaa000001"),
            Action::ALL,
        )])))
    };
    let from_machine = || attenuated(Caveat::FromMachineSource("148e1aaa000001".into()));
    match id {
        "no-token" | "registry-challenge" | "unknown-app-no-token" => Case {
            credential: None,
            lines: "",
            ending: Ending::Code("token-missing"),
        },
        "empty-token" => refused("FlyV1 ", "token-malformed"),
        "garbage" => refused("Bearer not-a-token", "token-malformed"),
        "garbage-fm2" => refused("FlyV1 fm2_AAAA", "token-malformed"),
        "oauth-only" => refused("Bearer fo1_an-oauth-token", "token-malformed"),
        "basic-on-api" => refused(&basic(&bare), "token-malformed"),
        "unknown-key" => {
            let stranger = SigningKey::new(Zeroizing::new(vec![1; 32]));
            let caveats = DEPLOY.caveats(hour()).remove(0);
            let location = "https://api.fly.io/v1";
            let token = Token::mint(b"nobody", [1; 16], location, &stranger, &caveats).unwrap();
            refused(&header(&[&token]), "token-unknown-key")
        }
        "bit-flip" => {
            let mut flipped = deploy.bytes().to_vec();
            // The id of the organization, 2001, as MessagePack has it.
            let at = flipped.windows(3).position(|w| w == [0xcd, 0x07, 0xd1]);
            flipped[at.unwrap() + 2] ^= 1;
            refused(&encoded(flipped), "token-bad-signature")
        }
        "caveat-removed" => {
            // What comes before the tail is that of the token without the caveat.
            let read = attenuated(Caveat::Action(Action::READ));
            let (content, _) = deploy.bytes().split_last_chunk::<32>().unwrap();
            let (_, tail) = read.bytes().split_last_chunk::<32>().unwrap();
            refused(&encoded([content, tail].concat()), "token-bad-signature")
        }
        "expired" => refused(&ended(usher, -3600, -1), "token-expired"),
        "not-yet-valid" => refused(&ended(usher, 3600, 7200), "token-not-yet-valid"),
        "revoked" | "revoked-parent-attenuated" => {
            let revoked = usher.token(if id == "revoked" { &DEPLOY } else { &ORG }, hour());
            let lineage = Revocation::Lineage(revoked.uuid());
            usher.authority.revoke(lineage, unix_now()).unwrap();
            let read = [org(2001, Action::READ)];
            let child = revoked.attenuate(&read, &Limits::DEFAULT).unwrap();
            let token = if id == "revoked" { revoked } else { child };
            refused(&header(&[&token]), "token-revoked")
        }
        "missing-discharge" | "own-3p-undischarged" => refused(
            &header(&[&CUSTOMER.restrict(&deploy, 1)]),
            "token-undischarged",
        ),
        "expired-discharge" => {
            let expired = CUSTOMER.discharge(1, &[window(-3600, -1)]);
            refused(
                &header(&[&CUSTOMER.restrict(&deploy, 1), &expired]),
                "token-undischarged",
            )
        }
        "discharge-for-other" => {
            let other = CUSTOMER.discharge(2, &[]);
            refused(
                &header(&[&CUSTOMER.restrict(&deploy, 1), &other]),
                "token-undischarged",
            )
        }
        "own-3p-location" => {
            let token = CUSTOMER.restrict(&deploy, 1);
            forwarded(&header(&[&token, &CUSTOMER.discharge(1, &[])]), &token)
        }
        "attestation-in-permission" => {
            let attested = usher.issue(&[org(2001, Action::ALL), Caveat::FlyioUserId(5)]);
            refused(&header(&[&attested]), "token-bad-discharge")
        }
        "discharge-only" => refused(&header(&[&CUSTOMER.discharge(1, &[])]), "token-malformed"),
        "two-second-allows" => {
            let beta = usher.token(&Kind::Readonly { org: 2002 }, hour());
            forwarded(&header(&[&beta, &deploy]), &deploy)
        }
        "two-first-garbage" => forwarded(&format!("FlyV1 garbage,{bare}"), &deploy),
        "two-first-expired" => {
            let expired = usher.issue(&[org(2001, Action::ALL), window(-3600, -1)]);
            let readonly = usher.token(&READONLY, hour());
            forwarded(&header(&[&expired, &readonly]), &readonly)
        }
        "two-split" => {
            let half = |caveat| usher.issue(&[org(2001, Action::ALL), apps(3001), caveat]);
            let read = half(Caveat::Action(Action::READ));
            let certify = half(Caveat::Mutations(Some(vec!["issueCertificate".into()])));
            refused(&header(&[&read, &certify]), "prohibited")
        }
        "two-orgs-cross" => {
            let beta = usher.token(&Kind::Org { org: 2002 }, hour());
            refused(
                &header(&[&beta, &usher.token(&READONLY, hour())]),
                "prohibited",
            )
        }
        "multi-extra-access-split" => {
            let api = usher.token(
                &Kind::Deploy {
                    org: 2001,
                    app: 3002,
                },
                hour(),
            );
            forwarded(&header(&[&deploy, &api]), &deploy)
        }
        "scheme-bearer" => forwarded(&format!("Bearer {bare}"), &deploy),
        "scheme-double" => forwarded(&format!("Bearer FlyV1 {bare}"), &deploy),
        "scheme-none" => forwarded(&bare, &deploy),
        "basic-registry" => forwarded(&basic(&bare), &deploy),
        "basic-registry-scheme" => forwarded(&basic(&format!("FlyV1 {bare}")), &deploy),
        "oauth-mixed" => forwarded(&format!("FlyV1 {bare},fo1_oauth"), &deploy),
        "app-id-of-other-org" => {
            let foreign = usher.issue(&[org(2001, Action::ALL), apps(3101)]);
            refused(&header(&[&foreign]), "prohibited")
        }
        "machine-under-wrong-app" | "volume-under-wrong-app" => {
            refused(&header(&[&deploy]), "prohibited")
        }
        "unknown-app" => refused(&usher.credential(&ORG), "unknown-name"),
        "unknown-route" | "encoded-slash" | "double-slash" => {
            refused(&header(&[&deploy]), "ambiguous")
        }
        "unlisted-method" => refused(&usher.credential(&ORG), "method-not-allowed"),
        "exec-both-fields" | "exec-dup-key" | "exec-unbalanced" => {
            refused(&exec(usher, &[(&["uptime"], true)]), "body-invalid")
        }
        "exec-any-command" => {
            let token = usher.token(&machine_exec(&[]), hour());
            forwarded(&header(&[&token]), &token)
        }
        "exec-stdin-exact" => refused(&exec(usher, &[(&["sh"], true)]), "prohibited"),
        "exec-start" => refused(&exec(usher, &[(&["uptime"], true)]), "prohibited"),
        "mutation-alias" | "mutation-opname" => refused(&ssh(usher), "prohibited"),
        "mutation-batch" => refused(&ssh(usher), "body-invalid"),
        "mutation-unknown" => refused(&usher.credential(&ORG), "prohibited"),
        "lfsc-implicit-cluster" => {
            let token = usher.token(&litefs(2001), hour());
            forwarded(&header(&[&token]), &token)
        }
        "lfsc-implicit-ambiguous" => refused(&usher.credential(&ORG), "prohibited"),
        "lfsc-wrong-org" => {
            let token = usher.token(&litefs(2002), hour());
            forwarded(&header(&[&token]), &token)
        }
        "machines-caveat-list" => refused(&header(&[&one_machine()]), "prohibited"),
        "machines-caveat-one" | "machines-caveat-log" => {
            let token = one_machine();
            forwarded(&header(&[&token]), &token)
        }
        "from-machine" => refused(&header(&[&from_machine()]), "prohibited"),
        "from-machine-header" => Case {
            lines: "fly-src: instance=148e1aaa000001;app=web;org=acme\r\n",
            ..refused(&header(&[&from_machine()]), "prohibited")
        },
        "unknown-caveat" => {
            // An integer under a number that only the reference's tests register.
            let unknown = STANDARD.decode("ks8AAQAAAAAAAdCF").unwrap();
            let unknown = decode_caveats(&unknown, &Limits::DEFAULT)
                .unwrap()
                .remove(0);
            refused(&header(&[&attenuated(unknown)]), "prohibited")
        }
        "stream-expiry" | "stream-revoked" => Case {
            credential: None,
            lines: "",
            ending: Ending::Streams,
        },
        other => panic!("`{other}` is no row that is known here"),
    }
}

fn refused(credential: &str, code: &'static str) -> Case {
    Case {
        credential: Some(credential.to_owned()),
        lines: "",
        ending: Ending::Code(code),
    }
}

fn forwarded(credential: &str, decisive: &Token) -> Case {
    Case {
        credential: Some(credential.to_owned()),
        lines: "",
        ending: Ending::Forwarded(Some(decisive.uuid().to_string())),
    }
}

/// A deploy token with another window.
fn ended(usher: &Usher, from: i64, to: i64) -> String {
    let mut caveats = DEPLOY.caveats(hour()).remove(0);
    *caveats.last_mut().unwrap() = window(from, to);
    header(&[&usher.issue(&caveats)])
}

fn machine_exec(commands: &[(&[&str], bool)]) -> Kind {
    let commands = commands.iter().map(|(words, exact)| Command {
        args: Some(words.iter().map(|word| (*word).into()).collect()),
        exact: *exact,
    });
    Kind::MachineExec {
        org: 2001,
        app: 3001,
        commands: commands.collect(),
    }
}

fn exec(usher: &Usher, commands: &[(&[&str], bool)]) -> String {
    usher.credential(&machine_exec(commands))
}

/// Both tokens of the kind.
fn ssh(usher: &Usher) -> String {
    let tokens: Vec<_> = SSH
        .caveats(hour())
        .iter()
        .map(|caveats| usher.issue(caveats))
        .collect();
    header(&tokens.iter().collect::<Vec<_>>())
}

fn litefs(org: u64) -> Kind {
    Kind::LitefsCloud {
        org,
        cluster: "primary".to_owned(),
    }
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

/// The head of a log without end.
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\
                      transfer-encoding: chunked\r\n\r\n";

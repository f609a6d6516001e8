//! One token of each kind, and what to try with it.

use serde_json::{Map, Value};

use super::platform::{ACME, BETA, WEB};
use crate::authority::{Authority, AuthorityError, Grant, Kind, Window};
use crate::macaroon::Command;

/// A kind of token in the demo.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) kind: Kind,
    /// The shell variable that the guide puts it in.
    pub(super) variable: &'static str,
    /// What its bearer may do.
    pub(super) may: &'static str,
    /// A request that is forwarded.
    pub(super) permitted: Attempt,
    /// A request that is not.
    pub(super) denied: Attempt,
}

/// A request to try.
#[derive(Debug)]
pub(super) struct Attempt {
    /// In words.
    pub(super) does: &'static str,
    pub(super) method: &'static str,
    pub(super) target: &'static str,
    /// JSON.
    pub(super) body: Option<&'static str>,
}

/// A sample, and the `Authorization` header for it.
#[derive(Debug)]
pub(super) struct SampleToken {
    pub(super) sample: Sample,
    pub(super) header: String,
}

/// Makes all samples, valid from `now` on for a day.
pub(super) fn issue(authority: &Authority, now: i64) -> Result<Vec<SampleToken>, AuthorityError> {
    let window = Window {
        not_before: now,
        not_after: now.saturating_add(A_DAY),
    };
    let issue = |sample: Sample| {
        let grant = Grant {
            kind: &sample.kind,
            window,
            name: Some("usher demo"),
            issuer: None,
            third_parties: &[],
            user: None,
        };
        let header = authority.grant(&grant, now)?.to_header();
        Ok(SampleToken { sample, header })
    };
    samples().into_iter().map(issue).collect()
}

/// The header values by kind, for scripts.
pub(super) fn to_json(tokens: &[SampleToken]) -> String {
    let by_kind = tokens.iter().map(|token| {
        let header = Value::from(token.header.as_str());
        (token.sample.kind.name().to_owned(), header)
    });
    format!("{:#}\n", Value::Object(by_kind.collect::<Map<_, _>>()))
}

const A_DAY: i64 = 24 * 60 * 60;

/// One of every kind, with the caveats that the API's acceptance matrix has for it.
fn samples() -> [Sample; 8] {
    let command = |words: &[&str], exact| Command {
        args: Some(words.iter().map(|word| (*word).into()).collect()),
        exact,
    };
    [
        Sample {
            kind: Kind::Auth {
                orgs: vec![(ACME, true), (BETA, false)],
            },
            variable: "AUTH",
            may: "do what its user may: everything in acme, in beta what a member may",
            permitted: Attempt {
                does: "list the machines of all of beta's apps",
                method: "GET",
                target: "/v1/orgs/beta/machines",
                body: None,
            },
            denied: Attempt {
                does: "look at an app of an organization that the user is not in",
                method: "GET",
                target: "/v1/apps/vault",
                body: None,
            },
        },
        Sample {
            kind: Kind::Org { org: ACME },
            variable: "ORG",
            may: "do all that a member of the organization acme may",
            permitted: Attempt {
                does: "list the machines of all of acme's apps",
                method: "GET",
                target: "/v1/orgs/acme/machines",
                body: None,
            },
            denied: Attempt {
                does: "look at an app of another organization",
                method: "GET",
                target: "/v1/apps/shop",
                body: None,
            },
        },
        Sample {
            kind: Kind::Deploy {
                org: ACME,
                app: WEB,
            },
            variable: "DEPLOY",
            may: "do everything to the app web, and nothing to any other app",
            permitted: Attempt {
                does: "restart a machine of web",
                method: "POST",
                target: "/v1/apps/web/machines/148e1aaa000001/restart",
                body: None,
            },
            denied: Attempt {
                does: "look at another app of acme",
                method: "GET",
                target: "/v1/apps/api",
                body: None,
            },
        },
        Sample {
            kind: Kind::Readonly { org: ACME },
            variable: "READONLY",
            may: "read everything in acme, and change nothing",
            permitted: Attempt {
                does: "read the log of the app api",
                method: "GET",
                target: "/api/v1/apps/api/logs?next_token=",
                body: None,
            },
            denied: Attempt {
                does: "stop a machine of web",
                method: "POST",
                target: "/v1/apps/web/machines/148e1aaa000001/stop",
                body: None,
            },
        },
        Sample {
            kind: Kind::MachineExec {
                org: ACME,
                app: WEB,
                commands: vec![command(&["uptime"], true), command(&["ls", "-l"], false)],
            },
            variable: "MACHINE_EXEC",
            may: "run `uptime`, and `ls -l` with further words, on web's machines, and read web",
            permitted: Attempt {
                does: "run `ls -l /tmp` on a machine of web",
                method: "POST",
                target: "/v1/apps/web/machines/148e1aaa000001/exec",
                body: Some(r#"{"cmd":"ls -l /tmp"}"#),
            },
            denied: Attempt {
                does: "run another command there",
                method: "POST",
                target: "/v1/apps/web/machines/148e1aaa000001/exec",
                body: Some(r#"{"cmd":"sh -c id"}"#),
            },
        },
        Sample {
            kind: Kind::LitefsCloud {
                org: ACME,
                cluster: "primary".to_owned(),
            },
            variable: "LITEFS_CLOUD",
            may: "use acme's LiteFS cluster primary, and nothing else",
            permitted: Attempt {
                does: "ask where the databases of the cluster primary are",
                method: "GET",
                target: "/pos?cluster=primary",
                body: None,
            },
            denied: Attempt {
                does: "look at an app of acme",
                method: "GET",
                target: "/v1/apps/web",
                body: None,
            },
        },
        Sample {
            kind: Kind::Ssh {
                org: ACME,
                app: WEB,
            },
            variable: "SSH",
            may: "open a shell on web's machines, and read web",
            permitted: Attempt {
                does: "have a certificate issued for the machines of web",
                method: "POST",
                target: "/graphql",
                body: Some(
                    r#"{"query":"mutation($input: IssueCertificateInput!) { issueCertificate(input: $input) { certificate } }","variables":{"input":{"organizationId":"D307G1NJ1QjP9","appNames":["web"]}}}"#,
                ),
            },
            denied: Attempt {
                does: "restart a machine of web",
                method: "POST",
                target: "/v1/apps/web/machines/148e1aaa000001/restart",
                body: None,
            },
        },
        Sample {
            kind: Kind::Wireguard { org: ACME },
            variable: "WIREGUARD",
            may: "manage acme's WireGuard peers, and see no app",
            permitted: Attempt {
                does: "add a peer to the network of acme",
                method: "POST",
                target: "/graphql",
                body: Some(
                    r#"{"query":"mutation($input: AddWireGuardPeerInput!) { addWireGuardPeer(input: $input) { peerip } }","variables":{"input":{"organizationId":"D307G1NJ1QjP9","name":"laptop"}}}"#,
                ),
            },
            denied: Attempt {
                does: "look at an app of acme",
                method: "GET",
                target: "/v1/apps/web",
                body: None,
            },
        },
    ]
}

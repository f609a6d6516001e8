//! One token of each kind, and what to try with it.

use serde_json::{Map, Value};

use super::platform::{ACME, WEB};
use crate::authority::{Authority, AuthorityError, Kind, Request, Window};
use crate::macaroon::Bundle;

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
}

/// A sample, and the `Authorization` header for it.
#[derive(Debug)]
pub(super) struct SampleToken {
    pub(super) sample: &'static Sample,
    pub(super) header: String,
}

/// Makes all samples, valid from `now` on for a day.
pub(super) fn issue(authority: &Authority, now: i64) -> Result<Vec<SampleToken>, AuthorityError> {
    let window = Window {
        not_before: now,
        not_after: now.saturating_add(A_DAY),
    };
    SAMPLES
        .iter()
        .map(|sample| {
            let mut bundle = Bundle::default();
            for caveats in sample.kind.caveats(window) {
                let request = Request {
                    kind: sample.kind.name(),
                    name: Some("usher demo"),
                    org: Some(ACME),
                    app: match sample.kind {
                        Kind::Deploy { app, .. }
                        | Kind::MachineExec { app, .. }
                        | Kind::Ssh { app, .. } => Some(app),
                        Kind::Auth { .. }
                        | Kind::Org { .. }
                        | Kind::Readonly { .. }
                        | Kind::LitefsCloud { .. }
                        | Kind::Wireguard { .. } => None,
                    },
                    caveats: &caveats,
                    issuer: None,
                };
                bundle.tokens.push(authority.issue(&request, now)?);
            }
            Ok(SampleToken {
                sample,
                header: bundle.to_header(),
            })
        })
        .collect()
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

static SAMPLES: [Sample; 3] = [
    Sample {
        kind: Kind::Org { org: ACME },
        variable: "ORG",
        may: "do all that a member of the organization acme may",
        permitted: Attempt {
            does: "list the machines of all of acme's apps",
            method: "GET",
            target: "/v1/orgs/acme/machines",
        },
        denied: Attempt {
            does: "look at an app of another organization",
            method: "GET",
            target: "/v1/apps/shop",
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
        },
        denied: Attempt {
            does: "look at another app of acme",
            method: "GET",
            target: "/v1/apps/api",
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
        },
        denied: Attempt {
            does: "stop a machine of web",
            method: "POST",
            target: "/v1/apps/web/machines/148e1aaa000001/stop",
        },
    },
];

//! What each kind of token may do, as caveats.
//!
//! The issuer's own part is that of Fly.io's token profiles as far as they are public; what a
//! client appends to it is what `flyctl` appends. A kind is one or more permission tokens, which
//! travel in one header; those that differ only in what is appended share their nonce.

use crate::macaroon::{Action, Caveat, Command, Resources, Text};

/// A kind of token, with the objects it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user's session: one token for each of their organizations.
    Auth {
        /// Organization id, and whether the user is its admin.
        orgs: Vec<(u64, bool)>,
    },
    /// Everything in one organization that a member may do.
    Org {
        /// Organization id.
        org: u64,
    },
    /// Deploys one app: everything on it, and its organization's builder and `WireGuard` peers.
    Deploy {
        /// Organization id.
        org: u64,
        /// App id.
        app: u64,
    },
    /// Reads what a member of one organization may read.
    Readonly {
        /// Organization id.
        org: u64,
    },
    /// Runs commands on the machines of one app, and reads the app.
    MachineExec {
        /// Organization id.
        org: u64,
        /// App id.
        app: u64,
        /// Permitted commands; none at all means any command.
        commands: Vec<Command>,
    },
    /// One `LiteFS` Cloud cluster.
    LitefsCloud {
        /// Organization id.
        org: u64,
        /// Name of the cluster; the empty name means all of them.
        cluster: String,
    },
    /// SSH into the machines of one app: one token that reads, one that has certificates issued.
    Ssh {
        /// Organization id.
        org: u64,
        /// App id.
        app: u64,
    },
    /// Manages the `WireGuard` peers of one organization.
    Wireguard {
        /// Organization id.
        org: u64,
    },
}

/// When a token may be used, in Unix seconds, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl Window {
    /// No bound at either end.
    pub const ALWAYS: Self = Self {
        not_before: i64::MIN,
        not_after: i64::MAX,
    };

    /// When every window among the caveats is open; [`ALWAYS`](Self::ALWAYS) if there is none.
    pub fn of<'a>(caveats: impl IntoIterator<Item = &'a Caveat>) -> Self {
        caveats.into_iter().fold(Self::ALWAYS, |open, caveat| {
            if let Caveat::ValidityWindow {
                not_before,
                not_after,
            } = caveat
            {
                Self {
                    not_before: open.not_before.max(*not_before),
                    not_after: open.not_after.min(*not_after),
                }
            } else {
                open
            }
        })
    }

    /// The last second, if there is one.
    pub fn end(&self) -> Option<i64> {
        (self.not_after < i64::MAX).then_some(self.not_after)
    }
}

impl Kind {
    /// The word for it on the command line and in the ledger.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Auth { .. } => "auth",
            Self::Org { .. } => "org",
            Self::Deploy { .. } => "deploy",
            Self::Readonly { .. } => "readonly",
            Self::MachineExec { .. } => "machine-exec",
            Self::LitefsCloud { .. } => "litefs-cloud",
            Self::Ssh { .. } => "ssh",
            Self::Wireguard { .. } => "wireguard",
        }
    }

    /// What its tokens are made of. Every one has exactly one window, at the end of the issuer's
    /// own part.
    pub fn plans(&self, window: Window) -> Vec<Plan> {
        match self {
            Self::Auth { orgs } => orgs
                .iter()
                .map(|(org, admin)| match admin {
                    true => Plan::new(window, *org, None, vec![organization(*org, Action::ALL)]),
                    false => of_member(window, *org),
                })
                .collect(),
            Self::Org { org } => vec![of_member(window, *org)],
            Self::Deploy { org, app } => vec![of_app(window, *org, *app)],
            Self::Readonly { org } => {
                let read = organization(*org, Action::READ);
                vec![of_member(window, *org).narrowed([vec![read]])]
            }
            Self::MachineExec { org, app, commands } => {
                vec![of_app(window, *org, *app).narrowed([vec![running(commands)]])]
            }
            Self::LitefsCloud { org, cluster } => {
                let cluster = Text::from(cluster.as_str());
                let own = vec![
                    organization(*org, Action::ALL),
                    features(&["litefs-cloud"]),
                    Caveat::Clusters(Resources::new([(cluster, Action::ALL)])),
                ];
                vec![Plan::new(window, *org, None, own)]
            }
            Self::Ssh { org, app } => {
                let names = ["issueCertificate", "addWireGuardPeer"].map(Text::from);
                let read = vec![Caveat::Action(Action::READ)];
                let certify = vec![Caveat::Mutations(Some(names.into()))];
                vec![of_app(window, *org, *app).narrowed([read, certify])]
            }
            Self::Wireguard { org } => {
                let peers = if_present(vec![
                    // No app at all: naming any refuses, even to read it.
                    Caveat::Apps(Resources::new([])),
                    features(&["wg"]),
                ]);
                vec![of_member(window, *org).narrowed([vec![peers]])]
            }
        }
    }

    /// The caveats of each of its permission tokens.
    pub fn caveats(&self, window: Window) -> Vec<Vec<Caveat>> {
        let plans = self.plans(window).into_iter();
        plans.flat_map(|plan| plan.caveats()).collect()
    }
}

/// What one nonce is made into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Organization id.
    pub org: u64,
    /// App id, where it is for one app.
    pub app: Option<u64>,
    /// The issuer's own part. Third-party caveats follow it.
    pub issued: Vec<Caveat>,
    /// What a client would append. There is one token for each; an empty list leaves the token as
    /// it was issued.
    pub appended: Vec<Vec<Caveat>>,
}

impl Plan {
    fn new(window: Window, org: u64, app: Option<u64>, mut issued: Vec<Caveat>) -> Self {
        issued.push(Caveat::ValidityWindow {
            not_before: window.not_before,
            not_after: window.not_after,
        });
        Self {
            org,
            app,
            issued,
            appended: vec![vec![]],
        }
    }

    fn narrowed(self, appended: impl Into<Vec<Vec<Caveat>>>) -> Self {
        Self {
            appended: appended.into(),
            ..self
        }
    }

    fn caveats(&self) -> Vec<Vec<Caveat>> {
        let token = |appended: &Vec<Caveat>| [self.issued.as_slice(), appended].concat();
        self.appended.iter().map(token).collect()
    }
}

/// The profile of organization tokens.
fn of_member(window: Window, org: u64) -> Plan {
    let own = vec![organization(org, Action::ALL), Caveat::IsMember];
    Plan::new(window, org, None, own)
}

/// The profile of deploy tokens.
fn of_app(window: Window, org: u64, app: u64) -> Plan {
    let own = vec![
        organization(org, Action::ALL),
        if_present(vec![
            Caveat::Apps(Resources::new([(app, Action::ALL)])),
            features(&["wg", "builder"]),
        ]),
    ];
    Plan::new(window, org, Some(app), own)
}

fn running(commands: &[Command]) -> Caveat {
    let any = || {
        vec![Command {
            args: Some(vec![]),
            exact: false,
        }]
    };
    let commands = match commands {
        [] => any(),
        some => some.to_vec(),
    };
    if_present(vec![Caveat::Commands(Some(commands))])
}

fn organization(id: u64, mask: Action) -> Caveat {
    Caveat::Organization { id, mask }
}

fn features(names: &[&str]) -> Caveat {
    let all = |name: &&str| (Text::from(*name), Action::ALL);
    Caveat::FeatureSet(Resources::new(names.iter().map(all)))
}

fn if_present(ifs: Vec<Caveat>) -> Caveat {
    Caveat::IfPresent {
        ifs: Some(ifs),
        otherwise: Action::READ,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::macaroon::{Limits, SigningKey, Token, caveats_from_json};
    use zeroize::Zeroizing;

    const ACME: u64 = 2001;
    const WEB: u64 = 3001;
    const WINDOW: Window = Window {
        not_before: 100,
        not_after: 200,
    };

    const ALL: &str = r#"{"type":"Organization","body":{"id":2001,"mask":"rwcdC"}}"#;
    const MEMBER: &str = r#"{"type":"IsMember","body":{}}"#;
    const OF_WEB: &str = r#"{"type":"IfPresent","body":{"ifs":[
        {"type":"Apps","body":{"apps":{"3001":"rwcdC"}}},
        {"type":"FeatureSet","body":{"features":{"wg":"rwcdC","builder":"rwcdC"}}}],"else":"r"}}"#;

    /// Compares with the caveats that the API surface's acceptance matrix lists for the kind. The
    /// matrix leaves out the windows, so they are looked at separately.
    #[track_caller]
    fn check(kind: &Kind, expected: &[&[&str]]) {
        let expected: Vec<Vec<Caveat>> = expected
            .iter()
            .map(|token| caveats_from_json(&format!("[{}]", token.join(","))).unwrap())
            .collect();
        let mut made = kind.caveats(WINDOW);
        for token in &mut made {
            let before = token.len();
            token.retain(|caveat| {
                *caveat
                    != Caveat::ValidityWindow {
                        not_before: 100,
                        not_after: 200,
                    }
            });
            assert_eq!(token.len(), before - 1, "one window in each token");
        }
        assert_eq!(made, expected, "{}", kind.name());
    }

    #[test]
    fn auth_is_one_token_for_each_organization() {
        let orgs = vec![(ACME, true), (2002, false)];
        let beta = r#"{"type":"Organization","body":{"id":2002,"mask":"rwcdC"}}"#;
        check(&Kind::Auth { orgs }, &[&[ALL], &[beta, MEMBER]]);
    }

    #[test]
    fn org_is_a_member_of_one_organization() {
        check(&Kind::Org { org: ACME }, &[&[ALL, MEMBER]]);
    }

    #[test]
    fn deploy_is_one_app_with_builder_and_wireguard() {
        let kind = Kind::Deploy {
            org: ACME,
            app: WEB,
        };
        check(&kind, &[&[ALL, OF_WEB]]);
    }

    #[test]
    fn readonly_narrows_an_org_token_to_reading() {
        let read = r#"{"type":"Organization","body":{"id":2001,"mask":"r"}}"#;
        check(&Kind::Readonly { org: ACME }, &[&[ALL, MEMBER, read]]);
    }

    #[test]
    fn machine_exec_is_a_deploy_token_for_commands() {
        let words = |words: &[&str]| Some(words.iter().copied().map(Text::from).collect());
        let exec = |commands| Kind::MachineExec {
            org: ACME,
            app: WEB,
            commands,
        };
        let listed = vec![
            Command {
                args: words(&["uptime"]),
                exact: true,
            },
            Command {
                args: words(&["ls", "-l"]),
                exact: false,
            },
        ];
        let expected = r#"{"type":"IfPresent","body":{"ifs":[{"type":"Commands","body":[
            {"args":["uptime"],"exact":true},{"args":["ls","-l"]}]}],"else":"r"}}"#;
        check(&exec(listed), &[&[ALL, OF_WEB, expected]]);
        let any = r#"{"type":"IfPresent","body":{"ifs":[{"type":"Commands","body":[
            {"args":[]}]}],"else":"r"}}"#;
        check(&exec(vec![]), &[&[ALL, OF_WEB, any]]);
    }

    #[test]
    fn litefs_cloud_is_one_cluster() {
        let kind = Kind::LitefsCloud {
            org: ACME,
            cluster: "primary".to_owned(),
        };
        let feature = r#"{"type":"FeatureSet","body":{"features":{"litefs-cloud":"rwcdC"}}}"#;
        let cluster = r#"{"type":"Clusters","body":{"clusters":{"primary":"rwcdC"}}}"#;
        check(&kind, &[&[ALL, feature, cluster]]);
    }

    #[test]
    fn ssh_is_a_reading_and_a_certifying_token() {
        let kind = Kind::Ssh {
            org: ACME,
            app: WEB,
        };
        let read = r#"{"type":"Action","body":"r"}"#;
        let mutations =
            r#"{"type":"Mutations","body":{"mutations":["issueCertificate","addWireGuardPeer"]}}"#;
        check(&kind, &[&[ALL, OF_WEB, read], &[ALL, OF_WEB, mutations]]);
    }

    #[test]
    fn wireguard_names_no_app() {
        let peers = r#"{"type":"IfPresent","body":{"ifs":[
            {"type":"Apps","body":{"apps":{}}},
            {"type":"FeatureSet","body":{"features":{"wg":"rwcdC"}}}],"else":"r"}}"#;
        check(&Kind::Wireguard { org: ACME }, &[&[ALL, MEMBER, peers]]);
    }

    #[test]
    fn the_window_of_several_is_where_all_are_open() {
        let window = |not_before, not_after| Caveat::ValidityWindow {
            not_before,
            not_after,
        };
        let open = Window::of(&[window(1, 90), Caveat::IsMember, window(5, 100)]);
        assert_eq!((open.not_before, open.end()), (5, Some(90)));
        assert_eq!(Window::of(&[Caveat::IsMember]).end(), None);
    }

    /// A client that attenuates an org token makes exactly the token that is minted here.
    #[test]
    fn what_follows_the_window_could_have_been_appended_by_the_bearer() {
        let key = SigningKey::new(Zeroizing::new(vec![7; 32]));
        let mint = |caveats: &[Caveat]| Token::mint(b"k", [1; 16], "l", &key, caveats).unwrap();
        let org = Kind::Org { org: ACME }.caveats(WINDOW).remove(0);
        let readonly = Kind::Readonly { org: ACME }.caveats(WINDOW).remove(0);
        let read = organization(ACME, Action::READ);
        assert_eq!(
            mint(&org).attenuate(&[read], &Limits::DEFAULT).unwrap(),
            mint(&readonly)
        );
    }
}

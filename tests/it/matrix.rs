//! Three kinds of token on the whole surface: what each may do, and which caveat says no.

use usher::authority::Kind;

use crate::support::{Recorder, World};

use Verdict::*;

/// What one kind of token gets for one request.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// Forwarded.
    Pass,
    /// The organization of the object is not the token's.
    OtherOrg,
    /// The app is not the one that the token is for.
    OtherApp,
    /// Only reading is permitted; these actions are not.
    Masked(&'static str),
    /// The request names neither app nor feature, and these actions are not permitted then.
    Otherwise(&'static str),
}

/// Request, and what the kinds org, deploy (of web) and readonly, all of acme, get for it.
const REQUESTS: &[(&str, [Verdict; 3])] = &[
    ("GET /v1/apps/web", [Pass, Pass, Pass]),
    ("GET /v1/apps/api", [Pass, OtherApp, Pass]),
    ("GET /v1/apps/shop", [OtherOrg, OtherOrg, OtherOrg]),
    ("GET /v1/apps/vault", [OtherOrg, OtherOrg, OtherOrg]),
    ("GET /v1/apps?org_slug=acme", [Pass, OtherApp, Pass]),
    (
        "GET /v1/apps?org_slug=gamma",
        [OtherOrg, OtherOrg, OtherOrg],
    ),
    ("DELETE /v1/apps/web", [Pass, Pass, Masked("d")]),
    ("DELETE /v1/apps/api", [Pass, OtherApp, Masked("d")]),
    (
        "POST /v1/apps/web/deploy_token",
        [Pass, Otherwise("wcdC"), Masked("wcdC")],
    ),
    ("GET /v1/apps/web/machines", [Pass, Pass, Pass]),
    (
        "GET /v1/apps/web/machines/148e1aaa000001",
        [Pass, Pass, Pass],
    ),
    (
        "GET /v1/apps/api/machines/148e1bbb000001",
        [Pass, OtherApp, Pass],
    ),
    ("POST /v1/apps/web/machines", [Pass, Pass, Masked("c")]),
    (
        "POST /v1/apps/web/machines/148e1aaa000001",
        [Pass, Pass, Masked("w")],
    ),
    (
        "POST /v1/apps/web/machines/148e1aaa000001/start",
        [Pass, Pass, Masked("C")],
    ),
    (
        "POST /v1/apps/web/machines/148e1aaa000001/stop",
        [Pass, Pass, Masked("C")],
    ),
    (
        "DELETE /v1/apps/web/machines/148e1aaa000001?kill=true",
        [Pass, Pass, Masked("d")],
    ),
    (
        "GET /v1/apps/web/machines/148e1aaa000001/wait?state=started&timeout=60",
        [Pass, Pass, Pass],
    ),
    (
        "POST /v1/apps/web/machines/148e1aaa000001/lease?ttl=13",
        [Pass, Pass, Masked("C")],
    ),
    (
        "POST /v1/apps/web/machines/148e1aaa000001/metadata/k",
        [Pass, Pass, Masked("w")],
    ),
    ("GET /v1/apps/web/volumes", [Pass, Pass, Pass]),
    ("POST /v1/apps/web/volumes", [Pass, Pass, Masked("c")]),
    (
        "PUT /v1/apps/web/volumes/vol_web1/extend",
        [Pass, Pass, Masked("w")],
    ),
    (
        "DELETE /v1/apps/web/volumes/vol_web1",
        [Pass, Pass, Masked("d")],
    ),
    ("GET /v1/apps/web/secrets", [Pass, Pass, Pass]),
    (
        "POST /v1/apps/web/secrets/DB_URL",
        [Pass, Pass, Masked("w")],
    ),
    ("GET /v1/apps/web/certificates", [Pass, Pass, Pass]),
    ("GET /v1/apps/web/ip_assignments", [Pass, Pass, Pass]),
    ("GET /v1/orgs/acme/machines", [Pass, OtherApp, Pass]),
    ("GET /v1/platform/regions", [Pass, Pass, Pass]),
    ("GET /api/v1/apps/web/logs?next_token=", [Pass, Pass, Pass]),
    (
        "GET /api/v1/apps/web/logs?next_token=&instance=148e1aaa000001",
        [Pass, Pass, Pass],
    ),
    (
        "GET /api/v1/apps/api/logs?next_token=",
        [Pass, OtherApp, Pass],
    ),
];

const KINDS: [Kind; 3] = [
    Kind::Org { org: 2001 },
    Kind::Deploy {
        org: 2001,
        app: 3001,
    },
    Kind::Readonly { org: 2001 },
];

#[test]
fn what_a_token_does_not_permit_is_refused_with_the_caveat_that_decides() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let tokens = KINDS.map(|kind| usher.credential(&kind));
    for (request, verdicts) in REQUESTS {
        for ((token, kind), verdict) in tokens.iter().zip(&KINDS).zip(verdicts) {
            let Some(expected) = detail(*verdict) else {
                continue;
            };
            let answer = usher.ask(request, Some(token));
            upstream.saw_nothing();
            let case = format!("{request} with {}", kind.name());
            assert_eq!(answer.status, 403, "{case}");
            assert_eq!(answer.code(), "prohibited", "{case}");
            let detail = answer.detail();
            assert!(
                detail.contains(&expected),
                "{case}: {detail}, not {expected}"
            );
        }
    }
}

#[test]
fn what_a_token_permits_is_forwarded_as_it_came() {
    let upstream = Recorder::ok();
    let usher = World::before(upstream.address).start();
    let tokens = KINDS.map(|kind| usher.credential(&kind));
    let mut permitted = 0;
    for (request, verdicts) in REQUESTS {
        for (token, verdict) in tokens.iter().zip(verdicts) {
            if detail(*verdict).is_none() {
                let answer = usher.ask(request, Some(token));
                assert_eq!(answer.status, 200, "{request}: {}", answer.text());
                let line = format!("{request} HTTP/1.1");
                assert_eq!(upstream.last().request_line(), line);
                permitted += 1;
            }
        }
    }
    assert_eq!(upstream.requests().len(), permitted);
    assert_eq!(permitted, 69);
}

/// Where the detail of a denial must point: the position of the caveat, what it says, and why.
fn detail(verdict: Verdict) -> Option<String> {
    Some(match verdict {
        Pass => return None,
        OtherOrg => "token 1, caveat 1, Organization 2001: rwcdC: \
                     the request is for another organization"
            .to_owned(),
        OtherApp => "token 1, caveat 2, IfPresent > Apps: 3001 (rwcdC): \
                     the request is for another app"
            .to_owned(),
        Masked(missing) => {
            format!("token 1, caveat 4, Organization 2001: r: {missing} is not permitted")
        }
        Otherwise(missing) => {
            format!("{missing} is not permitted where none of its caveats applies")
        }
    })
}

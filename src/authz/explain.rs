//! A denial in words: which caveat of which token prohibits, and what would satisfy it.

use super::bearer::{Candidate, Refused};
use crate::macaroon::{Caveat, describe};
use crate::policy::{Access, Asked, Prohibition, Reason};

/// What a denial says.
pub(super) struct Detail {
    pub(super) text: String,
    /// Whether it tells names that are not the bearer's from names that nobody has.
    pub(super) hints_at_names: bool,
}

/// Told instead where names are no public namespace: an unknown name, and one that belongs to
/// somebody else, must look the same.
pub(super) const NAMES_ARE_SECRET: &str = "no such name, or none that your tokens may touch; \
     the proxy's decision log has the details";

/// Told instead of everything else where denials are to be terse.
pub(super) const TERSE: &str =
    "the tokens do not permit this; the proxy's decision log has the details";

/// Why none of the tokens permits the access, or, without one, anything at all.
///
/// The text goes into a log line and an answer, and what it describes is the bearer's to choose,
/// so it has a bound.
pub(super) fn prohibited(usable: &[&Candidate], asked: Option<&Asked<'_>>, now: i64) -> Detail {
    let mut detail = Detail {
        text: String::new(),
        hints_at_names: false,
    };
    for candidate in usable {
        let Err(refused) = candidate.permits(asked, now) else {
            continue;
        };
        if let Refused::Prohibited(prohibition) = refused {
            detail.hints_at_names |=
                matches!(prohibition.reason, Reason::Resource("organization" | "app"));
        }
        if detail.text.len() >= LONGEST {
            continue;
        }
        if !detail.text.is_empty() {
            detail.text.push_str("; ");
        }
        let number = candidate.position.saturating_add(1);
        let sentence = match refused {
            Refused::Prohibited(prohibition) => {
                let own = asked.and_then(|asked| candidate.own(asked).ok());
                sentence(candidate, own.as_ref(), prohibition)
            }
            Refused::NoOrg => format!(
                "token {number}: the request names no organization, and neither does the token \
                 name exactly one; it takes a token for one organization"
            ),
            Refused::NoCluster => format!(
                "token {number}: the request names no cluster, and neither does the token name \
                 exactly one; name the cluster"
            ),
        };
        detail.text.push_str(&sentence);
    }
    if let Some((end, _)) = detail.text.char_indices().nth(LONGEST) {
        detail.text.truncate(end);
        detail.text.push_str(" ...");
    }
    detail
}

fn sentence(
    candidate: &Candidate,
    access: Option<&Access<'_>>,
    prohibition: Prohibition,
) -> String {
    let Prohibition {
        caveat: at,
        nested,
        reason,
    } = prohibition;
    let place = candidate
        .verified
        .origin(at)
        .map_or_else(String::new, |origin| {
            let of = if origin.token == candidate.position {
                ""
            } else {
                " (a discharge)"
            };
            format!(
                "token {}{of}, caveat {}",
                origin.token + 1,
                origin.caveat + 1
            )
        });
    let caveat = candidate
        .verified
        .caveats()
        .nth(at)
        .map_or_else(String::new, |caveat| match (caveat, nested) {
            (Caveat::IfPresent { ifs, .. }, Some(inner)) => {
                let inner = ifs
                    .iter()
                    .flatten()
                    .nth(inner)
                    .map(describe)
                    .unwrap_or_default();
                format!("IfPresent > {inner}")
            }
            (caveat, _) => describe(caveat),
        });
    format!(
        "{place}, {caveat}: {reason}; {}",
        access.map_or_else(|| NO_ACCESS.to_owned(), |access| remedy(access, reason))
    )
}

/// What would satisfy the caveat.
fn remedy(access: &Access<'_>, reason: Reason) -> String {
    let text = |value: Option<&str>| match value {
        Some("") => "any".to_owned(),
        Some(value) => format!("{value:?}"),
        None => "it".to_owned(),
    };
    let id = |value: Option<u64>| match value {
        Some(0) => "any".to_owned(),
        Some(id) => id.to_string(),
        None => "it".to_owned(),
    };
    match reason {
        // Its words may be secrets, and are not repeated.
        Reason::Resource("command") => "it takes a token for that command".to_owned(),
        Reason::Resource(what) => {
            let wanted = match what {
                "organization" => id(access.org),
                "app" => id(access.app),
                "volume" => text(access.volume),
                "machine" => text(access.machine),
                "machine feature" => text(access.machine_feature),
                "feature" => text(access.feature),
                "app feature" => text(access.app_feature),
                "cluster" => text(access.cluster),
                "storage object" => text(access.storage_object),
                "mutation" => text(access.mutation),
                _ => "it".to_owned(),
            };
            format!("it takes a token for {what} {wanted}")
        }
        Reason::Unspecified(what) => format!("the token is only for requests that name a {what}"),
        Reason::Action { missing } | Reason::Otherwise { missing } => {
            format!("it takes a token that permits {missing} here")
        }
        Reason::Expired => "it takes a token that has not expired".to_owned(),
        Reason::NotYetValid => "the token can be used later".to_owned(),
        Reason::Source(what) => format!("send the request from that {what}"),
        Reason::Role => "it takes an admin's token".to_owned(),
        Reason::BadZero | Reason::Misplaced | Reason::Unregistered => {
            "no request satisfies it: use a token without that caveat".to_owned()
        }
    }
}

/// For a request that leaves several things to the token.
pub(super) const NOT_ONE_TOKEN: &str = "the request leaves its organization or cluster to the \
     token, and no single token permits all of it; send one request for each";

/// For a route that is a user's own.
pub(super) const NO_USER: &str = "this takes a token whose discharge says which user it speaks \
     for; tokens for an organization or an app have none";

/// For a route that asks for no access.
const NO_ACCESS: &str = "this route takes a token that can permit something";

/// Characters of a reason.
const LONGEST: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::macaroon::Action;

    #[test]
    fn a_denial_says_what_it_would_take() {
        let access = Access {
            org: Some(2001),
            app: Some(0),
            app_feature: Some("images"),
            feature: Some("wg"),
            volume: Some("v1"),
            machine: Some(""),
            machine_feature: Some("metrics"),
            mutation: Some("createApp"),
            cluster: Some("primary"),
            storage_object: Some("a\nb"),
            ..Access::default()
        };
        for (what, wanted) in [
            ("organization", "2001"),
            ("app", "any"),
            ("volume", r#""v1""#),
            ("machine", "any"),
            ("machine feature", r#""metrics""#),
            ("feature", r#""wg""#),
            ("app feature", r#""images""#),
            ("cluster", r#""primary""#),
            ("storage object", r#""a\nb""#),
            ("mutation", r#""createApp""#),
        ] {
            let told = format!("it takes a token for {what} {wanted}");
            assert_eq!(remedy(&access, Reason::Resource(what)), told);
            let told = format!("it takes a token for {what} it");
            assert_eq!(remedy(&Access::default(), Reason::Resource(what)), told);
        }
        // The words of a command may be secrets.
        let command = [String::from("secret")];
        let access = Access {
            command: Some(&command),
            ..access
        };
        let told = "it takes a token for that command";
        assert_eq!(remedy(&access, Reason::Resource("command")), told);
        let missing = Action::WRITE;
        let told = "it takes a token that permits w here";
        assert_eq!(remedy(&access, Reason::Action { missing }), told);
    }
}

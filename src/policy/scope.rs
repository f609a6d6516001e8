//! What a token is for, where a request does not say it.
//!
//! Some calls name no organization, or no cluster: the token's own is meant. A scope only fills
//! in what the request left out; the caveats are cleared against the result like any other.

use crate::macaroon::Caveat;

/// The organization and the cluster that the caveats of one token name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The one organization that its top-level caveats are for.
    pub org: Option<u64>,
    /// The one cluster that they are for.
    pub cluster: Option<&'a str>,
}

impl<'a> Scope<'a> {
    /// The scope of verified caveats. Two different names are none, and so is one that stands for
    /// all.
    pub fn of(caveats: impl IntoIterator<Item = &'a Caveat>) -> Self {
        let (mut org, mut cluster) = (One::None, One::None);
        for caveat in caveats {
            if let Caveat::Organization { id, .. } = caveat {
                org.add((*id != 0).then_some(*id));
            } else if let Caveat::Clusters(clusters) = caveat {
                let only = match clusters.entries() {
                    [(name, _)] => std::str::from_utf8(name.as_bytes()).ok(),
                    _ => None,
                };
                cluster.add(only.filter(|name| !name.is_empty()));
            }
        }
        Self {
            org: org.only(),
            cluster: cluster.only(),
        }
    }
}

/// At most one value, however often it is named.
#[derive(Clone, Copy)]
enum One<T> {
    None,
    Only(T),
    Several,
}

impl<T: Copy + PartialEq> One<T> {
    fn add(&mut self, value: Option<T>) {
        *self = match (*self, value) {
            (Self::None, Some(value)) => Self::Only(value),
            (Self::Only(known), Some(value)) if known == value => Self::Only(known),
            (Self::None | Self::Only(_) | Self::Several, _) => Self::Several,
        };
    }

    fn only(self) -> Option<T> {
        match self {
            Self::Only(value) => Some(value),
            Self::None | Self::Several => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::macaroon::caveats_from_json;

    #[track_caller]
    fn check(json: &str, org: Option<u64>, cluster: Option<&str>) {
        let caveats = caveats_from_json(json).unwrap();
        assert_eq!(Scope::of(&caveats), Scope { org, cluster }, "{json}");
    }

    #[test]
    fn a_scope_is_what_every_caveat_agrees_on() {
        let org = |id: u64| format!(r#"{{"type":"Organization","body":{{"id":{id},"mask":"r"}}}}"#);
        let clusters =
            |names: &str| format!(r#"{{"type":"Clusters","body":{{"clusters":{{{names}}}}}}}"#);
        check("[]", None, None);
        check(&format!("[{}]", org(1)), Some(1), None);
        check(&format!("[{},{}]", org(1), org(1)), Some(1), None);
        check(&format!("[{},{}]", org(1), org(2)), None, None);
        check(&format!("[{},{}]", org(1), org(0)), None, None);
        check(&format!("[{}]", clusters(r#""a":"r""#)), None, Some("a"));
        check(&format!("[{}]", clusters(r#""a":"r","b":"r""#)), None, None);
        check(&format!("[{}]", clusters(r#""":"r""#)), None, None);
        check(&format!("[{}]", clusters("")), None, None);
        // What only holds under a condition says nothing about the token as a whole.
        let nested = format!(
            r#"{{"type":"IfPresent","body":{{"ifs":[{}],"else":"r"}}}}"#,
            org(1)
        );
        check(&format!("[{nested}]"), None, None);
    }
}

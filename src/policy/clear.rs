//! Clearing: do these caveats permit this access now? (format chapter 11)

use thiserror::Error;

use super::access::Access;
use crate::macaroon::{Action, Caveat, Command, Resources, Role, Text};

/// Clears verified caveats against one access; every one of them must permit it.
///
/// `now` is Unix time in seconds. The access must be [valid](Access::validate). Nothing is
/// allocated, and the first caveat that prohibits is the answer.
pub fn clear<'c>(
    caveats: impl IntoIterator<Item = &'c Caveat>,
    access: &Access<'_>,
    now: i64,
) -> Result<(), Prohibition> {
    let cleared = Clearing { access, now };
    caveats
        .into_iter()
        .enumerate()
        .try_for_each(|(at, caveat)| {
            // Whom a discharge attests restricts nothing.
            if caveat.role() == Role::Attestation {
                return Ok(());
            }
            cleared.check(caveat).map_err(|refusal| Prohibition {
                caveat: at,
                nested: refusal.nested,
                reason: refusal.reason,
            })
        })
}

/// Clears what depends on no access: time, where the request comes from, and caveats that nothing
/// satisfies. For routes that ask for a token and touch nothing that a caveat could name.
pub fn clear_presence<'c>(
    caveats: impl IntoIterator<Item = &'c Caveat>,
    now: i64,
) -> Result<(), Prohibition> {
    caveats
        .into_iter()
        .enumerate()
        .try_for_each(|(at, caveat)| {
            if caveat.role() == Role::Attestation {
                return Ok(());
            }
            presence(caveat, now).map_err(|reason| Prohibition {
                caveat: at,
                nested: None,
                reason,
            })
        })
}

fn presence(caveat: &Caveat, now: i64) -> Result<(), Reason> {
    match caveat {
        Caveat::ValidityWindow {
            not_before,
            not_after,
        } => window(*not_before, *not_after, now),
        Caveat::FromMachineSource(_) => Err(Reason::Source("machine")),
        Caveat::FlySrc {
            organization,
            app,
            instance,
        } => {
            source("machine", instance, None)?;
            source("app", app, None)?;
            source("organization", organization, None)
        }
        Caveat::IfPresent { ifs, .. } => {
            let ifs = ifs.as_ref().ok_or(Reason::Misplaced)?;
            ifs.iter().try_for_each(|caveat| presence(caveat, now))
        }
        // Attestations at top level are skipped; nested, they deny.
        Caveat::ThirdParty(_)
        | Caveat::BindToParentToken(_)
        | Caveat::FlyioUserId(_)
        | Caveat::GitHubUserId(_)
        | Caveat::GoogleUserId(_)
        | Caveat::ConfineUser(_)
        | Caveat::ConfineOrganization(_)
        | Caveat::ConfineGoogleHd(_)
        | Caveat::ConfineGitHubOrg(_)
        | Caveat::MaxValidity(_) => Err(Reason::Misplaced),
        Caveat::Unregistered { .. } => Err(Reason::Unregistered),
        Caveat::Organization { .. }
        | Caveat::Apps(_)
        | Caveat::Volumes(_)
        | Caveat::Machines(_)
        | Caveat::MachineFeatureSet(_)
        | Caveat::FeatureSet(_)
        | Caveat::AppFeatureSet(_)
        | Caveat::Clusters(_)
        | Caveat::StorageObjects(_)
        | Caveat::Mutations(_)
        | Caveat::Commands(_)
        | Caveat::Action(_)
        | Caveat::IsUser(_)
        | Caveat::IsMember
        | Caveat::AllowedRoles(_) => Ok(()),
    }
}

/// Which caveat prohibits an access, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prohibition {
    /// Position among the cleared caveats, from 0.
    pub caveat: usize,
    /// Inside `IfPresent`: the position among its caveats of the one that prohibits, at the
    /// outermost level.
    pub nested: Option<usize>,
    /// What it objects to.
    pub reason: Reason,
}

/// What a caveat objects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// The access does not name what the caveat is about. Inside `IfPresent` such a caveat is
    /// passed over.
    #[error("the request names no {0}")]
    Unspecified(&'static str),
    /// The resource is not among those listed.
    #[error("the request is for another {0}")]
    Resource(&'static str),
    /// The resource is listed, these actions on it are not permitted.
    #[error("{missing} is not permitted")]
    Action {
        /// The actions that the mask lacks.
        missing: Action,
    },
    /// No caveat of an `IfPresent` applies, and its mask lacks these actions.
    #[error("{missing} is not permitted where none of its caveats applies")]
    Otherwise {
        /// The actions that the mask lacks.
        missing: Action,
    },
    /// The window has closed.
    #[error("the token has expired")]
    Expired,
    /// The window has not opened.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The request must come from a certain machine, app or organization.
    #[error("the request does not come from the {0} that the caveat names")]
    Source(&'static str),
    /// The action needs a role the token does not have.
    #[error("only an admin may do this")]
    Role,
    /// The zero id stands beside others.
    #[error("the caveat lists both everything and single resources")]
    BadZero,
    /// The caveat belongs elsewhere: into a ticket, or not into an `IfPresent`.
    #[error("the caveat has no place here")]
    Misplaced,
    /// A type this implementation does not know.
    #[error("caveats of this type are not known here")]
    Unregistered,
}

/// A [`Prohibition`] without its outermost position.
struct Refusal {
    nested: Option<usize>,
    reason: Reason,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            nested: None,
            reason,
        }
    }
}

struct Clearing<'a> {
    access: &'a Access<'a>,
    now: i64,
}

impl Clearing<'_> {
    fn check(&self, caveat: &Caveat) -> Result<(), Refusal> {
        let access = self.access;
        match caveat {
            Caveat::Organization { id, mask } => self.organization(*id, *mask)?,
            Caveat::Apps(map) => {
                let matches = |id: &u64| Some(*id) == access.app;
                self.resource("app", access.app.is_some(), map, |id| *id == 0, matches)?;
            }
            Caveat::Volumes(map) => self.named("volume", access.volume, map)?,
            Caveat::Machines(map) => self.named("machine", access.machine, map)?,
            Caveat::MachineFeatureSet(map) => {
                self.named("machine feature", access.machine_feature, map)?;
            }
            Caveat::FeatureSet(map) => self.named("feature", access.feature, map)?,
            Caveat::AppFeatureSet(map) => self.named("app feature", access.app_feature, map)?,
            Caveat::Clusters(map) => self.named("cluster", access.cluster, map)?,
            Caveat::StorageObjects(map) => {
                let object = access.storage_object.unwrap_or_default().as_bytes();
                let present = access.storage_object.is_some();
                let matches = |prefix: &Text| object.starts_with(prefix.as_bytes());
                self.resource("storage object", present, map, Text::is_empty, matches)?;
            }
            Caveat::Mutations(names) => {
                let mutation = access.mutation.ok_or(Reason::Unspecified("mutation"))?;
                if !names
                    .iter()
                    .flatten()
                    .any(|name| name.as_bytes() == mutation.as_bytes())
                {
                    return Err(Reason::Resource("mutation").into());
                }
            }
            Caveat::Commands(commands) => {
                let command = access.command.ok_or(Reason::Unspecified("command"))?;
                if !commands
                    .iter()
                    .flatten()
                    .any(|permitted| permits(permitted, command))
                {
                    return Err(Reason::Resource("command").into());
                }
            }
            Caveat::Action(mask) => self.within(*mask)?,
            Caveat::ValidityWindow {
                not_before,
                not_after,
            } => {
                window(*not_before, *not_after, self.now)?;
            }
            Caveat::IsUser(_) => {}
            Caveat::FromMachineSource(id) => {
                if access.source_machine.map(str::as_bytes) != Some(id.as_bytes()) {
                    return Err(Reason::Source("machine").into());
                }
            }
            Caveat::FlySrc {
                organization,
                app,
                instance,
            } => {
                source("machine", instance, access.source_machine)?;
                source("app", app, access.source_app)?;
                source("organization", organization, access.source_organization)?;
            }
            Caveat::IsMember => self.role(ROLE_MEMBER)?,
            Caveat::AllowedRoles(roles) => self.role(*roles)?,
            Caveat::IfPresent { ifs, otherwise } => return self.if_present(ifs, *otherwise),
            // Attestations at top level are skipped by `clear`; nested, they deny.
            Caveat::ThirdParty(_)
            | Caveat::BindToParentToken(_)
            | Caveat::FlyioUserId(_)
            | Caveat::GitHubUserId(_)
            | Caveat::GoogleUserId(_)
            | Caveat::ConfineUser(_)
            | Caveat::ConfineOrganization(_)
            | Caveat::ConfineGoogleHd(_)
            | Caveat::ConfineGitHubOrg(_)
            | Caveat::MaxValidity(_) => return Err(Reason::Misplaced.into()),
            Caveat::Unregistered { .. } => return Err(Reason::Unregistered.into()),
        }
        Ok(())
    }

    fn within(&self, mask: Action) -> Result<(), Reason> {
        if self.access.action.is_within(mask) {
            return Ok(());
        }
        Err(Reason::Action {
            missing: self.access.action.without(mask),
        })
    }

    fn organization(&self, id: u64, mask: Action) -> Result<(), Reason> {
        let org = self.access.org.ok_or(Reason::Unspecified("organization"))?;
        if id != 0 && id != org {
            return Err(Reason::Resource("organization"));
        }
        self.within(mask)
    }

    fn named(
        &self,
        what: &'static str,
        value: Option<&str>,
        map: &Resources<Text>,
    ) -> Result<(), Reason> {
        let matches = |key: &Text| value.is_some_and(|value| value.as_bytes() == key.as_bytes());
        self.resource(what, value.is_some(), map, Text::is_empty, matches)
    }

    /// The four steps that all resource maps share. The masks of all matching entries are
    /// intersected, so that a broader entry with a smaller mask restricts a narrower one.
    fn resource<K: Ord>(
        &self,
        what: &'static str,
        present: bool,
        map: &Resources<K>,
        is_zero: impl Fn(&K) -> bool,
        matches: impl Fn(&K) -> bool,
    ) -> Result<(), Reason> {
        let entries = map.entries();
        // Keys ascend, so the zero key comes first if it is there.
        let has_zero = entries.first().is_some_and(|(key, _)| is_zero(key));
        if has_zero && entries.len() > 1 {
            return Err(Reason::BadZero);
        }
        if !present {
            return Err(Reason::Unspecified(what));
        }
        let mask = entries
            .iter()
            .filter(|(key, _)| is_zero(key) || matches(key))
            .map(|(_, mask)| *mask)
            .reduce(Action::intersection)
            .ok_or(Reason::Resource(what))?;
        self.within(mask)
    }

    fn role(&self, roles: u32) -> Result<(), Reason> {
        let required = required_role(self.access);
        if roles & required == required {
            return Ok(());
        }
        Err(Reason::Role)
    }

    /// Caveats about what the access does not name are passed over; if any other is there, those
    /// others decide, else the mask does.
    fn if_present(&self, ifs: &Option<Vec<Caveat>>, otherwise: Action) -> Result<(), Refusal> {
        // A nil set comes from JSON only. The reference crashes on it.
        let ifs = ifs.as_ref().ok_or(Reason::Misplaced)?;
        let mut applied = false;
        let mut refused = None;
        for (at, caveat) in ifs.iter().enumerate() {
            match self.check(caveat) {
                Err(Refusal {
                    reason: Reason::Unspecified(_),
                    ..
                }) => continue,
                Err(Refusal { reason, .. }) => {
                    refused = refused.or(Some(Refusal {
                        nested: Some(at),
                        reason,
                    }));
                }
                Ok(()) => {}
            }
            applied = true;
        }
        match refused {
            Some(refused) => Err(refused),
            None if applied || self.access.action.is_within(otherwise) => Ok(()),
            None => Err(Reason::Otherwise {
                missing: self.access.action.without(otherwise),
            }
            .into()),
        }
    }
}

fn permits(permitted: &Command, command: &[String]) -> bool {
    let args = permitted.args.as_deref().unwrap_or_default();
    let starts = command.len() >= args.len()
        && args
            .iter()
            .zip(command)
            .all(|(arg, word)| arg.as_bytes() == word.as_bytes());
    starts && (!permitted.exact || command.len() == args.len())
}

fn source(what: &'static str, named: &Text, actual: Option<&str>) -> Result<(), Reason> {
    if named.is_empty() || actual.map(str::as_bytes) == Some(named.as_bytes()) {
        return Ok(());
    }
    Err(Reason::Source(what))
}

/// Whether `now` is inside the window; both bounds are inclusive.
///
/// The reference's clock overflows for bounds past the year 292277024627 and takes them for long
/// past: such a not-after denies, such a not-before restricts nothing.
pub fn window(not_before: i64, not_after: i64, now: i64) -> Result<(), Reason> {
    if now > not_after || not_after > LAST_SECOND {
        return Err(Reason::Expired);
    }
    if now < not_before && not_before <= LAST_SECOND {
        return Err(Reason::NotYetValid);
    }
    Ok(())
}

/// 2^63-1 less the seconds from the year 1 to 1970 (format chapter 14, item 4).
const LAST_SECOND: i64 = 9_223_371_974_719_179_007;

const ROLE_MEMBER: u32 = 1;
const ROLE_ADMIN: u32 = u32::MAX;

/// What a member may do to the organization's features; all else takes an admin.
fn required_role(access: &Access<'_>) -> u32 {
    let Some(feature) = access.feature else {
        return ROLE_MEMBER;
    };
    let mask = match feature {
        "wg" | "domain" | "site" | "builder" | "addon" | "checks" | "litefs-cloud" => Action::ALL,
        "membership" | "billing" | "authentication" => Action::READ,
        "deletion" | "document_signing" => Action::NONE,
        _ => return ROLE_ADMIN,
    };
    if access.action.is_within(mask) {
        ROLE_MEMBER
    } else {
        ROLE_ADMIN
    }
}

//! What a token can do, in one sentence.
//!
//! The sentence claims nothing that the caveats do not permit: see [`survey`]. What it cannot put
//! into words it says to be there.

mod named;
mod survey;

use super::text::moment;
use crate::authority::Window;
use crate::macaroon::{Caveat, Role, describe};
use crate::policy::{clear_presence, window};

use named::Named;
use survey::{Claim, Survey, listed};

/// What may be done with a token that has these caveats, those of its discharges among them.
pub(super) fn permission<'c>(caveats: impl IntoIterator<Item = &'c Caveat>, now: i64) -> String {
    let parts = Parts::of(caveats);
    let (named, stranger) = Named::of(&parts.cleared);
    let org = named.orgs.first().copied();
    let survey = Survey {
        caveats: &parts.cleared,
        named: &named,
        stranger: &stranger,
        org: org.unwrap_or(stranger.id),
        now,
    };
    let claims = if parts.none {
        Vec::new()
    } else {
        survey.claims()
    };
    if claims.is_empty() {
        return parts.nothing(now);
    }
    let place = match org {
        Some(id) => format!("organization {id}"),
        None => "any organization".to_owned(),
    };
    let several = claims.len() > 1;
    let claims: Vec<String> = claims.iter().map(in_words).collect();
    let claims = claims.join("; ");
    let mut sentence = match several {
        true => format!("may {claims}; all in {place}"),
        false => format!("may {claims} in {place}"),
    };
    if parts.member {
        sentence.push_str(" as a member");
    }
    sentence.push_str(&when(parts.window, now));
    for condition in &parts.conditions {
        sentence.push_str(", ");
        sentence.push_str(condition);
    }
    if named.more {
        sentence.push_str("; and more that its caveats list");
    }
    if !parts.further.is_empty() {
        sentence.push_str("; narrowed further by ");
        sentence.push_str(&listed(&parts.further));
    }
    sentence
}

/// What a discharge says for whom.
pub(super) fn discharge(location: &str, caveats: &[Caveat], now: i64) -> String {
    let mut whom = Vec::new();
    let mut further = Vec::new();
    for caveat in caveats {
        if caveat.role() == Role::Attestation {
            whom.push(describe(caveat));
        } else if !matches!(caveat, Caveat::ValidityWindow { .. }) {
            further.push(describe(caveat));
        }
    }
    let mut sentence = format!("answers for {location}");
    sentence.push_str(&when(Window::of(caveats), now));
    for (words, list) in [("; says ", whom), ("; narrows the token by ", further)] {
        if !list.is_empty() {
            sentence.push_str(words);
            sentence.push_str(&listed(&list));
        }
    }
    sentence
}

fn in_words(claim: &Claim) -> String {
    let Claim {
        verbs,
        objects,
        except,
    } = claim;
    match objects.as_slice() {
        [] => format!("{verbs}{except}"),
        objects => format!("{verbs} {}{except}", listed(objects)),
    }
}

fn when(window: Window, now: i64) -> String {
    let mut text = String::new();
    if window.not_before > now {
        text.push_str(&format!(", from {}", moment(window.not_before)));
    }
    if let Some(end) = window.end() {
        text.push_str(&format!(", until {}", moment(end)));
    }
    text
}

/// Caveats, by how they are put into words.
struct Parts<'c> {
    /// Cleared against what is asked for.
    cleared: Vec<&'c Caveat>,
    window: Window,
    /// Whether admins' rights are taken away.
    member: bool,
    /// Whether no role at all is left, or no moment, so that nothing is permitted.
    none: bool,
    /// Third parties, and where requests must come from.
    conditions: Vec<String>,
    /// Caveats that depend on more than the object that is asked for.
    further: Vec<String>,
}

impl<'c> Parts<'c> {
    fn of(caveats: impl IntoIterator<Item = &'c Caveat>) -> Self {
        let mut parts = Self {
            cleared: Vec::new(),
            window: Window::ALWAYS,
            member: false,
            none: false,
            conditions: Vec::new(),
            further: Vec::new(),
        };
        let mut roles = u32::MAX;
        for caveat in caveats {
            // What is not treated apart is cleared as the proxy clears it.
            if let Caveat::ValidityWindow {
                not_before,
                not_after,
            } = caveat
            {
                // A bound past the last second is not what it seems.
                parts.none |= window(*not_before, *not_after, *not_after).is_err();
                parts.window.not_before = parts.window.not_before.max(*not_before);
                parts.window.not_after = parts.window.not_after.min(*not_after);
            } else if let Caveat::IsMember = caveat {
                roles &= MEMBER;
            } else if let Caveat::AllowedRoles(allowed) = caveat {
                roles &= allowed;
            } else if let Caveat::FromMachineSource(id) = caveat {
                parts.conditions.push(format!("from machine {id} only"));
            } else if let Caveat::FlySrc {
                organization,
                app,
                instance,
            } = caveat
            {
                let from = [
                    ("organization", organization),
                    ("app", app),
                    ("machine", instance),
                ];
                let named = from.into_iter().filter(|(_, name)| !name.is_empty());
                let named = named.map(|(what, name)| format!("from {what} {name} only"));
                parts.conditions.extend(named);
            } else if let Caveat::BindToParentToken(_) = caveat {
                parts.further.push(describe(caveat));
            } else if let Role::ThirdParty(third_party) = caveat.role() {
                let location = &third_party.location;
                parts
                    .conditions
                    .push(format!("once {location} has discharged it"));
            } else if caveat.role() == Role::Restriction {
                if depends(caveat, false) {
                    parts.further.push(describe(caveat));
                }
                parts.cleared.push(caveat);
            }
        }
        parts.none |= roles & MEMBER == 0 || parts.window.not_before > parts.window.not_after;
        parts.member = roles != u32::MAX;
        parts
    }

    fn nothing(&self, now: i64) -> String {
        let caveats = || self.cleared.iter().copied();
        let prohibition = clear_presence(caveats(), now).err();
        let culprit = prohibition.and_then(|why| Some((caveats().nth(why.caveat)?, why.reason)));
        match culprit {
            Some((caveat, reason)) => format!("may do nothing: {}: {reason}", describe(caveat)),
            None => "may do nothing that can be told from its caveats".to_owned(),
        }
    }
}

/// Whether a caveat holds something, inside `IfPresent`, that depends on time or on where a
/// request comes from.
fn depends(caveat: &Caveat, nested: bool) -> bool {
    match caveat {
        Caveat::IfPresent { ifs, .. } => ifs.iter().flatten().any(|caveat| depends(caveat, true)),
        Caveat::ValidityWindow { .. } | Caveat::FromMachineSource(_) | Caveat::FlySrc { .. } => {
            nested
        }
        Caveat::Organization { .. }
        | Caveat::Volumes(_)
        | Caveat::Apps(_)
        | Caveat::FeatureSet(_)
        | Caveat::Mutations(_)
        | Caveat::Machines(_)
        | Caveat::ConfineUser(_)
        | Caveat::ConfineOrganization(_)
        | Caveat::IsUser(_)
        | Caveat::ThirdParty(_)
        | Caveat::BindToParentToken(_)
        | Caveat::MachineFeatureSet(_)
        | Caveat::Clusters(_)
        | Caveat::ConfineGoogleHd(_)
        | Caveat::ConfineGitHubOrg(_)
        | Caveat::MaxValidity(_)
        | Caveat::IsMember
        | Caveat::FlyioUserId(_)
        | Caveat::GitHubUserId(_)
        | Caveat::GoogleUserId(_)
        | Caveat::Action(_)
        | Caveat::Commands(_)
        | Caveat::AppFeatureSet(_)
        | Caveat::StorageObjects(_)
        | Caveat::AllowedRoles(_)
        | Caveat::Unregistered { .. } => false,
    }
}

/// The bit of a member in a bitmap of roles; all bits are an admin's (format chapter 11).
const MEMBER: u32 = 1;

#[cfg(test)]
mod tests;

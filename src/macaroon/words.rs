//! Caveats in words, for people.

use std::fmt::Display;

use super::action::Action;
use super::caveat::{Caveat, Command, Resources, Text};

/// One line that says what a caveat restricts.
pub fn describe(caveat: &Caveat) -> String {
    let name = caveat.name().unwrap_or("unknown");
    match caveat {
        Caveat::Organization { id, mask } => {
            format!("Organization {}: {}", any(*id), actions(*mask))
        }
        Caveat::Apps(map) => resources(name, map, |id| any(*id)),
        Caveat::Volumes(map)
        | Caveat::FeatureSet(map)
        | Caveat::Machines(map)
        | Caveat::MachineFeatureSet(map)
        | Caveat::Clusters(map)
        | Caveat::AppFeatureSet(map)
        | Caveat::StorageObjects(map) => resources(name, map, any_text),
        Caveat::ValidityWindow {
            not_before,
            not_after,
        } => {
            format!("ValidityWindow: from {not_before} to {not_after} (Unix seconds)")
        }
        Caveat::Mutations(names) => {
            format!("Mutations: {}", list(names.as_deref().unwrap_or_default()))
        }
        Caveat::ConfineUser(id) => format!("ConfineUser: for user {id} only"),
        Caveat::ConfineOrganization(id) => format!("ConfineOrganization: for members of {id} only"),
        Caveat::IsUser(id) => format!("IsUser {id}: restricts nothing"),
        Caveat::ThirdParty(third_party) => format!("3P: discharged by {}", third_party.location),
        Caveat::BindToParentToken(prefix) => {
            format!(
                "BindToParentToken: {} bytes of the parent's digest",
                prefix.as_bytes().len()
            )
        }
        Caveat::IfPresent { ifs, otherwise } => {
            let ifs: Vec<String> = ifs.iter().flatten().map(describe).collect();
            format!(
                "IfPresent: {}; else {}",
                ifs.join(" and "),
                actions(*otherwise)
            )
        }
        Caveat::FromMachineSource(id) => format!("FromMachineSource: from machine {id} only"),
        Caveat::ConfineGoogleHd(domain) => format!("ConfineGoogleHD: for users of {domain} only"),
        Caveat::ConfineGitHubOrg(id) => format!("ConfineGitHubOrg: for members of {id} only"),
        Caveat::MaxValidity(seconds) => format!("MaxValidity: at most {seconds} s"),
        Caveat::IsMember => "IsMember: nothing that only an admin may do".to_owned(),
        Caveat::FlyioUserId(id) | Caveat::GitHubUserId(id) => {
            format!("{name}: discharged by user {id}")
        }
        Caveat::GoogleUserId(_) => "GoogleUserID: discharged by a Google user".to_owned(),
        Caveat::Action(mask) => format!("Action: {}", actions(*mask)),
        Caveat::Commands(commands) => {
            let commands: Vec<String> = commands.iter().flatten().map(command).collect();
            format!(
                "Commands: {}",
                if commands.is_empty() {
                    "none".to_owned()
                } else {
                    commands.join(", ")
                }
            )
        }
        Caveat::AllowedRoles(u32::MAX) => "AllowedRoles: admin".to_owned(),
        Caveat::AllowedRoles(roles) => format!("AllowedRoles: bitmap {roles:#x}"),
        Caveat::FlySrc {
            organization,
            app,
            instance,
        } => {
            format!("FlySrc: from organization {organization:?}, app {app:?}, machine {instance:?}")
        }
        Caveat::Unregistered { kind, .. } => {
            format!("type {kind}: not known here, so it permits nothing")
        }
    }
}

fn resources<K: Ord>(name: &str, map: &Resources<K>, key: impl Fn(&K) -> String) -> String {
    let entries: Vec<String> = map
        .entries()
        .iter()
        .map(|(id, mask)| format!("{} ({})", key(id), actions(*mask)))
        .collect();
    format!(
        "{name}: {}",
        if entries.is_empty() {
            "none".to_owned()
        } else {
            entries.join(", ")
        }
    )
}

fn any(id: u64) -> String {
    if id == 0 {
        "any".to_owned()
    } else {
        id.to_string()
    }
}

fn any_text(text: &Text) -> String {
    if text.is_empty() {
        "any".to_owned()
    } else {
        text.to_string()
    }
}

fn actions(mask: Action) -> String {
    if mask.is_empty() {
        "nothing".to_owned()
    } else {
        mask.to_string()
    }
}

fn list(items: &[impl Display]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn command(command: &Command) -> String {
    let words: Vec<String> = command
        .args
        .iter()
        .flatten()
        .map(|word| format!("{word:?}"))
        .collect();
    match (words.is_empty(), command.exact) {
        (true, true) => "the empty command only".to_owned(),
        (true, false) => "any".to_owned(),
        (false, true) => format!("exactly {}", words.join(" ")),
        (false, false) => format!("{} and more", words.join(" ")),
    }
}

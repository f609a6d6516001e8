//! Caveats: every type of format chapter 5.

mod decode;
mod encode;
mod value;

use super::action::Action;

pub(super) use decode::CaveatReader;
pub use decode::decode_caveats;
pub use encode::encode_caveats;
use value::Heap;
pub use value::{Blob, Resources, Text};

/// One restriction. A token permits an access only if every one of its caveats does.
///
/// Lists and maps distinguish nil from empty, because the two hash differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caveat {
    /// The organization, and what may be done in it. Id 0 is any organization.
    Organization {
        /// Numeric id.
        id: u64,
        /// Permitted actions.
        mask: Action,
    },
    /// Volumes by id.
    Volumes(Resources<Text>),
    /// Apps by numeric id.
    Apps(Resources<u64>),
    /// Usable from `not_before` to `not_after`, both inclusive, in Unix seconds.
    ValidityWindow {
        /// First second.
        not_before: i64,
        /// Last second.
        not_after: i64,
    },
    /// Organization features by name.
    FeatureSet(Resources<Text>),
    /// GraphQL mutations by name.
    Mutations(Option<Vec<Text>>),
    /// Machines by id.
    Machines(Resources<Text>),
    /// In a ticket: only this user may have the discharge.
    ConfineUser(u64),
    /// In a ticket: only members of this organization may have the discharge.
    ConfineOrganization(u64),
    /// Who asked for the token; restricts nothing.
    IsUser(u64),
    /// A third party must discharge this caveat.
    ThirdParty(ThirdParty),
    /// In a discharge: a prefix of the SHA-256 of one of the parent's tails.
    BindToParentToken(Blob),
    /// Caveats for the resources that an access names; where none applies, a mask.
    IfPresent {
        /// Evaluated where the access has the resource. Nil can be written in JSON, as in the
        /// reference; no token with it is accepted.
        ifs: Option<Vec<Self>>,
        /// Permitted actions where none of `ifs` applies.
        otherwise: Action,
    },
    /// Features of machines by name.
    MachineFeatureSet(Resources<Text>),
    /// Only from the machine with this id.
    FromMachineSource(Text),
    /// LiteFS clusters by name.
    Clusters(Resources<Text>),
    /// In a ticket: only users of this Google domain.
    ConfineGoogleHd(Text),
    /// In a ticket: only members of this GitHub organization.
    ConfineGitHubOrg(u64),
    /// In a ticket: the longest permitted validity of the discharge, in seconds.
    MaxValidity(u64),
    /// Nothing that only an admin may do.
    IsMember,
    /// Attestation: the platform user that discharged.
    FlyioUserId(u64),
    /// Attestation: the GitHub user that discharged.
    GitHubUserId(u64),
    /// Attestation: the Google user that discharged, a big-endian number of any size.
    GoogleUserId(Blob),
    /// Permitted actions on anything.
    Action(Action),
    /// Commands on a machine.
    Commands(Option<Vec<Command>>),
    /// Features of apps by name.
    AppFeatureSet(Resources<Text>),
    /// Storage objects by prefix.
    StorageObjects(Resources<Text>),
    /// Roles the bearer may act in, as a bitmap.
    AllowedRoles(u32),
    /// Where the request must come from; empty parts match anything.
    FlySrc {
        /// Organization slug.
        organization: Text,
        /// App name.
        app: Text,
        /// Machine id.
        instance: Text,
    },
    /// A type this implementation does not know. It never clears.
    Unregistered {
        /// Type number.
        kind: u64,
        /// The body, verbatim: one MessagePack value.
        body: Box<[u8]>,
    },
}

/// What verification does with a caveat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// Nothing: it is cleared against the access.
    Restriction,
    /// Finds the discharge that answers it.
    ThirdParty(&'a ThirdParty),
    /// Checks that the digest of one of the parent's tails begins with this.
    Binding(&'a [u8]),
    /// Keeps it if it is trusted: it states who discharged, rather than restricting anything.
    Attestation,
}

/// A caveat that a third party must discharge (format chapter 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThirdParty {
    /// Who discharges it.
    pub location: Text,
    /// The discharge's key, sealed with the tail before this caveat.
    pub verifier_key: Blob,
    /// What the third party is told, sealed with its own key; the discharge's key id.
    pub ticket: Blob,
}

/// One entry of [`Caveat::Commands`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The words that a command must start with.
    pub args: Option<Vec<Text>>,
    /// Whether it must have no further words.
    pub exact: bool,
}

impl Caveat {
    /// The type number on the wire.
    pub fn kind(&self) -> u64 {
        match self {
            Self::Organization { .. } => 0,
            Self::Volumes(_) => 2,
            Self::Apps(_) => 3,
            Self::ValidityWindow { .. } => 4,
            Self::FeatureSet(_) => 5,
            Self::Mutations(_) => 6,
            Self::Machines(_) => 7,
            Self::ConfineUser(_) => 8,
            Self::ConfineOrganization(_) => 9,
            Self::IsUser(_) => 10,
            Self::ThirdParty(_) => 11,
            Self::BindToParentToken(_) => 12,
            Self::IfPresent { .. } => 13,
            Self::MachineFeatureSet(_) => 14,
            Self::FromMachineSource(_) => 15,
            Self::Clusters(_) => 16,
            Self::ConfineGoogleHd(_) => 19,
            Self::ConfineGitHubOrg(_) => 20,
            Self::MaxValidity(_) => 21,
            Self::IsMember => 22,
            Self::FlyioUserId(_) => 23,
            Self::GitHubUserId(_) => 24,
            Self::GoogleUserId(_) => 25,
            Self::Action(_) => 26,
            Self::Commands(_) => 27,
            Self::AppFeatureSet(_) => 28,
            Self::StorageObjects(_) => 29,
            Self::AllowedRoles(_) => 30,
            Self::FlySrc { .. } => 31,
            Self::Unregistered { kind, .. } => *kind,
        }
    }

    /// The name in JSON and in messages; `None` for a type this implementation does not know.
    pub fn name(&self) -> Option<&'static str> {
        let kind = self.kind();
        NAMES
            .iter()
            .find(|(number, _)| *number == kind)
            .map(|(_, name)| *name)
    }

    /// What verification does with the caveat.
    pub fn role(&self) -> Role<'_> {
        match self {
            Self::ThirdParty(third_party) => Role::ThirdParty(third_party),
            Self::BindToParentToken(prefix) => Role::Binding(prefix.as_bytes()),
            Self::FlyioUserId(_) | Self::GitHubUserId(_) | Self::GoogleUserId(_) => {
                Role::Attestation
            }
            Self::Organization { .. }
            | Self::Volumes(_)
            | Self::Apps(_)
            | Self::ValidityWindow { .. }
            | Self::FeatureSet(_)
            | Self::Mutations(_)
            | Self::Machines(_)
            | Self::ConfineUser(_)
            | Self::ConfineOrganization(_)
            | Self::IsUser(_)
            | Self::IfPresent { .. }
            | Self::MachineFeatureSet(_)
            | Self::FromMachineSource(_)
            | Self::Clusters(_)
            | Self::ConfineGoogleHd(_)
            | Self::ConfineGitHubOrg(_)
            | Self::MaxValidity(_)
            | Self::IsMember
            | Self::Action(_)
            | Self::Commands(_)
            | Self::AppFeatureSet(_)
            | Self::StorageObjects(_)
            | Self::AllowedRoles(_)
            | Self::FlySrc { .. }
            | Self::Unregistered { .. } => Role::Restriction,
        }
    }

    /// Bytes it takes in memory, with all it holds.
    pub(super) fn weight(&self) -> usize {
        let heap = match self {
            Self::Apps(map) => map.heap(),
            Self::Volumes(map)
            | Self::FeatureSet(map)
            | Self::Machines(map)
            | Self::MachineFeatureSet(map)
            | Self::Clusters(map)
            | Self::AppFeatureSet(map)
            | Self::StorageObjects(map) => map.heap(),
            Self::Mutations(names) => names.heap(),
            Self::ThirdParty(ThirdParty {
                location,
                verifier_key,
                ticket,
            }) => location
                .heap()
                .saturating_add(verifier_key.heap())
                .saturating_add(ticket.heap()),
            Self::BindToParentToken(bytes) | Self::GoogleUserId(bytes) => bytes.heap(),
            Self::IfPresent { ifs, .. } => ifs.iter().flatten().map(Self::weight).sum(),
            Self::FromMachineSource(text) | Self::ConfineGoogleHd(text) => text.heap(),
            Self::Commands(commands) => commands
                .iter()
                .flatten()
                .map(|command| size_of::<Command>().saturating_add(command.args.heap()))
                .sum(),
            Self::FlySrc {
                organization,
                app,
                instance,
            } => [organization, app, instance]
                .into_iter()
                .map(Heap::heap)
                .sum(),
            Self::Unregistered { body, .. } => body.len(),
            Self::Organization { .. }
            | Self::ValidityWindow { .. }
            | Self::ConfineUser(_)
            | Self::ConfineOrganization(_)
            | Self::IsUser(_)
            | Self::ConfineGitHubOrg(_)
            | Self::MaxValidity(_)
            | Self::IsMember
            | Self::FlyioUserId(_)
            | Self::GitHubUserId(_)
            | Self::Action(_)
            | Self::AllowedRoles(_) => 0,
        };
        size_of::<Self>().saturating_add(heap)
    }

    /// What a third party must discharge, if it is that.
    pub fn third_party(&self) -> Option<&ThirdParty> {
        match self.role() {
            Role::ThirdParty(third_party) => Some(third_party),
            Role::Binding(_) | Role::Attestation | Role::Restriction => None,
        }
    }
}

/// Type numbers and JSON names (format chapter 5), in ascending order.
pub(super) const NAMES: [(u64, &str); 29] = [
    (0, "Organization"),
    (2, "Volumes"),
    (3, "Apps"),
    (4, "ValidityWindow"),
    (5, "FeatureSet"),
    (6, "Mutations"),
    (7, "Machines"),
    (8, "ConfineUser"),
    (9, "ConfineOrganization"),
    (10, "IsUser"),
    (11, "3P"),
    (12, "BindToParentToken"),
    (13, "IfPresent"),
    (14, "MachineFeatureSet"),
    (15, "FromMachineSource"),
    (16, "Clusters"),
    (19, "ConfineGoogleHD"),
    (20, "ConfineGitHubOrg"),
    (21, "MaxValidity"),
    (22, "IsMember"),
    (23, "FlyioUserID"),
    (24, "GitHubUserID"),
    (25, "GoogleUserID"),
    (26, "Action"),
    (27, "Commands"),
    (28, "AppFeatureSet"),
    (29, "StorageObjects"),
    (30, "AllowedRoles"),
    (31, "FlySrc"),
];

//! Caveats to canonical bytes.

use super::{Caveat, Command, Resources, Text, ThirdParty};
use crate::macaroon::wire::Writer;

impl Caveat {
    /// Appends the canonical encoding: type number, then body.
    pub(in crate::macaroon) fn encode(&self, w: &mut Writer) {
        w.uint(self.kind());
        match self {
            Self::Organization { id, mask } => {
                w.array(2);
                w.uint(*id);
                w.uint(mask.bits().into());
            }
            Self::Apps(map) => encode_map(w, map, |w, id| w.uint(*id)),
            Self::Volumes(map)
            | Self::FeatureSet(map)
            | Self::Machines(map)
            | Self::MachineFeatureSet(map)
            | Self::Clusters(map)
            | Self::AppFeatureSet(map)
            | Self::StorageObjects(map) => encode_map(w, map, |w, key| w.text(key.as_bytes())),
            Self::ValidityWindow {
                not_before,
                not_after,
            } => {
                w.array(2);
                w.int(*not_before);
                w.int(*not_after);
            }
            Self::Mutations(names) => {
                w.array(1);
                encode_texts(w, names.as_deref());
            }
            Self::ConfineUser(id) | Self::ConfineOrganization(id) | Self::IsUser(id) => {
                w.array(1);
                w.uint(*id);
            }
            Self::ThirdParty(ThirdParty {
                location,
                verifier_key,
                ticket,
            }) => {
                w.array(3);
                w.text(location.as_bytes());
                w.blob(verifier_key.nil_or_bytes());
                w.blob(ticket.nil_or_bytes());
            }
            Self::BindToParentToken(bytes) | Self::GoogleUserId(bytes) => {
                w.blob(bytes.nil_or_bytes())
            }
            Self::IfPresent { ifs, otherwise } => {
                w.array(2);
                match ifs {
                    Some(ifs) => encode_set(w, ifs),
                    None => w.nil(),
                }
                w.uint(otherwise.bits().into());
            }
            Self::FromMachineSource(id) => {
                w.array(1);
                w.text(id.as_bytes());
            }
            Self::ConfineGoogleHd(domain) => w.text(domain.as_bytes()),
            Self::ConfineGitHubOrg(n)
            | Self::MaxValidity(n)
            | Self::FlyioUserId(n)
            | Self::GitHubUserId(n) => w.uint(*n),
            Self::IsMember => w.array(0),
            Self::Action(mask) => w.uint(mask.bits().into()),
            Self::Commands(None) => w.nil(),
            Self::Commands(Some(commands)) => {
                w.array(commands.len());
                for Command { args, exact } in commands {
                    w.array(2);
                    encode_texts(w, args.as_deref());
                    w.boolean(*exact);
                }
            }
            Self::AllowedRoles(roles) => w.uint((*roles).into()),
            Self::FlySrc {
                organization,
                app,
                instance,
            } => {
                w.array(3);
                [organization, app, instance]
                    .into_iter()
                    .for_each(|part| w.text(part.as_bytes()));
            }
            Self::Unregistered { body, .. } => w.0.extend_from_slice(body),
        }
    }
}

/// The canonical encoding of a caveat set: one flat array of type numbers and bodies. With one
/// caveat it is also that caveat's HMAC input.
pub fn encode_caveats(caveats: &[Caveat]) -> Vec<u8> {
    let mut w = Writer::default();
    encode_set(&mut w, caveats);
    w.0
}

pub(in crate::macaroon) fn encode_set(w: &mut Writer, caveats: &[Caveat]) {
    w.array(caveats.len().saturating_mul(2));
    caveats.iter().for_each(|caveat| caveat.encode(w));
}

fn encode_map<K: Ord>(w: &mut Writer, map: &Resources<K>, key: impl Fn(&mut Writer, &K)) {
    w.array(1);
    if map.is_nil() {
        return w.nil();
    }
    w.map(map.entries().len());
    for (id, mask) in map.entries() {
        key(w, id);
        w.uint(mask.bits().into());
    }
}

fn encode_texts(w: &mut Writer, texts: Option<&[Text]>) {
    let Some(texts) = texts else { return w.nil() };
    w.array(texts.len());
    texts.iter().for_each(|text| w.text(text.as_bytes()));
}

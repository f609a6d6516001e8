//! Caveats: every type of format chapter 5, decoded from and encoded to canonical bytes.

use std::fmt;

use smallvec::SmallVec;

use super::action::Action;
use super::limits::Limits;
use super::wire::{Reader, WireError, Writer, deeper};

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

/// A string of the token, as raw bytes: the format does not ask for UTF-8.
///
/// Names and ids of usual length are kept in place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(SmallVec<[u8; 16]>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

/// Invalid UTF-8 becomes U+FFFD, control characters become escapes: text of a token may reach a
/// terminal.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in String::from_utf8_lossy(&self.0).chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A byte string of the token; `None` is nil, which hashes differently from empty.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(Option<Box<[u8]>>);

impl Blob {
    /// The bytes; nil has none.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    pub(super) fn nil_or_bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

impl From<Option<&[u8]>> for Blob {
    fn from(bytes: Option<&[u8]>) -> Self {
        Self(bytes.map(Into::into))
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Some(bytes).into()
    }
}

/// Shows the length only: tickets and sealed keys belong in no log.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("nil"),
            Some(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// Masks by resource, in ascending order of their keys, each key once.
///
/// The zero key (0, or the empty string) stands for every resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources<K>(Option<Vec<(K, Action)>>);

impl<K: Ord> Resources<K> {
    /// A map with these entries; of a repeated key the last one counts.
    pub fn new(entries: impl IntoIterator<Item = (K, Action)>) -> Self {
        let sorted: std::collections::BTreeMap<_, _> = entries.into_iter().collect();
        Self(Some(sorted.into_iter().collect()))
    }

    /// The nil map: like the empty one it permits nothing, but it hashes differently.
    pub const fn nil() -> Self {
        Self(None)
    }

    /// The entries in ascending order; nil has none.
    pub fn entries(&self) -> &[(K, Action)] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether the map is nil.
    pub const fn is_nil(&self) -> bool {
        self.0.is_none()
    }
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

    /// What a third party must discharge, if it is that.
    pub fn third_party(&self) -> Option<&ThirdParty> {
        match self.role() {
            Role::ThirdParty(third_party) => Some(third_party),
            Role::Binding(_) | Role::Attestation | Role::Restriction => None,
        }
    }

    /// Appends the canonical encoding: type number, then body.
    pub(super) fn encode(&self, w: &mut Writer) {
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
            | Self::StorageObjects(map) => encode_map(w, map, |w, key| w.text(&key.0)),
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
                w.text(&location.0);
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
                w.text(&id.0);
            }
            Self::ConfineGoogleHd(domain) => w.text(&domain.0),
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
                    .for_each(|part| w.text(&part.0));
            }
            Self::Unregistered { body, .. } => w.0.extend_from_slice(body),
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

/// The canonical encoding of a caveat set: one flat array of type numbers and bodies. With one
/// caveat it is also that caveat's HMAC input.
pub fn encode_caveats(caveats: &[Caveat]) -> Vec<u8> {
    let mut w = Writer::default();
    encode_set(&mut w, caveats);
    w.0
}

pub(super) fn encode_set(w: &mut Writer, caveats: &[Caveat]) {
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
    texts.iter().for_each(|text| w.text(&text.0));
}

/// Reads caveat sets and counts their caveats against the limits.
#[derive(Debug)]
pub(super) struct CaveatReader<'l> {
    limits: &'l Limits,
    seen: usize,
}

impl<'l> CaveatReader<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { limits, seen: 0 }
    }

    /// A whole set; `each` receives every caveat, and the offset at which it ends. Returns the
    /// offset at which the first one begins.
    pub(super) fn set(
        &mut self,
        r: &mut Reader<'_>,
        depth: usize,
        mut each: impl FnMut(Caveat, usize),
    ) -> Result<usize, WireError> {
        let at = r.at();
        let items = r.array()?;
        if !items.is_multiple_of(2) {
            let expected = "pairs of caveat type and body";
            return Err(WireError::Type { at, expected });
        }
        let first = r.at();
        for _ in 0..items / 2 {
            each(self.caveat(r, depth)?, r.at());
        }
        Ok(first)
    }

    fn caveat(&mut self, r: &mut Reader<'_>, depth: usize) -> Result<Caveat, WireError> {
        self.seen = self.seen.saturating_add(1);
        if self.seen > self.limits.caveats {
            return Err(WireError::TooManyCaveats {
                limit: self.limits.caveats,
            });
        }
        Ok(match r.uint()? {
            0 => {
                r.fields(2, "Organization: id and mask")?;
                Caveat::Organization {
                    id: r.uint()?,
                    mask: mask(r)?,
                }
            }
            2 => Caveat::Volumes(names(r)?),
            3 => Caveat::Apps(resources(r, Reader::uint)?),
            4 => {
                r.fields(2, "ValidityWindow: not-before and not-after")?;
                Caveat::ValidityWindow {
                    not_before: r.int()?,
                    not_after: r.int()?,
                }
            }
            5 => Caveat::FeatureSet(names(r)?),
            6 => {
                r.fields(1, "Mutations: a list of names")?;
                Caveat::Mutations(texts(r)?)
            }
            7 => Caveat::Machines(names(r)?),
            8 => Caveat::ConfineUser(wrapped_id(r)?),
            9 => Caveat::ConfineOrganization(wrapped_id(r)?),
            10 => Caveat::IsUser(wrapped_id(r)?),
            11 => {
                r.fields(3, "3P: location, verifier key and ticket")?;
                Caveat::ThirdParty(ThirdParty {
                    location: r.text()?.into(),
                    verifier_key: r.blob()?.into(),
                    ticket: r.blob()?.into(),
                })
            }
            12 => Caveat::BindToParentToken(r.blob()?.into()),
            13 => self.if_present(r, depth)?,
            14 => Caveat::MachineFeatureSet(names(r)?),
            15 => {
                r.fields(1, "FromMachineSource: a machine id")?;
                Caveat::FromMachineSource(r.text()?.into())
            }
            16 => Caveat::Clusters(names(r)?),
            19 => Caveat::ConfineGoogleHd(r.text()?.into()),
            20 => Caveat::ConfineGitHubOrg(r.uint()?),
            21 => Caveat::MaxValidity(r.uint()?),
            22 => {
                r.fields(0, "IsMember: an empty array")?;
                Caveat::IsMember
            }
            23 => Caveat::FlyioUserId(r.uint()?),
            24 => Caveat::GitHubUserId(r.uint()?),
            25 => google_user_id(r)?,
            26 => Caveat::Action(mask(r)?),
            27 => commands(r)?,
            28 => Caveat::AppFeatureSet(names(r)?),
            29 => Caveat::StorageObjects(names(r)?),
            30 => Caveat::AllowedRoles(r.u32()?),
            31 => {
                r.fields(3, "FlySrc: organization, app and instance")?;
                Caveat::FlySrc {
                    organization: r.text()?.into(),
                    app: r.text()?.into(),
                    instance: r.text()?.into(),
                }
            }
            kind => {
                let from = r.at();
                r.skip_value(depth, self.limits.depth)?;
                let body = r.span(from);
                if body == [0xc0] {
                    // The reference loses the type of such a caveat and can never verify it.
                    return Err(WireError::Type {
                        at: from,
                        expected: "a body that is not nil",
                    });
                }
                Caveat::Unregistered {
                    kind,
                    body: body.into(),
                }
            }
        })
    }

    fn if_present(&mut self, r: &mut Reader<'_>, depth: usize) -> Result<Caveat, WireError> {
        let at = r.at();
        r.fields(2, "IfPresent: caveats and a mask")?;
        let inner = deeper(at, depth, self.limits.depth)?;
        let mut ifs = Vec::new();
        // A nil set, which crashes the reference, is refused here with all that is no array.
        self.set(r, inner, |caveat, _| ifs.push(caveat))?;
        Ok(Caveat::IfPresent {
            ifs: Some(ifs),
            otherwise: mask(r)?,
        })
    }
}

fn mask(r: &mut Reader<'_>) -> Result<Action, WireError> {
    r.u16().map(Action::from_bits)
}

fn wrapped_id(r: &mut Reader<'_>) -> Result<u64, WireError> {
    r.fields(1, "an array with one id")?;
    r.uint()
}

fn names(r: &mut Reader<'_>) -> Result<Resources<Text>, WireError> {
    resources(r, |r| r.text().map(Text::from))
}

fn resources<'a, K: Ord>(
    r: &mut Reader<'a>,
    mut key: impl FnMut(&mut Reader<'a>) -> Result<K, WireError>,
) -> Result<Resources<K>, WireError> {
    r.fields(1, "an array with one map")?;
    let Some(len) = r.nil_or_map()? else {
        return Ok(Resources::nil());
    };
    let mut entries: Vec<(K, Action)> = Vec::with_capacity(len);
    for _ in 0..len {
        let at = r.at();
        let entry = (key(r)?, mask(r)?);
        if entries.last().is_some_and(|last| last.0 >= entry.0) {
            return Err(WireError::NotCanonical {
                at,
                rule: "keys ascend and do not repeat",
            });
        }
        entries.push(entry);
    }
    Ok(Resources(Some(entries)))
}

fn texts(r: &mut Reader<'_>) -> Result<Option<Vec<Text>>, WireError> {
    let Some(len) = r.nil_or_array()? else {
        return Ok(None);
    };
    (0..len)
        .map(|_| r.text().map(Text::from))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn commands(r: &mut Reader<'_>) -> Result<Caveat, WireError> {
    let Some(len) = r.nil_or_array()? else {
        return Ok(Caveat::Commands(None));
    };
    let command = |_| {
        r.fields(2, "a command: words, and whether they are all")?;
        Ok(Command {
            args: texts(r)?,
            exact: r.boolean()?,
        })
    };
    (0..len)
        .map(command)
        .collect::<Result<_, _>>()
        .map(|commands| Caveat::Commands(Some(commands)))
}

/// A big-endian number. Leading zeros and nil are other ways to write the same one.
fn google_user_id(r: &mut Reader<'_>) -> Result<Caveat, WireError> {
    let at = r.at();
    match r.blob()? {
        Some([0, ..]) => Err(WireError::NotCanonical {
            at,
            rule: "no leading zeros",
        }),
        None => Err(WireError::NotCanonical {
            at,
            rule: "zero is the empty byte string",
        }),
        bytes => Ok(Caveat::GoogleUserId(bytes.into())),
    }
}

/// Decodes a caveat set that stands alone, as in a ticket or in HMAC input.
pub fn decode_caveats(bytes: &[u8], limits: &Limits) -> Result<Vec<Caveat>, WireError> {
    let mut r = Reader::new(bytes);
    let mut caveats = Vec::new();
    CaveatReader::new(limits).set(&mut r, 0, |caveat, _| caveats.push(caveat))?;
    r.finish()?;
    Ok(caveats)
}

//! Canonical bytes to caveats.

use super::{Caveat, Command, Resources, Text, ThirdParty};
use crate::macaroon::action::Action;
use crate::macaroon::limits::Limits;
use crate::macaroon::wire::{Reader, WireError, deeper};

/// Reads caveat sets and counts their caveats against the limits.
#[derive(Debug)]
pub(in crate::macaroon) struct CaveatReader<'l> {
    limits: &'l Limits,
    seen: usize,
}

impl<'l> CaveatReader<'l> {
    pub(in crate::macaroon) fn new(limits: &'l Limits) -> Self {
        Self { limits, seen: 0 }
    }

    /// A whole set; `each` receives every caveat, and the offset at which it ends. Returns the
    /// offset at which the first one begins.
    pub(in crate::macaroon) fn set(
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

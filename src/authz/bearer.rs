//! From the credential header to verified tokens, and which of them are usable now.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use smallvec::SmallVec;

use super::TokenRef;
use super::denial::Unusable;
use crate::authority::{Revocations, Snapshot};
use crate::macaroon::{
    Bundle, Caveat, Defect, KnownChain, Limits, Tail, TailDigest, Text, ThirdParty, Token,
    Verified, Verifier, VerifyError, undischarged,
};
use crate::policy::{Access, Asked, Prohibition, Reason, Scope, clear, clear_presence, window};

/// The tokens of one header that verify. What depends on time or revocation is not decided yet.
#[derive(Debug)]
pub(super) struct Bearer {
    /// Permission tokens in the order of the header; at least one.
    candidates: Vec<Candidate>,
}

/// A permission token that verifies.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Position among the tokens of the header, from 0.
    pub(super) position: usize,
    pub(super) token: TokenRef,
    /// Names the key it was signed with.
    pub(super) key_id: Box<[u8]>,
    pub(super) verified: Verified,
    /// The user, from a trusted attestation.
    pub(super) user: Option<u64>,
    /// The first second of every window that is no part of another caveat.
    not_before: i64,
    /// The last second of them all.
    not_after: i64,
    /// The last second at which this token can permit anything: windows inside `IfPresent`
    /// included, which all count whenever they are reached.
    pub(super) lease_end: i64,
    /// What to tell the bearer when a discharge has expired.
    renewable: Box<[(Box<str>, Box<str>)]>,
    /// Computed for tokens whose lineage has a revocation.
    digests: OnceLock<Box<[TailDigest]>>,
}

/// Why a token does not permit an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A caveat prohibits it.
    Prohibited(Prohibition),
    /// The request is about the token's own organization, and it names not exactly one.
    NoOrg,
    /// The same for a cluster.
    NoCluster,
}

impl From<Prohibition> for Refused {
    fn from(prohibition: Prohibition) -> Self {
        Self::Prohibited(prohibition)
    }
}

/// The chain of each verified token, by nonce, for tokens attenuated from it.
pub(super) type Chains = Vec<(Box<[u8]>, Arc<KnownChain>)>;

impl Bearer {
    /// Verifies every permission token of a header value.
    pub(super) fn verify(
        value: &str,
        location: &Text,
        snapshot: &Snapshot,
        limits: &Limits,
        known: &dyn Fn(&[u8]) -> Option<Arc<KnownChain>>,
    ) -> Result<(Arc<Self>, Chains), Unusable> {
        let bundle = Bundle::parse(value, limits)
            .map_err(|error| Unusable::Malformed(error.to_string().into()))?;
        let key = |id: &[u8]| snapshot.keys.key(id);
        let chain = |token: &Token| is_long(token).then(|| known(token.nonce())).flatten();
        let verifier =
            Verifier::new(location, &key, &snapshot.third_parties, limits).with_known(&chain);
        let mut candidates = Vec::new();
        let mut chains = Vec::new();
        let mut nearest = None;
        for (position, token, verified) in verifier.verify_all(&bundle) {
            match verified {
                Ok(verified) => {
                    if is_long(token) {
                        let chain = Arc::new(KnownChain::of(token, &verified));
                        chains.push((token.nonce().into(), chain));
                    }
                    candidates.push(Candidate::new(position, token, verified));
                }
                Err(error) => nearest = nearest.max(Some(unusable(error, &bundle, token))),
            }
        }
        if candidates.is_empty() {
            return Err(nearest.unwrap_or_else(|| no_permission(&bundle)));
        }
        Ok((Arc::new(Self { candidates }), chains))
    }

    /// The tokens that are usable now: not revoked, and every window open. Never empty.
    pub(super) fn usable(
        &self,
        revocations: &Revocations,
        now: i64,
    ) -> Result<SmallVec<[&Candidate; 2]>, Unusable> {
        let mut usable = SmallVec::new();
        let mut nearest = Unusable::Missing;
        for candidate in &self.candidates {
            match candidate.usable(revocations, now) {
                Ok(()) => usable.push(candidate),
                Err(error) => nearest = nearest.max(error),
            }
        }
        if usable.is_empty() {
            Err(nearest)
        } else {
            Ok(usable)
        }
    }

    /// The permission token at this position of the header.
    pub(super) fn at(&self, position: usize) -> Option<&Candidate> {
        self.candidates
            .iter()
            .find(|candidate| candidate.position == position)
    }

    /// The last second at which any of the tokens is usable.
    pub(super) fn not_after(&self) -> i64 {
        self.candidates
            .iter()
            .map(|candidate| candidate.not_after)
            .max()
            .unwrap_or(i64::MIN)
    }

    /// Bytes it holds, roughly.
    pub(super) fn weight(&self) -> usize {
        self.candidates
            .iter()
            .map(|candidate| {
                let renewable = candidate.renewable.iter();
                let tickets: usize = renewable
                    .map(|(location, ticket)| location.len() + ticket.len() + 32)
                    .sum();
                candidate.verified.weight()
                    + tickets
                    + candidate.key_id.len()
                    + size_of::<Candidate>()
            })
            .sum()
    }

    /// Spreads expiry: differs between tokens, the same for one token.
    pub(super) fn jitter(&self) -> u8 {
        self.candidates
            .first()
            .map_or(0, |candidate| candidate.token.fingerprint[0])
    }
}

impl Candidate {
    fn new(position: usize, token: &Token, verified: Verified) -> Self {
        let digest = verified
            .tails()
            .last()
            .map(Tail::digest)
            .unwrap_or_default();
        let (fingerprint, _) = digest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let mut candidate = Self {
            position,
            token: TokenRef {
                uuid: token.uuid(),
                fingerprint: *fingerprint,
            },
            key_id: token.key_id().into(),
            user: None,
            not_before: i64::MIN,
            not_after: i64::MAX,
            lease_end: i64::MAX,
            renewable: tickets(token.caveats().iter().filter_map(Caveat::third_party)),
            verified,
            digests: OnceLock::new(),
        };
        let mut users = SmallVec::<[u64; 1]>::new();
        for caveat in candidate.verified.caveats() {
            candidate.lease_end = candidate.lease_end.min(end(caveat));
            if let Caveat::ValidityWindow {
                not_before,
                not_after,
            } = caveat
            {
                candidate.not_before = candidate.not_before.max(*not_before);
                candidate.not_after = candidate.not_after.min(*not_after);
            } else if let Caveat::FlyioUserId(user) = caveat {
                users.push(*user);
            }
        }
        // Discharges that name different users name none.
        users.dedup();
        if let [user] = users[..] {
            candidate.user = Some(user);
        }
        candidate
    }

    /// Whether all caveats permit the access, or, without one, whether they permit anything: its
    /// organization then, and its cluster where only this token names it.
    pub(super) fn permits(
        &self,
        asked: Option<&Asked<'_>>,
        now: i64,
    ) -> Result<(Option<u64>, Option<Box<str>>), Refused> {
        let caveats = || self.verified.caveats();
        match asked {
            None => {
                clear_presence(caveats(), now)?;
                Ok((None, None))
            }
            Some(asked) if !asked.depends_on_token() => {
                clear(caveats(), &asked.access, now)?;
                Ok((asked.access.org, None))
            }
            Some(asked) => {
                let access = self.own(asked)?;
                clear(caveats(), &access, now)?;
                let cluster = access.cluster.filter(|_| asked.own_cluster);
                Ok((access.org, cluster.map(Into::into)))
            }
        }
    }

    /// The access with what this token fills in.
    pub(super) fn own<'a>(&'a self, asked: &Asked<'a>) -> Result<Access<'a>, Refused> {
        let scope = Scope::of(self.verified.caveats());
        asked
            .of(scope)
            .ok_or(match asked.own_org && scope.org.is_none() {
                true => Refused::NoOrg,
                false => Refused::NoCluster,
            })
    }

    /// Whether it, or one that it was attenuated from, is revoked.
    pub(super) fn is_revoked(&self, revocations: &Revocations) -> bool {
        let digests = || {
            self.digests
                .get_or_init(|| self.verified.tails().iter().map(Tail::digest).collect())
        };
        revocations.revoked(&self.token.uuid, digests)
    }

    fn usable(&self, revocations: &Revocations, now: i64) -> Result<(), Unusable> {
        if self.is_revoked(revocations) {
            return Err(Unusable::Revoked);
        }
        // The two bounds are the strictest of all windows, unless one of them lies past what the
        // reference's clock can hold; then every window is asked.
        if self.not_before <= now && now <= self.not_after && self.not_after <= PLAIN_SECONDS {
            return Ok(());
        }
        self.verified
            .caveats()
            .enumerate()
            .try_for_each(|(at, caveat)| {
                let Caveat::ValidityWindow {
                    not_before,
                    not_after,
                } = caveat
                else {
                    return Ok(());
                };
                match window(*not_before, *not_after, now) {
                    Ok(()) => Ok(()),
                    Err(Reason::NotYetValid) => Err(Unusable::NotYetValid),
                    Err(_) if self.is_of_discharge(at) => {
                        Err(Unusable::Undischarged(self.renewable.clone()))
                    }
                    Err(_) => Err(Unusable::Expired),
                }
            })
    }

    fn is_of_discharge(&self, caveat: usize) -> bool {
        self.verified
            .origin(caveat)
            .is_some_and(|origin| origin.token != self.position)
    }
}

/// The last second at which a caveat is met, as far as it is about time.
fn end(caveat: &Caveat) -> i64 {
    if let Caveat::ValidityWindow { not_after, .. } = caveat {
        *not_after
    } else if let Caveat::IfPresent { ifs, .. } = caveat {
        ifs.iter().flatten().map(end).min().unwrap_or(i64::MAX)
    } else {
        i64::MAX
    }
}

/// Whether a token has so many caveats that looking for a known chain pays.
fn is_long(token: &Token) -> bool {
    token.caveats().len() >= LONG
}

fn unusable(error: VerifyError, bundle: &Bundle, token: &Token) -> Unusable {
    match error {
        VerifyError::UnknownKey => Unusable::UnknownKey,
        VerifyError::Signature => Unusable::BadSignature,
        VerifyError::Undischarged { .. } => {
            Unusable::Undischarged(tickets(undischarged(bundle, token)))
        }
        VerifyError::Bound { .. }
        | VerifyError::Attestation { .. }
        | VerifyError::VerifierKey { .. }
        | VerifyError::Discharge { .. } => Unusable::BadDischarge(error.to_string().into()),
    }
}

fn no_permission(bundle: &Bundle) -> Unusable {
    let text = match (bundle.defects.first(), bundle.tokens.is_empty()) {
        (Some(defect), true) => Defect::to_string(defect),
        _ => "none of the tokens is a permission token of this authority".to_owned(),
    };
    Unusable::Malformed(text.into())
}

/// Location and ticket of each, for a client that fetches discharges.
fn tickets<'a>(third_parties: impl Iterator<Item = &'a ThirdParty>) -> Box<[(Box<str>, Box<str>)]> {
    let ticket = |third_party: &ThirdParty| {
        let ticket = STANDARD.encode(third_party.ticket.as_bytes());
        (third_party.location.to_string().into(), ticket.into())
    };
    third_parties.map(ticket).collect()
}

/// From this many caveats on a token's chain is remembered and looked for. Below, computing it
/// costs about as much as the look-up.
const LONG: usize = 4;

/// Up to here, in Unix seconds (the year 2286), plain comparison of window bounds is exact.
const PLAIN_SECONDS: i64 = 9_999_999_999;

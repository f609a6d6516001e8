//! The HMAC chain and its discharges (format chapters 6 to 8): tokens in, [`Verified`] out.

use std::sync::Arc;

use smallvec::SmallVec;
use thiserror::Error;
use zeroize::Zeroizing;

use super::caveat::{Caveat, Role, Text, ThirdParty};
use super::header::Bundle;
use super::key::{SigningKey, Tail, TailDigest, UnsealError, unseal};
use super::limits::Limits;
use super::ticket::Ticket;
use super::token::Token;

/// What tokens are verified with.
#[derive(Clone, Copy)]
pub struct Verifier<'a> {
    location: &'a Text,
    key: &'a dyn Fn(&[u8]) -> Option<&'a SigningKey>,
    third_parties: &'a ThirdPartyKeys,
    limits: &'a Limits,
    known: &'a dyn Fn(&Token) -> Option<Arc<KnownChain>>,
}

/// Keys shared with third parties, by location. A location may have several.
#[derive(Clone, Default)]
pub struct ThirdPartyKeys(Vec<(Text, Zeroizing<Vec<u8>>)>);

impl ThirdPartyKeys {
    /// Adds a key; one that is not 32 bytes long opens nothing.
    pub fn add(&mut self, location: Text, key: Zeroizing<Vec<u8>>) {
        self.0.push((location, key));
    }

    /// The keys shared with one location, in the order they were added.
    pub fn of<'a>(&'a self, location: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(of, _)| of.as_bytes() == location)
            .map(|(_, key)| key.as_slice())
    }

    /// The locations, in the order they were added; one with several keys comes as often.
    pub fn locations(&self) -> impl Iterator<Item = &Text> {
        self.0.iter().map(|(location, _)| location)
    }
}

impl std::fmt::Debug for ThirdPartyKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.locations()).finish()
    }
}

/// A permission token whose signature and discharges hold. Nothing else can be cleared.
///
/// It says nothing about time: the windows are among the caveats.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The token itself, then its discharges in the order of the caveats they answer.
    sources: SmallVec<[Source; 1]>,
    tails: Vec<Tail>,
}

#[derive(Clone, Debug)]
struct Source {
    /// Position in the bundle.
    token: usize,
    caveats: Arc<[Caveat]>,
    /// Whether its attestations count.
    trusted: bool,
}

impl Source {
    /// Whether a caveat is still to be cleared. Third-party and binding caveats have done their
    /// work by the time there is a [`Verified`].
    fn keeps(&self, caveat: &Caveat) -> bool {
        match caveat.role() {
            Role::Restriction => true,
            Role::Attestation => self.trusted,
            Role::ThirdParty(_) | Role::Binding(_) => false,
        }
    }
}

/// Where a verified caveat stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Position of its token in the bundle, from 0.
    pub token: usize,
    /// Its position in that token, from 0.
    pub caveat: usize,
}

impl Verified {
    /// All that restricts the bearer, and trusted attestations: the token's own caveats, then
    /// those of its discharges.
    pub fn caveats(&self) -> impl Iterator<Item = &Caveat> {
        self.sources
            .iter()
            .flat_map(|source| source.caveats.iter().filter(|caveat| source.keeps(caveat)))
    }

    /// Where the caveat at this position of [`caveats`](Self::caveats) stands.
    pub fn origin(&self, position: usize) -> Option<Origin> {
        let origins = self.sources.iter().flat_map(|source| {
            let kept = source
                .caveats
                .iter()
                .enumerate()
                .filter(|(_, kept)| source.keeps(kept));
            kept.map(|(caveat, _)| Origin {
                token: source.token,
                caveat,
            })
        });
        { origins }.nth(position)
    }

    /// Every tail of the chain, from that of the nonce alone.
    pub fn tails(&self) -> &[Tail] {
        &self.tails
    }

    /// Bytes it holds, nearly: what counts is that nothing of any size is left out.
    pub fn weight(&self) -> usize {
        let caveats = self.sources.iter().flat_map(|source| source.caveats.iter());
        let caveats: usize = caveats.map(Caveat::weight).sum();
        let tails = self
            .tails
            .len()
            .saturating_mul(size_of::<Tail>().saturating_add(size_of::<TailDigest>()));
        caveats
            .saturating_add(tails)
            .saturating_add(size_of::<Self>())
    }

    fn add(&mut self, token: usize, of: &Token, trusted: bool) {
        self.sources.push(Source {
            token,
            caveats: of.shared_caveats(),
            trusted,
        });
    }
}

/// Why a permission token is not verified. Positions are those of caveats in the token, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// No key has the id that the nonce names.
    #[error("no key is known for this token")]
    UnknownKey,
    /// The tail is not that of the chain.
    #[error("the signature does not fit: the token was changed, or signed with another key")]
    Signature,
    /// Only discharges are bound to a parent.
    #[error("caveat {caveat}: a permission token cannot be bound to a parent")]
    Bound {
        /// Position of the binding caveat.
        caveat: usize,
    },
    /// An attestation outside a proof.
    #[error("caveat {caveat}: attestations belong into discharges only")]
    Attestation {
        /// Position of the attestation.
        caveat: usize,
    },
    /// No token of the header answers this caveat.
    #[error("caveat {caveat}: the third party has not discharged it")]
    Undischarged {
        /// Position of the third-party caveat.
        caveat: usize,
    },
    /// The sealed discharge key does not open: the caveat was moved or damaged.
    #[error("caveat {caveat}: the discharge key cannot be unsealed")]
    VerifierKey {
        /// Position of the third-party caveat.
        caveat: usize,
    },
    /// None of the discharges for this caveat holds.
    #[error("caveat {caveat}: {cause}")]
    Discharge {
        /// Position of the third-party caveat.
        caveat: usize,
        /// Why the last one tried does not.
        cause: DischargeError,
    },
}

/// Why a discharge does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DischargeError {
    /// The tail is not that of the chain under the key that the caveat carries.
    #[error("the signature of the discharge does not fit")]
    Signature,
    /// Made for another parent.
    #[error("the discharge is bound to another token")]
    Parent,
    /// An attestation outside a proof.
    #[error("the discharge has an attestation, but is no proof")]
    Attestation,
    /// Discharges cannot have third-party caveats of their own.
    #[error("the discharge itself waits for a third party")]
    ThirdParty,
    /// The ticket holds another key than the caveat.
    #[error("ticket and caveat hold different keys")]
    TicketKey,
    /// The ticket opens, but is none.
    #[error("the ticket cannot be read")]
    Ticket,
    /// More discharges for one ticket than the limit, and none of those tried holds.
    #[error("more than {limit} discharges for one ticket")]
    TooMany {
        /// [`Limits::discharges_per_ticket`].
        limit: usize,
    },
    /// More discharges to try for the whole header than the limit.
    #[error("more than {limit} discharges to try for one header")]
    Budget {
        /// [`Limits::discharges`].
        limit: usize,
    },
}

impl<'a> Verifier<'a> {
    /// Tokens with this location are permission tokens, all others possible discharges. `key`
    /// finds signing keys by their id; attestations of these third parties are trusted. Of the
    /// limits, those of decoding have been applied by then.
    pub fn new(
        location: &'a Text,
        key: &'a dyn Fn(&[u8]) -> Option<&'a SigningKey>,
        third_parties: &'a ThirdPartyKeys,
        limits: &'a Limits,
    ) -> Self {
        Self {
            location,
            key,
            third_parties,
            limits,
            known: &|_| None,
        }
    }

    /// Starts from a chain verified earlier, if `known` has one that begins with the token's nonce
    /// and was verified under the same key.
    pub fn with_known(mut self, known: &'a dyn Fn(&Token) -> Option<Arc<KnownChain>>) -> Self {
        self.known = known;
        self
    }

    /// Whether a token of a bundle is a permission token.
    pub fn is_permission(&self, token: &Token) -> bool {
        token.location() == self.location.as_bytes()
    }

    /// Verifies every permission token of a bundle, in order, each with its position.
    pub fn verify_all<'b>(
        &self,
        bundle: &'b Bundle,
    ) -> impl Iterator<Item = (usize, &'b Token, Result<Verified, VerifyError>)> {
        let mut budget = self.limits.discharges;
        let permissions = bundle.tokens.iter().enumerate();
        permissions
            .filter(|(_, token)| self.is_permission(token))
            .map(move |(position, token)| {
                let verified = self.verify_within(bundle, position, token, &mut budget);
                (position, token, verified)
            })
    }

    /// Verifies one token of `bundle`, at `position`, with the discharges beside it.
    pub fn verify(
        &self,
        bundle: &Bundle,
        position: usize,
        token: &Token,
    ) -> Result<Verified, VerifyError> {
        self.verify_within(bundle, position, token, &mut self.limits.discharges.clone())
    }

    /// The chain comes first: nothing is unsealed for a bearer without a signed token. `budget`
    /// counts down the discharges that may still be tried.
    fn verify_within(
        &self,
        bundle: &Bundle,
        position: usize,
        token: &Token,
        budget: &mut usize,
    ) -> Result<Verified, VerifyError> {
        let key = (self.key)(token.key_id()).ok_or(VerifyError::UnknownKey)?;
        let tails = tails(token, key, (self.known)(token).as_deref());
        if !signed(token, &tails) {
            return Err(VerifyError::Signature);
        }
        let mut verified = Verified {
            sources: SmallVec::new(),
            tails,
        };
        // Whoever made the token had the root key, so what it attests is trusted.
        verified.add(position, token, true);
        let mut third_parties = Vec::new();
        for (caveat, restriction) in token.caveats().iter().enumerate() {
            match restriction.role() {
                Role::ThirdParty(third_party) => third_parties.push((caveat, third_party)),
                Role::Binding(_) => return Err(VerifyError::Bound { caveat }),
                Role::Attestation if !token.is_proof() => {
                    return Err(VerifyError::Attestation { caveat });
                }
                Role::Attestation | Role::Restriction => {}
            }
        }
        for (caveat, third_party) in third_parties {
            self.discharge(bundle, caveat, third_party, &mut verified, budget)?;
        }
        Ok(verified)
    }

    /// Finds the discharge of one caveat and takes over its caveats. The first that verifies is
    /// final, whatever its caveats will say.
    fn discharge(
        &self,
        bundle: &Bundle,
        caveat: usize,
        third_party: &ThirdParty,
        verified: &mut Verified,
        budget: &mut usize,
    ) -> Result<(), VerifyError> {
        let ticket = third_party.ticket.as_bytes();
        let mut candidates = bundle
            .tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| !self.is_permission(token) && token.key_id() == ticket)
            .peekable();
        if candidates.peek().is_none() {
            return Err(VerifyError::Undischarged { caveat });
        }
        let sealed_with = verified
            .tails
            .get(caveat)
            .ok_or(VerifyError::VerifierKey { caveat })?;
        let key = unseal(&sealed_with.to_bytes(), third_party.verifier_key.as_bytes())
            .map_err(|UnsealError| VerifyError::VerifierKey { caveat })?;
        let key = SigningKey::new(key);
        let limit = self.limits.discharges_per_ticket;
        let mut cause = DischargeError::TooMany { limit };
        for (tried, (position, discharge)) in candidates.enumerate() {
            if tried >= limit {
                cause = DischargeError::TooMany { limit };
                break;
            }
            *budget = budget.checked_sub(1).ok_or(VerifyError::Discharge {
                caveat,
                cause: DischargeError::Budget {
                    limit: self.limits.discharges,
                },
            })?;
            match self.check_discharge(discharge, &key, &verified.tails) {
                Ok(trusted) => {
                    verified.add(position, discharge, trusted);
                    return Ok(());
                }
                Err(error) => cause = error,
            }
        }
        Err(VerifyError::Discharge { caveat, cause })
    }

    /// Whether the discharge holds; if so, whether its attestations are trusted.
    fn check_discharge(
        &self,
        discharge: &Token,
        key: &SigningKey,
        parent: &[Tail],
    ) -> Result<bool, DischargeError> {
        if !signed(discharge, &tails(discharge, key, None)) {
            return Err(DischargeError::Signature);
        }
        let mut digests = None;
        for caveat in discharge.caveats() {
            match caveat.role() {
                Role::ThirdParty(_) => return Err(DischargeError::ThirdParty),
                Role::Binding(prefix) => {
                    let digests = digests
                        .get_or_insert_with(|| parent.iter().map(Tail::digest).collect::<Vec<_>>());
                    if !digests.iter().any(|digest| digest.starts_with(prefix)) {
                        return Err(DischargeError::Parent);
                    }
                }
                Role::Attestation if !discharge.is_proof() => {
                    return Err(DischargeError::Attestation);
                }
                Role::Attestation | Role::Restriction => {}
            }
        }
        self.is_trusted(discharge, key)
    }

    /// Whether the third party's own key opens the ticket, so that it must have been the one who
    /// answered it. The location is the discharge's own, which its bearer could have changed; a
    /// false one only loses trust.
    fn is_trusted(&self, discharge: &Token, key: &SigningKey) -> Result<bool, DischargeError> {
        let opened = self
            .third_parties
            .of(discharge.location())
            .find_map(|shared| unseal(shared, discharge.key_id()).ok());
        let Some(ticket) = opened else {
            return Ok(false);
        };
        let ticket = Ticket::decode(&ticket, self.limits).map_err(|_| DischargeError::Ticket)?;
        if !key.matches(&ticket.key) {
            return Err(DischargeError::TicketKey);
        }
        Ok(true)
    }
}

impl std::fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// The third-party caveats of a token that no other token of its bundle answers.
pub fn undischarged<'a>(
    bundle: &'a Bundle,
    token: &'a Token,
) -> impl Iterator<Item = &'a ThirdParty> {
    let answered = |third_party: &&ThirdParty| {
        bundle.tokens.iter().any(|other| {
            other.location() != token.location() && other.key_id() == third_party.ticket.as_bytes()
        })
    };
    let third_parties = token.caveats().iter().filter_map(Caveat::third_party);
    third_parties.filter(move |third_party| !answered(third_party))
}

/// The tails of a verified chain, with the bytes they were computed from.
///
/// A tail depends on nothing but the key, the nonce and the caveats before it, so a token that
/// shares them can start there: attenuating a token costs only the HMACs of the new caveats.
pub struct KnownChain {
    caveats: Vec<Box<[u8]>>,
    tails: Vec<Tail>,
}

impl KnownChain {
    /// What `verified` proved of `token`.
    pub fn of(token: &Token, verified: &Verified) -> Self {
        Self {
            caveats: token.caveat_spans().map(Into::into).collect(),
            tails: verified.tails.clone(),
        }
    }

    /// Bytes it holds, roughly.
    pub fn weight(&self) -> usize {
        let caveats: usize = self
            .caveats
            .iter()
            .map(|bytes| bytes.len().saturating_add(16))
            .sum();
        caveats
            .saturating_add(self.tails.len().saturating_mul(32))
            .saturating_add(64)
    }
}

impl std::fmt::Debug for KnownChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KnownChain({} caveats)", self.caveats.len())
    }
}

fn tails(token: &Token, key: &SigningKey, known: Option<&KnownChain>) -> Vec<Tail> {
    let mut caveats = token.caveat_spans();
    let mut tails = Vec::with_capacity(token.caveats().len().saturating_add(1));
    match known {
        None => tails.push(key.tail_of_nonce(token.nonce())),
        Some(known) => {
            let shared = caveats
                .clone()
                .zip(&known.caveats)
                .take_while(|(own, known)| **own == ***known)
                .count();
            tails.extend(known.tails.iter().take(shared.saturating_add(1)).cloned());
            caveats.by_ref().take(shared).for_each(drop);
        }
    }
    for caveat in caveats {
        if let Some(tail) = tails.last() {
            tails.push(tail.after(caveat));
        }
    }
    tails
}

/// Compares the token's tail with the last one computed, in constant time.
fn signed(token: &Token, tails: &[Tail]) -> bool {
    let Some(last) = tails.last() else {
        return false;
    };
    if token.is_proof() {
        last.finalized().matches(token.tail())
    } else {
        last.matches(token.tail())
    }
}

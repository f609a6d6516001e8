//! One token: decoded but not verified, minted, or attenuated.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;
use thiserror::Error;
use uuid::Uuid;

use super::caveat::{Caveat, CaveatReader, Role, Text, ThirdParty};
use super::key::{SEAL_NONCE_LEN, SigningKey, Tail, TailDigest, seal};
use super::limits::Limits;
use super::wire::{Reader, WireError, Writer};

/// A token as received or as made here. Nothing is known about its signature.
///
/// It keeps its bytes: they are canonical, so they are what the HMAC chain covers, and the chain
/// is computed over them in place. They are a credential, so `Debug` does not show them.
#[derive(Clone)]
pub struct Token {
    bytes: Vec<u8>,
    nonce: Nonce,
    location: Range<usize>,
    caveats: Arc<[Caveat]>,
    /// Where the first caveat begins.
    first: u32,
    /// Where each caveat ends. They lie back to back, type number and body.
    ends: SmallVec<[u32; TYPICAL_CAVEATS]>,
    tail: Range<usize>,
}

/// The part of a token that names its key and makes it unique (format chapter 3.1).
#[derive(Clone, Debug)]
struct Nonce {
    /// All of it, as a range of the token's bytes.
    span: Range<usize>,
    key_id: Range<usize>,
    rnd: Range<usize>,
    /// Two in version 0, three in version 1.
    fields: usize,
    proof: bool,
}

impl Token {
    /// Decodes one token; anything but the canonical encoding is refused.
    ///
    /// One exception stands in the reference's own cases: the proof flag of a nonce may be nil,
    /// which means false. It is rewritten to false here, as the signature expects.
    pub fn decode(mut bytes: Vec<u8>, limits: &Limits) -> Result<Self, WireError> {
        if bytes.len() > limits.token_bytes {
            return Err(WireError::TooLong {
                bytes: bytes.len(),
                limit: limits.token_bytes,
            });
        }
        let mut r = Reader::new(&bytes);
        r.fields(4, "a token: an array of nonce, location, caveats and tail")?;
        let nonce = Nonce::read(&mut r)?;
        let location = r.text()?.len();
        let location = r.at().saturating_sub(location)..r.at();
        let mut caveats = Vec::with_capacity(TYPICAL_CAVEATS);
        let mut ends = SmallVec::new();
        let first = CaveatReader::new(limits).set(&mut r, 0, |caveat, end| {
            caveats.push(caveat);
            ends.push(u32::try_from(end).unwrap_or(u32::MAX));
        })?;
        let tail = blob_range(&mut r)?;
        r.finish()?;
        if let (Some(flag @ 0xc0), 3) = (bytes.get_mut(nonce.flag()), nonce.fields) {
            *flag = 0xc2;
        }
        Ok(Self {
            nonce,
            location,
            caveats: caveats.into(),
            first: u32::try_from(first).unwrap_or(u32::MAX),
            ends,
            tail,
            bytes,
        })
    }

    /// Makes a new permission token, signed with `key`. `rnd` must be fresh randomness.
    ///
    /// # Errors
    /// Only for caveats that no token may have: an `IfPresent` of nil, or nested too deep.
    pub fn mint(
        key_id: &[u8],
        rnd: [u8; 16],
        location: &str,
        key: &SigningKey,
        caveats: &[Caveat],
    ) -> Result<Self, WireError> {
        Self::sign(
            Draft {
                key_id,
                rnd,
                location,
                proof: false,
                caveats,
            },
            key,
        )
    }

    /// Answers a third-party caveat: a finalized proof for `ticket`, signed with the key that the
    /// ticket carries. `rnd` must be fresh randomness.
    ///
    /// # Errors
    /// As [`mint`](Self::mint).
    pub fn discharge(
        ticket: &[u8],
        rnd: [u8; 16],
        location: &str,
        key: &SigningKey,
        caveats: &[Caveat],
    ) -> Result<Self, WireError> {
        Self::sign(
            Draft {
                key_id: ticket,
                rnd,
                location,
                proof: true,
                caveats,
            },
            key,
        )
    }

    fn sign(draft: Draft<'_>, key: &SigningKey) -> Result<Self, WireError> {
        let mut nonce = Writer::default();
        nonce.array(3);
        nonce.blob(Some(draft.key_id));
        nonce.blob(Some(&draft.rnd));
        nonce.boolean(draft.proof);
        let chain = Chain::start(key, &nonce.0).extended(draft.caveats);
        let tail = if draft.proof {
            chain.tail.finalized()
        } else {
            chain.tail.clone()
        };
        let bounds = Limits {
            token_bytes: usize::MAX,
            caveats: usize::MAX,
            ..Limits::DEFAULT
        };
        Self::assemble(&nonce.0, draft.location.as_bytes(), &chain, &tail, &bounds)
    }

    /// Appends caveats; no key is needed (format chapter 6.1).
    ///
    /// A caveat that is already there, or comes twice in `caveats`, is appended once.
    pub fn attenuate(&self, caveats: &[Caveat], limits: &Limits) -> Result<Self, AttenuateError> {
        if self.nonce.proof {
            return Err(AttenuateError::Proof);
        }
        let tail = Tail::from_presented(self.tail()).ok_or(AttenuateError::Tail)?;
        let mut locations = third_party_locations(&self.caveats);
        let mut added: Vec<Caveat> = Vec::with_capacity(caveats.len());
        for caveat in caveats {
            if self.caveats.contains(caveat) || added.contains(caveat) {
                continue;
            }
            match caveat.role() {
                Role::Attestation => return Err(AttenuateError::Attestation),
                Role::ThirdParty(ThirdParty { location, .. }) if locations.contains(location) => {
                    return Err(AttenuateError::RepeatedThirdParty(location.clone()));
                }
                Role::ThirdParty(_) | Role::Binding(_) | Role::Restriction => {}
            }
            locations.append(&mut third_party_locations(std::slice::from_ref(caveat)));
            added.push(caveat.clone());
        }
        let mut chain = Chain {
            encoded: self.caveat_bytes().to_vec(),
            added: self.caveats.len(),
            tail,
        };
        chain = chain.extended(&added);
        let location = self.location();
        Self::assemble(self.nonce(), location, &chain, &chain.tail, limits)
            .map_err(AttenuateError::Refused)
    }

    /// Appends a caveat that the third party at `location` must discharge with a token signed with
    /// `key`. `ticket` tells it that key, sealed for it; `nonce` must be fresh randomness.
    #[expect(
        clippy::expect_used,
        reason = "ChaCha20-Poly1305 seals up to 256 GiB (RFC 8439)"
    )]
    pub fn await_discharge(
        &self,
        location: &str,
        key: &[u8; 32],
        nonce: [u8; SEAL_NONCE_LEN],
        ticket: &[u8],
        limits: &Limits,
    ) -> Result<Self, AttenuateError> {
        let tail = Tail::from_presented(self.tail()).ok_or(AttenuateError::Tail)?;
        let verifier_key = seal(&tail.to_bytes(), nonce, key).expect("32 bytes can be sealed");
        let caveat = Caveat::ThirdParty(ThirdParty {
            location: location.into(),
            verifier_key: verifier_key.as_slice().into(),
            ticket: ticket.into(),
        });
        self.attenuate(&[caveat], limits)
    }

    /// Writes the token and reads it back: a token that this very program would refuse is of no
    /// use to anyone.
    fn assemble(
        nonce: &[u8],
        location: &[u8],
        chain: &Chain,
        tail: &Tail,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let mut w = Writer::default();
        w.array(4);
        w.0.extend_from_slice(nonce);
        w.text(location);
        w.array(chain.added.saturating_mul(2));
        w.0.extend_from_slice(&chain.encoded);
        w.blob(Some(&tail.to_bytes()));
        Self::decode(w.0, limits)
    }

    /// The canonical encoding. It is the credential itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Names the key; in a discharge, the ticket it answers.
    pub fn key_id(&self) -> &[u8] {
        self.slice(&self.nonce.key_id)
    }

    /// The nonce's random part.
    pub fn rnd(&self) -> &[u8] {
        self.slice(&self.nonce.rnd)
    }

    /// Whether the token is a finalized proof, which cannot be attenuated.
    pub fn is_proof(&self) -> bool {
        self.nonce.proof
    }

    /// Who made the token, or will have made it: the location is not covered by the signature.
    pub fn location(&self) -> &[u8] {
        self.slice(&self.location)
    }

    /// The caveats, in order.
    pub fn caveats(&self) -> &[Caveat] {
        &self.caveats
    }

    /// The public identifier of format chapter 3.2, shared by all tokens attenuated from one.
    pub fn uuid(&self) -> Uuid {
        let of_key = Uuid::new_v5(&UUID_NAMESPACE, self.key_id());
        Uuid::new_v5(&of_key, self.rnd())
    }

    /// The digest of the last tail, under which this token and everything attenuated from it is
    /// revoked. `None` when the tail is not one.
    pub fn tail_digest(&self) -> Option<TailDigest> {
        Tail::from_presented(self.tail()).map(|tail| tail.digest())
    }

    /// The whole nonce, as signed.
    pub fn nonce(&self) -> &[u8] {
        self.slice(&self.nonce.span)
    }

    /// The caveats, shared.
    pub(super) fn shared_caveats(&self) -> Arc<[Caveat]> {
        Arc::clone(&self.caveats)
    }

    /// The bytes of each caveat: the input of its HMAC less the array header.
    pub(super) fn caveat_spans(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let begins = std::iter::once(&self.first).chain(&self.ends);
        begins
            .zip(&self.ends)
            .map(|(begin, end)| self.between(*begin, *end))
    }

    pub(super) fn tail(&self) -> &[u8] {
        self.slice(&self.tail)
    }

    fn caveat_bytes(&self) -> &[u8] {
        self.between(self.first, self.ends.last().copied().unwrap_or(self.first))
    }

    fn between(&self, begin: u32, end: u32) -> &[u8] {
        let offset = |n| usize::try_from(n).unwrap_or(usize::MAX);
        self.slice(&(offset(begin)..offset(end)))
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("uuid", &self.uuid())
            .field("location", &Text::from(self.location()))
            .field("caveats", &self.caveats)
            .finish_non_exhaustive()
    }
}

impl Nonce {
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let from = r.at();
        let fields = r.array()?;
        let expected = "a nonce: key id, random bytes and, since version 1, whether it is a proof";
        if !matches!(fields, 2 | 3) {
            return Err(WireError::Type { at: from, expected });
        }
        let key_id = blob_range(r)?;
        let rnd = blob_range(r)?;
        let proof = if fields == 3 {
            r.nil_or_boolean()?.unwrap_or_default()
        } else {
            false
        };
        Ok(Self {
            span: from..r.at(),
            key_id,
            rnd,
            fields,
            proof,
        })
    }

    /// Offset of the proof flag, the last byte of a version 1 nonce.
    fn flag(&self) -> usize {
        self.span.end.saturating_sub(1)
    }
}

/// The content of the byte string that comes next, as a range of the input; nil is empty.
fn blob_range(r: &mut Reader<'_>) -> Result<Range<usize>, WireError> {
    let len = r.blob()?.map_or(0, <[u8]>::len);
    Ok(r.at().saturating_sub(len)..r.at())
}

/// What a new token is to say.
struct Draft<'a> {
    key_id: &'a [u8],
    rnd: [u8; 16],
    location: &'a str,
    proof: bool,
    caveats: &'a [Caveat],
}

/// Encoded caveats with the tail behind them.
struct Chain {
    encoded: Vec<u8>,
    added: usize,
    tail: Tail,
}

impl Chain {
    fn start(key: &SigningKey, nonce: &[u8]) -> Self {
        Self {
            encoded: Vec::new(),
            added: 0,
            tail: key.tail_of_nonce(nonce),
        }
    }

    fn extended(mut self, caveats: &[Caveat]) -> Self {
        for caveat in caveats {
            let mut w = Writer::default();
            caveat.encode(&mut w);
            self.tail = self.tail.after(&w.0);
            self.encoded.append(&mut w.0);
            self.added = self.added.saturating_add(1);
        }
        self
    }
}

/// Locations of third-party caveats, those inside `IfPresent` included.
fn third_party_locations(caveats: &[Caveat]) -> Vec<Text> {
    let mut found = Vec::new();
    for caveat in caveats {
        if let Caveat::ThirdParty(third_party) = caveat {
            found.push(third_party.location.clone());
        } else if let Caveat::IfPresent { ifs: Some(ifs), .. } = caveat {
            found.append(&mut third_party_locations(ifs));
        }
    }
    found
}

/// Why caveats cannot be appended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AttenuateError {
    /// The token is finalized.
    #[error("a proof cannot be attenuated: attenuate the permission token it belongs to")]
    Proof,
    /// The tail is not 32 bytes long, so the token never verified.
    #[error("the token's tail is not 32 bytes long: it is damaged")]
    Tail,
    /// An attestation states who discharged; only a proof may hold one.
    #[error("attestations belong into discharges only")]
    Attestation,
    /// There already is a third-party caveat for this location.
    #[error("the token already has a third-party caveat for {0}")]
    RepeatedThirdParty(Text),
    /// The result would be over a limit, or hold what no token may.
    #[error("the attenuated token would be refused: {0}")]
    Refused(WireError),
}

/// Room for the caveats of nearly every token in use.
const TYPICAL_CAVEATS: usize = 8;

/// `968fc2c6-a94f-4988-a544-2ad72b02f222`, the namespace of key ids.
const UUID_NAMESPACE: Uuid = Uuid::from_u128(0x968f_c2c6_a94f_4988_a544_2ad7_2b02_f222);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::macaroon::Action;
    use zeroize::Zeroizing;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn example() -> Token {
        let key = SigningKey::new(Zeroizing::new((0..32).collect()));
        let rnd: Vec<u8> = (0x10..0x20).collect();
        let caveats = [
            Caveat::Organization {
                id: 4721,
                mask: Action::ALL,
            },
            Caveat::Action(Action::READ),
        ];
        Token::mint(b"k1", rnd.try_into().unwrap(), "loc", &key, &caveats).unwrap()
    }

    /// The worked example of format chapter 6.
    #[test]
    fn minted_token_is_the_reference_token() {
        assert_eq!(
            hex(example().bytes()),
            "9493c4026b31c410101112131415161718191a1b1c1d1e1fc2a36c6f63940092cd12711f1a01c420\
             7d02a6176f1a03dc07f6d75d76b51a7e71778fa78020aa31617afbd5b13de2bf"
        );
    }

    #[test]
    fn uuid_is_the_reference_uuid() {
        assert_eq!(
            example().uuid().to_string(),
            "0b85b67a-e332-5811-ac50-2ef3899fe852"
        );
    }

    #[test]
    fn attenuating_step_by_step_gives_the_token_minted_at_once() {
        let key = SigningKey::new(Zeroizing::new((0..32).collect()));
        let rnd: Vec<u8> = (0x10..0x20).collect();
        let org = Caveat::Organization {
            id: 4721,
            mask: Action::ALL,
        };
        let base = Token::mint(
            b"k1",
            rnd.try_into().unwrap(),
            "loc",
            &key,
            std::slice::from_ref(&org),
        )
        .unwrap();
        let read = Caveat::Action(Action::READ);
        let token = base
            .attenuate(&[org, read.clone(), read], &Limits::DEFAULT)
            .unwrap();
        assert_eq!(token, example());
    }

    #[test]
    fn refusals_name_their_reason() {
        let token = example();
        let refused = |caveat| token.attenuate(&[caveat], &Limits::DEFAULT).unwrap_err();
        assert_eq!(refused(Caveat::FlyioUserId(1)), AttenuateError::Attestation);
        let key = SigningKey::new(Zeroizing::new(vec![7; 32]));
        let proof = Token::discharge(b"ticket", [1; 16], "loc", &key, &[]).unwrap();
        assert_eq!(
            proof.attenuate(&[], &Limits::DEFAULT).unwrap_err(),
            AttenuateError::Proof
        );
    }

    #[test]
    fn a_third_party_is_asked_once() {
        let asked = |location: &str, ticket: u8| {
            Caveat::ThirdParty(ThirdParty {
                location: location.into(),
                verifier_key: [0; 48].as_slice().into(),
                ticket: [ticket].as_slice().into(),
            })
        };
        let add = |token: &Token, caveats: &[Caveat]| token.attenuate(caveats, &Limits::DEFAULT);
        let token = add(&example(), &[asked("a", 1), asked("b", 1)]).unwrap();
        let repeated = AttenuateError::RepeatedThirdParty("a".into());
        assert_eq!(add(&token, &[asked("a", 2)]).unwrap_err(), repeated);
        let twice = [asked("a", 1), asked("a", 2)];
        assert_eq!(add(&example(), &twice).unwrap_err(), repeated);
        // The very same caveat is there already, and nothing is added.
        assert_eq!(add(&token, &[asked("a", 1)]).unwrap(), token);
        assert_ne!(token, example());
    }

    #[test]
    fn debug_output_holds_no_token_bytes() {
        let shown = format!("{:?}", example());
        assert!(
            !shown.contains("7d02a617") && !shown.contains("125, 2, 166"),
            "{shown}"
        );
    }
}

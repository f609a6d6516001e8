//! Tokens of a kind, and what third parties have to do with them.

use zeroize::Zeroizing;

use super::discharge::{Discharge, discharge};
use super::kinds::{Kind, Plan, Window};
use super::seal::{SealError, random};
use super::store::Issued;
use super::{Authority, AuthorityError, Request, Snapshot};
use crate::macaroon::{
    Bundle, Caveat, Limits, SEAL_NONCE_LEN, Ticket, Token, caveats_to_json, seal,
};

/// What tokens are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// What they may do.
    pub kind: &'a Kind,
    /// When they may do it.
    pub window: Window,
    /// A name for them, for the ledger.
    pub name: Option<&'a str>,
    /// The user of this host that asks for them, for the ledger.
    pub issuer: Option<&'a str>,
    /// Locations of third parties that have to discharge each of them.
    pub third_parties: &'a [&'a str],
    /// The user that the third parties vouch for: nobody else can have a token discharged, and
    /// the first discharges are made at once.
    pub user: Option<u64>,
}

impl Authority {
    /// Mints the tokens of a kind, with their discharges behind them, as they travel in one
    /// header. They are in the ledger by the time they are returned, all or none.
    ///
    /// Tokens that share a nonce share its third-party caveats, and one entry of the ledger.
    pub fn grant(&self, grant: &Grant<'_>, now: i64) -> Result<Bundle, AuthorityError> {
        let snapshot = self.snapshot();
        let mut bundle = Bundle::default();
        let mut discharges = Vec::new();
        let mut entries = Vec::new();
        for plan in grant.kind.plans(grant.window) {
            let mut issued = self.mint(&snapshot, &plan.issued)?;
            for location in grant.third_parties {
                let ticket;
                (issued, ticket) = await_discharge(&snapshot, &issued, location, grant.user)?;
                if grant.user.is_some() {
                    let asked = Discharge {
                        location,
                        ticket: &ticket,
                        user: grant.user,
                        window: Some(grant.window),
                    };
                    discharges.push(discharge(&snapshot.third_parties, &asked, now)?);
                }
            }
            let tokens = appended(&issued, &plan)?;
            // What several tokens have in common is the one that they were made from.
            let common = match tokens.as_slice() {
                [only] => only,
                _ => &issued,
            };
            let request = Request {
                kind: grant.kind.name(),
                name: grant.name,
                org: Some(plan.org),
                app: plan.app,
                caveats: common.caveats(),
                issuer: grant.issuer,
            };
            entries.push(Issued::of(common, &request, now)?);
            bundle.tokens.extend(tokens);
        }
        bundle.tokens.append(&mut discharges);
        self.shared.store().record(&entries)?;
        Ok(bundle)
    }

    /// A new token, signed with the active key.
    pub(super) fn mint(
        &self,
        snapshot: &Snapshot,
        caveats: &[Caveat],
    ) -> Result<Token, AuthorityError> {
        let (id, key) = snapshot.keys.active();
        let rnd = random().map_err(SealError::from)?;
        let location = self.location.to_string();
        Ok(Token::mint(id, *rnd, &location, key, caveats)?)
    }
}

impl Issued {
    /// The ledger's entry for a token.
    pub(super) fn of(
        token: &Token,
        request: &Request<'_>,
        now: i64,
    ) -> Result<Self, AuthorityError> {
        Ok(Self {
            uuid: token.uuid(),
            tail: token.tail_digest().ok_or(AuthorityError::Tail)?,
            key: Some(token.key_id().to_vec()),
            kind: request.kind.to_owned(),
            name: request.name.map(str::to_owned),
            org: request.org,
            app: request.app,
            caveats: caveats_to_json(request.caveats).to_string(),
            issued_at: now,
            expires_at: Window::of(request.caveats).end(),
            issuer: request.issuer.map(str::to_owned),
        })
    }
}

fn appended(issued: &Token, plan: &Plan) -> Result<Vec<Token>, AuthorityError> {
    let tokens = plan.appended.iter();
    let made = tokens.map(|caveats| issued.attenuate(caveats, &Limits::DEFAULT));
    Ok(made.collect::<Result<_, _>>()?)
}

/// The token with a caveat for the third party, and the ticket in it. Of several keys shared with
/// one location the first seals, so that the others can be kept for tickets made before.
fn await_discharge(
    snapshot: &Snapshot,
    token: &Token,
    location: &str,
    user: Option<u64>,
) -> Result<(Token, Vec<u8>), AuthorityError> {
    let keys = &snapshot.third_parties;
    let mut shared = keys.of(location.as_bytes());
    let shared: &[u8; 32] = shared
        .next()
        .and_then(|key| key.try_into().ok())
        .ok_or_else(|| AuthorityError::unknown_third_party(location, keys))?;
    let key = random::<32>().map_err(SealError::from)?;
    let nonce = || random::<SEAL_NONCE_LEN>().map_err(SealError::from);
    let ticket = Ticket {
        key: Zeroizing::new(key.to_vec()),
        caveats: user.into_iter().map(Caveat::ConfineUser).collect(),
    };
    let ticket = seal(shared, *nonce()?, &ticket.encode()).map_err(|_| SealError::TooLong)?;
    let token = token.await_discharge(location, &key, *nonce()?, &ticket, &Limits::DEFAULT)?;
    Ok((token, ticket))
}

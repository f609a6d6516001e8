//! Tickets: what a third party is told, for its eyes only (format chapter 7).

use zeroize::Zeroizing;

use super::caveat::{Caveat, CaveatReader, encode_caveats};
use super::limits::Limits;
use super::wire::{Reader, WireError, Writer};

/// What a third party reads in a ticket, once it is unsealed.
#[derive(Debug)]
pub struct Ticket {
    /// Signs the discharge.
    pub key: Zeroizing<Vec<u8>>,
    /// What the third party must check before it answers.
    pub caveats: Vec<Caveat>,
}

impl Ticket {
    /// Decodes the unsealed ticket.
    pub fn decode(plaintext: &[u8], limits: &Limits) -> Result<Self, WireError> {
        let mut r = Reader::new(plaintext);
        r.fields(2, "a ticket: key and caveats")?;
        let key = Zeroizing::new(r.blob()?.unwrap_or_default().to_vec());
        let mut caveats = Vec::new();
        CaveatReader::new(limits).set(&mut r, 0, |caveat, _| caveats.push(caveat))?;
        r.finish()?;
        Ok(Self { key, caveats })
    }

    /// The canonical encoding, to be sealed under the key shared with the third party. Wiped on
    /// drop, for it holds the key that signs the discharge.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let caveats = encode_caveats(&self.caveats);
        // All of it at once: a vector that grows leaves copies of the key behind.
        let room = self.key.len().saturating_add(caveats.len());
        let mut w = Writer(Vec::with_capacity(room.saturating_add(HEADERS)));
        w.array(2);
        w.blob(Some(&self.key));
        w.0.extend_from_slice(&caveats);
        Zeroizing::new(w.0)
    }
}

/// Room for the array header and the longest header of a byte string.
const HEADERS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// The plaintext that format chapter 7 gives.
    #[test]
    fn an_encoded_ticket_is_the_reference_ticket() {
        let key: Vec<u8> = (0x40..0x60).collect();
        let ticket = Ticket {
            key: Zeroizing::new(key.clone()),
            caveats: vec![Caveat::ConfineUser(300)],
        };
        let expected = [
            &[0x92, 0xc4, 0x20],
            key.as_slice(),
            &[0x92, 0x08, 0x91, 0xcd, 0x01, 0x2c],
        ]
        .concat();
        let encoded = ticket.encode();
        assert_eq!(*encoded, expected);
        let decoded = Ticket::decode(&encoded, &Limits::DEFAULT).unwrap();
        assert_eq!(*decoded.key, key);
        assert_eq!(decoded.caveats, ticket.caveats);
    }
}

//! Fly.io macaroons: decode, verify, attenuate, discharge, mint and encode.
//!
//! A token is a list of caveats below a nonce that names the signing key. Holders append caveats
//! without the key; nobody can remove one. The format is that of `superfly/macaroon` at commit
//! 8578343, byte for byte, with one deliberate difference: only canonical encodings are accepted.
//!
//! ```text
//! header text -> Bundle of Tokens -> Verifier -> Verified -> policy::clear
//! ```
//!
//! Nothing here reads a clock, a file, a socket or randomness; all of them are arguments.
#![deny(clippy::arithmetic_side_effects, clippy::as_conversions)]

mod action;
mod caveat;
mod chain;
mod header;
mod json;
mod key;
mod limits;
mod ticket;
mod token;
mod verify;
mod wire;
mod words;

pub use action::Action;
pub use caveat::{
    Blob, Caveat, Command, Resources, Role, Text, ThirdParty, decode_caveats, encode_caveats,
};
pub use header::{Bundle, Defect, HeaderError, Problem, without_scheme};
pub use json::{JsonError, caveats_from_json, caveats_to_json};
pub use key::{SEAL_NONCE_LEN, SigningKey, Tail, TailDigest, UnsealError, seal, unseal};
pub use limits::Limits;
pub use ticket::Ticket;
pub use token::{AttenuateError, Token};
pub use verify::{
    DischargeError, KnownChain, Origin, ThirdPartyKeys, Verified, Verifier, VerifyError,
    undischarged,
};
pub use wire::WireError;
pub use words::describe;

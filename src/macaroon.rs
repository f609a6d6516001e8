//! Fly.io macaroons.

mod action;
mod caveat;
mod key;
mod limits;
mod wire;

pub use action::Action;
pub use caveat::{
    Blob, Caveat, Command, Resources, Text, ThirdParty, decode_caveats, encode_caveats,
};
pub use key::{SEAL_NONCE_LEN, SigningKey, Tail, TailDigest, UnsealError, seal, unseal};
pub use limits::Limits;
pub use wire::WireError;

//! The steps of the HMAC chain: HMAC-SHA256 under a 32-byte key, on bare compressions.
//!
//! A token costs one step for each caveat, and verifying tokens is what usher does all day. With
//! key and message this short, buffering and state copies of a general HMAC are half as expensive
//! as the four compressions themselves. Keys of other lengths go through `hmac`, with which a test
//! compares this.

use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// HMAC-SHA256 with its key already taken in: the two hash states behind the key blocks.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Keyed {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Keyed {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let state = |pad| {
            let mut state = INITIAL;
            compress256(&mut state, &[padded(key, pad)]);
            state
        };
        Self {
            inner: state(0x36),
            outer: state(0x5c),
        }
    }

    /// The code of a message that comes as one byte and the rest.
    pub(super) fn mac(&self, first: u8, rest: &[u8]) -> [u32; 8] {
        let mut inner = self.inner;
        // The first block has room for 63 bytes behind the first one.
        let (head, tail) = rest.split_at(rest.len().min(BLOCK - 1));
        let mut block = started(head, 1);
        block[0] = first;
        let mut used = head.len().saturating_add(1);
        if used == BLOCK {
            compress256(&mut inner, &[block]);
            let (blocks, last) = tail.as_chunks();
            compress256(&mut inner, blocks);
            block = started(last, 0);
            used = last.len();
        }
        finish(&mut inner, block, used, rest.len().saturating_add(1));
        let digest = to_bytes(&inner);
        let mut outer = self.outer;
        finish(&mut outer, started(&digest, 0), digest.len(), digest.len());
        outer
    }
}

/// HMAC-SHA256 under a key that is used once, of a message that comes as one byte and the rest.
///
/// Where the message fits one block, as nearly every caveat does, each of the two hashes is one
/// call with both of its blocks.
pub(super) fn mac_once(key: &[u8; 32], first: u8, rest: &[u8]) -> [u32; 8] {
    if rest.len() > ONE_BLOCK {
        return Keyed::new(key).mac(first, rest);
    }
    let mut block = started(rest, 1);
    block[0] = first;
    let length = rest.len().saturating_add(1);
    let mut inner = INITIAL;
    compress256(
        &mut inner,
        &[padded(key, 0x36), padded_end(block, length, length)],
    );
    let digest = to_bytes(&inner);
    let last = padded_end(started(&digest, 0), digest.len(), digest.len());
    let mut outer = INITIAL;
    compress256(&mut outer, &[padded(key, 0x5c), last]);
    outer
}

/// The words of a hash state as the digest they are.
pub(super) fn to_bytes(words: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

/// The key block of RFC 2104: the key, zero-padded to a block, each byte combined with the pad.
fn padded(key: &[u8; 32], with: u8) -> [u8; BLOCK] {
    let mut block = [with; BLOCK];
    for (byte, key) in block.iter_mut().zip(key) {
        *byte ^= key;
    }
    block
}

/// A block of zeros that holds these bytes from `at` on; what does not fit is left out.
fn started(bytes: &[u8], at: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let end = at.saturating_add(bytes.len());
    if let Some(room) = block.get_mut(at..end) {
        room.copy_from_slice(bytes);
    }
    block
}

/// Hashes the last, partly filled block, and one more where its padding needs it.
fn finish(state: &mut [u32; 8], mut block: [u8; BLOCK], used: usize, message: usize) {
    if used >= BLOCK - LENGTH {
        if let Some(end) = block.get_mut(used) {
            *end = 0x80;
        }
        compress256(state, &[block]);
        // Nothing is left but the length.
        block = with_length([0; BLOCK], message);
    } else {
        block = padded_end(block, used, message);
    }
    compress256(state, &[block]);
}

/// Pads a block whose padding fits it (RFC 6234, section 4.1): a one bit, zeros, and the length of
/// all that was hashed, which is the key block and `message` bytes.
fn padded_end(mut block: [u8; BLOCK], used: usize, message: usize) -> [u8; BLOCK] {
    if let Some(end) = block.get_mut(used) {
        *end = 0x80;
    }
    with_length(block, message)
}

fn with_length(mut block: [u8; BLOCK], message: usize) -> [u8; BLOCK] {
    let bytes = u64::try_from(message)
        .unwrap_or(u64::MAX)
        .saturating_add(64);
    if let Some(length) = block.last_chunk_mut::<LENGTH>() {
        *length = bytes.saturating_mul(8).to_be_bytes();
    }
    block
}

/// The length in bits takes the last bytes of a block.
const LENGTH: usize = 8;

/// Bytes behind the first one of a message that leave room for the padding in its block.
const ONE_BLOCK: usize = BLOCK - LENGTH - 2;

const BLOCK: usize = 64;

/// SHA-256's initial state (RFC 6234, section 6.1).
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use super::*;

    /// Every length around the block boundaries, and some beyond.
    #[test]
    fn it_is_hmac_sha256() {
        let key: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 37 % 256).unwrap());
        let message: Vec<u8> = (0..=255).cycle().take(700).collect();
        for len in (1..300).chain([511, 512, 513, 700]) {
            let message = &message[..len];
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(message);
            let expected: [u8; 32] = mac.finalize().into_bytes().into();
            let actual = Keyed::new(&key).mac(message[0], &message[1..]);
            assert_eq!(to_bytes(&actual), expected, "{len} bytes");
            let once = mac_once(&key, message[0], &message[1..]);
            assert_eq!(to_bytes(&once), expected, "{len} bytes, once");
        }
    }
}

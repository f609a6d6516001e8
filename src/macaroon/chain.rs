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
    inner: State,
    outer: State,
}

/// The state of a hash, and equally a key or digest as the words it is read in.
pub(super) type State = [u32; 8];

impl Keyed {
    pub(super) fn new(key: &State) -> Self {
        let state = |pad| {
            let mut state = INITIAL;
            let mut block = [0; BLOCK];
            put_key(&mut block, key, pad);
            compress256(&mut state, &[block]);
            state
        };
        Self {
            inner: state(INNER),
            outer: state(OUTER),
        }
    }

    /// The code of a message that comes as one byte and the rest.
    pub(super) fn mac(&self, first: u8, rest: &[u8]) -> State {
        let mut inner = self.inner;
        // The first block has room for 63 bytes behind the first one.
        let (head, tail) = rest.split_at(rest.len().min(BLOCK - 1));
        let mut block = [0; BLOCK];
        block[0] = first;
        put(&mut block, 1, head);
        let mut used = head.len().saturating_add(1);
        if used == BLOCK {
            compress256(&mut inner, &[block]);
            let (blocks, last) = tail.as_chunks();
            compress256(&mut inner, blocks);
            block = [0; BLOCK];
            put(&mut block, 0, last);
            used = last.len();
        }
        put(&mut block, used, &[0x80]);
        if used >= BLOCK - LENGTH {
            // Nothing is left for the last block but the length.
            compress256(&mut inner, &[block]);
            block = [0; BLOCK];
        }
        put_length(&mut block, rest.len().saturating_add(1));
        compress256(&mut inner, &[block]);

        let mut outer = self.outer;
        let mut block = [0; BLOCK];
        put_digest(&mut block, &inner);
        compress256(&mut outer, &[block]);
        outer
    }
}

/// HMAC-SHA256 under a key that is used once, of a message that comes as one byte and the rest.
///
/// Where the message fits one block, as nearly every caveat does, each of the two hashes is one
/// call with both of its blocks, written in place.
pub(super) fn mac_once(key: &State, first: u8, rest: &[u8]) -> State {
    if rest.len() > ONE_BLOCK {
        return Keyed::new(key).mac(first, rest);
    }
    let length = rest.len().saturating_add(1);
    let mut blocks = [[0; BLOCK]; 2];
    let [key_block, block] = &mut blocks;
    put_key(key_block, key, INNER);
    block[0] = first;
    put(block, 1, rest);
    put(block, length, &[0x80]);
    put_length(block, length);
    let mut inner = INITIAL;
    compress256(&mut inner, &blocks);

    let mut blocks = [[0; BLOCK]; 2];
    let [key_block, block] = &mut blocks;
    put_key(key_block, key, OUTER);
    put_digest(block, &inner);
    let mut outer = INITIAL;
    compress256(&mut outer, &blocks);
    outer
}

/// The words of a state as the bytes they are.
pub(super) fn to_bytes(words: &State) -> [u8; 32] {
    let mut bytes = [0; 32];
    put_words(&mut bytes, words, 0);
    bytes
}

/// The words that these bytes are.
pub(super) fn from_bytes(bytes: &[u8; 32]) -> State {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

/// The key block of RFC 2104: the key, zero-padded to a block, all combined with the pad.
fn put_key(block: &mut [u8; BLOCK], key: &State, pad: u32) {
    block.fill(pad.to_be_bytes()[0]);
    put_words(block, key, pad);
}

/// The block that ends the outer hash: the inner digest and its padding.
fn put_digest(block: &mut [u8; BLOCK], digest: &State) {
    put_words(block, digest, 0);
    put(block, 32, &[0x80]);
    put_length(block, 32);
}

fn put_words(to: &mut [u8], words: &State, pad: u32) {
    for (bytes, word) in to.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = (word ^ pad).to_be_bytes();
    }
}

/// Writes bytes into a block; what does not fit is left out.
fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    if let Some(room) = block.get_mut(at..at.saturating_add(bytes.len())) {
        room.copy_from_slice(bytes);
    }
}

/// Ends the last block with the length in bits of all that was hashed (RFC 6234, section 4.1),
/// which is the key block and `message` bytes.
fn put_length(block: &mut [u8; BLOCK], message: usize) {
    let bytes = u64::try_from(message)
        .unwrap_or(u64::MAX)
        .saturating_add(64);
    if let Some(length) = block.last_chunk_mut::<LENGTH>() {
        *length = bytes.saturating_mul(8).to_be_bytes();
    }
}

/// The length in bits takes the last bytes of a block.
const LENGTH: usize = 8;

/// Bytes behind the first one of a message that leave room for the padding in its block.
const ONE_BLOCK: usize = BLOCK - LENGTH - 2;

/// The pads of RFC 2104, four bytes at a time.
const INNER: u32 = 0x3636_3636;
const OUTER: u32 = 0x5c5c_5c5c;

const BLOCK: usize = 64;

/// SHA-256's initial state (RFC 6234, section 6.1).
const INITIAL: State = [
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
            let actual = Keyed::new(&from_bytes(&key)).mac(message[0], &message[1..]);
            assert_eq!(to_bytes(&actual), expected, "{len} bytes");
            let once = mac_once(&from_bytes(&key), message[0], &message[1..]);
            assert_eq!(to_bytes(&once), expected, "{len} bytes, once");
        }
    }
}

//! Header blocks of HTTP/2 in clear (RFC 7541): Huffman's code hides what is in them.

use std::collections::HashMap;
use std::sync::LazyLock;

/// All names and values that a block spells out, one a line. What it takes from a table instead was
/// spelled out in an earlier block of the connection, or is in the RFC.
pub(super) fn literals(block: &[u8]) -> Vec<u8> {
    let (mut rest, mut lines) = (block, Vec::new());
    while let Some(first) = rest.first().copied() {
        let (index, spelled) = match first.leading_zeros() {
            0 => (integer(&mut rest, 7), false),
            1 => (integer(&mut rest, 6), true),
            2 => (integer(&mut rest, 5), false),
            _ => (integer(&mut rest, 4), true),
        };
        let strings = match (spelled, index) {
            (false, _) => 0,
            (true, 0) => 2,
            (true, _) => 1,
        };
        for _ in 0..strings {
            lines.extend(string(&mut rest));
            lines.push(b'\n');
        }
    }
    lines
}

/// An integer with a prefix of so many bits (5.1).
fn integer(from: &mut &[u8], prefix: u32) -> usize {
    let mask = (1 << prefix) - 1;
    let mut value = usize::from(byte(from)) & mask;
    if value < mask {
        return value;
    }
    let mut shift = 0;
    loop {
        let next = usize::from(byte(from));
        value += (next & 0x7f) << shift;
        shift += 7;
        if next < 0x80 {
            return value;
        }
    }
}

/// A string, in Huffman's code or not (5.2).
fn string(from: &mut &[u8]) -> Vec<u8> {
    let coded = from[0] >= 0x80;
    let length = integer(from, 7);
    let (own, rest) = from.split_at(length);
    *from = rest;
    match coded {
        true => decoded(own),
        false => own.to_vec(),
    }
}

fn byte(from: &mut &[u8]) -> u8 {
    *from.split_off_first().unwrap()
}

/// Fewer bits than a symbol has are left in the end, and mean nothing.
fn decoded(coded: &[u8]) -> Vec<u8> {
    let (mut bytes, mut code, mut bits) = (Vec::new(), 0, 0);
    for at in 0..coded.len() * 8 {
        code = code << 1 | u32::from(coded[at / 8] >> (7 - at % 8) & 1);
        bits += 1;
        if let Some(symbol) = SYMBOLS.get(&(bits, code)) {
            bytes.push(*symbol);
            (code, bits) = (0, 0);
        }
    }
    bytes
}

/// The symbol of each code, by the bits of it. Codes of one length follow each other in the order of
/// their symbols, and the first of a length follows the last of the one before (appendix B).
static SYMBOLS: LazyLock<HashMap<(u8, u32), u8>> = LazyLock::new(|| {
    let (mut symbols, mut code) = (HashMap::new(), 0);
    for bits in 1..=30 {
        code <<= 1;
        for (symbol, length) in LENGTHS.into_iter().enumerate() {
            if length == bits {
                symbols.insert((bits, code), u8::try_from(symbol).unwrap());
                code += 1;
            }
        }
    }
    symbols
});

/// How many bits the code of each byte has (appendix B). The end of a string, which has one as well,
/// is the very last code and occurs in none.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

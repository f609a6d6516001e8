//! The canonical MessagePack dialect of tokens (format chapter 2): a reader that accepts nothing
//! else, and the writer that emits it.
//!
//! The reference decodes leniently and hashes its own canonical re-encoding. Here only the
//! canonical encoding is accepted, so the received bytes *are* what is hashed, and no two
//! encodings of one token exist.

use thiserror::Error;

/// Why bytes are not one canonically encoded token. `at` is a byte offset into the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The input ends inside a value.
    #[error("truncated: the token ends at byte {at} inside a value")]
    Truncated {
        /// Where the unfinished value begins.
        at: usize,
    },
    /// A value of another type stands here.
    #[error("expected {expected} at byte {at}")]
    Type {
        /// Offset of the value.
        at: usize,
        /// What the format has here.
        expected: &'static str,
    },
    /// The value could be written shorter, or its parts in another order.
    #[error("not canonical at byte {at}: {rule}")]
    NotCanonical {
        /// Offset of the value.
        at: usize,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Bytes follow the token.
    #[error("{extra} bytes follow the token")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// The token is larger than the limit.
    #[error("token of {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// [`Limits::token_bytes`](super::Limits::token_bytes).
        limit: usize,
    },
    /// More caveats than the limit.
    #[error("more than {limit} caveats")]
    TooManyCaveats {
        /// [`Limits::caveats`](super::Limits::caveats).
        limit: usize,
    },
    /// Nested deeper than the limit.
    #[error("nested deeper than {limit} levels at byte {at}")]
    TooDeep {
        /// Offset of the value that goes too deep.
        at: usize,
        /// [`Limits::depth`](super::Limits::depth).
        limit: usize,
    },
}

use WireError::{NotCanonical, Truncated, Type};

const SHORTEST: &str = "the shortest form is required";

/// A bounds-checked cursor. Every read either yields a value in its canonical form or an error;
/// nothing is allocated.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.input.len().saturating_sub(self.at)
    }

    /// Everything between two offsets that this reader has passed.
    pub(super) fn span(&self, from: usize) -> &'a [u8] {
        self.input.get(from..self.at).unwrap_or_default()
    }

    pub(super) fn finish(&self) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            extra => Err(WireError::Trailing { extra }),
        }
    }

    fn peek(&self) -> Result<u8, WireError> {
        let at = self.at;
        self.input.get(at).copied().ok_or(Truncated { at })
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let at = self.at;
        let end = at.checked_add(len).ok_or(Truncated { at })?;
        let slice = self.input.get(at..end).ok_or(Truncated { at })?;
        self.at = end;
        Ok(slice)
    }

    fn tag(&mut self) -> Result<u8, WireError> {
        let tag = self.peek()?;
        self.at = self.at.saturating_add(1);
        Ok(tag)
    }

    /// A big-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<u64, WireError> {
        let bytes = self.bytes(width)?;
        Ok(bytes.iter().fold(0, |n, byte| (n << 8) | u64::from(*byte)))
    }

    /// A number of `width` bytes that would not fit the next shorter form.
    fn shortest(&mut self, at: usize, width: usize, min: u64) -> Result<u64, WireError> {
        let n = self.number(width)?;
        if n < min {
            return Err(NotCanonical { at, rule: SHORTEST });
        }
        Ok(n)
    }

    pub(super) fn uint(&mut self) -> Result<u64, WireError> {
        let at = self.at;
        match self.tag()? {
            n @ 0..=0x7f => Ok(n.into()),
            0xcc => self.shortest(at, 1, 0x80),
            0xcd => self.shortest(at, 2, 0x100),
            0xce => self.shortest(at, 4, 0x1_0000),
            0xcf => self.shortest(at, 8, 0x1_0000_0000),
            _ => Err(Type {
                at,
                expected: "an unsigned integer",
            }),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        let at = self.at;
        u32::try_from(self.uint()?).map_err(|_| Type {
            at,
            expected: "a 32-bit integer",
        })
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        let at = self.at;
        u16::try_from(self.uint()?).map_err(|_| Type {
            at,
            expected: "a 16-bit mask",
        })
    }

    /// A signed integer; only the bounds of a validity window are signed.
    pub(super) fn int(&mut self) -> Result<i64, WireError> {
        let at = self.at;
        let signed = |n: u64, bits: u32| -> i64 {
            // Sign-extend: shift the value's own sign bit to the top and back.
            let up = 64_u32.saturating_sub(bits);
            n.wrapping_shl(up).cast_signed().wrapping_shr(up)
        };
        let tag = self.peek()?;
        let (width, fits_shorter): (usize, fn(i64) -> bool) = match tag {
            0xe0..=0xff => {
                self.tag()?;
                return Ok(signed(tag.into(), 8));
            }
            0xd0 => (1, |n| n >= -32),
            0xd1 => (2, |n| n >= i64::from(i8::MIN)),
            0xd2 => (4, |n| n >= i64::from(i16::MIN)),
            0xd3 => (8, |n| n >= i64::from(i32::MIN)),
            _ => {
                let n = self.uint()?;
                return i64::try_from(n).map_err(|_| Type {
                    at,
                    expected: "a 64-bit signed integer",
                });
            }
        };
        self.tag()?;
        let bits = u32::try_from(width).unwrap_or(8).saturating_mul(8);
        let n = signed(self.number(width)?, bits);
        if fits_shorter(n) {
            return Err(NotCanonical { at, rule: SHORTEST });
        }
        Ok(n)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, WireError> {
        let at = self.at;
        match self.tag()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(Type {
                at,
                expected: "a boolean",
            }),
        }
    }

    /// A boolean; `None` is nil.
    pub(super) fn nil_or_boolean(&mut self) -> Result<Option<bool>, WireError> {
        match self.peek()? {
            0xc0 => self.tag().map(|_| None),
            _ => self.boolean().map(Some),
        }
    }

    /// A string, as raw bytes: the format does not ask for UTF-8.
    pub(super) fn text(&mut self) -> Result<&'a [u8], WireError> {
        let at = self.at;
        let len = match self.tag()? {
            tag @ 0xa0..=0xbf => u64::from(tag & 0x1f),
            0xd9 => self.shortest(at, 1, 32)?,
            0xda => self.shortest(at, 2, 0x100)?,
            0xdb => self.shortest(at, 4, 0x1_0000)?,
            _ => {
                return Err(Type {
                    at,
                    expected: "a string",
                });
            }
        };
        self.bytes(usize::try_from(len).map_err(|_| Truncated { at })?)
    }

    /// A byte string; `None` is nil, which hashes differently from empty.
    pub(super) fn blob(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        let at = self.at;
        let len = match self.tag()? {
            0xc0 => return Ok(None),
            0xc4 => self.number(1)?,
            0xc5 => self.shortest(at, 2, 0x100)?,
            0xc6 => self.shortest(at, 4, 0x1_0000)?,
            _ => {
                return Err(Type {
                    at,
                    expected: "a byte string",
                });
            }
        };
        self.bytes(usize::try_from(len).map_err(|_| Truncated { at })?)
            .map(Some)
    }

    /// An array header; `None` is nil.
    pub(super) fn nil_or_array(&mut self) -> Result<Option<usize>, WireError> {
        let at = self.at;
        let len = match self.tag()? {
            0xc0 => return Ok(None),
            tag @ 0x90..=0x9f => u64::from(tag & 0x0f),
            0xdc => self.shortest(at, 2, 16)?,
            0xdd => self.shortest(at, 4, 0x1_0000)?,
            _ => {
                return Err(Type {
                    at,
                    expected: "an array",
                });
            }
        };
        self.items(at, len, 1).map(Some)
    }

    /// An array header; nil is not one.
    pub(super) fn array(&mut self) -> Result<usize, WireError> {
        let at = self.at;
        self.nil_or_array()?.ok_or(Type {
            at,
            expected: "an array",
        })
    }

    /// The header of an array with exactly `len` items: a struct.
    pub(super) fn fields(&mut self, len: usize, expected: &'static str) -> Result<(), WireError> {
        let at = self.at;
        if self.array()? != len {
            return Err(Type { at, expected });
        }
        Ok(())
    }

    /// A map header; `None` is nil.
    pub(super) fn nil_or_map(&mut self) -> Result<Option<usize>, WireError> {
        let at = self.at;
        let len = match self.tag()? {
            0xc0 => return Ok(None),
            tag @ 0x80..=0x8f => u64::from(tag & 0x0f),
            0xde => self.shortest(at, 2, 16)?,
            0xdf => self.shortest(at, 4, 0x1_0000)?,
            _ => {
                return Err(Type {
                    at,
                    expected: "a map",
                });
            }
        };
        self.items(at, len, 2).map(Some)
    }

    /// Checks that a declared number of items can be there at all, so that no allocation is ever
    /// sized by a claim alone.
    fn items(&self, at: usize, len: u64, bytes_each: usize) -> Result<usize, WireError> {
        let len = usize::try_from(len).map_err(|_| Truncated { at })?;
        match len.checked_mul(bytes_each) {
            Some(needed) if needed <= self.left() => Ok(len),
            _ => Err(Truncated { at }),
        }
    }

    /// Skips one value of any type: the body of a caveat whose type is not known.
    ///
    /// Such a body is hashed verbatim, so it need not be canonical; it must be what the reference
    /// can decode. That excludes extension types, and maps with keys that Go cannot hash.
    pub(super) fn skip_value(&mut self, depth: usize, limit: usize) -> Result<(), WireError> {
        let at = self.at;
        let tag = self.tag()?;
        let items = match tag {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => return Ok(()),
            0xcc | 0xd0 => return self.bytes(1).map(drop),
            0xcd | 0xd1 => return self.bytes(2).map(drop),
            0xca | 0xce | 0xd2 => return self.bytes(4).map(drop),
            0xcb | 0xcf | 0xd3 => return self.bytes(8).map(drop),
            0xa0..=0xbf => return self.bytes(usize::from(tag & 0x1f)).map(drop),
            0xc4 | 0xd9 => return self.skip_counted(1),
            0xc5 | 0xda => return self.skip_counted(2),
            0xc6 | 0xdb => return self.skip_counted(4),
            0x90..=0x9f => self.items(at, u64::from(tag & 0x0f), 1)?,
            0xdc => self.number(2).and_then(|n| self.items(at, n, 1))?,
            0xdd => self.number(4).and_then(|n| self.items(at, n, 1))?,
            0x80..=0x8f => return self.skip_map(at, u64::from(tag & 0x0f), depth, limit),
            0xde => {
                return self
                    .number(2)
                    .and_then(|n| self.skip_map(at, n, depth, limit));
            }
            0xdf => {
                return self
                    .number(4)
                    .and_then(|n| self.skip_map(at, n, depth, limit));
            }
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => {
                return Err(Type {
                    at,
                    expected: "a value without extension types",
                });
            }
        };
        let inner = deeper(at, depth, limit)?;
        (0..items).try_for_each(|_| self.skip_value(inner, limit))
    }

    fn skip_counted(&mut self, width: usize) -> Result<(), WireError> {
        let at = self.at;
        let len = self.number(width)?;
        self.bytes(usize::try_from(len).map_err(|_| Truncated { at })?)
            .map(drop)
    }

    fn skip_map(
        &mut self,
        at: usize,
        len: u64,
        depth: usize,
        limit: usize,
    ) -> Result<(), WireError> {
        let pairs = self.items(at, len, 2)?;
        let inner = deeper(at, depth, limit)?;
        for _ in 0..pairs {
            let at = self.at;
            if let 0x80..=0x9f | 0xc4..=0xc6 | 0xdc..=0xdf = self.peek()? {
                return Err(Type {
                    at,
                    expected: "a map key of a simple type",
                });
            }
            self.skip_value(inner, limit)?;
            self.skip_value(inner, limit)?;
        }
        Ok(())
    }
}

/// One level further down, if that is still inside the limit.
pub(super) fn deeper(at: usize, depth: usize, limit: usize) -> Result<usize, WireError> {
    match depth.checked_add(1) {
        Some(depth) if depth <= limit => Ok(depth),
        _ => Err(WireError::TooDeep { at, limit }),
    }
}

/// Appends values in canonical form.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn uint(&mut self, n: u64) {
        match n {
            0..=0x7f => self.big_endian(n, 1),
            0x80..=0xff => self.tagged(0xcc, n, 1),
            0x100..=0xffff => self.tagged(0xcd, n, 2),
            0x1_0000..=0xffff_ffff => self.tagged(0xce, n, 4),
            _ => self.tagged(0xcf, n, 8),
        }
    }

    pub(super) fn int(&mut self, n: i64) {
        let bits = n.cast_unsigned();
        match n {
            0.. => self.uint(bits),
            -32..=-1 => self.big_endian(bits, 1),
            -0x80..=-33 => self.tagged(0xd0, bits, 1),
            -0x8000..=-0x81 => self.tagged(0xd1, bits, 2),
            -0x8000_0000..=-0x8001 => self.tagged(0xd2, bits, 4),
            _ => self.tagged(0xd3, bits, 8),
        }
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.0.push(if value { 0xc3 } else { 0xc2 });
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        match text.len() {
            n @ 0..=31 => self.small(0xa0, n),
            n @ 32..=0xff => self.counted(0xd9, n, 1),
            n @ 0x100..=0xffff => self.counted(0xda, n, 2),
            n => self.counted(0xdb, n, 4),
        }
        self.0.extend_from_slice(text);
    }

    pub(super) fn blob(&mut self, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else {
            return self.nil();
        };
        match bytes.len() {
            n @ 0..=0xff => self.counted(0xc4, n, 1),
            n @ 0x100..=0xffff => self.counted(0xc5, n, 2),
            n => self.counted(0xc6, n, 4),
        }
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn nil(&mut self) {
        self.0.push(0xc0);
    }

    pub(super) fn array(&mut self, len: usize) {
        match len {
            0..=15 => self.small(0x90, len),
            16..=0xffff => self.counted(0xdc, len, 2),
            _ => self.counted(0xdd, len, 4),
        }
    }

    pub(super) fn map(&mut self, len: usize) {
        match len {
            0..=15 => self.small(0x80, len),
            16..=0xffff => self.counted(0xde, len, 2),
            _ => self.counted(0xdf, len, 4),
        }
    }

    /// A header that carries its length in the tag itself.
    fn small(&mut self, tag: u8, len: usize) {
        self.0.push(tag | u8::try_from(len).unwrap_or_default());
    }

    fn counted(&mut self, tag: u8, len: usize, width: usize) {
        self.tagged(tag, u64::try_from(len).unwrap_or(u64::MAX), width);
    }

    fn tagged(&mut self, tag: u8, n: u64, width: usize) {
        self.0.push(tag);
        self.big_endian(n, width);
    }

    fn big_endian(&mut self, n: u64, width: usize) {
        let bytes = n.to_be_bytes();
        self.0.extend_from_slice(
            bytes
                .get(bytes.len().saturating_sub(width)..)
                .unwrap_or_default(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is read back, and is the only form that is.
    #[test]
    fn integers_have_one_form() {
        for shift in 0..64 {
            for n in [(1_u64 << shift) - 1, 1 << shift] {
                let mut w = Writer::default();
                w.uint(n);
                assert_eq!(Reader::new(&w.0).uint(), Ok(n));
                for n in [n.cast_signed(), n.cast_signed().wrapping_neg()] {
                    let mut w = Writer::default();
                    w.int(n);
                    assert_eq!(Reader::new(&w.0).int(), Ok(n), "{:02x?}", w.0);
                }
            }
        }
    }

    #[test]
    fn longer_forms_are_refused() {
        let not_canonical = Err(NotCanonical {
            at: 0,
            rule: SHORTEST,
        });
        for bytes in [
            &[0xcc, 0x7f][..],
            &[0xcd, 0, 0xff],
            &[0xce, 0, 0, 0xff, 0xff],
        ] {
            assert_eq!(Reader::new(bytes).uint(), not_canonical, "{bytes:02x?}");
        }
        for bytes in [&[0xd0, 0xe0][..], &[0xd1, 0xff, 0x80], &[0xd0, 0x05]] {
            assert_eq!(
                Reader::new(bytes).int().map(|_| 0),
                not_canonical,
                "{bytes:02x?}"
            );
        }
        assert_eq!(
            Reader::new(&[0xd9, 1, b'a']).text().map(|_| 0),
            not_canonical
        );
        assert_eq!(
            Reader::new(&[0xdc, 0, 1, 0]).array().map(|_| 0),
            not_canonical
        );
        assert_eq!(
            Reader::new(&[0xde, 0, 1, 0, 0]).nil_or_map().map(|_| 0),
            not_canonical
        );
    }

    #[test]
    fn a_declared_length_needs_bytes_to_back_it() {
        assert_eq!(
            Reader::new(&[0xdd, 0x7f, 0xff, 0xff, 0xff]).array(),
            Err(Truncated { at: 0 })
        );
        assert_eq!(
            Reader::new(&[0xc6, 0xff, 0xff, 0xff, 0xff]).blob(),
            Err(Truncated { at: 5 })
        );
        assert_eq!(
            Reader::new(&[0xdf, 0x7f, 0xff, 0xff, 0xff, 0]).nil_or_map(),
            Err(Truncated { at: 0 })
        );
    }

    #[test]
    fn unknown_values_are_skipped_to_the_depth_limit() {
        let nested = |levels: usize| {
            let mut bytes = vec![0x91; levels];
            bytes.push(0x01);
            bytes
        };
        assert_eq!(Reader::new(&nested(8)).skip_value(0, 8), Ok(()));
        assert_eq!(
            Reader::new(&nested(9)).skip_value(0, 8),
            Err(WireError::TooDeep { at: 8, limit: 8 })
        );
    }
}

//! A body of chunks, byte by byte but for the chunks themselves.

use super::head::{is_control, is_name};
use super::{Bounds, Refusal};
use crate::config::Oddity;

/// Follows the body up to the end of its trailer section.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    part: Part,
    /// Bytes of the trailer section so far.
    trailer_bytes: usize,
    trailers: usize,
    /// Bytes of extensions so far.
    extension_bytes: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A digit of a size, or the end of its line.
    Size {
        size: u64,
        digits: u8,
    },
    /// What follows a size on its line, and is dropped.
    Extension {
        size: u64,
    },
    /// The line feed after a size.
    SizeEnd {
        size: u64,
    },
    /// So many bytes of a chunk.
    Data {
        left: u64,
    },
    /// The carriage return after a chunk.
    DataCr,
    /// The line feed after that.
    DataLf,
    /// A trailer, or the end of them.
    TrailerStart,
    TrailerName,
    TrailerValue,
    /// The line feed after a trailer.
    TrailerEnd,
    /// The last line feed.
    End,
}

impl Default for Part {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    /// Takes bytes of the body: how many, and whether they are its last.
    ///
    /// # Errors
    ///
    /// How many bytes are good, and what is wrong behind them.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        limits: Bounds,
    ) -> Result<(usize, bool), (usize, Refusal)> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if let Part::Data { left } = &mut self.part {
                let here = bytes.len() - at;
                let taken = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= taken as u64;
                if *left == 0 {
                    self.part = Part::DataCr;
                }
                at += taken;
                continue;
            }
            if let Part::End = self.part {
                return match byte {
                    b'\n' => Ok((at + 1, true)),
                    _ => Err((at, Refusal::Trailer)),
                };
            }
            self.part = self.next(byte, limits).map_err(|refusal| (at, refusal))?;
            at += 1;
        }
        Ok((at, false))
    }

    fn next(&mut self, byte: u8, limits: Bounds) -> Result<Part, Refusal> {
        match self.part {
            Part::Size { size, digits } => match (byte, limits.chunk_extensions) {
                (b';', Oddity::Drop) if digits > 0 => Ok(Part::Extension { size }),
                (_, Oddity::Drop | Oddity::Refuse) => next_digit(size, digits, byte),
            },
            Part::Extension { size } => {
                self.extension_bytes += 1;
                match byte {
                    b'\r' => Ok(Part::SizeEnd { size }),
                    byte if is_control(byte) && byte != b'\t' => Err(Refusal::ChunkExtension),
                    _ if self.extension_bytes > EXTENSION_BYTES => Err(Refusal::ChunkExtension),
                    _ => Ok(Part::Extension { size }),
                }
            }
            Part::SizeEnd { size } => match (byte, size) {
                (b'\n', 0) => Ok(Part::TrailerStart),
                (b'\n', left) => Ok(Part::Data { left }),
                _ => Err(Refusal::ChunkSize),
            },
            Part::DataCr if byte == b'\r' => Ok(Part::DataLf),
            Part::DataLf if byte == b'\n' => Ok(Part::default()),
            Part::Data { .. } | Part::DataCr | Part::DataLf => Err(Refusal::ChunkEnd),
            Part::TrailerStart if byte == b'\r' => Ok(Part::End),
            Part::TrailerStart | Part::TrailerName | Part::TrailerValue | Part::TrailerEnd => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > TRAILER_BYTES || self.trailers >= TRAILERS {
                    return Err(Refusal::TrailersTooLarge);
                }
                let next = next_in_trailer(self.part, byte, limits).ok_or(Refusal::Trailer)?;
                if let Part::TrailerEnd = self.part {
                    self.trailers += 1;
                }
                Ok(next)
            }
            Part::End => Err(Refusal::Trailer),
        }
    }
}

/// One digit more of a size. Sixteen of them hold every size, with zeros in front, which some
/// clients write to fill a field of fixed width.
fn next_digit(size: u64, digits: u8, byte: u8) -> Result<Part, Refusal> {
    let digit = char::from(byte).to_digit(16);
    match (digit, byte) {
        (Some(digit), _) if digits < SIZE_DIGITS => Ok(Part::Size {
            size: (size << 4) | u64::from(digit),
            digits: digits + 1,
        }),
        (None, b'\r') if digits > 0 => Ok(Part::SizeEnd { size }),
        (None, b';') if digits > 0 => Err(Refusal::ChunkExtension),
        (Some(_) | None, _) => Err(Refusal::ChunkSize),
    }
}

/// A trailer is written like a header, and read with less care by more readers.
fn next_in_trailer(part: Part, byte: u8, limits: Bounds) -> Option<Part> {
    let odd = limits.odd_header_names;
    match (part, byte) {
        (Part::TrailerName, b':') => Some(Part::TrailerValue),
        (Part::TrailerStart | Part::TrailerName, byte) if is_name(byte, odd) => {
            Some(Part::TrailerName)
        }
        (Part::TrailerValue, b'\r') => Some(Part::TrailerEnd),
        (Part::TrailerValue, byte) if !is_control(byte) || byte == b'\t' => {
            Some(Part::TrailerValue)
        }
        (Part::TrailerEnd, b'\n') => Some(Part::TrailerStart),
        (
            Part::TrailerStart
            | Part::TrailerName
            | Part::TrailerValue
            | Part::TrailerEnd
            | Part::Size { .. }
            | Part::Extension { .. }
            | Part::SizeEnd { .. }
            | Part::Data { .. }
            | Part::DataCr
            | Part::DataLf
            | Part::End,
            _,
        ) => None,
    }
}

/// Digits of a chunk size, zeros in front included.
const SIZE_DIGITS: u8 = 16;
/// Bytes of the extensions of one body, where they are dropped; below hyper's own bound.
const EXTENSION_BYTES: usize = 8 * 1024;
/// Bounds of a trailer section, inclusive; below hyper's own, which answers without a reason.
const TRAILER_BYTES: usize = 8 * 1024;
const TRAILERS: usize = 32;

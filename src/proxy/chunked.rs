//! A body of chunks (RFC 9112 7.1), byte by byte but for the chunks themselves.

use super::gate::{Refusal, is_control, is_name};
use crate::config::Oddity;

/// Follows the body up to the end of its trailer section.
#[derive(Debug)]
pub(super) struct Chunked {
    rules: Rules,
    part: Part,
    /// Bytes of the trailer section so far.
    trailer_bytes: usize,
    trailers: usize,
    /// Bytes of extensions so far.
    extension_bytes: usize,
}

/// What a body may have that not all readers agree on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Trailer names with other marks than hyphens.
    pub(super) odd_names: Oddity,
    /// Extensions of chunks.
    pub(super) extensions: Oddity,
    /// Blanks behind a size, which old servers fill a field of fixed width with.
    pub(super) padding: Oddity,
}

/// So many bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// What is around chunks.
    Framing(usize),
    /// What is in one.
    Data(usize),
    /// Of the trailer section, its last empty line included.
    Trailers(usize),
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A digit of a size, or the end of its line.
    Size {
        size: u64,
        digits: u8,
    },
    /// Blanks behind a size.
    Padding {
        size: u64,
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
    /// Nothing.
    Over,
}

impl Chunked {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            part: Part::SIZE,
            trailer_bytes: 0,
            trailers: 0,
            extension_bytes: 0,
        }
    }

    /// Whether the last byte of the body has been taken.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.part, Part::Over)
    }

    /// Whether the next byte is in a chunk.
    pub(super) fn is_in_data(&self) -> bool {
        matches!(self.part, Part::Data { .. })
    }

    /// Takes bytes of the body, up to its end.
    ///
    /// # Errors
    ///
    /// How many bytes are good, and what is wrong behind them.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<usize, (usize, Refusal)> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            let rest = bytes.get(at..).unwrap_or_default();
            at += match self.piece(rest) {
                Ok(Piece::Framing(taken) | Piece::Data(taken) | Piece::Trailers(taken)) => taken,
                Err((good, refusal)) => return Err((at + good, refusal)),
            };
        }
        Ok(at)
    }

    /// Takes as many of the bytes, of which there is one at least, as are of one kind.
    ///
    /// # Errors
    ///
    /// How many bytes are good, and have been taken, and what is wrong behind them.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> Result<Piece, (usize, Refusal)> {
        if let Part::Data { left } = &mut self.part {
            let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
            *left -= taken as u64;
            if *left == 0 {
                self.part = Part::DataCr;
            }
            return Ok(Piece::Data(taken));
        }
        let in_trailers = self.part.is_trailer();
        let mut taken = 0;
        for byte in bytes {
            self.part = self.next(*byte).map_err(|refusal| (taken, refusal))?;
            taken += 1;
            if matches!(self.part, Part::Data { .. } | Part::Over)
                || self.part.is_trailer() != in_trailers
            {
                break;
            }
        }
        Ok(match in_trailers {
            true => Piece::Trailers(taken),
            false => Piece::Framing(taken),
        })
    }

    /// Drops a byte behind a size, and goes on with `part`.
    fn drop_one(&mut self, part: Part) -> Result<Part, Refusal> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES {
            return Err(Refusal::ChunkExtension);
        }
        Ok(part)
    }

    fn next(&mut self, byte: u8) -> Result<Part, Refusal> {
        match self.part {
            Part::Size { size, digits } => match byte {
                b';' if digits > 0 && self.rules.extensions == Oddity::Drop => {
                    Ok(Part::Extension { size })
                }
                b' ' | b'\t' if digits > 0 && self.rules.padding == Oddity::Drop => {
                    Ok(Part::Padding { size })
                }
                byte => next_digit(size, digits, byte),
            },
            Part::Padding { size } => match byte {
                b' ' | b'\t' => self.drop_one(Part::Padding { size }),
                b';' => Ok(Part::Extension { size }),
                b'\r' => Ok(Part::SizeEnd { size }),
                _ => Err(Refusal::ChunkSize),
            },
            Part::Extension { size } => match byte {
                b'\r' => Ok(Part::SizeEnd { size }),
                byte if is_control(byte) && byte != b'\t' => Err(Refusal::ChunkExtension),
                _ => self.drop_one(Part::Extension { size }),
            },
            Part::SizeEnd { size } => match (byte, size) {
                (b'\n', 0) => Ok(Part::TrailerStart),
                (b'\n', left) => Ok(Part::Data { left }),
                _ => Err(Refusal::ChunkSize),
            },
            Part::DataCr if byte == b'\r' => Ok(Part::DataLf),
            Part::DataLf if byte == b'\n' => Ok(Part::SIZE),
            Part::Data { .. } | Part::DataCr | Part::DataLf => Err(Refusal::ChunkEnd),
            Part::TrailerStart if byte == b'\r' => Ok(Part::End),
            Part::TrailerStart | Part::TrailerName | Part::TrailerValue | Part::TrailerEnd => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > TRAILER_BYTES || self.trailers >= TRAILERS {
                    return Err(Refusal::TrailersTooLarge);
                }
                let names = self.rules.odd_names;
                let next = next_in_trailer(self.part, byte, names).ok_or(Refusal::Trailer)?;
                if let Part::TrailerEnd = self.part {
                    self.trailers += 1;
                }
                Ok(next)
            }
            Part::End if byte == b'\n' => Ok(Part::Over),
            Part::End | Part::Over => Err(Refusal::Trailer),
        }
    }
}

impl Part {
    /// Before the first digit of a size.
    const SIZE: Self = Self::Size { size: 0, digits: 0 };

    fn is_trailer(self) -> bool {
        match self {
            Self::TrailerStart
            | Self::TrailerName
            | Self::TrailerValue
            | Self::TrailerEnd
            | Self::End => true,
            Self::Size { .. }
            | Self::Padding { .. }
            | Self::Extension { .. }
            | Self::SizeEnd { .. }
            | Self::Data { .. }
            | Self::DataCr
            | Self::DataLf
            | Self::Over => false,
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
fn next_in_trailer(part: Part, byte: u8, odd: Oddity) -> Option<Part> {
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
            | Part::Padding { .. }
            | Part::Extension { .. }
            | Part::SizeEnd { .. }
            | Part::Data { .. }
            | Part::DataCr
            | Part::DataLf
            | Part::End
            | Part::Over,
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

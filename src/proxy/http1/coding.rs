//! What is left of a response, and where it ends (RFC 9112 6.3).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::{Frame, SizeHint};

use super::Fault;
use super::response;
use crate::config::Oddity;
use crate::proxy::chunked::{Chunked, Piece, Rules};

/// What is left of a response.
#[derive(Debug)]
pub(super) enum Rest {
    /// Nothing.
    Over,
    /// So many bytes.
    Sized(u64),
    /// Chunks, and what has come of the trailers behind them.
    Chunked(Chunked, Vec<u8>),
    /// The trailers.
    Trailers(HeaderMap),
    /// Everything, until the connection ends.
    UntilClosed,
    /// It is another protocol that follows.
    Switched,
}

/// What comes next of a response.
#[derive(Debug)]
pub(super) enum Next {
    /// A part of it.
    Part(Frame<Bytes>),
    /// More has to be read.
    Unread,
    /// Nothing.
    Over,
}

impl Rest {
    pub(super) fn chunked() -> Self {
        // Readers agree on where these end, and the client sees none of the framing. Odd trailers
        // are taken out where trailers are cleaned.
        let rules = Rules {
            odd_names: Oddity::Drop,
            extensions: Oddity::Drop,
            padding: Oddity::Drop,
        };
        Self::Chunked(Chunked::new(rules), Vec::new())
    }

    /// Takes the next part out of what was read.
    pub(super) fn next(&mut self, read: &mut BytesMut) -> Result<Next, Fault> {
        let part = match self {
            Self::Over | Self::Switched => return Ok(Next::Over),
            Self::Sized(_) | Self::UntilClosed if read.is_empty() => return Ok(Next::Unread),
            Self::UntilClosed => read.split(),
            Self::Sized(left) => {
                let taken = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Over;
                }
                read.split_to(taken)
            }
            Self::Chunked(chunks, trailers) => {
                skip(chunks, trailers, read)?;
                if chunks.is_over() {
                    self.end_chunks()?;
                    return self.next(read);
                }
                let Some(data) = data(chunks, read)? else {
                    return Ok(Next::Unread);
                };
                // The end mostly comes with the last chunk. What is wrong behind a chunk is found
                // again when this part is gone.
                if skip(chunks, trailers, read).is_ok() && chunks.is_over() {
                    self.end_chunks()?;
                }
                data
            }
            Self::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                *self = Self::Over;
                return Ok(Next::Part(Frame::trailers(trailers)));
            }
        };
        Ok(Next::Part(Frame::data(part.freeze())))
    }

    /// Goes on from the chunks to what is behind them.
    fn end_chunks(&mut self) -> Result<(), Fault> {
        if let Self::Chunked(_, section) = self {
            let trailers = response::trailers(section)?;
            *self = match trailers.is_empty() {
                true => Self::Over,
                false => Self::Trailers(trailers),
            };
        }
        Ok(())
    }

    /// The connection has ended. Says whether the response may end with it.
    pub(super) fn end(&mut self) -> bool {
        let may = matches!(self, Self::UntilClosed);
        if may {
            *self = Self::Over;
        }
        may
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Over | Self::Switched => SizeHint::with_exact(0),
            Self::Sized(left) => SizeHint::with_exact(*left),
            Self::Chunked(..) | Self::Trailers(_) | Self::UntilClosed => SizeHint::new(),
        }
    }
}

/// Takes what is around chunks, as far as it has come, and keeps the trailer section.
fn skip(chunks: &mut Chunked, section: &mut Vec<u8>, read: &mut BytesMut) -> Result<(), Fault> {
    while !read.is_empty() && !chunks.is_over() && !chunks.is_in_data() {
        match chunks.piece(read) {
            Ok(Piece::Framing(length) | Piece::Data(length)) => read.advance(length),
            Ok(Piece::Trailers(length)) => section.extend_from_slice(&read.split_to(length)),
            Err((good, refusal)) => {
                read.advance(good);
                return Err(Fault::Chunks(refusal));
            }
        }
    }
    Ok(())
}

/// The data at the beginning of what was read.
fn data(chunks: &mut Chunked, read: &mut BytesMut) -> Result<Option<BytesMut>, Fault> {
    if read.is_empty() || !chunks.is_in_data() {
        return Ok(None);
    }
    match chunks.piece(read) {
        Ok(Piece::Data(length) | Piece::Framing(length) | Piece::Trailers(length)) => {
            Ok(Some(read.split_to(length)))
        }
        Err((_, refusal)) => Err(Fault::Chunks(refusal)),
    }
}

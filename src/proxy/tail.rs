//! The end of each part of a response to a client of HTTP/2, which is handed over by itself.
//!
//! hyper takes a part as a whole once its client has room for one byte of it, and with the last
//! part it drops the body. What there is no room for then lies in the library below, as long as the
//! client likes, and nobody here knows of a response any more: it has no deadline, its lease is not
//! looked at, and the connection counts as idle. The few bytes that are held back are asked for
//! only when there is room for all that was before them.

use bytes::Bytes;
use http::Version;
use hyper::body::Frame;

/// What is held back.
#[derive(Debug)]
pub(super) enum Tail {
    /// Nothing, ever: who writes a part in HTTP/1.1 waits for the client to take it.
    Never,
    /// The end of the last part, or nothing yet.
    Held(Bytes),
}

impl Tail {
    /// For a client of this version.
    pub(super) fn of(version: Version) -> Self {
        if version == Version::HTTP_2 {
            Self::Held(Bytes::new())
        } else {
            Self::Never
        }
    }

    /// What may go on of a part now. The rest of it comes next.
    pub(super) fn hold(&mut self, part: Frame<Bytes>) -> Frame<Bytes> {
        let Self::Held(tail) = self else {
            return part;
        };
        match part.into_data() {
            Ok(mut data) => {
                if let Some(long @ 1..) = data.len().checked_sub(TAIL_BYTES) {
                    *tail = data.split_off(long);
                }
                Frame::data(data)
            }
            Err(trailers) => trailers,
        }
    }

    /// What is left of the last part.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        match self {
            Self::Held(tail) if !tail.is_empty() => Some(std::mem::take(tail)),
            Self::Held(_) | Self::Never => None,
        }
    }

    pub(super) fn held(&self) -> &[u8] {
        match self {
            Self::Held(tail) => tail,
            Self::Never => &[],
        }
    }
}

/// What each stream of a client can leave lying when its response counts as finished. Shorter
/// parts are not worth a frame of their own.
const TAIL_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces in which a part of so many bytes goes on.
    fn pieces(version: Version, length: usize) -> Vec<usize> {
        let part = Bytes::from(vec![b'x'; length]);
        let mut tail = Tail::of(version);
        let first = tail.hold(Frame::data(part)).into_data().unwrap();
        let held = tail.held().len();
        let rest = tail.take();
        assert_eq!(held, rest.as_ref().map_or(0, Bytes::len));
        assert!(tail.take().is_none() && tail.held().is_empty());
        [Some(first), rest]
            .into_iter()
            .flatten()
            .map(|piece| piece.len())
            .collect()
    }

    #[test]
    fn the_end_of_a_long_part_comes_by_itself() {
        assert_eq!(pieces(Version::HTTP_2, 0), [0]);
        assert_eq!(pieces(Version::HTTP_2, 1024), [1024]);
        assert_eq!(pieces(Version::HTTP_2, 1025), [1, 1024]);
        assert_eq!(pieces(Version::HTTP_2, 100_000), [98_976, 1024]);
        assert_eq!(pieces(Version::HTTP_11, 100_000), [100_000]);
    }
}

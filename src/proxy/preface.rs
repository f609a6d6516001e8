//! Which version of HTTP a cleartext connection begins with.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The versions that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// What was read to find out, and is still to be read by whoever serves the connection.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    bytes: [u8; PREFACE.len()],
    from: usize,
    to: usize,
}

impl Ahead {
    /// Takes as many bytes as there is room for.
    pub(super) fn take(&mut self, room: usize) -> &[u8] {
        let from = self.from;
        self.from = self.to.min(from.saturating_add(room));
        self.bytes.get(from..self.from).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from == self.to
    }
}

/// Reads until the connection preface of HTTP/2 (RFC 9113 3.4) is complete, or is none.
///
/// Cleartext has no ALPN, and the upgrade to `h2c` is never made, so that HTTP/2 begins by prior
/// knowledge or not at all. A client that ends in the middle of it gets the reader of HTTP/1.1.
pub(super) async fn sniff(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Version, Ahead)> {
    let mut ahead = Ahead::default();
    loop {
        let room = ahead.bytes.get_mut(ahead.to..).unwrap_or_default();
        let read = io.read(room).await?;
        ahead.to += read;
        let seen = ahead.bytes.get(..ahead.to).unwrap_or_default();
        if read == 0 || !PREFACE.starts_with(seen) {
            return Ok((Version::Http1, ahead));
        }
        if seen.len() == PREFACE.len() {
            return Ok((Version::Http2, ahead));
        }
    }
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// The version, and all that a reader still gets to read.
    fn sniffed(bytes: &[u8]) -> (Version, Vec<u8>) {
        let test = async {
            // One byte at a time, so that every cut occurs.
            let (mut here, mut there) = tokio::io::duplex(1);
            let read = async {
                let (version, mut ahead) = sniff(&mut here).await.unwrap();
                let mut rest = Vec::new();
                while !ahead.is_empty() {
                    rest.extend_from_slice(ahead.take(5));
                }
                here.read_to_end(&mut rest).await.unwrap();
                (version, rest)
            };
            let sent = async {
                there.write_all(bytes).await.unwrap();
                there.shutdown().await.unwrap();
            };
            tokio::join!(read, sent).0
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(test)
    }

    #[test]
    fn the_preface_tells_and_no_byte_is_lost() {
        let get = b"GET / HTTP/1.1\r\n\r\n";
        assert_eq!(sniffed(get), (Version::Http1, get.to_vec()));
        let longer = [&PREFACE[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
        assert_eq!(sniffed(&longer), (Version::Http2, longer.clone()));
        for cut in 0..PREFACE.len() {
            let head = PREFACE.get(..cut).unwrap();
            let other = [head, b"?"].concat();
            assert_eq!(sniffed(&other), (Version::Http1, other.clone()));
            assert_eq!(sniffed(head), (Version::Http1, head.to_vec()));
        }
    }
}

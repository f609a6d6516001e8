//! HTTP/2 frame by frame, for what no client library would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::canary::{self, Place};
use super::{hpack, peer};

/// One connection to usher. It writes what it is told, and reads frames without understanding
/// their header blocks, which are only looked through: what usher answers itself says its status
/// in its body as well.
pub(crate) struct Wire {
    tcp: TcpStream,
    stream: u32,
    /// A header block that goes on in the next frame.
    block: Vec<u8>,
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What became of a request, or of the whole connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A response, with this body.
    Answered(String),
    /// The stream was reset with this code.
    Reset(u32),
    /// The connection ended; with the code of the last GOAWAY.
    Ended(Option<u32>),
}

impl Wire {
    /// By prior knowledge, after settings were exchanged.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let tcp = peer::prepared(TcpStream::connect(address).unwrap());
        let block = Vec::new();
        let mut wire = Self {
            tcp,
            stream: 1,
            block,
        };
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        wire.send(&frame(SETTINGS, 0, 0, &[]));
        let settings = wire.next().unwrap();
        assert_eq!((settings.kind, settings.flags), (SETTINGS, 0));
        wire.send(&frame(SETTINGS, ACK, 0, &[]));
        wire
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).unwrap();
    }

    /// Sends as much as is taken: usher may have had enough.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.tcp.write_all(bytes).is_ok()
    }

    /// A number for a new stream.
    pub(crate) fn stream(&mut self) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        stream
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.read(&mut payload)?;
        canary::look(Place::Answer, &payload);
        if matches!(kind, HEADERS | CONTINUATION) {
            assert_eq!(flags & (PADDED | PRIORITIZED), 0, "usher sends neither");
            self.block.extend(&payload);
            if flags & END_HEADERS != 0 {
                canary::look(Place::Answer, &hpack::literals(&self.block));
                self.block.clear();
            }
        }
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    fn read(&mut self, to: &mut [u8]) -> Option<()> {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self.tcp.read_exact(to) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {
                None
            }
            Err(error) => panic!("waited in vain: {error}"),
        }
    }

    /// What becomes of a stream. Stream 0 has only one fate.
    pub(crate) fn fate(&mut self, stream: u32) -> Fate {
        let (mut body, mut last) = (Vec::new(), None);
        while let Some(frame) = self.next() {
            match frame.kind {
                GOAWAY => last = Some(number(&frame.payload[4..])),
                RST_STREAM if frame.stream == stream => return Fate::Reset(number(&frame.payload)),
                DATA | HEADERS if frame.stream == stream => {
                    if frame.kind == DATA {
                        body.extend(frame.payload);
                    }
                    if frame.flags & END_STREAM != 0 {
                        return Fate::Answered(String::from_utf8(body).unwrap());
                    }
                }
                _ => {}
            }
        }
        Fate::Ended(last)
    }
}

impl Fate {
    /// Status and code, if usher answered itself.
    pub(crate) fn problem(&self) -> Option<(u64, String)> {
        let Self::Answered(body) = self else {
            return None;
        };
        let problem: serde_json::Value = serde_json::from_str(body).ok()?;
        let code = problem["code"].as_str()?.to_owned();
        Some((problem["status"].as_u64()?, code))
    }
}

/// A frame as it is written.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block of literals, which is stateless (RFC 7541 6.2.2).
pub(crate) fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 5.1), no Huffman code.
fn length(length: usize, to: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(127) else {
        to.push(u8::try_from(length).unwrap());
        return;
    };
    to.push(127);
    while rest >= 128 {
        to.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    to.push(u8::try_from(rest).unwrap());
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITIZED: u8 = 0x20;

pub(crate) const PROTOCOL_ERROR: u32 = 0x1;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

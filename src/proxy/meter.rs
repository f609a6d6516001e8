//! What an HTTP/2 client sends besides requests, and how much of it is too much.
//!
//! The reader of HTTP/2 bounds what a client can make it hold: streams at once, pending resets,
//! frames of a header block, small DATA frames, its own errors. It does not bound what comes and
//! goes: a stream that is opened and reset frees its place at once, and has cost a verification and
//! perhaps a connection to an upstream (CVE-2023-44487); a PING or SETTINGS costs an answer and
//! carries nothing (CVE-2019-9512, -9515). So frames are counted as they come, from their heads
//! alone, and a client that sends too many in one span of time loses its connection.

use bytes::{Buf, Bytes};
use tokio::time::{Duration, Instant};

use crate::config::ConnectionLimits;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    /// Payload, or connection preface, that is still to come.
    skip: usize,
    head: [u8; HEAD],
    have: usize,
    /// When the span began that the counts are of.
    since: Instant,
    resets: u32,
    idle: u32,
    /// Bytes that were sent to the client in the span.
    written: usize,
    most_resets: u32,
    most_idle: u32,
    excess: Option<Excess>,
    farewell: Bytes,
}

/// What a client sent too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// Streams that it opened and reset.
    Resets,
    /// Frames that carry nothing.
    IdleFrames,
}

impl Excess {
    /// The setting that bounds it.
    pub(super) const fn limit(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::IdleFrames => "idle_frames",
        }
    }
}

impl Meter {
    /// Of a connection that begins with the preface of HTTP/2.
    pub(super) fn new(limits: &ConnectionLimits, now: Instant) -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            since: now,
            resets: 0,
            idle: 0,
            written: 0,
            most_resets: limits.resets,
            most_idle: limits.idle_frames,
            excess: None,
            farewell: Bytes::new(),
        }
    }

    /// Takes note of bytes that have come; so many of them pass. After a frame that was one too many
    /// none do: the reader gets it whole, so that it finds a clean end behind it.
    pub(super) fn read(&mut self, bytes: &[u8], now: Instant) -> usize {
        if now.duration_since(self.since) >= SPAN {
            (self.since, self.resets, self.idle, self.written) = (now, 0, 0, 0);
        }
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            if self.skip > 0 {
                let skipped = self.skip.min(rest.len());
                self.skip -= skipped;
                rest.advance(skipped);
                continue;
            }
            if self.is_over() {
                break;
            }
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            rest.advance(1);
            if self.have == HEAD {
                self.frame();
            }
        }
        bytes.len() - rest.len()
    }

    /// Whether the connection has to end here.
    pub(super) fn is_over(&self) -> bool {
        self.excess.is_some() && self.skip == 0
    }

    /// What there was too much of.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.excess
    }

    /// Takes note of so many bytes that were sent: the more a client is sent, the more it has to
    /// acknowledge.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes);
    }

    /// What is left to tell a client that has sent too much.
    pub(super) fn farewell(&mut self) -> &mut Bytes {
        &mut self.farewell
    }

    /// Counts a frame whose head has come.
    fn frame(&mut self) {
        let [a, b, c, kind, ..] = self.head;
        self.skip = usize_of(u32::from_be_bytes([0, a, b, c]));
        self.have = 0;
        match kind {
            // Bounded by the reader.
            DATA | HEADERS | CONTINUATION => {}
            RST_STREAM => self.resets = self.resets.saturating_add(1),
            // PING, SETTINGS, PRIORITY, WINDOW_UPDATE, and what nobody knows.
            _ => self.idle = self.idle.saturating_add(1),
        }
        let in_order = self.written / BYTES_PER_IDLE;
        let excess = if self.resets > self.most_resets {
            Excess::Resets
        } else if usize_of(self.idle) > usize_of(self.most_idle).saturating_add(in_order) {
            Excess::IdleFrames
        } else {
            return;
        };
        if self.excess.is_none() {
            self.excess = Some(excess);
            self.farewell = go_away(excess);
        }
    }
}

/// The frame that ends a connection (RFC 9113 6.8). It does not say which streams were not looked
/// at: nothing of what such a client sent is for repeating.
fn go_away(excess: Excess) -> Bytes {
    let why = format!("too much at once; see limits.{}", excess.limit());
    let length = u8::try_from(why.len() + 8).unwrap_or(u8::MAX);
    let mut frame = vec![0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
    frame.extend([0x7f, 0xff, 0xff, 0xff, 0, 0, 0, ENHANCE_YOUR_CALM]);
    frame.extend(why.bytes());
    frame.into()
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The time in which frames are counted.
const SPAN: Duration = Duration::from_secs(10);
/// One frame that carries nothing is in order for so many bytes that the client was sent. More than what
/// is sent in answer to a PING (17) or SETTINGS (9), and less than a DATA frame of a few words.
const BYTES_PER_IDLE: usize = 32;

/// Bytes of the connection preface, and of a frame's head.
const PREFACE: usize = 24;
const HEAD: usize = 9;

/// Types and a code of RFC 9113.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ENHANCE_YOUR_CALM: u8 = 0xb;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tests::limits;

    /// A connection on which two resets and three idle frames are in order.
    fn meter(now: Instant) -> Meter {
        let limits = ConnectionLimits {
            resets: 2,
            idle_frames: 3,
            ..limits()
        };
        let mut meter = Meter::new(&limits, now);
        assert_eq!(meter.read(&[0xff; PREFACE], now), PREFACE);
        meter
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(payload);
        frame
    }

    /// How many of these frames are in order.
    fn in_order(bytes: &[u8]) -> usize {
        let now = Instant::now();
        let mut meter = meter(now);
        (0..100)
            .take_while(|_| {
                meter.read(bytes, now);
                meter.excess().is_none()
            })
            .count()
    }

    #[test]
    fn what_carries_nothing_is_counted_and_nothing_else() {
        const PING: u8 = 6;
        const SETTINGS: u8 = 4;
        const WINDOW_UPDATE: u8 = 8;
        for (bytes, expected) in [
            (frame(RST_STREAM, 0, &[0; 4]), 2),
            (frame(PING, 0, &[0; 8]), 3),
            (frame(SETTINGS, 0, &[]), 3),
            (frame(WINDOW_UPDATE, 0, &[0; 4]), 3),
            (frame(0xee, 0xff, b"unknown"), 3),
            (frame(DATA, 0, &[5]), 100),
            (frame(HEADERS, 0, &[3; 40]), 100),
            (frame(CONTINUATION, 0, &[3; 40]), 100),
        ] {
            assert_eq!(in_order(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn it_does_not_matter_how_bytes_arrive() {
        let now = Instant::now();
        let frames = [
            frame(HEADERS, 0, &[RST_STREAM; 30]),
            frame(DATA, 0, &[6; 20]),
            frame(RST_STREAM, 0, &[0; 4]),
            frame(6, 0, &[0; 8]),
        ]
        .concat();
        let mut whole = meter(now);
        assert_eq!(whole.read(&frames, now), frames.len());
        assert_eq!((whole.resets, whole.idle, whole.have), (1, 1, 0));
        for size in 1..frames.len() {
            let mut pieces = meter(now);
            for piece in frames.chunks(size) {
                assert_eq!(pieces.read(piece, now), piece.len());
            }
            assert_eq!((pieces.resets, pieces.idle, pieces.have), (1, 1, 0));
        }
    }

    #[test]
    fn a_new_span_begins_at_nought() {
        let now = Instant::now();
        let mut meter = meter(now);
        let reset = frame(RST_STREAM, 0, &[0; 4]);
        for span in 0..5 {
            let now = now + SPAN * span;
            meter.read(&reset, now);
            meter.read(&reset, now);
            assert_eq!(meter.excess(), None);
        }
        let within = now + SPAN * 5 - Duration::from_millis(1);
        meter.read(&reset, within);
        assert_eq!(meter.excess(), Some(Excess::Resets));
        let farewell = meter.farewell();
        assert_eq!(farewell.get(13..17), Some(&[0, 0, 0, 0xb][..]));
        let told = farewell.get(17..).unwrap();
        assert!(told.ends_with(b"limits.resets"), "{told:?}");
        assert_eq!(usize::from(farewell[2]) + HEAD, farewell.len());
    }

    #[test]
    fn the_frame_that_is_one_too_many_is_the_last() {
        let now = Instant::now();
        let reset = frame(RST_STREAM, 0, &[0; 4]);
        let resets = reset.repeat(4);
        for size in 1..resets.len() {
            let mut meter = meter(now);
            let passed: usize = resets.chunks(size).map(|part| meter.read(part, now)).sum();
            assert_eq!(passed, 3 * reset.len(), "{size}");
            assert!(meter.is_over());
        }
        let mut meter = meter(now);
        let part = resets.get(..2 * reset.len() + HEAD).unwrap();
        assert_eq!(meter.read(part, now), part.len());
        assert!(
            meter.excess().is_some() && !meter.is_over(),
            "it is not whole"
        );
    }

    #[test]
    fn who_is_sent_much_may_acknowledge_much() {
        let now = Instant::now();
        let mut meter = meter(now);
        let ping = frame(6, 0, &[0; 8]);
        // The answer to each is no reason for another.
        let mut answered = 0;
        while meter.excess().is_none() {
            meter.read(&ping, now);
            meter.wrote(17);
            answered += 1;
        }
        assert!(answered < 10, "{answered}");
        let mut meter = self::meter(now);
        for _ in 0..1000 {
            meter.wrote(HEAD + 60);
            meter.read(&[ping.clone(), ping.clone()].concat(), now);
        }
        assert_eq!(meter.excess(), None);
    }
}

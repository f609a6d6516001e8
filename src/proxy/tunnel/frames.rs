//! Where one frame of a WebSocket ends and the next begins (RFC 6455 5.2).

/// Follows the frames of one direction, without looking into them.
///
/// A close frame can be told between two frames only; in the middle of one its bytes would be
/// taken for more of that.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; LONGEST],
    have: usize,
    /// Bytes of the payload that are still to come.
    payload: u64,
    closed: bool,
}

impl Frames {
    /// Takes note of bytes that go by.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let step = self.rest_of(rest);
            let (now, later) = rest.split_at_checked(step).unwrap_or((rest, &[]));
            if self.payload > 0 {
                self.payload = self.payload.saturating_sub(length(now));
            } else {
                self.take(now);
            }
            rest = later;
        }
    }

    /// Whether no frame has begun that is not complete.
    pub(super) fn are_whole(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Whether a close frame went by, after which nothing may follow.
    pub(super) fn are_closed(&self) -> bool {
        self.closed
    }

    /// How many of these bytes belong to the part that comes next, a header or a payload: at
    /// least one, unless there are none.
    pub(super) fn rest_of(&self, bytes: &[u8]) -> usize {
        if self.payload > 0 {
            let payload = usize::try_from(self.payload).unwrap_or(usize::MAX);
            return bytes.len().min(payload);
        }
        let mut whole = self.header;
        let mut have = self.have;
        for byte in bytes {
            if let Some(place) = whole.get_mut(have) {
                *place = *byte;
            }
            have += 1;
            if have >= header_length(&whole, have) {
                break;
            }
        }
        have - self.have
    }

    /// Adds to the header, which may be complete then.
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
        }
        if self.have < header_length(&self.header, self.have) {
            return;
        }
        let [first, second, long @ ..] = self.header;
        self.closed |= first & OPCODE == CLOSE;
        self.payload = match second & SHORT {
            126 => u64::from(u16::from_be_bytes([long[0], long[1]])),
            127 => {
                let [a, b, c, d, e, f, g, h, ..] = long;
                u64::from_be_bytes([a, b, c, d, e, f, g, h])
            }
            short => u64::from(short),
        };
        self.have = 0;
    }
}

/// A close frame of a server, which are not masked. Reasons of more than 123 bytes are cut.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason = reason.as_bytes();
    let reason = reason
        .get(..reason.len().min(MAX_REASON))
        .unwrap_or_default();
    let mut frame = vec![FINAL | CLOSE, u8::try_from(2 + reason.len()).unwrap_or(2)];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason);
    frame
}

/// How long a header is, as far as its first bytes tell.
fn header_length(header: &[u8; LONGEST], have: usize) -> usize {
    let [_, second, ..] = *header;
    if have < 2 {
        return 2;
    }
    let extended = match second & SHORT {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & MASKED == 0 { 0 } else { 4 };
    2 + extended + mask
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
const MASKED: u8 = 0x80;
const SHORT: u8 = 0x7f;
/// Two bytes, eight of an extended length, four of a mask.
const LONGEST: usize = 14;
/// A control frame has at most 125 bytes, two of them the code.
const MAX_REASON: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![first];
        match payload {
            0..=125 => frame.push(mask | u8::try_from(payload).unwrap()),
            126..=65535 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend(u64::try_from(payload).unwrap().to_be_bytes());
            }
        }
        frame.extend(vec![0xff; if masked { 4 } else { 0 }]);
        frame.extend(vec![0x88; payload]);
        frame
    }

    #[test]
    fn frames_are_whole_at_their_ends_and_nowhere_else() {
        for payload in [0, 1, 125, 126, 300, 65535, 65536] {
            for masked in [false, true] {
                let one = frame(0x82, payload, masked);
                let two = [&one[..], &frame(0x01, 3, masked)].concat();
                for step in [1, 2, 3, 7, 1000, usize::MAX] {
                    let mut frames = Frames::default();
                    let mut gone = 0;
                    for part in two.chunks(step.min(two.len())) {
                        frames.pass(part);
                        gone += part.len();
                        let whole = gone == one.len() || gone == two.len();
                        assert_eq!(
                            frames.are_whole(),
                            whole,
                            "{payload} {masked} {step} {gone}"
                        );
                        assert!(!frames.are_closed());
                    }
                }
            }
        }
    }

    #[test]
    fn the_rest_of_a_frame_ends_with_it() {
        let one = frame(0x82, 300, false);
        let two = [&one[..], &frame(0x82, 9, false)].concat();
        let mut frames = Frames::default();
        let mut gone = 0;
        while gone == 0 || !frames.are_whole() {
            let step = frames.rest_of(&two[gone..]);
            assert!(step > 0);
            frames.pass(&two[gone..gone + step]);
            gone += step;
        }
        assert_eq!(gone, one.len());
        assert_eq!(frames.rest_of(&[]), 0);
    }

    #[test]
    fn a_close_frame_is_noticed_and_can_be_made() {
        let close = close(1008, "lease-revoked");
        assert_eq!(close[..4], [0x88, 15, 0x03, 0xf0]);
        assert_eq!(&close[4..], b"lease-revoked");
        let mut frames = Frames::default();
        frames.pass(&close);
        assert!(frames.are_closed() && frames.are_whole());
        assert_eq!(super::close(1008, &"x".repeat(200)).len(), 127);
    }
}

//! A request head: its request line, its lines, and how it says its body ends.

use super::{After, Bounds, Framing, Refusal};
use crate::config::Oddity;
use crate::proxy::host::is_host;
use crate::route::is_refused;

/// Follows a head from its first byte. Offsets count from there.
#[derive(Debug, Default)]
pub(super) struct Head {
    part: Part,
    /// Where the part begins.
    from: usize,
    /// What is before this has been looked at.
    at: usize,
    lines: usize,
    coded: bool,
    length: Option<u64>,
    after: Option<After>,
}

/// What is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// An empty line, which RFC 9112 2.2 asks to tolerate once, or the request line.
    #[default]
    Start,
    Method,
    Target,
    Version,
    Name,
    Value(Field),
}

/// Header lines that say what follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Length,
    Coding,
    Upgrade,
    Other,
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Its length.
    pub(super) bytes: usize,
    pub(super) framing: Framing,
    pub(super) after: After,
}

/// What ends a scan before the end of the head.
enum Stop {
    /// There are no more bytes yet.
    More,
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Head {
    /// Goes on where the last call had to stop. `bytes` are those of the head so far, and may
    /// have more behind them.
    pub(super) fn scan(&mut self, bytes: &[u8], limits: Bounds) -> Result<Option<End>, Refusal> {
        loop {
            let step = match self.part {
                Part::Start => self.start(bytes),
                Part::Method => self.method(bytes),
                Part::Target => self.target(bytes, limits),
                Part::Version => self.version(bytes),
                Part::Name => match self.name(bytes, limits) {
                    Ok(true) => return self.end(limits).map(Some),
                    Ok(false) => Ok(()),
                    Err(stop) => Err(stop),
                },
                Part::Value(field) => self.value(bytes, field),
            };
            match step {
                Ok(()) => {}
                Err(Stop::More) if bytes.len() >= limits.head_bytes => {
                    return Err(Refusal::HeadTooLarge);
                }
                Err(Stop::More) => return Ok(None),
                Err(Stop::Refused(refusal)) => return Err(refusal),
            }
        }
    }

    /// Begins another part, behind `skipped` bytes of the last one.
    fn begin(&mut self, part: Part, skipped: usize) {
        self.at += skipped;
        self.from = self.at;
        self.part = part;
    }

    fn start(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        match bytes.get(self.at..).unwrap_or_default() {
            [] | [b'\r'] => return Err(Stop::More),
            [b'\r', b'\n', ..] if self.at == 0 => self.at = 2,
            [b'\r', b'\n', ..] => return Err(Refusal::RequestLine.into()),
            [first, rest @ ..] if is_control(*first) => return Err(stray(*first, rest).into()),
            _ => self.begin(Part::Method, 0),
        }
        Ok(())
    }

    /// The bytes from here on for which `class` holds, and what stops them.
    fn word<'b>(&mut self, bytes: &'b [u8], class: u8) -> Result<(&'b [u8], u8), Stop> {
        let rest = bytes.get(self.at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| !is(*byte, class)) else {
            self.at = bytes.len();
            return Err(Stop::More);
        };
        self.at += length;
        let word = bytes.get(self.from..self.at).unwrap_or_default();
        let stop = rest.get(length).copied().unwrap_or_default();
        Ok((word, stop))
    }

    fn method(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let word = self.word(bytes, TOKEN);
        if self.at - self.from > METHOD_BYTES {
            return Err(Refusal::RequestLine.into());
        }
        match word? {
            ([], _) => Err(Refusal::RequestLine.into()),
            (method, b' ') => {
                if method == b"CONNECT" {
                    self.after = Some(After::Tunnel);
                }
                self.begin(Part::Target, 1);
                Ok(())
            }
            (_, b'\n') => Err(Refusal::BareLf.into()),
            (_, byte) if is_control(byte) && byte != b'\r' => Err(Refusal::Control.into()),
            _ => Err(Refusal::RequestLine.into()),
        }
    }

    fn target(&mut self, bytes: &[u8], limits: Bounds) -> Result<(), Stop> {
        let word = self.word(bytes, TARGET);
        if self.at - self.from > limits.target_bytes {
            return Err(Refusal::TargetTooLong.into());
        }
        match word? {
            ([], b' ') => Err(Refusal::RequestLine.into()),
            (target, b' ') => {
                if !has_form(target, self.after == Some(After::Tunnel)) {
                    return Err(Refusal::TargetForm.into());
                }
                self.begin(Part::Version, 1);
                Ok(())
            }
            (_, b'#') => Err(Refusal::Fragment.into()),
            (_, b'\n') => Err(Refusal::BareLf.into()),
            // The request line of HTTP/0.9, among others.
            (_, b'\r') => Err(Refusal::RequestLine.into()),
            (_, byte) if is_control(byte) => Err(Refusal::Control.into()),
            _ => Err(Refusal::TargetByte.into()),
        }
    }

    fn version(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let rest = bytes.get(self.at..).unwrap_or_default();
        let same = rest.iter().zip(VERSION).take_while(|(a, b)| *a == *b);
        match same.count() {
            same if same == VERSION.len() => {
                self.begin(Part::Name, VERSION.len());
                Ok(())
            }
            same if same == rest.len() => Err(Stop::More),
            same => Err(not_version(same, rest).into()),
        }
    }

    /// Says whether the name is none, which ends the head.
    fn name(&mut self, bytes: &[u8], limits: Bounds) -> Result<bool, Stop> {
        let class = name_class(limits.odd_header_names);
        let (name, stop) = self.word(bytes, class)?;
        let first = name.is_empty();
        let behind = bytes.get(self.at + 1..).unwrap_or_default();
        match stop {
            b':' if first => Err(Refusal::HeaderLine.into()),
            b':' => {
                self.lines += 1;
                if self.lines > limits.headers {
                    return Err(Refusal::TooManyHeaders.into());
                }
                self.begin(Part::Value(Field::of(name)), 1);
                Ok(false)
            }
            b'\r' if first => match behind.first() {
                None => Err(Stop::More),
                Some(b'\n') => {
                    self.at += 2;
                    Ok(true)
                }
                Some(_) => Err(Refusal::BareCr.into()),
            },
            b' ' | b'\t' if first => Err(Refusal::Fold.into()),
            b' ' | b'\t' => match behind.iter().find(|byte| !matches!(byte, b' ' | b'\t')) {
                None => Err(Stop::More),
                Some(b':') => Err(Refusal::SpacedName.into()),
                Some(_) => Err(Refusal::HeaderLine.into()),
            },
            b'\r' if behind.is_empty() => Err(Stop::More),
            b'\r' if behind.first() == Some(&b'\n') => Err(Refusal::HeaderLine.into()),
            byte if is_control(byte) => Err(stray(byte, behind).into()),
            byte if is(byte, TOKEN) => Err(Refusal::HeaderName.into()),
            _ => Err(Refusal::HeaderLine.into()),
        }
    }

    fn value(&mut self, bytes: &[u8], field: Field) -> Result<(), Stop> {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some(length) = first_control(rest) else {
                self.at = bytes.len();
                return Err(Stop::More);
            };
            self.at += length;
            match rest.get(length..).unwrap_or_default() {
                [b'\t', ..] => self.at += 1,
                [b'\r'] => return Err(Stop::More),
                [b'\r', b'\n', ..] => break,
                [byte, behind @ ..] => return Err(stray(*byte, behind).into()),
                [] => return Err(Stop::More),
            }
        }
        let value = bytes.get(self.from..self.at).unwrap_or_default();
        self.note(field, trimmed(value))?;
        self.begin(Part::Name, 2);
        Ok(())
    }

    /// Takes in what a line says about what follows the head.
    fn note(&mut self, field: Field, value: &[u8]) -> Result<(), Refusal> {
        match field {
            Field::Other => Ok(()),
            Field::Upgrade => {
                self.after = self.after.or(Some(After::Upgrade));
                Ok(())
            }
            Field::Coding => {
                let repeated = std::mem::replace(&mut self.coded, true);
                if repeated || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Coding);
                }
                Ok(())
            }
            Field::Length => {
                let length = plain_number(value).ok_or(Refusal::Length)?;
                match self.length.replace(length) {
                    None => Ok(()),
                    Some(_) => Err(Refusal::RepeatedLength),
                }
            }
        }
    }

    fn end(&self, limits: Bounds) -> Result<End, Refusal> {
        if self.at > limits.head_bytes {
            return Err(Refusal::HeadTooLarge);
        }
        let framing = match (self.coded, self.length) {
            (true, Some(_)) => return Err(Refusal::TwoFramings),
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Sized(length.unwrap_or_default()),
        };
        let after = self.after.unwrap_or(After::Request);
        if after == After::Tunnel && (self.coded || self.length.is_some()) {
            return Err(Refusal::ConnectBody);
        }
        Ok(End {
            bytes: self.at,
            framing,
            after,
        })
    }
}

impl Field {
    fn of(name: &[u8]) -> Self {
        // Lengths rule most names out.
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => Self::Upgrade,
            14 if name.eq_ignore_ascii_case(b"content-length") => Self::Length,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => Self::Coding,
            _ => Self::Other,
        }
    }
}

/// Whether a target is a path, a URL with a host, or, for CONNECT, a host with a port.
fn has_form(target: &[u8], connect: bool) -> bool {
    let is_authority = |bytes| std::str::from_utf8(bytes).is_ok_and(is_host);
    match target {
        _ if connect => is_authority(target) && !target.ends_with(b"]") && target.contains(&b':'),
        [b'/', ..] => true,
        [] => false,
        _ => [&b"http://"[..], b"https://"]
            .into_iter()
            .filter_map(|scheme| target.strip_prefix(scheme))
            .any(|rest| {
                let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
                is_authority(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default())
            }),
    }
}

/// What is wrong where `HTTP/1.1` and the end of the line should be, `same` bytes behind which
/// something else comes.
fn not_version(same: usize, rest: &[u8]) -> Refusal {
    match (same, rest) {
        // Another number is another version, which is told as soon as it is known.
        (5..8, [_, _, _, _, _, major, ..]) if major.is_ascii_digit() => Refusal::Version,
        (8, _) if rest.get(8) == Some(&b'\n') => Refusal::BareLf,
        (9, _) => Refusal::BareCr,
        _ => Refusal::RequestLine,
    }
}

/// What is wrong with a control character that ends no line.
fn stray(byte: u8, behind: &[u8]) -> Refusal {
    match (byte, behind.first()) {
        (b'\n', _) => Refusal::BareLf,
        (b'\r', Some(_)) => Refusal::BareCr,
        _ => Refusal::Control,
    }
}

fn trimmed(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Digits without a zero in front, and a number that any reader has room for.
fn plain_number(value: &[u8]) -> Option<u64> {
    let digits = match value {
        [b'0'] => return Some(0),
        [b'1'..=b'9', ..] if value.len() <= LENGTH_DIGITS => value,
        _ => return None,
    };
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        Some(number * 10 + u64::from(digit))
    })
}

/// The first control character, a tab included.
///
/// Eight bytes at a time, and 32 where the value is long: tokens have kilobytes.
pub(super) fn first_control(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let (blocks, _) = bytes.as_chunks::<32>();
    for block in blocks {
        // Without a branch, so that it becomes a few vector instructions.
        let any = block
            .iter()
            .fold(false, |any, byte| any | is_control(*byte));
        if any {
            break;
        }
        at += block.len();
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let (words, last) = rest.as_chunks::<8>();
    for word in words {
        let marks = controls(u64::from_le_bytes(*word));
        if marks != 0 {
            // The lowest mark is at the top of the first such byte.
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += word.len();
    }
    let found = last.iter().position(|byte| is_control(*byte));
    found.map(|offset| at + offset)
}

/// Marks the first byte below 0x20 or equal to 0x7f, and perhaps later ones that are neither: a
/// borrow only ever runs towards higher bytes, from one that is marked.
fn controls(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let low = word.wrapping_sub(ONES * 0x20) & !word;
    let other = word ^ (ONES * 0x7f);
    let delete = other.wrapping_sub(ONES) & !other;
    (low | delete) & TOPS
}

/// A byte that no line has inside, but a tab in a value.
pub(in crate::proxy) fn is_control(byte: u8) -> bool {
    // Both are looked at, whatever the first says: see `first_control`.
    (byte < 0x20) | (byte == 0x7f)
}

/// What a header name may be made of: letters, digits and hyphens, or all that RFC 9110 allows
/// where the service drops the others.
pub(in crate::proxy) fn is_name(byte: u8, odd: Oddity) -> bool {
    is(byte, name_class(odd))
}

fn name_class(odd: Oddity) -> u8 {
    match odd {
        Oddity::Refuse => NAME,
        Oddity::Drop => TOKEN,
    }
}

fn is(byte: u8, class: u8) -> bool {
    CLASS
        .get(usize::from(byte))
        .is_some_and(|found| found & class != 0)
}

/// The classes a byte is in.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        let name = byte.is_ascii_alphanumeric() || byte == b'-';
        let token = name
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        #[expect(clippy::indexing_slicing, reason = "a byte indexes 256 places")]
        let class = &mut table[byte as usize];
        if name {
            *class |= NAME;
        }
        if token {
            *class |= TOKEN;
        }
        if !is_refused(byte) {
            *class |= TARGET;
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};
/// Letters, digits and hyphens.
const NAME: u8 = 1;
/// What names and methods may be made of (RFC 9110 5.6.2).
const TOKEN: u8 = 1 << 1;
/// What targets are made of.
const TARGET: u8 = 1 << 2;

/// The only version, and the end of its line.
const VERSION: &[u8; 10] = b"HTTP/1.1\r\n";
/// The longest registered method, UPDATEREDIRECTREF, has 17.
const METHOD_BYTES: usize = 24;
/// Digits of a Content-Length that fit into 63 bits whatever they are.
const LENGTH_DIGITS: usize = 18;

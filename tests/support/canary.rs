//! Secrets of a test run, and a look-out for them in whatever usher says.
//!
//! Whoever makes a secret in a test has it hidden here, and whoever gets to see what usher writes
//! has it looked through. A secret is found as it is, as text, and as anything that a careless line
//! of code would make of it: hexadecimal, base64, or the `Debug` form of its bytes. Any sixteen
//! bytes in a row of one of these are enough.
#![allow(dead_code, reason = "each suite of tests needs a part of it")]

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, Once, PoisonError, RwLock, RwLockWriteGuard};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Where something can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// What usher logs, at level trace.
    Log,
    /// What the admin listener says of it.
    Metrics,
    /// What a client is sent.
    Answer,
    /// What an upstream is sent, or a server that is asked for names.
    Upstream,
    /// What the panic hook is told.
    Panic,
    /// Standard output of a command whose business is not to print a token.
    Stdout,
    /// Standard error of any command.
    Stderr,
}

impl Place {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Marks a secret that is meant to be found.
const PLANTED: u8 = 1 << 7;

/// Hides the raw bytes of a secret, in all their forms.
pub(crate) fn hide(secret: &[u8]) {
    hide_except(secret, &[]);
}

/// The same, of one that these places are meant to show.
pub(crate) fn hide_except(secret: &[u8], places: &[Place]) {
    add_forms(secret, bits(places));
}

/// Hides a text, as it is written.
pub(crate) fn hide_text(text: &str) {
    hide_text_except(text, &[]);
}

/// The same, of one that these places are meant to show.
pub(crate) fn hide_text_except(text: &str, places: &[Place]) {
    hidden_mut().add(text.as_bytes(), bits(places));
}

/// Hides every token in the value of a header, in a command line or in its output, and what is
/// presented as a password.
pub(crate) fn hide_tokens(text: &str) {
    for part in text.split("fm2_").skip(1) {
        let token = part.split(|c| !is_base64(c)).next().unwrap_or_default();
        hide_text(token);
        // The end of a token is its tail, by which it is signed and could be attenuated.
        if let Ok(bytes) = STANDARD.decode(token)
            && let Some(tail) = bytes.last_chunk::<32>()
        {
            hide(tail);
        }
    }
    if let Some(basic) = text.strip_prefix("Basic ") {
        hide_text(basic);
        let decoded = STANDARD.decode(basic.trim()).unwrap_or_default();
        hide_tokens(&String::from_utf8_lossy(&decoded));
    }
}

/// Whether it is the business of a command line to print tokens.
pub(crate) fn prints_tokens(arguments: &[&str]) -> bool {
    let makes_one = ["create", "attenuate", "discharge"].contains(arguments.get(1).unwrap_or(&""));
    arguments.first() == Some(&"token") && makes_one
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}

/// Hides the credentials of a request that is about to be sent.
pub(crate) fn hide_credentials(request: &[u8]) {
    if request.len() > LONGEST_HEAD {
        return;
    }
    let text = String::from_utf8_lossy(request);
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            hide_tokens(value.trim());
        }
    }
}

/// No head is longer, and what is longer need not be read.
const LONGEST_HEAD: usize = 128 * 1024;

/// Looks through something whole.
pub(crate) fn look(place: Place, bytes: &[u8]) {
    search(place, bytes);
    let passes_through = matches!(place, Place::Answer | Place::Upstream);
    if !passes_through || bytes.len() <= LONGEST_OWN {
        search(place, &numbers(bytes));
        if bytes.windows(2).any(|pair| pair == b"\\x") {
            let once = unescaped(bytes);
            search(place, &once);
            search(place, &unescaped(&once));
        }
    }
}

/// What is longer only passes through usher, which has no `Debug` forms to put there.
const LONGEST_OWN: usize = 2 * 1024;

/// Looks through something that comes in parts.
#[derive(Debug)]
pub(crate) struct Stream {
    place: Place,
    /// The end of what came before, in which a secret may have begun.
    kept: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(place: Place) -> Self {
        let kept = Vec::new();
        Self { place, kept }
    }

    pub(crate) fn look(&mut self, part: &[u8]) {
        self.kept.extend_from_slice(part);
        look(self.place, &self.kept);
        let known = self.kept.len().saturating_sub(SHORTEST - 1);
        self.kept.drain(..known);
    }
}

/// Looks through each line of a log.
#[derive(Debug)]
pub(crate) struct Lines(pub(crate) Place);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        look(self.0, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks through what panics say, from now on, in whichever thread.
pub(crate) fn watch_panics() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !TELLING.get() {
                look(Place::Panic, panic.to_string().as_bytes());
            }
            before(panic);
        }));
    });
}

/// Fails the test if any secret has shown anywhere since the last time. Whoever asks first is told;
/// the thread that saw it is named.
#[track_caller]
pub(crate) fn assert_hidden() {
    if thread::panicking() {
        return;
    }
    let found = std::mem::take(&mut *FOUND.lock().unwrap_or_else(PoisonError::into_inner));
    TELLING.set(true);
    assert!(found.is_empty(), "secrets show:\n{}", found.join("\n"));
    TELLING.set(false);
}

thread_local! {
    /// Whether a panic of this thread is the test's own, which does show what was found.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// A secret that is made to show.
#[derive(Debug)]
pub(crate) struct Plant {
    pub(crate) raw: [u8; 32],
}

impl Plant {
    pub(crate) fn new() -> Self {
        Self::around(&[])
    }

    /// One with these bytes in its middle.
    pub(crate) fn around(middle: &[u8]) -> Self {
        let mut raw = [0; 32];
        getrandom::fill(&mut raw).unwrap();
        raw[14..][..middle.len()].copy_from_slice(middle);
        add_forms(&raw, PLANTED);
        Self { raw }
    }

    pub(crate) fn hexadecimal(&self) -> String {
        hexadecimal(&self.raw)
    }

    /// Where it was found so far.
    pub(crate) fn found_in(&self) -> BTreeSet<Place> {
        let forms = forms(&self.raw);
        let mine = |found: &&(Place, Vec<u8>)| {
            let contains = |form: &Vec<u8>| form.windows(8).any(|part| found.1.starts_with(part));
            forms.iter().any(contains)
        };
        let planted = PLANTS.lock().unwrap_or_else(PoisonError::into_inner);
        planted.iter().filter(mine).map(|found| found.0).collect()
    }
}

/// All parts of all secrets.
struct Hidden {
    /// Eight bytes in a row, with the places that may show them.
    parts: HashMap<[u8; 8], u8>,
    /// A bit for each of them, and most of the others have none: tells quickly what is not there.
    likely: Vec<u64>,
    /// What has been added, for much is added often.
    known: HashSet<(Vec<u8>, u8)>,
}

static HIDDEN: LazyLock<RwLock<Hidden>> = LazyLock::new(|| {
    RwLock::new(Hidden {
        parts: HashMap::new(),
        likely: vec![0; LIKELY / 64],
        known: HashSet::new(),
    })
});
static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());
static PLANTS: Mutex<Vec<(Place, Vec<u8>)>> = Mutex::new(Vec::new());

/// Bits that tell what is not there.
const LIKELY: usize = 1 << 23;

/// So much of a secret is one: less could be chance.
const SHORTEST: usize = 16;

impl Hidden {
    fn add(&mut self, secret: &[u8], shown: u8) {
        if !self.known.insert((secret.to_vec(), shown)) {
            return;
        }
        for part in secret.array_windows::<8>() {
            // What repeats itself is found in many places.
            if part.iter().collect::<HashSet<_>>().len() < 4 {
                continue;
            }
            *self.parts.entry(*part).or_default() |= shown;
            let bit = spread(*part);
            self.likely[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Whether these eight bytes are part of a secret that this place must not show.
    fn has(&self, part: [u8; 8], place: Place) -> Option<u8> {
        if !self.is_likely(part) {
            return None;
        }
        let shown = self.parts.get(&part).copied();
        shown.filter(|shown| shown & place.bit() == 0)
    }

    fn is_likely(&self, part: [u8; 8]) -> bool {
        let bit = spread(part);
        self.likely[bit / 64] >> (bit % 64) & 1 != 0
    }
}

fn spread(part: [u8; 8]) -> usize {
    let mixed = u64::from_le_bytes(part).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - LIKELY.ilog2())) as usize
}

/// Looks through bytes as they are, and says what is found.
fn search(place: Place, bytes: &[u8]) {
    for (found, planted) in secrets(place, bytes) {
        if planted {
            let mut plants = PLANTS.lock().unwrap_or_else(PoisonError::into_inner);
            plants.push((place, bytes[found].to_vec()));
        } else {
            let end = bytes.len().min(found.end + 60);
            let around = bytes[found.start.saturating_sub(60)..end].escape_ascii();
            let thread = thread::current();
            let seen_by = thread.name().unwrap_or("a thread");
            FOUND
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!("{place:?}, seen by {seen_by}: ...{around}..."));
        }
    }
}

/// Where there are parts of secrets, and whether they were planted there.
fn secrets(place: Place, bytes: &[u8]) -> Vec<(Range<usize>, bool)> {
    let hidden = HIDDEN.read().unwrap_or_else(PoisonError::into_inner);
    let has = |at: usize| hidden.has(*bytes[at..].first_chunk().unwrap(), place);
    let (mut found, mut seen) = (Vec::new(), 0);
    // Of sixteen bytes in a row, eight begin at a multiple of eight. Much passes through here, in
    // programs that are not optimized.
    for (index, part) in bytes.as_chunks().0.iter().enumerate() {
        if !hidden.is_likely(*part) || index * 8 < seen {
            continue;
        }
        let at = index * 8;
        let Some(shown) = has(at) else {
            continue;
        };
        let (mut first, mut last) = (at, at);
        while first > 0 && has(first - 1).is_some() {
            first -= 1;
        }
        while last + 8 < bytes.len() && has(last + 1).is_some() {
            last += 1;
        }
        seen = last + 8;
        if seen - first >= SHORTEST {
            found.push((first..seen, shown & PLANTED != 0));
        }
    }
    found
}

/// Whether a test would fail if this place showed it.
pub(crate) fn would_be_found(place: Place, bytes: &[u8]) -> bool {
    secrets(place, bytes).iter().any(|(_, planted)| !planted)
}

fn add_forms(secret: &[u8], shown: u8) {
    let forms = forms(secret);
    let mut hidden = hidden_mut();
    for form in forms {
        hidden.add(&form, shown);
    }
}

/// A secret, and what can be made of it.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let lower = hexadecimal(secret);
    let upper = lower.to_ascii_uppercase();
    let mut forms = vec![secret.to_vec(), lower.into_bytes(), upper.into_bytes()];
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        // With nothing, one and two bytes before it; what depends on its neighbours is left out.
        for (before, mixed) in [(0, 0), (1, 2), (2, 3)] {
            let text = engine.encode([&[0; 2][..before], secret].concat());
            let own = text.get(mixed..text.len() - 1).unwrap_or_default();
            forms.push(own.as_bytes().to_vec());
        }
    }
    forms
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that were printed as numbers.
fn numbers(text: &[u8]) -> Vec<u8> {
    let numbers = text.split(|byte| !byte.is_ascii_digit());
    let byte = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    numbers.filter_map(byte).collect()
}

/// Bytes that were printed as a text with escapes. JSON may have escaped them again.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, more @ ..] = rest {
        rest = more;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, taken) = match rest {
            [b'x', high, low, ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap_or("?");
                (u8::from_str_radix(digits, 16).unwrap_or(b'?'), 3)
            }
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [other, ..] => (*other, 1),
            [] => (b'\\', 0),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes
}

fn bits(places: &[Place]) -> u8 {
    places.iter().fold(0, |bits, place| bits | place.bit())
}

fn hidden_mut() -> RwLockWriteGuard<'static, Hidden> {
    HIDDEN.write().unwrap_or_else(PoisonError::into_inner)
}

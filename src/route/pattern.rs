//! Patterns: `/v1/apps/{app}/machines/{machine}`.

use std::fmt;

use thiserror::Error;

/// A compiled path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    segments: Box<[Segment]>,
    captures: Box<[Capture]>,
}

/// One step of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These bytes. Empty only at the end, where it stands for a trailing slash.
    Literal(Box<str>),
    /// One of these, whichever; at least two, none of them empty.
    OneOf(Box<[Box<str>]>),
    /// One segment.
    Capture(Alphabet),
    /// One or more segments, up to the end; no trailing slash.
    Tail(Alphabet),
}

/// A named part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Unique in its pattern.
    pub name: Box<str>,
    /// What a segment may be made of.
    pub alphabet: Alphabet,
    /// Whether it takes more than one segment.
    pub tail: bool,
}

/// The bytes that a captured segment may hold. All are ASCII and none is ever encoded in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// `[A-Za-z0-9_-]`, the default: names and ids.
    Id,
    /// `[A-Za-z0-9*.-]`: host names, wildcards too.
    Host,
    /// `[0-9A-Fa-f.:]`: addresses.
    Ip,
    /// `[A-Za-z0-9_.-]`: tags and file names.
    Name,
    /// `[A-Za-z0-9:_+.-]`: digests and image references.
    Digest,
}

impl Pattern {
    /// Reads a pattern as it is written in the configuration.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let path = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        let mut segments = Vec::new();
        let mut captures: Vec<Capture> = Vec::new();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let Some(inner) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) else {
                segments.push(fixed(part, last)?);
                continue;
            };
            let capture = parse_capture(inner)?;
            if captures.iter().any(|known| known.name == capture.name) {
                return Err(PatternError::Repeated(capture.name));
            }
            if capture.tail && !last {
                return Err(PatternError::TailNotLast);
            }
            segments.push(if capture.tail {
                Segment::Tail(capture.alphabet)
            } else {
                Segment::Capture(capture.alphabet)
            });
            captures.push(capture);
        }
        Ok(Self {
            text: text.into(),
            segments: segments.into(),
            captures: captures.into(),
        })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its steps.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Its captures, in the order of the path.
    pub fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// Whether there could be a path of both, whatever the alphabets.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let mut steps = (self.segments.iter(), other.segments.iter());
        loop {
            match (steps.0.next(), steps.1.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(Segment::Tail(_)), Some(_)) | (Some(_), Some(Segment::Tail(_))) => {
                    return true;
                }
                (Some(one), Some(two)) if one.meets(two) => {}
                (Some(_), Some(_)) => return false,
            }
        }
    }
}

impl Segment {
    fn meets(&self, other: &Self) -> bool {
        match (self.texts(), other.texts()) {
            (Some(texts), Some(others)) => texts.iter().any(|text| others.contains(text)),
            (None, _) | (_, None) => true,
        }
    }

    /// Everything that it can be; `None` if that has no end.
    fn texts(&self) -> Option<&[Box<str>]> {
        match self {
            Self::Literal(text) => Some(std::slice::from_ref(text)),
            Self::OneOf(texts) => Some(texts),
            Self::Capture(_) | Self::Tail(_) => None,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Capture {
    /// Whether the captured text keeps to the alphabet, segment by segment.
    pub(super) fn accepts(&self, text: &str) -> bool {
        if self.tail {
            text.split('/')
                .all(|segment| self.alphabet.accepts(segment))
        } else {
            self.alphabet.accepts(text)
        }
    }
}

impl Alphabet {
    /// Whether this can be a whole segment: not empty, not too long, only bytes of the alphabet.
    pub fn accepts(self, segment: &str) -> bool {
        (1..=MAX_SEGMENT).contains(&segment.len()) && segment.bytes().all(|b| self.has(b))
    }

    /// The word for it in a pattern.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Host => "host",
            Self::Ip => "ip",
            Self::Name => "name",
            Self::Digest => "digest",
        }
    }

    /// What it is made of, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Id => "letters, digits, `_` and `-`",
            Self::Host => "letters, digits, `*`, `.` and `-`",
            Self::Ip => "hexadecimal digits, `.` and `:`",
            Self::Name => "letters, digits, `_`, `.` and `-`",
            Self::Digest => "letters, digits, `:`, `_`, `+`, `.` and `-`",
        }
    }

    /// A segment that it accepts.
    pub(super) fn sample(self) -> &'static str {
        match self {
            Self::Ip => "1",
            Self::Id | Self::Host | Self::Name | Self::Digest => "x",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Id, Self::Host, Self::Ip, Self::Name, Self::Digest]
            .into_iter()
            .find(|alphabet| alphabet.name() == word)
    }

    fn has(self, byte: u8) -> bool {
        match self {
            Self::Id => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Host => byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'.' | b'-'),
            Self::Ip => byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':'),
            Self::Name => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'),
            Self::Digest => {
                byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'+' | b'.' | b'-')
            }
        }
    }
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// No leading slash.
    #[error("the path does not start with a slash")]
    NoSlash,
    /// Two slashes in a row.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A literal that no target can have.
    #[error("`{0}` can never occur in a path: use letters, digits and `-._~!$&'()*+,=:@`")]
    Literal(Box<str>),
    /// A brace that does not enclose a whole segment.
    #[error("`{0}`: a capture is a whole segment, as in `/apps/{{app}}/machines`")]
    Brace(Box<str>),
    /// The name of a capture.
    #[error("`{{{0}}}`: a capture is named with letters, digits and `_`")]
    Name(Box<str>),
    /// The alphabet of a capture.
    #[error("`{0}` is no alphabet: use id, host, ip, name or digest")]
    Alphabet(Box<str>),
    /// Two captures of one name.
    #[error("the path captures `{0}` twice")]
    Repeated(Box<str>),
    /// The same text twice in one segment.
    #[error("`{0}` stands twice in one segment")]
    RepeatedChoice(Box<str>),
    /// `{rest...}` before the end.
    #[error("`{{name...}}` takes the rest of the path and can only be the last segment")]
    TailNotLast,
}

/// Bytes of one captured segment, inclusive: the length of a host name or of a file name.
const MAX_SEGMENT: usize = 255;

/// `literal`, or `one|another`: for a part that says nothing to usher, of which only some values
/// lead to the same resources. A capture would take the others too.
fn fixed(part: &str, last: bool) -> Result<Segment, PatternError> {
    if !part.contains('|') {
        return Ok(Segment::Literal(literal(part, last)?.into()));
    }
    let mut choices: Vec<Box<str>> = Vec::new();
    for choice in part.split('|') {
        let choice = literal(choice, false)?.into();
        if choices.contains(&choice) {
            return Err(PatternError::RepeatedChoice(choice));
        }
        choices.push(choice);
    }
    Ok(Segment::OneOf(choices.into()))
}

fn literal(part: &str, last: bool) -> Result<&str, PatternError> {
    if part.is_empty() && !last {
        return Err(PatternError::EmptySegment);
    }
    if part.contains(['{', '}']) {
        return Err(PatternError::Brace(part.into()));
    }
    let possible = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
    if !part.bytes().all(possible) || part == "." || part == ".." {
        return Err(PatternError::Literal(part.into()));
    }
    Ok(part)
}

/// `name`, `name:alphabet`, `name...` or `name:alphabet...`.
pub(super) fn parse_capture(inner: &str) -> Result<Capture, PatternError> {
    let (inner, tail) = match inner.strip_suffix("...") {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let (name, alphabet) = match inner.split_once(':') {
        Some((name, word)) => (
            name,
            Alphabet::parse(word).ok_or_else(|| PatternError::Alphabet(word.into()))?,
        ),
        None if tail => (inner, Alphabet::Name),
        None => (inner, Alphabet::Id),
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(named) {
        return Err(PatternError::Name(name.into()));
    }
    Ok(Capture {
        name: name.into(),
        alphabet,
        tail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_can_be_one_of_several() {
        let pattern = Pattern::parse("/{org}/postgres|postgresv2/{id}").unwrap();
        let choices = ["postgres", "postgresv2"].map(Box::from);
        assert_eq!(pattern.segments()[1], Segment::OneOf(choices.into()));
        assert_eq!(pattern.captures().len(), 2);
        for (text, expected) in [
            ("/a|a", PatternError::RepeatedChoice("a".into())),
            ("/a|", PatternError::EmptySegment),
            ("/|", PatternError::EmptySegment),
            ("/a|b c", PatternError::Literal("b c".into())),
            ("/a|..", PatternError::Literal("..".into())),
            ("/a|{b}", PatternError::Brace("{b}".into())),
        ] {
            assert_eq!(Pattern::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn patterns_compile_to_steps() {
        let pattern = Pattern::parse("/v2/{app}/tags/{tag:name}/{rest...}").unwrap();
        assert_eq!(
            pattern.segments(),
            [
                Segment::Literal("v2".into()),
                Segment::Capture(Alphabet::Id),
                Segment::Literal("tags".into()),
                Segment::Capture(Alphabet::Name),
                Segment::Tail(Alphabet::Name),
            ]
        );
        let names: Vec<_> = pattern.captures().iter().map(|c| &*c.name).collect();
        assert_eq!(names, ["app", "tag", "rest"]);
        assert_eq!(
            Pattern::parse("/v2/").unwrap().segments(),
            [Segment::Literal("v2".into()), Segment::Literal("".into())]
        );
        assert_eq!(
            Pattern::parse("/").unwrap().segments(),
            [Segment::Literal("".into())]
        );
        assert_eq!(
            Pattern::parse("/{path:digest...}").unwrap().segments(),
            [Segment::Tail(Alphabet::Digest)]
        );
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        use PatternError::*;
        for (text, expected) in [
            ("", NoSlash),
            ("v1", NoSlash),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a/../b", Literal("..".into())),
            ("/a%20b", Literal("a%20b".into())),
            ("/a?b", Literal("a?b".into())),
            ("/a{b}", Brace("a{b}".into())),
            ("/{a}{b}", Name("a}{b".into())),
            ("/{a", Brace("{a".into())),
            ("/{}", Name("".into())),
            ("/{a-b}", Name("a-b".into())),
            ("/{a:uuid}", Alphabet("uuid".into())),
            ("/{a}/{a}", Repeated("a".into())),
            ("/{a...}/b", TailNotLast),
            ("/{a...}/", TailNotLast),
        ] {
            assert_eq!(Pattern::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn alphabets_bound_whole_segments() {
        for (alphabet, good, bad) in [
            (Alphabet::Id, "web-1_A", "a.b"),
            (Alphabet::Host, "*.example.com", "a_b"),
            (Alphabet::Ip, "fdaa::3", "10.0.0.g"),
            (Alphabet::Name, "v1.2_3-x", "a:b"),
            (Alphabet::Digest, "sha256:0a+b", "a/b"),
        ] {
            assert!(alphabet.accepts(good), "{good}");
            assert!(!alphabet.accepts(bad), "{bad}");
            assert!(!alphabet.accepts(""), "empty");
            assert!(alphabet.accepts(&"1".repeat(MAX_SEGMENT)));
            assert!(!alphabet.accepts(&"1".repeat(MAX_SEGMENT + 1)));
        }
    }
}

//! The request target: raw path and raw query, or a refusal.

use thiserror::Error;

/// Path and query of an origin-form target, byte for byte as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    raw: &'a str,
    path: &'a str,
    query: Query<'a>,
}

impl<'a> Target<'a> {
    /// Accepts a target that can be read in one way only.
    ///
    /// Nothing is decoded or normalised: a percent sign in the path is refused whatever it stands
    /// for, because no segment that usher judges needs one. Values of the query may be encoded.
    /// The length is the caller's business.
    pub fn parse(raw: &'a str) -> Result<Self, TargetError> {
        if !raw.starts_with('/') {
            return Err(TargetError::Form);
        }
        let (class, pairs) = survey(raw.as_bytes());
        if class & REFUSED != 0 {
            return Err(refused(raw));
        }
        let (path, query) = match split_at_byte(raw, b'?').filter(|_| class & QUERY != 0) {
            Some((path, query)) => (path, Some(query)),
            None => (raw, None),
        };
        // Without a percent sign, and without a slash or dot behind a slash, no segment can be
        // empty, dots or encoded.
        if class & PERCENT != 0 || pairs {
            check_path(path)?;
        }
        if let Some(query) = query {
            check_query(query, path.len() + 1)?;
        }
        Ok(Self {
            raw,
            path,
            query: Query { raw: query },
        })
    }

    /// The whole target.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// The path, with its leading slash.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The query.
    pub fn query(&self) -> Query<'a> {
        self.query
    }

    /// The segments behind the leading slash. Only the last can be empty: a trailing slash.
    pub fn segments(&self) -> impl Iterator<Item = &'a str> {
        self.path.split('/').skip(1)
    }
}

/// The query of a target: literal keys, raw values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    raw: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Pairs in the order sent. A key without `=` has the empty value.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.raw
            .filter(|raw| !raw.is_empty())
            .into_iter()
            .flat_map(|raw| raw.split('&'))
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// The value of a key that may occur once. Present and empty is not absent.
    ///
    /// A key that differs only in case, or in `.`, `-` and `_`, counts as a repetition: some
    /// servers fold these.
    pub fn one(&self, name: &str) -> Result<Option<&'a str>, QueryError> {
        let mut found = None;
        for (key, value) in self.pairs() {
            if !folds_to(key, name) {
                continue;
            }
            if key != name {
                return Err(QueryError::Spelling);
            }
            if found.replace(value).is_some() {
                return Err(QueryError::Repeated);
            }
        }
        Ok(found)
    }
}

fn folds_to(key: &str, name: &str) -> bool {
    let fold = |byte: &u8| match byte {
        b'.' | b'-' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    key.len() == name.len()
        && key
            .bytes()
            .zip(name.bytes())
            .all(|(a, b)| fold(&a) == fold(&b))
}

/// Why a target is refused; offsets count bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// `*`, `host:port`, `http://host/`, or nothing.
    #[error("the request target does not start with a slash")]
    Form,
    /// Two slashes in a row.
    #[error("empty path segment at byte {at}")]
    EmptySegment {
        /// Of the second slash.
        at: usize,
    },
    /// `.` or `..`, plain or encoded.
    #[error("dot segment at byte {at}")]
    DotSegment {
        /// Of the segment.
        at: usize,
    },
    /// A backslash.
    #[error("backslash at byte {at}")]
    Backslash {
        /// Of the backslash.
        at: usize,
    },
    /// `;`
    #[error("semicolon at byte {at}")]
    Semicolon {
        /// Of the semicolon.
        at: usize,
    },
    /// `#`
    #[error("fragment at byte {at}")]
    Fragment {
        /// Of the `#`.
        at: usize,
    },
    /// Outside 0x21-0x7e, or one of ``"<>^`{|}``.
    #[error("byte at {at} is not allowed in a request target")]
    Byte {
        /// Of the byte.
        at: usize,
    },
    /// A percent sign without two hexadecimal digits.
    #[error("malformed percent-encoding at byte {at}")]
    MalformedPercent {
        /// Of the percent sign.
        at: usize,
    },
    /// `%2f` or `%5c` in the path.
    #[error("encoded slash at byte {at}")]
    EncodedSlash {
        /// Of the percent sign.
        at: usize,
    },
    /// `%00`, in the path or in the query.
    #[error("encoded NUL at byte {at}")]
    EncodedNul {
        /// Of the percent sign.
        at: usize,
    },
    /// `%25` in the path: it decodes to something that can be decoded again.
    #[error("double percent-encoding at byte {at}")]
    DoubleEncoding {
        /// Of the percent sign.
        at: usize,
    },
    /// Any other percent-encoding in the path.
    #[error("percent-encoding in the path at byte {at}")]
    EncodedPath {
        /// Of the percent sign.
        at: usize,
    },
    /// A query key that is empty or not literal: outside `[A-Za-z0-9_.-]`.
    #[error("query key at byte {at} is not made of letters, digits, `_`, `.` and `-`")]
    QueryKey {
        /// Of the key.
        at: usize,
    },
}

/// Why a query key cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    /// The key occurs twice; servers differ in which one they take.
    #[error("it occurs more than once")]
    Repeated,
    /// The key occurs in a spelling that some servers take for the same.
    #[error("it is spelled in another way")]
    Spelling,
}

/// What kinds of bytes there are, and whether a slash or dot comes right behind a slash.
fn survey(bytes: &[u8]) -> (u8, bool) {
    let mut seen = 0;
    let mut before = 0;
    let mut pairs = 0;
    for byte in bytes {
        let class = CLASS
            .get(usize::from(*byte))
            .map_or(REFUSED, |class| *class);
        seen |= class;
        pairs |= before & class;
        before = if class & SLASH == 0 { 0 } else { SLASH | DOT };
    }
    (seen, pairs != 0)
}

/// The first byte that no target may hold.
fn refused(raw: &str) -> TargetError {
    let found = raw.bytes().enumerate().find(|(_, b)| is_refused(*b));
    match found {
        Some((at, b'\\')) => TargetError::Backslash { at },
        Some((at, b';')) => TargetError::Semicolon { at },
        Some((at, b'#')) => TargetError::Fragment { at },
        Some((at, _)) => TargetError::Byte { at },
        None => TargetError::Form,
    }
}

/// Splits at the first such byte, which must be ASCII. Segments are short, and there the search of
/// `str` for a `char` costs several times as much as this one.
pub(super) fn split_at_byte(text: &str, at: u8) -> Option<(&str, &str)> {
    let (before, rest) = text.split_at_checked(memchr::memchr(at, text.as_bytes())?)?;
    Some((before, rest.get(1..)?))
}

/// Bytes that no target may hold, path or query. Those outside 0x21-0x7e and the rest of the list
/// are not URI characters (RFC 3986, 2.2 and 2.3); `\` and `;` are separators to some servers.
pub const fn is_refused(byte: u8) -> bool {
    !byte.is_ascii_graphic()
        || matches!(
            byte,
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | b'\\' | b';' | b'#'
        )
}

fn check_path(path: &str) -> Result<(), TargetError> {
    // The first item of the split is what precedes the leading slash: nothing.
    let mut at = 1;
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(TargetError::EmptySegment { at });
        }
        if is_dot_segment(segment) {
            return Err(TargetError::DotSegment { at });
        }
        if let Some((offset, escape)) = escapes(segment).next() {
            let at = at + offset;
            return Err(match escape {
                None => TargetError::MalformedPercent { at },
                Some(b'/' | b'\\') => TargetError::EncodedSlash { at },
                Some(0) => TargetError::EncodedNul { at },
                Some(b'%') => TargetError::DoubleEncoding { at },
                Some(_) => TargetError::EncodedPath { at },
            });
        }
        at += segment.len() + 1;
    }
    Ok(())
}

fn check_query(query: &str, start: usize) -> Result<(), TargetError> {
    if query.is_empty() {
        return Ok(());
    }
    let mut at = start;
    for pair in query.split('&') {
        let key = pair.split_once('=').map_or(pair, |(key, _)| key);
        if key.is_empty() || !key.bytes().all(is_key_byte) {
            return Err(TargetError::QueryKey { at });
        }
        for (offset, escape) in escapes(pair) {
            let at = at + offset;
            match escape {
                None => return Err(TargetError::MalformedPercent { at }),
                Some(0) => return Err(TargetError::EncodedNul { at }),
                Some(_) => {}
            }
        }
        at += pair.len() + 1;
    }
    Ok(())
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// `.` or `..`, where each dot may also be written `%2e`.
fn is_dot_segment(segment: &str) -> bool {
    let mut rest = segment.as_bytes();
    let mut dots = 0;
    loop {
        rest = match rest {
            [] => return dots == 1 || dots == 2,
            [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => tail,
            _ => return false,
        };
        dots += 1;
    }
}

/// Offset of every percent sign with the byte it stands for; `None` where it is malformed.
fn escapes(text: &str) -> impl Iterator<Item = (usize, Option<u8>)> {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .map(move |(at, _)| {
            let digit = |i: usize| {
                let digit = char::from(*bytes.get(at + i)?).to_digit(16)?;
                u8::try_from(digit).ok()
            };
            let value = digit(1).zip(digit(2)).map(|(high, low)| high << 4 | low);
            (at, value)
        })
}

/// What a byte is, at the place of its value: targets are read in one pass over this table.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        #[expect(clippy::indexing_slicing, reason = "a byte indexes 256 places")]
        let class = &mut table[byte as usize];
        *class = match byte {
            b'/' => SLASH,
            b'.' => DOT,
            b'%' => PERCENT,
            b'?' => QUERY,
            byte if is_refused(byte) => REFUSED,
            _ => 0,
        };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};
const REFUSED: u8 = 1;
const SLASH: u8 = 1 << 1;
const DOT: u8 = 1 << 2;
const PERCENT: u8 = 1 << 3;
const QUERY: u8 = 1 << 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ambiguous_targets_are_refused_with_their_place() {
        use TargetError::*;
        let cases = [
            ("", Form),
            ("*", Form),
            ("a/b", Form),
            ("host:443", Form),
            ("http://host/a", Form),
            ("//a", EmptySegment { at: 1 }),
            ("/a//b", EmptySegment { at: 3 }),
            ("/a//", EmptySegment { at: 3 }),
            ("//", EmptySegment { at: 1 }),
            ("/.", DotSegment { at: 1 }),
            ("/..", DotSegment { at: 1 }),
            ("/a/../b", DotSegment { at: 3 }),
            ("/a/./", DotSegment { at: 3 }),
            ("/a/%2e%2E/b", DotSegment { at: 3 }),
            ("/a/.%2e", DotSegment { at: 3 }),
            ("/%2E", DotSegment { at: 1 }),
            ("/a\\b", Backslash { at: 2 }),
            ("/a?b=\\", Backslash { at: 5 }),
            ("/a%2fb", EncodedSlash { at: 2 }),
            ("/a%5Cb", EncodedSlash { at: 2 }),
            ("/a%00", EncodedNul { at: 2 }),
            ("/a%252e", DoubleEncoding { at: 2 }),
            ("/a%", MalformedPercent { at: 2 }),
            ("/a%2", MalformedPercent { at: 2 }),
            ("/a%2/b", MalformedPercent { at: 2 }),
            ("/a%+1", MalformedPercent { at: 2 }),
            ("/%61", EncodedPath { at: 1 }),
            ("/b/%c0%af", EncodedPath { at: 3 }),
            ("/...%2e%41", EncodedPath { at: 4 }),
            ("/a;b", Semicolon { at: 2 }),
            ("/a?b=1;c=2", Semicolon { at: 6 }),
            ("/a#b", Fragment { at: 2 }),
            ("/a b", Byte { at: 2 }),
            ("/a\0", Byte { at: 2 }),
            ("/a\x7f", Byte { at: 2 }),
            ("/é", Byte { at: 1 }),
            ("/\u{ff0f}", Byte { at: 1 }),
            ("/a?b=\"", Byte { at: 5 }),
            ("/{a}", Byte { at: 1 }),
            ("/a?%61=1", QueryKey { at: 3 }),
            ("/a?b=1&=2", QueryKey { at: 7 }),
            ("/a?b=1&", QueryKey { at: 7 }),
            ("/a?&b=1", QueryKey { at: 3 }),
            ("/a?b[]=1", QueryKey { at: 3 }),
            ("/a?b+c=1", QueryKey { at: 3 }),
            ("/a?b=%zz", MalformedPercent { at: 5 }),
            ("/a?b=x%00", EncodedNul { at: 6 }),
        ];
        for (raw, expected) in cases {
            assert_eq!(Target::parse(raw), Err(expected), "{raw:?}");
        }
        for byte in ["<", ">", "^", "`", "{", "|", "}", "\t", "\r", "\n"] {
            let raw = format!("/a{byte}");
            assert_eq!(Target::parse(&raw), Err(Byte { at: 2 }), "{raw:?}");
        }
    }

    #[test]
    fn unambiguous_targets_are_kept_as_they_are() {
        for (raw, path, pairs) in [
            ("/", "/", vec![]),
            ("/v1/apps/", "/v1/apps/", vec![]),
            ("/a...b/...", "/a...b/...", vec![]),
            ("/a?", "/a", vec![]),
            ("/a?b", "/a", vec![("b", "")]),
            ("/a?b=", "/a", vec![("b", "")]),
            (
                "/a?b=%2f..%25&c=1+2=3?",
                "/a",
                vec![("b", "%2f..%25"), ("c", "1+2=3?")],
            ),
        ] {
            let target = Target::parse(raw).unwrap();
            assert_eq!(target.raw(), raw);
            assert_eq!(target.path(), path);
            assert_eq!(target.query().pairs().collect::<Vec<_>>(), pairs, "{raw}");
        }
    }

    #[test]
    fn a_key_is_read_once_or_not_at_all() {
        let one = |raw: &'static str| Target::parse(raw).unwrap().query().one("org_slug");
        assert_eq!(one("/a"), Ok(None));
        assert_eq!(one("/a?org_slug="), Ok(Some("")));
        assert_eq!(one("/a?b=1&org_slug=x"), Ok(Some("x")));
        // Neither as long nor a beginning makes a key the same.
        assert_eq!(one("/a?app_name=1&org_slug=x"), Ok(Some("x")));
        assert_eq!(one("/a?org=1&org_slug=x&org_slugs=2"), Ok(Some("x")));
        assert_eq!(one("/a?org_slug=x&org_slug=x"), Err(QueryError::Repeated));
        assert_eq!(one("/a?org_slug=x&Org_Slug=y"), Err(QueryError::Spelling));
        for other in ["ORG_SLUG", "org-slug", "org.slug", "Org.slug"] {
            let raw = format!("/a?{other}=y");
            let query = Target::parse(&raw).unwrap().query();
            assert_eq!(query.one("org_slug"), Err(QueryError::Spelling), "{other}");
        }
    }

    proptest! {
        #[test]
        fn segments_and_pairs_reassemble_to_the_raw_target(raw in "/[ -~é]{0,40}") {
            if let Ok(target) = Target::parse(&raw) {
                let path: String = target.segments().flat_map(|s| ["/", s]).collect();
                prop_assert_eq!(&path, target.path());
                let rest = raw.strip_prefix(target.path()).unwrap();
                prop_assert!(rest.is_empty() || rest.starts_with('?'));
                prop_assert!(!path.contains(['%', '?', '#', ';', '\\']));
                prop_assert!(target.segments().all(|s| s != "." && s != ".."));
                prop_assert_eq!(check_path(&path), Ok(()), "the survey looks as closely");
            }
        }

        #[test]
        fn likely_targets_are_accepted(raw in "(/[A-Za-z0-9_-]{1,9}){1,5}/?(\\?[a-z]{1,5}=[a-z0-9]{0,5}(&[a-z]{1,5}=[0-9]{1,3}){0,3})?") {
            prop_assert_eq!(Target::parse(&raw).unwrap().raw(), raw.as_str());
        }
    }
}

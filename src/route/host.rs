//! Host patterns: `{machine_id}.vm.{app_name}.internal:22`.

use std::fmt;

use thiserror::Error;

use super::pattern::{Alphabet, Capture, PatternError, parse_capture};
use super::table::Captures;

/// A compiled pattern for a host, with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    text: Box<str>,
    labels: Box<[Label]>,
    port: Port,
    captures: Box<[Capture]>,
}

/// One step of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Label {
    /// This text, in lower case; an IPv6 address is one such step, with its brackets.
    Literal(Box<str>),
    /// Any one label of letters, digits, `_` and `-`.
    Capture,
}

/// What stands behind the host. The order is that of precedence, the vaguest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    /// Whatever it is, none included.
    Any,
    /// One from 1 to 65535, captured.
    Capture,
    /// This one.
    Exact(u16),
}

impl HostPattern {
    /// Reads a pattern as it is written in the configuration.
    ///
    /// # Errors
    ///
    /// What no host can be, or a capture that is not a whole label.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        // A colon in braces is one of a capture.
        let (host, port) = match split_port(text) {
            (_, Some(port)) if port.contains('}') && !port.contains('{') => (text, None),
            split => split,
        };
        let mut captures = Vec::new();
        let labels = match is_ipv6(host) {
            true => Box::from([Label::Literal(host.into())]),
            false => labels(host)
                .map(|part| label(part, &mut captures))
                .collect::<Result<_, _>>()?,
        };
        let port = match port {
            None => Port::Any,
            Some(port) => match inner(port) {
                Some(name) => {
                    capture(name, &mut captures)?;
                    Port::Capture
                }
                None => {
                    let exact = port_number(port);
                    Port::Exact(exact.ok_or_else(|| HostPatternError::Port(port.into()))?)
                }
            },
        };
        Ok(Self {
            text: text.into(),
            labels,
            port,
            captures: captures.into(),
        })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its captures, from the left; that of the port comes last.
    pub fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// Whether it is one name, whatever the port.
    pub fn is_literal(&self) -> bool {
        self.captures.is_empty() && !self.has_port()
    }

    /// Whether it says something about the port: an exact one, or a capture of it.
    pub fn has_port(&self) -> bool {
        self.port != Port::Any
    }

    /// What a host captures, with the port that it may carry; `None` where it is another one.
    ///
    /// Literal labels are compared without regard to case, as DNS does; what is captured is kept
    /// as sent. A host that is not written in one way only (an empty label, a final dot, a port
    /// with a leading zero) fits no pattern that looks there.
    pub fn matches<'a>(&self, host: &'a str) -> Option<Captures<'a>> {
        let (name, port) = split_port(host);
        let mut captured = Vec::with_capacity(self.captures.len());
        let mut labels = self.labels.iter();
        let whole = name.starts_with('[').then_some(name);
        let parts = name.split('.').filter(|_| whole.is_none());
        for part in whole.into_iter().chain(parts) {
            match labels.next()? {
                Label::Literal(text) => text.eq_ignore_ascii_case(part).then_some(())?,
                Label::Capture => {
                    Alphabet::Id.accepts(part).then_some(())?;
                    captured.push(part);
                }
            }
        }
        if labels.next().is_some() {
            return None;
        }
        match self.port {
            Port::Any => {}
            Port::Capture => {
                port.and_then(port_number)?;
                captured.extend(port);
            }
            Port::Exact(wanted) => {
                (port.and_then(port_number)? == wanted).then_some(())?;
            }
        }
        Some(captured.into_iter().collect())
    }

    /// The host and port that the pattern stands for with these values of its captures, in their
    /// order. `None` if there are too few, or if one of them cannot be there.
    ///
    /// IPv6 addresses come without their brackets.
    pub(super) fn fill(&self, values: &[&str]) -> Option<(String, u16)> {
        let mut values = values.iter();
        let mut host = String::new();
        for label in &self.labels {
            if !host.is_empty() {
                host.push('.');
            }
            host.push_str(match label {
                Label::Literal(text) => text,
                Label::Capture => values.next().filter(|value| Alphabet::Id.accepts(value))?,
            });
        }
        if is_ipv6(&host) {
            host.pop();
            host.remove(0);
        }
        let port = match self.port {
            Port::Any => return None,
            Port::Capture => port_number(values.next()?)?,
            Port::Exact(port) => port,
        };
        Some((host, port))
    }

    /// Whether a host can match both patterns, and which is the more exact one then.
    ///
    /// `Some(Less)` says that the other one comes first: a literal label before a capture, from
    /// the left, then an exact port before a captured one before any. `Some(Equal)` says that
    /// nothing tells them apart.
    pub fn compare(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let ports = match (self.port, other.port) {
            (Port::Exact(one), Port::Exact(two)) => one == two,
            (Port::Any | Port::Capture | Port::Exact(_), _) => true,
        };
        if !ports || self.labels.len() != other.labels.len() {
            return None;
        }
        let mut order = std::cmp::Ordering::Equal;
        for (one, two) in self.labels.iter().zip(&other.labels) {
            let step = match (one, two) {
                (Label::Literal(one), Label::Literal(two)) if one != two => return None,
                // An address is no label.
                (Label::Literal(text), Label::Capture) | (Label::Capture, Label::Literal(text))
                    if !Alphabet::Id.accepts(text) =>
                {
                    return None;
                }
                (Label::Literal(_), Label::Capture) => std::cmp::Ordering::Greater,
                (Label::Capture, Label::Literal(_)) => std::cmp::Ordering::Less,
                (Label::Literal(_), Label::Literal(_)) | (Label::Capture, Label::Capture) => {
                    std::cmp::Ordering::Equal
                }
            };
            order = order.then(step);
        }
        Some(order.then(self.port.cmp(&other.port)))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostPatternError {
    /// A label that no host has, or that is not compared as it is written.
    #[error("`{0}` is no label of a host: use lower-case letters, digits, `_` and `-`")]
    Label(Box<str>),
    /// A brace that does not enclose a whole label.
    #[error("`{0}`: a capture is a whole label, as in `{{app}}.internal`")]
    Brace(Box<str>),
    /// A capture that is not one of letters, digits, `_` and `-`.
    #[error(
        "`{{{0}}}`: a label has letters, digits, `_` and `-` only, and is captured by its name"
    )]
    Alphabet(Box<str>),
    /// Two captures of one name.
    #[error("the host captures `{0}` twice")]
    Repeated(Box<str>),
    /// The name of a capture.
    #[error(transparent)]
    Capture(PatternError),
    /// A port that is none.
    #[error("`{0}` is no port: write a number from 1 to 65535, or a capture")]
    Port(Box<str>),
}

/// The host and what follows the colon behind it. An IPv6 address is in brackets, so that the
/// colons in it do not separate.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

/// The labels of a pattern. A dot in braces is one of a capture.
fn labels(host: &str) -> impl Iterator<Item = &str> {
    let mut braces = false;
    host.split(move |c| {
        braces = c == '{' || (braces && c != '}');
        c == '.' && !braces
    })
}

fn is_ipv6(text: &str) -> bool {
    let address = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    address.is_some_and(|address| {
        let byte = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f' | b':' | b'.');
        address.contains(':') && address.bytes().all(byte)
    })
}

/// A port in its one spelling.
fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

/// What is between the braces of a capture.
fn inner(text: &str) -> Option<&str> {
    text.strip_prefix('{').and_then(|t| t.strip_suffix('}'))
}

fn label(part: &str, captures: &mut Vec<Capture>) -> Result<Label, HostPatternError> {
    if let Some(name) = inner(part) {
        capture(name, captures)?;
        return Ok(Label::Capture);
    }
    if part.contains(['{', '}']) {
        return Err(HostPatternError::Brace(part.into()));
    }
    let upper = part.bytes().any(|b| b.is_ascii_uppercase());
    if upper || !Alphabet::Id.accepts(part) {
        return Err(HostPatternError::Label(part.into()));
    }
    Ok(Label::Literal(part.into()))
}

fn capture(name: &str, captures: &mut Vec<Capture>) -> Result<(), HostPatternError> {
    let capture = parse_capture(name).map_err(HostPatternError::Capture)?;
    if capture.tail || capture.alphabet != Alphabet::Id {
        return Err(HostPatternError::Alphabet(name.into()));
    }
    if captures.iter().any(|known| known.name == capture.name) {
        return Err(HostPatternError::Repeated(capture.name));
    }
    captures.push(capture);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn hosts_match_label_by_label() {
        let machine = "{machine_id}.vm.{app_name}.internal:22";
        for (text, host, captured) in [
            ("api.example", "api.example", Some(&[][..])),
            ("api.example", "API.Example:8443", Some(&[])),
            ("api.example", "api.example.", None),
            ("api.example", "xapi.example", None),
            ("api.example", "a.api.example", None),
            ("api.example", "api", None),
            ("{app}.fly.dev", "web.fly.dev:443", Some(&["web"])),
            ("{app}.fly.dev", "Web.FLY.dev", Some(&["Web"])),
            ("{app}.fly.dev", ".fly.dev", None),
            ("{app}.fly.dev", "a.b.fly.dev", None),
            ("{app}.fly.dev", "a%2e.fly.dev", None),
            (machine, "148e.vm.web.internal:22", Some(&["148e", "web"])),
            (machine, "148e.VM.web.INTERNAL:22", Some(&["148e", "web"])),
            (machine, "148e.vm.web.internal", None),
            (machine, "148e.vm.web.internal:", None),
            (machine, "148e.vm.web.internal:022", None),
            (machine, "148e.vm.web.internal:+22", None),
            (machine, "148e.vm.web.internal:2222", None),
            (machine, "web.internal:22", None),
            ("{a}.internal:{port}", "w.internal:1", Some(&["w", "1"])),
            (
                "{a}.internal:{port}",
                "w.internal:65535",
                Some(&["w", "65535"]),
            ),
            ("{a}.internal:{port}", "w.internal:65536", None),
            ("{a}.internal:{port}", "w.internal:0", None),
            ("{a}.internal:{port}", "w.internal:ssh", None),
            ("{a}.internal:{port}", "w.internal", None),
            ("[::1]", "[::1]:80", Some(&[])),
            ("[::1]", "[::2]", None),
            ("[::1]:80", "[::1]:80", Some(&[])),
            ("{a}", "[::1]", None),
            ("{a}", "10.0.0.1", None),
        ] {
            let captures = pattern(text).matches(host);
            let expected = captured.map(|values| values.iter().copied().collect());
            assert_eq!(captures, expected, "{text} {host}");
        }
    }

    #[test]
    fn captures_are_named_from_the_left_and_the_port_last() {
        let names = |text: &str| -> Vec<String> {
            let pattern = pattern(text);
            let captures = pattern.captures().iter();
            captures.map(|c| c.name.to_string()).collect()
        };
        let machine = names("{machine_id}.vm.{app_name}.internal:{port}");
        assert_eq!(machine, ["machine_id", "app_name", "port"]);
        assert!(names("api.example").is_empty());
        assert!(pattern("a.b:1").has_port() && pattern("a.b:{p}").has_port());
        assert!(!pattern("a.b").has_port() && !pattern("[::1]").has_port());
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        use HostPatternError::*;
        for (text, expected) in [
            ("", Label("".into())),
            ("a..b", Label("".into())),
            ("a.", Label("".into())),
            (".a", Label("".into())),
            ("A.b", Label("A".into())),
            ("*.b", Label("*".into())),
            ("a.b c", Label("b c".into())),
            ("http://a", Port("//a".into())),
            ("[x]", Label("[x]".into())),
            ("[1]", Label("[1]".into())),
            ("[x:1]", Label("[x:1]".into())),
            ("x{a}.b", Brace("x{a}".into())),
            ("{a.b", Brace("{a.b".into())),
            ("{a}.{a}", Repeated("a".into())),
            ("{a}.b:{a}", Repeated("a".into())),
            ("{}.b", Capture(PatternError::Name("".into()))),
            ("{a-b}.c", Capture(PatternError::Name("a-b".into()))),
            ("{a:ip}.b", Alphabet("a:ip".into())),
            ("{a...}.b", Alphabet("a...".into())),
            ("a:0", Port("0".into())),
            ("a:022", Port("022".into())),
            ("a:65536", Port("65536".into())),
            ("a:", Port("".into())),
        ] {
            assert_eq!(HostPattern::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn the_more_exact_of_two_patterns_comes_first() {
        for (one, two, expected) in [
            ("a.b", "a.b", Some(Ordering::Equal)),
            ("a.b", "a.c", None),
            ("a.b", "{x}.b", Some(Ordering::Greater)),
            ("{x}.b", "{y}.b", Some(Ordering::Equal)),
            ("{x}.b", "a.{y}", Some(Ordering::Less)),
            ("{x}.b", "{x}.c.b", None),
            ("{x}.b:22", "{x}.b:{port}", Some(Ordering::Greater)),
            ("{x}.b:{port}", "{x}.b", Some(Ordering::Greater)),
            ("{x}.b:22", "{x}.b:23", None),
            ("[::1]", "{x}", None),
        ] {
            let (one, two) = (pattern(one), pattern(two));
            assert_eq!(one.compare(&two), expected, "{one} {two}");
            let reversed = expected.map(Ordering::reverse);
            assert_eq!(two.compare(&one), reversed, "{two} {one}");
        }
    }
}

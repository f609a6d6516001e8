//! Any body: it is refused, or another reader of JSON reads the same from it; and of a command
//! what is forwarded is what was judged.
//!
//! The other reader is a streaming one that shares no code with this one. It keeps every key, so
//! that repetitions show, and the digits of numbers.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use struson::reader::{JsonReader as _, JsonStreamReader, ReaderError, ReaderSettings, ValueType};
use usher::policy::{Body, BodyForm, CommandKeys, INPUT_WORD, Json, JsonFault, Pointer};

fuzz_target!(|bytes: &[u8]| {
    let own = Json::parse(bytes, DEPTH);
    let other = read(bytes).ok();
    match (&own, &other) {
        (Ok(own), Some(other)) => {
            assert!(other.depth() <= DEPTH && !other.repeats(&|key| key.to_owned()));
            assert!(other.is(own), "{own:?} {other:?}");
            let written = serde_json::to_vec(own).expect("what was read can be written");
            assert_eq!(Json::parse(&written, DEPTH).as_ref(), Ok(own));
            places_alike(own, other);
        }
        (Ok(own), None) => panic!("only one of two takes it: {own:?}"),
        (Err(JsonFault::Repeated { .. }), Some(other)) => {
            assert!(other.repeats(&|key| key.to_owned()));
        }
        (Err(JsonFault::Depth { .. }), Some(other)) => assert!(other.depth() > DEPTH),
        (Err(JsonFault::Syntax { .. }), Some(other)) => {
            assert!(other.has_key(NUMBER), "refused: {other:?}");
        }
        (Err(JsonFault::TooMany { .. }), _) | (Err(_), None) => {}
    }
    command(bytes);
});

/// The key under which the library hands out numbers; no body may have it.
const NUMBER: &str = "$serde_json::private::Number";
const DEPTH: usize = 32;

/// What is found at a place is what a reader finds there that looks past case and separators.
fn places_alike(own: &Json, other: &Other) {
    assert_eq!(own.is_plain(), !other.repeats(&|key| folded(key)));
    for pointer in POINTERS.iter() {
        let mut found = vec![other];
        let mut exact = true;
        for key in pointer.keys() {
            let entries = found.iter().flat_map(|value| value.entries());
            let alike: Vec<_> = entries
                .filter(|(known, _)| folded(known) == folded(key))
                .collect();
            exact &= alike.iter().all(|(known, _)| known == key);
            found = alike.into_iter().map(|(_, value)| value).collect();
        }
        match own.find(pointer) {
            Ok(Some(value)) => assert!(exact && matches!(found[..], [other] if other.is(value))),
            Ok(None) => assert!(found.is_empty()),
            Err(_) => assert!(!exact),
        }
    }
}

/// A command is judged from the bytes that are forwarded, and only from them.
fn command(bytes: &[u8]) {
    let Ok(body) = Body::read(BodyForm::Command(&COMMAND), bytes) else {
        return;
    };
    let judged = body.command().expect("a command");
    let forwarded = body
        .rewritten()
        .expect("a body with a command is rewritten");
    let (before, after) = (read(bytes).unwrap(), read(forwarded).unwrap());
    let key = |value: &Other, key: &str| -> Vec<Other> {
        let alike = value
            .entries()
            .iter()
            .filter(|(known, _)| folded(known) == folded(key));
        alike.map(|(_, value)| value.clone()).collect()
    };

    // Another reader finds one command in it, and it is the judged one.
    let [Other::List(words)] = &key(&after, "command")[..] else {
        panic!("not one command");
    };
    let mut words: Vec<String> = words.iter().map(Other::text).collect();
    assert!(
        words
            .iter()
            .all(|word| !word.is_empty() && !word.contains('\0'))
    );
    assert!(key(&after, "cmd").is_empty());
    let input = key(&after, "stdin");
    if input
        .iter()
        .any(|input| *input != Other::Null && *input != Other::Text(String::new()))
    {
        words.push(INPUT_WORD.to_owned());
    }
    assert_eq!(words, judged);
    if let [Other::List(sent)] = &key(&before, "command")[..] {
        let sent: Vec<String> = sent.iter().map(Other::text).collect();
        assert_eq!(&sent[..], &judged[..sent.len()]);
        assert!(key(&before, "cmd").iter().all(|line| *line == Other::Null));
    }

    // The rest of it is as it was sent, and nothing else is there.
    let rest = |value: &Other| -> Vec<(String, Other)> {
        let other = |(key, _): &&(String, Other)| !["command", "cmd"].contains(&&**key);
        value.entries().iter().filter(other).cloned().collect()
    };
    assert_eq!(rest(&after), rest(&before));
    assert!(
        rest(&after)
            .iter()
            .all(|(key, _)| ["stdin", "timeout", "container"].contains(&&**key))
    );

    // Whoever judges what was forwarded judges the same.
    let again = Body::read(BodyForm::Command(&COMMAND), forwarded).expect("it can be judged");
    assert_eq!(again.command(), Some(judged));
    assert_eq!(again.rewritten(), Some(forwarded));
}

/// A value as the other reader reads it.
#[derive(Clone, Debug, PartialEq)]
enum Other {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

fn read(bytes: &[u8]) -> Result<Other, ReaderError> {
    let settings = ReaderSettings {
        restrict_number_values: false,
        max_nesting_depth: Some(127),
        ..ReaderSettings::default()
    };
    let mut reader = JsonStreamReader::new_custom(bytes, settings);
    let value = Other::read(&mut reader)?;
    reader.consume_trailing_whitespace()?;
    Ok(value)
}

impl Other {
    fn read(reader: &mut JsonStreamReader<&[u8]>) -> Result<Self, ReaderError> {
        Ok(match reader.peek()? {
            ValueType::Null => {
                reader.next_null()?;
                Self::Null
            }
            ValueType::Boolean => Self::Bool(reader.next_bool()?),
            ValueType::Number => Self::Number(number(&reader.next_number_as_string()?)),
            ValueType::String => Self::Text(reader.next_string()?),
            ValueType::Array => {
                let mut items = Vec::new();
                reader.begin_array()?;
                while reader.has_next()? {
                    items.push(Self::read(reader)?);
                }
                reader.end_array()?;
                Self::List(items)
            }
            ValueType::Object => {
                let mut entries = Vec::new();
                reader.begin_object()?;
                while reader.has_next()? {
                    let key = reader.next_name_owned()?;
                    entries.push((key, Self::read(reader)?));
                }
                reader.end_object()?;
                Self::Object(entries)
            }
        })
    }

    fn is(&self, own: &Json) -> bool {
        match (self, own) {
            (Self::Null, Json::Null) => true,
            (Self::Bool(one), Json::Bool(two)) => one == two,
            (Self::Number(one), Json::Number(two)) => *one == number(two.as_str()),
            (Self::Text(one), Json::Text(two)) => one == two,
            (Self::List(one), Json::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.is(two))
            }
            (Self::Object(one), Json::Object(two)) => {
                one.len() == two.len()
                    && one
                        .iter()
                        .zip(two)
                        .all(|((key, one), (other, two))| key == other && one.is(two))
            }
            _ => false,
        }
    }

    fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Object(entries) => entries,
            _ => &[],
        }
    }

    fn inner(&self) -> Vec<&Self> {
        match self {
            Self::List(items) => items.iter().collect(),
            _ => self.entries().iter().map(|(_, value)| value).collect(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => panic!("{other:?} is no text"),
        }
    }

    /// Whether two keys of one object are the same once they are folded.
    fn repeats(&self, fold: &dyn Fn(&str) -> String) -> bool {
        let mut known = HashSet::new();
        !self
            .entries()
            .iter()
            .all(|(key, _)| known.insert(fold(key)))
            || self.inner().into_iter().any(|value| value.repeats(fold))
    }

    fn has_key(&self, name: &str) -> bool {
        self.entries().iter().any(|(key, _)| key == name)
            || self.inner().into_iter().any(|value| value.has_key(name))
    }

    fn depth(&self) -> usize {
        let own = usize::from(matches!(self, Self::List(_) | Self::Object(_)));
        own + self.inner().into_iter().map(Self::depth).max().unwrap_or(0)
    }
}

/// Digit by digit; an exponent may change its case, and its sign where it has none.
fn number(digits: &str) -> String {
    digits.to_lowercase().replace("e+", "e")
}

/// As a reader without regard to case or separators sees a key.
fn folded(key: &str) -> String {
    key.replace(['_', '-'], "").to_uppercase().to_lowercase()
}

static POINTERS: LazyLock<Vec<Pointer>> = LazyLock::new(|| {
    [
        "/a",
        "/a/b",
        "/config/image",
        "/input/app_id",
        "/input/app_id/k",
    ]
    .map(|text| Pointer::parse(text).expect("a pointer"))
    .into()
});

static COMMAND: LazyLock<CommandKeys> = LazyLock::new(|| CommandKeys {
    words: "command".into(),
    line: Some("cmd".into()),
    input: Some("stdin".into()),
    others: vec!["timeout".into(), "container".into()],
});

//! JSON bodies that are judged: read so strictly that every other reader reads the same.
//!
//! Readers of JSON differ in what they make of a repeated key, of a byte order mark and of what
//! follows the first value. A body in which any of these occurs is refused, since the upstream could
//! act on another request than the one that was judged (parameter pollution, in a body).
//!
//! They differ also in whether they match fields without regard to case. That cannot be refused
//! everywhere: `HTTP_PROXY` and `http_proxy` are two variables of one environment. So it is refused
//! beside every key that is looked for, and, where a whole body must be plain, at any depth.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use thiserror::Error;

/// A JSON value in which no object has one key twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string, escapes resolved.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object, in the order of the text.
    Object(Vec<(String, Self)>),
}

/// Names one place in a value: `/input/appId` (RFC 6901 without escapes and without indices).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Box<str>);

/// A key has a neighbour that a reader without regard to case takes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoSpellings;

/// Why a body is not judged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JsonFault {
    /// Not JSON, not UTF-8, or more than one value.
    #[error("the body is not one JSON value: line {line}, column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A key that stands there already.
    #[error("the body has a key twice: line {line}, column {column}")]
    Repeated {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Values in all.
    #[error("the body has more than {limit} values")]
    TooMany {
        /// Values allowed, inclusive.
        limit: usize,
    },
    /// Arrays and objects in each other.
    #[error("the body nests deeper than {limit} levels")]
    Depth {
        /// Levels allowed, inclusive.
        limit: usize,
    },
}

impl Json {
    /// Reads the whole of `bytes`. `depth` is how many arrays and objects may be in each other,
    /// inclusive; the reader recurses that deep, and `serde_json` ends at 127 by itself.
    pub fn parse(bytes: &[u8], depth: usize) -> Result<Self, JsonFault> {
        let fault = Cell::new(Refused::Syntax);
        let values = Cell::new(0);
        let seed = Seed {
            left: depth,
            values: &values,
            fault: &fault,
        };
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let read = seed.deserialize(&mut reader);
        let whole = read.and_then(|value| reader.end().map(|()| value));
        whole.map_err(|error| {
            let (line, column) = (error.line(), error.column());
            match fault.get() {
                Refused::Syntax => JsonFault::Syntax { line, column },
                Refused::Repeated => JsonFault::Repeated { line, column },
                Refused::Depth => JsonFault::Depth { limit: depth },
                Refused::TooMany => JsonFault::TooMany { limit: MAX_VALUES },
            }
        })
    }

    /// Bytes it holds beside itself, roughly.
    pub fn weight(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 0,
            Self::Number(number) => number.as_str().len(),
            Self::Text(text) => text.capacity(),
            Self::List(values) => {
                let room = values.capacity().saturating_mul(size_of::<Self>());
                let weights = values.iter().map(Self::weight);
                weights.fold(room, usize::saturating_add)
            }
            Self::Object(entries) => {
                let entry = size_of::<(String, Self)>();
                let room = entries.capacity().saturating_mul(entry);
                let weights = entries.iter().flat_map(|(k, v)| [k.capacity(), v.weight()]);
                weights.fold(room, usize::saturating_add)
            }
        }
    }

    /// What stands at the place.
    pub fn at(&self, pointer: &Pointer) -> Option<&Self> {
        pointer.keys().try_fold(self, |value, key| value.key(key))
    }

    /// What stands at the place, where everybody finds the same there.
    ///
    /// # Errors
    ///
    /// When a key on the way stands there in another spelling too, or instead.
    pub fn find(&self, pointer: &Pointer) -> Result<Option<&Self>, TwoSpellings> {
        let mut found = Some(self);
        for key in pointer.keys() {
            found = match found {
                Some(value) => value.plain_key(key)?,
                None => return Ok(None),
            };
        }
        Ok(found)
    }

    /// Everything at the place, where `*` stands for every element of an array.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub fn find_all(&self, pointer: &Pointer) -> Result<Vec<&Self>, TwoSpellings> {
        let mut found = vec![self];
        for key in pointer.keys() {
            let mut next = Vec::new();
            for value in found {
                match value {
                    Self::List(items) if key == "*" => next.extend(items),
                    Self::Null
                    | Self::Bool(_)
                    | Self::Number(_)
                    | Self::Text(_)
                    | Self::List(_)
                    | Self::Object(_) => next.extend(value.plain_key(key)?),
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// Whether no object in it has two keys that anyone could take for one.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => true,
            Self::List(items) => items.iter().all(Self::is_plain),
            Self::Object(entries) => {
                let mut spellings = HashSet::new();
                entries
                    .iter()
                    .all(|(key, value)| spellings.insert(folded(key)) && value.is_plain())
            }
        }
    }

    fn plain_key(&self, key: &str) -> Result<Option<&Self>, TwoSpellings> {
        let entries = self.key_values().unwrap_or_default();
        let wanted = folded(key);
        let other = |(known, _): &(String, Self)| known != key && folded(known) == wanted;
        match entries.iter().any(other) {
            true => Err(TwoSpellings),
            false => Ok(self.key(key)),
        }
    }

    /// The value under a key, if this is an object that has it.
    pub fn key(&self, key: &str) -> Option<&Self> {
        self.key_values()?
            .iter()
            .find_map(|(known, value)| (known == key).then_some(value))
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.key_values().is_some()
    }

    fn key_values(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(entries) => Some(entries),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }
}

impl Pointer {
    /// Reads `/key/key`; `None` if a key is empty, or holds what would need an escape.
    pub fn parse(text: &str) -> Option<Self> {
        let keys = text.strip_prefix('/')?;
        let plain = |key: &str| !key.is_empty() && !key.contains(['~', '"', '\\']);
        keys.split('/').all(plain).then(|| Self(text.into()))
    }

    /// Its keys, from the outermost.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which rule an error of the reader stands for.
#[derive(Clone, Copy)]
enum Refused {
    Syntax,
    Repeated,
    Depth,
    TooMany,
}

#[derive(Clone, Copy)]
struct Seed<'f> {
    left: usize,
    values: &'f Cell<usize>,
    fault: &'f Cell<Refused>,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        let left = left.ok_or_else(|| self.refuse(Refused::Depth))?;
        Ok(Self { left, ..self })
    }

    fn refuse<E: serde::de::Error>(self, why: Refused) -> E {
        self.fault.set(why);
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let values = self.values.get().saturating_add(1);
        if values > MAX_VALUES {
            return Err(self.refuse(Refused::TooMany));
        }
        self.values.set(values);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        let mut known = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            // How serde_json hands out a number whose digits an integer cannot keep.
            if key == NUMBER {
                return map.next_value_seed(Digits);
            }
            let inner = self.deeper()?;
            if !known.insert(key.clone()) {
                return Err(self.refuse(Refused::Repeated));
            }
            entries.push((key, map.next_value_seed(inner)?));
        }
        // An empty one nests as deep as any other.
        self.deeper()?;
        Ok(Json::Object(entries))
    }
}

/// The digits of a number. They come as a string that nobody else holds, which tells them from the
/// text of a body that has written `serde_json`'s own key for them; such a body is refused.
struct Digits;

impl<'de> DeserializeSeed<'de> for Digits {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Digits {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Json, E> {
        Err(E::custom("a key that no body has"))
    }

    fn visit_string<E: serde::de::Error>(self, digits: String) -> Result<Json, E> {
        digits.parse().map(Json::Number).map_err(E::custom)
    }
}

/// Values of one body, inclusive. Each takes about a hundred bytes once it is read, whatever it
/// took to write; the largest of the known clients' bodies has some hundreds.
const MAX_VALUES: usize = 50_000;

const NUMBER: &str = "$serde_json::private::Number";

/// A key as the least attentive reader sees it: without case, Unicode's included (Go's `K` takes
/// the Kelvin sign, and `s` the long s), and `_` and `-` left out, as some mappers do.
pub(super) fn folded(key: &str) -> String {
    let letters = key.chars().filter(|c| !matches!(c, '_' | '-'));
    letters
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPTH: usize = 4;

    #[track_caller]
    fn parse(text: &str) -> Json {
        Json::parse(text.as_bytes(), DEPTH).unwrap()
    }

    #[test]
    fn a_value_is_read_as_it_stands() {
        let value = parse(r#" {"a":[1,-2,2.50,"x\u0041\"",true,null],"b":{}} "#);
        let list = value.key("a").unwrap();
        assert_eq!(
            *list,
            Json::List(vec![
                Json::Number(1.into()),
                Json::Number((-2).into()),
                Json::Number("2.50".parse().unwrap()),
                Json::Text("xA\"".to_owned()),
                Json::Bool(true),
                Json::Null,
            ])
        );
        assert_eq!(value.key("b"), Some(&Json::Object(vec![])));
        assert_eq!(value.key("A"), None);
    }

    #[test]
    fn what_two_readers_could_take_for_two_things_is_refused() {
        let repeated = [
            r#"{"a":1,"a":1}"#,
            r#"{"cmd":1,"c\u006dd":1}"#,
            r#"{"x":[{"a":1,"b":{"c":1,"c":2}}]}"#,
        ];
        for text in repeated {
            let fault = Json::parse(text.as_bytes(), DEPTH).unwrap_err();
            assert!(
                matches!(fault, JsonFault::Repeated { .. }),
                "{text}: {fault}"
            );
        }
        let syntax: [&[u8]; 13] = [
            b"{\"$serde_json::private::Number\":\"1\"}",
            b"{\"\\u0024serde_json::private::Number\":\"1\\u0030\"}",
            b"",
            b"{} {}",
            b"{}x",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\\ud800\"}",
            b"{a:1}",
            b"{'a':1}",
            b"{\"a\":1,}",
            b"{\"a\":NaN}",
            b"{\"a\":1} // x",
        ];
        for text in syntax {
            let fault = Json::parse(text, DEPTH).unwrap_err();
            assert!(matches!(fault, JsonFault::Syntax { .. }), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        parse("[[[[1]]]]");
        assert_eq!(
            Json::parse(b"[[[[[1]]]]]", DEPTH),
            Err(JsonFault::Depth { limit: DEPTH })
        );
        assert_eq!(
            Json::parse(br#"{"a":{"a":{"a":{"a":{}}}}}"#, DEPTH),
            Err(JsonFault::Depth { limit: DEPTH })
        );
        let many = |count| format!("[{}]", vec!["0"; count].join(","));
        assert!(Json::parse(many(MAX_VALUES - 1).as_bytes(), DEPTH).is_ok());
        assert_eq!(
            Json::parse(many(MAX_VALUES).as_bytes(), DEPTH),
            Err(JsonFault::TooMany { limit: MAX_VALUES })
        );
        let bomb = "[".repeat(100_000);
        assert!(Json::parse(bomb.as_bytes(), 1_000).is_err());
    }

    #[test]
    fn another_spelling_is_refused_where_it_could_be_taken_for_what_is_looked_for() {
        let pointer = Pointer::parse("/config/kind_of").unwrap();
        for text in [
            r#"{"config":{"kind_of":1,"Kind_Of":2}}"#,
            r#"{"config":{"KIND_OF":2}}"#,
            r#"{"config":{"kindOf":2}}"#,
            r#"{"config":{"kind-of":2}}"#,
            r#"{"config":{},"CONFIG":{"kind_of":1}}"#,
            "{\"config\":{\"\u{212a}ind_of\":2}}",
        ] {
            let value = parse(text);
            assert_eq!(value.find(&pointer), Err(TwoSpellings), "{text}");
            assert_eq!(value.find_all(&pointer), Err(TwoSpellings), "{text}");
        }
        let value = parse(r#"{"config":{"kind_of":1,"env":{"http_proxy":1,"HTTP_PROXY":2}}}"#);
        assert_eq!(value.find(&pointer), Ok(Some(&Json::Number(1.into()))));
        assert!(!value.is_plain());
        assert!(parse(r#"{"a":[{"b":1},{"B":1}]}"#).is_plain());
        assert!(!parse("{\"\u{17f}tdin\":1,\"stdin\":2}").is_plain());
    }

    #[test]
    fn a_pointer_finds_one_place_and_a_star_every_element() {
        let value = parse(r#"{"config":{"containers":[{"image":"x"},{"image":"y"},{}]}}"#);
        let pointer = |text| Pointer::parse(text).unwrap();
        let all = value.find_all(&pointer("/config/containers/*/image"));
        assert_eq!(
            all.unwrap(),
            [&Json::Text("x".into()), &Json::Text("y".into())]
        );
        for one in ["/config/containers/image", "/config/*/image"] {
            assert_eq!(value.find_all(&pointer(one)), Ok(vec![]), "{one}");
        }
        assert_eq!(value.at(&pointer("/config/containers/0")), None);
        assert_eq!(value.at(&pointer("/config/nothing")), None);
        assert!(value.at(&pointer("/config")).is_some());
        for bad in ["", "a", "/", "/a//b", "/a~1b"] {
            assert_eq!(Pointer::parse(bad), None, "{bad:?}");
        }
    }
}

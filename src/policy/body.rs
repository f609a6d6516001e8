//! Bodies that are judged: what of them decides about access, and what of them is forwarded.

use serde::Serialize;
use serde::ser::{SerializeMap as _, SerializeSeq as _, Serializer};
use thiserror::Error;

use super::graphql::{GraphQlFault, RootField, root_fields};
use super::json::{Json, JsonFault};

/// How the body of a request is read.
#[derive(Clone, Copy, Debug)]
pub enum BodyForm<'a> {
    /// One JSON object.
    Json,
    /// A GraphQL request.
    GraphQl,
    /// One JSON object with a command in it.
    Command(&'a CommandKeys),
}

/// Where a body has the command that it wants run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandKeys {
    /// Key of the words, a list of texts.
    pub words: Box<str>,
    /// Key of the same as one line, to be split as a shell does.
    pub line: Option<Box<str>>,
    /// Key of what the command reads.
    pub input: Option<Box<str>>,
    /// Keys that take no part. Any other is refused, since the upstream might know a further one
    /// for the command.
    pub others: Vec<Box<str>>,
}

/// A body that has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    json: Option<Json>,
    command: Option<Vec<String>>,
    roots: Option<Vec<RootField>>,
    rewritten: Option<Vec<u8>>,
}

/// Why a body cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BodyFault {
    /// Not JSON that can be read in one way only.
    #[error(transparent)]
    Json(#[from] JsonFault),
    /// A GraphQL request that cannot be judged.
    #[error(transparent)]
    GraphQl(#[from] GraphQlFault),
    /// Another JSON value; a list of requests, perhaps.
    #[error("the body is no JSON object; send one request at a time")]
    NotObject,
    /// Keys that differ in case or separators only.
    #[error("the body has a key in two spellings")]
    TwoSpellings,
    /// No command at all.
    #[error("the body has no command: `{0}` is missing")]
    NoCommand(Box<str>),
    /// Two commands.
    #[error("the body has two commands, `{0}` and `{1}`; send one of them")]
    TwoCommands(Box<str>, Box<str>),
    /// Not a list of texts.
    #[error("`{0}` in the body is not a list of words, none of them empty")]
    Words(Box<str>),
    /// Not a line that splits into words.
    #[error("`{0}` in the body does not split into words: is a quote open?")]
    Line(Box<str>),
    /// The input is no text.
    #[error("`{0}` in the body is not a text")]
    Input(Box<str>),
    /// A key that nobody knows.
    #[error("the key `{0}` is not known in a body with a command")]
    UnknownKey(Box<str>),
}

impl Body {
    /// Reads a whole body; an empty one is the same as none.
    pub fn read(form: BodyForm<'_>, bytes: &[u8]) -> Result<Self, BodyFault> {
        let json = match bytes {
            [] => None,
            bytes => Some(Json::parse(bytes, DEPTH)?),
        };
        if json.as_ref().is_some_and(|json| !json.is_object()) {
            return Err(BodyFault::NotObject);
        }
        match form {
            BodyForm::Json => Ok(Self {
                json,
                ..Self::default()
            }),
            BodyForm::GraphQl => Ok(Self {
                roots: Some(root_fields(json.as_ref().unwrap_or(&Json::Null))?),
                ..Self::default()
            }),
            BodyForm::Command(_) if json.as_ref().is_some_and(|json| !json.is_plain()) => {
                Err(BodyFault::TwoSpellings)
            }
            BodyForm::Command(keys) => keys.read(json),
        }
    }

    /// What it says.
    pub fn json(&self) -> Option<&Json> {
        self.json.as_ref()
    }

    /// The words of its command, as caveats are cleared against them.
    pub fn command(&self) -> Option<&[String]> {
        self.command.as_deref()
    }

    /// The root fields of its GraphQL request.
    pub fn roots(&self) -> Option<&[RootField]> {
        self.roots.as_deref()
    }

    /// What is forwarded in its place; `None` where its own bytes are.
    pub fn rewritten(&self) -> Option<&[u8]> {
        self.rewritten.as_deref()
    }

    /// The same without the rest.
    pub fn into_rewritten(self) -> Option<Vec<u8>> {
        self.rewritten
    }

    /// Bytes it holds, roughly. A list of digits takes some thirty times its text.
    pub fn weight(&self) -> usize {
        let words = self.command.iter().flatten();
        let words = words.flat_map(|word| [size_of::<String>(), word.capacity()]);
        let roots = self.roots.iter().flatten().map(RootField::weight);
        let json = self.json.iter().map(Json::weight);
        let rewritten = self.rewritten.iter().map(Vec::capacity);
        let all = words.chain(roots).chain(json).chain(rewritten);
        all.fold(0, usize::saturating_add)
    }
}

impl CommandKeys {
    fn read(&self, json: Option<Json>) -> Result<Body, BodyFault> {
        let no_command = || BodyFault::NoCommand(self.words.clone());
        let Some(Json::Object(entries)) = json else {
            return Err(no_command());
        };
        let known = |key: &str| {
            let named = [Some(&self.words), self.line.as_ref(), self.input.as_ref()];
            named.into_iter().flatten().any(|name| **name == *key)
                || self.others.iter().any(|name| **name == *key)
        };
        if let Some((key, _)) = entries.iter().find(|(key, _)| !known(key)) {
            // It is told, and logged, and the client chose it.
            let told: String = key.chars().take(LONGEST_KEY).collect();
            return Err(BodyFault::UnknownKey(told.into()));
        }
        let value = |key: &str| {
            let found = entries.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| value).filter(|v| **v != Json::Null)
        };
        let line = self.line.as_ref().and_then(|key| Some((key, value(key)?)));
        let words = match (value(&self.words), line) {
            (None, None) => return Err(no_command()),
            (Some(_), Some((key, _))) => {
                let (words, line) = (self.words.clone(), key.clone());
                return Err(BodyFault::TwoCommands(words, line));
            }
            (Some(list), None) => list_of_words(list),
            (None, Some((key, line))) => {
                let split = line.text().and_then(shlex::split);
                Some(split.ok_or_else(|| BodyFault::Line(key.clone()))?)
            }
        };
        let words = words
            .filter(|words| are_words(words))
            .ok_or_else(|| BodyFault::Words(self.words.clone()))?;
        let input = match self.input.as_ref().and_then(|key| Some((key, value(key)?))) {
            None => false,
            Some((_, Json::Text(text))) => !text.is_empty(),
            Some((key, _)) => return Err(BodyFault::Input(key.clone())),
        };
        let rewritten = self.rewrite(&entries, &words);
        let mut command = words;
        if input {
            command.push(INPUT_WORD.to_owned());
        }
        Ok(Body {
            json: Some(Json::Object(entries)),
            command: Some(command),
            rewritten: Some(rewritten),
            roots: None,
        })
    }

    /// The body with the judged words as its command, so that nobody splits the line anew.
    fn rewrite(&self, entries: &[(String, Json)], words: &[String]) -> Vec<u8> {
        let list = Json::List(words.iter().cloned().map(Json::Text).collect());
        let is = |key: &str, name: &str| key == name;
        let mut object = vec![(self.words.to_string(), list)];
        let rest = entries.iter().filter(|(key, _)| {
            !is(key, &self.words) && self.line.as_ref().is_none_or(|line| !is(key, line))
        });
        object.extend(rest.cloned());
        // Texts, numbers and lists of them: there is nothing that could not be written.
        serde_json::to_vec(&Json::Object(object)).unwrap_or_default()
    }
}

fn list_of_words(list: &Json) -> Option<Vec<String>> {
    let Json::List(items) = list else {
        return None;
    };
    let word = |item: &Json| item.text().map(str::to_owned);
    items.iter().map(word).collect()
}

/// At least one; none is empty, or would end early where a C string is made of it.
fn are_words(words: &[String]) -> bool {
    let is_word = |word: &String| !word.is_empty() && !word.contains('\0');
    !words.is_empty() && words.iter().all(is_word)
}

/// The value as it was read: keys in their order, numbers with their digits.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// Stands for whatever a command reads from its input: that can say all that a further word could,
/// so it is judged as one. An exact command never has it, unless its caveat spells it out.
pub const INPUT_WORD: &str = "<stdin>";

/// Characters of an unknown key that are told.
const LONGEST_KEY: usize = 64;

/// Arrays and objects in each other, inclusive. Machine configurations nest about eight.
const DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> CommandKeys {
        CommandKeys {
            words: "command".into(),
            line: Some("cmd".into()),
            input: Some("stdin".into()),
            others: vec!["timeout".into(), "container".into()],
        }
    }

    fn read(text: &str) -> Result<Body, BodyFault> {
        Body::read(BodyForm::Command(&keys()), text.as_bytes())
    }

    #[test]
    fn what_was_judged_is_what_is_forwarded() {
        for (text, command, forwarded) in [
            (
                r#"{"cmd":"ls -l '/tmp/a b'","timeout":5}"#,
                &["ls", "-l", "/tmp/a b"][..],
                r#"{"command":["ls","-l","/tmp/a b"],"timeout":5}"#,
            ),
            (
                r#"{ "command" : ["ls","\u002dl"], "timeout" : 1.50 }"#,
                &["ls", "-l"],
                r#"{"command":["ls","-l"],"timeout":1.50}"#,
            ),
            (
                r#"{"cmd":"sh","stdin":"id","command":null}"#,
                &["sh", INPUT_WORD],
                r#"{"command":["sh"],"stdin":"id"}"#,
            ),
            (
                r#"{"cmd":"sh","stdin":""}"#,
                &["sh"],
                r#"{"command":["sh"],"stdin":""}"#,
            ),
        ] {
            let body = read(text).unwrap();
            assert_eq!(body.command().unwrap(), command, "{text}");
            let got = std::str::from_utf8(body.rewritten().unwrap()).unwrap();
            assert_eq!(got, forwarded);
            assert_eq!(body.into_rewritten().unwrap(), forwarded.as_bytes());
        }
    }

    #[test]
    fn a_command_that_can_be_read_two_ways_is_refused() {
        let word = |word: &str| -> Box<str> { word.into() };
        for (text, fault) in [
            ("", BodyFault::NoCommand(word("command"))),
            ("{}", BodyFault::NoCommand(word("command"))),
            (r#"{"cmd":null}"#, BodyFault::NoCommand(word("command"))),
            (
                r#"{"cmd":"uptime","command":["sh"]}"#,
                BodyFault::TwoCommands(word("command"), word("cmd")),
            ),
            (r#"{"cmd":"ls -l 'x"}"#, BodyFault::Line(word("cmd"))),
            (r#"{"cmd":["ls"]}"#, BodyFault::Line(word("cmd"))),
            (r#"{"cmd":""}"#, BodyFault::Words(word("command"))),
            (r#"{"cmd":"echo ''"}"#, BodyFault::Words(word("command"))),
            (r#"{"command":"ls"}"#, BodyFault::Words(word("command"))),
            (r#"{"command":[]}"#, BodyFault::Words(word("command"))),
            (r#"{"command":["ls",1]}"#, BodyFault::Words(word("command"))),
            (
                r#"{"command":["l\u0000s"]}"#,
                BodyFault::Words(word("command")),
            ),
            (
                r#"{"cmd":"sh","stdin":{}}"#,
                BodyFault::Input(word("stdin")),
            ),
            (
                r#"{"cmd":"sh","args":["-c"]}"#,
                BodyFault::UnknownKey(word("args")),
            ),
            ("[]", BodyFault::NotObject),
            (r#""ls""#, BodyFault::NotObject),
        ] {
            assert_eq!(read(text), Err(fault), "{text}");
        }
        let spelled = read(r#"{"cmd":"uptime","Cmd":"sh"}"#);
        assert_eq!(spelled, Err(BodyFault::TwoSpellings));
        assert!(matches!(
            read(r#"{"cmd":"uptime","cmd":"sh"}"#),
            Err(BodyFault::Json(JsonFault::Repeated { .. }))
        ));
    }

    #[test]
    fn a_body_without_a_command_is_forwarded_as_it_came() {
        let body = Body::read(BodyForm::Json, br#"{"app_name":"web"}"#).unwrap();
        assert!(body.json().is_some());
        assert_eq!((body.command(), body.rewritten()), (None, None));
        assert_eq!(body.into_rewritten(), None);
        assert_eq!(Body::read(BodyForm::Json, b""), Ok(Body::default()));
    }

    #[test]
    fn the_weight_of_a_body_covers_what_it_holds() {
        let read = |form, text: &str| Body::read(form, text.as_bytes()).unwrap();
        let long = "x".repeat(5_000);
        let digits = format!(r#"{{"a":[{}]}}"#, vec!["1"; 1_000].join(","));
        assert!(read(BodyForm::Json, &digits).weight() >= 1_000 * size_of::<Json>());
        for text in [
            format!(r#"{{"a":[{{"b":"{long}"}}]}}"#),
            format!(r#"{{"a":[{{"{long}":1}}]}}"#),
            format!(r#"{{"a":{}}}"#, "1".repeat(5_000)),
        ] {
            let weight = read(BodyForm::Json, &text).weight();
            assert!((5_000..12_000).contains(&weight), "{weight}");
        }
        let query = format!(r#"{{"query":"{{f(a: \"{long}\") {{x}} g}}"}}"#);
        let body = read(BodyForm::GraphQl, &query);
        let roots = body.roots().unwrap();
        assert!(roots[0].weight() >= 5_000 + size_of::<RootField>());
        assert!(body.weight() >= roots[0].weight() + roots[1].weight());
    }
}

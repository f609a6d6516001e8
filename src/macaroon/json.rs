//! The JSON forms of caveats (format chapter 15).
//!
//! Read as leniently as the reference reads them where that is harmless: object keys in any case,
//! unknown keys ignored, missing lists and maps become nil. What the reference crashes on, or what
//! could never be used, is an error that names its place.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each place of the form takes one kind of JSON value and refuses all others"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value, json};
use thiserror::Error;

use super::action::Action;
use super::caveat::{Blob, Caveat, Command, NAMES, Resources, Text, ThirdParty};

/// Why JSON is not a caveat set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("line {line}, column {column}: this is not JSON")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON, but not of the form that stands here.
    #[error("{at}: expected {expected}")]
    Form {
        /// Path from the root, as in `[2].body.apps`.
        at: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A type that cannot be written from JSON.
    #[error("{at}: unknown caveat type {name:?}")]
    UnknownType {
        /// Path from the root.
        at: String,
        /// The type as written.
        name: String,
    },
}

/// Reads a caveat set: a list of `{"type": name, "body": ...}`.
pub fn caveats_from_json(text: &str) -> Result<Vec<Caveat>, JsonError> {
    let value: Value = serde_json::from_str(text).map_err(|error| JsonError::Syntax {
        line: error.line(),
        column: error.column(),
    })?;
    caveats(&At {
        value: &value,
        path: String::new(),
    })
}

/// Writes a caveat set. Lossy for masks with bits that have no letter, as in the reference.
pub fn caveats_to_json(caveats: &[Caveat]) -> Value {
    caveats
        .iter()
        .map(|caveat| json!({"type": type_name(caveat), "body": body(caveat)}))
        .collect()
}

fn type_name(caveat: &Caveat) -> String {
    caveat
        .name()
        .map_or_else(|| caveat.kind().to_string(), str::to_owned)
}

fn body(caveat: &Caveat) -> Value {
    match caveat {
        Caveat::Organization { id, mask } => json!({"id": id, "mask": mask.to_string()}),
        Caveat::Volumes(map) => json!({"volumes": masks(map)}),
        Caveat::Apps(map) => json!({"apps": masks(map)}),
        Caveat::ValidityWindow {
            not_before,
            not_after,
        } => {
            json!({"not_before": not_before, "not_after": not_after})
        }
        Caveat::FeatureSet(map) | Caveat::MachineFeatureSet(map) | Caveat::AppFeatureSet(map) => {
            json!({"features": masks(map)})
        }
        Caveat::Mutations(names) => json!({"mutations": strings(names.as_deref())}),
        Caveat::Machines(map) => json!({"machines": masks(map)}),
        Caveat::Clusters(map) => json!({"clusters": masks(map)}),
        Caveat::StorageObjects(map) => json!({"storage_objects": masks(map)}),
        Caveat::ConfineUser(id) | Caveat::ConfineOrganization(id) => json!({"id": id}),
        Caveat::IsUser(id) => json!({"uint64": id}),
        Caveat::ThirdParty(ThirdParty {
            location,
            verifier_key,
            ticket,
        }) => json!({
            "Location": string(location),
            "VerifierKey": bytes(verifier_key),
            "Ticket": bytes(ticket),
        }),
        Caveat::BindToParentToken(prefix) => bytes(prefix),
        Caveat::IfPresent { ifs, otherwise } => {
            json!({"ifs": ifs.as_deref().map(caveats_to_json), "else": otherwise.to_string()})
        }
        Caveat::FromMachineSource(id) => json!({"id": string(id)}),
        Caveat::ConfineGoogleHd(domain) => string(domain).into(),
        Caveat::ConfineGitHubOrg(n)
        | Caveat::MaxValidity(n)
        | Caveat::FlyioUserId(n)
        | Caveat::GitHubUserId(n) => json!(n),
        Caveat::IsMember => json!({}),
        Caveat::GoogleUserId(number) => decimal(number.as_bytes()),
        Caveat::Action(mask) => mask.to_string().into(),
        Caveat::Commands(commands) => commands.as_ref().map_or(Value::Null, |commands| {
            commands.iter().map(command_to_json).collect()
        }),
        Caveat::AllowedRoles(roles) => json!(roles),
        Caveat::FlySrc {
            organization,
            app,
            instance,
        } => json!({
            "organization": string(organization),
            "app": string(app),
            "instance": string(instance),
        }),
        Caveat::Unregistered { body, .. } => STANDARD.encode(body).into(),
    }
}

fn string(text: &Text) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

fn strings(texts: Option<&[Text]>) -> Value {
    texts.map_or(Value::Null, |texts| texts.iter().map(string).collect())
}

fn bytes(blob: &Blob) -> Value {
    blob.nil_or_bytes()
        .map_or(Value::Null, |bytes| STANDARD.encode(bytes).into())
}

/// A resource key in JSON: always an object key, so always text.
trait Key: Ord + Sized {
    fn to_json(&self) -> String;
    fn from_json(text: &str) -> Option<Self>;
}

impl Key for u64 {
    fn to_json(&self) -> String {
        self.to_string()
    }

    fn from_json(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Key for Text {
    fn to_json(&self) -> String {
        string(self)
    }

    fn from_json(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

fn masks<K: Key>(map: &Resources<K>) -> Value {
    if map.is_nil() {
        return Value::Null;
    }
    let entry = |(key, mask): &(K, Action)| (key.to_json(), Value::from(mask.to_string()));
    Value::Object(map.entries().iter().map(entry).collect())
}

fn command_to_json(command: &Command) -> Value {
    let mut object = Map::from_iter([("args".to_owned(), strings(command.args.as_deref()))]);
    if command.exact {
        object.insert("exact".to_owned(), true.into());
    }
    Value::Object(object)
}

/// A value with its path, for errors.
struct At<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> At<'a> {
    fn expected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        let at = if self.path.is_empty() {
            "the document".to_owned()
        } else {
            self.path.clone()
        };
        Err(JsonError::Form { at, expected })
    }

    /// A field of an object, its name in any case; of a repeated one the last counts. A missing
    /// field is null.
    fn field(&self, name: &str) -> Result<Self, JsonError> {
        let Value::Object(object) = self.value else {
            return self.expected("an object");
        };
        let found = object
            .iter()
            .rev()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = found.map_or(&Value::Null, |(_, value)| value);
        Ok(Self {
            value,
            path: format!("{}.{name}", self.path),
        })
    }

    /// The items of a list; `None` is null.
    fn items(&self) -> Result<Option<Vec<Self>>, JsonError> {
        match self.value {
            Value::Null => Ok(None),
            Value::Array(values) => {
                let item = |(i, value)| Self {
                    value,
                    path: format!("{}[{i}]", self.path),
                };
                Ok(Some(values.iter().enumerate().map(item).collect()))
            }
            _ => self.expected("a list"),
        }
    }

    fn list<T>(
        &self,
        item: impl Fn(&Self) -> Result<T, JsonError>,
    ) -> Result<Option<Vec<T>>, JsonError> {
        self.items()?
            .map(|items| items.iter().map(item).collect())
            .transpose()
    }

    fn text(&self) -> Result<&'a str, JsonError> {
        match self.value {
            Value::Null => Ok(""),
            Value::String(text) => Ok(text),
            _ => self.expected("a string"),
        }
    }

    fn mask(&self) -> Result<Action, JsonError> {
        self.text().map(Action::from_json)
    }

    fn number<T: TryFrom<u64>>(&self, expected: &'static str) -> Result<T, JsonError> {
        let n = match self.value {
            Value::Null => Some(0),
            value => value.as_u64(),
        };
        match n.and_then(|n| T::try_from(n).ok()) {
            Some(n) => Ok(n),
            None => self.expected(expected),
        }
    }

    fn id(&self) -> Result<u64, JsonError> {
        self.number("a number from 0 to 2^64-1")
    }

    fn seconds(&self) -> Result<i64, JsonError> {
        match self.value {
            Value::Null => Ok(0),
            value => value
                .as_i64()
                .map_or_else(|| self.expected("Unix seconds, a 64-bit signed number"), Ok),
        }
    }

    fn blob(&self) -> Result<Blob, JsonError> {
        match self.value {
            Value::Null => Ok(Blob::default()),
            Value::String(text) => match STANDARD.decode(text) {
                Ok(bytes) => Ok(bytes.as_slice().into()),
                Err(_) => self.expected("base64 with padding"),
            },
            _ => self.expected("base64 text"),
        }
    }

    fn resources<K: Key>(&self, field: &str) -> Result<Resources<K>, JsonError> {
        let map = self.field(field)?;
        let object = match map.value {
            Value::Null => return Ok(Resources::nil()),
            Value::Object(object) => object,
            _ => return map.expected("an object of masks"),
        };
        let entry = |(key, value): (&String, &'a Value)| {
            let at = Self {
                value,
                path: format!("{}.{key}", map.path),
            };
            match K::from_json(key) {
                Some(key) => Ok((key, at.mask()?)),
                None => at.expected("a decimal id as the key"),
            }
        };
        object
            .iter()
            .map(entry)
            .collect::<Result<Vec<_>, _>>()
            .map(Resources::new)
    }
}

fn caveats(at: &At<'_>) -> Result<Vec<Caveat>, JsonError> {
    match at.list(caveat)? {
        Some(caveats) => Ok(caveats),
        None => at.expected("a list of caveats"),
    }
}

fn caveat(at: &At<'_>) -> Result<Caveat, JsonError> {
    let name = at.field("type")?;
    let kind = kind(name.text()?);
    let body = at.field("body")?;
    if body.value.is_null() {
        return body.expected("a body");
    }
    Ok(match kind {
        Some(0) => Caveat::Organization {
            id: body.field("id")?.id()?,
            mask: body.field("mask")?.mask()?,
        },
        Some(2) => Caveat::Volumes(body.resources("volumes")?),
        Some(3) => Caveat::Apps(body.resources("apps")?),
        Some(4) => Caveat::ValidityWindow {
            not_before: body.field("not_before")?.seconds()?,
            not_after: body.field("not_after")?.seconds()?,
        },
        Some(5) => Caveat::FeatureSet(body.resources("features")?),
        Some(6) => Caveat::Mutations(body.field("mutations")?.list(text)?),
        Some(7) => Caveat::Machines(body.resources("machines")?),
        Some(8) => Caveat::ConfineUser(body.field("id")?.id()?),
        Some(9) => Caveat::ConfineOrganization(body.field("id")?.id()?),
        Some(10) => Caveat::IsUser(body.field("uint64")?.id()?),
        Some(11) => Caveat::ThirdParty(ThirdParty {
            location: text(&body.field("Location")?)?,
            verifier_key: body.field("VerifierKey")?.blob()?,
            ticket: body.field("Ticket")?.blob()?,
        }),
        Some(12) => Caveat::BindToParentToken(body.blob()?),
        Some(13) => Caveat::IfPresent {
            ifs: body.field("ifs")?.list(caveat)?,
            otherwise: body.field("else")?.mask()?,
        },
        Some(14) => Caveat::MachineFeatureSet(body.resources("features")?),
        Some(15) => Caveat::FromMachineSource(text(&body.field("id")?)?),
        Some(16) => Caveat::Clusters(body.resources("clusters")?),
        Some(19) => Caveat::ConfineGoogleHd(text(&body)?),
        Some(20) => Caveat::ConfineGitHubOrg(body.id()?),
        Some(21) => Caveat::MaxValidity(body.id()?),
        Some(22) => Caveat::IsMember,
        Some(23) => Caveat::FlyioUserId(body.id()?),
        Some(24) => Caveat::GitHubUserId(body.id()?),
        Some(25) => google_user_id(&body)?,
        Some(26) => Caveat::Action(body.mask()?),
        Some(27) => Caveat::Commands(body.list(command)?),
        Some(28) => Caveat::AppFeatureSet(body.resources("features")?),
        Some(29) => Caveat::StorageObjects(body.resources("storage_objects")?),
        Some(30) => Caveat::AllowedRoles(body.number("a number from 0 to 2^32-1")?),
        Some(31) => Caveat::FlySrc {
            organization: text(&body.field("organization")?)?,
            app: text(&body.field("app")?)?,
            instance: text(&body.field("instance")?)?,
        },
        _ => {
            return Err(JsonError::UnknownType {
                at: name.path.clone(),
                name: name.text()?.to_owned(),
            });
        }
    })
}

/// The type number of a name; a decimal number names itself.
fn kind(name: &str) -> Option<u64> {
    match name {
        "DeprecatedOrganization" => Some(0),
        "DeprecatedApps" => Some(3),
        "NoAdminFeatures" => Some(22),
        _ => NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(kind, _)| *kind)
            .or_else(|| name.parse().ok()),
    }
}

fn text(at: &At<'_>) -> Result<Text, JsonError> {
    at.text().map(Text::from)
}

fn command(at: &At<'_>) -> Result<Command, JsonError> {
    let exact = at.field("exact")?;
    Ok(Command {
        args: at.field("args")?.list(text)?,
        exact: match exact.value {
            Value::Null => false,
            Value::Bool(exact) => *exact,
            _ => return exact.expected("true or false"),
        },
    })
}

/// A decimal number of any size, as big-endian bytes without leading zeros.
fn google_user_id(at: &At<'_>) -> Result<Caveat, JsonError> {
    let digits = match at.value {
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return at.expected("a whole number");
    }
    // Least significant byte first: multiply by ten, add the next digit.
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits.bytes() {
        let mut carry = u16::from(digit.saturating_sub(b'0'));
        for byte in &mut bytes {
            let [high, low] = u16::from(*byte)
                .wrapping_mul(10)
                .wrapping_add(carry)
                .to_be_bytes();
            *byte = low;
            carry = high.into();
        }
        if let Ok(carry @ 1..=u8::MAX) = u8::try_from(carry) {
            bytes.push(carry);
        }
    }
    bytes.reverse();
    Ok(Caveat::GoogleUserId(bytes.as_slice().into()))
}

/// Big-endian bytes as a decimal number.
fn decimal(bytes: &[u8]) -> Value {
    // Least significant digit first: multiply by 256, add the next byte.
    let mut digits: Vec<u8> = vec![0];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let n = u32::from(*digit).wrapping_mul(256).wrapping_add(carry);
            *digit = u8::try_from(n % 10).unwrap_or_default();
            carry = n / 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap_or_default());
            carry /= 10;
        }
    }
    let text: String = digits
        .iter()
        .rev()
        .map(|digit| char::from(b'0'.wrapping_add(*digit)))
        .collect();
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}

/// Digits of the largest accepted Google user id; conversion takes time in their square.
const MAX_DIGITS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fails(text: &str, message: &str) {
        assert_eq!(caveats_from_json(text).unwrap_err().to_string(), message);
    }

    #[test]
    fn errors_name_their_place() {
        fails("[", "line 1, column 1: this is not JSON");
        fails("{}", "the document: expected a list");
        fails(
            r#"[{"type":"Nonsense","body":{}}]"#,
            r#"[0].type: unknown caveat type "Nonsense""#,
        );
        fails(r#"[{"type":"Action"}]"#, "[0].body: expected a body");
        fails(
            r#"[{"type":"Action","body":"r"},{"type":"Apps","body":{"apps":{"x":"r"}}}]"#,
            "[1].body.apps.x: expected a decimal id as the key",
        );
        fails(
            r#"[{"type":"IfPresent","body":{"ifs":[{"type":"AllowedRoles","body":-1}]}}]"#,
            "[0].body.ifs[0].body: expected a number from 0 to 2^32-1",
        );
    }

    #[test]
    fn null_is_what_it_is_to_the_reference_nothing() {
        let text = r#"[
            {"type":"Organization","body":{"id":null,"mask":null}},
            {"type":"FromMachineSource","body":{"id":null}},
            {"type":"3P","body":{"Location":null,"VerifierKey":null,"Ticket":null}}
        ]"#;
        assert_eq!(
            caveats_from_json(text).unwrap(),
            [
                Caveat::Organization {
                    id: 0,
                    mask: Action::NONE,
                },
                Caveat::FromMachineSource("".into()),
                Caveat::ThirdParty(ThirdParty {
                    location: "".into(),
                    verifier_key: Blob::default(),
                    ticket: Blob::default(),
                }),
            ]
        );
    }

    #[test]
    fn numbers_beyond_64_bits_survive() {
        let text = r#"[{"body":123456789012345678901,"type":"GoogleUserID"}]"#;
        let caveats = caveats_from_json(text).unwrap();
        assert_eq!(caveats_to_json(&caveats).to_string(), text);
    }

    #[test]
    fn a_google_user_is_a_whole_number_of_bounded_length() {
        let id = |number: &str| {
            caveats_from_json(&format!(r#"[{{"type":"GoogleUserID","body":{number}}}]"#))
        };
        assert!(id(&"9".repeat(MAX_DIGITS)).is_ok());
        for bad in [
            &*"9".repeat(MAX_DIGITS + 1),
            "-1",
            "1.5",
            "1e9",
            "\"1\"",
            "{}",
        ] {
            let error = id(bad).unwrap_err().to_string();
            assert_eq!(error, "[0].body: expected a whole number", "{bad}");
        }
    }
}

//! Where the fields of an access come from, and how they are read from one request.

use std::fmt;

use http::{HeaderMap, HeaderName};

use super::AccessError;
use crate::policy::graphql::RootField;
use crate::policy::json::{Json, Pointer, TwoSpellings};
use crate::route::{Alphabet, Captures, Query};

/// Where the text of a field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Looked at first.
    pub source: Source,
    /// Further places. All that are there must hold the same text: the upstream might read any.
    pub others: Box<[Source]>,
    /// Taken where every source is absent. Present and empty is not absent, but an error.
    pub otherwise: Option<Fixed>,
}

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration itself.
    Fixed(Fixed),
    /// A capture of the path.
    Capture {
        /// Its place in the pattern.
        index: usize,
        /// For messages.
        name: Box<str>,
    },
    /// A capture of the host.
    Host {
        /// Its place in the pattern.
        index: usize,
        /// For messages.
        name: Box<str>,
    },
    /// A query key.
    Query(Box<str>),
    /// One word of a subject in a query key. Zero where it is `*` or missing, or behind a `>`.
    Word {
        /// The query key.
        key: Box<str>,
        /// What the subject begins with.
        first: Box<str>,
        /// Which word, from 1.
        index: usize,
    },
    /// A request header.
    Header(HeaderName),
    /// A text in the JSON body, or among the arguments of a GraphQL field. `null` is absent.
    Body(Pointer),
    /// The user of Basic authentication, whose password is the token.
    BasicUser,
    /// The element that the template is made for.
    Each,
    /// The machine that the request comes from, as the platform attests. No source of such an
    /// attestation is trusted, so it is never there.
    Peer,
}

/// A text known in advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// Id 0 or the empty string: a collection, or an object that does not exist yet.
    Zero,
    /// This text.
    Text(Box<str>),
}

/// When a template applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What has to be there.
    pub place: Place,
    /// What it has to be exactly, `true` or `false`; `None` is any value.
    ///
    /// Any other value is refused: the upstream might read `1`, `T` or an empty value as true.
    pub is: Option<bool>,
    /// What has to differ from the first access.
    pub other: Option<Other>,
}

/// A part of the request that a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A query key.
    Query(Box<str>),
    /// A place in the body. Absent, `null` and the empty text are all the same there.
    Body(Pointer),
}

/// What an access has to have other than the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// The organization.
    Org,
    /// The app.
    App,
}

/// What the fields of an access are read from.
#[derive(Clone)]
pub struct Fields<'a> {
    /// What the path captured.
    pub captures: Captures<'a>,
    /// What the host captured.
    pub host: Captures<'a>,
    /// The query.
    pub query: Query<'a>,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The user of Basic authentication.
    pub basic_user: Option<&'a str>,
    /// The body, or the arguments of a GraphQL field.
    pub json: Option<&'a Json>,
    /// The command in the body.
    pub command: Option<&'a [String]>,
    /// The root fields of a GraphQL request.
    pub roots: Option<&'a [RootField]>,
    /// The element that an access is made for.
    pub each: Option<&'a str>,
}

/// Without the headers: there is a credential among them.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields")
            .field("captures", &self.captures)
            .finish_non_exhaustive()
    }
}

impl<'a> Fields<'a> {
    /// Fields of a request without a body.
    pub fn new(captures: Captures<'a>, query: Query<'a>, headers: &'a HeaderMap) -> Self {
        Self {
            captures,
            host: Captures::default(),
            query,
            headers,
            basic_user: None,
            json: None,
            command: None,
            roots: None,
            each: None,
        }
    }
}

impl Value {
    /// A value that is always this text.
    pub fn text(text: &str) -> Self {
        Source::Fixed(Fixed::Text(text.into())).into()
    }

    /// A value that is always zero.
    pub fn zero() -> Self {
        Source::Fixed(Fixed::Zero).into()
    }

    /// Everywhere it looks.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        [&self.source].into_iter().chain(&self.others)
    }

    /// The text of the field in one request; zero is the empty text, which no source can yield.
    pub(super) fn read<'a>(&'a self, fields: &Fields<'a>) -> Result<&'a str, AccessError> {
        let found = self.find(fields)?;
        found.ok_or_else(|| match self.source.field() {
            Some(field) => AccessError::Missing(field),
            None => AccessError::NoPeer,
        })
    }

    /// The same; `None` where no source is there and nothing else is given.
    pub(super) fn find<'a>(&'a self, fields: &Fields<'a>) -> Result<Option<&'a str>, AccessError> {
        let mut found: Option<(&Source, &'a str)> = None;
        for source in self.sources() {
            let Some(text) = source.find(fields)? else {
                continue;
            };
            match found {
                Some((first, known)) if known != text => {
                    let field = |source: &Source| source.field();
                    return Err(match (field(first), field(source)) {
                        (Some(first), Some(second)) => AccessError::Disagree(first, second),
                        (_, None) | (None, _) => AccessError::NoPeer,
                    });
                }
                Some(_) => {}
                None => found = Some((source, text)),
            }
        }
        let otherwise = || self.otherwise.as_ref().map(Fixed::as_str);
        Ok(found.map(|(_, text)| text).or_else(otherwise))
    }

    pub(super) fn can_be_zero(&self) -> bool {
        self.fixed().any(|fixed| *fixed == Fixed::Zero)
    }

    pub(super) fn fixed_text_is_id(&self) -> bool {
        self.fixed().all(|fixed| match fixed {
            Fixed::Zero => true,
            Fixed::Text(text) => Alphabet::Id.accepts(text),
        })
    }

    /// The text where it is known in advance, else a stand-in.
    pub(super) fn sample(&self) -> &str {
        match &self.source {
            Source::Fixed(fixed) => fixed.as_str(),
            Source::Capture { .. }
            | Source::Host { .. }
            | Source::Query(_)
            | Source::Word { .. }
            | Source::Header(_)
            | Source::Body(_)
            | Source::BasicUser
            | Source::Each
            | Source::Peer => "x",
        }
    }

    fn fixed(&self) -> impl Iterator<Item = &Fixed> {
        let fixed = self.sources().filter_map(|source| match source {
            Source::Fixed(fixed) => Some(fixed),
            Source::Word { .. } => Some(&Fixed::Zero),
            Source::Capture { .. }
            | Source::Host { .. }
            | Source::Query(_)
            | Source::Header(_)
            | Source::Body(_)
            | Source::BasicUser
            | Source::Each
            | Source::Peer => None,
        });
        fixed.chain(&self.otherwise)
    }
}

/// A value with one source and no default.
impl From<Source> for Value {
    fn from(source: Source) -> Self {
        Self {
            source,
            others: Box::default(),
            otherwise: None,
        }
    }
}

impl Source {
    /// What stands there, if it is a name or an id; of a subject it may be zero.
    fn find<'a>(&'a self, fields: &Fields<'a>) -> Result<Option<&'a str>, AccessError> {
        let found = match self {
            Self::Fixed(fixed) => return Ok(Some(fixed.as_str())),
            // An element has been looked at, and may be zero.
            Self::Each => return Ok(fields.each),
            Self::Capture { index, .. } => fields.captures.value(*index),
            Self::Host { index, .. } => fields.host.value(*index),
            Self::Query(key) => query_value(fields, key)?,
            Self::Word { key, first, index } => {
                return query_value(fields, key)?
                    .map(|subject| word(subject, first, *index, key))
                    .transpose();
            }
            Self::Header(name) => header_value(fields, name)?,
            Self::Body(pointer) => body_text(fields, pointer)?,
            Self::BasicUser => fields.basic_user,
            Self::Peer => None,
        };
        let field = || self.field();
        match found {
            None => Ok(None),
            Some(text) if Alphabet::Id.accepts(text) => Ok(Some(text)),
            Some(text) => Err(match (field(), text) {
                (None, _) => AccessError::NoPeer,
                (Some(field), "") => AccessError::Empty(field),
                (Some(field), _) => AccessError::NotAnId(field),
            }),
        }
    }

    /// Its name in a message; none where no client can send it.
    pub(super) fn field(&self) -> Option<Field> {
        match self {
            Self::Fixed(_) | Self::Peer => None,
            Self::Capture { name, .. } => Some(Field::Path(name.clone())),
            Self::Host { name, .. } => Some(Field::Host(name.clone())),
            Self::Query(key) | Self::Word { key, .. } => Some(Field::Query(key.clone())),
            Self::Header(name) => Some(Field::Header(name.clone())),
            Self::Body(pointer) => Some(Field::Body(pointer.clone())),
            Self::BasicUser => Some(Field::BasicUser),
            Self::Each => Some(Field::Element),
        }
    }
}

impl Fixed {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Zero => "",
            Self::Text(text) => text,
        }
    }
}

impl Condition {
    /// Holds where the query key is there.
    pub fn query(key: &str) -> Self {
        Self {
            place: Place::Query(key.into()),
            is: None,
            other: None,
        }
    }

    /// Whether what it looks at is there and is what it has to be.
    pub(super) fn holds(&self, fields: &Fields<'_>) -> Result<bool, AccessError> {
        let there = match &self.place {
            Place::Query(key) => {
                let field = || Field::Query(key.clone());
                query_value(fields, key)?.map(|text| match text {
                    "true" => (Some(true), field()),
                    "false" => (Some(false), field()),
                    _ => (None, field()),
                })
            }
            Place::Body(pointer) => {
                let field = || Field::Body(pointer.clone());
                body_value(fields, pointer)?.and_then(|value| match value {
                    Json::Null => None,
                    Json::Text(text) if text.is_empty() => None,
                    Json::Bool(value) => Some((Some(*value), field())),
                    Json::Text(_) | Json::Number(_) | Json::List(_) | Json::Object(_) => {
                        Some((None, field()))
                    }
                })
            }
        };
        match (self.is, there) {
            (_, None) => Ok(false),
            (None, Some(_)) => Ok(true),
            (Some(wanted), Some((Some(value), _))) => Ok(wanted == value),
            (Some(_), Some((None, field))) => Err(AccessError::NotBoolean(field)),
        }
    }
}

/// The query keys that a route lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryKeys {
    /// Whether keys that take no part in an access are let through unseen.
    pub any: bool,
    /// Keys; `metadata.*` stands for all that begin with `metadata.`.
    pub names: Vec<Box<str>>,
}

impl QueryKeys {
    /// Refuses a query with a key that is not declared.
    pub fn check(&self, query: &Query<'_>) -> Result<(), AccessError> {
        let undeclared = query.pairs().find(|(key, _)| !self.declares(key));
        undeclared.map_or(Ok(()), |(key, _)| {
            Err(AccessError::UndeclaredKey(key.into()))
        })
    }

    fn declares(&self, key: &str) -> bool {
        self.any
            || self.names.iter().any(|name| match name.strip_suffix('*') {
                Some(prefix) => key.len() > prefix.len() && key.starts_with(prefix),
                None => **name == *key,
            })
    }
}

/// Names a part of a request in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A capture of the path.
    Path(Box<str>),
    /// A capture of the host.
    Host(Box<str>),
    /// A query key.
    Query(Box<str>),
    /// A header.
    Header(HeaderName),
    /// A place in the body.
    Body(Pointer),
    /// The user of Basic authentication.
    BasicUser,
    /// An element of a list in the body.
    Element,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(name) => write!(f, "`{name}` in the path"),
            Self::Host(name) => write!(f, "`{name}` in the host"),
            Self::Query(key) => write!(f, "the query key `{key}`"),
            Self::Header(name) => write!(f, "the header `{name}`"),
            Self::Body(pointer) => write!(f, "`{pointer}` in the body"),
            Self::BasicUser => f.write_str("the user name of the Authorization header"),
            Self::Element => f.write_str("an element of a list in the body"),
        }
    }
}

/// One word of a subject: `logs.web.ams.148e`, `logs.web.>`.
///
/// Wildcards may be encoded, since no target can hold a `>`. Nothing else may: an encoded dot
/// would be another number of words to whoever decodes it.
fn word<'a>(
    subject: &'a str,
    first: &str,
    index: usize,
    key: &str,
) -> Result<&'a str, AccessError> {
    let field = || Field::Query(key.into());
    let rest = |word: &str| word.eq_ignore_ascii_case("%3e");
    let any = |word: &str| word == "*" || word.eq_ignore_ascii_case("%2a") || rest(word);
    if !subject
        .split('.')
        .all(|word| Alphabet::Id.accepts(word) || any(word))
    {
        return Err(AccessError::NotASubject(field()));
    }
    for (word, at) in subject.split('.').zip(1..) {
        if at == 1 && word != first {
            return Err(AccessError::OtherSubject(field(), first.into()));
        }
        if rest(word) {
            break;
        }
        if at == index && !any(word) {
            return Ok(word);
        }
    }
    Ok("")
}

fn query_value<'a>(fields: &Fields<'a>, key: &str) -> Result<Option<&'a str>, AccessError> {
    let value = fields.query.one(key);
    value.map_err(|_| AccessError::Repeated(Field::Query(key.into())))
}

fn header_value<'a>(
    fields: &Fields<'a>,
    name: &HeaderName,
) -> Result<Option<&'a str>, AccessError> {
    let mut values = fields.headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(AccessError::Repeated(Field::Header(name.clone())));
    }
    let text = value.to_str();
    text.map(Some)
        .map_err(|_| AccessError::NotAnId(Field::Header(name.clone())))
}

/// What stands at a place in the body; a key in another spelling is a repetition.
pub(super) fn body_value<'a>(
    fields: &Fields<'a>,
    pointer: &Pointer,
) -> Result<Option<&'a Json>, AccessError> {
    let value = fields.json.map_or(Ok(None), |json| json.find(pointer));
    value.map_err(|TwoSpellings| AccessError::Repeated(Field::Body(pointer.clone())))
}

fn body_text<'a>(fields: &Fields<'a>, pointer: &Pointer) -> Result<Option<&'a str>, AccessError> {
    match body_value(fields, pointer)? {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Object(_)) => {
            Err(AccessError::NotText(Field::Body(pointer.clone())))
        }
    }
}

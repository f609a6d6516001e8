//! Where the fields of an access come from, and how they are read from one request.

use std::fmt;

use http::{HeaderMap, HeaderName};

use super::AccessError;
use crate::route::{Alphabet, Captures, Query};

/// Where the text of a field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Looked at first.
    pub source: Source,
    /// Taken where the source is absent. Present and empty is not absent, but an error.
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
    /// A query key.
    Query(Box<str>),
    /// A request header.
    Header(HeaderName),
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
pub enum Condition {
    /// The query key is there, whatever its value.
    Present(Box<str>),
    /// The query key is there and is exactly `true` or exactly `false`, as the second part says.
    ///
    /// Any other value is refused: the upstream might read `1`, `T` or an empty value as true.
    Is(Box<str>, bool),
}

/// What the fields of an access are read from.
#[derive(Clone)]
pub struct Fields<'a> {
    /// What the path captured.
    pub captures: Captures<'a>,
    /// The query.
    pub query: Query<'a>,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// Without the headers: there is a credential among them.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields")
            .field("captures", &self.captures)
            .finish_non_exhaustive()
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

    /// The text of the field in one request; zero is the empty text, which no source can yield.
    pub(super) fn read<'a>(&'a self, fields: &Fields<'a>) -> Result<&'a str, AccessError> {
        match &self.source {
            Source::Fixed(fixed) => Ok(fixed.as_str()),
            Source::Capture { index, name } => {
                self.settle(fields.captures.value(*index), || Field::Path(name.clone()))
            }
            Source::Query(key) => {
                self.settle(query_value(fields, key)?, || Field::Query(key.clone()))
            }
            Source::Header(name) => {
                self.settle(header_value(fields, name)?, || Field::Header(name.clone()))
            }
        }
    }

    fn settle<'a>(
        &'a self,
        found: Option<&'a str>,
        field: impl FnOnce() -> Field,
    ) -> Result<&'a str, AccessError> {
        match (found, &self.otherwise) {
            (Some(""), _) => Err(AccessError::Empty(field())),
            (Some(text), _) if Alphabet::Id.accepts(text) => Ok(text),
            (Some(_), _) => Err(AccessError::NotAnId(field())),
            (None, Some(fixed)) => Ok(fixed.as_str()),
            (None, None) => Err(AccessError::Missing(field())),
        }
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
            Source::Capture { .. } | Source::Query(_) | Source::Header(_) => "x",
        }
    }

    fn fixed(&self) -> impl Iterator<Item = &Fixed> {
        let source = match &self.source {
            Source::Fixed(fixed) => Some(fixed),
            Source::Capture { .. } | Source::Query(_) | Source::Header(_) => None,
        };
        source.into_iter().chain(&self.otherwise)
    }
}

/// A value without a default.
impl From<Source> for Value {
    fn from(source: Source) -> Self {
        Self {
            source,
            otherwise: None,
        }
    }
}

impl Fixed {
    fn as_str(&self) -> &str {
        match self {
            Self::Zero => "",
            Self::Text(text) => text,
        }
    }
}

impl Condition {
    pub(super) fn holds(&self, fields: &Fields<'_>) -> Result<bool, AccessError> {
        let (Self::Present(key) | Self::Is(key, _)) = self;
        match (self, query_value(fields, key)?) {
            (_, None) => Ok(false),
            (Self::Present(_), Some(_)) => Ok(true),
            (Self::Is(_, wanted), Some("true")) => Ok(*wanted),
            (Self::Is(_, wanted), Some("false")) => Ok(!*wanted),
            (Self::Is(..), Some(_)) => Err(AccessError::NotBoolean(Field::Query(key.clone()))),
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
    /// A capture.
    Path(Box<str>),
    /// A query key.
    Query(Box<str>),
    /// A header.
    Header(HeaderName),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(name) => write!(f, "`{name}` in the path"),
            Self::Query(key) => write!(f, "the query key `{key}`"),
            Self::Header(name) => write!(f, "the header `{name}`"),
        }
    }
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

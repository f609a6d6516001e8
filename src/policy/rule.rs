//! Rules: how a request becomes the accesses that its bearer must be permitted.

mod each;
mod field;
mod template;

use http::HeaderName;
use smallvec::SmallVec;
use thiserror::Error;

use super::access::{Access, InvalidAccess};
use super::body::BodyForm;
use super::graphql::GraphQlRules;
use super::names::{Found, Lookup, Names, Noun};
use super::scope::Scope;
use crate::macaroon::Action;

pub use each::{Each, Items};
pub use field::{Condition, Field, Fields, Fixed, Other, Place, QueryKeys, Source, Value};
pub use template::{AccessTemplate, App, Org, Owned};

/// What a route asks of the bearer.
#[derive(Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: no credential is looked at.
    Public,
    /// Any usable token; the request touches nothing that a caveat could name.
    Authenticated,
    /// A token whose discharge attests which user it speaks for, and which nobody has narrowed to
    /// less than everything in its organization: what a user may do goes beyond any of that.
    User,
    /// No token permits it.
    Denied,
    /// A permit for each of these.
    Accesses(Accesses),
    /// What the root fields of the request ask for.
    GraphQl(GraphQlRules),
}

/// One or more access templates, of which at least one always applies.
#[derive(Debug, PartialEq, Eq)]
pub struct Accesses {
    templates: Vec<AccessTemplate>,
    /// Whether any of them reads the body, a command aside. This and the next are asked of every
    /// request.
    reads_body: bool,
    /// Whether any of them reads the query.
    reads_query: bool,
}

/// An access that a request asks for, with the parts that each token fills in by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The access, complete unless one of the following says otherwise.
    pub access: Access<'a>,
    /// The organization is the token's own.
    pub own_org: bool,
    /// And the request is about that of every token of the bearer.
    pub every_org: bool,
    /// The cluster is the token's own.
    pub own_cluster: bool,
}

impl<'a> Asked<'a> {
    /// What is asked of a token that is to speak for its user: every action on its organization.
    ///
    /// The user is in the discharge and stays there however far the token is narrowed, so the
    /// caveats have to be asked about something that no narrowed token permits.
    pub fn of_user(mutation: Option<&'a str>) -> Self {
        Self {
            access: Access {
                action: Action::ALL,
                mutation,
                ..Access::default()
            },
            own_org: true,
            every_org: false,
            own_cluster: false,
        }
    }

    /// Whether it takes a token's scope to know the whole access.
    pub fn depends_on_token(&self) -> bool {
        self.own_org || self.own_cluster
    }

    /// The access for a token of this scope; `None` if the scope lacks a part.
    pub fn of(&self, scope: Scope<'a>) -> Option<Access<'a>> {
        let mut access = self.access.clone();
        if self.own_org {
            access.org = Some(scope.org?);
        }
        if self.own_cluster {
            access.cluster = Some(scope.cluster?);
        }
        Some(access)
    }
}

/// A complete access.
impl<'a> From<Access<'a>> for Asked<'a> {
    fn from(access: Access<'a>) -> Self {
        Self {
            access,
            own_org: false,
            every_org: false,
            own_cluster: false,
        }
    }
}

impl Rule {
    fn templates(&self) -> &[AccessTemplate] {
        match self {
            Self::Accesses(accesses) => &accesses.templates,
            Self::Public | Self::Authenticated | Self::User | Self::Denied | Self::GraphQl(_) => {
                &[]
            }
        }
    }

    /// Whether both ask for the same of every request that has the same captures.
    pub fn asks_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Accesses(one), Self::Accesses(two)) => one == two,
            (Self::GraphQl(one), Self::GraphQl(two)) => one == two,
            (Self::Public, Self::Public)
            | (Self::Authenticated, Self::Authenticated)
            | (Self::User, Self::User)
            | (Self::Denied, Self::Denied) => true,
            (
                Self::Public
                | Self::Authenticated
                | Self::User
                | Self::Denied
                | Self::Accesses(_)
                | Self::GraphQl(_),
                _,
            ) => false,
        }
    }

    /// The headers that it reads.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        let values = self.templates().iter().flat_map(AccessTemplate::values);
        let sources = values.flat_map(|(_, value)| value.sources());
        sources.filter_map(|source| {
            if let Source::Header(name) = source {
                Some(name)
            } else {
                None
            }
        })
    }

    /// Whether it reads the query.
    pub fn reads_query(&self) -> bool {
        match self {
            Self::Accesses(accesses) => accesses.reads_query,
            Self::Public | Self::Authenticated | Self::User | Self::Denied | Self::GraphQl(_) => {
                false
            }
        }
    }

    /// How it reads the body, if it does.
    pub fn body(&self) -> Option<BodyForm<'_>> {
        match self {
            Self::GraphQl(_) => Some(BodyForm::GraphQl),
            Self::Accesses(accesses) => accesses.body(),
            Self::Public | Self::Authenticated | Self::User | Self::Denied => None,
        }
    }

    /// The accesses of a request; empty only where the rule asks for none.
    ///
    /// Either every template that applies yields a complete access, or the request is refused.
    pub fn accesses<'a>(
        &'a self,
        fields: &Fields<'a>,
        names: &impl Names,
    ) -> Result<SmallVec<[Asked<'a>; 1]>, AccessError> {
        match self {
            Self::Public | Self::Authenticated => Ok(SmallVec::new()),
            Self::User => Ok([Asked::of_user(None)].into()),
            Self::Denied => Err(AccessError::Denied),
            Self::Accesses(accesses) => accesses.of(fields, names),
            Self::GraphQl(rules) => rules.accesses(fields, names),
        }
    }

    /// Whether it takes a token whose discharge attests a user, whatever else is asked.
    pub fn needs_user(&self, fields: &Fields<'_>) -> bool {
        match self {
            Self::User => true,
            Self::GraphQl(rules) => rules.needs_user(fields),
            Self::Public | Self::Authenticated | Self::Denied | Self::Accesses(_) => false,
        }
    }
}

impl Accesses {
    /// Takes templates that can make a valid access for every request.
    ///
    /// # Errors
    /// What is wrong with which template, each by its place; not empty.
    pub fn new(templates: Vec<AccessTemplate>) -> Result<Self, Vec<(usize, TemplateError)>> {
        let mut errors = Vec::new();
        if templates.first().is_none_or(|t| !t.is_certain()) {
            errors.push((0, TemplateError::Conditional));
        }
        for (index, template) in templates.iter().enumerate() {
            if let Err(error) = template.check() {
                errors.push((index, error));
            }
        }
        if errors.is_empty() {
            let reads_body = templates.iter().any(AccessTemplate::reads_body);
            let reads_query = |t: &AccessTemplate| t.query_keys().next().is_some();
            let reads_query = templates.iter().any(reads_query);
            Ok(Self {
                templates,
                reads_body,
                reads_query,
            })
        } else {
            Err(errors)
        }
    }

    /// The templates; the first has no condition.
    pub fn templates(&self) -> &[AccessTemplate] {
        &self.templates
    }

    fn body(&self) -> Option<BodyForm<'_>> {
        let command = self.templates.iter().find_map(|t| t.command.as_ref());
        command
            .map(BodyForm::Command)
            .or_else(|| self.reads_body.then_some(BodyForm::Json))
    }

    /// The same as accesses of a GraphQL mutation, where they do not name one themselves.
    pub(super) fn of_mutation(mut self, name: &str) -> Self {
        for template in &mut self.templates {
            template.mutation.get_or_insert_with(|| Value::text(name));
        }
        self
    }

    /// The accesses of one request; never empty.
    pub fn of<'a>(
        &'a self,
        fields: &Fields<'a>,
        names: &impl Names,
    ) -> Result<SmallVec<[Asked<'a>; 1]>, AccessError> {
        let mut asked = SmallVec::new();
        let made = self
            .templates
            .iter()
            .try_for_each(|template| template.add(fields, names, &mut asked));
        match made {
            Ok(()) if asked.is_empty() => Err(AccessError::Nothing),
            Ok(()) if asked.len() > MAX_ACCESSES => Err(AccessError::TooMany),
            Ok(()) => Ok(asked),
            // A request that is wrong in another way too is answered for that one, whether or not
            // the name exists: else the order of checks would tell.
            Err(error @ (AccessError::UnknownName(_) | AccessError::Contradiction(_))) => {
                self.templates
                    .iter()
                    .try_for_each(|template| template.read(fields))?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// What is wrong with a template; such a route is refused when it is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// Every template has a condition, so that some requests would make no access at all.
    #[error("the first access has a condition, so some requests would ask for nothing")]
    Conditional,
    /// An empty action is within every mask.
    #[error("the access asks for no action")]
    NoAction,
    /// No organization, and no app that could tell it.
    #[error("the access names no organization, and no single app whose owner it could be")]
    NoOrg,
    /// `zero` where it stands for nothing.
    #[error("`{0}` cannot be zero")]
    Zero(&'static str),
    /// `each` in a field of a template that is made once.
    #[error("`{0}` is `each`, but the access is made for no list")]
    NoElement(&'static str),
    /// A text that no request could hold either.
    #[error("`{0}` is not made of letters, digits, `_` and `-`")]
    Text(&'static str),
    /// The fields do not fit together.
    #[error(transparent)]
    Invalid(InvalidAccess),
}

/// Why a request has no accesses. Each of these refuses the request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// A declared field is absent.
    #[error("{0} is missing")]
    Missing(Field),
    /// A declared field is there, but has no value.
    #[error("{0} is empty")]
    Empty(Field),
    /// A field occurs more than once, or a query key in two spellings.
    #[error("{0} occurs more than once or in another spelling")]
    Repeated(Field),
    /// A field is outside the alphabet of names and ids.
    #[error("{0} is not made of letters, digits, `_` and `-`")]
    NotAnId(Field),
    /// A subject that could be split in two ways.
    #[error(
        "{0} is not made of words of letters, digits, `_` and `-`, `*` or `%3E`, with dots between them"
    )]
    NotASubject(Field),
    /// A subject of something else.
    #[error("{0} does not begin with `{1}`")]
    OtherSubject(Field, Box<str>),
    /// A field of the body is no text.
    #[error("{0} is not a text")]
    NotText(Field),
    /// A reference to an image that could be read as one of the platform's registry.
    #[error("{0} is no image reference of the form registry/app:tag")]
    NotAnImage(Field),
    /// Two places hold different texts for one field.
    #[error("{0} and {1} name different things")]
    Disagree(Field, Field),
    /// A condition asks for a boolean.
    #[error("{0} must be `true` or `false`")]
    NotBoolean(Field),
    /// A query key that the route does not know. The upstream might, so it is refused.
    #[error(
        "the route does not declare the query key `{0}`; to let it through, add it to the \
         route's `query: [...]`"
    )]
    UndeclaredKey(Box<str>),
    /// The directory does not know a name.
    #[error("no such {0}")]
    UnknownName(Noun),
    /// The directory has to ask about a name first.
    #[error("the directory has not answered yet")]
    Unresolved(Lookup),
    /// Two parts of the request name things that do not belong together.
    #[error("the {0} does not belong to what else the request names")]
    Contradiction(Noun),
    /// No template of the route, or no field of the request, is permitted to anybody.
    #[error("no token permits this here")]
    Denied,
    /// A root field of the request has no rule.
    #[error("the rules have no field `{0}` of that kind, so no token permits it")]
    NoRule(Box<str>),
    /// The rule of a root field permits it to nobody.
    #[error("no token permits the field `{0}`")]
    DeniedField(Box<str>),
    /// A field with a rule below another is selected at some other place.
    #[error(
        "the field `{0}` is permitted only directly below a root field whose rules name it; ask \
         for it there, in a request of its own"
    )]
    Guarded(Box<str>),
    /// The route is for requests from a machine of the platform.
    #[error("the request comes from no machine that the platform vouches for")]
    NoPeer,
    /// The body has no command.
    #[error("the request has no command")]
    NoCommand,
    /// More accesses than one request may make.
    #[error("the request names more than {MAX_ACCESSES} things")]
    TooMany,
    /// No template applies.
    #[error("the request makes no access")]
    Nothing,
    /// The fields do not fit together.
    #[error(transparent)]
    Invalid(InvalidAccess),
}

/// What the directory says, or why the request cannot be judged.
fn known<T>(found: Found<T>, noun: Noun) -> Result<T, AccessError> {
    match found {
        Found::Known(value) => Ok(value),
        Found::Absent => Err(AccessError::UnknownName(noun)),
        Found::Unresolved(lookup) => Err(AccessError::Unresolved(lookup)),
    }
}

/// Accesses of one request, inclusive: each costs a look at every caveat.
pub(super) const MAX_ACCESSES: usize = 64;

#[cfg(test)]
mod tests;

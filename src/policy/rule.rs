//! Rules: how a request becomes the accesses that its bearer must be permitted.

mod field;

use http::HeaderName;
use smallvec::SmallVec;
use thiserror::Error;

use super::access::{Access, InvalidAccess};
use super::names::{AppIds, Found, Lookup, Names, Noun, PERSONAL};
use crate::macaroon::Action;

pub use field::{Condition, Field, Fields, Fixed, QueryKeys, Source, Value};

/// What a route asks of the bearer.
#[derive(Debug)]
pub enum Rule {
    /// Nothing: no credential is looked at.
    Public,
    /// Any usable token; the request touches nothing that a caveat could name.
    Authenticated,
    /// A permit for each of these.
    Accesses(Accesses),
}

/// One or more access templates, of which at least one always applies.
#[derive(Debug)]
pub struct Accesses(Vec<AccessTemplate>);

/// One access, as far as it does not depend on the request.
#[derive(Clone, Debug)]
pub struct AccessTemplate {
    /// Left out of the request's accesses where this does not hold.
    pub when: Option<Condition>,
    /// Never empty.
    pub action: Action,
    /// Whose it is.
    pub org: Org,
    /// App name.
    pub app: Option<Value>,
    /// Machine id.
    pub machine: Option<Value>,
    /// Volume id.
    pub volume: Option<Value>,
    /// Cluster name.
    pub cluster: Option<Value>,
    /// Feature of the organization.
    pub feature: Option<Value>,
    /// Feature of the app.
    pub app_feature: Option<Value>,
    /// Feature of the machine.
    pub machine_feature: Option<Value>,
    /// GraphQL mutation.
    pub mutation: Option<Value>,
    /// Storage object.
    pub storage_object: Option<Value>,
}

/// Where the organization of an access comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Org {
    /// It is the one that owns the app of the access.
    Owner,
    /// A slug. An app in the same access must belong to it.
    Slug(Value),
    /// The one that owns an app which is itself no part of the access.
    OwnerOfApp(Value),
    /// The one that owns a cluster which is itself no part of the access.
    OwnerOfCluster(Value),
}

impl Rule {
    /// The headers that it reads.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        let templates = match self {
            Self::Accesses(Accesses(templates)) => templates.as_slice(),
            Self::Public | Self::Authenticated => &[],
        };
        let values = templates.iter().flat_map(AccessTemplate::values);
        values.filter_map(|(_, value)| match &value.source {
            Source::Header(name) => Some(name),
            Source::Fixed(_) | Source::Capture { .. } | Source::Query(_) => None,
        })
    }

    /// Whether it reads the query.
    pub fn reads_query(&self) -> bool {
        match self {
            Self::Accesses(Accesses(templates)) => templates
                .iter()
                .any(|template| template.query_keys().next().is_some()),
            Self::Public | Self::Authenticated => false,
        }
    }

    /// The accesses of a request; empty only where the rule asks for none.
    ///
    /// Either every template that applies yields a complete access, or the request is refused.
    pub fn accesses<'a>(
        &'a self,
        fields: &Fields<'a>,
        names: &impl Names,
    ) -> Result<SmallVec<[Access<'a>; 1]>, AccessError> {
        let Self::Accesses(Accesses(templates)) = self else {
            return Ok(SmallVec::new());
        };
        let made = templates
            .iter()
            .try_fold(SmallVec::new(), |mut accesses, template| {
                if template.applies(fields)? {
                    accesses.push(template.access(fields, names)?);
                }
                Ok(accesses)
            });
        match made {
            Ok(accesses) if accesses.is_empty() => Err(AccessError::Nothing),
            // A request that is wrong in another way too is answered for that one, whether or not
            // the name exists: else the order of checks would tell.
            Err(error @ (AccessError::UnknownName(_) | AccessError::Contradiction(_))) => {
                templates
                    .iter()
                    .try_for_each(|template| template.read(fields))?;
                Err(error)
            }
            made => made,
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
        if templates.first().is_none_or(|t| t.when.is_some()) {
            errors.push((0, TemplateError::Conditional));
        }
        for (index, template) in templates.iter().enumerate() {
            if let Err(error) = template.check() {
                errors.push((index, error));
            }
        }
        if errors.is_empty() {
            Ok(Self(templates))
        } else {
            Err(errors)
        }
    }

    /// The templates; the first has no condition.
    pub fn templates(&self) -> &[AccessTemplate] {
        &self.0
    }
}

impl AccessTemplate {
    /// A template that asks for `action` on nothing yet.
    pub fn new(action: Action, org: Org) -> Self {
        Self {
            when: None,
            action,
            org,
            app: None,
            machine: None,
            volume: None,
            cluster: None,
            feature: None,
            app_feature: None,
            machine_feature: None,
            mutation: None,
            storage_object: None,
        }
    }

    /// Every field that is read from the request, with its name in the configuration.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let org = match &self.org {
            Org::Owner => None,
            Org::Slug(value) | Org::OwnerOfApp(value) | Org::OwnerOfCluster(value) => Some(value),
        };
        [
            ("org", org),
            ("app", self.app.as_ref()),
            ("machine", self.machine.as_ref()),
            ("volume", self.volume.as_ref()),
            ("cluster", self.cluster.as_ref()),
            ("feature", self.feature.as_ref()),
            ("app_feature", self.app_feature.as_ref()),
            ("machine_feature", self.machine_feature.as_ref()),
            ("mutation", self.mutation.as_ref()),
            ("storage_object", self.storage_object.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// The query keys it reads.
    pub fn query_keys(&self) -> impl Iterator<Item = &str> {
        let condition = self.when.as_ref().map(|when| match when {
            Condition::Present(key) | Condition::Is(key, _) => &**key,
        });
        let values = self.values().filter_map(|(_, value)| match &value.source {
            Source::Query(key) => Some(&**key),
            Source::Fixed(_) | Source::Capture { .. } | Source::Header(_) => None,
        });
        condition.into_iter().chain(values)
    }

    fn check(&self) -> Result<(), TemplateError> {
        if self.action.is_empty() {
            return Err(TemplateError::NoAction);
        }
        for (name, value) in self.values() {
            if value.can_be_zero() && !ZERO_FIELDS.contains(&name) {
                return Err(TemplateError::Zero(name));
            }
            if !value.fixed_text_is_id() {
                return Err(TemplateError::Text(name));
            }
        }
        if self.org == Org::Owner && self.app.as_ref().is_none_or(Value::can_be_zero) {
            return Err(TemplateError::NoOrg);
        }
        let sample = Access {
            action: self.action,
            org: Some(1),
            app: self.app.as_ref().map(|_| 1),
            app_feature: self.app_feature.as_ref().map(Value::sample),
            feature: self.feature.as_ref().map(Value::sample),
            volume: self.volume.as_ref().map(Value::sample),
            machine: self.machine.as_ref().map(Value::sample),
            machine_feature: self.machine_feature.as_ref().map(Value::sample),
            mutation: self.mutation.as_ref().map(Value::sample),
            cluster: self.cluster.as_ref().map(Value::sample),
            storage_object: self.storage_object.as_ref().map(Value::sample),
            ..Access::default()
        };
        sample.validate().map_err(TemplateError::Invalid)
    }

    /// Reads every field that the access would be made of, and resolves nothing.
    fn read<'a>(&'a self, fields: &Fields<'a>) -> Result<(), AccessError> {
        if self.applies(fields)? {
            self.values()
                .try_for_each(|(_, value)| value.read(fields).map(drop))?;
        }
        Ok(())
    }

    fn applies(&self, fields: &Fields<'_>) -> Result<bool, AccessError> {
        self.when
            .as_ref()
            .map_or(Ok(true), |when| when.holds(fields))
    }

    fn access<'a>(
        &'a self,
        fields: &Fields<'a>,
        names: &impl Names,
    ) -> Result<Access<'a>, AccessError> {
        let text = |value: &'a Option<Value>| value.as_ref().map(|v| v.read(fields)).transpose();
        let app = match &self.app {
            Some(value) => Some(app_or_zero(value.read(fields)?, names)?),
            None => None,
        };
        let owner = app.flatten().map(|ids| ids.org);
        let org = match &self.org {
            Org::Owner => owner,
            Org::Slug(value) => Some(org_of_slug(value.read(fields)?, names)?),
            Org::OwnerOfApp(value) => app_or_zero(value.read(fields)?, names)?.map(|ids| ids.org),
            Org::OwnerOfCluster(value) => Some(known(
                names.cluster_org(value.read(fields)?),
                Noun::Cluster,
            )?),
        };
        if owner.is_some() && owner != org {
            return Err(AccessError::Contradiction(Noun::App));
        }
        let access = Access {
            action: self.action,
            org,
            app: app.map(|ids| ids.map_or(0, |ids| ids.app)),
            app_feature: text(&self.app_feature)?,
            feature: text(&self.feature)?,
            volume: text(&self.volume)?,
            machine: text(&self.machine)?,
            machine_feature: text(&self.machine_feature)?,
            mutation: text(&self.mutation)?,
            cluster: text(&self.cluster)?,
            storage_object: text(&self.storage_object)?,
            ..Access::default()
        };
        check_parts(&access, names)?;
        access.validate().map_err(AccessError::Invalid)?;
        Ok(access)
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
    /// No template applies.
    #[error("the request makes no access")]
    Nothing,
    /// The fields do not fit together.
    #[error(transparent)]
    Invalid(InvalidAccess),
}

/// Where zero stands for a collection or for something not yet created.
const ZERO_FIELDS: [&str; 4] = ["app", "machine", "volume", "cluster"];

/// The ids of an app; `None` is zero.
fn app_or_zero(name: &str, names: &impl Names) -> Result<Option<AppIds>, AccessError> {
    if name.is_empty() {
        return Ok(None);
    }
    known(names.app(name), Noun::App).map(Some)
}

fn org_of_slug(slug: &str, names: &impl Names) -> Result<u64, AccessError> {
    if slug == PERSONAL {
        return Err(AccessError::UnknownName(Noun::Org));
    }
    known(names.org(slug), Noun::Org)
}

/// What the directory says, or why the request cannot be judged.
fn known<T>(found: Found<T>, noun: Noun) -> Result<T, AccessError> {
    match found {
        Found::Known(value) => Ok(value),
        Found::Absent => Err(AccessError::UnknownName(noun)),
        Found::Unresolved(lookup) => Err(AccessError::Unresolved(lookup)),
    }
}

/// A machine or volume that is known must belong to the app. One that is not known goes on: its
/// own upstream looks for it under the app that was judged.
fn check_parts(access: &Access<'_>, names: &impl Names) -> Result<(), AccessError> {
    let check = |found: Found<AppIds>, noun| match found {
        Found::Known(ids) if Some(ids.app) != access.app => Err(AccessError::Contradiction(noun)),
        Found::Known(_) | Found::Absent => Ok(()),
        Found::Unresolved(lookup) => Err(AccessError::Unresolved(lookup)),
    };
    if let Some(machine) = access.machine.filter(|id| !id.is_empty()) {
        check(names.machine(machine), Noun::Machine)?;
    }
    if let Some(volume) = access.volume.filter(|id| !id.is_empty()) {
        check(names.volume(volume), Noun::Volume)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Access templates: an access, as far as it does not depend on the request.

use smallvec::SmallVec;

use super::each::Each;
use super::field::{Condition, Fields, Fixed, Other, Place, Source, Value};
use super::{AccessError, Asked, TemplateError, known};
use crate::macaroon::Action;
use crate::policy::access::Access;
use crate::policy::body::CommandKeys;
use crate::policy::names::{AppIds, Found, LookupKind, Names, Noun, Owner, PERSONAL};

/// One access, as far as it does not depend on the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTemplate {
    /// Left out of the request's accesses where this does not hold.
    pub when: Option<Condition>,
    /// Made once for each of these.
    pub each: Option<Each>,
    /// Never empty.
    pub action: Action,
    /// Whose it is.
    pub org: Org,
    /// The app.
    pub app: Option<App>,
    /// Machine id.
    pub machine: Option<Value>,
    /// Volume id.
    pub volume: Option<Value>,
    /// Cluster name.
    pub cluster: Option<Value>,
    /// Where the request names no cluster, the token's own is meant.
    pub own_cluster: bool,
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
    /// The command in the body.
    pub command: Option<CommandKeys>,
    /// Whether a machine or volume that the directory does not know may go on, because the upstream
    /// looks for it under the app that was judged. Where the request names it by itself, as in
    /// GraphQL, it could be anybody's.
    pub under_app: bool,
}

/// Where the organization of an access comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Org {
    /// It is the one that owns the app of the access.
    Owner,
    /// A slug or alias. An app in the same access must belong to it.
    Slug(Value),
    /// The one that owns something which is itself no part of the access.
    OwnerOf(Owned),
    /// The first of these that the request names. Where it names several, they must agree.
    First(Vec<Self>),
    /// The token's own: each token is judged for its own organization.
    Token,
    /// The same, for a request that is about every organization of the bearer.
    EachToken,
    /// That of the machine which the request comes from.
    Peer,
}

/// Where the app of an access comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// A name, an alias or zero.
    Named(Value),
    /// An id, as a decimal number.
    Numbered(Value),
    /// The one that owns something.
    OwnerOf(Owned),
}

/// Something that has an owner in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// What it is.
    pub kind: LookupKind,
    /// Its name or id.
    pub of: Value,
}

impl AccessTemplate {
    /// A template that asks for `action` on nothing yet.
    pub fn new(action: Action, org: Org) -> Self {
        Self {
            when: None,
            each: None,
            action,
            org,
            app: None,
            machine: None,
            volume: None,
            cluster: None,
            own_cluster: false,
            feature: None,
            app_feature: None,
            machine_feature: None,
            mutation: None,
            storage_object: None,
            command: None,
            under_app: true,
        }
    }

    /// Every field that is read from the request, with its name in the configuration.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let app = self.app.as_ref().map(|app| match app {
            App::Named(value) | App::Numbered(value) | App::OwnerOf(Owned { of: value, .. }) => {
                value
            }
        });
        let rest = [
            ("app", app),
            ("machine", self.machine.as_ref()),
            ("volume", self.volume.as_ref()),
            ("cluster", self.cluster.as_ref()),
            ("feature", self.feature.as_ref()),
            ("app_feature", self.app_feature.as_ref()),
            ("machine_feature", self.machine_feature.as_ref()),
            ("mutation", self.mutation.as_ref()),
            ("storage_object", self.storage_object.as_ref()),
        ];
        let org = self.org.values().into_iter().map(|value| ("org", value));
        org.chain(
            rest.into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        )
    }

    /// The query keys it reads.
    pub fn query_keys(&self) -> impl Iterator<Item = &str> {
        let condition = self.when.as_ref().and_then(|when| match &when.place {
            Place::Query(key) => Some(&**key),
            Place::Body(_) => None,
        });
        let sources = self.values().flat_map(|(_, value)| value.sources());
        let keys = sources.filter_map(|source| {
            if let Source::Query(key) | Source::Word { key, .. } = source {
                Some(&**key)
            } else {
                None
            }
        });
        condition.into_iter().chain(keys)
    }

    /// Whether it reads the body, its command aside.
    pub(super) fn reads_body(&self) -> bool {
        let condition = self.when.as_ref();
        condition.is_some_and(|when| matches!(when.place, Place::Body(_)))
            || self.each.is_some()
            || self
                .values()
                .flat_map(|(_, value)| value.sources())
                .any(|source| matches!(source, Source::Body(_)))
    }

    /// Whether it makes an access for every request that is not refused.
    pub(super) fn is_certain(&self) -> bool {
        self.when.is_none() && self.each.as_ref().is_none_or(Each::is_certain)
    }

    pub(super) fn check(&self) -> Result<(), TemplateError> {
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
            let element = value.sources().any(|source| *source == Source::Each);
            if element && self.each.is_none() {
                return Err(TemplateError::NoElement(name));
            }
        }
        let named = match &self.app {
            Some(App::Named(value)) => !value.can_be_zero() && !self.element_can_be_zero(value),
            Some(App::Numbered(_) | App::OwnerOf(_)) => true,
            None => false,
        };
        if self.org == Org::Owner && !named {
            return Err(TemplateError::NoOrg);
        }
        // What goes with what; neither the action nor a mutation has a part in that.
        let sample = Access {
            org: Some(1),
            app: self.app.as_ref().map(|_| 1),
            app_feature: self.app_feature.as_ref().map(Value::sample),
            feature: self.feature.as_ref().map(Value::sample),
            volume: self.volume.as_ref().map(Value::sample),
            machine: self.machine.as_ref().map(Value::sample),
            machine_feature: self.machine_feature.as_ref().map(Value::sample),
            cluster: self.cluster.as_ref().map(Value::sample),
            storage_object: self.storage_object.as_ref().map(Value::sample),
            command: self.command.as_ref().map(|_| [].as_slice()),
            ..Access::default()
        };
        sample.validate().map_err(TemplateError::Invalid)
    }

    fn element_can_be_zero(&self, value: &Value) -> bool {
        let element = value.sources().any(|source| *source == Source::Each);
        let otherwise = self.each.as_ref().and_then(|each| each.otherwise.as_ref());
        element && otherwise == Some(&Fixed::Zero)
    }

    /// Reads every field that the access would be made of, and resolves nothing.
    pub(super) fn read<'a>(&'a self, fields: &Fields<'a>) -> Result<(), AccessError> {
        if !self.when.as_ref().map_or(Ok(true), |w| w.holds(fields))? {
            return Ok(());
        }
        let read = |fields: &Fields<'a>| {
            self.values().try_for_each(|(name, value)| {
                let optional = name == "org" || (name == "cluster" && self.own_cluster);
                match optional {
                    true => value.find(fields).map(drop),
                    false => value.read(fields).map(drop),
                }
            })
        };
        match &self.each {
            None => read(fields),
            Some(each) => elements(each, fields)?.iter().try_for_each(read),
        }
    }

    /// Adds the accesses of one request to those of the templates before.
    pub(super) fn add<'a>(
        &'a self,
        fields: &Fields<'a>,
        names: &impl Names,
        asked: &mut SmallVec<[Asked<'a>; 1]>,
    ) -> Result<(), AccessError> {
        if !self.when.as_ref().map_or(Ok(true), |w| w.holds(fields))? {
            return Ok(());
        }
        let other = self.when.as_ref().and_then(|when| when.other);
        // Images of the app itself are part of what is asked of it anyway.
        let other = match &self.each {
            Some(each) if !each.is_certain() => other.or(Some(Other::App)),
            Some(_) | None => other,
        };
        let mut push = |fields: &Fields<'a>| -> Result<(), AccessError> {
            let one = self.access(fields, names)?;
            let first = asked.first().map(|first| &first.access);
            let same = match (other, first) {
                (None, _) | (_, None) => false,
                (Some(Other::Org), Some(first)) => first.org == one.access.org,
                (Some(Other::App), Some(first)) => first.app == one.access.app,
            };
            if !same {
                asked.push(one);
            }
            Ok(())
        };
        match &self.each {
            None => push(fields),
            Some(each) => elements(each, fields)?.iter().try_for_each(push),
        }
    }

    fn access<'a>(
        &'a self,
        fields: &Fields<'a>,
        names: &impl Names,
    ) -> Result<Asked<'a>, AccessError> {
        let text = |value: &'a Option<Value>| value.as_ref().map(|v| v.read(fields)).transpose();
        let app = match &self.app {
            Some(App::Named(value)) => Some(app_or_zero(value.read(fields)?, names)?),
            Some(App::Numbered(value)) => Some(Some(app_numbered(value.read(fields)?, names)?)),
            Some(App::OwnerOf(owned)) => Some(Some(owned.app(fields, names)?)),
            None => None,
        };
        let owner = app.flatten().map(|ids| ids.org);
        let org = match self.org.resolve(owner, fields, names)? {
            Whose::Org(org) => Some(org),
            // The app tells whose it is, and the token has to be for that.
            Whose::Tokens => owner,
        };
        if owner.is_some() && owner != org {
            return Err(AccessError::Contradiction(Noun::App));
        }
        let cluster = match &self.cluster {
            Some(value) if self.own_cluster => value.find(fields)?,
            Some(value) => Some(value.read(fields)?),
            None => None,
        };
        let own_cluster = self.own_cluster && cluster.is_none();
        let mut access = Access {
            action: self.action,
            // Stands in for the token's own until it is known which token it is.
            org: org.or(Some(0)),
            app: app.map(|ids| ids.map_or(0, |ids| ids.app)),
            app_feature: text(&self.app_feature)?,
            feature: text(&self.feature)?,
            volume: text(&self.volume)?,
            machine: text(&self.machine)?,
            machine_feature: text(&self.machine_feature)?,
            mutation: text(&self.mutation)?,
            cluster,
            storage_object: text(&self.storage_object)?,
            command: match &self.command {
                Some(_) => Some(fields.command.ok_or(AccessError::NoCommand)?),
                None => None,
            },
            ..Access::default()
        };
        check_parts(&access, self.under_app, names)?;
        access.validate().map_err(AccessError::Invalid)?;
        access.org = org;
        Ok(Asked {
            access,
            own_org: org.is_none(),
            every_org: org.is_none() && self.org.is_every_tokens(),
            own_cluster,
        })
    }
}

/// The request's fields once for each element.
fn elements<'a>(each: &'a Each, fields: &Fields<'a>) -> Result<Vec<Fields<'a>>, AccessError> {
    let elements = each.read(fields)?.into_iter();
    let with = |element| Fields {
        each: Some(element),
        ..fields.clone()
    };
    Ok(elements.map(with).collect())
}

/// Whose an access is.
enum Whose {
    Org(u64),
    Tokens,
}

impl Org {
    /// Every value that may have to be read for it.
    fn values(&self) -> Vec<&Value> {
        match self {
            Self::Slug(value) | Self::OwnerOf(Owned { of: value, .. }) => vec![value],
            Self::First(several) => several.iter().flat_map(Self::values).collect(),
            Self::Owner | Self::Token | Self::EachToken | Self::Peer => vec![],
        }
    }

    fn is_every_tokens(&self) -> bool {
        match self {
            Self::EachToken => true,
            Self::First(several) => several.iter().any(Self::is_every_tokens),
            Self::Owner | Self::Slug(_) | Self::OwnerOf(_) | Self::Token | Self::Peer => false,
        }
    }

    fn resolve<'a>(
        &'a self,
        owner: Option<u64>,
        fields: &Fields<'a>,
        names: &impl Names,
    ) -> Result<Whose, AccessError> {
        let found = self.find(owner, fields, names)?;
        found.ok_or_else(|| {
            let field = self.values().first().and_then(|value| value.source.field());
            field.map_or(AccessError::NoPeer, AccessError::Missing)
        })
    }

    /// `None` where the request does not name it.
    fn find<'a>(
        &'a self,
        owner: Option<u64>,
        fields: &Fields<'a>,
        names: &impl Names,
    ) -> Result<Option<Whose>, AccessError> {
        match self {
            Self::Owner => Ok(owner.map(Whose::Org)),
            Self::Slug(value) => {
                let slug = value.find(fields)?;
                let org = slug.map(|slug| org_of_slug(slug, names)).transpose()?;
                Ok(org.map(Whose::Org))
            }
            Self::OwnerOf(owned) => match owned.of.find(fields)? {
                Some(name) => Ok(Some(Whose::Org(owned.owner(name, names)?.org()))),
                None => Ok(None),
            },
            Self::Token | Self::EachToken => Ok(Some(Whose::Tokens)),
            Self::Peer => Err(AccessError::NoPeer),
            Self::First(several) => {
                let mut found = None;
                for org in several {
                    match (&found, org.find(owner, fields, names)?) {
                        (None, next) => found = next,
                        (Some(Whose::Org(one)), Some(Whose::Org(two))) if *one != two => {
                            return Err(AccessError::Contradiction(Noun::Org));
                        }
                        (Some(_), _) => {}
                    }
                }
                Ok(found)
            }
        }
    }
}

impl Owned {
    fn app<'a>(&'a self, fields: &Fields<'a>, names: &impl Names) -> Result<AppIds, AccessError> {
        match self.owner(self.of.read(fields)?, names)? {
            Owner::App(ids) => Ok(ids),
            Owner::Org(_) => Err(AccessError::Contradiction(self.noun())),
        }
    }

    fn owner(&self, name: &str, names: &impl Names) -> Result<Owner, AccessError> {
        let found = match &self.kind {
            LookupKind::Org => names.org(name).map(Owner::Org),
            LookupKind::App => names.app(name).map(Owner::App),
            LookupKind::Machine => names.machine(name).map(Owner::App),
            LookupKind::Volume => names.volume(name).map(Owner::App),
            LookupKind::Cluster => names.cluster_org(name).map(Owner::Org),
            LookupKind::Object(kind) => names.object(kind, name),
        };
        known(found, self.noun())
    }

    fn noun(&self) -> Noun {
        match &self.kind {
            LookupKind::Org => Noun::Org,
            LookupKind::App => Noun::App,
            LookupKind::Machine => Noun::Machine,
            LookupKind::Volume => Noun::Volume,
            LookupKind::Cluster => Noun::Cluster,
            LookupKind::Object(kind) => Noun::Object(kind.clone()),
        }
    }
}

/// The ids of an app; `None` is zero.
fn app_or_zero(name: &str, names: &impl Names) -> Result<Option<AppIds>, AccessError> {
    if name.is_empty() {
        return Ok(None);
    }
    known(names.app(name), Noun::App).map(Some)
}

/// The app of a number in the one spelling that it has. 0 stands for collections and is none.
fn app_numbered(text: &str, names: &impl Names) -> Result<AppIds, AccessError> {
    let id = text.parse().ok().filter(|id: &u64| id.to_string() == text);
    let id = id.filter(|id| *id != 0);
    let found = id.map_or(Found::Absent, |id| names.app_numbered(id));
    known(found, Noun::App)
}

fn org_of_slug(slug: &str, names: &impl Names) -> Result<u64, AccessError> {
    if slug == PERSONAL {
        return Err(AccessError::UnknownName(Noun::Org));
    }
    known(names.org(slug), Noun::Org)
}

/// A machine or volume that is known must belong to the app.
fn check_parts(
    access: &Access<'_>,
    under_app: bool,
    names: &impl Names,
) -> Result<(), AccessError> {
    let check = |found: Found<AppIds>, noun| match found {
        Found::Known(ids) if Some(ids.app) != access.app => Err(AccessError::Contradiction(noun)),
        Found::Absent if !under_app => Err(AccessError::UnknownName(noun)),
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

/// Where zero stands for a collection or for something not yet created.
const ZERO_FIELDS: [&str; 4] = ["app", "machine", "volume", "cluster"];

//! What the fields of a schema ask of the bearer.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use smallvec::SmallVec;
use thiserror::Error;

use super::{Root, RootField};
use crate::policy::json::{Json, Pointer};
use crate::policy::names::Names;
use crate::policy::rule::{AccessError, Accesses, Asked, Fields, MAX_ACCESSES};

/// The rules of one schema. A field without a rule is denied.
#[derive(Debug, PartialEq, Eq)]
pub struct GraphQlRules {
    queries: HashMap<Box<str>, FieldRule>,
    mutations: HashMap<Box<str>, FieldRule>,
    /// Names that have a rule below some field. Selected anywhere else they are denied: the way
    /// there may be longer, what is there is the same.
    guarded: HashSet<Box<str>>,
}

/// What a root field asks for, and in addition what fields directly below it do.
#[derive(Debug, PartialEq, Eq)]
struct FieldRule {
    asks: Asks,
    below: HashMap<Box<str>, Asks>,
}

/// What a field asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asks {
    /// Any usable token.
    Authenticated,
    /// A token whose discharge attests a user.
    User,
    /// No token permits it.
    Denied,
    /// A permit for each of these, read from the arguments of the root field.
    Accesses(Accesses),
    /// One of two, as the arguments say.
    If {
        /// A place in the arguments. Absent, null and the empty text are the same there.
        given: Pointer,
        /// Where something stands there.
        then: Box<Self>,
        /// Where nothing does.
        otherwise: Box<Self>,
    },
}

/// One rule, before it has found its place.
#[derive(Debug)]
pub struct NamedRule {
    /// The root type.
    pub root: Root,
    /// Name of the root field.
    pub field: Box<str>,
    /// Name of a field directly below it, if the rule is for that.
    pub below: Option<Box<str>>,
    /// What it asks for.
    pub asks: Asks,
}

/// Why rules do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RulesError {
    /// A second rule for a field.
    #[error("the field has a rule already")]
    Repeated,
    /// A rule below a field that has none.
    #[error("the field before the dot has no rule of its own, so it is denied altogether")]
    NoParent,
}

impl NamedRule {
    /// The same with the mutation in every access.
    fn complete(self) -> Self {
        let asks = match self.root {
            Root::Query => self.asks,
            Root::Mutation => self.asks.of_mutation(&self.field),
        };
        Self { asks, ..self }
    }
}

impl FieldRule {
    fn new(asks: Asks) -> Self {
        let below = HashMap::new();
        Self { asks, below }
    }
}

impl GraphQlRules {
    /// Takes rules in any order.
    ///
    /// # Errors
    /// What is wrong with which rule, each by its place; not empty.
    pub fn new(rules: Vec<NamedRule>) -> Result<Self, Vec<(usize, RulesError)>> {
        let mut made = Self {
            queries: HashMap::new(),
            mutations: HashMap::new(),
            guarded: HashSet::new(),
        };
        let mut errors = Vec::new();
        let rules = rules.into_iter().map(NamedRule::complete).enumerate();
        let (fields, below): (Vec<_>, Vec<_>) = rules.partition(|(_, rule)| rule.below.is_none());
        for (index, rule) in fields {
            match made.of_mut(rule.root).entry(rule.field) {
                Entry::Occupied(_) => errors.push((index, RulesError::Repeated)),
                Entry::Vacant(place) => {
                    place.insert(FieldRule::new(rule.asks));
                }
            }
        }
        for (index, rule) in below {
            let Some(name) = rule.below else { continue };
            made.guarded.insert(name.clone());
            match made.of_mut(rule.root).get_mut(&rule.field) {
                None => errors.push((index, RulesError::NoParent)),
                Some(parent) if parent.below.contains_key(&name) => {
                    errors.push((index, RulesError::Repeated));
                }
                Some(parent) => {
                    parent.below.insert(name, rule.asks);
                }
            }
        }
        if errors.is_empty() {
            Ok(made)
        } else {
            Err(errors)
        }
    }

    /// How many root fields have a rule, of each root type.
    pub fn len(&self, root: Root) -> usize {
        self.of(root).len()
    }

    /// The accesses of a request. Empty where none of its fields asks for one.
    pub(in crate::policy) fn accesses<'a>(
        &'a self,
        fields: &Fields<'a>,
        names: &impl Names,
    ) -> Result<SmallVec<[Asked<'a>; 1]>, AccessError> {
        let roots = fields.roots.filter(|roots| !roots.is_empty());
        let all = self.all(roots.ok_or(AccessError::Nothing)?)?;
        let mut asked = SmallVec::new();
        let mut unnamed = None;
        for (field, asks) in all {
            if asks.needs_user(&field.arguments) {
                let mutation = (field.root == Root::Mutation).then_some(&*field.name);
                asked.push(Asked::of_user(mutation));
            }
            let Some(accesses) = asks.accesses(&field.arguments) else {
                continue;
            };
            let fields = Fields {
                json: Some(&field.arguments),
                ..fields.clone()
            };
            match accesses.of(&fields, names) {
                Ok(more) => asked.extend(more),
                // Whether a name exists is told only where nothing else is wrong.
                Err(
                    error @ (AccessError::UnknownName(_)
                    | AccessError::Contradiction(_)
                    | AccessError::Unresolved(_)),
                ) => {
                    unnamed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
            if asked.len() > MAX_ACCESSES {
                return Err(AccessError::TooMany);
            }
        }
        unnamed.map_or(Ok(asked), Err)
    }

    /// Whether a field asks for a user. One that is denied does not get as far.
    pub(in crate::policy) fn needs_user(&self, fields: &Fields<'_>) -> bool {
        let roots = fields.roots.unwrap_or_default();
        let all = self.all(roots).unwrap_or_default();
        all.iter()
            .any(|(field, asks)| asks.needs_user(&field.arguments))
    }

    /// What each root field asks for, and each field below it that has a rule.
    fn all<'a>(
        &'a self,
        roots: &'a [RootField],
    ) -> Result<Vec<(&'a RootField, &'a Asks)>, AccessError> {
        let mut all = Vec::with_capacity(roots.len());
        for field in roots {
            let rule = self.rule(field);
            let rule = rule.ok_or_else(|| AccessError::NoRule(field.name.clone()))?;
            all.push((field, &rule.asks));
            for name in &field.children {
                match rule.below.get(name) {
                    Some(asks) => all.push((field, asks)),
                    None if self.guarded.contains(name) => {
                        return Err(AccessError::Guarded(name.clone()));
                    }
                    None => {}
                }
            }
            let mut deeper = field.deeper.iter();
            if let Some(name) = deeper.find(|name| self.guarded.contains(&***name)) {
                return Err(AccessError::Guarded(name.clone()));
            }
        }
        let denied = |(field, asks): &&(&RootField, &Asks)| asks.is_denied(&field.arguments);
        match all.iter().find(denied) {
            Some((field, _)) => Err(AccessError::DeniedField(field.name.clone())),
            None => Ok(all),
        }
    }

    fn rule(&self, field: &RootField) -> Option<&FieldRule> {
        // Every type has this field, and its rule stands with the others of introspection.
        let root = match &*field.name {
            "__typename" => Root::Query,
            _ => field.root,
        };
        self.of(root).get(&field.name)
    }

    fn of(&self, root: Root) -> &HashMap<Box<str>, FieldRule> {
        match root {
            Root::Query => &self.queries,
            Root::Mutation => &self.mutations,
        }
    }

    fn of_mut(&mut self, root: Root) -> &mut HashMap<Box<str>, FieldRule> {
        match root {
            Root::Query => &mut self.queries,
            Root::Mutation => &mut self.mutations,
        }
    }
}

impl Asks {
    /// The same with the mutation in every access.
    fn of_mutation(self, name: &str) -> Self {
        match self {
            Self::Accesses(accesses) => Self::Accesses(accesses.of_mutation(name)),
            Self::If {
                given,
                then,
                otherwise,
            } => Self::If {
                given,
                then: Box::new(then.of_mutation(name)),
                otherwise: Box::new(otherwise.of_mutation(name)),
            },
            Self::Authenticated | Self::User | Self::Denied => self,
        }
    }

    /// What is asked with these arguments: never a choice.
    fn settled(&self, arguments: &Json) -> &Self {
        let Self::If {
            given,
            then,
            otherwise,
        } = self
        else {
            return self;
        };
        match arguments.at(given) {
            None | Some(Json::Null) => otherwise.settled(arguments),
            Some(Json::Text(text)) if text.is_empty() => otherwise.settled(arguments),
            Some(
                Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) | Json::Object(_),
            ) => then.settled(arguments),
        }
    }

    fn accesses(&self, arguments: &Json) -> Option<&Accesses> {
        if let Self::Accesses(accesses) = self.settled(arguments) {
            Some(accesses)
        } else {
            None
        }
    }

    fn needs_user(&self, arguments: &Json) -> bool {
        matches!(self.settled(arguments), Self::User)
    }

    fn is_denied(&self, arguments: &Json) -> bool {
        matches!(self.settled(arguments), Self::Denied)
    }
}

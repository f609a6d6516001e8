//! Names in requests, and what a directory says about them.

use std::fmt;

/// Names to ids.
///
/// An answer that takes a question to somebody else is [`Found::Unresolved`]: the policy neither
/// waits nor guesses. Whoever can wait has the directory ask, and decides anew.
pub trait Names {
    /// The id of an organization, by slug or alias.
    fn org(&self, slug: &str) -> Found<u64>;
    /// The ids of an app and of its organization, by name or alias.
    fn app(&self, name: &str) -> Found<AppIds>;
    /// The ids of the app that has this one. Nothing is known by its name here: an app may be
    /// called by the number of another.
    fn app_numbered(&self, id: u64) -> Found<AppIds>;
    /// The app that a machine belongs to.
    fn machine(&self, id: &str) -> Found<AppIds>;
    /// The app that a volume belongs to.
    fn volume(&self, id: &str) -> Found<AppIds>;
    /// The id of the one organization that has a cluster of this name.
    fn cluster_org(&self, cluster: &str) -> Found<u64>;
    /// Who owns an object that caveats do not know: a release, a certificate, an add-on.
    fn object(&self, kind: &str, id: &str) -> Found<Owner>;
}

/// What a directory says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// It stands for this.
    Known(T),
    /// There is no such name.
    Absent,
    /// Nobody has been asked yet, or not for a while.
    Unresolved(Lookup),
}

/// A name that somebody has to be asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// What it names.
    pub kind: LookupKind,
    /// The name, as it stands in the request. It keeps to the alphabet of names and ids.
    pub name: Box<str>,
}

/// What a name that is looked up stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LookupKind {
    /// An organization.
    Org,
    /// An app.
    App,
    /// A machine.
    Machine,
    /// A volume.
    Volume,
    /// A cluster.
    Cluster,
    /// An object of this kind.
    Object(Box<str>),
}

/// The ids of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppIds {
    /// Its own.
    pub app: u64,
    /// That of the organization it belongs to.
    pub org: u64,
}

/// Who owns an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An app, and with it the app's organization.
    App(AppIds),
    /// An organization.
    Org(u64),
}

/// What a name stands for, in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noun {
    /// An organization.
    Org,
    /// An app.
    App,
    /// A machine.
    Machine,
    /// A volume.
    Volume,
    /// A cluster.
    Cluster,
    /// An object of this kind.
    Object(Box<str>),
}

impl<T> Found<T> {
    /// The answer, if there is one.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unresolved(_) => None,
        }
    }

    /// The same with another value in it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Known(value) => Found::Known(change(value)),
            Self::Absent => Found::Absent,
            Self::Unresolved(lookup) => Found::Unresolved(lookup),
        }
    }
}

/// From a directory that knows all there is.
impl<T> From<Option<T>> for Found<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Absent, Self::Known)
    }
}

impl Owner {
    /// The organization, in either case.
    pub fn org(self) -> u64 {
        match self {
            Self::App(ids) => ids.org,
            Self::Org(org) => org,
        }
    }
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Org => "organization",
            Self::App => "app",
            Self::Machine => "machine",
            Self::Volume => "volume",
            Self::Cluster => "cluster",
            Self::Object(kind) => kind,
        })
    }
}

/// An organization slug that means another organization for each user, so no id can stand for it.
pub const PERSONAL: &str = "personal";

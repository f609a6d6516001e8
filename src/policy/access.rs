//! The one action on one object that a request asks for.

use thiserror::Error;

use crate::macaroon::Action;

/// What caveats are cleared against (format chapter 10). Absent differs from empty and from zero:
/// id 0 and the empty string stand for a collection, or for an object that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access<'a> {
    /// What is to be done.
    pub action: Action,
    /// Numeric organization id.
    pub org: Option<u64>,
    /// Numeric app id.
    pub app: Option<u64>,
    /// A feature of the app.
    pub app_feature: Option<&'a str>,
    /// A feature of the organization.
    pub feature: Option<&'a str>,
    /// Volume id.
    pub volume: Option<&'a str>,
    /// Machine id.
    pub machine: Option<&'a str>,
    /// A feature of the machine.
    pub machine_feature: Option<&'a str>,
    /// GraphQL mutation.
    pub mutation: Option<&'a str>,
    /// Machine that the request comes from, as the platform attests.
    pub source_machine: Option<&'a str>,
    /// App that the request comes from, as the platform attests.
    pub source_app: Option<&'a str>,
    /// Organization that the request comes from, as the platform attests.
    pub source_organization: Option<&'a str>,
    /// LiteFS cluster.
    pub cluster: Option<&'a str>,
    /// Storage object.
    pub storage_object: Option<&'a str>,
    /// Words of a command to run on the machine.
    pub command: Option<&'a [String]>,
}

/// An access that describes no possible request; it is denied whatever the caveats say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidAccess {
    /// No organization.
    #[error("the access names no organization")]
    NoOrganization,
    /// App, feature and storage object exclude each other.
    #[error("the access names more than one of app, feature and storage object")]
    TwoObjects,
    /// Machine, volume and app feature are parts of an app.
    #[error("the access names a part of an app, but no app")]
    NoApp,
    /// Machine, volume and app feature exclude each other.
    #[error("the access names more than one of machine, volume and app feature")]
    TwoParts,
    /// A cluster belongs to the feature `litefs-cloud`.
    #[error("the access names a cluster without the feature litefs-cloud")]
    NoClusterFeature,
    /// Commands and machine features are parts of a machine.
    #[error("the access names a command or machine feature, but no machine")]
    NoMachine,
    /// Command and machine feature exclude each other.
    #[error("the access names both a command and a machine feature")]
    TwoMachineParts,
}

impl Access<'_> {
    /// Checks that the fields fit together, in the order of format chapter 10.
    pub fn validate(&self) -> Result<(), InvalidAccess> {
        let count = |present: &[bool]| present.iter().filter(|p| **p).count();
        if self.org.is_none() {
            return Err(InvalidAccess::NoOrganization);
        }
        if count(&[
            self.app.is_some(),
            self.feature.is_some(),
            self.storage_object.is_some(),
        ]) > 1
        {
            return Err(InvalidAccess::TwoObjects);
        }
        let parts = count(&[
            self.machine.is_some(),
            self.volume.is_some(),
            self.app_feature.is_some(),
        ]);
        if parts > 0 && self.app.is_none() {
            return Err(InvalidAccess::NoApp);
        }
        if parts > 1 {
            return Err(InvalidAccess::TwoParts);
        }
        if self.cluster.is_some() && self.feature != Some("litefs-cloud") {
            return Err(InvalidAccess::NoClusterFeature);
        }
        let machine_parts = count(&[self.command.is_some(), self.machine_feature.is_some()]);
        if machine_parts > 0 && self.machine.is_none() {
            return Err(InvalidAccess::NoMachine);
        }
        if machine_parts > 1 {
            return Err(InvalidAccess::TwoMachineParts);
        }
        Ok(())
    }
}

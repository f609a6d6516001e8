//! Names on the command line to the ids that caveats hold, and back.

use std::fmt;

use thiserror::Error;

use super::CliError;
use crate::config::{distance, is_near};
use crate::directory::View;
use crate::policy::{AppIds, Names as _};

/// The id of an organization.
pub(super) fn org(directory: &View<'_>, slug: &str) -> Result<u64, CliError> {
    let known = directory.settle(|directory| directory.org(slug))?;
    let unknown = || UnknownName {
        noun: "organization",
        name: slug.to_owned(),
        near: near(slug, directory.orgs().map(|(slug, _)| slug)),
    };
    Ok(known.ok_or_else(unknown)?)
}

/// The ids of an app.
pub(super) fn app(directory: &View<'_>, name: &str) -> Result<AppIds, CliError> {
    let known = directory.settle(|directory| directory.app(name))?;
    let unknown = || UnknownName {
        noun: "app",
        name: name.to_owned(),
        near: near(name, directory.apps().map(|(name, _)| name)),
    };
    Ok(known.ok_or_else(unknown)?)
}

/// The slug of an organization, else its id.
pub(super) fn org_name(directory: &View<'_>, id: u64) -> String {
    let slug = directory.org_name(id);
    slug.map_or_else(|| id.to_string(), str::to_owned)
}

/// The name of an app, else its id.
pub(super) fn app_name(directory: &View<'_>, id: u64) -> String {
    let name = directory.app_name(id);
    name.map_or_else(|| id.to_string(), str::to_owned)
}

/// A name that the directory does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct UnknownName {
    noun: &'static str,
    name: String,
    near: Vec<String>,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { noun, name, near } = self;
        write!(f, "no {noun} is called {name:?}; ")?;
        match near.as_slice() {
            [] => write!(f, "add it to `directory` in the configuration"),
            near => write!(f, "did you mean {}?", near.join(" or ")),
        }
    }
}

/// Names of which `name` is likely a misspelling, nearest first.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<&str> = known.filter(|known| is_near(name, known)).collect();
    near.sort_unstable_by_key(|known| (distance(name, known), *known));
    near.truncate(MAX_NEAR);
    near.into_iter().map(str::to_owned).collect()
}

/// More than this is no help.
const MAX_NEAR: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_far_ones_are_not() {
        let known = ["acme", "beta", "gamma", "acne"];
        assert_eq!(near("acm", known.into_iter()), ["acme"]);
        assert_eq!(near("acme-x", known.into_iter()), ["acme"]);
        assert_eq!(near("zzz", known.into_iter()), [""; 0]);
        let unknown = |near: &[&str]| UnknownName {
            noun: "app",
            name: "wbe".to_owned(),
            near: near.iter().copied().map(str::to_owned).collect(),
        };
        assert_eq!(
            unknown(&["web", "web2"]).to_string(),
            "no app is called \"wbe\"; did you mean web or web2?"
        );
        assert_eq!(
            unknown(&[]).to_string(),
            "no app is called \"wbe\"; add it to `directory` in the configuration"
        );
    }
}

//! `usher check`.

use std::path::Path;

use super::{CliError, Console};
use crate::config;

pub(super) fn run(path: &Path, console: &mut Console<'_>) -> Result<(), CliError> {
    let (config, warnings) = config::load(path)?;
    for warning in &warnings {
        console.note(warning)?;
    }
    console.say(config::describe(&config).trim_end())
}

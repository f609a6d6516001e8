//! `usher check`.

mod coverage;
mod openapi;

use super::{Answer, Check, CliError, Console};
use crate::config;

use coverage::Coverage;

pub use openapi::DocumentError;

pub(super) fn run(args: &Check, console: &mut Console<'_>) -> Result<Answer, CliError> {
    let (config, warnings) = config::load(&args.config)?;
    for warning in &warnings {
        console.note(warning)?;
    }
    let Some(document) = &args.openapi else {
        console.say(config::describe(&config).trim_end())?;
        return Ok(Answer::Yes);
    };
    let operations = openapi::read(document)?;
    let coverage = Coverage::of(&config, &operations, args.host.as_deref());
    if args.json {
        console.say_json(&coverage.in_json())?;
    } else {
        console.say(coverage.in_words().trim_end())?;
    }
    Ok(if coverage.is_complete() {
        Answer::Yes
    } else {
        Answer::No
    })
}

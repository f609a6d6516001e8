//! Everything a command reads from or writes to besides its files.

use std::fmt;
use std::io::{Read, Write};

use serde_json::Value;

use super::CliError;

/// The surroundings of one command, given so that tests can give others.
pub struct Console<'a> {
    /// Standard input.
    pub stdin: &'a mut dyn Read,
    /// Standard output: what was asked for, and nothing else.
    pub stdout: &'a mut dyn Write,
    /// Standard error: remarks for people.
    pub stderr: &'a mut dyn Write,
    /// Whether a person reads standard error.
    pub attended: bool,
    /// Environment variables.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Unix seconds.
    pub now: i64,
}

impl Console<'_> {
    /// One line of what was asked for.
    pub fn say(&mut self, line: impl fmt::Display) -> Result<(), CliError> {
        Ok(writeln!(self.stdout, "{line}")?)
    }

    /// The same as JSON.
    pub fn say_json(&mut self, value: &Value) -> Result<(), CliError> {
        self.say(format_args!("{value:#}"))
    }

    /// One line that a person should read even though it was not asked for.
    pub fn note(&mut self, line: impl fmt::Display) -> Result<(), CliError> {
        Ok(writeln!(self.stderr, "{line}")?)
    }
}

impl fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("attended", &self.attended)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

//! `usher key`.

use super::text::{moment, table};
use super::{CliError, Console};
use crate::authority::{Authority, KeyId};

pub(super) fn list(authority: &Authority, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut rows = vec![["KEY", "STATE", "CREATED"].map(str::to_owned)];
    for key in authority.keys()? {
        rows.push([
            KeyId::of(&key.id).to_string(),
            key.state.name().to_owned(),
            moment(key.created_at).to_string(),
        ]);
    }
    console.say(table(&rows).trim_end())
}

pub(super) fn rotate(authority: &Authority, console: &mut Console<'_>) -> Result<(), CliError> {
    let id = authority.rotate(console.now)?;
    console.say(format_args!(
        "{id} signs new tokens from now on; tokens signed with an earlier key stay valid"
    ))
}

//! Why a command fails.

use thiserror::Error;
use uuid::Uuid;

use super::{ConnectError, DocumentError, UnknownName};
use crate::authority::AuthorityError;
use crate::config::ConfigError;
use crate::demo::DemoError;
use crate::directory::{DirectoryError, Orphans, Unanswered};
use crate::macaroon::{AttenuateError, Defect, HeaderError, JsonError};
use crate::proxy::StartError;

/// Why a command could not do what was asked. No message holds any part of a token.
#[derive(Debug, Error)]
pub enum CliError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store or its keys.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Arguments that do not go together.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// A document that leaves names without their owner.
    #[error(transparent)]
    Orphans(#[from] Orphans),
    /// Two imports at once.
    #[error("another import was faster, and nothing was changed; run the command again")]
    NamesChanged,
    /// The directory cannot be asked at all.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory was asked, and has not answered.
    #[error("the directory does not answer: {0}")]
    Unanswered(#[from] Unanswered),
    /// A name that the directory does not have.
    #[error(transparent)]
    Name(#[from] UnknownName),
    /// The OpenAPI document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Nowhere to write to.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    /// A file or standard input.
    #[error("cannot read {what}: {cause}")]
    Input {
        /// What was to be read.
        what: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A tunnel.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No token anywhere.
    #[error(
        "no token given: use --token T, or --token - for standard input, or set USHER_TOKEN or FLY_API_TOKEN"
    )]
    NoToken,
    /// The header as a whole.
    #[error("{0}; `usher token inspect` says more")]
    Header(HeaderError),
    /// One token of the header.
    #[error("{0}; `usher token inspect` says more")]
    Defect(Defect),
    /// Only discharges, or nothing.
    #[error("there is no permission token here; `usher token inspect` shows what is")]
    NoPermissionToken,
    /// The caveats to add.
    #[error("{file}: {cause}")]
    Caveats {
        /// Where they were read from.
        file: String,
        /// Why.
        cause: JsonError,
    },
    /// The caveats cannot be added.
    #[error("token {uuid}: {cause}")]
    Attenuate {
        /// Which token.
        uuid: Uuid,
        /// Why.
        cause: AttenuateError,
    },
    /// Not base64.
    #[error("this is no ticket: {hint}")]
    Ticket {
        /// What to do.
        hint: &'static str,
    },
    /// Something else than a signing key.
    #[error("{0} does not hold a key of 32 bytes in base64")]
    NotAKey(String),
    /// The proxy cannot start, or stopped by itself.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No handler for signals.
    #[error("signals cannot be waited for")]
    Signals(#[source] std::io::Error),
    /// The demo.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// Something else than what can be revoked.
    #[error(
        "neither a UUID nor a token; `usher token list` has the UUIDs, `usher token inspect` shows a token's"
    )]
    NotRevocable,
    /// A token that this authority did not sign.
    #[error(
        "token {uuid} cannot be revoked by itself: {why}; to revoke its whole lineage, name the UUID"
    )]
    NotOurs {
        /// Which token.
        uuid: Uuid,
        /// Why.
        why: String,
    },
}

//! Names that another server knows: looked up over HTTP, and kept for a short time.
//!
//! Whoever decides about a request neither waits nor asks: it finds an answer here, or is told
//! what has to be asked first. The asking is done by one thread of its own, since the workers
//! share no tasks: each name is asked for once at a time, however many requests wait for it.
//!
//! **Invariant**: an answer is used for no longer than the configured time after its question was
//! sent, and what is not an answer is never taken for one.

mod asker;
mod plan;
mod server;
mod turns;

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use self::asker::Asker;
use super::DirectoryError;
use crate::config::HttpDirectory;
use crate::metrics::Metrics;
use crate::policy::{Found, Lookup, LookupKind, Owner};
use crate::route::Alphabet;

/// The look-ups of one configuration.
pub(super) struct Lookups {
    /// Kinds that are asked for.
    kinds: Vec<LookupKind>,
    answers: Answers,
    /// Closed when this is dropped, which ends the thread.
    questions: Option<mpsc::Sender<Question>>,
    thread: Option<JoinHandle<()>>,
}

/// A name that somebody waits for.
struct Question {
    lookup: Lookup,
    /// The token that it is for, if it is for one.
    token: Option<Uuid>,
    answered: Answered,
}

/// Where somebody waits.
type Answered = oneshot::Sender<Result<(), Unanswered>>;

/// What is known for now.
type Answers = Cache<Lookup, Answer>;

#[derive(Clone, Copy, Debug)]
struct Answer {
    /// `None` if there is no such name.
    owner: Option<Owner>,
    /// From when it is put into the cache.
    lives: Duration,
}

/// Why a name could not be looked up. The request that needs it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unanswered {
    /// Too many names are waited for.
    #[error("too many names are being looked up")]
    Busy,
    /// The token waits for as many names as one may.
    #[error("the token has too many names looked up at once")]
    TooMany,
    /// `directory.http.deadline` has passed.
    #[error("the answer did not come in time")]
    Late,
    /// No connection, or no TLS.
    #[error("the server cannot be reached")]
    Connect,
    /// The connection ended, or what came is not HTTP.
    #[error("the server broke off")]
    Broken,
    /// Neither 200 nor 404.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// Longer than any answer is.
    #[error("the answer is too long")]
    TooLong,
    /// Not JSON that everybody reads alike.
    #[error("the answer is not unambiguous JSON")]
    NotJson,
    /// The ids are not where they should be.
    #[error("the answer has no ids where the configuration says")]
    NoIds,
    /// The name is not where it should be.
    #[error("the answer is about another name")]
    OtherName,
    /// Nobody asks any more, or nobody is configured to.
    #[error("nobody is there to ask")]
    Stopped,
}

impl Lookups {
    /// Reads what the configuration names, and starts the thread.
    pub(super) fn start(
        config: &HttpDirectory,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, DirectoryError> {
        let answers = Cache::builder()
            .max_capacity(MAX_ANSWERS)
            // A new answer is waited for, so it always gets in; the default policy would turn it
            // away from a full cache.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Lifetimes)
            .build();
        let asker = Asker::new(config, answers.clone(), Arc::clone(metrics))?;
        let (questions, asked) = mpsc::channel(MAX_WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // They resolve host names, which cannot be cut short.
            .max_blocking_threads(config.concurrency)
            .build()
            .map_err(DirectoryError::Thread)?;
        let run = move || {
            runtime.block_on(asker.run(asked));
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new()
            .name("usher-directory".to_owned())
            .spawn(run)
            .map_err(DirectoryError::Thread)?;
        Ok(Self {
            kinds: config.kinds.iter().map(|(kind, _)| kind.clone()).collect(),
            answers,
            questions: Some(questions),
            thread: Some(thread),
        })
    }

    /// What is known about a name now. Names that no URL could hold unchanged are not asked for.
    pub(super) fn find(&self, kind: LookupKind, name: &str) -> Found<Owner> {
        if !self.kinds.contains(&kind) || !Alphabet::Id.accepts(name) {
            return Found::Absent;
        }
        let name = name.into();
        let lookup = Lookup { kind, name };
        match self.answers.get(&lookup) {
            Some(answer) => answer.owner.into(),
            None => Found::Unresolved(lookup),
        }
    }

    /// Waits until the name can be [found](Self::find), in the turn of a token.
    pub(super) async fn resolve(
        &self,
        lookup: &Lookup,
        token: Option<Uuid>,
    ) -> Result<(), Unanswered> {
        let answer = self.ask(lookup, token)?;
        answer.await.unwrap_or(Err(Unanswered::Stopped))
    }

    /// The same where nothing else is to be done meanwhile.
    pub(super) fn resolve_blocking(&self, lookup: &Lookup) -> Result<(), Unanswered> {
        let answer = self.ask(lookup, None)?;
        answer.blocking_recv().unwrap_or(Err(Unanswered::Stopped))
    }

    fn ask(
        &self,
        lookup: &Lookup,
        token: Option<Uuid>,
    ) -> Result<oneshot::Receiver<Result<(), Unanswered>>, Unanswered> {
        let (answered, answer) = oneshot::channel();
        let question = Question {
            lookup: lookup.clone(),
            token,
            answered,
        };
        let questions = self.questions.as_ref().ok_or(Unanswered::Stopped)?;
        questions.try_send(question).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Stopped,
        })?;
        Ok(answer)
    }
}

impl Drop for Lookups {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of the directory had failed");
        }
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups")
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

impl Unanswered {
    /// A word for it, in metrics.
    fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::TooMany => "too-many",
            Self::Late => "late",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Status(_) => "status",
            Self::TooLong => "too-long",
            Self::NotJson => "not-json",
            Self::NoIds => "no-ids",
            Self::OtherName => "other-name",
            Self::Stopped => "stopped",
        }
    }
}

/// Each answer says how long it lives.
struct Lifetimes;

impl Expiry<Lookup, Answer> for Lifetimes {
    fn expire_after_create(&self, _: &Lookup, answer: &Answer, _: Instant) -> Option<Duration> {
        Some(answer.lives)
    }

    fn expire_after_update(
        &self,
        _: &Lookup,
        answer: &Answer,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(answer.lives)
    }
}

/// Answers kept. A few hundred bytes each, so a few tens of megabytes at most.
const MAX_ANSWERS: u64 = 65_536;

/// Questions that wait to be read, and names that are asked for at a time. Far more than can be
/// asked before the deadline of the last, far less than there can be requests.
const MAX_WAITING: usize = 1024;

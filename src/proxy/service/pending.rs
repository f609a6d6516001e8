//! Decisions that have to wait: for the body that they are about, or for the directory.

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderValue, Request};
use tokio::time::{Instant, timeout};

use super::super::body::{RequestBody, Unreceived};
use super::super::budget::{Full, Share};
use super::super::decision::DecisionId;
use super::super::forward::ForwardError;
use super::super::headers::Sieve;
use super::super::record::Record;
use super::super::respond::Answer;
use super::super::worker::Worker;
use super::{Judged, judge};
use crate::authz::{Basic, Denial, Need, Permit, Waiting};
use crate::policy::Body;

/// What was read of a request beyond its head and is kept for as long as it is judged.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) basic: Option<Basic>,
    judged: Option<Judgeable>,
}

/// A body that has been read.
#[derive(Debug)]
struct Judgeable {
    body: Body,
    /// What `body` is held under.
    share: Share,
    /// The same as it came, with a share of its own.
    bytes: Bytes,
}

/// A request whose decision waits.
pub(super) struct Pending<'a> {
    pub(super) worker: &'a Worker,
    pub(super) request: &'a mut Request<RequestBody>,
    pub(super) held: &'a mut Held,
    pub(super) sieve: &'a mut Sieve,
    pub(super) id: &'a DecisionId,
    pub(super) begun: Instant,
}

impl Held {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            basic: Basic::read(headers),
            ..Self::default()
        }
    }

    pub(super) fn body(&self) -> Option<&Body> {
        self.judged.as_ref().map(|judged| &judged.body)
    }

    /// Puts the judged body into the request that is forwarded: its own bytes, or those that it
    /// was rewritten to.
    pub(super) fn hand_over(&mut self, request: &mut Request<RequestBody>) {
        let Some(Judgeable { body, share, bytes }) = self.judged.take() else {
            return;
        };
        let bytes = match body.into_rewritten() {
            // It was weighed with the rest of what was read, which is no more.
            Some(rewritten) => share.of(rewritten),
            None => bytes,
        };
        let headers = request.headers_mut();
        // It is framed anew, and whole: there is nothing to be told to go on with.
        headers.remove(header::EXPECT);
        if !bytes.is_empty() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        }
        request.body_mut().replace(bytes);
    }
}

impl Pending<'_> {
    /// Waits for what the decision lacks, and asks again, until there is one.
    pub(super) async fn decide(&mut self, first: Waiting) -> Result<Permit, Answer> {
        let mut waiting = first;
        for _ in 0..MAX_NEEDS {
            if let Err(answer) = self.provide(&waiting).await {
                return Err(self.refuse(&waiting, answer));
            }
            let request = &*self.request;
            match judge(
                self.worker,
                request,
                self.held,
                self.sieve,
                self.id,
                self.begun,
            ) {
                Judged::Decided(verdict) => return verdict,
                Judged::Waiting(more) => waiting = more,
            }
        }
        let endless = Answer::from(Denial::Unavailable("the directory changes too fast"));
        Err(self.refuse(&waiting, endless))
    }

    async fn provide(&mut self, waiting: &Waiting) -> Result<(), Answer> {
        match &waiting.need {
            Need::Body { route, limit } => {
                let budget = &self.worker.judged;
                let mut share = budget.share();
                let receive = self.request.body_mut().receive(*limit, &mut share);
                let received = timeout(self.worker.timeouts.judged_body, receive).await;
                let bytes = match received {
                    Ok(Ok(bytes)) => bytes,
                    Ok(Err(Unreceived::TooLarge)) => return Err(Denial::LargeBody(*limit).into()),
                    Ok(Err(Unreceived::Full)) => return Err(Answer::from(Full)),
                    Ok(Err(Unreceived::Broken)) => {
                        return Err(Answer::from(&ForwardError::BodyBroken));
                    }
                    Err(_elapsed) => return Err(Answer::from(&ForwardError::BodyLate)),
                };
                let headers = self.request.headers();
                let body = self.worker.decider.read_body(*route, headers, &bytes)?;
                let bytes = share.of(bytes);
                let mut share = budget.share();
                share.resize(body.weight())?;
                self.held.judged = Some(Judgeable { body, share, bytes });
                Ok(())
            }
            Need::Name(lookup) => {
                let resolving = self.worker.decider.resolve(lookup, waiting.token);
                Ok(resolving.await?)
            }
        }
    }

    fn refuse(&self, waiting: &Waiting, answer: Answer) -> Answer {
        let method = self.request.method();
        let record = Record::stopped(method, self.id, waiting.route, waiting.token);
        record.write(self.worker, Err(answer.code), self.begun);
        answer
    }
}

/// What one decision may wait for: its body, and the names that it is about.
const MAX_NEEDS: usize = 32;

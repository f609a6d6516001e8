//! The thread that asks: one look-up for a name at a time, so many at once, each in its time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use super::plan::Plan;
use super::turns::{Place, Turns};
use super::{Answer, Answers, Question, Unanswered};
use crate::config::HttpDirectory;
use crate::directory::DirectoryError;
use crate::metrics::Metrics;
use crate::policy::{Lookup, LookupKind, Owner};

/// Asks, and keeps the answers.
pub(super) struct Asker {
    plans: Vec<(LookupKind, Plan)>,
    answers: Answers,
    ttl: Duration,
    deadline: Duration,
    at_once: usize,
    metrics: Arc<Metrics>,
    /// The last look-up failed; it is told once, not for every request.
    failing: AtomicBool,
}

impl Asker {
    pub(super) fn new(
        config: &HttpDirectory,
        answers: Answers,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DirectoryError> {
        Ok(Self {
            plans: Plan::all(config)?,
            answers,
            ttl: config.ttl,
            deadline: config.deadline,
            at_once: config.concurrency,
            metrics,
            failing: AtomicBool::new(false),
        })
    }

    /// Answers questions until nobody can ask any more.
    pub(super) async fn run(self, mut questions: mpsc::Receiver<Question>) {
        let asker = Arc::new(self);
        let mut turns = Turns::new(asker.at_once);
        let mut asked: JoinSet<Result<(), Unanswered>> = JoinSet::new();
        let mut names: HashMap<Id, Lookup> = HashMap::new();
        loop {
            tokio::select! {
                question = questions.recv() => {
                    let Some(question) = question else { return };
                    asker.begin(question, &mut turns, &mut asked, &mut names);
                }
                Some(ended) = asked.join_next_with_id(), if !asked.is_empty() => {
                    let (id, outcome) = match ended {
                        Ok(ended) => ended,
                        // It panicked; those who wait are not to wait for ever.
                        Err(error) => (error.id(), Err(Unanswered::Stopped)),
                    };
                    let name = names.remove(&id);
                    let waiters = name.map(|name| turns.leave(&name));
                    for waiter in waiters.into_iter().flatten() {
                        // Whoever has gone needs no answer.
                        let _gone = waiter.send(outcome).is_err();
                    }
                }
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        question: Question,
        turns: &mut Turns,
        asked: &mut JoinSet<Result<(), Unanswered>>,
        names: &mut HashMap<Id, Lookup>,
    ) {
        let Question {
            lookup,
            token,
            answered,
        } = question;
        // The question may have been on its way while another got the answer.
        if !turns.has(&lookup) && self.answers.contains_key(&lookup) {
            let _gone = answered.send(Ok(())).is_err();
            return;
        }
        match turns.enter(&lookup, token, answered) {
            Place::Joined => {}
            Place::New(turn) => {
                let (asker, name) = (Arc::clone(self), lookup.clone());
                let task = asked.spawn(async move { asker.look_up(&name, turn).await });
                names.insert(task.id(), lookup);
            }
            Place::Refused(answered, why) => {
                self.metrics.looked_up(why.label(), None);
                let _gone = answered.send(Err(why)).is_err();
            }
        }
    }

    async fn look_up(
        &self,
        lookup: &Lookup,
        turn: oneshot::Receiver<()>,
    ) -> Result<(), Unanswered> {
        let began = Instant::now();
        let outcome = timeout(self.deadline, self.ask(lookup, turn)).await;
        let outcome = outcome.unwrap_or(Err(Unanswered::Late));
        let label = match &outcome {
            Ok((Some(_), _)) => "found",
            Ok((None, _)) => "absent",
            Err(why) => why.label(),
        };
        self.metrics.looked_up(label, Some(began.elapsed()));
        self.tell(lookup, outcome.as_ref().err());
        let (owner, sent) = outcome?;
        let lives = match owner {
            // The owner may change from the moment at which the server looks, and that may be as
            // soon as it is asked.
            Some(_) => jittered(self.ttl).saturating_sub(sent.elapsed()),
            None => ABSENT_TTL,
        };
        let answer = Answer { owner, lives };
        self.answers.insert(lookup.clone(), answer);
        Ok(())
    }

    /// Who owns it, if it exists, and when that was asked.
    async fn ask(
        &self,
        lookup: &Lookup,
        turn: oneshot::Receiver<()>,
    ) -> Result<(Option<Owner>, Instant), Unanswered> {
        let plan = self.plans.iter().find(|(kind, _)| *kind == lookup.kind);
        let (_, plan) = plan.ok_or(Unanswered::Stopped)?;
        turn.await.map_err(|_| Unanswered::Stopped)?;
        let sent = Instant::now();
        let owner = plan.ask(&lookup.name).await?;
        Ok((owner, sent))
    }

    fn tell(&self, lookup: &Lookup, error: Option<&Unanswered>) {
        let before = self.failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !before => {
                tracing::error!(kind = ?lookup.kind, %error, "the directory does not answer");
            }
            Some(error) => {
                tracing::debug!(kind = ?lookup.kind, %error, "the directory does not answer");
            }
            None if before => tracing::info!("the directory answers again"),
            None => {}
        }
    }
}

/// Between four fifths and all of it, so that what was asked together is not asked again
/// together.
fn jittered(ttl: Duration) -> Duration {
    // Without randomness it is the shortest.
    let part = getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX));
    ttl.mul_f64(0.2f64.mul_add(part, 0.8)).min(ttl)
}

/// How long a name that is not there is known not to be. Clients ask for an app right after they
/// have made it.
const ABSENT_TTL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lives_for_four_fifths_of_its_time_at_least_and_never_longer() {
        let ttl = Duration::from_secs(10);
        let lives: Vec<_> = (0..1000).map(|_| jittered(ttl)).collect();
        let (least, most) = (lives.iter().min().unwrap(), lives.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(8), "{least:?}");
        assert!(*most <= ttl, "{most:?}");
        assert!(
            *most - *least > Duration::from_secs(1),
            "{least:?} {most:?}"
        );
    }
}

//! Owns going through the steps of a move: write down, do, go on; and what a failure comes to.
use std::time::Instant;

use federation::migration::{AfterFailure, Step, after_failure, following, following_direct, following_in_recovery};

use super::Move;
use crate::audit::Line;
use crate::failure::{Failure, FailureKind};
use crate::guest::Guest;
use crate::journal::{Journal, Place};

impl Move<'_> {
    /// Goes forward from the written step to the end.
    pub(crate) async fn run(&mut self) -> Result<Guest, Failure> {
        loop {
            let step = self.journal.step;
            tracing::info!(
                operation = %self.journal.op, machine = %self.journal.name, ?step,
                from = %self.source.name, to = %self.target.name, "move"
            );
            let began = Instant::now();
            self.bytes = None;
            let done = self.perform(step).await;
            self.audit(step, began, done.as_ref().err())?;
            let next = match done {
                Ok(()) if self.is_recovery() => following_in_recovery(step),
                Ok(()) if self.is_direct() => following_direct(step, self.is_online()),
                Ok(()) => following(step),
                Err(failure) => match self.turn(&failure) {
                    None => return Err(self.failed(failure).await),
                    turned => turned,
                },
            };
            let Some(next) = next else { break };
            if self.fleet.is_stopping() {
                let mut failure = Failure::new(&self.what).at(format!("stopped by the user before the step {next:?}"));
                failure.kind = FailureKind::Interrupted;
                return Err(failure.state(self.journal.in_words()).next("apply again to go on"));
            }
            if let Err(failure) = self.advance(next).await {
                return Err(self.failed(failure).await);
            }
        }
        let (site, at) = if self.journal.is_returned() {
            (&self.source, self.from())
        } else {
            (&self.target, self.journal.to.clone())
        };
        site.guest_now(&at.node, at.vmid).await.map_err(|error| {
            Failure::new(&self.what).at(at.to_string()).said(error).state("the move is done").next("plan again")
        })
    }

    /// Waits for the path's place: as many moves at once as it declares.
    pub(super) async fn take_path(&mut self) {
        let name = format!("path {} {}", self.source.name, self.target.name);
        self.path_slot = self.fleet.slot(name, self.path.max_concurrent).await;
    }

    /// Writes a step's line of the audit trail. A trail that takes nothing any more stops the move at a step boundary.
    fn audit(&self, step: Step, began: Instant, failure: Option<&Failure>) -> Result<(), Failure> {
        let outcome = failure.map_or_else(|| "done".to_owned(), |failure| format!("failed: {failure}"));
        let line = Line {
            at: crate::guest::rfc3339(self.source.now()),
            operation: &self.journal.op,
            machine: &self.journal.name,
            uuid: &self.journal.uuid,
            step: step.as_str(),
            outcome: &outcome,
            seconds: began.elapsed().as_secs_f64(),
            bytes: self.bytes,
            predicted_downtime: self.predicted.filter(|_| step == Step::Taken),
            downtime: self.downtime.filter(|_| step == Step::Start),
        };
        self.fleet.audit().write(&self.journal, &line).map_err(|error| {
            let mut failure = Failure::new(&self.what).at("the audit trail can't be written").said(error);
            failure.kind = FailureKind::Interrupted;
            failure.state(self.journal.in_words()).next("mend `audit_file`, and apply again to go on")
        })
    }

    /// Writes the next step, before its calls; but not the last one of either ending, which removes what is written. "Live" and
    /// "returned", which say where the machine is, are written on both clusters, the source's first: whoever finds them on either
    /// side goes by them.
    async fn advance(&mut self, next: Step) -> Result<(), Failure> {
        if matches!(next, Step::Release | Step::Close) {
            self.journal.step = next;
            return Ok(());
        }
        let before = self.journal.clone();
        self.journal.step = next;
        self.journal.upid = None;
        let written = self.write().await;
        if written.is_err() && matches!(next, Step::Live | Step::Returned) && !self.may_stand(next).await {
            // Not written for sure: the machine is where it was.
            self.journal = before;
        }
        written
    }

    /// Whether a step may stand on the source although writing it failed: it does, or nobody can tell.
    async fn may_stand(&self, step: Step) -> bool {
        match self.source.client.pool(&self.pool).await {
            Ok(Some(pool)) => {
                pool.comment.and_then(|comment| Journal::read(&comment)).is_none_or(|found| found.step >= step)
            }
            Ok(None) | Err(_) => true,
        }
    }

    /// Writes the journal on the source, unless somebody else has taken the operation over: a holder that slept through its
    /// lease goes no further.
    pub(crate) async fn write(&mut self) -> Result<(), Failure> {
        let there = self.source.client.pool(&self.pool).await;
        let there = there.map_err(|error| self.at(&self.keeper(), "the journal can't be read", error))?;
        let found = there.and_then(|pool| Journal::read(&pool.comment?));
        if found.as_ref().is_none_or(|found| found.op != self.journal.op || found.epoch > self.journal.epoch) {
            let by = found.map_or_else(|| "nobody any more".to_owned(), |found| found.holder.run.clone());
            let mut failure = Failure::new(&self.what).at(format!("operation {} is held by {by}", self.journal.op));
            failure.kind = FailureKind::Interrupted;
            return Err(failure.state("it was taken over from this run, which goes no further").next("plan again"));
        }
        self.fleet.note(&self.source, &self.pool, &mut self.journal, &self.what).await
    }

    /// What a failure comes to: before "live" everything is taken back; past it, or where the user stopped it, it stays.
    async fn failed(&mut self, failure: Failure) -> Failure {
        let interrupted = failure.kind == FailureKind::Interrupted;
        if after_failure(self.journal.step, interrupted) == AfterFailure::Stay {
            if interrupted {
                return failure;
            }
            let (from, to) = (self.from(), &self.journal.to);
            let state = if self.is_recovery() {
                format!("{to} is the machine; the recovery is not closed")
            } else if self.journal.is_returned() {
                format!("{from} is the machine again; {to} is fenced and kept")
            } else {
                let fenced = if self.is_direct() { "locked" } else { "fenced" };
                format!(
                    "the move went past \"live\": {to} is the machine; the source ({from}) is {fenced} and is not started again"
                )
            };
            let failure = failure.state(state);
            return if failure.next.is_empty() { failure.next("mend that, and apply again to go on") } else { failure };
        }
        tracing::warn!(operation = %self.journal.op, what = %failure.what, detail = %failure.detail(), "taking the move back");
        let began = Instant::now();
        if self.is_recovery() {
            let back = self.take_recovery_back().await;
            let _ = self.audit_back(began, back.as_ref().err());
            return self.recovery_failed(failure, back);
        }
        let back = self.take_back().await;
        // Taking back is worth more than its line in the trail.
        let _ = self.audit_back(began, back.as_ref().err());
        match back {
            Ok(guest) => {
                let runs = if guest.running { "runs" } else { "is stopped" };
                let left: Vec<String> = self.warnings.drain(..).map(|left| left.to_string()).collect();
                let left = if left.is_empty() { String::new() } else { format!(". {}", left.join("; ")) };
                failure.state(format!("the move was taken back: {} {runs} as before{left}", guest.place))
            }
            Err(undo) => failure
                .state(format!("it could not be taken back yet: {} ({})", undo.detail(), self.journal.in_words()))
                .next("mend that, and apply again: it is taken back or finished first"),
        }
    }

    fn audit_back(&self, began: Instant, failure: Option<&Failure>) -> Result<(), Failure> {
        self.audit(self.journal.step, began, failure.or(Some(&Failure::new("taken back"))))
    }

    pub(crate) fn from(&self) -> Place {
        // A move has a source; a journal without one is refused where it is read.
        self.journal.from.clone().unwrap_or_else(|| self.journal.to.clone())
    }
}

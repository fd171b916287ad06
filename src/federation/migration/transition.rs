//! What comes next: a pure function of the journal and of what was seen.
//!
//! ```text
//!            failed            failed             failed
//!  preflight ──► … ──► boot-isolated ──► live ──► … ──► health-check ──► … ──► give-operation-back
//!      ▲   taken back    │                │ kept going, never back        │ unhealthy
//!      └──── undo ◄──────┘                                               └─► stop here, or return-to-source
//! ```

use super::journal::{Direction, Journal, JournalError, Outcome};
use super::step::{STEPS, Step};

/// What was seen of the step in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// It is done (forward), or taken back (backward), and recognised as such on the clusters.
    Done,
    /// It was begun, or not even that; nothing speaks against doing it (again).
    NotDone,
    /// It failed for good.
    Failed {
        /// Why, in words.
        why: String,
    },
    /// Somebody started the source although it was shut down: it has the newest data again.
    SourceStarted,
    /// Something that is not ours is where we would delete.
    Foreign {
        /// Its name.
        what: String,
    },
    /// The other side's journal says "live" and this one does not yet.
    LiveElsewhere,
    /// Another process holds the operation.
    Held {
        /// Who, and until when, in words.
        by: String,
    },
}

/// What to do when the target is unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnhealthy {
    /// Keep both copies and stop for a person to look.
    #[default]
    Keep,
    /// Stop, fence and keep the target, then start the source.
    Return,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the step into the journal, then do it.
    Do(Step),
    /// Write step and direction into the journal, then take the step back.
    Undo(Step),
    /// Nothing: it is over.
    Done(Outcome),
    /// Nothing, and say why. The journal stays, and the next apply asks again.
    Refuse(String),
}

/// What follows from `seen` for an operation at `journal`.
///
/// Guarantees: no [`Action::Undo`] ever once "live" is recorded; undoing goes strictly backward and doing strictly forward;
/// the same arguments give the same action, so that a log can be replayed.
pub fn next(journal: &Journal, seen: &Observation, on_unhealthy: OnUnhealthy) -> Action {
    let step = journal.step;
    match seen {
        Observation::Held { by } => return Action::Refuse(format!("another process carries this move out: {by}")),
        Observation::LiveElsewhere if !journal.is_live() => return Action::Do(Step::RecordLive),
        _ => {}
    }
    match (journal.direction, journal.is_live()) {
        (Direction::Back, true) => Action::Refuse(format!("the journal goes back at {step}, after \"live\"")),
        (Direction::Back, false) => backward(journal, seen),
        (Direction::Forward, false) => before_live(journal, seen),
        (Direction::Forward, true) => from_live(journal, seen, on_unhealthy),
    }
}

fn before_live(journal: &Journal, seen: &Observation) -> Action {
    let step = journal.step;
    match seen {
        Observation::Done => following(journal).map_or(Action::Done(Outcome::Moved), Action::Do),
        Observation::NotDone | Observation::LiveElsewhere => Action::Do(step),
        Observation::Foreign { what } => {
            Action::Refuse(format!("{what} is not ours; remove or rename it, then apply again"))
        }
        Observation::Failed { .. } | Observation::SourceStarted => take_back_from(journal, step),
        Observation::Held { by } => Action::Refuse(by.clone()),
    }
}

fn from_live(journal: &Journal, seen: &Observation, on_unhealthy: OnUnhealthy) -> Action {
    let step = journal.step;
    match seen {
        Observation::Done if step == Step::GiveOperationBack => Action::Done(outcome(journal)),
        Observation::Done => following(journal).map_or(Action::Done(Outcome::Moved), Action::Do),
        Observation::NotDone | Observation::LiveElsewhere => Action::Do(step),
        Observation::Failed { .. } if step == Step::HealthCheck && on_unhealthy == OnUnhealthy::Return => {
            Action::Do(Step::ReturnToSource)
        }
        Observation::Failed { why } if step == Step::HealthCheck => Action::Refuse(format!(
            "the target does not pass its health check: {why}; both copies are kept, the target may hold newer data"
        )),
        Observation::Failed { why } => {
            Action::Refuse(format!("{step} failed after the target went live: {why}; apply again to go on"))
        }
        Observation::SourceStarted => Action::Refuse(
            "the source was started although the target is live; stop it, then apply again to go on".to_owned(),
        ),
        Observation::Foreign { what } => Action::Refuse(format!("{what} is not ours and stops {step}")),
        Observation::Held { by } => Action::Refuse(by.clone()),
    }
}

fn backward(journal: &Journal, seen: &Observation) -> Action {
    let step = journal.step;
    match seen {
        Observation::Done => match preceding(journal) {
            Some(before) => take_back_from(journal, before),
            None => Action::Done(Outcome::TakenBack),
        },
        Observation::NotDone | Observation::SourceStarted | Observation::LiveElsewhere => take_back_from(journal, step),
        Observation::Failed { why } => {
            Action::Refuse(format!("{step} could not be taken back: {why}; apply again to try once more"))
        }
        Observation::Foreign { what } => Action::Refuse(format!(
            "{what} is not ours and would be freed by taking {step} back; detach or remove it, then apply again"
        )),
        Observation::Held { by } => Action::Refuse(by.clone()),
    }
}

/// Undoes `step`, or the nearest one before it that has something to undo.
fn take_back_from(journal: &Journal, step: Step) -> Action {
    let mut at = Some(step);
    while let Some(step) = at {
        if step.info().undoes.is_some() {
            return Action::Undo(step);
        }
        at = planned(journal).rev().find(|other| *other < step);
    }
    Action::Done(Outcome::TakenBack)
}

/// The steps of this operation, in order.
fn planned(journal: &Journal) -> impl DoubleEndedIterator<Item = Step> {
    let returning = journal.step == Step::ReturnToSource || journal.optional.contains(&Step::ReturnToSource);
    STEPS.iter().filter(move |info| part_of(journal, info.step, info.optional, returning)).map(|info| info.step)
}

fn part_of(journal: &Journal, step: Step, optional: bool, returning: bool) -> bool {
    match step {
        Step::ReturnToSource => returning,
        // After a return the source is the VM: it is neither retired nor is the target settled.
        Step::RetireSource | Step::SettleTarget | Step::Commit => !returning,
        _ => !optional || journal.optional.contains(&step),
    }
}

fn following(journal: &Journal) -> Option<Step> {
    planned(journal).find(|step| *step > journal.step)
}

fn preceding(journal: &Journal) -> Option<Step> {
    planned(journal).rev().find(|step| *step < journal.step)
}

fn outcome(journal: &Journal) -> Outcome {
    match journal.optional.contains(&Step::ReturnToSource) {
        true => Outcome::Returned,
        false => Outcome::Moved,
    }
}

impl Journal {
    /// The journal to write before carrying `action` out; unchanged for [`Action::Done`] and [`Action::Refuse`].
    ///
    /// # Errors
    /// [`JournalError::Impossible`] for an undo after "live", or a step that goes the wrong way.
    pub fn at_action(&self, action: &Action) -> Result<Journal, JournalError> {
        let mut journal = self.clone();
        let wrong = |why: String| Err(JournalError::Impossible(why));
        match action {
            Action::Do(step) if self.direction == Direction::Back && *step != Step::RecordLive => {
                return wrong(format!("{step} is to be done while the operation is taken back"));
            }
            Action::Do(step) if *step < self.step => {
                return wrong(format!("{step} is to be done after {}", self.step));
            }
            Action::Undo(step) if self.is_live() || *step > self.step => {
                return wrong(format!("{step} is to be taken back at {}", self.step));
            }
            Action::Do(step) => {
                journal.step = *step;
                journal.direction = Direction::Forward;
                if *step == Step::ReturnToSource {
                    journal.optional.insert(*step);
                }
            }
            Action::Undo(step) => {
                journal.step = *step;
                journal.direction = Direction::Back;
            }
            Action::Done(_) | Action::Refuse(_) => return Ok(journal),
        }
        if journal.step != self.step || journal.direction != self.direction {
            journal.upid = None;
        }
        Ok(journal)
    }
}

/// Follows a log of observations from `start`; gives the journal at its end and the action that is due then.
///
/// # Errors
/// [`JournalError::Impossible`] when the log goes on after the operation was over.
pub fn replay(
    start: &Journal,
    log: &[Observation],
    on_unhealthy: OnUnhealthy,
) -> Result<(Journal, Action), JournalError> {
    let mut journal = start.clone();
    let mut action = match journal.direction {
        Direction::Forward => Action::Do(journal.step),
        Direction::Back => Action::Undo(journal.step),
    };
    for seen in log {
        if matches!(action, Action::Done(_)) {
            return Err(JournalError::Impossible("the log goes on after the end".to_owned()));
        }
        action = next(&journal, seen, on_unhealthy);
        journal = journal.at_action(&action)?;
    }
    Ok((journal, action))
}

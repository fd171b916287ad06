//! Moving a VM between clusters: the steps, what follows from what was seen, the journal, and the checks before.
//!
//! Two halves (design §6). Before "live" every failure is taken back; from "live" on it only goes forward, because the
//! target may have accepted writes. [`next`] is the whole rule, as a pure function; the interpreter that carries its
//! actions out lives elsewhere and may be killed at any instant.

mod checks;
mod journal;
mod step;
mod transition;

pub use crate::model::Method;
pub use checks::{Check, PRE_MIGRATION_CHECKS, PREFLIGHT, Side, checks_for};
pub use journal::{Direction, Holder, Journal, JournalError, Outcome, Place, UndoFacts};
pub use step::{STEPS, Step, StepInfo};
pub use transition::{Action, Observation, OnUnhealthy, next, replay};

#[cfg(test)]
mod tests;

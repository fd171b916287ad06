//! Moving a machine between clusters: the steps, what follows from what was seen, and the checks before.
//!
//! Two halves (design.md §6). Before "live" every failure is taken back; from "live" on it only goes forward, because the
//! target may have accepted writes; forward has two endings, of which one returns the machine to the source and keeps the
//! target. The rule is here, as pure functions; the interpreter that carries it out lives in
//! `operations` and may be killed at any instant.

mod addresses;
mod checks;
mod spread;
mod step;
mod transition;

pub use crate::model::Method;
pub use addresses::{Addresses, out_of_place};
pub use checks::{ACCEPTED_LOSSES, Check, PRE_MIGRATION_CHECKS, PREFLIGHT, Side, checks_for};
pub use spread::{NoRoom, Onward, Spread, Volume, belongs, spread};
pub use step::{STEPS, Step, StepInfo, steps_of_a_move};
pub use transition::{
    AfterFailure, Carried, Ends, Found, Way, after_failure, carried, following, following_direct,
    following_in_recovery, following_unwell, resume, resume_direct, resume_recovery,
};

#[cfg(test)]
mod tests;

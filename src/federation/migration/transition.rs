//! What comes next: pure functions of how far a move has come and of what was seen.
//!
//! ```text
//!             failed: taken back                 failed: stays, next apply goes on
//!  Taken ─► … ─► Verify ─────────────► Live ─► Start ─► Health ─► Commit ─► Retire ─► Release
//!    ▲        │                                            │
//!    └────────┘                                            ├─ not well, "keep": both copies stay
//!                                                          └─ not well, "return": Halt ─► Disown ─► Returned ─► Revive ─► Close
//! ```
//!
//! A recovery goes the same way without a source: Taken ─► Restore … Commit ─► Release. The archive it restores is there, and
//! nobody can be asked whether it is the newest state.
//!
//! From Halt on, too, it only goes forward. "Live" and "Returned" say which copy is the machine; between the two copies one
//! is always fenced.

use super::step::{STEPS, Step};

/// The step after `step`; none after the last of either ending.
pub fn following(step: Step) -> Option<Step> {
    if step == Step::Release { None } else { STEPS.get(step as usize + 1).map(|info| info.step) }
}

/// The step after `step` of a recovery, whose source is lost: what concerns it is left out.
pub fn following_in_recovery(step: Step) -> Option<Step> {
    match step {
        Step::Taken => Some(Step::Restore),
        Step::Commit => Some(Step::Release),
        step => following(step),
    }
}

/// The step after one that found the target not well, where the user wants the machine back (`on_unhealthy = "return"`);
/// none where no step can find that.
pub fn following_unwell(step: Step) -> Option<Step> {
    (step == Step::Health).then_some(Step::Halt)
}

/// What is done about a step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Everything is taken back, now.
    TakeBack,
    /// Everything stays as it is: the user stopped it, or the target may have accepted writes. The next apply goes on.
    Stay,
}

/// What is done when `step` failed. `interrupted`: it did not fail, the user stopped it.
pub fn after_failure(step: Step, interrupted: bool) -> AfterFailure {
    if interrupted || step.is_past_live() { AfterFailure::Stay } else { AfterFailure::TakeBack }
}

/// What a process that takes an open move over finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// How far it has come, by the journal that is furthest: live on one side is live.
    pub step: Step,
    /// It was being taken back.
    pub taking_back: bool,
    /// The archive is proved to be of a machine that stood still.
    pub cold: bool,
    /// The source is fenced now: nobody can have started it since the fence.
    pub fenced: bool,
    /// The cluster it goes to is the one that is wanted now.
    pub wanted: bool,
}

/// Which way an open move goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// On from its step.
    Forward,
    /// Back to the beginning.
    Back,
}

/// Which way a process goes that takes an open move over.
///
/// From "live" on always forward. Before it only while what was backed up is sure to be the newest: the backup is cold and
/// the source is fenced. Somebody may have run an unfenced source while nobody held the operation.
pub fn resume(found: Found) -> Way {
    if found.step.is_past_live() {
        return Way::Forward;
    }
    let newest_is_in_the_archive = found.step >= Step::Fence && found.cold && found.fenced;
    if found.wanted && newest_is_in_the_archive && !found.taking_back { Way::Forward } else { Way::Back }
}

/// Which way a process goes that takes an open recovery over. Its archive doesn't change, so before "live" it goes on wherever it is
/// wanted.
pub fn resume_recovery(step: Step, taking_back: bool, wanted: bool) -> Way {
    if step.is_past_live() || (wanted && !taking_back) { Way::Forward } else { Way::Back }
}

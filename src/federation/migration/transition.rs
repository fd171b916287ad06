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
//! Where Proxmox VE itself sends the machine over: Taken ─► (Shutdown) ─► Onboot ─► Carry ─► Spread ─► Verify ─► Live …, and while it
//! runs: Carry ─► Live. Proxmox VE leaves the source locked then, which no token can change: a carried machine is not taken back, also
//! before Live.
//!
//! From Halt on, too, it only goes forward. "Live" and "Returned" say which copy is the machine; between the two copies one
//! is always fenced.

use super::step::{STEPS, Step};

/// The step after `step` of a move by backup and restore; none after the last of either ending.
pub fn following(step: Step) -> Option<Step> {
    match step {
        Step::Release => None,
        Step::Restore => Some(Step::Spread),
        step => STEPS.get(step as usize + 1).map(|info| info.step),
    }
}

/// The step after `step` of a move that Proxmox VE carries out itself (`remote_migrate`). `online`: while the machine runs, so
/// that the target is the machine as soon as it is carried.
pub fn following_direct(step: Step, online: bool) -> Option<Step> {
    match step {
        Step::Taken if online => Some(Step::Onboot),
        Step::Onboot => Some(Step::Carry),
        Step::Carry if online => Some(Step::Live),
        step => following(step),
    }
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

/// What Proxmox VE's own migration has come to, as source and target show it once no task of it runs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// The source is not locked, and the target is not there, or is not more than a remnant.
    Nothing,
    /// The source is stopped and locked for good, and the target is whole: it has the newest state.
    Whole,
    /// Neither can be said: a person has to look at both.
    Torn,
}

/// What is there of both machines after Proxmox VE's own migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The source has the lock that a migration takes, and leaves behind when it succeeds (`proxmox-ve.md` §9).
    pub source_locked: bool,
    /// The source runs.
    pub source_runs: bool,
    /// A machine with its UUID is on the target.
    pub target: bool,
    /// That has a lock.
    pub target_locked: bool,
    /// That runs.
    pub target_runs: bool,
    /// It was sent over while it ran.
    pub online: bool,
}

/// What a migration has come to. Nothing that may hold newer state than the other end is ever called a remnant.
pub fn carried(ends: Ends) -> Carried {
    let whole_there = ends.target && !ends.target_locked;
    // Proxmox VE unlocks the target last of all. Whether that runs doesn't matter: a guest that came while it ran may have shut down since.
    if ends.source_locked && !ends.source_runs && whole_there {
        return Carried::Whole;
    }
    // One that came while it ran, and is whole, has run there: what it wrote since would be lost.
    let may_be_newer = ends.target_runs || (whole_there && ends.online);
    if ends.source_locked || may_be_newer { Carried::Torn } else { Carried::Nothing }
}

/// Which way a process goes that takes over a move that Proxmox VE carries out; `None` where a person has to look first.
/// `carried` is asked from the step `Carry` on.
pub fn resume_direct(step: Step, carried: Carried) -> Option<Way> {
    match carried {
        _ if step.is_past_live() => Some(Way::Forward),
        _ if step < Step::Carry => Some(Way::Back),
        Carried::Whole => Some(Way::Forward),
        Carried::Nothing => Some(Way::Back),
        Carried::Torn => None,
    }
}

//! The two halves, for every step and every way a move can be found.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_table_is_in_the_order_of_the_enum_and_live_divides_it_once() {
    assert!(STEPS.iter().map(|info| info.step).eq(Step::ALL.iter().copied()));
    assert!(Step::ALL.iter().map(|step| step.is_past_live()).is_sorted());
    assert!(Step::ALL.iter().map(|step| step.is_returned()).is_sorted());
    for info in STEPS {
        assert!(!info.step.is_past_live() || info.undoes.is_none(), "{} cannot be undone", info.step);
        assert!(!info.does.is_empty() && !info.recognised.is_empty());
    }
}

#[test]
fn a_move_without_trouble_does_every_step_once() {
    let mut done = vec![Step::Taken];
    while let Some(step) = following(done[done.len() - 1]) {
        done.push(step);
    }
    let all = |step: &Step| *step <= Step::Release && *step != Step::Carry;
    assert_eq!(done, Step::ALL.iter().copied().filter(all).collect::<Vec<_>>());
    assert!(steps_of_a_move(Method::BackupRestore).iter().map(|info| info.step).eq(done));
}

#[test]
fn what_proxmox_ve_sends_over_has_no_archive_and_no_fence_of_ours() {
    let steps = |method| steps_of_a_move(method).into_iter().map(|info| info.step).collect::<Vec<_>>();
    let ending = [Step::Live, Step::Start, Step::Health, Step::Commit, Step::Retire, Step::Release];
    let offline = [Step::Taken, Step::Shutdown, Step::Onboot, Step::Carry, Step::Spread, Step::Verify];
    assert_eq!(steps(Method::Offline), [&offline[..], &ending].concat());
    assert_eq!(steps(Method::StorageMigration), [&[Step::Taken, Step::Onboot, Step::Carry][..], &ending].concat());
}

/// Both ends in every state.
fn every_end() -> impl Iterator<Item = Ends> {
    (0..64u32).map(|bits| Ends {
        source_locked: bits & 1 != 0,
        source_runs: bits & 2 != 0,
        target: bits & 4 != 0,
        target_locked: bits & 8 != 0,
        target_runs: bits & 16 != 0,
        online: bits & 32 != 0,
    })
}

#[test]
fn a_carried_machine_goes_forward_and_none_that_may_be_the_newest_is_called_a_remnant() {
    for ends in every_end() {
        match carried(ends) {
            Carried::Whole => {
                assert!(ends.source_locked && !ends.source_runs && ends.target && !ends.target_locked, "{ends:?}");
            }
            // Then the source is started and what is on the target may be removed.
            Carried::Nothing => {
                assert!(!ends.source_locked && !ends.target_runs, "{ends:?}");
                assert!(!(ends.online && ends.target && !ends.target_locked), "{ends:?}: it may have run");
            }
            Carried::Torn => {}
        }
        for step in Step::ALL.iter().copied() {
            let way = resume_direct(step, carried(ends));
            if step.is_past_live() {
                assert_eq!(way, Some(Way::Forward), "{step}");
            } else if step < Step::Carry {
                assert_eq!(way, Some(Way::Back), "{step}");
            } else {
                assert_eq!(way.is_none(), carried(ends) == Carried::Torn, "{step} {ends:?}");
            }
        }
    }
}

#[test]
fn an_unwell_target_is_returned_step_by_step_and_only_from_the_health_check() {
    let mut done = vec![];
    let mut next = following_unwell(Step::Health);
    while let Some(step) = next {
        done.push(step);
        next = following(step);
    }
    assert_eq!(done, [Step::Halt, Step::Disown, Step::Returned, Step::Revive, Step::Close]);
    for step in Step::ALL.iter().filter(|step| **step != Step::Health) {
        assert_eq!(following_unwell(*step), None, "{step}");
    }
    // The target is the machine until that is written down, and so is the source from then on.
    assert!(Step::Disown.is_live() && !Step::Returned.is_live() && !Step::Verify.is_live());
}

#[test]
fn before_live_every_failure_is_taken_back_and_from_live_on_none() {
    for step in Step::ALL {
        let expected = if step.is_past_live() { AfterFailure::Stay } else { AfterFailure::TakeBack };
        assert_eq!(after_failure(*step, false), expected, "{step}");
        assert_eq!(after_failure(*step, true), AfterFailure::Stay, "{step}: what the user stopped stays");
    }
}

/// Every way an open move can be found.
fn every_find() -> impl Iterator<Item = Found> {
    let bits = |bits: u32| [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0, bits & 8 != 0];
    Step::ALL.iter().flat_map(move |step| {
        (0..16).map(bits).map(|[taking_back, cold, fenced, wanted]| Found {
            step: *step,
            taking_back,
            cold,
            fenced,
            wanted,
        })
    })
}

#[test]
fn from_live_on_it_only_goes_forward() {
    for found in every_find().filter(|found| found.step.is_past_live()) {
        assert_eq!(resume(found), Way::Forward, "{found:?}");
    }
}

#[test]
fn before_live_it_goes_on_only_while_the_archive_holds_the_newest() {
    for found in every_find().filter(|found| !found.step.is_past_live()) {
        let sure = found.fenced && found.cold && found.step >= Step::Fence;
        let way = if sure && found.wanted && !found.taking_back { Way::Forward } else { Way::Back };
        assert_eq!(resume(found), way, "{found:?}");
    }
}

#[test]
fn a_recovery_touches_no_source() {
    let mut done = vec![Step::Taken];
    while let Some(step) = following_in_recovery(done[done.len() - 1]) {
        done.push(step);
    }
    let expected = [
        Step::Taken,
        Step::Restore,
        Step::Spread,
        Step::Verify,
        Step::Live,
        Step::Start,
        Step::Health,
        Step::Commit,
        Step::Release,
    ];
    assert_eq!(done, expected);
}

#[test]
fn an_open_recovery_goes_on_where_it_is_wanted_and_from_live_on_anyway() {
    assert_eq!(resume_recovery(Step::Restore, false, true), Way::Forward, "its archive doesn't change");
    assert_eq!(resume_recovery(Step::Restore, false, false), Way::Back, "its cluster answers again");
    assert_eq!(resume_recovery(Step::Verify, true, true), Way::Back, "half of it may be gone");
    for step in Step::ALL.iter().copied().filter(|step| step.is_past_live()) {
        assert_eq!(resume_recovery(step, false, false), Way::Forward, "{step}");
    }
}

#[test]
fn checks_have_unique_ids_and_cover_the_guides() {
    let ids: BTreeSet<&str> = PREFLIGHT.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), PREFLIGHT.len());
    for name in PRE_MIGRATION_CHECKS {
        assert!(PREFLIGHT.iter().any(|check| check.guide == Some(name)), "{name}");
    }
    assert!(checks_for(Method::BackupRestore).any(|check| check.id == "transport_same"));
    assert!(!checks_for(Method::Offline).any(|check| check.id == "transport_same"));
}

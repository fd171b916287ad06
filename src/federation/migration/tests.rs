//! The two halves, for every step and every way a move can go wrong.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::names::ClusterName;

fn journal(step: Step) -> Journal {
    let place = |name: &str| Place { cluster: ClusterName::new(name).unwrap(), node: "pve1".into(), vmid: 100 };
    Journal {
        op: "7f3a".into(),
        from: place("ams"),
        to: place("rtm"),
        step,
        direction: Direction::Forward,
        optional: BTreeSet::new(),
        epoch: 1,
        holder: Holder { machine: "m".into(), boot: "b".into(), pid: 1, start: 2, run: "ci-1".into() },
        at: 1_700_000_000,
        archive: None,
        upid: None,
        volumes: BTreeSet::new(),
        undo: UndoFacts { running: true, ..UndoFacts::default() },
    }
}

fn failed() -> Observation {
    Observation::Failed { why: "no".into() }
}

#[test]
fn the_table_is_in_the_order_of_the_enum_and_live_divides_it_once() {
    assert!(STEPS.iter().map(|info| info.step).eq(Step::ALL.iter().copied()));
    assert!(STEPS.iter().map(|info| info.before_live).is_sorted_by(|a, b| a >= b));
    for info in STEPS {
        assert!(info.before_live || info.undoes.is_none(), "{} cannot be undone", info.step);
    }
}

#[test]
fn a_move_without_trouble_does_every_planned_step_once() {
    let mut state = journal(Step::Preflight);
    state.optional.insert(Step::WarmCopy);
    let mut done = vec![state.step];
    let outcome = loop {
        let action = next(&state, &Observation::Done, OnUnhealthy::Keep);
        state = state.at_action(&action).unwrap();
        match action {
            Action::Do(step) => done.push(step),
            Action::Done(outcome) => break outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outcome, Outcome::Moved);
    let planned = STEPS.iter().filter(|info| !info.optional || info.step == Step::WarmCopy).map(|info| info.step);
    assert!(done.into_iter().eq(planned));
}

#[test]
fn before_live_every_failure_is_taken_back_to_the_beginning() {
    for info in STEPS.iter().filter(|info| info.before_live) {
        let mut state = journal(info.step);
        let mut action = next(&state, &failed(), OnUnhealthy::Keep);
        let mut undone = Vec::new();
        while let Action::Undo(step) = action {
            undone.push(step);
            state = state.at_action(&action).unwrap();
            action = next(&state, &Observation::Done, OnUnhealthy::Keep);
        }
        assert_eq!(action, Action::Done(Outcome::TakenBack), "{}", info.step);
        assert!(undone.is_sorted_by(|a, b| a > b), "{undone:?}");
        let expected = STEPS.iter().rev().filter(|other| {
            other.undoes.is_some() && other.step <= info.step && (!other.optional || other.step == info.step)
        });
        assert!(undone.iter().copied().eq(expected.map(|other| other.step)), "{}: {undone:?}", info.step);
    }
}

#[test]
fn from_live_on_nothing_is_taken_back() {
    for info in STEPS.iter().filter(|info| !info.before_live) {
        for seen in [failed(), Observation::SourceStarted, Observation::Foreign { what: "vm-100-disk-9".into() }] {
            let action = next(&journal(info.step), &seen, OnUnhealthy::Keep);
            assert!(matches!(action, Action::Refuse(_)), "{} {seen:?} {action:?}", info.step);
        }
        assert_eq!(next(&journal(info.step), &Observation::NotDone, OnUnhealthy::Keep), Action::Do(info.step));
    }
}

#[test]
fn an_unhealthy_target_is_kept_or_returned_from() {
    let state = journal(Step::HealthCheck);
    let Action::Refuse(why) = next(&state, &failed(), OnUnhealthy::Keep) else { panic!() };
    assert!(why.contains("both copies are kept"), "{why}");
    let log = [failed(), Observation::Done, Observation::Done];
    let (end, action) = replay(&state, &log, OnUnhealthy::Return).unwrap();
    assert_eq!(action, Action::Done(Outcome::Returned));
    assert!(end.is_live(), "the record stays: the target had its writes");
}

#[test]
fn live_on_one_side_is_live() {
    for direction in [Direction::Forward, Direction::Back] {
        let state = Journal { direction, ..journal(Step::Verify) };
        let action = next(&state, &Observation::LiveElsewhere, OnUnhealthy::Keep);
        assert_eq!(action, Action::Do(Step::RecordLive));
        state.at_action(&action).unwrap();
    }
}

#[test]
fn foreign_volumes_and_holders_stop_everything() {
    let back = Journal { direction: Direction::Back, ..journal(Step::Restore) };
    let Action::Refuse(why) = next(&back, &Observation::Foreign { what: "vm-100-disk-3".into() }, OnUnhealthy::Keep)
    else {
        panic!()
    };
    assert!(why.contains("vm-100-disk-3"), "{why}");
    for step in Step::ALL {
        let held = Observation::Held { by: "ci-7 until 12:00".into() };
        assert!(matches!(next(&journal(*step), &held, OnUnhealthy::Keep), Action::Refuse(why) if why.contains("ci-7")));
    }
}

#[test]
fn journals_travel_as_one_line_and_impossible_ones_are_refused() {
    let mut state = journal(Step::Restore);
    state.volumes.insert("zfs:vm-100-disk-0".into());
    let comment = state.to_comment().unwrap();
    assert!(!comment.contains('\n'));
    assert!(comment.starts_with("{\"at\":1700000000,\"epoch\":1,\"from\":{\"cluster\":\"ams\""), "{comment}");
    assert_eq!(Journal::from_comment(&comment).unwrap(), state);
    Journal::from_comment(&comment.replacen('{', "{\"future\":1,", 1)).unwrap();
    let impossible = Journal { direction: Direction::Back, ..journal(Step::Commit) }.to_comment().unwrap();
    assert!(matches!(Journal::from_comment(&impossible), Err(JournalError::Impossible(_))));
    assert!(matches!(Journal::from_comment("{}"), Err(JournalError::Broken(_))));
    state.volumes.extend((0..1000).map(|n| format!("zfs:vm-100-disk-{n}")));
    assert!(matches!(state.to_comment(), Err(JournalError::TooBig { .. })));
}

#[test]
fn checks_have_unique_ids_and_cover_the_guides() {
    let ids: BTreeSet<&str> = PREFLIGHT.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), PREFLIGHT.len());
    for name in PRE_MIGRATION_CHECKS {
        assert!(PREFLIGHT.iter().any(|check| check.guide == Some(name)), "{name}");
    }
    assert!(checks_for(Method::Offline).any(|check| check.id == "vlan_unchanged"));
    assert!(!checks_for(Method::BackupRestore).any(|check| check.id == "vlan_unchanged"));
}

fn any_observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        6 => Just(Observation::Done),
        3 => Just(Observation::NotDone),
        1 => Just(failed()),
        1 => Just(Observation::SourceStarted),
        1 => Just(Observation::LiveElsewhere),
        1 => Just(Observation::Foreign { what: "x".into() }),
        1 => Just(Observation::Held { by: "y".into() }),
    ]
}

proptest! {
    #[test]
    fn whatever_is_seen_no_undo_follows_live_and_replay_agrees(
        log in prop::collection::vec(any_observation(), 0..60), returning: bool,
    ) {
        let on_unhealthy = if returning { OnUnhealthy::Return } else { OnUnhealthy::Keep };
        let start = journal(Step::Preflight);
        let (mut state, mut live, mut used) = (start.clone(), false, 0);
        let mut last = Action::Do(start.step);
        for seen in &log {
            if matches!(last, Action::Done(_)) {
                break;
            }
            last = next(&state, seen, on_unhealthy);
            used += 1;
            live |= matches!(last, Action::Do(step) if step.is_live());
            prop_assert!(!(live && matches!(last, Action::Undo(_))), "{last:?}");
            state = state.at_action(&last).unwrap();
            // What is written can be read by the next process.
            prop_assert_eq!(&Journal::from_comment(&state.to_comment().unwrap()).unwrap(), &state);
        }
        prop_assert_eq!(replay(&start, &log[..used], on_unhealthy).unwrap(), (state, last));
    }
}

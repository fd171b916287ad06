//! Owns which of several guests with a machine's UUID may be taken for it, where it is not where it was recorded (design.md §5).
use federation::ClusterName;
use federation::model::Method;

use crate::guest::{Guest, Record};
use crate::identity::Found;
use crate::journal::Place;

/// Whether what was found elsewhere may be taken for the machine: everybody answered, and beside the fenced copies, which are set aside
/// first, there is
/// - exactly one that says that a move of ours brought it from the recorded place, running or not, while no other runs; or
/// - one alone, which runs and is part of no operation.
pub(crate) fn adopt(record: &Record, found: Vec<Guest>, unseen: Vec<String>) -> Found {
    if !unseen.is_empty() {
        return Found::Unsure(format!(
            "it is not on {} any more, and whether it is elsewhere can't be said: {}",
            record.cluster,
            unseen.join("; ")
        ));
    }
    let (aside, mut candidates): (Vec<Guest>, Vec<Guest>) = found.into_iter().partition(is_set_aside);
    if candidates.is_empty() && aside.is_empty() {
        return Found::Gone;
    }
    let ours: Vec<usize> = (0..candidates.len()).filter(|at| is_ours(record, &candidates[*at])).collect();
    if let [at] = ours[..] {
        let machine = candidates.swap_remove(at);
        // A copy that a person unfenced or unlocked is none while it is stopped.
        if candidates.iter().all(|other| !other.running) {
            return Found::Here(Box::new(machine));
        }
        candidates.push(machine);
    }
    match candidates.as_slice() {
        [one] if is_sound(one) => Found::Elsewhere(Box::new(candidates.remove(0))),
        _ => Found::Unsure(format!(
            "it is not on {} any more; copies with its UUID that may not be taken for it: {}",
            record.cluster,
            candidates.iter().chain(&aside).map(in_words).collect::<Vec<_>>().join("; ")
        )),
    }
}

/// Fenced or retired: whatever it is, nobody can run it. A target that was fenced and is still the machine of its open move is not.
fn is_set_aside(guest: &Guest) -> bool {
    !guest.running && (guest.is_retired() || guest.is_left_behind()) && !is_machine_of_its_move(guest)
}

fn is_machine_of_its_move(guest: &Guest) -> bool {
    guest.operation.as_ref().and_then(|journal| journal.machine()).is_some_and(|place| same(guest, place))
}

fn same(guest: &Guest, place: &Place) -> bool {
    (&place.cluster, place.vmid) == (&guest.place.cluster, guest.place.vmid)
}

/// Runs, and nothing says that it is anything but a machine.
fn is_sound(guest: &Guest) -> bool {
    guest.running
        && guest.operation.is_none()
        && !guest.is_retired()
        && !guest.is_left_behind()
        && guest.mark.op.is_none()
}

/// What a move of ours has brought from the recorded place is the machine.
fn is_ours(record: &Record, guest: &Guest) -> bool {
    let recorded = |cluster: &ClusterName, vmid: u32| (cluster, vmid) == (&record.cluster, record.vmid);
    let at = |place: &Place| recorded(&place.cluster, place.vmid);
    let mark = &guest.mark;
    let says_so = mark.from.as_ref().is_some_and(|from| recorded(&from.cluster, from.vmid))
        || mark.copies.iter().any(|copy| copy.returned && recorded(&copy.cluster, copy.vmid));
    let Some(journal) = &guest.operation else {
        // One that still names an operation which is over is what that move left, unlocked since.
        return says_so && mark.op.is_none() && !guest.is_retired() && !guest.is_left_behind();
    };
    let from = journal.from.as_ref().is_some_and(at);
    let moving = (from || at(&journal.to)) && is_machine_of_its_move(guest);
    // All that is left of a move that Proxmox VE carries out, whose source a person has removed: its next apply goes on with it.
    let is_sent = journal.method != Method::BackupRestore && same(guest, &journal.to);
    moving || (from && is_sent && guest.config.lock().is_none())
}

fn in_words(copy: &Guest) -> String {
    let state = match copy.running {
        true => "running",
        false if is_set_aside(copy) => "fenced",
        false => "stopped",
    };
    format!("{} ({state}; import id {}/{})", copy.place, copy.place.cluster, copy.place.vmid)
}

#[cfg(test)]
mod tests {
    use proxmox::VmConfig;

    use super::*;
    use crate::notes::{Copy, Mark, MarkFound, Origin, Retired};

    fn name(cluster: &str) -> ClusterName {
        cluster.parse().expect("a name")
    }

    fn record() -> Record {
        Record {
            name: "web-1".into(),
            cluster: name("a"),
            node: "n1".into(),
            vmid: 100,
            uuid: "u".into(),
            pool: None,
            running: Some(true),
            copies: Vec::new(),
            identity: None,
        }
    }

    fn guest(running: bool) -> Guest {
        Guest {
            place: Place { cluster: name("b"), node: "n1".into(), vmid: 100 },
            uuid: "u".into(),
            waiting: Vec::new(),
            config: VmConfig::from_pairs([("name", "web-1")]),
            running,
            pool: None,
            pool_is_known: true,
            description: String::new(),
            mark: Mark::default(),
            mark_found: MarkFound::Missing,
            operation: None,
            retired_copies: Vec::new(),
            expired: None,
            old_copy: None,
        }
    }

    fn on(cluster: &str, running: bool) -> Guest {
        Guest { place: Place { cluster: name(cluster), ..guest(false).place }, ..guest(running) }
    }

    fn came_from(cluster: &str, vmid: u32, running: bool) -> Guest {
        let mark = Mark { from: Some(Origin { cluster: name(cluster), vmid }), ..Mark::default() };
        Guest { mark, ..guest(running) }
    }

    /// A kept source on another cluster, as a move leaves it.
    fn retired(cluster: &str) -> Guest {
        let retired = Some(Retired { op: "old".into(), to: name("b"), until: 0, at: None });
        let config = VmConfig::from_pairs([("name", "web-1"), ("template", "1")]);
        Guest { config, mark: Mark { retired, ..Mark::default() }, ..on(cluster, false) }
    }

    /// A source that Proxmox VE locked, of an operation that is over; `lock`: not unlocked by root since.
    fn sent_away(cluster: &str, lock: bool) -> Guest {
        let mark = Mark { op: Some("old".into()), ..Mark::default() };
        let notes = crate::notes::join("", &mark).expect("notes");
        let mut config = vec![("name", "web-1"), ("description", notes.as_str())];
        config.extend(lock.then_some(("lock", "migrate")));
        let config = VmConfig::from_pairs(config);
        Guest { config, mark, ..on(cluster, false) }
    }

    fn here(found: Found) -> String {
        match found {
            Found::Here(guest) => format!("here {}", guest.place.cluster),
            Found::Elsewhere(guest) => format!("elsewhere {}", guest.place.cluster),
            Found::Gone => "gone".into(),
            Found::Unsure(why) => format!("unsure: {why}"),
            Found::Lost(_) => "lost".into(),
        }
    }

    fn of(found: Vec<Guest>) -> String {
        here(adopt(&record(), found, Vec::new()))
    }

    #[test]
    fn only_one_running_copy_on_a_fully_seen_federation_is_adopted() {
        assert_eq!(of(vec![guest(true)]), "elsewhere b");
        assert!(of(vec![guest(false)]).starts_with("unsure"));
        assert!(of(vec![guest(true), guest(true)]).starts_with("unsure"));
        assert!(matches!(adopt(&record(), vec![guest(true)], vec!["c is dark".into()]), Found::Unsure(_)));
        let mut fenced = guest(true);
        fenced.config = VmConfig::from_pairs([("template", "1")]);
        assert!(of(vec![fenced]).starts_with("unsure"));
        let mut clone = guest(true);
        clone.mark.op = Some("op".into());
        assert!(of(vec![clone]).starts_with("unsure"));
    }

    #[test]
    fn gone_is_only_said_when_everybody_answered() {
        assert_eq!(of(Vec::new()), "gone");
        assert!(matches!(adopt(&record(), Vec::new(), vec!["c is dark".into()]), Found::Unsure(_)));
    }

    #[test]
    fn a_machine_that_was_returned_is_known_by_its_copy() {
        let mut back = guest(false);
        let copy = |vmid, returned| Copy { cluster: name("a"), vmid, until: 0, returned, op: None };
        back.mark.copies = vec![copy(100, true)];
        assert_eq!(of(vec![back.clone()]), "here b");
        back.mark.copies = vec![copy(100, false), copy(101, true)];
        assert!(of(vec![back]).starts_with("unsure"));
    }

    #[test]
    fn fenced_copies_of_earlier_moves_are_set_aside_before_anything_is_counted() {
        let history = || vec![retired("c"), sent_away("d", true), retired("e")];
        for running in [true, false] {
            let machine = came_from("a", 100, running);
            assert_eq!(of([vec![machine], history()].concat()), "here b", "running: {running}");
        }
        assert_eq!(of([vec![guest(true)], history()].concat()), "elsewhere b");
        // Copies alone are never "gone", and each is named.
        let alone = of(history());
        assert!(alone.starts_with("unsure") && alone.contains("import id e/100"), "{alone}");
    }

    #[test]
    fn the_mark_of_where_it_came_from_is_believed_beside_stopped_copies_and_not_beside_running_ones() {
        let unfenced = |running| Guest { config: guest(false).config, running, ..retired("c") };
        let machine = came_from("a", 100, true);
        assert_eq!(of(vec![sent_away("d", false), unfenced(false), machine.clone()]), "here b");
        assert!(of(vec![machine.clone(), unfenced(true)]).starts_with("unsure"), "two run");
        assert!(of(vec![machine.clone(), Guest { running: true, ..sent_away("d", false) }]).starts_with("unsure"));
        // It came from elsewhere, or two say so.
        assert!(of(vec![came_from("a", 101, false), retired("c")]).starts_with("unsure"));
        let other = Guest { place: on("c", true).place, ..machine.clone() };
        assert!(of(vec![machine, other]).starts_with("unsure"));
    }
}

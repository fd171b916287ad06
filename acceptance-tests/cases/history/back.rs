//! Moves there and back that nobody disturbs: what makes way, what never does, and what becomes of what is kept.
use std::time::Duration;

use serde_json::Value as Json;
use simulator::VmSnapshot;

use super::{ALL, ARCHIVES, Kill, Past, SITES, Way};

const KEPT: Way = ARCHIVES[1];
const OFFLINE: Way = ALL[1];
const ONLINE: Way = ALL[2];

/// What somebody does to a copy.
type Change<'a> = &'a dyn Fn(&Past, &VmSnapshot);

impl Past {
    /// Moves to the other site, and is settled there.
    fn moves(&mut self, way: Way) {
        let killed = self.leg(way, Kill { writes: true, n: usize::MAX, executed: true }).expect("a plan");
        assert_eq!(killed, None);
        assert_eq!(self.converge(way), Vec::<String>::new());
    }

    fn vmid(&self) -> u32 {
        self.sim.running_copies(&self.uuid)[0].vmid
    }

    /// Its copies that don't run.
    fn left(&self) -> Vec<VmSnapshot> {
        self.sim.copies(&self.uuid).into_iter().filter(|vm| !vm.running).collect()
    }

    fn archives(&self) -> usize {
        self.sim.cluster(SITES[0]).archives("transfer").len()
    }

    /// Changes what our block in a guest's notes says.
    fn edit_mark(&self, vm: &VmSnapshot, edit: impl Fn(&mut Json)) {
        let notes = federation::block::read_notes(&vm.config["description"]);
        let mut value = notes.block.expect("a block").value;
        edit(&mut value);
        let text = federation::block::write_notes(&notes.description, None, &value).expect("notes");
        self.sim.cluster(&vm.cluster).set_config(vm.vmid, "description", Some(&text));
    }
}

#[test]
fn a_machine_that_goes_back_keeps_its_vmid_and_its_older_copy_makes_way() {
    let mut past = Past::new("app", "back", 1);
    let vmid = past.vmid();
    for round in 1..=6 {
        past.moves(KEPT);
        assert_eq!(past.vmid(), vmid, "move {round}");
        let left = past.left();
        assert!(left.len() == 1 && left[0].cluster == SITES[1 - past.at] && left[0].template, "{left:?}");
        assert_eq!(past.archives(), round, "each move keeps its archive");
    }
    past.sim.advance(Duration::from_secs(4 * 86_400));
    assert_eq!(past.converge(KEPT), Vec::<String>::new());
    assert_eq!((past.left().len(), past.archives()), (0, 0));
    assert_eq!(past.ends(), Vec::<String>::new());
}

#[test]
fn what_may_hold_other_writes_never_makes_way() {
    let of_recovery = |past: &Past, copy: &VmSnapshot| {
        past.edit_mark(copy, |mark| mark["retired"]["op"] = "recovery".into());
        let machine = past.sim.running_copies(&past.uuid).remove(0);
        // Also where the list is of a version that named no operation.
        past.edit_mark(&machine, |mark| drop(mark["copies"][0].as_object_mut().map(|copy| copy.remove("by"))));
    };
    let returned = |past: &Past, _: &VmSnapshot| {
        let machine = past.sim.running_copies(&past.uuid).remove(0);
        past.edit_mark(&machine, |mark| mark["copies"][0]["returned"] = true.into());
    };
    let started = |past: &Past, copy: &VmSnapshot| {
        let cluster = past.sim.cluster(&copy.cluster);
        past.sim.advance(Duration::from_secs(60));
        cluster.set_config(copy.vmid, "template", None);
        let other = past.sim.running_copies(&past.uuid).remove(0);
        past.sim.cluster(&other.cluster).stop(other.vmid);
        cluster.start(copy.vmid).expect("a start");
        cluster.guest_write(copy.vmid).expect("it runs");
        cluster.stop(copy.vmid);
        cluster.set_config(copy.vmid, "template", Some("1"));
        past.sim.cluster(&other.cluster).start(other.vmid).expect("a start");
    };
    let saved_over = |past: &Past, copy: &VmSnapshot| {
        past.sim.cluster(&copy.cluster).set_config(copy.vmid, "description", Some("mine"));
    };
    let cases: [(&str, Change); 4] =
        [("of a recovery", &of_recovery), ("returned", &returned), ("started", &started), ("saved over", &saved_over)];
    for (about, change) in cases {
        let mut past = Past::new("app", "never", 1);
        let vmid = past.vmid();
        past.moves(KEPT);
        let copy = past.left().remove(0);
        change(&past, &copy);
        past.moves(KEPT);
        assert_ne!(past.vmid(), vmid, "{about}");
        let there = past.sim.cluster(&copy.cluster).vm(copy.vmid).expect("the copy");
        assert_eq!(there.uuid, Some(past.uuid.clone()), "{about}");
    }
}

#[test]
fn a_machine_that_is_back_where_its_copy_was_is_not_its_own_copy() {
    let mut past = Past::new("platform", "itself", 1);
    let vmid = past.vmid();
    past.moves(OFFLINE);
    let locked = past.left().remove(0);
    past.root_removes(&locked);
    past.moves(ONLINE);
    assert_eq!((past.vmid(), past.at), (vmid, 0));
    let copies = past.state.value.attr("retired_copies").as_list().map_or(0, <[protocol::Value]>::len);
    assert_eq!(copies, 1, "what was left on the other site alone");
    // Past every date too, and as a record of an older version has it.
    let machine = past.sim.running_copies(&past.uuid).remove(0);
    past.edit_mark(&machine, |mark| {
        let own = serde_json::json!({ "cluster": SITES[0], "vmid": vmid, "until": 7 });
        mark["copies"].as_array_mut().expect("copies").push(own);
    });
    past.sim.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(past.converge(ONLINE), Vec::<String>::new());
    assert_eq!(past.vmid(), vmid);
}

#[test]
fn archives_of_earlier_moves_go_whatever_the_vmid_is_by_then() {
    let mut past = Past::new("app", "archives", 1);
    let vmid = past.vmid();
    past.moves(KEPT);
    assert_eq!(past.archives(), 1);
    let copy = past.left().remove(0);
    past.sim.cluster(&copy.cluster).set_config(copy.vmid, "description", Some("mine"));
    past.moves(KEPT);
    assert_ne!(past.vmid(), vmid);
    past.sim.advance(Duration::from_secs(5 * 86_400));
    assert_eq!(past.converge(KEPT), Vec::<String>::new());
    assert_eq!(past.archives(), 0, "{:?}", past.sim.litter());
}

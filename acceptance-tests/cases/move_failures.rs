//! What goes wrong in a move without anybody killing it: each step fails in turn, and people and nodes get in between. The
//! tests are named after the list that ends the operations review.
mod several_storages;
mod surroundings;

use std::sync::OnceLock;
use std::time::Duration;

use crate::moving::{FROM, GONE, KEPT, Left, Machine, NAME, RETURNED, TO, UNWELL, Watch, in_words, wanted_on};
use harness::{Cli, Killed, SimulatedWorld, Workspace, by_turns, kill_providers, wait_for};
use simulator::{Action, GuestSpec, Matched, NodePower, Nth, Rule, VmSnapshot};

const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];

/// The CLI of the test that asks.
fn cli() -> Cli {
    by_turns()
}

/// The machine that the test's CLI made: state names providers in each one's own words.
fn machine() -> &'static Machine {
    static MADE: [OnceLock<Machine>; 2] = [const { OnceLock::new() }; 2];
    let cli = cli();
    MADE[cli.kind as usize].get_or_init(|| Machine::made_by(&cli))
}

/// A world with the machine, a workspace that wants it moved, and a watch over it.
struct Scene {
    machine: &'static Machine,
    world: SimulatedWorld,
    workspace: Workspace,
    watch: Watch,
    before: VmSnapshot,
}

impl Scene {
    fn with(role: &str, migration: &str) -> Scene {
        Scene::of(machine(), role, migration)
    }

    fn of(machine: &'static Machine, role: &str, migration: &str) -> Scene {
        Scene::in_world(machine, machine.world(), role, migration)
    }

    fn in_world(machine: &'static Machine, world: SimulatedWorld, role: &str, migration: &str) -> Scene {
        let workspace = machine.moving(&world, &cli(), role, migration);
        let watch = Watch::over(&world, machine);
        let before = world.vm(FROM, NAME);
        Scene { machine, world, workspace, watch, before }
    }

    fn new() -> Scene {
        Scene::with("app", GONE)
    }

    fn without_faults(&self) {
        self.world.clear_faults();
        self.watch.begin(&self.world);
    }

    /// The newest record that the guest ever wrote; it must be held somewhere.
    #[track_caller]
    fn newest(&self) -> u64 {
        let uuid = self.machine.uuid();
        let (written, held) = (self.world.newest_written(&uuid), self.world.newest_held(&uuid));
        assert_eq!(written, held, "the newest record is nowhere");
        written
    }

    /// Applies until nothing is to be done, at most three times, and checks that it all came to `cluster`.
    #[track_caller]
    fn converges_on(&self, cluster: &str, left: impl Into<Left>, about: &str) {
        let newest = self.newest();
        let mut said = String::new();
        for applies in 0..=3 {
            let plan = self.workspace.plan();
            if plan.code == 0 {
                break;
            }
            assert_eq!((plan.code, applies < 3), (2, true), "{about}: {}{said}", plan.text());
            said += &self.workspace.apply().text();
        }
        let wrong = self.machine.settled_on(&self.world, &self.before, cluster, newest, left);
        assert_eq!(wrong, Vec::<String>::new(), "{about}\n{said}");
        assert_eq!(self.watch.wrongs(), Vec::<String>::new(), "{about}");
    }
}

/// Which call of an apply is the first that `wanted` fits, as found in a world of its own. To be asked before a test has a
/// scene: each holds one of the two places for CLI tests.
fn number_of(role: &str, migration: &str, wanted: impl Fn(&simulator::Request) -> bool) -> u64 {
    let scene = Scene::with(role, migration);
    scene.world.clear_requests();
    scene.workspace.apply().expect(0);
    let found = scene.world.requests().iter().position(wanted).expect("such a call");
    found as u64 + 1
}

/// The calls that write `step` into the journal on the source.
fn step(step: &'static str, action: Action) -> Rule {
    let word = format!("\"step\":\"{step}\"");
    Rule::on("PUT", "/pools", action)
        .cluster(FROM)
        .params(move |params| params.get("comment").is_some_and(|comment| comment.contains(&word)))
        .nth(Nth::Only(1))
}

fn writes_step(request: &simulator::Request, step: &str) -> bool {
    let word = format!("\"step\":\"{step}\"");
    request.method == "PUT" && request.params.get("comment").is_some_and(|comment| comment.contains(&word))
}

fn refuse() -> Action {
    Action::Refuse(500, "out of order".into())
}

fn fail(late: bool) -> Action {
    Action::FailTask { message: "something broke".into(), late }
}

fn has(rule: Rule, key: &'static str, value: &'static str) -> Rule {
    rule.params(move |params| params.get(key).is_some_and(|is| is == value))
}

const POOLS: &str = "/pools";
const CONFIG: &str = "/nodes/*/qemu/*/config";
const SHUTDOWN: &str = "/nodes/*/status/shutdown";
const BACKUP: &str = "/nodes/*/vzdump";
const RESTORE: &str = "/nodes/*/qemu";
const START: &str = "/nodes/*/status/start";
const ARCHIVES: &str = "/nodes/*/storage/transfer/content";

#[test]
fn every_step_before_live_that_fails_is_taken_back() {
    let on = |cluster: &str, method: &str, path: &str, action: Action| Rule::on(method, path, action).cluster(cluster);
    let rows: Vec<(&str, Rule)> = vec![
        ("the operation can't be taken", on(FROM, "POST", POOLS, refuse())),
        ("the operation can't be taken on the target", on(TO, "POST", POOLS, refuse())),
        ("HA can't be set aside", on(FROM, "PUT", "/cluster/ha/resources/*", refuse()).nth(Nth::Only(1))),
        ("shutdown refused", on(FROM, "POST", SHUTDOWN, refuse())),
        ("shutdown fails", on(FROM, "POST", SHUTDOWN, fail(false))),
        ("shutdown's answer lost", on(FROM, "POST", SHUTDOWN, Action::DropAnswer)),
        ("onboot refused", has(on(FROM, "PUT", CONFIG, refuse()), "onboot", "0")),
        ("onboot's answer lost", has(on(FROM, "PUT", CONFIG, Action::DropAnswer), "onboot", "0")),
        ("backup refused", on(FROM, "POST", BACKUP, refuse())),
        ("backup fails early", on(FROM, "POST", BACKUP, fail(false))),
        ("backup fails late", on(FROM, "POST", BACKUP, fail(true))),
        ("backup's answer lost", on(FROM, "POST", BACKUP, Action::DropAnswer)),
        ("transfer storage full", on(FROM, "POST", BACKUP, Action::FillStorage("transfer".into()))),
        ("fence refused", has(on(FROM, "PUT", CONFIG, refuse()), "template", "1")),
        ("fence's answer lost", has(on(FROM, "PUT", CONFIG, Action::DropAnswer), "template", "1")),
        ("archive not seen", on(TO, "GET", ARCHIVES, refuse())),
        ("restore refused", on(TO, "POST", RESTORE, refuse())),
        ("restore fails early", on(TO, "POST", RESTORE, fail(false))),
        ("restore fails late", on(TO, "POST", RESTORE, fail(true))),
        ("restore's answer lost", on(TO, "POST", RESTORE, Action::DropAnswer)),
        ("target storage full", on(TO, "POST", RESTORE, Action::FillStorage("zfs-pool".into()))),
        ("live can't be written", step("live", refuse())),
    ];
    for (about, rule) in rows {
        let mut scene = Scene::with("platform", GONE);
        scene.world.cluster(FROM).set_ha(machine().vmid(), Some("started"));
        scene.before = scene.world.vm(FROM, NAME);
        let faulty = scene.world.fault(rule);
        let failed = scene.workspace.apply();
        assert!(scene.world.fault_hits(faulty) > 0, "{about}: never happened\n{}", failed.text());
        let newest = scene.newest();
        scene.without_faults();
        scene.world.cluster(FROM).make_room("transfer");
        scene.world.cluster(TO).make_room("zfs-pool");
        if failed.code != 0 {
            assert_eq!(failed.code, 1, "{about}");
            let wrong = machine().settled_on(&scene.world, &scene.before, FROM, newest, false);
            assert_eq!(wrong, Vec::<String>::new(), "{about}\n{}", failed.text());
            assert_eq!(scene.world.cluster(FROM).ha_state(machine().vmid()).as_deref(), Some("started"), "{about}");
            scene.workspace.plan().expect(2);
            scene.workspace.apply().expect(0);
        }
        scene.converges_on(TO, false, about);
        assert_eq!(scene.world.cluster(TO).ha_state(machine().vmid()).as_deref(), Some("started"), "{about}");
    }
}

#[test]
fn every_step_after_live_that_fails_is_finished_by_the_next_apply() {
    let on = |cluster: &str, method: &str, path: &str, action: Action| Rule::on(method, path, action).cluster(cluster);
    let archive = "/nodes/*/storage/transfer/content/*";
    let source = "/nodes/*/qemu/*";
    let with = |rule: Rule, key: &'static str| rule.params(move |params| params.contains_key(key));
    let retired =
        |rule: Rule| rule.params(|params| params.get("description").is_some_and(|notes| notes.contains("RETIRED")));
    let rows: Vec<(&str, &str, Rule)> = vec![
        ("live can't be written on the target", GONE, on(TO, "PUT", POOLS, refuse())),
        ("live's answer lost", GONE, step("live", Action::DropAnswer)),
        ("links can't go up", GONE, with(on(TO, "PUT", CONFIG, refuse()), "net0")),
        ("start refused", GONE, on(TO, "POST", START, refuse())),
        ("start fails", GONE, on(TO, "POST", START, fail(false))),
        ("start fails late", GONE, on(TO, "POST", START, fail(true))),
        ("start's answer lost", GONE, on(TO, "POST", START, Action::DropAnswer)),
        ("notes can't be written", GONE, with(on(TO, "PUT", CONFIG, refuse()), "description")),
        ("archive stays protected", GONE, on(FROM, "PUT", archive, refuse())),
        ("archive can't be removed", GONE, on(FROM, "DELETE", archive, refuse())),
        ("source can't be removed", GONE, on(FROM, "DELETE", source, refuse())),
        ("source's removal fails", GONE, on(FROM, "DELETE", source, fail(false))),
        ("source's removal's answer lost", GONE, on(FROM, "DELETE", source, Action::DropAnswer)),
        ("source can't be noted as retired", KEPT, retired(on(FROM, "PUT", CONFIG, refuse()))),
        ("operation stays on the source", GONE, on(FROM, "DELETE", POOLS, refuse())),
        ("operation stays on the target", GONE, on(TO, "DELETE", POOLS, refuse())),
    ];
    for (about, migration, rule) in rows {
        let scene = Scene::with("app", migration);
        let faulty = scene.world.fault(rule);
        let failed = scene.workspace.apply();
        assert!(scene.world.fault_hits(faulty) > 0, "{about}: never happened\n{}", failed.text());
        // The target may have written: it stays, and the source is fenced or gone.
        let copies = scene.world.copies(&machine().uuid());
        assert!(copies.iter().any(|vm| vm.cluster == TO), "{about}: the target is gone\n{}", failed.text());
        let fenced = |vm: &VmSnapshot| vm.cluster != FROM || (vm.template && !vm.running);
        assert!(copies.iter().all(fenced), "{about}: {:?}", copies.iter().map(in_words).collect::<Vec<_>>());
        if failed.code != 0 {
            scene.workspace.plan().expect(2);
        }
        scene.without_faults();
        scene.converges_on(TO, migration == KEPT, about);
    }
}

#[test]
fn health_failure_after_one_write_on_the_target() {
    for migration in [UNWELL, RETURNED] {
        let scene = Scene::with("app", migration);
        let (target, vmid) = (scene.world.cluster(TO), machine().vmid());
        let written = std::sync::Arc::new(std::sync::Mutex::new(None));
        let record = written.clone();
        let write = move |_: &Matched| *record.lock().expect("it") = target.guest_write(vmid);
        scene.world.fault(step("health", Action::call(write)));
        let failed = scene.workspace.apply().expect(1).says("127.0.0.1:9");
        scene.newest();
        let written = *written.lock().expect("it");
        assert!(written.is_some(), "the target ran and wrote\n{}", failed.text());
        let copies = scene.world.copies(&machine().uuid());
        let target = copies.iter().find(|vm| vm.cluster == TO).expect("the target stays");
        let of = |vm: &VmSnapshot| vm.disks.iter().map(|disk| disk.newest).max();
        assert!(of(target) >= written, "the target holds what it wrote\n{}", failed.text());
        let state = &scene.workspace.state()["moxxie_virtual_machine.shop"];
        if migration == UNWELL {
            assert!(target.running && state["cluster"] == TO, "{}", in_words(target));
            scene.workspace.plan().expect(2).says("unfinished operation");
            scene.workspace.edit("main.tf", migration, GONE);
            scene.converges_on(TO, false, "without health");
            continue;
        }
        assert!(failed.flat().contains("may hold what the machine wrote"), "{}", failed.text());
        assert!(target.template && !target.running, "{}", in_words(target));
        assert_eq!(state["cluster"], FROM, "state says where the machine is");
        assert_eq!(state["retired_copies"][0]["cluster"], TO);
        // Wanted there still: the plan moves it again and says what happened.
        let plan = scene.workspace.plan().expect(2).says("was returned");
        assert!(plan.flat().contains("gets another VMID"), "{}", plan.text());
        wanted_on(&scene.workspace, TO, FROM);
        scene.converges_on(FROM, Left::Copy, "wanted back");
        scene.workspace.plan().expect(0).says("was returned");
        scene.workspace.destroy().expect(0);
        scene.world.assert_clean();
    }
}

#[test]
fn every_step_of_a_return_that_fails_is_finished_by_the_next_apply() {
    let on = |cluster: &str, method: &str, path: &str, action: Action| Rule::on(method, path, action).cluster(cluster);
    let with = |rule: Rule, key: &'static str| rule.params(move |params| params.contains_key(key));
    let rows: Vec<(&str, Rule)> = vec![
        ("halt can't be written", step("halt", refuse())),
        ("shutdown refused", on(TO, "POST", SHUTDOWN, refuse())),
        ("shutdown fails", on(TO, "POST", SHUTDOWN, fail(false))),
        ("shutdown's answer lost", on(TO, "POST", SHUTDOWN, Action::DropAnswer)),
        ("fence refused", has(on(TO, "PUT", CONFIG, refuse()), "template", "1")),
        ("fence's answer lost", has(on(TO, "PUT", CONFIG, Action::DropAnswer), "template", "1")),
        ("returned can't be written", step("returned", refuse())),
        ("returned can't be written on the target", on(TO, "PUT", POOLS, refuse()).nth(Nth::Only(2))),
        ("copy can't be noted", with(on(TO, "PUT", CONFIG, refuse()), "description")),
        ("source can't be unfenced", has(on(FROM, "PUT", CONFIG, refuse()), "delete", "template")),
        ("unfencing's answer lost", has(on(FROM, "PUT", CONFIG, Action::DropAnswer), "delete", "template")),
        ("source's start fails", on(FROM, "POST", START, fail(false))),
        ("archive can't be removed", on(FROM, "DELETE", "/nodes/*/storage/transfer/content/*", refuse())),
        ("operation stays on the target", on(TO, "DELETE", POOLS, refuse())),
        ("operation stays on the source", on(FROM, "DELETE", POOLS, refuse())),
    ];
    for (about, rule) in rows {
        let scene = Scene::with("app", RETURNED);
        let faulty = scene.world.fault(rule);
        let failed = scene.workspace.apply().expect(1);
        assert!(scene.world.fault_hits(faulty) > 0, "{about}: never happened\n{}", failed.text());
        scene.workspace.plan().expect(2);
        scene.without_faults();
        wanted_on(&scene.workspace, TO, FROM);
        scene.converges_on(FROM, Left::Copy, about);
    }
}

#[test]
fn started_by_hand_while_it_is_returned() {
    for at in ["halt", "disown", "returned", "revive"] {
        let scene = Scene::with("app", RETURNED);
        let (clusters, vmid) = ([scene.world.cluster(FROM), scene.world.cluster(TO)], machine().vmid());
        let by_hand = move |_: &Matched| {
            for cluster in &clusters {
                // The fences refuse it where another copy may run.
                let _ = cluster.start(vmid);
                cluster.guest_write(vmid);
            }
        };
        scene.world.fault(step(at, Action::call(by_hand)));
        scene.workspace.apply().expect(1);
        scene.newest();
        scene.without_faults();
        wanted_on(&scene.workspace, TO, FROM);
        scene.converges_on(FROM, Left::Copy, &format!("started by hand before {at}"));
    }
}

#[test]
fn destroy_with_a_half_done_return() {
    for at in ["health", "halt", "returned", "revive"] {
        let scene = Scene::with("app", RETURNED);
        scene.world.fault(step(at, refuse()));
        scene.workspace.apply().expect(1);
        scene.without_faults();
        scene.workspace.destroy().expect(0);
        scene.world.assert_clean();
    }
}

#[test]
fn a_taken_over_holder_that_wakes_up_is_refused_by_its_digest() {
    let scene = Scene::with("app", KEPT);
    let state = std::fs::read(scene.workspace.root().join("terraform.tfstate")).expect("the state");
    scene.workspace.write("b.tfstate", &state);
    // Held between reading the source's configuration and unfencing it: the undo of a move whose restore failed.
    scene.world.fault(Rule::on("POST", RESTORE, refuse()).cluster(TO).nth(Nth::Only(1)));
    let (held, reached) = std::sync::mpsc::channel();
    let (wake, woken) = std::sync::mpsc::channel::<()>();
    let (held, woken) = (std::sync::Mutex::new(held), std::sync::Mutex::new(woken));
    let sleep = move |_: &Matched| {
        let _ = held.lock().expect("the sender").send(());
        let _ = woken.lock().expect("the receiver").recv_timeout(Duration::from_secs(120));
    };
    let rule = has(Rule::on("PUT", CONFIG, Action::call(sleep)).cluster(FROM), "delete", "template");
    scene.world.fault(rule.nth(Nth::Only(1)));
    let mut first = scene.workspace.start(&APPLY, "first");
    reached.recv_timeout(Duration::from_secs(120)).expect("the first apply comes to unfencing");
    // Its lease is over, and a second one takes over and moves the machine.
    scene.workspace.edit("main.tf", "provider \"moxxie\" {", "provider \"moxxie\" {\n  operation_lease = \"0s\"");
    scene.world.clear_requests();
    scene.workspace.run(&[&APPLY[..], &["-lock=false", "-state=b.tfstate"]].concat()).expect(0);
    let newest = scene.newest();
    // The first thing it wrote on the machine was its epoch, which voids the digest that the first one has read.
    let requests = scene.world.requests();
    let config = |request: &&simulator::Request| request.method == "PUT" && request.path.ends_with("/config");
    let first_write = requests.iter().find(config).expect("it writes");
    assert!(first_write.params["description"].contains("\"epoch\":1"), "{first_write:?}");
    wake.send(()).expect("it is still held");
    wait_for(&mut first);
    let said = scene.workspace.output("first");
    assert!(said.contains("file change by other user"), "{said}");
    let copies = scene.world.copies(&machine().uuid());
    assert_eq!(copies.iter().filter(|vm| vm.running).count(), 1, "{}", scene.workspace.output("first"));
    assert!(copies.iter().any(|vm| vm.running && vm.disks.iter().any(|disk| disk.newest >= newest)));
    let source = scene.world.vm(FROM, NAME);
    assert!(source.template && !source.running, "the retired source stays fenced: {}", in_words(&source));
    assert_eq!(scene.watch.wrongs(), Vec::<String>::new());
}

#[test]
fn a_failed_restore_that_the_token_may_not_remove_is_named() {
    let scene = Scene::new();
    scene.world.fault(Rule::on("POST", RESTORE, fail(false)).cluster(TO));
    let vmid = machine().vmid();
    scene.workspace.apply().expect(1).says(&format!("qm destroy {vmid}"));
    assert_eq!(scene.world.litter(), [format!("{TO}: VM {vmid} is a stub")]);
    assert!(scene.world.vm(FROM, NAME).running);
    scene.without_faults();
    scene.world.cluster(TO).remove_vm(vmid);
    scene.converges_on(TO, false, "after the operator removed it");
}

/// An orphan volume of the machine's VMID on the target, which no configuration names.
fn orphan(world: &SimulatedWorld) -> (VmSnapshot, impl Fn() -> bool + use<>) {
    let (vmid, target) = (machine().vmid(), world.cluster(TO));
    let config = [("name", "other"), ("scsi0", "zfs-pool:1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let guest = GuestSpec { vmid, node: "db1".into(), config: config.into(), pool: None, running: false };
    target.create_vm(&guest).expect("a guest");
    let made = target.vm(vmid).expect("the guest");
    target.set_config(vmid, "scsi0", None);
    target.remove_vm(vmid);
    let volid = made.disks[0].volid.clone();
    let there = move || target.volumes().iter().any(|volume| volume.volid == volid);
    assert!(there());
    (made, there)
}

#[test]
fn foreign_volume_of_the_target_vmid_is_refused_and_never_freed() {
    // Seen by preflight.
    let scene = Scene::with("platform", GONE);
    let (_, there) = orphan(&scene.world);
    scene.world.clear_requests();
    scene.workspace.apply().expect(1).says("holds volumes of VMID");
    assert!(scene.world.writes().is_empty(), "{:?}", scene.world.writes());
    assert!(there());
    // Between preflight and restore.
    drop(scene);
    let number = number_of("platform", GONE, |request| writes_step(request, "restore"));
    let scene = Scene::with("platform", GONE);
    let mut gate = scene.world.gate(number, true);
    let mut run = scene.workspace.start(&APPLY, "held");
    while gate.try_recv().is_err() {
        std::thread::sleep(Duration::from_millis(5));
        assert!(run.try_wait().expect("its state").is_none(), "{}", scene.workspace.output("held"));
    }
    let (foreign, there) = orphan(&scene.world);
    // The answer is lost, and the journal is written again.
    scene.world.release();
    assert_eq!(wait_for(&mut run), 1);
    let said = scene.workspace.output("held");
    assert!(said.contains(&foreign.disks[0].volid), "it is named: {said}");
    assert!(there(), "the undo freed it");
    let source = scene.world.vm(FROM, NAME);
    assert!(source.running && !source.template, "the source runs again");
    scene.workspace.apply().expect(1);
    assert!(there(), "the next undo freed it");
    // Its owner takes it back.
    let vmid = machine().vmid();
    let unused = scene.world.cluster(TO).vm(vmid).expect("the half-done target").config;
    let slot = unused.iter().find(|(_, volid)| **volid == foreign.disks[0].volid).expect("taken in").0.clone();
    scene.world.cluster(TO).set_config(vmid, &slot, None);
    scene.workspace.apply();
    assert!(there(), "the end of the undo freed it");
    assert!(scene.world.cluster(TO).free_volume("db1", &foreign.disks[0].volid));
    scene.converges_on(TO, false, "without the foreign volume");
}

const STEPS: [&str; 12] = [
    "shutdown", "onboot", "backup", "fence", "transfer", "restore", "spread", "verify", "live", "start", "commit",
    "retire",
];

#[test]
fn start_by_hand_between_every_two_steps() {
    for at in STEPS {
        let scene = Scene::new();
        let (source, vmid) = (scene.world.cluster(FROM), machine().vmid());
        let by_hand = move |_: &Matched| {
            // Refused by the fence from a certain step on; the guest writes where it isn't.
            let _ = source.start(vmid);
            source.guest_write(vmid);
        };
        scene.world.fault(step(at, Action::call(by_hand)));
        scene.workspace.apply();
        scene.newest();
        scene.without_faults();
        scene.converges_on(TO, false, &format!("started by hand before {at}"));
    }
}

#[test]
fn start_by_hand_during_the_final_backup() {
    for stopped_again in [false, true] {
        for look in 1..=4 {
            let scene = Scene::new();
            let (source, vmid) = (scene.world.cluster(FROM), machine().vmid());
            let by_hand = move |_: &Matched| {
                let _ = source.start(vmid);
                source.guest_write(vmid);
                if stopped_again {
                    source.stop(vmid);
                }
            };
            let rule = Rule::on("GET", "/nodes/*/tasks/*vzdump*/status", Action::call(by_hand));
            scene.world.fault(rule.cluster(FROM).nth(Nth::Only(look)));
            scene.workspace.apply();
            scene.newest();
            scene.without_faults();
            let about = format!("started by hand at look {look}, stopped again: {stopped_again}");
            scene.converges_on(TO, false, &about);
        }
    }
}

#[test]
fn node_reboot_of_source_or_target_at_every_step_with_onboot() {
    for (cluster, node) in [(FROM, "ws1"), (TO, "db1")] {
        for at in STEPS {
            let scene = Scene::new();
            let handle = scene.world.cluster(cluster);
            let reboot = move |_: &Matched| {
                handle.power_node(node, NodePower::Off);
                handle.power_node(node, NodePower::On);
            };
            scene.world.fault(step(at, Action::call(reboot)));
            scene.workspace.apply();
            scene.newest();
            scene.without_faults();
            scene.converges_on(TO, false, &format!("{node} of {cluster} rebooted before {at}"));
        }
    }
}

#[test]
fn two_applies_one_alive_one_dead() {
    let scene = Scene::new();
    let state = std::fs::read(scene.workspace.root().join("terraform.tfstate")).expect("the state");
    for copy in ["b.tfstate", "c.tfstate"] {
        scene.workspace.write(copy, &state);
    }
    let with = |state: &'static str| [&APPLY[..], &["-lock=false", state]].concat();
    let hang = scene.world.fault(Rule::on("POST", BACKUP, Action::Hang { executed: true }).nth(Nth::Only(1)));
    let mut first = scene.workspace.start(&APPLY, "first");
    while scene.world.fault_hits(hang) == 0 {
        assert!(first.try_wait().expect("its state").is_none(), "{}", scene.workspace.output("first"));
        std::thread::sleep(Duration::from_millis(10));
    }
    scene.world.clear_requests();
    let second = scene.workspace.run(&with("-state=b.tfstate")).expect(1);
    assert!(second.flat().contains("is under way"), "{}", second.text());
    assert!(second.flat().contains(" on "), "it names the holder: {}", second.text());
    assert!(scene.world.writes().iter().all(|write| write.ends_with("POST /pools")), "{:?}", scene.world.writes());
    // The holder dies, and two come at once.
    kill_providers(first.id());
    scene.world.cut_connections();
    wait_for(&mut first);
    scene.without_faults();
    scene.world.clear_requests();
    let mut both = [("-state=b.tfstate", "b"), ("-state=c.tfstate", "c")]
        .map(|(state, name)| scene.workspace.start(&with(state), name));
    let codes = [wait_for(&mut both[0]), wait_for(&mut both[1])];
    let said = format!("{}\n{}", scene.workspace.output("b"), scene.workspace.output("c"));
    assert!(codes.contains(&0), "{said}");
    let taken = scene.world.requests();
    let taken = taken.iter().filter(|request| {
        let pool = request.params.get("poolid").map(String::as_str).unwrap_or_default();
        request.method == "POST" && request.status == 200 && pool.ends_with("/e1")
    });
    assert_eq!(taken.count(), 1, "exactly one takes over: {said}");
    scene.converges_on(TO, false, "after both");
}

#[test]
fn clone_of_the_machine_made_in_the_middle_is_nobodys() {
    for (at, fails) in [("restore", false), ("verify", true), ("retire", false)] {
        let scene = Scene::with("platform", GONE);
        let clusters = [scene.world.cluster(FROM), scene.world.cluster(TO)];
        let vmid = machine().vmid();
        let clone = move |_: &Matched| {
            for (handle, node, storage) in [(&clusters[0], "ws1", "ceph-pool"), (&clusters[1], "db1", "zfs-pool")] {
                let Some(vm) = handle.vm(vmid) else { continue };
                let mut config = vm.config.clone();
                config.retain(|key, _| ["description", "tags", "onboot", "memory"].contains(&key.as_str()));
                config.insert("name".into(), NAME.into());
                config.insert("scsi0".into(), format!("{storage}:1"));
                let pool = Some("production-pool".to_owned());
                handle
                    .create_vm(&GuestSpec { vmid: 900, node: node.into(), config, pool, running: true })
                    .expect("a clone");
            }
        };
        scene.world.fault(step(at, Action::call(clone)));
        if fails {
            scene.world.fault(Rule::on("GET", CONFIG, refuse()).cluster(TO).nth(Nth::Only(1)));
        }
        scene.workspace.apply();
        scene.without_faults();
        for _ in 0..2 {
            scene.workspace.apply();
        }
        scene.workspace.plan().expect(0);
        let clones: Vec<_> = scene.world.clusters().iter().filter_map(|cluster| cluster.vm(900)).collect();
        assert!(!clones.is_empty() && clones.iter().all(|vm| vm.running), "a clone made before {at} was touched");
        let state = &scene.workspace.state()["moxxie_virtual_machine.shop"];
        assert_eq!(state["id"].as_str(), Some(machine().uuid().as_str()));
        assert_eq!(scene.world.running_copies(&machine().uuid()).len(), 1);
    }
}

#[test]
fn retired_copy_and_machine_deleted_by_hand() {
    let scene = Scene::with("app", KEPT);
    scene.workspace.apply().expect(0);
    scene.world.cluster(TO).remove_vm(machine().vmid());
    scene.world.clear_requests();
    let plan = scene.workspace.plan();
    assert!(plan.flat().contains("import id"), "the copies are named: {}", plan.text());
    assert!(!plan.flat().contains("will be created"), "{}", plan.text());
    scene.workspace.apply();
    assert_eq!(scene.world.writes(), Vec::<String>::new());
    let copy = scene.world.vm(FROM, NAME);
    assert!(copy.template && !copy.running, "the stale copy is not brought back to life: {}", in_words(&copy));
}

#[test]
fn config_reverted_after_a_kill() {
    for (at, kept_going) in
        [("backup", false), ("restore", false), ("verify", false), ("start", true), ("retire", true)]
    {
        let number = number_of("app", GONE, |request| writes_step(request, at));
        let scene = Scene::new();
        let killed = scene.workspace.killed_at(&scene.world, &APPLY, number, true, || {});
        assert!(matches!(killed, Killed::At(_)), "{at} was never reached");
        wanted_on(&scene.workspace, TO, FROM);
        let plan = scene.workspace.plan().expect(2);
        assert!(plan.flat().contains("unfinished operation"), "{}", plan.text());
        scene.converges_on(FROM, false, &format!("reverted after a kill at {at} (past live: {kept_going})"));
    }
}

#[test]
fn destroy_with_a_half_done_move() {
    for at in ["shutdown", "backup", "transfer", "verify", "live", "commit", "retire"] {
        for migration in [GONE, KEPT] {
            let number = number_of("app", migration, |request| writes_step(request, at));
            let scene = Scene::with("app", migration);
            scene.workspace.killed_at(&scene.world, &APPLY, number, true, || {});
            scene.workspace.destroy().expect(0);
            scene.world.assert_clean();
        }
    }
}

#[test]
fn kill_after_live_then_target_dark() {
    let number = number_of("app", GONE, |request| request.cluster == TO && request.path.ends_with("/status/start"));
    let scene = Scene::new();
    let killed = scene.workspace.killed_at(&scene.world, &APPLY, number + 1, true, || {});
    assert!(matches!(killed, Killed::At(_)));
    scene.world.wait(scene.world.cluster(TO).set_dark(true));
    scene.workspace.plan().expect(2).says("0 to add, 1 to change, 0 to destroy");
    scene.workspace.apply().expect(1);
    let source = scene.world.vm(FROM, NAME);
    assert!(source.template && !source.running, "the source is not started: {}", in_words(&source));
    scene.world.wait(scene.world.cluster(TO).set_dark(false));
    scene.converges_on(TO, false, "once the target is back");
}

#[test]
fn dr_copy_with_same_uuid_while_the_site_is_dark() {
    let scene = Scene::new();
    wanted_on(&scene.workspace, TO, FROM);
    let mut config = scene.before.config.clone();
    config.retain(|key, _| ["smbios1", "description", "memory", "name"].contains(&key.as_str()));
    config.insert("scsi0".into(), "zfs-pool:1".into());
    let guest =
        GuestSpec { vmid: 777, node: "db1".into(), config, pool: Some("production-pool".into()), running: false };
    scene.world.cluster(TO).create_vm(&guest).expect("a DR copy");
    scene.world.wait(scene.world.cluster(FROM).set_dark(true));
    scene.world.clear_requests();
    scene.workspace.plan().expect(0).says("not refreshed");
    assert_eq!(scene.world.writes(), Vec::<String>::new());
    scene.world.wait(scene.world.cluster(FROM).set_dark(false));
    scene.workspace.plan().expect(0);
    let state = &scene.workspace.state()["moxxie_virtual_machine.shop"];
    assert_eq!(state["cluster"], FROM);
}

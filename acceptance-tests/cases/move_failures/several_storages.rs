//! A machine on several storages: one restore takes one storage, so that volumes move on from there before the target runs.
use simulator::World;

use super::*;
use crate::moving::{Layout, SPREAD, THERE};

const MOVE: &str = "/nodes/*/qemu/*/move_disk";
const MOVING: &str = "/nodes/*/tasks/*qmmove*/status";

fn spread() -> &'static Machine {
    static MADE: [OnceLock<Machine>; 2] = [const { OnceLock::new() }; 2];
    let cli = cli();
    MADE[cli.kind as usize].get_or_init(|| Machine::made_with(&cli, Layout::ThreeStorages))
}

fn on_target(method: &str, path: &str, action: Action) -> Rule {
    Rule::on(method, path, action).cluster(TO)
}

/// Volumes of the machine's VMID on the target that are in no configuration.
fn orphans(scene: &Scene) -> Vec<String> {
    let litter = scene.world.litter().into_iter();
    litter.filter(|line| line.contains("is in no configuration")).collect()
}

const LOOKED_AT: &str = r#"
data "moxxie_migration_plan" "shop" {
  machine = "shop-db"
  target  = "databarn-dr"
}
output "plan" { value = data.moxxie_migration_plan.shop }
"#;

#[test]
fn a_machine_on_three_storages_moves_to_three_others_with_every_byte() {
    let world = spread().world();
    // As a plan of its own shows it, before.
    let looking = world.workspace(&cli(), std::path::Path::new(crate::moving::PROVIDER), "app");
    looking.write_main(LOOKED_AT).write("multi-site.yaml", Layout::ThreeStorages.yaml());
    looking.apply().expect(0);
    let state = std::fs::read(looking.root().join("terraform.tfstate")).expect("the state");
    let state: serde_json::Value = serde_json::from_slice(&state).expect("JSON");
    let plan = state["outputs"]["plan"]["value"].clone();
    assert_eq!(plan["restore_storage"], THERE[1], "{plan}");
    let (gib, mib) = (1u64 << 30, 1u64 << 20);
    // Three disks but the largest, the EFI variables, TPM state, and the cloud-init drive.
    let again = 3 * gib + (528 << 10) + 4 * mib + 4 * mib;
    assert_eq!(plan["bytes_copied_again"].as_u64(), Some(again), "{plan}");
    let steps = plan["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["step"] == "spread"), "{steps:?}");
    drop(looking);

    let scene = Scene::in_world(spread(), world, "app", GONE);
    scene.world.clear_requests();
    scene.workspace.apply().expect(0);
    let calls = scene.world.requests();
    let restore = calls.iter().find(|call| call.cluster == TO && call.method == "POST" && call.path.ends_with("/qemu"));
    assert_eq!(restore.expect("a restore").params["storage"], THERE[1]);
    let moved: Vec<(&str, &str)> = calls
        .iter()
        .filter(|call| call.path.ends_with("/move_disk"))
        .map(|call| (call.params["disk"].as_str(), call.params["storage"].as_str()))
        .collect();
    let mut expected: Vec<(&str, &str)> =
        SPREAD.iter().filter(|(_, at)| *at != 1).map(|(slot, at)| (*slot, THERE[*at])).collect();
    expected.sort_unstable();
    assert_eq!(moved, expected);
    let at = |end: &str| calls.iter().rposition(|call| call.cluster == TO && call.path.ends_with(end));
    assert!(at("/move_disk") < at("/status/start"), "all are moved before it starts");
    scene.converges_on(TO, false, "moved");
    scene.workspace.plan().expect(0);
    // And back, where the restore goes to a storage of another kind.
    wanted_on(&scene.workspace, TO, FROM);
    scene.workspace.apply().expect(0);
    scene.converges_on(FROM, false, "moved back");
}

const UNANSWERED: &str = "its answer is lost";
const CHANGED: &str = "somebody changes the target before it is compared";

#[test]
fn every_way_in_which_a_move_between_storages_fails_is_taken_back() {
    let nth = |nth: Nth, action: Action| on_target("POST", MOVE, action).nth(nth);
    let rows: Vec<(&str, Rule)> = vec![
        ("spread can't be written", step("spread", refuse())),
        ("refused", on_target("POST", MOVE, refuse())),
        ("the first fails", nth(Nth::Only(1), fail(false))),
        ("the third fails", nth(Nth::Only(3), fail(false))),
        ("all fail from the second on", nth(Nth::From(2), fail(false))),
        ("fails once the bytes are copied", nth(Nth::Only(2), fail(true))),
        (UNANSWERED, nth(Nth::Only(1), Action::DropAnswer)),
        ("it is lost", nth(Nth::Only(2), Action::DropBefore)),
        ("a storage is full", on_target("POST", MOVE, Action::FillStorage(THERE[2].into()))),
        (CHANGED, step("verify", Action::call(|_| {}))),
    ];
    for (about, rule) in rows {
        let scene = Scene::of(spread(), "app", GONE);
        let faulty = scene.world.fault(rule);
        if about == CHANGED {
            let (target, vmid) = (scene.world.cluster(TO), scene.machine.vmid());
            let change = Action::call(move |_| target.set_config(vmid, "cores", Some("7")));
            scene.world.fault(step("verify", change));
        }
        let failed = scene.workspace.apply();
        assert!(scene.world.fault_hits(faulty) > 0, "{about}: never happened\n{}", failed.text());
        let newest = scene.newest();
        scene.without_faults();
        scene.world.cluster(TO).make_room(THERE[2]);
        // Where the answer is lost the configuration tells that it was moved.
        if about != UNANSWERED {
            let failed = failed.expect(1).says("the move was taken back");
            let wrong = scene.machine.settled_on(&scene.world, &scene.before, FROM, newest, false);
            assert_eq!(wrong, Vec::<String>::new(), "{about}\n{}", failed.text());
            scene.workspace.plan().expect(2);
            scene.workspace.apply().expect(0);
        }
        scene.converges_on(TO, false, about);
    }
}

/// A volume is being copied on the target when its node goes down.
fn node_down_during(slot: usize) -> (Scene, harness::Run) {
    let scene = Scene::of(spread(), "platform", GONE);
    let (target, vmid) = (scene.world.cluster(TO), scene.machine.vmid());
    let down = move |_: &Matched| {
        let node = target.vm(vmid).expect("the target").node;
        target.power_node(&node, NodePower::Off);
        target.power_node(&node, NodePower::On);
    };
    let storage = THERE[slot];
    // Looks at the task, once its move was begun.
    let looks = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = looks.clone();
    let begun = Action::call(move |_: &Matched| *seen.lock().expect("it") = Some(0));
    scene.world.fault(has(on_target("POST", MOVE, begun), "storage", storage).nth(Nth::Only(1)));
    let look = Action::call(move |matched: &Matched| {
        let mut looks = looks.lock().expect("it");
        let Some(n) = looks.as_mut() else { return };
        *n += 1;
        // At the second one the copy is there, and not whole.
        if *n == 2 {
            down(matched);
        }
    });
    scene.world.fault(on_target("GET", MOVING, look));
    let failed = scene.workspace.apply();
    scene.without_faults();
    (scene, failed)
}

#[test]
fn what_a_killed_move_between_storages_leaves_is_removed_where_its_log_names_it_and_named_where_it_doesnt() {
    // Files: the log names the copy.
    let (scene, failed) = node_down_during(2);
    let failed = failed.expect(1).says("unexpected status").says("the move was taken back");
    let wrong = scene.machine.settled_on(&scene.world, &scene.before, FROM, scene.newest(), false);
    assert_eq!(wrong, Vec::<String>::new(), "{}", failed.text());
    scene.converges_on(TO, false, "after the node came back");
    drop(scene);
    // ZFS is silent: whose it is can't be proved, so that it stays, and a person is told.
    let (scene, failed) = node_down_during(0);
    let failed = failed.expect(1).says("unexpected status").says("the move was taken back");
    let left = orphans(&scene);
    assert_eq!(left.len(), 1, "{left:?}\n{}", failed.text());
    let volume = format!("{}:vm-{}-", THERE[0], scene.machine.vmid());
    assert!(failed.flat().contains(&format!("pvesm free {volume}")), "{}", failed.text());
    assert!(scene.world.vm(FROM, NAME).running);
    scene.workspace.apply().expect(1).says("foreign_volumes").says(&volume);
    let target = scene.world.cluster(TO);
    let orphan = target.volumes().into_iter().find(|one| one.volid.starts_with(&volume)).expect("it");
    assert!(target.free_volume(orphan.node.as_deref().unwrap_or("db1"), &orphan.volid));
    scene.converges_on(TO, false, "without what was left");
}

#[test]
fn a_move_between_storages_that_was_killed_with_its_provider_is_made_again() {
    for (disk, named) in [("scsi2", true), ("scsi0", false)] {
        let number = {
            let scene = Scene::of(spread(), "platform", GONE);
            scene.world.clear_requests();
            scene.workspace.apply().expect(0);
            let calls = scene.world.requests();
            let of = |call: &simulator::Request| call.params.get("disk").is_some_and(|slot| slot == disk);
            let posted = calls.iter().position(|call| call.path.ends_with("/move_disk") && of(call)).expect("its move");
            // Its second look, when the copy is there.
            let looked = calls.iter().enumerate().skip(posted).filter(|(_, call)| call.path.contains(":qmmove:"));
            looked.map(|(n, _)| n).nth(1).expect("two looks") as u64 + 1
        };
        let scene = Scene::of(spread(), "platform", GONE);
        let killed = scene.workspace.killed_at(&scene.world, &APPLY, number, false, || {});
        assert!(matches!(killed, Killed::At(_)));
        let target = scene.world.cluster(TO);
        let node = target.vm(scene.machine.vmid()).expect("the target").node;
        target.power_node(&node, NodePower::Off);
        target.power_node(&node, NodePower::On);
        assert_eq!(orphans(&scene).len(), 1, "the copy is left: {:?}", scene.world.litter());
        scene.without_faults();
        let finished = scene.workspace.apply().expect(0);
        let left = orphans(&scene);
        if !named {
            assert_eq!(left.len(), 1, "{left:?}");
            let free = format!("pvesm free {}:vm-{}-", THERE[0], scene.machine.vmid());
            assert!(finished.flat().contains(&free), "{}", finished.text());
            let volumes = target.volumes().into_iter().map(|one| one.volid);
            let vm = scene.world.vm(TO, NAME);
            let orphan = volumes
                .filter(|volid| volid.starts_with(THERE[0]))
                .find(|volid| !vm.config.values().any(|line| line.starts_with(&format!("{volid},"))));
            assert!(target.free_volume(&node, &orphan.expect("the orphan")));
        }
        scene.converges_on(TO, false, &format!("{disk}: made again"));
    }
}

#[test]
fn an_old_volume_that_proxmox_could_not_remove_is_removed_or_named() {
    for role in ["platform", "app"] {
        let scene = Scene::of(spread(), role, GONE);
        let (away, back) = (scene.world.cluster(TO), scene.world.cluster(TO));
        // Off line while the first move ends, and on line again before the second.
        scene.world.fault(
            on_target("GET", MOVING, Action::call(move |_| away.set_storage_online(THERE[1], false))).nth(Nth::Only(1)),
        );
        scene.world.fault(
            on_target("POST", MOVE, Action::call(move |_| back.set_storage_online(THERE[1], true))).nth(Nth::Only(2)),
        );
        let done = scene.workspace.apply().expect(0);
        scene.without_faults();
        let left = orphans(&scene);
        if role == "app" {
            let volume = format!("{}:vm-{}-", THERE[1], scene.machine.vmid());
            assert!(done.flat().contains(&format!("pvesm free {volume}")), "{}", done.text());
            assert_eq!(left.len(), 1, "{left:?}");
            continue;
        }
        assert_eq!(left, Vec::<String>::new());
        scene.converges_on(TO, false, "with a warning of Proxmox VE");
    }
}

fn small(world: &mut World, sizes: [&str; 3]) {
    for (storage, size) in THERE.iter().zip(sizes) {
        world.clusters.get_mut(TO).expect("it").storages.get_mut(*storage).expect("it").capacity = size.to_owned();
    }
}

#[test]
fn a_restore_for_which_no_storage_has_room_is_refused_with_numbers() {
    // 11 GiB and a bit: no storage takes it, though each could take its part.
    let world = spread().world_with(|world| small(world, ["10GiB", "11GiB", "5GiB"]));
    let scene = Scene::in_world(spread(), world, "app", GONE);
    scene.world.clear_requests();
    let plan = scene.workspace.plan().expect(2).says("would be refused").says("storage_space");
    assert!(plan.flat().contains("bulk-lvm really has 11 GiB free"), "{}", plan.text());
    scene.workspace.apply().expect(1).says("storage_space").says("nothing was touched");
    assert_eq!(scene.world.writes(), Vec::<String>::new());
    drop(scene);
    // The one that keeps most bytes is too small for all: another takes the restore.
    let world = spread().world_with(|world| small(world, ["20GiB", "9GiB", "5GiB"]));
    let scene = Scene::in_world(spread(), world, "app", GONE);
    scene.world.clear_requests();
    scene.workspace.apply().expect(0);
    let calls = scene.world.requests();
    let restore = calls.iter().find(|call| call.cluster == TO && call.method == "POST" && call.path.ends_with("/qemu"));
    assert_eq!(restore.expect("a restore").params["storage"], THERE[0]);
    scene.converges_on(TO, false, "by way of another storage");
}

#[test]
fn moving_on_takes_a_right_more() {
    let without = |world: &mut World| {
        let app = world.users.iter_mut().find(|user| user.id == "app@pve").expect("it");
        for rule in &mut app.acl {
            rule.privileges.retain(|privilege| privilege != "VM.Config.Disk");
        }
    };
    let scene = Scene::in_world(spread(), spread().world_with(without), "app", GONE);
    scene.world.clear_requests();
    scene.workspace.plan().expect(2).says("VM.Config.Disk on /pool/production-pool");
    scene.workspace.apply().expect(1).says("VM.Config.Disk on /pool/production-pool").says("nothing was touched");
    assert_eq!(scene.world.writes(), Vec::<String>::new());
}

#[test]
fn a_half_done_spread_is_taken_back_where_the_machine_is_wanted_no_more_or_elsewhere() {
    let number = {
        let scene = Scene::of(spread(), "app", GONE);
        scene.world.clear_requests();
        scene.workspace.apply().expect(0);
        let calls = scene.world.requests();
        let moves = calls.iter().enumerate().filter(|(_, call)| call.path.ends_with("/move_disk"));
        moves.map(|(n, _)| n).nth(2).expect("a third move") as u64 + 1
    };
    for removed in [true, false] {
        let scene = Scene::of(spread(), "app", GONE);
        let killed = scene.workspace.killed_at(&scene.world, &APPLY, number, true, || {});
        assert!(matches!(killed, Killed::At(hit) if hit.call.path.ends_with("/move_disk")));
        if removed {
            scene.workspace.destroy().expect(0);
            scene.world.assert_clean();
            continue;
        }
        wanted_on(&scene.workspace, TO, FROM);
        scene.workspace.plan().expect(2).says("unfinished operation");
        scene.converges_on(FROM, false, "wanted where it was");
    }
}

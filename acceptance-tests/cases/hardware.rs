//! What a machine is made of beside its size: firmware, boot order, what waits for a restart, disks that change storage.

use std::path::Path;

use crate::support::{self, PROVIDER, sound};
use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};
use simulator::{Options, World};

const MAIN: &str = r#"
resource "moxxie_virtual_machine" "api" {
  name    = "api"
  pool    = "production-pool"
  cluster = "worldstream-prod"
  memory  = "2GB"
  // more
  disks           = { scsi0 = { size = "8GB", storage = "fast" }, scsi1 = { size = "4GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
  migration       = { source = "delete", keep_archive = "0s" }
}
"#;

/// How the second disk is configured.
const SECOND: &str = "scsi1 = { size = \"4GB\", storage = \"fast\" }";

/// The three sites, and a storage on the first that keeps images as files.
fn with_files() -> SimulatedWorld {
    let world = include_str!("../simulator/worlds/three-sites.yaml");
    let block = "      local-lvm: { type: lvmthin, content: [images], capacity: 4TiB, rate: 800 }\n";
    assert!(world.contains(block), "the world has changed");
    let files =
        "      images: { type: nfs, content: [images], capacity: 4TiB, server: 10.200.0.6, export: /srv/images }\n";
    let right = "      - { path: /storage/local-lvm, role: PVEDatastoreUser }\n";
    let world = world.replacen(block, &format!("{block}{files}"), 1);
    let world = world.replace(right, &format!("{right}{}", right.replace("local-lvm", "images")));
    let world = World::from_yaml(&world).expect("the world");
    SimulatedWorld::start(world, Options::default())
}

fn workspace(world: &SimulatedWorld, cli: &Cli, lines: &str) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    let yaml = support::yaml()
        .replace("fast: ceph-pool", "fast: ceph-pool, slow: local-lvm, files: images")
        .replace("fast: zfs-pool", "fast: zfs-pool, files: zfs-pool");
    assert!(yaml.contains("slow: local-lvm") && yaml.contains("files: zfs-pool"), "the file has changed");
    workspace.write("multi-site.yaml", yaml).write_main(&MAIN.replace("// more", lines));
    workspace
}

fn config(world: &SimulatedWorld, cluster: &str) -> std::collections::BTreeMap<String, String> {
    world.vm(cluster, "api").config
}

#[test]
fn firmware_and_boot_order_are_made_kept_and_carried_by_a_move() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let lines = "bios = \"ovmf\"\n  boot_order = [\"scsi1\", \"net0\"]\n  \
                     cloud_init = { user = \"ops\", addresses = { net0 = { ipv4 = \"10.1.20.5/24\", gateway4 = \"10.1.20.1\" } } }";
        let workspace = workspace(&world, &cli, lines);
        sound(workspace.apply()).expect(0);
        let made = config(&world, "worldstream-prod");
        assert_eq!(made["bios"], "ovmf");
        assert!(made["efidisk0"].starts_with("ceph-pool:"), "{made:?}");
        assert_eq!(made["boot"], "order=scsi1;net0");
        sound(workspace.plan()).expect(0);
        workspace.edit("main.tf", "worldstream-prod", "databarn-dr");
        sound(workspace.apply()).expect(0);
        let moved = config(&world, "databarn-dr");
        assert!(moved["efidisk0"].starts_with("zfs-pool:"), "{moved:?}");
        for key in ["bios", "boot", "ciuser", "ipconfig0"] {
            assert_eq!(moved[key], made[key], "{key}");
        }
        let drive = |config: &std::collections::BTreeMap<String, String>| {
            config.iter().find(|(_, value)| value.contains("cloudinit")).map(|(slot, _)| slot.clone())
        };
        assert_eq!(drive(&moved), drive(&made));
        assert!(drive(&made).is_some(), "{made:?}");
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn what_waits_for_a_restart_is_said_and_done_where_that_is_wanted() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "cpu = { cores = 1 }");
        workspace.apply().expect(0);
        workspace.edit("main.tf", "cores = 1", "cores = 2");
        sound(workspace.plan()).expect(2).says("restart");
        let run = sound(workspace.apply()).expect(0).says("restart");
        drop(run);
        // It waits: nothing is planned again and again.
        sound(workspace.plan()).expect(0);
        let uptime =
            world.requests().iter().filter(|call| call.path.contains("/status/") && call.method == "POST").count();
        workspace.edit("main.tf", "cores = 2 }", "cores = 4 }\n  reboot_policy = \"reboot\"");
        world.clear_requests();
        sound(workspace.apply()).expect(0);
        let posts: Vec<String> = world.writes();
        assert!(posts.iter().any(|call| call.contains("/status/")), "it was restarted: {posts:?} {uptime}");
        assert!(world.vm("worldstream-prod", "api").running);
        assert_eq!(config(&world, "worldstream-prod")["cores"], "4");
        sound(workspace.plan()).expect(0);
    }
}

const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];

#[test]
fn a_restart_that_a_killed_apply_owes_is_planned_and_made_once() {
    let clis = clis();
    let bigger = |workspace: &Workspace| {
        workspace.edit("main.tf", "cores = 1", "cores = 2");
    };
    let lines = "cpu = { cores = 1 }\n  reboot_policy = \"reboot\"";
    let calls = {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &clis[0], lines);
        workspace.apply().expect(0);
        bigger(&workspace);
        world.clear_requests();
        workspace.apply().expect(0);
        let all = world.requests();
        let written = all.iter().position(|call| call.method == "POST").expect("it writes") as u64;
        written..=all.len() as u64
    };
    let (mut killed, mut owed) = (0, 0);
    for (call, executed) in calls.flat_map(|call| [(call, true), (call, false)]) {
        let cli = &clis[usize::try_from(call).unwrap_or(0) % clis.len()];
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, cli, lines);
        workspace.apply().expect(0);
        bigger(&workspace);
        let Killed::At(hit) = workspace.killed_at(&world, &APPLY, call, executed, || {}) else { continue };
        killed += 1;
        let at = format!("killed at {} {}, executed: {executed}", hit.call.method, hit.call.path);
        let waits = |world: &SimulatedWorld| world.vm("worldstream-prod", "api").pending.contains("cores");
        let run = sound(workspace.plan());
        if waits(&world) {
            // Nothing but the restart is left to do, and the plan shows it.
            owed += 1;
            let said = "Virtual machine api waits for a restart";
            drop(run.expect(2).says(said).says("cores is written").says("Apply restarts it"));
        }
        assert_eq!(sound(workspace.apply()).code, 0, "{at}");
        let vm = world.vm("worldstream-prod", "api");
        assert!(vm.running && vm.pending.is_empty() && vm.config["cores"] == "2", "{at}: {vm:?}");
        let restarts = world.cluster("worldstream-prod").tasks_of(vm.vmid);
        assert_eq!(restarts.iter().filter(|kind| *kind == "qmreboot").count(), 1, "{at}: {restarts:?}");
        drop(sound(workspace.plan()).expect(0).never_says("restart"));
        workspace.destroy().expect(0);
        world.assert_clean();
    }
    assert!(killed >= 4 && owed >= 2, "{killed} kills, {owed} with a restart owed");
}

#[test]
fn what_somebody_left_waiting_is_said_taken_back_or_left_alone() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "reboot_policy = \"reboot\"");
        workspace.apply().expect(0);
        let cluster = world.cluster("worldstream-prod");
        let vmid = world.vm("worldstream-prod", "api").vmid;
        let pending = || world.vm("worldstream-prod", "api").pending.into_iter().collect::<Vec<_>>();
        let restarts = || cluster.tasks_of(vmid).iter().filter(|kind| *kind == "qmreboot").count();
        // Not what is configured: it is taken back before it was in force, and nothing is restarted.
        cluster.change(vmid, "memory", "4096").expect("a change");
        assert_eq!(pending(), ["memory"]);
        let run = sound(workspace.plan()).expect(2);
        drop(run.says("memory is written, and in force when").never_says("Virtual machine api is restarted"));
        sound(workspace.apply()).expect(0);
        assert_eq!((pending(), restarts()), (vec![], 0));
        assert_eq!(config(&world, "worldstream-prod")["memory"], "2048");
        drop(sound(workspace.plan()).expect(0).never_says("restart"));
        // What no attribute stands for: it is said, and stays.
        cluster.change(vmid, "vga", "qxl").expect("a change");
        drop(sound(workspace.plan()).expect(0).says("vga is written").says("No attribute of it stands for this"));
        workspace.edit("main.tf", "memory  = \"2GB\"", "memory  = \"2GB\"\n  tags = [\"web\"]");
        drop(
            sound(workspace.apply()).expect(0).says("api takes a change at its next restart").says("so apply doesn't"),
        );
        assert_eq!((pending(), restarts()), (vec!["vga".to_owned()], 0));
        // What is configured by now: a restart is owed, and takes the other along.
        cluster.change(vmid, "memory", "4096").expect("a change");
        workspace.edit("main.tf", "memory  = \"2GB\"", "memory  = \"4GB\"");
        drop(sound(workspace.plan()).expect(2).says("Apply restarts it"));
        sound(workspace.apply()).expect(0);
        assert_eq!((pending(), restarts()), (vec![], 1));
        drop(sound(workspace.plan()).expect(0).never_says("restart"));
        // With the other policy it is said in every plan and no difference, until the policy changes.
        workspace.edit("main.tf", "reboot_policy = \"reboot\"", "reboot_policy = \"warn\"");
        sound(workspace.apply()).expect(0);
        workspace.edit("main.tf", "memory  = \"4GB\"", "memory  = \"6GB\"");
        sound(workspace.apply()).expect(0);
        drop(sound(workspace.plan()).expect(0).says("Virtual machine api waits for a restart"));
        workspace.edit("main.tf", "reboot_policy = \"warn\"", "reboot_policy = \"reboot\"");
        drop(sound(workspace.plan()).expect(2).says("Virtual machine api is restarted"));
        sound(workspace.apply()).expect(0);
        assert_eq!((pending(), restarts()), (vec![], 2));
        drop(sound(workspace.plan()).expect(0).never_says("restart"));
    }
}

/// The machine's disk volumes on its cluster.
fn volumes(world: &SimulatedWorld) -> Vec<String> {
    let all = world.cluster("worldstream-prod").volumes().into_iter().map(|volume| volume.volid);
    all.filter(|volid| volid.contains("disk")).collect()
}

/// Kills the apply of a change of the second disk at each of its calls: after the next apply the disk is where it shall be, once.
#[track_caller]
fn survives_kills(change: impl Fn(&Workspace), arrived: &str, is_there: impl Fn(&str) -> bool) {
    let clis = clis();
    let calls = {
        let world = with_files();
        let workspace = workspace(&world, &clis[0], "");
        workspace.apply().expect(0);
        change(&workspace);
        world.clear_requests();
        workspace.apply().expect(0);
        let all = world.requests();
        let first = all.iter().position(|call| call.method != "GET").expect("it writes") as u64;
        first..=all.len() as u64
    };
    let mut killed = 0;
    for (call, executed) in calls.flat_map(|call| [(call, true), (call, false)]) {
        let cli = &clis[usize::try_from(call).unwrap_or(0) % clis.len()];
        let world = with_files();
        let workspace = workspace(&world, cli, "");
        workspace.apply().expect(0);
        change(&workspace);
        let at = workspace.killed_at(&world, &APPLY, call, executed, || {});
        let Killed::At(hit) = at else { continue };
        killed += 1;
        let at = format!("killed at {} {}, executed: {executed}", hit.call.method, hit.call.path);
        assert_eq!(sound(workspace.apply()).code, 0, "{at}: {}", workspace.apply().text());
        sound(workspace.plan()).expect(0);
        let now = config(&world, "worldstream-prod");
        assert!(is_there(&now["scsi1"]), "{at}: {now:?} is not {arrived}");
        assert_eq!(volumes(&world).len(), 2, "{at}: {:?}", volumes(&world));
        workspace.destroy().expect(0);
        world.assert_clean();
    }
    assert!(killed >= 4, "{killed} kills");
}

#[test]
fn a_disk_whose_move_is_killed_is_in_one_place_after_the_next_apply() {
    let change = |workspace: &Workspace| {
        workspace.edit("main.tf", SECOND, &SECOND.replace("fast", "slow"));
    };
    survives_kills(change, "on the other storage", |disk| disk.starts_with("local-lvm:"));
}

#[test]
fn a_disk_whose_conversion_is_killed_is_in_one_place_after_the_next_apply() {
    let change = |workspace: &Workspace| {
        // On files first, by an apply of its own.
        if !workspace.state().is_empty() && !workspace.root().join("files").exists() {
            workspace.write("files", "");
            workspace.edit("main.tf", SECOND, &SECOND.replace("\"fast\"", "\"files\""));
            workspace.apply().expect(0);
        }
        workspace.edit("main.tf", "storage = \"files\"", "storage = \"files\", format = \"qcow2\"");
    };
    survives_kills(change, "qcow2", |disk| disk.starts_with("images:") && disk.contains(".qcow2"));
}

#[test]
fn a_disks_format_changes_in_place_where_its_storage_has_a_choice() {
    for cli in clis() {
        let world = with_files();
        let workspace = workspace(&world, &cli, "");
        workspace.edit("main.tf", SECOND, &SECOND.replace("\"fast\"", "\"files\", format = \"raw\""));
        workspace.apply().expect(0);
        sound(workspace.plan()).expect(0);
        let uuid = world.vm("worldstream-prod", "api").uuid.expect("a UUID");
        let before = config(&world, "worldstream-prod");
        assert!(before["scsi1"].starts_with("images:") && before["scsi1"].contains(".raw"), "{before:?}");
        let written = world.newest_written(&uuid);
        workspace.edit("main.tf", "\"raw\"", "\"qcow2\"");
        sound(workspace.plan()).expect(2).says("0 to add, 1 to change, 0 to destroy");
        sound(workspace.apply()).expect(0);
        let after = config(&world, "worldstream-prod");
        assert_eq!(after["scsi0"], before["scsi0"]);
        assert!(after["scsi1"].starts_with("images:") && after["scsi1"].contains(".qcow2"), "{after:?}");
        assert!(!after.keys().any(|key| key.starts_with("unused")), "{after:?}");
        assert!(world.newest_held(&uuid) >= written && world.vm("worldstream-prod", "api").running);
        assert_eq!(volumes(&world).len(), 2, "{:?}", volumes(&world));
        sound(workspace.plan()).expect(0);
        // Converted by hand: a difference, and put right.
        let vmid = world.vm("worldstream-prod", "api").vmid;
        world.cluster("worldstream-prod").convert(vmid, "scsi1", "vmdk").expect("a conversion");
        drop(sound(workspace.plan()).expect(2).says("vmdk"));
        sound(workspace.apply()).expect(0);
        assert!(config(&world, "worldstream-prod")["scsi1"].contains(".qcow2"));
        // Where images are no files there is nothing to choose.
        workspace.edit("main.tf", "\"8GB\", storage = \"fast\"", "\"8GB\", storage = \"fast\", format = \"qcow2\"");
        drop(
            sound(workspace.plan()).expect(1).says("A disk can't be qcow2 on its storage").says("scsi0 is ceph-pool:"),
        );
        workspace.edit("main.tf", "\"fast\", format = \"qcow2\"", "\"fast\"");
        // A move to where there is no choice, and back: raw there, and converted again here. A move takes one storage.
        workspace.edit("main.tf", "\"8GB\", storage = \"fast\"", "\"8GB\", storage = \"files\"");
        sound(workspace.apply()).expect(0);
        workspace.edit("main.tf", "worldstream-prod", "databarn-dr");
        sound(workspace.apply()).expect(0);
        assert!(config(&world, "databarn-dr")["scsi1"].starts_with("zfs-pool:"));
        sound(workspace.plan()).expect(0);
        workspace.edit("main.tf", "databarn-dr", "worldstream-prod");
        sound(workspace.apply()).expect(0);
        let back = config(&world, "worldstream-prod");
        assert!(back["scsi1"].starts_with("images:") && back["scsi1"].contains(".qcow2"), "{back:?}");
        sound(workspace.plan()).expect(0);
        // To another storage of the cluster that has no choice: it is said.
        workspace.edit("main.tf", "\"files\", format", "\"slow\", format");
        drop(sound(workspace.apply()).expect(0).says("local-lvm keeps no qcow2 images"));
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_disk_changes_its_storage_with_every_byte_and_leaves_the_others_alone() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "");
        workspace.apply().expect(0);
        let uuid = world.vm("worldstream-prod", "api").uuid.expect("a UUID");
        let before = config(&world, "worldstream-prod");
        let written = world.newest_written(&uuid);
        workspace.edit(
            "main.tf",
            "scsi1 = { size = \"4GB\", storage = \"fast\" }",
            "scsi1 = { size = \"4GB\", storage = \"slow\" }",
        );
        sound(workspace.plan()).expect(2).says("0 to add, 1 to change, 0 to destroy");
        sound(workspace.apply()).expect(0);
        let after = config(&world, "worldstream-prod");
        assert_eq!(after["scsi0"], before["scsi0"]);
        assert!(after["scsi1"].starts_with("local-lvm:"), "{after:?}");
        assert!(!after.keys().any(|key| key.starts_with("unused")), "{after:?}");
        assert_eq!(volumes(&world).len(), 2, "{:?}", volumes(&world));
        assert!(world.newest_held(&uuid) >= written);
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

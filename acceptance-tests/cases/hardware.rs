//! What a machine is made of beside its size: firmware, boot order, what waits for a restart, disks that change storage.
mod support;

use std::path::Path;

use harness::{Cli, Run, SimulatedWorld, Workspace, clis};
use support::PROVIDER;

const MAIN: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

provider "moxxie" {
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.clusters
}

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

fn workspace(world: &SimulatedWorld, cli: &Cli, lines: &str) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    let yaml = support::yaml().replace("fast: ceph-pool", "fast: ceph-pool, slow: local-lvm");
    assert!(yaml.contains("slow: local-lvm"), "the file has changed");
    workspace.write("multi-site.yaml", yaml).write("main.tf", MAIN.replace("// more", lines));
    workspace
}

/// A command that says nothing that only core says of a broken provider.
#[track_caller]
fn sound(run: Run) -> Run {
    assert_eq!(support::broken(&run.flat()), None, "{}\n{}", run.command, run.text());
    run
}

fn config(world: &SimulatedWorld, cluster: &str) -> std::collections::BTreeMap<String, String> {
    world.vm(cluster, "api").config
}

#[test]
fn firmware_and_boot_order_are_made_kept_and_carried_by_a_move() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "bios = \"ovmf\"\n  boot_order = [\"scsi1\", \"net0\"]");
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
        assert_eq!((&moved["bios"], &moved["boot"]), (&made["bios"], &made["boot"]));
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
        let volumes: Vec<String> = world.cluster("worldstream-prod").volumes().into_iter().map(|v| v.volid).collect();
        assert_eq!(volumes.iter().filter(|volid| volid.contains("disk")).count(), 2, "{volumes:?}");
        assert!(world.newest_held(&uuid) >= written);
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

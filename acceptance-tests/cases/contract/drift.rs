//! Drift detection: exit codes of a normal and of a refresh-only plan.
use harness::{Cli, SimulatedWorld, Workspace, clis};
use serde_json::{Value, json};

use super::{drift, sound};
use crate::support::{Instance, carry, instances, workspace};

/// A machine that was made and is as its state says.
fn calm(world: &SimulatedWorld, cli: &Cli, vm: &Value) -> (Workspace, Instance) {
    let workspace = workspace(world, cli, "platform", &json!({ "api": vm }));
    workspace.apply().expect(0);
    assert_eq!(drift(&workspace), (0, 0), "nothing has drifted");
    let api = instances(&workspace)["api"].clone();
    (workspace, api)
}

/// The other cluster of the pool.
fn other(cluster: &str) -> (&'static str, &'static str) {
    if cluster == "databarn-dr" { ("worldstream-prod", "ws1") } else { ("databarn-dr", "db1") }
}

#[test]
fn moved_by_hand_inside_its_pool_and_not_pinned() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (workspace, api) = calm(&world, &cli, &json!({ "pool": "production-pool", "memory": "1GB" }));
        let (to, node) = other(&api.cluster);
        carry(&world, &world.vm(&api.cluster, "api"), to, node, Some("production-pool"));
        assert_eq!(drift(&workspace), (0, 2));
        sound(workspace.plan()).expect(0).says("moved by somebody else").says(to);
    }
}

#[test]
fn moved_by_hand_against_its_pin() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = json!({ "pool": "production-pool", "cluster": "worldstream-prod" });
        let (workspace, api) = calm(&world, &cli, &vm);
        carry(&world, &world.vm(&api.cluster, "api"), "databarn-dr", "db1", Some("production-pool"));
        assert_eq!(drift(&workspace), (2, 2));
        // And it is moved back.
        sound(workspace.apply()).expect(0);
        assert_eq!(instances(&workspace)["api"].cluster, "worldstream-prod");
        assert_eq!(world.copies(&api.uuid).iter().filter(|vm| vm.running).count(), 1);
        workspace.plan().expect(0);
    }
}

#[test]
fn moved_by_hand_out_of_its_pool() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (workspace, api) = calm(&world, &cli, &json!({ "pool": "production-pool" }));
        carry(&world, &world.vm(&api.cluster, "api"), "hetzner-edge", "hz1", Some("development-pool"));
        assert_eq!(drift(&workspace), (2, 2));
        let world = SimulatedWorld::three_sites();
        let (workspace, api) = calm(&world, &cli, &json!({ "pool": "production-pool" }));
        let vm = world.vm(&api.cluster, "api");
        carry(&world, &vm, &api.cluster, &vm.node, None);
        assert_eq!(drift(&workspace), (2, 2), "on its cluster, but in no pool");
    }
}

#[test]
fn resized_or_retagged_by_hand() {
    for cli in clis() {
        for (key, value) in [("memory", "4096"), ("tags", "web;foreign"), ("cores", "8")] {
            let world = SimulatedWorld::three_sites();
            let vm = json!({ "pool": "production-pool", "memory": "2GB", "tags": ["web"] });
            let (workspace, api) = calm(&world, &cli, &vm);
            world.cluster(&api.cluster).set_config(api.vmid, key, Some(value));
            assert_eq!(drift(&workspace), (2, 2), "{key}");
            sound(workspace.apply()).expect(0);
            let vm = world.vm(&api.cluster, "api");
            // What a running machine takes at its restart is pending.
            let now = vm.config.get(key).map(String::as_str);
            assert!(now != Some(value) || vm.pending.contains(key), "{key} is as configured again");
        }
        let world = SimulatedWorld::three_sites();
        let (workspace, api) = calm(&world, &cli, &json!({ "pool": "production-pool" }));
        let disk = world.vm(&api.cluster, "api").config["scsi0"].clone();
        let grown = disk.replace("size=8G", "size=12G");
        world.cluster(&api.cluster).set_config(api.vmid, "scsi0", Some(&grown));
        assert_eq!(drift(&workspace), (2, 2), "a disk that grew");
    }
}

#[test]
fn deleted_on_a_federation_that_is_fully_seen() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (workspace, api) = calm(&world, &cli, &json!({ "pool": "production-pool" }));
        world.cluster(&api.cluster).remove_vm(api.vmid);
        assert_eq!(drift(&workspace), (2, 2));
        sound(workspace.plan()).expect(2).says("1 to add");
        // One cluster that doesn't answer, and nothing may be said.
        world.wait(world.cluster("hetzner-edge").set_dark(true));
        assert_eq!(drift(&workspace), (0, 0));
        sound(workspace.plan()).expect(0).says("are not refreshed").says("hetzner-edge");
    }
}

#[test]
fn moved_by_ha_inside_its_cluster() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (workspace, api) = calm(&world, &cli, &json!({ "pool": "production-pool" }));
        let vm = world.vm(&api.cluster, "api");
        let node = crate::support::nodes(&api.cluster).iter().find(|node| **node != vm.node).expect("another node");
        carry(&world, &vm, &api.cluster, node, Some("production-pool"));
        assert_eq!(drift(&workspace).0, 0);
    }
}

//! `destroy` always works, and nothing is replaced or removed that nobody asked to.
use std::time::Duration;

use harness::{SimulatedWorld, Workspace, clis};
use serde_json::json;
use simulator::{Action, Rule};

use super::{drift, empty, fill, sound};
use crate::support::{address, configure, instances, workspace};

/// What the command `federate` says in the workspace's folder.
fn federate(world: &SimulatedWorld, workspace: &Workspace, words: &[&str]) -> String {
    workspace.write("connections.json", world.connections().to_string());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_federate"));
    command.args(words).current_dir(workspace.root()).env("MOXXIE_CONNECTIONS", "connections.json");
    let out = command.envs(world.tokens("platform")).output().expect("the command runs");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn gate_07_a_move_that_was_killed_past_live_is_a_difference_until_it_is_finished() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = |cluster: &str| json!({ "api": { "pool": "production-pool", "cluster": cluster } });
        let workspace = workspace(&world, &cli, "app", &vm("worldstream-prod"));
        workspace.apply().expect(0);
        let uuid = instances(&workspace)["api"].uuid.clone();
        configure(&workspace, &vm("databarn-dr"));
        // The target starts after the point of no return.
        let start = Rule::on("POST", "/nodes/*/qemu/*/status/start", Action::Hang { executed: false });
        let start = world.fault(start.cluster("databarn-dr"));
        let mut apply = workspace.start(&["apply", "-input=false", "-auto-approve"], "killed");
        while world.fault_hits(start) == 0 {
            assert!(apply.try_wait().expect("its state").is_none(), "{}", workspace.output("killed"));
            std::thread::sleep(Duration::from_millis(20));
        }
        apply.kill().expect("a kill");
        apply.wait().expect("its end");
        world.clear_faults();
        world.cut_connections();
        std::fs::remove_file(workspace.root().join(".terraform.tfstate.lock.info")).ok();
        assert_eq!(drift(&workspace), (2, 2));
        let status = federate(&world, &workspace, &["status", "-c", "multi-site.yaml"]);
        assert!(status.contains("move to databarn-dr: the target runs, the source is not yet retired"), "{status}");
        sound(workspace.plan_to("the.tfplan")).expect(2).says("has an unfinished operation");
        let change = workspace.show_plan("the.tfplan")["resource_changes"][0]["change"].clone();
        assert!(change["before"]["operation"].is_string() && change["after"]["operation"].is_null(), "{change}");
        // The provider of the killed run ends when it notices; until then it holds the operation.
        let mut tries = 0;
        while sound(workspace.apply()).code != 0 {
            tries += 1;
            assert!(tries < 20, "{}", workspace.apply().text());
            std::thread::sleep(Duration::from_millis(500));
        }
        sound(workspace.plan()).expect(0);
        assert_eq!(world.running_copies(&uuid).len(), 1);
        assert_eq!(instances(&workspace)["api"].cluster, "databarn-dr");
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn gate_08_a_disk_that_is_put_in_front_or_taken_out_touches_that_slot_alone() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = json!({ "api": { "pool": "production-pool", "cluster": "worldstream-prod" } });
        let workspace = workspace(&world, &cli, "app", &vm);
        let disks = "{ scsi0 = { size = each.value.disk, storage = \"fast\" } }";
        workspace.edit(
            "main.tf",
            disks,
            "{ scsi1 = { size = \"2GB\" }, scsi2 = { size = \"3GB\", storage = \"local-lvm\" } }",
        );
        workspace.apply().expect(0);
        let slots = |world: &SimulatedWorld| {
            let written = world.requests().into_iter().filter(|request| request.method != "GET");
            let mut slots: Vec<String> = written
                .flat_map(|request| request.params.into_iter())
                .flat_map(|(key, value)| {
                    if key == "delete" { value } else { key }.split(',').map(str::to_owned).collect::<Vec<_>>()
                })
                .filter(|key| key.starts_with("scsi") && key != "scsihw")
                .collect();
            slots.sort();
            slots.dedup();
            slots
        };
        world.clear_requests();
        workspace.edit("main.tf", "{ scsi1 = ", "{ scsi0 = { size = \"1GB\" }, scsi1 = ");
        sound(workspace.apply()).expect(0);
        assert_eq!(slots(&world), ["scsi0"]);
        workspace.plan().expect(0);
        world.clear_requests();
        workspace.edit("main.tf", "scsi0 = { size = \"1GB\" }, ", "");
        sound(workspace.apply()).expect(0);
        assert_eq!(slots(&world), ["scsi0"]);
        let vm = world.vm("worldstream-prod", "api");
        assert_eq!(vm.disks.iter().map(|disk| disk.slot.as_str()).collect::<Vec<_>>(), ["scsi1", "scsi2", "unused0"]);
        workspace.plan().expect(0);
    }
}

#[test]
fn gate_09_after_a_move_to_other_storage_and_vlan_the_plan_is_empty() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = |cluster: &str| json!({ "api": { "pool": "production-pool", "cluster": cluster } });
        let workspace = workspace(&world, &cli, "app", &vm("worldstream-prod"));
        workspace.apply().expect(0);
        configure(&workspace, &vm("databarn-dr"));
        sound(workspace.apply()).expect(0);
        assert_eq!(drift(&workspace), (0, 0));
        let vm = world.vm("databarn-dr", "api");
        assert!(vm.config["net0"].contains("tag=220") && vm.disks[0].volid.starts_with("zfs-pool:"), "{vm:?}");
    }
}

#[test]
fn gate_12_destroy_works_whatever_else_is_wrong() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let api = json!({ "pool": "production-pool", "cluster": "worldstream-prod" });
        let workspace = workspace(&world, &cli, "app", &json!({ "api": api }));
        workspace.apply().expect(0);
        // A preflight warning: a disk that grew by hand, which nobody can undo; moved to a storage by hand as well.
        let vmid = instances(&workspace)["api"].vmid;
        let disk = world.cluster("worldstream-prod").vm(vmid).expect("the machine").config["scsi0"].clone();
        let grown = disk.replace("size=8G", "size=16G").replace("ceph-pool:", "local-lvm:");
        assert_ne!(grown, disk);
        world.cluster("worldstream-prod").set_config(vmid, "scsi0", Some(&grown));
        sound(workspace.plan()).expect(2).says("A disk can't shrink").says("Somebody changed it");
        // Its own edit is an error.
        workspace.edit("vms.auto.tfvars.json", "worldstream-prod\"", "worldstream-prod\",\"disk\":\"1GB\"");
        sound(workspace.plan()).expect(1).says("A disk can't shrink");
        world.cluster("worldstream-prod").set_config(vmid, "scsi0", Some(&disk));
        // A cluster without anything of ours is dark, and a new machine fits nowhere.
        world.wait(world.cluster("databarn-dr").set_dark(true));
        fill(&world, "worldstream-prod");
        configure(&workspace, &json!({ "api": api, "huge": { "pool": "production-pool", "memory": "600GB" } }));
        sound(workspace.plan()).expect(1).says("No cluster can take virtual machine huge");
        sound(workspace.destroy()).expect(0);
        assert!(instances(&workspace).is_empty());
        empty(&world, "worldstream-prod");
        world.assert_clean();
    }
}

#[test]
fn gate_12_destroy_works_while_a_create_is_unfinished() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vms = json!({ "api": { "pool": "production-pool", "cluster": "worldstream-prod" },
                          "bad": { "pool": "production-pool", "cluster": "worldstream-prod" } });
        let workspace = workspace(&world, &cli, "app", &vms);
        let broken = Action::FailTask { message: "no luck".into(), late: true };
        let bad = Rule::on("POST", "/nodes/*/qemu", broken).params(|p| p.get("name").is_some_and(|name| name == "bad"));
        world.fault(bad);
        sound(workspace.apply()).expect(1);
        world.clear_faults();
        assert!(!instances(&workspace).contains_key("bad"), "nothing is tainted");
        sound(workspace.destroy()).expect(0);
        assert!(instances(&workspace).is_empty());
        world.assert_clean();
    }
}

#[test]
fn gate_13_an_import_replaces_nothing_and_asks_for_no_change() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = json!({ "api": { "pool": "production-pool", "cluster": "worldstream-prod" } });
        let workspace = workspace(&world, &cli, "app", &vm);
        workspace.apply().expect(0);
        let api = instances(&workspace)["api"].clone();
        // A disk that the configuration doesn't know is neither ours nor touched.
        let volume = world.cluster("worldstream-prod").vm(api.vmid).expect("the machine").config["scsi0"].clone();
        world.cluster("worldstream-prod").set_config(api.vmid, "scsi7", Some(&volume.replace("disk-0", "disk-7")));
        workspace.run(&["state", "rm", &address("api")]).expect(0);
        world.clear_requests();
        let import = format!("import {{\n  to = {}\n  id = \"worldstream-prod/{}\"\n}}\n", address("api"), api.vmid);
        workspace.write("import.tf", import);
        sound(workspace.plan_to("the.tfplan")).expect(2).says("1 to import, 0 to add").says("0 to destroy");
        sound(workspace.apply_plan("the.tfplan")).expect(0);
        assert_eq!(world.writes(), Vec::<String>::new());
        assert_eq!(instances(&workspace)["api"], api);
        sound(workspace.plan()).expect(0);
    }
}

/// The CLIs write configuration for what is imported; that is what most people begin with.
#[test]
fn configuration_that_the_cli_generates_for_an_import_plans_nothing() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = json!({ "api": { "pool": "production-pool", "cluster": "worldstream-prod", "tags": ["web"] } });
        let workspace = workspace(&world, &cli, "platform", &vm);
        workspace.apply().expect(0);
        let api = instances(&workspace)["api"].clone();
        workspace.run(&["state", "rm", &address("api")]).expect(0);
        configure(&workspace, &json!({}));
        world.clear_requests();
        let import =
            format!("import {{\n  to = moxxie_virtual_machine.found\n  id = \"worldstream-prod/{}\"\n}}\n", api.vmid);
        workspace.write("import.tf", import);
        let out = "-generate-config-out=found.tf";
        sound(workspace.run(&["plan", "-input=false", "-detailed-exitcode", out, "-out=the.tfplan"]))
            .expect(2)
            .says("1 to import, 0 to add, 0 to change, 0 to destroy");
        sound(workspace.apply_plan("the.tfplan")).expect(0);
        assert_eq!(world.writes(), Vec::<String>::new());
        sound(workspace.plan()).expect(0);
    }
}

#[test]
fn gate_14_a_connection_that_was_removed_is_a_warning() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = json!({ "api": { "pool": "production-pool", "cluster": "databarn-dr" } });
        let workspace = workspace(&world, &cli, "app", &vm);
        workspace.apply().expect(0);
        let mut connections = world.connections();
        connections.as_object_mut().expect("an object").remove("databarn-dr");
        workspace.write("world.auto.tfvars.json", json!({ "clusters": connections }).to_string());
        sound(workspace.plan()).expect(0).says("databarn-dr").says("no connection");
        // Without it in the federation either.
        let run = sound(workspace.destroy()).expect(1);
        drop(run.says("databarn-dr").says("nothing was touched"));
        assert_eq!(instances(&workspace).len(), 1);
    }
}

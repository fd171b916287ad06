//! Neither a create nor an adoption that should not be.
use std::collections::BTreeMap;

use harness::{Cli, SimulatedWorld, Workspace, clis};
use serde_json::json;
use simulator::GuestSpec;

use super::sound;
use crate::support::{Instance, carry, instances, workspace};

fn made(world: &SimulatedWorld, cli: &Cli) -> (Workspace, Instance) {
    let vm = json!({ "api": { "pool": "production-pool", "cluster": "worldstream-prod" } });
    let workspace = workspace(world, cli, "platform", &vm);
    workspace.apply().expect(0);
    let api = instances(&workspace)["api"].clone();
    (workspace, api)
}

/// The same folder with the tokens of another role.
fn with_role(world: &SimulatedWorld, workspace: &mut Workspace, role: &str) {
    for (variable, token) in world.tokens(role) {
        workspace.env(&variable, &token);
    }
}

/// A plan that creates nothing.
#[track_caller]
fn creates_nothing(workspace: &Workspace) -> harness::Run {
    let run = sound(workspace.plan());
    assert!([0, 2].contains(&run.code), "{}", run.text());
    run.never_says("will be created").never_says("must be replaced")
}

/// A copy of a machine, as a person makes it.
fn copy(world: &SimulatedWorld, api: &Instance, to: (&str, &str), vmid: u32, uuid: Option<&str>, running: bool) {
    let vm = world.cluster(&api.cluster).vm(api.vmid).expect("the machine");
    let mut config: BTreeMap<String, String> = vm.config.clone();
    config.insert("scsi0".into(), format!("{}:8", crate::support::images(to.0)));
    if let Some(uuid) = uuid {
        config.insert("smbios1".into(), format!("uuid={uuid}"));
    }
    let pool = Some("production-pool".to_owned());
    let guest = GuestSpec { vmid, node: to.1.to_owned(), config, pool, running };
    world.cluster(to.0).create_vm(&guest).expect("a copy");
}

#[test]
fn gate_10_a_machine_out_of_sight_is_not_gone() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (mut workspace, api) = made(&world, &cli);
        with_role(&world, &mut workspace, "narrow");
        creates_nothing(&workspace);
        // Taken out of its pool, the token can't see it any more.
        let vm = world.vm(&api.cluster, "api");
        carry(&world, &vm, &api.cluster, &vm.node, None);
        creates_nothing(&workspace).says("are not refreshed");
        // Really gone: it can't be told apart with this token.
        world.cluster(&api.cluster).remove_vm(api.vmid);
        creates_nothing(&workspace).says("are not refreshed");
        // With full sight it can.
        with_role(&world, &mut workspace, "platform");
        sound(workspace.plan()).expect(2).says("1 to add");
    }
}

#[test]
fn gate_10_a_cluster_that_was_installed_anew_says_nothing_of_machines() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (mut workspace, _) = made(&world, &cli);
        let anew = SimulatedWorld::three_sites();
        let mut connections = anew.connections();
        for connection in connections.as_object_mut().expect("an object").values_mut() {
            connection["insecure"] = true.into();
            connection["fingerprints"] = serde_json::Value::Null;
        }
        workspace.write("world.auto.tfvars.json", json!({ "clusters": connections }).to_string());
        with_role(&anew, &mut workspace, "platform");
        creates_nothing(&workspace).says("is not the one that the machine was on");
    }
}

#[test]
fn a_clone_beside_it_is_nobody_and_a_copy_elsewhere_is_taken_for_it_only_where_that_is_certain() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (workspace, api) = made(&world, &cli);
        copy(&world, &api, ("worldstream-prod", "ws1"), 900, Some("11111111-2222-4333-8444-555555555555"), true);
        copy(&world, &api, ("databarn-dr", "db1"), 901, None, false);
        sound(workspace.plan()).expect(0);
        assert_eq!(instances(&workspace)["api"], api);
        // The machine itself is gone, a stopped copy with its UUID is there: nothing is said, the copy is named.
        world.cluster(&api.cluster).remove_vm(api.vmid);
        creates_nothing(&workspace).says("import id databarn-dr/901");
        // Two copies that run: still nothing.
        world.cluster("databarn-dr").start(901).expect("a start");
        let vm = world.vm("databarn-dr", "api");
        let guest = GuestSpec {
            vmid: 902,
            node: "hz1".into(),
            config: BTreeMap::from([
                ("name".into(), "api".into()),
                ("smbios1".into(), vm.config["smbios1"].clone()),
                ("memory".into(), "512".into()),
            ]),
            pool: None,
            running: true,
        };
        world.cluster("hetzner-edge").create_vm(&guest).expect("a copy");
        creates_nothing(&workspace).says("import id hetzner-edge/902");
        // One that runs on a federation that answers: it is the machine.
        world.cluster("hetzner-edge").remove_vm(902);
        creates_nothing(&workspace).says("moved by somebody else").says("databarn-dr");
    }
}

#[test]
fn a_machine_that_somebody_moves_between_plan_and_apply_is_not_changed() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (workspace, api) = made(&world, &cli);
        workspace.edit("vms.auto.tfvars.json", "worldstream-prod\"", "worldstream-prod\",\"memory\":\"4GB\"");
        workspace.plan_to("the.tfplan").expect(2);
        carry(&world, &world.vm(&api.cluster, "api"), "databarn-dr", "db1", Some("production-pool"));
        world.clear_requests();
        sound(workspace.apply_plan("the.tfplan")).expect(1).says("the plan is stale").says("databarn-dr");
        assert_eq!(world.writes(), Vec::<String>::new());
        assert_eq!(instances(&workspace)["api"], api);
    }
}

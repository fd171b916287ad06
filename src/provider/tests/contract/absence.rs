//! Nothing leaves state, and nothing counts as removed, on an answer that the same cluster contradicts.
use std::collections::BTreeMap;

use protocol::testing::State;
use protocol::{Diagnostics, Value};
use simulator::{Action, ClusterHandle, GuestSpec, Rule, VmSnapshot};

use super::moves::{core, made};
use super::says;
use super::support::{TYPE, World};

const PLAIN: &str = include_str!("../../../../acceptance-tests/cases/main_job/multi-site.yaml");

/// A machine on worldstream-prod, as state has it after an apply.
async fn machine(world: &World, name: &str) -> (State, ClusterHandle, VmSnapshot) {
    let state = made(world, &[name]).await.remove(0).1;
    let cluster = world.sim.cluster("worldstream-prod");
    let vm = cluster.vms().into_iter().find(|vm| vm.config["name"] == name).expect("the machine");
    (state, cluster, vm)
}

async fn read(world: &World, state: &State) -> (State, Diagnostics) {
    core(world, "plain.yaml", PLAIN).await.read(TYPE, state).await.expect("an answer")
}

/// What a destroy without a refresh answers: the state that is left, and what is said.
async fn destroyed(world: &World, state: &State) -> (State, Diagnostics) {
    let core = core(world, "plain.yaml", PLAIN).await;
    let plan = core.plan(TYPE, state, &Value::Null).await.expect("a plan");
    let done = core.apply(TYPE, state, &Value::Null, &plan).await.expect("an answer");
    (done.state, done.diagnostics)
}

fn other_node(vm: &VmSnapshot) -> &'static str {
    if vm.node == "ws3" { "ws1" } else { "ws3" }
}

#[tokio::test]
async fn a_machine_that_no_node_admits_to_but_a_list_names_stays_in_state() {
    let world = World::start().await;
    let (state, cluster, vm) = machine(&world, "way-1").await;
    cluster.migrate_inside(vm.vmid, None);
    let (kept, said) = read(&world, &state).await;
    assert_eq!(kept.value, state.value);
    assert!(says(&said, "are not refreshed") && says(&said, "may be moving between them"), "{said:?}");
    let (kept, said) = destroyed(&world, &state).await;
    assert_eq!(kept.value, state.value);
    assert!(said.has_errors() && says(&said, "may be moving between them"), "{said:?}");
    assert!(cluster.vm(vm.vmid).is_some());
    // Once it has arrived it is there, and can be removed.
    cluster.arrive(vm.vmid);
    assert_eq!(read(&world, &state).await.0.value, state.value);
    let (left, said) = destroyed(&world, &state).await;
    assert!(left.value.is_null() && !said.has_errors(), "{said:?}");
    assert!(cluster.vm(vm.vmid).is_none());
}

#[tokio::test]
async fn a_machine_is_followed_to_the_node_that_has_it_before_lists_know() {
    let world = World::start().await;
    let (state, cluster, vm) = machine(&world, "way-2").await;
    let to = other_node(&vm);
    cluster.migrate_inside(vm.vmid, Some(to));
    let (found, said) = read(&world, &state).await;
    assert_eq!(found.value.attr("node").as_str(), Some(to), "{said:?}");
    assert_eq!(found.value.attr("vmid"), state.value.attr("vmid"));
    let (left, said) = destroyed(&world, &state).await;
    assert!(left.value.is_null() && !said.has_errors(), "{said:?}");
    assert!(cluster.vm(vm.vmid).is_none());
}

#[tokio::test]
async fn a_removal_that_finds_the_machine_on_its_way_removed_nothing() {
    let world = World::start().await;
    let (state, cluster, vm) = machine(&world, "way-3").await;
    let (handle, vmid) = (cluster.clone(), vm.vmid);
    world.sim.fault(Rule::on("DELETE", "/nodes/*/qemu/*", Action::call(move |_| handle.migrate_inside(vmid, None))));
    let (kept, said) = destroyed(&world, &state).await;
    assert_eq!(kept.value, state.value);
    assert!(said.has_errors() && says(&said, "destroy again"), "{said:?}");
    assert!(cluster.vm(vm.vmid).is_some());
}

#[tokio::test]
async fn a_machine_that_came_to_a_cluster_after_its_list_was_taken_is_not_gone() {
    let world = World::start().await;
    let (state, cluster, vm) = machine(&world, "way-4").await;
    let (from, to) = (cluster.clone(), world.sim.cluster("databarn-dr"));
    let config: BTreeMap<String, String> = vm.config.clone().into_iter().filter(|(key, _)| key != "scsi0").collect();
    let vmid = vm.vmid;
    // Between the first lists and the answer about it somebody carries it over, under another VMID. New guests have no name in lists.
    let hook = move |_: &simulator::Matched| {
        if from.vm(vmid).is_some() {
            from.remove_vm(vmid);
            let guest = GuestSpec { vmid: 777, node: "db1".into(), config: config.clone(), pool: None, running: true };
            to.create_vm(&guest).expect("a machine there");
        }
    };
    world.sim.fault(Rule::on("GET", "/nodes/*/qemu/*/pending", Action::call(hook)).cluster("worldstream-prod"));
    let (found, said) = read(&world, &state).await;
    assert_eq!(found.value.attr("cluster").as_str(), Some("databarn-dr"), "{said:?}");
    assert!(says(&said, "was moved by somebody else"), "{said:?}");
}

#[tokio::test]
async fn a_machine_whose_uuid_somebody_dropped_stays_in_state() {
    let world = World::start().await;
    let (state, cluster, vm) = machine(&world, "way-5").await;
    cluster.set_config(vm.vmid, "smbios1", Some("serial=YWJj,base64=1"));
    let (kept, said) = read(&world, &state).await;
    assert_eq!(kept.value, state.value);
    assert!(says(&said, "no SMBIOS UUID") && says(&said, "qm set"), "{said:?}");
    let (kept, said) = destroyed(&world, &state).await;
    assert_eq!(kept.value, state.value);
    assert!(said.has_errors() && cluster.vm(vm.vmid).is_some(), "{said:?}");
    // Another machine of that VMID is not it.
    cluster.set_config(vm.vmid, "name", Some("somebody-else"));
    assert!(read(&world, &state).await.0.value.is_null());
}

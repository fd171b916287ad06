//! What the plan of a move says: everything that apply would refuse, and nothing that its own operation has made.
use std::sync::Mutex;
use std::time::Duration;

use protocol::testing::{CoreClient, Planned, State};
use protocol::{Diagnostics, Value};
use simulator::{Action, Rule};

use super::moves::{core, made};
use super::support::{TYPE, World, vm};
use super::{modern, says};

const PLAIN: &str = include_str!("../../../../acceptance-tests/cases/main_job/multi-site.yaml");

/// The federation's file, with a rule for production-pool.
fn with_rule(rule: &str) -> String {
    PLAIN.replacen("      rules:\n", &format!("      rules:\n        - {rule}\n"), 1)
}

fn at(diagnostics: &Diagnostics, attribute: &str) -> bool {
    diagnostics.iter().any(|one| one.is_error() && format!("{:?}", one.path).contains(attribute))
}

/// A process of which it is known that it plans, and doesn't apply.
async fn planner(world: &World, name: &str, yaml: &str) -> CoreClient {
    let mut core = core(world, name, yaml).await;
    core.set_capabilities(modern());
    core
}

async fn planned(core: &CoreClient, state: &State, config: &Value) -> Planned {
    let plan = core.plan(TYPE, state, config).await.expect("a plan");
    assert_eq!(plan.violations, Vec::<String>::new());
    plan
}

#[tokio::test]
async fn a_pin_against_a_hard_rule_is_refused_by_the_plan_on_its_attribute() {
    let world = World::start().await;
    let (config, state) = made(&world, &["pin-1"]).await.remove(0);
    let there = config.with_attr("cluster", "databarn-dr");
    for rule in [
        "{ type: location, target: cluster, operator: must_not, value: databarn-dr }",
        "{ type: affinity, target: cluster, operator: must, value: worldstream-prod }",
    ] {
        let core = planner(&world, "ruled.yaml", &with_rule(rule)).await;
        let plan = planned(&core, &state, &there).await;
        assert!(at(&plan.diagnostics, "cluster"), "{:?}", plan.diagnostics);
        assert!(says(&plan.diagnostics, "may not be on databarn-dr") && says(&plan.diagnostics, "drop the rule"));
    }
    // A pool that doesn't have the cluster at all.
    let there = vm("pin-1").with_attr("cluster", "hetzner-edge");
    let core = planner(&world, "plain.yaml", PLAIN).await;
    let plan = planned(&core, &state, &there).await;
    assert!(at(&plan.diagnostics, "cluster") && says(&plan.diagnostics, "not a member of production-pool"));
}

#[tokio::test]
async fn a_vlan_outside_the_targets_range_is_refused_by_the_plan_on_its_attribute() {
    let world = World::start().await;
    let core = planner(&world, "plain.yaml", PLAIN).await;
    let nic = Value::object([("bridge", Value::from("vmbr0")), ("vlan", 150.into())]);
    let config = vm("vlan-1").with_attr("network_devices", Value::map([("net0", nic)]));
    let here = config.clone().with_attr("cluster", "worldstream-prod");
    let plan = planned(&core, &State::default(), &here).await;
    let done = core.apply(TYPE, &State::default(), &here, &plan).await.expect("an answer");
    assert!(!done.diagnostics.has_errors(), "{:?}", done.diagnostics);
    let plan = planned(&core, &done.state, &config.with_attr("cluster", "databarn-dr")).await;
    assert!(at(&plan.diagnostics, "net0"), "{:?}", plan.diagnostics);
    assert!(says(&plan.diagnostics, "VLAN 150 of net0 is outside its range 200–299"), "{:?}", plan.diagnostics);
}

#[tokio::test]
async fn what_has_no_room_is_said_by_the_plan_and_apply_does_not_call_that_stale() {
    let world = World::start().await;
    let (config, state) = made(&world, &["full-1"]).await.remove(0);
    world.fill("databarn-dr");
    world.sim.advance(Duration::from_secs(15));
    let there = config.with_attr("cluster", "databarn-dr");
    let core = planner(&world, "plain.yaml", PLAIN).await;
    let plan = planned(&core, &state, &there).await;
    assert!(!plan.diagnostics.has_errors(), "facts are no errors: {:?}", plan.diagnostics);
    assert!(
        says(&plan.diagnostics, "would be refused") && says(&plan.diagnostics, "of memory"),
        "{:?}",
        plan.diagnostics
    );
    assert!(!says(&plan.diagnostics, "is down meanwhile"), "{:?}", plan.diagnostics);
    let refused = core.apply(TYPE, &state, &there, &plan).await.expect("an answer");
    assert!(refused.diagnostics.has_errors() && says(&refused.diagnostics, "of memory"), "{:?}", refused.diagnostics);
    assert!(
        !says(&refused.diagnostics, "stale") && !says(&refused.diagnostics, "plan again"),
        "{:?}",
        refused.diagnostics
    );
    assert_eq!(refused.state.value, state.value);
}

#[tokio::test]
async fn a_configured_node_is_read_for_the_cluster_that_it_was_written_for() {
    let world = World::start().await;
    let (config, state) = made(&world, &["node-1"]).await.remove(0);
    let config = config.with_attr("node", state.value.attr("node").clone());
    let core = planner(&world, "plain.yaml", PLAIN).await;
    let there = config.with_attr("cluster", "databarn-dr");
    let plan = planned(&core, &state, &there).await;
    assert!(!says(&plan.diagnostics, "would be refused"), "{:?}", plan.diagnostics);
    let done = core.apply(TYPE, &state, &there, &plan).await.expect("an answer");
    assert!(!done.diagnostics.has_errors() && done.violations.is_empty(), "{:?}", done.diagnostics);
    world.sim.advance(Duration::from_secs(15));
    let (now, said) = core.read(TYPE, &done.state).await.expect("an answer");
    assert!(now.value.attr("node").as_str().is_some_and(|node| node.starts_with("db")), "{said:?}");
    let plan = planned(&core, &now, &there).await;
    assert_eq!(plan.planned_state, now.value, "the next plan is empty");
}

/// Applies, and stops as soon as the restore has been asked for: the operation is left open behind it.
async fn stopped_in_the_restore(world: &World, state: &State, config: &Value) -> State {
    let core = planner(world, "plain.yaml", PLAIN).await;
    let plan = planned(&core, state, config).await;
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let told = Mutex::new(told);
    let hook = move |_: &simulator::Matched| drop(told.lock().map(|told| told.send(())));
    let rule = Rule::on("POST", "/nodes/*/qemu", Action::call(hook)).cluster("databarn-dr");
    let rule = world.sim.fault(rule);
    let stop = async {
        hears.recv().await.expect("a restore");
        core.stop().await.expect("an answer")
    };
    let (done, _) = tokio::join!(core.apply(TYPE, state, config, &plan), stop);
    let done = done.expect("an answer");
    assert!(done.diagnostics.has_errors(), "it was stopped: {:?}", done.diagnostics);
    world.sim.unfault(rule);
    done.state
}

#[tokio::test]
async fn an_open_move_is_told_where_it_stands_and_no_obstacle_to_itself() {
    let world = World::start().await;
    let (config, state) = made(&world, &["open-1"]).await.remove(0);
    let there = config.with_attr("cluster", "databarn-dr");
    let left = stopped_in_the_restore(&world, &state, &there).await;
    // Whoever began it is silent for longer than its lease.
    world.sim.advance(Duration::from_secs(16 * 60));
    let core = planner(&world, "plain.yaml", PLAIN).await;
    let (now, said) = core.read(TYPE, &left).await.expect("an answer");
    assert!(says(&said, "step restore") || says(&said, "step transfer"), "{said:?}");
    let plan = planned(&core, &now, &there).await;
    for false_alarm in ["would be refused", "is taken", "gets another VMID", "is a template", "source_idle"] {
        assert!(!says(&plan.diagnostics, false_alarm), "{false_alarm}: {:?}", plan.diagnostics);
    }
    assert!(says(&plan.diagnostics, "has an operation under way"), "{:?}", plan.diagnostics);
    assert_eq!(plan.planned_state.attr("vmid"), state.value.attr("vmid"), "its own half is not another guest");
    let done = core.apply(TYPE, &now, &there, &plan).await.expect("an answer");
    assert!(!done.diagnostics.has_errors() && done.violations.is_empty(), "{:?}", done.diagnostics);
    assert_eq!(done.state.value.attr("cluster").as_str(), Some("databarn-dr"));
}

#[tokio::test]
async fn a_move_that_can_not_be_looked_at_is_not_feasible() {
    let world = World::start().await;
    made(&world, &["dark-1"]).await;
    world.sim.cluster("databarn-dr").set_dark(true).await;
    let core = planner(&world, "plain.yaml", PLAIN).await;
    let vm = world.sim.cluster("worldstream-prod").vms().remove(0);
    let machine = format!("worldstream-prod/{}", vm.vmid);
    let asked = Value::object([("machine", Value::from(machine)), ("target", "databarn-dr".into())]);
    let (answer, said) = core.read_data_source("moxxie_migration_plan", asked).await.expect("an answer");
    assert!(!said.has_errors(), "{said:?}");
    assert_eq!(answer.attr("feasible"), &false.into(), "{answer:?}");
    assert_eq!(answer.attr("from").attr("cluster").as_str(), Some("worldstream-prod"));
    assert!(answer.attr("to").is_null());
}

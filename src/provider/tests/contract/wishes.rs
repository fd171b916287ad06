//! What a machine asks of its cluster: tier, abilities, a location; and what is written that matches nothing.
use std::time::Duration;

use protocol::Value;
use protocol::testing::{CoreClient, State};

use super::moves::{core, made};
use super::pools::{block, core as plain_core};
use super::support::{TYPE, World, vm};
use super::{cluster, modern, says};

const PLAIN: &str = include_str!("../../../../acceptance-tests/cases/main_job/multi-site.yaml");

/// The file, with production-pool ranking by distance.
fn geographic() -> String {
    PLAIN.replacen("strategy: balanced", "strategy: geographic", 1)
}

async fn planner(world: &World, yaml: &str) -> CoreClient {
    let mut core = core(world, "wishes.yaml", yaml).await;
    core.set_capabilities(modern());
    core
}

async fn planned_on(core: &CoreClient, state: &State, config: &Value) -> String {
    cluster(&core.plan(TYPE, state, config).await.expect("a plan"))
}

#[tokio::test]
async fn a_new_machine_goes_where_its_tier_and_its_needs_are_declared() {
    let world = World::start().await;
    let core = planner(&world, PLAIN).await;
    let secondary = vm("tier-1").with_attr("tier", "secondary");
    assert_eq!(planned_on(&core, &State::default(), &secondary).await, "databarn-dr");
    let ceph = vm("needs-1").with_attr("needs", Value::set(["supports_ceph"]));
    assert_eq!(planned_on(&core, &State::default(), &ceph).await, "worldstream-prod");
    let edge = core.plan(TYPE, &State::default(), &vm("tier-2").with_attr("tier", "edge")).await.expect("a plan");
    assert!(edge.diagnostics.has_errors(), "{:?}", edge.diagnostics);
    assert!(says(&edge.diagnostics, "its tier is primary, and edge is asked for"), "{:?}", edge.diagnostics);
    for (name, value) in [("tier", Value::from("gold")), ("needs", Value::set(["magic"]))] {
        let said = core.validate(TYPE, vm("wrong").with_attr(name, value)).await.expect("an answer");
        assert!(said.has_errors() && says(&said, "is none of"), "{said:?}");
    }
}

#[tokio::test]
async fn a_machine_moves_when_it_asks_for_what_its_cluster_is_not() {
    let world = World::start().await;
    let (config, state) = made(&world, &["asks-1"]).await.remove(0);
    let core = planner(&world, PLAIN).await;
    assert_eq!(planned_on(&core, &state, &config.clone().with_attr("tier", "primary")).await, "worldstream-prod");
    assert_eq!(planned_on(&core, &state, &config.clone().with_attr("tier", "secondary")).await, "databarn-dr");
    let pinned = config.with_attr("cluster", "databarn-dr").with_attr("needs", Value::set(["supports_ceph"]));
    let refused = core.plan(TYPE, &state, &pinned).await.expect("a plan");
    assert!(
        refused.diagnostics.has_errors() && says(&refused.diagnostics, "supports_ceph"),
        "{:?}",
        refused.diagnostics
    );
}

#[tokio::test]
async fn another_location_moves_a_machine_of_a_geographic_pool_alone() {
    let world = World::start().await;
    let (config, state) = made(&world, &["place-1"]).await.remove(0);
    let there = config.with_attr("location", "Rotterdam");
    let core = planner(&world, &geographic()).await;
    assert_eq!(planned_on(&core, &state, &there).await, "databarn-dr");
    // Once it is applied, nothing is decided again.
    let plan = core.plan(TYPE, &state, &there).await.expect("a plan");
    let done = core.apply(TYPE, &state, &there, &plan).await.expect("an answer");
    assert!(!done.diagnostics.has_errors() && done.violations.is_empty(), "{:?}", done.diagnostics);
    world.sim.advance(Duration::from_secs(15));
    let again = planner(&world, &geographic()).await;
    let (now, _) = again.read(TYPE, &done.state).await.expect("an answer");
    assert_eq!(again.plan(TYPE, &now, &there).await.expect("a plan").planned_state, now.value);
    // Where the pool ranks otherwise it stays, and a warning says so.
    let balanced = planner(&world, PLAIN).await;
    let plan = balanced.plan(TYPE, &state, &there).await.expect("a plan");
    assert_eq!(cluster(&plan), "worldstream-prod");
    assert!(says(&plan.diagnostics, "is a preference"), "{:?}", plan.diagnostics);
}

#[tokio::test]
async fn a_rule_that_matches_nothing_is_said_by_the_plan_of_its_pool() {
    let world = World::start().await;
    let rule = Value::object([
        ("type", Value::from("location")),
        ("target", "cluster".into()),
        ("operator", "must_not".into()),
        ("value", "databarn-rd".into()),
    ]);
    let pool = Value::object([
        ("name", Value::from("slip")),
        ("clusters", Value::set(["worldstream-prod", "databarn-dr"])),
        ("placement_policy", Value::object([("rules", Value::list([rule]))])),
    ]);
    let core = plain_core(block(&world, "platform")).await;
    let plan = core.plan("moxxie_resource_pool", &State::default(), &pool).await.expect("a plan");
    assert!(says(&plan.diagnostics, "did you mean \"databarn-dr\"?"), "{:?}", plan.diagnostics);
    assert!(!plan.diagnostics.has_errors());
}

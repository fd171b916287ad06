//! Moves that no configuration asks for: proposals come in through Read and travel in private; a plan looks at nothing else.
use std::time::Duration;

use protocol::testing::{CoreClient, State};
use protocol::{Diagnostics, Value};

use super::support::{TYPE, World, vm};
use super::{cluster, says};

const PLAIN: &str = include_str!("../../../../acceptance-tests/cases/main_job/multi-site.yaml");

/// The federation's file with a cluster that drains and a pool that says what may move.
fn yaml(draining: bool, moves: &str) -> String {
    let drain = if draining { "    tier: primary\n    draining: true\n" } else { "    tier: primary\n" };
    PLAIN.replacen("    tier: primary\n", drain, 1).replacen(
        "    limits: { max_vms: 150",
        &format!("    {moves}\n    limits: {{ max_vms: 150"),
        1,
    )
}

pub(super) async fn core(world: &World, name: &str, yaml: &str) -> CoreClient {
    let core = world.unconfigured().await;
    let said = core.configure(world.block_of(name, yaml)).await.expect("an answer");
    assert!(!said.has_errors(), "{said:?}");
    core
}

/// Machines as they are after an apply, all on worldstream-prod.
pub(super) async fn made(world: &World, names: &[&str]) -> Vec<(Value, State)> {
    let core = core(world, "calm.yaml", &yaml(false, "x-none: 0")).await;
    let mut all = Vec::new();
    for name in names {
        let config = vm(name);
        let pinned = config.clone().with_attr("cluster", "worldstream-prod");
        let plan = core.plan(TYPE, &State::default(), &pinned).await.expect("a plan");
        let done = core.apply(TYPE, &State::default(), &pinned, &plan).await.expect("an answer");
        assert!(!done.diagnostics.has_errors(), "{:?}", done.diagnostics);
        all.push((config, done.state));
    }
    // Names of new guests are late in the overview (`proxmox-ve.md` §2.5).
    world.sim.advance(Duration::from_secs(15));
    all
}

pub(super) async fn read(core: &CoreClient, machines: &[(Value, State)]) -> (Vec<State>, Diagnostics) {
    let (mut states, mut said) = (Vec::new(), Diagnostics::new());
    for (_, state) in machines {
        let (state, diagnostics) = core.read(TYPE, state).await.expect("an answer");
        states.push(state);
        said.extend(diagnostics);
    }
    (states, said)
}

pub(super) async fn planned(core: &CoreClient, config: &Value, state: &State) -> String {
    cluster(&core.plan(TYPE, state, config).await.expect("a plan"))
}

pub(super) fn proposes(state: &State) -> bool {
    String::from_utf8_lossy(&state.private).contains("proposal")
}

#[tokio::test]
async fn a_drain_is_proposed_by_read_and_planned_whatever_the_facts_say_by_then() {
    let world = World::start().await;
    let machines = made(&world, &["drain-1", "drain-2", "drain-3"]).await;
    let draining = yaml(true, "automatic_moves: [drain]\n    max_moves_per_apply: 2");
    let reader = core(&world, "draining.yaml", &draining).await;
    let (states, said) = read(&reader, &machines).await;
    assert_eq!(states.iter().map(proposes).collect::<Vec<_>>(), [true, true, false]);
    assert!(says(&said, "drain-1 moves from worldstream-prod to databarn-dr (worldstream-prod drains)"), "{said:?}");
    assert!(says(&said, "drain-3 waits") && says(&said, "max_moves_per_apply = 2: first drain-1, drain-2"), "{said:?}");
    let told = said.iter().filter(|one| one.summary.contains("should leave their clusters")).count();
    assert_eq!(told, 1, "said once for the pool: {said:?}");

    // Elsewhere, with the target full, the drain called off, and with nothing configured at all: the same answers.
    let calm = core(&world, "calm.yaml", &yaml(false, "x-none: 0")).await;
    world.fill("databarn-dr");
    let blind = world.unconfigured().await;
    for core in [&reader, &calm, &blind] {
        for ((config, _), (state, to)) in
            machines.iter().zip(states.iter().zip(["databarn-dr", "databarn-dr", "worldstream-prod"]))
        {
            assert_eq!(planned(core, config, state).await, to);
        }
    }
    // Apply asks the facts, touches nothing, and a new refresh takes the proposal back.
    let plan = calm.plan(TYPE, &states[0], &machines[0].0).await.expect("a plan");
    let refused = calm.apply(TYPE, &states[0], &machines[0].0, &plan).await.expect("an answer");
    assert!(says(&refused.diagnostics, "the plan is stale"), "{:?}", refused.diagnostics);
    assert_eq!((refused.violations, refused.tainted), (Vec::new(), false));
    let (back, _) = read(&calm, &[(Value::Null, states[0].clone())]).await;
    assert_eq!(back[0].private, machines[0].1.private, "byte for byte what it was");
}

#[tokio::test]
async fn what_is_not_opted_in_to_is_advice_and_a_dark_cluster_is_never_left() {
    let world = World::start().await;
    let machines = made(&world, &["advice-1"]).await;
    let advised = core(&world, "advised.yaml", &yaml(true, "automatic_moves: [violations]")).await;
    let (states, said) = read(&advised, &machines).await;
    assert!(says(&said, "advice-1 would move from worldstream-prod to databarn-dr"), "{said:?}");
    assert!(says(&said, "lacks \"drain\""), "{said:?}");
    assert_eq!(states[0].private, machines[0].1.private);
    assert_eq!(planned(&advised, &machines[0].0, &states[0]).await, "worldstream-prod");
    world.sim.cluster("worldstream-prod").set_dark(true).await;
    let dark = core(&world, "dark.yaml", &yaml(true, "automatic_moves: [drain, violations, improve]")).await;
    let (states, said) = read(&dark, &machines).await;
    assert_eq!(states[0].private, machines[0].1.private);
    assert!(says(&said, "are not refreshed") && !says(&said, "should leave"), "{said:?}");
    assert_eq!(planned(&dark, &machines[0].0, &states[0]).await, "worldstream-prod");
}

#[tokio::test]
async fn a_pin_holds_and_another_pool_voids_a_proposal() {
    let world = World::start().await;
    let machines = made(&world, &["pin-1"]).await;
    let draining = core(&world, "pins.yaml", &yaml(true, "automatic_moves: [drain]")).await;
    let (states, _) = read(&draining, &machines).await;
    assert!(proposes(&states[0]));
    let pinned = machines[0].0.clone().with_attr("cluster", "worldstream-prod");
    let plan = draining.plan(TYPE, &states[0], &pinned).await.expect("a plan");
    assert_eq!(cluster(&plan), "worldstream-prod");
    assert!(says(&plan.diagnostics, "is pinned, and should leave"), "{:?}", plan.diagnostics);
    let elsewhere = machines[0].0.clone().with_attr("pool", "development-pool");
    let plan = draining.plan(TYPE, &states[0], &elsewhere).await.expect("a plan");
    assert_ne!(cluster(&plan), "worldstream-prod", "decided anew, for its new pool");
}

#[tokio::test]
async fn a_closed_window_proposes_nothing_and_only_read_looks_at_the_clock() {
    let world = World::start().await;
    let machines = made(&world, &["window-1"]).await;
    let now = u64::try_from(world.sim.now_ms() / 1000).expect("after 1970");
    let hour = |hours: u64| format!("{:02}:00", (now / 3600 + hours) % 24);
    let window = format!("      window: {{ from: \"{}\", to: \"{}\" }}\n", hour(2), hour(4));
    let path = "      max_bandwidth: \"500Mbps\"\n";
    let windowed = yaml(true, "automatic_moves: [drain]").replacen(path, &format!("{path}{window}"), 1);
    let closed = core(&world, "windowed.yaml", &windowed).await;
    let (states, said) = read(&closed, &machines).await;
    assert!(!proposes(&states[0]) && says(&said, "window-1 waits"), "{said:?}");
    assert!(says(&said, "the path worldstream-prod → databarn-dr is open every day"), "{said:?}");
    world.sim.advance(Duration::from_secs(2 * 3600 + 60));
    let open = core(&world, "windowed.yaml", &windowed).await;
    let (states, _) = read(&open, &machines).await;
    assert!(proposes(&states[0]));
    // Still open, and not for as long as the move takes.
    world.sim.advance(Duration::from_secs(2 * 3600 - 5 * 60));
    let late = core(&world, "windowed.yaml", &windowed).await;
    let (waits, said) = read(&late, &machines).await;
    assert!(!proposes(&waits[0]) && says(&said, "is predicted to end at"), "{said:?}");
    world.sim.advance(Duration::from_secs(12 * 3600));
    assert_eq!(
        planned(&core(&world, "windowed.yaml", &windowed).await, &machines[0].0, &states[0]).await,
        "databarn-dr"
    );
}

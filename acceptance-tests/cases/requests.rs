//! What a refresh costs: calls are counted, in a federation of several hundred machines.
#[path = "../benches/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::Value;
use protocol::testing::State;
use support::{CLUSTERS, POOLS, Run, TYPE, each, federation, import_all};

const CLUSTER: &str = "moxxie_cluster";
const POOL: &str = "moxxie_resource_pool";
const VMS: u32 = 500;
/// Reads that core has under way: as many as it can be told to.
const AT_ONCE: usize = 64;
/// Calls that each cluster may cost beside those of its machines.
const PER_CLUSTER: usize = 8;

/// The pools of the world, as an import makes them.
async fn imported_pools(run: &Run) -> Vec<State> {
    let names = (0..POOLS).map(|n| format!("team-{n}")).collect();
    each(names, AT_ONCE, |name: String| {
        let core = Arc::clone(&run.core);
        async move {
            let (found, said) = core.import(POOL, &name).await.expect("an answer");
            assert!(!said.has_errors(), "{said:?}");
            State { value: found[0].state.clone(), private: found[0].private.clone() }
        }
    })
    .await
}

/// Enrols every cluster, and every pool on all of them.
async fn enrolled(run: &Run) -> (Vec<State>, Vec<State>) {
    let made = async |kind: &str, prior: &State, config: &Value| {
        let plan = run.core.plan(kind, prior, config).await.expect("a plan");
        assert!(!plan.diagnostics.has_errors(), "{:?}", plan.diagnostics);
        let done = run.core.apply(kind, prior, config, &plan).await.expect("an answer");
        assert!(!done.diagnostics.has_errors(), "{:?}", done.diagnostics);
        done.state
    };
    let names: Vec<String> = (0..CLUSTERS).map(|n| format!("site-{n}")).collect();
    let (mut clusters, mut pools) = (Vec::new(), Vec::new());
    for (n, name) in names.iter().enumerate() {
        let classes = Value::map([("fast", "fast")]);
        let mut config = Value::object([("name", Value::from(name.as_str())), ("storage_classes", classes)]);
        if n == 0 {
            config = config.with_attr("datacenter_options", Value::object([("mac_prefix", "02:00:01")]));
        }
        clusters.push(made(CLUSTER, &State::default(), &config).await);
    }
    for (n, prior) in imported_pools(run).await.into_iter().enumerate() {
        let all = Value::set(names.iter().map(String::as_str));
        let config = Value::object([("name", Value::from(format!("team-{n}"))), ("clusters", all)]);
        pools.push(made(POOL, &prior, &config).await);
    }
    (clusters, pools)
}

/// Reads every object: nothing of it has changed, and nothing is remarkable.
async fn refresh(run: &Run, of: &'static str, states: Vec<State>) {
    each(states, AT_ONCE, |state| {
        let core = Arc::clone(&run.core);
        async move {
            let (now, said) = core.read(of, &state).await.expect("an answer");
            assert!(said.is_empty(), "{said:?}");
            assert_eq!(now.value, state.value, "nothing changed");
        }
    })
    .await;
}

/// What `calls` of each cluster were, by its name; each at least one for each of its machines, and at most [`PER_CLUSTER`] more.
fn within_bounds(sim: &simulator::Simulator) {
    let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for call in sim.requests() {
        calls.entry(call.cluster.clone()).or_default().push(format!("{} {}", call.method, call.path));
    }
    let machines = usize::try_from(VMS / CLUSTERS).unwrap_or(0);
    assert_eq!(calls.len(), CLUSTERS as usize);
    for (cluster, calls) in calls {
        let of_machine = |call: &&String| call.contains("/qemu/");
        let beside: Vec<&String> = calls.iter().filter(|call| !of_machine(call)).collect();
        println!("{cluster}: {} calls for {machines} machines; beside them {beside:?}", calls.len());
        assert!(calls.len() >= machines, "{cluster}: {} calls can't have read {machines} machines", calls.len());
        assert!(
            calls.len() <= machines + PER_CLUSTER,
            "{cluster}: {} calls; beside the machines {beside:?}",
            calls.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_costs_one_call_for_a_machine_and_eight_for_a_cluster() {
    let provider = Path::new(env!("CARGO_BIN_EXE_terraform-provider-moxxie"));
    let sim = federation(VMS, Duration::ZERO).await;
    let machines = import_all(&Run::start(provider, &sim).await, VMS).await;
    // As in any plan of which the pools are a part: they are read first, and cost nothing of their own.
    let pools = imported_pools(&Run::start(provider, &sim).await).await;
    let run = Run::start(provider, &sim).await;
    sim.clear_requests();
    for pool in pools {
        // A pool without a record yet says so in its warnings.
        run.core.read("moxxie_resource_pool", &pool).await.expect("an answer");
    }
    refresh(&run, TYPE, machines).await;
    within_bounds(&sim);
}

/// The same where everything is enrolled and an object of the configuration: four clusters, one of them with options of its
/// datacenter, and twenty pools over all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_with_every_cluster_and_pool_enrolled_costs_no_more() {
    let provider = Path::new(env!("CARGO_BIN_EXE_terraform-provider-moxxie"));
    let sim = federation(VMS, Duration::ZERO).await;
    let (clusters, pools) = enrolled(&Run::start(provider, &sim).await).await;
    let machines = import_all(&Run::start(provider, &sim).await, VMS).await;
    let run = Run::start(provider, &sim).await;
    sim.clear_requests();
    refresh(&run, CLUSTER, clusters).await;
    refresh(&run, POOL, pools).await;
    refresh(&run, TYPE, machines).await;
    within_bounds(&sim);
}

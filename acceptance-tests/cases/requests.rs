//! What a refresh costs: calls are counted, in a federation of several hundred machines.
#[path = "../benches/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::testing::State;
use support::{CLUSTERS, POOLS, Run, TYPE, each, federation, import_all};

const VMS: u32 = 500;
/// Reads that core has under way: as many as it can be told to.
const AT_ONCE: usize = 64;
/// Calls that each cluster may cost beside those of its machines.
const PER_CLUSTER: usize = 8;

/// Reads every object, and plans the machines as they are.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_costs_one_call_for_a_machine_and_eight_for_a_cluster() {
    let provider = Path::new(env!("CARGO_BIN_EXE_terraform-provider-moxxie"));
    let sim = federation(VMS, Duration::ZERO).await;
    let machines = import_all(&Run::start(provider, &sim).await, VMS).await;
    // As in any plan of which the pools are a part: they are read first, and cost nothing of their own.
    let pools = {
        let run = Run::start(provider, &sim).await;
        let names = (0..POOLS).map(|n| format!("team-{n}")).collect();
        each(names, AT_ONCE, |name| {
            let core = Arc::clone(&run.core);
            async move {
                let (found, said) = core.import("moxxie_resource_pool", &name).await.expect("an answer");
                assert!(!said.has_errors(), "{said:?}");
                State { value: found[0].state.clone(), private: found[0].private.clone() }
            }
        })
        .await
    };
    let run = Run::start(provider, &sim).await;
    sim.clear_requests();
    for pool in pools {
        // A pool without a record yet says so in its warnings.
        run.core.read("moxxie_resource_pool", &pool).await.expect("an answer");
    }
    refresh(&run, TYPE, machines).await;
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for call in sim.requests() {
        *calls.entry(call.cluster.clone()).or_default() += 1;
    }
    let machines = usize::try_from(VMS / CLUSTERS).unwrap_or(0);
    println!("calls for {machines} machines on each of {CLUSTERS} clusters: {calls:?}");
    assert_eq!(calls.len(), CLUSTERS as usize);
    for (cluster, calls) in calls {
        assert!(calls >= machines, "{cluster}: {calls} calls can't have read {machines} machines");
        assert!(calls <= machines + PER_CLUSTER, "{cluster}: {calls} calls for {machines} machines");
    }
}

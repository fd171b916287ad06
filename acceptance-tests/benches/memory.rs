//! How much memory a large plan takes: `cargo bench --bench memory`.
//!
//! Prints `memory: N VMs, rss R MB`: the peak of one provider process that reads and plans N machines of four simulated
//! clusters, and `placing: N VMs, T s`: one that places N new ones. MB are 10⁶ bytes.
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::Value;
use protocol::testing::State;
use support::{Run, TYPE, each, federation, import_all};

const VMS: u32 = 10_000;
/// Core's default of `-parallelism`.
const AT_ONCE: usize = 10;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    let provider = &support::provider();
    let sim = federation(VMS, Duration::ZERO).await;
    let states = import_all(&Run::start(provider, &sim).await, VMS).await;
    let run = Run::start(provider, &sim).await;
    let began = Instant::now();
    each(states, AT_ONCE, |state| {
        let core = Arc::clone(&run.core);
        async move {
            let (now, _) = core.read(TYPE, &state).await.expect("an answer");
            let planned = core.plan(TYPE, &now, &configured(&now.value)).await.expect("an answer");
            assert!(!planned.diagnostics.has_errors(), "{:?}", planned.diagnostics);
        }
    })
    .await;
    println!("memory: {VMS} VMs, rss {:.0} MB", run.peak());
    println!("        read and planned in {:.1} s", began.elapsed().as_secs_f64());
    drop(run);
    place(provider, &sim).await;
}

async fn place(provider: &std::path::Path, sim: &simulator::Simulator) {
    let run = Run::start(provider, sim).await;
    let began = Instant::now();
    each((0..VMS).collect(), AT_ONCE, |n| {
        let core = Arc::clone(&run.core);
        async move {
            let config = Value::object([
                ("name", Value::from(format!("new-{n}"))),
                ("pool", "team-0".into()),
                ("memory", "4GB".into()),
                ("disks", Value::map([("scsi0", Value::object([("size", "20GB"), ("storage", "fast")]))])),
            ]);
            let planned = core.plan(TYPE, &State::default(), &config).await.expect("an answer");
            assert!(!planned.diagnostics.has_errors(), "{:?}", planned.diagnostics);
            assert!(planned.planned_state.attr("cluster").as_str().is_some());
        }
    })
    .await;
    println!("placing: {VMS} VMs, {:.1} s", began.elapsed().as_secs_f64());
    println!("         rss {:.0} MB", run.peak());
}

/// What its owner would have configured: what can be, with the values of state.
fn configured(state: &Value) -> Value {
    let disk = Value::object([("size", "20GiB"), ("storage", "fast")]);
    Value::object([
        ("name", state.attr("name").clone()),
        ("pool", state.attr("pool").clone()),
        ("memory", "4GB".into()),
        ("started", false.into()),
        ("disks", Value::map([("scsi0", disk)])),
    ])
}

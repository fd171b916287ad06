//! How long a refresh takes beyond what the network costs: `cargo bench --bench refresh`.
//!
//! Prints `refresh: N VMs, W s, floor F s`: one provider process reads N machines on four simulated clusters that are 20 ms
//! away. F is what the round trips alone would take: calls × round trip ÷ calls under way at once. `MOXXIE_BENCH_READS` is how
//! many reads core has under way (its `-parallelism`), by default more than the provider has calls.
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Run, TYPE, each, federation, import_all};

const VMS: u32 = 1000;
const RTT: Duration = Duration::from_millis(20);
/// The provider's default of `concurrency`.
const CALLS: usize = 32;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let reads = std::env::var("MOXXIE_BENCH_READS").ok().and_then(|text| text.parse().ok()).unwrap_or(256);
    runtime.block_on(measure(reads));
}

async fn measure(reads: usize) {
    let provider = &support::provider();
    let sim = federation(VMS, RTT).await;
    let states = import_all(&Run::start(provider, &sim).await, VMS).await;
    let run = Run::start(provider, &sim).await;
    sim.clear_requests();
    let began = Instant::now();
    let read = each(states, reads, |state| {
        let core = Arc::clone(&run.core);
        async move {
            let (now, said) = core.read(TYPE, &state).await.expect("an answer");
            assert!(said.is_empty(), "{said:?}");
            now.value == state.value
        }
    })
    .await;
    let took = began.elapsed().as_secs_f64();
    assert!(read.iter().all(|same| *same), "nothing changed");
    let calls = sim.requests().len();
    let floor = calls as f64 * RTT.as_secs_f64() / CALLS.min(reads) as f64;
    println!("refresh: {VMS} VMs, {took:.2} s, floor {floor:.2} s");
    println!("         {calls} calls, {:.2} × floor, {reads} reads under way", took / floor);
}

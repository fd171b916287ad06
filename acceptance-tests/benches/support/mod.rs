//! What the benches share: a federation of any size, a provider process that core started, what the system says of it.
#![allow(dead_code, reason = "each bench uses its part")]
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use protocol::Value;
use protocol::testing::{CoreClient, Identity, PluginProcess, State};
use simulator::{GuestSpec, Options, Simulator, World};

/// The resource that is measured.
pub const TYPE: &str = "moxxie_virtual_machine";
/// Clusters of the federation.
pub const CLUSTERS: u32 = 4;
/// Pools of each cluster.
pub const POOLS: u32 = 20;
const NODES: u32 = 3;

/// A federation of [`CLUSTERS`] clusters with `vms` machines, spread evenly, as a client `rtt` away sees it.
///
/// # Panics
/// When the simulator can't start.
pub async fn federation(vms: u32, rtt: Duration) -> Simulator {
    let mut world = World::from_yaml(&yaml()).expect("a world");
    for (index, cluster) in world.clusters.values_mut().enumerate() {
        let first = u32::try_from(index).unwrap_or(0);
        cluster.guests = (first..vms).step_by(CLUSTERS as usize).map(guest).collect();
    }
    Simulator::start(world, Options { rtt, ..Options::default() }).await.expect("a simulator")
}

fn yaml() -> String {
    let node = |n: u32| format!("n{n}: {{ cpus: 4096, memory: 64TiB }}");
    let nodes = (0..NODES).map(node).collect::<Vec<_>>().join(", ");
    let pools = (0..POOLS).map(|n| format!("{{ name: team-{n} }}")).collect::<Vec<_>>().join(", ");
    let clusters = (0..CLUSTERS).map(|n| {
        format!(
            "  site-{n}:\n    cluster_name: site{n}\n    nodes: {{ {nodes} }}\n    \
             storages: {{ fast: {{ type: rbd, content: [images], capacity: 900TiB, shared: true }} }}\n    pools: [{pools}]\n"
        )
    });
    format!(
        "content: 16\nclusters:\n{}users:\n  - id: bench@pve\n    acl: [{{ path: /, role: Administrator }}]\n    \
         tokens: [{{ id: bench }}]\n",
        clusters.collect::<String>()
    )
}

fn vmid(n: u32) -> u32 {
    100 + n
}

fn guest(n: u32) -> GuestSpec {
    let config = [
        ("name", format!("service-{n}")),
        ("cores", "2".to_owned()),
        ("memory", "4096".to_owned()),
        ("cpu", "x86-64-v2-AES".to_owned()),
        ("ostype", "l26".to_owned()),
        ("scsihw", "virtio-scsi-single".to_owned()),
        ("smbios1", format!("uuid=00000000-0000-4000-8000-{n:012x}")),
        ("net0", format!("virtio=BC:24:11:{:02X}:{:02X}:{:02X},bridge=vmbr0", n >> 16 & 255, n >> 8 & 255, n & 255)),
        ("scsi0", "fast:20".to_owned()),
        ("tags", "app;production".to_owned()),
    ];
    let node = format!("n{}", n / CLUSTERS % NODES);
    let pool = Some(format!("team-{}", n / CLUSTERS % POOLS));
    let config = config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    GuestSpec { vmid: vmid(n), node, config, pool, running: false }
}

/// The federation's file: every pool spans all clusters.
fn file() -> String {
    let cluster =
        |n: u32| format!("  - {{ id: site-{n}, name: site-{n}, provider: ours, location: here, tier: primary }}\n");
    let all = (0..CLUSTERS).map(|n| format!("site-{n}")).collect::<Vec<_>>().join(", ");
    let pool =
        |n: u32| format!("  - {{ name: team-{n}, clusters: [{all}], placement_policy: {{ strategy: balanced }} }}\n");
    let (clusters, pools) = ((0..CLUSTERS).map(cluster), (0..POOLS).map(pool));
    format!("clusters:\n{}resource_pools:\n{}", clusters.collect::<String>(), pools.collect::<String>())
}

/// The provider block.
fn block(sim: &Simulator, file: &Path) -> Value {
    let clusters = sim.clusters().into_iter().map(|cluster| {
        let connection = Value::object([
            ("endpoints", Value::list([cluster.url()])),
            ("api_token", cluster.token("bench").unwrap_or_default().into()),
            ("fingerprints", Value::list([cluster.fingerprint()])),
        ]);
        (cluster.name().to_owned(), connection)
    });
    Value::object([("config_file", Value::from(file.display().to_string())), ("clusters", Value::map(clusters))])
}

/// The provider to measure: what `MOXXIE_BENCH_PROVIDER` names, else what cargo built beside the bench.
pub fn provider() -> PathBuf {
    named().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_terraform-provider-moxxie")))
}

/// What `MOXXIE_BENCH_PROVIDER` names.
pub fn named() -> Option<PathBuf> {
    std::env::var_os("MOXXIE_BENCH_PROVIDER").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A provider process in a folder of its own, configured for a federation.
pub struct Run {
    /// Core's side of it.
    pub core: Arc<CoreClient>,
    process: PluginProcess,
    _folder: tempfile::TempDir,
}

impl Run {
    /// Starts `provider`.
    ///
    /// # Panics
    /// When it doesn't start, or finds fault with its configuration.
    pub async fn start(provider: &Path, sim: &Simulator) -> Run {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(provider);
        command.current_dir(folder.path());
        let process = PluginProcess::start(command, &Identity::new().expect("an identity")).expect("a process");
        let core = process.connect().await.expect("a connection");
        let file_of_federation = folder.path().join("multi-site.yaml");
        std::fs::write(&file_of_federation, file()).expect("the federation's file");
        // As core does it: a run that validates is one that plans.
        let said = core.validate_provider(block(sim, &file_of_federation)).await.expect("an answer");
        assert!(!said.has_errors(), "{said:?}");
        let said = core.configure(block(sim, &file_of_federation)).await.expect("an answer");
        assert!(!said.has_errors(), "{said:?}");
        Run { core: Arc::new(core), process, _folder: folder }
    }

    /// The most memory it ever had, in 10⁶ bytes.
    pub fn peak(&self) -> f64 {
        peak(self.process.id())
    }
}

/// The most memory that a process ever had, in 10⁶ bytes.
///
/// # Panics
/// Where there is no `/proc`.
pub fn peak(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc: the benches need Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024.0 / 1e6
}

/// State of all machines, as an import makes it.
///
/// # Panics
/// When one can't be imported.
pub async fn import_all(run: &Run, vms: u32) -> Vec<State> {
    let core = &run.core;
    let ids: Vec<String> = (0..vms).map(|n| format!("site-{}/{}", n % CLUSTERS, vmid(n))).collect();
    each(ids, 64, |id| {
        let core = Arc::clone(core);
        async move {
            let (mut found, said) = core.import(TYPE, &id).await.expect("an answer");
            assert!(!said.has_errors(), "{id}: {said:?}");
            let found = found.remove(0);
            State { value: found.state, private: found.private }
        }
    })
    .await
}

/// Does something to each of `items`, `at_once` at a time, and gives the results in order.
///
/// # Panics
/// When one of them does.
pub async fn each<I, O, F>(items: Vec<I>, at_once: usize, act: impl Fn(I) -> F) -> Vec<O>
where
    F: Future<Output = O> + Send + 'static,
    O: Send + 'static,
{
    let places = Arc::new(tokio::sync::Semaphore::new(at_once));
    let mut running = Vec::with_capacity(items.len());
    for item in items {
        let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
        let acting = act(item);
        running.push(tokio::spawn(async move {
            let done = acting.await;
            drop(place);
            done
        }));
    }
    let mut done = Vec::with_capacity(running.len());
    for one in running {
        done.push(one.await.expect("no panic"));
    }
    done
}

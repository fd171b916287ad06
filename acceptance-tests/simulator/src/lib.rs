//! A federation of Proxmox VE clusters to test against, over HTTPS on loopback.
//!
//! It must know nothing of the provider: no types, no names, no expectations. Its only law is
//! `proxmox-ve.md`; what it leaves out is in `fidelity.md`.
//!
//! ```no_run
//! # async fn example() -> Result<(), simulator::SimulatorError> {
//! let sim = simulator::Simulator::start(simulator::World::three_sites()?, simulator::Options::default()).await?;
//! let prod = sim.cluster("worldstream-prod");
//! println!("{} {:?}", prod.url(), prod.token("app").is_some());
//! # Ok(()) }
//! ```

mod acl;
mod auth;
mod backup;
mod by_hand;
mod bytes;
mod clock;
mod content;
mod error;
mod faults;
mod firewall;
mod genesis;
mod ha;
mod ha_rules;
mod http;
mod inspect;
mod jobs;
mod log;
mod pools;
mod qemu;
mod reads;
mod replication;
mod routes;
mod server;
mod snapshot;
mod state;
mod storage;
mod table;
mod tasks;
mod texts;
mod tls;
mod util;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use clock::Pace;
pub use faults::{Action, GateHit, Matched, Nth, Rule, RuleId};
pub use inspect::{ClusterHandle, NodePower};
pub use log::Request;
pub use snapshot::{ArchiveSnapshot, DiskSnapshot, VmSnapshot, VolumeSnapshot};
pub use world::{
    AclSpec, BridgeSpec, ClusterSpec, GuestSpec, LinkSpec, NodeSpec, PoolSpec, Profile, StorageSpec, TokenSpec,
    UserSpec, World,
};

use server::Shared;
use state::State;

/// What the simulator could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatorError(pub String);

impl std::fmt::Display for SimulatorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SimulatorError {}

type Result<T> = std::result::Result<T, SimulatorError>;

/// Where the clusters listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listen {
    /// One address per cluster, answered by the first node that is on.
    #[default]
    PerCluster,
    /// One address per node; each with its own certificate, dead when its node is.
    PerNode,
}

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Secrets, ids, MACs and disk contents depend on it and on the order of events alone. Certificates do not.
    pub seed: u64,
    /// Time.
    pub clock: Pace,
    /// Addresses.
    pub listen: Listen,
    /// Real time of a round trip between a client and any cluster: a new connection takes two (TCP and TLS), each answer one.
    pub rtt: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 1, clock: Pace::Stepped, listen: Listen::PerCluster, rtt: Duration::ZERO }
    }
}

/// A running federation; it ends when dropped.
pub struct Simulator {
    shared: Shared,
    handles: BTreeMap<String, ClusterHandle>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    cut: watch::Sender<u64>,
    seed: u64,
    // Holds every byte of every disk; removed with the simulator.
    _folder: tempfile::TempDir,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").field("seed", &self.seed).field("clusters", &self.handles).finish_non_exhaustive()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.cut.send_modify(|cuts| *cuts += 1);
        if std::thread::panicking() {
            eprintln!("simulator seed: {}", self.seed);
        }
    }
}

impl Simulator {
    /// Builds the world and starts listening on loopback.
    ///
    /// # Errors
    /// When the world contradicts itself, or there is no socket or temporary folder.
    pub async fn start(world: World, options: Options) -> Result<Simulator> {
        let folder = tempfile::Builder::new()
            .prefix("moxxie-sim-")
            .tempdir()
            .map_err(|error| SimulatorError(format!("temporary folder: {error}")))?;
        let (state, leaves) = genesis::build(&world, options.seed, options.clock, folder.path().to_owned())?;
        let shared: Shared = Arc::new(Mutex::new(state));
        let (cut, cuts) = watch::channel(0);
        let mut tasks = Vec::new();
        let mut handles = BTreeMap::new();
        for (name, of_nodes) in leaves {
            let (mut urls, mut switches) = (Vec::new(), Vec::new());
            for (node, leaf) in of_nodes {
                let own = (options.listen == Listen::PerNode).then_some(node);
                let per_cluster = own.is_none();
                let place = server::Place { cluster: name.clone(), node: own.clone(), rtt: options.rtt };
                let listener = server::listen(shared.clone(), place, leaf.config, cuts.clone()).await?;
                let listens = (name.clone(), own);
                let mut st = shared.lock().unwrap_or_else(PoisonError::into_inner);
                st.addresses.insert(listener.address.port(), listens);
                drop(st);
                urls.push(format!("https://{}", listener.address));
                switches.push(listener.switch);
                tasks.push(listener.task);
                if per_cluster {
                    break;
                }
            }
            let handle = ClusterHandle { shared: shared.clone(), name: name.clone(), urls, switches };
            handles.insert(name, handle);
        }
        if matches!(options.clock, Pace::Wall { .. }) {
            tasks.push(tokio::spawn(go_on(shared.clone())));
        }
        Ok(Simulator { shared, handles, tasks, cut, seed: options.seed, _folder: folder })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seed it runs with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A cluster.
    ///
    /// # Panics
    /// When the world has none of that name: a mistake in the test.
    pub fn cluster(&self, name: &str) -> ClusterHandle {
        match self.handles.get(name) {
            Some(handle) => handle.clone(),
            None => panic!("no cluster '{name}' in this world; there are {:?}", self.handles.keys()),
        }
    }

    /// All clusters.
    pub fn clusters(&self) -> Vec<ClusterHandle> {
        self.handles.values().cloned().collect()
    }

    /// Where its clusters are and who may enter: one line of JSON for each, or a block for people. Tokens are in it on purpose:
    /// they open nothing but this simulator.
    pub fn describe(&self, json: bool) -> String {
        let mut out = String::new();
        for cluster in self.clusters() {
            let tokens: std::collections::BTreeMap<_, _> = cluster
                .token_ids()
                .iter()
                .filter_map(|id| Some((id.split('!').nth(1)?.to_owned(), cluster.token(id)?)))
                .collect();
            if json {
                let line = serde_json::json!({
                    "cluster": cluster.name(), "url": cluster.url(), "urls": cluster.urls(), "tokens": tokens,
                    "token": tokens.get("platform").or_else(|| tokens.values().next()),
                    "fingerprint": cluster.fingerprint(), "fingerprints": cluster.fingerprints(),
                    "ca_pem": cluster.ca_pem(), "seed": self.seed(),
                });
                out.push_str(&format!("{line}\n"));
            } else {
                out.push_str(&format!("{}\n", cluster.name()));
                for url in cluster.urls() {
                    out.push_str(&format!("  url          {url}\n"));
                }
                for fingerprint in cluster.fingerprints() {
                    out.push_str(&format!("  fingerprint  {fingerprint}\n"));
                }
                for (id, token) in tokens {
                    out.push_str(&format!("  token        {id}: {token}\n"));
                }
            }
        }
        out
    }

    /// Every VM with this SMBIOS UUID, wherever it is and whatever it does.
    pub fn copies(&self, uuid: &str) -> Vec<VmSnapshot> {
        snapshot::copies(&mut self.lock(), uuid)
    }

    /// Those whose guest runs right now. More than one is a disaster.
    pub fn running_copies(&self, uuid: &str) -> Vec<VmSnapshot> {
        self.copies(uuid).into_iter().filter(|vm| vm.running).collect()
    }

    /// The last record the guest with this UUID ever wrote, whichever copy of it ran.
    pub fn newest_written(&self, uuid: &str) -> u64 {
        let mut st = self.lock();
        st.flush_all();
        st.written.get(&uuid.to_lowercase()).copied().unwrap_or(0)
    }

    /// The newest record of that guest on any disk of any copy or in any readable archive. Nothing is lost as long as
    /// it equals [`Simulator::newest_written`].
    pub fn newest_held(&self, uuid: &str) -> u64 {
        snapshot::newest_held(&mut self.lock(), uuid)
    }

    /// What is left lying about: stubs, locks, unused and orphan volumes, archives that were not there at the start,
    /// pools below `moxxie-moves`, running tasks. Empty when all is tidy.
    pub fn litter(&self) -> Vec<String> {
        snapshot::litter(&self.lock())
    }

    /// Time goes on by hand; what becomes due happens.
    pub fn advance(&self, by: Duration) {
        let mut st = self.lock();
        let target = st.clock.skip(by);
        st.run_until(target);
    }

    /// The clusters' time, milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.lock().now()
    }

    /// All requests since the start or the last [`Simulator::clear_requests`].
    pub fn requests(&self) -> Vec<Request> {
        self.lock().log.entries.clone()
    }

    /// Empties the request log; sequence numbers go on.
    pub fn clear_requests(&self) {
        self.lock().log.entries.clear();
    }

    /// Adds a fault rule.
    pub fn fault(&self, rule: Rule) -> RuleId {
        self.lock().faults.add(rule)
    }

    /// Takes a rule away.
    pub fn unfault(&self, id: RuleId) {
        self.lock().faults.remove(id);
    }

    /// Takes all rules away.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// How many calls a rule matched so far.
    pub fn fault_hits(&self, id: RuleId) -> u64 {
        self.lock().faults.hits(id)
    }

    /// Arms the gate: the n-th API call from now (counted from 1 over all clusters) is held, before it is done or
    /// after it, and so is every call after it. The receiver learns of it. [`Simulator::release`] opens the gate.
    pub fn gate(&self, n: u64, executed: bool) -> oneshot::Receiver<GateHit> {
        let (told, hit) = oneshot::channel();
        let mut st = self.lock();
        st.faults.calls = 0;
        st.faults.gate = Some(faults::Gate { n, executed, told: Some(told), shut: false });
        hit
    }

    /// Arms the counter alone.
    pub fn arm(&self) {
        let mut st = self.lock();
        st.faults.calls = 0;
        st.faults.gate = None;
    }

    /// API calls since [`Simulator::gate`] or [`Simulator::arm`].
    pub fn calls_since_arm(&self) -> u64 {
        self.lock().faults.calls
    }

    /// Opens the gate and cuts all connections, held or not.
    pub fn release(&self) {
        self.lock().faults.gate = None;
        self.cut_connections();
    }

    /// Cuts every open connection of every cluster; listeners stay.
    pub fn cut_connections(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

/// With wall time, tasks and guests go on without being looked at.
async fn go_on(shared: Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut st = shared.lock().unwrap_or_else(PoisonError::into_inner);
        st.look(Duration::ZERO);
    }
}

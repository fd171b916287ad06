//! Everything the simulated federation is at one instant; handlers and tasks change it under one lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::acl::Access;
use crate::clock::{Clock, Millis};
use crate::error::ApiError;
use crate::faults::Faults;
use crate::ha::HaResource;
use crate::log::RequestLog;
use crate::storage::{StorageDef, Store};
use crate::tasks::Task;
use crate::util;
use crate::world::Profile;

/// How often pvestatd, CRM and LRM look (proxmox-ve.md §2.5, §10.4).
pub(crate) const STATD: Millis = 10_000;

pub(crate) struct State {
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    /// Counts requests and task steps; a running guest writes one record for each.
    pub(crate) events: u64,
    pub(crate) unique: u64,
    pub(crate) folder: PathBuf,
    pub(crate) content: u64,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) stores: BTreeMap<String, Store>,
    pub(crate) links: Vec<crate::world::LinkSpec>,
    /// Lines between clusters that are down.
    pub(crate) cut_lines: BTreeSet<(String, String)>,
    /// Who listens on which port of loopback: a cluster, and the node where the port is one node's.
    pub(crate) addresses: BTreeMap<u16, (String, Option<String>)>,
    pub(crate) faults: Faults,
    pub(crate) log: RequestLog,
    /// The last record each guest ever wrote, by its UUID.
    pub(crate) written: BTreeMap<String, u64>,
    /// Volumes that were there when the world was built; litter is counted from here.
    pub(crate) baseline: BTreeSet<String>,
}

pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) profile: Profile,
    pub(crate) corosync: Option<String>,
    pub(crate) quorate: bool,
    pub(crate) dark: bool,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) storages: BTreeMap<String, StorageDef>,
    pub(crate) vms: BTreeMap<u32, Vm>,
    pub(crate) pools: BTreeMap<String, Pool>,
    pub(crate) access: Access,
    pub(crate) options: BTreeMap<String, serde_json::Value>,
    pub(crate) ha: BTreeMap<String, HaResource>,
    pub(crate) ha_rules: BTreeMap<String, crate::ha_rules::HaRule>,
    /// Nodes by HA group, where there are groups (PVE 8).
    pub(crate) ha_groups: BTreeMap<String, String>,
    pub(crate) jobs: Vec<crate::jobs::Job>,
    pub(crate) firewall: crate::firewall::Firewall,
    /// Guests with a replication job.
    pub(crate) replicated: BTreeMap<u32, crate::replication::Job>,
    pub(crate) tasks: Vec<Task>,
    /// How long a copy of a machine takes, in milliseconds.
    pub(crate) clone_ms: u64,
    pub(crate) next_tick: Millis,
    pub(crate) ca_fingerprint: String,
    pub(crate) ca_pem: String,
}

pub(crate) struct Node {
    pub(crate) cpus: u32,
    pub(crate) memory: u64,
    pub(crate) address: String,
    pub(crate) bridges: Vec<crate::world::BridgeSpec>,
    /// Paths of disks that guests may be given as drives, and directory mappings, as `dir:NAME`.
    pub(crate) devices: std::collections::BTreeSet<String>,
    /// Minutes its local time is ahead of UTC.
    pub(crate) utc_offset: i64,
    /// Since when its pvestatd tells nobody anything.
    pub(crate) silent_since: Option<Millis>,
    /// As `/proc/cpuinfo` names them.
    pub(crate) cpu_flags: String,
    /// The newest machine version that its QEMU knows: `9.2`.
    pub(crate) newest_machine: String,
    pub(crate) online: bool,
    /// A rebooting node comes back by itself.
    pub(crate) back_at: Option<Millis>,
    pub(crate) since: Millis,
    /// Who holds `/var/run/vzdump.lock` (an index into the cluster's tasks).
    pub(crate) vzdump: Option<usize>,
    pub(crate) leaf_pem: String,
    pub(crate) fingerprint: String,
}

#[derive(Default)]
pub(crate) struct Pool {
    pub(crate) comment: String,
    pub(crate) vms: BTreeSet<u32>,
    pub(crate) storages: BTreeSet<String>,
}

/// What QEMU is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    Stopped,
    Running,
    Paused,
    /// Started, but no guest code has run: a stopped guest being backed up.
    Prelaunch,
    /// Waits for a guest from another cluster.
    Inmigrate,
    /// Has handed its guest over, and stands still.
    Postmigrate,
}

impl Power {
    pub(crate) fn qmp(self) -> &'static str {
        match self {
            Power::Stopped => "stopped",
            Power::Running => "running",
            Power::Paused => "paused",
            Power::Prelaunch => "prelaunch",
            Power::Inmigrate => "inmigrate",
            Power::Postmigrate => "postmigrate",
        }
    }
}

/// A change that waits for the next full stop and start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pending {
    Set(String),
    Delete { force: bool },
}

pub(crate) struct Vm {
    pub(crate) vmid: u32,
    pub(crate) node: String,
    pub(crate) conf: BTreeMap<String, String>,
    pub(crate) pending: BTreeMap<String, Pending>,
    pub(crate) power: Power,
    pub(crate) started_at: Millis,
    /// Event of the last record on its disk, while the guest runs.
    pub(crate) written: u64,
    /// A task that holds the file lock, so that other writers time out.
    pub(crate) flock: Option<usize>,
    /// What pvestatd last told the cluster: status and name.
    pub(crate) seen: Option<Seen>,
    /// The node that lists still name while its configuration is on another one already, or on its way.
    pub(crate) listed_on: Option<String>,
    /// No node has its configuration at this moment.
    pub(crate) in_flight: bool,
    /// When its configuration was first written.
    pub(crate) made_at: Millis,
    pub(crate) pid: u32,
    /// A shutdown asked for while the agent or ACPI is ignored never comes.
    pub(crate) ignores_shutdown: bool,
    /// How long it takes to shut down.
    pub(crate) shutdown_ms: u64,
    /// How often it was stopped without having shut down.
    pub(crate) hard_stops: u32,
    /// Its own rules.
    pub(crate) firewall: crate::firewall::GuestFirewall,
}

/// What pvestatd told of a guest.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// QEMU's status.
    pub(crate) status: String,
    pub(crate) name: String,
    /// Seconds it had run by then.
    pub(crate) uptime: i64,
}

impl Vm {
    pub(crate) fn new(vmid: u32, node: &str) -> Self {
        Vm {
            vmid,
            node: node.to_owned(),
            conf: BTreeMap::new(),
            pending: BTreeMap::new(),
            power: Power::Stopped,
            started_at: 0,
            written: 0,
            flock: None,
            seen: None,
            listed_on: None,
            in_flight: false,
            made_at: 0,
            pid: 0,
            ignores_shutdown: false,
            shutdown_ms: 3_000,
            hard_stops: 0,
            firewall: crate::firewall::GuestFirewall::default(),
        }
    }

    pub(crate) fn lock(&self) -> Option<&str> {
        self.conf.get("lock").map(String::as_str)
    }

    /// `VM is locked (x)` when it is.
    pub(crate) fn check_lock(&self) -> Result<(), ApiError> {
        match self.lock() {
            Some(lock) => Err(ApiError::die(format!("VM is locked ({lock})"))),
            None => Ok(()),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.conf.get(key).is_some_and(|value| value == "1")
    }

    pub(crate) fn name(&self) -> String {
        self.conf.get("name").cloned().unwrap_or_else(|| format!("VM {}", self.vmid))
    }

    pub(crate) fn memory(&self) -> u64 {
        let mib = self
            .conf
            .get("memory")
            .map_or(512, |text| text.strip_prefix("current=").unwrap_or(text).parse::<u64>().unwrap_or(512));
        mib << 20
    }

    pub(crate) fn cpus(&self) -> u64 {
        let number = |key: &str| self.conf.get(key).and_then(|v| v.parse::<u64>().ok()).unwrap_or(1);
        number("cores") * number("sockets")
    }

    /// The configuration file as text: what the digest is taken of.
    pub(crate) fn raw(&self) -> String {
        let mut out = String::new();
        for line in self.conf.get("description").iter().flat_map(|d| d.lines()) {
            out.push_str(&format!("#{}\n", util::percent_encode_notes(line)));
        }
        for (key, value) in self.conf.iter().filter(|(key, _)| *key != "description") {
            out.push_str(&format!("{key}: {value}\n"));
        }
        if !self.pending.is_empty() {
            out.push_str("\n[PENDING]\n");
            for (key, change) in &self.pending {
                match change {
                    Pending::Set(value) => out.push_str(&format!("{key}: {value}\n")),
                    Pending::Delete { force } => {
                        out.push_str(&format!("delete: {}{key}\n", if *force { "!" } else { "" }));
                    }
                }
            }
        }
        out
    }

    pub(crate) fn digest(&self) -> String {
        util::sha1_hex(&self.raw())
    }

    /// SMBIOS UUID, if it has one.
    pub(crate) fn uuid(&self) -> Option<String> {
        let smbios = self.conf.get("smbios1")?;
        smbios.split(',').find_map(|part| part.strip_prefix("uuid=")).map(str::to_lowercase)
    }
}

/// The line between two clusters, whichever is named first.
pub(crate) fn line(one: &str, other: &str) -> (String, String) {
    let (a, b) = if one <= other { (one, other) } else { (other, one) };
    (a.to_owned(), b.to_owned())
}

impl State {
    /// What is known of the line between two clusters.
    pub(crate) fn link(&self, one: &str, other: &str) -> Option<&crate::world::LinkSpec> {
        self.links.iter().find(|link| one != other && line(&link.between[0], &link.between[1]) == line(one, other))
    }

    pub(crate) fn is_cut(&self, one: &str, other: &str) -> bool {
        self.cut_lines.contains(&line(one, other))
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    pub(crate) fn seconds(&self) -> i64 {
        self.clock.now() / 1000
    }

    /// A number no other call gets.
    pub(crate) fn fresh(&mut self, label: &str) -> u64 {
        self.unique += 1;
        util::mix(self.seed, &format!("{label}/{}", self.unique))
    }

    pub(crate) fn fresh_uuid(&mut self, label: &str) -> String {
        self.unique += 1;
        util::uuid(self.seed, &format!("{label}/{}", self.unique))
    }

    /// The named cluster; handlers only ever hold names of clusters that exist.
    pub(crate) fn cluster(&self, name: &str) -> &Cluster {
        match self.clusters.get(name) {
            Some(cluster) => cluster,
            None => unreachable!("cluster {name} is named by its own listener"),
        }
    }

    pub(crate) fn cluster_mut(&mut self, name: &str) -> &mut Cluster {
        match self.clusters.get_mut(name) {
            Some(cluster) => cluster,
            None => unreachable!("cluster {name} is named by its own listener"),
        }
    }

    /// Time is looked at: everything that became due happens, in order.
    pub(crate) fn look(&mut self, step: Duration) {
        let target = self.clock.target(step);
        self.run_until(target);
    }

    /// Stepped time goes on to what somebody waits for.
    pub(crate) fn wait_until(&mut self, due: Option<Millis>) {
        if let Some(due) = due.filter(|due| self.clock.is_stepped() && *due > self.clock.now()) {
            self.run_until(due);
        }
    }

    /// Runs all that is due up to `target` and leaves the clock there.
    pub(crate) fn run_until(&mut self, target: Millis) {
        while let Some((due, next)) = self.next_due(target) {
            self.clock.set(due);
            match next {
                Due::Tick(cluster) => self.tick(&cluster),
                Due::Back(cluster, node) => self.node_back(&cluster, &node),
                Due::Task(cluster, index) => self.step_task(&cluster, index),
                Due::Job(cluster, index) => crate::jobs::run(self, &cluster, index),
            }
        }
        self.clock.set(target);
    }

    fn next_due(&self, target: Millis) -> Option<(Millis, Due)> {
        let mut best: Option<(Millis, Due)> = None;
        let mut offer = |at: Millis, due: Due| {
            if at <= target && best.as_ref().is_none_or(|(so_far, _)| at < *so_far) {
                best = Some((at, due));
            }
        };
        for (name, cluster) in &self.clusters {
            offer(cluster.next_tick, Due::Tick(name.clone()));
            for (node, facts) in &cluster.nodes {
                if let Some(at) = facts.back_at {
                    offer(at, Due::Back(name.clone(), node.clone()));
                }
            }
            for (index, job) in cluster.jobs.iter().enumerate().filter(|(_, job)| job.enabled) {
                offer(job.next_run, Due::Job(name.clone(), index));
            }
            for (index, task) in cluster.tasks.iter().enumerate() {
                if task.is_running() {
                    offer(task.due, Due::Task(name.clone(), index));
                }
            }
        }
        best
    }

    /// pvestatd's round and the HA managers', every ten seconds.
    fn tick(&mut self, name: &str) {
        let now = self.now();
        let cluster = self.cluster_mut(name);
        cluster.next_tick = now + STATD;
        cluster.publish(now);
        crate::replication::run(cluster, now);
        crate::ha::round(self, name);
    }

    /// Everybody's guests may have written since the last look.
    pub(crate) fn event(&mut self) {
        self.events += 1;
    }
}

enum Due {
    Tick(String),
    Back(String, String),
    Task(String, usize),
    Job(String, usize),
}

impl Cluster {
    pub(crate) fn is_9(&self) -> bool {
        self.profile != Profile::V8_4
    }

    /// Proxmox VE 9.2 and newer.
    pub(crate) fn is_9_2(&self) -> bool {
        self.profile == Profile::V9_2
    }

    /// pvestatd's round: what `/cluster/resources` will say until the next one.
    pub(crate) fn publish(&mut self, now: Millis) {
        let tells = |node: &Node| node.online && node.silent_since.is_none();
        let telling: BTreeSet<String> =
            self.nodes.iter().filter(|(_, node)| tells(node)).map(|(name, _)| name.clone()).collect();
        for vm in self.vms.values_mut().filter(|vm| telling.contains(&vm.node)) {
            let uptime = if vm.power == Power::Stopped { 0 } else { (now - vm.started_at) / 1000 };
            vm.seen = Some(Seen { status: vm.power.qmp().to_owned(), name: vm.name(), uptime });
        }
    }

    /// Minutes a node's local time is ahead of UTC.
    pub(crate) fn utc_offset(&self, node: &str) -> i64 {
        self.nodes.get(node).map_or(0, |node| node.utc_offset)
    }

    /// A majority of the nodes must be on.
    pub(crate) fn count_votes(&mut self) {
        let online = self.nodes.values().filter(|node| node.online).count();
        self.quorate = online * 2 > self.nodes.len();
    }

    /// `500 cluster not ready - no quorum?`
    pub(crate) fn need_quorum(&self) -> Result<(), ApiError> {
        if self.quorate { Ok(()) } else { Err(ApiError::die("cluster not ready - no quorum?")) }
    }

    /// The not-found of PVE (proxmox-ve.md §4): there is no 404 anywhere.
    pub(crate) fn missing(node: &str, vmid: u32) -> ApiError {
        ApiError::die(format!("Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist"))
    }

    pub(crate) fn vm(&self, node: &str, vmid: u32) -> Result<&Vm, ApiError> {
        self.vms.get(&vmid).filter(|vm| vm.node == node && !vm.in_flight).ok_or_else(|| Self::missing(node, vmid))
    }

    pub(crate) fn vm_mut(&mut self, node: &str, vmid: u32) -> Result<&mut Vm, ApiError> {
        self.vms.get_mut(&vmid).filter(|vm| vm.node == node && !vm.in_flight).ok_or_else(|| Self::missing(node, vmid))
    }

    /// A VM to be written: pmxcfs must be writable and no task may hold its file lock.
    pub(crate) fn vm_to_write(&mut self, node: &str, vmid: u32) -> Result<&mut Vm, ApiError> {
        if self.vm(node, vmid)?.flock.is_some() {
            return Err(ApiError::die(format!(
                "can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"
            )));
        }
        self.vm_to_write_held(node, vmid)
    }

    /// The same for the task that holds the file lock.
    pub(crate) fn vm_to_write_held(&mut self, node: &str, vmid: u32) -> Result<&mut Vm, ApiError> {
        let quorate = self.quorate;
        let vm = self.vm_mut(node, vmid)?;
        if !quorate {
            return Err(ApiError::die(format!(
                "unable to open file '/etc/pve/nodes/{node}/qemu-server/{vmid}.conf.tmp.{}' - Permission denied",
                4000 + vmid
            )));
        }
        Ok(vm)
    }

    pub(crate) fn pool_of(&self, vmid: u32) -> Option<&str> {
        self.pools.iter().find(|(_, pool)| pool.vms.contains(&vmid)).map(|(name, _)| name.as_str())
    }

    /// The node that answers on the cluster's address.
    pub(crate) fn entry(&self) -> Option<&str> {
        self.nodes.iter().find(|(_, node)| node.online).map(|(name, _)| name.as_str())
    }
}

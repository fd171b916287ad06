//! Owns the calls about a cluster as a whole.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{Client, Error, Fingerprint, Params, Result, de, split_tags};

/// What a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// For example `9.1.9`.
    pub version: String,
    /// For example `9.1`.
    #[serde(default, deserialize_with = "de::text")]
    pub release: String,
    /// The build.
    #[serde(default, deserialize_with = "de::text")]
    pub repoid: String,
}

impl Version {
    /// Major and minor number; 0 where there is none.
    pub fn numbers(&self) -> (u32, u32) {
        let mut parts = self.version.split(['.', '-', '~']).map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Whether it is this version or a newer one.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.numbers() >= (major, minor)
    }

    /// `ha-managed` of create and restore, `failback` of HA resources, `purge` of their removal, and HA rules in
    /// place of groups came with 9 (`proxmox-ve.md` §14). Unknown parameters are refused, so ask first.
    pub fn has_ha_rules(&self) -> bool {
        self.at_least(9, 0)
    }

    /// Whether rights on the guest agent are `VM.GuestAgent.*` (9) and not `VM.Monitor` (8).
    pub fn has_guest_agent_privileges(&self) -> bool {
        self.at_least(9, 0)
    }

    /// Pools inside pools came with 8.1 (`proxmox-ve.md` §16).
    pub fn has_nested_pools(&self) -> bool {
        self.at_least(8, 1)
    }
}

/// `GET /cluster/status` in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster's own name; None for a single node. Not unique across clusters.
    pub name: Option<String>,
    /// Whether it has quorum; a single node always has.
    pub quorate: bool,
    /// The version of corosync's configuration.
    pub config_version: Option<u64>,
    /// The nodes.
    pub nodes: Vec<NodeMember>,
}

/// A node as the cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMember {
    /// Its name.
    pub name: String,
    /// Its number; 0 for a single node.
    pub nodeid: u64,
    /// Its address in the cluster.
    pub ip: Option<String>,
    /// Whether it is the one that answered.
    pub local: bool,
    /// Whether it is in the cluster now.
    pub online: bool,
}

/// What `GET /cluster/resources` is asked for. Pools and networks come only without a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// QEMU guests and containers.
    Vm,
    /// Storages, one entry per node.
    Storage,
    /// Nodes.
    Node,
    /// SDN zones.
    Sdn,
}

/// An entry of `GET /cluster/resources`. Sizes in bytes. It lags up to 10 s behind in `status`, `name` and load, and
/// hides what we may not see (`proxmox-ve.md` §10.1).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// `qemu/100`, `node/pve1`, `storage/pve1/nfs`, `/pool/x`.
    pub id: String,
    /// `qemu`, `lxc`, `node`, `storage`, `pool`, `sdn`, `network`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The node.
    #[serde(deserialize_with = "de::opt_text")]
    pub node: Option<String>,
    /// Nodes: online, offline, unknown. Guests: QEMU's status or `unknown`. Storages: available, unknown.
    #[serde(deserialize_with = "de::opt_text")]
    pub status: Option<String>,
    /// The guest's number.
    #[serde(deserialize_with = "de::opt_vmid")]
    pub vmid: Option<u32>,
    /// The guest's name; missing for the first seconds of its life.
    #[serde(deserialize_with = "de::opt_text")]
    pub name: Option<String>,
    /// Whether the guest is a template.
    #[serde(deserialize_with = "de::flag")]
    pub template: bool,
    /// The guest's or entry's pool.
    #[serde(deserialize_with = "de::opt_text")]
    pub pool: Option<String>,
    /// The guest's lock (live).
    #[serde(deserialize_with = "de::opt_text")]
    pub lock: Option<String>,
    /// The guest's tags as PVE writes them (live); see [`Resource::tags`].
    #[serde(rename = "tags", deserialize_with = "de::opt_text")]
    pub tags_text: Option<String>,
    /// The HA manager's state.
    #[serde(deserialize_with = "de::opt_text")]
    pub hastate: Option<String>,
    /// Load, 0 to 1.
    #[serde(deserialize_with = "de::opt_f64")]
    pub cpu: Option<f64>,
    /// Cores. Of a node only with Sys.Audit on it.
    #[serde(deserialize_with = "de::opt_u64")]
    pub maxcpu: Option<u64>,
    /// Memory in use.
    #[serde(deserialize_with = "de::opt_u64")]
    pub mem: Option<u64>,
    /// Memory.
    #[serde(deserialize_with = "de::opt_u64")]
    pub maxmem: Option<u64>,
    /// Space in use (0 for guests).
    #[serde(deserialize_with = "de::opt_u64")]
    pub disk: Option<u64>,
    /// Space.
    #[serde(deserialize_with = "de::opt_u64")]
    pub maxdisk: Option<u64>,
    /// Seconds since start.
    #[serde(deserialize_with = "de::opt_u64")]
    pub uptime: Option<u64>,
    /// The storage's name.
    #[serde(deserialize_with = "de::opt_text")]
    pub storage: Option<String>,
    /// Whether the storage is the same on all its nodes.
    #[serde(deserialize_with = "de::flag")]
    pub shared: bool,
    /// What the storage may hold.
    #[serde(deserialize_with = "de::list")]
    pub content: Vec<String>,
    /// The storage's type, for example `lvmthin`.
    #[serde(deserialize_with = "de::opt_text")]
    pub plugintype: Option<String>,
}

impl Resource {
    /// The guest's tags.
    pub fn tags(&self) -> Vec<String> {
        split_tags(self.tags_text.as_deref().unwrap_or_default())
    }
}

/// A replication job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReplicationJob {
    /// `GUEST-NUMBER`, for example `100-0`.
    pub id: String,
    /// The guest.
    #[serde(deserialize_with = "de::opt_vmid")]
    pub guest: Option<u32>,
    /// The node it replicates to.
    #[serde(deserialize_with = "de::opt_text")]
    pub target: Option<String>,
    /// Set while it is being removed: PVE does so at its next run.
    #[serde(deserialize_with = "de::opt_text")]
    pub remove_job: Option<String>,
    /// Whether it is switched off.
    #[serde(deserialize_with = "de::flag")]
    pub disable: bool,
}

/// A scheduled backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BackupJob {
    /// Its name.
    pub id: String,
    /// Whether it runs (default true).
    #[serde(deserialize_with = "de::opt_flag")]
    pub enabled: Option<bool>,
    /// When it runs, as a calendar event.
    #[serde(deserialize_with = "de::opt_text")]
    pub schedule: Option<String>,
    /// When it runs next, in seconds since 1970.
    #[serde(rename = "next-run", deserialize_with = "de::opt_u64")]
    pub next_run: Option<u64>,
    /// The node it is limited to.
    #[serde(deserialize_with = "de::opt_text")]
    pub node: Option<String>,
    /// The pool it backs up.
    #[serde(deserialize_with = "de::opt_text")]
    pub pool: Option<String>,
    /// The guests it backs up.
    #[serde(rename = "vmid", deserialize_with = "de::list")]
    pub vmids: Vec<String>,
    /// Whether it backs up all guests.
    #[serde(deserialize_with = "de::flag")]
    pub all: bool,
    /// The guests that it leaves out.
    #[serde(rename = "exclude", deserialize_with = "de::list")]
    pub excluded: Vec<String>,
}

impl BackupJob {
    /// Whether it backs a guest up that is in `pool`, as far as nodes don't matter.
    pub fn covers(&self, vmid: u32, pool: Option<&str>) -> bool {
        let listed = |list: &[String]| list.iter().any(|id| id.parse() == Ok(vmid));
        let by_pool = self.pool.is_some() && self.pool.as_deref() == pool;
        self.enabled != Some(false) && !listed(&self.excluded) && (self.all || by_pool || listed(&self.vmids))
    }
}

impl Client {
    /// What the entry node runs. Any user.
    ///
    /// # Errors
    /// None of its own.
    pub async fn version(&self) -> Result<Version> {
        self.get("/version", Params::new()).await
    }

    /// Members and quorum: ask before every destructive step. Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403 without the right.
    pub async fn cluster_status(&self) -> Result<ClusterStatus> {
        let entries: Vec<Value> = self.get("/cluster/status", Params::new()).await?;
        let text = |entry: &Value, key: &str| de::field(entry, key).and_then(de::as_text);
        let flag = |entry: &Value, key: &str| de::field(entry, key).and_then(de::as_bool).unwrap_or(false);
        let number = |entry: &Value, key: &str| de::field(entry, key).and_then(de::as_u64);
        let is = |entry: &&Value, kind: &str| text(entry, "type").as_deref() == Some(kind);
        let cluster = entries.iter().find(|entry| is(entry, "cluster"));
        let nodes = entries.iter().filter(|entry| is(entry, "node")).map(|node| NodeMember {
            name: text(node, "name").unwrap_or_default(),
            nodeid: number(node, "nodeid").unwrap_or(0),
            ip: text(node, "ip"),
            local: flag(node, "local"),
            online: flag(node, "online"),
        });
        Ok(ClusterStatus {
            name: cluster.and_then(|entry| text(entry, "name")),
            quorate: cluster.is_none_or(|entry| flag(entry, "quorate")),
            config_version: cluster.and_then(|entry| number(entry, "version")),
            nodes: nodes.collect(),
        })
    }

    /// Everything we may see, or one kind of it; hidden, not refused, where a right is missing (VM.Audit, Sys.Audit,
    /// Datastore.Audit, Pool.Audit). Numbers of nodes only with Sys.Audit.
    ///
    /// # Errors
    /// None of its own.
    pub async fn cluster_resources(&self, kind: Option<ResourceKind>) -> Result<Vec<Resource>> {
        let kind = kind.map(|kind| match kind {
            ResourceKind::Vm => "vm",
            ResourceKind::Storage => "storage",
            ResourceKind::Node => "node",
            ResourceKind::Sdn => "sdn",
        });
        self.get("/cluster/resources", Params::new().opt("type", kind)).await
    }

    /// The datacenter options by key. Without Sys.Audit on `/` only console and tag settings are shown.
    ///
    /// # Errors
    /// None of its own.
    pub async fn cluster_options(&self) -> Result<BTreeMap<String, Value>> {
        self.get("/cluster/options", Params::new()).await
    }

    /// Changes datacenter options; there is no digest, so one writer at a time, and read back. Right: Sys.Modify on `/`.
    ///
    /// # Errors
    /// 403; [`Error::is_no_quorum`].
    pub async fn set_cluster_options(&self, params: Params) -> Result<()> {
        self.put("/cluster/options", params).await.map(|_| ())
    }

    /// A free vmid, or the given one if it is free. It is not reserved: a create may still find it taken, then ask
    /// again. Any user.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] (400) if the given one is taken.
    pub async fn next_id(&self, vmid: Option<u32>) -> Result<u32> {
        let path = "/cluster/nextid";
        let answer: Value = self.get(path, Params::new().opt("vmid", vmid)).await?;
        de::as_u64(&answer)
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| Error::unexpected(self.describe("GET", path), "not a vmid"))
    }

    /// Who this cluster is: the fingerprint of its CA; without one, of the entry node's own certificate. Any user.
    ///
    /// # Errors
    /// [`Error::Unexpected`] if the node names neither.
    pub async fn cluster_identity(&self) -> Result<Fingerprint> {
        let certificates = self.certificates("localhost").await?;
        let of = |file: &str| certificates.iter().find(|c| c.filename == file).and_then(|c| c.fingerprint);
        of("pve-root-ca.pem").or_else(|| of("pve-ssl.pem")).or_else(|| of("pveproxy-ssl.pem")).ok_or_else(|| {
            let call = self.describe("GET", "/nodes/localhost/certificates/info");
            Error::unexpected(call, "neither a CA's nor a node's certificate is listed")
        })
    }

    /// Replication jobs of guests we may audit (VM.Audit).
    ///
    /// # Errors
    /// None of its own.
    pub async fn replication_jobs(&self) -> Result<Vec<ReplicationJob>> {
        self.get("/cluster/replication", Params::new()).await
    }

    /// Marks a replication job for removal; PVE removes it, and the copy, at its next run within a minute, once it reaches the
    /// copy's node (`proxmox-ve.md` §10.4). Right: VM.Replicate on the guest; before 9 Datastore.Allocate on `/storage`.
    ///
    /// # Errors
    /// 403.
    pub async fn remove_replication_job(&self, id: &str) -> Result<()> {
        self.delete(&crate::api_path(["cluster", "replication", id]), Params::new()).await.map(|_| ())
    }

    /// Scheduled backups. Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403 without the right.
    pub async fn backup_jobs(&self) -> Result<Vec<BackupJob>> {
        self.get("/cluster/backup", Params::new()).await
    }
}

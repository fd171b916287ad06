//! The world file: which clusters there are, what is in them, and the lines between them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Result, SimulatorError};

/// A federation to simulate. `world.schema.json` beside the crate describes the YAML form.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// The clusters, by name.
    pub clusters: BTreeMap<String, ClusterSpec>,
    /// Lines between clusters; without one there is no limit.
    #[serde(default)]
    pub links: Vec<LinkSpec>,
    /// Bytes of seeded content per disk (default 65,536; at most 8 MiB, at most the disk's size).
    #[serde(default = "default_content")]
    pub content: u64,
    /// Accounts every cluster has, beside its own.
    #[serde(default)]
    pub users: Vec<UserSpec>,
}

/// A PVE version the simulator can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
pub enum Profile {
    /// Proxmox VE 8.4.
    #[serde(rename = "8.4")]
    V8_4,
    /// Proxmox VE 9.1.
    #[default]
    #[serde(rename = "9.1")]
    V9_1,
    /// Proxmox VE 9.2.
    #[serde(rename = "9.2")]
    V9_2,
}

/// One cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// PVE version, in quotes: "8.4", "9.1" or "9.2".
    #[serde(default)]
    pub version: Profile,
    /// Corosync name; absent for a stand-alone node.
    #[serde(default)]
    pub cluster_name: Option<String>,
    /// Minutes the nodes' local time is ahead of UTC (archive names are local, and read as such).
    #[serde(default)]
    pub utc_offset_minutes: i64,
    /// Nodes, by name.
    pub nodes: BTreeMap<String, NodeSpec>,
    /// Storages, by name.
    pub storages: BTreeMap<String, StorageSpec>,
    /// Pools that exist at the start.
    #[serde(default)]
    pub pools: Vec<PoolSpec>,
    /// Accounts of this cluster alone.
    #[serde(default)]
    pub users: Vec<UserSpec>,
    /// Guests that exist at the start.
    #[serde(default)]
    pub guests: Vec<GuestSpec>,
    /// Datacenter options as `/cluster/options` shows them.
    #[serde(default)]
    pub options: BTreeMap<String, serde_json::Value>,
}

/// One node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Threads.
    pub cpus: u32,
    /// `128GiB` and the like; 1024 based.
    pub memory: String,
    /// Address shown by `/cluster/status`.
    #[serde(default)]
    pub address: Option<String>,
    /// Bridges.
    #[serde(default = "default_bridges")]
    pub bridges: Vec<BridgeSpec>,
    /// Minutes its local time is ahead of UTC, where it is not its cluster's.
    #[serde(default)]
    pub utc_offset_minutes: Option<i64>,
}

/// A bridge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeSpec {
    /// Interface name.
    pub name: String,
    /// Whether VLAN tags pass.
    #[serde(default)]
    pub vlan_aware: bool,
    /// CIDR.
    #[serde(default)]
    pub cidr: Option<String>,
}

/// A storage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSpec {
    /// dir, nfs, cifs, lvm, lvmthin, zfspool, rbd.
    #[serde(rename = "type")]
    pub kind: String,
    /// images, backup, iso, …
    pub content: Vec<String>,
    /// 1024 based.
    pub capacity: String,
    /// One backing store for all nodes.
    #[serde(default)]
    pub shared: bool,
    /// Server and export: two clusters that name the same ones share the bytes.
    #[serde(default)]
    pub server: Option<String>,
    /// See `server`.
    #[serde(default)]
    pub export: Option<String>,
    /// Another way to say that clusters share bytes (one Ceph pool, one SAN): a name for the backing store.
    #[serde(default)]
    pub backing: Option<String>,
    /// Nodes that have it; absent: all.
    #[serde(default)]
    pub nodes: Option<Vec<String>>,
    /// `keep-all=1`, `keep-last=3`, …
    #[serde(default, rename = "prune-backups")]
    pub prune_backups: Option<String>,
    /// MB/s a task gets.
    #[serde(default = "default_rate")]
    pub rate: u64,
    /// Off by configuration.
    #[serde(default)]
    pub disabled: bool,
    /// Cluster across whose link the bytes go, when the storage is at another site.
    #[serde(default)]
    pub across: Option<String>,
}

/// A pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Pool id, up to three levels.
    pub name: String,
    /// Comment.
    #[serde(default)]
    pub comment: String,
}

/// An account.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// `user@realm`.
    pub id: String,
    /// Enables tickets.
    #[serde(default)]
    pub password: Option<String>,
    /// What the account may.
    #[serde(default)]
    pub acl: Vec<AclSpec>,
    /// API tokens.
    #[serde(default)]
    pub tokens: Vec<TokenSpec>,
}

/// An access rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AclSpec {
    /// `/`, `/vms/100`, `/pool/team`, …
    pub path: String,
    /// A built-in role …
    #[serde(default)]
    pub role: Option<String>,
    /// … or privileges by name.
    #[serde(default)]
    pub privileges: Vec<String>,
    /// Whether paths below inherit it (default true).
    #[serde(default = "yes")]
    pub propagate: bool,
}

/// An API token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Part after the `!`; also what [`crate::ClusterHandle::token`] is asked for.
    pub id: String,
    /// Privilege separation.
    #[serde(default)]
    pub privsep: bool,
    /// A UUID; made from the seed when absent.
    #[serde(default)]
    pub secret: Option<String>,
    /// With separation: what the token may.
    #[serde(default)]
    pub acl: Vec<AclSpec>,
}

/// A guest that exists at the start, or is made by hand ([`crate::ClusterHandle::create_vm`]).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestSpec {
    /// 100 and up.
    pub vmid: u32,
    /// Node.
    pub node: String,
    /// Configuration; drives as `scsi0: "ceph-pool:32"`.
    pub config: BTreeMap<String, String>,
    /// Pool it is in.
    #[serde(default)]
    pub pool: Option<String>,
    /// Whether it runs.
    #[serde(default)]
    pub running: bool,
}

/// A line between two clusters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// Two cluster names.
    pub between: [String; 2],
    /// 10⁶ bit/s.
    pub mbit: u64,
    /// Round trip in milliseconds.
    pub rtt_ms: u64,
}

fn default_content() -> u64 {
    65_536
}

fn default_rate() -> u64 {
    200
}

fn yes() -> bool {
    true
}

fn default_bridges() -> Vec<BridgeSpec> {
    vec![BridgeSpec { name: "vmbr0".to_owned(), vlan_aware: true, cidr: None }]
}

impl World {
    /// Reads a world file.
    ///
    /// # Errors
    /// When the YAML does not fit the schema.
    pub fn from_yaml(text: &str) -> Result<World> {
        serde_saphyr::from_str(text).map_err(|error| SimulatorError(format!("world file: {error}")))
    }

    /// Scenario 1 of the guide: three sites of three providers.
    ///
    /// # Errors
    /// Never for the file as shipped.
    pub fn three_sites() -> Result<World> {
        Self::from_yaml(include_str!("../worlds/three-sites.yaml"))
    }

    /// Two clusters that, badly, share a storage with content images.
    ///
    /// # Errors
    /// Never for the file as shipped.
    pub fn shared_images() -> Result<World> {
        Self::from_yaml(include_str!("../worlds/shared-images.yaml"))
    }
}

//! What the clusters reported, and when: the facts a decision is made from. It travels in a plan file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::ClusterName;
use crate::units::Bytes;

/// One snapshot of the whole federation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// When it was taken: seconds since 1970 by the clusters' own clock. Never part of a decision.
    pub taken_at: u64,
    /// What each connected cluster reported. A cluster that is not here has no connection.
    pub clusters: BTreeMap<ClusterName, ClusterFacts>,
}

/// Whether a cluster answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It answered.
    Reachable,
    /// It did not; the reason, in words.
    Unreachable(String),
    /// It was not asked, or what it said makes no sense; the reason, in words. Not healthy.
    Unknown(String),
    /// Nothing is known, not even why. Not healthy.
    #[default]
    NotAsked,
}

/// What one cluster reported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterFacts {
    /// Whether it answers.
    pub health: Health,
    /// Whether it has quorum.
    pub quorate: bool,
    /// Whether the token sees every guest and node; else capacity is unknown.
    pub complete_sight: bool,
    /// The right whose lack makes sight incomplete ("VM.Audit on /vms").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_right: Option<String>,
    /// Fingerprint of its CA: who it is, whatever it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Its PVE version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its nodes.
    pub nodes: Vec<NodeFacts>,
    /// Every guest the token sees: VMs, containers, templates.
    pub guests: Vec<GuestFacts>,
    /// Its storages: one entry for a shared storage, one per node for a local one.
    pub storages: Vec<StorageFacts>,
    /// Bridges and vnets by node.
    pub bridges: BTreeMap<String, BTreeSet<String>>,
    /// Pools that exist there.
    pub pools: BTreeSet<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Whether the cluster counts it as online.
    pub online: bool,
    /// Whether it is in HA maintenance; then it takes nothing.
    pub maintenance: bool,
    /// Logical processors.
    pub cpus: u32,
    /// Physical memory.
    pub memory: Bytes,
    /// Memory in use as measured. Only for display and for `capacity = "reported"`.
    pub memory_used: Bytes,
}

/// One guest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestFacts {
    /// Its id.
    pub vmid: u32,
    /// The node it is on.
    pub node: String,
    /// Its name; PVE does not always know it.
    pub name: String,
    /// The PVE pool it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Its tags, lower case.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Virtual cores.
    pub cpus: u32,
    /// Configured memory.
    pub memory: Bytes,
    /// All its disks.
    pub disk: Bytes,
    /// Whether it runs.
    pub running: bool,
    /// Whether it is a template (or fenced as one).
    pub template: bool,
    /// Whether it is a container.
    pub container: bool,
}

impl GuestFacts {
    /// Cores that it may use. A template can't run, and neither can the copy that a move left, which is fenced as one.
    pub fn cpus_given(&self) -> u32 {
        if self.template { 0 } else { self.cpus }
    }

    /// Memory that it may use; a template none.
    pub fn memory_given(&self) -> Bytes {
        if self.template { Bytes::ZERO } else { self.memory }
    }
}

/// One storage, on the nodes it is available on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageFacts {
    /// Its name.
    pub name: String,
    /// PVE's type (`rbd`, `zfspool`, `nfs`, …).
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether all its nodes see the same bytes.
    pub shared: bool,
    /// Whether volumes take space only as they are written.
    pub thin: bool,
    /// Content types it takes (`images`, `backup`, …).
    pub content: BTreeSet<String>,
    /// Its size.
    pub total: Bytes,
    /// What is really free.
    pub avail: Bytes,
    /// What its volumes would take if they were full, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<Bytes>,
    /// The nodes it is available on.
    pub nodes: BTreeSet<String>,
    /// What backs it (server and export, VG, pool and monitors), to tell the same storage from two sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing: Option<String>,
}

impl ClusterFacts {
    /// Whether it answers and has quorum.
    pub fn is_healthy(&self) -> bool {
        self.health == Health::Reachable && self.quorate
    }

    /// Physical memory of all nodes, whether they are online or not.
    pub fn total_memory(&self) -> Bytes {
        self.nodes.iter().map(|node| node.memory).sum()
    }

    /// The nodes that can take guests: online and not in maintenance.
    pub fn usable_nodes(&self) -> impl Iterator<Item = &NodeFacts> {
        self.nodes.iter().filter(|node| node.online && !node.maintenance)
    }
}

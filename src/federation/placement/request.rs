//! What is to be placed, and what this process has placed already.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{Capability, NicRequest, Tier};
use crate::names::{ClusterName, PoolName, Slot, Tag, VmName};
use crate::units::Bytes;

/// One disk to be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskRequest {
    /// Its size.
    pub size: Bytes,
    /// The federation storage name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

/// Where a VM is now. Its present use is not counted against it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Current {
    /// The cluster.
    pub cluster: ClusterName,
    /// The id there.
    pub vmid: u32,
}

/// The placement-relevant part of a VM's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The VM's name.
    pub name: VmName,
    /// Its pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// The cluster it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<ClusterName>,
    /// The node it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its place in its family, for names without a number at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u32>,
    /// Where it should be: a city, country, cluster, or `latitude,longitude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Cores in all (sockets × cores).
    pub cpus: u32,
    /// Memory.
    pub memory: Bytes,
    /// Disks by slot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disks: BTreeMap<Slot, DiskRequest>,
    /// Network devices by slot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nics: BTreeMap<Slot, NicRequest>,
    /// The VM's tags.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
    /// Name of the template it is cloned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Abilities its cluster must declare.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<Capability>,
    /// The tier that its cluster must declare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Where it is now, if it is anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
}

impl Request {
    /// A VM of that name with one core and 2 GiB, and nothing else said.
    pub fn new(name: VmName) -> Request {
        Request {
            name,
            pool: None,
            pin: None,
            node: None,
            ordinal: None,
            location: None,
            cpus: 1,
            memory: Bytes::from_gib(2),
            disks: BTreeMap::new(),
            nics: BTreeMap::new(),
            tags: BTreeSet::new(),
            template: None,
            needs: BTreeSet::new(),
            tier: None,
            current: None,
        }
    }

    /// All its disks together.
    pub fn disk_total(&self) -> Bytes {
        self.disks.values().map(|disk| disk.size).sum()
    }
}

/// The VMs this process has decided on already. One per process; the caller guards it and records every decision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    planned: BTreeMap<(Option<PoolName>, VmName), (ClusterName, Request)>,
}

impl Ledger {
    /// An empty one.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Notes that `request` goes to `cluster`; an earlier note of the same pool and name is replaced.
    pub fn record(&mut self, cluster: ClusterName, request: Request) {
        let key = (request.pool.clone(), request.name.clone());
        self.planned.insert(key, (cluster, request));
    }

    /// Forgets a VM, for one that came to nothing.
    pub fn forget(&mut self, pool: Option<&PoolName>, name: &VmName) {
        self.planned.remove(&(pool.cloned(), name.clone()));
    }

    /// Where this process decided that VM goes.
    pub fn decided(&self, pool: Option<&PoolName>, name: &VmName) -> Option<&ClusterName> {
        self.planned.get(&(pool.cloned(), name.clone())).map(|(cluster, _)| cluster)
    }

    /// Every note, ordered by pool and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ClusterName, &Request)> {
        self.planned.values().map(|(cluster, request)| (cluster, request))
    }

    /// How many VMs are noted.
    pub fn len(&self) -> usize {
        self.planned.len()
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }
}

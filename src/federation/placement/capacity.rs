//! Whether some node of a cluster has room: cores, memory, every disk and every bridge at once.
//!
//! Free is total × overcommit − total × reserve − what is given out. What is given out is configuration (all guests,
//! running or not, containers too), not load, so it does not breathe. Templates, and fenced copies with them, can't run: they
//! take no cores and no memory. Only storage is measured, and it only filters.

use std::collections::BTreeMap;

use super::inventory::{ClusterFacts, GuestFacts, Inventory, NodeFacts, StorageFacts};
use super::reason::Reason;
use super::request::{Ledger, Request};
use super::rules::{Present, is_self, node_allowed};
use crate::model::{CapacitySource, Cluster, Rule};
use crate::names::ClusterName;
use crate::units::Bytes;

/// What is free on one cluster, while VMs are put on it.
pub(super) struct Room<'a> {
    name: &'a ClusterName,
    cluster: &'a Cluster,
    facts: &'a ClusterFacts,
    nodes: Vec<NodeRoom<'a>>,
    /// Free space by index into the storages of `facts`.
    storages: Vec<Bytes>,
    /// How many planned VMs were put on it.
    planned: u32,
}

struct NodeRoom<'a> {
    node: &'a NodeFacts,
    cpus: u32,
    memory: Bytes,
}

/// What a request needs on one cluster, names resolved.
pub(super) struct Needs {
    cpus: u32,
    memory: Bytes,
    /// Space by storage.
    pub(super) storage: BTreeMap<String, Bytes>,
    /// Bridge by slot.
    pub(super) bridges: BTreeMap<String, String>,
}

impl<'a> Room<'a> {
    /// The cluster as reported, without the VM asked about.
    pub(super) fn new(
        name: &'a ClusterName,
        cluster: &'a Cluster,
        facts: &'a ClusterFacts,
        request: &Request,
    ) -> Room<'a> {
        let nodes = facts.usable_nodes().map(|node| NodeRoom::new(node, name, cluster, facts, request)).collect();
        let storages = facts.storages.iter().map(|storage| free_space(cluster, storage)).collect();
        Room { name, cluster, facts, nodes, storages, planned: 0 }
    }

    /// Cores and memory free over all usable nodes.
    pub(super) fn headroom(&self) -> (u64, Bytes) {
        let cpus = self.nodes.iter().map(|room| u64::from(room.cpus)).sum();
        (cpus, self.nodes.iter().map(|room| room.memory).sum())
    }

    /// Puts the VMs planned for this cluster on its nodes, the largest first so that their order of arrival cannot matter.
    pub(super) fn put_planned(&mut self, inventory: &Inventory, ledger: &Ledger, request: &Request, rules: &[Rule]) {
        let mut planned = planned_here(self.name, inventory, ledger, request);
        planned.sort_by(|a, b| b.memory.cmp(&a.memory).then_with(|| a.name.cmp(&b.name)));
        for sibling in planned {
            let needs = Needs::of(self.cluster, self.facts, sibling);
            self.planned += 1;
            match self.best_node(&needs, sibling, rules) {
                Some(index) => self.take(index, &needs),
                // It was accepted by facts that changed since; its use must not vanish.
                None if !self.nodes.is_empty() => self.take(0, &needs),
                None => {}
            }
        }
    }

    /// Every reason why `request` finds no node; empty if it does.
    pub(super) fn refuse(&self, request: &Request, rules: &[Rule]) -> Vec<Reason> {
        if self.nodes.is_empty() {
            let nodes = u32::try_from(self.facts.nodes.len()).unwrap_or(u32::MAX);
            return vec![Reason::NoUsableNode { nodes }];
        }
        if let Some(reason) = self.pinned_node_problem(request) {
            return vec![reason];
        }
        let needs = Needs::of(self.cluster, self.facts, request);
        if self.best_node(&needs, request, rules).is_some() {
            return Vec::new();
        }
        let nodes: Vec<&NodeRoom> = self.nodes.iter().filter(|room| allowed(room.node, request, rules)).collect();
        let mut reasons = self.short_of(&needs, &nodes);
        if reasons.is_empty() {
            reasons.push(Reason::NoSingleNode);
        }
        reasons
    }

    fn pinned_node_problem(&self, request: &Request) -> Option<Reason> {
        let node = request.node.as_ref()?;
        let problem = match self.facts.nodes.iter().find(|facts| facts.name == *node) {
            None => "is not one of its nodes",
            Some(facts) if !facts.online => "is offline",
            Some(facts) if facts.maintenance => "is in maintenance",
            Some(_) => return None,
        };
        Some(Reason::Node { node: node.clone(), problem: problem.to_owned() })
    }

    /// Each thing that is short everywhere, with the most there is of it.
    fn short_of(&self, needs: &Needs, nodes: &[&NodeRoom]) -> Vec<Reason> {
        let reserve = self.cluster.reserve();
        let percent = |share: f64| (share * 100.0).round() as u32;
        let planned = match self.planned {
            0 => String::new(),
            n => format!(", counting {n} planned with it"),
        };
        let mut reasons = Vec::new();
        let free = nodes.iter().map(|room| room.cpus).max().unwrap_or(0);
        if free < needs.cpus {
            let (needed, reserve) = (needs.cpus, percent(reserve.cpu));
            reasons.push(Reason::Cpu { needed, free, reserve, planned: planned.clone() });
        }
        let free = nodes.iter().map(|room| room.memory).max().unwrap_or_default();
        if free < needs.memory {
            let (needed, reserve) = (needs.memory, percent(reserve.memory));
            reasons.push(Reason::Memory { needed, free, reserve, planned: planned.clone() });
        }
        for (storage, needed) in &needs.storage {
            let on = |room: &&NodeRoom| self.storage_on(storage, &room.node.name).map(|index| self.storages[index]);
            let free = nodes.iter().filter_map(on).max();
            if let Some(free) = free.filter(|free| free < needed) {
                reasons.push(Reason::Storage {
                    storage: storage.clone(),
                    needed: *needed,
                    free,
                    reserve: percent(reserve.storage),
                    planned: planned.clone(),
                });
            }
        }
        reasons
    }

    /// The node that fits with most memory free, ties by name.
    fn best_node(&self, needs: &Needs, request: &Request, rules: &[Rule]) -> Option<usize> {
        let fits = |index: &usize| {
            let room = &self.nodes[*index];
            allowed(room.node, request, rules) && self.fits(room, needs)
        };
        (0..self.nodes.len()).filter(fits).max_by(|a, b| {
            let (a, b) = (&self.nodes[*a], &self.nodes[*b]);
            a.memory.cmp(&b.memory).then_with(|| b.node.name.cmp(&a.node.name))
        })
    }

    fn fits(&self, room: &NodeRoom, needs: &Needs) -> bool {
        let node = &room.node.name;
        room.cpus >= needs.cpus
            && room.memory >= needs.memory
            && needs.storage.iter().all(|(storage, size)| {
                self.storage_on(storage, node).is_some_and(|index| self.storages[index] >= *size)
            })
            && needs.bridges.values().all(|bridge| bridge_on(self.facts, self.cluster, node, bridge))
    }

    fn take(&mut self, index: usize, needs: &Needs) {
        let node = self.nodes[index].node;
        for (storage, size) in &needs.storage {
            if let Some(at) = self.storage_on(storage, &node.name) {
                self.storages[at] = self.storages[at].saturating_sub(*size);
            }
        }
        let room = &mut self.nodes[index];
        room.cpus = room.cpus.saturating_sub(needs.cpus);
        room.memory = room.memory.saturating_sub(needs.memory);
    }

    /// The storage of that name a node can put images on.
    fn storage_on(&self, storage: &str, node: &str) -> Option<usize> {
        self.facts
            .storages
            .iter()
            .position(|facts| facts.name == storage && facts.nodes.contains(node) && facts.content.contains("images"))
    }
}

impl<'a> NodeRoom<'a> {
    fn new(
        node: &'a NodeFacts,
        name: &ClusterName,
        cluster: &Cluster,
        facts: &ClusterFacts,
        request: &Request,
    ) -> NodeRoom<'a> {
        let (overcommit, reserve) = (cluster.overcommit(), cluster.reserve());
        let others = || facts.guests.iter().filter(|guest| guest.node == node.name && !is_self(request, name, guest));
        let cores = f64::from(node.cpus) * (overcommit.cpu - reserve.cpu);
        let given_cores = others().fold(0u32, |sum, guest| sum.saturating_add(guest.cpus_given()));
        let given_memory: Bytes = others().map(GuestFacts::memory_given).sum();
        let given_memory = match cluster.capacity {
            // Without full sight the node's own figure stands in for guests the token does not see.
            Some(CapacitySource::Reported) if !facts.complete_sight => given_memory.max(node.memory_used),
            _ => given_memory,
        };
        NodeRoom {
            node,
            // `as` saturates at 0 for a reserve above the overcommit.
            cpus: (cores as u32).saturating_sub(given_cores),
            memory: node.memory.scaled(overcommit.memory - reserve.memory).saturating_sub(given_memory),
        }
    }
}

impl Needs {
    /// What `request` needs on this cluster. What cannot be resolved is left out; the structure check names it.
    pub(super) fn of(cluster: &Cluster, facts: &ClusterFacts, request: &Request) -> Needs {
        let mut storage: BTreeMap<String, Bytes> = BTreeMap::new();
        for disk in request.disks.values() {
            if let Some(name) = storage_for(cluster, facts, disk.storage.as_deref()) {
                let sum = storage.entry(name).or_default();
                *sum = *sum + disk.size;
            }
        }
        let bridges = request
            .nics
            .iter()
            .filter_map(|(slot, nic)| Some((slot.to_string(), cluster.resolve_network(nic)?.bridge)))
            .collect();
        Needs { cpus: request.cpus, memory: request.memory, storage, bridges }
    }
}

/// The storage a disk goes to: what its name stands for, else the default, else the only one there is for images.
pub(super) fn storage_for(cluster: &Cluster, facts: &ClusterFacts, name: Option<&str>) -> Option<String> {
    cluster.resolve_storage(name).or_else(|| {
        let mut images = facts.storages.iter().filter(|storage| storage.content.contains("images"));
        let first = images.next()?;
        images.all(|other| other.name == first.name).then(|| first.name.clone())
    })
}

/// Whether a node has a bridge. Where the cluster reported no bridges at all, what is declared counts.
pub(super) fn bridge_on(facts: &ClusterFacts, cluster: &Cluster, node: &str, bridge: &str) -> bool {
    if facts.bridges.values().all(|bridges| bridges.is_empty()) {
        let mapped = cluster.networks.values().any(|network| network.bridge == bridge);
        return mapped || cluster.bridges.contains(bridge);
    }
    facts.bridges.get(node).is_some_and(|bridges| bridges.contains(bridge))
}

/// VMs planned for this cluster that are not there yet, without the VM asked about.
pub(super) fn planned_here<'l>(
    name: &ClusterName,
    inventory: &Inventory,
    ledger: &'l Ledger,
    request: &Request,
) -> Vec<&'l Request> {
    let mut present = Present::new(inventory);
    ledger
        .iter()
        .filter(|(cluster, planned)| *cluster == name && !same_vm(planned, request))
        .filter(|(cluster, planned)| !present.holds(cluster, planned))
        .map(|(_, planned)| planned)
        .collect()
}

/// Whether two requests are about one VM.
pub(super) fn same_vm(a: &Request, b: &Request) -> bool {
    a.name == b.name && a.pool == b.pool
}

fn allowed(node: &NodeFacts, request: &Request, rules: &[Rule]) -> bool {
    request.node.as_ref().is_none_or(|pinned| *pinned == node.name) && node_allowed(rules, request, &node.name)
}

/// What a storage may still be given. Thick: what is really free above the reserve. Thin: total × overcommit less what
/// its volumes may grow to, and nothing once the really free space is down to the reserve.
fn free_space(cluster: &Cluster, storage: &StorageFacts) -> Bytes {
    let floor = storage.total.scaled(cluster.reserve().storage);
    let really_free = storage.avail.saturating_sub(floor);
    if !storage.thin || really_free == Bytes::ZERO {
        return really_free;
    }
    let given = storage.provisioned.unwrap_or_else(|| storage.total.saturating_sub(storage.avail));
    storage.total.scaled(cluster.overcommit().storage).saturating_sub(given)
}

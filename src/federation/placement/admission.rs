//! The filter: every reason why a cluster may not take, or keep, a VM.

use super::capacity::{Needs, Room, bridge_on, planned_here, same_vm, storage_for};
use super::inventory::{ClusterFacts, Health, Inventory};
use super::reason::Reason;
use super::request::{Ledger, Request};
use super::rules::{self, Present, is_self};
use crate::model::{CapacitySource, Cluster, Federation, Limits, Policy};
use crate::names::{ClusterName, PoolName};
use crate::units::Bytes;

/// The policy that holds for a request: its pool's, or none.
pub(super) fn policy_of(federation: &Federation, request: &Request) -> Policy {
    let pool = request.pool.as_ref().and_then(|pool| federation.pools.get(pool));
    pool.map(|pool| pool.policy()).unwrap_or_default()
}

/// Residence: membership, pin, `must` and `must_not`, capability, tier.
pub(super) fn residence(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    name: &ClusterName,
    ledger: &Ledger,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(pool) = &request.pool
        && !federation.pools.get(pool).is_some_and(|facts| facts.clusters.contains(name))
    {
        reasons.push(Reason::NotMember { pool: pool.clone() });
    }
    if let Some(pin) = request.pin.as_ref().filter(|pin| *pin != name) {
        reasons.push(Reason::PinnedElsewhere { pin: pin.clone() });
    }
    let policy = policy_of(federation, request);
    reasons.extend(rules::broken(federation, inventory, &policy.rules, request, name, ledger));
    let declared = |capability| federation.clusters.get(name)?.capabilities.get(capability).copied();
    let missing = request.needs.iter().filter(|capability| declared(capability) != Some(true));
    reasons.extend(missing.map(|capability| Reason::Capability { capability: *capability }));
    if let Some(tier) = request.tier {
        let declared = federation.clusters.get(name).and_then(|cluster| cluster.tier);
        reasons.extend((declared != Some(tier)).then_some(Reason::Tier { tier, declared }));
    }
    reasons
}

/// Admission: everything else that is asked of a VM that arrives or grows.
pub(super) fn admission(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    name: &ClusterName,
    ledger: &Ledger,
) -> Vec<Reason> {
    let undeclared = Cluster::default();
    let cluster = federation.clusters.get(name).unwrap_or(&undeclared);
    let mut reasons = Vec::new();
    // Growth goes on behind a cordon; only arrival is kept out.
    let arrives = request.current.as_ref().is_none_or(|current| current.cluster != *name);
    if arrives && cluster.keeps_out() {
        reasons.push(if cluster.is_draining() { Reason::Draining } else { Reason::Cordoned });
    }
    if arrives {
        let closed_cluster = federation.closed_clusters.get(name).cloned();
        reasons.extend(closed_cluster.map(|why| Reason::ClosedCluster { why }));
        reasons.extend(closed(federation, request, name));
    }
    reasons.extend(pool_limits(federation, inventory, request, ledger));
    let Some(facts) = inventory.clusters.get(name) else {
        reasons.push(Reason::NotConnected);
        return reasons;
    };
    if let Some(reason) = health(facts) {
        // Of a cluster that does not answer nothing else is known.
        let blind = reason != Reason::NotQuorate;
        reasons.push(reason);
        if blind {
            return reasons;
        }
    }
    let structure = structure(cluster, facts, request);
    let complete = structure.is_empty();
    reasons.extend(structure);
    reasons.extend(cluster_limit(name, cluster, inventory, facts, request, ledger));
    if !facts.complete_sight && cluster.capacity != Some(CapacitySource::Reported) {
        let missing_right = facts.missing_right.clone();
        let missing_right =
            missing_right.unwrap_or_else(|| "VM.Audit on /vms, or Sys.Audit on / and /nodes".to_owned());
        reasons.push(Reason::CapacityUnknown { missing_right });
        return reasons;
    }
    // Proxmox VE leaves these numbers out for a token that may not see the node (`proxmox-ve.md` §17).
    if facts.nodes.iter().any(|node| node.online) && facts.nodes.iter().all(|node| node.cpus == 0) {
        reasons.push(Reason::NodesUnseen);
        return reasons;
    }
    let policy = policy_of(federation, request);
    let mut room = Room::new(name, cluster, facts, request);
    room.put_planned(inventory, ledger, request, &policy.rules);
    let short = room.refuse(request, &policy.rules);
    // Where something is not there at all, "not on one node" adds nothing.
    reasons.extend(short.into_iter().filter(|reason| complete || *reason != Reason::NoSingleNode));
    reasons
}

/// A policy that can't be read may forbid what a stale one allows (hazards.md F18).
fn closed(federation: &Federation, request: &Request, name: &ClusterName) -> Option<Reason> {
    let pool = request.pool.as_ref()?;
    let why = federation.closed.get(pool)?.get(name)?;
    Some(Reason::Closed { pool: pool.clone(), why: why.clone() })
}

fn health(facts: &ClusterFacts) -> Option<Reason> {
    match &facts.health {
        Health::Reachable if facts.quorate => None,
        Health::Reachable => Some(Reason::NotQuorate),
        Health::Unreachable(why) => Some(Reason::Unreachable { why: why.clone() }),
        Health::Unknown(why) => Some(Reason::UnknownHealth { why: why.clone() }),
        Health::NotAsked => Some(Reason::UnknownHealth { why: "it was not asked".to_owned() }),
    }
}

/// What has to be there whatever is free: storages, bridges, VLANs, the template.
fn structure(cluster: &Cluster, facts: &ClusterFacts, request: &Request) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for disk in request.disks.values() {
        let asked = disk.storage.as_deref();
        let reason = match storage_for(cluster, facts, asked) {
            None => Some(Reason::NoDefaultStorage),
            Some(storage) => no_storage(facts, storage, asked),
        };
        reasons.extend(reason.filter(|reason| !reasons.contains(reason)));
    }
    reasons.extend(networks(cluster, request));
    let needs = Needs::of(cluster, facts, request);
    for (slot, bridge) in needs.bridges {
        if !facts.nodes.iter().any(|node| bridge_on(facts, cluster, &node.name, &bridge)) {
            reasons.push(Reason::NoBridge { bridge, slot });
        }
    }
    if let Some(template) = &request.template
        && !facts.guests.iter().any(|guest| guest.template && guest.name == *template)
    {
        reasons.push(Reason::NoTemplate { template: template.clone() });
    }
    reasons
}

/// What the declared facts of a cluster alone say of a VM's networks.
pub(super) fn networks(cluster: &Cluster, request: &Request) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (slot, nic) in &request.nics {
        let Some(resolved) = cluster.resolve_network(nic) else {
            reasons.push(Reason::NoNetwork { slot: slot.to_string() });
            continue;
        };
        if let (false, Some(vlan), Some(range)) = (resolved.mapped, resolved.vlan, cluster.vlan_range)
            && !range.contains(vlan)
        {
            let (first, last) = (range.first, range.last);
            reasons.push(Reason::VlanOutOfRange { vlan, slot: slot.to_string(), first, last });
        }
    }
    reasons
}

fn no_storage(facts: &ClusterFacts, storage: String, asked: Option<&str>) -> Option<Reason> {
    let named = || facts.storages.iter().filter(|facts| facts.name == storage);
    if named().any(|facts| facts.content.contains("images")) {
        return None;
    }
    let elsewhere = if named().next().is_some() {
        ": it has one of that name, but not with content \"images\"".to_owned()
    } else {
        let names: std::collections::BTreeSet<&str> = facts
            .storages
            .iter()
            .filter(|facts| facts.content.contains("images"))
            .map(|facts| facts.name.as_str())
            .collect();
        format!(": it has {}", names.into_iter().collect::<Vec<_>>().join(", "))
    };
    let asked = match asked {
        Some(asked) if asked != storage => format!(" (asked for as {asked:?})"),
        _ => String::new(),
    };
    Some(Reason::NoStorage { storage, asked, elsewhere })
}

fn cluster_limit(
    name: &ClusterName,
    cluster: &Cluster,
    inventory: &Inventory,
    facts: &ClusterFacts,
    request: &Request,
    ledger: &Ledger,
) -> Option<Reason> {
    let most = cluster.max_vms?;
    let there = facts.guests.iter().filter(|guest| !is_self(request, name, guest)).count();
    let would = there + planned_here(name, inventory, ledger, request).len() + 1;
    let would = u32::try_from(would).unwrap_or(u32::MAX);
    (would > most).then_some(Reason::ClusterLimit { would, most })
}

/// What a pool holds, over all clusters that can be seen.
#[derive(Default)]
struct Held {
    vms: u64,
    cpus: u64,
    memory: Bytes,
    storage: Bytes,
}

impl Held {
    fn add(&mut self, cpus: u32, memory: Bytes, storage: Bytes) {
        self.vms += 1;
        self.cpus += u64::from(cpus);
        self.memory = self.memory + memory;
        self.storage = self.storage + storage;
    }
}

fn pool_limits(federation: &Federation, inventory: &Inventory, request: &Request, ledger: &Ledger) -> Vec<Reason> {
    let Some((pool, limits)) = request.pool.as_ref().and_then(|pool| Some((pool, federation.pools.get(pool)?.limits)))
    else {
        return Vec::new();
    };
    if limits.is_empty() {
        return Vec::new();
    }
    let mut held = Held::default();
    for (name, facts) in &inventory.clusters {
        let members = facts.guests.iter().filter(|guest| guest.pool.as_deref() == Some(pool.as_str()));
        members
            .filter(|guest| !is_self(request, name, guest))
            .for_each(|guest| held.add(guest.cpus_given(), guest.memory_given(), guest.disk));
    }
    let mut present = Present::new(inventory);
    for (cluster, planned) in ledger.iter() {
        let counts = planned.pool == request.pool && !same_vm(planned, request);
        if counts && !present.holds(cluster, planned) {
            held.add(planned.cpus, planned.memory, planned.disk_total());
        }
    }
    held.add(request.cpus, request.memory, request.disk_total());
    over_limits(pool, &limits, &held)
}

fn over_limits(pool: &PoolName, limits: &Limits, held: &Held) -> Vec<Reason> {
    let number = |limit: &str, would: u64, most: Option<u32>, what: &str| {
        let most = most.filter(|most| would > u64::from(*most))?;
        Some(Reason::PoolLimit {
            pool: pool.clone(),
            limit: limit.to_owned(),
            would: format!("{would} {what}"),
            most: most.to_string(),
            enough: would.to_string(),
        })
    };
    let size = |limit: &str, would: Bytes, most: Option<Bytes>, what: &str| {
        let most = most.filter(|most| would > *most)?;
        Some(Reason::PoolLimit {
            pool: pool.clone(),
            limit: limit.to_owned(),
            would: format!("{} of {what}", would.human()),
            most: most.human(),
            enough: format!("{:?}", would.to_string()),
        })
    };
    [
        number("max_vms", held.vms, limits.max_vms, "VMs"),
        number("max_cpu_cores", held.cpus, limits.max_cpu_cores, "cores"),
        size("max_memory", held.memory, limits.max_memory, "memory"),
        size("max_storage", held.storage, limits.max_storage, "storage"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

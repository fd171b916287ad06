//! Owns what is settled on a cluster before something is made there: its pool, what federation names are, VMID and node.
use std::collections::BTreeSet;

use federation::ClusterName;
use federation::placement::{ClusterFacts, Health, StorageFacts};
use proxmox::Error;

use crate::create::dark;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::site::Site;
use crate::spec::{NicPlace, NicWish, Resolved, VmSpec};

impl Fleet {
    /// Makes the PVE pool on first need, where the token may.
    pub(crate) async fn ensure_pool(&self, site: &Site, pool: &str, what: &str) -> Result<(), Failure> {
        let overview = site.glance().await.map_err(|error| dark(what, &site.name, error))?;
        if overview.has_pool(pool) {
            return Ok(());
        }
        let mut levels = pool.match_indices('/').map(|(at, _)| &pool[..at]).collect::<Vec<_>>();
        levels.push(pool);
        for level in levels {
            match site.client.create_pool(level, None).await {
                Ok(()) => site.changed().await,
                Err(error) if error.is_already_exists() => {}
                // A token that may not see pools may still use one that exists.
                Err(error)
                    if error.is_permission_denied()
                        && site.client.pool(level).await.is_ok_and(|pool| pool.is_some()) => {}
                Err(error) => {
                    return Err(Failure::new(what)
                        .at(format!("cluster {} has no pool {level}, and it can't be created", site.name))
                        .said(error)
                        .state("nothing was touched")
                        .next(format!("create the pool, or give the token Pool.Allocate on /pool/{level}")));
                }
            }
        }
        Ok(())
    }

    /// What federation names become on a cluster.
    pub(crate) fn resolve(
        &self,
        spec: &VmSpec,
        cluster: &ClusterName,
        facts: &ClusterFacts,
        what: &str,
    ) -> Result<Resolved, Failure> {
        let declared = self.facts(cluster.as_str());
        let only = || {
            let mut images = facts.storages.iter().filter(|storage| storage.content.contains("images"));
            let first = images.next()?.name.clone();
            images.all(|other| other.name == first).then_some(first)
        };
        let mut resolved = Resolved { primary: declared.resolve_storage(None).or_else(only), ..Resolved::default() };
        for (slot, disk) in &spec.disks {
            let storage = declared.resolve_storage(disk.storage.as_deref()).or_else(only).ok_or_else(|| {
                Failure::new(what)
                    .at(format!("cluster {cluster}: disk {slot} names no storage, and the cluster has no primary one"))
                    .state("nothing was touched")
                    .next("set `storage` of the disk, or the cluster's primary storage")
            })?;
            resolved.storages.insert(*slot, storage);
        }
        // A device with neither is behind QEMU's own address translation, and asks nothing of a cluster.
        let placed = |nic: &&NicWish| nic.network.is_some() || nic.bridge.is_some();
        for (slot, nic) in spec.nics.iter().filter(|(_, nic)| placed(nic)) {
            let wish = federation::model::NicRequest {
                network: nic.network.clone(),
                bridge: nic.bridge.clone(),
                vlan: nic.vlan,
            };
            let on = declared.resolve_network(&wish).ok_or_else(|| {
                Failure::new(what).at(format!("network device {slot} names neither a network nor a bridge"))
            })?;
            resolved.nics.insert(*slot, NicPlace { bridge: on.bridge, vlan: on.vlan });
        }
        Ok(resolved)
    }

    /// The same for a machine that is about to be copied from a template: `clone.storage` takes what names no storage of its own.
    /// It is read at create only: a machine that exists is where its disks are.
    pub(crate) fn resolve_copy(
        &self,
        spec: &VmSpec,
        cluster: &ClusterName,
        facts: &ClusterFacts,
        what: &str,
    ) -> Result<Resolved, Failure> {
        let declared = self.facts(cluster.as_str());
        let named = spec.clone.as_ref().and_then(|clone| clone.storage.clone());
        let mut spec = spec.clone();
        for disk in spec.disks.values_mut().filter(|disk| disk.storage.is_none()) {
            disk.storage.clone_from(&named);
        }
        let copies = named.and_then(|storage| declared.resolve_storage(Some(&storage)));
        Ok(Resolved { copies, ..self.resolve(&spec, cluster, facts, what)? })
    }

    pub(crate) async fn pick_vmid(&self, site: &Site, spec: &VmSpec, what: &str) -> Result<u32, Failure> {
        if let Some(vmid) = spec.vmid {
            return Ok(vmid);
        }
        let refuse = |error: Error| Failure::new(what).at(format!("cluster {}: no VMID", site.name)).said(error);
        let Some(range) = self.facts(site.name.as_str()).vmid_range else {
            return self.free_everywhere(site).await.map_err(refuse);
        };
        let overview = site.fresh().await.map_err(refuse)?;
        let mut taken: BTreeSet<u32> = overview.guests().filter_map(|guest| guest.vmid).collect();
        // What others are about to make.
        taken.extend(overview.operations().values().map(|journal| journal.to.vmid));
        let mut vmid = self.reserve(range.first, &taken);
        while vmid <= range.last {
            // The cluster has the last word: it also knows guests that the token doesn't see.
            if site.client.next_id(Some(vmid)).await.is_ok() {
                return Ok(vmid);
            }
            vmid = self.reserve(vmid + 1, &taken);
        }
        let detail = format!("cluster {}: no VMID is free from {} to {}", site.name, range.first, range.last);
        Err(Failure::new(what).at(detail).state("nothing was touched").next("widen `vmid_range` of the cluster"))
    }
}

/// Why nothing can be said of a cluster's nodes, where that is so.
fn unanswered(facts: &ClusterFacts, what: &str) -> Option<Failure> {
    let why = match &facts.health {
        Health::Unreachable(why) | Health::Unknown(why) => format!("the target can't be asked: {why}"),
        Health::NotAsked => "the target was not asked".to_owned(),
        Health::Reachable if facts.usable_nodes().next().is_none() => {
            format!("none of the target's {} nodes is online and out of maintenance", facts.nodes.len())
        }
        Health::Reachable => return None,
    };
    let next = "bring it back, and apply again";
    Some(Failure::new(what).at(why).state("nothing was touched").next(next))
}

/// The node with the most memory not given out, among those that have every storage, really room on it, and bridge (design.md §4.5).
pub(crate) fn pick_node(facts: &ClusterFacts, spec: &VmSpec, on: &Resolved, what: &str) -> Result<String, Failure> {
    if let Some(node) = &spec.node {
        return Ok(node.clone());
    }
    let has_storage = |node: &str, name: &String| {
        facts.storages.iter().any(|storage| storage.name == *name && storage.nodes.contains(node))
    };
    let has_bridge =
        |node: &str, place: &NicPlace| facts.bridges.get(node).is_none_or(|bridges| bridges.contains(&place.bridge));
    let free = |node: &str, memory: u64| {
        let given = facts.guests.iter().filter(|guest| guest.node == node && guest.running).map(|guest| guest.memory.0);
        memory.saturating_sub(given.sum())
    };
    let fitting = facts.usable_nodes().filter(|node| {
        on.storages.values().chain(&on.copies).all(|storage| has_storage(&node.name, storage))
            && on.nics.values().all(|place| has_bridge(&node.name, place))
    });
    // A node whose pool is about to be full is the last choice, whatever was given out there.
    let has_room = |node: &str| {
        on.storages.values().all(|name| {
            let on_it = spec.disks.iter().filter(|(slot, _)| on.storages.get(slot) == Some(name));
            let size: u64 = on_it.map(|(_, disk)| disk.size.0).sum();
            let of_node = |storage: &&StorageFacts| storage.name == *name && storage.nodes.contains(node);
            facts.storages.iter().find(of_node).is_none_or(|storage| storage.avail.0 >= size)
        })
    };
    let best = fitting.max_by(|a, b| {
        let key = |node: &federation::placement::NodeFacts| (has_room(&node.name), free(&node.name, node.memory.0));
        key(a).cmp(&key(b)).then_with(|| b.name.cmp(&a.name))
    });
    best.map(|node| node.name.clone()).ok_or_else(|| {
        if let Some(failure) = unanswered(facts, what) {
            return failure;
        }
        let storages: Vec<&str> = on.storages.values().map(String::as_str).collect();
        let bridges: Vec<&str> = on.nics.values().map(|place| place.bridge.as_str()).collect();
        Failure::stale(
            what,
            format!("no online node has every storage ({}) and bridge ({})", storages.join(", "), bridges.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use federation::placement::NodeFacts;

    use super::*;

    #[test]
    fn a_target_that_is_silent_is_not_said_to_lack_storages() {
        let said =
            |facts: &ClusterFacts| unanswered(facts, "A move").map(|failure| failure.to_string()).unwrap_or_default();
        let silent = ClusterFacts { health: Health::Unreachable("no route".into()), ..ClusterFacts::default() };
        assert!(said(&silent).contains("the target can't be asked: no route"), "{}", said(&silent));
        let node = |online| NodeFacts { name: "n1".into(), online, ..NodeFacts::default() };
        let there =
            |online| ClusterFacts { health: Health::Reachable, nodes: vec![node(online)], ..ClusterFacts::default() };
        assert!(said(&there(false)).contains("none of the target's 1 nodes is online"), "{}", said(&there(false)));
        assert_eq!(said(&there(true)), "");
    }
}

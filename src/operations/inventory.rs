//! Owns turning what a cluster reports into the facts that placement decides from (design.md §4.6).
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation::Bytes;
use federation::placement::{ClusterFacts, GuestFacts, Health, Inventory, NodeFacts, StorageFacts};
use proxmox::{Permissions, Resource, StorageDefinition};
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::site::{Overview, Site};

/// What is asked of a cluster beside its overview.
#[derive(Debug)]
pub(crate) struct Structure {
    quorate: bool,
    missing_right: Option<String>,
    definitions: Vec<StorageDefinition>,
    identity: Option<String>,
    bridges: BTreeMap<String, BTreeSet<String>>,
}

impl Fleet {
    /// Asks every cluster at once; one that doesn't answer is in it as unreachable.
    pub(crate) async fn take_inventory(&self, age: Duration) -> Inventory {
        let mut asked = JoinSet::new();
        for site in self.sites() {
            let site = Arc::clone(site);
            asked.spawn(async move {
                let facts = site.take_facts(age).await;
                (site.name.clone(), facts, site.now())
            });
        }
        let mut inventory = Inventory::default();
        while let Some(answer) = asked.join_next().await {
            // A panic in one cluster's task leaves that cluster out, which placement reads as "not connected".
            if let Ok((name, facts, now)) = answer {
                inventory.taken_at = inventory.taken_at.max(u64::try_from(now).unwrap_or(0));
                inventory.clusters.insert(name, facts);
            }
        }
        inventory
    }
}

impl Fleet {
    /// Guests and nodes of the clusters that answer, from the overviews this process has anyway: nothing of capacity, storages
    /// and networks, and quorum only assumed.
    pub(crate) async fn guests_alone(&self) -> Inventory {
        let seen = self.glances().await;
        let clusters = seen.into_iter().map(|(site, overview)| {
            let facts = ClusterFacts {
                health: Health::Reachable,
                quorate: true,
                nodes: nodes(&overview),
                guests: overview.guests().filter_map(guest).collect(),
                ..ClusterFacts::default()
            };
            (site.name.clone(), facts)
        });
        Inventory { clusters: clusters.collect(), ..Inventory::default() }
    }
}

impl Site {
    /// The facts of this cluster; unreachable or partly seen is said, never guessed.
    pub(crate) async fn take_facts(&self, age: Duration) -> ClusterFacts {
        let overview = match self.overview(age).await {
            Ok(overview) => overview,
            Err(error) => return unseen(&error),
        };
        self.facts_of(age, &overview).await
    }

    /// The facts that an overview shows, with what else is asked of the cluster, that not older than `age`.
    pub(crate) async fn facts_of(&self, age: Duration, overview: &Overview) -> ClusterFacts {
        let structure = self.structure(age, overview).await;
        ClusterFacts {
            health: Health::Reachable,
            quorate: structure.quorate,
            complete_sight: structure.missing_right.is_none(),
            missing_right: structure.missing_right.clone(),
            identity: structure.identity.clone(),
            version: None,
            nodes: nodes(overview),
            guests: overview.guests().filter_map(guest).collect(),
            storages: storages(overview, &structure.definitions),
            bridges: structure.bridges.clone(),
            pools: overview.pools.iter().map(|pool| pool.poolid.clone()).collect(),
        }
    }

    /// What creates and moves of this process don't change: asked once per `age` however often the overview is looked at,
    /// or a hundred creates would ask a hundred times.
    async fn structure(&self, age: Duration, overview: &Overview) -> Arc<Structure> {
        let mut known = self.structure.lock().await;
        if let Some((at, structure)) = known.as_ref()
            && at.elapsed() <= age
        {
            return structure.clone();
        }
        let (permissions, definitions, status, identity) = tokio::join!(
            self.client.permissions(None),
            self.client.storage_index(),
            self.client.cluster_status(),
            self.who()
        );
        let structure = Arc::new(Structure {
            // Without Sys.Audit there is no status to read; then a cluster that answers is taken to have quorum, and a
            // write that finds none is refused by Proxmox VE before anything is touched.
            quorate: status.map_or_else(|error| error.is_permission_denied(), |status| status.quorate),
            missing_right: missing_right(&permissions.unwrap_or_default()),
            definitions: definitions.unwrap_or_default(),
            identity: identity.ok(),
            bridges: self.bridges(overview).await,
        });
        *known = Some((Instant::now(), structure.clone()));
        structure
    }

    async fn bridges(&self, overview: &Overview) -> BTreeMap<String, BTreeSet<String>> {
        let mut found = BTreeMap::new();
        for node in overview.online_nodes() {
            // Without the right to see them there is no entry, and the declared bridges count.
            if let Ok(networks) = self.client.node_networks(node).await {
                found.insert(node.to_owned(), networks.into_iter().map(|network| network.iface).collect());
            }
        }
        found
    }
}

/// The facts of a cluster that can't be asked.
pub(crate) fn unseen(error: &proxmox::Error) -> ClusterFacts {
    let health = if error.is_unreachable() {
        Health::Unreachable(error.to_string())
    } else if error.is_auth() {
        Health::Unknown(format!("it answers, and refuses the connection's token: {error}"))
    } else {
        Health::Unknown(error.to_string())
    };
    ClusterFacts { health, ..ClusterFacts::default() }
}

/// The first right without which the token doesn't see every guest and node (design.md §4.6).
fn missing_right(permissions: &Permissions) -> Option<String> {
    let needed = [("/vms", "VM.Audit"), ("/", "Sys.Audit"), ("/nodes", "Sys.Audit")];
    let missing = needed.iter().filter(|(path, privilege)| !permissions.has(path, privilege));
    let missing: Vec<String> = missing.map(|(path, privilege)| format!("{privilege} on {path}")).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

fn nodes(overview: &Overview) -> Vec<NodeFacts> {
    let nodes = overview.resources.iter().filter(|resource| resource.kind == "node");
    nodes
        .map(|node| NodeFacts {
            name: node.node.clone().unwrap_or_default(),
            online: node.status.as_deref() == Some("online"),
            maintenance: node.hastate.as_deref() == Some("maintenance"),
            cpus: u32::try_from(node.maxcpu.unwrap_or_default()).unwrap_or(u32::MAX),
            memory: Bytes(node.maxmem.unwrap_or_default()),
            memory_used: Bytes(node.mem.unwrap_or_default()),
        })
        .collect()
}

fn guest(resource: &Resource) -> Option<GuestFacts> {
    Some(GuestFacts {
        vmid: resource.vmid?,
        node: resource.node.clone().unwrap_or_default(),
        name: resource.name.clone().unwrap_or_default(),
        pool: resource.pool.clone(),
        tags: resource.tags().into_iter().map(|tag| tag.to_lowercase()).collect(),
        cpus: u32::try_from(resource.maxcpu.unwrap_or_default()).unwrap_or(u32::MAX),
        memory: Bytes(resource.maxmem.unwrap_or_default()),
        disk: Bytes(resource.maxdisk.unwrap_or_default()),
        running: !matches!(resource.status.as_deref(), Some("stopped" | "unknown") | None),
        template: resource.template,
        container: resource.kind == "lxc",
    })
}

/// Storage types whose volumes take space only as they are written.
const THIN: [&str; 7] = ["rbd", "lvmthin", "zfspool", "dir", "nfs", "cephfs", "btrfs"];

fn storages(overview: &Overview, definitions: &[StorageDefinition]) -> Vec<StorageFacts> {
    let mut found: Vec<StorageFacts> = Vec::new();
    for resource in overview.resources.iter().filter(|resource| resource.kind == "storage") {
        let (Some(name), Some(node)) = (&resource.storage, &resource.node) else { continue };
        if resource.status.as_deref() != Some("available") {
            continue;
        }
        let known = found.iter_mut().find(|storage| storage.shared && resource.shared && storage.name == *name);
        if let Some(storage) = known {
            storage.nodes.insert(node.clone());
            continue;
        }
        let (total, used) = (resource.maxdisk.unwrap_or_default(), resource.disk.unwrap_or_default());
        let kind = resource.plugintype.clone().unwrap_or_default();
        found.push(StorageFacts {
            name: name.clone(),
            shared: resource.shared,
            thin: THIN.contains(&kind.as_str()),
            content: resource.content.iter().cloned().collect(),
            total: Bytes(total),
            avail: Bytes(total.saturating_sub(used)),
            provisioned: None,
            nodes: BTreeSet::from([node.clone()]),
            backing: definitions.iter().find(|definition| definition.storage == *name).and_then(backing),
            kind,
        });
    }
    found
}

/// What backs a storage, where its definition tells (hazards.md OR 16): the same text on two clusters means the same
/// bytes.
pub(crate) fn backing(definition: &StorageDefinition) -> Option<String> {
    let keys: &[&str] = match definition.kind.as_str() {
        "nfs" => &["server", "export"],
        "cifs" => &["server", "share", "subdir"],
        "pbs" => &["server", "port", "datastore", "namespace"],
        "cephfs" => &["monhost", "fs-name", "subdir"],
        "rbd" => &["monhost", "pool", "namespace"],
        "iscsi" | "iscsidirect" => &["portal", "target"],
        _ => return None,
    };
    let values = keys.iter().filter_map(|key| definition.get(key).map(|value| format!("{key}={value}")));
    let text = values.collect::<Vec<_>>().join(" ");
    // A pool without monitors is the cluster's own Ceph, which no other cluster has.
    let own_ceph = definition.kind == "rbd" && definition.get("monhost").is_none();
    (!text.is_empty() && !own_ceph).then(|| format!("{} {text}", definition.kind))
}

#[cfg(test)]
mod tests {
    use federation::placement::Reason;
    use proxmox::{Call, Error, Refusal};

    use super::*;

    #[test]
    fn a_refused_token_is_not_told_to_come_back_into_reach() {
        let call =
            Call { cluster: "ams".into(), method: "GET".into(), path: "/version".into(), endpoint: String::new() };
        let message = "authentication failure".to_owned();
        let refused = Error::Refused(Box::new(Refusal { call, status: 401, message, errors: BTreeMap::new() }));
        let Health::Unknown(why) = unseen(&refused).health else { panic!("it answers") };
        assert!(why.contains("refuses the connection's token"), "{why}");
        assert!(!Reason::UnknownHealth { why }.relaxation().contains("into reach"));
        assert!(crate::create::answering(&refused).contains("token"));
    }
}

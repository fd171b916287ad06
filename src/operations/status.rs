//! Owns what is reported of the federation as a whole: each cluster's health, capacity and use, with the facts that placement
//! decides from (`federate status`).
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation::model::Enrolled;
use federation::placement::{ClusterFacts, Health, Inventory, StorageFacts, left_behind};
use federation::{Bytes, ClusterName, PoolName};
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::moves::in_words;
use crate::site::Site;

/// One cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClusterStatus {
    /// What placement decides from.
    pub facts: ClusterFacts,
    /// Round-trip time of one call, in milliseconds; `None` where it doesn't answer.
    pub rtt: Option<f64>,
    /// Processors in use as measured, all nodes together; `None` where the token may not see it.
    pub cpu_used: Option<f64>,
    /// What is to be said about it.
    pub warnings: Vec<String>,
}

/// An operation that is under way, or was left in the middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its id.
    pub id: String,
    /// The virtual machine's name.
    pub machine: String,
    /// What it is and how far it came, for people.
    pub what: String,
    /// The run that holds it.
    pub holder: String,
    /// When that wrote last, in seconds since 1970 by the cluster's clock.
    pub at: i64,
}

impl Open {
    /// When its holder wrote last, RFC 3339.
    pub fn written_at(&self) -> String {
        crate::guest::rfc3339(self.at)
    }
}

/// The federation at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// The clusters with a connection.
    pub clusters: BTreeMap<ClusterName, ClusterStatus>,
    /// What is enrolled on them.
    pub enrolled: Arc<Enrolled>,
    /// When, in seconds since 1970 by the clusters' own clock; 0 where none answers.
    pub at: u64,
    /// What is to be said about pools.
    pub advice: Vec<String>,
    /// Machines that should leave their clusters by their pool's rules: who moves, waits, would or stays, by pool. Intended, so
    /// no problem.
    pub moves: BTreeMap<PoolName, Vec<String>>,
    /// Operations on these clusters, each once, by the machine's name.
    pub operations: Vec<Open>,
}

impl Status {
    /// When, RFC 3339; `None` where no cluster answers.
    pub fn generated_at(&self) -> Option<String> {
        let at = i64::try_from(self.at).ok().filter(|at| *at > 0)?;
        Some(crate::guest::rfc3339(at))
    }

    /// The facts of all clusters.
    pub fn inventory(&self) -> Inventory {
        let facts = self.clusters.iter().map(|(name, status)| (name.clone(), status.facts.clone()));
        Inventory { taken_at: self.at, clusters: facts.collect() }
    }
}

impl ClusterStatus {
    /// Processors of all nodes; `None` where the token may not see them.
    pub fn cpus(&self) -> Option<u64> {
        let sum = self.facts.nodes.iter().map(|node| u64::from(node.cpus)).sum();
        Some(sum).filter(|sum| *sum > 0)
    }

    /// Memory of all nodes, and what of it is in use.
    pub fn memory(&self) -> Option<(Bytes, Bytes)> {
        let total = self.facts.total_memory();
        let used = self.facts.nodes.iter().map(|node| node.memory_used).sum();
        (total > Bytes::ZERO).then_some((total, used))
    }

    /// Storage for disks, and what of it is in use.
    pub fn storage(&self) -> Option<(Bytes, Bytes)> {
        let images = || self.facts.storages.iter().filter(|storage| storage.content.contains("images"));
        let total = images().map(|storage| storage.total).sum();
        let used = |storage: &StorageFacts| storage.total.saturating_sub(storage.avail);
        (total > Bytes::ZERO).then(|| (total, images().map(used).sum()))
    }
}

impl Fleet {
    /// The federation as it is now: the clusters of these pools, or all of them.
    pub async fn status(&self, pools: Option<&BTreeSet<PoolName>>) -> Status {
        let rules = self.rules().await;
        let member = |name: &ClusterName| {
            pools.is_none_or(|pools| {
                pools
                    .iter()
                    .any(|pool| rules.federation.pools.get(pool).is_some_and(|pool| pool.clusters.contains(name)))
            })
        };
        let mut asked = JoinSet::new();
        for site in self.sites().filter(|site| member(&site.name)) {
            let site = Arc::clone(site);
            asked.spawn(async move { (site.name.clone(), site.status().await, site.now()) });
        }
        let mut status = Status { enrolled: self.enrolled().await, ..Status::default() };
        // A panic in one cluster's task leaves that cluster out, which placement reads as "not connected".
        for (name, cluster, now) in asked.join_all().await {
            status.at = status.at.max(u64::try_from(now).unwrap_or(0));
            status.clusters.insert(name, cluster);
        }
        status.operations = self.open_operations(&member).await;
        let inventory = status.inventory();
        for (name, left) in left_behind(&rules.federation, &inventory) {
            if let Some(cluster) = status.clusters.get_mut(&name) {
                cluster.warnings.push(format!("it drains, and nobody will move: {}", left.join(", ")));
            }
        }
        for (name, pool) in &rules.federation.pools {
            let asked = pools.is_none_or(|pools| pools.contains(name));
            if !asked || !pool.clusters.iter().any(|cluster| status.clusters.contains_key(cluster)) {
                continue;
            }
            let moves = self.moves(&rules, Some(&inventory), name).await;
            if !moves.is_empty() {
                status.moves.insert(name.clone(), in_words(&moves));
            }
        }
        for problem in
            status.enrolled.problems.iter().filter(|problem| pools.is_none_or(|pools| pools.contains(&problem.pool)))
        {
            let said = format!("pool {} on {}: {}", problem.pool, problem.cluster, problem.why);
            status.advice.push(format!("{said}; nothing new of it is placed there"));
        }
        for difference in rules.differences.values().flatten() {
            status.advice.push(format!(
                "{}: {} is {} in the federation file and {} on the clusters, which holds",
                difference.object, difference.key, difference.lower, difference.upper
            ));
        }
        status
    }

    /// Operations on some clusters. A move has a journal on both, of which the source's is written first.
    async fn open_operations(&self, on: &impl Fn(&ClusterName) -> bool) -> Vec<Open> {
        let mut found: BTreeMap<String, Journal> = BTreeMap::new();
        for (_, overview) in self.glances().await.iter().filter(|(site, _)| on(&site.name)) {
            for journal in overview.operations().into_values() {
                let newer = found.get(&journal.op).is_none_or(|other| other.step < journal.step);
                if newer {
                    found.insert(journal.op.clone(), journal);
                }
            }
        }
        let mut open: Vec<Open> = found
            .into_values()
            .map(|journal| Open {
                what: journal.in_words(),
                id: journal.op,
                machine: journal.name,
                holder: journal.holder.run,
                at: journal.at,
            })
            .collect();
        open.sort_by(|a, b| (&a.machine, &a.id).cmp(&(&b.machine, &b.id)));
        open
    }
}

impl Site {
    async fn status(&self) -> ClusterStatus {
        // The first call opens the connection and logs in; the time of the second is the network's.
        let mut facts = self.take_facts(Duration::MAX).await;
        let mut warnings = Vec::new();
        match &facts.health {
            Health::Unreachable(why) | Health::Unknown(why) => warnings.push(why.clone()),
            Health::NotAsked => {}
            Health::Reachable => {
                if !facts.quorate {
                    warnings.push("it has no quorum".to_owned());
                }
                if let Some(right) = &facts.missing_right {
                    warnings.push(format!("the token lacks {right}: capacity and guests are seen only in part"));
                }
                let offline: Vec<&str> =
                    facts.nodes.iter().filter(|node| !node.online).map(|node| node.name.as_str()).collect();
                if !offline.is_empty() {
                    warnings.push(format!("offline: {}", offline.join(", ")));
                }
            }
        }
        let mut rtt = None;
        if facts.health == Health::Reachable {
            let start = Instant::now();
            if let Ok(version) = self.client.version().await {
                rtt = Some((start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0);
                facts.version = Some(version.version);
            }
        }
        ClusterStatus { cpu_used: self.cpu_used().await, facts, rtt, warnings }
    }

    async fn cpu_used(&self) -> Option<f64> {
        let overview = self.glance().await.ok()?;
        let nodes = overview.resources.iter().filter(|resource| resource.kind == "node");
        let used: Vec<f64> = nodes.filter_map(|node| Some(node.cpu? * node.maxcpu? as f64)).collect();
        (!used.is_empty()).then(|| (used.iter().sum::<f64>() * 100.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use federation::placement::NodeFacts;

    use super::*;

    #[test]
    fn a_shared_storage_counts_once_and_what_is_not_seen_is_not_zero() {
        let storage = |content: &str, total: u64, avail: u64| StorageFacts {
            content: [content.to_owned()].into(),
            total: Bytes(total),
            avail: Bytes(avail),
            ..StorageFacts::default()
        };
        let node = NodeFacts { cpus: 8, memory: Bytes(100), memory_used: Bytes(25), ..NodeFacts::default() };
        let facts = ClusterFacts {
            nodes: vec![node.clone(), node],
            storages: vec![storage("images", 10, 4), storage("backup", 1000, 0)],
            ..ClusterFacts::default()
        };
        let status = ClusterStatus { facts, ..ClusterStatus::default() };
        assert_eq!(status.cpus(), Some(16));
        assert_eq!(status.memory(), Some((Bytes(200), Bytes(50))));
        assert_eq!(status.storage(), Some((Bytes(10), Bytes(6))));
        let blind = ClusterStatus::default();
        assert_eq!((blind.cpus(), blind.memory(), blind.storage()), (None, None, None));
    }
}

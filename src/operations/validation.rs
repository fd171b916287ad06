//! Owns checking a federation file, alone and against what the clusters say: what `federate validate` and CI gates report.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use federation::config::{self, Loaded};
use federation::placement::{ClusterFacts, Health};
use federation::{Cluster, ClusterName};
use tokio::task::JoinSet;

pub use federation::config::Problem;

use crate::fleet::Fleet;
use crate::site::Site;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Validation {
    /// What is wrong; the file can't be used, or a cluster can't.
    pub problems: Vec<Problem>,
    /// What is odd but works.
    pub warnings: Vec<String>,
    /// Keys that were read and checked, but that nothing acts on.
    pub not_acted_on: Vec<String>,
    /// What each cluster answered; empty where connectivity was not checked.
    pub clusters: BTreeMap<String, Probe>,
}

/// What one cluster answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Probe {
    /// Whether it answered, and took the credentials.
    pub reachable: bool,
    /// Whether it has quorum; `None` where nobody can tell.
    pub quorate: Option<bool>,
    /// Proxmox VE's version.
    pub version: Option<String>,
    /// What is wrong, or "ok".
    pub message: String,
}

impl Validation {
    /// Whether nothing is wrong.
    pub fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }

    /// Checks the text of a federation file; gives what was read, where it could be.
    pub fn of_file(bytes: Vec<u8>) -> (Validation, Option<Loaded>) {
        let mut found = Validation::default();
        let Ok(text) = String::from_utf8(bytes) else {
            found.problems.push(whole("", "the file is not UTF-8 text"));
            return (found, None);
        };
        match config::load(&text) {
            Ok(loaded) => {
                found.warnings.clone_from(&loaded.warnings);
                found.not_acted_on.clone_from(&loaded.not_acted_on);
                (found, Some(loaded))
            }
            Err(error) => {
                found.problems = error.problems;
                (found, None)
            }
        }
    }

    /// Notes a problem that has no line in the file.
    pub fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(whole(path, &message.into()));
    }

    /// Asks every cluster of `declared`, all at once, whether it answers, is who it should be and has what is declared of it.
    /// One that `fleet` has no connection to is a problem.
    pub async fn connectivity(&mut self, fleet: &Fleet, declared: &BTreeMap<ClusterName, Cluster>) {
        let mut asked = JoinSet::new();
        for (name, declared) in declared.clone() {
            let Some(site) = fleet.site(name.as_str()).cloned() else {
                self.unusable(name.as_str(), "it has no connection");
                continue;
            };
            asked.spawn(async move {
                let (probe, facts) = site.probe().await;
                let lacks = if probe.reachable { lacking(&declared, &facts) } else { Vec::new() };
                (name, probe, facts.identity, lacks)
            });
        }
        let mut answers = BTreeMap::new();
        while let Some(answer) = asked.join_next().await {
            if let Ok((name, probe, identity, lacks)) = answer {
                answers.insert(name, (probe, identity, lacks));
            }
        }
        let mut known: BTreeMap<String, ClusterName> = BTreeMap::new();
        for (name, (probe, identity, lacks)) in answers {
            if !probe.reachable || probe.quorate == Some(false) {
                self.problem(&path_of(name.as_str()), &probe.message);
            }
            if let Some(twin) = identity.and_then(|identity| known.insert(identity, name.clone())) {
                self.problem(&path_of(name.as_str()), format!("this is the same cluster as {twin}: they have one CA"));
            }
            self.warnings.extend(lacks.into_iter().map(|lack| format!("cluster {name}: {lack}")));
            self.clusters.insert(name.to_string(), probe);
        }
    }

    /// Notes a cluster that could not even be asked.
    pub fn unusable(&mut self, cluster: &str, why: &str) {
        self.problem(&path_of(cluster), why);
        let known = self.clusters.entry(cluster.to_owned()).or_default();
        if !known.message.is_empty() {
            known.message.push_str("; ");
        }
        known.message.push_str(why);
    }
}

fn path_of(cluster: &str) -> String {
    format!("clusters.{cluster}")
}

fn whole(path: &str, message: &str) -> Problem {
    Problem { line: 0, column: 0, path: path.to_owned(), message: message.to_owned() }
}

impl Site {
    /// Asks the cluster who it is and how it is.
    pub async fn probe(&self) -> (Probe, ClusterFacts) {
        let version = match self.client.version().await {
            Ok(version) => version.version,
            Err(error) => {
                // Its line names the cluster already.
                let said = error.to_string();
                let message = said.strip_prefix(&format!("cluster {}: ", self.name)).unwrap_or(&said).to_owned();
                let facts = ClusterFacts { health: Health::Unreachable(message.clone()), ..ClusterFacts::default() };
                return (Probe { message, ..Probe::default() }, facts);
            }
        };
        let facts = self.take_facts(Duration::MAX).await;
        let mut probe = Probe { reachable: true, version: Some(version), ..Probe::default() };
        match &facts.health {
            Health::Reachable => {
                probe.quorate = Some(facts.quorate);
                probe.message = if facts.quorate { "ok".to_owned() } else { "it has no quorum".to_owned() };
            }
            Health::Unreachable(why) | Health::Unknown(why) => {
                probe.reachable = false;
                probe.message.clone_from(why);
            }
            Health::NotAsked => probe.message = "its health is not known".to_owned(),
        }
        (probe, facts)
    }
}

/// What the file declares and the cluster doesn't have.
fn lacking(declared: &Cluster, facts: &ClusterFacts) -> Vec<String> {
    let mut lacks = Vec::new();
    if let Some(right) = &facts.missing_right {
        lacks.push(format!("the token lacks {right}, so its free capacity is unknown and nothing new is placed there"));
    }
    let there: BTreeSet<&str> = facts.storages.iter().map(|storage| storage.name.as_str()).collect();
    let list = there.iter().copied().collect::<Vec<_>>().join(", ");
    let classes = declared.storage_classes.iter().map(|(class, storage)| (format!("storage_classes.{class}"), storage));
    let primary = declared.primary_storage.iter().map(|storage| ("storage.primary_storage".to_owned(), storage));
    let mut named = BTreeSet::new();
    for (key, storage) in primary.chain(classes) {
        if !there.is_empty() && !there.contains(storage.as_str()) && named.insert(storage) {
            lacks.push(format!("{key} names the storage {storage:?}, which it doesn't have; it has {list}"));
        }
    }
    let bridges: BTreeSet<&str> = facts.bridges.values().flatten().map(String::as_str).collect();
    for (network, at) in &declared.networks {
        if !bridges.is_empty() && !bridges.contains(at.bridge.as_str()) {
            let list = bridges.iter().copied().collect::<Vec<_>>().join(", ");
            lacks.push(format!(
                "networks.{network} names the bridge {:?}, which it doesn't have; it has {list}",
                at.bridge
            ));
        }
    }
    lacks
}

#[cfg(test)]
mod tests {
    //! What a file says is held against what a cluster has.

    use federation::placement::StorageFacts;

    use super::*;

    #[test]
    fn a_file_is_checked_whatever_its_bytes() {
        let (found, loaded) = Validation::of_file(vec![0xff, 0xfe]);
        assert!(loaded.is_none() && found.problems[0].message.contains("UTF-8"));
        let (found, loaded) = Validation::of_file(b"clusters:\n  - id: a\n    tier: bad\n".to_vec());
        assert!(loaded.is_none() && found.problems[0].line == 3, "{found:?}");
        let (found, loaded) = Validation::of_file(b"clusters:\n  - id: a\n    metadata: { a: 1 }\n".to_vec());
        assert!(found.is_valid() && loaded.is_some());
        assert_eq!(found.not_acted_on, ["clusters[].metadata"]);
    }

    #[test]
    fn what_is_declared_and_not_there_is_named_once() {
        let declared = Cluster {
            primary_storage: Some("ceph".into()),
            storage_classes: [("fast".to_owned(), "ceph".to_owned()), ("slow".to_owned(), "zfs".to_owned())].into(),
            ..Cluster::default()
        };
        let zfs = StorageFacts { name: "zfs".into(), ..StorageFacts::default() };
        let facts =
            ClusterFacts { storages: vec![zfs], missing_right: Some("Sys.Audit on /".into()), ..Default::default() };
        let lacks = lacking(&declared, &facts);
        assert_eq!(lacks.len(), 2, "{lacks:?}");
        assert!(lacks[1].contains("\"ceph\"") && lacks[1].contains("it has zfs"), "{lacks:?}");
    }
}

//! Placement held to the design: tables for what is decided, properties for what always holds.

mod cases;
mod claims;
mod goldens;
mod letter;
mod moves;
mod properties;
mod recovery;
mod rule_table;
mod strategies;

use std::collections::BTreeSet;

use super::*;
use crate::model::{Cluster, Federation, Operator, Policy, Pool, Rule, RuleType, Strategy, Target};
use crate::names::{ClusterName, PoolName, Tag, VmName};
use crate::units::Bytes;

pub(super) fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).unwrap()
}

pub(super) fn pool_name() -> PoolName {
    PoolName::new("prod").unwrap()
}

pub(super) fn rule(kind: RuleType, target: Target, operator: Operator, value: &str) -> Rule {
    Rule { kind, target, operator, value: value.into() }
}

/// A federation with one pool over all the clusters, and an inventory in which each has `nodes` nodes of 32 cores and
/// 128 GiB, and 4 TiB of shared storage called `data`.
pub(super) fn world(names: &[&str], policy: Policy) -> (Federation, Inventory) {
    let mut federation = Federation::default();
    let mut inventory = Inventory::default();
    for name in names {
        federation
            .clusters
            .insert(cluster(name), Cluster { primary_storage: Some("data".into()), ..Cluster::default() });
        inventory.clusters.insert(cluster(name), facts(2));
    }
    let clusters = names.iter().map(|name| cluster(name)).collect();
    federation.pools.insert(pool_name(), Pool { clusters, policy: Some(policy), ..Pool::default() });
    (federation, inventory)
}

pub(super) fn facts(nodes: usize) -> ClusterFacts {
    let names: BTreeSet<String> = (1..=nodes).map(|n| format!("pve{n}")).collect();
    ClusterFacts {
        health: Health::Reachable,
        quorate: true,
        complete_sight: true,
        nodes: names
            .iter()
            .map(|name| NodeFacts {
                name: name.clone(),
                online: true,
                cpus: 32,
                memory: Bytes::from_gib(128),
                ..NodeFacts::default()
            })
            .collect(),
        storages: vec![StorageFacts {
            name: "data".into(),
            shared: true,
            content: ["images".to_owned()].into(),
            total: Bytes(4 << 40),
            avail: Bytes(4 << 40),
            nodes: names.clone(),
            ..StorageFacts::default()
        }],
        bridges: names.iter().map(|name| (name.clone(), ["vmbr0".to_owned()].into())).collect(),
        ..ClusterFacts::default()
    }
}

pub(super) fn vm(name: &str) -> Request {
    Request { pool: Some(pool_name()), ..Request::new(VmName::new(name).unwrap()) }
}

pub(super) fn tagged(name: &str, tag: &str) -> Request {
    Request { tags: [Tag::new(tag).unwrap()].into(), ..vm(name) }
}

pub(super) fn guest(vmid: u32, name: &str, tag: &str) -> GuestFacts {
    GuestFacts {
        vmid,
        node: "pve1".into(),
        name: name.into(),
        pool: Some("prod".into()),
        tags: [tag.to_owned()].into(),
        cpus: 1,
        memory: Bytes::from_gib(2),
        running: true,
        ..GuestFacts::default()
    }
}

pub(super) fn policy(strategy: Strategy, rules: Vec<Rule>) -> Policy {
    Policy { strategy, rules, ..Policy::default() }
}

/// Decides on every request in turn, as one process would.
pub(super) fn place_all(
    federation: &Federation,
    inventory: &Inventory,
    requests: &[Request],
) -> Vec<(VmName, ClusterName)> {
    let mut ledger = Ledger::new();
    let mut placed = Vec::new();
    for request in requests {
        let decision = choose(federation, inventory, request, &ledger).unwrap_or_else(|refusal| panic!("{refusal}"));
        ledger.record(decision.cluster.clone(), request.clone());
        placed.push((request.name.clone(), decision.cluster));
    }
    placed
}

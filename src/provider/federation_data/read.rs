//! Owns ReadDataSource of `data.moxxie_federation`.
use std::collections::BTreeSet;

use federation::model::Layered;
use federation::placement::{ClusterFacts, Health, NodeFacts};
use federation::{Bytes, PoolName};
use operations::{ClusterStatus, Status};
use protocol::{AttributePath, Diagnostics, Value};

use crate::placing::Ready;
use crate::snapshot::Snapshot;

/// Static checks.
pub(crate) fn validate(config: &Value, diags: &mut Diagnostics) {
    for text in config.attr("pools").as_list().into_iter().flatten().filter_map(Value::as_str) {
        if let Err(error) = PoolName::new(text) {
            diags.error_at(AttributePath::new("pools"), "Invalid pools", error.to_string());
        }
    }
}

/// Asks every cluster at once. One that doesn't answer is in the answer as unreachable.
pub(crate) async fn read(ready: Option<&Ready>, config: Value, diags: &mut Diagnostics) -> Value {
    let nothing = || {
        config
            .clone()
            .with_attr("clusters", Value::Map(Default::default()))
            .with_attr("advice", Value::List(Vec::new()))
    };
    let Some(ready) = ready else {
        diags.warning("The federation is not asked", "The provider block holds values that are not known yet.");
        return nothing();
    };
    let rules = ready.fleet.rules().await;
    let wanted = config.attr("pools").as_list().map(|pools| {
        let names = pools.iter().filter_map(Value::as_str);
        names.filter_map(|name| PoolName::new(name).ok()).collect::<BTreeSet<_>>()
    });
    for name in wanted.iter().flatten().filter(|name| !rules.federation.pools.contains_key(*name)) {
        diags.warning_at(
            AttributePath::new("pools"),
            "No such resource pool",
            format!("{name} is neither in the federation file nor on a cluster that answers."),
        );
    }
    let status = ready.fleet.status(wanted.as_ref()).await;
    for (name, cluster) in &status.clusters {
        if !cluster.facts.is_healthy() {
            let why = cluster.warnings.join("; ");
            diags.warning(format!("Cluster {name} is not healthy"), why);
        }
    }
    match answer(&config, &status, &rules, wanted.as_ref()) {
        Ok(value) => value,
        Err(error) => {
            diags.error("The inventory can't be written", error);
            nothing()
        }
    }
}

fn answer(
    config: &Value,
    status: &Status,
    rules: &Layered,
    wanted: Option<&BTreeSet<PoolName>>,
) -> Result<Value, String> {
    let snapshot = Snapshot { inventory: status.inventory().into(), enrolled: status.enrolled.clone() };
    let clusters = status.clusters.iter().map(|(name, status)| {
        let pools = rules.federation.pools.iter().filter(|(pool, facts)| {
            facts.clusters.contains(name) && wanted.is_none_or(|wanted| wanted.contains(*pool))
        });
        (name.to_string(), cluster(status, pools.map(|(pool, _)| pool.as_str())))
    });
    Ok(Value::object([
        ("pools", config.attr("pools").clone()),
        ("clusters", Value::map(clusters)),
        ("inventory", snapshot.write()?.into()),
        ("advice", Value::list(status.advice.iter().chain(status.moves.values().flatten()))),
        ("generated_at", status.generated_at().into()),
    ]))
}

fn cluster<'a>(status: &ClusterStatus, pools: impl Iterator<Item = &'a str>) -> Value {
    let facts = &status.facts;
    let reachable = facts.health == Health::Reachable;
    let (memory, storage) = (status.memory(), status.storage());
    let amounts = |cpu: Value, pick: fn((Bytes, Bytes)) -> Bytes| {
        let of = |amounts: Option<(Bytes, Bytes)>| Value::from(amounts.map(|amounts| pick(amounts).0));
        let seen = !cpu.is_null() || memory.is_some() || storage.is_some();
        let object = || Value::object([("cpu", cpu.clone()), ("memory", of(memory)), ("storage", of(storage))]);
        if seen { object() } else { Value::Null }
    };
    Value::object([
        ("reachable", reachable.into()),
        ("quorate", reachable.then_some(facts.quorate).into()),
        ("version", facts.version.as_deref().into()),
        ("nodes", if reachable { nodes(facts) } else { Value::Null }),
        ("capacity", amounts(status.cpus().into(), |(total, _)| total)),
        ("used", amounts(status.cpu_used.into(), |(_, used)| used)),
        ("pools", Value::list(pools)),
        ("warnings", Value::list(status.warnings.iter())),
        ("rtt", status.rtt.into()),
    ])
}

fn nodes(facts: &ClusterFacts) -> Value {
    let mut nodes: Vec<&NodeFacts> = facts.nodes.iter().collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let some = |number: u64| (number > 0).then_some(number);
    Value::list(nodes.into_iter().map(|node| {
        Value::object([
            ("name", Value::from(node.name.as_str())),
            ("online", node.online.into()),
            ("maintenance", node.maintenance.into()),
            ("cpu", some(node.cpus.into()).into()),
            ("memory", some(node.memory.0).into()),
        ])
    }))
}

#[cfg(test)]
mod tests {
    use federation::{ClusterName, Pool};

    use super::*;

    fn name(text: &str) -> ClusterName {
        text.parse().expect("a name")
    }

    #[test]
    fn what_is_reported_fits_the_schema_and_a_dark_cluster_says_only_so() {
        let node = NodeFacts { name: "n1".into(), online: true, cpus: 8, memory: Bytes(64), ..NodeFacts::default() };
        let up = ClusterStatus {
            facts: ClusterFacts {
                health: Health::Reachable,
                quorate: true,
                version: Some("9.1.9".into()),
                nodes: vec![node],
                ..ClusterFacts::default()
            },
            rtt: Some(1.5),
            cpu_used: Some(0.25),
            ..ClusterStatus::default()
        };
        let dark = ClusterStatus {
            facts: ClusterFacts { health: Health::Unreachable("no route".into()), ..ClusterFacts::default() },
            warnings: vec!["no route".into()],
            ..ClusterStatus::default()
        };
        let status =
            Status { clusters: [(name("a"), up), (name("b"), dark)].into(), at: 1_700_000_000, ..Status::default() };
        let mut rules = Layered::default();
        for pool in ["prod", "test"] {
            let facts = Pool { clusters: [name("a"), name("b")].into(), ..Pool::default() };
            rules.federation.pools.insert(pool.parse().expect("a name"), facts);
        }
        let wanted = BTreeSet::from(["prod".parse().expect("a name")]);
        let config = Value::object([("pools", Value::set(["prod"]))]);
        let value = answer(&config, &status, &rules, Some(&wanted)).expect("an answer");
        let value = super::super::schema::schema().ty().conform(value).expect("it fits the schema");
        let a = value.attr("clusters").attr("a");
        assert_eq!((a.attr("rtt"), a.attr("used").attr("cpu")), (&1.5.into(), &0.25.into()));
        assert_eq!(a.attr("pools"), &Value::list(["prod"]));
        assert_eq!(a.attr("nodes").as_list().map(<[Value]>::len), Some(1));
        let b = value.attr("clusters").attr("b");
        assert_eq!(b.attr("reachable"), &false.into());
        for unseen in ["quorate", "version", "nodes", "capacity", "used", "rtt"] {
            assert!(b.attr(unseen).is_null(), "{unseen}");
        }
        assert_eq!(value.attr("generated_at"), &"2023-11-14T22:13:20Z".into());
        let text = value.attr("inventory").as_str().expect("an inventory");
        assert_eq!(*Snapshot::read(text).expect("it reads back").inventory, status.inventory());
    }
}

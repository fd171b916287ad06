//! Owns `federate status`.
use federation::placement::Health;
use federation::{Bytes, Cluster, ClusterName, Federation, Pool, PoolName};
use operations::{ClusterStatus, Open, Status};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::report::{Exit, Output, Wrong, counted};
use crate::source::{self, Source};
use crate::table::Table;
use crate::validate::list;

/// Asks every cluster at once, and shows clusters and pools.
pub(crate) async fn run(common: &Common, json: bool) -> Result<Output, Wrong> {
    let source = source::open(common)?;
    let mut status = source.fleet.status(None).await;
    for (name, why) in &source.unusable {
        let cluster = status.clusters.entry(name.clone()).or_default();
        cluster.facts.health = Health::Unknown(why.clone());
        cluster.warnings.push(why.clone());
    }
    let rules = source.fleet.rules().await;
    let well = status.clusters.values().all(|cluster| cluster.facts.is_healthy());
    let exit = Exit::fine_if(well && status.advice.is_empty());
    if json {
        return Ok(Output::json(&value(&source, &status, &rules.federation), exit));
    }
    Ok(Output::new(text(&source, &status, &rules.federation), exit))
}

fn text(source: &Source, status: &Status, federation: &Federation) -> String {
    let healthy = status.clusters.values().filter(|cluster| cluster.facts.is_healthy()).count();
    let primary = source.loaded.primary_cluster.as_ref().map(|name| format!(", primary {name}")).unwrap_or_default();
    let of = counted(status.clusters.len(), "cluster");
    let mut text = format!("{}: {healthy} of {of} healthy{primary}\n\n", source.path);
    let mut table = Table::new(&[
        "CLUSTER", "TIER", "LOCATION", "STATE", "VERSION", "#NODES", "#GUESTS", "CORES", "MEMORY", "STORAGE",
    ]);
    for (name, cluster) in &status.clusters {
        let undeclared = Cluster::default();
        table.row(cluster_row(name, federation.clusters.get(name).unwrap_or(&undeclared), cluster));
    }
    text += &table.text("");
    if !federation.pools.is_empty() {
        let mut table = Table::new(&["POOL", "STRATEGY", "CLUSTERS", "#VMS", "#CORES", "#MEMORY", "#STORAGE"]);
        for (name, pool) in &federation.pools {
            table.row(pool_row(name, pool, status));
        }
        text += &format!("\n{}", table.text(""));
    }
    if !status.operations.is_empty() {
        let mut table = Table::new(&["MACHINE", "OPERATION", "ID", "HOLDER", "LAST WRITTEN"]);
        for open in &status.operations {
            let at = open.written_at();
            table.row(vec![open.machine.clone(), open.what.clone(), open.id.clone(), open.holder.clone(), at]);
        }
        text += &format!("\n{}", table.text(""));
    }
    let mut said: Vec<String> = status
        .clusters
        .iter()
        .flat_map(|(name, cluster)| cluster.warnings.iter().map(move |warning| format!("{name}: {warning}")))
        .collect();
    said.extend(source.warnings.iter().chain(&status.advice).cloned());
    list(&mut text, "Warnings:", &said);
    for (pool, moves) in &status.moves {
        list(&mut text, &format!("Machines of pool {pool} that should leave their clusters:"), moves);
    }
    text
}

fn state(declared: &Cluster, cluster: &ClusterStatus) -> &'static str {
    match &cluster.facts.health {
        Health::Reachable if !cluster.facts.quorate => "NO QUORUM",
        Health::Reachable if declared.is_draining() => "draining",
        Health::Reachable if declared.keeps_out() => "cordoned",
        Health::Reachable => "ok",
        Health::Unreachable(_) => "DARK",
        Health::Unknown(_) | Health::NotAsked => "UNKNOWN",
    }
}

fn cluster_row(name: &ClusterName, declared: &Cluster, cluster: &ClusterStatus) -> Vec<String> {
    let dash = || "–".to_owned();
    let facts = &cluster.facts;
    let known = facts.health == Health::Reachable;
    let online = facts.nodes.iter().filter(|node| node.online).count();
    let amount = |amount: Option<(Bytes, Bytes)>| {
        amount.map_or_else(dash, |(total, used)| format!("{} of {}", used.human(), total.human()))
    };
    let cores = match (cluster.cpu_used, cluster.cpus()) {
        (used, Some(total)) => format!("{:.1} of {total}", used.unwrap_or_default()),
        _ => dash(),
    };
    let guests = facts.guests.iter().filter(|guest| !guest.template).count();
    vec![
        name.to_string(),
        declared.tier.map_or_else(dash, |tier| tier.to_string()),
        declared.location.clone().unwrap_or_else(dash),
        state(declared, cluster).to_owned(),
        facts.version.clone().unwrap_or_else(dash),
        if known { format!("{online}/{}", facts.nodes.len()) } else { dash() },
        if known { guests.to_string() } else { dash() },
        if known { cores } else { dash() },
        if known { amount(cluster.memory()) } else { dash() },
        if known { amount(cluster.storage()) } else { dash() },
    ]
}

/// What a pool holds on the clusters that answer.
#[derive(Default)]
struct Held {
    vms: u64,
    cores: u64,
    memory: Bytes,
    storage: Bytes,
}

fn held(name: &PoolName, status: &Status) -> Held {
    let mut held = Held::default();
    let guests = status.clusters.values().flat_map(|cluster| &cluster.facts.guests);
    for guest in guests.filter(|guest| guest.pool.as_deref() == Some(name.as_str()) && !guest.template) {
        held.vms += 1;
        held.cores += u64::from(guest.cpus);
        held.memory = held.memory + guest.memory;
        held.storage = held.storage + guest.disk;
    }
    held
}

fn pool_row(name: &PoolName, pool: &Pool, status: &Status) -> Vec<String> {
    let held = held(name, status);
    let number = |held: u64, most: Option<u32>| match most {
        Some(most) => format!("{held} of {most}"),
        None => held.to_string(),
    };
    let size = |held: Bytes, most: Option<Bytes>| match most {
        Some(most) => format!("{} of {}", held.human(), most.human()),
        None => held.human(),
    };
    let policy = pool.policy();
    let member = |name: &ClusterName| match policy.cluster_weights.get(name) {
        Some(weight) => format!("{name} {weight}"),
        None => name.to_string(),
    };
    vec![
        name.to_string(),
        policy.strategy.to_string(),
        pool.clusters.iter().map(member).collect::<Vec<_>>().join(", "),
        number(held.vms, pool.limits.max_vms),
        number(held.cores, pool.limits.max_cpu_cores),
        size(held.memory, pool.limits.max_memory),
        size(held.storage, pool.limits.max_storage),
    ]
}

fn value(source: &Source, status: &Status, federation: &Federation) -> Value {
    let undeclared = Cluster::default();
    let cluster = |(name, cluster): (&ClusterName, &ClusterStatus)| {
        let declared = federation.clusters.get(name).unwrap_or(&undeclared);
        let facts = &cluster.facts;
        let amount =
            |amount: Option<(Bytes, Bytes)>| amount.map(|(total, used)| json!({ "total": total.0, "used": used.0 }));
        let nodes = facts.nodes.iter().map(|node| json!({ "name": node.name, "online": node.online }));
        let value = json!({
            "state": state(declared, cluster).to_lowercase(),
            "reachable": facts.health == Health::Reachable,
            "quorate": (facts.health == Health::Reachable).then_some(facts.quorate),
            "version": facts.version,
            "rtt_ms": cluster.rtt,
            "tier": declared.tier,
            "location": declared.location,
            "nodes": nodes.collect::<Vec<_>>(),
            "guests": facts.guests.iter().filter(|guest| !guest.template).count(),
            "cores": cluster.cpus().map(|total| json!({ "total": total, "used": cluster.cpu_used })),
            "memory": amount(cluster.memory()),
            "storage": amount(cluster.storage()),
            "warnings": cluster.warnings,
        });
        (name.to_string(), value)
    };
    let pool = |(name, pool): (&PoolName, &Pool)| {
        let held = held(name, status);
        let value = json!({
            "clusters": pool.clusters,
            "strategy": pool.policy().strategy,
            "limits": pool.limits,
            "vms": held.vms,
            "cores": held.cores,
            "memory": held.memory,
            "storage": held.storage,
        });
        (name.to_string(), value)
    };
    let open = |open: &Open| {
        json!({
            "id": open.id,
            "machine": open.machine,
            "what": open.what,
            "holder": open.holder,
            "written_at": open.written_at(),
        })
    };
    json!({
        "file": source.path,
        "generated_at": status.generated_at(),
        "primary_cluster": source.loaded.primary_cluster,
        "clusters": status.clusters.iter().map(cluster).collect::<serde_json::Map<_, _>>(),
        "pools": federation.pools.iter().map(pool).collect::<serde_json::Map<_, _>>(),
        "operations": status.operations.iter().map(open).collect::<Vec<_>>(),
        "moves": status.moves,
        "warnings": source.warnings.iter().chain(&status.advice).collect::<Vec<_>>(),
    })
}

//! The file as a whole: clusters, federation, pools, migration policies.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{check_ref, cluster_ref};
use super::walk::{Notes, Section};
use super::{ConfigError, FileConnection, Loaded, MigrationPolicies, cluster, consistency, derive, tree};
use crate::digest::sha256_hex;
use crate::migration::PRE_MIGRATION_CHECKS;
use crate::model::{
    AutomaticMove, Federation, Limits, Method, MigrationPath, Policy, Pool, Rule, RuleType, Strategy, Target,
    Transport, TransportKind, Weekday, Window,
};
use crate::names::{ClusterName, PoolName};
use crate::placement::unmatched;
use crate::units::Cidr;

/// Reads a federation file from its text.
///
/// # Errors
/// Every problem of the file, each with its line and column: not YAML, unknown keys, values outside what is accepted,
/// names that do not exist, the same name twice.
pub fn load(text: &str) -> Result<Loaded, ConfigError> {
    let root = tree::parse(text)?;
    let notes = Notes::default();
    let mut federation = Federation::default();
    let mut connections = BTreeMap::new();
    let mut subnets = BTreeMap::new();
    let mut migration = MigrationPolicies::default();
    let mut primary_cluster = None;
    if let Some(root) = Section::new(&notes, String::new(), &root) {
        read_clusters(&root, &mut federation, &mut connections, &mut subnets);
        let names: Vec<ClusterName> = federation.clusters.keys().cloned().collect();
        let known: Vec<&str> = names.iter().map(ClusterName::as_str).collect();
        primary_cluster = root.section("federation").and_then(|section| read_federation(&section, &known));
        let pools = root.get_either("resource_pools", "resourcePools");
        for section in root.sections("resource_pools", pools) {
            read_pool(&section, &mut federation, &known);
        }
        if let Some(node) = root.get_either("migration_policies", "migrationPolicies")
            && let Some(section) = root.section_at("migration_policies", node)
        {
            migration = read_migration(&section, &mut federation, &known);
        }
        root.finish();
    }
    let (not_acted_on, mut warnings) = notes.finish()?;
    warnings.extend(derive::pool_warnings(&federation));
    warnings.extend(consistency::warnings(&federation, &subnets));
    warnings.extend(federation.pools.iter().flat_map(|(name, pool)| unmatched(&federation, name, pool)));
    let sha256 = sha256_hex(text.as_bytes());
    Ok(Loaded { federation, connections, migration, primary_cluster, not_acted_on, warnings, sha256 })
}

fn read_clusters(
    root: &Section<'_>,
    federation: &mut Federation,
    connections: &mut BTreeMap<ClusterName, FileConnection>,
    subnets: &mut BTreeMap<ClusterName, Cidr>,
) {
    let listed = root.get("clusters");
    if listed.is_none() {
        root.problem(root.at, "clusters", "the file needs the section \"clusters\"");
    }
    let sections = root.sections("clusters", listed);
    let mut ids: Vec<Option<ClusterName>> = Vec::new();
    for section in &sections {
        let id = section.required_text("id").and_then(|id| section.parse::<ClusterName>("id", &id));
        let twice = id.as_ref().filter(|id| ids.iter().flatten().any(|other| other == *id));
        if let Some(id) = twice {
            section.problem(section.place("id"), "id", format!("a cluster {id:?} was there before", id = id.as_str()));
        }
        ids.push(id);
    }
    let known: Vec<&str> = ids.iter().flatten().map(ClusterName::as_str).collect();
    for (section, id) in sections.iter().zip(&ids) {
        let (facts, connection, subnet) = cluster::read(section, &known);
        let Some(id) = id else { continue };
        subnets.extend(subnet.map(|subnet| (id.clone(), subnet)));
        if let Some(connection) = connection {
            connections.insert(id.clone(), connection);
        }
        federation.clusters.insert(id.clone(), facts);
    }
}

fn read_federation(section: &Section<'_>, known: &[&str]) -> Option<ClusterName> {
    let primary = section.text("primary_cluster");
    let primary =
        primary.and_then(|name| check_ref(section, "primary_cluster", section.place("primary_cluster"), &name, known));
    for (name, at) in section.texts("failover_priority") {
        check_ref(section, "failover_priority", at, &name, known);
    }
    section.count("sync_interval");
    section.count("health_check_interval");
    if section.get("failover_priority").is_some() {
        section.warn("federation.failover_priority: nothing acts on it: a lost site is declared (`lost_clusters`), and placement decides");
    }
    section.inert(&["primary_cluster", "failover_priority", "sync_interval", "health_check_interval"]);
    section.finish();
    primary
}

fn read_pool(section: &Section<'_>, federation: &mut Federation, known: &[&str]) {
    let name = section.required_text("name").and_then(|name| section.parse::<PoolName>("name", &name));
    if section.get("clusters").is_none() {
        section.problem(section.at, "", "the key \"clusters\" is missing");
    }
    let members = section.texts("clusters");
    let clusters: BTreeSet<ClusterName> =
        members.iter().filter_map(|(name, at)| check_ref(section, "clusters", *at, name, known)).collect();
    let limits = section.section("limits").map(|limits| read_limits(&limits)).unwrap_or_default();
    let policy = section
        .get_either("placement_policy", "placementPolicy")
        .and_then(|node| section.section_at("placement_policy", node))
        .map(|policy| read_policy(&policy, federation, &clusters, known));
    let mut automatic_moves = BTreeSet::new();
    for (word, _) in section.texts("automatic_moves") {
        automatic_moves.extend(section.parse::<AutomaticMove>("automatic_moves", &word));
    }
    let pool = Pool {
        clusters,
        limits,
        policy,
        automatic_moves,
        max_moves_per_apply: section.count("max_moves_per_apply"),
        description: section.text("description"),
    };
    section.finish();
    let Some(name) = name else { return };
    if federation.pools.contains_key(&name) {
        section.problem(section.place("name"), "name", format!("a pool {:?} was there before", name.as_str()));
    }
    federation.pools.insert(name, pool);
}

fn read_limits(section: &Section<'_>) -> Limits {
    // 0 is what the guide's tools took for "no limit".
    let count = |key: &str| section.count(key).filter(|most| *most > 0);
    let limits = Limits {
        max_vms: count("max_vms"),
        max_cpu_cores: count("max_cpu_cores"),
        max_memory: section.parsed("max_memory"),
        max_storage: section.parsed("max_storage"),
    };
    section.finish();
    limits
}

fn read_policy(
    section: &Section<'_>,
    federation: &Federation,
    members: &BTreeSet<ClusterName>,
    known: &[&str],
) -> Policy {
    let mut policy = Policy { strategy: section.parsed("strategy").unwrap_or(Strategy::Balanced), ..Policy::default() };
    if let Some(node) = section.get_either("cluster_weights", "clusterWeights")
        && let Some(weights) = section.section_at("cluster_weights", node)
    {
        for (name, at, _) in weights.names() {
            let weight = weights.int(name, 0, 1_000_000).and_then(|weight| u32::try_from(weight).ok());
            if let (Some(name), Some(weight)) = (check_ref(&weights, name, at, name, known), weight) {
                if !members.contains(&name) {
                    weights.problem(at, name.as_str(), "this cluster is not one of the pool's clusters");
                }
                policy.cluster_weights.insert(name, weight);
            }
        }
    }
    let rules = section.get("rules");
    for rule in section.sections("rules", rules) {
        policy.rules.extend(read_rule(&rule, federation));
    }
    section.finish();
    policy
}

fn read_rule(section: &Section<'_>, federation: &Federation) -> Option<Rule> {
    for key in ["type", "target", "operator", "value"] {
        if section.get(key).is_none() {
            section.problem(section.at, "", format!("the key {key:?} is missing"));
        }
    }
    let value = section.text("value");
    let (kind, target, operator) = (section.parsed("type"), section.parsed("target"), section.parsed("operator"));
    section.finish();
    let value = value?;
    if value.trim().is_empty() {
        // An empty text is part of every location.
        section.problem(section.place("value"), "value", "it must not be empty");
        return None;
    }
    let rule = Rule { kind: kind?, target: target?, operator: operator?, value };
    let names_nobody = rule.target == Target::Cluster
        && rule.kind != RuleType::Location
        && federation.cluster_called(&rule.value).is_none();
    if names_nobody {
        section.warn(format!("{}: there is no cluster {:?} in this file", section.path, rule.value));
    }
    Some(rule)
}

fn read_migration(section: &Section<'_>, federation: &mut Federation, known: &[&str]) -> MigrationPolicies {
    let default_method = section.parsed("default_method").unwrap_or(Method::BackupRestore);
    let mut checks = Vec::new();
    for (check, at) in section.texts("pre_migration_checks") {
        if PRE_MIGRATION_CHECKS.contains(&check.as_str()) {
            checks.push(check);
        } else {
            let accepted = PRE_MIGRATION_CHECKS.join(", ");
            section.problem(at, "pre_migration_checks", format!("there is no check {check:?}; there are {accepted}"));
        }
    }
    let paths = section.get("paths");
    for path in section.sections("paths", paths) {
        let source = cluster_ref(&path, "source_cluster", known);
        let target = cluster_ref(&path, "target_cluster", known);
        let facts = read_path(&path, default_method);
        let (Some(source), Some(target)) = (source, target) else { continue };
        if source == target {
            path.problem(path.at, "", "source_cluster and target_cluster are the same");
            continue;
        }
        let Some(cluster) = federation.clusters.get_mut(&source) else { continue };
        if cluster.migration_paths.insert(target.clone(), facts).is_some() {
            path.problem(path.at, "", format!("a path from {source} to {target} was there before"));
        }
    }
    section.finish();
    MigrationPolicies { default_method, pre_migration_checks: checks }
}

fn read_path(section: &Section<'_>, default_method: Method) -> MigrationPath {
    let transport = section.section("transport").map(|section| {
        let kind = section.parsed("type").unwrap_or(TransportKind::SharedStorage);
        let transport = Transport { kind, storage: section.text("storage") };
        section.finish();
        transport
    });
    let path = MigrationPath {
        method: section.parsed("method").unwrap_or(default_method),
        max_bandwidth: section.parsed("max_bandwidth"),
        link_encrypted: section.bool("link_encrypted").unwrap_or(false),
        encryption_required: section.bool("encryption_required").unwrap_or(false),
        transport,
        wan: section.parsed("wan"),
        window: section.section("window").and_then(|section| read_window(&section)),
        max_concurrent: section.int("max_concurrent", 1, 1000).and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
    };
    section.bool("compression_enabled");
    // Archives are always compressed with zstd, so there is nothing to switch; and on a shared storage nothing hangs on who is far from it.
    section.inert(&["compression_enabled", "wan"]);
    section.finish();
    path
}

fn read_window(section: &Section<'_>) -> Option<Window> {
    let mut days: BTreeSet<Weekday> = BTreeSet::new();
    for (word, _) in section.texts("days") {
        days.extend(section.parse::<Weekday>("days", &word));
    }
    let time = |key: &str| {
        let text = section.required_text(key)?;
        if is_time_of_day(&text) {
            return Some(text);
        }
        section.problem(
            section.place(key),
            key,
            format!("{text:?} is not a time of day; accepted: \"HH:MM\", in quotes"),
        );
        None
    };
    let (from, to) = (time("from"), time("to"));
    let zone = section.text("zone").unwrap_or_else(|| "UTC".to_owned());
    if !Window::knows_zone(&zone) {
        let why = format!("{zone:?} is not a time zone; accepted: IANA names, \"Europe/Amsterdam\"");
        section.problem(section.place("zone"), "zone", why);
    }
    section.finish();
    Some(Window { days, from: from?, to: to?, zone })
}

fn is_time_of_day(text: &str) -> bool {
    let Some((hours, minutes)) = text.split_once(':') else {
        return false;
    };
    let two = |digits: &str, most: u8| {
        digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse().is_ok_and(|n: u8| n <= most)
    };
    two(hours, 23) && two(minutes, 59)
}

//! Where machines of a lost cluster go: to the freshest backup, and there by the rules that always hold.

use std::collections::BTreeMap;

use super::*;

/// What each cluster sees: the newest backup of the machine.
fn backups(seen: &[(&str, i64)]) -> BTreeMap<ClusterName, i64> {
    seen.iter().map(|(name, at)| (cluster(name), *at)).collect()
}

/// Three clusters of which "ams" is dark.
fn lost(policy: Policy) -> (Federation, Inventory) {
    let (federation, mut inventory) = world(&["ams", "fra", "rtm"], policy);
    inventory.clusters.get_mut("ams").unwrap().health = Health::Unreachable("no route".into());
    (federation, inventory)
}

fn to(federation: &Federation, inventory: &Inventory, seen: &[(&str, i64)]) -> Result<String, Refusal> {
    let request = Request { pool: Some(pool_name()), ..Request::new("web-1".parse().unwrap()) };
    recover(federation, inventory, &request, &Ledger::new(), &backups(seen))
        .map(|decision| decision.cluster.to_string())
}

#[test]
fn the_freshest_backup_wins_over_what_placement_prefers() {
    let (federation, inventory) = lost(Policy::default());
    let both = to(&federation, &inventory, &[("fra", 100), ("rtm", 100)]).unwrap();
    let other = if both == "fra" { "rtm" } else { "fra" };
    assert_eq!(to(&federation, &inventory, &[(&both, 99), (other, 100)]).unwrap(), other);
    assert_eq!(to(&federation, &inventory, &[(&both, 100), (other, 99)]).unwrap(), both);
}

#[test]
fn what_may_not_take_the_freshest_backup_is_no_reason_for_an_older_one() {
    let here = vec![rule(RuleType::Location, Target::Cluster, Operator::Must, "rtm")];
    let (federation, inventory) = lost(Policy { rules: here, ..Policy::default() });
    assert_eq!(to(&federation, &inventory, &[("fra", 100), ("rtm", 100)]).unwrap(), "rtm");
    let refusal = to(&federation, &inventory, &[("fra", 100), ("rtm", 99)]).unwrap_err();
    assert!(refusal.explanation.candidates.iter().all(|candidate| candidate.cluster.as_str() == "fra"), "{refusal}");
}

#[test]
fn without_a_backup_there_is_no_candidate_and_a_dark_cluster_is_none() {
    let (federation, inventory) = lost(Policy::default());
    assert!(to(&federation, &inventory, &[]).is_err());
    assert!(to(&federation, &inventory, &[("ams", 100)]).is_err());
}

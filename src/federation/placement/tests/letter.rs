//! design.md §4.2 word by word where no other test has it: shares, weights, tiers, capabilities, residence against admission.

use super::*;
use crate::model::{Capability, Coordinates, Pricing, Tier};

/// Three sites of three tiers, each with everything a strategy can look at.
fn sites(strategy: Strategy, rules: Vec<Rule>) -> (Federation, Inventory) {
    let (mut federation, inventory) = world(&["edge", "main", "spare"], policy(strategy, rules));
    for (name, tier, price, latitude) in
        [("main", Tier::Primary, 0.02, 52.0), ("spare", Tier::Secondary, 0.01, 51.0), ("edge", Tier::Edge, 0.005, 50.0)]
    {
        let facts = federation.clusters.get_mut(name).unwrap();
        facts.tier = Some(tier);
        facts.tags.insert(tier.to_string());
        facts.coordinates = Coordinates::new(latitude, 5.0);
        facts.pricing = Some(Pricing { currency: "EUR".into(), core_hour: price, ..Pricing::default() });
    }
    (federation, inventory)
}

fn order(federation: &Federation, inventory: &Inventory, request: &Request) -> Vec<String> {
    let decision = choose(federation, inventory, request, &Ledger::new()).unwrap_or_else(|refusal| panic!("{refusal}"));
    let mut candidates = decision.explanation.candidates;
    candidates.sort_by_key(|candidate| candidate.preference);
    candidates.into_iter().map(|candidate| candidate.cluster.to_string()).collect()
}

#[test]
fn a_score_is_share_times_factor_times_weight_and_a_quarter_for_each_preference() {
    let wanted = Request { location: Some("50.5,5.0".into()), ..vm("x") };
    for (strategy, shares) in [
        (Strategy::Performance, vec![("headroom", 0.6), ("storage class", 0.3), ("tier", 0.1)]),
        (Strategy::Cost, vec![("price", 0.9), ("headroom", 0.1)]),
        (Strategy::Geographic, vec![("distance", 0.9), ("headroom", 0.1)]),
    ] {
        let rules = vec![
            rule(RuleType::Affinity, Target::Cluster, Operator::Should, "spare"),
            rule(RuleType::Affinity, Target::Cluster, Operator::ShouldNot, "edge"),
        ];
        let (mut federation, inventory) = sites(strategy, rules);
        let weights = [("main", 50), ("spare", 100), ("edge", 10)];
        federation.pools.get_mut("prod").unwrap().policy.as_mut().unwrap().cluster_weights =
            weights.iter().map(|(name, weight)| (cluster(name), *weight)).collect();
        let decision = choose(&federation, &inventory, &wanted, &Ledger::new()).unwrap();
        for candidate in &decision.explanation.candidates {
            let name = candidate.cluster.as_str();
            let scored: Vec<&Factor> = candidate.factors.iter().filter(|factor| factor.share > 0.0).collect();
            let found: Vec<(&str, f64)> = scored.iter().map(|factor| (factor.name.as_str(), factor.share)).collect();
            assert_eq!(found, shares, "{strategy} on {name}");
            assert!(scored.iter().all(|factor| (0.0..=1.0).contains(&factor.value)), "{candidate}");
            let sum: f64 = scored.iter().map(|factor| factor.share * factor.value).sum();
            let weight =
                weights.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, weight)| f64::from(*weight) / 100.0);
            let kept = match (name, strategy) {
                ("spare", _) => 0.25,
                ("edge", _) => -0.25,
                _ => 0.0,
            };
            let expected = sum * weight + kept;
            assert!((candidate.score.unwrap() - expected).abs() < 1e-9, "{strategy} on {candidate}: {expected}");
        }
    }
}

#[test]
fn tiers_are_a_factor_and_ordered_fallback_groups() {
    // As a factor of `performance`: all else equal, the better tier.
    let (federation, inventory) = sites(Strategy::Performance, Vec::new());
    assert_eq!(order(&federation, &inventory, &vm("x")), ["main", "spare", "edge"]);
    // As groups, by a preference for one and against another, under every objective with a score; each falls back to the next.
    for strategy in [Strategy::Performance, Strategy::Cost, Strategy::Geographic] {
        let rules = vec![
            rule(RuleType::Location, Target::Tag, Operator::Should, "primary"),
            rule(RuleType::Location, Target::Tag, Operator::Should, "primary"),
            rule(RuleType::Location, Target::Tag, Operator::Should, "primary"),
            rule(RuleType::Location, Target::Tag, Operator::Should, "primary"),
            rule(RuleType::Location, Target::Tag, Operator::ShouldNot, "edge"),
            rule(RuleType::Location, Target::Tag, Operator::ShouldNot, "edge"),
            rule(RuleType::Location, Target::Tag, Operator::ShouldNot, "edge"),
            rule(RuleType::Location, Target::Tag, Operator::ShouldNot, "edge"),
        ];
        let (federation, mut inventory) = sites(strategy, rules);
        let request = Request { location: Some("50.0,5.0".into()), ..vm("x") };
        assert_eq!(order(&federation, &inventory, &request), ["main", "spare", "edge"], "{strategy}");
        for (dark, next) in [("main", "spare"), ("spare", "edge")] {
            inventory.clusters.get_mut(dark).unwrap().health = Health::Unreachable("dark".into());
            let decision = choose(&federation, &inventory, &request, &Ledger::new()).unwrap();
            assert_eq!(decision.cluster, cluster(next), "{strategy}: {}", decision.explanation);
        }
    }
    // As groups of `balanced`: weight 0 is the last resort, in the order of names.
    let (mut federation, mut inventory) = sites(Strategy::Balanced, Vec::new());
    federation.pools.get_mut("prod").unwrap().policy.as_mut().unwrap().cluster_weights =
        [(cluster("main"), 1), (cluster("spare"), 0), (cluster("edge"), 0)].into();
    assert_eq!(order(&federation, &inventory, &vm("web-1")), ["main", "edge", "spare"]);
    inventory.clusters.get_mut("main").unwrap().quorate = false;
    assert_eq!(choose(&federation, &inventory, &vm("web-1"), &Ledger::new()).unwrap().cluster, cluster("edge"));
}

#[test]
fn the_three_objectives_put_one_plan_on_one_cluster_until_capacity_binds() {
    for strategy in [Strategy::Performance, Strategy::Cost, Strategy::Geographic] {
        let (federation, inventory) = sites(strategy, Vec::new());
        let big = |n: u32| Request {
            memory: Bytes::from_gib(50),
            location: Some("50.0,5.0".into()),
            ..vm(&format!("web-{n}"))
        };
        let placed = place_all(&federation, &inventory, &(1..=6).map(big).collect::<Vec<_>>());
        let first = &placed[0].1;
        assert!(placed[..4].iter().all(|(_, at)| at == first), "{strategy}: {placed:?}");
        assert!(
            placed[4..].iter().all(|(_, at)| at != first),
            "{strategy}: two nodes of 108.8 GiB hold two each: {placed:?}"
        );
    }
}

#[test]
fn a_capability_is_a_residence_rule_and_what_is_not_declared_is_not_assumed() {
    let (mut federation, inventory) = sites(Strategy::Performance, Vec::new());
    for capability in [Capability::SupportsHa, Capability::SupportsCeph, Capability::NestedVirtualization] {
        let request = Request { needs: [capability].into(), ..vm("x") };
        let refusal = choose(&federation, &inventory, &request, &Ledger::new()).unwrap_err();
        assert!(refusal.to_string().contains(capability.as_str()), "{refusal}");
        federation.clusters.get_mut("main").unwrap().capabilities.insert(capability, false);
        federation.clusters.get_mut("spare").unwrap().capabilities.insert(capability, true);
        assert_eq!(choose(&federation, &inventory, &request, &Ledger::new()).unwrap().cluster, cluster("spare"));
        for (name, resides) in [("main", false), ("edge", false), ("spare", true)] {
            assert_eq!(resident_ok(&federation, &inventory, &request, &cluster(name)).is_ok(), resides, "{name}");
        }
    }
}

#[test]
fn what_is_asked_of_an_arrival_is_not_asked_of_who_is_there() {
    let (mut federation, mut inventory) = sites(Strategy::Performance, Vec::new());
    let there = Request { current: Some(Current { cluster: cluster("main"), vmid: 100 }), ..vm("web-1") };
    inventory.clusters.get_mut("main").unwrap().guests.push(guest(100, "web-1", ""));
    let main = cluster("main");
    let arrival_refused = |what: &str, federation: &Federation, inventory: &Inventory| {
        assert!(!admissible(federation, inventory, &vm("new"), &main, &Ledger::new()).is_empty(), "{what}");
        assert_eq!(resident_ok(federation, inventory, &there, &main), Ok(()), "{what}");
    };
    federation.clusters.get_mut("main").unwrap().cordoned = Some(true);
    arrival_refused("a cordon", &federation, &inventory);
    federation.clusters.get_mut("main").unwrap().cordoned = None;
    federation.clusters.get_mut("main").unwrap().max_vms = Some(1);
    arrival_refused("the cluster's limit", &federation, &inventory);
    federation.clusters.get_mut("main").unwrap().max_vms = None;
    federation.pools.get_mut("prod").unwrap().limits.max_vms = Some(1);
    arrival_refused("the pool's limit", &federation, &inventory);
    federation.pools.get_mut("prod").unwrap().limits.max_vms = None;
    inventory.clusters.get_mut("main").unwrap().nodes.iter_mut().for_each(|node| node.maintenance = true);
    arrival_refused("maintenance", &federation, &inventory);
    inventory.clusters.get_mut("main").unwrap().health = Health::Unknown("?".into());
    arrival_refused("unknown health", &federation, &inventory);
}

#[test]
fn the_smallest_relaxation_is_of_the_candidate_that_is_easiest_to_mend() {
    let rules = vec![rule(RuleType::Affinity, Target::Cluster, Operator::MustNot, "spare")];
    let (federation, mut inventory) = sites(Strategy::Performance, rules);
    let edge = inventory.clusters.get_mut("edge").unwrap();
    edge.health = Health::Unreachable("dark".into());
    let request = Request { memory: Bytes::from_gib(110), ..vm("x") };
    // main lacks memory, edge is dark, spare breaks a rule: a number is easier to change than a site or a policy.
    let refusal = choose(&federation, &inventory, &request, &Ledger::new()).unwrap_err();
    assert!(refusal.smallest_relaxation.starts_with("main: "), "{refusal}");
    assert_eq!(refusal.explanation.candidates.len(), 3, "every candidate has its line: {refusal}");
    // And it is enough: done, the machine fits.
    let nodes = &mut inventory.clusters.get_mut("main").unwrap().nodes;
    nodes[0].memory = nodes[0].memory + Bytes::from_gib(2);
    assert_eq!(choose(&federation, &inventory, &request, &Ledger::new()).unwrap().cluster, cluster("main"));
}

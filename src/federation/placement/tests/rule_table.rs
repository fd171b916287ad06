//! Every rule type on every target with every operator, and the guide's own policies.

use super::*;
use RuleType::{Affinity, AntiAffinity, Location};
use Target::Node;

/// Three clusters that differ in everything a rule can name. Only `ams` holds a VM tagged `db`, only it has node `big1`.
fn three() -> (Federation, Inventory) {
    let (mut federation, mut inventory) = world(&["ams", "fra", "rtm"], Policy::default());
    for (name, display, location, provider, tag) in [
        ("ams", "Amsterdam main", "Amsterdam, NL", "Worldstream", "eu-west"),
        ("fra", "Frankfurt edge", "Frankfurt, DE", "Hetzner", "eu-central"),
        ("rtm", "Rotterdam DR", "Rotterdam, NL", "Databarn", "eu-west"),
    ] {
        let facts = federation.clusters.get_mut(name).unwrap();
        facts.display_name = Some(display.into());
        facts.location = Some(location.into());
        facts.hosting_provider = Some(provider.into());
        facts.tags.insert(tag.into());
    }
    let ams = inventory.clusters.get_mut("ams").unwrap();
    ams.nodes[0].name = "big1".into();
    ams.storages[0].nodes.insert("big1".into());
    ams.guests.push(GuestFacts { node: "pve2".into(), ..guest(100, "db-old", "db") });
    (federation, inventory)
}

/// The clusters that may take `request` under one rule.
fn allowed(rule: Rule, request: &Request) -> Vec<String> {
    let (mut federation, inventory) = three();
    federation.pools.get_mut("prod").unwrap().policy = Some(policy(Strategy::Balanced, vec![rule]));
    let outcome = choose(&federation, &inventory, request, &Ledger::new());
    let explanation = match outcome {
        Ok(decision) => decision.explanation,
        Err(refusal) => refusal.explanation,
    };
    let open = explanation.candidates.iter().filter(|candidate| candidate.refused.is_empty());
    let mut names: Vec<String> = open.map(|candidate| candidate.cluster.to_string()).collect();
    names.sort();
    names
}

#[test]
fn hard_rules_allow_exactly_what_they_say() {
    let all = "ams fra rtm";
    for (kind, target, value, must, must_not) in [
        (Affinity, Target::Cluster, "ams", "ams", "fra rtm"),
        (Affinity, Target::Cluster, "rotterdam dr", "rtm", "ams fra"),
        (Affinity, Target::Cluster, "nobody", "", all),
        (Location, Target::Cluster, "ams", "ams", "fra rtm"),
        (Location, Target::Cluster, "AMSTERDAM", "ams", "fra rtm"),
        (Location, Target::Cluster, "nl", "ams rtm", "fra"),
        (Location, Target::Cluster, "hetzner", "fra", "ams rtm"),
        (Location, Target::Cluster, "eu-", all, ""),
        (Location, Target::Tag, "EU-West", "ams rtm", "fra"),
        (Location, Target::Tag, "eu", "", all),
        (Affinity, Node, "big1", "ams", all),
        (Location, Node, "BIG", "ams", all),
        (Affinity, Node, "pve1", "fra rtm", all),
    ] {
        let expect = |operator, expected: &str, kind| {
            let rule = rule(kind, target, operator, value);
            assert_eq!(allowed(rule.clone(), &vm("x")).join(" "), expected, "{rule}");
        };
        expect(Operator::Must, must, kind);
        expect(Operator::MustNot, must_not, kind);
        expect(Operator::Should, all, kind);
        expect(Operator::ShouldNot, all, kind);
        if kind == Affinity {
            expect(Operator::Must, must_not, AntiAffinity);
            expect(Operator::MustNot, must, AntiAffinity);
        }
    }
}

#[test]
fn tag_rules_concern_only_vms_that_carry_the_tag() {
    for kind in [Affinity, AntiAffinity] {
        for operator in Operator::ALL {
            let rule = rule(kind, Target::Tag, *operator, "db");
            assert_eq!(allowed(rule.clone(), &vm("web-1")).len(), 3, "{rule} holds vacuously");
        }
    }
    let db = tagged("db-new", "db");
    for (kind, operator, expected) in [
        (Affinity, Operator::Must, "ams"),
        (AntiAffinity, Operator::MustNot, "ams"),
        (AntiAffinity, Operator::Must, "fra rtm"),
        (Affinity, Operator::MustNot, "fra rtm"),
        (Affinity, Operator::Should, "ams fra rtm"),
        (AntiAffinity, Operator::Should, "ams fra rtm"),
    ] {
        let rule = rule(kind, Target::Tag, operator, "DB");
        assert_eq!(allowed(rule.clone(), &db).join(" "), expected, "{rule}");
    }
    let together = rule(Affinity, Target::Tag, Operator::Must, "new");
    assert_eq!(allowed(together, &tagged("new-1", "new")).len(), 3, "the first of a group goes anywhere");
}

#[test]
fn should_and_should_not_move_the_order() {
    for (strategy, kind) in [(Strategy::Performance, Affinity), (Strategy::Cost, Location)] {
        let (mut federation, inventory) = three();
        for (operator, first) in [(Operator::Should, true), (Operator::ShouldNot, false)] {
            let rules = vec![rule(kind, Target::Cluster, operator, "fra")];
            federation.pools.get_mut("prod").unwrap().policy = Some(policy(strategy, rules));
            let decision = choose(&federation, &inventory, &vm("x"), &Ledger::new()).unwrap();
            let order = &decision.explanation.candidates;
            let at = order.iter().position(|candidate| candidate.cluster == cluster("fra")).unwrap();
            assert_eq!(at, if first { 0 } else { 2 }, "{strategy} {operator}: {}", decision.explanation);
        }
    }
}

#[test]
fn in_a_sequence_should_doubles_and_should_not_halves() {
    for (operator, share) in [(Operator::Should, 2.0 / 3.0), (Operator::ShouldNot, 1.0 / 3.0)] {
        let rules = vec![rule(Affinity, Target::Cluster, operator, "ams")];
        let weights = [(cluster("ams"), 50), (cluster("rtm"), 50)].into();
        let policy = Policy { cluster_weights: weights, ..policy(Strategy::Balanced, rules) };
        let (federation, inventory) = world(&["ams", "rtm"], policy);
        let requests: Vec<Request> = (1..=60).map(|n| vm(&format!("web-{n}"))).collect();
        let placed = place_all(&federation, &inventory, &requests);
        let on_ams = placed.iter().filter(|(_, at)| *at == cluster("ams")).count();
        assert_eq!(on_ams as f64, 60.0 * share, "{operator}");
    }
}

/// The guide's file, production-pool: "Prefer primary", "Spread database VMs".
#[test]
fn the_guides_production_policy_prefers_the_primary_and_spreads_databases() {
    let policy = Policy {
        cluster_weights: [(cluster("worldstream-prod"), 80), (cluster("databarn-dr"), 20)].into(),
        rules: vec![
            rule(Affinity, Target::Cluster, Operator::Should, "worldstream-prod"),
            rule(AntiAffinity, Target::Tag, Operator::Must, "database"),
        ],
        strategy: Strategy::Balanced,
    };
    let (federation, inventory) = world(&["worldstream-prod", "databarn-dr"], policy);
    let web: Vec<Request> = (1..=18).map(|n| vm(&format!("web-{n}"))).collect();
    let placed = place_all(&federation, &inventory, &web);
    let primary = placed.iter().filter(|(_, at)| *at == cluster("worldstream-prod")).count();
    assert_eq!(primary, 16, "160:20 with the preference, over two whole periods of nine");
    let databases: Vec<Request> = (1..=4).map(|n| tagged(&format!("db-{n}"), "database")).collect();
    let placed = place_all(&federation, &inventory, &databases);
    assert_eq!(placed.iter().filter(|(_, at)| *at == cluster("worldstream-prod")).count(), 2);
    let decision = choose(&federation, &inventory, &web[1], &Ledger::new()).unwrap();
    assert_eq!(decision.why, format!("place 2 of web-* in prod (balanced 80:20): {}", decision.cluster));
}

/// The guide's file, development-pool: "Cheaper option", "Keep dev away from prod".
#[test]
fn the_guides_development_policy_keeps_away_from_production() {
    let policy = Policy {
        cluster_weights: [(cluster("hetzner-edge"), 70), (cluster("databarn-dr"), 30)].into(),
        rules: vec![rule(Location, Target::Cluster, Operator::MustNot, "worldstream-prod")],
        strategy: Strategy::Cost,
    };
    let (federation, inventory) = world(&["hetzner-edge", "databarn-dr", "worldstream-prod"], policy);
    let decision = choose(&federation, &inventory, &vm("dev"), &Ledger::new()).unwrap();
    assert_eq!(decision.cluster, cluster("hetzner-edge"));
    assert!(decision.explanation.notes.iter().any(|note| note.contains("cost ranks by weight")), "and says so");
    let pinned = Request { pin: Some(cluster("worldstream-prod")), ..vm("dev") };
    let refusal = choose(&federation, &inventory, &pinned, &Ledger::new()).unwrap_err();
    assert!(refusal.to_string().contains("location cluster must_not \"worldstream-prod\""), "{refusal}");
}

/// The guide's text: `should primary-cluster`, and `must_not production-cluster`.
#[test]
fn the_guides_best_practices_do_what_they_say() {
    let production = vec![rule(Affinity, Target::Cluster, Operator::Should, "primary-cluster")];
    let (federation, inventory) = world(&["a-cluster", "primary-cluster"], policy(Strategy::Performance, production));
    let decision = choose(&federation, &inventory, &vm("x"), &Ledger::new()).unwrap();
    assert_eq!(decision.cluster, cluster("primary-cluster"));
    let development = vec![rule(Location, Target::Cluster, Operator::MustNot, "production-cluster")];
    let (federation, inventory) = world(&["lab", "production-cluster"], policy(Strategy::Cost, development));
    for name in ["x", "y", "z-1"] {
        let decision = choose(&federation, &inventory, &vm(name), &Ledger::new()).unwrap();
        assert_eq!(decision.cluster, cluster("lab"));
    }
}

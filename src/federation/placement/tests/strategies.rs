//! Four strategies, four objectives.

use super::*;
use crate::model::{Coordinates, Pricing, Tier};

fn decided(federation: &Federation, inventory: &Inventory, request: &Request) -> Decision {
    choose(federation, inventory, request, &Ledger::new()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn with(names: &[&str], strategy: Strategy) -> (Federation, Inventory) {
    world(names, policy(strategy, Vec::new()))
}

#[test]
fn balanced_without_weights_follows_memory() {
    let (federation, mut inventory) = with(&["big", "small"], Strategy::Balanced);
    inventory.clusters.insert(cluster("big"), facts(6));
    let requests: Vec<Request> = (1..=40).map(|n| vm(&format!("web-{n}"))).collect();
    let placed = place_all(&federation, &inventory, &requests);
    // 768 and 256 GiB are 770 and 260 in two digits.
    let on_big = placed.iter().filter(|(_, at)| *at == cluster("big")).count();
    assert!((29..=31).contains(&on_big), "{on_big}");
    assert!(decided(&federation, &inventory, &requests[0]).why.contains("(balanced by memory)"));
}

#[test]
fn performance_takes_the_largest_headroom_then_class_and_tier() {
    let (mut federation, mut inventory) = with(&["a", "b"], Strategy::Performance);
    inventory.clusters.insert(cluster("b"), facts(4));
    assert_eq!(decided(&federation, &inventory, &vm("x")).cluster, cluster("b"));
    inventory.clusters.insert(cluster("b"), facts(2));
    let mut request = vm("x");
    request.disks.insert("scsi0".parse().unwrap(), DiskRequest { size: Bytes::from_gib(10), storage: None });
    for (name, class) in [("a", "hdd"), ("b", "nvme")] {
        let facts = federation.clusters.get_mut(name).unwrap();
        facts.storage_performance.insert("data".into(), class.into());
    }
    assert_eq!(decided(&federation, &inventory, &request).cluster, cluster("b"));
    federation.clusters.get_mut("b").unwrap().storage_performance.clear();
    federation.clusters.get_mut("a").unwrap().storage_performance.clear();
    assert_eq!(decided(&federation, &inventory, &request).cluster, cluster("a"), "ties go by name");
    federation.clusters.get_mut("b").unwrap().tier = Some(Tier::Primary);
    assert_eq!(decided(&federation, &inventory, &request).cluster, cluster("b"));
}

#[test]
fn cost_takes_the_cheapest_for_this_vm() {
    let (mut federation, inventory) = with(&["cores", "memory"], Strategy::Cost);
    let pricing = |core: f64, gb: f64| {
        Some(Pricing { currency: "EUR".into(), core_hour: core, gb_hour: gb, ..Pricing::default() })
    };
    federation.clusters.get_mut("cores").unwrap().pricing = pricing(0.01, 0.01);
    federation.clusters.get_mut("memory").unwrap().pricing = pricing(0.05, 0.001);
    let many_cores = Request { cpus: 16, memory: Bytes::from_gib(1), ..vm("x") };
    let much_memory = Request { cpus: 1, memory: Bytes::from_gib(64), ..vm("x") };
    assert_eq!(decided(&federation, &inventory, &many_cores).cluster, cluster("cores"));
    assert_eq!(decided(&federation, &inventory, &much_memory).cluster, cluster("memory"));
    federation.clusters.get_mut("memory").unwrap().pricing.as_mut().unwrap().currency = "USD".into();
    let decision = decided(&federation, &inventory, &many_cores);
    assert!(decision.explanation.notes[0].contains("EUR and USD cannot be compared"), "{}", decision.explanation);
}

#[test]
fn geographic_takes_the_nearest_by_coordinates_else_by_text() {
    let (mut federation, inventory) = with(&["ams", "fra", "nyc"], Strategy::Geographic);
    for (name, location, latitude, longitude) in [
        ("ams", "Amsterdam, NL", 52.37, 4.90),
        ("fra", "Frankfurt, DE", 50.11, 8.68),
        ("nyc", "New York, US", 40.71, -74.01),
    ] {
        let facts = federation.clusters.get_mut(name).unwrap();
        facts.location = Some(location.into());
        facts.coordinates = Coordinates::new(latitude, longitude);
    }
    for (wanted, nearest) in
        [("50.9,6.9", "fra"), ("amsterdam", "ams"), ("nyc", "nyc"), ("New York", "nyc"), ("52.0,4.3", "ams")]
    {
        let request = Request { location: Some(wanted.into()), ..vm("x") };
        assert_eq!(decided(&federation, &inventory, &request).cluster, cluster(nearest), "{wanted}");
    }
    let request = Request { location: Some("Berlin, DE".into()), ..vm("x") };
    let decision = decided(&federation, &inventory, &request);
    assert_eq!(decision.cluster, cluster("fra"), "the country matches");
    assert!(decision.explanation.notes[0].contains("compared as texts"), "{}", decision.explanation);
    assert_eq!(decision.why, "x in prod (geographic, near Berlin, DE): fra");
}

#[test]
fn a_location_counts_as_a_preference_in_the_other_strategies() {
    let (mut federation, inventory) = with(&["a", "b"], Strategy::Performance);
    federation.clusters.get_mut("b").unwrap().location = Some("Amsterdam, NL".into());
    let request = Request { location: Some("amsterdam".into()), ..vm("x") };
    assert_eq!(decided(&federation, &inventory, &request).cluster, cluster("b"));
}

#[test]
fn weights_scale_scores() {
    let (mut federation, inventory) = with(&["a", "b"], Strategy::Performance);
    let pool = federation.pools.get_mut("prod").unwrap();
    pool.policy.as_mut().unwrap().cluster_weights = [(cluster("a"), 10), (cluster("b"), 20)].into();
    assert_eq!(decided(&federation, &inventory, &vm("x")).cluster, cluster("b"));
    let pool = federation.pools.get_mut("prod").unwrap();
    pool.policy = Some(Policy { cluster_weights: [(cluster("a"), 0), (cluster("b"), 5)].into(), ..Policy::default() });
    for n in 1..20 {
        assert_eq!(
            decided(&federation, &inventory, &vm(&format!("web-{n}"))).cluster,
            cluster("b"),
            "0 is the last resort"
        );
    }
}

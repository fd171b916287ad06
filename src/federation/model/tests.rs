//! Layers, names that are mapped, prices and distances.

use super::*;
use crate::units::Bytes;

fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

fn with(cluster: Cluster) -> Federation {
    Federation { clusters: [(name("ams"), cluster)].into(), ..Federation::default() }
}

#[test]
fn a_later_layer_completes_and_wins_and_differences_are_named() {
    let mut file = with(Cluster {
        tier: Some(Tier::Edge),
        location: Some("Amsterdam, NL".into()),
        cordoned: Some(false),
        ..Cluster::default()
    });
    let enrolled = with(Cluster {
        tier: Some(Tier::Primary),
        hosting_provider: Some("Worldstream".into()),
        cordoned: Some(false),
        ..Cluster::default()
    });
    let differences = file.overlay(&enrolled);
    let ams = &file.clusters["ams"];
    assert_eq!(ams.tier, Some(Tier::Primary), "the layer above wins");
    assert_eq!(ams.location.as_deref(), Some("Amsterdam, NL"), "and what it does not say stays");
    assert_eq!(ams.hosting_provider.as_deref(), Some("Worldstream"));
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["cluster ams: tier is \"edge\" here and \"primary\" there; the latter holds"]);
}

#[test]
fn a_stale_file_cannot_weaken_an_enrolled_policy() {
    let pool = PoolName::new("prod").unwrap();
    let rule = Rule { kind: RuleType::Location, target: Target::Cluster, operator: Operator::Must, value: "NL".into() };
    let of = |policy| Federation {
        pools: [(pool.clone(), Pool { policy: Some(policy), ..Pool::default() })].into(),
        ..Federation::default()
    };
    let mut federation = of(Policy::default());
    let strict = Policy { rules: vec![rule], ..Policy::default() };
    assert_eq!(federation.overlay(&of(strict.clone())).len(), 1);
    assert_eq!(federation.pools[&pool].policy(), strict);
    assert!(federation.overlay(&of(strict)).is_empty(), "the same said again is no difference");
}

#[test]
fn differences_are_named_down_to_the_leaf_with_units() {
    let of = |limits: &str| {
        let pool = Pool { limits: serde_json::from_str(limits).unwrap(), ..Pool::default() };
        Federation { pools: [(PoolName::new("prod").unwrap(), pool)].into(), ..Federation::default() }
    };
    let mut file = of(r#"{"max_vms": 150, "max_memory": 2199023255552, "max_cpu_cores": 8}"#);
    let texts: Vec<String> =
        file.overlay(&of(r#"{"max_vms": 3, "max_cpu_cores": 8}"#)).iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "pool prod: limits.max_memory is 2TiB here and not set there; the latter holds",
            "pool prod: limits.max_vms is 150 here and 3 there; the latter holds"
        ]
    );
}

#[test]
fn every_declared_fact_survives_the_journey_through_a_layer() {
    let text = include_str!("../fixtures/full.yaml");
    let loaded = crate::config::load(text).unwrap().federation;
    let mut empty = Federation::default();
    assert!(empty.overlay(&loaded).is_empty());
    assert_eq!(empty, loaded);
    let json = serde_json::to_string(&loaded).unwrap();
    assert_eq!(serde_json::from_str::<Federation>(&json).unwrap(), loaded);
}

#[test]
fn names_stand_for_what_the_cluster_maps_them_to_else_for_themselves() {
    let app =
        Network { bridge: "vmbr1".into(), vlan: Some(10), subnet: None, gateway: None, macs: Some(MacPolicy::New) };
    let cluster = Cluster {
        storage_classes: [("fast".into(), "ceph".into()), ("default".into(), "zfs".into())].into(),
        primary_storage: Some("lvm".into()),
        networks: [("app".into(), app)].into(),
        ..Cluster::default()
    };
    assert_eq!(cluster.resolve_storage(Some("fast")).as_deref(), Some("ceph"));
    assert_eq!(cluster.resolve_storage(Some("other")).as_deref(), Some("other"));
    assert_eq!(cluster.resolve_storage(None).as_deref(), Some("zfs"));
    assert_eq!(Cluster::default().resolve_storage(None), None);
    let nic = |network: Option<&str>, bridge: Option<&str>, vlan| {
        let network = network.map(str::to_owned);
        cluster.resolve_network(&NicRequest { network, bridge: bridge.map(str::to_owned), vlan })
    };
    let mapped = nic(Some("app"), None, None).unwrap();
    assert_eq!(
        (mapped.bridge.as_str(), mapped.vlan, mapped.macs, mapped.mapped),
        ("vmbr1", Some(10), MacPolicy::New, true)
    );
    let itself = nic(Some("vmbr7"), None, None).unwrap();
    assert_eq!((itself.bridge.as_str(), itself.vlan, itself.mapped), ("vmbr7", None, false));
    assert_eq!(nic(None, Some("vmbr0"), Some(5)).unwrap().vlan, Some(5));
    assert_eq!(nic(None, None, Some(5)), None);
}

#[test]
fn links_encrypt_by_path_or_by_kind() {
    let mut cluster = Cluster::default();
    assert!(!cluster.link_encrypted(&name("rtm")));
    for (kind, encrypted) in [(LinkKind::Mpls, false), (LinkKind::Vpn, true), (LinkKind::Direct, true)] {
        cluster.cross_connects.insert(name("rtm"), CrossConnect { kind: Some(kind), ..CrossConnect::default() });
        assert_eq!(cluster.link_encrypted(&name("rtm")), encrypted, "{kind}");
    }
}

#[test]
fn distances_and_prices() {
    let amsterdam = Coordinates::new(52.37, 4.90).unwrap();
    let frankfurt = Coordinates::new(50.11, 8.68).unwrap();
    let km = amsterdam.distance_km(frankfurt);
    assert!((360.0..370.0).contains(&km), "{km}");
    assert_eq!(Coordinates::new(91.0, 0.0), None);
    let pricing = Pricing {
        currency: "EUR".into(),
        core_hour: 0.01,
        gb_hour: 0.001,
        storage_gb_month: [("fast".into(), 0.2), ("default".into(), 0.1)].into(),
        egress_gb: 0.0,
    };
    let disks = [(Some("fast"), Bytes::from_gib(10)), (None, Bytes::from_gib(10))];
    let price = pricing.per_month(2, Bytes::from_gib(4), disks);
    assert!((price - ((0.02 + 0.004) * 730.0 + 2.0 + 1.0)).abs() < 1e-9, "{price}");
}

#[test]
fn cities_and_countries_come_from_the_location_where_not_declared() {
    let at = |location: &str| Cluster { location: Some(location.into()), ..Cluster::default() };
    assert_eq!(at("Amsterdam, NL").city(), Some("Amsterdam"));
    assert_eq!(at("Amsterdam, NL").country(), Some("NL"));
    assert_eq!(at("Amsterdam").country(), None);
    assert_eq!(Cluster::default().city(), None);
}

//! Refusals with their numbers, siblings, growth, dark clusters.

use super::*;
use crate::model::{Capability, CapacitySource, Limits, Network, NicRequest, Operator::Must, VlanRange};

fn refusal(federation: &Federation, inventory: &Inventory, request: &Request) -> Refusal {
    choose(federation, inventory, request, &Ledger::new()).expect_err("a refusal")
}

fn one() -> (Federation, Inventory) {
    world(&["ams"], Policy::default())
}

/// Expects exactly one reason, with this text in it.
fn expect(federation: &Federation, inventory: &Inventory, request: &Request, text: &str) {
    let refusal = refusal(federation, inventory, request);
    let reasons = &refusal.explanation.candidates[0].refused;
    assert_eq!(reasons.len(), 1, "{refusal}");
    assert!(reasons[0].to_string().contains(text), "{refusal}");
    assert!(refusal.smallest_relaxation.starts_with("ams: "), "{refusal}");
}

#[test]
fn every_shortage_is_named_with_its_numbers() {
    let (federation, mut inventory) = one();
    let facts = inventory.clusters.get_mut("ams").unwrap();
    facts.nodes.truncate(1);
    facts.nodes[0].memory = Bytes::from_gib(100);
    facts.guests.push(GuestFacts { memory: Bytes::from_gib(44), cpus: 100, ..guest(100, "other", "x") });
    let large = Request { memory: Bytes::from_gib(64), ..vm("x") };
    expect(&federation, &inventory, &large, "needs 64 GiB of memory, 41 GiB free after the 15 % reserve");
    assert_eq!(
        refusal(&federation, &inventory, &large).smallest_relaxation,
        "ams: free 23 GiB more memory on one node"
    );
    let wide = Request { cpus: 30, ..vm("x") };
    expect(&federation, &inventory, &wide, "needs 30 cores, 24 free after overcommit and the 10 % reserve");
    let mut fat = vm("x");
    fat.disks.insert("scsi0".parse().unwrap(), DiskRequest { size: Bytes(3 << 40), storage: None });
    fat.disks.insert("scsi1".parse().unwrap(), DiskRequest { size: Bytes(1 << 40), storage: None });
    expect(&federation, &inventory, &fat, "needs 4 TiB on storage \"data\", 3.6 TiB free after the 10 % reserve");
    let all = Request { disks: fat.disks, cpus: 30, ..large };
    assert_eq!(
        refusal(&federation, &inventory, &all).explanation.candidates[0].refused.len(),
        3,
        "every reason at once"
    );
}

#[test]
fn no_single_node_is_a_reason_of_its_own() {
    let (federation, mut inventory) = one();
    let facts = inventory.clusters.get_mut("ams").unwrap();
    facts.guests.push(GuestFacts { memory: Bytes::from_gib(100), ..guest(100, "a", "x") });
    facts.guests.push(GuestFacts { node: "pve2".into(), cpus: 124, ..guest(101, "b", "x") });
    let request = Request { cpus: 8, memory: Bytes::from_gib(32), ..vm("x") };
    expect(&federation, &inventory, &request, "no single node");
}

#[test]
fn health_sight_and_cordon() {
    let (mut federation, mut inventory) = one();
    let good = inventory.clusters["ams"].clone();
    let mut with = |change: &dyn Fn(&mut ClusterFacts), text: &str| {
        let mut facts = good.clone();
        change(&mut facts);
        inventory.clusters.insert(cluster("ams"), facts);
        expect(&federation, &inventory, &vm("x"), text);
    };
    with(&|facts| facts.health = Health::Unreachable("timed out".into()), "does not answer (timed out)");
    with(&|facts| facts.health = Health::Unknown("odd".into()), "health is unknown (odd)");
    with(&|facts| facts.health = Health::NotAsked, "health is unknown");
    with(&|facts| facts.quorate = false, "no quorum");
    with(&|facts| facts.nodes.iter_mut().for_each(|node| node.maintenance = true), "none of its 2 nodes");
    with(
        &|facts| {
            facts.complete_sight = false;
            facts.missing_right = Some("VM.Audit on /vms".into());
        },
        "the token lacks VM.Audit on /vms",
    );
    federation.clusters.get_mut("ams").unwrap().capacity = Some(CapacitySource::Reported);
    let mut blind = inventory.clone();
    blind.clusters.get_mut("ams").unwrap().nodes.iter_mut().for_each(|node| (node.cpus, node.memory) = (0, Bytes(0)));
    expect(&federation, &blind, &vm("x"), "the token lacks Sys.Audit on /nodes");
    choose(&federation, &inventory, &vm("x"), &Ledger::new()).unwrap();
    inventory.clusters.insert(cluster("ams"), good);
    federation.clusters.get_mut("ams").unwrap().cordoned = Some(true);
    expect(&federation, &inventory, &vm("x"), "cordoned");
    let there = Request { current: Some(Current { cluster: cluster("ams"), vmid: 100 }), ..vm("x") };
    choose(&federation, &inventory, &there, &Ledger::new()).expect("growth goes on behind a cordon");
    inventory.clusters.clear();
    let refusal = refusal(&federation, &inventory, &vm("x"));
    assert!(refusal.to_string().contains("no connection"), "{refusal}");
}

#[test]
fn structure_is_checked_by_what_names_stand_for() {
    let (mut federation, mut inventory) = one();
    let mut request = vm("x");
    let disk = |storage: &str| DiskRequest { size: Bytes::GIB, storage: Some(storage.into()) };
    request.disks.insert("scsi0".parse().unwrap(), disk("fast"));
    expect(&federation, &inventory, &request, "no storage \"fast\" for disks: it has data");
    federation.clusters.get_mut("ams").unwrap().storage_classes.insert("fast".into(), "data".into());
    choose(&federation, &inventory, &request, &Ledger::new()).unwrap();
    let nic = |network: Option<&str>, bridge: Option<&str>, vlan| NicRequest {
        network: network.map(str::to_owned),
        bridge: bridge.map(str::to_owned),
        vlan,
    };
    let slot = "net0".parse().unwrap();
    request.nics.insert(slot, nic(Some("app"), None, None));
    expect(&federation, &inventory, &request, "no usable node has the bridge or vnet \"app\" for net0");
    let app = Network { bridge: "vmbr0".into(), vlan: Some(999), subnet: None, gateway: None, macs: None };
    let facts = federation.clusters.get_mut("ams").unwrap();
    facts.networks.insert("app".into(), app);
    facts.vlan_range = Some(VlanRange { first: 100, last: 199 });
    choose(&federation, &inventory, &request, &Ledger::new()).expect("a mapped VLAN is trusted");
    request.nics.insert(slot, nic(None, Some("vmbr0"), Some(220)));
    expect(&federation, &inventory, &request, "VLAN 220 of net0 is outside its range 100–199");
    request.nics.insert(slot, nic(None, Some("vmbr0"), Some(120)));
    request.template = Some("debian".into());
    expect(&federation, &inventory, &request, "no template \"debian\"");
    let template = GuestFacts { template: true, ..guest(900, "debian", "x") };
    inventory.clusters.get_mut("ams").unwrap().guests.push(template);
    choose(&federation, &inventory, &request, &Ledger::new()).unwrap();
    request.needs.insert(Capability::NestedVirtualization);
    expect(&federation, &inventory, &request, "does not declare nested_virtualization");
    request.needs.clear();
    request.node = Some("pve9".into());
    expect(&federation, &inventory, &request, "node \"pve9\" is not one of its nodes");
}

#[test]
fn thin_storage_keeps_a_floor_of_really_free_space() {
    let (federation, mut inventory) = one();
    let storage = &mut inventory.clusters.get_mut("ams").unwrap().storages[0];
    storage.thin = true;
    storage.total = Bytes::from_gib(1000);
    storage.avail = Bytes::from_gib(500);
    storage.provisioned = Some(Bytes::from_gib(1200));
    let mut request = vm("x");
    let size = |gib| DiskRequest { size: Bytes::from_gib(gib), storage: None };
    request.disks.insert("scsi0".parse().unwrap(), size(300));
    choose(&federation, &inventory, &request, &Ledger::new()).expect("1500 may be provisioned");
    request.disks.insert("scsi0".parse().unwrap(), size(301));
    expect(&federation, &inventory, &request, "300 GiB free");
    inventory.clusters.get_mut("ams").unwrap().storages[0].avail = Bytes::from_gib(100);
    request.disks.insert("scsi0".parse().unwrap(), size(1));
    expect(&federation, &inventory, &request, "0 bytes free");
}

#[test]
fn pool_limits_count_every_cluster_and_what_is_planned() {
    let (mut federation, mut inventory) = world(&["ams", "rtm"], Policy::default());
    federation.pools.get_mut("prod").unwrap().limits =
        Limits { max_vms: Some(2), max_memory: Some(Bytes::from_gib(5)), ..Limits::default() };
    inventory.clusters.get_mut("rtm").unwrap().guests.push(guest(100, "other", "x"));
    let mut ledger = Ledger::new();
    ledger.record(cluster("ams"), vm("web-1"));
    let refusal = choose(&federation, &inventory, &vm("web-2"), &ledger).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("prod would hold 3 VMs of at most 2 (max_vms)"), "{text}");
    assert!(text.contains("prod would hold 6 GiB of memory of at most 5 GiB (max_memory)"), "{text}");
    assert!(refusal.smallest_relaxation.contains("raise max_memory of prod to \"6GiB\""), "{text}");
    inventory.clusters.get_mut("ams").unwrap().guests.push(guest(101, "web-1", "x"));
    let decision = choose(&federation, &inventory, &vm("web-1"), &ledger).unwrap();
    assert!(!decision.leaned_on_siblings, "a VM is not its own sibling");
}

#[test]
fn capacity_that_binds_leans_on_siblings_and_says_so() {
    let (federation, mut inventory) = world(&["ams", "rtm"], policy(Strategy::Performance, Vec::new()));
    for name in ["ams", "rtm"] {
        inventory.clusters.get_mut(name).unwrap().nodes.truncate(1);
    }
    let request = |name: &str| Request { memory: Bytes::from_gib(60), ..vm(name) };
    let mut ledger = Ledger::new();
    let mut answers = Vec::new();
    for name in ["a", "b", "c"] {
        let decision = choose(&federation, &inventory, &request(name), &ledger);
        if let Ok(decision) = &decision {
            ledger.record(decision.cluster.clone(), request(name));
        }
        answers.push(
            decision
                .map(|decision| (decision.cluster.to_string(), decision.leaned_on_siblings))
                .map_err(|r| r.to_string()),
        );
    }
    assert_eq!(answers[0], Ok(("ams".into(), false)));
    assert_eq!(answers[1], Ok(("rtm".into(), true)));
    let text = answers[2].clone().unwrap_err();
    assert!(
        text.contains("needs 60 GiB of memory, 48.8 GiB free after the 15 % reserve, counting 1 planned"),
        "{text}"
    );
}

#[test]
fn names_without_number_share_a_spread_group_by_the_ledger() {
    let rules = vec![rule(RuleType::AntiAffinity, Target::Tag, Must, "app")];
    let (federation, inventory) = world(&["a", "b", "c"], policy(Strategy::Balanced, rules));
    let requests: Vec<Request> = ["app-blue", "app-red", "app-gold"].iter().map(|name| tagged(name, "app")).collect();
    let placed = place_all(&federation, &inventory, &requests);
    let taken: BTreeSet<ClusterName> = placed.into_iter().map(|(_, at)| at).collect();
    assert_eq!(taken.len(), 3);
}

#[test]
fn ordinals_spread_names_without_number_exactly() {
    let (federation, inventory) = world(&["a", "b", "c"], Policy::default());
    let request = |name: &str, ordinal| Request { ordinal: Some(ordinal), ..vm(name) };
    let requests = [request("app-blue", 1), request("app-red", 2), request("app-gold", 3)];
    let alone: BTreeSet<ClusterName> = requests
        .iter()
        .map(|request| choose(&federation, &inventory, request, &Ledger::new()).unwrap().cluster)
        .collect();
    assert_eq!(alone.len(), 3, "without knowing of each other");
}

#[test]
fn a_dark_cluster_keeps_its_place_in_the_sequence() {
    let (federation, mut inventory) = world(&["a", "b", "c"], Policy::default());
    let requests: Vec<Request> = (1..=9).map(|n| vm(&format!("web-{n}"))).collect();
    let before = place_all(&federation, &inventory, &requests);
    inventory.clusters.get_mut("b").unwrap().health = Health::Unreachable("dark".into());
    let after = place_all(&federation, &inventory, &requests);
    for (old, new) in before.iter().zip(&after) {
        assert!(old.1 == cluster("b") || old.1 == new.1, "{old:?} {new:?}");
        assert_ne!(new.1, cluster("b"));
    }
}

#[test]
fn residence_ignores_health_capacity_and_cordon_but_not_rules() {
    let rules = vec![rule(RuleType::Location, Target::Cluster, Must, "NL")];
    let (mut federation, mut inventory) = world(&["ams"], policy(Strategy::Balanced, rules));
    let facts = federation.clusters.get_mut("ams").unwrap();
    facts.location = Some("Amsterdam, NL".into());
    facts.draining = Some(true);
    inventory.clusters.get_mut("ams").unwrap().health = Health::Unreachable("dark".into());
    let request = Request { memory: Bytes(1 << 50), ..vm("x") };
    assert_eq!(resident_ok(&federation, &inventory, &request, &cluster("ams")), Ok(()));
    federation.clusters.get_mut("ams").unwrap().location = Some("Frankfurt, DE".into());
    assert_eq!(resident_ok(&federation, &inventory, &request, &cluster("ams")).unwrap_err().len(), 1);
    federation.pools.get_mut("prod").unwrap().clusters.clear();
    assert_eq!(resident_ok(&federation, &inventory, &request, &cluster("ams")).unwrap_err().len(), 2);
}

#[test]
fn the_recheck_is_not_fooled_by_a_half_applied_spread() {
    let rules = vec![rule(RuleType::AntiAffinity, Target::Tag, Must, "database")];
    let (federation, mut inventory) = world(&["a", "b"], policy(Strategy::Balanced, rules));
    let third = tagged("db-3", "database");
    let planned = choose(&federation, &inventory, &third, &Ledger::new()).unwrap().cluster;
    inventory.clusters.get_mut(planned.as_str()).unwrap().guests.push(guest(100, "db-1", "database"));
    assert_eq!(recheck(&federation, &inventory, &third, &planned), Ok(()), "db-2 is still to come");
    inventory.clusters.get_mut(planned.as_str()).unwrap().quorate = false;
    assert_eq!(recheck(&federation, &inventory, &third, &planned), Err(vec![Reason::NotQuorate]));
}

#[test]
fn a_pin_is_obeyed_or_refused_and_nothing_else() {
    let (federation, mut inventory) = world(&["ams", "rtm"], Policy::default());
    let pinned = Request { pin: Some(cluster("rtm")), ..vm("x") };
    let decision = choose(&federation, &inventory, &pinned, &Ledger::new()).unwrap();
    assert_eq!(decision.why, "pinned: rtm");
    inventory.clusters.get_mut("rtm").unwrap().quorate = false;
    let refusal = refusal(&federation, &inventory, &pinned);
    assert_eq!(refusal.explanation.candidates.len(), 1);
    let nowhere = Request::new(VmName::new("x").unwrap());
    let refusal = choose(&federation, &inventory, &nowhere, &Ledger::new()).unwrap_err();
    assert!(refusal.to_string().contains("neither a pool nor a cluster"), "{refusal}");
    let no_pool = Request { pool: Some(PoolName::new("nope").unwrap()), ..nowhere };
    let refusal = choose(&federation, &inventory, &no_pool, &Ledger::new()).unwrap_err();
    assert!(refusal.to_string().contains("there is no pool nope"), "{refusal}");
}

#[test]
fn an_inventory_travels_as_json_and_decides_the_same() {
    let (federation, mut inventory) = world(&["ams", "rtm"], Policy::default());
    inventory.clusters.get_mut("rtm").unwrap().guests.push(guest(7, "g", "t"));
    inventory.clusters.get_mut("ams").unwrap().health = Health::Unknown("why".into());
    let text = serde_json::to_string(&inventory).unwrap();
    let back: Inventory = serde_json::from_str(&text).unwrap();
    assert_eq!(back, inventory);
    let decision = choose(&federation, &back, &vm("web-1"), &Ledger::new()).unwrap();
    let text = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
}

#[test]
fn many_at_once_are_placed_whatever_order_they_are_asked_in() {
    let (mut federation, mut inventory) = world(&["a", "b"], policy(Strategy::Performance, Vec::new()));
    for name in ["a", "b"] {
        inventory.clusters.get_mut(name).unwrap().nodes.truncate(1);
    }
    // 108.8 GiB on each: the three only fit as 100 and 54 + 54.
    let request = |name: &str, gib| Request { memory: Bytes::from_gib(gib), ..vm(name) };
    let requests = [request("small-a", 54), request("large", 100), request("small-b", 54)];
    let joint = |order: [usize; 3]| {
        let asked: Vec<Request> = order.iter().map(|index| requests[*index].clone()).collect();
        let answers = choose_all(&federation, &inventory, &asked, &Ledger::new());
        let mut places: Vec<(String, String)> = asked
            .iter()
            .zip(answers)
            .map(|(request, answer)| (request.name.to_string(), answer.unwrap().cluster.to_string()))
            .collect();
        places.sort();
        places
    };
    let first = joint([0, 1, 2]);
    assert_eq!(first, joint([2, 1, 0]));
    assert_eq!(first, joint([1, 0, 2]));
    federation.pools.get_mut("prod").unwrap().clusters.remove("b");
    let answers = choose_all(&federation, &inventory, &requests, &Ledger::new());
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "the largest went first and filled it");
}

#[test]
fn one_gives_way_where_that_helps() {
    let (federation, mut inventory) = world(&["a", "b", "c"], policy(Strategy::Performance, Vec::new()));
    for (name, storages) in [("a", vec!["s1", "s2"]), ("b", vec!["s1"]), ("c", vec!["s2", "s3"])] {
        let facts = inventory.clusters.get_mut(name).unwrap();
        facts.nodes.truncate(1);
        let named = |storage: &&str| StorageFacts { name: (*storage).into(), ..facts.storages[0].clone() };
        facts.storages = storages.iter().map(named).collect();
    }
    let request = |name: &str, gib, storage: &str| {
        let disk = DiskRequest { size: Bytes::GIB, storage: Some(storage.into()) };
        let disks = [("scsi0".parse().unwrap(), disk)].into();
        Request { memory: Bytes::from_gib(gib), disks, ..vm(name) }
    };
    // c-only goes first, then the large one takes a, and nothing is left for the middle one unless the large one goes to b.
    let requests = [request("large", 80, "s1"), request("middle", 70, "s2"), request("c-only", 60, "s3")];
    let answers = choose_all(&federation, &inventory, &requests, &Ledger::new());
    let places: Vec<String> = answers.into_iter().map(|answer| answer.unwrap().cluster.to_string()).collect();
    assert_eq!(places, ["b", "a", "c"]);
}

#[test]
fn a_record_that_cannot_be_trusted_keeps_new_machines_away_and_moves_none() {
    let (mut federation, inventory) = world(&["ams", "rtm"], Policy::default());
    let why = "the record there is damaged".to_owned();
    federation.closed.insert(pool_name(), [(cluster("ams"), why)].into());
    let decision = choose(&federation, &inventory, &vm("web-1"), &Ledger::new()).unwrap();
    assert_eq!(decision.cluster, cluster("rtm"));
    let closed = decision.explanation.candidates.iter().find(|candidate| candidate.cluster == cluster("ams")).unwrap();
    assert!(closed.refused[0].to_string().contains("damaged"), "{}", decision.explanation);
    assert!(resident_ok(&federation, &inventory, &vm("web-1"), &cluster("ams")).is_ok());
    let grows = Request { current: Some(Current { cluster: cluster("ams"), vmid: 100 }), ..vm("web-1") };
    assert!(recheck(&federation, &inventory, &grows, &cluster("ams")).is_ok());
    // What is wrong with the cluster's own record keeps away who is pinned to it, too.
    federation.closed = Default::default();
    federation.closed_clusters.insert(cluster("ams"), "its record is damaged".to_owned());
    assert_eq!(choose(&federation, &inventory, &vm("web-1"), &Ledger::new()).unwrap().cluster, cluster("rtm"));
    let pinned = Request { pool: None, pin: Some(cluster("ams")), ..vm("web-1") };
    let refused = choose(&federation, &inventory, &pinned, &Ledger::new()).unwrap_err();
    assert!(refused.to_string().contains("its record is damaged"), "{refused}");
    assert!(recheck(&federation, &inventory, &grows, &cluster("ams")).is_ok());
}

#[test]
fn of_a_set_what_exists_stays_and_what_may_be_in_the_dark_is_taken_to_be_there() {
    let (federation, mut inventory) = world(&["a", "b", "c"], policy(Strategy::Balanced, Vec::new()));
    let wanted = |name: &str, former: &[&str]| Wanted {
        request: vm(name),
        former_names: former.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mut pinned = wanted("old-1", &[]);
    pinned.request.pin = Some(cluster("b"));
    let set = [wanted("old-1", &[]), wanted("renamed", &["old-2"]), pinned, wanted("new", &[])];
    inventory.clusters.get_mut(&cluster("c")).unwrap().guests =
        vec![guest(100, "old-1", "t"), guest(101, "old-2", "t")];
    let placed = |inventory: &Inventory| {
        let words = |placed: Placed| match placed {
            Placed::Stays(at) => format!("stays {at}"),
            Placed::MayBe(at) => format!("may be {at}"),
            Placed::Decided(Ok(decision)) => format!("new {}", decision.cluster),
            Placed::Decided(Err(refusal)) => format!("refused {refusal}"),
        };
        place_set(&federation, inventory, &set).into_iter().map(words).collect::<Vec<_>>()
    };
    let all_there = placed(&inventory);
    assert_eq!(all_there[..3], ["stays c", "stays c", "new b"]);
    let favourite = all_there[3].strip_prefix("new ").expect("it is new").to_owned();
    inventory.clusters.get_mut(&cluster(&favourite)).unwrap().health = Health::Unreachable("no route".into());
    assert_eq!(placed(&inventory)[3], format!("may be {favourite}"));
    // Another one's darkness is nothing to it, and a template of that name is nobody.
    inventory.clusters.get_mut(&cluster(&favourite)).unwrap().health = Health::Reachable;
    inventory.clusters.get_mut(&cluster("c")).unwrap().guests.iter_mut().for_each(|guest| guest.template = true);
    assert!(placed(&inventory)[0].starts_with("new "), "{:?}", placed(&inventory));
}

/// Nothing fenced or made a template can run; its disks are there all the same.
#[test]
fn a_template_takes_room_on_disks_and_none_of_cores_and_memory() {
    let (mut federation, mut inventory) = one();
    federation.pools.get_mut("prod").unwrap().limits =
        Limits { max_cpu_cores: Some(4), max_memory: Some(Bytes::from_gib(8)), ..Limits::default() };
    let facts = inventory.clusters.get_mut("ams").unwrap();
    facts.nodes.truncate(1);
    let large =
        GuestFacts { memory: Bytes::from_gib(120), cpus: 120, disk: Bytes::from_gib(5), ..guest(100, "old", "x") };
    facts.guests.push(GuestFacts { template: true, ..large.clone() });
    let small = Request { cpus: 2, memory: Bytes::from_gib(4), ..vm("x") };
    assert!(choose(&federation, &inventory, &small, &Ledger::new()).is_ok());
    federation.pools.get_mut("prod").unwrap().limits.max_storage = Some(Bytes::from_gib(4));
    expect(&federation, &inventory, &small, "max_storage");
    federation.pools.get_mut("prod").unwrap().limits = Limits::default();
    inventory.clusters.get_mut("ams").unwrap().guests[0] = large;
    assert!(choose(&federation, &inventory, &small, &Ledger::new()).is_err(), "the same machine, not fenced");
}

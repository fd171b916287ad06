//! The guide's file loads as it is; every kind of mistake is named with its place.

use proptest::prelude::*;

use super::*;
use crate::model::{Operator, RuleType, Strategy as Objective, Target, Tier, VlanRange};
use crate::names::PoolName;
use crate::units::{Bandwidth, Bytes};

/// Our own file with every key there is.
const FULL: &str = include_str!("../fixtures/full.yaml");

fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).unwrap()
}

fn pool(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

/// The problems of a text that must not load.
fn problems(text: &str) -> String {
    load(text).expect_err(text).to_string()
}

#[test]
fn the_guides_example_loads_unchanged() {
    let text = include_str!("../../../acceptance-tests/cases/guide/multi-site-example.yaml");
    let loaded = load(text).unwrap_or_else(|error| panic!("{error}"));
    let federation = &loaded.federation;
    let prod = &federation.clusters["worldstream-prod"];
    assert_eq!(prod.tier, Some(Tier::Primary));
    assert_eq!(prod.vlan_range, Some(VlanRange { first: 100, last: 199 }));
    assert_eq!(prod.resolve_storage(None).as_deref(), Some("ceph-pool"));
    assert_eq!(prod.resolve_storage(Some("nvme")).as_deref(), Some("local-lvm"));
    assert!(prod.link_encrypted(&cluster("databarn-dr")), "a vpn encrypts");
    let path = &prod.migration_paths["databarn-dr"];
    assert_eq!(path.max_bandwidth, Some(Bandwidth::from_bits_per_second(500_000_000)));
    assert!(path.encryption_required);
    let production = &federation.pools["production-pool"];
    assert_eq!(production.limits.max_memory, Some(Bytes(2 << 40)));
    let policy = production.policy();
    assert_eq!(policy.cluster_weights[&cluster("worldstream-prod")], 80);
    assert_eq!(policy.rules[1].kind, RuleType::AntiAffinity);
    let dr = &loaded.connections["databarn-dr"];
    assert_eq!(dr.endpoints, ["https://192.168.100.10:8006"]);
    assert_eq!(dr.password_env.as_deref(), Some("PROXMOX_DATABARN_PASSWORD"));
    assert_eq!(dr.verify_ssl, Some(false));
    assert_eq!(loaded.connections["hetzner-edge"].connection_timeout, Some(Span::from_secs(45)));
    assert!(loaded.warnings.iter().any(|text| text.contains("without prices for databarn-dr, hetzner-edge")));
    assert!(loaded.not_acted_on.contains(&"federation.sync_interval".to_owned()), "{:?}", loaded.not_acted_on);
    assert!(loaded.not_acted_on.contains(&"clusters[].metadata".to_owned()));
}

#[test]
fn every_key_of_ours_loads() {
    let loaded = load(FULL).unwrap_or_else(|error| panic!("{error}"));
    let main = &loaded.federation.clusters["ams-main"];
    assert_eq!(main.country(), Some("Netherlands"));
    assert_eq!(main.coordinates.unwrap().latitude, 52.37);
    assert_eq!(main.pricing.as_ref().unwrap().storage_gb_month["fast"], 0.11);
    assert_eq!(main.resolve_storage(Some("fast")).as_deref(), Some("rbd-fast"));
    assert_eq!(main.networks["app"].vlan, Some(1010));
    assert_eq!(main.overcommit().cpu, 3.0);
    assert_eq!(main.overcommit().storage, 1.5, "what is not said keeps its default");
    assert_eq!(main.vmid_range.unwrap().last, 1999);
    let path = &main.migration_paths["rtm-dr"];
    assert_eq!(path.transport.as_ref().unwrap().storage.as_deref(), Some("transfer"));
    assert_eq!(path.window.as_ref().unwrap().zone, "Europe/Amsterdam");
    assert_eq!(path.max_concurrent, 2);
    let prod = &loaded.federation.pools["prod"];
    assert_eq!(prod.max_moves_per_apply(), 3);
    assert_eq!(prod.policy().rules[0].operator, Operator::ShouldNot);
    assert_eq!(prod.policy().rules[0].target, Target::Tag);
    assert_eq!(loaded.federation.clusters["rtm-dr"].migration_paths["ams-main"].method, Method::Offline, "the default");
    assert_eq!(loaded.sha256.len(), 64);
}

#[test]
fn both_spellings_mean_the_same() {
    let other = FULL
        .replace("cross_connects:", "cross_connect:")
        .replace("resource_pools:", "resourcePools:")
        .replace("placement_policy:", "placementPolicy:")
        .replace("cluster_weights:", "clusterWeights:")
        .replace("migration_policies:", "migrationPolicies:");
    let (a, b) = (load(FULL).unwrap(), load(&other).unwrap());
    assert_eq!(a.federation, b.federation);
    assert_eq!(a.migration, b.migration);
    let both = format!("{FULL}\nresourcePools: []\n");
    assert!(problems(&both).contains("another spelling of resource_pools"));
}

#[test]
fn mistakes_are_named_with_place_and_what_is_accepted() {
    for (from, to, expected) in [
        ("tier: primary", "tier: primry", "\"primry\" is none of primary, secondary, edge"),
        ("tier: primary", "teir: primary", "unknown key; did you mean \"tier\"?"),
        ("strategy: balanced", "strategy: bogus", "none of balanced, performance, cost, geographic"),
        ("primary_cluster: ams-main", "primary_cluster: ams-mian", "did you mean \"ams-main\"?"),
        ("clusters: [ams-main, rtm-dr]", "clusters: [ams-main, nope]", "there is no cluster \"nope\""),
        ("max_bandwidth: \"800Mbps\"", "max_bandwidth: \"800MB/s\"", "bandwidths are in bits"),
        ("max_memory: \"3TB\"", "max_memory: 3", "no unit"),
        ("max_vms: 200", "max_vms: -1", "a whole number from 0"),
        ("vlan_range: [1000, 1199]", "vlan_range: [1199, 1000]", "the smaller first"),
        ("primary_storage: rbd-fast", "primary_storage: rbd", "none of the backends"),
        ("primary_storage: rbd-fast", "primary_storage: \"rbd-fast:8\"", "it holds ':', which ends the name"),
        ("default_method: offline", "default_method: teleport", "none of backup-restore"),
        ("- verify_network_connectivity", "- verify_everything", "there is no check \"verify_everything\""),
        ("id: rtm-dr", "id: ams-main", "a cluster \"ams-main\" was there before"),
        ("verify_ssl: true", "verify_ssl: yes", "true or false was expected"),
        ("from: \"22:00\"", "from: \"24:00\"", "not a time of day"),
        ("latitude: 52.37", "latitude: 152.37", "from -90 to 90"),
        ("operator: should_not", "operator: shall", "none of must, should, must_not, should_not"),
        ("value: batch", "value: \"\"", "must not be empty"),
        ("name: prod", "name: moxxie-prod", "reserved"),
    ] {
        let text = FULL.replacen(from, to, 1);
        assert_ne!(text, FULL, "{from}");
        let error = problems(&text);
        assert!(error.contains(expected), "{from} → {to}: {error}");
        assert!(error.starts_with("line "), "{error}");
    }
}

/// Every spelling that YAML takes for a number, where a text is meant: it stays as it was written.
#[test]
fn a_text_that_looks_like_a_number_keeps_its_spelling() {
    let spellings =
        ["2025.10", "007", "0123", "1.10", "010", "1e3", "+5", "0x1F", "0o17", "1_000", "-0", "12345678901234567890"];
    for spelling in spellings {
        for written in [spelling.to_owned(), format!("{spelling} # ends"), format!("&n {spelling}")] {
            let text = format!(
                "clusters:\n  - id: a\n    connection: {{ api_url: \"https://a:8006\" }}\n    tags: [ {spelling} , x]\n    \
                 provider: {written}\n    location: ü {spelling}\n    country: \"{spelling}\"\n    storage:\n      \
                 primary_storage: {spelling}\nresource_pools:\n  - name: p\n    clusters: [a]\n    placement_policy:\n      \
                 rules:\n        - {{ type: affinity, target: tag, operator: must, value: {spelling} }}\n"
            );
            let loaded = load(&text).unwrap_or_else(|error| panic!("{text}{error}"));
            let cluster = &loaded.federation.clusters["a"];
            assert!(cluster.tags.contains(spelling), "{spelling}: {:?}", cluster.tags);
            assert_eq!(cluster.hosting_provider.as_deref(), Some(spelling), "{written}");
            assert_eq!(cluster.country.as_deref(), Some(spelling));
            assert_eq!(cluster.primary_storage.as_deref(), Some(spelling));
            assert_eq!(loaded.federation.pools["p"].policy().rules[0].value, spelling);
        }
    }
}

#[test]
fn a_name_that_looks_like_a_number_is_that_name_wherever_it_stands() {
    let text = "x-n: &n 1.10\nclusters:\n  - { id: 010, tags: [*n], connection: { api_url: \"https://a:8006\" } }\n\
                resource_pools:\n  - { name: p1, clusters: [010], placement_policy: { cluster_weights: { 010: 5 } } }\n";
    let loaded = load(text).unwrap_or_else(|error| panic!("{error}"));
    assert!(loaded.federation.clusters["010"].tags.contains("1.10"), "an alias is what it stands for");
    let pool = &loaded.federation.pools["p1"];
    assert_eq!(pool.policy().cluster_weights[&cluster("010")], 5);
}

#[test]
fn only_true_and_false_are_truth_values_in_every_file() {
    for word in ["yes", "on", "Y", "no", "off", "N"] {
        assert!(read::<std::collections::BTreeMap<String, bool>>(&format!("a: {word}")).is_err(), "{word}");
        let found = problems(&FULL.replacen("verify_ssl: true", &format!("verify_ssl: {word}"), 1));
        assert!(found.contains("true or false was expected"), "{word}: {found}");
    }
    let read: std::collections::BTreeMap<String, bool> = read("a: true").unwrap();
    assert!(read["a"]);
}

#[test]
fn the_place_is_the_place() {
    let error = load("clusters:\n  - id: a\n    tier: bad\n    nmae: x\n").unwrap_err();
    let places: Vec<(u64, u64, &str)> = error.problems.iter().map(|p| (p.line, p.column, p.path.as_str())).collect();
    assert_eq!(places, [(3, 11, "clusters[0].tier"), (4, 5, "clusters[0].nmae")], "all problems at once: {error}");
}

#[test]
fn secrets_have_no_place_in_the_file_or_its_errors() {
    let text = FULL.replacen("password_env: PVE_AMS_PASSWORD", "password: hunter2", 1);
    let error = problems(&text);
    assert!(error.contains("environment variable") && !error.contains("hunter2"), "{error}");
    let text = FULL.replacen("https://pve.ams", "https://root:hunter2@pve.ams", 1);
    let error = problems(&text);
    assert!(error.contains("credentials") && !error.contains("hunter2"), "{error}");
}

#[test]
fn keys_of_ones_own_are_ignored_everywhere() {
    let text = FULL.replacen("clusters:", "x-note: [1, 2]\nclusters:", 1).replacen(
        "tier: primary",
        "x-owner: ann\n    tier: primary",
        1,
    );
    assert_eq!(load(&text).unwrap().federation, load(FULL).unwrap().federation);
}

#[test]
fn anchors_and_merges_work() {
    let text = "x-conn: &conn\n  username: a@pve\n  password_env: P\nclusters:\n  - id: a\n    connection:\n      <<: *conn\n      api_url: https://h:8006\n";
    let loaded = load(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.connections["a"].username.as_deref(), Some("a@pve"));
}

#[test]
fn hostile_and_empty_files_get_clear_errors() {
    for text in ["", "\n\n", "# only a comment\n", "~"] {
        assert!(problems(text).contains("the file is empty"), "{text:?}: {}", problems(text));
    }
    assert!(problems("- a\n- b\n").contains("a section of keys was expected"));
    assert!(problems("just text").contains("a section of keys was expected"));
    assert!(problems("clusters: [").starts_with("line "));
    assert!(problems("a: 1\na: 2\n").contains("duplicate"), "{}", problems("a: 1\na: 2\n"));
    assert!(problems(&"#".repeat(LARGEST_FILE + 1)).contains("more than"));
    let mut bomb = String::from("x0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..12 {
        let alias = vec![format!("*a{}", n - 1); 9].join(", ");
        bomb.push_str(&format!("x{n}: &a{n} [{alias}]\n"));
    }
    let error = problems(&bomb);
    assert!(error.len() < 500, "an alias bomb is refused in few words: {error}");
    let deep = format!("clusters: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    problems(&deep);
}

#[test]
fn derived_classes_are_never_slower_than_asked_for() {
    let loaded = load(FULL).unwrap();
    let edge = &loaded.federation.clusters["fra-dev"];
    for class in ["hdd", "ssd", "nvme"] {
        assert_eq!(edge.resolve_storage(Some(class)).as_deref(), Some("local-lvm"), "{class}");
    }
    let dr = &loaded.federation.clusters["rtm-dr"];
    assert_eq!(dr.resolve_storage(Some("hdd")).as_deref(), Some("tank-dr"));
    assert_eq!(dr.resolve_storage(Some("nvme")).as_deref(), Some("nvme"), "stands for itself, and is not there");
    assert_eq!(loaded.federation.pools[&pool("lab")].policy().strategy, Objective::Cost);
}

#[test]
fn a_value_can_be_wrong_in_kind_everywhere_without_a_panic() {
    // Every scalar of the full file, replaced by each kind of value in turn.
    for (index, line) in FULL.lines().enumerate() {
        let Some((key, _)) = line.split_once(": ") else { continue };
        for value in ["~", "true", "-1", "1.5e308", ".nan", "[]", "{}", "[[1]]", "\"\"", "{a: {b: [c]}}"] {
            let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
            lines[index] = format!("{key}: {value}");
            let _ = load(&lines.join("\n"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_the_loader_panic(text: String) {
        let _ = load(&text);
    }

    #[test]
    fn no_edit_makes_the_loader_panic(at in 0usize..FULL.len(), cut in 0usize..40, put in "[ -~\n]{0,6}") {
        let at = (0..=at).rev().find(|at| FULL.is_char_boundary(*at)).unwrap();
        let end = (at + cut..=FULL.len()).find(|end| FULL.is_char_boundary(*end)).unwrap_or(FULL.len());
        let _ = load(&format!("{}{put}{}", &FULL[..at], &FULL[end..]));
    }
}

#[test]
fn what_does_not_fit_together_is_said() {
    let loaded = load(EXAMPLE_OF_MISFITS).unwrap_or_else(|error| panic!("{error}"));
    for expected in [
        "the private subnets of a and b overlap",
        "b has a cross-connect to a, which declares none back",
        "the path a → b requires encryption, and neither link_encrypted",
        "the path b → a is storage-migration, and a has live_migration: false",
        "the path b → a is storage-migration over 25ms: above 10ms backup-restore is the safe one",
    ] {
        assert!(loaded.warnings.iter().any(|text| text.contains(expected)), "{expected}: {:#?}", loaded.warnings);
    }
    assert_eq!(loaded.warnings.len(), 5, "{:#?}", loaded.warnings);
    for (from, to, expected) in [
        ("10.0.0.0/16", "10.0.0.0", "is not a subnet"),
        ("zone: UTC", "zone: Europe/Amsterdm", "is not a time zone"),
        ("0 2 * * *", "nightly", "no schedule of five fields"),
        ("gateway: 10.5.0.1", "gateway: 10.6.0.1", "not in the network's subnet"),
        ("gateway: 10.5.0.1", "gateway: first", "is not an address"),
        ("bridge: vmbr0", "bridge: \"vmbr0,tag=5\"", "it holds ',', which ends the name"),
    ] {
        let found = problems(&EXAMPLE_OF_MISFITS.replacen(from, to, 1));
        assert!(found.contains(expected), "{to}: {found}");
    }
}

const EXAMPLE_OF_MISFITS: &str = r#"
clusters:
  - id: a
    connection: { api_url: "https://a:8006" }
    capabilities: { live_migration: false }
    network: { private_subnet: "10.0.0.0/16" }
    networks: { app: { bridge: vmbr0, subnet: 10.5.0.0/24, gateway: 10.5.0.1 } }
    storage:
      replication_targets: [{ target_cluster: b, target_storage: x, schedule: "0 2 * * *", type: async }]
  - id: b
    connection: { api_url: "https://b:8006" }
    network:
      private_subnet: "10.0.7.0/24"
      cross_connects: [{ target_cluster: a, type: vpn, latency: 25ms }]
migration_policies:
  paths:
    - { source_cluster: a, target_cluster: b, encryption_required: true, window: { from: "22:00", to: "04:00", zone: UTC } }
    - { source_cluster: b, target_cluster: a, method: storage-migration }
"#;

/// Found by mutated input: a debug build of the loader overflowed its stack at thirty levels, and that can't be caught.
#[test]
fn nesting_is_refused_before_it_can_overflow_the_stack() {
    let nested = |levels: usize| format!("x-deep: {}1{}\n", "[".repeat(levels), "]".repeat(levels));
    for levels in [16, 30, 64, 1_000, 100_000] {
        let found = problems(&nested(levels));
        assert!(found.contains("depth") || found.contains("limit"), "{levels}: {found}");
    }
    let fine = FULL.replacen("clusters:", &format!("{}clusters:", nested(14)), 1);
    load(&fine).unwrap_or_else(|error| panic!("{error}"));
}

//! What a historical program of the guide's did wrong when it was run (a run of it); each row is ours, which does it
//! otherwise.
use std::process::Command;

use harness::SimulatedWorld;

/// What failed there, edits of the file, the command, our exit code, and what ours says.
pub type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str, i32, &'static [&'static str]);

/// Every row that is not one about the file's text alone (those are among the files, marked [run]).
pub const CASES: &[Case] = &[
    ("B1: the documented spelling was rejected", &[], "validate", 0, &["is valid"]),
    (
        "B1: only its own spelling was read",
        &[
            ("resource_pools:", "resourcePools:"),
            ("placement_policy:", "placementPolicy:"),
            ("migration_policies:", "migrationPolicies:"),
        ],
        "validate",
        0,
        &["is valid"],
    ),
    ("B2: -c behind the verb alone was refused", &[], "status -c multi-site.yaml", 0, &["3 of 3"]),
    ("B2: the call without -c had no file", &[], "allocate -p production-pool --explain", 0, &["WHAT COUNTS"]),
    ("B4: 99999 cores fitted", &[], "allocate -p production-pool --cpu 8192", 1, &["needs 8192 cores"]),
    ("B4: 900 TB of memory fitted", &[], "allocate -p production-pool --memory 900TB", 1, &["needs 900 TiB of memory"]),
    (
        "B5: a must_not target was selected",
        &[(
            "{ type: anti-affinity, target: tag, operator: must, value: database }",
            "{ type: affinity, target: cluster, operator: must_not, value: worldstream-prod }",
        )],
        "allocate -p production-pool --explain",
        0,
        &["goes to databarn-dr", "worldstream-prod  refused", "must_not"],
    ),
    (
        "B5: every candidate excluded, and the first selected all the same",
        &[(
            "- { type: anti-affinity, target: tag, operator: must, value: database }",
            "- { type: affinity, target: cluster, operator: must_not, value: worldstream-prod }\n        - { type: affinity, target: node, operator: must, value: nowhere }",
        )],
        "allocate -p production-pool",
        1,
        &["no cluster can take it", "no node of it is allowed"],
    ),
    ("B6: anti-affinity without the tag excluded all", &[], "allocate -p production-pool", 0, &["goes to"]),
    (
        "B6: anti-affinity looked at clusters, not at machines",
        &[],
        "allocate -p production-pool --name db-1 --count 2 --tag database",
        0,
        &["1 on databarn-dr, 1 on worldstream-prod"],
    ),
    (
        "B7: the wanted place lost to the order of the list",
        &[("strategy: balanced", "strategy: geographic")],
        "allocate -p production-pool --location rotterdam",
        0,
        &["goes to databarn-dr"],
    ),
    (
        "B8: the rule that keeps development away from production could not fire",
        &[("clusters: [hetzner-edge, databarn-dr]", "clusters: [hetzner-edge, worldstream-prod]")],
        "allocate -p development-pool --explain",
        0,
        &["goes to hetzner-edge", "worldstream-prod  refused"],
    ),
    (
        "B9: the explanation explained a 0.00 as 100.0 %",
        &[],
        "allocate -p development-pool --explain",
        0,
        &["price 0.90 × 1.00"],
    ),
    ("B10: a dark cluster was available", &[("dark", "")], "status", 1, &["DARK"]),
    (
        "B13: --check-connectivity passed an unreachable API",
        &[("dark", "")],
        "validate --check-connectivity",
        1,
        &["not valid", "hetzner-edge"],
    ),
    (
        "B11: a migration succeeded without a call",
        &[],
        "migrate vm-100 --from worldstream-prod --to databarn-dr",
        1,
        &["cluster worldstream-prod has no virtual machine 100"],
    ),
    (
        "missing rules were an exception's text",
        &[(
            "      rules:\n        - { type: location, target: cluster, operator: must_not, value: worldstream-prod }\n",
            "",
        )],
        "allocate -p development-pool",
        0,
        &["goes to"],
    ),
    (
        "a missing tier was an exception's text",
        &[("    tier: edge\n", ""), ("    tier: secondary\n", "")],
        "allocate -p development-pool",
        0,
        &["goes to"],
    ),
    ("a missing section was an exception's text", &[("migration_policies:", "x-nothing:")], "status", 0, &["3 of 3"]),
];

/// Runs every row.
pub fn check(world: &SimulatedWorld, sound: &str) {
    let mut wrong = Vec::new();
    for (name, edits, line, code, words) in CASES {
        let folder = tempfile::tempdir().expect("a folder");
        let mut connections = world.connections();
        let mut yaml = sound.to_owned();
        for (from, to) in *edits {
            if *from == "dark" {
                connections["hetzner-edge"]["endpoints"] = serde_json::json!(["https://127.0.0.1:1"]);
            } else {
                assert!(yaml.contains(from), "{name}: the file does not hold {from:?}");
                yaml = yaml.replace(from, to);
            }
        }
        std::fs::write(folder.path().join("multi-site.yaml"), yaml).expect("the file");
        std::fs::write(folder.path().join("connections.json"), connections.to_string()).expect("the connections");
        let mut command = Command::new(env!("CARGO_BIN_EXE_federate"));
        command.args(line.split(' ')).current_dir(folder.path()).env("MOXXIE_CONNECTIONS", "connections.json");
        let out = command.envs(world.tokens("platform")).output().expect("the command runs");
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if out.status.code() != Some(*code) || !words.iter().all(|word| text.contains(word)) {
            wrong.push(format!("{name}: {line}: {:?}, wanted {code} and {words:?}\n{text}", out.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

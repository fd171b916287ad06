//! Wrong federation files: one edit of a sound file each, or a file that is nothing at all.

/// A wrong file.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// The line that the diagnostic names; none where it concerns the whole file.
    pub line: Option<usize>,
    pub words: Vec<String>,
}

/// What is replaced, by what, and what is said then. The line is that of the replacement.
const EDITS: &[(&str, &str, &str, &str)] = &[
    ("an unknown key", "tier: primary", "teir: primary", "did you mean \"tier\"?"),
    ("a tier that is none", "tier: primary", "tier: first", "none of primary, secondary, edge"),
    (
        "[run] strategy: bogus",
        "strategy: balanced",
        "strategy: bogus",
        "none of balanced, performance, cost, geographic",
    ),
    ("[run] method: teleport", "default_method: backup-restore", "default_method: teleport", "none of backup-restore"),
    (
        "[run] primary_cluster: nonexist",
        "resource_pools:",
        "federation: { primary_cluster: nonexist }\nresource_pools:",
        "no cluster \"nonexist\"",
    ),
    (
        "[run] failover_priority: [zzz]",
        "resource_pools:",
        "federation: { failover_priority: [zzz] }\nresource_pools:",
        "no cluster \"zzz\"",
    ),
    (
        "[run] an unknown check",
        "  default_method: backup-restore",
        "  pre_migration_checks: [verify_everything]",
        "no check \"verify_everything\"",
    ),
    (
        "a pool's cluster that is nowhere",
        "clusters: [worldstream-prod, databarn-dr]",
        "clusters: [worldstream-prd]",
        "did you mean \"worldstream-prod\"?",
    ),
    ("a weight for no member", "worldstream-prod: 80", "hetzner-edge: 80", "not one of the pool's clusters"),
    ("a negative weight", "worldstream-prod: 80", "worldstream-prod: -1", "a whole number from 0"),
    (
        "an operator that is none",
        "operator: must, value: database",
        "operator: shall, value: database",
        "must, should, must_not, should_not",
    ),
    ("a rule type that is none", "type: anti-affinity", "type: repulsion", "affinity, anti-affinity, location"),
    ("a target that is none", "target: tag", "target: rack", "cluster, node, tag"),
    ("a rule about nothing", "operator: must, value: database", "operator: must, value: \"\"", "must not be empty"),
    ("a limit without a unit", "max_memory: \"2TB\"", "max_memory: 2", "no unit"),
    ("a negative limit", "max_vms: 150", "max_vms: -150", "a whole number from 0"),
    (
        "a window nowhere",
        "      method: backup-restore\n",
        "      method: backup-restore\n      window: { from: \"22:00\", to: \"04:00\", zone: Europe/Atlantis }\n",
        "is not a time zone",
    ),
    ("a bandwidth in bytes", "max_bandwidth: \"500Mbps\"", "max_bandwidth: \"500MB/s\"", "bits"),
    ("a VLAN range backwards", "vlan_range: [100, 199]", "vlan_range: [199, 100]", "the smaller first"),
    ("a subnet without a prefix", "vlan_range: [100, 199]", "private_subnet: \"10.0.0.0\"", "is not a subnet"),
    ("a VLAN of 5000", "vlan: 120", "vlan: 5000", "from 1 to 4094"),
    ("truth in words", "supports_ha: true", "supports_ha: yes", "true or false"),
    ("a list where a word belongs", "location: \"Amsterdam, NL\"", "location: [Amsterdam]", "text was expected"),
    ("a word where a list belongs", "bridges: [vmbr0, vmbr1]", "bridges: vmbr0", "a list was expected"),
    ("the same cluster twice", "id: databarn-dr", "id: worldstream-prod", "was there before"),
    ("the same pool twice", "name: development-pool", "name: production-pool", "was there before"),
    ("a reserved pool", "name: production-pool", "name: moxxie-pool", "reserved"),
    (
        "a path to oneself",
        "source_cluster: worldstream-prod\n      target_cluster: databarn-dr",
        "source_cluster: databarn-dr\n      target_cluster: databarn-dr",
        "are the same",
    ),
    (
        "a password in the file",
        "tier: primary",
        "tier: primary\n    connection: { api_url: \"https://h:8006\", username: u, password: hunter2 }",
        "name an environment variable",
    ),
    (
        "an address without https",
        "tier: primary",
        "tier: primary\n    connection: { api_url: \"http://h:8006\", username: u }",
        "must begin with https://",
    ),
    (
        "a price without a currency",
        "pricing: { currency: EUR, core_hour: 0.012",
        "pricing: { core_hour: 0.012",
        "\"currency\" is missing",
    ),
    (
        "a VMID range backwards",
        "tier: primary",
        "tier: primary\n    vmid_range: { first: 2000, last: 1000 }",
        "before it begins",
    ),
    (
        "half a coordinate",
        "tier: primary",
        "tier: primary\n    coordinates: { latitude: 52.3 }",
        "\"longitude\" is missing",
    ),
    (
        "two spellings at once",
        "placement_policy:\n      strategy: cost",
        "placementPolicy: {}\n    placement_policy:\n      strategy: cost",
        "another spelling",
    ),
    ("no closing bracket", "bridges: [vmbr0, vmbr1]", "bridges: [vmbr0, vmbr1", ""),
    ("a tab", "    tier: primary", "\ttier: primary", ""),
];

/// Every wrong file made from a sound one.
pub fn cases(sound: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = EDITS.iter().map(|(name, from, to, word)| edit(sound, name, from, to, word)).collect();
    let mut whole = |name, bytes: Vec<u8>, words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        cases.push(Case { name, bytes, line: None, words });
    };
    whole("an empty file", Vec::new(), &["the file is empty"]);
    whole("a file of comments", b"# nothing\n".to_vec(), &["the file is empty"]);
    whole("a list of words", b"- a\n- b\n".to_vec(), &["a section of keys was expected"]);
    whole("no clusters", b"resource_pools: []\n".to_vec(), &["\"clusters\""]);
    whole("bytes that are no text", vec![0xff, 0xfe, 0x00, 0x01], &["not UTF-8"]);
    whole("a huge file", vec![b'#'; (4 << 20) + 1], &["more than"]);
    whole("an alias bomb", bomb().into_bytes(), &[]);
    whole("a hundred thousand brackets", format!("clusters: {}", "[".repeat(100_000)).into_bytes(), &[]);
    whole("the same key twice", b"clusters: []\nclusters: []\n".to_vec(), &["duplicate"]);
    cases
}

fn edit(sound: &str, name: &'static str, from: &str, to: &str, word: &str) -> Case {
    let at = sound.find(from).unwrap_or_else(|| panic!("{name}: the file does not hold {from:?}"));
    let text = format!("{}{to}{}", &sound[..at], &sound[at + from.len()..]);
    // The last line of what was put in; what follows it is the sound file's own.
    let first_new = to.lines().zip(from.lines().chain(std::iter::repeat(""))).position(|(a, b)| a != b).unwrap_or(0);
    let line = sound[..at].lines().count().max(1) + first_new;
    let line = if sound[..at].ends_with('\n') { line + 1 } else { line };
    // Where a bracket is missing, the reader notices later; a place is all that is asked for.
    let line = (!word.is_empty()).then_some(line);
    Case { name, bytes: text.into_bytes(), line, words: vec![word.to_owned()] }
}

/// Nine to the twelfth words, in half a kilobyte.
fn bomb() -> String {
    let mut text = String::from("x0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..12 {
        let alias = vec![format!("*a{}", n - 1); 9].join(", ");
        text += &format!("x{n}: &a{n} [{alias}]\n");
    }
    text + "clusters: *a11\n"
}

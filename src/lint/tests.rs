//! What is found in a configuration, where, and what passes.

use proptest::prelude::*;

use super::*;

fn file(text: &str) -> File {
    File { path: "main.tf".into(), text: text.into() }
}

fn federation() -> Federation {
    let yaml = "clusters:\n  - id: ams\n    connection: { api_url: \"https://a:8006\" }\n    network: { bridges: [vmbr0] }\n    \
                networks: { app: { bridge: vmbr1, vlan: 12 } }\n  - id: rtm\n    connection: { api_url: \"https://b:8006\" }\n\
                resource_pools:\n  - { name: prod, clusters: [ams, rtm] }\n";
    federation::config::load(yaml).unwrap_or_else(|error| panic!("{error}")).federation
}

fn found(text: &str) -> Vec<String> {
    let problems = lint(&[file(text)], Some(&federation()));
    let shown = |p: &Problem| {
        let kind = if p.warning { "warning " } else { "" };
        format!("{}:{}: {kind}{}: {}", p.line, p.column, p.path, p.message)
    };
    problems.iter().map(shown).collect()
}

/// A machine with `more` in its block.
fn vm(more: &str) -> String {
    format!("resource \"moxxie_virtual_machine\" \"web\" {{\n  name = \"web-1\"\n  pool = \"prod\"\n{more}\n}}\n")
}

/// That exactly one thing is found, on this line and column, and said so.
#[track_caller]
fn one(text: &str, place: &str, says: &[&str]) {
    let found = found(text);
    assert_eq!(found.len(), 1, "{text}{found:#?}");
    assert!(found[0].starts_with(&format!("{place}: ")), "{text}{found:#?}");
    says.iter().for_each(|says| assert!(found[0].contains(says), "{says}: {found:#?}"));
}

#[test]
fn a_key_that_core_drops_is_found_at_any_depth_with_what_was_meant() {
    one(
        "resource \"moxxie_resource_pool\" \"p\" {\n  name = \"p\"\n  clusters = [\"ams\"]\n  limits = { max_memry = \"2TB\" }\n}\n",
        "4:14",
        &["moxxie_resource_pool.p: limits.max_memry", "did you mean \"max_memory\"?"],
    );
    for (more, place, says) in [
        ("  disks = { scsi0 = { size = \"8GB\", storge = \"fast\" } }", "4:37", "disks[\"scsi0\"].storge"),
        ("  migration = {\n    max_downtme = \"5m\"\n  }", "5:5", "migration.max_downtme"),
        ("  migration = { health = { \"tpc\" = \"10.0.0.1:22\" } }", "4:28", "migration.health.tpc"),
        ("  cloud_init = { addresses = { net0 = { ipv = \"dhcp\" } } }", "4:41", "addresses[\"net0\"].ipv"),
        ("  nmae = \"x\"", "4:3", "did you mean \"name\"?"),
    ] {
        one(&vm(more), place, &[says]);
    }
}

#[test]
fn what_is_made_by_an_expression_is_read_too() {
    for more in [
        "  disks = { for k, v in var.disks : k => { size = v, storge = \"fast\" } }",
        "  disks = merge(local.base, { scsi1 = { size = \"8GB\", storge = \"x\" } })",
        "  disks = var.big ? { scsi0 = { size = \"8GB\", storge = \"x\" } } : {}",
        "  disks = ({ (var.slot) = { size = \"8GB\", storge = \"x\" } })",
    ] {
        let found = found(&vm(more));
        assert!(found.len() == 1 && found[0].contains("did you mean \"storage\"?"), "{more}: {found:#?}");
    }
}

#[test]
fn what_the_provider_would_refuse_is_found_at_its_place() {
    for (more, place, says) in [
        ("  memory = \"2048\"", "4:3", "no unit"),
        ("  disks = { scsi0 = { size = \"8 apples\" } }", "4:23", "size"),
        ("  disks = { floppy0 = { size = \"8GB\" } }", "4:13", "floppy0"),
        ("  migration = { max_downtime = \"soon\" }", "4:17", "max_downtime"),
        ("  limits = { max_vms = 3 }", "4:3", "unknown key"),
        ("  cpu {\n    cores = 4\n  }", "4:3", "write cpu = { … }"),
        ("  placement = \"here\"", "4:3", "the provider's to set"),
        ("  disks = { scsi0 = { storage = \"fast\" } }", "4:13", "\"size\" is missing"),
        ("  timeouts = {}", "4:3", "Nothing is set in timeouts"),
    ] {
        let found = found(&vm(more));
        let fits = found.len() == 1 && found[0].starts_with(place) && found[0].contains(says);
        assert!(fits, "{more}: {found:#?}");
    }
    one("resource \"moxxie_virtual_machine\" \"web\" {\n  pool = \"prod\"\n}\n", "1:1", &["\"name\" is missing"]);
    one("resource \"moxxie_virtual_machin\" \"web\" {\n}\n", "1:1", &["did you mean \"moxxie_virtual_machine\"?"]);
    one("provider \"moxxie\" {\n  concurrency = 4000\n}\n", "2:3", &["1 to 1024"]);
    one(
        "data \"moxxie_migration_plan\" \"m\" {\n  machine = \"web\"\n  target = \"ams\"\n  max_downtime = \"5\"\n}\n",
        "4:3",
        &["max_downtime"],
    );
}

#[test]
fn a_number_where_a_text_is_meant_is_found_where_core_changes_it() {
    one(
        "resource \"moxxie_virtual_machine\" \"web\" {\n  name = \"web-1\"\n  pool = \"prod\"\n  tags = [2025.10, 7]\n}\n",
        "4:11",
        &["write \"2025.10\" in quotes"],
    );
}

#[test]
fn names_that_nobody_declares_are_found() {
    for (text, place, says) in [
        (vm("  cluster = \"asm\""), "4:13", "did you mean \"ams\"?"),
        (vm("  cluster = \"elsewhere\""), "4:13", "there are ams, rtm"),
        (vm("  network_devices = { net0 = { network = \"ap\" } }"), "4:42", "warning"),
        (vm("").replace("\"prod\"", "\"prodd\""), "3:10", "no pool \"prodd\""),
    ] {
        let found = found(&text);
        assert!(found.len() == 1 && found[0].starts_with(place) && found[0].contains(says), "{text}{found:#?}");
    }
    let pool = "resource \"moxxie_resource_pool\" \"p\" {\n  name = \"dev\"\n  clusters = [\"ams\", \"rmt\"]\n  placement_policy = {\n    \
                cluster_weights = { ams = 5, rtn = 3 }\n    rules = [{ type = \"affinity\", target = \"cluster\", operator = \"must\", value = \"ams\" }]\n  }\n}\n";
    let found = found(pool);
    assert!(found.iter().any(|line| line.starts_with("3:22") && line.contains("\"rmt\"")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("5:34") && line.contains("\"rtn\"")), "{found:#?}");
    assert!(
        !found.iter().any(|line| line.contains("no cluster \"cluster\"")),
        "a rule's target is no name: {found:#?}"
    );
}

#[test]
fn names_that_the_configuration_declares_or_that_cant_be_known_pass() {
    for text in [
        vm("").replace("\"prod\"", "\"mine\"")
            + "resource \"moxxie_resource_pool\" \"p\" {\n  name = \"mine\"\n  clusters = [\"ams\"]\n}\n",
        vm("").replace("\"prod\"", "\"other-teams-pool\"")
            + "resource \"moxxie_resource_pool\" \"p\" {\n  for_each = var.pools\n  name = each.key\n  clusters = [\"ams\"]\n}\n",
        vm("  cluster = \"lab\"")
            + "provider \"moxxie\" {\n  clusters = { lab = { endpoints = [\"https://l:8006\"], api_token_env = \"T\" } }\n}\n",
        vm(
            "  cluster = var.cluster\n  tags = [\"a\", local.b]\n  memory = \"${var.gib}GiB\"\n  count = 3\n  lifecycle {\n    ignore_changes = [tags]\n  }",
        ),
        vm("  network_devices = { net0 = { network = \"vmbr7\" } }"),
        vm(
            "  cloud_init = { addresses = { net0 = { ipv4 = var.address }, net1 = { ipv6 = \"${var.prefix}::1/64\" } } }",
        ),
        "resource \"other_thing\" \"x\" {\n  anything = { goes = 1 }\n}\nvariable \"x\" {}\n".to_owned(),
    ] {
        assert_eq!(found(&text), Vec::<String>::new(), "{text}");
    }
    let nobody = lint(&[file(&vm("  cluster = \"any\""))], None);
    assert!(nobody.is_empty(), "without a federation file no name is judged: {nobody:#?}");
}

#[test]
fn a_file_that_is_no_configuration_has_a_place_and_hides_no_other() {
    let broken =
        File { path: "broken.tf".into(), text: "resource \"moxxie_virtual_machine\" {\n  name = \n}\n".into() };
    let problems = lint(&[broken, file(&vm("  nmae = 1"))], None);
    let files: Vec<(&str, usize)> = problems.iter().map(|problem| (problem.file.as_str(), problem.line)).collect();
    assert_eq!(files, [("broken.tf", 2), ("main.tf", 4)], "{problems:#?}");
}

#[test]
fn every_example_of_ours_is_fine() {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match path.extension().and_then(|end| end.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("tf") => files.push(File { text: std::fs::read_to_string(&path).unwrap(), path }),
                _ => {}
            }
        }
    }
    assert!(files.len() > 8, "{}", files.len());
    // Each by itself: they are examples of one thing each, and name what the reader has.
    for file in files {
        let problems = lint(std::slice::from_ref(&file), None);
        assert!(problems.iter().all(|problem| problem.warning), "{problems:#?}");
    }
}

const FULL: &str = include_str!("../../examples/quickstart/main.tf");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_it_panic(text: String) {
        lint(&[file(&text)], None);
    }

    #[test]
    fn no_edit_makes_it_panic(at in 0usize..FULL.len(), cut in 0usize..40, put in "[ -~\n]{0,6}") {
        let at = (0..=at).rev().find(|at| FULL.is_char_boundary(*at)).unwrap();
        let end = (at + cut..=FULL.len()).find(|end| FULL.is_char_boundary(*end)).unwrap_or(FULL.len());
        lint(&[file(&format!("{}{put}{}", &FULL[..at], &FULL[end..]))], Some(&federation()));
    }
}

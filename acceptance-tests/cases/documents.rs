//! What the documents say of the code is true: requirements name tests that exist, reference pages are generated from the
//! schema, examples run, and so does every block that README and docs show.
mod blocks;
mod citations;
mod pages;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of all test functions of the workspace.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["src", "acceptance-tests"] {
        sources(&root().join(folder), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let functions =
            text.lines().filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
        names.extend(functions.filter_map(|line| line.split(['(', '<']).next()).map(str::to_owned));
    }
    names
}

#[test]
fn every_test_that_the_requirements_name_exists() {
    let text = fs::read_to_string(root().join("docs/requirements.md")).expect("docs/requirements.md");
    let tests = tests();
    // Rows of tables: what is required, and what shows it.
    let shown = text.lines().filter_map(|line| line.strip_prefix("| ")?.rsplit_once(" | ")).map(|(_, shown)| shown);
    let quoted = shown.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let named: Vec<&str> = quoted.filter(|name| name.contains('_')).collect();
    assert!(named.len() > 20, "{} tests are named", named.len());
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/requirements.md names tests that don't exist: {missing:?}");
}

#[test]
fn reference_pages_are_those_of_the_schema_and_the_examples() {
    let bless = std::env::var_os("MOXXIE_BLESS").is_some();
    let mut stale = Vec::new();
    for page in pages::all(&root()) {
        let file = root().join(&page.file);
        if fs::read_to_string(&file).unwrap_or_default() == page.text {
            continue;
        }
        if bless {
            fs::create_dir_all(file.parent().expect("a folder")).expect("the folder of the page");
            fs::write(&file, &page.text).unwrap_or_else(|error| panic!("{}: {error}", page.file));
        } else {
            stale.push(page.file);
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} are not those of the schema: run this test with MOXXIE_BLESS=1 and commit them"
    );
}

/// Every attribute is described, and says its unit where it is a number or a time.
#[test]
fn every_attribute_is_described() {
    fn check(attributes: &[protocol::Attribute], path: &str, bad: &mut Vec<String>) {
        for attribute in attributes {
            let path = format!("{path}.{}", attribute.name);
            if !attribute.description.trim_end().ends_with(['.', ')']) || attribute.description.len() < 5 {
                bad.push(path.clone());
            }
            if let protocol::AttributeKind::Nested { attributes, .. } = &attribute.kind {
                check(attributes, &path, bad);
            }
        }
    }
    let schema = protocol::Provider::schema(&provider::Moxxie::new());
    let mut bad = Vec::new();
    check(&schema.provider.attributes, "provider", &mut bad);
    for (name, schema) in schema.resources.iter().chain(&schema.data_sources) {
        check(&schema.attributes, name, &mut bad);
        assert_eq!(schema.problems(), Vec::<String>::new(), "{name}");
    }
    assert!(bad.is_empty(), "without a description that is a sentence: {bad:?}");
}

/// Every example is applied to the simulator, plans empty, and leaves nothing.
#[test]
fn every_example_runs() {
    let provider = fs::read_to_string(root().join("examples/provider/provider.tf")).expect("the provider's example");
    let yaml = fs::read_to_string(root().join("examples/quickstart/multi-site.yaml")).expect("the federation file");
    let cli = harness::clis().swap_remove(0);
    let mut examples = 0;
    for kind in ["resources", "data-sources"] {
        for entry in fs::read_dir(root().join("examples").join(kind)).into_iter().flatten().flatten() {
            let files = fs::read_dir(entry.path()).expect("an example's folder").flatten();
            let world = harness::SimulatedWorld::three_sites();
            let workspace =
                world.workspace(&cli, Path::new(env!("CARGO_BIN_EXE_terraform-provider-moxxie")), "platform");
            workspace.write("provider.tf", &provider).write("multi-site.yaml", &yaml).remove("world.auto.tfvars.json");
            workspace.write("sites.auto.tfvars.json", serde_json::json!({ "sites": world.connections() }).to_string());
            for file in files.filter(|file| file.path().extension().is_some_and(|extension| extension == "tf")) {
                let text = fs::read_to_string(file.path()).expect("an example");
                workspace.write(&file.file_name().to_string_lossy(), text);
            }
            workspace.apply().expect(0);
            workspace.plan().expect(0);
            workspace.destroy().expect(0);
            assert_eq!(world.machines(), Vec::<String>::new(), "{}", entry.path().display());
            assert_eq!(world.litter(), Vec::<String>::new(), "{}", entry.path().display());
            examples += 1;
        }
    }
    assert!(examples > 0, "there are examples");
}

/// The world of the examples, with a machine that nobody manages yet.
fn world_of_the_pages() -> harness::SimulatedWorld {
    let world = harness::SimulatedWorld::three_sites();
    let config = [
        ("name", "legacy-db"),
        ("cores", "4"),
        ("memory", "8192"),
        ("cpu", "x86-64-v2-AES"),
        ("scsihw", "virtio-scsi-single"),
        ("smbios1", "uuid=1b5c6a52-7d0e-4a1c-9c34-0d7b3a5f8e21"),
        ("scsi0", "ceph-pool:32,discard=on"),
        ("net0", "virtio=BC:24:11:5D:1C:04,bridge=vmbr0,tag=120"),
        ("tags", "database"),
    ];
    let config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let pool = Some("production-pool".to_owned());
    let guest = simulator::GuestSpec { vmid: 104, node: "ws2".to_owned(), config, pool, running: true };
    world.cluster("worldstream-prod").create_vm(&guest).expect("a machine made by hand");
    world
}

#[test]
fn every_block_of_readme_and_docs_plans() {
    let cli = harness::clis().swap_remove(0);
    let count = blocks::plan_all(&root(), &cli, &world_of_the_pages());
    assert!(count > 0, "there are blocks");
}

#[test]
fn every_command_and_federation_file_of_readme_and_docs_works() {
    let count = blocks::type_all(&root(), &world_of_the_pages());
    assert!(count > 0, "there are commands");
}

#[test]
fn every_privilege_of_readme_and_docs_is_one_of_proxmox_ves() {
    let roles = fs::read_to_string(root().join("acceptance-tests/simulator/api/roles.json")).expect("the roles");
    let unknown: Vec<String> =
        blocks::privileges(&root()).into_iter().filter(|name| !roles.contains(&format!("\"{name}\""))).collect();
    assert!(unknown.is_empty(), "no privileges of Proxmox VE: {unknown:?}");
}

#[test]
fn every_link_of_readme_and_docs_leads_somewhere() {
    assert_eq!(blocks::broken_links(&root()), Vec::<String>::new());
}

/// The page of every key is the file that the reader is tested with.
#[test]
fn the_page_of_the_federation_file_has_every_key() {
    let page = fs::read_to_string(root().join("docs/guides/federation-file.md")).expect("the page");
    let file = fs::read_to_string(root().join("src/federation/fixtures/full.yaml")).expect("the file");
    assert!(
        page.contains(&format!("```yaml\n{}\n```", file.trim_end())),
        "copy src/federation/fixtures/full.yaml to the page"
    );
}

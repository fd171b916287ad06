//! The guide's own file with the real CLI, and `data.moxxie_validation` as a gate.
use std::path::Path;

use harness::{Cli, SimulatedWorld, Workspace, clis};
use serde_json::Value;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const YAML: &str = include_str!("main_job/multi-site.yaml");

fn workspace(world: &SimulatedWorld, cli: &Cli, yaml: &str, rest: &str) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    workspace.write("multi-site.yaml", yaml).write_main(rest);
    workspace
}

#[test]
fn the_guides_file_is_a_config_file_as_it_is() {
    let yaml = include_str!("guide/multi-site-example.yaml");
    let machines = r#"
resource "moxxie_virtual_machine" "web" {
  count           = 5
  name            = "web-${count.index + 1}"
  pool            = "production-pool"
  memory          = "4GB"
  network_devices = { net0 = { bridge = "vmbr0" } }
  disks           = { scsi0 = { size = "20GB" } }
}

resource "moxxie_virtual_machine" "db" {
  count           = 2
  name            = "db-${count.index + 1}"
  pool            = "production-pool"
  tags            = ["database"]
  memory          = "4GB"
  disks           = { scsi0 = { size = "20GB" } }
}

resource "moxxie_virtual_machine" "sandbox" {
  name   = "sandbox"
  pool   = "development-pool"
  memory = "2GB"
  disks  = { scsi0 = { size = "10GB", storage = "nvme" } }
}
"#;
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, yaml, machines);
        workspace.run(&["validate"]).expect(0);
        workspace.plan_to("guide.tfplan").expect(2).says("8 to add");
        assert_eq!(world.writes(), Vec::<String>::new(), "a plan writes nothing");
        let plan = workspace.show_plan("guide.tfplan");
        let changes = plan["resource_changes"].as_array().cloned().unwrap_or_default();
        let clusters = |kind: &str| {
            let of = changes.iter().filter(|change| change["name"] == kind);
            let mut all: Vec<String> = of
                .map(|change| change["change"]["after"]["cluster"].as_str().unwrap_or("unknown").to_owned())
                .collect();
            all.sort();
            all
        };
        let (prod, dr) = ("worldstream-prod".to_owned(), "databarn-dr".to_owned());
        let web = clusters("web");
        assert!(web.iter().all(|cluster| *cluster == prod || *cluster == dr), "{web:?}");
        assert!(
            web.iter().filter(|cluster| **cluster == prod).count() >= 4,
            "80 to 20, and the primary preferred: {web:?}"
        );
        assert_eq!(clusters("db"), [dr, prod], "database machines are spread");
        assert_eq!(clusters("sandbox"), ["hetzner-edge"], "development stays away from production");
        workspace.apply_plan("guide.tfplan").expect(0);
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

const GATE: &str = r#"
data "moxxie_validation" "gate" {
  check_connectivity = true
}

data "moxxie_validation" "next" {
  config_file = "${path.root}/next.yaml"
}

check "federation" {
  assert {
    condition     = data.moxxie_validation.gate.valid
    error_message = join("; ", data.moxxie_validation.gate.problems[*].message)
  }
}

output "gate" { value = data.moxxie_validation.gate }
output "next" { value = data.moxxie_validation.next }
"#;

fn outputs(workspace: &Workspace) -> Value {
    let run = workspace.run(&["output", "-json"]).expect(0);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.text()))
}

#[test]
fn a_validation_is_a_gate_at_top_level() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, YAML, GATE);
        workspace.write("next.yaml", YAML.replace("tier: edge", "tier: outermost"));
        workspace.apply().expect(0).never_says("Check block assertion failed");
        let said = outputs(&workspace);
        let gate = &said["gate"]["value"];
        assert_eq!(gate["valid"], true, "{gate}");
        assert_eq!(gate["clusters"]["hetzner-edge"]["version"], "8.4.1");
        assert_eq!(gate["clusters"]["databarn-dr"]["quorate"], true);
        let next = &said["next"]["value"];
        assert_eq!((&next["valid"], &next["clusters"]), (&false.into(), &serde_json::json!({})));
        let line = YAML.lines().position(|line| line.contains("tier: edge")).map(|line| line + 1);
        assert_eq!(next["problems"][0]["line"].as_u64(), line.map(|line| line as u64));
        assert_eq!(next["problems"][0]["path"], "clusters[2].tier");
        // Read again in every plan, and no change by itself (hazards.md F16).
        workspace.plan().expect(0);
        // What is wrong is a warning of the check, not an error that blocks everything else.
        world.cluster("databarn-dr").set_quorum(false);
        workspace.plan().says("Check block assertion failed").says("it has no quorum");
        world.cluster("databarn-dr").set_quorum(true);
        workspace.plan().expect(0).never_says("Check block assertion failed");
        assert_eq!(world.writes(), Vec::<String>::new());
    }
}

/// Where everything of a plan goes, by address.
fn planned(workspace: &Workspace, file: &str) -> std::collections::BTreeMap<String, String> {
    let plan = workspace.show_plan(file);
    let changes = plan["resource_changes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let short = |address: String| address.replace("moxxie_virtual_machine.", "");
    changes.iter().map(|one| (short(text(&one["address"])), text(&one["change"]["after"]["cluster"]))).collect()
}

const SCENARIO_1: &str = r#"
resource "moxxie_virtual_machine" "web" {
  count           = 5
  name            = "web-${count.index + 1}"
  pool            = "production-pool"
  memory          = "4GB"
  disks           = { scsi0 = { size = "8GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}

resource "moxxie_virtual_machine" "db" {
  count  = 2
  name   = "db-${count.index + 1}"
  pool   = "production-pool"
  tags   = ["database"]
  memory = "4GB"
  disks  = { scsi0 = { size = "8GB", storage = "fast" } }
}

resource "moxxie_virtual_machine" "sandbox" {
  name   = "sandbox"
  pool   = "development-pool"
  memory = "2GB"
  disks  = { scsi0 = { size = "4GB", storage = "fast" } }
}

resource "moxxie_virtual_machine" "shop" {
  name      = "shop"
  pool      = "production-pool"
  cluster   = "worldstream-prod"
  disks     = { scsi0 = { size = "8GB", storage = "fast" } }
  migration = { source = "delete", keep_archive = "0s" }
}

data "moxxie_validation" "file" {}

output "notes" { value = data.moxxie_validation.file.not_acted_on }
"#;

/// Scenario 1, as the guide sets it up: tiers; a pool over primary and disaster recovery; replication between the sites, which
/// is declared and not carried out; paths with bandwidth limits.
#[test]
fn scenario_1_multi_provider_production() {
    let replication = "      primary_storage: ceph-pool\n      replication_targets:\n        - { target_cluster: databarn-dr, target_storage: backup-storage, schedule: \"0 2 * * *\", type: async }\n";
    let yaml = YAML.replacen("      primary_storage: ceph-pool\n", replication, 1);
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, &yaml, SCENARIO_1);
        workspace.plan_to("first.tfplan").expect(2).says("9 to add");
        let first = planned(&workspace, "first.tfplan");
        let on = |name: &str| first.iter().filter(|(at, to)| at.starts_with("web") && *to == name).count();
        assert_eq!((on("worldstream-prod"), on("databarn-dr")), (4, 1), "80 to 20: {first:?}");
        assert_ne!(first["db[0]"], first["db[1]"], "databases are spread");
        assert_eq!(first["sandbox"], "hetzner-edge", "development goes where it is cheap, and away from production");
        workspace.apply_plan("first.tfplan").expect(0);
        workspace.plan().expect(0);
        // What is declared and not acted on is said, never silently dropped.
        let notes = workspace.run(&["output", "-json", "notes"]).expect(0);
        assert!(notes.text().contains("replication_targets"), "{}", notes.text());
        // The disaster recovery site takes over: one word of the configuration, over the path's 500 Mbit/s, and back.
        let shop = world.vm("worldstream-prod", "shop");
        world.cluster("worldstream-prod").guest_write(shop.vmid);
        let newest = world.vm("worldstream-prod", "shop").disks[0].newest;
        for (from, to) in [("worldstream-prod", "databarn-dr"), ("databarn-dr", "worldstream-prod")] {
            workspace.edit("main.tf", &format!("cluster   = \"{from}\""), &format!("cluster   = \"{to}\""));
            workspace.plan().expect(2).says("1 to change, 0 to destroy").says("about 4m36s of downtime");
            workspace.apply().expect(0);
            assert!(world.vm(to, "shop").disks[0].newest >= newest);
        }
        assert_eq!(world.litter(), Vec::<String>::new());
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

const SCENARIO_2: &str = r#"
locals {
  places = { eu = "Amsterdam", us = "New York, US", apac = "Singapore", jp = "35.68,139.69", home = "america" }
}

resource "moxxie_virtual_machine" "edge" {
  for_each        = local.places
  name            = "edge-${each.key}"
  pool            = "global-pool"
  location        = each.value
  disks           = { scsi0 = { size = "4GB" } }
  network_devices = { net0 = { network = "app" } }
}

resource "moxxie_virtual_machine" "records" {
  count    = 2
  name     = "records-${count.index + 1}"
  pool     = "customer-data"
  location = "New York"
  disks    = { scsi0 = { size = "4GB" } }
}

# Follow the sun: the desk that is awake has the machine.
resource "moxxie_virtual_machine" "desk" {
  name            = "desk"
  pool            = "global-pool"
  cluster         = "ams"
  disks           = { scsi0 = { size = "4GB" } }
  network_devices = { net0 = { network = "app" } }
  migration       = { source = "delete", keep_archive = "0s" }
}
"#;

/// Scenario 2: one site per continent; location-based policies, residency, and a machine that follows the sun.
#[test]
fn scenario_2_geographic_distribution() {
    let yaml = include_str!("guide/three-continents.yaml");
    for cli in clis() {
        let world = simulator::World::from_yaml(include_str!("guide/three-continents-world.yaml")).expect("a world");
        let world = SimulatedWorld::start(world, simulator::Options::default());
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "platform");
        workspace.write("multi-site.yaml", yaml).write_main(SCENARIO_2);
        workspace.plan_to("first.tfplan").expect(2).says("8 to add").says("geographic");
        let first = planned(&workspace, "first.tfplan");
        for (place, cluster) in [("eu", "ams"), ("us", "nyc"), ("apac", "sin"), ("jp", "sin"), ("home", "nyc")] {
            assert_eq!(first[&format!("edge[\"{place}\"]")], cluster, "{place}: {first:?}");
        }
        for record in ["records[0]", "records[1]"] {
            assert_eq!(first[record], "ams", "customer data stays in NL, wherever it is wanted");
        }
        workspace.apply_plan("first.tfplan").expect(0);
        workspace.plan().expect(0);
        for (from, to, vlan) in [("ams", "nyc", "tag=210"), ("nyc", "sin", "tag=310")] {
            workspace.edit("main.tf", &format!("cluster         = \"{from}\""), &format!("cluster         = \"{to}\""));
            workspace.plan().expect(2).says("1 to change, 0 to destroy");
            workspace.apply().expect(0);
            let desk = world.vm(to, "desk");
            assert!(desk.running && desk.config["net0"].contains(vlan), "{desk:?}");
        }
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

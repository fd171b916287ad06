//! The guide's own file with the real CLI, and `data.moxxie_validation` as a gate.
use std::path::Path;

use harness::{Cli, SimulatedWorld, Workspace, clis};
use serde_json::Value;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const YAML: &str = include_str!("main_job/multi-site.yaml");
const HEAD: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

provider "moxxie" {
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.clusters
}
"#;

fn workspace(world: &SimulatedWorld, cli: &Cli, yaml: &str, rest: &str) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    workspace.write("multi-site.yaml", yaml).write("main.tf", format!("{HEAD}{rest}"));
    workspace
}

#[test]
fn the_guides_file_is_a_config_file_as_it_is() {
    let Some(folder) = std::env::var_os("MOXXIE_REFERENCE") else {
        eprintln!("MOXXIE_REFERENCE is not set: the guide's own file was not looked at");
        return;
    };
    let yaml = std::fs::read_to_string(Path::new(&folder).join("multi-site-example.yaml")).expect("the guide's file");
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
        let workspace = workspace(&world, &cli, &yaml, machines);
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
        // Read again in every plan, and no change by itself (core-review F16).
        workspace.plan().expect(0);
        // What is wrong is a warning of the check, not an error that blocks everything else.
        world.cluster("databarn-dr").set_quorum(false);
        workspace.plan().says("Check block assertion failed").says("it has no quorum");
        world.cluster("databarn-dr").set_quorum(true);
        workspace.plan().expect(0).never_says("Check block assertion failed");
        assert_eq!(world.writes(), Vec::<String>::new());
    }
}

//! Runs of a test file, and state that another address of the provider wrote.
use harness::{SimulatedWorld, clis};

use super::sound;
use crate::support;

/// A pool that takes one machine, and machines by name. The provider block is in the test file.
const MODULE: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }
variable "names" { type = set(string) }

resource "moxxie_virtual_machine" "vm" {
  for_each = var.names
  name     = each.key
  pool     = "production-pool"
  memory   = "1GB"
  disks    = { scsi0 = { size = "1GB", storage = "fast" } }
}
"#;

/// The first run makes a machine, the second removes it, the third makes another one. `terraform test` (from 1.13 on) asks one
/// process for all of it, since the provider block is here.
const RUNS: &str = r#"
provider "moxxie" {
  config_file = "multi-site.yaml"
  clusters    = var.clusters
}

run "one" {
  variables { names = ["first"] }
  assert {
    condition     = moxxie_virtual_machine.vm["first"].cluster != null
    error_message = "it has no cluster"
  }
}

run "two" {
  variables { names = [] }
}

run "three" {
  variables { names = ["second"] }
}
"#;

#[test]
fn the_runs_of_a_test_file_know_nothing_of_each_other() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = support::workspace_of(&world, &cli, "platform", MODULE);
        let yaml = support::yaml();
        let one = yaml.replacen("limits: { max_vms: 150,", "limits: { max_vms: 1,", 1);
        assert_ne!(one, yaml);
        workspace.write("multi-site.yaml", one).write("runs.tftest.hcl", RUNS);
        let run = sound(workspace.run(&["test", "-no-color"])).expect(0);
        assert!(run.text().contains("3 passed, 0 failed"), "{}", run.text());
        world.assert_clean();
    }
}

const POOL: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

provider "moxxie" {
  clusters = var.clusters
}

resource "moxxie_resource_pool" "team" {
  name     = "team"
  clusters = ["worldstream-prod", "databarn-dr"]
}
"#;

#[test]
fn state_that_another_address_of_the_provider_wrote_is_taken_over_by_a_moved_block() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let mut workspace = support::workspace_of(&world, &cli, "platform", POOL);
        sound(workspace.apply()).expect(0);
        // The same provider from another registry or namespace.
        let plugins = workspace.root().parent().expect("a folder").join("plugins").display().to_string();
        let overrides = format!(
            "provider_installation {{\n  dev_overrides {{\n    \"moxxie/moxxie\" = {plugins:?}\n    \"fork/moxxie\" = {plugins:?}\n  }}\n  direct {{}}\n}}\n"
        );
        workspace.write("fork.tfrc", overrides);
        let rc = workspace.root().join("fork.tfrc").display().to_string();
        workspace.env("TF_CLI_CONFIG_FILE", &rc);
        workspace.edit("main.tf", "\"moxxie/moxxie\"", "\"fork/moxxie\"");
        workspace.edit("main.tf", "\"moxxie_resource_pool\" \"team\"", "\"moxxie_resource_pool\" \"crew\"");
        workspace
            .write("moved.tf", "moved {\n  from = moxxie_resource_pool.team\n  to   = moxxie_resource_pool.crew\n}\n");
        let run = sound(workspace.apply()).expect(0).says("0 added, 0 changed, 0 destroyed");
        assert!(!run.text().contains("cannot take over"), "{}", run.text());
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

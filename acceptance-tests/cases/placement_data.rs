//! `data.moxxie_placement` and `data.moxxie_migration_plan` through the real CLI: clusters are known on the first plan and after
//! a policy edit, what exists stays where it is, a new name is no move; a move is shown before anybody makes it.
use std::path::Path;

use harness::{Cli, SimulatedWorld, Workspace, clis};
use serde_json::Value;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const YAML: &str = include_str!("main_job/multi-site.yaml");
const EXAMPLE: &str = include_str!("../../examples/data-sources/moxxie_placement/data-source.tf");

fn workspace(world: &SimulatedWorld, cli: &Cli, rest: &str) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "platform");
    workspace.write("multi-site.yaml", YAML).write_main(rest);
    workspace
}

/// The clusters of a plan's machines by name; "unknown" where core shows "(known after apply)".
fn clusters(workspace: &Workspace, file: &str) -> Vec<(String, String)> {
    let plan = workspace.show_plan(file);
    let changes = plan["resource_changes"].as_array().cloned().unwrap_or_default();
    let machines = changes.iter().filter(|change| change["type"] == "moxxie_virtual_machine");
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let mut all: Vec<_> =
        machines.map(|one| (text(&one["change"]["after"]["name"]), text(&one["change"]["after"]["cluster"]))).collect();
    all.sort();
    all
}

#[test]
fn a_joint_placement_is_known_in_every_plan_and_moves_nobody() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, EXAMPLE);
        workspace.plan_to("first.tfplan").expect(2).says("4 to add");
        let first = clusters(&workspace, "first.tfplan");
        assert!(first.len() == 3 && first.iter().all(|(_, cluster)| cluster != "unknown"), "{first:?}");
        workspace.apply_plan("first.tfplan").expect(0);
        world.advance(std::time::Duration::from_secs(15));
        workspace.plan().expect(0);
        // Another policy: the pool changes in the same run, every cluster is known all the same, and nobody moves.
        workspace.edit("main.tf", "worldstream-prod = 60, databarn-dr = 40", "worldstream-prod = 0, databarn-dr = 100");
        workspace.plan_to("policy.tfplan").expect(2).says("0 to add, 1 to change");
        assert_eq!(clusters(&workspace, "policy.tfplan"), first);
        workspace.apply_plan("policy.tfplan").expect(0);
        // A new machine follows the new policy; a renamed one stays.
        workspace
            .edit(
                "main.tf",
                "      cache  = { memory = \"4GB\" }",
                "      cash   = { memory = \"4GB\" }\n      late   = { memory = \"4GB\" }",
            )
            .edit(
                "main.tf",
                "      memory = machine.memory\n",
                "      memory = machine.memory\n      former_names = name == \"cash\" ? [\"cache\"] : []\n",
            );
        workspace.write("moved.tf", "moved {\n  from = moxxie_virtual_machine.fleet[\"cache\"]\n  to   = moxxie_virtual_machine.fleet[\"cash\"]\n}\n");
        workspace.plan_to("late.tfplan").expect(2).says("1 to add, 1 to change");
        let late = clusters(&workspace, "late.tfplan");
        let of = |all: &[(String, String)], name: &str| {
            all.iter().find(|(one, _)| one == name).map(|(_, cluster)| cluster.clone())
        };
        assert_eq!(of(&late, "cash"), of(&first, "cache"), "a new name is no move");
        assert_eq!(of(&late, "late").as_deref(), Some("databarn-dr"));
        workspace.apply_plan("late.tfplan").expect(0);
        world.advance(std::time::Duration::from_secs(15));
        workspace.plan().expect(0);
        // A site goes dark: nothing moves for that, whatever the policy says by now.
        world.wait(world.cluster("worldstream-prod").set_dark(true));
        workspace.plan_to("dark.tfplan").says("A cluster that doesn't answer may hold machines already");
        assert_eq!(clusters(&workspace, "dark.tfplan"), late);
        let changed = workspace.show_plan("dark.tfplan");
        let all = changed["resource_changes"].as_array().cloned().unwrap_or_default();
        let machines = all.iter().filter(|one| one["type"] == "moxxie_virtual_machine");
        assert!(
            machines.clone().all(|one| one["change"]["actions"][0] == "no-op"),
            "{:?}",
            machines.collect::<Vec<_>>()
        );
        world.wait(world.cluster("worldstream-prod").set_dark(false));
        // A machine that fits nowhere is an error, or listed.
        workspace.edit(
            "main.tf",
            "late   = { memory = \"4GB\" }",
            "late   = { memory = \"4GB\" }\n      huge   = { memory = \"900TB\" }",
        );
        workspace.plan().expect(1).says("No cluster can take huge").says("Smallest change that would help");
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

const PLANS: &str = r#"
resource "moxxie_virtual_machine" "shop" {
  name            = "shop"
  pool            = "production-pool"
  cluster         = "worldstream-prod"
  disks           = { scsi0 = { size = "8GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}
"#;

const MOVES: &str = r#"
data "moxxie_migration_plan" "dr" {
  machine = "shop"
  target  = "databarn-dr"
}

data "moxxie_migration_plan" "edge" {
  machine      = "worldstream-prod/100"
  target       = "hetzner-edge"
  max_downtime = "1s"
}

output "dr" { value = data.moxxie_migration_plan.dr }
output "edge" { value = data.moxxie_migration_plan.edge }
"#;

#[test]
fn a_migration_plan_says_what_a_move_would_be_and_touches_nothing() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let machines = workspace(&world, &cli, PLANS);
        machines.apply().expect(0);
        world.advance(std::time::Duration::from_secs(15));
        let vmid = world.vm("worldstream-prod", "shop").vmid;
        let moves = workspace(&world, &cli, &MOVES.replace("/100", &format!("/{vmid}")));
        let before = world.writes().len();
        moves.apply().expect(0);
        assert_eq!(world.writes().len(), before, "{:?}", world.writes());
        let output = |name: &str| -> Value {
            let said = moves.run(&["output", "-json", name]).expect(0);
            serde_json::from_str(&said.stdout).expect("JSON")
        };
        let dr = output("dr");
        assert_eq!((&dr["feasible"], &dr["bytes"]), (&true.into(), &(8_u64 << 30).into()));
        assert_eq!(dr["mappings"]["net0"]["to"], "vmbr0 vlan 220");
        assert!(dr["downtime_seconds"].as_u64() > Some(0) && dr["steps"].as_array().is_some_and(|s| s.len() > 10));
        let edge = output("edge");
        assert_eq!(edge["feasible"], false);
        let refused: Vec<&str> = edge["checks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|check| check["ok"] == false)
            .filter_map(|check| check["id"].as_str())
            .collect();
        for id in ["placement", "transport_same", "max_downtime"] {
            assert!(refused.contains(&id), "{id}: {refused:?}");
        }
        moves.edit("main.tf", "machine = \"shop\"", "machine = \"nobody\"");
        moves.plan().expect(1).says("no cluster has a virtual machine of that name");
        machines.destroy().expect(0);
        world.assert_clean();
    }
}

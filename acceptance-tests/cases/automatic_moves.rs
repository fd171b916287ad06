//! Moves that no configuration asks for, through the real CLI: a cluster drains, a rule is broken; the plan shows it, apply
//! moves, and then the plan is empty.
use std::path::Path;

use harness::{Cli, SimulatedWorld, Workspace, clis};
use simulator::GuestSpec;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const YAML: &str = include_str!("main_job/multi-site.yaml");
const MAIN: &str = r#"
resource "moxxie_virtual_machine" "app" {
  count           = 3
  name            = "app-${count.index + 1}"
  pool            = "production-pool"
  memory          = "2GB"
  disks           = { scsi0 = { size = "4GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
  migration       = { source = "delete", keep_archive = "0s" }
}
"#;

/// The federation with another policy of production-pool, and with worldstream-prod draining or not.
fn yaml(draining: bool, policy: &str) -> String {
    let drain = if draining { "    tier: primary\n    draining: true\n" } else { "    tier: primary\n" };
    let weights = "cluster_weights: { worldstream-prod: 80, databarn-dr: 20 }";
    YAML.replacen("    tier: primary\n", drain, 1)
        .replacen(weights, "cluster_weights: { worldstream-prod: 100, databarn-dr: 0 }", 1)
        .replacen("    limits: { max_vms: 150", &format!("{policy}    limits: {{ max_vms: 150"), 1)
}

fn workspace(world: &SimulatedWorld, cli: &Cli) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    workspace.write_main(MAIN).write("multi-site.yaml", yaml(false, ""));
    workspace
}

fn clusters(workspace: &Workspace) -> Vec<String> {
    let state = workspace.state();
    state.values().map(|vm| vm["cluster"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Names of new guests are late in the overview.
fn settle(world: &SimulatedWorld) {
    world.advance(std::time::Duration::from_secs(15));
}

#[test]
fn a_drain_and_a_broken_rule_move_machines_and_then_the_plan_is_empty() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli);
        workspace.apply().expect(0);
        let (ws, db) = ("worldstream-prod", "databarn-dr");
        assert_eq!(clusters(&workspace), [ws, ws, ws]);
        // By hand, in no pool: nobody will move it.
        let config = [("name", "legacy"), ("memory", "512")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let legacy = GuestSpec { vmid: 9000, node: "ws1".into(), config: config.into(), pool: None, running: true };
        world.cluster(ws).create_vm(&legacy).expect("a machine made by hand");
        settle(&world);
        workspace.plan().expect(0);

        // Nobody opted in: advice, and no difference.
        workspace.write("multi-site.yaml", yaml(true, ""));
        let advice = workspace.plan().expect(0).says("app-1 would move from worldstream-prod to databarn-dr");
        advice.says("9000 legacy (in no pool of this federation)").says("automatic_moves lacks \"drain\"");

        workspace.write("multi-site.yaml", yaml(true, "    automatic_moves: [drain]\n    max_moves_per_apply: 2\n"));
        workspace
            .plan_to("drain.tfplan")
            .expect(2)
            .says("0 to add, 2 to change, 0 to destroy")
            .says("app-3 waits to move")
            .says("max_moves_per_apply = 2: first app-1, app-2");
        // What was planned is done, even where the drain is called off meanwhile.
        workspace.apply_plan("drain.tfplan").expect(0);
        assert_eq!(clusters(&workspace), [db, db, ws]);
        settle(&world);
        workspace.apply().expect(0).says("1 changed");
        settle(&world);
        assert_eq!(clusters(&workspace), [db, db, db]);
        workspace.plan().expect(0).never_says("app-1");

        // The rule of residence is changed, and mended within the bound.
        let policy = "    automatic_moves: [violations]\n    max_moves_per_apply: 3\n";
        let resides = "rules:\n        - { type: location, target: cluster, operator: must, value: Amsterdam }\n";
        workspace.write("multi-site.yaml", yaml(false, policy).replacen("rules:\n", resides, 1));
        workspace.plan().expect(2).says("3 to change").says("location cluster must \"Amsterdam\"");
        workspace.apply().expect(0);
        settle(&world);
        assert_eq!(clusters(&workspace), [ws, ws, ws]);
        workspace.plan().expect(0);
        for copies in ["app-1", "app-2", "app-3"] {
            assert!(world.vm(ws, copies).running);
        }
        assert_eq!(world.litter(), Vec::<String>::new());
        world.cluster(ws).remove_vm(9000);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

//! A resource pool whose create is killed is one pool after the next apply.
use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};

use super::sound;
use crate::support;

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
  clusters = ["worldstream-prod", "databarn-dr", "hetzner-edge"]
  limits   = { max_vms = 20 }
}
"#;

fn workspace(world: &SimulatedWorld, cli: &Cli) -> Workspace {
    support::workspace_of(world, cli, "platform", POOL)
}

#[test]
fn a_pool_whose_create_is_killed_at_any_call_is_one_pool_after_the_next_apply() {
    let clis = clis();
    // Before its first write a create is nothing.
    let calls = {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &clis[0]);
        workspace.apply().expect(0);
        let all = world.requests();
        let first = all.iter().position(|call| call.method != "GET").expect("a create writes");
        first as u64..=all.len() as u64
    };
    let mut begun = 0;
    for (call, executed) in calls.clone().flat_map(|call| [(call, true), (call, false)]) {
        let cli = &clis[usize::try_from(call).unwrap_or(0) % clis.len()];
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, cli);
        let killed = workspace.killed_at(&world, &["apply", "-input=false", "-auto-approve"], call, executed, || {});
        let at = match killed {
            Killed::At(hit) => {
                format!("{} {} {}, executed: {executed}", hit.call.cluster, hit.call.method, hit.call.path)
            }
            Killed::Never => continue,
        };
        let written: Vec<_> = world
            .clusters()
            .iter()
            .filter_map(|cluster| cluster.pools().get("team").map(|pool| pool.0.clone()))
            .collect();
        begun += usize::from(!written.is_empty() && written.len() < 3);
        let again = sound(workspace.apply());
        assert_eq!(again.code, 0, "killed at {at}: {}", again.text());
        sound(workspace.plan()).expect(0);
        let comments: Vec<_> = world
            .clusters()
            .iter()
            .filter_map(|cluster| cluster.pools().get("team").map(|pool| pool.0.clone()))
            .collect();
        assert_eq!(comments.len(), 3, "killed at {at}");
        assert!(comments.iter().all(|comment| *comment == comments[0]), "killed at {at}: {comments:?}");
        workspace.destroy().expect(0);
        world.assert_clean();
    }
    assert!(begun >= 2, "the kills of the calls {calls:?} left {begun} pools half made");
}

#[test]
fn configuration_that_the_cli_generates_for_a_pool_plans_nothing() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let team = workspace(&world, &cli);
        let policy = "  placement_policy = {\n    strategy = \"balanced\"\n    cluster_weights = { databarn-dr = 20, worldstream-prod = 80 }\n    \
                      rules = [{ type = \"affinity\", target = \"cluster\", operator = \"should\", value = \"worldstream-prod\" }]\n  }\n";
        team.edit(
            "main.tf",
            "  limits   = { max_vms = 20 }\n",
            &format!("  limits = {{ max_vms = 20, max_memory = \"2TB\" }}\n{policy}"),
        );
        team.apply().expect(0);
        drop(team);
        world.clear_requests();
        let fresh = workspace(&world, &cli);
        let main = std::fs::read_to_string(fresh.root().join("main.tf")).expect("the configuration");
        let main = main.split("resource \"moxxie_resource_pool\"").next().unwrap_or_default().to_owned();
        let import = "import {\n  to = moxxie_resource_pool.found\n  id = \"team\"\n}\n";
        fresh.write("main.tf", main + import);
        let out = "-generate-config-out=found.tf";
        sound(fresh.run(&["plan", "-input=false", "-detailed-exitcode", out, "-out=the.tfplan"]))
            .expect(2)
            .says("1 to import, 0 to add, 0 to change, 0 to destroy");
        sound(fresh.apply_plan("the.tfplan")).expect(0);
        assert_eq!(world.writes(), Vec::<String>::new());
        sound(fresh.plan()).expect(0);
    }
}

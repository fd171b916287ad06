//! A resource pool whose create is killed is one pool after the next apply.
use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};

use crate::{sound, support};

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

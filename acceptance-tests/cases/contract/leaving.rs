//! A cluster leaves the federation only when nothing of ours is on it, also what no pool holds and another workspace made.
use std::path::Path;

use harness::{Cli, Kind, SimulatedWorld, Workspace, clis};
use serde_json::{Value, json};
use simulator::{GuestSpec, Options, World};

use super::sound;
use crate::support::{PROVIDER, by_hand, configure, instances, workspace};

const PROD: &str = "worldstream-prod";
const PLATFORM: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}
variable "clusters" { type = any }
provider "moxxie" {
  clusters = var.clusters
}
resource "moxxie_cluster" "prod" {
  name            = "worldstream-prod"
  storage_classes = { fast = "ceph-pool" }
  networks        = { app = { bridge = "vmbr0", vlan = 120 } }
}
"#;

fn world() -> SimulatedWorld {
    let mut world = World::three_sites().expect("the world of three sites");
    world.clusters.values_mut().for_each(|cluster| cluster.pools.clear());
    SimulatedWorld::start(world, Options::default())
}

/// Runs something in a platform team's workspace, which is kept in `state` between times: a workspace holds a place among the
/// CLI tests while it lives.
fn platform(world: &SimulatedWorld, cli: &Cli, state: &mut Vec<u8>, run: impl FnOnce(&Workspace)) {
    let team = world.workspace(cli, Path::new(PROVIDER), "platform");
    team.write("main.tf", PLATFORM);
    if !state.is_empty() {
        team.write("terraform.tfstate", &state);
    }
    run(&team);
    *state = std::fs::read(team.root().join("terraform.tfstate")).unwrap_or_default();
}

fn pinned(more: Value) -> Value {
    let mut vm = json!({ "cluster": PROD });
    vm.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    json!({ "lone": vm })
}

#[test]
fn a_machine_in_no_pool_keeps_its_cluster_from_leaving() {
    for cli in clis() {
        let world = world();
        let mut state = Vec::new();
        platform(&world, &cli, &mut state, |team| drop(sound(team.apply()).expect(0)));
        // Another workspace enrols it no second time, and is told what to type with the CLI that it uses.
        platform(&world, &cli, &mut Vec::new(), |team| {
            let name = if cli.kind == Kind::OpenTofu { "tofu" } else { "terraform" };
            let typed =
                format!("How: {name} import moxxie_cluster.<label> {PROD}, or an import block with id = \"{PROD}\"");
            drop(sound(team.apply()).expect(1).says(&typed).says("nothing was touched"));
        });
        // What nobody manages keeps nobody.
        world.cluster(PROD).create_vm(&by_hand(800, "ws1", "somebody-s", 512, None)).expect("a guest");

        let lone = workspace(&world, &cli, "platform", &pinned(json!({})));
        sound(lone.apply()).expect(0);
        sound(lone.plan()).expect(0);
        let vm = world.vm(PROD, "lone");
        let held = format!("virtual machine {PROD}/{} (lone)", vm.vmid);
        let files = lone.files();
        drop(lone);
        // A copy by hand has its notes, and is nobody.
        let mut config = vm.config.clone();
        config.insert("name".into(), "copy".into());
        config.insert("scsi0".into(), "ceph-pool:8".into());
        config.insert("smbios1".into(), "uuid=11111111-2222-4333-8444-555555555555".into());
        let copy = GuestSpec { vmid: 801, node: "ws1".into(), config, pool: None, running: false };
        world.cluster(PROD).create_vm(&copy).expect("a copy");

        platform(&world, &cli, &mut state, |team| {
            world.clear_requests();
            let refused = sound(team.destroy()).expect(1).says("it is in use").says(&held);
            let refused = refused.says("How: refer to it as moxxie_cluster.<label>.name");
            drop(refused.never_says("801").never_says("800"));
            assert_eq!(world.writes(), Vec::<String>::new());
        });
        // One that was taken in by an import says so from its first change on.
        let imported = workspace(&world, &cli, "platform", &pinned(json!({ "tags": ["mine"] })));
        let old = files.iter().find(|(path, _)| path.ends_with("terraform.tfstate")).expect("a state");
        world.cluster(PROD).set_config(vm.vmid, "description", None);
        imported.write("terraform.tfstate", &old.1);
        sound(imported.apply()).expect(0);
        sound(imported.plan()).expect(0);
        assert_eq!(instances(&imported)["lone"].uuid, vm.uuid.clone().unwrap_or_default());
        let files = imported.files();
        drop(imported);
        platform(&world, &cli, &mut state, |team| drop(sound(team.destroy()).expect(1).says(&held)));
        // Gone with its machine.
        let last = workspace(&world, &cli, "platform", &pinned(json!({ "tags": ["mine"] })));
        last.write(
            "terraform.tfstate",
            &files.iter().find(|(path, _)| path.ends_with("terraform.tfstate")).expect("it").1,
        );
        configure(&last, &json!({}));
        sound(last.apply()).expect(0);
        drop(last);
        platform(&world, &cli, &mut state, |team| drop(sound(team.destroy()).expect(0)));
        assert_eq!(world.machines(), [format!("{PROD}/copy"), format!("{PROD}/somebody-s")]);
        let (left, _) = world.cluster(PROD).pools()["moxxie"].clone();
        assert!(!left.contains("[moxxie"), "{left}");
    }
}

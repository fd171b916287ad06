//! What happens when `timeouts` is over: it is said, what was waited for goes on, and the next apply takes it up.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use harness::{Cli, SimulatedWorld, Workspace, clis};
use simulator::GuestSpec;

use crate::support::{self, PROVIDER, sound};

const MAIN: &str = r#"
resource "moxxie_virtual_machine" "web" {
  name            = "web-1"
  cluster         = "worldstream-prod"
  pool            = "production-pool"
  memory          = "2GB"
  disks           = { scsi0 = { size = "4GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
  clone           = { template = "golden" }
  reboot_policy   = "reboot"
  migration       = { source = "delete", keep_archive = "0s", shutdown_timeout = "2h" }
  timeouts        = { create = "1h", update = "1h" }
}
"#;
const HOUR: Duration = Duration::from_secs(3600);
const OVER: &str = "The longest time that `timeouts` allows is over";

/// A federation with a template, and a workspace whose time for `step` is short.
fn short(cli: &Cli, step: &str) -> (SimulatedWorld, Workspace) {
    let world = SimulatedWorld::three_sites_at(60.0);
    let config = [("name", "golden"), ("template", "1"), ("memory", "1024"), ("scsi0", "ceph-pool:2")];
    let config: BTreeMap<_, _> = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let pool = Some("production-pool".to_owned());
    let guest = GuestSpec { vmid: 9000, node: "ws1".to_owned(), config, pool, running: false };
    world.cluster("worldstream-prod").create_vm(&guest).expect("room for the template");
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    workspace.write("multi-site.yaml", support::yaml()).write_main(MAIN);
    workspace.edit("main.tf", &format!("{step} = \"1h\""), &format!("{step} = \"2s\""));
    (world, workspace)
}

fn patient(workspace: &Workspace) {
    workspace.edit("main.tf", "\"2s\"", "\"1h\"");
}

#[track_caller]
fn nothing_is_left(world: &SimulatedWorld, workspace: &Workspace) {
    sound(workspace.destroy()).expect(0);
    assert_eq!(world.machines(), ["worldstream-prod/golden"]);
    assert_eq!(world.litter(), Vec::<String>::new());
}

#[test]
fn a_create_whose_time_is_over_says_so_and_the_next_apply_takes_it_up() {
    for cli in clis() {
        let (world, workspace) = short(&cli, "create");
        let cluster = world.cluster("worldstream-prod");
        cluster.set_clone_time(HOUR);
        let late = sound(workspace.apply()).expect(1);
        drop(late.says("Unable to create virtual machine web-1").says("it goes on").says(OVER));
        assert!(workspace.state().is_empty(), "nothing is tainted");
        drop(sound(workspace.plan()).expect(2).says("1 to add"));
        // Still under way, and still too long.
        drop(sound(workspace.apply()).expect(1).says(OVER).says("the copy of the template goes on"));
        patient(&workspace);
        world.advance(HOUR);
        sound(workspace.apply()).expect(0);
        assert_eq!(cluster.tasks_of(9000).into_iter().filter(|kind| kind == "qmclone").count(), 1);
        assert_eq!(world.machines(), ["worldstream-prod/golden", "worldstream-prod/web-1"]);
        assert!(world.vm("worldstream-prod", "web-1").running);
        sound(workspace.plan()).expect(0);
        nothing_is_left(&world, &workspace);
    }
}

#[test]
fn an_update_whose_time_is_over_says_so_and_what_it_waited_for_goes_on() {
    for cli in clis() {
        let (world, workspace) = short(&cli, "update");
        sound(workspace.apply()).expect(0);
        let cluster = world.cluster("worldstream-prod");
        let vmid = world.vm("worldstream-prod", "web-1").vmid;
        cluster.set_shutdown_time(vmid, HOUR);
        workspace.edit("main.tf", "\"2GB\"", "\"3GB\"");
        let late = sound(workspace.apply()).expect(1).says("it goes on").says(OVER);
        drop(late.says("everything is written; memory wait for a restart"));
        let vm = world.vm("worldstream-prod", "web-1");
        assert!(vm.running && vm.pending.contains("memory"), "{vm:?}");
        drop(sound(workspace.plan()).expect(2).says("memory is written"));
        // The restart ends by itself, and nothing is left to do.
        world.advance(HOUR);
        let vm = world.vm("worldstream-prod", "web-1");
        assert!(vm.running && vm.config["memory"] == "3072", "{vm:?}");
        sound(workspace.plan()).expect(0);
        assert_eq!(cluster.tasks_of(vmid).into_iter().filter(|kind| kind == "qmreboot").count(), 1);
        cluster.set_shutdown_time(vmid, Duration::from_secs(3));
        nothing_is_left(&world, &workspace);
    }
}

#[test]
fn a_move_whose_time_is_over_says_so_and_the_next_apply_makes_it() {
    for cli in clis() {
        let (world, workspace) = short(&cli, "update");
        sound(workspace.apply()).expect(0);
        let cluster = world.cluster("worldstream-prod");
        let vm = world.vm("worldstream-prod", "web-1");
        let uuid = vm.uuid.clone().expect("a UUID");
        cluster.set_shutdown_time(vm.vmid, HOUR);
        workspace.edit("main.tf", "cluster         = \"worldstream-prod\"", "cluster         = \"databarn-dr\"");
        let late = sound(workspace.apply()).expect(1);
        drop(late.says("Unable to move virtual machine web-1").says("it goes on").says(OVER));
        assert_eq!(world.running_copies(&uuid).len(), 1);
        // The guest is off by then, which nobody undoes any more.
        world.advance(HOUR);
        assert!(world.running_copies(&uuid).len() <= 1);
        let written = world.newest_written(&uuid);
        drop(sound(workspace.plan()).expect(2));
        patient(&workspace);
        cluster.set_shutdown_time(vm.vmid, Duration::from_secs(3));
        sound(workspace.apply()).expect(0);
        let running = world.running_copies(&uuid);
        assert_eq!(running.iter().map(|vm| vm.cluster.as_str()).collect::<Vec<_>>(), ["databarn-dr"]);
        assert!(world.newest_held(&uuid) >= written);
        sound(workspace.plan()).expect(0);
        nothing_is_left(&world, &workspace);
    }
}

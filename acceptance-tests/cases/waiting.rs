//! Changes that a running machine can't take, a configuration that somebody else holds, and a machine that somebody made a template.
use std::path::Path;

use crate::support::{self, PROVIDER, sound};
use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};
use simulator::{Action, Nth, Rule, VmSnapshot};

const MAIN: &str = r#"
resource "moxxie_virtual_machine" "api" {
  name    = "api"
  pool    = "production-pool"
  cluster = "worldstream-prod"
  memory  = "2GB"
  cpu     = { cores = 1 }
  started = true
  disks           = { scsi0 = { size = "8GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
  migration       = { source = "delete", keep_archive = "0s" }
}
"#;

const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];

fn made(world: &SimulatedWorld, cli: &Cli) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    workspace.write("multi-site.yaml", support::yaml()).write_main(MAIN);
    workspace.apply().expect(0);
    workspace
}

fn api(world: &SimulatedWorld) -> VmSnapshot {
    world.vm("worldstream-prod", "api")
}

#[test]
fn a_change_and_a_stop_in_one_apply_leave_nothing_waiting() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = made(&world, &cli);
        workspace.edit("main.tf", "memory  = \"2GB\"", "memory  = \"4GB\"").edit(
            "main.tf",
            "started = true",
            "started = false",
        );
        sound(workspace.apply()).expect(0);
        let off = api(&world);
        assert!(!off.running && off.pending.is_empty() && off.config["memory"] == "4096", "{off:?}");
        sound(workspace.plan()).expect(0);
        // So that it can move.
        workspace.edit("main.tf", "worldstream-prod", "databarn-dr");
        sound(workspace.apply()).expect(0);
        let moved = world.vm("databarn-dr", "api");
        assert!(!moved.running && moved.config["memory"] == "4096", "{moved:?}");
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn what_waited_before_a_stop_is_written_again_once_the_machine_is_off() {
    let clis = clis();
    let waits = |cli: &Cli| {
        let world = SimulatedWorld::three_sites();
        let workspace = made(&world, cli);
        workspace.edit("main.tf", "memory  = \"2GB\"", "memory  = \"4GB\"");
        workspace.apply().expect(0);
        assert!(api(&world).pending.contains("memory"));
        workspace.edit("main.tf", "started = true", "started = false");
        (world, workspace)
    };
    let calls = {
        let (world, workspace) = waits(&clis[0]);
        world.clear_requests();
        sound(workspace.apply()).expect(0);
        let all = world.requests();
        let first = all.iter().position(|call| call.method != "GET").expect("it writes") as u64;
        first..=all.len() as u64
    };
    let (mut killed, mut owed) = (0, 0);
    for (call, executed) in calls.flat_map(|call| [(call, true), (call, false)]) {
        let (world, workspace) = waits(&clis[usize::try_from(call).unwrap_or(0) % clis.len()]);
        let Killed::At(hit) = workspace.killed_at(&world, &APPLY, call, executed, || {}) else { continue };
        killed += 1;
        let at = format!("killed at {} {}, executed: {executed}", hit.call.method, hit.call.path);
        // The shutdown may be under way still.
        world.advance(std::time::Duration::from_secs(10));
        if !api(&world).running && !api(&world).pending.is_empty() {
            owed += 1;
            drop(sound(workspace.plan()).expect(2).says("memory waits, and the machine is off: apply writes it again"));
        }
        let run = sound(workspace.apply());
        assert_eq!(run.code, 0, "{at}: {}", run.text());
        let off = api(&world);
        assert!(!off.running && off.pending.is_empty() && off.config["memory"] == "4096", "{at}: {off:?}");
        sound(workspace.plan()).expect(0);
    }
    assert!(killed >= 4 && owed >= 2, "{killed} kills, {owed} with something that waits");
}

#[test]
fn a_move_takes_along_what_waits_where_that_is_accepted() {
    for (cli, on_boot) in clis().iter().flat_map(|cli| [(cli, "true"), (cli, "false")]) {
        let world = SimulatedWorld::three_sites();
        let workspace = made(&world, cli);
        workspace.edit("main.tf", "started = true", &format!("on_boot = {on_boot}"));
        sound(workspace.apply()).expect(0);
        world.cluster("worldstream-prod").change(api(&world).vmid, "numa", "1").expect("it waits");
        workspace.edit("main.tf", "worldstream-prod", "databarn-dr");
        drop(sound(workspace.apply()).expect(1).says("changes that wait for its next start: numa").says("restart it"));
        let accepted = r#"keep_archive = "0s", accept_loss = ["pending-changes"]"#;
        workspace.edit("main.tf", r#"keep_archive = "0s""#, accepted);
        sound(workspace.apply()).expect(0);
        let moved = world.vm("databarn-dr", "api");
        assert!(moved.running && moved.config["numa"] == "1", "on_boot = {on_boot}: {moved:?}");
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_configuration_that_somebody_else_holds_is_written_once_it_is_free() {
    let held = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout";
    let refused = || Action::Refuse(500, held.into());
    let failed = || Action::FailTask { message: held.into(), late: false };
    for (cli, action) in clis().iter().flat_map(|cli| [(cli, refused()), (cli, failed())]) {
        let world = SimulatedWorld::three_sites();
        let workspace = made(&world, cli);
        workspace.edit("main.tf", "memory  = \"2GB\"", "memory  = \"2GB\"\n  tags = [\"web\"]");
        let rule = world.fault(Rule::on("POST", "/nodes/*/qemu/*/config", action).nth(Nth::Only(1)));
        sound(workspace.apply()).expect(0);
        assert!(world.fault_hits(rule) >= 2, "it was made again");
        assert_eq!(api(&world).config["tags"], "web");
        // The same of a write in a move: it is not taken back for that.
        workspace.edit("main.tf", "worldstream-prod", "databarn-dr");
        let rule = world.fault(Rule::on("PUT", "/nodes/*/qemu/*/config", refused()).nth(Nth::Only(1)));
        sound(workspace.apply()).expect(0);
        assert!(world.fault_hits(rule) >= 2, "it was made again");
        assert!(world.vm("databarn-dr", "api").running);
        sound(workspace.plan()).expect(0);
    }
}

#[test]
fn a_machine_that_somebody_made_a_template_is_called_one() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = made(&world, &cli);
        let vmid = api(&world).vmid;
        let cluster = world.cluster("worldstream-prod");
        cluster.stop(vmid);
        cluster.set_config(vmid, "template", Some("1"));
        let words = "somebody made it a template";
        drop(sound(workspace.plan()).says(words).never_says("moved away"));
        workspace.edit("main.tf", "memory  = \"2GB\"", "memory  = \"4GB\"");
        world.clear_requests();
        drop(sound(workspace.apply()).expect(1).says(words).never_says("moved away"));
        assert_eq!(world.writes(), Vec::<String>::new());
        cluster.set_config(vmid, "template", None);
        sound(workspace.apply()).expect(0);
        assert!(api(&world).running);
    }
}

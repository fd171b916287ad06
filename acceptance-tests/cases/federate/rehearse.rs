//! `federate rehearse`: a machine that nobody needs goes the whole way, with kills, and leaves nothing; what can't work is the row that
//! fails.
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::SimulatedWorld;
use serde_json::{Value, json};
use simulator::{GuestSpec, Options, Pace, World};

use super::{Desk, YAML};
use crate::rights::guide;

const FROM: &str = "worldstream-prod";
const TO: &str = "databarn-dr";
const NAME: &str = "moxxie-rehearsal";
const LINE: &str = "federate rehearse --from worldstream-prod --to databarn-dr -p production-pool";

/// A world whose time goes by, so that a step lasts, and a desk with the token of the guide's app team.
fn app(edit: impl FnOnce(&mut World)) -> (SimulatedWorld, Desk) {
    let team = guide::team(&["App team"]);
    let mut world = team.join(World::three_sites().expect("the world"), None);
    edit(&mut world);
    let world = SimulatedWorld::start(world, Options { clock: Pace::Wall { scale: 20.0 }, ..Options::default() });
    let desk = Desk { env: world.tokens(&team.token), ..Desk::new(&world, YAML) };
    (world, desk)
}

/// Rows whose description begins so.
fn rows<'a>(report: &'a Value, what: &str) -> Vec<&'a Value> {
    let all = report["rows"].as_array().expect("rows");
    all.iter().filter(|row| row["what"].as_str().is_some_and(|found| found.starts_with(what))).collect()
}

fn results<'a>(report: &'a Value, what: &str) -> Vec<&'a str> {
    rows(report, what).into_iter().map(|row| row["result"].as_str().expect("a word")).collect()
}

fn seen<'a>(report: &'a Value, what: &str) -> Vec<&'a str> {
    rows(report, what).into_iter().map(|row| row["seen"].as_str().expect("text")).collect()
}

/// A machine of somebody else's that has the name, or the pool, but not the notes.
fn stranger(world: &SimulatedWorld, vmid: u32, name: &str) {
    let config =
        [("name", name), ("memory", "512"), ("scsi0", "ceph-pool:1"), ("description", "mine, moxxie-rehearsal {}")];
    let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let guest = GuestSpec { vmid, node: "ws1".into(), config, pool: Some("production-pool".into()), running: true };
    world.cluster(FROM).create_vm(&guest).expect("a stranger");
}

#[test]
fn a_rehearsal_with_the_app_teams_rights_proves_moves_and_leaves_nothing() {
    let (world, desk) = app(|_| {});
    stranger(&world, 500, "shop");
    world.clear_requests();
    let said = desk.line(&format!("{LINE} --json")).code(0);
    let report = said.json();
    assert_eq!(report["holds"], true, "{report:#}");
    assert_eq!(report["versions"].as_object().map(serde_json::Map::len), Some(2), "{report:#}");
    assert_eq!(results(&report, "is killed (SIGKILL)"), ["held"; 3], "{report:#}");
    assert_eq!(results(&report, "moves it by backup-restore"), ["held"; 2], "{report:#}");
    assert_eq!(results(&report, "is the same machine"), ["held"; 2], "{report:#}");
    let fence = seen(&report, "the copy that it leaves is fenced").concat();
    assert!(fence.contains("template") && fence.contains("protection"), "{fence}");
    let odd = seen(&report, "gives it odd sizes").concat();
    assert!(odd.contains("scsi3 131M") && !odd.contains("without") && odd.contains('K'), "{odd}");
    assert!(seen(&report, "moves it by").concat().contains("by 4 calls, 3 of them killed"), "{report:#}");
    let beyond = report["not_proved"].to_string();
    assert!(beyond.contains("qm unlock VMID") && beyond.contains("sha256sum"), "{beyond}");
    assert_eq!(world.machines(), [format!("{FROM}/shop")]);
    assert_eq!(world.litter(), Vec::<String>::new());
    let touched = world.writes().into_iter().find(|call| call.contains("/qemu/500"));
    assert_eq!(touched, None, "somebody else's machine was touched");
    // The kills were real: the operation was taken over each time.
    assert!(said.stderr.contains("held      is killed"), "{}", said.stderr);
}

#[test]
fn a_transfer_storage_that_is_two_is_the_row_that_fails_and_nothing_is_left() {
    let (world, desk) = app(|world| {
        let theirs = world.clusters.get_mut(TO).expect("the cluster");
        theirs.storages.get_mut("transfer").expect("the storage").export = Some("/srv/another".into());
    });
    let said = desk.line(LINE).code(1);
    said.says("FAILED").says("checks of a move by backup-restore").says("transport_same").says("not tried");
    let report = desk.line(&format!("{LINE} --json")).code(1).json();
    assert_eq!(results(&report, "checks of a move by backup-restore"), ["failed"], "{report:#}");
    assert_eq!(results(&report, "moves it by backup-restore"), ["not_tried"], "{report:#}");
    assert_eq!(results(&report, "removes everything it made"), ["held"], "{report:#}");
    assert_eq!((world.machines(), world.litter()), (Vec::new(), Vec::new()));
}

/// Waits until it holds, and says what was waited for where it never does.
fn until(what: &str, child: &mut Child, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(child.try_wait().expect("a process").is_none(), "it ended before {what}");
        assert!(begun.elapsed() < Duration::from_secs(300), "it never came to {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_rehearsal_that_was_killed_is_removed_by_the_next_one() {
    let (world, desk) = app(|_| {});
    let start = || {
        desk.command(&LINE.split(' ').skip(1).collect::<Vec<_>>()).stderr(Stdio::null()).stdout(Stdio::null()).spawn()
    };
    // While it makes the machine; while the machine moves, whose own process goes on and ends.
    for fenced in [false, true] {
        let mut child = start().expect("the command runs");
        until("a machine", &mut child, || {
            let made = world.cluster(FROM).vms();
            made.iter().any(|vm| vm.config.get("name").is_some_and(|name| name == NAME) && (!fenced || vm.template))
        });
        if !fenced {
            // One that lives is left alone.
            desk.line(LINE).code(1).says("is under way").says("rehearse again");
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        assert!(!world.machines().is_empty(), "a killed rehearsal removes nothing");
        let mut report = Value::Null;
        for _ in 0..60 {
            // A move's process that goes on is waited for: its operation has a living holder.
            let said = desk.line(&format!("{LINE} --json"));
            report = said.json();
            if said.code == 0 {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        assert_eq!(report["holds"], true, "{report:#}");
        assert_eq!((world.machines(), world.litter()), (Vec::new(), Vec::new()));
    }
}

/// The same command again, by the machine's name: the source is fenced by then, and bears the name of a template.
#[test]
fn a_killed_migrate_is_finished_by_the_same_command() {
    let world = SimulatedWorld::three_sites_at(20.0);
    let desk = Desk::new(&world, YAML);
    super::machine(&world);
    let words = ["migrate", "guide-vm", "--from", FROM, "--to", TO, "--keep-archive", "0s"];
    let mut child = desk.command(&words).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("the command runs");
    until("the fence", &mut child, || world.vm(FROM, "guide-vm").template);
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    desk.run(&words).code(0).says("guide-vm moved from");
    assert!(world.vm(TO, "guide-vm").running && world.vm(FROM, "guide-vm").template);
    assert_eq!(world.litter(), Vec::<String>::new());
}

#[test]
fn a_machine_that_only_has_the_name_is_never_touched() {
    let (world, desk) = app(|_| {});
    stranger(&world, 500, NAME);
    world.clear_requests();
    desk.line(LINE).code(1).says("FAILED").says("has this name already");
    assert_eq!(world.machines(), [format!("{FROM}/{NAME}")]);
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[test]
fn the_pools_limits_and_the_paths_window_hold_for_a_rehearsal() {
    let (world, desk) = app(|_| {});
    stranger(&world, 500, "shop");
    world.advance(Duration::from_secs(15));
    desk.write("multi-site.yaml", &YAML.replace("max_vms: 150", "max_vms: 1"));
    desk.line(LINE).code(1).says("FAILED").says("creates a machine").says("max_vms");
    let alone = || assert_eq!((world.machines(), world.litter()), (vec![format!("{FROM}/shop")], Vec::new()));
    alone();
    // One that is open for a minute of the night, on whatever day this runs, in a zone where that is not now.
    let window = "max_bandwidth: \"500Mbps\"\n      window: { from: \"00:00\", to: \"00:01\", zone: UTC }";
    desk.write("multi-site.yaml", &YAML.replacen("max_bandwidth: \"500Mbps\"", window, 1));
    desk.line(LINE).code(1).says("FAILED").says("window");
    alone();
}

/// A path by `method`, for a platform team with the token that a move hands over.
fn sent(method: &str, yaml: &str) -> (SimulatedWorld, Desk) {
    let mover = guide::team(&["The token that a move hands over"]);
    let world = mover.join(World::three_sites().expect("the world"), None);
    let world = SimulatedWorld::start(world, Options { clock: Pace::Wall { scale: 20.0 }, ..Options::default() });
    let yaml = yaml.replace("      method: backup-restore", &format!("      method: {method}"));
    let mut desk = Desk::new(&world, &yaml);
    let mut connections = world.connections();
    for cluster in [FROM, TO] {
        let variable = format!("MOVES_{}", cluster.len());
        desk.env.push((variable.clone(), world.cluster(cluster).token("moxxie").expect("its token")));
        connections[cluster]["migration_token_env"] = json!(variable);
    }
    desk.write("connections.json", &connections.to_string());
    (world, desk)
}

#[test]
fn what_proxmox_ve_locks_is_left_for_root_with_the_commands() {
    // A guest that runs keeps its VLAN, so that it has to be the same there.
    for (method, yaml) in [("offline", YAML.to_owned()), ("storage-migration", YAML.replace("vlan: 220", "vlan: 120"))]
    {
        let (world, desk) = sent(method, &yaml);
        let report = desk.line(&format!("{LINE} --json")).code(0).json();
        assert_eq!(results(&report, "moves it by backup-restore"), ["held"; 2], "{report:#}");
        assert_eq!(results(&report, &format!("moves it by {method}")), ["held"; 2], "{report:#}");
        let left = report["left_for_root"].as_array().expect("what is left");
        assert_eq!(left.len(), 2, "{report:#}");
        for cluster in [FROM, TO] {
            let vms = world.cluster(cluster).vms();
            let [vm] = vms.as_slice() else { panic!("{cluster} has {vms:?}") };
            assert_eq!(vm.lock.as_deref(), Some("migrate"));
            let command = format!("qm unlock {0} && qm set {0} --protection 0 && qm destroy {0}", vm.vmid);
            assert!(left.iter().any(|left| left.as_str().is_some_and(|left| left.contains(&command))), "{left:?}");
        }
    }
}

#[test]
fn a_rehearsal_that_the_user_stops_removes_what_it_made() {
    let (world, desk) = app(|_| {});
    let words: Vec<&str> = LINE.split(' ').skip(1).collect();
    let mut child =
        desk.command(&words).stderr(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the command runs");
    until("a machine", &mut child, || !world.cluster(FROM).vms().is_empty());
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("kill runs").success());
    let out = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped by the user"), "{said}");
    assert_eq!((world.machines(), world.litter()), (Vec::new(), Vec::new()));
}

#[test]
fn a_rehearsal_that_makes_no_sense_is_refused_before_anything_is_asked() {
    let (world, desk) = app(|_| {});
    for (words, says) in [
        ("federate rehearse --from worldstream-prod --to worldstream-prod -p production-pool", "the same cluster"),
        ("federate rehearse --from worldstream-prod --to hetzner-edge -p production-pool", "not a member of pool"),
        ("federate rehearse --from worldstream-prod --to databarn-dr -p nobodys", "there is no pool"),
        ("federate rehearse --from worldstream-prod --to moon -p production-pool", "there is no cluster"),
        ("federate rehearse --from worldstream-prod -p production-pool", "--to"),
    ] {
        desk.line(words).code(2).says(says);
    }
    assert_eq!(world.writes(), Vec::<String>::new());
}

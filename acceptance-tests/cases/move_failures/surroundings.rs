//! What lies around a moving machine: HA, backup jobs, people with a browser, small tokens, signals.
use std::path::Path;
use std::sync::{Arc, Mutex};

use simulator::{Options, World};

use super::*;

const RULE: &str = "prefer-new-nodes";

#[test]
fn ha_vm_with_5_min_shutdown() {
    let scene = Scene::with("platform", GONE);
    let (source, target, vmid) = (scene.world.cluster(FROM), scene.world.cluster(TO), machine().vmid());
    source.set_ha(vmid, Some("started"));
    source.set_shutdown_time(vmid, Duration::from_secs(300));
    source.add_ha_rule(RULE, "ws1:2,ws2", Some(vmid));
    target.add_ha_rule(RULE, "db1", None);
    let stops = Arc::new(Mutex::new(None));
    let (seen, cluster) = (stops.clone(), source.clone());
    let look = move |_: &Matched| *seen.lock().expect("it") = cluster.vm(vmid).map(|vm| (vm.running, vm.hard_stops));
    scene.world.fault(step("backup", Action::call(look)));
    scene.workspace.apply().expect(0);
    assert_eq!(*stops.lock().expect("it"), Some((false, 0)), "it shut down by itself before its backup");
    let tasks = source.tasks_of(vmid);
    assert!(tasks.iter().any(|kind| kind == "qmshutdown") && !tasks.iter().any(|kind| kind == "hastop"), "{tasks:?}");
    assert_eq!(target.ha_state(vmid).as_deref(), Some("started"));
    assert_eq!(target.ha_rules_of(vmid), [RULE]);
    scene.converges_on(TO, false, "under HA");
}

#[test]
fn ha_rules_that_the_target_lacks_are_refused_unless_that_is_accepted() {
    let scene = Scene::with("platform", GONE);
    let (source, target, vmid) = (scene.world.cluster(FROM), scene.world.cluster(TO), machine().vmid());
    source.set_ha(vmid, Some("started"));
    source.add_ha_rule(RULE, "ws1", Some(vmid));
    scene.world.clear_requests();
    scene.workspace.plan().expect(2).says("ha_rules").says(RULE);
    scene.workspace.apply().expect(1).says("ha_rules").says("nothing was touched");
    assert_eq!(scene.world.writes(), Vec::<String>::new());
    scene.workspace.edit("main.tf", GONE, &format!("{GONE}, accept_loss = [\"ha-rules\"]"));
    scene.workspace.apply().expect(0).says(RULE);
    assert_eq!(target.ha_state(vmid).as_deref(), Some("started"));
    assert_eq!(target.ha_rules_of(vmid), Vec::<String>::new());
    scene.converges_on(TO, false, "without the rule");
}

#[test]
fn nightly_vzdump_job_holding_the_node_lock() {
    for within in [Duration::ZERO, Duration::from_secs(4)] {
        let scene = Scene::with("platform", GONE);
        let source = scene.world.cluster(FROM);
        // The job is in the middle of another guest, or is due with all of them before the move's own backup could end.
        let config = [("name", "other"), ("scsi0", "ceph-pool:8")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let pool = Some("development-pool".to_owned());
        source.create_pool("development-pool");
        source
            .create_vm(&GuestSpec { vmid: 500, node: "ws1".into(), config, pool, running: true })
            .expect("another guest");
        if within.is_zero() {
            source.schedule_backup("nightly", Some("development-pool"), "transfer", within);
            scene.world.advance(Duration::from_secs(1));
            assert!(!source.newest_log("vzdump").is_empty(), "it has begun");
        } else {
            let cluster = source.clone();
            let due = move |_: &Matched| cluster.schedule_backup("nightly", None, "transfer", within);
            scene.world.fault(step("shutdown", Action::call(due)));
        }
        let logs = Arc::new(Mutex::new(None));
        let (seen, cluster) = (logs.clone(), source.clone());
        let look = move |_: &Matched| *seen.lock().expect("it") = Some(cluster.newest_log("vzdump"));
        scene.world.fault(Rule::on("POST", SHUTDOWN, Action::call(look)).cluster(FROM).nth(Nth::Only(1)));
        scene.workspace.apply().expect(0);
        let log = logs.lock().expect("it").clone().expect("it was shut down").join("\n");
        assert!(log.contains("status = running"), "the job backed up what ran: {log}");
        assert!(log.ends_with("TASK OK"), "within {within:?}: shut down while the job held the node: {log}");
        assert_eq!(scene.world.running_copies(&machine().uuid()).len(), 1);
        let requests = scene.world.requests();
        let ours =
            requests.iter().find(|call| call.method == "POST" && call.path.ends_with("/vzdump")).expect("a backup");
        assert_eq!(ours.params["notification-mode"], "legacy-sendmail", "no mail per move");
        assert!(ours.params["lockwait"] == "1" && !ours.params.contains_key("mailto"), "{:?}", ours.params);
        scene.workspace.plan().expect(0);
    }
}

#[test]
fn token_without_sys_audit_on_root() {
    let scene = Scene::new();
    for cluster in [FROM, TO] {
        scene.world.cluster(cluster).revoke("app@pve", "/");
    }
    scene.world.clear_requests();
    scene.workspace.apply().expect(1).says("Sys.Audit on /").says("nothing was touched");
    assert_eq!(scene.world.writes(), Vec::<String>::new());
}

#[test]
fn a_backup_that_the_token_does_not_see_sends_the_source_straight_up_again() {
    let scene = Scene::new();
    let source = scene.world.cluster(FROM);
    // Without Sys.Audit on nodes it sees its own tasks alone.
    source.grant("app@pve", "/nodes", "NoAccess").expect("a role");
    source.create_pool("development-pool");
    let config = [("name", "big"), ("scsi0", "ceph-pool:900")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let pool = Some("development-pool".to_owned());
    source.create_vm(&GuestSpec { vmid: 500, node: "ws1".into(), config, pool, running: true }).expect("a guest");
    source.schedule_backup("nightly", Some("development-pool"), "transfer", Duration::ZERO);
    scene.world.advance(Duration::from_secs(1));
    scene.workspace.apply().expect(1).says("runs as before");
    let log = source.newest_log("vzdump").join("\n");
    assert!(log.contains("can't acquire lock"), "its own backup never began: {log}");
    let vm = scene.world.vm(FROM, NAME);
    assert!(vm.running && !vm.template && vm.hard_stops == 0, "{}", in_words(&vm));
    scene.newest();
}

#[test]
fn what_a_killed_backup_leaves_and_no_token_can_remove_is_named_with_the_command() {
    let scene = Scene::new();
    let killed = Action::FailTask { message: "unexpected status".into(), late: false };
    scene.world.fault(Rule::on("POST", BACKUP, killed).cluster(FROM).nth(Nth::Only(1)));
    let failed = scene.workspace.apply().expect(1);
    let command = "rm -rf /mnt/pve/transfer/dump/vzdump-qemu-100-*.vma.dat";
    assert!(failed.flat().contains(command), "{}", failed.text());
    scene.without_faults();
    scene.converges_on(TO, false, "after a killed backup");
}

#[test]
fn what_lies_beside_a_machine_is_said_before_anything_is_touched() {
    let scene = Scene::with("platform", GONE);
    let (source, target, vmid) = (scene.world.cluster(FROM), scene.world.cluster(TO), machine().vmid());
    source.grant("app@pve", &format!("/vms/{vmid}"), "PVEVMUser").expect("a role");
    source.schedule_backup("weekly", Some("production-pool"), "transfer", Duration::from_secs(600_000));
    scene.workspace.plan().expect(2).says("acl_entries").says("app@pve (PVEVMUser)").says("backup_coverage");
    target.schedule_backup("weekly", Some("production-pool"), "transfer", Duration::from_secs(600_000));
    scene.workspace.plan().expect(2).never_says("backup_coverage");
    scene.world.clear_requests();
    target.set_cpu_flags("db1", "fpu sse sse2");
    scene.workspace.apply().expect(1).says("cpu_flags").says("x86-64-v2-AES");
    target.set_cpu_flags("db1", "fpu pni ssse3 cx16 sse4_1 sse4_2 popcnt aes lahf_lm");
    assert_eq!(scene.world.writes(), Vec::<String>::new());
    source.replicate(vmid, "ws2");
    scene.workspace.edit("main.tf", GONE, KEPT);
    scene.workspace.apply().expect(0).says("replication");
    assert!(source.is_replicated(vmid), "a kept source keeps its jobs");
}

#[test]
fn gui_notes_tab_saved_over_the_block() {
    for at in STEPS {
        let scene = Scene::new();
        let (clusters, vmid) = ([scene.world.cluster(FROM), scene.world.cluster(TO)], machine().vmid());
        let save = move |_: &Matched| {
            clusters.iter().for_each(|cluster| cluster.set_config(vmid, "description", Some("The shop, by Ann")));
        };
        scene.world.fault(step(at, Action::call(save)));
        scene.workspace.apply();
        scene.newest();
        scene.without_faults();
        scene.converges_on(TO, false, &format!("notes saved before {at}"));
    }
    // After the move: the retired copy is not forgotten.
    let scene = Scene::with("app", KEPT);
    scene.workspace.apply().expect(0);
    scene.world.cluster(TO).set_config(machine().vmid(), "description", Some("The shop"));
    scene.workspace.plan().expect(0);
    let state = &scene.workspace.state()["moxxie_virtual_machine.shop"];
    assert_eq!(state["retired_copies"][0]["cluster"], FROM, "{}", state["retired_copies"]);
    scene.workspace.destroy().expect(0);
    assert_eq!(scene.world.copies(&machine().uuid()), Vec::new(), "the copy went with the machine");
}

#[test]
fn newlines_stripped_from_a_pool_comment() {
    for at in ["shutdown", "backup", "verify", "start", "retire"] {
        let number = number_of("app", GONE, |request| writes_step(request, at));
        let scene = Scene::new();
        scene.workspace.killed_at(&scene.world, &APPLY, number, true, || {});
        for cluster in [FROM, TO] {
            // What the GUI's single-line field does to a text that somebody wrote around it.
            scene.world.cluster(cluster).edit_pool_comments(|comment| format!("\n{comment}\n").replace('\n', ""));
        }
        scene.workspace.plan().expect(2).says("unfinished operation");
        scene.converges_on(TO, false, &format!("after a kill at {at}"));
    }
}

#[test]
fn an_interrupt_leaves_the_move_at_a_step_boundary_and_cancels_no_task() {
    for at in ["backup", "restore"] {
        let scene = Scene::new();
        let pid = Arc::new(Mutex::new(None::<u32>));
        let known = pid.clone();
        let interrupt = move |_: &Matched| {
            let pid = (0..200).find_map(|_| {
                std::thread::sleep(Duration::from_millis(5));
                *known.lock().expect("it")
            });
            let pid = pid.expect("the CLI").to_string();
            let _ = std::process::Command::new("kill").args(["-INT", &pid]).status();
            // Core tells the provider by a call of its own.
            std::thread::sleep(Duration::from_millis(300));
        };
        scene.world.fault(step(at, Action::call(interrupt)));
        let mut run = scene.workspace.start(&APPLY, "interrupted");
        *pid.lock().expect("it") = Some(run.id());
        assert_eq!(wait_for(&mut run), 1);
        let said = scene.workspace.output("interrupted");
        assert!(said.contains("apply again to go on"), "{said}");
        let stopped =
            scene.world.requests().iter().any(|call| call.method == "DELETE" && call.path.contains("/tasks/"));
        assert!(!stopped, "no task is cancelled");
        scene.workspace.plan().expect(2).says("unfinished operation");
        scene.without_faults();
        scene.converges_on(TO, false, &format!("interrupted at {at}"));
    }
}

const SHARED: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}
variable "clusters" { type = any }
provider "moxxie" {
  config_file = "${path.root}/pair.yaml"
  clusters    = var.clusters
}
resource "moxxie_virtual_machine" "shop" {
  name      = "shop-db"
  pool      = "team"
  cluster   = "east"
  memory    = "1GB"
  disks     = { scsi0 = { size = "2GB", storage = "fast" } }
  migration = { source = "delete", keep_archive = "0s" }
}
"#;

const PAIR: &str = r#"
clusters:
  - { id: east, name: East, provider: Ours, location: "Here, NL", tier: primary, storage: { primary_storage: fast } }
  - { id: west, name: West, provider: Ours, location: "There, NL", tier: secondary, storage: { primary_storage: fast } }
resource_pools:
  - { name: team, clusters: [east, west] }
"#;

/// Two clusters that mount one storage with disk images, and the disk on it of a machine of the first.
fn shared(role: &str) -> (SimulatedWorld, Workspace, impl Fn() -> bool + use<>) {
    let world = SimulatedWorld::start(World::shared_images().expect("a world"), Options::default());
    let east = world.cluster("east");
    let config = [("name", "other"), ("scsi0", "shared-nfs:1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let guest = GuestSpec { vmid: 100, node: "e1".into(), config: config.into(), pool: None, running: false };
    east.create_vm(&guest).expect("a guest");
    let volid = east.vm(100).expect("the guest").disks[0].volid.clone();
    east.set_config(100, "scsi0", None);
    east.remove_vm(100);
    for cluster in world.clusters() {
        cluster.grant("app@pve", "/vms", "PVEAuditor").expect("a role");
        // Its Sys.Audit is what placement needs; storages stay out of sight.
        cluster.grant("app@pve", "/", "PVESysAdmin").expect("a role");
        cluster.revoke("app@pve", "/storage/shared-nfs");
    }
    let workspace = world.workspace(&cli(), Path::new(crate::moving::PROVIDER), role);
    workspace.write("main.tf", SHARED).write("pair.yaml", PAIR);
    workspace.apply().expect(0);
    assert_eq!(world.vm("east", NAME).vmid, 100, "it has the VMID that the disk is named after");
    workspace.edit("main.tf", "cluster   = \"east\"", "cluster   = \"west\"");
    let there = move || east.volumes().iter().any(|volume| volume.volid == volid);
    assert!(there());
    (world, workspace, there)
}

#[test]
fn shared_images_storage_is_refused_and_forced_past_preflight_the_other_clusters_disk_survives() {
    let (world, workspace, there) = shared("platform");
    world.clear_requests();
    workspace.plan().expect(2).says("backing_apart");
    workspace.apply().expect(1).says("backing_apart").says("nothing was touched");
    assert_eq!(world.writes(), Vec::<String>::new());
    assert!(there());
    drop((world, workspace));
    // A token that doesn't see that storage can't see that it is shared: preflight lets it pass.
    let (world, workspace, there) = shared("app");
    let failed = workspace.apply().expect(1);
    assert!(failed.flat().contains("shared-nfs"), "what was taken in is named: {}", failed.text());
    assert!(there(), "the undo freed it");
    let source = world.vm("east", NAME);
    assert!(source.running && !source.template, "{}", in_words(&source));
    workspace.apply();
    assert!(there(), "the next undo freed it");
}

//! A machine that is being backed up (hazards.md OR 11; proxmox-ve.md A7).
use std::sync::{Arc, Mutex};
use std::time::Duration;

use simulator::{Action, Matched, Nth, Rule};

use super::*;

#[test]
fn a_nightly_backup_of_the_machine_itself_is_waited_for_and_named() {
    for cli in clis() {
        let scene = Scene::with(&cli, GONE, str::to_owned);
        scene.source.schedule_backup("nightly", Some("production-pool"), "transfer", Duration::ZERO);
        scene.world.advance(Duration::from_secs(1));
        assert_eq!(scene.world.vm(FROM, NAME).config.get("lock").map(String::as_str), Some("backup"), "it has begun");
        let plan = scene.workspace.plan().expect(2).says("moves after that (source_idle)");
        let plan = plan.says("of backup job nightly").says("by root@pam");
        assert!(plan.flat().contains("moves, and is down meanwhile"), "{}", plan.text());
        let logs = Arc::new(Mutex::new(None));
        let (seen, source) = (logs.clone(), scene.source.clone());
        let look = move |_: &Matched| *seen.lock().expect("it") = Some(source.newest_log("vzdump"));
        let shutdown = Rule::on("POST", "/nodes/*/status/shutdown", Action::call(look));
        scene.world.fault(shutdown.cluster(FROM).nth(Nth::Only(1)));
        scene.workspace.apply().expect(0);
        let log = logs.lock().expect("it").clone().expect("it was shut down").join("\n");
        assert!(log.contains("Backup job finished successfully"), "it was shut down after its backup: {log}");
        assert!(scene.world.vm(TO, NAME).running);
    }
}

#[test]
fn a_lock_that_nobody_holds_is_refused_with_the_command() {
    let scene = Scene::new();
    scene.source.set_config(scene.vmid, "lock", Some("backup"));
    scene.refused(&["source_idle", "is locked (backup)", "qm unlock 100"]);
}

#[test]
fn a_backup_that_outlasts_the_time_for_the_move_is_named_and_nothing_is_touched() {
    let scene = Scene::new();
    scene.workspace.edit("main.tf", "memory      = ", "timeouts    = { update = \"1s\" }\n  memory      = ");
    scene.source.schedule_backup("nightly", Some("production-pool"), "transfer", Duration::ZERO);
    scene.world.advance(Duration::from_secs(1));
    // Nobody gets an answer about the task that would move its time on.
    let hang = Action::Refuse(500, "busy".into());
    scene.world.fault(Rule::on("GET", "/nodes/*/tasks/*/status", hang).cluster(FROM));
    scene.world.clear_requests();
    scene
        .workspace
        .apply()
        .expect(1)
        .says("is still being backed up")
        .says("of backup job nightly")
        .says("timeouts.update");
    assert_eq!(scene.world.writes(), Vec::<String>::new());
    assert!(scene.world.vm(FROM, NAME).running);
}

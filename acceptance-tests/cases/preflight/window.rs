//! When a path is open (hazards.md OR 30). A world begins on Monday, 2026-01-05 at 08:00 UTC.
use std::time::Duration;

use super::*;

/// The file with a window on the path to the target.
fn open(window: &str) -> impl Fn(&str) -> String {
    move |yaml| {
        let path = "target_cluster: databarn-dr\n      method: backup-restore\n";
        assert!(yaml.contains(path), "the file has changed");
        yaml.replacen(path, &format!("{path}      window: {window}\n"), 1)
    }
}

#[test]
fn a_move_outside_of_its_window_or_that_would_end_outside_is_refused_with_the_times() {
    for cli in clis() {
        let scene = Scene::with(&cli, GONE, open("{ from: \"20:00\", to: \"22:00\" }"));
        scene.refused(&["window", "is closed now (2026-01-05 08:", "opens next at 2026-01-05 20:00 UTC"]);
        // Four minutes before it closes, and seven are predicted.
        scene.world.advance(Duration::from_secs((13 * 60 + 55) * 60));
        scene.refused(&["window", "it closes at 2026-01-05 22:00 UTC", "predicted to end at 2026-01-05 22:0"]);
        scene.world.advance(Duration::from_secs(23 * 3600));
        scene.workspace.plan().expect(2).never_says("window").says("moves, and is down meanwhile");
        scene.moved();
    }
}

#[test]
fn a_move_that_waited_until_its_window_closed_is_taken_back_before_the_shutdown() {
    let scene = Scene::with(&cli(), GONE, open("{ from: \"08:00\", to: \"08:30\" }"));
    scene.source.create_pool("development-pool");
    let config = [("name", "big"), ("scsi0", "ceph-pool:9000")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let pool = Some("development-pool".to_owned());
    let guest = GuestSpec { vmid: 500, node: scene.before.node.clone(), config: config.into(), pool, running: true };
    scene.source.create_vm(&guest).expect("a guest");
    scene.source.schedule_backup("nightly", Some("development-pool"), "transfer", Duration::ZERO);
    scene.world.advance(Duration::from_secs(1));
    assert!(!scene.source.newest_log("vzdump").is_empty(), "it has begun");
    scene.workspace.apply().expect(1).says("is closed now").says("opens next at 2026-01-06 08:00 UTC");
    let vm = scene.world.vm(FROM, NAME);
    assert!(vm.running && !vm.template, "{}", crate::moving::in_words(&vm));
    assert!(!scene.source.tasks_of(scene.vmid).iter().any(|kind| kind == "qmshutdown"), "it was never shut down");
    let ours = |line: &String| !line.contains("vzdump-qemu-500-");
    assert_eq!(scene.world.litter().into_iter().filter(ours).collect::<Vec<_>>(), Vec::<String>::new());
}

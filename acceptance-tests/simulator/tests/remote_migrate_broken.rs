//! What a `remote_migrate` leaves that is broken off: by whom, in which phase, and where the guest is then.
#![allow(missing_docs)]

mod support;

use simulator::{Action, NodePower, Rule};
use support::Answer;
use support::pair::{Pair, rich};

/// Source and target as they are afterwards: status and lock.
fn ends(pair: &Pair) -> [Option<(String, Option<String>)>; 2] {
    [&pair.prod, &pair.dr].map(|cluster| cluster.vm(400).map(|vm| (vm.status, vm.lock)))
}

fn at(status: &str, lock: Option<&str>) -> Option<(String, Option<String>)> {
    Some((status.to_owned(), lock.map(str::to_owned)))
}

async fn stop(pair: &Pair, answer: &Answer) {
    let upid = answer.data().as_str().expect("a UPID").to_owned();
    assert_eq!(pair.a.delete(&format!("/nodes/ws1/tasks/{upid}")).await.status, 200);
}

async fn tunnel_exit(pair: &Pair) -> String {
    let tasks = pair.b.get("/nodes/db1/tasks?source=all&typefilter=qmtunnel").await.data();
    tasks[0]["status"].as_str().unwrap_or("running").to_owned()
}

/// A line of the log of each phase, whether the guest runs, what that phase's errors end as.
const PHASES: [(&str, bool, &str); 2] =
    [("copying local disk images", false, "migration aborted"), ("mirror-scsi0", true, "migration problems")];

/// A migration that has come as far as that line.
async fn under_way(line: &str, online: bool) -> (Pair, Answer, String) {
    let pair = Pair::with(rich(online)).await;
    let uuid = pair.prod.vm(400).and_then(|vm| vm.uuid).expect("a uuid");
    let answer = pair.send(&[("online", "1")]).await;
    pair.until(&answer, line).await;
    (pair, answer, uuid)
}

/// proxmox-ve.md §9: SIGTERM waits for the next boundary; the source is as it was, the target clean.
#[tokio::test]
async fn sigterm_puts_everything_back() {
    for (line, online, exit) in PHASES {
        let (pair, answer, uuid) = under_way(line, online).await;
        stop(&pair, &answer).await;
        assert!(
            pair.prod.newest_log("qmigrate").last().expect("a line").ends_with("ERROR: received interrupt - delayed")
        );
        assert_eq!(pair.a.wait(&answer).await, exit);
        let log = pair.prod.newest_log("qmigrate").join("\n");
        assert!(log.contains("interrupted by signal") && log.contains("cleanup resources"), "{log}");
        let status = if online { "running" } else { "stopped" };
        assert_eq!(ends(&pair), [at(status, None), None]);
        assert_eq!((pair.sim.litter(), tunnel_exit(&pair).await), (vec![], "OK".to_owned()));
        pair.is_safe(&uuid);
    }
}

/// proxmox-ve.md §9, §15.7: SIGKILL cleans nothing up; the target's end exits unexpectedly.
#[tokio::test]
async fn sigkill_leaves_both_locks() {
    for (line, online, _) in PHASES {
        let (pair, answer, uuid) = under_way(line, online).await;
        assert!(pair.prod.kill_task("qmigrate", 400));
        assert_eq!(pair.a.wait(&answer).await, "unexpected status");
        pair.sim.advance(std::time::Duration::from_secs(3600));
        assert_eq!(tunnel_exit(&pair).await, "mtunnel exited unexpectedly");
        let (status, lock) = if online { ("running", "migrate") } else { ("stopped", "create") };
        assert_eq!(ends(&pair), [at(status, Some("migrate")), at("stopped", Some(lock))]);
        assert_eq!(pair.dr.volumes().len(), 2);
        pair.is_safe(&uuid);
    }
}

/// proxmox-ve.md §9: the source node dies. Back again, it starts nothing that is locked.
#[tokio::test]
async fn a_dead_source_node_keeps_the_newest_state() {
    for (line, online, _) in PHASES {
        let (pair, _, uuid) = under_way(line, online).await;
        pair.prod.power_node("ws1", NodePower::Off);
        pair.sim.advance(std::time::Duration::from_secs(3600));
        pair.prod.power_node("ws1", NodePower::On);
        pair.sim.advance(std::time::Duration::from_secs(60));
        let lock = if online { "migrate" } else { "create" };
        assert_eq!(ends(&pair), [at("stopped", Some("migrate")), at("stopped", Some(lock))]);
        assert_eq!(tunnel_exit(&pair).await, "mtunnel exited unexpectedly");
        pair.is_safe(&uuid);
    }
}

/// proxmox-ve.md §9: the target node dies, or the line, or the tunnel: the source goes on, the target keeps what it got.
#[tokio::test]
async fn a_lost_target_gives_the_source_back() {
    let ways: [fn(&Pair); 3] = [
        |pair| pair.dr.power_node("db1", NodePower::Off),
        |pair| pair.sim.cut_line("worldstream-prod", "databarn-dr", true),
        |pair| assert!(pair.dr.kill_task("qmtunnel", 400)),
    ];
    for (line, online, exit) in PHASES {
        for lose in ways {
            let (pair, answer, uuid) = under_way(line, online).await;
            lose(&pair);
            assert_eq!(pair.a.wait(&answer).await, exit);
            let (status, lock) = if online { ("running", "migrate") } else { ("stopped", "create") };
            pair.sim.advance(std::time::Duration::from_secs(5));
            assert_eq!(ends(&pair), [at(status, None), at("stopped", Some(lock))]);
            assert_eq!(pair.dr.volumes().len(), 2);
            pair.is_safe(&uuid);
        }
    }
}

/// proxmox-ve.md §9: a storage that fills up, and a QEMU that does not start, are errors of their phases.
#[tokio::test]
async fn errors_on_the_target_are_the_phases_own() {
    for (line, online, exit) in PHASES {
        let (pair, answer, uuid) = under_way(line, online).await;
        pair.dr.fill_storage("zfs-pool");
        assert_eq!(pair.a.wait(&answer).await, exit);
        assert!(pair.prod.newest_log("qmigrate").join("\n").contains("No space left on device"));
        let status = if online { "running" } else { "stopped" };
        assert_eq!((ends(&pair), pair.sim.litter()), ([at(status, None), None], vec![]));
        pair.is_safe(&uuid);
    }
    let pair = Pair::with(rich(true)).await;
    pair.dr.set_newest_machine("db1", "9.2");
    let (exit, log) = pair.run(&[("online", "1")]).await;
    assert_eq!(exit, "migration problems");
    assert!(log.contains("online migrate failure - error - tunnel command '{\"cmd\":\"start\"}' failed"), "{log}");
    assert!(log.contains("is too old to run machine type 'pc-i440fx-10.1'"), "{log}");
    assert_eq!((ends(&pair), pair.sim.litter()), ([at("running", None), None], vec![]));
}

/// proxmox-ve.md §9: between the end of phase 2 and phase 3 no copy runs, and what then breaks leaves none running.
#[tokio::test]
async fn between_the_phases_nothing_runs() {
    let handed_over = "migration status: completed";
    let (pair, answer, uuid) = under_way(handed_over, true).await;
    assert_eq!(ends(&pair), [at("postmigrate", Some("migrate")), at("paused", Some("migrate"))]);
    let resume = pair.b.post("/nodes/db1/qemu/400/status/resume", &[]).await;
    assert_eq!(pair.b.wait(&resume).await, "VM is locked (migrate)");
    assert_eq!(pair.a.wait(&answer).await, "OK");
    pair.is_safe(&uuid);

    let (pair, answer, uuid) = under_way(handed_over, true).await;
    pair.sim.cut_line("worldstream-prod", "databarn-dr", true);
    assert_eq!(pair.a.wait(&answer).await, "migration problems");
    assert_eq!(ends(&pair), [at("stopped", Some("migrate")), at("paused", Some("migrate"))]);
    pair.is_safe(&uuid);

    // SIGTERM comes too late to call it off.
    let (pair, answer, uuid) = under_way(handed_over, true).await;
    stop(&pair, &answer).await;
    assert_eq!(pair.a.wait(&answer).await, "migration problems");
    assert_eq!(ends(&pair), [at("stopped", Some("migrate")), at("running", None)]);
    pair.is_safe(&uuid);
}

/// proxmox-ve.md §9: a target that loses quorum takes no configuration, and can't take its stub away.
#[tokio::test]
async fn a_target_without_quorum_keeps_its_stub() {
    let (pair, answer, _) = under_way("copying local disk images", false).await;
    pair.dr.set_quorum(false);
    assert_eq!(pair.a.wait(&answer).await, "migration aborted");
    assert_eq!(ends(&pair), [at("stopped", None), at("stopped", Some("create"))]);
    assert!(pair.dr.volumes().is_empty() && pair.prod.newest_log("qmigrate").join("\n").contains("Permission denied"));
}

/// Injected failures: an early one touches nothing; a late one has moved the guest, and both sides keep their locks.
#[tokio::test]
async fn injected_failures_are_early_or_late() {
    for online in [false, true] {
        let status = if online { "running" } else { "stopped" };
        for (late, left) in
            [(false, [at(status, None), None]), (true, [at("stopped", Some("migrate")), at(status, Some("migrate"))])]
        {
            let pair = Pair::with(rich(online)).await;
            let uuid = pair.prod.vm(400).and_then(|vm| vm.uuid).expect("a uuid");
            pair.sim.fault(Rule::on("POST", "*/remote_migrate", Action::FailTask { message: "broken".into(), late }));
            assert_eq!(pair.run(&[("online", "1"), ("delete", "1")]).await.0, "broken");
            assert_eq!(ends(&pair), left);
            pair.is_safe(&uuid);
        }
    }
}

/// proxmox-ve.md §9: a source that can't be destroyed is a line in the log; root unlocks what is left.
#[tokio::test]
async fn a_source_that_stays_is_only_a_warning() {
    let pair = Pair::with(rich(false)).await;
    let answer = pair.send(&[("delete", "1")]).await;
    pair.until(&answer, "mapped: net0").await;
    let held = pair.prod.unlock(400).expect_err("the task holds the file lock");
    assert!(held.0.ends_with("got timeout"), "{held}");
    pair.prod.set_quorum(false);
    assert_eq!(pair.a.wait(&answer).await, "OK");
    assert!(pair.prod.newest_log("qmigrate").join("\n").contains("Failed to remove source VM - "));
    assert_eq!(ends(&pair), [at("stopped", Some("migrate")), at("stopped", None)]);
    pair.prod.set_quorum(true);
    pair.prod.unlock(400).expect("unlocked");
    assert_eq!(ends(&pair)[0], at("stopped", None));
}

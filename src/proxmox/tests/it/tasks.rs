//! Waiting for tasks (`proxmox-ve.md` §3, §6, §13 G9).

use std::time::{Duration, Instant};

use proxmox::{Error, TaskFilter, TaskSource, Upid};

use crate::server::{Reply, Request, Server, answer, bare, ok};

const UPID: &str = "UPID:pve1:0000A1B2:0012D687:6957A5A5:vzdump:100:app@pve!ci:";
const STATUS: &str = "/nodes/pve1/tasks/UPID:pve1:0000A1B2:0012D687:6957A5A5:vzdump:100:app@pve!ci:/status";

fn upid() -> Upid {
    UPID.parse().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn running() -> Reply {
    ok(&format!(r#"{{"upid":"{UPID}","node":"pve1","status":"running"}}"#))
}

fn stopped(exitstatus: &str) -> Reply {
    ok(&format!(r#"{{"upid":"{UPID}","node":"pve1","status":"stopped","exitstatus":"{exitstatus}"}}"#))
}

/// Serves lines as PVE pages them.
fn log(request: &Request, lines: &[&str]) -> Reply {
    let number = |key: &str| {
        let query = request.target.split('?').nth(1).unwrap_or_default();
        query.split('&').find_map(|p| p.strip_prefix(key)).map_or(0, |v| v.parse::<usize>().unwrap())
    };
    let (start, limit) = (number("start="), number("limit="));
    let page: Vec<String> = lines
        .iter()
        .enumerate()
        .skip(start)
        .take(limit)
        .map(|(n, t)| format!(r#"{{"n":{},"t":"{t}"}}"#, n + 1))
        .collect();
    answer("200 OK", &format!(r#"{{"data":[{}],"total":{}}}"#, page.join(","), lines.len()))
}

fn is_log(request: &Request) -> bool {
    request.path().ends_with("/log")
}

#[tokio::test]
async fn a_task_that_is_over_is_looked_at_once() {
    let server = Server::start(|_, _| stopped("OK")).await;
    let done = server.client().wait_task(&upid(), soon(), |_| panic!("it never ran")).await.unwrap();
    assert_eq!((done.upid, done.warnings), (upid(), 0));
    assert_eq!((server.seen().len(), server.count("GET", STATUS)), (1, 1));
}

#[tokio::test]
async fn warnings_are_success() {
    let server = Server::start(|_, before| if before < 3 { running() } else { stopped("WARNINGS: 2") }).await;
    let mut looks = 0;
    let done = server.client().wait_task(&upid(), soon(), |_| looks += 1).await.unwrap();
    assert_eq!((done.warnings, looks), (2, 3));
}

#[tokio::test]
async fn progress_is_read_from_the_log_line_by_line() {
    const LINES: [&str; 3] = [
        "INFO: starting new backup job: vzdump 100",
        "INFO:  34% (10.9 GiB of 32.0 GiB) in 1m 3s, read: 180.0 MiB/s",
        "INFO:  70% (22.0 GiB of 32.0 GiB) in 2m 3s, read: 180.0 MiB/s",
    ];
    let reads = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |request, before| {
        if is_log(request) {
            let written = reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            return log(request, &LINES[..written.min(3)]);
        }
        if before < 14 { running() } else { stopped("OK") }
    })
    .await;
    let mut lines = Vec::new();
    let mut percents = Vec::new();
    let told = |progress: &proxmox::TaskProgress| {
        lines.extend(progress.lines.clone());
        percents.extend(progress.percent);
    };
    server.client().wait_task(&upid(), soon(), told).await.unwrap();
    assert_eq!(lines, LINES, "each line is told once");
    assert!(percents.starts_with(&[34, 70]) && percents.ends_with(&[70]), "{percents:?}");
}

#[tokio::test]
async fn a_failure_brings_the_reason_and_the_last_lines() {
    let server = Server::start(|request, _| {
        let mut lines = vec!["INFO: many"; 60];
        lines.extend(["ERROR: Backup of VM 100 failed - storage 'nfs' is not online", "TASK ERROR: job errors"]);
        if is_log(request) { log(request, &lines) } else { stopped("job errors") }
    })
    .await;
    let error = server.client().wait_task(&upid(), soon(), |_| ()).await.unwrap_err();
    let Error::TaskFailed(failure) = &error else { panic!("{error:?}") };
    assert_eq!(failure.exitstatus, "job errors");
    assert_eq!((failure.log.len(), failure.log.last().unwrap().as_str()), (50, "TASK ERROR: job errors"));
    assert_eq!(error.message(), Some("Backup of VM 100 failed - storage 'nfs' is not online"));
    assert!(error.to_string().contains("storage 'nfs' is not online"), "{error}");
}

#[tokio::test]
async fn a_failed_tasks_words_are_understood() {
    let fails = async |text: &'static str| {
        let server = Server::start(move |request, _| if is_log(request) { bare("500 x") } else { stopped(text) }).await;
        server.client().wait_task(&upid(), soon(), |_| ()).await.unwrap_err()
    };
    assert!(fails("VM is locked (migrate)").await.is_locked());
    let denied = fails("403 Permission check failed (/vms/100, VM.Backup)").await.permission_denied().unwrap();
    assert_eq!(denied.path.as_deref(), Some("/vms/100"));
    assert!(fails("Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist").await.is_not_found());
    let killed = fails("unexpected status").await;
    assert!(matches!(&killed, Error::TaskFailed(failure) if failure.log.is_empty()), "{killed:?}");
}

#[tokio::test]
async fn waiting_outlives_a_restart_of_the_api() {
    // More refusals than one read is repeated for.
    let server = Server::start(|_, before| match before {
        0 => running(),
        1..=9 => bare("595 Connection refused"),
        _ => stopped("OK"),
    })
    .await;
    server.client().wait_task(&upid(), soon(), |_| ()).await.unwrap();
}

#[tokio::test]
async fn the_deadline_ends_the_wait_and_not_the_task() {
    let server = Server::start(|_, _| running()).await;
    let error = server.client().wait_task(&upid(), Instant::now(), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::TaskTimeout { .. }), "{error:?}");
    assert!(server.seen().iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn an_unknown_task_is_said_at_once() {
    let body = r#"{"data":null,"message":"Parameter verification failed.\n","errors":{"upid":"no such task"}}"#;
    let server = Server::start(move |_, _| answer("400 Parameter verification failed.", body)).await;
    let error = server.client().wait_task(&upid(), soon(), |_| ()).await.unwrap_err();
    assert_eq!(error.missing(), Some(proxmox::Missing::Task));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_whole_log_is_read_in_pages() {
    let server = Server::start(|request, _| log(request, &vec!["line"; 2500])).await;
    assert_eq!(server.client().task_log_all(&upid()).await.unwrap().len(), 2500);
    assert_eq!(server.seen().len(), 3);
    let empty = Server::start(|_, _| answer("200 OK", r#"{"data":[{"n":1,"t":"no content"}],"total":1}"#)).await;
    assert!(empty.client().task_log_all(&upid()).await.unwrap().is_empty());
}

#[tokio::test]
async fn tasks_are_found() {
    let server = Server::start(|_, _| {
        ok(&format!(
            r#"[{{"upid":"{UPID}","starttime":1767323045}},{{"upid":"{UPID}","endtime":"1767323050","status":"OK"}}]"#
        ))
    })
    .await;
    let filter = TaskFilter {
        vmid: Some(100),
        kind: Some("vzdump".into()),
        since: Some(1_767_323_000),
        source: TaskSource::All,
        limit: None,
    };
    let tasks = server.client().find_tasks("pve1", &filter).await.unwrap();
    assert!(tasks[0].is_running() && tasks[1].is_success());
    assert_eq!(
        server.seen()[0].target,
        "/api2/json/nodes/pve1/tasks?source=all&vmid=100&typefilter=vzdump&since=1767323000"
    );
}

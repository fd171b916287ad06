//! vzdump and restore, and what goes wrong with them.
#![allow(missing_docs)]

mod support;

use simulator::{Action, NodePower, Rule};
use support::{Api, guest, shared_images, three_sites};

const DUMP: [(&str, &str); 5] =
    [("vmid", "300"), ("storage", "transfer"), ("compress", "zstd"), ("mode", "stop"), ("remove", "0")];

async fn upid_status(api: &Api, upid: &str) -> serde_json::Value {
    let node = upid.split(':').nth(1).expect("a node");
    api.get(&format!("/nodes/{node}/tasks/{upid}/status")).await.data()
}

/// proxmox-ve.md §15.10, §17.f6, §16.6: prelaunch while it is backed up; a start then resumes, and the log says so.
#[tokio::test]
async fn a_start_during_the_backup_is_seen() {
    let sim = shared_images().await;
    let east = sim.cluster("east");
    east.create_vm(&guest(300, "e1", "fast", None, false)).expect("a guest");
    let api = Api::new(&east, Some("platform"));
    let dump = api.post("/nodes/e1/vzdump", &DUMP).await;
    let upid = dump.data().as_str().expect("a UPID").to_owned();
    assert_eq!(upid_status(&api, &upid).await["status"], "running");
    let now = api.get("/nodes/e1/qemu/300/status/current").await.data();
    assert_eq!(
        (&now["status"], &now["qmpstatus"], &now["lock"]),
        (&"running".into(), &"prelaunch".into(), &"backup".into())
    );
    let before = east.vm(300).expect("there").disks[0].sha256.clone();
    assert!(east.vm(300).expect("there").lock.is_some());
    let start = api.post("/nodes/e1/qemu/300/status/start", &[]).await;
    assert_eq!(api.wait(&start).await, "OK");
    assert_eq!(api.wait(&dump).await, "OK");
    let log = api.log(&dump).await;
    assert!(log.contains(&"INFO: kvm status changed after backup ('running') - keep VM running".to_owned()), "{log:?}");
    assert!(!log.contains(&"INFO: stopping kvm after backup task".to_owned()));
    let vm = east.vm(300).expect("there");
    assert!(vm.running && vm.lock.is_none());
    assert_ne!(vm.disks[0].sha256, before, "writes after the backup");
}

/// proxmox-ve.md §17.c13, §16.6: the order of the log's lines, stopped and running; lines that prove a cold backup.
#[tokio::test]
async fn log_lines_come_in_order() {
    let sim = shared_images().await;
    let east = sim.cluster("east");
    let api = Api::new(&east, Some("platform"));
    for (vmid, running, order) in [
        (
            300,
            false,
            ["status = stopped", "backup mode: stop", "ionice priority: 7", "VM Name: vm300", "include disk 'scsi0'"],
        ),
        (
            301,
            true,
            [
                "status = running",
                "VM Name: vm301",
                "include disk 'scsi0'",
                "backup mode: snapshot",
                "ionice priority: 7",
            ],
        ),
    ] {
        east.create_vm(&guest(vmid, "e1", "fast", None, running)).expect("a guest");
        let id = vmid.to_string();
        let dump = api.post("/nodes/e1/vzdump", &[("vmid", id.as_str()), ("storage", "transfer")]).await;
        assert_eq!(api.wait(&dump).await, "OK");
        let log = api.log(&dump).await;
        let place =
            |text: &str| log.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log:?}"));
        let places: Vec<_> = order.iter().map(|text| place(text)).collect();
        assert!(places.is_sorted(), "{log:?}");
        assert_eq!(log.last().expect("a line"), "TASK OK");
        assert_eq!(log.contains(&"INFO: starting kvm to execute backup task".to_owned()), !running);
    }
}

/// proxmox-ve.md §18.12: a drive by path is backed up, and becomes an ordinary volume of the storage that is named.
#[tokio::test]
async fn a_drive_by_path_becomes_a_volume() {
    let sim = three_sites().await;
    let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
    prod.create_vm(&guest(300, "ws1", "ceph-pool", None, false)).expect("a guest");
    prod.set_config(300, "scsi1", Some("/dev/disk/by-id/ata-X1,size=4G"));
    prod.set_config(300, "virtiofs0", Some("dirid=share"));
    let (a, b) = (Api::new(&prod, Some("platform")), Api::new(&dr, Some("platform")));
    let dump = a.post("/nodes/ws1/vzdump", &DUMP).await;
    assert_eq!(a.wait(&dump).await, "OK");
    let archive = dr.archives("transfer")[0].volid.clone();
    let form =
        [("vmid", "300"), ("archive", archive.as_str()), ("storage", "zfs-pool"), ("net0", "virtio,bridge=vmbr0")];
    let restore = b.post("/nodes/db1/qemu", &form).await;
    assert_eq!(b.wait(&restore).await, "OK");
    let moved = dr.vm(300).expect("there").config;
    assert!(moved["scsi1"].starts_with("zfs-pool:vm-300-disk-"), "{moved:?}");
    // What isn't on the node is missed at the start alone.
    assert_eq!(dr.start(300).expect_err("refused").0, "virtiofs needs exactly one mapping for this node");
    dr.put_device("db1", "dir:share");
    dr.start(300).expect("a start");
    assert_eq!(prod.start(300).expect_err("refused").0, "start failed: QEMU exited with code 1");
    prod.put_device("ws1", "/dev/disk/by-id/ata-X1");
    prod.put_device("ws1", "dir:share");
    prod.start(300).expect("a start");
}

/// proxmox-ve.md §15.4: none of the guests here: `OK` and no task.
#[tokio::test]
async fn the_wrong_node_says_ok() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(300, "ws2", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    assert_eq!(api.post("/nodes/ws1/vzdump", &DUMP).await.data(), "OK");
    assert!(prod.archives("transfer").is_empty());
    // A guest nobody has is a task, and an error in its log.
    let dump = api.post("/nodes/ws1/vzdump", &[("vmid", "999"), ("storage", "transfer")]).await;
    assert_eq!(api.wait(&dump).await, "job errors");
    assert!(api.log(&dump).await.contains(&"ERROR: Backup of VM 999 failed - unable to find VM '999'".to_owned()));
}

/// proxmox-ve.md §15.15, §17.f7: one vzdump per node; who waits too long ends without a last line.
#[tokio::test]
async fn one_backup_per_node() {
    let sim = shared_images().await;
    let east = sim.cluster("east");
    let mut big = guest(300, "e1", "fast", None, false);
    big.config.insert("scsi0".into(), "fast:400".into());
    east.create_vm(&big).expect("a guest");
    east.create_vm(&guest(301, "e1", "fast", None, false)).expect("a guest");
    let api = Api::new(&east, Some("platform"));
    let first = api.post("/nodes/e1/vzdump", &DUMP).await;
    upid_status(&api, first.data().as_str().expect("a UPID")).await;
    let second = api.post("/nodes/e1/vzdump", &[("vmid", "301"), ("storage", "transfer"), ("lockwait", "1")]).await;
    assert_eq!(api.wait(&second).await, "unexpected status");
    let log = api.log(&second).await;
    assert_eq!(log[0], "INFO: trying to get global lock - waiting...");
    assert_eq!(log.last().expect("a line"), "ERROR: can't acquire lock '/var/run/vzdump.lock' - got timeout");
    assert_eq!(api.wait(&first).await, "OK");
}

/// proxmox-ve.md §15.11, §15.12: archive names are local time; retention counts the vmid, whosever it is.
#[tokio::test]
async fn a_shared_storage_shares_its_vmids() {
    let sim = three_sites().await;
    let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
    prod.create_vm(&guest(300, "ws1", "ceph-pool", None, false)).expect("a guest");
    dr.create_vm(&guest(300, "db1", "zfs-pool", None, false)).expect("another guest");
    let (a, b) = (Api::new(&prod, Some("platform")), Api::new(&dr, Some("platform")));
    let first = a.post("/nodes/ws1/vzdump", &DUMP).await;
    assert_eq!(a.wait(&first).await, "OK");
    let volid = prod.archives("transfer")[0].volid.clone();
    // 08:00 UTC is 09:00 in Amsterdam.
    assert!(
        volid.starts_with("transfer:backup/vzdump-qemu-300-2026_01_05-09_00_") && volid.ends_with(".vma.zst"),
        "{volid}"
    );
    let keep = [("vmid", "300"), ("storage", "transfer"), ("compress", "zstd"), ("prune-backups", "keep-last=1")];
    sim.advance(std::time::Duration::from_secs(5));
    let second = b.post("/nodes/db1/vzdump", &keep).await;
    assert_eq!(b.wait(&second).await, "OK");
    let left = prod.archives("transfer");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_ne!(left[0].volid, volid, "the other cluster's backup was pruned");
    let mut limited = keep.to_vec();
    limited.push(("remove", "0"));
    let third = b.post("/nodes/db1/vzdump", &limited).await;
    assert_eq!(b.wait(&third).await, "job errors");
    assert!(b.log(&third).await.iter().any(|line| line.contains("There is a max backup limit of 1 enforced")));
}

/// proxmox-ve.md §17.d3, §17.c5: notes and protection; deleting a protected archive is a failing task.
#[tokio::test]
async fn protected_archives_stay() {
    let sim = shared_images().await;
    let east = sim.cluster("east");
    east.create_vm(&guest(300, "e1", "fast", None, false)).expect("a guest");
    let api = Api::new(&east, Some("platform"));
    let mut form = DUMP.to_vec();
    form.extend([("protected", "1"), ("notes-template", "op {{vmid}}\\nmore"), ("lockwait", "1")]);
    let dump = api.post("/nodes/e1/vzdump", &form).await;
    assert_eq!(api.wait(&dump).await, "OK");
    let archive = east.archives("transfer")[0].clone();
    assert_eq!((archive.notes.as_str(), archive.protected), ("op 300\nmore", true));
    let listed = api.get("/nodes/e1/storage/transfer/content?vmid=300").await.data();
    assert_eq!(listed[0]["notes"], "op 300", "lists have the first line");
    let path = format!("/nodes/e1/storage/transfer/content/{}", archive.volid);
    let one = api.get(&path).await.data();
    assert_eq!(one["notes"], "op 300\nmore");
    let delete = api.delete(&path).await;
    let name = archive.volid.split_once(':').expect("a volid").1;
    assert_eq!(api.wait(&delete).await, format!("cannot remove protected volume '{name}' on 'transfer'"));
    assert_eq!(api.put(&path, &[("protected", "0")]).await.status, 200);
    let delete = api.delete(&path).await;
    assert_eq!(api.wait(&delete).await, "OK");
    assert!(east.archives("transfer").is_empty());
}

/// proxmox-ve.md §18.1: the answer about one volume is what `qemu-img` takes an archive for; the listing is exact.
#[tokio::test]
async fn one_archive_is_not_answered_for_as_it_is_listed() {
    let sim = shared_images().await;
    let volid = archived(&sim).await;
    let api = Api::new(&sim.cluster("east"), Some("platform"));
    let listed = api.get("/nodes/e1/storage/transfer/content?vmid=300").await.data()[0].clone();
    let one = api.get(&format!("/nodes/e1/storage/transfer/content/{volid}")).await.data();
    let number = |value: &serde_json::Value, key: &str| value[key].as_u64().expect("a number");
    let exact = number(&listed, "size");
    assert_ne!(exact % 512, 0, "an archive of {exact} bytes shows nothing");
    assert_eq!(number(&one, "size"), exact.next_multiple_of(512));
    assert_eq!((&listed["format"], &one["format"]), (&"vma.zst".into(), &"raw".into()));
    assert!(number(&one, "used") >= exact);
}

/// proxmox-ve.md §17.c4: a missing right on a single guest is the task's 403, after an INFO line.
#[tokio::test]
async fn backup_rights_are_seen_in_the_task() {
    let sim = shared_images().await;
    let east = sim.cluster("east");
    east.create_vm(&guest(300, "e1", "fast", None, false)).expect("a guest");
    let app = Api::new(&east, Some("app"));
    let dump = app.post("/nodes/e1/vzdump", &DUMP).await;
    assert_eq!(app.wait(&dump).await, "403 Permission check failed (/vms/300, VM.Backup)");
    assert!(app.log(&dump).await[0].starts_with("INFO: "));
    let limited = app.post("/nodes/e1/vzdump", &[("vmid", "300"), ("storage", "transfer"), ("bwlimit", "100")]).await;
    limited.refused(403, "Permission check failed (/, Sys.Modify)");
}

/// An archive of VM 300 on the transfer storage, from east.
async fn archived(sim: &simulator::Simulator) -> String {
    let east = sim.cluster("east");
    if east.vm(300).is_none() {
        east.create_vm(&guest(300, "e1", "fast", None, false)).expect("a guest");
    }
    let api = Api::new(&east, Some("platform"));
    let dump = api.post("/nodes/e1/vzdump", &DUMP).await;
    assert_eq!(api.wait(&dump).await, "OK");
    east.archives("transfer").last().expect("an archive").volid.clone()
}

/// proxmox-ve.md §15.6, §17.c6, §17.c7: an early failure leaves an empty stub, the exit status is the pipeline's.
#[tokio::test]
async fn a_failed_restore_leaves_a_stub() {
    let sim = shared_images().await;
    let volid = archived(&sim).await;
    let west = sim.cluster("west");
    let api = Api::new(&west, Some("platform"));
    let form = [("vmid", "300"), ("archive", volid.as_str()), ("storage", "transfer")];
    let restore = api.post("/nodes/w1/qemu", &form).await;
    let exit = api.wait(&restore).await;
    assert!(
        exit.starts_with("command 'set -o pipefail && zstd -q -d -c /mnt/pve/transfer/dump/vzdump-qemu-300-"),
        "{exit}"
    );
    assert!(exit.ends_with("' failed: Content type 'images' is not available on storage 'transfer'"), "{exit}");
    let stub = west.vm(300).expect("a stub");
    assert!(stub.config.is_empty() && stub.lock.is_none());
    assert_eq!(stub.digest, "da39a3ee5e6b4b0d3255bfef95601890afd80709", "SHA-1 of nothing");
    api.post("/nodes/w1/qemu", &form)
        .await
        .refused(500, "unable to restore VM 300 - VM 300 already exists on node 'w1'");
    let destroy = api.delete("/nodes/w1/qemu/300").await;
    assert_eq!(api.wait(&destroy).await, "OK");
}

/// proxmox-ve.md §15.6, §15.7, §17.c6, §17.c7, §17.f8: `memory: 128` without lock meanwhile; TERM cleans up, a crash
/// leaves stub and volumes.
#[tokio::test]
async fn an_interrupted_restore() {
    let sim = shared_images().await;
    let volid = archived(&sim).await;
    let west = sim.cluster("west");
    let api = Api::new(&west, Some("platform"));
    let form = [("vmid", "300"), ("archive", volid.as_str()), ("storage", "fast"), ("name", "marker")];
    let restore = api.post("/nodes/w1/qemu", &form).await;
    let upid = restore.data().as_str().expect("a UPID").to_owned();
    assert_eq!(west.vm(300).expect("a stub").lock.as_deref(), Some("create"));
    upid_status(&api, &upid).await;
    let config = api.get("/nodes/w1/qemu/300/config").await.data();
    assert_eq!(config["memory"], "128");
    assert!(config.get("lock").is_none() && config.get("name").is_none());
    api.put("/nodes/w1/qemu/300/config", &[("cores", "1")])
        .await
        .refused(500, "can't lock file '/var/lock/qemu-server/lock-300.conf' - got timeout");
    assert_eq!(api.delete(&format!("/nodes/w1/tasks/{upid}")).await.status, 200);
    let exit = api.wait(&restore).await;
    assert!(exit.ends_with("failed: interrupted by signal"), "{exit}");
    assert_eq!(west.vm(300).expect("a stub").config.len(), 1);
    assert!(west.volumes().iter().all(|volume| !volume.volid.starts_with("fast:")));
    let destroy = api.delete("/nodes/w1/qemu/300").await;
    assert_eq!(api.wait(&destroy).await, "OK");
    // The node dies in the middle.
    let restore = api.post("/nodes/w1/qemu", &form).await;
    let upid = restore.data().as_str().expect("a UPID").to_owned();
    upid_status(&api, &upid).await;
    west.power_node("w1", NodePower::Off);
    west.power_node("w1", NodePower::On);
    assert_eq!(api.wait(&restore).await, "unexpected status");
    let stub = west.vm(300).expect("a stub");
    assert_eq!((stub.config["memory"].as_str(), stub.lock), ("128", None));
    assert_eq!(west.volumes().iter().filter(|volume| volume.volid.starts_with("fast:")).count(), 1, "orphan");
    // The next restore adopts it.
    let destroy = api.delete("/nodes/w1/qemu/300").await;
    assert_eq!(api.wait(&destroy).await, "OK");
    let restore = api.post("/nodes/w1/qemu", &form).await;
    assert_eq!(api.wait(&restore).await, "OK");
    assert!(west.vm(300).expect("there").config.contains_key("unused0"));
}

/// proxmox-ve.md §17.f8, §15.7: a killed backup leaves its lock, which a token cannot take away.
#[tokio::test]
async fn a_killed_backup_leaves_its_lock() {
    let sim = shared_images().await;
    let east = sim.cluster("east");
    east.create_vm(&guest(300, "e1", "fast", None, false)).expect("a guest");
    east.set_config(300, "template", Some("1"));
    let api = Api::new(&east, Some("platform"));
    let dump = api.post("/nodes/e1/vzdump", &DUMP).await;
    let upid = dump.data().as_str().expect("a UPID").to_owned();
    upid_status(&api, &upid).await;
    api.delete(&format!("/nodes/e1/tasks/{upid}")).await;
    assert_eq!(api.wait(&dump).await, "interrupted by signal");
    assert_eq!(east.vm(300).expect("there").lock, None, "TERM clears it");
    let dump = api.post("/nodes/e1/vzdump", &DUMP).await;
    upid_status(&api, dump.data().as_str().expect("a UPID")).await;
    east.power_node("e1", NodePower::Off);
    east.power_node("e1", NodePower::On);
    assert_eq!(api.wait(&dump).await, "unexpected status");
    assert_eq!(east.vm(300).expect("there").lock.as_deref(), Some("backup"));
    api.put("/nodes/e1/qemu/300/config", &[("delete", "lock")]).await.refused(500, "only root can set 'lock' config");
    assert!(east.archives("transfer").is_empty());
}

/// proxmox-ve.md §17.d5, §16.8: a restore adopts another cluster's disk, and DELETE frees it.
#[tokio::test]
async fn a_restore_adopts_foreign_disks() {
    let sim = shared_images().await;
    let (east, west) = (sim.cluster("east"), sim.cluster("west"));
    let volid = archived(&sim).await;
    east.create_vm(&guest(301, "e1", "shared-nfs", None, false)).expect("a victim");
    let api = Api::new(&west, Some("platform"));
    let form = [("vmid", "301"), ("archive", volid.as_str()), ("storage", "fast")];
    let restore = api.post("/nodes/w1/qemu", &form).await;
    assert_eq!(api.wait(&restore).await, "OK");
    let line = "VM 301 add unreferenced volume 'shared-nfs:301/vm-301-disk-0.raw' as 'unused0' to config";
    assert!(api.log(&restore).await.contains(&line.to_owned()));
    let destroy = api.delete("/nodes/w1/qemu/301").await;
    assert_eq!(api.wait(&destroy).await, "OK");
    assert_eq!(east.vm(301).expect("there").disks[0].sha256, "", "the victim's disk is gone");
}

/// proxmox-ve.md §17.d4: every override holds at the end; what was not overridden is kept.
#[tokio::test]
async fn overrides_hold() {
    let sim = shared_images().await;
    let volid = archived(&sim).await;
    let (east, west) = (sim.cluster("east"), sim.cluster("west"));
    let api = Api::new(&west, Some("platform"));
    let mac = east.vm(300).expect("there").config["net0"].split(',').next().expect("a model").to_owned();
    let net = format!("{mac},bridge=vmbr0,link_down=1");
    let form = [
        ("vmid", "300"),
        ("archive", volid.as_str()),
        ("storage", "fast"),
        ("unique", "0"),
        ("name", "moved"),
        ("net0", net.as_str()),
        ("onboot", "0"),
        ("pool", "team"),
        ("description", "d"),
        ("tags", "t"),
    ];
    let restore = api.post("/nodes/w1/qemu", &form).await;
    assert_eq!(api.wait(&restore).await, "OK");
    let (old, new) = (east.vm(300).expect("there"), west.vm(300).expect("there"));
    for (key, value) in
        [("name", "moved"), ("net0", net.as_str()), ("onboot", "0"), ("description", "d"), ("tags", "t")]
    {
        assert_eq!(new.config[key], value);
    }
    assert_eq!((new.pool.as_deref(), &new.uuid), (Some("team"), &old.uuid));
    assert_ne!(new.config["vmgenid"], old.config["vmgenid"]);
    assert_eq!(new.config["memory"], old.config["memory"]);
    assert_eq!(new.disks[0].sha256, old.disks[0].sha256);
}

/// proxmox-ve.md §17.f9: D1, E1 and its order, E8, E10.
#[tokio::test]
async fn refused_restores() {
    let sim = shared_images().await;
    let volid = archived(&sim).await;
    let west = sim.cluster("west");
    let api = Api::new(&west, Some("platform"));
    let gone = "transfer:backup/vzdump-qemu-300-2020_01_01-00_00_00.vma.zst";
    west.create_vm(&guest(300, "w1", "fast", None, false)).expect("in the way");
    api.post("/nodes/w1/qemu", &[("vmid", "300"), ("archive", gone)])
        .await
        .refused(500, &format!("volume '{gone}' does not exist"));
    api.post("/nodes/w1/qemu", &[("vmid", "300"), ("archive", &volid)])
        .await
        .refused(500, "unable to restore VM 300 - VM 300 already exists on node 'w1'");
    api.post("/nodes/w1/qemu", &[("vmid", "301"), ("archive", &volid), ("scsi0", "fast:1")])
        .await
        .bad("scsi0", "option conflicts with option 'archive'");
    let live = api.post("/nodes/w1/qemu", &[("vmid", "301"), ("archive", &volid), ("live-restore", "1")]).await;
    assert_eq!(
        api.wait(&live).await,
        "live-restore is only compatible with backup images from a Proxmox Backup Server"
    );
    sim.cluster("east").corrupt_archive(&volid).expect("cut");
    let cut = api.post("/nodes/w1/qemu", &[("vmid", "302"), ("archive", &volid), ("storage", "fast")]).await;
    assert!(api.wait(&cut).await.ends_with("failed: exit code 1"));
}

/// proxmox-ve.md §15.5: `job errors` hides the reason in the log; a full storage leaves nothing behind.
#[tokio::test]
async fn a_full_storage() {
    let sim = shared_images().await;
    let east = sim.cluster("east");
    east.create_vm(&guest(300, "e1", "fast", None, false)).expect("a guest");
    sim.fault(Rule::on("POST", "/nodes/*/vzdump", Action::FillStorage("transfer".into())));
    let api = Api::new(&east, Some("platform"));
    let dump = api.post("/nodes/e1/vzdump", &DUMP).await;
    assert_eq!(api.wait(&dump).await, "job errors");
    assert!(api.log(&dump).await.iter().any(|line| line.starts_with("ERROR: Backup of VM 300 failed - ")));
    let vm = east.vm(300).expect("there");
    assert_eq!((vm.status.as_str(), vm.lock), ("stopped", None));
    assert!(sim.litter().is_empty(), "{:?}", sim.litter());
}

/// proxmox-ve.md §6: a scheduled job is one task on each node that has guests of it, and holds the node's lock for all.
#[tokio::test]
async fn a_scheduled_job_holds_its_node() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    for (vmid, node) in [(100, "ws1"), (101, "ws1"), (102, "ws2")] {
        prod.create_vm(&guest(vmid, node, "ceph-pool", None, true)).expect("a guest");
    }
    prod.schedule_backup("nightly", None, "transfer", std::time::Duration::from_secs(60));
    let api = Api::new(&prod, Some("platform"));
    let jobs = api.get("/cluster/backup").await.data();
    assert_eq!((&jobs[0]["id"], &jobs[0]["all"]), (&"nightly".into(), &1.into()));
    let next = jobs[0]["next-run"].as_i64().expect("a time");
    sim.advance(std::time::Duration::from_secs(61));
    assert!(!prod.newest_log("vzdump").is_empty(), "it runs");
    let mine = api.post("/nodes/ws1/vzdump", &[("vmid", "100"), ("storage", "transfer"), ("lockwait", "1")]).await;
    api.wait(&mine).await;
    assert!(api.log(&mine).await[0].contains("trying to get global lock"));
    assert_eq!(api.get("/cluster/backup").await.data()[0]["next-run"].as_i64(), Some(next + 86_400));
}

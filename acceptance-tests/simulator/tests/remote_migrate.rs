//! Guests that go to another cluster by `remote_migrate`: what is carried and what stays.
#![allow(missing_docs)]

mod support;

use support::pair::{Pair, rich};

/// proxmox-ve.md §9, §11, §15.14, §16.11: a stopped guest goes whole; the source keeps `lock: migrate` for good.
#[tokio::test]
async fn a_stopped_guest_goes_whole_and_its_source_stays_locked() {
    let pair = Pair::with(rich(true)).await;
    pair.prod.set_guest_firewall(400, &[("in", "ACCEPT", Some("10.0.0.0/8")), ("in", "DROP", None)]);
    pair.prod.guest_write(400).expect("it runs");
    pair.prod.stop(400);
    let before = pair.prod.vm(400).expect("there");
    assert!(before.disks[0].newest > 0, "it has run");
    let maps =
        [("target-storage", "ceph-pool:zfs-pool,local-lvm:zfs-pool"), ("target-bridge", "vmbr0:vmbr0,vmbr1:vmbr0")];
    let (exit, log) = pair.run(&maps).await;
    assert_eq!(exit, "OK", "{log}");

    let after = pair.dr.vm(400).expect("there");
    assert_eq!((after.node.as_str(), after.status.as_str(), after.lock.as_deref()), ("db1", "stopped", None));
    let hashes =
        |vm: &simulator::VmSnapshot| vm.disks.iter().map(|d| (d.slot.clone(), d.sha256.clone())).collect::<Vec<_>>();
    assert_eq!(hashes(&after), hashes(&before));
    for key in ["smbios1", "vmgenid", "name", "tags", "description", "onboot", "protection", "boot", "cores", "memory"]
    {
        assert_eq!(after.config[key], before.config[key], "{key}");
    }
    assert_eq!(after.config["net0"], before.config["net0"]);
    assert_eq!(after.config["net1"], before.config["net1"].replace("vmbr1", "vmbr0"), "the tag is the source's");
    assert!(after.config["scsi1"].contains("zfs-pool:") && after.config["scsi1"].contains("serial=abc"));
    assert_eq!(pair.dr.guest_firewall_rules(400), 2);
    assert_eq!(after.pool, None);

    let source = pair.prod.vm(400).expect("kept");
    assert_eq!((source.status.as_str(), source.lock.as_deref()), ("stopped", Some("migrate")));
    assert_eq!(hashes(&source), hashes(&before));
    assert!(
        log.contains("mapped: net1 from vmbr1 to vmbr0") && log.contains("migration finished successfully"),
        "{log}"
    );
    assert_eq!((pair.prod.tasks_of(400), pair.dr.tasks_of(400)), (vec!["qmigrate".into()], vec!["qmtunnel".into()]));

    // A token gets no further with it; root does.
    let start = pair.a.post("/nodes/ws1/qemu/400/status/start", &[]).await;
    assert_eq!(pair.a.wait(&start).await, "VM is locked (migrate)");
    pair.a.put("/nodes/ws1/qemu/400/config", &[("onboot", "0")]).await.refused(500, "VM is locked (migrate)");
    pair.send(&[]).await.refused(500, "VM is locked (migrate)");
    pair.prod.unlock(400).expect("unlocked");
    pair.prod.set_config(400, "protection", None);
    let destroy = pair.a.delete("/nodes/ws1/qemu/400").await;
    assert_eq!(pair.a.wait(&destroy).await, "OK");
    assert_eq!(pair.sim.litter(), Vec::<String>::new());
}

/// proxmox-ve.md §9: online, the guest runs and writes on, and its last record arrives.
#[tokio::test]
async fn a_running_guest_goes_on_over_there() {
    let pair = Pair::with(rich(true)).await;
    let uuid = pair.prod.vm(400).and_then(|vm| vm.uuid).expect("a uuid");
    let answer = pair.send(&[("online", "1"), ("target-vmid", "900")]).await;
    pair.until(&answer, "mirror-scsi0").await;
    assert_eq!(pair.sim.running_copies(&uuid)[0].cluster, "worldstream-prod");
    assert_eq!(pair.prod.vm(400).and_then(|vm| vm.lock).as_deref(), Some("migrate"));
    let waiting = pair.b.get("/nodes/db1/qemu/900/status/current").await.data();
    assert_eq!((&waiting["qmpstatus"], &waiting["lock"]), (&"inmigrate".into(), &"migrate".into()));
    let during = pair.prod.guest_write(400).expect("runs");
    assert_eq!(pair.a.wait(&answer).await, "OK", "{:?}", pair.prod.newest_log("qmigrate"));
    let running = pair.sim.running_copies(&uuid);
    assert_eq!((running.len(), running[0].vmid, running[0].lock.as_deref()), (1, 900, None));
    let source = pair.prod.vm(400).expect("kept");
    assert_eq!((source.status.as_str(), source.lock.as_deref()), ("stopped", Some("migrate")));
    assert!(source.disks[0].newest > during);
    assert!(pair.dr.guest_write(900).expect("runs") > source.disks[0].newest);
    pair.is_safe(&uuid);
    assert_eq!(running[0].config["net1"].rsplit_once("tag=").map(|(_, tag)| tag), Some("7"));
}

/// proxmox-ve.md §9: `delete=1` frees disks and configuration; pool entry and rights stay.
#[tokio::test]
async fn a_source_that_is_to_go_goes() {
    let pair = Pair::with(rich(false)).await;
    pair.prod.grant("app@pve", "/vms/400", "PVEVMUser").expect("a role");
    let (exit, log) = pair.run(&[("delete", "1")]).await;
    assert_eq!(exit, "OK", "{log}");
    assert!(pair.prod.vm(400).is_none() && pair.prod.volumes().is_empty());
    assert_eq!(pair.sim.litter(), Vec::<String>::new());
    assert!(pair.prod.pools()["production-pool"].1.contains(&400));
    let rights = pair.a.get("/access/permissions?userid=app@pve&path=/vms/400").await.data();
    assert_eq!(rights["/vms/400"]["VM.PowerMgmt"], 1);
}

/// proxmox-ve.md §9, §11: unused disks and pending changes are lost; the cloud-init drive goes with its bytes.
#[tokio::test]
async fn unused_disks_and_pending_changes_stay_behind() {
    let mut spec = rich(true);
    spec.config.insert("ide2".to_owned(), "local-lvm:cloudinit".to_owned());
    let pair = Pair::with(spec).await;
    pair.prod.change(400, "scsi1", "ceph-pool:1").expect("changed");
    pair.prod.change(400, "memory", "4096").expect("pending");
    let before = pair.prod.vm(400).expect("there");
    assert!(before.config.contains_key("unused0") && before.pending.contains("memory"));
    let (exit, log) = pair.run(&[("online", "1")]).await;
    assert_eq!(exit, "OK", "{log}");
    let after = pair.dr.vm(400).expect("there");
    assert_eq!((after.config["memory"].as_str(), after.pending.len()), ("2048", 0));
    assert!(!after.config.contains_key("unused0"), "{:?}", after.config);
    let image = |cluster: &simulator::ClusterHandle| {
        let found = cluster.volumes().into_iter().find(|volume| volume.volid.ends_with("cloudinit"));
        found.expect("a cloud-init drive").sha256
    };
    assert_eq!(image(&pair.dr), image(&pair.prod));
    assert_eq!(pair.dr.volumes().len(), 3);
}

/// proxmox-ve.md §9: the limit of the call, the line and the storages say how long it takes; the node's address says where.
#[tokio::test]
async fn time_and_place_are_as_asked_for() {
    let mut took = Vec::new();
    for limit in ["0", "1024"] {
        let pair = Pair::with(rich(false)).await;
        let db2 = format!(
            "host=192.168.100.11,apitoken=PVEAPIToken={},fingerprint={}",
            pair.dr.token("platform").expect("a token"),
            pair.dr.fingerprints()[1]
        );
        let began = pair.sim.now_ms();
        let (exit, log) = pair.run(&[("bwlimit", limit), ("target-endpoint", &db2)]).await;
        assert_eq!((exit.as_str(), pair.dr.vm(400).expect("there").node.as_str()), ("OK", "db2"), "{log}");
        took.push((pair.sim.now_ms() - began) / 1000);
    }
    // 12 GiB over 1000 Mbit/s, then at 1 MiB/s.
    assert!((100..120).contains(&took[0]) && (12_288..12_310).contains(&took[1]), "{took:?}");
}

/// proxmox-ve.md §9: a paused guest is moved live, and is paused there.
#[tokio::test]
async fn a_paused_guest_stays_paused() {
    let pair = Pair::with(rich(true)).await;
    let pause = pair.a.post("/nodes/ws1/qemu/400/status/suspend", &[]).await;
    assert_eq!(pair.a.wait(&pause).await, "OK");
    let before = pair.prod.vm(400).expect("there");
    let (exit, log) = pair.run(&[("online", "1")]).await;
    assert_eq!(exit, "OK", "{log}");
    let after = pair.dr.vm(400).expect("there");
    assert_eq!((after.status.as_str(), &after.disks[0].sha256), ("paused", &before.disks[0].sha256));
    let resume = pair.b.post("/nodes/db1/qemu/400/status/resume", &[]).await;
    assert_eq!((pair.b.wait(&resume).await.as_str(), pair.dr.guest_write(400).is_some()), ("OK", true));
}

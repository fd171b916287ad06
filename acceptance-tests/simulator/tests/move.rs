//! The whole way of a VM between two clusters, as a least-privilege token goes it.
#![allow(missing_docs)]

mod support;

use support::{Api, guest, three_sites};

/// proxmox-ve.md §17 (the design's steps; a least-privilege token did the whole move).
#[tokio::test]
async fn backup_and_restore_carry_every_byte() {
    let sim = three_sites().await;
    let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
    prod.create_vm(&guest(400, "ws1", "ceph-pool", Some("production-pool"), true)).expect("a guest");
    let before = prod.vm(400).expect("there");
    let (a, b) = (Api::new(&prod, Some("narrow")), Api::new(&dr, Some("narrow")));
    let shut = a.post("/nodes/ws1/qemu/400/status/shutdown", &[]).await;
    assert_eq!(a.wait(&shut).await, "OK");
    let cold = prod.vm(400).expect("there");
    assert!(cold.disks[0].newest > 0, "a running guest writes");
    let dump = a
        .post(
            "/nodes/ws1/vzdump",
            &[
                ("vmid", "400"),
                ("storage", "transfer"),
                ("mode", "stop"),
                ("compress", "zstd"),
                ("remove", "0"),
                ("protected", "1"),
                ("lockwait", "1"),
                ("notes-template", "op-1 x"),
            ],
        )
        .await;
    assert_eq!(a.wait(&dump).await, "OK", "{:?}", a.log(&dump).await);
    let log = a.log(&dump).await;
    for line in ["status = stopped", "starting kvm to execute backup task", "stopping kvm after backup task"] {
        assert!(log.contains(&format!("INFO: {line}")), "{line} in {log:?}");
    }
    let fence = a.put("/nodes/ws1/qemu/400/config", &[("template", "1"), ("protection", "1"), ("onboot", "0")]).await;
    assert_eq!(fence.status, 200);
    let listed = b.get("/nodes/db1/storage/transfer/content?content=backup&vmid=400").await.data();
    assert_eq!(listed[0]["notes"], "op-1 x");
    assert_eq!(listed[0]["protected"], 1);
    let volid = listed[0]["volid"].as_str().expect("a volid");
    let restore = b
        .post(
            "/nodes/db1/qemu",
            &[
                ("vmid", "400"),
                ("archive", volid),
                ("storage", "zfs-pool"),
                ("pool", "production-pool"),
                ("unique", "0"),
                ("onboot", "0"),
                ("net0", &format!("{},link_down=1", before.config["net0"])),
                ("description", "moved"),
            ],
        )
        .await;
    assert_eq!(b.wait(&restore).await, "OK", "{:?}", b.log(&restore).await);
    let after = dr.vm(400).expect("there");
    assert_eq!(after.disks[0].sha256, cold.disks[0].sha256);
    assert_eq!(after.disks[0].newest, cold.disks[0].newest);
    assert_eq!(after.config["smbios1"], before.config["smbios1"]);
    assert_ne!(after.config["vmgenid"], before.config["vmgenid"]);
    assert_eq!(after.config["description"], "moved");
    assert!(after.config["net0"].ends_with("link_down=1"));
    assert_eq!(after.pool.as_deref(), Some("production-pool"));
    assert!(!after.template);
    let log = b.log(&restore).await;
    assert!(log.contains(&format!("new volume ID is '{}'", after.disks[0].volid)), "{log:?}");
    let start = b.post("/nodes/db1/qemu/400/status/start", &[]).await;
    assert_eq!(b.wait(&start).await, "OK");
    let uuid = after.uuid.expect("a uuid");
    assert_eq!(sim.running_copies(&uuid).len(), 1);
    assert_eq!(sim.newest_held(&uuid), sim.newest_written(&uuid));
    let archived = prod.archives("transfer");
    assert_eq!((archived[0].uuid.as_ref(), &archived[0].disks[0].sha256), (Some(&uuid), &cold.disks[0].sha256));
    assert!(sim.newest_written(&uuid) > cold.disks[0].newest, "the target has written since");
    dr.remove_vm(400);
    assert!(sim.newest_held(&uuid) < sim.newest_written(&uuid), "its writes are lost");
    let again = a.post("/nodes/ws1/qemu/400/status/start", &[]).await;
    assert_eq!(a.wait(&again).await, "you can't start a vm if it's a template");
}

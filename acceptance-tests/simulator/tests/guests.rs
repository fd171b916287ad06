//! Life of a VM: configuration, power, HA, pools, destruction.
#![allow(missing_docs)]

mod support;

use std::time::Duration;

use simulator::NodePower;
use support::{Api, guest, three_sites};

const ONE: &str = "/nodes/ws1/qemu/100";

/// proxmox-ve.md §15.4, §17.f4: starting what is missing or locked is 200 and a failing task.
#[tokio::test]
async fn start_checks_in_the_task() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let api = Api::new(&prod, Some("platform"));
    let start = api.post("/nodes/ws1/qemu/999/status/start", &[]).await;
    assert_eq!(api.wait(&start).await, "Configuration file 'nodes/ws1/qemu-server/999.conf' does not exist");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    prod.set_config(100, "lock", Some("migrate"));
    let start = api.post(&format!("{ONE}/status/start"), &[]).await;
    assert_eq!(api.wait(&start).await, "VM is locked (migrate)");
    api.put(&format!("{ONE}/config"), &[("cores", "1")]).await.refused(500, "VM is locked (migrate)");
    let destroy = api.delete(ONE).await;
    assert_eq!(api.wait(&destroy).await, "VM is locked (migrate)");
}

/// proxmox-ve.md §17.f3: digest, protection, exists and running texts.
#[tokio::test]
async fn refusals_of_a_vm() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws2", "ceph-pool", None, true)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let one = "/nodes/ws2/qemu/100";
    api.put(&format!("{one}/config"), &[("cores", "1"), ("digest", "0000")])
        .await
        .refused(500, "checksum mismatch (file change by other user?)");
    api.delete(one).await.refused(500, "VM 100 is running - destroy failed");
    api.post("/nodes/ws1/qemu", &[("vmid", "100")])
        .await
        .refused(500, "unable to create VM 100 - VM 100 already exists on node 'ws2'");
    prod.stop(100);
    assert_eq!(api.put(&format!("{one}/config"), &[("protection", "1")]).await.status, 200);
    api.delete(one).await.refused(500, "can't remove VM 100 - protection mode enabled");
    api.get("/cluster/nextid?vmid=100").await.bad("vmid", "VM 100 already exists");
    assert_eq!(api.get("/cluster/nextid").await.data(), "101");
}

/// proxmox-ve.md §16.2, §17.d1: template as a fence; pending on a running VM, and `revert`.
#[tokio::test]
async fn template_is_a_fence() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let config = format!("{ONE}/config");
    assert_eq!(api.put(&config, &[("template", "1")]).await.status, 200);
    let current = api.get(&format!("{config}?current=1")).await.data();
    assert!(current.get("template").is_none());
    assert_eq!(api.get(&config).await.data()["template"], 1);
    let pending = api.get(&format!("{ONE}/pending")).await.data();
    assert!(pending.as_array().expect("a list").iter().any(|e| e["key"] == "template" && e["pending"] == 1));
    assert_eq!(api.put(&config, &[("revert", "template")]).await.status, 200);
    assert!(api.get(&config).await.data().get("template").is_none());
    prod.stop(100);
    let volid = prod.vm(100).expect("there").disks[0].volid.clone();
    let digest = prod.vm(100).expect("there").digest;
    let form = [("template", "1"), ("protection", "1"), ("onboot", "0"), ("digest", digest.as_str())];
    assert_eq!(api.put(&config, &form).await.status, 200);
    assert_eq!(prod.vm(100).expect("there").disks[0].volid, volid, "disks are not converted");
    assert_eq!(prod.start(100).expect_err("refused").0, "you can't start a vm if it's a template");
    assert_eq!(api.put(&config, &[("delete", "template,protection")]).await.status, 200);
    prod.start(100).expect("starts");
}

/// proxmox-ve.md §15.8, §17.f10: /cluster/resources lags ten seconds in status and name, not in lock and tags.
#[tokio::test]
async fn resources_lag() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let api = Api::new(&prod, Some("platform"));
    let form = [("vmid", "100"), ("name", "fresh"), ("tags", "B,a"), ("scsi0", "ceph-pool:4"), ("start", "1")];
    let create = api.post("/nodes/ws1/qemu", &form).await;
    assert_eq!(api.wait(&create).await, "OK");
    let of = |list: serde_json::Value| {
        list.as_array().expect("a list").iter().find(|e| e["vmid"] == 100).cloned().expect("listed")
    };
    let young = of(api.get("/cluster/resources?type=vm").await.data());
    assert_eq!((&young["status"], young.get("name")), (&"unknown".into(), None));
    assert_eq!(young["tags"], "a;b");
    sim.advance(Duration::from_secs(10));
    let later = of(api.get("/cluster/resources?type=vm").await.data());
    assert_eq!((&later["status"], &later["name"]), (&"running".into(), &"fresh".into()));
    prod.stop(100);
    assert_eq!(of(api.get("/cluster/resources?type=vm").await.data())["status"], "running");
    assert_eq!(api.get(&format!("{ONE}/status/current")).await.data()["status"], "stopped");
}

/// proxmox-ve.md §17.c3: start=1 that fails is another task's failure.
#[tokio::test]
async fn autostart_fails_elsewhere() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let api = Api::new(&prod, Some("platform"));
    let form = [("vmid", "100"), ("net0", "virtio,bridge=vmbr9"), ("start", "1")];
    let create = api.post("/nodes/ws1/qemu", &form).await;
    assert_eq!(api.wait(&create).await, "OK");
    assert!(api.log(&create).await.contains(&"Execute autostart".to_owned()));
    sim.advance(Duration::from_secs(5));
    let tasks = api.get("/nodes/ws1/tasks?vmid=100&typefilter=qmstart").await.data();
    assert_eq!(tasks[0]["status"], "bridge 'vmbr9' does not exist");
}

/// proxmox-ve.md §15.9, §16.4: HA turns start and stop into requests, and starts what was stopped behind its back.
#[tokio::test]
async fn ha_acts_later() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    prod.set_ha(100, Some("started"));
    let api = Api::new(&prod, Some("platform"));
    prod.stop(100);
    sim.advance(Duration::from_secs(12));
    assert!(prod.vm(100).expect("there").running, "started again");
    let stop = api.post(&format!("{ONE}/status/shutdown"), &[]).await;
    assert!(stop.data().as_str().expect("a UPID").contains(":hastop:"));
    assert_eq!(api.wait(&stop).await, "OK");
    assert!(prod.vm(100).expect("there").running, "only asked for");
    sim.advance(Duration::from_secs(12));
    assert!(!prod.vm(100).expect("there").running);
    api.delete(ONE).await.refused(500, "unable to remove VM 100 - used in HA resources and purge parameter not set.");
    assert_eq!(api.put("/cluster/ha/resources/vm:100", &[("state", "ignored")]).await.status, 200);
    let start = api.post(&format!("{ONE}/status/start"), &[]).await;
    assert!(start.data().as_str().expect("a UPID").contains(":qmstart:"));
    // A guest that ignores ACPI is killed at HA's deadline of a minute.
    assert_eq!(api.wait(&start).await, "OK");
    prod.set_ignores_shutdown(100, true);
    assert_eq!(api.put("/cluster/ha/resources/vm:100", &[("state", "stopped")]).await.status, 200);
    sim.advance(Duration::from_secs(50));
    assert!(prod.vm(100).expect("there").running);
    sim.advance(Duration::from_secs(40));
    assert!(!prod.vm(100).expect("there").running);
    // §17.c14
    api.post("/cluster/ha/resources", &[("sid", "vm:999")])
        .await
        .refused(500, "resource 'vm:999' does not exist in cluster");
}

/// proxmox-ve.md §10.4, §16.4: rules (9) and groups (8) name resources; one that is deleted goes from them, a rule that
/// names nobody then goes too, and `purge=0` leaves rules alone.
#[tokio::test]
async fn ha_rules_follow_their_resources() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    prod.set_ha(100, Some("started"));
    prod.add_ha_rule("alone", "ws1", Some(100));
    prod.add_ha_rule("empty", "ws2", None);
    let api = Api::new(&prod, Some("platform"));
    let rules = "/cluster/ha/rules";
    assert_eq!(api.get(rules).await.data()[0]["resources"], "vm:100");
    api.get("/cluster/ha/groups").await.refused(500, "cannot list ha groups: ha groups have been migrated to rules");
    let joined = api.put(&format!("{rules}/empty"), &[("type", "node-affinity"), ("resources", "vm:100")]).await;
    assert_eq!(joined.status, 200, "{joined:?}");
    assert_eq!(prod.ha_rules_of(100), ["alone", "empty"]);
    assert_eq!(api.delete("/cluster/ha/resources/vm:100?purge=0").await.status, 200);
    assert_eq!(prod.ha_rules_of(100), ["alone", "empty"]);
    prod.set_ha(100, Some("started"));
    assert_eq!(api.delete("/cluster/ha/resources/vm:100").await.status, 200);
    assert_eq!(api.get(rules).await.data(), serde_json::json!([]));
    let small = Api::new(&prod, Some("app"));
    assert_eq!(small.put(&format!("{rules}/empty"), &[("type", "node-affinity")]).await.status, 403);
}

/// A guest that takes longer than HA's minute is killed by it, and isn't by a shutdown with time enough (§16.4).
#[tokio::test]
async fn a_slow_guest_needs_its_time() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    prod.set_shutdown_time(100, Duration::from_secs(300));
    let api = Api::new(&prod, Some("platform"));
    let path = format!("{ONE}/status/shutdown");
    let late = api.post(&path, &[("timeout", "60")]).await;
    assert_eq!(api.wait(&late).await, "VM quit/powerdown failed - got timeout");
    let enough = api.post(&path, &[("timeout", "600")]).await;
    assert_eq!(api.wait(&enough).await, "OK");
    assert_eq!(prod.vm(100).expect("there").hard_stops, 0);
    prod.start(100).expect("a start");
    prod.set_ha(100, Some("stopped"));
    sim.advance(Duration::from_secs(90));
    let vm = prod.vm(100).expect("there");
    assert_eq!((vm.running, vm.hard_stops), (false, 1));
}

/// proxmox-ve.md §16.7: a booting node clears backup locks, not of templates, and starts what has onboot.
#[tokio::test]
async fn a_boot_clears_backup_locks() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    for (vmid, template) in [(100, "0"), (101, "1")] {
        prod.create_vm(&guest(vmid, "ws1", "ceph-pool", None, false)).expect("a guest");
        prod.set_config(vmid, "lock", Some("backup"));
        prod.set_config(vmid, "onboot", Some("1"));
        prod.set_config(vmid, "template", Some(template));
    }
    prod.power_node("ws1", NodePower::Reboot);
    let api = Api::new(&prod, Some("platform"));
    assert_eq!(api.get(&format!("{ONE}/config")).await.status, 595);
    sim.advance(Duration::from_secs(90));
    assert!(prod.vm(100).expect("there").running);
    assert_eq!(prod.vm(101).expect("there").lock.as_deref(), Some("backup"));
}

/// proxmox-ve.md §15.13: without quorum reads work and writes are refused.
#[tokio::test]
async fn no_quorum_no_writes() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    prod.set_quorum(false);
    let api = Api::new(&prod, Some("platform"));
    assert_eq!(api.get("/cluster/status").await.data()[0]["quorate"], 0);
    api.post("/nodes/ws1/qemu", &[("vmid", "101")]).await.refused(500, "cluster not ready - no quorum?");
    api.post("/pools", &[("poolid", "x")]).await.refused(500, "cluster not ready - no quorum?");
    let put = api.put(&format!("{ONE}/config"), &[("cores", "1")]).await;
    assert!(put.reason.ends_with("Permission denied"), "{put:?}");
    prod.set_quorum(true);
    prod.power_node("ws2", NodePower::Off);
    prod.power_node("ws3", NodePower::Off);
    assert_eq!(api.get("/cluster/status").await.data()[0]["quorate"], 0, "one of three is no majority");
}

/// proxmox-ve.md §17.d2, §16.12, §17.f5, §17.c14: pools.
#[tokio::test]
async fn pools_are_created_once() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let (api, app) = (Api::new(&prod, Some("platform")), Api::new(&prod, Some("app")));
    app.post("/pools", &[("poolid", "moxxie-moves/a")])
        .await
        .refused(500, "create pool failed: parent 'moxxie-moves' of pool 'moxxie-moves/a' does not exist");
    let form = [("poolid", "moxxie-moves")];
    let race = || app.post("/pools", &form);
    let all = tokio::join!(race(), race(), race(), race(), race(), race());
    let mut codes = [all.0.status, all.1.status, all.2.status, all.3.status, all.4.status, all.5.status];
    codes.sort_unstable();
    assert_eq!(codes, [200, 500, 500, 500, 500, 500]);
    app.post("/pools", &[("poolid", "moxxie-moves")])
        .await
        .refused(500, "create pool failed: pool 'moxxie-moves' already exists");
    let comment = format!("line\n{}", "x".repeat(8000));
    assert_eq!(app.post("/pools", &[("poolid", "moxxie-moves/a"), ("comment", &comment)]).await.status, 200);
    app.delete("/pools?poolid=moxxie-moves")
        .await
        .refused(500, "delete pool failed: pool 'moxxie-moves' is not empty (contains pool 'moxxie-moves/a')");
    assert_eq!(app.get("/pools?poolid=moxxie-moves/a").await.data()[0]["comment"], comment.as_str());
    assert_eq!(app.put("/pools", &[("poolid", "moxxie-moves/a"), ("comment", "")]).await.status, 200);
    assert!(app.get("/pools?poolid=moxxie-moves/a").await.data()[0].get("comment").is_none());
    // The comment of a pool one may not audit (§16).
    assert_eq!(api.put("/pools", &[("poolid", "development-pool")]).await.status, 500);
    assert_eq!(api.post("/pools", &[("poolid", "secret"), ("comment", "seen")]).await.status, 200);
    assert_eq!(app.get("/pools?poolid=secret").await.data()[0]["comment"], "seen");
    assert_eq!(api.put("/pools", &[("poolid", "secret"), ("vms", "4711")]).await.status, 200);
}

/// proxmox-ve.md §16.1: datacenter options know no digest.
#[tokio::test]
async fn datacenter_options_have_no_digest() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), Some("platform"));
    assert!(api.get("/cluster/options").await.data().get("digest").is_none());
    assert_eq!(api.put("/cluster/options", &[("digest", "x")]).await.status, 400);
    assert_eq!(api.put("/cluster/options", &[("next-id", "lower=500,upper=600")]).await.status, 200);
    assert_eq!(api.get("/cluster/nextid").await.data(), "500");
}

/// proxmox-ve.md §16.3: notes lose white space at their end; a clone copies notes, tags and onboot, not identity.
#[tokio::test]
async fn a_clone_copies_the_notes() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let form = [("description", "marker \n\n"), ("tags", "x"), ("onboot", "1")];
    assert_eq!(api.put(&format!("{ONE}/config"), &form).await.status, 200);
    assert_eq!(api.get(&format!("{ONE}/config")).await.data()["description"], "marker");
    let clone = api.post(&format!("{ONE}/clone"), &[("newid", "101"), ("full", "1")]).await;
    assert_eq!(api.wait(&clone).await, "OK");
    let (old, new) = (prod.vm(100).expect("there"), prod.vm(101).expect("there"));
    for key in ["description", "tags", "onboot"] {
        assert_eq!(old.config[key], new.config[key]);
    }
    assert_eq!(old.disks[0].sha256, new.disks[0].sha256);
    assert_ne!(old.uuid, new.uuid);
    assert_ne!(old.config["net0"], new.config["net0"]);
}

/// proxmox-ve.md §16.5: a detached disk is kept as unused, and goes with its VM.
#[tokio::test]
async fn delete_frees_unused_disks() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    assert_eq!(api.put(&format!("{ONE}/config"), &[("delete", "scsi0")]).await.status, 200);
    assert_eq!(prod.vm(100).expect("there").disks[0].slot, "unused0");
    assert_eq!(prod.volumes().len(), 1);
    let destroy = api.delete(ONE).await;
    assert_eq!(api.wait(&destroy).await, "OK");
    assert!(prod.volumes().is_empty());
    assert!(sim.litter().is_empty(), "{:?}", sim.litter());
}

/// proxmox-ve.md §17.c14: a running VM's boot disk cannot be unplugged; a NIC's link can be set at once.
#[tokio::test]
async fn hotplug() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let config = format!("{ONE}/config");
    api.put(&config, &[("delete", "scsi0")]).await.bad("scsi0", "hotplug problem - can't unplug bootdisk 'scsi0'");
    let net = format!("{},link_down=1", prod.vm(100).expect("there").config["net0"]);
    assert_eq!(api.put(&config, &[("net0", &net)]).await.status, 200);
    assert!(prod.vm(100).expect("there").config["net0"].ends_with("link_down=1"));
    assert_eq!(api.put(&config, &[("memory", "4096")]).await.status, 200);
    assert_eq!(prod.vm(100).expect("there").config["memory"], "2048");
    let reboot = api.post(&format!("{ONE}/status/reboot"), &[]).await;
    assert_eq!(api.wait(&reboot).await, "OK");
    assert_eq!(prod.vm(100).expect("there").config["memory"], "4096");
}

/// proxmox-ve.md §18.4, §18.26: what waits survives a shutdown; a start takes it, and so does any change while the guest is off.
#[tokio::test]
async fn what_waits_survives_a_shutdown_until_any_change_takes_it() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let config = format!("{ONE}/config");
    let waiting = || prod.vm(100).expect("there").pending.into_iter().collect::<Vec<_>>();
    assert_eq!(api.put(&config, &[("memory", "4096"), ("numa", "1")]).await.status, 200);
    let off = api.post(&format!("{ONE}/status/shutdown"), &[]).await;
    assert_eq!(api.wait(&off).await, "OK");
    assert_eq!(waiting(), ["memory", "numa"]);
    assert_eq!(prod.vm(100).expect("there").config["memory"], "2048");
    assert_eq!(api.put(&config, &[("onboot", "0")]).await.status, 200);
    assert_eq!(waiting(), Vec::<String>::new());
    let now = prod.vm(100).expect("there").config;
    assert_eq!((now["memory"].as_str(), now["numa"].as_str()), ("4096", "1"));
}

/// A detached disk leaves the boot order for good, and is unused no more from the moment when it is asked for (qemu-server's
/// `update_vm_api` and `write_vm_config`).
#[tokio::test]
async fn a_detached_disk_comes_back_without_its_place_in_the_boot_order() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let config = format!("{ONE}/config");
    let now = || prod.vm(100).expect("there").config;
    let (volume, _) = now()["scsi0"].split_once(',').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a disk");
    assert_eq!(now()["boot"], "order=scsi0;net0");
    assert_eq!(api.put(&config, &[("delete", "scsi0")]).await.status, 200);
    assert_eq!((now()["boot"].as_str(), now()["unused0"].as_str()), ("order=net0", volume.as_str()));
    assert_eq!(api.put(&config, &[("delete", "net0")]).await.status, 200);
    assert_eq!(now()["boot"], " ");
    prod.start(100).expect("a start without its disk");
    // An IDE disk waits for the next start; its volume is no unused one meanwhile.
    assert_eq!(api.put(&config, &[("ide0", &volume)]).await.status, 200);
    assert!(!now().contains_key("unused0") && !now().contains_key("ide0"), "{:?}", now());
    let reboot = api.post(&format!("{ONE}/status/reboot"), &[]).await;
    assert_eq!(api.wait(&reboot).await, "OK");
    assert!(now()["ide0"].starts_with(&volume) && now()["ide0"].contains("size="), "{:?}", now());
    assert_eq!(now()["boot"], " ");
    assert_eq!(prod.volumes().len(), 1);
}

/// proxmox-ve.md §15.5: UPID, status, log in pages of 50, lists.
#[tokio::test]
async fn tasks_tell_their_life() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    prod.set_ignores_shutdown(100, true);
    let api = Api::new(&prod, Some("platform"));
    let stop = api.post(&format!("{ONE}/status/shutdown"), &[("timeout", "30")]).await;
    let upid = stop.data().as_str().expect("a UPID").to_owned();
    assert!(upid.starts_with("UPID:ws1:") && upid.ends_with(":qmshutdown:100:platform@pve!platform:"), "{upid}");
    let active = api.get("/nodes/ws1/tasks?source=active").await.data();
    assert_eq!(active[0]["upid"], upid.as_str());
    assert_eq!(api.wait(&stop).await, "VM quit/powerdown failed - got timeout");
    assert!(prod.vm(100).expect("there").running);
    assert_eq!(api.log(&stop).await, ["TASK ERROR: VM quit/powerdown failed - got timeout"]);
    let stop = api.post(&format!("{ONE}/status/shutdown"), &[("timeout", "30"), ("forceStop", "1")]).await;
    let running = api.get(&format!("/nodes/ws1/tasks/{}/log", stop.data().as_str().expect("a UPID"))).await;
    assert_eq!(running.data()[0]["t"], "no content");
    assert_eq!(api.wait(&stop).await, "OK");
    assert!(!prod.vm(100).expect("there").running);
    let narrow = Api::new(&prod, Some("narrow"));
    assert_eq!(narrow.get("/nodes/ws1/tasks?source=all").await.data().as_array().expect("a list").len(), 0);
    assert_eq!(narrow.get(&format!("/nodes/ws1/tasks/{upid}/status")).await.status, 403);
}

/// qemu-server's `move_vm_disk`: checked at once and in the task; what fails frees its copy, what is killed leaves it.
#[tokio::test]
async fn a_volume_moves_to_another_storage_or_stays_where_it_was() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    api.put(&format!("{ONE}/config"), &[("ide3", "none,media=cdrom"), ("ide2", "ceph-pool:cloudinit")]).await;
    let volumes = || prod.volumes().into_iter().map(|one| one.volid).collect::<Vec<_>>();
    let before = prod.vm(100).expect("there");
    let path = format!("{ONE}/move_disk");
    let call = |disk: &'static str| [("disk", disk), ("storage", "local-lvm"), ("delete", "1")];
    api.post(&path, &call("ide3")).await.refused(500, "you can't move a cdrom");
    api.post(&path, &call("scsi9")).await.refused(500, "disk 'scsi9' does not exist");
    let stale = [&call("scsi0")[..], &[("digest", "0000")]].concat();
    let changed = "detected modified configuration - file changed by other user? Try again.";
    api.post(&path, &stale).await.refused(500, changed);
    // Interrupted: the copy is freed. Killed: it stays.
    let begun = api.post(&path, &call("scsi0")).await;
    sim.advance(Duration::from_secs(1));
    assert_eq!(volumes().len(), 3, "{:?}", volumes());
    let upid = begun.data().as_str().expect("a UPID").to_owned();
    api.delete(&format!("/nodes/ws1/tasks/{upid}")).await;
    assert_eq!(api.wait(&begun).await, "storage migration failed: interrupted by signal");
    assert_eq!(volumes().len(), 2);
    let killed = api.post(&path, &call("scsi0")).await;
    sim.advance(Duration::from_secs(1));
    prod.power_node("ws1", NodePower::Off);
    prod.power_node("ws1", NodePower::On);
    assert_eq!(api.wait(&killed).await, "unexpected status");
    assert!(api.log(&killed).await.contains(&"  Logical volume \"vm-100-disk-0\" created.".to_owned()));
    assert!(volumes().contains(&"local-lvm:vm-100-disk-0".to_owned()), "{:?}", volumes());
    assert_eq!(prod.vm(100).expect("there").config, before.config);
    for disk in ["scsi0", "ide2"] {
        let moved = api.post(&path, &call(disk)).await;
        assert_eq!(api.wait(&moved).await, "OK");
    }
    let after = prod.vm(100).expect("there");
    assert!(after.config["scsi0"].starts_with("local-lvm:vm-100-disk-1,"), "{:?}", after.config);
    assert!(after.config["ide2"].starts_with("local-lvm:vm-100-cloudinit,"), "{:?}", after.config);
    assert_eq!(after.disks[0].sha256, before.disks[0].sha256);
    assert!(!volumes().iter().any(|volid| volid.starts_with("ceph-pool:")), "{:?}", volumes());
}

/// What is stored of a configuration is not always what was sent (§4, §18.5): tags by `tag-style`, booleans and drive lines printed anew,
/// sizes in whole KiB, a boot order of devices that are there.
#[tokio::test]
async fn a_configuration_is_stored_as_it_is_printed() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let config = || prod.vm(100).expect("there").config;
    let path = format!("{ONE}/config");
    for (style, sent, stored) in [
        ("", "Web,b;web a", "a;b;web"),
        ("case-sensitive=1", "b;A;a", "A;a;b"),
        ("ordering=config", "B;a;b", "b;a"),
        ("", ";", " "),
    ] {
        prod.set_option("tag-style", style);
        assert_eq!(api.put(&path, &[("tags", sent)]).await.status, 200);
        assert_eq!(config()["tags"], stored, "{style}");
    }
    api.put(&path, &[("net0", "model=virtio,macaddr=bc:24:11:0a:0b:0c,link_down=yes,bridge=vmbr0")]).await;
    assert_eq!(config()["net0"], "virtio=bc:24:11:0a:0b:0c,bridge=vmbr0,link_down=1");
    for (asked, size) in [("0.03", "31458K"), ("0.001", "1049K"), ("1.5", "1536M")] {
        let disk = format!("ceph-pool:{asked},ssd=on,discard=on");
        api.put(&path, &[("scsi1", disk.as_str())]).await;
        assert!(config()["scsi1"].ends_with(&format!(",discard=on,size={size},ssd=1")), "{:?}", config());
    }
    api.put(&path, &[("boot", "order=usb0")]).await.refused(500, "invalid bootorder: device 'usb0' does not exist'");
    assert_eq!(api.put(&path, &[("boot", "order=scsi1;usb0"), ("usb0", "spice")]).await.status, 200);
}

/// qemu-server plugs `vcpus` of all processors in: more than there are is no machine that starts.
#[tokio::test]
async fn more_vcpus_than_processors_do_not_start() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    assert_eq!(api.put(&format!("{ONE}/config"), &[("cores", "2"), ("vcpus", "3")]).await.status, 200);
    let start = api.post(&format!("{ONE}/status/start"), &[]).await;
    assert_eq!(api.wait(&start).await, "start failed: QEMU exited with code 1");
    api.put(&format!("{ONE}/config"), &[("vcpus", "2")]).await;
    let start = api.post(&format!("{ONE}/status/start"), &[]).await;
    assert_eq!(api.wait(&start).await, "OK");
}

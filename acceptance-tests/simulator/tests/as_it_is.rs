//! What running Proxmox VE's own code showed (proxmox-ve.md §18), and the provider has to live with.
#![allow(missing_docs)]

mod support;

use std::time::Duration;

use serde_json::Value;
use simulator::{ClusterHandle, Options, Simulator, World};
use support::{Api, guest, three_sites};

async fn row(api: &Api, vmid: u32) -> Value {
    let rows = api.get("/cluster/resources").await.data();
    let found = rows.as_array().expect("a list").iter().find(|row| row["vmid"] == vmid).cloned();
    found.unwrap_or_else(|| panic!("no row of {vmid} in {rows}"))
}

async fn backup(api: &Api, vmid: &str, more: &[(&str, &str)]) -> (String, Vec<String>) {
    let mut form = vec![("vmid", vmid), ("storage", "transfer"), ("compress", "zstd")];
    form.extend(more);
    let task = api.post("/nodes/ws1/vzdump", &form).await;
    (api.wait(&task).await, api.log(&task).await)
}

fn prod(sim: &Simulator) -> ClusterHandle {
    sim.cluster("worldstream-prod")
}

/// proxmox-ve.md §18.18: a new guest's row says neither what it is called nor in which pool it is.
#[tokio::test]
async fn a_new_guest_has_no_name_and_no_pool_in_the_overview() {
    let sim = three_sites().await;
    let api = Api::new(&prod(&sim), Some("platform"));
    let made = api.post("/nodes/ws1/qemu", &[("vmid", "150"), ("name", "web"), ("pool", "production-pool")]).await;
    let new = row(&api, 150).await;
    assert!(new.get("name").is_none() && new.get("pool").is_none() && new.get("template").is_none(), "{new}");
    assert_eq!(new["status"], "unknown");
    assert_eq!(api.wait(&made).await, "OK");
    sim.advance(Duration::from_secs(1));
    assert_eq!(row(&api, 150).await["pool"], "production-pool");
    sim.advance(Duration::from_secs(10));
    let known = row(&api, 150).await;
    assert_eq!((&known["name"], &known["status"], &known["template"]), (&"web".into(), &"stopped".into(), &0.into()));
}

/// proxmox-ve.md §18.17: what a silent node told last holds for five minutes, then its guests have no names and are no templates.
#[tokio::test]
async fn a_silent_node_tells_old_news_and_then_none() {
    let sim = three_sites().await;
    let api = Api::new(&prod(&sim), Some("platform"));
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", Some("production-pool"), true)).expect("a guest");
    sim.advance(Duration::from_secs(60));
    prod(&sim).set_silent("ws1", true);
    let told = row(&api, 100).await;
    assert_eq!(api.wait(&api.post("/nodes/ws1/qemu/100/status/stop", &[]).await).await, "OK");
    sim.advance(Duration::from_secs(120));
    let old = row(&api, 100).await;
    assert_eq!((&old["status"], &old["uptime"]), (&"running".into(), &told["uptime"]));
    assert_eq!(api.get("/nodes/ws1/qemu/100/status/current").await.data()["status"], "stopped");
    sim.advance(Duration::from_secs(200));
    let none = row(&api, 100).await;
    let keys: Vec<&String> = none.as_object().expect("a map").keys().collect();
    assert_eq!(keys, ["id", "node", "pool", "status", "type", "vmid"]);
    assert_eq!(none["status"], "unknown");
    let nodes = api.get("/cluster/status").await.data();
    let ws1 = nodes.as_array().expect("a list").iter().find(|node| node["name"] == "ws1").cloned();
    assert_eq!(ws1.expect("the node")["online"], 1);
}

/// proxmox-ve.md §18: a file's age is its name in the local time of whoever lists it.
#[tokio::test]
async fn two_nodes_in_two_zones_tell_two_ages_of_one_archive() {
    let mut world = World::three_sites().expect("a world");
    let dr = world.clusters.get_mut("databarn-dr").expect("the cluster");
    dr.nodes.get_mut("db2").expect("the node").utc_offset_minutes = Some(-600);
    let sim = Simulator::start(world, Options::default()).await.expect("a simulator");
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let began = sim.now_ms() / 1000;
    assert_eq!(backup(&Api::new(&prod(&sim), Some("platform")), "100", &[]).await.0, "OK");
    let api = Api::new(&sim.cluster("databarn-dr"), Some("platform"));
    let mut ages = Vec::new();
    for node in ["db1", "db2"] {
        let list = api.get(&format!("/nodes/{node}/storage/transfer/content?content=backup")).await.data();
        ages.push(list[0]["ctime"].as_i64().expect("a time"));
    }
    assert!((ages[0] - began).abs() < 60, "the zone of whoever wrote it: {ages:?}, {began}");
    assert_eq!(ages[1] - ages[0], 11 * 3600);
}

/// proxmox-ve.md §18.13: the VMID stays, in no pool, and the team can neither use it again nor remove it.
#[tokio::test]
async fn a_restore_without_room_leaves_a_vmid_that_only_root_removes() {
    let sim = three_sites().await;
    let (root, app) = (Api::new(&prod(&sim), Some("platform")), Api::new(&prod(&sim), Some("app")));
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", Some("production-pool"), false)).expect("a guest");
    assert_eq!(backup(&root, "100", &[]).await.0, "OK");
    let volid = prod(&sim).archives("transfer")[0].volid.clone();
    prod(&sim).fill_storage("ceph-pool");
    let form = [("vmid", "200"), ("archive", volid.as_str()), ("storage", "ceph-pool"), ("pool", "production-pool")];
    let restore = app.post("/nodes/ws1/qemu", &form).await;
    assert_ne!(app.wait(&restore).await, "OK");
    let left = prod(&sim).vm(200).expect("its configuration");
    assert_eq!(left.config.into_iter().collect::<Vec<_>>(), [("memory".to_owned(), "128".to_owned())]);
    assert!(
        prod(&sim).pools()["production-pool"].1.contains(&100)
            && !prod(&sim).pools()["production-pool"].1.contains(&200)
    );
    app.delete("/nodes/ws1/qemu/200").await.refused(403, "Permission check failed (/vms/200, VM.Allocate)");
    let again = app.post("/nodes/ws1/qemu", &form).await;
    again.refused(500, "unable to restore VM 200 - VM 200 already exists on node 'ws1'");
    assert_eq!(root.wait(&root.delete("/nodes/ws1/qemu/200").await).await, "OK");
}

/// proxmox-ve.md §18.14: force=1 replaces whatever has the number, but for what is protected.
#[tokio::test]
async fn force_replaces_a_template_and_only_protection_stops_it() {
    let sim = three_sites().await;
    let root = Api::new(&prod(&sim), Some("platform"));
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    assert_eq!(backup(&root, "100", &[]).await.0, "OK");
    let volid = prod(&sim).archives("transfer")[0].volid.clone();
    let form = [("vmid", "100"), ("archive", volid.as_str()), ("force", "1"), ("storage", "ceph-pool")];
    prod(&sim).set_config(100, "template", Some("1"));
    prod(&sim).set_config(100, "protection", Some("1"));
    assert_eq!(root.post("/nodes/ws1/qemu", &form).await.status, 500);
    prod(&sim).set_config(100, "protection", None);
    assert_eq!(root.wait(&root.post("/nodes/ws1/qemu", &form).await).await, "OK");
    assert!(!prod(&sim).vm(100).expect("there").template);
}

/// proxmox-ve.md §18.15: every failed backup ends alike; a guest that doesn't shut down for one goes on.
#[tokio::test]
async fn a_failed_backup_says_why_in_its_log_alone_and_stops_nobody_hard() {
    let sim = three_sites().await;
    let api = Api::new(&prod(&sim), Some("platform"));
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    prod(&sim).set_ignores_shutdown(100, true);
    for (vmid, why) in [("999", "unable to find VM '999'"), ("100", "VM quit/powerdown failed - got timeout")] {
        let (exit, log) = backup(&api, vmid, &[("mode", "stop")]).await;
        assert_eq!(exit, "job errors");
        assert!(log.contains(&format!("ERROR: Backup of VM {vmid} failed - {why}")), "{log:?}");
    }
    assert!(prod(&sim).vm(100).expect("there").running);
}

/// proxmox-ve.md §18.19: of two creates one gets a UPID, the other the text of an old machine; §18.20: what nextid offers.
#[tokio::test]
async fn one_create_of_a_vmid_wins_and_the_range_is_of_offers_alone() {
    let sim = three_sites().await;
    let api = Api::new(&prod(&sim), Some("platform"));
    let first = api.post("/nodes/ws1/qemu", &[("vmid", "700")]).await;
    let second = api.post("/nodes/ws2/qemu", &[("vmid", "700")]).await;
    second.refused(500, "unable to create VM 700 - VM 700 already exists on node 'ws1'");
    assert_eq!(api.wait(&first).await, "OK");
    prod(&sim).set_option("next-id", "lower=700,upper=701");
    api.put("/cluster/options", &[("next-id", "lower=700,upper=702")]).await.data();
    assert_eq!(api.get("/cluster/nextid").await.data(), "701");
    api.put("/cluster/options", &[("next-id", "lower=700,upper=701")]).await.data();
    api.get("/cluster/nextid").await.refused(500, "unable to get any free VMID in range");
    assert_eq!(api.get("/cluster/nextid?vmid=5000").await.data(), "5000");
}

/// proxmox-ve.md §18.21: a resize is a task, whatever becomes of it.
#[tokio::test]
async fn shrinking_is_refused_in_the_task() {
    let sim = three_sites().await;
    let api = Api::new(&prod(&sim), Some("platform"));
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let task = api.put("/nodes/ws1/qemu/100/resize", &[("disk", "scsi0"), ("size", "4G")]).await;
    assert_eq!(api.wait(&task).await, "shrinking disks is not supported");
    assert!(prod(&sim).vm(100).expect("there").config["scsi0"].contains("size=8G"));
}

/// proxmox-ve.md §18.22: notes of an archive; §18.23: what a token may not ask of a backup, and what is clamped.
#[tokio::test]
async fn notes_are_listed_by_their_first_line_and_limits_take_a_right() {
    let sim = three_sites().await;
    let app = Api::new(&prod(&sim), Some("app"));
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", Some("production-pool"), false)).expect("a guest");
    let (exit, _) =
        backup(&app, "100", &[("notes-template", "{{guestname}} of {{cluster}}\\nsecond"), ("protected", "1")]).await;
    assert_eq!(exit, "OK");
    let list = app.get("/nodes/ws1/storage/transfer/content?content=backup").await.data();
    assert_eq!(list[0]["notes"], "vm100 of worldstream");
    let volid = list[0]["volid"].as_str().expect("a volid").to_owned();
    let whole = app.get(&format!("/nodes/ws1/storage/transfer/content/{volid}")).await.data();
    assert_eq!(whole["notes"], "vm100 of worldstream\nsecond");
    for limit in ["bwlimit", "ionice"] {
        let form = [("vmid", "100"), ("storage", "transfer"), (limit, "5")];
        app.post("/nodes/ws1/vzdump", &form).await.refused(403, "Permission check failed (/, Sys.Modify)");
    }
    let form = [("vmid", "200"), ("archive", volid.as_str()), ("pool", "production-pool"), ("bwlimit", "5")];
    assert_eq!(app.wait(&app.post("/nodes/ws1/qemu", &form).await).await, "OK");
    // A single node has no cluster's name.
    let edge = sim.cluster("hetzner-edge");
    edge.create_vm(&guest(100, "hz1", "local-lvm", None, false)).expect("a guest");
    let root = Api::new(&edge, Some("platform"));
    let form = [("vmid", "100"), ("storage", "local"), ("notes-template", "{{cluster}}")];
    assert_eq!(root.wait(&root.post("/nodes/hz1/vzdump", &form).await).await, "OK");
    let list = root.get("/nodes/hz1/storage/local/content?content=backup").await.data();
    assert_eq!(list[0]["notes"], "standalone node");
}

/// proxmox-ve.md §18.24: the line of an excluded disk becomes a line of the restored machine's notes, unless the call has notes.
#[tokio::test]
async fn the_line_of_an_excluded_disk_is_restored_as_notes() {
    let sim = three_sites().await;
    let api = Api::new(&prod(&sim), Some("platform"));
    let mut spec = guest(100, "ws1", "ceph-pool", None, false);
    spec.config.insert("scsi1".into(), "ceph-pool:4,backup=0".into());
    spec.config.insert("description".into(), "The shop".into());
    prod(&sim).create_vm(&spec).expect("a guest");
    assert_eq!(backup(&api, "100", &[]).await.0, "OK");
    let volid = prod(&sim).archives("transfer")[0].volid.clone();
    let archived =
        api.get(&format!("/nodes/ws1/vzdump/extractconfig?volume={}", volid.replace(':', "%3A"))).await.data();
    assert!(archived.as_str().expect("text").lines().any(|line| line.starts_with("scsi1: ")), "{archived}");
    for (vmid, notes) in [(200, None), (201, Some("Mine"))] {
        let id = vmid.to_string();
        let mut form = vec![("vmid", id.as_str()), ("archive", volid.as_str()), ("storage", "ceph-pool")];
        form.extend(notes.map(|notes| ("description", notes)));
        assert_eq!(api.wait(&api.post("/nodes/ws1/qemu", &form).await).await, "OK");
        let restored = prod(&sim).vm(vmid).expect("there").config;
        assert!(!restored.contains_key("scsi1"), "{restored:?}");
        let expected = notes.map_or_else(
            || format!("The shop\nscsi1: {}", prod(&sim).vm(100).expect("there").config["scsi1"]),
            str::to_owned,
        );
        assert_eq!(restored["description"], expected);
    }
}

/// proxmox-ve.md §18.26: whatever is written to a stopped guest, what waited is applied with it.
#[tokio::test]
async fn any_write_to_a_stopped_guest_applies_what_waited() {
    let sim = three_sites().await;
    let api = Api::new(&prod(&sim), Some("platform"));
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    let config = "/nodes/ws1/qemu/100/config";
    assert_eq!(api.put(config, &[("memory", "4096")]).await.status, 200);
    assert_eq!(prod(&sim).vm(100).expect("there").config["memory"], "2048");
    // The guest itself switches off: what waits is still there then.
    prod(&sim).guest_off(100);
    assert_eq!(prod(&sim).vm(100).expect("there").config["memory"], "2048");
    assert_eq!(api.put(config, &[("description", "x")]).await.status, 200);
    let after = prod(&sim).vm(100).expect("there");
    assert_eq!((after.config["memory"].as_str(), after.pending.is_empty()), ("4096", true));
}

/// proxmox-ve.md §18.25: an empty list is no answer for a token that sees nothing in it.
#[tokio::test]
async fn backups_are_hidden_without_a_word_from_whoever_may_not_see_them() {
    let mut world = World::three_sites().expect("a world");
    let narrow = world.users.iter_mut().find(|user| user.id == "narrow@pve").expect("the user");
    let transfer = narrow.acl.iter_mut().find(|rule| rule.path == "/storage/transfer").expect("the rule");
    transfer.privileges = vec!["Datastore.Audit".into()];
    let sim = Simulator::start(world, Options::default()).await.expect("a simulator");
    prod(&sim).create_vm(&guest(100, "ws1", "ceph-pool", Some("production-pool"), false)).expect("a guest");
    prod(&sim).create_vm(&guest(101, "ws1", "ceph-pool", Some("production-pool"), false)).expect("a guest");
    let root = Api::new(&prod(&sim), Some("platform"));
    for vmid in ["100", "101"] {
        assert_eq!(backup(&root, vmid, &[]).await.0, "OK");
    }
    let narrow = Api::new(&prod(&sim), Some("narrow"));
    let list = || async { narrow.get("/nodes/ws1/storage/transfer/content?content=backup").await.data() };
    assert_eq!(list().await, serde_json::json!([]));
    prod(&sim).grant("narrow@pve", "/storage/transfer", "PVEDatastoreUser").expect("a role");
    assert_eq!(list().await.as_array().map(Vec::len), Some(2));
    assert_eq!(root.wait(&root.delete("/nodes/ws1/qemu/101").await).await, "OK");
    let seen = list().await;
    assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
    assert_eq!(seen[0]["vmid"], 100);
}

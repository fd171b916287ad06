//! What a token may see and do.
#![allow(missing_docs)]

mod support;

use support::{Api, guest, shared_images, three_sites};

/// proxmox-ve.md §17.p1, §16.13: what the least-privilege token is not shown.
#[tokio::test]
async fn a_small_token_sees_little() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", Some("production-pool"), false)).expect("a guest");
    prod.create_vm(&guest(200, "ws1", "ceph-pool", None, false)).expect("a guest");
    let app = Api::new(&prod, Some("narrow"));
    app.get("/cluster/status").await.refused(403, "Permission check failed (/, Sys.Audit)");
    let options = app.get("/cluster/options").await.data();
    assert_eq!(options.as_object().expect("a map").keys().collect::<Vec<_>>(), ["allowed-tags"]);
    let seen = app.get("/cluster/resources").await.data();
    let seen = seen.as_array().expect("a list");
    assert!(seen.iter().any(|entry| entry["vmid"] == 100));
    assert!(!seen.iter().any(|entry| entry["vmid"] == 200));
    let node = seen.iter().find(|entry| entry["type"] == "node").expect("a node");
    assert!(node.get("maxmem").is_none());
    assert_eq!(app.get("/nodes/ws1/qemu/200/config").await.status, 403);
}

/// proxmox-ve.md §17.p2, §17.p3: rights to an archive come through a VM of that id.
#[tokio::test]
async fn rights_to_an_archive_come_through_its_vm() {
    let sim = three_sites().await;
    let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
    prod.create_vm(&guest(400, "ws1", "ceph-pool", Some("production-pool"), false)).expect("a guest");
    let (a, b) = (Api::new(&prod, Some("narrow")), Api::new(&dr, Some("narrow")));
    let dump = a.post("/nodes/ws1/vzdump", &[("vmid", "400"), ("storage", "transfer"), ("compress", "zstd")]).await;
    assert_eq!(a.wait(&dump).await, "OK");
    let volid = prod.archives("transfer")[0].volid.clone();
    let extract = format!("vzdump/extractconfig?volume={}", volid.replace(':', "%3A"));
    let text = a.get(&format!("/nodes/ws1/{extract}")).await.data();
    assert!(text.as_str().expect("text").contains("#qmdump#map:scsi0:drive-scsi0:ceph-pool:raw:"));
    b.get(&format!("/nodes/db1/{extract}")).await.refused(403, "Permission check failed (/vms/400, VM.Backup)");
    let destroy = a.delete("/nodes/ws1/qemu/400").await;
    assert_eq!(a.wait(&destroy).await, "OK");
    a.delete(&format!("/nodes/ws1/storage/transfer/content/{volid}"))
        .await
        .refused(403, "Permission check failed (/vms/400, VM.Backup)");
}

/// proxmox-ve.md §17.p4: a pool's own comment and members are not the app team's.
#[tokio::test]
async fn the_pool_itself_is_not_the_teams() {
    let sim = three_sites().await;
    let app = Api::new(&sim.cluster("worldstream-prod"), Some("narrow"));
    app.put("/pools", &[("poolid", "production-pool"), ("comment", "x")])
        .await
        .refused(403, "Permission check failed (/pool/production-pool, Pool.Allocate)");
}

/// proxmox-ve.md §16.9, §17.f9 (D7): mapped NICs in the call, and an original vmid that is somebody else's.
#[tokio::test]
async fn a_restore_is_checked_with_its_overrides() {
    let sim = shared_images().await;
    let (east, west) = (sim.cluster("east"), sim.cluster("west"));
    let mut spec = guest(300, "e1", "fast", Some("team"), false);
    spec.config.insert("net0".into(), "virtio,bridge=vmbr7".into());
    east.create_vm(&spec).expect("a guest");
    let (a, b) = (Api::new(&east, Some("app")), Api::new(&west, Some("app")));
    let dump = a.post("/nodes/e1/vzdump", &[("vmid", "300"), ("storage", "transfer"), ("compress", "zstd")]).await;
    assert_eq!(a.wait(&dump).await, "OK");
    let volid = east.archives("transfer")[0].volid.clone();
    let form = [("vmid", "300"), ("archive", volid.as_str()), ("storage", "fast"), ("pool", "team")];
    let mut mapped = form.to_vec();
    mapped.push(("net0", "virtio,bridge=vmbr0"));
    let done = b.post("/nodes/w1/qemu", &mapped).await;
    assert_eq!(b.wait(&done).await, "OK", "{:?}", b.log(&done).await);
    assert!(west.vm(300).expect("there").config["net0"].ends_with("bridge=vmbr0"));
}

/// proxmox-ve.md §17.c8: root-only keys and their odd texts.
#[tokio::test]
async fn some_keys_are_roots() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let config = "/nodes/ws1/qemu/100/config";
    api.put(config, &[("vmgenid", "1")]).await.refused(500, "only root can set 'vmgenid' config");
    api.put(config, &[("serial0", "/dev/ttyS0")])
        .await
        .refused(500, "only root can modify 'serial0' config for real devices");
    api.put(config, &[("hookscript", "local:snippets/x.sh")])
        .await
        .bad("hookscript", "script 'local:snippets/x.sh' does not exist");
    let path = api.put(config, &[("scsi1", "/dev/sda")]).await;
    assert!(path.reason.starts_with("Only root can pass arbitrary filesystem paths. at /usr/share/perl5/"), "{path:?}");
    api.put(config, &[("delete", "lock"), ("skiplock", "1")]).await.bad("skiplock", "Only root may use this option.");
    assert_eq!(api.put(config, &[("startup", "order=1")]).await.status, 200);
}

/// proxmox-ve.md §17.f11: token texts; rules on a VM's path go with the VM.
#[tokio::test]
async fn rules_go_with_their_vm() {
    let mut world = simulator::World::three_sites().expect("a world");
    let rule = simulator::AclSpec {
        path: "/vms/100".into(),
        role: Some("PVEVMAdmin".into()),
        privileges: Vec::new(),
        propagate: true,
    };
    let app = world.users.iter_mut().find(|user| user.id == "narrow@pve").expect("the narrow user");
    app.acl.push(rule);
    let sim = simulator::Simulator::start(world, simulator::Options::default()).await.expect("a simulator");
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let app = Api::new(&prod, Some("narrow"));
    let held = app.get("/access/permissions?path=/vms/100").await.data();
    assert_eq!(held["/vms/100"]["VM.Backup"], 1);
    let destroy = app.delete("/nodes/ws1/qemu/100").await;
    assert_eq!(app.wait(&destroy).await, "OK");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("another guest");
    assert_eq!(app.get("/nodes/ws1/qemu/100/config").await.status, 403);
    let made = app.post("/access/users/narrow@pve/token/extra", &[]).await.data();
    assert_eq!(made["full-tokenid"], "narrow@pve!extra");
    app.post("/access/users/narrow@pve/token/extra", &[]).await.bad("tokenid", "Token already exists.");
}

/// proxmox-ve.md §1.4: a NIC needs SDN.Use on its bridge, through a pool too.
#[tokio::test]
async fn bridges_need_a_right() {
    let mut world = simulator::World::three_sites().expect("a world");
    let app = world.users.iter_mut().find(|user| user.id == "narrow@pve").expect("the narrow user");
    app.acl.retain(|rule| !rule.path.starts_with("/sdn"));
    let sim = simulator::Simulator::start(world, simulator::Options::default()).await.expect("a simulator");
    let app = Api::new(&sim.cluster("worldstream-prod"), Some("narrow"));
    let form = |net: &'static str| [("vmid", "100"), ("pool", "production-pool"), ("net0", net)];
    let create = app.post("/nodes/ws1/qemu", &form("virtio,bridge=vmbr0")).await;
    create.refused(403, "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)");
    let tagged = app.post("/nodes/ws1/qemu", &form("virtio,bridge=vmbr0,tag=5")).await;
    tagged.refused(403, "Permission check failed (/sdn/zones/localnetwork/vmbr0/5, SDN.Use)");
    app.post("/nodes/ws1/qemu", &[("vmid", "100")]).await.refused(403, "Permission check failed");
    app.post("/nodes/ws1/qemu", &[("vmid", "100"), ("pool", "nope")])
        .await
        .refused(403, "Permission check failed (pool 'nope' does not exist)");
}

/// proxmox-ve.md §18.2: 9.2 asks for the right to set tags on the VM, before it is in its pool; 9.1 is content with the pool.
#[tokio::test]
async fn tags_of_a_create_are_asked_for_outside_of_the_pool() {
    let sim = three_sites().await;
    let create = [("vmid", "150"), ("pool", "production-pool"), ("tags", "web")];
    let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
    let mut with_disk = create.to_vec();
    with_disk.push(("scsi0", "ceph-pool:8"));
    let app = Api::new(&prod, Some("narrow"));
    let refused = app.post("/nodes/ws1/qemu", &with_disk).await;
    let said = app.wait(&refused).await;
    assert_eq!(said, "unable to create VM 150 - 403 Permission check failed (/vms/150, VM.Config.Options)");
    assert!(prod.vm(150).is_none());
    assert_eq!(sim.litter(), Vec::<String>::new());
    let plain = app.post("/nodes/ws1/qemu", &with_disk[..2]).await;
    assert_eq!(app.wait(&plain).await, "OK");
    assert_eq!(app.put("/nodes/ws1/qemu/150/config", &[("tags", "web")]).await.status, 200, "in its pool it may");
    let older = Api::new(&dr, Some("narrow"));
    let made = older.post("/nodes/db1/qemu", &create).await;
    assert_eq!(older.wait(&made).await, "OK");
}

/// proxmox-ve.md §18.3: a pool takes the rules on its path with it, and made again it has none.
#[tokio::test]
async fn rules_go_with_their_pool() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", Some("production-pool"), false)).expect("a guest");
    let (root, app) = (Api::new(&prod, Some("platform")), Api::new(&prod, Some("narrow")));
    let at = "/nodes/ws1/qemu/100/config";
    assert_eq!(app.get(at).await.status, 200);
    assert_eq!(root.put("/pools", &[("poolid", "production-pool"), ("vms", "100"), ("delete", "1")]).await.status, 200);
    assert_eq!(root.delete("/pools?poolid=production-pool").await.status, 200);
    assert_eq!(root.post("/pools", &[("poolid", "production-pool")]).await.status, 200);
    assert_eq!(root.put("/pools", &[("poolid", "production-pool"), ("vms", "100")]).await.status, 200);
    app.get(at).await.refused(403, "Permission check failed (/vms/100, VM.Audit)");
    // What is nested takes nothing, until its root goes.
    let listed = |acl: serde_json::Value, path: &str| acl.to_string().contains(&format!("\"{path}\""));
    for pool in ["team", "team/inner"] {
        assert_eq!(root.post("/pools", &[("poolid", pool)]).await.status, 200);
    }
    prod.grant("narrow@pve", "/pool/team/inner", "PVEPoolUser").expect("a role");
    assert_eq!(root.delete("/pools?poolid=team/inner").await.status, 200);
    assert!(listed(root.get("/access/acl").await.data(), "/pool/team/inner"));
    assert_eq!(root.delete("/pools?poolid=team").await.status, 200);
    assert!(!listed(root.get("/access/acl").await.data(), "/pool/team/inner"));
}

/// proxmox-ve.md §18.31: who allocates a pool sees, and may change, the rights to it and to nothing else.
#[tokio::test]
async fn who_allocates_a_pool_sees_the_rights_to_it() {
    let mut world = simulator::World::three_sites().expect("a world");
    let narrow = world.users.iter_mut().find(|user| user.id == "narrow@pve").expect("the narrow user");
    let allocate = vec!["Pool.Allocate".to_owned()];
    narrow.acl.push(simulator::AclSpec {
        path: "/pool/production-pool".into(),
        role: None,
        privileges: allocate,
        propagate: true,
    });
    let sim = simulator::Simulator::start(world, simulator::Options::default()).await.expect("a simulator");
    let listed = Api::new(&sim.cluster("worldstream-prod"), Some("narrow")).get("/access/acl").await.data();
    let listed = listed.as_array().expect("a list");
    let paths: std::collections::BTreeSet<_> = listed.iter().filter_map(|entry| entry["path"].as_str()).collect();
    let own = ["/pool/moxxie-moves", "/pool/production-pool", "/storage/transfer"];
    assert_eq!(paths.into_iter().collect::<Vec<_>>(), own, "{listed:?}");
    assert!(listed.iter().any(|entry| entry["ugid"] == "app@pve" && entry["path"] == "/pool/production-pool"));
}

/// `/access/acl` shows the grants on paths where one may change rights (proxmox-ve.md §1).
#[tokio::test]
async fn grants_are_shown_to_those_who_may_change_them() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.grant("app@pve", "/vms/100", "PVEVMUser").expect("a role");
    prod.grant("app@pve", "/nodes/ws1", "PVEAuditor").expect("a role");
    let listed = Api::new(&prod, Some("platform")).get("/access/acl").await.data();
    let listed = listed.as_array().expect("a list");
    assert!(listed.iter().any(|entry| entry["path"] == "/vms/100" && entry["roleid"] == "PVEVMUser"), "{listed:?}");
    // Sys.Audit on `/access`, which comes down from `/`, shows them all.
    let seen_by = async |user: &str| Api::new(&prod, Some(user)).get("/access/acl").await.data().to_string();
    assert!(seen_by("app").await.contains("/nodes/ws1") && !seen_by("narrow").await.contains("/nodes/ws1"));
}

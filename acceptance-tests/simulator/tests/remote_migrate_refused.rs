//! What `remote_migrate` refuses, when, and that nothing is left of it.
#![allow(missing_docs)]

mod support;

use simulator::{Listen, NodePower, Options, Simulator, World};
use support::Api;
use support::pair::{PATH, Pair, rich};

/// proxmox-ve.md §9, §13 A14: what the call itself refuses.
#[tokio::test]
async fn the_call_refuses_what_it_can_see() {
    let pair = Pair::with(rich(true)).await;
    pair.send(&[]).await.refused(500, "can't migrate running VM without --online");
    pair.send(&[("target-storage", "1"), ("online", "1")])
        .await
        .refused(500, "remote migration requires explicit storage mapping!");
    pair.send(&[("target-storage", "a1,b2"), ("online", "1")])
        .await
        .bad("target-storage", "failed to parse storage map: default target ID can only be provided once");
    pair.prod.replicate(400, "ws2");
    pair.send(&[]).await.refused(500, "cannot remote-migrate replicated VM");
    pair.prod.set_ha(400, Some("ignored"));
    pair.send(&[]).await.bad("vmid", "cannot remote-migrate VM that is configured for HA");
    pair.prod.set_config(400, "lock", Some("backup"));
    pair.send(&[]).await.refused(500, "VM is locked (backup)");
    pair.prod.set_quorum(false);
    pair.send(&[]).await.refused(500, "cluster not ready - no quorum?");
    Api::new(&pair.prod, Some("app"))
        .post(PATH, &[])
        .await
        .refused(403, "Permission check failed (/vms/400, VM.Migrate)");
    pair.a
        .post(PATH, &[("target-bridge", "1"), ("target-storage", "x1")])
        .await
        .bad("target-endpoint", "property is missing and it is not optional");
    assert!(pair.prod.tasks_of(400).is_empty() && pair.dr.vm(400).is_none());
}

/// proxmox-ve.md §9, §17.c14: the other end is asked within the call.
#[tokio::test]
async fn the_other_end_must_answer() {
    let pair = Pair::with(rich(false)).await;
    let shown = pair.dr.fingerprint();
    let unverified = format!("fingerprint '{shown}' not verified, abort!");
    let (plain, _) = pair.endpoint.rsplit_once(",fingerprint=").expect("it has one");
    let wrong = format!("{plain},fingerprint={}", pair.prod.fingerprint());
    for endpoint in [plain, &wrong] {
        pair.send(&[("target-endpoint", endpoint)]).await.refused(500, &unverified);
    }
    let token = pair.dr.token("platform").expect("a token");
    let secret = pair.endpoint.replace(&token, "platform@pve!platform=00000000-0000-4000-8000-000000000000");
    pair.send(&[("target-endpoint", &secret)]).await.refused(500, "401 Authentication failed!");
    let narrow = pair.endpoint.replace(&token, &pair.dr.token("narrow").expect("a token"));
    pair.send(&[("target-endpoint", &narrow)]).await.refused(500, "403 Permission check failed (/, Sys.Audit)");
    let nobody = pair.endpoint.replace("127.0.0.1", "10.9.9.9");
    let refused = pair.send(&[("target-endpoint", &nobody)]).await;
    assert!(refused.reason.starts_with("500 Can't connect to 10.9.9.9:"), "{refused:?}");
    let at = pair.dr.url().replace("https://", "");
    pair.dr.set_dark(true).await;
    pair.send(&[]).await.refused(500, &format!("500 Can't connect to {at} (Connection refused)"));
    pair.dr.set_dark(false).await;
    pair.sim.cut_line("databarn-dr", "worldstream-prod", true);
    let lost = pair.send(&[]).await;
    assert_eq!((lost.status, lost.reason.as_str()), (596, "Connection timed out"));
    pair.sim.cut_line("worldstream-prod", "databarn-dr", false);
    for node in ["db1", "db2", "db3"] {
        pair.dr.power_node(node, NodePower::Off);
    }
    pair.send(&[]).await.refused(500, &format!("500 Can't connect to {at} (No route to host)"));
    assert!(pair.prod.tasks_of(400).is_empty());
}

/// proxmox-ve.md §9: the target node is the node behind the address, and it must be on.
#[tokio::test]
async fn each_address_is_a_node() {
    let options = Options { listen: Listen::PerNode, ..Options::default() };
    let sim = Simulator::start(World::three_sites().expect("a world"), options).await.expect("a simulator");
    let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
    prod.create_vm(&rich(false)).expect("a guest");
    let a = Api::new(&prod, Some("platform"));
    let endpoint = |place: usize| {
        let port = dr.urls()[place].rsplit_once(':').expect("a port").1.to_owned();
        let (token, print) = (dr.token("platform").expect("a token"), dr.fingerprints()[place].clone());
        format!("host=localhost,port={port},apitoken=PVEAPIToken={token},fingerprint={print}")
    };
    fn form(endpoint: &str) -> [(&str, &str); 3] {
        [("target-endpoint", endpoint), ("target-storage", "zfs-pool"), ("target-bridge", "vmbr0")]
    }
    dr.power_node("db2", NodePower::Off);
    let (second, third) = (endpoint(1), endpoint(2));
    let off = a.post(PATH, &form(&second)).await;
    assert!(off.reason.ends_with("(No route to host)"), "{off:?}");
    let sent = a.post(PATH, &form(&third)).await;
    assert_eq!((a.wait(&sent).await.as_str(), dr.vm(400).expect("there").node.as_str()), ("OK", "db3"));
}

/// proxmox-ve.md §9, §1.4: what only the task finds out; before anything was touched, or with everything put back.
#[tokio::test]
async fn the_task_refuses_and_leaves_nothing() {
    let storage = |id| [("target-storage", id)];
    let bridge = |id| [("target-bridge", id)];
    let nothing = [("online", "0")];
    type Case<'a> = (fn(&Pair), [(&'a str, &'a str); 1], &'a str);
    let cases: [Case<'_>; 10] = [
        (|_| {}, bridge("vmbr9"), "500 bridge 'vmbr9' does not exist"),
        (|_| {}, bridge("1"), "500 bridge 'vmbr1' does not exist"),
        (|_| {}, storage("nope"), "500 storage 'nope' does not exist"),
        (|_| {}, storage("transfer"), "500 storage 'transfer' does not support vm images"),
        (|pair| pair.dr.set_quorum(false), nothing, "500 cluster not ready - no quorum?"),
        (
            |pair| pair.prod.set_config(400, "ide2", Some("local:iso/x.iso,media=cdrom")),
            nothing,
            "can't migrate local disk 'local:iso/x.iso': local cdrom image",
        ),
        (
            |pair| pair.prod.set_config(400, "hostpci0", Some("0000:01:00.0")),
            nothing,
            "can't migrate VM which uses local devices: hostpci0",
        ),
        (|pair| pair.prod.set_config(400, "args", Some("-s")), nothing, "only root can set 'args' config"),
        (|pair| pair.dr.fill_storage("zfs-pool"), nothing, "out of space"),
        (
            |pair| pair.dr.create_vm(&support::guest(400, "db3", "zfs-pool", None, false)).expect("a guest"),
            nothing,
            "vmid: unable to create empty VM config - VM 400 already exists on node 'db3'",
        ),
    ];
    for (prepare, more, text) in cases {
        let pair = Pair::with(rich(false)).await;
        prepare(&pair);
        let (there, volumes) = (pair.dr.vm(400), pair.dr.volumes());
        let before = pair.prod.vm(400);
        let (exit, log) = pair.run(&more).await;
        assert_eq!(exit, "migration aborted");
        assert!(log.contains(text), "{text} in {log}");
        assert!(log.contains("ERROR: migration aborted (duration "), "{log}");
        assert_eq!((pair.prod.vm(400), pair.dr.vm(400), pair.dr.volumes()), (before, there, volumes), "{text}");
        assert_eq!(pair.sim.litter(), Vec::<String>::new(), "{text}");
    }
}

/// proxmox-ve.md §1.4: which right of the target's token is missed when.
#[tokio::test]
async fn the_targets_token_needs_much() {
    let pair = Pair::with(rich(false)).await;
    let endpoint = pair.dr.remote_endpoint("app").expect("a token");
    let more = [("target-endpoint", endpoint.as_str())];
    let grant = |path: &str, role: &str| pair.dr.grant("app@pve", path, role).expect("a role");
    let missed =
        |what: &str, log: &str| assert!(log.contains(&format!("403 Permission check failed ({what})")), "{log}");
    let (exit, log) = pair.run(&more).await;
    assert_eq!(exit, "migration aborted");
    missed("/vms/400, VM.Allocate", &log);
    grant("/vms/400", "PVEVMAdmin");
    missed("/, Sys.Incoming", &pair.run(&more).await.1);
    grant("/", "Administrator");
    pair.dr.revoke("app@pve", "/storage/zfs-pool");
    grant("/storage/zfs-pool", "NoAccess");
    missed("/storage/zfs-pool, Datastore.AllocateSpace", &pair.run(&more).await.1);
    grant("/storage/zfs-pool", "PVEDatastoreUser");
    pair.dr.revoke("app@pve", "/sdn/zones/localnetwork");
    grant("/sdn/zones/localnetwork", "NoAccess");
    let (exit, log) = pair.run(&[more[0], ("target-bridge", "vmbr0")]).await;
    assert_eq!(exit, "migration aborted");
    missed("/sdn/zones/localnetwork/vmbr0/120, SDN.Use", &log);
    assert_eq!(pair.sim.litter(), Vec::<String>::new());
    grant("/sdn/zones/localnetwork", "PVESDNUser");
    assert_eq!(pair.run(&more).await.0, "OK");
    assert_eq!(pair.dr.tasks_of(400).len(), 2);
    let tunnel = pair.b.get("/nodes/db1/tasks?source=all&typefilter=qmtunnel").await.data();
    assert_eq!(
        (&tunnel[0]["user"], &tunnel[0]["tokenid"], &tunnel[0]["status"]),
        (&"app@pve".into(), &"app".into(), &"OK".into())
    );
}

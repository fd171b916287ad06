//! The typed calls: what they send and how they read PVE's answers (`proxmox-ve.md` §5–§10, §17).

use std::time::Duration;

use proxmox::{Error, Params, ResourceKind};

use crate::server::{Server, bare, ok};

const UPID: &str = "UPID:pve1:0000A1B2:0012D687:6957A5A5:vzdump:100:app@pve!ci:";

#[tokio::test]
async fn a_backup_that_starts_no_task_is_an_error() {
    let server = Server::start(|_, _| ok(r#""OK""#)).await;
    let error = server.client().vzdump("pve1", Params::new().set("vmid", 100)).await.unwrap_err();
    assert!(matches!(&error, Error::NoTask { answer, .. } if answer == "OK"), "{error:?}");
    let server = Server::start(|_, _| ok(&format!("\"{UPID}\""))).await;
    assert_eq!(server.client().vzdump("pve1", Params::new()).await.unwrap().to_string(), UPID);
}

#[tokio::test]
async fn work_done_at_once_is_no_task() {
    let server = Server::start(|_, _| ok("null")).await;
    let client = server.client();
    let change = Params::new().set("cores", 4).set("delete", "description");
    assert_eq!(client.set_config_async("pve1", 100, change, Some("d1")).await.unwrap(), None);
    assert_eq!(client.resize_disk("pve1", 100, "scsi0", "40G", None).await.unwrap(), None);
    assert!(client.delete_vm("pve1", 100).await.is_err());
    let bodies: Vec<String> = server.seen().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, ["cores=4&delete=description&digest=d1", "disk=scsi0&size=40G", ""]);
}

#[tokio::test]
async fn removing_a_guest_never_asks_for_more() {
    let server = Server::start(|_, _| ok(&format!("\"{UPID}\""))).await;
    server.client().delete_vm("pve1", 100).await.unwrap();
    let request = &server.seen()[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("DELETE", "/api2/json/nodes/pve1/qemu/100"));
}

#[tokio::test]
async fn power_calls_say_how_long() {
    let server = Server::start(|_, _| ok(&format!("\"{UPID}\""))).await;
    let client = server.client();
    client.shutdown_vm("pve1", 100, Some(Duration::from_secs(600)), true).await.unwrap();
    client.stop_vm("pve1", 100, None).await.unwrap();
    let bodies: Vec<String> = server.seen().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, ["timeout=600&forceStop=1", ""]);
}

#[tokio::test]
async fn a_configuration_is_read_in_force_or_with_what_is_pending() {
    let server = Server::start(|_, _| ok(r#"{"cores":4,"memory":"2048","digest":"d1","template":1}"#)).await;
    let config = server.client().vm_config("pve1", 100, true).await.unwrap();
    assert_eq!((config.cores(), config.memory_mib(), config.digest(), config.template()), (4, 2048, Some("d1"), true));
    server.client().vm_config("pve1", 100, false).await.unwrap();
    let targets: Vec<String> = server.seen().into_iter().map(|request| request.target).collect();
    let path = "/api2/json/nodes/pve1/qemu/100/config";
    assert_eq!(targets, [format!("{path}?current=1"), path.to_owned()]);
}

#[tokio::test]
async fn a_guests_state_is_read() {
    let server = Server::start(|_, _| {
        ok(r#"{"status":"running","qmpstatus":"prelaunch","lock":"backup","ha":{"managed":1,"state":"started"},
            "cpu":0.25,"maxmem":2147483648,"mem":"1024","pid":"77","agent":1,"running-machine":"pc-i440fx-9.2+pve1"}"#)
    })
    .await;
    let status = server.client().vm_status("pve1", 100).await.unwrap();
    assert!(status.is_running() && !status.is_stopped() && status.ha.managed && status.agent);
    assert_eq!((status.qmpstatus.as_deref(), status.lock.as_deref()), (Some("prelaunch"), Some("backup")));
    assert_eq!((status.cpu, status.maxmem, status.mem, status.pid), (Some(0.25), Some(2 << 30), Some(1024), Some(77)));
}

#[tokio::test]
async fn the_clusters_members_and_quorum() {
    let server = Server::start(|request, _| match request.path() {
        "/cluster/status" => ok(r#"[{"type":"cluster","id":"cluster","name":"prod","nodes":2,"version":3,"quorate":0},
            {"type":"node","id":"node/pve1","name":"pve1","nodeid":1,"ip":"10.0.0.10","local":1,"online":1,"level":""},
            {"type":"node","id":"node/pve2","name":"pve2","nodeid":2,"online":0}]"#),
        _ => bare("501 Method not implemented"),
    })
    .await;
    let status = server.client().cluster_status().await.unwrap();
    assert_eq!((status.name.as_deref(), status.quorate, status.config_version), (Some("prod"), false, Some(3)));
    assert!(status.nodes[0].online && status.nodes[0].local && !status.nodes[1].online);
    let single =
        Server::start(|_, _| ok(r#"[{"type":"node","id":"node/a","name":"a","nodeid":0,"local":1,"online":1}]"#)).await;
    let status = single.client().cluster_status().await.unwrap();
    assert!(status.quorate && status.name.is_none());
}

#[tokio::test]
async fn resources_of_every_kind_are_read() {
    let server = Server::start(|_, _| {
        ok(r#"[{"id":"node/pve1","type":"node","node":"pve1","status":"online","level":"","maxcpu":8,"cpu":0.0123,"maxmem":68719476736},
            {"id":"node/pve2","type":"node","node":"pve2","status":"offline"},
            {"id":"qemu/100","type":"qemu","vmid":100,"node":"pve1","status":"unknown","template":0,"tags":"a;b","pool":"team","lock":"backup"},
            {"id":"lxc/101","type":"lxc","vmid":"101","node":"pve1","name":"ct","status":"running","template":1},
            {"id":"storage/pve1/nfs","type":"storage","storage":"nfs","node":"pve1","plugintype":"nfs","content":"backup,iso","shared":1,"disk":5,"maxdisk":10,"status":"available"},
            {"id":"/pool/team","type":"pool","pool":"team"}]"#)
    })
    .await;
    let all = server.client().cluster_resources(None).await.unwrap();
    assert_eq!((all[0].maxcpu, all[0].cpu, all[1].maxcpu), (Some(8), Some(0.0123), None));
    assert_eq!(
        (all[2].vmid, all[2].tags(), all[2].name.as_deref()),
        (Some(100), vec!["a".to_owned(), "b".to_owned()], None)
    );
    assert!(all[3].template && all[3].vmid == Some(101));
    assert!(all[4].shared && all[4].content == ["backup", "iso"]);
    assert_eq!(all[5].pool.as_deref(), Some("team"));
    server.client().cluster_resources(Some(ResourceKind::Vm)).await.unwrap();
    assert_eq!(server.seen()[1].target, "/api2/json/cluster/resources?type=vm");
}

#[tokio::test]
async fn storages_and_what_is_on_them() {
    let server = Server::start(|request, _| match request.path() {
        "/nodes/pve1/storage" => ok(r#"[{"storage":"nfs","type":"nfs","content":"images,backup","active":1,"enabled":1,
            "shared":1,"total":"100","used":40,"avail":60,"used_fraction":0.4},{"storage":"off","type":"dir","content":"iso","active":0,"enabled":0}]"#),
        "/storage" => ok(r#"[{"storage":"nfs","type":"nfs","server":"10.0.0.5","export":"/x","content":"backup","shared":1,"nodes":"a,b","digest":"d"}]"#),
        _ => ok(r#"[{"volid":"nfs:backup/vzdump-qemu-100-2026_01_02-03_04_05.vma.zst","ctime":1767323045,"size":5,"format":"vma.zst",
            "content":"backup","vmid":100,"subtype":"qemu","notes":"moxxie 1","protected":1}]"#),
    })
    .await;
    let client = server.client();
    let storages = client.storages("pve1").await.unwrap();
    assert!(storages[0].active && storages[0].shared && storages[0].holds("backup") && !storages[0].holds("iso"));
    assert_eq!((storages[0].total, storages[0].avail, storages[1].avail), (Some(100), Some(60), None));
    assert!(!storages[1].active && !storages[1].enabled);
    let index = client.storage_index().await.unwrap();
    assert_eq!(
        (index[0].get("export"), index[0].nodes(), index[0].content()),
        (Some("/x"), vec!["a", "b"], vec!["backup"])
    );
    let content = client.storage_content("pve1", "nfs", Some("backup"), Some(100)).await.unwrap();
    assert!(content[0].protected && content[0].notes.as_deref() == Some("moxxie 1"));
    let last = server.seen().pop().unwrap();
    assert_eq!(last.target, "/api2/json/nodes/pve1/storage/nfs/content?content=backup&vmid=100");
}

#[tokio::test]
async fn a_pool_is_there_or_not_there_or_not_ours() {
    let server = Server::start(|request, _| match request.target.split("poolid=").nth(1) {
        Some("team%2Fa") => ok(r#"[{"poolid":"team/a","comment":"c","members":[{"id":"qemu/100","type":"qemu","vmid":100,"node":"pve1","name":"w"}]}]"#),
        Some("gone") => bare("500 pool 'gone' does not exist"),
        _ => bare("403 Permission check failed (/pool/other, Pool.Audit)"),
    })
    .await;
    let client = server.client();
    let pool = client.pool("team/a").await.unwrap().unwrap();
    assert_eq!((pool.comment.as_deref(), pool.members[0].vmid), (Some("c"), Some(100)));
    assert_eq!(client.pool("gone").await.unwrap(), None);
    assert!(client.pool("other").await.unwrap_err().is_permission_denied());
}

#[tokio::test]
async fn pools_are_changed_by_the_calls_that_know_nesting() {
    let server = Server::start(|_, _| ok("null")).await;
    let client = server.client();
    client.create_pool("m/x", Some("{}")).await.unwrap();
    client.update_pool("m/x", "").await.unwrap();
    client.add_pool_members("m/x", &[100, 101], true).await.unwrap();
    client.remove_pool_members("m/x", &[100]).await.unwrap();
    client.delete_pool("m/x").await.unwrap();
    let seen: Vec<String> = server.seen().iter().map(|r| format!("{} {} {}", r.method, r.target, r.body)).collect();
    assert_eq!(
        seen,
        [
            "POST /api2/json/pools poolid=m%2Fx&comment=%7B%7D",
            "PUT /api2/json/pools poolid=m%2Fx&comment=",
            "PUT /api2/json/pools poolid=m%2Fx&vms=100%2C101&allow-move=1",
            "PUT /api2/json/pools poolid=m%2Fx&vms=100&delete=1",
            "DELETE /api2/json/pools?poolid=m%2Fx ",
        ]
    );
}

#[tokio::test]
async fn a_free_id_or_a_taken_one() {
    let server = Server::start(|request, _| {
        if request.target.ends_with("vmid=100") {
            return crate::server::answer(
                "400 Parameter verification failed.",
                r#"{"data":null,"message":"Parameter verification failed.\n","errors":{"vmid":"VM 100 already exists"}}"#,
            );
        }
        ok(r#""101""#)
    })
    .await;
    assert_eq!(server.client().next_id(None).await.unwrap(), 101);
    assert!(server.client().next_id(Some(100)).await.unwrap_err().is_already_exists());
}

#[tokio::test]
async fn a_cluster_is_known_by_its_ca() {
    let (ca, own) = ("AA:".repeat(31) + "01", "BB:".repeat(31) + "02");
    let entry =
        |file: &str, print: &str| format!(r#"{{"filename":"{file}","fingerprint":"{print}","subject":"/CN=x"}}"#);
    let (root, leaf) = (entry("pve-root-ca.pem", &ca), entry("pve-ssl.pem", &own));
    let both = format!("[{leaf},{root}]");
    let server = Server::start(move |_, _| ok(&both)).await;
    assert_eq!(server.client().cluster_identity().await.unwrap().to_string(), ca);
    let server = Server::start(move |_, _| ok(&format!("[{leaf}]"))).await;
    assert_eq!(server.client().cluster_identity().await.unwrap().to_string(), own);
    let server = Server::start(|_, _| ok("[]")).await;
    assert!(server.client().cluster_identity().await.is_err());
}

#[tokio::test]
async fn rights_are_read() {
    let server = Server::start(|_, _| ok(r#"{"/vms/100":{"VM.Backup":1,"VM.Audit":1}}"#)).await;
    let permissions = server.client().permissions(Some("/vms/100")).await.unwrap();
    assert_eq!(permissions.missing("/vms/100", &["VM.Audit", "VM.Backup", "VM.Allocate"]), ["VM.Allocate"]);
    assert_eq!(server.seen()[0].target, "/api2/json/access/permissions?path=%2Fvms%2F100");
}

#[tokio::test]
async fn high_availability() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "GET" => ok(r#"[{"sid":"vm:100","type":"vm","state":"started","max_restart":1,"digest":"d"}]"#),
        _ => ok("null"),
    })
    .await;
    let client = server.client();
    assert_eq!(client.ha_resource(100).await.unwrap().unwrap().state.as_deref(), Some("started"));
    assert_eq!(client.ha_resource(101).await.unwrap(), None);
    client.set_ha_state(100, "ignored").await.unwrap();
    client.delete_ha_resource(100, Some(false)).await.unwrap();
    let seen = server.seen();
    assert_eq!((seen[2].path(), seen[2].body.as_str()), ("/cluster/ha/resources/vm:100", "state=ignored"));
    assert_eq!(seen[3].target, "/api2/json/cluster/ha/resources/vm:100?purge=0");
}

#[tokio::test]
async fn versions_are_compared() {
    for (text, nine) in [("8.4.1", false), ("9.1.9", true), ("9.0.0~11", true), ("10.0-1", true)] {
        let server = Server::start(move |_, _| ok(&format!(r#"{{"version":"{text}"}}"#))).await;
        assert_eq!(server.client().version().await.unwrap().has_ha_rules(), nine, "{text}");
    }
}

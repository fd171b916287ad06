//! Guests that go to another cluster by `remote_migrate`: what is carried, what stays, what is refused.
#![allow(missing_docs)]

mod support;

use simulator::{ClusterHandle, GuestSpec, Simulator};
use support::{Answer, Api, guest, three_sites};

const PATH: &str = "/nodes/ws1/qemu/400/remote_migrate";

/// Source and target, and who may do everything on both.
struct Pair {
    sim: Simulator,
    prod: ClusterHandle,
    dr: ClusterHandle,
    a: Api,
    b: Api,
    endpoint: String,
}

impl Pair {
    async fn new() -> Pair {
        let sim = three_sites().await;
        let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
        let (a, b) = (Api::new(&prod, Some("platform")), Api::new(&dr, Some("platform")));
        let endpoint = dr.remote_endpoint("platform").expect("a token");
        Pair { sim, prod, dr, a, b, endpoint }
    }

    /// With guest 400 on ws1.
    async fn with(guest: GuestSpec) -> Pair {
        let pair = Pair::new().await;
        pair.prod.create_vm(&guest).expect("a guest");
        pair
    }

    async fn send(&self, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![("target-endpoint", self.endpoint.as_str())];
        let given = |key: &str| more.iter().any(|(name, _)| *name == key);
        form.retain(|(key, _)| !given(key));
        let maps = [("target-storage", "zfs-pool"), ("target-bridge", "vmbr0")];
        form.extend(maps.into_iter().filter(|(key, _)| !given(key)));
        form.extend(more);
        self.a.post(PATH, &form).await
    }

    /// Sent and waited for: exit status and log.
    async fn run(&self, more: &[(&str, &str)]) -> (String, String) {
        let answer = self.send(more).await;
        let exit = self.a.wait(&answer).await;
        (exit, self.a.log(&answer).await.join("\n"))
    }

    /// Polls the newest qmigrate until its log has a line with this.
    async fn until(&self, answer: &Answer, line: &str) {
        for _ in 0..50 {
            if self.prod.newest_log("qmigrate").iter().any(|one| one.contains(line)) {
                return;
            }
            let upid = answer.data().as_str().expect("a UPID").to_owned();
            self.a.get(&format!("/nodes/ws1/tasks/{upid}/status")).await.data();
        }
        panic!("no '{line}' in {:?}", self.prod.newest_log("qmigrate"));
    }

    /// Nothing is lost and no two run.
    fn is_safe(&self, uuid: &str) {
        assert!(self.sim.running_copies(uuid).len() <= 1);
        assert_eq!(self.sim.newest_held(uuid), self.sim.newest_written(uuid));
    }
}

/// A guest with two disks, one of them on a node's own storage, and all that is to be carried.
fn rich(running: bool) -> GuestSpec {
    let mut spec = guest(400, "ws1", "ceph-pool", Some("production-pool"), running);
    for (key, value) in [
        ("scsi1", "local-lvm:4,serial=abc"),
        ("net0", "virtio,bridge=vmbr0,tag=120"),
        ("net1", "virtio,bridge=vmbr1,tag=7,firewall=1"),
        ("tags", "web;prod"),
        ("description", "two\nlines"),
        ("onboot", "1"),
        ("protection", "1"),
    ] {
        spec.config.insert(key.to_owned(), value.to_owned());
    }
    spec
}

/// pve-behaviour.md §9, §11, §15.14, §16.11: a stopped guest goes whole; the source keeps `lock: migrate` for good.
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

/// pve-behaviour.md §9: online, the guest runs and writes on, and its last record arrives.
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

//! Two clusters and a guest to be moved between them by remote_migrate.
#![allow(dead_code, missing_docs)]

use simulator::{ClusterHandle, GuestSpec, Simulator};

use super::{Answer, Api, guest, three_sites};

pub const PATH: &str = "/nodes/ws1/qemu/400/remote_migrate";

/// Source and target, and who may do everything on both.
pub struct Pair {
    pub sim: Simulator,
    pub prod: ClusterHandle,
    pub dr: ClusterHandle,
    pub a: Api,
    pub b: Api,
    pub endpoint: String,
}

impl Pair {
    pub async fn new() -> Pair {
        let sim = three_sites().await;
        let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
        let (a, b) = (Api::new(&prod, Some("platform")), Api::new(&dr, Some("platform")));
        let endpoint = dr.remote_endpoint("platform").expect("a token");
        Pair { sim, prod, dr, a, b, endpoint }
    }

    /// With guest 400 on ws1.
    pub async fn with(guest: GuestSpec) -> Pair {
        let pair = Pair::new().await;
        pair.prod.create_vm(&guest).expect("a guest");
        pair
    }

    pub async fn send(&self, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![("target-endpoint", self.endpoint.as_str())];
        let given = |key: &str| more.iter().any(|(name, _)| *name == key);
        form.retain(|(key, _)| !given(key));
        let maps = [("target-storage", "zfs-pool"), ("target-bridge", "vmbr0")];
        form.extend(maps.into_iter().filter(|(key, _)| !given(key)));
        form.extend(more);
        self.a.post(PATH, &form).await
    }

    /// Sent and waited for: exit status and log.
    pub async fn run(&self, more: &[(&str, &str)]) -> (String, String) {
        let answer = self.send(more).await;
        let exit = self.a.wait(&answer).await;
        (exit, self.a.log(&answer).await.join("\n"))
    }

    /// Polls the newest qmigrate until its log has a line with this.
    pub async fn until(&self, answer: &Answer, line: &str) {
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
    pub fn is_safe(&self, uuid: &str) {
        assert!(self.sim.running_copies(uuid).len() <= 1);
        assert_eq!(self.sim.newest_held(uuid), self.sim.newest_written(uuid));
    }
}

/// A guest with two disks, one of them on a node's own storage, and all that is to be carried.
pub fn rich(running: bool) -> GuestSpec {
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

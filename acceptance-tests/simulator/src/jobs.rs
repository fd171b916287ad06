//! Scheduled backups: what the scheduler starts when its time has come (proxmox-ve.md §6).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::acl::Auth;
use crate::clock::Millis;
use crate::error::Answer;
use crate::http::Call;
use crate::state::{Cluster, State};

/// A day.
const AGAIN: Millis = 24 * 3_600_000;

/// A scheduled backup.
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) enabled: bool,
    pub(crate) next_run: Millis,
    pub(crate) storage: String,
    /// Limited to this node.
    pub(crate) node: Option<String>,
    /// Its guests: a pool's, the listed ones, or all where both are empty.
    pub(crate) pool: Option<String>,
    pub(crate) vmids: Vec<u32>,
}

impl Job {
    fn covers(&self, c: &Cluster, vmid: u32) -> bool {
        match &self.pool {
            Some(pool) => c.pools.get(pool).is_some_and(|pool| pool.vms.contains(&vmid)),
            None => self.vmids.is_empty() || self.vmids.contains(&vmid),
        }
    }
}

/// `GET /cluster/backup`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let entry = |job: &Job| {
        let mut out = json!({
            "id": job.id, "type": "vzdump", "enabled": i32::from(job.enabled), "schedule": "21:00", "storage": job.storage,
            "mode": "snapshot", "compress": "zstd", "next-run": job.next_run / 1000,
        });
        if let Some(node) = &job.node {
            out["node"] = json!(node);
        }
        match &job.pool {
            Some(pool) => out["pool"] = json!(pool),
            None if job.vmids.is_empty() => out["all"] = json!(1),
            None => out["vmid"] = json!(job.vmids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        }
        out
    };
    Ok(Value::Array(call.c().jobs.iter().map(entry).collect()).into())
}

/// Starts a job on every node that has guests of it.
pub(crate) fn run(st: &mut State, cluster: &str, index: usize) {
    let c = st.cluster_mut(cluster);
    let Some(job) = c.jobs.get_mut(index) else { return };
    job.next_run += AGAIN;
    let job = &c.jobs[index];
    let mut guests: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for vm in c.vms.values().filter(|vm| job.covers(c, vm.vmid)) {
        let here = job.node.as_ref().is_none_or(|node| *node == vm.node);
        if here && c.nodes.get(&vm.node).is_some_and(|node| node.online) {
            guests.entry(vm.node.clone()).or_default().push(vm.vmid);
        }
    }
    let storage = job.storage.clone();
    for (node, vmids) in guests {
        let auth = Auth { user: "root@pam".to_owned(), token: None };
        let work = crate::backup::vzdump::scheduled(auth, &node, &storage, &vmids);
        let new = crate::tasks::New { node: &node, kind: "vzdump", id: "", user: "root@pam", delay_ms: 0 };
        st.spawn(cluster, new, work);
    }
}

//! Replication jobs: listed, in the way of a guest's removal, and removed by pvesr at its next run (proxmox-ve.md §5.3, §10.4).

use serde_json::{Value, json};

use crate::clock::Millis;
use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::inspect::ClusterHandle;
use crate::state::Cluster;

/// pvesr runs once a minute.
const RUN: Millis = 60_000;

/// The job of a guest: at most one each here.
pub(crate) struct Job {
    /// The node it replicates to.
    target: String,
    /// Marked for removal; pvesr sees to it then.
    removed_at: Option<Millis>,
}

/// `GET /cluster/replication`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    // Who looks while a job is to go waits for that.
    let due = call.c().replicated.values().filter_map(|job| job.removed_at).max();
    call.st.wait_until(due);
    let now = call.st.now();
    run(call.cm(), now);
    let jobs = call.c().replicated.iter();
    let jobs = jobs.filter(|(vmid, _)| call.may(&format!("/vms/{vmid}"), &["VM.Audit"]));
    let entry = |(vmid, job): (&u32, &Job)| {
        let mut out = json!({
            "id": format!("{vmid}-0"), "type": "local", "guest": vmid, "jobnum": 0, "target": job.target, "schedule": "*/15",
        });
        if job.removed_at.is_some() {
            out["remove_job"] = json!("full");
        }
        out
    };
    Ok(json!(jobs.map(entry).collect::<Vec<_>>()).into())
}

/// `DELETE /cluster/replication/{id}`
pub(crate) fn remove(call: &mut Call<'_>) -> Answer {
    let id = call.param("id").to_owned();
    let vmid: u32 = id.split('-').next().and_then(|vmid| vmid.parse().ok()).unwrap_or_default();
    if call.c().is_9() {
        call.need(&format!("/vms/{vmid}"), &["VM.Replicate"])?;
    } else {
        call.need("/storage", &["Datastore.Allocate"])?;
    }
    call.c().need_quorum()?;
    let (now, force) = (call.st.now(), call.flag("force"));
    let jobs = &mut call.cm().replicated;
    if id != format!("{vmid}-0") || !jobs.contains_key(&vmid) {
        return Err(ApiError::die(format!("no such replication job '{id}'")));
    }
    if force {
        jobs.remove(&vmid);
    } else if let Some(job) = jobs.get_mut(&vmid) {
        job.removed_at = Some((now / RUN + 1) * RUN);
    }
    Ok(Value::Null.into())
}

/// What stands in the way of a guest's removal.
pub(crate) fn in_the_way(c: &Cluster, vmid: u32) -> Result<(), ApiError> {
    if c.replicated.contains_key(&vmid) {
        return Err(ApiError::die(format!(
            "There is a replication job '{vmid}-0' for guest '{vmid}' - Please remove that first."
        )));
    }
    Ok(())
}

/// pvesr's run: marked jobs go whose target can be reached.
pub(crate) fn run(c: &mut Cluster, now: Millis) {
    let nodes = &c.nodes;
    let reachable = |job: &Job| nodes.get(&job.target).is_some_and(|node| node.online);
    c.replicated.retain(|_, job| !(job.removed_at.is_some_and(|at| at <= now) && reachable(job)));
}

impl ClusterHandle {
    /// Gives a guest a replication job to another node.
    pub fn replicate(&self, vmid: u32, target: &str) {
        let job = Job { target: target.to_owned(), removed_at: None };
        self.lock().cluster_mut(&self.name).replicated.insert(vmid, job);
    }

    /// Whether a guest has a replication job.
    pub fn is_replicated(&self, vmid: u32) -> bool {
        self.lock().cluster(&self.name).replicated.contains_key(&vmid)
    }
}

//! Owns the machine's own older copies on a cluster that it goes back to: fenced sources of its earlier moves. What they hold the machine
//! had before it left, so that they make way for it, for good, and it keeps its VMID.
//!
//! Two kinds of copies never do: one that ran as the machine and was returned, and the old copy of a recovery. Either may hold writes that
//! exist nowhere else.
use federation::ClusterName;
use proxmox::TaskFilter;

use super::Move;
use super::ends::sees_tasks;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Answer, Guest, rfc3339};
use crate::kept::Standing;
use crate::notes::Copy;
use crate::recover::RECOVERY;
use crate::site::Site;

/// The tasks that run a guest.
const STARTS: [&str; 3] = ["qmstart", "qmresume", "hastart"];

impl Fleet {
    /// The copies on `target` that make way for a machine which goes there.
    pub(crate) async fn older_copies(&self, target: &Site, guest: &Guest) -> Vec<Copy> {
        let mut older = Vec::new();
        for copy in guest.mark.copies.iter().filter(|copy| copy.cluster == target.name) {
            if target.is_older(copy, &guest.uuid).await {
                older.push(copy.clone());
            }
        }
        older
    }

    /// Whether what has a machine's VMID on another cluster is such a copy of it, as far as a refresh looks: its number is not taken then.
    pub async fn makes_way(&self, cluster: &ClusterName, guest: &Guest) -> bool {
        let Some(site) = self.site(cluster.as_str()) else { return false };
        let vmid = guest.place.vmid;
        let copy = guest.mark.copies.iter().find(|copy| copy.cluster == *cluster && copy.vmid == vmid);
        match copy {
            Some(copy) => site.is_older(copy, &guest.uuid).await,
            None => false,
        }
    }
}

impl Site {
    /// Whether a copy is older than the machine, by proof: it is the fenced source of a move, its machine's notes list it, and no task
    /// that can be seen started it since.
    async fn is_older(&self, copy: &Copy, uuid: &str) -> bool {
        if copy.returned || copy.op.as_deref() == Some(RECOVERY) {
            return false;
        }
        let Answer::Is(found) = self.ask(copy.vmid, "", uuid, Some(false)).await else { return false };
        let Some(retired) = found.mark.retired.as_ref().filter(|_| copy.is(&found, uuid) == Standing::Fenced) else {
            return false;
        };
        retired.op != RECOVERY && !self.was_started(&found, retired.at).await
    }

    /// Whether a task says that a guest was started since. None that can be seen says so of one that was retired before that was noted.
    async fn was_started(&self, guest: &Guest, since: Option<i64>) -> bool {
        let node = &guest.place.node;
        if since.is_none() || !sees_tasks(self, node).await {
            return false;
        }
        let filter = TaskFilter { vmid: Some(guest.place.vmid), since, ..TaskFilter::default() };
        let tasks = self.client.find_tasks(node, &filter).await;
        tasks.map_or(true, |tasks| tasks.iter().any(|task| STARTS.contains(&task.upid.kind.as_str())))
    }
}

impl Move<'_> {
    /// Removes the copies that make way, right before the machine comes. May run any number of times.
    pub(super) async fn make_way(&self) -> Result<(), Failure> {
        for copy in &self.journal.older {
            let gone = self.target.fresh().await.is_ok_and(|overview| overview.guest(copy.vmid).is_none());
            if gone || self.target.is_older(copy, &self.journal.uuid).await {
                self.fleet.remove_copy(copy, &self.journal.uuid, self.deadline, &self.what).await?;
                continue;
            }
            return Err(Failure::new(&self.what)
                .at(format!(
                    "{}/{}: the retired copy that was to make way is not as it was when this move began",
                    copy.cluster, copy.vmid
                ))
                .next("see who changed it and whether it ran since, and apply again"));
        }
        Ok(())
    }

    /// Those of them that are gone.
    pub(super) async fn gone_older(&self) -> Vec<Copy> {
        if self.journal.older.is_empty() {
            return Vec::new();
        }
        let Ok(overview) = self.target.fresh().await else { return Vec::new() };
        let gone = |copy: &&Copy| overview.guest(copy.vmid).is_none();
        self.journal.older.iter().filter(gone).cloned().collect()
    }
}

/// What a person is told of a copy that goes.
pub(super) fn will_go(copy: &Copy) -> Failure {
    Failure::new(format!("Retired copy {}/{} is removed for good by this move", copy.cluster, copy.vmid))
        .at(format!(
            "the machine goes back to where it came from, and takes its place: what it left there is older, and was kept until {}",
            rfc3339(copy.until)
        ))
        .next("nothing: the copy that the move leaves is the one to fall back to")
}

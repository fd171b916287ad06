//! Owns whether somebody works on the machine: what holds its lock, and the wait for a backup of its own that runs.
use std::time::Instant;

use proxmox::{TaskFilter, TaskSource, Upid, VmConfig};

use super::{Findings, Preflight, finding};
use crate::failure::{Failure, FailureKind};

/// A backup that runs and holds the machine's lock.
#[derive(Debug, Clone)]
pub(in crate::relocate) struct Busy {
    upid: Upid,
    /// Which it is: job, task, who began it.
    words: String,
}

impl Preflight<'_> {
    /// A locked machine is refused, unless a backup of it runs that ends by itself (hazards.md OR 11, `proxmox-ve.md` A7).
    pub(super) async fn lock(
        &self,
        config: &VmConfig,
        findings: &mut Findings,
        warnings: &mut Vec<Failure>,
    ) -> Option<Busy> {
        let place = &self.guest.place;
        let lock = config.lock()?;
        let busy = if lock == "backup" { self.own_backup().await } else { None };
        match &busy {
            Some(busy) => warnings.push(
                Failure::new("The machine is being backed up, and moves after that (source_idle)")
                    .at(format!("{place}: {}", busy.words))
                    .next("nothing: apply waits for it, for as long as `timeouts.update` says"),
            ),
            None => {
                let next = format!("wait for what holds it, or run `qm unlock {}` on {}", place.vmid, place.node);
                findings.push(finding("source_idle", format!("{place} is locked ({lock})"), next));
            }
        }
        busy
    }

    /// The backup that holds the lock: one runs per node, of this guest or of several. None where the token sees no such task
    /// (Sys.Audit on the node), or a dead one left the lock behind.
    async fn own_backup(&self) -> Option<Busy> {
        let (place, client) = (&self.guest.place, &self.source.client);
        let filter = TaskFilter { kind: Some("vzdump".into()), source: TaskSource::Active, ..TaskFilter::default() };
        let tasks = client.find_tasks(&place.node, &filter).await.ok()?;
        let of_it = |upid: &Upid| upid.id.is_empty() || upid.vmid() == Some(place.vmid);
        let task = tasks.into_iter().find(|task| task.is_running() && of_it(&task.upid))?;
        let pool = self.guest.pool.as_ref().map(|pool| pool.as_str());
        let jobs = client.backup_jobs().await.unwrap_or_default();
        let here = |node: &Option<String>| node.as_ref().is_none_or(|node| *node == place.node);
        let jobs: Vec<String> = jobs
            .into_iter()
            .filter(|job| task.upid.id.is_empty() && here(&job.node) && job.covers(place.vmid, pool))
            .map(|job| job.id)
            .collect();
        let of_job = if jobs.is_empty() { String::new() } else { format!(" of backup job {}", jobs.join(" or ")) };
        let words = format!("task {} by {}{of_job}", task.upid, task.upid.user);
        Some(Busy { upid: task.upid, words })
    }

    /// Waits until a backup has ended, well or not: until then the machine runs, and nothing of the move has begun.
    ///
    /// # Errors
    /// The user's wish to stop, or the end of the time for the whole move.
    pub(in crate::relocate) async fn wait_for(
        &self,
        busy: &Busy,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        tracing::info!(machine = %self.guest.place, backup = %busy.words, "waits for its backup to end");
        let waited = self.fleet.wait(self.source, &busy.upid, deadline, what).await;
        let interrupted = waited.as_ref().is_err_and(|failure| failure.kind == FailureKind::Interrupted);
        if waited.is_err() && !interrupted {
            // It failed, which is as good an end as any; or it can't be looked at for now.
            tokio::time::sleep(self.source.client.settings().task_poll_max).await;
        }
        if !interrupted && Instant::now() < deadline {
            return Ok(());
        }
        let mut failure = Failure::new(what)
            .at(format!("{}: it is still being backed up: {}", self.guest.place, busy.words))
            .state("nothing was touched")
            .next("apply again once the backup has ended, or raise `timeouts.update`");
        failure.kind = FailureKind::Interrupted;
        Err(failure)
    }
}

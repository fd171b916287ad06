//! Owns the steps on the source before the transfer: shut down, fence, back up, fence again.
use std::time::Instant;

use proxmox::{BackupJob, Params, PendingValue, TaskFilter};

use super::{Move, archive};
use crate::failure::{Failure, FailureKind};
use crate::guest::rfc3339;
use crate::journal::Place;
use crate::notes::{self, Mark};

impl Move<'_> {
    /// Shuts the source down, and never through HA, which kills at its timeout (hazards.md OR 9).
    pub(super) async fn shut_down(&mut self) -> Result<(), Failure> {
        let from = self.from();
        // Several moves of this process off one node take turns while their machines still run (hazards.md OR 11).
        if !self.is_direct() {
            let slot = format!("backup {} {}", from.cluster, from.node);
            self.backup_slot = self.fleet.slot(slot, 1).await;
            self.backup_can_start(&from).await?;
        }
        if self.journal.undo.ha.is_some() {
            let set = self.source.client.set_ha_state(from.vmid, "ignored").await;
            set.map_err(|error| self.at(&from, "its HA state can't be set to ignored", error))?;
        }
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        let status = status.map_err(|error| self.at(&from, "its status can't be read", error))?;
        if status.status != "running" {
            return Ok(());
        }
        // Waiting for a turn may have taken long.
        let misfit =
            self.path.window.as_ref().and_then(|window| {
                Some((window, window.misfit(self.source.now(), self.predicted.unwrap_or_default())?))
            });
        if let Some((window, misfit)) = misfit {
            return Err(Failure::new(&self.what)
                .at(format!("the path from {} to {} is open {window}: {misfit}", self.source.name, self.target.name))
                .state("the machine runs, and was not shut down")
                .next("apply again when it is open, or change the path's `window`"));
        }
        self.journal.down_since.get_or_insert(self.source.now());
        let wish = &self.spec.migration;
        let upid = self
            .source
            .client
            .shutdown_vm(&from.node, from.vmid, Some(wish.shutdown_timeout.into()), wish.force_stop)
            .await
            .map_err(|error| self.at(&from, "it can't be shut down", error))?;
        self.wait_source(&upid).await?;
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        match status {
            Ok(status) if status.status != "running" => Ok(()),
            Ok(_) => Err(Failure::new(&self.what)
                .at(format!("{from}: the guest did not shut down within {}", wish.shutdown_timeout))
                .next("raise migration.shutdown_timeout, set migration.force_stop, or see to the guest; it may still power off later")),
            Err(error) => Err(self.at(&from, "its status can't be read", error)),
        }
    }

    /// A machine is shut down only when its own backup can start: one vzdump runs per node, and a scheduled job holds the node
    /// for all its guests (hazards.md OR 11). While this waits the machine runs.
    pub(super) async fn backup_can_start(&self, from: &Place) -> Result<(), Failure> {
        let filter =
            TaskFilter { kind: Some("vzdump".into()), source: proxmox::TaskSource::Active, ..TaskFilter::default() };
        let mut pause = self.source.client.settings().task_poll_first;
        loop {
            // Jobs first: one that begins while we look is among the tasks then.
            if let Some(job) = self.job_due(from).await {
                if self.fleet.is_stopping() || Instant::now() >= self.deadline {
                    let mut failure = Failure::new(&self.what)
                        .at(format!("{from}: backup job {job} is due before its own could end"));
                    failure.kind = FailureKind::Interrupted;
                    return Err(failure.state("the machine runs").next("apply again once the job has run"));
                }
                tracing::info!(%from, %job, "waits for a backup job that is due");
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(self.source.client.settings().task_poll_max);
                continue;
            }
            let active = self.source.client.find_tasks(&from.node, &filter).await;
            let active = active.map_err(|error| self.at(from, "the node's tasks can't be read", error))?;
            let mut waited = false;
            for task in active.iter().filter(|task| task.is_running() && task.upid.vmid() != Some(from.vmid)) {
                waited = true;
                // Our own wait, not PVE's.
                self.fleet
                    .wait(&self.source, &task.upid, self.deadline, &self.what)
                    .await
                    .or_else(|failure| if failure.kind == FailureKind::Interrupted { Err(failure) } else { Ok(()) })?;
            }
            if !waited {
                return Ok(());
            }
        }
    }

    /// A scheduled backup that would begin on the node before ours could end; none where the token doesn't see jobs (Sys.Audit
    /// on `/`): then a lock that is held makes ours fail, and the machine goes straight up again.
    async fn job_due(&self, from: &Place) -> Option<String> {
        let jobs = self.source.client.backup_jobs().await.ok()?;
        let now = u64::try_from(self.source.now()).unwrap_or_default();
        // At most half of what is predicted is the backup; the rest is what the target does.
        let until = now + self.predicted.unwrap_or_default() / 2;
        let here = |job: &&BackupJob| job.node.as_ref().is_none_or(|node| *node == from.node);
        let due = |job: &&BackupJob| job.next_run.is_some_and(|next| (now..=until).contains(&next));
        jobs.iter().filter(|job| job.enabled != Some(false)).find(|job| here(job) && due(job)).map(|job| job.id.clone())
    }

    pub(super) async fn fence_onboot(&mut self) -> Result<(), Failure> {
        let from = self.from();
        let config = self.source_config(false).await?;
        // Of a machine that is off any change takes what waits (`proxmox-ve.md` §18.26). The fence would, after the backup, which
        // would be without it.
        let waiting = self.source.client.vm_pending(&from.node, from.vmid).await;
        let waiting = waiting.map_err(|error| self.at(&from, "its pending changes can't be read", error))?;
        if !config.onboot() && !waiting.iter().any(PendingValue::is_pending) {
            return Ok(());
        }
        let params = Params::new().flag("onboot", false);
        let set = self.source.client.set_config(&from.node, from.vmid, params, config.digest()).await;
        set.map_err(|error| self.at(&from, "onboot can't be set to 0", error))
    }

    pub(super) async fn back_up(&mut self) -> Result<(), Failure> {
        if self.journal.archive.is_some() && self.journal.cold {
            return Ok(());
        }
        let from = self.from();
        let upid = self
            .source
            .client
            .vzdump(&from.node, self.vzdump_params(&from).await)
            .await
            .map_err(|error| self.at(&from, "its backup can't be started", error))?;
        self.journal.upid = Some(upid.to_string());
        self.journal.backup = self.journal.upid.clone();
        self.write().await?;
        self.wait_source(&upid).await.map_err(|failure| self.with_residue(failure, &from))?;
        let log = self.source.client.task_log_all(&upid).await;
        let log = log.map_err(|error| self.at(&from, "the backup's log can't be read", error))?;
        let volid = archive::volid(&log, &self.transfer.0).ok_or_else(|| {
            Failure::new(&self.what)
                .at(format!("{from}: the log of backup {upid} names no archive"))
                .next("apply again")
        })?;
        self.journal.archive = Some(volid);
        archive::prove_cold(&log).map_err(|line| {
            Failure::new(&self.what)
                .at(format!("{from}: somebody ran the machine during its final backup ({line})"))
                .state("the source has the newer data")
                .next("keep hands off the machine, and apply again")
        })?;
        self.journal.cold = true;
        self.backup_slot = None;
        self.write().await
    }

    /// A backup that was killed with its node leaves a half archive that the API doesn't list, so that no token can remove it
    /// (hazards.md OR 37). Network storages are mounted below `/mnt/pve`.
    fn with_residue(&self, failure: Failure, from: &Place) -> Failure {
        if !failure.said.as_deref().is_some_and(|said| said.contains("unexpected status")) {
            return failure;
        }
        let half = format!("/mnt/pve/{}/dump/vzdump-qemu-{}-*", self.transfer.0, from.vmid);
        failure.next(format!(
            "once no backup of it runs, remove what may be left: on {}: rm -rf {half}.vma.dat {half}.tmp. Then apply again",
            from.node
        ))
    }

    pub(super) async fn vzdump_params(&self, from: &Place) -> Params {
        let limit = self.path.max_bandwidth.map(|limit| limit.to_kib_per_second());
        // Only Sys.Modify on / may limit a backup (hazards.md OR 15); preflight has said so where it is missing.
        let may = match self.source.client.permissions(Some("/")).await {
            Ok(permissions) => permissions.has("/", "Sys.Modify"),
            Err(_) => false,
        };
        Params::new()
            .set("vmid", from.vmid)
            .set("storage", &self.transfer.0)
            .set("mode", "stop")
            .set("compress", "zstd")
            .flag("remove", false)
            .flag("protected", true)
            .set("lockwait", 1)
            // A mail per move is an alarm per move (hazards.md OR 34); without an address this way is silent.
            .set("notification-mode", "legacy-sendmail")
            .set("notes-template", archive::notes(&self.journal.op, from))
            .opt("bwlimit", limit.filter(|_| may))
    }

    /// Fence 2: a template can't be started nor resumed, by nobody; a protected machine can't be removed (design.md §6).
    pub(super) async fn fence(&mut self) -> Result<(), Failure> {
        let from = self.from();
        let config = self.source_config(true).await?;
        if !config.template() {
            let split = notes::split(config.description().unwrap_or_default());
            let since = rfc3339(self.source.now());
            let line = format!("Being moved to cluster {} since {since}, do not start.", self.journal.to.cluster);
            let mark = Mark { op: Some(self.journal.op.clone()), line: Some(line), ..split.mark };
            let notes = self.notes(&from, &split.text, &mark)?;
            let params = Params::new().flag("template", true).flag("protection", true).set("description", notes);
            let set = self.source.client.set_config(&from.node, from.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(&from, "it can't be fenced", error))?;
        }
        let config = self.source_config(true).await?;
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        let status = status.map_err(|error| self.at(&from, "its status can't be read", error))?;
        if config.template() && status.status == "stopped" {
            return self.nobody_started_it(&from).await;
        }
        // Merely pending: somebody started the source since the backup, and it has the newer data. The undo reverts it.
        Err(Failure::new(&self.what)
            .at(format!("{from}: somebody started the machine after its final backup"))
            .state("the source has the newer data")
            .next("keep hands off the machine, and apply again"))
    }

    /// Between the end of the backup and the fence lie seconds; a start in them shows in the task list, where it is seen.
    pub(super) async fn nobody_started_it(&self, from: &Place) -> Result<(), Failure> {
        let Some(backup) = self.journal.archive_task_start() else { return Ok(()) };
        let filter = TaskFilter { vmid: Some(from.vmid), since: Some(backup), ..TaskFilter::default() };
        let tasks = self.source.client.find_tasks(&from.node, &filter).await;
        let tasks = tasks.map_err(|error| self.at(from, "its tasks can't be read", error))?;
        let started = |kind: &str| matches!(kind, "qmstart" | "qmresume" | "hastart");
        match tasks.iter().find(|task| started(&task.upid.kind) && task.upid.starttime >= backup) {
            None => Ok(()),
            Some(task) => Err(Failure::new(&self.what)
                .at(format!("{from}: {} started it after its final backup ({})", task.upid.user, task.upid))
                .state("the source may have the newer data")
                .next("keep hands off the machine, and apply again")),
        }
    }
}

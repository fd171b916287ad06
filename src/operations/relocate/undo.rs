//! Owns taking a move back before "live", and the question whether a move that was left open may go on.
use federation::migration::{Found, Step, Way, carried, resume, resume_direct};
use proxmox::{Params, TaskFilter};

use super::ends::is_a_console;
use super::{Move, archive};
use crate::failure::Failure;
use crate::guest::Guest;
use crate::journal::Place;
use crate::notes;
use crate::site::Site;

impl Move<'_> {
    /// Which way an open move goes, once no task of it runs any more.
    pub(super) async fn way(&self, wanted: bool) -> Result<Way, Failure> {
        if self.is_direct() {
            return self.way_of_direct().await;
        }
        let mut found = Found {
            step: self.journal.step,
            taking_back: self.journal.taking_back,
            cold: self.journal.cold,
            fenced: false,
            wanted,
        };
        // Only where the fence could matter is it looked at: an unreachable source doesn't keep a live move from going on.
        if !found.step.is_past_live() && found.cold && !found.taking_back {
            self.tasks_end(&self.source, &self.from()).await?;
            found.fenced = self.source_config(true).await?.template();
        }
        Ok(resume(found))
    }

    async fn way_of_direct(&self) -> Result<Way, Failure> {
        let step = self.journal.step;
        if !self.journal.restored || step.is_past_live() {
            return Ok(if step.is_past_live() { Way::Forward } else { Way::Back });
        }
        let ends = self.ends().await?;
        match resume_direct(step, carried(ends)) {
            Some(way) => Ok(way),
            None => Err(self.torn(ends).await),
        }
    }

    /// Takes the move back: the target and the archive go, the source is as it was before. May run any number of times.
    pub(super) async fn take_back(&mut self) -> Result<Guest, Failure> {
        if self.journal.is_past_live() {
            // Nothing past "live" is taken back, by nobody (design.md §6).
            return Err(Failure::new(&self.what).at("the move went past \"live\"").next("apply again to go on"));
        }
        let sent = self.is_direct() && self.journal.restored;
        if sent {
            self.may_be_taken_back().await?;
        }
        self.journal.taking_back = true;
        self.write().await?;
        let (from, to) = (self.from(), self.journal.to.clone());
        self.tasks_end(&self.source, &from).await?;
        if sent {
            self.fence_whole(&to).await?;
        }
        // First of all the machine runs again: the target is stopped, and nothing starts it before "live".
        self.restore_source(&from).await?;
        if sent {
            self.name_remnant(&to).await?;
        }
        if self.journal.restored && !sent {
            self.tasks_end(&self.target, &to).await?;
            self.remove_target(&to).await?;
        }
        if !self.is_direct() {
            self.remove_archives(&from).await?;
        }
        self.give_both_back().await?;
        self.source.guest_now(&from.node, from.vmid).await.map_err(|error| self.at(&from, "it can't be read", error))
    }

    /// Removes the archives of this operation, those that no journal names too.
    pub(super) async fn remove_archives(&self, from: &Place) -> Result<(), Failure> {
        let mut archives = archive::of_operation(&self.source, from, &self.transfer.0, &self.journal.op)
            .await
            .map_err(|error| self.at(from, "the transfer storage can't be listed", error))?;
        archives.extend(self.journal.archive.clone().filter(|volid| !archives.contains(volid)));
        for volid in archives {
            let removed = archive::remove(&self.source, from, &volid, self.fleet, self.deadline).await;
            removed.map_err(|error| self.at(from, "the archive can't be removed", error))?;
        }
        Ok(())
    }

    /// Waits for what an earlier run started and left running.
    pub(super) async fn tasks_end_on_both(&self) -> Result<(), Failure> {
        self.tasks_end(&self.source, &self.from()).await?;
        self.tasks_end(&self.target, &self.journal.to).await
    }

    /// Waits for tasks of a VMID that still run: an earlier run started them.
    pub(super) async fn tasks_end(&self, site: &Site, place: &Place) -> Result<(), Failure> {
        let filter =
            TaskFilter { vmid: Some(place.vmid), source: proxmox::TaskSource::Active, ..TaskFilter::default() };
        let tasks = site.client.find_tasks(&place.node, &filter).await;
        let tasks = tasks.map_err(|error| self.at(place, "its tasks can't be read", error))?;
        for task in tasks.iter().filter(|task| task.is_running() && !is_a_console(&task.upid)) {
            let waited = self.fleet.wait(site, &task.upid, self.deadline, &self.what).await;
            if let Err(failure) = waited
                && failure.kind == crate::failure::FailureKind::Interrupted
            {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Removes what our restore made on the target, and nothing else (design.md §6, ownership).
    pub(super) async fn remove_target(&mut self, to: &Place) -> Result<(), Failure> {
        let Some(restore) = self.our_restore(to).await? else { return Ok(()) };
        if self.journal.step <= Step::Restore {
            // Later on the journal has them, less those that a move between storages has replaced.
            let log = self.target.client.task_log_all(&restore).await;
            let log = log.map_err(|error| self.at(to, "the restore's log can't be read", error))?;
            self.journal.volumes = archive::new_volumes(&log);
        }
        let moved = self.journal.moving.is_some();
        self.settle_moving(to).await?;
        let config = match self.target.config(to).await {
            Ok(config) => config,
            // Nobody with a right to this VMID sees it: it never came into the pool, or it is gone.
            Err(error) if error.is_not_found() || error.is_permission_denied() => return self.remove_volumes(to).await,
            Err(error) => return Err(self.at(to, "the target can't be read", error)),
        };
        let mark = notes::split(config.description().unwrap_or_default()).mark;
        let mut disks = config.disks();
        disks.extend(config.state_disks());
        disks.extend(config.unused());
        disks.retain(|_, disk| disk.volume() != "none" && !disk.is_cloudinit());
        let volumes: Vec<String> = disks.into_values().map(|disk| disk.volume().to_owned()).collect();
        let stub = config.name().is_none() && volumes.is_empty();
        let ours = mark.op.as_deref() == Some(self.journal.op.as_str());
        if !stub && !ours {
            return Err(Failure::new(&self.what)
                .at(format!("{to}: this guest is not of operation {}", self.journal.op))
                .next("look at it; remove what is left of the move by hand"));
        }
        if let Some(foreign) = volumes.iter().find(|volume| !self.journal.volumes.contains(volume)) {
            return Err(Failure::new(&self.what)
                .at(format!(
                    "{to}: it holds {foreign}, which our restore did not make; removing the guest would free it"
                ))
                .next("give that volume back to its own guest by hand, without freeing it, and apply again"));
        }
        if moved {
            self.name_unexplained(to, &config).await;
        }
        if let Err(error) = self.delete_target(to, config.protection()).await? {
            // A failed restore is in no pool yet, so a token with rights on the pool alone can't remove it
            // (`proxmox-ve.md` §7). The source must run again all the same.
            let id = to.vmid;
            let free: String = self.journal.volumes.iter().map(|volume| format!(" && pvesm free {volume}")).collect();
            self.warnings.push(
                Failure::new(format!("A failed restore stays: {to}"))
                    .at("the token may not remove it; it holds no data that the source doesn't have")
                    .said(error)
                    .next(format!("on {}: qm set {id} --protection 0 && qm destroy {id}{free}", to.node)),
            );
            return Ok(());
        }
        self.remove_volumes(to).await
    }

    /// Removes the target; what is refused for lack of a right comes back as the inner error.
    async fn delete_target(&self, to: &Place, protected: bool) -> Result<Result<(), proxmox::Error>, Failure> {
        if protected {
            let off = Params::new().flag("protection", false);
            match self.target.client.set_config(&to.node, to.vmid, off, None).await {
                Err(error) if error.is_permission_denied() => return Ok(Err(error)),
                set => set.map_err(|error| self.at(to, "its protection can't be lifted", error))?,
            }
        }
        let upid = match self.target.client.delete_vm(&to.node, to.vmid).await {
            Ok(upid) => upid,
            Err(error) if error.is_permission_denied() => return Ok(Err(error)),
            Err(error) => return Err(self.at(to, "the target can't be removed", error)),
        };
        self.fleet.wait(&self.target, &upid, self.deadline, &self.what).await?;
        Ok(Ok(()))
    }

    /// Volumes of ours that are in no configuration: a restore that failed late leaves them (`proxmox-ve.md` §7), and so does a
    /// move between storages that was killed, or whose old volume could not be removed. Removing one takes a right that the rest
    /// of a move doesn't need; without it, or where its storage is away, a person is told.
    pub(super) async fn remove_volumes(&mut self, to: &Place) -> Result<(), Failure> {
        for volid in self.journal.volumes.clone() {
            let storage = volid.split_once(':').map_or("", |(storage, _)| storage);
            let listed = self.target.client.storage_content(&to.node, storage, Some("images"), Some(to.vmid)).await;
            match listed {
                Ok(listed) if listed.iter().any(|volume| volume.volid == volid) => {}
                // A token that may not list the storage without a guest of that VMID finds nothing to remove.
                Ok(_) => continue,
                Err(error) if error.is_permission_denied() => continue,
                Err(error) => {
                    self.warnings.push(left_over(to, &volid, &error));
                    continue;
                }
            }
            match self.target.client.delete_volume(&to.node, &volid).await {
                Ok(None) => {}
                Ok(Some(upid)) => self.fleet.wait(&self.target, &upid, self.deadline, &self.what).await?,
                Err(error) if error.is_permission_denied() => self.warnings.push(left_over(to, &volid, &error)),
                Err(error) => return Err(self.at(to, "a left-over volume can't be removed", error)),
            }
        }
        Ok(())
    }

    /// Puts the source back: unfenced, as protected as before, starting with its node as before, and running as before.
    pub(super) async fn restore_source(&mut self, from: &Place) -> Result<(), Failure> {
        let undo = self.journal.undo.clone();
        if !self.is_of_machine(&self.source_config(true).await?) {
            return Err(Failure::new(&self.what)
                .at(format!("{from}: what has its VMID is another machine"))
                .next("see what became of the source; nothing was started"));
        }
        self.revert_fence_of(&self.source, from).await?;
        let config = self.source_config(true).await?;
        let mut params = Params::new();
        if config.template() {
            params = params.set("delete", "template");
        }
        if config.protection() != undo.protection {
            params = params.flag("protection", undo.protection);
        }
        if config.onboot() != undo.onboot {
            params = params.flag("onboot", undo.onboot);
        }
        let split = notes::split(config.description().unwrap_or_default());
        let mut mark = split.mark.clone().without_operation();
        for copy in self.gone_older().await {
            mark.without_copy_at(&copy.cluster, copy.vmid);
        }
        if let Some(copy) = self.returned_copy.clone() {
            mark.list_copy(copy);
        }
        if mark != split.mark {
            params = params.set("description", self.notes(from, &split.text, &mark)?);
        }
        if !params.is_empty() {
            // The digest: whoever took the operation over from us has written the notes since, and this is refused.
            let set = self.source.client.set_config(&from.node, from.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(from, "the source can't be put back as it was", error))?;
        }
        if undo.running {
            let status = self.source.client.vm_status(&from.node, from.vmid).await;
            let status = status.map_err(|error| self.at(from, "its status can't be read", error))?;
            if status.status != "running" {
                self.fleet.start(&self.source, from, self.deadline).await?;
            } else if self.is_online() && matches!(status.qmpstatus.as_deref(), Some("paused" | "postmigrate")) {
                // Proxmox VE's migration stopped it for its last step, and did not let it go on.
                let upid = self.source.client.resume_vm(&from.node, from.vmid).await;
                let upid = upid.map_err(|error| self.at(from, "it is paused, and doesn't go on", error))?;
                self.wait_source(&upid).await?;
            }
        }
        if let Some(state) = &undo.ha {
            let set = self.source.client.set_ha_state(from.vmid, state).await;
            set.map_err(|error| self.at(from, "its HA state can't be set back", error))?;
        }
        Ok(())
    }

    /// A fence that came while a machine ran waits for its next stop: it must not come into force then.
    pub(super) async fn revert_fence_of(&self, site: &Site, at: &Place) -> Result<(), Failure> {
        let config = site.client.vm_config(&at.node, at.vmid, true).await;
        let config = config.map_err(|error| self.at(at, "its configuration can't be read", error))?;
        let pending = site.client.vm_pending(&at.node, at.vmid).await;
        let pending = pending.map_err(|error| self.at(at, "its pending changes can't be read", error))?;
        if !pending.iter().any(|one| one.is_pending() && one.key == "template") {
            return Ok(());
        }
        let revert = Params::new().set("revert", "template");
        let reverted = site.client.set_config(&at.node, at.vmid, revert, config.digest()).await;
        reverted.map_err(|error| self.at(at, "the pending fence can't be reverted", error))
    }

    /// Gives the operation back, the target's side first: while the source's is there, whoever looks at the machine finds it.
    pub(super) async fn give_both_back(&mut self) -> Result<(), Failure> {
        for (site, place) in [(&self.target, &self.journal.to), (&self.source, &self.from())] {
            let given = self.fleet.give_back(site, &self.pool, self.journal.epoch).await;
            given.map_err(|error| self.at(place, "the operation can't be given back", error))?;
        }
        Ok(())
    }
}

/// A volume that our tasks made and that is left, for an operator.
fn left_over(to: &Place, volid: &str, error: &proxmox::Error) -> Failure {
    Failure::new(format!("A volume that the move made may stay: {volid}"))
        .at(format!("{to}: it is in no configuration, and holds no data that the machine doesn't have"))
        .said(error)
        .next(format!("where it is there, on {}: pvesm free {volid}", to.node))
}

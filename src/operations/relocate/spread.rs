//! Owns the step that moves volumes to the storages of the target they belong on, and telling what came of each such move.
//!
//! What a move makes is ours where the configuration names it, in the slot and on the storage that the journal names, and a
//! task of ours says that it copied that slot's volume, which was ours. A task that fails frees its copy. One that is killed
//! leaves it, in no configuration: it is ours where the task's log names it, as it does on files and LVM; else a person is told
//! of it, and it stays.
use std::collections::BTreeSet;

use proxmox::{DiskSpec, Params, TaskFilter, TaskInfo, VmConfig, VolumeMove};

use super::ends::CLOCKS;
use super::preflight::{carried, homes, volumes};
use super::{Move, archive};
use crate::failure::{Failure, FailureKind};
use crate::journal::{Moving, Place};

/// How a task ends that was killed, or whose node went down: nothing was cleaned up (`proxmox-ve.md` §3).
const KILLED: &str = "unexpected status";

impl Move<'_> {
    /// Moves what belongs elsewhere, one volume after the other.
    pub(super) async fn spread(&mut self) -> Result<(), Failure> {
        if self.all_on_one() {
            return Ok(());
        }
        let to = self.journal.to.clone();
        self.settle_moving(&to).await?;
        let source =
            if self.is_direct() { self.source_if_there().await? } else { Some(self.source_config(true).await?) };
        // Where a person has removed it, what came of it says the same of its disks, all on one storage.
        let source = match source {
            Some(source) => source,
            None => self.target_config(&to).await?,
        };
        let was = carried(&source);
        let homes = homes(&volumes(&source), &self.resolved);
        let mut config = self.target_config(&to).await?;
        self.took_nothing_in(&to, &config)?;
        let mut copied = 0;
        for (slot, storage) in &homes {
            // One that is missing is seen by verify.
            let Some(disk) = drive(&config, slot).filter(|disk| disk.storage() != Some(storage)) else { continue };
            let volume = disk.volume().to_owned();
            if disk.is_cloudinit() && !self.journal.volumes.contains(&volume) {
                // Made by the restore, which not every version logs; it holds nothing that isn't made anew.
                self.journal.volumes.push(volume.clone());
            }
            let moving = Moving { slot: slot.clone(), volume, storage: storage.clone(), since: self.target.now() };
            self.journal.moving = Some(moving);
            self.write().await?;
            let format = was.get(slot).filter(|disk| !disk.is_cloudinit()).map(format_of);
            let wish = VolumeMove { slot, storage, format, digest: config.digest() };
            let is_there = |now: &DiskSpec| now.storage() == Some(storage);
            let moved = self.fleet.move_volume(&self.target, &to, wish, is_there, &self.what, self.deadline).await;
            moved.map_err(|failure| match failure.kind {
                FailureKind::Interrupted => failure,
                _ => failure.at(format!("{to}: {slot} can't be moved from {} to {storage}", disk.volume())),
            })?;
            self.target.changed().await;
            self.settle_moving(&to).await?;
            config = self.target_config(&to).await?;
            if drive(&config, slot).is_none_or(|disk| disk.storage() != Some(storage)) {
                return Err(Failure::new(&self.what)
                    .at(format!("{to}: {slot} is not on storage {storage} after it was moved there"))
                    .next("see what else changes the machine, and apply again"));
            }
            copied += disk.size_bytes().unwrap_or_default();
        }
        self.bytes = Some(copied);
        self.tidy(&to, &config).await
    }

    /// Whether there is but one storage, so that nothing moves on and nothing ever did.
    fn all_on_one(&self) -> bool {
        let Some(storage) = &self.journal.storage else { return self.resolved.storages.is_empty() };
        let there = |volume: &String| volume.split_once(':').is_some_and(|(on, _)| on == storage);
        self.journal.moving.is_none()
            && self.resolved.storages.values().all(|mapped| mapped == storage)
            && self.journal.volumes.iter().all(there)
    }

    async fn target_config(&self, to: &Place) -> Result<VmConfig, Failure> {
        let config = self.target.client.vm_config(&to.node, to.vmid, true).await;
        config.map_err(|error| self.at(to, "its configuration can't be read", error))
    }

    /// A restore takes in volumes of its VMID that are somebody else's: that is no machine to spend hours on.
    fn took_nothing_in(&self, to: &Place, config: &VmConfig) -> Result<(), Failure> {
        let unused = config.unused();
        match unused.values().find(|disk| !self.journal.volumes.iter().any(|ours| ours == disk.volume())) {
            None => Ok(()),
            Some(foreign) => Err(Failure::new(&self.what)
                .at(format!("{to}: it took in {}, which our restore did not make", foreign.volume()))
                .next("see whose that volume is, and apply again")),
        }
    }

    /// Finds out what came of the move that the journal names, and notes which volumes are ours now. One whose task still runs
    /// stays in the journal.
    pub(super) async fn settle_moving(&mut self, to: &Place) -> Result<(), Failure> {
        let Some(moving) = self.journal.moving.clone() else { return Ok(()) };
        let tasks = self.tasks_of_move(to, &moving).await?;
        if tasks.iter().any(|(task, _)| task.is_running()) {
            return Ok(());
        }
        let config = match self.target.config(to).await {
            Ok(config) => Some(config),
            Err(error) if error.is_not_found() || error.is_permission_denied() => None,
            Err(error) => return Err(self.at(to, "its configuration can't be read", error)),
        };
        let now = config.as_ref().and_then(|config| drive(config, &moving.slot));
        let now = now.filter(|disk| disk.storage() == Some(&moving.storage)).map(|disk| disk.volume().to_owned());
        let ours = after(&moving, now.as_deref(), &tasks);
        let known = std::mem::take(&mut self.journal.volumes);
        self.journal.volumes = known.into_iter().filter(|volume| !ours.freed || *volume != moving.volume).collect();
        for volume in ours.made {
            if !self.journal.volumes.contains(&volume) {
                self.journal.volumes.push(volume);
            }
        }
        self.journal.moving = None;
        Ok(())
    }

    /// The tasks that moved this volume, with their logs.
    async fn tasks_of_move(&self, to: &Place, moving: &Moving) -> Result<Vec<(TaskInfo, Vec<String>)>, Failure> {
        let filter = TaskFilter {
            vmid: Some(to.vmid),
            kind: Some("qmmove".into()),
            since: Some(moving.since.saturating_sub(CLOCKS)),
            ..TaskFilter::default()
        };
        let unread = |error| self.at(to, "the tasks that move its volumes can't be read", error);
        let mut found = Vec::new();
        for task in self.target.client.find_tasks(&to.node, &filter).await.map_err(unread)? {
            let log = self.target.client.task_log_all(&task.upid).await.map_err(unread)?;
            if archive::copies(&log, &moving.slot, &moving.volume) {
                found.push((task, log));
            }
        }
        Ok(found)
    }

    /// Frees what is ours and in no slot any more, and names what else of the VMID lies on these storages. Neither keeps the
    /// machine from going on: every byte of it is where it belongs.
    async fn tidy(&mut self, to: &Place, config: &VmConfig) -> Result<(), Failure> {
        // Taking a slot out of the unused ones frees its volume: none but ours.
        self.took_nothing_in(to, config)?;
        let unused = config.unused();
        let left: Vec<&str> = unused.keys().map(String::as_str).collect();
        if !left.is_empty() {
            let params = Params::new().set("delete", left.join(","));
            let set = self.target.client.set_config(&to.node, to.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(to, "what a move left behind can't be removed", error))?;
        }
        self.name_unexplained(to, config).await;
        let used = in_use(config);
        let (kept, left) = std::mem::take(&mut self.journal.volumes).into_iter().partition(|one| used.contains(one));
        self.journal.volumes = left;
        let removed = self.remove_volumes(to).await;
        self.journal.volumes = kept;
        removed
    }

    /// Names volumes of the VMID, on storages that we wrote to, which are in no configuration and which no task of ours says it
    /// made: a task that was killed may have left them, and so may somebody else.
    pub(super) async fn name_unexplained(&mut self, to: &Place, config: &VmConfig) {
        let mut known = in_use(config);
        known.extend(config.unused().values().map(|disk| disk.volume().to_owned()));
        known.extend(self.journal.volumes.iter().cloned());
        let storages: BTreeSet<String> =
            known.iter().filter_map(|volume| Some(volume.split_once(':')?.0.to_owned())).collect();
        for storage in storages.iter().chain(self.resolved.storages.values().filter(|one| !storages.contains(*one))) {
            let listed = self.target.client.storage_content(&to.node, storage, Some("images"), Some(to.vmid)).await;
            for volume in listed.unwrap_or_default() {
                if !known.insert(volume.volid.clone()) {
                    continue;
                }
                let volid = volume.volid;
                self.warnings.push(
                    Failure::new(format!("A volume of VMID {} is in no configuration: {volid}", to.vmid))
                        .at(to.to_string())
                        .state("a move between storages that was killed may have left it; no log of ours names it, so it stays")
                        .next(format!("see whose it is; on {}: pvesm free {volid}", to.node)),
                );
            }
        }
    }
}

/// A drive of a configuration.
fn drive(config: &VmConfig, slot: &str) -> Option<DiskSpec> {
    config.get(slot)?.parse().ok()
}

/// Volumes that a configuration uses: not those it merely lists as unused.
fn in_use(config: &VmConfig) -> BTreeSet<String> {
    let mut all = config.disks();
    all.extend(config.state_disks());
    all.into_values().map(|disk| disk.volume().to_owned()).collect()
}

/// The format of a volume: what is no file is raw.
pub(super) fn format_of(disk: &DiskSpec) -> &str {
    disk.format().unwrap_or("raw")
}

/// What a move came to.
#[derive(Debug, PartialEq, Eq)]
struct Ours {
    /// Volumes that our tasks made, and that are there.
    made: Vec<String>,
    /// The old volume is gone: Proxmox VE removed it, so that its name may be somebody else's from now on.
    freed: bool,
}

/// What became of a move. `now`: the volume that the slot has, where it is on the storage it was to go to. `tasks`: those that
/// copied the old volume, with their logs.
fn after(moving: &Moving, now: Option<&str>, tasks: &[(TaskInfo, Vec<String>)]) -> Ours {
    let ended = |task: &TaskInfo, how: &str| task.status.as_deref() == Some(how);
    // A task that fails frees its copy; the one that was killed may have left it.
    let killed = tasks.iter().filter(|(task, _)| ended(task, KILLED));
    let mut made: Vec<String> = killed.flat_map(|(_, log)| archive::new_copies(log, &moving.storage)).collect();
    let wrote = |task: &TaskInfo| task.is_success() || ended(task, KILLED);
    if let Some(now) = now.filter(|_| tasks.iter().any(|(task, _)| wrote(task)))
        && !made.iter().any(|volume| volume == now)
    {
        made.push(now.to_owned());
    }
    // With a warning it may not have been removed.
    Ours { made, freed: now.is_some() && tasks.iter().any(|(task, _)| ended(task, "OK")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPIES: &str = "create full clone of drive scsi1 (zfs:vm-100-disk-1)";
    const NAMED: &str = "  Logical volume \"vm-100-disk-0\" created.";

    fn moving() -> Moving {
        Moving { slot: "scsi1".into(), volume: "zfs:vm-100-disk-1".into(), storage: "lvm".into(), since: 0 }
    }

    fn task(status: &str, log: &[&str]) -> (TaskInfo, Vec<String>) {
        let upid = "UPID:n1:00001000:00000001:6500AAAA:qmmove:100:app@pve!app:";
        let task = serde_json::json!({"upid": upid, "endtime": 1_694_542_000, "status": status});
        let task: TaskInfo = serde_json::from_value(task).expect("a task");
        (task, log.iter().map(|line| (*line).to_owned()).collect())
    }

    fn of(now: Option<&str>, tasks: &[(TaskInfo, Vec<String>)]) -> (Vec<String>, bool) {
        let ours = after(&moving(), now, tasks);
        (ours.made, ours.freed)
    }

    #[test]
    fn what_a_move_made_is_ours_by_configuration_and_task_and_the_old_volume_is_not_any_more() {
        let new = "lvm:vm-100-disk-0";
        let ours = vec![new.to_owned()];
        assert_eq!(of(Some(new), &[task("OK", &[COPIES])]), (ours.clone(), true));
        // With a warning, or killed after the configuration was written, the old one may be there.
        assert_eq!(of(Some(new), &[task("WARNINGS: 1", &[COPIES, NAMED])]), (ours.clone(), false));
        assert_eq!(of(Some(new), &[task(KILLED, &[COPIES, NAMED])]), (ours.clone(), false));
        // Somebody put it there: no task of ours.
        assert_eq!(of(Some(new), &[]), (vec![], false));
        assert_eq!(of(Some(new), &[task("storage migration failed: x", &[COPIES, NAMED])]), (vec![], false));
    }

    #[test]
    fn a_copy_that_was_not_finished_is_ours_only_where_a_killed_task_names_it() {
        assert_eq!(of(None, &[task(KILLED, &[COPIES, NAMED])]), (vec!["lvm:vm-100-disk-0".to_owned()], false));
        assert_eq!(of(None, &[task(KILLED, &[COPIES])]), (vec![], false));
        // A failure frees its copy, whose name may be another's since.
        assert_eq!(of(None, &[task("storage migration failed: no space", &[COPIES, NAMED])]), (vec![], false));
    }

    #[test]
    fn a_second_attempt_does_not_forget_what_the_killed_first_one_left() {
        let tasks =
            [task("OK", &[COPIES, "  Logical volume \"vm-100-disk-2\" created."]), task(KILLED, &[COPIES, NAMED])];
        let made = vec!["lvm:vm-100-disk-0".to_owned(), "lvm:vm-100-disk-2".to_owned()];
        assert_eq!(of(Some("lvm:vm-100-disk-2"), &tasks), (made, true));
    }
}

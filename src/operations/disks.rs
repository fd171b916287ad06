//! Owns what happens to a machine's volumes where it is: they grow, and they move to another storage of the cluster.
use std::time::Instant;

use federation::{Bytes, Slot};
use proxmox::{DiskSpec, Error, TaskFilter};

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::journal::Place;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// The disks that the user wants larger than they were.
pub(crate) fn to_grow(old: &VmSpec, new: &VmSpec) -> Vec<(Slot, Bytes)> {
    let grown = |slot: &Slot, size: Bytes| old.disks.get(slot).is_some_and(|had| had.size < size);
    new.disks.iter().filter(|(slot, wish)| grown(slot, wish.size)).map(|(slot, wish)| (*slot, wish.size)).collect()
}

/// The disks that the user wants on another storage than they were.
pub(crate) fn to_move(old: &VmSpec, new: &VmSpec, on: &Resolved) -> Vec<(Slot, String)> {
    let elsewhere = |slot: &Slot, storage: &Option<String>| {
        old.disks.get(slot).is_some_and(|had| had.storage != *storage && storage.is_some())
    };
    let moved = new.disks.iter().filter(|(slot, wish)| elsewhere(slot, &wish.storage));
    moved.filter_map(|(slot, _)| Some((*slot, on.storages.get(slot)?.clone()))).collect()
}

impl Fleet {
    /// Grows disks to the wished sizes. The call is absolute, so that making it twice is making it once.
    pub(crate) async fn grow(
        &self,
        site: &Site,
        at: &Place,
        sizes: &[(Slot, Bytes)],
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if sizes.is_empty() {
            return Ok(());
        }
        let fail = |error: Error| Failure::new(what).at(at.to_string()).said(error).next("mend that, and apply again");
        let config = site.client.vm_config(&at.node, at.vmid, false).await.map_err(fail)?;
        let disks = config.disks().unwrap_or_default();
        for (slot, size) in sizes {
            let is = disks.get(&slot.to_string()).and_then(DiskSpec::size_bytes).unwrap_or_default();
            if is >= size.0 {
                continue;
            }
            let size = proxmox::format_size(size.0);
            let resized = site.client.resize_disk(&at.node, at.vmid, &slot.to_string(), &size, None).await;
            let resized = resized.map_err(|error| {
                fail(error).state(format!("disk {slot} has its former size; what came before it was changed"))
            })?;
            if let Some(upid) = resized {
                self.wait(site, &upid, deadline, what).await?;
            }
        }
        site.changed().await;
        Ok(())
    }

    /// Moves volumes to another storage of the cluster, running or not. Proxmox VE copies, switches over and then removes the
    /// old volume itself: until the switch the configuration names the old one, from there the new one, so that a run that was
    /// killed in between looks at the configuration and goes on. A move that another run began is waited for.
    pub(crate) async fn move_disks(
        &self,
        site: &Site,
        at: &Place,
        moves: &[(Slot, String)],
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if moves.is_empty() {
            return Ok(());
        }
        self.end_of_tasks(site, at, "qmmove", what, deadline).await?;
        for (slot, storage) in moves {
            let fail = |failure: Failure| {
                failure
                    .at(format!("{at}: disk {slot} is not on storage {storage}"))
                    .state("the disk is where it was; what came before it was changed")
                    .next("mend that, and apply again")
            };
            if self.is_on(site, at, slot, storage, what).await? {
                continue;
            }
            let begun = site.client.move_disk(&at.node, at.vmid, &slot.to_string(), storage, true, None).await;
            match begun {
                Ok(upid) => self.wait(site, &upid, deadline, what).await.map_err(fail)?,
                Err(error) if error.is_ambiguous() => {
                    // Perhaps it was begun: its end tells.
                    self.end_of_tasks(site, at, "qmmove", what, deadline).await?;
                    if !self.is_on(site, at, slot, storage, what).await? {
                        return Err(fail(Failure::new(what).said(error)));
                    }
                }
                Err(error) => return Err(fail(Failure::new(what).said(error))),
            }
            site.changed().await;
        }
        Ok(())
    }

    async fn is_on(&self, site: &Site, at: &Place, slot: &Slot, storage: &str, what: &str) -> Result<bool, Failure> {
        let config = site.client.vm_config(&at.node, at.vmid, false).await;
        let config = config.map_err(|error| Failure::new(what).at(at.to_string()).said(error).next("apply again"))?;
        let disks = config.disks().unwrap_or_default();
        // A slot that is not there has nothing to move.
        Ok(disks.get(&slot.to_string()).is_none_or(|disk| disk.storage() == Some(storage)))
    }

    /// Waits for the machine's tasks of this kind that are under way, whoever began them; whether there was one. How it ended is
    /// seen from the machine.
    pub(crate) async fn end_of_tasks(
        &self,
        site: &Site,
        at: &Place,
        kind: &str,
        what: &str,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        let filter = TaskFilter { vmid: Some(at.vmid), kind: Some(kind.into()), ..TaskFilter::default() };
        let tasks = site.client.find_tasks(&at.node, &filter).await;
        let tasks = tasks.map_err(|error| Failure::new(what).at(at.to_string()).said(error).next("apply again"))?;
        let mut any = false;
        for task in tasks.iter().filter(|task| task.is_running()) {
            any = true;
            let _ = self.wait(site, &task.upid, deadline, what).await;
        }
        Ok(any)
    }
}

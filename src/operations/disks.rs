//! Owns what happens to a machine's volumes where it is: they grow, and they move to another storage of the cluster or
//! into another format.
use std::time::Instant;

use federation::{Bytes, Slot};
use proxmox::{DiskSpec, Error, PendingValue, TaskFilter, VmConfig, VolumeMove};

use crate::failure::{Failure, FailureKind};
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::journal::Place;
use crate::site::Site;
use crate::spec::{DiskWish, Resolved, VmSpec};

/// The disks that the user wants larger than they were.
pub(crate) fn to_grow(old: &VmSpec, new: &VmSpec) -> Vec<(Slot, Bytes)> {
    let grown = |slot: &Slot, size: Bytes| old.disks.get(slot).is_some_and(|had| had.size < size);
    new.disks.iter().filter(|(slot, wish)| grown(slot, wish.size)).map(|(slot, wish)| (*slot, wish.size)).collect()
}

/// What became of a volume that a machine had in a slot, and that is not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// It is attached nowhere, or leaves its slot at the next restart: it can be attached again.
    Unused,
    /// It is in this slot.
    On(String),
    /// It is nowhere, and one of these, which are attached nowhere, may be it under another name: each with its volume.
    Perhaps(String),
    /// It is nowhere.
    Gone,
}

/// Looks for a volume in a machine's configuration and among what waits there. `known`: volumes of its other disks.
pub fn whereabouts(guest: &Guest, volume: &str, known: &[&str]) -> Whereabouts {
    let is_it = |line: &str| line.parse::<DiskSpec>().is_ok_and(|drive| drive.volume() == volume);
    let unused = guest.config.unused();
    let mut drives = guest.config.raw().iter().filter(|(slot, _)| is_drive(slot));
    if let Some((slot, _)) = drives.find(|(_, line)| is_it(line)) {
        return Whereabouts::On(slot.clone());
    }
    let leaves = |change: &PendingValue| change.delete && change.value.as_deref().is_some_and(is_it);
    if unused.values().any(|one| one.volume() == volume) || guest.waiting.iter().any(leaves) {
        return Whereabouts::Unused;
    }
    let others = unused.iter().filter(|(_, one)| !known.contains(&one.volume()));
    let others: Vec<String> = others.map(|(slot, one)| format!("{slot} ({})", one.volume())).collect();
    if others.is_empty() { Whereabouts::Gone } else { Whereabouts::Perhaps(others.join(" or ")) }
}

fn is_drive(slot: &str) -> bool {
    ["scsi", "virtio", "sata", "ide", "efidisk", "tpmstate"].iter().any(|bus| {
        slot.strip_prefix(bus).is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Where a disk shall be, and as what.
pub(crate) struct DiskMove {
    pub(crate) slot: Slot,
    /// `None`: where it is.
    pub(crate) storage: Option<String>,
    /// `None`: the format it has, or the storage's own.
    pub(crate) format: Option<String>,
}

impl DiskMove {
    /// Where it shall be, `is` being where it is.
    fn storage<'a>(&'a self, is: &'a DiskSpec) -> &'a str {
        self.storage.as_deref().or(is.storage()).unwrap_or_default()
    }

    /// Whether it is there already. Where images are no files they have no format, which is as good as any.
    fn is_done(&self, is: &DiskSpec) -> bool {
        let same_format = self.format.as_deref().zip(is.format()).is_none_or(|(wanted, is)| wanted == is);
        Some(self.storage(is)) == is.storage() && same_format
    }

    /// What is missing still once it is moved: the storage has no such format.
    fn remark(&self, is: &DiskSpec) -> Option<String> {
        let wanted = self.format.as_deref().filter(|format| *format != "raw")?;
        is.format()
            .is_none()
            .then(|| format!("disk {} is raw: {} keeps no {wanted} images", self.slot, self.storage(is)))
    }
}

/// The disks that the user wants on another storage than they were, or that `is` has in another format.
pub(crate) fn to_move(old: &VmSpec, new: &VmSpec, on: &Resolved, is: &VmConfig) -> Vec<DiskMove> {
    let disks = is.disks();
    let moved = |(slot, wish): (&Slot, &DiskWish)| {
        let had = old.disks.get(slot)?;
        let elsewhere = had.storage != wish.storage && wish.storage.is_some();
        let storage = on.storages.get(slot).filter(|_| elsewhere).cloned();
        let format = disks.get(&slot.to_string()).and_then(DiskSpec::format);
        let format = wish.format.clone().filter(|wish| elsewhere || format.is_some_and(|format| format != wish));
        (storage.is_some() || format.is_some()).then_some(DiskMove { slot: *slot, storage, format })
    };
    new.disks.iter().filter_map(moved).collect()
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
        let disks = config.disks();
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

    /// Moves volumes to another storage of the cluster, or into another format, running or not; says which format could not be
    /// had. Proxmox VE copies, switches over and then removes the old volume itself: until the switch the configuration names
    /// the old one, from there the new one, so that a run that was killed in between looks at the configuration and goes on. A
    /// move that another run began is waited for.
    pub(crate) async fn move_disks(
        &self,
        site: &Site,
        at: &Place,
        moves: &[DiskMove],
        what: &str,
        deadline: Instant,
    ) -> Result<Vec<Failure>, Failure> {
        let mut remarks = Vec::new();
        if moves.is_empty() {
            return Ok(remarks);
        }
        self.end_of_tasks(site, at, "qmmove", what, deadline).await?;
        for wanted in moves {
            // A slot that is not there has nothing to move.
            let Some(mut is) = self.disk(site, at, &wanted.slot.to_string(), what).await? else { continue };
            if !wanted.is_done(&is) {
                self.move_disk(site, at, wanted, &is, what, deadline).await?;
                site.changed().await;
                is = self.disk(site, at, &wanted.slot.to_string(), what).await?.unwrap_or(is);
            }
            if let Some(remark) = wanted.remark(&is) {
                let what = "A disk has another format than configured";
                remarks
                    .push(Failure::new(what).at(format!("{at}: {remark}")).next("take `format` out, or set it to raw"));
            }
        }
        Ok(remarks)
    }

    async fn move_disk(
        &self,
        site: &Site,
        at: &Place,
        wanted: &DiskMove,
        is: &DiskSpec,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let (slot, storage, format) = (wanted.slot.to_string(), wanted.storage(is), wanted.format.as_deref());
        let fail = |failure: Failure| {
            let shape = format.map(|format| format!(" as {format}")).unwrap_or_default();
            failure
                .at(format!("{at}: disk {slot} is not on storage {storage}{shape}"))
                .state(format!("the disk is where it was ({}); what came before it was changed", is.volume()))
                .next("mend that, and apply again")
        };
        let wish = VolumeMove { slot: &slot, storage, format, digest: None };
        self.move_volume(site, at, wish, |now| wanted.is_done(now), what, deadline).await.map_err(fail)
    }

    /// Moves one volume. `is_done`: whether it is where and what it shall be, which tells what came of a call whose answer was
    /// lost; a slot that is not there has nothing to move.
    pub(crate) async fn move_volume(
        &self,
        site: &Site,
        at: &Place,
        wish: VolumeMove<'_>,
        is_done: impl Fn(&DiskSpec) -> bool,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        match site.client.move_disk(&at.node, at.vmid, wish).await {
            Ok(upid) => self.wait(site, &upid, deadline, what).await,
            Err(error) if error.is_ambiguous() => {
                // Perhaps it was begun: its end tells.
                self.end_of_tasks(site, at, "qmmove", what, deadline).await?;
                let now = self.disk(site, at, wish.slot, what).await?;
                if now.as_ref().is_none_or(is_done) { Ok(()) } else { Err(Failure::new(what).said(error)) }
            }
            Err(error) => Err(Failure::new(what).said(error)),
        }
    }

    /// A disk as it is now.
    async fn disk(&self, site: &Site, at: &Place, slot: &str, what: &str) -> Result<Option<DiskSpec>, Failure> {
        let config = site.client.vm_config(&at.node, at.vmid, false).await;
        let config = config.map_err(|error| Failure::new(what).at(at.to_string()).said(error).next("apply again"))?;
        Ok(config.get(slot).and_then(|line| line.parse().ok()))
    }

    /// Waits for the machine's tasks of this kind that are under way, whoever began them; whether there was one. How it ended is
    /// seen from the machine.
    ///
    /// # Errors
    /// The user's wish to stop, or the end of the time, while one goes on; or that they can't be listed.
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
            if let Err(failure) = self.wait(site, &task.upid, deadline, what).await
                && (failure.kind == FailureKind::Interrupted || Instant::now() >= deadline)
            {
                return Err(failure);
            }
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_looked_for_before_it_is_called_gone() {
        let guest = |lines: &[(&str, &str)]| {
            let place = Place { cluster: "a".parse().expect("a name"), node: "n1".into(), vmid: 100 };
            Guest::archived(place, VmConfig::from_pairs(lines.iter().copied()))
        };
        let volume = "lvm:vm-100-disk-1";
        let first = ("scsi0", "lvm:vm-100-disk-0,size=8G");
        let is = |lines: &[(&str, &str)]| whereabouts(&guest(lines), volume, &["lvm:vm-100-disk-0", volume]);
        assert_eq!(is(&[first, ("unused3", volume)]), Whereabouts::Unused);
        assert_eq!(is(&[first, ("virtio1", "file=lvm:vm-100-disk-1,size=4G")]), Whereabouts::On("virtio1".into()));
        assert_eq!(is(&[first, ("scsihw", volume)]), Whereabouts::Gone);
        assert_eq!(is(&[("unused0", "lvm:vm-100-disk-0")]), Whereabouts::Gone, "that is another disk's");
        let perhaps = Whereabouts::Perhaps("unused0 (nfs:100/vm-100-disk-7.raw)".into());
        assert_eq!(
            is(&[first, ("unused0", "nfs:100/vm-100-disk-7.raw")]),
            perhaps,
            "moved to another storage, it has another name"
        );
        let leaves = PendingValue {
            key: "sata1".into(),
            value: Some("lvm:vm-100-disk-1,size=4G".into()),
            delete: true,
            ..PendingValue::default()
        };
        let waiting = Guest { waiting: vec![leaves], ..guest(&[first]) };
        assert_eq!(whereabouts(&waiting, volume, &[]), Whereabouts::Unused);
    }
}

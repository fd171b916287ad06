//! Owns what is asked of the storages for disk images: whether the target's are there and have the room, whose volumes they hold,
//! and whether the clusters' are apart.
use std::collections::BTreeMap;

use federation::Bytes;
use federation::migration::{NoRoom, Spread, Volume, belongs, spread};
use proxmox::{DiskSpec, StorageDefinition, VmConfig};

use super::{Finding, Findings, Preflight, finding};
use crate::inventory::backing;
use crate::spec::Resolved;

/// Size of a cloud-init drive, where the configuration doesn't say (`pve-behaviour.md` §7: a new empty one is made).
const CLOUD_INIT: u64 = 4 << 20;

/// The volumes that a backup carries or a restore makes: disks, EFI variables, TPM state, the cloud-init drive.
pub(in crate::relocate) fn carried(config: &VmConfig) -> BTreeMap<String, DiskSpec> {
    let mut all = config.disks().unwrap_or_default();
    all.retain(|_, disk| disk.is_cloudinit() || (!disk.is_cdrom() && disk.backup()));
    all.extend(config.state_disks().unwrap_or_default());
    all
}

/// The same, as the rules of a move have them.
pub(in crate::relocate) fn volumes(config: &VmConfig) -> Vec<Volume> {
    let volume = |(slot, disk): (String, DiskSpec)| {
        let without = if disk.is_cloudinit() { CLOUD_INIT } else { 0 };
        let from = disk.storage()?.to_owned();
        Some(Volume { slot, from, bytes: disk.size_bytes().unwrap_or(without) })
    };
    carried(config).into_iter().filter_map(volume).collect()
}

/// Size of all disks that a backup reads, in bytes.
pub(in crate::relocate) fn disk_bytes(config: &VmConfig) -> u64 {
    let disks = config.disks().unwrap_or_default();
    disks.values().filter(|disk| disk.backup()).filter_map(DiskSpec::size_bytes).sum()
}

/// The storage of the target that each of them belongs on.
pub(in crate::relocate) fn homes(volumes: &[Volume], resolved: &Resolved) -> BTreeMap<String, String> {
    let mapped = resolved.storages.iter().map(|(slot, storage)| (slot.to_string(), storage.clone())).collect();
    belongs(volumes, &mapped)
}

impl Preflight<'_> {
    /// Where all is restored to and what moves on from there, by the room that there is now.
    ///
    /// # Errors
    /// Storages without the room. Where the storages can't be read, there is no saying.
    pub(in crate::relocate) async fn spread(&self, config: &VmConfig) -> Result<Option<Spread>, Vec<NoRoom>> {
        let storages = self.target.client.storages(&self.to.node).await.unwrap_or_default();
        let free = storages.into_iter().filter_map(|one| Some((one.storage, one.avail?))).collect();
        let volumes = volumes(config);
        spread(&volumes, &homes(&volumes, self.resolved), &free)
    }

    /// One restore puts everything on one storage, which no image storage of the source may be (operations-review 2, 13); what
    /// belongs on others moves on from there.
    pub(super) async fn target_storage(&self, config: &VmConfig, findings: &mut Findings) -> Option<Spread> {
        let id = "storage_map";
        let managed = self.resolved.storages.len();
        let data =
            config.disks().unwrap_or_default().values().filter(|disk| !disk.is_cdrom() && !disk.is_cloudinit()).count();
        if managed == 0 && data > 0 {
            let text = format!("none of the {data} disks is in the configuration, so the target storage is not known");
            findings.push(finding(id, text, "name the disks in `disks`"));
        }
        let chosen = self.spread(config).await.unwrap_or_else(|short| {
            findings.extend(short.iter().map(|one| self.no_room(one)));
            None
        });
        let (ours, theirs) = tokio::join!(self.source.client.storage_index(), self.target.client.storage_index());
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
            let text = "the storages can't be listed on both clusters";
            findings.push(finding(id, text, "let the tokens see them (Datastore.Audit)"));
            return chosen;
        };
        let images = |all: &[StorageDefinition]| -> Vec<String> {
            all.iter().filter(|one| one.content().contains(&"images")).filter_map(backing).collect()
        };
        if let Some(shared) = images(&ours).into_iter().find(|backing| images(&theirs).contains(backing)) {
            let text = format!(
                "clusters {} and {} share a storage with disk images ({shared}): a restore there takes in, and a removal frees, \
                 the other cluster's disks of the same VMID",
                self.source.name, self.target.name
            );
            findings.push(finding("backing_apart", text, "take `images` off it, or give each cluster its own"));
        }
        let mut images: Vec<String> = self.resolved.storages.values().cloned().collect();
        // A restore takes volumes in from every image storage of its node, not from the one it writes to alone.
        if let Ok(there) = self.target.client.storages(&self.to.node).await {
            for one in there.iter().filter(|one| images.contains(&one.storage) && !(one.active && one.holds("images")))
            {
                let text =
                    format!("{}: storage {} takes no disk images on {}", self.target.name, one.storage, self.to.node);
                findings.push(finding(id, text, "bring it back, give it content `images`, or map the disk elsewhere"));
            }
            images.extend(there.into_iter().filter(|one| one.holds("images") && one.active).map(|one| one.storage));
        }
        images.sort();
        images.dedup();
        for storage in &images {
            self.no_foreign_volume(storage, findings).await;
        }
        chosen
    }

    /// The disks may become as large as they are said to be: a thin pool that is full by then stops every machine on it
    /// (`pve-behaviour.md` §7, operations-review 35). What is free is what is really free, whatever was given out.
    fn no_room(&self, short: &NoRoom) -> Finding {
        let at = format!("{}, node {}", self.target.name, self.to.node);
        let storage = &short.storage;
        let (free, needed) = (Bytes(short.free).human(), Bytes(short.needed).human());
        let (text, next) = if short.whole {
            let text = format!(
                "{at}: storage {storage} really has {free} free, and a restore puts all volumes on one, which may grow to {needed}"
            );
            (text, "free some space on one of the storages that the disks are mapped to, or map them to another")
        } else {
            let text = format!("{at}: storage {storage} really has {free} free, the disks may grow to {needed}");
            (text, "free some space on it, or map the disks to another storage")
        };
        finding("storage_space", text, next)
    }

    /// A restore takes in any volume of its VMID on any image storage (`pve-behaviour.md` §16).
    async fn no_foreign_volume(&self, storage: &str, findings: &mut Findings) {
        let volumes =
            self.target.client.storage_content(&self.to.node, storage, Some("images"), Some(self.to.vmid)).await;
        match volumes {
            Ok(volumes) if volumes.is_empty() => {}
            Ok(volumes) => {
                let names: Vec<String> = volumes.into_iter().map(|volume| volume.volid).collect();
                let text = format!(
                    "{} holds volumes of VMID {} already: {}",
                    self.target.name,
                    self.to.vmid,
                    names.join(", ")
                );
                findings.push(finding("foreign_volumes", text, "see whose they are; or set another `vmid`"));
            }
            Err(error) => findings.push(finding("foreign_volumes", error.to_string(), "let the token list it")),
        }
    }
}

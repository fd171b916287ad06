//! Owns which volumes move and where they belong, and whether the clusters' storages for disk images are apart.
use std::collections::BTreeMap;

use federation::migration::{NoRoom, Spread, Volume, belongs};
use proxmox::{DiskSpec, StorageDefinition, VmConfig};

use super::{Findings, Preflight, finding};
use crate::inventory::backing;
use crate::spec::Resolved;

/// Size of a cloud-init drive, where the configuration doesn't say (`proxmox-ve.md` §7: a new empty one is made).
const CLOUD_INIT: u64 = 4 << 20;

/// The volumes that a backup carries or a restore makes: disks, EFI variables, TPM state, the cloud-init drive.
pub(in crate::relocate) fn carried(config: &VmConfig) -> BTreeMap<String, DiskSpec> {
    let mut all = config.disks();
    all.retain(|_, disk| disk.is_cloudinit() || (!disk.is_cdrom() && disk.backup()));
    all.extend(config.state_disks());
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
pub(crate) fn disk_bytes(config: &VmConfig) -> u64 {
    let disks = config.disks();
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
        self.arrival().spread(config).await
    }

    /// One restore puts everything on one storage, which no image storage of the source may be (hazards.md OR 2, 13); what
    /// belongs on others moves on from there.
    pub(super) async fn target_storage(&self, config: &VmConfig, findings: &mut Findings) -> Option<Spread> {
        let (ours, theirs) = tokio::join!(self.source.client.storage_index(), self.target.client.storage_index());
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
            let text = "the storages can't be listed on both clusters";
            findings.push(finding("storage_map", text, "let the tokens see them (Datastore.Audit)"));
            return self.arrival().storages(config, findings).await;
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
        self.arrival().storages(config, findings).await
    }
}

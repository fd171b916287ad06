//! Owns what is asked of storages: the transfer storage, the target's, and whether the clusters' images are apart.
use std::collections::BTreeMap;

use federation::model::MigrationPath;
use proxmox::{Storage, StorageDefinition, VmConfig};

use super::{Finding, Findings, Preflight, finding, refusal};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::inventory::backing;
use crate::site::Site;

impl Preflight<'_> {
    pub(super) async fn transfer(&self, path: &MigrationPath, findings: &mut Findings) -> Option<(String, String)> {
        let named = path.transport.as_ref().and_then(|transport| transport.storage.clone());
        match shared_transfer(self.source, self.target, named.as_deref()).await {
            Ok(transfer) => {
                self.room_for_archive(&transfer.0, findings).await;
                Some(transfer)
            }
            Err(found) => {
                findings.push(found);
                None
            }
        }
    }

    /// The archive is at most as large as all disks: zeros and compression only make it smaller.
    async fn room_for_archive(&self, storage: &str, findings: &mut Findings) {
        let place = &self.guest.place;
        let Ok(storages) = self.source.client.storages(&place.node).await else { return };
        let Some(found) = storages.iter().find(|found| found.storage == storage) else { return };
        if !found.active {
            let text =
                format!("cluster {}: transfer storage {storage} is not active on {}", self.source.name, place.node);
            findings.push(finding("transport_space", text, "bring it back"));
        }
        let disks = self.guest.config.disks().unwrap_or_default();
        let size: u64 = disks.values().filter_map(proxmox::DiskSpec::size_bytes).sum();
        let avail = found.avail.unwrap_or(u64::MAX);
        if avail < size {
            let human = |bytes: u64| federation::Bytes(bytes).human();
            let text = format!("transfer storage {storage} has {} free, the disks have {}", human(avail), human(size));
            findings.push(finding("transport_space", text, "free some space on it"));
        }
    }

    /// One restore puts all disks on one storage, which no image storage of the source may be (operations-review 2, 13).
    pub(super) async fn target_storage(&self, config: &VmConfig, findings: &mut Findings) {
        let id = "storage_map";
        let mut storages: Vec<&String> = self.resolved.storages.values().collect();
        storages.sort();
        storages.dedup();
        if storages.len() > 1 {
            let names: Vec<&str> = storages.iter().map(|name| name.as_str()).collect();
            let text = format!("the disks become several storages on {}: {}", self.target.name, names.join(", "));
            findings.push(finding(id, text, "a move puts all disks on one storage for now: name one"));
        }
        let managed = self.resolved.storages.len();
        let data =
            config.disks().unwrap_or_default().values().filter(|disk| !disk.is_cdrom() && !disk.is_cloudinit()).count();
        if managed == 0 && data > 0 {
            let text = format!("none of the {data} disks is in the configuration, so the target storage is not known");
            findings.push(finding(id, text, "name the disks in `disks`"));
        }
        let (ours, theirs) = tokio::join!(self.source.client.storage_index(), self.target.client.storage_index());
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
            let text = "the storages can't be listed on both clusters";
            findings.push(finding(id, text, "let the tokens see them (Datastore.Audit)"));
            return;
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
        let mut images: Vec<String> = storages.into_iter().cloned().collect();
        // A restore takes volumes in from every image storage of its node, not from the one it writes to alone.
        if let Ok(there) = self.target.client.storages(&self.to.node).await {
            self.room_for_disks(config, &there, findings);
            images.extend(there.into_iter().filter(|one| one.holds("images") && one.active).map(|one| one.storage));
        }
        images.sort();
        images.dedup();
        for storage in &images {
            self.no_foreign_volume(storage, findings).await;
        }
    }

    /// The disks may become as large as they are said to be: a thin pool that is full by then stops every machine on it
    /// (`pve-behaviour.md` §7, operations-review 35). What is free is what is really free, whatever was given out.
    fn room_for_disks(&self, config: &VmConfig, there: &[Storage], findings: &mut Findings) {
        let mut needed: BTreeMap<&str, u64> = BTreeMap::new();
        let first = self.resolved.storages.values().next();
        for (slot, disk) in config.disks().unwrap_or_default() {
            let size = disk.size_bytes().filter(|_| disk.backup() && !disk.is_cdrom()).unwrap_or_default();
            let mapped = slot.parse().ok().and_then(|slot| self.resolved.storages.get(&slot));
            if let Some(storage) = mapped.or(first) {
                *needed.entry(storage).or_default() += size;
            }
        }
        for (name, size) in needed {
            let Some(avail) = there.iter().find(|storage| storage.storage == name).and_then(|found| found.avail) else {
                continue;
            };
            if avail < size {
                let human = |bytes: u64| federation::Bytes(bytes).human();
                let text = format!(
                    "{}, node {}: storage {name} really has {} free, the disks may grow to {}",
                    self.target.name,
                    self.to.node,
                    human(avail),
                    human(size)
                );
                findings.push(finding(
                    "storage_space",
                    text,
                    "free some space on it, or map the disks to another storage",
                ));
            }
        }
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

/// The transfer storage of an open move.
pub(in crate::relocate) async fn transfer_of(
    fleet: &Fleet,
    source: &Site,
    target: &Site,
    what: &str,
) -> Result<(String, String), Failure> {
    let path = fleet.path(&source.name, &target.name);
    let named = path.transport.as_ref().and_then(|transport| transport.storage.clone());
    shared_transfer(source, target, named.as_deref()).await.map_err(|found| refusal(what, &[found]))
}

/// The storage, by its names on both clusters, that both mount from the same place and that holds backups alone
/// (operations-review 16): the named one, or the only one there is.
async fn shared_transfer(source: &Site, target: &Site, named: Option<&str>) -> Result<(String, String), Finding> {
    let id = "transport_same";
    let next = "set `transport = { storage = … }` of the path to a storage of content `backup` that both mount";
    let (ours, theirs) = tokio::try_join!(source.client.storage_index(), target.client.storage_index())
        .map_err(|error| finding(id, error.to_string(), "let the tokens list storages"))?;
    let dedicated = |all: Vec<StorageDefinition>| -> Vec<StorageDefinition> {
        all.into_iter().filter(|one| one.content() == ["backup"] && backing(one).is_some()).collect()
    };
    let (ours, theirs) = (dedicated(ours), dedicated(theirs));
    let mut pairs = Vec::new();
    for here in ours.iter().filter(|one| named.is_none_or(|name| one.storage == name)) {
        for there in theirs.iter().filter(|there| backing(there) == backing(here)) {
            pairs.push((here.storage.clone(), there.storage.clone()));
        }
    }
    let names = format!("{} and {}", source.name, target.name);
    match (pairs.len(), named) {
        (1, _) => Ok(pairs.remove(0)),
        (0, Some(name)) => {
            Err(finding(id, format!("storage {name} of {names} is not one that both mount for backups alone"), next))
        }
        (0, None) => Err(finding(id, format!("{names} have no storage that both mount for backups alone"), next)),
        _ => {
            let all: Vec<String> = pairs.into_iter().map(|(here, _)| here).collect();
            Err(finding(id, format!("{names} have several transfer storages: {}", all.join(", ")), next))
        }
    }
}

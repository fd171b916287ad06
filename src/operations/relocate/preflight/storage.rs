//! Owns what is asked of the storage that archives cross on.
use federation::model::MigrationPath;
use proxmox::StorageDefinition;

use super::{Finding, Findings, Preflight, disk_bytes, finding, refusal};
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
        let size = disk_bytes(&self.guest.config);
        let avail = found.avail.unwrap_or(u64::MAX);
        if avail < size {
            let human = |bytes: u64| federation::Bytes(bytes).human();
            let text = format!("transfer storage {storage} has {} free, the disks have {}", human(avail), human(size));
            findings.push(finding("transport_space", text, "free some space on it"));
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

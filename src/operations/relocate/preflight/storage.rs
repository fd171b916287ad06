//! Owns what is asked of the storage that archives cross on.
use std::collections::BTreeSet;

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
        match shared_transfer(self.source, self.target, named.as_deref(), Proof::Wanted).await {
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
    // What was there when the move began may be pruned by now.
    shared_transfer(source, target, named.as_deref(), Proof::Had).await.map_err(|found| refusal(what, &[found]))
}

/// Whether both sides of a storage that doesn't say what it is made of are to show the same files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Wanted,
    /// They did, when the move began.
    Had,
}

/// The storage, by its names on both clusters, that both mount from the same place and that holds backups alone
/// (hazards.md OR 16): the named one, or the only one there is.
async fn shared_transfer(
    source: &Site,
    target: &Site,
    named: Option<&str>,
    proof: Proof,
) -> Result<(String, String), Finding> {
    let id = "transport_same";
    let next = "set `transport = { storage = … }` of the path to a storage of content `backup` that both mount";
    let (ours, theirs) = tokio::try_join!(source.client.storage_index(), target.client.storage_index())
        .map_err(|error| finding(id, error.to_string(), "let the tokens list storages"))?;
    let dedicated = |all: Vec<StorageDefinition>| -> Vec<StorageDefinition> {
        all.into_iter().filter(|one| one.content() == ["backup"]).collect()
    };
    let (ours, theirs) = (dedicated(ours), dedicated(theirs));
    let mut pairs = Vec::new();
    let mut unproved = None;
    for here in ours.iter().filter(|one| named.is_none_or(|name| one.storage == name)) {
        for there in &theirs {
            let pair = (here.storage.clone(), there.storage.clone());
            if backing(here).is_some() && backing(there) == backing(here) {
                pairs.push(pair);
            } else if is_mount(here) && is_mount(there) && here.storage == there.storage {
                let proved = if proof == Proof::Had { Ok(()) } else { same_files(source, target, &here.storage).await };
                match proved {
                    Ok(()) => pairs.push(pair),
                    Err(found) => unproved = Some(found),
                }
            }
        }
    }
    if pairs.is_empty()
        && let Some(found) = unproved
    {
        return Err(found);
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

/// A directory that is said to be the same on all nodes: somebody mounts it by hand, and nothing says from where.
fn is_mount(definition: &StorageDefinition) -> bool {
    definition.kind == "dir" && definition.get("shared") == Some("1")
}

/// The two-sided proof for such a directory: both clusters see the same backups on it, by name and size, and at least one.
async fn same_files(source: &Site, target: &Site, storage: &str) -> Result<(), Finding> {
    let id = "transport_same";
    let (ours, theirs) = tokio::join!(files(source, storage), files(target, storage));
    let unseen = |site: &Site, why: String| {
        finding(id, format!("what is on storage {storage} of {} can't be seen: {why}", site.name), "bring it back")
    };
    let ours = ours.map_err(|why| unseen(source, why))?;
    let theirs = theirs.map_err(|why| unseen(target, why))?;
    let names = format!("{} and {}", source.name, target.name);
    if ours.is_empty() && theirs.is_empty() {
        return Err(finding(
            id,
            format!(
                "storage {storage} of {names} is a directory that is said to be shared; nothing is on it yet that both could show, so \
                 whether it is the same can't be told"
            ),
            format!("back up any machine to it on {}, small as it may be, and apply again", source.name),
        ));
    }
    let missing = |here: &Files, there: &Files| here.difference(there).next().map(|(file, _)| file.clone());
    let other = missing(&ours, &theirs).map(|file| (file, source, target));
    let Some((file, here, there)) = other.or_else(|| missing(&theirs, &ours).map(|file| (file, target, source))) else {
        return Ok(());
    };
    Err(finding(
        id,
        format!(
            "storage {storage} of {names} is not the same directory: {} shows {file}, and {} doesn't, or with another size",
            here.name, there.name
        ),
        "mount the same place on every node of both, and give the tokens Datastore.Allocate on the storage",
    ))
}

/// Backups on a storage: name below the storage, and size.
type Files = BTreeSet<(String, u64)>;

/// The backups that a cluster shows on a shared storage, by the first node that reaches it.
async fn files(site: &Site, storage: &str) -> Result<Files, String> {
    let overview = site.glance().await.map_err(|error| error.to_string())?;
    let there = |entry: &&proxmox::Resource| {
        entry.kind == "storage"
            && entry.storage.as_deref() == Some(storage)
            && entry.status.as_deref() == Some("available")
            && overview.online_nodes().any(|node| entry.node.as_deref() == Some(node))
    };
    let entry = overview.resources.iter().find(there);
    let node = entry.and_then(|entry| entry.node.as_deref()).ok_or("no node that is online reaches it")?;
    let listed = site.client.storage_content(node, storage, Some("backup"), None).await;
    let listed = listed.map_err(|error| error.to_string())?;
    let name = |volid: &str| volid.split_once(':').map_or(volid, |(_, name)| name).to_owned();
    Ok(listed.into_iter().map(|volume| (name(&volume.volid), volume.size)).collect())
}

//! Owns finding the backups of a machine whose cluster is lost, as the other clusters see them.
use std::collections::{BTreeMap, BTreeSet};

use federation::ClusterName;
use proxmox::VmConfig;

use crate::fleet::Fleet;
use crate::guest::Record;
use crate::site::{Overview, Site};

/// A backup of a machine, as one cluster sees it.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its volume id there.
    pub volid: String,
    /// The node that can read it; `None` where every node can.
    pub node: Option<String>,
    /// When it was made: seconds since 1970.
    pub at: i64,
    /// The machine's configuration in it.
    pub config: VmConfig,
}

impl Backup {
    /// The storage it lies on.
    pub(crate) fn storage(&self) -> &str {
        self.volid.split_once(':').map_or("", |(storage, _)| storage)
    }
}

/// A storage that may hold backups, and a node that reads it.
struct Shelf {
    storage: String,
    node: String,
    shared: bool,
}

impl Fleet {
    /// The newest backup of a recorded machine that each cluster sees, but for the one it was on. A cluster that can't be asked sees
    /// none; the second map says why.
    pub async fn backups(&self, record: &Record) -> (BTreeMap<ClusterName, Backup>, BTreeMap<ClusterName, String>) {
        let (mut seen, mut unseen) = (BTreeMap::new(), BTreeMap::new());
        for site in self.sites().filter(|site| site.name != record.cluster) {
            match site.newest_backup(record).await {
                Ok(Some(backup)) => drop(seen.insert(site.name.clone(), backup)),
                Ok(None) => {}
                Err(why) => drop(unseen.insert(site.name.clone(), why)),
            }
        }
        (seen, unseen)
    }
}

impl Site {
    /// The newest backup of a machine on any storage of this cluster.
    ///
    /// A VMID says little: clusters that share a storage share its VMIDs (`pve-behaviour.md` §15, 12). The configuration in the archive
    /// has the UUID.
    ///
    /// # Errors
    /// Why it can't be said, in words: the cluster doesn't answer, or the token may not see whose backups there are. A storage that it may
    /// not list, or that is away, holds none.
    pub(crate) async fn newest_backup(&self, record: &Record) -> Result<Option<Backup>, String> {
        let overview = self.glance().await.map_err(|error| error.to_string())?;
        let mut listed = Vec::new();
        for shelf in shelves(&overview) {
            let volumes =
                self.client.storage_content(&shelf.node, &shelf.storage, Some("backup"), Some(record.vmid)).await;
            let volumes = match volumes {
                Ok(volumes) => volumes,
                Err(error) if error.is_unreachable() => return Err(error.to_string()),
                Err(error) => {
                    tracing::info!(cluster = %self.name, storage = %shelf.storage, %error, "backups can't be listed");
                    continue;
                }
            };
            let made = |ctime: Option<u64>| i64::try_from(ctime.unwrap_or_default()).unwrap_or(i64::MAX);
            listed.extend(volumes.into_iter().map(|volume| {
                let node = (!shelf.shared).then(|| shelf.node.clone());
                (made(volume.ctime), volume.volid, node, shelf.node.clone())
            }));
        }
        listed.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
        for (at, volid, node, reader) in listed {
            let config = match self.client.extract_config(&reader, &volid).await {
                Ok(config) => config,
                // Asked for whatever the token may do with the storage, and no pool gives it: the machine is not there
                // (`pve-behaviour.md` §17).
                Err(error) if error.is_permission_denied() => {
                    return Err(format!(
                        "it sees a backup of that VMID ({volid}), and its token may not see whose: VM.Backup on /vms/{}",
                        record.vmid
                    ));
                }
                // Of a container, or gone since.
                Err(_) => continue,
            };
            if config.uuid().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&record.uuid)) {
                return Ok(Some(Backup { volid, node, at, config }));
            }
        }
        Ok(None)
    }
}

/// Storages for backups, a shared one once.
fn shelves(overview: &Overview) -> Vec<Shelf> {
    let online: BTreeSet<&str> = overview.online_nodes().collect();
    let mut once = BTreeSet::new();
    let mut shelves = Vec::new();
    for entry in overview.resources.iter().filter(|entry| entry.kind == "storage") {
        let (Some(storage), Some(node)) = (&entry.storage, &entry.node) else { continue };
        let holds = entry.content.iter().any(|content| content == "backup");
        let there = entry.status.as_deref() == Some("available") && online.contains(node.as_str());
        if holds && there && (!entry.shared || once.insert(storage)) {
            shelves.push(Shelf { storage: storage.clone(), node: node.clone(), shared: entry.shared });
        }
    }
    shelves
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use federation::model::Sight;
    use proxmox::Resource;

    use super::*;

    fn storage(name: &str, node: &str, shared: bool, content: &str, status: &str) -> Resource {
        let value = serde_json::json!({
            "id": format!("storage/{node}/{name}"), "type": "storage", "storage": name, "node": node,
            "shared": u8::from(shared), "content": content, "status": status,
        });
        serde_json::from_value(value).expect("a storage")
    }

    fn node(name: &str, status: &str) -> Resource {
        let value = serde_json::json!({ "id": format!("node/{name}"), "type": "node", "node": name, "status": status });
        serde_json::from_value(value).expect("a node")
    }

    #[test]
    fn a_shared_storage_is_listed_once_and_what_is_away_not_at_all() {
        let resources = vec![
            node("n1", "online"),
            node("n2", "online"),
            node("n3", "offline"),
            storage("nfs", "n1", true, "backup", "available"),
            storage("nfs", "n2", true, "backup", "available"),
            storage("local", "n1", false, "backup,iso", "available"),
            storage("local", "n2", false, "backup,iso", "available"),
            storage("local", "n3", false, "backup,iso", "available"),
            storage("away", "n1", true, "backup", "unknown"),
            storage("ceph", "n1", true, "images", "available"),
        ];
        let overview =
            Overview { resources, pools: Vec::new(), records: BTreeMap::new(), enrolment: Sight::Absent, now: 0 };
        let found: Vec<(String, String)> =
            shelves(&overview).into_iter().map(|shelf| (shelf.storage, shelf.node)).collect();
        let expected = [("nfs", "n1"), ("local", "n1"), ("local", "n2")];
        assert_eq!(found, expected.map(|(storage, node)| (storage.to_owned(), node.to_owned())));
    }
}

//! Owns finding the backups of a machine whose cluster is lost, as the other clusters see them.
use std::collections::BTreeSet;

use proxmox::{Error, Missing, VmConfig};

use super::Backups;
use crate::fleet::Fleet;
use crate::guest::{Record, rfc3339};
use crate::notes;
use crate::rights::held;
use crate::site::{Overview, Site};

/// A backup of a machine, as one cluster sees it.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its volume id there.
    pub volid: String,
    /// The node that can read it; `None` where every node can.
    pub node: Option<String>,
    /// When it was made.
    pub at: Made,
    /// The machine's configuration in it.
    pub config: VmConfig,
}

/// When a backup was made, in one clock for all that read it.
///
/// A backup in a file is named by the local time of the node that wrote it, and each node that lists it takes that for its own local
/// time: two sites in two zones tell two ages of one file. So the name itself is read. Those of one cluster are in one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    /// Seconds since 1970 as the name reads, without its zone.
    seconds: i64,
    /// Whether the zone is UTC, as on a Proxmox Backup Server.
    utc: bool,
}

impl Made {
    /// `listed`: what the node says that listed it, which holds where the name tells nothing.
    fn of(volid: &str, listed: Option<u64>) -> Made {
        let listed = i64::try_from(listed.unwrap_or_default()).unwrap_or(i64::MAX);
        named_time(volid).map_or(Made { seconds: listed, utc: true }, |seconds| Made { seconds, utc: false })
    }

    /// Seconds since 1970, good to compare with others of the same machine.
    pub(crate) fn seconds(self) -> i64 {
        self.seconds
    }
}

impl std::fmt::Display for Made {
    /// RFC 3339; without `Z` where the zone is that of whoever made it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = rfc3339(self.seconds);
        if self.utc {
            f.write_str(&text)
        } else {
            write!(f, "{} (local time where it was made)", text.trim_end_matches('Z'))
        }
    }
}

/// The time in the name of a backup in a file: `vzdump-qemu-100-2026_01_02-03_04_05.vma.zst`.
fn named_time(volid: &str) -> Option<i64> {
    let (_, rest) = volid.split_once("vzdump-qemu-")?;
    let (_, time) = rest.split_once('-')?;
    let time = jiff::civil::DateTime::strptime("%Y_%m_%d-%H_%M_%S", time.get(..19)?).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
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
    /// The newest backup of a recorded machine that each cluster sees, but for the one it was on, and what could not be asked.
    pub async fn backups(&self, record: &Record) -> Backups {
        let mut backups = Backups::default();
        for site in self.sites().filter(|site| site.name != record.cluster) {
            match site.newest_backup(record).await {
                Ok(seen) => {
                    let away = seen.away.into_iter().map(|storage| {
                        format!("{}: storage {storage} is away, or its backups are not shown to the token", site.name)
                    });
                    backups.doubts.extend(away);
                    if let Some(newest) = seen.newest {
                        backups.newest.insert(site.name.clone(), newest);
                    }
                }
                Err(why) => backups.doubts.push(format!("{}: {why}", site.name)),
            }
        }
        backups
    }
}

/// What one cluster sees.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The newest backup.
    pub(crate) newest: Option<Backup>,
    /// Storages for backups that are not there just now, or whose backups the token doesn't see.
    pub(crate) away: Vec<String>,
}

impl Site {
    /// The newest backup of a machine on any storage of this cluster.
    ///
    /// A VMID says little: clusters that share a storage share its VMIDs (`proxmox-ve.md` §15, 12). The configuration in the archive
    /// has the UUID.
    ///
    /// Copies that were fenced are not the machine: a nightly job goes on with those, under a fresh date.
    ///
    /// # Errors
    /// Why it can't be said, in words: the cluster doesn't answer, or the token may not see whose backups there are. What it may not
    /// list is among what is away.
    pub(crate) async fn newest_backup(&self, record: &Record) -> Result<Seen, String> {
        let overview = self.glance().await.map_err(|error| error.to_string())?;
        let mut listed = Vec::new();
        let (shelves, mut away) = shelves(&overview);
        for shelf in shelves {
            if !shows_backups(self, &shelf.storage).await {
                away.push(shelf.storage);
                continue;
            }
            let volumes =
                self.client.storage_content(&shelf.node, &shelf.storage, Some("backup"), Some(record.vmid)).await;
            let volumes = match volumes {
                Ok(volumes) => volumes,
                Err(error) if error.is_permission_denied() => {
                    away.push(shelf.storage);
                    continue;
                }
                Err(error) => return Err(format!("storage {} can't be listed: {error}", shelf.storage)),
            };
            listed.extend(volumes.into_iter().map(|volume| {
                let node = (!shelf.shared).then(|| shelf.node.clone());
                (Made::of(&volume.volid, volume.ctime), volume.volid, node, shelf.node.clone())
            }));
        }
        listed.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
        for (at, volid, node, reader) in listed {
            let config = match self.client.extract_config(&reader, &volid).await {
                Ok(config) => config,
                // Asked for whatever the token may do with the storage, and no pool gives it: the machine is not there
                // (`proxmox-ve.md` §17).
                Err(error) if error.is_permission_denied() => {
                    return Err(format!(
                        "it sees a backup of that VMID ({volid}), and its token may not see whose: VM.Backup on /vms/{}",
                        record.vmid
                    ));
                }
                // Pruned since it was listed, if the list says so too: an older backup is taken only then.
                Err(error) if is_gone(&error) && !self.lists(&reader, &volid, record.vmid).await? => continue,
                Err(error) => return Err(format!("backup {volid} can't be looked into: {error}")),
            };
            let fenced =
                config.template() || notes::split(config.description().unwrap_or_default()).mark.retired.is_some();
            if !fenced && config.uuid().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&record.uuid)) {
                return Ok(Seen { newest: Some(Backup { volid, node, at, config }), away });
            }
        }
        Ok(Seen { newest: None, away })
    }

    /// Whether a list that is taken now names a backup.
    async fn lists(&self, node: &str, volid: &str, vmid: u32) -> Result<bool, String> {
        let storage = volid.split_once(':').map_or(volid, |(storage, _)| storage);
        let listed = self.client.storage_content(node, storage, Some("backup"), Some(vmid)).await;
        let listed = listed.map_err(|error| format!("storage {storage} can't be listed: {error}"))?;
        Ok(listed.iter().any(|volume| volume.volid == volid))
    }
}

/// Whether an archive is not there any more: its storage is.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error.missing(), Some(Missing::Volume(_)))
}

/// Whether the token sees a storage's backups: with fewer rights the list is merely shorter (`proxmox-ve.md` §1.4). A cluster that
/// doesn't say what the token may is asked for the list.
async fn shows_backups(site: &Site, storage: &str) -> bool {
    let Some(all) = site.permissions().await else { return true };
    let path = [format!("/storage/{storage}")];
    held(site, all, &path, "Datastore.Allocate").await || held(site, all, &path, "Datastore.AllocateSpace").await
}

/// Storages for backups, a shared one once; and those that are not there just now.
fn shelves(overview: &Overview) -> (Vec<Shelf>, Vec<String>) {
    let online: BTreeSet<&str> = overview.online_nodes().collect();
    let mut once = BTreeSet::new();
    let (mut shelves, mut away) = (Vec::new(), BTreeSet::new());
    for entry in overview.resources.iter().filter(|entry| entry.kind == "storage") {
        let (Some(storage), Some(node)) = (&entry.storage, &entry.node) else { continue };
        let holds = entry.content.iter().any(|content| content == "backup");
        let there = entry.status.as_deref() == Some("available") && online.contains(node.as_str());
        if holds && !there {
            away.insert(storage.clone());
        }
        if holds && there && (!entry.shared || once.insert(storage)) {
            shelves.push(Shelf { storage: storage.clone(), node: node.clone(), shared: entry.shared });
        }
    }
    let reached = |storage: &String| shelves.iter().any(|shelf: &Shelf| shelf.shared && shelf.storage == *storage);
    let away = away.into_iter().filter(|storage| !reached(storage)).collect();
    (shelves, away)
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
    fn a_backup_in_a_file_is_as_old_as_its_name_says_whoever_lists_it() {
        let made = |name: &str, ctime| Made::of(&format!("nfs:backup/vzdump-qemu-100-{name}.vma.zst"), Some(ctime));
        let (older, newer) = (made("2026_01_02-03_04_05", 1_767_400_000), made("2026_01_02-04_00_00", 1_767_300_000));
        assert!(older < newer, "{older} {newer}");
        assert_eq!(older, made("2026_01_02-03_04_05", 5), "two zones, one file");
        assert_eq!(older.to_string(), "2026-01-02T03:04:05 (local time where it was made)");
        let server = Made::of("pbs:backup/vm/100/2026-01-02T02:04:05Z", Some(1_767_319_445));
        assert_eq!(server.to_string(), "2026-01-02T02:04:05Z");
        assert_eq!(Made::of("nfs:backup/vzdump-qemu-100-2026_13_02-03_04_05.vma", None).seconds(), 0, "no time at all");
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
        let (found, away) = shelves(&overview);
        assert_eq!(away, ["away", "local"], "n3's own storage is not reached either");
        let found: Vec<(String, String)> = found.into_iter().map(|shelf| (shelf.storage, shelf.node)).collect();
        let expected = [("nfs", "n1"), ("local", "n1"), ("local", "n2")];
        assert_eq!(found, expected.map(|(storage, node)| (storage.to_owned(), node.to_owned())));
    }
}

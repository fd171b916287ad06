//! Owns the archive of a move: its name, the proof that the machine stood still, and removing it.
use std::time::Instant;

use proxmox::{Error, Volume};

use crate::fleet::Fleet;
use crate::journal::Place;
use crate::notes::Kept;
use crate::site::Site;

/// The first line of an archive's notes (formats.md): lists return only that.
pub(crate) fn notes(op: &str, from: &Place) -> String {
    format!("moxxie {op} {}/{}", from.cluster, from.vmid)
}

/// The volume id that a backup's log names (`proxmox-ve.md` §6).
pub(super) fn volid(log: &[String], storage: &str) -> Option<String> {
    log.iter().find_map(|line| {
        let quoted = |rest: &str| rest.split('\'').nth(1).map(str::to_owned);
        if let Some(rest) = line.strip_prefix("INFO: creating vzdump archive ") {
            let path = quoted(rest)?;
            let file = path.rsplit('/').next()?;
            return Some(format!("{storage}:backup/{file}"));
        }
        let rest = line.strip_prefix("INFO: creating Proxmox Backup Server archive ")?;
        Some(format!("{storage}:backup/{}", quoted(rest)?))
    })
}

/// The lines that prove a backup of a machine that stood still from begin to end (design.md §6).
const COLD: [&str; 3] =
    ["INFO: status = stopped", "INFO: starting kvm to execute backup task", "INFO: stopping kvm after backup task"];

/// Whether a backup's log proves that nobody ran the machine meanwhile.
///
/// # Errors
/// The line that is missing, or the one that says otherwise.
pub(super) fn prove_cold(log: &[String]) -> Result<(), String> {
    if let Some(bad) = log.iter().find(|line| line.contains("kvm status changed after backup")) {
        return Err(bad.clone());
    }
    match COLD.iter().find(|line| !log.iter().any(|found| found == *line)) {
        None => Ok(()),
        Some(missing) => Err(format!("its log lacks {missing:?}")),
    }
}

/// The volumes that a restore's log says it made.
pub(super) fn new_volumes(log: &[String]) -> Vec<String> {
    let named = |line: &String| Some(line.split_once("new volume ID is '")?.1.split_once('\'')?.0.to_owned());
    log.iter().filter_map(named).collect()
}

/// Whether the log is of a task that copied this volume of this slot (`clone_disk` of qemu-server says so first of all).
pub(super) fn copies(log: &[String], slot: &str, volume: &str) -> bool {
    log.iter().any(|line| *line == format!("create full clone of drive {slot} ({volume})"))
}

/// The volumes on `storage` that the log of such a task names as made: `qemu-img` names the file, `lvcreate` the volume. ZFS and
/// Ceph are silent.
pub(super) fn new_copies(log: &[String], storage: &str) -> Vec<String> {
    let named = |line: &String| {
        if let Some(rest) = line.trim_start().strip_prefix("Logical volume \"") {
            let (name, _) = rest.split_once("\" created")?;
            return Some(format!("{storage}:{name}"));
        }
        let path = line.strip_prefix("Formatting '")?.split_once('\'')?.0;
        let (folder, file) = path.rsplit_once('/')?;
        Some(format!("{storage}:{}/{file}", folder.rsplit('/').next()?))
    };
    log.iter().filter_map(named).collect()
}

/// An archive in a storage's list, if it is listed: a listed one is complete (`proxmox-ve.md` §6). Sizes are compared with those of
/// lists alone: the answer about one volume is rounded up (§18.1).
pub(super) async fn find(
    site: &Site,
    at: &Place,
    storage: &str,
    vmid: u32,
    volid: &str,
) -> Result<Option<Volume>, Error> {
    let volumes = site.client.storage_content(&at.node, storage, Some("backup"), Some(vmid)).await?;
    Ok(volumes.into_iter().find(|volume| volume.volid == volid))
}

/// Archives on a storage that an operation made, by their notes.
pub(super) async fn of_operation(site: &Site, from: &Place, storage: &str, op: &str) -> Result<Vec<String>, Error> {
    let volumes = site.client.storage_content(&from.node, storage, Some("backup"), Some(from.vmid)).await?;
    let wanted = notes(op, from);
    Ok(volumes
        .into_iter()
        .filter(|volume| volume.notes.as_deref() == Some(&wanted))
        .map(|volume| volume.volid)
        .collect())
}

/// Removes an archive; one that is gone is removed. The task of removing a protected one fails, so that comes off first
/// (`proxmox-ve.md` §17, correction 5).
pub(crate) async fn remove(
    site: &Site,
    at: &Place,
    volid: &str,
    fleet: &Fleet,
    deadline: Instant,
) -> Result<(), Error> {
    let storage = volid.split_once(':').map_or(volid, |(storage, _)| storage);
    // The VMID is that of its name, which need not be the machine's any more.
    let vmid = Kept { volid: volid.to_owned(), until: 0, cluster: None }.vmid();
    let is_listed = async || -> Result<bool, Error> {
        let volumes = site.client.storage_content(&at.node, storage, Some("backup"), vmid).await?;
        Ok(volumes.iter().any(|volume| volume.volid == volid))
    };
    if !is_listed().await? {
        return Ok(());
    }
    site.client.protect_volume(&at.node, volid, false).await?;
    if let Some(upid) = site.client.delete_volume(&at.node, volid).await? {
        // A failed removal shows in the list, and so does one that was interrupted.
        if let Err(failure) = fleet.wait(site, &upid, deadline, "Unable to remove an archive").await {
            tracing::warn!(%volid, detail = %failure.detail(), "the archive's removal");
        }
    }
    if is_listed().await? {
        site.client.delete_volume(&at.node, volid).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn the_archive_is_named_by_the_log() {
        let line = "INFO: creating vzdump archive '/mnt/pve/nfs/dump/vzdump-qemu-100-2026_01_02-03_04_05.vma.zst'";
        let file = "nfs:backup/vzdump-qemu-100-2026_01_02-03_04_05.vma.zst";
        assert_eq!(volid(&log(&["INFO: status = stopped", line]), "nfs").as_deref(), Some(file));
        let pbs = "INFO: creating Proxmox Backup Server archive 'vm/100/2026-01-02T02:04:05Z'";
        assert_eq!(volid(&log(&[pbs]), "pbs").as_deref(), Some("pbs:backup/vm/100/2026-01-02T02:04:05Z"));
        assert_eq!(volid(&log(&["INFO: nothing"]), "nfs"), None);
    }

    #[test]
    fn a_backup_is_cold_only_if_all_three_lines_say_so() {
        assert_eq!(prove_cold(&log(&COLD)), Ok(()));
        for missing in COLD {
            let lines: Vec<&str> = COLD.into_iter().filter(|line| *line != missing).collect();
            assert!(prove_cold(&log(&lines)).is_err(), "without {missing}");
        }
        let mut lines = COLD.to_vec();
        lines.push("INFO: kvm status changed after backup ('running') - keep VM running");
        assert!(prove_cold(&log(&lines)).is_err());
    }

    #[test]
    fn a_copy_is_named_where_the_tools_of_its_storage_name_it() {
        let lines = log(&[
            "create full clone of drive scsi1 (zfs:vm-100-disk-1)",
            "  Logical volume \"vm-100-disk-0\" created.",
            "Formatting '/mnt/pve/nfs/images/100/vm-100-disk-0.qcow2', fmt=qcow2 size=34359738368 preallocation=off",
            "transferred 0.0 B of 32.0 GiB (0.00%)",
            "  Logical volume \"vm-100-disk-1\" successfully removed.",
        ]);
        assert!(copies(&lines, "scsi1", "zfs:vm-100-disk-1"));
        assert!(!copies(&lines, "scsi1", "zfs:vm-100-disk-11") && !copies(&lines, "scsi11", "zfs:vm-100-disk-1"));
        assert_eq!(new_copies(&lines, "bulk"), ["bulk:vm-100-disk-0", "bulk:100/vm-100-disk-0.qcow2"]);
    }

    #[test]
    fn volumes_are_ours_if_the_restore_logged_them() {
        let lines =
            log(&["new volume ID is 'zfs:vm-100-disk-0'", "progress 1%", "new volume ID is 'zfs:vm-100-disk-1'"]);
        assert_eq!(new_volumes(&lines), ["zfs:vm-100-disk-0", "zfs:vm-100-disk-1"]);
    }
}

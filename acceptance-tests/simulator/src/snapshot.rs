//! The state of things as tests see it: VMs, volumes, archives, litter.

use std::collections::{BTreeMap, BTreeSet};

use crate::backup::archive;
use crate::backup::contents::parse_conf;
use crate::bytes;
use crate::qemu::{config, drives, is_unused};
use crate::state::{Power, State};
use crate::storage::{Archive, StorageDef, owner_of};

/// A disk of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSnapshot {
    /// `scsi0`, `unused0`, …
    pub slot: String,
    /// `storage:volume`.
    pub volid: String,
    /// Bytes the guest sees.
    pub size: u64,
    /// SHA-256 of the bytes kept, lower-case hex; empty when the volume is gone.
    pub sha256: String,
    /// Highest record number on it; 0 when no guest ever wrote.
    pub newest: u64,
}

/// A VM at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSnapshot {
    /// Cluster by its name in the world.
    pub cluster: String,
    /// Id.
    pub vmid: u32,
    /// Node.
    pub node: String,
    /// Configuration as in the file; pending changes are not merged in.
    pub config: BTreeMap<String, String>,
    /// Keys with pending changes.
    pub pending: BTreeSet<String>,
    /// `running`, `stopped`, `paused` or `prelaunch`.
    pub status: String,
    /// Whether guest code runs.
    pub running: bool,
    /// Template flag.
    pub template: bool,
    /// Value of `lock`.
    pub lock: Option<String>,
    /// SMBIOS UUID, lower case.
    pub uuid: Option<String>,
    /// Pool.
    pub pool: Option<String>,
    /// Disks, unused ones last.
    pub disks: Vec<DiskSnapshot>,
    /// SHA-1 of the configuration.
    pub digest: String,
    /// How often it was stopped without having shut down.
    pub hard_stops: u32,
}

/// A volume in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSnapshot {
    /// `storage:volume` as this cluster names it.
    pub volid: String,
    /// Node, for storages that are not shared.
    pub node: Option<String>,
    /// Guest it belongs to by name.
    pub owner: u32,
    /// Bytes the guest sees.
    pub size: u64,
    /// SHA-256 of the bytes kept.
    pub sha256: String,
}

/// An archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSnapshot {
    /// `storage:backup/…`.
    pub volid: String,
    /// Guest.
    pub vmid: u32,
    /// Whole notes.
    pub notes: String,
    /// Cannot be deleted.
    pub protected: bool,
    /// Seconds since 1970.
    pub ctime: i64,
    /// SMBIOS UUID of the guest in it; `None` when it has none or the file is broken.
    pub uuid: Option<String>,
    /// The disks in it (`volid` is the storage they came from); none when the file is broken.
    pub disks: Vec<DiskSnapshot>,
}

pub(crate) fn each_store(st: &State, cluster: &str, mut visit: impl FnMut(&str, &str, &StorageDef, &str)) {
    let c = st.cluster(cluster);
    let mut seen = BTreeSet::new();
    for (storage, def) in &c.storages {
        for node in c.nodes.keys().filter(|node| def.on(node)) {
            let key = def.store_key(cluster, node, storage);
            if seen.insert((storage.clone(), key.clone())) {
                visit(storage, node, def, &key);
            }
        }
    }
}

pub(crate) fn snapshot(st: &State, cluster: &str, vmid: u32) -> Option<VmSnapshot> {
    let c = st.clusters.get(cluster)?;
    let vm = c.vms.get(&vmid)?;
    let disk = |slot: &str, volid: &str| {
        let volume = st.volume(cluster, &vm.node, volid);
        DiskSnapshot {
            slot: slot.to_owned(),
            volid: volid.to_owned(),
            size: volume.map_or(0, |v| v.logical),
            sha256: volume.map(|v| bytes::sha256(&v.file)).unwrap_or_default(),
            newest: volume.map_or(0, |v| bytes::newest(&v.file, v.content)),
        }
    };
    let mut disks: Vec<_> = drives(&vm.conf)
        .filter(|drive| drive.has_volume() && !drive.is_cdrom())
        .map(|drive| disk(&drive.slot, &drive.volume))
        .collect();
    disks.extend(vm.conf.iter().filter(|(key, _)| is_unused(key)).map(|(key, volid)| disk(key, volid)));
    Some(VmSnapshot {
        cluster: cluster.to_owned(),
        vmid,
        node: vm.node.clone(),
        config: vm.conf.clone(),
        pending: vm.pending.keys().cloned().collect(),
        status: vm.power.qmp().to_owned(),
        running: vm.power == Power::Running,
        template: vm.flag("template"),
        lock: vm.lock().map(str::to_owned),
        uuid: vm.uuid(),
        pool: c.pool_of(vmid).map(str::to_owned),
        disks,
        digest: vm.digest(),
        hard_stops: vm.hard_stops,
    })
}

/// What an archive's file holds.
pub(crate) fn open_archive(archive: &Archive) -> (Option<String>, Vec<DiskSnapshot>) {
    let Ok((header, bytes)) = archive::read(&archive.file) else { return (None, Vec::new()) };
    let smbios = parse_conf(&header.conf).remove("smbios1").unwrap_or_default();
    let uuid = smbios.split(',').find_map(|part| part.strip_prefix("uuid=")).map(str::to_lowercase);
    let disks = header.disks.iter().zip(&bytes).map(|(disk, bytes)| DiskSnapshot {
        slot: disk.slot.clone(),
        volid: disk.storage.clone(),
        size: disk.logical,
        sha256: bytes::sha256_of(bytes),
        newest: bytes::newest_in(bytes, disk.content),
    });
    (uuid, disks.collect())
}

/// The newest record of a guest in any disk of any copy, and in any archive that can be read.
pub(crate) fn newest_held(st: &mut State, uuid: &str) -> u64 {
    let wanted = uuid.to_lowercase();
    let copies = copies(st, uuid);
    let on_disks = copies.iter().flat_map(|vm| &vm.disks).map(|disk| disk.newest).max();
    let archives = st.stores.values().flat_map(|store| store.archives.values()).map(open_archive);
    let in_archives = archives.filter(|(id, _)| id.as_ref() == Some(&wanted)).flat_map(|(_, disks)| disks);
    on_disks.max(in_archives.map(|disk| disk.newest).max()).unwrap_or(0)
}

/// All VMs of the federation with a UUID.
pub(crate) fn copies(st: &mut State, uuid: &str) -> Vec<VmSnapshot> {
    st.flush_all();
    let wanted = uuid.to_lowercase();
    let found: Vec<(String, u32)> = st
        .clusters
        .iter()
        .flat_map(|(name, c)| c.vms.values().map(move |vm| (name, vm)))
        .filter(|(_, vm)| vm.uuid().as_ref() == Some(&wanted))
        .map(|(name, vm)| (name.clone(), vm.vmid))
        .collect();
    found.into_iter().filter_map(|(cluster, vmid)| snapshot(st, &cluster, vmid)).collect()
}

/// What a tidy federation does not have.
pub(crate) fn litter(st: &State) -> Vec<String> {
    let mut out = Vec::new();
    let mut referenced = BTreeSet::new();
    for (cluster, c) in &st.clusters {
        for vm in c.vms.values() {
            let place = format!("{cluster}: VM {}", vm.vmid);
            for volid in config::volumes(vm) {
                if let Some((key, name)) = st.locate(cluster, &vm.node, &volid) {
                    referenced.insert(format!("{key}/{name}"));
                }
            }
            let disks = drives(&vm.conf).next().is_some();
            if !disks && !vm.conf.contains_key("name") {
                out.push(format!("{place} is a stub"));
            }
            if let Some(lock) = vm.lock() {
                out.push(format!("{place} has lock {lock}"));
            }
            if matches!(vm.power, Power::Prelaunch | Power::Inmigrate | Power::Postmigrate) {
                out.push(format!("{place} hangs in {}", vm.power.qmp()));
            }
            out.extend(
                vm.conf
                    .iter()
                    .filter(|(key, _)| is_unused(key))
                    .map(|(key, volid)| format!("{place} has {key} {volid}")),
            );
        }
        out.extend(
            c.pools
                .keys()
                .filter(|pool| pool.starts_with("moxxie-moves/"))
                .map(|pool| format!("{cluster}: pool {pool}")),
        );
        out.extend(
            c.tasks.iter().filter(|task| task.is_running()).map(|task| format!("{cluster}: running {}", task.upid)),
        );
    }
    for (key, store) in &st.stores {
        for name in store.volumes.keys() {
            if !referenced.contains(&format!("{key}/{name}")) {
                out.push(format!("{key}: volume {name} of {:?} is in no configuration", owner_of(name)));
            }
        }
        for (name, archive) in &store.archives {
            if !st.baseline.contains(&format!("{key}/{name}")) {
                out.push(format!("{key}: archive {name} ({})", archive.notes.lines().next().unwrap_or_default()));
            }
        }
    }
    out
}

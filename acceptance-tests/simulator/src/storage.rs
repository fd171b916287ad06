//! Storages as clusters see them, the stores behind them, and the volumes in those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::bytes;
use crate::clock::Millis;
use crate::error::ApiError;
use crate::state::{Cluster, State};
use crate::world::StorageSpec;

/// A storage definition of a cluster.
pub(crate) struct StorageDef {
    pub(crate) spec: StorageSpec,
    pub(crate) content: BTreeSet<String>,
    pub(crate) capacity: u64,
}

/// The bytes behind one or more storage definitions.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) capacity: u64,
    pub(crate) full: bool,
    pub(crate) offline: bool,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) archives: BTreeMap<String, Archive>,
    /// Names of hook scripts and texts for cloud-init: `snippets/x.pl`.
    pub(crate) snippets: BTreeSet<String>,
}

/// A disk image.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) owner: u32,
    pub(crate) logical: u64,
    pub(crate) content: u64,
    pub(crate) file: PathBuf,
    pub(crate) created: Millis,
    /// A base image of a template.
    pub(crate) base: bool,
}

/// A finished backup.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) vmid: u32,
    pub(crate) ctime: i64,
    pub(crate) size: u64,
    pub(crate) notes: String,
    pub(crate) protected: bool,
    pub(crate) file: PathBuf,
}

impl Store {
    pub(crate) fn used(&self) -> u64 {
        if self.full {
            return self.capacity;
        }
        let volumes: u64 = self.volumes.values().map(|v| v.logical).sum();
        let archives: u64 = self.archives.values().map(|a| a.size).sum();
        (volumes + archives).min(self.capacity)
    }

    pub(crate) fn free(&self) -> u64 {
        self.capacity - self.used()
    }
}

impl StorageDef {
    pub(crate) fn new(spec: &StorageSpec, capacity: u64) -> Self {
        StorageDef { spec: spec.clone(), content: spec.content.iter().cloned().collect(), capacity }
    }

    pub(crate) fn is_file_based(&self) -> bool {
        matches!(self.spec.kind.as_str(), "dir" | "nfs" | "cifs" | "cephfs")
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.spec.shared || matches!(self.spec.kind.as_str(), "nfs" | "cifs" | "rbd" | "pbs" | "cephfs")
    }

    pub(crate) fn on(&self, node: &str) -> bool {
        self.spec.nodes.as_ref().is_none_or(|nodes| nodes.iter().any(|name| name == node))
    }

    /// The store behind it, as one node sees it.
    pub(crate) fn store_key(&self, cluster: &str, node: &str, storage: &str) -> String {
        if let Some(backing) = &self.spec.backing {
            return format!("backing/{backing}");
        }
        match (&self.spec.server, &self.spec.export) {
            (Some(server), Some(export)) => format!("export/{server}{export}"),
            _ if self.is_shared() => format!("{cluster}/{storage}"),
            _ => format!("{cluster}/{node}/{storage}"),
        }
    }

    /// Where file storages are mounted.
    pub(crate) fn mount(&self, storage: &str) -> String {
        match self.spec.kind.as_str() {
            "dir" if storage == "local" => "/var/lib/vz".to_owned(),
            _ => format!("/mnt/pve/{storage}"),
        }
    }

    /// A path for logs.
    pub(crate) fn path_of(&self, storage: &str, volname: &str) -> String {
        match self.spec.kind.as_str() {
            "rbd" => format!("rbd:{storage}/{volname}"),
            "zfspool" => format!("/dev/zvol/{storage}/{volname}"),
            "lvm" | "lvmthin" => format!("/dev/pve/{volname}"),
            _ => format!("{}/images/{volname}", self.mount(storage)),
        }
    }

    fn out_of_space(&self, free: u64, wanted: u64) -> String {
        match self.spec.kind.as_str() {
            "lvm" => format!("not enough free space ({free} < {wanted})"),
            "zfspool" => "zfs error: cannot create volume: out of space".to_owned(),
            _ => "unable to create image: No space left on device".to_owned(),
        }
    }
}

/// `storage:volume`.
pub(crate) fn split_volid(volid: &str) -> Option<(&str, &str)> {
    volid.split_once(':').filter(|(storage, name)| !storage.is_empty() && !name.is_empty())
}

/// The format that a volume's name tells; only files have one.
pub(crate) fn named_format(volid: &str) -> Option<&'static str> {
    let (_, ending) = volid.rsplit_once('.')?;
    ["raw", "qcow2", "vmdk"].into_iter().find(|format| *format == ending)
}

/// Guest a volume name belongs to: `vm-100-disk-0`, `100/vm-100-disk-0.raw`, `base-100-disk-0`, `backup/vzdump-qemu-100-…`.
pub(crate) fn owner_of(volname: &str) -> Option<u32> {
    let name = volname.rsplit('/').next()?;
    let rest = name
        .strip_prefix("vm-")
        .or_else(|| name.strip_prefix("base-"))
        .or_else(|| name.strip_prefix("vzdump-qemu-"))?;
    rest.split('-').next()?.parse().ok()
}

impl Cluster {
    pub(crate) fn storage(&self, name: &str) -> Result<&StorageDef, ApiError> {
        self.storages.get(name).ok_or_else(|| ApiError::die(format!("storage '{name}' does not exist")))
    }

    /// Enabled, on that node, and (if asked) with that content.
    pub(crate) fn usable(&self, name: &str, node: &str, content: Option<&str>) -> Result<&StorageDef, ApiError> {
        let def = self.storage(name)?;
        if def.spec.disabled {
            return Err(ApiError::die(format!("storage '{name}' is disabled")));
        }
        if !def.on(node) {
            return Err(ApiError::die(format!("storage '{name}' is not available on node '{node}'")));
        }
        match content.filter(|content| !def.content.contains(*content)) {
            Some(content) => {
                Err(ApiError::die(format!("Content type '{content}' is not available on storage '{name}'")))
            }
            None => Ok(def),
        }
    }
}

/// A place for a volume.
pub(crate) struct Place<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) node: &'a str,
    pub(crate) storage: &'a str,
}

impl State {
    pub(crate) fn store_key(&self, place: &Place<'_>) -> Option<String> {
        let def = self.clusters.get(place.cluster)?.storages.get(place.storage)?;
        Some(def.store_key(place.cluster, place.node, place.storage))
    }

    pub(crate) fn store(&self, place: &Place<'_>) -> Option<&Store> {
        self.stores.get(&self.store_key(place)?)
    }

    pub(crate) fn store_mut(&mut self, place: &Place<'_>) -> Option<&mut Store> {
        let key = self.store_key(place)?;
        self.stores.get_mut(&key)
    }

    /// The store of a volid as a node sees it, and the volume's name in it.
    pub(crate) fn locate<'a>(&self, cluster: &str, node: &str, volid: &'a str) -> Option<(String, &'a str)> {
        let (storage, name) = split_volid(volid)?;
        let key = self.store_key(&Place { cluster, node, storage })?;
        Some((key, name))
    }

    pub(crate) fn volume(&self, cluster: &str, node: &str, volid: &str) -> Option<&Volume> {
        let (key, name) = self.locate(cluster, node, volid)?;
        self.stores.get(&key)?.volumes.get(name)
    }

    pub(crate) fn archive(&self, cluster: &str, node: &str, volid: &str) -> Option<&Archive> {
        let (key, name) = self.locate(cluster, node, volid)?;
        self.stores.get(&key)?.archives.get(name)
    }

    /// A new raw volume with seeded content; its volid. `stem` is `disk` or `cloudinit`.
    pub(crate) fn allocate(
        &mut self,
        place: &Place<'_>,
        vmid: u32,
        logical: u64,
        stem: &str,
    ) -> Result<String, ApiError> {
        self.allocate_as(place, vmid, logical, stem, "raw")
    }

    /// The same in a format, which is part of the name where images are files; elsewhere there is only raw.
    pub(crate) fn allocate_as(
        &mut self,
        place: &Place<'_>,
        vmid: u32,
        logical: u64,
        stem: &str,
        format: &str,
    ) -> Result<String, ApiError> {
        let Place { cluster, node, storage } = *place;
        let def = self.cluster(cluster).usable(storage, node, Some("images"))?;
        let file_based = def.is_file_based();
        if !file_based && format != "raw" {
            return Err(ApiError::die(format!("unsupported format '{format}'")));
        }
        let key = def.store_key(cluster, node, storage);
        let store = self.stores.get(&key);
        let free = store.map_or(0, Store::free);
        if store.is_some_and(|store| store.offline) {
            return Err(ApiError::die(format!("storage '{storage}' is not online")));
        }
        if free < logical {
            let text = self.cluster(cluster).storage(storage)?.out_of_space(free, logical);
            return Err(ApiError::die(text));
        }
        let named = |n: u32| {
            let name =
                if stem == "cloudinit" { format!("vm-{vmid}-cloudinit") } else { format!("vm-{vmid}-{stem}-{n}") };
            if file_based { format!("{vmid}/{name}.{format}") } else { name }
        };
        let taken = |name: &String| store.is_some_and(|store| store.volumes.contains_key(name));
        let Some(name) = (0..=u32::from(u16::MAX)).map(named).find(|name| !taken(name)) else {
            return Err(ApiError::die("unable to allocate an image name"));
        };
        let seed = self.fresh("disk");
        let content = self.content.min(logical);
        let file = self.folder.join("stores").join(key.replace('/', "_")).join(format!("{seed:016x}"));
        bytes::create(&file, seed, content).map_err(|error| ApiError::die(error.to_string()))?;
        let created = self.now();
        let volume = Volume { owner: vmid, logical, content, file, created, base: false };
        if let Some(store) = self.stores.get_mut(&key) {
            store.volumes.insert(name.clone(), volume);
        }
        Ok(format!("{storage}:{name}"))
    }

    /// A new volume with the bytes of another; both are read and written as files. A format that the storage doesn't have
    /// becomes raw without a word.
    pub(crate) fn copy_volume(
        &mut self,
        from: &Volume,
        place: &Place<'_>,
        vmid: u32,
        format: &str,
    ) -> Result<String, ApiError> {
        let files = self.cluster(place.cluster).storage(place.storage)?.is_file_based();
        let volid = self.allocate_as(place, vmid, from.logical, "disk", if files { format } else { "raw" })?;
        let (key, name) = match self.locate(place.cluster, place.node, &volid) {
            Some((key, name)) => (key, name.to_owned()),
            None => return Err(ApiError::die(format!("volume '{volid}' does not exist"))),
        };
        if let Some(volume) = self.stores.get_mut(&key).and_then(|store| store.volumes.get_mut(&name)) {
            volume.content = from.content;
            std::fs::copy(&from.file, &volume.file).map_err(|error| ApiError::die(error.to_string()))?;
        }
        Ok(volid)
    }

    /// Whether a node sees this snippet.
    pub(crate) fn has_snippet(&self, cluster: &str, node: &str, volid: &str) -> bool {
        let Some((storage, name)) = split_volid(volid) else { return false };
        let Ok(def) = self.cluster(cluster).storage(storage) else { return false };
        self.stores.get(&def.store_key(cluster, node, storage)).is_some_and(|store| store.snippets.contains(name))
    }

    /// Frees a volume; whether it was there.
    pub(crate) fn free_volume(&mut self, cluster: &str, node: &str, volid: &str) -> bool {
        let Some((key, name)) = self.locate(cluster, node, volid) else { return false };
        let gone = self.stores.get_mut(&key).and_then(|store| store.volumes.remove(name));
        if let Some(volume) = &gone {
            // A file that is gone already is as good as freed.
            let _ = std::fs::remove_file(&volume.file);
        }
        gone.is_some()
    }

    /// No space from now on, whoever mounts it.
    pub(crate) fn fill_storage(&mut self, cluster: &str, storage: &str) {
        self.each_store(cluster, storage, |store| store.full = true);
    }

    pub(crate) fn each_store(&mut self, cluster: &str, storage: &str, mut change: impl FnMut(&mut Store)) {
        let Some(c) = self.clusters.get(cluster) else { return };
        let Some(def) = c.storages.get(storage) else { return };
        let keys: BTreeSet<String> = c.nodes.keys().map(|node| def.store_key(cluster, node, storage)).collect();
        for key in keys {
            if let Some(store) = self.stores.get_mut(&key) {
                change(store);
            }
        }
    }
}

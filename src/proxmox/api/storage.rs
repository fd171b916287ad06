//! Owns the calls about storages and what is on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{Client, Params, Result, Upid, api_path, de};

/// A storage as a node sees it. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// Its name.
    pub storage: String,
    /// Its type, for example `lvmthin`.
    #[serde(rename = "type", deserialize_with = "de::text")]
    pub kind: String,
    /// What it may hold: `images`, `backup`, `iso`, …
    #[serde(deserialize_with = "de::list")]
    pub content: Vec<String>,
    /// Whether it is usable now.
    #[serde(deserialize_with = "de::flag")]
    pub active: bool,
    /// Whether it is switched on.
    #[serde(deserialize_with = "de::flag")]
    pub enabled: bool,
    /// Whether it is the same on all its nodes.
    #[serde(deserialize_with = "de::flag")]
    pub shared: bool,
    /// All space; None while it is not active.
    #[serde(deserialize_with = "de::opt_u64")]
    pub total: Option<u64>,
    /// Space in use.
    #[serde(deserialize_with = "de::opt_u64")]
    pub used: Option<u64>,
    /// Space left.
    #[serde(deserialize_with = "de::opt_u64")]
    pub avail: Option<u64>,
}

impl Storage {
    /// Whether it may hold this kind of content.
    pub fn holds(&self, content: &str) -> bool {
        self.content.iter().any(|held| held == content)
    }
}

/// A storage as it is configured for the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageDefinition {
    /// Its name.
    pub storage: String,
    /// Its type.
    pub kind: String,
    /// Every setting as text, those of its type among them (`server`, `export`, `path`, `datastore`, …).
    pub settings: BTreeMap<String, String>,
}

impl StorageDefinition {
    /// A setting.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// What it may hold.
    pub fn content(&self) -> Vec<&str> {
        self.get("content").unwrap_or_default().split(',').filter(|part| !part.is_empty()).collect()
    }

    /// The nodes it is limited to; empty means all.
    pub fn nodes(&self) -> Vec<&str> {
        self.get("nodes").unwrap_or_default().split(',').filter(|part| !part.is_empty()).collect()
    }
}

impl<'de> Deserialize<'de> for StorageDefinition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let all: BTreeMap<String, Value> = BTreeMap::deserialize(deserializer)?;
        let settings: BTreeMap<String, String> =
            all.into_iter().filter_map(|(key, value)| Some((key, de::as_text(&value)?))).collect();
        let text = |key: &str| settings.get(key).cloned().unwrap_or_default();
        Ok(Self { storage: text("storage"), kind: text("type"), settings })
    }
}

/// An entry of a storage's content. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// `STORAGE:NAME`.
    pub volid: String,
    /// `images`, `backup`, `iso`, …
    #[serde(deserialize_with = "de::text")]
    pub content: String,
    /// When it was made, in seconds since 1970.
    #[serde(deserialize_with = "de::opt_u64")]
    pub ctime: Option<u64>,
    /// Its (virtual) size.
    #[serde(deserialize_with = "de::u64")]
    pub size: u64,
    /// `raw`, `qcow2`, `vma.zst`, `pbs-vm`, …
    #[serde(deserialize_with = "de::text")]
    pub format: String,
    /// The guest it belongs to.
    #[serde(deserialize_with = "de::opt_vmid")]
    pub vmid: Option<u32>,
    /// The first line of a backup's notes.
    #[serde(deserialize_with = "de::opt_text")]
    pub notes: Option<String>,
    /// Whether the backup is kept from pruning.
    #[serde(deserialize_with = "de::flag")]
    pub protected: bool,
    /// The volume this is a linked clone of.
    #[serde(deserialize_with = "de::opt_text")]
    pub parent: Option<String>,
    /// What encrypted it, on a PBS.
    #[serde(deserialize_with = "de::opt_text")]
    pub encrypted: Option<String>,
    /// `{state, upid}` of the last verification, on a PBS.
    pub verification: Option<Value>,
}

/// One volume in detail. Sizes in bytes: not those of [`Volume`], which lists are exact about. Of an archive in a file this is what
/// `qemu-img` takes it for, format `raw` and its size rounded up to 512 (`proxmox-ve.md` §18.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VolumeInfo {
    /// Where it lies on the node.
    #[serde(deserialize_with = "de::text")]
    pub path: String,
    /// Its (virtual) size.
    #[serde(deserialize_with = "de::u64")]
    pub size: u64,
    /// Space it takes.
    #[serde(deserialize_with = "de::opt_u64")]
    pub used: Option<u64>,
    /// Its format.
    #[serde(deserialize_with = "de::text")]
    pub format: String,
    /// All of a backup's notes.
    #[serde(deserialize_with = "de::opt_text")]
    pub notes: Option<String>,
    /// Whether the backup is kept from pruning.
    #[serde(deserialize_with = "de::flag")]
    pub protected: bool,
}

impl Client {
    /// The storages a node sees, of those we may use (Datastore.Audit or Datastore.AllocateSpace on
    /// `/storage/STORAGE`; others are left out).
    ///
    /// # Errors
    /// 595/596 while the node is down or a dead storage blocks it.
    pub async fn storages(&self, node: &str) -> Result<Vec<Storage>> {
        self.get(&api_path(["nodes", node, "storage"]), Params::new()).await
    }

    /// How the storages are configured; those without Datastore.Audit or Datastore.AllocateSpace are left out.
    ///
    /// # Errors
    /// 403 where a version refuses instead.
    pub async fn storage_index(&self) -> Result<Vec<StorageDefinition>> {
        self.get("/storage", Params::new()).await
    }

    /// What is on a storage, of one kind (`backup`, `images`, …) and guest, or all. Right: Datastore.Audit or
    /// Datastore.AllocateSpace on it; another guest's volumes are left out without VM.Audit or VM.Backup on it.
    ///
    /// # Errors
    /// [`crate::Missing::Storage`]; 500 while it is off line. A dead NFS server takes its time.
    pub async fn storage_content(
        &self,
        node: &str,
        storage: &str,
        content: Option<&str>,
        vmid: Option<u32>,
    ) -> Result<Vec<Volume>> {
        let path = api_path(["nodes", node, "storage", storage, "content"]);
        self.get(&path, Params::new().opt("content", content).opt("vmid", vmid)).await
    }

    /// One volume. Rights as for reading it (backups: VM.Backup on the guest, or Datastore.Allocate).
    ///
    /// # Errors
    /// [`crate::Missing::Volume`].
    pub async fn volume(&self, node: &str, volid: &str) -> Result<VolumeInfo> {
        self.get(&volume_path(node, volid), Params::new()).await
    }

    /// Keeps a backup from pruning and removal, or no longer. Rights: Datastore.AllocateSpace and VM.Backup on the
    /// guest, or Datastore.Allocate.
    ///
    /// # Errors
    /// As [`Client::volume`].
    pub async fn protect_volume(&self, node: &str, volid: &str, protected: bool) -> Result<()> {
        self.put(&volume_path(node, volid), Params::new().flag("protected", protected)).await.map(|_| ())
    }

    /// Replaces a backup's notes. Rights as [`Client::protect_volume`].
    ///
    /// # Errors
    /// As [`Client::volume`].
    pub async fn set_volume_notes(&self, node: &str, volid: &str, notes: &str) -> Result<()> {
        self.put(&volume_path(node, volid), Params::new().set("notes", notes)).await.map(|_| ())
    }

    /// Removes a volume; None if it was done at once. The removal of a protected backup fails in the task
    /// (`proxmox-ve.md` §17.c5). Rights: Datastore.Allocate, or Datastore.AllocateSpace and VM.Backup on the guest,
    /// which ends with the guest (§17).
    ///
    /// # Errors
    /// 403; [`crate::Missing::Volume`].
    pub async fn delete_volume(&self, node: &str, volid: &str) -> Result<Option<Upid>> {
        let path = volume_path(node, volid);
        let data = self.delete(&path, Params::new()).await?;
        self.as_opt_upid("DELETE", &path, &data)
    }
}

fn volume_path(node: &str, volid: &str) -> String {
    let storage = volid.split_once(':').map_or(volid, |(storage, _)| storage);
    api_path(["nodes", node, "storage", storage, "content", volid])
}

//! Owns the calls that back up and restore.

use crate::{Client, Params, Result, Upid, VmConfig, api_path};

impl Client {
    /// Starts a backup on a node (`vmid`, `storage`, `mode`, `compress`, `remove=0`, `protected=1`, `lockwait`,
    /// `notes-template`, …). One runs per node at a time. Rights: VM.Backup on the guest, Datastore.AllocateSpace on
    /// the storage; `bwlimit`, `ionice` and `performance`: Sys.Modify on `/`.
    ///
    /// # Errors
    /// [`crate::Error::NoTask`] if the guest is not on that node; most else is told by the task, often as
    /// `job errors` with the reason in its log.
    pub async fn vzdump(&self, node: &str, params: Params) -> Result<Upid> {
        self.post_task(&api_path(["nodes", node, "vzdump"]), params).await
    }

    /// The configuration inside an archive, as its text. Rights: Datastore.AllocateSpace on the storage and VM.Backup
    /// on the *original* vmid (or Datastore.Allocate).
    ///
    /// # Errors
    /// [`crate::Missing::Volume`]; 403 where the original guest is not ours (`proxmox-ve.md` §17).
    pub async fn extract_config_text(&self, node: &str, volid: &str) -> Result<String> {
        self.get(&api_path(["nodes", node, "vzdump", "extractconfig"]), Params::new().set("volume", volid)).await
    }

    /// The configuration inside an archive. Rights and errors as [`Client::extract_config_text`].
    ///
    /// # Errors
    /// As [`Client::extract_config_text`].
    pub async fn extract_config(&self, node: &str, volid: &str) -> Result<VmConfig> {
        Ok(VmConfig::from_conf(&self.extract_config_text(node, volid).await?))
    }

    /// Starts a restore on a node: `vmid` and `archive`, then `storage`, `unique`, `pool` and any key but drives as
    /// an override. The vmid is taken once this returns; a failed restore leaves a stub with it, to be deleted.
    /// Never with `force`: it destroys what is there. Rights: VM.Allocate on the new vmid or its pool,
    /// Datastore.AllocateSpace, SDN.Use, VM.Config.* of overrides; for another vmid VM.Backup on the original one.
    ///
    /// # Errors
    /// [`crate::Error::is_already_exists`]; [`crate::Missing::Volume`]; 403. Most else is told by the task.
    pub async fn restore_vm(&self, node: &str, params: Params) -> Result<Upid> {
        self.post_task(&api_path(["nodes", node, "qemu"]), params).await
    }
}

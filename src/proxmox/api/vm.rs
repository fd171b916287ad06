//! Owns the calls about one QEMU guest.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::guest_path;
use crate::{Client, Params, Result, Upid, VmConfig, api_path, de};

/// What [`Client::move_disk`] moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeMove<'a> {
    /// Its key in the configuration: `scsi0`, `efidisk0`, …
    pub slot: &'a str,
    /// The storage it goes to.
    pub storage: &'a str,
    /// `raw`, `qcow2` or `vmdk`: its own where not set.
    pub format: Option<&'a str>,
    /// Digest of the configuration that this was decided on.
    pub digest: Option<&'a str>,
}

/// A guest's state now. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct VmStatus {
    /// `running` or `stopped`.
    #[serde(deserialize_with = "de::text")]
    pub status: String,
    /// QEMU's own word: `running`, `paused`, `prelaunch` (a stopped guest under backup), `io-error`, …
    #[serde(deserialize_with = "de::opt_text")]
    pub qmpstatus: Option<String>,
    /// Its name.
    #[serde(deserialize_with = "de::opt_text")]
    pub name: Option<String>,
    /// QEMU's process while running.
    #[serde(deserialize_with = "de::opt_u64")]
    pub pid: Option<u64>,
    /// Seconds since start.
    #[serde(deserialize_with = "de::opt_u64")]
    pub uptime: Option<u64>,
    /// The lock.
    #[serde(deserialize_with = "de::opt_text")]
    pub lock: Option<String>,
    /// Whether it is a template.
    #[serde(deserialize_with = "de::flag")]
    pub template: bool,
    /// Tags as PVE writes them.
    #[serde(deserialize_with = "de::opt_text")]
    pub tags: Option<String>,
    /// vcpus.
    #[serde(deserialize_with = "de::opt_u64")]
    pub cpus: Option<u64>,
    /// Load, 0 to 1.
    #[serde(deserialize_with = "de::opt_f64")]
    pub cpu: Option<f64>,
    /// Memory in use.
    #[serde(deserialize_with = "de::opt_u64")]
    pub mem: Option<u64>,
    /// Memory.
    #[serde(deserialize_with = "de::opt_u64")]
    pub maxmem: Option<u64>,
    /// The machine type it runs with.
    #[serde(rename = "running-machine", deserialize_with = "de::opt_text")]
    pub running_machine: Option<String>,
    /// The QEMU version it runs with.
    #[serde(rename = "running-qemu", deserialize_with = "de::opt_text")]
    pub running_qemu: Option<String>,
    /// Whether the agent is switched on.
    #[serde(deserialize_with = "de::flag")]
    pub agent: bool,
    /// HA.
    pub ha: HaManaged,
}

/// HA, as a guest's status tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HaManaged {
    /// Whether HA manages the guest.
    #[serde(deserialize_with = "de::flag")]
    pub managed: bool,
    /// The state asked of it.
    #[serde(deserialize_with = "de::opt_text")]
    pub state: Option<String>,
}

impl VmStatus {
    /// Whether a QEMU process is there. A stopped guest under backup has one, too; see [`VmStatus::qmpstatus`].
    pub fn is_running(&self) -> bool {
        self.status == "running"
    }

    /// Whether the guest itself runs: not where a backup has started QEMU for a guest that is stopped (`proxmox-ve.md` §6).
    pub fn runs_itself(&self) -> bool {
        self.is_running() && self.qmpstatus.as_deref() != Some("prelaunch")
    }

    /// Whether its processor stands still.
    pub fn is_paused(&self) -> bool {
        self.qmpstatus.as_deref() == Some("paused")
    }

    /// Whether there is none.
    pub fn is_stopped(&self) -> bool {
        self.status == "stopped"
    }
}

/// A key with what is and what is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PendingValue {
    /// The key.
    pub key: String,
    /// What is.
    #[serde(deserialize_with = "de::opt_text")]
    pub value: Option<String>,
    /// What is to be after the next full stop and start.
    #[serde(deserialize_with = "de::opt_text")]
    pub pending: Option<String>,
    /// Whether it is to be removed.
    #[serde(deserialize_with = "de::nonzero")]
    pub delete: bool,
}

impl PendingValue {
    /// Whether something is to change.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some() || self.delete
    }
}

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Its name; `current` is not a snapshot but now.
    pub name: String,
    /// When it was taken, in seconds since 1970.
    #[serde(deserialize_with = "de::opt_u64")]
    pub snaptime: Option<u64>,
    /// Whether it holds the memory.
    #[serde(deserialize_with = "de::flag")]
    pub vmstate: bool,
    /// The one it is based on.
    #[serde(deserialize_with = "de::opt_text")]
    pub parent: Option<String>,
}

fn seconds(duration: Duration) -> u64 {
    // PVE takes whole seconds and reads 0 as "at once".
    duration.as_secs().max(1)
}

impl Client {
    /// A guest's configuration: with pending changes merged in, or what is in force now (`current`). Right: VM.Audit.
    ///
    /// # Errors
    /// [`crate::Error::is_not_found`] if it is not on this node.
    pub async fn vm_config(&self, node: &str, vmid: u32, current: bool) -> Result<VmConfig> {
        let params = if current { Params::new().flag("current", true) } else { Params::new() };
        self.get(&guest_path(node, vmid, &["config"]), params).await
    }

    /// A guest's configuration with pending changes apart. Right: VM.Audit.
    ///
    /// # Errors
    /// As [`Client::vm_config`].
    pub async fn vm_pending(&self, node: &str, vmid: u32) -> Result<Vec<PendingValue>> {
        self.get(&guest_path(node, vmid, &["pending"]), Params::new()).await
    }

    /// A guest's state now; the one to decide by. Right: VM.Audit.
    ///
    /// # Errors
    /// As [`Client::vm_config`].
    pub async fn vm_status(&self, node: &str, vmid: u32) -> Result<VmStatus> {
        self.get(&guest_path(node, vmid, &["status", "current"]), Params::new()).await
    }

    /// A guest's snapshots, without the entry for now. Right: VM.Audit.
    ///
    /// # Errors
    /// As [`Client::vm_config`].
    pub async fn snapshots(&self, node: &str, vmid: u32) -> Result<Vec<Snapshot>> {
        let all: Vec<Snapshot> = self.get(&guest_path(node, vmid, &["snapshot"]), Params::new()).await?;
        Ok(all.into_iter().filter(|snapshot| snapshot.name != "current").collect())
    }

    /// Starts to make a guest; its vmid is taken once this returns. Rights: VM.Allocate on the vmid or pool,
    /// Datastore.AllocateSpace, SDN.Use, VM.Config.* of what is set.
    ///
    /// # Errors
    /// [`crate::Error::is_already_exists`]; 403; [`crate::Error::is_param_invalid`];
    /// [`crate::Error::is_root_only`]; [`crate::Error::is_no_quorum`].
    pub async fn create_vm(&self, node: &str, params: Params) -> Result<Upid> {
        self.post_task(&api_path(["nodes", node, "qemu"]), params).await
    }

    /// Makes a change again while another operation holds the guest's file: such a refusal says that nothing was done.
    async fn once_free<T, F>(&self, mut change: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let begun = Instant::now();
        loop {
            match change().await {
                Err(error) if error.is_held() && begun.elapsed() < self.settings().held_patience => {
                    tokio::time::sleep(self.settings().task_poll_max).await;
                }
                done => return done,
            }
        }
    }

    /// Changes a configuration and waits for it (PVE's own hop ends after 30 s; with disks use
    /// [`Client::set_config_async`]). On a running guest some changes stay pending. Rights: VM.Config.* of the keys.
    ///
    /// # Errors
    /// [`crate::Error::is_digest_mismatch`]; [`crate::Error::is_locked`]; 400 for a change that can't be plugged.
    pub async fn set_config(&self, node: &str, vmid: u32, params: Params, digest: Option<&str>) -> Result<()> {
        let (path, params) = (guest_path(node, vmid, &["config"]), params.opt("digest", digest));
        self.once_free(|| self.put(&path, params.clone())).await.map(|_| ())
    }

    /// Starts to change a configuration; None if it was done at once. Rights and errors as [`Client::set_config`].
    ///
    /// # Errors
    /// As [`Client::set_config`], some of them in the task: [`crate::Error::is_held`] too.
    pub async fn set_config_async(
        &self,
        node: &str,
        vmid: u32,
        params: Params,
        digest: Option<&str>,
    ) -> Result<Option<Upid>> {
        let (path, params) = (guest_path(node, vmid, &["config"]), params.opt("digest", digest));
        let data = self.once_free(|| self.post(&path, params.clone())).await?;
        self.as_opt_upid("POST", &path, &data)
    }

    /// Starts to grow a disk to `size` (`40G`, or `+8G`); None if it was done at once. Rights: VM.Config.Disk and
    /// Datastore.AllocateSpace.
    ///
    /// # Errors
    /// 500 `shrinking disks is not supported`; [`crate::Error::is_digest_mismatch`].
    pub async fn resize_disk(
        &self,
        node: &str,
        vmid: u32,
        slot: &str,
        size: &str,
        digest: Option<&str>,
    ) -> Result<Option<Upid>> {
        let path = guest_path(node, vmid, &["resize"]);
        let params = Params::new().set("disk", slot).set("size", size).opt("digest", digest);
        let data = self.put(&path, params).await?;
        self.as_opt_upid("PUT", &path, &data)
    }

    /// Starts to move a volume to another storage, or on its own to another `format`, and removes the old one. EFI variables, TPM
    /// state (of a stopped guest) and the cloud-init drive can be moved too, other CD-ROM drives can't. A format that the storage
    /// doesn't have becomes the storage's own without a word. Rights: VM.Config.Disk and Datastore.AllocateSpace on the new one.
    ///
    /// # Errors
    /// [`crate::Error::is_digest_mismatch`]; [`crate::Missing::Storage`]; 400 where neither storage nor format is another.
    pub async fn move_disk(&self, node: &str, vmid: u32, volume: VolumeMove<'_>) -> Result<Upid> {
        let params = Params::new()
            .set("disk", volume.slot)
            .set("storage", volume.storage)
            .flag("delete", true)
            .opt("format", volume.format)
            .opt("digest", volume.digest);
        self.post_task(&guest_path(node, vmid, &["move_disk"]), params).await
    }

    /// Starts a guest. Nearly everything is checked in the task, even whether it exists (`proxmox-ve.md` §5.2).
    /// Under HA the task ends when the wish is noted: poll [`Client::vm_status`]. `timeout` is PVE's for the start.
    /// Right: VM.PowerMgmt.
    ///
    /// # Errors
    /// 403; [`crate::Error::is_no_quorum`].
    pub async fn start_vm(&self, node: &str, vmid: u32, timeout: Option<Duration>) -> Result<Upid> {
        let params = Params::new().opt("timeout", timeout.map(seconds));
        self.post_task(&guest_path(node, vmid, &["status", "start"]), params).await
    }

    /// Lets a paused guest go on. Right: VM.PowerMgmt.
    ///
    /// # Errors
    /// 403; [`crate::Error::is_no_quorum`].
    pub async fn resume_vm(&self, node: &str, vmid: u32) -> Result<Upid> {
        self.post_task(&guest_path(node, vmid, &["status", "resume"]), Params::new()).await
    }

    /// Asks the guest to shut down within `timeout` (PVE's default 60 s); with `force_stop` it is stopped hard then,
    /// else the task fails and it runs on. Right: VM.PowerMgmt.
    ///
    /// # Errors
    /// 500 `VM is paused - cannot shutdown`.
    pub async fn shutdown_vm(
        &self,
        node: &str,
        vmid: u32,
        timeout: Option<Duration>,
        force_stop: bool,
    ) -> Result<Upid> {
        let params = Params::new().opt("timeout", timeout.map(seconds));
        let params = if force_stop { params.flag("forceStop", true) } else { params };
        self.post_task(&guest_path(node, vmid, &["status", "shutdown"]), params).await
    }

    /// Stops a guest hard; nothing to do for a stopped one. Right: VM.PowerMgmt.
    ///
    /// # Errors
    /// 403.
    pub async fn stop_vm(&self, node: &str, vmid: u32, timeout: Option<Duration>) -> Result<Upid> {
        let params = Params::new().opt("timeout", timeout.map(seconds));
        self.post_task(&guest_path(node, vmid, &["status", "stop"]), params).await
    }

    /// Asks the guest to shut down and starts it again, which applies pending changes. Right: VM.PowerMgmt.
    ///
    /// # Errors
    /// Told by the task.
    pub async fn reboot_vm(&self, node: &str, vmid: u32, timeout: Option<Duration>) -> Result<Upid> {
        let params = Params::new().opt("timeout", timeout.map(seconds));
        self.post_task(&guest_path(node, vmid, &["status", "reboot"]), params).await
    }

    /// Removes a guest and every volume its configuration names, unused ones too. Never with `purge` or
    /// `destroy-unreferenced-disks`: with a storage two clusters share, that frees the other's disks
    /// (`proxmox-ve.md` §13 G6, §17). Right: VM.Allocate.
    ///
    /// # Errors
    /// 500 if it runs, is protected, under HA or replicated; [`crate::Error::is_not_found`]. A lock is told by the
    /// task.
    pub async fn delete_vm(&self, node: &str, vmid: u32) -> Result<Upid> {
        let path = guest_path(node, vmid, &[]);
        let data = self.delete(&path, Params::new()).await?;
        self.as_upid("DELETE", &path, &data)
    }

    /// Starts to clone a guest (`newid`, `name`, `full`, `storage`, `pool`, `target`, …). Rights: VM.Clone on it,
    /// VM.Allocate on the new vmid or pool, Datastore.AllocateSpace, SDN.Use.
    ///
    /// # Errors
    /// [`crate::Error::is_already_exists`].
    pub async fn clone_vm(&self, node: &str, vmid: u32, params: Params) -> Result<Upid> {
        self.post_task(&guest_path(node, vmid, &["clone"]), params).await
    }

    /// Turns a stopped guest into a template, converting its disks; None if it was done at once. Not the fence,
    /// which only sets the flag (`proxmox-ve.md` §16). Right: VM.Allocate.
    ///
    /// # Errors
    /// 500 if it runs.
    pub async fn convert_to_template(&self, node: &str, vmid: u32) -> Result<Option<Upid>> {
        let path = guest_path(node, vmid, &["template"]);
        let data = self.post(&path, Params::new()).await?;
        self.as_opt_upid("POST", &path, &data)
    }

    /// Starts to move a guest to another cluster. `target_endpoint` holds that cluster's token
    /// ([`Client::migration_token`]), which root of `node` can read. Right: VM.Migrate; there
    /// Sys.Incoming on `/` and more (`proxmox-ve.md` §1.4, §9).
    ///
    /// # Errors
    /// 500 where this node cannot reach the other cluster; 400 for a guest under HA.
    pub async fn remote_migrate(
        &self,
        node: &str,
        vmid: u32,
        target_endpoint: secrecy::SecretString,
        params: Params,
    ) -> Result<Upid> {
        let params = params.secret("target-endpoint", target_endpoint);
        self.post_task(&guest_path(node, vmid, &["remote_migrate"]), params).await
    }

    /// Whether the guest's agent answers. Right: VM.GuestAgent.Audit (PVE 8: VM.Monitor).
    ///
    /// # Errors
    /// 403, unreachable; an agent that does not answer is `false`.
    pub async fn agent_ping(&self, node: &str, vmid: u32) -> Result<bool> {
        match self.post(&guest_path(node, vmid, &["agent", "ping"]), Params::new()).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(500) && !error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

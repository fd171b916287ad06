//! Owns the step in which Proxmox VE itself sends a machine to another cluster (`remote_migrate`), and what becomes of the source after it.
//!
//! It leaves the source stopped and locked (`lock: migrate`), which keeps everybody from starting it and no token can change
//! (`proxmox-ve.md` §9). So a machine that was carried is never taken back, also before "live": what would be started is locked. Whether
//! it was carried is read off both machines ([`super::ends`]), never off a task that may have been lost.
use federation::migration::Carried;
use federation::model::Method;
use proxmox::{Params, Upid, VmConfig};

use super::{Move, kept_for, preflight, until};
use crate::failure::{Failure, FailureKind};
use crate::guest::rfc3339;
use crate::journal::Place;
use crate::notes::{self, Mark};

/// The lock that a migration takes, and leaves on the source when it succeeds (`proxmox-ve.md` §9).
pub(crate) const LOCK: &str = "migrate";

impl Move<'_> {
    /// Whether Proxmox VE itself sends the machine over.
    pub(super) fn is_direct(&self) -> bool {
        self.journal.method != Method::BackupRestore
    }

    /// Whether it does so while the machine runs.
    pub(super) fn is_online(&self) -> bool {
        self.journal.method == Method::StorageMigration
    }

    pub(super) async fn carry(&mut self) -> Result<(), Failure> {
        let (from, to) = (self.from(), self.journal.to.clone());
        // Before it was told to there is nothing to see, and it is told once.
        if self.journal.restored {
            return match self.carried().await? {
                Carried::Whole => self.dress(&to).await,
                _ => Err(Failure::new(&self.what)
                    .at(format!("{from}: somebody changed what Proxmox VE had left"))
                    .next("see what became of it, and apply again")),
            };
        }
        self.note_on_source(&from).await?;
        let upid = self.send(&from).await?;
        self.journal.upid = Some(upid.to_string());
        self.write().await?;
        let waited = self.wait_source(&upid).await;
        if let Err(failure) = &waited
            && failure.kind == FailureKind::Interrupted
        {
            return waited;
        }
        self.target.changed().await;
        if self.carried().await? == Carried::Whole {
            return self.dress(&to).await;
        }
        Err(waited.err().unwrap_or_else(|| {
            Failure::new(&self.what)
                .at(format!("{to}: migration {upid} ended well, and the machine is not there"))
                .next("look at both, and apply again")
        }))
    }

    /// Afterwards nobody can write the source's notes: what people have to know stands in them before. They go along, and are put right
    /// on the target.
    async fn note_on_source(&self, from: &Place) -> Result<(), Failure> {
        let config = self.source_config(false).await?;
        let split = notes::split(config.description().unwrap_or_default());
        if split.mark.op.as_deref() == Some(self.journal.op.as_str()) && split.mark.line.is_some() {
            return Ok(());
        }
        let since = rfc3339(self.source.now());
        let line = format!(
            "Being moved to cluster {} (vmid {}) since {since}. If it is locked it has been: do not unlock, do not start.",
            self.journal.to.cluster, self.journal.to.vmid
        );
        let mark = Mark { op: Some(self.journal.op.clone()), line: Some(line), ..split.mark };
        let params = Params::new().set("description", self.notes(from, &split.text, &mark)?);
        let set = self.source.client.set_config(&from.node, from.vmid, params, config.digest()).await;
        set.map_err(|error| self.at(from, "what becomes of it can't be noted on it", error))
    }

    /// Has Proxmox VE begin. The token goes to the source cluster, in the call alone.
    async fn send(&mut self, from: &Place) -> Result<Upid, Failure> {
        let to = self.journal.to.clone();
        let entry = preflight::entry(&self.target, &to.node).await.map_err(|found| {
            Failure::new(&self.what)
                .at(format!("{to}: {}", found.text))
                .next(format!("{}, and apply again", found.next))
        })?;
        let source = self.source_config(true).await?;
        let limit = self.path.max_bandwidth.map(|limit| limit.to_kib_per_second());
        let params = Params::new()
            .set("target-vmid", to.vmid)
            .set("target-storage", self.journal.storage.as_deref().unwrap_or_default())
            .set("target-bridge", preflight::bridges(&source, &self.resolved))
            .flag("online", self.is_online())
            .flag("delete", false)
            .opt("bwlimit", limit);
        self.make_way().await?;
        self.journal.restored = true;
        self.journal.restore_at = self.source.now();
        self.write().await?;
        match self.source.client.remote_migrate(&from.node, from.vmid, entry, params).await {
            Ok(upid) => Ok(upid),
            Err(error) if error.is_ambiguous() => match self.begun(from).await? {
                Some(upid) => Ok(upid),
                None => Err(self.at(from, "Proxmox VE did not begin to send it", error)),
            },
            Err(error) => {
                self.journal.restored = false;
                Err(self.at(from, "Proxmox VE does not send it", error))
            }
        }
    }

    /// Gives what was sent what a restore is told: name, pool, and, where it doesn't run, networks with their links down.
    async fn dress(&mut self, to: &Place) -> Result<(), Failure> {
        self.join_pool(to).await?;
        let config = self.target.client.vm_config(&to.node, to.vmid, true).await;
        let config = config.map_err(|error| self.at(to, "its configuration can't be read", error))?;
        let mut volumes = preflight::carried(&config);
        volumes.extend(config.unused());
        self.journal.volumes = volumes.into_values().map(|disk| disk.volume().to_owned()).collect();
        self.write().await?;
        self.target.changed().await;
        if self.is_online() {
            return Ok(());
        }
        let split = notes::split(config.description().unwrap_or_default());
        let line = format!("Being moved here from cluster {}: not the machine yet, do not start.", self.from().cluster);
        let mark =
            Mark { op: Some(self.journal.op.clone()), line: Some(line), epoch: None, retired: None, ..split.mark };
        let mut params =
            Params::new().opt("name", self.spec.written_name()).set("description", self.notes(to, &split.text, &mark)?);
        // Without it, what came of it: bridges that nobody names were mapped beside the others.
        let source = self.source_if_there().await?.unwrap_or_else(|| config.clone());
        for (slot, nic) in self.nics_there(&source).await {
            params = params.set(&slot, nic);
        }
        for (key, value) in self.addresses() {
            params = params.set(&key, value);
        }
        let set = self.target.client.set_config(&to.node, to.vmid, params, config.digest()).await;
        set.map_err(|error| self.at(to, "what was sent can't be set up", error))
    }

    async fn join_pool(&self, to: &Place) -> Result<(), Failure> {
        let Some(pool) = &self.spec.pool else { return Ok(()) };
        let cant = |error| self.at(to, "it can't be put into its pool", error);
        let overview = self.target.fresh().await.map_err(cant)?;
        if overview.guest(to.vmid).and_then(|guest| guest.pool.as_deref()) == Some(pool.as_str()) {
            return Ok(());
        }
        self.target.client.add_pool_members(pool.as_str(), &[to.vmid], false).await.map_err(cant)
    }

    /// The source stays as Proxmox VE left it: stopped and locked, which no token can change. Where a person has unlocked it meanwhile, it
    /// is fenced and kept as any retired source.
    pub(super) async fn leave_source(&mut self, from: &Place) -> Result<(), Failure> {
        let config = match self.source.config(from).await {
            Ok(config) => Some(config),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if error.is_permission_denied() => None,
            Err(error) => return Err(self.at(from, "the source can't be read", error)),
        };
        if config.as_ref().is_some_and(|config| !self.is_of_machine(config)) {
            return Ok(());
        }
        self.retire_to_pool(&self.source, from).await;
        if let Some(config) = config.as_ref().filter(|config| config.lock() != Some(LOCK)) {
            let config = self.fence_unlocked(from, config).await?;
            // It was startable for a while.
            let until = until(self.source.now(), kept_for(&self.spec.migration));
            return self.keep(&self.source, from, &self.journal.to, &config, until).await;
        }
        let protected = config.is_none_or(|config| config.protection());
        let unprotect = if protected { format!("qm set {} --protection 0 && ", from.vmid) } else { String::new() };
        let commands = format!("on {}: qm unlock {1} && {unprotect}qm destroy {1}", from.node, from.vmid);
        self.warnings.push(
            Failure::new(format!("The source of the move stays on {}", from.cluster))
                .at(format!(
                    "{from}: it is stopped and locked (migrate); no token can remove it, and nothing starts it"
                ))
                .next(format!("once you are content with the machine on {}: {commands}", self.journal.to.cluster)),
        );
        Ok(())
    }

    /// Keeps a source that a person has unlocked from being started beside the target.
    ///
    /// # Errors
    /// Somebody runs it: a target that doesn't run yet is not started.
    pub(super) async fn source_stays_down(&self) -> Result<(), Failure> {
        let from = self.from();
        // One that can't be asked was stopped and locked when it was last seen.
        let Ok(config) = self.source.config(&from).await else { return Ok(()) };
        if self.is_of_machine(&config) && config.lock() != Some(LOCK) {
            self.fence_unlocked(&from, &config).await?;
        }
        Ok(())
    }

    /// The source's configuration; none where a person has removed it.
    pub(super) async fn source_if_there(&self) -> Result<Option<VmConfig>, Failure> {
        let from = self.from();
        match self.source.config(&from).await {
            Ok(config) => Ok(Some(config).filter(|config| self.is_of_machine(config))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.at(&from, "its configuration can't be read", error)),
        }
    }

    pub(super) fn is_of_machine(&self, config: &VmConfig) -> bool {
        config.uuid().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.journal.uuid))
    }

    async fn fence_unlocked(&self, from: &Place, config: &VmConfig) -> Result<VmConfig, Failure> {
        if let Some(lock) = config.lock() {
            return Err(Failure::new(&self.what)
                .at(format!("{from}: somebody unlocked the source, and now it is locked ({lock})"))
                .next("wait until that ends, and apply again"));
        }
        if !config.template() {
            let params = Params::new().flag("onboot", false).flag("template", true).flag("protection", true);
            let set = self.source.client.set_config(&from.node, from.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(from, "it was unlocked, and can't be fenced", error))?;
        }
        let config = self.source_config(true).await?;
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        let status = status.map_err(|error| self.at(from, "its status can't be read", error))?;
        if config.template() && status.is_stopped() {
            return Ok(config);
        }
        // What would be in force at its next stop must not be.
        self.revert_fence_of(&self.source, from).await?;
        Err(Failure::new(&self.what).at(format!("{from}: somebody unlocked and started it")).next(format!(
            "stop it on {}, and keep what it wrote since: it is on no other copy; then apply again",
            from.node
        )))
    }
}

//! Owns the steps on the target up to its start: transfer, restore, verify, start.
use std::collections::BTreeMap;

use federation::migration::Carried;
use proxmox::{Params, TaskFilter, Upid, VmConfig};

use super::ends::CLOCKS;
use super::preflight::{Mac, holds_a_medium, mac_there, made_up};
use super::{Move, archive, verify};
use crate::failure::Failure;
use crate::journal::Place;
use crate::notes::{self, Mark};

impl Move<'_> {
    /// Waits until the target sees the archive, whole.
    pub(super) async fn await_archive(&mut self) -> Result<(), Failure> {
        let archive = self.archive_on_target()?;
        let size = self.size_on_source().await?;
        let to = self.journal.to.clone();
        let until = tokio::time::Instant::now() + self.fleet.settings().archive_visible.0;
        let mut pause = self.target.client.settings().task_poll_first;
        loop {
            let seen = archive::find(&self.target, &to, &self.transfer.1, self.from().vmid, &archive).await;
            match seen.map_err(|error| self.at(&to, "the transfer storage can't be listed", error))? {
                Some(volume) if volume.size == size => {
                    self.bytes = Some(size);
                    return Ok(());
                }
                _ if tokio::time::Instant::now() >= until => {
                    return Err(Failure::new(&self.what)
                        .at(format!("{to}: archive {archive} did not show up whole on storage {}", self.transfer.1))
                        .next("see whether both clusters mount the same storage, and apply again"));
                }
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(self.target.client.settings().task_poll_max);
        }
    }

    /// The archive's size in bytes, as the source lists it.
    async fn size_on_source(&self) -> Result<u64, Failure> {
        let from = self.from();
        let volid = self.journal.archive.as_deref().unwrap_or_default();
        match archive::find(&self.source, &from, &self.transfer.0, from.vmid, volid).await {
            Ok(Some(volume)) => Ok(volume.size),
            Ok(None) => Err(Failure::new(&self.what)
                .at(format!("{from}: archive {volid} is not listed on storage {}", self.transfer.0))
                .next("see what became of it, and apply again")),
            Err(error) => Err(self.at(&from, "the transfer storage can't be listed", error)),
        }
    }

    pub(super) async fn restore(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        if let Some(upid) = self.our_restore(&to).await? {
            self.wait_target(&upid).await?;
            return self.restored(&to, &upid).await;
        }
        let params = self.restore_params(&to).await?;
        self.make_way().await?;
        self.journal.restored = true;
        self.journal.restore_at = self.target.now();
        self.write().await?;
        let upid = match self.target.client.restore_vm(&to.node, params).await {
            Ok(upid) => upid,
            Err(error) => {
                self.journal.restored = error.is_ambiguous();
                return Err(self.at(&to, "the archive can't be restored", error));
            }
        };
        self.journal.upid = Some(upid.to_string());
        self.write().await?;
        self.target.changed().await;
        self.wait_target(&upid).await?;
        self.restored(&to, &upid).await
    }

    /// Our restore, if it was started: its UPID from the journal, else the newest restore of this VMID since the journal said
    /// that we would start one, unless its log names another archive.
    pub(super) async fn our_restore(&self, to: &Place) -> Result<Option<Upid>, Failure> {
        if !self.journal.restored {
            return Ok(None);
        }
        let noted = self.journal.upid.as_deref().and_then(|text| text.parse::<Upid>().ok());
        if let Some(upid) = noted.filter(|upid| upid.kind == "qmrestore") {
            return Ok(Some(upid));
        }
        let filter = TaskFilter {
            vmid: Some(to.vmid),
            kind: Some("qmrestore".into()),
            since: Some(self.journal.restore_at.saturating_sub(CLOCKS)),
            ..TaskFilter::default()
        };
        let tasks = self.target.client.find_tasks(&to.node, &filter).await;
        let tasks = tasks.map_err(|error| self.at(to, "the node's tasks can't be read", error))?;
        let Some(upid) = tasks.into_iter().map(|task| task.upid).max_by_key(|upid| upid.starttime) else {
            return Ok(None);
        };
        let log = self.target.client.task_log_all(&upid).await;
        let log = log.map_err(|error| self.at(to, "the restore's log can't be read", error))?;
        let file = self.archive_on_target()?;
        let file = file.rsplit('/').next().unwrap_or_default();
        // Each image of a backup server has a line of its own, which names no archive (`proxmox-ve.md` §7).
        let names_one = |line: &&String| {
            line.starts_with("restore vma archive") || line.starts_with("restore proxmox backup image")
        };
        let other = log.iter().filter(names_one).any(|line| !line.contains(file));
        Ok((!other).then_some(upid))
    }

    /// Notes which volumes our restore made: the only ones that may ever be removed.
    pub(super) async fn restored(&mut self, to: &Place, upid: &Upid) -> Result<(), Failure> {
        let log = self.target.client.task_log_all(upid).await;
        let log = log.map_err(|error| self.at(to, "the restore's log can't be read", error))?;
        self.journal.volumes = archive::new_volumes(&log);
        self.write().await
    }

    pub(super) async fn restore_params(&self, to: &Place) -> Result<Params, Failure> {
        let source = self.source_config(true).await?;
        let mut params = Params::new()
            .set("vmid", to.vmid)
            .set("archive", self.archive_on_target()?)
            .opt("name", self.spec.written_name())
            .flag("unique", false)
            .flag("onboot", false)
            .opt("pool", self.spec.pool.as_ref())
            .opt("storage", self.journal.storage.as_ref().or_else(|| self.resolved.main_storage()));
        let split = notes::split(source.description().unwrap_or_default());
        let from = self.from().cluster;
        let line = if self.is_recovery() {
            format!("Being recovered here after the loss of cluster {from}: not whole yet, do not start.")
        } else {
            format!("Being moved here from cluster {from}: not the machine yet, do not start.")
        };
        let mark =
            Mark { op: Some(self.journal.op.clone()), line: Some(line), epoch: None, retired: None, ..split.mark };
        params = params.set("description", self.notes(to, &split.text, &mark)?);
        for (slot, nic) in self.nics_there(&source).await {
            params = params.set(&slot, nic);
        }
        if self.is_recovery() {
            // Nobody can eject what is in there any more, and without it the machine would not start.
            let disks = source.disks();
            for slot in disks.iter().filter(|(_, disk)| holds_a_medium(disk)).map(|(slot, _)| slot) {
                params = params.set(slot, "none,media=cdrom");
            }
        }
        // The guest takes them when it starts there; later it would have to be restarted for them.
        for (key, value) in self.addresses() {
            params = params.set(&key, value);
        }
        let limit = self.path.max_bandwidth.map(|limit| limit.to_kib_per_second());
        Ok(params.opt("bwlimit", limit))
    }

    /// The network devices as they are to be there, by their keys: mapped, their links down, with the addresses they get.
    pub(super) async fn nics_there(&self, source: &VmConfig) -> Vec<(String, String)> {
        let macs = self.macs(source).await;
        let there = |(slot, nic): (String, proxmox::NicSpec)| {
            let mut nic = self.mapped(&slot, nic);
            if let Some(mac) = macs.get(&slot) {
                nic.set_mac(Some(mac));
            }
            (slot, nic.properties().to_string())
        };
        source.nics().into_iter().map(there).collect()
    }

    /// The MAC addresses that devices get there, where they don't keep theirs. One that is made up is the same in every process.
    async fn macs(&self, source: &proxmox::VmConfig) -> BTreeMap<String, String> {
        let facts = self.fleet.facts(self.target.name.as_str());
        let mut macs = BTreeMap::new();
        for (slot, nic) in source.nics() {
            let Some(mac) = nic.mac() else { continue };
            match mac_there(&facts, self.spec, &self.resolved, &slot, mac) {
                Mac::Set(wanted) => macs.insert(slot, wanted),
                Mac::Made => {
                    // Without Sys.Audit on / it is not shown: PVE's own then.
                    let options = self.target.client.cluster_options().await.unwrap_or_default();
                    let prefix = options.get("mac_prefix").and_then(|prefix| prefix.as_str()).unwrap_or("BC:24:11");
                    macs.insert(slot.clone(), made_up(prefix, &self.journal.op, &slot))
                }
                Mac::Kept | Mac::Refused(_) => None,
            };
        }
        macs
    }

    /// What cloud-init is told of addresses there, as the configuration wants it.
    pub(super) fn addresses(&self) -> BTreeMap<String, String> {
        let wish = self.spec.cloud_init.iter().flat_map(|wish| &wish.addresses);
        wish.map(|(slot, addresses)| (addresses.key(*slot), addresses.value())).collect()
    }

    /// A network device as it is on the target: mapped where the configuration names it, else as it was; its link down.
    pub(super) fn mapped(&self, slot: &str, mut nic: proxmox::NicSpec) -> proxmox::NicSpec {
        let place = slot.parse().ok().and_then(|slot| self.resolved.nics.get(&slot));
        if let Some(place) = place {
            nic.set_bridge(&place.bridge);
            nic.set_tag(place.vlan);
        }
        nic.set_link_down(true);
        nic
    }

    pub(super) async fn verify(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        if self.is_direct() {
            // Locked, and stopped: what `carried` asks for.
            self.source_is_locked().await?;
            if self.source_if_there().await?.is_none() {
                self.warnings.push(
                    Failure::new("The machine was not compared with its source")
                        .at(format!("{}: somebody removed it before", self.from()))
                        .next("see whether the machine is as it was"),
                );
                return Ok(());
            }
        }
        let source = self.source_config(true).await?;
        if self.is_recovery() {
            self.source_is_lost().await?;
        } else if !self.is_direct() {
            self.source_is_fenced(&source).await?;
        }
        let target = self.target.client.vm_config(&to.node, to.vmid, true).await;
        let target = target.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        let macs = self.macs(&source).await;
        let mut differences = verify::differences(&source, &target, &self.journal.volumes, &self.addresses(), &macs);
        if self.is_direct() {
            // Proxmox VE sets each key anew there, and may put some in order. There is no way back for that.
            let (graver, lesser): (Vec<String>, Vec<String>) =
                differences.into_iter().partition(|one| verify::is_of_a_device(one));
            differences = graver;
            self.warnings.extend(lesser.into_iter().map(|one| {
                Failure::new("The machine is not in everything as it was")
                    .at(format!("{to}: {one}"))
                    .next("see whether that matters")
            }));
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Failure::new(&self.what)
            .at(format!("{to} is not what it was: {}", differences.join("; ")))
            .next("see why the target differs, and apply again"))
    }

    async fn source_is_locked(&self) -> Result<(), Failure> {
        let ends = self.ends().await?;
        match federation::migration::carried(ends) {
            Carried::Whole => Ok(()),
            Carried::Torn => Err(self.torn(ends).await),
            Carried::Nothing => Err(Failure::new(&self.what)
                .at(format!("{}: somebody unlocked the source", self.from()))
                .next("keep hands off both, and apply again")),
        }
    }

    async fn source_is_fenced(&self, source: &VmConfig) -> Result<(), Failure> {
        let from = self.from();
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        let status = status.map_err(|error| self.at(&from, "its status can't be read", error))?;
        if source.template() && status.status == "stopped" {
            return Ok(());
        }
        Err(Failure::new(&self.what)
            .at(format!("{from}: somebody took the fence off the source"))
            .state("the source may have the newer data")
            .next("keep hands off the machine, and apply again"))
    }

    pub(super) async fn start_target(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        let config = self.target.client.vm_config(&to.node, to.vmid, false).await;
        let config = config.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        let mut params = Params::new();
        // Of a source that is gone nobody knows any more what was down.
        let source = match self.is_direct() {
            true => self.source_if_there().await.ok().flatten(),
            false => self.source_config(true).await.ok(),
        };
        let was_down = |slot: &str| {
            let nics = source.as_ref().map(|config| config.nics());
            nics.and_then(|nics| nics.get(slot).map(proxmox::NicSpec::link_down)).unwrap_or(false)
        };
        // Of a guest that runs none was taken down.
        let taken_down = |_: &_| !self.is_online();
        for (slot, mut nic) in config.nics().into_iter().filter(taken_down) {
            if nic.link_down() && !was_down(&slot) {
                nic.set_link_down(false);
                params = params.set(&slot, nic.properties());
            }
        }
        if !config.protection() {
            params = params.flag("protection", true);
        }
        if !params.is_empty() {
            let set = self.target.client.set_config(&to.node, to.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(&to, "its links can't be set up", error))?;
        }
        // As the source ran: what else is wished comes after the move.
        if self.journal.undo.running || self.spec.started {
            let status = self.target.client.vm_status(&to.node, to.vmid).await;
            let status = status.map_err(|error| self.at(&to, "its status can't be read", error))?;
            if self.is_direct() && (!status.is_running() || status.is_paused()) {
                self.source_stays_down().await?;
            }
            if status.status != "running" {
                if self.is_recovery() {
                    self.fence_what_came_back().await?;
                }
                self.fleet.start(&self.target, &to, self.deadline).await?;
            }
            if self.is_online() && status.is_paused() {
                // Proxmox VE lets it go on last of all, and where that fails it ends with a warning of its own.
                let upid = self.target.client.resume_vm(&to.node, to.vmid).await;
                self.wait_target(&upid.map_err(|error| self.at(&to, "it is paused, and doesn't go on", error))?)
                    .await?;
            }
            // Two clusters' clocks: good to a second where both keep time.
            let down = self.journal.down_since.map(|since| self.target.now().saturating_sub(since));
            self.downtime = down.and_then(|seconds| u64::try_from(seconds).ok());
            tracing::info!(operation = %self.journal.op, predicted = ?self.predicted, measured = ?self.downtime, "downtime in s");
        }
        Ok(())
    }
}

//! Owns what each step of a move does. Every step may run twice: it recognises on the clusters what it did before.
use std::time::Instant;

use federation::migration::Step;
use proxmox::{Error, Params, TaskFilter, Upid, VmConfig};

use super::{Move, archive, verify};
use crate::failure::Failure;
use crate::guest::rfc3339;
use crate::journal::Place;
use crate::notes::{self, Copy, Kept, Mark, Origin, Retired};
use crate::operation::Taken;
use crate::site::Site;
use crate::spec::Source;

impl Move<'_> {
    /// Carries out one step.
    pub(super) async fn perform(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Taken => self.take_target().await,
            Step::Shutdown => self.shut_down().await,
            Step::Onboot => self.fence_onboot().await,
            Step::Backup => self.back_up().await,
            Step::Fence => self.fence().await,
            Step::Transfer => self.await_archive().await,
            Step::Restore => self.restore().await,
            Step::Verify => self.verify().await,
            Step::Live => self.record_live().await,
            Step::Start => self.start_target().await,
            Step::Health => self.is_well().await,
            Step::Commit => self.commit().await,
            Step::Retire => self.retire().await,
            Step::Release => self.release().await,
        }
    }

    /// A failure at a place, with what Proxmox VE said.
    pub(super) fn at(&self, place: &Place, doing: &str, error: Error) -> Failure {
        Failure::new(&self.what).at(format!("{place}: {doing}")).said(error).next("mend that, and apply again")
    }

    async fn take_target(&mut self) -> Result<(), Failure> {
        let taken = self.fleet.take(&self.target, &self.pool, &self.journal, &self.what).await?;
        if let Taken::Over(theirs) = taken {
            self.journal.epoch = self.journal.epoch.max(theirs.epoch);
            let mut copy = self.journal.clone();
            self.fleet.note(&self.target, &self.pool, &mut copy, &self.what).await?;
        }
        Ok(())
    }

    /// Shuts the source down, and never through HA, which kills at its timeout (operations-review 9).
    async fn shut_down(&mut self) -> Result<(), Failure> {
        let from = self.from();
        // Several moves of this process off one node take turns while their machines still run (operations-review 11).
        let slot = format!("backup {} {}", from.cluster, from.node);
        self.backup_slot = self.fleet.slot(slot, 1).await;
        self.backup_can_start(&from).await?;
        if self.journal.undo.ha.is_some() {
            let set = self.source.client.set_ha_state(from.vmid, "ignored").await;
            set.map_err(|error| self.at(&from, "its HA state can't be set to ignored", error))?;
        }
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        let status = status.map_err(|error| self.at(&from, "its status can't be read", error))?;
        if status.status != "running" {
            return Ok(());
        }
        self.journal.down_since.get_or_insert(self.source.now());
        let wish = &self.spec.migration;
        let upid = self
            .source
            .client
            .shutdown_vm(&from.node, from.vmid, Some(wish.shutdown_timeout.into()), wish.force_stop)
            .await
            .map_err(|error| self.at(&from, "it can't be shut down", error))?;
        self.wait_source(&upid).await?;
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        match status {
            Ok(status) if status.status != "running" => Ok(()),
            Ok(_) => Err(Failure::new(&self.what)
                .at(format!("{from}: the guest did not shut down within {}", wish.shutdown_timeout))
                .next("raise migration.shutdown_timeout, set migration.force_stop, or see to the guest; it may still power off later")),
            Err(error) => Err(self.at(&from, "its status can't be read", error)),
        }
    }

    /// A machine is shut down only when its own backup can start: one vzdump runs per node (operations-review 11).
    async fn backup_can_start(&self, from: &Place) -> Result<(), Failure> {
        let filter =
            TaskFilter { kind: Some("vzdump".into()), source: proxmox::TaskSource::Active, ..TaskFilter::default() };
        let active = self.source.client.find_tasks(&from.node, &filter).await;
        let active = active.map_err(|error| self.at(from, "the node's tasks can't be read", error))?;
        for task in active.iter().filter(|task| task.is_running() && task.upid.vmid() != Some(from.vmid)) {
            // Our own wait, not PVE's: the machine runs meanwhile.
            self.fleet.wait(&self.source, &task.upid, self.deadline, &self.what).await.or_else(|failure| {
                if failure.kind == crate::failure::FailureKind::Interrupted { Err(failure) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    async fn fence_onboot(&mut self) -> Result<(), Failure> {
        let from = self.from();
        let config = self.source_config(false).await?;
        if !config.onboot() {
            return Ok(());
        }
        let params = Params::new().flag("onboot", false);
        let set = self.source.client.set_config(&from.node, from.vmid, params, config.digest()).await;
        set.map_err(|error| self.at(&from, "onboot can't be set to 0", error))
    }

    pub(super) async fn source_config(&self, current: bool) -> Result<VmConfig, Failure> {
        let from = self.from();
        let config = self.source.client.vm_config(&from.node, from.vmid, current).await;
        config.map_err(|error| self.at(&from, "its configuration can't be read", error))
    }

    pub(super) async fn wait_source(&self, upid: &Upid) -> Result<(), Failure> {
        self.fleet.wait(&self.source, upid, self.deadline, &self.what).await
    }

    async fn wait_target(&self, upid: &Upid) -> Result<(), Failure> {
        self.fleet.wait(&self.target, upid, self.deadline, &self.what).await
    }

    async fn back_up(&mut self) -> Result<(), Failure> {
        if self.journal.archive.is_some() && self.journal.cold {
            return Ok(());
        }
        let from = self.from();
        let upid = self
            .source
            .client
            .vzdump(&from.node, self.vzdump_params(&from).await)
            .await
            .map_err(|error| self.at(&from, "its backup can't be started", error))?;
        self.journal.upid = Some(upid.to_string());
        self.journal.backup = self.journal.upid.clone();
        self.write().await?;
        self.wait_source(&upid).await?;
        let log = self.source.client.task_log_all(&upid).await;
        let log = log.map_err(|error| self.at(&from, "the backup's log can't be read", error))?;
        let volid = archive::volid(&log, &self.transfer.0).ok_or_else(|| {
            Failure::new(&self.what)
                .at(format!("{from}: the log of backup {upid} names no archive"))
                .next("apply again")
        })?;
        self.journal.archive = Some(volid);
        archive::prove_cold(&log).map_err(|line| {
            Failure::new(&self.what)
                .at(format!("{from}: somebody ran the machine during its final backup ({line})"))
                .state("the source has the newer data")
                .next("keep hands off the machine, and apply again")
        })?;
        self.journal.cold = true;
        self.backup_slot = None;
        self.write().await
    }

    async fn vzdump_params(&self, from: &Place) -> Params {
        let limit = self.path.max_bandwidth.map(|limit| limit.to_kib_per_second());
        // Only Sys.Modify on / may limit a backup (operations-review 15); preflight has said so where it is missing.
        let may = match self.source.client.permissions(Some("/")).await {
            Ok(permissions) => permissions.has("/", "Sys.Modify"),
            Err(_) => false,
        };
        Params::new()
            .set("vmid", from.vmid)
            .set("storage", &self.transfer.0)
            .set("mode", "stop")
            .set("compress", "zstd")
            .flag("remove", false)
            .flag("protected", true)
            .set("lockwait", 1)
            .set("notes-template", archive::notes(&self.journal.op, from))
            .opt("bwlimit", limit.filter(|_| may))
    }

    /// Fence 2: a template can't be started nor resumed, by nobody; a protected machine can't be removed (design §6).
    async fn fence(&mut self) -> Result<(), Failure> {
        let from = self.from();
        let config = self.source_config(true).await?;
        if !config.template() {
            let params = Params::new().flag("template", true).flag("protection", true);
            let set = self.source.client.set_config(&from.node, from.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(&from, "it can't be fenced", error))?;
        }
        let config = self.source_config(true).await?;
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        let status = status.map_err(|error| self.at(&from, "its status can't be read", error))?;
        if config.template() && status.status == "stopped" {
            return self.nobody_started_it(&from).await;
        }
        // Merely pending: somebody started the source since the backup, and it has the newer data. The undo reverts it.
        Err(Failure::new(&self.what)
            .at(format!("{from}: somebody started the machine after its final backup"))
            .state("the source has the newer data")
            .next("keep hands off the machine, and apply again"))
    }

    /// Between the end of the backup and the fence lie seconds; a start in them shows in the task list, where it is seen.
    async fn nobody_started_it(&self, from: &Place) -> Result<(), Failure> {
        let Some(backup) = self.journal.archive_task_start() else { return Ok(()) };
        let filter = TaskFilter { vmid: Some(from.vmid), since: Some(backup), ..TaskFilter::default() };
        let tasks = self.source.client.find_tasks(&from.node, &filter).await;
        let tasks = tasks.map_err(|error| self.at(from, "its tasks can't be read", error))?;
        let started = |kind: &str| matches!(kind, "qmstart" | "qmresume" | "hastart");
        match tasks.iter().find(|task| started(&task.upid.kind) && task.upid.starttime >= backup) {
            None => Ok(()),
            Some(task) => Err(Failure::new(&self.what)
                .at(format!("{from}: {} started it after its final backup ({})", task.upid.user, task.upid))
                .state("the source may have the newer data")
                .next("keep hands off the machine, and apply again")),
        }
    }

    /// Waits until the target sees the archive, whole.
    async fn await_archive(&mut self) -> Result<(), Failure> {
        let archive = self.archive_on_target()?;
        let size = archive::size(&self.source, &self.from(), self.journal.archive.as_deref().unwrap_or_default()).await;
        let size = size.map_err(|error| self.at(&self.from(), "the archive can't be seen on the source", error))?;
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

    /// The archive's volume id on the target: the same file on a storage that may have another name there.
    pub(super) fn archive_on_target(&self) -> Result<String, Failure> {
        let archive = self.journal.archive.as_deref().and_then(|volid| volid.split_once(':'));
        let (_, file) = archive.ok_or_else(|| Failure::new(&self.what).at("the journal names no archive"))?;
        Ok(format!("{}:{file}", self.transfer.1))
    }

    async fn restore(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        if let Some(upid) = self.our_restore(&to).await? {
            self.wait_target(&upid).await?;
            return self.restored(&to, &upid).await;
        }
        let params = self.restore_params(&to).await?;
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
            since: Some(self.journal.restore_at),
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
        let other = log.iter().any(|line| line.starts_with("restore ") && !line.contains(file));
        Ok((!other).then_some(upid))
    }

    /// Notes which volumes our restore made: the only ones that may ever be removed.
    async fn restored(&mut self, to: &Place, upid: &Upid) -> Result<(), Failure> {
        let log = self.target.client.task_log_all(upid).await;
        let log = log.map_err(|error| self.at(to, "the restore's log can't be read", error))?;
        self.journal.volumes = archive::new_volumes(&log);
        self.write().await
    }

    async fn restore_params(&self, to: &Place) -> Result<Params, Failure> {
        let source = self.source_config(true).await?;
        let mut params = Params::new()
            .set("vmid", to.vmid)
            .set("archive", self.archive_on_target()?)
            .set("name", &self.spec.name)
            .flag("unique", false)
            .flag("onboot", false)
            .opt("pool", self.spec.pool.as_ref())
            .opt("storage", self.resolved.storages.values().next());
        let (text, mut mark) = notes::split(source.description().unwrap_or_default());
        mark.op = Some(self.journal.op.clone());
        mark.retired = None;
        params = params.set("description", notes::join(&text, &mark));
        for (slot, nic) in source.nics().unwrap_or_default() {
            params = params.set(&slot, self.mapped(&slot, nic).properties());
        }
        let limit = self.path.max_bandwidth.map(|limit| limit.to_kib_per_second());
        Ok(params.opt("bwlimit", limit))
    }

    /// A network device as it is on the target: mapped where the configuration names it, else as it was; its link down.
    fn mapped(&self, slot: &str, mut nic: proxmox::NicSpec) -> proxmox::NicSpec {
        let place = slot.parse().ok().and_then(|slot| self.resolved.nics.get(&slot));
        if let Some(place) = place {
            nic.set_bridge(&place.bridge);
            nic.set_tag(place.vlan);
        }
        nic.set_link_down(true);
        nic
    }

    async fn verify(&mut self) -> Result<(), Failure> {
        let (to, from) = (self.journal.to.clone(), self.from());
        let source = self.source_config(true).await?;
        let status = self.source.client.vm_status(&from.node, from.vmid).await;
        let status = status.map_err(|error| self.at(&from, "its status can't be read", error))?;
        if !source.template() || status.status != "stopped" {
            return Err(Failure::new(&self.what)
                .at(format!("{from}: somebody took the fence off the source"))
                .state("the source may have the newer data")
                .next("keep hands off the machine, and apply again"));
        }
        let target = self.target.client.vm_config(&to.node, to.vmid, true).await;
        let target = target.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        let differences = verify::differences(&source, &target, &self.journal.volumes);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Failure::new(&self.what)
            .at(format!("{to} is not what was backed up: {}", differences.join("; ")))
            .next("see why the target differs, and apply again"))
    }

    /// Written on the source already; now on the target, before anything depends on it.
    async fn record_live(&mut self) -> Result<(), Failure> {
        let mut copy = self.journal.clone();
        self.fleet.note(&self.target, &self.pool, &mut copy, &self.what).await
    }

    async fn start_target(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        let config = self.target.client.vm_config(&to.node, to.vmid, false).await;
        let config = config.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        let mut params = Params::new();
        let source = self.source.client.vm_config(&self.from().node, self.from().vmid, true).await.ok();
        let was_down = |slot: &str| {
            let nics = source.as_ref().and_then(|config| config.nics().ok());
            nics.and_then(|nics| nics.get(slot).map(proxmox::NicSpec::link_down)).unwrap_or(false)
        };
        for (slot, mut nic) in config.nics().unwrap_or_default() {
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
            if status.status != "running" {
                self.fleet.start(&self.target, &to, self.deadline).await?;
            }
            // Two clusters' clocks: good to a second where both keep time.
            let down = self.journal.down_since.map(|since| self.target.now().saturating_sub(since));
            self.downtime = down.and_then(|seconds| u64::try_from(seconds).ok());
            tracing::info!(operation = %self.journal.op, predicted = ?self.predicted, measured = ?self.downtime, "downtime in s");
        }
        Ok(())
    }

    /// Asks the target whether it is well. An unhealthy one keeps both copies: it may have accepted writes.
    async fn is_well(&mut self) -> Result<(), Failure> {
        let Some(wish) = self.spec.migration.health.clone() else { return Ok(()) };
        let to = self.journal.to.clone();
        let until = Instant::now() + std::time::Duration::from(wish.deadline);
        let mut pause = self.target.client.settings().task_poll_first;
        loop {
            let agent = !wish.agent || self.target.client.agent_ping(&to.node, to.vmid).await.unwrap_or(false);
            let tcp = match &wish.tcp {
                Some(address) => takes_connections(address, self.target.client.settings().task_poll_max).await,
                None => true,
            };
            if agent && tcp {
                return Ok(());
            }
            if Instant::now() >= until || self.fleet.is_stopping() {
                let silent = if agent { wish.tcp.unwrap_or_default() } else { "the guest agent".to_owned() };
                return Err(Failure::new(&self.what)
                    .at(format!(
                        "{to}: {silent} does not answer within {} (asked from where apply runs)",
                        wish.deadline
                    ))
                    .next("see to the machine; apply again asks again, and goes on without `health`"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(self.target.client.settings().task_poll_max);
        }
    }

    /// Gives the target what a machine has, and takes the operation's mark off its notes.
    async fn commit(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        let from = self.from();
        let config = self.target.client.vm_config(&to.node, to.vmid, false).await;
        let config = config.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        let (text, mut mark) = notes::split(config.description().unwrap_or_default());
        mark.op = None;
        mark.from = Some(Origin { cluster: from.cluster.clone(), vmid: from.vmid });
        let now = self.target.now();
        if let Some(until) = self.keep_source(now) {
            mark.copies.retain(|copy| (&copy.cluster, copy.vmid) != (&from.cluster, from.vmid));
            mark.copies.push(Copy { cluster: from.cluster.clone(), vmid: from.vmid, until });
        }
        if let Some(until) = self.keep_archive(now) {
            let volid = self.archive_on_target()?;
            mark.archives.retain(|kept| kept.volid != volid);
            mark.archives.push(Kept { volid, until });
        }
        // As the source was before it was fenced.
        let params = Params::new()
            .flag("onboot", self.journal.undo.onboot)
            .flag("protection", self.journal.undo.protection)
            .set("description", notes::join(&text, &mark));
        let set = self.target.client.set_config(&to.node, to.vmid, params, config.digest()).await;
        set.map_err(|error| self.at(&to, "onboot, protection and notes can't be set", error))?;
        self.target.changed().await;
        if let Some(state) = self.journal.undo.ha.clone() {
            self.manage_by_ha(&to, &state).await;
        }
        Ok(())
    }

    /// Puts the target under HA as the source was. Its rules and groups are the source cluster's own and are not carried.
    async fn manage_by_ha(&mut self, to: &Place, state: &str) {
        let made = match self.target.client.ha_resource(to.vmid).await {
            Ok(Some(_)) => return,
            Ok(None) => self.target.client.create_ha_resource(to.vmid, Params::new().set("state", state)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            self.warnings.push(
                Failure::new("The machine is not managed by HA any more")
                    .at(to.to_string())
                    .said(error)
                    .next("add it to HA on that cluster"),
            );
        }
    }

    fn keep_source(&self, now: i64) -> Option<i64> {
        let wish = &self.spec.migration;
        let seconds = i64::try_from(wish.keep_source.as_secs_ceil()).unwrap_or(i64::MAX);
        (wish.source == Source::Keep && seconds > 0).then(|| now.saturating_add(seconds))
    }

    /// Until when the archive is kept. Under another VMID nobody could remove it later: a token's right to it comes through
    /// a machine of its VMID (`pve-behaviour.md` §17).
    fn keep_archive(&self, now: i64) -> Option<i64> {
        let seconds = i64::try_from(self.spec.migration.keep_archive.as_secs_ceil()).unwrap_or(i64::MAX);
        let same_vmid = self.journal.to.vmid == self.from().vmid;
        (seconds > 0 && same_vmid).then(|| now.saturating_add(seconds))
    }

    /// Retires or removes the source. The archive goes first: a token's right to it comes through a machine of its VMID
    /// (`pve-behaviour.md` §17).
    async fn retire(&mut self) -> Result<(), Failure> {
        let from = self.from();
        if self.keep_archive(0).is_none()
            && let Some(volid) = self.journal.archive.clone()
        {
            let removed = archive::remove(&self.source, &from, &volid, self.fleet, self.deadline).await;
            removed.map_err(|error| self.at(&from, "the archive can't be removed", error))?;
        }
        let config = match self.source.client.vm_config(&from.node, from.vmid, true).await {
            Ok(config) => config,
            Err(error) if error.is_not_found() || error.is_permission_denied() => return Ok(()),
            Err(error) => return Err(self.at(&from, "the source can't be read", error)),
        };
        let ours = config.template() && config.uuid().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.journal.uuid));
        if !ours {
            self.warnings.push(
                Failure::new("The source of the move is not as it was left, and stays")
                    .at(format!("{from}: it is not fenced any more, or has another UUID"))
                    .next("look at it, and remove it by hand"),
            );
            return Ok(());
        }
        match self.keep_source(self.source.now()) {
            Some(until) => self.keep(&from, &config, until).await,
            None => remove_fenced(&self.source, &from, self.fleet, self.deadline, &self.what).await,
        }
    }

    /// Leaves the fenced source where it is, with a note of what it is, in the pool of retired machines where the token may.
    async fn keep(&mut self, from: &Place, config: &VmConfig, until: i64) -> Result<(), Failure> {
        let (text, _) = notes::split(config.description().unwrap_or_default());
        let people = format!(
            "RETIRED: moved to cluster {} (vmid {}). Do not start. Expires {}.",
            self.journal.to.cluster,
            self.journal.to.vmid,
            rfc3339(until)
        );
        let retired = Retired { op: self.journal.op.clone(), to: self.journal.to.cluster.clone(), until };
        let mark = Mark { retired: Some(retired), ..Mark::default() };
        let text = text.strip_prefix("RETIRED:").map_or_else(
            || text.clone(),
            |rest| rest.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default(),
        );
        let notes = notes::join(&format!("{people}\n{text}"), &mark);
        let set =
            self.source.client.set_config(&from.node, from.vmid, Params::new().set("description", notes), None).await;
        set.map_err(|error| self.at(from, "the source's notes can't be written", error))?;
        let Some(pool) = self.spec.pool.as_ref().and_then(federation::PoolName::retired) else { return Ok(()) };
        let moved = match self.source.client.create_pool(pool.as_str(), None).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => self.source.client.add_pool_members(pool.as_str(), &[from.vmid], true).await,
        };
        if let Err(error) = moved.or_else(|error| if error.is_already_exists() { Ok(()) } else { Err(error) }) {
            tracing::info!(%pool, %error, "the retired source stays in its pool");
        }
        self.source.changed().await;
        Ok(())
    }

    /// Gives the operation back, the source's side first: while the target's is there, whoever looks at the machine finds it.
    async fn release(&mut self) -> Result<(), Failure> {
        for (site, place) in [(&self.source, &self.from()), (&self.target, &self.journal.to)] {
            let given = self.fleet.give_back(site, &self.pool, self.journal.epoch).await;
            given.map_err(|error| self.at(place, "the operation can't be given back", error))?;
        }
        Ok(())
    }
}

/// Whether a TCP address takes a connection within `patience`.
async fn takes_connections(address: &str, patience: std::time::Duration) -> bool {
    matches!(tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Removes a fenced source or retired copy, after its caller has proved whose it is.
pub(crate) async fn remove_fenced(
    site: &Site,
    place: &Place,
    fleet: &crate::fleet::Fleet,
    deadline: Instant,
    what: &str,
) -> Result<(), Failure> {
    let fail =
        |doing: &str, error: Error| Failure::new(what).at(format!("{place}: {doing}")).said(error).next("apply again");
    // Set aside when the source was shut down; Proxmox VE removes no guest that HA knows. Rules that name it are left alone.
    if site.client.ha_resource(place.vmid).await.is_ok_and(|resource| resource.is_some()) {
        let mut removed = site.client.delete_ha_resource(place.vmid, Some(false)).await;
        if removed.as_ref().is_err_and(Error::is_param_invalid) {
            // Before PVE 9 there is no such choice.
            removed = site.client.delete_ha_resource(place.vmid, None).await;
        }
        removed.map_err(|error| fail("it can't be taken out of HA", error))?;
    }
    let set = site.client.set_config(&place.node, place.vmid, Params::new().flag("protection", false), None).await;
    set.map_err(|error| fail("its protection can't be lifted", error))?;
    let upid =
        site.client.delete_vm(&place.node, place.vmid).await.map_err(|error| fail("it can't be removed", error))?;
    fleet.wait(site, &upid, deadline, what).await
}

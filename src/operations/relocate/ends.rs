//! Owns what both machines of a migration of Proxmox VE's show: what that has come to, what a person is told where nobody can tell, and
//! what becomes of what it left on the target.
use std::time::Instant;

use federation::migration::{Carried, Ends, carried};
use proxmox::{Params, TaskFilter, TaskSource, Upid, VmConfig};

use super::carry::LOCK;
use super::{Move, kept_for, node_of, until};
use crate::failure::{Failure, FailureKind};
use crate::guest::rfc3339;
use crate::journal::Place;
use crate::notes::Copy;
use crate::site::Site;

impl Move<'_> {
    pub(super) async fn carried(&self) -> Result<Carried, Failure> {
        Ok(carried(self.ends().await?))
    }

    /// What both machines show, once no task of either runs any more.
    ///
    /// # Errors
    /// Something runs, or can't be asked: then nothing is decided, and the move stays as it is.
    pub(super) async fn ends(&self) -> Result<Ends, Failure> {
        // Either may have changed its node since.
        let (from, to) = (self.from(), &self.journal.to);
        let from = Place { node: node_of(&self.source, &from).await, ..from };
        let to = Place { node: node_of(&self.target, to).await, ..to.clone() };
        if self.journal.upid.is_none() {
            self.begun(&from).await?;
        }
        self.tasks_end_on_both().await?;
        self.nothing_is_under_way(&self.source, &from).await?;
        self.nothing_is_under_way(&self.target, &to).await?;
        let there = self.sent(&to).await?;
        let source = match self.source.config(&from).await {
            Ok(source) => Some(source).filter(|source| self.is_of_machine(source)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(self.still(self.at(&from, "its configuration can't be read", error))),
        };
        let (source_locked, source_runs) = match source {
            Some(source) => (source.lock() == Some(LOCK), self.qemu(&self.source, &from).await?.is_some()),
            // Removed by a person: it can't be started any more, and its VMID may be another's by now.
            None if there.is_some() => (true, false),
            None => {
                let text = format!("{from} is not there, or another machine, and neither is {to}");
                return Err(self.still(Failure::new(&self.what).at(text)));
            }
        };
        let mut ends = Ends {
            source_locked,
            source_runs,
            target: false,
            target_locked: false,
            target_runs: false,
            online: self.is_online(),
        };
        if let Some(there) = there {
            let qemu = self.qemu(&self.target, &to).await?;
            // One that waits for the rest of its memory is no more than a remnant, whatever its lock.
            let incoming = qemu.as_deref() == Some("inmigrate");
            ends.target = true;
            ends.target_locked = there.lock().is_some() || incoming;
            ends.target_runs = qemu.is_some_and(|is| !matches!(is.as_str(), "inmigrate" | "prelaunch"));
        }
        Ok(ends)
    }

    /// What QEMU says of a guest; none where it is stopped.
    async fn qemu(&self, site: &Site, at: &Place) -> Result<Option<String>, Failure> {
        let status = site.client.vm_status(&at.node, at.vmid).await;
        let status = status.map_err(|error| self.still(self.at(at, "its status can't be read", error)))?;
        Ok((!status.is_stopped()).then(|| status.qmpstatus.unwrap_or(status.status)))
    }

    /// While a task of either machine runs, what they show says nothing: nobody may be told to unlock anything.
    async fn nothing_is_under_way(&self, site: &Site, place: &Place) -> Result<(), Failure> {
        if !sees_tasks(site, &place.node).await {
            let text =
                format!("{place}: the token doesn't see other users' tasks there (Sys.Audit on /nodes/{})", place.node);
            return Err(self.still(Failure::new(&self.what).at(text)));
        }
        let filter = TaskFilter { vmid: Some(place.vmid), source: TaskSource::Active, ..TaskFilter::default() };
        let tasks = site.client.find_tasks(&place.node, &filter).await;
        let tasks = tasks.map_err(|error| self.still(self.at(place, "its tasks can't be read", error)))?;
        match tasks.iter().find(|task| task.is_running() && !is_a_console(&task.upid)) {
            None => Ok(()),
            Some(task) => {
                Err(self.still(Failure::new(&self.what).at(format!("{place}: task {} still runs", task.upid))))
            }
        }
    }

    /// A failure that decides nothing: the move stays as it is.
    fn still(&self, mut failure: Failure) -> Failure {
        failure.kind = FailureKind::Interrupted;
        failure
            .state(self.journal.in_words())
            .next("apply again once it can be asked, and nothing of the move runs any more")
    }

    /// What was sent, as far as it is there: a guest of the target's VMID with the machine's UUID, or one that a migration of ours is
    /// making.
    async fn sent(&self, to: &Place) -> Result<Option<VmConfig>, Failure> {
        let config = match self.target.config(to).await {
            Ok(config) => config,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(self.still(self.at(to, "what is there can't be read", error))),
        };
        let lock = config.lock();
        let ours = match config.uuid() {
            Some(uuid) => uuid.eq_ignore_ascii_case(&self.journal.uuid),
            // Somebody else may have taken the VMID meanwhile.
            None => lock == Some("create") && self.was_there(&to.node, to.vmid, "qmtunnel").await?,
        };
        match lock {
            // A backup of it, or a snapshot: then it is whole, and shows little else.
            Some(lock) if ours && lock != LOCK && lock != "create" => {
                Err(self.still(Failure::new(&self.what).at(format!("{to}: it is locked ({lock})"))))
            }
            _ => Ok(Some(config).filter(|_| ours)),
        }
    }

    /// Whether a node of the target has had a task of this kind since Proxmox VE was told to send the machine. Older ones are of an
    /// earlier guest: perhaps of the machine itself, when it was there before.
    async fn was_there(&self, node: &str, vmid: u32, kind: &str) -> Result<bool, Failure> {
        let apart = self.target.now().saturating_sub(self.source.now());
        let since = Some(self.journal.restore_at.saturating_add(apart).saturating_sub(60));
        let filter = TaskFilter { vmid: Some(vmid), kind: Some(kind.into()), since, ..TaskFilter::default() };
        let tasks = self.target.client.find_tasks(node, &filter).await;
        let tasks = tasks.map_err(|error| self.still(self.at(&self.journal.to, "its tasks can't be read", error)))?;
        Ok(!tasks.is_empty())
    }

    /// Whether what was sent may have run on the target, on whichever node: nothing fences it while it isn't the machine. Where that can't
    /// be seen, it may.
    async fn may_have_run_there(&self) -> bool {
        let Ok(nodes) = self.target.client.nodes().await else { return true };
        for node in nodes {
            if !sees_tasks(&self.target, &node.node).await {
                return true;
            }
            for kind in ["qmstart", "qmresume", "hastart"] {
                if self.was_there(&node.node, self.journal.to.vmid, kind).await.unwrap_or(true) {
                    return true;
                }
            }
        }
        false
    }

    /// The migration that was begun although its answer was lost, or came to a run that died. None once it can't come any more: the
    /// node connects to the other cluster before there is a task.
    pub(super) async fn begun(&self, from: &Place) -> Result<Option<Upid>, Failure> {
        // The node's clock is not that of the one that answered.
        let since = Some(self.journal.restore_at.saturating_sub(CLOCKS));
        let filter =
            TaskFilter { vmid: Some(from.vmid), kind: Some("qmigrate".into()), since, ..TaskFilter::default() };
        let grace = i64::try_from(self.fleet.settings().late_migration.as_secs_ceil()).unwrap_or(i64::MAX);
        let until = self.journal.restore_at.saturating_add(grace);
        let mut pause = self.source.client.settings().task_poll_first;
        loop {
            let tasks = self.source.client.find_tasks(&from.node, &filter).await;
            let tasks = tasks.map_err(|error| self.still(self.at(from, "the node's tasks can't be read", error)))?;
            let newest = tasks.into_iter().map(|task| task.upid).max_by_key(|upid| upid.starttime);
            if newest.is_some() || self.source.now() >= until {
                return Ok(newest);
            }
            if self.fleet.is_stopping() || Instant::now() >= self.deadline {
                let text = format!("{from}: until {} Proxmox VE may still begin to send it", rfc3339(until));
                return Err(self.still(Failure::new(&self.what).at(text)));
            }
            tracing::info!(%from, "waits whether its migration, whose answer was lost, still begins");
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(self.source.client.settings().task_poll_max);
        }
    }

    /// Whether a move that Proxmox VE carries out may be taken back.
    ///
    /// # Errors
    /// It was carried: the target has the newest state, and the source can't be started by a token. Or nobody can tell: a person has to
    /// look.
    pub(super) async fn may_be_taken_back(&self) -> Result<(), Failure> {
        let (from, to) = (self.from(), &self.journal.to);
        let ends = self.ends().await?;
        match carried(ends) {
            Carried::Nothing if ends.target && self.may_have_run_there().await => Err(self.torn(ends).await),
            Carried::Nothing => Ok(()),
            Carried::Whole => Err(Failure::new(&self.what)
                .at(format!("{to}: Proxmox VE has sent the machine there, and locked what it left ({from})"))
                .state("it is whole there; nothing is taken back")
                .next("mend that, and apply again to go on")),
            Carried::Torn => Err(self.torn(ends).await),
        }
    }

    /// What a person is told where nobody can tell which of two machines is the newest. Only what is sure never to have run is ever said
    /// to be removed.
    pub(super) async fn torn(&self, ends: Ends) -> Failure {
        let (from, to) = (self.from(), &self.journal.to);
        let (s, t) = (format!("on {}: qm", from.node), format!("on {}: qm", to.node));
        let (vs, vt) = (from.vmid, to.vmid);
        // Whatever can't be said for sure counts as running there.
        let may_have_run = ends.target_runs || !ends.target_locked || self.may_have_run_there().await;
        let source_there = !matches!(self.source_if_there().await, Ok(None));
        let to_target = format!("{s} stop {vs} --skiplock 1; {s} set {vs} --lock {LOCK}; {t} unlock {vt}");
        let next = if !source_there {
            format!(
                "the source is gone, so that what is on the target is the only copy. If the log of its qmtunnel task says that all disks came: {t} \
                 unlock {vt}; and apply again, which goes on"
            )
        } else if ends.target_runs && ends.source_locked && !ends.source_runs {
            format!("the target has the newest state: {t} unlock {vt}; and apply again, which goes on")
        } else if ends.target && ends.online {
            format!(
                "remove neither before you know which has the newest state. If the log of the qmigrate task of {vs} on {} says \"migration \
                 status: completed\", the target has: {to_target}. Else the source has: {t} unlock {vt} and destroy {vt}, then {s} unlock \
                 {vs}. Then apply again",
                from.node
            )
        } else if ends.target && may_have_run {
            format!(
                "what is on the target may have run, and have the newest state: remove neither before you know. If it has: {to_target}. If the \
                 source has: stop, unlock and remove the target, and {s} unlock {vs}. Then apply again"
            )
        } else if ends.target {
            let remove = removing(vt);
            format!(
                "what is on the target never ran: on {}: {remove}; then {s} unlock {vs}; and apply again, which starts the source",
                to.node
            )
        } else {
            format!("{s} unlock {vs}; and apply again, which starts the source")
        };
        let source = words(source_there, ends.source_locked, ends.source_runs);
        let target = words(ends.target, ends.target_locked, ends.target_runs);
        Failure::new(&self.what)
            .at(format!("Proxmox VE's migration was cut off: {from} {source}; {to} {target}"))
            .state("both are as it left them")
            .next(next)
    }

    /// Fences what was sent before the source runs again: it is there, and whole, only where root unlocked the source of a move that had
    /// come so far. It is kept as a retired copy, for whether it ran can't be proved.
    pub(super) async fn fence_whole(&mut self, to: &Place) -> Result<(), Failure> {
        let Some(config) = self.sent(to).await?.filter(|config| config.lock().is_none()) else { return Ok(()) };
        if !config.template() {
            let params = Params::new().flag("onboot", false).flag("template", true).flag("protection", true);
            let set = self.target.client.set_config(&to.node, to.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(to, "what was sent can't be fenced", error))?;
        }
        let config = self.target.client.vm_config(&to.node, to.vmid, true).await;
        let config = config.map_err(|error| self.at(to, "its configuration can't be read", error))?;
        if !config.template() || self.qemu(&self.target, to).await?.is_some() {
            self.revert_fence_of(&self.target, to).await?;
            return Err(self.still(Failure::new(&self.what).at(format!("{to}: somebody started what was sent"))));
        }
        let until = until(self.target.now(), kept_for(&self.spec.migration));
        self.keep(&self.target, to, &self.from(), &config, until).await?;
        let op = Some(self.journal.op.clone());
        self.returned_copy = Some(Copy { cluster: to.cluster.clone(), vmid: to.vmid, until, returned: true, op });
        self.warnings.push(
            Failure::new(format!("What was sent before the source was unlocked stays: {to}"))
                .at("it is fenced, and kept as a retired copy")
                .next("nothing: it goes when its date is over, or with the machine"),
        );
        Ok(())
    }

    /// Names what a failed migration left on the target. It is locked, so that no token can remove it.
    pub(super) async fn name_remnant(&mut self, to: &Place) -> Result<(), Failure> {
        if self.sent(to).await?.is_some_and(|config| config.lock().is_some()) {
            self.warnings.push(self.remnant(to));
        }
        Ok(())
    }

    fn remnant(&self, to: &Place) -> Failure {
        Failure::new(format!("What a failed migration left stays: {to}"))
            .at("no token may remove it; it holds nothing that the machine doesn't have")
            .next(format!("on {}: {}", to.node, removing(to.vmid)))
    }
}

/// Seconds that clocks of one cluster's nodes may differ by: a task has the time of its node, what is noted before it that of the node
/// that answered.
pub(super) const CLOCKS: i64 = 5;

/// Whether the token sees everybody's tasks of a node: else there may be some that it doesn't see.
pub(super) async fn sees_tasks(site: &Site, node: &str) -> bool {
    let path = format!("/nodes/{node}");
    site.client.permissions(Some(&path)).await.is_ok_and(|held| held.has(&path, "Sys.Audit"))
}

/// Whether a task is somebody looking on: it changes nothing, and may stay open for days.
pub(super) fn is_a_console(upid: &Upid) -> bool {
    matches!(upid.kind.as_str(), "vncproxy" | "vncshell" | "spiceproxy" | "spiceshell" | "termproxy")
}

/// How a machine is found.
fn words(there: bool, locked: bool, runs: bool) -> &'static str {
    match (there, locked, runs) {
        (false, ..) => "is not there",
        (_, true, true) => "runs, and is locked",
        (_, true, false) => "is stopped and locked",
        (_, false, true) => "runs",
        (_, false, false) => "is stopped",
    }
}

/// How an operator removes what a migration left on the target, volumes that no configuration names among it. One by one: what takes
/// everything that bears the VMID would take another cluster's disks from a shared storage too (`proxmox-ve.md` §17).
fn removing(vmid: u32) -> String {
    format!(
        "qm unlock {vmid} && qm destroy {vmid}, and `pvesm free` what `pvesm list STORAGE --vmid {vmid}` still shows"
    )
}

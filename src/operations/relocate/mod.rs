//! Owns the move of a virtual machine to another cluster by backup and restore: the one interpreter of its steps.
//!
//! ```text
//! preflight → Taken → Shutdown → Onboot → Backup → Fence → Transfer → Restore → Verify
//!           → LIVE → Start → Commit → Retire → Release
//! ```
//!
//! Contract (design §6). The step is written to the operation's pool *before* its first call, so whoever finds the operation
//! knows what may have happened. Every `do` may run twice: it recognises on the clusters what it did before. Before `Live`
//! every failure is taken back ([`undo`]): the target and the archive go, the source is unfenced and started again. `Live` is
//! written on both clusters before the target's links go up; from there on it only goes forward, in every process, because
//! the target may have accepted writes.
//!
//! A process that takes over goes forward from the written step only while the source is fenced, for then it can't have
//! changed since the backup; else it takes everything back and begins anew.
mod archive;
pub(crate) mod plan;
mod preflight;
mod steps;
mod undo;
mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

use federation::migration::{AfterFailure, Step, Way, after_failure, following};
use federation::model::MigrationPath;
use federation::placement::{Request, recheck};
use federation::{Bytes, ClusterName, Span};
use tokio::sync::OwnedSemaphorePermit;

pub(crate) use archive::remove as remove_archive;
pub use plan::{Checked, Mapping, MigrationPlan};
pub use preflight::Finding;
use preflight::Preflight;
pub(crate) use steps::remove_fenced;

use crate::audit::Line;
use crate::create::{Outcome, dark, new_journal, pick_node};
use crate::failure::{Failure, FailureKind};
use crate::fleet::Fleet;
use crate::guest::{Found, Guest, Record};
use crate::journal::{Journal, Kind, Place, Undo, move_pool};
use crate::operation::Taken;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// What a move is predicted to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Size of all disks.
    pub bytes: Bytes,
    /// Predicted downtime.
    pub downtime: Span,
    /// What is not as declared.
    pub warnings: Vec<Failure>,
}

/// Everything that the steps of one move need.
pub(crate) struct Move<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) source: Arc<Site>,
    pub(crate) target: Arc<Site>,
    pub(crate) spec: &'a VmSpec,
    /// What federation names become on the target.
    pub(crate) resolved: Resolved,
    /// The transfer storage, by its name on the source and on the target.
    pub(crate) transfer: (String, String),
    pub(crate) path: MigrationPath,
    pub(crate) journal: Journal,
    /// The operation's pool, the same on both clusters.
    pub(crate) pool: String,
    pub(crate) what: String,
    pub(crate) deadline: Instant,
    pub(crate) warnings: Vec<Failure>,
    /// The source node's place for a backup: held from before the shutdown until the backup has ended.
    pub(crate) backup_slot: Option<OwnedSemaphorePermit>,
    /// The path's place, held until the move ends.
    pub(crate) path_slot: Option<OwnedSemaphorePermit>,
    /// Bytes that the step at hand wrote.
    pub(crate) bytes: Option<u64>,
    /// Downtime, in seconds: what was predicted, and once the target runs what it was.
    pub(crate) predicted: Option<u64>,
    pub(crate) downtime: Option<u64>,
}

impl Fleet {
    /// Brings a machine to `target`: finishes a move of its own that is under way, or begins one.
    ///
    /// # Errors
    /// What preflight refuses, before anything is touched; a living holder; what failed and was taken back; or, past "live",
    /// what is left to do.
    pub async fn relocate(
        &self,
        spec: &VmSpec,
        request: &Request,
        record: &Record,
        target: &ClusterName,
        timeout: Option<Span>,
    ) -> Result<Outcome, Failure> {
        let what = format!("Unable to move virtual machine {} to {target}", spec.name);
        let deadline = Instant::now() + Duration::from(timeout.unwrap_or(self.settings().update));
        let mut guest = self.present(record, &what).await?;
        let mut warnings = Vec::new();
        if let Some(journal) = guest.operation.clone() {
            let outcome = self.settle(spec, journal, Some(target), &what, deadline).await?;
            warnings = outcome.warnings;
            guest = outcome.guest;
        }
        if guest.place.cluster == *target {
            return Ok(Outcome { guest, warnings });
        }
        let mut outcome = self.begin(spec, request, &guest, target, &what, deadline).await?;
        warnings.append(&mut outcome.warnings);
        Ok(Outcome { guest: outcome.guest, warnings })
    }

    /// Finishes an operation that was left open, or takes it back, so that the machine is where its cluster says.
    ///
    /// # Errors
    /// As [`Fleet::relocate`].
    pub async fn finish(&self, spec: &VmSpec, record: &Record, timeout: Option<Span>) -> Result<Outcome, Failure> {
        let what = format!("Unable to finish the open operation of virtual machine {}", spec.name);
        let deadline = Instant::now() + Duration::from(timeout.unwrap_or(self.settings().update));
        let guest = self.present(record, &what).await?;
        match guest.operation.clone() {
            Some(journal) => self.settle(spec, journal, None, &what, deadline).await,
            None => Ok(Outcome { guest, warnings: Vec::new() }),
        }
    }

    /// What a move would meet, as far as reading goes: everything preflight finds, or what it predicts. Touches nothing.
    pub async fn preview(&self, spec: &VmSpec, record: &Record, target: &ClusterName) -> Result<Preview, Failure> {
        let what = format!("A move of virtual machine {} to {target} would be refused", spec.name);
        let guest = self.present(record, &what).await?;
        let to_site = self.need(target.as_str(), &what)?.clone();
        let from_site = self.need(guest.place.cluster.as_str(), &what)?.clone();
        let facts = self.inventory().await.clusters.get(target).cloned().unwrap_or_default();
        let resolved = self.resolve(spec, target, &facts, &what)?;
        let node = pick_node(&facts, &VmSpec { node: pinned_node(spec, &guest), ..spec.clone() }, &resolved, &what)?;
        let vmid = match spec.vmid {
            Some(vmid) => vmid,
            None => self.vmid_on(&to_site, spec, guest.place.vmid, &what).await?,
        };
        let to = Place { cluster: target.clone(), node, vmid };
        let preflight = Preflight {
            fleet: self,
            source: &from_site,
            target: &to_site,
            spec,
            guest: &guest,
            to: &to,
            resolved: &resolved,
        };
        match preflight.run().await {
            Ok(passed) => {
                let disks = guest.config.disks().unwrap_or_default();
                let bytes = disks.values().filter_map(proxmox::DiskSpec::size_bytes).sum();
                Ok(Preview {
                    bytes: Bytes(bytes),
                    downtime: Span::from_secs(passed.predicted_downtime),
                    warnings: passed.warnings,
                })
            }
            Err(findings) => Err(preflight::refusal(&what, &findings)),
        }
    }

    /// The machine, or why it can't be touched now.
    pub(crate) async fn present(&self, record: &Record, what: &str) -> Result<Guest, Failure> {
        let stale = |changed: String| Failure::stale(what, format!("{}: {changed}", record.name));
        match self.find(record).await {
            Found::Here(mut guest) => {
                // What is done next depends on it, and the overview may be older than the plan.
                if let Some(site) = self.site(guest.place.cluster.as_str())
                    && let Ok(now) = site.client.vm_status(&guest.place.node, guest.place.vmid).await
                {
                    guest.running = now.status == "running";
                }
                Ok(*guest)
            }
            Found::Elsewhere(guest) => Err(stale(format!("somebody moved it to {}", guest.place))),
            Found::Gone => Err(stale(format!("it does not exist any more (was {}/{})", record.cluster, record.vmid))),
            Found::Unsure(why) => Err(stale(why)),
        }
    }

    async fn begin(
        &self,
        spec: &VmSpec,
        request: &Request,
        guest: &Guest,
        target: &ClusterName,
        what: &str,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let to_site = self.need(target.as_str(), what)?.clone();
        let from_site = self.need(guest.place.cluster.as_str(), what)?.clone();
        let inventory = self.recent_inventory().await;
        recheck(&self.rules().await.federation, &inventory, request, target).map_err(|reasons| {
            let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            Failure::stale(what, format!("cluster {target} can't take it any more: {}", reasons.join("; ")))
        })?;
        let facts = inventory.clusters.get(target).cloned().unwrap_or_default();
        let resolved = self.resolve(spec, target, &facts, what)?;
        let node = pick_node(&facts, &VmSpec { node: pinned_node(spec, guest), ..spec.clone() }, &resolved, what)?;
        let vmid = match spec.vmid {
            Some(vmid) => vmid,
            None => self.vmid_on(&to_site, spec, guest.place.vmid, what).await?,
        };
        let to = Place { cluster: target.clone(), node, vmid };
        let passed =
            Preflight { fleet: self, source: &from_site, target: &to_site, spec, guest, to: &to, resolved: &resolved }
                .run()
                .await
                .map_err(|findings| preflight::refusal(what, &findings))?;
        if let Some(pool) = &spec.pool {
            self.ensure_pool(&to_site, pool.as_str(), what).await?;
        }
        let mut journal = new_journal(Kind::Move, spec, Some(guest.place.clone()), to, guest.uuid.clone());
        journal.undo = Undo {
            onboot: guest.on_boot(),
            running: guest.running,
            protection: guest.protection(),
            ha: passed.ha_state.clone(),
        };
        journal.transfer = Some(passed.transfer.clone());
        let pool = move_pool(&guest.uuid);
        if let Taken::Over(_) = self.take(&from_site, &pool, &journal, what).await? {
            // Somebody began and died since we looked: what it did is taken back by the next apply, which sees it.
            return Err(Failure::stale(what, "another run began to move it and died"));
        }
        let mut warnings = passed.warnings;
        let mut moving = Move {
            fleet: self,
            source: from_site,
            target: to_site,
            spec,
            resolved,
            transfer: passed.transfer,
            path: passed.path,
            journal,
            pool,
            what: what.to_owned(),
            deadline,
            warnings: Vec::new(),
            backup_slot: None,
            path_slot: None,
            bytes: None,
            predicted: Some(passed.predicted_downtime),
            downtime: None,
        };
        moving.take_path().await;
        let outcome = moving.run().await;
        warnings.append(&mut moving.warnings);
        outcome.map(|guest| Outcome { guest, warnings })
    }

    /// The VMID on the target: its own where that is free, else the next of the range.
    async fn vmid_on(&self, target: &Site, spec: &VmSpec, own: u32, what: &str) -> Result<u32, Failure> {
        let overview = target.fresh().await.map_err(|error| dark(what, &target.name, error))?;
        if overview.guest(own).is_none() && target.client.next_id(Some(own)).await.is_ok() {
            return Ok(own);
        }
        self.pick_vmid(target, spec, what).await
    }

    /// Takes an open move over, and brings it to one of its two ends. `wish`: the cluster that is wanted now; `None` takes
    /// back what is not live.
    async fn settle(
        &self,
        spec: &VmSpec,
        found: Journal,
        wish: Option<&ClusterName>,
        what: &str,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let Some(from) = found.from.clone() else {
            return Err(Failure::new(what).at(format!("operation {} is not a move", found.op)));
        };
        let source = self.need(from.cluster.as_str(), what)?.clone();
        let target = self.need(found.to.cluster.as_str(), what)?.clone();
        let pool = move_pool(&found.uuid);
        let Some(mut journal) = self.adopt(&source, &pool, what).await? else {
            return self.released(&target, found, what).await;
        };
        // A machine may have changed its node since.
        if let Some(from) = journal.from.as_mut() {
            from.node = node_of(&source, from).await;
        }
        journal.to.node = node_of(&target, &journal.to).await;
        // Live on either side is live: it is written to both before anything depends on it.
        let there = target.client.pool(&pool).await.map_err(|error| dark(what, &target.name, error))?;
        if let Some(theirs) = there.and_then(|pool| Journal::read(&pool.comment?)).filter(Journal::is_live) {
            journal.step = journal.step.max(theirs.step);
        }
        let transfer = match journal.transfer.clone() {
            Some(transfer) => transfer,
            None => preflight::transfer_of(self, &source, &target, what).await?,
        };
        let mut moving = Move {
            fleet: self,
            spec,
            resolved: Resolved::default(),
            transfer,
            path: self.path(&from.cluster, &journal.to.cluster),
            source,
            target,
            journal,
            pool,
            what: what.to_owned(),
            deadline,
            warnings: Vec::new(),
            backup_slot: None,
            path_slot: None,
            bytes: None,
            predicted: None,
            downtime: None,
        };
        moving.take_path().await;
        let wanted = wish.is_some_and(|wish| *wish == moving.journal.to.cluster);
        let way = moving.way(wanted).await?;
        if way == Way::Forward && !moving.journal.is_live() {
            let facts = moving.target.take_facts(self.settings().fact_age.into()).await;
            moving.resolved = self.resolve(spec, &moving.target.name, &facts, what)?;
        }
        let guest = match way {
            Way::Forward => {
                moving.tasks_end_on_both().await?;
                moving.run().await?
            }
            Way::Back => moving.take_back().await?,
        };
        Ok(Outcome { guest, warnings: moving.warnings })
    }

    /// The source's pool of the operation is gone: it was given back there, or removed by hand. Of a move that went past
    /// "live" only the target's is left; else another run came to its end since we looked.
    async fn released(&self, target: &Arc<Site>, found: Journal, what: &str) -> Result<Outcome, Failure> {
        let pool = move_pool(&found.uuid);
        let there = target.client.pool(&pool).await.map_err(|error| dark(what, &target.name, error))?;
        let journal = there.and_then(|pool| Journal::read(&pool.comment?));
        let Some(journal) = journal.filter(|journal| journal.op == found.op && journal.is_live()) else {
            return Err(Failure::stale(what, "another run brought its operation to an end meanwhile"));
        };
        self.give_back(target, &pool, journal.epoch).await.map_err(|error| {
            Failure::new(what)
                .at(format!("cluster {}: the operation can't be given back", target.name))
                .said(error)
                .next("apply again")
        })?;
        let to = &journal.to;
        let node = node_of(target, to).await;
        let guest = target.guest_now(&node, to.vmid).await.map_err(|error| {
            Failure::new(what).at(to.to_string()).said(error).state("the move is done").next("plan again")
        })?;
        Ok(Outcome { guest, warnings: Vec::new() })
    }

    /// The declared path, or the defaults.
    pub(crate) fn path(&self, from: &ClusterName, to: &ClusterName) -> MigrationPath {
        self.facts(from.as_str()).migration_paths.get(to).cloned().unwrap_or_default()
    }
}

/// The node that a guest is on now, as far as the cluster tells; else where it was.
pub(crate) async fn node_of(site: &Site, place: &Place) -> String {
    let overview = site.fresh().await.ok();
    let node = overview.and_then(|overview| overview.guest(place.vmid)?.node.clone());
    node.unwrap_or_else(|| place.node.clone())
}

/// The node of the plan is the user's wish only where it differs from where the machine is: a known node is the source's.
fn pinned_node(spec: &VmSpec, guest: &Guest) -> Option<String> {
    spec.node.clone().filter(|node| *node != guest.place.node)
}

impl Move<'_> {
    /// Goes forward from the written step to the end.
    async fn run(&mut self) -> Result<Guest, Failure> {
        loop {
            let step = self.journal.step;
            tracing::info!(
                operation = %self.journal.op, machine = %self.journal.name, ?step,
                from = %self.source.name, to = %self.target.name, "move"
            );
            let began = Instant::now();
            self.bytes = None;
            let done = self.perform(step).await;
            self.audit(step, began, done.as_ref().err())?;
            if let Err(failure) = done {
                return Err(self.failed(failure).await);
            }
            let Some(next) = following(step) else { break };
            if self.fleet.is_stopping() {
                let mut failure = Failure::new(&self.what).at(format!("stopped by the user before the step {next:?}"));
                failure.kind = FailureKind::Interrupted;
                return Err(failure.state(self.journal.in_words()).next("apply again to go on"));
            }
            if let Err(failure) = self.advance(next).await {
                return Err(self.failed(failure).await);
            }
        }
        let to = &self.journal.to;
        self.target.guest_now(&to.node, to.vmid).await.map_err(|error| {
            Failure::new(&self.what).at(to.to_string()).said(error).state("the move is done").next("plan again")
        })
    }

    /// Waits for the path's place: as many moves at once as it declares.
    async fn take_path(&mut self) {
        let name = format!("path {} {}", self.source.name, self.target.name);
        self.path_slot = self.fleet.slot(name, self.path.max_concurrent).await;
    }

    /// Writes a step's line of the audit trail. A trail that takes nothing any more stops the move at a step boundary.
    fn audit(&self, step: Step, began: Instant, failure: Option<&Failure>) -> Result<(), Failure> {
        let outcome = failure.map_or_else(|| "done".to_owned(), |failure| format!("failed: {failure}"));
        let line = Line {
            at: crate::guest::rfc3339(self.source.now()),
            operation: &self.journal.op,
            machine: &self.journal.name,
            uuid: &self.journal.uuid,
            step: step.as_str(),
            outcome: &outcome,
            seconds: began.elapsed().as_secs_f64(),
            bytes: self.bytes,
            predicted_downtime: self.predicted.filter(|_| step == Step::Taken),
            downtime: self.downtime.filter(|_| step == Step::Start),
        };
        self.fleet.audit().write(&self.journal, &line).map_err(|error| {
            let mut failure = Failure::new(&self.what).at("the audit trail can't be written").said(error);
            failure.kind = FailureKind::Interrupted;
            failure.state(self.journal.in_words()).next("mend `audit_file`, and apply again to go on")
        })
    }

    /// Writes the next step, before its calls. "Live" is written on both clusters, the source's first: whoever finds it on
    /// either side goes forward.
    async fn advance(&mut self, next: Step) -> Result<(), Failure> {
        if next == Step::Release {
            self.journal.step = next;
            return Ok(());
        }
        let before = self.journal.clone();
        self.journal.step = next;
        self.journal.upid = None;
        let written = self.write().await;
        if written.is_err() && next == Step::Live && !self.may_be_live().await {
            // Not written for sure: the first half still holds.
            self.journal = before;
        }
        written
    }

    /// Whether "live" may stand on the source although writing it failed: it does, or nobody can tell.
    async fn may_be_live(&self) -> bool {
        match self.source.client.pool(&self.pool).await {
            Ok(Some(pool)) => {
                pool.comment.and_then(|comment| Journal::read(&comment)).is_none_or(|found| found.is_live())
            }
            Ok(None) | Err(_) => true,
        }
    }

    /// Writes the journal on the source, unless somebody else has taken the operation over: a holder that slept through its
    /// lease goes no further.
    pub(crate) async fn write(&mut self) -> Result<(), Failure> {
        let there = self.source.client.pool(&self.pool).await;
        let there = there.map_err(|error| self.at(&self.from(), "the journal can't be read", error))?;
        let found = there.and_then(|pool| Journal::read(&pool.comment?));
        if found.as_ref().is_none_or(|found| found.op != self.journal.op || found.epoch > self.journal.epoch) {
            let by = found.map_or_else(|| "nobody any more".to_owned(), |found| found.holder.run.clone());
            let mut failure = Failure::new(&self.what).at(format!("operation {} is held by {by}", self.journal.op));
            failure.kind = FailureKind::Interrupted;
            return Err(failure.state("it was taken over from this run, which goes no further").next("plan again"));
        }
        self.fleet.note(&self.source, &self.pool, &mut self.journal, &self.what).await
    }

    /// What a failure comes to: before "live" everything is taken back; past it, or where the user stopped it, it stays.
    async fn failed(&mut self, failure: Failure) -> Failure {
        let interrupted = failure.kind == FailureKind::Interrupted;
        if after_failure(self.journal.step, interrupted) == AfterFailure::Stay {
            if interrupted {
                return failure;
            }
            let to = &self.journal.to;
            let state = format!(
                "the move went past \"live\": {to} is the machine; the source ({}) is fenced and is not started again",
                self.from()
            );
            return failure.state(state).next("mend that, and apply again to go on");
        }
        tracing::warn!(operation = %self.journal.op, what = %failure.what, detail = %failure.detail(), "taking the move back");
        let began = Instant::now();
        let back = self.take_back().await;
        // Taking back is worth more than its line in the trail.
        let _ = self.audit_back(began, back.as_ref().err());
        match back {
            Ok(guest) => {
                let runs = if guest.running { "runs" } else { "is stopped" };
                let left: Vec<String> = self.warnings.drain(..).map(|left| left.to_string()).collect();
                let left = if left.is_empty() { String::new() } else { format!(". {}", left.join("; ")) };
                failure.state(format!("the move was taken back: {} {runs} as before{left}", guest.place))
            }
            Err(undo) => failure
                .state(format!("it could not be taken back yet: {} ({})", undo.detail(), self.journal.in_words()))
                .next("mend that, and apply again: it is taken back or finished first"),
        }
    }

    fn audit_back(&self, began: Instant, failure: Option<&Failure>) -> Result<(), Failure> {
        self.audit(self.journal.step, began, failure.or(Some(&Failure::new("taken back"))))
    }

    pub(crate) fn from(&self) -> Place {
        // A move has a source; a journal without one is refused where it is read.
        self.journal.from.clone().unwrap_or_else(|| self.journal.to.clone())
    }
}

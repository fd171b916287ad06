//! Owns the move of a virtual machine to another cluster by backup and restore: the one interpreter of its steps.
//!
//! ```text
//! preflight → Taken → Shutdown → Onboot → Backup → Fence → Transfer → Restore → Spread → Verify
//!           → LIVE → Start → Health → Commit → Retire → Release
//!                               └─ not well, on_unhealthy = "return" → Halt → Disown → RETURNED → Revive → Close
//! ```
//!
//! Contract (design.md §6). The step is written to the operation's pool *before* its first call, so whoever finds the operation
//! knows what may have happened. Every `do` may run twice: it recognises on the clusters what it did before. Before `Live`
//! every failure is taken back ([`undo`]): the target and the archive go, the source is unfenced and started again. `Live` is
//! written on both clusters before the target's links go up; from there on it only goes forward, in every process, because
//! the target may have accepted writes: to the target, or, where that is not well and the user wants it so, to a source that
//! becomes the machine again while the fenced target is kept ([`turn`]).
//!
//! A process that takes over first voids what an earlier holder knows, by writing the source's notes ([`resume`]).
//!
//! Where the path's method is `offline` or `storage-migration`, Proxmox VE itself sends the machine over ([`carry`]): in place of backup,
//! fence, transfer and restore. It leaves the source locked, and from then on there is no way back.
//!
//! A recovery (`recover`) goes through the same steps without a source, whose cluster is lost: what is said of the source below, and of
//! the archive's being ours, is not true of it.
//!
//! A process that takes over goes forward from the written step only while the source is fenced, for then it can't have
//! changed since the backup; else it takes everything back and begins anew.
mod archive;
mod carry;
mod ending;
mod ends;
mod health;
mod interpreter;
mod older;
pub(crate) mod plan;
mod preflight;
mod recovery;
mod resume;
mod source;
mod spread;
mod steps;
mod target;
mod turn;
mod undo;
mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

use federation::model::{Method, MigrationPath};
use federation::placement::{ClusterFacts, Reason, Request, recheck};
use federation::{Bytes, ClusterName, Span};
use proxmox::VmConfig;
use tokio::sync::OwnedSemaphorePermit;

pub(crate) use archive::remove as remove_archive;
pub(crate) use carry::LOCK;
pub(crate) use ending::{remove_fenced, until};
pub use plan::{Checked, Mapping, MigrationPlan, Outlook};
pub use preflight::Finding;
pub(crate) use preflight::Preflight;
pub(crate) use preflight::{Arrival, disk_bytes, predicted_seconds, refusal, rights};
pub(crate) use turn::kept_for;

use crate::create::{Outcome, dark};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Guest, Record};
use crate::identity::Found;
use crate::journal::{Journal, Kind, Place, Undo, move_pool, new_journal};
use crate::notes::{self, Copy};
use crate::operation::Taken;
use crate::resolve::pick_node;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// What a move is predicted to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// How it would be carried out.
    pub method: Method,
    /// Size of all disks.
    pub bytes: Bytes,
    /// How long it is predicted to take: downtime, unless it moves while it runs.
    pub duration: Span,
    /// Of a recovery: when the backup was made that it would be restored from, RFC 3339.
    pub backup: Option<String>,
    /// What is not as declared.
    pub warnings: Vec<Failure>,
}

/// Everything that the steps of one move need.
pub(crate) struct Move<'a> {
    pub(crate) fleet: &'a Fleet,
    /// The cluster that the machine comes from, which keeps the journal. Of a recovery the target: there is no other.
    pub(crate) source: Arc<Site>,
    pub(crate) target: Arc<Site>,
    pub(crate) spec: &'a VmSpec,
    /// What federation names become on the target.
    pub(crate) resolved: Resolved,
    /// The transfer storage, by its name on the source and on the target; empty where no archive is made.
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
    /// Of a recovery: the machine's configuration in its backup.
    pub(crate) archived: Option<VmConfig>,
    /// The target, once it is a retired copy of the machine that went back to the source.
    pub(crate) returned_copy: Option<notes::Copy>,
}

impl<'a> Move<'a> {
    /// Everything but what preflight finds out, or a recovery needs; at the step that the journal says. `sites`: the source, which keeps
    /// the journal, and the target. `way`: the transfer storage by its names there, and the path.
    fn of(
        fleet: &'a Fleet,
        sites: (Arc<Site>, Arc<Site>),
        spec: &'a VmSpec,
        journal: Journal,
        way: ((String, String), MigrationPath),
        what: String,
        deadline: Instant,
    ) -> Move<'a> {
        Move {
            fleet,
            source: sites.0,
            target: sites.1,
            spec,
            resolved: Resolved::default(),
            transfer: way.0,
            path: way.1,
            pool: move_pool(&journal.uuid),
            journal,
            what,
            deadline,
            warnings: Vec::new(),
            backup_slot: None,
            path_slot: None,
            bytes: None,
            predicted: None,
            downtime: None,
            archived: None,
            returned_copy: None,
        }
    }
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
            let outcome = self.settle(spec, journal, Some(target), Some(target), &what, deadline).await?;
            warnings = outcome.warnings;
            guest = outcome.guest;
        }
        while let Some(copy) = self.old_copy_of(&guest).await {
            let mut fenced = self.fence_old_copy(spec, guest, &copy, &what, deadline).await?;
            warnings.append(&mut fenced.warnings);
            guest = fenced.guest;
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
        if self.is_lost(&record.cluster).await
            && let Found::Lost(Some(journal)) = self.find(record).await
        {
            self.settle_recovery(spec, *journal, None, &what, deadline).await?;
            return Err(Failure::stale(
                what,
                format!("its recovery was taken back, and cluster {} is lost", record.cluster),
            ));
        }
        let guest = self.present(record, &what).await?;
        match (guest.operation.clone(), guest.old_copy.clone()) {
            (Some(journal), _) => self.settle(spec, journal, None, Some(&record.cluster), &what, deadline).await,
            (None, Some(copy)) => self.fence_old_copy(spec, guest, &copy, &what, deadline).await,
            (None, None) => Ok(Outcome { guest, warnings: Vec::new() }),
        }
    }

    /// Brings an operation that was left open to any of its ends, before the machine is removed: whether it is well does not
    /// matter then.
    ///
    /// # Errors
    /// As [`Fleet::relocate`].
    pub(crate) async fn settle_for_removal(
        &self,
        spec: &VmSpec,
        journal: Journal,
        what: &str,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let mut spec = spec.clone();
        spec.migration.health = None;
        self.settle(&spec, journal, None, None, what, deadline).await
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
            Found::Lost(_) => Err(stale(format!("cluster {} is lost, and it was not recovered yet", record.cluster))),
            // Nothing that is known has changed.
            Found::Unsure(why) => Err(Failure::new(what)
                .at(format!("{}: {why}", record.name))
                .state("nothing was touched")
                .next("see to what can't be asked, and apply again")),
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
        recheck(&self.rules().await.federation, &inventory, request, target)
            .map_err(|reasons| may_not_go(request, target, &reasons, what))?;
        let facts = inventory.clusters.get(target).cloned().unwrap_or_default();
        let resolved = self.resolve(spec, target, &facts, what)?;
        let node = self.node_for_move(guest, &to_site, &facts, spec, &resolved, what).await?;
        let older = self.older_copies(&to_site, guest).await;
        let vmid = match spec.vmid {
            Some(vmid) => vmid,
            None => self.vmid_on(&to_site, spec, guest.place.vmid, &older, what).await?,
        };
        let to = Place { cluster: target.clone(), node, vmid };
        let preflight = Preflight {
            fleet: self,
            source: &from_site,
            target: &to_site,
            spec,
            guest,
            to: &to,
            resolved: &resolved,
            older: &older,
        };
        let passed = loop {
            let passed = preflight.run().await.map_err(|findings| preflight::refusal(what, &findings))?;
            match &passed.busy {
                // Then everything is asked again: it may have taken hours.
                Some(busy) => preflight.wait_for(busy, what, deadline).await?,
                None => break passed,
            }
        };
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
        journal.method = self.path(&guest.place.cluster, target).method.of(guest.running);
        journal.transfer.clone_from(&passed.transfer);
        journal.storage = passed.spread.map(|spread| spread.restore);
        journal.older = older.clone();
        let pool = move_pool(&guest.uuid);
        if let Taken::Over(_) = self.take(&from_site, &pool, &journal, what).await? {
            // Somebody began and died since we looked: what it did is taken back by the next apply, which sees it.
            return Err(Failure::stale(what, "another run began to move it and died"));
        }
        if let Err(failure) = self.fits_beside_others(request, target, &journal.op, what).await {
            let undone = self.give_back(&from_site, &pool, journal.epoch).await;
            return Err(if undone.is_ok() {
                failure
            } else {
                failure.state("nothing was touched; the move is not closed")
            });
        }
        let mut warnings = passed.warnings;
        let begun = Move::of(
            self,
            (from_site, to_site),
            spec,
            journal,
            (passed.transfer.unwrap_or_default(), passed.path),
            what.to_owned(),
            deadline,
        );
        let mut moving = Move { resolved, predicted: Some(passed.predicted), ..begun };
        moving.take_path().await;
        let outcome = moving.run().await.and_then(|guest| moving.ended(guest, false));
        warnings.append(&mut moving.warnings);
        outcome.map(|guest| Outcome { guest, warnings })
    }

    /// The node that a machine moves to. Proxmox VE's own migration reaches those alone whose address is known.
    pub(crate) async fn node_for_move(
        &self,
        guest: &Guest,
        target: &Site,
        facts: &ClusterFacts,
        spec: &VmSpec,
        resolved: &Resolved,
        what: &str,
    ) -> Result<String, Failure> {
        let wish = VmSpec { node: pinned_node(spec, guest), ..spec.clone() };
        let mut facts = facts.clone();
        if self.path(&guest.place.cluster, &target.name).method != Method::BackupRestore {
            let entries = preflight::entry_nodes(target).await;
            // With none of them, preflight says why.
            if facts.nodes.iter().any(|node| entries.contains(&node.name)) {
                facts.nodes.retain(|node| entries.contains(&node.name));
            }
        }
        pick_node(&facts, &wish, resolved, what)
    }

    /// The VMID on the target: its own where that is free, or held by a copy that makes way (`older`), else the next of the range.
    pub(crate) async fn vmid_on(
        &self,
        target: &Site,
        spec: &VmSpec,
        own: u32,
        older: &[Copy],
        what: &str,
    ) -> Result<u32, Failure> {
        if older.iter().any(|copy| copy.vmid == own) {
            return Ok(own);
        }
        let overview = target.fresh().await.map_err(|error| dark(what, &target.name, error))?;
        if overview.guest(own).is_none() && target.client.next_id(Some(own)).await.is_ok() {
            return Ok(own);
        }
        self.pick_vmid(target, spec, what).await
    }

    /// The declared path, or the defaults.
    pub(crate) fn path(&self, from: &ClusterName, to: &ClusterName) -> MigrationPath {
        self.facts(from.as_str()).migration_paths.get(to).cloned().unwrap_or_default()
    }
}

/// Why placement refuses a move. Who is pinned asked for this very cluster, whatever the facts were then: planning again would change
/// nothing.
fn may_not_go(request: &Request, target: &ClusterName, reasons: &[Reason], what: &str) -> Failure {
    if request.pin.is_some() {
        let findings: Vec<Finding> = reasons.iter().map(|reason| plan::placement(target, reason)).collect();
        return preflight::refusal(what, &findings);
    }
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    Failure::stale(what, format!("cluster {target} can't take it any more: {}", reasons.join("; ")))
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

//! Owns recovering a machine whose cluster is lost: from the newest backup that another cluster sees.
//!
//! Only the operator knows that a site won't come back, so it is declared ([`Fleet::with_lost`]); and a cluster that answers is not
//! lost, whatever is declared ([`Fleet::is_lost`]). What the machine wrote since its backup is gone, and the plan says since when.
//!
//! It is the second half of a move, whose steps carry it out (`relocate`): the archive is there, its source is not. The journal is kept
//! by the cluster that the machine comes to. Nothing fences the old copy, which nobody can reach; the machine's notes remember it, and
//! when its cluster answers again it is fenced before anything else ([`old_copy`]).
mod backups;
mod check;
mod found;
mod old_copy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation::model::{Federation, Method};
use federation::placement::{Inventory, Ledger, Request, recover};
use federation::{ClusterName, Span};
use proxmox::VmConfig;
use tokio::sync::Mutex;

pub use backups::{Backup, Made};
use check::Check;
pub(crate) use old_copy::RECOVERY;

use crate::create::Outcome;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::Record;
use crate::identity::Found;
use crate::journal::{Journal, Kind, Place, Undo, move_pool, new_journal};
use crate::operation::Taken;
use crate::relocate::{Move, Outlook, Preview};
use crate::resolve::pick_node;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// Where a machine of a lost cluster is recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The cluster.
    pub to: ClusterName,
    /// Why there, and from which backup, in words.
    pub placement: String,
}

/// What the clusters see of the backups of a machine whose cluster is lost.
#[derive(Debug, Default)]
pub struct Backups {
    /// The newest that each cluster sees.
    pub newest: BTreeMap<ClusterName, Backup>,
    /// What could not be asked, in words: a newer backup may be there.
    pub doubts: Vec<String>,
}

impl Fleet {
    /// Where a machine of a lost cluster should be recovered; `request` without where it was. What is answered is noted in `ledger`,
    /// so that many machines of one cluster don't all go where there is room for one; it is not held while clusters are asked.
    ///
    /// # Errors
    /// Why it can't be: no backup that anybody sees, or no room where it is.
    pub async fn recovery(
        &self,
        federation: &Federation,
        inventory: &Inventory,
        record: &Record,
        request: &Request,
        ledger: &Mutex<Ledger>,
        backups: &Backups,
    ) -> Result<Recovery, Failure> {
        let what = format!("Virtual machine {} can't be recovered", record.name);
        let pool = request.pool.as_ref().and_then(|pool| federation.pools.get(pool));
        let made: BTreeMap<ClusterName, Made> = backups
            .newest
            .iter()
            .filter(|(cluster, _)| pool.is_some_and(|pool| pool.clusters.contains(*cluster)))
            .map(|(cluster, backup)| (cluster.clone(), backup.at))
            .collect();
        if made.is_empty() {
            return Err(no_backup(&what, record, backups));
        }
        let times = made.iter().map(|(cluster, made)| (cluster.clone(), made.seconds())).collect();
        let mut ledger = ledger.lock().await;
        ledger.forget(request.pool.as_ref(), &request.name);
        let decision = recover(federation, inventory, request, &ledger, &times).map_err(|refusal| {
            let newest = made.values().max().map(Made::to_string).unwrap_or_default();
            Failure::new(&what)
                .at(format!("no cluster that sees its newest backup ({newest}) can take it:\n{refusal}"))
                .next("make room there; or name a cluster with an older backup in `cluster`")
        })?;
        ledger.record(decision.cluster.clone(), request.clone());
        let at = made.get(&decision.cluster).map(Made::to_string).unwrap_or_default();
        let placement = format!("{} ({} is lost: recovered from its backup of {})", decision.why, record.cluster, at);
        Ok(Recovery { to: decision.cluster, placement })
    }

    /// What an open operation means for a recovery: where it goes on.
    ///
    /// # Errors
    /// A move that was under way when the cluster was lost.
    pub fn goes_on(&self, record: &Record, open: &Journal) -> Result<Recovery, Failure> {
        if open.kind != Kind::Recovery {
            let what = format!("Virtual machine {} can't be recovered", record.name);
            return Err(taken_meanwhile(&what, open, &move_pool(&record.uuid)));
        }
        let placement = format!("{} is lost: its recovery goes on", record.cluster);
        Ok(Recovery { to: open.to.cluster.clone(), placement })
    }

    /// What a recovery would meet, as far as reading goes. Touches nothing.
    ///
    /// # Errors
    /// What would refuse it.
    pub(crate) async fn preview_recovery(
        &self,
        spec: &VmSpec,
        record: &Record,
        target: &ClusterName,
    ) -> Result<Outlook, Failure> {
        let what = format!("A recovery of virtual machine {} on {target} would be refused", spec.name);
        let site = self.need(target.as_str(), &what)?.clone();
        if let Found::Lost(Some(journal)) = self.find(record).await {
            return Ok(Outlook::UnderWay(journal.stands()));
        }
        let begun = self.prepare(&site, spec, record, &what).await?;
        let (bytes, duration) = (begun.check.bytes(), begun.check.takes());
        Ok(Outlook::Predicted(Preview {
            method: Method::BackupRestore,
            bytes,
            duration,
            backup: Some(begun.backup.at.to_string()),
            warnings: begun.check.warnings,
        }))
    }

    /// Recovers a machine of a lost cluster on `target`: finishes a recovery of its own that is under way, or begins one. `planned`: the
    /// volume id there of the backup that the plan saw; another one is never restored in its place.
    ///
    /// # Errors
    /// A cluster that answers again; what refuses it before anything is touched; a living holder; or what failed, and what is left to
    /// do.
    pub async fn recover(
        &self,
        spec: &VmSpec,
        request: &Request,
        record: &Record,
        target: &ClusterName,
        planned: Option<&str>,
        timeout: Option<Span>,
    ) -> Result<Outcome, Failure> {
        let what = format!("Unable to recover virtual machine {} on {target}", spec.name);
        let deadline = Instant::now() + Duration::from(timeout.unwrap_or(self.settings().update));
        if !self.still_lost(&record.cluster).await || !self.is_lost(&record.cluster).await {
            return Err(Failure::stale(
                what,
                format!("cluster {} answers again, or is not declared lost any more", record.cluster),
            ));
        }
        match self.find(record).await {
            Found::Lost(None) => {}
            Found::Lost(Some(journal)) => {
                // One of another backup is begun anew.
                let wish = (journal.archive.as_deref() == planned).then_some(target);
                if let Some(outcome) = self.settle_recovery(spec, *journal, wish, &what, deadline).await? {
                    return Ok(outcome);
                }
            }
            Found::Unsure(why) => return Err(Failure::stale(what, why)),
            _ => return Err(Failure::stale(what, "another run has recovered it meanwhile")),
        }
        self.begin_recovery(spec, request, record, target, planned, &what, deadline).await
    }

    #[expect(clippy::too_many_arguments, reason = "one recovery, seen whole")]
    async fn begin_recovery(
        &self,
        spec: &VmSpec,
        request: &Request,
        record: &Record,
        target: &ClusterName,
        planned: Option<&str>,
        what: &str,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let site = self.need(target.as_str(), what)?.clone();
        self.still_fits(request, target, what).await?;
        let begun = self.prepare(&site, spec, record, what).await?;
        if planned != Some(begun.backup.volid.as_str()) {
            let planned = planned.unwrap_or("none");
            let newest = &begun.backup.volid;
            let why = format!("cluster {target}: the newest backup is {newest} now, and the plan had {planned}");
            return Err(Failure::stale(what, why));
        }
        if let Some(pool) = &spec.pool {
            self.ensure_pool(&site, pool.as_str(), what).await?;
        }
        let from = Place { cluster: record.cluster.clone(), node: record.node.clone(), vmid: record.vmid };
        let mut journal = new_journal(Kind::Recovery, spec, Some(from), begun.to.clone(), record.uuid.clone());
        let config = &begun.backup.config;
        journal.undo =
            Undo { onboot: config.onboot(), running: spec.started, protection: config.protection(), ha: None };
        let storage = begun.backup.storage().to_owned();
        journal.transfer = Some((storage.clone(), storage));
        journal.archive = Some(begun.backup.volid.clone());
        journal.storage = begun.check.restored_to();
        // Older versions read it, and don't know a tier.
        journal.wants = Some(Box::new(Request { tier: None, ..request.clone() }));
        let pool = move_pool(&record.uuid);
        if let Taken::Over(found) = self.take(&site, &pool, &journal, what).await? {
            return Err(taken_meanwhile(what, &found, &pool));
        }
        let alone = self.alone(record, &site, &pool, what).await;
        let fits = match alone {
            Ok(()) => self.fits_beside_others(request, target, &journal.op, what).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = fits {
            let undone = self.give_back(&site, &pool, journal.epoch).await;
            return Err(if undone.is_ok() {
                failure
            } else {
                failure.state("nothing was touched; the recovery is not closed")
            });
        }
        let (resolved, predicted) = (begun.resolved, begun.check.takes().as_secs_ceil());
        let mut moving =
            Move::recovering(self, site, spec, resolved, journal, begun.backup.config, what.to_owned(), deadline);
        moving.predicted = Some(predicted);
        let guest = moving.run().await?;
        Ok(Outcome { guest, warnings: moving.warnings })
    }

    /// Whether nobody recovers it on another cluster just now: each has its journal there. Of two that write first and look then, at least
    /// one sees the other.
    async fn alone(&self, record: &Record, here: &Site, pool: &str, what: &str) -> Result<(), Failure> {
        for site in self.sites().filter(|site| site.name != here.name && site.name != record.cluster) {
            let Ok(overview) = site.fresh().await else { continue };
            if let Some(other) = overview.operation(pool) {
                return Err(Failure::stale(
                    what,
                    format!("{} at the same time ({})", other.in_words(), other.holder.run),
                ));
            }
        }
        Ok(())
    }

    /// Takes an open recovery over: forward where it is live, or where its cluster is the one that is wanted; else it is taken back,
    /// and nothing of it is left.
    ///
    /// # Errors
    /// As [`Fleet::recover`].
    pub(crate) async fn settle_recovery(
        &self,
        spec: &VmSpec,
        found: Journal,
        wish: Option<&ClusterName>,
        what: &str,
        deadline: Instant,
    ) -> Result<Option<Outcome>, Failure> {
        let site = self.need(found.to.cluster.as_str(), what)?.clone();
        let pool = move_pool(&found.uuid);
        if found.kind != Kind::Recovery {
            return Err(taken_meanwhile(what, &found, &pool));
        }
        let Some(mut journal) = self.adopt(&site, &pool, what).await? else {
            return Err(Failure::stale(what, "another run brought its operation to an end meanwhile"));
        };
        journal.to.node = crate::relocate::node_of(&site, &journal.to).await;
        let wanted = wish.is_some_and(|wish| *wish == journal.to.cluster);
        let forward = federation::migration::resume_recovery(journal.step, journal.taking_back, wanted)
            == federation::migration::Way::Forward;
        let archived = if forward { self.archived(&site, &journal, what).await? } else { None };
        // Where the backup is gone, what was restored of it can't be compared any more: it is begun anew.
        let forward = forward && (archived.is_some() || journal.is_past_live());
        let config = archived.unwrap_or_default();
        let mut resolved = Resolved::default();
        if forward {
            let facts = site.take_facts(self.settings().fact_age.into()).await;
            resolved = self.resolve(spec, &site.name, &facts, what)?;
        }
        let mut moving = Move::recovering(self, site, spec, resolved, journal, config, what.to_owned(), deadline);
        if !forward {
            moving.take_recovery_back().await?;
            return Ok(None);
        }
        moving.end_of_target_tasks().await?;
        let guest = moving.run().await?;
        Ok(Some(Outcome { guest, warnings: moving.warnings }))
    }

    /// Brings a recovery that was found with its machine to its end: forward, unless the cluster that was lost answers again before it
    /// was live. Then the machine is where it always was.
    ///
    /// # Errors
    /// As [`Fleet::recover`].
    pub(crate) async fn end_recovery(
        &self,
        spec: &VmSpec,
        found: Journal,
        what: &str,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let Some(from) = found.from.clone() else {
            return Err(Failure::new(what).at(format!("operation {} doesn't say what it recovers", found.op)));
        };
        let there = found.to.cluster.clone();
        let wish = if self.is_lost(&from.cluster).await { Some(&there) } else { None };
        if let Some(outcome) = self.settle_recovery(spec, found, wish, what, deadline).await? {
            return Ok(outcome);
        }
        let site = self.need(from.cluster.as_str(), what)?;
        let guest = site.guest_now(&from.node, from.vmid).await;
        let guest =
            guest.map_err(|error| crate::create::dark(what, &site.name, error).state("its recovery was taken back"))?;
        Ok(Outcome { guest, warnings: Vec::new() })
    }

    /// The machine's configuration in the archive that a journal names; `None` where that is not there any more.
    async fn archived(&self, site: &Arc<Site>, journal: &Journal, what: &str) -> Result<Option<VmConfig>, Failure> {
        let volid = journal.archive.clone().unwrap_or_default();
        match site.client.extract_config(&journal.to.node, &volid).await {
            Ok(config) => Ok(Some(config)),
            Err(error) if backups::is_gone(&error) || journal.is_past_live() => Ok(None),
            Err(error) => Err(Failure::new(what)
                .at(format!("{}: backup {volid} can't be read", journal.to))
                .said(error)
                .state(journal.in_words())
                .next("bring its storage back, and apply again")),
        }
    }

    /// Everything that is settled before a recovery begins. Touches nothing.
    async fn prepare(&self, site: &Arc<Site>, spec: &VmSpec, record: &Record, what: &str) -> Result<Begun, Failure> {
        let found = site.newest_backup(record).await.map_err(|why| {
            Failure::new(what)
                .at(format!("cluster {}: {why}", site.name))
                .state("nothing was touched")
                .next("mend that, and apply again")
        })?;
        let Some(backup) = found.newest else {
            return Err(Failure::stale(what, format!("cluster {} sees no backup of it", site.name)));
        };
        let facts = self.recent_inventory().await.clusters.get(&site.name).cloned().unwrap_or_default();
        let resolved = self.resolve(spec, &site.name, &facts, what)?;
        let wished = VmSpec { node: spec.node.clone().or_else(|| backup.node.clone()), ..spec.clone() };
        let node = pick_node(&facts, &wished, &resolved, what)?;
        if let Some(only) = backup.node.as_ref().filter(|only| **only != node) {
            return Err(Failure::new(what)
                .at(format!("cluster {}: its newest backup ({}) is on node {only} alone", site.name, backup.volid))
                .state("nothing was touched")
                .next(format!("leave `node` out, or set it to {only:?}")));
        }
        let vmid = match spec.vmid {
            Some(vmid) => vmid,
            None => self.vmid_on(site, spec, record.vmid, &[], what).await?,
        };
        let to = Place { cluster: site.name.clone(), node, vmid };
        let check = Check::of(self, site, spec, record, &backup, &to, &resolved)
            .await
            .map_err(|found| crate::relocate::refusal(what, &found))?;
        Ok(Begun { backup, resolved, to, check })
    }
}

/// What is known before a recovery begins.
struct Begun {
    backup: Backup,
    resolved: Resolved,
    to: Place,
    check: Check,
}

fn no_backup(what: &str, record: &Record, backups: &Backups) -> Failure {
    let elsewhere = backups
        .newest
        .iter()
        .map(|(cluster, backup)| format!("; {cluster}, which is not of its pool, sees one of {}", backup.at));
    let doubts = backups.doubts.iter().map(|doubt| format!("; {doubt}"));
    Failure::new(what)
        .at(format!(
            "no cluster of its pool sees a backup of VMID {} with its UUID ({}){}",
            record.vmid,
            record.uuid,
            elsewhere.chain(doubts).collect::<String>()
        ))
        .state("nothing of it is touched")
        .next(
            "bring a storage with its backups to one of them, and give the token Datastore.Allocate on the storage and VM.Backup on /vms; \
             or wait for the cluster",
        )
}

/// Why a recovery can't begin beside what is open: another run's, or a move that was under way when the cluster was lost, of which
/// nobody can say any more whether it is whole.
pub(crate) fn taken_meanwhile(what: &str, found: &Journal, pool: &str) -> Failure {
    if found.kind == Kind::Recovery {
        return Failure::stale(what, "another run began to recover it and died");
    }
    if found.method != Method::BackupRestore {
        return Failure::new(what)
            .at(format!("{}: {} when its cluster was lost (operation {})", found.to, found.in_words(), found.op))
            .state("what Proxmox VE sent there may be the machine, with the newest state; nothing was touched by this run")
            .next(format!(
                "on {}: look at guest {}, and in the log of its qmtunnel task whether all disks came. If it runs, or they did, keep it: unlock \
                 it, pvesh delete /pools --poolid {pool}, and import it. Else remove it and its volumes and that pool, and apply again",
                found.to.node, found.to.vmid
            ));
    }
    Failure::new(what)
        .at(format!("{}: {} when its cluster was lost (operation {})", found.to, found.in_words(), found.op))
        .state("what the move restored there may not be whole; nothing was touched by this run")
        .next(format!(
            "on {}: look at guest {}, remove it where it is not whole, and its volumes; then pvesh delete /pools --poolid {pool}, \
             and apply again",
            found.to.node, found.to.vmid
        ))
}

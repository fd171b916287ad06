//! Owns going on with a move that another run left open.
use std::sync::Arc;
use std::time::Instant;

use federation::ClusterName;
use federation::migration::{Method, Way};
use proxmox::Params;

use super::{LOCK, Move, node_of, preflight};
use crate::create::{Outcome, dark};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::journal::{Journal, Kind, move_pool};
use crate::notes::{self, Mark};
use crate::site::Site;
use crate::spec::VmSpec;

impl Fleet {
    /// Takes an open move over, and brings it to one of its ends. `wish`: the cluster that is wanted now; `None` takes back
    /// what is not live. `back`: the cluster on which the machine may be found again without that being an error; `None`: any.
    pub(super) async fn settle(
        &self,
        spec: &VmSpec,
        found: Journal,
        wish: Option<&ClusterName>,
        back: Option<&ClusterName>,
        what: &str,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        if found.kind == Kind::Recovery {
            return self.end_recovery(spec, found, what, deadline).await;
        }
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
        // Before, what has the VMID there may be a copy that makes way.
        if journal.restored || journal.is_past_live() {
            journal.to.node = node_of(&target, &journal.to).await;
        }
        // Past live on either side is past live, and so is returned: it is written to both before anything depends on it.
        let there = target.client.pool(&pool).await.map_err(|error| dark(what, &target.name, error))?;
        if let Some(theirs) = there.and_then(|pool| Journal::read(&pool.comment?)).filter(Journal::is_past_live) {
            journal.step = journal.step.max(theirs.step);
        }
        let transfer = match journal.transfer.clone() {
            Some(transfer) => transfer,
            None if journal.method != Method::BackupRestore => Default::default(),
            None => preflight::transfer_of(self, &source, &target, what).await?,
        };
        let path = self.path(&from.cluster, &journal.to.cluster);
        let mut moving = Move::of(self, (source, target), spec, journal, (transfer, path), what.to_owned(), deadline);
        moving.void_digests().await?;
        moving.take_path().await;
        let wanted = wish.is_some_and(|wish| *wish == moving.journal.to.cluster);
        let way = moving.way(wanted).await?;
        if way == Way::Forward && !moving.journal.is_past_live() {
            let facts = moving.target.take_facts(self.settings().fact_age.into()).await;
            moving.resolved = self.resolve(spec, &moving.target.name, &facts, what)?;
        }
        let guest = match way {
            Way::Forward => {
                moving.tasks_end_on_both().await?;
                let guest = moving.run().await?;
                let may_be_back = back.is_none_or(|back| *back == moving.source.name);
                moving.ended(guest, may_be_back)?
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
}

/// How often the epoch is written again where somebody else changed the configuration in between.
const DIGEST_TRIES: u32 = 5;

impl Move<'_> {
    /// Writes our epoch into the source's notes. An earlier holder that still lives, and slept on a configuration it had read,
    /// is refused by its digest from now on (design.md §6).
    async fn void_digests(&self) -> Result<(), Failure> {
        let from = self.from();
        self.tasks_end(&self.source, &from).await?;
        let cant = |error| self.at(&from, "the take-over can't be noted on it", error);
        for attempt in 1..=DIGEST_TRIES {
            let config = match self.source.config(&from).await {
                Ok(config) => config,
                // Removed already, so nobody writes it.
                Err(error) if error.is_not_found() || error.is_permission_denied() => return Ok(()),
                Err(error) => return Err(cant(error)),
            };
            if config.lock() == Some(LOCK) {
                // Nobody writes it, the earlier holder neither.
                return Ok(());
            }
            let split = notes::split(config.description().unwrap_or_default());
            let ours = config.uuid().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.journal.uuid));
            if !ours || split.mark.retired.is_some() {
                return Ok(());
            }
            let (op, epoch) = (Some(self.journal.op.clone()), Some(self.journal.epoch));
            if (&split.mark.op, split.mark.epoch) == (&op, epoch) {
                return Ok(());
            }
            let mark = Mark { op, epoch, ..split.mark };
            let params = Params::new().set("description", self.notes(&from, &split.text, &mark)?);
            match self.source.client.set_config(&from.node, from.vmid, params, config.digest()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_digest_mismatch() && attempt < DIGEST_TRIES => {}
                // A left-over lock keeps everybody from writing it, the earlier holder too.
                Err(error) if error.is_locked() => return Ok(()),
                Err(error) => return Err(cant(error)),
            }
        }
        Ok(())
    }
}

//! Owns moves that no configuration asks for, as core meets them: Read finds out and leaves the proposal in private, the plan
//! takes it from there and from nowhere else (design.md §4.4, §5).
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use federation::PoolName;
use federation::placement::{Ledger, Verdict, admissible, left_behind};
use operations::{Backups, Failure, Guest, Journal, Record, Recovery, moves};
use protocol::{Diagnostics, Value};
use serde::{Deserialize, Serialize};

use crate::failures::warn;
use crate::placing::Ready;
use crate::virtual_machine::model;

/// A move that is due, as it travels in private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// The pool whose policy asks for it. Another pool in the configuration, and it is void.
    pub(crate) pool: String,
    /// The cluster that it leaves. Where the machine is elsewhere, it is void.
    pub(crate) from: String,
    /// The cluster that it goes to.
    pub(crate) to: String,
    /// Why, in words: the value of `placement`.
    pub(crate) placement: String,
}

/// What was said once in this process, so that a hundred machines of a pool say it once.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// Whether it is said for the first time.
    pub(crate) fn once(&self, what: String) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(what)
    }
}

/// Whether a machine should leave its cluster now, and for where. Says for its whole pool who moves, who waits and whom
/// nobody will move, once.
pub(crate) async fn proposal(ready: &Ready, guest: &Guest, state: &Value, diags: &mut Diagnostics) -> Option<Proposal> {
    let rules = ready.rules().await;
    let (pool, here) = (guest.pool.as_ref()?, &guest.place.cluster);
    if ready.layers.unknown(pool).is_some() {
        // What the pool becomes is not known yet, so neither is who breaks its rules.
        return None;
    }
    let facts = ready.snapshot.as_ref().map(|snapshot| &*snapshot.inventory);
    let settled = ready.fleet.moves(&rules, facts, pool).await;
    let drains = rules.federation.clusters.get(here).is_some_and(|cluster| cluster.is_draining());
    if drains && ready.told.once(format!("cluster {here}")) {
        let inventory = match &ready.snapshot {
            Some(snapshot) => snapshot.inventory.clone(),
            None => ready.fleet.inventory().await,
        };
        if let Some(left) = left_behind(&rules.federation, &inventory).get(here) {
            diags.warning(format!("Cluster {here} drains"), moves::left_in_words(here, left));
        }
    }
    if !settled.is_empty() && ready.told.once(format!("pool {pool}")) {
        diags.warning(
            format!("Machines of pool {pool} should leave their clusters"),
            moves::in_words(&settled).join("\n"),
        );
    }
    // An open operation comes first, and knows where it goes.
    if guest.operation.is_some() {
        return None;
    }
    let mine = settled.iter().find(|one| one.due.cluster == *here && one.due.vmid == guest.place.vmid)?;
    let Verdict::Move(to) = &mine.verdict else { return None };
    let request = model::request(state, None, None).ok()?;
    let inventory = match facts {
        Some(facts) => facts,
        None => &*ready.fleet.inventory().await,
    };
    // The configuration may ask for more than Proxmox VE shows: a class, a network.
    let against = admissible(&rules.federation, inventory, &request, &to.to, &Ledger::new());
    if !against.is_empty() {
        let against: Vec<String> = against.iter().map(ToString::to_string).collect();
        diags.warning(
            format!("Virtual machine {} can't move as its pool asks", request.name),
            format!("{} → {}: {}", to.from, to.to, against.join("; ")),
        );
        return None;
    }
    Some(made(pool, to))
}

/// Where a machine of a lost cluster is to be recovered. One that can't be stays as it is, and a warning says why. `open`: its
/// recovery that is under way, which knows where it goes.
pub(crate) async fn recovery(
    ready: &Ready,
    record: &Record,
    open: Option<&Journal>,
    backups: &Backups,
    state: &Value,
    diags: &mut Diagnostics,
) -> Option<Proposal> {
    let pool = record.pool.as_ref()?;
    let found = match open {
        Some(journal) => ready.fleet.goes_on(record, journal),
        None => recoverable(ready, record, backups, state).await?,
    };
    match found {
        Ok(recovery) => Some(Proposal {
            pool: pool.to_string(),
            from: record.cluster.to_string(),
            to: recovery.to.to_string(),
            placement: recovery.placement,
        }),
        Err(failure) => {
            warn(&failure, diags);
            None
        }
    }
}

async fn recoverable(
    ready: &Ready,
    record: &Record,
    backups: &Backups,
    state: &Value,
) -> Option<Result<Recovery, Failure>> {
    let request = model::request(state, None, None).ok()?;
    let rules = ready.rules().await;
    let inventory = match &ready.snapshot {
        Some(snapshot) => snapshot.inventory.clone(),
        None => ready.fleet.inventory().await,
    };
    Some(ready.fleet.recovery(&rules.federation, &inventory, record, &request, &ready.ledger, backups).await)
}

fn made(pool: &PoolName, to: &federation::placement::Proposal) -> Proposal {
    Proposal {
        pool: pool.to_string(),
        from: to.from.to_string(),
        to: to.to.to_string(),
        placement: to.placement.clone(),
    }
}

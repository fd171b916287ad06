//! Where a VM goes: a pure function of the federation, the inventory, the request and what this process planned already.
//!
//! Filter, then rank (design.md §4). *Admission* is asked of a VM that arrives or grows, *residence* also of one that is
//! there. A VM's preference list never depends on its siblings; only what binds (capacity, a mixed spread group) does,
//! and then the decision says so. The shares and what was decided beyond the design are documented where they are used.

mod admission;
mod all;
mod capacity;
mod choose;
mod claim;
mod decision;
mod improve;
mod inventory;
mod moves;
mod reason;
mod recovery;
mod request;
mod rules;
mod sequence;
mod set;
mod strategy;
mod unmatched;

pub use all::choose_all;
pub use choose::choose;
pub use claim::{Claim, Turn, VmidScope, turn};
pub use decision::{Candidate, Decision, Explanation, Factor, Refusal};
pub use inventory::{ClusterFacts, GuestFacts, Health, Inventory, NodeFacts, StorageFacts};
pub use moves::{Cause, Due, Proposal, Settled, Verdict, due, left_behind, settle};
pub use reason::{Reason, ReasonClass};
pub use recovery::recover;
pub use request::{Current, DiskRequest, Ledger, Request};
pub use set::{Placed, Wanted, place_set};
pub use unmatched::unmatched;

use crate::model::Federation;
use crate::names::ClusterName;

/// Every reason why `cluster` may not take `request` now: residence and admission together.
///
/// Spread is not among them: it is a matter of choosing between clusters, see [`choose`].
pub fn admissible(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    cluster: &ClusterName,
    ledger: &Ledger,
) -> Vec<Reason> {
    let mut reasons = admission::residence(federation, inventory, request, cluster, ledger);
    reasons.extend(admission::admission(federation, inventory, request, cluster, ledger));
    reasons
}

/// Asks the residence rules of a VM that is there: membership, pin, `must` and `must_not`, capability; never spread,
/// capacity or health.
///
/// # Errors
/// Every rule that `cluster` breaks.
pub fn resident_ok(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    cluster: &ClusterName,
) -> Result<(), Vec<Reason>> {
    let reasons = admission::residence(federation, inventory, request, cluster, &Ledger::new());
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// Every reason why what is written alone keeps `request` from `cluster`, whatever the clusters say: membership, `must` and `must_not`,
/// capability, VLANs. A pool that `federation` doesn't have says nothing.
pub fn forbidden(federation: &Federation, request: &Request, cluster: &ClusterName) -> Vec<Reason> {
    let pool = request.pool.clone().filter(|pool| federation.pools.contains_key(pool));
    let request = Request { pool, ..request.clone() };
    let nothing = Inventory::default();
    let mut reasons = admission::residence(federation, &nothing, &request, cluster, &Ledger::new());
    let declared = federation.clusters.get(cluster);
    reasons.extend(declared.into_iter().flat_map(|declared| admission::networks(declared, &request)));
    reasons
}

/// Asks again, first thing in an apply, what siblings cannot break by being half-done: health, membership, residency,
/// storage, network, capacity, limits; not spread.
///
/// # Errors
/// Every reason why it may not be there.
pub fn recheck(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    cluster: &ClusterName,
) -> Result<(), Vec<Reason>> {
    let reasons = admissible(federation, inventory, request, cluster, &Ledger::new());
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

#[cfg(test)]
mod tests;

//! Where a VM goes: a pure function of the federation, the inventory, the request and what this process planned already.
//!
//! Filter, then rank (design §4). *Admission* is asked of a VM that arrives or grows, *residence* also of one that is
//! there. A VM's preference list never depends on its siblings; only what binds (capacity, a mixed spread group) does,
//! and then the decision says so. The shares and what was decided beyond the design are documented where they are used.

mod decision;
mod inventory;
mod reason;
mod request;

pub use decision::{Candidate, Decision, Explanation, Factor, Refusal};
pub use inventory::{ClusterFacts, GuestFacts, Health, Inventory, NodeFacts, StorageFacts};
pub use reason::{Reason, ReasonClass};
pub use request::{Current, DiskRequest, Ledger, Request};

use crate::model::Federation;
use crate::names::ClusterName;

/// Decides where `request` goes.
///
/// # Errors
/// A [`Refusal`] when no cluster may take it, with every reason and the smallest relaxation.
pub fn choose(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    ledger: &Ledger,
) -> Result<Decision, Refusal> {
    let _ = (federation, inventory, request, ledger);
    Err(Refusal { explanation: Explanation::default(), smallest_relaxation: String::new() })
}

/// Every reason why `cluster` may not take `request` now: residence and admission together.
pub fn admissible(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    cluster: &ClusterName,
    ledger: &Ledger,
) -> Vec<Reason> {
    let _ = (federation, inventory, request, cluster, ledger);
    Vec::new()
}

/// Every residence rule that `cluster` breaks for a VM that is there: membership, `must` and `must_not`, capability.
pub fn resident_ok(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    cluster: &ClusterName,
) -> Result<(), Vec<Reason>> {
    let _ = (federation, inventory, request, cluster);
    Ok(())
}

/// Asks again, first thing in an apply, what siblings cannot break by being half-done: health, membership, residency,
/// storage, network, capacity, limits; not spread.
///
/// # Errors
/// Every reason why the plan is stale.
pub fn recheck(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    cluster: &ClusterName,
) -> Result<(), Vec<Reason>> {
    let _ = (federation, inventory, request, cluster);
    Ok(())
}

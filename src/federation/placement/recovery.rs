//! Where a machine whose cluster is lost is recovered: the freshest backup first, then what placement always goes by.

use std::collections::BTreeMap;

use super::choose::choose;
use super::decision::{Decision, Refusal};
use super::inventory::Inventory;
use super::request::{Ledger, Request};
use crate::model::Federation;
use crate::names::ClusterName;

/// Decides where `request` is recovered. `backups`: when the newest backup was made that each cluster sees, in seconds of one clock.
///
/// Only clusters that see the newest of all are candidates: an older backup elsewhere would lose more, and nobody asked for that.
/// Among them it is [`choose`]'s answer: rules, limits and capacity as for a new machine, a pin included.
///
/// # Errors
/// A [`Refusal`] when none of them may take it; without any backup there are no candidates.
pub fn recover(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    ledger: &Ledger,
    backups: &BTreeMap<ClusterName, i64>,
) -> Result<Decision, Refusal> {
    let newest = backups.values().max();
    let sees = |cluster: &ClusterName| backups.get(cluster).is_some_and(|at| Some(at) == newest);
    let mut among = federation.clone();
    if let Some(pool) = request.pool.as_ref().and_then(|pool| among.pools.get_mut(pool)) {
        pool.clusters.retain(sees);
    }
    choose(&among, inventory, request, ledger)
}

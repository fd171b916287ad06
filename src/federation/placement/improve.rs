//! When a machine may move because another cluster is better: only where that beats a margin, the cost of moving, and any
//! error of what is measured.

use std::collections::{BTreeMap, BTreeSet};

use super::admission::policy_of;
use super::inventory::{GuestFacts, Inventory};
use super::request::{Ledger, Request};
use super::rules::{Meaning, meaning};
use super::{Decision, choose};
use crate::model::Federation;
use crate::names::{ClusterName, VmName};
use crate::units::Bytes;

/// By how much a score must be higher elsewhere: twice what `tier` can make of it, less than one kept `should`.
const MARGIN: f64 = 0.2;
/// What an hour of downtime costs, in score.
const HOUR: f64 = 0.1;
/// By how many machines a cluster must be over, and another under, what `balanced` wants there: less is within the tolerance
/// of its sequences.
const MACHINES: i64 = 2;
/// Months in which a lower price must have paid for the traffic out of the site.
const PAYS_IN_MONTHS: f64 = 3.0;
/// How far off a measured figure may be, either way.
const NOISE: f64 = 0.2;
/// Bytes per second of a backup or restore where the path says less: 100 MiB/s.
const RATE: u64 = 100 << 20;

/// Of a pool's machines those that would be clearly better off elsewhere, with where that is.
///
/// What is measured is taken to be off by [`NOISE`] against the move: use here lower, use there higher. Then a proposal
/// means that it is better by the true figures too, so noise alone can never make one.
pub(super) fn better(
    federation: &Federation,
    inventory: &Inventory,
    members: &[(ClusterName, &GuestFacts, Request)],
) -> BTreeMap<VmName, ClusterName> {
    // Once for a cluster: it is a copy of everything.
    let here: BTreeSet<&ClusterName> = members.iter().map(|(here, _, _)| here).collect();
    let doubted: BTreeMap<&ClusterName, Inventory> =
        here.into_iter().map(|here| (here, doubt(inventory, here))).collect();
    let wishes: Vec<Option<Decision>> = members
        .iter()
        .map(|(here, _, request)| choose(federation, doubted.get(here)?, request, &Ledger::new()).ok())
        .collect();
    let mut surplus: BTreeMap<&ClusterName, i64> = BTreeMap::new();
    for ((here, _, _), wish) in members.iter().zip(&wishes) {
        *surplus.entry(here).or_default() += 1;
        *surplus.entry(wish.as_ref().map_or(here, |wish| &wish.cluster)).or_default() -= 1;
    }
    let mut found = BTreeMap::new();
    for ((here, guest, request), wish) in members.iter().zip(&wishes) {
        let Some(wish) = wish.as_ref().filter(|wish| wish.cluster != *here && !in_company(federation, request)) else {
            continue;
        };
        let hours = downtime_hours(federation, here, &wish.cluster, guest.disk);
        let worth = match gain(here, wish) {
            Some(gain) => gain >= MARGIN + HOUR * hours && pays(federation, here, guest, request, &wish.cluster),
            None => {
                let least = MACHINES + hours as i64;
                let over = surplus.get(here).copied().unwrap_or(0);
                let under = -surplus.get(&wish.cluster).copied().unwrap_or(0);
                over >= least && under >= least
            }
        };
        if worth {
            found.insert(request.name.clone(), wish.cluster.clone());
        }
    }
    found
}

/// By how much the score is higher there; `None` where the strategy has no scores, or the rules none for here.
fn gain(here: &ClusterName, wish: &Decision) -> Option<f64> {
    let score =
        |name: &ClusterName| wish.explanation.candidates.iter().find(|candidate| candidate.cluster == *name)?.score;
    Some(score(&wish.cluster)? - score(here)?)
}

/// Whether rules about the company of a tag concern it: those are kept where it arrives, and move nobody for the better.
fn in_company(federation: &Federation, request: &Request) -> bool {
    let policy = policy_of(federation, request);
    policy.rules.iter().any(|rule| matches!(meaning(rule, request), Meaning::Spread(_) | Meaning::Together(_)))
}

/// Everything measured, as if it were as far off as it may be in favour of staying. Dividing undoes the largest error.
fn doubt(inventory: &Inventory, here: &ClusterName) -> Inventory {
    let mut doubted = inventory.clone();
    for (name, facts) in &mut doubted.clusters {
        let (used, free) = if name == here { (1.0 + NOISE, 1.0 - NOISE) } else { (1.0 - NOISE, 1.0 + NOISE) };
        for node in &mut facts.nodes {
            node.memory_used = node.memory_used.scaled(1.0 / used);
        }
        for storage in &mut facts.storages {
            storage.avail = storage.avail.scaled(1.0 / free).min(storage.total);
            storage.provisioned = storage.provisioned.map(|given| given.scaled(1.0 / used));
        }
    }
    doubted
}

/// Every byte is read once and written once.
fn downtime_hours(federation: &Federation, from: &ClusterName, to: &ClusterName, size: Bytes) -> f64 {
    let path = federation.clusters.get(from).and_then(|cluster| cluster.migration_paths.get(to));
    let limit = path.and_then(|path| path.max_bandwidth);
    let rate = limit.map_or(RATE, |limit| (limit.bits_per_second() / 8).clamp(1, RATE));
    size.0 as f64 * 2.0 / rate as f64 / 3600.0
}

/// Whether what leaving costs is paid back in time by a lower price. Without prices on both sides nothing is owed.
fn pays(federation: &Federation, here: &ClusterName, guest: &GuestFacts, request: &Request, to: &ClusterName) -> bool {
    let pricing = |name: &ClusterName| federation.clusters.get(name).and_then(|cluster| cluster.pricing.as_ref());
    let Some((ours, theirs)) = pricing(here).zip(pricing(to)) else { return true };
    let price = |pricing: &crate::model::Pricing| pricing.per_month(request.cpus, request.memory, [(None, guest.disk)]);
    let traffic = ours.egress_gb * guest.disk.0 as f64 / Bytes::GIB.0 as f64;
    traffic == 0.0 || (price(ours) - price(theirs)) * PAYS_IN_MONTHS >= traffic
}

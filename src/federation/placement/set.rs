//! A set of VMs placed jointly, of which some exist already: those keep their cluster, also when it doesn't answer
//! (hazards.md E8).

use super::decision::{Candidate, Decision, Explanation, Refusal};
use super::inventory::{ClusterFacts, Inventory};
use super::reason::ReasonClass;
use super::request::{Ledger, Request};
use super::{choose, choose_all};
use crate::model::Federation;
use crate::names::{ClusterName, PoolName};

/// One VM of a set.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is asked.
    pub request: Request,
    /// Names it had before: a VM of such a name in its pool is this one.
    pub former_names: Vec<String>,
}

/// Where a VM of a set goes.
#[derive(Debug, Clone)]
pub enum Placed {
    /// It is there, and stays.
    Stays(ClusterName),
    /// The cluster that it would like best doesn't answer, so it may be there. Sending it elsewhere would move a VM because
    /// its site is dark.
    MayBe(ClusterName),
    /// It is new, or pinned: decided together with the others.
    Decided(Result<Decision, Refusal>),
}

/// Places a set; the answers are in its order.
pub fn place_set(federation: &Federation, inventory: &Inventory, wanted: &[Wanted]) -> Vec<Placed> {
    let known: Vec<Option<Placed>> = wanted.iter().map(|one| known(federation, inventory, one)).collect();
    let new = wanted.iter().zip(&known).filter(|(_, known)| known.is_none());
    let requests: Vec<Request> = new.map(|(one, _)| one.request.clone()).collect();
    let mut decided = choose_all(federation, inventory, &requests, &Ledger::new()).into_iter();
    let mut answers = Vec::with_capacity(wanted.len());
    for (one, known) in wanted.iter().zip(known) {
        // As many are decided as are not known; asking alone keeps this total without a panic.
        let alone = || choose(federation, inventory, &one.request, &Ledger::new());
        answers.push(known.unwrap_or_else(|| Placed::Decided(decided.next().unwrap_or_else(alone))));
    }
    answers
}

fn known(federation: &Federation, inventory: &Inventory, one: &Wanted) -> Option<Placed> {
    // A pin is the user's own word.
    if one.request.pin.is_some() {
        return None;
    }
    let pool = one.request.pool.as_ref()?;
    let names = std::iter::once(one.request.name.as_str()).chain(one.former_names.iter().map(String::as_str));
    let at = names.into_iter().find_map(|name| holder(inventory, pool, name));
    at.map(Placed::Stays).or_else(|| best_in_the_dark(federation, inventory, &one.request).map(Placed::MayBe))
}

/// The cluster that holds a VM of this name in the pool. Fenced copies are templates, and don't count.
fn holder(inventory: &Inventory, pool: &PoolName, name: &str) -> Option<ClusterName> {
    let holds = |facts: &ClusterFacts| {
        let mut guests = facts.guests.iter().filter(|guest| !guest.template && !guest.container);
        guests.any(|guest| guest.name == name && guest.pool.as_deref() == Some(pool.as_str()))
    };
    inventory.clusters.iter().find(|(_, facts)| holds(facts)).map(|(name, _)| name.clone())
}

/// Of the clusters that don't answer the one a VM likes best: the rules allow it there, and it may be there.
fn best_in_the_dark(federation: &Federation, inventory: &Inventory, request: &Request) -> Option<ClusterName> {
    let explanation: Explanation = match choose(federation, inventory, request, &Ledger::new()) {
        Ok(decision) => decision.explanation,
        Err(refusal) => refusal.explanation,
    };
    let dark = |candidate: &&Candidate| {
        candidate.preference.is_some() && candidate.refused.iter().any(|reason| reason.class() == ReasonClass::Health)
    };
    let best = explanation.candidates.iter().filter(dark).min_by_key(|candidate| candidate.preference);
    best.map(|candidate| candidate.cluster.clone())
}

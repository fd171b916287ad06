//! Moves that no machine's own configuration asks for (design.md §4.4): who should leave its cluster, where to, and who waits.
//!
//! [`due`] says who should leave and why; [`settle`] gives every one of them an answer, jointly, once for a whole pool, so that
//! the order in which machines are visited can't matter. Both are functions of rules and inventory; the clock comes in as the
//! answer to "is the path's window open".
//!
//! A cluster that doesn't answer, or has no quorum, is never left. Admission, darkness and spread alone move nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::inventory::{GuestFacts, Inventory};
use super::reason::Reason;
use super::request::{Ledger, Request};
use super::{Decision, Refusal, choose, choose_all, improve, resident_ok};
use crate::model::{AutomaticMove, Federation, Pool};
use crate::names::{ClusterName, PoolName, Tag, VmName};

/// Why a machine should leave its cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Residence rules that its cluster breaks.
    Violations(Vec<Reason>),
    /// Its cluster drains.
    Drain,
    /// Another one is clearly better.
    Improve,
}

impl Cause {
    /// The word that opts in to it.
    pub fn word(&self) -> AutomaticMove {
        match self {
            Cause::Violations(_) => AutomaticMove::Violations,
            Cause::Drain => AutomaticMove::Drain,
            Cause::Improve => AutomaticMove::Improve,
        }
    }

    /// Why, in words made of configuration only.
    fn words(&self, from: &ClusterName) -> String {
        match self {
            Cause::Drain => format!("{from} drains"),
            Cause::Improve => format!("clearly better than {from}"),
            Cause::Violations(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                format!("{from}: {}", reasons.join("; "))
            }
        }
    }
}

/// A machine that should leave.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its id there.
    pub vmid: u32,
    /// Its node.
    pub node: String,
    /// Why. Of several causes the first that the pool opts in to, else the first.
    pub cause: Cause,
    /// Whether its pool opts in to moves of that cause.
    pub automatic: bool,
    /// What the inventory tells of it; the caller completes disks and networks from its configuration.
    pub request: Request,
}

/// A move that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Where the machine is.
    pub from: ClusterName,
    /// Where it goes.
    pub to: ClusterName,
    /// The decision in words made of configuration only: the value of `placement` once it is carried out.
    pub placement: String,
    /// Why it leaves, in words made of configuration only.
    pub why: String,
}

/// What is to be done about a machine that should leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It moves.
    Move(Proposal),
    /// It moves later: why not now.
    Wait(Proposal, String),
    /// It would move, if the pool opted in.
    Advice(Proposal),
    /// It goes nowhere by itself: why.
    Stays(String),
}

/// A machine that should leave, with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The machine.
    pub due: Due,
    /// The answer.
    pub verdict: Verdict,
}

/// The machines of `pool` that should leave their clusters, in the order in which they would go: broken rules, then drains,
/// then improvements, which are looked for only where the pool opts in to them; within each by name, numbers by their value.
pub fn due(federation: &Federation, inventory: &Inventory, pool: &PoolName) -> Vec<Due> {
    let Some(facts) = federation.pools.get(pool) else { return Vec::new() };
    let mut found = Vec::new();
    let members = members(inventory, pool);
    let better = match facts.automatic_moves.contains(&AutomaticMove::Improve) {
        true => improve::better(federation, inventory, &members),
        false => BTreeMap::new(),
    };
    for (cluster, guest, request) in members {
        let mut causes = Vec::new();
        if readable(federation, pool)
            && let Err(reasons) = resident_ok(federation, inventory, &request, &cluster)
        {
            causes.push(Cause::Violations(reasons));
        }
        if federation.clusters.get(&cluster).is_some_and(|facts| facts.is_draining()) {
            causes.push(Cause::Drain);
        }
        if causes.is_empty() && readable(federation, pool) && better.contains_key(&request.name) {
            causes.push(Cause::Improve);
        }
        let opted = causes.iter().position(|cause| facts.automatic_moves.contains(&cause.word()));
        if causes.is_empty() {
            continue;
        }
        let cause = causes.swap_remove(opted.unwrap_or(0));
        let (vmid, node) = (guest.vmid, guest.node.clone());
        found.push(Due { cluster, vmid, node, automatic: opted.is_some(), cause, request });
    }
    found.sort_by_key(|due| (urgency(&due.cause), by_number(&due.request.name)));
    found
}

/// Answers for everybody that [`due`] named, each with its completed request or the reason why nobody will move it.
///
/// `closed` tells when a path is not open for a machine's move now, in words. At most the pool's `max_moves_per_apply` move; the
/// others wait, and are told for what.
pub fn settle(
    federation: &Federation,
    inventory: &Inventory,
    pool: &PoolName,
    dues: Vec<(Due, Result<Request, String>)>,
    closed: impl Fn(&Request, &ClusterName, &ClusterName) -> Option<String>,
) -> Vec<Settled> {
    let undeclared = Pool::default();
    let facts = federation.pools.get(pool).unwrap_or(&undeclared);
    let targets = targets(federation, inventory, &dues);
    let most = facts.max_moves_per_apply();
    let mut ahead: Vec<String> = Vec::new();
    let mut settled = Vec::new();
    for ((due, request), target) in dues.into_iter().zip(targets) {
        let verdict = match (request, target) {
            (Err(why), _) => Verdict::Stays(why),
            // Meanwhile its rule is kept: those it has to be with come to it.
            (Ok(_), None) => continue,
            (Ok(_), Some(Err(refusal))) => {
                Verdict::Stays(format!("no cluster can take it; what would help: {}", refusal.smallest_relaxation))
            }
            (Ok(request), Some(Ok(decision))) => {
                let proposal = proposal(&due, decision);
                if !due.automatic {
                    Verdict::Advice(proposal)
                } else if let Some(why) = closed(&request, &proposal.from, &proposal.to) {
                    Verdict::Wait(proposal, why)
                } else if u32::try_from(ahead.len()).is_ok_and(|moving| moving < most) {
                    ahead.push(due.request.name.to_string());
                    Verdict::Move(proposal)
                } else {
                    Verdict::Wait(proposal, format!("max_moves_per_apply = {most}: first {}", ahead.join(", ")))
                }
            }
        };
        settled.push(Settled { due, verdict });
    }
    settled
}

/// Guests of clusters that drain which no pool's policy can move, by cluster, in words: containers, templates and fenced
/// copies, and machines of no pool of this federation.
pub fn left_behind(federation: &Federation, inventory: &Inventory) -> BTreeMap<ClusterName, Vec<String>> {
    let mut found = BTreeMap::new();
    for (name, facts) in &inventory.clusters {
        let drains = federation.clusters.get(name).is_some_and(|cluster| cluster.is_draining());
        if !drains || !facts.is_healthy() {
            continue;
        }
        let mut words: Vec<(u32, String)> = Vec::new();
        for guest in &facts.guests {
            let pool = guest.pool.as_deref().and_then(|pool| PoolName::new(pool).ok());
            let pooled = pool.is_some_and(|pool| federation.pools.contains_key(&pool));
            let what = match (guest.container, guest.template, pooled) {
                (true, _, _) => "a container",
                (_, true, _) => "a template, or a fenced copy",
                (_, _, false) => "in no pool of this federation",
                _ => continue,
            };
            words.push((guest.vmid, format!("{} {} ({what})", guest.vmid, guest.name)));
        }
        words.sort();
        if !words.is_empty() {
            found.insert(name.clone(), words.into_iter().map(|(_, words)| words).collect());
        }
    }
    found
}

/// The machines of a pool on clusters that answer, with what the inventory tells of them. Names that two guests share, or
/// that are none, are nobody's.
fn members<'i>(inventory: &'i Inventory, pool: &PoolName) -> Vec<(ClusterName, &'i GuestFacts, Request)> {
    let mut found: Vec<(ClusterName, &GuestFacts, Request)> = Vec::new();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for (cluster, facts) in &inventory.clusters {
        let of_pool =
            |guest: &&GuestFacts| guest.pool.as_deref() == Some(pool.as_str()) && !guest.template && !guest.container;
        for guest in facts.guests.iter().filter(of_pool) {
            *count.entry(&guest.name).or_default() += 1;
            if let Some(request) = rough(pool, guest).filter(|_| facts.is_healthy()) {
                found.push((cluster.clone(), guest, request));
            }
        }
    }
    found.retain(|(_, guest, _)| count.get(guest.name.as_str()) == Some(&1));
    found
}

/// A request with what an inventory holds. It has no `current`: it arrives wherever it goes, and is told apart by its name.
fn rough(pool: &PoolName, guest: &GuestFacts) -> Option<Request> {
    let mut request = Request::new(VmName::new(&guest.name).ok()?);
    request.pool = Some(pool.clone());
    request.cpus = guest.cpus;
    request.memory = guest.memory;
    request.tags = guest.tags.iter().filter_map(|tag| Tag::new(tag).ok()).collect();
    Some(request)
}

/// A policy that can't be read on some member may forbid or allow what a stale copy of it doesn't: then nothing moves by it.
fn readable(federation: &Federation, pool: &PoolName) -> bool {
    federation.closed.get(pool).is_none_or(|closed| closed.is_empty())
}

fn urgency(cause: &Cause) -> u8 {
    match cause {
        Cause::Violations(_) => 0,
        Cause::Drain => 1,
        Cause::Improve => 2,
    }
}

fn by_number(name: &VmName) -> (String, u32, VmName) {
    let family = name.family();
    let stem = family.as_ref().map_or_else(|| name.to_string(), |family| family.stem.clone());
    (stem, family.map_or(0, |family| family.number), name.clone())
}

type Target = Option<Result<Decision, Refusal>>;

/// Where everybody goes, jointly. `None` for whoever has nothing to leave any more once those before it moved.
fn targets(federation: &Federation, inventory: &Inventory, dues: &[(Due, Result<Request, String>)]) -> Vec<Target> {
    let mut after = inventory.clone();
    let mut targets: Vec<Target> = vec![None; dues.len()];
    let of = |drains: bool| {
        let mine = move |(_, (due, _)): &(usize, &(Due, _))| matches!(due.cause, Cause::Drain) == drains;
        dues.iter().enumerate().filter(mine).filter_map(|(at, (due, request))| Some((at, due, request.as_ref().ok()?)))
    };
    // One after the other: who follows may find its rule kept by then.
    for (at, due, request) in of(false) {
        if matches!(due.cause, Cause::Violations(_)) && resident_ok(federation, &after, request, &due.cluster).is_ok() {
            continue;
        }
        let answer = choose(federation, &after, request, &Ledger::new());
        // What may have become the best place again meanwhile is where it is.
        if matches!(&answer, Ok(decision) if decision.cluster == due.cluster) {
            continue;
        }
        if let Ok(decision) = &answer {
            relocate(&mut after, due, &decision.cluster);
        }
        targets[at] = Some(answer);
    }
    let drains: Vec<(usize, &Due, &Request)> = of(true).collect();
    let requests: Vec<Request> = drains.iter().map(|(_, _, request)| (*request).clone()).collect();
    let answers = choose_all(federation, &after, &requests, &Ledger::new());
    for ((at, _, _), answer) in drains.into_iter().zip(answers) {
        targets[at] = Some(answer);
    }
    targets
}

/// Moves a guest in a copy of the inventory. The node is whichever has most memory free: good enough to count it.
fn relocate(inventory: &mut Inventory, due: &Due, to: &ClusterName) {
    let Some(from) = inventory.clusters.get_mut(&due.cluster) else { return };
    let Some(at) = from.guests.iter().position(|guest| guest.vmid == due.vmid) else { return };
    let mut guest = from.guests.remove(at);
    if let Some(facts) = inventory.clusters.get_mut(to) {
        let given = |node: &str| -> u64 {
            facts.guests.iter().filter(|guest| guest.node == node).map(|guest| guest.memory_given().0).sum()
        };
        let roomiest = facts.usable_nodes().max_by_key(|node| node.memory.0.saturating_sub(given(&node.name)));
        guest.node = roomiest.map(|node| node.name.clone()).unwrap_or_default();
        facts.guests.push(guest);
    }
}

fn proposal(due: &Due, decision: Decision) -> Proposal {
    let why = due.cause.words(&due.cluster);
    let placement = format!("{} ({why})", decision.why);
    Proposal { from: due.cluster.clone(), to: decision.cluster, placement, why }
}

//! Owns whose turn it is where several runs make machines at once: each says what it is about to make before it looks at what the
//! others said (decision 13).
//!
//! Whoever goes on has, after its own claim could be seen, seen nothing that it clashes with. Of two that clash, the one that wrote
//! its claim last saw the other's, so never both go on. Of claims that see each other, the one with the smaller id stands and the
//! others step back, so that one of them always goes on.

use super::inventory::{GuestFacts, Inventory};
use super::reason::{Reason, ReasonClass};
use super::request::{Ledger, Request};
use super::rules::is_self;
use super::{admissible, recheck};
use crate::model::Federation;
use crate::names::ClusterName;

/// A machine that a run is about to make, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Id of the operation: unique, and the order among claims that see each other.
    pub id: String,
    /// Where the machine is made.
    pub cluster: ClusterName,
    /// The VMID it gets.
    pub vmid: u32,
    /// What it is.
    pub request: Request,
    /// Whether it is of the run that asks: one plan decided both, and knew of both.
    pub same_run: bool,
    /// Whether it stepped back: it makes nothing before it claims again.
    pub steps_back: bool,
}

/// Among which guests a VMID must be the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmidScope {
    /// The user chose it: Proxmox VE says whether it is free.
    Chosen,
    /// Those of its cluster, whose range it comes from.
    Cluster,
    /// All (decision 11).
    Everywhere,
}

/// What a run does about its claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Makes the machine.
    Go,
    /// Claims another VMID: that one is somebody else's.
    AnotherVmid,
    /// Looks again in a while: those that came later may not have seen the claim, and either step back or go on; or, stepped
    /// back, those that came first are not through.
    Wait,
    /// Withdraws the claim and looks again in a while: those that came first may leave too little.
    StepBack,
    /// Stepped back, it claims again and looks: those that came first are through.
    ClaimAgain,
    /// Makes nothing: a machine of its pool has the name.
    NameTaken {
        /// Where that is, or is being made.
        cluster: ClusterName,
        /// Its VMID.
        vmid: u32,
    },
    /// Makes nothing: what there is by now leaves no place for it.
    Refused(Vec<Reason>),
}

/// Says whose turn it is. `inventory` and `others` are to be read after `mine` could be seen by everybody, and `others` before
/// `inventory`, so that a machine whose claim is gone is a guest. Claims whose machine is a guest by now count once.
pub fn turn(federation: &Federation, inventory: &Inventory, mine: &Claim, others: &[Claim], scope: VmidScope) -> Turn {
    let others: Vec<&Claim> = others.iter().filter(|other| other.id != mine.id && !other.steps_back).collect();
    if let Some(turn) = name(inventory, mine, &others) {
        return turn;
    }
    if let Some(turn) = vmid(inventory, mine, &others, scope) {
        return turn;
    }
    match (mine.steps_back, room(federation, inventory, mine, &others)) {
        (true, Turn::StepBack) => Turn::Wait,
        (true, Turn::Go | Turn::Wait) => Turn::ClaimAgain,
        (_, turn) => turn,
    }
}

fn name(inventory: &Inventory, mine: &Claim, others: &[&Claim]) -> Option<Turn> {
    for (cluster, facts) in &inventory.clusters {
        let bears_it = |guest: &&GuestFacts| !guest.template && is_self(&mine.request, cluster, guest);
        if let Some(guest) = facts.guests.iter().find(bears_it) {
            return Some(Turn::NameTaken { cluster: cluster.clone(), vmid: guest.vmid });
        }
    }
    let of_pool = mine.request.pool.is_some();
    let same =
        |other: &&&Claim| of_pool && other.request.pool == mine.request.pool && other.request.name == mine.request.name;
    let first = others.iter().filter(same).min_by(|a, b| a.id.cmp(&b.id))?;
    Some(if first.id < mine.id {
        Turn::NameTaken { cluster: first.cluster.clone(), vmid: first.vmid }
    } else {
        Turn::Wait
    })
}

fn vmid(inventory: &Inventory, mine: &Claim, others: &[&Claim], scope: VmidScope) -> Option<Turn> {
    let concerns = |cluster: &ClusterName| match scope {
        VmidScope::Chosen => false,
        VmidScope::Cluster => *cluster == mine.cluster,
        VmidScope::Everywhere => true,
    };
    let mut guests =
        inventory.clusters.iter().filter(|(cluster, _)| concerns(cluster)).flat_map(|(_, facts)| &facts.guests);
    if guests.any(|guest| guest.vmid == mine.vmid) {
        return Some(Turn::AnotherVmid);
    }
    let same = |other: &&&Claim| concerns(&other.cluster) && other.vmid == mine.vmid;
    let first = others.iter().filter(same).min_by(|a, b| a.id.cmp(&b.id))?;
    Some(if first.id < mine.id { Turn::AnotherVmid } else { Turn::Wait })
}

fn room(federation: &Federation, inventory: &Inventory, mine: &Claim, others: &[&Claim]) -> Turn {
    if let Err(reasons) = recheck(federation, inventory, &mine.request, &mine.cluster) {
        return Turn::Refused(reasons);
    }
    let fits = |others: &[&Claim]| fits(federation, inventory, mine, others);
    if fits(others) {
        return Turn::Go;
    }
    let first: Vec<&Claim> = others.iter().filter(|other| other.id < mine.id).copied().collect();
    if fits(&first) { Turn::Wait } else { Turn::StepBack }
}

/// Whether there is room beside those claims: limits and capacity. Other rules are about what is there.
fn fits(federation: &Federation, inventory: &Inventory, mine: &Claim, others: &[&Claim]) -> bool {
    let short = |others: &mut dyn Iterator<Item = &&Claim>, class: ReasonClass| {
        let mut ledger = Ledger::new();
        for other in others {
            ledger.record(other.cluster.clone(), other.request.clone());
        }
        let reasons = admissible(federation, inventory, &mine.request, &mine.cluster, &ledger);
        reasons.iter().any(|reason| reason.class() == class)
    };
    let (own, foreign): (Vec<&Claim>, Vec<&Claim>) = others.iter().partition(|other| other.same_run);
    if short(&mut others.iter(), ReasonClass::Limit) {
        return false;
    }
    // Whether a plan's machines find room together was the plan's to say. Here they come in another order, which may fill nodes
    // less well, and refusing for that would break the plan's word.
    let together = foreign.is_empty() || !short(&mut others.iter(), ReasonClass::Capacity);
    together || (short(&mut own.iter(), ReasonClass::Capacity) && !short(&mut foreign.iter(), ReasonClass::Capacity))
}

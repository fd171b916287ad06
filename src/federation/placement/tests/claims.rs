//! Runs that make machines at once, step by step in every order: what is true whichever is faster.
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::placement::claim::{Claim, Turn, VmidScope, turn};

/// What all runs see.
struct Shared {
    federation: Federation,
    inventory: Inventory,
    claims: BTreeMap<String, Claim>,
}

/// Where one create is: each is one call to a cluster, between which any other can happen.
#[derive(Debug)]
enum Next {
    Publish,
    ReadClaims,
    ReadGuests(Vec<Claim>),
    Make,
    Withdraw,
    Done(bool),
}

struct Create {
    mine: Claim,
    run: usize,
    next: Next,
}

impl Create {
    fn step(&mut self, shared: &mut Shared) {
        self.next = match std::mem::replace(&mut self.next, Next::ReadClaims) {
            Next::Publish => {
                shared.claims.insert(self.mine.id.clone(), self.mine.clone());
                Next::ReadClaims
            }
            Next::ReadClaims => {
                let of_run = |claim: &Claim| claim.request.name.as_str().starts_with(&format!("run{}", self.run));
                let seen = shared.claims.values().map(|claim| Claim { same_run: of_run(claim), ..claim.clone() });
                Next::ReadGuests(seen.collect())
            }
            Next::ReadGuests(others) => self.decide(shared, &others),
            Next::Make => {
                let facts = shared.inventory.clusters.get_mut(&self.mine.cluster).unwrap();
                let made = guest(self.mine.vmid, self.mine.request.name.as_str(), "t");
                facts.guests.push(GuestFacts { memory: self.mine.request.memory, ..made });
                Next::Withdraw
            }
            Next::Withdraw => {
                shared.claims.remove(&self.mine.id);
                Next::Done(true)
            }
            done @ Next::Done(_) => done,
        };
    }

    fn decide(&mut self, shared: &mut Shared, others: &[Claim]) -> Next {
        let scope = VmidScope::Everywhere;
        match turn(&shared.federation, &shared.inventory, &self.mine, others, scope) {
            Turn::Go => Next::Make,
            Turn::Wait => Next::ReadClaims,
            Turn::AnotherVmid => {
                let guests = shared.inventory.clusters.values().flat_map(|facts| &facts.guests);
                let taken: BTreeSet<u32> =
                    guests.map(|guest| guest.vmid).chain(others.iter().map(|claim| claim.vmid)).collect();
                self.mine.vmid = (100..).find(|vmid| !taken.contains(vmid)).unwrap();
                Next::Publish
            }
            Turn::StepBack => {
                self.mine.steps_back = true;
                Next::Publish
            }
            Turn::ClaimAgain => {
                self.mine.steps_back = false;
                Next::Publish
            }
            Turn::NameTaken { .. } | Turn::Refused(_) => {
                shared.claims.remove(&self.mine.id);
                Next::Done(false)
            }
        }
    }
}

/// A create of `run`. With an even `salt` all begin with one VMID, with an odd one each with its own.
fn create(salt: u64, n: usize, run: usize, name: String, on: &str, gib: u64) -> Create {
    let request = Request { memory: Bytes::from_gib(gib), ..vm(&name) };
    let id = format!("{:x}", super::super::sequence::hash(&[&salt.to_string(), &n.to_string()]));
    let vmid = if salt.is_multiple_of(2) { 100 } else { 100 + u32::try_from(n).unwrap() };
    let mine = Claim { id, cluster: cluster(on), vmid, request, same_run: true, steps_back: false };
    Create { mine, run, next: Next::Publish }
}

/// Lets all creates go on, one step at a time, in an order that follows from `seed`; says who made a machine.
fn run_all(shared: &mut Shared, creates: &mut [Create], seed: u64) -> Vec<VmName> {
    for tick in 0..200_000_u64 {
        let open: Vec<usize> =
            (0..creates.len()).filter(|index| !matches!(creates[*index].next, Next::Done(_))).collect();
        if open.is_empty() {
            let made = creates.iter().filter(|create| matches!(create.next, Next::Done(true)));
            return made.map(|create| create.mine.request.name.clone()).collect();
        }
        let pick = super::super::sequence::hash(&[&seed.to_string(), &tick.to_string()]);
        creates[open[usize::try_from(pick % open.len() as u64).unwrap()]].step(shared);
    }
    panic!("they wait for each other for ever: {:?}", shared.claims.values().collect::<Vec<_>>());
}

fn all_unique<T: Ord>(values: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    values.into_iter().all(|value| seen.insert(value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn two_runs_at_once_fill_a_pool_to_its_limit_and_no_further(
        each in 1usize..6, shared_names in 0usize..3, limit in 1u32..10, seed: u64, salt: u64,
    ) {
        let (mut federation, inventory) = world(&["a", "b"], Policy::default());
        federation.pools.get_mut("prod").unwrap().limits.max_vms = Some(limit);
        let mut creates = Vec::new();
        for run in 0..2 {
            for n in 0..each {
                let name = if n < shared_names { format!("both-{n}") } else { format!("run{run}-{n}") };
                let on = if (n + run) % 2 == 0 { "a" } else { "b" };
                creates.push(create(salt, run * 100 + n, run, name, on, 2));
            }
        }
        let names: BTreeSet<VmName> = creates.iter().map(|create| create.mine.request.name.clone()).collect();
        let mut world = Shared { federation, inventory, claims: BTreeMap::new() };
        let made = run_all(&mut world, &mut creates, seed);
        let guests: Vec<&GuestFacts> = world.inventory.clusters.values().flat_map(|facts| &facts.guests).collect();
        prop_assert_eq!(guests.len(), made.len());
        prop_assert_eq!(made.len(), names.len().min(limit as usize), "as many as the limit has room for");
        prop_assert!(all_unique(guests.iter().map(|guest| guest.vmid)), "two machines have one vmid");
        prop_assert!(all_unique(guests.iter().map(|guest| &guest.name)), "two machines have one name");
        prop_assert!(world.claims.is_empty());
    }

    #[test]
    fn a_node_is_not_given_out_twice(sizes in prop::collection::vec(20u64..90, 2..8), seed: u64, salt: u64) {
        let (federation, mut inventory) = world(&["a"], Policy::default());
        inventory.clusters.insert(cluster("a"), facts(1));
        // Each is a run of its own: none knows of another.
        let mut creates: Vec<Create> = sizes.iter().enumerate()
            .map(|(n, gib)| create(salt, n, n, format!("run{n}-1"), "a", *gib)).collect();
        let mut world = Shared { federation, inventory, claims: BTreeMap::new() };
        let made = run_all(&mut world, &mut creates, seed);
        let given: u64 = world.inventory.clusters["a"].guests.iter().map(|guest| guest.memory.0).sum();
        prop_assert!(given <= Bytes::from_gib(128).0, "{given}");
        prop_assert!(!made.is_empty(), "one of them fits");
    }
}

/// Two claims of one plan that fill the nodes of a cluster between them stand, in whichever order they are asked.
#[test]
fn what_one_plan_decided_together_is_not_taken_for_a_clash() {
    let (federation, mut inventory) = world(&["a"], Policy::default());
    inventory.clusters.insert(cluster("a"), facts(2));
    let sizes = [60, 60, 40, 40];
    let claims: Vec<Claim> =
        (0..).zip(sizes).map(|(n, gib)| create(1, n, 0, format!("run0-{n}"), "a", gib).mine).collect();
    for mine in &claims {
        let others: Vec<Claim> = claims.iter().filter(|claim| claim.id != mine.id).cloned().collect();
        assert_eq!(
            turn(&federation, &inventory, mine, &others, VmidScope::Everywhere),
            Turn::Go,
            "{}",
            mine.request.name
        );
    }
}

//! Many VMs at once, jointly: for the data source, for advice and for drains.

use super::admission::policy_of;
use super::inventory::Inventory;
use super::request::{Ledger, Request};
use super::{Decision, Refusal, admissible, choose};
use crate::model::Federation;
use crate::names::{ClusterName, PoolName, VmName};

/// Decides on all `requests` together; the answers are in their order.
///
/// The hardest to place go first (fewest clusters, then most memory), whatever order they are asked in. A VM for which
/// nothing is left may make one other give way, if that one fits elsewhere. `ledger` holds what was planned before; it is
/// not changed.
pub fn choose_all(
    federation: &Federation,
    inventory: &Inventory,
    requests: &[Request],
    ledger: &Ledger,
) -> Vec<Result<Decision, Refusal>> {
    let mut joint =
        Joint { federation, inventory, requests, ledger: ledger.clone(), answers: vec![None; requests.len()] };
    let order = joint.hardest_first();
    for index in &order {
        joint.place(*index);
    }
    for index in order.iter().rev().filter(|index| joint_failed(&joint.answers, **index)).copied().collect::<Vec<_>>() {
        joint.make_room(index);
    }
    let Joint { answers, ledger, .. } = joint;
    let answered = |(index, answer): (usize, Option<Result<Decision, Refusal>>)| {
        // Every index was placed above; asking again keeps this total without a panic.
        answer.unwrap_or_else(|| choose(federation, inventory, &requests[index], &ledger))
    };
    answers.into_iter().enumerate().map(answered).collect()
}

struct Joint<'a> {
    federation: &'a Federation,
    inventory: &'a Inventory,
    requests: &'a [Request],
    ledger: Ledger,
    answers: Vec<Option<Result<Decision, Refusal>>>,
}

type Key<'r> = (usize, std::cmp::Reverse<u64>, &'r Option<PoolName>, &'r VmName);

impl Joint<'_> {
    fn hardest_first(&self) -> Vec<usize> {
        let mut order: Vec<(Key<'_>, usize)> = self
            .requests
            .iter()
            .enumerate()
            .map(|(index, request)| {
                let memory = std::cmp::Reverse(request.memory.0);
                ((self.open(request), memory, &request.pool, &request.name), index)
            })
            .collect();
        order.sort();
        order.into_iter().map(|(_, index)| index).collect()
    }

    /// How many clusters could take a request if it were the only one.
    fn open(&self, request: &Request) -> usize {
        let candidates: Vec<&ClusterName> = match (&request.pin, &request.pool) {
            (Some(pin), _) => vec![pin],
            (None, Some(pool)) => self.federation.pools.get(pool).into_iter().flat_map(|pool| &pool.clusters).collect(),
            (None, None) => Vec::new(),
        };
        let takes =
            |name: &&&ClusterName| admissible(self.federation, self.inventory, request, name, &self.ledger).is_empty();
        candidates.iter().filter(takes).count()
    }

    fn place(&mut self, index: usize) {
        let request = &self.requests[index];
        let answer = choose(self.federation, self.inventory, request, &self.ledger);
        if let Ok(decision) = &answer {
            self.ledger.record(decision.cluster.clone(), request.clone());
        }
        self.answers[index] = Some(answer);
    }

    /// Tries to place a refused VM by moving one other that has somewhere else to go.
    fn make_room(&mut self, refused: usize) {
        for other in 0..self.requests.len() {
            let Some(Some(Ok(before))) = self.answers.get(other).cloned() else { continue };
            let (request, yields) = (&self.requests[refused], &self.requests[other]);
            // Moving a member of a spread group could break what was balanced before it; those stay.
            if yields.pin.is_some() || !policy_of(self.federation, yields).rules.is_empty() {
                continue;
            }
            let mut ledger = self.ledger.clone();
            ledger.forget(yields.pool.as_ref(), &yields.name);
            let Ok(mut first) = choose(self.federation, self.inventory, request, &ledger) else { continue };
            if first.cluster != before.cluster {
                continue;
            }
            ledger.record(first.cluster.clone(), request.clone());
            let Ok(mut second) = choose(self.federation, self.inventory, yields, &ledger) else { continue };
            ledger.record(second.cluster.clone(), yields.clone());
            (first.leaned_on_siblings, second.leaned_on_siblings) = (true, true);
            self.ledger = ledger;
            self.answers[refused] = Some(Ok(first));
            self.answers[other] = Some(Ok(second));
            return;
        }
    }
}

fn joint_failed(answers: &[Option<Result<Decision, Refusal>>], index: usize) -> bool {
    matches!(answers.get(index), Some(Some(Err(_))))
}

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
    joint.make_room_for_all(&order);
    let Joint { answers, ledger, .. } = joint;
    let answered = |(index, answer): (usize, Option<Result<Decision, Refusal>>)| {
        // Every index was placed above; asking again keeps this total without a panic.
        answer.unwrap_or_else(|| choose(federation, inventory, &requests[index], &ledger))
    };
    answers.into_iter().enumerate().map(answered).collect()
}

/// How often in all some VM is asked to give way for another one. Each time costs a decision over the whole set, so without a bound a
/// thousand VMs that don't fit would take a thousand times a thousand of them.
const MOST_TRIES: usize = 1_000;

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

    /// Asks others to give way for everybody that was refused, in the reverse of the order in which they were placed; how often.
    fn make_room_for_all(&mut self, order: &[usize]) -> usize {
        let mut tries = MOST_TRIES;
        let failed = order.iter().rev().filter(|index| joint_failed(&self.answers, **index)).copied();
        for index in failed.collect::<Vec<_>>() {
            self.make_room(index, &mut tries);
        }
        MOST_TRIES - tries
    }

    /// Tries to place a refused VM by moving one other that has somewhere else to go. Of VMs that are alike but for their names, on one
    /// cluster, one is asked. `tries` is what is left of [`MOST_TRIES`].
    fn make_room(&mut self, refused: usize, tries: &mut usize) {
        let mut asked: Vec<(Request, ClusterName)> = Vec::new();
        for other in 0..self.requests.len() {
            let Some(Some(Ok(before))) = self.answers.get(other) else { continue };
            let before = before.cluster.clone();
            let (request, yields) = (&self.requests[refused], &self.requests[other]);
            // Moving a member of a spread group could break what was balanced before it; those stay.
            if yields.pin.is_some() || !policy_of(self.federation, yields).rules.is_empty() {
                continue;
            }
            let alike = (shape(yields, &request.name), before.clone());
            if asked.contains(&alike) {
                continue;
            }
            asked.push(alike);
            if *tries == 0 {
                return;
            }
            *tries -= 1;
            let mut ledger = self.ledger.clone();
            ledger.forget(yields.pool.as_ref(), &yields.name);
            let Ok(mut first) = choose(self.federation, self.inventory, request, &ledger) else { continue };
            if first.cluster != before {
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

/// A request without what tells it apart from others of its kind; `name` is the same for all that are compared.
fn shape(request: &Request, name: &VmName) -> Request {
    Request { name: name.clone(), ordinal: None, ..request.clone() }
}

fn joint_failed(answers: &[Option<Result<Decision, Refusal>>], index: usize) -> bool {
    matches!(answers.get(index), Some(Some(Err(_))))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{vm, world};
    use super::*;
    use crate::model::Policy;
    use crate::units::Bytes;

    /// How many were refused, and how often somebody was asked to give way.
    fn asked(requests: &[Request]) -> (usize, usize) {
        let (federation, inventory) = world(&["ams", "rtm"], Policy::default());
        let (federation, inventory) = (&federation, &inventory);
        let mut joint =
            Joint { federation, inventory, requests, ledger: Ledger::new(), answers: vec![None; requests.len()] };
        let order = joint.hardest_first();
        order.iter().for_each(|index| joint.place(*index));
        let tries = joint.make_room_for_all(&order);
        (joint.answers.iter().flatten().filter(|answer| answer.is_err()).count(), tries)
    }

    #[test]
    fn those_that_do_not_fit_ask_a_bounded_number_to_give_way() {
        let of = |number: u32, mib: u64| Request { memory: Bytes::from_mib(mib), ..vm(&format!("web-{number}")) };
        // All alike: one on each cluster is asked for each that is refused.
        let alike: Vec<Request> = (1..=60).map(|number| of(number, 40 << 10)).collect();
        let (refused, tries) = asked(&alike);
        assert!(refused > 40 && tries <= 2 * refused, "{refused} refused, {tries} tries");
        // No two alike.
        let unlike: Vec<Request> = (1..=160).map(|number| of(number, (5 << 10) + u64::from(number))).collect();
        let (refused, tries) = asked(&unlike);
        assert!(refused > 40 && tries == MOST_TRIES, "{refused} refused, {tries} tries");
    }
}

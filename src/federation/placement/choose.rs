//! Filter, rank, take the first: one VM at a time.

use std::collections::BTreeMap;

use super::admission::{admission, policy_of, residence};
use super::decision::{Candidate, Decision, Explanation, Refusal};
use super::inventory::Inventory;
use super::reason::{Reason, ReasonClass};
use super::request::{Ledger, Request};
use super::rules::{Group, Meaning, meaning};
use super::strategy::{Place, Question, Ranking};
use crate::model::{Federation, Policy, Rule};
use crate::names::{ClusterName, VmName};

/// Everything one decision looks at.
struct Case<'a> {
    federation: &'a Federation,
    inventory: &'a Inventory,
    request: &'a Request,
    ledger: &'a Ledger,
    policy: Policy,
}

type Refused = BTreeMap<ClusterName, Vec<Reason>>;

/// Decides where `request` goes.
///
/// With a pin the answer is the pin, or a refusal. Otherwise the first cluster of the VM's preference list that may take
/// it now. The list never depends on siblings; where they changed the answer (`ledger`), the decision says so.
///
/// # Errors
/// A [`Refusal`] when no cluster may take it, with every reason and the smallest relaxation.
pub fn choose(
    federation: &Federation,
    inventory: &Inventory,
    request: &Request,
    ledger: &Ledger,
) -> Result<Decision, Refusal> {
    let policy = policy_of(federation, request);
    let case = Case { federation, inventory, request, ledger, policy };
    let mut decision = case.decide()?;
    if !ledger.is_empty() {
        let alone = Ledger::new();
        let undisturbed = Case { ledger: &alone, ..case }.decide();
        decision.leaned_on_siblings |= undisturbed.is_ok_and(|other| other.cluster != decision.cluster);
    }
    Ok(decision)
}

impl Case<'_> {
    fn decide(&self) -> Result<Decision, Refusal> {
        let names = self.candidates();
        let mut refused: Refused = names
            .iter()
            .map(|name| {
                let mut reasons = residence(self.federation, self.inventory, self.request, name, self.ledger);
                reasons.extend(admission(self.federation, self.inventory, self.request, name, self.ledger));
                (name.clone(), reasons)
            })
            .collect();
        let eligible: Vec<ClusterName> =
            names.iter().filter(|name| refused[*name].iter().all(passes_in_time)).cloned().collect();
        let question = Question {
            federation: self.federation,
            inventory: self.inventory,
            request: self.request,
            policy: &self.policy,
            eligible: &eligible,
        };
        let ranking = question.rank();
        let leaned_on_siblings = self.apply_spread(&ranking, &eligible, &mut refused);
        let chosen = ranking.order.iter().find(|name| refused[*name].is_empty()).cloned();
        let explanation = self.explain(&ranking, refused);
        match chosen {
            Some(cluster) => {
                Ok(Decision { why: self.why(&ranking, &cluster), cluster, leaned_on_siblings, explanation })
            }
            None => Err(Refusal { smallest_relaxation: smallest_relaxation(&explanation), explanation }),
        }
    }

    fn candidates(&self) -> Vec<ClusterName> {
        if let Some(pin) = &self.request.pin {
            return vec![pin.clone()];
        }
        let pool = self.request.pool.as_ref().and_then(|pool| self.federation.pools.get(pool));
        pool.map(|pool| pool.clusters.iter().cloned().collect()).unwrap_or_default()
    }

    /// Refuses clusters where one more VM would break a spread that must hold.
    ///
    /// While every known member of the group stands at its own place in one family's sequence, and this VM's place is open,
    /// the sequence alone keeps the skew at most 1, whatever order its members are asked in. Otherwise the emptiest of the
    /// clusters that can take the VM are all that is left, counting what this process planned: whether there was any of that,
    /// so that the answer hangs on the order of asking even where it happens to be what it would be alone.
    fn apply_spread(&self, ranking: &Ranking, eligible: &[ClusterName], refused: &mut Refused) -> bool {
        // A VM that grows where it is joins nothing.
        if self.request.current.is_some() && self.request.pin.is_none() && self.stays(refused) {
            return false;
        }
        let spread: Vec<&Rule> =
            self.policy.rules.iter().filter(|rule| meaning(rule, self.request) == Meaning::Spread(true)).collect();
        if spread.is_empty()
            || self.request.pin.is_some()
            || self.sequence_suffices(&spread, ranking, eligible, refused)
        {
            return false;
        }
        let mut planned = false;
        for rule in spread {
            let group = Group::of(self.inventory, self.request, &rule.value, self.ledger);
            planned |= group.total() > Group::of(self.inventory, self.request, &rule.value, &Ledger::new()).total();
            let open = refused.iter().filter(|(_, reasons)| reasons.iter().all(|r| matches!(r, Reason::Spread { .. })));
            let Some((least, least_cluster)) = open.map(|(name, _)| (group.count(name), name.clone())).min() else {
                return planned;
            };
            for (name, reasons) in refused.iter_mut() {
                let here = group.count(name);
                if here > least {
                    let least_cluster = least_cluster.clone();
                    reasons.push(Reason::Spread { rule: (*rule).clone(), here, least, least_cluster });
                }
            }
        }
        planned
    }

    fn stays(&self, refused: &Refused) -> bool {
        let here = self.request.current.as_ref().and_then(|current| refused.get(&current.cluster));
        here.is_some_and(Vec::is_empty)
    }

    fn sequence_suffices(
        &self,
        spread: &[&Rule],
        ranking: &Ranking,
        eligible: &[ClusterName],
        refused: &Refused,
    ) -> bool {
        let ([rule], Some(place)) = (spread, Place::of(self.request)) else {
            return false;
        };
        let Some(first) = ranking.order.first().filter(|name| refused[*name].is_empty()) else {
            return false;
        };
        let group = Group::of(self.inventory, self.request, &rule.value, self.ledger);
        // With equal weights a sequence is the clusters by name, over and over; one known place fixes all the others.
        let Ok(at) = eligible.binary_search(first) else {
            return false;
        };
        let here = |number: u32| {
            let period = eligible.len() as u64;
            let turn = (u64::from(number) + period - u64::from(place.number) % period) % period;
            &eligible[((at as u64 + turn) % period) as usize]
        };
        group.iter().all(|(cluster, name)| {
            let planned = self.ordinal_planned(name);
            let family = VmName::new(name).ok().and_then(|name| name.family());
            let number = match (planned, &family) {
                (Some(ordinal), _) => Some(ordinal),
                (None, Some(family)) if family.stem == place.stem => Some(family.number),
                _ => None,
            };
            let same_family = family.map_or(place.stem.is_empty(), |family| family.stem == place.stem);
            same_family && number.is_some_and(|number| here(number) == cluster)
        })
    }

    /// The ordinal attribute of a VM this process planned.
    fn ordinal_planned(&self, name: &str) -> Option<u32> {
        let same = |planned: &&Request| planned.pool == self.request.pool && planned.name.as_str() == name;
        self.ledger.iter().map(|(_, planned)| planned).find(same).and_then(|planned| planned.ordinal)
    }

    /// The decision in words that load cannot change.
    fn why(&self, ranking: &Ranking, cluster: &ClusterName) -> String {
        if self.request.pin.is_some() {
            return format!("pinned: {cluster}");
        }
        let pool = self.request.pool.as_ref().map_or("no pool", |pool| pool.as_str());
        match &ranking.place {
            Some(place) => format!("{place} in {pool} ({}): {cluster}", ranking.how),
            None => format!("{} in {pool} ({}): {cluster}", self.request.name, ranking.how),
        }
    }

    fn explain(&self, ranking: &Ranking, mut refused: Refused) -> Explanation {
        let mut candidates: Vec<Candidate> = ranking
            .order
            .iter()
            .enumerate()
            .map(|(index, name)| Candidate {
                cluster: name.clone(),
                preference: u32::try_from(index + 1).ok(),
                score: ranking.scores.get(name).copied(),
                factors: ranking.factors.get(name).cloned().unwrap_or_default(),
                refused: refused.remove(name).unwrap_or_default(),
            })
            .collect();
        candidates.extend(refused.into_iter().map(|(cluster, refused)| Candidate {
            cluster,
            preference: None,
            score: None,
            factors: Vec::new(),
            refused,
        }));
        candidates.sort_by_key(|candidate| !candidate.refused.is_empty());
        let mut notes = ranking.notes.clone();
        notes.extend(self.unseen());
        Explanation { question: self.question(ranking), candidates, notes }
    }

    fn question(&self, ranking: &Ranking) -> String {
        let name = &self.request.name;
        match (&self.request.pin, &self.request.pool) {
            (Some(pin), _) => format!("{name}, pinned to {pin}"),
            (None, Some(pool)) if self.federation.pools.contains_key(pool) => {
                format!("{name} in {pool} ({})", ranking.how)
            }
            (None, Some(pool)) => format!("{name}: there is no pool {pool} in the federation as seen from here"),
            (None, None) => format!("{name} has neither a pool nor a cluster"),
        }
    }

    /// Clusters whose guests could not be counted.
    fn unseen(&self) -> Option<String> {
        let pool = self.federation.pools.get(self.request.pool.as_ref()?)?;
        let answers = |name: &&ClusterName| self.inventory.clusters.get(*name).is_some_and(|facts| facts.is_healthy());
        let dark: Vec<&str> = pool.clusters.iter().filter(|name| !answers(name)).map(ClusterName::as_str).collect();
        (!dark.is_empty()).then(|| format!("guests on {} are counted as last seen, or not at all", dark.join(", ")))
    }
}

/// Whether a reason may pass without anybody changing the configuration: such a cluster keeps its place in sequences.
fn passes_in_time(reason: &Reason) -> bool {
    matches!(reason.class(), ReasonClass::Capacity | ReasonClass::Limit | ReasonClass::Health)
}

/// Of all candidates the one whose hardest reason is the easiest to change; then the fewest reasons, then the name.
fn smallest_relaxation(explanation: &Explanation) -> String {
    let nearest =
        explanation.candidates.iter().filter(|candidate| !candidate.refused.is_empty()).min_by_key(|candidate| {
            let hardest = candidate.refused.iter().map(Reason::class).max();
            (hardest, candidate.refused.len(), candidate.cluster.clone())
        });
    match nearest {
        Some(candidate) => {
            let steps: Vec<String> = candidate.refused.iter().map(Reason::relaxation).collect();
            format!("{}: {}", candidate.cluster, steps.join(", and "))
        }
        None => "name a pool with clusters, or pin the VM to a cluster".to_owned(),
    }
}

//! What the clusters hold of pools: which of several copies counts, what is wrong with the others, and the layers put together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Closed, Cluster, Difference, Federation, Pool};
use crate::block::{Conflict, newest};
use crate::names::{ClusterName, PoolName};

/// What one cluster shows of one pool. A cluster that does not answer shows nothing and is left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Sight<T = Pool> {
    /// The pool with our record.
    Record(Box<Record<T>>),
    /// The pool without a record.
    Plain,
    /// The pool with a record that can't be trusted, and why.
    Damaged(String),
    /// No such pool.
    Absent,
    /// Nothing, for lack of this right.
    NoRight(String),
}

/// One copy of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<T = Pool> {
    /// Which pool or cluster this is, whatever it is called.
    pub id: String,
    /// Revision, from 1.
    pub rev: u64,
    /// Checksum of the block.
    pub sum: String,
    /// Who wrote it.
    pub by: String,
    /// What it says.
    pub body: T,
}

/// The copy that counts: the newest. `None` of no copies.
///
/// # Errors
/// [`Conflict`] when two copies of the newest revision differ.
pub fn counts(sights: &BTreeMap<ClusterName, Sight>) -> Result<Option<&Record>, Conflict> {
    let copies: Vec<(&str, u64, &str)> =
        records(sights).map(|(name, record)| (name.as_str(), record.rev, record.sum.as_str())).collect();
    let place = newest(&copies)?;
    Ok(records(sights).find(|(name, _)| Some(name.as_str()) == place).map(|(_, record)| record))
}

fn records(sights: &BTreeMap<ClusterName, Sight>) -> impl Iterator<Item = (&ClusterName, &Record)> {
    sights.iter().filter_map(|(name, sight)| match sight {
        Sight::Record(record) => Some((name, record.as_ref())),
        _ => None,
    })
}

/// Something that keeps new VMs of a pool off a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The pool.
    pub pool: PoolName,
    /// The cluster.
    pub cluster: ClusterName,
    /// What is wrong, in words.
    pub why: String,
    /// Whether writing the record again mends it.
    pub mends: bool,
}

impl Sight {
    /// What is wrong with this copy beside the one that counts, and whether writing it again mends that.
    pub fn fault(&self, counts: &Record) -> Option<(String, bool)> {
        let rev = counts.rev;
        match self {
            Sight::Record(record) if record.rev == rev && record.sum == counts.sum => None,
            Sight::Record(record) => {
                Some((format!("its record is revision {}, older than {rev} by {}", record.rev, counts.by), true))
            }
            Sight::Plain => {
                Some((format!("the pool there has no record; others have revision {rev} by {}", counts.by), true))
            }
            Sight::Damaged(why) => Some((format!("the record there is damaged: {why}"), true)),
            Sight::Absent => {
                Some((format!("there is no such pool; others have revision {rev} by {}", counts.by), true))
            }
            Sight::NoRight(right) => Some((unseen(right), false)),
        }
    }
}

fn unseen(right: &str) -> String {
    format!("its record can't be seen: the token lacks {right}")
}

/// What is enrolled on the clusters: the second of the federation's three layers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Enrolled {
    /// The records that count.
    pub pools: BTreeMap<PoolName, Pool>,
    /// Who wrote them, and as which revision, for people.
    pub written: BTreeMap<PoolName, String>,
    /// What keeps new VMs of a pool off a cluster.
    pub problems: Vec<Problem>,
    /// Facts of the clusters that are enrolled, where their record can be trusted.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// What keeps new VMs off a cluster altogether.
    pub closed: BTreeMap<ClusterName, Closed>,
}

impl Enrolled {
    /// Judges what the clusters show. `declared`: the layer below; a pool that only it knows is no problem where it is
    /// not enrolled, but is one where nobody can tell.
    pub fn of(sights: &BTreeMap<PoolName, BTreeMap<ClusterName, Sight>>, declared: &Federation) -> Enrolled {
        let mut enrolled = Enrolled::default();
        for (name, sights) in sights {
            enrolled.judge(name, sights, declared.pools.get(name));
        }
        enrolled
    }

    fn judge(&mut self, name: &PoolName, sights: &BTreeMap<ClusterName, Sight>, declared: Option<&Pool>) {
        let mut problem = |cluster: &ClusterName, (why, mends): (String, bool)| {
            self.problems.push(Problem { pool: name.clone(), cluster: cluster.clone(), why, mends });
        };
        let record = match counts(sights) {
            Ok(Some(record)) => record,
            Ok(None) => {
                let member = |cluster| declared.is_some_and(|pool| pool.clusters.contains(cluster));
                for (cluster, sight) in sights {
                    match sight {
                        Sight::Damaged(why) => problem(cluster, (format!("the record there is damaged: {why}"), true)),
                        Sight::NoRight(right) if member(cluster) => problem(cluster, (unseen(right), false)),
                        _ => {}
                    }
                }
                return;
            }
            Err(conflict) => {
                records(sights).for_each(|(cluster, _)| problem(cluster, (conflict.to_string(), false)));
                return;
            }
        };
        for cluster in &record.body.clusters {
            if let Some(fault) = sights.get(cluster).and_then(|sight| sight.fault(record)) {
                problem(cluster, fault);
            }
        }
        self.written.insert(name.clone(), format!("revision {} by {}", record.rev, record.by));
        self.pools.insert(name.clone(), record.body.clone());
    }
}

/// The three layers put together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layered {
    /// What holds.
    pub federation: Federation,
    /// Where the declared and the enrolled layer differ, by pool; not of pools that are planned.
    pub differences: BTreeMap<PoolName, Vec<Difference>>,
    /// The same by cluster.
    pub cluster_differences: BTreeMap<ClusterName, Vec<Difference>>,
}

/// The third layer: what this process plans.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plans {
    /// The pools.
    pub pools: BTreeMap<PoolName, Pool>,
    /// The clusters' facts.
    pub clusters: BTreeMap<ClusterName, Cluster>,
}

impl Federation {
    /// Puts the layers together: `self` is what is declared, `enrolled` completes and overrules it, and what is planned
    /// stands in the place of its enrolled record, which it is about to become (design.md §3).
    pub fn layered(&self, enrolled: &Enrolled, planned: &Plans) -> Layered {
        let mut layered = Layered { federation: self.clone(), ..Layered::default() };
        let names: BTreeSet<&PoolName> = enrolled.pools.keys().chain(planned.pools.keys()).collect();
        for name in names {
            let Some(upper) = planned.pools.get(name).or_else(|| enrolled.pools.get(name)) else { continue };
            let upper = Federation { pools: [(name.clone(), upper.clone())].into(), ..Federation::default() };
            let differences = layered.federation.overlay(&upper);
            if !planned.pools.contains_key(name) && !differences.is_empty() {
                layered.differences.insert(name.clone(), differences);
            }
        }
        let names: BTreeSet<&ClusterName> = enrolled.clusters.keys().chain(planned.clusters.keys()).collect();
        for name in names {
            let Some(upper) = planned.clusters.get(name).or_else(|| enrolled.clusters.get(name)) else { continue };
            let upper = Federation { clusters: [(name.clone(), upper.clone())].into(), ..Federation::default() };
            let differences = layered.federation.overlay(&upper);
            if !planned.clusters.contains_key(name) && !differences.is_empty() {
                layered.cluster_differences.insert(name.clone(), differences);
            }
        }
        for problem in &enrolled.problems {
            // What is about to be written again is mended by the time anything is placed.
            if problem.mends && planned.pools.contains_key(&problem.pool) {
                continue;
            }
            let closed = layered.federation.closed.entry(problem.pool.clone()).or_default();
            closed.insert(problem.cluster.clone(), problem.why.clone());
        }
        for (cluster, closed) in &enrolled.closed {
            if !(closed.mends && planned.clusters.contains_key(cluster)) {
                layered.federation.closed_clusters.insert(cluster.clone(), closed.why.clone());
            }
        }
        layered
    }
}

#[cfg(test)]
mod tests {
    //! Copies of a record, and what is wrong with them.

    use super::*;
    use crate::model::{Limits, Policy, Strategy};

    fn name(text: &str) -> ClusterName {
        ClusterName::new(text).unwrap()
    }

    fn prod() -> PoolName {
        PoolName::new("prod").unwrap()
    }

    fn pool(members: &[&str], most: u32) -> Pool {
        Pool {
            clusters: members.iter().map(|member| name(member)).collect(),
            limits: Limits { max_vms: Some(most), ..Limits::default() },
            ..Pool::default()
        }
    }

    fn record(rev: u64, sum: &str, pool: Pool) -> Sight {
        Sight::Record(Box::new(Record { id: "i".into(), rev, sum: sum.into(), by: "ann".into(), body: pool }))
    }

    fn judged(sights: &[(&str, Sight)], declared: &Federation) -> Enrolled {
        let sights = sights.iter().map(|(cluster, sight)| (name(cluster), sight.clone())).collect();
        Enrolled::of(&BTreeMap::from([(prod(), sights)]), declared)
    }

    #[test]
    fn the_newest_copy_counts_and_every_other_state_of_a_member_has_its_own_words() {
        let members = ["a", "b", "c", "d", "e", "f"];
        let enrolled = judged(
            &[
                ("a", record(7, "x", pool(&members, 5))),
                ("b", record(6, "y", pool(&["b"], 9))),
                ("c", Sight::Plain),
                ("d", Sight::Damaged("its checksum does not match".into())),
                ("e", Sight::Absent),
                ("f", Sight::NoRight("Pool.Audit on /pool/prod".into())),
                ("g", Sight::Plain),
            ],
            &Federation::default(),
        );
        assert_eq!(enrolled.pools[&prod()].limits.max_vms, Some(5));
        let words: Vec<(&str, bool)> = enrolled.problems.iter().map(|p| (p.why.as_str(), p.mends)).collect();
        for (index, (word, mends)) in
            [("older", true), ("no record", true), ("damaged", true), ("no such pool", true), ("Pool.Audit", false)]
                .into_iter()
                .enumerate()
        {
            assert!(words[index].0.contains(word) && words[index].1 == mends, "{words:?}");
        }
        assert_eq!(words.len(), 5, "a dark cluster and one that is no member are no problem");
    }

    #[test]
    fn copies_of_one_revision_that_differ_close_their_clusters() {
        let enrolled = judged(
            &[("a", record(7, "x", pool(&["a"], 5))), ("b", record(7, "y", pool(&["b"], 9)))],
            &Default::default(),
        );
        assert!(enrolled.pools.is_empty());
        assert_eq!(enrolled.problems.len(), 2);
        assert!(enrolled.problems[0].why.contains("a and on b differ"), "{:?}", enrolled.problems);
    }

    #[test]
    fn a_pool_that_is_only_declared_needs_no_record_but_sight() {
        let declared = Federation { pools: [(prod(), pool(&["a", "b"], 5))].into(), ..Federation::default() };
        let sights =
            [("a", Sight::Plain), ("b", Sight::NoRight("Pool.Audit".into())), ("c", Sight::NoRight("x".into()))];
        let enrolled = judged(&sights, &declared);
        assert!(enrolled.pools.is_empty());
        assert_eq!(enrolled.problems.iter().map(|p| p.cluster.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_enrolled_layer_overrules_and_the_planned_one_takes_its_place() {
        let cost = Policy { strategy: Strategy::Cost, ..Policy::default() };
        let declared = Pool { policy: Some(cost.clone()), ..pool(&["a", "b"], 100) };
        let declared = Federation { pools: [(prod(), declared)].into(), ..Federation::default() };
        let enrolled = judged(&[("a", record(1, "x", pool(&["a", "b"], 5))), ("b", Sight::Plain)], &declared);

        let layered = declared.layered(&enrolled, &Plans::default());
        let found = &layered.federation.pools[&prod()];
        assert_eq!(found.limits.max_vms, Some(5), "a stale file weakens nothing");
        assert_eq!(found.policy(), cost, "and what the record leaves open stays declared");
        assert_eq!(layered.differences[&prod()].len(), 1);
        assert!(layered.federation.closed[&prod()].contains_key("b"));

        let mut open = pool(&["a", "b"], 5);
        open.limits = Limits::default();
        let layered = declared.layered(&enrolled, &Plans { pools: [(prod(), open)].into(), ..Plans::default() });
        assert_eq!(
            layered.federation.pools[&prod()].limits.max_vms,
            Some(100),
            "a limit that is planned away is not held by the record that goes"
        );
        assert!(layered.federation.closed.is_empty() && layered.differences.is_empty());
    }
}

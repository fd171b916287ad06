//! What a cluster's own record says, and what keeps new VMs off a cluster whose record can't be trusted or seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Cluster, Enrolled, Federation, Sight};
use crate::names::ClusterName;

/// A cluster's record: the block in the comment of its empty pool `moxxie`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The cluster's name in the federation, for life.
    pub name: ClusterName,
    /// Its facts: the second layer.
    #[serde(default)]
    pub facts: Cluster,
    /// Options of the datacenter that were taken over, with what they were before.
    #[serde(default, skip_serializing_if = "Datacenter::is_empty")]
    pub datacenter: Datacenter,
}

/// Options of a cluster's datacenter that the federation sets, as Proxmox VE spells them (`next-id`, `mac_prefix`,
/// `bwlimit`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Datacenter {
    /// What they are set to.
    pub set: BTreeMap<String, String>,
    /// What they were before: `null` for one that was not set. Put back when the federation lets go of them.
    pub former: BTreeMap<String, Option<String>>,
}

impl Datacenter {
    /// Whether no option was taken over.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.former.is_empty()
    }
}

/// What a cluster shows of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSight {
    /// What its pool `moxxie` shows.
    pub sight: Sight<Enrolment>,
    /// Its identity: the fingerprint of its CA, or of the single node's certificate; where it says so.
    pub identity: Option<String>,
}

/// Why nothing new is placed on a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// What is wrong with its record, in words.
    pub why: String,
    /// Whether writing the record again mends it.
    pub mends: bool,
}

impl ClusterSight {
    /// Why this record is not one of the cluster that is connected as `name`.
    pub fn mistaken(&self, name: &ClusterName) -> Option<String> {
        let Sight::Record(record) = &self.sight else { return None };
        if record.body.name != *name {
            let other = &record.body.name;
            return Some(format!(
                "it is enrolled as {other} (revision {} by {}), and a cluster has one name for life: connect it as {other}",
                record.rev, record.by
            ));
        }
        let is = self.identity.as_ref().filter(|is| **is != record.id)?;
        Some(format!("its record is of a cluster whose CA has the fingerprint {}, and its own has {is}", record.id))
    }

    /// What is wrong. `in_use`: other clusters are enrolled. `declared`: the layer below says something of it.
    fn problem(&self, name: &ClusterName, in_use: bool, declared: bool) -> Option<Closed> {
        let problem = |why: String, mends| Some(Closed { why, mends });
        match &self.sight {
            Sight::Record(_) => self.mistaken(name).and_then(|why| problem(why, false)),
            Sight::Damaged(why) => problem(format!("its record is damaged: {why}"), true),
            Sight::Plain => problem("its pool moxxie has lost its record".to_owned(), true),
            // A federation needs no records at all: its facts may stand in the file.
            Sight::Absent if in_use && !declared => {
                problem("it has no record, other clusters have, and nothing is declared about it".to_owned(), true)
            }
            Sight::NoRight(right) if in_use || !declared => {
                problem(format!("its record can't be seen: the token lacks {right}"), false)
            }
            Sight::Absent | Sight::NoRight(_) => None,
        }
    }
}

impl Enrolled {
    /// Judges what the clusters show of themselves. `declared`: the layer below.
    #[must_use]
    pub fn with_clusters(mut self, sights: &BTreeMap<ClusterName, ClusterSight>, declared: &Federation) -> Enrolled {
        let in_use = sights.values().any(|shown| matches!(shown.sight, Sight::Record(_) | Sight::Damaged(_)));
        for (name, shown) in sights {
            let said = declared.clusters.get(name).is_some_and(|facts| *facts != Cluster::default());
            match (shown.problem(name, in_use, said), &shown.sight) {
                (Some(problem), _) => drop(self.closed.insert(name.clone(), problem)),
                (None, Sight::Record(record)) => {
                    drop(self.clusters.insert(name.clone(), record.body.facts.clone()));
                }
                (None, _) => {}
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Plans, Record, Tier};
    use super::*;

    fn name(text: &str) -> ClusterName {
        ClusterName::new(text).unwrap()
    }

    fn facts(location: &str) -> Cluster {
        Cluster { location: Some(location.into()), ..Cluster::default() }
    }

    fn record(of: &str, location: &str) -> Sight<Enrolment> {
        let body = Enrolment { name: name(of), facts: facts(location), datacenter: Datacenter::default() };
        Sight::Record(Box::new(Record { id: "AA".into(), rev: 3, sum: "x".into(), by: "ann".into(), body }))
    }

    fn judged(sights: &[(&str, Sight<Enrolment>, &str)], declared: &Federation) -> Enrolled {
        let shown = |(of, sight, identity): &(&str, Sight<Enrolment>, &str)| {
            let shown = ClusterSight { sight: sight.clone(), identity: Some((*identity).to_owned()) };
            (name(of), shown)
        };
        Enrolled::default().with_clusters(&sights.iter().map(shown).collect(), declared)
    }

    #[test]
    fn every_state_of_a_record_has_its_own_words_and_closes_the_cluster() {
        let sights = [
            ("a", record("a", "Here"), "AA"),
            ("b", Sight::Damaged("cut".into()), "B"),
            ("c", Sight::Plain, "C"),
            ("d", Sight::Absent, "D"),
            ("e", Sight::NoRight("Pool.Audit on /pool/moxxie of e".into()), "E"),
            ("f", record("other", "There"), "AA"),
            ("g", record("g", "There"), "GG"),
        ];
        let enrolled = judged(&sights, &Federation::default());
        assert_eq!(enrolled.clusters, [(name("a"), facts("Here"))].into());
        let words: Vec<(&str, bool)> = enrolled.closed.values().map(|c| (c.why.as_str(), c.mends)).collect();
        let expected = [
            ("damaged: cut", true),
            ("lost its record", true),
            ("no record", true),
            ("Pool.Audit", false),
            ("enrolled as other", false),
            ("fingerprint AA, and its own has GG", false),
        ];
        assert_eq!(words.len(), expected.len(), "{words:?}");
        for ((text, mends), (word, mendable)) in words.into_iter().zip(expected) {
            assert!(text.contains(word) && mends == mendable, "{text}: {word}");
        }
    }

    #[test]
    fn a_federation_that_is_only_declared_needs_no_records() {
        let declared = Federation { clusters: [(name("a"), facts("Here"))].into(), ..Federation::default() };
        let unseen = Sight::NoRight("Pool.Audit on /pool/moxxie of a".into());
        for sight in [Sight::Absent, unseen.clone()] {
            assert!(judged(&[("a", sight, "A")], &declared).closed.is_empty());
        }
        assert!(judged(&[("a", Sight::Absent, "A")], &Federation::default()).closed.is_empty());
        let blind = judged(&[("a", unseen.clone(), "A")], &Federation::default());
        assert!(blind.closed.contains_key("a"), "nobody says what it is");
        let others = judged(&[("a", unseen, "A"), ("b", record("b", "There"), "AA")], &declared);
        assert!(others.closed.contains_key("a"), "a stale file must not weaken what can't be seen");
        let others = judged(&[("a", Sight::Absent, "A"), ("b", record("b", "There"), "AA")], &declared);
        assert!(others.closed.is_empty(), "one that is declared need not be enrolled");
    }

    #[test]
    fn an_enrolled_fact_overrules_a_declared_one_and_a_planned_one_takes_its_place() {
        let primary = Cluster { tier: Some(Tier::Primary), ..facts("Stale") };
        let declared = Federation { clusters: [(name("a"), primary)].into(), ..Federation::default() };
        let enrolled = judged(&[("a", record("a", "Here"), "AA"), ("b", Sight::Plain, "B")], &declared);
        let layered = declared.layered(&enrolled, &Plans::default());
        let found = &layered.federation.clusters["a"];
        assert_eq!((found.location.as_deref(), found.tier), (Some("Here"), Some(Tier::Primary)));
        let said = layered.cluster_differences["a"][0].to_string();
        assert!(said.contains("location is \"Stale\" here and \"Here\" there"), "{said}");
        assert!(layered.federation.closed_clusters.contains_key("b"));

        let planned =
            Plans { clusters: [(name("a"), facts("New")), (name("b"), facts("B"))].into(), ..Plans::default() };
        let layered = declared.layered(&enrolled, &planned);
        assert_eq!(layered.federation.clusters["a"].location.as_deref(), Some("New"));
        assert!(layered.cluster_differences.is_empty() && layered.federation.closed_clusters.is_empty());
    }
}

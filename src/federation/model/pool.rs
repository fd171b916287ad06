//! Pools: a name that spans clusters, with limits and a placement policy.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::names::ClusterName;
use crate::units::Bytes;

words! {
    /// The objective a pool's VMs are placed by.
    Strategy {
        /// Spread in proportion to the weights.
        Balanced = "balanced",
        /// The most headroom, the fastest storage, the best tier.
        Performance = "performance",
        /// The lowest price.
        Cost = "cost",
        /// Nearest to the wanted location.
        Geographic = "geographic",
    }
}

words! {
    /// What a rule is about.
    RuleType {
        /// Be with it.
        Affinity = "affinity",
        /// Be apart from it.
        AntiAffinity = "anti-affinity",
        /// Be in such a place.
        Location = "location",
    }
}

words! {
    /// What a rule's value names.
    Target {
        /// A cluster.
        Cluster = "cluster",
        /// A node.
        Node = "node",
        /// A tag.
        Tag = "tag",
    }
}

words! {
    /// How strongly, and in which direction.
    Operator {
        /// Refuse everything else.
        Must = "must",
        /// Prefer.
        Should = "should",
        /// Refuse.
        MustNot = "must_not",
        /// Avoid.
        ShouldNot = "should_not",
    }
}

impl Operator {
    /// Whether it refuses rather than prefers.
    pub fn is_hard(self) -> bool {
        matches!(self, Operator::Must | Operator::MustNot)
    }

    /// The same strength in the other direction.
    pub fn opposite(self) -> Operator {
        match self {
            Operator::Must => Operator::MustNot,
            Operator::MustNot => Operator::Must,
            Operator::Should => Operator::ShouldNot,
            Operator::ShouldNot => Operator::Should,
        }
    }
}

words! {
    /// A move that may happen without the VM's own configuration asking for it.
    AutomaticMove {
        /// Off a draining cluster.
        Drain = "drain",
        /// Off a cluster where a residence rule is broken.
        Violations = "violations",
        /// To a clearly better cluster.
        Improve = "improve",
    }
}

/// One placement rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: RuleType,
    /// What `value` names.
    pub target: Target,
    /// How strongly.
    pub operator: Operator,
    /// A cluster, node, tag or place; not empty.
    pub value: String,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {:?}", self.kind, self.target, self.operator, self.value)
    }
}

/// How a pool's VMs are placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The objective (default `balanced`).
    pub strategy: Strategy,
    /// Weights by cluster; a member without one counts as the largest, 0 means "last resort".
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cluster_weights: BTreeMap<ClusterName, u32>,
    /// The rules, all of which count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { strategy: Strategy::Balanced, cluster_weights: BTreeMap::new(), rules: Vec::new() }
    }
}

/// The most a pool may hold over all its clusters; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_vms: Option<u32>,
    /// Cores (sockets × cores) of all guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cpu_cores: Option<u32>,
    /// Memory of all guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Bytes>,
    /// Disks of all guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_storage: Option<Bytes>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

/// A resource pool. A field that is empty or `None` is not declared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// The member clusters.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub clusters: BTreeSet<ClusterName>,
    /// What it may hold.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// How its VMs are placed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Which moves may happen by themselves.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub automatic_moves: BTreeSet<AutomaticMove>,
    /// Most such moves in one apply (default 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_moves_per_apply: Option<u32>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Pool {
    /// The policy, or `balanced` without weights and rules.
    pub fn policy(&self) -> Policy {
        self.policy.clone().unwrap_or_default()
    }

    /// Most automatic moves in one apply.
    pub fn max_moves_per_apply(&self) -> u32 {
        self.max_moves_per_apply.unwrap_or(1)
    }
}

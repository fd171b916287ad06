//! What each placement rule means, on each target.
//!
//! `anti-affinity` is `affinity` in the other direction, so half of the table is the other half negated:
//!
//! | rule | matches | `must` | `must_not` |
//! |---|---|---|---|
//! | affinity, cluster | the cluster of that name or display name | only there | never there |
//! | affinity, node | the node of that name | only on it | not on it |
//! | affinity, tag | VMs of the pool that carry the tag, for a VM that carries it | with them | spread (skew at most 1) |
//! | location, cluster | name, display name, or part of location, country, hosting provider or a tag | only there | never there |
//! | location, node | nodes whose name contains the value | only on them | not on them |
//! | location, tag | clusters that carry the tag | only there | never there |
//!
//! Case is ignored everywhere. A rule that does not concern the VM holds vacuously.

use std::collections::{BTreeMap, HashSet};

use super::inventory::{ClusterFacts, GuestFacts, Inventory};
use super::reason::Reason;
use super::request::{Ledger, Request};
use crate::model::{Cluster, Federation, Operator, Rule, RuleType, Target};
use crate::names::ClusterName;

/// What a rule asks for once `anti-affinity` is turned into `affinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// About the cluster itself.
    OfCluster(Operator),
    /// About nodes of the cluster.
    OfNode(Operator),
    /// About being with other VMs of a tag.
    Together(Operator),
    /// About being spread with other VMs of a tag; `true` when it must be.
    Spread(bool),
    /// It does not concern this VM.
    Vacuous,
}

/// What `rule` asks of `request`.
pub(super) fn meaning(rule: &Rule, request: &Request) -> Meaning {
    let operator = match rule.kind {
        RuleType::AntiAffinity => rule.operator.opposite(),
        RuleType::Affinity | RuleType::Location => rule.operator,
    };
    match (rule.kind, rule.target) {
        (_, Target::Node) => Meaning::OfNode(operator),
        (_, Target::Cluster) | (RuleType::Location, Target::Tag) => Meaning::OfCluster(operator),
        (RuleType::Affinity | RuleType::AntiAffinity, Target::Tag) => {
            if !request.tags.iter().any(|tag| tag.as_str().eq_ignore_ascii_case(&rule.value)) {
                return Meaning::Vacuous;
            }
            match operator {
                Operator::Must | Operator::Should => Meaning::Together(operator),
                Operator::MustNot => Meaning::Spread(true),
                Operator::ShouldNot => Meaning::Spread(false),
            }
        }
    }
}

/// Whether a rule about clusters names this one.
pub(super) fn matches_cluster(rule: &Rule, name: &ClusterName, cluster: &Cluster) -> bool {
    let value = rule.value.to_lowercase();
    let is = |text: &str| text.to_lowercase() == value;
    if rule.kind == RuleType::Location && rule.target == Target::Tag {
        return cluster.tags.iter().any(|tag| is(tag));
    }
    is(name.as_str())
        || cluster.display_name.as_deref().is_some_and(is)
        || rule.kind == RuleType::Location && lies_in(cluster, &value)
}

/// Whether `value` (lower case) is part of the cluster's location, country, hosting provider or a tag.
pub(super) fn lies_in(cluster: &Cluster, value: &str) -> bool {
    let holds = |text: &str| text.to_lowercase().contains(value);
    cluster.location.as_deref().is_some_and(holds)
        || cluster.country().is_some_and(holds)
        || cluster.hosting_provider.as_deref().is_some_and(holds)
        || cluster.tags.iter().any(|tag| holds(tag))
}

/// Whether a rule about nodes names this one.
fn matches_node(rule: &Rule, node: &str) -> bool {
    let (value, node) = (rule.value.to_lowercase(), node.to_lowercase());
    match rule.kind {
        RuleType::Location => node.contains(&value),
        RuleType::Affinity | RuleType::AntiAffinity => node == value,
    }
}

/// Whether the hard rules let `request` be on `node`.
pub(super) fn node_allowed(rules: &[Rule], request: &Request, node: &str) -> bool {
    rules.iter().all(|rule| match meaning(rule, request) {
        Meaning::OfNode(Operator::Must) => matches_node(rule, node),
        Meaning::OfNode(Operator::MustNot) => !matches_node(rule, node),
        _ => true,
    })
}

/// Every hard rule but spread that `name` breaks for `request`. What nothing is known about is not broken.
pub(super) fn broken(
    federation: &Federation,
    inventory: &Inventory,
    rules: &[Rule],
    request: &Request,
    name: &ClusterName,
    ledger: &Ledger,
) -> Vec<Reason> {
    let unknown = Cluster::default();
    let cluster = federation.clusters.get(name).unwrap_or(&unknown);
    let facts = inventory.clusters.get(name);
    let refuse = |rule: &Rule, because: String| Some(Reason::Rule { rule: rule.clone(), because });
    let verdict = |rule: &Rule| match meaning(rule, request) {
        Meaning::OfCluster(Operator::Must) if !matches_cluster(rule, name, cluster) => refuse(rule, String::new()),
        Meaning::OfCluster(Operator::MustNot) if matches_cluster(rule, name, cluster) => refuse(rule, String::new()),
        Meaning::OfNode(operator) if operator.is_hard() => {
            let nodes = &facts?.nodes;
            let alone = std::slice::from_ref(rule);
            let none = !nodes.is_empty() && !nodes.iter().any(|node| node_allowed(alone, request, &node.name));
            none.then(|| refuse(rule, ": no node of it is allowed".to_owned())).flatten()
        }
        Meaning::Together(Operator::Must) => {
            let group = Group::of(inventory, request, &rule.value, ledger);
            let elsewhere = group.total() > 0 && group.count(name) == 0;
            elsewhere.then(|| refuse(rule, format!(": they are on {}", group.places()))).flatten()
        }
        _ => None,
    };
    rules.iter().filter_map(verdict).collect()
}

/// The soft rules that match `name`: +1 for each preference kept, −1 for each thing to avoid that is there.
///
/// Looks at the inventory only, never at siblings planned meanwhile, so that the answer cannot depend on their order.
pub(super) fn soft(
    federation: &Federation,
    inventory: &Inventory,
    rules: &[Rule],
    request: &Request,
    name: &ClusterName,
) -> Vec<(Rule, i32)> {
    let unknown = Cluster::default();
    let cluster = federation.clusters.get(name).unwrap_or(&unknown);
    let no_facts = ClusterFacts::default();
    let facts = inventory.clusters.get(name).unwrap_or(&no_facts);
    let signed = |operator: Operator, found: bool| match operator {
        Operator::Should if found => 1,
        Operator::ShouldNot if found => -1,
        _ => 0,
    };
    let weigh = |rule: &Rule| {
        let sign = match meaning(rule, request) {
            Meaning::OfCluster(operator) => signed(operator, matches_cluster(rule, name, cluster)),
            Meaning::OfNode(operator) => {
                signed(operator, facts.nodes.iter().any(|node| matches_node(rule, &node.name)))
            }
            Meaning::Together(operator) => {
                let group = Group::of(inventory, request, &rule.value, &Ledger::new());
                signed(operator, group.count(name) > 0)
            }
            Meaning::Spread(_) | Meaning::Vacuous => 0,
        };
        (sign != 0).then(|| (rule.clone(), sign))
    };
    rules.iter().filter_map(weigh).collect()
}

/// The guests of a pool that carry a tag, by cluster, without the VM asked about.
pub(super) struct Group {
    /// Names by cluster: those there, and those planned.
    members: BTreeMap<ClusterName, Vec<String>>,
}

impl Group {
    /// The group of `tag` in the request's pool, from the inventory and what is planned.
    pub(super) fn of(inventory: &Inventory, request: &Request, tag: &str, ledger: &Ledger) -> Group {
        let mut members: BTreeMap<ClusterName, Vec<String>> = BTreeMap::new();
        let tagged = |guest: &GuestFacts| guest.tags.iter().any(|own| own.eq_ignore_ascii_case(tag));
        let pool = request.pool.as_ref().map(|pool| pool.as_str());
        for (name, facts) in &inventory.clusters {
            let in_group = facts
                .guests
                .iter()
                .filter(|guest| !guest.template && guest.pool.as_deref() == pool && tagged(guest))
                .filter(|guest| !is_self(request, name, guest));
            let names: Vec<String> = in_group.map(|guest| guest.name.clone()).collect();
            if !names.is_empty() {
                members.insert(name.clone(), names);
            }
        }
        let mut present = Present::new(inventory);
        for (cluster, planned) in ledger.iter() {
            let in_group = planned.pool == request.pool
                && planned.name != request.name
                && planned.tags.iter().any(|own| own.as_str().eq_ignore_ascii_case(tag));
            if in_group && !present.holds(cluster, planned) {
                members.entry(cluster.clone()).or_default().push(planned.name.to_string());
            }
        }
        Group { members }
    }

    pub(super) fn count(&self, cluster: &ClusterName) -> u32 {
        self.members.get(cluster).map_or(0, |names| u32::try_from(names.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn total(&self) -> usize {
        self.members.values().map(Vec::len).sum()
    }

    /// Every member with its cluster.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ClusterName, &str)> {
        self.members.iter().flat_map(|(cluster, names)| names.iter().map(move |name| (cluster, name.as_str())))
    }

    fn places(&self) -> String {
        self.members.keys().map(ClusterName::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a guest is the VM asked about: its recorded place, or its name in its pool (names are unique in a pool).
pub(super) fn is_self(request: &Request, cluster: &ClusterName, guest: &GuestFacts) -> bool {
    if let Some(current) = &request.current
        && current.cluster == *cluster
        && current.vmid == guest.vmid
    {
        return true;
    }
    let same_pool = request.pool.as_ref().is_some_and(|pool| guest.pool.as_deref() == Some(pool.as_str()));
    same_pool && !guest.container && guest.name == request.name.as_str()
}

/// Tells what is planned and in the inventory by now, which must not count twice. Names are indexed cluster by cluster as they are
/// asked about: comparing every planned VM with every guest made a plan of thousands cubic.
pub(super) struct Present<'a> {
    inventory: &'a Inventory,
    names: BTreeMap<&'a ClusterName, HashSet<&'a str>>,
}

impl<'a> Present<'a> {
    pub(super) fn new(inventory: &'a Inventory) -> Present<'a> {
        Present { inventory, names: BTreeMap::new() }
    }

    /// Whether `planned` is on `cluster` already.
    pub(super) fn holds(&mut self, cluster: &ClusterName, planned: &Request) -> bool {
        let Some((cluster, facts)) = self.inventory.clusters.get_key_value(cluster) else { return false };
        let index = || facts.guests.iter().map(|guest| guest.name.as_str()).collect();
        let names = self.names.entry(cluster).or_insert_with(index);
        // One that exists is known by its VMID too, whatever it is called there.
        let may_be = planned.current.is_some() || names.contains(planned.name.as_str());
        may_be && facts.guests.iter().any(|guest| is_self(planned, cluster, guest))
    }
}

//! Owns the way between a resource pool's values and the federation's pool, both ways, and its static checks.
use std::collections::{BTreeMap, BTreeSet};

use federation::model::{AutomaticMove, Limits, Policy, Rule, Strategy};
use federation::{Bytes, ClusterName, Pool, PoolName};
use protocol::{AttributePath, Diagnostics, Value};

use crate::reading::Reader;
use crate::values::{Object, Same, leaf, prior_or, text};

/// The inputs that are not known yet, by path.
pub(crate) fn unknown_inputs(planned: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    planned.walk(&mut |path, value| {
        if value.is_unknown() {
            unknown.push(path.to_string());
        }
    });
    unknown.retain(|path| path != "id");
    unknown
}

/// What a wholly known plan or state says. What can't be read is left out; [`validate`] reports it.
pub(crate) fn pool(value: &Value) -> Pool {
    Reader { diags: &mut Diagnostics::new() }.pool(value)
}

/// The name, where it is known and is one.
pub(crate) fn name(value: &Value) -> Option<PoolName> {
    PoolName::new(value.attr("name").as_str()?).ok()
}

/// The clusters of a plan or state.
pub(crate) fn clusters(value: &Value) -> BTreeSet<ClusterName> {
    let names = value.attr("clusters").as_list().into_iter().flatten().filter_map(Value::as_str);
    names.filter_map(|name| ClusterName::new(name).ok()).collect()
}

/// Static checks of a configuration: everything that is wrong whatever the clusters say. Unknown values pass.
pub(crate) fn validate(config: &Value, diags: &mut Diagnostics) {
    let mut reader = Reader { diags };
    reader.parsed::<PoolName>(config, &AttributePath::root(), "name");
    reader.pool(config);
    let named = config.attr("clusters");
    if named.as_list().is_some_and(<[Value]>::is_empty) {
        diags.error_at(AttributePath::new("clusters"), "A pool needs a cluster", "Name at least one cluster.");
    }
    if !named.is_wholly_known() {
        return;
    }
    let members = clusters(config);
    let weights = config.attr("placement_policy").attr("cluster_weights");
    for cluster in weights.as_map().into_iter().flat_map(BTreeMap::keys) {
        if ClusterName::new(cluster).is_ok_and(|cluster| !members.contains(&cluster)) {
            let at = AttributePath::new("placement_policy").attribute("cluster_weights").key(cluster.as_str());
            let names: Vec<&str> = members.iter().map(ClusterName::as_str).collect();
            let detail = format!("{cluster} is not one of the pool's clusters: {}.", names.join(", "));
            diags.error_at(at, "A weight for a cluster outside of the pool", detail);
        }
    }
}

/// A pool's parts.
trait PoolParts {
    fn pool(&mut self, value: &Value) -> Pool;
    fn policy(&mut self, value: &Value) -> Option<Policy>;
    fn rule(&mut self, value: &Value, at: &AttributePath) -> Option<Rule>;
    fn size(&mut self, value: &Value, at: &AttributePath, name: &str) -> Option<Bytes>;
}

impl PoolParts for Reader<'_> {
    fn pool(&mut self, value: &Value) -> Pool {
        let root = AttributePath::root();
        let members = value.attr("clusters").as_list().into_iter().flatten().filter_map(Value::as_str);
        let clusters = members.filter_map(|text| self.element(text, AttributePath::new("clusters"))).collect();
        let limits = value.attr("limits");
        let at = AttributePath::new("limits");
        let moves = value.attr("automatic_moves").as_list().into_iter().flatten().filter_map(Value::as_str);
        Pool {
            clusters,
            limits: Limits {
                max_vms: self.whole(limits, &at, "max_vms", 1..=u32::MAX),
                max_cpu_cores: self.whole(limits, &at, "max_cpu_cores", 1..=u32::MAX),
                max_memory: self.size(limits, &at, "max_memory"),
                max_storage: self.size(limits, &at, "max_storage"),
            },
            policy: self.policy(value.attr("placement_policy")),
            automatic_moves: moves
                .filter_map(|text| self.element(text, AttributePath::new("automatic_moves")))
                .collect(),
            max_moves_per_apply: self.whole(value, &root, "max_moves_per_apply", 1..=u32::MAX),
            description: text(value, "description"),
        }
    }

    fn policy(&mut self, value: &Value) -> Option<Policy> {
        if value.is_null() || value.is_unknown() {
            return None;
        }
        let at = AttributePath::new("placement_policy");
        let mut policy =
            Policy { strategy: self.parsed(value, &at, "strategy").unwrap_or(Strategy::Balanced), ..Policy::default() };
        let weights = value.attr("cluster_weights");
        for cluster in weights.as_map().into_iter().flat_map(BTreeMap::keys) {
            let path = at.clone().attribute("cluster_weights");
            let weight = weights.attr(cluster).as_number();
            let fits =
                weight.and_then(|number| u32::try_from(number.as_u64()?).ok()).filter(|weight| *weight <= 1_000_000);
            if let (Some(number), None) = (weight, fits) {
                let detail = format!("{} is not a whole number from 0 to 1000000.", number.as_str());
                self.diags.error_at(path.clone().key(cluster.as_str()), "Invalid weight", detail);
            }
            let name = self.element::<ClusterName>(cluster, path.key(cluster.as_str()));
            policy.cluster_weights.extend(name.zip(fits));
        }
        for (index, rule) in value.attr("rules").as_list().into_iter().flatten().enumerate() {
            policy.rules.extend(self.rule(rule, &at.clone().attribute("rules").index(index)));
        }
        Some(policy)
    }

    fn rule(&mut self, value: &Value, at: &AttributePath) -> Option<Rule> {
        let (kind, target) = (self.parsed(value, at, "type"), self.parsed(value, at, "target"));
        let operator = self.parsed(value, at, "operator");
        let named = text(value, "value");
        if named.as_deref().is_some_and(|named| named.trim().is_empty()) {
            // An empty text is part of every location.
            let detail = "Name a cluster, node, tag or place.";
            self.diags.error_at(at.clone().attribute("value"), "A rule without a value", detail);
            return None;
        }
        Some(Rule { kind: kind?, target: target?, operator: operator?, value: named? })
    }

    fn size(&mut self, value: &Value, at: &AttributePath, name: &str) -> Option<Bytes> {
        let size: Bytes = self.parsed(value, at, name)?;
        if size == Bytes::ZERO {
            let detail = "A limit of nothing is no pool: leave it out for no limit.";
            self.diags.error_at(at.clone().attribute(name), format!("Invalid {name}"), detail);
        }
        Some(size)
    }
}

/// What is planned, attribute by attribute: a pure function of configuration and prior state (design.md §5).
pub(crate) fn planned(config: &Value, prior: &Value) -> Value {
    let mut object = Object::default();
    for name in ["name", "clusters", "description"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || Value::Null));
    }
    object.set("limits", planned_limits(config.attr("limits"), prior.attr("limits")));
    object.set("placement_policy", planned_policy(config.attr("placement_policy"), prior.attr("placement_policy")));
    let moves = || Value::Set(Vec::new());
    object.set(
        "automatic_moves",
        leaf(config.attr("automatic_moves"), prior.attr("automatic_moves"), Same::Exactly, moves),
    );
    let most = (config.attr("max_moves_per_apply"), prior.attr("max_moves_per_apply"));
    object.set("max_moves_per_apply", leaf(most.0, most.1, Same::Exactly, || 1.into()));
    object.set("id", if config.attr("name").is_known() { config.attr("name").clone() } else { Value::unknown() });
    object.done()
}

const COUNTS: [&str; 2] = ["max_vms", "max_cpu_cores"];
const SIZES: [&str; 2] = ["max_memory", "max_storage"];

fn planned_limits(config: &Value, prior: &Value) -> Value {
    if config.is_null() || config.is_unknown() {
        return config.clone();
    }
    let mut object = Object::default();
    for name in COUNTS {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || Value::Null));
    }
    for name in SIZES {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::AsSize, || Value::Null));
    }
    object.done()
}

fn planned_policy(config: &Value, prior: &Value) -> Value {
    if config.is_null() || config.is_unknown() {
        return config.clone();
    }
    let mut object = Object::default();
    let strategy = || Strategy::Balanced.as_str().into();
    object.set("strategy", leaf(config.attr("strategy"), prior.attr("strategy"), Same::Exactly, strategy));
    for name in ["cluster_weights", "rules"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || Value::Null));
    }
    object.done()
}

/// State of a pool: what its record says, in the prior spelling where that means the same. `complete`: the clusters that
/// hold the record.
pub(crate) fn state(name: &PoolName, real: &Pool, complete: &BTreeSet<ClusterName>, prior: &Value) -> Value {
    let before = pool(prior);
    let kept = |attribute: &str, same: bool, real: Value| {
        if same && prior.attr(attribute).is_known() { prior.attr(attribute).clone() } else { real }
    };
    let mut object = Object::default();
    object.set("name", name.as_str()).set("id", name.as_str());
    object.set("clusters", Value::set(complete.iter().map(ClusterName::as_str)));
    object.set("description", real.description.as_deref());
    object.set("limits", kept("limits", before.limits == real.limits, real_limits(&real.limits, prior.attr("limits"))));
    let policy = real.policy.as_ref().map_or(Value::Null, real_policy);
    object.set("placement_policy", kept("placement_policy", before.policy == real.policy, policy));
    object.set("automatic_moves", Value::set(real.automatic_moves.iter().map(|word: &AutomaticMove| word.as_str())));
    object.set("max_moves_per_apply", prior_or(&real.max_moves_per_apply.into(), 1));
    object.done()
}

fn real_limits(limits: &Limits, prior: &Value) -> Value {
    if limits.is_empty() {
        return Value::Null;
    }
    let size = |name: &str, size: Option<Bytes>| {
        let real = Value::from(size.map(|size| size.to_string()));
        if Same::AsSize.means(prior.attr(name), &real) { prior.attr(name).clone() } else { real }
    };
    Value::object([
        ("max_vms", limits.max_vms.into()),
        ("max_cpu_cores", limits.max_cpu_cores.into()),
        ("max_memory", size("max_memory", limits.max_memory)),
        ("max_storage", size("max_storage", limits.max_storage)),
    ])
}

fn real_policy(policy: &Policy) -> Value {
    let rule = |rule: &Rule| {
        Value::object([
            ("type", rule.kind.as_str()),
            ("target", rule.target.as_str()),
            ("operator", rule.operator.as_str()),
            ("value", rule.value.as_str()),
        ])
    };
    let weights = policy.cluster_weights.iter().map(|(name, weight)| (name.to_string(), *weight));
    let some = |is_empty: bool, value: Value| if is_empty { Value::Null } else { value };
    Value::object([
        ("strategy", policy.strategy.as_str().into()),
        ("cluster_weights", some(policy.cluster_weights.is_empty(), Value::map(weights))),
        ("rules", some(policy.rules.is_empty(), Value::list(policy.rules.iter().map(rule)))),
    ])
}

#[cfg(test)]
mod tests;

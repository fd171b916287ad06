//! What is written of pools and matches nothing: most often a slip, which nothing else would ever say.

use super::rules::matches_cluster;
use crate::config::nearest;
use crate::model::{Cluster, Federation, Operator, Pool, Rule, RuleType, Strategy, Target};
use crate::names::PoolName;

/// Every rule and weight of one pool that changes nothing, or leaves nothing, in words. `federation`: its clusters.
///
/// Tags of machines and names of nodes are not known here, so rules about those are not judged.
pub fn unmatched(federation: &Federation, name: &PoolName, pool: &Pool) -> Vec<String> {
    let policy = pool.policy();
    let mut found: Vec<String> = policy
        .rules
        .iter()
        .filter_map(|rule| Some(format!("pool {name}: {}", of_rule(federation, pool, rule)?)))
        .collect();
    let (some, strategy) = (!policy.cluster_weights.is_empty(), policy.strategy);
    if some && matches!(strategy, Strategy::Performance) {
        found.push(format!("pool {name}: cluster_weights say nothing where the strategy is \"{strategy}\""));
    }
    found
}

fn of_rule(federation: &Federation, pool: &Pool, rule: &Rule) -> Option<String> {
    let by_tag = rule.kind == RuleType::Location && rule.target == Target::Tag;
    if rule.target != Target::Cluster && !by_tag {
        return None;
    }
    let operator = if rule.kind == RuleType::AntiAffinity { rule.operator.opposite() } else { rule.operator };
    let matched: Vec<_> = federation
        .clusters
        .iter()
        .filter(|(name, facts)| matches_cluster(rule, name, facts))
        .map(|(name, _)| name)
        .collect();
    let inside = matched.iter().any(|name| pool.clusters.contains(*name));
    let effect = match operator {
        Operator::Must => "so nothing can be placed in the pool",
        _ => "so it changes nothing",
    };
    if matched.is_empty() {
        return Some(format!(
            "the rule \"{rule}\" matches no cluster of the federation, {effect}; {}",
            hint(federation, rule)
        ));
    }
    // A cluster that the pool doesn't have is kept out of it, or avoided, all the same.
    let wants = matches!(operator, Operator::Must | Operator::Should);
    (wants && !inside).then(|| format!("the rule \"{rule}\" matches no cluster of the pool, {effect}"))
}

/// The nearest text that the rule could have meant, else all of them.
fn hint(federation: &Federation, rule: &Rule) -> String {
    let tags = federation.clusters.values().flat_map(|facts| facts.tags.iter().map(String::as_str));
    let mut known: Vec<&str> = if rule.kind == RuleType::Location && rule.target == Target::Tag {
        tags.collect()
    } else {
        let names = federation.clusters.keys().map(|name| name.as_str());
        let shown = federation.clusters.values().filter_map(|facts| facts.display_name.as_deref());
        let places = federation.clusters.values().flat_map(places);
        if rule.kind == RuleType::Location {
            names.chain(shown).chain(places).chain(tags).collect()
        } else {
            names.chain(shown).collect()
        }
    };
    known.sort_unstable();
    known.dedup();
    match nearest(&rule.value, &known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "no cluster declares anything of that kind".to_owned(),
        None => format!("there are: {}", known.join(", ")),
    }
}

fn places(facts: &Cluster) -> impl Iterator<Item = &str> {
    [facts.location.as_deref(), facts.country(), facts.hosting_provider.as_deref()].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn federation() -> Federation {
        let cluster = |location: &str, tag: &str| Cluster {
            location: Some(location.to_owned()),
            tags: [tag.to_owned()].into(),
            ..Cluster::default()
        };
        let named = |name: &str| name.parse().expect("a name");
        let clusters = [
            (named("ams-main"), cluster("Amsterdam, NL", "production")),
            (named("fra-edge"), cluster("Frankfurt, DE", "edge")),
        ];
        Federation { clusters: clusters.into(), ..Federation::default() }
    }

    fn found(kind: RuleType, target: Target, operator: Operator, value: &str) -> Vec<String> {
        let rule = Rule { kind, target, operator, value: value.to_owned() };
        let policy = crate::model::Policy { rules: vec![rule], ..Default::default() };
        let pool =
            Pool { clusters: ["ams-main".parse().expect("a name")].into(), policy: Some(policy), ..Pool::default() };
        unmatched(&federation(), &"web".parse().expect("a name"), &pool)
    }

    #[test]
    fn a_rule_that_matches_no_cluster_is_named_with_what_it_may_have_meant() {
        use {Operator::*, RuleType::*, Target::*};
        let slip = found(Location, Cluster, MustNot, "ams-mian");
        assert_eq!(
            slip,
            [
                "pool web: the rule \"location cluster must_not \"ams-mian\"\" matches no cluster of the federation, so it changes \
              nothing; did you mean \"ams-main\"?"
            ]
        );
        let far = found(Location, Cluster, MustNot, "production-cluster");
        assert!(far[0].contains("there are: ") && far[0].contains("Amsterdam, NL"), "{far:?}");
        assert!(found(Affinity, Cluster, Must, "nowhere")[0].contains("nothing can be placed"));
        assert!(found(Location, Tag, Should, "prodution")[0].contains("did you mean \"production\"?"));
        assert!(found(Location, Cluster, Must, "DE")[0].contains("matches no cluster of the pool"));
    }

    #[test]
    fn what_matches_and_what_can_not_be_judged_is_not_named() {
        use {Operator::*, RuleType::*, Target::*};
        for (kind, target, operator, value) in [
            (Location, Cluster, Must, "NL"),
            (Location, Cluster, MustNot, "fra-edge"),
            (Location, Tag, MustNot, "edge"),
            (AntiAffinity, Tag, Must, "database"),
            (Affinity, Node, Must, "n1"),
        ] {
            assert_eq!(found(kind, target, operator, value), Vec::<String>::new());
        }
    }
}

//! Owns what a configured `node` means: a node of the cluster that it was written for. On another one it says nothing, whatever its nodes
//! are called there.
use protocol::{PlanRequest, Value};

use crate::private::{Private, WrittenFor};
use crate::values::text;

/// The configured node as a wish about `cluster`.
///
/// One that a machine has where it is was written for that cluster (an import writes it so), and one that was written for a cluster
/// before a move stays that cluster's.
pub(super) fn wish(config: &Value, prior: &Value, private: &Private, cluster: &str) -> Option<String> {
    let node = text(config, "node")?;
    let written = match &private.node {
        Some(written) if written.node == node => Some(written.cluster.clone()),
        _ if text(prior, "node").as_ref() == Some(&node) => text(prior, "cluster"),
        _ => None,
    };
    written.is_none_or(|written| written == cluster).then_some(node)
}

/// Plans the node: where the configured one was written for another cluster than the machine is on, it is the one that it has.
pub(super) fn plan(req: &PlanRequest, moving: bool, state: &mut Value) {
    let prior = &req.prior_state;
    let Some(cluster) = text(prior, "cluster").filter(|_| !moving) else { return };
    if !req.config.attr("node").is_null()
        && wish(&req.config, prior, &Private::read(&req.prior_private), &cluster).is_none()
    {
        state.set_attr("node", prior.attr("node").clone());
    }
}

/// What the configured node was written for, to be kept past an apply that has the machine on `cluster`.
pub(super) fn written_for(config: &Value, prior: &Value, private: &Private, cluster: &str) -> Option<WrittenFor> {
    let node = text(config, "node")?;
    if wish(config, prior, private, cluster).is_some() {
        return None;
    }
    let kept = private.node.clone().filter(|written| written.node == node);
    kept.or_else(|| Some(WrittenFor { node, cluster: text(prior, "cluster")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cluster: &str, node: &str) -> Value {
        Value::object([("cluster", Value::from(cluster)), ("node", node.into())])
    }

    #[test]
    fn a_node_is_read_for_the_cluster_that_it_was_written_for() {
        let config = machine("rtm", "pve1");
        let new = Private::default();
        assert_eq!(wish(&config, &machine("ams", "pve1"), &new, "rtm"), None, "the machine has it where it is");
        assert_eq!(
            wish(&config, &machine("ams", "pve2"), &new, "rtm").as_deref(),
            Some("pve1"),
            "a wish about the target"
        );
        assert_eq!(wish(&config, &Value::Null, &new, "rtm").as_deref(), Some("pve1"), "a new machine");
        // After the move, wherever it came to be, and whatever a refresh found.
        let written = written_for(&config, &machine("ams", "pve1"), &new, "rtm").expect("it is the source's");
        let moved = Private { node: Some(written.clone()), ..Private::default() };
        assert_eq!(wish(&config, &machine("rtm", "pve2"), &moved, "rtm"), None);
        assert_eq!(wish(&config, &machine("rtm", "pve1"), &moved, "rtm"), None, "another cluster's pve1");
        assert_eq!(wish(&config, &machine("rtm", "pve2"), &moved, "ams").as_deref(), Some("pve1"), "and back");
        assert_eq!(written_for(&config, &machine("rtm", "pve2"), &moved, "rtm"), Some(written));
        // What is written anew is a wish again.
        let config = machine("rtm", "pve3");
        assert_eq!(wish(&config, &machine("rtm", "pve2"), &moved, "rtm").as_deref(), Some("pve3"));
        assert_eq!(written_for(&config, &machine("rtm", "pve2"), &moved, "rtm"), None);
    }
}

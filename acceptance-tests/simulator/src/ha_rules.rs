//! HA rules (PVE 9) and groups (PVE 8): which guests go to which nodes (proxmox-ve.md §10.4, §16.4).

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::state::Cluster;
use crate::util::split_list;

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct HaRule {
    /// `node-affinity` or `resource-affinity`.
    pub(crate) kind: String,
    /// `vm:100`, in order.
    pub(crate) resources: Vec<String>,
    pub(crate) nodes: Option<String>,
    pub(crate) affinity: Option<String>,
}

fn entry(name: &str, rule: &HaRule) -> Value {
    let mut out = json!({ "rule": name, "type": rule.kind, "resources": rule.resources.join(","), "order": 1 });
    for (key, value) in [("nodes", &rule.nodes), ("affinity", &rule.affinity)] {
        if let Some(value) = value {
            out[key] = json!(value);
        }
    }
    out
}

/// `GET /cluster/ha/rules`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let wanted = |rule: &HaRule| {
        call.get("type").is_none_or(|kind| rule.kind == kind)
            && call.get("resource").is_none_or(|sid| rule.resources.iter().any(|known| known == sid))
    };
    let found = call.c().ha_rules.iter().filter(|(_, rule)| wanted(rule));
    Ok(json!(found.map(|(name, rule)| entry(name, rule)).collect::<Vec<_>>()).into())
}

fn missing(name: &str) -> ApiError {
    ApiError::die(format!("no such ha rule '{name}'"))
}

/// `GET /cluster/ha/rules/{rule}`
pub(crate) fn one(call: &mut Call<'_>) -> Answer {
    let name = call.param("rule").to_owned();
    call.c().ha_rules.get(&name).map(|rule| entry(&name, rule).into()).ok_or_else(|| missing(&name))
}

/// `PUT /cluster/ha/rules/{rule}`
pub(crate) fn update(call: &mut Call<'_>) -> Answer {
    call.c().need_quorum()?;
    let name = call.param("rule").to_owned();
    let kind = call.param("type").to_owned();
    let resources: Option<Vec<String>> =
        call.get("resources").map(|list| split_list(list).map(str::to_owned).collect());
    let known = call.c().ha_rules.get(&name).ok_or_else(|| missing(&name))?;
    if known.kind != kind {
        return Err(ApiError::die(format!("cannot change the type of rule '{name}'")));
    }
    for sid in resources.iter().flatten() {
        if !call.c().ha.contains_key(sid) {
            return Err(ApiError::param("resources", format!("cannot use unmanaged resource(s) {sid}.")));
        }
    }
    if let (Some(rule), Some(resources)) = (call.cm().ha_rules.get_mut(&name), resources) {
        rule.resources = resources;
    }
    Ok(Value::Null.into())
}

/// `GET /cluster/ha/groups`
pub(crate) fn groups(call: &mut Call<'_>) -> Answer {
    if call.c().is_9() {
        return Err(ApiError::die("cannot list ha groups: ha groups have been migrated to rules"));
    }
    let groups = call.c().ha_groups.iter();
    Ok(json!(
        groups.map(|(group, nodes)| json!({ "group": group, "nodes": nodes, "type": "group" })).collect::<Vec<_>>()
    )
    .into())
}

/// A resource that goes, goes from its rules, and a rule without resources goes too (§16.4).
pub(crate) fn purge(c: &mut Cluster, sid: &str) {
    for rule in c.ha_rules.values_mut() {
        rule.resources.retain(|known| known != sid);
    }
    c.ha_rules.retain(|_, rule| !rule.resources.is_empty());
}

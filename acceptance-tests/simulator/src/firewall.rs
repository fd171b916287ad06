//! The firewall as far as it is read: on or off for a cluster, what its rules may name, and a guest's own rules, which a backup
//! carries (proxmox-ve.md §6, §7). The cluster's calls are those of pve-firewall's `API2/Firewall/Cluster.pm` and `Groups.pm`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::inspect::ClusterHandle;
use crate::state::Cluster;

/// What holds for a whole cluster. Off unless somebody switched it on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Firewall {
    enabled: bool,
    /// Security groups.
    groups: BTreeSet<String>,
    aliases: BTreeSet<String>,
    ipsets: BTreeSet<String>,
}

/// What a guest's own firewall file holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GuestFirewall {
    enabled: bool,
    /// Rules as the API lists them.
    rules: Vec<Value>,
}

/// `GET /cluster/firewall/options`
pub(crate) fn options(call: &mut Call<'_>) -> Answer {
    Ok(json!({ "enable": i32::from(call.c().firewall.enabled), "digest": "0" }).into())
}

/// `GET /cluster/firewall/groups`
pub(crate) fn groups(call: &mut Call<'_>) -> Answer {
    let groups = call.c().firewall.groups.iter().map(|group| json!({ "group": group, "digest": "0" }));
    Ok(Value::Array(groups.collect()).into())
}

/// `GET /cluster/firewall/refs`
pub(crate) fn refs(call: &mut Call<'_>) -> Answer {
    let firewall = &call.c().firewall;
    let entry = |kind: &str, name: &String, mark: &str| {
        let mut out = json!({ "type": kind, "name": name, "ref": format!("{mark}{name}") });
        // Says where a name belongs since 8.1.
        out["scope"] = json!("dc");
        out
    };
    let ipsets = firewall.ipsets.iter().map(|name| entry("ipset", name, "+"));
    let aliases = firewall.aliases.iter().map(|name| entry("alias", name, ""));
    let all = ipsets.chain(aliases).filter(|one| call.get("type").is_none_or(|kind| one["type"] == kind));
    Ok(Value::Array(all.collect()).into())
}

fn of_guest<'a>(call: &'a Call<'_>) -> Result<&'a GuestFirewall, ApiError> {
    let vm = call.c().vms.get(&call.vmid()).filter(|vm| vm.node == call.node());
    vm.map(|vm| &vm.firewall).ok_or_else(|| Cluster::missing(&call.node(), call.vmid()))
}

/// `GET …/qemu/{vmid}/firewall/options`
pub(crate) fn guest_options(call: &mut Call<'_>) -> Answer {
    let enabled = of_guest(call)?.enabled;
    Ok(json!({ "enable": i32::from(enabled), "digest": "0" }).into())
}

/// `GET …/qemu/{vmid}/firewall/rules`
pub(crate) fn guest_rules(call: &mut Call<'_>) -> Answer {
    Ok(Value::Array(of_guest(call)?.rules.clone()).into())
}

impl ClusterHandle {
    /// Switches the cluster's firewall on or off, and says what rules may name: `group NAME`, `+IPSET`, or an alias.
    pub fn set_firewall(&self, enabled: bool, names: &[&str]) {
        let mut firewall = Firewall { enabled, ..Firewall::default() };
        for name in names {
            if let Some(group) = name.strip_prefix("group ") {
                firewall.groups.insert(group.to_owned());
            } else if let Some(ipset) = name.strip_prefix('+') {
                firewall.ipsets.insert(ipset.to_owned());
            } else {
                firewall.aliases.insert((*name).to_owned());
            }
        }
        self.lock().cluster_mut(&self.name).firewall = firewall;
    }

    /// Gives a guest a firewall of its own: rules of (type, action, source), first to last.
    pub fn set_guest_firewall(&self, vmid: u32, rules: &[(&str, &str, Option<&str>)]) {
        let rule = |(pos, (kind, action, source)): (usize, &(&str, &str, Option<&str>))| {
            let mut rule = json!({ "pos": pos, "type": kind, "action": action, "enable": 1 });
            if let Some(source) = source {
                rule["source"] = json!(source);
            }
            rule
        };
        let rules = rules.iter().enumerate().map(rule).collect();
        if let Some(vm) = self.lock().cluster_mut(&self.name).vms.get_mut(&vmid) {
            vm.firewall = GuestFirewall { enabled: true, rules };
        }
    }

    /// How many firewall rules a guest has; none where its firewall is off.
    pub fn guest_firewall_rules(&self, vmid: u32) -> usize {
        let st = self.lock();
        let vm = st.cluster(&self.name).vms.get(&vmid);
        vm.filter(|vm| vm.firewall.enabled).map_or(0, |vm| vm.firewall.rules.len())
    }
}

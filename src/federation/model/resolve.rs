//! What federation names become on one cluster (design.md §3): mapped if the cluster maps them, else themselves.

use serde::{Deserialize, Serialize};

use super::Network;
use super::cluster::{Cluster, MacPolicy};

/// A network device as a VM asks for it: a federation network, or a literal bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NicRequest {
    /// The federation network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// A literal bridge; then the cluster must have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// A literal VLAN tag; then it must mean something on the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

/// A network device as it is on one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicOnCluster {
    /// The bridge or SDN vnet.
    pub bridge: String,
    /// The VLAN tag, none for untagged.
    pub vlan: Option<u16>,
    /// What becomes of a MAC address that moves in.
    pub macs: MacPolicy,
    /// Whether the cluster maps the name; if not, bridge and VLAN are taken literally and have to exist there.
    pub mapped: bool,
}

impl Cluster {
    /// The storage `name` stands for here. Without a name: the class `default`, else the primary storage, else `None`
    /// (then the only storage for disks, if the inventory knows exactly one).
    pub fn resolve_storage(&self, name: Option<&str>) -> Option<String> {
        match name {
            Some(name) => Some(self.storage_classes.get(name).cloned().unwrap_or_else(|| name.to_owned())),
            None => self.storage_classes.get("default").or(self.primary_storage.as_ref()).cloned(),
        }
    }

    /// The bridge and VLAN a device gets here; `None` when it names neither a network nor a bridge.
    ///
    /// A literal `vlan` beside a `network` wins over the mapped one.
    pub fn resolve_network(&self, nic: &NicRequest) -> Option<NicOnCluster> {
        let literal = |bridge: &str| NicOnCluster {
            bridge: bridge.to_owned(),
            vlan: nic.vlan,
            macs: MacPolicy::Keep,
            mapped: false,
        };
        let Some(name) = nic.network.as_deref() else {
            return nic.bridge.as_deref().map(literal);
        };
        let Some(network) = self.networks.get(name) else {
            return Some(literal(name));
        };
        Some(NicOnCluster {
            bridge: network.bridge.clone(),
            vlan: nic.vlan.or(network.vlan),
            macs: network.macs.unwrap_or(MacPolicy::Keep),
            mapped: true,
        })
    }

    /// The declared network that a bridge and VLAN are here, the first by name where it is several.
    pub fn network_on(&self, bridge: &str, vlan: Option<u16>) -> Option<(&String, &Network)> {
        self.networks.iter().find(|(_, network)| network.bridge == bridge && network.vlan == vlan)
    }
}

//! Owns the calls about one node.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{Client, Fingerprint, Params, Result, api_path, de};

/// A node of `GET /nodes`. Sizes in bytes; numbers only with Sys.Audit on `/nodes/NODE`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// online, offline or unknown.
    #[serde(deserialize_with = "de::text")]
    pub status: String,
    /// Load, 0 to 1.
    #[serde(deserialize_with = "de::opt_f64")]
    pub cpu: Option<f64>,
    /// Logical CPUs.
    #[serde(deserialize_with = "de::opt_u64")]
    pub maxcpu: Option<u64>,
    /// Memory in use.
    #[serde(deserialize_with = "de::opt_u64")]
    pub mem: Option<u64>,
    /// Memory.
    #[serde(deserialize_with = "de::opt_u64")]
    pub maxmem: Option<u64>,
    /// Seconds since start.
    #[serde(deserialize_with = "de::opt_u64")]
    pub uptime: Option<u64>,
    /// SHA-256 of the certificate it serves with.
    #[serde(deserialize_with = "fingerprint")]
    pub ssl_fingerprint: Option<Fingerprint>,
}

/// An amount in use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All there is.
    #[serde(deserialize_with = "de::u64")]
    pub total: u64,
    /// In use.
    #[serde(deserialize_with = "de::u64")]
    pub used: u64,
    /// Not in use.
    #[serde(deserialize_with = "de::u64")]
    pub free: u64,
    /// What new work can have (memory: free and reclaimable); missing on older versions.
    #[serde(deserialize_with = "de::opt_u64")]
    pub available: Option<u64>,
}

/// A node's processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Logical CPUs: the most vcpus a guest can have here.
    #[serde(deserialize_with = "de::u64")]
    pub cpus: u64,
    /// What they can do, as `/proc/cpuinfo` names it.
    #[serde(deserialize_with = "de::text")]
    pub flags: String,
    /// Cores.
    #[serde(deserialize_with = "de::u64")]
    pub cores: u64,
    /// Sockets.
    #[serde(deserialize_with = "de::u64")]
    pub sockets: u64,
    /// Model name.
    #[serde(deserialize_with = "de::text")]
    pub model: String,
    /// Whether hardware virtualisation is there.
    #[serde(deserialize_with = "de::flag")]
    pub hvm: bool,
}

/// A node's state.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Load, 0 to 1.
    #[serde(deserialize_with = "de::opt_f64")]
    pub cpu: Option<f64>,
    /// Processors.
    pub cpuinfo: Cpu,
    /// Memory.
    pub memory: Usage,
    /// The root file system.
    pub rootfs: Usage,
    /// For example `pve-manager/9.1.9/HASH`.
    #[serde(deserialize_with = "de::text")]
    pub pveversion: String,
    /// Seconds since start: a smaller one than before tells a reboot.
    #[serde(deserialize_with = "de::u64")]
    pub uptime: u64,
}

/// A network interface of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NetworkInterface {
    /// Its name, for example `vmbr0`.
    pub iface: String,
    /// `bridge`, `OVSBridge`, `vnet`, …
    #[serde(rename = "type", deserialize_with = "de::text")]
    pub kind: String,
    /// Whether it is up.
    #[serde(deserialize_with = "de::flag")]
    pub active: bool,
    /// Whether it comes up with the node.
    #[serde(deserialize_with = "de::flag")]
    pub autostart: bool,
    /// Its IPv4 network, if it has an address.
    #[serde(deserialize_with = "de::opt_text")]
    pub cidr: Option<String>,
    /// Whether the bridge passes VLAN tags.
    #[serde(deserialize_with = "de::flag")]
    pub bridge_vlan_aware: bool,
    /// The comment.
    #[serde(deserialize_with = "de::opt_text")]
    pub comments: Option<String>,
}

/// A machine type a node's QEMU knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MachineType {
    /// Its full name.
    pub id: String,
    /// `i440fx` or `q35`.
    #[serde(rename = "type", deserialize_with = "de::text")]
    pub kind: String,
    /// Its version, for example `9.2+pve1`.
    #[serde(deserialize_with = "de::text")]
    pub version: String,
}

/// A certificate a node knows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CertificateInfo {
    /// `pve-root-ca.pem` (the cluster's CA), `pve-ssl.pem` (the node's own), `pveproxy-ssl.pem` (a custom one).
    pub filename: String,
    /// SHA-256 over its DER form.
    #[serde(default, deserialize_with = "fingerprint")]
    pub fingerprint: Option<Fingerprint>,
    /// Whom it names.
    #[serde(default, deserialize_with = "de::text")]
    pub subject: String,
    /// Until when it is good, in seconds since 1970.
    #[serde(default, deserialize_with = "de::opt_u64")]
    pub notafter: Option<u64>,
}

fn fingerprint<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Fingerprint>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_str().and_then(|text| text.parse().ok()))
}

impl Client {
    /// The nodes. Any user; numbers with Sys.Audit on `/nodes/NODE`.
    ///
    /// # Errors
    /// None of its own.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        self.get("/nodes", Params::new()).await
    }

    /// A node's state. Right: Sys.Audit on `/nodes/NODE`.
    ///
    /// # Errors
    /// 403; 595/596 while it is down.
    pub async fn node_status(&self, node: &str) -> Result<NodeStatus> {
        self.get(&api_path(["nodes", node, "status"]), Params::new()).await
    }

    /// Bridges and vnets guests can use on a node, those we may use (SDN.Use or SDN.Audit on
    /// `/sdn/zones/ZONE/BRIDGE`).
    ///
    /// # Errors
    /// 595/596 while the node is down.
    pub async fn node_networks(&self, node: &str) -> Result<Vec<NetworkInterface>> {
        self.get(&api_path(["nodes", node, "network"]), Params::new().set("type", "any_bridge")).await
    }

    /// The machine types a node's QEMU knows, for example `pc-q35-9.2+pve1`. Any user who may see the node.
    ///
    /// # Errors
    /// 595/596 while the node is down.
    pub async fn machine_types(&self, node: &str) -> Result<Vec<MachineType>> {
        self.get(&api_path(["nodes", node, "capabilities", "qemu", "machines"]), Params::new()).await
    }

    /// The certificates of a node (`localhost`: the entry node). Any user.
    ///
    /// # Errors
    /// 595/596 while the node is down.
    pub async fn certificates(&self, node: &str) -> Result<Vec<CertificateInfo>> {
        self.get(&api_path(["nodes", node, "certificates", "info"]), Params::new()).await
    }
}

//! Owns the calls about firewalls. They only read.

use serde::Deserialize;

use super::guest_path;
use crate::{Client, Params, Result, de};

/// Whether a firewall is on, of a cluster or of a guest. Off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FirewallOptions {
    /// Whether its rules hold. A cluster writes the time at which it was switched on.
    #[serde(rename = "enable", deserialize_with = "de::opt_u64")]
    enabled: Option<u64>,
}

impl FirewallOptions {
    /// Whether its rules hold.
    pub fn enabled(self) -> bool {
        self.enabled.is_some_and(|enabled| enabled > 0)
    }
}

/// A rule of a guest's firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FirewallRule {
    /// `in`, `out`, `forward`, or `group` where it stands for a security group.
    #[serde(rename = "type", deserialize_with = "de::text")]
    pub kind: String,
    /// What is done, or the name of the security group.
    #[serde(deserialize_with = "de::text")]
    pub action: String,
    /// Where from: addresses, ranges, aliases and `+ipsets`, separated by commas.
    #[serde(deserialize_with = "de::opt_text")]
    pub source: Option<String>,
    /// Where to, in the same way.
    #[serde(deserialize_with = "de::opt_text")]
    pub dest: Option<String>,
    /// Whether it holds, where that is said.
    #[serde(deserialize_with = "de::opt_flag")]
    pub enable: Option<bool>,
}

/// An alias or an IP set that rules may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FirewallRef {
    /// `alias` or `ipset`.
    #[serde(rename = "type", deserialize_with = "de::text")]
    pub kind: String,
    /// Its name.
    #[serde(deserialize_with = "de::text")]
    pub name: String,
}

/// A security group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct FirewallGroup {
    #[serde(default, deserialize_with = "de::text")]
    group: String,
}

impl Client {
    /// Whether a guest's own firewall is on. Right: VM.Audit.
    ///
    /// # Errors
    /// 403; [`crate::Missing::Guest`].
    pub async fn guest_firewall(&self, node: &str, vmid: u32) -> Result<FirewallOptions> {
        self.get(&guest_path(node, vmid, &["firewall", "options"]), Params::new()).await
    }

    /// A guest's own rules. Right: VM.Audit.
    ///
    /// # Errors
    /// 403; [`crate::Missing::Guest`].
    pub async fn guest_firewall_rules(&self, node: &str, vmid: u32) -> Result<Vec<FirewallRule>> {
        self.get(&guest_path(node, vmid, &["firewall", "rules"]), Params::new()).await
    }

    /// Whether the cluster's firewall is on: without it no guest is filtered. Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403.
    pub async fn cluster_firewall(&self) -> Result<FirewallOptions> {
        self.get("/cluster/firewall/options", Params::new()).await
    }

    /// Aliases and IP sets of the cluster. Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403.
    pub async fn cluster_firewall_refs(&self) -> Result<Vec<FirewallRef>> {
        self.get("/cluster/firewall/refs", Params::new()).await
    }

    /// Names of the cluster's security groups. Any user.
    ///
    /// # Errors
    /// None of its own.
    pub async fn security_groups(&self) -> Result<Vec<String>> {
        let groups: Vec<FirewallGroup> = self.get("/cluster/firewall/groups", Params::new()).await?;
        Ok(groups.into_iter().map(|group| group.group).collect())
    }
}

//! Owns the calls about high availability.

use serde::Deserialize;

use crate::{Client, Params, Result, api_path, de};

/// What the HA manager is to do with a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HaResource {
    /// `vm:100`.
    pub sid: String,
    /// `started`, `stopped`, `disabled`, `ignored`; None means started.
    #[serde(deserialize_with = "de::opt_text")]
    pub state: Option<String>,
    /// The HA group (PVE 8).
    #[serde(deserialize_with = "de::opt_text")]
    pub group: Option<String>,
    /// Its comment.
    #[serde(deserialize_with = "de::opt_text")]
    pub comment: Option<String>,
    /// How often it is restarted on its node.
    #[serde(deserialize_with = "de::opt_u64")]
    pub max_restart: Option<u64>,
    /// How often it is moved to another.
    #[serde(deserialize_with = "de::opt_u64")]
    pub max_relocate: Option<u64>,
    /// Whether it goes back to a preferred node (PVE 9).
    #[serde(deserialize_with = "de::opt_flag")]
    pub failback: Option<bool>,
}

/// What the HA manager is doing, one entry each for quorum, master, node and service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HaService {
    /// `service:vm:100`, `lrm:pve1`, `master`, `quorum`.
    pub id: String,
    /// `service`, `lrm`, `master`, `quorum`, `fencing`.
    #[serde(rename = "type", deserialize_with = "de::text")]
    pub kind: String,
    /// The guest, for a service.
    #[serde(deserialize_with = "de::opt_text")]
    pub sid: Option<String>,
    /// The node.
    #[serde(deserialize_with = "de::opt_text")]
    pub node: Option<String>,
    /// In words.
    #[serde(deserialize_with = "de::opt_text")]
    pub status: Option<String>,
    /// The state the manager is in with it.
    #[serde(deserialize_with = "de::opt_text")]
    pub crm_state: Option<String>,
    /// The state asked for.
    #[serde(deserialize_with = "de::opt_text")]
    pub request_state: Option<String>,
}

/// A rule of where HA resources run (PVE 9).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HaRule {
    /// Its name.
    #[serde(deserialize_with = "de::text")]
    pub rule: String,
    /// `node-affinity` or `resource-affinity`.
    #[serde(rename = "type", deserialize_with = "de::text")]
    pub kind: String,
    /// The resources that it names: `vm:100`.
    #[serde(deserialize_with = "de::list")]
    pub resources: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HaGroup {
    group: String,
}

fn path(vmid: u32) -> String {
    api_path(["cluster", "ha", "resources", &format!("vm:{vmid}")])
}

impl Client {
    /// All HA resources. Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403 without the right.
    pub async fn ha_resources(&self) -> Result<Vec<HaResource>> {
        self.get("/cluster/ha/resources", Params::new()).await
    }

    /// A guest's HA resource; None if it has none. Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403 without the right.
    pub async fn ha_resource(&self, vmid: u32) -> Result<Option<HaResource>> {
        // The list, because the text for a missing single one differs between versions.
        let sid = format!("vm:{vmid}");
        Ok(self.ha_resources().await?.into_iter().find(|resource| resource.sid == sid))
    }

    /// Makes a guest an HA resource (`state` and what else the version knows). Right: Sys.Console on `/`.
    ///
    /// # Errors
    /// [`crate::Error::is_already_exists`]; 500 for a guest that does not exist.
    pub async fn create_ha_resource(&self, vmid: u32, params: Params) -> Result<()> {
        let params = Params::new().set("sid", format!("vm:{vmid}")).merge(params);
        self.post("/cluster/ha/resources", params).await.map(|_| ())
    }

    /// Asks for a state: `ignored` keeps the resource and its rules while HA leaves the guest alone; the manager
    /// acts within about 10 s, see [`Client::ha_status`]. Right: Sys.Console on `/`.
    ///
    /// # Errors
    /// 500 for a guest that is no HA resource.
    pub async fn set_ha_state(&self, vmid: u32, state: &str) -> Result<()> {
        self.put(&path(vmid), Params::new().set("state", state)).await.map(|_| ())
    }

    /// Takes a guest out of HA. Right: Sys.Console on `/`. `purge` (PVE 9 only; there it defaults to true) also edits
    /// or removes the rules that name it; None sends nothing.
    ///
    /// # Errors
    /// 500 for a guest that is no HA resource.
    pub async fn delete_ha_resource(&self, vmid: u32, purge: Option<bool>) -> Result<()> {
        self.delete(&path(vmid), Params::new().opt_flag("purge", purge)).await.map(|_| ())
    }

    /// Rules of where resources run (PVE 9; see [`crate::Version::has_ha_rules`]). Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403 without the right; 501 before PVE 9.
    pub async fn ha_rules(&self) -> Result<Vec<HaRule>> {
        self.get("/cluster/ha/rules", Params::new()).await
    }

    /// Names of the groups of nodes (PVE 8). Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403 without the right; 500 where groups have become rules.
    pub async fn ha_groups(&self) -> Result<Vec<String>> {
        let groups: Vec<HaGroup> = self.get("/cluster/ha/groups", Params::new()).await?;
        Ok(groups.into_iter().map(|group| group.group).collect())
    }

    /// Sets which resources a rule names, as `rule` has them. Right: Sys.Console on `/`.
    ///
    /// # Errors
    /// A rule that is gone, or a resource that HA doesn't manage.
    pub async fn set_ha_rule_resources(&self, rule: &HaRule) -> Result<()> {
        let params = Params::new().set("type", &rule.kind).set("resources", rule.resources.join(","));
        self.put(&api_path(["cluster", "ha", "rules", &rule.rule]), params).await.map(|_| ())
    }

    /// What the HA manager is doing. Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// 403 without the right.
    pub async fn ha_status(&self) -> Result<Vec<HaService>> {
        self.get("/cluster/ha/status/current", Params::new()).await
    }
}

//! Machine types: those that a node's QEMU knows, and the refusal of one that is newer (proxmox-ve.md §13 A15).

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::inspect::ClusterHandle;
use crate::state::Cluster;

/// Major and minor number of `9.2`, `9.2+pve1` or `9.2.0`.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(['.', '+']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The version in a machine type: `9.2+pve1` of `pc-q35-9.2+pve1`; none where the newest is meant.
fn version_of(machine: &str) -> Option<&str> {
    let kind = machine.split(',').next()?;
    let kind = kind.strip_prefix("type=").unwrap_or(kind);
    kind.strip_prefix("pc-q35-").or_else(|| kind.strip_prefix("pc-i440fx-"))
}

/// What QEMU's start on a node says of a machine type.
pub(crate) fn check(c: &Cluster, node: &str, machine: Option<&str>) -> Result<(), ApiError> {
    let newest = c.nodes.get(node).map_or("0", |node| node.newest_machine.as_str());
    let Some(version) = machine.and_then(version_of).filter(|version| numbers(version) > numbers(newest)) else {
        return Ok(());
    };
    let kind = if machine.is_some_and(|machine| machine.contains("q35")) { "q35" } else { "i440fx" };
    Err(ApiError::die(format!(
        "Installed QEMU version '{newest}.0' is too old to run machine type 'pc-{kind}-{version}', please upgrade node '{node}'"
    )))
}

/// The machine that a guest of a node runs as: without a version of its own, the newest that the node knows.
pub(crate) fn running(c: &Cluster, node: &str, machine: Option<&str>) -> String {
    let newest = c.nodes.get(node).map_or("0", |node| node.newest_machine.as_str());
    match machine {
        Some(machine) if version_of(machine).is_some() => machine.to_owned(),
        Some(machine) if machine.contains("q35") => format!("pc-q35-{newest}"),
        _ => format!("pc-i440fx-{newest}"),
    }
}

/// `GET …/capabilities/qemu/machines`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let name = call.node();
    let Some(node) = call.c().nodes.get(&name) else { return Err(ApiError::new(595, "No route to host")) };
    let known = ["8.1", "8.2", "9.0", "9.2", "10.0", "10.1", "10.2", "11.0"];
    let known = known.iter().filter(|version| numbers(version) <= numbers(&node.newest_machine));
    let entry =
        |version: &str, kind: &str| json!({ "id": format!("pc-{kind}-{version}"), "type": kind, "version": version });
    let all = known.flat_map(|version| [entry(version, "i440fx"), entry(version, "q35")]);
    Ok(Value::Array(all.collect()).into())
}

impl ClusterHandle {
    /// The newest machine version that a node's QEMU knows: `9.2`.
    pub fn set_newest_machine(&self, node: &str, version: &str) {
        if let Some(node) = self.lock().cluster_mut(&self.name).nodes.get_mut(node) {
            node.newest_machine = version.to_owned();
        }
    }
}

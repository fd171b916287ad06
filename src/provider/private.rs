//! Owns what is stored beside a machine's state, and what a plan leaves for its apply: one small JSON object.
use std::collections::{BTreeMap, BTreeSet};

use protocol::Value;
use serde::{Deserialize, Serialize};

use crate::placing::{Pinned, Ready};
use crate::proposals::Proposal;

/// Private data of a virtual machine. All of it can be made again by a refresh: core drops it when a provider dies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Private {
    /// Imported and not applied since: all its slots are in state, configured or not, and none was ever configured.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) imported: bool,
    /// Clusters on which another guest has its VMID: a move there gives it another one. A fact, so it comes in through
    /// Read (design.md §5).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) vmid_taken: BTreeSet<String>,
    /// Identity of the cluster that it was last seen on: what is gone from another one is not gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// What somebody else changed and nobody can change back in place: path → the value that was applied last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) drift: BTreeMap<String, String>,
    /// What the machine runs with where a change waits for its restart: path → value. A fact, found by Read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) in_force: BTreeMap<String, String>,
    /// How many of its processors are plugged in at the start, where somebody made that fewer than all. A fact, found by Read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plugged_in: Option<u64>,
    /// Keys of Proxmox VE's configuration that a restart is owed for. A fact, found by Read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) restart_due: Vec<String>,
    /// Slots that state knows and that somebody took out of the machine, found by Read: where no slots are configured, nobody wants
    /// them back.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) missing: BTreeSet<String>,
    /// A move that its pool's rules ask for, found by Read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proposal: Option<Proposal>,
    /// Its cluster is declared lost and does not answer, found by Read: what is planned elsewhere is a recovery, and no move. By cluster
    /// the backup that it would be recovered from there: another one is never restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<BTreeMap<String, String>>,
    /// A configured `node` that is not a node of the cluster that the machine is on now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<WrittenFor>,
    /// The decision of this plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pinned: Option<Pinned>,
}

/// A configured `node`, and the cluster that it was written for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenFor {
    /// The node's name.
    pub(crate) node: String,
    /// The cluster.
    pub(crate) cluster: String,
}

impl Private {
    /// Reads it; what can't be read is as if it were not there.
    pub(crate) fn read(bytes: &[u8]) -> Private {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Writes it: nothing where there is nothing to say, and the same bytes for the same content.
    pub(crate) fn write(&self) -> Vec<u8> {
        if *self == Private::default() {
            return Vec::new();
        }
        // Plain fields always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Without what was found of a recovery: its cluster is not lost any more, or not declared so.
    pub(crate) fn not_lost(self) -> Private {
        if self.lost.is_none() { self } else { Private { lost: None, proposal: None, ..self } }
    }

    /// What stays when the plan was carried out.
    pub(crate) fn applied(self) -> Private {
        Private { vmid_taken: self.vmid_taken, identity: self.identity, ..Private::default() }
    }

    /// The same for a machine that was seen on this cluster just now.
    pub(crate) async fn on(self, ready: &Ready, cluster: &str) -> Private {
        let identity = match ready.fleet.site(cluster) {
            Some(site) => site.identity().await,
            None => None,
        };
        Private { identity, ..self }
    }

    /// Notes where `now` differs from what was applied last, `before` being state until now.
    pub(crate) fn note_drift(&mut self, before: &Value, now: &Value) {
        let is = places(now);
        let was = places(before);
        for (path, now) in &is {
            let Some(applied) = self.drift.get(path).or_else(|| was.get(path)).cloned() else { continue };
            if same(&applied, now) {
                self.drift.remove(path);
            } else {
                self.drift.insert(path.clone(), applied);
            }
        }
        self.drift.retain(|path, _| is.contains_key(path));
    }

    /// Whether `configured` at `path` is what was applied last, so that a difference is not the user's doing.
    pub(crate) fn is_drift(&self, path: &str, configured: &Value) -> bool {
        self.drift.get(path).zip(words(configured)).is_some_and(|(applied, configured)| same(applied, &configured))
    }
}

/// Sizes are compared by what they mean, everything else by its text.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a == b || federation::units::same_meaning::<federation::Bytes>(a, b)
}

fn words(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.as_number().map(|number| number.as_str().to_owned()))
}

/// The values that can't be changed in place, or are a cluster's doing, by path.
fn places(state: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut add = |path: String, value: &Value| found.extend(words(value).map(|value| (path, value)));
    add("vmid".to_owned(), state.attr("vmid"));
    for (slot, disk) in state.attr("disks").as_map().into_iter().flatten() {
        add(disk_path(slot, "size"), disk.attr("size"));
    }
    for (slot, nic) in state.attr("network_devices").as_map().into_iter().flatten() {
        for name in ["bridge", "vlan"] {
            add(nic_path(slot, name), nic.attr(name));
        }
    }
    found
}

/// The path of a network device's attribute.
pub(crate) fn nic_path(slot: &str, name: &str) -> String {
    format!("network_devices.{slot}.{name}")
}

/// The path of a disk's attribute.
pub(crate) fn disk_path(slot: &str, name: &str) -> String {
    format!("disks.{slot}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_bytes_and_the_same_content_the_same_bytes() {
        assert_eq!(Private::default().write(), Vec::<u8>::new());
        assert_eq!(Private::read(b""), Private::default());
        assert_eq!(Private::read(b"{broken"), Private::default());
        let full = Private {
            imported: true,
            vmid_taken: BTreeSet::from(["b".into(), "a".into()]),
            identity: Some("AA:BB".into()),
            drift: BTreeMap::from([("vmid".into(), "100".into())]),
            in_force: BTreeMap::from([("memory".into(), "2GiB".into())]),
            plugged_in: Some(2),
            restart_due: vec!["memory".into()],
            missing: BTreeSet::from(["scsi1".into()]),
            proposal: Some(Proposal { pool: "p".into(), from: "a".into(), to: "b".into(), placement: "why".into() }),
            lost: Some(BTreeMap::from([("b".into(), "nfs:backup/x".into())])),
            node: Some(WrittenFor { node: "n1".into(), cluster: "a".into() }),
            pinned: Some(Pinned { key: "k".into(), cluster: "a".into(), placement: "why".into() }),
        };
        assert_eq!(Private::read(&full.write()), full);
        assert_eq!(full.write(), Private::read(&full.write()).write());
        assert_eq!(
            full.applied(),
            Private {
                vmid_taken: BTreeSet::from(["a".into(), "b".into()]),
                identity: Some("AA:BB".into()),
                ..Private::default()
            }
        );
    }

    fn state(size: &str) -> Value {
        Value::object([
            ("vmid", Value::from(100)),
            ("disks", Value::map([("scsi0", Value::object([("size", size), ("storage", "fast")]))])),
        ])
    }

    #[test]
    fn what_changed_behind_our_back_is_told_from_what_the_user_edits() {
        let mut private = Private::default();
        private.note_drift(&state("20GB"), &state("20GiB"));
        assert_eq!(private.write(), Vec::<u8>::new(), "nothing changed, byte for byte");
        private.note_drift(&state("20GB"), &state("30GiB"));
        private.note_drift(&state("30GiB"), &state("40GiB"));
        let path = disk_path("scsi0", "size");
        assert!(private.is_drift(&path, &"20G".into()));
        assert!(!private.is_drift(&path, &"10GB".into()), "the user's own edit");
        assert!(!private.is_drift("vmid", &100.into()));
        let bytes = private.write();
        assert_eq!(Private::read(&bytes), private);
        private.note_drift(&state("40GiB"), &state("20GB"));
        assert_eq!(private, Private::default(), "back to what it was");
    }
}

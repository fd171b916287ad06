//! Owns what is kept beside the state of a cluster: which record it is from, and what the datacenter options were before.
use federation::model::Datacenter;
use operations::{ClusterRecord, ClusterWritten, Revision};
use serde::{Deserialize, Serialize};

/// The private data of a cluster. Empty for one that was imported without a sound record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// The record. Its `id` is the cluster's identity.
    pub(crate) revision: Option<Revision>,
    /// Options that were taken over, for a record that is lost.
    #[serde(skip_serializing_if = "Datacenter::is_empty")]
    pub(crate) datacenter: Datacenter,
}

impl Kept {
    /// Reads private data; none for what can't be read.
    pub(crate) fn read(private: &[u8]) -> Kept {
        serde_json::from_slice(private).unwrap_or_default()
    }

    /// The private data.
    pub(crate) fn write(&self) -> Vec<u8> {
        // Plain fields always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What belongs to a record.
    pub(crate) fn of(record: &ClusterRecord) -> Kept {
        Kept { revision: Some(record.revision.clone()), datacenter: record.datacenter.clone() }
    }

    /// What belongs to a record that was just written.
    pub(crate) fn written(written: &ClusterWritten) -> Kept {
        Kept { revision: Some(written.revision.clone()), datacenter: written.datacenter.clone() }
    }
}

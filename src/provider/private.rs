//! Owns what is stored beside a machine's state, and what a plan leaves for its apply: one small JSON object.
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::placing::Pinned;

/// Private data of a virtual machine. All of it can be made again by a refresh: core drops it when a provider dies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Private {
    /// Imported and not applied since: all its slots are in state, configured or not, and none was ever configured.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) imported: bool,
    /// Clusters on which another guest has its VMID: a move there gives it another one. A fact, so it comes in through
    /// Read (design §5).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) vmid_taken: BTreeSet<String>,
    /// The decision of this plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pinned: Option<Pinned>,
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

    /// What stays when the plan was carried out.
    pub(crate) fn applied(self) -> Private {
        Private { imported: false, pinned: None, ..self }
    }
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
            pinned: Some(Pinned { key: "k".into(), cluster: "a".into(), placement: "why".into() }),
        };
        assert_eq!(Private::read(&full.write()), full);
        assert_eq!(full.write(), Private::read(&full.write()).write());
        assert_eq!(
            full.applied(),
            Private { vmid_taken: BTreeSet::from(["a".into(), "b".into()]), ..Private::default() }
        );
    }
}

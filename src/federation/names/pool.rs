//! Names of resource pools.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NameError, text_newtype};

/// A resource pool's name, which is also its PVE pool id on every member cluster: up to three levels of letters, digits,
/// `-`, `_`, `.` joined by `/`. Proxmox VE makes none today that doesn't begin with a letter (`proxmox-ve.md §10.3`), and older
/// ones are there all the same.
///
/// Names beginning with `moxxie` belong to the federation's own bookkeeping and are refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(String);

text_newtype!(PoolName);

impl PoolName {
    /// The nested pool for retired copies, `<pool>/retired`; `None` where the name already has three levels, the most
    /// PVE allows.
    pub fn retired(&self) -> Option<PoolName> {
        (self.levels() < 3).then(|| PoolName(format!("{}/retired", self.0)))
    }

    /// How many levels the name has, 1 to 3.
    pub fn levels(&self) -> usize {
        self.0.split('/').count()
    }

    /// The pool this one is nested in; PVE wants it to exist first.
    pub fn parent(&self) -> Option<PoolName> {
        self.0.rsplit_once('/').map(|(parent, _)| PoolName(parent.to_owned()))
    }
}

impl FromStr for PoolName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<PoolName, NameError> {
        let error = |why: &str| Err(NameError::new("pool name", text, why));
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let levels: Vec<&str> = text.split('/').collect();
        if levels.len() > 3 {
            return error("Proxmox VE allows at most three levels of pools");
        }
        if levels.iter().any(|level| level.is_empty() || !level.chars().all(fine)) {
            return error("each level is letters, digits, \"-\", \"_\" and \".\", joined by \"/\"");
        }
        if text.len() > 128 {
            return error("it is longer than 128 characters");
        }
        if text.to_ascii_lowercase().starts_with("moxxie") {
            return error("names beginning with \"moxxie\" are reserved for the provider's own pools");
        }
        Ok(PoolName(text.to_owned()))
    }
}

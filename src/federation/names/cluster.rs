//! Names of clusters.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NameError, text_newtype};

/// A cluster's name in the federation, for life: 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or
/// digit. It is ours, not PVE's: the key of the provider's `clusters` map and the `id` of the YAML.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

text_newtype!(ClusterName);

impl FromStr for ClusterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ClusterName, NameError> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty()
            || text.len() > 63
            || !text.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !text.chars().all(fine)
        {
            let why = "1 to 63 letters, digits, \"-\", \"_\" and \".\", beginning with a letter or digit";
            return Err(NameError::new("cluster name", text, why));
        }
        Ok(ClusterName(text.to_owned()))
    }
}

//! Tags of guests and clusters.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NameError, text_newtype};

/// A guest's tag as PVE keeps it: lower case, beginning with a letter, digit or `_`, then also `-`, `+` and `.`; upper
/// case is lowered, as PVE does where tags are not registered as case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

text_newtype!(Tag);

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Tag, NameError> {
        let lower = text.to_ascii_lowercase();
        let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fine = |c: char| first(c) || matches!(c, '-' | '+' | '.');
        if !lower.starts_with(first) || !lower.chars().all(fine) || lower.len() > 124 {
            let why = "a letter, digit or \"_\", then letters, digits, \"_\", \"-\", \"+\" and \".\" (at most 124)";
            return Err(NameError::new("tag", text, why));
        }
        Ok(Tag(lower))
    }
}

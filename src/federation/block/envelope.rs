//! What stands around every enrolled body: id, revision, author, time; and which of several copies counts.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Block, BlockError};

/// An enrolled body with its header. In JSON the header's keys stand beside the body's.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope<T> {
    /// What this is, whatever it is called (for a cluster the fingerprint of its CA).
    pub id: String,
    /// Revision, from 1; the newest counts.
    pub rev: u64,
    /// Who wrote it.
    pub by: String,
    /// When: seconds since 1970 by the cluster's clock.
    pub at: u64,
    /// The facts.
    pub body: T,
}

impl<T: Serialize + DeserializeOwned> Envelope<T> {
    /// The JSON to put into a block.
    ///
    /// # Errors
    /// [`BlockError::Broken`] for a body that is not a JSON object, or that has a key of the header.
    pub fn to_value(&self) -> Result<Value, BlockError> {
        let body = serde_json::to_value(&self.body).map_err(|error| BlockError::broken(error.to_string()))?;
        let Value::Object(mut map) = body else {
            return Err(BlockError::broken("its body is not an object"));
        };
        let header: [(&str, Value); 4] = [
            ("id", self.id.clone().into()),
            ("rev", self.rev.into()),
            ("by", self.by.clone().into()),
            ("at", self.at.into()),
        ];
        for (key, value) in header {
            if map.insert(key.to_owned(), value).is_some() {
                return Err(BlockError::broken(format!("its body has the header's key {key:?}")));
            }
        }
        Ok(Value::Object(map))
    }

    /// Takes a block apart.
    ///
    /// # Errors
    /// [`BlockError::Broken`] when the header or the body is not what it should be.
    pub fn from_block(block: &Block) -> Result<Envelope<T>, BlockError> {
        let Value::Object(map) = &block.value else {
            return Err(BlockError::broken("it is not an object"));
        };
        let mut map: Map<String, Value> = map.clone();
        let mut take = |key: &str| map.remove(key).ok_or_else(|| BlockError::broken(format!("it has no {key:?}")));
        let text = |value: Value, key: &str| match value {
            Value::String(text) => Ok(text),
            _ => Err(BlockError::broken(format!("{key:?} is not a text"))),
        };
        let number = |value: Value, key: &str| {
            value.as_u64().ok_or_else(|| BlockError::broken(format!("{key:?} is not a number")))
        };
        let (id, by) = (text(take("id")?, "id")?, text(take("by")?, "by")?);
        let (rev, at) = (number(take("rev")?, "rev")?, number(take("at")?, "at")?);
        let body = serde_json::from_value(Value::Object(map)).map_err(|error| BlockError::broken(error.to_string()))?;
        Ok(Envelope { id, rev, by, at, body })
    }
}

/// Two copies of one revision differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("revision {rev} on {first} and on {second} differ; write a newer revision to settle which holds")]
pub struct Conflict {
    /// The revision.
    pub rev: u64,
    /// Where one copy is.
    pub first: String,
    /// Where the other is.
    pub second: String,
}

/// Which of several copies (place, revision, checksum) counts: the newest revision. `None` of no copies.
///
/// # Errors
/// [`Conflict`] when two copies of the newest revision have different checksums.
pub fn newest<'c>(copies: &[(&'c str, u64, &str)]) -> Result<Option<&'c str>, Conflict> {
    let Some((place, rev, sum)) = copies.iter().max_by_key(|(place, rev, _)| (*rev, std::cmp::Reverse(*place))) else {
        return Ok(None);
    };
    match copies.iter().find(|(_, other, other_sum)| other == rev && other_sum != sum) {
        Some((second, _, _)) => Err(Conflict { rev: *rev, first: (*place).to_owned(), second: (*second).to_owned() }),
        None => Ok(Some(place)),
    }
}

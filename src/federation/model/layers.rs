//! Putting one layer of facts over another, key by key, and saying where both had a word.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::Federation;
use crate::units::Bytes;

/// A key two layers declare differently. The upper layer's value holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What the key belongs to ("cluster databarn-dr").
    pub object: String,
    /// The key.
    pub key: String,
    /// The value below, which is overruled.
    pub lower: String,
    /// The value above, which holds.
    pub upper: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} is {} here and {} there; the latter holds", self.object, self.key, self.lower, self.upper)
    }
}

impl Federation {
    /// Lays `upper` over `self`: clusters and pools are united, of one both know each declared key of `upper` wins.
    /// Returns the keys both declared differently, in order.
    pub fn overlay(&mut self, upper: &Federation) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (name, over) in &upper.clusters {
            let under = self.clusters.entry(name.clone()).or_default();
            lay(under, over, &format!("cluster {name}"), &mut differences);
        }
        for (name, over) in &upper.pools {
            let under = self.pools.entry(name.clone()).or_default();
            lay(under, over, &format!("pool {name}"), &mut differences);
        }
        differences
    }
}

/// Undeclared keys are left out when a layer is serialised, so "which keys are declared" is what JSON shows.
fn lay<T: Serialize + DeserializeOwned>(under: &mut T, over: &T, object: &str, differences: &mut Vec<Difference>) {
    let mut merged = keys(under);
    for (key, upper) in keys(over) {
        if let Some(lower) = merged.get(&key).filter(|lower| **lower != upper) {
            let (lower, upper) = (Some(lower), Some(&upper));
            differ(&key, lower, upper, &mut |key, lower, upper| {
                differences.push(Difference { object: object.to_owned(), key: key.to_owned(), lower, upper });
            });
        }
        merged.insert(key, upper);
    }
    // Every value came out of a `T` under the same key, so it goes back into one; if it ever did not, `under` stays.
    if let Ok(value) = serde_json::from_value(Value::Object(merged)) {
        *under = value;
    }
}

/// Says where two values differ, inside of objects by their keys (`limits.max_memory`).
fn differ(key: &str, lower: Option<&Value>, upper: Option<&Value>, say: &mut impl FnMut(&str, String, String)) {
    if let (Some(Value::Object(below)), Some(Value::Object(above))) = (lower, upper) {
        let inside: BTreeSet<&String> = below.keys().chain(above.keys()).collect();
        for name in inside.into_iter().filter(|name| below.get(*name) != above.get(*name)) {
            differ(&format!("{key}.{name}"), below.get(name), above.get(name), say);
        }
        return;
    }
    say(key, in_words(key, lower), in_words(key, upper));
}

fn in_words(key: &str, value: Option<&Value>) -> String {
    let size = key.ends_with(".max_memory") || key.ends_with(".max_storage");
    match value {
        None => "not set".to_owned(),
        Some(value) => match value.as_u64().filter(|_| size) {
            Some(bytes) => Bytes(bytes).to_string(),
            None => value.to_string(),
        },
    }
}

fn keys<T: Serialize>(value: &T) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

//! Owns how one configured leaf becomes a planned one: the user's spelling, the prior one where it means the same, or what
//! stands for "not set" (design.md §3, Values).
use std::collections::BTreeMap;

use federation::units::same_meaning;
use federation::{Bandwidth, Bytes, Span};
use operations::Stored;
use protocol::Value;

/// When two spellings mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Same {
    /// Only when they are the same.
    Exactly,
    /// As sizes: `8G` and `8GiB`.
    AsSize,
    /// As lengths of time: `60s` and `1m`.
    AsSpan,
    /// As bandwidths: `1Gbps` and `1000Mbps`.
    AsBandwidth,
    /// As Proxmox VE stores them; elements of a list one by one, those of a set together.
    Stored(Stored),
}

impl Same {
    /// Whether `a` and `b` mean the same.
    pub(crate) fn means(self, a: &Value, b: &Value) -> bool {
        if a == b {
            return true;
        }
        if let Same::Stored(stored) = self
            && let (Some(a), Some(b)) = (a.as_list(), b.as_list())
        {
            return lists(stored, a, b);
        }
        let (Some(a), Some(b)) = (a.as_str(), b.as_str()) else { return false };
        match self {
            Same::Exactly => false,
            Same::AsSize => same_meaning::<Bytes>(a, b),
            Same::AsSpan => same_meaning::<Span>(a, b),
            Same::AsBandwidth => same_meaning::<Bandwidth>(a, b),
            Same::Stored(stored) => stored.same(a, b),
        }
    }
}

fn lists(stored: Stored, a: &[Value], b: &[Value]) -> bool {
    let texts = |list: &[Value]| list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let (Some(a), Some(b)) = (texts(a), texts(b)) else { return false };
    match stored {
        Stored::Tags => stored.same(&a.join(";"), &b.join(";")),
        _ => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| stored.same(a, b)),
    }
}

/// The planned value of one leaf: what is configured, in the prior spelling if that means the same; `unset` where nothing
/// is configured.
pub(crate) fn leaf(config: &Value, prior: &Value, same: Same, unset: impl FnOnce() -> Value) -> Value {
    if config.is_null() {
        return unset();
    }
    if config.is_known() && prior.is_known() && !prior.is_null() && same.means(config, prior) {
        return prior.clone();
    }
    config.clone()
}

/// `prior` where there is one, else `otherwise`.
pub(crate) fn prior_or(prior: &Value, otherwise: impl Into<Value>) -> Value {
    if prior.is_null() { otherwise.into() } else { prior.clone() }
}

/// An object under construction.
#[derive(Debug, Default)]
pub(crate) struct Object(BTreeMap<String, Value>);

impl Object {
    /// Sets an attribute.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Object {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// What an attribute is set to so far.
    pub(crate) fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// The object.
    pub(crate) fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// Reads the text of an attribute, `None` when it is null or unknown.
pub(crate) fn text(value: &Value, name: &str) -> Option<String> {
    value.attr(name).as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prior_spelling_stays_where_it_means_the_same() {
        let plan = |config: &str, prior: &str, same| leaf(&config.into(), &prior.into(), same, || Value::Null);
        assert_eq!(plan("8GB", "8GiB", Same::AsSize), "8GiB".into());
        assert_eq!(plan("9GB", "8GiB", Same::AsSize), "9GB".into());
        assert_eq!(plan("8GB", "8GiB", Same::Exactly), "8GB".into());
        assert_eq!(plan("60s", "1m", Same::AsSpan), "1m".into());
        assert_eq!(plan("aa:bb", "AA:BB", Same::Stored(Stored::Caseless)), "AA:BB".into());
        let tags = Same::Stored(Stored::Tags);
        assert!(tags.means(&Value::set(["Web", "a"]), &Value::set(["a", "web"])));
        assert!(!tags.means(&Value::set(["a"]), &Value::set(["a", "b"])));
    }

    #[test]
    fn what_is_not_configured_is_as_its_rule_says_and_unknown_stays_unknown() {
        assert_eq!(leaf(&Value::Null, &"x".into(), Same::Exactly, || "default".into()), "default".into());
        assert!(leaf(&Value::unknown(), &"x".into(), Same::Exactly, || Value::Null).is_unknown());
        assert_eq!(prior_or(&Value::Null, "new"), "new".into());
        assert_eq!(prior_or(&"old".into(), "new"), "old".into());
    }
}

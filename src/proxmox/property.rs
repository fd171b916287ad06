//! Owns PVE's property strings: `default,key=value,key=value`, in order, with what we do not know kept. What a cluster answers is
//! always read: a part that makes no sense is kept as it is, and a key that stands twice counts as its first.

use std::{convert::Infallible, fmt, str::FromStr};

use crate::de::parse_bool;

/// An ordered list of `key=value`, of which one entry may stand without its key (PVE's default key).
///
/// ```
/// let mut disk: proxmox::PropertyString = "local-lvm:vm-100-disk-0,size=32G,discard=on".parse().unwrap();
/// assert_eq!(disk.default_value(), Some("local-lvm:vm-100-disk-0"));
/// disk.set("size", "40G");
/// assert_eq!(disk.to_string(), "local-lvm:vm-100-disk-0,size=40G,discard=on");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyString(Vec<(Option<String>, String)>);

impl PropertyString {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry without key.
    pub fn default_value(&self) -> Option<&str> {
        self.0.iter().find(|(key, _)| key.is_none()).map(|(_, value)| value.as_str())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k.as_deref() == Some(key)).map(|(_, value)| value.as_str())
    }

    /// The value of a key as a boolean, in any of the spellings PVE accepts.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(parse_bool)
    }

    /// Sets the entry without key; a new one goes first.
    pub fn set_default(&mut self, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(key, _)| key.is_none()) {
            Some(entry) => entry.1 = value,
            None => self.0.insert(0, (None, value)),
        }
    }

    /// Sets a key in its place; a new one goes last.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(k, _)| k.as_deref() == Some(key)) {
            Some(entry) => entry.1 = value,
            None => self.0.push((Some(key.to_owned()), value)),
        }
    }

    /// Removes a key; its value if there was one.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(k, _)| k.as_deref() == Some(key))?;
        Some(self.0.remove(at).1)
    }

    /// Replaces a key and its value in their place, for keys that carry meaning themselves (`virtio=MAC`).
    pub(crate) fn rename(&mut self, old: Option<&str>, new: &str, value: impl Into<String>) {
        let entry = (Some(new.to_owned()), value.into());
        match self.0.iter_mut().find(|(k, _)| k.as_deref() == old) {
            Some(found) => *found = entry,
            None => self.0.insert(0, entry),
        }
    }

    /// All entries in order; the one without key has none.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.0.iter().map(|(key, value)| (key.as_deref(), value.as_str()))
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for PropertyString {
    type Err = Infallible;

    /// Split at commas, each part at its first `=`; empty parts are skipped, a part with an empty key has none.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let entry = |part: &str| match part.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => (Some(key.trim().to_owned()), value.to_owned()),
            _ => (None, part.to_owned()),
        };
        Ok(Self(parts.map(entry).collect()))
    }
}

impl fmt::Display for PropertyString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match key {
                Some(key) => write!(f, "{comma}{key}={value}")?,
                None => write!(f, "{comma}{value}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_may_hold_an_equals_sign() {
        let smbios: PropertyString = "uuid=1-2,manufacturer=UVU=,base64=1".parse().unwrap();
        assert_eq!(smbios.get("manufacturer"), Some("UVU="));
        assert_eq!(smbios.get_bool("base64"), Some(true));
    }

    #[test]
    fn what_makes_no_sense_is_kept_as_it_is() {
        for text in ["a,b", "x=1,x=2", "=1", "a,=,b=", "file"] {
            let read: PropertyString = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        let twice: PropertyString = "x=1,x=2".parse().unwrap();
        assert_eq!(twice.get("x"), Some("1"));
    }

    proptest! {
        #[test]
        fn printing_and_reading_are_inverse(
            default in proptest::option::of("[a-z0-9:._/-]{1,20}"),
            keys in proptest::collection::btree_set("[a-z][a-z0-9_-]{0,10}", 0..8),
            values in proptest::collection::vec("[A-Za-z0-9:;+/=._-]{0,20}", 8),
        ) {
            let mut built = PropertyString::new();
            for (key, value) in keys.iter().zip(&values) {
                built.set(key, value);
            }
            if let Some(default) = default {
                built.set_default(default);
            }
            let text = built.to_string();
            prop_assert_eq!(text.parse::<PropertyString>(), Ok(built));
        }

        #[test]
        fn any_text_is_read_and_kept(text in ".{0,60}") {
            let read: PropertyString = text.parse().unwrap();
            prop_assert_eq!(read.to_string().parse::<PropertyString>(), Ok(read));
        }
    }
}

//! Owns what Proxmox VE makes of a text before it stores it (`proxmox-ve.md` §2.3, §4, §16, §18): two texts that come to the same
//! there are no difference.

use std::collections::{BTreeMap, BTreeSet};

use crate::{PropertyString, de::parse_bool, parse_size, split_tags};

/// How Proxmox VE stores a kind of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Notes: white space at the end is dropped.
    Notes,
    /// Tags: each once, in any order, in lower case unless the datacenter's `tag-style` says otherwise.
    Tags,
    /// A word, or a line: white space around it is dropped.
    Trimmed,
    /// A list of words: separated by blanks, commas or semicolons.
    Words,
    /// A text whose case means nothing: a MAC address.
    Caseless,
    /// A size: `1G` and `1024M`.
    Size,
    /// A property string: `type=q35,viommu=intel` and `q35,viommu=intel`, a boolean in any spelling.
    Properties(
        /// The key that may stand without its name.
        &'static str,
    ),
}

impl Stored {
    /// Whether Proxmox VE makes the same of both.
    pub fn same(self, a: &str, b: &str) -> bool {
        if a == b {
            return true;
        }
        match self {
            Stored::Notes => a.trim_end() == b.trim_end(),
            Stored::Tags => tags(a) == tags(b),
            Stored::Trimmed => a.trim() == b.trim(),
            Stored::Words => words(a) == words(b),
            Stored::Caseless => a.eq_ignore_ascii_case(b),
            Stored::Size => matches!((parse_size(a), parse_size(b)), (Some(a), Some(b)) if a == b),
            Stored::Properties(default) => properties(a, default) == properties(b, default),
        }
    }
}

fn tags(text: &str) -> BTreeSet<String> {
    split_tags(text).into_iter().map(|tag| tag.to_lowercase()).collect()
}

/// The words of a list as Proxmox VE separates them.
pub fn words(text: &str) -> Vec<String> {
    split_tags(text)
}

fn properties(text: &str, default: &str) -> BTreeMap<String, String> {
    let read: PropertyString = text.parse().unwrap_or_default();
    let plain = |value: &str| parse_bool(value).map_or_else(|| value.to_owned(), |flag| u8::from(flag).to_string());
    read.iter().map(|(key, value)| (key.unwrap_or(default).to_owned(), plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proxmox_ve_makes_the_same_of_is_the_same() {
        let machine = Stored::Properties("type");
        let same = [
            (Stored::Notes, "line\n\n", "line"),
            (Stored::Tags, "Web;a", "a, web web"),
            (Stored::Trimmed, " 1.1.1.1\n", "1.1.1.1"),
            (Stored::Words, "1.1.1.1,8.8.8.8", "1.1.1.1 8.8.8.8"),
            (Stored::Caseless, "bc:24", "BC:24"),
            (Stored::Size, "1G", "1024M"),
            (Stored::Size, "41943552", "41943552"),
            (machine, "type=q35,enable-s3=yes", "enable-s3=1,q35"),
        ];
        for (how, a, b) in same {
            assert!(how.same(a, b), "{how:?}: {a:?} {b:?}");
        }
        let other = [
            (Stored::Notes, " line", "line"),
            (Stored::Notes, "a\nb", "a b"),
            (Stored::Tags, "a", "a;b"),
            (Stored::Words, "1.1.1.1 8.8.8.8", "8.8.8.8 1.1.1.1"),
            (Stored::Size, "1G", "1M"),
            (Stored::Size, "x", "y"),
            (machine, "q35", "pc"),
        ];
        for (how, a, b) in other {
            assert!(!how.same(a, b), "{how:?}: {a:?} {b:?}");
        }
    }
}

//! Names that stand for things: clusters, pools, VMs, tags, device slots.
//!
//! Each is a newtype made only through its checks, so that a name in the hands of a function is a name PVE will take.

mod cluster;
mod pool;
mod slot;
mod tag;
mod vm;

pub use cluster::ClusterName;
pub use pool::PoolName;
pub use slot::{Slot, SlotKind};
pub use tag::Tag;
pub use vm::{Family, VmName};

/// A text that is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is not a {what}: {why}")]
pub struct NameError {
    /// The kind of name that was expected ("cluster name", "pool name", …).
    pub what: &'static str,
    /// The text as written, shortened to 64 characters.
    pub got: String,
    /// What is wrong with it, and what is accepted.
    pub why: String,
}

impl NameError {
    fn new(what: &'static str, got: &str, why: impl Into<String>) -> NameError {
        NameError { what, got: got.chars().take(64).collect(), why: why.into() }
    }
}

/// What in a text would end it where Proxmox VE reads it as a part of a longer line: `also`, white space and control characters. A
/// bridge `vmbr0,tag=5` is no bridge.
pub fn ends_early(text: &str, also: &[char]) -> Option<char> {
    text.chars().find(|c| also.contains(c) || c.is_whitespace() || c.is_control())
}

/// What ends a value inside a property string of Proxmox VE.
pub const VALUE_ENDS: &[char] = &[',', ';', '='];
/// What ends a storage in `STORAGE:SIZE,…`.
pub const STORAGE_ENDS: &[char] = &[',', ';', '=', ':'];

/// What every text newtype of this module can do: parse, print, lend its text, travel as a JSON string.
macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Checks and takes a name.
            ///
            /// # Errors
            /// What the type's rules refuse, with the rule.
            pub fn new(text: impl AsRef<str>) -> Result<$name, $crate::names::NameError> {
                text.as_ref().parse()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::names::NameError;

            fn try_from(text: String) -> Result<$name, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}
use text_newtype;

#[cfg(test)]
mod tests;

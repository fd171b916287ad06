//! Where inside an object something is.

use std::fmt;

/// One step from an object towards a leaf.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Into an attribute of an object.
    Attribute(String),
    /// Into the element of a map.
    Key(String),
    /// Into the element of a list or tuple, counted from 0.
    Index(i64),
}

/// A path from the root of a resource, data source or provider configuration to one of its parts.
///
/// Shown as Terraform writes it: `disks["scsi0"].size`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributePath {
    /// From the root inwards; empty is the root itself.
    pub steps: Vec<Step>,
}

impl AttributePath {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path that starts at a top-level attribute.
    pub fn new(attribute: impl Into<String>) -> Self {
        Self::root().attribute(attribute)
    }

    /// This path, one attribute further in.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>) -> Self {
        self.steps.push(Step::Attribute(name.into()));
        self
    }

    /// This path, one map element further in.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.steps.push(Step::Key(key.into()));
        self
    }

    /// This path, one list element further in.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.steps.push(Step::Index(i64::try_from(index).unwrap_or(i64::MAX)));
        self
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether `self` is `prefix` or lies inside it.
    pub fn starts_with(&self, prefix: &AttributePath) -> bool {
        self.steps.starts_with(&prefix.steps)
    }
}

impl From<&str> for AttributePath {
    /// A top-level attribute.
    fn from(attribute: &str) -> Self {
        Self::new(attribute)
    }
}

impl fmt::Display for AttributePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return f.write_str("(root)");
        }
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Attribute(name) if i == 0 => f.write_str(name)?,
                Step::Attribute(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_terraform_writes_it() {
        let path = AttributePath::new("disks").key("scsi0").attribute("tags").index(2);
        assert_eq!(path.to_string(), r#"disks["scsi0"].tags[2]"#);
        assert!(path.starts_with(&AttributePath::new("disks").key("scsi0")));
        assert!(!path.starts_with(&AttributePath::new("disks").key("scsi1")));
    }
}

//! The federation file: the guide's YAML, read into facts, pools and connections.
//!
//! The guide's keys are all accepted, in both spellings its tools used for five of them; keys the guide lacks stand beside
//! them in the same style (`country`, `coordinates`, `pricing`, `storage_classes`, `networks`, `vmid_range`, `cordoned`,
//! `draining`, `overcommit`, `reserve`, `capacity` of a cluster; `link_encrypted`, `transport`, `wan`, `window`,
//! `max_concurrent` of a path; `endpoints`, `api_token_env`, `fingerprints`, `ca_file` of a connection;
//! `automatic_moves`, `max_moves_per_apply` of a pool). Keys beginning `x-` are ignored everywhere, for anchors and notes.
//!
//! Every problem of a file is reported at once, each with line, column, dotted path and what is accepted. The text is
//! passed in; nobody here opens a file or reads an environment variable.

mod cluster;
mod consistency;
mod derive;
mod load;
mod tree;
mod walk;

use std::collections::BTreeMap;
use std::fmt;

pub use load::load;
pub use tree::read;
pub use walk::nearest;

use crate::model::{Federation, Method};
use crate::names::ClusterName;
use crate::units::Span;

/// Largest file that is read, in bytes: some thousand clusters.
pub const LARGEST_FILE: usize = 4 << 20;

/// How to reach one cluster, as far as the file says. Holds names of secrets, never secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileConnection {
    /// Base address from the guide's `api_url`, without path (`https://host:8006`).
    pub api_url: Option<String>,
    /// All base addresses, to be tried in turn: `api_url`, then our `endpoints`; at least one.
    pub endpoints: Vec<String>,
    /// `user@realm`, for a login with a password.
    pub username: Option<String>,
    /// Name of the environment variable that holds the password.
    pub password_env: Option<String>,
    /// Name of the environment variable that holds an API token.
    pub api_token_env: Option<String>,
    /// SHA-256 fingerprints of certificates that are accepted.
    pub fingerprints: Vec<String>,
    /// Path of a PEM file of accepted authorities.
    pub ca_file: Option<String>,
    /// Whether certificates are checked.
    pub verify_ssl: Option<bool>,
    /// How long a connection may take to come about.
    pub connection_timeout: Option<Span>,
}

/// What the file says of all migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPolicies {
    /// The method of paths that name none (default `backup-restore`).
    pub default_method: Method,
    /// Names of the checks before a migration; every one is known.
    pub pre_migration_checks: Vec<String>,
}

impl Default for MigrationPolicies {
    fn default() -> MigrationPolicies {
        MigrationPolicies { default_method: Method::BackupRestore, pre_migration_checks: Vec::new() }
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// Clusters with their facts and paths, and pools.
    pub federation: Federation,
    /// Connections of clusters that have one.
    pub connections: BTreeMap<ClusterName, FileConnection>,
    /// What holds for all migrations.
    pub migration: MigrationPolicies,
    /// The cluster the file calls primary.
    pub primary_cluster: Option<ClusterName>,
    /// Keys that were read and checked, but that nothing acts on ("federation.sync_interval"), in order of appearance.
    pub not_acted_on: Vec<String>,
    /// What is odd but not wrong, and what was derived.
    pub warnings: Vec<String>,
    /// SHA-256 of the text in hexadecimal, recorded with decisions.
    pub sha256: String,
}

/// Everything that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in order of appearance; at least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Line, from 1; 0 when it concerns the file as a whole.
    pub line: u64,
    /// Column, from 1; 0 when it concerns the file as a whole.
    pub column: u64,
    /// Dotted path of the key ("clusters[0].tier"), empty at the top.
    pub path: String,
    /// What is wrong, and what is accepted.
    pub message: String,
}

impl std::error::Error for ConfigError {}

impl IntoIterator for ConfigError {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.problems.into_iter()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests;

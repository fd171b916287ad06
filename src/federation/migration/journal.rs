//! The operation's journal: what is written on the clusters before each call, so that the next process can go on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::digest::canonical_json;
use crate::names::ClusterName;

/// Largest journal, in bytes: what a pool's comment safely holds.
pub const JOURNAL_LIMIT: usize = 8 * 1024;

/// The journal of one move: the comment of pool `moxxie-moves/move-<uuid>` on both clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The operation's id.
    pub op: String,
    /// Where the VM comes from.
    pub from: Place,
    /// Where it goes.
    pub to: Place,
    /// The step that was begun last; written before its first call.
    pub step: Step,
    /// Which way it goes.
    #[serde(default, skip_serializing_if = "Direction::is_forward")]
    pub direction: Direction,
    /// Optional steps that are part of this operation.
    #[serde(default, rename = "with", skip_serializing_if = "BTreeSet::is_empty")]
    pub optional: BTreeSet<Step>,
    /// How often the operation changed hands, from 1.
    pub epoch: u32,
    /// Who carries it out.
    pub holder: Holder,
    /// When this was written: seconds since 1970 by the cluster's clock.
    pub at: u64,
    /// The final archive's volume id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// The task that carries the step out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upid: Option<String>,
    /// Volumes our restore task logged: the only ones an undo may free.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// What taking back needs to know.
    #[serde(default)]
    pub undo: UndoFacts,
}

/// One end of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The cluster.
    pub cluster: ClusterName,
    /// The node; empty while it is not decided.
    pub node: String,
    /// The VM id.
    pub vmid: u32,
}

/// The process that carries an operation out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its machine's id.
    pub machine: String,
    /// Its machine's boot id.
    pub boot: String,
    /// Its process id.
    pub pid: u32,
    /// Its start time, as its machine counts.
    pub start: u64,
    /// Its run, for people (a CI job).
    pub run: String,
}

/// The source as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UndoFacts {
    /// Whether it started at boot.
    pub onboot: bool,
    /// Whether it was protected.
    pub protection: bool,
    /// Its HA state, if it was under HA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ha: Option<String>,
    /// Whether it ran.
    pub running: bool,
    /// Digest of its configuration as we left it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Which way an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the target.
    #[default]
    Forward,
    /// Back, step by step.
    Back,
}

impl Direction {
    fn is_forward(&self) -> bool {
        *self == Direction::Forward
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The VM is on the target.
    Moved,
    /// Everything is as before.
    TakenBack,
    /// The target was unhealthy; it is kept, fenced, and the source is the VM again.
    Returned,
}

/// A text that is not a journal, or a journal that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It does not parse.
    #[error("the operation's journal cannot be read: {0}")]
    Broken(String),
    /// It is too large.
    #[error("the operation's journal would have {bytes} bytes, more than the {most} a pool's comment holds")]
    TooBig {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// It contradicts itself.
    #[error("the operation's journal is impossible: {0}")]
    Impossible(String),
}

impl Journal {
    /// The comment to write.
    ///
    /// # Errors
    /// [`JournalError::TooBig`] above [`JOURNAL_LIMIT`].
    pub fn to_comment(&self) -> Result<String, JournalError> {
        let text = canonical_json(self).map_err(|error| JournalError::Broken(error.to_string()))?;
        match text.len() {
            bytes if bytes > JOURNAL_LIMIT => Err(JournalError::TooBig { bytes, most: JOURNAL_LIMIT }),
            _ => Ok(text),
        }
    }

    /// Reads a comment. Keys of later versions are ignored, so that an older process can still name the holder.
    ///
    /// # Errors
    /// [`JournalError::Broken`] for what is not a journal, [`JournalError::Impossible`] for one that goes back after "live".
    pub fn from_comment(text: &str) -> Result<Journal, JournalError> {
        let journal: Journal =
            serde_json::from_str(text.trim()).map_err(|error| JournalError::Broken(error.to_string()))?;
        if journal.direction == Direction::Back && journal.is_live() {
            return Err(JournalError::Impossible(format!("it goes back at {}, after \"live\"", journal.step)));
        }
        Ok(journal)
    }

    /// Whether the target is the VM now: "live" was recorded.
    pub fn is_live(&self) -> bool {
        self.step.is_live()
    }
}

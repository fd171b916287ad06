//! Owns what can go wrong with a call, and what a caller may conclude from it.

use std::{collections::BTreeMap, fmt};

use crate::{TlsFailure, Upid, error_text as text};

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Texts never contain a credential.
///
/// The predicates answer for answers of the API and for failed tasks alike: PVE says the same things in both
/// (`proxmox-ve.md` §5.2).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// PVE answered, with a status of 400 or more.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No endpoint could be connected to: the call was certainly not executed.
    #[error("{call}: no endpoint could be reached: {}", join(.attempts))]
    Unreachable {
        /// The call.
        call: Box<Call>,
        /// What happened at each endpoint, in the order tried.
        attempts: Vec<Attempt>,
    },
    /// The call was sent and its answer did not arrive: timeout, reset, or cut off.
    #[error("{call}: the answer was lost: {cause}")]
    Lost {
        /// The call.
        call: Box<Call>,
        /// What happened.
        cause: String,
        /// Whether it was our own `request_timeout` that ended the wait.
        timeout: bool,
    },
    /// An answer came that is not what this call returns.
    #[error("{call}: unexpected answer: {detail}")]
    Unexpected {
        /// The call.
        call: Box<Call>,
        /// What is wrong with it.
        detail: String,
    },
    /// The call succeeded without starting the task it was meant to start: `vzdump` answers `OK` when the guest is
    /// not on that node (`proxmox-ve.md` §13 C1).
    #[error("{call}: no task was started (answer: {answer}); is the guest still on this node?")]
    NoTask {
        /// The call.
        call: Box<Call>,
        /// What was answered in place of a UPID.
        answer: String,
    },
    /// A task ended, not in success.
    #[error("{0}")]
    TaskFailed(Box<TaskFailure>),
    /// A task did not end before our deadline; it goes on.
    #[error("cluster {cluster}: task {upid} has not ended within {waited_secs} s; it goes on")]
    TaskTimeout {
        /// The cluster's name.
        cluster: String,
        /// The task.
        upid: Box<Upid>,
        /// How long we waited, in seconds.
        waited_secs: u64,
    },
    /// The connection's configuration cannot work.
    #[error("cluster {cluster}: {detail}")]
    Config {
        /// The cluster's name.
        cluster: String,
        /// What is wrong.
        detail: String,
    },
}

/// Which call an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The cluster's name.
    pub cluster: String,
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: String,
    /// The path below `/api2/json`, percent-encoded, without query.
    pub path: String,
    /// The endpoint that was used last, empty before the first.
    pub endpoint: String,
}

impl Call {
    /// Whether the call could have changed something.
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}: {} {}", self.cluster, self.method, self.path)
    }
}

/// One endpoint that could not be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The endpoint's base URL.
    pub endpoint: String,
    /// What happened.
    pub cause: String,
    /// The refused certificate, if that was it.
    pub tls: Option<TlsFailure>,
}

fn join(attempts: &[Attempt]) -> String {
    let all: Vec<String> = attempts.iter().map(|a| format!("{}: {}", a.endpoint, a.cause)).collect();
    all.join("; ")
}

/// An answer with a status of 400 or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The call.
    pub call: Call,
    /// The HTTP status. There is no 404 in PVE; 595 and above say that the entry node could not ask the target node.
    pub status: u16,
    /// PVE's message: the JSON `message`, else the text of the status line.
    pub message: String,
    /// Per-parameter messages of a 400.
    pub errors: BTreeMap<String, String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.call, self.status, text::brief(&self.message))?;
        for (i, (param, why)) in self.errors.iter().enumerate() {
            write!(f, "{}{param}: {why}", if i == 0 { " (" } else { "; " })?;
        }
        if self.errors.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// A task that ended, not in success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFailure {
    /// The cluster's name.
    pub cluster: String,
    /// The task.
    pub upid: Upid,
    /// PVE's exit status; `unexpected status` means it was killed or its node went down.
    pub exitstatus: String,
    /// The last lines of its log; empty if they could not be read.
    pub log: Vec<String>,
}

impl TaskFailure {
    /// The reason in words: the exit status, or for a backup's `job errors` the log line that says why
    /// (`proxmox-ve.md` §6).
    pub fn reason(&self) -> &str {
        if self.exitstatus != "job errors" {
            return &self.exitstatus;
        }
        let errors = || self.log.iter().filter_map(|line| line.strip_prefix("ERROR: "));
        // The line of a guest says why; others come before and after it.
        errors().find(|line| line.starts_with("Backup of VM ")).or_else(|| errors().next()).unwrap_or(&self.exitstatus)
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cluster {}: task {} on node {} failed: {}",
            self.cluster,
            self.upid.kind,
            self.upid.node,
            text::brief(&self.exitstatus)
        )?;
        if self.reason() != self.exitstatus {
            write!(f, ": {}", text::brief(self.reason()))?;
        }
        write!(f, " ({})", self.upid)
    }
}

/// A refused permission, as far as PVE says which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionDenied {
    /// The ACL path, for example `/vms/100`. None for the bare text of a create without VM.Allocate.
    pub path: Option<String>,
    /// The privileges of which one is needed.
    pub privileges: Vec<String>,
    /// What PVE said instead of path and privilege, for example `pool 'x' does not exist`.
    pub detail: Option<String>,
}

/// Something PVE says does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A guest on the node asked (it may be on another): the name of its configuration file.
    Guest(String),
    /// A pool.
    Pool(String),
    /// A storage.
    Storage(String),
    /// A volume or archive.
    Volume(String),
    /// A node.
    Node(String),
    /// A task.
    Task,
}

impl Error {
    pub(crate) fn config(cluster: &str, detail: impl Into<String>) -> Self {
        Self::Config { cluster: cluster.to_owned(), detail: detail.into() }
    }

    pub(crate) fn unexpected(call: Call, detail: impl Into<String>) -> Self {
        Self::Unexpected { call: Box::new(call), detail: detail.into() }
    }

    /// The call, if the error is about one.
    pub fn call(&self) -> Option<&Call> {
        match self {
            Self::Refused(refusal) => Some(&refusal.call),
            Self::Unreachable { call, .. }
            | Self::Lost { call, .. }
            | Self::Unexpected { call, .. }
            | Self::NoTask { call, .. } => Some(call),
            Self::TaskFailed(_) | Self::TaskTimeout { .. } | Self::Config { .. } => None,
        }
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        match self {
            Self::TaskFailed(failure) => &failure.cluster,
            Self::TaskTimeout { cluster, .. } | Self::Config { cluster, .. } => cluster,
            other => other.call().map_or("", |call| &call.cluster),
        }
    }

    /// The HTTP status, if PVE answered with one of 400 or more.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// What PVE said: the message of an answer or the reason of a failed task.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.message),
            Self::TaskFailed(failure) => Some(failure.reason()),
            _ => None,
        }
    }

    /// The per-parameter messages of a 400.
    pub fn param_errors(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Refused(refusal) if !refusal.errors.is_empty() => Some(&refusal.errors),
            _ => None,
        }
    }

    /// The message and all per-parameter messages.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let errors = self.param_errors().into_iter().flat_map(|errors| errors.values().map(String::as_str));
        self.message().into_iter().chain(errors)
    }

    fn says(&self, test: impl Fn(&str) -> bool) -> bool {
        self.texts().any(test)
    }

    /// The guest does not exist on the node asked: `Configuration file '…' does not exist` with 500. It may be on
    /// another node; ask `/cluster/resources` before concluding that it is gone (`proxmox-ve.md` §12).
    pub fn is_not_found(&self) -> bool {
        matches!(self.missing(), Some(Missing::Guest(_)))
    }

    /// What PVE says does not exist, if that is the error.
    pub fn missing(&self) -> Option<Missing> {
        if self.status().is_some_and(|status| status == 401 || status > 594) {
            return None;
        }
        self.texts().find_map(text::missing)
    }

    /// A right is missing (403, or a task that says so).
    pub fn is_permission_denied(&self) -> bool {
        self.permission_denied().is_some()
    }

    /// Which right is missing, as far as PVE says.
    pub fn permission_denied(&self) -> Option<PermissionDenied> {
        let parsed = self.texts().find_map(text::permission_denied);
        parsed.or_else(|| (self.status() == Some(403)).then(PermissionDenied::default))
    }

    /// Only `root@pam` with a ticket may do this; no privilege given to a token helps (`proxmox-ve.md` §1.2).
    pub fn is_root_only(&self) -> bool {
        self.says(text::is_root_only)
    }

    /// We are not who we say, or not any more (401). Each try costs 3 s: never repeat it in a loop.
    pub fn is_auth(&self) -> bool {
        self.status() == Some(401)
    }

    /// The guest is locked, or another operation holds its file.
    pub fn is_locked(&self) -> bool {
        self.lock().is_some() || self.says(|t| t.contains("can't lock file '"))
    }

    /// Another operation held the guest's file for longer than Proxmox VE waits (10 s): nothing was done, and trying again is safe.
    pub fn is_held(&self) -> bool {
        self.says(|t| t.contains("can't lock file '") && t.contains("got timeout"))
    }

    /// The lock a guest carries, for example `backup`. A token cannot remove it.
    pub fn lock(&self) -> Option<&str> {
        self.texts().find_map(text::lock)
    }

    /// The guest, pool, token or HA resource exists already.
    pub fn is_already_exists(&self) -> bool {
        self.says(text::is_already_exists)
    }

    /// The object changed since its digest was read.
    pub fn is_digest_mismatch(&self) -> bool {
        self.says(|t| t.contains("checksum mismatch (file change") || t.starts_with("detected modified configuration"))
    }

    /// The cluster or node could not be asked: no connection, a refused certificate, a lost answer, or 595–599 from
    /// the entry node ([`Error::status`] tells these apart). For a write, see [`Error::is_ambiguous`] first.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            _ => self.status().is_some_and(|status| (595..=599).contains(&status)),
        }
    }

    /// A write that may have been executed although no good answer came: look at the task list and at the object
    /// before repeating it (`proxmox-ve.md` §2.2, §12).
    pub fn is_ambiguous(&self) -> bool {
        if !self.call().is_some_and(Call::is_write) {
            return false;
        }
        match self {
            Self::Lost { .. } | Self::Unexpected { .. } => true,
            _ => self.status().is_some_and(|status| (595..=599).contains(&status)),
        }
    }

    /// The cluster has no quorum, so nothing can be written (`proxmox-ve.md` §10.5).
    pub fn is_no_quorum(&self) -> bool {
        self.says(text::is_no_quorum)
    }

    /// PVE refused a parameter (400).
    pub fn is_param_invalid(&self) -> bool {
        self.status() == Some(400)
    }

    /// The certificate that was refused, if that is why an endpoint was not reached.
    pub fn tls_failure(&self) -> Option<&TlsFailure> {
        match self {
            Self::Unreachable { attempts, .. } => attempts.iter().find_map(|attempt| attempt.tls.as_ref()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failed_backup_is_the_line_of_its_guest() {
        let upid: Upid = "UPID:pve1:0000A1B2:0012D687:6957A5A5:vzdump:100:app@pve!ci:".parse().expect("a UPID");
        let failed = |exitstatus: &str, log: &[&str]| TaskFailure {
            cluster: "a".into(),
            upid: upid.clone(),
            exitstatus: exitstatus.into(),
            log: log.iter().map(|line| (*line).to_owned()).collect(),
        };
        let log =
            ["ERROR: vma_queue_write: write error", "INFO: aborting", "ERROR: Backup of VM 100 failed - no space"];
        let failure = failed("job errors", &log);
        assert_eq!(failure.reason(), "Backup of VM 100 failed - no space");
        assert!(
            failure.to_string().contains("failed: job errors: Backup of VM 100 failed - no space (UPID:"),
            "{failure}"
        );
        assert_eq!(failed("job errors", &log[..2]).reason(), "vma_queue_write: write error");
        assert_eq!(failed("job errors", &[]).reason(), "job errors");
        assert_eq!(failed("interrupted by signal", &log).reason(), "interrupted by signal");
    }
}

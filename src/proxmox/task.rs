//! Owns what a task is: its identifier, its state, its log, and the progress its log tells.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer};

use crate::de;

/// A task's identifier, `UPID:NODE:PID:PSTART:STARTTIME:TYPE:ID:USER:` with its trailing colon (`proxmox-ve.md` §3).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Upid {
    text: String,
    /// The node it runs on.
    pub node: String,
    /// Its process there.
    pub pid: u32,
    /// When it started, in seconds since 1970 by the node's clock.
    pub starttime: i64,
    /// Its type, for example `qmrestore`.
    pub kind: String,
    /// What it works on, mostly a vmid; may be empty.
    pub id: String,
    /// Whose it is: `user@realm` or `user@realm!token`.
    pub user: String,
}

/// A text that is not a UPID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a task's UPID")]
pub struct InvalidUpid(String);

impl Upid {
    /// The text, as PVE gave it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The guest it works on, if its id is a vmid.
    pub fn vmid(&self) -> Option<u32> {
        self.id.parse().ok()
    }
}

impl FromStr for Upid {
    type Err = InvalidUpid;

    fn from_str(text: &str) -> Result<Self, InvalidUpid> {
        let invalid = || InvalidUpid(text.to_owned());
        let parts: Vec<&str> = text.split(':').collect();
        let &["UPID", node, pid, pstart, starttime, kind, id, user, ""] = parts.as_slice() else {
            return Err(invalid());
        };
        let hex = |field: &str, widths: std::ops::RangeInclusive<usize>| {
            let sound = widths.contains(&field.len()) && field.bytes().all(|b| b.is_ascii_hexdigit());
            sound.then(|| u64::from_str_radix(field, 16).ok()).flatten().ok_or_else(invalid)
        };
        let word = |field: &str| !field.contains(|c: char| c.is_whitespace() || c == '/');
        let sound_node = node.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !node.is_empty()
            && !node.starts_with('-')
            && !node.ends_with('-');
        if !sound_node || kind.is_empty() || user.is_empty() || ![kind, id, user].into_iter().all(word) {
            return Err(invalid());
        }
        hex(pstart, 8..=9)?;
        Ok(Self {
            text: text.to_owned(),
            node: node.to_owned(),
            pid: u32::try_from(hex(pid, 8..=8)?).map_err(|_| invalid())?,
            starttime: i64::try_from(hex(starttime, 8..=8)?).map_err(|_| invalid())?,
            kind: kind.to_owned(),
            id: id.to_owned(),
            user: user.to_owned(),
        })
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Upid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TaskStatus {
    /// The task.
    pub upid: Upid,
    /// `running` or `stopped`.
    pub status: String,
    /// How it ended, once stopped: `OK`, `WARNINGS: n`, or the error's text.
    #[serde(default, deserialize_with = "de::opt_text")]
    pub exitstatus: Option<String>,
}

impl TaskStatus {
    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.status != "stopped"
    }

    /// Whether it ended in success, with warnings or without.
    pub fn is_success(&self) -> bool {
        !self.is_running() && self.exitstatus.as_deref().and_then(success).is_some()
    }
}

/// The number of warnings of a successful exit status; None if it is not a success.
pub(crate) fn success(exitstatus: &str) -> Option<u32> {
    if exitstatus == "OK" { Some(0) } else { exitstatus.strip_prefix("WARNINGS: ")?.parse().ok() }
}

/// An entry of a node's task list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TaskInfo {
    /// The task.
    pub upid: Upid,
    /// When it ended, in seconds since 1970 by the node's clock; None while it runs.
    #[serde(default, deserialize_with = "de::opt_u64")]
    pub endtime: Option<u64>,
    /// How it ended; None (or `RUNNING`) while it runs.
    #[serde(default, deserialize_with = "de::opt_text")]
    pub status: Option<String>,
}

impl TaskInfo {
    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.endtime.is_none()
    }

    /// Whether it ended in success.
    pub fn is_success(&self) -> bool {
        !self.is_running() && self.status.as_deref().and_then(success).is_some()
    }
}

/// Where to look for tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskSource {
    /// Those that run.
    Active,
    /// Those that ended.
    Archive,
    /// Both.
    #[default]
    All,
}

impl TaskSource {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Archive => "archive",
            Self::All => "all",
        }
    }
}

/// A line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    /// Its number, from 1.
    #[serde(deserialize_with = "de::u64")]
    pub n: u64,
    /// Its text.
    #[serde(deserialize_with = "de::text")]
    pub t: String,
}

/// Some lines of a task's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskLog {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// How many lines the log has by now.
    pub total: u64,
}

impl TaskLog {
    /// From an answer; an empty log is told by one line saying `no content`.
    pub(crate) fn new(mut lines: Vec<LogLine>, total: Option<u64>) -> Self {
        if matches!(lines.as_slice(), [only] if only.t == "no content") {
            lines.clear();
        }
        let seen = lines.last().map_or(0, |line| line.n);
        Self {
            total: if lines.is_empty() { total.unwrap_or(0).saturating_sub(1) } else { total.unwrap_or(seen) },
            lines,
        }
    }
}

/// The percentage a log line tells: vzdump's `INFO:  34% (…`, qmrestore's `progress 34% (…`, and the
/// `transferred … (34.5%)` of disk copies.
pub fn progress_percent(line: &str) -> Option<u8> {
    let number = if let Some(rest) = line.strip_prefix("INFO:") {
        rest.trim_start().split_once("% (")?.0
    } else if let Some(rest) = line.strip_prefix("progress ") {
        rest.split_once('%')?.0
    } else if line.contains("transferred ") {
        line.rsplit_once('(')?.1.split_once('%')?.0
    } else {
        return None;
    };
    let whole = number.split('.').next()?;
    let digits = !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| whole.parse::<u8>().ok()).flatten().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "UPID:pve1:0000A1B2:0012D687:6957A5A5:qmrestore:101:app@pve!ci:";

    #[test]
    fn a_upid_is_taken_apart() {
        let upid: Upid = TEXT.parse().unwrap();
        assert_eq!((upid.node.as_str(), upid.pid, upid.starttime), ("pve1", 0xA1B2, 0x6957_A5A5));
        assert_eq!((upid.kind.as_str(), upid.vmid(), upid.user.as_str()), ("qmrestore", Some(101), "app@pve!ci"));
        assert_eq!(upid.to_string(), TEXT);
        let without_id: Upid = "UPID:n:0000A1B2:00012D687:6957A5A5:vzdump::root@pam:".parse().unwrap();
        assert_eq!(without_id.vmid(), None);
    }

    #[test]
    fn what_is_not_a_upid() {
        for text in [
            "OK",
            "",
            TEXT.trim_end_matches(':'),
            &TEXT.replace("0000A1B2", "A1B2"),
            &TEXT.replace("pve1", "-pve"),
            &TEXT.replace("qmrestore", ""),
            &TEXT.replace("101", "a b"),
            &TEXT.replace("6957A5A5", "6957A5AG"),
            &TEXT.replace("UPID", "XPID"),
        ] {
            assert!(text.parse::<Upid>().is_err(), "{text}");
        }
    }

    #[test]
    fn success_is_ok_or_warnings() {
        assert_eq!(success("OK"), Some(0));
        assert_eq!(success("WARNINGS: 3"), Some(3));
        for text in ["job errors", "unexpected status", "WARNINGS: ", "OK then", ""] {
            assert_eq!(success(text), None, "{text}");
        }
    }

    #[test]
    fn percentages_in_logs() {
        for (line, percent) in [
            ("INFO:  34% (10.9 GiB of 32.0 GiB) in 1m 3s, read: 180.0 MiB/s, write: 120.0 MiB/s", Some(34)),
            ("INFO: 100% (32.0 GiB of 32.0 GiB) in 3m", Some(100)),
            ("progress 7% (read 343605248 bytes, duration 2 sec)", Some(7)),
            ("transferred 1.0 GiB of 2.0 GiB (50.12%)", Some(50)),
            ("INFO: backup is sparse: 20.00 GiB (62%) total zero data", None),
            ("INFO: transferred 32.00 GiB in 177 seconds (185.1 MiB/s)", None),
            ("transferred nothing", None),
            ("progress", None),
        ] {
            assert_eq!(progress_percent(line), percent, "{line}");
        }
    }

    #[test]
    fn an_empty_log_is_empty() {
        let line = LogLine { n: 1, t: "no content".into() };
        assert_eq!(TaskLog::new(vec![line], Some(1)), TaskLog::default());
    }

    proptest! {
        #[test]
        fn upids_survive(node in "[a-zA-Z0-9]([a-zA-Z0-9-]{0,10}[a-zA-Z0-9])?", pid: u32, start: u32, kind in "[a-z]{1,10}", id in "[a-z0-9.-]{0,10}") {
            let text = format!("UPID:{node}:{pid:08X}:0012D687:{start:08X}:{kind}:{id}:root@pam:");
            let upid: Upid = text.parse().unwrap();
            prop_assert_eq!(upid.pid, pid);
            prop_assert_eq!(upid.to_string(), text);
        }

        #[test]
        fn reading_never_panics(text in "(UPID)?[:a-zA-Z0-9%( .]{0,60}") {
            let _ = text.parse::<Upid>();
            let _ = progress_percent(&text);
        }
    }
}

//! Owns the audit trail: one JSON line per step of an operation, in a file of the user's choosing.
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::journal::{Journal, Place};

/// The trail. Without a file it says nothing.
#[derive(Debug, Default)]
pub struct Audit {
    file: Option<Mutex<File>>,
    who: Who,
}

/// Who carries operations out, in this process.
#[derive(Debug, Clone, Default, Serialize)]
struct Who {
    user: String,
    machine: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    version: &'static str,
}

/// One line of the trail.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    /// When, RFC 3339, by the source cluster's clock.
    pub(crate) at: String,
    /// The operation.
    pub(crate) operation: &'a str,
    /// The machine's name.
    pub(crate) machine: &'a str,
    /// Its SMBIOS UUID.
    pub(crate) uuid: &'a str,
    /// The step.
    pub(crate) step: &'a str,
    /// `done`, `failed: …`, `taken back`.
    pub(crate) outcome: &'a str,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// Bytes that it wrote, where it wrote any: of the archive, or of the disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// Downtime that was predicted, in seconds: in the line of `taken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) predicted_downtime: Option<u64>,
    /// Downtime that was measured, in seconds: in the line of `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) downtime: Option<u64>,
}

/// What stands around a line.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    line: &'a Line<'a>,
    from: Option<String>,
    to: String,
    who: &'a Who,
}

/// Environment variables in which CI systems tell the job.
const JOBS: [&str; 5] = ["GITHUB_RUN_ID", "CI_JOB_ID", "BUILD_TAG", "CIRCLE_WORKFLOW_JOB_ID", "BUILDKITE_JOB_ID"];

impl Audit {
    /// Opens the trail, to be appended to.
    ///
    /// # Errors
    /// Where the file can't be opened: an operation that can't be audited doesn't start.
    pub fn open(path: &Path) -> std::io::Result<Audit> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let holder = crate::journal::Holder::me();
        let (user, machine) = holder.run.split_once(" on ").unwrap_or((&holder.run, ""));
        let job = JOBS.into_iter().find_map(|name| std::env::var(name).ok().filter(|job| !job.is_empty()));
        let who = Who { user: user.to_owned(), machine: machine.to_owned(), job, version: env!("CARGO_PKG_VERSION") };
        Ok(Audit { file: Some(Mutex::new(file)), who })
    }

    /// Writes a line, whole.
    ///
    /// # Errors
    /// Where the file takes nothing any more.
    pub(crate) fn write(&self, journal: &Journal, line: &Line<'_>) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let place = |place: &Place| format!("{}/{}/{}", place.cluster, place.node, place.vmid);
        let whole = Whole { line, from: journal.from.as_ref().map(place), to: place(&journal.to), who: &self.who };
        let mut text = serde_json::to_vec(&whole)?;
        text.push(b'\n');
        // Held for one write, never over an await.
        file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    use federation::migration::Step;

    use super::*;
    use crate::journal::tests::journal;

    #[test]
    fn a_line_says_who_what_when_from_where_to_where() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        for _ in 0..2 {
            let audit = Audit::open(&path).expect("the trail");
            let line = Line {
                at: "2026-01-02T03:04:05Z".into(),
                operation: "7f3a",
                machine: "web-1",
                uuid: "u",
                step: Step::Backup.as_str(),
                outcome: "done",
                seconds: 1.5,
                bytes: Some(42),
                predicted_downtime: None,
                downtime: None,
            };
            audit.write(&journal(Step::Backup), &line).expect("a line");
        }
        let text = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(text.lines().count(), 2, "it is appended to");
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap_or_default()).expect("JSON");
        assert_eq!(
            (&line["step"], &line["from"], &line["to"]),
            (&"backup".into(), &"a/n1/100".into(), &"b/n1/100".into())
        );
        assert_eq!(line["who"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(line.get("downtime").is_none());
    }

    #[test]
    fn a_trail_that_can_t_be_written_is_an_error_and_none_is_silence() {
        assert!(Audit::open(Path::new("/nowhere/at/all/audit.jsonl")).is_err());
        assert!(Audit::default().file.is_none());
    }
}

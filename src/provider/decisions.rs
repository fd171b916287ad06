//! Owns the decision journal: what a plan decided, kept in the working folder for the apply that follows (design.md §5,
//! channel b), and the run history that tells the plan walk from the apply walk where core doesn't say.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use operations::Process;
use serde::{Deserialize, Serialize};

/// Entries older than this are swept away.
const KEEP: Duration = Duration::from_secs(14 * 24 * 3600);

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The cluster that the plan showed.
    pub(crate) cluster: String,
    /// The value of `placement` that the plan showed.
    pub(crate) placement: String,
    /// The plan identity it was made under: `plan_id` or the digest of `inventory`; `None` where neither was set.
    pub(crate) plan: Option<String>,
    /// The run (one process of the CLI) that decided.
    pub(crate) run: String,
    /// When, in nanoseconds since 1970; orders entries.
    pub(crate) at: u128,
}

/// The journal of one working folder, seen from one run.
#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    folder: PathBuf,
    run: String,
}

impl Decisions {
    /// The journal in `${TF_DATA_DIR:-.terraform}/moxxie`. Nothing is made before the first entry.
    pub(crate) fn here() -> Decisions {
        Decisions { folder: folder(), run: Process::parent().short() }
    }

    #[cfg(test)]
    pub(crate) fn at(folder: &Path, run: &str) -> Decisions {
        Decisions { folder: folder.to_owned(), run: run.to_owned() }
    }

    /// Keeps a decision under `key` (64 hexadecimal digits).
    pub(crate) fn record(&self, key: &str, cluster: &str, placement: &str, plan: Option<&str>) -> std::io::Result<()> {
        let entry = Entry {
            cluster: cluster.to_owned(),
            placement: placement.to_owned(),
            plan: plan.map(str::to_owned),
            run: self.run.clone(),
            at: since_epoch().as_nanos(),
        };
        self.write(&self.own_name(key, plan), &serde_json::to_vec(&entry)?)
    }

    /// The file of a decision that this run makes: one per plan identity, else one per run.
    fn own_name(&self, key: &str, plan: Option<&str>) -> String {
        let suffix = plan.map_or_else(|| self.run.clone(), short_digest);
        format!("{}-{suffix}.json", short_digest(key))
    }

    /// The entry of `key` that an apply is to obey: of this plan identity; where none is set, of this run, else the newest.
    pub(crate) fn entry(&self, key: &str, plan: Option<&str>) -> Option<Entry> {
        let mut entries: Vec<Entry> = self.of(key).into_iter().filter_map(|file| read(&file)).collect();
        entries.retain(|entry| entry.plan.as_deref() == plan);
        entries.sort_by_key(|entry| (entry.run == self.run, entry.at));
        entries.pop()
    }

    /// The same, only if this run made it: the plan of a direct apply, whichever walk asks.
    pub(crate) fn own_entry(&self, key: &str, plan: Option<&str>) -> Option<Entry> {
        // Looked up by name: a plan asks for each of its machines, and the folder holds an entry of each.
        let entry = read(&self.folder.join(self.own_name(key, plan)))?;
        (entry.run == self.run && entry.plan.as_deref() == plan).then_some(entry)
    }

    /// Drops every entry of `key`: its apply succeeded or refused.
    pub(crate) fn forget(&self, key: &str) {
        for file in self.of(key) {
            // A file that another process dropped first is dropped.
            let _ = fs::remove_file(file);
        }
    }

    fn of(&self, key: &str) -> Vec<PathBuf> {
        let prefix = format!("{}-", short_digest(key));
        self.files().into_iter().filter(|file| name(file).is_some_and(|name| name.starts_with(&prefix))).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    /// Writes a file as a whole: 0600, renamed into place.
    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let part = self.folder.join(format!(".{name}.{}.part", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(true).write(true);
        private(&mut options);
        options.open(&part)?.write_all(bytes)?;
        fs::rename(&part, self.folder.join(name))
    }

    /// Notes that this run's validate walk came by: it plans, and a saved plan is not what it applies.
    pub(crate) fn saw_validate(&self) {
        // Without the note the walk can't be told on cores that don't say; the plan then warns and decides from facts.
        let _ = self.write(&self.validated(), b"");
    }

    fn validated(&self) -> String {
        format!("run-{}-validated", self.run)
    }

    /// Whether this process applies a saved plan, as far as the run's history tells: every other run validates first. The
    /// apply walk of a run that planned itself needs no telling, for it finds its own run's entries.
    pub(crate) fn history_says_apply(&self) -> bool {
        !self.folder.join(self.validated()).exists()
    }

    /// Drops entries and notes older than 14 days.
    pub(crate) fn sweep(&self) {
        for file in self.files() {
            let age = file.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > KEEP) {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// The workspace's name: `TF_WORKSPACE`, else what the CLI selected last in this folder, else `default`.
pub(crate) fn workspace() -> String {
    let set = std::env::var("TF_WORKSPACE").ok().filter(|name| !name.is_empty());
    let chosen = || fs::read_to_string(data_dir().join("environment")).ok();
    let name = set.or_else(chosen).unwrap_or_default();
    if name.trim().is_empty() { "default".to_owned() } else { name.trim().to_owned() }
}

/// Where this working folder keeps what is not state: `${TF_DATA_DIR:-.terraform}/moxxie`.
pub(crate) fn folder() -> PathBuf {
    data_dir().join("moxxie")
}

fn data_dir() -> PathBuf {
    std::env::var_os("TF_DATA_DIR")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| PathBuf::from(".terraform"), PathBuf::from)
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn name(file: &Path) -> Option<String> {
    Some(file.file_name()?.to_str()?.to_owned())
}

fn read(file: &Path) -> Option<Entry> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn short_digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(unix)]
fn private(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn private(_: &mut fs::OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn an_apply_finds_what_its_plan_decided() {
        let dir = folder();
        let plan = Decisions::at(dir.path(), "run-1");
        plan.record("key", "a", "because", None).expect("a record");
        let apply = Decisions::at(dir.path(), "run-2");
        let entry = apply.entry("key", None).expect("the entry");
        assert_eq!((entry.cluster.as_str(), entry.placement.as_str()), ("a", "because"));
        assert_eq!(apply.entry("another key", None), None);
        apply.forget("key");
        assert_eq!(apply.entry("key", None), None);
    }

    #[test]
    fn with_a_plan_identity_only_its_own_entry_counts_and_without_one_the_newest() {
        let dir = folder();
        for (run, cluster, plan) in [("1", "a", Some("p1")), ("2", "b", Some("p2")), ("3", "c", None), ("4", "d", None)]
        {
            Decisions::at(dir.path(), run).record("key", cluster, "", plan).expect("a record");
        }
        let of = |run: &str, plan| Decisions::at(dir.path(), run).entry("key", plan).map(|entry| entry.cluster);
        assert_eq!(of("9", Some("p1")).as_deref(), Some("a"));
        assert_eq!(of("9", Some("p2")).as_deref(), Some("b"));
        assert_eq!(of("9", None).as_deref(), Some("d"));
        assert_eq!(of("3", None).as_deref(), Some("c"), "a run's own entry comes before a newer one");
        assert_eq!(of("9", Some("p3")), None);
    }

    #[test]
    fn a_run_that_validated_plans_and_one_that_did_not_applies_a_saved_plan() {
        let dir = folder();
        let saved_plan = Decisions::at(dir.path(), "alone");
        assert!(saved_plan.history_says_apply());
        let run = Decisions::at(dir.path(), "run");
        run.saw_validate();
        assert!(!run.history_says_apply());
        assert!(saved_plan.history_says_apply(), "another run's validate walk says nothing");
    }

    #[test]
    fn a_run_finds_its_own_entry_and_no_other_runs() {
        let dir = folder();
        Decisions::at(dir.path(), "old").record("key", "a", "", None).expect("a record");
        let run = Decisions::at(dir.path(), "run");
        assert_eq!(run.own_entry("key", None), None);
        run.record("key", "b", "", None).expect("a record");
        Decisions::at(dir.path(), "later").record("key", "c", "", None).expect("a record");
        assert_eq!(run.own_entry("key", None).map(|entry| entry.cluster).as_deref(), Some("b"));
        assert_eq!(run.own_entry("key", Some("p1")), None);
    }

    #[test]
    #[cfg(unix)]
    fn entries_are_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = folder();
        Decisions::at(dir.path(), "run").record("key", "a", "", None).expect("a record");
        for file in fs::read_dir(dir.path()).expect("the folder").flatten() {
            assert_eq!(file.metadata().expect("its data").permissions().mode() & 0o777, 0o600);
        }
    }
}

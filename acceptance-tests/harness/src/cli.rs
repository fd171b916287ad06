//! Owns which Terraform and OpenTofu the acceptance tests run, and how many at a time.
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

/// Which program a [`Cli`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// HashiCorp Terraform.
    Terraform,
    /// OpenTofu.
    OpenTofu,
}

/// One command-line program that the tests drive.
#[derive(Debug, Clone)]
pub struct Cli {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The first line of its `version`.
    pub version: String,
}

impl Cli {
    fn probe(path: &Path) -> Result<Cli, String> {
        let out = Command::new(path)
            .arg("version")
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_CLI_CONFIG_FILE", "/dev/null")
            .output()
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let text = String::from_utf8_lossy(&out.stdout);
        let version = text.lines().next().unwrap_or_default().trim().to_owned();
        let kind = if version.starts_with("OpenTofu") {
            Kind::OpenTofu
        } else if version.starts_with("Terraform") {
            Kind::Terraform
        } else {
            return Err(format!("{} is neither Terraform nor OpenTofu: {version:?}", path.display()));
        };
        Ok(Cli { path: path.to_owned(), kind, version })
    }

    /// Whether it hands the private data of a plan to the plan that runs inside apply (Terraform from 1.16 on), so that a decision
    /// needs no other way from plan to apply.
    pub fn keeps_planned_private(&self) -> bool {
        let minor =
            self.version.strip_prefix("Terraform v1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        minor.is_some_and(|minor| minor >= 16)
    }
}

/// Every CLI the acceptance tests are to run with: those that `MOXXIE_ACC_CLI` names (paths, separated as in `PATH`),
/// else each of `terraform` and `tofu` that is on the `PATH`.
///
/// # Panics
/// Where there is none, or a named one can't be used: an acceptance test without a CLI has failed, not been skipped.
pub fn clis() -> Vec<Cli> {
    if let Some(named) = std::env::var_os("MOXXIE_ACC_CLI") {
        return std::env::split_paths(&named)
            .map(|path| Cli::probe(&path).unwrap_or_else(|e| panic!("MOXXIE_ACC_CLI: {e}")))
            .collect();
    }
    let found: Vec<Cli> = on_path().collect();
    assert!(
        !found.is_empty(),
        "neither `terraform` nor `tofu` is on the PATH: install one, or name one in MOXXIE_ACC_CLI"
    );
    found
}

/// One of [`clis`], for a test whose scenes take minutes: which one follows from the test's name, so that about half of the tests run
/// with each and a test always with the same. `MOXXIE_ACC_CLI` with one path alone has all run with that.
///
/// # Panics
/// As [`clis`].
pub fn by_turns() -> Cli {
    let mut all = clis();
    let thread = std::thread::current();
    let sum: usize = thread.name().unwrap_or_default().bytes().map(usize::from).sum();
    all.swap_remove(sum % all.len())
}

/// The CLIs on the `PATH`, if any.
pub fn on_path() -> impl Iterator<Item = Cli> {
    ["terraform", "tofu"].into_iter().filter_map(|name| {
        let path = std::env::var_os("PATH")?;
        let file = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())?;
        Cli::probe(&file).ok()
    })
}

/// How many CLI tests run at once: each starts several processes, and the machine may have two cores.
const AT_A_TIME: usize = 2;
/// The threads that hold a place, with how many workspaces each of them has.
static RUNNING: Mutex<BTreeMap<u64, usize>> = Mutex::new(BTreeMap::new());
static FREED: Condvar = Condvar::new();
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// A place among the [`AT_A_TIME`] CLI tests that run at once; given back when dropped.
#[derive(Debug)]
pub struct Slot(u64);

/// Waits for a place. A thread that holds one already gets its second at once: two tests that each held one workspace and waited for
/// another would wait for ever.
pub fn slot() -> Slot {
    let thread = THREAD.with(|number| *number);
    let mut running = RUNNING.lock().unwrap_or_else(|e| e.into_inner());
    while running.len() >= AT_A_TIME && !running.contains_key(&thread) {
        running = FREED.wait(running).unwrap_or_else(|e| e.into_inner());
    }
    *running.entry(thread).or_insert(0) += 1;
    Slot(thread)
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = RUNNING.lock().unwrap_or_else(|e| e.into_inner());
        if let Entry::Occupied(mut held) = running.entry(self.0) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
        FREED.notify_all();
    }
}

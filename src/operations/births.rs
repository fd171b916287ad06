//! Owns what this working folder's creates have made that state may not have yet: one file per machine or pool, until state
//! has it.
//!
//! Core stores a create's answer after the provider gave it. Killed in between, the machine is complete on its cluster and
//! state is empty: the next create finds the name taken, and this file is how it knows that the machine is its own.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::journal::Place;

/// What a create noted before its first call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Birth {
    /// The UUID it gives.
    pub(crate) uuid: String,
    /// Where it makes it: the overview of a cluster shows a new guest's name only after some seconds.
    pub(crate) place: Place,
}

/// The folder, or none: nothing is remembered then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Births {
    folder: Option<PathBuf>,
    /// Which of the states that this folder has: the workspace.
    state: String,
}

impl Births {
    pub(crate) fn in_folder(folder: PathBuf, state: String) -> Births {
        Births { folder: Some(folder), state }
    }

    /// What the last create of a pool and name noted, while state may not have the machine.
    pub(crate) fn of(&self, pool: &str, name: &str) -> Option<Birth> {
        serde_json::from_slice(&fs::read(self.file(pool, name)?).ok()?).ok()
    }

    /// Notes what a create is about to make.
    ///
    /// # Errors
    /// Where the folder takes no files.
    pub(crate) fn note(&self, pool: &str, name: &str, birth: &Birth) -> std::io::Result<()> {
        let Some(file) = self.file(pool, name) else { return Ok(()) };
        write(&file, &serde_json::to_vec(birth)?)
    }

    /// State has the machine.
    pub(crate) fn forget(&self, pool: &str, name: &str, uuid: &str) {
        if self.of(pool, name).is_some_and(|birth| birth.uuid == uuid)
            && let Some(file) = self.file(pool, name)
        {
            // One that another process dropped first is dropped.
            let _ = fs::remove_file(file);
        }
    }

    /// The id of the record that the last create of a resource pool was about to write, while state may not have the pool.
    pub(crate) fn record_of(&self, pool: &str) -> Option<String> {
        fs::read_to_string(self.file(RECORDS, pool)?).ok()
    }

    /// Notes the id of the record that a create of a resource pool is about to write.
    ///
    /// # Errors
    /// Where the folder takes no files.
    pub(crate) fn note_record(&self, pool: &str, id: &str) -> std::io::Result<()> {
        let Some(file) = self.file(RECORDS, pool) else { return Ok(()) };
        write(&file, id.as_bytes())
    }

    /// State has the pool.
    pub(crate) fn forget_record(&self, pool: &str, id: &str) {
        if self.record_of(pool).is_some_and(|noted| noted == id)
            && let Some(file) = self.file(RECORDS, pool)
        {
            // One that another process dropped first is dropped.
            let _ = fs::remove_file(file);
        }
    }

    fn file(&self, pool: &str, name: &str) -> Option<PathBuf> {
        let digest = Sha256::digest(format!("{}\n{pool}\n{name}", self.state));
        let short: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        Some(Path::new(self.folder.as_ref()?).join(format!("made-{short}.json")))
    }
}

/// Stands for the pool of a machine in the file names of resource pools' own records; no pool is called so.
const RECORDS: &str = "\n";

/// Writes a file as a whole: 0600, renamed into place.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = file.with_extension(format!("{}.part", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(true).write(true);
    private(&mut options);
    options.open(&part)?.write_all(bytes)?;
    fs::rename(&part, file)
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

    #[test]
    fn what_was_made_is_known_until_state_has_it() {
        let dir = std::env::temp_dir().join(format!("moxxie-births-{}", uuid::Uuid::new_v4()));
        let births = Births::in_folder(dir.clone(), "default".into());
        let place = Place { cluster: "a".parse().expect("a name"), node: "n1".into(), vmid: 100 };
        let birth = Birth { uuid: "u1".into(), place };
        births.note("pool", "web-1", &birth).expect("a note");
        assert_eq!(births.of("pool", "web-1").as_ref(), Some(&birth));
        assert_eq!(births.of("pool", "web-2"), None);
        let other = Births::in_folder(dir.clone(), "staging".into());
        assert_eq!(other.of("pool", "web-1"), None, "another workspace has another state");
        births.note_record("prod", "r1").expect("a note");
        births.forget_record("prod", "another");
        assert_eq!((births.record_of("prod").as_deref(), other.record_of("prod")), (Some("r1"), None));
        births.forget_record("prod", "r1");
        assert_eq!(births.record_of("prod"), None);
        births.forget("pool", "web-1", "another");
        assert_eq!(births.of("pool", "web-1"), Some(birth), "state has another machine of that name");
        births.forget("pool", "web-1", "u1");
        assert_eq!(births.of("pool", "web-1"), None);
        assert_eq!(Births::default().of("pool", "web-1"), None);
        fs::remove_dir_all(dir).expect("removed");
    }
}

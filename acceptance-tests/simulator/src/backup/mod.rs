//! Backups: real archives of configuration and disks, made by vzdump and unpacked by restore.

pub(crate) mod archive;
pub(crate) mod contents;
pub(crate) mod restore;
pub(crate) mod vzdump;

use crate::storage::Archive;

/// `.notes` and `.protected` beside the archive.
pub(crate) fn write_side_files(archive: &Archive) {
    let (notes, protected) = (archive.file.with_extension("notes"), archive.file.with_extension("protected"));
    // The side files mirror what the store knows; nobody reads them back.
    let _ = if archive.notes.is_empty() { std::fs::remove_file(notes) } else { std::fs::write(notes, &archive.notes) };
    let _ = if archive.protected { std::fs::write(protected, "") } else { std::fs::remove_file(protected) };
}

pub(crate) fn remove_files(archive: &Archive) {
    for file in [archive.file.clone(), archive.file.with_extension("notes"), archive.file.with_extension("protected")] {
        // What is gone already needs no removing.
        let _ = std::fs::remove_file(file);
    }
}

impl crate::ClusterHandle {
    /// Takes an archive away by hand, protected or not.
    pub fn remove_archive(&self, volid: &str) {
        let mut st = self.lock();
        let node = st.cluster(&self.name).nodes.keys().next().cloned().unwrap_or_default();
        let Some((key, name)) = st.locate(&self.name, &node, volid) else { return };
        let name = name.to_owned();
        if let Some(archive) = st.stores.get_mut(&key).and_then(|store| store.archives.remove(&name)) {
            remove_files(&archive);
        }
    }
}

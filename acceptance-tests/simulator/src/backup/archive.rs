//! The archive format: one compressed file of the configuration and the disks' bytes.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

/// What stands before the bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Text of `qemu-server.conf`.
    pub(crate) conf: String,
    pub(crate) disks: Vec<Disk>,
    /// The guest's firewall file.
    #[serde(default)]
    pub(crate) firewall: crate::firewall::GuestFirewall,
}

/// One device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) slot: String,
    /// Storage it was on.
    pub(crate) storage: String,
    /// Format it had.
    pub(crate) format: String,
    /// Size the guest sees.
    pub(crate) logical: u64,
    /// Seeded part of the bytes.
    pub(crate) content: u64,
    /// All bytes kept.
    pub(crate) length: u64,
}

impl Disk {
    /// The storage that it goes back to where none is named.
    pub(crate) fn home(&self) -> &str {
        if self.storage.is_empty() { "local" } else { &self.storage }
    }
}

/// Writes an archive and gives its size on disk.
pub(crate) fn write(path: &Path, header: &Header, disks: &[Vec<u8>]) -> std::io::Result<u64> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_vec(header)?;
    let mut out = GzEncoder::new(fs::File::create(path)?, Compression::fast());
    out.write_all(&(text.len() as u64).to_be_bytes())?;
    out.write_all(&text)?;
    for disk in disks {
        out.write_all(disk)?;
    }
    out.finish()?;
    Ok(fs::metadata(path)?.len())
}

/// Reads an archive whole.
pub(crate) fn read(path: &Path) -> std::io::Result<(Header, Vec<Vec<u8>>)> {
    let mut input = GzDecoder::new(fs::File::open(path)?);
    let mut length = [0u8; 8];
    input.read_exact(&mut length)?;
    let mut text = vec![0u8; usize::try_from(u64::from_be_bytes(length).min(1 << 20)).unwrap_or(0)];
    input.read_exact(&mut text)?;
    let header: Header = serde_json::from_slice(&text)?;
    let mut disks = Vec::new();
    for disk in &header.disks {
        let mut bytes = vec![0u8; usize::try_from(disk.length).unwrap_or(0)];
        input.read_exact(&mut bytes)?;
        disks.push(bytes);
    }
    Ok((header, disks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.vma.zst");
        let disk = Disk {
            slot: "scsi0".into(),
            storage: "a".into(),
            format: "raw".to_owned(),
            logical: 1 << 30,
            content: 3,
            length: 5,
        };
        let header = Header { conf: "name: x\n".into(), disks: vec![disk], firewall: Default::default() };
        write(&path, &header, &[b"abcde".to_vec()]).expect("written");
        let (back, disks) = read(&path).expect("read");
        assert_eq!(back.conf, header.conf);
        assert_eq!(disks, [b"abcde".to_vec()]);
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.vma.zst");
        let disk = Disk {
            slot: "scsi0".into(),
            storage: "a".into(),
            format: "raw".to_owned(),
            logical: 1 << 30,
            content: 9,
            length: 4096,
        };
        let bytes: Vec<u8> = (0..4096u32).map(|n| (n * n % 251) as u8).collect();
        write(&path, &Header { conf: String::new(), disks: vec![disk], firewall: Default::default() }, &[bytes])
            .expect("written");
        let whole = fs::read(&path).expect("bytes");
        fs::write(&path, &whole[..whole.len() / 2]).expect("cut");
        assert!(read(&path).is_err());
    }
}

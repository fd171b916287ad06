//! Disk contents: seeded bytes, and after them a ring of numbered records that a running guest writes.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::util::{Random, hex, mix};

/// Records kept; older ones are written over.
const RING: u64 = 1024;
const RECORD: u64 = 16;

/// Makes a disk's file with seeded content.
pub(crate) fn create(path: &Path, seed: u64, content: u64) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, seeded(seed, content))
}

/// Seeded content.
pub(crate) fn seeded(seed: u64, content: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(usize::try_from(content).unwrap_or(0) + 8);
    while (bytes.len() as u64) < content {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(usize::try_from(content).unwrap_or(0));
    bytes
}

/// Writes the records of events `after + 1 ..= upto`.
pub(crate) fn append(path: &Path, content: u64, after: u64, upto: u64) -> io::Result<()> {
    if upto <= after {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut run = Vec::new();
    let mut begin = None;
    for number in after.max(upto.saturating_sub(RING)) + 1..=upto {
        let slot = number % RING;
        let start = *begin.get_or_insert(slot);
        run.extend_from_slice(&number.to_be_bytes());
        run.extend_from_slice(&mix(number, "record").to_be_bytes());
        if slot == RING - 1 || number == upto {
            file.seek(SeekFrom::Start(content + start * RECORD))?;
            file.write_all(&run)?;
            run.clear();
            begin = None;
        }
    }
    Ok(())
}

/// The highest number a disk holds; 0 when no guest ever wrote.
pub(crate) fn newest(path: &Path, content: u64) -> u64 {
    fs::read(path).map_or(0, |all| newest_in(&all, content))
}

/// The same of bytes in hand.
pub(crate) fn newest_in(all: &[u8], content: u64) -> u64 {
    let ring = usize::try_from(content).ok().and_then(|content| all.get(content..)).unwrap_or_default();
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |acc, byte| (acc << 8) | u64::from(*byte));
    ring.chunks_exact(16)
        .map(|record| (number(&record[..8]), number(&record[8..])))
        .filter(|(n, check)| *n > 0 && mix(*n, "record") == *check)
        .map(|(n, _)| n)
        .max()
        .unwrap_or(0)
}

/// SHA-256 of all bytes.
pub(crate) fn sha256(path: &Path) -> String {
    fs::read(path).map(|bytes| sha256_of(&bytes)).unwrap_or_default()
}

/// The same of bytes in hand.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_record_survives_the_ring() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        create(&path, 1, 100).expect("made");
        assert_eq!(newest(&path, 100), 0);
        for (after, upto) in [(0, 3), (3, 1020), (1020, 1030), (1030, 5000)] {
            append(&path, 100, after, upto).expect("written");
            assert_eq!(newest(&path, 100), upto);
        }
        assert_eq!(fs::metadata(&path).expect("there").len(), 100 + RING * RECORD);
    }
}

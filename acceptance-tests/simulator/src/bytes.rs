//! Disk contents: seeded bytes, and after them a ring of numbered records that a running guest writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
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
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(usize::try_from(content).unwrap_or(0) + 8);
    while (bytes.len() as u64) < content {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(usize::try_from(content).unwrap_or(0));
    fs::write(path, bytes)
}

/// Writes the records of events `after + 1 ..= upto`.
pub(crate) fn append(path: &Path, content: u64, after: u64, upto: u64) -> io::Result<()> {
    if upto <= after {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).open(path)?;
    for number in after.max(upto.saturating_sub(RING)) + 1..=upto {
        file.seek(SeekFrom::Start(content + number % RING * RECORD))?;
        file.write_all(&number.to_be_bytes())?;
        file.write_all(&mix(number, "record").to_be_bytes())?;
    }
    Ok(())
}

/// The highest number a disk holds; 0 when no guest ever wrote.
pub(crate) fn newest(path: &Path, content: u64) -> u64 {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(content))?;
        let mut ring = Vec::new();
        file.read_to_end(&mut ring)?;
        Ok(ring)
    };
    let ring = read().unwrap_or_default();
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
    fs::read(path).map(|bytes| hex(&Sha256::digest(bytes))).unwrap_or_default()
}

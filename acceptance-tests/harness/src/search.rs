//! Owns looking for what must not be anywhere: in files, in what is packed in them, in texts.
use std::io::Read;

/// The entries of a ZIP archive (a plan file is one) with their bytes; nothing for any other file.
///
/// # Panics
/// For an archive that begins like one and can't be read: what isn't looked into would pass for clean.
pub fn unpacked(file: &[u8]) -> Vec<(String, Vec<u8>)> {
    if !file.starts_with(b"PK\x03\x04") {
        return Vec::new();
    }
    let number = |at: usize, width: usize| {
        file[at..at + width].iter().rev().fold(0_usize, |all, byte| all << 8 | usize::from(*byte))
    };
    let end = file.windows(4).rposition(|window| window == b"PK\x05\x06").expect("the end of an archive");
    let mut at = number(end + 16, 4);
    let mut found = Vec::new();
    for _ in 0..number(end + 10, 2) {
        assert_eq!(&file[at..at + 4], b"PK\x01\x02", "an entry of the archive");
        let (method, size, name) = (number(at + 10, 2), number(at + 20, 4), number(at + 28, 2));
        let local = number(at + 42, 4);
        let begin = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let data = &file[begin..begin + size];
        let mut bytes = Vec::new();
        match method {
            0 => bytes.extend_from_slice(data),
            8 => drop(flate2::read::DeflateDecoder::new(data).read_to_end(&mut bytes).expect("deflated bytes")),
            other => panic!("an entry is packed by method {other}"),
        }
        found.push((String::from_utf8_lossy(&file[at + 46..at + 46 + name]).into_owned(), bytes));
        at += 46 + name + number(at + 30, 2) + number(at + 32, 2);
    }
    found
}

/// Where `secret` stands in files, or in what is packed in them.
pub fn places(files: &[(std::path::PathBuf, Vec<u8>)], secret: &str) -> Vec<String> {
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    let mut found = Vec::new();
    for (path, bytes) in files {
        if holds(bytes) {
            found.push(path.display().to_string());
        }
        let inside = unpacked(bytes).into_iter().filter(|(_, bytes)| holds(bytes));
        found.extend(inside.map(|(name, _)| format!("{} in {}", name, path.display())));
    }
    found
}

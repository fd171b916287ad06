//! The federation's own data inside other people's texts: one line of JSON with a checksum.
//!
//! In a pool's comment: `free text [moxxie v1 {…} 16-hex] free text`. In a VM's notes, where PVE's interface hides HTML
//! comments: `<!-- moxxie v1 {…} 16hex -->` at the end. The checksum is the beginning of SHA-256 over the JSON as written.
//! The text around a block is kept. A block survives lost newlines (the GUI's comment field has one line), because it has
//! none and needs none around it.

mod envelope;
mod notes;

use serde::Serialize;
use serde_json::Value;

pub use envelope::{Conflict, Envelope, newest};
pub use notes::{NOTES_LIMIT, Notes, read_notes, write_notes};

use crate::digest::{canonical_json, sha256_hex};

/// Largest block in a pool's comment, in bytes.
pub const POOL_BLOCK_LIMIT: usize = 8 * 1024;
/// Largest block in a VM's notes, in bytes: what some thirty moves leave. Versions that wrote no more than 1 KiB read any size.
pub const NOTES_BLOCK_LIMIT: usize = 6 * 1024;

/// Why there is no block to read or to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The text has none.
    #[error("there is no moxxie block in it")]
    Missing,
    /// There is one, but it cannot be trusted.
    #[error("its moxxie block is broken: {why}")]
    Broken {
        /// What is wrong with it.
        why: String,
    },
    /// It would be too large.
    #[error("its moxxie block would have {bytes} bytes, more than the {most} allowed")]
    TooBig {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
}

impl BlockError {
    fn broken(why: impl Into<String>) -> BlockError {
        BlockError::Broken { why: why.into() }
    }
}

/// A block that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its JSON.
    pub value: Value,
    /// Its checksum, 16 hexadecimal digits.
    pub checksum: String,
}

/// What a block begins and ends with.
struct Frame {
    open: &'static str,
    close: &'static str,
    limit: usize,
}

const POOL: Frame = Frame { open: "[moxxie v", close: "]", limit: POOL_BLOCK_LIMIT };
const NOTES: Frame = Frame { open: "<!-- moxxie v", close: "-->", limit: NOTES_BLOCK_LIMIT };

/// A block's place in a text, and what it is.
struct Found {
    start: usize,
    end: usize,
    block: Result<Block, BlockError>,
}

/// Reads the last block of a pool's comment.
///
/// # Errors
/// [`BlockError::Missing`] without one, [`BlockError::Broken`] for one that was edited, cut or comes from a newer version.
pub fn read(comment: &str) -> Result<Block, BlockError> {
    find_last(comment, &POOL).map_or(Err(BlockError::Missing), |found| found.block)
}

/// Puts `value` into a pool's comment: in the place of its last block, broken or not, else behind the text.
///
/// # Errors
/// [`BlockError::TooBig`] above [`POOL_BLOCK_LIMIT`]; [`BlockError::Broken`] for a value JSON cannot hold.
pub fn write(comment: &str, value: &impl Serialize) -> Result<String, BlockError> {
    let block = render(value, &POOL)?;
    Ok(match find_last(comment, &POOL) {
        Some(found) => format!("{}{block}{}", &comment[..found.start], &comment[found.end..]),
        None if comment.trim().is_empty() => block,
        None => format!("{} {block}", comment.trim_end()),
    })
}

/// Takes the last block out of a pool's comment, with one space beside it.
pub fn remove(comment: &str) -> String {
    let Some(found) = find_last(comment, &POOL) else {
        return comment.to_owned();
    };
    let (before, after) = (&comment[..found.start], &comment[found.end..]);
    match after.strip_prefix(' ') {
        Some(after) if before.is_empty() || before.ends_with(' ') => format!("{before}{after}"),
        _ if after.is_empty() => before.trim_end().to_owned(),
        _ => format!("{before}{after}"),
    }
}

fn render(value: &impl Serialize, frame: &Frame) -> Result<String, BlockError> {
    let json = canonical_json(value).map_err(|error| BlockError::broken(error.to_string()))?;
    // Only texts can hold these; escaped, no value can look like the end of an HTML comment or break the line.
    let json = json.replace('<', "\\u003c").replace('>', "\\u003e");
    let json = json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029").replace('\u{85}', "\\u0085");
    let space = if frame.close == "]" { "" } else { " " };
    let block = format!("{}1 {json} {}{space}{}", frame.open, checksum(&json), frame.close);
    if block.len() > frame.limit {
        return Err(BlockError::TooBig { bytes: block.len(), most: frame.limit });
    }
    Ok(block)
}

fn checksum(json: &str) -> String {
    sha256_hex(json.as_bytes()).chars().take(16).collect()
}

/// Walks the text from its beginning, because a block's own texts may look like the beginning of another one.
fn find_last(text: &str, frame: &Frame) -> Option<Found> {
    let mut last = None;
    let mut from = 0;
    while let Some(at) = text[from..].find(frame.open) {
        let start = from + at;
        from = start + frame.open.len();
        if let Some(found) = read_at(text, start, frame) {
            from = found.end;
            last = Some(found);
        }
    }
    last
}

/// The block that begins at `start`; `None` when it is only a phrase that begins alike.
fn read_at(text: &str, start: usize, frame: &Frame) -> Option<Found> {
    let head = &text[start + frame.open.len()..];
    let digits = head.len() - head.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let body = head[digits..].trim_start();
    if digits == 0 || !body.starts_with('{') {
        return None;
    }
    let broken = |why: &str, end: usize| Some(Found { start, end, block: Err(BlockError::broken(why)) });
    let offset = text.len() - body.len();
    let mut stream = serde_json::Deserializer::from_str(body).into_iter::<Value>();
    let Some(Ok(value)) = stream.next() else {
        let end = body.find(frame.close).map_or(text.len(), |at| offset + at + frame.close.len());
        return broken("its JSON does not parse", end);
    };
    let json = &body[..stream.byte_offset()];
    let tail = body[json.len()..].trim_start();
    let sum: String = tail.chars().take_while(char::is_ascii_hexdigit).collect();
    let rest = tail[sum.len()..].trim_start();
    let end = text.len() - rest.len();
    let Some(rest) = rest.strip_prefix(frame.close) else {
        return broken("it has no end", end);
    };
    let end = text.len() - rest.len();
    if head[..digits] != *"1" {
        return broken("it was written by a newer version of the provider", end);
    }
    if sum != checksum(json) {
        return broken("its checksum does not match: it was edited by hand or cut", end);
    }
    Some(Found { start, end, block: Ok(Block { value, checksum: sum }) })
}

#[cfg(test)]
mod tests;

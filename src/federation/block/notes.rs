//! A VM's notes: the user's description, a line for people while the VM moves, and our block at the end.

use serde_json::Value;

use super::{Block, BlockError, NOTES, find_last, render};

/// Most characters PVE keeps in a VM's notes.
pub const NOTES_LIMIT: usize = 8192;

/// Notes taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Notes {
    /// What the user wrote, without our line and block; trailing white space is PVE's to strip, so it is gone.
    pub description: String,
    /// Our block, or why there is none.
    pub block: Result<Block, BlockError>,
}

/// Takes notes apart. A broken block is left out of the description all the same.
pub fn read_notes(notes: &str) -> Notes {
    let Some(found) = find_last(notes, &NOTES) else {
        return Notes { description: notes.trim_end().to_owned(), block: Err(BlockError::Missing) };
    };
    let before = notes[..found.start].trim_end();
    let after = notes[found.end..].trim();
    let mut description = if after.is_empty() { before.to_owned() } else { format!("{before}\n{after}") };
    if let Ok(block) = &found.block
        && let Some(line) = block.value.get("line").and_then(Value::as_str)
        && let Some(rest) = description.strip_prefix(line)
    {
        // The newline after our line may be lost, so white space is what separates it.
        description = rest.trim_start().to_owned();
    }
    Notes { description, block: found.block }
}

/// Puts notes together. `line` is the first line, for people ("being moved to databarn-dr, do not start"); it is kept in
/// the block too, so that it can be taken out again.
///
/// # Errors
/// [`BlockError::TooBig`] for a block above its limit, or when everything together has more than [`NOTES_LIMIT`]
/// characters; [`BlockError::Broken`] when `value` is not a JSON object.
pub fn write_notes(description: &str, line: Option<&str>, value: &Value) -> Result<String, BlockError> {
    let mut value = value.clone();
    let Value::Object(map) = &mut value else {
        return Err(BlockError::broken("it is not an object"));
    };
    map.remove("line");
    if let Some(line) = line {
        map.insert("line".to_owned(), line.into());
    }
    let block = render(&value, &NOTES)?;
    let description = description.trim_end();
    let parts: Vec<&str> = line.into_iter().chain([description]).filter(|part| !part.is_empty()).collect();
    let notes = if parts.is_empty() { block } else { format!("{}\n\n{block}", parts.join("\n")) };
    let characters = notes.chars().count();
    if characters > NOTES_LIMIT {
        return Err(BlockError::TooBig { bytes: characters, most: NOTES_LIMIT });
    }
    Ok(notes)
}

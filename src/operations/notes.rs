//! Owns the mark at the end of a guest's notes (schema.md, VM notes): a line of ours that Proxmox VE's GUI hides.
use federation::ClusterName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is noted in a guest's own notes, for the next run and for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Operation that this guest belongs to while it is under way. For people; never proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// This guest is a retired source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retired>,
    /// Fenced sources of this machine's moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Copy>,
    /// Where its last move brought it from: what a state that the move's end did not reach still says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origin>,
    /// Archives of this machine's moves that are kept for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<Kept>,
}

/// A guest that another one has taken the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The operation that retired it.
    pub op: String,
    /// Where the machine went.
    pub to: ClusterName,
    /// When it expires: seconds since 1970 by the cluster's clock.
    pub until: i64,
}

/// Where a move began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its VMID there.
    pub vmid: u32,
}

/// A fenced source of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its VMID.
    pub vmid: u32,
    /// When it expires: seconds since 1970.
    pub until: i64,
}

/// An archive that is kept for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its volume id on this machine's cluster.
    pub volid: String,
    /// When it expires: seconds since 1970.
    pub until: i64,
}

impl Mark {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Mark::default()
    }
}

const OPEN: &str = "<!-- moxxie v1 ";
const CLOSE: &str = " -->";

/// Notes as Proxmox VE stores them: the user's text, and the mark where it says something.
pub fn join(description: &str, mark: &Mark) -> String {
    if mark.is_empty() {
        return description.to_owned();
    }
    let json = serde_json::to_string(mark).unwrap_or_default();
    let line = format!("{OPEN}{json} {}{CLOSE}", checksum(&json));
    if description.is_empty() { line } else { format!("{description}\n{line}") }
}

/// The user's text and the mark. A mark whose checksum doesn't fit is nobody's: it stays in the text.
pub fn split(notes: &str) -> (String, Mark) {
    let whole = || (notes.to_owned(), Mark::default());
    let Some(start) = notes.rfind(OPEN) else { return whole() };
    let inside = &notes[start + OPEN.len()..];
    let Some(end) = inside.find(CLOSE) else { return whole() };
    let parsed = inside[..end]
        .rsplit_once(' ')
        .and_then(|(json, sum)| (checksum(json) == sum).then(|| serde_json::from_str::<Mark>(json).ok()).flatten());
    let Some(mark) = parsed else { return whole() };
    let after = &inside[end + CLOSE.len()..];
    let before = notes[..start].strip_suffix('\n').unwrap_or(&notes[..start]);
    (format!("{before}{after}"), mark)
}

fn checksum(json: &str) -> String {
    Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let cluster: ClusterName = "a".parse().expect("a name");
        let copies = vec![Copy { cluster, vmid: 100, until: 1_800_000_000 }];
        Mark { op: Some("7f3a".into()), copies, ..Mark::default() }
    }

    #[test]
    fn what_is_joined_splits_again() {
        for text in ["", "one line", "two\nlines", "ends in a line feed\n"] {
            assert_eq!(split(&join(text, &mark())), (text.to_owned(), mark()), "{text:?}");
            assert_eq!(split(&join(text, &Mark::default())), (text.to_owned(), Mark::default()));
        }
        assert!(join("", &mark()).len() < 1024, "schema.md: at most 1 KiB");
    }

    #[test]
    fn a_damaged_mark_is_text() {
        let damaged = join("text", &mark()).replace("7f3a", "7f3b");
        assert_eq!(split(&damaged), (damaged.clone(), Mark::default()));
        let open = "text\n<!-- moxxie v1 {";
        assert_eq!(split(open), (open.to_owned(), Mark::default()));
    }

    #[test]
    fn text_behind_the_mark_is_kept() {
        let edited = format!("{}\nadded in the GUI", join("text", &mark()));
        assert_eq!(split(&edited), ("text\nadded in the GUI".to_owned(), mark()));
    }
}

//! Owns the mark at the end of a guest's notes (formats.md, VM notes): a line of ours that Proxmox VE's GUI hides.
use federation::ClusterName;
use federation::block::{self, BlockError};
use serde::{Deserialize, Serialize};

/// What is noted in a guest's own notes, for the next run and for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Operation that this guest belongs to while it is under way. For people; never proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// How often that operation was taken over. Each take-over writes it, which voids every digest that an earlier holder
    /// knows (design.md §6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// The first line of the notes, for people, while there is something to say to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// This guest is a retired source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retired>,
    /// Fenced sources of this machine's moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Copy>,
    /// Where its last move brought it from: what a state that the move's end did not reach still says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origin>,
    /// UUID of the managed machine that these notes were written for, where nothing else on the cluster says that it is: it was in
    /// no pool then. In a copy made by hand it is another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<String>,
    /// Archives of this machine's moves that are kept for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<Kept>,
    /// Where it was when clusters were lost. What stands there, once a cluster answers again, is an old copy that nothing fenced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Origin>,
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
    /// When it was retired, by that clock: who started it later made it something else. None in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
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
    /// It ran as the machine and was returned, so it may hold what the machine wrote meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returned: bool,
    /// The operation that left it, which its own notes name too; `recovery` for the old copy of one. None in records of before.
    #[serde(default, rename = "by", skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
}

/// An archive that is kept for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its volume id on its cluster.
    pub volid: String,
    /// When it expires: seconds since 1970.
    pub until: i64,
    /// The cluster that names it so. None in records of before: the one that the machine was on when it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
}

impl Kept {
    /// The VMID of the machine that it was made of, which its name has (`proxmox-ve.md` §6): not the one that the machine has by now.
    pub fn vmid(&self) -> Option<u32> {
        let (_, file) = self.volid.split_once(":backup/")?;
        let rest = file.strip_prefix("vzdump-qemu-").or_else(|| file.strip_prefix("vm/"))?;
        rest.split(['-', '/']).next()?.parse().ok()
    }
}

impl Mark {
    /// Takes off what says that an operation is under way.
    pub fn without_operation(self) -> Mark {
        Mark { op: None, epoch: None, line: None, ..self }
    }

    /// Notes a copy, in place of what was noted of that place before.
    pub fn list_copy(&mut self, copy: Copy) {
        self.without_copy_at(&copy.cluster, copy.vmid);
        self.copies.push(copy);
    }

    /// Forgets what was noted of a place.
    pub fn without_copy_at(&mut self, cluster: &ClusterName, vmid: u32) {
        self.copies.retain(|known| (&known.cluster, known.vmid) != (cluster, vmid));
    }

    /// Whether it says that the guest with this UUID is managed.
    pub fn is_of(&self, uuid: Option<&str>) -> bool {
        let managed = self.managed.as_deref();
        managed.is_some_and(|managed| uuid.is_some_and(|uuid| uuid.eq_ignore_ascii_case(managed)))
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Mark::default()
    }
}

/// Notes taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The user's text, without our line and mark.
    pub text: String,
    /// The mark; empty where there is none, or a broken one.
    pub mark: Mark,
    /// What became of the mark.
    pub found: MarkFound,
}

/// Whether notes hold a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkFound {
    /// They do.
    Sound,
    /// They don't: there never was one, or somebody saved other text over it.
    Missing,
    /// It was edited or cut; why it can't be trusted.
    Broken(String),
}

/// Notes as Proxmox VE stores them: the line for people, the user's text, and the mark where it says something.
///
/// # Errors
/// A mark above 1 KiB, or notes above 8192 characters.
pub fn join(description: &str, mark: &Mark) -> Result<String, BlockError> {
    if mark.is_empty() {
        return Ok(description.to_owned());
    }
    // Every field is a plain value with text keys, which always has a JSON form.
    let value = serde_json::to_value(mark).unwrap_or_default();
    block::write_notes(description, mark.line.as_deref(), &value)
}

/// Takes notes apart. A broken mark is in neither part.
pub fn split(notes: &str) -> Split {
    let read = block::read_notes(notes);
    let parsed = read.block.and_then(|block| {
        serde_json::from_value::<Mark>(block.value).map_err(|error| BlockError::Broken { why: error.to_string() })
    });
    match parsed {
        Ok(mark) => Split { text: read.description, mark, found: MarkFound::Sound },
        Err(BlockError::Missing) => {
            // Nothing of ours, so nothing is trimmed.
            Split { text: notes.to_owned(), mark: Mark::default(), found: MarkFound::Missing }
        }
        Err(error) => {
            let found = MarkFound::Broken(error.to_string());
            Split { text: read.description, mark: Mark::default(), found }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let cluster: ClusterName = "a".parse().expect("a name");
        let copies = vec![Copy { cluster, vmid: 100, until: 1_800_000_000, returned: false, op: None }];
        Mark { op: Some("7f3a".into()), copies, ..Mark::default() }
    }

    fn joined(text: &str, mark: &Mark) -> String {
        join(text, mark).expect("it fits")
    }

    #[test]
    fn what_is_joined_splits_again() {
        let people = Mark { line: Some("Being moved, do not start".into()), epoch: Some(2), ..mark() };
        for text in ["", "one line", "two\nlines", "two\n\nparagraphs"] {
            for mark in [mark(), people.clone()] {
                let notes = joined(text, &mark);
                assert_eq!(split(&notes), Split { text: text.into(), mark, found: MarkFound::Sound }, "{text:?}");
            }
            let bare = Split { text: text.into(), mark: Mark::default(), found: MarkFound::Missing };
            assert_eq!(split(&joined(text, &Mark::default())), bare);
        }
        assert!(joined("text", &people).starts_with("Being moved, do not start\ntext"));
    }

    #[test]
    fn the_mark_is_the_one_of_the_documented_format() {
        let notes = joined("text", &mark());
        let block = federation::block::read_notes(&notes).block.expect("the format of formats.md");
        assert_eq!(block.value["op"], "7f3a");
        assert!(notes.contains("<!-- moxxie v1 {") && notes.ends_with(" -->"), "{notes}");
    }

    #[test]
    fn a_mark_is_of_the_machine_whose_uuid_it_holds() {
        let uuid = "0a1b2c3d-0000-4000-8000-000000000001";
        let mark = Mark { managed: Some(uuid.into()), ..Mark::default() };
        let read = split(&joined("text", &mark)).mark;
        assert!(read.is_of(Some(&uuid.to_uppercase())));
        assert!(!read.is_of(Some("0a1b2c3d-0000-4000-8000-000000000002")) && !read.is_of(None));
        assert!(!Mark::default().is_of(None));
        assert_eq!(read.without_operation().managed.as_deref(), Some(uuid));
    }

    #[test]
    fn a_broken_mark_is_neither_text_nor_believed() {
        let broken = split(&joined("text", &mark()).replace("7f3a", "7f3b"));
        assert_eq!((broken.text.as_str(), broken.mark), ("text", Mark::default()));
        assert!(matches!(broken.found, MarkFound::Broken(_)));
    }

    #[test]
    fn text_behind_the_mark_is_kept() {
        let edited = split(&format!("{}\nadded in the GUI", joined("text", &mark())));
        assert_eq!((edited.text.as_str(), edited.mark), ("text\nadded in the GUI", mark()));
    }

    #[test]
    fn records_of_older_versions_are_read() {
        let old = serde_json::json!({
            "copies": [{ "cluster": "a", "vmid": 100, "until": 7 }],
            "archives": [{ "volid": "nfs:backup/vzdump-qemu-100-2026_01_02-03_04_05.vma.zst", "until": 8 }],
            "retired": { "op": "7f3a", "to": "a", "until": 9 },
        });
        let mark = split(&block::write_notes("text", None, &old).expect("it fits")).mark;
        assert_eq!((mark.copies[0].op.as_deref(), mark.copies[0].until), (None, 7));
        assert_eq!((mark.archives[0].cluster.as_ref(), mark.archives[0].vmid()), (None, Some(100)));
        assert_eq!(mark.retired.and_then(|retired| retired.at), None);
    }

    #[test]
    fn what_doesnt_fit_is_refused() {
        let cluster: ClusterName = "a-rather-long-name-of-a-cluster".parse().expect("a name");
        let copy = Copy { cluster, vmid: 100, until: 1_800_000_000, returned: true, op: Some("0123456789ab".into()) };
        let many = |count| Mark { copies: vec![copy.clone(); count], ..Mark::default() };
        assert!(join("text", &many(30)).is_ok(), "what thirty moves leave fits");
        let many = many(70);
        assert!(matches!(join("text", &many), Err(BlockError::TooBig { .. })));
        assert!(matches!(join(&"x".repeat(8192), &mark()), Err(BlockError::TooBig { .. })));
    }
}

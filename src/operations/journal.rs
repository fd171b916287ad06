//! Owns what is written down about an unfinished operation: the comment of its pool (formats.md, operation journal).
use federation::ClusterName;
use federation::migration::{Method, Step};
use federation::placement::Request;
use serde::{Deserialize, Serialize};

use crate::notes::Copy;
use crate::process::Process;
use crate::spec::VmSpec;

/// A virtual machine's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Cluster.
    pub cluster: ClusterName,
    /// Node.
    pub node: String,
    /// VMID.
    pub vmid: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cluster {}, node {}, vmid {}", self.cluster, self.node, self.vmid)
    }
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A virtual machine is being made.
    Create,
    /// A virtual machine changes its cluster.
    Move,
    /// A virtual machine whose cluster is lost is restored elsewhere. Only the cluster that it comes to holds the journal.
    Recovery,
}

/// Who holds an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    #[serde(flatten)]
    pub process: Process,
    /// The run it belongs to, for people: user and machine.
    pub run: String,
}

impl Holder {
    /// This process.
    pub fn me() -> Holder {
        let user = std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_else(|_| "unknown".into());
        let process = Process::me();
        let run = format!("{user} on {}", host());
        Holder { process, run }
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "this machine".into())
}

/// What undo needs to put the source back as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// `onboot` was on.
    pub onboot: bool,
    /// It ran.
    pub running: bool,
    /// `protection` was on.
    pub protection: bool,
    /// Its HA state, where it was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ha: Option<String>,
}

/// A volume of the target that a task of ours may be moving to another storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Its key in the configuration.
    pub slot: String,
    /// The volume as it was: one of ours.
    pub volume: String,
    /// The storage it goes to.
    pub storage: String,
    /// The target's clock before that, in seconds since 1970: older tasks are not this one.
    pub since: i64,
}

/// An operation, as written down on the clusters before each step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Id of the operation.
    pub op: String,
    /// What it is.
    pub kind: Kind,
    /// Name of the machine, for people.
    pub name: String,
    /// SMBIOS UUID of the machine.
    pub uuid: String,
    /// Where it is from; null for a create. Of a recovery: where it was when that cluster was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Place>,
    /// Where it goes.
    pub to: Place,
    /// What a create or a recovery was asked for: other runs count it while it is not a guest yet (decision 13), and whoever takes it up tells its
    /// continuation from another create by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wants: Option<Box<Request>>,
    /// A create that lets others go first: it makes nothing before it claims again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub steps_back: bool,
    /// How a move is carried out, once it has begun: whatever the path says by then.
    #[serde(default = "by_archive", skip_serializing_if = "is_by_archive")]
    pub method: Method,
    /// How far it has come.
    pub step: Step,
    /// How often it was taken over.
    #[serde(default)]
    pub epoch: u32,
    /// Who holds it.
    pub holder: Holder,
    /// When this was written, in seconds since 1970 by the cluster's clock.
    pub at: i64,
    /// The transfer storage of a move, by its name on the source and on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<(String, String)>,
    /// The archive of a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// The task that made the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// Whether the archive is proved to be of a machine that stood still.
    #[serde(default)]
    pub cold: bool,
    /// The task that was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upid: Option<String>,
    /// The storage of the target that everything is restored to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// What moves from there to another storage just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// Volumes that our tasks made on the target, and that are there as far as we know: the only ones that may be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Our restore may have been started on the target.
    #[serde(default)]
    pub restored: bool,
    /// When the source was told to shut down: seconds since 1970 by its clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<i64>,
    /// The target's clock just before that, in seconds since 1970: older tasks of its VMID are not ours. Where Proxmox VE sends the
    /// machine itself: the source's clock before it was told to.
    #[serde(default)]
    pub restore_at: i64,
    /// It is being taken back: whoever takes over goes on with that.
    #[serde(default)]
    pub taking_back: bool,
    /// Why the target was not well, once that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwell: Option<String>,
    /// The machine's own older copies on the target, which make way for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<Copy>,
    /// What undo needs.
    #[serde(default)]
    pub undo: Undo,
}

fn by_archive() -> Method {
    Method::BackupRestore
}

fn is_by_archive(method: &Method) -> bool {
    *method == by_archive()
}

impl Journal {
    /// Whether the target is the machine.
    pub fn is_live(&self) -> bool {
        self.kind != Kind::Create && self.step.is_live()
    }

    /// Whether the point of no return is behind: nothing is taken back any more.
    pub fn is_past_live(&self) -> bool {
        self.kind != Kind::Create && self.step.is_past_live()
    }

    /// Whether the source is the machine again, after the target had run.
    pub fn is_returned(&self) -> bool {
        self.kind != Kind::Create && self.step.is_returned()
    }

    /// Where the machine is, once the target has run; `None` before.
    pub fn machine(&self) -> Option<&Place> {
        if self.is_returned() { self.from.as_ref() } else { self.is_live().then_some(&self.to) }
    }

    /// When the task that made the archive started, while that is the last task.
    pub(crate) fn archive_task_start(&self) -> Option<i64> {
        let upid: proxmox::Upid = self.backup.as_deref()?.parse().ok()?;
        Some(upid.starttime)
    }

    /// Reads the comment of an operation's pool; `None` when it is not one of ours.
    pub fn read(comment: &str) -> Option<Journal> {
        serde_json::from_str(comment.trim()).ok()
    }

    /// The comment of the operation's pool: one line.
    pub fn write(&self) -> String {
        // Every field is a plain value with text keys, which always has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The value of the attribute `operation`: stable words, so that refreshing twice shows no change.
    pub fn in_words(&self) -> String {
        match self.kind {
            Kind::Create => format!("create on {}: not finished", self.to.cluster),
            Kind::Recovery if self.is_live() => {
                format!("recovery on {}: it is the machine, the recovery is not closed", self.to.cluster)
            }
            Kind::Recovery => {
                format!("recovery on {} after the loss of {}: not finished", self.to.cluster, self.source())
            }
            Kind::Move if self.is_returned() => {
                format!(
                    "move to {}: the target was not well, {} takes the machine back",
                    self.to.cluster,
                    self.source()
                )
            }
            Kind::Move if self.step >= Step::Halt => {
                format!("move to {}: the target was not well and is stopped", self.to.cluster)
            }
            Kind::Move if self.is_live() => {
                format!("move to {}: the target runs, the source is not yet retired", self.to.cluster)
            }
            Kind::Move => format!("move to {}: not finished, {} holds the machine", self.to.cluster, self.source()),
        }
    }

    /// Where it stands: the same, with the operation, the step at hand and who holds it.
    pub fn stands(&self) -> String {
        let back = if self.taking_back { ", being taken back" } else { "" };
        format!("{} (operation {}, step {}{back}, held by {})", self.in_words(), self.op, self.step, self.holder.run)
    }

    fn source(&self) -> &str {
        self.from.as_ref().map_or("the source", |from| from.cluster.as_str())
    }
}

/// A journal for an operation that begins now.
pub(crate) fn new_journal(kind: Kind, spec: &VmSpec, from: Option<Place>, to: Place, uuid: String) -> Journal {
    let op = uuid::Uuid::new_v4().simple().to_string();
    Journal {
        op: op[..12].to_owned(),
        kind,
        name: spec.name.to_string(),
        uuid,
        from,
        to,
        wants: None,
        steps_back: false,
        method: by_archive(),
        step: Step::Taken,
        epoch: 0,
        holder: Holder::me(),
        at: 0,
        transfer: None,
        archive: None,
        backup: None,
        cold: false,
        upid: None,
        storage: None,
        moving: None,
        volumes: Vec::new(),
        restored: false,
        down_since: None,
        restore_at: 0,
        taking_back: false,
        unwell: None,
        older: Vec::new(),
        undo: Undo::default(),
    }
}

/// Pool that holds operations, a root of its own (design.md §6).
pub(crate) const OPERATIONS: &str = "moxxie-moves";

/// Pool of the move of the machine with `uuid`.
pub fn move_pool(uuid: &str) -> String {
    format!("{OPERATIONS}/move-{uuid}")
}

/// Whether a pool holds a create; the claim of an epoch, below it, doesn't count again.
pub(crate) fn is_create_pool(pool: &str) -> bool {
    let name = pool.strip_prefix(OPERATIONS).and_then(|rest| rest.strip_prefix("/create-"));
    name.is_some_and(|name| !name.contains('/'))
}

/// Pool of the create of a machine called `name` in `pool` (decision 2).
pub fn create_pool(pool: &str, name: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{pool}\n{name}"));
    let short: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("{OPERATIONS}/create-{short}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn journal(step: Step) -> Journal {
        let place = |cluster: &str| Place { cluster: cluster.parse().expect("a name"), node: "n1".into(), vmid: 100 };
        Journal {
            op: "op1".into(),
            kind: Kind::Move,
            name: "web-1".into(),
            uuid: "6e6f".into(),
            from: Some(place("a")),
            to: place("b"),
            wants: None,
            steps_back: false,
            method: by_archive(),
            step,
            epoch: 0,
            holder: Holder::me(),
            at: 1_700_000_000,
            transfer: Some(("nfs".into(), "nfs".into())),
            archive: Some("nfs:backup/x".into()),
            backup: None,
            cold: true,
            upid: None,
            storage: Some("ceph".into()),
            moving: Some(Moving {
                slot: "scsi1".into(),
                volume: "ceph:vm-100-disk-1".into(),
                storage: "bulk".into(),
                since: 1_700_000_000,
            }),
            volumes: vec!["ceph:vm-100-disk-0".into(), "ceph:vm-100-disk-1".into()],
            restored: false,
            down_since: None,
            restore_at: 0,
            taking_back: false,
            unwell: None,
            older: Vec::new(),
            undo: Undo { onboot: true, running: true, protection: false, ha: None },
        }
    }

    #[test]
    fn what_is_written_reads_back_on_one_line() {
        let written = journal(Step::Restore).write();
        assert!(!written.contains('\n') && written.len() < 2048, "{written}");
        assert_eq!(Journal::read(&format!(" {written}\n")), Some(journal(Step::Restore)));
        assert_eq!(Journal::read("notes of a person"), None);
        assert!(!written.contains("method"), "as journals were before there was more than one");
        let sent = Journal { method: Method::Offline, ..journal(Step::Carry) };
        assert_eq!(Journal::read(&sent.write()), Some(sent));
        let wants = Request {
            pool: Some("prod".parse().expect("a name")),
            memory: federation::Bytes::from_gib(3),
            tags: ["web".parse().expect("a tag")].into(),
            ..Request::new("web-1".parse().expect("a name"))
        };
        let create = Journal { kind: Kind::Create, wants: Some(Box::new(wants)), ..journal(Step::Taken) };
        assert_eq!(Journal::read(&create.write()), Some(create), "its continuation is told by what it wants");
    }

    #[test]
    fn the_halves_are_divided_by_live() {
        assert!(!journal(Step::Verify).is_live());
        assert!(journal(Step::Live).is_live() && journal(Step::Release).is_live());
        assert_eq!(journal(Step::Verify).machine(), None);
        assert_eq!(journal(Step::Disown).machine(), Some(&journal(Step::Disown).to));
        assert_eq!(journal(Step::Returned).machine(), journal(Step::Returned).from.as_ref());
        assert!(Step::Taken < Step::Shutdown && Step::Fence > Step::Backup);
    }

    #[test]
    fn a_recovery_is_live_as_a_move_is_and_says_what_it_is() {
        let recovery = |step| Journal { kind: Kind::Recovery, ..journal(step) };
        assert_eq!(Journal::read(&recovery(Step::Restore).write()), Some(recovery(Step::Restore)));
        assert_eq!(recovery(Step::Verify).machine(), None);
        assert_eq!(recovery(Step::Start).machine(), Some(&recovery(Step::Start).to));
        assert_eq!(recovery(Step::Restore).in_words(), "recovery on b after the loss of a: not finished");
        assert_eq!(recovery(Step::Health).in_words(), "recovery on b: it is the machine, the recovery is not closed");
    }

    #[test]
    fn operations_have_pools_of_their_own() {
        assert_eq!(move_pool("u"), "moxxie-moves/move-u");
        assert_ne!(create_pool("p", "a"), create_pool("p", "b"));
        assert_ne!(create_pool("p", "a"), create_pool("q", "a"));
    }
}

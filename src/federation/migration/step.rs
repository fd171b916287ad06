//! The table of steps of a move, in the order they are done; which of them a method has.

use super::transition::{following, following_direct};
use crate::model::Method;
use crate::model::words::words;

words! {
    /// How far a move has come: the step whose calls may have been made, written down before the first of them. The word is
    /// what stands in the journal.
    Step {
        /// The operation is taken; nothing of the machine was touched.
        Taken = "taken",
        /// The guest is told to shut down.
        Shutdown = "shutdown",
        /// Fence 1: the source no longer starts with its node.
        Onboot = "onboot",
        /// The final backup, and the proof that it is cold.
        Backup = "backup",
        /// Fence 2: the source can't be started, nor removed, by anybody.
        Fence = "fence",
        /// The archive shows up on the target, whole.
        Transfer = "transfer",
        /// The archive becomes a virtual machine on the target, its links down.
        Restore = "restore",
        /// Instead of backup and restore: Proxmox VE itself sends the machine over, by `remote_migrate`.
        Carry = "carry",
        /// Volumes that belong on other storages of the target than the one they came to are moved there.
        Spread = "spread",
        /// The target is compared with the source, key by key.
        Verify = "verify",
        /// The point of no return, written on both sides: the target is the machine.
        Live = "live",
        /// The target's links go up and it starts.
        Start = "start",
        /// The target is asked whether it is well.
        Health = "health",
        /// The target gets what the source had: start on boot, protection, its notes.
        Commit = "commit",
        /// The source is retired or removed.
        Retire = "retire",
        /// Nothing is left but the operation itself, which is given back.
        Release = "release",
        /// The other ending, where the target was not well and the user wants the machine back: the target is shut down.
        Halt = "halt",
        /// The target can't be started any more, nor removed, by anybody.
        Disown = "disown",
        /// Written on both sides: the source is the machine again.
        Returned = "returned",
        /// The source is unfenced and started, the target noted as a retired copy.
        Revive = "revive",
        /// Nothing is left but the operation itself, which is given back.
        Close = "close",
    }
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepInfo {
    /// The step.
    pub step: Step,
    /// What doing it means.
    pub does: &'static str,
    /// What taking it back means; `None` where there is nothing to take back, or nothing may be.
    pub undoes: Option<&'static str>,
    /// How one sees on the clusters that it is done.
    pub recognised: &'static str,
}

/// All steps in order.
pub const STEPS: &[StepInfo] = &[
    StepInfo {
        step: Step::Taken,
        does: "create pool moxxie-moves/move-<uuid> on the source, then on the target, the journal as its comment",
        undoes: Some("delete both pools, the target's first"),
        recognised: "the pool is there on both sides with our operation id",
    },
    StepInfo {
        step: Step::Shutdown,
        does: "wait until no backup runs on the node; set HA to ignored (recorded); shut the guest down within its timeout",
        undoes: Some("start the source if it ran, put HA back as recorded"),
        recognised: "the source is stopped",
    },
    StepInfo {
        step: Step::Onboot,
        does: "set onboot 0 on the source, with digest",
        undoes: Some("set onboot as recorded, with digest"),
        recognised: "the source's configuration has onboot 0",
    },
    StepInfo {
        step: Step::Backup,
        does: "back up the stopped guest (stop, zstd, protected, lockwait 1, notes naming the operation); prove it cold by its log",
        undoes: Some("lift the archive's protection and delete it, from the side where the machine lives"),
        recognised: "the journal names the archive and says that it is cold",
    },
    StepInfo {
        step: Step::Fence,
        does: "set template 1 and protection 1 on the source, a line for people in its notes, with digest; read back as current; nobody started it since the backup",
        undoes: Some("delete template and set protection as recorded, with digest"),
        recognised: "the source's current configuration has template 1, and it is stopped",
    },
    StepInfo {
        step: Step::Transfer,
        does: "wait until the target lists the archive with the source's size",
        undoes: None,
        recognised: "nothing to see: asked again each time",
    },
    StepInfo {
        step: Step::Restore,
        does: "restore in one call: name, networks mapped with link_down=1, onboot 0, pool, notes; record volumes as logged",
        undoes: Some("remove the target if every volume of it is one that our restore logged"),
        recognised: "the journal's restore task ended well",
    },
    StepInfo {
        step: Step::Carry,
        does: "note the operation on the source, then POST remote_migrate (delete 0) with the target's migration token; it must end with the \
               source locked and the target whole; then name, pool, and, of a stopped machine, networks mapped with link_down=1",
        undoes: Some(
            "nothing, once the target is whole: the next apply goes on. Before, name what is left there, for it is locked; where root unlocked \
             the source of a whole one, fence that and keep it",
        ),
        recognised: "the source is stopped and has lock migrate; the target has its UUID and no lock",
    },
    StepInfo {
        step: Step::Spread,
        does: "move volumes that belong on other storages there, one by one (delete 1), each written down before",
        undoes: Some("remove what our moves made with the target; name what a killed one left"),
        recognised: "the target's configuration has each volume on its storage, by a task of ours",
    },
    StepInfo {
        step: Step::Verify,
        does: "compare configuration, disks and sizes of the target with the source's",
        undoes: None,
        recognised: "nothing to see: compared again each time",
    },
    StepInfo {
        step: Step::Live,
        does: "write \"live\" into both journals, the source's first",
        undoes: None,
        recognised: "both journals say so; one is enough to make it true",
    },
    StepInfo {
        step: Step::Start,
        does: "set the target's links up and its protection on, and start it",
        undoes: None,
        recognised: "its links are up and it runs",
    },
    StepInfo {
        step: Step::Health,
        does: "ask the agent, a TCP port or a web server until the deadline; unwell and on_unhealthy \"return\": go on at halt",
        undoes: None,
        recognised: "nothing to see: asked again each time",
    },
    StepInfo {
        step: Step::Commit,
        does: "set onboot and protection as the source had them, take the operation's mark off the notes, record copy and archive there",
        undoes: None,
        recognised: "the target's notes carry no mark of the operation",
    },
    StepInfo {
        step: Step::Retire,
        does: "delete the archive where it isn't kept; note on the source what it is and until when, or remove it",
        undoes: None,
        recognised: "the source is gone, or carries a retired record",
    },
    StepInfo {
        step: Step::Release,
        does: "delete both operation pools, the source's first",
        undoes: None,
        recognised: "neither cluster has a pool of this operation",
    },
    StepInfo {
        step: Step::Halt,
        does: "shut the target down; hard, if it doesn't within shutdown_timeout",
        undoes: None,
        recognised: "the target is stopped",
    },
    StepInfo {
        step: Step::Disown,
        does: "set onboot 0, template 1 and protection 1 on the target, with digest; read back as current with the target stopped",
        undoes: None,
        recognised: "the target's current configuration has template 1, and it is stopped",
    },
    StepInfo {
        step: Step::Returned,
        does: "write \"returned\" into both journals, the source's first",
        undoes: None,
        recognised: "both journals say so; one is enough to make it true",
    },
    StepInfo {
        step: Step::Revive,
        does: "note the target as a retired copy on both machines; unfence and start the source as it was; delete the archive",
        undoes: None,
        recognised: "the source is as it was before the move, and its notes list the copy",
    },
    StepInfo {
        step: Step::Close,
        does: "delete both operation pools, the target's first",
        undoes: None,
        recognised: "neither cluster has a pool of this operation",
    },
];

/// The steps of a move by a method, without trouble: not those that return a machine that was not well.
pub fn steps_of_a_move(method: Method) -> Vec<&'static StepInfo> {
    let next = |step: &Step| match method {
        Method::BackupRestore => following(*step),
        Method::Offline => following_direct(*step, false),
        Method::StorageMigration => following_direct(*step, true),
    };
    std::iter::successors(Some(Step::Taken), next).map(Step::info).collect()
}

impl Step {
    /// Its row of the table.
    pub fn info(self) -> &'static StepInfo {
        // `STEPS` has a row per step in the order of the enum; a test holds it to that.
        &STEPS[self as usize]
    }

    /// Whether the target may have accepted writes once this step has begun: nothing from here on is taken back.
    pub fn is_past_live(self) -> bool {
        self >= Step::Live
    }

    /// Whether the target is the machine once this step has begun: from "live" on, unless it was returned.
    pub fn is_live(self) -> bool {
        self.is_past_live() && !self.is_returned()
    }

    /// Whether the source is the machine again, the target having run and not been well.
    pub fn is_returned(self) -> bool {
        self >= Step::Returned
    }
}

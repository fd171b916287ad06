//! The table of steps, in the order they are done.

use crate::model::words::words;

words! {
    /// One step of a migration. The word is what stands in the journal.
    Step {
        /// Check everything that can be checked without changing anything.
        Preflight = "preflight",
        /// Create the operation pool on both clusters, source first.
        TakeOperation = "take-operation",
        /// Back up and carry over while the guest runs, so that the final backup is small.
        WarmCopy = "warm-copy",
        /// Wait until the source node can start a backup at once.
        TakeBackupSlot = "take-backup-slot",
        /// Shut the guest down.
        ShutDownSource = "shut-down-source",
        /// First fence: the source does not start at boot.
        FenceOnboot = "fence-onboot",
        /// Back the stopped guest up.
        FinalBackup = "final-backup",
        /// Prove from the backup's own log that the guest did not run.
        ProveCold = "prove-cold",
        /// Second fence: the source cannot be started by anybody.
        FenceTemplate = "fence-template",
        /// Get the archive to where the target can read it.
        Transfer = "transfer",
        /// Restore on the target, links down.
        Restore = "restore",
        /// Move disks to the storages they are mapped to.
        MoveDisks = "move-disks",
        /// Compare what was restored with what was backed up.
        Verify = "verify",
        /// Boot once with links down.
        BootIsolated = "boot-isolated",
        /// Write "live" on both sides: the point of no return.
        RecordLive = "live",
        /// Links up, protection on, start.
        LetOntoNetwork = "let-onto-network",
        /// Ask the guest whether it is well.
        HealthCheck = "health-check",
        /// Declare the target the VM.
        Commit = "commit",
        /// Give the target what the source had: onboot, protection, HA, replication, firewall.
        SettleTarget = "settle-target",
        /// Stop, fence and keep the target, and start the source: only when `on_unhealthy = "return"` asks for it.
        ReturnToSource = "return-to-source",
        /// Retire the source: keep it fenced, or delete it.
        RetireSource = "retire-source",
        /// Delete the operation pools and what is left over.
        GiveOperationBack = "give-operation-back",
    }
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepInfo {
    /// The step.
    pub step: Step,
    /// Whether it comes before "live", where failures are taken back.
    pub before_live: bool,
    /// Whether an operation may go without it.
    pub optional: bool,
    /// What doing it means.
    pub does: &'static str,
    /// What taking it back means; `None` where there is nothing to take back.
    pub undoes: Option<&'static str>,
    /// How one sees on the clusters that it is done.
    pub recognised: &'static str,
}

/// All steps in order.
pub const STEPS: &[StepInfo] = &[
    StepInfo {
        step: Step::Preflight,
        before_live: true,
        optional: false,
        does: "run every check; whatever cannot be carried is refused before the source is touched",
        undoes: None,
        recognised: "nothing to see: it changes nothing and is run again",
    },
    StepInfo {
        step: Step::TakeOperation,
        before_live: true,
        optional: false,
        does: "create pool moxxie-moves/move-<uuid> on the source, then on the target, the journal as comment",
        undoes: Some("delete both pools, target first"),
        recognised: "the pool exists on both sides with our operation id and epoch",
    },
    StepInfo {
        step: Step::WarmCopy,
        before_live: true,
        optional: true,
        does: "back up the running guest with fleecing or to the source's own site, and carry the archive over",
        undoes: Some("delete the archives of this operation on both sides"),
        recognised: "an archive whose notes name this operation, its task finished OK",
    },
    StepInfo {
        step: Step::TakeBackupSlot,
        before_live: true,
        optional: false,
        does: "wait until no backup runs on the source node and no job is due before the predicted end",
        undoes: None,
        recognised: "nothing to see: asked again each time",
    },
    StepInfo {
        step: Step::ShutDownSource,
        before_live: true,
        optional: false,
        does: "set HA to ignored (recorded), then shut the guest down within its timeout",
        undoes: Some("start the source if it ran, put HA back as recorded"),
        recognised: "status/current says stopped and HA ignored or absent",
    },
    StepInfo {
        step: Step::FenceOnboot,
        before_live: true,
        optional: false,
        does: "set onboot 0 on the source, with digest",
        undoes: Some("set onboot as recorded, with digest"),
        recognised: "the current configuration of the source has onboot 0",
    },
    StepInfo {
        step: Step::FinalBackup,
        before_live: true,
        optional: false,
        does: "back up the stopped guest: mode stop, zstd, protected, lockwait 1, notes naming the operation",
        undoes: Some("take the archive's protection off and delete it, from the side where the VM lives"),
        recognised: "the journal's UPID finished OK, and the archive it logged is listed",
    },
    StepInfo {
        step: Step::ProveCold,
        before_live: true,
        optional: false,
        does: "find \"status = stopped\", \"starting kvm to execute backup task\" and \"stopping kvm after backup task\" in the log",
        undoes: None,
        recognised: "the three lines in the log of the journal's UPID, and the source stopped now",
    },
    StepInfo {
        step: Step::FenceTemplate,
        before_live: true,
        optional: false,
        does: "set template 1 and protection 1 on the source, with digest; read back as current, not pending",
        undoes: Some("delete template and set protection as recorded, with digest"),
        recognised: "the current configuration of the source has template 1, nothing pending, and it is stopped",
    },
    StepInfo {
        step: Step::Transfer,
        before_live: true,
        optional: false,
        does: "get the archive to the target by the path's transport, checksummed",
        undoes: Some("delete the copy on the target's side"),
        recognised: "the target lists the archive with the size and checksum of the original",
    },
    StepInfo {
        step: Step::Restore,
        before_live: true,
        optional: false,
        does: "restore in one call: name, networks mapped with link_down=1, onboot 0, pool, notes; record volumes as logged",
        undoes: Some("delete the target VM, if every volume of it is one our restore logged"),
        recognised: "the target vmid exists with our UUID, and the restore task of the journal finished OK",
    },
    StepInfo {
        step: Step::MoveDisks,
        before_live: true,
        optional: true,
        does: "move disks to the storages their classes are mapped to",
        undoes: None,
        recognised: "every disk of the target is on its mapped storage",
    },
    StepInfo {
        step: Step::Verify,
        before_live: true,
        optional: false,
        does: "compare configuration, disks and sizes of the target with the archive's",
        undoes: None,
        recognised: "nothing to see: compared again each time",
    },
    StepInfo {
        step: Step::BootIsolated,
        before_live: true,
        optional: true,
        does: "start the target with links down, wait for the agent, stop it",
        undoes: Some("stop the target"),
        recognised: "the target is stopped and the journal is past this step",
    },
    StepInfo {
        step: Step::RecordLive,
        before_live: false,
        optional: false,
        does: "write \"live\" into both journals, target first",
        undoes: None,
        recognised: "both journals say so; one is enough to make it true",
    },
    StepInfo {
        step: Step::LetOntoNetwork,
        before_live: false,
        optional: false,
        does: "set links up and protection 1 on the target, start it if the source ran",
        undoes: None,
        recognised: "the target's links are up and it is as the source was",
    },
    StepInfo {
        step: Step::HealthCheck,
        before_live: false,
        optional: true,
        does: "ask agent, TCP port or URL until the deadline",
        undoes: None,
        recognised: "nothing to see: asked again each time",
    },
    StepInfo {
        step: Step::Commit,
        before_live: false,
        optional: false,
        does: "write \"commit\" into both journals",
        undoes: None,
        recognised: "both journals are at commit or later",
    },
    StepInfo {
        step: Step::SettleTarget,
        before_live: false,
        optional: false,
        does: "set onboot, protection, HA, replication and firewall on the target as recorded",
        undoes: None,
        recognised: "the target's configuration has what the journal recorded of the source",
    },
    StepInfo {
        step: Step::ReturnToSource,
        before_live: false,
        optional: true,
        does: "stop, fence and keep the target, then take the source's fences off and start it",
        undoes: None,
        recognised: "the target is stopped and fenced, the source is as recorded",
    },
    StepInfo {
        step: Step::RetireSource,
        before_live: false,
        optional: false,
        does: "keep the source fenced with its date in the retired pool, or delete its own volumes; archives first",
        undoes: None,
        recognised: "the source is gone, or carries a retired record",
    },
    StepInfo {
        step: Step::GiveOperationBack,
        before_live: false,
        optional: false,
        does: "take block and line out of the notes, delete both operation pools, target first",
        undoes: None,
        recognised: "neither cluster has a pool of this operation",
    },
];

impl Step {
    /// Its row of the table.
    pub fn info(self) -> &'static StepInfo {
        // `STEPS` has a row per step in the order of the enum; a test holds it to that.
        &STEPS[self as usize]
    }

    /// Whether the target may have accepted writes once this step has begun.
    pub fn is_live(self) -> bool {
        !self.info().before_live
    }
}

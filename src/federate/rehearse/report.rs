//! Owns what a rehearsal shows: a row for each thing that was tried, what is left, and what it can't prove.
use std::collections::BTreeSet;

use federation::{ClusterName, PoolName};
use operations::rehearsal::REHEARSAL;
use operations::{Cleared, Failure};
use serde_json::{Value, json};

use crate::report::{Exit, Output, counted};
use crate::table::Table;

/// What came of one thing that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Result {
    Held,
    Failed,
    NotTried,
}

impl Result {
    fn word(self) -> &'static str {
        match self {
            Result::Held => "held",
            Result::Failed => "FAILED",
            Result::NotTried => "not tried",
        }
    }
}

/// One thing that was tried.
#[derive(Debug, Clone)]
pub(super) struct Row {
    what: String,
    place: String,
    result: Result,
    seen: String,
    next: String,
    seconds: Option<f64>,
}

impl Row {
    /// Before it is known what came of it. `place`: a cluster, or from where to where.
    pub(super) fn of(what: impl Into<String>, place: impl Into<String>) -> Row {
        let (what, place) = (what.into(), place.into());
        Row { what, place, result: Result::NotTried, seen: String::new(), next: String::new(), seconds: None }
    }

    pub(super) fn took(self, seconds: f64) -> Row {
        Row { seconds: Some(seconds), ..self }
    }

    pub(super) fn held(self, seen: impl Into<String>) -> Row {
        Row { result: Result::Held, seen: seen.into(), ..self }
    }

    pub(super) fn failed(self, seen: impl Into<String>, next: impl Into<String>) -> Row {
        Row { result: Result::Failed, seen: seen.into(), next: next.into(), ..self }
    }

    pub(super) fn failed_by(self, failures: &[Failure]) -> Row {
        let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
        self.failed(all.join("\n"), "")
    }

    pub(super) fn not_tried(self, why: impl Into<String>) -> Row {
        Row { result: Result::NotTried, seen: why.into(), ..self }
    }

    /// Says it at once: a rehearsal takes its time.
    pub(super) fn say(&self) {
        eprintln!("{:<9} {} {}", self.result.word(), self.what, self.place);
    }
}

/// What a rehearsal saw.
#[derive(Debug)]
pub(super) struct Report {
    pool: PoolName,
    from: ClusterName,
    to: ClusterName,
    /// Each cluster with the version of its Proxmox VE.
    pub(super) versions: Vec<(String, String)>,
    pub(super) rows: Vec<Row>,
    /// What Proxmox VE's own migration locked, with the commands for root.
    pub(super) locked: Vec<String>,
    /// Archives that were there before.
    pub(super) archives_before: BTreeSet<String>,
}

impl Report {
    pub(super) fn new(pool: &PoolName, from: &ClusterName, to: &ClusterName) -> Report {
        Report {
            pool: pool.clone(),
            from: from.clone(),
            to: to.clone(),
            versions: Vec::new(),
            rows: Vec::new(),
            locked: Vec::new(),
            archives_before: BTreeSet::new(),
        }
    }

    /// Takes down what only root can remove, each with its commands.
    pub(super) fn left_for_root(&mut self, cleared: &Cleared) {
        for left in &cleared.locked {
            let line = format!("{}; {}", left.what, left.next);
            if !self.locked.contains(&line) {
                self.locked.push(line);
            }
        }
    }

    fn count(&self, result: Result) -> usize {
        self.rows.iter().filter(|row| row.result == result).count()
    }

    pub(super) fn output(&self, json: bool) -> Output {
        let exit = Exit::fine_if(self.count(Result::Failed) == 0);
        if json { Output::json(&self.value(), exit) } else { Output::new(self.text(), exit) }
    }

    fn text(&self) -> String {
        let versions: Vec<String> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let mut text = format!("Rehearsal with {REHEARSAL} of pool {}: {}\n\n", self.pool, versions.join(", "));
        let mut table = Table::new(&["RESULT", "WHAT WAS TRIED", "WHERE", "#SECONDS", "WHAT WAS SEEN"]);
        for row in &self.rows {
            let seconds = row.seconds.map(|seconds| format!("{seconds:.1}")).unwrap_or_default();
            let mut lines = row.seen.lines();
            let first = lines.next().unwrap_or_default().to_owned();
            table.row(vec![row.result.word().into(), row.what.clone(), row.place.clone(), seconds, first]);
            let next = Some(row.next.as_str()).filter(|next| !next.is_empty()).map(|next| format!("Next: {next}"));
            for line in lines.map(str::to_owned).chain(next) {
                table.row(vec![String::new(), String::new(), String::new(), String::new(), line]);
            }
        }
        text += &table.text("");
        text += &format!("\n{}\n", self.sum());
        crate::validate::list(&mut text, "Left for root:", &self.locked);
        crate::validate::list(&mut text, "What a token can't prove, and how root can:", &self.beyond());
        text
    }

    fn sum(&self) -> String {
        let (failed, not_tried) = (self.count(Result::Failed), self.count(Result::NotTried));
        let not_tried =
            if not_tried > 0 { format!("; {} not tried", counted(not_tried, "thing")) } else { String::new() };
        match failed {
            0 => format!("{} held{not_tried}.", counted(self.count(Result::Held), "thing")),
            _ => format!(
                "{} FAILED{not_tried}. Move nothing that you need before that is mended.",
                counted(failed, "thing")
            ),
        }
    }

    /// What no token can show.
    fn beyond(&self) -> Vec<String> {
        let (from, to) = (&self.from, &self.to);
        let mut all = vec![
            format!(
                "that the bytes in the disks arrive: a token can't write into them, and this machine boots nothing. Put a file of some GiB into a guest \
                 that you can lose, note its sha256sum, move it from {from} to {to}, compare"
            ),
            "that the fence holds for root, too: of a machine whose source is kept, on the source's node `qm start VMID` has to say that it is a template"
                .to_owned(),
            "what a node's sudden end leaves: pull the plug of one in the middle of a move of a machine that you can lose, and apply again. `pvesm list STORAGE` \
             shows volumes that belong to no machine, `ls` of the transfer storage's dump folder files that end in .vma.dat"
                .to_owned(),
        ];
        let not_locked = "what `offline` and `storage-migration` leave: a locked copy, which only root removes: `qm unlock VMID && qm destroy VMID` on its node. \
                          These methods were not tried";
        if self.locked.is_empty() {
            all.push(not_locked.to_owned());
        }
        all
    }

    fn value(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "what": row.what, "where": row.place, "result": row.result.word().to_lowercase().replace(' ', "_"),
                "seen": row.seen, "next": row.next, "seconds": row.seconds,
            })
        };
        json!({
            "pool": self.pool, "from": self.from, "to": self.to,
            "versions": self.versions.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "holds": self.count(Result::Failed) == 0,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "left_for_root": self.locked,
            "not_proved": self.beyond(),
        })
    }
}

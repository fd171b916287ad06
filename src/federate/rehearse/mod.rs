//! Owns `federate rehearse`: proves on the user's own clusters what a move relies on, with a machine that nobody needs.
//!
//! The machine is made, moved and removed by the operations that apply uses. Each move is a process of its own, `federate migrate`, so
//! that one that is killed is really killed ([`child`]). A rehearsal that dies itself is found and removed by the next one.
mod child;
mod legs;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use federation::ClusterName;
use federation::placement::Health;
use operations::rehearsal::Maker;
use operations::{Cleared, Fleet, Guest, Place, VmSpec};

use crate::arguments::{Common, Rehearse};
use crate::report::{Output, Wrong};
use crate::source::{self, Source};
use child::Children;
use report::{Report, Row};

/// One rehearsal.
struct Rehearsal {
    source: Source,
    asked: Rehearse,
    from: ClusterName,
    to: ClusterName,
    children: Children,
    /// The machine, once it was made, and what it looked like then.
    machine: Option<Machine>,
    /// Archives of moves that were there before, by cluster: another's.
    archives: Vec<(ClusterName, String, String)>,
    stopped: Arc<AtomicBool>,
    report: Report,
}

/// The throw-away machine.
struct Machine {
    guest: Guest,
    looks: std::collections::BTreeMap<String, String>,
    /// Everywhere it was.
    places: Vec<Place>,
}

/// Rehearses, removes what was made, and shows what was seen.
pub(crate) async fn run(common: &Common, asked: &Rehearse, json: bool) -> Result<Output, Wrong> {
    let source = source::open(common)?;
    let (from, to) = ends(&source, asked).await?;
    let children = Children::new(common, asked)?;
    let stopped = Arc::new(AtomicBool::new(false));
    listen(stopped.clone());
    let report = Report::new(&asked.pool, &from, &to);
    let mut rehearsal = Rehearsal {
        source,
        asked: asked.clone(),
        from,
        to,
        children,
        machine: None,
        archives: Vec::new(),
        stopped,
        report,
    };
    if rehearsal.answers().await {
        if rehearsal.earlier().await? && rehearsal.create().await {
            rehearsal.moves().await;
        }
        // Anew: what this process knows of the clusters is older than the moves.
        if let Ok(source) = source::open(common) {
            rehearsal.source = source;
        }
        rehearsal.clear().await;
    }
    Ok(rehearsal.report.output(json))
}

/// The clusters that were asked for, both members of the pool.
async fn ends(source: &Source, asked: &Rehearse) -> Result<(ClusterName, ClusterName), Wrong> {
    let (from, to) = (source::cluster(source, &asked.from)?, source::cluster(source, &asked.to)?);
    if from == to {
        return Err(Wrong::misuse(format!("--from and --to are the same cluster: {from}")));
    }
    let rules = source.fleet.rules().await;
    let Some(pool) = rules.federation.pools.get(&asked.pool) else {
        let pools: Vec<&str> = rules.federation.pools.keys().map(|pool| pool.as_str()).collect();
        return Err(Wrong::misuse(format!(
            "there is no pool {:?}; there are: {}",
            asked.pool.as_str(),
            pools.join(", ")
        )));
    };
    for end in [&from, &to] {
        if !pool.clusters.contains(end) {
            return Err(Wrong::misuse(format!("cluster {end} is not a member of pool {}", asked.pool)));
        }
    }
    Ok((from, to))
}

/// The first interrupt ends the rehearsal, which removes what it made; the second one leaves that to the next.
fn listen(stopped: Arc<AtomicBool>) {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if stopped.swap(true, Ordering::SeqCst) {
                std::process::exit(1);
            }
            eprintln!("stopping: what was made is removed first (again: leave it to the next rehearsal)");
        }
    });
}

impl Rehearsal {
    fn fleet(&self) -> &Fleet {
        &self.source.fleet
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn row(&mut self, row: Row) {
        row.say();
        self.report.rows.push(row);
    }

    /// Whether both clusters answer, with their versions.
    async fn answers(&mut self) -> bool {
        let status = self.fleet().status(None).await;
        let mut fine = true;
        for end in [self.from.clone(), self.to.clone()] {
            let row = Row::of("answers, with a quorum", end.as_str());
            let facts = status.clusters.get(&end).map(|cluster| cluster.facts.clone()).unwrap_or_default();
            let version = facts.version.clone().unwrap_or_else(|| "of an unknown version".into());
            let nodes: Vec<&str> =
                facts.nodes.iter().filter(|node| node.online).map(|node| node.name.as_str()).collect();
            if facts.is_healthy() && facts.quorate {
                let seen = format!("Proxmox VE {version}, online: {}", nodes.join(", "));
                self.report.versions.push((end.to_string(), version));
                self.row(row.held(seen));
            } else {
                fine = false;
                self.row(row.failed(unwell(&facts.health), "federate validate --check-connectivity"));
            }
        }
        fine
    }

    /// Removes what an earlier rehearsal left; whether nothing of it stays.
    ///
    /// # Errors
    /// One that may still be under way.
    async fn earlier(&mut self) -> Result<bool, Wrong> {
        let found = self.fleet().rehearsed(&self.asked.pool).await;
        if let Some(living) = found.iter().find(|found| !found.is_over) {
            return Err(Wrong::problem(format!(
                "a rehearsal of pool {} is under way: {} ({}, {})\nNext: wait for it. If its process is dead, rehearse again: from the \
                 machine it ran on at once, from any other a day after it began",
                self.asked.pool,
                living.maker.holder.run,
                living.guest.place,
                living.state()
            )));
        }
        let row = Row::of("removes what an earlier rehearsal left", "");
        let what: Vec<String> =
            found.iter().map(|found| format!("{} ({})", found.guest.place, found.state())).collect();
        // Also where there is no machine: a create that was killed before it made one leaves its operation.
        let cleared = self.fleet().clear_rehearsals(&self.asked.pool, None).await;
        self.report.left_for_root(&cleared);
        let fine = cleared.left.is_empty();
        self.row(match (fine, what.is_empty()) {
            (true, true) => row.held("there was nothing"),
            (true, false) => row.held(format!("found: {}", what.join("; "))),
            (false, _) => row.failed_by(&cleared.left),
        });
        Ok(fine)
    }

    /// Makes the machine, with its oddities, and starts it.
    async fn create(&mut self) -> bool {
        let network = self.network().await;
        let now = self.fleet().site(self.from.as_str()).map_or(0, |site| site.now());
        let spec = VmSpec::rehearsal(&Maker::me(&self.asked.pool, now), &self.asked.storage, network.as_deref());
        let Some(spec) = spec else { return false };
        let row = Row::of("creates a machine", self.from.as_str());
        let request = spec.rehearsal_request(&self.from);
        let guest = match self.fleet().create(&spec, &self.from, &request, None).await {
            Ok(outcome) => outcome.guest,
            Err(failure) => {
                self.row(row.failed_by(&[failure]));
                return false;
            }
        };
        let nic =
            network.map_or_else(|| "no network that both have".to_owned(), |network| format!("network {network}"));
        self.row(row.held(format!("{}; {nic}", guest.place)));
        self.machine = Some(Machine { looks: guest.looks(), places: vec![guest.place.clone()], guest: guest.clone() });
        let row = Row::of("gives it odd sizes, keys and notes, and starts it", self.from.as_str());
        match self.fleet().dress(&guest).await {
            Ok(dressed) => {
                self.row(row.held(dressed.seen.join("; ")));
                let looks = dressed.guest.looks();
                self.machine = Some(Machine { looks, places: vec![dressed.guest.place.clone()], guest: dressed.guest });
                true
            }
            Err(failure) => {
                self.row(row.failed_by(&[failure]));
                false
            }
        }
    }

    /// The network that was asked for, or the first one that both clusters have.
    async fn network(&self) -> Option<String> {
        if self.asked.network.is_some() {
            return self.asked.network.clone();
        }
        let rules = self.fleet().rules().await;
        let networks = |name: &ClusterName| rules.federation.clusters.get(name).map(|cluster| &cluster.networks);
        let (ours, theirs) = (networks(&self.from)?, networks(&self.to)?);
        ours.keys().find(|name| theirs.contains_key(*name)).cloned()
    }

    /// Removes everything that was made, and looks whether anything is left.
    async fn clear(&mut self) {
        let known = self.machine.as_ref().map(|machine| machine.guest.record());
        let cleared: Cleared = self.fleet().clear_rehearsals(&self.asked.pool, known.as_ref()).await;
        let row = Row::of("removes everything it made", "");
        self.report.left_for_root(&cleared);
        if !cleared.left.is_empty() {
            self.row(row.failed_by(&cleared.left));
            return;
        }
        let archives = self.archives_left().await;
        if !archives.is_empty() {
            let commands =
                archives.iter().map(|(cluster, volid)| format!("on a node of {cluster}: pvesm free {volid}"));
            let commands: Vec<String> = commands.collect();
            self.row(row.failed(format!("archives stay: {}", archives.len()), commands.join("; ")));
            return;
        }
        let locked = match self.report.locked.len() {
            0 => "nothing is left".to_owned(),
            count => format!("{count} stay, which Proxmox VE locked: for root, below"),
        };
        self.row(row.held(locked));
    }

    /// Archives of this machine's moves that are still there.
    async fn archives_left(&self) -> Vec<(String, String)> {
        let Some(machine) = &self.machine else { return Vec::new() };
        let places: Vec<String> =
            machine.places.iter().map(|place| format!("{}/{}", place.cluster, place.vmid)).collect();
        let mut left = Vec::new();
        for (cluster, node, storage) in &self.archives {
            let there = self.fleet().archives_of_moves(cluster.as_str(), node, storage).await.unwrap_or_default();
            let ours = there.into_iter().filter(|(volid, notes)| {
                !self.report.archives_before.contains(volid)
                    && places.iter().any(|place| notes.ends_with(place.as_str()))
            });
            left.extend(ours.map(|(volid, _)| (cluster.to_string(), volid)));
        }
        left
    }
}

/// Where the trail of the moves is written: what the user names, or a file that goes.
fn trail(asked: &Rehearse) -> PathBuf {
    let own = || std::env::temp_dir().join(format!("moxxie-rehearsal-{}.jsonl", std::process::id()));
    asked.audit_file.clone().unwrap_or_else(own)
}

/// Seconds since then, for a table.
fn since(then: Instant) -> f64 {
    then.elapsed().as_secs_f64()
}

/// Why a cluster that is not healthy is not.
fn unwell(health: &Health) -> String {
    match health {
        Health::Reachable => "it answers and has no quorum".to_owned(),
        Health::Unreachable(why) | Health::Unknown(why) => why.clone(),
        Health::NotAsked => "it was not asked".to_owned(),
    }
}

//! Owns the moves of a rehearsal: there and back by each method, what is checked before and compared after.
use std::time::Instant;

use federation::ClusterName;
use federation::migration::Step;
use federation::model::Method;
use operations::{Guest, Place};
use serde_json::Value;

use super::child::{Call, Ended, Kill};
use super::report::Row;
use super::{Machine, Rehearsal, since};

/// Where the first move is killed: before the source is fenced, while only the archive has the newest state on its way, and past the
/// point of no return.
const KILLS: [Kill; 3] = [
    Kill { before: Step::Onboot, at: Step::Backup },
    Kill { before: Step::Transfer, at: Step::Restore },
    Kill { before: Step::Live, at: Step::Start },
];

/// One move.
#[derive(Debug, Clone)]
struct Leg {
    from: ClusterName,
    to: ClusterName,
    method: Method,
    kills: &'static [Kill],
}

/// What came of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Well,
    /// Not at all, and it need not: the path has another method.
    Not,
    Wrong,
}

impl Leg {
    fn title(&self) -> String {
        format!("{} → {}", self.from, self.to)
    }

    fn is_direct(&self) -> bool {
        self.method != Method::BackupRestore
    }
}

impl Rehearsal {
    /// Every move: by backup and restore there and back, then by what the paths declare beside that.
    pub(super) async fn moves(&mut self) {
        let mut legs = self.legs().into_iter();
        while let Some(leg) = legs.next() {
            if self.is_stopped() {
                let row = Row::of(format!("moves it by {}", leg.method), leg.title());
                self.row(row.failed("stopped by the user", "rehearse again"));
                break;
            }
            match self.leg(&leg).await {
                Went::Well => {}
                Went::Not => {
                    // Its way back is no move either.
                    legs.next();
                }
                Went::Wrong => break,
            }
        }
        for leg in legs {
            let row = Row::of(format!("moves it by {}", leg.method), leg.title());
            self.row(row.not_tried("a row above failed"));
        }
    }

    fn legs(&self) -> Vec<Leg> {
        let leg = |there: bool, method: Method, kills: &'static [Kill]| {
            let (from, to) = if there { (&self.from, &self.to) } else { (&self.to, &self.from) };
            Leg { from: from.clone(), to: to.clone(), method, kills }
        };
        let mut legs = vec![leg(true, Method::BackupRestore, &KILLS), leg(false, Method::BackupRestore, &[])];
        let (there, back) = (self.declared(&self.from, &self.to), self.declared(&self.to, &self.from));
        if there != Method::BackupRestore || back != Method::BackupRestore {
            legs.extend([leg(true, there, &[]), leg(false, back, &[])]);
        }
        legs
    }

    fn declared(&self, from: &ClusterName, to: &ClusterName) -> Method {
        self.fleet()
            .facts(from.as_str())
            .migration_paths
            .get(to)
            .map(|path| path.method)
            .unwrap_or(Method::BackupRestore)
    }

    async fn leg(&mut self, leg: &Leg) -> Went {
        let Some(machine) = &self.machine else { return Went::Wrong };
        let guest = machine.guest.clone();
        // The first copy is kept, for its fence is tried; what Proxmox VE sends itself is always kept.
        let keep = !leg.kills.is_empty() || leg.is_direct();
        let call = Call {
            vmid: guest.place.vmid,
            uuid: &guest.uuid,
            from: leg.from.as_str(),
            to: leg.to.as_str(),
            method: leg.method,
            keep,
        };
        match self.checks(leg, &call).await {
            Went::Well => {}
            other => return other,
        }
        let Some(place) = self.carry(leg, &call).await else { return Went::Wrong };
        let Some(moved) = self.compare(leg, &place).await else { return Went::Wrong };
        let fenced = keep && !leg.is_direct();
        if fenced && !self.fence(&guest).await {
            return Went::Wrong;
        }
        if let Some(machine) = &mut self.machine {
            machine.guest = moved;
        }
        Went::Well
    }

    /// Every check of the move, before anything of it is done.
    async fn checks(&mut self, leg: &Leg, call: &Call<'_>) -> Went {
        let row = Row::of(format!("checks of a move by {}", leg.method), leg.title());
        let began = Instant::now();
        let plan = match self.children.plan(call).await {
            Ok(plan) => plan,
            Err(why) => {
                self.row(row.failed(why, "mend that, and rehearse again"));
                return Went::Wrong;
            }
        };
        if plan["feasible"] == true {
            self.note_archives(leg, &plan).await;
            let number = |name: &str| plan[name].as_u64().unwrap_or_default();
            let transfer = plan["transfer"]["from"].as_str().map(|name| format!(", over {name}")).unwrap_or_default();
            let count = plan["checks"].as_array().map_or(0, Vec::len);
            let seen = format!(
                "all {count} hold; {} of disks{transfer}; predicted downtime {} s",
                federation::Bytes(number("bytes")).human(),
                number("downtime_seconds")
            );
            self.row(row.took(since(began)).held(seen));
            return Went::Well;
        }
        let problems = problems(&plan).join("; ");
        // A path that was declared for another method need not have a transfer storage.
        if !leg.is_direct() && self.declared(&leg.from, &leg.to) != leg.method {
            self.row(row.not_tried(format!("the path's method is another, and this one is not possible: {problems}")));
            return Went::Not;
        }
        self.row(row.took(since(began)).failed(problems, "mend what is named, and rehearse again"));
        Went::Wrong
    }

    /// Remembers which archives of moves were on the transfer storage before: they are others'.
    async fn note_archives(&mut self, leg: &Leg, plan: &Value) {
        let Some(machine) = &self.machine else { return };
        let node = machine.guest.place.node.clone();
        let Some(storage) = plan["transfer"]["from"].as_str().map(str::to_owned) else { return };
        if self.archives.iter().any(|(cluster, _, known)| *cluster == leg.from && *known == storage) {
            return;
        }
        let there = self.fleet().archives_of_moves(leg.from.as_str(), &node, &storage).await.unwrap_or_default();
        self.report.archives_before.extend(there.into_iter().map(|(volid, _)| volid));
        self.archives.push((leg.from.clone(), node, storage));
    }

    /// Makes the move, killed where the leg says so. Where the machine is then; `None` where it failed.
    async fn carry(&mut self, leg: &Leg, call: &Call<'_>) -> Option<Place> {
        let began = Instant::now();
        let mut killed = 0;
        for kill in leg.kills {
            let row = Row::of(format!("is killed (SIGKILL) in step {}", kill.at), leg.title());
            match self.children.make(call, &self.source.fleet, Some(*kill)).await {
                Ended::Killed(step) => {
                    killed += 1;
                    let seen = self.after_kill(call, step).await;
                    let fine = seen.is_ok();
                    self.row(match seen {
                        Ok(seen) => row.held(seen),
                        Err(why) => row.failed(why, "look at both machines before anything else is done"),
                    });
                    if !fine {
                        return None;
                    }
                }
                Ended::Done(value) => {
                    self.row(row.not_tried("the move was done before it could be killed"));
                    return self.arrived(leg, &value, began, killed);
                }
                Ended::Failed(why) => {
                    self.row(row.failed(why, "mend that, and rehearse again"));
                    return None;
                }
            }
        }
        match self.children.make(call, &self.source.fleet, None).await {
            Ended::Done(value) => self.arrived(leg, &value, began, killed),
            Ended::Failed(why) => {
                let row = Row::of(format!("moves it by {}", leg.method), leg.title());
                self.row(row.took(since(began)).failed(why, "mend that, and rehearse again"));
                None
            }
            Ended::Killed(_) => None,
        }
    }

    /// How it stands after a kill. Never may two copies run.
    async fn after_kill(&self, call: &Call<'_>, step: Step) -> Result<String, String> {
        let journal = self.fleet().move_journal(call.from, call.uuid).await;
        let journal = journal.ok_or("the operation's journal is gone")?;
        let ends: Vec<Place> = journal.from.iter().chain([&journal.to]).cloned().collect();
        let running = self.fleet().running_among(&ends).await.ok_or("what runs can't be asked")?;
        match running.as_slice() {
            [] => Ok(format!("in step {step}: {}; nothing runs", journal.in_words())),
            [one] => Ok(format!("in step {step}: {}; {}/{} runs", journal.in_words(), one.cluster, one.vmid)),
            both => Err(format!("{} copies run", both.len())),
        }
    }

    fn arrived(&mut self, leg: &Leg, value: &Value, began: Instant, killed: usize) -> Option<Place> {
        let row = Row::of(format!("moves it by {}", leg.method), leg.title()).took(since(began));
        let to = &value["to"];
        let place = (|| {
            let vmid = u32::try_from(to["vmid"].as_u64()?).ok()?;
            let cluster = to["cluster"].as_str()?.parse().ok()?;
            Some(Place { cluster, node: to["node"].as_str()?.to_owned(), vmid })
        })();
        match &place {
            Some(place) => {
                let calls = if killed > 0 {
                    format!(", by {} calls, {killed} of them killed", killed + 1)
                } else {
                    String::new()
                };
                let down = self.children.downtime().filter(|_| killed == 0).map(|down| format!("; downtime {down} s"));
                self.row(row.held(format!("it is on {place}{calls}{}", down.unwrap_or_default())));
                if let Some(machine) = &mut self.machine {
                    machine.places.push(place.clone());
                }
            }
            None => self.row(row.failed(format!("it said {value}"), "report this")),
        }
        place
    }

    /// Compares the machine with what it was, and looks whether it alone runs.
    async fn compare(&mut self, leg: &Leg, place: &Place) -> Option<Guest> {
        let row = Row::of("is the same machine, and runs alone", leg.title());
        let Some(machine) = &self.machine else { return None };
        if let Some(site) = self.fleet().site(place.cluster.as_str()) {
            // What was looked at before the move is of no use any more.
            let _ = site.fresh().await;
        }
        let guest = match self.fleet().look_at(&format!("{}/{}", place.cluster, place.vmid)).await {
            Ok(guest) => guest,
            Err(failure) => {
                self.row(row.failed_by(&[failure]));
                return None;
            }
        };
        let Machine { looks, places, .. } = machine;
        let mut wrong = guest.differs_from(looks);
        let count = looks.len();
        match self.fleet().running_among(places).await {
            Some(running) if running.len() == 1 => {}
            Some(running) => wrong.push(format!("{} copies run", running.len())),
            None => wrong.push("what runs can't be asked".to_owned()),
        }
        if wrong.is_empty() {
            self.row(row.held(format!("{count} keys, UUID and MAC among them")));
            return Some(guest);
        }
        self.row(row.failed(wrong.join("; "), "report this"));
        None
    }

    /// Tries the fence of the copy that the move left.
    async fn fence(&mut self, source: &Guest) -> bool {
        let at = &source.place;
        let row = Row::of("the copy that it leaves is fenced", at.cluster.as_str());
        let copy = Guest { place: at.clone(), ..source.clone() };
        let tried = self.fleet().tries_fence(&copy).await;
        let held = tried.is_ok();
        self.row(match tried {
            Ok(refusals) => row.held(format!("refused: {}", refusals.join("; "))),
            Err(why) => row.failed(why, "report this"),
        });
        held
    }
}

/// What stands in the way of a move, from its plan.
pub(super) fn problems(plan: &Value) -> Vec<String> {
    let checks = plan["checks"].as_array().cloned().unwrap_or_default();
    let mut problems = Vec::new();
    for check in checks {
        for finding in check["findings"].as_array().into_iter().flatten() {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            problems.push(format!(
                "{}: {} ({})",
                check["id"].as_str().unwrap_or_default(),
                text("problem"),
                text("next")
            ));
        }
    }
    problems
}

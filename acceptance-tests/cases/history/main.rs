//! Crash points of machines with a past. One machine moves there and back, over and over, by every method and in both directions; the
//! provider is killed in each move, once per write, done or lost; and between moves days go by, and people do what people do to copies.
//! Copies and archives of earlier moves, with VMIDs of their own, are there all the while.
//!
//! The provider runs in a runtime of its own, which is torn down while one call is held: as `kill -9`, no line of it runs on.
mod back;
mod people;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use protocol::testing::{Applied, CoreClient, Planned, State};
use protocol::{Diagnostics, Value};
use simulator::{Action, GateHit, Options, Rule, Simulator, VmSnapshot, World};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot::Receiver;

const TYPE: &str = "moxxie_virtual_machine";
const YAML: &str = include_str!("../main_job/multi-site.yaml");
const SITES: [&str; 2] = ["worldstream-prod", "databarn-dr"];
/// Fewest points of both machines together.
const FEWEST: usize = 250;
/// Everything random comes from it; `MOXXIE_SEED` sets another one.
const SEED: u64 = 13;
/// Most applies until all is settled.
const APPLIES: u32 = 4;
/// One kill in so many is at a read, whichever comes.
const READS: u64 = 10;

/// How a machine moves.
#[derive(Debug, Clone, Copy)]
struct Way {
    method: &'static str,
    migration: [(&'static str, &'static str); 3],
}

const fn way(method: &'static str, source: &'static str, copy: &'static str, archive: &'static str) -> Way {
    Way { method, migration: [("source", source), ("keep_source", copy), ("keep_archive", archive)] }
}

const ARCHIVES: [Way; 3] = [
    way("backup-restore", "delete", "3d", "0s"),
    way("backup-restore", "keep", "3d", "2d"),
    way("backup-restore", "delete", "3d", "5d"),
];
const ALL: [Way; 6] = [
    way("backup-restore", "delete", "3d", "2d"),
    way("offline", "keep", "3d", "0s"),
    way("storage-migration", "keep", "3d", "0s"),
    way("backup-restore", "keep", "3d", "2d"),
    way("offline", "keep", "1d", "0s"),
    way("storage-migration", "keep", "1d", "0s"),
];

/// A generator whose numbers follow from its seed alone (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap_or_default()
    }
}

/// Where a run is killed: at its n-th write or its n-th call, done or not.
#[derive(Debug, Clone, Copy)]
struct Kill {
    writes: bool,
    n: usize,
    executed: bool,
}

/// What the clusters tell a test at each write: it has the guest write, sees that one copy runs at most, and holds the call that is due.
#[derive(Default)]
struct Watch {
    due: Mutex<Option<(usize, bool)>>,
    count: AtomicUsize,
    held: Mutex<Option<Receiver<GateHit>>>,
    wrong: Mutex<Vec<String>>,
}

impl Watch {
    fn see(&self, sim: &Simulator, uuid: &str, at: &str) {
        let running = sim.running_copies(uuid);
        for copy in &running {
            sim.cluster(&copy.cluster).guest_write(copy.vmid);
        }
        if running.len() > 1 {
            self.wrong.lock().expect("the list").push(format!("{} run before {at}", words(&running)));
        }
        let n = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let mut due = self.due.lock().expect("what is due");
        if let Some((_, executed)) = due.filter(|(wanted, _)| *wanted == n) {
            *due = None;
            *self.held.lock().expect("the gate") = Some(sim.gate(1, executed));
        }
    }
}

fn words(copies: &[VmSnapshot]) -> String {
    let one = |vm: &VmSnapshot| {
        let fence = if vm.template { ", fenced" } else { "" };
        let lock = if vm.lock.is_some() { ", locked" } else { "" };
        format!("{}/{} {}{fence}{lock}", vm.cluster, vm.vmid, vm.status)
    };
    copies.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A machine, its clusters, and all that happened to it.
struct Past {
    sim: Arc<Simulator>,
    clusters: Runtime,
    files: tempfile::TempDir,
    role: &'static str,
    name: &'static str,
    uuid: String,
    state: State,
    at: usize,
    random: Random,
    watch: Arc<Watch>,
    strangers: Vec<(usize, u32)>,
    /// Writes of the last move that came to its end undisturbed.
    made: Option<usize>,
    told: Vec<String>,
}

impl Past {
    fn new(role: &'static str, name: &'static str, seed: u64) -> Past {
        working_folder();
        let clusters = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let mut world = World::three_sites().expect("a world");
        world.content = 4096;
        let sim = clusters.block_on(Simulator::start(world, Options::default())).expect("a simulator");
        let mut past = Past {
            sim: Arc::new(sim),
            clusters,
            files: tempfile::tempdir().expect("a folder"),
            role,
            name,
            uuid: String::new(),
            state: State::default(),
            at: 0,
            random: Random(seed),
            watch: Arc::default(),
            strangers: Vec::new(),
            made: None,
            told: Vec::new(),
        };
        let made = past.apply_once(ALL[0], 0).expect("a machine");
        past.state = made.state;
        past.uuid = past.state.value.attr("id").as_str().expect("a UUID").to_owned();
        past.sim.advance(Duration::from_secs(15));
        past.observe();
        past
    }

    fn observe(&self) {
        for method in ["POST", "PUT", "DELETE"] {
            let (sim, watch, uuid): (Weak<Simulator>, _, _) =
                (Arc::downgrade(&self.sim), self.watch.clone(), self.uuid.clone());
            let hook = move |call: &simulator::Matched| {
                if let Some(sim) = sim.upgrade() {
                    watch.see(&sim, &uuid, &format!("{} {}", call.method, call.path));
                }
            };
            self.sim.fault(Rule::on(method, "*", Action::call(hook)));
        }
    }

    fn block(&self, way: Way) -> Value {
        // A guest that runs keeps its VLAN.
        let yaml = YAML.replace("method: backup-restore", &format!("method: {}", way.method));
        let yaml = yaml.replace("vlan_range: [200, 299]", "vlan_range: [100, 299]").replace("vlan: 220", "vlan: 120");
        let file = self.files.path().join(format!("{}.yaml", way.method));
        std::fs::write(&file, yaml).expect("a federation's file");
        let clusters = self.sim.clusters().into_iter().map(|cluster| {
            let token = |role: &str| Value::from(cluster.token(role).expect("a token"));
            let connection = Value::object([
                ("endpoints", Value::list([cluster.url()])),
                ("api_token", token(self.role)),
                ("migration_token", token("platform")),
                ("fingerprints", Value::list([cluster.fingerprint()])),
            ]);
            (cluster.name().to_owned(), connection)
        });
        Value::object([("config_file", Value::from(file.display().to_string())), ("clusters", Value::map(clusters))])
    }

    fn config(&self, way: Way, at: usize) -> Value {
        let migration = Value::object(way.migration.map(|(key, value)| (key, Value::from(value))));
        let disk = Value::object([("size", "8GB"), ("storage", "fast")]);
        Value::object([
            ("name", Value::from(self.name)),
            ("pool", "production-pool".into()),
            ("cluster", SITES[at].into()),
            ("memory", "4GB".into()),
            ("disks", Value::map([("scsi0", disk)])),
            ("network_devices", Value::map([("net0", Value::object([("network", "app")]))])),
            ("migration", migration),
        ])
    }

    /// A plan as core makes it: refreshed first. A process of its own.
    fn plan(&self, way: Way, config: &Value) -> (State, Planned, Diagnostics) {
        let (block, state, config) = (self.block(way), self.state.clone(), config.clone());
        process().block_on(async move {
            let core = core(block).await;
            let (state, said) = match state.value.is_null() {
                true => (state, Diagnostics::new()),
                false => core.read(TYPE, &state).await.expect("an answer"),
            };
            let plan = core.plan(TYPE, &state, &config).await.expect("a plan");
            (state, plan, said)
        })
    }

    /// Plans and applies.
    fn apply_once(&self, way: Way, at: usize) -> Result<Applied, String> {
        let config = self.config(way, at);
        let (state, plan, _) = self.plan(way, &config);
        sound(&plan.diagnostics)?;
        let block = self.block(way);
        Ok(process()
            .block_on(async move { core(block).await.apply(TYPE, &state, &config, &plan).await.expect("an answer") }))
    }

    /// Moves it to the other site, and kills the provider on the way. The call it was killed at; none where it came to its end.
    fn leg(&mut self, way: Way, kill: Kill) -> Result<Option<String>, String> {
        let to = 1 - self.at;
        let config = self.config(way, to);
        let (state, plan, _) = self.plan(way, &config);
        sound(&plan.diagnostics).map_err(|said| format!("the plan is refused: {said}"))?;
        let block = self.block(way);
        self.watch.count.store(0, Ordering::SeqCst);
        if kill.writes {
            *self.watch.due.lock().expect("what is due") = Some((kill.n, kill.executed));
        } else {
            *self.watch.held.lock().expect("the gate") = Some(self.sim.gate(kill.n as u64, kill.executed));
        }
        let provider = process();
        let run = provider.spawn(async move { core(block).await.apply(TYPE, &state, &config, &plan).await });
        let hit = loop {
            let mut held = self.watch.held.lock().expect("the gate");
            if let Some(Ok(hit)) = held.as_mut().map(Receiver::try_recv) {
                break Some(hit);
            }
            drop(held);
            if run.is_finished() {
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        *self.watch.due.lock().expect("what is due") = None;
        *self.watch.held.lock().expect("the gate") = None;
        let applied = match hit {
            None => Some(provider.block_on(run).expect("no panic").expect("an answer")),
            Some(_) => None,
        };
        provider.shutdown_timeout(Duration::from_secs(30));
        self.sim.release();
        let hit = hit.map(|hit| format!("{} {} {}", hit.call.cluster, hit.call.method, hit.call.path));
        self.told.push(format!("{} to {}: killed at {hit:?} ({kill:?})", way.method, SITES[to]));
        self.made = None;
        if let Some(applied) = applied {
            let whole = !applied.diagnostics.has_errors();
            self.made = whole.then(|| self.watch.count.load(Ordering::SeqCst));
            self.state = applied.state;
        }
        self.at = to;
        Ok(hit)
    }

    /// What must hold at any instant.
    fn instant(&self) -> Vec<String> {
        let (written, held) = (self.sim.newest_written(&self.uuid), self.sim.newest_held(&self.uuid));
        let mut wrong = std::mem::take(&mut *self.watch.wrong.lock().expect("the list"));
        if written != held {
            wrong.push(format!("record {written} is nowhere, the newest is {held}"));
        }
        let running = self.sim.running_copies(&self.uuid);
        if running.len() > 1 {
            wrong.push(format!("{} run", words(&running)));
        }
        wrong
    }

    /// Plans and applies until a plan is empty, and what is wrong then.
    fn converge(&mut self, way: Way) -> Vec<String> {
        // A call of Proxmox VE's own migration whose answer nobody got may still begin one for a while.
        self.sim.advance(Duration::from_secs(360));
        let written = self.sim.newest_written(&self.uuid);
        let config = self.config(way, self.at);
        let mut said = Vec::new();
        for applies in 0..=APPLIES {
            let (state, plan, read) = self.plan(way, &config);
            said.extend(texts(&read).chain(texts(&plan.diagnostics)));
            if state.value.is_null() {
                return vec!["it left state".into()];
            }
            if !plan.diagnostics.has_errors() && plan.planned_state == state.value {
                self.state = state;
                return [self.settled(written), self.named_for_removal(&said), self.instant()].concat();
            }
            if applies == APPLIES {
                break;
            }
            let block = self.block(way);
            let config = config.clone();
            let applied = process().block_on(async move {
                core(block).await.apply(TYPE, &state, &config, &plan).await.expect("an answer")
            });
            said.extend(texts(&applied.diagnostics));
            self.follow(&applied.diagnostics);
            said.extend(applied.violations.iter().map(|broken| format!("the contract: {broken}")));
            self.state = applied.state;
        }
        vec![format!("no plan is empty after {APPLIES} applies: {}", said.join("\n      "))]
    }

    /// In what way it is not where it should be, alone and whole.
    fn settled(&self, written: u64) -> Vec<String> {
        let (mut wrong, copies) = (Vec::new(), self.sim.copies(&self.uuid));
        let running: Vec<&VmSnapshot> = copies.iter().filter(|vm| vm.running).collect();
        let [machine] = running[..] else { return vec![format!("it does not run alone: {}", words(&copies))] };
        if machine.cluster != SITES[self.at] || machine.template || machine.lock.is_some() {
            wrong.push(format!("it should run on {}: {}", SITES[self.at], words(&copies)));
        }
        if machine.disks.iter().map(|disk| disk.newest).max() < Some(written) {
            wrong.push(format!("record {written} is lost: {:?}", machine.disks));
        }
        let notes = machine.config.get("description").cloned().unwrap_or_default();
        if notes.contains("\"op\":\"") && notes.starts_with("Being moved") {
            wrong.push(format!("its notes are {notes:?}"));
        }
        let of_state = |key: &str| self.state.value.attr(key).as_i64();
        if of_state("vmid") != Some(i64::from(machine.vmid)) {
            wrong.push(format!("state has vmid {:?}, not {}", of_state("vmid"), machine.vmid));
        }
        for copy in self.state.value.attr("retired_copies").as_list().unwrap_or_default() {
            let at = (copy.attr("cluster").as_str(), copy.attr("vmid").as_i64());
            if at == (Some(&machine.cluster), Some(i64::from(machine.vmid))) {
                wrong.push("it is listed as its own retired copy".into());
            }
        }
        wrong.extend(self.sim.litter().into_iter().filter(|line| {
            let archive = line.split("archive ").nth(1).and_then(|rest| rest.split(' ').next());
            // Kept archives are named in the machine's notes, and locked sources are root's.
            !line.contains("has lock migrate") && !archive.is_some_and(|archive| notes.contains(archive))
        }));
        wrong
    }

    /// Messages that would have somebody remove the machine.
    fn named_for_removal(&self, said: &[String]) -> Vec<String> {
        let machine = self.sim.running_copies(&self.uuid).pop();
        let Some(machine) = machine else { return Vec::new() };
        let (at, destroy) = (format!("on {}: qm", machine.node), format!("qm destroy {}", machine.vmid));
        let place = format!("node {}, vmid {}:", machine.node, machine.vmid);
        let names = |text: &&String| {
            (text.contains(&at) && text.ends_with(&destroy))
                || (text.contains(&place) && text.contains("remove it by hand"))
                || text.starts_with("the contract:")
        };
        said.iter().filter(names).map(|text| format!("it is said: {text}")).collect()
    }

    /// When all dates are over what may go is gone; and with the machine the rest goes.
    fn ends(&mut self) -> Vec<String> {
        self.sim.advance(Duration::from_secs(30 * 86_400));
        let mut wrong = self.converge(ALL[0]);
        let fenced = |vm: &VmSnapshot| vm.template && vm.config.get("description").is_some_and(|notes| notes != "mine");
        let left: Vec<VmSnapshot> = self.sim.copies(&self.uuid).into_iter().filter(fenced).collect();
        if !left.is_empty() {
            wrong.push(format!("past their dates: {}", words(&left)));
        }
        wrong.extend(self.sim.litter().into_iter().filter(|line| line.contains("archive ")));
        let (state, block) = (self.state.clone(), self.block(ALL[0]));
        let gone = process().block_on(async move {
            let core = core(block).await;
            let plan = core.plan(TYPE, &state, &Value::Null).await.expect("a plan");
            core.apply(TYPE, &state, &Value::Null, &plan).await.expect("an answer")
        });
        wrong.extend(sound(&gone.diagnostics).err());
        let running = self.sim.running_copies(&self.uuid);
        if !running.is_empty() {
            wrong.push(format!("destroyed, and {} run", words(&running)));
        }
        wrong
    }
}

impl Drop for Past {
    fn drop(&mut self) {
        // Listeners end where they were started.
        let _inside = self.clusters.enter();
        self.sim.clear_faults();
    }
}

/// The provider keeps its notes in its working folder.
fn working_folder() {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        std::env::set_current_dir(folder.path()).expect("a working folder");
        folder
    });
}

fn process() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn core(block: Value) -> CoreClient {
    let core = CoreClient::start(provider::Moxxie::new()).await.expect("a provider");
    let said = core.configure(block).await.expect("an answer");
    assert!(!said.has_errors(), "{said:?}");
    core
}

fn texts(said: &Diagnostics) -> impl Iterator<Item = String> + '_ {
    said.iter().map(|one| format!("{} {}", one.summary, one.detail))
}

fn sound(said: &Diagnostics) -> Result<(), String> {
    if said.has_errors() { Err(texts(said).collect::<Vec<_>>().join("; ")) } else { Ok(()) }
}

/// Kills a machine's moves, write by write for each way and direction, until there were `points`. How many held, and what did not.
fn live(role: &'static str, name: &'static str, ways: &[Way], points: usize, seed: u64) -> (usize, Vec<String>) {
    let mut past = Past::new(role, name, seed);
    // By method: moves so far, and how many writes one has, as far as is known.
    let mut next = BTreeMap::<&str, (usize, usize)>::new();
    let (mut held, mut broken, mut turn) = (0, Vec::new(), 0);
    while held + broken.len() < points && turn < points * 2 {
        // Two moves by each way, so that each goes both ways.
        let at = (turn / 2) % ways.len();
        turn += 1;
        let kill = if past.random.below(READS as usize) == 0 {
            Kill { writes: false, n: 1 + past.random.below(120), executed: true }
        } else {
            // In an order that jumps about; each write is done in one round, and lost in the next.
            let (n, writes) = next.entry(ways[at].method).or_insert((0, 36));
            *n += 1;
            let stride = if writes.is_multiple_of(7) { 11 } else { 7 };
            Kill { writes: true, n: 1 + *n * stride % *writes, executed: (*n + *n / *writes).is_multiple_of(2) }
        };
        let began = std::time::Instant::now();
        let killed = past.leg(ways[at], kill);
        let wrong = match &killed {
            Err(refused) => vec![refused.clone()],
            Ok(_) => [past.instant(), past.converge(ways[at])].concat(),
        };
        if wrong.is_empty() && matches!(killed, Ok(Some(_))) {
            held += 1;
        }
        if let (Ok(None), Some((_, writes)), Some(made)) = (&killed, next.get_mut(ways[at].method), past.made.take()) {
            *writes = made.max(12);
        }
        if std::env::var_os("MOXXIE_TRACE").is_some() {
            eprintln!("{name} {turn} {:?} {:?} {}: {killed:?} {wrong:?}", began.elapsed(), ways[at].method, past.at);
        }
        if !wrong.is_empty() {
            let tail = past.told.len().saturating_sub(12);
            let lately = past.told[tail..].join("\n    ");
            broken.push(format!("{}\n  after:\n    {lately}", wrong.join("\n  ")));
            if broken.len() >= 3 {
                break;
            }
            // What is broken stays so: a new machine.
            let seed = past.random.below(usize::MAX) as u64;
            past = Past::new(role, name, seed);
        }
        past.happens();
    }
    broken.extend(
        Some(past.ends()).filter(|wrong| !wrong.is_empty()).map(|wrong| format!("at the end: {}", wrong.join("\n  "))),
    );
    (held, broken)
}

#[test]
fn crash_points_with_history() {
    let seed = std::env::var("MOXXIE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    let (app, all) = std::thread::scope(|scope| {
        let app = scope.spawn(|| live("app", "past-app", &ARCHIVES, FEWEST / 2 - 15, seed));
        let all = scope.spawn(|| live("platform", "past-all", &ALL, FEWEST / 2 + 15, seed + 1));
        (app.join().expect("the app team's machine"), all.join().expect("the platform's machine"))
    });
    let broken = [app.1, all.1].concat();
    let held = app.0 + all.0;
    println!("crash points with history: {}, held: {held}", held + broken.len());
    assert!(broken.is_empty(), "seed {seed}: {} did not hold:\n{}", broken.len(), broken.join("\n"));
    assert!(held >= FEWEST, "only {held} points");
}

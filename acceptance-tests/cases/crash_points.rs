//! A move survives `kill -9`: the provider is killed at its API calls in turn, each done and lost, and applies go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::moving::{FROM, GONE, KEPT, Layout, Left, Machine, NAME, RETURNED, TO, Watch, wanted_on};
use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};
use simulator::{Action, Nth, Rule};

/// Fewest points of all moves together.
const FEWEST: usize = 250;
/// Most applies until everything is settled.
const APPLIES: u32 = 3;
/// Of the calls that change nothing, every third is a point, and only once: done or lost, they leave the same world.
const READS: usize = 3;
/// Runs at once: each is a CLI and a provider.
const AT_ONCE: usize = 2;

/// A way to move.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    migration: &'static str,
    /// Whose token.
    role: &'static str,
    ends: Ends,
    layout: Layout,
}

/// How the run that is killed would have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The machine has moved.
    Moved,
    /// The restore fails, or the third move between storages, so that what is killed is the undo.
    TakenBack,
    /// The target runs and is not well, so that what is killed is the return; then the user wants the machine where it was.
    Returned,
}

const fn way(name: &'static str, migration: &'static str, role: &'static str, ends: Ends, layout: Layout) -> Way {
    Way { name, migration, role, ends, layout }
}

const WAYS: [Way; 6] = [
    way("source deleted", GONE, "app", Ends::Moved, Layout::OneStorage),
    way("source and archive kept", KEPT, "app", Ends::Moved, Layout::OneStorage),
    // A failed restore is in no pool, so that a token with rights on the pool alone may not remove it.
    way("taken back", GONE, "platform", Ends::TakenBack, Layout::OneStorage),
    way("returned", RETURNED, "app", Ends::Returned, Layout::OneStorage),
    way("several storages", GONE, "app", Ends::Moved, Layout::ThreeStorages),
    way("several storages, taken back", GONE, "app", Ends::TakenBack, Layout::ThreeStorages),
];

impl Way {
    fn begin(self, world: &SimulatedWorld) {
        if self.ends != Ends::TakenBack {
            return;
        }
        let failing = |message: &str| Action::FailTask { message: message.into(), late: false };
        world.fault(match self.layout {
            Layout::OneStorage => {
                Rule::on("POST", "/nodes/*/qemu", failing("command 'vma extract' failed: exit code 1")).cluster(TO)
            }
            Layout::ThreeStorages => {
                Rule::on("POST", "*/move_disk", failing("no space left")).cluster(TO).nth(Nth::From(3))
            }
        });
    }
}

/// Where the provider is killed.
#[derive(Debug, Clone)]
struct Point {
    way: Way,
    call: u64,
    executed: bool,
}

const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];

/// The points of a way: every write, and some reads, from shortly before the first write to the end.
fn points(machine: &Machine, cli: &Cli, way: Way) -> Vec<Point> {
    let world = machine.world();
    let workspace = machine.moving(&world, cli, way.role, way.migration);
    let _watch = Watch::over(&world, machine);
    way.begin(&world);
    world.clear_requests();
    workspace.apply().expect(if way.ends == Ends::Moved { 0 } else { 1 });
    let calls = world.requests();
    let is_write = |n: &usize| calls[*n].method != "GET";
    let first = (0..calls.len()).find(is_write).expect("a move writes");
    // Up to what is different it is as in the other ways.
    let post =
        |end: &'static str| (0..calls.len()).rfind(|n| calls[*n].method == "POST" && calls[*n].path.ends_with(end));
    let started = |n: &usize| calls[*n].cluster == TO && calls[*n].path.ends_with("/status/start");
    let start = || (0..calls.len()).find(started).expect("the target is started");
    let (restored, moved) = (post("/qemu").unwrap_or(first), post("/move_disk"));
    let (after, until) = match (way.layout, way.ends) {
        // From "live" on, too, it is as in the other ways.
        (Layout::ThreeStorages, Ends::Moved) => (restored, start()),
        (Layout::ThreeStorages, _) => (moved.expect("a move between storages"), calls.len()),
        (_, Ends::Moved) if way.migration == KEPT => (start(), calls.len()),
        (_, Ends::Moved) => (first.saturating_sub(2), calls.len()),
        (_, Ends::TakenBack) => (restored, calls.len()),
        (_, Ends::Returned) => (start(), calls.len()),
    };
    let chosen = (after..until).filter(|n| is_write(n) || n % READS == 0);
    let how = |n: usize| if is_write(&n) { vec![true, false] } else { vec![n.is_multiple_of(2)] };
    chosen.flat_map(|n| how(n).into_iter().map(move |executed| Point { way, call: n as u64 + 1, executed })).collect()
}

fn hold(machine: &Machine, cli: &Cli, point: &Point) -> Result<(), String> {
    let world = machine.world();
    let before = world.vm(FROM, NAME);
    let workspace = machine.moving(&world, cli, point.way.role, point.way.migration);
    let watch = Watch::over(&world, machine);
    point.way.begin(&world);
    let killed = workspace.killed_at(&world, &APPLY, point.call, point.executed, || watch.look("the kill"));
    let at = match &killed {
        Killed::At(hit) => format!("{} {} {}", hit.call.cluster, hit.call.method, hit.call.path),
        Killed::Never => "never".into(),
    };
    world.clear_faults();
    watch.begin(&world);
    let uuid = machine.uuid();
    let (written, held) = (world.newest_written(&uuid), world.newest_held(&uuid));
    let running = world.running_copies(&uuid).len();
    let mut wrong = Vec::new();
    if written != held {
        wrong.push(format!("record {written} is nowhere, the newest is {held}"));
    }
    if running > 1 {
        wrong.push(format!("{running} copies run"));
    }
    let (on, left) = match point.way.ends {
        Ends::Returned => {
            wanted_on(&workspace, TO, FROM);
            (FROM, Left::PerhapsCopy)
        }
        _ => (TO, Left::from(point.way.migration == KEPT)),
    };
    wrong.extend(converge(&workspace));
    wrong.extend(machine.settled_on(&world, &before, on, written, left));
    wrong.extend(watch.wrongs());
    if wrong.is_empty() { Ok(()) } else { Err(format!("killed at {at}: {}", wrong.join("\n    "))) }
}

/// Plans and applies until a plan is empty. What unfinished business is must show in each plan before.
fn converge(workspace: &Workspace) -> Vec<String> {
    let (mut wrong, mut failed) = (Vec::new(), Vec::new());
    for applies in 0..=APPLIES {
        let plan = workspace.plan_to("next.tfplan");
        match plan.code {
            0 => return wrong,
            2 if applies < APPLIES => {
                let shown = plan.flat();
                if !shown.contains("operation") && !shown.contains(&format!("{FROM:?} -> {TO:?}")) {
                    wrong.push(format!("the plan shows neither the operation nor the move: {shown}"));
                }
                let apply = workspace.apply_plan("next.tfplan");
                if apply.code != 0 {
                    failed.push(apply.flat());
                }
            }
            code => wrong.push(format!("plan exits with {code} after {applies} applies: {}", plan.flat())),
        }
    }
    // A failed apply is no fault where the next one converges.
    wrong.extend(failed);
    wrong
}

/// A CLI with the machines that it made, one per layout: state names providers in each one's own words.
struct With {
    cli: Cli,
    machines: [Machine; 2],
}

impl With {
    fn new(cli: Cli) -> With {
        With { machines: LAYOUTS.map(|layout| Machine::made_with(&cli, layout)), cli }
    }

    fn machine(&self, way: Way) -> &Machine {
        let at = LAYOUTS.iter().position(|layout| *layout == way.layout).expect("its layout");
        &self.machines[at]
    }
}

const LAYOUTS: [Layout; 2] = [Layout::OneStorage, Layout::ThreeStorages];

/// Every point, with the CLI whose turn it is: of a write that is done and lost each gets one. `MOXXIE_ACC_ALL`: each gets both.
fn turns(clis: &[With], points: Vec<Point>) -> Vec<(&With, Point)> {
    let all = std::env::var_os("MOXXIE_ACC_ALL").is_some();
    let of = |(at, point): (usize, Point)| {
        let mine = clis.iter().enumerate().filter(move |(n, _)| all || at % clis.len() == *n);
        mine.map(move |(_, with)| (with, point.clone()))
    };
    points.into_iter().enumerate().flat_map(of).collect()
}

#[test]
fn crash_points() {
    let clis: Vec<With> = clis().into_iter().map(With::new).collect();
    let only = std::env::var("MOXXIE_ACC_WAY").ok();
    let ways = WAYS.into_iter().filter(|way| only.as_deref().is_none_or(|only| way.name.contains(only)));
    let points: Vec<Point> = ways.flat_map(|way| points(clis[0].machine(way), &clis[0].cli, way)).collect();
    let points = turns(&clis, points);
    let next = AtomicUsize::new(0);
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((with, point)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let held = catch_unwind(AssertUnwindSafe(|| hold(with.machine(point.way), &with.cli, point)));
                    let why = match held {
                        Ok(Ok(())) => continue,
                        Ok(Err(why)) => why,
                        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into()),
                    };
                    let how = if point.executed { "done" } else { "lost" };
                    let line = format!("{:?}, {}, call {} {how}, {why}", with.cli.kind, point.way.name, point.call);
                    broken.lock().expect("the list").push(line);
                }
            });
        }
    });
    let broken = broken.into_inner().expect("the list");
    println!("crash points: {}, held: {}", points.len(), points.len() - broken.len());
    assert!(broken.is_empty(), "{} points did not hold:\n{}", broken.len(), broken.join("\n"));
    assert!(only.is_some() || points.len() >= FEWEST, "only {} points", points.len());
}

//! A create survives `kill -9`: the provider is killed at each API call of an apply, done and lost, and the next apply ends
//! with exactly one machine.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};
use simulator::{GuestSpec, VmSnapshot};

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const YAML: &str = include_str!("main_job/multi-site.yaml");
const MAIN: &str = r#"
resource "moxxie_virtual_machine" "web" {
  name            = "web-1"
  pool            = "production-pool"
  memory          = "2GB"
  disks           = { scsi0 = { size = "4GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
  tags            = ["web", "blue"]
}
"#;
const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];
/// Runs at once: each is a CLI and a provider.
const AT_ONCE: usize = 2;

/// How the machine comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From nothing.
    Empty,
    /// From a template, whose disk is smaller.
    Clone,
}

impl Way {
    fn points(self) -> &'static str {
        match self {
            Way::Empty => "create points",
            Way::Clone => "create points of a copy",
        }
    }
}

/// The template's VMID.
const TEMPLATE: u32 = 9000;

fn world(way: Way) -> SimulatedWorld {
    let world = SimulatedWorld::three_sites();
    if way == Way::Clone {
        let config = [
            ("name", "golden"),
            ("template", "1"),
            ("memory", "1024"),
            ("scsi0", "ceph-pool:2"),
            ("net0", "virtio,bridge=vmbr0"),
        ];
        let guest = GuestSpec {
            vmid: TEMPLATE,
            node: "ws1".to_owned(),
            config: config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            pool: Some("production-pool".to_owned()),
            running: false,
        };
        world.cluster("worldstream-prod").create_vm(&guest).expect("room for the template");
    }
    world
}

/// The machines, without the template.
fn machines(world: &SimulatedWorld) -> Vec<VmSnapshot> {
    world.clusters().iter().flat_map(|cluster| cluster.vms()).filter(|vm| vm.vmid != TEMPLATE).collect()
}

fn workspace(world: &SimulatedWorld, cli: &Cli, way: Way) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    let main = match way {
        Way::Empty => MAIN.to_owned(),
        Way::Clone => MAIN.replace("  memory ", "  clone           = { template = \"golden\" }\n  memory "),
    };
    workspace.write_main(&main).write("multi-site.yaml", YAML);
    workspace
}

/// The calls that an apply makes, each with whether it writes.
fn calls(cli: &Cli, way: Way) -> Vec<bool> {
    let world = world(way);
    let workspace = workspace(&world, cli, way);
    world.clear_requests();
    workspace.apply().expect(0);
    world.requests().iter().map(|call| call.method != "GET").collect()
}

fn hold(cli: &Cli, way: Way, call: u64, executed: bool) -> Result<(), String> {
    let world = world(way);
    let workspace = workspace(&world, cli, way);
    let killed = workspace.killed_at(&world, &APPLY, call, executed, || {});
    let at = match &killed {
        Killed::At(hit) => format!("{} {} {}", hit.call.cluster, hit.call.method, hit.call.path),
        Killed::Never => "never".into(),
    };
    let mut wrong = Vec::new();
    let mut expect = |what: &str, run: harness::Run, code: i32| {
        if run.code != code {
            wrong.push(format!("{what} exits with {}: {}", run.code, run.flat()));
        }
    };
    expect("the next apply", workspace.apply(), 0);
    let machines = machines(&world);
    let state = workspace.state();
    expect("the next plan", workspace.plan(), 0);
    let id = state.get("moxxie_virtual_machine.web").and_then(|web| web["id"].as_str().map(str::to_owned));
    let ours = machines.iter().filter(|vm| vm.config.get("name").is_some_and(|name| name == "web-1")).count();
    let has = |vm: &VmSnapshot, key: &str, text: &str| vm.config.get(key).is_some_and(|value| value.contains(text));
    let whole = |vm: &VmSnapshot| vm.running && has(vm, "scsi0", "size=4G") && has(vm, "tags", "blue;web");
    let sound = machines.len() == 1 && ours == 1 && whole(&machines[0]) && machines[0].uuid == id && id.is_some();
    let described = format!("machines {:?}, id in state {id:?}", world.machines());
    let marked =
        machines.iter().any(|vm| vm.config.get("description").is_some_and(|notes| notes.contains("moxxie v1")));
    let litter = world.litter();
    expect("destroy", workspace.destroy(), 0);
    let left = (self::machines(&world).len(), world.litter());
    if !sound {
        wrong.push(described);
    }
    if marked {
        wrong.push("the machine is still marked".into());
    }
    if !litter.is_empty() {
        wrong.push(format!("litter: {litter:?}"));
    }
    if left != (0, Vec::new()) {
        wrong.push(format!("after destroy: {left:?}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("killed at {at}: {}", wrong.join("\n    "))) }
}

/// Every point with the CLI whose turn it is: of a write that is done and lost each gets one. A read is one point: done or lost, it
/// leaves the same world. `MOXXIE_ACC_ALL`: each gets both CLIs.
fn turns<'a>(clis: &'a [Cli], calls: &[bool]) -> Vec<(&'a Cli, u64, bool)> {
    let all = std::env::var_os("MOXXIE_ACC_ALL").is_some();
    let how = |call: u64, writes: bool| if writes { vec![true, false] } else { vec![call.is_multiple_of(2)] };
    let points =
        (1..).zip(calls).flat_map(|(call, writes)| how(call, *writes).into_iter().map(move |done| (call, done)));
    points
        .enumerate()
        .flat_map(|(at, (call, executed))| {
            let mine = clis.iter().enumerate().filter(move |(n, _)| all || at % clis.len() == *n);
            mine.map(move |(_, cli)| (cli, call, executed))
        })
        .collect()
}

fn all_points(way: Way) {
    let clis = clis();
    let points = turns(&clis, &calls(&clis[0], way));
    let next = AtomicUsize::new(0);
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((cli, call, executed)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let why = match catch_unwind(AssertUnwindSafe(|| hold(cli, way, *call, *executed))) {
                        Ok(Ok(())) => continue,
                        Ok(Err(why)) => why,
                        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into()),
                    };
                    let how = if *executed { "done" } else { "lost" };
                    broken.lock().expect("the list").push(format!("{:?}, call {call} {how}, {why}", cli.kind));
                }
            });
        }
    });
    let broken = broken.into_inner().expect("the list");
    println!("{}: {}, held: {}", way.points(), points.len(), points.len() - broken.len());
    assert!(points.len() >= 40, "only {} points", points.len());
    assert!(broken.is_empty(), "{} points did not hold:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn create_points() {
    all_points(Way::Empty);
}

#[test]
fn create_points_of_a_copy() {
    all_points(Way::Clone);
}

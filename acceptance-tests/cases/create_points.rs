//! A create survives `kill -9`: the provider is killed at each API call of an apply, done and lost, and the next apply ends
//! with exactly one machine.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const YAML: &str = include_str!("main_job/multi-site.yaml");
const MAIN: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

provider "moxxie" {
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.clusters
}

resource "moxxie_virtual_machine" "web" {
  name            = "web-1"
  pool            = "production-pool"
  memory          = "2GB"
  disks           = { scsi0 = { size = "4GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
}
"#;
const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];
/// Runs at once: each is a CLI and a provider.
const AT_ONCE: usize = 2;

fn workspace(world: &SimulatedWorld, cli: &Cli) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    workspace.write("main.tf", MAIN).write("multi-site.yaml", YAML);
    workspace
}

/// How many calls an apply makes.
fn calls(cli: &Cli) -> u64 {
    let world = SimulatedWorld::three_sites();
    let workspace = workspace(&world, cli);
    world.arm();
    workspace.apply().expect(0);
    world.calls_since_arm()
}

fn hold(cli: &Cli, call: u64, executed: bool) -> Result<(), String> {
    let world = SimulatedWorld::three_sites();
    let workspace = workspace(&world, cli);
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
    let machines: Vec<_> = world.clusters().iter().flat_map(|cluster| cluster.vms()).collect();
    let state = workspace.state();
    expect("the next plan", workspace.plan(), 0);
    let id = state.get("moxxie_virtual_machine.web").and_then(|web| web["id"].as_str().map(str::to_owned));
    let ours = machines.iter().filter(|vm| vm.config.get("name").is_some_and(|name| name == "web-1")).count();
    let sound = machines.len() == 1 && ours == 1 && machines[0].running && machines[0].uuid == id && id.is_some();
    let described = format!("machines {:?}, id in state {id:?}", world.machines());
    let marked =
        machines.iter().any(|vm| vm.config.get("description").is_some_and(|notes| notes.contains("moxxie v1")));
    let litter = world.litter();
    expect("destroy", workspace.destroy(), 0);
    let left = (world.machines(), world.litter());
    if !sound {
        wrong.push(described);
    }
    if marked {
        wrong.push("the machine is still marked".into());
    }
    if !litter.is_empty() {
        wrong.push(format!("litter: {litter:?}"));
    }
    if left != (Vec::new(), Vec::new()) {
        wrong.push(format!("after destroy: {left:?}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("killed at {at}: {}", wrong.join("\n    "))) }
}

#[test]
fn create_points() {
    let all = clis();
    let clis = if std::env::var_os("MOXXIE_ACC_ALL").is_some() { &all[..] } else { &all[..1] };
    for cli in clis {
        let points: Vec<(u64, bool)> = (1..=calls(cli)).flat_map(|call| [(call, true), (call, false)]).collect();
        let next = AtomicUsize::new(0);
        let broken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some((call, executed)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let why = match catch_unwind(AssertUnwindSafe(|| hold(cli, *call, *executed))) {
                            Ok(Ok(())) => continue,
                            Ok(Err(why)) => why,
                            Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into()),
                        };
                        let how = if *executed { "done" } else { "lost" };
                        broken.lock().expect("the list").push(format!("call {call} {how}, {why}"));
                    }
                });
            }
        });
        let broken = broken.into_inner().expect("the list");
        println!("create points: {}, held: {}", points.len(), points.len() - broken.len());
        assert!(points.len() >= 40, "only {} points", points.len());
        assert!(broken.is_empty(), "{} points did not hold:\n{}", broken.len(), broken.join("\n"));
    }
}

//! The quick start: serves three simulated sites, and has the real CLI place, move and remove machines with the provider, which is
//! in this very program.
//!
//! `cargo run --release --example quickstart`
mod plugin;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use harness::{Cli, SimulatedWorld, Workspace, on_path};
use show::{Follow, fact, heading, say};

type Outcome<T> = Result<T, String>;

/// Seconds of the clusters per real second: a move of 40 GB takes minutes there, and seconds here.
const TIME_SCALE: f64 = 120.0;
/// What is shown, in order.
const STAGES: [(&str, &str); 5] = [
    ("plan", "the provider says where seven machines go, and why"),
    ("apply", "makes them"),
    ("apply of one changed line", "moves one to another site by backup and restore"),
    ("compare", "looks whether every byte of it arrived"),
    ("destroy", "removes everything"),
];
const MACHINE: &str = "shop-db";
const FROM: &str = "worldstream-prod";
const TO: &str = "databarn-dr";

fn main() -> ExitCode {
    if plugin::is_wanted() {
        return plugin::main();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nquick start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    say("Federated Proxmox VE, as code: three simulated sites, and the real CLI on them. In this order:");
    for (name, what) in STAGES {
        fact(name, what);
    }
    let cli = on_path().next().ok_or(
        "neither `terraform` nor `tofu` is on the PATH.\n\nInstall one of them and run this again:\n  \
         OpenTofu 1.6 or later   https://opentofu.org/docs/intro/install/\n  \
         Terraform 1.5 or later  https://developer.hashicorp.com/terraform/install",
    )?;
    let provider = provider()?;
    heading("Three sites, each a Proxmox VE cluster of its own");
    let world = SimulatedWorld::three_sites_at(TIME_SCALE);
    for cluster in world.clusters() {
        fact(cluster.name(), &cluster.url());
    }
    let workspace = world.workspace(&cli, &provider, "app");
    configure(&workspace)?;
    place(&cli, &workspace)?;
    let before = written(&world)?;
    relocate(&cli, &workspace)?;
    compare(&world, &before)?;
    finish(&cli, &workspace, &world)
}

/// The file of the provider. The provider is in this program ([`plugin`]), so that nothing is built twice.
fn provider() -> Outcome<PathBuf> {
    std::env::current_exe().map_err(|error| format!("where am I? {error}"))
}

fn configure(workspace: &Workspace) -> Outcome<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["main.tf", "multi-site.yaml"] {
        let text = std::fs::read(here.join(name)).map_err(|error| format!("examples/quickstart/{name}: {error}"))?;
        workspace.write(name, text);
    }
    Ok(())
}

fn title(cli: &Cli, words: &str) -> String {
    format!("{} {words}", cli.path.file_stem().unwrap_or_default().to_string_lossy())
}

/// Plans and applies the whole configuration, and shows where each machine goes and why.
fn place(cli: &Cli, workspace: &Workspace) -> Outcome<()> {
    heading(&title(cli, "plan: where will the machines go?"));
    succeed(workspace, &["plan", "-input=false", "-out=first.tfplan"])?;
    let plan = workspace.show_plan("first.tfplan");
    for change in plan["resource_changes"].as_array().into_iter().flatten() {
        let after = &change["change"]["after"];
        let text = |name: &str| after[name].as_str().unwrap_or("(known after apply)").to_owned();
        fact(&text("name"), &format!("{:<18} {}", text("cluster"), text("placement")));
    }
    heading(&title(cli, "apply"));
    let applied = succeed(workspace, &["apply", "-input=false", "first.tfplan"])?;
    say(&show::summary(&applied));
    Ok(())
}

/// What the machine's guest wrote, to be found again after the move.
struct Written {
    uuid: String,
    mac: String,
    vmid: u32,
    checksum: String,
    newest: u64,
}

fn look(world: &SimulatedWorld, cluster: &str) -> Outcome<Written> {
    let vm = world.vm(cluster, MACHINE);
    let disk = |slot: &str| vm.disks.iter().find(|disk| disk.slot == slot).ok_or(format!("{MACHINE} has no {slot}"));
    Ok(Written {
        uuid: vm.uuid.clone().unwrap_or_default(),
        mac: vm.config.get("net0").and_then(|net| net.split(',').next()).unwrap_or_default().to_owned(),
        vmid: vm.vmid,
        checksum: disk("scsi1")?.sha256.clone(),
        newest: disk("scsi0")?.newest,
    })
}

fn written(world: &SimulatedWorld) -> Outcome<Written> {
    let cluster = world.cluster(FROM);
    let vmid = world.vm(FROM, MACHINE).vmid;
    for _ in 0..3 {
        cluster.guest_write(vmid);
    }
    look(world, FROM)
}

/// Changes one line, shows what the plan says of it, and applies it with progress.
fn relocate(cli: &Cli, workspace: &Workspace) -> Outcome<()> {
    heading(&format!("One line of main.tf changes: {MACHINE} is to live in Rotterdam"));
    let (old, new) = (format!("cluster = \"{FROM}\""), format!("cluster = \"{TO}\""));
    workspace.edit("main.tf", &old, &new);
    say(&format!("  - {old}\n  + {new}"));
    let planned = succeed(workspace, &["plan", "-input=false", "-out=move.tfplan"])?;
    say(&show::lines(&planned, |line| line.contains("cluster ") || line.starts_with("Plan:")));
    heading(&title(cli, "apply: shut down, back up, restore, verify, start"));
    let log = workspace.root().join("move.log");
    let mut command = workspace.command(&["apply", "-input=false", "move.tfplan"]);
    command.env("TF_LOG_PROVIDER", "info").env("TF_LOG_PATH", &log);
    let applied = Follow::run(command, &log)?;
    say(&show::summary(&applied));
    Ok(())
}

fn compare(world: &SimulatedWorld, before: &Written) -> Outcome<()> {
    heading("What arrived");
    let after = look(world, TO)?;
    let same = |what: &str, was: &str, is: &str| {
        fact(what, &format!("{is} {}", if was == is { "= before" } else { "≠ before" }));
        if was == is { Ok(()) } else { Err(format!("{what} was {was} and is {is}")) }
    };
    same("SMBIOS UUID", &before.uuid, &after.uuid)?;
    same("MAC address", &before.mac, &after.mac)?;
    same("VMID", &before.vmid.to_string(), &after.vmid.to_string())?;
    same("SHA-256 of scsi1", &before.checksum, &after.checksum)?;
    fact("newest record on scsi0", &format!("{} (was {} before the move)", after.newest, before.newest));
    if after.newest < before.newest {
        return Err("a record that the guest wrote is lost".into());
    }
    let running = world.running_copies(&before.uuid).len();
    fact("running copies", &running.to_string());
    if running == 1 { Ok(()) } else { Err(format!("{running} copies of {MACHINE} run")) }
}

/// Plans again, destroys, and sees that nothing is left.
fn finish(cli: &Cli, workspace: &Workspace, world: &SimulatedWorld) -> Outcome<()> {
    heading(&title(cli, "plan: again"));
    let planned = workspace.plan();
    say(&show::lines(&planned.stdout, |line| line.starts_with("No changes")));
    if planned.code != 0 {
        return Err(format!("the second plan is not empty:\n{}", planned.text()));
    }
    heading(&title(cli, "destroy"));
    let destroyed = succeed(workspace, &["destroy", "-input=false", "-auto-approve"])?;
    say(&show::summary(&destroyed));
    let (machines, litter) = (world.machines(), world.litter());
    if !machines.is_empty() || !litter.is_empty() {
        return Err(format!("something is left: {machines:?} {litter:?}"));
    }
    say("Nothing is left on the three sites.");
    say(
        "\nThe configuration you saw is examples/quickstart/main.tf and multi-site.yaml. Change them, and run this again.",
    );
    Ok(())
}

/// Runs a command of the CLI that is to succeed.
fn succeed(workspace: &Workspace, words: &[&str]) -> Outcome<String> {
    let run = workspace.run(words);
    if run.code == 0 { Ok(run.stdout) } else { Err(format!("`{}` failed:\n{}", run.command, run.text())) }
}

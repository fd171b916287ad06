//! The quick start: builds the provider, serves three simulated sites, and has the real CLI place, move and remove machines.
//!
//! `cargo run --release --example quickstart`
mod show;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use harness::{Cli, SimulatedWorld, Workspace, on_path};
use show::{Follow, fact, heading, say};

type Outcome<T> = Result<T, String>;

/// Seconds of the clusters per real second: a move of 40 GB takes minutes there, and seconds here.
const TIME_SCALE: f64 = 120.0;
const MACHINE: &str = "shop-db";
const FROM: &str = "worldstream-prod";
const TO: &str = "databarn-dr";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nquick start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    say("Federated Proxmox VE, as code: three simulated sites, and the real CLI on them.");
    let cli = on_path().next().ok_or(
        "neither `terraform` nor `tofu` is on the PATH.\n\nInstall one of them and run this again:\n  \
         OpenTofu 1.6 or later   https://opentofu.org/docs/intro/install/\n  \
         Terraform 1.5 or later  https://developer.hashicorp.com/terraform/install",
    )?;
    let provider = build()?;
    let world = SimulatedWorld::three_sites_at(TIME_SCALE);
    heading("Three sites, each a Proxmox VE cluster of its own");
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

/// Builds the provider beside this example, in the same profile.
fn build() -> Outcome<PathBuf> {
    heading("Building the provider");
    let started = Instant::now();
    let this = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let profile = this.ancestors().nth(2).ok_or("this example is not in a target folder")?;
    let target = profile.parent().ok_or("this example is not in a target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "--bin", "terraform-provider-moxxie", "--target-dir"]).arg(target);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo.status().map_err(|error| format!("cargo can't be run: {error}"))?;
    if !built.success() {
        return Err("the provider does not build; see above".into());
    }
    fact("terraform-provider-moxxie", &format!("built in {} s", started.elapsed().as_secs()));
    Ok(profile.join(format!("terraform-provider-moxxie{}", std::env::consts::EXE_SUFFIX)))
}

fn configure(workspace: &Workspace) -> Outcome<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");
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

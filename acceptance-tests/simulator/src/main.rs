//! `simulator`: serves a world file until it is told to stop.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use simulator::{Listen, Options, Pace, Simulator, SimulatorError, World};
use tokio::io::AsyncReadExt;

const USAGE: &str = "usage: simulator --world FILE [--json] [--seed N] [--time-scale X] [--per-node] [--rtt-ms N]
                 [--until-stdin-closes]

Serves the clusters of a world file over HTTPS on 127.0.0.1 and prints where. Built-in worlds: three-sites,
shared-images. With --json: one line per cluster.";

struct Arguments {
    world: PathBuf,
    json: bool,
    seed: u64,
    scale: f64,
    per_node: bool,
    rtt_ms: u64,
    until_stdin: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut out = Arguments {
        world: PathBuf::new(),
        json: false,
        seed: 1,
        scale: 1.0,
        per_node: false,
        rtt_ms: 0,
        until_stdin: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--world" => out.world = PathBuf::from(value()?),
            "--json" => out.json = true,
            "--seed" => out.seed = value()?.parse().map_err(|_| "--seed needs a whole number".to_owned())?,
            "--time-scale" => {
                out.scale =
                    value()?.parse().ok().filter(|scale| *scale > 0.0).ok_or("--time-scale needs a number above 0")?;
            }
            "--rtt-ms" => {
                out.rtt_ms =
                    value()?.parse().map_err(|_| "--rtt-ms needs a whole number of milliseconds".to_owned())?;
            }
            "--per-node" => out.per_node = true,
            "--until-stdin-closes" => out.until_stdin = true,
            "--help" | "-h" => return Err(USAGE.to_owned()),
            other => return Err(format!("unknown argument '{other}'\n\n{USAGE}")),
        }
    }
    if out.world.as_os_str().is_empty() {
        return Err(format!("--world is missing\n\n{USAGE}"));
    }
    Ok(out)
}

fn load(arguments: &Arguments) -> Result<World, SimulatorError> {
    match arguments.world.to_str() {
        Some("three-sites") => World::three_sites(),
        Some("shared-images") => World::shared_images(),
        _ => {
            let text = std::fs::read_to_string(&arguments.world)
                .map_err(|error| SimulatorError(format!("{}: {error}", arguments.world.display())))?;
            World::from_yaml(&text)
        }
    }
}

async fn stop_requested(until_stdin: bool) {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    let stdin = async {
        if !until_stdin {
            return std::future::pending().await;
        }
        let mut input = tokio::io::stdin();
        let mut buffer = [0u8; 256];
        while input.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
        () = stdin => {}
    }
}

async fn run(arguments: Arguments) -> Result<(), SimulatorError> {
    let options = Options {
        seed: arguments.seed,
        clock: Pace::Wall { scale: arguments.scale },
        listen: if arguments.per_node { Listen::PerNode } else { Listen::PerCluster },
        rtt: Duration::from_millis(arguments.rtt_ms),
    };
    let sim = Simulator::start(load(&arguments)?, options).await?;
    let mut out = std::io::stdout();
    out.write_all(sim.describe(arguments.json).as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| SimulatorError(error.to_string()))?;
    stop_requested(arguments.until_stdin).await;
    Ok(())
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        // Reading standard input cannot be interrupted, so what still reads is left behind.
        Ok(()) => {
            runtime.shutdown_background();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! Owns killing the provider at one API call: hold the call, SIGKILL the process, cut what is left of its connections.
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use simulator::GateHit;

use crate::workspace::Workspace;
use crate::world::SimulatedWorld;

/// Name of the provider's executable.
const PROVIDER: &str = "terraform-provider-moxxie";
/// How long a CLI may take before a test gives it up: far more than any needs.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a run ended whose provider was to be killed.
#[derive(Debug)]
pub enum Killed {
    /// Killed while this call was held.
    At(GateHit),
    /// The run came to its end before that call.
    Never,
}

impl Workspace {
    /// Runs `words`; at the n-th API call from now on (counted from 1) the provider is killed, with the call done
    /// (`executed`) or not. `held` is called while the call is held and the provider still lives.
    ///
    /// # Panics
    /// When the CLI can't be started, or neither ends nor reaches the call.
    pub fn killed_at(
        &self,
        world: &SimulatedWorld,
        words: &[&str],
        n: u64,
        executed: bool,
        held: impl FnOnce(),
    ) -> Killed {
        let mut gate = world.gate(n, executed);
        let mut cli = self.start(words, "killed");
        let began = Instant::now();
        let killed = loop {
            if let Ok(hit) = gate.try_recv() {
                held();
                kill_providers(cli.id());
                break Killed::At(hit);
            }
            if ended(&mut cli) {
                break Killed::Never;
            }
            assert!(began.elapsed() < PATIENCE, "{words:?} neither ends nor makes call {n}");
            std::thread::sleep(Duration::from_millis(2));
        };
        world.release();
        wait_for(&mut cli);
        killed
    }
}

fn ended(cli: &mut Child) -> bool {
    cli.try_wait().expect("the state of the CLI").is_some()
}

/// Waits for a CLI that was started in the background; its exit code.
///
/// # Panics
/// When it doesn't end.
pub fn wait_for(cli: &mut Child) -> i32 {
    let began = Instant::now();
    loop {
        if let Some(status) = cli.try_wait().expect("the state of the CLI") {
            return status.code().unwrap_or(-1);
        }
        assert!(began.elapsed() < PATIENCE, "the CLI doesn't end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills every provider process that the CLI with this process id has started, and waits until each is gone.
///
/// # Panics
/// When there is none.
pub fn kill_providers(cli: u32) {
    let found = providers_of(cli);
    assert!(!found.is_empty(), "the CLI {cli} has no provider process");
    for pid in &found {
        // One that ended between the look and the signal is as dead as can be.
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    let began = Instant::now();
    while found.iter().any(|pid| is_alive(*pid)) {
        assert!(began.elapsed() < PATIENCE, "a killed process goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn providers_of(cli: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let is_ours = stat(pid).is_some_and(|(_, parent)| parent == cli);
        if is_ours && is_provider(&entry.path()) {
            found.push(pid);
        }
    }
    found
}

fn is_provider(process: &Path) -> bool {
    let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(program).ends_with(PROVIDER)
}

/// State and parent of a process. The second field of `stat` may hold spaces, so counting starts behind its bracket.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

//! Owns the moves of a rehearsal as processes: `federate migrate` of this very program, ended by SIGKILL where the rehearsal wants that.
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use federation::migration::Step;
use federation::model::Method;
use operations::Fleet;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::arguments::{Common, Rehearse};
use crate::report::Wrong;

/// How often the trail and the journal are looked at while a step is waited for. Short, for most steps are.
const LOOK: Duration = Duration::from_millis(5);

/// Where a move is to be killed: in this step, which is looked for once the one before it is in the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) before: Step,
    pub(super) at: Step,
}

/// How a move's process ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By SIGKILL, in this step as the journal has it.
    Killed(Step),
    /// By itself, with what it said.
    Done(Value),
    /// By itself, with an error.
    Failed(String),
}

/// What every child is called with.
#[derive(Debug)]
pub(super) struct Children {
    program: PathBuf,
    common: Vec<String>,
    trail: PathBuf,
    is_own_trail: bool,
}

/// One move.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) vmid: u32,
    pub(super) uuid: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) method: Method,
    /// Whether the source is kept, fenced.
    pub(super) keep: bool,
}

impl Children {
    pub(super) fn new(common: &Common, asked: &Rehearse) -> Result<Children, Wrong> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| Wrong::problem(format!("this program doesn't find itself: {error}")))?;
        let mut words = Vec::new();
        for (name, file) in [("--config", &common.config), ("--connections", &common.connections)] {
            if let Some(file) = file {
                words.extend([name.to_owned(), file.display().to_string()]);
            }
        }
        Ok(Children { program, common: words, trail: super::trail(asked), is_own_trail: asked.audit_file.is_none() })
    }

    fn command(&self, call: &Call<'_>, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("migrate").arg(call.vmid.to_string()).args(["--from", call.from, "--to", call.to, "--json"]);
        command.args(["--method", call.method.as_str(), "--keep-archive", "0s"]);
        // It boots nothing, so that it answers no shutdown.
        command.args(["--shutdown-timeout", "10s", "--force-stop"]);
        command.args(if call.keep { ["--keep-source", "1d"].as_slice() } else { ["--delete-source"].as_slice() });
        command.args(more).args(&self.common).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Asks what the move would be.
    pub(super) async fn plan(&self, call: &Call<'_>) -> Result<Value, String> {
        let out = self.command(call, &["--dry-run"]).output().await.map_err(|error| error.to_string())?;
        let stderr = || String::from_utf8_lossy(&out.stderr).trim().to_owned();
        let value: Value = serde_json::from_slice(&out.stdout).map_err(|_| stderr())?;
        if value["error"].is_string() { Err(said(&value)) } else { Ok(value) }
    }

    /// Makes the move, or goes on with it; `kill` ends its process there.
    pub(super) async fn make(&self, call: &Call<'_>, fleet: &Fleet, kill: Option<Kill>) -> Ended {
        let trail = self.trail.display().to_string();
        let begin = std::fs::metadata(&self.trail).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX));
        let mut child = match self.command(call, &["--audit-file", &trail]).spawn() {
            Ok(child) => child,
            Err(error) => return Ended::Failed(format!("{}: {error}", self.program.display())),
        };
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        if let Some(kill) = kill
            && let Some(step) = self.reaches(&mut child, call, fleet, kill, begin).await
        {
            // SIGKILL: nothing of it can clean up.
            let killed = child.kill().await;
            let _ = (stdout.await, stderr.await);
            return match killed {
                Ok(()) => Ended::Killed(step),
                Err(error) => Ended::Failed(format!("its process can't be killed: {error}")),
            };
        }
        let status = child.wait().await;
        let (stdout, stderr) = (stdout.await.unwrap_or_default(), stderr.await.unwrap_or_default());
        match (status, serde_json::from_str::<Value>(&stdout)) {
            (Ok(status), Ok(value)) if status.success() => Ended::Done(value),
            (_, Ok(value)) if value["error"].is_string() => Ended::Failed(said(&value)),
            // What stands in the way is in the plan that it prints.
            (_, Ok(value)) => Ended::Failed(super::legs::problems(&value).join("\n")),
            (_, Err(_)) => Ended::Failed(stderr.trim().to_owned()),
        }
    }

    /// Waits until the move is in the step; `None` where it ended before.
    async fn reaches(
        &self,
        child: &mut Child,
        call: &Call<'_>,
        fleet: &Fleet,
        kill: Kill,
        begin: usize,
    ) -> Option<Step> {
        loop {
            if child.try_wait().ok()?.is_some() {
                return None;
            }
            if self.has_done(kill.before, begin)
                && let Some(journal) = fleet.move_journal(call.from, call.uuid).await
                && journal.step >= kill.at
            {
                return Some(journal.step);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the trail has the step as done, behind what it had at the beginning.
    fn has_done(&self, step: Step, begin: usize) -> bool {
        let text = std::fs::read(&self.trail).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(begin..).unwrap_or_default()).into_owned();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().any(|line| line["step"] == step.as_str() && line["outcome"] == "done")
    }

    /// The newest downtime of the trail, in seconds.
    pub(super) fn downtime(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.trail).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["downtime"].as_u64()).next_back()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        if self.is_own_trail {
            // One that was never written is as gone.
            let _ = std::fs::remove_file(&self.trail);
        }
    }
}

fn said(value: &Value) -> String {
    value["error"].as_str().unwrap_or_default().to_owned()
}

/// Reads what a child says to its end, so that it never waits for a reader.
fn collect(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> tokio::task::JoinHandle<String> {
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until it broke is what there is.
            let _ = pipe.read_to_end(&mut bytes).await;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

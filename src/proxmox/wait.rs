//! Owns waiting for a task: how often to look, what to tell meanwhile, and what its end means.

use std::time::{Duration, Instant};

use crate::{Client, Error, Result, TaskFailure, TaskStatus, Upid, progress_percent, task};

/// Types of tasks whose log tells a percentage.
const TELLING: [&str; 5] = ["vzdump", "qmrestore", "qmigrate", "qmclone", "qmmove"];
/// Looks before the log is read too: most tasks are over by then.
const QUIET_LOOKS: u32 = 4;
/// Lines read from the log at once while waiting.
const LINES: u64 = 500;
/// Lines of a failed task's log that go into the error.
const LAST_LINES: u64 = 50;

/// What is known of a running task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskProgress {
    /// The newest percentage its log told; None for types that tell none.
    pub percent: Option<u8>,
    /// Log lines since the last call, for the types that tell a percentage.
    pub lines: Vec<String>,
    /// How long we have waited.
    pub waited: Duration,
}

/// A task that ended in success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDone {
    /// The task.
    pub upid: Upid,
    /// Warnings it gave: read its log if there are any.
    pub warnings: u32,
}

impl Client {
    /// Waits for the end of a task. It is looked at at once, then after 20 ms, growing by half to 2 s
    /// ([`crate::Settings`]). `on_progress` is called after each look at a running task.
    ///
    /// Dropping the future stops the waiting, never the task. While its node cannot be reached, looking goes on for
    /// [`crate::Settings::task_patience`].
    ///
    /// Success means `OK` or `WARNINGS: n`, and not that the goal is reached: read the object back.
    /// Right: the task is our own, or Sys.Audit on `/nodes/NODE`.
    ///
    /// # Errors
    /// [`Error::TaskFailed`] with exit status and the last lines of the log, [`Error::TaskTimeout`] at the deadline,
    /// [`Error::is_unreachable`] when patience ends.
    pub async fn wait_task(
        &self,
        upid: &Upid,
        deadline: Instant,
        mut on_progress: impl FnMut(&TaskProgress) + Send,
    ) -> Result<TaskDone> {
        let began = Instant::now();
        let settings = self.settings().clone();
        let mut pause = settings.task_poll_first;
        let mut unreachable_since: Option<Instant> = None;
        let mut looks = 0;
        let mut seen = 0;
        let mut progress = TaskProgress::default();
        loop {
            match self.task_status(upid).await {
                Ok(status) if !status.is_running() => return self.ended(upid, &status).await,
                Ok(_) => {
                    unreachable_since = None;
                    progress.lines.clear();
                    if looks >= QUIET_LOOKS && TELLING.contains(&upid.kind.as_str()) {
                        self.read_on(upid, &mut seen, &mut progress).await;
                    }
                    progress.waited = began.elapsed();
                    on_progress(&progress);
                }
                Err(error) if error.is_unreachable() => {
                    let since = *unreachable_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= settings.task_patience {
                        return Err(error);
                    }
                    tracing::warn!(%upid, %error, "the task cannot be looked at, trying on");
                }
                Err(error) => return Err(error),
            }
            looks += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TaskTimeout {
                    cluster: self.cluster().to_owned(),
                    upid: Box::new(upid.clone()),
                    waited_secs: began.elapsed().as_secs(),
                });
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 3 / 2).min(settings.task_poll_max);
        }
    }

    /// Reads the lines the log has got since; a log that cannot be read is no reason to stop waiting.
    async fn read_on(&self, upid: &Upid, seen: &mut u64, progress: &mut TaskProgress) {
        if let Ok(log) = self.task_log(upid, *seen, LINES).await {
            *seen += log.lines.len() as u64;
            progress.lines = log.lines.into_iter().map(|line| line.t).collect();
            let newest = progress.lines.iter().rev().find_map(|line| progress_percent(line));
            progress.percent = newest.or(progress.percent);
        }
    }

    async fn ended(&self, upid: &Upid, status: &TaskStatus) -> Result<TaskDone> {
        let exitstatus = status.exitstatus.clone().unwrap_or_default();
        if let Some(warnings) = task::success(&exitstatus) {
            return Ok(TaskDone { upid: upid.clone(), warnings });
        }
        let log = self.last_lines(upid).await.unwrap_or_default();
        let cluster = self.cluster().to_owned();
        Err(Error::TaskFailed(Box::new(TaskFailure { cluster, upid: upid.clone(), exitstatus, log })))
    }

    async fn last_lines(&self, upid: &Upid) -> Result<Vec<String>> {
        let total = self.task_log(upid, 0, 1).await?.total;
        let log = self.task_log(upid, total.saturating_sub(LAST_LINES), LAST_LINES).await?;
        Ok(log.lines.into_iter().map(|line| line.t).collect())
    }
}

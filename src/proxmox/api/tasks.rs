//! Owns the calls about tasks.

use serde_json::Value;

use crate::{Client, LogLine, Params, Result, TaskInfo, TaskLog, TaskSource, TaskStatus, Upid, api_path};
use reqwest::Method;

/// Which tasks of a node to list.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Only of this guest.
    pub vmid: Option<u32>,
    /// Only of this type, for example `qmrestore`.
    pub kind: Option<String>,
    /// Only started at or after this time: seconds since 1970 by the cluster's clock.
    pub since: Option<i64>,
    /// Running ones, ended ones, or both.
    pub source: TaskSource,
    /// At most this many (PVE's default is 50), newest first.
    pub limit: Option<u32>,
}

/// Lines read from a log at once.
const PAGE: u64 = 1000;

impl Client {
    /// State of a task; any node answers. Right: it is our own, or Sys.Audit on `/nodes/NODE`.
    ///
    /// # Errors
    /// 400 with [`crate::Missing::Task`] for an unknown one; 595/596 while its node is down.
    pub async fn task_status(&self, upid: &Upid) -> Result<TaskStatus> {
        self.get(&task_path(upid, "status"), Params::new()).await
    }

    /// Lines of a task's log, from `start` (0 is the first), at most `limit` (0: all there are). Rights as
    /// [`Client::task_status`].
    ///
    /// # Errors
    /// As [`Client::task_status`].
    pub async fn task_log(&self, upid: &Upid, start: u64, limit: u64) -> Result<TaskLog> {
        let path = task_path(upid, "log");
        let answer = self.call(Method::GET, &path, &Params::new().set("start", start).set("limit", limit)).await?;
        let lines: Vec<LogLine> = self.decode("GET", &path, answer.data)?;
        Ok(TaskLog::new(lines, answer.total))
    }

    /// A task's whole log, read in pages. Rights as [`Client::task_status`].
    ///
    /// # Errors
    /// As [`Client::task_status`].
    pub async fn task_log_all(&self, upid: &Upid) -> Result<Vec<String>> {
        let mut all = Vec::new();
        loop {
            let page = self.task_log(upid, all.len() as u64, PAGE).await?;
            let got = page.lines.len() as u64;
            all.extend(page.lines.into_iter().map(|line| line.t));
            if got < PAGE {
                return Ok(all);
            }
        }
    }

    /// Tasks of a node, newest first. A token sees its own, and others with Sys.Audit on `/nodes/NODE`. This is
    /// where a write with a lost answer is looked for ([`crate::Error::is_ambiguous`]).
    ///
    /// # Errors
    /// 595/596 while the node is down.
    pub async fn find_tasks(&self, node: &str, filter: &TaskFilter) -> Result<Vec<TaskInfo>> {
        let params = Params::new()
            .set("source", filter.source.as_str())
            .opt("vmid", filter.vmid)
            .opt("typefilter", filter.kind.as_deref())
            .opt("since", filter.since)
            .opt("limit", filter.limit);
        self.get(&api_path(["nodes", node, "tasks"]), params).await
    }

    /// Asks a task to end (SIGTERM, after about 5 s SIGKILL without any clean-up). Right: it is our own, or
    /// Sys.Modify on `/nodes/NODE`.
    ///
    /// # Errors
    /// As [`Client::task_status`].
    pub async fn stop_task(&self, upid: &Upid) -> Result<()> {
        let path = api_path(["nodes", &upid.node, "tasks", upid.as_str()]);
        self.delete(&path, Params::new()).await.map(|_: Value| ())
    }
}

fn task_path(upid: &Upid, what: &str) -> String {
    api_path(["nodes", &upid.node, "tasks", upid.as_str(), what])
}

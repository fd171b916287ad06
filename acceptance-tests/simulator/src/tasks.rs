//! Background tasks: UPIDs, logs, life cycle, and the engine that steps them (proxmox-ve.md §3).

use std::time::Duration;

use serde_json::{Value, json};

use crate::acl::Auth;
use crate::clock::Millis;
use crate::error::{Answer, ApiError, Reply};
use crate::http::Call;
use crate::state::State;

/// Which task: a cluster and an index into its tasks.
#[derive(Debug, Clone)]
pub(crate) struct At {
    pub(crate) cluster: String,
    pub(crate) index: usize,
}

/// What a task does next.
pub(crate) enum Step {
    Wait(Duration),
    End(Outcome),
}

/// How a task ends.
pub(crate) enum Outcome {
    Ok,
    Warnings(u32),
    Error(String),
    /// The worker exits without its last line: `unexpected status`.
    Vanish,
}

impl Step {
    pub(crate) fn ok() -> Step {
        Step::End(Outcome::Ok)
    }

    pub(crate) fn error(text: impl Into<String>) -> Step {
        Step::End(Outcome::Error(text.into()))
    }

    pub(crate) fn wait_ms(ms: u64) -> Step {
        Step::Wait(Duration::from_millis(ms))
    }
}

/// The body of a worker. `step` is called at each due time.
pub(crate) trait Work: Send {
    fn step(&mut self, st: &mut State, at: &At) -> Step;
    /// Cleans up after SIGTERM (or an injected early failure) and says what the task ends with.
    fn cleanup(&mut self, _st: &mut State, _at: &At, reason: &str) -> String {
        reason.to_owned()
    }
    /// Whether SIGTERM is only noted, to be acted on at a later step.
    fn interrupt(&mut self, _st: &mut State, _at: &At) -> bool {
        false
    }
}

/// A step that is all of a task's work.
pub(crate) struct Once<F>(pub(crate) Option<F>);

impl<F: FnOnce(&mut State, &At) -> Result<(), ApiError> + Send> Work for Once<F> {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        match self.0.take().map(|work| work(st, at)) {
            Some(Err(error)) => Step::error(error.in_task()),
            _ => Step::ok(),
        }
    }
}

/// An injected failure.
#[derive(Debug, Clone)]
pub(crate) struct Sabotage {
    pub(crate) message: String,
    pub(crate) late: bool,
}

pub(crate) struct Task {
    pub(crate) upid: String,
    pub(crate) node: String,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) pid: u32,
    pub(crate) started: Millis,
    pub(crate) ended: Option<Millis>,
    pub(crate) exit: Option<String>,
    pub(crate) log: Vec<String>,
    pub(crate) due: Millis,
    pub(crate) work: Option<Box<dyn Work>>,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Task {
    pub(crate) fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    fn owner_is(&self, auth: &Auth) -> bool {
        // A token sees only its own; the user also its tokens'.
        let me = auth.id();
        self.user == me || (auth.token.is_none() && self.user.split('!').next() == Some(auth.user.as_str()))
    }

    fn describe(&self) -> serde_json::Map<String, Value> {
        let mut map = serde_json::Map::new();
        let (user, token) = match self.user.split_once('!') {
            Some((user, token)) => (user, Some(token)),
            None => (self.user.as_str(), None),
        };
        map.insert("upid".into(), json!(self.upid));
        map.insert("node".into(), json!(self.node));
        map.insert("pid".into(), json!(self.pid));
        map.insert("pstart".into(), json!(self.started / 10 % 0x0fff_ffff));
        map.insert("starttime".into(), json!(self.started / 1000));
        map.insert("type".into(), json!(self.kind));
        map.insert("id".into(), json!(self.id));
        map.insert("user".into(), json!(user));
        if let Some(token) = token {
            map.insert("tokenid".into(), json!(token));
        }
        map
    }

    fn listed(&self) -> Value {
        let mut map = self.describe();
        if let (Some(end), Some(exit)) = (self.ended, &self.exit) {
            map.insert("endtime".into(), json!(end / 1000));
            map.insert("status".into(), json!(exit));
        }
        Value::Object(map)
    }
}

/// A worker to be forked.
pub(crate) struct New<'a> {
    pub(crate) node: &'a str,
    pub(crate) kind: &'a str,
    /// Usually the vmid.
    pub(crate) id: &'a str,
    /// `user@realm` or `user@realm!token`.
    pub(crate) user: &'a str,
    /// Until its first step.
    pub(crate) delay_ms: u64,
}

impl State {
    /// Forks a worker. Its first step is due after `delay`.
    pub(crate) fn spawn(&mut self, cluster: &str, new: New<'_>, work: Box<dyn Work>) -> String {
        let New { node, kind, id, user, delay_ms } = new;
        let now = self.now();
        let sabotage = self.faults.take_sabotage();
        let c = self.cluster_mut(cluster);
        let pid = 0x1000 + u32::try_from(c.tasks.len()).unwrap_or(0) * 3;
        let upid =
            format!("UPID:{node}:{pid:08X}:{:08X}:{:08X}:{kind}:{id}:{user}:", now / 10 % 0x0fff_ffff, now / 1000);
        c.tasks.push(Task {
            upid: upid.clone(),
            node: node.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            user: user.to_owned(),
            pid,
            started: now,
            ended: None,
            exit: None,
            log: Vec::new(),
            due: now + i64::try_from(delay_ms).unwrap_or(0),
            work: Some(work),
            sabotage,
        });
        upid
    }

    pub(crate) fn say(&mut self, at: &At, line: impl Into<String>) {
        if let Some(task) = self.task_mut(at) {
            task.log.push(line.into());
        }
    }

    pub(crate) fn task_mut(&mut self, at: &At) -> Option<&mut Task> {
        self.clusters.get_mut(&at.cluster)?.tasks.get_mut(at.index)
    }

    pub(crate) fn task(&self, at: &At) -> Option<&Task> {
        self.clusters.get(&at.cluster)?.tasks.get(at.index)
    }

    /// An injected late failure, to be used by work that has a late point of its own.
    pub(crate) fn late_failure(&mut self, at: &At) -> Option<String> {
        let task = self.task_mut(at)?;
        task.sabotage.take_if(|s| s.late).map(|s| s.message)
    }

    pub(crate) fn step_task(&mut self, cluster: &str, index: usize) {
        let at = At { cluster: cluster.to_owned(), index };
        let now = self.now();
        self.event();
        let Some(task) = self.task_mut(&at) else { return };
        let Some(mut work) = task.work.take() else { return };
        if let Some(sabotage) = task.sabotage.take_if(|s| !s.late) {
            let text = work.cleanup(self, &at, &sabotage.message);
            return self.end_task(&at, Outcome::Error(text));
        }
        match work.step(self, &at) {
            Step::Wait(delay) => {
                if let Some(task) = self.task_mut(&at) {
                    task.due = now + i64::try_from(delay.as_millis()).unwrap_or(0).max(1);
                    task.work = Some(work);
                }
            }
            Step::End(outcome) => {
                let outcome = match self.late_failure(&at) {
                    Some(message) => Outcome::Error(message),
                    None => outcome,
                };
                self.end_task(&at, outcome);
            }
        }
    }

    pub(crate) fn end_task(&mut self, at: &At, outcome: Outcome) {
        let now = self.now();
        let Some(task) = self.task_mut(at) else { return };
        let (line, exit) = match outcome {
            Outcome::Ok => (Some("TASK OK".to_owned()), "OK".to_owned()),
            Outcome::Warnings(n) => (Some(format!("TASK WARNINGS: {n}")), format!("WARNINGS: {n}")),
            Outcome::Error(text) => (Some(format!("TASK ERROR: {text}")), text.replace('\n', " ")),
            Outcome::Vanish => (None, "unexpected status".to_owned()),
        };
        task.log.extend(line);
        task.exit = Some(exit);
        task.ended = Some(now);
        task.work = None;
        let index = at.index;
        for vm in self.cluster_mut(&at.cluster).vms.values_mut() {
            vm.flock.take_if(|holder| *holder == index);
        }
        for node in self.cluster_mut(&at.cluster).nodes.values_mut() {
            node.vzdump.take_if(|holder| *holder == index);
        }
    }

    /// SIGTERM: the worker cleans up, now or later.
    pub(crate) fn terminate(&mut self, at: &At) {
        let Some(mut work) = self.task_mut(at).and_then(|task| task.work.take()) else { return };
        if work.interrupt(self, at) {
            if let Some(task) = self.task_mut(at) {
                task.work = Some(work);
            }
            return;
        }
        let text = work.cleanup(self, at, "interrupted by signal");
        self.end_task(at, Outcome::Error(text));
    }

    /// SIGKILL, or the node went away: nothing is cleaned up.
    pub(crate) fn kill_task(&mut self, at: &At) {
        if self.task(at).is_some_and(Task::is_running) {
            self.end_task(at, Outcome::Vanish);
        }
    }

    /// Whoever asks a running task how it goes, sees its next step in stepped time.
    pub(crate) fn poll(&mut self, at: &At) {
        if !self.clock.is_stepped() {
            return;
        }
        if let Some(due) = self.task(at).filter(|t| t.is_running()).map(|t| t.due) {
            self.run_until(due.max(self.now()));
        }
    }
}

fn find(call: &mut Call<'_>) -> Result<At, ApiError> {
    let upid = call.param("upid").to_owned();
    let parts: Vec<_> = upid.split(':').collect();
    let hex = |part: &str, sizes: &[usize]| sizes.contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit());
    let valid = parts.len() == 9
        && parts[0] == "UPID"
        && parts[8].is_empty()
        && hex(parts[2], &[8])
        && hex(parts[3], &[8, 9])
        && hex(parts[4], &[8])
        && !parts[5].is_empty()
        && !parts[7].is_empty();
    if !valid {
        return Err(ApiError::param("upid", "unable to parse worker upid"));
    }
    let cluster = call.cluster.clone();
    let index = call.c().tasks.iter().position(|task| task.upid == upid);
    let index = index.ok_or_else(|| ApiError::param("upid", "no such task"))?;
    Ok(At { cluster, index })
}

fn may(call: &Call<'_>, at: &At, privilege: &str) -> Result<(), ApiError> {
    let node = match call.st.task(at) {
        Some(task) if !task.owner_is(&call.auth) => task.node.clone(),
        _ => return Ok(()),
    };
    call.need(&format!("/nodes/{node}"), &[privilege])
}

pub(crate) fn status(call: &mut Call<'_>) -> Answer {
    let at = find(call)?;
    may(call, &at, "Sys.Audit")?;
    call.st.poll(&at);
    let Some(task) = call.st.task(&at) else { return Err(ApiError::param("upid", "no such task")) };
    let mut map = task.describe();
    map.insert("status".into(), json!(if task.is_running() { "running" } else { "stopped" }));
    if let Some(exit) = &task.exit {
        map.insert("exitstatus".into(), json!(exit));
    }
    Ok(Value::Object(map).into())
}

pub(crate) fn log(call: &mut Call<'_>) -> Answer {
    let at = find(call)?;
    may(call, &at, "Sys.Audit")?;
    let start = call.number("start").unwrap_or(0);
    let limit = call.number("limit").unwrap_or(50);
    let lines = call.st.task(&at).map(|task| task.log.as_slice()).unwrap_or_default();
    let count = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(50) };
    let mut page: Vec<_> = lines
        .iter()
        .enumerate()
        .skip(usize::try_from(start).unwrap_or(0))
        .take(count)
        .map(|(n, text)| json!({"n": n + 1, "t": text}))
        .collect();
    if lines.is_empty() {
        page.push(json!({"n": 1, "t": "no content"}));
    }
    Ok(Reply { data: json!(page), total: Some(lines.len()) })
}

pub(crate) fn stop(call: &mut Call<'_>) -> Answer {
    let at = find(call)?;
    may(call, &at, "Sys.Modify")?;
    call.st.terminate(&at);
    Ok(Value::Null.into())
}

/// `/nodes/N/tasks`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let node = call.param("node").to_owned();
    let all = call.may(&format!("/nodes/{node}"), &["Sys.Audit"]);
    let source = call.get("source").unwrap_or("archive").to_owned();
    let wanted = |task: &Task| {
        let is = |key: &str, value: &str| call.get(key).is_none_or(|want| want == value);
        let since = call.number("since").is_none_or(|t| task.started / 1000 >= t);
        let until = call.number("until").is_none_or(|t| task.started / 1000 <= t);
        let ok = task.exit.as_deref().is_none_or(|e| e == "OK");
        let user = call.get("userfilter").is_none_or(|part| task.user.contains(part));
        let side = match source.as_str() {
            "active" => task.is_running(),
            "archive" => !task.is_running(),
            _ => true,
        };
        task.node == node
            && (all || task.owner_is(&call.auth))
            && is("vmid", &task.id)
            && is("typefilter", &task.kind)
            && since
            && until
            && user
            && side
            && !(call.flag("errors") && ok)
    };
    let found: Vec<Value> = call.c().tasks.iter().rev().filter(|task| wanted(task)).map(Task::listed).collect();
    let start = usize::try_from(call.number("start").unwrap_or(0)).unwrap_or(0);
    let limit = usize::try_from(call.number("limit").unwrap_or(50)).unwrap_or(50);
    let total = found.len();
    let page: Vec<_> = found.into_iter().skip(start).take(limit).collect();
    Ok(Reply { data: json!(page), total: Some(total) })
}

/// `/cluster/tasks`: recent tasks of all nodes.
pub(crate) fn recent(call: &mut Call<'_>) -> Answer {
    let mut done = std::collections::BTreeMap::<&str, usize>::new();
    let mut out = Vec::new();
    for task in call.c().tasks.iter().rev() {
        let count = done.entry(task.node.as_str()).or_default();
        if !task.is_running() {
            *count += 1;
            if *count > 25 {
                continue;
            }
        }
        if task.owner_is(&call.auth) || call.may(&format!("/nodes/{}", task.node), &["Sys.Audit"]) {
            out.push(task.listed());
        }
    }
    Ok(json!(out).into())
}

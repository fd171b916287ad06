//! vzdump: one per node at a time, log lines in PVE's order (proxmox-ve.md §6, §17).

mod guest;

use serde_json::json;

use crate::acl::Auth;
use crate::backup::archive::Header;
use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::state::{Power, State};
use crate::storage::Place;
use crate::tasks::{At, Outcome, Step, Work};
use crate::util::{log_date, split_list};

const ROOT_ONLY: [&str; 4] = ["tmpdir", "dumpdir", "script", "job-id"];
/// Progress lines, and polls, a backup takes.
const PARTS: u64 = 3;

/// `GET /nodes/{node}/vzdump/defaults`
pub(crate) fn defaults(call: &mut Call<'_>) -> Answer {
    let storage = call.get("storage").unwrap_or("local").to_owned();
    call.c().need_any(&call.auth, &format!("/storage/{storage}"), &["Datastore.Audit", "Datastore.AllocateSpace"])?;
    let keep = call.c().storages.get(&storage).and_then(|def| def.spec.prune_backups.clone());
    Ok(json!({
        "mode": "snapshot", "compress": "0", "ionice": 7, "lockwait": 180, "stopwait": 10, "storage": storage,
        "notification-mode": "auto", "prune-backups": keep.unwrap_or_else(|| "keep-all=1".to_owned()), "remove": 1,
    })
    .into())
}

/// `POST /nodes/{node}/vzdump`
pub(crate) fn post(call: &mut Call<'_>) -> Answer {
    let root = call.auth.is_root();
    if let Some(key) = ROOT_ONLY.iter().find(|key| call.get(key).is_some() && !root) {
        return Err(ApiError::param(key, "Only root may set this option."));
    }
    if ["bwlimit", "ionice", "performance"].iter().any(|key| call.get(key).is_some()) {
        call.need("/", &["Sys.Modify"])?;
    }
    let node = call.node();
    let storage = call.get("storage").unwrap_or("local").to_owned();
    if call.get("prune-backups").is_some() {
        call.need(&format!("/storage/{storage}"), &["Datastore.Allocate"])?;
    }
    call.need(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    let asked: Vec<u32> = match (call.get("vmid"), call.get("pool")) {
        (Some(list), _) => split_list(list).filter_map(|id| id.parse().ok()).collect(),
        (None, Some(pool)) => call.c().pools.get(pool).map(|p| p.vms.iter().copied().collect()).unwrap_or_default(),
        (None, None) if call.flag("all") => call.c().vms.keys().copied().collect(),
        (None, None) => return Err(ApiError::param("vmid", "property is missing and it is not optional")),
    };
    let here = |vmid: &u32| call.c().vms.get(vmid).is_none_or(|vm| vm.node == node);
    let vmids: Vec<u32> = asked.into_iter().filter(here).collect();
    if vmids.is_empty() {
        // None of them is on this node: no task (§15.4).
        return Ok(json!("OK").into());
    }
    let work = Vzdump {
        auth: call.auth.clone(),
        node: node.clone(),
        single: vmids.len() == 1,
        storage,
        mode: call.get("mode").unwrap_or("snapshot").to_owned(),
        extension: match call.get("compress") {
            Some("zstd") => ".zst",
            Some("gzip" | "1") => ".gz",
            Some("lzo") => ".lzo",
            _ => "",
        },
        remove: call.get("remove") != Some("0"),
        keep: call.get("prune-backups").map(str::to_owned),
        protected: call.flag("protected"),
        notes: call.get("notes-template").unwrap_or_default().to_owned(),
        lockwait: call.number("lockwait").filter(|minutes| *minutes > 0).unwrap_or(180),
        command: command_line(call),
        queue: vmids.iter().rev().copied().collect(),
        phase: Phase::Start,
        waiting_since: None,
        running: None,
        failed: false,
    };
    let id = if vmids.len() == 1 { vmids[0].to_string() } else { String::new() };
    let (cluster, user) = (call.cluster.clone(), call.user());
    Ok(json!(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "vzdump", id: &id, user: &user, delay_ms: 100 },
        Box::new(work)
    ))
    .into())
}

/// The work of a scheduled backup of several guests.
pub(crate) fn scheduled(auth: Auth, node: &str, storage: &str, vmids: &[u32]) -> Box<dyn Work> {
    let list = vmids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    Box::new(Vzdump {
        auth,
        node: node.to_owned(),
        single: false,
        storage: storage.to_owned(),
        mode: "snapshot".to_owned(),
        extension: ".zst",
        remove: true,
        keep: None,
        protected: false,
        notes: String::new(),
        lockwait: 180,
        command: format!("vzdump {list} --quiet 1 --mode snapshot --storage {storage}"),
        queue: vmids.iter().rev().copied().collect(),
        phase: Phase::Start,
        waiting_since: None,
        running: None,
        failed: false,
    })
}

fn command_line(call: &Call<'_>) -> String {
    let vmids = call.get("vmid").unwrap_or_default().replace([',', ';'], " ");
    let rest = call.params.iter().filter(|(key, _)| !["vmid", "node"].contains(&key.as_str()));
    let rest: String = rest.map(|(key, value)| format!(" --{key} {value}")).collect();
    format!("vzdump {vmids}{rest}")
}

enum Phase {
    Start,
    Lock,
    Next,
    Copy(u64),
}

/// A guest being backed up.
struct Running {
    vmid: u32,
    started: i64,
    volname: String,
    header: Header,
    bytes: Vec<Vec<u8>>,
    logical: u64,
    was: Power,
    part_ms: u64,
}

struct Vzdump {
    auth: Auth,
    node: String,
    single: bool,
    storage: String,
    mode: String,
    extension: &'static str,
    remove: bool,
    keep: Option<String>,
    protected: bool,
    notes: String,
    lockwait: i64,
    command: String,
    queue: Vec<u32>,
    phase: Phase,
    waiting_since: Option<i64>,
    running: Option<Running>,
    failed: bool,
}

impl Work for Vzdump {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        match self.phase {
            Phase::Start => self.check_storage(st, at),
            Phase::Lock => self.take_lock(st, at),
            Phase::Next => self.next_guest(st, at),
            Phase::Copy(part) => self.copy(st, at, part),
        }
    }

    fn cleanup(&mut self, st: &mut State, at: &At, reason: &str) -> String {
        if let Some(running) = self.running.take() {
            st.say(at, format!("ERROR: Backup of VM {} failed - {reason}", running.vmid));
            self.release(st, at, &running);
        }
        reason.to_owned()
    }
}

impl Vzdump {
    fn info(&self, st: &mut State, at: &At, text: impl AsRef<str>) {
        st.say(at, format!("INFO: {}", text.as_ref()));
    }

    fn check_storage(&mut self, st: &mut State, at: &At) -> Step {
        let name = &self.storage;
        let c = st.cluster(&at.cluster);
        let Some(def) = c.storages.get(name) else {
            return Step::error(format!(
                "could not get storage information for '{name}': storage '{name}' does not exist"
            ));
        };
        if !def.content.contains("backup") {
            return Step::error(format!("can't use storage '{name}' for backups - wrong content type"));
        }
        let offline = st.store(&self.place(&at.cluster)).is_none_or(|store| store.offline);
        if offline || !def.on(&self.node) || def.spec.disabled {
            let why = match c.usable(name, &self.node, None) {
                Err(error) => error.message,
                Ok(_) => format!("storage '{name}' is not online"),
            };
            return Step::error(format!("could not activate storage '{name}': {why}"));
        }
        self.phase = Phase::Lock;
        self.take_lock(st, at)
    }

    fn place<'a>(&'a self, cluster: &'a str) -> Place<'a> {
        Place { cluster, node: &self.node, storage: &self.storage }
    }

    /// One vzdump per node (§6).
    fn take_lock(&mut self, st: &mut State, at: &At) -> Step {
        let now = st.now();
        let Some(node) = st.cluster_mut(&at.cluster).nodes.get_mut(&self.node) else {
            return Step::End(Outcome::Vanish);
        };
        if node.vzdump.is_some_and(|holder| holder != at.index) {
            let since = *self.waiting_since.get_or_insert(now);
            if since == now {
                self.info(st, at, "trying to get global lock - waiting...");
            }
            if now - since >= self.lockwait * 60_000 {
                st.say(at, "ERROR: can't acquire lock '/var/run/vzdump.lock' - got timeout");
                return Step::End(Outcome::Vanish);
            }
            return Step::wait_ms(5_000);
        }
        node.vzdump = Some(at.index);
        if self.waiting_since.is_some() {
            self.info(st, at, "got global lock");
        }
        self.info(st, at, format!("starting new backup job: {}", self.command));
        let missing = self
            .queue
            .iter()
            .map(|vmid| st.cluster(&at.cluster).need(&self.auth, &format!("/vms/{vmid}"), &["VM.Backup"]));
        if let Some(Err(error)) = missing.into_iter().find(Result::is_err).filter(|_| self.single) {
            return Step::error(error.in_task());
        }
        self.phase = Phase::Next;
        self.next_guest(st, at)
    }

    fn next_guest(&mut self, st: &mut State, at: &At) -> Step {
        let Some(vmid) = self.queue.pop() else { return self.finish(st, at) };
        let started = st.now();
        self.info(st, at, format!("Starting Backup of VM {vmid} (qemu)"));
        let local = self.local(st, at, started);
        self.info(st, at, format!("Backup started at {}", log_date(local)));
        match self.begin(st, at, vmid) {
            Ok(running) => {
                let wait = running.part_ms;
                self.running = Some(running);
                self.phase = Phase::Copy(1);
                Step::wait_ms(wait)
            }
            Err(error) => {
                self.fail_guest(st, at, vmid, &error.message);
                self.phase = Phase::Next;
                Step::wait_ms(100)
            }
        }
    }

    fn local(&self, st: &State, at: &At, now: i64) -> i64 {
        now / 1000 + st.cluster(&at.cluster).utc_offset(&self.node) * 60
    }

    fn fail_guest(&mut self, st: &mut State, at: &At, vmid: u32, text: &str) {
        self.failed = true;
        st.say(at, format!("ERROR: Backup of VM {vmid} failed - {text}"));
        let now = st.now();
        let local = self.local(st, at, now);
        self.info(st, at, format!("Failed at {}", log_date(local)));
    }

    fn finish(&mut self, st: &mut State, at: &At) -> Step {
        if self.failed {
            self.info(st, at, "Backup job finished with errors");
            return Step::error("job errors");
        }
        self.info(st, at, "Backup job finished successfully");
        Step::ok()
    }
}

fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Space an archive takes in the accounts: 40 % of the disks when compressed (documented in fidelity.md).
fn archive_size(logical: u64, extension: &str) -> u64 {
    if extension.is_empty() { logical } else { logical / 5 * 2 }
}

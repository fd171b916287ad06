//! vzdump: one per node at a time, log lines in PVE's order (pve-behaviour.md §6, §17).

use serde_json::json;

use crate::acl::Auth;
use crate::backup::archive::{self, Header};
use crate::backup::contents::snapshot;
use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::qemu::{drives, is_unused};
use crate::state::{Power, State, Vm};
use crate::storage::{Archive, Place};
use crate::tasks::{At, Outcome, Step, Work};
use crate::util::{archive_date, format_size, log_date, split_list};

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
        now / 1000 + st.cluster(&at.cluster).utc_offset * 60
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

    /// Up to the point where bytes begin to flow.
    fn begin(&mut self, st: &mut State, at: &At, vmid: u32) -> Result<Running, ApiError> {
        let cluster = at.cluster.clone();
        let missing = || ApiError::die(format!("unable to find VM '{vmid}'"));
        let vm = st.cluster(&cluster).vms.get(&vmid).ok_or_else(missing)?;
        st.cluster(&cluster).need(&self.auth, &format!("/vms/{vmid}"), &["VM.Backup"])?;
        let was = vm.power;
        let mode = if was == Power::Stopped { "stop".to_owned() } else { self.mode.clone() };
        self.limits(st, &cluster, vmid)?;
        let ha = st.cluster(&cluster).ha.get(&format!("vm:{vmid}"));
        if was != Power::Stopped && mode == "stop" && ha.is_some_and(|r| r.state == "started") {
            return Err(ApiError::die(
                "Cannot execute a backup with stop mode on a HA managed and enabled Service. Use snapshot mode or disable the Service.",
            ));
        }
        self.describe(st, at, vmid, was, &mode)?;
        let vm = st.cluster_mut(&cluster).vm_to_write(&self.node, vmid)?;
        vm.check_lock()?;
        vm.conf.insert("lock".to_owned(), "backup".to_owned());
        let started = st.now();
        let (volname, path) = self.name_archive(st, at, vmid, started);
        self.info(st, at, format!("creating vzdump archive '{path}'"));
        match was {
            Power::Stopped => {
                self.info(st, at, "starting kvm to execute backup task");
                if let Some(vm) = st.cluster_mut(&cluster).vms.get_mut(&vmid) {
                    vm.power = Power::Prelaunch;
                    vm.pid = 20_000 + vmid;
                    vm.started_at = started;
                }
            }
            _ if mode == "stop" => {
                self.info(st, at, "stopping virtual guest");
                st.power_off(&cluster, vmid);
            }
            _ => {}
        }
        st.flush(&cluster, vmid);
        let (header, bytes) = snapshot(st, &cluster, &self.node, vmid)?;
        if was != Power::Stopped && mode == "stop" {
            // The guest runs again as soon as the job has its starting point.
            st.power_on(&cluster, vmid);
            self.info(st, at, "resuming VM again after stop");
        }
        let uuid = st.fresh_uuid("backup");
        self.info(st, at, format!("started backup task '{uuid}'"));
        let logical: u64 = header.disks.iter().map(|disk| disk.logical).sum();
        let part_ms = (st.transfer_ms(&self.place(&cluster), logical) / PARTS).max(100);
        Ok(Running { vmid, started, volname, header, bytes, logical, was, part_ms })
    }

    /// Retention and the limit of protected archives (§6).
    fn limits(&self, st: &State, cluster: &str, vmid: u32) -> Result<(), ApiError> {
        let name = &self.storage;
        let allocate = st.cluster(cluster).has(&self.auth, &format!("/storage/{name}"), &["Datastore.Allocate"]);
        let Some(store) = st.store(&self.place(cluster)) else { return Ok(()) };
        let of_guest = || store.archives.values().filter(move |archive| archive.vmid == vmid);
        if self.protected && !allocate && of_guest().filter(|a| a.protected).count() >= 5 {
            return Err(ApiError::die(format!(
                "The number of protected backups per guest is limited to 5 on storage '{name}'"
            )));
        }
        let counted = of_guest().filter(|archive| !archive.protected).count();
        match self.keep_last(st, cluster).filter(|_| !self.remove && !self.protected) {
            Some(limit) if counted >= limit => Err(ApiError::die(format!(
                "There is a max backup limit of {limit} enforced by the target storage or the vzdump parameters. Either increase the limit or delete old backups."
            ))),
            _ => Ok(()),
        }
    }

    /// How many to keep, when that is limited.
    fn keep_last(&self, st: &State, cluster: &str) -> Option<usize> {
        let of_storage = st.cluster(cluster).storages.get(&self.storage)?.spec.prune_backups.clone();
        let keep = self.keep.clone().or(of_storage)?;
        keep.split(',').find_map(|part| part.strip_prefix("keep-last=")).and_then(|n| n.parse().ok())
    }

    /// The lines that differ between a stopped and a running guest (§17.13).
    fn describe(&self, st: &mut State, at: &At, vmid: u32, was: Power, mode: &str) -> Result<(), ApiError> {
        let vm = st.cluster(&at.cluster).vm(&self.node, vmid)?;
        let mut disks = Vec::new();
        for drive in drives(&vm.conf).filter(|d| d.has_volume() && !d.is_cdrom()) {
            if drive.option("backup").is_some_and(|flag| flag == "0" || flag == "no") {
                disks.push(format!("exclude disk '{}' '{}' (backup=no)", drive.slot, drive.volume));
            } else if drive.slot == "efidisk0" && vm.conf.get("bios").is_none_or(|bios| bios != "ovmf") {
                disks.push(format!("exclude disk 'efidisk0' '{}' (efidisk but no OVMF BIOS)", drive.volume));
            } else {
                let size = st.volume(&at.cluster, &self.node, &drive.volume).map_or(0, |v| v.logical);
                disks.push(format!("include disk '{}' '{}' {}", drive.slot, drive.volume, format_size(size)));
            }
        }
        let pending = !vm.pending.is_empty();
        let unused: Vec<_> = vm.conf.iter().filter(|(key, _)| is_unused(key)).map(|(_, v)| v.clone()).collect();
        let head = vec![format!("VM Name: {}", vm.name())];
        let how = vec![format!("backup mode: {mode}"), "ionice priority: 7".to_owned()];
        let status = if was == Power::Stopped { "stopped" } else { "running" };
        let order = if was == Power::Stopped { [how, head, disks] } else { [head, disks, how] };
        self.info(st, at, format!("status = {status}"));
        for line in order.concat() {
            self.info(st, at, line);
        }
        if pending {
            self.info(st, at, "pending configuration changes found (not included into backup)");
        }
        for volume in unused {
            self.info(st, at, format!("skip unused drive '{volume}' (not included into backup)"));
        }
        Ok(())
    }

    fn name_archive(&self, st: &State, at: &At, vmid: u32, started: i64) -> (String, String) {
        let mount = st.cluster(&at.cluster).storages.get(&self.storage).map(|def| def.mount(&self.storage));
        let mut second = self.local(st, at, started);
        loop {
            let file = format!("vzdump-qemu-{vmid}-{}.vma{}", archive_date(second), self.extension);
            let volname = format!("backup/{file}");
            let taken = st.store(&self.place(&at.cluster)).is_some_and(|store| store.archives.contains_key(&volname));
            if !taken {
                return (volname, format!("{}/dump/{file}", mount.unwrap_or_default()));
            }
            second += 1;
        }
    }

    fn copy(&mut self, st: &mut State, at: &At, part: u64) -> Step {
        let Some(running) = &self.running else { return self.finish(st, at) };
        let (vmid, logical, wait) = (running.vmid, running.logical, running.part_ms);
        let size = archive_size(logical, self.extension);
        let free = st.store(&self.place(&at.cluster)).map_or(0, crate::storage::Store::free);
        if free < size {
            st.say(at, "ERROR: vma_queue_write: write error - Broken pipe");
            self.info(st, at, "aborting backup job");
            if let Some(running) = self.running.take() {
                self.release(st, at, &running);
            }
            let text = "vma_queue_write: write error - Broken pipe";
            self.fail_guest(st, at, vmid, text);
            self.phase = Phase::Next;
            return Step::wait_ms(100);
        }
        let done = logical * part / PARTS;
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        self.info(
            st,
            at,
            format!(
                "{:3}% ({:.1} GiB of {:.1} GiB) in {}s, read: 200.0 MiB/s, write: 120.0 MiB/s",
                part * 100 / PARTS,
                gib(done),
                gib(logical),
                part * wait / 1000
            ),
        );
        if part < PARTS {
            self.phase = Phase::Copy(part + 1);
            return Step::wait_ms(wait);
        }
        self.complete(st, at);
        self.phase = Phase::Next;
        Step::wait_ms(100)
    }

    /// The archive gets its final name last, so what is listed is complete.
    fn complete(&mut self, st: &mut State, at: &At) {
        let Some(running) = self.running.take() else { return };
        let vmid = running.vmid;
        let seconds = (st.now() - running.started) / 1000;
        let gib = running.logical as f64 / (1u64 << 30) as f64;
        self.info(st, at, format!("transferred {gib:.2} GiB in {seconds} seconds"));
        let file = st.folder.join("archives").join(format!("{:016x}", st.fresh("archive")));
        if let Err(error) = archive::write(&file, &running.header, &running.bytes) {
            self.release(st, at, &running);
            return self.fail_guest(st, at, vmid, &error.to_string());
        }
        self.release(st, at, &running);
        let size = archive_size(running.logical, self.extension);
        self.info(st, at, format!("archive file size: {:.2}GB", size as f64 / 1e9));
        let notes = self.render_notes(st, at, vmid);
        let ctime = running.started / 1000;
        let archive = Archive { vmid, ctime, size, notes: notes.clone(), protected: self.protected, file };
        if !notes.is_empty() {
            self.info(st, at, "adding notes to backup");
        }
        if self.protected {
            self.info(st, at, "marking backup as protected");
        }
        super::write_side_files(&archive);
        if let Some(store) = st.store_mut(&self.place(&at.cluster)) {
            store.archives.insert(running.volname.clone(), archive);
        }
        self.prune(st, at, vmid);
        self.info(st, at, format!("Finished Backup of VM {vmid} ({})", clock(seconds)));
        let now = st.now();
        let local = self.local(st, at, now);
        self.info(st, at, format!("Backup finished at {}", log_date(local)));
    }

    fn render_notes(&self, st: &State, at: &At, vmid: u32) -> String {
        let c = st.cluster(&at.cluster);
        let name = c.vms.get(&vmid).map(Vm::name).unwrap_or_default();
        self.notes
            .replace("{{cluster}}", c.corosync.as_deref().unwrap_or("standalone node"))
            .replace("{{guestname}}", &name)
            .replace("{{node}}", &self.node)
            .replace("{{vmid}}", &vmid.to_string())
            .replace("\\n", "\n")
    }

    /// Older unprotected archives of the same vmid go, whichever cluster made them (§8 hazards).
    fn prune(&self, st: &mut State, at: &At, vmid: u32) {
        let Some(keep) = self.keep_last(st, &at.cluster).filter(|_| self.remove) else { return };
        self.info(st, at, format!("prune older backups with retention: keep-last={keep}"));
        let Some(store) = st.store_mut(&self.place(&at.cluster)) else { return };
        let mut old: Vec<_> = store
            .archives
            .iter()
            .filter(|(_, archive)| archive.vmid == vmid && !archive.protected)
            .map(|(name, archive)| (archive.ctime, name.clone()))
            .collect();
        old.sort();
        old.truncate(old.len().saturating_sub(keep));
        let count = old.len();
        for (_, name) in old {
            if let Some(archive) = store.archives.remove(&name) {
                super::remove_files(&archive);
            }
        }
        self.info(st, at, format!("pruned {count} backup(s) not covered by keep-retention policy"));
    }

    /// The guest gets its lock and its QEMU back to what they were.
    fn release(&self, st: &mut State, at: &At, running: &Running) {
        let Some(vm) = st.cluster_mut(&at.cluster).vms.get_mut(&running.vmid) else { return };
        if vm.lock() == Some("backup") {
            vm.conf.remove("lock");
        }
        if running.was != Power::Stopped {
            return;
        }
        let now = vm.power;
        if now == Power::Prelaunch {
            vm.power = Power::Stopped;
            vm.pid = 0;
            self.info(st, at, "stopping kvm after backup task");
        } else {
            // Somebody started the guest meanwhile: the archive is older than its disk (§17).
            self.info(st, at, format!("kvm status changed after backup ('{}') - keep VM running", now.qmp()));
        }
    }
}

fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Space an archive takes in the accounts: 40 % of the disks when compressed (documented in fidelity.md).
fn archive_size(logical: u64, extension: &str) -> u64 {
    if extension.is_empty() { logical } else { logical / 5 * 2 }
}

//! Restoring an archive: the stub, the unlocked `memory: 128`, the overrides, the rescan (proxmox-ve.md §7, §16, §17).

use std::collections::BTreeMap;

use serde_json::json;

use crate::acl::Auth;
use crate::backup::archive::{self, Header};
use crate::backup::contents::{archived_drive, parse_conf};
use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::qemu::{Drive, config, create, destroy, is_drive, is_net, is_unused, options};
use crate::state::{Cluster, Power, State};
use crate::storage::{Place, owner_of, split_volid};
use crate::tasks::{At, Step, Work};

/// Progress lines, and polls, a restore takes.
const PARTS: u64 = 3;

/// `GET /nodes/{node}/vzdump/extractconfig`
pub(crate) fn extract_config(call: &mut Call<'_>) -> Answer {
    let volid = call.param("volume").to_owned();
    let node = call.node();
    let Some((storage, name)) = split_volid(&volid) else {
        return Err(ApiError::die(format!("unable to parse volume ID '{volid}'")));
    };
    let owner = owner_of(name);
    call.c().need_volume(&call.auth, storage, true, owner, None, &volid)?;
    if let Some(owner) = owner {
        // Asked for even when the storage is all one's own (§17).
        call.need(&format!("/vms/{owner}"), &["VM.Backup"])?;
    }
    let file = archive_file(call, &node, &volid)?;
    let (header, _) = archive::read(&file)
        .map_err(|error| ApiError::die(format!("Failed to extract config from VMA archive: {error}")))?;
    Ok(json!(header.conf).into())
}

fn archive_file(call: &Call<'_>, node: &str, volid: &str) -> Result<std::path::PathBuf, ApiError> {
    let storage = volid.split(':').next().unwrap_or_default();
    call.c().usable(storage, node, None)?;
    if call.st.store(&Place { cluster: &call.cluster, node, storage }).is_none_or(|store| store.offline) {
        return Err(ApiError::die(format!("storage '{storage}' is not online")));
    }
    match call.st.archive(&call.cluster, node, volid) {
        Some(archive) => Ok(archive.file.clone()),
        None => Err(ApiError::die(format!("volume '{volid}' does not exist"))),
    }
}

/// The line of a disk that is excluded from backups becomes a comment, which is to say a line of the notes (proxmox-ve.md §18.24).
fn comment_excluded(conf: &mut BTreeMap<String, String>) {
    let no = |key: &str, line: &str| {
        is_drive(key) && Drive::parse(key, line).option("backup").is_some_and(|flag| flag == "0" || flag == "no")
    };
    let excluded: Vec<String> = conf.iter().filter(|(key, line)| no(key, line)).map(|(key, _)| key.clone()).collect();
    for key in excluded {
        let line = conf.remove(&key).unwrap_or_default();
        let notes = conf.get("description").map(|notes| format!("{notes}\n")).unwrap_or_default();
        conf.insert("description".to_owned(), format!("{notes}{key}: {line}"));
    }
}

/// `vzdump-qemu-100-2026_01_02-03_04_05.vma.zst`
fn is_archive_name(volid: &str) -> bool {
    let name = volid.rsplit('/').next().unwrap_or_default();
    let Some((stem, rest)) = name.split_once(".vma") else { return false };
    let digits = |part: &str, sizes: &[usize]| {
        let parts: Vec<_> = part.split('_').collect();
        parts.len() == sizes.len()
            && parts.iter().zip(sizes).all(|(p, n)| p.len() == *n && p.bytes().all(|b| b.is_ascii_digit()))
    };
    let parts: Vec<_> = stem.split('-').collect();
    ["", ".zst", ".gz", ".lzo"].contains(&rest)
        && parts.len() == 5
        && parts[0] == "vzdump"
        && parts[1] == "qemu"
        && parts[2].parse::<u32>().is_ok()
        && digits(parts[3], &[4, 2, 2])
        && digits(parts[4], &[2, 2, 2])
}

/// `POST /nodes/{node}/qemu` with `archive`; rights to the VM itself are checked already.
pub(crate) fn post(call: &mut Call<'_>, volid: String, given: BTreeMap<String, String>, on: &str) -> Answer {
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    if let Some(slot) = given.keys().find(|key| is_drive(key)) {
        return Err(ApiError::param(slot, "option conflicts with option 'archive'"));
    }
    let Some((storage, name)) = split_volid(&volid) else {
        return Err(ApiError::die("Only root can pass arbitrary filesystem paths."));
    };
    call.c().need_volume(&call.auth, storage, true, owner_of(name), Some(vmid), &volid)?;
    let file = archive_file(call, &node, &volid)?;
    if !is_archive_name(&volid) {
        return Err(ApiError::die(format!("couldn't determine archive info from '{volid}'")));
    }
    for (key, value) in given.iter().filter(|(key, _)| !is_net(key)) {
        options::permit(call.c(), &call.auth, on, key, Some(value), None)?;
    }
    for (key, net) in given.iter().filter(|(key, _)| is_net(key)) {
        options::permit(call.c(), &call.auth, on, key, Some(net), None)?;
        options::permit_bridge(call.c(), &call.auth, net)?;
    }
    let overwrite = call.flag("force") && call.c().vms.get(&vmid).is_some_and(|vm| vm.node == node);
    if overwrite {
        let vm = call.cm().vm_to_write(&node, vmid)?;
        vm.check_lock()?;
        if vm.flag("protection") {
            return Err(ApiError::die("protection mode enabled"));
        }
    } else {
        create::refuse_taken(call, "restore", vmid)?;
        create::stub(call.st, &cluster, &node, vmid);
    }
    let path =
        format!("{}/dump/{}", call.c().storage(storage)?.mount(storage), name.rsplit('/').next().unwrap_or_default());
    let work = Restore {
        auth: call.auth.clone(),
        node: node.clone(),
        vmid,
        from: storage.to_owned(),
        file,
        path,
        storage: call.get("storage").map(str::to_owned),
        given,
        pool: call.get("pool").map(str::to_owned),
        unique: call.flag("unique"),
        start: call.flag("start"),
        live: call.flag("live-restore"),
        overwrite,
        part: 0,
        part_ms: 0,
        header: None,
        bytes: Vec::new(),
        made: Vec::new(),
        command: String::new(),
    };
    let user = call.user();
    Ok(json!(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "qmrestore", id: &vmid.to_string(), user: &user, delay_ms: 200 },
        Box::new(work)
    ))
    .into())
}

struct Restore {
    auth: Auth,
    node: String,
    vmid: u32,
    from: String,
    file: std::path::PathBuf,
    path: String,
    storage: Option<String>,
    given: BTreeMap<String, String>,
    pool: Option<String>,
    unique: bool,
    start: bool,
    live: bool,
    overwrite: bool,
    part: u64,
    part_ms: u64,
    header: Option<Header>,
    bytes: Vec<Vec<u8>>,
    /// Slot and volid of every new volume.
    made: Vec<(String, String)>,
    /// The pipeline, once it runs: its failures wear its text.
    command: String,
}

impl Work for Restore {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        if self.part == 0 {
            return match self.begin(st, at) {
                Ok(()) => {
                    self.part = 1;
                    Step::wait_ms(self.part_ms)
                }
                Err(error) => Step::error(self.give_up(st, at, &error.in_task(), true)),
            };
        }
        if self.part <= PARTS {
            return self.progress(st, at);
        }
        match self.finish(st, at) {
            Ok(()) => Step::ok(),
            Err(error) => {
                st.say(at, "error after data was restored, VM disks should be OK but config may require adaptions.");
                Step::error(self.give_up(st, at, &error.in_task(), false))
            }
        }
    }

    fn cleanup(&mut self, st: &mut State, at: &At, reason: &str) -> String {
        self.give_up(st, at, reason, true)
    }
}

impl Restore {
    /// The stub stays, unlocked; new volumes go, unless the data was complete (§7, §17.c6, §17.c7).
    fn give_up(&mut self, st: &mut State, at: &At, reason: &str, free: bool) -> String {
        if free {
            for (_, volid) in std::mem::take(&mut self.made) {
                st.free_volume(&at.cluster, &self.node, &volid);
                st.say(at, format!("temporary volume '{volid}' successfully removed"));
            }
            st.say(
                at,
                format!(
                    "error before or during data restore, some or all disks were not completely restored. VM {} state is NOT cleaned up.",
                    self.vmid
                ),
            );
        }
        if let Some(vm) = st.cluster_mut(&at.cluster).vms.get_mut(&self.vmid)
            && vm.conf.remove("lock").is_none()
        {
            st.say(at, "no lock found trying to remove 'create' lock");
        }
        if self.command.is_empty() || !free {
            reason.to_owned()
        } else {
            format!("command '{}' failed: {reason}", self.command)
        }
    }

    fn begin(&mut self, st: &mut State, at: &At) -> Result<(), ApiError> {
        let cluster = at.cluster.clone();
        st.cluster_mut(&cluster).vm_mut(&self.node, self.vmid)?.flock = Some(at.index);
        if self.live {
            return Err(ApiError::die(
                "live-restore is only compatible with backup images from a Proxmox Backup Server",
            ));
        }
        if self.overwrite {
            self.clear_old(st, &cluster)?;
        }
        let read = archive::read(&self.file);
        if let Ok((header, _)) = &read {
            self.permit_merged(st, &cluster, header)?;
        }
        let fifo = format!("/var/tmp/vzdumptmp{}", 4000 + self.vmid);
        let unpack = if self.path.ends_with(".zst") {
            format!("zstd -q -d -c {}", self.path)
        } else if self.path.ends_with(".gz") {
            format!("zcat {}", self.path)
        } else {
            format!("cat {}", self.path)
        };
        self.command = format!("set -o pipefail && {unpack} | vma extract -v -r {fifo}.fifo - {fifo}");
        st.say(at, format!("restore vma archive: {unpack} | vma extract -v -r {fifo}.fifo - {fifo}"));
        let (header, bytes) = read.map_err(|_| {
            st.say(at, "vma: restore failed - short vma extent (0 < 65536)");
            ApiError::die("exit code 1")
        })?;
        st.say(at, format!("CFG: size: {} name: qemu-server.conf", header.conf.len()));
        for (n, disk) in header.disks.iter().enumerate() {
            st.say(at, format!("DEV: dev_id={} size: {} devname: drive-{}", n + 1, disk.logical, disk.slot));
        }
        let created = st.seconds();
        st.say(at, format!("CTIME: {}", crate::util::http_date(created)));
        for disk in &header.disks {
            let storage = self.storage.as_deref().unwrap_or_else(|| disk.home());
            let c = st.cluster(&cluster);
            c.usable(storage, &self.node, Some("images"))?;
            c.need(&self.auth, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
        }
        // From here on the configuration is `memory: 128`, with no lock at all.
        st.cluster_mut(&cluster).vm_mut(&self.node, self.vmid)?.conf =
            BTreeMap::from([("memory".to_owned(), "128".to_owned())]);
        self.allocate(st, at, &header)?;
        let logical: u64 = header.disks.iter().map(|disk| disk.logical).sum();
        let place = Place { cluster: &cluster, node: &self.node, storage: &self.from };
        self.part_ms = (st.transfer_ms(&place, logical * 2 / 5) / PARTS).max(100);
        self.header = Some(header);
        self.bytes = bytes;
        Ok(())
    }

    fn allocate(&mut self, st: &mut State, at: &At, header: &Header) -> Result<(), ApiError> {
        for disk in &header.disks {
            let storage = self.storage.clone().unwrap_or_else(|| disk.home().to_owned());
            let place = Place { cluster: &at.cluster, node: &self.node, storage: &storage };
            // A format that the storage doesn't have becomes its own.
            let files = st.cluster(&at.cluster).storage(&storage)?.is_file_based();
            let format = if files { disk.format.as_str() } else { "raw" };
            let volid = st.allocate_as(&place, self.vmid, disk.logical, "disk", format)?;
            st.say(at, format!("new volume ID is '{volid}'"));
            let name = volid.split_once(':').map_or("", |(_, name)| name);
            let path = st.cluster(&at.cluster).storage(&storage)?.path_of(&storage, name);
            st.say(at, format!("map 'drive-{}' to '{path}' (write zeros = 0)", disk.slot));
            self.made.push((disk.slot.clone(), volid));
        }
        Ok(())
    }

    /// force=1: the disks of the VM that was there go first.
    fn clear_old(&self, st: &mut State, cluster: &str) -> Result<(), ApiError> {
        let vm = st.cluster(cluster).vm(&self.node, self.vmid)?;
        if vm.power != Power::Stopped {
            return Err(ApiError::die(format!("unable to restore VM {} - vm is running", self.vmid)));
        }
        for volid in config::volumes(vm) {
            st.free_volume(cluster, &self.node, &volid);
        }
        Ok(())
    }

    /// Rights for what the archive holds, with the overrides in place of what they replace (§16).
    fn permit_merged(&self, st: &State, cluster: &str, header: &Header) -> Result<(), ApiError> {
        let c = st.cluster(cluster);
        let mut merged = parse_conf(&header.conf);
        merged.extend(self.given.clone());
        for (key, value) in &merged {
            if is_net(key) {
                options::permit_bridge(c, &self.auth, value)?;
            }
            let device = key.starts_with("hostpci") || key.starts_with("usb") || key.starts_with("serial");
            if device {
                options::permit(c, &self.auth, "/", key, Some(value), None)
                    .or_else(|error| if error.code == 403 { Ok(()) } else { Err(error) })?;
            }
        }
        Ok(())
    }

    fn progress(&mut self, st: &mut State, at: &At) -> Step {
        let Some(header) = &self.header else { return Step::error("no header") };
        let total: u64 = header.disks.iter().map(|disk| disk.logical).sum();
        let full = self.made.iter().any(|(_, volid)| {
            st.locate(&at.cluster, &self.node, volid).and_then(|(key, _)| st.stores.get(&key)).is_some_and(|s| s.full)
        });
        if full {
            st.say(at, "vma: restore failed - write error: No space left on device");
            return Step::error(self.give_up(st, at, "exit code 1", true));
        }
        let (done, part) = (total * self.part / PARTS, self.part);
        let seconds = part * self.part_ms / 1000;
        st.say(at, format!("progress {}% (read {done} bytes, duration {seconds} sec)", part * 100 / PARTS));
        if part == PARTS {
            if let Err(error) = self.write_bytes(st, at) {
                return Step::error(self.give_up(st, at, &error.message, true));
            }
            st.say(at, format!("total bytes read {total}, sparse bytes 0 (0%)"));
            st.say(at, "space reduction due to 4K zero blocks 0%");
        }
        self.part += 1;
        Step::wait_ms(self.part_ms)
    }

    fn write_bytes(&mut self, st: &mut State, at: &At) -> Result<(), ApiError> {
        let Some(header) = &self.header else { return Ok(()) };
        for ((disk, bytes), (_, volid)) in header.disks.iter().zip(&self.bytes).zip(&self.made) {
            let gone = || ApiError::die(format!("volume '{volid}' does not exist"));
            let (key, name) = st.locate(&at.cluster, &self.node, volid).ok_or_else(gone)?;
            let volume = st.stores.get_mut(&key).and_then(|store| store.volumes.get_mut(name)).ok_or_else(gone)?;
            volume.content = disk.content;
            std::fs::write(&volume.file, bytes).map_err(|error| ApiError::die(error.to_string()))?;
        }
        Ok(())
    }

    fn finish(&mut self, st: &mut State, at: &At) -> Result<(), ApiError> {
        let cluster = at.cluster.clone();
        let header = self.header.take().unwrap_or(Header {
            conf: String::new(),
            disks: Vec::new(),
            firewall: Default::default(),
        });
        if let Some(message) = st.late_failure(at) {
            return Err(ApiError::die(message));
        }
        self.permit_merged(st, &cluster, &header)?;
        let conf = self.final_config(st, &cluster, &header)?;
        if !st.cluster(&cluster).quorate {
            return Err(ApiError::die(format!(
                "unable to open file '/etc/pve/nodes/{}/qemu-server/{}.conf.tmp.{}' - Permission denied",
                self.node,
                self.vmid,
                4000 + self.vmid
            )));
        }
        let vm = st.cluster_mut(&cluster).vm_mut(&self.node, self.vmid)?;
        (vm.conf, vm.firewall) = (conf, header.firewall);
        self.rescan(st, at)?;
        let c = st.cluster_mut(&cluster);
        if let Some(pool) = self.pool.as_ref().and_then(|pool| c.pools.get_mut(pool)) {
            pool.vms.insert(self.vmid);
        }
        if self.start {
            // Its failure shows in a task of its own (§17.c3).
            st.say(at, "Execute autostart");
            let work = crate::qemu::power::start_work(&self.node, self.vmid);
            st.spawn(
                &cluster,
                crate::tasks::New {
                    node: &self.node,
                    kind: "qmstart",
                    id: &self.vmid.to_string(),
                    user: &self.auth.id(),
                    delay_ms: 500,
                },
                work,
            );
        }
        Ok(())
    }

    fn final_config(
        &self,
        st: &mut State,
        cluster: &str,
        header: &Header,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        let mut conf = parse_conf(&header.conf);
        conf.retain(|key, _| !is_unused(key) && key != "lock" && key != "parent");
        comment_excluded(&mut conf);
        for (slot, volid) in &self.made {
            if let Some(mut drive) = archived_drive(&conf, slot) {
                drive.volume.clone_from(volid);
                conf.insert(slot.clone(), drive.print());
            }
        }
        let seeds: Vec<String> = conf
            .iter()
            .filter(|(key, value)| is_drive(key) && Drive::parse(key, value).is_cloud_init())
            .map(|(key, _)| key.clone())
            .collect();
        for slot in seeds {
            let mut drive = Drive::parse(&slot, &conf[&slot]);
            let original = drive.volume.split(':').next().unwrap_or_default().to_owned();
            let storage = self.storage.clone().unwrap_or(original);
            let place = Place { cluster, node: &self.node, storage: &storage };
            drive.volume = st.allocate(&place, self.vmid, 4 << 20, "cloudinit")?;
            conf.insert(slot, drive.print());
        }
        for (key, value) in &self.given {
            let stored = options::normal(st, cluster, &self.node, self.vmid, key, value)?;
            if stored.is_empty() {
                conf.remove(key);
            } else {
                conf.insert(key.clone(), stored);
            }
        }
        if conf.get("vmgenid").is_none_or(|id| id != "0") {
            conf.insert("vmgenid".to_owned(), st.fresh_uuid("vmgenid"));
        }
        if self.unique {
            conf.insert("smbios1".to_owned(), format!("uuid={}", st.fresh_uuid("smbios")));
            let nets: Vec<String> = conf.keys().filter(|key| is_net(key)).cloned().collect();
            for key in nets {
                let (first, rest) = conf[&key].split_once(',').unwrap_or((conf[&key].as_str(), ""));
                let model = first.split('=').next().unwrap_or("virtio");
                let fresh = options::normal_net(st, cluster, &format!("{model},{rest}"));
                conf.insert(key, fresh);
            }
        }
        Ok(conf)
    }

    /// Any `vm-ID-disk-*` on any image storage becomes unusedN, whosever it is (§16, §17).
    fn rescan(&self, st: &mut State, at: &At) -> Result<(), ApiError> {
        st.say(at, "rescan volumes...");
        for volid in destroy::volumes_of(st, &at.cluster, &self.node, self.vmid) {
            let vm = st.cluster_mut(&at.cluster).vms.get_mut(&self.vmid);
            let vm = vm.ok_or_else(|| Cluster::missing(&self.node, self.vmid))?;
            if config::volumes(vm).contains(&volid) {
                continue;
            }
            if let Some(key) = config::add_unused(vm, &volid) {
                st.say(at, format!("VM {} add unreferenced volume '{volid}' as '{key}' to config", self.vmid));
            }
        }
        Ok(())
    }
}

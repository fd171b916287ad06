//! Moving a volume to another storage of its cluster, or to another format: `POST …/move_disk`.
//!
//! As qemu-server's `move_vm_disk` and `clone_disk` do it: copy, write the configuration, then free the old volume. What fails
//! before the configuration is written frees the copy; what is killed leaves it. Only the tools of some storages tell what the
//! copy is called.

use serde_json::json;

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::qemu::{Drive, config};
use crate::state::State;
use crate::storage::{Place, named_format, split_volid};
use crate::tasks::{At, Outcome, Step, Work};

/// Progress lines, and polls, a move takes.
const PARTS: u64 = 2;

/// Size of a cloud-init drive: PVE makes an empty one in the new place.
const CLOUD_INIT: u64 = 4 << 20;

/// `POST …/move_disk`.
pub(crate) fn post(call: &mut Call<'_>) -> Answer {
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    let slot = call.param("disk").to_owned();
    let Some(storage) = call.get("storage").map(str::to_owned) else {
        return Err(ApiError::param("storage", "either set storage or target-vmid, but not both"));
    };
    call.need(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    let digest = call.get("digest").map(str::to_owned);
    let work = MoveDisk {
        node: node.clone(),
        vmid,
        slot,
        storage,
        format: call.get("format").map(str::to_owned),
        delete: call.flag("delete"),
        digest,
        copy: None,
        part: 0,
        part_ms: 0,
    };
    // Checked before the worker is forked, and in it once more.
    work.check(call.st, &cluster)?;
    let user = call.user();
    Ok(json!(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "qmmove", id: &vmid.to_string(), user: &user, delay_ms: 200 },
        Box::new(work)
    ))
    .into())
}

struct MoveDisk {
    node: String,
    vmid: u32,
    slot: String,
    storage: String,
    format: Option<String>,
    delete: bool,
    digest: Option<String>,
    /// The drive as it was, and the new volume.
    copy: Option<(Drive, String)>,
    part: u64,
    part_ms: u64,
}

impl Work for MoveDisk {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        let Some((drive, volid)) = self.copy.clone() else {
            return match self.begin(st, at) {
                Ok(()) => Step::wait_ms(self.part_ms),
                Err(error) => Step::error(self.give_up(st, at, &error.in_task())),
            };
        };
        self.part += 1;
        if self.part < PARTS {
            st.say(at, format!("transferred part {} of {PARTS} ({}.00%)", self.part, self.part * 100 / PARTS));
            return Step::wait_ms(self.part_ms);
        }
        match self.finish(st, at, &drive, &volid) {
            Ok(outcome) => Step::End(outcome),
            Err(error) => Step::error(self.give_up(st, at, &error.in_task())),
        }
    }

    fn cleanup(&mut self, st: &mut State, at: &At, reason: &str) -> String {
        self.give_up(st, at, reason)
    }
}

impl MoveDisk {
    /// The drive that is to be moved, or why it can't be.
    fn check(&self, st: &mut State, cluster: &str) -> Result<Drive, ApiError> {
        let c = st.cluster_mut(cluster);
        let vm = c.vm_to_write(&self.node, self.vmid)?;
        vm.check_lock()?;
        if self.digest.as_ref().is_some_and(|sent| *sent != vm.digest()) {
            return Err(ApiError::die("detected modified configuration - file changed by other user? Try again."));
        }
        let slot = &self.slot;
        let line = vm.conf.get(slot).ok_or_else(|| ApiError::die(format!("disk '{slot}' does not exist")))?;
        let drive = Drive::parse(slot, line);
        if drive.is_cdrom() && !drive.is_cloud_init() {
            return Err(ApiError::die("you can't move a cdrom"));
        }
        let is = named_format(&drive.volume);
        // What is no file has no format to change.
        let same_format = is.is_none() || self.format.as_deref().is_none_or(|wanted| Some(wanted) == is);
        if same_format && split_volid(&drive.volume).is_some_and(|(on, _)| on == self.storage) {
            return Err(ApiError::param("storage", "you can't move to the same storage with same format"));
        }
        c.usable(&self.storage, &self.node, None)?;
        if !c.storage(&self.storage)?.content.contains("images") {
            let text = format!("storage '{}' does not support vm images", self.storage);
            return Err(ApiError::param("storage", &text));
        }
        Ok(drive)
    }

    fn place<'a>(&'a self, at: &'a At) -> Place<'a> {
        Place { cluster: &at.cluster, node: &self.node, storage: &self.storage }
    }

    /// Takes the lock and allocates the copy.
    fn begin(&mut self, st: &mut State, at: &At) -> Result<(), ApiError> {
        let drive = self.check(st, &at.cluster)?;
        st.cluster_mut(&at.cluster).vm_mut(&self.node, self.vmid)?.flock = Some(at.index);
        st.say(at, format!("create full clone of drive {} ({})", self.slot, drive.volume));
        let size = match st.volume(&at.cluster, &self.node, &drive.volume) {
            _ if drive.is_cloud_init() => CLOUD_INIT,
            Some(volume) => volume.logical,
            None => return Err(ApiError::die(format!("volume '{}' does not exist", drive.volume))),
        };
        let stem = if drive.is_cloud_init() { "cloudinit" } else { "disk" };
        // Without a format the one it has is the hint; one that the storage doesn't have becomes its own.
        let files = st.cluster(&at.cluster).storage(&self.storage)?.is_file_based();
        let wanted = self.format.as_deref().or(named_format(&drive.volume));
        let format = wanted.filter(|_| files).unwrap_or("raw");
        let volid = st.allocate_as(&self.place(at), self.vmid, size, stem, format)?;
        self.tell(st, at, &volid, size)?;
        self.copy = Some((drive, volid));
        self.part_ms = (st.transfer_ms(&self.place(at), size) / PARTS).max(100);
        Ok(())
    }

    /// What `qemu-img` and `lvcreate` print; zfs and rbd are silent.
    fn tell(&self, st: &mut State, at: &At, volid: &str, size: u64) -> Result<(), ApiError> {
        let name = split_volid(volid).map_or("", |(_, name)| name).to_owned();
        let def = st.cluster(&at.cluster).storage(&self.storage)?;
        let line = match def.spec.kind.as_str() {
            "lvm" | "lvmthin" => format!("  Logical volume \"{name}\" created."),
            _ if def.is_file_based() => {
                let (path, format) = (def.path_of(&self.storage, &name), name.rsplit('.').next().unwrap_or("raw"));
                format!("Formatting '{path}', fmt={format} size={size} preallocation=off")
            }
            _ => return Ok(()),
        };
        st.say(at, line);
        Ok(())
    }

    fn finish(&mut self, st: &mut State, at: &At, drive: &Drive, volid: &str) -> Result<Outcome, ApiError> {
        let cluster = at.cluster.clone();
        st.flush(&cluster, self.vmid);
        if !drive.is_cloud_init() {
            self.copy_bytes(st, at, drive, volid)?;
        }
        if let Some(message) = st.late_failure(at) {
            return Err(ApiError::die(message));
        }
        let vm = st.cluster_mut(&cluster).vm_mut(&self.node, self.vmid)?;
        let mut moved = drive.clone();
        moved.volume = volid.to_owned();
        vm.conf.insert(self.slot.clone(), moved.print());
        // Written: nothing is taken back from here on.
        self.copy = None;
        if !self.delete {
            config::add_unused(vm, &drive.volume);
            return Ok(Outcome::Ok);
        }
        let offline = st.locate(&cluster, &self.node, &drive.volume).and_then(|(key, _)| st.stores.get(&key));
        if offline.is_some_and(|store| store.offline) {
            let on = split_volid(&drive.volume).map_or("", |(on, _)| on);
            st.say(at, format!("storage '{on}' is not online"));
            return Ok(Outcome::Warnings(1));
        }
        st.free_volume(&cluster, &self.node, &drive.volume);
        Ok(Outcome::Ok)
    }

    fn copy_bytes(&self, st: &mut State, at: &At, drive: &Drive, volid: &str) -> Result<(), ApiError> {
        let missing = |volid: &str| ApiError::die(format!("volume '{volid}' does not exist"));
        let from = st.volume(&at.cluster, &self.node, &drive.volume).cloned().ok_or_else(|| missing(&drive.volume))?;
        let (key, name) = st.locate(&at.cluster, &self.node, volid).ok_or_else(|| missing(volid))?;
        let store = st.stores.get_mut(&key).ok_or_else(|| missing(volid))?;
        if store.full {
            return Err(ApiError::die("copy failed: No space left on device"));
        }
        let to = store.volumes.get_mut(name).ok_or_else(|| missing(volid))?;
        to.content = from.content;
        std::fs::copy(&from.file, &to.file).map_err(|error| ApiError::die(error.to_string()))?;
        st.say(at, format!("transferred {0} B of {0} B (100.00%)", from.logical));
        Ok(())
    }

    /// The copy is freed, and the configuration is as it was.
    fn give_up(&mut self, st: &mut State, at: &At, reason: &str) -> String {
        if let Some((_, volid)) = self.copy.take() {
            st.free_volume(&at.cluster, &self.node, &volid);
        }
        format!("storage migration failed: {reason}")
    }
}

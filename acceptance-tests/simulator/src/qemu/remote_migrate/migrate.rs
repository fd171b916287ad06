//! The task `qmigrate` of a remote migration: its phases, and what a failure in each of them leaves (proxmox-ve.md §9).

use std::collections::{BTreeMap, BTreeSet};

use super::IdMap;
use super::endpoint::Endpoint;
use super::tunnel::Tunnel;
use crate::clock::Millis;
use crate::error::ApiError;
use crate::qemu::{Drive, drives, is_drive};
use crate::state::{Power, State, Vm};
use crate::storage::split_volid;
use crate::tasks::{At, Outcome, Step, Work};
use crate::util::log_date;

mod phases;

/// Progress lines, and polls, the copy of the disks takes.
const PARTS: u64 = 3;

/// What the POST asked for.
pub(super) struct Order {
    pub(super) node: String,
    pub(super) vmid: u32,
    pub(super) target_vmid: u32,
    pub(super) endpoint: Endpoint,
    pub(super) target_node: String,
    pub(super) storages: IdMap,
    pub(super) bridges: IdMap,
    pub(super) online: bool,
    pub(super) delete: bool,
    /// KiB/s; 0 is no limit.
    pub(super) bwlimit: u64,
}

/// What the next step does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Checks on both sides; the tunnel.
    Prepare,
    /// Phase 1: lock, scan, volumes.
    Scan,
    /// Phase 1: the n-th part of what is copied while nothing writes on it.
    Copy(u64),
    /// Phase 1: the configuration is handed over.
    Configure,
    /// Phase 2: QEMU on the target.
    Start,
    /// Phase 2: the n-th part of the disks of a running guest.
    Mirror(u64),
    /// Phase 2: the guest's memory, and the hand-over.
    Memory,
    /// Phase 3.
    Finish,
}

/// A volume on its way.
struct Volume {
    slot: String,
    from: String,
    to: String,
    size: u64,
    /// Mirrored while the guest runs.
    live: bool,
}

pub(super) struct Migrate {
    order: Order,
    stage: Stage,
    tunnel: Option<Tunnel>,
    /// What QEMU was doing at the start.
    was: Power,
    volumes: Vec<Volume>,
    began: Option<Millis>,
    part_ms: u64,
    /// SIGTERM came; the next boundary acts on it.
    interrupted: bool,
}

impl Work for Migrate {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        self.began.get_or_insert(st.now());
        if self.stage == Stage::Finish {
            return self.finish(st, at);
        }
        let interrupt = std::mem::take(&mut self.interrupted);
        let done = if interrupt { Err(ApiError::die("interrupted by signal")) } else { self.advance(st, at) };
        match done {
            Ok(wait) => Step::wait_ms(wait.max(1)),
            Err(error) => self.fail(st, at, &error.in_task()),
        }
    }

    /// Only injected failures come here: SIGTERM is noted instead.
    fn cleanup(&mut self, st: &mut State, at: &At, reason: &str) -> String {
        self.began.get_or_insert(st.now());
        self.fail(st, at, reason);
        reason.to_owned()
    }

    fn interrupt(&mut self, st: &mut State, at: &At) -> bool {
        self.error(st, at, "received interrupt - delayed");
        self.interrupted = true;
        true
    }
}

impl Migrate {
    pub(super) fn new(order: Order) -> Migrate {
        Migrate {
            order,
            stage: Stage::Prepare,
            tunnel: None,
            was: Power::Stopped,
            volumes: Vec::new(),
            began: None,
            part_ms: 0,
            interrupted: false,
        }
    }

    /// A log line as all migrations print them: the node's local time first.
    fn info(&self, st: &mut State, at: &At, text: impl AsRef<str>) {
        let local = st.seconds() + st.cluster(&at.cluster).utc_offset(&self.order.node) * 60;
        for line in text.as_ref().lines() {
            st.say(at, format!("{} {line}", log_date(local)));
        }
    }

    fn error(&self, st: &mut State, at: &At, text: &str) {
        for line in text.lines() {
            self.info(st, at, format!("ERROR: {line}"));
        }
    }

    fn duration(&self, st: &State) -> String {
        let seconds = (st.now() - self.began.unwrap_or(st.now())) / 1000;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    fn vm<'a>(&self, st: &'a State, at: &At) -> Result<&'a Vm, ApiError> {
        st.cluster(&at.cluster).vm(&self.order.node, self.order.vmid)
    }

    fn vm_mut<'a>(&self, st: &'a mut State, at: &At) -> Result<&'a mut Vm, ApiError> {
        st.cluster_mut(&at.cluster).vm_mut(&self.order.node, self.order.vmid)
    }

    /// Its file lock is ours.
    fn vm_to_write<'a>(&self, st: &'a mut State, at: &At) -> Result<&'a mut Vm, ApiError> {
        st.cluster_mut(&at.cluster).vm_to_write_held(&self.order.node, self.order.vmid)
    }

    fn tunnel(&mut self) -> Result<&mut Tunnel, ApiError> {
        self.tunnel.as_mut().ok_or_else(|| ApiError::die("no tunnel"))
    }

    /// Clears the lock, where the file can be written.
    fn unlock(&self, st: &mut State, at: &At) -> Result<(), ApiError> {
        self.vm_to_write(st, at)?.conf.remove("lock");
        Ok(())
    }

    /// One step; how long until the next.
    fn advance(&mut self, st: &mut State, at: &At) -> Result<u64, ApiError> {
        match self.stage {
            Stage::Prepare => self.prepare(st, at),
            Stage::Scan => self.scan(st, at),
            Stage::Copy(part) => self.copy(st, at, part),
            Stage::Configure => self.configure(st, at),
            Stage::Start => self.start(st, at),
            Stage::Mirror(part) => self.mirror(st, at, part),
            Stage::Memory => self.memory(st, at),
            // Its own function: nothing is taken back there.
            Stage::Finish => Ok(0),
        }
    }

    /// Ends the task as the phase that failed does.
    fn fail(&mut self, st: &mut State, at: &At, reason: &str) -> Step {
        match self.stage {
            Stage::Prepare => {}
            Stage::Scan | Stage::Copy(_) | Stage::Configure => self.undo_phase_1(st, at, reason),
            _ => return self.undo_phase_2(st, at, reason),
        }
        let duration = self.duration(st);
        self.error(st, at, &format!("migration aborted (duration {duration}): {reason}"));
        Step::error("migration aborted")
    }

    /// The source is as it was; the target too, if the tunnel still stands.
    fn undo_phase_1(&mut self, st: &mut State, at: &At, reason: &str) {
        self.error(st, at, reason);
        self.info(st, at, "aborting phase 1 - cleanup resources");
        if let Err(error) = self.unlock(st, at) {
            self.error(st, at, &error.message);
        }
        self.close(st, at, true);
    }

    /// The guest goes on where it is.
    fn undo_phase_2(&mut self, st: &mut State, at: &At, reason: &str) -> Step {
        self.error(st, at, &format!("online migrate failure - {reason}"));
        self.info(st, at, "aborting phase 2 - cleanup resources");
        self.info(st, at, "migrate_cancel");
        if let Err(error) = self.unlock(st, at) {
            self.error(st, at, &error.message);
        }
        if let Some(tunnel) = &mut self.tunnel {
            // Whatever becomes of the tunnel: the stream has ended.
            tunnel.abandon(st);
            if let Err(error) = tunnel.stop(st) {
                self.error(st, at, &error.message);
            }
        }
        self.close(st, at, true);
        self.problems(st, at)
    }

    fn problems(&self, st: &mut State, at: &At) -> Step {
        let duration = self.duration(st);
        self.error(st, at, &format!("migration finished with problems (duration {duration})"));
        Step::error("migration problems")
    }

    fn close(&mut self, st: &mut State, at: &At, cleanup: bool) {
        if let Some(mut tunnel) = self.tunnel.take()
            && let Err(error) = tunnel.quit(st, cleanup)
        {
            self.error(st, at, &error.message);
        }
    }

    /// Phase 3: the target runs it, the source stops, and keeps its lock for good.
    fn finish(&mut self, st: &mut State, at: &At) -> Step {
        let mut errors = std::mem::take(&mut self.interrupted);
        if errors {
            self.error(st, at, "interrupted by signal");
        }
        if self.order.online {
            errors |= !self.hand_over(st, at);
        }
        if let Some(message) = st.late_failure(at) {
            // The tunnel breaks: both sides keep their locks.
            self.error(st, at, &message);
            return Step::error(message);
        }
        let unlocked = self.tunnel().and_then(|tunnel| tunnel.unlock(st));
        if let Err(error) = unlocked {
            self.error(st, at, &error.message);
            return self.problems(st, at);
        }
        self.close(st, at, false);
        if self.order.delete {
            self.destroy_source(st, at);
        }
        if errors {
            return self.problems(st, at);
        }
        let duration = self.duration(st);
        self.info(st, at, format!("migration finished successfully (duration {duration})"));
        Step::End(Outcome::Ok)
    }

    /// Whether the target's QEMU could be told to go on; the source's is stopped either way.
    fn hand_over(&mut self, st: &mut State, at: &At) -> bool {
        self.info(st, at, "stopping NBD storage migration server on target.");
        let resumed = match (&mut self.tunnel, self.was) {
            (Some(tunnel), Power::Running) => tunnel.resume(st),
            _ => Ok(()),
        };
        let (cluster, vmid) = (at.cluster.clone(), self.order.vmid);
        st.power_off(&cluster, vmid);
        match resumed {
            Ok(()) => true,
            Err(error) => {
                self.error(st, at, &error.message);
                false
            }
        }
    }

    /// Disks and configuration go; rights, pool and jobs stay. A failure is a line in the log.
    fn destroy_source(&self, st: &mut State, at: &At) {
        let (cluster, node, vmid) = (at.cluster.clone(), &self.order.node, self.order.vmid);
        if let Err(error) = self.vm_to_write(st, at) {
            return st.say(at, format!("Failed to remove source VM - {}", error.message));
        }
        crate::qemu::destroy::free_disks(st, at, node, vmid);
        st.cluster_mut(&cluster).vms.remove(&vmid);
    }
}

/// The storages of a guest's volumes.
fn storages_of(conf: &BTreeMap<String, String>) -> BTreeSet<String> {
    let volumes = drives(conf).filter(Drive::has_volume);
    volumes.filter_map(|drive| Some(split_volid(&drive.volume)?.0.to_owned())).collect()
}

/// `bridge` of a NIC.
fn bridge_of(net: &str) -> Option<&str> {
    net.split(',').find_map(|part| part.strip_prefix("bridge="))
}

/// Devices of the host that a guest holds on to; a mapped one is named by its mapping.
fn local_devices(conf: &BTreeMap<String, String>) -> (Vec<&str>, Vec<&str>) {
    let (mut real, mut mapped) = (Vec::new(), Vec::new());
    for (key, value) in conf.iter().filter(|(key, _)| !is_drive(key)) {
        let held = match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "hostpci" | "ivshmem" | "parallel" => true,
            "usb" => !value.contains("spice"),
            "serial" => value != "socket",
            _ => false,
        };
        if held && value.contains("mapping=") {
            mapped.push(key.as_str());
        } else if held {
            real.push(key.as_str());
        }
    }
    (real, mapped)
}

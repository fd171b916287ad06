//! What the phases of a remote migration do while all goes well: checks, copies, configuration, the live part (§9).

use std::collections::BTreeMap;

use super::{Migrate, PARTS, Stage, Volume, bridge_of, local_devices, storages_of};
use crate::error::ApiError;
use crate::qemu::remote_migrate::tunnel::{Carried, Tunnel, Wanted};
use crate::qemu::{Drive, drives, is_net, is_unused, machines};
use crate::state::{Power, State};
use crate::storage::{Place, named_format, split_volid};
use crate::tasks::At;

/// Milliseconds that a step takes at least: more than one look of a client, so that who polls sees each of them.
const SETTLE: u64 = 300;

const GIB: f64 = (1u64 << 30) as f64;

impl Migrate {
    /// Everything that is checked before anything is touched; at its end the target has a stub.
    pub(super) fn prepare(&mut self, st: &mut State, at: &At) -> Result<u64, ApiError> {
        let (node, vmid) = (self.order.node.clone(), self.order.vmid);
        let vm = st.cluster_mut(&at.cluster).vm_to_write(&node, vmid)?;
        vm.flock = Some(at.index);
        vm.check_lock()?;
        self.was = vm.power;
        if self.was != Power::Stopped && !self.order.online {
            return Err(ApiError::die("can't migrate running VM without --online"));
        }
        // It was shut down since it was asked for: what is left is an offline migration.
        self.order.online = self.was != Power::Stopped;
        let (real, mapped) = local_devices(&vm.conf);
        if !real.is_empty() {
            return Err(ApiError::die(format!("can't migrate VM which uses local devices: {}", real.join(", "))));
        }
        if !mapped.is_empty() {
            let (to, names) = (&self.order.target_node, mapped.join(", "));
            return Err(ApiError::die(format!("can't migrate to '{to}': missing mapped devices {names}")));
        }
        let used = storages_of(&vm.conf);
        let nets = vm.conf.iter().filter(|(key, _)| is_net(key));
        let bridges = nets.filter_map(|(_, net)| bridge_of(net)).map(|bridge| self.order.bridges.map(bridge)).collect();
        for storage in &used {
            st.cluster(&at.cluster).usable(storage, &node, None)?;
        }
        let storages = used.iter().map(|storage| self.order.storages.map(storage)).collect();
        let remote = self.order.endpoint.connect(st, &at.cluster)?;
        let auth = self.order.endpoint.log_in(st, &remote)?;
        let wanted = Wanted { vmid: self.order.target_vmid, storages: &storages, bridges: &bridges, peer: at };
        let (tunnel, upid) = Tunnel::open(st, remote, auth, &wanted)?;
        self.info(st, at, format!("remote: started tunnel worker '{upid}'"));
        for which in ["local", "remote", "minimum required"] {
            self.info(st, at, format!("{which} WS tunnel version: 2"));
        }
        st.say(at, "websocket tunnel started");
        let rtt = st.link(&at.cluster, tunnel.cluster()).map_or(0, |link| link.rtt_ms);
        self.tunnel = Some(tunnel);
        self.stage = Stage::Scan;
        Ok(SETTLE + rtt)
    }

    /// Phase 1 begins: the lock, and what there is to carry.
    pub(super) fn scan(&mut self, st: &mut State, at: &At) -> Result<u64, ApiError> {
        let (vmid, to, host) = (self.order.vmid, &self.order.target_node, &self.order.endpoint.host);
        self.info(st, at, format!("starting migration of VM {vmid} to node '{to}' ({host})"));
        let vm = self.vm_to_write(st, at)?;
        vm.conf.insert("lock".to_owned(), "migrate".to_owned());
        let found: Vec<Drive> = drives(&vm.conf).collect();
        let mut refused = Vec::new();
        for drive in found {
            if let Err(why) = self.scan_drive(st, at, &drive) {
                refused.push(why);
            }
        }
        if !refused.is_empty() {
            for line in refused {
                self.info(st, at, line);
            }
            return Err(ApiError::die("Problem found while scanning volumes - can't migrate VM - check log"));
        }
        self.tunnel()?.check(st)?;
        for volume in self.volumes.iter().map(|volume| volume.from.clone()).collect::<Vec<_>>() {
            self.info(st, at, format!("found local disk '{volume}' (attached)"));
        }
        self.stage = Stage::Configure;
        self.begin_copies(st, at)
    }

    /// Disks that nothing writes on are copied first: all of a stopped guest's, the cloud-init drive of a running one.
    fn begin_copies(&mut self, st: &mut State, at: &At) -> Result<u64, ApiError> {
        if self.volumes.iter().all(|volume| volume.live) {
            return Ok(SETTLE);
        }
        self.info(st, at, "copying local disk images");
        self.allocate(st, at, false)?;
        self.part_ms = (self.transfer_ms(st, at, false) / PARTS).max(SETTLE);
        self.stage = Stage::Copy(1);
        Ok(self.part_ms)
    }

    /// Notes what a drive needs, or why it can't go.
    fn scan_drive(&mut self, st: &State, at: &At, drive: &Drive) -> Result<(), String> {
        let generated = drive.is_cloud_init();
        if drive.is_cdrom() && !generated {
            return match drive.volume.as_str() {
                "none" => Ok(()),
                "cdrom" => Err("can't migrate local cdrom drive".to_owned()),
                iso => Err(format!("can't migrate local disk '{iso}': local cdrom image")),
            };
        }
        let volid = &drive.volume;
        let Some(volume) = st.volume(&at.cluster, &self.order.node, volid) else {
            return Err(format!("can't migrate local disk '{volid}': volume '{volid}' does not exist"));
        };
        if volume.owner != self.order.vmid {
            return Err(format!("can't migrate local disk '{volid}': owned by other VM (owner = VM {})", volume.owner));
        }
        let live = self.order.online && !generated;
        let (slot, from, size) = (drive.slot.clone(), volid.clone(), volume.logical);
        self.volumes.push(Volume { slot, from, to: String::new(), size, live });
        Ok(())
    }

    /// Volumes on the target, for what is mirrored or for the rest.
    fn allocate(&mut self, st: &mut State, at: &At, live: bool) -> Result<(), ApiError> {
        for place in 0..self.volumes.len() {
            let Volume { slot, from, size, live: is_live, .. } = &self.volumes[place];
            if *is_live != live {
                continue;
            }
            let (from, size) = (from.clone(), *size);
            let storage = self.order.storages.map(split_volid(&from).map_or("", |(storage, _)| storage));
            if live {
                self.info(st, at, format!("Allocating volume for drive '{slot}' on remote storage '{storage}'.."));
            }
            let stem = if Drive::parse(slot, &from).is_cloud_init() { "cloudinit" } else { "disk" };
            let format = named_format(&from).unwrap_or("raw");
            let name = if live { "disk" } else { "disk-import" };
            let to = self.tunnel()?.allocate(st, name, &storage, size, stem, format)?;
            if live {
                self.info(st, at, format!("volume '{from}' is '{to}' on the target"));
            }
            self.volumes[place].to = to;
        }
        Ok(())
    }

    /// Milliseconds for these disks: the slowest of both storages and the line, and the caller's limit.
    fn transfer_ms(&self, st: &State, at: &At, live: bool) -> u64 {
        let Some(tunnel) = &self.tunnel else { return 0 };
        let mine = self.volumes.iter().filter(|volume| volume.live == live);
        let each = mine.map(|volume| {
            let storage = |volid: &str| split_volid(volid).map_or(String::new(), |(storage, _)| storage.to_owned());
            let (from, to) = (storage(&volume.from), storage(&volume.to));
            let read = Place { cluster: &at.cluster, node: &self.order.node, storage: &from };
            let write = Place { cluster: tunnel.cluster(), node: &tunnel.node, storage: &to };
            let disks = st.transfer_ms(&read, volume.size).max(st.transfer_ms(&write, volume.size));
            disks.max(self.line_ms(st, at, volume.size))
        });
        each.sum()
    }

    /// Milliseconds for bytes on the line, under the caller's limit.
    fn line_ms(&self, st: &State, at: &At, bytes: u64) -> u64 {
        let link = self.tunnel.as_ref().and_then(|tunnel| st.link(&at.cluster, tunnel.cluster()));
        let line = link.map_or(0, |link| bytes / (link.mbit.max(1) * 125) + link.rtt_ms);
        let limited = if self.order.bwlimit > 0 { bytes * 1000 / (self.order.bwlimit * 1024) } else { 0 };
        line.max(limited)
    }

    /// The n-th part of the copy; the bytes are there with the last.
    pub(super) fn copy(&mut self, st: &mut State, at: &At, part: u64) -> Result<u64, ApiError> {
        self.tunnel()?.check(st)?;
        let copied: Vec<(String, String, u64)> = self.pick(false);
        let total: u64 = copied.iter().map(|(_, _, size)| size).sum();
        for (from, to, _) in &copied {
            let room = self.tunnel()?.check_room(st, to);
            let sent = room.and_then(|()| if part == PARTS { self.send(st, at, from, to) } else { Ok(()) });
            if let Err(error) = sent {
                self.info(st, at, format!("disk-import: {}", error.message));
                return Err(ApiError::die("disk import failed - see log above"));
            }
        }
        let done = total * part / PARTS;
        let seconds = part * self.part_ms / 1000;
        self.info(st, at, format!("{done} bytes ({:.1} GiB) copied, {seconds} s", done as f64 / GIB));
        if part < PARTS {
            self.stage = Stage::Copy(part + 1);
            return Ok(self.part_ms);
        }
        for (from, to, _) in copied {
            self.info(st, at, format!("volume '{from}' is '{to}' on the target"));
        }
        self.stage = Stage::Configure;
        Ok(SETTLE)
    }

    /// From, to and size of the disks that are mirrored, or of the rest.
    fn pick(&self, live: bool) -> Vec<(String, String, u64)> {
        let mine = self.volumes.iter().filter(|volume| volume.live == live);
        mine.map(|volume| (volume.from.clone(), volume.to.clone(), volume.size)).collect()
    }

    /// The bytes of a volume as they are now.
    fn send(&mut self, st: &mut State, at: &At, from: &str, to: &str) -> Result<(), ApiError> {
        let source = st.volume(&at.cluster, &self.order.node, from).cloned();
        let source = source.ok_or_else(|| ApiError::die(format!("volume '{from}' does not exist")))?;
        let bytes = std::fs::read(&source.file).map_err(|error| ApiError::die(error.to_string()))?;
        self.tunnel()?.write(st, to, source.content, &bytes)
    }

    /// The end of phase 1: all of the configuration, with the target's names in it.
    pub(super) fn configure(&mut self, st: &mut State, at: &At) -> Result<u64, ApiError> {
        self.allocate(st, at, true)?;
        let vm = self.vm(st, at)?;
        let (mut conf, guest) = (vm.conf.clone(), Carried::of(vm));
        conf.retain(|key, _| !is_unused(key) && !["lock", "parent"].contains(&key.as_str()));
        for Volume { slot, to, .. } in &self.volumes {
            let mut drive = Drive::parse(slot, conf.get(slot).map_or("", String::as_str));
            to.clone_into(&mut drive.volume);
            conf.insert(slot.clone(), drive.print());
        }
        for line in self.map_bridges(&mut conf) {
            self.info(st, at, line);
        }
        let seconds = st.seconds();
        conf.insert("meta".to_owned(), format!("creation-qemu=10.1.2,ctime={seconds}"));
        self.tunnel()?.configure(st, conf, &guest)?;
        self.stage = if self.order.online { Stage::Start } else { Stage::Finish };
        Ok(SETTLE)
    }

    /// Bridges by the map; a VLAN's tag stays what it is (§16.11).
    fn map_bridges(&self, conf: &mut BTreeMap<String, String>) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, net) in conf.iter_mut().filter(|(key, _)| is_net(key)) {
            let Some(from) = bridge_of(net).map(str::to_owned) else { continue };
            let to = self.order.bridges.map(&from);
            let part = |part: &str| match part.strip_prefix("bridge=") {
                Some(_) => format!("bridge={to}"),
                None => part.to_owned(),
            };
            *net = net.split(',').map(part).collect::<Vec<_>>().join(",");
            lines.push(format!("mapped: {key} from {from} to {to}"));
        }
        lines
    }

    /// Phase 2: the target's QEMU waits, as the same machine that runs here.
    pub(super) fn start(&mut self, st: &mut State, at: &At) -> Result<u64, ApiError> {
        self.still_runs(st, at)?;
        let named = self.vm(st, at)?.conf.get("machine").cloned();
        let machine = machines::running(st.cluster(&at.cluster), &self.order.node, named.as_deref());
        self.tunnel()?.start(st, &machine)?;
        let target = self.order.target_vmid;
        self.info(st, at, format!("Setting up tunnel for '/run/qemu-server/{target}.migrate'"));
        self.info(st, at, "starting storage migration");
        for slot in self.live_slots() {
            let uri = format!("nbd:unix:/run/qemu-server/{target}_nbd.migrate:exportname=drive-{slot}");
            self.info(st, at, format!("{slot}: start migration to {uri}"));
        }
        self.part_ms = (self.transfer_ms(st, at, true) / PARTS).max(SETTLE);
        self.stage = Stage::Mirror(1);
        Ok(self.part_ms)
    }

    fn live_slots(&self) -> Vec<String> {
        self.volumes.iter().filter(|volume| volume.live).map(|volume| volume.slot.clone()).collect()
    }

    /// A guest that went away under its migration.
    fn still_runs(&self, st: &State, at: &At) -> Result<(), ApiError> {
        if self.vm(st, at)?.power == Power::Stopped {
            return Err(ApiError::die(format!("VM {} not running", self.order.vmid)));
        }
        Ok(())
    }

    /// The n-th part of the disks, which the guest goes on writing on.
    pub(super) fn mirror(&mut self, st: &mut State, at: &At, part: u64) -> Result<u64, ApiError> {
        self.still_runs(st, at)?;
        self.tunnel()?.check(st)?;
        for place in 0..self.volumes.len() {
            let Volume { slot, to, size, live, .. } = &self.volumes[place];
            if !live {
                continue;
            }
            let (slot, to, size) = (slot.clone(), to.clone(), *size as f64 / GIB);
            if let Err(error) = self.tunnel()?.check_room(st, &to) {
                let why = format!("block job (mirror) error: drive-{slot}: {}", error.message);
                return Err(ApiError::die(why));
            }
            let (done, percent) = (size * part as f64 / PARTS as f64, 100.0 * part as f64 / PARTS as f64);
            let (seconds, ready) = (part * self.part_ms / 1000, if part == PARTS { ", ready" } else { "" });
            let text = format!("transferred {done:.1} GiB of {size:.1} GiB ({percent:.2}%) in {seconds}s{ready}");
            self.info(st, at, format!("mirror-{slot}: {text}"));
        }
        if part < PARTS {
            self.stage = Stage::Mirror(part + 1);
            return Ok(self.part_ms);
        }
        self.info(st, at, "all 'mirror' jobs are ready");
        self.info(st, at, "switching mirror jobs to actively synced mode");
        self.info(
            st,
            at,
            format!("starting online/live migration on unix:/run/qemu-server/{}.migrate", self.order.vmid),
        );
        self.stage = Stage::Memory;
        let memory = self.vm(st, at)?.memory();
        Ok(self.line_ms(st, at, memory).max(SETTLE))
    }

    /// The last bytes: the source stands still from here on, and the target has all that it ever wrote.
    pub(super) fn memory(&mut self, st: &mut State, at: &At) -> Result<u64, ApiError> {
        self.still_runs(st, at)?;
        let (cluster, vmid) = (at.cluster.clone(), self.order.vmid);
        st.flush(&cluster, vmid);
        let (written, memory) = (self.vm(st, at)?.written, self.vm(st, at)?.memory());
        for (from, to, _) in self.pick(true) {
            self.send(st, at, &from, &to)?;
        }
        self.tunnel()?.arrive(st, written)?;
        self.vm_mut(st, at)?.power = Power::Postmigrate;
        self.info(st, at, "average migration speed: 112.0 MiB/s - downtime 62 ms");
        self.info(st, at, format!("migration completed, transferred {:.1} GiB VM-state", memory as f64 / GIB));
        self.info(st, at, "migration status: completed");
        for slot in self.live_slots() {
            self.info(st, at, format!("mirror-{slot}: Completed successfully."));
        }
        self.stage = Stage::Finish;
        Ok(SETTLE)
    }
}

//! Virtual machines: what their configuration means, and the calls on them.

pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod disks;
pub(crate) mod machines;
pub(crate) mod move_disk;
pub(crate) mod options;
pub(crate) mod power;
pub(crate) mod read;
pub(crate) mod remote_migrate;

use std::collections::BTreeMap;

use crate::bytes;
use crate::state::{Power, State};

/// A drive line: `scsi0: ceph-pool:vm-100-disk-0,size=32G`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drive {
    pub(crate) slot: String,
    pub(crate) volume: String,
    pub(crate) options: BTreeMap<String, String>,
}

/// Whether a configuration key is a drive; `unusedN` is not.
pub(crate) fn is_drive(key: &str) -> bool {
    let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
    stem.len() < key.len() && matches!(stem, "scsi" | "virtio" | "sata" | "ide" | "efidisk" | "tpmstate")
}

pub(crate) fn is_unused(key: &str) -> bool {
    key.strip_prefix("unused").is_some_and(|n| n.parse::<u32>().is_ok())
}

pub(crate) fn is_net(key: &str) -> bool {
    key.strip_prefix("net").is_some_and(|n| n.parse::<u32>().is_ok())
}

impl Drive {
    pub(crate) fn parse(slot: &str, value: &str) -> Drive {
        let mut drive = Drive { slot: slot.to_owned(), volume: String::new(), options: BTreeMap::new() };
        for part in value.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                None => drive.volume = part.to_owned(),
                Some(("file" | "volume", volume)) => drive.volume = volume.to_owned(),
                Some((key, value)) => {
                    drive.options.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        drive
    }

    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    pub(crate) fn is_cdrom(&self) -> bool {
        self.option("media") == Some("cdrom")
    }

    pub(crate) fn is_cloud_init(&self) -> bool {
        self.volume.ends_with("cloudinit") || self.volume.ends_with("cloudinit.raw")
    }

    /// Whether it names a volume of a storage.
    pub(crate) fn has_volume(&self) -> bool {
        self.volume.contains(':') && !self.volume.starts_with('/')
    }

    /// Whether it is a device or a file of its node.
    pub(crate) fn is_path(&self) -> bool {
        self.volume.starts_with('/')
    }

    /// Whether a backup takes it in, unless that is switched off.
    pub(crate) fn is_backed_up(&self) -> bool {
        (self.has_volume() || self.is_path()) && !self.is_cdrom()
    }

    /// The line, volume first, options in order.
    pub(crate) fn print(&self) -> String {
        let options = self.options.iter().map(|(key, value)| format!(",{key}={value}"));
        format!("{}{}", self.volume, options.collect::<String>())
    }
}

/// The drives of a configuration, in the order PVE walks them for booting: scsi, virtio, sata, ide, the rest.
pub(crate) fn drives(conf: &BTreeMap<String, String>) -> impl Iterator<Item = Drive> + '_ {
    let mut slots: Vec<_> = conf.keys().filter(|key| is_drive(key)).collect();
    let rank = |key: &str| {
        let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let order = ["scsi", "virtio", "sata", "ide", "efidisk", "tpmstate"];
        let index: u32 = key[stem.len()..].parse().unwrap_or(0);
        (order.iter().position(|one| *one == stem), index)
    };
    slots.sort_by_key(|slot| rank(slot));
    slots.into_iter().filter_map(|slot| Some(Drive::parse(slot, conf.get(slot)?)))
}

impl State {
    /// The guest has written up to now.
    pub(crate) fn flush(&mut self, cluster: &str, vmid: u32) {
        let events = self.events;
        let Some(vm) = self.clusters.get(cluster).and_then(|c| c.vms.get(&vmid)) else { return };
        if vm.power != Power::Running {
            return;
        }
        let written = vm.written;
        let disk = drives(&vm.conf).find(|drive| drive.has_volume() && !drive.is_cdrom());
        if let Some(volume) = disk.and_then(|drive| self.volume(cluster, &vm.node, &drive.volume)) {
            // A disk whose file is gone takes no writes, like one that was freed under the guest.
            let _ = bytes::append(&volume.file, volume.content, written, events);
        }
        let Some(vm) = self.cluster_mut(cluster).vms.get_mut(&vmid) else { return };
        vm.written = events;
        let uuid = vm.uuid();
        if let Some(uuid) = uuid.filter(|_| events > written) {
            self.written.insert(uuid, events);
        }
    }

    pub(crate) fn flush_all(&mut self) {
        let all: Vec<(String, u32)> =
            self.clusters.iter().flat_map(|(name, c)| c.vms.keys().map(move |vmid| (name.clone(), *vmid))).collect();
        for (cluster, vmid) in all {
            self.flush(&cluster, vmid);
        }
    }

    /// The guest runs from now on; booting writes a first record.
    pub(crate) fn power_on(&mut self, cluster: &str, vmid: u32) {
        let (now, events) = (self.now(), self.events);
        if let Some(vm) = self.cluster_mut(cluster).vms.get_mut(&vmid) {
            vm.power = Power::Running;
            vm.started_at = now;
            vm.written = events.saturating_sub(1);
            vm.pid = 20_000 + vmid;
        }
    }

    pub(crate) fn power_off(&mut self, cluster: &str, vmid: u32) {
        self.flush(cluster, vmid);
        if let Some(vm) = self.cluster_mut(cluster).vms.get_mut(&vmid) {
            vm.power = Power::Stopped;
            vm.pid = 0;
        }
    }

    /// The node is gone: guests and tasks on it end as if cut off.
    pub(crate) fn node_down(&mut self, cluster: &str, node: &str) {
        let c = self.cluster_mut(cluster);
        let Some(facts) = c.nodes.get_mut(node) else { return };
        facts.online = false;
        facts.back_at = None;
        facts.vzdump = None;
        c.count_votes();
        let guests: Vec<u32> = c.vms.values().filter(|vm| vm.node == node).map(|vm| vm.vmid).collect();
        let tasks: Vec<usize> =
            c.tasks.iter().enumerate().filter(|(_, t)| t.node == node && t.is_running()).map(|(i, _)| i).collect();
        for vmid in guests {
            self.power_off(cluster, vmid);
        }
        for index in tasks {
            self.kill_task(&crate::tasks::At { cluster: cluster.to_owned(), index });
        }
    }

    /// Down now, back a minute later.
    pub(crate) fn node_reboot(&mut self, cluster: &str, node: &str) {
        self.node_down(cluster, node);
        let back = self.now() + 60_000;
        if let Some(facts) = self.cluster_mut(cluster).nodes.get_mut(node) {
            facts.back_at = Some(back);
        }
    }

    /// The node boots: left-over backup locks go (not of templates), then guests with onboot start (§16).
    pub(crate) fn node_back(&mut self, cluster: &str, node: &str) {
        let now = self.now();
        let c = self.cluster_mut(cluster);
        let Some(facts) = c.nodes.get_mut(node) else { return };
        facts.online = true;
        facts.back_at = None;
        facts.since = now;
        c.count_votes();
        let mut start = Vec::new();
        for vm in c.vms.values_mut().filter(|vm| vm.node == node && !vm.flag("template")) {
            if vm.lock() == Some("backup") {
                vm.conf.remove("lock");
            }
            if vm.flag("onboot") && vm.lock().is_none() && !c.ha.contains_key(&format!("vm:{}", vm.vmid)) {
                start.push(vm.vmid);
            }
        }
        for vmid in start {
            let work = power::start_work(node, vmid);
            self.spawn(
                cluster,
                crate::tasks::New { node, kind: "qmstart", id: &vmid.to_string(), user: "root@pam", delay_ms: 1000 },
                work,
            );
        }
    }
}

//! Owns what a virtual machine shall be, in federation names, and what that is in Proxmox VE's parameters on one cluster.
use std::collections::{BTreeMap, BTreeSet};

use federation::{Bytes, PoolName, Slot, Span, VmName};
use proxmox::Params;

/// A virtual machine as it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct VmSpec {
    /// Name.
    pub name: VmName,
    /// Pool it belongs to.
    pub pool: Option<PoolName>,
    /// VMID, where it is chosen by the user or known already.
    pub vmid: Option<u32>,
    /// Node it is pinned to.
    pub node: Option<String>,
    /// Processor.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Bytes,
    /// Disks by slot.
    pub disks: BTreeMap<Slot, DiskWish>,
    /// Network devices by slot.
    pub nics: BTreeMap<Slot, NicWish>,
    /// Tags; `None` leaves them alone.
    pub tags: Option<BTreeSet<String>>,
    /// Notes; `None` leaves them alone.
    pub description: Option<String>,
    /// Whether it shall run.
    pub started: bool,
    /// Whether it starts with its node.
    pub on_boot: bool,
    /// Whether Proxmox VE refuses to remove it.
    pub protection: bool,
    /// Whether the guest agent is used.
    pub agent: bool,
    /// `seabios` or `ovmf`.
    pub bios: Option<String>,
    /// Machine type.
    pub machine: Option<String>,
    /// How it moves.
    pub migration: MigrationWish,
}

/// Processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Cores per socket.
    pub cores: u32,
    /// Sockets.
    pub sockets: u32,
    /// Model.
    pub model: String,
}

/// A disk as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskWish {
    /// Size.
    pub size: Bytes,
    /// Storage, by federation name; the cluster's primary one where not set.
    pub storage: Option<String>,
    /// Image format.
    pub format: Option<String>,
    /// Shown to the guest as an SSD.
    pub ssd: bool,
    /// Discards free space.
    pub discard: bool,
    /// Included in backups.
    pub backup: bool,
}

/// A network device as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicWish {
    /// Network, by federation name.
    pub network: Option<String>,
    /// Bridge, where no network is named.
    pub bridge: Option<String>,
    /// VLAN tag, where no network is named.
    pub vlan: Option<u16>,
    /// Model.
    pub model: String,
    /// MAC address, where it is chosen by the user or known already.
    pub mac: Option<String>,
    /// Filtered by Proxmox VE's firewall.
    pub firewall: bool,
}

/// What becomes of the source of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It stays, stopped and fenced.
    Keep,
    /// It is removed.
    Delete,
}

/// How a virtual machine moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationWish {
    /// What becomes of the source.
    pub source: Source,
    /// How long a kept source stays.
    pub keep_source: Span,
    /// How long the archive stays.
    pub keep_archive: Span,
    /// How long the guest may take to shut down.
    pub shutdown_timeout: Span,
    /// Whether a guest that doesn't is stopped hard.
    pub force_stop: bool,
    /// What a move may drop.
    pub accept_loss: BTreeSet<String>,
    /// Longest downtime that may be predicted.
    pub max_downtime: Option<Span>,
    /// What the target is asked before the source is retired.
    pub health: Option<HealthWish>,
    /// What becomes of a target that doesn't pass `health`.
    pub on_unhealthy: OnUnhealthy,
}

/// What becomes of a target that is not well. Either way nothing that may have accepted writes is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// It stays the machine, and the source stays fenced, for a person to look.
    Keep,
    /// It is stopped, fenced and kept, and the source becomes the machine again.
    Return,
}

/// What a moved machine is asked before its source is retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthWish {
    /// The guest agent answers.
    pub agent: bool,
    /// `host:port` takes a connection, from where apply runs.
    pub tcp: Option<String>,
    /// A web server answers 2xx or 3xx at this URL, from where apply runs.
    pub http: Option<String>,
    /// How long it may take.
    pub deadline: Span,
}

impl Default for MigrationWish {
    /// The defaults of schema.md.
    fn default() -> MigrationWish {
        MigrationWish {
            source: Source::Keep,
            keep_source: Span::from_secs(7 * 24 * 3600),
            keep_archive: Span::from_secs(7 * 24 * 3600),
            shutdown_timeout: Span::from_secs(600),
            force_stop: false,
            accept_loss: BTreeSet::new(),
            max_downtime: None,
            health: None,
            on_unhealthy: OnUnhealthy::Keep,
        }
    }
}

/// A network device's place on one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicPlace {
    /// Bridge.
    pub bridge: String,
    /// VLAN tag.
    pub vlan: Option<u16>,
}

/// What federation names became on one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// Storage by disk slot.
    pub storages: BTreeMap<Slot, String>,
    /// Bridge and VLAN by network slot.
    pub nics: BTreeMap<Slot, NicPlace>,
}

impl DiskWish {
    /// The property string that allocates this disk on `storage` (`pve-behaviour.md` §2.3: the size is in GiB).
    pub(crate) fn allocation(&self, storage: &str) -> String {
        let mut text = format!("{storage}:{}", gib(self.size));
        if let Some(format) = &self.format {
            text.push_str(&format!(",format={format}"));
        }
        for (key, value) in self.options() {
            text.push_str(&format!(",{key}={value}"));
        }
        text
    }

    /// Options that differ from Proxmox VE's own defaults.
    fn options(&self) -> Vec<(&'static str, &'static str)> {
        let set = [(self.ssd, ("ssd", "1")), (self.discard, ("discard", "on")), (!self.backup, ("backup", "0"))];
        set.into_iter().filter(|(on, _)| *on).map(|(_, option)| option).collect()
    }
}

impl NicWish {
    /// The property string of this device at `place`.
    pub(crate) fn device(&self, place: &NicPlace, link_down: bool) -> String {
        let mac = self.mac.as_ref().map(|mac| format!("={mac}")).unwrap_or_default();
        let vlan = place.vlan.map(|vlan| format!(",tag={vlan}")).unwrap_or_default();
        let firewall = if self.firewall { ",firewall=1" } else { "" };
        let link = if link_down { ",link_down=1" } else { "" };
        format!("{}{mac},bridge={}{vlan}{firewall}{link}", self.model, place.bridge)
    }
}

impl VmSpec {
    /// Parameters that create this machine as `vmid` with `uuid`, with `notes` as its description.
    pub(crate) fn create_params(&self, vmid: u32, uuid: &str, notes: &str, on: &Resolved) -> Params {
        let mut params = Params::new()
            .set("vmid", vmid)
            .set("name", &self.name)
            .set("smbios1", format!("uuid={uuid}"))
            .set("cores", self.cpu.cores)
            .set("sockets", self.cpu.sockets)
            .set("cpu", &self.cpu.model)
            .set("memory", self.memory.as_mib())
            .set("ostype", "l26")
            .set("scsihw", "virtio-scsi-single")
            .flag("onboot", self.on_boot)
            .flag("protection", self.protection)
            .flag("agent", self.agent)
            .opt("pool", self.pool.as_ref())
            .opt("bios", self.bios.as_ref())
            .opt("machine", self.machine.as_ref());
        if !notes.is_empty() {
            params = params.set("description", notes);
        }
        if let Some(tags) = self.tags.as_ref().filter(|tags| !tags.is_empty()) {
            params = params.set("tags", join_tags(tags));
        }
        for (slot, disk) in &self.disks {
            if let Some(storage) = on.storages.get(slot) {
                params = params.set(slot.to_string(), disk.allocation(storage));
            }
        }
        for (slot, nic) in &self.nics {
            if let Some(place) = on.nics.get(slot) {
                params = params.set(slot.to_string(), nic.device(place, false));
            }
        }
        if let Some(first) = self.disks.keys().next() {
            params = params.set("boot", format!("order={first}"));
        }
        params
    }

    /// Virtual processors.
    pub fn vcpus(&self) -> u32 {
        self.cpu.cores.saturating_mul(self.cpu.sockets)
    }
}

/// Tags as Proxmox VE stores them.
pub(crate) fn join_tags(tags: &BTreeSet<String>) -> String {
    tags.iter().map(String::as_str).collect::<Vec<_>>().join(";")
}

/// A size in GiB, with a fraction only where there is one: sizes are whole MiB, so ten binary places are exact.
fn gib(size: Bytes) -> String {
    let mib = size.as_mib();
    if mib.is_multiple_of(1024) {
        return (mib / 1024).to_string();
    }
    let exact = format!("{}.{:010}", mib / 1024, (mib % 1024) * 10_000_000_000 / 1024);
    exact.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_gib_exactly() {
        for (mib, text) in [(1024, "1"), (40 * 1024, "40"), (512, "0.5"), (1536, "1.5"), (1, "0.0009765625")] {
            assert_eq!(gib(Bytes::from_mib(mib)), text);
        }
    }

    #[test]
    fn a_disk_and_a_network_device_say_only_what_differs_from_the_default() {
        let plain = DiskWish {
            size: Bytes::from_gib(40),
            storage: None,
            format: None,
            ssd: false,
            discard: false,
            backup: true,
        };
        assert_eq!(plain.allocation("ceph"), "ceph:40");
        let all = DiskWish { format: Some("qcow2".into()), ssd: true, discard: true, backup: false, ..plain };
        assert_eq!(all.allocation("ceph"), "ceph:40,format=qcow2,ssd=1,discard=on,backup=0");
        let nic = NicWish {
            network: Some("app".into()),
            bridge: None,
            vlan: None,
            model: "virtio".into(),
            mac: Some("BC:24:11:00:00:01".into()),
            firewall: true,
        };
        let place = NicPlace { bridge: "vmbr0".into(), vlan: Some(120) };
        assert_eq!(nic.device(&place, true), "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=120,firewall=1,link_down=1");
        let bare = NicWish { mac: None, firewall: false, ..nic };
        assert_eq!(bare.device(&NicPlace { vlan: None, ..place }, false), "virtio,bridge=vmbr0");
    }
}

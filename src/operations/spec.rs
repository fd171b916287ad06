//! Owns what a virtual machine shall be, in federation names.
use std::collections::{BTreeMap, BTreeSet};

use federation::{Bytes, PoolName, Slot, Span, VmName};
use secrecy::{ExposeSecret, SecretString};

/// A virtual machine as it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct VmSpec {
    /// Name. What a machine without one goes by where `named` is false.
    pub name: VmName,
    /// Whether it is called that in Proxmox VE, where a machine may have no name.
    pub named: bool,
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
    /// Devices it boots from, in order; `None` leaves them alone.
    pub boot_order: Option<Vec<String>>,
    /// The template it is made from. Read at create only.
    pub clone: Option<CloneWish>,
    /// What the guest is told at its first boot; `None` leaves it alone.
    pub cloud_init: Option<CloudInitWish>,
    /// What happens to a change that a running machine can't take.
    pub reboot: RebootPolicy,
    /// How it moves.
    pub migration: MigrationWish,
}

/// The template that a machine is made from: always a full clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneWish {
    /// Name of the template on the machine's cluster.
    pub template: String,
    /// Storage of the copied disks, by federation name.
    pub storage: Option<String>,
}

/// What cloud-init tells the guest. What is `None` is left alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CloudInitWish {
    /// User that is made.
    pub user: Option<String>,
    /// Public keys of the user.
    pub ssh_keys: Option<Vec<String>>,
    /// Password of the user, where it has to be written now.
    pub password: Option<Password>,
    /// Addresses by network slot.
    pub addresses: BTreeMap<Slot, AddressWish>,
    /// Name servers.
    pub dns: Option<Vec<String>>,
}

/// A password: sent to Proxmox VE, and never shown.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// Wraps it.
    pub fn new(text: &str) -> Password {
        Password(SecretString::from(text))
    }

    /// For the one call that sends it.
    pub(crate) fn secret(&self) -> SecretString {
        self.0.clone()
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Password) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// Addresses of one network device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressWish {
    /// `dhcp`, or an address with its prefix.
    pub ipv4: Option<String>,
    /// Gateway.
    pub gateway4: Option<String>,
    /// `dhcp`, `auto`, or an address with its prefix.
    pub ipv6: Option<String>,
    /// Gateway.
    pub gateway6: Option<String>,
}

/// What happens to a change that a running machine takes only when it is stopped and started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RebootPolicy {
    /// It waits, and a warning says so.
    #[default]
    Warn,
    /// The machine is restarted.
    Reboot,
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
    /// Of a disk as it was: its volume. Without, there is none to be found again.
    pub volume: Option<String>,
}

/// A network device as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicWish {
    /// Network, by federation name.
    pub network: Option<String>,
    /// Bridge, where no network is named. A device with neither is behind QEMU's own address translation.
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
    /// The defaults of formats.md.
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
    /// Storage for what names none: EFI variables and the cloud-init drive of a machine without disks, copies of a template.
    pub primary: Option<String>,
    /// Storage of a clone's disks, where it is named.
    pub copies: Option<String>,
}

impl VmSpec {
    /// The name that is written; none where it has none.
    pub(crate) fn written_name(&self) -> Option<&VmName> {
        self.named.then_some(&self.name)
    }

    /// Virtual processors.
    pub fn vcpus(&self) -> u32 {
        self.cpu.cores.saturating_mul(self.cpu.sockets)
    }
}

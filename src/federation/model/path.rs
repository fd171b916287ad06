//! Links and migration paths between clusters.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::units::{Bandwidth, Span};

words! {
    /// How a VM's data gets to another cluster.
    Method {
        /// Shut down, back up, restore there; works over any link.
        BackupRestore = "backup-restore",
        /// PVE's `remote_migrate` while the VM runs.
        StorageMigration = "storage-migration",
        /// PVE's `remote_migrate` after a shutdown.
        Offline = "offline",
    }
}

words! {
    /// How an archive gets from one cluster's storage to the other's.
    TransportKind {
        /// One storage that both clusters mount, dedicated to transfer.
        SharedStorage = "shared-storage",
        /// A pull between two Proxmox Backup Servers.
        PbsSync = "pbs-sync",
        /// An encrypted relay between nodes.
        Ssh = "ssh",
    }
}

words! {
    /// Which part of a move crosses the slow link.
    Wan {
        /// The backup is written across it.
        Write = "write",
        /// The restore reads across it.
        Read = "read",
        /// A separate transfer crosses it.
        Transfer = "transfer",
    }
}

words! {
    /// What a cross-connect is.
    LinkKind {
        /// An encrypted tunnel.
        Vpn = "vpn",
        /// A carrier's label-switched line; not encrypted by itself.
        Mpls = "mpls",
        /// A line of one's own.
        Direct = "direct",
    }
}

words! {
    /// A day of the week.
    Weekday {
        /// Monday.
        Monday = "mon",
        /// Tuesday.
        Tuesday = "tue",
        /// Wednesday.
        Wednesday = "wed",
        /// Thursday.
        Thursday = "thu",
        /// Friday.
        Friday = "fri",
        /// Saturday.
        Saturday = "sat",
        /// Sunday.
        Sunday = "sun",
    }
}

impl Method {
    /// What is carried out for a machine that runs or doesn't: there is nothing to keep running of one that is off.
    #[must_use]
    pub fn of(self, running: bool) -> Method {
        if self == Method::StorageMigration && !running { Method::Offline } else { self }
    }
}

/// A link from one cluster to another, as declared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossConnect {
    /// What it is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<LinkKind>,
    /// Its round-trip time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Span>,
    /// Its bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

/// How VMs get from one cluster to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MigrationPath {
    /// The method (default `backup-restore`).
    pub method: Method,
    /// Most bandwidth a move may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bandwidth: Option<Bandwidth>,
    /// The link itself encrypts.
    pub link_encrypted: bool,
    /// Refuse to move over anything that does not encrypt.
    pub encryption_required: bool,
    /// How archives cross; without one, the only backup storage both clusters share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// What crosses the slow link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wan: Option<Wan>,
    /// When moves may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Most moves at once on this path, at least 1.
    pub max_concurrent: u32,
}

impl Default for MigrationPath {
    fn default() -> MigrationPath {
        MigrationPath {
            method: Method::BackupRestore,
            max_bandwidth: None,
            link_encrypted: false,
            encryption_required: false,
            transport: None,
            wan: None,
            window: None,
            max_concurrent: 1,
        }
    }
}

/// What carries archives on a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// The kind (default `shared-storage`).
    #[serde(rename = "type", default = "Transport::default_kind")]
    pub kind: TransportKind,
    /// The storage it uses, named as PVE names it on both clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

impl Transport {
    fn default_kind() -> TransportKind {
        TransportKind::SharedStorage
    }
}

/// When moves may run: on `days`, from `from` to `to` in `zone`; over midnight when `to` is not after `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days it opens; every day when empty.
    #[serde(default)]
    pub days: BTreeSet<Weekday>,
    /// `HH:MM` it opens.
    pub from: String,
    /// `HH:MM` it closes.
    pub to: String,
    /// IANA time zone (default `UTC`).
    #[serde(default = "Window::default_zone")]
    pub zone: String,
}

impl Window {
    fn default_zone() -> String {
        "UTC".to_owned()
    }
}

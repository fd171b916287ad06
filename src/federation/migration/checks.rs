//! What is checked before the source is touched, as data.

use crate::model::Method;

/// The guide's names of checks, as they may stand in `pre_migration_checks`.
pub const PRE_MIGRATION_CHECKS: [&str; 4] =
    ["verify_network_connectivity", "check_storage_compatibility", "validate_vm_configuration", "ensure_backup_exists"];

/// Where a check looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source cluster.
    Source,
    /// The target cluster.
    Target,
    /// Both, or what is between them.
    Both,
}

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Its id, as plans and errors name it.
    pub id: &'static str,
    /// Where it looks.
    pub side: Side,
    /// Whether a failure refuses the move; else it warns.
    pub refuses: bool,
    /// The guide's check it is part of, if any.
    pub guide: Option<&'static str>,
    /// The methods it concerns.
    pub methods: &'static [Method],
    /// What it asks.
    pub asks: &'static str,
}

const ALL: &[Method] = Method::ALL;
const ARCHIVE: &[Method] = &[Method::BackupRestore];
const REMOTE: &[Method] = &[Method::StorageMigration, Method::Offline];

const NETWORK: Option<&str> = Some(PRE_MIGRATION_CHECKS[0]);
const STORAGE: Option<&str> = Some(PRE_MIGRATION_CHECKS[1]);
const CONFIG: Option<&str> = Some(PRE_MIGRATION_CHECKS[2]);
const BACKUP: Option<&str> = Some(PRE_MIGRATION_CHECKS[3]);

const fn check(
    id: &'static str,
    side: Side,
    refuses: bool,
    guide: Option<&'static str>,
    methods: &'static [Method],
    asks: &'static str,
) -> Check {
    Check { id, side, refuses, guide, methods, asks }
}

/// Every check, in the order they are reported.
pub const PREFLIGHT: &[Check] = &[
    check("reachable", Side::Both, true, NETWORK, ALL, "do both clusters answer, and are they who they were"),
    check("quorum", Side::Both, true, NETWORK, ALL, "have both clusters quorum"),
    check("rights", Side::Both, true, None, ALL, "has the token every right the steps need, by /access/permissions"),
    check("operation_free", Side::Both, true, None, ALL, "does no other process hold an operation on this VM"),
    check("source_idle", Side::Source, true, CONFIG, ALL, "has the source no lock and no running task"),
    check("vmid_free", Side::Target, true, CONFIG, ALL, "is the vmid free, or one of the range"),
    check("name_free", Side::Target, true, CONFIG, ALL, "has no other VM of the pool this name there"),
    check("pool_exists", Side::Target, true, CONFIG, ALL, "does the pool exist there"),
    check("target_space", Side::Target, true, STORAGE, ALL, "do disks and archive fit, above the reserve"),
    check("storage_map", Side::Target, true, STORAGE, ALL, "has every disk a storage for images there"),
    check("backing_apart", Side::Both, true, STORAGE, ALL, "do the clusters share no storage for images"),
    check("foreign_volumes", Side::Target, true, STORAGE, ALL, "does no storage hold volumes of the target vmid"),
    check("transport_same", Side::Both, true, STORAGE, ARCHIVE, "is the transfer storage the same from both sides"),
    check("transport_space", Side::Both, true, STORAGE, ARCHIVE, "does the archive fit on the transfer storage"),
    check("bridge_map", Side::Target, true, NETWORK, ALL, "has every network a bridge there"),
    check("vlan_map", Side::Target, true, NETWORK, ALL, "does every VLAN mean the same network there"),
    check(
        "vlan_unchanged",
        Side::Both,
        true,
        NETWORK,
        REMOTE,
        "is no VLAN tag changed, which remote_migrate cannot do",
    ),
    check("network_identity", Side::Target, true, NETWORK, ALL, "do the VM's addresses fit the target's subnets"),
    check("mac_policy", Side::Target, false, NETWORK, ALL, "may MAC addresses be kept there"),
    check(
        "firewall_parity",
        Side::Target,
        false,
        NETWORK,
        ALL,
        "are the firewall and every group and set it names there",
    ),
    check("encryption", Side::Both, true, NETWORK, ALL, "does transport or link encrypt where it is required"),
    check("bandwidth_limit", Side::Both, false, NETWORK, ALL, "can the token set the rate limit that is asked for"),
    check("snapshots", Side::Source, true, CONFIG, ALL, "has the VM no snapshots, or is their loss accepted"),
    check("passthrough", Side::Source, true, CONFIG, ALL, "has the VM no device of its host"),
    check("local_media", Side::Source, true, CONFIG, ALL, "is no local ISO inserted"),
    check("disks_without_backup", Side::Source, true, CONFIG, ARCHIVE, "has every disk backup=1"),
    check("ha_attached", Side::Source, false, CONFIG, ALL, "can HA be set to ignored, and carried"),
    check("replication_attached", Side::Source, false, CONFIG, ALL, "can replication be carried"),
    check("cpu_model", Side::Target, true, CONFIG, ALL, "has the target the CPU flags the VM's type needs"),
    check("machine_type", Side::Target, true, CONFIG, ALL, "does the target's QEMU know the VM's machine type"),
    check("notes_length", Side::Source, true, CONFIG, ALL, "do the notes leave room for the operation's block"),
    check("backup_slot", Side::Source, true, None, ARCHIVE, "can the VM's own backup start before a job is due"),
    check("backup_exists", Side::Source, true, BACKUP, ALL, "is there another backup, young enough"),
    check("backup_coverage", Side::Target, false, None, ALL, "will a backup job cover the VM there"),
    check("window", Side::Both, true, None, ALL, "does the move end before its window closes"),
    check("max_downtime", Side::Both, true, None, ALL, "is the predicted downtime within max_downtime"),
    check("target_capacity", Side::Target, true, None, ALL, "does a node of the target fit the VM"),
];

/// The checks of a method.
pub fn checks_for(method: Method) -> impl Iterator<Item = &'static Check> {
    PREFLIGHT.iter().filter(move |check| check.methods.contains(&method))
}

//! What is checked before the source is touched, as data.

use crate::model::Method;

/// The guide's names of checks, as they may stand in `pre_migration_checks`.
pub const PRE_MIGRATION_CHECKS: [&str; 4] =
    ["verify_network_connectivity", "check_storage_compatibility", "validate_vm_configuration", "ensure_backup_exists"];

/// What a move may drop, where the user names it (`accept_loss`).
pub const ACCEPTED_LOSSES: [&str; 8] =
    ["snapshots", "excluded-disks", "unused-disks", "pending-changes", "ha", "ha-rules", "addresses", "firewall"];

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
const DIRECT: &[Method] = &[Method::StorageMigration, Method::Offline];
const ONLINE: &[Method] = &[Method::StorageMigration];

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

/// Every check, in the order they are reported. `operations` carries out each of them and no other; a test of its holds it to
/// that.
pub const PREFLIGHT: &[Check] = &[
    check("reachable", Side::Both, true, NETWORK, ALL, "do both clusters answer"),
    check("path", Side::Both, true, None, ALL, "are the path's method and transport carried out"),
    check(
        "migration_token",
        Side::Target,
        true,
        None,
        DIRECT,
        "has the target's connection a token for the source, with every right that the other side of a migration needs",
    ),
    check(
        "target_endpoint",
        Side::Target,
        true,
        NETWORK,
        DIRECT,
        "is the target's node one of its connection's endpoints",
    ),
    check(
        "sent_whole",
        Side::Source,
        true,
        CONFIG,
        DIRECT,
        "can Proxmox VE send the machine as it is, which it else finds out once it is shut down or copied",
    ),
    check("locked_source", Side::Source, true, CONFIG, DIRECT, "is the source meant to be kept: it stays locked"),
    check(
        "same_network",
        Side::Target,
        true,
        NETWORK,
        ONLINE,
        "keep its networks their VLANs, and one bridge and one storage become one: the guest runs",
    ),
    check("encryption", Side::Both, true, NETWORK, ALL, "does transport or link encrypt where it is required"),
    check("quorum", Side::Both, true, NETWORK, ALL, "have both clusters quorum"),
    check(
        "source_idle",
        Side::Source,
        true,
        CONFIG,
        ALL,
        "has the source no lock but a backup's that ends, and is it no template",
    ),
    check("passthrough", Side::Source, true, CONFIG, ALL, "has the machine no device of its host"),
    check("local_media", Side::Source, true, CONFIG, ALL, "is no medium inserted"),
    check("snippets", Side::Target, true, CONFIG, ALL, "are the hook script and texts for cloud-init there too"),
    check(
        "disks_without_backup",
        Side::Source,
        true,
        CONFIG,
        ARCHIVE,
        "has every disk backup=1, or is its loss accepted",
    ),
    check("unused_disks", Side::Source, true, CONFIG, ARCHIVE, "is no disk detached, or is its loss accepted"),
    check("snapshots", Side::Source, true, CONFIG, ALL, "has the machine no snapshots, or is their loss accepted"),
    check("pending_changes", Side::Source, true, CONFIG, ALL, "waits no change for a restart, or is its loss accepted"),
    check("transport_same", Side::Both, true, STORAGE, ARCHIVE, "is the transfer storage the same from both sides"),
    check("transport_space", Side::Source, true, STORAGE, ARCHIVE, "does the archive fit on the transfer storage"),
    check("storage_map", Side::Target, true, STORAGE, ALL, "is every disk's storage known, and there for disk images"),
    check(
        "storage_space",
        Side::Target,
        true,
        STORAGE,
        ALL,
        "has one of the storages really room for all disks at once, as a restore needs, and each other for its own",
    ),
    check("backing_apart", Side::Both, true, STORAGE, ALL, "do the clusters share no storage for images"),
    check("foreign_volumes", Side::Target, true, STORAGE, ALL, "does no storage hold volumes of the target vmid"),
    check("vmid_free", Side::Target, true, CONFIG, ALL, "is the vmid free"),
    check("rights", Side::Both, true, None, ALL, "has the token every right the steps need, by /access/permissions"),
    check("ha_attached", Side::Source, true, CONFIG, ALL, "can HA be set aside, where it manages the machine"),
    check(
        "ha_target",
        Side::Target,
        true,
        CONFIG,
        ALL,
        "can HA manage it there, where it does here, or is that accepted",
    ),
    check("ha_rules", Side::Target, true, CONFIG, ALL, "are its HA groups or rules there, or is their loss accepted"),
    check("replication", Side::Source, true, CONFIG, ALL, "is no replication job in the way of removing the source"),
    check(
        "network_identity",
        Side::Target,
        true,
        NETWORK,
        ALL,
        "lie its static addresses in the subnets there, or is that accepted",
    ),
    check(
        "mac_policy",
        Side::Target,
        true,
        NETWORK,
        ALL,
        "may its MAC addresses be used there, and does nobody use them",
    ),
    check(
        "firewall_parity",
        Side::Target,
        true,
        NETWORK,
        ALL,
        "does what its firewall rules need exist there, or is their loss accepted",
    ),
    check("cpu_flags", Side::Target, true, CONFIG, ALL, "has the node's processor what the machine's CPU type needs"),
    check(
        "machine_type",
        Side::Target,
        true,
        CONFIG,
        ALL,
        "knows the node's QEMU the version that its machine type is pinned to",
    ),
    check("notes_fit", Side::Source, true, CONFIG, ALL, "fits what the move writes into the machine's notes"),
    check("acl_entries", Side::Source, false, None, ALL, "are there access rules for its vmid, which stay behind"),
    check("backup_coverage", Side::Target, false, BACKUP, ALL, "is it in a backup job there, where it is in one here"),
    check("bandwidth_limit", Side::Both, false, NETWORK, ALL, "can the token set the rate limit that is asked for"),
    check("window", Side::Both, true, None, ALL, "is the path's window open, and still open at the predicted end"),
    check("max_downtime", Side::Both, true, None, ALL, "is the predicted downtime within max_downtime"),
    check(
        "backup_exists",
        Side::Source,
        false,
        BACKUP,
        ARCHIVE,
        "is there a backup: the move's own, protected, before all else",
    ),
];

/// The checks of a method.
pub fn checks_for(method: Method) -> impl Iterator<Item = &'static Check> {
    PREFLIGHT.iter().filter(move |check| check.methods.contains(&method))
}

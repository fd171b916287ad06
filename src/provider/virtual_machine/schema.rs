//! Owns the shape of `moxxie_virtual_machine` (formats.md) and the defaults of its attributes.
use protocol::{Attribute, NestingMode, Schema, Type, Value};

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    let mut attributes = placement();
    attributes.extend(hardware());
    attributes.extend(origin());
    attributes.extend(behaviour());
    attributes.extend(results());
    Schema::new(
        "A virtual machine on one of the federation's clusters. Its pool places it: `plan` computes the cluster and shows \
         it, with the reason, in `cluster` and `placement`. A change of `cluster` or `pool` moves it as the path's \
         `method` says; nothing here ever requires replacement. A guest's addresses are told by the data source \
         `moxxie_virtual_machine`.",
        attributes,
    )
}

fn placement() -> Vec<Attribute> {
    vec![
        Attribute::string("name").required().describe(
            "Name, a DNS name. Unique within the pool. A trailing number (`web-7`) is its place in the pool's spread. The empty text, which \
             an import writes for a machine without a name, leaves that as it is.",
        ),
        Attribute::string("pool")
            .optional()
            .describe("Resource pool that places the machine. One of `pool` and `cluster` must be set; both may be."),
        Attribute::string("cluster").optional().computed().describe(
            "Cluster. Set it to pin the machine; leave it out and the pool's policy decides at plan. Changing it moves \
             the machine.",
        ),
        Attribute::string("node").optional().computed().describe(
            "Node inside the cluster. Chosen at apply unless set; a move by HA or by hand inside the cluster is not drift \
             unless it is set. Read at create and move only, for the cluster that it was written for: after a move it says nothing of \
             the other one.",
        ),
        Attribute::number("ordinal")
            .optional()
            .describe("Place in the pool's spread for names without a trailing number, from 1."),
        Attribute::string("location").optional().describe(
            "Wanted location, for pools with strategy `geographic`: a city, a country, or `latitude,longitude`. Another one moves the \
             machine to the cluster that is nearest then, unless it is pinned. Elsewhere it is a preference when the machine is placed.",
        ),
        Attribute::string("tier").optional().describe(
            "Tier that its cluster must declare: `primary`, `secondary` or `edge`. Where another one is asked for than its cluster has, \
             the machine moves, unless it is pinned.",
        ),
        Attribute::new("needs", Type::set(Type::String)).optional().describe(
            "Abilities that its cluster must declare: `supports_ha`, `supports_ceph`, `backup_enabled`, `live_migration`, \
             `nested_virtualization`. Where its cluster lacks one that is added, the machine moves, unless it is pinned.",
        ),
        Attribute::number("vmid").optional().computed().describe(
            "VMID, 100 to 999999999. The next one that is free on every cluster unless set. A move keeps it; it can only change together \
             with `cluster`.",
        ),
    ]
}

fn hardware() -> Vec<Attribute> {
    let cpu = vec![
        default(
            Attribute::number("cores"),
            "Cores per socket, from 1 (1). A running machine takes it at its next restart.",
        ),
        default(Attribute::number("sockets"), "Sockets, from 1 (1). A running machine takes it at its next restart."),
        default(
            Attribute::string("type"),
            "CPU model (`x86-64-v2-AES`). A running machine takes it at its next restart.",
        ),
    ];
    let disk = vec![
        Attribute::string("size").required().describe(
            "Size, in whole MiB: `40GB`, `40GiB` and `40G` are all 40 × 2³⁰ bytes. It can grow in place, never shrink. A disk that has \
             another size already keeps it: an import writes `31458KiB`, and `0B` where Proxmox VE doesn't tell.",
        ),
        Attribute::string("storage").optional().computed().describe(
            "Storage, by its federation name: a key of the cluster's `storage_classes`, or a storage's own name. The \
             cluster's primary storage unless set. Another one moves the volume inside its cluster, while the machine runs.",
        ),
        Attribute::string("format")
            .optional()
            .computed()
            .describe(
                "`raw`, `qcow2` or `vmdk`; the storage's own unless set. Another one converts the image on its storage, while the \
                 machine runs. Only storages that keep images as files (directory, NFS, CIFS) have a choice: elsewhere an image is \
                 raw, whatever a move brought there.",
            ),
        default(Attribute::bool("ssd"), "Whether the guest sees an SSD (false)."),
        default(Attribute::bool("discard"), "Whether the guest's discards free space (false)."),
        default(Attribute::bool("backup"), "Whether backups, and so moves, include it (true)."),
        Attribute::string("volume").computed().describe("Proxmox VE's volume, for example `ceph-pool:vm-100-disk-0`."),
    ];
    let nic = vec![
        Attribute::string("network")
            .optional()
            .describe("Network, by its federation name: a key of the cluster's `networks`. Either this or `bridge`."),
        Attribute::string("bridge")
            .optional()
            .computed()
            .describe("Bridge. What the network became where `network` is set."),
        Attribute::number("vlan")
            .optional()
            .computed()
            .describe("VLAN tag, 1 to 4094. What the network became where `network` is set."),
        default(
            Attribute::string("model"),
            "Model (`virtio`), one of Proxmox VE's: `virtio`, `e1000`, `e1000e`, `rtl8139`, `vmxnet3`, and the older `e1000-82540em`, \
             `e1000-82544gc`, `e1000-82545em`, `i82551`, `i82557b`, `i82559er`, `igb`, `ne2k_isa`, `ne2k_pci`, `pcnet`.",
        ),
        Attribute::string("mac")
            .optional()
            .computed()
            .describe("MAC address. Proxmox VE's choice unless set; a move keeps it."),
        default(Attribute::bool("firewall"), "Whether Proxmox VE's firewall filters it (false)."),
    ];
    vec![
        Attribute::nested("cpu", NestingMode::Single, cpu).optional().computed().describe("Processor."),
        default(Attribute::string("memory"), "Memory, in whole MiB (`2GiB`). A running machine takes it at its next restart."),
        Attribute::nested("disks", NestingMode::Map, disk).optional().computed().describe(
            "Disks by slot: `scsi0` to `scsi30`, `virtio0` to `virtio15`, `sata0` to `sata5`, `ide0` to `ide3`. Only slots \
             named here are managed; taking one out detaches its volume, which stays as Proxmox VE's `unusedN`.",
        ),
        Attribute::nested("network_devices", NestingMode::Map, nic)
            .optional()
            .computed()
            .describe("Network devices by slot, `net0` to `net31`. Only slots named here are managed."),
        Attribute::string("bios").optional().computed().describe(
            "`seabios` (default) or `ovmf`, which gets a disk for its variables (`efidisk0`) beside the first disk, without \
             Secure Boot keys. Left alone where not set. A running machine takes it at its next restart.",
        ),
        Attribute::string("machine").optional().computed().describe(
            "Machine type, for example `q35`. Left alone where not set. A running machine takes it at its next restart.",
        ),
        Attribute::new("boot_order", Type::list(Type::String)).optional().computed().describe(
            "Devices it boots from, in order: `[\"scsi0\", \"net0\"]`, also `usb0` and `hostpci0`. The first disk for a new machine, left alone otherwise, \
             where not set. A running machine takes it at its next restart.",
        ),
    ]
}

fn origin() -> Vec<Attribute> {
    let clone = vec![
        Attribute::string("template").required().describe(
            "Name of a template on the machine's cluster, under the same name on every cluster that shall be a candidate: one \
             without it can't take the machine.",
        ),
        Attribute::string("storage").optional().describe(
            "Storage of the copied disks, by its federation name. That of the configured disks, or the template's own, unless \
             set.",
        ),
    ];
    let addresses = vec![
        Attribute::string("ipv4").optional().describe("`dhcp`, or an address with its prefix: `10.1.2.3/24`."),
        Attribute::string("gateway4").optional().describe("IPv4 gateway."),
        Attribute::string("ipv6").optional().describe("`auto`, `dhcp`, or an address with its prefix."),
        Attribute::string("gateway6").optional().describe("IPv6 gateway."),
    ];
    let cloud_init = vec![
        Attribute::string("user").optional().describe("User that cloud-init makes; the image's own unless set."),
        Attribute::new("ssh_keys", Type::list(Type::String)).optional().describe("Public keys of that user."),
        Attribute::string("password_wo").optional().sensitive().write_only().describe(
            "Password of that user. Write-only: it is in no plan and no state, and needs Terraform or OpenTofu 1.11. It is \
             written at create, and when `password_wo_version` changes.",
        ),
        Attribute::number("password_wo_version")
            .optional()
            .describe("Any whole number; another one writes `password_wo` again. After an import the first one writes nothing."),
        Attribute::nested("addresses", NestingMode::Map, addresses)
            .optional()
            .describe("Addresses by slot of the network device: `net0`."),
        Attribute::new("dns", Type::list(Type::String)).optional().describe("Addresses of name servers."),
    ];
    vec![
        Attribute::nested("clone", NestingMode::Single, clone).optional().describe(
            "Makes the machine from a template, always as a full copy. Disks and network devices of the template that are not \
             configured stay as they are; configured ones are made what the configuration says, larger disks grow. Read at \
             create only: a later change is stored and does nothing.",
        ),
        Attribute::nested("cloud_init", NestingMode::Single, cloud_init).optional().describe(
            "What cloud-init tells the guest. The drive that carries it is made where the machine has none, in the first free of \
             `ide2`, `ide0`, `ide3`, `ide1`, `sata5` and `scsi30`, beside the first disk. A part that is not set is left alone, and so is everything where \
             the block is taken out. The guest takes a change at its next restart.",
        ),
    ]
}

fn behaviour() -> Vec<Attribute> {
    let health = vec![
        default(Attribute::bool("agent"), "Whether the guest agent has to answer (false)."),
        Attribute::string("tcp")
            .optional()
            .describe("`host:port` that has to take a connection, from where apply runs."),
        Attribute::string("http").optional().describe(
            "URL of a web server in the machine that has to answer 2xx or 3xx, from where apply runs: `http://10.1.2.3/healthz`. \
             Certificates are checked with the system's trust; redirects are not followed.",
        ),
        default(Attribute::string("deadline"), "How long it may take (`5m`)."),
    ];
    let migration = vec![
        default(Attribute::string("method"), "`backup-restore` (the default, and the only value here). How machines get over a path is the path's `method`, of `moxxie_cluster` or the \
             federation file."),
        default(
            Attribute::string("source"),
            "What becomes of the source: `keep` (the default: stopped and fenced until `keep_source` is over) or `delete`.",
        ),
        default(Attribute::string("keep_source"), "How long a kept source stays (`7d`)."),
        default(Attribute::string("keep_archive"), "How long the archive of the move stays (`7d`)."),
        default(Attribute::string("shutdown_timeout"), "How long the guest may take to shut down (`10m`)."),
        default(
            Attribute::bool("force_stop"),
            "Whether a guest that doesn't shut down in time is stopped hard (false).",
        ),
        Attribute::string("max_downtime").optional().describe(
            "Longest predicted downtime: a move that is predicted to take longer is refused before anything is touched.",
        ),
        default(
            Attribute::string("on_unhealthy"),
            "What happens when the target doesn't pass `health`: `keep` (default) leaves it running and the source fenced, for a \
             person to look. `return` shuts the target down (hard after `shutdown_timeout`), fences it, and starts the source \
             again as it was; the target stays as a retired copy until `keep_source` is over, because it may hold what the \
             machine wrote meanwhile. Either way nothing that may have accepted writes is removed by itself.",
        ),
        Attribute::nested("health", NestingMode::Single, health)
            .optional()
            .describe("What the moved machine is asked before its source is retired."),
        Attribute::new("accept_loss", Type::set(Type::String)).optional().computed().describe(
            "What a move may drop: `snapshots`, `excluded-disks` (disks with `backup = false`), `unused-disks`, \
             `pending-changes`, `ha` (the token can't manage HA on the target), `ha-rules` (HA groups and rules of the same \
             name don't exist there), `addresses` (cloud-init's static addresses don't lie in the target's subnet), `firewall` \
             (the firewall is off there, or lacks what the machine's rules name). Without it such a machine is not moved.",
        ),
    ];
    let timeouts = [("create", "1h"), ("update", "24h"), ("delete", "1h")].map(|(name, unset)| {
        let text = format!("Longest time for the whole step, for example `2h` ({unset}). When it is over, what was waited for goes on, and the next apply takes it up.");
        Attribute::string(name).optional().describe(text)
    });
    vec![
        Attribute::new("tags", Type::set(Type::String))
            .optional()
            .computed()
            .describe("Tags. Their case is no difference: Proxmox VE lowers it, unless its `tag-style` says otherwise. Left alone where not set."),
        Attribute::string("description").optional().computed().describe("Notes. White space at their end is no difference: Proxmox VE drops it. Left alone where not set."),
        default(Attribute::bool("started"), "Whether it runs (true)."),
        default(Attribute::bool("on_boot"), "Whether it starts with its node (true)."),
        default(
            Attribute::bool("protection"),
            "Whether Proxmox VE refuses to remove it (false); then `destroy` refuses too.",
        ),
        default(
            Attribute::bool("agent"),
            "Whether the QEMU guest agent is used (false). A running machine takes it at its next restart.",
        ),
        default(
            Attribute::string("reboot_policy"),
            "What happens to a change that a running machine can't take: `warn` (default: it waits for the next restart, and \
             every plan and apply say so until then) or `reboot` (apply shuts the guest down and starts it, within \
             `migration.shutdown_timeout`; what an apply that was interrupted left waiting is a difference until the next one has \
             restarted it). A change that somebody left waiting in Proxmox VE counts as made: where it is not what is \
             configured, apply takes it back, without a restart. No restart is made for a setting that no attribute stands for. \
             Lives in configuration only.",
        ),
        Attribute::nested("migration", NestingMode::Single, migration)
            .optional()
            .describe("How it moves. Lives in configuration only: changing it calls no cluster."),
        Attribute::nested("timeouts", NestingMode::Single, timeouts.into())
            .optional()
            .describe("Longest times. Lives in configuration only."),
    ]
}

fn results() -> Vec<Attribute> {
    let retired = vec![
        Attribute::string("cluster").computed().describe("Cluster."),
        Attribute::number("vmid").computed().describe("VMID."),
        Attribute::string("until").computed().describe("When it expires, RFC 3339, by the cluster's clock."),
    ];
    vec![
        Attribute::string("id").computed().describe("SMBIOS UUID. Stays the same in a move."),
        Attribute::string("placement").computed().describe("Why it is on its cluster, in words."),
        Attribute::string("operation").computed().describe(
            "Unfinished business, null when there is none: a move or create that was interrupted, a restart that \
             `reboot_policy` asks for and that was not made, changes that still wait on a machine that is off, a retired copy past its \
             date, or a disk or network device that somebody took out. Apply finishes it or takes it back; a detached disk it attaches \
             again, and never makes an empty one while the volume may be somewhere.",
        ),
        Attribute::nested("retired_copies", NestingMode::List, retired)
            .computed()
            .describe("Fenced sources of earlier moves. They go with the machine, or when their time is over."),
    ]
}

fn default(attribute: Attribute, text: &str) -> Attribute {
    attribute.optional().computed().describe(text)
}

/// What an attribute is planned as where the configuration doesn't set it.
pub(crate) mod defaults {
    use super::Value;

    /// CPU cores per socket.
    pub(crate) const CORES: u32 = 1;
    /// CPU sockets.
    pub(crate) const SOCKETS: u32 = 1;
    /// CPU model.
    pub(crate) const CPU_TYPE: &str = "x86-64-v2-AES";
    /// Memory.
    pub(crate) const MEMORY: &str = "2GiB";
    /// Model of a network device.
    pub(crate) const NIC_MODEL: &str = "virtio";

    /// `cpu`, wholly default.
    pub(crate) fn cpu(name: &str) -> Value {
        match name {
            "cores" => CORES.into(),
            "sockets" => SOCKETS.into(),
            _ => CPU_TYPE.into(),
        }
    }

    /// Leaves of a disk.
    pub(crate) fn disk(name: &str) -> Value {
        (name == "backup").into()
    }

    /// Leaves of a network device.
    pub(crate) fn nic(name: &str) -> Value {
        if name == "model" { NIC_MODEL.into() } else { false.into() }
    }

    /// Leaves of `migration`.
    pub(crate) fn migration(name: &str) -> Value {
        match name {
            "method" => "backup-restore".into(),
            "source" => "keep".into(),
            "keep_source" | "keep_archive" => "7d".into(),
            "shutdown_timeout" => "10m".into(),
            "force_stop" => false.into(),
            "on_unhealthy" => "keep".into(),
            _ => Value::Set(Vec::new()),
        }
    }

    /// Leaves of `migration.health`.
    pub(crate) fn health(name: &str) -> Value {
        if name == "deadline" { "5m".into() } else { false.into() }
    }

    /// `reboot_policy`.
    pub(crate) const REBOOT_POLICY: &str = "warn";
    /// Firmware of a new machine.
    pub(crate) const BIOS: &str = "seabios";

    /// Truth values at the top.
    pub(crate) fn flag(name: &str) -> Value {
        matches!(name, "started" | "on_boot").into()
    }
}

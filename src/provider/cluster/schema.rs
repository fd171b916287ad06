//! Owns the shape of `moxxie_cluster` (formats.md).
use protocol::{Attribute, NestingMode, Schema, Type};

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    Schema::new(
        "An enrolled cluster: its facts, kept on the cluster itself for every workspace, in the comment of an empty Proxmox \
         VE pool called `moxxie`. A workspace that has nothing but a connection to it knows them; what is enrolled wins \
         over the provider block and its file. Refer to it as `moxxie_cluster.<label>.name`, so that Terraform knows the \
         order. Nothing else of the cluster is changed, but for `datacenter_options`. Writing needs Pool.Allocate and \
         Pool.Audit on /pool/moxxie, reading Pool.Audit. To take a cluster out: drain it, destroy this resource, then \
         take its connection out of the provider block. The pools `moxxie` and `moxxie-moves` stay there, empty: Proxmox \
         VE would remove everybody's rights on them with them.",
        vec![
            Attribute::string("name").required().describe(
                "Name in the federation, for life: a key of `clusters` of the provider block. Another name is an error.",
            ),
            Attribute::string("display_name").optional().describe("The name people read."),
            Attribute::string("tier")
                .optional()
                .describe("`primary`, `secondary` or `edge`: the order of fallback, and a factor of `performance`."),
            Attribute::string("hosting_provider").optional().describe("The hosting company."),
            Attribute::string("location").optional().describe("Where it is, usually `City, Country`."),
            Attribute::string("country")
                .optional()
                .describe("Country, where it is not what stands after the last comma of `location`."),
            Attribute::nested("coordinates", NestingMode::Single, coordinates())
                .optional()
                .describe("Where on earth it is, for the strategy `geographic`."),
            Attribute::new("tags", Type::set(Type::String))
                .optional()
                .describe("The cluster's own tags, which `location` rules look at."),
            Attribute::nested("pricing", NestingMode::Single, pricing())
                .optional()
                .describe("What capacity costs there, for the strategy `cost`."),
            Attribute::new("storage_classes", Type::map(Type::String)).optional().describe(
                "Federation storage names, and the storage each is here: `{ fast = \"ceph-pool\" }`. `default` is for \
                 disks that name none.",
            ),
            Attribute::nested("networks", NestingMode::Map, network())
                .optional()
                .describe("Federation network names, and what each is here."),
            Attribute::nested("vmid_range", NestingMode::Single, vmid_range())
                .optional()
                .describe("VMIDs for machines that are created here; a machine that moves in keeps its own."),
            Attribute::bool("cordoned")
                .optional()
                .computed()
                .describe("Nothing new comes in (false). Machines that are there go on, and may grow."),
            Attribute::bool("draining")
                .optional()
                .computed()
                .describe("Cordoned, and machines whose pool opted in leave (false)."),
            Attribute::nested("overcommit", NestingMode::Single, overcommit())
                .optional()
                .describe("How often capacity may be given out."),
            Attribute::nested("reserve", NestingMode::Single, reserve())
                .optional()
                .describe("The share of capacity that is kept free, 0 to 1."),
            Attribute::nested("migration_paths", NestingMode::Map, path())
                .optional()
                .describe("Paths out of this cluster, by the name of the target."),
            Attribute::nested("datacenter_options", NestingMode::Single, datacenter()).optional().describe(
                "Options of the cluster's datacenter, which affect every user of this cluster. Only those that are set \
                 are touched; what they were before is kept in the record, and put back when they are taken out or the \
                 resource is destroyed. Needs Sys.Audit and Sys.Modify on /.",
            ),
            Attribute::string("id").computed().describe(
                "The cluster's identity: the SHA-256 fingerprint of its CA, or of the certificate of a single node \
                 without one. Unset while the cluster is not enrolled.",
            ),
        ],
    )
}

fn coordinates() -> Vec<Attribute> {
    vec![
        Attribute::number("latitude").required().describe("Degrees north, -90 to 90."),
        Attribute::number("longitude").required().describe("Degrees east, -180 to 180."),
    ]
}

fn pricing() -> Vec<Attribute> {
    vec![
        Attribute::string("currency")
            .required()
            .describe("ISO 4217 code. Prices in different currencies are never compared."),
        Attribute::number("core_hour").optional().computed().describe("One core for one hour (0)."),
        Attribute::number("gb_hour").optional().computed().describe("One GiB of memory for one hour (0)."),
        Attribute::new("storage_gb_month", Type::map(Type::Number))
            .optional()
            .describe("One GiB of storage for one month, by federation storage name; `default` for the rest."),
        Attribute::number("egress_gb").optional().computed().describe("One GiB that leaves the site (0)."),
    ]
}

fn network() -> Vec<Attribute> {
    vec![
        Attribute::string("bridge").required().describe("The bridge or SDN vnet."),
        Attribute::number("vlan").optional().describe("VLAN tag, 1 to 4094. None for untagged."),
        Attribute::string("subnet").optional().describe("Its addresses in CIDR notation."),
        Attribute::string("gateway").optional().describe("Its default gateway, an address of the subnet."),
        Attribute::string("macs").optional().computed().describe(
            "What becomes of MAC addresses that move in: `keep` (the default), or `new` where the hosting company cuts \
             off unknown ones.",
        ),
    ]
}

fn vmid_range() -> Vec<Attribute> {
    vec![
        Attribute::number("first").required().describe("The first VMID, at least 100."),
        Attribute::number("last").required().describe("The last VMID, at most 999999999."),
    ]
}

fn overcommit() -> Vec<Attribute> {
    vec![
        Attribute::number("cpu").optional().computed().describe("Virtual cores per core (4.0)."),
        Attribute::number("memory").optional().computed().describe("Memory given out per memory there is (1.0)."),
        Attribute::number("storage").optional().computed().describe("Provisioned bytes per byte of storage (1.5)."),
    ]
}

fn reserve() -> Vec<Attribute> {
    vec![
        Attribute::number("cpu").optional().computed().describe("Of the cores (0.10)."),
        Attribute::number("memory").optional().computed().describe("Of the memory (0.15)."),
        Attribute::number("storage").optional().computed().describe("Of the storage, as really free space (0.10)."),
    ]
}

fn path() -> Vec<Attribute> {
    let transport = vec![
        Attribute::string("type")
            .optional()
            .computed()
            .describe("`shared-storage` (the default), `pbs-sync` or `ssh`."),
        Attribute::string("storage").optional().describe("The storage, named as both clusters name it."),
    ];
    let window = vec![
        Attribute::new("days", Type::set(Type::String))
            .optional()
            .describe("Days it opens: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`. Every day where none is set."),
        Attribute::string("from").required().describe("Time of day it opens, `HH:MM`."),
        Attribute::string("to")
            .required()
            .describe("Time of day it closes, `HH:MM`; on the next day where that is not after `from`."),
        Attribute::string("zone").optional().computed().describe("IANA time zone (`UTC`)."),
    ];
    vec![
        Attribute::string("method")
            .optional()
            .computed()
            .describe(
                "`backup-restore` (the default); or Proxmox VE's own migration, `storage-migration` while the machine runs, `offline` \
                 after a shutdown: both need the target connection's `migration_token`, and leave a locked source that only root can remove.",
            ),
        Attribute::string("max_bandwidth").optional().describe("Most bandwidth a move may use: `500Mbps`."),
        Attribute::bool("link_encrypted").optional().computed().describe("The link itself encrypts (false)."),
        Attribute::bool("encryption_required")
            .optional()
            .computed()
            .describe("Refuse to move over anything that doesn't encrypt (false)."),
        Attribute::nested("transport", NestingMode::Single, transport).optional().describe(
            "What carries archives. Where not set, the one storage with content only `backup` that both clusters mount \
             from the same place.",
        ),
        Attribute::string("wan")
            .optional()
            .describe("What crosses the slow link: `write` (the backup), `read` (the restore) or `transfer`. For people: nothing acts on it."),
        Attribute::nested("window", NestingMode::Single, window)
            .optional()
            .describe("When moves may run. Always where not set."),
        Attribute::number("max_concurrent").optional().computed().describe("Most moves at once on this path in one apply (1); the others wait before their shutdown."),
    ]
}

fn datacenter() -> Vec<Attribute> {
    let next_id = vec![
        Attribute::number("lower").required().describe("The first VMID it offers, at least 100."),
        Attribute::number("upper").required().describe("It offers those below this one."),
    ];
    vec![
        Attribute::nested("next_id", NestingMode::Single, next_id).optional().describe(
            "VMIDs that Proxmox VE offers to people and programs that make guests. It refuses no other.",
        ),
        Attribute::string("mac_prefix")
            .optional()
            .describe("What MAC addresses of new network devices begin with: `BC:24:11`."),
        Attribute::new("bwlimit", Type::map(Type::String)).optional().describe(
            "Bandwidth of `clone`, `migration`, `move`, `restore` and `default` (the rest): `{ restore = \"500Mbps\" }`. \
             Restores in a disaster are limited too.",
        ),
    ]
}

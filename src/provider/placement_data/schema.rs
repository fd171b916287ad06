//! Owns the shape of `data.moxxie_placement`.
use protocol::{Attribute, NestingMode, Schema, Type};

use crate::resource_pool::schema::policy;

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    let cpu = vec![
        Attribute::number("cores").optional().describe("Cores of each socket (1)."),
        Attribute::number("sockets").optional().describe("Sockets (1)."),
    ];
    let disk = vec![
        Attribute::string("size").required().describe("Size, for example `40GB`."),
        Attribute::string("storage")
            .optional()
            .describe("Storage, by its federation name; the cluster's primary one unless set."),
    ];
    let nic = vec![
        Attribute::string("network").optional().describe("Network, by its federation name. Either this or `bridge`."),
        Attribute::string("bridge").optional().describe("Bridge."),
        Attribute::number("vlan").optional().describe("VLAN tag beside a bridge, 1 to 4094."),
    ];
    let request = vec![
        Attribute::string("name").optional().describe("The machine's name; the key unless set."),
        Attribute::new("former_names", Type::set(Type::String)).optional().describe(
            "Names the machine had before: found by one of them it keeps its cluster, so that a new name is no move.",
        ),
        Attribute::string("cluster").optional().describe("Takes only this cluster."),
        Attribute::number("ordinal").optional().describe("Place in its family, for names without a number at the end."),
        Attribute::string("location")
            .optional()
            .describe("Where it should be: a city, country, cluster or `latitude,longitude`."),
        Attribute::nested("cpu", NestingMode::Single, cpu).optional().describe("Processor."),
        Attribute::string("memory").optional().describe("Memory, for example `8GB` (`2GiB`)."),
        Attribute::nested("disks", NestingMode::Map, disk).optional().describe("Disks by slot."),
        Attribute::nested("network_devices", NestingMode::Map, nic).optional().describe("Network devices by slot."),
        Attribute::new("tags", Type::set(Type::String)).optional().describe("Tags, which rules may be about."),
        Attribute::new("needs", Type::set(Type::String)).optional().describe(
            "Abilities that the cluster must declare: `supports_ha`, `supports_ceph`, `backup_enabled`, `live_migration`, \
             `nested_virtualization`.",
        ),
    ];
    let placed = vec![
        Attribute::string("cluster").computed().describe("The cluster."),
        Attribute::string("placement").computed().describe("Why, in words."),
        Attribute::bool("existing").computed().describe("Whether the machine is there already."),
    ];
    let limits = vec![
        Attribute::number("max_vms").optional().describe("Guests, containers and templates counted."),
        Attribute::number("max_cpu_cores").optional().describe("Cores (sockets × cores) of all guests."),
        Attribute::string("max_memory").optional().describe("Memory of all guests, for example `2TB`."),
        Attribute::string("max_storage").optional().describe("Disks of all guests, for example `40TB`."),
    ];
    Schema::new(
        "Give it no reference to a managed resource, neither `moxxie_resource_pool.x.name` nor anything of a machine: core would \
         defer it whenever that resource has a change, every machine would show `(known after apply)`, and might move \
         without anybody having seen it in a plan. It takes pool *names*; feed one `local` to the pool, to this data source \
         and to the machines, as the example does. It places a whole set of machines jointly (`federate allocate`): the \
         hardest first, one giving way to another where that makes both fit. A machine that exists keeps its cluster; only \
         new ones are decided. Use it where the set matters more than one machine; without it each machine is placed by its \
         pool, which needs no data source.",
        vec![
            Attribute::string("pool").required().describe("Name of the pool whose policy decides."),
            Attribute::new("clusters", Type::set(Type::String)).optional().describe(
                "Clusters of the pool as this configuration will have them; those it has in the file and on the clusters unless \
                 set. A policy that is planned in the same run can't be seen here, so say it inline.",
            ),
            Attribute::nested("limits", NestingMode::Single, limits)
                .optional()
                .describe("Limits of the pool, in place of what it has."),
            Attribute::nested("placement_policy", NestingMode::Single, policy(false))
                .optional()
                .describe("Policy of the pool, in place of what it has."),
            Attribute::nested("requests", NestingMode::Map, request).required().describe("The machines, by a key of yours."),
            Attribute::bool("allow_unplaced").optional().describe(
                "Whether a new machine that fits nowhere is left out and listed in `unplaced`, instead of being an error (false).",
            ),
            Attribute::nested("placements", NestingMode::Map, placed).computed().describe("Where each goes, by key."),
            Attribute::new("unplaced", Type::map(Type::String))
                .computed()
                .describe("What would help those that fit nowhere, by key."),
            Attribute::new("explanations", Type::map(Type::String))
                .computed()
                .describe("Every candidate of each new machine with what counts for it or against it, by key. Holds figures that change: for people, not for values."),
        ],
    )
}

//! Owns the shape of `data.moxxie_federation` (formats.md).
use protocol::{Attribute, NestingMode, Schema, Type};

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    let node = vec![
        Attribute::string("name").computed().describe("Name."),
        Attribute::bool("online").computed().describe("Whether the cluster counts it as online."),
        Attribute::bool("maintenance")
            .computed()
            .describe("Whether it is in HA maintenance: it takes no machine then."),
        Attribute::number("cpu").computed().describe("Logical processors; null where the token may not see them."),
        Attribute::number("memory").computed().describe("Memory in bytes; null where the token may not see it."),
    ];
    let amounts = |of: &str| {
        vec![
            Attribute::number("cpu").computed().describe(format!("Logical processors {of}, all nodes together.")),
            Attribute::number("memory").computed().describe(format!("Memory {of}, in bytes, all nodes together.")),
            Attribute::number("storage")
                .computed()
                .describe(format!("Storage for disks {of}, in bytes; shared storages count once.")),
        ]
    };
    let cluster = vec![
        Attribute::bool("reachable").computed().describe("Whether it answers."),
        Attribute::bool("quorate").computed().describe("Whether it has quorum; null where it doesn't answer."),
        Attribute::string("version").computed().describe("Proxmox VE's version."),
        Attribute::nested("nodes", NestingMode::List, node).computed().describe("Its nodes, by name."),
        Attribute::nested("capacity", NestingMode::Single, amounts("there is"))
            .computed()
            .describe("What there is; null where the token may not see it."),
        Attribute::nested("used", NestingMode::Single, amounts("in use as measured"))
            .computed()
            .describe("What is in use; null where the token may not see it."),
        Attribute::new("pools", Type::list(Type::String))
            .computed()
            .describe("Pools of the federation that have the cluster as a member."),
        Attribute::new("warnings", Type::list(Type::String)).computed().describe("What is to be said about it."),
        Attribute::number("rtt").computed().describe("Round-trip time of one call, in milliseconds."),
    ];
    Schema::new(
        "The federation as it is now: health, capacity and use by cluster. Read in every plan: use it in `check` blocks \
         and outputs, and feed `inventory` of another provider configuration from it.",
        vec![
            Attribute::new("pools", Type::set(Type::String)).optional().describe(
                "Only the clusters of these pools. `inventory` holds no other clusters either: others are then as if not \
                 connected.",
            ),
            Attribute::nested("clusters", NestingMode::Map, cluster).computed().describe("The clusters, by name."),
            Attribute::string("inventory").computed().describe(
                "The facts that placement decides from, packed (about 64 KiB per 1,000 guests). Feed it to `inventory` of \
                 the provider block of another configuration (`alias`): it travels in the plan file, and apply decides \
                 from the very facts the plan saw.",
            ),
            Attribute::new("advice", Type::list(Type::String))
                .computed()
                .describe(
                    "What is to be said about pools: records that are missing or damaged, differing policies, and machines that \
                     should leave their clusters by their pool's rules, with who waits and whom nobody will move.",
                ),
            Attribute::string("generated_at")
                .computed()
                .describe("When, RFC 3339, by the clusters' clock; null where none answers."),
        ],
    )
}

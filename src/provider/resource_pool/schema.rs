//! Owns the shape of `moxxie_resource_pool` (formats.md).
use protocol::{Attribute, NestingMode, Schema, Type};

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    let limits = vec![
        Attribute::number("max_vms").optional().describe("Guests, containers and templates counted."),
        Attribute::number("max_cpu_cores").optional().describe("Cores (sockets × cores) of all guests."),
        Attribute::string("max_memory").optional().describe("Memory of all guests, for example `2TB`."),
        Attribute::string("max_storage").optional().describe("Disks of all guests, for example `40TB`."),
    ];
    Schema::new(
        "A resource pool that spans clusters: a Proxmox VE pool of that name on each of them, whose comment keeps limits \
         and placement policy for every workspace. Refer to it as `moxxie_resource_pool.<label>.name`, so that Terraform \
         knows the order. A cluster whose record is missing, older or damaged is not in `clusters` after a refresh; the \
         next apply writes it again.",
        vec![
            Attribute::string("name").required().describe(
                "Name, and the Proxmox VE pool's on every cluster: up to three levels of letters, digits, `-`, `_`, `.` \
                 joined by `/`. Changing it makes another pool. Names that begin with `moxxie` are reserved.",
            ),
            Attribute::new("clusters", Type::set(Type::String)).required().describe(
                "Clusters that machines of the pool may be on. One that is taken out must hold no machine of the pool; \
                 its empty Proxmox VE pool goes, unless somebody has rights on it: Proxmox VE would remove them with it.",
            ),
            Attribute::string("description").optional().describe(
                "For people. Stands before the record in the comment of the Proxmox VE pool, until somebody edits it \
                 there.",
            ),
            Attribute::nested("limits", NestingMode::Single, limits)
                .optional()
                .describe("The most the pool may hold, over all its clusters. No limit where not set."),
            Attribute::nested("placement_policy", NestingMode::Single, policy(true))
                .optional()
                .describe("How machines are placed. Where not set, the federation file's policy of that pool, else `balanced`."),
            Attribute::new("automatic_moves", Type::set(Type::String)).optional().computed().describe(
                "Moves that may happen without a machine's own configuration asking for it (none): `drain` (off a cluster that \
                 drains), `violations` (off one that breaks a residence rule: membership, `must`, `must_not`; never for \
                 capacity, darkness or spread), `improve` (to one that is better by more than a margin and the cost of \
                 moving). Without, it is advice: a warning says what would move. Nothing moves off a cluster that doesn't \
                 answer, outside of the migration path's window, or against a machine's own `cluster`.",
            ),
            Attribute::number("max_moves_per_apply")
                .optional()
                .computed()
                .describe(
                    "Most such moves in one apply (1). They form one queue of the pool by name, whatever configuration \
                     manages a machine: one that is pinned, or that nobody manages, keeps its place in it.",
                ),
            Attribute::string("id").computed().describe("The name."),
        ],
    )
}

/// The placement policy; `defaults`: what is not set is planned as its default.
pub(crate) fn policy(defaults: bool) -> Vec<Attribute> {
    let strategy = Attribute::string("strategy").optional();
    let strategy = if defaults { strategy.computed() } else { strategy };
    let rule = vec![
        Attribute::string("type").required().describe("`affinity`, `anti-affinity` or `location`."),
        Attribute::string("target").required().describe("What `value` names: `cluster`, `node` or `tag`."),
        Attribute::string("operator")
            .required()
            .describe("`must` and `must_not` refuse; `should` and `should_not` prefer and avoid."),
        Attribute::string("value").required().describe(
            "A cluster, node or tag. For `location` also a part of a cluster's location, country, hosting provider or \
             tags, whatever its case.",
        ),
    ];
    vec![
        strategy.describe(
            "`balanced` (the default: spread in proportion to the weights), `performance`, `cost` or `geographic`.",
        ),
        Attribute::new("cluster_weights", Type::map(Type::Number)).optional().describe(
            "Weight by cluster, 0 to 1000000. A cluster without one counts as the largest of the others; 0 is the last \
             resort.",
        ),
        Attribute::nested("rules", NestingMode::List, rule).optional().describe("Rules, all of which count."),
    ]
}

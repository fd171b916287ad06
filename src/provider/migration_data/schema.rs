//! Owns the shape of `data.moxxie_migration_plan`.
use protocol::{Attribute, NestingMode, Schema, Type};

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    let place = || {
        vec![
            Attribute::string("cluster").computed().describe("Cluster."),
            Attribute::string("node").computed().describe("Node; chosen again at apply on the target."),
            Attribute::number("vmid").computed().describe("VMID."),
        ]
    };
    let check = vec![
        Attribute::string("id").computed().describe("Its id, as errors name it."),
        Attribute::string("guide").computed().describe("The guide's name of the check that it is part of, if any."),
        Attribute::string("asks").computed().describe("What it asks."),
        Attribute::bool("ok").computed().describe("Whether nothing stands in the way."),
        Attribute::new("findings", Type::list(Type::String))
            .computed()
            .describe("What stands in the way: cluster, object, privilege or number, and what mends it."),
    ];
    let mapping = vec![
        Attribute::string("name").computed().describe("Its federation name, if it has one."),
        Attribute::string("from").computed().describe("Storage, or bridge and VLAN, on the source."),
        Attribute::string("to").computed().describe("The same on the target."),
    ];
    let step = vec![
        Attribute::string("step").computed().describe("Its name, as the journal has it."),
        Attribute::string("does").computed().describe("What doing it means."),
        Attribute::string("undoes").computed().describe("What taking it back means; null where nothing is taken back."),
    ];
    Schema::new(
        "What a move of one machine to another cluster would be: steps, every check with its answer, mappings, bytes, \
         predicted time and downtime (`federate migrate --dry-run`). It takes names, and belongs into a configuration of its \
         own or into `federate`: with a reference to a machine that has a change pending, core defers it exactly when it is \
         wanted. The plan of a machine that moves says the same in warnings. Nothing is touched, and what stands in the way is \
         the answer, not an error.",
        vec![
            Attribute::string("machine")
                .required()
                .describe("The machine: `cluster/vmid`, UUID, or a name that is unique in the federation."),
            Attribute::string("target").required().describe("Name of the cluster that it would go to."),
            Attribute::string("max_downtime")
                .optional()
                .describe("Longest downtime that may be predicted, for example `30m`."),
            Attribute::new("accept_loss", Type::set(Type::String))
                .optional()
                .describe("What may be lost, as in `migration.accept_loss` of the machine."),
            Attribute::bool("feasible").computed().describe("Whether nothing stands in the way."),
            Attribute::string("method").computed().describe("How, as the path says: `backup-restore`, `offline` or `storage-migration`."),
            Attribute::nested("from", NestingMode::Single, place()).computed().describe("Where it is."),
            Attribute::nested("to", NestingMode::Single, place()).computed().describe("Where it would be; null, as all that depends on it, where it can't even be looked at."),
            Attribute::string("transfer_storage")
                .computed()
                .describe("The storage that archives cross on, as the source names it; null where none was found."),
            Attribute::string("restore_storage").computed().describe(
                "The target's storage that everything is restored to, for one restore takes one; what is mapped to another moves \
                 on from there before the machine runs. Null where none was found.",
            ),
            Attribute::number("bytes").computed().describe("Size of all disks that move, in bytes."),
            Attribute::number("bytes_copied_again")
                .computed()
                .describe("Size of what moves on from `restore_storage` to another storage, in bytes."),
            Attribute::number("predicted_seconds").computed().describe(
                "Predicted time from the first step to the last, in seconds: every byte is read and written at the path's rate or \
                 100 MiB/s, and `bytes_copied_again` once more at 100 MiB/s.",
            ),
            Attribute::number("downtime_seconds")
                .computed()
                .describe("Predicted downtime in seconds; 0 where the machine is off."),
            Attribute::nested("mappings", NestingMode::Map, mapping)
                .computed()
                .describe("What becomes of disks and networks, by slot."),
            Attribute::nested("checks", NestingMode::List, check).computed().describe("Every check, in order."),
            Attribute::nested("steps", NestingMode::List, step).computed().describe("Every step, in order."),
            Attribute::new("warnings", Type::list(Type::String)).computed().describe("What is not as declared."),
        ],
    )
}

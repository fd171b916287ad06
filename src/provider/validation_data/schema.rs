//! Owns the shape of `data.moxxie_validation` (formats.md).
use protocol::{Attribute, NestingMode, Schema, Type};

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    let problem = vec![
        Attribute::number("line").computed().describe("Line in the file, from 1; 0 where it has no place there."),
        Attribute::number("column").computed().describe("Column, from 1; 0 where it has no place there."),
        Attribute::string("path").computed().describe("Key in the file (`clusters[0].tier`), or `clusters.NAME`."),
        Attribute::string("message").computed().describe("What is wrong, and what is accepted."),
    ];
    let cluster = vec![
        Attribute::bool("reachable").computed().describe("Whether it answered, and took the credentials."),
        Attribute::bool("quorate").computed().describe("Whether it has quorum; null where nobody can tell."),
        Attribute::string("version").computed().describe("Proxmox VE's version; null where it doesn't answer."),
        Attribute::string("message").computed().describe("What is wrong, or `ok`."),
    ];
    Schema::new(
        "Whether a federation file is right, and on request whether the clusters answer and have what it declares: for \
         gates in CI. Read it at top level and assert in a `check` block; nested in a `check` block it makes every plan \
         show changes.",
        vec![
            Attribute::string("config_file")
                .optional()
                .describe("The file to check; the provider block's where not set. What is wrong in it is reported, never an error."),
            Attribute::bool("check_connectivity").optional().describe(
                "Log in to every cluster of the file, with the provider's connections (false). A cluster that doesn't answer \
                 is a problem.",
            ),
            Attribute::bool("valid").computed().describe("Whether there is no problem."),
            Attribute::nested("problems", NestingMode::List, problem).computed().describe("What is wrong."),
            Attribute::new("warnings", Type::list(Type::String)).computed().describe("What is odd, but works."),
            Attribute::new("not_acted_on", Type::list(Type::String))
                .computed()
                .describe("Keys that were read and checked, but that nothing acts on."),
            Attribute::nested("clusters", NestingMode::Map, cluster)
                .computed()
                .describe("What each cluster answered; empty without `check_connectivity`."),
        ],
    )
}

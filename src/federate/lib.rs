//! The guide's command `federate`: `validate`, `status`, `allocate`, `migrate` and `rehearse` on a federation file, `lint` on
//! configurations that use the provider, for people and for CI.
//!
//! It shows what the same rules and operations answer that the provider uses. `migrate` without `--dry-run` and `rehearse` are the only
//! verbs that change anything, by the same engine. It must not know Terraform (`lint` hands files to the crate that does), and decides
//! nothing itself.

mod allocate;
mod arguments;
mod connections;
mod lint_verb;
mod migrate;
mod rehearse;
mod report;
mod source;
mod status;
mod table;
mod validate;

pub use arguments::{Arguments, Verb, words};
pub use report::{Exit, Output};

/// Runs a command that was read.
pub async fn run(arguments: Arguments) -> Output {
    let (common, json) = (arguments.common, arguments.json);
    let done = match arguments.verb {
        Verb::Validate(asked) => validate::run(&common, &asked, json).await,
        Verb::Status => status::run(&common, json).await,
        Verb::Allocate(asked) => allocate::run(&common, &asked, json).await,
        Verb::Lint(asked) => lint_verb::run(&common, &asked, json),
        Verb::Migrate(asked) => migrate::run(&common, &asked, json).await,
        Verb::Rehearse(asked) => rehearse::run(&common, &asked, json).await,
    };
    done.unwrap_or_else(|wrong| wrong.output(json))
}

//! `data.moxxie_migration_plan`: what a move would be (`federate migrate --dry-run`).
pub(crate) mod read;
pub(crate) mod schema;

/// The data source's type name.
pub(crate) const TYPE: &str = "moxxie_migration_plan";

//! `moxxie_resource_pool`: schema, static checks, plan, apply, read and import.
pub(crate) mod apply;
pub(crate) mod model;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod schema;

/// The resource's type name.
pub(crate) const TYPE: &str = "moxxie_resource_pool";

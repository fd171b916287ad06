//! `moxxie_cluster`: schema, static checks, plan, apply, read and import.
pub(crate) mod apply;
pub(crate) mod kept;
pub(crate) mod model;
pub(crate) mod parse;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod schema;

/// The resource's type name.
pub(crate) const TYPE: &str = "moxxie_cluster";

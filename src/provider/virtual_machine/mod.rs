//! `moxxie_virtual_machine`: schema, static checks, plan, apply, read and import.
pub(crate) mod apply;
mod mapped;
mod missing;
pub(crate) mod model;
mod node;
pub(crate) mod plan;
pub(crate) mod planned;
mod preview;
pub(crate) mod read;
mod restart;
mod sameness;
pub(crate) mod schema;
pub(crate) mod state;

/// The resource's type name.
pub(crate) const TYPE: &str = "moxxie_virtual_machine";

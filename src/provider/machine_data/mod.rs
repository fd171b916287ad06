//! `data.moxxie_virtual_machine`: one machine as it is now, with the addresses that its agent tells.
pub(crate) mod read;
pub(crate) mod schema;

/// The data source's type name.
pub(crate) const TYPE: &str = "moxxie_virtual_machine";

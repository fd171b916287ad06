//! `data.moxxie_federation`: the federation's health, capacity and use, and the facts for `inventory`.
pub(crate) mod read;
pub(crate) mod schema;

/// The data source's type name.
pub(crate) const TYPE: &str = "moxxie_federation";

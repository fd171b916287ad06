//! `data.moxxie_validation`: whether a federation file is right, and on request whether the clusters are as it says.
pub(crate) mod read;
pub(crate) mod schema;

/// The data source's type name.
pub(crate) const TYPE: &str = "moxxie_validation";

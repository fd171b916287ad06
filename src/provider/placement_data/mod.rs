//! `data.moxxie_placement`: where a whole set of machines goes, decided jointly, with the full explanation.
pub(crate) mod read;
pub(crate) mod schema;

/// The data source's type name.
pub(crate) const TYPE: &str = "moxxie_placement";

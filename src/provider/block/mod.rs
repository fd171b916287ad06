//! The provider block: its shape, and reading it.
mod read;
mod schema;

pub(crate) use read::{read, validate};
pub(crate) use schema::schema;

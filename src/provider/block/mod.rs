//! The provider block: its shape, and reading it.
mod read;
mod schema;

pub(crate) use read::{Process, read};
pub(crate) use schema::schema;

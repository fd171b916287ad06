//! How Terraform and OpenTofu talk to us: protocol 6.11 over go-plugin. Must not know Proxmox VE, nor any resource.
//!
//! A provider implements [`Provider`] in terms of [`Value`], [`Schema`] and [`Diagnostics`] and hands itself to
//! [`serve`]. Everything that travels on the wire is private to this crate.

mod codec;
mod convert;
mod diagnostic;
mod json;
mod logging;
mod number;
mod path;
mod provider;
mod schema;
mod serve;
mod service;
#[cfg(feature = "client")]
pub mod testing;
mod types;
mod value;

#[rustfmt::skip]
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all)]
#[path = "gen/tfplugin6.rs"]
mod wire;
#[rustfmt::skip]
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all)]
#[path = "gen/plugin.rs"]
mod plugin;

pub use async_trait::async_trait;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use number::{Number, ParseNumberError};
pub use path::{AttributePath, Step};
pub use provider::{
    ApplyRequest, ApplyResponse, ClientCapabilities, ConfigureRequest, ImportedResource, MoveRequest, MovedResource,
    PlanRequest, PlanResponse, Provider, ReadRequest, ReadResponse,
};
pub use schema::{Attribute, AttributeKind, NestingMode, ProviderSchema, Schema, strip_write_only};
pub use serve::{ServeMeta, serve, serve_on};
pub use types::{Type, ValueError};
pub use value::{Dynamic, Refinement, Value};

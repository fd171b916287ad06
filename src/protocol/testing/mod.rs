//! Plays Terraform core for tests: real gRPC, core's order of calls, and core's own rules, with violations in words.

mod client;
#[cfg(unix)]
mod process;
mod proposed;
mod rules;

pub use client::{Applied, CoreClient, Planned, State};
#[cfg(unix)]
pub use process::{Identity, PluginProcess};
pub use proposed::proposed_new;
pub use rules::{object_compatible, plan_valid};

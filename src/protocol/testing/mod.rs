//! Plays Terraform core for tests: real gRPC, core's order of calls, and core's own rules, with violations in words.

mod client;
mod proposed;
mod rules;

pub use client::{Applied, CoreClient, Planned, State};
pub use proposed::proposed_new;
pub use rules::{object_compatible, plan_valid};

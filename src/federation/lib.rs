//! The rules of the federation: names, units, configuration, placement, migration steps.
//!
//! Everything here is a function of its arguments. This crate must not know files, sockets, clocks, environment
//! variables, threads or async runtimes, nor Terraform, HTTP or Proxmox VE's wire format: texts and facts are passed in,
//! `now` is a value, and what comes out is a decision or an action for somebody else to carry out.

pub mod block;
pub mod config;
mod digest;
pub mod journal;
pub mod migration;
pub mod model;
pub mod names;
pub mod placement;
pub mod units;

pub use model::{Cluster, Federation, Pool};
pub use names::{ClusterName, PoolName, Slot, Tag, VmName};
pub use units::{Bandwidth, Bytes, Span};

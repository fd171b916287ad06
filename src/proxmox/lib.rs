//! How we talk to Proxmox VE clusters: connections, calls, tasks, and the values of a guest's configuration.
//!
//! This crate must not know Terraform, the federation's rules or any operation made of more than one call (except
//! waiting for a task): it tells the truth about one cluster, calmly. Facts about Proxmox VE come from
//! `proxmox-ve.md`, cited by section.
//!
//! Start at [`ClusterConnection`] and [`Client`]; what goes wrong is an [`Error`] with predicates.

mod api;
mod client;
mod connection;
mod de;
mod drive;
mod error;
mod error_text;
mod fingerprint;
mod host_ties;
mod limits;
mod nic;
mod params;
mod probe;
mod property;
mod route;
mod server_time;
mod session;
mod settings_values;
mod stored;
mod task;
mod tls;
mod transport;
mod vm_config;
mod wait;

pub use api::*;
pub use client::Client;
pub use connection::{Auth, ClusterConnection, Settings, TlsTrust};
pub use drive::{DiskSpec, format_size, parse_size};
pub use error::{Attempt, Call, Error, Missing, PermissionDenied, Refusal, Result, TaskFailure};
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use host_ties::HostTie;
pub use limits::Limits;
pub use nic::{NIC_MODELS, NicSpec};
pub use params::{Params, api_path};
pub use probe::answers_http;
pub use property::PropertyString;
pub use route::{NoProxy, Proxy, Route};
pub use server_time::ServerTime;
pub use settings_values::{Agent, Boot, Smbios1};
pub use stored::{Stored, words};
pub use task::{InvalidUpid, LogLine, TaskInfo, TaskLog, TaskSource, TaskStatus, Upid, progress_percent};
pub use tls::TlsFailure;
pub use vm_config::{VmConfig, split_tags};
pub use wait::{TaskDone, TaskProgress};

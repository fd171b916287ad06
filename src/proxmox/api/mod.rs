//! Owns the typed calls, one file per part of PVE's API. Each says which privileges it needs and what it may answer.

mod access;
mod agent;
mod backup;
mod cluster;
mod firewall;
mod ha;
mod node;
mod pool;
mod remote;
mod storage;
mod tasks;
mod vm;

pub use access::{AclEntry, Permissions};
pub use agent::{GuestAddress, GuestInterface};
pub use cluster::{BackupJob, ClusterStatus, NodeMember, ReplicationJob, Resource, ResourceKind, Version};
pub use firewall::{FirewallOptions, FirewallRef, FirewallRule};
pub use ha::{HaResource, HaRule, HaService};
pub use node::{CertificateInfo, Cpu, MachineType, NetworkInterface, Node, NodeStatus, Usage};
pub use pool::{Pool, PoolMember};
pub use remote::RemoteEndpoint;
pub use storage::{Storage, StorageDefinition, Volume, VolumeInfo};
pub use tasks::TaskFilter;
pub use vm::{HaManaged, PendingValue, Snapshot, VmStatus, VolumeMove};

use reqwest::Method;
use serde_json::Value;

use crate::{Client, Error, Params, Result, Upid};

/// The path of a guest, or of something below it.
fn guest_path(node: &str, vmid: u32, rest: &[&str]) -> String {
    let vmid = vmid.to_string();
    let head = ["nodes", node, "qemu", vmid.as_str()];
    crate::api_path(head.iter().chain(rest))
}

impl Client {
    /// A POST that starts a task.
    async fn post_task(&self, path: &str, params: Params) -> Result<Upid> {
        let data = match self.call(Method::POST, path, &params).await?.data {
            // What is not a UPID is quoted in the error.
            Value::String(text) if text.parse::<Upid>().is_err() => self.scrub(&params, &text).into(),
            data => data,
        };
        self.as_upid("POST", path, &data)
    }

    /// The UPID an answer is.
    fn as_upid(&self, method: &str, path: &str, data: &Value) -> Result<Upid> {
        self.as_opt_upid(method, path, data)?
            .ok_or_else(|| Error::NoTask { call: Box::new(self.describe(method, path)), answer: "null".to_owned() })
    }

    /// The UPID an answer is, or None if it is null: the work was done at once.
    fn as_opt_upid(&self, method: &str, path: &str, data: &Value) -> Result<Option<Upid>> {
        match data {
            Value::Null => Ok(None),
            Value::String(text) => match text.parse() {
                Ok(upid) => Ok(Some(upid)),
                Err(_) => Err(Error::NoTask {
                    call: Box::new(self.describe(method, path)),
                    answer: text.chars().take(100).collect(),
                }),
            },
            _ => Err(Error::unexpected(self.describe(method, path), "neither a UPID nor null")),
        }
    }
}

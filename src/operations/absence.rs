//! Owns concluding that a guest is not there. A node that says "does not exist" says so of itself alone: the guest may be on its way
//! to another node (`proxmox-ve.md` §12, §18). It is nowhere only if a list that is taken *afterwards* doesn't name it at all.
use std::sync::Arc;
use std::time::Instant;

use proxmox::{Error, PendingValue, VmConfig};

use crate::guest::Record;
use crate::journal::Place;
use crate::site::{Overview, Site};

/// What a cluster shows of a VMID, once one of its nodes said that it has no such guest.
pub(crate) enum Trace {
    /// A list that was taken afterwards names no virtual machine of this VMID.
    Nowhere,
    /// Another node has it: that list, the node, and everything that is configured there.
    On(Arc<Overview>, String, Vec<PendingValue>),
    /// The cluster contradicts itself, or doesn't answer; in words.
    Unclear(String),
}

impl Site {
    /// Looks for a guest that `asked` says it doesn't have: in a list that is taken now, on the node that it names, then on every
    /// other node that answers.
    pub(crate) async fn trace(&self, vmid: u32, asked: &str) -> Trace {
        let overview = match self.overview_since(Instant::now()).await {
            Ok(overview) => overview,
            Err(error) => return Trace::Unclear(self.unanswered(&error)),
        };
        // A VMID is one guest's in a cluster, so where a container has it no virtual machine does.
        let Some(seen) = overview.guest(vmid).filter(|guest| guest.kind == "qemu") else { return Trace::Nowhere };
        let named = seen.node.clone().unwrap_or_default();
        let others = overview.online_nodes().filter(|node| *node != named).map(str::to_owned);
        let nodes: Vec<String> =
            std::iter::once(named.clone()).chain(others).filter(|node| !node.is_empty() && node != asked).collect();
        let mut silent = Vec::new();
        for node in nodes {
            match self.client.vm_pending(&node, vmid).await {
                Ok(values) => return Trace::On(overview, node, values),
                Err(error) if error.is_not_found() => {}
                Err(error) => silent.push(error.to_string()),
            }
        }
        let but = if silent.is_empty() { String::new() } else { format!("; {}", silent.join("; ")) };
        Trace::Unclear(format!(
            "cluster {}, vmid {vmid}: node {asked} says that it does not exist, and the cluster's list names it on {named}: it may be \
             moving between them{but}",
            self.name
        ))
    }

    /// What is told of a guest of the recorded name and VMID that has no SMBIOS UUID: it may well be the machine, for `qm set --smbios1`
    /// with another part of it drops the UUID (`proxmox-ve.md` §18.34). None where there is no such guest.
    pub(crate) async fn lost_its_uuid(&self, record: &Record) -> Option<String> {
        let config = match self.config_and_node(&record.node, record.vmid, true).await {
            Ok((_, config)) => config,
            Err(error) if error.is_not_found() => return None,
            Err(error) => return Some(format!("cluster {}, vmid {}: {error}", self.name, record.vmid)),
        };
        let is_it = config.uuid().is_none() && config.name() == Some(record.name.as_str());
        is_it.then(|| {
            format!(
                "{}/{} has the machine's name and no SMBIOS UUID, so it can't be told whether it is the machine. If it is, give the UUID back, \
                 as root on its node, with what else `smbios1` holds: qm set {} --smbios1 uuid={}",
                self.name, record.vmid, record.vmid, record.uuid
            )
        })
    }

    /// A guest's configuration, whichever node of the cluster has it.
    ///
    /// # Errors
    /// What the cluster said. [`Error::is_not_found`] only where the guest is nowhere; where the cluster contradicts itself
    /// [`Error::Unexpected`].
    pub(crate) async fn config(&self, at: &Place) -> Result<VmConfig, Error> {
        Ok(self.config_and_node(&at.node, at.vmid, true).await?.1)
    }

    /// The same with the node, as it is in force (`current`) or with what waits for a restart.
    pub(crate) async fn config_and_node(
        &self,
        node: &str,
        vmid: u32,
        current: bool,
    ) -> Result<(String, VmConfig), Error> {
        let error = match self.client.vm_config(node, vmid, current).await {
            Ok(config) => return Ok((node.to_owned(), config)),
            Err(error) if error.is_not_found() => error,
            Err(error) => return Err(error),
        };
        match self.trace(vmid, node).await {
            Trace::Nowhere => Err(error),
            Trace::On(_, node, _) => {
                let config = self.client.vm_config(&node, vmid, current).await?;
                Ok((node, config))
            }
            Trace::Unclear(detail) => Err(unclear(error, detail)),
        }
    }
}

/// The same error as one that isn't absence.
pub(crate) fn unclear(error: Error, detail: String) -> Error {
    match error.call().cloned() {
        Some(call) => Error::Unexpected { call: Box::new(call), detail },
        None => error,
    }
}

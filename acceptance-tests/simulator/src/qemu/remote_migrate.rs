//! Moving a guest to another cluster: the synchronous part of `POST …/remote_migrate` (proxmox-ve.md §9).
//!
//! What the reference leaves open, and what is done here:
//! * The source node talks to the target as a client, so the target's refusals come back as *our* 500, their own status first in
//!   the text: `401 Authentication failed!`, `403 Permission check failed (/, Sys.Audit)`. An answer of 401 would be about the
//!   caller's own token.
//! * The POST itself makes one call that needs a right on the target: `/cluster/status`, Sys.Audit on `/`. VM.Allocate,
//!   Sys.Incoming, Datastore.AllocateSpace, bridges and quorum are asked for when the tunnel is opened, which is in the task
//!   (`migration aborted`); VM.Config.* and SDN.Use when the configuration is handed over, at the end of phase 1.
//! * Nobody listening is `Connection refused`, a node that is off `No route to host` (after three seconds), a line that is cut
//!   eats packets: pveproxy gives up after 30 s with 596.

mod endpoint;
mod migrate;
mod tunnel;

use std::collections::BTreeMap;

use serde_json::json;

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::inspect::ClusterHandle;
use crate::state::Power;
use crate::tasks::{At, New, Task};
use crate::util::split_list;
use crate::{Result, Simulator, SimulatorError};

use endpoint::Endpoint;
use migrate::Migrate;

/// `src1:dst1,src2:dst2` and at most one default `dst`; `1` is identity.
#[derive(Debug, Default, PartialEq)]
struct IdMap {
    entries: BTreeMap<String, String>,
    default: Option<String>,
    identity: bool,
}

impl IdMap {
    fn parse(text: &str) -> std::result::Result<IdMap, String> {
        let mut map = IdMap::default();
        for entry in split_list(text) {
            match entry.split_once(':') {
                Some((from, to)) => {
                    if map.entries.insert(from.to_owned(), to.to_owned()).is_some() {
                        return Err(format!("duplicate mapping for source '{from}'"));
                    }
                }
                None if entry == "1" => map.identity = true,
                None => {
                    if map.default.replace(entry.to_owned()).is_some() {
                        return Err("default target ID can only be provided once".to_owned());
                    }
                }
            }
        }
        if map.identity && (map.default.is_some() || !map.entries.is_empty()) {
            return Err("identity mapping cannot be combined with other mappings".to_owned());
        }
        Ok(map)
    }

    /// What has no entry and no default keeps its name.
    fn map(&self, from: &str) -> String {
        self.entries.get(from).or(self.default.as_ref()).map_or_else(|| from.to_owned(), Clone::clone)
    }
}

/// `POST …/remote_migrate`: PVE's order of checks.
pub(crate) fn post(call: &mut Call<'_>) -> Answer {
    call.c().need_quorum()?;
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    call.c().vm(&node, vmid)?.check_lock()?;
    // In whatever state: an ignored one is configured all the same.
    if call.c().ha.contains_key(&format!("vm:{vmid}")) {
        return Err(ApiError::param("vmid", "cannot remote-migrate VM that is configured for HA"));
    }
    let endpoint = Endpoint::parse(call.param("target-endpoint"));
    if endpoint.fingerprint.is_none() {
        // Asked for its certificates first; none here is one that the system trusts (§17.c14).
        endpoint.connect(call.st, &cluster)?;
    }
    if call.c().replicated.contains_key(&vmid) {
        return Err(ApiError::die("cannot remote-migrate replicated VM"));
    }
    let runs = call.c().vm(&node, vmid)?.power != Power::Stopped;
    if runs && !call.flag("online") {
        return Err(ApiError::die("can't migrate running VM without --online"));
    }
    let parse = |name: &str, what: &str| {
        IdMap::parse(call.param(name))
            .map_err(|error| ApiError::param(name, format!("failed to parse {what} map: {error}")))
    };
    let (storages, bridges) = (parse("target-storage", "storage")?, parse("target-bridge", "bridge")?);
    if storages.identity {
        return Err(ApiError::die("remote migration requires explicit storage mapping!"));
    }
    let remote = endpoint.connect(call.st, &cluster)?;
    let auth = endpoint.log_in(call.st, &remote)?;
    call.st.cluster(&remote.cluster).need(&auth, "/", &["Sys.Audit"]).map_err(endpoint::from_afar)?;
    let target_vmid = call.get("target-vmid").and_then(|id| id.parse().ok()).unwrap_or(vmid);
    let bwlimit = call.number("bwlimit").and_then(|limit| u64::try_from(limit).ok()).unwrap_or(0);
    let work = Migrate::new(migrate::Order {
        node: node.clone(),
        vmid,
        target_vmid,
        endpoint,
        target_node: remote.node,
        storages,
        bridges,
        online: runs,
        delete: call.flag("delete"),
        bwlimit,
    });
    let user = call.user();
    Ok(json!(call.st.spawn(
        &cluster,
        New { node: &node, kind: "qmigrate", id: &vmid.to_string(), user: &user, delay_ms: 200 },
        Box::new(work)
    ))
    .into())
}

impl ClusterHandle {
    /// What `target-endpoint` of a remote_migrate to this cluster is: its first address, with that token and the fingerprint
    /// that answers there. `None` where there is no such token.
    pub fn remote_endpoint(&self, token: &str) -> Option<String> {
        let token = self.token(token)?;
        let url = self.url();
        let (host, port) = url.strip_prefix("https://")?.split_once(':')?;
        let fingerprint = self.fingerprint();
        Some(format!("host={host},port={port},apitoken=PVEAPIToken={token},fingerprint={fingerprint}"))
    }

    /// What root does with `qm unlock`.
    ///
    /// # Errors
    /// PVE's text: no such guest, or a task that still holds its file lock.
    pub fn unlock(&self, vmid: u32) -> Result<()> {
        let mut st = self.lock();
        let c = st.cluster_mut(&self.name);
        let node = c.vms.get(&vmid).map(|vm| vm.node.clone());
        let Some(node) = node else { return Err(SimulatorError(format!("no VM {vmid}"))) };
        let vm = c.vm_to_write(&node, vmid).map_err(|error| SimulatorError(error.message))?;
        vm.conf.remove("lock");
        Ok(())
    }

    /// SIGKILL to the newest running task of a kind that concerns a guest: nothing is cleaned up. Whether there was one.
    pub fn kill_task(&self, kind: &str, vmid: u32) -> bool {
        let mut st = self.lock();
        let id = vmid.to_string();
        let wanted = |task: &Task| task.kind == kind && task.id == id && task.is_running();
        let index = st.cluster(&self.name).tasks.iter().rposition(wanted);
        if let Some(index) = index {
            st.kill_task(&At { cluster: self.name.clone(), index });
        }
        index.is_some()
    }
}

impl Simulator {
    /// Cuts the line between two clusters, or mends it: nothing connects across it, and what is connected breaks. Only calls
    /// from cluster to cluster notice.
    pub fn cut_line(&self, one: &str, other: &str, cut: bool) {
        let mut st = self.lock();
        let line = crate::state::line(one, other);
        if cut {
            st.cut_lines.insert(line);
        } else {
            st.cut_lines.remove(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::IdMap;

    #[test]
    fn maps_are_pairs_and_one_default() {
        let map = IdMap::parse("a:b,c").expect("a map");
        assert_eq!((map.map("a").as_str(), map.map("x").as_str(), map.identity), ("b", "c", false));
        assert_eq!(IdMap::parse("a:b").expect("a map").map("x"), "x");
        assert!(IdMap::parse("1").expect("a map").identity);
        for bad in ["a:b,a:c", "a,b", "1,a:b"] {
            assert!(IdMap::parse(bad).is_err(), "{bad}");
        }
    }
}

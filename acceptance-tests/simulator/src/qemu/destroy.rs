//! DELETE qemu: what goes with a VM (proxmox-ve.md §5.3).

use serde_json::json;

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::qemu::config;
use crate::state::{Power, State};
use crate::storage::owner_of;
use crate::tasks::{At, Outcome, Step, Work};

/// `DELETE /nodes/{node}/qemu/{vmid}`
pub(crate) fn delete(call: &mut Call<'_>) -> Answer {
    if call.get("skiplock").is_some() && !call.auth.is_root() {
        return Err(ApiError::param("skiplock", "Only root may use this option."));
    }
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    let (purge, unreferenced) = (call.flag("purge"), call.flag("destroy-unreferenced-disks"));
    let vm = call.c().vm(&node, vmid)?;
    if vm.power != Power::Stopped {
        return Err(ApiError::die(format!("VM {vmid} is running - destroy failed")));
    }
    if vm.flag("protection") {
        return Err(ApiError::die(format!("can't remove VM {vmid} - protection mode enabled")));
    }
    let managed = call.c().ha.contains_key(&format!("vm:{vmid}"));
    if managed && !purge {
        return Err(ApiError::die(format!(
            "unable to remove VM {vmid} - used in HA resources and purge parameter not set."
        )));
    }
    if !purge {
        crate::replication::in_the_way(call.c(), vmid)?;
    }
    let on = node.clone();
    let work = Destroy { node: on, vmid, purge, unreferenced };
    let user = call.user();
    Ok(json!(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "qmdestroy", id: &vmid.to_string(), user: &user, delay_ms: 300 },
        Box::new(work)
    ))
    .into())
}

struct Destroy {
    node: String,
    vmid: u32,
    purge: bool,
    unreferenced: bool,
}

impl Work for Destroy {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        match self.destroy(st, at) {
            Ok(0) => Step::ok(),
            Ok(warnings) => Step::End(Outcome::Warnings(warnings)),
            Err(error) => Step::error(error.in_task()),
        }
    }
}

impl Destroy {
    /// How many disks could not be freed.
    fn destroy(&self, st: &mut State, at: &At) -> Result<u32, ApiError> {
        let Destroy { node, vmid, purge, unreferenced } = self;
        let (vmid, purge, unreferenced) = (*vmid, *purge, *unreferenced);
        let cluster = at.cluster.clone();
        let vm = st.cluster_mut(&cluster).vm_to_write(node, vmid)?;
        vm.check_lock()?;
        if vm.power != Power::Stopped {
            return Err(ApiError::die(format!("VM {vmid} is running - destroy failed")));
        }
        let warnings = free_disks(st, at, node, vmid);
        if unreferenced {
            for volid in volumes_of(st, &cluster, node, vmid) {
                st.free_volume(&cluster, node, &volid);
            }
        }
        let c = st.cluster_mut(&cluster);
        c.vms.remove(&vmid);
        for pool in c.pools.values_mut() {
            pool.vms.remove(&vmid);
        }
        let path = format!("/vms/{vmid}");
        c.access.acl.retain(|rule| rule.path != path);
        if purge {
            c.replicated.remove(&vmid);
            c.ha.remove(&format!("vm:{vmid}"));
        }
        Ok(warnings)
    }
}

/// Frees disks and unusedN of this owner, whoever made them (§17: adopted volumes of another cluster too). How many could not be.
pub(crate) fn free_disks(st: &mut State, at: &At, node: &str, vmid: u32) -> u32 {
    let mut warnings = 0;
    let named = st.cluster(&at.cluster).vms.get(&vmid).map(config::volumes).unwrap_or_default();
    for volid in named {
        let name = volid.split_once(':').map_or("", |(_, name)| name);
        if owner_of(name) != Some(vmid) {
            continue;
        }
        let store = st.locate(&at.cluster, node, &volid).and_then(|(key, _)| st.stores.get(&key));
        if store.is_some_and(|store| store.offline) {
            // The configuration goes all the same (proxmox-ve.md §13 G4).
            st.say(at, format!("Could not remove disk '{volid}', check manually: storage is not online"));
            warnings += 1;
        } else {
            st.free_volume(&at.cluster, node, &volid);
        }
    }
    warnings
}

/// `vm-ID-*` volumes of a vmid on every enabled image storage of a node.
pub(crate) fn volumes_of(st: &State, cluster: &str, node: &str, vmid: u32) -> Vec<String> {
    let c = st.cluster(cluster);
    let mut out = Vec::new();
    for (storage, def) in &c.storages {
        if def.spec.disabled || !def.on(node) || !def.content.contains("images") {
            continue;
        }
        let store = st.stores.get(&def.store_key(cluster, node, storage));
        let names = store.into_iter().flat_map(|store| store.volumes.iter());
        out.extend(names.filter(|(_, v)| v.owner == vmid).map(|(name, _)| format!("{storage}:{name}")));
    }
    out
}

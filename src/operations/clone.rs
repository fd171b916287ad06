//! Owns making a machine from a template: which template, the copy, and what turns the copy into the machine that is wanted.
//!
//! A copy carries the template's configuration and an identity of Proxmox VE's choice, so until it has our UUID it is known by
//! the operation in its notes, which are part of the very call that makes it.
use std::time::Instant;

use federation::placement::ClusterFacts;
use federation::{Bytes, Slot};
use proxmox::{DiskSpec, Params, VmConfig};

use crate::create::dark;
use crate::disks::DiskMove;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::journal::{Journal, Place};
use crate::notes;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// A template on the cluster where it is copied.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// Its VMID.
    pub(crate) vmid: u32,
    /// Its node: the copy is made there.
    pub(crate) node: String,
    /// Whether every node sees its disks, so that the copy may be for another one.
    shared: bool,
    config: VmConfig,
}

impl Template {
    /// The node that a machine made from it can be on, where `wished` is the best one.
    pub(crate) fn node_for(&self, wished: &str) -> String {
        if self.shared { wished.to_owned() } else { self.node.clone() }
    }
}

impl Fleet {
    /// The template of that name: on the wished node if there is one, else one whose disks every node sees, else any.
    /// A fenced source of a move has the same flag and is none.
    ///
    /// # Errors
    /// Where the cluster has none any more, none can be used from a pinned node, or its disks are larger than the configured
    /// ones.
    pub(crate) async fn template(
        &self,
        site: &Site,
        spec: &VmSpec,
        wished: &str,
        facts: &ClusterFacts,
        what: &str,
    ) -> Result<Option<Template>, Failure> {
        let Some(clone) = &spec.clone else { return Ok(None) };
        let overview = site.glance().await.map_err(|error| dark(what, &site.name, error))?;
        let mut found = Vec::new();
        for guest in overview.guests().filter(|guest| guest.template && guest.kind == "qemu") {
            let (Some(vmid), Some(node)) = (guest.vmid, guest.node.clone()) else { continue };
            if guest.name.as_deref() != Some(clone.template.as_str()) {
                continue;
            }
            let config = site.client.vm_config(&node, vmid, false).await;
            let config = config.map_err(|error| dark(what, &site.name, error))?;
            let mark = notes::split(config.description().unwrap_or_default()).mark;
            if mark.retired.is_none() && mark.op.is_none() {
                let shared = is_shared(&config, facts);
                found.push(Template { vmid, node, shared, config });
            }
        }
        found.sort_by_key(|template| (template.node != wished, !template.shared, template.vmid));
        let Some(best) = found.into_iter().next() else {
            return Err(Failure::stale(what, format!("cluster {} has no template {:?}", site.name, clone.template)));
        };
        if spec.node.is_some() && best.node_for(wished) != wished {
            return Err(Failure::new(what)
                .at(format!(
                    "cluster {}: template {:?} ({}) is on node {} and its storage is local, so it can't be copied to {wished}",
                    site.name, clone.template, best.vmid, best.node
                ))
                .state("nothing was touched")
                .next(format!("put a template {:?} on {wished}, or leave `node` out", clone.template)));
        }
        fits(&best, spec, site, what)?;
        Ok(Some(best))
    }

    /// Waits until nothing works any more on the copy that a journal names.
    pub(crate) async fn end_of_copy(
        &self,
        site: &Site,
        journal: &Journal,
        template: Option<&Template>,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let to = &journal.to;
        let mut waited = false;
        let mut pause = site.client.settings().task_poll_first;
        loop {
            match site.client.vm_config(&to.node, to.vmid, false).await {
                Ok(config) if config.lock() == Some("clone") => {}
                // The pool gets the copy at its end: until then a token whose rights come from the pool doesn't see it.
                Err(error) if error.is_permission_denied() && !waited && template.is_some() => {}
                _ => return Ok(()),
            }
            if let Some(template) = template.filter(|_| !waited) {
                waited = true;
                let at = Place { cluster: site.name.clone(), node: template.node.clone(), vmid: template.vmid };
                let ended = self.end_of_tasks(site, &at, "qmclone", what, deadline).await;
                ended.map_err(|failure| failure.state(format!("{to}: the copy of the template goes on")))?;
                continue;
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(what)
                    .at(format!("{to}: a copy of the template is locked, and no task works on it"))
                    .state("the machine is not complete")
                    .next(format!(
                        "on {}: qm unlock {vmid} && qm destroy {vmid}; then apply again",
                        to.node,
                        vmid = to.vmid
                    )));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(site.client.settings().task_poll_max);
        }
    }

    /// Turns a copy into the machine that is wanted. Each step looks at what is, so that doing it again changes nothing.
    pub(crate) async fn shape(
        &self,
        site: &Site,
        journal: &Journal,
        spec: &VmSpec,
        on: &Resolved,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let to = &journal.to;
        self.configure(site, to, (None, spec), on, Some(&journal.uuid), what).await?;
        let configured: Vec<DiskMove> = spec
            .disks
            .iter()
            .map(|(slot, wish)| DiskMove {
                slot: *slot,
                storage: on.storages.get(slot).cloned(),
                format: wish.format.clone(),
            })
            .collect();
        // A format that can't be had is said by Proxmox VE for a new disk, and by the next plan for a copied one.
        let _ = self.move_disks(site, to, &configured, what, deadline).await?;
        let sizes: Vec<(Slot, Bytes)> = spec.disks.iter().map(|(slot, disk)| (*slot, disk.size)).collect();
        self.grow(site, to, &sizes, what, deadline).await
    }

    /// Takes back a copy that could not be shaped: it never ran and holds nothing but the template's data.
    pub(crate) async fn unmake(
        &self,
        site: &Site,
        key: &str,
        journal: &Journal,
        what: &str,
        deadline: Instant,
    ) -> bool {
        let to = &journal.to;
        let Ok(guest) = site.guest_now(&to.node, to.vmid).await else { return false };
        if !is_ours(&guest, journal) || guest.running || guest.config.lock().is_some() {
            return false;
        }
        let unprotected = !guest.config.protection()
            || site.client.set_config(&to.node, to.vmid, Params::new().flag("protection", false), None).await.is_ok();
        if !unprotected {
            return false;
        }
        let Ok(upid) = site.client.delete_vm(&to.node, to.vmid).await else { return false };
        self.wait(site, &upid, deadline, what).await.is_ok() && self.give_back(site, key, journal.epoch).await.is_ok()
    }
}

/// Whether a guest is what a journal's create has made: it has the UUID, or, a copy that has none of ours yet, the mark.
pub(crate) fn is_ours(guest: &Guest, journal: &Journal) -> bool {
    guest.uuid.eq_ignore_ascii_case(&journal.uuid) || guest.mark.op.as_deref() == Some(journal.op.as_str())
}

/// The parameters of the copy.
pub(crate) fn clone_params(spec: &VmSpec, template: &Template, to: &Place, notes: &str, on: &Resolved) -> Params {
    // Where every configured disk goes to one storage, the copy is made there at once.
    let mut storages: Vec<&String> = on.storages.values().collect();
    storages.dedup();
    let common = if storages.len() == 1 { storages.first().copied() } else { None };
    Params::new()
        .set("newid", to.vmid)
        .set("name", &spec.name)
        .set("description", notes)
        .flag("full", true)
        .opt("pool", spec.pool.as_ref())
        .opt("storage", on.copies.as_ref().or(common))
        .opt("target", (to.node != template.node).then_some(&to.node))
}

fn is_shared(config: &VmConfig, facts: &ClusterFacts) -> bool {
    let disks = config.disks().into_values().chain(config.state_disks().into_values());
    let mut storages = disks.filter_map(|disk| disk.storage().map(str::to_owned));
    storages.all(|name| facts.storages.iter().any(|storage| storage.name == name && storage.shared))
}

/// A disk grows to what is configured; it can't shrink to it.
fn fits(template: &Template, spec: &VmSpec, site: &Site, what: &str) -> Result<(), Failure> {
    let disks = template.config.disks();
    for (slot, wish) in &spec.disks {
        let has = disks.get(&slot.to_string()).and_then(DiskSpec::size_bytes).map(Bytes).unwrap_or_default();
        if has > wish.size {
            return Err(Failure::new(what)
                .at(format!(
                    "cluster {}: {slot} of the template ({}) has {has}, and the configuration says {}",
                    site.name, template.vmid, wish.size
                ))
                .state("nothing was touched")
                .next(format!("set `size` of {slot} to {has} or more: Proxmox VE can't shrink a disk")));
        }
    }
    Ok(())
}

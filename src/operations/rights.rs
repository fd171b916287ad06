//! Owns asking, before a create touches anything, whether the token may do all of it.
use federation::placement::ClusterFacts;
use proxmox::Permissions;

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::journal::OPERATIONS;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// Rights that go together: any of `paths` will do for all of `privileges`.
struct Needed {
    paths: Vec<String>,
    privileges: Vec<&'static str>,
}

impl Fleet {
    /// Refuses a create for which the token lacks a right, naming every one that is missing with its path.
    ///
    /// # Errors
    /// What is missing. A cluster that doesn't say what the token may is taken to refuse for itself.
    pub(crate) async fn may_create(&self, site: &Site, spec: &VmSpec, what: &str) -> Result<(), Failure> {
        let Some(all) = site.permissions().await else { return Ok(()) };
        let facts = site.take_facts(self.settings().fact_age.into()).await;
        let on = self.resolve_copy(spec, &site.name, &facts, what)?;
        let pool_exists = match (&spec.pool, site.glance().await) {
            (Some(pool), Ok(overview)) => overview.has_pool(pool.as_str()),
            _ => true,
        };
        let mut missing = Vec::new();
        for needed in needed(spec, &on, &facts, pool_exists) {
            for privilege in needed.privileges {
                if !held(site, all, &needed.paths, privilege).await {
                    missing.push(format!("{privilege} on {}", needed.paths[0]));
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(lacks(site, &missing, what))
    }

    /// Refuses a copy of a template that the token may not copy (`proxmox-ve.md` §1.4).
    ///
    /// # Errors
    /// What is missing.
    pub(crate) async fn may_clone(&self, site: &Site, template: u32, what: &str) -> Result<(), Failure> {
        let Some(all) = site.permissions().await else { return Ok(()) };
        let path = format!("/vms/{template}");
        if held(site, all, std::slice::from_ref(&path), "VM.Clone").await {
            return Ok(());
        }
        Err(lacks(site, &[format!("VM.Clone on {path}, the template")], what))
    }
}

fn lacks(site: &Site, missing: &[String], what: &str) -> Failure {
    Failure::new(what)
        .at(format!("cluster {}: the token lacks {}", site.name, missing.join(", ")))
        .state("nothing was touched")
        .next("grant it, and apply again")
}

/// The list of all paths names those with an entry of their own; what is below one is asked for by its path.
pub(crate) async fn held(site: &Site, all: &Permissions, paths: &[String], privilege: &str) -> bool {
    for path in paths {
        if all.has(path, privilege) {
            return true;
        }
    }
    for path in paths {
        if site.client.permissions(Some(path)).await.is_ok_and(|held| held.has(path, privilege)) {
            return true;
        }
    }
    false
}

/// What `POST /nodes/{node}/qemu` asks for (`proxmox-ve.md` §1.4, §17), and the operation beside it.
fn needed(spec: &VmSpec, on: &Resolved, facts: &ClusterFacts, pool_exists: bool) -> Vec<Needed> {
    let vms = spec.vmid.map_or_else(|| "/vms".to_owned(), |vmid| format!("/vms/{vmid}"));
    let pool = spec.pool.as_ref().map(|pool| format!("/pool/{pool}"));
    let mut machine = vec!["VM.Allocate", "VM.Config.Options", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.HWType"];
    if !spec.disks.is_empty() {
        machine.push("VM.Config.Disk");
    }
    if !spec.nics.is_empty() {
        machine.push("VM.Config.Network");
    }
    if spec.started {
        machine.push("VM.PowerMgmt");
    }
    if spec.cloud_init.is_some() {
        machine.extend(["VM.Config.Cloudinit", "VM.Config.CDROM"]);
    }
    // Read back when it is made.
    machine.push("VM.Audit");
    let mut all = vec![
        Needed { paths: vec![format!("/pool/{OPERATIONS}")], privileges: vec!["Pool.Allocate"] },
        Needed { paths: pool.iter().cloned().chain([vms]).collect(), privileges: machine },
    ];
    if let Some(pool) = pool.filter(|_| !pool_exists) {
        all.push(Needed { paths: vec![pool], privileges: vec!["Pool.Allocate"] });
    }
    let mut storages: Vec<&String> = on.storages.values().collect();
    storages.sort();
    storages.dedup();
    for storage in storages {
        all.push(Needed { paths: vec![format!("/storage/{storage}")], privileges: vec!["Datastore.AllocateSpace"] });
    }
    for nic in on.nics.values() {
        // A bridge of a node is in this zone; a virtual network is in one that only its name tells.
        if facts.bridges.values().any(|bridges| bridges.contains(&nic.bridge)) && nic.bridge.starts_with("vmbr") {
            let vlan = nic.vlan.map(|vlan| format!("/{vlan}")).unwrap_or_default();
            let path = format!("/sdn/zones/localnetwork/{}{vlan}", nic.bridge);
            all.push(Needed { paths: vec![path], privileges: vec!["SDN.Use"] });
        }
    }
    all
}

//! Owns what is asked of the cluster that a machine comes to, wherever it comes from: a move, or a recovery without a source.
use std::collections::BTreeSet;
use std::sync::Arc;

use federation::Bytes;
use federation::migration::{NoRoom, Spread, spread};
use proxmox::VmConfig;

use super::{Finding, Findings, finding, homes, volumes};
use crate::journal::{OPERATIONS, Place};
use crate::notes::Copy;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// A machine that comes to a cluster.
pub(crate) struct Arrival<'a> {
    pub(crate) site: &'a Arc<Site>,
    pub(crate) spec: &'a VmSpec,
    pub(crate) to: &'a Place,
    pub(crate) resolved: &'a Resolved,
    /// Copies of the machine there that make way for it.
    pub(crate) older: &'a [Copy],
}

impl Arrival<'_> {
    /// Whether the cluster can be written to.
    pub(crate) async fn quorum(&self, findings: &mut Findings) {
        quorum(self.site, findings).await;
    }

    pub(crate) async fn vmid(&self, findings: &mut Findings) {
        if self.older.iter().any(|copy| copy.vmid == self.to.vmid) {
            return;
        }
        let Ok(overview) = self.site.fresh().await else { return };
        let free = overview.guest(self.to.vmid).is_none() && self.site.client.next_id(Some(self.to.vmid)).await.is_ok();
        if !free {
            let text = format!("VMID {} is taken on {}", self.to.vmid, self.site.name);
            findings.push(finding("vmid_free", text, "set `vmid` to a free one"));
        }
    }

    /// Every right that the steps on this cluster need (`proxmox-ve.md` §1.4, §17). `archive`: the storage with the archive, where it is
    /// known, and what is needed of it.
    pub(crate) async fn needed(&self, archive: Option<(&str, Vec<&'static str>)>, spread: Option<&Spread>) -> Needed {
        let pool = self.spec.pool.as_ref().map(|pool| format!("/pool/{pool}"));
        let at = pool.unwrap_or_else(|| format!("/vms/{}", self.to.vmid));
        let mut machine = vec!["VM.Allocate", "VM.Audit", "VM.PowerMgmt", "VM.Config.Options", "VM.Config.Network"];
        if spread.is_some_and(|spread| !spread.moves.is_empty()) {
            machine.push("VM.Config.Disk");
        }
        if self.spec.migration.health.as_ref().is_some_and(|health| health.agent) {
            machine.extend(self.to_ask_the_agent(&at).await);
        }
        let mut needed = vec![(at, machine), (format!("/pool/{OPERATIONS}"), vec!["Pool.Allocate"])];
        if let Some((storage, privileges)) = archive {
            needed.push((format!("/storage/{storage}"), privileges));
        }
        for storage in self.resolved.storages.values() {
            needed.push((format!("/storage/{storage}"), vec!["Datastore.AllocateSpace"]));
        }
        for copy in self.older {
            needed.push((format!("/vms/{}", copy.vmid), vec!["VM.Allocate", "VM.Config.Options"]));
        }
        needed
    }

    /// The right to ask a guest's agent, unless one is held that will do: without it a machine that is well would look unwell. It has
    /// other names since 9.
    async fn to_ask_the_agent(&self, at: &str) -> Option<&'static str> {
        let version = self.site.client.version().await.ok()?;
        let held = self.site.client.permissions(Some(at)).await.ok()?;
        if !version.has_guest_agent_privileges() {
            return Some("VM.Monitor");
        }
        (!held.has(at, "VM.GuestAgent.Unrestricted")).then_some("VM.GuestAgent.Audit")
    }

    /// Where all is restored to and what moves on from there, by the room that there is now.
    ///
    /// # Errors
    /// Storages without the room. Where the storages can't be read, there is no saying.
    pub(in crate::relocate) async fn spread(&self, config: &VmConfig) -> Result<Option<Spread>, Vec<NoRoom>> {
        let storages = self.site.client.storages(&self.to.node).await.unwrap_or_default();
        let free = storages.into_iter().filter_map(|one| Some((one.storage, one.avail?))).collect();
        let volumes = volumes(config);
        spread(&volumes, &homes(&volumes, self.resolved), &free)
    }

    /// Whether the storages for the disks are there, have the room, and hold nothing of this VMID. `config`: what comes.
    pub(crate) async fn storages(&self, config: &VmConfig, findings: &mut Findings) -> Option<Spread> {
        let id = "storage_map";
        let managed = self.resolved.storages.len();
        let data = config.disks().values().filter(|disk| !disk.is_cdrom() && !disk.is_cloudinit()).count();
        if managed == 0 && data > 0 {
            let text = format!("none of the {data} disks is in the configuration, so the target storage is not known");
            findings.push(finding(id, text, "name the disks in `disks`"));
        }
        let chosen = self.spread(config).await.unwrap_or_else(|short| {
            findings.extend(short.iter().map(|one| self.no_room(one)));
            None
        });
        let mut images: Vec<String> = self.resolved.storages.values().cloned().collect();
        // A restore takes volumes in from every image storage of its node, not from the one it writes to alone.
        if let Ok(there) = self.site.client.storages(&self.to.node).await {
            for one in there.iter().filter(|one| images.contains(&one.storage) && !(one.active && one.holds("images")))
            {
                let text =
                    format!("{}: storage {} takes no disk images on {}", self.site.name, one.storage, self.to.node);
                findings.push(finding(id, text, "bring it back, give it content `images`, or map the disk elsewhere"));
            }
            images.extend(there.into_iter().filter(|one| one.holds("images") && one.active).map(|one| one.storage));
        }
        images.sort();
        images.dedup();
        let going = self.volumes_that_go().await;
        for storage in &images {
            self.no_foreign_volume(storage, &going, findings).await;
        }
        chosen
    }

    /// The disks may become as large as they are said to be: a thin pool that is full by then stops every machine on it
    /// (`proxmox-ve.md` §7, hazards.md OR 35). What is free is what is really free, whatever was given out.
    fn no_room(&self, short: &NoRoom) -> Finding {
        let at = format!("{}, node {}", self.site.name, self.to.node);
        let storage = &short.storage;
        let (free, needed) = (Bytes(short.free).human(), Bytes(short.needed).human());
        let (text, next) = if short.whole {
            let text = format!(
                "{at}: storage {storage} really has {free} free, and a restore puts all volumes on one, which may grow to {needed}"
            );
            (text, "free some space on one of the storages that the disks are mapped to, or map them to another")
        } else {
            let text = format!("{at}: storage {storage} really has {free} free, the disks may grow to {needed}");
            (text, "free some space on it, or map the disks to another storage")
        };
        finding("storage_space", text, next)
    }

    /// The volumes of copies that make way: they go with them.
    async fn volumes_that_go(&self) -> BTreeSet<String> {
        let mut going = BTreeSet::new();
        let Ok(overview) = self.site.glance().await else { return going };
        for copy in self.older {
            let Some(node) = overview.guest(copy.vmid).and_then(|guest| guest.node.clone()) else { continue };
            let Ok(config) = self.site.client.vm_config(&node, copy.vmid, true).await else { continue };
            let mut disks = config.disks();
            disks.extend(config.state_disks());
            disks.extend(config.unused());
            going.extend(disks.into_values().map(|disk| disk.volume().to_owned()));
        }
        going
    }

    /// A restore takes in any volume of its VMID on any image storage (`proxmox-ve.md` §16).
    async fn no_foreign_volume(&self, storage: &str, going: &BTreeSet<String>, findings: &mut Findings) {
        let volumes =
            self.site.client.storage_content(&self.to.node, storage, Some("images"), Some(self.to.vmid)).await;
        let foreign = volumes.map(|all| all.into_iter().filter(|volume| !going.contains(&volume.volid)));
        match foreign.map(Iterator::collect::<Vec<_>>) {
            Ok(volumes) if volumes.is_empty() => {}
            Ok(volumes) => {
                let names: Vec<String> = volumes.into_iter().map(|volume| volume.volid).collect();
                let text =
                    format!("{} holds volumes of VMID {} already: {}", self.site.name, self.to.vmid, names.join(", "));
                findings.push(finding("foreign_volumes", text, "see whose they are; or set another `vmid`"));
            }
            Err(error) => findings.push(finding("foreign_volumes", error.to_string(), "let the token list it")),
        }
    }
}

/// Paths, and what is needed there.
pub(crate) type Needed = Vec<(String, Vec<&'static str>)>;

/// Says every right that the token lacks on a cluster, all missing ones at once.
pub(crate) async fn rights(site: &Site, needed: Needed, findings: &mut Findings) {
    let Ok(all) = site.client.permissions(None).await else { return };
    for (path, privileges) in needed {
        // The list names every path with an ACL; what is below one is asked for by path.
        let held = match site.client.permissions(Some(&path)).await {
            Ok(held) => held,
            Err(_) => all.clone(),
        };
        for privilege in held.missing(&path, &privileges) {
            let text = format!("cluster {}: the token lacks {privilege} on {path}", site.name);
            findings.push(finding("rights", text, "grant it"));
        }
    }
}

/// Whether a cluster can be written to.
pub(super) async fn quorum(site: &Site, findings: &mut Findings) {
    match site.client.cluster_status().await {
        Ok(status) if status.quorate => {}
        Ok(_) => {
            findings.push(finding("quorum", format!("cluster {} has no quorum", site.name), "restore its quorum"));
        }
        // Without Sys.Audit it can't be read; the first write refuses then, before anything is stopped.
        Err(error) if error.is_permission_denied() => {}
        Err(error) => findings.push(finding("reachable", error.to_string(), crate::create::answering(&error))),
    }
}

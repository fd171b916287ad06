//! Owns what is asked before Proxmox VE itself sends a machine over: the token and the entry of the target, and what can't be changed on
//! the way or afterwards.
use std::collections::BTreeMap;

use federation::migration::Spread;
use federation::model::{Method, MigrationPath};
use proxmox::{RemoteEndpoint, VmConfig};
use secrecy::SecretString;

use super::{Finding, Findings, Mac, Preflight, arrival, carried, finding, mac_there};
use crate::site::Site;
use crate::spec::{OnUnhealthy, Resolved, Source};

/// What the holder of the migration token must be able to do on the target, beside what is asked of the storages (`proxmox-ve.md` §1.4).
const OF_THE_TOKEN: [&str; 2] = ["Sys.Incoming", "Sys.Audit"];

/// What it must be able to do with the machine: each key of the configuration is set anew there, with its own right.
const OF_THE_MACHINE: [&str; 9] = [
    "VM.Allocate",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
];

/// Keys that none but root may set, so that a machine with one of them can't come with a token (`proxmox-ve.md` §4).
const OF_ROOT: [&str; 9] = [
    "affinity",
    "amd-sev",
    "arch",
    "args",
    "hookscript",
    "hugepages",
    "ivshmem",
    "keephugepages",
    "spice_enhancements",
];

/// Storage types that hold files, and so images in formats of their own.
const ON_FILES: [&str; 6] = ["dir", "nfs", "cifs", "cephfs", "glusterfs", "btrfs"];

/// A target's token for `remote_migrate`, and the nodes that can be reached with it.
async fn entries(target: &Site) -> Result<(SecretString, Vec<RemoteEndpoint>), Finding> {
    let id = "migration_token";
    let name = &target.name;
    let Some(token) = target.client.migration_token().cloned() else {
        let text = format!("the connection of {name} has no token that may be handed to another cluster");
        return Err(finding(id, text, "set its `migration_token`, with a user of its own"));
    };
    let next = "see whether the token is good, and has Sys.Audit on /";
    let holder = target.client.with_token(&token).map_err(|error| finding(id, error.to_string(), next))?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for one in holder.remote_endpoints().await {
        match one {
            Ok(endpoint) => found.push(endpoint),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if found.is_empty() {
        let text = format!("no endpoint of {name} answers the holder of its migration token: {}", errors.join("; "));
        return Err(finding(id, text, next));
    }
    Ok((token, found))
}

/// The nodes that a machine can be sent to: those behind the endpoints of the connection.
pub(in crate::relocate) async fn entry_nodes(target: &Site) -> Vec<String> {
    entries(target).await.map(|(_, found)| found.into_iter().map(|one| one.node).collect()).unwrap_or_default()
}

/// How the source reaches a node of the target, token and all.
///
/// # Errors
/// No token, or no endpoint of that node.
pub(in crate::relocate) async fn entry(target: &Site, node: &str) -> Result<SecretString, Finding> {
    let (token, found) = entries(target).await?;
    let text = || format!("node {node} of {} is behind none of its connection's endpoints", target.name);
    let next = "add the node's address to `endpoints`, or set `node` to one that is there";
    let entry = found.iter().find(|one| one.node == node).ok_or_else(|| finding("target_endpoint", text(), next))?;
    Ok(entry.with_token(&token))
}

/// What a bridge of the source is told to become.
fn bridge_there(source: &VmConfig, resolved: &Resolved, bridge: &str) -> String {
    let of = |pair: &str| pair.split_once(':').filter(|(here, _)| *here == bridge).map(|(_, there)| there.to_owned());
    bridges(source, resolved).split(',').find_map(of).unwrap_or_else(|| bridge.to_owned())
}

/// The source's bridges and what they become, as `target-bridge` has it. Of a bridge that becomes several the first; the others are put
/// right before the machine starts.
pub(in crate::relocate) fn bridges(source: &VmConfig, resolved: &Resolved) -> String {
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    for (slot, nic) in source.nics() {
        let Some(bridge) = nic.bridge() else { continue };
        let place = slot.parse().ok().and_then(|slot| resolved.nics.get(&slot));
        let there = place.map_or(bridge, |place| &place.bridge);
        pairs.entry(bridge.to_owned()).or_insert_with(|| there.to_owned());
    }
    if pairs.is_empty() {
        // It has to be given, also for a machine without networks.
        return "1".to_owned();
    }
    pairs.into_iter().map(|(here, there)| format!("{here}:{there}")).collect::<Vec<_>>().join(",")
}

impl Preflight<'_> {
    /// Everything that is asked for these methods alone. `spread`: what would have to move on, after it came.
    pub(super) async fn direct(
        &self,
        path: &MigrationPath,
        config: &VmConfig,
        spread: Option<&Spread>,
        findings: &mut Findings,
    ) {
        if let Err(found) = entry(self.target, &self.to.node).await {
            findings.push(found);
        } else {
            self.rights_of_the_token(config, spread, findings).await;
        }
        self.sent_whole(config, spread, findings).await;
        let place = &self.guest.place;
        let wish = &self.spec.migration;
        let next = "keep the source, or set the path's method to backup-restore";
        if wish.source == Source::Delete {
            let text =
                format!("{place} would stay: method {} leaves it locked, and no token can remove it", path.method);
            findings.push(finding("locked_source", text, next));
        }
        if wish.on_unhealthy == OnUnhealthy::Return {
            let text = format!("{place} would be locked, and could not become the machine again (on_unhealthy)");
            findings.push(finding("locked_source", text, next));
        }
        if let Ok(Some(_)) = self.source.client.ha_resource(place.vmid).await {
            let text = format!("{place} is managed by HA, and Proxmox VE sends no such machine to another cluster");
            findings.push(finding("ha_attached", text, format!("ha-manager remove vm:{}", place.vmid)));
        }
        let jobs = self.source.client.replication_jobs().await.unwrap_or_default();
        if jobs.iter().any(|job| job.guest == Some(place.vmid)) {
            let text = format!("{place} is replicated, and Proxmox VE sends no such machine to another cluster");
            findings.push(finding("replication", text, "remove its replication job"));
        }
        if path.method == Method::StorageMigration && self.guest.running {
            self.while_it_runs(config, spread, findings);
        }
    }

    /// What Proxmox VE would refuse once the machine is shut down, or once all of it was copied.
    async fn sent_whole(&self, config: &VmConfig, spread: Option<&Spread>, findings: &mut Findings) {
        let place = &self.guest.place;
        let mut cant = |why: String, next: &str| findings.push(finding("sent_whole", format!("{place}: {why}"), next));
        let status = self.source.client.vm_status(&place.node, place.vmid).await;
        if status
            .is_ok_and(|status| !status.is_stopped() && status.qmpstatus.as_deref().is_some_and(|is| is != "running"))
        {
            cant("it is not stopped, and doesn't run either".into(), "resume it, or stop it");
        }
        for key in OF_ROOT.iter().filter(|key| config.get(key).is_some()) {
            cant(
                format!("{key} is root's to set, so that no token can bring it there"),
                "remove it, or use backup-restore",
            );
        }
        let excluded = config.disks().into_iter().filter(|(_, disk)| !disk.is_cdrom() && !disk.backup());
        for (slot, _) in excluded.chain(config.unused()) {
            cant(format!("{slot} would be sent too, and nobody counts it"), "set its `backup`, or remove it");
        }
        let Some(spread) = spread else {
            return cant("it has no disk, so that no storage can be named for it".into(), "use backup-restore");
        };
        let online = self.fleet.path(&self.source.name, &self.target.name).method.of(self.guest.running)
            == Method::StorageMigration;
        let there = self.target.client.storage_index().await.unwrap_or_default();
        let files = there
            .iter()
            .find(|one| one.storage == spread.restore)
            .is_none_or(|one| ON_FILES.contains(&one.kind.as_str()));
        for (slot, disk) in carried(config) {
            let volume = disk.volume();
            if volume.contains("/base-") || volume.contains(":base-") {
                cant(format!("{slot} ({volume}) is a linked clone"), "make it a full clone, or use backup-restore");
            }
            let format = disk.format().filter(|format| *format != "raw");
            // While it runs a disk is mirrored block by block, whatever holds it.
            if let Some(format) = format.filter(|_| !files && !online && !disk.is_cloudinit()) {
                let why = format!("{slot} is {format}, which storage {} has no place for", spread.restore);
                cant(why, "move it to raw first, or use backup-restore");
            }
        }
    }

    async fn rights_of_the_token(&self, config: &VmConfig, spread: Option<&Spread>, findings: &mut Findings) {
        let Some(holder) =
            self.target.client.migration_token().and_then(|token| self.target.client.with_token(token).ok())
        else {
            return;
        };
        let guest = format!("/vms/{}", self.to.vmid);
        let mut needed = vec![("/".to_owned(), OF_THE_TOKEN.to_vec()), (guest, OF_THE_MACHINE.to_vec())];
        if config.get("startup").is_some() {
            needed.push(("/".to_owned(), vec!["Sys.Modify"]));
        }
        for nic in config.nics().into_values() {
            let Some(bridge) = nic.bridge() else { continue };
            let there = bridge_there(config, self.resolved, bridge);
            // The VLAN goes along as it is, also where another one is set before the start.
            let vlan = nic.tag().map(|tag| format!("/{tag}")).unwrap_or_default();
            if there.starts_with("vmbr") {
                // Another may be one of SDN's, in a zone of its own.
                needed.push((format!("/sdn/zones/localnetwork/{there}{vlan}"), vec!["SDN.Use"]));
            }
        }
        if let Some(spread) = spread {
            needed.push((format!("/storage/{}", spread.restore), vec!["Datastore.AllocateSpace"]));
        }
        for (path, privileges) in needed {
            let next = "grant them to the user of the connection's `migration_token`";
            match holder.permissions(Some(&path)).await {
                Ok(held) => {
                    let missing: Vec<&str> = privileges.into_iter().filter(|one| !held.has(&path, one)).collect();
                    if !missing.is_empty() {
                        let text = format!(
                            "the migration token of {} lacks {} on {path}",
                            self.target.name,
                            missing.join(", ")
                        );
                        findings.push(finding("migration_token", text, next));
                    }
                }
                Err(error) => findings.push(finding("migration_token", error.to_string(), next)),
            }
        }
    }

    /// A guest that runs keeps what it has: its networks' VLANs and MAC addresses; and Proxmox VE maps a bridge or a storage as a whole.
    fn while_it_runs(&self, config: &VmConfig, spread: Option<&Spread>, findings: &mut Findings) {
        let id = "same_network";
        let next = "shut it down first, or set the path's method to offline or backup-restore";
        let place = &self.guest.place;
        let facts = self.fleet.facts(self.target.name.as_str());
        let mut becomes: BTreeMap<String, String> = BTreeMap::new();
        for (slot, nic) in config.nics() {
            let bridge = nic.bridge().unwrap_or_default().to_owned();
            let named = slot.parse().ok().and_then(|slot| self.resolved.nics.get(&slot));
            let there = named.map_or(&bridge, |on| &on.bridge);
            let first = becomes.entry(bridge.clone()).or_insert_with(|| there.clone());
            if first != there {
                let text = format!("{place}: bridge {bridge} would become both {first} and {there}");
                findings.push(finding(id, text, next));
            }
            // What the configuration doesn't name keeps what it has.
            let Some(on) = named else { continue };
            if on.vlan != nic.tag() {
                let vlan = |tag: Option<u16>| tag.map_or_else(|| "no VLAN".to_owned(), |tag| format!("VLAN {tag}"));
                let text =
                    format!("{place}: {slot} is on {}, and would be on {} there", vlan(nic.tag()), vlan(on.vlan));
                findings.push(finding(id, text, next));
            }
            let mac = nic.mac().unwrap_or_default();
            if !matches!(mac_there(&facts, self.spec, self.resolved, &slot, mac), Mac::Kept | Mac::Refused(_)) {
                findings.push(finding(id, format!("{place}: {slot} would get another MAC address there"), next));
            }
        }
        if spread.is_some_and(|spread| !spread.moves.is_empty()) {
            let text = format!("{place}: its disks belong on several storages there, and come to one");
            findings.push(finding(id, text, next));
        }
    }

    /// Rights on the source that `remote_migrate` takes in place of a backup.
    pub(super) async fn rights_to_send(&self, spread: Option<&Spread>, findings: &mut Findings) {
        let source = vec![
            (
                format!("/vms/{}", self.guest.place.vmid),
                vec!["VM.Audit", "VM.Migrate", "VM.PowerMgmt", "VM.Config.Options"],
            ),
            (format!("/pool/{}", crate::journal::OPERATIONS), vec!["Pool.Allocate"]),
            // Whoever has to tell what came of a migration must see everybody's tasks.
            (format!("/nodes/{}", self.guest.place.node), vec!["Sys.Audit"]),
        ];
        let mut target = self.arrival().needed(None, spread).await;
        // It comes in no pool: until it is put into its own, and before it is there, rights on that say nothing.
        let there = vec!["VM.Allocate", "VM.Audit", "VM.PowerMgmt", "VM.Config.Network", "VM.Config.Options"];
        target.push((format!("/vms/{}", self.to.vmid), there));
        target.push((format!("/nodes/{}", self.to.node), vec!["Sys.Audit"]));
        if let Some(pool) = &self.spec.pool {
            target.push((format!("/pool/{pool}"), vec!["Pool.Allocate"]));
        }
        arrival::rights(self.source, source, findings).await;
        arrival::rights(self.target, target, findings).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::NicPlace;

    #[test]
    fn bridges_are_mapped_as_a_whole_and_what_nobody_names_keeps_its_own() {
        let config = VmConfig::from_pairs([
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=120"),
            ("net1", "virtio=BC:24:11:00:00:02,bridge=vmbr0"),
            ("net2", "virtio=BC:24:11:00:00:03,bridge=vmbr7"),
        ]);
        let mut resolved = Resolved::default();
        assert_eq!(bridges(&config, &resolved), "vmbr0:vmbr0,vmbr7:vmbr7");
        let place = |bridge: &str| NicPlace { bridge: bridge.into(), vlan: None };
        resolved.nics.insert("net0".parse().expect("a slot"), place("vmbr2"));
        resolved.nics.insert("net1".parse().expect("a slot"), place("vmbr3"));
        assert_eq!(bridges(&config, &resolved), "vmbr0:vmbr2,vmbr7:vmbr7");
        assert_eq!(bridges(&VmConfig::from_pairs([("cores", "1")]), &resolved), "1");
    }
}

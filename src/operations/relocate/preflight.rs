//! Owns what is checked before a machine is touched: one list with stable ids; what can't be carried is refused here.
use std::sync::Arc;

use federation::migration::PREFLIGHT;
use federation::model::{Method, MigrationPath, TransportKind};
use proxmox::{StorageDefinition, VmConfig};

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::inventory::backing;
use crate::journal::Place;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// Something that stands in the way of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check found it.
    pub id: &'static str,
    /// What is wrong: cluster, object, privilege or number.
    pub text: String,
    /// What mends it.
    pub next: String,
}

impl std::fmt::Display for Finding {
    /// The check, with the guide's name for it, what is wrong, and what mends it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let check = PREFLIGHT.iter().find(|check| check.id == self.id);
        let guide = check.and_then(|check| check.guide).map(|name| format!(" [{name}]")).unwrap_or_default();
        write!(f, "{}{guide}: {} ({})", self.id, self.text, self.next)
    }
}

/// The checks of one move.
pub struct Preflight<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) source: &'a Arc<Site>,
    pub(crate) target: &'a Arc<Site>,
    pub(crate) spec: &'a VmSpec,
    pub(crate) guest: &'a Guest,
    pub(crate) to: &'a Place,
    pub(crate) resolved: &'a Resolved,
}

/// What a passed preflight found out.
pub(super) struct Passed {
    pub(super) path: MigrationPath,
    pub(super) transfer: (String, String),
    pub(super) ha_state: Option<String>,
    pub(super) warnings: Vec<Failure>,
    /// In seconds.
    pub(super) predicted_downtime: u64,
}

type Findings = Vec<Finding>;

/// Bytes per second that a backup or a restore is assumed to do where no path says less: 100 MiB/s.
const RATE: u64 = 100 << 20;

pub(super) fn finding(id: &'static str, text: impl Into<String>, next: impl Into<String>) -> Finding {
    Finding { id, text: text.into(), next: next.into() }
}

/// All findings as one refusal.
pub(super) fn refusal(what: &str, findings: &[Finding]) -> Failure {
    let lines: Vec<String> = findings.iter().map(|found| format!("- {found}")).collect();
    Failure::new(what)
        .at(format!("preflight refuses it:\n{}", lines.join("\n")))
        .state("nothing was touched")
        .next("mend what is listed, and apply again")
}

impl Preflight<'_> {
    /// Runs every check.
    ///
    /// # Errors
    /// Everything that stands in the way, at once.
    pub(super) async fn run(&self) -> Result<Passed, Findings> {
        let mut findings = Findings::new();
        let path = self.path(&mut findings);
        let config = match self.source.client.vm_config(&self.guest.place.node, self.guest.place.vmid, true).await {
            Ok(config) => config,
            Err(error) => {
                findings.push(finding("reachable", error.to_string(), "bring the source back"));
                return Err(findings);
            }
        };
        self.quorum(&mut findings).await;
        self.configuration(&config, &mut findings).await;
        let transfer = self.transfer(&path, &mut findings).await;
        self.target_storage(&config, &mut findings).await;
        self.vmid(&mut findings).await;
        self.rights(&transfer, &mut findings).await;
        let ha_state = self.ha(&mut findings).await;
        let mut warnings = self.limits(&path).await;
        self.beside(&config, &mut findings, &mut warnings).await;
        let predicted_downtime = self.downtime(&config, &path, &mut findings);
        match transfer {
            Some(transfer) if findings.is_empty() => {
                Ok(Passed { path, transfer, ha_state, warnings, predicted_downtime })
            }
            _ => Err(findings),
        }
    }

    fn path(&self, findings: &mut Findings) -> MigrationPath {
        let (from, to) = (&self.source.name, &self.target.name);
        let facts = self.fleet.facts(from.as_str());
        let path = self.fleet.path(from, to);
        if path.method != Method::BackupRestore {
            let text = format!("the path from {from} to {to} has method {}, which is not carried out yet", path.method);
            findings.push(finding("path", text, "set its method to backup-restore"));
        }
        if let Some(transport) =
            path.transport.as_ref().filter(|transport| transport.kind != TransportKind::SharedStorage)
        {
            let text =
                format!("the path from {from} to {to} has transport {}, which is not carried out yet", transport.kind);
            findings.push(finding("path", text, "set its transport to shared-storage"));
        }
        if path.encryption_required && !facts.link_encrypted(to) {
            let text = format!("the path from {from} to {to} requires encryption, and shared-storage doesn't encrypt");
            findings.push(finding(
                "encryption",
                text,
                "set `link_encrypted`, or declare a vpn or direct cross-connect",
            ));
        }
        path
    }

    async fn quorum(&self, findings: &mut Findings) {
        for site in [self.source, self.target] {
            match site.client.cluster_status().await {
                Ok(status) if status.quorate => {}
                Ok(_) => findings.push(finding(
                    "quorum",
                    format!("cluster {} has no quorum", site.name),
                    "restore its quorum",
                )),
                // Without Sys.Audit it can't be read; the first write refuses then, before anything is stopped.
                Err(error) if error.is_permission_denied() => {}
                Err(error) => findings.push(finding("reachable", error.to_string(), "bring it back")),
            }
        }
    }

    /// What a backup would silently drop, or a target could not run.
    async fn configuration(&self, config: &VmConfig, findings: &mut Findings) {
        let place = &self.guest.place;
        if let Some(lock) = config.lock() {
            let next = format!("wait for what holds it, or run `qm unlock {}` on {}", place.vmid, place.node);
            findings.push(finding("source_idle", format!("{place} is locked ({lock})"), next));
        }
        if config.template() {
            findings.push(finding("source_idle", format!("{place} is a template"), "only machines move"));
        }
        for (key, value) in config.passthrough() {
            findings.push(finding(
                "passthrough",
                format!("{place} has {key} = {value}, which exists on its node alone"),
                "remove it",
            ));
        }
        let accepts = |loss: &str| self.spec.migration.accept_loss.contains(loss);
        let disks = config.disks().unwrap_or_default();
        for (slot, disk) in &disks {
            if disk.is_cdrom() && !disk.is_cloudinit() && disk.volume() != "none" {
                let text = format!("{place}: {slot} holds the medium {}", disk.volume());
                findings.push(finding("local_media", text, "eject it: it may not exist on the target"));
            } else if !disk.backup() && !accepts("excluded-disks") {
                let text = format!("{place}: {slot} ({}) is excluded from backup and would stay behind", disk.volume());
                findings.push(finding(
                    "disks_without_backup",
                    text,
                    "set its `backup`, or accept_loss = [\"excluded-disks\"]",
                ));
            }
        }
        for (slot, disk) in config.unused().unwrap_or_default() {
            if !accepts("unused-disks") {
                let text = format!("{place}: {slot} ({}) is not attached and would stay behind", disk.volume());
                findings.push(finding("unused_disks", text, "remove it, or accept_loss = [\"unused-disks\"]"));
            }
        }
        let client = &self.source.client;
        match client.snapshots(&place.node, place.vmid).await {
            Ok(snapshots) if !snapshots.is_empty() && !accepts("snapshots") => {
                let names: Vec<String> = snapshots.into_iter().map(|snapshot| snapshot.name).collect();
                let text = format!("{place} has snapshots, which a backup doesn't hold: {}", names.join(", "));
                findings.push(finding("snapshots", text, "remove them, or accept_loss = [\"snapshots\"]"));
            }
            Ok(_) => {}
            Err(error) => {
                findings.push(finding("snapshots", error.to_string(), "let the token read snapshots (VM.Audit)"))
            }
        }
        match client.vm_pending(&place.node, place.vmid).await {
            Ok(pending) => {
                let keys: Vec<String> =
                    pending.iter().filter(|one| one.is_pending()).map(|one| one.key.clone()).collect();
                if !keys.is_empty() && !accepts("pending-changes") {
                    let text = format!("{place} has changes that wait for a restart: {}", keys.join(", "));
                    findings.push(finding(
                        "pending_changes",
                        text,
                        "restart it, or accept_loss = [\"pending-changes\"]",
                    ));
                }
            }
            Err(error) => {
                findings.push(finding("pending_changes", error.to_string(), "let the token read the configuration"))
            }
        }
    }

    async fn transfer(&self, path: &MigrationPath, findings: &mut Findings) -> Option<(String, String)> {
        let named = path.transport.as_ref().and_then(|transport| transport.storage.clone());
        match shared_transfer(self.source, self.target, named.as_deref()).await {
            Ok(transfer) => {
                self.room_for_archive(&transfer.0, findings).await;
                Some(transfer)
            }
            Err(found) => {
                findings.push(found);
                None
            }
        }
    }

    /// The archive is at most as large as all disks: zeros and compression only make it smaller.
    async fn room_for_archive(&self, storage: &str, findings: &mut Findings) {
        let place = &self.guest.place;
        let Ok(storages) = self.source.client.storages(&place.node).await else { return };
        let Some(found) = storages.iter().find(|found| found.storage == storage) else { return };
        if !found.active {
            let text =
                format!("cluster {}: transfer storage {storage} is not active on {}", self.source.name, place.node);
            findings.push(finding("transport_space", text, "bring it back"));
        }
        let disks = self.guest.config.disks().unwrap_or_default();
        let size: u64 = disks.values().filter_map(proxmox::DiskSpec::size_bytes).sum();
        let avail = found.avail.unwrap_or(u64::MAX);
        if avail < size {
            let human = |bytes: u64| federation::Bytes(bytes).human();
            let text = format!("transfer storage {storage} has {} free, the disks have {}", human(avail), human(size));
            findings.push(finding("transport_space", text, "free some space on it"));
        }
    }

    /// One restore puts all disks on one storage, which no image storage of the source may be (operations-review 2, 13).
    async fn target_storage(&self, config: &VmConfig, findings: &mut Findings) {
        let id = "storage_map";
        let mut storages: Vec<&String> = self.resolved.storages.values().collect();
        storages.sort();
        storages.dedup();
        if storages.len() > 1 {
            let names: Vec<&str> = storages.iter().map(|name| name.as_str()).collect();
            let text = format!("the disks become several storages on {}: {}", self.target.name, names.join(", "));
            findings.push(finding(id, text, "a move puts all disks on one storage for now: name one"));
        }
        let managed = self.resolved.storages.len();
        let data =
            config.disks().unwrap_or_default().values().filter(|disk| !disk.is_cdrom() && !disk.is_cloudinit()).count();
        if managed == 0 && data > 0 {
            let text = format!("none of the {data} disks is in the configuration, so the target storage is not known");
            findings.push(finding(id, text, "name the disks in `disks`"));
        }
        let (ours, theirs) = tokio::join!(self.source.client.storage_index(), self.target.client.storage_index());
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
            let text = "the storages can't be listed on both clusters";
            findings.push(finding(id, text, "let the tokens see them (Datastore.Audit)"));
            return;
        };
        let images = |all: &[StorageDefinition]| -> Vec<String> {
            all.iter().filter(|one| one.content().contains(&"images")).filter_map(backing).collect()
        };
        if let Some(shared) = images(&ours).into_iter().find(|backing| images(&theirs).contains(backing)) {
            let text = format!(
                "clusters {} and {} share a storage with disk images ({shared}): a restore there takes in, and a removal frees, \
                 the other cluster's disks of the same VMID",
                self.source.name, self.target.name
            );
            findings.push(finding("backing_apart", text, "take `images` off it, or give each cluster its own"));
        }
        let mut images: Vec<String> = storages.into_iter().cloned().collect();
        // A restore takes volumes in from every image storage of its node, not from the one it writes to alone.
        if let Ok(there) = self.target.client.storages(&self.to.node).await {
            images.extend(there.into_iter().filter(|one| one.holds("images") && one.active).map(|one| one.storage));
        }
        images.sort();
        images.dedup();
        for storage in &images {
            self.no_foreign_volume(storage, findings).await;
        }
    }

    /// A restore takes in any volume of its VMID on any image storage (`pve-behaviour.md` §16).
    async fn no_foreign_volume(&self, storage: &str, findings: &mut Findings) {
        let volumes =
            self.target.client.storage_content(&self.to.node, storage, Some("images"), Some(self.to.vmid)).await;
        match volumes {
            Ok(volumes) if volumes.is_empty() => {}
            Ok(volumes) => {
                let names: Vec<String> = volumes.into_iter().map(|volume| volume.volid).collect();
                let text = format!(
                    "{} holds volumes of VMID {} already: {}",
                    self.target.name,
                    self.to.vmid,
                    names.join(", ")
                );
                findings.push(finding("foreign_volumes", text, "see whose they are; or set another `vmid`"));
            }
            Err(error) => findings.push(finding("foreign_volumes", error.to_string(), "let the token list it")),
        }
    }

    async fn vmid(&self, findings: &mut Findings) {
        let Ok(overview) = self.target.fresh().await else { return };
        let free =
            overview.guest(self.to.vmid).is_none() && self.target.client.next_id(Some(self.to.vmid)).await.is_ok();
        if !free {
            let text = format!("VMID {} is taken on {}", self.to.vmid, self.target.name);
            findings.push(finding("vmid_free", text, "set `vmid` to a free one"));
        }
    }

    /// Every right that the steps need, on both sides (`pve-behaviour.md` §1.4, §17), all missing ones at once.
    async fn rights(&self, transfer: &Option<(String, String)>, findings: &mut Findings) {
        let vm = |vmid: u32| format!("/vms/{vmid}");
        let pool = self.spec.pool.as_ref().map(|pool| format!("/pool/{pool}"));
        let operations = "/pool/moxxie-moves".to_owned();
        let mut source = vec![
            (
                vm(self.guest.place.vmid),
                vec!["VM.Audit", "VM.Backup", "VM.PowerMgmt", "VM.Config.Options", "VM.Allocate"],
            ),
            (operations.clone(), vec!["Pool.Allocate"]),
        ];
        let at_target = pool.unwrap_or_else(|| vm(self.to.vmid));
        let mut target = vec![
            (at_target, vec!["VM.Allocate", "VM.Audit", "VM.PowerMgmt", "VM.Config.Options", "VM.Config.Network"]),
            (operations, vec!["Pool.Allocate"]),
        ];
        if let Some((here, there)) = transfer {
            source.push((format!("/storage/{here}"), vec!["Datastore.AllocateSpace", "Datastore.Allocate"]));
            target.push((format!("/storage/{there}"), vec!["Datastore.Audit"]));
        }
        for storage in self.resolved.storages.values() {
            target.push((format!("/storage/{storage}"), vec!["Datastore.AllocateSpace"]));
        }
        for (site, needed) in [(self.source, source), (self.target, target)] {
            let Ok(all) = site.client.permissions(None).await else { continue };
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
    }

    /// The HA state to set aside, where the machine is managed.
    async fn ha(&self, findings: &mut Findings) -> Option<String> {
        let place = &self.guest.place;
        let status = self.source.client.vm_status(&place.node, place.vmid).await.ok()?;
        if !status.ha.managed {
            return None;
        }
        match self.source.client.ha_resource(place.vmid).await {
            Ok(Some(resource)) => {
                let may =
                    self.source.client.permissions(Some("/")).await.is_ok_and(|held| held.has("/", "Sys.Console"));
                if !may {
                    let text = format!("{place} is managed by HA, which the token can't set aside (Sys.Console on /)");
                    findings.push(finding("ha_attached", text, "grant it, or set the resource to `ignored`"));
                }
                resource.state
            }
            Ok(None) => None,
            Err(error) => {
                findings.push(finding(
                    "ha_attached",
                    error.to_string(),
                    "let the token see HA resources (Sys.Audit on /)",
                ));
                None
            }
        }
    }

    /// Predicted downtime: every byte is read once and written once (operations-review 12), at the path's rate where that is
    /// declared, else at [`RATE`].
    fn downtime(&self, config: &VmConfig, path: &MigrationPath, findings: &mut Findings) -> u64 {
        let disks = config.disks().unwrap_or_default();
        let size: u64 = disks.values().filter(|disk| disk.backup()).filter_map(proxmox::DiskSpec::size_bytes).sum();
        let rate = path.max_bandwidth.map_or(RATE, |limit| (limit.bits_per_second() / 8).clamp(1, RATE));
        let predicted = size.div_ceil(rate).saturating_mul(2);
        if let Some(most) = self.spec.migration.max_downtime.filter(|most| predicted > most.as_secs_ceil()) {
            let human = federation::Bytes(size).human();
            let text = format!("about {predicted} s of downtime are predicted for {human}, more than {most}");
            findings.push(finding("max_downtime", text, "raise max_downtime, or the path's max_bandwidth"));
        }
        predicted
    }

    /// A rate limit that can't be set is said, never ignored (operations-review 15).
    async fn limits(&self, path: &MigrationPath) -> Vec<Failure> {
        let Some(limit) = path.max_bandwidth else { return Vec::new() };
        let may = self.source.client.permissions(Some("/")).await.is_ok_and(|held| held.has("/", "Sys.Modify"));
        if may {
            return Vec::new();
        }
        vec![
            Failure::new("A bandwidth limit is advisory (bandwidth_limit)")
                .at(format!("{} → {}: {limit} binds the restore, not the backup", self.source.name, self.target.name))
                .next("limit the transfer storage itself, or grant Sys.Modify on / (which is a lot)"),
        ]
    }
}

/// The transfer storage of an open move.
pub(super) async fn transfer_of(
    fleet: &Fleet,
    source: &Site,
    target: &Site,
    what: &str,
) -> Result<(String, String), Failure> {
    let path = fleet.path(&source.name, &target.name);
    let named = path.transport.as_ref().and_then(|transport| transport.storage.clone());
    shared_transfer(source, target, named.as_deref()).await.map_err(|found| refusal(what, &[found]))
}

/// The storage, by its names on both clusters, that both mount from the same place and that holds backups alone
/// (operations-review 16): the named one, or the only one there is.
async fn shared_transfer(source: &Site, target: &Site, named: Option<&str>) -> Result<(String, String), Finding> {
    let id = "transport_same";
    let next = "set `transport = { storage = … }` of the path to a storage of content `backup` that both mount";
    let (ours, theirs) = tokio::try_join!(source.client.storage_index(), target.client.storage_index())
        .map_err(|error| finding(id, error.to_string(), "let the tokens list storages"))?;
    let dedicated = |all: Vec<StorageDefinition>| -> Vec<StorageDefinition> {
        all.into_iter().filter(|one| one.content() == ["backup"] && backing(one).is_some()).collect()
    };
    let (ours, theirs) = (dedicated(ours), dedicated(theirs));
    let mut pairs = Vec::new();
    for here in ours.iter().filter(|one| named.is_none_or(|name| one.storage == name)) {
        for there in theirs.iter().filter(|there| backing(there) == backing(here)) {
            pairs.push((here.storage.clone(), there.storage.clone()));
        }
    }
    let names = format!("{} and {}", source.name, target.name);
    match (pairs.len(), named) {
        (1, _) => Ok(pairs.remove(0)),
        (0, Some(name)) => {
            Err(finding(id, format!("storage {name} of {names} is not one that both mount for backups alone"), next))
        }
        (0, None) => Err(finding(id, format!("{names} have no storage that both mount for backups alone"), next)),
        _ => {
            let all: Vec<String> = pairs.into_iter().map(|(here, _)| here).collect();
            Err(finding(id, format!("{names} have several transfer storages: {}", all.join(", ")), next))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The ids that this file reports, read off its own text: `finding("…"` and `let id = "…"`.
    fn reported() -> BTreeSet<&'static str> {
        let files = [include_str!("preflight.rs"), include_str!("beside.rs")];
        let texts = files.map(|text| text.split("#[cfg(test)]").next().unwrap_or_default());
        let after = |mark: &'static str| {
            texts
                .into_iter()
                .flat_map(move |text| text.split(mark).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')))
        };
        let quoted = after("finding(").chain(after("let id = ")).filter_map(|rest| rest.split('"').next());
        quoted.collect()
    }

    #[test]
    fn every_check_of_the_list_is_carried_out_and_no_other() {
        // Said as a warning, and the move's own backup, which the step of that name makes.
        let elsewhere = ["bandwidth_limit", "backup_exists", "acl_entries", "backup_coverage"];
        let listed: BTreeSet<&str> =
            PREFLIGHT.iter().map(|check| check.id).filter(|id| !elsewhere.contains(id)).collect();
        assert_eq!(reported(), listed);
    }

    #[test]
    fn a_finding_names_the_check_and_the_guides_name_for_it() {
        let text = finding("snapshots", "vm 100 has snapshots", "remove them").to_string();
        assert_eq!(text, "snapshots [validate_vm_configuration]: vm 100 has snapshots (remove them)");
        assert_eq!(finding("rights", "x", "y").to_string(), "rights: x (y)");
    }
}

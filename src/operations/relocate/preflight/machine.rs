//! Owns what is asked of the machine itself: what a backup would silently drop, or a target could not run.
use proxmox::{DiskSpec, PendingValue, VmConfig};

use super::{Findings, Preflight, finding};
use crate::parameters::{EFI_SLOT, OVMF};

impl Preflight<'_> {
    /// What a backup would silently drop, or a target could not run.
    pub(super) async fn configuration(&self, config: &VmConfig, findings: &mut Findings) {
        let place = &self.guest.place;
        if config.template() {
            findings.push(finding("source_idle", format!("{place} is a template"), "only machines move"));
        }
        self.carried_along(config, findings).await;
        let disks = config.disks();
        for (slot, disk) in disks.iter().filter(|(_, disk)| holds_a_medium(disk)) {
            let text = format!("{place}: {slot} holds the medium {}", disk.volume());
            findings.push(finding("local_media", text, "eject it: it may not exist on the target"));
        }
        self.at_the_source(findings).await;
    }

    /// What goes along with a backup, and what doesn't.
    pub(super) async fn carried_along(&self, config: &VmConfig, findings: &mut Findings) {
        let place = &self.guest.place;
        for tie in config.host_ties() {
            findings.push(finding("passthrough", format!("{place}: {}", tie.what), tie.next));
        }
        self.snippets(config, findings).await;
        let detached = |volume: &str| {
            let known = self.spec.disks.iter().find(|(_, disk)| disk.volume.as_deref() == Some(volume));
            known.map(|(slot, _)| slot).filter(|slot| config.get(&slot.to_string()).is_none())
        };
        let unused = config.unused();
        for (disk, slot) in unused.values().filter_map(|disk| Some((disk, detached(disk.volume())?))) {
            let text = format!("{place}: disk {slot} is detached ({}), and the configuration has it", disk.volume());
            findings.push(finding(
                "unused_disks",
                text,
                "apply with its cluster as it is first, which attaches it again",
            ));
        }
        if !self.is_by_archive() {
            // Proxmox VE would send these too (`sent_whole`).
            return;
        }
        if config.get(EFI_SLOT).is_some() && config.bios() != OVMF {
            let text = format!("{place}: {EFI_SLOT} is in no backup while the firmware is {}", config.bios());
            findings.push(finding("disks_without_backup", text, "set bios = \"ovmf\", or remove that disk"));
        }
        let disks = config.disks();
        for (slot, disk) in &disks {
            if !holds_a_medium(disk) && !disk.backup() && !self.accepts("excluded-disks") {
                let text = format!("{place}: {slot} ({}) is excluded from backup and would stay behind", disk.volume());
                findings.push(finding(
                    "disks_without_backup",
                    text,
                    "set its `backup`, or accept_loss = [\"excluded-disks\"]",
                ));
            }
        }
        for (slot, disk) in unused.iter().filter(|(_, disk)| detached(disk.volume()).is_none()) {
            if !self.accepts("unused-disks") {
                let text = format!("{place}: {slot} ({}) is not attached and would stay behind", disk.volume());
                findings.push(finding("unused_disks", text, "remove it, or accept_loss = [\"unused-disks\"]"));
            }
        }
    }

    /// What only the machine itself can tell.
    async fn at_the_source(&self, findings: &mut Findings) {
        let (place, client) = (&self.guest.place, &self.source.client);
        // Of a machine that is sent whole they can't be left behind.
        let may_stay = self.accepts("snapshots") && self.is_by_archive();
        match client.snapshots(&place.node, place.vmid).await {
            Ok(snapshots) if !snapshots.is_empty() && !may_stay => {
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
            Ok(values) => self.waiting(values.into_iter().filter(PendingValue::is_pending).collect(), findings),
            Err(error) => {
                findings.push(finding("pending_changes", error.to_string(), "let the token read the configuration"))
            }
        }
    }

    /// Changes that the machine takes when it is shut down for the move, or not at all.
    fn waiting(&self, changes: Vec<PendingValue>, findings: &mut Findings) {
        let (id, place) = ("pending_changes", &self.guest.place);
        if !changes.is_empty() && !self.accepts("pending-changes") {
            let keys: Vec<&str> = changes.iter().map(|one| one.key.as_str()).collect();
            let text = format!("{place} has changes that wait for its next start: {}", keys.join(", "));
            // Of a machine that is off any change takes all that waits.
            let takes = if self.guest.running { "restart it" } else { "change any setting of it in Proxmox VE" };
            findings.push(finding(id, text, format!("{takes}, or accept_loss = [\"pending-changes\"]")));
        }
        let drive = |one: &&PendingValue| {
            one.delete && one.value.as_deref().and_then(|line| line.parse::<DiskSpec>().ok()).is_some_and(is_data)
        };
        for one in changes.iter().filter(drive).filter(|_| !self.accepts("unused-disks")) {
            let text = format!("{place}: {} is detached when it is shut down, and would stay behind", one.key);
            findings.push(finding(id, text, "attach it again, or accept_loss = [\"unused-disks\"]"));
        }
    }

    /// Files that a start reads and no backup holds: without them the machine doesn't start (`proxmox-ve.md` §13 A9).
    async fn snippets(&self, config: &VmConfig, findings: &mut Findings) {
        for (key, volume) in config.snippets() {
            if let Err(error) = self.target.client.volume(&self.to.node, volume).await {
                let node = format!("{} of {}", self.to.node, self.to.cluster);
                let text = format!("{key} is {volume}, which is not seen on {node}: {error}");
                let next = format!("put it there too, where the token sees its storage, or remove {key}");
                findings.push(finding("snippets", text, next));
            }
        }
    }
}

/// Whether a CD drive has something in it that only its own cluster is known to have.
pub(in crate::relocate) fn holds_a_medium(disk: &DiskSpec) -> bool {
    disk.is_cdrom() && !disk.is_cloudinit() && disk.volume() != "none"
}

/// Whether a drive has a volume with data, and is no CD.
fn is_data(disk: DiskSpec) -> bool {
    disk.storage().is_some() && !disk.is_cdrom() && !disk.is_cloudinit()
}

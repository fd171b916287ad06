//! Owns the changes that a running machine takes only when it is stopped and started (`proxmox-ve.md` §4): which those are,
//! with `hotplug` as Proxmox VE sets it (network, disk and USB), which of them are ours, and the restart for them; or, where the
//! machine is off, the write that takes them.
use std::time::Instant;

use federation::Slot;
use proxmox::{Params, PendingValue};

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::journal::Place;
use crate::site::Site;
use crate::spec::{RebootPolicy, VmSpec};

/// Whether a change of this configuration key waits. Keys that only Proxmox VE itself reads, and network devices, don't.
pub fn key_waits(key: &str) -> bool {
    let at_once = ["name", "description", "tags", "onboot", "protection", "pool"];
    !at_once.contains(&key) && !key.starts_with("net")
}

/// Whether a disk that appears in this slot, or leaves it, waits: only scsi and virtio take one, or let go of one, while the
/// machine runs.
pub fn disk_waits(slot: &str) -> bool {
    !(slot.starts_with("scsi") || slot.starts_with("virtio"))
}

/// Settings that attributes of a machine become, and that wait.
const OURS: [&str; 13] = [
    "cores",
    "sockets",
    "cpu",
    "memory",
    "bios",
    "efidisk0",
    "machine",
    "boot",
    "agent",
    "ciuser",
    "cipassword",
    "sshkeys",
    "nameserver",
];

/// What of the waiting changes a restart is owed for: keys that our attributes become, and slots that are `configured` or were
/// taken out. For what somebody staged in keys that we don't model, nobody's configuration asks for a restart.
pub fn due(waiting: &[PendingValue], configured: impl Fn(Slot) -> bool) -> Vec<String> {
    let is_ours = |change: &&PendingValue| {
        let key = change.key.as_str();
        let carries_cloud_init = change.pending.as_deref().is_some_and(|value| value.contains("cloudinit"));
        let slot = || key.parse::<Slot>().is_ok_and(|slot| change.delete || carries_cloud_init || configured(slot));
        OURS.contains(&key) || key.starts_with("ipconfig") || slot()
    };
    waiting.iter().filter(is_ours).map(|change| change.key.clone()).collect()
}

fn keys(waiting: &[PendingValue]) -> String {
    waiting.iter().map(|change| change.key.as_str()).collect::<Vec<_>>().join(", ")
}

fn is_due(waiting: &[PendingValue], spec: &VmSpec) -> bool {
    !due(waiting, |slot| spec.disks.contains_key(&slot) || spec.nics.contains_key(&slot)).is_empty()
}

impl Fleet {
    /// What a running machine could not take, of this apply or of one that was killed: it waits, and a warning says so, or the
    /// machine is restarted.
    pub(crate) async fn take_what_waits(
        &self,
        site: &Site,
        at: &Place,
        new: &VmSpec,
        deadline: Instant,
        what: &str,
    ) -> Result<Option<Failure>, Failure> {
        let mut waiting = self.waiting(site, at, what).await?;
        if waiting.is_empty() {
            return Ok(None);
        }
        if new.reboot == RebootPolicy::Warn || !is_due(&waiting, new) {
            return Ok(Some(waits(new, at, &waiting)));
        }
        if self.end_of_tasks(site, at, "qmreboot", what, deadline).await? {
            // Another run began the restart, and died.
            waiting = self.waiting(site, at, what).await?;
        }
        if is_due(&waiting, new) {
            self.restart(site, at, new, &waiting, deadline, what).await?;
            waiting = self.waiting(site, at, what).await?;
        }
        Ok((!waiting.is_empty()).then(|| {
            Failure::new(format!("Virtual machine {} was restarted, and a change still waits", new.name))
                .at(format!("{at}: {}", keys(&waiting)))
                .next("see the task log of its start in Proxmox VE")
        }))
    }

    /// What waits when a machine was shut down waits on: Proxmox VE takes it at the next start, or with any change that is made while
    /// the machine is off (`proxmox-ve.md` §18.4, §18.26). So one is made that changes nothing else.
    pub(crate) async fn write_what_waits(
        &self,
        site: &Site,
        at: &Place,
        new: &VmSpec,
        what: &str,
    ) -> Result<(), Failure> {
        let waiting = self.waiting(site, at, what).await?;
        if !is_due(&waiting, new) {
            return Ok(());
        }
        let fail = |error| {
            let failure = Failure::new(what).at(format!("{at}: it is off, and {} wait still", keys(&waiting)));
            failure.said(error).state("everything is written").next("apply again")
        };
        let config = site.client.vm_config(&at.node, at.vmid, false).await.map_err(fail)?;
        let as_it_is = Params::new().flag("onboot", config.onboot());
        site.client.set_config(&at.node, at.vmid, as_it_is, config.digest()).await.map_err(fail)?;
        site.changed().await;
        Ok(())
    }

    async fn restart(
        &self,
        site: &Site,
        at: &Place,
        new: &VmSpec,
        waiting: &[PendingValue],
        deadline: Instant,
        what: &str,
    ) -> Result<(), Failure> {
        let fail = |failure: Failure| {
            failure
                .at(format!("{at}: it was not restarted"))
                .state(format!("everything is written; {} wait for a restart", keys(waiting)))
                .next("see to the guest, and apply again, or restart it through Proxmox VE")
        };
        let timeout = Some(new.migration.shutdown_timeout.into());
        match site.client.reboot_vm(&at.node, at.vmid, timeout).await {
            Ok(upid) => self.wait(site, &upid, deadline, what).await.map_err(fail),
            Err(error) if error.is_ambiguous() && self.end_of_tasks(site, at, "qmreboot", what, deadline).await? => {
                Ok(())
            }
            Err(error) => Err(fail(Failure::new(what).said(error))),
        }
    }

    /// The changes that a running machine has not taken yet.
    async fn waiting(&self, site: &Site, at: &Place, what: &str) -> Result<Vec<PendingValue>, Failure> {
        let values = site.client.vm_pending(&at.node, at.vmid).await.map_err(|error| {
            Failure::new(what).at(at.to_string()).said(error).state("the changes were made").next("plan again")
        })?;
        Ok(values.into_iter().filter(PendingValue::is_pending).collect())
    }
}

/// The warning of what is left waiting.
fn waits(spec: &VmSpec, at: &Place, waiting: &[PendingValue]) -> Failure {
    let by_hand = "restart it through Proxmox VE (a restart inside the guest is not enough)";
    let next = if is_due(waiting, spec) {
        format!("{by_hand}, or set reboot_policy = \"reboot\"")
    } else {
        format!("{by_hand}: no attribute of it stands for this, so apply doesn't")
    };
    Failure::new(format!("Virtual machine {} takes a change at its next restart", spec.name))
        .at(format!("{at}: {}", keys(waiting)))
        .next(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_owed_for_what_our_attributes_become() {
        let set = |key: &str, value: &str| PendingValue {
            key: key.into(),
            pending: Some(value.into()),
            ..PendingValue::default()
        };
        let gone = |key: &str| PendingValue { key: key.into(), delete: true, ..PendingValue::default() };
        let waiting = [
            set("memory", "4096"),
            set("numa", "1"),
            set("args", "-nodefaults"),
            set("sata0", "lvm:vm-100-disk-0"),
            set("sata1", "lvm:vm-100-disk-1"),
            set("ide2", "lvm:vm-100-cloudinit,media=cdrom"),
            set("ipconfig0", "ip=dhcp"),
            gone("sata2"),
            gone("vga"),
        ];
        let owed = due(&waiting, |slot| slot.to_string() == "sata0");
        assert_eq!(owed, ["memory", "sata0", "ide2", "ipconfig0", "sata2"]);
    }

    #[test]
    fn what_the_guest_sees_waits_and_what_it_doesnt_see_is_taken_at_once() {
        for key in ["cores", "sockets", "cpu", "memory", "bios", "machine", "boot", "agent", "ciuser", "ipconfig0"] {
            assert!(key_waits(key), "{key}");
        }
        for key in ["name", "description", "tags", "onboot", "protection", "net0"] {
            assert!(!key_waits(key), "{key}");
        }
        assert!(disk_waits("ide0") && disk_waits("sata5") && !disk_waits("scsi3") && !disk_waits("virtio15"));
    }
}

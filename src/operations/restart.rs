//! Owns which changes a running machine takes at once, and which wait until it is stopped and started (`pve-behaviour.md` §4):
//! with `hotplug` as Proxmox VE sets it, which is network, disk and USB.

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

#[cfg(test)]
mod tests {
    use super::*;

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

//! Owns how a wish is spelled in Proxmox VE's parameters: devices, drives, cloud-init, and the call that makes a machine.
use std::collections::BTreeSet;

use federation::{Bytes, Slot};
use proxmox::{Boot, Params, PropertyString};

use crate::spec::{AddressWish, CloudInitWish, DiskWish, NicPlace, NicWish, Resolved, VmSpec};

/// Slots that are tried for the cloud-init drive. The first is where Proxmox VE's own guides put it.
const CLOUD_INIT_SLOTS: [&str; 6] = ["ide2", "ide0", "ide3", "ide1", "sata5", "scsi30"];

impl DiskWish {
    /// The property string that allocates this disk on `storage` (`proxmox-ve.md` §2.3: the size is in GiB).
    pub(crate) fn allocation(&self, storage: &str) -> String {
        let mut text = format!("{storage}:{}", gib(self.size));
        if let Some(format) = &self.format {
            text.push_str(&format!(",format={format}"));
        }
        for (key, value) in self.options() {
            text.push_str(&format!(",{key}={value}"));
        }
        text
    }

    /// Options that differ from Proxmox VE's own defaults.
    fn options(&self) -> Vec<(&'static str, &'static str)> {
        let set = [(self.ssd, ("ssd", "1")), (self.discard, ("discard", "on")), (!self.backup, ("backup", "0"))];
        set.into_iter().filter(|(on, _)| *on).map(|(_, option)| option).collect()
    }
}

impl NicWish {
    /// The property string of this device at `place`.
    pub(crate) fn device(&self, place: &NicPlace, link_down: bool) -> String {
        let mac = self.mac.as_ref().map(|mac| format!("={mac}")).unwrap_or_default();
        let vlan = place.vlan.map(|vlan| format!(",tag={vlan}")).unwrap_or_default();
        let firewall = if self.firewall { ",firewall=1" } else { "" };
        let link = if link_down { ",link_down=1" } else { "" };
        format!("{}{mac},bridge={}{vlan}{firewall}{link}", self.model, place.bridge)
    }
}

impl VmSpec {
    /// Parameters that create this machine as `vmid` with `uuid`, with `notes` as its description. Tags are not among them: Proxmox VE
    /// 9.2 asks for the right to them before the machine is in its pool (`proxmox-ve.md` §18.2), so they are written afterwards.
    pub(crate) fn create_params(&self, vmid: u32, uuid: &str, notes: &str, on: &Resolved) -> Params {
        let mut params = Params::new()
            .set("vmid", vmid)
            .opt("name", self.written_name())
            .set("smbios1", format!("uuid={uuid}"))
            .set("cores", self.cpu.cores)
            .set("sockets", self.cpu.sockets)
            .set("cpu", &self.cpu.model)
            .set("memory", self.memory.as_mib())
            .set("ostype", "l26")
            .set("scsihw", "virtio-scsi-single")
            .flag("onboot", self.on_boot)
            .flag("protection", self.protection)
            .flag("agent", self.agent)
            .opt("pool", self.pool.as_ref())
            .opt("bios", self.bios.as_ref())
            .opt("machine", self.machine.as_ref());
        if !notes.is_empty() {
            params = params.set("description", notes);
        }
        for (slot, disk) in &self.disks {
            if let Some(storage) = on.storages.get(slot) {
                params = params.set(slot.to_string(), disk.allocation(storage));
            }
        }
        for (slot, nic) in &self.nics {
            if let Some(place) = on.nics.get(slot) {
                params = params.set(slot.to_string(), nic.device(place, false));
            }
        }
        if self.bios.as_deref() == Some(OVMF)
            && let Some(storage) = on.main_storage()
        {
            params = params.set(EFI_SLOT, efi_disk(storage));
        }
        if let Some(cloud_init) = &self.cloud_init {
            if let Some(storage) = on.main_storage()
                && let Some(slot) = cloud_init_slot(|slot| params.get(slot).is_some())
            {
                params = params.set(slot, cloud_init_drive(storage));
            }
            params = params.merge(cloud_init.settings());
        }
        let first = || self.disks.keys().next().map(|slot| vec![slot.to_string()]);
        if let Some(order) = self.boot_order.clone().or_else(first) {
            params = params.set("boot", Boot::from_order(order));
        }
        params
    }
}

/// The firmware that keeps its variables on a disk of their own.
pub(crate) const OVMF: &str = "ovmf";
/// Where that disk is.
pub(crate) const EFI_SLOT: &str = "efidisk0";

/// Allocates the disk of the EFI variables. Its size is Proxmox VE's own choice; without enrolled keys there is no Secure Boot,
/// as in Proxmox VE's API.
pub(crate) fn efi_disk(storage: &str) -> String {
    format!("{storage}:1,efitype=4m,pre-enrolled-keys=0")
}

/// Allocates the drive that Proxmox VE fills from the cloud-init settings.
pub(crate) fn cloud_init_drive(storage: &str) -> String {
    format!("{storage}:cloudinit")
}

/// The first slot for the cloud-init drive that nothing else has.
pub(crate) fn cloud_init_slot(taken: impl Fn(&str) -> bool) -> Option<&'static str> {
    CLOUD_INIT_SLOTS.into_iter().find(|slot| !taken(slot))
}

impl Resolved {
    /// Where what belongs to no disk of the configuration goes: beside the first disk.
    pub(crate) fn main_storage(&self) -> Option<&String> {
        self.storages.values().next().or(self.primary.as_ref())
    }
}

impl CloudInitWish {
    /// Every setting as Proxmox VE's parameters.
    pub(crate) fn settings(&self) -> Params {
        let mut params = Params::new().opt("ciuser", self.user.as_ref());
        if let Some(password) = &self.password {
            params = params.secret("cipassword", password.secret());
        }
        if let Some(keys) = &self.ssh_keys {
            params = params.url_encoded("sshkeys", &keys.join("\n"));
        }
        for (slot, addresses) in &self.addresses {
            params = params.set(addresses.key(*slot), addresses.value());
        }
        params.opt("nameserver", self.dns.as_ref().map(|servers| servers.join(" ")))
    }
}

impl AddressWish {
    /// The key of a device's addresses: those of `net1` are in `ipconfig1`.
    pub(crate) fn key(&self, slot: Slot) -> String {
        format!("ipconfig{}", slot.number())
    }

    /// The property string.
    pub(crate) fn value(&self) -> String {
        let mut properties = PropertyString::new();
        let parts = [("ip", &self.ipv4), ("gw", &self.gateway4), ("ip6", &self.ipv6), ("gw6", &self.gateway6)];
        for (key, value) in parts {
            if let Some(value) = value {
                properties.set(key, value);
            }
        }
        properties.to_string()
    }

    /// What a property string says.
    pub(crate) fn read(text: &str) -> AddressWish {
        let properties: PropertyString = text.parse().unwrap_or_default();
        let part = |key: &str| properties.get(key).map(str::to_owned);
        AddressWish { ipv4: part("ip"), gateway4: part("gw"), ipv6: part("ip6"), gateway6: part("gw6") }
    }
}

/// Tags as Proxmox VE stores them.
pub(crate) fn join_tags(tags: &BTreeSet<String>) -> String {
    tags.iter().map(String::as_str).collect::<Vec<_>>().join(";")
}

/// A size in GiB, with a fraction only where there is one: sizes are whole MiB, so ten binary places are exact.
fn gib(size: Bytes) -> String {
    let mib = size.as_mib();
    if mib.is_multiple_of(1024) {
        return (mib / 1024).to_string();
    }
    let exact = format!("{}.{:010}", mib / 1024, (mib % 1024) * 10_000_000_000 / 1024);
    exact.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Password;

    #[test]
    fn cloud_init_says_only_what_is_wished() {
        let slot: Slot = "net1".parse().expect("a slot");
        let addresses = AddressWish {
            ipv4: Some("10.1.2.3/24".into()),
            gateway4: Some("10.1.2.1".into()),
            ipv6: Some("auto".into()),
            gateway6: None,
        };
        assert_eq!(AddressWish::read(&addresses.value()), addresses);
        let wish = CloudInitWish {
            user: Some("ops".into()),
            ssh_keys: Some(vec!["ssh-ed25519 AAAA= me@x".into()]),
            password: Some(Password::new("hunter2")),
            addresses: [(slot, addresses)].into(),
            dns: Some(vec!["10.1.2.1".into(), "9.9.9.9".into()]),
        };
        let params = wish.settings();
        assert_eq!(params.get("ciuser"), Some("ops"));
        assert_eq!(params.get("sshkeys"), Some("ssh-ed25519%20AAAA%3D%20me%40x"));
        assert_eq!(params.get("ipconfig1"), Some("ip=10.1.2.3/24,gw=10.1.2.1,ip6=auto"));
        assert_eq!(params.get("nameserver"), Some("10.1.2.1 9.9.9.9"));
        assert!(!format!("{params:?} {wish:?}").contains("hunter2"), "a password is never shown");
        assert!(params.encode().contains("cipassword=hunter2"));
        assert!(CloudInitWish::default().settings().is_empty());
        assert_eq!(cloud_init_slot(|slot| slot == "ide2"), Some("ide0"));
    }

    #[test]
    fn sizes_are_written_in_gib_exactly() {
        for (mib, text) in [(1024, "1"), (40 * 1024, "40"), (512, "0.5"), (1536, "1.5"), (1, "0.0009765625")] {
            assert_eq!(gib(Bytes::from_mib(mib)), text);
        }
    }

    #[test]
    fn a_disk_and_a_network_device_say_only_what_differs_from_the_default() {
        let plain = DiskWish {
            size: Bytes::from_gib(40),
            storage: None,
            format: None,
            ssd: false,
            discard: false,
            backup: true,
            volume: None,
        };
        assert_eq!(plain.allocation("ceph"), "ceph:40");
        let all = DiskWish { format: Some("qcow2".into()), ssd: true, discard: true, backup: false, ..plain };
        assert_eq!(all.allocation("ceph"), "ceph:40,format=qcow2,ssd=1,discard=on,backup=0");
        let nic = NicWish {
            network: Some("app".into()),
            bridge: None,
            vlan: None,
            model: "virtio".into(),
            mac: Some("BC:24:11:00:00:01".into()),
            firewall: true,
        };
        let place = NicPlace { bridge: "vmbr0".into(), vlan: Some(120) };
        assert_eq!(nic.device(&place, true), "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=120,firewall=1,link_down=1");
        let bare = NicWish { mac: None, firewall: false, ..nic };
        assert_eq!(bare.device(&NicPlace { vlan: None, ..place }, false), "virtio,bridge=vmbr0");
    }
}

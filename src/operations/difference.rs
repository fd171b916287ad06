//! Owns what has to be written so that a guest becomes what is wanted: only what we model, and only where it differs.
use std::collections::BTreeMap;

use federation::Slot;
use proxmox::{Boot, DiskSpec, NicSpec, Params, PropertyString, Smbios1, Stored};

use crate::disks::{Whereabouts, whereabouts};
use crate::failure::Failure;
use crate::guest::Guest;
use crate::notes::{Mark, MarkFound};
use crate::parameters::{EFI_SLOT, OVMF, cloud_init_drive, cloud_init_slot, efi_disk, join_tags};
use crate::spec::{AddressWish, CloudInitWish, DiskWish, NicPlace, NicWish, Resolved, VmSpec};

/// A guest, and what it shall be.
pub(crate) struct Difference<'a> {
    /// As it is.
    pub(crate) guest: &'a Guest,
    /// What was wanted before: what is in it and not in `new` was taken out by the user. `None`: nothing was.
    pub(crate) old: Option<&'a VmSpec>,
    /// What is wanted.
    pub(crate) new: &'a VmSpec,
    /// What federation names are on its cluster.
    pub(crate) on: &'a Resolved,
    /// The UUID it shall have, where that is to change: that of a clone is Proxmox VE's choice until we write ours.
    pub(crate) uuid: Option<&'a str>,
}

/// Keys to write, and keys to remove.
#[derive(Default)]
struct Change {
    set: Params,
    delete: Vec<String>,
}

impl Change {
    fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        self.set = std::mem::take(&mut self.set).set(key, value);
    }

    fn merge(&mut self, params: Params) {
        self.set = std::mem::take(&mut self.set).merge(params);
    }
}

impl Difference<'_> {
    /// The parameters of the one call that writes it; empty where there is nothing to write.
    ///
    /// # Errors
    /// A wish that this cluster has no name for.
    pub(crate) fn params(&self, what: &str) -> Result<Params, Failure> {
        let mut change = Change::default();
        self.settings(&mut change);
        self.words(&mut change, what)?;
        self.devices(&mut change, what)?;
        self.firmware(&mut change);
        self.cloud_init(&mut change);
        let Change { set, delete } = change;
        Ok(if delete.is_empty() { set } else { set.set("delete", delete.join(",")) })
    }

    fn settings(&self, change: &mut Change) {
        let (config, new) = (&self.guest.config, self.new);
        if config.cores() != u64::from(new.cpu.cores) {
            change.set("cores", new.cpu.cores);
        }
        if config.sockets() != u64::from(new.cpu.sockets) {
            change.set("sockets", new.cpu.sockets);
        }
        self.plugged_in(change);
        if config.cpu_type().unwrap_or("kvm64") != new.cpu.model {
            change.set("cpu", cpu(config.cpu(), &new.cpu.model));
        }
        if config.memory_mib() != new.memory.as_mib() {
            change.set("memory", new.memory.as_mib());
        }
        for (key, is, wanted) in
            [("onboot", config.onboot(), new.on_boot), ("protection", config.protection(), new.protection)]
        {
            if is != wanted {
                change.set(key, u8::from(wanted));
            }
        }
        let mut agent = config.agent();
        if agent.enabled() != new.agent {
            agent.set_enabled(new.agent);
            change.set("agent", agent);
        }
        if let Some(uuid) = self.uuid.filter(|uuid| config.uuid().is_none_or(|own| !own.eq_ignore_ascii_case(uuid))) {
            let mut smbios: Smbios1 = config.smbios1();
            smbios.set_uuid(uuid);
            change.set("smbios1", smbios);
        }
    }

    /// `vcpus` beside other cores: a machine with more plugged in than it has does not start, and one that had all of them plugged in
    /// shall have all of the new ones. Fewer on purpose stay fewer.
    fn plugged_in(&self, change: &mut Change) {
        let (config, all) = (&self.guest.config, u64::from(self.new.vcpus()));
        let had = config.cores().saturating_mul(config.sockets());
        if had != all && config.vcpus().is_some_and(|vcpus| vcpus > all || vcpus >= had) {
            change.delete.push("vcpus".into());
        }
    }

    fn words(&self, change: &mut Change, what: &str) -> Result<(), Failure> {
        let (config, new) = (&self.guest.config, self.new);
        if let Some(name) = new.written_name().filter(|name| config.name() != Some(name.as_str())) {
            change.set("name", name);
        }
        if let Some(tags) = &new.tags {
            let is = config.get("tags").unwrap_or_default();
            match (Stored::Tags.same(is, &join_tags(tags)), tags.is_empty()) {
                (true, _) => {}
                (false, true) => change.delete.push("tags".into()),
                (false, false) => change.set("tags", join_tags(tags)),
            }
        }
        let text = new.description.as_ref().unwrap_or(&self.guest.description);
        let mark = self.mark();
        let other_text = !Stored::Notes.same(text, &self.guest.description);
        if other_text || mark != self.guest.mark {
            match crate::notes::join(text, &mark) {
                Ok(notes) => change.set("description", notes),
                // Notes that were there first leave no room for saying that the machine is managed.
                Err(_) if !other_text => {}
                Err(error) => {
                    let failure = Failure::new(what).at(format!("{}: {error}", self.guest.place));
                    return Err(failure.next("shorten `description`"));
                }
            }
        }
        Ok(())
    }

    /// Its mark: a machine in no pool says itself that it is managed, also one that was imported or left its pool.
    fn mark(&self) -> Mark {
        let mut mark = self.guest.mark.clone();
        let uuid = self.uuid.unwrap_or(&self.guest.uuid);
        let broken = matches!(self.guest.mark_found, MarkFound::Broken(_));
        if self.new.pool.is_none() && !broken && !mark.is_of(Some(uuid)) {
            mark.managed = Some(uuid.to_owned());
        }
        mark
    }

    fn devices(&self, change: &mut Change, what: &str) -> Result<(), Failure> {
        let disks = self.guest.config.disks();
        by_slot(change, self.old.map(|old| &old.disks), &self.new.disks, &disks, |slot, wish, disk| {
            let Some(disk) = disk else { return self.missing(slot, wish, what).map(Some) };
            let mut wanted = disk.clone();
            set_options(&mut wanted, wish);
            Ok((wanted != *disk).then(|| wanted.to_string()))
        })?;
        let nics = self.guest.config.nics();
        by_slot(change, self.old.map(|old| &old.nics), &self.new.nics, &nics, |slot, wish, nic| {
            let place = self.on.nics.get(&slot);
            let Some(nic) = nic else {
                let place = place.ok_or_else(|| unnamed(what, slot, "a network or a bridge"))?;
                return Ok(Some(wish.device(place, false)));
            };
            let wanted = nic_as_wished(nic, wish, place);
            Ok((wanted != *nic).then(|| wanted.to_string()))
        })
    }

    /// A disk that is not in its slot: attached again where its volume is known, allocated where there never was one. An empty disk
    /// never takes the place of one that may still be somewhere.
    fn missing(&self, slot: Slot, wish: &DiskWish, what: &str) -> Result<String, Failure> {
        let old = self.old.map(|old| &old.disks);
        let known = old.and_then(|old| old.get(&slot)).and_then(|had| had.volume.as_deref());
        let Some(volume) = known else {
            let storage = self.on.storages.get(&slot).ok_or_else(|| unnamed(what, slot, "a storage"))?;
            return Ok(wish.allocation(storage));
        };
        let others = old.into_iter().flatten().filter_map(|(_, had)| had.volume.as_deref()).collect::<Vec<_>>();
        let place = &self.guest.place;
        let refused = |is: String| Failure::new(what).at(format!("{place}: {is}")).state("nothing was changed");
        match whereabouts(self.guest, volume, &others) {
            Whereabouts::Unused => {
                let mut disk = DiskSpec::new(volume);
                set_options(&mut disk, wish);
                Ok(disk.to_string())
            }
            Whereabouts::On(other) => {
                let next =
                    format!("name it {other} in the configuration, or detach it there in Proxmox VE, and apply again");
                Err(refused(format!("disk {slot} is on {other} ({volume})")).next(next))
            }
            Whereabouts::Perhaps(others) => {
                let next = format!("attach it to {slot} in Proxmox VE, or remove it there, and apply again");
                Err(refused(format!("disk {slot} is gone ({volume}), and {others} may be it")).next(next))
            }
            Whereabouts::Gone => {
                Err(Failure::stale(what, format!("{place}: disk {slot} is gone with its volume {volume}")))
            }
        }
    }

    fn firmware(&self, change: &mut Change) {
        let (config, new) = (&self.guest.config, self.new);
        if let Some(bios) = new.bios.as_deref().filter(|bios| *bios != config.bios()) {
            change.set("bios", bios);
        }
        // A machine that somebody gave UEFI without a disk for its variables is left so.
        let is_news = config.bios() != OVMF || self.old.is_none_or(|old| old.bios.as_deref() != Some(OVMF));
        if new.bios.as_deref() == Some(OVMF)
            && is_news
            && config.get(EFI_SLOT).is_none()
            && let Some(storage) = self.beside_the_first_disk()
        {
            change.set(EFI_SLOT, efi_disk(&storage));
        }
        let same = |machine: &str| config.machine().is_some_and(|is| Stored::Properties("type").same(is, machine));
        if let Some(machine) = new.machine.as_deref().filter(|machine| !same(machine)) {
            change.set("machine", machine);
        }
        if let Some(order) = self.boot_order().filter(|order| config.boot().order() != *order) {
            change.set("boot", Boot::from_order(&order));
        }
    }

    /// The wished order, without what was taken out of the configuration: Proxmox VE refuses devices that are not there.
    fn boot_order(&self) -> Option<Vec<String>> {
        let taken_out = |device: &String| {
            let slot = device.parse::<Slot>().ok();
            slot.zip(self.old).is_some_and(|(slot, old)| {
                let (had, has) = (
                    old.disks.contains_key(&slot) || old.nics.contains_key(&slot),
                    self.new.disks.contains_key(&slot) || self.new.nics.contains_key(&slot),
                );
                had && !has
            })
        };
        Some(self.new.boot_order.as_ref()?.iter().filter(|device| !taken_out(device)).cloned().collect())
    }

    /// The storage of the guest's first disk, or where its first disk would go.
    fn beside_the_first_disk(&self) -> Option<String> {
        let disks = self.guest.config.disks();
        let own = disks.values().find(|disk| !disk.is_cdrom() && !disk.is_cloudinit());
        own.and_then(DiskSpec::storage).or(self.on.main_storage().map(String::as_str)).map(str::to_owned)
    }

    fn cloud_init(&self, change: &mut Change) {
        let Some(new) = &self.new.cloud_init else { return };
        let config = &self.guest.config;
        let disks = config.disks();
        if !disks.values().any(DiskSpec::is_cloudinit) {
            let taken = |slot: &str| {
                disks.contains_key(slot) || slot.parse().is_ok_and(|slot: Slot| self.new.disks.contains_key(&slot))
            };
            if let (Some(slot), Some(storage)) = (cloud_init_slot(taken), self.beside_the_first_disk()) {
                change.set(slot, cloud_init_drive(&storage));
            }
        }
        let (is, was) = (CloudInitWish::of(config), self.old.and_then(|old| old.cloud_init.as_ref()));
        let nothing = CloudInitWish::default();
        let was = was.unwrap_or(&nothing);
        let differs = CloudInitWish {
            user: new.user.clone().filter(|user| is.user.as_ref() != Some(user)),
            ssh_keys: new.ssh_keys.clone().filter(|keys| is.ssh_keys.as_ref() != Some(keys)),
            password: new.password.clone(),
            addresses: new
                .addresses
                .iter()
                .filter(|(slot, wish)| is.addresses.get(*slot) != Some(*wish))
                .map(|(slot, wish)| (*slot, wish.clone()))
                .collect(),
            dns: new.dns.clone().filter(|servers| is.dns.as_ref() != Some(servers)),
        };
        change.merge(differs.settings());
        let gone = [
            ("ciuser", was.user.is_some() && new.user.is_none() && is.user.is_some()),
            ("sshkeys", was.ssh_keys.is_some() && new.ssh_keys.is_none() && is.ssh_keys.is_some()),
            ("nameserver", was.dns.is_some() && new.dns.is_none() && is.dns.is_some()),
        ];
        change.delete.extend(gone.into_iter().filter(|(_, gone)| *gone).map(|(key, _)| key.to_owned()));
        let gone = was.addresses.iter().filter(|(slot, _)| !new.addresses.contains_key(slot));
        let gone = gone.filter(|(slot, _)| is.addresses.contains_key(slot));
        change.delete.extend(gone.map(|(slot, wish)| wish.key(*slot)));
    }
}

impl CloudInitWish {
    /// What a guest's configuration tells its cloud-init. The password can't be read.
    pub fn of(config: &proxmox::VmConfig) -> CloudInitWish {
        let addresses = (0..32_u8).filter_map(|number| {
            let wish = AddressWish::read(config.get(&format!("ipconfig{number}"))?);
            Some((format!("net{number}").parse().ok()?, wish))
        });
        CloudInitWish {
            user: config.get("ciuser").map(str::to_owned),
            ssh_keys: config.ssh_keys(),
            password: None,
            addresses: addresses.collect(),
            dns: config.get("nameserver").map(proxmox::words),
        }
    }
}

/// Writes what differs slot by slot, and takes out what was configured and is no longer.
fn by_slot<W, D>(
    change: &mut Change,
    old: Option<&BTreeMap<Slot, W>>,
    new: &BTreeMap<Slot, W>,
    found: &BTreeMap<String, D>,
    value: impl Fn(Slot, &W, Option<&D>) -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    for (slot, wish) in new {
        let key = slot.to_string();
        if let Some(value) = value(*slot, wish, found.get(&key))? {
            change.set(&key, value);
        }
    }
    let taken_out = old.into_iter().flat_map(BTreeMap::keys).filter(|slot| !new.contains_key(slot));
    change.delete.extend(taken_out.map(ToString::to_string).filter(|slot| found.contains_key(slot)));
    Ok(())
}

fn unnamed(what: &str, slot: Slot, kind: &str) -> Failure {
    Failure::new(what).at(format!("{slot} does not name {kind}")).state("its configuration is as it was")
}

/// The processor with another model: flags beside it stay.
fn cpu(is: Option<&str>, model: &str) -> String {
    let mut properties: PropertyString = is.and_then(|text| text.parse().ok()).unwrap_or_default();
    if properties.get("cputype").is_some() {
        properties.set("cputype", model);
    } else {
        properties.set_default(model);
    }
    properties.to_string()
}

/// Sets the options that we model; the others stay as they are. An option that is at its default is not written.
fn set_options(disk: &mut DiskSpec, wish: &DiskWish) {
    if disk.option_bool("ssd").unwrap_or(false) != wish.ssd {
        disk.set_option("ssd", wish.ssd.then_some("1"));
    }
    if (disk.option("discard") == Some("on")) != wish.discard {
        disk.set_option("discard", wish.discard.then_some("on"));
    }
    if disk.backup() != wish.backup {
        disk.set_option("backup", (!wish.backup).then_some("0"));
    }
}

fn nic_as_wished(nic: &NicSpec, wish: &NicWish, place: Option<&NicPlace>) -> NicSpec {
    let mut wanted = nic.clone();
    let mac = wish.mac.as_deref().or(nic.mac()).map(str::to_owned);
    let same_mac = mac.as_deref().zip(nic.mac()).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
    if nic.model() != wish.model || !same_mac {
        wanted.set_model(&wish.model, mac.as_deref());
    }
    let (bridge, vlan) = (place.map(|place| place.bridge.as_str()), place.and_then(|place| place.vlan));
    if nic.bridge() != bridge {
        wanted.set_option("bridge", bridge);
    }
    // Without a bridge there is no VLAN either, but none that stands there is in the way.
    if nic.tag() != vlan && place.is_some() {
        wanted.set_tag(vlan);
    }
    if nic.firewall() != wish.firewall {
        wanted.set_firewall(wish.firewall);
    }
    wanted
}

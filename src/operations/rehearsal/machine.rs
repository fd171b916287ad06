//! Owns what the machine of a rehearsal is made of, the oddities that it is given, and how it is compared with itself.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use federation::model::NicRequest;
use federation::placement::{Current, DiskRequest, Request};
use federation::{Bytes, ClusterName, Slot, VmName};
use proxmox::{Params, VmConfig};

use super::{Maker, REHEARSAL};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::notes;
use crate::site::Site;
use crate::spec::{Cpu, DiskWish, MigrationWish, NicWish, RebootPolicy, VmSpec};

/// Sizes of its disks, in MiB. None of them is a whole GiB.
const DISKS: [u64; 2] = [97, 131];
/// By how much its first disk grows: no whole MiB, where the storage has such sizes.
const ODD: &str = "+35K";
/// Keys that no attribute of ours is for: they have to come along by themselves.
const KEYS: [(&str, &str); 5] =
    [("localtime", "1"), ("tablet", "0"), ("keyboard", "de"), ("tdf", "1"), ("hotplug", "disk,network")];
/// What is added to its SMBIOS data: `serial` is base64 of "rehearsal".
const SMBIOS: &str = ",base64=1,serial=cmVoZWFyc2Fs";

/// The machine as it was made.
#[derive(Debug)]
pub struct Dressed {
    /// The machine.
    pub guest: Guest,
    /// What it has, and what a storage or a right didn't allow.
    pub seen: Vec<String>,
}

impl VmSpec {
    /// The machine of a rehearsal: small, and odd in what moves have to carry. `storages`: federation names, a disk on each; where
    /// none is named two disks on the cluster's own choice. It boots nothing.
    pub fn rehearsal(maker: &Maker, storages: &[String], network: Option<&str>) -> Option<VmSpec> {
        let storages = if storages.is_empty() { vec![None; DISKS.len()] } else { storages.iter().map(Some).collect() };
        let mut disks = BTreeMap::new();
        for (index, storage) in storages.into_iter().enumerate() {
            let size = Bytes::from_mib(DISKS[index % DISKS.len()]);
            let storage = storage.cloned();
            let wish = DiskWish {
                size,
                storage,
                format: None,
                ssd: index == 1,
                discard: index == 0,
                backup: true,
                volume: None,
            };
            disks.insert(format!("scsi{}", 3 * index).parse::<Slot>().ok()?, wish);
        }
        let nic = |network: &str| NicWish {
            network: Some(network.to_owned()),
            bridge: None,
            vlan: None,
            model: "virtio".into(),
            mac: None,
            firewall: false,
        };
        let nics = network.and_then(|network| Some(("net0".parse::<Slot>().ok()?, nic(network))));
        Some(VmSpec {
            name: REHEARSAL.parse::<VmName>().ok()?,
            named: true,
            pool: Some(maker.pool.clone()),
            vmid: None,
            node: None,
            cpu: Cpu { cores: 1, sockets: 1, model: "x86-64-v2-AES".into() },
            memory: Bytes::from_mib(272),
            disks,
            nics: nics.into_iter().collect(),
            tags: Some(["rehearsal".to_owned(), "throw-away".to_owned()].into()),
            description: Some(maker.notes()),
            started: false,
            on_boot: true,
            protection: false,
            agent: false,
            bios: Some("ovmf".into()),
            machine: None,
            boot_order: None,
            clone: None,
            cloud_init: None,
            reboot: RebootPolicy::default(),
            migration: MigrationWish::default(),
        })
    }

    /// What placement looks at, for a machine of a rehearsal that is to be made on `pin`.
    pub fn rehearsal_request(&self, pin: &ClusterName) -> Request {
        let disk = |wish: &DiskWish| DiskRequest { size: wish.size, storage: wish.storage.clone() };
        let nic = |wish: &NicWish| NicRequest { network: wish.network.clone(), ..NicRequest::default() };
        Request {
            pool: self.pool.clone(),
            pin: Some(pin.clone()),
            cpus: self.vcpus(),
            memory: self.memory,
            disks: self.disks.iter().map(|(slot, wish)| (*slot, disk(wish))).collect(),
            nics: self.nics.iter().map(|(slot, wish)| (*slot, nic(wish))).collect(),
            current: None::<Current>,
            ..Request::new(self.name.clone())
        }
    }
}

impl Fleet {
    /// Gives the machine what the configuration of this provider has no words for, and starts it.
    ///
    /// # Errors
    /// What Proxmox VE refused. A size or key that it doesn't have is no error: it is in what was seen.
    pub async fn dress(&self, guest: &Guest) -> Result<Dressed, Failure> {
        let what = "Unable to prepare the machine of the rehearsal";
        let site = self.need(guest.place.cluster.as_str(), what)?.clone();
        let deadline = Instant::now() + Duration::from(self.settings().update);
        let mut seen = Vec::new();
        let at = &guest.place;
        for (key, value) in KEYS.map(|(key, value)| (key, value.to_owned())).into_iter().chain(smbios(&guest.config)) {
            let set = site.client.set_config(&at.node, at.vmid, Params::new().set(key, value), None).await;
            if let Err(error) = set {
                seen.push(format!("without {key}: {error}"));
            }
        }
        let first = guest.config.disks().into_keys().find(|slot| slot.starts_with("scsi"));
        if let Some(slot) = first
            && let Err(why) = self.grow_oddly(&site, guest, &slot, deadline).await
        {
            seen.push(format!("{slot} stays a whole MiB: {why}"));
        }
        self.start(&site, at, deadline).await?;
        let lost = |error| Failure::new(what).at(at.to_string()).said(error);
        let guest = site.guest_now(&at.node, at.vmid).await.map_err(lost)?;
        seen.insert(0, in_words(&guest.config));
        Ok(Dressed { guest, seen })
    }

    async fn grow_oddly(&self, site: &Site, guest: &Guest, slot: &str, deadline: Instant) -> Result<(), String> {
        let at = &guest.place;
        let grown =
            site.client.resize_disk(&at.node, at.vmid, slot, ODD, None).await.map_err(|error| error.to_string())?;
        if let Some(upid) = grown {
            self.wait(site, &upid, deadline, "").await.map_err(|failure| failure.detail())?;
        }
        Ok(())
    }
}

/// Its SMBIOS data with more in it than the UUID.
fn smbios(config: &VmConfig) -> Option<(&'static str, String)> {
    let own = config.get("smbios1").filter(|own| !own.contains("serial="))?;
    Some(("smbios1", format!("{own}{SMBIOS}")))
}

/// Its disks with their sizes, for a table.
fn in_words(config: &VmConfig) -> String {
    let disks = config.disks();
    let disk = |(slot, disk): (&String, &proxmox::DiskSpec)| {
        format!("{slot} {} on {}", disk.option("size").unwrap_or("?"), disk.storage().unwrap_or("?"))
    };
    disks.iter().map(disk).collect::<Vec<_>>().join(", ")
}

/// Drives that are no disks: their sizes are Proxmox VE's own choice.
const ASIDE: [&str; 2] = ["efidisk", "tpmstate"];

/// A drive's options without its volume and size.
fn beside_its_place(drive: &str) -> String {
    drive.split(',').filter(|part| !part.contains(':') && !part.starts_with("size=")).collect::<Vec<_>>().join(",")
}

impl Guest {
    /// Everything of a machine that a move has to keep, key by key: of disks the size in bytes, of network devices the model with
    /// the MAC address, of the notes the user's text. Where it lies and what Proxmox VE writes for itself is left out.
    pub fn looks(&self) -> BTreeMap<String, String> {
        const OWN: [&str; 9] =
            ["digest", "meta", "vmgenid", "template", "protection", "lock", "description", "running-machine", "parent"];
        let (disks, nics) = (self.config.disks(), self.config.nics());
        let mut looks = BTreeMap::new();
        for (key, value) in self.config.raw().iter().filter(|(key, _)| !OWN.contains(&key.as_str())) {
            let value = match (disks.get(key), nics.get(key)) {
                (Some(disk), _) => disk.size_bytes().map_or_else(|| "no size".to_owned(), |size| size.to_string()),
                (_, Some(nic)) => format!("{}={}", nic.model(), nic.mac().unwrap_or_default()),
                _ if ASIDE.iter().any(|drive| key.starts_with(drive)) => beside_its_place(value),
                _ => value.clone(),
            };
            looks.insert(key.clone(), value);
        }
        let notes = notes::split(self.config.description().unwrap_or_default());
        looks.insert("description".into(), notes.text.trim_end().to_owned());
        looks
    }

    /// In what it is not what it was: each key with both values. A disk that a storage rounded up is the same.
    pub fn differs_from(&self, before: &BTreeMap<String, String>) -> Vec<String> {
        let now = self.looks();
        let disks = self.config.disks();
        let larger = |key: &String| {
            let size = |looks: &BTreeMap<String, String>| looks.get(key).and_then(|size| size.parse::<u64>().ok());
            disks.contains_key(key) && size(&now) >= size(before) && size(before).is_some()
        };
        let keys: std::collections::BTreeSet<&String> = now.keys().chain(before.keys()).collect();
        let differs = keys.into_iter().filter(|key| now.get(*key) != before.get(*key) && !larger(key));
        let shown = |value: Option<&String>| value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
        differs.map(|key| format!("{key} is {}, was {}", shown(now.get(key)), shown(before.get(key)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use federation::PoolName;

    use super::*;
    use crate::journal::Place;

    fn guest(keys: &[(&str, &str)]) -> Guest {
        let place = Place { cluster: "a".parse().expect("a name"), node: "n1".into(), vmid: 100 };
        Guest::archived(place, VmConfig::from_pairs(keys.iter().copied()))
    }

    #[test]
    fn a_machine_differs_by_what_a_move_has_to_keep_and_by_nothing_else() {
        let before = guest(&[
            ("name", "x"),
            ("keyboard", "de"),
            ("scsi0", "ceph:vm-100-disk-0,size=99363K"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=1"),
            ("meta", "creation-qemu=9"),
            ("efidisk0", "ceph:vm-100-disk-1,efitype=4m,size=528K"),
        ]);
        let looks = before.looks();
        let moved = guest(&[
            ("name", "x"),
            ("keyboard", "de"),
            ("scsi0", "zfs:vm-101-disk-3,size=98M"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr1,tag=2"),
            ("efidisk0", "zfs:vm-101-disk-0,efitype=4m,size=1M"),
        ]);
        assert_eq!(moved.differs_from(&looks), Vec::<String>::new(), "storage, bridge and a rounded size");
        let lost = guest(&[
            ("name", "x"),
            ("scsi0", "zfs:vm-101-disk-3,size=97M"),
            ("net0", "virtio=BC:24:11:00:00:02,bridge=vmbr1"),
        ]);
        let differs = lost.differs_from(&looks);
        assert_eq!(differs.len(), 4, "{differs:?}");
        assert!(differs[1].contains("keyboard is nothing, was \"de\""), "{differs:?}");
    }

    #[test]
    fn every_named_storage_gets_a_disk_and_none_two_on_the_clusters_own_choice() {
        let pool: PoolName = "p".parse().expect("a name");
        let maker = Maker::me(&pool, 0);
        let two = VmSpec::rehearsal(&maker, &[], Some("app")).expect("a machine");
        assert_eq!((two.disks.len(), two.nics.len()), (2, 1));
        assert!(two.disks.values().all(|disk| disk.storage.is_none() && disk.size.as_mib() % 1024 != 0));
        let names = ["fast".to_owned(), "bulk".to_owned(), "slow".to_owned()];
        let three = VmSpec::rehearsal(&maker, &names, None).expect("a machine");
        let storages: Vec<_> = three.disks.values().filter_map(|disk| disk.storage.clone()).collect();
        assert_eq!((storages.len(), three.nics.len()), (3, 0));
        let request = three.rehearsal_request(&"a".parse().expect("a name"));
        assert_eq!((request.disks.len(), request.pin.is_some()), (3, true));
    }
}

//! Owns what of a guest's configuration belongs to the node that the guest is on: devices, folders, processors by number. A table has
//! every key of the API, so that a new one is thought about.

use crate::{DiskSpec, VmConfig};

/// Something that a guest has of its node, and that no other node is known to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTie {
    /// The key, for example `hostpci0`, and what it says: `hostpci0 = mapping=gpu, which exists on its node alone`.
    pub what: String,
    /// What mends it.
    pub next: &'static str,
}

/// What a value ties to the node, in words that follow the key; none where it ties nothing.
type Words = fn(&str) -> Option<String>;

/// How a key stands to the node.
#[derive(Clone, Copy)]
enum Stand {
    /// Nothing of the node is in it.
    Free,
    /// The target is asked whether it has what is named or needed: networks, files, models and flags of the processor.
    Asked,
    /// It may name something of the node.
    Tied(Words, &'static str),
    /// A parameter of the call, and no key of a configuration.
    Call,
}

use Stand::{Asked, Call, Free, Tied};

const REMOVE: &str = "remove it";
const DRIVE: Stand = Tied(drive, "put it on a storage, or remove it");

/// Every parameter of `PUT /nodes/{node}/qemu/{vmid}/config`, as the API spells it.
const KEYS: [(&str, Stand); 88] = [
    ("acpi", Free),
    ("affinity", Asked),
    ("agent", Free),
    ("allow-ksm", Free),
    ("amd-sev", Asked),
    // Another architecture is emulated, by any node.
    ("arch", Free),
    ("args", Tied(args, "take it out of `args`")),
    ("audio0", Free),
    ("autostart", Free),
    ("balloon", Free),
    ("bios", Free),
    ("boot", Free),
    ("bootdisk", Free),
    ("cdrom", DRIVE),
    ("cicustom", Asked),
    ("cipassword", Free),
    ("citype", Free),
    ("ciupgrade", Free),
    ("ciuser", Free),
    ("cores", Free),
    ("cpu", Asked),
    ("cpulimit", Free),
    ("cpuunits", Free),
    ("delete", Call),
    ("description", Free),
    ("digest", Call),
    ("efidisk0", DRIVE),
    ("force", Call),
    ("freeze", Free),
    ("hookscript", Asked),
    ("hostpci[n]", Tied(device, REMOVE)),
    ("hotplug", Free),
    ("hugepages", Asked),
    ("ide[n]", DRIVE),
    ("intel-tdx", Asked),
    ("ipconfig[n]", Free),
    ("ivshmem", Tied(shared_memory, REMOVE)),
    ("keephugepages", Free),
    ("keyboard", Free),
    ("kvm", Free),
    ("localtime", Free),
    ("lock", Asked),
    ("machine", Asked),
    ("memory", Free),
    ("migrate_downtime", Free),
    ("migrate_speed", Free),
    ("name", Free),
    ("nameserver", Free),
    ("net[n]", Asked),
    ("node", Call),
    ("numa", Free),
    ("numa[n]", Tied(numa, "take `hostnodes` out of it")),
    ("onboot", Free),
    ("ostype", Free),
    ("parallel[n]", Tied(device, REMOVE)),
    ("protection", Free),
    ("reboot", Free),
    ("revert", Call),
    ("rng0", Tied(random, "take /dev/urandom in its place")),
    ("sata[n]", DRIVE),
    ("scsi[n]", DRIVE),
    ("scsihw", Free),
    ("searchdomain", Free),
    ("serial[n]", Tied(serial, REMOVE)),
    ("shares", Free),
    ("skiplock", Call),
    ("smbios1", Free),
    ("smp", Free),
    ("sockets", Free),
    ("spice_enhancements", Free),
    ("sshkeys", Free),
    ("startdate", Free),
    ("startup", Free),
    ("tablet", Free),
    ("tags", Free),
    ("tdf", Free),
    ("template", Asked),
    ("tpmstate0", DRIVE),
    ("unused[n]", Asked),
    ("usb[n]", Tied(usb, REMOVE)),
    ("vcpus", Free),
    ("vga", Tied(display, "set another type")),
    ("virtio[n]", DRIVE),
    ("virtiofs[n]", Tied(folder, REMOVE)),
    ("vmgenid", Free),
    ("vmid", Call),
    // Read when its memory is saved alone.
    ("vmstatestorage", Free),
    ("watchdog", Free),
];

impl VmConfig {
    /// What the guest has of its node alone, by key. What no version of the API knows is not judged.
    pub fn host_ties(&self) -> Vec<HostTie> {
        let tie = |(key, value): (&String, &String)| {
            let Tied(words, next) = stand(key) else { return None };
            Some(HostTie { what: format!("{key} {}", words(value)?), next })
        };
        self.raw().iter().filter_map(tie).collect()
    }
}

fn stand(key: &str) -> Stand {
    let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let indexed = |name: &str| name.strip_suffix("[n]") == Some(stem) && stem.len() < key.len();
    KEYS.iter().find(|(name, _)| *name == key || indexed(name)).map_or(Free, |(_, stand)| *stand)
}

/// The value of a property, which may stand first without its name where it is the default one.
fn property<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let named =
        value.split(',').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name).map(|(_, is)| is));
    named.or_else(|| value.split(',').next().filter(|first| !first.contains('=')))
}

fn device(value: &str) -> Option<String> {
    Some(format!("= {value}, which exists on its node alone"))
}

/// A port for SPICE is QEMU's own.
fn usb(value: &str) -> Option<String> {
    (property(value, "host") != Some("spice")).then(|| device(value)).flatten()
}

/// A port that is a socket is QEMU's own.
fn serial(value: &str) -> Option<String> {
    (value != "socket").then(|| device(value)).flatten()
}

fn drive(value: &str) -> Option<String> {
    let drive: DiskSpec = value.parse().ok()?;
    match drive.volume() {
        "cdrom" => Some("is the CD drive of its node".into()),
        path if path.starts_with('/') => Some(format!("is {path}, a path of its node")),
        _ => None,
    }
}

fn folder(value: &str) -> Option<String> {
    Some(format!("shares the directory {} of its node", property(value, "dirid").unwrap_or_default()))
}

fn random(value: &str) -> Option<String> {
    let of_hardware = property(value, "source") == Some("/dev/hwrng");
    of_hardware.then(|| "takes its numbers from /dev/hwrng, a device of its node".into())
}

fn display(value: &str) -> Option<String> {
    let draws = property(value, "type") == Some("virtio-gl");
    draws.then(|| "is virtio-gl, which draws with a graphics device of its node".into())
}

fn shared_memory(_: &str) -> Option<String> {
    Some("shares memory with other programs of its node".into())
}

/// Every node has a NUMA node 0.
fn numa(value: &str) -> Option<String> {
    let nodes = value.split(',').find_map(|part| part.strip_prefix("hostnodes="))?;
    (nodes != "0").then(|| format!("binds it to the NUMA nodes {nodes} of its node"))
}

/// QEMU's own arguments: paths, and devices of the host. What Proxmox VE's packages bring is on every node.
fn args(value: &str) -> Option<String> {
    let words = value.split(|c: char| c.is_whitespace() || ",='\"".contains(c));
    let of_host = |word: &&str| {
        let path = word.len() > 1 && word.starts_with('/') && !word.starts_with("/usr/share/");
        path || ["vfio-", "usb-host", "scsi-block", "scsi-generic"].iter().any(|device| word.starts_with(device))
    };
    words.into_iter().find(of_host).map(|word| format!("names {word}, which is its node's"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The simulator's table of the API, which a test of its own holds against the official schema.
    const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../acceptance-tests/simulator/api/table.json");

    #[test]
    fn every_key_of_the_api_is_in_the_table_of_what_ties() {
        let table: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(TABLE).unwrap()).unwrap();
        let calls = table["endpoints"].as_array().unwrap().iter();
        let config = "/nodes/{node}/qemu/{vmid}/config";
        let call = calls.clone().find(|one| one["path"] == config && one["method"] == "PUT").unwrap();
        let there: BTreeSet<&str> = call["parameters"].as_object().unwrap().keys().map(String::as_str).collect();
        let ours: BTreeSet<&str> = KEYS.iter().map(|(key, _)| *key).collect();
        assert_eq!(ours.difference(&there).collect::<Vec<_>>(), Vec::<&&str>::new(), "no such key");
        assert_eq!(there.difference(&ours).collect::<Vec<_>>(), Vec::<&&str>::new(), "think about these");
        assert_eq!(ours.len(), KEYS.len(), "each once");
    }

    #[test]
    fn what_is_its_nodes_is_told_from_what_only_looks_like_it() {
        let ties = [
            ("args", "-device vfio-pci,host=01:00.0", "args names vfio-pci, which is its node's"),
            ("efidisk0", "/dev/zvol/efi,efitype=4m", "efidisk0 is /dev/zvol/efi, a path of its node"),
            ("hostpci0", "mapping=gpu", "hostpci0 = mapping=gpu, which exists on its node alone"),
            ("ide2", "cdrom,media=cdrom", "ide2 is the CD drive of its node"),
            ("ivshmem", "size=32", "ivshmem shares memory with other programs of its node"),
            ("numa1", "cpus=2-3,hostnodes=0-1", "numa1 binds it to the NUMA nodes 0-1 of its node"),
            ("parallel0", "/dev/parport0", "parallel0 = /dev/parport0, which exists on its node alone"),
            ("rng0", "/dev/hwrng,max_bytes=1024", "rng0 takes its numbers from /dev/hwrng, a device of its node"),
            ("scsi1", "file=/dev/sda,size=1G", "scsi1 is /dev/sda, a path of its node"),
            ("serial1", "/dev/ttyS0", "serial1 = /dev/ttyS0, which exists on its node alone"),
            ("usb1", "host=1234:5678,usb3=1", "usb1 = host=1234:5678,usb3=1, which exists on its node alone"),
            ("vga", "virtio-gl", "vga is virtio-gl, which draws with a graphics device of its node"),
            ("virtiofs0", "share,cache=always", "virtiofs0 shares the directory share of its node"),
        ];
        let config = VmConfig::from_pairs(ties.map(|(key, value, _)| (key, value)));
        let what: Vec<String> = config.host_ties().into_iter().map(|tie| tie.what).collect();
        assert_eq!(what, ties.map(|(_, _, what)| what));
        let free = [
            ("args", "-device virtio-rng-pci -bios /usr/share/kvm/bios.bin"),
            ("ide2", "none,media=cdrom"),
            ("key-of-the-future", "/dev/sda"),
            ("numa", "1"),
            ("numa0", "cpus=0,hostnodes=0"),
            ("rng0", "source=/dev/urandom"),
            ("scsi0", "lvm:vm-100-disk-0,size=8G"),
            ("scsihw", "virtio-scsi-single"),
            ("serial0", "socket"),
            ("usb0", "spice,usb3=1"),
            ("usb2", "host=spice"),
            ("vga", "virtio,memory=64"),
        ];
        assert_eq!(VmConfig::from_pairs(free).host_ties(), Vec::new());
    }
}

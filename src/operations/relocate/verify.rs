//! Owns comparing the restored machine with the fenced source, key by key: what differs for a reason, and what may not.
use std::collections::BTreeMap;

use proxmox::{DiskSpec, VmConfig};

use super::spread::format_of;

/// Keys that differ between a fenced source and its restored copy, or are compared below.
const OTHER: [&str; 10] =
    ["digest", "template", "protection", "onboot", "description", "vmgenid", "meta", "lock", "parent", "name"];

/// A storage may round a disk up to its allocation unit.
const ROUNDING: u64 = 4 << 20;

/// What EFI variables need. Their volume has the size that its storage rounds that up to, and is made anew on a storage that it
/// moves to, so that it may become smaller.
const EFI_VARIABLES: u64 = 528 << 10;

/// How `target` differs from `source` where it may not, in words. `volumes`: what our restore made. `given`: keys that it was told,
/// and their values. `macs`: addresses of devices that don't keep theirs.
pub(super) fn differences(
    source: &VmConfig,
    target: &VmConfig,
    volumes: &[String],
    given: &BTreeMap<String, String>,
    macs: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in given.iter().filter(|(key, value)| target.get(key) != Some(value.as_str())) {
        found.push(format!("{key} is {:?}, and should be {value:?}", target.get(key).unwrap_or_default()));
    }
    let unused = |key: &str| key.starts_with("unused");
    let compared = |key: &str| !OTHER.contains(&key) && !unused(key) && !is_device(key) && !given.contains_key(key);
    for (key, value) in source.raw().iter().filter(|(key, _)| compared(key)) {
        match target.get(key) {
            Some(there) if there == value => {}
            // Masked by a cluster, and as it is in an archive; in no message in either case.
            Some(_) if key == "cipassword" => {}
            None if key == "cipassword" => found.push("cipassword is missing".to_owned()),
            Some(there) => found.push(format!("{key} is {there:?}, was {value:?}")),
            None => found.push(format!("{key} is missing, was {value:?}")),
        }
    }
    for key in target.raw().keys().filter(|key| compared(key) && source.get(key).is_none()) {
        found.push(format!("{key} was not there"));
    }
    for (key, value) in target.raw().iter().filter(|(key, _)| unused(key)) {
        found.push(format!("{key} = {value}: a volume that is not of this restore was taken in"));
    }
    disks(source, target, volumes, &mut found);
    nics(source, target, macs, &mut found);
    found
}

/// Whether a difference is one of disks, networks or identity.
pub(super) fn is_of_a_device(difference: &str) -> bool {
    let key = difference.split([' ', '=']).next().unwrap_or_default();
    is_device(key) || key == "smbios1"
}

fn is_device(key: &str) -> bool {
    let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
    stem.len() < key.len() && matches!(stem, "net" | "scsi" | "virtio" | "sata" | "ide" | "efidisk" | "tpmstate")
}

fn all_disks(config: &VmConfig) -> BTreeMap<String, DiskSpec> {
    let mut disks = config.disks();
    disks.extend(config.state_disks());
    disks
}

fn disks(source: &VmConfig, target: &VmConfig, volumes: &[String], found: &mut Vec<String>) {
    let there = all_disks(target);
    // Excluded from backup means left behind, which preflight has refused or the user has accepted.
    for (slot, disk) in all_disks(source).into_iter().filter(|(_, disk)| disk.backup()) {
        let Some(copy) = there.get(&slot) else {
            found.push(format!("{slot} is missing"));
            continue;
        };
        if disk.is_cdrom() || disk.is_cloudinit() {
            continue;
        }
        if !volumes.iter().any(|volume| volume == copy.volume()) {
            found.push(format!("{slot} is {}, which our restore did not make", copy.volume()));
        }
        // A line without a size says nothing of it: not that it was empty.
        if let (Some(was), Some(is)) = (disk.size_bytes(), copy.size_bytes()) {
            let least = if slot == "efidisk0" { was.min(EFI_VARIABLES) } else { was };
            if is < least || is.saturating_sub(was) > ROUNDING {
                found.push(format!("{slot} has {is} bytes, had {was}"));
            }
        }
        // On a storage that holds no files everything is raw.
        let on_files = copy.format().is_some();
        if on_files && format_of(copy) != format_of(&disk) {
            found.push(format!("{slot} is {}, was {}", format_of(copy), format_of(&disk)));
        }
    }
}

fn nics(source: &VmConfig, target: &VmConfig, macs: &BTreeMap<String, String>, found: &mut Vec<String>) {
    let there = target.nics();
    for (slot, nic) in source.nics() {
        match there.get(&slot) {
            None => found.push(format!("{slot} is missing")),
            Some(copy) => {
                let expected = macs.get(&slot).map(String::as_str).or(nic.mac());
                let lower = |mac: Option<&str>| mac.map(str::to_ascii_lowercase);
                // Who wrote it chose upper or lower case.
                if lower(copy.mac()) != lower(expected) {
                    found.push(format!("{slot} has the MAC address {:?}, and should have {expected:?}", copy.mac()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> VmConfig {
        VmConfig::from_pairs([
            ("name", "web-1"),
            ("cores", "4"),
            ("smbios1", "uuid=6e6f6465-0000-4000-8000-000000000001"),
            ("scsi0", "ceph:vm-100-disk-0,size=32G"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=120"),
            ("template", "1"),
            ("onboot", "1"),
            ("vmgenid", "a"),
        ])
    }

    fn target(changes: &[(&str, &str)]) -> VmConfig {
        let mut pairs: BTreeMap<String, String> = source().raw().clone();
        pairs.remove("template");
        pairs.insert("scsi0".into(), "zfs:vm-100-disk-0,size=32G".into());
        pairs.insert("net0".into(), "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=220,link_down=1".into());
        pairs.insert("vmgenid".into(), "b".into());
        for (key, value) in changes {
            if value.is_empty() {
                pairs.remove(*key);
            } else {
                pairs.insert((*key).into(), (*value).into());
            }
        }
        VmConfig::from_pairs(pairs)
    }

    #[test]
    fn efi_variables_may_shrink_to_what_they_need_and_disks_keep_size_and_format() {
        let with = |source: [(&str, &str); 2], target: [(&str, &str); 2]| {
            let volumes: Vec<String> =
                target.iter().map(|(_, line)| line.split(',').next().unwrap().to_owned()).collect();
            differences(
                &VmConfig::from_pairs(source),
                &VmConfig::from_pairs(target),
                &volumes,
                &BTreeMap::new(),
                &BTreeMap::new(),
            )
        };
        let was = [("efidisk0", "lvm:vm-100-disk-0,size=4M"), ("scsi0", "dir:100/vm-100-disk-1.qcow2,size=8G")];
        let is =
            [("efidisk0", "nfs:100/vm-100-disk-0.raw,size=528K"), ("scsi0", "nfs:100/vm-100-disk-1.qcow2,size=8G")];
        assert_eq!(with(was, is), Vec::<String>::new());
        assert_eq!(with(was, [is[0], ("scsi0", "zfs:vm-100-disk-1,size=8G")]), Vec::<String>::new());
        let lost = with(was, [("efidisk0", "nfs:100/vm-100-disk-0.raw,size=4K"), is[1]]);
        assert!(lost.len() == 1 && lost[0].starts_with("efidisk0 has"), "{lost:?}");
        let lost = with(was, [is[0], ("scsi0", "nfs:100/vm-100-disk-1.raw,size=8G")]);
        assert_eq!(lost, ["scsi0 is raw, was qcow2"]);
    }

    #[test]
    fn sizes_are_compared_in_bytes_however_they_are_written_and_only_where_both_say_one() {
        let with = |was: &str, is: &str| {
            let was = VmConfig::from_pairs([("scsi0", was)]);
            let is = VmConfig::from_pairs([("scsi0", is)]);
            differences(&was, &is, &ours(), &BTreeMap::new(), &BTreeMap::new()).len()
        };
        let (was, is) = ("ceph:vm-100-disk-0", "zfs:vm-100-disk-0");
        let same = [("32G", "32768M"), ("31458K", "32212992"), ("41943552", "41010K"), ("31458K", "32M")];
        for (before, after) in same {
            assert_eq!(with(&format!("{was},size={before}"), &format!("{is},size={after}")), 0, "{before} {after}");
        }
        assert_eq!((with(was, &format!("{is},size=32G")), with(&format!("{was},size=32G"), is)), (0, 0));
        assert_eq!(with(&format!("{was},size=31458K"), &format!("{is},size=31457K")), 1);
    }

    #[test]
    fn a_mac_address_is_the_same_in_upper_and_lower_case() {
        let there = target(&[("net0", "virtio=bc:24:11:00:00:01,bridge=vmbr0,tag=220,link_down=1")]);
        let found = differences(&source(), &there, &ours(), &BTreeMap::new(), &BTreeMap::new());
        assert_eq!(found, Vec::<String>::new());
    }

    fn ours() -> Vec<String> {
        vec!["zfs:vm-100-disk-0".into()]
    }

    #[test]
    fn a_mapped_copy_is_the_same_machine() {
        assert_eq!(
            differences(&source(), &target(&[]), &ours(), &BTreeMap::new(), &BTreeMap::new()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_the_restore_was_told_is_there_and_differs_from_the_source() {
        let there = target(&[("ipconfig0", "ip=10.2.0.5/24")]);
        let given = |value: &str| BTreeMap::from([("ipconfig0".to_owned(), value.to_owned())]);
        assert_eq!(
            differences(&source(), &there, &ours(), &given("ip=10.2.0.5/24"), &BTreeMap::new()),
            Vec::<String>::new()
        );
        assert_eq!(differences(&source(), &there, &ours(), &given("ip=10.2.0.6/24"), &BTreeMap::new()).len(), 1);
        assert_eq!(
            differences(&source(), &there, &ours(), &BTreeMap::new(), &BTreeMap::new()),
            ["ipconfig0 was not there"]
        );
    }

    #[test]
    fn each_loss_is_seen() {
        let cases = [
            (("cores", "2"), "cores"),
            (("cores", ""), "cores"),
            (("smbios1", "uuid=6e6f6465-0000-4000-8000-000000000002"), "smbios1"),
            (("scsi0", ""), "scsi0"),
            (("scsi0", "zfs:vm-100-disk-0,size=31G"), "scsi0"),
            (("scsi0", "zfs:vm-100-disk-9,size=32G"), "scsi0"),
            (("net0", ""), "net0"),
            (("net0", "virtio=BC:24:11:00:00:02,bridge=vmbr0"), "net0"),
            (("unused0", "nfs:100/vm-100-disk-0.raw"), "unused0"),
            (("hugepages", "2"), "hugepages"),
        ];
        for (change, key) in cases {
            let found = differences(&source(), &target(&[change]), &ours(), &BTreeMap::new(), &BTreeMap::new());
            assert!(found.iter().any(|line| line.starts_with(key)), "{change:?}: {found:?}");
        }
    }
}

//! Owns the value of a drive: the volume, its size, and options that are kept as they are.

use std::{convert::Infallible, fmt, str::FromStr};

use crate::PropertyString;

/// A drive of a guest (`scsi0`, `efidisk0`, …): `local-lvm:vm-100-disk-0,size=32G,discard=on`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec(PropertyString);

impl DiskSpec {
    /// A drive with this volume: `STORAGE:GIB` allocates one, `none` is an empty CD-ROM drive.
    pub fn new(volume: impl Into<String>) -> Self {
        let mut properties = PropertyString::new();
        properties.set_default(volume);
        Self(properties)
    }

    /// The volume: `STORAGE:NAME`, `none`, `cdrom` or an absolute path; empty in a line that names none.
    pub fn volume(&self) -> &str {
        let named = || self.0.get("file").or_else(|| self.0.get("volume"));
        self.0.default_value().or_else(named).unwrap_or_default()
    }

    /// Replaces the volume.
    pub fn set_volume(&mut self, volume: impl Into<String>) {
        let named = ["file", "volume"].into_iter().find(|key| self.0.get(key).is_some());
        let old = named.filter(|_| self.0.default_value().is_none());
        match old {
            Some(key) => self.0.set(key, volume),
            None => self.0.set_default(volume),
        }
    }

    /// The storage, if the volume is on one.
    pub fn storage(&self) -> Option<&str> {
        let volume = self.volume();
        if volume.starts_with('/') { None } else { volume.split_once(':').map(|(storage, _)| storage) }
    }

    /// The volume's name on its storage, for example `vm-100-disk-0`.
    pub fn volume_name(&self) -> Option<&str> {
        self.storage().and_then(|storage| self.volume().get(storage.len() + 1..))
    }

    /// The format of the image, where it is a file and its name tells (`100/vm-100-disk-0.qcow2`); block devices are raw.
    pub fn format(&self) -> Option<&str> {
        let (_, ending) = self.volume_name()?.rsplit_once('.')?;
        ["raw", "qcow2", "vmdk"].contains(&ending).then_some(ending)
    }

    /// The size as PVE wrote it (`32G`). PVE keeps it up to date on resize; it is missing on some CD-ROM drives.
    pub fn size(&self) -> Option<&str> {
        self.0.get("size")
    }

    /// The size in bytes.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size().and_then(parse_size)
    }

    /// Whether it is a CD-ROM drive (cloud-init drives are, too).
    pub fn is_cdrom(&self) -> bool {
        self.0.get("media") == Some("cdrom") || matches!(self.volume(), "none" | "cdrom")
    }

    /// Whether it is the drive PVE makes from the cloud-init settings.
    pub fn is_cloudinit(&self) -> bool {
        let name = self.volume_name().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        name == "cloudinit" || (stem.starts_with("vm-") && stem.ends_with("-cloudinit"))
    }

    /// Whether vzdump includes it (default true). Of `backup=0` nothing is carried by a backup.
    pub fn backup(&self) -> bool {
        self.0.get_bool("backup").unwrap_or(true)
    }

    /// An option's value.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    /// An option as a boolean.
    pub fn option_bool(&self, key: &str) -> Option<bool> {
        self.0.get_bool(key)
    }

    /// Sets an option in its place, or removes it.
    pub fn set_option(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.0.set(key, value),
            None => {
                self.0.remove(key);
            }
        }
    }

    /// All entries in order.
    pub fn properties(&self) -> &PropertyString {
        &self.0
    }
}

impl FromStr for DiskSpec {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        text.parse().map(Self)
    }
}

impl fmt::Display for DiskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// PVE's units, each 1024 times the one before.
const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// Bytes of a size in PVE's spelling: a number, perhaps with a fraction, and K, M, G or T in powers of 1024.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, shift) = match UNITS.iter().find(|(unit, _)| text.ends_with(*unit)) {
        Some((_, shift)) => (&text[..text.len() - 1], *shift),
        None => (text, 0),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let bytes = number.parse::<f64>().ok().filter(|_| plain)? * (1u64 << shift) as f64;
    (bytes < 9e18).then_some(bytes as u64)
}

/// A size in PVE's spelling: the largest unit that divides it, as PVE prints it.
pub fn format_size(bytes: u64) -> String {
    UNITS
        .iter()
        .rev()
        .find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_disk_is_taken_apart_and_kept() {
        let text = "local-lvm:vm-100-disk-0,discard=on,iothread=1,future=x,size=32G";
        let mut disk: DiskSpec = text.parse().unwrap();
        assert_eq!((disk.storage(), disk.volume_name()), (Some("local-lvm"), Some("vm-100-disk-0")));
        assert_eq!(disk.size_bytes(), Some(32 << 30));
        assert!(!disk.is_cdrom() && disk.backup());
        assert_eq!(disk.to_string(), text);
        disk.set_option("backup", Some("0"));
        disk.set_option("future", None);
        disk.set_volume("fast:vm-100-disk-1");
        assert!(!disk.backup());
        assert_eq!(disk.to_string(), "fast:vm-100-disk-1,discard=on,iothread=1,size=32G,backup=0");
    }

    #[test]
    fn drives_that_are_not_disks() {
        let cdrom: DiskSpec = "none,media=cdrom".parse().unwrap();
        assert!(cdrom.is_cdrom() && cdrom.storage().is_none());
        let iso: DiskSpec = "local:iso/debian.iso,media=cdrom,size=600M".parse().unwrap();
        assert!(iso.is_cdrom() && !iso.is_cloudinit());
        for cloud in
            ["nfs:100/vm-100-cloudinit.qcow2,media=cdrom", "lvm:vm-100-cloudinit,media=cdrom,size=4M", "lvm:cloudinit"]
        {
            assert!(cloud.parse::<DiskSpec>().unwrap().is_cloudinit(), "{cloud}");
        }
        let file: DiskSpec = "file=a:b,size=1G".parse().unwrap();
        assert_eq!(file.volume(), "a:b");
        let path: DiskSpec = "/dev/disk/by-id/x:y".parse().unwrap();
        assert_eq!(path.storage(), None);
        let nameless: DiskSpec = "size=4G".parse().unwrap();
        assert_eq!((nameless.volume(), nameless.storage(), nameless.size_bytes()), ("", None, Some(4 << 30)));
        let mut alias: DiskSpec = "volume=a:b,size=1G".parse().unwrap();
        alias.set_volume("a:c");
        assert_eq!(alias.to_string(), "volume=a:c,size=1G");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("32G", 32 << 30), ("528K", 528 << 10), ("4M", 4 << 20), ("1T", 1 << 40), ("0.5G", 1 << 29), ("512", 512)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "G", "-1G", "1e3", "1X", "99999999999T", "infG"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(format_size(1536 << 20), "1536M");
        assert_eq!(format_size(0), "0");
    }

    proptest! {
        #[test]
        fn sizes_survive(bytes in 0u64..1 << 50) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn drives_survive(volume in "[a-z]{1,8}:[a-z0-9/.-]{1,16}", keys in proptest::collection::btree_map("[a-z]{2,8}", "[A-Za-z0-9=:]{1,8}", 0..5)) {
            let mut disk = DiskSpec::new(volume.clone());
            for (key, value) in keys.iter().filter(|(key, _)| *key != "file") {
                disk.set_option(key, Some(value));
            }
            let read: DiskSpec = disk.to_string().parse().unwrap();
            prop_assert_eq!(read.volume(), volume);
            prop_assert_eq!(read, disk);
        }
    }
}

//! Owns a guest's configuration as read: every key as text, and typed views of those we understand.

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{Agent, Boot, DiskSpec, NicSpec, PendingValue, Smbios1, de};

/// A guest's configuration. Numbers and booleans are normalised to the text they have in PVE's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmConfig {
    raw: BTreeMap<String, String>,
    digest: Option<String>,
}

impl VmConfig {
    /// From keys and values, without digest: an archived configuration, or a test's.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut raw: BTreeMap<String, String> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let digest = raw.remove("digest");
        Self { raw, digest }
    }

    /// From the text of a `qemu-server.conf`, as `extract_config` returns it: the part before the first section;
    /// comment lines at the top are the description, `#qmdump#` lines are left out (`proxmox-ve.md` §4, §6).
    pub fn from_conf(text: &str) -> Self {
        let mut description = String::new();
        let mut config = Self::default();
        for line in text.lines().take_while(|line| !line.starts_with('[')) {
            if let Some(comment) = line.strip_prefix('#') {
                if !comment.starts_with("qmdump#") {
                    description.push_str(&percent_encoding::percent_decode_str(comment).decode_utf8_lossy());
                    description.push('\n');
                }
            } else if let Some((key, value)) = line.split_once(':') {
                config.raw.insert(key.trim().to_owned(), value.trim().to_owned());
            }
        }
        let description = description.trim_end();
        if !description.is_empty() {
            config.raw.insert("description".to_owned(), description.to_owned());
        }
        config
    }

    /// From the answer that tells what is and what is to be apart: with what waits merged in, as `GET config` merges it.
    pub fn merged(values: &[PendingValue]) -> Self {
        let is = |one: &PendingValue| if one.delete { None } else { one.pending.clone().or_else(|| one.value.clone()) };
        Self::from_pairs(values.iter().filter_map(|one| Some((one.key.clone(), is(one)?))))
    }

    /// The same configuration before these changes: what a running guest has in force.
    #[must_use]
    pub fn without(mut self, changes: &[PendingValue]) -> Self {
        for change in changes.iter().filter(|change| change.is_pending()) {
            match &change.value {
                Some(value) => self.raw.insert(change.key.clone(), value.clone()),
                None => self.raw.remove(&change.key),
            };
        }
        self
    }

    /// All keys and values, without the digest.
    pub fn raw(&self) -> &BTreeMap<String, String> {
        &self.raw
    }

    /// SHA-1 of the file this was read from: send it with a change. Missing only in an archived configuration.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// A key's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.raw.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(|text| text.parse().ok())
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(de::parse_bool).unwrap_or(false)
    }

    /// The guest's name.
    pub fn name(&self) -> Option<&str> {
        self.get("name")
    }

    /// Cores per socket, default 1.
    pub fn cores(&self) -> u64 {
        self.number("cores").unwrap_or(1)
    }

    /// Sockets, default 1.
    pub fn sockets(&self) -> u64 {
        self.number("sockets").unwrap_or(1)
    }

    /// How many virtual processors are plugged in at the start, where not all are.
    pub fn vcpus(&self) -> Option<u64> {
        self.number("vcpus")
    }

    /// Memory in MiB, default 512; written `2048` or `current=2048`.
    pub fn memory_mib(&self) -> u64 {
        let text = self.get("memory").unwrap_or_default();
        let text = text.split(',').map(|part| part.strip_prefix("current=").unwrap_or(part)).next();
        text.and_then(|text| text.parse().ok()).unwrap_or(512)
    }

    /// The CPU setting, for example `x86-64-v2-AES,flags=+aes`.
    pub fn cpu(&self) -> Option<&str> {
        self.get("cpu")
    }

    /// The CPU type alone: that of Proxmox VE's own choice where a setting has only flags.
    pub fn cpu_type(&self) -> Option<&str> {
        let mut parts = self.cpu()?.split(',');
        parts.find_map(|part| if part.contains('=') { part.strip_prefix("cputype=") } else { Some(part) })
    }

    /// The notes.
    pub fn description(&self) -> Option<&str> {
        self.get("description")
    }

    /// The tags, in PVE's order.
    pub fn tags(&self) -> Vec<String> {
        split_tags(self.get("tags").unwrap_or_default())
    }

    /// Whether the guest starts with its node.
    pub fn onboot(&self) -> bool {
        self.flag("onboot")
    }

    /// Whether PVE refuses to remove the guest or its disks.
    pub fn protection(&self) -> bool {
        self.flag("protection")
    }

    /// Whether PVE refuses to start the guest because it is a template.
    pub fn template(&self) -> bool {
        self.flag("template")
    }

    /// The lock, for example `backup`.
    pub fn lock(&self) -> Option<&str> {
        self.get("lock")
    }

    /// The firmware, `seabios` by default.
    pub fn bios(&self) -> &str {
        self.get("bios").unwrap_or("seabios")
    }

    /// The machine type, if pinned.
    pub fn machine(&self) -> Option<&str> {
        self.get("machine")
    }

    /// The SMBIOS fields; empty if there are none or they cannot be read.
    pub fn smbios1(&self) -> Smbios1 {
        self.get("smbios1").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The SMBIOS uuid in lower case: the guest's identity across clusters.
    pub fn uuid(&self) -> Option<String> {
        self.smbios1().uuid().map(str::to_lowercase)
    }

    /// The agent's setting.
    pub fn agent(&self) -> Agent {
        self.get("agent").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The boot setting.
    pub fn boot(&self) -> Boot {
        self.get("boot").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The drives on `scsi`, `virtio`, `sata` and `ide`, by slot, CD-ROM drives included.
    pub fn disks(&self) -> BTreeMap<String, DiskSpec> {
        self.slots(&["scsi", "virtio", "sata", "ide"])
    }

    /// `efidisk0` and `tpmstate0`, those there are.
    pub fn state_disks(&self) -> BTreeMap<String, DiskSpec> {
        self.slots(&["efidisk", "tpmstate"])
    }

    /// Volumes that belong to the guest without being attached: `unused0`, …
    pub fn unused(&self) -> BTreeMap<String, DiskSpec> {
        self.slots(&["unused"])
    }

    /// The network devices by slot.
    pub fn nics(&self) -> BTreeMap<String, NicSpec> {
        self.slots(&["net"])
    }

    /// The files that a start reads beside the disks: the hook script, and cloud-init texts of one's own, with their volume ids.
    pub fn snippets(&self) -> Vec<(&str, &str)> {
        let own = self.get("cicustom").into_iter().flat_map(|value| value.split(','));
        let own = own.filter_map(|part| Some(("cicustom", part.split_once('=')?.1)));
        self.get("hookscript").map(|volume| ("hookscript", volume)).into_iter().chain(own).collect()
    }

    /// The public keys that cloud-init gives its user, one a line; kept percent-encoded.
    pub fn ssh_keys(&self) -> Option<Vec<String>> {
        let text = percent_encoding::percent_decode_str(self.get("sshkeys")?).decode_utf8_lossy();
        Some(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    fn slots<T: std::str::FromStr<Err = Infallible>>(&self, buses: &[&str]) -> BTreeMap<String, T> {
        let of_bus = self.raw.iter().filter(|(key, _)| is_slot(key, buses));
        of_bus.filter_map(|(key, value)| Some((key.clone(), value.parse().ok()?))).collect()
    }
}

/// Whether a key is one of these buses and a number (`scsihw` is not).
fn is_slot(key: &str, buses: &[&str]) -> bool {
    buses.iter().any(|bus| {
        let number = key.strip_prefix(bus).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Tags as PVE separates them: at `;`, `,` and white space.
pub fn split_tags(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| c == ';' || c == ',' || c == '\0' || c.is_whitespace());
    parts.filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

impl<'de> Deserialize<'de> for VmConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Value::Object(map) = Value::deserialize(deserializer)? else {
            return Err(serde::de::Error::custom("a configuration is an object"));
        };
        Ok(Self::from_pairs(map.into_iter().filter_map(|(key, value)| Some((key, de::as_text(&value)?)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_configuration_is_read_whatever_json_makes_of_it() {
        let config: VmConfig = serde_json::from_value(json!({
            "name": "web-1", "cores": 4, "sockets": "2", "memory": "current=4096", "onboot": 1, "protection": "0",
            "tags": "prod;web", "digest": "d5e1", "smbios1": "uuid=6F1CC8F2-55B7-4A39-9B9F-0F7B5B3F6A11",
            "scsihw": "virtio-scsi-single", "scsi0": "lvm:vm-100-disk-0,size=32G", "ide2": "none,media=cdrom",
            "efidisk0": "lvm:vm-100-disk-1,size=4M", "unused0": "lvm:vm-100-disk-9",
            "net0": "virtio=BC:24:11:AA:BB:CC,bridge=vmbr0", "cpu": "cputype=host,flags=+aes", "hostpci0": "mapping=gpu",
            "serial0": "socket", "serial1": "/dev/ttyS0", "usb0": "spice,usb3=1", "usb1": "host=1234:5678",
            "hookscript": "local:snippets/hook.pl", "cicustom": "user=nfs:snippets/u.yaml,vendor=local:snippets/v.yaml",
        }))
        .unwrap();
        assert_eq!((config.name(), config.cores(), config.sockets(), config.memory_mib()), (Some("web-1"), 4, 2, 4096));
        assert!(config.onboot() && !config.protection() && !config.template());
        assert_eq!(config.tags(), ["prod", "web"]);
        assert_eq!((config.digest(), config.get("digest")), (Some("d5e1"), None));
        assert_eq!(config.uuid().as_deref(), Some("6f1cc8f2-55b7-4a39-9b9f-0f7b5b3f6a11"));
        assert_eq!(config.disks().into_keys().collect::<Vec<_>>(), ["ide2", "scsi0"]);
        assert_eq!(config.state_disks().len(), 1);
        assert_eq!(config.unused()["unused0"].volume(), "lvm:vm-100-disk-9");
        assert_eq!(config.nics()["net0"].bridge(), Some("vmbr0"));
        assert_eq!(config.cpu_type(), Some("host"));
        let files = [
            ("hookscript", "local:snippets/hook.pl"),
            ("cicustom", "nfs:snippets/u.yaml"),
            ("cicustom", "local:snippets/v.yaml"),
        ];
        assert_eq!(config.snippets(), files);
    }

    #[test]
    fn defaults_are_pves() {
        let stub = VmConfig::default();
        assert_eq!((stub.cores(), stub.sockets(), stub.memory_mib(), stub.bios()), (1, 1, 512, "seabios"));
        assert_eq!(VmConfig::from_pairs([("memory", "128")]).memory_mib(), 128);
    }

    #[test]
    fn an_archived_configuration_is_read() {
        let config = VmConfig::from_conf(
            "#line one\n#100%25\ncores: 2\nname: web-1\nscsi0: lvm:vm-100-disk-0,size=1G\n\
             #qmdump#map:scsi0:drive-scsi0:local-lvm:raw:\n[snap]\ncores: 9\n",
        );
        assert_eq!(config.description(), Some("line one\n100%"));
        assert_eq!((config.cores(), config.name(), config.digest()), (2, Some("web-1"), None));
        assert_eq!(config.disks()["scsi0"].storage(), Some("lvm"));
    }

    #[test]
    fn what_waits_is_merged_and_told_from_what_is_in_force() {
        let values: Vec<PendingValue> = serde_json::from_value(json!([
            { "key": "name", "value": "web-1" },
            { "key": "memory", "value": "2048", "pending": "4096" },
            { "key": "cores", "value": 2, "pending": 4 },
            { "key": "numa", "pending": 1 },
            { "key": "sata0", "value": "lvm:vm-100-disk-1,size=1G", "delete": "2" },
            { "key": "digest", "value": "d5e1" },
        ]))
        .unwrap();
        let merged = VmConfig::merged(&values);
        let same = json!({ "name": "web-1", "memory": "4096", "cores": 4, "numa": 1, "digest": "d5e1" });
        assert_eq!(merged, serde_json::from_value(same).unwrap());
        let in_force = merged.without(&values);
        assert_eq!((in_force.memory_mib(), in_force.cores(), in_force.get("numa")), (2048, 2, None));
        assert_eq!((in_force.name(), in_force.disks().len()), (Some("web-1"), 1));
    }

    #[test]
    fn tags_are_split_as_pve_splits_them() {
        assert_eq!(split_tags("a;b,c  d\te;;"), ["a", "b", "c", "d", "e"]);
    }
}

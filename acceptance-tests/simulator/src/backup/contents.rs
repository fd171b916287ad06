//! What an archive holds, and how long moving it takes.

use crate::backup::archive::{Disk, Header};
use crate::bytes;
use crate::error::ApiError;
use crate::qemu::{Drive, drives, is_unused};
use crate::state::{Cluster, State};
use crate::storage::Place;
use crate::util::{parse_size, percent_encode_notes};

/// What goes into an archive, as it is now.
pub(crate) fn snapshot(st: &State, cluster: &str, node: &str, vmid: u32) -> Result<(Header, Vec<Vec<u8>>), ApiError> {
    let vm = st.cluster(cluster).vms.get(&vmid).ok_or_else(|| Cluster::missing(node, vmid))?;
    let mut text = String::new();
    for line in vm.conf.get("description").iter().flat_map(|notes| notes.lines()) {
        text.push_str(&format!("#{}\n", percent_encode_notes(line)));
    }
    let (mut disks, mut data_of) = (Vec::new(), Vec::new());
    for drive in drives(&vm.conf).filter(|d| d.is_backed_up()) {
        let no = drive.option("backup").is_some_and(|flag| flag == "0" || flag == "no");
        let no_efi = drive.slot == "efidisk0" && vm.conf.get("bios").is_none_or(|bios| bios != "ovmf");
        if no || no_efi {
            continue;
        }
        if drive.is_path() {
            // A drive by path is backed up like any other, and becomes an ordinary volume (§18.12).
            let logical = drive.option("size").and_then(parse_size).unwrap_or(1 << 30);
            let content = st.content.min(logical);
            let data = bytes::seeded(crate::util::mix(st.seed, &drive.volume), content);
            let (slot, length) = (drive.slot, data.len() as u64);
            disks.push(Disk { slot, storage: String::new(), format: "raw".to_owned(), logical, content, length });
            data_of.push(data);
            continue;
        }
        let Some(volume) = st.volume(cluster, node, &drive.volume) else {
            return Err(ApiError::die(format!("volume '{}' does not exist", drive.volume)));
        };
        let data = std::fs::read(&volume.file).map_err(|error| ApiError::die(error.to_string()))?;
        let storage = drive.volume.split(':').next().unwrap_or_default().to_owned();
        disks.push(Disk {
            slot: drive.slot.clone(),
            storage,
            format: crate::storage::named_format(&drive.volume).unwrap_or("raw").to_owned(),
            logical: volume.logical,
            content: volume.content,
            length: data.len() as u64,
        });
        data_of.push(data);
    }
    for (key, value) in &vm.conf {
        let skip = ["description", "lock", "parent"].contains(&key.as_str()) || is_unused(key);
        if !skip {
            text.push_str(&format!("{key}: {value}\n"));
        }
    }
    for disk in &disks {
        text.push_str(&format!("#qmdump#map:{0}:drive-{0}:{1}:{2}:\n", disk.slot, disk.storage, disk.format));
    }
    Ok((Header { conf: text, disks, firewall: vm.firewall.clone() }, data_of))
}

impl State {
    /// Milliseconds a transfer takes on a storage, and over the line it may lie behind.
    pub(crate) fn transfer_ms(&self, place: &Place<'_>, bytes: u64) -> u64 {
        let def = self.clusters.get(place.cluster).and_then(|c| c.storages.get(place.storage));
        let Some(def) = def else { return 100 };
        let mut rate = def.spec.rate.max(1) * 1_000_000;
        let mut latency = 0;
        if let Some(link) = def.spec.across.as_ref().and_then(|other| self.link(place.cluster, other)) {
            rate = rate.min(link.mbit.max(1) * 125_000);
            latency = link.rtt_ms;
        }
        bytes / (rate / 1000).max(1) + latency
    }
}

/// What a template or a value of the archived configuration says.
pub(crate) fn parse_conf(text: &str) -> std::collections::BTreeMap<String, String> {
    let mut conf = std::collections::BTreeMap::new();
    let mut notes = Vec::new();
    for line in text.lines() {
        if let Some(note) = line.strip_prefix('#') {
            if !note.starts_with("qmdump#") {
                notes.push(crate::util::percent_decode(note, false));
            }
        } else if let Some((key, value)) = line.split_once(": ") {
            conf.insert(key.to_owned(), value.to_owned());
        }
    }
    if !notes.is_empty() {
        conf.insert("description".to_owned(), notes.join("\n"));
    }
    conf
}

/// The drive of an archived slot.
pub(crate) fn archived_drive(conf: &std::collections::BTreeMap<String, String>, slot: &str) -> Option<Drive> {
    Some(Drive::parse(slot, conf.get(slot)?))
}

//! Device slots of a VM: where a disk or a network device hangs.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NameError;

/// The bus or device kind of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotKind {
    /// `scsi0` to `scsi30`.
    Scsi,
    /// `virtio0` to `virtio15`.
    Virtio,
    /// `sata0` to `sata5`.
    Sata,
    /// `ide0` to `ide3`.
    Ide,
    /// `net0` to `net31`.
    Net,
}

impl SlotKind {
    const ALL: [(SlotKind, &'static str, u8); 5] = [
        (SlotKind::Scsi, "scsi", 30),
        (SlotKind::Virtio, "virtio", 15),
        (SlotKind::Sata, "sata", 5),
        (SlotKind::Ide, "ide", 3),
        (SlotKind::Net, "net", 31),
    ];

    /// The prefix PVE uses (`scsi`).
    pub fn prefix(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _, _)| *kind == self).map_or("", |(_, prefix, _)| prefix)
    }
}

/// A device slot of a VM's configuration: `scsi0`, `net1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot {
    kind: SlotKind,
    number: u8,
}

impl Slot {
    /// The bus or device kind.
    pub fn kind(self) -> SlotKind {
        self.kind
    }

    /// The number on its bus.
    pub fn number(self) -> u8 {
        self.number
    }

    /// Whether a disk can hang here (every kind but `net`).
    pub fn is_disk(self) -> bool {
        self.kind != SlotKind::Net
    }
}

impl Ord for Slot {
    /// By kind, then by number: `scsi2` before `scsi10`.
    fn cmp(&self, other: &Slot) -> Ordering {
        (self.kind, self.number).cmp(&(other.kind, other.number))
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Slot) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Slot {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Slot, NameError> {
        let stem = text.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &text[stem.len()..];
        let kind = SlotKind::ALL.iter().find(|(_, prefix, _)| *prefix == stem);
        match (kind, digits.parse::<u8>()) {
            // No leading zeros: `scsi01` is not a key PVE knows.
            (Some((kind, _, last)), Ok(number)) if number <= *last && number.to_string() == digits => {
                Ok(Slot { kind: *kind, number })
            }
            _ => Err(NameError::new(
                "device slot",
                text,
                "scsi0–30, virtio0–15, sata0–5, ide0–3 for disks, net0–31 for network devices",
            )),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.number)
    }
}

impl TryFrom<String> for Slot {
    type Error = NameError;

    fn try_from(text: String) -> Result<Slot, NameError> {
        text.parse()
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> String {
        slot.to_string()
    }
}

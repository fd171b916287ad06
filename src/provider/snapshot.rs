//! Owns the text of `inventory`: the facts and enrolled rules of one moment, small enough for a plan file. It travels from
//! `data.moxxie_federation` of an aliased provider to the provider block, so that apply decides from what the plan saw
//! (design.md §5, channel c).
use std::io::{Read, Write};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use federation::model::Enrolled;
use federation::placement::Inventory;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

/// What the text begins with: what it is, and its version.
const PREFIX: &str = "moxxie-inventory-1:";
/// Most bytes that a text may unpack to: a million guests; more is no inventory.
const MOST: u64 = 512 << 20;

/// Facts and enrolled rules of one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Snapshot {
    /// What the clusters reported.
    pub(crate) inventory: Arc<Inventory>,
    /// What is enrolled on them.
    pub(crate) enrolled: Arc<Enrolled>,
}

impl Snapshot {
    /// The text.
    ///
    /// # Errors
    /// Never for what clusters report; what serialising said.
    pub(crate) fn write(&self) -> Result<String, String> {
        let shown = Shown { inventory: &self.inventory, enrolled: &self.enrolled };
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        let packed = serde_json::to_vec(&shown).map_err(std::io::Error::from);
        let packed = packed.and_then(|json| encoder.write_all(&json)).and_then(|()| encoder.finish());
        Ok(format!("{PREFIX}{}", STANDARD_NO_PAD.encode(packed.map_err(|error| error.to_string())?)))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// A text that is no inventory, in words.
    pub(crate) fn read(text: &str) -> Result<Snapshot, String> {
        let Some(packed) = text.trim().strip_prefix(PREFIX) else {
            return Err(if text.starts_with("moxxie-inventory-") {
                "it was written by another version of the provider".to_owned()
            } else {
                format!("it doesn't begin with {PREFIX:?}")
            });
        };
        let damaged = |error: String| format!("it was cut or changed: {error}");
        let bytes = STANDARD_NO_PAD.decode(packed).map_err(|error| damaged(error.to_string()))?;
        let mut json = Vec::new();
        ZlibDecoder::new(bytes.as_slice())
            .take(MOST)
            .read_to_end(&mut json)
            .map_err(|error| damaged(error.to_string()))?;
        let taken: Taken = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        Ok(Snapshot { inventory: Arc::new(taken.inventory), enrolled: Arc::new(taken.enrolled) })
    }

    /// Identity of a plan made from this text.
    pub(crate) fn identity(text: &str) -> String {
        use sha2::{Digest, Sha256};
        Sha256::digest(text.trim()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    inventory: &'a Inventory,
    enrolled: &'a Enrolled,
}

#[derive(Deserialize)]
struct Taken {
    inventory: Inventory,
    #[serde(default)]
    enrolled: Enrolled,
}

#[cfg(test)]
mod tests {
    use federation::placement::{ClusterFacts, GuestFacts};
    use federation::{Bytes, Pool};

    use super::*;

    fn snapshot(guests: u32) -> Snapshot {
        let guest = |vmid: u32| GuestFacts {
            vmid: 1000 + vmid,
            node: format!("pve{}", vmid % 7),
            name: format!("service-{}-{vmid}", vmid % 13),
            pool: Some(format!("team-{}", vmid % 11)),
            tags: [format!("app-{}", vmid % 17), "production".to_owned()].into(),
            cpus: 1 + vmid % 8,
            memory: Bytes::from_mib(512 * u64::from(1 + vmid % 31)),
            disk: Bytes::from_mib(1024 * u64::from(10 + vmid * 7919 % 501)),
            running: !vmid.is_multiple_of(5),
            ..GuestFacts::default()
        };
        let facts = ClusterFacts { guests: (0..guests).map(guest).collect(), ..ClusterFacts::default() };
        let inventory = Inventory { taken_at: 5, clusters: [("ams".parse().expect("a name"), facts)].into() };
        let enrolled =
            Enrolled { pools: [("prod".parse().expect("a name"), Pool::default())].into(), ..Enrolled::default() };
        Snapshot { inventory: Arc::new(inventory), enrolled: Arc::new(enrolled) }
    }

    #[test]
    fn what_is_written_reads_back() {
        for guests in [0, 3] {
            let text = snapshot(guests).write().expect("a text");
            assert!(text.starts_with(PREFIX) && !text.contains('\n'), "{text}");
            assert_eq!(Snapshot::read(&format!(" {text}\n")), Ok(snapshot(guests)));
            assert_eq!(snapshot(guests).write().as_ref(), Ok(&text), "the same facts, the same text");
        }
    }

    #[test]
    fn a_thousand_guests_fit_into_64_kib() {
        let text = snapshot(1000).write().expect("a text");
        assert!(text.len() <= 64 << 10, "{} bytes", text.len());
    }

    #[test]
    fn what_is_no_inventory_is_refused_in_words() {
        let text = snapshot(3).write().expect("a text");
        let cut = &text[..text.len() - 9];
        for (text, words) in [
            ("{}", "doesn't begin"),
            ("moxxie-inventory-2:abc", "another version"),
            ("moxxie-inventory-1:%%%", "cut or changed"),
            (cut, "cut or changed"),
        ] {
            let error = Snapshot::read(text).expect_err("a refusal");
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}

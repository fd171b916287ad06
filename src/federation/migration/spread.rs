//! Which storage a machine is restored to, and which of its volumes move on from there: one restore takes one storage, and a
//! machine may belong on several.

use std::collections::BTreeMap;

/// A volume that a move carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its key in the configuration: `scsi0`, `efidisk0`, …
    pub slot: String,
    /// The storage that it is on, on the source.
    pub from: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A volume that moves on once the machine is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onward {
    /// Its key in the configuration.
    pub slot: String,
    /// The storage of the target that it belongs on.
    pub storage: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Where a machine is restored to, and what moves on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// The storage that takes all volumes at first.
    pub restore: String,
    /// What moves on from there, by slot.
    pub moves: Vec<Onward>,
}

impl Spread {
    /// Bytes that are copied once more.
    pub fn bytes(&self) -> u64 {
        self.moves.iter().map(|onward| onward.bytes).sum()
    }
}

/// A storage that has not the room it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoom {
    /// The storage of the target.
    pub storage: String,
    /// Free bytes.
    pub free: u64,
    /// Bytes that it would have to take.
    pub needed: u64,
    /// It would take all volumes until they move on, as one of the storages has to; else those alone that belong on it.
    pub whole: bool,
}

/// Where each volume belongs, by slot. `mapped`: what the configuration says of its disks. What it says nothing of (EFI
/// variables, TPM state, the cloud-init drive, disks that it doesn't name) lies beside what it lay beside: where all disks of
/// its storage go to one storage, it goes with them. Else it is left out, and stays where the restore puts it.
pub fn belongs(volumes: &[Volume], mapped: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let beside = |from: &str| {
        let mut all = volumes.iter().filter(|volume| volume.from == from).filter_map(|volume| mapped.get(&volume.slot));
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    };
    let place = |volume: &Volume| mapped.get(&volume.slot).or_else(|| beside(&volume.from)).cloned();
    volumes.iter().filter_map(|volume| Some((volume.slot.clone(), place(volume)?))).collect()
}

/// The storage to restore to: of those that have room for everything the one that keeps the most bytes, for then the fewest are
/// copied again; of equals the first by name. `free`: free bytes by storage, where they are known. None where no volume belongs
/// anywhere.
///
/// # Errors
/// Storages without the room they need: those that could take the restore, where none can; those that could not take their part.
pub fn spread(
    volumes: &[Volume],
    belongs: &BTreeMap<String, String>,
    free: &BTreeMap<String, u64>,
) -> Result<Option<Spread>, Vec<NoRoom>> {
    let whole: u64 = volumes.iter().map(|volume| volume.bytes).sum();
    let mut parts: BTreeMap<&String, u64> = BTreeMap::new();
    for volume in volumes {
        if let Some(storage) = belongs.get(&volume.slot) {
            *parts.entry(storage).or_default() += volume.bytes;
        }
    }
    let room = |storage: &String| free.get(storage).copied().unwrap_or(u64::MAX);
    let lacks = |storage: &String, needed: u64, whole: bool| {
        let free = room(storage);
        (free < needed).then(|| NoRoom { storage: storage.clone(), free, needed, whole })
    };
    let mut candidates: Vec<(&String, u64)> = parts.iter().map(|(storage, part)| (*storage, *part)).collect();
    candidates.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let Some(restore) = candidates.iter().map(|(storage, _)| *storage).find(|storage| room(storage) >= whole) else {
        let none: Vec<NoRoom> = candidates.iter().filter_map(|(storage, _)| lacks(storage, whole, true)).collect();
        return if none.is_empty() { Ok(None) } else { Err(none) };
    };
    let short: Vec<NoRoom> = parts.iter().filter_map(|(storage, part)| lacks(storage, *part, false)).collect();
    if !short.is_empty() {
        return Err(short);
    }
    let onward = |volume: &Volume| {
        let storage = belongs.get(&volume.slot).filter(|storage| *storage != restore)?;
        Some(Onward { slot: volume.slot.clone(), storage: storage.clone(), bytes: volume.bytes })
    };
    let mut moves: Vec<Onward> = volumes.iter().filter_map(onward).collect();
    moves.sort_by(|a, b| a.slot.cmp(&b.slot));
    Ok(Some(Spread { restore: restore.clone(), moves }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: u64 = 1 << 30;

    fn volumes() -> Vec<Volume> {
        let volume = |slot: &str, from: &str, bytes: u64| Volume { slot: slot.into(), from: from.into(), bytes };
        vec![volume("efidisk0", "a", 1 << 20), volume("scsi0", "a", 8 * G), volume("scsi1", "b", 40 * G)]
    }

    fn map<V: Clone>(pairs: &[(&str, V)]) -> BTreeMap<String, V> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    fn mapped() -> BTreeMap<String, String> {
        map(&[("scsi0", "fast".to_owned()), ("scsi1", "bulk".to_owned())])
    }

    #[test]
    fn what_the_configuration_does_not_name_goes_with_what_lay_beside_it() {
        assert_eq!(belongs(&volumes(), &mapped())["efidisk0"], "fast");
        // Nothing that is named lay there, or it goes two ways: it stays where it is restored.
        assert!(!belongs(&volumes(), &map(&[("scsi1", "bulk".to_owned())])).contains_key("efidisk0"));
        let mut apart = volumes();
        apart[2].from = "a".into();
        assert!(!belongs(&apart, &mapped()).contains_key("efidisk0"));
    }

    #[test]
    fn the_restore_goes_where_most_bytes_stay_and_there_is_room_for_all() {
        let at = belongs(&volumes(), &mapped());
        let chosen = spread(&volumes(), &at, &BTreeMap::new()).expect("room").expect("a storage");
        assert_eq!(chosen.restore, "bulk");
        let moved: Vec<(&str, &str)> = chosen.moves.iter().map(|one| (&*one.slot, &*one.storage)).collect();
        assert_eq!(moved, [("efidisk0", "fast"), ("scsi0", "fast")]);
        assert_eq!(chosen.bytes(), 8 * G + (1 << 20));
        // 48 GiB and a bit don't fit on bulk, which takes its own 40 later.
        let free = map(&[("bulk", 48 * G), ("fast", 50 * G)]);
        let chosen = spread(&volumes(), &at, &free).expect("room").expect("a storage");
        assert_eq!((chosen.restore.as_str(), chosen.bytes()), ("fast", 40 * G));
        assert_eq!(spread(&[], &BTreeMap::new(), &free), Ok(None));
    }

    #[test]
    fn no_room_is_refused_with_numbers() {
        let at = belongs(&volumes(), &mapped());
        let all = 48 * G + (1 << 20);
        let short = spread(&volumes(), &at, &map(&[("bulk", 48 * G), ("fast", 9 * G)])).expect_err("no room");
        let seen: Vec<_> = short.iter().map(|one| (&*one.storage, one.free, one.needed, one.whole)).collect();
        assert_eq!(seen, [("bulk", 48 * G, all, true), ("fast", 9 * G, all, true)]);
        // Room for all on one, but not for its part on the other.
        let short = spread(&volumes(), &at, &map(&[("bulk", 60 * G), ("fast", 7 * G)])).expect_err("no room");
        let seen: Vec<_> = short.iter().map(|one| (&*one.storage, one.needed, one.whole)).collect();
        assert_eq!(seen, [("fast", 8 * G + (1 << 20), false)]);
    }

    #[test]
    fn one_storage_moves_nothing() {
        let at = belongs(&volumes(), &map(&[("scsi0", "fast".to_owned()), ("scsi1", "fast".to_owned())]));
        let chosen = spread(&volumes(), &at, &BTreeMap::new()).expect("room").expect("a storage");
        assert_eq!((chosen.restore.as_str(), chosen.moves.len()), ("fast", 0));
    }
}

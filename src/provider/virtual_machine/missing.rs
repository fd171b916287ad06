//! Owns what state knows of a machine and the machine doesn't have any more: disks that somebody detached, network devices that
//! somebody removed. They stay in state, so that what was theirs comes back: a volume, a MAC address, a place in the boot order.
use std::collections::BTreeSet;

use operations::Guest;
use operations::disks::{Whereabouts, whereabouts};
use protocol::Value;

use super::state::known;

/// The slots that state knows and the machine doesn't have, each with what state knows of it. `prior`: disks or network devices.
fn missing<'a>(guest: &'a Guest, prior: &'a Value) -> impl Iterator<Item = (&'a String, &'a Value)> + 'a {
    let slots = prior.as_map().into_iter().flatten();
    slots.filter(|(slot, one)| !one.is_null() && guest.config.get(slot).is_none())
}

/// The same of both, by name.
pub(super) fn slots(guest: &Guest, state: &Value) -> BTreeSet<String> {
    let both = ["disks", "network_devices"].into_iter();
    both.flat_map(|name| missing(guest, state.attr(name))).map(|(slot, _)| slot.clone()).collect()
}

/// Where the volume of a missing disk is; none where state knows of none.
fn volume_of<'a>(guest: &Guest, prior: &'a Value, disk: &'a Value) -> Option<(&'a str, Whereabouts)> {
    let volume = disk.attr("volume").as_str()?;
    let others: Vec<&str> =
        prior.as_map().into_iter().flatten().filter_map(|(_, other)| other.attr("volume").as_str()).collect();
    Some((volume, whereabouts(guest, volume, &others)))
}

/// Missing disks as state keeps them: with their volume, as long as that may still be somewhere.
pub(super) fn disks(guest: &Guest, prior: &Value) -> Vec<(String, Value)> {
    let kept = |(slot, disk): (&String, &Value)| {
        let is_gone = volume_of(guest, prior, disk).is_none_or(|(_, is)| is == Whereabouts::Gone);
        let disk = all_known(disk);
        (slot.clone(), if is_gone { disk.with_attr("volume", Value::Null) } else { disk })
    };
    missing(guest, prior).map(kept).collect()
}

/// Missing network devices as state keeps them.
pub(super) fn nics(guest: &Guest, prior: &Value) -> Vec<(String, Value)> {
    missing(guest, prior).map(|(slot, nic)| (slot.clone(), all_known(nic))).collect()
}

fn all_known(object: &Value) -> Value {
    let parts = object.as_map().into_iter().flatten();
    Value::object(parts.map(|(name, value)| (name.clone(), known(value))))
}

/// The order that the machine boots in; the former one where it differs by what is missing alone, which Proxmox VE takes out of it.
pub(super) fn boot_order(guest: &Guest, prior: &Value, all_slots: bool) -> Value {
    let is = guest.config.boot().order().into_iter().map(str::to_owned).collect::<Vec<String>>();
    let was: Vec<&str> = prior.attr("boot_order").as_list().into_iter().flatten().filter_map(Value::as_str).collect();
    let missing = slots(guest, prior);
    let left: Vec<&str> = was.iter().copied().filter(|device| !missing.contains(*device)).collect();
    if !all_slots && left != was && left == is { Value::list(was) } else { Value::list(is) }
}

/// What apply does about what is missing; none where nothing is.
pub(super) fn in_words(guest: &Guest, prior: &Value, all_slots: bool) -> Option<String> {
    if all_slots {
        return None;
    }
    let disks = prior.attr("disks");
    let disk = |(slot, disk): (&String, &Value)| match volume_of(guest, disks, disk) {
        Some((volume, Whereabouts::Unused)) => format!("disk {slot} is detached: apply attaches {volume} again"),
        Some((volume, Whereabouts::On(other))) => {
            format!("disk {slot} is on {other} ({volume}): apply refuses until the configuration says so, too")
        }
        Some((volume, Whereabouts::Perhaps(others))) => {
            format!(
                "disk {slot} is gone ({volume}), and {others} may be it: apply refuses until that is attached or removed"
            )
        }
        Some((_, Whereabouts::Gone)) | None => {
            format!("disk {slot} is gone with its volume: apply makes an empty one")
        }
    };
    let nic = |(slot, _): (&String, &Value)| format!("network device {slot} is gone: apply adds it again");
    let words: Vec<String> =
        missing(guest, disks).map(disk).chain(missing(guest, prior.attr("network_devices")).map(nic)).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

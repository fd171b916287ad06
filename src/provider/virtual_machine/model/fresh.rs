//! Owns what a configuration may say only of a machine that is so already: Proxmox VE has odd values that nobody should ask for, and an
//! import writes them into the configuration as they are.
use federation::Bytes;
use protocol::{AttributePath, Diagnostics, Value};

use super::super::sameness::means;
use crate::private::{Private, disk_path};

/// Up to 1 KiB of what Proxmox VE takes is ours while a machine moves.
const DESCRIPTION_MAX: usize = 7000;

/// Reports what is asked for anew and can't be had. `prior`: the machine in state, null for a new one. What somebody else changed is
/// no mistake of the configuration, and is never an error. Unknown values pass.
pub(crate) fn fresh(config: &Value, prior: &Value, private: &Private, diags: &mut Diagnostics) {
    if config.attr("name").as_str() == Some("") && prior.is_null() {
        let detail = "A machine without a name is one that an import found so. Give it a DNS name.";
        diags.error_at(AttributePath::new("name"), "A machine needs a name", detail);
    }
    description(config.attr("description"), prior, diags);
    if prior.is_null() {
        boot_order(config.attr("boot_order"), diags);
    }
    for (slot, disk) in config.attr("disks").as_map().into_iter().flatten() {
        let (size, had) = (disk.attr("size"), prior.attr("disks").attr(slot).attr("size"));
        if !means("disks.*.size", size, had) && !private.is_drift(&disk_path(slot, "size"), size) {
            new_size(size, AttributePath::new("disks").key(slot.as_str()).attribute("size"), diags);
        }
    }
    networks(config, prior, diags);
}

/// Reports network devices that are nowhere.
pub(crate) fn networks(config: &Value, prior: &Value, diags: &mut Diagnostics) {
    for (slot, nic) in config.attr("network_devices").as_map().into_iter().flatten() {
        let at = AttributePath::new("network_devices").key(slot.as_str());
        network(nic, prior.attr("network_devices").attr(slot), at, diags);
    }
}

fn description(text: &Value, prior: &Value, diags: &mut Diagnostics) {
    let long = text.as_str().is_some_and(|text| text.chars().count() > DESCRIPTION_MAX);
    if !long || means("description", text, prior.attr("description")) {
        return;
    }
    let detail = format!("At most {DESCRIPTION_MAX} characters: Proxmox VE takes 8192, and moves need some of them.");
    let at = AttributePath::new("description");
    if prior.is_null() {
        diags.error_at(at, "The description is too long", detail);
    } else {
        diags.warning_at(at, "The description is too long for a move", detail);
    }
}

fn new_size(size: &Value, at: AttributePath, diags: &mut Diagnostics) {
    // What is no size at all is reported by the static checks.
    let Some(bytes) = size.as_str().and_then(|text| text.parse::<Bytes>().ok()) else { return };
    if !bytes.0.is_multiple_of(Bytes::MIB.0) {
        diags.error_at(at, "Invalid size", format!("{bytes} is not a whole number of MiB."));
    } else if bytes < Bytes::MIB {
        diags.error_at(at, "Invalid size", format!("{bytes} is less than the least, {}.", Bytes::MIB));
    }
}

fn network(nic: &Value, had: &Value, at: AttributePath, diags: &mut Diagnostics) {
    let nowhere = |nic: &Value| nic.attr("network").is_null() && nic.attr("bridge").is_null();
    if !nowhere(nic) {
        return;
    }
    if had.is_null() {
        diags.error_at(
            at,
            "A network device needs a network or a bridge",
            "Set `network` to a federation network, or `bridge` to a bridge of the cluster.",
        );
    } else if !nowhere(had) {
        diags.warning_at(
            at,
            "A network device leaves its bridge",
            "Its configuration has neither `network` nor `bridge`: it is behind QEMU's own address translation then.",
        );
    }
}

fn boot_order(order: &Value, diags: &mut Diagnostics) {
    let devices: Vec<Option<&str>> = order.as_list().into_iter().flatten().map(Value::as_str).collect();
    for (index, device) in devices.iter().enumerate() {
        let Some(device) = device else { continue };
        if devices.iter().take(index).any(|other| *other == Some(*device)) {
            let at = AttributePath::new("boot_order").index(index);
            diags.error_at(at, "A device is named twice", format!("{device} is in the order already."));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(config: &Value, prior: &Value) -> Vec<String> {
        let mut diags = Diagnostics::new();
        fresh(config, prior, &Private::default(), &mut diags);
        diags
            .iter()
            .filter(|diag| diag.is_error())
            .map(|diag| diag.path.as_ref().map(ToString::to_string).unwrap_or_default())
            .collect()
    }

    #[test]
    fn what_is_so_already_may_be_written_back_and_nothing_else_may() {
        let nic =
            |bridge: Value| Value::object([("network", Value::Null), ("bridge", bridge), ("model", "virtio".into())]);
        let odd = Value::object([
            ("name", Value::from("")),
            ("description", "x".repeat(8000).into()),
            ("boot_order", Value::list(["scsi0", "scsi0"])),
            (
                "disks",
                Value::map([
                    ("scsi0", Value::object([("size", "31458KiB")])),
                    ("scsi1", Value::object([("size", "0B")])),
                ]),
            ),
            ("network_devices", Value::map([("net0", nic(Value::Null))])),
        ]);
        assert_eq!(errors(&odd, &odd), Vec::<String>::new());
        let found = errors(&odd, &Value::Null);
        let places = [
            "name",
            "description",
            "boot_order[1]",
            r#"disks["scsi0"].size"#,
            r#"disks["scsi1"].size"#,
            r#"network_devices["net0"]"#,
        ];
        assert_eq!(found, places);
        let had = odd.clone().with_attr("network_devices", Value::map([("net0", nic("vmbr0".into()))]));
        let had = had.with_attr("name", "web-1").with_attr("description", "short");
        assert_eq!(errors(&odd, &had), Vec::<String>::new(), "what somebody else changed");
        let other = odd.clone().with_attr("disks", Value::map([("scsi0", Value::object([("size", "31459K")]))]));
        assert_eq!(errors(&other, &odd), [r#"disks["scsi0"].size"#]);
        let odd = other.with_attr("disks", Value::map([("scsi0", Value::object([("size", "31458K")]))]));
        let grown = odd.clone().with_attr("disks", Value::map([("scsi0", Value::object([("size", "1GiB")]))]));
        let mut private = Private::default();
        private.note_drift(&odd, &grown);
        let mut diags = Diagnostics::new();
        fresh(&odd, &grown, &private, &mut diags);
        assert!(!diags.has_errors(), "it was grown in Proxmox VE: {diags:?}");
    }

    #[test]
    fn what_is_not_known_yet_passes() {
        let unknown = Value::object([
            ("name", Value::unknown()),
            ("description", Value::unknown()),
            ("boot_order", Value::unknown()),
            ("disks", Value::map([("scsi0", Value::object([("size", Value::unknown())]))])),
            ("network_devices", Value::map([("net0", Value::object([("network", Value::unknown())]))])),
        ]);
        assert_eq!(errors(&unknown, &Value::Null), Vec::<String>::new());
    }
}

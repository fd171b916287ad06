//! Owns which changes a running machine takes at once and which wait for its next restart (`pve-behaviour.md` §4).
use protocol::{Diagnostics, Value};

use crate::values::text;

/// Says which planned changes wait for a restart, or that they make one. A pure function of both values; what Proxmox VE could
/// not take after all is said by apply.
pub(crate) fn announce(planned: &Value, prior: &Value, diags: &mut Diagnostics) {
    let runs = prior.attr("started").as_bool() == Some(true) && planned.attr("started").as_bool() == Some(true);
    let waiting = cold(planned, prior);
    if !runs || waiting.is_empty() {
        return;
    }
    let (name, list) = (text(planned, "name").unwrap_or_default(), waiting.join(", "));
    if planned.attr("reboot_policy").as_str() == Some("reboot") {
        diags.warning(
            format!("Virtual machine {name} is restarted"),
            format!("{list}: a running machine can't take this, and reboot_policy is \"reboot\"."),
        );
    } else {
        diags.warning(
            format!("Virtual machine {name} takes a change at its next restart"),
            format!(
                "{list}: written by apply, in force when it is stopped and started through Proxmox VE. \
                 reboot_policy = \"reboot\" has apply do that."
            ),
        );
    }
}

/// The attributes whose change a running machine can't take.
fn cold(planned: &Value, prior: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |path: String, planned: &Value, prior: &Value| {
        if planned.is_known() && planned != prior {
            found.push(path);
        }
    };
    for name in ["cores", "sockets", "type"] {
        look(format!("cpu.{name}"), planned.attr("cpu").attr(name), prior.attr("cpu").attr(name));
    }
    for name in ["memory", "bios", "machine", "boot_order", "agent"] {
        look(name.to_owned(), planned.attr(name), prior.attr(name));
    }
    let cloud_init = planned.attr("cloud_init");
    if !cloud_init.is_null() {
        for name in ["user", "ssh_keys", "password_wo_version", "addresses", "dns"] {
            look(format!("cloud_init.{name}"), cloud_init.attr(name), prior.attr("cloud_init").attr(name));
        }
    }
    disks(planned.attr("disks"), prior.attr("disks"), &mut found);
    found
}

/// Only scsi and virtio take a disk, or let go of one, while the machine runs; on no bus does a disk that is there change what
/// the guest sees of it.
fn disks(planned: &Value, prior: &Value, found: &mut Vec<String>) {
    let hot = |slot: &str| slot.starts_with("scsi") || slot.starts_with("virtio");
    for (slot, disk) in planned.as_map().into_iter().flatten() {
        let had = prior.attr(slot);
        if had.is_null() {
            found.extend((!hot(slot)).then(|| format!("disks.{slot}")));
            continue;
        }
        for name in ["ssd", "discard"] {
            if disk.attr(name).is_known() && disk.attr(name) != had.attr(name) {
                found.push(format!("disks.{slot}.{name}"));
            }
        }
    }
    let gone = prior.as_map().into_iter().flatten().filter(|(slot, _)| planned.attr(slot).is_null());
    found.extend(gone.filter(|(slot, _)| !hot(slot)).map(|(slot, _)| format!("disks.{slot}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> Value {
        let disk = || Value::object([("size", Value::from("20GB")), ("ssd", false.into()), ("discard", false.into())]);
        Value::object([
            ("name", Value::from("web-1")),
            ("started", true.into()),
            ("reboot_policy", "warn".into()),
            ("memory", "4GB".into()),
            ("cpu", Value::object([("cores", 2)])),
            ("tags", Value::set(["web"])),
            ("disks", Value::map([("scsi0", disk()), ("sata0", disk())])),
        ])
    }

    #[test]
    fn what_waits_is_told_from_what_is_taken_at_once() {
        let disk = |slot: &str, disk: Value| {
            let mut disks = vm().attr("disks").as_map().cloned().unwrap_or_default();
            disks.insert(slot.to_owned(), disk);
            vm().with_attr("disks", Value::Map(disks))
        };
        let grown = vm().attr("disks").attr("scsi0").clone().with_attr("size", "30GB");
        let shown = vm().attr("disks").attr("scsi0").clone().with_attr("ssd", true);
        let cases = [
            (vm(), vec![]),
            (vm().with_attr("memory", "8GB"), vec!["memory"]),
            (vm().with_attr("cpu", Value::object([("cores", 4)])), vec!["cpu.cores"]),
            (vm().with_attr("tags", Value::set(["x"])), vec![]),
            (vm().with_attr("agent", true), vec!["agent"]),
            (disk("scsi0", grown.clone()), vec![]),
            (disk("scsi0", shown), vec!["disks.scsi0.ssd"]),
            (disk("scsi1", grown.clone()), vec![]),
            (disk("ide0", grown), vec!["disks.ide0"]),
            (
                vm().with_attr("disks", Value::map([("scsi0", vm().attr("disks").attr("scsi0").clone())])),
                vec!["disks.sata0"],
            ),
        ];
        for (planned, waiting) in cases {
            assert_eq!(cold(&planned, &vm()), waiting);
        }
    }

    #[test]
    fn a_machine_that_does_not_run_waits_for_nothing() {
        let said = |planned: &Value, prior: &Value| {
            let mut diags = Diagnostics::new();
            announce(planned, prior, &mut diags);
            diags.iter().map(|one| one.summary.clone()).collect::<Vec<_>>()
        };
        let bigger = vm().with_attr("memory", "8GB");
        assert_eq!(said(&bigger, &vm()), ["Virtual machine web-1 takes a change at its next restart"]);
        let reboots = bigger.clone().with_attr("reboot_policy", "reboot");
        assert_eq!(said(&reboots, &vm()), ["Virtual machine web-1 is restarted"]);
        assert_eq!(said(&bigger, &vm().with_attr("started", false)), Vec::<String>::new());
        assert_eq!(said(&bigger.with_attr("started", false), &vm()), Vec::<String>::new());
    }
}

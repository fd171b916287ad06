//! Owns saying at plan which changes wait for the machine's next restart; which do is a matter of `operations::restart`.
use operations::restart::{disk_waits, key_waits};
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

/// Attributes, and the keys of Proxmox VE's configuration that they become.
const KEYS: [(&str, &str, &str); 8] = [
    ("cpu", "cores", "cores"),
    ("cpu", "sockets", "sockets"),
    ("cpu", "type", "cpu"),
    ("", "memory", "memory"),
    ("", "bios", "bios"),
    ("", "machine", "machine"),
    ("", "boot_order", "boot"),
    ("", "agent", "agent"),
];

/// The same of `cloud_init`, where that is configured.
const CLOUD_INIT: [(&str, &str); 5] = [
    ("user", "ciuser"),
    ("ssh_keys", "sshkeys"),
    ("password_wo_version", "cipassword"),
    ("addresses", "ipconfig0"),
    ("dns", "nameserver"),
];

/// The attributes whose change a running machine can't take.
fn cold(planned: &Value, prior: &Value) -> Vec<String> {
    let changed = |planned: &Value, prior: &Value| planned.is_known() && planned != prior;
    let mut found = Vec::new();
    for (within, name, key) in KEYS {
        let of =
            |value: &Value| if within.is_empty() { value.attr(name) } else { value.attr(within).attr(name) }.clone();
        if key_waits(key) && changed(&of(planned), &of(prior)) {
            found.push(if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") });
        }
    }
    let cloud_init = planned.attr("cloud_init");
    for (name, key) in CLOUD_INIT.into_iter().filter(|_| !cloud_init.is_null()) {
        if key_waits(key) && changed(cloud_init.attr(name), prior.attr("cloud_init").attr(name)) {
            found.push(format!("cloud_init.{name}"));
        }
    }
    disks(planned.attr("disks"), prior.attr("disks"), &mut found);
    found
}

/// On no bus does a disk that is there change what the guest sees of it while it runs.
fn disks(planned: &Value, prior: &Value, found: &mut Vec<String>) {
    for (slot, disk) in planned.as_map().into_iter().flatten() {
        let had = prior.attr(slot);
        if had.is_null() {
            found.extend(disk_waits(slot).then(|| format!("disks.{slot}")));
            continue;
        }
        for name in ["ssd", "discard"] {
            if disk.attr(name).is_known() && disk.attr(name) != had.attr(name) {
                found.push(format!("disks.{slot}.{name}"));
            }
        }
    }
    let gone = prior.as_map().into_iter().flatten().filter(|(slot, _)| planned.attr(slot).is_null());
    found.extend(gone.filter(|(slot, _)| disk_waits(slot)).map(|(slot, _)| format!("disks.{slot}")));
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

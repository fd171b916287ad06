//! Owns saying which changes wait for the machine's next restart: those of a plan, and those that a refresh finds. Which do is a
//! matter of `operations::restart`.
use std::collections::BTreeMap;

use operations::Guest;
use operations::restart::{disk_waits, key_waits};
use protocol::{AttributePath, Diagnostics, Value};

use super::model::called;
use super::state::restart_due;
use crate::private::{Private, same};

/// Says at a refresh what is written and not in force: of an apply that was killed, or by hand.
pub(crate) fn remind(guest: &Guest, prior: &Value, diags: &mut Diagnostics) {
    if !guest.running || guest.waiting.is_empty() {
        return;
    }
    let name = called(prior);
    let keys: Vec<&str> = guest.waiting.iter().map(|change| change.key.as_str()).collect();
    let owed = !restart_due(guest, prior).is_empty();
    let next = match (owed, prior.attr("reboot_policy").as_str()) {
        (true, Some("reboot")) => "Apply restarts it, because reboot_policy is \"reboot\".",
        (true, _) => "reboot_policy = \"reboot\" has apply do that.",
        (false, _) => "No attribute of it stands for this, so apply doesn't do that.",
    };
    diags.warning(
        format!("Virtual machine {name} waits for a restart"),
        format!(
            "{}: {} is written, and in force when it is stopped and started through Proxmox VE. {next}",
            guest.place,
            keys.join(", ")
        ),
    );
}

/// The attributes that differ from how the machine runs, with the value it runs with.
pub(crate) fn differences(as_it_runs: &Value, state: &Value) -> BTreeMap<String, String> {
    let differs = |(path, of): (String, &dyn Fn(&Value) -> Value)| {
        let runs = words(&of(as_it_runs))?;
        (words(&of(state)).as_ref() != Some(&runs)).then_some((path, runs))
    };
    KEYS.iter()
        .filter_map(|(within, name, _)| differs((path(within, name), &|value| leaf(value, within, name))))
        .collect()
}

/// Says which planned changes wait for a restart, or that they make one. A pure function of both values and of what Read found;
/// what Proxmox VE could not take after all is said by apply.
pub(crate) fn announce(planned: &Value, prior: &Value, private: &Private, diags: &mut Diagnostics) {
    not_plugged_in(planned, prior, private, diags);
    let runs = prior.attr("started").as_bool() == Some(true) && planned.attr("started").as_bool() == Some(true);
    let mut waiting = cold(planned, prior);
    // Back to what it runs with: the change that waits is dropped.
    let back = |path: &String| {
        let is = words(&at(planned, path));
        private.in_force.get(path).zip(is).is_some_and(|(runs, is)| same(runs, &is))
    };
    waiting.retain(|path| !back(path));
    let policy = |value: &Value| value.attr("reboot_policy").as_str() == Some("reboot");
    if policy(planned) && !policy(prior) {
        // Refresh said that it waits; the edit of the policy asks for the restart.
        waiting.extend(private.restart_due.iter().cloned());
    }
    if !runs || waiting.is_empty() {
        return;
    }
    let (name, list) = (called(planned), waiting.join(", "));
    if policy(planned) {
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

/// Says that more cores do nothing where Proxmox VE plugs in fewer than there are.
fn not_plugged_in(planned: &Value, prior: &Value, private: &Private, diags: &mut Diagnostics) {
    let all = |value: &Value| {
        let cpu = value.attr("cpu");
        Some(cpu.attr("cores").as_u64()?.saturating_mul(cpu.attr("sockets").as_u64()?))
    };
    let (Some(vcpus), Some(now), Some(before)) = (private.plugged_in, all(planned), all(prior)) else { return };
    if now != before && vcpus < now {
        diags.warning_at(
            AttributePath::new("cpu"),
            format!("Virtual machine {} has {vcpus} of its {now} processors plugged in", called(planned)),
            "Somebody set `vcpus` in Proxmox VE, which apply leaves alone: the guest sees that many. Where it shall see all, delete \
             `vcpus` there.",
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

fn path(within: &str, name: &str) -> String {
    if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") }
}

fn leaf(value: &Value, within: &str, name: &str) -> Value {
    if within.is_empty() { value.attr(name) } else { value.attr(within).attr(name) }.clone()
}

fn at(value: &Value, path: &str) -> Value {
    let (within, name) = path.split_once('.').unwrap_or(("", path));
    leaf(value, within, name)
}

/// A value to compare by.
fn words(value: &Value) -> Option<String> {
    let list = || Some(value.as_list()?.iter().filter_map(words).collect::<Vec<_>>().join(";"));
    let text = value.as_str().map(str::to_owned);
    let text = text.or_else(|| value.as_number().map(|number| number.as_str().to_owned()));
    text.or_else(|| value.as_bool().map(|flag| flag.to_string())).or_else(list)
}

/// The attributes whose change a running machine can't take.
fn cold(planned: &Value, prior: &Value) -> Vec<String> {
    let changed = |planned: &Value, prior: &Value| planned.is_known() && planned != prior;
    let mut found = Vec::new();
    for (within, name, key) in KEYS {
        if key_waits(key) && changed(&leaf(planned, within, name), &leaf(prior, within, name)) {
            found.push(path(within, name));
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
    fn fewer_plugged_in_processors_than_configured_are_said_where_that_changes() {
        let cpu = |cores: i64| vm().with_attr("cpu", Value::object([("cores", cores), ("sockets", 1)]));
        let said = |planned: i64, vcpus: Option<u64>| {
            let mut diags = Diagnostics::new();
            let private = Private { plugged_in: vcpus, ..Private::default() };
            not_plugged_in(&cpu(planned), &cpu(4), &private, &mut diags);
            diags.iter().map(|one| one.summary.clone()).collect::<Vec<_>>()
        };
        assert_eq!(said(8, Some(2)), ["Virtual machine web-1 has 2 of its 8 processors plugged in"]);
        for (planned, vcpus) in [(4, Some(2)), (2, Some(2)), (1, Some(2)), (8, None)] {
            assert_eq!(said(planned, vcpus), Vec::<String>::new());
        }
    }

    #[test]
    fn a_machine_that_does_not_run_waits_for_nothing() {
        let said = |planned: &Value, prior: &Value| {
            let mut diags = Diagnostics::new();
            announce(planned, prior, &Private::default(), &mut diags);
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

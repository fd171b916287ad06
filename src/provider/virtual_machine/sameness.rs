//! Owns when two spellings of a machine's attribute are the same: the one table of what Proxmox VE makes of what is written. Reading,
//! planning and the checks of a configuration go by it, so that nothing it lists is a difference. What is in no row is the same only
//! where it is equal.
use operations::Stored;
use protocol::Value;

use crate::values::Same;

/// Attribute, `*` standing for a slot, and how it is compared. Truth values and numbers have one spelling each in state: Proxmox VE's
/// own spellings of them (`1`, `on`, `yes`, `true`) are read where they come from.
pub(super) const TABLE: [(&str, Same); 16] = [
    ("memory", Same::AsSize),
    ("disks.*.size", Same::AsSize),
    ("network_devices.*.mac", Same::Stored(Stored::Caseless)),
    ("tags", Same::Stored(Stored::Tags)),
    ("description", Same::Stored(Stored::Notes)),
    ("machine", Same::Stored(Stored::Properties("type"))),
    ("cloud_init.ssh_keys", Same::Stored(Stored::Trimmed)),
    ("cloud_init.dns", Same::Stored(Stored::Trimmed)),
    ("migration.keep_source", Same::AsSpan),
    ("migration.keep_archive", Same::AsSpan),
    ("migration.shutdown_timeout", Same::AsSpan),
    ("migration.max_downtime", Same::AsSpan),
    ("migration.health.deadline", Same::AsSpan),
    ("timeouts.create", Same::AsSpan),
    ("timeouts.update", Same::AsSpan),
    ("timeouts.delete", Same::AsSpan),
];

/// How an attribute is compared.
pub(super) fn same(path: &str) -> Same {
    TABLE.iter().find(|(row, _)| *row == path).map_or(Same::Exactly, |(_, same)| *same)
}

/// Whether two values of an attribute mean the same.
pub(super) fn means(path: &str, a: &Value, b: &Value) -> bool {
    same(path).means(a, b)
}

/// What is, in the prior spelling where that means the same.
pub(super) fn spelled(path: &str, is: Value, prior: &Value) -> Value {
    if !prior.is_null() && prior.is_known() && means(path, prior, &is) { prior.clone() } else { is }
}

#[cfg(test)]
mod tests {
    use super::super::planned::planned;
    use super::*;

    /// Two spellings of every row's attribute.
    fn spellings(row: &str) -> (Value, Value) {
        let (a, b): (Value, Value) = match row {
            "memory" | "disks.*.size" => ("2GB".into(), "2048MiB".into()),
            "network_devices.*.mac" => ("bc:24:11:00:00:01".into(), "BC:24:11:00:00:01".into()),
            "tags" => (Value::set(["Web", "a"]), Value::set(["a", "web"])),
            "description" => ("two\nlines\n".into(), "two\nlines".into()),
            "machine" => ("type=q35,viommu=intel".into(), "q35,viommu=intel".into()),
            "cloud_init.ssh_keys" => (Value::list(["ssh-ed25519 A me\n"]), Value::list(["ssh-ed25519 A me"])),
            "cloud_init.dns" => (Value::list([" 1.1.1.1"]), Value::list(["1.1.1.1"])),
            _ => ("60m".into(), "1h".into()),
        };
        (a, b)
    }

    /// A machine with one attribute set.
    fn with(row: &str, value: Value) -> Value {
        let mut steps: Vec<&str> = row.split('.').collect();
        let leaf = steps.pop().unwrap_or_default();
        let inner = Value::object([(leaf, value)]);
        let value = steps.iter().rev().fold(inner, |inner, step| match *step {
            "*" => Value::map([(if row.starts_with("disks") { "scsi0" } else { "net0" }, inner)]),
            step => Value::object([(step, inner)]),
        });
        value.with_attr("name", "web-1")
    }

    fn at(value: &Value, row: &str) -> Value {
        let slot = if row.starts_with("disks") { "scsi0" } else { "net0" };
        row.split('.').fold(value.clone(), |value, step| value.attr(if step == "*" { slot } else { step }).clone())
    }

    #[test]
    fn each_row_keeps_the_spelling_of_what_is_and_shows_no_difference() {
        for (row, _) in TABLE {
            let (a, b) = spellings(row);
            assert!(means(row, &a, &b) && a != b, "{row}");
            for (config, is) in [(&a, &b), (&b, &a)] {
                let prior = with(row, is.clone());
                let planned = planned(&with(row, config.clone()), &prior, "a".into(), "why".into(), false);
                assert_eq!(at(&planned, row), *is, "{row}");
                assert_eq!(spelled(row, config.clone(), is), *is, "{row}");
            }
            assert_eq!(spelled(row, a.clone(), &Value::Null), a, "{row}");
        }
        assert_eq!(same("name"), Same::Exactly);
    }
}

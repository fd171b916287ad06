//! Owns the planned value of a virtual machine, attribute by attribute: a pure function of configuration, prior state and
//! whether it moves (design.md §5).
use protocol::Value;

use super::sameness::same;
use super::schema::defaults;
use crate::values::{Object, Same, leaf, prior_or};

/// What is planned for every attribute but `cluster` and `placement`, which the caller decides.
///
/// `moving`: the plan changes the cluster of an existing machine, so what the target makes of it is not known yet.
pub(crate) fn planned(config: &Value, prior: &Value, cluster: Value, placement: Value, moving: bool) -> Value {
    let mut object = Object::default();
    let plain = |name: &str| leaf(config.attr(name), prior.attr(name), Same::Exactly, || Value::Null);
    let kept = |name: &str, new: Value| {
        leaf(config.attr(name), prior.attr(name), same(name), || prior_or(prior.attr(name), new))
    };
    for name in ["pool", "ordinal", "location", "tier", "needs"] {
        object.set(name, plain(name));
    }
    // None, as an import found it: whatever it is called since.
    let unnamed = config.attr("name").as_str() == Some("") && !prior.is_null();
    object.set("name", if unnamed { prior.attr("name").clone() } else { plain("name") });
    object.set("cluster", cluster).set("placement", placement);
    let node = leaf(config.attr("node"), prior.attr("node"), Same::Exactly, || {
        if moving { Value::unknown() } else { prior_or(prior.attr("node"), Value::unknown()) }
    });
    object.set("node", node);
    for name in ["vmid", "id"] {
        object.set(name, kept(name, Value::unknown()));
    }
    object.set("cpu", cpu(config.attr("cpu"), prior.attr("cpu")));
    object.set(
        "memory",
        leaf(config.attr("memory"), prior.attr("memory"), same("memory"), || {
            // A default means the same as a prior spelling of it.
            leaf(&defaults::MEMORY.into(), prior.attr("memory"), same("memory"), || Value::Null)
        }),
    );
    object.set("disks", slots(config.attr("disks"), prior.attr("disks"), moving, disk));
    object.set("network_devices", slots(config.attr("network_devices"), prior.attr("network_devices"), moving, nic));
    // What a template brings is not known before it is copied.
    let copied = !config.attr("clone").is_null();
    let unset = |value: Value| if copied { Value::unknown() } else { value };
    object.set("bios", kept("bios", unset(defaults::BIOS.into())));
    object.set(
        "machine",
        if prior.is_null() { kept("machine", unset(Value::Null)) } else { kept("machine", Value::Null) },
    );
    object.set("boot_order", kept("boot_order", Value::unknown()));
    object.set("clone", config.attr("clone").clone());
    object.set("cloud_init", cloud_init(config.attr("cloud_init"), prior.attr("cloud_init")));
    let reboot_policy = || defaults::REBOOT_POLICY.into();
    object.set(
        "reboot_policy",
        leaf(config.attr("reboot_policy"), prior.attr("reboot_policy"), Same::Exactly, reboot_policy),
    );
    object.set("tags", kept("tags", Value::Set(Vec::new())));
    object.set("description", kept("description", "".into()));
    for name in ["started", "on_boot", "protection", "agent"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || defaults::flag(name)));
    }
    object.set("migration", migration(config.attr("migration"), prior.attr("migration")));
    object.set("timeouts", timeouts(config.attr("timeouts"), prior.attr("timeouts")));
    object.set("operation", Value::Null);
    let retired = if moving || !prior.attr("operation").is_null() {
        Value::unknown()
    } else {
        prior_or(prior.attr("retired_copies"), Value::List(Vec::new()))
    };
    object.set("retired_copies", retired);
    object.done()
}

fn cpu(config: &Value, prior: &Value) -> Value {
    if config.is_unknown() {
        return Value::unknown();
    }
    let mut object = Object::default();
    for name in ["cores", "sockets", "type"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || defaults::cpu(name)));
    }
    object.done()
}

/// Plans a map by slot: only configured slots are managed, so a map that is not configured stays as it was.
fn slots(config: &Value, prior: &Value, moving: bool, one: fn(&Value, &Value, bool) -> Value) -> Value {
    if config.is_unknown() {
        return Value::unknown();
    }
    let Some(wanted) = config.as_map() else {
        let Some(had) = prior.as_map() else { return Value::Null };
        return Value::map(had.iter().map(|(slot, prior)| (slot.clone(), one(prior, prior, moving))));
    };
    Value::map(wanted.iter().map(|(slot, config)| (slot.clone(), one(config, prior.attr(slot), moving))))
}

fn disk(config: &Value, prior: &Value, moving: bool) -> Value {
    let mut object = Object::default();
    object.set("size", leaf(config.attr("size"), prior.attr("size"), same("disks.*.size"), || Value::Null));
    for name in ["storage", "format"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || prior.attr(name).clone()));
    }
    for name in ["ssd", "discard", "backup"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || defaults::disk(name)));
    }
    let elsewhere = moving || ["storage", "format"].iter().any(|name| object.get(name) != prior.attr(name));
    let volume = if elsewhere { Value::unknown() } else { prior_or(prior.attr("volume"), Value::unknown()) };
    object.set("volume", volume);
    object.done()
}

fn nic(config: &Value, prior: &Value, moving: bool) -> Value {
    let mut object = Object::default();
    object.set("network", config.attr("network").clone());
    let mapped = !config.attr("network").is_null();
    let same_network = config.attr("network") == prior.attr("network");
    for name in ["bridge", "vlan"] {
        let became = || {
            let had = prior.attr(name);
            match (mapped, moving, !same_network || prior_is_new(had, name)) {
                (true, true, _) => Value::unknown(),
                // Configuration may repeat what it becomes (`mapped.rs`).
                (true, false, true) => prior_or(config.attr(name), Value::unknown()),
                (true, false, false) => had.clone(),
                (false, ..) => Value::Null,
            }
        };
        // What a network became is computed; where the prior object is planned as it is, it stands in the configuration's place.
        // A network that is not known yet may turn out to be none.
        let configured = if mapped && config.attr("network").is_known() { &Value::Null } else { config.attr(name) };
        object.set(name, leaf(configured, prior.attr(name), Same::Exactly, became));
    }
    for name in ["model", "firewall"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || defaults::nic(name)));
    }
    object.set(
        "mac",
        leaf(config.attr("mac"), prior.attr("mac"), same("network_devices.*.mac"), || {
            prior_or(prior.attr("mac"), Value::unknown())
        }),
    );
    object.done()
}

/// A mapped network always has a bridge, so a prior without one is a device that doesn't exist yet; a VLAN may be null.
fn prior_is_new(prior: &Value, name: &str) -> bool {
    name == "bridge" && prior.is_null()
}

/// What is configured, without the password, which no plan and no state has.
fn cloud_init(config: &Value, prior: &Value) -> Value {
    if config.is_null() || config.is_unknown() {
        return config.clone();
    }
    let mut planned = config.clone().with_attr("password_wo", Value::Null);
    for name in ["ssh_keys", "dns"] {
        let path = format!("cloud_init.{name}");
        planned.set_attr(name, leaf(config.attr(name), prior.attr(name), same(&path), || Value::Null));
    }
    planned
}

fn migration(config: &Value, prior: &Value) -> Value {
    if config.is_null() || config.is_unknown() {
        return config.clone();
    }
    let mut object = Object::default();
    for name in ["method", "source", "force_stop", "accept_loss", "on_unhealthy"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), Same::Exactly, || defaults::migration(name)));
    }
    for name in ["keep_source", "keep_archive", "shutdown_timeout", "max_downtime"] {
        let unset = || if name == "max_downtime" { Value::Null } else { defaults::migration(name) };
        let how = same(&format!("migration.{name}"));
        object.set(name, leaf(config.attr(name), prior.attr(name), how, unset));
    }
    object.set("health", health(config.attr("health"), prior.attr("health")));
    object.done()
}

fn health(config: &Value, prior: &Value) -> Value {
    if config.is_null() || config.is_unknown() {
        return config.clone();
    }
    let mut object = Object::default();
    object.set("tcp", config.attr("tcp").clone()).set("http", config.attr("http").clone());
    object.set("agent", leaf(config.attr("agent"), prior.attr("agent"), Same::Exactly, || defaults::health("agent")));
    object.set(
        "deadline",
        leaf(config.attr("deadline"), prior.attr("deadline"), same("migration.health.deadline"), || {
            defaults::health("deadline")
        }),
    );
    object.done()
}

fn timeouts(config: &Value, prior: &Value) -> Value {
    if config.is_null() || config.is_unknown() {
        return config.clone();
    }
    let mut object = Object::default();
    for name in ["create", "update", "delete"] {
        object.set(name, leaf(config.attr(name), prior.attr(name), same(&format!("timeouts.{name}")), || Value::Null));
    }
    object.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        Value::object([
            ("name", Value::from("web-1")),
            ("pool", "production-pool".into()),
            ("memory", "4GB".into()),
            ("disks", Value::map([("scsi0", Value::object([("size", "20GB"), ("storage", "fast")]))])),
            ("network_devices", Value::map([("net0", Value::object([("network", "app")]))])),
        ])
    }

    fn prior() -> Value {
        let mut prior = planned(&config(), &Value::Null, "a".into(), "why".into(), false);
        prior.set_attr("id", "uuid");
        prior.set_attr("vmid", 100);
        prior.set_attr("node", "n1");
        prior.set_attr("boot_order", Value::list(["scsi0"]));
        let disk = prior.attr("disks").attr("scsi0").clone().with_attr("volume", "ceph:vm-100-disk-0");
        prior.set_attr("disks", Value::map([("scsi0", disk)]));
        let nic = prior.attr("network_devices").attr("net0").clone();
        let nic = nic.with_attr("bridge", "vmbr0").with_attr("vlan", 120).with_attr("mac", "BC:24:11:00:00:01");
        prior.set_attr("network_devices", Value::map([("net0", nic)]));
        prior
    }

    #[test]
    fn a_create_knows_all_but_what_proxmox_ve_chooses() {
        let plan = planned(&config(), &Value::Null, "a".into(), "why".into(), false);
        let mut unknown = Vec::new();
        plan.walk(&mut |path, value| {
            if value.is_unknown() {
                unknown.push(path.to_string());
            }
        });
        assert_eq!(
            unknown,
            [
                "boot_order",
                r#"disks["scsi0"].volume"#,
                "id",
                r#"network_devices["net0"].bridge"#,
                r#"network_devices["net0"].mac"#,
                r#"network_devices["net0"].vlan"#,
                "node",
                "vmid"
            ]
        );
        assert_eq!(plan.attr("cpu").attr("cores"), &1.into());
        assert_eq!(plan.attr("started"), &true.into());
        assert_eq!(plan.attr("disks").attr("scsi0").attr("backup"), &true.into());
    }

    #[test]
    fn nothing_changes_when_nothing_changed() {
        let plan = planned(&config(), &prior(), "a".into(), "why".into(), false);
        assert_eq!(plan, prior());
    }

    #[test]
    fn a_move_keeps_identity_and_federation_names_and_leaves_the_rest_to_the_target() {
        let plan = planned(&config(), &prior(), "b".into(), "why".into(), true);
        assert_eq!((plan.attr("id"), plan.attr("vmid")), (&"uuid".into(), &100.into()));
        let disk = plan.attr("disks").attr("scsi0");
        assert_eq!(disk.attr("storage"), &"fast".into());
        assert!(disk.attr("volume").is_unknown());
        let nic = plan.attr("network_devices").attr("net0");
        assert_eq!((nic.attr("network"), nic.attr("mac")), (&"app".into(), &"BC:24:11:00:00:01".into()));
        assert!(nic.attr("bridge").is_unknown() && nic.attr("vlan").is_unknown() && plan.attr("node").is_unknown());
    }

    #[test]
    fn a_password_is_in_no_plan_and_a_clone_brings_what_is_not_configured() {
        let secret = Value::object([("user", Value::from("ops")), ("password_wo", "hunter2".into())]);
        let clone = Value::object([("template", Value::from("debian-12")), ("storage", Value::Null)]);
        let config = config().with_attr("cloud_init", secret).with_attr("clone", clone.clone());
        let plan = planned(&config, &Value::Null, "a".into(), "why".into(), false);
        assert!(plan.attr("cloud_init").attr("password_wo").is_null());
        assert_eq!((plan.attr("cloud_init").attr("user"), plan.attr("clone")), (&"ops".into(), &clone));
        assert!(plan.attr("bios").is_unknown() && plan.attr("machine").is_unknown());
        let later = planned(&config, &prior(), "a".into(), "why".into(), false);
        assert_eq!((later.attr("clone"), later.attr("bios")), (&clone, &"seabios".into()));
    }

    #[test]
    fn another_storage_makes_another_volume() {
        let disk = Value::object([("size", "20GB"), ("storage", "slow")]);
        let config = config().with_attr("disks", Value::map([("scsi0", disk)]));
        let plan = planned(&config, &prior(), "a".into(), "why".into(), false);
        assert!(plan.attr("disks").attr("scsi0").attr("volume").is_unknown());
    }

    #[test]
    fn unfinished_business_is_a_difference() {
        let open = prior().with_attr("operation", "move to b: not finished");
        let plan = planned(&config(), &open, "a".into(), "why".into(), false);
        assert!(plan.attr("operation").is_null());
        assert_ne!(plan, open);
    }

    #[test]
    fn slots_that_are_not_configured_are_not_planned() {
        let more = Value::map([("scsi0", prior().attr("disks").attr("scsi0").clone()), ("scsi1", Value::Null)]);
        let plan = planned(&config(), &prior().with_attr("disks", more), "a".into(), "why".into(), false);
        assert_eq!(plan.attr("disks").as_map().map(|map| map.len()), Some(1));
        let bare = Value::object([("name", "web-1")]);
        let plan = planned(&bare, &prior(), "a".into(), "why".into(), false);
        assert_eq!(plan.attr("disks"), prior().attr("disks"), "a map that is not configured stays as it was");
    }
}
